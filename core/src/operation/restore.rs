//! To disk and back: the record of an operation, and the operation of a record.
//!
//! After a crash the record is all that is known. A create that was in flight *may have executed*; what follows depends
//! on the provider, just as after a time-out: so its repeat waits until it has had its time, which stands in the
//! record, and then for its backoff. Waits are clamped, a repeat's to one attempt's time-out and one capped delay from
//! now, others to one capped delay: a clock that once was wrong must not put work to sleep for years. That time-out is
//! the policy's, or the one that a job's first create was sent with, if that was longer: a deploy may shorten it. Polling
//! starts a new deadline: the time in which nobody watched does not count.
//!
//! How many identical answers a create has had is not in the record: they are counted anew, so a key whose failure the
//! provider has stored is sent as many times again at most, within the attempts and the deadline, which are.
//!
//! Restoring decides from the record alone and changes nothing on disk by itself, so it may crash and be repeated any
//! number of times.

use core::time::Duration;

use super::{CREATE, Due, Journal, Operation, Record, SendSafety, Stage, State, Turn};
#[cfg(feature = "serde")]
use super::{OperationPolicy, RecordId};
use crate::key::PackedReference;
use crate::notice::{Notice, WakeReason};
use crate::retry::{Delay, GaveUp, Ground};
use crate::seed::Seed;
use crate::time::Timestamp;

/// A create's time of more than this, and of more than the deadline, is not believed: a clock that was wrong is likelier
/// than a release that gave a create so long.
const LONGEST: Duration = Duration::from_secs(3_600);

impl Operation {
    /// What must be durable of the operation as it is now.
    #[must_use]
    pub fn record(&self) -> Record {
        let (stage, due) = match self.state {
            State::CreateWaiting { at, .. } => (if self.doubt { Stage::Unknown } else { Stage::Planned }, at),
            State::CreateWriting { .. } => (Stage::InFlight, self.phase),
            State::Creating { until, .. } => (Stage::InFlight, until),
            State::LookupWaiting { at, .. } => (Stage::Unknown, at),
            State::LookingUp { until, .. } => (Stage::Unknown, until),
            State::PollWaiting { at, .. } => (Stage::Accepted, at),
            State::Polling { until, .. } => (Stage::Accepted, until),
            State::Ending { outcome } | State::Ended { outcome } => (Stage::Ended(outcome), Timestamp::NEVER),
            State::Delivered { outcome } => (Stage::Delivered(outcome), Timestamp::NEVER),
        };
        // The intent is written before the create leaves, so the first send is at the earliest when it was written.
        let first_sent = if stage == Stage::InFlight { self.first_sent.min(self.seen) } else { self.first_sent };
        Record {
            key: self.key(),
            fingerprint: self.fingerprint,
            stage,
            reference: self.reference(),
            submitted: self.submitted,
            first_sent: first_sent.deadline(),
            due: due.deadline(),
            creates: self.creates,
            attempts: self.attempts,
            polls: self.polls,
            refused: self.refused && stage == Stage::Unknown,
        }
    }

