//! A gate to put before any call: breaker, retry budget, bulkhead and rate limits as one.
//!
//! The [machine](steadfast_core::gate) is the core's and answers at once. This adds a line for calls that must wait,
//! one for each kind of request, and the calling:
//!
//! - the first in line asks; when it has its permit, or stops waiting, the next is called. No later one gets in before,
//!   unless callers lose patience (`gate/line.rs`): a place that is given up goes to the next that comes, and after a
//!   call that is given up the last in line goes before the first, never twice in a row;
//! - a caller that gives a permit back calls the first, if the gate would let it go now;
//! - where only time helps, the first has a timer.
//!
//! **A waiter that is not being polled does not hold up others.** A task may hold a half-finished wait that it never
//! polls again, or a service that it has asked to be ready and never calls: both would block a fair line for ever. So
//! every waiter looks in once in [`RECHECK`](steadfast_core::gate::Gate::RECHECK), and one that has not done so for
//! twice as long is passed over until it comes again; and a permit that is kept for later is given to others once it
//! is older than [`RECHECK`](steadfast_core::gate::Gate::RECHECK) (`gate/line.rs`).
//!
//! Invariants, each a property test: once all permits are dropped, [`Gate::in_flight`] is 0 and the breaker can close
//! (I8, I17), whatever was polled, called or dropped in whatever order; waiters go in the order of asking, as long as
//! nobody gives up; a waiter that is polled goes in the end.

mod line;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use steadfast_core::breaker::BreakerState;
use steadfast_core::gate::{self, Blocked, GatePolicy, Request, Settled};
use steadfast_core::{Seed, Timestamp};
use steadfast_driver::SharedClock;
use tokio::task::coop::consume_budget;
use tokio::time::{Sleep, sleep};

use self::line::{Asked, State};
use crate::clock;

/// A gate, shared by tasks and threads: cloning is cheap and shares it.
///
/// ```
/// use steadfast_core::Kind;
/// use steadfast_core::bulkhead::BulkheadPolicy;
/// use steadfast_core::gate::{GatePolicy, Request, Settled};
/// use steadfast_tokio::Gate;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let gate = Gate::new(GatePolicy::default().with_bulkhead(Some(BulkheadPolicy::fixed(1)?)));
/// let permit = gate.acquire(Request::first(Kind::Create)).await?;
/// assert!(gate.try_acquire(Request::first(Kind::Create)).is_err()); // one at a time
/// // … the call …
/// permit.settle(Settled::Answered);
/// assert_eq!(gate.in_flight(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Gate(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    clock: SharedClock,
}

/// The gate did not let a call go: it was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the call was not made ({}): {}", why.name(), Advice(*retry_in))]
#[non_exhaustive]
pub struct Refused {
    /// What stood in the way.
    pub why: Blocked,
    /// When asking again makes sense. [`Duration::MAX`] while an operator has isolated the upstream: only they can end
    /// that.
    pub retry_in: Duration,
}

impl Refused {
    pub(crate) const fn new(why: Blocked, retry_in: Duration) -> Self {
        Self { why, retry_in }
    }
}

struct Advice(Duration);

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Duration::MAX => f.write_str("the upstream is isolated until an operator resets its breaker"),
            retry_in => write!(f, "ask again in {retry_in:?}"),
        }
    }
}

impl Gate {
    /// A gate with the machines of this policy. Its breaker's open times are spread by a seed drawn at random.
    #[must_use]
    pub fn new(policy: GatePolicy) -> Self {
        Self::with_seed(policy, Seed::new(fastrand::u64(..)))
    }

    /// A gate with a seed of your own, to repeat a run.
    #[must_use]
    pub fn with_seed(policy: GatePolicy, seed: Seed) -> Self {
        Self::restored(gate::Gate::new(policy, seed))
    }

    /// A gate that was stored ([`snapshot`](Gate::snapshot)). Requests that were in the air then are not counted.
    #[must_use]
    pub fn restored(machine: gate::Gate) -> Self {
        let clock = clock::shared();
        let state = Mutex::new(State::new(machine.restored(clock.now())));
        Self(Arc::new(Shared { state, clock }))
    }

