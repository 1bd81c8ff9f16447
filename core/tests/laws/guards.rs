//! Rate limiter, retry budget and bulkhead under random histories.

use core::num::{NonZeroU8, NonZeroU32};
use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::Timestamp;
use steadfast_core::budget::{BudgetPolicy, Costs, RetryBudget, Tokens};
use steadfast_core::bulkhead::{Bulkhead, BulkheadPolicy, Load};
use steadfast_core::rate_limit::{Allowance, Quota, RateLimiter, RatePolicy, try_acquire_all};
use steadfast_core::retry::Class;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn rate() -> impl Strategy<Value = RatePolicy> {
    (1_u32..2_000, 2_000_u64..90_000_000_000, 1_u32..50).prop_map(|(count, per, burst)| {
        RatePolicy::new(count, Duration::from_nanos(per)).unwrap().with_burst(burst).unwrap()
    })
}

/// Waits between asks: none, short, long.
fn gaps() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![Just(0), 0_u64..1_000_000, 0_u64..30_000_000_000], 1..300)
}

proptest! {
    /// I10 and R25, in every span of the history.
    #[test]
    fn i10_r25_no_span_sees_more_than_the_pace_and_the_burst(policy in rate(), gaps in gaps()) {
        let (mut limiter, mut now, mut left) = (RateLimiter::new(), START, Vec::new());
        for gap in gaps {
            now = now.saturating_add(Duration::from_nanos(gap));
            if limiter.try_acquire(&policy, now).is_ok() {
                left.push(now);
            }
        }
        for (from, start) in left.iter().enumerate() {
            for (to, end) in left.iter().enumerate().skip(from) {
                let span = end.saturating_since(*start).as_nanos();
                let paced = span * u128::from(policy.count()) / policy.per().as_nanos();
                prop_assert!(((to - from) as u128) < paced + u128::from(policy.burst()));
            }
        }
    }

    #[test]
    fn r26_a_wait_is_exact_to_the_nanosecond(policy in rate(), gaps in gaps()) {
        let (mut limiter, mut now) = (RateLimiter::new(), START);
        for gap in gaps {
            now = now.saturating_add(Duration::from_nanos(gap));
            if let Err(at) = limiter.try_acquire(&policy, now) {
                prop_assert!(at > now);
                prop_assert!(limiter.check(&policy, at.saturating_sub(Duration::from_nanos(1))).is_err());
                prop_assert_eq!(limiter.check(&policy, at), Ok(()));
            }
        }
    }

    #[test]
    fn reservations_are_first_come_first_served(policy in rate(), gaps in gaps()) {
        let (mut limiter, mut now, mut last) = (RateLimiter::new(), START, Timestamp::EPOCH);
        for gap in gaps {
            now = now.saturating_add(Duration::from_nanos(gap));
            let place = limiter.reserve(&policy, 1, now).unwrap();
            prop_assert!(place.at() >= now && place.at() >= last);
            last = place.at();
        }
    }

    #[test]
    fn several_limits_take_from_all_or_from_none(first in rate(), second in rate(), gaps in gaps()) {
        let policies = [first, second];
        let (mut limiters, mut now) = ([RateLimiter::new(); 2], START);
        for gap in gaps {
            now = now.saturating_add(Duration::from_nanos(gap));
            let before = limiters;
            match try_acquire_all(&policies, &mut limiters, now) {
                Ok(()) => prop_assert!(limiters[0] > before[0] && limiters[1] > before[1]),
                Err(at) => {
                    prop_assert_eq!(limiters, before);
                    prop_assert_eq!(try_acquire_all(&policies, &mut limiters, at), Ok(()));
                    limiters = before;
                }
            }
        }
    }

    /// A limiter that is asked at hostile times neither panics nor lets anything through for nothing.
    #[test]
    fn no_time_panics(policy in rate(), times: Vec<u64>) {
        let mut limiter = RateLimiter::new();
        for time in times {
            let now = Timestamp::from_nanos(time);
            let _ = limiter.try_acquire_many(&policy, 3, now);
            if let Some(place) = limiter.reserve(&policy, 1, now) {
                limiter.cancel(&policy, place, now);
            }
        }
        prop_assert_eq!(limiter.try_acquire(&policy, Timestamp::NEVER), Err(Timestamp::NEVER));
    }

    /// R7: what is granted was there at first, or came in since.
    #[test]
    fn r7_retries_never_cost_more_than_there_was(
        capacity in 1_u32..60, per_request in 0_u64..2_000_000, per_success in 0_u64..2_000_000, per_second in 0_u64..3_000_000,
        refunds: bool, cost in 1_u8..4, steps in prop::collection::vec((0_u8..4, 0_u64..2_000), 0..300),
    ) {
        let cost = NonZeroU8::new(cost).unwrap();
        prop_assume!(u32::from(cost.get()) <= capacity);
        let policy = BudgetPolicy::new(capacity).unwrap().with_costs(Costs::all(cost)).unwrap()
            .with_per_request(Tokens::millionths(per_request)).with_per_success(Tokens::millionths(per_success))
            .with_per_second(Tokens::millionths(per_second)).with_refunds(refunds);
        let (mut budget, mut now) = (RetryBudget::new(&policy), START);
        let (mut there, mut spent, mut charges) = (f64::from(capacity), 0.0, Vec::new());
        // The first touch starts the clock.
        budget.first_attempt(&policy, now);
        there += per_request as f64 / 1e6;
        for (step, millis) in steps {
            now = now.saturating_add(Duration::from_millis(millis));
            there += per_second as f64 / 1e6 * millis as f64 / 1e3;
            match step {
                0 => {
                    budget.first_attempt(&policy, now);
                    there += per_request as f64 / 1e6;
                }
                1 => match budget.withdraw(&policy, Class::Transient, now) {
                    Ok(charge) => {
                        spent += f64::from(cost.get());
                        charges.push(charge);
                    }
                    Err(exhausted) => {
                        prop_assert!(exhausted.until > now);
                        if exhausted.until < Timestamp::NEVER {
                            prop_assert_eq!(budget.check(&policy, Class::Transient, exhausted.until), Ok(()), "time alone has brought it");
                        }
                    }
                },
                2 => {
                    let charge = charges.pop();
                    there += match charge {
                        Some(_) if refunds => f64::from(cost.get()),
                        _ => per_success as f64 / 1e6,
                    };
                    budget.succeeded(&policy, charge, now);
                }
                _ => {
                    if let Some(charge) = charges.pop() {
                        budget.refund(&policy, charge);
                        spent -= f64::from(cost.get());
                    }
                }
            }
            prop_assert!(budget.tokens(&policy, now) <= capacity);
            prop_assert!(spent <= there + 1e-3, "R7: {} spent of {}", spent, there);
        }
    }

    /// Never more than the limit; all gone in the end.
    #[test]
    fn i8_a_bulkhead_lets_no_more_in_than_its_limit(
        least in 1_u32..4, more in 0_u32..4, steps in prop::collection::vec(any::<(bool, u8)>(), 0..200),
    ) {
        let policy = BulkheadPolicy::adaptive(least, least, least + more).unwrap();
        let (mut bulkhead, mut inside) = (Bulkhead::new(&policy), 0_u32);
        for (enters, pick) in steps {
            if enters {
                let entered = bulkhead.admit(&policy).is_ok();
                prop_assert_eq!(entered, inside < bulkhead.limit(&policy));
                inside += u32::from(entered);
            } else if inside > 0 {
                let load = [Load::Bearable, Load::TooMuch, Load::Unknown][usize::from(pick) % 3];
                bulkhead.settle(&policy, load, START, START);
                inside -= 1;
            }
            prop_assert_eq!(bulkhead.in_flight(), inside);
            prop_assert!((least..=least + more).contains(&bulkhead.limit(&policy)));
        }
        for _ in 0..inside {
            bulkhead.settle(&policy, Load::Unknown, START, START);
        }
        prop_assert_eq!(bulkhead.in_flight(), 0, "I8");
    }

    #[test]
    fn an_allowance_keeps_to_what_the_provider_says(remaining in 0_u32..50, in_flight in 0_u32..60, reset in 1_u64..100_000) {
        let mut allowance = Allowance::new();
        let reset = Duration::from_secs(reset);
        allowance.learn(Quota { remaining: Some(remaining), reset: Some(reset), ..Quota::default() }, in_flight, START);
        let mut left = 0;
        while let Ok(()) = allowance.check(START) {
            allowance.take();
            left += 1;
        }
        prop_assert_eq!(left, remaining.saturating_sub(in_flight));
        let until = allowance.check(START).unwrap_err();
        prop_assert!(until <= START.saturating_add(Allowance::LONGEST), "however far off the reset is said to be");
        prop_assert_eq!(allowance.check(until), Ok(()));
    }
}

