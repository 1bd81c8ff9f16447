//! Delays of twelve libraries. Their tests inject the random draw; ours comes from a seed, so a delay that a draw of
//! theirs gives must be one that some seed of ours gives, and the smallest and the largest draw must give our bounds.

use std::time::Duration;

use serde_json::Value;
use steadfast_core::backoff::{BackoffPolicy, Factor, Growth, Jitter};
use steadfast_core::retry::{Certainty, Class, Failure, RetryDecision, RetryPolicy};
use steadfast_core::{Seed, Timestamp};

use crate::{Case, list, only, replay, text};

#[test]
fn backoff_cases_of_other_suites() {
    replay("backoff.json", include_str!("../../../tests/oracles/backoff.json"), 51, case);
}

const DRAWS: u64 = 20_000;

fn case(it: &Value) -> Case {
    only(it, &["id", "source", "config", "expect", "note", "samples", "expect_total_sleep_ms"]);
    let config = &it["config"];
    only(
        config,
        &[
            "shape",
            "initial_ms",
            "initial_ns",
            "factor",
            "max_ms",
            "max_ns",
            "max",
            "jitter",
            "jitter_ms",
            "jitter_ratio",
            "backoff_factor_ms",
            "first_retry_immediate",
            "rand",
            "rand_u64",
            "rand_u64_seq",
            "rounding",
            "step_ms",
            "expiration_ms",
            "max_attempts",
            "max_total_sleep_ms",
        ],
    );
    let why_not = match (text(it, "id"), text(config, "jitter")) {
        ("r4j-reject-4" | "r4j-reject-2", _) => {
            "a negative cap or share of jitter cannot be written: the types have no sign"
        }
        ("temporal-next-max", _) => {
            "a cap below the first delay is refused, so that nobody wonders which of the two holds"
        }
        ("temporal-next-neg", _) => "the number of a retry has no sign; 0 counts as 1",
        ("temporal-expiry-overflow", _) => "a wait that would end at the deadline is not cut short but not begun",
        ("envoy-overflow", _) => "its delay is longer than 64 bits of nanoseconds can say: 584 years are our longest",
        ("cenkalti-exp", _) => "it jitters after the cap and exceeds it; here the cap holds after jitter",
        (_, "additive") => "jitter on top of the delay is not offered: it moves the whole schedule later",
        _ => "",
    };
    if !why_not.is_empty() {
        return Case::NotApplicable(why_not);
    }
    let built = policy(config);
    for expected in list(it, "expect") {
        only(
            expected,
            &[
                "retry",
                "delay_ms",
                "delay_ns",
                "min_ms",
                "max_ms",
                "min_exclusive_ms",
                "max_exclusive_ms",
                "stop",
                "reason",
                "saturates",
                "reject_config",
                "advance_ms",
                "histogram_1s_bins_tolerance",
            ],
        );
        if let Some(refused) = expected["reject_config"].as_bool() {
            assert_eq!(built.is_none(), refused);
            continue;
        }
        let policy = built.as_ref().expect("it is accepted");
        let n = expected["retry"].as_u64().expect("a retry has a number") as u32;
        if expected["stop"] == true {
            stops(config, expected, policy, n);
        } else {
            delays(config, expected, policy, n);
        }
    }
    Case::Replayed
}

fn nanos(config: &Value, name: &str) -> Option<Duration> {
    let millis = config[format!("{name}_ms")].as_u64().map(|it| Duration::from_nanos(it.saturating_mul(1_000_000)));
    millis.or_else(|| config[format!("{name}_ns")].as_u64().map(Duration::from_nanos))
}

/// The policy that this configuration means; `None` if it is refused.
fn policy(config: &Value) -> Option<BackoffPolicy> {
    let first = nanos(config, "initial").unwrap_or_default();
    let factor = Factor::new(config["factor"].as_f64().unwrap_or(2.0)).ok()?;
    let cap = nanos(config, "max").unwrap_or(Duration::MAX);
    let growth = match text(config, "shape") {
        "exponential" => Growth::Exponential { first, factor },
        // A delay of zero is the caller's wish where it is constant; the suites that refuse it mean one that was
        // forgotten.
        "constant" if first.is_zero() => return None,
        "constant" => Growth::Fixed(first),
        "linear" => Growth::Linear { first, step: nanos(config, "step").expect("a linear growth has a step") },
        // Nothing before the first retry, then doubling from twice the factor.
        "urllib3" => {
            let unit = nanos(config, "backoff_factor").expect("it has a factor");
            let grown = (2..=32).map(|n| unit.saturating_mul(1 << (n - 1)).min(cap));
            Growth::Table(std::iter::once(Duration::ZERO).chain(grown).collect())
        }
        shape => panic!("the replay does not know the shape {shape}"),
    };
    let percent = (config["jitter_ratio"].as_f64().unwrap_or_default() * 100.0) as u8;
    let jitter = match text(config, "jitter") {
        "" | "none" => Jitter::None,
        "full" | "envoy_mod" | "any" => Jitter::Full,
        "plus_minus" => Jitter::Proportional { percent },
        // Downwards only, by a fifth: ours spreads both ways, so only its bounds below the cap are compared.
        "down20" => Jitter::Proportional { percent: 20 },
        jitter => panic!("the replay does not know the jitter {jitter}"),
    };
    BackoffPolicy::new(growth, cap, jitter).ok()
}

