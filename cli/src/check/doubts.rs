//! Finds settings that are legal, but that are usually mistakes, or never have an effect.

use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::budget::{BudgetPolicy, RetryBudget, Tokens};
use steadfast_core::explain::Span;
use steadfast_core::gate::{GatePolicy, WhenOpen};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Class, RetryAfter, RetryPolicy};
use steadfast_core::{Kind, OperationPolicy, SendSafety, Timestamp};

use super::times::{self, Start};

/// The settings that a person should look at again, each with its field.
pub(super) fn doubts(
    policy: &OperationPolicy,
    gate: &GatePolicy,
    (creates, polls): (&[Start], &[Start]),
    has_webhooks: bool,
    seed: u64,
) -> Vec<String> {
    let mut doubts = Vec::new();
    retry("policy.create", policy.create(), &mut doubts);
    let create = policy.create();
    if !may_be_hurried(create) {
        let of_all = (create.attempts(), || times::most_attempts(create, seed));
        unreached("policy.create", "attempt", creates, of_all, create.deadline(), &mut doubts);
    }
    let lookup = policy.lookup();
    if looks_up(policy) {
        retry("policy.lookup", lookup, &mut doubts);
        if !may_be_hurried(lookup) {
            let of_all = (lookup.attempts(), || times::most_attempts(lookup, seed));
            let lookups = times::attempts(lookup, seed);
            unreached("policy.lookup", "attempt", &lookups, of_all, lookup.deadline(), &mut doubts);
        }
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
    // Each webhook may bring a poll forward, for which there must be room. The default policy has some too.
    let said = |poll: &PollPolicy| (poll.schedule().clone(), poll.polls(), poll.deadline());
    let may_come_forward = has_webhooks || may_be_hurried(poll.retry()) || said(poll) == said(&PollPolicy::default());
    if !may_come_forward {
        let of_all = (poll.polls(), || times::most_polls(poll, seed));
        unreached("policy.poll", "poll", polls, of_all, poll.deadline(), &mut doubts);
    }
    let used_up = times::used_up(poll);
    if used_up < poll.deadline() / 2 {
        doubts.push(format!(
            "policy.poll.polls is {}: a job that stays pending ends as unresolved after {} at the latest, and the deadline is {}",
            poll.polls(),
            Span(used_up),
            Span(poll.deadline()),
        ));
    }
    if poll.retry().attempt_timeout() >= poll.deadline() {
        doubts.push(format!(
            "policy.poll.retry.attempt_timeout is {}, the deadline {}: one poll without an answer uses up all the time there is",
            Span(poll.retry().attempt_timeout()),
            Span(poll.deadline()),
        ));
    }
    failed_polls(poll, &mut doubts);
    never_grows("policy.persist", policy.persist(), &mut doubts);
    of_gate(policy, gate, &mut doubts);
    doubts
}

const fn looks_up(policy: &OperationPolicy) -> bool {
    matches!(policy.safety(), SendSafety::Lookup { .. })
}

/// Whether the provider may name a wait that is shorter than the policy's own, and is believed.
const fn may_be_hurried(policy: &RetryPolicy) -> bool {
    matches!(policy.retry_after(), RetryAfter::Exact { ceiling } if !ceiling.is_zero())
}

/// Polls that fail, and those that find no job.
fn failed_polls(poll: &PollPolicy, doubts: &mut Vec<String>) {
    let (retry, deadline) = (poll.retry(), poll.deadline());
    never_grows("policy.poll.retry.backoff", retry.backoff(), doubts);
    // A streak that has used up the attempts goes on at the slowest pace.
    let shortest = if retry.attempts() > 1 { retry.backoff().bounds(1).0 } else { poll.schedule().cap() };
    // At that pace, no hint makes a wait shorter.
    let is_shortest = retry.attempts() == 1 || !may_be_hurried(retry);
    if is_shortest && poll.schedule().bounds(1).0.saturating_add(shortest) >= deadline {
        doubts.push(format!(
            "policy.poll.retry waits at least {} after a poll that failed, and the deadline is {}: a first poll that fails is the last",
            Span(shortest),
            Span(deadline),
        ));
    }
    if retry.deadline() != RetryPolicy::default().deadline() {
        doubts.push(format!(
            "policy.poll.retry.deadline is {}, and has no effect: polls end at policy.poll.deadline, {}",
            Span(retry.deadline()),
            Span(deadline),
        ));
    }
    if poll.not_found_grace() >= deadline {
        doubts.push(format!(
            "policy.poll.not_found_grace is {}, the deadline {}: that the provider does not know the job never ends it",
            Span(poll.not_found_grace()),
            Span(deadline),
        ));
    }
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
        of_budget(budget, doubts);
    }
    let lookup = looks_up(policy).then(|| policy.lookup());
    let requests = [policy.create(), policy.poll().retry()].into_iter().chain(lookup);
    let longest_call = requests.map(RetryPolicy::attempt_timeout).max().unwrap_or_default();
    if let Some(breaker) = gate.breaker() {
        of_breaker(breaker, longest_call, doubts);
    } else if gate.when_open() == WhenOpen::Refuse {
        doubts.push("gate.when_open is refuse, and has no effect without a breaker".to_owned());
    }
    let (soonest, _) = policy.poll().schedule().bounds(1);
    for (index, limit) in gate.rate_limits().iter().enumerate() {
        let (whole, replicas) = (limit.rate, gate.replicas().get());
        let part = whole.divided_among(gate.replicas());
        let (every, burst) = (part.per() / part.count(), part.burst());
        let named = if replicas == 1 {
            format!("gate.rate_limits[{index}]")
        } else {
            format!("gate.rate_limits[{index}] divided by gate.replicas")
        };
        if whole.count() < replicas {
            doubts.push(format!(
                "gate.rate_limits[{index}] counts {} in {}, and gate.replicas is {replicas}: each process may send one at once, which together is more",
                whole.count(),
                Span(whole.per()),
            ));
        } else if whole.count() % replicas * 10 >= whole.count() {
            doubts.push(format!(
                "gate.rate_limits[{index}] counts {} in {}, which gate.replicas ({replicas}) does not divide: {} of them stay unused",
                whole.count(),
                Span(whole.per()),
                whole.count() % replicas,
            ));
        }
        if limit.kinds.contains(Kind::Poll) && burst == 1 && every > soonest {
            doubts.push(format!(
                "{named} lets one request go every {}, and the first poll is due after {}: one job alone has to wait for it",
                Span(every),
                Span(soonest),
            ));
        }
        if limit.kinds.contains(Kind::Create) && every > policy.create().deadline() {
            doubts.push(format!(
                "{named} lets one request go every {}, and a create has {}: of {} jobs submitted together one is rejected",
                Span(every),
                Span(policy.create().deadline()),
                burst.saturating_add(1),
            ));
        }
    }
}

