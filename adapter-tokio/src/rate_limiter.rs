//! A rate limiter to put before any call.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use steadfast_core::Timestamp;
use steadfast_core::rate_limit::{self, RatePolicy, Reservation};

use crate::clock::SharedClock;

/// A rate limiter, shared by tasks and threads: cloning is cheap and shares it.
///
/// The [machine](steadfast_core::rate_limit) is the core's; its whole state is one word, exchanged when a place is taken, so there is no lock.
///
/// [`acquire`](RateLimiter::acquire) is fair: whoever asks first goes first. It is cancel-safe: a future that is dropped while it waits gives its
/// place back, as far as nobody has been promised a later one.
///
/// ```
/// use std::time::Duration;
/// use steadfast_core::rate_limit::RatePolicy;
/// use steadfast_tokio::RateLimiter;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = RateLimiter::new(RatePolicy::new(100, Duration::from_secs(1))?.with_burst(2)?);
/// assert!(limiter.try_acquire().is_ok() && limiter.try_acquire().is_ok());
/// assert!(limiter.try_acquire().unwrap_err().retry_in <= Duration::from_millis(10));
/// let answer = limiter.call_async(async { "after its turn" }).await;
/// assert_eq!(answer, "after its turn");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RateLimiter(Arc<Shared>);

struct Shared {
    policy: RatePolicy,
    word: Alone<AtomicU64>,
    clock: SharedClock,
}

/// Has its cache lines to itself (two, since processors fetch them in pairs): what lies beside a word that threads write to is as slow to read as
/// the word.
#[repr(align(128))]
pub(crate) struct Alone<T>(pub(crate) T);

/// Not so fast: nothing was called.
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

    /// One that was stored ([`snapshot`](RateLimiter::snapshot)): a day's quota outlives a process.
    #[must_use]
    pub fn restored(policy: RatePolicy, machine: rate_limit::RateLimiter) -> Self {
        let clock = SharedClock::start();
        let word = Alone(AtomicU64::new(machine.restored(&policy, clock.now()).to_word()));
        Self(Arc::new(Shared { policy, word, clock }))
    }

    /// Takes a place now, or says when there is one.
    ///
    /// # Errors
    /// There is none; nothing was taken.
    pub fn try_acquire(&self) -> Result<(), Limited> {
        self.try_acquire_at(self.0.clock.now())
    }

    /// The same at a time that the caller has read already. It must be the time of a clock that counts since 1970, the same one in each call.
    ///
    /// # Errors
    /// There is no place; nothing was taken.
    pub fn try_acquire_at(&self, now: Timestamp) -> Result<(), Limited> {
        let taken = self.change(|limiter| limiter.try_acquire(&self.0.policy, now));
        taken.map_err(|at| Limited { retry_in: at.saturating_since(now) })
    }

    /// Waits for a place, in the order of asking. Needs a tokio runtime with its timer enabled.
    pub async fn acquire(&self) {
        let now = self.0.clock.now();
        let reserved = self.change(|limiter| limiter.reserve(&self.0.policy, 1, now).ok_or(()));
        // One place is within any burst.
        let Ok(reservation) = reserved else { return };
        let mut place = Place { limiter: self, reservation: Some(reservation) };
        let wait = reservation.at().saturating_since(now);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        place.reservation = None;
    }

    /// Makes a call if there is a place for it now.
    ///
    /// # Errors
    /// There is none: it was not made.
    pub fn call<T>(&self, call: impl FnOnce() -> T) -> Result<T, Limited> {
        self.try_acquire()?;
        Ok(call())
    }

    /// Awaits a future after waiting for a place.
    pub async fn call_async<T>(&self, future: impl Future<Output = T>) -> T {
        self.acquire().await;
        future.await
    }

    /// The machine as it is now, to be stored.
    #[must_use]
    pub fn snapshot(&self) -> rate_limit::RateLimiter {
        rate_limit::RateLimiter::from_word(self.0.word.0.load(Ordering::Acquire))
    }

    /// Changes the state by compare-and-exchange; a refusal writes nothing.
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

/// A reserved place, given back if its future is dropped before its time.
struct Place<'a> {
    limiter: &'a RateLimiter,
    reservation: Option<Reservation>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(reservation) = self.reservation.take() {
            let (policy, now) = (&self.limiter.0.policy, self.limiter.0.clock.now());
            let _ = self.limiter.change(|limiter| {
                limiter.cancel(policy, reservation, now);
                Ok::<_, ()>(())
            });
        }
    }
}
