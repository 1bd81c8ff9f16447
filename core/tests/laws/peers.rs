//! Bugs that others had in such machines, each as a test of ours. Where they are reported is in each test's comment.

use core::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{Breaker, BreakerPolicy, BreakerState, Counts, Health, Probes, SlowCalls, Window};
use steadfast_core::budget::{BudgetPolicy, RetryBudget, Tokens};
use steadfast_core::bulkhead::{Bulkhead, BulkheadPolicy, Load};
use steadfast_core::gate::{Admission, Blocked, Gate, GatePolicy, Kinds, RateLimit, Request, Settled};
use steadfast_core::rate_limit::{RateLimiter, RatePolicy};
use steadfast_core::retry::{Certainty, Class, Failure, GaveUp, RetryDecision, RetryPolicy};
use steadfast_core::{Kind, Seed, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn after(secs: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(secs))
}

fn fixed(span: Duration) -> BackoffPolicy {
    BackoffPolicy::new(Growth::Fixed(span), span, Jitter::None).unwrap()
}

/// Opens after one failure, for ten seconds; one probe, and one good end of it, closes.
fn quick() -> BreakerPolicy {
    let probes = Probes { at_once: 1, successes: 1, failures: 1, lease: 5 * SECOND };
    BreakerPolicy::consecutive(1).unwrap().with_open(fixed(10 * SECOND)).unwrap().with_probes(probes).unwrap()
}

fn opened(policy: &BreakerPolicy) -> Breaker {
    let mut breaker = Breaker::new(policy, Seed::new(1));
    let ticket = breaker.admit(policy, NOW).unwrap();
    breaker.settle(policy, ticket, Health::Failing, NOW);
    assert!(matches!(breaker.state(NOW), BreakerState::Open { .. }));
    breaker
}

/// failsafe and reliakit let 1000 of 1000 calls through while half-open; recloser and Failsafe (Java, #391) too many.
#[test]
fn a_half_open_breaker_admits_no_more_than_its_probes() {
    for at_once in [1, 3, 16] {
        let policy = quick().with_probes(Probes { at_once, ..quick().probes() }).unwrap();
        let mut breaker = opened(&policy);
        let probes = (0..1_000).filter(|_| breaker.admit(&policy, after(10)).is_ok()).count();
        assert_eq!(probes, usize::from(at_once));
    }
}

/// execution-policy: a probe whose future is dropped wedges the breaker for ever. The same in Polly (#1979),
/// resilience4j (#544, #935), Hystrix (#1621), monix (#1080), rezilience (#521), circuit (#258) and OmniRoute (#13836:
/// six days).
#[test]
fn a_probe_that_is_dropped_or_lost_wedges_nothing() {
    let policy = quick();
    let mut breaker = opened(&policy);
    let dropped = breaker.admit(&policy, after(10)).unwrap();
    breaker.settle(&policy, dropped, Health::Ignored, after(10));
    let lost = breaker.admit(&policy, after(10)).unwrap();
    assert_eq!(breaker.admit(&policy, after(11)), Err(after(15)), "until its lease ends");
    let next = breaker.admit(&policy, after(15)).unwrap();
    // The lost one is found after all: its place is another's by now.
    breaker.settle(&policy, lost, Health::Failing, after(15));
    assert_eq!(breaker.state(after(15)), BreakerState::HalfOpen);
    breaker.settle(&policy, next, Health::Healthy, after(15));
    assert_eq!(breaker.state(after(15)), BreakerState::Closed);
}

/// tower-resilience counts results of calls admitted while closed in the half-open state; failures that come late
/// re-arm the open time of reliakit and execution-policy; Polly #223.
#[test]
fn a_call_that_began_before_a_transition_changes_nothing_after_it() {
    let policy = quick();
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    let [first, second, third] = [0; 3].map(|_| breaker.admit(&policy, NOW).unwrap());
    breaker.settle(&policy, first, Health::Failing, NOW);
    breaker.settle(&policy, second, Health::Failing, after(9));
    assert_eq!(breaker.state(after(9)), BreakerState::Open { until: after(10) }, "open no longer for a late failure");
    let probe = breaker.admit(&policy, after(10)).unwrap();
    breaker.settle(&policy, third, Health::Healthy, after(10));
    assert_eq!(breaker.state(after(10)), BreakerState::HalfOpen, "a success of another era closes nothing");
    breaker.settle(&policy, probe, Health::Healthy, after(10));
    assert_eq!(breaker.state(after(10)), BreakerState::Closed);
}

