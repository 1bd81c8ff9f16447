//! How a call that is not a job knows the time, and waits.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::handles::SharedClock;

/// A clock to measure with.
pub trait Timer {
    /// A moment of this clock.
    type Moment: Copy + Send;

    /// Now.
    fn now(&self) -> Self::Moment;

    /// Now, for a call that begins and may take as long as `deadline`. A clock may return a moment that is a little
    /// earlier, if that is cheaper and the difference is small beside that time; never a later one, since a deadline
    /// that counts from here must be kept. By default it is [`now`](Timer::now).
    fn begin(&self, deadline: Duration) -> Self::Moment {
        let _ = deadline;
        self.now()
    }

    /// How much time has passed since `moment`; zero if that lies in the future.
    fn since(&self, moment: Self::Moment) -> Duration;
}

/// A timer on which a task can sleep.
///
/// ```
/// use std::time::{Duration, Instant};
/// use steadfast_core::retry::RetryPolicy;
/// use steadfast_driver::{AsyncTimer, Call, Timer};
///
/// #[derive(Clone, Copy)]
/// struct Smol;
///
/// impl Timer for Smol {
///     type Moment = Instant;
///     fn now(&self) -> Instant {
///         Instant::now()
///     }
///     fn since(&self, moment: Instant) -> Duration {
///         moment.elapsed()
///     }
/// }
///
/// impl AsyncTimer for Smol {
///     async fn sleep(&self, span: Duration) {
///         smol::Timer::after(span).await;
///     }
/// }
///
/// # async fn fetch() -> Result<&'static str, std::io::Error> { Ok("hello") }
/// # smol::block_on(async {
/// let text = Call::retry(RetryPolicy::default(), Smol).run(fetch).await?;
/// assert_eq!(text, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no timer for tasks",
    note = "use `call` instead of `run` (and `call_with` instead of `run_with`), or the `retry` of `steadfast-tokio`"
)]
pub trait AsyncTimer: Timer {
    /// Sleeps for this long. Never called with zero.
    ///
    /// A call's future can go to another thread if this one can (and the futures that it awaits). On a runtime of one
    /// thread, or in a browser, it need not.
    fn sleep(&self, span: Duration) -> impl Future<Output = ()>;
}

/// A timer on which a thread can sleep.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no timer for threads",
    note = "use `run` instead of `call` (and `run_with` instead of `call_with`), or the `retry` of `steadfast-blocking`"
)]
pub trait BlockingTimer: Timer {
    /// Sleeps for this long. Never called with zero.
    fn sleep(&self, span: Duration);
}

/// Time that passes only when somebody sleeps, for tests: cloning shares it.
///
/// ```
/// use std::time::Duration;
/// use steadfast_driver::{BlockingTimer, Timer, VirtualTimer};
///
/// let timer = VirtualTimer::new();
/// let start = timer.now();
/// BlockingTimer::sleep(&timer, Duration::from_secs(3_600)); // at once
/// assert_eq!(timer.since(start), Duration::from_secs(3_600));
/// ```
#[derive(Clone, Default)]
pub struct VirtualTimer(Arc<AtomicU64>);

impl VirtualTimer {
    /// A timer that stands at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets this much time pass.
    pub fn advance(&self, span: Duration) {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        // It guards nothing: a thread that reads it has its order from whatever it synchronises by.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |passed| Some(passed.saturating_add(nanos)));
    }

    /// How much time has passed.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// A clock for breakers, limiters and budgets that shows this time.
    #[must_use]
    pub fn clock(&self) -> SharedClock {
        let start = self.elapsed();
        let timer = self.clone();
        SharedClock::following(move || timer.elapsed().saturating_sub(start))
    }
}

impl Timer for VirtualTimer {
    type Moment = Duration;

    fn now(&self) -> Duration {
        self.elapsed()
    }

    fn since(&self, moment: Duration) -> Duration {
        self.elapsed().saturating_sub(moment)
    }
}

impl AsyncTimer for VirtualTimer {
    async fn sleep(&self, span: Duration) {
        self.advance(span);
    }
}

impl BlockingTimer for VirtualTimer {
    fn sleep(&self, span: Duration) {
        self.advance(span);
    }
}

impl fmt::Debug for VirtualTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VirtualTimer").field(&self.elapsed()).finish()
    }
}
