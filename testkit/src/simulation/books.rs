//! What the checks remember, apart from all that an engine believes: what was sent, what is in doubt, what was told.

use std::collections::BTreeSet;
use std::time::Duration;

use steadfast_core::breaker::BreakerState;
use steadfast_core::notice::{Notice, WakeReason};
use steadfast_core::operation::{AttemptId, Record};
use steadfast_core::retry::{Ground, RetryAfter};
use steadfast_core::{Kind, OperationPolicy, Outcome, SendSafety, Timestamp};

use super::invariant::Invariant;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, to be printed")]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How it was seen.
    pub detail: String,
}

/// One job, as the checks know it. All of it is of one generation: a job that was rejected may be submitted anew.
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
    /// A final answer was fed in this life of the process.
    pub(super) final_heard: bool,
    /// Its end was told in this life of the process.
    pub(super) ended: bool,
    /// Every record that was asked for.
    pub(super) asked: Vec<Record>,
    /// The hint of the latest answer, if it is known whether there was one.
    hint: Option<Option<Duration>>,
    /// What the latest request asked.
    latest: Option<Kind>,
}

impl Account {
    /// The process is gone, and with it what it had heard and not written down.
    pub(super) const fn crash(&mut self) {
        (self.final_heard, self.ended) = (false, false);
        (self.hint, self.latest) = (None, None);
    }

    /// The job is submitted once more after it was rejected. What is on disk of it stays known.
    pub(super) fn begin_anew(&mut self) {
        *self = Self { asked: std::mem::take(&mut self.asked), ..Self::default() };
    }
}

#[derive(Debug)]
pub(super) struct Books {
    evaluated: Vec<u64>,
    pub(super) violation: Option<Violation>,
    pub(super) accounts: Vec<Account>,
    /// Polls and look-ups that left since the gate was new.
    pub(super) reads: Vec<(Kind, Timestamp)>,
    /// A provider asked for a pause until then.
    pub(super) paused_until: Timestamp,
    /// The state of the breaker that was told last.
    breaker: Option<BreakerState>,
}

impl Books {
    pub(super) fn new(jobs: usize) -> Self {
        Self {
            evaluated: vec![0; Invariant::all().count()],
            violation: None,
            accounts: (0..jobs).map(|_| Account::default()).collect(),
            reads: Vec::new(),
            paused_until: Timestamp::EPOCH,
            breaker: None,
        }
    }

