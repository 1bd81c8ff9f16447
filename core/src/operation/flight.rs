//! A request in the air: how it comes down, and how its permit is given back.

use core::num::NonZeroU32;
use core::time::Duration;

use super::{Attempt, AttemptId, Kind, Operation, State, Turn};
use crate::gate::Settled;
use crate::notice::{Notice, WakeReason};
use crate::retry::{Certainty, Class, Failure, GaveUp};
use crate::time::{Clock, Timestamp};

impl Operation {
    /// The request in the air has had its time.
    pub(super) fn timed_out(&mut self, turn: &mut Turn<'_>) {
        let Some(attempt) = self.in_flight() else { return };
        if self.due.send {
            // The driver never came to take it: nothing left, so nothing ran.
            self.leave_flight(Settled::Unsent, turn);
            let failure = Failure::new(Class::TimedOut, Certainty::NotExecuted);
            return self.attempt_failed(attempt, failure, turn);
        }
        if turn.now.saturating_since(attempt.until) >= Clock::SUSPEND || self.is_cut_short(attempt.kind, turn) {
            // The machine slept, or the line at the gate took nearly all the time there was: this says nothing of the
            // provider. No breaker opens for it, and keeps those behind in line until they are as late.
            self.leave_flight(Settled::Abandoned, turn);
        }
        self.abandon = NonZeroU32::new(attempt.id.0);
        self.attempt_failed(attempt, Failure::new(Class::TimedOut, Certainty::MayHaveExecuted), turn);
    }

    /// Whether the request in the air, which has had its time, has had too little of it to be answered. The last poll
    /// before a deadline has less than a whole time-out as a rule, with or without a line.
    fn is_cut_short(&self, kind: Kind, turn: &Turn<'_>) -> bool {
        let (State::Creating { permit, .. } | State::LookingUp { permit, .. } | State::Polling { permit, .. }) =
            self.state
        else {
            return false;
        };
        let fair_chance = match kind {
            Kind::Create => turn.policy.create().fair_chance(),
            Kind::Lookup => half(turn.policy.lookup().fair_chance()),
            Kind::Poll => half(turn.policy.poll().fair_chance()),
        };
        // A permit counts whole milliseconds.
        permit.elapsed(turn.now).saturating_add(Duration::from_millis(1)) < fair_chance
    }

    fn attempt_failed(&mut self, attempt: Attempt, failure: Failure, turn: &mut Turn<'_>) {
        match attempt.kind {
            Kind::Create => self.create_failed(attempt, failure, turn),
            Kind::Lookup => self.lookup_failed(attempt, failure, turn),
            Kind::Poll => self.poll_failed(attempt, failure, turn),
        }
    }

    /// The request in the air has not left, and is to be sent again, unless it is a repeat whose key the provider may
    /// have forgotten before it arrives.
    pub(super) fn unsent(&mut self, id: AttemptId, turn: &mut Turn<'_>) {
        match self.in_flight() {
            Some(attempt) if attempt.id == id && !self.due.send => {
                self.due.send = true;
                // A change that was told of before the request leaves is covered by its answer.
                self.changed = false;
                if attempt.kind == Kind::Create && self.doubt && turn.now >= self.key_expiry(turn) {
                    self.leave_flight(Settled::Unsent, turn);
                    self.create_gave_up(GaveUp::KeyWindow, turn);
                }
            }
            Some(_) | None => turn.tell(Notice::Absorbed),
        }
    }

    /// Gives back the permit of the request in the air, and has the request itself stopped if it still runs.
    ///
    /// Returns whether a create has left whose answer nobody will hear now.
    pub(super) fn leave_flight(&mut self, how: Settled, turn: &mut Turn<'_>) -> bool {
        let (at, after) = (Timestamp::NEVER, None);
        let (permit, sent, grounded) = match self.state {
            State::CreateWriting { permit, .. } => {
                (permit, false, State::CreateWaiting { at, reason: WakeReason::Create, after })
            }
            State::Creating { permit, .. } => {
                (permit, !self.due.send, State::CreateWaiting { at, reason: WakeReason::Create, after })
            }
            State::LookingUp { permit, .. } => {
                (permit, !self.due.send, State::LookupWaiting { at, reason: WakeReason::Lookup, after })
            }
            State::Polling { permit, .. } => {
                (permit, !self.due.send, State::PollWaiting { at, reason: WakeReason::Poll, after })
            }
            State::CreateWaiting { .. }
            | State::LookupWaiting { .. }
            | State::PollWaiting { .. }
            | State::Ending { .. }
            | State::Ended { .. }
            | State::Delivered { .. } => return false,
        };
        let before = self.state;
        // Out of the air at once, so that no permit can be settled twice; the caller says what comes next.
        self.state = grounded;
        // A request that has not left gives back what it took, whatever the reason. Not so a create that was due to
        // leave: how long ago it took that is no longer known.
        let begun = matches!(before, State::Creating { .. });
        let how = match (sent, begun) {
            (true, _) => how,
            (false, true) => Settled::Abandoned,
            (false, false) => Settled::Unsent,
        };
        turn.settle(permit, how);
        self.due.send = false;
        if sent {
            self.abandon = NonZeroU32::new(self.attempts);
        }
        sent && permit.kind() == Kind::Create
    }

    /// The same when the request was answered: there is nothing left to stop.
    pub(super) fn land(&mut self, how: Settled, turn: &mut Turn<'_>) {
        self.failed = if let Settled::Failed(failure) = how { Some(failure.class) } else { None };
        let abandon = self.abandon;
        self.leave_flight(how, turn);
        self.abandon = abandon;
    }
}

fn half(span: Duration) -> Duration {
    span.checked_div(2).unwrap_or_default()
}
