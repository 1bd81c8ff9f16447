//! A provider in miniature: what it promises, what it ran, and what it may truthfully answer.

use std::sync::LazyLock;
use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::operation::Reading;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Kind, OperationPolicy, Reference, SendSafety, Timestamp};

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// How long each attempt is waited for.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
/// What a client is asked to wait.
pub(super) const HINT: Duration = Duration::from_secs(2);
/// How long the provider remembers a key.
const WINDOW: Duration = Duration::from_secs(6);
/// How long after it was given up a create can still be carried out.
const SETTLE: Duration = Duration::from_secs(2);

/// What the provider promises; the policy trusts it in just that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Promise {
    /// It runs a key once in its window.
    Keys,
    /// It ignores keys, and tells for certain whether there is a job of a key.
    Lookups,
    /// It runs every create it gets.
    Nothing,
}

impl Promise {
    pub(super) fn policy(self) -> &'static OperationPolicy {
        static POLICIES: LazyLock<[OperationPolicy; 3]> = LazyLock::new(|| {
            [SendSafety::Keyed { window: WINDOW }, SendSafety::Lookup { settle: SETTLE }, SendSafety::Unsafe]
                .map(|safety| policy().with_safety(safety).unwrap())
        });
        &POLICIES[self as usize]
    }
}

/// Two of everything, a second apart, and deadlines that can be reached.
fn policy() -> OperationPolicy {
    let each = |span| BackoffPolicy::new(Growth::Fixed(span), span, Jitter::None).unwrap();
    let tries = |deadline| RetryPolicy::new(2, SECOND * deadline, TIMEOUT, each(SECOND)).unwrap();
    OperationPolicy::default()
        .with_create(tries(7))
        .unwrap()
        .with_lookup(tries(6))
        .with_poll(PollPolicy::new(each(SECOND), 2, SECOND * 5, tries(5)).unwrap())
        .with_persist(each(SECOND))
        .unwrap()
}

/// How the job stands at the provider, as far as it has ever told anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fate {
    Open,
    Ready,
    Failed,
}

/// The provider, its ledger included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Provider {
    pub(super) promise: Promise,
    /// How often the job was run.
    pub(super) runs: u8,
    key_used: Option<Timestamp>,
    pub(super) fate: Fate,
}

/// What comes back of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Answer {
    Accepted,
    Pending,
    Ready,
    Failed,
    NotFound,
    /// No connection.
    Unavailable,
    /// "Too many requests, come back in so long".
    Throttled,
    /// "Unavailable, come back in so long", by something in between: it may have run.
    Busy,
    /// The request is wrong, and was not run.
    Refused,
    /// It is wrong or of no use, and nothing is said of whether it ran.
    RefusedInDoubt,
}

impl Answer {
    pub(super) fn meaning(self, kind: Kind) -> Result<Reading, Failure> {
        use Certainty::{Executed, MayHaveExecuted, NotExecuted};
        match self {
            Self::Accepted => Ok(Reading::Accepted(Reference::new("txn-1").unwrap())),
            Self::Pending => Ok(Reading::Pending { hint: None }),
            Self::Ready => Ok(Reading::Ready),
            Self::Failed if kind == Kind::Create => Err(Failure::new(Class::Permanent, Executed)),
            Self::Failed => Ok(Reading::Failed),
            Self::NotFound => Ok(Reading::NotFound),
            Self::Unavailable => Err(Failure::new(Class::Transient, NotExecuted)),
            Self::Throttled => Err(Failure::new(Class::Throttled, NotExecuted).with_retry_after(Some(HINT))),
            Self::Busy => Err(Failure::new(Class::Transient, MayHaveExecuted).with_retry_after(Some(HINT))),
            Self::Refused => Err(Failure::new(Class::Permanent, NotExecuted)),
            Self::RefusedInDoubt => Err(Failure::new(Class::Permanent, MayHaveExecuted)),
        }
    }

    /// Whether a request that was not carried out until now was so at the latest when this was answered.
    pub(super) const fn tells_of_a_run(self) -> bool {
        matches!(self, Self::Accepted | Self::Pending | Self::Ready | Self::Failed)
    }

