//! How fast may requests leave?
//!
//! A [`RateLimiter`] spaces requests so that no more than a [`RatePolicy`] allows leave in any span of time. It is GCRA
//! (the generic cell rate algorithm of ATM networks, as in governor and redis-cell): its whole state is one number, the
//! time at which the next request would be due if all had kept the pace. So it needs no timer, no refill and no clock
//! of its own, and "when may I?" has an exact answer.
//!
//! ```text
//!  every = per / count
//!  a request may leave at t  ⟺  due ≤ t + every × (burst − 1)      then  due ← max(due, t) + every
//! ```
//!
//! [`try_acquire`](RateLimiter::try_acquire) takes a place now or says when; [`reserve`](RateLimiter::reserve) takes
//! the next free place, however late, in the order of asking; [`cancel`](RateLimiter::cancel) gives a reserved place
//! back. Several limits at once are asked by [`try_acquire_all`]: all of them or none.
//!
//! What a provider says of its own count is a [`Quota`]; an [`Allowance`] keeps to it beside the limiter.
//!
//! What is paced is the moment at which a request is let go. If something lies between that and the wire (a commit,
//! say), requests that were let go meanwhile may leave closer together.
//!
//! Invariants, each a property test: in any span of time no more leave than the pace allows plus the burst (I10, R25);
//! a wait that is told is exact to the nanosecond (R26); a place given back returns at most what it took (R27); time
//! that runs backwards admits nothing more (I11).
//!
//! ```
//! use core::time::Duration;
//! use steadfast_core::Timestamp;
//! use steadfast_core::rate_limit::{RateLimiter, RatePolicy};
//!
//! let policy = RatePolicy::new(600, Duration::from_secs(60))?; // one each 100 ms
//! let mut limiter = RateLimiter::new();
//! let now = Timestamp::from_secs(1_700_000_000);
//! assert_eq!(limiter.try_acquire(&policy, now), Ok(()));
//! assert_eq!(limiter.try_acquire(&policy, now), Err(now.saturating_add(Duration::from_millis(100))));
//! # Ok::<(), steadfast_core::PolicyError>(())
//! ```

use core::num::NonZeroU32;
use core::time::Duration;

use crate::policy::PolicyError;
use crate::time::{Timestamp, nanos};

/// At most this many requests in this much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "Unchecked"))]
pub struct RatePolicy {
    count: NonZeroU32,
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
    per: Duration,
    burst: NonZeroU32,
    /// The spacing in nanoseconds, worked out once: a division costs more than all the rest.
    #[cfg_attr(feature = "serde", serde(skip))]
    every: u64,
}

impl RatePolicy {
    /// At most `count` requests in any span of `per`, evenly spaced.
    ///
    /// The spacing is `per / count`, rounded up to a whole nanosecond: never faster than said, slower by less than a
    /// nanosecond a request.
    ///
    /// # Errors
    /// A count of zero (hold the gate instead), a span of zero, or more than one request a nanosecond.
    pub fn new(count: u32, per: Duration) -> Result<Self, PolicyError> {
        let Some(count) = NonZeroU32::new(count) else {
            return Err(PolicyError::new("rate.count", count, "at least 1"));
        };
        if per < Duration::from_nanos(u64::from(count.get())) {
            let expected = alloc::format!("at least {count}ns: more than one request a nanosecond is no limit");
            return Err(PolicyError::new("rate.per", per, expected));
        }
        Ok(Self { count, per, burst: NonZeroU32::MIN, every: spacing(count, per) })
    }

    /// Sets how many requests may leave together after a quiet time. Default 1.
    ///
    /// A span of `per` may then see up to `count + burst − 1` of them: where the provider counts strictly, lower the
    /// count by as much.
    ///
    /// # Errors
    /// A burst of zero.
    pub fn with_burst(mut self, burst: u32) -> Result<Self, PolicyError> {
        self.burst =
            NonZeroU32::new(burst).ok_or_else(|| PolicyError::new("rate.burst", burst, "at least 1, which is none"))?;
        Ok(self)
    }

