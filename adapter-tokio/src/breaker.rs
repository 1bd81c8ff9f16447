//! A circuit breaker to put around any call.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steadfast_core::breaker::{self, BreakerPolicy, BreakerState, Glance, Health, Ticket};
use steadfast_core::{Seed, Timestamp};

use crate::clock::SharedClock;
use crate::rate_limiter::Alone;

/// A circuit breaker, shared by tasks and threads: cloning is cheap and shares it.
///
/// The [machine](steadfast_core::breaker) is the core's. While it is closed and counts a streak, good calls touch nothing but one word that they read,
/// so threads do not get in each other's way; a breaker that counts a rate must write each call down, under a lock held for some nanoseconds.
///
/// Cancel-safe: a call whose future is dropped, or that panics, gives its place back and counts for nothing.
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
#[derive(Clone)]
pub struct Breaker(Arc<Shared>);

struct Shared {
    policy: BreakerPolicy,
    /// What the machine looks like at a glance, published after every change.
    glance: Alone<AtomicU64>,
    machine: Mutex<breaker::Breaker>,
    clock: SharedClock,
}

/// Why a call gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The breaker did not let it through: it was not made.
    #[error("the breaker is open: ask again in {retry_in:?}")]
    Open {
        /// When asking again makes sense; [`Duration::MAX`] while it is isolated.
        retry_in: Duration,
    },
    /// It was made and failed.
    #[error(transparent)]
    Failed(E),
}

impl Breaker {
    /// A closed breaker. Its open times are spread by a seed drawn at random.
    #[must_use]
    pub fn new(policy: BreakerPolicy) -> Self {
        Self::with_seed(policy, Seed::new(fastrand::u64(..)))
    }

    /// The same with a seed of your own, to repeat a run.
    #[must_use]
    pub fn with_seed(policy: BreakerPolicy, seed: Seed) -> Self {
        let machine = breaker::Breaker::new(&policy, seed);
        Self::of(policy, machine, SharedClock::start())
    }

    /// One that was stored ([`snapshot`](Breaker::snapshot)), with the settings it had.
    #[must_use]
    pub fn restored(policy: BreakerPolicy, machine: breaker::Breaker) -> Self {
        let clock = SharedClock::start();
        let machine = machine.restored(&policy, clock.now());
        Self::of(policy, machine, clock)
    }

    fn of(policy: BreakerPolicy, machine: breaker::Breaker, clock: SharedClock) -> Self {
        let glance = Alone(AtomicU64::new(machine.glance().to_word()));
        Self(Arc::new(Shared { policy, glance, machine: Mutex::new(machine), clock }))
    }

    /// Makes a call if the breaker lets it. An `Err` counts as a failure of what is called.
    ///
    /// # Errors
    /// The call's own, or that it was not made.
    pub fn call<T, E>(&self, call: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.call_classified(call, health)
    }

    /// The same, where `classify` says what a result tells of the upstream: a refused request, say, is a sign of its health.
    ///
    /// # Errors
    /// As [`call`](Breaker::call).
    pub fn call_classified<T, E>(
        &self,
        call: impl FnOnce() -> Result<T, E>,
        classify: impl FnOnce(&Result<T, E>) -> Health,
    ) -> Result<T, CallError<E>> {
        let permit = self.acquire().map_err(|retry_in| CallError::Open { retry_in })?;
        let result = call();
        permit.settle(classify(&result));
        result.map_err(CallError::Failed)
    }

    /// Awaits a future if the breaker lets it; it is not polled otherwise. An `Err` counts as a failure of what is called.
    ///
    /// # Errors
    /// The future's own, or that it was not awaited.
    pub async fn call_async<T, E>(&self, future: impl Future<Output = Result<T, E>>) -> Result<T, CallError<E>> {
        self.call_async_classified(future, health).await
    }

