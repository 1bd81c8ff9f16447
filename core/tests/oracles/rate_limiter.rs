//! Rate limiters of eight libraries: what they let through, and when.

use std::time::Duration;

use serde_json::Value;
use steadfast_core::Timestamp;
use steadfast_core::rate_limit::{RateLimiter, RatePolicy, Reservation};

use crate::{Case, list, number, only, replay, text};

#[test]
fn rate_limiter_cases_of_other_suites() {
    replay("rate_limiter.json", include_str!("../../../tests/oracles/rate_limiter.json"), 17, case);
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
    let policy = match (text(config, "kind"), text(it, "id")) {
        ("token_bucket" | "gcra", _) => bucket(config["per_s"].as_f64().unwrap(), number(config, "burst") as u32),
        ("smooth_reserve", _) => RatePolicy::new(1, Duration::from_millis(number(config, "interval_ms"))).unwrap(),
        // One request in an interval: the steps say which.
        ("rate_from_interval", _) => RatePolicy::new(1, Duration::from_secs(1)).unwrap(),
        ("aws_token_bucket", "boto-100" | "boto-rate10") => bucket(config["max_rate"].as_f64().unwrap(), 10),
        ("aws_token_bucket", _) => {
            return Case::NotApplicable("its rate is found by the client; here by the provider's word or by hand");
        }
        ("fixed_window", _) => {
            return Case::NotApplicable(
                "windows with fixed bounds let two windows' worth through at a bound; not offered",
            );
        }
        ("cubic" | "aws_adaptive", _) => {
            return Case::NotApplicable("a client-side guess at the rate is not offered; the bulkhead adapts (AIMD)");
        }
        (kind, _) => panic!("the replay does not know limiters of kind {kind}"),
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

fn bucket(per_second: f64, burst: u32) -> RatePolicy {
    RatePolicy::new(1, Duration::from_secs_f64(1.0 / per_second)).unwrap().with_burst(burst).unwrap()
}
