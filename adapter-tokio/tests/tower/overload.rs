//! More callers than an upstream takes, whose patience is for the wait and the call together: how many are served.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use steadfast_core::Kind;
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::gate::{Request, Settled};
use steadfast_core::retry::RetryPolicy;
use steadfast_tokio::tower::{GateLayer, RateLimitLayer};
use steadfast_tokio::{Breaker, Gate, RateLimiter, retry};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::{Layer, ServiceExt};

use crate::support::{Down, MILLI, SECOND, Upstream, bulkhead, paced, rate};

type Call = Pin<Box<dyn Future<Output = bool> + Send>>;
type Calls = Box<dyn Fn() -> Call>;

/// A minute of callers; how many of them were served in time.
async fn minute(per_second: u32, patience: Duration, call: &Calls) -> usize {
    let (start, mut callers) = (Instant::now(), JoinSet::new());
    for n in 1..=60 * per_second {
        let call = call();
        callers.spawn(async move { timeout(patience, call).await == Ok(true) });
        sleep_until(start + SECOND * n / per_second).await;
    }
    callers.join_all().await.into_iter().filter(|served| *served).count()
}

/// Calls to an upstream that takes 600 a minute, each of which takes 200 ms.
fn upstream(calls: &Arc<AtomicUsize>) -> Upstream {
    let calls = Arc::clone(calls);
    Upstream::new(move |n| {
        calls.fetch_add(1, Ordering::Relaxed);
        (200 * MILLI, Some(Ok(n)))
    })
}

fn guarded(sent: &Arc<AtomicUsize>) -> Vec<(&'static str, Calls)> {
    let upstreams = || upstream(sent);
    let paced_gate = GateLayer::new(Gate::new(paced()));
    let bulkhead = GateLayer::new(Gate::new(bulkhead(2)));
    let limit = RateLimitLayer::new(RateLimiter::new(rate()));
    let (limiter, breaker) = (RateLimiter::new(rate()), Breaker::new(BreakerPolicy::default()));
    let services = [upstreams(), upstreams(), upstreams()];
    let [first, second, third] = services;
    let sent = Arc::clone(sent);
    vec![
        ("a gate with a rate limit", Box::new(move || served(paced_gate.layer(first.service())))),
        ("a gate with a bulkhead", Box::new(move || served(bulkhead.layer(second.service())))),
        ("a rate limit", Box::new(move || served(limit.layer(third.service())))),
        (
            "a repeated call with a limiter and a breaker",
            Box::new(move || {
                let (limiter, breaker, sent) = (limiter.clone(), breaker.clone(), Arc::clone(&sent));
                Box::pin(async move {
                    let call = retry(RetryPolicy::default()).limiter(&limiter).breaker(&breaker);
                    let call = call.run(|| {
                        sent.fetch_add(1, Ordering::Relaxed);
                        async {
                            sleep(200 * MILLI).await;
                            Ok::<_, Down>(())
                        }
                    });
                    call.await.is_ok()
                })
            }),
        ),
    ]
}

fn served<S>(service: S) -> Call
where
    S: tower::Service<u32, Response = u32> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    Box::pin(async move { service.oneshot(0).await.is_ok() })
}

#[tokio::test(start_paused = true)]
async fn however_many_callers_lose_patience_most_places_serve_one_who_has_not() {
    for (per_second, patience, expected) in [
        (5, 500, 300..301),
        (10, 500, 598..601),
        (20, 500, 360..640),
        (20, 3_000, 540..640),
        (100, 500, 360..640),
        (100, 3_000, 540..640),
    ] {
        let (sent, patience): (_, Duration) = (Arc::new(AtomicUsize::new(0)), patience * MILLI);
        for (name, call) in guarded(&sent) {
            let case = format!("{name}, {per_second} callers a second, {patience:?}");
            sent.store(0, Ordering::Relaxed);
            for _ in 0..3 {
                let served = minute(per_second, patience, &call).await;
                assert!(within(&expected, served), "{case}: {served}");
            }
            // Not much more than the upstream takes: of two calls in a row, one at most is given up for lateness.
            let sent = sent.load(Ordering::Relaxed);
            assert!(sent <= 3 * 900, "{case}: {sent} were sent");
            // All is well at once when the load has fallen.
            assert_eq!(minute(5, patience, &call).await, 300, "{case}");
        }
    }
}

fn within(range: &Range<usize>, n: usize) -> bool {
    range.contains(&n)
}

