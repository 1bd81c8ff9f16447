//! The question machines: backoff, retry, poll, gate.

use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::backoff::{BackoffPolicy, Factor, Growth, Jitter};
use steadfast_core::gate::{Admission, Request, Settled};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, GaveUp, Ground, RetryAfter, RetryDecision, RetryPolicy};
use steadfast_core::{Gate, Kind, Seed, SendSafety, Timestamp};

use crate::policies;

const SECOND: Duration = Duration::from_secs(1);

fn failure() -> impl Strategy<Value = Failure> {
    let class = prop::sample::select(vec![Class::Transient, Class::Throttled, Class::TimedOut, Class::Permanent]);
    let certainty = prop::sample::select(vec![Certainty::NotExecuted, Certainty::MayHaveExecuted, Certainty::Executed]);
    let hint = prop::option::of(prop_oneof![policies::span(100_000), Just(Duration::MAX)]);
    (class, certainty, hint).prop_map(|(class, certainty, hint)| Failure::new(class, certainty).with_retry_after(hint))
}

proptest! {
    #[test]
    fn i1_no_delay_exceeds_the_cap_after_jitter(policy in policies::backoff(100_000), n: u32, seed: u64) {
        prop_assert!(policy.delay(n, Seed::new(seed)) <= policy.cap());
    }

    #[test]
    fn no_delay_is_out_of_its_bounds(policy in policies::backoff(100_000), n: u32, seed: u64) {
        let (shortest, longest) = policy.bounds(n);
        let delay = policy.delay(n, Seed::new(seed));
        prop_assert!(shortest <= delay && delay <= longest && longest <= policy.cap(), "{:?}", (shortest, delay, longest));
    }

    #[test]
    fn i13_the_same_policy_seed_and_number_give_the_same_delay(policy in policies::backoff(100_000), n: u32, seed: u64) {
        let seed = Seed::new(seed);
        prop_assert_eq!(policy.delay(n, seed), policy.delay(n, seed));
    }

    #[test]
    fn delays_without_jitter_never_shrink(
        growth in policies::growth(1_000).prop_filter("a table may shrink", |it| !matches!(it, Growth::Table(_))),
        n in 1_u32..200,
    ) {
        if let Ok(policy) = BackoffPolicy::new(growth, Duration::MAX, Jitter::None) {
            prop_assert!(policy.delay(n, Seed::new(0)) <= policy.delay(n + 1, Seed::new(0)));
        }
    }

    #[test]
    fn i1_i2_a_retry_honours_the_hint_and_both_limits(
        policy in policies::retry(), made in 1_u16..10, failure in failure(), waited in 0_u64..200_000, repeatable: bool, seed: u64,
    ) {
        let started = Timestamp::from_secs(1_000);
        let now = started.saturating_add(Duration::from_millis(waited));
        match policy.decide(made, failure, started, now, repeatable, Seed::new(seed)) {
            RetryDecision::At(at) => {
                prop_assert!(made < policy.attempts());
                prop_assert!(at >= now && at < started.saturating_add(policy.deadline()));
                prop_assert!(failure.class != Class::Permanent);
                prop_assert!(repeatable || failure.certainty == Certainty::NotExecuted);
                if let (Some(hint), RetryAfter::Floor { ceiling } | RetryAfter::Exact { ceiling }) =
                    (failure.retry_after, policy.retry_after())
                {
                    prop_assert!(at.saturating_since(now) >= hint.min(ceiling));
                }
            }
            RetryDecision::GiveUp(GaveUp::Refused) => prop_assert_eq!(failure.class, Class::Permanent),
            RetryDecision::GiveUp(GaveUp::Ambiguous) => prop_assert!(!repeatable),
            RetryDecision::GiveUp(GaveUp::Attempts) => prop_assert!(made >= policy.attempts()),
            RetryDecision::GiveUp(_) => {}
        }
    }

    #[test]
    fn no_number_panics_or_loops(first: u64, cap: u64, factor in 1.0..1e6_f64, n: u32, seed: u64, jitter in policies::jitter()) {
        let (first, cap) = (Duration::from_nanos(first), Duration::from_nanos(cap).max(Duration::from_nanos(first)));
        let factor = Factor::new(factor).unwrap();
        for growth in [
            Growth::Exponential { first, factor },
            Growth::Linear { first, step: Duration::MAX },
            Growth::Fibonacci { first },
            Growth::Fixed(first),
        ] {
            if let Ok(policy) = BackoffPolicy::new(growth, cap, jitter) {
                prop_assert!(policy.delay(n, Seed::new(seed)) <= cap);
            }
        }
    }

    #[test]
    fn polls_wait_by_schedule_or_hint_and_failures_by_the_retry_policy(
        policy in policies::poll(), pending in 0_u16..20, failure in failure(), seed: u64,
    ) {
        let seed = Seed::new(seed);
        prop_assert!(policy.wait(pending, None, seed) <= policy.schedule().cap());
        let silent = Failure::new(failure.class, failure.certainty);
        let cap = policy.schedule().cap().max(policy.retry().backoff().cap());
        prop_assert!(policy.wait_after_failure(pending.max(1), silent, seed) <= cap);
    }

    #[test]
    fn i8_the_gate_counts_what_is_in_the_air(asks in 0_u32..50, held in 0_u64..20) {
        let mut gate = Gate::unlimited();
        gate.hold_until(Timestamp::from_nanos(held));
        let mut permits = Vec::new();
        for n in 0..asks {
            let now = Timestamp::from_nanos(u64::from(n));
            match gate.admit(Request::first(Kind::Create), now) {
                Admission::Go(permit) => permits.push(permit),
                Admission::Wait(refusal) | Admission::Refuse(refusal) => prop_assert!(refusal.until > now),
            }
        }
        prop_assert_eq!(gate.in_flight() as usize, permits.len());
        for permit in permits {
            gate.settle(permit, Settled::Abandoned, Timestamp::EPOCH);
        }
        prop_assert_eq!(gate.in_flight(), 0);
    }
}

