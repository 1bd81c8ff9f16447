//! What holds requests back when the provider is in trouble.

use std::time::Duration;

use steadfast_core::Kind;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, Probes};
use steadfast_core::budget::{BudgetPolicy, Tokens};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit, WhenOpen};
use steadfast_core::rate_limit::RatePolicy;

use crate::provider::{accepted, answer, error, lost, pending, ready};
use crate::scenario::{Scenario, Step, Try, keyed, looked_up, unkeyed};

pub(crate) fn all() -> Vec<Scenario> {
    [breakers(), budgets(), rates()].concat().into_iter().map(Scenario::timed).collect()
}

const DOWN: &str = r#"{"detail":"Source Unavailable"}"#;

/// Opens after so many failures in a row, for 200 ms.
fn breaking(failures: u32) -> impl Fn(GatePolicy) -> GatePolicy {
    let open = BackoffPolicy::new(Growth::Fixed(Duration::from_millis(200)), Duration::from_millis(200), Jitter::None)
        .unwrap();
    let breaker = BreakerPolicy::consecutive(failures).unwrap().with_open(open).unwrap();
    let probes = Probes { successes: 1, failures: 1, lease: Duration::from_secs(120), ..breaker.probes() };
    let breaker = breaker.with_probes(probes).unwrap();
    move |gate| gate.with_breaker(Some(breaker.clone()))
}

