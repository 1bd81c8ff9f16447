//! Creating: ask the gate, make the intent durable, send, and read the answer.

use super::{
    Attempt, AttemptId, CREATE, Kind, Operation, Outcome, Reading, Rejected, SendSafety, State, Turn, Unresolved,
};
use crate::gate::{Admission, Blocked, Permit, Request, Settled};
use crate::notice::{Notice, WakeReason};
use crate::retry::{Certainty, Class, Delay, Failure, GaveUp, Ground};
use crate::time::Timestamp;

impl Operation {
    /// A create is due: ask for leave, then have its intent written.
    pub(super) fn begin_create(&mut self, after: Option<Class>, turn: &mut Turn<'_>) {
        let deadline = self.create_deadline(turn);
        if turn.now >= deadline {
            return self.create_gave_up(GaveUp::Deadline, turn);
        }
        // Only after a restart with a stricter policy.
        if self.creates >= turn.policy.create().attempts() {
            return self.create_gave_up(GaveUp::Attempts, turn);
        }
        // Whatever an earlier attempt came to, in this process or in one that crashed, this one is a retry.
        let after = after.or_else(|| (self.creates > 0).then_some(Class::Transient));
        match turn.ask(Request { kind: Kind::Create, retry_of: after }) {
            Admission::Go(permit) => {
                self.creates = self.creates.saturating_add(1);
                self.attempts = self.attempts.saturating_add(1);
                self.state = State::CreateWriting { permit, until: deadline };
                self.phase = self.attempt_end(turn);
                self.ask_record();
            }
            Admission::Refuse(refusal) if refusal.why == Blocked::Budget => {
                let pause = turn.policy.create().backoff().delay(u32::from(self.creates), self.seed.derive(CREATE));
                let at = refusal.after_pause(pause, turn.now);
                if at >= deadline {
                    return self.create_gave_up(GaveUp::Deadline, turn);
                }
                turn.tell_wait(WakeReason::Create, at, Delay::own(Ground::Budget, at.saturating_since(turn.now)));
                self.state = State::CreateWaiting { at, reason: WakeReason::Create, after };
            }
            Admission::Refuse(_) if !self.doubt => self.end(Outcome::Rejected(Rejected::Unavailable), turn),
            // Waiting counts against the deadline, but costs no attempt.
            Admission::Wait(refusal) | Admission::Refuse(refusal) => match refusal.wait_within(deadline, turn.now) {
                Some(at) => self.state = State::CreateWaiting { at, reason: WakeReason::Gate, after },
                None => self.create_gave_up(GaveUp::Deadline, turn),
            },
        }
    }

    /// The intent is durable: the create may exist.
    pub(super) fn send_create(&mut self, permit: Permit, turn: &mut Turn<'_>) {
        let now = turn.now;
        let why_not = if now >= self.create_deadline(turn) {
            Some(GaveUp::Deadline)
        } else if self.doubt && now >= self.key_expiry(turn) {
            Some(GaveUp::KeyWindow)
        } else {
            None
        };
        if let Some(why) = why_not {
            self.leave_flight(Settled::Unsent, turn);
            return self.create_gave_up(why, turn);
        }
        let permit = permit.begun(now);
        self.first_sent = self.first_sent.min(now);
        self.state = State::Creating { permit, until: self.attempt_end(turn) };
        self.due.send = true;
        self.tell_sending(turn);
    }

    pub(super) fn create_answered(&mut self, reading: Reading, turn: &mut Turn<'_>) {
        match reading {
            Reading::Accepted(reference) => {
                self.land(Settled::Answered, turn);
                self.accepted(reference, turn);
            }
            Reading::Ready | Reading::Undecided | Reading::Failed => {
                self.land(Settled::Answered, turn);
                self.end_with_answer(&reading, turn);
            }
            // The provider took the request and gave nothing to find the job by: it may well be running.
            Reading::Pending { .. }
            | Reading::Progress { .. }
            | Reading::AwaitingPerson { .. }
            | Reading::Partial
            | Reading::NotFound
            | Reading::Unknown(_) => {
                if let Some(attempt) = self.in_flight() {
                    let failure = Failure::new(Class::Transient, Certainty::MayHaveExecuted);
                    self.create_failed(attempt, failure, turn);
                }
            }
        }
    }

