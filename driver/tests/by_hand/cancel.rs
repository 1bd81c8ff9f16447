//! Handles of a job that a look-up took out of the engine: it waits for its payload, and then goes on under another id.

use std::time::Duration;

use steadfast_core::operation::{Outcome, Rejected, Stage, Unresolved};
use steadfast_core::{SendSafety, Timestamp};
use steadfast_driver::{Command, Driver, Following};

use super::support::{START, Slow, answer, on, resume, run, run_until_sent, started, submit};

const LOOKUP: SendSafety = SendSafety::Lookup { settle: Duration::ZERO };

/// A restart looked its create up, and the provider has none. Whoever resumed it meanwhile has a handle.
fn waits_for_its_payload(store: &Slow) -> (Driver<()>, Following, Timestamp) {
    let mut first = started(LOOKUP, store);
    let _taken = submit(&mut first, "order-1", START);
    assert_eq!(run(&mut first, START).len(), 1);
    drop(first);
    let mut second = on(LOOKUP, store);
    let (lookup, now) = run_until_sent(&mut second, START);
    let resumed = resume(&mut second, "order-1", now);
    answer(&mut second, lookup, 404, "", now);
    assert_eq!(run(&mut second, now).len(), 0);
    assert_eq!(store.stage("order-1"), Stage::Planned);
    (second, resumed.try_recv().unwrap().unwrap(), now)
}

#[test]
fn a_job_that_waits_for_its_payload_is_cancelled_by_the_handle_from_before() {
    let store = Slow::default();
    let (mut driver, following, now) = waits_for_its_payload(&store);
    driver.command(Command::Cancel(following.id.unwrap()), now);
    assert_eq!(run(&mut driver, now).len(), 0);
    let cancelled = Outcome::Rejected(Rejected::Cancelled);
    assert_eq!(following.finished.try_recv().unwrap().read().outcome, cancelled, "nothing ran");
    assert_eq!(store.stage("order-1"), Stage::Delivered(cancelled));
    // Its key is free.
    let _taken = submit(&mut driver, "order-1", now);
    assert_eq!(run(&mut driver, now).len(), 1);
}

#[test]
fn a_job_that_has_its_payload_again_is_cancelled_by_the_handle_from_before() {
    let (mut driver, following, now) = waits_for_its_payload(&Slow::default());
    let _taken = submit(&mut driver, "order-1", now);
    let (create, now) = run_until_sent(&mut driver, now);
    assert_ne!(following.id, Some(create.id()));
    assert!(driver.request(following.id.unwrap()).is_some(), "what is in the air is found by it");
    driver.command(Command::Cancel(following.id.unwrap()), now);
    assert_eq!(run(&mut driver, now).len(), 0);
    assert_eq!(following.finished.try_recv().unwrap().read().outcome, Outcome::Unresolved(Unresolved::Cancelled));
}

#[test]
fn whoever_waits_for_the_acceptance_by_the_handle_from_before_is_told() {
    for asks_first in [true, false] {
        let (mut driver, following, now) = waits_for_its_payload(&Slow::default());
        let (reply, accepted) = oneshot::channel();
        let ask = Command::Accepted { id: following.id.unwrap(), reply };
        let mut ask = Some(ask);
        if asks_first {
            driver.command(ask.take().unwrap(), now);
        }
        let _taken = submit(&mut driver, "order-1", now);
        let (create, now) = run_until_sent(&mut driver, now);
        if let Some(ask) = ask {
            driver.command(ask, now);
        }
        answer(&mut driver, create, 201, "", now);
        run(&mut driver, now);
        assert_eq!(accepted.try_recv().unwrap().reference.as_str(), "txn-1");
        assert_eq!(following.acceptance.get().unwrap().reference.as_str(), "txn-1");
    }
}
