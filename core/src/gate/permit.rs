//! Permission for one request, and how it is given back.

use core::time::Duration;

use crate::breaker::Ticket;
use crate::budget::Charge;
use crate::operation::Kind;
use crate::retry::Failure;
use crate::time::{Stopwatch, Timestamp};

/// Permission for one request to leave. Plain data, so that it can be stored with the state of what holds it; 12
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[must_use = "a permit that is never settled counts as a request in flight for ever"]
pub struct Permit {
    epoch: u32,
    began: Stopwatch,
    place: u8,
    lease: u8,
    /// What the retry budget was charged; 0 for a first attempt.
    charge: u8,
    kind: Kind,
}

impl Permit {
    pub(super) const fn new(kind: Kind, ticket: Ticket, charge: Option<Charge>, now: Timestamp) -> Self {
        let (epoch, place, lease) = ticket.parts();
        let began = Stopwatch::start(now);
        let charge = match charge {
            Some(charge) => charge.tokens(),
            None => 0,
        };
        Self { epoch, began, place, lease, charge, kind }
    }

    /// The kind of request it was given for.
    #[must_use]
    pub const fn kind(self) -> Kind {
        self.kind
    }

    /// Whether it is a half-open breaker's probe.
    #[must_use]
    pub const fn is_probe(self) -> bool {
        self.place > 0
    }

    /// The permit for a request that leaves only now: time spent waiting since the permit was given does not make it
    /// slow.
    pub const fn begun(mut self, now: Timestamp) -> Self {
        self.began = Stopwatch::start(now);
        self
    }

    pub(super) const fn ticket(self) -> Ticket {
        Ticket::of_parts(self.epoch, self.began, self.place, self.lease)
    }

    pub(super) const fn charge(self) -> Option<Charge> {
        Charge::of(self.charge)
    }

    pub(crate) const fn elapsed(self, now: Timestamp) -> Duration {
        self.began.elapsed(now)
    }
}

/// How a request with a permit ended: what the gate learns from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Settled {
    /// The provider gave a usable answer.
    Answered,
    /// It failed.
    Failed(Failure),
    /// It left, and how it ends no longer matters.
    Abandoned,
    /// It never left: what it took is given back.
    Unsent,
}
