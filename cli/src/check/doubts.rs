//! Finds settings that are legal, but that are usually mistakes.

use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::budget::RetryBudget;
use steadfast_core::explain::Span;
use steadfast_core::gate::GatePolicy;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Class, RetryPolicy};
use steadfast_core::{Kind, OperationPolicy, SendSafety, Timestamp};

use super::times::{self, Start};

/// The settings that a person should look at again, each with its field.
pub(super) fn doubts(
    policy: &OperationPolicy,
    gate: &GatePolicy,
    (creates, polls): (&[Start], &[Start]),
    seed: u64,
) -> Vec<String> {
    let mut doubts = Vec::new();
    retry("policy.create", policy.create(), &mut doubts);
    let create = policy.create();
    let of_all = (create.attempts(), || times::most_attempts(create, seed));
    unreached("policy.create", "attempt", creates, of_all, create.deadline(), &mut doubts);
    if let SendSafety::Lookup { .. } = policy.safety() {
        retry("policy.lookup", policy.lookup(), &mut doubts);
    }
    if let SendSafety::Keyed { window } = policy.safety()
        && window < policy.create().deadline()
    {
        doubts.push(format!(
            "policy.safety.keyed.window is {}, and creates may be tried for {}: what is left in doubt after the window is not sent again",
            Span(window),
            Span(policy.create().deadline()),
        ));
    }
    let poll = policy.poll();
    never_grows("policy.poll.schedule", poll.schedule(), &mut doubts);
    // In the default policy the last two polls are only reached when webhooks bring polls forward.
    let said = |poll: &PollPolicy| (poll.schedule().clone(), poll.polls(), poll.deadline());
    if said(poll) != said(&PollPolicy::default()) {
        let of_all = (poll.polls(), || times::most_polls(poll, seed));
        unreached("policy.poll", "poll", polls, of_all, poll.deadline(), &mut doubts);
    }
    if poll.retry().attempt_timeout() >= poll.deadline() {
        doubts.push(format!(
            "policy.poll.retry.attempt_timeout is {}, the deadline {}: one poll without an answer uses up all the time there is",
            Span(poll.retry().attempt_timeout()),
            Span(poll.deadline()),
        ));
    }
    of_gate(policy, gate, &mut doubts);
    doubts
}

fn retry(field: &str, policy: &RetryPolicy, doubts: &mut Vec<String>) {
    if policy.attempts() == 1 {
        return;
    }
    let backoff = policy.backoff();
    if policy.attempt_timeout() >= policy.deadline() {
        doubts.push(format!(
            "{field}.attempt_timeout is {}, the deadline {}: an attempt that times out is the last",
            Span(policy.attempt_timeout()),
            Span(policy.deadline()),
        ));
    }
    never_grows(&format!("{field}.backoff"), backoff, doubts);
    match (backoff.growth(), backoff.jitter()) {
        (Growth::Fixed(delay), _) if delay.is_zero() => {
            doubts.push(format!("{field}.backoff waits for nothing: {} attempts leave at once", policy.attempts()));
        }
        (_, Jitter::None) => {
            doubts.push(format!("{field}.backoff.jitter is none: clients that failed together come back together"))
        }
        _ => {}
    }
}

fn never_grows(field: &str, policy: &BackoffPolicy, doubts: &mut Vec<String>) {
    let first = match policy.growth() {
        Growth::Linear { first, step } if !step.is_zero() => *first,
        Growth::Exponential { first, factor } if f64::from(*factor) > 1.0 => *first,
        Growth::Fibonacci { first } => *first,
        _ => return,
    };
    if policy.cap() == first && policy.jitter() != Jitter::Decorrelated {
        doubts.push(format!("{field}.cap is the first delay, {}: the delays never grow", Span(first)));
    }
}

/// Attempts that the deadline always, or nearly always, cuts off.
///
/// `last`: how many the policy allows; `most`: how many are ever sent, if that is more than are listed.
fn unreached(
    field: &str,
    what: &str,
    starts: &[Start],
    (last, most): (u16, impl FnOnce() -> u16),
    deadline: Duration,
    doubts: &mut Vec<String>,
) {
    let (first, never) = match starts.iter().find(|start| start.reached() < 1) {
        Some(first) => (first.number, first.earliest.is_none()),
        None if last > times::MOST => match most() {
            sent if sent < last => (sent + 1, false),
            _ => return,
        },
        None => return,
    };
    let those = if first == last { format!("{what} {first} is") } else { format!("{what}s {first} to {last} are") };
    let why = if never { "never" } else { "hardly ever" };
    doubts.push(format!("{field}.deadline is {}: {those} {why} sent, since it comes first", Span(deadline)));
}

fn of_gate(policy: &OperationPolicy, gate: &GatePolicy, doubts: &mut Vec<String>) {
    if let Some(budget) = gate.budget() {
        let full = RetryBudget::new(budget);
        let now = Timestamp::from_secs(1_700_000_000);
        let granted =
            [Class::Transient, Class::Throttled, Class::TimedOut].map(|why| full.check(budget, why, now).is_ok());
        if granted == [false; 3] && f64::from(budget.per_second()) == 0.0 {
            doubts.push("gate.budget has no token for a first retry, and time brings none: no retry leaves before many requests went well".to_owned());
        }
        let costs = budget.costs();
        for (why, cost) in
            [("transient", costs.transient), ("throttled", costs.throttled), ("timed_out", costs.timed_out)]
        {
            if u32::from(cost.get()) > budget.capacity() {
                doubts.push(format!(
                    "gate.budget.costs.{why} is {cost}, and the budget never holds more than {}: no such retry is ever sent",
                    budget.capacity(),
                ));
            }
        }
    }
    let longest_call = policy.create().attempt_timeout().max(policy.poll().retry().attempt_timeout());
    if let Some(breaker) = gate.breaker()
        && breaker.probes().lease < longest_call
    {
        doubts.push(format!(
            "gate.breaker.probes.lease is {}, and a request may take {}: a client waits for each probe for as long as that",
            Span(breaker.probes().lease),
            Span(longest_call),
        ));
    }
    let (soonest, _) = policy.poll().schedule().bounds(1);
    for (index, limit) in gate.rate_limits().iter().enumerate() {
        let every = limit.rate.per() / limit.rate.count();
        if limit.kinds.contains(Kind::Poll) && limit.rate.burst() == 1 && every > soonest {
            doubts.push(format!(
                "gate.rate_limits[{index}] lets one request go every {}, and the first poll is due after {}: one job alone has to wait for it",
                Span(every),
                Span(soonest),
            ));
        }
        if limit.kinds.contains(Kind::Create) && every > policy.create().deadline() {
            doubts.push(format!(
                "gate.rate_limits[{index}] lets one request go every {}, and a create has {}: of two jobs submitted together one is rejected",
                Span(every),
                Span(policy.create().deadline()),
            ));
        }
    }
}
