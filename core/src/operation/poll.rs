//! Polling: ask whether the accepted job is done, by the schedule; ask again after a failure, by the retry policy.

use core::time::Duration;

use super::{Attempt, Kind, Operation, Outcome, POLL, Reading, State, Turn, Unresolved};
use crate::gate::{Admission, Blocked, Request, Settled};
use crate::key::Reference;
use crate::notice::{Notice, WakeReason};
use crate::retry::{Class, Delay, Failure, Ground};
use crate::time::{Clock, Timestamp};

impl Operation {
    /// The provider has the job. Polling starts once that is on disk.
    pub(super) fn accepted(&mut self, reference: Reference, turn: &mut Turn<'_>) {
        self.reference = Some(reference.into());
        self.doubt = true;
        // It may be a late answer to a request that was given up, or a webhook's word.
        self.failed = None;
        turn.tell(Notice::Accepted);
        self.start_polling(turn);
        self.ask_record();
    }

    /// Polling begins anew: its deadline counts from now.
    pub(super) fn start_polling(&mut self, turn: &mut Turn<'_>) {
        self.phase = turn.now;
        self.attempts_in_phase = 0;
        self.tries = 0;
        self.overslept = false;
        let delay = turn.policy.poll().delay(self.polls, None, self.seed.derive(POLL));
        self.wait_to_poll(delay, None, turn);
    }

    pub(super) fn begin_poll(&mut self, after: Option<Class>, turn: &mut Turn<'_>) {
        let deadline = self.deadline_of_phase(turn.policy.poll().deadline(), turn);
        if turn.now >= deadline {
            return self.end(Outcome::Unresolved(Unresolved::PollDeadline), turn);
        }
        match turn.ask(Request { kind: Kind::Poll, retry_of: after }) {
            Admission::Go(permit) => {
                self.next_attempt();
                self.changed = false;
                let until = turn.now.saturating_add(turn.policy.poll().retry().attempt_timeout()).min(deadline);
                self.state = State::Polling { permit, until };
                self.due.send = true;
                self.tell_sending(turn);
            }
            // A failing poll never ends the job: without a budget for retries it goes on at the slowest pace of the
            // schedule, which costs none.
            Admission::Refuse(refusal) if refusal.why == Blocked::Budget => {
                let pause = turn.policy.poll().schedule().cap();
                let at = refusal.after_pause(pause, turn.now).min(deadline);
                turn.tell_wait(WakeReason::Poll, at, Delay::own(Ground::Budget, at.saturating_since(turn.now)));
                self.state = State::PollWaiting { at, reason: WakeReason::Poll, after: None };
            }
            Admission::Wait(refusal) | Admission::Refuse(refusal) => match refusal.wait_within(deadline, turn.now) {
                Some(at) => self.state = State::PollWaiting { at, reason: WakeReason::Gate, after },
                None => self.end(Outcome::Unresolved(Unresolved::PollDeadline), turn),
            },
        }
    }

    pub(super) fn poll_answered(&mut self, reading: Reading, turn: &mut Turn<'_>) {
        self.land(Settled::Answered, turn);
        self.tries = 0;
        match reading {
            Reading::Ready | Reading::Undecided | Reading::Failed => self.end_with_answer(&reading, turn),
            Reading::Partial if turn.policy.poll().accepts_partial() => self.end_with_answer(&reading, turn),
            Reading::Partial => {
                turn.tell(Notice::Partial);
                self.still_pending(None, turn);
            }
            Reading::Pending { hint } => {
                turn.tell(Notice::Pending { hint });
                self.still_pending(hint, turn);
            }
            Reading::Progress { done, total, hint } => {
                turn.tell(Notice::Progress { done, total });
                self.still_pending(hint, turn);
            }
            Reading::AwaitingPerson { hint } => {
                turn.tell(Notice::AwaitingPerson);
                self.still_pending(hint, turn);
            }
            Reading::Unknown(text) => {
                turn.tell(Notice::UnknownStatus(text));
                self.still_pending(None, turn);
            }
            Reading::Accepted(reference) => {
                if !self.reference.as_ref().is_some_and(|known| known.is(&reference)) {
                    turn.tell(Notice::Conflict);
                }
                self.still_pending(None, turn);
            }
            Reading::NotFound => {
                let since = turn.now.saturating_since(self.phase);
                if self.overslept || since >= turn.policy.poll().not_found_grace() {
                    return self.end(Outcome::Unresolved(Unresolved::NotFound), turn);
                }
                turn.tell(Notice::Pending { hint: None });
                self.still_pending(None, turn);
            }
        }
    }

