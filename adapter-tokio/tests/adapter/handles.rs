//! The handles for one machine alone: shared, cancel-safe, in virtual time.

use std::future::pending;
use std::sync::Barrier;
use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, BreakerState, Health, Probes, SlowCalls, Window};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_tokio::{Breaker, CallError, RateLimiter};
use tokio::time::{Instant, advance, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// Opens after two failures for ten seconds; one good probe of one closes it.
fn quick() -> BreakerPolicy {
    let open = BackoffPolicy::new(Growth::Fixed(10 * SECOND), 10 * SECOND, Jitter::None).unwrap();
    let probes = Probes { at_once: 1, successes: 1, failures: 1, lease: 60 * SECOND };
    BreakerPolicy::consecutive(2).unwrap().with_open(open).unwrap().with_probes(probes).unwrap()
}

fn trip(breaker: &Breaker) {
    for _ in 0..2 {
        assert_eq!(breaker.call(|| Err::<(), _>("down")), Err(CallError::Failed("down")));
    }
    assert!(matches!(breaker.state(), BreakerState::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_probes_and_closes() {
    let breaker = Breaker::new(quick());
    trip(&breaker);
    let refused = breaker.call_async(async { unreachable!("an open breaker polls nothing") }).await;
    assert_eq!(refused, Err::<(), _>(CallError::<&str>::Open { retry_in: 10 * SECOND }));
    advance(10 * SECOND).await;
    assert_eq!(breaker.call_async(async { Ok::<_, ()>(42) }).await, Ok(42));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_future_frees_its_probe_and_counts_for_nothing() {
    let breaker = Breaker::new(quick());
    trip(&breaker);
    advance(10 * SECOND).await;
    for _ in 0..100 {
        let cancelled = timeout(SECOND, breaker.call_async(pending::<Result<(), ()>>())).await;
        assert!(cancelled.is_err());
    }
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    assert!(breaker.call(|| Ok::<_, ()>(())).is_ok());
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_wedges_nothing() {
    let breaker = Breaker::new(quick());
    trip(&breaker);
    advance(10 * SECOND).await;
    let caller = breaker.clone();
    let panicked =
        tokio::spawn(async move { caller.call_async(async { panic!("in the call") as Result<(), ()> }).await });
    assert!(panicked.await.unwrap_err().is_panic());
    assert!(breaker.call(|| Ok::<_, ()>(())).is_ok(), "the probe's place is free");
}

#[tokio::test(start_paused = true)]
async fn what_counts_as_failure_is_the_callers_choice() {
    let breaker = Breaker::new(quick());
    let classify = |result: &Result<(), u16>| match result {
        Err(500..) => Health::Failing,
        _ => Health::Healthy,
    };
    for _ in 0..10 {
        assert!(breaker.call_classified(|| Err(404), classify).is_err());
        assert!(breaker.call_async_classified(async { Err(422) }, classify).await.is_err());
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    for _ in 0..2 {
        assert!(breaker.call_classified(|| Err(503), classify).is_err());
    }
    assert!(matches!(breaker.state(), BreakerState::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn slow_calls_are_seen_through_the_fast_path() {
    let slow = SlowCalls { longer_than: SECOND, percent: 50 };
    let policy = BreakerPolicy::rate(100, Window::Calls(4), 4).unwrap().with_slow_calls(slow).unwrap();
    let breaker = Breaker::new(policy);
    for _ in 0..4 {
        let slow = async {
            tokio::time::sleep(2 * SECOND).await;
            Ok::<_, ()>(())
        };
        breaker.call_async(slow).await.unwrap();
    }
    assert!(matches!(breaker.state(), BreakerState::Open { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_person_can_work_it_by_hand() {
    let breaker = Breaker::new(quick());
    breaker.isolate();
    assert_eq!(breaker.call(|| Ok::<_, ()>(())), Err(CallError::Open { retry_in: Duration::MAX }));
    breaker.disable();
    (0..10).for_each(|_| assert!(breaker.call(|| Err::<(), _>(())).is_err()));
    assert_eq!(breaker.state(), BreakerState::Disabled);
    breaker.reset();
    breaker.force_open(SECOND);
    assert_eq!(breaker.call(|| Ok::<_, ()>(())), Err(CallError::Open { retry_in: SECOND }));
    assert_eq!(breaker.snapshot().state(steadfast_core::Timestamp::NEVER), BreakerState::HalfOpen);
}

/// Threads that share it agree with one that had it alone.
#[test]
fn threads_that_share_a_breaker_lose_no_result() {
    for round in 0..200 {
        let breaker = Breaker::new(BreakerPolicy::rate(100, Window::Calls(400), 400).unwrap());
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    (0..100).for_each(|_| assert!(breaker.call(|| Err::<(), _>(())).is_err()));
                });
            }
        });
        assert!(matches!(breaker.state(), BreakerState::Open { .. }), "round {round}: 400 failures of 400");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limiter_lets_waiters_go_in_their_order_at_its_pace() {
    let limiter = RateLimiter::new(RatePolicy::new(10, SECOND).unwrap());
    let start = Instant::now();
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (limiter, order) = (limiter.clone(), order.clone());
        tasks.spawn(async move {
            limiter.call_in_turn(async { order.lock().unwrap().push((n, start.elapsed().as_millis())) }).await;
        });
        tokio::task::yield_now().await;
    }
    tasks.join_all().await;
    let order = order.lock().unwrap();
    let expected: Vec<_> = (0..20).map(|n| (n, n as u128 * 100)).collect();
    // tokio's timer wakes on the next millisecond.
    for ((n, at), (expected, due)) in order.iter().zip(expected) {
        assert!(*n == expected && (due..=due + 1).contains(at), "{order:?}");
    }
}

/// Fifty are before it, and all of them leave: it looks again within a second.
#[tokio::test(start_paused = true)]
async fn who_stays_moves_up_when_those_before_leave() {
    let limiter = RateLimiter::new(RatePolicy::new(10, SECOND).unwrap());
    limiter.try_acquire().unwrap();
    let began = Instant::now();
    let impatient: Vec<_> = (0..50)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { timeout(SECOND / 20, limiter.acquire()).await.is_ok() })
        })
        .collect();
    tokio::task::yield_now().await;
    let patient = [(); 3].map(|()| {
        let limiter = limiter.clone();
        tokio::spawn(async move { (limiter.acquire().await, Instant::now()).1 })
    });
    for patient in patient {
        let waited = patient.await.unwrap() - began;
        assert!(waited <= 1_500 * SECOND / 1_000, "{waited:?}");
    }
    for impatient in impatient {
        assert!(!impatient.await.unwrap());
    }
}

/// Twice as many come as the pace allows, and none of them waits for more than a second: the line must not grow by those
/// who have left, or soon nobody would be let go at all, for as long as that lasts and as long again.
#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_while_and_leave_do_not_make_the_line_longer() {
    let limiter = RateLimiter::new(RatePolicy::new(10, SECOND).unwrap());
    for minute in 0..10 {
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..60 * 20 {
            let limiter = limiter.clone();
            callers.spawn(async move { timeout(SECOND, limiter.acquire()).await.is_ok() });
            tokio::time::sleep(SECOND / 20).await;
        }
        let went = callers.join_all().await.into_iter().filter(|went| *went).count();
        assert!((540..=620).contains(&went), "{went} of 600 places were used in minute {minute}");
        assert!(limiter.try_acquire().map_or_else(|no| no.retry_in, |()| Duration::ZERO) <= SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_dropped_gives_its_place_back() {
    let limiter = RateLimiter::new(RatePolicy::new(1, 10 * SECOND).unwrap());
    limiter.acquire().await;
    for _ in 0..50 {
        assert!(timeout(Duration::from_millis(10), limiter.acquire()).await.is_err());
    }
    let waited = Instant::now();
    limiter.acquire().await;
    assert!(waited.elapsed() <= 10 * SECOND, "fifty places were given back: {:?}", waited.elapsed());
    assert_eq!(limiter.call(|| ()).unwrap_err().retry_in, 10 * SECOND);
}

/// R25 under contention: no exchange is lost, so not one too many gets through.
#[test]
fn threads_that_share_a_limiter_take_no_place_twice() {
    let limiter = RateLimiter::new(RatePolicy::new(1, 3_600 * SECOND).unwrap().with_burst(5_000).unwrap());
    let taken: usize = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..5_000).filter(|_| limiter.try_acquire().is_ok()).count())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken, 5_000);
}