/// tower-resilience's count window holds the counts of a lifetime: after 1000 successes it takes 1000 failures to open.
#[test]
fn a_window_of_calls_forgets_what_left_it() {
    let policy = BreakerPolicy::rate(50, Window::Calls(10), 10).unwrap();
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    let mut end = |health| {
        let ticket = breaker.admit(&policy, NOW).unwrap();
        breaker.settle(&policy, ticket, health, NOW);
        breaker.state(NOW)
    };
    (0..1_000).for_each(|_| assert_eq!(end(Health::Healthy), BreakerState::Closed));
    (0..4).for_each(|_| assert_eq!(end(Health::Failing), BreakerState::Closed));
    assert!(matches!(end(Health::Failing), BreakerState::Open { .. }), "five of the last ten");
}

/// tower-resilience's half-open state wedges for good when probes take longer than its time window.
#[test]
fn probes_slower_than_the_window_still_decide() {
    let probes = Probes { at_once: 1, successes: 2, failures: 1, lease: 3_600 * SECOND };
    let policy = BreakerPolicy::rate(50, Window::Time(SECOND), 1).unwrap().with_open(fixed(SECOND)).unwrap();
    let policy = policy.with_probes(probes).unwrap();
    let mut breaker = opened(&policy);
    for n in 1..=2_u64 {
        let probe = breaker.admit(&policy, after(60 * n)).unwrap();
        breaker.settle(&policy, probe, Health::Healthy, after(60 * n + 30));
    }
    assert_eq!(breaker.state(after(200)), BreakerState::Closed);
}

/// recloser's `closed_len(n)` needs n + 1 calls.
#[test]
fn a_threshold_is_the_number_it_says() {
    for n in 1..=5 {
        let policy = BreakerPolicy::consecutive(n).unwrap();
        let mut breaker = Breaker::new(&policy, Seed::new(1));
        for nth in 1..=n {
            let ticket = breaker.admit(&policy, NOW).unwrap();
            breaker.settle(&policy, ticket, Health::Failing, NOW);
            assert_eq!(breaker.state(NOW) == BreakerState::Closed, nth < n);
        }
    }
}

/// failsafe counts in whole seconds and drops what is below; its exponential panics at half a second.
#[test]
fn windows_and_open_times_below_a_second_are_kept() {
    let ms = Duration::from_millis;
    let doubling = BackoffPolicy::new(Growth::doubling(ms(500)), ms(1_500), Jitter::None).unwrap();
    let policy = quick().with_open(doubling).unwrap();
    let mut breaker = opened(&policy);
    let mut now = NOW;
    for expected in [500, 1_000, 1_500, 1_500] {
        let until = breaker.admit(&policy, now).unwrap_err();
        assert_eq!(until.saturating_since(now), ms(expected), "open time backs off to its cap");
        now = until;
        let probe = breaker.admit(&policy, now).unwrap();
        breaker.settle(&policy, probe, Health::Failing, now);
    }
}

/// opossum #720: a breaker that is restored after its open time has passed must be half-open, not open again.
#[test]
fn a_breaker_restored_late_is_half_open() {
    let policy = quick();
    // State is plain data: what is restored is what was stored.
    let restored = opened(&policy);
    assert_eq!(restored.state(after(3_600)), BreakerState::HalfOpen);
    assert_eq!(restored.check(&policy, after(3_600)), Ok(()));
}

/// A time window that was stored by a clock that ran ahead must not count its calls for as long as it was ahead.
#[test]
fn a_window_from_the_future_is_forgotten() {
    let policy = BreakerPolicy::rate(80, Window::Time(60 * SECOND), 5).unwrap();
    let (mut breaker, ahead) = (Breaker::new(&policy, Seed::new(1)), after(365 * 86_400));
    for health in [Health::Healthy, Health::Healthy, Health::Failing, Health::Failing, Health::Failing, Health::Failing]
    {
        let ticket = breaker.admit(&policy, ahead).unwrap();
        breaker.settle(&policy, ticket, health, ahead);
    }
    let mut breaker = breaker.restored(&policy, NOW);
    assert_eq!(breaker.counts(NOW).calls, 0);
    let ticket = breaker.admit(&policy, NOW).unwrap();
    breaker.settle(&policy, ticket, Health::Failing, NOW);
    assert_eq!(breaker.state(NOW), BreakerState::Closed);
}

