//! Calls that are not jobs: repeated when they fail, or asked again until what they ask for is ready.
//!
//! A [`Call`] is a policy and what goes with it, to be run with a closure. The core decides ([`RetryPolicy::decide`],
//! [`PollPolicy`]), behind the two [courses](course::Course); a [`Run`](run::Run) is one call under way, which takes
//! time as an argument; what is left is to call, to sleep and to time out (`drive`), once for closures that are
//! awaited and once for closures that block. An adapter supplies the [timer](AsyncTimer) and a function to begin with.
//!
//! What holds, each a test:
//!
//! - no attempt begins at the deadline or later, and one that is awaited is cut off there; waits at a breaker or a
//!   limiter count;
//! - what is left is computed after a wait, not before;
//! - a zero delay touches no timer; a closure that fails again and again without delay gives the runtime a turn now and
//!   then;
//! - an attempt that has ended is dropped before the wait for the next;
//! - a future that is dropped, at whatever moment, leaves breaker and limiter as if it had never been, except for a
//!   retry that was sent and paid for;
//! - a call whose first attempt gives a value allocates nothing and, if it is awaited, reads no clock.

mod classify;
mod course;
mod drive;
mod error;
mod run;
mod timer;
mod upstream;

pub use self::classify::{Classify, EveryError, Notify, Retrying, Silent, When, http_failure, http_response};
pub use self::course::{PollAnswer, PollState, Polled, Polls, Retries};
pub use self::error::{PollError, RetryError, StopReason};
pub use self::run::Attempt;
pub use self::timer::{AsyncTimer, BlockingTimer, Timer, VirtualTimer};

use std::borrow::Borrow;
use std::fmt;

use steadfast_core::gate::WhenOpen;
use steadfast_core::poll::PollPolicy;
#[cfg(doc)]
use steadfast_core::retry::Class;
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Key, Seed};

use self::drive::{drive, drive_blocking};
use crate::handles::{Breaker, RateLimiter, RetryBudget};

/// How a closure is to be called: by a [`RetryPolicy`] ([`Retries`]) or a [`PollPolicy`] ([`Polls`]), with what goes
/// with it.
///
/// An adapter begins it (`steadfast_tokio::retry`, `steadfast_blocking::poll_until` and so on). `C`
/// [classifies](Classify) errors, `N` is [told](Notify) of them, `S` is the timer. Breaker, budget and limiter are
/// borrowed, so that a call changes no reference count that threads share.
#[derive(Clone)]
#[must_use = "it does nothing until you call `run` or `call`"]
pub struct Call<'h, M, S, C = EveryError, N = Silent> {
    course: M,
    timer: S,
    classify: C,
    notify: N,
    breaker: Option<&'h Breaker>,
    when_open: WhenOpen,
    budget: Option<&'h RetryBudget>,
    limiter: Option<&'h RateLimiter>,
    key: Option<&'h Key>,
    repeatable: bool,
    seed: Option<Seed>,
}

impl<P: Borrow<RetryPolicy>, S> Call<'_, Retries<P>, S> {
    /// Repeats a call that fails, by this policy: a `RetryPolicy`, or a reference to one.
    pub fn retry(policy: P, timer: S) -> Self {
        Self::new(Retries::new(policy), timer)
    }
}

impl<P: Borrow<PollPolicy>, S> Call<'_, Polls<P>, S> {
    /// Asks until something is ready, by this policy: a `PollPolicy`, or a reference to one. Its settings about
    /// answers (`not_found_grace`, `accept_partial`) are for the closure to heed.
    pub fn poll_until(policy: P, timer: S) -> Self {
        Self::new(Polls::new(policy), timer)
    }

    /// Goes on from where an earlier call [ran out of time](PollError::resume): the deadline and the polls count anew,
    /// and the first poll waits for what was owed.
    pub fn resume(mut self, state: PollState) -> Self {
        self.course.resumed(state);
        self
    }
}

impl<'h, M, S> Call<'h, M, S> {
    const fn new(course: M, timer: S) -> Self {
        Self {
            course,
            timer,
            classify: EveryError,
            notify: Silent,
            breaker: None,
            when_open: WhenOpen::Wait,
            budget: None,
            limiter: None,
            key: None,
            repeatable: true,
            seed: None,
        }
    }
}

