//! What a provider says of a job after it has ended: a decision that was reopened, reversed, or lapsed.
//!
//! An outcome is told once and never rewritten. What comes later is a [`Revision`], for whoever asked to hear of them
//! (a client's `revisions`). It comes by webhooks alone, since nobody polls a job that has ended.

use steadfast_core::{Key, Reference, Timestamp};

/// How many revisions wait for a slow subscriber before the oldest are dropped: 1,024.
pub const REVISIONS: usize = 1_024;

/// A later word of the provider on a job that has ended. The outcome stays as it was told.
///
/// It says that the status changed, and to what. For the whole decision, ask the provider by the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revision {
    /// The caller's name for the job. `None` if the store alone might know it, and was not asked.
    pub key: Option<Key>,
    /// The provider's name for the job.
    pub reference: Reference,
    /// 1 for the first after the outcome, 2 for the next, and so on. Counted from 1 again after a restart.
    pub revision: u32,
    /// The provider's word for how the job stands now: `Resubmitted`, `Kyc Expired`.
    pub status: Box<str>,
    /// When the provider says that this came about.
    pub at: Timestamp,
}

/// Why there is no revision to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevisionError {
    /// The subscriber was too slow, and this many were dropped; the next call goes on with those that are left.
    #[error(
        "{0} revisions were dropped, since they were not read fast enough: ask the provider about the jobs concerned"
    )]
    Missed(u64),
    /// The client has stopped, and all was told.
    #[error("the client has stopped: no more revisions will come")]
    Stopped,
}

/// Where revisions go: an adapter's subscribers.
pub trait Subscribers: Send {
    /// Whether there is anybody.
    fn are_there(&self) -> bool;

    /// Tells them all. Must not block: a subscriber that is too slow misses it.
    fn tell(&self, revision: Revision);
}
