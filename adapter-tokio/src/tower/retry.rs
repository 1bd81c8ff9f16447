//! The retry policy as a layer: what failed and may be sent again is sent again, by a copy.
//!
//! ```text
//!   Calling ── a good result, or no retry ─→ the result
//!      │ ↖
//!      ↓  ╲
//!   Pausing → Readying      the same service is asked whether it is ready, as at first; the wait counts against the deadline
//! ```
//!
//! The core decides ([`RetryPolicy::decide`]). This adds the copy, made before each attempt, and the time: the
//! deadline counts from the call; an attempt is given the policy's time-out or what is left, whichever is less; an
//! attempt that has ended is dropped before the pause.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use steadfast_core::budget::Charge;
use steadfast_core::retry::{Certainty, Failure, RetryDecision, RetryPolicy};
use steadfast_core::{Seed, Timestamp};
use tokio::time::{Instant, Sleep};
use tower_layer::Layer;
use tower_service::Service;

use super::classify::{AnyError, Classify, TIMED_OUT};
use super::error::LayerError;
use super::poll_sleep;
use super::repeat::{Again, IfNotExecuted, Repeat};
use crate::RetryBudget;

/// Sends failed requests again, by a [`RetryPolicy`]: its attempts, pauses, time-out and deadline, with a server's
/// `Retry-After` where [`classify`](RetryLayer::classify) reads one.
///
/// It is safe by default: a request is repeated only if it was certainly not executed. [`repeat`](RetryLayer::repeat)
/// says what may be repeated anyway. When there is no further attempt the result is that of the last one, as it was: a
/// 503 is a response.
///
/// If an attempt before the last may have been executed, an error is [`LayerError::Ambiguous`]: that the last one was
/// refused, by a gate or by the network, does not undo the first. A response cannot say so: a 429 after a time-out
/// only speaks about itself.
///
/// The inner service must be `Clone`, since a call goes on after the service has been asked for the next one. Put this
/// layer outermost in a stack: see the [module](super).
///
/// ```
/// use std::time::Duration;
///
/// use steadfast_core::backoff::BackoffPolicy;
/// use steadfast_core::retry::RetryPolicy;
/// use steadfast_tokio::tower::{Again, RetryLayer};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let zero_fails = service_fn(async |n: u32| if n == 0 { Err(std::io::Error::other("reset")) } else { Ok(n) });
/// let policy = RetryPolicy::new(3, Duration::from_secs(30), Duration::from_secs(5), BackoffPolicy::default())?;
/// let layer = RetryLayer::new(policy).repeat(|n: &u32| Some(Again::Always(n + 1))); // a copy may differ
/// let mut service = ServiceBuilder::new().layer(layer).service(zero_fails);
/// assert_eq!(service.ready().await?.call(0).await?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer<C = AnyError, R = IfNotExecuted> {
    policy: RetryPolicy,
    classify: C,
    repeat: R,
    budget: Option<RetryBudget>,
    seed: Seed,
    /// Numbers requests that are repeated, so that each has pauses of its own.
    repeated: Arc<AtomicU64>,
}

impl RetryLayer {
    /// A layer with this policy; every error counts as a failure that may have been executed, requests are cloned, and
    /// there is no budget.
    #[must_use]
    pub fn new(policy: RetryPolicy) -> Self {
        Self {
            policy,
            classify: AnyError,
            repeat: IfNotExecuted,
            budget: None,
            seed: Seed::new(fastrand::u64(..)),
            repeated: Arc::default(),
        }
    }
}

impl<C, R> RetryLayer<C, R> {
    /// Sets how results are classified. Default: [`AnyError`].
    #[must_use]
    pub fn classify<D>(self, classify: D) -> RetryLayer<D, R> {
        let Self { policy, classify: _, repeat, budget, seed, repeated } = self;
        RetryLayer { policy, classify, repeat, budget, seed, repeated }
    }

    /// Sets which requests may be sent again, and how they are copied. Default: [`IfNotExecuted`].
    #[must_use]
    pub fn repeat<Q>(self, repeat: Q) -> RetryLayer<C, Q> {
        let Self { policy, classify, repeat: _, budget, seed, repeated } = self;
        RetryLayer { policy, classify, repeat, budget, seed, repeated }
    }

    /// Pays for each retry from this budget. If it is spent there is no retry. Default: none.
    #[must_use]
    pub fn with_budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Draws all jitter from this seed, to repeat a run. Default: one drawn at random.
    #[must_use]
    pub const fn with_seed(mut self, seed: Seed) -> Self {
        self.seed = seed;
        self
    }
}

impl<S, C: Clone, R: Clone> Layer<S> for RetryLayer<C, R> {
    type Service = RetryService<S, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryService { inner, layer: Arc::new(self.clone()) }
    }
}

