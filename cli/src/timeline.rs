//! What a person watching one job sees: a line per notice, with the time since the start.

use std::time::{Duration, Instant};

use steadfast_core::Kind;
use steadfast_core::gate::Blocked;
use steadfast_core::notice::{Notice, WakeReason};
use steadfast_core::operation::Attempt;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_tokio::Observation;

/// Prints observations to stderr.
#[derive(Debug)]
pub(crate) struct Timeline {
    start: Instant,
}

impl Timeline {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub(crate) fn print(&self, seen: &Observation) {
        let Some(line) = describe(seen) else { return };
        eprintln!("{:>8.2}s  {line}", self.start.elapsed().as_secs_f64());
    }
}

fn describe(seen: &Observation) -> Option<String> {
    Some(match &seen.notice {
        Notice::Sending(attempt) => format!("→ {} (request id {})", request(attempt), seen.correlation_id),
        Notice::Failed { attempt, failure } => format!("✗ {}: {}", request(attempt), trouble(*failure)),
        Notice::Waiting { reason, until } => {
            let wait = until.saturating_since(seen.at);
            format!("… {} in {}", next(*reason), seconds(wait))
        }
        Notice::Blocked { refusal, .. } => {
            let wait = seconds(refusal.until.saturating_since(seen.at));
            format!("… {}, waiting up to {wait}", obstacle(refusal.why))
        }
        Notice::Breaker(state) => format!("! the breaker is now {}", state.name().replace('_', "-")),
        Notice::Accepted => {
            let reference = seen.reference.as_ref().map(ToString::to_string).unwrap_or_default();
            format!("✓ accepted, the provider's reference is {reference}")
        }
        Notice::Pending { hint: None } => "  not done yet".into(),
        Notice::Pending { hint: Some(hint) } => format!("  not done yet; the provider suggests {}", seconds(*hint)),
        Notice::AwaitingPerson => "  waiting for a person".into(),
        Notice::Partial => "  a part of the result is there, waiting for the rest".into(),
        Notice::UnknownStatus(status) => format!("! a status that is not known, taken for pending: {status}"),
        Notice::ProvenAbsent => "  the look-up proved that nothing ran".into(),
        Notice::LateAnswer(_) => "  an answer came after its time".into(),
        Notice::Conflict => "! the provider contradicts itself; the first answer stands".into(),
        Notice::PersistFailed { .. } => "! a record could not be written".into(),
        Notice::Restored => "  taken up again".into(),
        Notice::Ended(outcome) => format!("■ {}: {}", outcome.name(), outcome.explain()),
        // Events that changed nothing, and what later versions may tell.
        _ => return None,
    })
}

const fn obstacle(why: Blocked) -> &'static str {
    match why {
        Blocked::Held => "the gate is held",
        Blocked::Paused => "the provider asked for a pause",
        Blocked::Open => "the provider does not answer (the breaker is open)",
        Blocked::Probing => "a probe is under way",
        Blocked::Budget => "too many retries lately",
        Blocked::Full => "enough requests are in the air",
        Blocked::Quota | Blocked::Rate => "not faster than the rate limit",
        _ => "others come first",
    }
}

fn request(attempt: &Attempt) -> String {
    let kind = match attempt.kind {
        Kind::Create => "create",
        Kind::Lookup => "look-up",
        Kind::Poll => "poll",
        _ => "request",
    };
    format!("{kind} {}", attempt.number)
}

fn trouble(failure: Failure) -> String {
    let class = match failure.class {
        Class::Throttled => "throttled",
        Class::TimedOut => "no answer in time",
        Class::Permanent => "refused",
        _ => "trouble at the provider or on the way",
    };
    let ran = match failure.certainty {
        Certainty::NotExecuted => "it did not run",
        Certainty::Executed => "it ran",
        _ => "it may have run",
    };
    match failure.retry_after {
        Some(wait) => format!("{class}, asked to wait {}; {ran}", seconds(wait)),
        None => format!("{class}; {ran}"),
    }
}

const fn next(reason: WakeReason) -> &'static str {
    match reason {
        WakeReason::Create => "next create",
        WakeReason::Lookup => "next look-up",
        WakeReason::Poll => "next poll",
        _ => "next step",
    }
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}
