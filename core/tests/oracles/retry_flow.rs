//! Retry decisions and retry budgets of nine libraries. The harness does what a caller does: it asks the retry policy
//! whether there may be another attempt, then the budget whether there may be another retry.

use std::num::NonZeroU8;
use std::time::Duration;

use serde_json::Value;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::budget::{BudgetPolicy, Charge, Costs, RetryBudget, Tokens};
use steadfast_core::retry::{Certainty, Class, Failure, GaveUp, RetryAfter, RetryDecision, RetryPolicy};
use steadfast_core::{Seed, Timestamp};

use crate::{Case, list, number, only, replay, text};

const NOW: Timestamp = Timestamp::from_secs(1_000);

#[test]
fn retry_flow_cases_of_other_suites() {
    replay("retry_flow.json", include_str!("../../../tests/oracles/retry_flow.json"), 47, case);
}

fn case(it: &Value) -> Case {
    only(it, &["id", "source", "config", "steps", "note", "disputed"]);
    if it["disputed"].as_bool() == Some(true) {
        return Case::NotApplicable(
            "the references disagree; here an operation has waited its ordinary backoff when it asks the budget",
        );
    }
    let (config, steps) = (&it["config"], list(it, "steps"));
    match text(config, "kind") {
        "" => flow(config, steps),
        "quota_only" => quota_only(config, steps),
        "quota_checker" => quota_checker(config, steps),
        "fractional_refill" | "time_refill" => refill(config, steps),
        "finagle_budget" => finagle(config, steps),
        "gcloud_token_throttler" => {
            return Case::NotApplicable(
                "takes tokens for every failure; here for every retry that is granted, and for no other",
            );
        }
        "grpc" => return grpc(config, steps),
        "attempts" => attempts(1 + number(config, "max_retries"), steps),
        "urllib3_counters" if !config["redirect"].is_null() => {
            return Case::NotApplicable("redirects are not followed, so none resets a delay");
        }
        "urllib3_counters" => {
            only(config, &["kind", "total", "connect", "read", "status", "allowed_methods"]);
            let limits = ["total", "connect", "read", "status"].iter().filter_map(|field| config[*field].as_i64());
            attempts(limits.min().unwrap_or_default().max(0) as u64 + 1, steps);
        }
        "sre_adaptive" => {
            return Case::NotApplicable(
                "a chance of refusal that grows with failures is not offered: budgets are exact",
            );
        }
        "envoy_concurrency_budget" => {
            return Case::NotApplicable("a share of the active requests collapses when all fail at once; not offered");
        }
        kind => panic!("the replay does not know cases of kind {kind}"),
    }
    Case::Replayed
}

fn cost(config: &Value, field: &str) -> NonZeroU8 {
    NonZeroU8::new(number(config, field) as u8).unwrap()
}

fn aws(config: &Value) -> BudgetPolicy {
    BudgetPolicy::new(number(config, "quota_capacity") as u32)
        .unwrap()
        .with_costs(Costs {
            transient: cost(config, "cost_retry"),
            throttled: cost(config, "cost_throttle"),
            timed_out: cost(config, "cost_timeout"),
        })
        .unwrap()
        .with_per_success(Tokens::whole(number(config, "success_no_retry_refund") as u32))
        .with_refunds(true)
}

