//! A circuit breaker to put around any call.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steadfast_core::breaker::{self, BreakerPolicy, BreakerState, Glance, Health, Ticket, Trip, Window};
use steadfast_core::{Seed, Timestamp};

use super::Alone;
use super::clock::SharedClock;
use super::tally::Tally;

/// A circuit breaker, shared by tasks and threads: cloning is cheap and shares it.
///
/// The [machine](steadfast_core::breaker) is the core's, and opens at the same call as if one thread made all calls,
/// in the order in which they are settled. While all is well, calls only read one word. While there are bad calls in a
/// window, each thread counts its good calls for itself, and the next bad one collects the counts; so threads get in
/// each other's way only through calls that fail, are slow, or probe. Where the time matters (a window of time, slow
/// calls) each call reads the clock as well.
///
/// Cancel-safe: if a call's future is dropped, or panics, its permit is released and no result is recorded.
///
/// ```
/// use steadfast_core::breaker::BreakerPolicy;
/// use steadfast_driver::{Breaker, CallError};
///
/// let breaker = Breaker::new(BreakerPolicy::consecutive(2)?);
/// let greeting = breaker.call(|| Ok::<_, std::io::Error>("hello"));
/// assert_eq!(greeting.unwrap(), "hello");
///
/// let failing = || Err::<(), _>(std::io::Error::other("down"));
/// for _ in 0..2 {
///     assert!(matches!(breaker.call(failing), Err(CallError::Failed(_))));
/// }
/// assert!(matches!(breaker.call(failing), Err(CallError::Open { .. }))); // not called any more
/// # Ok::<(), steadfast_core::PolicyError>(())
/// ```
#[derive(Clone)]
pub struct Breaker(Arc<Shared>);

struct Shared {
    policy: BreakerPolicy,
    published: Alone<Published>,
    /// Good calls that the machine has not been told of; `None` for a machine that counts failures in a row.
    tally: Option<Tally>,
    /// Whether good calls must know the time.
    timed: bool,
    machine: Mutex<breaker::Breaker>,
    clock: SharedClock,
}

/// What can be known of the machine at a glance, renewed after every change.
struct Published {
    glance: AtomicU64,
    /// Until when good calls go to the tally.
    counts_until: AtomicU64,
    /// Until when no call goes: while it is open, or isolated.
    refuses_until: AtomicU64,
}

/// A thread's shard of the tally that has reached this is collected: a window of calls holds no more, so it is full of
/// good ones then.
const COLLECT_AT: u32 = 512;

