//! What comes after an attempt: the two courses (retries or polls) that a call can take.
//!
//! | after | [`Retries`], by a `RetryPolicy` | [`Polls`], by a `PollPolicy` |
//! | --- | --- | --- |
//! | nothing yet | at once | the schedule's first wait |
//! | a value | the end | the end |
//! | *pending* | does not occur | the schedule's next wait; the streak of failures ends |
//! | a failure | the backoff, or the end | the backoff, then the schedule's slowest pace; only a permanent one ends it |
//! | a retry that the budget refuses | the end | the schedule's slowest pace, which costs none |
//!
//! The core decides all of it. A course holds the counts, and takes the time that has passed since the call began, as
//! an argument.

use std::borrow::Borrow;
use std::time::Duration;

use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Class, Failure, RetryDecision, RetryPolicy};
use steadfast_core::{Seed, Timestamp};

use super::error::{PollError, RetryError, StopReason};
use super::upstream::Purpose;

/// The result of a poll.
///
/// ```
/// use steadfast_driver::Polled;
///
/// fn read(status: &str, body: &str) -> Polled<String, String> {
///     match status {
///         "done" => Polled::Ready(body.into()),
///         "failed" => Polled::Failed(body.into()),
///         _ => Polled::Pending, // what is not known yet is no end
///     }
/// }
/// assert_eq!(read("running", ""), Polled::Pending);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "it is ready, or not yet, or it could not be told")]
pub enum Polled<T, E> {
    /// Not yet: ask again by the schedule.
    Pending,
    /// Not yet, and the upstream asks not to be asked again before this time has passed.
    PendingFor(Duration),
    /// It is ready, with this value.
    Ready(T),
    /// The poll failed. Whether asking again can help is for [`Call::when`](super::Call::when) and
    /// [`Call::classify`](super::Call::classify) to say; by default it can.
    Failed(E),
}

/// What a closure that polls may return: a [`Polled`], or a `Result` of one, so that `?` can be used.
pub trait PollAnswer {
    /// The value of [`Polled::Ready`].
    type Value;
    /// The error of [`Polled::Failed`].
    type Error;

    /// The answer as a [`Polled`].
    fn polled(self) -> Polled<Self::Value, Self::Error>;
}

impl<T, E> PollAnswer for Polled<T, E> {
    type Value = T;
    type Error = E;

    fn polled(self) -> Self {
        self
    }
}

impl<T, E> PollAnswer for Result<Polled<T, E>, E> {
    type Value = T;
    type Error = E;

    fn polled(self) -> Polled<T, E> {
        self.unwrap_or_else(Polled::Failed)
    }
}

/// Where to go on asking from: see [`PollError::resume`]. Plain data, so that it can be kept, also over a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct PollState {
    /// How many polls there have been: the next ones are numbered from there.
    pub polls: u32,
    /// How long to wait before the next one: what the schedule, or the upstream, asked for when there was no time for
    /// it. Set it to zero if that time has passed since.
    pub wait: Duration,
}

/// How a call ended without a value: what both kinds of error are made of.
#[derive(Debug)]
pub(super) struct Stopped<E> {
    pub(super) why: StopReason,
    pub(super) cause: Option<E>,
    pub(super) failure: Option<Failure>,
    pub(super) attempts: u32,
    pub(super) elapsed: Duration,
}

/// What comes after an attempt.
pub(super) trait Course {
    /// Whether the first attempt, attempt 1, begins without any wait.
    const BEGINS_AT_ONCE: bool;
    fn deadline(&self) -> Duration;
    fn attempt_timeout(&self) -> Duration;
    /// Before the first attempt.
    fn first_wait(&mut self, seed: impl FnOnce() -> Seed) -> Duration;
    /// What the next attempt asks the retry budget for.
    fn purpose(&self) -> Purpose;
    fn begun(&mut self);
    /// A wait has ended, whatever comes of the next attempt.
    fn waited(&mut self) {}
    fn pending(&mut self, hint: Option<Duration>, elapsed: Duration, seed: Seed) -> Result<Duration, StopReason>;
    fn failed(
        &mut self,
        failure: Failure,
        repeatable: bool,
        elapsed: Duration,
        seed: Seed,
    ) -> Result<Duration, StopReason>;
    /// The budget has refused the retry.
    fn unpaid(&mut self, elapsed: Duration) -> Result<Duration, StopReason>;
    /// How many attempts there were before this run.
    fn before(&self) -> u32;
}

/// What a closure's result means to a course, and what its end is made of.
pub(super) trait Reads<R> {
    type Value;
    type Error;
    type Failed;

    fn read(result: R) -> Polled<Self::Value, Self::Error>;
    fn error(self, stopped: Stopped<Self::Error>) -> Self::Failed;
}

/// A call that is repeated when it fails, by the `RetryPolicy` in it.
#[derive(Clone, Copy, Debug)]
pub struct Retries<P> {
    policy: P,
    made: u16,
    after: Option<Class>,
}

impl<P: Borrow<RetryPolicy>> Retries<P> {
    pub(super) const fn new(policy: P) -> Self {
        Self { policy, made: 0, after: None }
    }
}

impl<P: Borrow<RetryPolicy>> Course for Retries<P> {
    const BEGINS_AT_ONCE: bool = true;

    #[inline]
    fn deadline(&self) -> Duration {
        self.policy.borrow().deadline()
    }

    #[inline]
    fn attempt_timeout(&self) -> Duration {
        self.policy.borrow().attempt_timeout()
    }

    fn first_wait(&mut self, _: impl FnOnce() -> Seed) -> Duration {
        Duration::ZERO
    }

