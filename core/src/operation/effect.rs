//! What the driver must now do (output).

use crate::time::Timestamp;

/// Something to do. Popped from [`Operation::pop_effect`](super::Operation::pop_effect) until there is nothing left.
///
/// Effects are small handles, never payloads: the driver looks keys and references up when it needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Effect {
    /// The answer to this attempt, and to all before it, no longer matters: stop the request if it still runs.
    Abandon(AttemptId),
    /// Make the operation's record durable under this number, then feed
    /// [`Persisted`](super::Event::Persisted) or [`PersistFailed`](super::Event::PersistFailed).
    Persist(RecordId),
    /// Send this request, then feed [`Answered`](super::Event::Answered), or [`Unsent`](super::Event::Unsent) if it
    /// has certainly not left: the operation then offers it again at once. A driver that can carry only *n* requests
    /// at a time gives the gate a [bulkhead](crate::bulkhead) of *n*, and is never asked for more.
    Send(Attempt),
    /// The operation has ended and its outcome is durable: tell those who wait, then feed
    /// [`Delivered`](super::Event::Delivered).
    End,
}

/// One request to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Attempt {
    /// Its identity within the operation; the answer must carry it.
    pub id: AttemptId,
    /// What to ask.
    pub kind: Kind,
    /// The number of this attempt among those of its kind, from 1. Creates are counted across restarts, since their
    /// number is limited; polls and look-ups since the polling or the looking up began, anew after a restart or a resume.
    pub number: u16,
    /// When the operation stops waiting for its answer.
    pub until: Timestamp,
}

impl Attempt {
    /// An attempt made by hand, to test a transport or an observer. Real ones come from
    /// [`Operation::pop_effect`](super::Operation::pop_effect).
    ///
    /// ```
    /// use steadfast_core::operation::{Attempt, AttemptId};
    /// use steadfast_core::{Kind, Timestamp};
    ///
    /// let second_poll = Attempt::new(AttemptId(3), Kind::Poll, 2, Timestamp::from_secs(1_700_000_030));
    /// assert_eq!((second_poll.number, second_poll.kind), (2, Kind::Poll));
    /// ```
    #[must_use]
    pub const fn new(id: AttemptId, kind: Kind, number: u16, until: Timestamp) -> Self {
        Self { id, kind, number, until }
    }
}

/// What a request asks of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Kind {
    /// Run the job.
    Create,
    /// Is there a job of this key?
    Lookup,
    /// Is the job done?
    Poll,
}

impl Kind {
    /// `create`, `lookup` or `poll`: for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Lookup => "lookup",
            Self::Poll => "poll",
        }
    }
}

/// Numbers the requests of one operation, from 1, over all kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
#[expect(clippy::exhaustive_structs, reason = "a number, and drivers make them")]
pub struct AttemptId(pub u32);

/// The number of a record, from 1. Cumulative: the acknowledgement of one covers all with a lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
#[expect(clippy::exhaustive_structs, reason = "a number, and drivers make them")]
pub struct RecordId(pub u64);
