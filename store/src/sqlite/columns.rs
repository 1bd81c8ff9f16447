//! A record's fields as a person reads them in a query.
//!
//! They are written beside the record and never read back: the record is what counts. [`differs`] tells whether they still agree with it.
//! `accepted_at` and `ended_at` are read back for people who look into a journal ([`browse`](super::SqliteStore::browse)), never for a client.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use steadfast_core::operation::{Completed, Record, Rejected, Stage, Unresolved};
use steadfast_core::{Outcome, Reference};

use super::iso;

/// The state that [`Store::forget`](crate::Store::forget) looks for.
pub(super) const DELIVERED: &str = "delivered";

pub(super) const fn state(stage: Stage) -> &'static str {
    match stage {
        Stage::Planned => "planned",
        Stage::InFlight => "in_flight",
        Stage::Unknown => "unknown",
        Stage::Accepted => "accepted",
        Stage::Ended(_) => "ended",
        Stage::Delivered(_) => DELIVERED,
        _ => "other",
    }
}

pub(super) const fn outcome(stage: Stage) -> Option<Outcome> {
    match stage {
        Stage::Ended(outcome) | Stage::Delivered(outcome) => Some(outcome),
        _ => None,
    }
}

/// Why it ended so; of a create that may have run, `refused` if the provider said no to it.
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

/// The first column of this row that does not agree with the record. The row must have them all, by their names.
pub(super) fn differs(row: &Row<'_>, record: &Record) -> rusqlite::Result<Option<&'static str>> {
    let text = |name, expected: Option<&str>| {
        Ok::<_, rusqlite::Error>(match (row.get_ref(name)?, expected) {
            (ValueRef::Text(found), Some(expected)) => found == expected.as_bytes(),
            (ValueRef::Null, None) => true,
            _ => false,
        })
    };
    let number = |name, expected: i64| Ok::<_, rusqlite::Error>(row.get_ref(name)? == ValueRef::Integer(expected));
    let time = |name| {
        Ok::<_, rusqlite::Error>(match row.get_ref(name)? {
            ValueRef::Null => Some(false),
            ValueRef::Text(text) => iso::read(text).map(|_| true),
            _ => None,
        })
    };
    let agrees = [
        ("state", text("state", Some(state(record.stage)))?),
        ("outcome", text("outcome", outcome(record.stage).map(Outcome::name))?),
        ("reason", text("reason", reason(record))?),
        ("reference", text("reference", record.reference.as_ref().map(Reference::as_str))?),
        ("creates", number("creates", record.creates.into())?),
        ("attempts", number("attempts", record.attempts.into())?),
        ("polls", number("polls", record.polls.into())?),
        ("created_at", text("created_at", Some(&iso::write(record.submitted)))?),
        ("next_due", text("next_due", record.due.map(iso::write).as_deref())?),
        ("accepted_at", time("accepted_at")?.is_some_and(|known| known || record.stage != Stage::Accepted)),
        ("ended_at", time("ended_at")? == Some(outcome(record.stage).is_some())),
        ("fingerprint", row.get_ref("fingerprint")? == ValueRef::Blob(record.fingerprint.as_bytes())),
    ];
    Ok(agrees.into_iter().find(|(_, agrees)| !agrees).map(|(name, _)| name))
}