impl<'h, M, S, C, N> Call<'h, M, S, C, N> {
    /// Repeats only after errors for which `transient` returns `true`. Default: after every error.
    pub fn when<E, F: FnMut(&E) -> bool>(self, transient: F) -> Call<'h, M, S, When<F>, N> {
        self.with_classify(When(transient))
    }

    /// Classifies errors by `classify`, which returns a [`Class`], or a [`Failure`] with the wait that the upstream
    /// asks for and whether the request certainly did not run. For HTTP answers, use [`http_failure`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use steadfast_core::retry::{Class, Failure, RetryPolicy};
    /// use steadfast_driver::{Call, VirtualTimer};
    ///
    /// enum Trouble { Busy { seconds: u64 }, Reset, Invalid }
    ///
    /// let timer = VirtualTimer::new();
    /// let mut answers = [Err(Trouble::Busy { seconds: 30 }), Err(Trouble::Reset), Ok("done")].into_iter();
    /// let done = Call::retry(RetryPolicy::default(), timer.clone())
    ///     .classify(|error: &Trouble| match error {
    ///         Trouble::Busy { seconds } => {
    ///             Failure::from(Class::Throttled).with_retry_after(Some(Duration::from_secs(*seconds)))
    ///         }
    ///         Trouble::Reset => Class::Transient.into(),
    ///         Trouble::Invalid => Class::Permanent.into(),
    ///     })
    ///     .call(|| answers.next().unwrap());
    /// assert!(done.is_ok() && timer.elapsed() >= Duration::from_secs(30));
    /// ```
    pub fn classify<E, V: Into<Failure>, F: FnMut(&E) -> V>(self, classify: F) -> Call<'h, M, S, F, N> {
        self.with_classify(classify)
    }

    fn with_classify<D>(self, classify: D) -> Call<'h, M, S, D, N> {
        let Self { course, timer, classify: _, notify, breaker, when_open, budget, limiter, key, repeatable, seed } =
            self;
        Call { course, timer, classify, notify, breaker, when_open, budget, limiter, key, repeatable, seed }
    }

    /// Calls `notify` after each failed attempt that is followed by another, before the wait.
    pub fn notify<E, F: FnMut(Retrying<'_, E>)>(self, notify: F) -> Call<'h, M, S, C, F> {
        let Self { course, timer, classify, notify: _, breaker, when_open, budget, limiter, key, repeatable, seed } =
            self;
        Call { course, timer, classify, notify, breaker, when_open, budget, limiter, key, repeatable, seed }
    }

    /// Measures and waits by another timer: a [`VirtualTimer`] in tests, or one of your own.
    pub fn timer<U>(self, timer: U) -> Call<'h, M, U, C, N> {
        let Self { course, timer: _, classify, notify, breaker, when_open, budget, limiter, key, repeatable, seed } =
            self;
        Call { course, timer, classify, notify, breaker, when_open, budget, limiter, key, repeatable, seed }
    }

    /// Asks this breaker before each attempt and tells it how the attempt ended. While the breaker is open, the call
    /// waits within its deadline, which uses up no attempt; see [`when_open`](Call::when_open).
    pub const fn breaker(mut self, breaker: &'h Breaker) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// Sets what to do while the breaker is open. Default: [`WhenOpen::Wait`]. With [`WhenOpen::Refuse`] the call ends
    /// at once, as [`StopReason::BreakerOpen`].
    pub const fn when_open(mut self, when_open: WhenOpen) -> Self {
        self.when_open = when_open;
        self
    }

    /// Pays for each retry from this budget, when the retry is about to leave. If the budget is spent the call ends
    /// (after the wait, so that callers who try again at once do not make a hot loop); polls go on at their slowest
    /// pace.
    pub const fn budget(mut self, budget: &'h RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Waits for a place in this limiter's line before each attempt, within the deadline.
    pub const fn limiter(mut self, limiter: &'h RateLimiter) -> Self {
        self.limiter = Some(limiter);
        self
    }

    /// Sets the idempotency key that every [`Attempt`] is to send.
    pub const fn key(mut self, key: &'h Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Sets whether an attempt that may have run may be repeated. Default: yes. With `false`, retries go on only after
    /// failures that are [certain](steadfast_core::retry::Certainty::NotExecuted) not to have run; a [`Class`] alone
    /// does not say that, nor does a time-out. Polls only read, so it changes nothing for them.
    pub const fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = repeatable;
        self
    }

    /// Draws all jitter from this seed, to repeat a run. Default: one drawn at random, when it is first needed.
    pub const fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }
}

impl<'h, P: Borrow<RetryPolicy>, S, C, N> Call<'h, Retries<P>, S, C, N> {
    /// Calls `attempt` and awaits it, again and again as the policy says.
    ///
    /// An attempt that takes longer than the policy's time-out is dropped, and so is one that is under way at the
    /// deadline. Dropping the future ends everything.
    ///
    /// # Errors
    /// Why there was no further attempt, with the last error.
    #[inline]
    pub fn run<T, E, F, A>(self, mut attempt: F) -> impl Future<Output = Result<T, RetryError<E>>>
    where
        F: FnMut() -> A,
        A: Future<Output = Result<T, E>>,
        C: Classify<E>,
        N: Notify<E>,
        S: AsyncTimer,
    {
        drive(self, move |_| attempt())
    }

