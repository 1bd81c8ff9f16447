//! The gate that tasks share: a fair line in which nobody is forgotten, and in which nobody who is not there holds up
//! others.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use steadfast_core::Kind;
use steadfast_core::breaker::BreakerState;
use steadfast_core::gate::{Blocked, GatePolicy, Request, Settled, WhenOpen};
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_tokio::tower::{BreakerLayer, GateLayer, LayerError};
use steadfast_tokio::{Breaker, Gate, Refused};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, advance, timeout};
use tower::timeout::TimeoutLayer;
use tower::{Layer, Service, ServiceExt};

use crate::support::{Down, MILLI, SECOND, Upstream, assert_about, breaker, bulkhead, paced, poll, poll_ready};

const CREATE: Request = Request::first(Kind::Create);

#[tokio::test(start_paused = true)]
async fn waiters_go_in_the_order_of_asking_and_not_one_too_many() {
    for most in [1, 3] {
        let upstream = Upstream::healthy(10 * MILLI);
        let layer = GateLayer::new(Gate::new(bulkhead(most)));
        let (start, mut tasks) = (Instant::now(), JoinSet::new());
        for n in 0..30 {
            let service = layer.layer(upstream.service());
            tasks.spawn(async move { (n, service.oneshot(n).await.unwrap()) });
            yield_now().await;
        }
        for (n, served) in tasks.join_all().await {
            assert_eq!(n, served);
        }
        assert_eq!(upstream.most_in_air(), most);
        assert_about(start.elapsed(), 10 * MILLI * (30 / most));
    }
}

/// A wake-up that is lost would show as a wait for the next recheck, a second later.
#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_makes_way_at_once() {
    for round in 0..20_u32 {
        let upstream = Upstream::healthy(10 * MILLI);
        let gate = Gate::new(bulkhead(1));
        let layer = GateLayer::new(gate.clone());
        let (start, mut tasks) = (Instant::now(), Vec::new());
        for n in 0..20 {
            tasks.push(tokio::spawn(layer.layer(upstream.service()).oneshot(n)));
            yield_now().await;
        }
        // Some while they wait, and in each round another one that has just been called and not yet run.
        for (n, task) in (0..).zip(&tasks) {
            if n > 0 && (n + round) % 3 == 0 {
                task.abort();
            }
        }
        advance(10 * MILLI).await;
        tasks[1 + round as usize % 19].abort();
        for task in tasks {
            let _ = task.await;
        }
        assert!(start.elapsed() <= 10 * MILLI * upstream.calls() as u32 + 5 * MILLI, "{:?}", start.elapsed());
        assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
    }
}

/// `select!` leaves such waits behind: a future, or a service, that is kept and not polled again.
#[tokio::test(start_paused = true)]
async fn a_wait_that_is_never_polled_again_holds_nobody_up() {
    let upstream = Upstream::healthy(10 * MILLI);
    let gate = Gate::new(bulkhead(1));
    let held = gate.acquire(CREATE).await.unwrap();
    let mut forgotten: Vec<_> = (0..50).map(|_| GateLayer::new(gate.clone()).layer(upstream.service())).collect();
    assert!(forgotten.iter_mut().all(|service| poll_ready(service).is_pending()));
    let start = Instant::now();
    let waiting = tokio::spawn({
        let gate = gate.clone();
        async move { gate.acquire(CREATE).await.unwrap().settle(Settled::Answered) }
    });
    yield_now().await;
    held.settle(Settled::Answered);
    timeout(60 * SECOND, waiting).await.expect("it is held up for ever").unwrap();
    assert!(start.elapsed() <= 3 * SECOND, "all fifty were passed over together: {:?}", start.elapsed());
    // They come late, and are served.
    for service in &mut forgotten {
        assert!(service.ready().await.unwrap().call(0).await.is_ok());
    }
    assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
}

