//! The harness's own books: what is in the air or lost, and what is counted.

use steadfast_core::operation::{Attempt, AttemptId, RecordId};
use steadfast_core::{Kind, Outcome, Timestamp};

/// A request in the air.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Flight {
    pub(super) attempt: Attempt,
    pub(super) sent: Timestamp,
    pub(super) carried_out: bool,
}

#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Lost {
    pub(super) id: AttemptId,
    pub(super) kind: Kind,
    pub(super) carried_out: bool,
    /// A create can be carried out before then.
    pub(super) lands_before: Timestamp,
    /// Whether its process lives, so that its answer would be heard.
    pub(super) heard: bool,
}

/// What is counted to be compared with the limits.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(super) struct Books {
    pub(super) creates: u16,
    /// Pending answers to polls since the last restart.
    pub(super) pending: u16,
    /// Look-ups since the last create or restart.
    pub(super) lookups: u16,
    /// Whether a create was refused for good, in this process or on disk.
    pub(super) refused: Refusal,
    /// The end was told in this process, and is on its way to the caller.
    pub(super) to_deliver: bool,
    /// When the caller submitted the job.
    pub(super) submitted: Timestamp,
    pub(super) resumed: Option<Resumption>,
    /// When it was resumed, if this process has polled it since then.
    pub(super) polls_began: Option<Timestamp>,
    /// The provider asked for no request before then.
    pub(super) not_before: Timestamp,
    /// And for none of this kind before then.
    pub(super) busy: Option<(Kind, Timestamp)>,
}

/// An outcome that was not the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Resumption {
    pub(super) from: Outcome,
    /// The first record that tells of it.
    pub(super) record: RecordId,
    pub(super) durable: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Refusal {
    #[default]
    No,
    Heard,
    Durable,
}

impl Lost {
    pub(super) fn may_land(&self, now: Timestamp) -> bool {
        self.kind == Kind::Create && !self.carried_out && now < self.lands_before
    }
}
