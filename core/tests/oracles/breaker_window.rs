//! Windows of failures: what three libraries' tests say that they hold. Ours is looked at through a breaker that never
//! trips; durations and their averages are not kept here and not compared.

use std::time::Duration;

use serde_json::Value;
use steadfast_core::breaker::{Breaker, BreakerPolicy, Health, SlowCalls, Window};
use steadfast_core::{Seed, Timestamp};

use crate::{Case, list, number, only, replay, text};

/// A call that is slow takes longer than this.
const SLOW: Duration = Duration::from_secs(60);

#[test]
fn window_cases_of_other_suites() {
    replay("breaker_window.json", include_str!("../../../tests/oracles/breaker_window.json"), 9, case);
}

fn case(it: &Value) -> Case {
    only(it, &["id", "source", "config", "steps"]);
    if text(it, "id") == "r4j-count2-slow" {
        return Case::NotApplicable(
            "a window of two slow calls opens the breaker through which the windows are looked at",
        );
    }
    let config = &it["config"];
    only(config, &["window", "size_s", "size", "size_ms", "buckets", "rates"]);
    let window = match text(config, "window") {
        "time" => Window::Time(Duration::from_secs(number(config, "size_s"))),
        "count" => Window::Calls(number(config, "size") as u16),
        "polly_rolling" | "tumbling" => Window::Time(Duration::from_millis(number(config, "size_ms"))),
        "sliding_max" => {
            return Case::NotApplicable("the largest value of a window is not kept: nothing here needs it");
        }
        other => panic!("the replay does not know the window {other}"),
    };
    let size = if let Window::Calls(size) = window { size.into() } else { u32::MAX };
    let slow = SlowCalls { longer_than: SLOW, percent: 100 };
    // Of a window of calls the whole must have failed: the cases keep below that.
    let policy = BreakerPolicy::rate(100, window, size).unwrap().with_slow_calls(slow).unwrap();
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    let mut now = Timestamp::from_secs(1_000);
    for step in list(it, "steps") {
        only(step, &["op", "outcome", "duration_ms", "repeat", "count", "success_when_i_mod", "value", "expect"]);
        let record = |breaker: &mut Breaker, outcome: &str| {
            let (slow, failed) = match outcome {
                "success" => (false, false),
                "error" => (false, true),
                "slow_success" => (true, false),
                "slow_error" => (true, true),
                other => panic!("the replay does not know the outcome {other}"),
            };
            let began = if slow { now.saturating_sub(2 * SLOW) } else { now };
            let ticket = breaker.admit(&policy, began).expect("it never opens");
            breaker.settle(&policy, ticket, if failed { Health::Failing } else { Health::Healthy }, now);
        };
        match text(step, "op") {
            "record" => {
                (0..step["repeat"].as_u64().unwrap_or(1)).for_each(|_| record(&mut breaker, text(step, "outcome")));
            }
            "record_pattern" => {
                let every = number(step, "success_when_i_mod");
                for i in 0..number(step, "count") {
                    record(&mut breaker, if i % every == 0 { "success" } else { "error" });
                }
            }
            "advance_ms" => now = now.saturating_add(Duration::from_millis(number(step, "value"))),
            "snapshot" => {}
            op => panic!("the replay does not know the step {op}"),
        }
        expect(&step["expect"], breaker.counts(now));
    }
    Case::Replayed
}

fn expect(expected: &Value, counts: steadfast_core::breaker::Counts) {
    let share =
        |part: u32, of: f64| if counts.calls == 0 { 0.0 } else { f64::from(part) * of / f64::from(counts.calls) };
    for (field, value) in expected.as_object().into_iter().flatten() {
        let close = |mine: f64| assert!((value.as_f64().unwrap() - mine).abs() < 1.0, "{field}: {value}, not {mine}");
        match field.as_str() {
            "total" => assert_eq!(value, counts.calls),
            "failed" => assert_eq!(value, counts.failed),
            "success" => assert_eq!(value, counts.calls - counts.failed),
            "slow" => assert_eq!(value, counts.slow),
            "failure_rate" => close(share(counts.failed, 100.0)),
            "success_rate" => close(share(counts.calls - counts.failed, 100.0)),
            "slow_rate" => close(share(counts.slow, 100.0)),
            "failure_ratio" => assert!((value.as_f64().unwrap() - share(counts.failed, 1.0)).abs() < 1e-9),
            // Slow ones are not told apart by how they ended; durations are not kept.
            "slow_success" | "slow_failed" | "total_ms" | "avg_ms" => {}
            other => panic!("the replay does not know the expectation {other}"),
        }
    }
}