    fn still_pending(&mut self, hint: Option<Duration>, turn: &mut Turn<'_>) {
        if self.changed && hint.is_none() {
            // The answer may be older than the change that was told of since. A wait that the provider names still
            // holds.
            self.state = State::PollWaiting { at: turn.now, reason: WakeReason::Poll, after: None };
            return;
        }
        self.polls = self.polls.saturating_add(1);
        if self.polls >= turn.policy.poll().polls() {
            return self.end(Outcome::Unresolved(Unresolved::Polls), turn);
        }
        if self.overslept {
            return self.end(Outcome::Unresolved(Unresolved::PollDeadline), turn);
        }
        let delay = turn.policy.poll().delay(self.polls, hint, self.seed.derive(POLL));
        self.wait_to_poll(delay, None, turn);
    }

    /// Something has changed at the provider: ask now, rather than when the schedule would. The poll that this brings
    /// forward takes none of the schedule's.
    pub(super) fn changed(&mut self, turn: &mut Turn<'_>) {
        if let State::PollWaiting { at, reason: WakeReason::Poll, .. } = &mut self.state
            && *at > turn.now
            && self.tries == 0
        {
            *at = turn.now;
            self.polls = self.polls.saturating_sub(1);
        } else if matches!(self.state, State::Polling { .. }) && !self.due.send {
            self.changed = true;
        } else {
            turn.tell(Notice::Absorbed);
        }
    }

    pub(super) fn poll_failed(&mut self, attempt: Attempt, failure: Failure, turn: &mut Turn<'_>) {
        turn.tell(Notice::Failed { attempt, failure });
        self.land(Settled::Failed(failure), turn);
        if failure.class == Class::Permanent {
            // Asking again cannot help, and says nothing of the job: it is not a failure, and may be resumed.
            return self.end(Outcome::Unresolved(Unresolved::PollRefused), turn);
        }
        self.tries = self.tries.saturating_add(1);
        let policy = turn.policy.poll();
        let delay = policy.delay_after_failure(self.tries, failure, self.seed.derive(POLL));
        // Once the retries are used up it goes on at the schedule's slowest pace, which is no retry and needs no
        // budget.
        let after = (self.tries < policy.retry().attempts()).then_some(failure.class);
        // Nor is it one if the credentials had expired: that is no outage, and many polls meet it at once.
        let after = after.filter(|class| *class != Class::Unauthorized);
        self.wait_to_poll(delay, after, turn);
    }

    /// If the next poll could not begin before the deadline, waiting for it would be for nothing: stop now.
    fn wait_to_poll(&mut self, delay: Delay, after: Option<Class>, turn: &mut Turn<'_>) {
        let at = turn.now.saturating_add(delay.wait());
        if at >= self.deadline_of_phase(turn.policy.poll().deadline(), turn) {
            return self.end(Outcome::Unresolved(Unresolved::PollDeadline), turn);
        }
        turn.tell_wait(WakeReason::Poll, at, delay);
        self.state = State::PollWaiting { at, reason: WakeReason::Poll, after };
    }

    /// The deadline of the look-up or the polling, which may last for `patience`. If it passed a while ago while
    /// nothing ran, the machine slept: the request that fell due meanwhile is still sent, once, and has the same time
    /// again for that.
    pub(super) fn deadline_of_phase(&mut self, patience: Duration, turn: &mut Turn<'_>) -> Timestamp {
        let deadline = self.phase.saturating_add(patience);
        if self.overslept || turn.now.saturating_since(deadline) < Clock::SUSPEND {
            return deadline;
        }
        turn.tell(Notice::Overslept);
        self.overslept = true;
        self.phase = turn.now;
        turn.now.saturating_add(patience)
    }
}
