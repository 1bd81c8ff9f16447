//! What of an operation is on disk, and what becomes of records that could not be written.
//!
//! An operation's records are numbered from 1, and one acknowledgement covers all before it. Numbers are kept in four
//! bytes: what waits by the million is what this is made for, and no operation has four thousand million records. If
//! one had, its last number would be asked for again and again, and each time would count only once it is acknowledged.

use super::{Operation, Outcome, PERSIST, RecordId, Rejected, State, Turn};
use crate::gate::Settled;
use crate::notice::Notice;
use crate::time::Timestamp;

/// What is on disk of what must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Journal {
    /// The latest record asked for.
    asked: u32,
    /// The latest record known to be durable.
    acked: u32,
    /// When to ask again for the latest, which failed; else `NEVER`.
    retry_at: Timestamp,
}

impl Journal {
    pub(super) const EMPTY: Self = Self { asked: 0, acked: 0, retry_at: Timestamp::NEVER };

    /// Of an operation that was found on disk.
    pub(super) const FOUND: Self = Self { asked: 1, acked: 1, ..Self::EMPTY };

    /// The latest record asked for.
    pub(super) const fn asked(&self) -> RecordId {
        RecordId(self.asked as u64)
    }

    pub(super) const fn is_durable(&self) -> bool {
        self.acked >= self.asked
    }

    pub(super) const fn has_records(&self) -> bool {
        self.acked > 0
    }

    /// When the latest record is to be asked for again, if it failed.
    pub(super) const fn retry_at(&self) -> Option<Timestamp> {
        self.retry_at.deadline()
    }

    pub(super) fn retries_by(&self, now: Timestamp) -> bool {
        self.retry_at <= now
    }

    fn ask(&mut self) {
        self.asked = self.asked.saturating_add(1);
        self.acked = self.acked.min(self.asked.saturating_sub(1));
        self.retry_at = Timestamp::NEVER;
    }

    /// Whether this record was not known to be durable before.
    fn acknowledge(&mut self, record: RecordId) -> bool {
        if record.0 <= u64::from(self.acked) {
            return false;
        }
        // Never beyond what was asked for: a number from nowhere must not vouch for a later record.
        self.acked = u32::try_from(record.0).unwrap_or(u32::MAX).min(self.asked);
        if self.is_durable() {
            self.retry_at = Timestamp::NEVER;
        }
        true
    }
}

impl Operation {
    /// Asks for a record of the state as it is now. It replaces one that is outstanding: records are cumulative.
    pub(super) fn ask_record(&mut self) {
        self.journal.ask();
        self.due.persist = true;
    }

    pub(super) fn persisted(&mut self, record: RecordId, turn: &mut Turn<'_>) {
        if !self.journal.acknowledge(record) {
            turn.tell(Notice::Absorbed);
            return;
        }
        if self.journal.is_durable() {
            self.persist_failures = 0;
            self.due.persist = false;
        }
    }

    /// Whether nothing of this job is known to be durable, so that nothing was sent.
    pub(crate) fn was_never_durable(&self) -> bool {
        !self.journal.has_records() && self.first_sent == Timestamp::NEVER && !self.doubt
    }

    /// Of one that is forgotten before anything of it was sent.
    pub(crate) fn give_up_permit(&mut self, turn: &mut Turn<'_>) {
        self.leave_flight(Settled::Unsent, turn);
    }

    pub(super) fn persist_failed(&mut self, record: RecordId, turn: &mut Turn<'_>) {
        if record < self.journal.asked() || self.journal.is_durable() || self.journal.retry_at().is_some() {
            turn.tell(Notice::Absorbed);
            return;
        }
        self.due.persist = false;
        if self.was_never_durable() {
            // It is as if it had never been submitted.
            turn.tell(Notice::PersistFailed { record, retry: None });
            self.leave_flight(Settled::Unsent, turn);
            let outcome = Outcome::Rejected(Rejected::NotDurable);
            self.journal = Journal::EMPTY;
            self.persist_failures = 0;
            self.state = State::Ended { outcome };
            self.due.end = true;
            turn.tell(Notice::Ended(outcome));
            return;
        }
        self.persist_failures = self.persist_failures.saturating_add(1);
        let wait = turn.policy.persist().delay(u32::from(self.persist_failures), self.seed.derive(PERSIST));
        let retry = turn.now.saturating_add(wait);
        turn.tell(Notice::PersistFailed { record, retry: Some(retry) });
        self.journal.retry_at = retry;
    }
}
