//! Rate limiters of eight libraries: what they let through, and when.

use std::time::Duration;

use serde_json::Value;
use steadfast_core::Timestamp;
use steadfast_core::rate_limit::{RateLimiter, RatePolicy, Reservation};

use crate::{Case, list, number, only, replay, text};

#[test]
fn rate_limiter_cases_of_other_suites() {
    replay("rate_limiter.json", include_str!("../../../tests/oracles/rate_limiter.json"), 20, case);
}

fn case(it: &Value) -> Case {
    only(it, &["id", "source", "config", "steps", "twin", "tolerance_rel"]);
    let config = &it["config"];
    only(
        config,
        &[
            "kind",
            "per_s",
            "burst",
            "interval_ms",
            "min_rate",
            "max_rate",
            "limit",
            "cycle",
            "timeout_cycles",
            "unit",
            "w_max",
            "beta",
            "c",
            "min_fill",
            "min_capacity",
            "smooth",
        ],
    );
    let policy = match text(config, "kind") {
        "token_bucket" | "gcra" => bucket(config["per_s"].as_f64().unwrap(), number(config, "burst") as u32),
        "smooth_reserve" => RatePolicy::new(1, Duration::from_millis(number(config, "interval_ms"))).unwrap(),
        // One request in an interval: the steps say which.
        "rate_from_interval" => RatePolicy::new(1, Duration::from_secs(1)).unwrap(),
        // How many tokens are there at first is not said: a full burst, or the first alone, must do.
        "aws_token_bucket" => {
            for burst in [10, 1] {
                adjustable(&bucket(config["max_rate"].as_f64().unwrap(), burst), list(it, "steps"));
            }
            return Case::Replayed;
        }
        "fixed_window" => {
            single_window(config, list(it, "steps"));
            return Case::Replayed;
        }
        "cubic" | "aws_adaptive" => {
            return Case::NotApplicable("a client-side guess at the rate is not offered; the bulkhead adapts (AIMD)");
        }
        kind => panic!("the replay does not know limiters of kind {kind}"),
    };
    let start = Timestamp::from_secs(1_000);
    let mut limiter = RateLimiter::new();
    let mut named: Vec<(String, Option<Reservation>)> = Vec::new();
    for step in list(it, "steps") {
        only(step, &["t_ms", "op", "n", "expect", "name", "ref", "interval_ns", "calls"]);
        let now = start.saturating_add(Duration::from_millis(step["t_ms"].as_u64().unwrap_or(0)));
        let count = step["n"].as_u64().unwrap_or(1) as u32;
        let expected = &step["expect"];
        only(expected, &["ok", "tokens_before", "act_at_ms", "last_wait_ms", "per_s"]);
        if let Some(tokens) = expected["tokens_before"].as_u64() {
            let mut probe = limiter;
            let there = (0..policy.burst()).take_while(|_| probe.try_acquire(&policy, now).is_ok()).count();
            assert_eq!(tokens, there as u64);
        }
        match text(step, "op") {
            "allow" | "take" => {
                let ok = limiter.try_acquire_many(&policy, count, now).is_ok();
                assert_eq!(expected["ok"].as_bool(), Some(ok), "{step}");
            }
            "reserve" => {
                let mut place = None;
                for _ in 0..step["calls"].as_u64().unwrap_or(1) {
                    place = limiter.reserve(&policy, count, now);
                }
                if let Some(ok) = expected["ok"].as_bool() {
                    assert_eq!(ok, place.is_some(), "{step}");
                }
                let at = place.map(Reservation::at);
                let millis = |from: Timestamp| at.map(|at| at.saturating_since(from).as_millis() as u64);
                if let Some(act_at) = expected["act_at_ms"].as_u64() {
                    assert_eq!(Some(act_at), millis(start), "{step}");
                }
                if let Some(wait) = expected["last_wait_ms"].as_u64() {
                    assert_eq!(Some(wait), millis(now), "{step}");
                }
                named.push((text(step, "name").to_owned(), place));
            }
            "cancel" => {
                let (_, place) = named.iter().find(|(name, _)| name == text(step, "ref")).expect("it was reserved");
                // What was refused has nothing to give back.
                if let Some(place) = place {
                    limiter.cancel(&policy, *place, now);
                }
            }
            "rate" => {
                let policy = RatePolicy::new(1, Duration::from_nanos(number(step, "interval_ns"))).unwrap();
                let per_second = f64::from(policy.count()) / policy.per().as_secs_f64();
                assert!((per_second / expected["per_s"].as_f64().unwrap() - 1.0).abs() < 1e-12);
            }
            op => panic!("the replay does not know the step {op}"),
        }
    }
    Case::Replayed
}

