//! One operation as JSON: the same fields wherever it is printed.

use serde::Serialize;
use steadfast_core::Outcome;
use steadfast_core::Reference;
use steadfast_store::sqlite::{Stored, iso8601};

/// The fields of a record, with their times. Times are UTC; `null` for what has not happened.
#[derive(Debug, Serialize)]
pub(crate) struct Row<'a> {
    key: &'a str,
    /// The label that stands for the key in logs.
    label: String,
    provider: &'a str,
    state: &'static str,
    outcome: Option<&'static str>,
    reason: Option<&'static str>,
    reference: Option<&'a str>,
    creates: u16,
    attempts: u32,
    polls: u16,
    submitted_at: String,
    first_sent_at: Option<String>,
    accepted_at: Option<String>,
    ended_at: Option<String>,
    updated_at: String,
    due_at: Option<String>,
    /// SHA-256 of the payload, cut to 16 bytes, in hex.
    fingerprint: String,
}

impl<'a> Row<'a> {
    pub(crate) fn of(stored: &'a Stored) -> Self {
        let record = &stored.entry.record;
        Self {
            key: record.key.as_str(),
            label: record.key.label().to_string(),
            provider: &stored.entry.provider,
            state: stored.state(),
            outcome: stored.outcome().map(Outcome::name),
            reason: stored.reason(),
            reference: record.reference.as_ref().map(Reference::as_str),
            creates: record.creates,
            attempts: record.attempts,
            polls: record.polls,
            submitted_at: iso8601(record.submitted),
            first_sent_at: record.first_sent.map(iso8601),
            accepted_at: stored.accepted.map(iso8601),
            ended_at: stored.ended.map(iso8601),
            updated_at: iso8601(stored.entry.at),
            due_at: record.due.map(iso8601),
            fingerprint: hex(record.fingerprint.as_bytes()),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