    pub(super) fn create_failed(&mut self, attempt: Attempt, failure: Failure, turn: &mut Turn<'_>) {
        turn.tell(Notice::Failed { attempt, failure });
        self.land(Settled::Failed(failure), turn);
        if failure.class == Class::Permanent && failure.certainty == Certainty::Executed {
            return self.end(Outcome::Failed, turn);
        }
        self.doubt |= failure.certainty != Certainty::NotExecuted;
        self.refused |= failure.class == Class::Permanent;

        let replayed = self.is_replayed(failure, turn);
        let policy = turn.policy.create();
        let repeatable = matches!(turn.policy.safety(), SendSafety::Idempotent | SendSafety::Keyed { .. });
        match policy.weigh(self.creates, failure, self.submitted, turn.now, repeatable, self.seed.derive(CREATE)) {
            // Whatever else would end it now, this says more. A refusal says so itself.
            Ok(_) | Err(GaveUp::Attempts | GaveUp::Deadline) if replayed => self.create_gave_up(GaveUp::Replayed, turn),
            Ok((at, _)) if self.doubt && at >= self.key_expiry(turn) => self.create_gave_up(GaveUp::KeyWindow, turn),
            Ok((at, delay)) => self.wait_to_create(at, delay, failure.class, turn),
            Err(why) => self.create_gave_up(why, turn),
        }
    }

    /// Counts the answers in a row that are the same; tells whether there were too many. What certainly did not run has
    /// stored nothing.
    fn is_replayed(&mut self, failure: Failure, turn: &mut Turn<'_>) -> bool {
        let (true, Some(answer)) = (matches!(turn.policy.safety(), SendSafety::Keyed { .. }), failure.answer) else {
            return false;
        };
        if failure.certainty == Certainty::NotExecuted {
            return false;
        }
        self.identical = if self.answer == Some(answer) { self.identical.saturating_add(1) } else { 1 };
        self.answer = Some(answer);
        if self.identical > 1 {
            turn.tell(Notice::SameAnswer { times: self.identical });
        }
        self.identical >= turn.policy.create().identical()
    }

    pub(super) fn wait_to_create(&mut self, at: Timestamp, delay: Delay, after: Class, turn: &mut Turn<'_>) {
        turn.tell_wait(WakeReason::Create, at, delay);
        self.state = State::CreateWaiting { at, reason: WakeReason::Create, after: Some(after) };
        // What is known of the last attempt goes to disk while it waits.
        self.ask_record();
    }

    /// No further create: look the job up if that can tell, else say what is known.
    pub(super) fn create_gave_up(&mut self, why: GaveUp, turn: &mut Turn<'_>) {
        if !self.doubt {
            return self.end(
                Outcome::Rejected(match why {
                    GaveUp::Refused => Rejected::Refused,
                    GaveUp::Deadline | GaveUp::KeyWindow => Rejected::Deadline,
                    GaveUp::Attempts | GaveUp::Ambiguous | GaveUp::Replayed => Rejected::Attempts,
                }),
                turn,
            );
        }
        if let SendSafety::Lookup { settle } = turn.policy.safety() {
            return self.wait_to_look_up(settle, turn);
        }
        self.end(
            Outcome::Unresolved(match why {
                GaveUp::Refused => Unresolved::Refused,
                GaveUp::Ambiguous => Unresolved::Ambiguous,
                GaveUp::Attempts => Unresolved::Attempts,
                GaveUp::Deadline => Unresolved::Deadline,
                GaveUp::KeyWindow => Unresolved::KeyWindow,
                GaveUp::Replayed => Unresolved::Replayed,
            }),
            turn,
        );
    }

    /// Until when a create has that leaves now.
    pub(super) fn attempt_end(&self, turn: &Turn<'_>) -> Timestamp {
        turn.now.saturating_add(turn.policy.create().attempt_timeout()).min(self.create_deadline(turn))
    }

    pub(super) fn create_deadline(&self, turn: &Turn<'_>) -> Timestamp {
        self.submitted.saturating_add(turn.policy.create().deadline())
    }

    /// From when on the provider may have forgotten the key: its window from the first send, less one time-out, since a
    /// request may arrive as late as that.
    pub(super) fn key_expiry(&self, turn: &Turn<'_>) -> Timestamp {
        match turn.policy.safety() {
            SendSafety::Keyed { window } => {
                let margin = turn.policy.create().attempt_timeout();
                self.first_sent.saturating_add(window).saturating_sub(margin)
            }
            SendSafety::Idempotent | SendSafety::Unsafe | SendSafety::Lookup { .. } => Timestamp::NEVER,
        }
    }

    pub(super) fn tell_sending(&self, turn: &mut Turn<'_>) {
        if let Some(attempt) = self.in_flight() {
            turn.tell(Notice::Sending(attempt));
        }
    }

    /// Takes the next attempt number for a request that needs no record of its own.
    pub(super) fn next_attempt(&mut self) -> AttemptId {
        self.attempts = self.attempts.saturating_add(1);
        self.attempts_in_phase = self.attempts_in_phase.saturating_add(1);
        AttemptId(self.attempts)
    }
}