/// Whole operations with the budgets and delays of AWS's SDKs.
fn flow(config: &Value, steps: &[Value]) {
    only(
        config,
        &[
            "quota_capacity",
            "cost_retry",
            "cost_throttle",
            "cost_timeout",
            "success_no_retry_refund",
            "max_attempts",
            "backoff",
            "long_polling",
            "retry_after_header",
            "retry_after_unit",
            "retry_after_rule",
        ],
    );
    let budget_policy = aws(config);
    let mut budget = RetryBudget::new(&budget_policy);
    let (mut made, mut charge) = (0, None);
    for step in steps {
        only(step, &["resp", "expect", "attempt"]);
        let resp = &step["resp"];
        only(resp, &["status", "kind", "code", "retry_after_ms", "headers", "new_operation", "body_state"]);
        if step["attempt"] == 1 || resp["new_operation"] == true {
            (made, charge) = (0, None);
        }
        made += 1;
        let (action, delay) = match outcome(resp) {
            None => {
                budget.succeeded(&budget_policy, charge.take(), NOW);
                made = 0;
                ("success", Duration::ZERO)
            }
            Some(failure) => {
                let decision = policy(config, failure.class).decide(made, failure, NOW, NOW, true, Seed::new(1));
                match decision {
                    RetryDecision::At(at) => match budget.withdraw(&budget_policy, failure.class, NOW) {
                        Ok(paid) => {
                            charge = Some(paid);
                            ("retry", at.saturating_since(NOW))
                        }
                        Err(_) => ("fail_quota", Duration::ZERO),
                    },
                    RetryDecision::GiveUp(GaveUp::Attempts) => ("fail_max_attempts", Duration::ZERO),
                    RetryDecision::GiveUp(_) => ("fail", Duration::ZERO),
                }
            }
        };
        let expected = &step["expect"];
        only(expected, &["action", "quota", "delay_ms"]);
        assert_eq!(text(expected, "action"), action, "{step}");
        if let Some(quota) = expected["quota"].as_u64() {
            assert_eq!(quota, u64::from(budget.tokens(&budget_policy, NOW)), "{step}");
        }
        if let Some(millis) = expected["delay_ms"].as_u64() {
            assert_eq!(u128::from(millis), delay.as_millis(), "{step}");
        }
    }
}

/// How that answer is classified; `None` if it is good.
fn outcome(resp: &Value) -> Option<Failure> {
    let class = match (number(resp, "status"), text(resp, "kind"), text(resp, "code"), text(resp, "body_state")) {
        (_, _, "Throttling", _) | (429, ..) => Class::Throttled,
        (_, "timeout", ..) => Class::TimedOut,
        (200, _, _, "Running") | (500..=599, ..) => Class::Transient,
        (200, ..) => return None,
        (400..=499, ..) => Class::Permanent,
        other => panic!("the replay cannot classify {other:?}"),
    };
    // A hint is a number of milliseconds; anything else counts as absent.
    let header = resp["headers"].as_object().and_then(|headers| headers.values().next()?.as_str()?.parse().ok());
    let hint = resp["retry_after_ms"].as_u64().or(header).map(Duration::from_millis);
    Some(Failure::new(class, Certainty::MayHaveExecuted).with_retry_after(hint))
}

/// AWS's delays are longer after throttling: two policies of ours, chosen by the class.
fn policy(config: &Value, class: Class) -> RetryPolicy {
    // A budget's case may leave out the delays.
    let millis = |field: &str, default| Duration::from_millis(config["backoff"][field].as_u64().unwrap_or(default));
    let cap = millis("max_ms", 20_000);
    let first =
        if class == Class::Throttled { millis("initial_throttle_ms", 1_000) } else { millis("initial_ms", 1_000) };
    only(&config["backoff"], &["initial_ms", "initial_throttle_ms", "factor", "max_ms", "jitter"]);
    let backoff = BackoffPolicy::new(Growth::doubling(first), cap, Jitter::None).unwrap();
    // "As often as you like" is as often as we can count.
    let attempts = number(config, "max_attempts").try_into().unwrap_or(u16::MAX);
    let hints = match text(config, "retry_after_rule") {
        "" => RetryAfter::Exact { ceiling: cap },
        "clamp(hint, t_i, t_i+5000)" => RetryAfter::Clamped { extra: Duration::from_secs(5) },
        rule => panic!("the replay does not know the rule {rule}"),
    };
    let day = Duration::from_secs(86_400);
    RetryPolicy::new(attempts, day, day, backoff).unwrap().with_retry_after(hints)
}

fn quota_only(config: &Value, steps: &[Value]) {
    let policy = BudgetPolicy::new(number(config, "quota_capacity") as u32).unwrap();
    let mut budget = RetryBudget::new(&policy);
    for step in steps {
        let amount = number(step, "amount") as u8;
        match text(step, "op") {
            "acquire" => {
                let policy = policy.clone().with_costs(Costs::all(NonZeroU8::new(amount).unwrap())).unwrap();
                let ok = budget.withdraw(&policy, Class::Transient, NOW).is_ok();
                assert_eq!(step["expect"]["ok"].as_bool(), Some(ok));
            }
            "release" => {
                let policy = policy.clone().with_per_success(Tokens::whole(amount.into()));
                budget.succeeded(&policy, None, NOW);
            }
            op => panic!("the replay does not know the step {op}"),
        }
        assert_eq!(number(&step["expect"], "quota"), u64::from(budget.tokens(&policy, NOW)));
    }
}

