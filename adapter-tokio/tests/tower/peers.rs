//! What went wrong in other libraries' layers. Those not here are where their subject is: tower's jitter that repeats
//! itself and reqwest-middleware#146 in `retry.rs`; tower's `ConcurrencyLimit` that loses permits to services kept
//! ready in `gate.rs`; its `RateLimit` that each clone has for itself in `contract.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use steadfast_core::breaker::BreakerState;
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::gate::GatePolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_tokio::tower::{Again, BreakerLayer, GateLayer, HttpRequests, HttpStatus, RateLimitLayer, RetryLayer};
use steadfast_tokio::{Breaker, Gate, RateLimiter, RetryBudget};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, advance, timeout};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{Down, MILLI, SECOND, Upstream, attempts, breaker, pauses, poll_ready, rate};

/// tower-resilience#362: retries went to an inner service that had not been asked whether it is ready.
#[tokio::test(start_paused = true)]
async fn tower_resilience_362_every_retry_waits_until_the_service_is_ready() {
    let upstream = Upstream::failing();
    let layer = RetryLayer::new(attempts(4)).repeat(|request: &u32| Some(Again::Always(*request)));
    // A second attempt at once would find the limiter not ready.
    let limited = RateLimitLayer::new(RateLimiter::new(rate()));
    assert!(layer.layer(limited.layer(upstream.service())).oneshot(0).await.is_err());
    assert_eq!(upstream.calls(), 4);
}

/// tower-resilience#382 and failsafe (1000 of 1000): a half-open breaker let everybody through.
#[tokio::test(start_paused = true)]
async fn tower_resilience_382_half_open_lets_through_its_probes_and_no_more() {
    let down = Arc::new(AtomicU32::new(1));
    let is_down = Arc::clone(&down);
    let upstream =
        Upstream::new(move |n| (SECOND, Some(if is_down.load(Ordering::Relaxed) == 1 { Err(Down) } else { Ok(n) })));
    let open = BreakerLayer::new(Breaker::new(breaker()));
    let gated = GateLayer::new(Gate::new(GatePolicy::none().with_breaker(Some(breaker()))));
    for _ in 0..2 {
        let _ = open.layer(upstream.service()).oneshot(0).await;
        let _ = gated.layer(upstream.service()).oneshot(0).await;
    }
    assert_eq!(upstream.calls(), 4);
    down.store(0, Ordering::Relaxed);
    advance(12 * SECOND).await;
    let mut tasks = JoinSet::new();
    for n in 0..50 {
        tasks.spawn(open.layer(upstream.service()).oneshot(n));
        tasks.spawn(gated.layer(upstream.service()).oneshot(n));
        yield_now().await;
    }
    advance(SECOND / 2).await;
    assert_eq!(upstream.calls(), 6, "one probe each");
    let good = tasks.join_all().await.into_iter().filter(Result::is_ok).count();
    assert_eq!(good, 51, "one by the breaker, which refuses; all by the gate, which waits");
}

/// tower-resilience#363: whoever had waited was let in by the limiter without being counted.
#[tokio::test(start_paused = true)]
async fn tower_resilience_363_who_has_waited_is_counted() {
    let upstream = Upstream::healthy(Duration::ZERO);
    let layer = RateLimitLayer::new(RateLimiter::new(rate()));
    let tasks: JoinSet<_> = (0..50).map(|n| layer.layer(upstream.service()).oneshot(n)).collect();
    tasks.join_all().await;
    let begun = upstream.begun();
    for (at, start) in begun.iter().enumerate() {
        let within = begun[at..].iter().take_while(|it| it.duration_since(*start) < SECOND - MILLI).count();
        assert!(within <= 10, "{within} in a second");
    }
}

/// execution-policy, Hystrix#1621, Polly#1979, resilience4j#1681: a probe that was dropped held the breaker half-open
/// for ever.
#[tokio::test(start_paused = true)]
async fn execution_policy_a_dropped_probe_wedges_nothing() {
    let upstream = Upstream::new(|n| (SECOND, Some(if n < 4 { Err(Down) } else { Ok(n) })));
    let shared = Breaker::new(breaker());
    let gate = Gate::new(GatePolicy::none().with_breaker(Some(breaker())));
    let (open, gated) = (BreakerLayer::new(shared.clone()), GateLayer::new(gate.clone()));
    for _ in 0..2 {
        let _ = open.layer(upstream.service()).oneshot(0).await;
        let _ = gated.layer(upstream.service()).oneshot(0).await;
    }
    advance(12 * SECOND).await;
    for _ in 0..20 {
        assert!(timeout(MILLI, open.layer(upstream.service()).oneshot(0)).await.is_err());
        assert!(timeout(MILLI, gated.layer(upstream.service()).oneshot(0)).await.is_err());
        // Nor one that was taken by a service and never called.
        assert!(poll_ready(&mut gated.layer(upstream.service())).is_ready());
    }
    assert!(open.layer(upstream.service()).oneshot(0).await.is_ok());
    assert!(gated.layer(upstream.service()).oneshot(0).await.is_ok());
    assert_eq!((shared.state(), gate.breaker_state()), (BreakerState::Closed, BreakerState::Closed));
}