    /// Asks leave for one call, now or not at all.
    ///
    /// # Errors
    /// The gate says wait, or no; or others are in line before it. Nothing was taken.
    pub fn try_acquire(&self, request: Request) -> Result<GatePermit, Refused> {
        let now = self.0.clock.now();
        let admitted = self.0.lock().try_admit(request, now);
        admitted.map(|permit| self.permit(permit, false))
    }

    /// Waits for leave for one call, in the order of asking. Needs a tokio runtime with its timer enabled, if it has to
    /// wait.
    ///
    /// Under overload, callers whose time-out is for the wait and the call together would all leave the line with too
    /// little left for the call. So those who give up make way for others: their place in the line goes to the next that
    /// asks, and if they have left it already, the last in line goes before the first, never twice in a row.
    ///
    /// Cancel-safe: if it is dropped, it has taken nothing, and the next in line goes.
    ///
    /// # Errors
    /// The gate says no: the breaker is open and the policy has
    /// [`WhenOpen::Refuse`](steadfast_core::gate::WhenOpen::Refuse), or the retry budget is spent.
    pub async fn acquire(&self, request: Request) -> Result<GatePermit, Refused> {
        // A loop that is never asked to wait must not be all that its thread does.
        consume_budget().await;
        let mut turn = Turn::new(self.clone(), request);
        std::future::poll_fn(|cx| turn.poll(cx)).await
    }

    /// Operates the machine by hand, at this time: [`hold_until`](gate::Gate::hold_until),
    /// [`set_policy`](gate::Gate::set_policy), [`learn`](gate::Gate::learn), [`breaker_mut`](gate::Gate::breaker_mut).
    /// Waiters that may go now are called afterwards.
    ///
    /// Take permits by [`acquire`](Gate::acquire): one that is taken from the machine itself must be settled there.
    ///
    /// `change` runs while the gate is locked, and everybody who asks waits for it. It must be short, and must not use
    /// this gate, use one of its permits or drop one: it would wait for ever for the lock that it holds itself.
    pub fn work<T>(&self, change: impl FnOnce(&mut gate::Gate, Timestamp) -> T) -> T {
        let now = self.0.clock.now();
        self.0.change(now, |state| change(&mut state.gate, now))
    }

    /// Calls that have leave and have not ended, and permits that are kept for later.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.lock().gate.in_flight()
    }

    /// How many calls wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting()
    }

    /// What the breaker is doing; closed if there is none.
    #[must_use]
    pub fn breaker_state(&self) -> BreakerState {
        self.0.lock().gate.breaker_state(self.0.clock.now())
    }

    /// The machine as it is now, to be stored.
    #[must_use]
    pub fn snapshot(&self) -> gate::Gate {
        self.0.lock().gate.clone()
    }

    /// Whether it would refuse the request now, rather than let it go or have it wait.
    #[cfg(feature = "tower")]
    pub(crate) fn refuses(&self, request: Request) -> Option<Refused> {
        let now = self.0.clock.now();
        let state = self.0.lock();
        match state.gate.check(request, now) {
            Some(gate::Admission::Refuse(refusal)) => Some(state.refused(refusal, now)),
            _ => None,
        }
    }

    fn permit(&self, permit: gate::Permit, waited: bool) -> GatePermit {
        GatePermit { gate: self.clone(), permit: Some(permit), waited }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock();
        f.debug_struct("Gate")
            .field("breaker", &state.gate.breaker_state(self.0.clock.now()).name())
            .field("in_flight", &state.gate.in_flight())
            .field("waiting", &state.waiting())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The machine's steps do not panic, so a poisoned lock holds a whole one (but for what a closure of `work`
        // left).
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the gate, and then calls the waiters that may go. They are called outside the lock, since a waker runs
    /// others' code.
    fn change<T>(&self, now: Timestamp, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let done = change(&mut state);
        let woken = state.call(now);
        drop(state);
        woken.wake();
        done
    }
}

/// Permission for one call. Say how the call ended ([`settle`](GatePermit::settle)). If the permit is dropped, the
/// call counts as abandoned: what it took in the rate limits stays taken, and it says nothing about the upstream.
#[must_use = "dropped at once, its place in the rate limits is lost"]
pub struct GatePermit {
    gate: Gate,
    permit: Option<gate::Permit>,
    /// It was given to somebody who stood in line.
    waited: bool,
}

