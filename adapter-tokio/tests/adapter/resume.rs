//! What a restart takes up by itself, what it waits for, and what a person may resume. Virtual time.

use std::time::Duration;

use steadfast_core::engine::{self, Limits};
use steadfast_core::operation::{Rejected, Stage, Unresolved};
use steadfast_core::{Key, Kind, OperationPolicy, Outcome, SendSafety};
use steadfast_store::Store;
use steadfast_tokio::{Client, ResumeError, SubmitError};
use tokio::time::Instant;

use crate::support::{Kept, Plain, Scripted, answer, key, keyed};

const SECOND: Duration = Duration::from_secs(1);

fn lookup() -> OperationPolicy {
    OperationPolicy::default().with_safety(SendSafety::Lookup { settle: 5 * SECOND }).unwrap()
}

fn stage(store: &Kept, name: &str) -> Stage {
    store.clone().find(&key(name)).unwrap().unwrap().record.stage
}

/// A client dies with a create in the air that was never answered, and one job that the gate held back.
async fn dies(store: &Kept, policy: OperationPolicy, keeps: bool) {
    let transport = Scripted::new(|_, _, _| std::future::pending());
    let builder = Client::builder(Plain, transport).policy(policy).store(store.clone());
    let client = if keeps { builder.keep_payloads() } else { builder }.start().await.unwrap();
    let _in_flight = client.submit(key("in-flight"), "{}").await.unwrap();
    client.hold(3_600 * SECOND / 60);
    let _planned = client.submit(key("planned"), "{}").await.unwrap();
    assert_eq!(client.shutdown(Duration::ZERO).await.len(), 2);
    assert_eq!((stage(store, "in-flight"), stage(store, "planned")), (Stage::InFlight, Stage::Planned));
}