/// Never faster than said, and slower by less than a nanosecond a request, however many there are.
#[test]
fn r25_a_spacing_that_is_not_whole_drifts_by_less_than_a_nanosecond_a_request() {
    let policy = RatePolicy::new(7, SECOND).unwrap();
    let (mut limiter, mut now) = (RateLimiter::new(), START);
    let asks = 1_000_000_u32;
    for _ in 0..asks {
        while let Err(at) = limiter.try_acquire(&policy, now) {
            now = at;
        }
    }
    let exact = Duration::from_nanos(u64::from(asks - 1) * 1_000_000_000 / 7);
    let drift = now.saturating_since(START) - exact;
    assert!(drift < Duration::from_nanos(asks.into()), "{drift:?}");
}

#[test]
fn no_more_is_taken_at_once_than_the_burst_holds() {
    let policy = RatePolicy::new(10, SECOND).unwrap().with_burst(3).unwrap();
    let mut limiter = RateLimiter::new();
    assert_eq!(limiter.try_acquire_many(&policy, 4, START), Err(Timestamp::NEVER));
    assert_eq!((limiter.reserve(&policy, 4, START), limiter), (None, RateLimiter::new()));
    assert_eq!(limiter.try_acquire_many(&policy, 3, START), Ok(()));
    assert_eq!(limiter.check(&policy, START), Err(START.saturating_add(SECOND / 10)));
    assert_eq!(try_acquire_all(&[policy], &mut [], START), Err(Timestamp::NEVER), "a limit without its limiter");
    assert_eq!(RateLimiter::from_word(limiter.to_word()), limiter);
    assert_eq!((policy.count(), policy.per(), policy.burst()), (10, SECOND, 3));
}