fn policy(growth: Growth, cap: Duration, jitter: Jitter) -> BackoffPolicy {
    BackoffPolicy::new(growth, cap, jitter).unwrap()
}

/// backon, tower-resilience and others jitter after the cap; azure and tower lose all jitter at the cap.
#[test]
fn jitter_survives_at_the_cap_and_stays_below_it() {
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::Proportional { percent: 30 }, Jitter::Decorrelated] {
        let policy = policy(Growth::doubling(SECOND), 10 * SECOND, jitter);
        let mut delays: Vec<_> = (0..1_000).map(|seed| policy.delay(40, Seed::new(seed))).collect();
        delays.sort();
        delays.dedup();
        assert!(delays.len() > 900, "{jitter:?}: {} different delays", delays.len());
        assert!(*delays.last().unwrap() <= 10 * SECOND);
    }
}

/// azure's `2u64.pow(n)`, aws #960 and Polly #1866 overflow here.
#[test]
fn a_large_retry_number_stays_at_the_cap() {
    for n in [57, 61, 63, 64, 1_000, u32::MAX] {
        let doubling = policy(Growth::doubling(SECOND), 20 * SECOND, Jitter::None);
        assert_eq!(doubling.delay(n, Seed::new(0)), 20 * SECOND, "{n}");
        let fibonacci = policy(Growth::Fibonacci { first: SECOND }, 20 * SECOND, Jitter::None);
        assert_eq!(fibonacci.delay(n, Seed::new(0)), 20 * SECOND, "{n}");
    }
}

/// The retry crate rounds them to 0 and spins.
#[test]
fn delays_below_a_millisecond_are_kept() {
    let policy = policy(Growth::doubling(Duration::from_micros(500)), SECOND, Jitter::None);
    assert_eq!(policy.delay(1, Seed::new(0)), Duration::from_micros(500));
    assert_eq!(policy.delay(3, Seed::new(0)), Duration::from_millis(2));
}

