//! Once per key, one journal, one report: whoever holds the client does not see that there are several.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::Limits;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Stage;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{Kind, Outcome, Seed};
use steadfast_store::Store;
use steadfast_tokio::{Client, StartError, SubmitError};
use tokio::time::sleep;

use super::{SECOND, Upstream, carry, described};
use crate::support::{Commit, Faulty, Kept, Plain, Scripted, answer, key};

#[tokio::test(start_paused = true)]
async fn a_number_that_cannot_be_is_refused_at_the_start() {
    for (shards, live) in [(0, 10), (65, 100), (4, 3)] {
        let builder = Client::builder(Plain, Scripted::well_behaved()).limits(Limits { live, ..Limits::default() });
        let error = builder.shards(shards).start().await.unwrap_err();
        assert!(matches!(error, StartError::Shards { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{shards} shards, and room for {live} jobs")), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_way_to_a_key_leads_to_the_same_shard() {
    for store in [None].into_iter().chain(Kept::both().map(Some)) {
        let transport = Scripted::well_behaved();
        let builder = Client::builder(Plain, transport.clone()).shards(4);
        let client = match store {
            Some(store) => builder.store(store).start().await.unwrap(),
            None => builder.start().await.unwrap(),
        };
        for n in 0..40 {
            let name = format!("job-{n}");
            let (first, second) = tokio::join!(client.submit(key(&name), "{}"), client.submit(key(&name), "{}"));
            let (first, second) = (first.unwrap(), second.unwrap());
            let other = client.submit(key(&name), "another").await.unwrap_err();
            assert!(matches!(other, SubmitError::Refused(_)), "{other:?}");
            let accepted = first.accepted().await.unwrap();
            assert_eq!(accepted.reference.as_str(), format!("txn-{name}"));
            if n % 4 == 0 {
                second.cancel();
                let finished = first.await.unwrap();
                assert!(matches!(finished.outcome, Outcome::Unresolved(_)), "{:?}", finished.outcome);
                assert_eq!(client.resume(key(&name)).await.unwrap().await.unwrap().outcome.name(), "completed");
            } else {
                let (first, second) = (first.await.unwrap(), second.await.unwrap());
                assert_eq!((first.outcome.name(), &first), ("completed", &second));
            }
            assert_eq!(client.submit(key(&name), "{}").await.unwrap().await.unwrap().outcome.name(), "completed");
            assert_eq!(transport.sent(&name).iter().filter(|kind| **kind == Kind::Create).count(), 1, "{name}");
        }
        assert!(client.shutdown(SECOND).await.is_empty());
    }
}

/// Of what a client leaves, each job is taken up once by the next, however many shards each had.
#[tokio::test(start_paused = true)]
async fn a_restart_deals_out_anew_what_the_store_had() {
    for store in Kept::both() {
        let (mut asked, mut carried) = (store.clone(), 0);
        for (round, shards) in [3, 1, 5, 2].into_iter().enumerate() {
            let transport = Scripted::well_behaved();
            let builder = Client::builder(Plain, transport.clone()).store(store.clone()).keep_payloads();
            let client = builder.shards(shards).start().await.unwrap();
            for n in 0..20 {
                drop(client.submit(key(&format!("job-{round}-{n:02}")), "{}").await.unwrap());
            }
            // The first polls are due after 3 s.
            sleep(SECOND).await;
            let creates = (0..20).map(|n| transport.sent(&format!("job-{round}-{n:02}")));
            assert!(creates.into_iter().all(|sent| sent == [Kind::Create]), "{shards} shards");
            let unfinished = client.shutdown(Duration::ZERO).await;
            carried += 20;
            assert_eq!(unfinished.len(), carried);
            assert!(unfinished.is_sorted_by(|a, b| a.key < b.key), "{shards} shards");
            assert_eq!(asked.load().unwrap().len(), carried);
        }
        let transport = Scripted::well_behaved();
        let client = Client::builder(Plain, transport.clone()).store(store.clone()).shards(4).start().await.unwrap();
        for entry in asked.load_live().unwrap() {
            let finished = client.resume(entry.record.key).await.unwrap().await.unwrap();
            assert_eq!(finished.outcome.name(), "completed");
        }
        assert!(client.shutdown(60 * SECOND).await.is_empty());
        let all = asked.load().unwrap();
        assert_eq!(all.len(), carried);
        assert!(all.iter().all(|entry| matches!(entry.record.stage, Stage::Delivered(_))));
    }
}

/// On threads, and a clock that runs: whatever meets whatever at the gate and in the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_jobs_on_several_threads_are_each_run_once() {
    for store in Kept::both() {
        let transport = Scripted::new(|kind, number, key| async move {
            tokio::task::yield_now().await;
            Ok(match (kind, number) {
                (Kind::Create, 1) if key.ends_with('7') => answer(503, ""),
                _ => answer(200, "done"),
            })
        });
        let pause = Duration::from_millis(2);
        let backoff = BackoffPolicy::new(Growth::Fixed(pause), pause, Jitter::None).unwrap();
        let create = RetryPolicy::new(5, 60 * SECOND, SECOND, backoff).unwrap();
        let policy = crate::support::keyed().with_create(create).unwrap();
        let gate = GatePolicy::default().with_bulkhead(Some(BulkheadPolicy::fixed(3).unwrap()));
        let builder = Client::builder(Plain, transport.clone()).policy(policy).gate(gate).store(store.clone());
        let client = builder.shards(4).start().await.unwrap();
        let mut callers = tokio::task::JoinSet::new();
        for caller in 0..8 {
            let client = client.clone();
            callers.spawn(async move {
                for n in 0..50 {
                    // Two callers for each key.
                    let job = client.submit(key(&format!("job-{}-{n}", caller / 2)), "{}").await.unwrap();
                    assert_eq!(job.await.unwrap().outcome.name(), "completed");
                }
            });
        }
        callers.join_all().await;
        for job in (0..4).flat_map(|caller| (0..50).map(move |n| format!("job-{caller}-{n}"))) {
            assert_eq!(transport.sent(&job).len(), if job.ends_with('7') { 2 } else { 1 }, "{job}");
        }
        assert!(client.shutdown(SECOND).await.is_empty());
        assert_eq!(store.clone().load().unwrap().len(), 200);
    }
}

/// Whoever's commits fail, nothing is sent that is not on disk, and no create twice.
#[tokio::test(start_paused = true)]
async fn commits_that_fail_or_are_in_doubt_cost_no_job_and_run_none_twice() {
    use Commit::{Fails, InDoubtAndDone, InDoubtAndNot, Works};
    for store in Faulty::both() {
        let transport = Scripted::well_behaved();
        let client = Client::builder(Plain, transport.clone()).store(store.clone()).shards(4).start().await.unwrap();
        store.tell([InDoubtAndDone, Works, InDoubtAndNot, Fails, InDoubtAndDone, Works, Fails, Works, InDoubtAndNot]);
        let mut submits = tokio::task::JoinSet::new();
        for n in 0..24 {
            let client = client.clone();
            submits.spawn(async move {
                loop {
                    match client.submit(key(&format!("job-{n}")), "{}").await {
                        Ok(handle) => return handle.await.unwrap().outcome.name(),
                        Err(SubmitError::NotDurable(_)) => sleep(SECOND).await,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        let mut outcomes = BTreeMap::new();
        while let Some(outcome) = submits.join_next().await {
            *outcomes.entry(outcome.unwrap()).or_insert(0) += 1;
        }
        assert_eq!(outcomes, BTreeMap::from([("completed", 24)]));
        assert_eq!(store.left(), 0);
        for n in 0..24 {
            let sent = transport.sent(&format!("job-{n}"));
            assert_eq!(sent.iter().filter(|kind| **kind == Kind::Create).count(), 1, "{sent:?}");
        }
        let _ = client.shutdown(SECOND).await;
        assert_eq!(store.inner.clone().load().unwrap().len(), 24);
    }
}

/// However many are refused for their credentials at once, and in whichever shard.
#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_once() {
    let (token, renewals) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let valid = token.clone();
    let transport = Scripted::new(move |kind, number, key| {
        let sent_with = valid.load(Ordering::Relaxed);
        async move {
            sleep(Duration::from_millis(10)).await;
            Ok(match (kind, sent_with, number) {
                (_, 0, _) => answer(401, ""),
                (Kind::Create, ..) => answer(201, format!("txn-{key}")),
                (.., ..3) => answer(202, ""),
                _ => answer(200, "done"),
            })
        }
    });
    let (renewed, calls) = (token.clone(), renewals.clone());
    let builder = Client::builder(Plain, transport.clone()).shards(4).renew_credentials(move || {
        calls.fetch_add(1, Ordering::Relaxed);
        let renewed = renewed.clone();
        async move {
            sleep(5 * SECOND).await;
            renewed.store(1, Ordering::Relaxed);
            Ok::<_, &str>(())
        }
    });
    let client = builder.start().await.unwrap();
    assert!(carry(&client, 40).await.iter().all(|outcome| *outcome == "completed"));
    assert_eq!(renewals.load(Ordering::Relaxed), 1);
    for n in 0..40 {
        let creates = transport.sent(&format!("job-{n}")).iter().filter(|kind| **kind == Kind::Create).count();
        assert_eq!(creates, 2, "refused once, then sent again");
    }
    // Again, later.
    token.store(0, Ordering::Relaxed);
    let client = client.clone();
    let more = tokio::spawn(async move { client.submit(key("later"), "{}").await.unwrap().await });
    sleep(60 * SECOND).await;
    assert_eq!(more.await.unwrap().unwrap().outcome.name(), "completed");
    assert_eq!(renewals.load(Ordering::Relaxed), 2);
}

/// The hook that hangs holds all for as long as one renewal may take, and no longer.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_is_given_up_for_all() {
    let run = async |shards| {
        let transport =
            Scripted::new(|_, number, _| async move { Ok(answer(if number == 1 { 401 } else { 200 }, "")) });
        let builder = Client::builder(Plain, transport).shards(shards).seed(Seed::new(7));
        let client = builder.renew_credentials(std::future::pending::<Result<(), &str>>).start().await.unwrap();
        let began = tokio::time::Instant::now();
        assert!(carry(&client, 12).await.iter().all(|outcome| *outcome == "completed"));
        began.elapsed().as_secs()
    };
    let alone = run(1).await;
    assert!(alone >= 30);
    assert_eq!(run(4).await, alone);
}

/// The shard that renews the credentials may have nothing else to do, and be over, while the jobs of another wait for
/// them.
#[tokio::test(start_paused = true)]
async fn a_renewal_is_not_waited_for_once_its_shard_is_over() {
    for n in 0..8 {
        let token = Arc::new(AtomicU32::new(0));
        let valid = token.clone();
        let transport = Scripted::new(move |_, _, _| {
            let valid = valid.load(Ordering::Relaxed) > 0;
            async move { Ok(answer(if valid { 200 } else { 401 }, "")) }
        });
        let builder = Client::builder(Plain, transport).shards(2).seed(Seed::new(7)).renew_credentials(move || {
            let renewed = token.clone();
            async move {
                sleep(5 * SECOND).await;
                renewed.store(1, Ordering::Relaxed);
                Ok::<_, &str>(())
            }
        });
        let client = builder.start().await.unwrap();
        let refused = client.submit(key("refused"), "{}").await.unwrap();
        sleep(SECOND).await;
        let waiting = client.submit(key(&format!("job-{n}")), "{}").await.unwrap();
        refused.cancel();
        assert_eq!(refused.await.unwrap().outcome.name(), "rejected");
        assert_eq!(client.shutdown(20 * SECOND).await, []);
        assert_eq!(waiting.await.unwrap().outcome.name(), "completed");
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_last_client_is_gone_all_shards_end() {
    let transport = Scripted::well_behaved();
    let alive = Arc::new(());
    let watched = alive.clone();
    let builder = Client::builder(Plain, transport.clone()).shards(4).observer(move |_| drop(watched.clone()));
    let client = builder.start().await.unwrap();
    for n in 0..12 {
        drop(client.submit(key(&format!("job-{n}")), "{}").await.unwrap());
    }
    drop(client);
    sleep(60 * SECOND).await;
    assert!((0..12).all(|n| transport.sent(&format!("job-{n}")).len() == 4), "they went on to their ends");
    assert_eq!(Arc::strong_count(&alive), 1, "no driver is left");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// On a paused clock and one thread.
    #[test]
    fn the_same_run_is_the_same_each_time(shards in 2_usize..9, jobs in 1_usize..30, seed: u64, down in 0_u64..60) {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let down = Duration::from_secs(down);
                let upstream = Upstream::new(Duration::from_millis(70), move |_, at| answer(if at < down { 503 } else { 200 }, ""));
                let client = described(Plain, &upstream, shards).seed(Seed::new(seed)).start().await.unwrap();
                let outcomes = carry(&client, jobs).await;
                let seen = upstream.seen.lock().unwrap();
                // To the timer's millisecond: reading the clocks takes real time.
                let sent: Vec<_> = seen.sent.iter().map(|(_, name, kind)| (name.clone(), *kind)).collect();
                (outcomes, sent)
            })
        };
        prop_assert_eq!(run(), run());
    }
}
