//! How an operation ended.

/// How an operation ended. What the provider *decided* is in its answer's body, which the driver holds.
///
/// The four are told apart by what the caller may do next:
///
/// | outcome | did it run? | next |
/// | --- | --- | --- |
/// | `Completed` | once | read the result |
/// | `Failed` | once, and the provider reports failure | decide whether to submit a new job |
/// | `Rejected` | certainly not | mend the cause, submit again |
/// | `Unresolved` | nobody can tell, or not yet | resume or ask the provider, with the reference if there is one; **never** a new key |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[expect(clippy::exhaustive_enums, reason = "every caller must handle exactly these four")]
pub enum Outcome {
    /// The provider gave its final answer.
    Completed(Completed),
    /// Nothing ran.
    Rejected(Rejected),
    /// The job ran, and the provider reports that it failed.
    Failed,
    /// We cannot know whether it ran, or how it ended.
    Unresolved(Unresolved),
}

impl Outcome {
    /// `completed`, `rejected`, `failed` or `unresolved`: for tables, metrics and exit codes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::Rejected(_) => "rejected",
            Self::Failed => "failed",
            Self::Unresolved(_) => "unresolved",
        }
    }

    /// The reason within its kind, as one of a few fixed words, for metrics: `ready`, `attempts`, `poll_deadline` …;
    /// for [`Failed`](Self::Failed) it is `reported`. A word can occur under more than one kind, so read it beside
    /// [`name`](Self::name).
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Completed(Completed::Ready) => "ready",
            Self::Completed(Completed::Partial) => "partial",
            Self::Completed(Completed::Undecided) => "undecided",
            Self::Rejected(Rejected::Refused) => "refused",
            Self::Rejected(Rejected::Attempts) => "attempts",
            Self::Rejected(Rejected::Deadline) => "deadline",
            Self::Rejected(Rejected::Cancelled) => "cancelled",
            Self::Rejected(Rejected::NotDurable) => "not_durable",
            Self::Rejected(Rejected::Unavailable) => "unavailable",
            Self::Failed => "reported",
            Self::Unresolved(Unresolved::Ambiguous) => "ambiguous",
            Self::Unresolved(Unresolved::Attempts) => "attempts",
            Self::Unresolved(Unresolved::Deadline) => "deadline",
            Self::Unresolved(Unresolved::Refused) => "refused",
            Self::Unresolved(Unresolved::KeyWindow) => "key_window",
            Self::Unresolved(Unresolved::Replayed) => "replayed",
            Self::Unresolved(Unresolved::Lookup) => "lookup",
            Self::Unresolved(Unresolved::Polls) => "polls",
            Self::Unresolved(Unresolved::PollDeadline) => "poll_deadline",
            Self::Unresolved(Unresolved::PollRefused) => "poll_refused",
            Self::Unresolved(Unresolved::NotFound) => "not_found",
            Self::Unresolved(Unresolved::Cancelled) => "cancelled",
        }
    }

    /// One sentence for a person: what happened and what to do.
    #[must_use]
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Completed(Completed::Ready) => "the provider gave its final answer",
            Self::Completed(Completed::Partial) => "the provider gave a partial result, and the policy accepts it",
            Self::Completed(Completed::Undecided) => "the job ended at the provider without a decision",
            Self::Failed => "the job ran, and the provider reports that it failed",
            Self::Rejected(why) => why.explain(),
            Self::Unresolved(why) => why.explain(),
        }
    }
}

/// What kind of final answer there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Completed {
    /// All of it.
    Ready,
    /// A part, which the policy accepts.
    Partial,
    /// It ended without a decision: abandoned, expired.
    Undecided,
}

/// Why nothing ran. Submitting the same key again is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Rejected {
    /// The provider refused the request.
    Refused,
    /// All attempts failed before anything ran.
    Attempts,
    /// The deadline came before anything ran.
    Deadline,
    /// Cancelled before anything was sent.
    Cancelled,
    /// The intent could not be made durable, so nothing was sent.
    NotDurable,
    /// The provider was known to be ill, and the gate's policy is to refuse rather than to wait.
    Unavailable,
}

impl Rejected {
    const fn explain(self) -> &'static str {
        match self {
            Self::Refused => "the provider refused the request, and nothing ran: correct it and submit again",
            Self::Attempts => "every attempt failed before anything ran: submit again later",
            Self::Deadline => "the deadline came before anything ran: submit again later",
            Self::Cancelled => "cancelled before anything was sent",
            Self::Unavailable => "the provider is not answering, so nothing was sent: submit again later",
            Self::NotDurable => {
                "the journal could not be written, so nothing was sent: see to its disk, permissions and free space, and submit again"
            }
        }
    }
}

/// Why the end is not known. The key must not be replaced by a new one: the job may have run.
///
/// An engine forgets such a key like any other, after [`Limits::remember_for`](crate::engine::Limits::remember_for),
/// and then takes it for a new one. A journal keeps it until a person knows the outcome; a driver that has a journal
/// asks it before each [submit](crate::Engine::submit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Unresolved {
    /// A create may have run, and this provider would run a repeat again.
    Ambiguous,
    /// A create may have run; all further attempts failed.
    Attempts,
    /// A create may have run; the deadline came before a usable answer.
    Deadline,
    /// A create may have run; a later attempt was refused, which says nothing of the first.
    Refused,
    /// A create may have run; the provider may by now have forgotten the key.
    KeyWindow,
    /// A create may have run; the provider has stored its failure under the key, and gives that same answer to every
    /// repeat.
    Replayed,
    /// A create may have run; asking the provider for it gave no answer.
    Lookup,
    /// The job was accepted; its polls are spent and it was still pending.
    Polls,
    /// The job was accepted; it was not done by the poll deadline.
    PollDeadline,
    /// The job was accepted; the provider refuses to report on it.
    PollRefused,
    /// The job was accepted; now the provider says that there is no such job.
    NotFound,
    /// Cancelled when it may already have run.
    Cancelled,
}

impl Unresolved {
    const fn explain(self) -> &'static str {
        match self {
            Self::Ambiguous => {
                "the job may have run, and this provider would run a repeat again: ask the provider, do not resubmit"
            }
            Self::Attempts => "the job may have run, and no attempt got a usable answer: ask the provider",
            Self::Deadline => "the job may have run, and the deadline came first: ask the provider",
            Self::Refused => "an attempt may have run before the provider refused another: ask the provider",
            Self::KeyWindow => "the job may have run, and its key is too old to be sent again: ask the provider",
            Self::Replayed => {
                "the job may have run, and the provider answers its key with the same stored failure each time: ask the provider"
            }
            Self::Lookup => "the job may have run, and looking it up gave no answer: ask the provider",
            Self::Polls => "the job was accepted and still pending after the last poll: resume by its reference",
            Self::PollDeadline => "the job was accepted and not done by the poll deadline: resume by its reference",
            Self::PollRefused => "the job was accepted, but the provider refuses to tell of it: check the credentials",
            Self::NotFound => "the job was accepted, but the provider no longer knows it: ask the provider",
            Self::Cancelled => "cancelled when the job may already have run: it is not watched any more",
        }
    }
}