#[test]
fn a_factor_that_is_not_whole_is_exact_to_the_nanosecond() {
    let factor = Factor::new(1.5).unwrap();
    let policy = policy(Growth::Exponential { first: SECOND, factor }, 1_000 * SECOND, Jitter::None);
    let delays: Vec<_> = (1..=5).map(|n| policy.delay(n, Seed::new(0)).as_nanos()).collect();
    assert_eq!(delays, [1_000_000_000, 1_500_000_000, 2_250_000_000, 3_375_000_000, 5_062_500_000]);
}

/// 1.2 has no end in binary: what is rounded is rounded to the nearest, at every step.
#[test]
fn a_factor_without_an_end_in_binary_does_not_lose_a_nanosecond() {
    let factor = Factor::new(1.2).unwrap();
    let policy = policy(Growth::Exponential { first: SECOND, factor }, 1_000 * SECOND, Jitter::None);
    let delays: Vec<_> = (1..=5).map(|n| policy.delay(n, Seed::new(0)).as_nanos()).collect();
    assert_eq!(delays, [1_000_000_000, 1_200_000_000, 1_440_000_000, 1_728_000_000, 2_073_600_000]);
}

/// tower gives every backoff of one maker the same jitter.
#[test]
fn two_operations_draw_different_delays() {
    let policy = BackoffPolicy::default();
    assert_ne!(policy.delay(5, Seed::new(1)), policy.delay(5, Seed::new(2)));
}

/// gax, backoff and retry-policies wait past their deadline; gax even sends after it.
#[test]
fn a_wait_that_would_end_at_the_deadline_is_not_begun() {
    let policy =
        RetryPolicy::new(9, 10 * SECOND, SECOND, policy(Growth::Fixed(4 * SECOND), 4 * SECOND, Jitter::None)).unwrap();
    let reset = Failure::new(Class::Transient, Certainty::NotExecuted);
    let started = Timestamp::from_secs(100);
    let at = |secs: u64| policy.decide(1, reset, started, Timestamp::from_secs(100 + secs), false, Seed::new(0));
    assert_eq!(at(5), RetryDecision::At(Timestamp::from_secs(109)));
    assert_eq!(at(6), RetryDecision::GiveUp(GaveUp::Deadline));
}

/// tokio-retry2 accepts the hint and never waits for it; reqwest-retry ignores it.
/// Whoever writes a ceiling of zero wants no hints: not that a hint makes polls and retries leave at once, one after
/// the other.
#[test]
fn under_a_ceiling_of_zero_no_hint_counts() {
    let (zero, asked) = (Duration::ZERO, Some(60 * SECOND));
    for hints in [RetryAfter::Exact { ceiling: zero }, RetryAfter::Floor { ceiling: zero }] {
        assert_eq!(hints.apply(4 * SECOND, asked), 4 * SECOND, "{hints:?}");
        let retry = RetryPolicy::default().with_retry_after(hints);
        let waits = BackoffPolicy::new(Growth::Fixed(4 * SECOND), 4 * SECOND, Jitter::None).unwrap();
        let polls = PollPolicy::new(waits, 3, 60 * SECOND, retry).unwrap();
        assert_eq!(polls.wait(0, asked, Seed::new(1)), 4 * SECOND, "{hints:?}");
    }
    let exact = RetryAfter::Exact { ceiling: SECOND };
    assert_eq!(exact.apply(4 * SECOND, Some(zero)), zero, "at once, where the provider says so");
}

