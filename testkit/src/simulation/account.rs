//! What the checks know of one job: what was sent, what is in doubt, what was told.

use std::collections::BTreeSet;
use std::time::Duration;

use steadfast_core::operation::{AttemptId, Record};
use steadfast_core::{Clock, Kind, OperationPolicy, Outcome, Timestamp};

/// One job. All of it is of one generation: a job that was rejected may be submitted anew.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// The outcome that its caller was told.
    pub(super) outcome: Option<Outcome>,
    /// Creates that left, over all lives of the process.
    pub(super) creates: u16,
    /// Creates of which nobody has learnt yet that they did not run.
    pub(super) doubtful: BTreeSet<AttemptId>,
    pub(super) first_sent: Option<Timestamp>,
    /// The provider refused it for good, as was heard in this life of the process or is on disk.
    pub(super) refused: bool,
    /// How often it was polled on after it had ended.
    pub(super) resumed: u32,
    /// The outcome that it had when it was last resumed, while it has no other.
    pub(super) resumed_from: Option<Outcome>,
    /// In true time, until when a create may take that a process had in the air as it died. Gone if a later one's clock was set ahead: it cannot know.
    pub(super) left_behind: Option<Timestamp>,
    /// Every record that was asked for.
    pub(super) asked: Vec<Record>,
    /// What was learnt in this life of the process, and goes with it.
    pub(super) life: Life,
}

#[derive(Debug, Default)]
pub(super) struct Life {
    /// The engine took it in, or took it up.
    pub(super) known: bool,
    /// A record was asked for, so that a crash will not forget it.
    pub(super) recorded: bool,
    /// A final answer was fed, or one after which there is nothing more to ask.
    pub(super) over: bool,
    /// Its end was told.
    pub(super) ended: bool,
    /// Whoever waited for it has the outcome.
    pub(super) delivered: bool,
    /// The latest record has the provider's reference.
    pub(super) has_reference: bool,
    /// The first end that was decided.
    pub(super) decided: Option<Outcome>,
    /// When it was seen to be finished: its key may be forgotten so much later.
    pub(super) finished: Option<Timestamp>,
    /// A create was let through and has not left.
    pub(super) writing: Option<Timestamp>,
    /// When the latest intent of a create was handed to the disk.
    pub(super) intended: Option<Timestamp>,
    /// Creates that were let through.
    pub(super) admitted: u16,
    /// The hint of the latest answer.
    pub(super) hint: Option<Duration>,
    /// Whether the latest answer was a failure.
    pub(super) failed: bool,
    /// What the latest request asked.
    pub(super) latest: Option<Kind>,
    /// No request is due before.
    pub(super) not_before: Timestamp,
    /// It was taken up, and waits for what its record says is left.
    pub(super) restored: bool,
    /// When the polls began, and how many were answered with pending.
    pub(super) polls_began: Timestamp,
    pub(super) pendings: u16,
    /// It was told to have changed while a poll was in the air.
    pub(super) hurried: bool,
    /// When it was resumed, until its first poll leaves or is held back.
    pub(super) resumed_at: Option<Timestamp>,
    /// When the look-ups began, and how many there were.
    pub(super) lookups_began: Timestamp,
    pub(super) lookups: u16,
    /// Their deadline, or that of the polls, passed while the process stood still, and it has another.
    pub(super) overslept: bool,
}

impl Account {
    /// The job is submitted once more after it was rejected. What is on disk of it stays known.
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

    /// Whether somebody may want to know more of it, and there is a way to.
    pub(super) const fn can_resume(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Unresolved(_))) && self.life.delivered && self.life.has_reference
    }

    /// Whether the deadline of what it asks passed while the process stood still, and it has no other yet.
    pub(super) fn has_overslept(&self, policy: &OperationPolicy, now: Timestamp) -> bool {
        let life = &self.life;
        let (began, patience) = if life.has_reference || life.latest == Some(Kind::Poll) {
            (life.polls_began, policy.poll().deadline())
        } else {
            (life.lookups_began, policy.lookup().deadline())
        };
        !life.overslept && now >= began.saturating_add(patience).saturating_add(Clock::SUSPEND)
    }

    /// It was told to have changed: a poll that only waits for the schedule is due now, and takes none of it.
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

    /// A new process finds it as it had ended: that it was resumed did not come to disk.
    pub(super) fn forget_resumption(&mut self, on_disk: Outcome) {
        if self.outcome.is_none() && self.resumed_from == Some(on_disk) {
            self.outcome = self.resumed_from.take();
        }
    }

    /// Whether an engine that was told all this must still know the key.
    pub(super) fn must_be_known(&self, forgets_after: Duration, now: Timestamp) -> bool {
        let rejected = matches!(self.outcome.or(self.life.decided), Some(Outcome::Rejected(_)));
        // It may have been finished a little before it was seen to be.
        let old = |at: Timestamp| now.saturating_add(Duration::from_secs(5)) >= at.saturating_add(forgets_after);
        self.life.known && !rejected && !self.life.finished.is_some_and(old)
    }
}