/// Settings that change from a streak to a rate: the good calls from then on count.
#[test]
fn a_breaker_counts_by_its_new_settings_from_the_first_call() {
    let (old, new) = (BreakerPolicy::consecutive(5).unwrap(), BreakerPolicy::rate(50, Window::Calls(100), 20).unwrap());
    let mut breaker = Breaker::new(&old, Seed::new(1));
    breaker.adopt(&new);
    for n in 0..100 {
        let ticket = breaker.admit(&new, NOW).unwrap();
        breaker.settle(&new, ticket, if n < 70 { Health::Healthy } else { Health::Failing }, NOW);
    }
    assert_eq!(breaker.state(NOW), BreakerState::Closed, "thirty of a hundred");
}

/// Also if nobody told it: what was counted in another window is not the new one's.
#[test]
fn a_call_by_other_settings_begins_a_new_window() {
    let calls = |size| BreakerPolicy::rate(100, Window::Calls(size), 3).unwrap();
    let time = |secs| BreakerPolicy::rate(100, Window::Time(SECOND * secs), 3).unwrap();
    let streak = BreakerPolicy::consecutive(5).unwrap();
    let policies = [calls(4), calls(8), time(4), time(8), streak];
    for (at, old) in policies.iter().enumerate() {
        for (to, new) in policies.iter().enumerate() {
            for (last, failed) in [(Health::Failing, 1), (Health::Healthy, 0)] {
                let mut breaker = Breaker::new(old, Seed::new(1));
                for health in [Health::Healthy, Health::Failing] {
                    let ticket = breaker.admit(old, NOW).unwrap();
                    breaker.settle(old, ticket, health, NOW);
                }
                let before = breaker.counts(NOW);
                // Asked for by name, after a restart, or by a first call: the window goes on if it is the same, else it
                // begins anew.
                let mut adopted = breaker.clone();
                adopted.adopt(new);
                let restored = breaker.clone().restored(new, NOW);
                let expected = if at == to { before } else { Counts::default() };
                assert_eq!((adopted.counts(NOW), restored.counts(NOW)), (expected, expected), "{old:?} {new:?}");
                let ticket = breaker.admit(new, NOW).unwrap();
                breaker.settle(new, ticket, last, NOW);
                if at != to {
                    assert_eq!(breaker.counts(NOW).failed, failed, "{old:?} {new:?}");
                    assert!(breaker.counts(NOW).calls <= 1);
                }
            }
        }
    }
}

#[test]
fn what_a_window_of_time_has_forgotten_stays_so_when_the_clock_goes_back() {
    let policy = BreakerPolicy::rate(100, Window::Time(10 * SECOND), 9).unwrap();
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    for secs in [0, 10] {
        let ticket = breaker.admit(&policy, after(secs)).unwrap();
        breaker.settle(&policy, ticket, Health::Failing, after(secs));
    }
    assert_eq!([10, 9, 0].map(|secs| breaker.counts(after(secs)).calls), [1; 3]);
}

#[test]
fn probes_are_known_as_such_and_counted_while_they_are_out() {
    let probes = Probes { at_once: 3, successes: 3, failures: 1, lease: 30 * SECOND };
    let policy = quick().with_probes(probes).unwrap();
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    assert!(!breaker.admit(&policy, NOW).unwrap().is_probe());
    breaker.force_open(after(1));
    assert_eq!(breaker.probes_out(NOW), 0);
    for out in 1..=3 {
        let probe = breaker.admit(&policy, after(u64::from(out))).unwrap();
        assert_eq!((probe.is_probe(), breaker.probes_out(after(u64::from(out)))), (true, out));
    }
    let out = [30, 31, 32, 33].map(|secs| breaker.probes_out(after(secs)));
    assert_eq!(out, [3, 2, 1, 0], "each lease ends at its own time");
}

/// A probe that is answered well, but late, is a sign of the same illness.
#[test]
fn a_slow_probe_is_a_bad_one() {
    let slow = SlowCalls { longer_than: 2 * SECOND, percent: 50 };
    let probes = Probes { at_once: 1, successes: 1, failures: 1, lease: 30 * SECOND };
    let policy = BreakerPolicy::rate(100, Window::Calls(4), 4).unwrap().with_slow_calls(slow).unwrap();
    let policy = policy.with_probes(probes).unwrap();
    for (took, state) in [(2, "closed"), (3, "open")] {
        let mut breaker = Breaker::new(&policy, Seed::new(1));
        breaker.force_open(after(1));
        let probe = breaker.admit(&policy, after(1)).unwrap();
        breaker.settle(&policy, probe, Health::Healthy, after(1 + took));
        assert_eq!(breaker.state(after(1 + took)).name(), state, "after {took} seconds");
    }
}