/// Balancers keep services ready. tower's own `ConcurrencyLimit` loses its permits to them.
#[tokio::test(start_paused = true)]
async fn a_ready_service_that_is_never_called_holds_nobody_up() {
    let upstream = Upstream::healthy(10 * MILLI);
    let gate = Gate::new(bulkhead(2));
    let mut kept: Vec<_> = (0..2).map(|_| GateLayer::new(gate.clone()).layer(upstream.service())).collect();
    assert!(kept.iter_mut().all(|service| poll_ready(service).is_ready()));
    let start = Instant::now();
    let others = [
        timeout(60 * SECOND, gate.acquire(CREATE)).await.expect("it is held up for ever").unwrap(),
        gate.acquire(CREATE).await.unwrap(),
    ];
    assert_about(start.elapsed(), SECOND);
    assert_eq!(gate.in_flight(), 2, "never one too many");
    let refused = kept[0].call(0).await.unwrap_err();
    assert!(matches!(refused, LayerError::Refused(Refused { why: Blocked::Full, .. })), "{refused}");
    drop(others);
    assert!(kept[1].call(0).await.is_ok(), "it asks again");
    assert_eq!((gate.in_flight(), upstream.calls()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_came_between_ready_and_the_call_counts() {
    let upstream = Upstream::healthy(MILLI);
    let gate = Gate::new(GatePolicy::none().with_breaker(Some(breaker())));
    let mut service = GateLayer::new(gate.clone()).layer(upstream.service());
    for (block, why) in [(0, Blocked::Held), (1, Blocked::Open), (2, Blocked::Paused)] {
        service.ready().await.unwrap();
        gate.work(|machine, now| match block {
            0 => machine.hold_until(now.saturating_add(10 * SECOND)),
            1 => machine.breaker_mut().unwrap().0.force_open(now.saturating_add(10 * SECOND)),
            _ => {
                let throttled = Failure::new(Class::Throttled, Certainty::NotExecuted);
                let steadfast_core::gate::Admission::Go(permit) = machine.admit(CREATE, now) else { panic!() };
                machine.settle(permit, Settled::Failed(throttled.with_retry_after(Some(10 * SECOND))), now);
            }
        });
        let Err(LayerError::Refused(refused)) = service.call(0).await else { panic!("{why:?}") };
        assert_eq!((refused.why, refused.retry_in), (why, 10 * SECOND));
        assert_eq!(gate.in_flight(), 0);
        gate.work(|machine, now| {
            machine.hold_until(now);
            let (breaker, policy) = machine.breaker_mut().unwrap();
            breaker.reset(policy);
        });
        advance(10 * SECOND).await;
    }
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_ends_calls_those_who_wait_at_once() {
    let gate = Gate::new(GatePolicy::none());
    gate.work(|machine, now| machine.hold_until(now.saturating_add(3_600 * SECOND)));
    let mut waiting = JoinSet::new();
    for _ in 0..10 {
        let gate = gate.clone();
        waiting.spawn(async move { gate.acquire(CREATE).await.map(std::mem::forget) });
    }
    advance(90 * MILLI).await;
    yield_now().await;
    assert_eq!(gate.waiting(), 10);
    let start = Instant::now();
    gate.work(|machine, now| machine.hold_until(now));
    assert!(waiting.join_all().await.iter().all(Result::is_ok), "each that goes calls the next");
    assert_about(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_one_who_is_called_and_has_not_come_yet() {
    let gate = Gate::new(bulkhead(1));
    let held = gate.acquire(CREATE).await.unwrap();
    let mut first = Box::pin(gate.acquire(CREATE));
    assert!(poll(&mut first).is_pending());
    held.settle(Settled::Answered);
    let mut late = Box::pin(gate.acquire(CREATE));
    assert!(poll(&mut late).is_pending() && gate.try_acquire(CREATE).is_err());
    assert!(first.await.is_ok());
    assert!(timeout(SECOND, late).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_kind_does_not_wait_for_anothers_limit() {
    use steadfast_core::gate::{Kinds, RateLimit};
    let creates = RateLimit { kinds: Kinds::of(&[Kind::Create]), rate: crate::support::rate() };
    let gate = Gate::new(GatePolicy::none().with_rate_limit(creates));
    gate.acquire(CREATE).await.unwrap().settle(Settled::Answered);
    let mut waits = Box::pin(gate.acquire(CREATE));
    assert!(poll(&mut waits).is_pending());
    assert_eq!(gate.try_acquire(CREATE).unwrap_err().why, Blocked::Line, "nobody overtakes");
    assert!(gate.try_acquire(Request::first(Kind::Poll)).is_ok());
    assert!(
        GateLayer::new(gate.clone())
            .with_kind(Kind::Poll)
            .layer(Upstream::healthy(MILLI).service())
            .oneshot(0)
            .await
            .is_ok()
    );
}

/// One limit for all kinds, and callers of one kind that want all of it and more: those of another have their turn, in
/// the order of asking.
#[tokio::test(start_paused = true)]
async fn no_kind_of_request_starves_another() {
    for (busy, other) in [(Kind::Create, Kind::Poll), (Kind::Poll, Kind::Create), (Kind::Lookup, Kind::Poll)] {
        for policy in [bulkhead(1), paced()] {
            let gate = Gate::new(policy);
            let mut tasks = JoinSet::new();
            for _ in 0..3 {
                let gate = gate.clone();
                tasks.spawn(async move {
                    loop {
                        let permit = gate.acquire(Request::first(busy)).await.unwrap();
                        tokio::time::sleep(100 * MILLI).await;
                        permit.settle(Settled::Answered);
                    }
                });
            }
            tokio::time::sleep(SECOND).await;
            for _ in 0..10 {
                let start = Instant::now();
                let permit = timeout(60 * SECOND, gate.acquire(Request::first(other))).await;
                let waited = start.elapsed();
                assert!(permit.is_ok(), "starved by {busy:?}: {other:?}");
                // Three are before it, and one is under way.
                assert!(waited <= 410 * MILLI, "{other:?} waited {waited:?} beside {busy:?}");
                permit.unwrap().unwrap().settle(Settled::Answered);
            }
            tasks.shutdown().await;
            assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
        }
    }
}

/// The cross-layer law of an outage: those who waited do not all come back at once.
#[tokio::test(start_paused = true)]
async fn after_an_outage_they_leave_one_probe_first_and_then_at_the_limits_pace() {
    let up_at = Instant::now() + 15 * SECOND;
    let upstream = Upstream::new(move |n| (MILLI, Some(if Instant::now() < up_at { Err(Down) } else { Ok(n) })));
    let layer = GateLayer::new(Gate::new(paced().with_breaker(Some(breaker()))));
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        tasks.spawn(layer.layer(upstream.service()).oneshot(n));
        yield_now().await;
    }
    let failed = tasks.join_all().await.into_iter().filter(Result::is_err).count();
    assert_eq!(failed, 3, "two opened it, and one was the probe that came too early; the others waited");
    let begun = upstream.begun();
    assert_about(begun[2] - begun[1], 10 * SECOND + MILLI);
    assert_about(begun[3] - begun[2], 10 * SECOND + MILLI);
    for pair in begun[3..].windows(2) {
        assert!(pair[1] - pair[0] >= 100 * MILLI, "{:?}", pair[1] - pair[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusing_gate_refuses_all_who_wait_when_the_breaker_opens() {
    let upstream = Upstream::new(|_| (SECOND / 2, Some(Err(Down))));
    let policy = bulkhead(2).with_breaker(Some(breaker())).with_when_open(WhenOpen::Refuse);
    let layer = GateLayer::new(Gate::new(policy));
    let (start, mut tasks) = (Instant::now(), JoinSet::new());
    for n in 0..20 {
        tasks.spawn(layer.layer(upstream.service()).oneshot(n));
        yield_now().await;
    }
    let refused = tasks.join_all().await.into_iter().filter(|it| matches!(it, Err(LayerError::Refused(_)))).count();
    assert_eq!((refused, upstream.calls()), (18, 2));
    assert_about(start.elapsed(), SECOND / 2);
}

/// The trap of every stack: a time-out outside a breaker drops the call, and a dropped call counts for nothing.
#[tokio::test(start_paused = true)]
async fn a_time_out_opens_the_breaker_inside_and_not_outside() {
    let upstream = Upstream::silent();
    let gate = Gate::new(GatePolicy::none().with_breaker(Some(breaker())));
    let shared = Breaker::new(breaker());
    let gated = GateLayer::new(gate.clone());
    let broken = BreakerLayer::new(shared.clone());
    let outside = TimeoutLayer::new(SECOND);
    for _ in 0..5 {
        assert!(timeout(SECOND, gated.layer(upstream.service()).oneshot(0)).await.is_err());
        assert!(outside.layer(broken.layer(upstream.service())).oneshot(0).await.is_err());
    }
    assert_eq!((gate.breaker_state(), shared.state()), (BreakerState::Closed, BreakerState::Closed));
    for _ in 0..2 {
        let timed_out = gated.clone().with_timeout(SECOND).layer(upstream.service()).oneshot(0).await;
        assert!(matches!(timed_out, Err(LayerError::TimedOut { after: SECOND, .. })));
        let timed_out = broken.clone().with_timeout(SECOND).layer(upstream.service()).oneshot(0).await;
        assert!(matches!(timed_out, Err(LayerError::TimedOut { .. })));
    }
    assert!(matches!(gate.breaker_state(), BreakerState::Open { .. }));
    assert!(matches!(shared.state(), BreakerState::Open { .. }));
}

#[test]
fn threads_that_share_a_gate_let_in_no_one_too_many_and_lose_nobody() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    let upstream = Arc::new(Upstream::healthy(Duration::ZERO));
    let gate = Gate::new(bulkhead(3));
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for task in 0..16_u32 {
            let mut service = GateLayer::new(gate.clone()).layer(upstream.service());
            tasks.spawn(async move {
                for n in 0..200 {
                    if (n + task).is_multiple_of(5) {
                        // Ready, and not called.
                        service.ready().await.unwrap();
                        service = service.clone();
                    } else if (n + task).is_multiple_of(7) {
                        let mut call = service.ready().await.unwrap().call(n);
                        let _ = poll_once(&mut call).await;
                    } else {
                        assert!(service.ready().await.unwrap().call(n).await.is_ok());
                    }
                }
            });
        }
        let all = timeout(60 * SECOND, tasks.join_all()).await;
        assert!(all.is_ok(), "{gate:?}");
    });
    assert!(upstream.most_in_air() <= 3);
    assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}

fn refusing() -> Gate {
    Gate::new(GatePolicy::none().with_breaker(Some(breaker())).with_when_open(WhenOpen::Refuse))
}

fn open(gate: &Gate, span: Duration) {
    gate.work(|machine, now| machine.breaker_mut().unwrap().0.force_open(now.saturating_add(span)));
}

/// Balancers keep services for hours; what was refused then says nothing of now.
#[tokio::test(start_paused = true)]
async fn what_was_ready_to_refuse_is_asked_again_when_it_is_called() {
    let upstream = Upstream::healthy(MILLI);
    let gate = refusing();
    let shared = Breaker::new(breaker());
    let mut services = [0; 3].map(|_| {
        let gated = GateLayer::new(gate.clone()).layer(upstream.service());
        (gated, BreakerLayer::new(shared.clone()).layer(upstream.service()))
    });
    open(&gate, 60 * SECOND);
    shared.force_open(60 * SECOND);
    for (gated, broken) in &mut services {
        assert!(poll_ready(gated).is_ready() && poll_ready(broken).is_ready());
    }
    let [early, busy, late] = &mut services;

    advance(40 * SECOND).await;
    for error in [early.0.call(0).await.unwrap_err(), early.1.call(0).await.unwrap_err()] {
        let LayerError::Refused(refused) = error else { panic!("{error}") };
        assert_eq!((refused.why, refused.retry_in), (Blocked::Open, 20 * SECOND), "as it is now");
    }

    advance(3_600 * SECOND).await;
    upstream.set_ready(Poll::Pending);
    for error in [busy.0.call(0).await.unwrap_err(), busy.1.call(0).await.unwrap_err()] {
        let LayerError::Refused(refused) = error else { panic!("{error}") };
        assert_eq!(refused.retry_in, Duration::ZERO, "it is only the inner service that is not ready");
    }
    assert_eq!((upstream.calls(), gate.in_flight()), (0, 0));

    upstream.set_ready(Poll::Ready(Ok(0)));
    assert!(late.0.call(0).await.is_ok() && late.1.call(0).await.is_ok());
    assert_eq!((upstream.calls(), gate.in_flight(), gate.breaker_state()), (2, 0, BreakerState::Closed));
    assert_eq!(shared.state(), BreakerState::Closed, "the unsent ones have kept no probe");
}

/// Only an operator ends it: whoever repeats a call until then repeats it for nothing.
#[tokio::test(start_paused = true)]
async fn an_isolated_upstream_is_refused_for_good_by_gate_and_breaker_alike() {
    let upstream = Upstream::healthy(MILLI);
    let (gate, waiting) = (refusing(), Gate::new(GatePolicy::none().with_breaker(Some(breaker()))));
    let shared = Breaker::new(breaker());
    let mut ready = GateLayer::new(waiting.clone()).layer(upstream.service());
    assert!(poll_ready(&mut ready).is_ready());
    for gate in [&gate, &waiting] {
        gate.work(|machine, _| machine.breaker_mut().unwrap().0.isolate());
    }
    shared.isolate();
    let errors = [
        GateLayer::new(gate.clone()).layer(upstream.service()).oneshot(0).await.unwrap_err(),
        BreakerLayer::new(shared).layer(upstream.service()).oneshot(0).await.unwrap_err(),
        ready.call(0).await.unwrap_err(),
        LayerError::Refused(gate.acquire(CREATE).await.unwrap_err()),
        LayerError::Refused(gate.try_acquire(CREATE).unwrap_err()),
    ];
    for (n, error) in errors.into_iter().enumerate() {
        let failure = error.failure(|_| panic!("{n}: it was called"));
        assert_eq!(failure, Failure::new(Class::Permanent, Certainty::NotExecuted), "{n}: {error}");
        assert!(error.to_string().contains("(isolated)"), "{n}: {error}");
    }
    gate.work(|machine, _| {
        let (breaker, policy) = machine.breaker_mut().unwrap();
        breaker.reset(policy);
    });
    assert!(GateLayer::new(gate).layer(upstream.service()).oneshot(0).await.is_ok());
}

/// Where only time brings the next place, somebody has an eye on the time: whoever is first now.
#[tokio::test(start_paused = true)]
async fn those_who_wait_leave_at_the_limits_pace_and_no_slower() {
    let gate = Gate::new(paced());
    let (start, mut tasks) = (Instant::now(), JoinSet::new());
    for _ in 0..51 {
        let gate = gate.clone();
        tasks.spawn(async move { gate.acquire(CREATE).await.unwrap().settle(Settled::Answered) });
    }
    tasks.join_all().await;
    assert_about(start.elapsed(), 5 * SECOND);
}
