//! Calls every step that carries the link-time proof, so that the linker has to look at it.
//!
//! With the `no-panic` feature, in release with link-time optimisation, this file does not link if one of them can panic
//! (`.ci/run no-panic`). As an ordinary test it is one short life of an operation.

use steadfast_core::operation::{Effect, Event, Reading};
use steadfast_core::{Fingerprint, Gate, Key, Kind, Operation, OperationPolicy, Reference, Seed, Timestamp};

#[test]
fn one_life_of_an_operation_links_without_panics() {
    let (policy, mut gate) = (OperationPolicy::default(), Gate::unlimited());
    let mut now = Timestamp::from_secs(1_700_000_000);
    let key = Key::new("order-42").unwrap();
    let mut job = Operation::new(key, Fingerprint::new([0; 16]), Seed::new(7), &mut policy.turn(now, &mut gate));
    let mut polls = 0;
    while job.outcome().is_none() {
        while let Some(effect) = job.pop_effect() {
            let event = match effect {
                Effect::Persist(number) => Event::Persisted(number),
                Effect::Send(attempt) if attempt.kind == Kind::Create => {
                    Event::Answered(attempt.id, Ok(Reading::Accepted(Reference::new("txn-1").unwrap())))
                }
                Effect::Send(attempt) => {
                    polls += 1;
                    Event::Answered(
                        attempt.id,
                        Ok(if polls < 3 { Reading::Pending { hint: None } } else { Reading::Ready }),
                    )
                }
                _ => Event::Delivered,
            };
            job.handle(event, &mut policy.turn(now, &mut gate));
        }
        let Some(wake) = job.next_wake() else { continue };
        now = wake.at;
        job.handle_timeout(&mut policy.turn(now, &mut gate));
    }
    assert_eq!(job.outcome().unwrap().name(), "completed");
    assert_eq!(polls, 3);
}