/// resilience4j #858: a permission must not be taken by merely looking.
#[test]
fn looking_takes_nothing() {
    let policy = quick();
    let breaker = opened(&policy);
    let before = breaker.clone();
    let _ = (breaker.check(&policy, after(10)), breaker.state(after(10)), breaker.counts(after(10)));
    assert_eq!(breaker, before);
}

/// Polly trips on exceptions only; a hundred slow answers are an illness too (resilience4j), and one slow call of a bad
/// hour is none.
#[test]
fn slow_calls_open_it_and_waiting_to_be_sent_is_not_slow() {
    let slow = SlowCalls { longer_than: 2 * SECOND, percent: 50 };
    let policy = BreakerPolicy::rate(100, Window::Calls(4), 4).unwrap().with_slow_calls(slow).unwrap();
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    let mut call = |begun: u64, ended: u64| {
        let ticket = breaker.admit(&policy, NOW).unwrap().begun(after(begun));
        breaker.settle(&policy, ticket, Health::Healthy, after(ended));
        breaker.state(NOW)
    };
    for _ in 0..8 {
        assert_eq!(call(100, 102), BreakerState::Closed, "just two seconds, after a wait that does not count");
    }
    assert_eq!(call(0, 3), BreakerState::Closed);
    assert!(matches!(call(0, 3), BreakerState::Open { .. }));
}

/// tower truncates the share: all from 51 to 99 percent count as 100 there. Finagle's tests say what is right.
#[test]
fn a_budgets_share_is_exact() {
    for (share, expected) in [(0.3, 300), (0.51, 510), (0.75, 750), (0.99, 990)] {
        let policy = BudgetPolicy::new(10_000).unwrap().with_capacity(10_000, 0).unwrap();
        let policy = policy.with_per_request(Tokens::try_from(share).unwrap());
        let mut budget = RetryBudget::new(&policy);
        let granted = (0..1_000)
            .filter(|_| {
                budget.first_attempt(&policy, NOW);
                budget.withdraw(&policy, Class::Transient, NOW).is_ok()
            })
            .count();
        assert_eq!(granted, expected);
    }
}

/// aws-smithy-runtime keeps one call's charge in the shared object: overlapping calls that all succeed leak it dry
/// after 123 pairs.
#[test]
fn overlapping_retries_that_succeed_leak_no_tokens() {
    let policy = BudgetPolicy::aws();
    let mut budget = RetryBudget::new(&policy);
    for _ in 0..10_000 {
        let one = budget.withdraw(&policy, Class::Transient, NOW).unwrap();
        let two = budget.withdraw(&policy, Class::Throttled, NOW).unwrap();
        budget.succeeded(&policy, Some(one), NOW);
        budget.succeeded(&policy, Some(two), NOW);
    }
    assert_eq!(budget.tokens(&policy, NOW), 500);
}

/// smithy-rs #4632: what was refused must not be deducted all the same, or the bucket never recovers.
/// google-cloud-gax's throttler has no memory that ends: a million successes pay for a million failures.
#[test]
fn a_refused_retry_costs_nothing_and_past_success_is_bounded() {
    let policy = BudgetPolicy::grpc();
    let mut budget = RetryBudget::new(&policy);
    (0..1_000_000).for_each(|_| budget.succeeded(&policy, None, NOW));
    let granted = (0..1_000).filter(|_| budget.withdraw(&policy, Class::Transient, NOW).is_ok()).count();
    assert_eq!(granted, 4, "10 tokens, and a retry that leaves fewer than 6 is refused");
    assert_eq!(budget.tokens(&policy, NOW), 6);
}

/// governor: more than 10⁹ a second (#203) and a burst that is one off (#107); unchecked sums overflow for long
/// periods.
#[test]
fn extreme_rates_neither_overflow_nor_admit_one_too_many() {
    let fast = RatePolicy::new(1_000_000_000, SECOND).unwrap().with_burst(5).unwrap();
    let slow = RatePolicy::new(1, Duration::from_secs(u64::MAX)).unwrap().with_burst(u32::MAX).unwrap();
    for policy in [fast, slow] {
        let mut limiter = RateLimiter::new();
        let most = policy.burst().min(1_000);
        let admitted = (0..most).filter(|_| limiter.try_acquire(&policy, NOW).is_ok()).count();
        assert!(admitted <= policy.burst() as usize);
    }
    let mut limiter = RateLimiter::new();
    let five = (0..9).filter(|_| limiter.try_acquire(&fast, NOW).is_ok()).count();
    assert_eq!(five, 5);
}

