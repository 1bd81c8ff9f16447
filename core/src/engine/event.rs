//! What happens to an engine (input).

use super::OperationId;
use crate::operation::{AttemptId, Kind, Reading, RecordId};
use crate::rate_limit::Quota;
use crate::retry::Failure;

/// Something that happened. Fed to [`Engine::handle`](super::Engine::handle).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Event {
    /// The record of this number, and all popped before it, are durable.
    Persisted(RecordId),
    /// The record of this number, and all popped before it that were not yet acknowledged, could not be made durable:
    /// certainly none of them is there, now or after a restart. A job of which nothing was durable before ends as
    /// *rejected*, and its key is free. So if nobody knows whether they are there (a flush that failed, say), feed
    /// nothing: append the same again, and nothing after them, until that has worked; or open the store anew and look.
    /// Nothing that depends on them leaves meanwhile. Where that will never be known, feed
    /// [`PersistUnknown`](Event::PersistUnknown).
    PersistFailed(RecordId),
    /// Nobody knows whether the record of this number, and all popped before it that were not yet acknowledged, are
    /// durable, and nobody will find out here: the store is lost, say, or the driver stops. A job of which nothing was
    /// durable before is forgotten, without an outcome: nothing of it was sent, and if its record is there after all,
    /// whoever opens the store next goes on with it. It names no operation any more, so tell whoever submitted it
    /// before. All others ask for their latest record again, as after [`PersistFailed`](Event::PersistFailed).
    PersistUnknown(RecordId),
    /// The request of this attempt was answered, or failed.
    Answered(OperationId, AttemptId, Result<Reading, Failure>),
    /// The request of this attempt has not left, and is owed again. See
    /// [`operation::Event::Unsent`](crate::operation::Event::Unsent).
    Unsent(OperationId, AttemptId),
    /// The provider told of this job by itself. Which one it means is for the driver to know: by the
    /// [key](super::Engine::find), or by the [reference](crate::operation::Operation::reference), which an operation
    /// has from the moment that it was fed. What names a reference that none has may have come before the create's
    /// answer: keep it for a while, and feed it when that reference comes.
    Webhook(OperationId, Reading),
    /// The provider told by itself that this job has changed, and not how. See
    /// [`operation::Event::Changed`](crate::operation::Event::Changed).
    Changed(OperationId),
    /// The caller no longer wants this job.
    Cancel(OperationId),
    /// The outcome has reached whoever waits for it.
    Delivered(OperationId),
    /// Somebody wants to know of an unresolved job after all. See
    /// [`Operation::can_resume`](crate::operation::Operation::can_resume).
    Resume(OperationId),
    /// With an answer to a request of this kind, the provider told of its own rate limit. Feed it after the answer.
    Quota(Kind, Quota),
}
