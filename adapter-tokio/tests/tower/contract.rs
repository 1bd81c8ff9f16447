//! tower's contract of `poll_ready` and `call`, layer by layer.

use std::task::Poll;
use std::time::Duration;

use steadfast_core::gate::{Blocked, GatePolicy, Kinds, RateLimit, WhenOpen};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_tokio::tower::{
    Again, BreakerLayer, GateLayer, GateService, LayerError, RateLimitLayer, RetryLayer, RetryService,
};
use steadfast_tokio::{Breaker, Gate, RateLimiter};
use tokio::runtime;
use tokio::time::{Instant, advance, timeout};
use tower::buffer::Buffer;
use tower::load_shed::LoadShed;
use tower::{Layer, Service, ServiceExt};

use crate::support::{
    Down, MILLI, SECOND, Strict, Upstream, assert_about, attempts, breaker, bulkhead, paced, poll, poll_ready, rate,
};

fn gated(policy: GatePolicy, upstream: &Upstream) -> (Gate, GateService<Strict>) {
    let gate = Gate::new(policy);
    (gate.clone(), GateLayer::new(gate).layer(upstream.service()))
}

type Repeating<S> = RetryService<S, steadfast_tokio::tower::AnyError, fn(&u32) -> Option<Again<u32>>>;

fn repeated<S>(most: u16, inner: S) -> Repeating<S> {
    let always: fn(&u32) -> Option<Again<u32>> = |request| Some(Again::Always(*request));
    RetryLayer::new(attempts(most)).repeat(always).layer(inner)
}

async fn trip<S: Service<u32>>(service: &mut S)
where
    S::Error: std::fmt::Debug,
{
    for _ in 0..2 {
        assert!(service.ready().await.unwrap().call(0).await.is_err());
    }
}

async fn passes_readiness_on<S: Service<u32, Error = LayerError<Down>> + Clone>(upstream: &Upstream, mut service: S) {
    upstream.set_ready(Poll::Pending);
    assert!(poll_ready(&mut service).is_pending());
    upstream.set_ready(Poll::Ready(Ok(0)));
    assert!(service.clone().oneshot(1).await.is_ok());
    upstream.set_ready(Poll::Ready(Err(Down)));
    assert_eq!(poll_ready(&mut service), Poll::Ready(Err(LayerError::Failed(Down))));
}

#[tokio::test(start_paused = true)]
async fn the_inner_services_readiness_is_passed_on() {
    let upstream = Upstream::healthy(MILLI);
    passes_readiness_on(&upstream, gated(GatePolicy::default(), &upstream).1).await;
    passes_readiness_on(&upstream, BreakerLayer::new(Breaker::new(breaker())).layer(upstream.service())).await;
    passes_readiness_on(&upstream, RateLimitLayer::new(RateLimiter::new(rate())).layer(upstream.service())).await;
    passes_readiness_on(&upstream, repeated(3, upstream.service())).await;
}

/// The upstream's services panic if they are called without having been ready. (tower-resilience#288, #297, #298, and
/// #362 for retries.)
#[tokio::test(start_paused = true)]
async fn only_an_instance_that_was_ready_is_called() {
    let upstream = Upstream::new(|n| (MILLI, Some(if n % 3 == 2 { Ok(n) } else { Err(Down) })));
    let breaker = BreakerLayer::new(Breaker::new(steadfast_core::breaker::BreakerPolicy::default()));
    let limiter = RateLimitLayer::new(RateLimiter::new(rate()));
    let stack = limiter.layer(breaker.layer(upstream.service()));
    let mut service = repeated(3, GateLayer::new(Gate::new(bulkhead(2))).layer(stack));
    for _ in 0..3 {
        assert!(service.ready().await.unwrap().call(0).await.is_ok());
        assert!(service.clone().oneshot(0).await.is_ok());
    }
    assert_eq!(upstream.calls(), 18, "two retries each");
}