    fn purpose(&self) -> Purpose {
        self.after.map_or(Purpose::First, Purpose::Retry)
    }

    fn begun(&mut self) {
        self.made = self.made.saturating_add(1);
    }

    fn pending(&mut self, hint: Option<Duration>, _: Duration, _: Seed) -> Result<Duration, StopReason> {
        // Retries never read a result as *pending*.
        Ok(hint.unwrap_or_default())
    }

    fn failed(
        &mut self,
        failure: Failure,
        repeatable: bool,
        elapsed: Duration,
        seed: Seed,
    ) -> Result<Duration, StopReason> {
        self.after = Some(failure.class);
        let now = START.saturating_add(elapsed);
        wait(self.policy.borrow().decide(self.made, failure, START, now, repeatable, seed), now)
    }

    fn unpaid(&mut self, _: Duration) -> Result<Duration, StopReason> {
        Err(StopReason::Budget)
    }

    fn before(&self) -> u32 {
        0
    }
}

impl<P, T, E> Reads<Result<T, E>> for Retries<P> {
    type Value = T;
    type Error = E;
    type Failed = RetryError<E>;

    #[inline]
    fn read(result: Result<T, E>) -> Polled<T, E> {
        match result {
            Ok(value) => Polled::Ready(value),
            Err(error) => Polled::Failed(error),
        }
    }

    fn error(self, Stopped { why, cause, failure, attempts, elapsed }: Stopped<E>) -> RetryError<E> {
        RetryError { why, cause, failure, attempts, elapsed }
    }
}

/// Asking until something is ready, by the `PollPolicy` in it.
#[derive(Clone, Copy, Debug)]
pub struct Polls<P> {
    policy: P,
    pending: u16,
    streak: u16,
    /// The wait before the next poll, whether there is time for it or not.
    owed: Duration,
    resumed: Option<PollState>,
    after: Option<Class>,
}

impl<P: Borrow<PollPolicy>> Polls<P> {
    pub(super) const fn new(policy: P) -> Self {
        Self { policy, pending: 0, streak: 0, owed: Duration::ZERO, resumed: None, after: None }
    }

    pub(super) const fn resumed(&mut self, state: PollState) {
        self.resumed = Some(state);
    }
}

impl<P: Borrow<PollPolicy>> Course for Polls<P> {
    const BEGINS_AT_ONCE: bool = false;

    #[inline]
    fn deadline(&self) -> Duration {
        self.policy.borrow().deadline()
    }

    fn attempt_timeout(&self) -> Duration {
        self.policy.borrow().retry().attempt_timeout()
    }

    fn first_wait(&mut self, seed: impl FnOnce() -> Seed) -> Duration {
        self.owed = match self.resumed {
            Some(state) => state.wait,
            None => self.policy.borrow().wait(0, None, seed()),
        };
        self.owed
    }

    fn purpose(&self) -> Purpose {
        self.after.map_or(Purpose::Poll, Purpose::Retry)
    }

    fn begun(&mut self) {
        self.owed = Duration::ZERO;
    }

    fn waited(&mut self) {
        self.owed = Duration::ZERO;
    }

    fn pending(&mut self, hint: Option<Duration>, elapsed: Duration, seed: Seed) -> Result<Duration, StopReason> {
        let (policy, now) = (self.policy.borrow(), START.saturating_add(elapsed));
        self.pending = self.pending.saturating_add(1);
        self.streak = 0;
        self.after = None;
        self.owed = policy.wait(self.pending, hint, seed);
        wait(policy.decide_pending(self.pending, hint, START, now, seed), now)
    }

    fn failed(&mut self, failure: Failure, _: bool, elapsed: Duration, seed: Seed) -> Result<Duration, StopReason> {
        let (policy, now) = (self.policy.borrow(), START.saturating_add(elapsed));
        self.streak = self.streak.saturating_add(1);
        // Once the retries are used up it goes on at the schedule's slowest pace, which is no retry and needs no
        // budget.
        let retry = self.streak < policy.retry().attempts() && failure.class != Class::Unauthorized;
        self.after = retry.then_some(failure.class);
        self.owed = policy.wait_after_failure(self.streak, failure, seed);
        wait(policy.decide_failed(self.streak, failure, START, now, seed), now)
    }

    fn unpaid(&mut self, elapsed: Duration) -> Result<Duration, StopReason> {
        self.after = None;
        self.owed = self.policy.borrow().schedule().cap();
        if elapsed.saturating_add(self.owed) < self.deadline() { Ok(self.owed) } else { Err(StopReason::Deadline) }
    }

    fn before(&self) -> u32 {
        self.resumed.map_or(0, |state| state.polls)
    }
}

impl<P, R: PollAnswer> Reads<R> for Polls<P> {
    type Value = R::Value;
    type Error = R::Error;
    type Failed = PollError<R::Error>;

    fn read(result: R) -> Polled<R::Value, R::Error> {
        result.polled()
    }

    fn error(self, Stopped { why, cause, failure, attempts, elapsed }: Stopped<R::Error>) -> PollError<R::Error> {
        PollError {
            why,
            cause,
            failure,
            polls: attempts.saturating_sub(self.resumed.map_or(0, |state| state.polls)),
            elapsed,
            state: PollState { polls: attempts, wait: self.owed },
        }
    }
}

/// A call's own time begins here.
const START: Timestamp = Timestamp::EPOCH;

fn wait(decision: RetryDecision, now: Timestamp) -> Result<Duration, StopReason> {
    match decision {
        RetryDecision::At(at) => Ok(at.saturating_since(now)),
        RetryDecision::GiveUp(why) => Err(why.into()),
    }
}
