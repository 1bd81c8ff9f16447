//! How many requests may be in the air at once?
//!
//! A [`Bulkhead`] bounds them, so that a slow upstream ties up no more than a part of what we have, and is not buried
//! under what it cannot take. The limit is fixed, or finds itself by *AIMD*: good ends while the limit is in use raise
//! it a little (by one in a whole round of requests), a sign of overload cuts it at once, and once only for all
//! requests that were under way at the time.
//!
//! A request that does not get in asks again when another has ended. A [gate](crate::gate) asks the bulkhead beside
//! its other machines, and an [engine](crate::engine) keeps the line of operations that wait there.
//!
//! Invariants, each a property test: what is in the air never exceeds the limit at the time of admission; after all
//! have ended it is 0 (I8).
//!
//! ```
//! use steadfast_core::Timestamp;
//! use steadfast_core::bulkhead::{Bulkhead, BulkheadPolicy, Load};
//!
//! let policy = BulkheadPolicy::fixed(1)?;
//! let mut bulkhead = Bulkhead::new(&policy);
//! let now = Timestamp::from_secs(1_700_000_000);
//! assert!(bulkhead.admit(&policy).is_ok());
//! assert!(bulkhead.admit(&policy).is_err()); // no room
//! bulkhead.settle(&policy, Load::Bearable, now, now); // the first request ends
//! assert!(bulkhead.admit(&policy).is_ok());
//! # Ok::<(), steadfast_core::PolicyError>(())
//! ```

use core::num::NonZeroU32;

use crate::policy::PolicyError;
use crate::time::Timestamp;

/// How many requests may be in the air.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "Unchecked"))]
pub struct BulkheadPolicy {
    initial: NonZeroU32,
    least: NonZeroU32,
    most: NonZeroU32,
    /// What is left of the limit after a sign of overload.
    percent: u8,
}

impl BulkheadPolicy {
    /// Always this many.
    ///
    /// # Errors
    /// The limit is zero. To let nothing through, hold the gate instead.
    pub fn fixed(limit: u32) -> Result<Self, PolicyError> {
        Self::adaptive(limit, limit, limit)
    }

    /// From `least` to `most`, `initial` at first; halved by overload (TCP's and Envoy's choice;
    /// [`with_decrease`](BulkheadPolicy::with_decrease)).
    ///
    /// # Errors
    /// A least of zero, or three numbers that are not in order.
    pub fn adaptive(least: u32, initial: u32, most: u32) -> Result<Self, PolicyError> {
        let (Some(least), Some(initial), Some(most)) =
            (NonZeroU32::new(least), NonZeroU32::new(initial), NonZeroU32::new(most))
        else {
            let field = match (initial, least) {
                (0, _) => "bulkhead.initial",
                (_, 0) => "bulkhead.least",
                _ => "bulkhead.most",
            };
            return Err(PolicyError::new(field, 0, "at least 1, or nothing ever leaves"));
        };
        if least > initial || initial > most {
            let expected = alloc::format!("from the least, {least}, to the most, {most}");
            return Err(PolicyError::new("bulkhead.initial", initial, expected));
        }
        Ok(Self { initial, least, most, percent: 50 })
    }

    /// Sets the share of the limit that is kept after a sign of overload.
    ///
    /// # Errors
    /// A share that is not 1 to 99 percent.
    pub fn with_decrease(mut self, percent: u8) -> Result<Self, PolicyError> {
        if !(1..=99).contains(&percent) {
            return Err(PolicyError::new("bulkhead.percent", percent, "from 1 to 99 percent"));
        }
        self.percent = percent;
        Ok(self)
    }

    /// Lowers the limits to at most `most`: what the caller's threads or connections can carry.
    #[must_use]
    pub fn at_most(mut self, most: NonZeroU32) -> Self {
        self.least = self.least.min(most);
        self.initial = self.initial.min(most);
        self.most = self.most.min(most);
        self
    }

    /// The limit at first.
    #[must_use]
    pub const fn initial(&self) -> u32 {
        self.initial.get()
    }

    /// The least and the most the limit may become.
    #[must_use]
    pub const fn bounds(&self) -> (u32, u32) {
        (self.least.get(), self.most.get())
    }

    const fn is_fixed(&self) -> bool {
        self.least.get() == self.most.get()
    }
}