#[tokio::test(start_paused = true)]
async fn ready_is_said_again_until_the_call() {
    let upstream = Upstream::failing();
    let (_, mut refusing) =
        gated(GatePolicy::none().with_breaker(Some(breaker())).with_when_open(WhenOpen::Refuse), &upstream);
    let mut open = BreakerLayer::new(Breaker::new(breaker())).layer(upstream.service());
    trip(&mut refusing).await;
    trip(&mut open).await;
    assert!(poll_ready(&mut refusing).is_ready() && poll_ready(&mut open).is_ready());
    // Both would have to wait for the inner service now, if they had not said that they are ready.
    upstream.set_ready(Poll::Pending);
    advance(11 * SECOND).await;
    assert!(poll_ready(&mut refusing).is_ready() && poll_ready(&mut open).is_ready());
    assert!(matches!(refusing.call(0).await, Err(LayerError::Refused(_))));
    assert!(matches!(open.call(0).await, Err(LayerError::Refused(_))));
    assert_eq!(upstream.calls(), 4);

    upstream.set_ready(Poll::Ready(Ok(0)));
    let (_, mut kept) = gated(paced(), &upstream);
    let mut placed = RateLimitLayer::new(RateLimiter::new(rate())).layer(upstream.service());
    for _ in 0..10 {
        assert!(poll_ready(&mut kept).is_ready() && poll_ready(&mut placed).is_ready());
        advance(50 * MILLI).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_is_not_ready_by_its_originals_leave() {
    let upstream = Upstream::healthy(MILLI);
    let (gate, mut service) = gated(bulkhead(1), &upstream);
    let mut placed = RateLimitLayer::new(RateLimiter::new(rate())).layer(upstream.service());
    assert!(poll_ready(&mut service).is_ready() && poll_ready(&mut placed).is_ready());
    assert!(poll_ready(&mut service.clone()).is_pending() && poll_ready(&mut placed.clone()).is_pending());
    assert_eq!((gate.in_flight(), gate.waiting()), (1, 0), "a clone that is gone waits no more");
}

#[tokio::test(start_paused = true)]
async fn a_ready_service_that_is_dropped_gives_everything_back() {
    let upstream = Upstream::healthy(MILLI);
    for policy in [bulkhead(1), paced()] {
        let (gate, service) = gated(policy, &upstream);
        for _ in 0..100 {
            assert!(poll_ready(&mut service.clone()).is_ready());
            // A gate counts whole milliseconds, and keeps the one that has begun.
            advance(MILLI).await;
        }
        assert_eq!(gate.in_flight(), 0);
    }
    let placed = RateLimitLayer::new(RateLimiter::new(rate())).layer(upstream.service());
    for _ in 0..100 {
        assert!(poll_ready(&mut placed.clone()).is_ready());
    }
    // What the place would have brought by now is not given back, so a later burst is no larger than allowed.
    let mut late = placed.clone();
    assert!(poll_ready(&mut late).is_ready());
    advance(30 * MILLI).await;
    drop(late);
    assert!(poll_ready(&mut placed.clone()).is_ready());
}

/// I10: a place that is kept is a place no more, or thirty services that became ready one after another could leave at
/// once.
#[tokio::test(start_paused = true)]
async fn services_that_are_kept_ready_do_not_leave_together() {
    async fn called_at_once<S: Service<u32, Error = LayerError<Down>> + Clone>(service: S) {
        let mut kept = vec![service; 30];
        for service in &mut kept {
            service.ready().await.unwrap();
        }
        advance(5 * SECOND).await;
        let calls: Vec<_> = kept.iter_mut().map(|service| service.call(0)).collect();
        for (n, call) in calls.into_iter().enumerate() {
            match call.await {
                Ok(_) => assert_eq!(n, 0),
                Err(LayerError::Refused(refused)) => assert!(n > 0 && refused.why == Blocked::Rate, "{n}: {refused}"),
                Err(error) => panic!("{n}: {error}"),
            }
        }
    }
    let (limited, by_gate) = (Upstream::healthy(Duration::ZERO), Upstream::healthy(Duration::ZERO));
    called_at_once(RateLimitLayer::new(RateLimiter::new(rate())).layer(limited.service())).await;
    called_at_once(gated(paced(), &by_gate).1).await;
    assert_eq!((limited.calls(), by_gate.calls()), (1, 1));
}

/// I10: nor beside a whole burst of others.
#[tokio::test(start_paused = true)]
async fn services_that_are_kept_ready_do_not_leave_beside_a_burst() {
    async fn called_after_a_burst<S: Service<u32, Error = LayerError<Down>> + Clone>(service: S) {
        let (mut kept, mut others) = (vec![service.clone(); 10], vec![service; 10]);
        for service in &mut kept {
            assert!(poll_ready(service).is_ready());
        }
        advance(5 * SECOND).await;
        for other in &mut others {
            assert!(poll_ready(other).is_ready());
            assert!(other.call(0).await.is_ok());
        }
        for service in &mut kept {
            assert!(matches!(service.call(0).await, Err(LayerError::Refused(_))));
        }
    }
    let upstream = Upstream::healthy(Duration::ZERO);
    let rate = rate().with_burst(10).unwrap();
    called_after_a_burst(RateLimitLayer::new(RateLimiter::new(rate)).layer(upstream.service())).await;
    let limit = RateLimit { kinds: Kinds::ALL, rate };
    called_after_a_burst(gated(GatePolicy::none().with_rate_limit(limit), &upstream).1).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_frees_its_place_and_counts_for_nothing() {
    let upstream = Upstream::silent();
    let (gate, mut service) = gated(bulkhead(1).with_breaker(Some(breaker())), &upstream);
    let mut open = BreakerLayer::new(Breaker::new(breaker())).layer(upstream.service());
    for is_polled in [false, true, false, true] {
        let mut calls = (service.ready().await.unwrap().call(0), open.ready().await.unwrap().call(0));
        assert_eq!(gate.in_flight(), 1);
        assert!(!is_polled || (poll(&mut calls.0).is_pending() && poll(&mut calls.1).is_pending()));
    }
    assert_eq!(gate.in_flight(), 0);
    assert_eq!(gate.breaker_state().name(), "closed");
    assert!(timeout(SECOND, open.ready().await.unwrap().call(0)).await.is_err(), "it is let through");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_frees_its_place() {
    let gate = Gate::new(bulkhead(1));
    let panics = tower::service_fn(|_: u32| async { panic!("in the call") as Result<u32, Down> });
    let service = GateLayer::new(gate.clone()).layer(panics);
    assert!(tokio::spawn(service.oneshot(0)).await.unwrap_err().is_panic());
    assert_eq!(gate.in_flight(), 0);
}

/// An error of `poll_ready` says that the service is dead: a buffer gives up then, for all its callers and for ever.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_outlives_a_buffer_in_front_of_it() {
    let upstream = Upstream::new(|n| (Duration::ZERO, Some(if n < 2 { Err(Down) } else { Ok(n) })));
    let layer = BreakerLayer::new(Breaker::new(breaker()));
    let mut buffered = Buffer::new(layer.layer(upstream.service()), 4);
    trip(&mut buffered).await;
    let refused = buffered.ready().await.unwrap().call(0).await.unwrap_err();
    assert!(refused.to_string().contains("open"), "{refused}");
    advance(10 * SECOND).await;
    assert_eq!(buffered.ready().await.unwrap().call(0).await.unwrap(), 2);
}

/// What waits shows that it waits: so its load can be shed.
#[tokio::test(start_paused = true)]
async fn load_is_shed_in_front_of_a_gate_and_a_limiter() {
    let upstream = Upstream::healthy(SECOND);
    let (_, service) = gated(bulkhead(1), &upstream);
    let placed = RateLimitLayer::new(RateLimiter::new(rate())).layer(upstream.service());
    let (mut service, mut placed) = (LoadShed::new(service), LoadShed::new(placed));
    let first = (service.ready().await.unwrap().call(0), placed.ready().await.unwrap().call(0));
    for _ in 0..10 {
        assert!(service.ready().await.unwrap().call(0).await.unwrap_err().to_string().contains("overloaded"));
        assert!(placed.ready().await.unwrap().call(0).await.unwrap_err().to_string().contains("overloaded"));
    }
    assert!(first.0.await.is_ok() && first.1.await.is_ok());
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_needs_no_inner_service_to_refuse() {
    let upstream = Upstream::failing();
    let policy = GatePolicy::none().with_breaker(Some(breaker())).with_when_open(WhenOpen::Refuse);
    let (_, mut refusing) = gated(policy, &upstream);
    let mut open = BreakerLayer::new(Breaker::new(breaker())).layer(upstream.service());
    trip(&mut refusing).await;
    trip(&mut open).await;
    upstream.set_ready(Poll::Pending);
    let refused = timeout(SECOND, refusing.oneshot(0)).await.expect("it waits").unwrap_err();
    let opened = timeout(SECOND, open.oneshot(0)).await.expect("it waits").unwrap_err();
    for error in [refused, opened] {
        let LayerError::Refused(refused) = error else { panic!("{error}") };
        assert_eq!((refused.why, refused.retry_in), (Blocked::Open, 10 * SECOND));
    }
}

/// So that they fit in a server, in a balancer and behind a box.
#[test]
fn services_and_futures_can_be_sent_and_shared() {
    fn fits<S: Service<u32> + Clone + Send + Sync + 'static>(_: &S)
    where
        S::Future: Send,
        S::Error: std::error::Error + Send + Sync,
    {
    }
    let upstream = Upstream::failing();
    fits(&repeated(3, gated(GatePolicy::default(), &upstream).1));
    fits(&BreakerLayer::new(Breaker::new(breaker())).layer(upstream.service()));
    fits(&RateLimitLayer::new(RateLimiter::new(rate())).layer(upstream.service()));
}

/// The limiter is one for all services of a layer, and whoever asked first goes first.
#[tokio::test(start_paused = true)]
async fn services_of_one_limiter_take_turns() {
    let upstream = Upstream::healthy(Duration::ZERO);
    let layer = RateLimitLayer::new(RateLimiter::new(rate()));
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let service = layer.layer(upstream.service());
        tasks.spawn(async move { (n, service.oneshot(n).await.unwrap()) });
        tokio::task::yield_now().await;
    }
    for (n, served) in tasks.join_all().await {
        assert_eq!(n, served, "in the order of asking");
    }
    assert_about(start.elapsed(), 1_900 * MILLI);
}

/// A program without a runtime of its own makes one for each call, say. The timer of an earlier wait, also of one that
/// was given up, belonged to the earlier one: waiting by it panicked, or lasted for ever where that runtime is there
/// and nobody drives it.
#[test]
fn a_service_goes_from_one_runtime_to_the_next() {
    let rate = RatePolicy::new(1, 50 * MILLI).unwrap();
    let upstream = Upstream::healthy(Duration::ZERO);
    goes_from_one_runtime_to_the_next(RateLimitLayer::new(RateLimiter::new(rate)).layer(upstream.service()));
    let upstream = Upstream::healthy(Duration::ZERO);
    let limit = RateLimit { rate, kinds: Kinds::ALL };
    goes_from_one_runtime_to_the_next(gated(GatePolicy::default().with_rate_limit(limit), &upstream).1);
}

fn goes_from_one_runtime_to_the_next<S: Service<u32, Response = u32, Error = LayerError<Down>>>(mut service: S) {
    let mut idle = Vec::new();
    for n in 0..6 {
        let runtime = runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let start = Instant::now();
        let called =
            runtime.block_on(async { timeout(10 * SECOND, service.ready()).await.unwrap().unwrap().call(n).await });
        assert_eq!(called, Ok(n));
        assert!(start.elapsed() < 10 * SECOND, "it was the time-out that woke it");
        // One that waits here, and is given up.
        let _ = runtime.block_on(async { timeout(MILLI, service.ready()).await.map(drop) });
        idle.extend((n % 2 == 0).then_some(runtime));
    }
}