/// A service whose requests are sent again. Made by [`RetryLayer`].
#[derive(Debug)]
pub struct RetryService<S, C = AnyError, R = IfNotExecuted> {
    inner: S,
    layer: Arc<RetryLayer<C, R>>,
}

impl<S: Clone, C, R> Clone for RetryService<S, C, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: Arc::clone(&self.layer) }
    }
}

impl<S, C, R, Req> Service<Req> for RetryService<S, C, R>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error>,
    R: Repeat<Req>,
{
    type Response = S::Response;
    type Error = LayerError<S::Error>;
    type Future = RetryFuture<S, Req, C, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(LayerError::Failed)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        // The one that was ready makes the call; a clone need not be ready.
        let clone = self.inner.clone();
        let mut service = std::mem::replace(&mut self.inner, clone);
        let layer = Arc::clone(&self.layer);
        if let Some(budget) = &layer.budget {
            budget.first_attempt();
        }
        let again = layer.again(&request, 1);
        let future = service.call(request);
        let started = Instant::now();
        RetryFuture {
            state: State::Calling { future },
            waiting: Waiting { sleep: None, is_armed: false },
            attempt: Attempt { made: 1, began: started, charge: None },
            started,
            seed: None,
            again,
            unsent: None,
            last: None,
            may_have_run: false,
            service,
            layer,
        }
    }
}

impl<C, R> RetryLayer<C, R> {
    /// The copy that may follow the attempt of this number.
    fn again<Req>(&self, request: &Req, attempt: u16) -> Option<Again<Req>>
    where
        R: Repeat<Req>,
    {
        if attempt < self.policy.attempts() { self.repeat.again(request) } else { None }
    }

    fn deadline(&self, started: Instant) -> Instant {
        later(started, self.policy.deadline())
    }
}

pin_project! {
    /// A call that is made again if it fails. If it is dropped, it ends with the attempt that is under way.
    #[must_use = "futures do nothing unless polled"]
    pub struct RetryFuture<S, Req, C = AnyError, R = IfNotExecuted>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S::Future>,
        waiting: Waiting,
        attempt: Attempt,
        started: Instant,
        seed: Option<Seed>,
        again: Option<Again<Req>>,
        // The payment for the retry that is about to leave.
        unsent: Option<Paid>,
        last: Option<LayerError<S::Error>>,
        // Whether one of the attempts that have ended may have run.
        may_have_run: bool,
        service: S,
        layer: Arc<RetryLayer<C, R>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Calling { #[pin] future: F },
        Pausing { until: Instant },
        Readying,
        Done,
    }
}

struct Attempt {
    /// How many have been made, with this one.
    made: u16,
    began: Instant,
    charge: Option<Charge>,
}

/// One timer for all waits of a call: for the time-out, the pause, the deadline.
struct Waiting {
    sleep: Option<Pin<Box<Sleep>>>,
    is_armed: bool,
}

impl Waiting {
    fn poll_until(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = match &mut self.sleep {
            Some(sleep) if self.is_armed => sleep,
            Some(sleep) => {
                sleep.as_mut().reset(until);
                sleep
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(until))),
        };
        self.is_armed = true;
        ready!(poll_sleep(sleep.as_mut(), cx));
        self.is_armed = false;
        Poll::Ready(())
    }

    const fn disarm(&mut self) {
        self.is_armed = false;
    }
}

/// A retry that was paid for and has not left. If it is dropped, it is paid back.
struct Paid {
    budget: RetryBudget,
    charge: Option<Charge>,
}

impl Paid {
    fn sent(mut self) -> Option<Charge> {
        self.charge.take()
    }
}

impl Drop for Paid {
    fn drop(&mut self) {
        if let Some(charge) = self.charge.take() {
            self.budget.refund(charge);
        }
    }
}

/// At most this many attempts without a pause follow each other before other tasks get a turn.
const ATTEMPTS_A_TURN: u16 = 32;