    /// How many requests.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count.get()
    }

    /// In how much time.
    #[must_use]
    pub const fn per(&self) -> Duration {
        self.per
    }

    /// How many may leave together.
    #[must_use]
    pub const fn burst(&self) -> u32 {
        self.burst.get()
    }

    /// This policy with `count` places of the burst set aside, for somebody else to hand out: see
    /// [`RateLimiter::give_back`].
    ///
    /// # Errors
    /// The burst that is left would be less than `least`.
    pub fn set_aside(self, count: u32, least: u32) -> Result<Self, PolicyError> {
        match self.burst.get().checked_sub(count) {
            Some(burst) if burst >= least => self.with_burst(burst),
            _ => {
                let (needed, burst) = (u64::from(count).saturating_add(least.into()), self.burst);
                let expected =
                    alloc::format!("at least {needed}: {count} are set aside, and {least} are to be had at once");
                Err(PolicyError::new("rate.burst", burst, expected))
            }
        }
    }

    /// The part of one of this many processes that share the limit: its part of the count and of the burst, both
    /// rounded down. So no span of a window sees more than the whole allows, whenever each of them begins; what does
    /// not divide stays unused.
    ///
    /// Of a count below the number of processes each lets the same count go in a span that is longer by as much: on
    /// average they keep to the limit, and together they may send one request each at once.
    ///
    /// ```
    /// use core::num::NonZeroU32;
    /// use core::time::Duration;
    /// use steadfast_core::rate_limit::RatePolicy;
    ///
    /// let account = RatePolicy::new(600, Duration::from_secs(60))?.with_burst(10)?;
    /// let part = account.divided_among(NonZeroU32::new(4).expect("it is not zero"));
    /// assert_eq!((part.count(), part.per().as_secs(), part.burst()), (150, 60, 2));
    /// # Ok::<(), steadfast_core::PolicyError>(())
    /// ```
    #[must_use]
    pub fn divided_among(self, replicas: NonZeroU32) -> Self {
        if replicas == NonZeroU32::MIN {
            return self;
        }
        let part_of = |whole: NonZeroU32| whole.get().checked_div(replicas.get()).and_then(NonZeroU32::new);
        let (count, per) = match part_of(self.count) {
            Some(part) => (part, self.per),
            None => (self.count, self.per.saturating_mul(replicas.get())),
        };
        Self { count, per, burst: part_of(self.burst).unwrap_or(NonZeroU32::MIN), every: spacing(count, per) }
    }

    /// The same with the count that a provider names, as far as [`RatePolicy::new`] would take it: what is stored must
    /// be read back.
    pub(crate) fn with_count(mut self, count: NonZeroU32) -> Self {
        let most = u32::try_from(nanos(self.per)).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        self.count = count.min(most);
        self.every = spacing(self.count, self.per);
        self
    }

    /// What a whole burst takes to become due again, in nanoseconds.
    const fn depth(&self) -> u64 {
        self.every.saturating_mul(self.burst.get() as u64)
    }
}

/// Rounded up, so never zero.
const fn spacing(count: NonZeroU32, per: Duration) -> u64 {
    nanos(per).div_ceil(count.get() as u64)
}

/// A place in the future that was taken by [`RateLimiter::reserve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[must_use = "a reserved place is spent whether it is used or not, unless it is cancelled in time"]
pub struct Reservation {
    at: Timestamp,
    count: u32,
    /// The limiter's state just after: what was promised to others since is what it has moved on.
    due: u64,
}

impl Reservation {
    /// When the requests may leave.
    #[must_use]
    pub const fn at(self) -> Timestamp {
        self.at
    }
}

/// Spaces requests; eight bytes. See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct RateLimiter {
    /// When the next request would be due at an even pace.
    due: u64,
}

impl RateLimiter {
    /// A limiter that has been quiet: a whole burst may leave.
    #[must_use]
    pub const fn new() -> Self {
        Self { due: 0 }
    }

