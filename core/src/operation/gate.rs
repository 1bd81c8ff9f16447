//! Waiting at the gate: what the engine must know of an operation to keep the line.

use core::time::Duration;

use super::{Kind, Operation, OperationPolicy, State, Turn};
use crate::gate::Request;
use crate::notice::WakeReason;
use crate::retry::GaveUp;
use crate::time::Timestamp;

impl Operation {
    /// The request for which it waits at the gate, if it waits for nothing else.
    pub(crate) fn blocked(&self) -> Option<Request> {
        let (kind, reason, retry_of) = match self.state {
            State::CreateWaiting { reason, after, .. } => (Kind::Create, reason, after),
            State::LookupWaiting { reason, after, .. } => (Kind::Lookup, reason, after),
            State::PollWaiting { reason, after, .. } => (Kind::Poll, reason, after),
            State::CreateWriting { .. }
            | State::Creating { .. }
            | State::LookingUp { .. }
            | State::Polling { .. }
            | State::Ending { .. }
            | State::Ended { .. }
            | State::Delivered { .. } => return None,
        };
        (reason == WakeReason::Gate && self.journal.is_durable()).then_some(Request { kind, retry_of })
    }

    /// The request for which it holds a permit: one in the air, or a create whose record is being written.
    pub(crate) const fn has_leave_for(&self) -> Option<Kind> {
        match self.state {
            State::CreateWriting { .. } | State::Creating { .. } => Some(Kind::Create),
            State::LookingUp { .. } => Some(Kind::Lookup),
            State::Polling { .. } => Some(Kind::Poll),
            State::CreateWaiting { .. }
            | State::LookupWaiting { .. }
            | State::PollWaiting { .. }
            | State::Ending { .. }
            | State::Ended { .. }
            | State::Delivered { .. } => None,
        }
    }

    /// Whether it is a create of which certainly nothing has run: one that a gate which fails fast may refuse.
    pub(crate) const fn may_be_refused(&self) -> bool {
        matches!(self.state, State::CreateWaiting { .. }) && !self.doubt
    }

    /// Whether its next step is a create, of which nothing has begun.
    pub(crate) const fn waits_to_create(&self) -> bool {
        matches!(self.state, State::CreateWaiting { .. })
    }

    /// When waiting at the gate has become pointless.
    pub(crate) fn blocked_until(&self, policy: &OperationPolicy) -> Timestamp {
        let (began, patience) = self.patience(policy);
        began.saturating_add(patience)
    }

    /// Whether a third of the time that its poll or look-up has is over, since the job was accepted or is looked for.
    pub(crate) fn is_pressed(&self, policy: &OperationPolicy, now: Timestamp) -> bool {
        let (began, patience) = self.patience(policy);
        !self.waits_to_create() && now.saturating_since(began) >= patience.checked_div(3).unwrap_or_default()
    }

    /// Since when it waits for what it waits for, and for how long it may.
    fn patience(&self, policy: &OperationPolicy) -> (Timestamp, Duration) {
        match self.state {
            State::LookupWaiting { .. } => (self.phase, policy.lookup().deadline()),
            State::PollWaiting { .. } => (self.phase, policy.poll().deadline()),
            State::CreateWaiting { .. }
            | State::CreateWriting { .. }
            | State::Creating { .. }
            | State::LookingUp { .. }
            | State::Polling { .. }
            | State::Ending { .. }
            | State::Ended { .. }
            | State::Delivered { .. } => (self.submitted, policy.create().deadline()),
        }
    }

    /// Its turn has come, and the gate may let it go. A create that is so late that it would hardly be answered before
    /// the deadline is not begun any more: that nothing of it has run is certain now, and would not be then; and whoever
    /// stands behind it may be in time.
    pub(crate) fn called(&mut self, turn: &mut Turn<'_>) {
        self.look_at_clock(turn);
        let left = self.create_deadline(turn).saturating_since(turn.now);
        if self.waits_to_create() && !self.doubt && left < turn.policy.create().fair_chance() {
            self.create_gave_up(GaveUp::Deadline, turn);
        }
        self.knock(turn);
    }

    /// It asks the gate now.
    pub(crate) fn knock(&mut self, turn: &mut Turn<'_>) {
        self.look_at_clock(turn);
        if self.blocked().is_some()
            && let State::CreateWaiting { at, .. } | State::LookupWaiting { at, .. } | State::PollWaiting { at, .. } =
                &mut self.state
        {
            *at = (*at).min(turn.now);
        }
        self.advance(turn);
    }
}