/// The retry policy says stop: its attempts are spent, or its time is.
fn stops(config: &Value, expected: &Value, backoff: &BackoffPolicy, n: u32) {
    let millis = |field: &str| config[field].as_u64().map(Duration::from_millis);
    let deadline =
        millis("expiration_ms").or_else(|| millis("max_total_sleep_ms")).unwrap_or(Duration::from_secs(86_400));
    // Zero stands for "without limit" there; as often as we can count is as near as it gets.
    let attempts =
        config["max_attempts"].as_u64().filter(|most| *most > 0).unwrap_or_else(|| u64::from(u16::MAX)) as u16;
    let policy = RetryPolicy::new(attempts, deadline, Duration::from_secs(1), backoff.clone()).unwrap();
    let start = Timestamp::from_secs(1_000);
    let slept: Duration = (1..n).map(|n| backoff.delay(n, Seed::new(0))).sum();
    let passed = expected["advance_ms"].as_u64().map_or(slept, Duration::from_millis);
    let now = if config["expiration_ms"].is_null() && config["max_total_sleep_ms"].is_null() {
        start
    } else {
        start.saturating_add(passed)
    };
    let failure = Failure::new(Class::Transient, Certainty::NotExecuted);
    let decision = policy.decide(n as u16, failure, start, now, true, Seed::new(0));
    assert!(matches!(decision, RetryDecision::GiveUp(_)), "{expected}: {decision:?}");
}

fn delays(config: &Value, expected: &Value, policy: &BackoffPolicy, n: u32) {
    let drawn = || (0..DRAWS).map(|seed| policy.delay(n, Seed::new(seed)));
    let millis = |field: &str| expected[field].as_f64().map(|millis| millis * 1e6);
    let (least, most) = (drawn().min().unwrap().as_nanos() as f64, drawn().max().unwrap().as_nanos() as f64);
    let exact = millis("delay_ms").or_else(|| expected["delay_ns"].as_f64());
    let draws = ["rand", "rand_u64", "rand_u64_seq"].iter().any(|field| !config[*field].is_null());
    match exact {
        Some(exact) if draws => {
            // To a hundredth of the spread: 20,000 seeds come as near as that to every value.
            let near = (most - least) / 100.0 + 1.0;
            assert!(exact >= least - near && exact <= most + near, "{expected}: {exact} is not in {least}..{most}");
        }
        Some(exact) => {
            assert!((least - exact).abs() < exact * 1e-15 + 1.0 && least == most, "{expected}: {least}..{most}")
        }
        None => {}
    }
    if expected["saturates"] == true {
        assert_eq!(policy.delay(n, Seed::new(0)).as_nanos(), u128::from(u64::MAX), "{expected}");
    }
    let downwards = text(config, "jitter") == "down20";
    if let Some(min) = millis("min_ms") {
        assert!(least >= min - 1.0, "{expected}: {least}");
    }
    if let Some(min) = millis("min_exclusive_ms") {
        assert!(least > min, "{expected}: {least}");
    }
    let upper = millis("max_ms").or_else(|| millis("max_exclusive_ms"));
    if let Some(max) = upper.filter(|max| !downwards || *max >= policy.cap().as_nanos() as f64) {
        assert!(most <= max, "{expected}: {most}");
    }
    if let Some(tolerance) = expected["histogram_1s_bins_tolerance"].as_f64() {
        let mut bins = vec![0.0; policy.cap().as_secs() as usize];
        for delay in drawn() {
            let bin = (delay.as_secs() as usize).min(bins.len() - 1);
            bins[bin] += 1.0;
        }
        let mean = DRAWS as f64 / bins.len() as f64;
        assert!(bins.iter().all(|bin| (bin / mean - 1.0).abs() < tolerance), "{bins:?}");
    }
}