/// resilience4j#858: asking whether a call would be let through took the permission.
#[tokio::test(start_paused = true)]
async fn resilience4j_858_asking_whether_a_breaker_is_ready_takes_no_probe() {
    let upstream = Upstream::new(|n| (MILLI, Some(if n < 2 { Err(Down) } else { Ok(n) })));
    let layer = BreakerLayer::new(Breaker::new(breaker()));
    for _ in 0..2 {
        let _ = layer.layer(upstream.service()).oneshot(0).await;
    }
    advance(10 * SECOND).await;
    let mut kept: Vec<_> = (0..20).map(|_| layer.layer(upstream.service())).collect();
    assert!(kept.iter_mut().all(|service| poll_ready(service).is_ready()));
    assert!(layer.layer(upstream.service()).oneshot(0).await.is_ok());
}

/// tower-resilience, Polly#223: calls from before a transition were counted after it.
#[tokio::test(start_paused = true)]
async fn tower_resilience_a_late_result_from_before_closes_nothing() {
    let upstream = Upstream::new(|n| if n == 0 { (15 * SECOND, Some(Ok(n))) } else { (MILLI, Some(Err(Down))) });
    let shared = Breaker::new(breaker());
    let layer = BreakerLayer::new(shared.clone());
    let late = tokio::spawn(layer.layer(upstream.service()).oneshot(0));
    yield_now().await;
    for _ in 0..2 {
        let _ = layer.layer(upstream.service()).oneshot(0).await;
    }
    assert!(late.await.unwrap().is_ok());
    assert_eq!(shared.state(), BreakerState::HalfOpen, "only its own probes say that it is well");
}

/// reqwest-retry: a POST that had been answered by a 503 was sent three times more.
#[tokio::test(start_paused = true)]
async fn reqwest_retry_a_post_without_a_key_is_not_repeated() {
    let made = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&made);
    let upstream = service_fn(move |_: http::Request<()>| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok::<_, Down>(http::Response::builder().status(503).body(()).unwrap()))
    });
    let repeat = HttpRequests::new().keyed_by(http::HeaderName::from_static("idempotency-key"));
    let service = RetryLayer::new(attempts(4)).classify(HttpStatus::new()).repeat(repeat).layer(upstream);
    let bare = http::Request::post("/").body(()).unwrap();
    let keyed = http::Request::post("/").header("idempotency-key", "order-42").body(()).unwrap();
    for (request, total) in [(bare, 1), (keyed, 5)] {
        assert_eq!(service.clone().oneshot(request).await.unwrap().status(), 503);
        assert_eq!(made.load(Ordering::Relaxed), total);
    }
}

/// retry-policies: with a total of ten seconds, a retry was set an hour off.
#[tokio::test(start_paused = true)]
async fn retry_policies_no_pause_leads_past_the_deadline() {
    let policy = RetryPolicy::new(10, 10 * SECOND, SECOND, pauses(3_600 * SECOND)).unwrap();
    let layer = RetryLayer::new(policy).repeat(|request: &u32| Some(Again::Always(*request)));
    let start = Instant::now();
    assert!(layer.layer(Upstream::failing().service()).oneshot(0).await.is_err());
    assert_eq!(start.elapsed(), Duration::ZERO, "it stops now instead of waiting for nothing");
}

/// aws-smithy-runtime: requests that overlap leaked the budget, though each succeeded at its retry:
/// 123 pairs spent 500.
#[tokio::test(start_paused = true)]
async fn smithy_overlapping_retries_that_succeed_cost_nothing() {
    let budget = RetryBudget::new(BudgetPolicy::new(10).unwrap().with_refunds(true));
    let upstream = Upstream::new(|n| (SECOND, Some(if n % 4 < 2 { Err(Down) } else { Ok(n) })));
    let layer = RetryLayer::new(attempts(2)).repeat(|request: &u32| Some(Again::Always(*request)));
    let layer = layer.with_budget(budget.clone());
    for _ in 0..200 {
        let pair = tokio::join!(layer.layer(upstream.service()).oneshot(0), layer.layer(upstream.service()).oneshot(0));
        assert!(pair.0.is_ok() && pair.1.is_ok());
    }
    assert_eq!(budget.tokens(), 10);
}
