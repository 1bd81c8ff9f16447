//! What a store keeps of one operation: its record, and what its caller asked to keep beside it.

use std::fmt;
use std::sync::Arc;

use steadfast_core::operation::{Record, Stage};
use steadfast_core::{Outcome, Timestamp};

/// One state of one operation. Its `Debug` shows only the lengths of payload and answer.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// What the core needs to continue after a restart.
    pub record: Record,
    /// The provider's name, for people who look into the journal.
    pub provider: Arc<str>,
    /// When this state was reached, by the driver's clock.
    pub at: Timestamp,
    /// The request's payload. `None` leaves a stored one as it is. It is personal data: only a client that was told to
    /// keep payloads sets it.
    pub payload: Option<Vec<u8>>,
    /// The answer that ended the operation. `None` leaves a stored answer of the same outcome as it is, and drops one
    /// of another outcome. It is personal data as well.
    pub answer: Option<KeptAnswer>,
}

/// A provider's answer, as it is stored.
#[derive(Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, and stores make them")]
pub struct KeptAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body, sealed if the client seals.
    pub body: Vec<u8>,
}

impl Entry {
    /// An entry that keeps nothing beside its record.
    #[must_use]
    pub const fn new(record: Record, provider: Arc<str>, at: Timestamp) -> Self {
        Self { record, provider, at, payload: None, answer: None }
    }

    /// Adds the payload, to be kept beside the record.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// Adds the answer, to be kept beside the record.
    #[must_use]
    pub fn with_answer(mut self, answer: KeptAnswer) -> Self {
        self.answer = Some(answer);
        self
    }

    /// What is stored once this entry follows `earlier`, the previous entry of the same key: payload and answer are
    /// carried over where they still apply.
    #[must_use]
    pub fn after(mut self, earlier: Self) -> Self {
        if earlier.has_ended() && !self.has_ended() {
            // The key was free again, and this entry is another job's.
            return self;
        }
        // If a resumed job has ended in another way, the earlier answer is not its result.
        let same_end = earlier.outcome().is_none() || earlier.outcome() == self.outcome();
        let ended = self.has_ended();
        self.payload = self.payload.or(earlier.payload).filter(|_| !ended);
        self.answer = self.answer.or_else(|| earlier.answer.filter(|_| same_end));
        self
    }

    /// What a planned operation becomes when a backup is put back: its create may have been sent since the backup was
    /// made, so its stage is *unknown*. `None` for any other stage, which stays as it is. What is kept beside the
    /// record stays.
    #[must_use]
    pub fn doubted(&self) -> Option<Self> {
        if !matches!(self.record.stage, Stage::Planned) {
            return None;
        }
        let mut record = self.record.clone();
        record.stage = Stage::Unknown;
        // The provider's key window counts from the earliest time at which it may have been sent.
        record.first_sent.get_or_insert(record.submitted);
        Some(Self::new(record, self.provider.clone(), self.at))
    }

    /// Whether the operation has ended: then its payload is not needed any more.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.record.stage, Stage::Ended(_) | Stage::Delivered(_))
    }

    const fn outcome(&self) -> Option<Outcome> {
        if let Stage::Ended(outcome) | Stage::Delivered(outcome) = self.record.stage { Some(outcome) } else { None }
    }

    /// Whether its outcome has been delivered.
    #[must_use]
    pub const fn is_delivered(&self) -> bool {
        matches!(self.record.stage, Stage::Delivered(_))
    }

    /// Whether its outcome has been delivered and is known, so that the operation may be forgotten in time. An
    /// unresolved one may have run, so its key must not become free by itself.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.is_delivered() && !matches!(self.record.stage, Stage::Delivered(Outcome::Unresolved(_)))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("record", &self.record)
            .field("provider", &self.provider)
            .field("at", &self.at)
            .field("payload_bytes", &self.payload.as_ref().map(Vec::len))
            .field("answer", &self.answer)
            .finish()
    }
}

impl fmt::Debug for KeptAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptAnswer({}, {} bytes)", self.status, self.body.len())
    }
}