/// tower-resilience #363: a limiter that admitted too many after a wait.
#[test]
fn those_who_waited_together_are_not_admitted_together() {
    let policy = RatePolicy::new(10, SECOND).unwrap();
    let mut limiter = RateLimiter::new();
    limiter.try_acquire(&policy, NOW).unwrap();
    let until = limiter.try_acquire(&policy, NOW).unwrap_err();
    let admitted = (0..100).filter(|_| limiter.try_acquire(&policy, until).is_ok()).count();
    assert_eq!(admitted, 1);
}

/// tower-resilience #368: an adaptive limiter must get back what a dropped call held.
#[test]
fn a_dropped_call_gives_its_room_back_and_says_nothing_of_the_load() {
    let policy = BulkheadPolicy::adaptive(1, 2, 4).unwrap();
    let mut bulkhead = Bulkhead::new(&policy);
    for _ in 0..100 {
        bulkhead.admit(&policy).unwrap();
        bulkhead.settle(&policy, Load::Unknown, NOW, NOW);
    }
    assert_eq!((bulkhead.in_flight(), bulkhead.limit(&policy)), (0, 2));
}

/// resilience4j #593, failsafe #377, cockatiel #36: whether the breaker's refusal burns a limiter's token depends on
/// how the user stacked them.
#[test]
fn a_breakers_refusal_burns_no_limiters_token() {
    let rate = RatePolicy::new(1, 3_600 * SECOND).unwrap().with_burst(2).unwrap();
    let limit = RateLimit { kinds: Kinds::ALL, rate };
    let policy = GatePolicy::none().with_breaker(Some(quick())).with_rate_limit(limit);
    let mut gate = Gate::new(policy, Seed::new(1));
    let permit = gate.admit(Request::first(Kind::Poll), NOW).permit().unwrap();
    let failure = Failure::new(Class::Transient, Certainty::NotExecuted);
    gate.settle(permit, Settled::Failed(failure), NOW);
    for _ in 0..100 {
        assert!(matches!(gate.admit(Request::first(Kind::Poll), NOW), Admission::Wait(_)));
    }
    let probe = gate.admit(Request::first(Kind::Poll), after(10));
    assert!(matches!(probe, Admission::Go(_)), "the second token is still there: {probe:?}");
}

/// execution-policy: what is refused after the breaker has let it through (an exhausted budget, a full bulkhead) keeps
/// the probe for ever.
#[test]
fn who_is_refused_behind_the_breaker_keeps_no_probe() {
    let budget = BudgetPolicy::new(1).unwrap().with_capacity(1, 0).unwrap();
    let mut gate = Gate::new(GatePolicy::none().with_breaker(Some(quick())).with_budget(Some(budget)), Seed::new(1));
    if let Some((breaker, _)) = gate.breaker_mut() {
        breaker.force_open(after(10));
    }
    for _ in 0..100 {
        let retry = gate.admit(Request::retry(Kind::Poll, Class::Transient), after(10));
        assert!(matches!(retry, Admission::Refuse(no) if no.why == Blocked::Budget), "{retry:?}");
    }
    assert!(matches!(gate.admit(Request::first(Kind::Poll), after(10)), Admission::Go(permit) if permit.is_probe()));
}

/// Envoy (envoy-mobile #811): a budget that is a share of the active requests is nothing when all fail at once; then
/// nobody finds out that the upstream is back. Finagle's, which is our default, gives some by the clock.
#[test]
fn a_budget_does_not_collapse_when_everything_fails_at_once() {
    let policy = BudgetPolicy::default();
    let mut budget = RetryBudget::new(&policy);
    while budget.withdraw(&policy, Class::Transient, NOW).is_ok() {}
    for secs in 1..=10 {
        let granted = (0..100).filter(|_| budget.withdraw(&policy, Class::Transient, after(secs)).is_ok()).count();
        assert_eq!(granted, 10, "ten a second");
    }
}

/// tower: each expiry sets its clock to now and forgets the part of a slot that had passed, so a budget that is asked
/// often refills too slowly.
#[test]
fn asking_often_loses_no_tokens() {
    let policy = BudgetPolicy::new(100).unwrap().with_capacity(100, 0).unwrap().with_per_second(Tokens::whole(3));
    let mut budget = RetryBudget::new(&policy);
    budget.first_attempt(&policy, NOW);
    for nanos in (0..10_000_000_000_u64).step_by(7_777_777) {
        budget.first_attempt(&policy, NOW.saturating_add(Duration::from_nanos(nanos)));
    }
    assert_eq!(budget.tokens(&policy, after(10)), 30);
}

