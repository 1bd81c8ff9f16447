//! A record's fields in the words that people read: here for programs, in `view.rs` for queries.

use steadfast_core::Outcome;
use steadfast_core::operation::{Completed, Record, Rejected, Stage, Unresolved};

pub(super) const fn state(stage: Stage) -> &'static str {
    match stage {
        Stage::Planned => "planned",
        Stage::InFlight => "in_flight",
        Stage::Unknown => "unknown",
        Stage::Accepted => "accepted",
        Stage::Ended(_) => "ended",
        Stage::Delivered(_) => "delivered",
        _ => "other",
    }
}

pub(super) const fn outcome(stage: Stage) -> Option<Outcome> {
    match stage {
        Stage::Ended(outcome) | Stage::Delivered(outcome) => Some(outcome),
        _ => None,
    }
}

/// Why it ended; for a create that may have run, `refused` if the provider said no to it.
pub(super) const fn reason(record: &Record) -> Option<&'static str> {
    let Some(outcome) = outcome(record.stage) else {
        return if record.refused { Some("refused") } else { None };
    };
    match outcome {
        Outcome::Completed(Completed::Ready) => Some("ready"),
        Outcome::Completed(Completed::Partial) => Some("partial"),
        Outcome::Completed(Completed::Undecided) => Some("undecided"),
        Outcome::Failed => None,
        Outcome::Rejected(Rejected::Refused) | Outcome::Unresolved(Unresolved::Refused) => Some("refused"),
        Outcome::Rejected(Rejected::Attempts) | Outcome::Unresolved(Unresolved::Attempts) => Some("attempts"),
        Outcome::Rejected(Rejected::Deadline) | Outcome::Unresolved(Unresolved::Deadline) => Some("deadline"),
        Outcome::Rejected(Rejected::Cancelled) | Outcome::Unresolved(Unresolved::Cancelled) => Some("cancelled"),
        Outcome::Rejected(Rejected::NotDurable) => Some("not_durable"),
        Outcome::Rejected(Rejected::Unavailable) => Some("unavailable"),
        Outcome::Unresolved(Unresolved::Ambiguous) => Some("ambiguous"),
        Outcome::Unresolved(Unresolved::KeyWindow) => Some("key_window"),
        Outcome::Unresolved(Unresolved::Replayed) => Some("replayed"),
        Outcome::Unresolved(Unresolved::Lookup) => Some("lookup"),
        Outcome::Unresolved(Unresolved::Polls) => Some("polls"),
        Outcome::Unresolved(Unresolved::PollDeadline) => Some("poll_deadline"),
        Outcome::Unresolved(Unresolved::PollRefused) => Some("poll_refused"),
        Outcome::Unresolved(Unresolved::NotFound) => Some("not_found"),
        _ => Some("other"),
    }
}
