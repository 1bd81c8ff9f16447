//! What must be on disk about an operation.

use super::Outcome;
use crate::key::{Fingerprint, Key, Reference};
use crate::time::Timestamp;

/// All that a restart needs to know of one operation. Cumulative: the latest record of a key tells all that its
/// predecessors told.
///
/// It holds no payload and no result; a driver that wants them durable stores them in the same commit. A payload need
/// only go with the first: if that one fails, no create follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Record {
    /// The job's name.
    pub key: Key,
    /// The payload's hash.
    pub fingerprint: Fingerprint,
    /// How far it has come.
    pub stage: Stage,
    /// The provider's name for it, once known.
    pub reference: Option<Reference>,
    /// When it was submitted.
    pub submitted: Timestamp,
    /// When its first create attempt was about to leave: a provider's key window counts from here.
    pub first_sent: Option<Timestamp>,
    /// When what is waited for is due; of a create in flight, until when it may take, counted from when this was asked
    /// for.
    pub due: Option<Timestamp>,
    /// Create attempts begun.
    pub creates: u16,
    /// Requests of all kinds begun.
    pub attempts: u32,
    /// Polls answered with *pending*, less one for each poll that a webhook brought forward, which takes none of the
    /// schedule's.
    pub polls: u16,
    /// The provider said no to a create for good, and that it did not run is not certain: told of [`Stage::Unknown`]
    /// only.
    pub refused: bool,
}

/// How far an operation has come, as it stands on disk.
///
/// ```text
/// Planned → InFlight → Accepted → Ended → Delivered
///    ↑         ↓ ↑        ↑         ↑         │
///    └─────────┤ └─ Unknown ────────┤         │
///              └────────────────────┘         │
///                         └──── resumed ──────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Stage {
    /// Nothing may have run: no create was sent yet, or each that was certainly did not run.
    Planned,
    /// A create attempt is about to leave or has left.
    InFlight,
    /// A create may have run; none is in flight.
    Unknown,
    /// The provider has the job.
    Accepted,
    /// It has ended so; the outcome may not have reached anybody yet.
    Ended(Outcome),
    /// It has ended so, and the outcome was delivered.
    Delivered(Outcome),
}
