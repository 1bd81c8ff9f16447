//! A rate limiter to put before any call.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use steadfast_core::gate::Gate;
use steadfast_core::rate_limit::{self, RatePolicy, Reservation};
use steadfast_core::{PolicyError, Timestamp};

use super::Alone;
use super::clock::SharedClock;
use super::given_up::GivenUp;
use super::lease::{Free, Lease, Leases};

/// How long those who wait sleep at most before they look whether somebody before them has given up: as long as whoever
/// waits at a [gate](steadfast_core::gate).
const LOOK: Duration = Gate::RECHECK;

/// A rate limiter, shared by tasks and threads: cloning is cheap and shares it.
///
/// The [machine](steadfast_core::rate_limit) is the core's; its whole state is one word, changed by
/// compare-and-exchange, so there is no lock but where a place is given up.
///
/// ```
/// use std::time::Duration;
/// use steadfast_core::rate_limit::RatePolicy;
/// use steadfast_driver::RateLimiter;
///
/// let limiter = RateLimiter::new(RatePolicy::new(100, Duration::from_secs(1))?.with_burst(2)?);
/// assert!(limiter.try_acquire().is_ok() && limiter.try_acquire().is_ok());
/// assert!(limiter.try_acquire().unwrap_err().retry_in <= Duration::from_millis(10));
///
/// let place = limiter.reserve(); // in a line, in the order of asking
/// assert!(place.wait() <= Duration::from_millis(10)); // sleep for so long, then
/// place.take(); // dropped instead, it would be given back
/// # Ok::<(), steadfast_core::PolicyError>(())
/// ```
#[derive(Clone)]
pub struct RateLimiter(Arc<Shared>);

struct Shared {
    policy: RatePolicy,
    word: Alone<AtomicU64>,
    free: Option<Free>,
    given_up: GivenUp,
    clock: SharedClock,
}

/// The rate limit is reached: nothing was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rate limit is reached: ask again in {retry_in:?}")]
#[non_exhaustive]
pub struct Limited {
    /// When the next place is free, if nobody else takes it.
    pub retry_in: Duration,
}

impl RateLimiter {
    /// A limiter that has been quiet: a whole burst may go.
    #[must_use]
    pub fn new(policy: RatePolicy) -> Self {
        Self::restored(policy, rate_limit::RateLimiter::new())
    }

    /// A limiter that was stored ([`snapshot`](RateLimiter::snapshot)): a day's quota outlives a process.
    #[must_use]
    pub fn restored(policy: RatePolicy, machine: rate_limit::RateLimiter) -> Self {
        Self::with_clock(policy, machine, SharedClock::start())
    }

    /// A limiter, new or stored, that goes by another clock than the machine's own: a runtime's, or a test's.
    #[must_use]
    pub fn with_clock(policy: RatePolicy, machine: rate_limit::RateLimiter, clock: SharedClock) -> Self {
        Self::of(policy, machine, clock, None)
    }

    /// A limiter, new or stored, that gives leases: see [`lease`](RateLimiter::lease). All the places that they can
    /// hold are set aside from the burst.
    ///
    /// # Errors
    /// The burst is not enough for all leases and one lease more: leases of 64 for 4 threads need 320.
    pub fn with_leases(
        policy: RatePolicy,
        leases: Leases,
        machine: rate_limit::RateLimiter,
        clock: SharedClock,
    ) -> Result<Self, PolicyError> {
        let leases = Leases { size: leases.size.max(1), ..leases };
        let shared = policy.set_aside(leases.places(), leases.size)?;
        Ok(Self::of(shared, machine, clock, Some(Free::new(leases))))
    }

    fn of(policy: RatePolicy, machine: rate_limit::RateLimiter, clock: SharedClock, free: Option<Free>) -> Self {
        let word = Alone(AtomicU64::new(machine.restored(&policy, clock.now()).to_word()));
        Self(Arc::new(Shared { policy, word, free, given_up: GivenUp::default(), clock }))
    }

    /// Takes a place now, or says when there is one.
    ///
    /// # Errors
    /// No place is free; nothing was taken.
    #[inline]
    pub fn try_acquire(&self) -> Result<(), Limited> {
        self.try_acquire_at(self.0.clock.now())
    }

    /// The same at a time that the caller has read already. It must be the time of a clock that counts since 1970, the
    /// same one in each call.
    ///
    /// # Errors
    /// No place is free; nothing was taken.
    #[inline]
    pub fn try_acquire_at(&self, now: Timestamp) -> Result<(), Limited> {
        let taken = self.change(|limiter| limiter.try_acquire(&self.0.policy, now));
        taken.map_err(|at| Limited { retry_in: at.saturating_since(now) })
    }