/// Why a call gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E> {
    /// The breaker did not let it through: no call was made.
    #[error("the breaker is open: ask again in {retry_in:?}")]
    Open {
        /// When asking again makes sense; [`Duration::MAX`] while it is isolated.
        retry_in: Duration,
    },
    /// The call was made and failed.
    #[error(transparent)]
    Failed(E),
}

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
        Self::with_clock(policy, machine, SharedClock::start())
    }

    /// A breaker that was stored ([`snapshot`](Breaker::snapshot)), with the settings it had.
    #[must_use]
    pub fn restored(policy: BreakerPolicy, machine: breaker::Breaker) -> Self {
        Self::with_clock(policy, machine, SharedClock::start())
    }

    /// A breaker, new or stored, that goes by another clock than the machine's own: a runtime's, or a test's.
    #[must_use]
    pub fn with_clock(policy: BreakerPolicy, machine: breaker::Breaker, clock: SharedClock) -> Self {
        let machine = machine.restored(&policy, clock.now());
        let published = Alone(Published {
            glance: AtomicU64::new(machine.glance().to_word()),
            counts_until: AtomicU64::new(machine.counts_until().as_nanos()),
            refuses_until: AtomicU64::new(refuses_until(&machine).as_nanos()),
        });
        let trip = policy.trip();
        let tally = matches!(trip, Trip::Rate { .. }).then(|| Tally::new(machine.epoch()));
        let timed = policy.slow_calls().is_some() || matches!(trip, Trip::Rate { window: Window::Time(_), .. });
        Self(Arc::new(Shared { policy, published, tally, timed, machine: Mutex::new(machine), clock }))
    }

    /// Makes a call if the breaker lets it through. An `Err` counts as a failure of the upstream.
    ///
    /// # Errors
    /// The call's own error, or that the call was not made.
    pub fn call<T, E>(&self, call: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.call_classified(call, health)
    }

    /// The same, where `classify` says what a result says about the upstream: a refused request, say, is a sign of its
    /// health.
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

    /// Awaits a future if the breaker lets it through; otherwise the future is not polled. An `Err` counts as a
    /// failure of the upstream.
    ///
    /// # Errors
    /// The future's own error, or that it was not awaited.
    pub async fn call_async<T, E>(&self, future: impl Future<Output = Result<T, E>>) -> Result<T, CallError<E>> {
        self.call_async_classified(future, health).await
    }

    /// The same, where `classify` says what a result says about the upstream.
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

    /// Asks leave for one call, for code that is not a closure. Dropping the permit gives it back and says nothing
    /// about the upstream.
    ///
    /// # Errors
    /// Not now: how long to wait before asking again; [`Duration::MAX`] while it is isolated.
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, Duration> {
        let shared = &*self.0;
        let ticket = match shared.glance().ticket(shared.began()) {
            Some(ticket) => ticket,
            None => shared.admit()?,
        };
        Ok(Permit { shared, ticket: Some(ticket) })
    }

    /// The same for a call that outlives the borrow, such as a future that is handed on. It holds a clone of the
    /// breaker.
    ///
    /// ```
    /// use steadfast_core::breaker::{BreakerPolicy, Health};
    /// use steadfast_driver::Breaker;
    ///
    /// let breaker = Breaker::new(BreakerPolicy::default());
    /// let permit = breaker.acquire_owned().expect("it is closed");
    /// std::thread::spawn(move || permit.settle(Health::Healthy)).join().unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`acquire`](Breaker::acquire).
    pub fn acquire_owned(&self) -> Result<OwnedPermit, Duration> {
        let ticket = self.acquire()?.ticket.take();
        Ok(OwnedPermit { breaker: self.clone(), ticket })
    }

    /// What [`acquire`](Breaker::acquire) would say; nothing changes.
    ///
    /// # Errors
    /// As [`acquire`](Breaker::acquire).
    pub fn check(&self) -> Result<(), Duration> {
        let shared = &*self.0;
        if shared.glance().ticket(Timestamp::EPOCH).is_some() {
            return Ok(());
        }
        let now = shared.clock.now();
        shared.lock().check(&shared.policy, now).map_err(|until| wait(until, now))
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.0.lock().state(self.0.clock.now())
    }

    /// Opens it for this long.
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
        self.0.change(|machine| machine.clone())
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("state", &self.state()).field("policy", &self.0.policy).finish()
    }
}

/// Permission for one call. See [`Breaker::acquire`].
#[must_use = "`settle` it when the call has ended: a permit that is dropped counts for nothing"]
pub struct Permit<'a> {
    shared: &'a Shared,
    ticket: Option<Ticket>,
}

impl Permit<'_> {
    /// Says how the call ended.
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

/// Permission for one call, with a clone of the breaker. If it is dropped, it is given back and says nothing about the
/// upstream. See [`Breaker::acquire_owned`].
#[must_use = "`settle` it when the call has ended: a permit that is dropped counts for nothing"]
pub struct OwnedPermit {
    breaker: Breaker,
    ticket: Option<Ticket>,
}

impl OwnedPermit {
    /// Says how the call ended.
    pub fn settle(mut self, health: Health) {
        self.end(health);
    }

    fn end(&mut self, health: Health) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.0.settle(ticket, health);
        }
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.end(Health::Ignored);
    }
}

