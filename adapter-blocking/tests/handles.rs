//! The handles for one machine alone, on threads.

use std::time::{Duration, Instant};

use steadfast_blocking::{Breaker, CallError, RateLimiter};
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::rate_limit::RatePolicy;

#[test]
fn a_breaker_refuses_what_two_failures_have_taught_it() {
    let breaker = Breaker::new(BreakerPolicy::consecutive(2).unwrap());
    for _ in 0..2 {
        assert_eq!(breaker.call(|| Err::<(), _>("down")), Err(CallError::Failed("down")));
    }
    let refused = breaker.call(|| -> Result<(), &str> { unreachable!("an open breaker calls nothing") });
    assert!(matches!(refused, Err(CallError::Open { .. })), "{refused:?}");
}

/// R25 of what waited: the pace holds by the system's clock, too, whoever asks.
#[test]
fn threads_that_wait_leave_at_the_pace() {
    let limiter = RateLimiter::new(RatePolicy::new(1, Duration::from_millis(2)).unwrap());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| limiter.call_in_turn(|| ())));
        }
    });
    let took = began.elapsed();
    // The first goes at once. A percent is left for the clocks to differ by.
    assert!(took >= Duration::from_micros(19 * 1_980), "twenty calls, one each 2 ms, took {took:?}");
}