    /// A lease for the calling thread or task: it takes places in lots, for code that takes so many that sharing them
    /// is the main cost. `None` if all leases are given out already, or the limiter
    /// [has none](RateLimiter::with_leases).
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_core::rate_limit::{self, RatePolicy};
    /// use steadfast_driver::{Leases, RateLimiter, SharedClock};
    ///
    /// let policy = RatePolicy::new(1_000_000, Duration::from_secs(1))?.with_burst(1_000)?;
    /// let leases = Leases { size: 64, most: 4 };
    /// let limiter = RateLimiter::with_leases(policy, leases, rate_limit::RateLimiter::new(), SharedClock::start())?;
    /// std::thread::scope(|scope| {
    ///     for _ in 0..4 {
    ///         let mut lease = limiter.lease().expect("there is one for each");
    ///         scope.spawn(move || (0..100).filter(|_| lease.try_acquire().is_ok()).count());
    ///     }
    /// });
    /// # Ok::<(), steadfast_core::PolicyError>(())
    /// ```
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        Lease::of(self)
    }

    /// Takes the next free place, however late, in the order of asking: for callers that can wait. A place that somebody
    /// has given up, before others that are promised, goes to the next that asks, or to one behind it that
    /// [looks again](Place::next_wait).
    pub fn reserve(&self) -> Place<'_> {
        let now = self.0.clock.now();
        let reservation = self.0.given_up.take(now).or_else(|| {
            // One place is within any burst, so there always is one.
            self.change(|limiter| limiter.reserve(&self.0.policy, 1, now).ok_or(())).ok()
        });
        Place { limiter: self, reservation }
    }

    /// The same for a wait that outlives the borrow. The place holds a clone of the limiter.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use steadfast_core::rate_limit::RatePolicy;
    /// use steadfast_driver::RateLimiter;
    ///
    /// let limiter = RateLimiter::new(RatePolicy::new(1, Duration::from_secs(60))?);
    /// let (first, second) = (limiter.reserve_owned(), limiter.reserve_owned());
    /// assert!(first.wait().is_zero() && second.wait() > Duration::from_secs(50));
    /// first.take(); // it goes; the second changes its mind, and its place is free again
    /// drop(second);
    /// assert!(limiter.reserve_owned().wait() <= Duration::from_secs(60));
    /// # Ok::<(), steadfast_core::PolicyError>(())
    /// ```
    pub fn reserve_owned(&self) -> OwnedPlace {
        let reservation = self.reserve().reservation.take();
        OwnedPlace { limiter: self.clone(), reservation }
    }

    /// Makes a call if there is a place for it now.
    ///
    /// # Errors
    /// No place is free: the call was not made.
    pub fn call<T>(&self, call: impl FnOnce() -> T) -> Result<T, Limited> {
        self.try_acquire()?;
        Ok(call())
    }

    /// The machine as it is now, to be stored.
    #[must_use]
    pub fn snapshot(&self) -> rate_limit::RateLimiter {
        rate_limit::RateLimiter::from_word(self.0.word.0.load(Ordering::Acquire))
    }

    pub(super) fn free(&self) -> Option<&Free> {
        self.0.free.as_ref()
    }

    pub(super) fn try_acquire_up_to(&self, most: u32) -> Result<u32, Limited> {
        let now = self.0.clock.now();
        let taken = self.change(|limiter| limiter.try_acquire_up_to(&self.0.policy, most, now));
        taken.map_err(|at| Limited { retry_in: at.saturating_since(now) })
    }

    pub(super) fn give_back(&self, count: u32) {
        let _ = self.change(|limiter| {
            limiter.give_back(&self.0.policy, count);
            Ok::<_, ()>(())
        });
    }

    fn wait(&self, reservation: Option<Reservation>) -> Duration {
        reservation.map_or(Duration::ZERO, |it| it.at().saturating_since(self.0.clock.now()))
    }

    fn next_wait(&self, reservation: &mut Option<Reservation>) -> Duration {
        if let Some(held) = *reservation
            && let Some(earlier) = self.0.given_up.take_before(&held, self.0.clock.now())
        {
            *reservation = Some(earlier);
            self.cancel(Some(held));
        }
        self.wait(*reservation).min(LOOK)
    }

    fn cancel(&self, reservation: Option<Reservation>) {
        let Some(reservation) = reservation else { return };
        let now = self.0.clock.now();
        let mut given_up = self.0.given_up.open(now);
        let is_last = |limiter: &rate_limit::RateLimiter, place| limiter.is_last(place).then_some(()).ok_or(());
        let cancel_last = |place| {
            self.change(|limiter| {
                is_last(limiter, place)?;
                limiter.cancel_late(&self.0.policy, place, now);
                Ok::<_, ()>(())
            })
        };
        if cancel_last(reservation).is_ok() {
            // What was given up before it may come last now.
            while let Some(last) = given_up.last()
                && cancel_last(last).is_ok()
            {
                given_up.drop_last();
            }
        } else if reservation.at() > now {
            given_up.keep(reservation, now);
        } else {
            let _ = self.change(|limiter| {
                limiter.cancel_late(&self.0.policy, reservation, now);
                Ok::<_, ()>(())
            });
        }
    }

    /// Changes the state by compare-and-exchange; if the change is refused, nothing is written.
    #[inline]
    fn change<T, E>(&self, step: impl Fn(&mut rate_limit::RateLimiter) -> Result<T, E>) -> Result<T, E> {
        let mut word = self.0.word.0.load(Ordering::Acquire);
        loop {
            let mut limiter = rate_limit::RateLimiter::from_word(word);
            let done = step(&mut limiter)?;
            match self.0.word.0.compare_exchange_weak(word, limiter.to_word(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(done),
                Err(other) => word = other,
            }
        }
    }
}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RateLimiter").field(&self.0.policy).finish()
    }
}

