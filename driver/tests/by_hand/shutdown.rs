//! What a shutdown leaves in the store of creates that had left, and of those that had not; and what it tells, and
//! when.

use std::time::Duration;

use oneshot::TryRecvError;
use steadfast_core::SendSafety;
use steadfast_core::operation::{Completed, Outcome, Rejected, Stage};
use steadfast_driver::{Builder, Driver, SubmitError, Unfinished, Work};
use steadfast_providers::Provider;

use super::support::{self, Plain, START, Slow, Taken, answer, polled, started};

/// Of a provider that runs again what it is sent again, with so many attempts for each create.
fn driver(store: &Slow, attempts: u16) -> Driver<()> {
    let provider = Plain(SendSafety::Unsafe);
    let policy = provider.policy();
    let create = policy.create().clone().with_attempts(attempts).unwrap();
    let policy = policy.with_create(create).unwrap();
    support::driver(Builder::<_, _, ()>::new(provider, ()).policy(policy).store(store.clone()).keep_payloads())
}

/// What is sent, and what the store is still to do, which is left to the caller.
fn turn(driver: &mut Driver<()>) -> (Vec<String>, Option<Work>) {
    let (sent, work) = support::turn(driver, START);
    (sent.into_iter().map(|sending| sending.outgoing.key.as_str().to_owned()).collect(), work)
}

/// The same, with the store's work done as long as there is some.
fn run(driver: &mut Driver<()>) -> Vec<String> {
    support::run(driver, START).into_iter().map(|sending| sending.outgoing.key.as_str().to_owned()).collect()
}

fn submit(driver: &mut Driver<()>, key: &str) -> Taken {
    support::submit(driver, key, START)
}

fn shut_down(driver: &mut Driver<()>) -> oneshot::Receiver<Vec<Unfinished>> {
    support::shut_down(driver, Duration::ZERO, START)
}

#[test]
fn a_create_whose_intent_was_being_written_has_not_left_and_does_so_from_the_next_client() {
    let store = Slow::default();
    let mut first = driver(&store, 3);
    run(&mut first);
    let _sent = submit(&mut first, "sent");
    assert_eq!(run(&mut first), ["sent"]);
    let taken = submit(&mut first, "written");
    // The key is looked up; then the intent is on its way to the disk.
    let (_, looked_up) = turn(&mut first);
    first.worked(looked_up.unwrap().run_one(), START);
    let (_, written) = turn(&mut first);
    let unfinished = shut_down(&mut first);
    assert!(turn(&mut first).1.is_none(), "what is being written is waited for");
    assert_eq!(unfinished.try_recv(), Err(TryRecvError::Empty), "what is unfinished is not certain yet");
    first.worked(written.expect("the intent").run_one(), START);
    assert_eq!(run(&mut first), [""; 0]);
    assert!(first.is_over());

    assert!(taken.try_recv().expect("it was told").is_ok(), "it is durable");
    let stages: Vec<_> = unfinished.try_recv().expect("it was told").into_iter().map(|job| job.stage).collect();
    assert_eq!(stages, [Stage::InFlight, Stage::Planned]);
    assert_eq!((store.stage("sent"), store.stage("written")), (Stage::InFlight, Stage::Planned));
    drop(first);

    let mut second = driver(&store, 3);
    let (sent, _) = support::run_until_sent(&mut second, START);
    assert_eq!(sent.outgoing.key.as_str(), "written", "the other ended as unresolved");
}

/// Nothing ran, and the key is free: that is more than "perhaps". The commit may come while the client waits for it, or
/// in the turn in which it stops.
#[test]
fn the_last_attempt_that_had_not_left_ends_as_one_that_did_not_run() {
    for waits in [true, false] {
        let store = Slow::default();
        let mut first = driver(&store, 1);
        run(&mut first);
        let _taken = submit(&mut first, "written");
        let (_, looked_up) = turn(&mut first);
        first.worked(looked_up.unwrap().run_one(), START);
        let (_, written) = turn(&mut first);
        let _unfinished = shut_down(&mut first);
        if waits {
            turn(&mut first);
        }
        first.worked(written.expect("the intent").run_one(), START);
        assert_eq!(run(&mut first), [""; 0]);
        assert!(first.is_over());
        assert_eq!(store.stage("written"), Stage::Ended(Outcome::Rejected(Rejected::Attempts)));
        drop(first);

        let mut second = driver(&store, 1);
        run(&mut second);
        let _taken = submit(&mut second, "written");
        assert_eq!(run(&mut second), ["written"]);
    }
}