impl GatePermit {
    /// Says how the call ended. [`Settled::Unsent`] gives back all that it took.
    pub fn settle(mut self, how: Settled) {
        self.end(how);
    }

    fn end(&mut self, how: Settled) {
        if let Some(permit) = self.permit.take() {
            let shared = &*self.gate.0;
            let now = shared.clock.now();
            shared.change(now, |state| {
                state.gate.settle(permit, how, now);
                if self.waited && how == Settled::Abandoned {
                    state.was_too_late(permit.kind());
                }
            });
        }
    }
}

impl Drop for GatePermit {
    fn drop(&mut self) {
        self.end(Settled::Abandoned);
    }
}

impl fmt::Debug for GatePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GatePermit").field(&self.permit).finish()
    }
}

/// Somebody's wait at the gate. When it is dropped, it leaves the line.
pub(crate) struct Turn {
    gate: Gate,
    request: Request,
    /// In the line, once it had to wait.
    place: Option<u64>,
    waited: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Turn {
    pub(crate) const fn new(gate: Gate, request: Request) -> Self {
        Self { gate, request, place: None, waited: false, sleep: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<GatePermit, Refused>> {
        loop {
            let permit = match self.ask(cx) {
                Asked::Go(permit) => permit,
                Asked::Refused(refused) => return Poll::Ready(Err(refused)),
                Asked::Wait(wait) => {
                    ready!(poll_new_sleep(&mut self.sleep, wait, cx));
                    continue;
                }
            };
            return Poll::Ready(Ok(self.gate.permit(permit, self.waited)));
        }
    }

    fn ask(&mut self, cx: &Context<'_>) -> Asked {
        let shared = &*self.gate.0;
        let now = shared.clock.now();
        let mut state = shared.lock();
        state.come(&mut self.place, self.request, cx.waker(), now);
        let was_in_line = self.place.is_some();
        let asked = state.ask(&mut self.place, self.request, cx.waker(), now);
        self.waited |= matches!(asked, Asked::Wait(_));
        // A waiter that leaves the line makes way for the next.
        let woken = if was_in_line && self.place.is_none() { state.call(now) } else { state.call_nobody() };
        drop(state);
        woken.wake();
        asked
    }
}

/// Sleeps anew, in the same place. Not by the earlier sleep, reset: that belongs to the runtime that it was made on, and
/// a service may wait on another.
pub(crate) fn poll_new_sleep(place: &mut Option<Pin<Box<Sleep>>>, wait: Duration, cx: &mut Context<'_>) -> Poll<()> {
    let sleep = sleep(wait);
    let place = match place {
        Some(place) => {
            place.set(sleep);
            place
        }
        none => none.insert(Box::pin(sleep)),
    };
    place.as_mut().poll(cx)
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let shared = &*self.gate.0;
            shared.change(shared.clock.now(), |state| state.give_up(place, self.request.kind));
        }
    }
}

/// A permit that is kept for a call that may never be made: a ready service's. When it is dropped, all that was taken
/// is given back.
#[cfg(feature = "tower")]
pub(crate) struct Kept {
    gate: Gate,
    request: Request,
    number: Option<u64>,
    waited: bool,
}

#[cfg(feature = "tower")]
impl Kept {
    pub(crate) fn new(mut permit: GatePermit, request: Request) -> Self {
        let gate = permit.gate.clone();
        let now = gate.0.clock.now();
        let number = permit.permit.take().map(|permit| gate.0.lock().keep(permit, now));
        Self { gate, request, number, waited: permit.waited }
    }

    /// The permit, for a call that leaves now. If it was kept for too long, or is from before the breaker opened or
    /// the gate was held, the gate is asked again.
    pub(crate) fn claim(mut self) -> Result<GatePermit, Refused> {
        let shared = &*self.gate.0;
        let now = shared.clock.now();
        let number = self.number.take();
        let claimed = shared.change(now, |state| state.claim(number, self.request, now));
        claimed.map(|permit| self.gate.permit(permit, self.waited))
    }
}

#[cfg(feature = "tower")]
impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            let shared = &*self.gate.0;
            let now = shared.clock.now();
            shared.change(now, |state| state.give_back(number, now));
        }
    }
}
