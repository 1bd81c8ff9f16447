//! May a request leave now?
//!
//! A request asks one thing for leave to go: the [`Gate`] of its upstream. It answers at once, with a [`Permit`] or with a [`Refusal`] that
//! says until when and why. Whoever got a permit settles it when the request is answered, times out or is abandoned, so the gate always
//! knows how many are in the air.
//!
//! ```text
//! admit(now, kind) → Ok(permit) → … → settle(permit, how, now)
//!                  → Err(refusal { until, why }): ask again then
//! ```
//!
//! A gate can be held: [`Gate::hold_until`] lets nothing leave before a given time, for a maintenance window or an operator's stop.
//! Waiting at a gate counts against the operation's deadline; a refusal costs no attempt.
//!
//! Invariant: after all requests end, [`Gate::in_flight`] is 0 (I8).

use crate::operation::Kind;
use crate::retry::Class;
use crate::time::Timestamp;

/// Leave for one request. Plain data, so that it can be stored with the state of what holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[must_use = "a permit that is never settled counts as a request in flight for ever"]
pub struct Permit {
    kind: Kind,
}

impl Permit {
    /// What it was given for.
    #[must_use]
    pub const fn kind(self) -> Kind {
        self.kind
    }
}

/// Not now: ask again at `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// When asking again makes sense; later than the `now` of the question.
    pub until: Timestamp,
    /// What stood in the way.
    pub why: Blocked,
}

/// What stands in the way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Blocked {
    /// The gate is held by [`Gate::hold_until`].
    Held,
}

/// How a request with a permit ended: what the gate learns from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// The provider gave a usable answer.
    Answered,
    /// It failed.
    Failed(Class),
    /// It never left, or its answer no longer matters.
    Abandoned,
}

/// Leave to send to one upstream.
///
/// ```
/// use steadfast_core::gate::{Gate, Settled};
/// use steadfast_core::{Kind, Timestamp};
///
/// let (now, noon) = (Timestamp::from_secs(100), Timestamp::from_secs(200));
/// let mut gate = Gate::new();
/// let permit = gate.admit(Kind::Create, now).expect("nothing is in the way");
/// assert_eq!(gate.in_flight(), 1);
/// gate.settle(permit, Settled::Answered, now);
/// assert_eq!(gate.in_flight(), 0);
///
/// gate.hold_until(noon);
/// assert_eq!(gate.admit(Kind::Create, now).unwrap_err().until, noon);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Gate {
    in_flight: u32,
    held_until: Timestamp,
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub const fn new() -> Self {
        Self { in_flight: 0, held_until: Timestamp::EPOCH }
    }

    /// Leave for one request of this kind, or until when there is none.
    ///
    /// # Errors
    /// A [`Refusal`] that says when to ask again.
    #[cfg_attr(feature = "no-panic", no_panic::no_panic)]
    pub fn admit(&mut self, kind: Kind, now: Timestamp) -> Result<Permit, Refusal> {
        if now < self.held_until {
            return Err(Refusal { until: self.held_until, why: Blocked::Held });
        }
        self.in_flight = self.in_flight.saturating_add(1);
        Ok(Permit { kind })
    }

    /// Gives a permit back, with what came of its request.
    #[cfg_attr(feature = "no-panic", no_panic::no_panic)]
    pub fn settle(&mut self, permit: Permit, how: Settled, now: Timestamp) {
        // What the machines behind the gate will learn from; today's gate only counts.
        let _ = (permit, how, now);
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Lets nothing leave before `until`. An earlier time than an earlier call's shortens the hold; [`Timestamp::EPOCH`] ends it for
    /// requests that ask from now on.
    pub const fn hold_until(&mut self, until: Timestamp) {
        self.held_until = until;
    }

    /// Requests that have leave and have not been settled.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }
}