fn quota_checker(config: &Value, steps: &[Value]) {
    let policy = aws(config);
    let mut budget = RetryBudget::new(&policy);
    let mut charge: Option<Charge> = None;
    for step in steps {
        match text(step, "op") {
            "acquire_for_failure" => {
                let class = match text(step, "kind") {
                    "transient" => Class::Transient,
                    "throttle" => Class::Throttled,
                    "timeout" => Class::TimedOut,
                    kind => panic!("the replay does not know failures of kind {kind}"),
                };
                let paid = budget.withdraw(&policy, class, NOW);
                assert_eq!(step["expect"]["ok"].as_bool(), Some(paid.is_ok()));
                charge = paid.ok().or(charge);
            }
            "operation_finished" => budget.succeeded(&policy, charge.take(), NOW),
            op => panic!("the replay does not know the step {op}"),
        }
        assert_eq!(number(&step["expect"], "quota"), u64::from(budget.tokens(&policy, NOW)));
    }
}

fn refill(config: &Value, steps: &[Value]) {
    only(config, &["kind", "quota_capacity", "start", "refill_per_s", "success_reward"]);
    let tokens = |value: &Value| value.as_f64().map_or(Tokens::ZERO, |value| Tokens::try_from(value).unwrap());
    let policy = BudgetPolicy::new(number(config, "quota_capacity") as u32)
        .unwrap()
        .with_capacity(number(config, "quota_capacity") as u32, number(config, "start") as u32)
        .unwrap()
        .with_per_second(tokens(&config["refill_per_s"]))
        .with_per_success(tokens(&config["success_reward"]));
    let mut budget = RetryBudget::new(&policy);
    budget.first_attempt(&policy, NOW);
    let mut now = NOW;
    for step in steps {
        match text(step, "op") {
            "advance_s" => now = now.saturating_add(Duration::from_secs(number(step, "value"))),
            "success" => (0..number(step, "repeat")).for_each(|_| budget.succeeded(&policy, None, now)),
            // What is no number never gets into a budget.
            "set_fraction" if step["value"] == "NaN" => assert!(Tokens::try_from(f64::NAN).is_err()),
            "set_fraction" => budget.succeeded(&policy.clone().with_per_success(tokens(&step["value"])), None, now),
            op => panic!("the replay does not know the step {op}"),
        }
        let expected = &step["expect"];
        only(expected, &["quota", "added", "fraction"]);
        let whole =
            expected["quota"].as_u64().or_else(|| expected["added"].as_u64()).expect("whole tokens are expected");
        assert_eq!(whole, u64::from(budget.tokens(&policy, now)), "{step}");
        // The fraction is what lacks to the next whole token, to the millionth.
        if let Some(fraction) = expected["fraction"].as_f64().filter(|fraction| *fraction > 0.0) {
            let lacking = ((1.0 - fraction) * 1e6).round() as u64;
            let with = |millionths| {
                let (mut budget, policy) = (budget, policy.clone().with_per_success(Tokens::millionths(millionths)));
                budget.succeeded(&policy, None, now);
                u64::from(budget.tokens(&policy, now))
            };
            assert_eq!((with(lacking - 1), with(lacking)), (whole, whole + 1), "{step}");
        }
    }
}

