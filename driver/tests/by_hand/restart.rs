//! What a restart makes of jobs that were under way.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast_core::engine::{self, Limits};
use steadfast_core::operation::{Outcome, Stage, Unresolved};
use steadfast_core::{Kind, SendSafety};
use steadfast_driver::{Builder, Delivery, Driver, SubmitError};
use steadfast_providers::Provider;

use super::support::{self, KEYED, Plain, START, Slow, created, deliver, driver, run, run_until_sent, started, turn};

/// All of its attempts may be used up: that the provider has it comes before that.
#[test]
fn a_job_that_waits_for_its_payload_goes_on_without_it_once_the_provider_tells_of_it() {
    let store = Slow::default();
    let mut first = started(KEYED, &store);
    let (_following, _create) = created(&mut first, "order-1", START);
    drop(first);

    let provider = Plain(KEYED);
    let create = provider.policy().create().clone().with_attempts(1).unwrap();
    let policy = provider.policy().with_create(create).unwrap();
    let mut second = driver(Builder::<_, _, ()>::new(provider, ()).policy(policy).store(store.clone()));
    assert_eq!(run(&mut second, START).len(), 0);
    let told = deliver(&mut second, r#"{"key":"order-1","reference":"txn-1","status":"pending"}"#, START);
    run(&mut second, START);
    assert_eq!(told.try_recv(), Ok(Delivery::Taken));
    assert_eq!(store.stage("order-1"), Stage::Accepted);
    let (poll, _) = run_until_sent(&mut second, START);
    assert_eq!(poll.outgoing.attempt.kind, Kind::Poll);
}

/// A new host's may be, or one that starts before it has the time from the network.
#[test]
fn a_clock_that_is_behind_the_journal_is_warned_of() {
    let store = Slow::default();
    let mut first = started(KEYED, &store);
    let (_following, _create) = created(&mut first, "order-1", START);
    drop(first);
    for (behind, said) in [(30, ""), (600, "behind=10 min")] {
        let now = START.saturating_sub(Duration::from_secs(behind));
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().without_time().with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::with_default(subscriber.finish(), || {
            let builder: Builder<_, _, ()> = Builder::new(Plain(KEYED), ()).store(store.clone());
            let (provider, (), settings) = builder.into_parts();
            let loaded = settings.load(provider.name()).unwrap();
            Driver::<()>::new(Arc::new(provider), loaded, now)
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let warned = log.lines().find(|line| line.contains("the clock is behind the journal"));
        assert_eq!(warned.is_some(), !said.is_empty(), "{log}");
        assert!(warned.is_none_or(|warned| warned.contains(said)), "{log}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What the copy calls planned may have been sent by whoever came after it.
#[test]
fn a_create_that_an_older_copy_calls_planned_is_not_sent() {
    for from_backup in [false, true] {
        let store = Slow::default();
        let mut first = started(SendSafety::Unsafe, &store);
        let taken = support::submit(&mut first, "order-1", START);
        // Its key is looked up, and it is written as one that is about to be sent.
        let (_, looked_up) = turn(&mut first, START);
        first.worked(looked_up.unwrap().run_one(), START);
        let (_, intent) = turn(&mut first, START);
        let unfinished = support::shut_down(&mut first, Duration::ZERO, START);
        first.worked(intent.unwrap().run_one(), START);
        run(&mut first, START);
        assert!(unfinished.try_recv().is_ok() && taken.try_recv().is_ok());
        assert_eq!(store.stage("order-1"), Stage::Planned);
        drop(first);

        let mut builder = Builder::<_, _, ()>::new(Plain(SendSafety::Unsafe), ()).store(store.clone());
        if from_backup {
            builder = builder.from_backup();
        }
        let mut second = driver(builder);
        if !from_backup {
            let _taken = support::submit(&mut second, "order-1", START);
            let (create, _) = run_until_sent(&mut second, START);
            assert_eq!(create.outgoing.attempt.kind, Kind::Create);
            continue;
        }
        assert_eq!(store.stage("order-1"), Stage::Unknown, "also if it crashes now");
        let taken = support::submit(&mut second, "order-1", START);
        assert_eq!(run(&mut second, START).len(), 0);
        let finished = taken.try_recv().unwrap().unwrap().finished.try_recv().unwrap().read();
        assert_eq!(finished.outcome, Outcome::Unresolved(Unresolved::Ambiguous));
    }
}

/// A parked job needs no room to come back; it must not take the room of one that was let in before it.
#[test]
fn who_was_let_in_is_not_refused_because_a_parked_job_came_back_meanwhile() {
    let store = Slow::default();
    let start = || {
        let limits = Limits { live: 1, ..Limits::default() };
        started_as(Builder::<_, _, ()>::new(Plain(KEYED), ()).store(store.clone()).limits(limits))
    };
    let mut first = start();
    let _taken = support::submit(&mut first, "parked", START);
    assert_eq!(run(&mut first, START).len(), 1);
    drop(first);
    let mut second = start();
    assert!(second.has_room());
    let new = support::submit(&mut second, "new", START);
    let (_, work) = turn(&mut second, START);
    assert!(!second.has_room());
    // Its payload comes while the store is asked about the other.
    let parked = support::submit(&mut second, "parked", START);
    second.worked(work.unwrap().run_one(), START);
    run(&mut second, START);
    assert!(parked.try_recv().unwrap().is_ok() && new.try_recv().unwrap().is_ok());
    // An adapter that does not ask whether there is room.
    let refused = support::submit(&mut second, "beyond", START).try_recv().unwrap().unwrap_err();
    assert!(matches!(refused, SubmitError::Refused(engine::SubmitError::Full { live: 1 })), "{refused:?}");
}

fn started_as(builder: Builder<Plain, (), ()>) -> Driver<()> {
    let mut driver = driver(builder);
    assert_eq!(run(&mut driver, START).len(), 0);
    driver
}