/// Who has a driver still, and does not look whether it is over, is not left to wait for ever.
#[test]
fn a_submit_after_the_end_is_told_so_at_once() {
    let mut driver = driver(&Slow::default(), 1);
    run(&mut driver);
    let _first = submit(&mut driver, "first");
    run(&mut driver);
    let unfinished = shut_down(&mut driver);
    run(&mut driver);
    assert!(driver.is_over() && unfinished.try_recv().is_ok());
    for key in ["first", "second"] {
        let told = submit(&mut driver, key).try_recv();
        assert!(matches!(told, Ok(Err(SubmitError::Stopped))), "{told:?}");
    }
}

/// Who holds a handle has the outcome, also of what ends while a shutdown waits for it.
#[test]
fn an_outcome_that_was_told_during_a_shutdown_is_delivered() {
    let store = Slow::default();
    let mut driver = started(SendSafety::Unsafe, &store);
    let (following, poll, now) = polled(&mut driver, "order-1");
    let unfinished = support::shut_down(&mut driver, Duration::from_secs(60), now);
    answer(&mut driver, poll, 200, "the result", now);
    support::run(&mut driver, now);
    assert!(driver.is_over());
    assert_eq!(unfinished.try_recv(), Ok(Vec::new()));
    assert_eq!(following.finished.try_recv().unwrap().read().body(), b"the result");
    assert_eq!(store.stage("order-1"), Stage::Delivered(Outcome::Completed(Completed::Ready)));
}

/// Its end was being written when the time was over: it is on disk, and left to whoever asks the next client.
#[test]
fn what_was_not_told_in_time_is_told_by_the_next_client() {
    let store = Slow::default();
    let mut first = started(SendSafety::Unsafe, &store);
    let (following, poll, now) = polled(&mut first, "order-1");
    answer(&mut first, poll, 200, "the result", now);
    let (_, written) = support::turn(&mut first, now);
    let unfinished = support::shut_down(&mut first, Duration::ZERO, now);
    support::turn(&mut first, now);
    first.worked(written.unwrap().run_one(), now);
    support::turn(&mut first, now);
    assert!(first.is_over());
    let ended = Stage::Ended(Outcome::Completed(Completed::Ready));
    assert_eq!(unfinished.try_recv().unwrap().iter().map(|job| job.stage).collect::<Vec<_>>(), [ended]);
    assert_eq!(store.stage("order-1"), ended);
    drop(first);
    assert!(following.finished.try_recv().is_err());

    let mut second = started(SendSafety::Unsafe, &store);
    let taken = support::submit(&mut second, "order-1", now);
    support::run(&mut second, now);
    assert_eq!(taken.try_recv().unwrap().unwrap().finished.try_recv().unwrap().read().outcome.name(), "completed");
}

/// At the edge there is no *never*: a loop whose time is virtual would go there, and whatever waits would be over.
#[test]
fn a_grace_without_an_end_is_no_deadline() {
    let store = Slow::default();
    let mut driver = driver(&store, 3);
    run(&mut driver);
    let _sent = submit(&mut driver, "sent");
    let unfinished = support::shut_down(&mut driver, Duration::MAX, START);
    // Its key is looked up: time brings nothing on.
    let (_, looked_up) = turn(&mut driver);
    assert_eq!(driver.next_deadline(), None);
    driver.worked(looked_up.unwrap().run_one(), START);
    assert_eq!(run(&mut driver), ["sent"]);
    assert_eq!(unfinished.try_recv(), Err(TryRecvError::Empty), "it has not ended");
}
