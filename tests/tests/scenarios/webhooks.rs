//! What the provider tells by itself, beside what it is asked. An event is genuine or changes nothing (I16), and
//! promises nothing that is not durable (R33).

use std::time::Duration;

use steadfast_core::Kind;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::poll::PollPolicy;

use crate::provider::{READY, accepted, lost, pending, ready};
use crate::scenario::{Keeps, Scenario, Step, keyed, unkeyed};

use Step::{Arrives, Body, Ends, Forged, LetGo, Resume, Start, Stop, Submit, Tells, Webhook};

const DONE: &str = r#"{"reference":"txn-1","status":"ready","name":"A. Person"}"#;
const FAILED: &str = r#"{"reference":"txn-1","status":"failed"}"#;
const PENDING: &str = r#"{"reference":"txn-1","status":"pending"}"#;
const CHANGED: &str = r#"{"reference":"txn-1"}"#;
const BY_KEY: &str = r#"{"key":"order-42","reference":"txn-1","status":"ready"}"#;
const FOREIGN: &str = r#"{"reference":"txn-9","status":"ready"}"#;

/// A job that is pending and would be polled again in an hour.
fn waiting(name: &str, source: &'static str) -> Scenario {
    unkeyed(name, source).creates([accepted()]).polls([pending(), ready()]).polling(|poll| {
        let waits = Growth::Table([Duration::from_millis(2), Duration::from_secs(3_600)].into());
        let waits = BackoffPolicy::new(waits, Duration::from_secs(3_600), Jitter::None).unwrap();
        PollPolicy::new(waits, 5, Duration::from_secs(86_400), poll.retry().clone()).unwrap()
    })
}

const POLLED: &str = "create > accepted > 2ms > poll > pending > 3600s";

pub(crate) fn all() -> Vec<Scenario> {
    let in_the_air = || unkeyed("", "").creates([accepted()]).polls([ready().held()]);
    let named = |name: &str, source, scenario: Scenario| Scenario { name: name.into(), source, ..scenario };
    vec![
        named("a webhook ends the job, and the poll in the air is not waited for", "webhook and poll race: the first counts; R34", in_the_air())
            .caller([Submit, Arrives(Kind::Poll, 1), Webhook("a", DONE, 200), Ends("completed: ready"), Body(DONE)])
            .tells("create > accepted > 2ms > poll > webhook > completed: ready"),
        named("a job that failed, by webhook", "webhook and poll race: the first counts", in_the_air())
            .caller([Submit, Arrives(Kind::Poll, 1), Webhook("a", FAILED, 200), Ends("failed")])
            .tells("create > accepted > 2ms > poll > webhook > failed"),
        named("a webhook that is sent twice counts once", "I16, R33; Standard Webhooks: webhook-id", in_the_air())
            .caller([
                Submit,
                Arrives(Kind::Poll, 1),
                Webhook("a", PENDING, 200),
                Webhook("a", PENDING, 200),
                LetGo,
                Ends("completed: ready"),
            ])
            .tells("create > accepted > 2ms > poll > webhook > absorbed > completed: ready"),
        named("one that is forged changes nothing", "I16; R33", in_the_air())
            .caller([Submit, Arrives(Kind::Poll, 1), Forged("a", DONE, 400), LetGo, Ends("completed: ready"), Body(READY)])
            .tells("create > accepted > 2ms > poll > completed: ready"),
        named("one about another's job changes nothing", "R32: it may be about nobody's job", in_the_air())
            .caller([Submit, Arrives(Kind::Poll, 1), Webhook("a", FOREIGN, 200), LetGo, Ends("completed: ready")])
            .tells("create > accepted > 2ms > poll > completed: ready"),
        named("one that contradicts the end does not change it", "R19, R31", in_the_air())
            .caller([
                Submit,
                Arrives(Kind::Poll, 1),
                Webhook("a", DONE, 200),
                Ends("completed: ready"),
                Webhook("b", FAILED, 200),
                Tells("conflict"),
                Submit,
                Ends("completed: ready"),
            ])
            .tells("create > accepted > 2ms > poll > webhook > completed: ready > webhook > conflict"),
        unkeyed("one that comes before the create's answer ends the job", "R32: webhook before the create response; C11")
            .creates([accepted().held()])
            .caller([Submit, Arrives(Kind::Create, 1), Webhook("a", BY_KEY, 200), Ends("completed: ready")])
            .tells("create > webhook > accepted > 2ms > webhook > completed: ready"),
        keyed("one that names the job of a lost answer saves the resend", "R32; C11")
            .creates([accepted().held()])
            .caller([Submit, Arrives(Kind::Create, 1), Webhook("a", BY_KEY, 200), Ends("completed: ready"), LetGo])
            .tells("create > webhook > accepted > 2ms > webhook > completed: ready"),
        unkeyed("one that names what is already unresolved", "R18, R31")
            .creates([lost()])
            .polls([ready()])
            .caller([Submit, Ends("unresolved: ambiguous"), Webhook("a", BY_KEY, 200), Resume, Ends("completed: ready")])
            .tells(
                "create > transient/perhaps > unresolved: ambiguous > webhook > accepted > webhook > conflict > resumed > poll > \
                 completed: ready",
            ),
        waiting("a mere change makes the next poll due", "Stripe's thin events; Onfido's webhooks")
            .caller([Submit, Tells("3600s"), Webhook("a", CHANGED, 200), Ends("completed: ready")])
            .tells(format!("{POLLED} > webhook > poll > completed: ready")),
        waiting("a webhook after a restart ends what the journal knows", "C11; R33")
            .polls([pending(), ready().held()])
            .keeping(Keeps::Records)
            .caller([
                Submit,
                Tells("3600s"),
                Stop("accepted"),
                Start,
                Arrives(Kind::Poll, 2),
                Webhook("a", DONE, 200),
                Submit,
                Ends("completed: ready"),
            ])
            .tells(format!("{POLLED} > restored > poll > webhook > completed: ready")),
        unkeyed("a client that has stopped has the sender try again", "docs.didit.me/integration/webhooks: after a 5xx it is sent again, after a 4xx never")
            .caller([Stop(""), Webhook("a", DONE, 503)])
            .tells("")
            .runs(0),
    ]
}