    /// Its state as one word, and back ([`from_word`](RateLimiter::from_word)): so that threads can share it by
    /// compare-and-exchange.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.due
    }

    /// The limiter of this word.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self { due: word }
    }

    /// Takes a place for one request now.
    ///
    /// # Errors
    /// No place is free before the returned time. Nothing was taken.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    #[inline]
    pub fn try_acquire(&mut self, policy: &RatePolicy, now: Timestamp) -> Result<(), Timestamp> {
        self.try_acquire_many(policy, 1, now)
    }

    /// Takes places for this many requests now, all of them or none.
    ///
    /// # Errors
    /// There are not enough places before the returned time; [`Timestamp::NEVER`] if it asks for more than a burst.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    #[inline]
    pub fn try_acquire_many(&mut self, policy: &RatePolicy, count: u32, now: Timestamp) -> Result<(), Timestamp> {
        match self.after(policy, count, now) {
            Ok(due) => {
                self.due = due;
                Ok(())
            }
            Err(at) => Err(at),
        }
    }

    /// Takes all places that are free now, `most` at most, for a caller that hands them out to others. Returns how
    /// many.
    ///
    /// # Errors
    /// No place is free before the returned time. Nothing was taken.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn try_acquire_up_to(&mut self, policy: &RatePolicy, most: u32, now: Timestamp) -> Result<u32, Timestamp> {
        if most == 0 {
            return Ok(0);
        }
        let from = self.due.max(now.as_nanos());
        let room = now.as_nanos().saturating_add(policy.depth()).saturating_sub(from);
        let free = room.checked_div(policy.every).unwrap_or(0);
        let count = u32::try_from(free).unwrap_or(u32::MAX).min(most).max(1);
        self.try_acquire_many(policy, count, now)?;
        Ok(count)
    }

    /// Gives back places that were taken and not used, however long ago.
    ///
    /// They add to the places that have become free since, so the next burst may be larger than the policy says by as
    /// many. So this is for a caller that hands out places [set aside](RatePolicy::set_aside) from the burst.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn give_back(&mut self, policy: &RatePolicy, count: u32) {
        self.due = self.due.saturating_sub(policy.every.saturating_mul(count as u64));
    }

    /// What [`try_acquire`](RateLimiter::try_acquire) would say; nothing changes.
    ///
    /// # Errors
    /// As [`try_acquire`](RateLimiter::try_acquire).
    pub const fn check(&self, policy: &RatePolicy, now: Timestamp) -> Result<(), Timestamp> {
        match self.after(policy, 1, now) {
            Ok(_) => Ok(()),
            Err(at) => Err(at),
        }
    }

    /// Takes the next free places for this many requests, in the order of asking. `None` if they are more than a burst:
    /// they could never leave together.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn reserve(&mut self, policy: &RatePolicy, count: u32, now: Timestamp) -> Option<Reservation> {
        if count > policy.burst.get() {
            return None;
        }
        let from = if self.due > now.as_nanos() { self.due } else { now.as_nanos() };
        self.due = from.saturating_add(policy.every.saturating_mul(count as u64));
        let at = self.due.saturating_sub(policy.depth());
        let at = if at > now.as_nanos() { Timestamp::from_nanos(at) } else { now };
        Some(Reservation { at, count, due: self.due })
    }

    /// Gives reserved places back, as far as that is still fair: what was reserved after them keeps its time, and a
    /// place whose time has passed is gone. Cancel each reservation once: a second time would give back what others
    /// have taken.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn cancel(&mut self, policy: &RatePolicy, reservation: Reservation, now: Timestamp) {
        if now.as_nanos() > reservation.at.as_nanos() {
            return;
        }
        let taken = policy.every.saturating_mul(reservation.count as u64);
        let promised = self.due.saturating_sub(reservation.due);
        self.due = self.due.saturating_sub(taken.saturating_sub(promised));
    }

    /// The same for a place that was kept past its time and then not used. Only what is left of it is given back. What
    /// the time that has passed since would have brought is not: it would let a later burst be larger than allowed.
    ///
    /// ```
    /// use core::time::Duration;
    /// use steadfast_core::Timestamp;
    /// use steadfast_core::rate_limit::{RateLimiter, RatePolicy};
    ///
    /// let policy = RatePolicy::new(10, Duration::from_secs(1))?; // one each 100 ms
    /// let mut limiter = RateLimiter::new();
    /// let now = Timestamp::from_secs(1_700_000_000);
    /// let place = limiter.reserve(&policy, 1, now).unwrap();
    /// let later = now.saturating_add(Duration::from_millis(30));
    /// limiter.cancel_late(&policy, place, later);
    /// assert_eq!(limiter.try_acquire(&policy, later), Ok(())); // 70 ms before its time
    /// # Ok::<(), steadfast_core::PolicyError>(())
    /// ```
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn cancel_late(&mut self, policy: &RatePolicy, reservation: Reservation, now: Timestamp) {
        let taken = policy.every.saturating_mul(reservation.count as u64);
        let passed = nanos(now.saturating_since(reservation.at));
        let promised = self.due.saturating_sub(reservation.due);
        self.due = self.due.saturating_sub(taken.saturating_sub(passed).saturating_sub(promised));
    }

    /// Whether nothing that was reserved later keeps its time, so that a [cancel](RateLimiter::cancel) gives all back that
    /// is left of the place. If not, the place is lost, unless whoever shares the limiter keeps it for the next that
    /// asks.
    ///
    /// ```
    /// use core::time::Duration;
    /// use steadfast_core::Timestamp;
    /// use steadfast_core::rate_limit::{RateLimiter, RatePolicy};
    ///
    /// let policy = RatePolicy::new(10, Duration::from_secs(1))?;
    /// let mut limiter = RateLimiter::new();
    /// let now = Timestamp::from_secs(1_700_000_000);
    /// let [first, second] = [(); 2].map(|()| limiter.reserve(&policy, 1, now).unwrap());
    /// assert!(limiter.is_last(second) && !limiter.is_last(first));
    /// limiter.cancel(&policy, second, now);
    /// assert!(limiter.is_last(first));
    /// # Ok::<(), steadfast_core::PolicyError>(())
    /// ```
    #[must_use]
    pub const fn is_last(&self, reservation: Reservation) -> bool {
        self.due <= reservation.due
    }

    /// Restores a stored limiter at this time. No place that it has promised lies further off than a whole burst: a
    /// clock that was wrong when it was stored must not close it for years.
    #[must_use]
    pub fn restored(self, policy: &RatePolicy, now: Timestamp) -> Self {
        Self { due: self.due.min(now.as_nanos().saturating_add(policy.depth())) }
    }

    /// Switches to other settings. Places that are taken stay taken, at what they cost now: else each change would be
    /// worth another burst. If the span differs, the next place is free no later than it would have been.
    pub(crate) fn repaced(self, old: &RatePolicy, new: &RatePolicy, now: Timestamp) -> Self {
        let start = now.as_nanos();
        let debt = u128::from(self.due.saturating_sub(start));
        let (cost, paid) = (u128::from(new.every), u128::from(old.every.max(1)));
        let debt = debt.saturating_mul(cost).saturating_add(paid.saturating_sub(1)).checked_div(paid);
        let due = start.saturating_add(debt.and_then(|debt| u64::try_from(debt).ok()).unwrap_or(u64::MAX));
        let next = self.due.saturating_sub(old.depth().saturating_sub(old.every)).max(start);
        let promised = next.saturating_add(new.depth().saturating_sub(new.every));
        Self { due: if old.per == new.per { due } else { due.min(promised) } }.restored(new, now)
    }

    /// Gives back the place of a request that was let go `since` and never left. The time that has passed since then is
    /// not given back: it would let a later burst be larger than allowed.
    pub(crate) const fn refund(&mut self, policy: &RatePolicy, since: Duration) {
        self.due = self.due.saturating_sub(policy.every.saturating_sub(nanos(since)));
    }

    /// The state after this many requests have left now, or when they may.
    #[inline]
    const fn after(self, policy: &RatePolicy, count: u32, now: Timestamp) -> Result<u64, Timestamp> {
        if count > policy.burst.get() {
            return Err(Timestamp::NEVER);
        }
        let now = now.as_nanos();
        let from = if self.due > now { self.due } else { now };
        let Some(due) = from.checked_add(policy.every.saturating_mul(count as u64)) else {
            // At the end of time nothing more is due.
            return Err(Timestamp::NEVER);
        };
        let at = due.saturating_sub(policy.depth());
        if at > now { Err(Timestamp::from_nanos(at)) } else { Ok(due) }
    }
}

