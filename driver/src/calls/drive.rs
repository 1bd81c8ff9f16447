//! Calling, sleeping and timing out: a call as it runs, once for closures that are awaited and once for closures that
//! block.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use steadfast_core::Key;

use super::Call;
use super::classify::{Classify, Notify};
use super::course::{Course, Polled, Reads};
use super::run::{Attempt, Elapsed, Next, Run};
use super::timer::{AsyncTimer, BlockingTimer};
use super::upstream::{Leave, Leaving, Upstream};

// No `async fn`, and no value that moves once it is in the future: each move of what the future holds costs as much as
// a call that succeeds.
#[inline]
pub(super) fn drive<'h, R, M, S, C, N, F, A>(
    call: Call<'h, M, S, C, N>,
    mut attempt: F,
) -> impl Future<Output = Result<M::Value, M::Failed>>
where
    M: Course + Reads<R>,
    S: AsyncTimer,
    C: Classify<M::Error>,
    N: Notify<M::Error>,
    F: FnMut(Attempt<'h>) -> A,
    A: Future<Output = R>,
{
    let begins_at_once = call.begins_at_once();
    // One by one: captured whole, it would be copied by pieces other than it was written by, which stalls a processor
    // for longer than all the rest takes.
    let Call { course, timer, classify, notify, breaker, when_open, budget, limiter, key, repeatable, seed } = call;
    async move {
        // A future does not block when it is polled, so a first attempt that is ready at once needs no clock. Nor does
        // it need what a run holds: nothing of that is made before it is clear that there is a run.
        let first = if begins_at_once {
            let mut future = pin!(attempt(first_attempt(&course, key)));
            // Read where it is, since moving it costs.
            match poll_fn(|context| Poll::Ready(future.as_mut().poll(context).map(M::read))).await {
                Poll::Ready(Polled::Ready(value)) => return Ok(value),
                Poll::Ready(other) => Some((Some(other), Elapsed::lazy())),
                Poll::Pending => {
                    let mut clock = Elapsed::lazy();
                    clock.read(&timer);
                    let limit = first_attempt(&course, key).limit;
                    Some((within(&timer, limit, future).await.map(M::read), clock))
                }
            }
        } else {
            None
        };
        let upstream = Upstream::new(breaker, when_open, budget, limiter);
        let mut run = Run::new(course, (classify, notify), upstream, repeatable, key, seed);
        let (mut next, mut clock) = match first {
            Some((result, mut clock)) => {
                let _ = run.begin(&clock);
                (run.ended(Leave::FREE, result, &timer, &mut clock), clock)
            }
            None => {
                let mut clock = Elapsed::lazy();
                (run.first(&timer, &mut clock), clock)
            }
        };
        loop {
            match next {
                Next::Done(value) => return Ok(value),
                Next::Stop(why) => return Err(run.stopped(why, &timer, &mut clock)),
                Next::Wait(wait) if wait.is_zero() => turn(run.attempts).await,
                Next::Wait(wait) => timer.sleep(wait).await,
                Next::Start => {}
            }
            let leave = match run.leave(&timer, &mut clock) {
                Leaving::Go(leave) => leave,
                Leaving::Wait(wait) => {
                    next = Next::Wait(wait);
                    continue;
                }
                Leaving::Stop(why) => {
                    next = Next::Stop(why);
                    continue;
                }
            };
            let result = {
                // In a block, so that it is dropped before anything is waited for.
                let mut future = pin!(attempt(run.begin(&clock)));
                match poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await {
                    Poll::Ready(result) => Some(result),
                    Poll::Pending => {
                        let limit = run.limit(clock.read(&timer));
                        within(&timer, limit, future).await
                    }
                }
            };
            next = match result.map(M::read) {
                Some(Polled::Ready(value)) => {
                    leave.settle(None);
                    return Ok(value);
                }
                other => run.ended(leave, other, &timer, &mut clock),
            };
        }
    }
}

impl<'h, M, S, C, N> Call<'h, M, S, C, N> {
    /// Whether nothing delays the first attempt.
    #[inline]
    const fn begins_at_once(&self) -> bool
    where
        M: Course,
    {
        M::BEGINS_AT_ONCE && self.breaker.is_none() && self.budget.is_none() && self.limiter.is_none()
    }

    #[inline]
    fn into_run<E>(self) -> (Run<'h, M, C, N, E>, S)
    where
        M: Course,
    {
        let Self { course, timer, classify, notify, breaker, when_open, budget, limiter, key, repeatable, seed } = self;
        let upstream = Upstream::new(breaker, when_open, budget, limiter);
        (Run::new(course, (classify, notify), upstream, repeatable, key, seed), timer)
    }
}

/// What the first attempt is told, if it begins at once.
#[inline]
fn first_attempt<'h>(course: &impl Course, key: Option<&'h Key>) -> Attempt<'h> {
    let left = course.deadline();
    Attempt { number: 1, key, left, limit: left.min(course.attempt_timeout()) }
}

