//! What the checks know about one job: what was sent, what is in doubt, what was reported.

use std::collections::BTreeSet;
use std::time::Duration;

use steadfast_core::operation::{AttemptId, Record};
use steadfast_core::{Clock, Kind, OperationPolicy, Outcome, Timestamp};

/// One job. All fields are about one generation: a rejected job may be submitted anew.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// The outcome that its caller was given.
    pub(super) outcome: Option<Outcome>,
    /// Creates that left, over all lives of the process.
    pub(super) creates: u16,
    /// Creates that are not yet known not to have run.
    pub(super) doubtful: BTreeSet<AttemptId>,
    pub(super) first_sent: Option<Timestamp>,
    /// The provider refused it for good; known because the answer came in this life of the process, or is on disk.
    pub(super) refused: bool,
    /// How often it was polled on after it had ended.
    pub(super) resumed: u32,
    /// The outcome before its last resumption, while it has no new one.
    pub(super) resumed_from: Option<Outcome>,
    /// In true time, until when a create may take that a process had in the air as it died. Gone if a later one's
    /// clock was set ahead: it cannot know.
    pub(super) left_behind: Option<Timestamp>,
    /// Every record that was asked for.
    pub(super) asked: Vec<Record>,
    /// What was learnt in this life of the process, and is lost with it.
    pub(super) life: Life,
}

#[derive(Debug, Default)]
pub(super) struct Life {
    /// The engine accepted it, or took it up after a restart.
    pub(super) known: bool,
    /// A record was asked for, so that a crash will not forget it.
    pub(super) recorded: bool,
    /// A final answer was fed, or one after which there is nothing more to ask.
    pub(super) over: bool,
    /// Its end was reported.
    pub(super) ended: bool,
    /// The waiting callers have the outcome.
    pub(super) delivered: bool,
    /// The latest record has the provider's reference.
    pub(super) has_reference: bool,
    /// The first end that was decided.
    pub(super) decided: Option<Outcome>,
    /// When it was found to be finished: its key may be forgotten a fixed time later.
    pub(super) finished: Option<Timestamp>,
    /// A create was admitted and has not left.
    pub(super) writing: Option<Timestamp>,
    /// When the latest intent of a create was handed to the disk.
    pub(super) intended: Option<Timestamp>,
    /// Creates that were admitted.
    pub(super) admitted: u16,
    /// The hint of the latest answer.
    pub(super) hint: Option<Duration>,
    /// Whether the latest answer was a failure.
    pub(super) failed: bool,
    /// The kind of the latest request.
    pub(super) latest: Option<Kind>,
    /// No request may leave before.
    pub(super) not_before: Timestamp,
    /// It was taken up, and waits for the remainder of what its record says.
    pub(super) restored: bool,
    /// When the polls began, and how many were answered with pending.
    pub(super) polls_began: Timestamp,
    pub(super) pendings: u16,
    /// It was reported as changed while a poll was in flight.
    pub(super) hurried: bool,
    /// When it was resumed, until its first poll leaves or is held back.
    pub(super) resumed_at: Option<Timestamp>,
    /// When the look-ups began, and how many there were.
    pub(super) lookups_began: Timestamp,
    pub(super) lookups: u16,
    /// When the latest look-up failed.
    pub(super) lookup_failed: Option<Timestamp>,
    /// The deadline of look-ups or polls passed while the process stood still, and a new one was set.
    pub(super) overslept: bool,
}

impl Account {
    /// The job is submitted once more after it was rejected. What is on disk about it stays known.
    pub(super) fn begin_anew(&mut self) {
        *self = Self { asked: std::mem::take(&mut self.asked), ..Self::default() };
    }

    /// A create that was counted as sent was taken back.
    pub(super) fn has_not_left(&mut self, attempt: AttemptId) {
        self.creates = self.creates.saturating_sub(1);
        self.doubtful.remove(&attempt);
        if self.creates == 0 {
            self.first_sent = None;
        }
    }

    /// Whether somebody may want to know more about it, and there is a way to.
    pub(super) const fn can_resume(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Unresolved(_))) && self.life.delivered && self.life.has_reference
    }

    /// Whether the deadline of its look-ups or polls passed while the process stood still, and no new one was set yet.
    pub(super) fn has_overslept(&self, policy: &OperationPolicy, now: Timestamp) -> bool {
        let life = &self.life;
        let (began, patience) = if life.has_reference || life.latest == Some(Kind::Poll) {
            (life.polls_began, policy.poll().deadline())
        } else {
            (life.lookups_began, policy.lookup().deadline())
        };
        !life.overslept && now >= began.saturating_add(patience).saturating_add(Clock::SUSPEND)
    }

    /// It was reported as changed: a poll that only waits for the schedule is due now, and does not count as one of its
    /// polls.
    pub(super) fn hurry(&mut self, polling: bool, now: Timestamp) {
        let life = &mut self.life;
        let polled = life.has_reference && matches!(life.latest, None | Some(Kind::Poll));
        if polling {
            life.hurried = true;
        } else if polled && !life.failed && life.not_before > now {
            life.not_before = now;
            life.pendings = life.pendings.saturating_sub(1);
        }
    }

    /// It has no outcome any more, and will be polled as if it had just been accepted.
    pub(super) fn resume(&mut self) {
        self.resumed += 1;
        self.resumed_from = self.outcome.take();
        let Life { known, recorded, has_reference, admitted, .. } = self.life;
        self.life = Life { known, recorded, has_reference, admitted, latest: Some(Kind::Poll), ..Life::default() };
    }

    /// A new process finds it as it had ended: its resumption did not reach the disk.
    pub(super) fn forget_resumption(&mut self, on_disk: Outcome) {
        if self.outcome.is_none() && self.resumed_from == Some(on_disk) {
            self.outcome = self.resumed_from.take();
        }
    }

    /// Whether an engine that has heard all this must still know the key.
    pub(super) fn must_be_known(&self, forgets_after: Duration, now: Timestamp) -> bool {
        let rejected = matches!(self.outcome.or(self.life.decided), Some(Outcome::Rejected(_)));
        // It may have finished a little before that was noticed.
        let old = |at: Timestamp| now.saturating_add(Duration::from_secs(5)) >= at.saturating_add(forgets_after);
        self.life.known && !rejected && !self.life.finished.is_some_and(old)
    }
}