impl fmt::Debug for OwnedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedPermit").field(&self.ticket).finish()
    }
}

impl Shared {
    fn glance(&self) -> Glance {
        // Acquires what was published before it, so that a ticket of an epoch never meets `counts_until` of an earlier
        // one.
        Glance::from_word(self.published.0.glance.load(Ordering::Acquire))
    }

    /// When a call begins. Reading the clock costs more than all the rest, so it is read only if somebody asks how
    /// long calls take.
    fn began(&self) -> Timestamp {
        if self.policy.slow_calls().is_some() { self.clock.now() } else { Timestamp::EPOCH }
    }

    #[inline]
    fn settle(&self, ticket: Ticket, health: Health) {
        if self.policy.slow_calls().is_some() || !self.glance().ignores(ticket, health) {
            self.settle_counted(ticket, health);
        }
    }

    // Out of line, so that the common case stays small enough to be part of its caller.
    #[inline(never)]
    fn settle_counted(&self, ticket: Ticket, health: Health) {
        if let (Some(tally), Health::Healthy) = (&self.tally, health) {
            let now = if self.timed { self.clock.now() } else { Timestamp::EPOCH };
            let until = Timestamp::from_nanos(self.published.0.counts_until.load(Ordering::Relaxed));
            // Between this look and the count a slice of time may end. Then the call is counted in the next, as one
            // that was settled a moment later.
            if now < until && !ticket.is_slow(&self.policy, now) {
                if tally.count(ticket.epoch()) >= COLLECT_AT {
                    self.change(|_| ());
                }
                return;
            }
        }
        self.settle_locked(ticket, health);
    }

    fn settle_locked(&self, ticket: Ticket, health: Health) {
        let now = self.clock.now();
        self.change(|machine| machine.settle(&self.policy, ticket, health, now));
    }

    #[inline(never)]
    fn admit(&self) -> Result<Ticket, Duration> {
        let now = self.clock.now();
        // An outage is when most threads ask: they need not wait for each other to be refused.
        let until = Timestamp::from_nanos(self.published.0.refuses_until.load(Ordering::Acquire));
        if until > now {
            return Err(wait(until, now));
        }
        self.change(|machine| machine.admit(&self.policy, now)).map_err(|until| wait(until, now))
    }

    fn change<T>(&self, change: impl FnOnce(&mut breaker::Breaker) -> T) -> T {
        let mut machine = self.lock();
        if let Some(tally) = &self.tally {
            let good = tally.collect(machine.epoch());
            machine.absorb(&self.policy, good);
        }
        let done = change(&mut machine);
        // Written only if they differ, so that those who read them keep their copy of the cache line. The glance last:
        // see there.
        let Published { glance, counts_until, refuses_until: refuses } = &self.published.0;
        publish(refuses, refuses_until(&machine).as_nanos());
        publish(counts_until, machine.counts_until().as_nanos());
        publish(glance, machine.glance().to_word());
        done
    }

    fn lock(&self) -> MutexGuard<'_, breaker::Breaker> {
        // Its steps do not panic, so a poisoned lock holds a whole machine.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait(until: Timestamp, now: Timestamp) -> Duration {
    match until {
        Timestamp::NEVER => Duration::MAX,
        until => until.saturating_since(now),
    }
}

const fn refuses_until(machine: &breaker::Breaker) -> Timestamp {
    match machine.state(Timestamp::EPOCH) {
        BreakerState::Open { until } => until,
        BreakerState::Isolated => Timestamp::NEVER,
        _ => Timestamp::EPOCH,
    }
}

fn publish(to: &AtomicU64, word: u64) {
    // Nobody else writes: the lock is held.
    if to.load(Ordering::Relaxed) != word {
        to.store(word, Ordering::Release);
    }
}

const fn health<T, E>(result: &Result<T, E>) -> Health {
    match result {
        Ok(_) => Health::Healthy,
        Err(_) => Health::Failing,
    }
}