#[test]
fn a_hint_longer_than_the_deadline_stops_at_once() {
    let policy = RetryPolicy::default();
    let now = Timestamp::from_secs(100);
    let throttled = |wait| Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(wait));
    let decide = |wait| policy.decide(1, throttled(wait), now, now, false, Seed::new(0));
    assert_eq!(decide(60 * SECOND), RetryDecision::At(Timestamp::from_secs(160)));
    assert_eq!(decide(600 * SECOND), RetryDecision::GiveUp(GaveUp::Deadline));
    assert_eq!(decide(Duration::MAX), RetryDecision::GiveUp(GaveUp::Deadline));
}

#[test]
fn nonsense_is_refused_and_the_error_says_what_to_change() {
    let message = |error: steadfast_core::PolicyError| error.to_string();
    let default = BackoffPolicy::default;
    let backoff = |growth, cap| message(BackoffPolicy::new(growth, cap, Jitter::Full).unwrap_err());
    assert_eq!(
        message(RetryPolicy::new(0, SECOND, SECOND, default()).unwrap_err()),
        "retry.attempts is 0: it must be at least 1, which is the first attempt"
    );
    assert!(
        message(RetryPolicy::new(1, Duration::ZERO, SECOND, default()).unwrap_err())
            .starts_with("retry.deadline is 0ns")
    );
    assert!(
        message(RetryPolicy::new(1, SECOND, Duration::ZERO, default()).unwrap_err())
            .starts_with("retry.attempt_timeout")
    );
    assert_eq!(
        message(Factor::new(f64::NAN).unwrap_err()),
        "backoff.factor is NaN: it must be a number from 1 to 1000000"
    );
    assert!(Factor::new(f64::INFINITY).is_err() && Factor::new(0.99).is_err() && Factor::new(-2.0).is_err());
    assert_eq!(
        backoff(Growth::Fixed(2 * SECOND), SECOND),
        "backoff.cap is 1s: it must be at least the first delay, 2s"
    );
    assert!(backoff(Growth::doubling(Duration::ZERO), SECOND).contains("or it never grows"));
    assert!(backoff(Growth::Table(Box::new([])), SECOND).contains("a list of at least one delay"));
    assert!(BackoffPolicy::new(Growth::Fixed(SECOND), SECOND, Jitter::Proportional { percent: 101 }).is_err());
    assert!(BackoffPolicy::new(Growth::Fixed(SECOND), SECOND, Jitter::Proportional { percent: 100 }).is_ok());
    let polls =
        |count, deadline| message(PollPolicy::new(default(), count, deadline, RetryPolicy::default()).unwrap_err());
    assert_eq!(polls(0, SECOND), "poll.polls is 0: it must be at least 1");
    let never = BackoffPolicy::new(Growth::Fixed(Duration::ZERO), SECOND, Jitter::None).unwrap();
    assert!(
        PollPolicy::new(never.clone(), 1, SECOND, RetryPolicy::default())
            .unwrap_err()
            .to_string()
            .contains("never rests")
    );
    assert!(
        steadfast_core::OperationPolicy::default().with_persist(never).unwrap_err().to_string().contains("no rest")
    );
    // A table's last delay is the one that goes on.
    for (delays, rests) in [([1, 0], false), ([0, 1], true)] {
        let table = Growth::Table(delays.map(|secs| SECOND * secs).into());
        let table = BackoffPolicy::new(table, SECOND, Jitter::None).unwrap();
        let (retry, day) = (RetryPolicy::default(), 86_400 * SECOND);
        assert_eq!(PollPolicy::new(table.clone(), 9, day, retry).is_ok(), rests, "{delays:?}");
        let operation = steadfast_core::OperationPolicy::default();
        assert_eq!(operation.with_persist(table.clone()).is_ok(), rests, "{delays:?}");
        assert_eq!(steadfast_core::breaker::BreakerPolicy::default().with_open(table).is_ok(), rests, "{delays:?}");
    }
    let keyed = |secs| {
        steadfast_core::OperationPolicy::default().with_safety(SendSafety::Keyed { window: secs * SECOND }).map(drop)
    };
    assert!(
        keyed(10)
            .unwrap_err()
            .to_string()
            .contains("safety.keyed.window is 10s: it must be longer than a create's time-out")
    );
    assert_eq!(keyed(11), Ok(()));
    let patient = RetryPolicy::new(1, 60 * SECOND, 11 * SECOND, default()).unwrap();
    let keyed =
        steadfast_core::OperationPolicy::default().with_safety(SendSafety::Keyed { window: 11 * SECOND }).unwrap();
    assert!(keyed.with_create(patient).is_err());
    assert!(polls(1, SECOND).contains("more than the wait before the first poll, 1s"));
    assert!(PollPolicy::new(default(), 1, SECOND + Duration::from_nanos(1), RetryPolicy::default()).is_ok());
    assert!(polls(1, Duration::ZERO).contains("more than the wait before the first poll"));
}