fn finagle(config: &Value, steps: &[Value]) {
    only(config, &["kind", "ttl_s", "min_retries_per_s", "percent"]);
    let reserve = number(config, "ttl_s") * number(config, "min_retries_per_s");
    let policy = BudgetPolicy::new(100_000)
        .unwrap()
        .with_capacity(100_000, reserve as u32)
        .unwrap()
        .with_per_request(Tokens::try_from(config["percent"].as_f64().unwrap()).unwrap())
        .with_per_second(Tokens::whole(number(config, "min_retries_per_s") as u32));
    let mut budget = RetryBudget::new(&policy);
    for step in steps {
        only(step, &["op", "repeat", "expect"]);
        let expected = &step["expect"];
        only(expected, &["quota", "withdrawn", "tolerance", "ok"]);
        match text(step, "op") {
            "balance" => {}
            "deposit" => (0..number(step, "repeat")).for_each(|_| budget.first_attempt(&policy, NOW)),
            "withdraw" => {
                let ok = budget.withdraw(&policy, Class::Transient, NOW).is_ok();
                assert_eq!(expected["ok"].as_bool(), Some(ok));
            }
            "deposit_then_withdraw" => {
                let mut withdrawn = 0_u64;
                for _ in 0..number(step, "repeat") {
                    budget.first_attempt(&policy, NOW);
                    withdrawn += u64::from(budget.withdraw(&policy, Class::Transient, NOW).is_ok());
                }
                let off = withdrawn.abs_diff(number(expected, "withdrawn"));
                assert!(off <= number(expected, "tolerance"), "{withdrawn} withdrawn: {step}");
            }
            op => panic!("the replay does not know the step {op}"),
        }
        if let Some(quota) = expected["quota"].as_u64() {
            assert_eq!(quota, u64::from(budget.tokens(&policy, NOW)), "{step}");
        }
    }
}

fn simple(attempts: u64) -> RetryPolicy {
    let day = Duration::from_secs(86_400);
    let ceiling = Duration::from_secs(3_600);
    RetryPolicy::new(attempts as u16, day, day, BackoffPolicy::default())
        .unwrap()
        .with_retry_after(RetryAfter::Exact { ceiling })
}

fn grpc(config: &Value, steps: &[Value]) -> Case {
    only(config, &["kind", "max_attempts", "retryable", "pushback_header"]);
    let policy = simple(number(config, "max_attempts"));
    let retryable = |code: &str| list(config, "retryable").iter().any(|it| it == code);
    let failure = |code: &str| {
        let class = if retryable(code) { Class::Transient } else { Class::Permanent };
        Failure::new(class, Certainty::NotExecuted)
    };
    for step in steps {
        if text(step, "op") == "response" {
            let [only_one] = list(step, "pushback") else {
                return Case::NotApplicable("a repeated header counts once, by its first line");
            };
            let Some(hint) = only_one.as_str().and_then(|hint| hint.parse().ok()).map(Duration::from_millis) else {
                return Case::NotApplicable(
                    "a malformed hint counts as absent here, as RFC 9110 has it, not as a refusal",
                );
            };
            let failure = failure(text(step, "code")).with_retry_after(Some(hint));
            let at = NOW.saturating_add(Duration::from_millis(number(&step["expect"], "delay_ms")));
            assert_eq!(policy.decide(1, failure, NOW, NOW, true, Seed::new(1)), RetryDecision::At(at));
            continue;
        }
        let mut made = 0;
        let mut result = "";
        for code in list(step, "server") {
            result = code.as_str().unwrap();
            made += 1;
            let goes_on = result != "OK"
                && matches!(policy.decide(made, failure(result), NOW, NOW, true, Seed::new(1)), RetryDecision::At(_));
            if !goes_on {
                break;
            }
        }
        assert_eq!((text(&step["expect"], "result"), number(&step["expect"], "attempts")), (result, made.into()));
    }
    Case::Replayed
}

/// So many attempts in all; what may be repeated by its method is repeatable.
fn attempts(most: u64, steps: &[Value]) {
    let policy = simple(most);
    for (made, step) in (1..).zip(steps) {
        only(step, &["kind", "status", "method", "expect"]);
        let certainty = if text(step, "kind") == "read" { Certainty::MayHaveExecuted } else { Certainty::NotExecuted };
        let failure = Failure::new(Class::Transient, certainty);
        let repeatable = text(step, "method") != "POST";
        let action = match policy.decide(made, failure, NOW, NOW, repeatable, Seed::new(1)) {
            RetryDecision::At(_) => "retry",
            RetryDecision::GiveUp(GaveUp::Attempts) => "fail_max_attempts",
            RetryDecision::GiveUp(_) => "fail",
        };
        assert_eq!(text(&step["expect"], "action"), action, "{step}");
    }
}