#[test]
fn a_reservation_may_be_cancelled_until_its_time_and_not_after() {
    let policy = RatePolicy::new(10, SECOND).unwrap();
    let mut full = RateLimiter::new();
    full.try_acquire(&policy, START).unwrap();
    let (mut reserved, before) = (full, full);
    let place = reserved.reserve(&policy, 1, START).unwrap();
    assert_eq!(place.at(), START.saturating_add(SECOND / 10));
    let (mut late, after) = (reserved, reserved);
    reserved.cancel(&policy, place, place.at());
    assert_eq!(reserved, before);
    late.cancel(&policy, place, place.at().saturating_add(Duration::from_nanos(1)));
    assert_eq!(late, after, "it is spent");
    late.cancel_late(&policy, place, place.at().saturating_add(SECOND / 10 - Duration::from_nanos(1)));
    assert_eq!(after.to_word() - late.to_word(), 1, "but for what is left of it");
}

#[test]
fn an_allowance_takes_back_what_was_not_used_and_ends_within_a_day_of_a_restart() {
    let mut allowance = Allowance::new();
    let ahead = START.saturating_add(365 * 86_400 * SECOND);
    allowance.learn(Quota { remaining: Some(1), reset: Some(SECOND), ..Quota::default() }, 0, ahead);
    allowance.take();
    let (mut given, restored) = (allowance, allowance.restored(START));
    given.give_back();
    assert_eq!((allowance.check(ahead), given.check(ahead)), (Err(ahead.saturating_add(SECOND)), Ok(())));
    assert_eq!(restored.check(START), Err(START.saturating_add(Allowance::LONGEST)));
    assert_eq!(allowance.restored(ahead), allowance);
}

#[test]
fn a_budget_says_exactly_when_there_is_enough_and_never_if_there_never_is() {
    let cost = |tokens| NonZeroU8::new(tokens).unwrap();
    let costs = Costs { transient: cost(2), throttled: cost(10), timed_out: cost(11) };
    let policy = BudgetPolicy::new(10).unwrap().with_costs(costs).unwrap().with_per_second(Tokens::whole(1));
    assert_eq!((policy.capacity(), policy.per_second(), policy.costs()), (10, Tokens::whole(1), costs));
    let mut budget = RetryBudget::new(&policy);
    for _ in 0..5 {
        let _ = budget.withdraw(&policy, Class::Transient, START).unwrap();
    }
    let until = |why| budget.check(&policy, why, START).unwrap_err().until;
    let nanosecond = Duration::from_nanos(1);
    assert_eq!(until(Class::Transient), START.saturating_add(2 * SECOND + nanosecond));
    assert_eq!(until(Class::Throttled), START.saturating_add(10 * SECOND + nanosecond), "all that it can hold");
    assert_eq!(until(Class::TimedOut), Timestamp::NEVER, "more than it can ever hold");
    let restored = budget.restored(START.saturating_sub(7 * SECOND));
    assert_eq!(restored.tokens(&policy, START), 7, "by a clock that was ahead; time brings its share all the same");
    assert_eq!(budget.restored(START.saturating_add(7 * SECOND)), budget);
}

