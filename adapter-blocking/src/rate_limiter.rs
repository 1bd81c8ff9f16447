//! A rate limiter to put before any call, which can wait.

use std::ops::Deref;
use std::thread;

use steadfast_core::PolicyError;
use steadfast_core::rate_limit::{self, RatePolicy};
use steadfast_driver::{Leases, SharedClock};

/// A rate limiter, shared by threads: cloning is cheap and shares it.
///
/// It has the methods of the [driver's](steadfast_driver::RateLimiter), and waits.
///
/// ```
/// use std::time::Duration;
/// use steadfast_blocking::RateLimiter;
/// use steadfast_core::rate_limit::RatePolicy;
///
/// let limiter = RateLimiter::new(RatePolicy::new(100, Duration::from_secs(1))?.with_burst(2)?);
/// assert!(limiter.try_acquire().is_ok() && limiter.try_acquire().is_ok());
/// assert!(limiter.try_acquire().unwrap_err().retry_in <= Duration::from_millis(10));
/// assert_eq!(limiter.call_in_turn(|| "after its turn"), "after its turn");
/// # Ok::<(), steadfast_core::PolicyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RateLimiter(steadfast_driver::RateLimiter);

impl RateLimiter {
    /// A limiter that has been quiet: a whole burst may go.
    #[must_use]
    pub fn new(policy: RatePolicy) -> Self {
        Self::restored(policy, rate_limit::RateLimiter::new())
    }

    /// A limiter that was stored ([`snapshot`](steadfast_driver::RateLimiter::snapshot)): a day's quota outlives a
    /// process.
    #[must_use]
    pub fn restored(policy: RatePolicy, machine: rate_limit::RateLimiter) -> Self {
        Self(steadfast_driver::RateLimiter::restored(policy, machine))
    }

    /// A limiter that gives [leases](steadfast_driver::RateLimiter::lease): all the places that they can hold are set
    /// aside from the burst.
    ///
    /// # Errors
    /// The burst is not enough for all leases and one lease more: leases of 64 for 4 threads need 320.
    pub fn with_leases(policy: RatePolicy, leases: Leases) -> Result<Self, PolicyError> {
        let (machine, clock) = (rate_limit::RateLimiter::new(), SharedClock::start());
        steadfast_driver::RateLimiter::with_leases(policy, leases, machine, clock).map(Self)
    }

    /// Blocks until there is a place, in the order of asking.
    pub fn acquire(&self) {
        let mut place = self.0.reserve();
        // Asked again after each sleep, also since the system and the limiter use different clocks.
        loop {
            let wait = place.next_wait();
            if wait.is_zero() {
                break;
            }
            thread::sleep(wait);
        }
        place.take();
    }

    /// Makes a call after waiting for a place. ([`call`](steadfast_driver::RateLimiter::call) does not wait: it makes
    /// its call if there is a place now.)
    pub fn call_in_turn<T>(&self, call: impl FnOnce() -> T) -> T {
        self.acquire();
        call()
    }
}

impl Deref for RateLimiter {
    type Target = steadfast_driver::RateLimiter;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