    /// The same, where `classify` says what a result tells of the upstream.
    ///
    /// # Errors
    /// As [`call_async`](Breaker::call_async).
    pub async fn call_async_classified<T, E>(
        &self,
        future: impl Future<Output = Result<T, E>>,
        classify: impl FnOnce(&Result<T, E>) -> Health,
    ) -> Result<T, CallError<E>> {
        let permit = self.acquire().map_err(|retry_in| CallError::Open { retry_in })?;
        let result = future.await;
        permit.settle(classify(&result));
        result.map_err(CallError::Failed)
    }

    /// Leave for one call, for code that is no closure. Dropping the permit gives it back and says nothing of the upstream.
    ///
    /// # Errors
    /// How long to wait before asking again makes sense; [`Duration::MAX`] while it is isolated.
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, Duration> {
        let shared = &*self.0;
        let ticket = match shared.glance().ticket(shared.began()) {
            Some(ticket) => ticket,
            None => shared.admit()?,
        };
        Ok(Permit { shared, ticket: Some(ticket) })
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.0.lock().state(self.0.clock.now())
    }

    /// Opens it for so long.
    pub fn force_open(&self, span: Duration) {
        let until = self.0.clock.now().saturating_add(span);
        self.0.change(|machine| machine.force_open(until));
    }

    /// Lets nothing through until [`reset`](Breaker::reset).
    pub fn isolate(&self) {
        self.0.change(breaker::Breaker::isolate);
    }

    /// Lets everything through and looks at nothing, until [`reset`](Breaker::reset).
    pub fn disable(&self) {
        self.0.change(breaker::Breaker::disable);
    }

    /// Closes it, with nothing remembered.
    pub fn reset(&self) {
        self.0.change(|machine| machine.reset(&self.0.policy));
    }

    /// The machine as it is now, to be stored.
    #[must_use]
    pub fn snapshot(&self) -> breaker::Breaker {
        self.0.lock().clone()
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("state", &self.state()).field("policy", &self.0.policy).finish()
    }
}

/// Leave for one call. See [`Breaker::acquire`].
#[must_use = "dropped at once, it counts for nothing"]
pub struct Permit<'a> {
    shared: &'a Shared,
    ticket: Option<Ticket>,
}

impl Permit<'_> {
    /// Tells how the call ended.
    pub fn settle(mut self, health: Health) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.settle(ticket, health);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.settle(ticket, Health::Ignored);
        }
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.ticket).finish()
    }
}

impl Shared {
    fn glance(&self) -> Glance {
        Glance::from_word(self.glance.0.load(Ordering::Acquire))
    }

    /// When a call begins. The clock costs more than all the rest, so it is read only if somebody asks how long calls take.
    fn began(&self) -> Timestamp {
        if self.policy.slow_calls().is_some() { self.clock.now() } else { Timestamp::EPOCH }
    }

    #[inline]
    fn settle(&self, ticket: Ticket, health: Health) {
        if self.policy.slow_calls().is_some() || !self.glance().ignores(ticket, health) {
            self.settle_locked(ticket, health);
        }
    }

    // Out of line, so that the common case stays small enough to be part of its caller.
    #[inline(never)]
    fn settle_locked(&self, ticket: Ticket, health: Health) {
        let now = self.clock.now();
        self.change(|machine| machine.settle(&self.policy, ticket, health, now));
    }

    #[inline(never)]
    fn admit(&self) -> Result<Ticket, Duration> {
        let now = self.clock.now();
        self.change(|machine| machine.admit(&self.policy, now)).map_err(|until| match until {
            Timestamp::NEVER => Duration::MAX,
            until => until.saturating_since(now),
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut breaker::Breaker) -> T) -> T {
        let mut machine = self.lock();
        let done = change(&mut machine);
        let glance = machine.glance().to_word();
        // Written only when it is another, so that those who read it keep their copy of the cache line.
        if self.glance.0.load(Ordering::Relaxed) != glance {
            self.glance.0.store(glance, Ordering::Release);
        }
        done
    }

    fn lock(&self) -> MutexGuard<'_, breaker::Breaker> {
        // Its steps do not panic, so a poisoned lock holds a whole machine.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn health<T, E>(result: &Result<T, E>) -> Health {
    match result {
        Ok(_) => Health::Healthy,
        Err(_) => Health::Failing,
    }
}
