//! Looking up: is there a job of our key? Asked after a create whose fate is unknown, where the provider can be asked.

use core::time::Duration;

use super::{Attempt, CREATE, Kind, LOOKUP, Operation, Outcome, Reading, Rejected, State, Turn, Unresolved};
use crate::gate::{Admission, Blocked, Request, Settled};
use crate::notice::{Notice, WakeReason};
use crate::retry::{Certainty, Class, Delay, Failure, GaveUp, Ground};

impl Operation {
    /// The look-up waits until the provider certainly shows the job if it runs.
    pub(super) fn wait_to_look_up(&mut self, settle: Duration, turn: &mut Turn<'_>) {
        let at = turn.now.saturating_add(settle);
        self.phase = at;
        self.attempts_in_phase = 0;
        self.tries = 0;
        self.overslept = false;
        turn.tell_wait(WakeReason::Lookup, at, Delay::own(Ground::Settle, settle));
        self.state = State::LookupWaiting { at, reason: WakeReason::Lookup, after: None };
        self.ask_record();
    }

    pub(super) fn begin_lookup(&mut self, after: Option<Class>, turn: &mut Turn<'_>) {
        let deadline = self.deadline_of_phase(turn.policy.lookup().deadline(), turn);
        if turn.now >= deadline {
            return self.end(Outcome::Unresolved(Unresolved::Lookup), turn);
        }
        match turn.ask(Request { kind: Kind::Lookup, retry_of: after }) {
            Admission::Go(permit) => {
                self.next_attempt();
                let until = turn.now.saturating_add(turn.policy.lookup().attempt_timeout()).min(deadline);
                self.state = State::LookingUp { permit, until };
                self.due.send = true;
                self.tell_sending(turn);
            }
            Admission::Refuse(refusal) if refusal.why == Blocked::Budget => {
                let pause = turn.policy.lookup().backoff().delay(u32::from(self.tries), self.seed.derive(LOOKUP));
                let at = refusal.after_pause(pause, turn.now).min(deadline);
                turn.tell_wait(WakeReason::Lookup, at, Delay::own(Ground::Budget, at.saturating_since(turn.now)));
                self.state = State::LookupWaiting { at, reason: WakeReason::Lookup, after };
            }
            Admission::Wait(refusal) | Admission::Refuse(refusal) => match refusal.wait_within(deadline, turn.now) {
                Some(at) => self.state = State::LookupWaiting { at, reason: WakeReason::Gate, after },
                None => self.end(Outcome::Unresolved(Unresolved::Lookup), turn),
            },
        }
    }

    pub(super) fn lookup_answered(&mut self, attempt: Attempt, reading: Reading, turn: &mut Turn<'_>) {
        match reading {
            Reading::Accepted(reference) => {
                self.land(Settled::Answered, turn);
                self.accepted(reference, turn);
            }
            Reading::Ready | Reading::Undecided | Reading::Failed => {
                self.land(Settled::Answered, turn);
                self.end_with_answer(&reading, turn);
            }
            Reading::NotFound => {
                self.land(Settled::Answered, turn);
                self.proven_absent(turn);
            }
            Reading::Pending { .. }
            | Reading::Progress { .. }
            | Reading::AwaitingPerson { .. }
            | Reading::Partial
            | Reading::Unknown(_) => {
                self.lookup_failed(attempt, Failure::new(Class::Transient, Certainty::NotExecuted), turn);
            }
        }
    }

    pub(super) fn lookup_failed(&mut self, attempt: Attempt, failure: Failure, turn: &mut Turn<'_>) {
        turn.tell(Notice::Failed { attempt, failure });
        self.land(Settled::Failed(failure), turn);
        let (policy, had_overslept) = (turn.policy.lookup(), self.overslept);
        self.deadline_of_phase(policy.deadline(), turn);
        // What a sleep cut off took none of the attempts.
        if self.overslept == had_overslept {
            self.tries = self.tries.saturating_add(1);
        }
        // A look-up only reads: it may be repeated whatever became of it.
        match policy.weigh(self.tries, failure, self.phase, turn.now, true, self.seed.derive(LOOKUP)) {
            Ok((at, delay)) => {
                turn.tell_wait(WakeReason::Lookup, at, delay);
                self.state = State::LookupWaiting { at, reason: WakeReason::Lookup, after: Some(failure.class) };
            }
            Err(_) => self.end(Outcome::Unresolved(Unresolved::Lookup), turn),
        }
    }

    /// Nothing ran: the job may be created again, if attempts and time are left.
    fn proven_absent(&mut self, turn: &mut Turn<'_>) {
        turn.tell(Notice::ProvenAbsent);
        self.doubt = false;
        self.tries = 0;
        if self.refused {
            // It did not run, and would be refused again.
            return self.create_gave_up(GaveUp::Refused, turn);
        }
        let policy = turn.policy.create();
        if self.creates >= policy.attempts() {
            return self.end(Outcome::Rejected(Rejected::Attempts), turn);
        }
        let delay = policy.backoff().delay(u32::from(self.creates), self.seed.derive(CREATE));
        let at = turn.now.saturating_add(delay);
        if at >= self.create_deadline(turn) {
            return self.create_gave_up(GaveUp::Deadline, turn);
        }
        self.wait_to_create(at, Delay::own(Ground::Backoff, delay), Class::Transient, turn);
    }
}
