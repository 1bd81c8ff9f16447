//! Breakers of six libraries: which transitions their tests ask for.

use std::time::Duration;

use serde_json::Value;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{Breaker, BreakerPolicy, BreakerState, Health, Probes, SlowCalls, Ticket, Window};
use steadfast_core::{Seed, Timestamp};

use crate::{Case, list, number, only, replay, text};

#[test]
fn breaker_cases_of_other_suites() {
    replay("breaker.json", include_str!("../../../tests/oracles/breaker.json"), 40, case);
}

fn case(it: &Value) -> Case {
    only(it, &["id", "source", "config", "steps", "twin", "note"]);
    let id = text(it, "id");
    let why_not = match id {
        "r4j-fff-ss" => {
            "a success that makes the number of calls sufficient trips it there; here a good call opens nothing (as in Polly)"
        }
        "r4j-closed-to-half-illegal" => {
            "nothing forces a breaker half-open here, so the illegal step cannot be written"
        }
        "r4j-half-open-timeout-open" | "r4j-half-open-timeout-closed" => {
            "half-open has no time limit of its own here: each probe has (its lease), so a lost one wedges nothing"
        }
        "gobreaker-custom" => {
            "its half-open state counts all calls, ours those that are out; and its interval forgets all at once"
        }
        "gobreaker-negative-durations" => "a Duration cannot be negative, and zero is refused instead of replaced",
        "polly-25" => "windows below 200 ms tumble there; here every window slides",
        "finagle-rate-min5" | "finagle-ema-100" => {
            "an exponential moving average is not offered; the rate is that of a window"
        }
        _ => "",
    };
    if !why_not.is_empty() {
        return Case::NotApplicable(why_not);
    }
    let mut bench = Bench::new(&it["config"]);
    for step in list(it, "steps") {
        bench.step(step);
    }
    Case::Replayed
}

fn millis(value: u64) -> Duration {
    Duration::from_millis(value)
}

/// The policy that this configuration means.
fn policy(config: &Value) -> BreakerPolicy {
    let open_for = config["open_ms"].as_u64().unwrap_or(60_000);
    let open = BackoffPolicy::new(Growth::Fixed(millis(open_for)), millis(open_for), Jitter::None).unwrap();
    let lease = millis(open_for);
    let (policy, probes) = match text(config, "kind") {
        "failsafe" => {
            only(config, &["kind", "failure", "success", "open_ms"]);
            let failures = config["failure"]["count"].as_u64().unwrap_or(1) as u16;
            // With a success threshold, failures re-open it as soon as that many successes can no longer be had.
            let (successes, failures) = match config["success"]["count"].as_u64() {
                Some(count) => (count as u16, (number(&config["success"], "of") - count + 1) as u16),
                None => (1, failures),
            };
            let of = config["failure"]["of"].as_u64().unwrap_or(1) as u16;
            let count = config["failure"]["count"].as_u64().unwrap_or(1);
            let percent = (count * 100).div_ceil(of.into()) as u8;
            let policy = BreakerPolicy::rate(percent, Window::Calls(of), of.into()).unwrap();
            (policy, Probes { at_once: 16, successes, failures, lease })
        }
        "r4j" => {
            only(
                config,
                &[
                    "kind",
                    "failure_rate_percent",
                    "slow_rate_percent",
                    "slow_call_ms",
                    "half_open_permits",
                    "half_open_max_wait_ms",
                    "window",
                    "window_s",
                    "min_calls",
                    "open_ms",
                    "ignored_errors",
                ],
            );
            let window = Window::Time(Duration::from_secs(number(config, "window_s")));
            let percent = number(config, "failure_rate_percent") as u8;
            let slow = SlowCalls {
                longer_than: millis(number(config, "slow_call_ms")),
                percent: number(config, "slow_rate_percent") as u8,
            };
            let policy = BreakerPolicy::rate(percent, window, number(config, "min_calls") as u32).unwrap();
            let permits = number(config, "half_open_permits");
            // A rate over the permitted calls: half of four failing opens it, four good ones close it.
            let failures = (permits * u64::from(percent) / 100) as u16;
            let probes = Probes { at_once: permits as u8, successes: permits as u16, failures, lease };
            (policy.with_slow_calls(slow).unwrap(), probes)
        }
        "polly_advanced" => {
            only(
                config,
                &[
                    "kind",
                    "failure_ratio",
                    "window_ms",
                    "min_calls",
                    "open_ms",
                    "buckets",
                    "half_open_permits",
                    "half_open_permit_refresh",
                    "trip_on",
                ],
            );
            assert_eq!((text(config, "trip_on"), &config["half_open_permits"]), ("failure only", &1.into()));
            let percent = (config["failure_ratio"].as_f64().unwrap() * 100.0) as u8;
            let window = Window::Time(millis(number(config, "window_ms")));
            let policy = BreakerPolicy::rate(percent, window, number(config, "min_calls") as u32).unwrap();
            (policy, Probes { at_once: 1, successes: 1, failures: 1, lease })
        }
        "rate_rule" => {
            only(config, &["kind", "min_calls", "failure_ratio"]);
            let percent = (config["failure_ratio"].as_f64().unwrap() * 100.0) as u8;
            let minimum = number(config, "min_calls") as u32;
            (BreakerPolicy::rate(percent, Window::Calls(100), minimum).unwrap(), Probes::default())
        }
        "consecutive" => {
            only(config, &["kind", "n", "open_ms"]);
            (BreakerPolicy::consecutive(number(config, "n") as u32).unwrap(), Probes::default())
        }
        "gobreaker" => {
            only(config, &["kind", "trip", "half_open_max", "open_ms", "interval_ms", "excluded"]);
            assert_eq!(text(config, "trip"), "requests>=3 and failures/requests>=0.6");
            let window = Window::Time(millis(number(config, "interval_ms")));
            (BreakerPolicy::rate(60, window, 3).unwrap(), Probes::default())
        }
        kind => panic!("the replay does not know breakers of kind {kind}"),
    };
    policy.with_open(open).unwrap().with_probes(probes).unwrap()
}

