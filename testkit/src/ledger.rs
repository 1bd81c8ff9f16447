//! What really happened at the provider.

use std::collections::BTreeMap;

use steadfast_core::Timestamp;

use crate::webhooks::WebhookCounts;

/// The provider's own books: for each idempotency key (Didit: for each `vendor_data`), how often it was run, when, and
/// how it was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    keys: BTreeMap<String, Entry>,
    webhooks: WebhookCounts,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    executions: Vec<Execution>,
    answers: Vec<Answered>,
}

/// One execution of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Execution {
    /// When.
    pub at: Timestamp,
    /// The id that the provider gave it: Deepvue's `transaction_id`, Didit's `session_id`.
    pub transaction_id: String,
}

/// One answer to a create, or its loss.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answered {
    /// When.
    pub at: Timestamp,
    /// The status; `None` if the connection was reset instead.
    pub status: Option<u16>,
    /// Whether the whole answer was sent, as the provider meant it, in time.
    pub intact: bool,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) const fn webhooks_mut(&mut self) -> &mut WebhookCounts {
        &mut self.webhooks
    }

    pub(crate) fn ran(&mut self, key: &str, at: Timestamp, transaction_id: String) {
        self.entry(key).executions.push(Execution { at, transaction_id });
    }

    pub(crate) fn answered(&mut self, key: &str, at: Timestamp, status: Option<u16>, intact: bool) {
        self.entry(key).answers.push(Answered { at, status, intact });
    }

    fn entry(&mut self, key: &str) -> &mut Entry {
        self.keys.entry(key.into()).or_default()
    }

    /// The executions of this key.
    #[must_use]
    pub fn executions(&self, key: &str) -> &[Execution] {
        self.keys.get(key).map_or(&[], |entry| &entry.executions)
    }

    /// The answers to its creates.
    #[must_use]
    pub fn answers(&self, key: &str) -> &[Answered] {
        self.keys.get(key).map_or(&[], |entry| &entry.answers)
    }

    /// What became of the webhooks; all zero if none are sent.
    #[must_use]
    pub const fn webhooks(&self) -> WebhookCounts {
        self.webhooks
    }

    /// Keys that were seen, run or not.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Jobs run, over all keys.
    #[must_use]
    pub fn total_executions(&self) -> usize {
        self.keys.values().map(|entry| entry.executions.len()).sum()
    }

    /// How many keys were run more than once: this must never happen.
    #[must_use]
    pub fn keys_run_more_than_once(&self) -> usize {
        self.keys.values().filter(|entry| entry.executions.len() > 1).count()
    }
}
