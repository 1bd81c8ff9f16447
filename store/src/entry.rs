//! What is kept of one operation: its record, and what its caller asked to keep beside it.

use std::fmt;
use std::sync::Arc;

use steadfast_core::operation::{Record, Stage};
use steadfast_core::{Outcome, Timestamp};

/// One state of one operation. Its `Debug` shows how long payload and answer are, and nothing of them.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// What the core must find after a restart.
    pub record: Record,
    /// The provider's name, for people who look into the journal.
    pub provider: Arc<str>,
    /// When this state was reached, by the driver's clock.
    pub at: Timestamp,
    /// The request's payload. `None` leaves what is kept as it is. It is personal data: only a client that was told to keep it gives one.
    pub payload: Option<Vec<u8>>,
    /// The answer that ended the operation. `None` leaves what is kept of this outcome as it is, and keeps nothing of another. It is personal data as well.
    pub answer: Option<KeptAnswer>,
}

/// A provider's answer, as it is kept.
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

    /// The same, keeping the payload.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = Some(payload.into());
        self
    }

    /// The same, keeping the answer.
    #[must_use]
    pub fn with_answer(mut self, answer: KeptAnswer) -> Self {
        self.answer = Some(answer);
        self
    }

    /// What is kept once this entry follows `earlier`, the one of the same key before it.
    #[must_use]
    pub fn after(mut self, earlier: Self) -> Self {
        if earlier.has_ended() && !self.has_ended() {
            // The key was free again, and this is another job's.
            return self;
        }
        // Of a job that was resumed and has ended otherwise, the earlier answer is not the result.
        let same_end = earlier.outcome().is_none() || earlier.outcome() == self.outcome();
        let ended = self.has_ended();
        self.payload = self.payload.or(earlier.payload).filter(|_| !ended);
        self.answer = self.answer.or_else(|| earlier.answer.filter(|_| same_end));
        self
    }

    /// What follows for one in a copy that was put back, if anything does: a create that had not been sent when the copy was made may have been since. What is
    /// kept beside it stays.
    #[must_use]
    pub fn doubted(&self) -> Option<Self> {
        if !matches!(self.record.stage, Stage::Planned) {
            return None;
        }
        let mut record = self.record.clone();
        record.stage = Stage::Unknown;
        // The provider's key window counts from when it may have been sent first.
        record.first_sent.get_or_insert(record.submitted);
        Some(Self::new(record, self.provider.clone(), self.at))
    }

    /// Whether the operation has ended: then its payload is needed no more.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.record.stage, Stage::Ended(_) | Stage::Delivered(_))
    }

    const fn outcome(&self) -> Option<Outcome> {
        if let Stage::Ended(outcome) | Stage::Delivered(outcome) = self.record.stage { Some(outcome) } else { None }
    }

    /// Whether its outcome was delivered.
    #[must_use]
    pub const fn is_delivered(&self) -> bool {
        matches!(self.record.stage, Stage::Delivered(_))
    }

    /// Whether its outcome was delivered and says what became of the job: then it may be forgotten in time. One that is unresolved may have run, so its
    /// key must not become free by itself.
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