    /// The operation that a record tells of, after a restart.
    ///
    /// `seed` need not be the one that the lost operation had. Only what is drawn from now on depends on it: jitter and
    /// correlation ids. With the same one a history can be replayed.
    #[must_use]
    pub fn restore(record: Record, seed: Seed, turn: &mut Turn<'_>) -> Self {
        let now = turn.now;
        let submitted = record.submitted.min(now);
        let had = time_of_first_create(&record).filter(|had| *had <= LONGEST.max(turn.policy.create().deadline()));
        let mut operation = Self {
            key: record.key.into(),
            fingerprint: record.fingerprint,
            reference: record.reference.map(PackedReference::from),
            seed,
            state: State::CreateWaiting { at: now, reason: WakeReason::Create, after: None },
            submitted,
            phase: now,
            first_sent: record.first_sent.map_or(Timestamp::NEVER, |at| at.min(now)),
            seen: now,
            // The record it came from is durable.
            journal: Journal::FOUND,
            abandon: None,
            due: Due::default(),
            attempts: record.attempts,
            attempts_in_phase: 0,
            creates: record.creates,
            polls: record.polls.min(turn.policy.poll().polls().saturating_sub(1)),
            tries: 0,
            answer: None,
            identical: 0,
            failed: None,
            persist_failures: 0,
            doubt: !matches!(record.stage, Stage::Planned),
            refused: record.refused,
            changed: false,
            overslept: false,
        };
        turn.tell(Notice::Restored);
        match record.stage {
            Stage::Planned => {
                let at = clamp(record.due, now, turn.policy.create().backoff().cap());
                operation.state = State::CreateWaiting { at, reason: WakeReason::Create, after: None };
                if at >= operation.create_deadline(turn) {
                    // The clock is another now; waiting for what may not begin would be for nothing.
                    operation.create_gave_up(GaveUp::Deadline, turn);
                } else {
                    tell_what_is_left(WakeReason::Create, at, turn);
                }
            }
            Stage::Accepted if operation.reference.is_some() => operation.resume_polling(record.due, turn),
            Stage::InFlight => {
                operation.resume_in_doubt(None, record.due.unwrap_or(now), had.unwrap_or_default(), turn);
            }
            Stage::Unknown | Stage::Accepted => operation.resume_in_doubt(record.due, now, Duration::ZERO, turn),
            Stage::Ended(outcome) => {
                operation.state = State::Ended { outcome };
                operation.due.end = true;
            }
            Stage::Delivered(outcome) => operation.state = State::Delivered { outcome },
        }
        operation.advance(turn);
        operation
    }

    /// A create may have run: send it again, look it up, or say so. Its next create is `due`, or else follows one that
    /// may take until `taken`, and was given a time of `had` if that is known.
    fn resume_in_doubt(&mut self, due: Option<Timestamp>, taken: Timestamp, had: Duration, turn: &mut Turn<'_>) {
        let create = turn.policy.create();
        match turn.policy.safety() {
            SendSafety::Unsafe => self.create_gave_up(GaveUp::Ambiguous, turn),
            SendSafety::Lookup { settle } => {
                let at = turn.now.saturating_add(settle);
                self.phase = at;
                turn.tell_wait(WakeReason::Lookup, at, Delay::own(Ground::Settle, settle));
                self.state = State::LookupWaiting { at, reason: WakeReason::Lookup, after: None };
            }
            // Only after a restart with another policy.
            SendSafety::Idempotent | SendSafety::Keyed { .. } if self.refused => {
                self.create_gave_up(GaveUp::Refused, turn)
            }
            SendSafety::Idempotent | SendSafety::Keyed { .. } if self.creates >= create.attempts() => {
                self.create_gave_up(GaveUp::Attempts, turn)
            }
            SendSafety::Idempotent | SendSafety::Keyed { .. } => {
                // The provider may still be at work on what the lost process sent. Its repeat leaves when it would
                // have, had that timed out.
                let wait = create.backoff().delay(u32::from(self.creates), self.seed.derive(CREATE));
                let time_out = had.max(create.attempt_timeout());
                let again = clamp(Some(taken), turn.now, time_out).saturating_add(wait);
                let longest = create.backoff().cap().saturating_add(time_out);
                let at = clamp(Some(due.unwrap_or(again)), turn.now, longest);
                if at >= self.create_deadline(turn) {
                    return self.create_gave_up(GaveUp::Deadline, turn);
                }
                if at >= self.key_expiry(turn) {
                    return self.create_gave_up(GaveUp::KeyWindow, turn);
                }
                if due.is_some() || taken > turn.now {
                    tell_what_is_left(WakeReason::Create, at, turn);
                } else {
                    turn.tell_wait(WakeReason::Create, at, Delay::own(Ground::Backoff, wait));
                }
                self.state = State::CreateWaiting { at, reason: WakeReason::Create, after: None };
            }
        }
    }

