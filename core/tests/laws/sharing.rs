//! What threads that share a machine tell it in bulk comes to the same as one by one.

use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::breaker::{Breaker, BreakerPolicy, Health, Window};
use steadfast_core::rate_limit::{RateLimiter, RatePolicy};
use steadfast_core::{Seed, Timestamp};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

proptest! {
    #[test]
    fn as_many_places_at_once_as_one_by_one(burst in 1_u32..20, steps in prop::collection::vec((0_u64..3_000, 0_u32..30), 1..60)) {
        let policy = RatePolicy::new(1, Duration::from_nanos(1_000)).unwrap().with_burst(burst).unwrap();
        let (mut at_once, mut one_by_one, mut now) = (RateLimiter::new(), RateLimiter::new(), START);
        for (gap, most) in steps {
            now = now.saturating_add(Duration::from_nanos(gap));
            let mut taken = Ok(0);
            for n in 1..=most {
                match one_by_one.try_acquire(&policy, now) {
                    Ok(()) => taken = Ok(n),
                    Err(at) if n == 1 => taken = Err(at),
                    Err(_) => {}
                }
            }
            prop_assert_eq!(at_once.try_acquire_up_to(&policy, most, now), taken);
            prop_assert_eq!(at_once, one_by_one);
        }
    }

    /// Whatever was taken and is given back at once was never taken.
    #[test]
    fn places_given_back_are_there_again(burst in 1_u32..20, taken in 0_u32..20, gap in 0_u64..30_000) {
        let policy = RatePolicy::new(1, Duration::from_nanos(1_000)).unwrap().with_burst(burst).unwrap();
        let mut limiter = RateLimiter::new();
        limiter.try_acquire(&policy, START).unwrap();
        let now = START.saturating_add(Duration::from_nanos(gap));
        let free = |mut limiter: RateLimiter| limiter.try_acquire_up_to(&policy, u32::MAX, now).unwrap_or(0);
        let before = free(limiter);
        let taken = limiter.try_acquire_up_to(&policy, taken, now).unwrap_or(0);
        prop_assert_eq!(free(limiter), before - taken);
        limiter.give_back(&policy, taken);
        prop_assert_eq!(free(limiter), before);
    }

    /// Runs of good calls, told at once before each bad one, leave the counts that single ones do, wherever the window's ring stands.
    #[test]
    fn good_calls_told_at_once_count_as_one_by_one(
        size in 1_u16..=512, span in 1_u64..300, timed: bool, runs in prop::collection::vec((0_u32..700, 0_u64..20), 1..40),
    ) {
        let window = if timed { Window::Time(Duration::from_millis(span)) } else { Window::Calls(size) };
        let policy = BreakerPolicy::rate(100, window, u32::from(size)).unwrap();
        let new = || Breaker::new(&policy, Seed::new(1));
        let (mut at_once, mut one_by_one, mut now) = (new(), new(), START);
        for (good, gap) in runs {
            now = now.saturating_add(Duration::from_millis(gap));
            let settle = |breaker: &mut Breaker, health| {
                if let Ok(ticket) = breaker.admit(&policy, now) {
                    breaker.settle(&policy, ticket, health, now);
                }
            };
            (0..good).for_each(|_| settle(&mut one_by_one, Health::Healthy));
            if now < at_once.counts_until() {
                at_once.absorb(&policy, good);
            } else {
                (0..good).for_each(|_| settle(&mut at_once, Health::Healthy));
            }
            prop_assert_eq!(at_once.counts(now), one_by_one.counts(now));
            settle(&mut one_by_one, Health::Failing);
            settle(&mut at_once, Health::Failing);
            prop_assert_eq!(at_once.counts(now), one_by_one.counts(now));
            prop_assert_eq!((at_once.state(now), at_once.epoch()), (one_by_one.state(now), one_by_one.epoch()));
        }
    }
}

#[test]
fn a_burst_of_which_too_much_is_set_aside_is_refused() {
    let policy = RatePolicy::new(10, Duration::from_secs(1)).unwrap().with_burst(5).unwrap();
    assert_eq!(policy.set_aside(4, 1).unwrap().burst(), 1);
    assert_eq!(policy.set_aside(0, 5).unwrap().burst(), 5);
    for (count, least) in [(5, 1), (4, 2), (0, 6), (u32::MAX, u32::MAX)] {
        assert_eq!(policy.set_aside(count, least).unwrap_err().field(), "rate.burst");
    }
}
