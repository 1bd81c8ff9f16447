//! The client's promises, in virtual time: tokio's clock is paused, so minutes of polling pass in milliseconds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast_core::engine::{self, Limits};
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Rejected, Stage, Unresolved};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::{Key, Kind, OperationPolicy, Outcome, Timestamp};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};
use steadfast_tokio::{Client, SendError, StartError, SubmitError};
use tokio::time::{Instant, timeout};

use crate::support::{Broke, Plain, Scripted, answer, key, keyed};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn two_hundred_jobs_complete_in_virtual_time() {
    let real = std::time::Instant::now();
    let start = Instant::now();
    let transport = Scripted::well_behaved();
    let client = Client::builder(Plain, transport.clone()).start().await.unwrap();
    let mut jobs = Vec::new();
    for n in 0..200 {
        jobs.push(client.submit(key(&format!("order-{n}")), "{}").await.unwrap());
    }
    for job in jobs {
        let finished = job.await.unwrap();
        assert_eq!(finished.outcome.name(), "completed");
        assert_eq!(finished.body(), br#"{"status":"verified"}"#);
    }
    assert_eq!(transport.sent("order-7"), [Kind::Create, Kind::Poll, Kind::Poll, Kind::Poll]);
    // Create, then polls 3, 6 and 12 s apart, 50 ms each: the schedule, not the real clock.
    assert_eq!(start.elapsed().as_secs(), 21);
    assert!(real.elapsed() < 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_handle_does_not_cancel_and_a_second_submit_joins() {
    let transport = Scripted::well_behaved();
    let client = Client::builder(Plain, transport.clone()).start().await.unwrap();
    drop(client.submit(key("order-42"), "{}").await.unwrap());
    tokio::time::sleep(SECOND).await;
    let joined = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
    let afterwards = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
    assert_eq!(joined.outcome.name(), "completed");
    assert_eq!(joined, afterwards, "a submit after the end gets the same outcome and body");
    assert_eq!(transport.sent("order-42").iter().filter(|kind| **kind == Kind::Create).count(), 1);
}

/// A body that tells when nobody holds it any more.
struct Held(Arc<AtomicUsize>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        b"somebody's data"
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn a_result_is_held_no_longer_than_its_key_is_remembered() {
    for limits in
        [Limits { remember: 1, ..Limits::default() }, Limits { remember_for: 60 * SECOND, ..Limits::default() }]
    {
        let held = Arc::new(AtomicUsize::new(0));
        let bodies = held.clone();
        let transport = Scripted::new(move |kind, _, key| {
            let bodies = bodies.clone();
            async move {
                if kind == Kind::Create {
                    return Ok(answer(201, format!("txn-{key}")));
                }
                bodies.fetch_add(1, Ordering::SeqCst);
                Ok(answer(200, bytes::Bytes::from_owner(Held(bodies))))
            }
        });
        let client = Client::builder(Plain, transport).limits(limits).start().await.unwrap();
        for n in 0..3 {
            let finished = client.submit(key(&format!("order-{n}")), "{}").await.unwrap().await.unwrap();
            assert_eq!(finished.body(), b"somebody's data");
        }
        let again = client.submit(key("order-2"), "{}").await.unwrap().await.unwrap();
        assert_eq!(again.body(), b"somebody's data");
        drop(again);
        // With nothing to do.
        tokio::time::sleep(61 * SECOND).await;
        let left = if limits.remember == 1 { 1 } else { 0 };
        assert_eq!(held.load(Ordering::SeqCst), left, "{limits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_key_with_another_payload_is_refused() {
    let client = Client::builder(Plain, Scripted::well_behaved()).start().await.unwrap();
    let first = client.submit(key("order-42"), "{}").await.unwrap();
    let refused = client.submit(key("order-42"), r#"{"other": true}"#).await;
    assert!(matches!(refused, Err(SubmitError::Refused(engine::SubmitError::FingerprintMismatch))), "{refused:?}");
    assert_eq!(first.await.unwrap().outcome.name(), "completed");
}

#[tokio::test(start_paused = true)]
async fn cancelling_is_honest_about_what_may_have_run() {
    // The create's answer never comes.
    let transport = Scripted::new(|_, _, _| std::future::pending());
    let client = Client::builder(Plain, transport.clone()).start().await.unwrap();
    let job = client.submit(key("order-42"), "{}").await.unwrap();
    tokio::time::sleep(SECOND).await;
    job.cancel();
    assert_eq!(job.await.unwrap().outcome, Outcome::Unresolved(Unresolved::Cancelled));

    // Nothing has run: the first attempt was refused a connection, the second waits.
    let transport = Scripted::new(|_, _, _| async { Err(SendError::not_sent()) });
    let client = Client::builder(Plain, transport.clone()).start().await.unwrap();
    let job = client.submit(key("order-42"), "{}").await.unwrap();
    tokio::task::yield_now().await;
    job.cancel();
    assert_eq!(job.await.unwrap().outcome, Outcome::Rejected(Rejected::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_key_is_free_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let transport = Scripted::new(move |kind, _, _| {
        let first = count.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            Ok(if first {
                answer(422, "no")
            } else if kind == Kind::Create {
                answer(201, "t")
            } else {
                answer(200, "ok")
            })
        }
    });
    let client = Client::builder(Plain, transport).start().await.unwrap();
    let refused = client.submit(key("order-42"), "wrong").await.unwrap().await.unwrap();
    assert_eq!(refused.outcome, Outcome::Rejected(Rejected::Refused));
    assert_eq!(refused.body(), b"no", "the provider's reason comes with the outcome");
    let corrected = client.submit(key("order-42"), "right").await.unwrap().await.unwrap();
    assert_eq!(corrected.outcome.name(), "completed");
}

#[tokio::test(start_paused = true)]
async fn intake_is_bounded_and_waits() {
    let limits = Limits { live: 2, ..Limits::default() };
    let client = Client::builder(Plain, Scripted::well_behaved()).limits(limits).start().await.unwrap();
    let start = Instant::now();
    let first = client.submit(key("a"), "{}").await.unwrap();
    let second = client.submit(key("b"), "{}").await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    let third = client.submit(key("c"), "{}").await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 21, "the third waits until one has ended");
    for job in [first, second, third] {
        assert_eq!(job.await.unwrap().outcome.name(), "completed");
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_what_can_end_and_reports_the_rest() {
    // One job ends in 21 s, the other is pending for ever.
    let transport = Scripted::new(|kind, number, key| async move {
        Ok(match (kind, number) {
            (Kind::Create, _) => answer(201, format!("txn-{key}")),
            (_, 3..) if key == "quick" => answer(200, "done"),
            _ => answer(202, ""),
        })
    });
    let client = Client::builder(Plain, transport).start().await.unwrap();
    let quick = client.submit(key("quick"), "{}").await.unwrap();
    let slow = client.submit(key("slow"), "{}").await.unwrap();
    tokio::time::sleep(SECOND).await;
    let other = client.clone();
    let unfinished = client.shutdown(30 * SECOND).await;
    assert_eq!(quick.await.unwrap().outcome.name(), "completed");
    assert!(slow.await.is_err());
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].key, key("slow"));
    assert_eq!(unfinished[0].reference.as_ref().unwrap().as_str(), "txn-slow");
    assert_eq!(unfinished[0].stage, Stage::Accepted);
    assert!(matches!(other.submit(key("late"), "{}").await, Err(SubmitError::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn jobs_go_on_after_the_last_client_is_dropped() {
    let client = Client::builder(Plain, Scripted::well_behaved()).start().await.unwrap();
    let job = client.submit(key("order-42"), "{}").await.unwrap();
    drop(client);
    assert_eq!(job.await.unwrap().outcome.name(), "completed");
}

/// With nothing left to ask for, it holds neither the driver nor its store.
#[tokio::test(start_paused = true)]
async fn a_handle_that_is_kept_after_its_end_does_not_keep_the_client() {
    let alive = Arc::new(());
    let watched = alive.clone();
    let builder = Client::builder(Plain, Scripted::well_behaved()).observer(move |_| drop(watched.clone()));
    let client = builder.start().await.unwrap();
    let mut job = client.submit(key("order-42"), "{}").await.unwrap();
    drop(client);
    assert_eq!((&mut job).await.unwrap().outcome.name(), "completed");
    tokio::time::sleep(SECOND).await;
    assert_eq!(Arc::strong_count(&alive), 1, "the driver is still there");
    assert_eq!(job.accepted().await.unwrap().reference.as_str(), "txn-order-42");
    job.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_panicking_transport_costs_an_attempt_not_the_client() {
    let transport = Scripted::new(|kind, number, _| async move {
        assert!(kind != Kind::Create || number > 1, "the transport has a bug");
        Ok(if kind == Kind::Create { answer(201, "t") } else { answer(200, "ok") })
    });
    let client = Client::builder(Plain, transport.clone()).start().await.unwrap();
    let job = client.submit(key("order-42"), "{}").await.unwrap();
    assert_eq!(job.await.unwrap().outcome.name(), "completed");
    assert_eq!(transport.sent("order-42"), [Kind::Create, Kind::Create, Kind::Poll]);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_observer_or_profile_does_not_take_the_client_down() {
    let observer = |_: &steadfast_tokio::Observation| panic!("the observer has a bug");
    let client = Client::builder(Plain, Scripted::well_behaved()).observer(observer).start().await.unwrap();
    assert_eq!(client.submit(key("a"), "{}").await.unwrap().await.unwrap().outcome.name(), "completed");

    let client = Client::builder(Broke, Scripted::well_behaved()).start().await.unwrap();
    for name in ["a", "b"] {
        let finished = client.submit(key(name), "{}").await.unwrap().await.unwrap();
        assert_eq!(finished.outcome, Outcome::Rejected(Rejected::Refused), "nothing could be sent");
    }
}

#[tokio::test(start_paused = true)]
async fn all_who_shut_it_down_at_once_are_told_what_is_unfinished() {
    let client = Client::builder(Plain, Scripted::new(|_, _, _| std::future::pending())).start().await.unwrap();
    let _job = client.submit(key("order-42"), "{}").await.unwrap();
    let others = [client.clone(), client.clone()].map(|other| tokio::spawn(other.shutdown(Duration::ZERO)));
    assert_eq!(client.shutdown(Duration::ZERO).await.len(), 1);
    for other in others {
        assert_eq!(other.await.unwrap().len(), 1);
    }
}

/// Each submit would wait for ever.
#[tokio::test(start_paused = true)]
async fn a_client_without_room_for_a_job_is_not_started() {
    let limits = Limits { live: 0, ..Limits::default() };
    let started = Client::builder(Plain, Scripted::well_behaved()).limits(limits).start().await;
    assert!(matches!(started, Err(StartError::NoRoom)), "{started:?}");
}

/// Whether they were there before, with room for one job, or come while it is under way.
#[tokio::test(start_paused = true)]
async fn a_submit_does_not_wait_for_the_end_of_a_shutdown() {
    let limits = Limits { live: 1, ..Limits::default() };
    let transport = Scripted::new(|_, _, _| std::future::pending());
    let client = Client::builder(Plain, transport.clone()).limits(limits).start().await.unwrap();
    let _job = client.submit(key("order-1"), "{}").await.unwrap();
    let waiting = client.clone();
    let waiting = tokio::spawn(async move { waiting.submit(key("order-2"), "{}").await });
    tokio::time::sleep(SECOND).await;
    let began = Instant::now();
    let stops = tokio::spawn(client.clone().shutdown(30 * SECOND));
    assert!(matches!(waiting.await.unwrap(), Err(SubmitError::Stopped)));
    assert!(matches!(client.submit(key("order-3"), "{}").await, Err(SubmitError::Stopped)));
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    assert_eq!(stops.await.unwrap().len(), 1);
    assert!(transport.sent("order-2").is_empty() && transport.sent("order-3").is_empty());
}

/// Many wait, and none of them stands in the way of one that needs no room.
#[tokio::test(start_paused = true)]
async fn whoever_joins_a_job_does_not_wait_for_room() {
    let limits = Limits { live: 1, ..Limits::default() };
    let transport = Scripted::new(|_, _, _| std::future::pending());
    let client = Client::builder(Plain, transport.clone()).limits(limits).start().await.unwrap();
    let job = client.submit(key("order-0"), "{}").await.unwrap();
    let waiting: Vec<_> = (1..=1_000)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.submit(key(&format!("order-{n}")), "{}").await.map(|job| job.cancel()) })
        })
        .collect();
    tokio::time::sleep(SECOND).await;
    let began = Instant::now();
    let _joined = timeout(SECOND, client.submit(key("order-0"), "{}")).await.expect("at once").unwrap();
    assert!(began.elapsed() < SECOND && waiting.iter().all(|waits| !waits.is_finished()));
    assert!(transport.sent("order-1").is_empty());
    // And they have their turns.
    job.cancel();
    for waits in waiting {
        waits.await.unwrap().unwrap();
    }
}

/// A store that fails, or panics, as told.
#[derive(Clone, Default)]
struct Broken {
    inner: MemoryStore,
    failures: Arc<AtomicUsize>,
    panics: bool,
}

impl Store for Broken {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        assert!(!self.panics, "the store has a bug");
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::write("the disk is full"));
        }
        self.inner.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.inner.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.inner.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.inner.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.inner.take_into_use()
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_when_the_intent_cannot_be_written() {
    for panics in [false, true] {
        let store = Broken { failures: Arc::new(AtomicUsize::new(1)), panics, ..Broken::default() };
        let transport = Scripted::well_behaved();
        let client = Client::builder(Plain, transport.clone()).store(store).start().await.unwrap();
        let refused = client.submit(key("order-42"), "{}").await;
        // Of a store that panicked nobody knows what it wrote.
        match refused {
            Err(SubmitError::NotDurable(_)) => assert!(!panics),
            Err(SubmitError::Uncertain(_)) => assert!(panics),
            other => panic!("{other:?}"),
        }
        assert!(transport.sent("order-42").is_empty());
        let again = client.submit(key("order-42"), "{}").await;
        // A failed commit may work the next time; a store that panicked is not used again.
        assert_eq!(again.is_ok(), !panics);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_later_delays_the_job_and_loses_nothing() {
    let store = Broken::default();
    let failures = store.failures.clone();
    let transport = Scripted::well_behaved();
    let client = Client::builder(Plain, transport.clone()).store(store.clone()).start().await.unwrap();
    let job = client.submit(key("order-42"), "{}").await.unwrap();
    failures.store(20, Ordering::Relaxed);
    assert_eq!(job.await.unwrap().outcome.name(), "completed");
    assert_eq!(failures.load(Ordering::Relaxed), 0, "each failed commit was tried again");
    assert_eq!(transport.sent("order-42").iter().filter(|kind| **kind == Kind::Create).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_takes_up_what_was_accepted_and_waits_for_payloads_it_needs() {
    let store = MemoryStore::default();
    // The first client dies with one job accepted and one whose create was never answered.
    let transport = Scripted::new(|kind, _, key| async move {
        match kind {
            Kind::Create if key == "accepted" => Ok(answer(201, "txn-1")),
            _ => std::future::pending().await,
        }
    });
    let client = Client::builder(Plain, transport).store(store.clone()).start().await.unwrap();
    let accepted = client.submit(key("accepted"), "{}").await.unwrap();
    let in_flight = client.submit(key("in-flight"), "{}").await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(client.shutdown(Duration::ZERO).await.len(), 2);
    assert!(accepted.await.is_err() && in_flight.await.is_err());

    let transport = Scripted::well_behaved();
    let client = Client::builder(Plain, transport.clone()).store(store).start().await.unwrap();
    tokio::time::sleep(60 * SECOND).await;
    assert!(!transport.sent("accepted").contains(&Kind::Create), "an accepted job is never created again");
    assert!(transport.sent("accepted").contains(&Kind::Poll), "it is polled on without being asked for");
    assert!(transport.sent("in-flight").is_empty(), "its payload is not known yet");

    let refused = client.submit(key("in-flight"), "another").await;
    assert!(matches!(refused, Err(SubmitError::Refused(engine::SubmitError::FingerprintMismatch))), "{refused:?}");
    for name in ["accepted", "in-flight"] {
        let finished = client.submit(key(name), "{}").await.unwrap().await.unwrap();
        assert_eq!(finished.outcome.name(), "completed", "{name}");
    }
    assert_eq!(transport.sent("in-flight").iter().filter(|kind| **kind == Kind::Create).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_remembers_what_was_delivered() {
    let store = MemoryStore::default();
    let client = Client::builder(Plain, Scripted::well_behaved()).store(store.clone()).start().await.unwrap();
    client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
    assert!(client.shutdown(SECOND).await.is_empty());

    let transport = Scripted::well_behaved();
    let client = Client::builder(Plain, transport.clone()).store(store).start().await.unwrap();
    let finished = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
    assert_eq!(finished.outcome.name(), "completed");
    assert!(transport.sent("order-42").is_empty(), "it is not run again");
    assert_eq!(finished.reference.unwrap().as_str(), "txn-order-42", "its result can be fetched by its reference");
}

#[tokio::test(start_paused = true)]
async fn a_restart_against_a_provider_that_ignores_keys_says_that_it_cannot_know() {
    let store = MemoryStore::default();
    let transport = Scripted::new(|_, _, _| std::future::pending());
    let ignores = OperationPolicy::default();
    let client = Client::builder(Plain, transport).policy(ignores.clone()).store(store.clone()).start().await.unwrap();
    let _job = client.submit(key("order-42"), "{}").await.unwrap();
    tokio::time::sleep(SECOND).await;
    let _ = client.shutdown(Duration::ZERO).await;

    let transport = Scripted::well_behaved();
    let client = Client::builder(Plain, transport.clone()).policy(ignores).store(store).start().await.unwrap();
    let finished = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
    assert_eq!(finished.outcome, Outcome::Unresolved(Unresolved::Ambiguous));
    assert!(transport.sent("order-42").is_empty());
}

#[tokio::test(start_paused = true)]
async fn observers_see_the_steps_in_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let client = Client::builder(Plain, Scripted::well_behaved())
        .policy(keyed())
        .observer(move |observation| {
            let step = match &observation.notice {
                Notice::Sending(attempt) => format!("send {:?} {}", attempt.kind, attempt.number),
                Notice::Ended(outcome) => outcome.name().into(),
                Notice::Accepted => format!("accepted {}", observation.reference.as_ref().unwrap()),
                _ => return,
            };
            sink.lock().unwrap().push(step);
        })
        .start()
        .await
        .unwrap();
    client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
    let seen = seen.lock().unwrap();
    let expected = ["send Create 1", "accepted txn-order-42", "send Poll 1", "send Poll 2", "send Poll 3", "completed"];
    assert_eq!(*seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_held_client_sends_nothing_until_its_hold_ends() {
    let client = Client::builder(Plain, Scripted::well_behaved()).start().await.unwrap();
    client.hold(30 * SECOND);
    let started = Instant::now();
    let job = client.submit(key("order-1"), "{}").await.unwrap();
    assert_eq!(job.await.unwrap().outcome.name(), "completed");
    assert!(started.elapsed() >= 30 * SECOND, "{:?}", started.elapsed());

    client.hold(3_000 * SECOND);
    let waiting = client.submit(key("order-2"), "{}").await.unwrap();
    // Held for longer than its deadline, it need not wait for it: nothing ran.
    assert_eq!(waiting.await.unwrap().outcome.name(), "rejected");
    client.hold(Duration::ZERO);
    assert_eq!(client.submit(key("order-3"), "{}").await.unwrap().await.unwrap().outcome.name(), "completed");
}

/// They come by different ways, and the driver is awake already, so that the later one may be there when it has just
/// looked for the earlier one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_submitted_after_a_hold_is_held() {
    let client = Client::builder(Plain, Scripted::well_behaved()).start().await.unwrap();
    for round in 0..2_000 {
        client.hold(Duration::ZERO);
        client.hold(3_000 * SECOND);
        let job = client.submit(key(&format!("order-{round}")), "{}").await.unwrap();
        job.cancel();
        let outcome = job.await.unwrap().outcome;
        assert_eq!(outcome, Outcome::Rejected(Rejected::Cancelled), "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_can_be_changed_while_jobs_wait_for_it() {
    let slow = RatePolicy::new(1, 60 * SECOND).unwrap();
    let creates = |rate| GatePolicy::none().with_rate_limit(RateLimit { kinds: Kinds::of(&[Kind::Create]), rate });
    let client = Client::builder(Plain, Scripted::well_behaved()).gate(creates(slow)).start().await.unwrap();
    let started = Instant::now();
    let mut jobs = Vec::new();
    for n in 0..10 {
        jobs.push(client.submit(key(&format!("order-{n}")), "{}").await.unwrap());
    }
    tokio::time::sleep(SECOND).await;
    client.set_gate(creates(RatePolicy::new(10, SECOND).unwrap()));
    for job in jobs {
        assert_eq!(job.await.unwrap().outcome.name(), "completed");
    }
    // One place of the old pace had been promised; those after it are of the new one.
    assert!(started.elapsed() < 90 * SECOND, "{:?}", started.elapsed());
}