/// gRFC A6: a tenth of a token for each success, and none is spent below the half.
#[test]
fn the_budgets_of_grpc_and_finagle_are_theirs() {
    let policy = BudgetPolicy::grpc();
    let mut budget = RetryBudget::new(&policy);
    let spend = |budget: &mut RetryBudget| {
        (0..20).take_while(|_| budget.withdraw(&policy, Class::Transient, START).is_ok()).count()
    };
    assert_eq!((spend(&mut budget), budget.tokens(&policy, START)), (4, 6));
    for n in 1..=10 {
        budget.succeeded(&policy, None, START);
        assert_eq!(budget.tokens(&policy, START), if n < 10 { 6 } else { 7 });
    }
    assert_eq!(spend(&mut budget), 1);

    let policy = BudgetPolicy::ratio(50, 2).unwrap();
    let mut budget = RetryBudget::new(&policy);
    assert_eq!((policy.capacity(), budget.tokens(&policy, START)), (5_020, 20), "ten seconds' reserve at first");
    budget.first_attempt(&policy, START);
    assert_eq!(budget.tokens(&policy, START), 20);
    budget.first_attempt(&policy, START);
    assert_eq!(budget.tokens(&policy, START), 21, "half a token each");
    assert_eq!(budget.tokens(&policy, START.saturating_add(SECOND)), 23, "and two a second");
}

#[test]
fn a_limit_that_nobody_comes_near_does_not_grow() {
    let policy = BulkheadPolicy::adaptive(1, 10, 100).unwrap();
    assert_eq!((policy.initial(), policy.bounds()), (10, (1, 100)));
    let mut bulkhead = Bulkhead::new(&policy);
    for together in [4, 5] {
        let before = bulkhead.limit(&policy);
        for _ in 0..40 {
            while bulkhead.in_flight() < together {
                bulkhead.admit(&policy).unwrap();
            }
            bulkhead.settle(&policy, Load::Bearable, START, START);
        }
        assert_eq!(bulkhead.limit(&policy) > before, together == 5, "half of it");
        (0..bulkhead.in_flight()).for_each(|_| bulkhead.settle(&policy, Load::Unknown, START, START));
    }
}

#[test]
fn an_adaptive_limit_grows_by_one_a_round_and_is_cut_once_for_all_that_was_under_way() {
    let policy = BulkheadPolicy::adaptive(1, 10, 100).unwrap();
    let mut bulkhead = Bulkhead::new(&policy);
    let at = |secs: u64| START.saturating_add(Duration::from_secs(secs));
    let fill = |bulkhead: &mut Bulkhead| while bulkhead.admit(&policy).is_ok() {};
    // As many ends as there is room for make one round.
    for round in 0..3 {
        for _ in 0..10 + round {
            fill(&mut bulkhead);
            bulkhead.settle(&policy, Load::Bearable, at(round), at(round + 1));
        }
    }
    assert!((12..=13).contains(&bulkhead.limit(&policy)), "{}", bulkhead.limit(&policy));
    fill(&mut bulkhead);
    let before = bulkhead.limit(&policy);
    for _ in 0..10 {
        bulkhead.settle(&policy, Load::TooMuch, at(10), at(11));
    }
    assert_eq!(bulkhead.limit(&policy), before / 2, "ten signs of one overload are one");
    fill(&mut bulkhead);
    bulkhead.settle(&policy, Load::TooMuch, at(11), at(12));
    assert_eq!(bulkhead.limit(&policy), before / 2, "one let in at the moment of the cut is of that overload");
    fill(&mut bulkhead);
    bulkhead.settle(&policy, Load::TooMuch, at(12), at(13));
    assert_eq!(bulkhead.limit(&policy), before / 4, "a request let in after the cut is news");
}