impl Default for BulkheadPolicy {
    /// 100, fixed: the connections that one HTTP client keeps well, and as many as a provider of jobs sees from a
    /// good-sized customer.
    fn default() -> Self {
        const HUNDRED: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
        Self { initial: HUNDRED, least: HUNDRED, most: HUNDRED, percent: 50 }
    }
}

/// What the end of a request says of the upstream's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "it bears the load, it does not, or nobody can tell")]
pub enum Load {
    /// It answered in time.
    Bearable,
    /// It asked for a slower pace, did not answer in time, or failed.
    TooMuch,
    /// The request was cancelled or never left.
    Unknown,
}

/// The bulkhead is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("as many requests are in the air as the bulkhead allows: wait for one to end")]
#[non_exhaustive]
pub struct Full;

/// Bounds how many requests are in the air. See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Bulkhead {
    in_flight: u32,
    /// In thousandths, so that it can grow by less than one.
    limit: u64,
    /// When the limit was last cut.
    cut: Timestamp,
}

const THOUSAND: u64 = 1_000;

impl Bulkhead {
    /// An empty bulkhead.
    #[must_use]
    pub const fn new(policy: &BulkheadPolicy) -> Self {
        let limit = (policy.initial() as u64).saturating_mul(THOUSAND);
        Self { in_flight: 0, limit, cut: Timestamp::EPOCH }
    }

    /// The same with `in_flight` requests in the air.
    pub(crate) const fn holding(mut self, in_flight: u32) -> Self {
        self.in_flight = in_flight;
        self
    }

    /// Asks whether one request may leave.
    ///
    /// # Errors
    /// There is no room.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn admit(&mut self, policy: &BulkheadPolicy) -> Result<(), Full> {
        self.check(policy)?;
        self.in_flight = self.in_flight.saturating_add(1);
        Ok(())
    }

    /// What [`admit`](Bulkhead::admit) would say; nothing changes.
    ///
    /// # Errors
    /// As [`admit`](Bulkhead::admit).
    pub fn check(&self, policy: &BulkheadPolicy) -> Result<(), Full> {
        if self.in_flight < self.limit(policy) { Ok(()) } else { Err(Full) }
    }

    /// Records that a request that was let in at `since` has ended. Once for each that was let in.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn settle(&mut self, policy: &BulkheadPolicy, load: Load, since: Timestamp, now: Timestamp) {
        let in_flight = self.in_flight;
        self.in_flight = in_flight.saturating_sub(1);
        if policy.is_fixed() {
            return;
        }
        let used = u64::from(in_flight).saturating_mul(2) >= u64::from(self.limit(policy));
        match load {
            // A limit that nobody comes near is no proof that more would be borne.
            Load::Bearable if used => {
                let step = (THOUSAND * THOUSAND).checked_div(self.limit).unwrap_or(THOUSAND);
                self.limit = self.limit.saturating_add(step.max(1));
            }
            Load::TooMuch if since > self.cut => {
                self.limit = self.limit.saturating_mul(policy.percent.into()) / 100;
                self.cut = now;
            }
            Load::Bearable | Load::TooMuch | Load::Unknown => {}
        }
        let thousandths = |limit: NonZeroU32| u64::from(limit.get()).saturating_mul(THOUSAND);
        self.limit = self.limit.max(thousandths(policy.least)).min(thousandths(policy.most));
    }

    /// How many may be in the air now.
    #[must_use]
    pub fn limit(&self, policy: &BulkheadPolicy) -> u32 {
        let limit = u32::try_from(self.limit / THOUSAND).unwrap_or(u32::MAX);
        // The bounds may have been changed since.
        limit.max(policy.least.get()).min(policy.most.get())
    }

    /// How many are in the air.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }
}

/// A policy as written in a file, before it has been checked: `{"initial": 50}` or `{"least": 5, "initial": 20,
/// "most": 200}`.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    initial: u32,
    least: Option<u32>,
    most: Option<u32>,
    percent: Option<u8>,
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for BulkheadPolicy {
    type Error = PolicyError;

    fn try_from(it: Unchecked) -> Result<Self, PolicyError> {
        let policy = Self::adaptive(it.least.unwrap_or(it.initial), it.initial, it.most.unwrap_or(it.initial))?;
        if let Some(percent) = it.percent { policy.with_decrease(percent) } else { Ok(policy) }
    }
}