#[tokio::test(start_paused = true)]
async fn with_the_payload_kept_a_restart_goes_on_by_itself() {
    for store in Kept::both() {
        dies(&store, keyed(), true).await;
        let (transport, began) = (Scripted::well_behaved(), Instant::now());
        let client =
            Client::builder(Plain, transport.clone()).store(store.clone()).keep_payloads().start().await.unwrap();
        for name in ["in-flight", "planned"] {
            while !matches!(stage(&store, name), Stage::Ended(Outcome::Completed(_))) {
                tokio::time::sleep(SECOND).await;
                assert!(began.elapsed() < 90 * SECOND, "{name} does not go on: {:?}", stage(&store, name));
            }
            assert_eq!(transport.sent(name).iter().filter(|kind| **kind == Kind::Create).count(), 1);
        }
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_gives_what_was_not_kept_and_a_wrong_payload_is_refused() {
    for store in Kept::both() {
        dies(&store, keyed(), false).await;
        let transport = Scripted::well_behaved();
        let loader = |wanted: &Key| match wanted.as_str() {
            "in-flight" => Some("{}".into()),
            _ => Some("another job's".into()),
        };
        let client =
            Client::builder(Plain, transport.clone()).store(store.clone()).payloads(loader).start().await.unwrap();
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(stage(&store, "in-flight").name(), "completed");
        assert!(transport.sent("planned").is_empty(), "a payload that was not submitted is not sent");
        let refused = client.submit(key("planned"), "another job's").await;
        assert!(matches!(refused, Err(SubmitError::Refused(engine::SubmitError::FingerprintMismatch))), "{refused:?}");
        let waits = client.resume(key("planned")).await;
        assert!(matches!(waits, Err(ResumeError::PayloadNeeded)), "{waits:?}");
        let finished = client.submit(key("planned"), "{}").await.unwrap().await.unwrap();
        assert_eq!(finished.outcome.name(), "completed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_panics_is_as_one_that_knows_nothing() {
    for store in Kept::both() {
        dies(&store, keyed(), false).await;
        let loader = |_: &Key| panic!("the loader has a bug");
        let transport = Scripted::well_behaved();
        let client = Client::builder(Plain, transport.clone()).store(store).payloads(loader).start().await.unwrap();
        tokio::time::sleep(SECOND).await;
        assert!(transport.sent("planned").is_empty() && transport.sent("in-flight").is_empty());
        assert_eq!(client.submit(key("planned"), "{}").await.unwrap().await.unwrap().outcome.name(), "completed");
    }
}

/// Nobody brings the payloads: nothing is sent, and each ends when its create deadline comes, with what is known of it.
#[tokio::test(start_paused = true)]
async fn what_waits_for_its_payload_in_vain_ends_at_its_create_deadline() {
    for store in Kept::both() {
        dies(&store, keyed(), false).await;
        let transport = Scripted::well_behaved();
        let client = Client::builder(Plain, transport.clone()).store(store.clone()).start().await.unwrap();
        let deadline = keyed().create().deadline();
        tokio::time::sleep(deadline - 10 * SECOND).await;
        assert_eq!((stage(&store, "in-flight"), stage(&store, "planned")), (Stage::InFlight, Stage::Planned));
        tokio::time::sleep(20 * SECOND).await;
        assert_eq!(stage(&store, "in-flight"), Stage::Ended(Outcome::Unresolved(Unresolved::Deadline)));
        assert_eq!(stage(&store, "planned"), Stage::Ended(Outcome::Rejected(Rejected::Deadline)));
        assert!(transport.sent("in-flight").is_empty() && transport.sent("planned").is_empty());
        // What was never sent may be submitted anew; what may have run may not.
        let fresh = client.submit(key("planned"), "{}").await.unwrap().await.unwrap();
        assert_eq!(fresh.outcome.name(), "completed");
        let doubt = client.submit(key("in-flight"), "{}").await.unwrap().await.unwrap();
        assert_eq!(doubt.outcome, Outcome::Unresolved(Unresolved::Deadline));
        assert!(transport.sent("in-flight").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_up_needs_no_payload_until_it_proves_that_nothing_ran() {
    for (ran, store) in [true, false].into_iter().flat_map(|ran| Kept::both().map(|store| (ran, store))) {
        dies(&store, lookup(), false).await;
        let transport = Scripted::new(move |kind, number, key| async move {
            Ok(match (kind, number) {
                (Kind::Lookup, _) if !ran => answer(404, ""),
                (Kind::Lookup | Kind::Create, _) => answer(201, format!("txn-{key}")),
                _ => answer(200, "done"),
            })
        });
        let client =
            Client::builder(Plain, transport.clone()).policy(lookup()).store(store.clone()).start().await.unwrap();
        tokio::time::sleep(30 * SECOND).await;
        if ran {
            assert_eq!(transport.sent("in-flight"), [Kind::Lookup, Kind::Poll]);
            assert_eq!(stage(&store, "in-flight").name(), "completed");
        } else {
            assert_eq!(transport.sent("in-flight"), [Kind::Lookup], "an empty body must not leave under its name");
            assert_eq!(stage(&store, "in-flight"), Stage::Planned);
            let finished = client.submit(key("in-flight"), "{}").await.unwrap().await.unwrap();
            assert_eq!(finished.outcome.name(), "completed");
            assert_eq!(transport.sent("in-flight"), [Kind::Lookup, Kind::Create, Kind::Poll]);
        }
    }
}

/// The payload comes while the look-up is under way: nobody has to wait.
#[tokio::test(start_paused = true)]
async fn a_submit_during_a_look_up_brings_the_payload() {
    for store in Kept::both() {
        dies(&store, lookup(), false).await;
        let transport = Scripted::new(|kind, _, key| async move {
            Ok(match kind {
                Kind::Lookup => answer(404, ""),
                Kind::Create => answer(201, format!("txn-{key}")),
                _ => answer(200, "done"),
            })
        });
        let client = Client::builder(Plain, transport.clone()).policy(lookup()).store(store).start().await.unwrap();
        let finished = client.submit(key("in-flight"), "{}").await.unwrap().await.unwrap();
        assert_eq!(finished.outcome.name(), "completed");
        assert_eq!(transport.sent("in-flight"), [Kind::Lookup, Kind::Create, Kind::Poll]);
    }
}

/// A client that leaves it where it is, until its key is resumed: then it needs its payload as much as one that was
/// taken up.
#[tokio::test(start_paused = true)]
async fn what_was_left_in_the_store_is_resumed_with_its_payload_or_not_at_all() {
    for (keeps, store) in [false, true].into_iter().flat_map(|keeps| Kept::both().map(|store| (keeps, store))) {
        dies(&store, keyed(), keeps).await;
        let transport = Scripted::well_behaved();
        let builder = Client::builder(Plain, transport.clone()).store(store.clone()).take_up(|_| false);
        let client = if keeps { builder.keep_payloads() } else { builder }.start().await.unwrap();
        for (name, was) in [("in-flight", Stage::InFlight), ("planned", Stage::Planned)] {
            match client.resume(key(name)).await {
                Ok(job) => assert!(keeps && job.await.unwrap().outcome.name() == "completed", "{name}"),
                Err(refused) => {
                    assert!(!keeps && matches!(refused, ResumeError::PayloadNeeded), "{name}: {refused:?}");
                    tokio::time::sleep(SECOND).await;
                    assert_eq!(stage(&store, name), was);
                    let finished = client.submit(key(name), "{}").await.unwrap().await.unwrap();
                    assert_eq!(finished.outcome.name(), "completed", "{name}");
                }
            }
            assert_eq!(transport.sent(name).iter().filter(|kind| **kind == Kind::Create).count(), 1, "{name}");
        }
    }
}

/// Refuses polls while told to, which ends a job as unresolved with its reference.
fn moody(well: &std::sync::Arc<std::sync::atomic::AtomicBool>) -> Scripted {
    let well = well.clone();
    Scripted::new(move |kind, _, key| {
        let well = well.load(std::sync::atomic::Ordering::SeqCst);
        async move {
            tokio::time::sleep(SECOND).await;
            Ok(match kind {
                Kind::Create => answer(201, format!("txn-{key}")),
                _ if well => answer(200, "done"),
                _ => answer(403, "no"),
            })
        }
    })
}

#[tokio::test(start_paused = true)]
async fn an_unresolved_job_with_a_reference_can_be_resumed_also_after_a_restart() {
    // Often: the record of the first end's delivery may still be on its way, and must not be taken for the one that the
    // job goes on.
    let often = [false, true].repeat(20);
    for (restarts, store) in often.into_iter().flat_map(|restarts| Kept::both().map(|store| (restarts, store))) {
        let well = std::sync::Arc::default();
        let transport = moody(&well);
        let build = || Client::builder(Plain, transport.clone()).store(store.clone()).start();
        let mut client = build().await.unwrap();
        let first = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert_eq!(first.outcome, Outcome::Unresolved(Unresolved::PollRefused));
        // As long as nothing has changed, it ends so again.
        let same = client.resume(key("order-42")).await.unwrap().await.unwrap();
        assert_eq!(same.outcome, first.outcome);
        if restarts {
            assert!(client.shutdown(SECOND).await.is_empty());
            client = build().await.unwrap();
        }
        well.store(true, std::sync::atomic::Ordering::SeqCst);
        let resumed = client.resume(key("order-42")).await.unwrap();
        // Durable by now, so a crash from here on goes on with it.
        assert_eq!(stage(&store, "order-42"), Stage::Accepted);
        let joined = client.resume(key("order-42")).await.unwrap();
        let finished = resumed.await.unwrap();
        assert_eq!((finished.outcome.name(), finished.body()), ("completed", &b"done"[..]));
        assert_eq!(joined.await.unwrap(), finished);
        assert_eq!(client.resume(key("order-42")).await.unwrap().await.unwrap(), finished, "final: as it is");
        assert_eq!(client.submit(key("order-42"), "{}").await.unwrap().await.unwrap(), finished);
        assert_eq!(transport.sent("order-42").iter().filter(|kind| **kind == Kind::Create).count(), 1);
    }
}

/// Not after its window, and not if the engine remembers next to nothing: what may have run keeps its key until
/// somebody knows.
#[tokio::test(start_paused = true)]
async fn an_unresolved_job_is_never_forgotten_by_itself() {
    for (remember, store) in [0, 100].into_iter().flat_map(|remember| Kept::both().map(|store| (remember, store))) {
        let well = std::sync::Arc::default();
        let transport = moody(&well);
        let limits = Limits { remember, remember_for: 3_600 * SECOND, ..Limits::default() };
        let client = Client::builder(Plain, transport.clone()).store(store.clone()).limits(limits).start();
        let client = client.await.unwrap();
        let first = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        well.store(true, std::sync::atomic::Ordering::SeqCst);
        // Others push it out of the engine's memory, and time does.
        for n in 0..3 {
            client.submit(key(&format!("other-{n}")), "{}").await.unwrap().await.unwrap();
        }
        tokio::time::sleep(2 * 3_600 * SECOND).await;
        let kept: Vec<Stage> = store.clone().load().unwrap().into_iter().map(|entry| entry.record.stage).collect();
        assert!(kept.contains(&Stage::Delivered(first.outcome)), "{kept:?}");
        assert!(!kept.iter().any(|stage| matches!(stage, Stage::Delivered(Outcome::Completed(_)))), "{kept:?}");
        let again = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert_eq!(again.outcome, first.outcome, "it is told, not run again");
        assert!(matches!(client.submit(key("order-42"), "other").await, Err(SubmitError::Refused(_))));
        let resumed = client.resume(key("order-42")).await.unwrap().await.unwrap();
        assert_eq!(resumed.outcome.name(), "completed");
        assert_eq!(transport.sent("order-42").iter().filter(|kind| **kind == Kind::Create).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_resumed_is_refused_with_advice() {
    for store in Kept::both() {
        let transport = Scripted::new(|_, _, _| async { Ok(answer(500, "")) });
        let ignores = OperationPolicy::default();
        let client = Client::builder(Plain, transport).policy(ignores).store(store.clone()).start().await.unwrap();
        let ended = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert_eq!(ended.outcome, Outcome::Unresolved(Unresolved::Ambiguous));
        let refused = client.resume(key("order-42")).await.unwrap_err();
        assert!(matches!(refused, ResumeError::NoReference(Unresolved::Ambiguous)), "{refused:?}");
        assert!(refused.to_string().contains("ask the provider"), "{refused}");
        assert!(matches!(client.resume(key("never-seen")).await, Err(ResumeError::UnknownKey)));
        assert!(client.shutdown(SECOND).await.is_empty());
        let client = Client::builder(Plain, Scripted::well_behaved()).store(store).start().await.unwrap();
        assert!(matches!(client.resume(key("order-42")).await, Err(ResumeError::NoReference(_))));
        let volatile = Client::builder(Plain, Scripted::well_behaved()).start().await.unwrap();
        assert!(matches!(volatile.resume(key("order-42")).await, Err(ResumeError::UnknownKey)));
    }
}

/// The store, which may have the job, is not asked any more: that is no reason to take it for one that nobody knows.
#[tokio::test(start_paused = true)]
async fn while_the_client_stops_no_key_that_its_store_may_have_is_called_unknown() {
    for store in Kept::both() {
        let transport = moody(&std::sync::Arc::default());
        let client = Client::builder(Plain, transport).store(store.clone()).start().await.unwrap();
        let first = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
        assert_eq!(first.outcome, Outcome::Unresolved(Unresolved::PollRefused));
        let _ = client.shutdown(SECOND).await;

        let client = Client::builder(Plain, Scripted::well_behaved()).store(store).start().await.unwrap();
        drop(client.submit(key("under-way"), "{}").await.unwrap());
        let stops = tokio::spawn(client.clone().shutdown(60 * SECOND));
        tokio::task::yield_now().await;
        let refused = client.resume(key("order-42")).await.unwrap_err();
        assert!(matches!(refused, ResumeError::Stopped), "{refused:?}");
        assert_eq!(stops.await.unwrap(), []);
    }
}

trait Named {
    fn name(&self) -> &'static str;
}

impl Named for Stage {
    fn name(&self) -> &'static str {
        if let Self::Ended(outcome) | Self::Delivered(outcome) = self { outcome.name() } else { "under way" }
    }
}
