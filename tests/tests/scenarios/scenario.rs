//! One scenario, as data.

use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::gate::GatePolicy;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{RetryAfter, RetryPolicy};
use steadfast_core::{Kind, OperationPolicy, SendSafety};
use steadfast_testkit::journal_kit::StoreFault;

use crate::provider::{Reply, Script};

/// What happens, and what must come of it.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// The invariant (I, R), the row of the crash matrix (C) or the standard that says so.
    pub(crate) source: &'static str,
    pub(crate) script: Script,
    /// It rests on a span of less than a second: the time that a breaker is open, a time-out. A machine that stalls
    /// may come too late for it, so it is played again, twice at most, before it has failed.
    pub(crate) timed: bool,
    /// Nobody listens on the provider's port.
    pub(crate) nobody: bool,
    pub(crate) policy: OperationPolicy,
    pub(crate) gate: GatePolicy,
    pub(crate) body_limit: usize,
    pub(crate) keeps: Keeps,
    /// What goes wrong with the journal's calls, in turn.
    pub(crate) disk: Vec<Option<StoreFault>>,
    pub(crate) steps: Vec<Step>,
    /// The words of its notices: see [`trace`](crate::trace).
    pub(crate) tells: String,
    /// How often the provider ran the job.
    pub(crate) runs: u32,
}

/// What the client keeps in its journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// There is none.
    Nothing,
    Records,
    Payloads,
    Answers,
}