#[test]
fn a_bulkhead_that_is_narrowed_keeps_all_else() {
    let adaptive = |least, initial, most| BulkheadPolicy::adaptive(least, initial, most).unwrap().with_decrease(80);
    let narrowed = |policy: BulkheadPolicy| policy.at_most(NonZeroU32::new(64).unwrap());
    for ((least, initial, most), (less, first, limit)) in [
        ((1, 20, 200), (1, 20, 64)),
        ((1, 100, 200), (1, 64, 64)),
        ((100, 100, 100), (64, 64, 64)),
        ((1, 20, 50), (1, 20, 50)),
    ] {
        assert_eq!(adaptive(least, initial, most).map(narrowed), adaptive(less, first, limit));
    }
}

/// R7, to the last fraction: what time brings to a full one is gone, and does not make the next token come sooner.
#[test]
fn r7_a_full_budget_keeps_nothing_beyond_its_size() {
    let policy = BudgetPolicy::new(1).unwrap().with_costs(Costs::all(NonZeroU8::MIN)).unwrap();
    let policy = policy.with_per_request(Tokens::millionths(0)).with_per_second(Tokens::millionths(300_000));
    let mut budget = RetryBudget::new(&policy);
    budget.first_attempt(&policy, START);
    let later = START.saturating_add(Duration::from_micros(1));
    budget.first_attempt(&policy, later);
    assert!(budget.withdraw(&policy, Class::Transient, later).is_ok());
    let whole = Duration::from_nanos(3_333_333_334);
    let early = later.saturating_add(whole - Duration::from_nanos(500));
    assert!(budget.check(&policy, Class::Transient, early).is_err(), "a token takes its whole time");
    assert_eq!(budget.check(&policy, Class::Transient, later.saturating_add(whole)), Ok(()));
}

#[test]
fn nonsense_is_refused_and_the_error_says_what_to_change() {
    let message = |error: steadfast_core::PolicyError| error.to_string();
    assert_eq!(message(RatePolicy::new(0, SECOND).unwrap_err()), "rate.count is 0: it must be at least 1");
    assert!(
        message(RatePolicy::new(2, Duration::from_nanos(1)).unwrap_err())
            .contains("more than one request a nanosecond")
    );
    assert!(RatePolicy::new(2, Duration::from_nanos(2)).is_ok());
    assert!(RatePolicy::new(1, SECOND).unwrap().with_burst(0).is_err());
    assert!(message(BudgetPolicy::new(0).unwrap_err()).contains("for no retries allow 1 attempt"));
    assert!(BudgetPolicy::new(5).unwrap().with_keep(5).is_err() && BudgetPolicy::new(5).unwrap().with_keep(4).is_ok());
    assert!(message(BulkheadPolicy::fixed(0).unwrap_err()).contains("at least 1, or nothing ever leaves"));
    assert!(message(BulkheadPolicy::adaptive(5, 3, 9).unwrap_err()).contains("from the least, 5, to the most, 9"));
    assert!(message(BulkheadPolicy::adaptive(1, 9, 5).unwrap_err()).contains("from the least, 1, to the most, 5"));
    assert!(BulkheadPolicy::fixed(3).unwrap().with_decrease(100).is_err());
    assert!(BulkheadPolicy::fixed(3).unwrap().with_decrease(99).is_ok());
    assert_eq!(RatePolicy::new(0, SECOND).unwrap_err().field(), "rate.count");
    assert!(
        message(BudgetPolicy::new(5).unwrap().with_capacity(5, 6).unwrap_err()).contains("at most the capacity, 5")
    );
    assert_eq!(
        message(BudgetPolicy::ratio(0, 0).unwrap_err()),
        "budget.percent is 0: it must be at least 1 where nothing comes by the second"
    );
    assert_eq!(
        (BudgetPolicy::ratio(0, 1).unwrap().capacity(), BudgetPolicy::ratio(255, 0).unwrap().capacity()),
        (10, 25_500)
    );
    assert_eq!(BudgetPolicy::ratio(20, 10), Ok(BudgetPolicy::default()), "what is said of the default");
    assert!(Tokens::try_from(f64::NAN).is_err() && Tokens::try_from(-0.1).is_err() && Tokens::try_from(1e12).is_err());
}