/// What chance adds to the first wait must not end a job before it was asked for once.
#[test]
fn the_first_poll_begins_before_the_deadline_whatever_the_seed() {
    for jitter in [Jitter::Proportional { percent: 50 }, Jitter::Decorrelated] {
        let schedule = BackoffPolicy::new(Growth::Fixed(10 * SECOND), 60 * SECOND, jitter).unwrap();
        let policy = PollPolicy::new(schedule, 5, 11 * SECOND, RetryPolicy::default()).unwrap();
        let late = (0..1_000).filter(|seed| policy.wait(0, None, Seed::new(*seed)) >= policy.deadline()).count();
        assert_eq!(late, 0, "{jitter:?}");
        // Later ones are not cut: who waits too long then ends, and has asked.
        assert!((0..1_000).any(|seed| policy.wait(1, None, Seed::new(seed)) >= policy.deadline()));
        assert_eq!(policy.wait(0, Some(20 * SECOND), Seed::new(1)), 20 * SECOND, "a hint counts as ever");
    }
}

#[test]
fn defaults_are_what_the_constructors_accept() {
    let again = |policy: &BackoffPolicy| BackoffPolicy::new(policy.growth().clone(), policy.cap(), policy.jitter());
    let policy = steadfast_core::OperationPolicy::default();
    for backoff in [policy.create().backoff(), policy.poll().schedule(), policy.persist()] {
        assert_eq!(again(backoff).as_ref(), Ok(backoff));
    }
    let RetryPolicy { .. } = RetryPolicy::new(5, 120 * SECOND, 10 * SECOND, BackoffPolicy::default()).unwrap();
    assert_eq!(RetryPolicy::new(5, 120 * SECOND, 10 * SECOND, BackoffPolicy::default()).as_ref(), Ok(policy.create()));
    let poll = PollPolicy::new(policy.poll().schedule().clone(), 10, 180 * SECOND, RetryPolicy::default());
    assert_eq!(poll.as_ref(), Ok(policy.poll()));
}

