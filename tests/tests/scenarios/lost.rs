//! Answers that do not come: what is certain, and what may be done about it, by what the provider does with a repeat.

use std::time::Duration;

use steadfast_core::SendSafety;
use steadfast_core::retry::RetryAfter;

use crate::provider::{Reply, accepted, answer, asking, error, hang, lost, pending, ready, reset, wire};
use crate::scenario::{Scenario, Try, keyed, looked_up, scenario, unkeyed};

pub(crate) fn all() -> Vec<Scenario> {
    [creates(), lookups(), unreachable(), polls()].concat()
}

/// How long an answer is waited for where none comes.
const SHORT: Duration = Duration::from_millis(700);

pub(crate) fn impatient(policy: Try) -> Try {
    Try { timeout: SHORT, ..policy }
}

const AGAIN: &str = "create > transient/perhaps > 4ms > create > accepted > 2ms > poll > completed: ready";

fn creates() -> Vec<Scenario> {
    vec![
        keyed("a lost answer is asked for again under the same key", "I6, R10; RFC 9110 §9.2.2")
            .creates([lost(), accepted()])
            .polls([ready()])
            .tells(AGAIN),
        unkeyed("a lost answer is not asked for again where a repeat would run again", "I7, R17")
            .creates([lost()])
            .tells("create > transient/perhaps > unresolved: ambiguous"),
        scenario("a lost answer to what may be repeated by nature", "Textract's ClientRequestToken; RFC 9110 §9.2.2", SendSafety::Idempotent)
            .creates([lost(), accepted()])
            .polls([ready()])
            .tells(AGAIN),
        keyed("a connection that is reset before anything ran", "I6")
            .creates([reset(), accepted()])
            .polls([ready()])
            .tells(AGAIN),
        unkeyed("a connection that is reset, where nobody can tell whether it ran", "I7, R15")
            .creates([reset()])
            .tells("create > transient/perhaps > unresolved: ambiguous")
            .runs(0),
        keyed("a connection that is closed without a word", "RFC 9113 §8.7: a clean close is ambiguous")
            .creates([wire(""), accepted()])
            .polls([ready()])
            .tells(AGAIN),
        unkeyed("a connection that is closed without a word, where a repeat would run again", "RFC 9113 §8.7")
            .creates([wire("")])
            .tells("create > transient/perhaps > unresolved: ambiguous"),
        keyed("an answer that does not come in time", "R18; I2")
            .creates([hang(), accepted()])
            .polls([ready()])
            .trying(impatient)
            .timed()
            .tells("create > timed out/perhaps > 4ms > create > accepted > 2ms > poll > completed: ready"),
        unkeyed("an answer that does not come in time, where a repeat would run again", "I7, R17")
            .creates([hang()])
            .trying(impatient)
            .timed()
            .tells("create > timed out/perhaps > unresolved: ambiguous"),
        keyed("every answer is lost", "I2, R2")
            .creates([lost()])
            .tells(
                "create > transient/perhaps > 4ms > create > transient/perhaps > 8ms > create > transient/perhaps > \
                 unresolved: attempts",
            ),
        keyed("what may have run is not rejected by a later refusal", "R15; I7")
            .creates([lost(), error(400)])
            .tells("create > transient/perhaps > 4ms > create > permanent/no > unresolved: refused"),
        keyed("a provider that says the key is taken by another payload", "R12; draft-ietf-httpapi-idempotency-key §2.7")
            .creates([lost(), error(422)])
            .tells("create > transient/perhaps > 4ms > create > permanent/no > unresolved: refused"),
        keyed("an earlier create of the key is still running", "draft-ietf-httpapi-idempotency-key §2.7, 409")
            .creates([lost(), asking(409, "1"), accepted()])
            .polls([ready()])
            .tells(
                "create > transient/perhaps > 4ms > create > transient/perhaps asks 1s > 30ms asked, cut > create > accepted > \
                 2ms > poll > completed: ready",
            ),
        keyed("the provider may have forgotten the key by now", "R16; C20")
            .creates([lost()])
            .trying(|policy| Try { timeout: Duration::from_secs(5), ..policy })
            // A resend would be allowed for a millisecond after the first send, and waits four.
            .safe_by(SendSafety::Keyed { window: Duration::from_millis(5_001) })
            .tells("create > transient/perhaps > unresolved: key window"),
        keyed("what may have run is in doubt once the deadline is too near", "R3, R15")
            .creates([lost(), asking(503, "3600")])
            .trying(|policy| Try { hints: RetryAfter::default(), ..policy })
            .tells("create > transient/perhaps > 4ms > create > transient/perhaps asks 3600s > unresolved: deadline"),
    ]
}