/// A limit whose rate is set by hand: another policy for the same limiter.
fn adjustable(policy: &RatePolicy, steps: &[Value]) {
    let (mut policy, mut limiter) = (*policy, RateLimiter::new());
    for step in steps {
        only(step, &["t_ms", "op", "n", "value", "expect"]);
        let now = Timestamp::from_secs(1_000).saturating_add(Duration::from_millis(number(step, "t_ms")));
        match text(step, "op") {
            "take" => {
                let ok = limiter.try_acquire_many(&policy, number(step, "n") as u32, now).is_ok();
                assert_eq!(step["expect"]["ok"].as_bool(), Some(ok), "{step}");
            }
            "set_rate" => {
                policy = bucket(step["value"].as_f64().unwrap(), 1);
                let rate = 1.0 / policy.per().as_secs_f64();
                assert!((rate - step["expect"]["rate"].as_f64().unwrap()).abs() < 1e-9);
                assert_eq!(number(&step["expect"], "capacity"), u64::from(policy.burst()));
            }
            op => panic!("the replay does not know the step {op}"),
        }
    }
}

/// A window with room for one, asked where it begins, is a spacing of one window. With more room it would not be, and
/// this panics.
fn single_window(config: &Value, steps: &[Value]) {
    const CYCLE: Duration = Duration::from_secs(1);
    assert_eq!((number(config, "limit"), text(config, "unit")), (1, "cycle"));
    let policy = RatePolicy::new(1, CYCLE).unwrap();
    let patience = CYCLE * number(config, "timeout_cycles") as u32;
    let mut limiter = RateLimiter::new();
    for step in steps {
        only(step, &["t", "plus_ns", "op", "expect"]);
        let expected = &step["expect"];
        only(expected, &["wait", "wait_le", "rejected", "available", "nanos_to_wait_cycles", "nanos_to_wait_ns"]);
        let start = Timestamp::from_secs(1_000 + number(step, "t"));
        let now = start.as_nanos().saturating_add_signed(step["plus_ns"].as_i64().unwrap_or(0));
        let now = Timestamp::from_nanos(now);
        let wait = |limiter: RateLimiter| limiter.check(&policy, now).err().unwrap_or(now).saturating_since(now);
        match text(step, "op") {
            "reserve" => {
                // A reservation has no time limit of its own: whoever will not wait asks first, and leaves it.
                let told = wait(limiter);
                let granted = told <= patience;
                assert_eq!(granted, expected["rejected"] != true, "{step}");
                if granted {
                    let place = limiter.reserve(&policy, 1, now).unwrap();
                    assert_eq!(place.at().saturating_since(now), told, "a check tells what a reservation gets");
                    let most = expected["wait"].as_f64().or_else(|| expected["wait_le"].as_f64());
                    assert!(most.is_none_or(|most| told.as_secs_f64() <= most), "{step}: {told:?}");
                }
            }
            "metrics" => {}
            op => panic!("the replay does not know the step {op}"),
        }
        let wait = wait(limiter);
        if let Some(available) = expected["available"].as_i64() {
            // Below zero: the places of later windows that are promised.
            assert_eq!(available, 1 - wait.as_nanos().div_ceil(CYCLE.as_nanos()) as i64, "{step}");
        }
        if let Some(cycles) = expected["nanos_to_wait_cycles"].as_f64() {
            assert_eq!(cycles, wait.as_secs_f64(), "{step}");
        }
        if let Some(nanos) = expected["nanos_to_wait_ns"].as_u64() {
            assert_eq!(u128::from(nanos), wait.as_nanos(), "{step}");
        }
    }
}

fn bucket(per_second: f64, burst: u32) -> RatePolicy {
    RatePolicy::new(1, Duration::from_secs_f64(1.0 / per_second)).unwrap().with_burst(burst).unwrap()
}