/// tokio-retry takes the first delay for a base: a millisecond never grows, a second becomes 1000 s and then eleven
/// days.
#[test]
fn the_first_delay_is_a_delay_and_not_a_base() {
    for first in [Duration::from_millis(1), SECOND] {
        let policy = BackoffPolicy::new(Growth::doubling(first), 3_600 * SECOND, Jitter::None).unwrap();
        let delays = [1, 2, 3].map(|n| policy.delay(n, Seed::new(0)));
        assert_eq!(delays, [first, 2 * first, 4 * first]);
    }
}

/// exponential-backoff: 30 percent of jitter make 16 s into 16.6 on average, and half a percent panics.
#[test]
fn jitter_spreads_evenly_to_both_sides() {
    for percent in [0, 1, 30, 100] {
        let jitter = Jitter::Proportional { percent };
        let policy = BackoffPolicy::new(Growth::Fixed(16 * SECOND), 64 * SECOND, jitter).unwrap();
        let sum: Duration = (0..20_000).map(|seed| policy.delay(1, Seed::new(seed))).sum();
        let mean = (sum / 20_000).as_secs_f64();
        assert!((mean - 16.0).abs() < 0.15, "{percent} percent: {mean}");
    }
}

/// google-cloud-gax: throttled attempts are not counted, so an attempt limit alone loops for ever; and an attempt after
/// a wait gets the time that was left before it. reliakit: an exhausted backoff says "at once" instead of "stop".
#[test]
fn throttled_attempts_count_and_an_exhausted_policy_stops() {
    let backoff = fixed(SECOND);
    let policy = RetryPolicy::new(3, 3_600 * SECOND, 10 * SECOND, backoff).unwrap();
    let throttled = Failure::new(Class::Throttled, Certainty::NotExecuted);
    let decide = |made| policy.decide(made, throttled, NOW, NOW, true, Seed::new(1));
    assert_eq!(decide(2), RetryDecision::At(after(1)));
    assert_eq!([decide(3), decide(4), decide(u16::MAX)], [RetryDecision::GiveUp(GaveUp::Attempts); 3]);
}

/// tower-resilience (#372, #422, #434) took settings that could never work.
#[test]
fn settings_of_a_breaker_that_make_no_sense_are_refused() {
    let message = |error: Result<BreakerPolicy, steadfast_core::PolicyError>| error.unwrap_err().to_string();
    let window = Window::Calls(10);
    assert_eq!(message(BreakerPolicy::consecutive(0)), "breaker.failures is 0: it must be at least 1");
    assert!(message(BreakerPolicy::rate(0, window, 1)).contains("a share from 1 to 100 percent"));
    assert!(message(BreakerPolicy::rate(101, window, 1)).contains("a share from 1 to 100 percent"));
    assert!(message(BreakerPolicy::rate(50, window, 11)).contains("at most the window's 10 calls, or it never opens"));
    assert!(message(BreakerPolicy::rate(50, Window::Calls(513), 1)).contains("from 1 to 512"));
    assert!(message(BreakerPolicy::rate(50, Window::Time(Duration::ZERO), 1)).contains("at least 1ms"));
    assert!(BreakerPolicy::rate(50, Window::Time(Duration::from_millis(1)), 1).is_ok());
    assert!(message(BreakerPolicy::rate(50, window, 0)).contains("breaker.minimum is 0"));
    let slow = SlowCalls { longer_than: SECOND, percent: 50 };
    assert!(message(quick().with_slow_calls(slow)).contains("a streak has no share of slow calls"));
    assert!(message(quick().with_open(fixed(Duration::ZERO))).contains("or it never rests"));
    let probes = |probes| message(quick().with_probes(probes));
    assert!(probes(Probes { at_once: 0, ..Probes::default() }).contains("from 1 to 16"));
    assert!(probes(Probes { successes: 0, ..Probes::default() }).contains("breaker.probes.successes is 0"));
    assert!(probes(Probes { failures: 0, ..Probes::default() }).contains("breaker.probes.failures is 0"));
    assert!(probes(Probes { lease: Duration::ZERO, ..Probes::default() }).contains("more than a call may take"));
}