/// What is not named stays as it was, whoever set it.
#[test]
fn one_setting_can_be_changed_alone_and_is_held_to_the_same_rules() {
    let hints = RetryAfter::Clamped { extra: SECOND };
    let own =
        RetryPolicy::new(7, 70 * SECOND, 7 * SECOND, policy(Growth::Fixed(SECOND), SECOND, Jitter::None)).unwrap();
    let own = own.with_retry_after(hints).with_identical(2).unwrap();
    let there =
        own.clone().with_attempts(1).unwrap().with_deadline(SECOND).unwrap().with_attempt_timeout(SECOND).unwrap();
    let there = there.with_backoff(BackoffPolicy::default());
    assert_eq!((there.attempts(), there.deadline(), there.attempt_timeout()), (1, SECOND, SECOND));
    assert_eq!(there.backoff(), &BackoffPolicy::default());
    let back = there.with_backoff(own.backoff().clone()).with_attempt_timeout(7 * SECOND).unwrap();
    assert_eq!(back.with_deadline(70 * SECOND).unwrap().with_attempts(7).unwrap(), own);
    let message = |error: steadfast_core::PolicyError| error.to_string();
    assert!(message(own.clone().with_attempts(0).unwrap_err()).starts_with("retry.attempts is 0"));
    assert!(message(own.clone().with_deadline(Duration::ZERO).unwrap_err()).starts_with("retry.deadline is 0ns"));
    assert!(message(own.with_attempt_timeout(Duration::ZERO).unwrap_err()).starts_with("retry.attempt_timeout is 0ns"));

    let own = PollPolicy::default().with_not_found_grace(SECOND).with_accept_partial(true);
    let hour = own.clone().with_deadline(3_600 * SECOND).unwrap().with_polls(200).unwrap();
    assert_eq!((hour.deadline(), hour.polls(), hour.schedule()), (3_600 * SECOND, 200, own.schedule()));
    let once = RetryPolicy::default().with_attempts(1).unwrap();
    assert_eq!(hour.clone().with_retry(once.clone()).retry(), &once);
    assert_eq!(hour.with_polls(10).unwrap().with_deadline(180 * SECOND).unwrap(), own);
    assert!(message(own.clone().with_polls(0).unwrap_err()).starts_with("poll.polls is 0"));
    assert!(
        message(own.with_deadline(3 * SECOND).unwrap_err()).contains("more than the wait before the first poll, 3s")
    );
}

#[cfg(feature = "serde")]
mod files {
    use steadfast_core::breaker::Probes;
    use steadfast_core::gate::{GatePolicy, Kinds};

    use super::*;

    proptest! {
        #[test]
        fn a_policy_reads_back_as_written(policy in policies::policy()) {
            let text = serde_json::to_string(&policy).unwrap();
            prop_assert_eq!(serde_json::from_str::<steadfast_core::OperationPolicy>(&text).unwrap(), policy);
        }
    }

    proptest! {
        #[test]
        fn a_gates_policy_reads_back_as_written(seed: u64) {
            let policy = policies::drawn_gate(seed);
            let text = serde_json::to_string(&policy).unwrap();
            prop_assert_eq!(serde_json::from_str::<GatePolicy>(&text).unwrap(), policy);
        }
    }

