//! A policy in plain English: what it does, and what that comes to at worst.

use std::num::NonZeroU32;
use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, Trip, Window};
use steadfast_core::explain::Span;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit, WhenOpen};
use steadfast_core::retry::{RetryAfter, RetryPolicy};
use steadfast_core::{Kind, OperationPolicy, SendSafety};

/// The longest that each phase of a job can last, whatever the provider asks for and however long the gate holds
/// requests back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worst {
    pub(super) create: Duration,
    /// Looking up a create that was not answered; zero if the policy does no look-ups.
    pub(super) lookup: Duration,
    pub(super) poll: Duration,
}

impl Worst {
    pub(super) const fn of(policy: &OperationPolicy) -> Self {
        // Each phase ends at its deadline, requests under way included. A create that is in doubt at its deadline may
        // still be looked up.
        let lookup = match policy.safety() {
            SendSafety::Lookup { settle } => settle.saturating_add(policy.lookup().deadline()),
            _ => Duration::ZERO,
        };
        Self { create: policy.create().deadline(), lookup, poll: policy.poll().deadline() }
    }

    pub(super) const fn total(self) -> Duration {
        self.create.saturating_add(self.lookup).saturating_add(self.poll)
    }
}

/// Describes the policy, one thought per sentence.
pub(super) fn operation(policy: &OperationPolicy) -> Vec<String> {
    let mut said = vec![format!("A create is {}", retry(policy.create()))];
    said.push(match policy.safety() {
        SendSafety::Idempotent => {
            "A create that may have run is sent again freely, since running it twice has the same effect as once.".to_owned()
        }
        SendSafety::Keyed { window } => format!(
            "A create that may have run is sent again under its key, which the provider remembers for {}; after {} identical answers in a row it is given up.",
            Span(window),
            policy.create().identical(),
        ),
        SendSafety::Lookup { settle } => format!(
            "A create that may have run is looked up {} later, and sent again only if there is no job. A look-up is {}",
            Span(settle),
            retry(policy.lookup()),
        ),
        _ => "A create that may have run is never sent again: the job then ends as unresolved.".to_owned(),
    });
    let poll = policy.poll();
    said.push(format!(
        "A job that was accepted is polled at most {} in {}, {}{}.",
        times(poll.polls()),
        Span(poll.deadline()),
        backoff(poll.schedule()),
        if poll.accepts_partial() { "; a partial result ends it" } else { "" },
    ));
    said.push(format!(
        "A poll that fails is tried again {}, and after {} failures in a row at the schedule's slowest pace, every {}; failures alone never end a job before its deadline.",
        backoff(poll.retry().backoff()),
        poll.retry().attempts(),
        Span(poll.schedule().cap()),
    ));
    if !poll.not_found_grace().is_zero() {
        said.push(format!("For {} \"no such job\" counts as pending.", Span(poll.not_found_grace())));
    }
    let worst = Worst::of(policy);
    let lookup = if worst.lookup.is_zero() { String::new() } else { format!(", {} to look it up", Span(worst.lookup)) };
    said.push(format!(
        "A job ends at most {} after it is submitted: {} to create it{lookup}, {} to get its result. That includes waiting at the gate. It can take longer if the program restarts (the time for the result then starts again), if the machine sleeps through a deadline, or if the journal cannot be written.",
        Span(worst.total()),
        Span(worst.create),
        Span(worst.poll),
    ));
    said
}

fn retry(policy: &RetryPolicy) -> String {
    let tried = match policy.attempts() {
        1 => format!(
            "tried once, within {}, with a time-out of {}",
            Span(policy.deadline()),
            Span(policy.attempt_timeout())
        ),
        attempts => format!(
            "tried at most {} in {}, {} each, {}",
            times(attempts),
            Span(policy.deadline()),
            Span(policy.attempt_timeout()),
            backoff(policy.backoff()),
        ),
    };
    let hint = match policy.retry_after() {
        RetryAfter::Floor { ceiling } => {
            format!("A Retry-After makes a wait longer, up to {}", Span(ceiling))
        }
        RetryAfter::Exact { ceiling } => {
            format!("A Retry-After takes the place of a wait, up to {}", Span(ceiling))
        }
        RetryAfter::Clamped { extra } => format!("A Retry-After makes a wait longer by at most {}", Span(extra)),
        _ => "A Retry-After is taken as the policy says".to_owned(),
    };
    format!("{tried}. {hint}; one that leads past the deadline ends the attempts.")
}

/// `with waits of 1 s, doubled up to 20 s, any part of each drawn by chance`
fn backoff(policy: &BackoffPolicy) -> String {
    let cap = Span(policy.cap());
    let growth = match policy.growth() {
        Growth::Fixed(delay) if delay.is_zero() => return "without waiting between".to_owned(),
        Growth::Fixed(delay) => format!("with waits of {}", Span(*delay)),
        Growth::Linear { first, step } => {
            format!("with waits of {}, {} more each time up to {cap}", Span(*first), Span(*step))
        }
        Growth::Exponential { first, factor } if f64::from(*factor) == 2.0 => {
            format!("with waits of {}, doubled up to {cap}", Span(*first))
        }
        Growth::Exponential { first, factor } => {
            format!("with waits of {}, times {} up to {cap}", Span(*first), f64::from(*factor))
        }
        Growth::Fibonacci { first } => format!("with Fibonacci's waits from {} up to {cap}", Span(*first)),
        Growth::Table(delays) => {
            let delays: Vec<String> = delays.iter().map(|delay| Span(*delay).to_string()).collect();
            format!("with waits of {}", delays.join(", "))
        }
        _ => format!("with waits up to {cap}"),
    };
    let jitter = match policy.jitter() {
        Jitter::None => "without jitter".to_owned(),
        Jitter::Full => "each drawn from zero up".to_owned(),
        Jitter::Equal => "each drawn from its half up".to_owned(),
        Jitter::Proportional { percent } => format!("each {percent}% more or less"),
        Jitter::Decorrelated => "each drawn from the first up to three times the one before".to_owned(),
        _ => return growth,
    };
    format!("{growth}, {jitter}")
}