/// Takes one place in each of several limits, or in none: a refusal of one costs no other.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::Timestamp;
/// use steadfast_core::rate_limit::{RateLimiter, RatePolicy, try_acquire_all};
///
/// let secs = Duration::from_secs;
/// let policies = [RatePolicy::new(5, secs(1))?.with_burst(5)?, RatePolicy::new(100, secs(60))?.with_burst(3)?];
/// let mut limiters = [RateLimiter::new(); 2];
/// let now = Timestamp::from_secs(1_700_000_000);
/// let gone = (0..9).filter(|_| try_acquire_all(&policies, &mut limiters, now).is_ok()).count();
/// assert_eq!(gone, 3); // the tighter of the two
/// # Ok::<(), steadfast_core::PolicyError>(())
/// ```
///
/// # Errors
/// One of them has no place before the returned time, which is the latest of all; [`Timestamp::NEVER`] if there are
/// not as many limiters as policies. Nothing was taken.
pub fn try_acquire_all(policies: &[RatePolicy], limiters: &mut [RateLimiter], now: Timestamp) -> Result<(), Timestamp> {
    if limiters.len() != policies.len() {
        return Err(Timestamp::NEVER);
    }
    let refused = limiters.iter().zip(policies).filter_map(|(limiter, policy)| limiter.check(policy, now).err());
    if let Some(latest) = refused.max() {
        return Err(latest);
    }
    for (limiter, policy) in limiters.iter_mut().zip(policies) {
        // Each was just asked: none refuses.
        let _ = limiter.try_acquire(policy, now);
    }
    Ok(())
}

