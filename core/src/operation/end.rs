//! Ending: an outcome is decided, made durable, told, delivered. What is still learnt on the way and after; and the one
//! way back.

use super::{Completed, Operation, Outcome, Reading, Rejected, State, Turn, Unresolved};
use crate::gate::Settled;
use crate::notice::{Notice, WakeReason};

impl Operation {
    /// Decides the outcome. It is told only once it is durable.
    pub(super) fn end(&mut self, outcome: Outcome, turn: &mut Turn<'_>) {
        self.leave_flight(Settled::Abandoned, turn);
        // A job that the provider reports on has run, whatever becomes of its record.
        self.doubt |= matches!(outcome, Outcome::Completed(_) | Outcome::Failed);
        self.state = State::Ending { outcome };
        self.ask_record();
    }

    /// Ends with what a final reading says; any other reading is not final and changes nothing.
    pub(super) fn end_with_answer(&mut self, reading: &Reading, turn: &mut Turn<'_>) {
        if let Some(outcome) = final_outcome(reading) {
            self.end(outcome, turn);
        }
    }

    /// Takes in a reading that answers no request in the air: a webhook, or an answer that comes late.
    ///
    /// Whichever is first wins: a final one ends the operation, a reference is adopted, the rest is absorbed.
    pub(super) fn learn(&mut self, reading: Reading, turn: &mut Turn<'_>) {
        let decided = self.decided();
        match (reading, decided) {
            (Reading::Accepted(reference), None) if self.reference.is_none() => {
                self.leave_flight(Settled::Abandoned, turn);
                self.accepted(reference, turn);
            }
            (Reading::Accepted(reference), Some(Outcome::Unresolved(_))) if self.reference.is_none() => {
                // The outcome stays, but a person can now find the job.
                self.reference = Some(reference.into());
                turn.tell(Notice::Accepted);
                self.ask_record();
            }
            (Reading::Accepted(reference), _) => {
                let known = self.reference.as_ref().is_some_and(|known| known.is(&reference));
                turn.tell(if known { Notice::Absorbed } else { Notice::Conflict });
            }
            (Reading::Partial, None) if !turn.policy.poll().accepts_partial() => turn.tell(Notice::Partial),
            (reading, None) => match final_outcome(&reading) {
                Some(outcome) => self.end(outcome, turn),
                None => turn.tell(Notice::Absorbed),
            },
            (reading, Some(decided)) => {
                let differs = final_outcome(&reading).is_some_and(|outcome| outcome != decided);
                turn.tell(if differs { Notice::Conflict } else { Notice::Absorbed });
            }
        }
    }

    /// The caller no longer wants the job. Before anything was sent that is clean; later it only means that nobody
    /// watches.
    pub(super) fn cancel(&mut self, turn: &mut Turn<'_>) {
        if self.decided().is_some() {
            return turn.tell(Notice::Absorbed);
        }
        self.doubt |= self.leave_flight(Settled::Abandoned, turn);
        self.end(
            if self.doubt {
                Outcome::Unresolved(Unresolved::Cancelled)
            } else {
                Outcome::Rejected(Rejected::Cancelled)
            },
            turn,
        );
    }

    /// The outcome, durable or not.
    const fn decided(&self) -> Option<Outcome> {
        if let State::Ending { outcome } | State::Ended { outcome } | State::Delivered { outcome } = self.state {
            Some(outcome)
        } else {
            None
        }
    }

    /// Polls on what ended as unresolved, with a fresh schedule and a fresh deadline. The first poll is due at once,
    /// and leaves, as ever, when the record is durable: a crash before that leaves the job as it had ended.
    pub(super) fn resume(&mut self, turn: &mut Turn<'_>) {
        if !self.can_resume() {
            return turn.tell(Notice::Absorbed);
        }
        turn.tell(Notice::Resumed);
        self.phase = turn.now;
        self.attempts_in_phase = 0;
        self.polls = 0;
        self.tries = 0;
        self.overslept = false;
        // It has a reference, so it was accepted, whatever the outcome had said.
        self.doubt = true;
        self.state = State::PollWaiting { at: turn.now, reason: WakeReason::Poll, after: None };
        self.ask_record();
    }

    pub(super) fn delivered(&mut self, turn: &mut Turn<'_>) {
        let State::Ended { outcome } = self.state else {
            return turn.tell(Notice::Absorbed);
        };
        self.due.end = false;
        self.state = State::Delivered { outcome };
        if self.journal.has_records() {
            self.ask_record();
        }
    }
}

const fn final_outcome(reading: &Reading) -> Option<Outcome> {
    match reading {
        Reading::Ready => Some(Outcome::Completed(Completed::Ready)),
        Reading::Partial => Some(Outcome::Completed(Completed::Partial)),
        Reading::Undecided => Some(Outcome::Completed(Completed::Undecided)),
        Reading::Failed => Some(Outcome::Failed),
        Reading::Accepted(_)
        | Reading::Pending { .. }
        | Reading::Progress { .. }
        | Reading::AwaitingPerson { .. }
        | Reading::NotFound
        | Reading::Unknown(_) => None,
    }
}
