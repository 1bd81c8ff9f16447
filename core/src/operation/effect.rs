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
    /// Send this request, then feed [`Answered`](super::Event::Answered); or [`Unsent`](super::Event::Unsent), if it has certainly not left. It is owed
    /// again at once then: a driver that can carry only so many gives the gate a [bulkhead](crate::bulkhead) of as many, and is never asked for more.
    Send(Attempt),
    /// The operation has ended and its outcome is durable: tell whoever waits, then feed
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
    /// Which attempt of its kind this is, from 1. Creates count across restarts, since they are limited; polls and look-ups since the last one.
    pub number: u16,
    /// When its answer stops being waited for.
    pub until: Timestamp,
}

impl Attempt {
    /// One to try a transport or an observer with. Those that count come from [`Operation::pop_effect`](super::Operation::pop_effect).
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

/// Numbers records, from 1. Cumulative: the acknowledgement of one covers all with a lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
#[expect(clippy::exhaustive_structs, reason = "a number, and drivers make them")]
pub struct RecordId(pub u64);
