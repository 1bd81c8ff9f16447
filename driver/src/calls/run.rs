//! One call under way: everything except calling, sleeping and timing out.
//!
//! ```text
//! leave → an attempt → ended ─→ a value, or an error
//!   ↑ ↑________wait_________│
//!   │_______wait___
//! ```
//!
//! The clock is read only when something depends on it: a call whose first attempt gives a value does not read it,
//! unless the call is one that blocks.

use std::time::Duration;

use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Seed};

use super::classify::{Classify, Notify, Retrying};
use super::course::{Course, Polled, Reads, Stopped};
use super::error::StopReason;
use super::timer::Timer;
use super::upstream::{Leave, Leaving, Upstream};

/// What an attempt may know of the call that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt<'h> {
    /// Which one it is, from 1. For polls, which poll, with those before a [`resume`](super::Call::resume) included.
    pub number: u32,
    /// The idempotency key of the call ([`Call::key`](super::Call::key)): every attempt sends the same, so that the
    /// upstream runs no two of them.
    pub key: Option<&'h Key>,
    /// The time that is left until the call's deadline.
    pub left: Duration,
    /// What this attempt may take: the policy's time-out for an attempt, or what is left if that is less. An attempt
    /// that blocks cannot be cut off: give this to the client that makes the request.
    pub limit: Duration,
}

/// The time since the call began, read as late as possible.
pub(super) struct Elapsed<S: Timer> {
    begun: Option<S::Moment>,
    last: Duration,
}

impl<S: Timer> Elapsed<S> {
    /// The call begins when this is first read.
    #[inline]
    pub(super) const fn lazy() -> Self {
        Self { begun: None, last: Duration::ZERO }
    }

    /// The call begins now, and has a deadline.
    #[inline]
    pub(super) fn begun(timer: &S, deadline: Duration) -> Self {
        Self { begun: Some(timer.begin(deadline)), last: Duration::ZERO }
    }

    pub(super) fn read(&mut self, timer: &S) -> Duration {
        match self.begun {
            Some(begun) => self.last = timer.since(begun),
            None => self.begun = Some(timer.now()),
        }
        self.last
    }
}

/// What comes after an attempt.
pub(super) enum Next<T> {
    /// The first attempt.
    Start,
    Done(T),
    Wait(Duration),
    Stop(StopReason),
}

pub(super) struct Run<'h, M, C, N, E> {
    course: M,
    classify: C,
    notify: N,
    upstream: Upstream<'h>,
    repeatable: bool,
    key: Option<&'h Key>,
    seed: Option<Seed>,
    pub(super) attempts: u32,
    cause: Option<E>,
    failure: Option<Failure>,
    /// An attempt may have run, whatever became of later ones.
    doubt: bool,
    /// Something is waited for before the next attempt.
    waited: bool,
    /// The attempt under way has less time than a fair chance.
    is_late: bool,
}

impl<'h, M: Course, C, N, E> Run<'h, M, C, N, E> {
    #[inline]
    pub(super) fn new(
        course: M,
        (classify, notify): (C, N),
        upstream: Upstream<'h>,
        repeatable: bool,
        key: Option<&'h Key>,
        seed: Option<Seed>,
    ) -> Self {
        let attempts = course.before();
        let (cause, failure, doubt, waited, is_late) = (None, None, false, false, false);
        Self {
            course,
            classify,
            notify,
            upstream,
            repeatable,
            key,
            seed,
            attempts,
            cause,
            failure,
            doubt,
            waited,
            is_late,
        }
    }

    /// The wait before the first attempt, or why there is none.
    #[inline]
    pub(super) fn first<S: Timer, T>(&mut self, timer: &S, clock: &mut Elapsed<S>) -> Next<T> {
        let seed = &mut self.seed;
        let wait = self.course.first_wait(|| drawn(seed));
        if wait.is_zero() {
            return Next::Start;
        }
        clock.read(timer);
        if wait >= self.course.deadline() { Next::Stop(StopReason::Deadline) } else { self.wait(wait) }
    }