    /// The same; each attempt is given its number, the key and the time that it has.
    ///
    /// # Errors
    /// As [`run`](Call::run).
    #[inline]
    pub fn run_with<T, E, F, A>(self, attempt: F) -> impl Future<Output = Result<T, RetryError<E>>>
    where
        F: FnMut(Attempt<'h>) -> A,
        A: Future<Output = Result<T, E>>,
        C: Classify<E>,
        N: Notify<E>,
        S: AsyncTimer,
    {
        drive(self, attempt)
    }

    /// Calls `attempt`, which may block, again and again as the policy says, on this thread.
    ///
    /// A call that blocks cannot be cut off, so neither the deadline nor the policy's time-out for an attempt ends one:
    /// give [`Attempt::limit`] to what makes the request ([`call_with`](Call::call_with)).
    ///
    /// # Errors
    /// Why there was no further attempt, with the last error.
    #[inline]
    pub fn call<T, E, F>(self, mut attempt: F) -> Result<T, RetryError<E>>
    where
        F: FnMut() -> Result<T, E>,
        C: Classify<E>,
        N: Notify<E>,
        S: BlockingTimer,
    {
        drive_blocking(self, move |_| attempt())
    }

    /// The same; each attempt is given its number, the key and the time that it has.
    ///
    /// # Errors
    /// As [`call`](Call::call).
    #[inline]
    pub fn call_with<T, E, F>(self, attempt: F) -> Result<T, RetryError<E>>
    where
        F: FnMut(Attempt<'h>) -> Result<T, E>,
        C: Classify<E>,
        N: Notify<E>,
        S: BlockingTimer,
    {
        drive_blocking(self, attempt)
    }
}

impl<'h, P: Borrow<PollPolicy>, S, C, N> Call<'h, Polls<P>, S, C, N> {
    /// Waits by the schedule, calls `poll` and awaits it, until it says [`Polled::Ready`].
    ///
    /// # Errors
    /// Why it was not asked again; unless that was refused, asking can be [resumed](PollError::resume).
    pub fn run<R, F, A>(self, mut poll: F) -> impl Future<Output = Result<R::Value, PollError<R::Error>>>
    where
        R: PollAnswer,
        F: FnMut() -> A,
        A: Future<Output = R>,
        C: Classify<R::Error>,
        N: Notify<R::Error>,
        S: AsyncTimer,
    {
        drive(self, move |_| poll())
    }

    /// The same; each poll is given its number, the key and the time that it has.
    ///
    /// # Errors
    /// As [`run`](Call::run).
    pub fn run_with<R, F, A>(self, poll: F) -> impl Future<Output = Result<R::Value, PollError<R::Error>>>
    where
        R: PollAnswer,
        F: FnMut(Attempt<'h>) -> A,
        A: Future<Output = R>,
        C: Classify<R::Error>,
        N: Notify<R::Error>,
        S: AsyncTimer,
    {
        drive(self, poll)
    }

    /// Waits by the schedule and calls `poll`, which may block, on this thread, until it says [`Polled::Ready`].
    ///
    /// # Errors
    /// Why it was not asked again; unless that was refused, asking can be [resumed](PollError::resume).
    pub fn call<R, F>(self, mut poll: F) -> Result<R::Value, PollError<R::Error>>
    where
        R: PollAnswer,
        F: FnMut() -> R,
        C: Classify<R::Error>,
        N: Notify<R::Error>,
        S: BlockingTimer,
    {
        drive_blocking(self, move |_| poll())
    }

    /// The same; each poll is given its number, the key and the time that it has.
    ///
    /// # Errors
    /// As [`call`](Call::call).
    pub fn call_with<R, F>(self, poll: F) -> Result<R::Value, PollError<R::Error>>
    where
        R: PollAnswer,
        F: FnMut(Attempt<'h>) -> R,
        C: Classify<R::Error>,
        N: Notify<R::Error>,
        S: BlockingTimer,
    {
        drive_blocking(self, poll)
    }
}

impl<M: fmt::Debug, S, C, N> fmt::Debug for Call<'_, M, S, C, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { course, breaker, when_open, budget, limiter, key, repeatable, seed, .. } = self;
        f.debug_struct("Call")
            .field("course", course)
            .field("breaker", breaker)
            .field("when_open", when_open)
            .field("budget", budget)
            .field("limiter", limiter)
            .field("key", key)
            .field("repeatable", repeatable)
            .field("seed", seed)
            .finish_non_exhaustive()
    }
}