/// What the caller does next. What it is told is part of the step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Submits the job; it must be taken in.
    Submit,
    /// Submits it and is refused so.
    Refused(&'static str),
    /// Submits another payload under its key and is refused so.
    OtherRefused(&'static str),
    /// Waits for the latest handle that was not waited for: the job ends so, or the client was `stopped` before.
    Ends(&'static str),
    /// What ended last had this body.
    Body(&'static str),
    /// Gives up the job of the latest handle.
    Cancel,
    /// Polls on what is unresolved; that must be taken in.
    Resume,
    /// The same, refused so.
    ResumeRefused(&'static str),
    /// Asks where the job stands, and is told so.
    Stands(&'static str),
    /// Nothing may leave.
    Hold,
    /// Ends that.
    Unhold,
    /// Until so many requests of this kind have come to the provider.
    Arrives(Kind, u32),
    /// Until this is the last of the words that were told.
    Tells(&'static str),
    /// The provider's held answers go.
    LetGo,
    /// A webhook of this id and body; the provider's server is answered with this status.
    Webhook(&'static str, &'static str, u16),
    /// The same, with another's signature.
    Forged(&'static str, &'static str, u16),
    /// The client is shut down at once, and says that the job is so far, or nothing.
    Stop(&'static str),
    /// A next client on the same journal.
    Start,
    /// The same so long after that what was in flight has had its time.
    StartLater,
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// So that each wait says what it is for: creates 4, 8 ms; look-ups 5 ms; polls 2, 4, 8 ms; polls that failed 3 ms; 6
/// ms to settle; what the provider asks for is cut to 30 ms. Deadlines and time-outs are far above what a busy machine
/// takes: it is decided by them only where they are made short.
pub(crate) fn swift(safety: SendSafety) -> OperationPolicy {
    let steady = |wait| BackoffPolicy::new(Growth::Fixed(ms(wait)), ms(wait), Jitter::None).unwrap();
    let doubling = |first, cap| BackoffPolicy::new(Growth::doubling(ms(first)), ms(cap), Jitter::None).unwrap();
    let retry = |backoff| {
        let policy = RetryPolicy::new(3, ms(120_000), ms(60_000), backoff).unwrap();
        policy.with_retry_after(RetryAfter::Floor { ceiling: ms(30) })
    };
    let poll = PollPolicy::new(doubling(2, 8), 5, ms(120_000), retry(steady(3))).unwrap();
    OperationPolicy::default()
        .with_create(retry(doubling(4, 16)))
        .unwrap()
        .with_lookup(retry(steady(5)))
        .with_poll(poll)
        .with_persist(steady(2))
        .unwrap()
        .with_safety(safety)
        .unwrap()
}

/// At a provider that drops repeats of a key.
pub(crate) fn keyed(name: impl Into<String>, source: &'static str) -> Scenario {
    scenario(name, source, SendSafety::Keyed { window: Duration::from_secs(86_400) })
}

/// At one that would run a repeat again.
pub(crate) fn unkeyed(name: impl Into<String>, source: &'static str) -> Scenario {
    scenario(name, source, SendSafety::Unsafe)
}

/// At one that would, and can be asked for the job of a key.
pub(crate) fn looked_up(name: impl Into<String>, source: &'static str) -> Scenario {
    scenario(name, source, SendSafety::Lookup { settle: ms(6) })
}

pub(crate) fn scenario(name: impl Into<String>, source: &'static str, safety: SendSafety) -> Scenario {
    Scenario {
        name: name.into(),
        source,
        script: Script::default(),
        timed: false,
        nobody: false,
        policy: swift(safety),
        gate: GatePolicy::none().with_longest_pause(Duration::ZERO),
        body_limit: 1 << 20,
        keeps: Keeps::Nothing,
        disk: Vec::new(),
        steps: Vec::new(),
        tells: String::new(),
        runs: 1,
    }
}

impl Scenario {
    pub(crate) fn creates(mut self, replies: impl Into<Vec<Reply>>) -> Self {
        self.script.creates = replies.into();
        self
    }

    pub(crate) fn lookups(mut self, replies: impl Into<Vec<Reply>>) -> Self {
        self.script.lookups = replies.into();
        self
    }

    pub(crate) fn polls(mut self, replies: impl Into<Vec<Reply>>) -> Self {
        self.script.polls = replies.into();
        self
    }

    /// Nobody listens on the provider's port.
    pub(crate) const fn unheard(mut self) -> Self {
        self.nobody = true;
        self
    }

    pub(crate) const fn timed(mut self) -> Self {
        self.timed = true;
        self
    }

    /// With its creates tried like this.
    pub(crate) fn trying(mut self, change: impl FnOnce(Try) -> Try) -> Self {
        let create = change(Try::of(self.policy.create())).policy();
        self.policy = self.policy.with_create(create).unwrap();
        self
    }

    /// With its polls made like this.
    pub(crate) fn polling(mut self, change: impl FnOnce(&PollPolicy) -> PollPolicy) -> Self {
        let poll = change(self.policy.poll());
        self.policy = self.policy.with_poll(poll);
        self
    }

    /// With polls that failed tried again like this.
    pub(crate) fn polls_trying(self, change: impl FnOnce(Try) -> Try) -> Self {
        self.polling(|poll| {
            let retry = change(Try::of(poll.retry())).policy();
            PollPolicy::new(poll.schedule().clone(), poll.polls(), poll.deadline(), retry).unwrap()
        })
    }

    pub(crate) fn safe_by(mut self, safety: SendSafety) -> Self {
        self.policy = self.policy.with_safety(safety).unwrap();
        self
    }

    pub(crate) fn gate(mut self, change: impl FnOnce(GatePolicy) -> GatePolicy) -> Self {
        self.gate = change(self.gate);
        self
    }

    pub(crate) const fn at_most(mut self, body_limit: usize) -> Self {
        self.body_limit = body_limit;
        self
    }

    pub(crate) const fn keeping(mut self, keeps: Keeps) -> Self {
        self.keeps = keeps;
        self
    }

    pub(crate) fn disk(mut self, faults: impl Into<Vec<Option<StoreFault>>>) -> Self {
        self.disk = faults.into();
        self
    }

    /// What the caller does. Default: submits the job and waits for it.
    pub(crate) fn caller(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.steps = steps.into();
        self
    }

    pub(crate) fn tells(mut self, words: impl Into<String>) -> Self {
        self.tells = words.into();
        self
    }

    pub(crate) const fn runs(mut self, times: u32) -> Self {
        self.runs = times;
        self
    }
}

/// The parts of a retry policy, to change some of them.
#[derive(Clone, Debug)]
pub(crate) struct Try {
    pub(crate) attempts: u16,
    pub(crate) deadline: Duration,
    pub(crate) timeout: Duration,
    pub(crate) backoff: BackoffPolicy,
    pub(crate) hints: RetryAfter,
}

impl Try {
    fn of(policy: &RetryPolicy) -> Self {
        Self {
            attempts: policy.attempts(),
            deadline: policy.deadline(),
            timeout: policy.attempt_timeout(),
            backoff: policy.backoff().clone(),
            hints: policy.retry_after(),
        }
    }

    fn policy(self) -> RetryPolicy {
        let policy = RetryPolicy::new(self.attempts, self.deadline, self.timeout, self.backoff).unwrap();
        policy.with_retry_after(self.hints)
    }
}