struct Bench {
    policy: BreakerPolicy,
    breaker: Breaker,
    now: Timestamp,
    /// Tickets asked for by `try_acquire`, the latest last.
    out: Vec<Ticket>,
    /// Refusals since the state last changed: a counter that the breaker leaves to its caller.
    refused: u64,
    state: &'static str,
    opened_for: Option<Duration>,
    /// Everything is forgotten then (gobreaker): by hand, since windows here slide.
    forgets: Option<Timestamp>,
}

impl Bench {
    fn new(config: &Value) -> Self {
        let policy = policy(config);
        let breaker = Breaker::new(&policy, Seed::new(1));
        let now = Timestamp::from_secs(1_000);
        let forgets = config["interval_ms"].as_u64().map(|interval| now.saturating_add(millis(interval)));
        Self { policy, breaker, now, out: Vec::new(), refused: 0, state: "closed", opened_for: None, forgets }
    }

    fn step(&mut self, step: &Value) {
        only(step, &["op", "to", "for_ms", "value", "takes_ms", "expect", "throughput", "failure_ratio", "id", "of"]);
        let mut permitted = None;
        match text(step, "op") {
            "success" => self.end(Health::Healthy),
            "failure" => self.end(Health::Failing),
            "ignored_error" => self.end(Health::Ignored),
            "call_ok" => permitted = Some(self.call(Health::Healthy)),
            "call_fail" => permitted = Some(self.call(Health::Failing)),
            "call" => {
                let ticket = self.breaker.admit(&self.policy, self.now).expect("it is let through");
                self.now = self.now.saturating_add(millis(number(step, "takes_ms")));
                self.breaker.settle(&self.policy, ticket, Health::Healthy, self.now);
            }
            "try_acquire" => {
                let ticket = self.ask();
                permitted = Some(ticket.is_some());
                self.out.extend(ticket);
            }
            "release_permit" => {
                let ticket = self.out.pop().expect("one was acquired");
                self.breaker.settle(&self.policy, ticket, Health::Ignored, self.now);
            }
            "advance_ms" => self.now = self.now.saturating_add(millis(number(step, "value"))),
            "advance_ns" => self.now = self.now.saturating_add(Duration::from_nanos(number(step, "value"))),
            "force" => self.force(text(step, "to"), step["for_ms"].as_u64()),
            "reset" | "revived" => self.breaker.reset(&self.policy),
            "evaluate" => {
                let calls = number(step, "throughput");
                let failed = (step["failure_ratio"].as_f64().unwrap() * calls as f64) as u64;
                // All under way at once: what opens it does not keep the others from having begun.
                let tickets: Vec<Ticket> = (0..calls).map(|_| self.ask().expect("it is closed")).collect();
                for (nth, ticket) in (0..).zip(tickets) {
                    let health = if nth < calls - failed { Health::Healthy } else { Health::Failing };
                    self.breaker.settle(&self.policy, ticket, health, self.now);
                }
            }
            "read_state" | "read_metrics" => {}
            op => panic!("the replay does not know the step {op}"),
        }
        if self.forgets.is_some_and(|at| at <= self.now) {
            self.forgets = None;
            self.breaker.reset(&self.policy);
        }
        let state = self.breaker.state(self.now).name();
        if state != self.state {
            (self.state, self.refused) = (state, 0);
        }
        if permitted == Some(false) {
            self.refused += 1;
        }
        self.expect(&step["expect"], permitted);
    }