/// Describes the gate, one machine per sentence.
pub(super) fn gate(policy: &GatePolicy) -> Vec<String> {
    let mut said = Vec::new();
    said.push(match policy.breaker() {
        Some(policy) => breaker(policy),
        None => "No breaker: requests go on while the provider is down.".to_owned(),
    });
    if policy.breaker().is_some() && policy.when_open() == WhenOpen::Refuse {
        said.push("While it is open, jobs of which nothing was sent are rejected.".to_owned());
    }
    said.push(match policy.budget() {
        Some(budget) => {
            let costs = budget.costs();
            let incomes = [
                (budget.per_request(), "with each first attempt"),
                (budget.per_success(), "with each good end"),
                (budget.per_second(), "each second"),
            ];
            let incomes = incomes.map(|(tokens, when)| (f64::from(tokens), when));
            let more: Vec<_> =
                incomes.iter().filter(|(tokens, _)| *tokens > 0.0).map(|(tokens, when)| format!("{tokens} {when}")).collect();
            format!(
                "All retries share a budget: {} tokens at first, {} at most. It gains {}. A retry costs {} ({} if throttled, {} if timed out){}.",
                budget.initial(),
                budget.capacity(),
                if more.is_empty() { "nothing".to_owned() } else { more.join(", ") },
                costs.transient,
                costs.throttled,
                costs.timed_out,
                if budget.keep() == 0 { String::new() } else { format!(" and must leave {}", budget.keep()) },
            )
        }
        None => "No retry budget: in an outage each job retries as often as its own policy allows.".to_owned(),
    });
    said.push(match policy.bulkhead().map(|bulkhead| (bulkhead.initial(), bulkhead.bounds())) {
        Some((_, (least, most))) if least == most => format!("At most {most} requests are under way at once."),
        Some((initial, (least, most))) => {
            format!("At first at most {initial} requests are under way at once; later the limit adapts, from {least} to {most}.")
        }
        None => "No bulkhead: any number of requests may be under way at once.".to_owned(),
    });
    said.extend(policy.rate_limits().iter().map(|limit| rate_limit(limit, policy.replicas())));
    if policy.rate_limits().is_empty() {
        said.push("No rate limit except what the provider's answers announce.".to_owned());
    }
    if policy.replicas().get() > 1 {
        said.push(format!(
            "Limits, and what the provider's answers say is left, are shared by {} processes: this one keeps to its part.",
            policy.replicas()
        ));
    }
    said.push(format!(
        "A 429 holds all requests back for as long as it asks, at most {}.",
        Span(policy.longest_pause())
    ));
    said
}

fn breaker(policy: &BreakerPolicy) -> String {
    let trip = match policy.trip() {
        Trip::Consecutive { failures } => format!("after {failures} failures in a row"),
        Trip::Rate { percent, window: Window::Calls(calls), minimum } => {
            format!("when {percent}% of the last {calls} calls failed (of at least {minimum})")
        }
        Trip::Rate { percent, window: Window::Time(span), minimum } => {
            format!("when {percent}% of the calls of the last {} failed (of at least {minimum})", Span(span))
        }
        _ => "as the policy says".to_owned(),
    };
    let slow = policy
        .slow_calls()
        .map_or_else(String::new, |slow| format!(", or {}% took longer than {}", slow.percent, Span(slow.longer_than)));
    let probes = policy.probes();
    format!(
        "The breaker opens {trip}{slow}, and stays open {}; then {} let through at a time, and {} that succeed close it.",
        backoff(policy.open()).replacen("with waits of", "for", 1),
        if probes.at_once == 1 { "1 probe is".to_owned() } else { format!("{} probes are", probes.at_once) },
        probes.successes,
    )
}

fn rate_limit(limit: &RateLimit, replicas: NonZeroU32) -> String {
    let named = [(Kind::Create, "creates"), (Kind::Lookup, "look-ups"), (Kind::Poll, "polls")];
    let named: Vec<&str> =
        named.into_iter().filter(|(kind, _)| limit.kinds.contains(*kind)).map(|(_, name)| name).collect();
    let kinds = if limit.kinds == Kinds::ALL { "requests".to_owned() } else { named.join(" and ") };
    let burst =
        if limit.rate.burst() == 1 { String::new() } else { format!(", {} of them together", limit.rate.burst()) };
    let part = limit.rate.divided_among(replicas);
    let part = if replicas.get() == 1 {
        String::new()
    } else {
        format!("; by this process {} in {}", part.count(), Span(part.per()))
    };
    format!("At most {} {kinds} leave in {}{burst}{part}.", limit.rate.count(), Span(limit.rate.per()))
}

pub(super) fn times(count: u16) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        count => format!("{count} times"),
    }
}
