//! Repeating any call, or asking again until something is ready, on the calling thread.

mod clock;

use std::borrow::Borrow;
use std::thread;
use std::time::Duration;

use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_driver::{BlockingTimer, Call, EveryError, Polls, Retries, Silent, Timer};

pub use self::clock::Moment;

/// The machine's clock, and the thread's sleep.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SystemTimer;

/// For a time this long, a tick of the system's clock (4 ms on most machines, 10 at most) is a hundredth or less.
const LONG: Duration = Duration::from_secs(1);

impl Timer for SystemTimer {
    type Moment = Moment;

    #[inline]
    fn now(&self) -> Moment {
        Moment::now()
    }

    #[inline]
    fn begin(&self, deadline: Duration) -> Moment {
        if deadline >= LONG { Moment::last_tick() } else { Moment::now() }
    }

    fn since(&self, moment: Moment) -> Duration {
        moment.elapsed()
    }
}

impl BlockingTimer for SystemTimer {
    fn sleep(&self, span: Duration) {
        thread::sleep(span);
    }
}

/// A repeated call, made by [`retry`]: its options, and [`call`](Call::call).
pub type Retry<'h, P = RetryPolicy, C = EveryError, N = Silent> = Call<'h, Retries<P>, SystemTimer, C, N>;

/// A polled call, made by [`poll_until`]: its options, and [`call`](Call::call).
pub type PollUntil<'h, P = PollPolicy, C = EveryError, N = Silent> = Call<'h, Polls<P>, SystemTimer, C, N>;

/// Repeats a call that fails, by this policy.
///
/// ```
/// use steadfast_blocking::retry;
/// use steadfast_core::retry::RetryPolicy;
///
/// # fn fetch() -> Result<String, std::io::Error> { Ok("hello".into()) }
/// let text = retry(RetryPolicy::default()).call(|| fetch())?;
/// assert_eq!(text, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// By default every `Err` is repeated, up to the policy's attempts. No attempt begins at the policy's deadline or
/// later; **one that blocks cannot be cut off**, by the deadline or by the policy's time-out for an attempt, so give
/// [`Attempt::limit`](steadfast_driver::Attempt::limit) to what makes the request:
///
/// ```
/// use std::io::Error;
/// use std::net::{SocketAddr, TcpStream};
/// use std::time::Duration;
/// use steadfast_blocking::{StopReason, VirtualTimer, retry};
/// use steadfast_core::retry::RetryPolicy;
///
/// let closed = SocketAddr::from(([127, 0, 0, 1], 1));
/// let error = retry(RetryPolicy::default())
///     .when(|error: &Error| error.kind() != std::io::ErrorKind::InvalidInput)
///     .timer(VirtualTimer::new()) // in a test: nobody sleeps
///     .call_with(|attempt| TcpStream::connect_timeout(&closed, attempt.limit.min(Duration::from_secs(1))))
///     .unwrap_err();
/// assert_eq!((error.why, error.attempts), (StopReason::Attempts, 5));
/// ```
///
/// The other options: what an error means ([`classify`](Call::classify), with
/// [`http_failure`](steadfast_driver::http_failure) for HTTP), a [`breaker`](Call::breaker), a
/// [`budget`](Call::budget) and a [`limiter`](Call::limiter) that calls share, an idempotency [`key`](Call::key), and
/// a function that is [told](Call::notify) of failures. For a job that must not run twice, use a
/// [`Client`](crate::Client).
pub fn retry<'h, P: Borrow<RetryPolicy>>(policy: P) -> Retry<'h, P> {
    Call::retry(policy, SystemTimer)
}

/// Asks by this policy's schedule until something is ready.
///
/// ```
/// use steadfast_blocking::{Polled, VirtualTimer, poll_until};
/// use steadfast_core::poll::PollPolicy;
///
/// # struct Report { status: &'static str, body: String }
/// # fn report(_: &str) -> Result<Report, std::io::Error> { Ok(Report { status: "done", body: "42 pages".into() }) }
/// let body = poll_until(PollPolicy::default())
///     .timer(VirtualTimer::new()) // in a test: nobody sleeps
///     .call(|| {
///         let report = report("report-7")?; // an error is repeated, at the pace of the policy's retries
///         Ok::<_, std::io::Error>(match report.status {
///             "done" => Polled::Ready(report.body),
///             _ => Polled::Pending,
///         })
///     })?;
/// assert_eq!(body, "42 pages");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// *Pending* uses up the schedule; failures use the retry policy, and by default never end the asking. It has the
/// options of [`retry`]. If the time runs out nothing is lost: the [error](steadfast_driver::PollError::resume) says
/// where to go on.
pub fn poll_until<'h, P: Borrow<PollPolicy>>(policy: P) -> PollUntil<'h, P> {
    Call::poll_until(policy, SystemTimer)
}