/// What a provider says of its own limit, in a `RateLimit`, `X-RateLimit-*` or like header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[expect(clippy::exhaustive_structs, reason = "plain data, written with struct update syntax")]
pub struct Quota {
    /// How many requests it allows in a window.
    pub limit: Option<u32>,
    /// How long its window is.
    pub window: Option<Duration>,
    /// How many are left in the present one.
    pub remaining: Option<u32>,
    /// How long until the present one ends.
    pub reset: Option<Duration>,
}

/// What is left of a provider's present window, by its own word. A limiter goes by its configuration; this goes by
/// what the provider counts, which includes other processes' requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Allowance {
    left: u32,
    until: Timestamp,
    /// How many more were under way than the provider had left: they free no place if they never leave.
    #[cfg_attr(feature = "serde", serde(default))]
    beyond: u32,
}

impl Allowance {
    /// No request is held back for longer than this, whatever a header says: a day, the longest window in use
    /// (Deepvue's plans, Persona).
    pub const LONGEST: Duration = Duration::from_secs(86_400);

    /// An allowance of which the provider has said nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { left: 0, until: Timestamp::EPOCH, beyond: 0 }
    }

    /// Whether a request may leave.
    ///
    /// # Errors
    /// No request is left until the returned time.
    pub const fn check(&self, now: Timestamp) -> Result<(), Timestamp> {
        if self.left == 0 && self.until.as_nanos() > now.as_nanos() { Err(self.until) } else { Ok(()) }
    }

    /// Counts a request that leaves.
    pub const fn take(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Takes back a request that was let go and has not left.
    pub fn give_back(&mut self) {
        match self.beyond.checked_sub(1) {
            Some(beyond) => self.beyond = beyond,
            None => self.left = self.left.saturating_add(1),
        }
    }

    /// Restores a stored allowance at this time: its window ends no later than one that begins now could.
    #[must_use]
    pub fn restored(self, now: Timestamp) -> Self {
        // Nothing that was under way then will be given back.
        Self { until: self.until.min(now.saturating_add(Self::LONGEST)), beyond: 0, ..self }
    }

    /// What is left for this process once another number of them share it.
    pub(crate) fn shared_anew(self, before: NonZeroU32, now: NonZeroU32) -> Self {
        let all = u64::from(self.left).saturating_mul(before.get().into());
        let part = all.checked_div(now.get().into()).and_then(|part| u32::try_from(part).ok());
        Self { left: part.unwrap_or(u32::MAX), ..self }
    }

    /// Takes in what the provider says, while `in_flight` other requests are under way: it may not have counted them
    /// yet, so they are taken off. The next answer says it better.
    pub fn learn(&mut self, quota: Quota, in_flight: u32, now: Timestamp) {
        if let (Some(remaining), Some(reset)) = (quota.remaining, quota.reset) {
            self.left = remaining.saturating_sub(in_flight);
            self.beyond = in_flight.saturating_sub(remaining);
            self.until = now.saturating_add(reset.min(Self::LONGEST));
        }
    }
}

/// A policy as written in a file, before it has been checked.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    count: u32,
    #[serde(with = "crate::policy::humane")]
    per: Duration,
    burst: Option<u32>,
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for RatePolicy {
    type Error = PolicyError;

    fn try_from(it: Unchecked) -> Result<Self, PolicyError> {
        let policy = Self::new(it.count, it.per)?;
        it.burst.map_or(Ok(policy), |burst| policy.with_burst(burst))
    }
}