#[inline]
pub(super) fn drive_blocking<'h, R, M, S, C, N, F>(
    call: Call<'h, M, S, C, N>,
    mut attempt: F,
) -> Result<M::Value, M::Failed>
where
    M: Course + Reads<R>,
    S: BlockingTimer,
    C: Classify<M::Error>,
    N: Notify<M::Error>,
    F: FnMut(Attempt<'h>) -> R,
{
    let begins_at_once = call.begins_at_once();
    // Without a deadline nothing is decided by how long the first attempt takes, and a clock costs more than the rest.
    let deadline = call.course.deadline();
    let mut clock = if deadline == Duration::MAX { Elapsed::lazy() } else { Elapsed::begun(&call.timer, deadline) };
    let first = if begins_at_once {
        match M::read(attempt(first_attempt(&call.course, call.key))) {
            Polled::Ready(value) => return Ok(value),
            other => Some(other),
        }
    } else {
        None
    };
    let (mut run, timer) = call.into_run();
    let mut next = match first {
        Some(result) => {
            let _ = run.begin(&clock);
            run.ended(Leave::FREE, Some(result), &timer, &mut clock)
        }
        None => run.first(&timer, &mut clock),
    };
    loop {
        match next {
            Next::Done(value) => return Ok(value),
            Next::Stop(why) => return Err(run.stopped(why, &timer, &mut clock)),
            Next::Wait(wait) if wait.is_zero() => {}
            Next::Wait(wait) => timer.sleep(wait),
            Next::Start => {}
        }
        next = match run.leave(&timer, &mut clock) {
            Leaving::Go(leave) => {
                let result = attempt(run.begin(&clock));
                run.ended(leave, Some(M::read(result)), &timer, &mut clock)
            }
            Leaving::Wait(wait) => Next::Wait(wait),
            Leaving::Stop(why) => Next::Stop(why),
        };
    }
}

/// Awaits a future that has just been polled, for at most `limit`; `None` if that was not enough.
async fn within<A: Future>(timer: &impl AsyncTimer, limit: Duration, mut future: Pin<&mut A>) -> Option<A::Output> {
    /// A longer limit needs no timer: this is a century.
    const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);
    if limit >= FOR_EVER {
        return Some(future.await);
    }
    if limit.is_zero() {
        return None;
    }
    let mut sleep = pin!(timer.sleep(limit));
    // It has been polled in this very turn, so it will wake this task: asking again now would be for nothing.
    let mut asked = true;
    poll_fn(|context: &mut Context<'_>| {
        // The timer first: under a runtime that counts what a task does in one turn, a busy future would leave the
        // timer no turn. An answer that comes together with the time-out still counts.
        let over = sleep.as_mut().poll(context).is_ready();
        if !std::mem::take(&mut asked)
            && let Poll::Ready(result) = future.as_mut().poll(context)
        {
            return Poll::Ready(Some(result));
        }
        if over { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// At most this many attempts without delay follow each other before others get a turn.
const ATTEMPTS_A_TURN: u32 = 32;

/// Gives the runtime a turn now and then.
async fn turn(attempts: u32) {
    if !attempts.is_multiple_of(ATTEMPTS_A_TURN) {
        return;
    }
    let mut had = false;
    poll_fn(|context| {
        if std::mem::replace(&mut had, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