    /// Whether the request may still be on its way to be carried out.
    pub(super) const fn leaves_open(self) -> bool {
        matches!(self, Self::Busy | Self::RefusedInDoubt)
    }

    /// Whether sending the same again is pointless.
    pub(super) const fn is_refusal(self) -> bool {
        matches!(self, Self::Refused | Self::RefusedInDoubt)
    }
}

impl Provider {
    pub(super) const fn new(promise: Promise) -> Self {
        Self { promise, runs: 0, key_used: None, fate: Fate::Open }
    }

    /// A create is carried out: the job runs, unless the provider knows the key.
    pub(super) fn run(&mut self, now: Timestamp) {
        let known = self.key_used.is_some_and(|used| now < used.saturating_add(WINDOW));
        if self.promise == Promise::Keys && known {
            return;
        }
        self.key_used = Some(now);
        self.runs += 1;
    }

    /// Until when a create can be carried out after it was sent and, at last, given up.
    pub(super) fn lands_before(&self, sent: Timestamp, given_up: Timestamp) -> Timestamp {
        match self.promise {
            // What a key's window less a time-out is there for.
            Promise::Keys => sent.saturating_add(TIMEOUT),
            Promise::Lookups | Promise::Nothing => given_up.saturating_add(SETTLE),
        }
    }

    /// What it may truthfully answer to a request that is in the air.
    pub(super) fn answers(&self, kind: Kind, carried_out: bool) -> Vec<Answer> {
        let mut answers = Vec::new();
        match kind {
            Kind::Create => {
                answers.extend([Answer::Accepted, Answer::Busy, Answer::RefusedInDoubt]);
                self.final_answers(&mut answers);
                if !carried_out {
                    answers.extend([Answer::Unavailable, Answer::Throttled, Answer::Refused]);
                }
            }
            Kind::Lookup => {
                if self.runs > 0 {
                    answers.push(Answer::Accepted);
                    self.final_answers(&mut answers);
                } else {
                    answers.push(Answer::NotFound);
                }
                answers.extend([Answer::Busy, Answer::Throttled, Answer::Refused]);
            }
            _ => {
                self.pending(&mut answers);
                self.final_answers(&mut answers);
                // Its reads may lag behind its writes.
                answers.extend([Answer::NotFound, Answer::Busy, Answer::Throttled, Answer::Refused]);
            }
        }
        answers
    }

    /// What it may tell when nobody waits for it any more: late, or by a webhook. A late failure would teach nothing.
    pub(super) fn late_answers(&self, kind: Kind, carried_out: bool) -> Vec<Answer> {
        let mut answers = Vec::new();
        match kind {
            Kind::Create if !carried_out => {}
            // The answer was true when it was given.
            Kind::Lookup if self.runs == 0 => answers.push(Answer::NotFound),
            Kind::Create | Kind::Lookup => {
                answers.push(Answer::Accepted);
                self.final_answers(&mut answers);
                answers.retain(|answer| answer.meaning(kind).is_ok());
            }
            _ => {
                self.pending(&mut answers);
                self.final_answers(&mut answers);
            }
        }
        answers
    }

    pub(super) fn webhooks(&self) -> Vec<Answer> {
        let mut answers = Vec::new();
        if self.runs > 0 {
            answers.push(Answer::Accepted);
            self.pending(&mut answers);
            self.final_answers(&mut answers);
        }
        answers
    }

    fn pending(&self, answers: &mut Vec<Answer>) {
        if self.fate == Fate::Open {
            answers.push(Answer::Pending);
        }
    }

    /// What it once said of the job's end stays true.
    fn final_answers(&self, answers: &mut Vec<Answer>) {
        if self.fate != Fate::Failed {
            answers.push(Answer::Ready);
        }
        if self.fate != Fate::Ready {
            answers.push(Answer::Failed);
        }
    }

    /// What it has said, it has decided.
    pub(super) fn says(&mut self, answer: Answer) {
        match answer {
            Answer::Ready => self.fate = Fate::Ready,
            Answer::Failed => self.fate = Fate::Failed,
            _ => {}
        }
    }
}