fn breakers() -> Vec<Scenario> {
    let down = || answer(503, DOWN);
    vec![
        unkeyed("the breaker opens, a probe finds the provider back", "I9, R20, R21; Polly#1979, resilience4j#544")
            .creates([down(), down(), accepted()])
            .polls([ready()])
            .gate(breaking(2))
            .tells(
                "create > transient/no > 4ms > create > transient/no > breaker: open > 8ms > blocked: open > breaker: half_open > \
                 create > breaker: closed > accepted > 2ms > poll > completed: ready",
            ),
        unkeyed("a probe fails, and the breaker is open again", "I9, R20, R22")
            .creates([down(), down(), down(), accepted()])
            .polls([ready()])
            .gate(breaking(2))
            .trying(|policy| Try { attempts: 5, ..policy })
            .tells(
                "create > transient/no > 4ms > create > transient/no > breaker: open > 8ms > blocked: open > breaker: half_open > \
                 create > transient/no > breaker: open > 16ms > blocked: open > breaker: half_open > create > breaker: closed > \
                 accepted > 2ms > poll > completed: ready",
            ),
        unkeyed("an open breaker uses up no attempt", "gate: it waits before the attempt is counted")
            .creates([down(), accepted()])
            .polls([ready()])
            .gate(breaking(1))
            .trying(|policy| Try { attempts: 2, ..policy })
            .tells(
                "create > transient/no > breaker: open > 4ms > blocked: open > breaker: half_open > create > breaker: closed > \
                 accepted > 2ms > poll > completed: ready",
            ),
        unkeyed("where nothing ran, an open breaker refuses if it is told to", "gate: WhenOpen::Refuse")
            .creates([down()])
            .gate(|gate| breaking(1)(gate).with_when_open(WhenOpen::Refuse))
            .tells("create > transient/no > breaker: open > 4ms > blocked: open > rejected: unavailable")
            .runs(0),
        keyed("what may have run is not refused by an open breaker", "R15")
            .creates([lost(), accepted()])
            .polls([ready()])
            .gate(|gate| breaking(1)(gate).with_when_open(WhenOpen::Refuse))
            .tells(
                "create > transient/perhaps > breaker: open > 4ms > blocked: open > breaker: half_open > create > breaker: closed > \
                 accepted > 2ms > poll > completed: ready",
            ),
        unkeyed("polls wait at an open breaker, and go on", "I9, R30")
            .creates([accepted()])
            .polls([error(503), ready()])
            .gate(breaking(1))
            .tells(
                "create > accepted > 2ms > poll > transient/no > breaker: open > 3ms > blocked: open > breaker: half_open > poll > \
                 breaker: closed > completed: ready",
            ),
        unkeyed("a throttled provider is not ill", "R20; RFC 6585 §4: it refuses, and is well")
            .creates([error(429), error(429), accepted()])
            .polls([ready()])
            .gate(breaking(1))
            .tells(
                "create > throttled/no > 4ms > create > throttled/no > 8ms > create > accepted > 2ms > poll > completed: ready",
            ),
        unkeyed("a refusal is no illness", "R20; RFC 9110 §15.5: the client's fault")
            .creates([error(422)])
            .gate(breaking(1))
            .tells("create > permanent/no > rejected: refused")
            .runs(0),
        looked_up("a look-up waits at an open breaker", "I9")
            .creates([lost()])
            .lookups([answer(200, r#"{"transaction_id":"txn-1"}"#)])
            .polls([ready()])
            .gate(breaking(1))
            .tells(
                "create > transient/perhaps > breaker: open > 6ms settle > blocked: open > breaker: half_open > look-up > breaker: closed > \
                 accepted > 2ms > poll > completed: ready",
            ),
    ]
}

/// So many retries, and no more.
fn budget(tokens: u32) -> impl Fn(GatePolicy) -> GatePolicy {
    // A token a second.
    let budget = BudgetPolicy::ratio(1, 1).unwrap().with_per_request(Tokens::ZERO).with_per_second(Tokens::whole(1));
    let budget = budget.with_capacity(10, tokens).unwrap();
    move |gate| gate.with_budget(Some(budget.clone()))
}

fn budgets() -> Vec<Scenario> {
    vec![
        keyed("an empty budget makes a retry pause once more", "R7; AWS 2.1: an empty bucket still waits")
            .creates([error(503), accepted()])
            .polls([ready()])
            .gate(budget(0))
            .trying(|policy| Try { attempts: 2, ..policy })
            .tells(
                "create > transient/perhaps > 4ms > blocked: budget > budget > create > accepted > 2ms > poll > completed: ready",
            ),
        keyed("a retry that the budget pays for", "R7")
            .creates([error(503), accepted()])
            .polls([ready()])
            .gate(budget(1))
            .tells("create > transient/perhaps > 4ms > create > accepted > 2ms > poll > completed: ready"),
        unkeyed("polls that say pending cost no budget", "smithy-rs waiters: polls that wait must not drain the budget")
            .creates([accepted()])
            .polls([pending(), pending(), ready()])
            .gate(budget(0))
            .tells("create > accepted > 2ms > poll > pending > 4ms > poll > pending > 8ms > poll > completed: ready"),
        unkeyed("a poll that failed goes on without a budget", "R30; gate: the budget never ends a job")
            .creates([accepted()])
            .polls([error(500), ready()])
            .gate(budget(0))
            .tells(
                "create > accepted > 2ms > poll > transient/no > 3ms > blocked: budget > budget > poll > completed: ready",
            ),
    ]
}

fn rates() -> Vec<Scenario> {
    // One in 600 ms: more than a busy machine takes for a create.
    let slow = |kinds| RateLimit { kinds, rate: RatePolicy::new(1, Duration::from_millis(600)).unwrap() };
    let bulkhead = || Some(BulkheadPolicy::fixed(1).unwrap());
    vec![
        unkeyed("a rate limit is kept", "I10, R25; docs.deepvue.ai/rate-limits")
            .creates([accepted()])
            .polls([ready()])
            .gate(|gate| gate.with_rate_limit(slow(Kinds::ALL)))
            .tells("create > accepted > 2ms > blocked: rate > poll > completed: ready"),
        unkeyed("a rate limit of creates is not for polls", "docs.didit.me rate-limiting: scopes")
            .creates([accepted()])
            .polls([pending(), ready()])
            .gate(|gate| gate.with_rate_limit(slow(Kinds::of(&[Kind::Create]))))
            .tells("create > accepted > 2ms > poll > pending > 4ms > poll > completed: ready"),
        unkeyed("a retry waits for the rate limit as well", "I10")
            .creates([error(429), accepted()])
            .polls([ready()])
            .gate(|gate| gate.with_rate_limit(slow(Kinds::of(&[Kind::Create]))))
            .tells("create > throttled/no > 4ms > blocked: rate > create > accepted > 2ms > poll > completed: ready"),
        unkeyed("a bulkhead of one gives its place back", "I8")
            .creates([error(429), accepted()])
            .polls([pending(), lost(), ready()])
            .gate(|gate| gate.with_bulkhead(bulkhead()))
            .tells(
                "create > throttled/no > 4ms > create > accepted > 2ms > poll > pending > 4ms > poll > transient/perhaps > 3ms > \
                 poll > completed: ready",
            ),
        unkeyed("a hold lets nothing leave until it is over", "gate: an operator's stop")
            .creates([accepted()])
            .polls([ready()])
            .caller([Step::Hold, Step::Submit, Step::Unhold, Step::Ends("completed: ready")])
            .tells("blocked: held > create > accepted > 2ms > poll > completed: ready"),
    ]
}
