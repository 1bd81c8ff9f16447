//! What happens to an operation (input), and what a provider's answer means.

use alloc::boxed::Box;
use core::time::Duration;

use super::{AttemptId, RecordId};
use crate::key::Reference;
use crate::retry::Failure;

/// Something that happened. Fed to [`Operation::handle`](super::Operation::handle).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Event {
    /// The record of this number, and all before it, is durable.
    Persisted(RecordId),
    /// The record of this number could not be made durable: it is certainly not on disk, now or after a restart. If
    /// nobody knows, feed nothing, and append the same record again: see
    /// [`engine::Event::PersistFailed`](crate::engine::Event::PersistFailed).
    PersistFailed(RecordId),
    /// The request of this attempt was answered, or failed.
    Answered(AttemptId, Result<Reading, Failure>),
    /// The request of this attempt has certainly not left: its sender has given it back. The operation offers it
    /// again, as it was before it was popped, within the same time. (But if it is a repeat whose key the provider may
    /// have forgotten by then, the job ends as unresolved.) A cancel or a time-out that is fed next therefore finds
    /// that nothing of this attempt ran. It counts as an attempt all the same, and in a record as one that may have
    /// left. The gate learns nothing from it; what a create took of a rate limit or the retry budget stays taken.
    Unsent(AttemptId),
    /// The provider reported on the job by itself.
    Webhook(Reading),
    /// The provider said by itself that something about the job has changed, but not what. An accepted job's next poll
    /// is due now, through the gate; one that is in the air may have been answered before the change, so another
    /// follows it at once. Such a poll is not counted by the schedule (unless it is the first of all), which goes on
    /// as if nothing had been told. A job that waits after a failed poll goes on waiting.
    Changed,
    /// The caller no longer wants the job.
    Cancel,
    /// The outcome has reached those who wait for it.
    Delivered,
    /// Polls again an unresolved job that the provider is known to have, since somebody wants to know after all. See
    /// [`Operation::can_resume`](super::Operation::can_resume).
    Resume,
}

/// What a provider's answer means. Made by a provider's profile from status, headers and body; the core sees no bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Reading {
    /// The job exists under this reference (answer to a create or a look-up).
    Accepted(Reference),
    /// The job is under way; perhaps with a hint when to ask again.
    Pending {
        /// The provider's `Retry-After`.
        hint: Option<Duration>,
    },
    /// The job is under way, and so much of it is done. Treated as pending.
    Progress {
        /// How many of its parts are done.
        done: u32,
        /// Of how many.
        total: u32,
        /// The provider's `Retry-After`.
        hint: Option<Duration>,
    },
    /// The job waits for a person: its user or a reviewer.
    AwaitingPerson {
        /// The provider's `Retry-After`.
        hint: Option<Duration>,
    },
    /// There is a result, but not all of it yet.
    Partial,
    /// The final answer is here. Whatever it says of the business, the job is done.
    Ready,
    /// The job ended without a decision: abandoned, expired.
    Undecided,
    /// The provider ran the job and reports that it failed.
    Failed,
    /// The provider knows no such job.
    NotFound,
    /// A status that the profile does not know, kept as text: treated as pending.
    Unknown(Box<str>),
}