    /// The first breach is kept; it ends the history.
    pub(super) fn hold(&mut self, invariant: Invariant, holds: bool, detail: impl FnOnce() -> String) {
        self.evaluated[invariant.index()] += 1;
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation { invariant, detail: detail() });
        }
    }

    /// The same for what is asked for under several names.
    pub(super) fn hold_all(&mut self, invariants: &[Invariant], holds: bool, detail: impl Fn() -> String) {
        for invariant in invariants {
            self.hold(*invariant, holds, &detail);
        }
    }

    /// How often each was checked, in the order of [`Invariant::all`].
    pub(super) fn evaluated(&self) -> &[u64] {
        &self.evaluated
    }

    pub(super) fn crash(&mut self) {
        for account in &mut self.accounts {
            account.crash();
        }
        (self.paused_until, self.breaker) = (Timestamp::EPOCH, None);
        self.reads.clear();
    }

    /// Checks what a notice tells of one job. `submitted` is when the engine believes that it was.
    pub(super) fn hear(
        &mut self,
        job: usize,
        notice: &Notice,
        policy: &OperationPolicy,
        submitted: Timestamp,
        now: Timestamp,
    ) {
        if let Notice::Breaker(state) = notice {
            return self.hear_breaker(*state);
        }
        let Some(account) = self.accounts.get_mut(job) else { return };
        match notice {
            Notice::Sending(attempt) => (account.latest, account.hint) = (Some(attempt.kind), Some(None)),
            Notice::Failed { failure, .. } => account.hint = Some(failure.retry_after),
            Notice::Pending { hint } => account.hint = Some(*hint),
            // The hint that came with it is not told.
            Notice::AwaitingPerson => account.hint = None,
            Notice::Accepted => (account.latest, account.hint) = (Some(Kind::Poll), Some(None)),
            Notice::ProvenAbsent => (account.latest, account.hint) = (Some(Kind::Create), Some(None)),
            // How long a spent budget makes it pause is the budget's own affair.
            Notice::Waiting { delay, .. } if delay.ground == Ground::Budget => {}
            Notice::Waiting { reason, until, .. } => {
                let (hint, latest) = (account.hint, account.latest);
                self.hear_wait(*reason, until.saturating_since(now), hint, latest, policy);
                if *reason == WakeReason::Create {
                    let deadline = submitted.saturating_add(policy.create().deadline());
                    self.hold(Invariant::R(3), *until < deadline, || {
                        format!("waits until {until:?}, after {deadline:?}")
                    });
                }
            }
            _ => {}
        }
    }

    fn hear_wait(
        &mut self,
        reason: WakeReason,
        wait: Duration,
        hint: Option<Option<Duration>>,
        latest: Option<Kind>,
        policy: &OperationPolicy,
    ) {
        let (cap, hints) = match reason {
            WakeReason::Create => (policy.create().backoff().cap(), policy.create().retry_after()),
            WakeReason::Lookup if latest == Some(Kind::Lookup) => {
                (policy.lookup().backoff().cap(), policy.lookup().retry_after())
            }
            // The first look-up waits for the provider to settle.
            WakeReason::Lookup => {
                let SendSafety::Lookup { settle } = policy.safety() else { return };
                return self
                    .hold(Invariant::R(1), wait == settle, || format!("looks up after {wait:?}, not {settle:?}"));
            }
            WakeReason::Poll => {
                let poll = policy.poll();
                (poll.schedule().cap().max(poll.retry().backoff().cap()), poll.retry().retry_after())
            }
            _ => return,
        };
        let Some(hint) = hint else { return };
        let (least, most) = bounds(hints, hint, cap);
        self.hold_all(&[Invariant::I(1), Invariant::R(1)], wait <= most, || {
            format!("waits {wait:?}, more than {most:?} ({reason:?}, hint {hint:?}, {hints:?})")
        });
        self.hold_all(&[Invariant::I(1), Invariant::R(4)], wait >= least, || {
            format!("waits {wait:?}, less than the hint's {least:?} ({reason:?}, {hints:?})")
        });
    }

    fn hear_breaker(&mut self, state: BreakerState) {
        use BreakerState::{Closed, HalfOpen, Open};
        let before = self.breaker.replace(state);
        let legal = match (before.unwrap_or(state), state) {
            (Closed | HalfOpen, Open { .. }) | (Open { .. }, HalfOpen) | (HalfOpen, Closed) => true,
            // The first that is told in this life.
            _ => before.is_none(),
        };
        self.hold(Invariant::R(20), legal, || format!("the breaker went from {before:?} to {state:?}"));
    }
}

/// The shortest and the longest wait that follow a hint: worked out here once more, from the documentation.
fn bounds(hints: RetryAfter, hint: Option<Duration>, cap: Duration) -> (Duration, Duration) {
    let Some(hint) = hint else { return (Duration::ZERO, cap) };
    match hints {
        RetryAfter::Floor { ceiling } => (hint.min(ceiling), cap.max(hint.min(ceiling))),
        // A poll beyond its retries goes at the slowest pace, whatever the hint.
        RetryAfter::Exact { ceiling } => (hint.min(ceiling), cap.max(hint.min(ceiling))),
        RetryAfter::Clamped { extra } => (hint.min(extra), cap.saturating_add(extra)),
        _ => (Duration::ZERO, Duration::MAX),
    }
}