    fn ask(&mut self) -> Option<Ticket> {
        self.breaker.admit(&self.policy, self.now).ok()
    }

    fn call(&mut self, health: Health) -> bool {
        let Some(ticket) = self.ask() else { return false };
        self.breaker.settle(&self.policy, ticket, health, self.now);
        true
    }

    /// A result: of the call that was acquired last, or of one that is acquired for it.
    fn end(&mut self, health: Health) {
        let ticket = self.out.pop().or_else(|| self.ask()).expect("it is let through");
        let closed = self.breaker.state(self.now) == BreakerState::Closed;
        self.breaker.settle(&self.policy, ticket, health, self.now);
        if closed && let BreakerState::Open { until } = self.breaker.state(self.now) {
            self.opened_for = Some(until.saturating_since(self.now));
        }
    }

    fn force(&mut self, to: &str, for_ms: Option<u64>) {
        match to {
            "open" => {
                let span = for_ms.map_or_else(|| self.policy.open().cap(), millis);
                self.breaker.force_open(self.now.saturating_add(span));
            }
            // Open until now is half-open now.
            "half_open" => self.breaker.force_open(self.now),
            "forced_open" | "isolated" => self.breaker.isolate(),
            "disabled" => self.breaker.disable(),
            _ => panic!("the replay cannot force it {to}"),
        }
        self.out.clear();
    }

    fn expect(&self, expected: &Value, permitted: Option<bool>) {
        let counts = self.breaker.counts(self.now);
        for (field, value) in expected.as_object().into_iter().flatten() {
            match field.as_str() {
                "state" => {
                    let state =
                        if self.state == "isolated" && value == "forced_open" { "forced_open" } else { self.state };
                    assert_eq!(value, state);
                }
                "permitted" => assert_eq!(value.as_bool(), permitted),
                "trip" => assert_eq!(value.as_bool(), Some(self.state == "open")),
                "mark_dead_ms" => {
                    assert_eq!(value.as_u64(), self.opened_for.map(|span| span.as_millis() as u64));
                }
                "metrics" => self.expect(value, permitted),
                "not_permitted" => assert_eq!(value.as_u64(), Some(self.refused)),
                "buffered" => assert_eq!(value, counts.calls),
                // Calls under way count as requests there; of another generation they are none.
                "requests" => {
                    let out = if self.forgets.is_some() { self.out.len() } else { 0 };
                    assert_eq!(value.as_u64(), Some(u64::from(counts.calls) + out as u64));
                }
                "excluded" => assert_eq!(value.as_u64(), Some(0)),
                "failures" => assert_eq!(value, counts.failed),
                "successes" => assert_eq!(value, counts.calls - counts.failed),
                "slow" => assert_eq!(value, counts.slow),
                "slow_rate" => assert_eq!(value.as_f64(), Some(f64::from(counts.slow * 100) / f64::from(counts.calls))),
                // −1 stands for "too few calls to tell".
                "failure_rate" if value.as_f64() == Some(-1.0) => assert!(counts.calls < 5),
                _ => panic!("the replay does not know the expectation {field}"),
            }
        }
    }
}
