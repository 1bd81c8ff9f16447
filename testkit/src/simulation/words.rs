//! Words for requests, records and answers in a history's timeline.

use std::time::Duration;

use steadfast_core::Kind;
use steadfast_core::explain::Span;
use steadfast_core::operation::{Reading, Stage};
use steadfast_core::retry::{Certainty, Class, Failure};

pub(super) const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Create => "create",
        Kind::Lookup => "look-up",
        Kind::Poll => "poll",
        _ => "request",
    }
}

fn hinted(hint: Option<Duration>) -> String {
    hint.map_or_else(String::new, |hint| format!(", ask again in {}", Span(hint)))
}

/// The stage that a record says its job has reached.
pub(super) fn stage(stage: Stage) -> String {
    match stage {
        Stage::Planned => "planned".into(),
        Stage::InFlight => "a create in flight".into(),
        Stage::Unknown => "a create may have run".into(),
        Stage::Accepted => "accepted".into(),
        Stage::Ended(outcome) => format!("ended, {}", outcome.name()),
        Stage::Delivered(outcome) => format!("delivered, {}", outcome.name()),
        _ => "of a stage that nobody knows".into(),
    }
}

pub(super) fn brief(said: &Result<Reading, Failure>) -> String {
    match said {
        Ok(Reading::Accepted(_)) => "accepted".into(),
        Ok(Reading::Pending { hint }) => format!("pending{}", hinted(*hint)),
        Ok(Reading::AwaitingPerson { hint }) => format!("waiting for a person{}", hinted(*hint)),
        Ok(Reading::Partial) => "a part".into(),
        Ok(Reading::Ready) => "ready".into(),
        Ok(Reading::Undecided) => "ended without a decision".into(),
        Ok(Reading::Failed) => "failed".into(),
        Ok(Reading::NotFound) => "not found".into(),
        Ok(_) => "a status that nobody knows".into(),
        Err(failure) => {
            let class = match failure.class {
                Class::Throttled => "throttled",
                Class::Permanent => "refused for good",
                Class::TimedOut => "timed out",
                _ => "an error",
            };
            let ran = match failure.certainty {
                Certainty::NotExecuted => "it did not run",
                Certainty::Executed => "it ran",
                _ => "it may have run",
            };
            format!("{class}, {ran}{}", hinted(failure.retry_after))
        }
    }
}