    /// Permission for the next attempt, or a wait, or the end.
    #[inline(always)]
    pub(super) fn leave<S: Timer>(&mut self, timer: &S, clock: &mut Elapsed<S>) -> Leaving<'h> {
        if self.waited {
            // What is left counts after a wait, however late it ended.
            self.waited = false;
            self.course.waited();
            if clock.read(timer) >= self.course.deadline() {
                return Leaving::Stop(StopReason::Deadline);
            }
        }
        if self.upstream.is_free() { Leaving::Go(Leave::FREE) } else { self.ask(timer, clock) }
    }

    // Out of line, so that a call without handles stays small.
    #[inline(never)]
    fn ask<S: Timer>(&mut self, timer: &S, clock: &mut Elapsed<S>) -> Leaving<'h> {
        loop {
            let left = self.course.deadline().saturating_sub(clock.last);
            let answer = self.upstream.leave(self.course.purpose(), left, self.fair_chance());
            if matches!(answer, Leaving::Go(_)) {
                return answer;
            }
            // The attempt does not begin at once: the time counts from here, if it did not before.
            let elapsed = clock.read(timer);
            return match answer {
                Leaving::Stop(StopReason::Budget) => match self.course.unpaid(elapsed) {
                    Ok(wait) if wait.is_zero() => continue,
                    Ok(wait) => {
                        self.waited = true;
                        Leaving::Wait(wait)
                    }
                    Err(why) => Leaving::Stop(why),
                },
                Leaving::Wait(wait) => {
                    self.waited = true;
                    Leaving::Wait(wait)
                }
                other => other,
            };
        }
    }

    /// An attempt begins.
    #[inline(always)]
    pub(super) fn begin<S: Timer>(&mut self, clock: &Elapsed<S>) -> Attempt<'h> {
        self.attempts = self.attempts.saturating_add(1);
        self.course.begun();
        let left = self.course.deadline().saturating_sub(clock.last);
        let limit = self.limit(clock.last);
        self.is_late = limit < self.fair_chance();
        Attempt { number: self.attempts, key: self.key, left, limit }
    }

    /// Half of what a first attempt has. One that has less, because it began just before the deadline, says nothing
    /// of the upstream if it is cut off there: in an overload all would be so late, and open the breaker for those behind
    /// them.
    fn fair_chance(&self) -> Duration {
        self.course.deadline().min(self.course.attempt_timeout()) / 2
    }

    /// What the attempt under way may take from now on.
    pub(super) fn limit(&self, elapsed: Duration) -> Duration {
        self.course.deadline().saturating_sub(elapsed).min(self.course.attempt_timeout())
    }

    /// The attempt has ended; `None`: it was cut off.
    #[inline]
    pub(super) fn ended<S: Timer, T>(
        &mut self,
        leave: Leave<'h>,
        result: Option<Polled<T, E>>,
        timer: &S,
        clock: &mut Elapsed<S>,
    ) -> Next<T>
    where
        C: Classify<E>,
        N: Notify<E>,
    {
        match result {
            Some(Polled::Ready(value)) => {
                leave.settle(None);
                Next::Done(value)
            }
            Some(Polled::Pending) => self.pending(leave, None, timer, clock),
            Some(Polled::PendingFor(hint)) => self.pending(leave, Some(hint), timer, clock),
            Some(Polled::Failed(error)) => {
                let failure = self.classify.classify(&error);
                self.failed(leave, Some(error), failure, timer, clock)
            }
            None => self.failed(leave, None, Failure::new(Class::TimedOut, Certainty::MayHaveExecuted), timer, clock),
        }
    }

    fn pending<S: Timer, T>(
        &mut self,
        leave: Leave<'h>,
        hint: Option<Duration>,
        timer: &S,
        clock: &mut Elapsed<S>,
    ) -> Next<T> {
        leave.settle(None);
        (self.cause, self.failure) = (None, None);
        let seed = drawn(&mut self.seed);
        match self.course.pending(hint, clock.read(timer), seed) {
            Ok(wait) => self.wait(wait),
            Err(why) => Next::Stop(why),
        }
    }

    // Out of line: the common case is an attempt that succeeds.
    #[inline(never)]
    fn failed<S: Timer, T>(
        &mut self,
        leave: Leave<'h>,
        error: Option<E>,
        failure: Failure,
        timer: &S,
        clock: &mut Elapsed<S>,
    ) -> Next<T>
    where
        N: Notify<E>,
    {
        let (elapsed, cut_off) = (clock.read(timer), error.is_none());
        if self.is_late && failure.class == Class::TimedOut {
            drop(leave);
        } else {
            leave.settle(Some(failure.class));
        }
        // The last error is kept, also if a later attempt timed out.
        if error.is_some() {
            self.cause = error;
        }
        self.failure = Some(failure);
        self.doubt |= failure.certainty != Certainty::NotExecuted;
        let seed = drawn(&mut self.seed);
        let next = self.course.failed(failure, self.repeatable, elapsed, seed);
        if cut_off && elapsed >= self.course.deadline() {
            return Next::Stop(StopReason::Deadline);
        }
        match next {
            Ok(wait) => {
                let cause = if cut_off { None } else { self.cause.as_ref() };
                self.notify.retrying(Retrying { attempt: self.attempts, cause, failure, wait, elapsed });
                self.wait(wait)
            }
            Err(why) => Next::Stop(why),
        }
    }

    fn wait<T>(&mut self, wait: Duration) -> Next<T> {
        self.waited = !wait.is_zero();
        Next::Wait(wait)
    }

    #[cold]
    pub(super) fn stopped<R, S: Timer>(self, why: StopReason, timer: &S, clock: &mut Elapsed<S>) -> M::Failed
    where
        M: Reads<R, Error = E>,
    {
        let Self { course, cause, mut failure, attempts, doubt, .. } = self;
        // A refusal after an attempt that may have run is no proof that nothing did.
        if let Some(last) = failure.as_mut().filter(|_| doubt) {
            last.certainty = last.certainty.max(Certainty::MayHaveExecuted);
        }
        course.error(Stopped { why, cause, failure, attempts, elapsed: clock.read(timer) })
    }
}

/// The call's own seed: drawn when it is first needed, if none was given.
fn drawn(seed: &mut Option<Seed>) -> Seed {
    *seed.get_or_insert_with(|| Seed::new(fastrand::u64(..)))
}