/// Who waits on while others come and leave has as many before it as when it came, and as many again.
#[tokio::test(start_paused = true)]
async fn who_has_patience_goes_in_its_turn_among_those_who_have_none() {
    for policy in [bulkhead(1), paced()] {
        let gate = Gate::new(policy);
        let mut crowd = JoinSet::new();
        let mut others = tokio::time::interval(20 * MILLI);
        let mut patient = JoinSet::new();
        for n in 0..3_000 {
            others.tick().await;
            let other = gate.clone();
            crowd.spawn(timeout(SECOND, async move {
                let permit = other.acquire(Request::first(Kind::Create)).await.unwrap();
                sleep(100 * MILLI).await;
                permit.settle(Settled::Answered);
            }));
            if n % 500 == 499 {
                let (gate, start, before) = (gate.clone(), Instant::now(), gate.waiting() as u32);
                patient.spawn(async move {
                    gate.acquire(Request::first(Kind::Create)).await.unwrap().settle(Settled::Answered);
                    (start.elapsed(), before)
                });
            }
            while crowd.try_join_next().is_some() {}
        }
        crowd.shutdown().await;
        for (waited, before) in patient.join_all().await {
            assert!(waited <= 2 * 100 * MILLI * (before + 2), "{waited:?} for {before}");
        }
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }
}

/// One call that a caller gave up after a wait lets the newest of its kind go next: that must not count as the age of the
/// whole kind, or another that is always busy would keep it out for ever.
#[tokio::test(start_paused = true)]
async fn one_call_that_was_given_up_starves_no_kind() {
    for policy in [bulkhead(1), paced()] {
        let (gate, mut busy) = (Gate::new(policy), JoinSet::new());
        for _ in 0..10 {
            let gate = gate.clone();
            busy.spawn(async move {
                loop {
                    let permit = gate.acquire(Request::first(Kind::Create)).await.unwrap();
                    sleep(100 * MILLI).await;
                    permit.settle(Settled::Answered);
                }
            });
        }
        let (polled, mut polls) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
        for n in 0..500 {
            let (gate, polled) = (gate.clone(), Arc::clone(&polled));
            polls.spawn(async move {
                let permit = gate.acquire(Request::first(Kind::Poll)).await.unwrap();
                polled.fetch_add(1, Ordering::Relaxed);
                // Dropped, it says that the call was given up.
                if n != 4 {
                    sleep(10 * MILLI).await;
                    permit.settle(Settled::Answered);
                }
            });
            sleep(400 * MILLI).await;
        }
        let polled = polled.load(Ordering::Relaxed);
        assert!(polled >= 480, "{polled} of 500 polls went");
        busy.shutdown().await;
        polls.shutdown().await;
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }
}

/// Whoever stays, after a rush of callers that have left, or an hour in which nobody could go, waits for those who are
/// there, and not for as many newcomers as there were callers.
#[tokio::test(start_paused = true)]
async fn what_a_rush_has_left_behind_keeps_nobody_waiting() {
    let gate = Gate::new(paced());
    let come = |patience: Duration, calls: &mut JoinSet<_>| {
        let gate = gate.clone();
        calls.spawn(async move {
            let call = async {
                let permit = gate.acquire(Request::first(Kind::Create)).await.unwrap();
                sleep(MILLI).await;
                permit.settle(Settled::Answered);
            };
            let _ = timeout(patience, call).await;
        });
    };
    let mut calls = JoinSet::new();
    (0..5_000).for_each(|_| come(SECOND / 2, &mut calls));
    sleep(100 * MILLI).await;
    waits_at_most(3 * SECOND, &gate, &mut calls, &come).await;

    // The last goes next, since one who had waited gives up; and the gate is held just then.
    calls.shutdown().await;
    gate.acquire(Request::first(Kind::Create)).await.unwrap().settle(Settled::Answered);
    let permit = gate.acquire(Request::first(Kind::Create)).await.unwrap();
    gate.work(|machine, now| machine.hold_until(now.saturating_add(3_600 * SECOND)));
    come(SECOND, &mut calls);
    tokio::task::yield_now().await;
    assert_eq!(gate.waiting(), 1);
    drop(permit);
    for _ in 0..20 * 3_590 {
        come(SECOND, &mut calls);
        sleep(SECOND / 20).await;
        while calls.try_join_next().is_some() {}
    }
    sleep(8 * SECOND).await;
    waits_at_most(5 * SECOND, &gate, &mut calls, &come).await;
}

/// One who stays comes now, and then twenty a second who do not.
async fn waits_at_most(
    most: Duration,
    gate: &Gate,
    calls: &mut JoinSet<()>,
    come: &impl Fn(Duration, &mut JoinSet<()>),
) {
    let (start, patient) = (Instant::now(), gate.clone());
    let patient = tokio::spawn(async move { patient.acquire(Request::first(Kind::Create)).await.map(drop) });
    while !patient.is_finished() && start.elapsed() < 60 * SECOND {
        come(SECOND, calls);
        sleep(SECOND / 20).await;
    }
    assert!(start.elapsed() <= most, "{:?}", start.elapsed());
}