/// A place in a limiter's line. If it is dropped before it is [taken](Place::take), it is given back: if later places
/// have been promised, to the next that asks or looks; if its time has passed, what is left of it. See
/// [`RateLimiter::reserve`].
#[must_use = "wait, then `take` it: a place that is dropped is given back"]
pub struct Place<'a> {
    limiter: &'a RateLimiter,
    reservation: Option<Reservation>,
}

impl Place<'_> {
    /// How long until its time; zero from then on.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.limiter.wait(self.reservation)
    }

    /// How long to sleep before asking this again: until its time, but a second at most; zero once that has come. If
    /// somebody before it gave up half a second ago or earlier, and nobody has come for that place, it moves up: a line
    /// of which many leave becomes shorter for those who stay.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use steadfast_core::rate_limit::RatePolicy;
    /// use steadfast_driver::RateLimiter;
    ///
    /// let limiter = RateLimiter::new(RatePolicy::new(1, Duration::from_secs(60))?);
    /// assert!(limiter.try_acquire().is_ok());
    /// let (first, mut second) = (limiter.reserve(), limiter.reserve());
    /// drop(first);
    /// assert_eq!(second.next_wait(), Duration::from_secs(1));
    /// assert!(second.wait() > Duration::from_secs(60)); // after that second it moves up
    /// # Ok::<(), steadfast_core::PolicyError>(())
    /// ```
    #[must_use = "sleep for so long, and ask again"]
    pub fn next_wait(&mut self) -> Duration {
        self.limiter.next_wait(&mut self.reservation)
    }

    /// Spends the place. Call it only after the [wait](Place::wait).
    pub fn take(mut self) {
        self.reservation = None;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.limiter.cancel(self.reservation.take());
    }
}

impl fmt::Debug for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.reservation).finish()
    }
}

/// A [place](Place) in a limiter's line, with a clone of the limiter. See [`RateLimiter::reserve_owned`].
#[must_use = "wait, then `take` it: a place that is dropped is given back"]
pub struct OwnedPlace {
    limiter: RateLimiter,
    reservation: Option<Reservation>,
}

impl OwnedPlace {
    /// How long until its time; zero from then on.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.limiter.wait(self.reservation)
    }

    /// As [`Place::next_wait`].
    #[must_use = "sleep for so long, and ask again"]
    pub fn next_wait(&mut self) -> Duration {
        self.limiter.next_wait(&mut self.reservation)
    }

    /// How long ago its time was; zero until then.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.reservation.map_or(Duration::ZERO, |it| self.limiter.0.clock.now().saturating_since(it.at()))
    }

    /// Spends the place. Call it only after the [wait](OwnedPlace::wait).
    pub fn take(mut self) {
        self.reservation = None;
    }
}

impl Drop for OwnedPlace {
    fn drop(&mut self) {
        self.limiter.cancel(self.reservation.take());
    }
}

impl fmt::Debug for OwnedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedPlace").field(&self.reservation).finish()
    }
}