impl<S, Req, C, R> Future for RetryFuture<S, Req, C, R>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    R: Repeat<Req>,
{
    type Output = Result<S::Response, LayerError<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let policy = &this.layer.policy;
        loop {
            match this.state.as_mut().project() {
                StateProj::Calling { future } => {
                    let (failure, result) = match future.poll(cx) {
                        Poll::Ready(result) => {
                            let failure = this.layer.classify.classify(&result);
                            (failure, result.map_err(|error| failed(*this.may_have_run, error)))
                        }
                        Poll::Pending => {
                            let began = this.attempt.began;
                            let until = later(began, policy.attempt_timeout()).min(this.layer.deadline(*this.started));
                            ready!(this.waiting.poll_until(until, cx));
                            (Some(TIMED_OUT), Err(LayerError::TimedOut { after: until - began }))
                        }
                    };
                    this.waiting.disarm();
                    // Whatever comes, this attempt has ended: what it holds is freed before anything is waited for.
                    this.state.set(State::Done);
                    let Some(mut failure) = failure else {
                        if let Some(budget) = &this.layer.budget {
                            budget.succeeded(this.attempt.charge.take());
                        }
                        return Poll::Ready(result);
                    };
                    if *this.may_have_run {
                        failure.certainty = failure.certainty.max(Certainty::MayHaveExecuted);
                    }
                    *this.may_have_run = failure.certainty != Certainty::NotExecuted;
                    let seed = *this.seed.get_or_insert_with(|| {
                        this.layer.seed.derive(this.layer.repeated.fetch_add(1, Ordering::Relaxed))
                    });
                    let again = this.again.as_ref();
                    let Some(pause) = pause(this.layer, again, this.attempt.made, failure, *this.started, seed) else {
                        return Poll::Ready(result);
                    };
                    if let Some(budget) = &this.layer.budget {
                        let Ok(charge) = budget.withdraw(failure.class) else { return Poll::Ready(result) };
                        *this.unsent = Some(Paid { budget: budget.clone(), charge: Some(charge) });
                    }
                    tracing::debug!(attempt = this.attempt.made, class = ?failure.class, ?pause, "a request failed and is sent again");
                    // A response is dropped: one whose body is unread holds a connection.
                    *this.last = Some(result.err().unwrap_or_else(|| deadline_passed(failure, pause)));
                    if !pause.is_zero() {
                        this.state.set(State::Pausing { until: later(Instant::now(), pause) });
                        continue;
                    }
                    // No pause, no timer.
                    this.state.set(State::Readying);
                    if this.attempt.made.is_multiple_of(ATTEMPTS_A_TURN) {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                StateProj::Pausing { until } => {
                    ready!(this.waiting.poll_until(*until, cx));
                    this.state.set(State::Readying);
                }
                StateProj::Readying => {
                    let deadline = this.layer.deadline(*this.started);
                    let is_late = match this.service.poll_ready(cx) {
                        Poll::Ready(Ok(())) => Instant::now() >= deadline,
                        Poll::Ready(Err(error)) => {
                            this.state.set(State::Done);
                            return Poll::Ready(Err(failed(*this.may_have_run, error)));
                        }
                        Poll::Pending => {
                            ready!(this.waiting.poll_until(deadline, cx));
                            true
                        }
                    };
                    this.waiting.disarm();
                    let request = this.again.take().filter(|_| !is_late);
                    let Some(request) = request.map(Again::into_request) else {
                        this.state.set(State::Done);
                        *this.unsent = None;
                        return Poll::Ready(Err(this.last.take().expect("a retry follows a failure")));
                    };
                    let made = this.attempt.made.saturating_add(1);
                    *this.again = this.layer.again(&request, made);
                    *this.attempt =
                        Attempt { made, began: Instant::now(), charge: this.unsent.take().and_then(Paid::sent) };
                    this.state.set(State::Calling { future: this.service.call(request) });
                }
                StateProj::Done => panic!("polled after its end"),
            }
        }
    }
}

const fn failed<E>(may_have_run: bool, error: E) -> LayerError<E> {
    if may_have_run { LayerError::Ambiguous(error) } else { LayerError::Failed(error) }
}

/// tokio's clock ends somewhere; a century is as good as never.
fn later(instant: Instant, span: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    instant.checked_add(span.min(CENTURY)).unwrap_or(instant)
}

/// The error for a response that was dropped for a retry that then could not leave.
fn deadline_passed<E>(last: Failure, waited: Duration) -> LayerError<E> {
    let still_asked = last.retry_after.map(|asked| asked.saturating_sub(waited)).filter(|left| !left.is_zero());
    LayerError::DeadlinePassed { last: last.with_retry_after(still_asked) }
}

/// How long to pause before the next attempt; `None` if there is none.
fn pause<C, R, Req>(
    layer: &RetryLayer<C, R>,
    again: Option<&Again<Req>>,
    made: u16,
    failure: Failure,
    started: Instant,
    seed: Seed,
) -> Option<Duration> {
    let is_repeatable = again?.is_always();
    // The policy compares moments of one clock: this one began with the call.
    let now = Timestamp::EPOCH.saturating_add(started.elapsed());
    match layer.policy.decide(made, failure, Timestamp::EPOCH, now, is_repeatable, seed) {
        RetryDecision::At(at) => Some(at.saturating_since(now)),
        RetryDecision::GiveUp(_) => None,
    }
}

impl<S: Service<Req>, Req, C, R> fmt::Debug for RetryFuture<S, Req, C, R> {
    /// Without the request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryFuture").field("made", &self.attempt.made).finish_non_exhaustive()
    }
}