/// A create in doubt is looked up: adopted, created again once it is proven absent, or called unresolved.
fn lookups() -> Vec<Scenario> {
    let in_doubt = "create > transient/perhaps > 6ms settle > look-up";
    let found = || answer(200, r#"{"code":200,"transaction_id":"txn-1"}"#);
    let absent = || error(404);
    vec![
        looked_up("a look-up finds the job", "I7; Didit api-errors: list before creating again")
            .creates([lost()])
            .lookups([found()])
            .polls([ready()])
            .tells(format!("{in_doubt} > accepted > 2ms > poll > completed: ready")),
        looked_up("a look-up proves that nothing ran", "R15: proven absence")
            .creates([reset(), accepted()])
            .lookups([absent()])
            .polls([ready()])
            .tells(format!("{in_doubt} > proven absent > 4ms > create > accepted > 2ms > poll > completed: ready")),
        looked_up("a look-up fails, then finds", "a look-up only reads: it may be repeated")
            .creates([lost()])
            .lookups([error(500), lost(), found()])
            .polls([ready()])
            .tells(format!(
                "{in_doubt} > transient/no > 5ms > look-up > transient/perhaps > 5ms > look-up > accepted > 2ms > poll > \
                 completed: ready"
            )),
        looked_up("no look-up is answered", "R15: never called safe to create again")
            .creates([lost()])
            .lookups([error(500)])
            .tells(format!(
                "{in_doubt} > transient/no > 5ms > look-up > transient/no > 5ms > look-up > transient/no > unresolved: lookup"
            )),
        looked_up("the look-up is refused", "R6, R15")
            .creates([lost()])
            .lookups([error(403)])
            .tells(format!("{in_doubt} > permanent/no > unresolved: lookup")),
        looked_up("what is proven absent, and was refused, is rejected", "R6")
            .creates([error(501)])
            .lookups([absent()])
            .tells("create > permanent/perhaps > 6ms settle > look-up > proven absent > rejected: refused")
            .runs(0),
        looked_up("proven absent each time, until the attempts are used up", "I2, R2")
            .creates([reset()])
            .lookups([absent()])
            .tells(format!(
                "{in_doubt} > proven absent > 4ms > {in_doubt} > proven absent > 8ms > {in_doubt} > proven absent > \
                 rejected: attempts"
            ))
            .runs(0),
        looked_up("an error that proves that nothing ran needs no look-up", "R15; RFC 6585 §4")
            .creates([error(429), accepted()])
            .polls([ready()])
            .tells("create > throttled/no > 4ms > create > accepted > 2ms > poll > completed: ready"),
        looked_up("a look-up is answered with 202", "a look-up that does not tell is one that failed")
            .creates([lost()])
            .lookups([answer(202, ""), found()])
            .polls([ready()])
            .tells(format!("{in_doubt} > transient/no > 5ms > look-up > accepted > 2ms > poll > completed: ready")),
    ]
}

/// Without a connection nothing ran, whatever the provider does with keys.
fn unreachable() -> Vec<Scenario> {
    let refused =
        "create > transient/no > 4ms > create > transient/no > 8ms > create > transient/no > rejected: attempts";
    let source = "urllib3's connect errors, gRPC A6's transparent retries; R15";
    vec![
        keyed("nobody listens, where keys are honoured", source).unheard().tells(refused).runs(0),
        unkeyed("nobody listens, where they are not", source).unheard().tells(refused).runs(0),
        looked_up("nobody listens, where it could be looked up", source).unheard().tells(refused).runs(0),
        unkeyed("nobody listens, and one attempt is allowed", source)
            .unheard()
            .trying(|policy| Try { attempts: 1, ..policy })
            .tells("create > transient/no > rejected: attempts")
            .runs(0),
    ]
}

fn polls() -> Vec<Scenario> {
    let broken: [(&str, Reply); 2] = [("lost", lost()), ("closed without a word", wire(""))];
    let mut scenarios = Vec::new();
    for (what, reply) in broken {
        scenarios.push(
            unkeyed(format!("the answer to a poll is {what}"), "R30; google-cloud-go poller errors")
                .creates([accepted()])
                .polls([pending(), reply, ready()])
                .tells(
                    "create > accepted > 2ms > poll > pending > 4ms > poll > transient/perhaps > 3ms > poll > completed: ready",
                ),
        );
    }
    scenarios.push(
        unkeyed("a poll that is not answered in time", "R29, R30")
            .creates([accepted()])
            .polls([hang(), ready()])
            .polls_trying(impatient)
            .timed()
            .tells("create > accepted > 2ms > poll > timed out/perhaps > 3ms > poll > completed: ready"),
    );
    scenarios
}