fn of_budget(budget: &BudgetPolicy, doubts: &mut Vec<String>) {
    let [per_request, per_success, per_second] =
        [budget.per_request(), budget.per_success(), budget.per_second()].map(|tokens| tokens > Tokens::ZERO);
    let full = RetryBudget::new(budget);
    let now = Timestamp::from_secs(1_700_000_000);
    let granted = [Class::Transient, Class::Throttled, Class::TimedOut].map(|why| full.check(budget, why, now).is_ok());
    let is_empty = granted == [false; 3];
    if !per_request && !per_success && !per_second {
        // A retry that ends well may get its own cost back, and no more.
        doubts.push(if is_empty {
            "gate.budget has no token for a first retry, and takes none in: no retry is ever sent".to_owned()
        } else {
            "gate.budget takes no tokens in (per_request, per_success and per_second are 0): once it is spent, no retry is sent".to_owned()
        });
    } else if is_empty && !per_second {
        doubts.push("gate.budget has no token for a first retry, and time brings none: no retry is sent until other requests have brought enough".to_owned());
    }
    let costs = budget.costs();
    let most = budget.capacity().saturating_sub(budget.keep());
    for (why, cost) in [("transient", costs.transient), ("throttled", costs.throttled), ("timed_out", costs.timed_out)]
    {
        if u32::from(cost.get()) > most {
            let verb = if budget.keep() == 0 { "holds" } else { "gives" };
            doubts.push(format!(
                "gate.budget.costs.{why} is {cost}, and the budget never {verb} more than {most}: no such retry is ever sent"
            ));
        }
    }
}

fn of_breaker(breaker: &BreakerPolicy, longest_call: Duration, doubts: &mut Vec<String>) {
    never_grows("gate.breaker.open", breaker.open(), doubts);
    if breaker.probes().lease < longest_call {
        doubts.push(format!(
            "gate.breaker.probes.lease is {}, and a request may take {}: a client waits for each probe for as long as that",
            Span(breaker.probes().lease),
            Span(longest_call),
        ));
    }
    if let Some(slow) = breaker.slow_calls()
        && slow.longer_than >= longest_call
    {
        doubts.push(format!(
            "gate.breaker.slow_calls.longer_than is {}, and no request may take longer than {}: none that is answered counts as slow",
            Span(slow.longer_than),
            Span(longest_call),
        ));
    }
}
