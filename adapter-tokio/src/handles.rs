//! A breaker, a rate limiter and a retry budget to put around any call, on tokio's time.
//!
//! They are the driver's, with all their methods. This adds tokio's clock, which a paused runtime stops, and the
//! waiting.

use std::ops::Deref;

use steadfast_core::PolicyError;
use steadfast_core::Seed;
use steadfast_core::breaker::{self, BreakerPolicy};
use steadfast_core::budget::{self, BudgetPolicy};
use steadfast_core::rate_limit::{self, RatePolicy};
use steadfast_driver::Leases;
use tokio::task::coop::consume_budget;

use crate::clock;

/// A circuit breaker, shared by tasks and threads: cloning is cheap and shares it.
///
/// It has the methods of the [driver's](steadfast_driver::Breaker), and follows a runtime's paused time.
///
/// Cancel-safe: if a call's future is dropped, or panics, its permit is released and no result is recorded.
///
/// ```
/// use steadfast_core::breaker::BreakerPolicy;
/// use steadfast_tokio::{Breaker, CallError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let breaker = Breaker::new(BreakerPolicy::consecutive(2)?);
/// let greeting = breaker.call_async(async { Ok::<_, std::io::Error>("hello") }).await;
/// assert_eq!(greeting.unwrap(), "hello");
///
/// let failing = || Err::<(), _>(std::io::Error::other("down"));
/// for _ in 0..2 {
///     assert!(matches!(breaker.call(failing), Err(CallError::Failed(_))));
/// }
/// assert!(matches!(breaker.call(failing), Err(CallError::Open { .. }))); // not called any more
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Breaker(steadfast_driver::Breaker);

impl Breaker {
    /// A closed breaker. Its open times are spread by a seed drawn at random.
    #[must_use]
    pub fn new(policy: BreakerPolicy) -> Self {
        Self::with_seed(policy, Seed::new(fastrand::u64(..)))
    }

    /// A closed breaker with a seed of your own, to repeat a run.
    #[must_use]
    pub fn with_seed(policy: BreakerPolicy, seed: Seed) -> Self {
        let machine = breaker::Breaker::new(&policy, seed);
        Self::restored(policy, machine)
    }

    /// A breaker that was stored ([`snapshot`](steadfast_driver::Breaker::snapshot)), with the settings it had.
    #[must_use]
    pub fn restored(policy: BreakerPolicy, machine: breaker::Breaker) -> Self {
        Self(steadfast_driver::Breaker::with_clock(policy, machine, clock::shared()))
    }
}

impl Deref for Breaker {
    type Target = steadfast_driver::Breaker;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A rate limiter, shared by tasks and threads: cloning is cheap and shares it.
///
/// It has the methods of the [driver's](steadfast_driver::RateLimiter), follows a runtime's paused time, and waits.
///
/// [`acquire`](RateLimiter::acquire) is fair: first come, first served, as long as nobody gives up. It is cancel-safe:
/// the place of a future that is dropped while it waits goes to the next that asks; if nobody comes for it, one behind it
/// moves up, within two seconds. So a caller that comes just then may go before others that have waited: under overload
/// it is the one that can still be served in time.
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
/// let answer = limiter.call_in_turn(async { "after its turn" }).await;
/// assert_eq!(answer, "after its turn");
/// # Ok(())
/// # }
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
        Self(steadfast_driver::RateLimiter::with_clock(policy, machine, clock::shared()))
    }

    /// A limiter that gives [leases](steadfast_driver::RateLimiter::lease): all the places that they can hold are set
    /// aside from the burst.
    ///
    /// # Errors
    /// The burst is not enough for all leases and one lease more: leases of 64 for 4 threads need 320.
    pub fn with_leases(policy: RatePolicy, leases: Leases) -> Result<Self, PolicyError> {
        let (machine, clock) = (rate_limit::RateLimiter::new(), clock::shared());
        steadfast_driver::RateLimiter::with_leases(policy, leases, machine, clock).map(Self)
    }

    /// Waits for a place, in the order of asking. Needs a tokio runtime with its timer enabled, if it has to wait.
    pub async fn acquire(&self) {
        // A loop that is never asked to wait must not be all that its thread does.
        consume_budget().await;
        let mut place = self.0.reserve();
        // Asked again after each sleep, also since the timer and the limiter use different clocks.
        loop {
            let wait = place.next_wait();
            if wait.is_zero() {
                break;
            }
            tokio::time::sleep(wait).await;
        }
        place.take();
    }

    /// Awaits a future after waiting for a place. ([`call`](steadfast_driver::RateLimiter::call) does not wait: it
    /// makes its call if there is a place now.)
    pub async fn call_in_turn<T>(&self, future: impl Future<Output = T>) -> T {
        self.acquire().await;
        future.await
    }
}

impl Deref for RateLimiter {
    type Target = steadfast_driver::RateLimiter;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// A retry budget, shared by tasks and threads: cloning is cheap and shares it.
///
/// It has the methods of the [driver's](steadfast_driver::RetryBudget), and follows a runtime's paused time. Give it to
/// [`retry`](crate::retry()).
///
/// ```
/// use steadfast_core::budget::BudgetPolicy;
/// use steadfast_core::retry::Class;
/// use steadfast_tokio::RetryBudget;
///
/// let budget = RetryBudget::new(BudgetPolicy::grpc());
/// let granted = (0..100).filter(|_| budget.withdraw(Class::Transient).is_ok()).count();
/// assert_eq!(granted, 4); // ten tokens, of which six are kept
/// ```
#[derive(Clone, Debug)]
pub struct RetryBudget(steadfast_driver::RetryBudget);

impl RetryBudget {
    /// A budget with its initial tokens.
    #[must_use]
    pub fn new(policy: BudgetPolicy) -> Self {
        let machine = budget::RetryBudget::new(&policy);
        Self::restored(policy, machine)
    }

    /// A budget that was stored ([`snapshot`](steadfast_driver::RetryBudget::snapshot)), with the settings it had.
    #[must_use]
    pub fn restored(policy: BudgetPolicy, machine: budget::RetryBudget) -> Self {
        Self(steadfast_driver::RetryBudget::with_clock(policy, machine, clock::shared()))
    }
}

impl Deref for RetryBudget {
    type Target = steadfast_driver::RetryBudget;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