    #[test]
    fn a_gate_is_written_in_a_file_as_a_person_would() {
        let text = r#"{
            "breaker": {"trip": {"consecutive": {"failures": 5}}, "open": {"growth": {"fixed": "10s"}, "cap": "10s"}},
            "when_open": "refuse",
            "budget": {"capacity": 500, "per_success": 0.1, "refunds": true},
            "bulkhead": {"initial": 20, "most": 100},
            "rate_limits": [{"rate": {"count": 300, "per": "1m"}}, {"kinds": ["create"], "rate": {"count": 10, "per": "1s", "burst": 5}}]
        }"#;
        let policy: GatePolicy = serde_json::from_str(text).unwrap();
        assert_eq!(policy.bulkhead().unwrap().bounds(), (20, 100));
        assert_eq!((policy.rate_limits()[0].kinds, policy.rate_limits()[1].rate.burst()), (Kinds::ALL, 5));
        assert_eq!(policy.breaker().unwrap().probes(), Probes::default(), "what is left out is the default");
        let read = |text: &str| serde_json::from_str::<GatePolicy>(text).map_err(|error| error.to_string());
        assert!(read(&text.replace("\"count\": 300", "\"count\": 0")).unwrap_err().contains("rate.count is 0"));
        assert!(read(&text.replace("\"failures\": 5", "\"failures\": 0")).is_err());
        assert!(read(&text.replace("most", "maximum")).unwrap_err().contains("unknown field `maximum`"));
        assert!(read(&text.replace("0.1", "-1")).unwrap_err().contains("a number from 0"));
        assert_eq!(read("{}").unwrap(), GatePolicy::default(), "what a file does not name is as the default has it");
        assert_eq!(read(r#"{"breaker": null}"#).unwrap().breaker(), None);
    }

    #[test]
    fn a_file_is_held_to_the_same_rules() {
        let read = |text: &str| serde_json::from_str::<RetryPolicy>(text).map_err(|error| error.to_string());
        let good = r#"{"attempts": 3, "deadline": "1m", "attempt_timeout": "250ms"}"#;
        assert_eq!(read(good).unwrap().attempt_timeout(), Duration::from_millis(250));
        assert!(read(&good.replace('3', "0")).unwrap_err().contains("retry.attempts is 0"));
        assert!(read(&good.replace("1m", "60")).unwrap_err().contains("is not a duration such as"));
        assert!(read(&good.replace("attempts", "tries")).unwrap_err().contains("unknown field `tries`"));
        let factor = serde_json::from_str::<Factor>("0.5").unwrap_err().to_string();
        assert!(factor.contains("a number from 1"), "{factor}");
    }
}

/// The schedule that Deepvue prescribes, a longer hint in its place, and a failing poll's own backoff.
#[test]
fn polls_wait_as_long_as_it_is_written() {
    let secs = Duration::from_secs;
    let backoff = policy(Growth::doubling(secs(1)), secs(20), Jitter::None);
    let retry = RetryPolicy::new(3, secs(60), secs(10), backoff).unwrap();
    let schedule = policy(Growth::doubling(secs(3)), secs(30), Jitter::None);
    let polls = PollPolicy::new(schedule, 10, secs(180), retry).unwrap();
    let seed = Seed::new(1);
    let waits: Vec<_> = (0..5).map(|pending| polls.wait(pending, None, seed).as_secs()).collect();
    assert_eq!(waits, [3, 6, 12, 24, 30]);
    assert_eq!(polls.wait(0, Some(secs(7)), seed), secs(7));
    assert_eq!(polls.wait(1, Some(secs(1)), seed), secs(6));
    let failure = |hint| Failure::new(Class::Transient, Certainty::MayHaveExecuted).with_retry_after(hint);
    let waits: Vec<_> = (1..5).map(|streak| polls.wait_after_failure(streak, failure(None), seed).as_secs()).collect();
    assert_eq!(waits, [1, 2, 30, 30]);
    assert_eq!(polls.wait_after_failure(1, failure(Some(secs(9))), seed), secs(9));
}

/// A hint decides only where it changes something: one that is as long as our own delay does not.
#[test]
fn a_hint_decides_if_it_is_longer() {
    let secs = Duration::from_secs;
    let floor = RetryAfter::Floor { ceiling: secs(60) };
    for (hint, decides, cut) in
        [(3, false, false), (4, false, false), (5, true, false), (60, true, false), (61, true, true)]
    {
        let heard = floor.weigh(Ground::Backoff, secs(4), Some(secs(hint))).hint.unwrap();
        assert_eq!((heard.decides, heard.cut), (decides, cut), "{hint} s");
    }
}

/// Else whoever is told so for ever has all of its polls answered in a moment, and gives up on a job that was never
/// given its time.
#[test]
fn a_provider_that_says_at_once_does_not_keep_polling_from_its_rest() {
    let hour = Duration::from_secs(3_600);
    for hints in [RetryAfter::Exact { ceiling: hour }, RetryAfter::Floor { ceiling: hour }] {
        let default = PollPolicy::default();
        let retry = default.retry().clone().with_retry_after(hints);
        let policy = PollPolicy::new(default.schedule().clone(), 10, default.deadline(), retry).unwrap();
        for pending in 0..10 {
            let own = policy.wait(pending, None, Seed::new(1));
            assert_eq!(policy.wait(pending, Some(Duration::ZERO), Seed::new(1)), own, "{hints:?}");
        }
        let short = Duration::from_millis(1);
        let counts = matches!(hints, RetryAfter::Exact { .. });
        assert_eq!(policy.wait(1, Some(short), Seed::new(1)) == short, counts, "{hints:?}");
    }
}