    fn resume_polling(&mut self, due: Option<Timestamp>, turn: &mut Turn<'_>) {
        let at = clamp(due, turn.now, turn.policy.poll().schedule().cap());
        // A wait that reaches the deadline was written down by a clock that was wrong: the schedule has none such.
        let at = if at < self.deadline_of_phase(turn.policy.poll().deadline(), turn) { at } else { turn.now };
        tell_what_is_left(WakeReason::Poll, at, turn);
        self.state = State::PollWaiting { at, reason: WakeReason::Poll, after: None };
    }
}

#[cfg(feature = "serde")]
impl Operation {
    /// Whether steps by this policy can lead here, as far as it would wait for ever otherwise, or not be told: of a
    /// stored one that is not certain.
    pub(crate) fn is_sound(&self, policy: &OperationPolicy) -> bool {
        let settle = if let SendSafety::Lookup { settle } = policy.safety() { settle } else { Duration::ZERO };
        let (create, lookup, poll) = (policy.create().deadline(), policy.lookup().deadline(), policy.poll().deadline());
        let (at, began, patience) = match self.state {
            // It is called, or gives up.
            State::CreateWaiting { reason: WakeReason::Gate, .. }
            | State::LookupWaiting { reason: WakeReason::Gate, .. }
            | State::PollWaiting { reason: WakeReason::Gate, .. } => (self.seen, self.seen, Duration::ZERO),
            State::CreateWaiting { at, .. } => (at, self.submitted, create),
            State::CreateWriting { until, .. } | State::Creating { until, .. } => (until, self.submitted, create),
            State::LookupWaiting { at, .. } => (at, self.phase, lookup),
            State::LookingUp { until, .. } => (until, self.phase, lookup),
            State::PollWaiting { at, .. } => (at, self.phase, poll),
            State::Polling { until, .. } => (until, self.phase, poll),
            State::Ending { .. } | State::Ended { .. } | State::Delivered { .. } => {
                (self.seen, self.seen, Duration::ZERO)
            }
        };
        let polls = matches!(self.state, State::PollWaiting { .. } | State::Polling { .. });
        self.submitted <= self.seen
            && self.phase <= self.seen.saturating_add(settle.max(policy.create().attempt_timeout()))
            && at <= self.seen.max(began.saturating_add(patience))
            && self.journal.retry_at().is_none_or(|at| at <= self.seen.saturating_add(policy.persist().cap()))
            && (!polls || self.reference.is_some())
            && !(matches!(self.state, State::Ending { .. }) && self.journal.is_durable())
            && (!self.due.send || self.in_flight().is_some())
            && (!self.due.end || matches!(self.state, State::Ended { .. }))
    }

    /// The record whose acknowledgement it waits for, and which was popped: nothing else brings it on.
    pub(crate) fn awaits(&self, policy: &OperationPolicy) -> Option<RecordId> {
        // At the end of time what failed is not tried again.
        let tried_again = self.seen.saturating_add(policy.persist().cap()).deadline().is_some();
        let popped = !self.journal.is_durable() && !self.due.persist && self.journal.retry_at().is_none();
        (popped && tried_again).then(|| self.journal.asked())
    }
}

/// How much time the create in flight was given, of a record that tells of the first one, whatever the clock is by now. A
/// restart's policy may give less.
fn time_of_first_create(record: &Record) -> Option<Duration> {
    let first = matches!(record.stage, Stage::InFlight) && record.creates == 1;
    record.due.zip(record.first_sent).filter(|_| first).map(|(due, sent)| due.saturating_since(sent))
}

/// Of a wait that is over there is nothing to tell: the request leaves, or meets the gate.
fn tell_what_is_left(reason: WakeReason, at: Timestamp, turn: &mut Turn<'_>) {
    let left = at.saturating_since(turn.now);
    if !left.is_zero() {
        turn.tell_wait(reason, at, Delay::own(Ground::Record, left));
    }
}

/// A due time from disk: not in the past, and no further off than the longest wait that there is.
fn clamp(due: Option<Timestamp>, now: Timestamp, longest: Duration) -> Timestamp {
    due.unwrap_or(now).clamp(now, now.saturating_add(longest))
}
