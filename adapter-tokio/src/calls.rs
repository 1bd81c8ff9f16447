//! Repeating any call, or asking again until something is ready, on tokio's time.

use std::borrow::Borrow;
use std::time::Duration;

use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_driver::{AsyncTimer, Call, EveryError, Polls, Retries, Silent, Timer};
use tokio::time::Instant;

/// Tokio's clock and sleep, which a paused runtime stops.
///
/// It touches the runtime only when something is waited for: a call that succeeds at once works without one.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct TokioTimer;

impl Timer for TokioTimer {
    type Moment = Instant;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn since(&self, moment: Instant) -> Duration {
        Instant::now().saturating_duration_since(moment)
    }
}

impl AsyncTimer for TokioTimer {
    fn sleep(&self, span: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(span)
    }
}

/// A repeated call, made by [`retry`]: its options, and [`run`](Call::run).
pub type Retry<'h, P = RetryPolicy, C = EveryError, N = Silent> = Call<'h, Retries<P>, TokioTimer, C, N>;

/// A polled call, made by [`poll_until`]: its options, and [`run`](Call::run).
pub type PollUntil<'h, P = PollPolicy, C = EveryError, N = Silent> = Call<'h, Polls<P>, TokioTimer, C, N>;

/// Repeats an asynchronous call that fails, by this policy.
///
/// ```
/// use steadfast_core::retry::RetryPolicy;
/// use steadfast_tokio::retry;
///
/// # async fn fetch() -> Result<String, std::io::Error> { Ok("hello".into()) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let text = retry(RetryPolicy::default()).run(|| fetch()).await?;
/// assert_eq!(text, "hello");
/// # Ok(())
/// # }
/// ```
///
/// By default every `Err` is repeated, up to the policy's attempts and its deadline. The deadline is kept: an attempt
/// that is under way then is dropped. There are options for what else an upstream in trouble needs; handles are shared
/// between calls by reference:
///
/// ```
/// use std::time::Duration;
/// use http::{HeaderMap, StatusCode};
/// use steadfast_core::Key;
/// use steadfast_core::breaker::BreakerPolicy;
/// use steadfast_core::budget::BudgetPolicy;
/// use steadfast_core::retry::{Class, Failure, RetryPolicy};
/// use steadfast_tokio::{Attempt, Breaker, RetryBudget, StopReason, http_failure, retry};
///
/// enum Trouble {
///     Status(StatusCode, HeaderMap),
///     Connection(std::io::Error),
/// }
///
/// struct Upstream { policy: RetryPolicy, breaker: Breaker, budget: RetryBudget }
///
/// impl Upstream {
///     async fn charge(&self, order: &Key) -> Result<u64, Trouble> {
///         let charged = retry(&self.policy)
///             .key(order)
///             .breaker(&self.breaker)
///             .budget(&self.budget)
///             .classify(|trouble: &Trouble| match trouble {
///                 Trouble::Status(status, headers) => http_failure(*status, headers), // and its Retry-After
///                 Trouble::Connection(_) => Class::Transient.into(),
///             })
///             .notify(|retrying: steadfast_tokio::Retrying<'_, Trouble>| {
///                 eprintln!("attempt {} failed, the next one in {:?}", retrying.attempt, retrying.wait);
///             })
///             .run_with(|attempt| self.post(attempt))
///             .await;
///         charged.map_err(|error| error.into_cause_or_else(|why| Trouble::Connection(std::io::Error::other(why))))
///     }
///
///     async fn post(&self, attempt: Attempt<'_>) -> Result<u64, Trouble> {
///         // The same key each time, so that the upstream charges once.
///         assert_eq!(attempt.key.map(Key::as_str), Some("order-42"));
///         if attempt.number == 1 { Err(Trouble::Status(StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new())) } else { Ok(1_000) }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::time::pause();
/// let upstream = Upstream {
///     policy: RetryPolicy::default(),
///     breaker: Breaker::new(BreakerPolicy::default()),
///     budget: RetryBudget::new(BudgetPolicy::default()),
/// };
/// assert!(matches!(upstream.charge(&Key::new("order-42")?).await, Ok(1_000)));
/// # Ok(())
/// # }
/// ```
///
/// A call whose first attempt is ready when it is first polled reads no clock, arms no timer and allocates nothing;
/// the deadline counts from when there is something to wait for. For a job that must not run twice, use a
/// [`Client`](crate::Client).
///
/// Closures that lend (`async || { count += 1; … }`) cannot be used, since their future could not be given to a
/// runtime's tasks; count before the block: `|| { count += 1; async { … } }`.
pub fn retry<'h, P: Borrow<RetryPolicy>>(policy: P) -> Retry<'h, P> {
    Call::retry(policy, TokioTimer)
}

/// Asks by this policy's schedule until something is ready.
///
/// ```
/// use steadfast_core::poll::PollPolicy;
/// use steadfast_tokio::{Polled, poll_until};
///
/// # struct Report { status: &'static str, body: String }
/// # async fn report(_: &str) -> Result<Report, std::io::Error> { Ok(Report { status: "done", body: "42 pages".into() }) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::time::pause();
/// let body = poll_until(PollPolicy::default())
///     .run(|| async {
///         let report = report("report-7").await?; // an error is repeated, at the pace of the policy's retries
///         Ok::<_, std::io::Error>(match report.status {
///             "done" => Polled::Ready(report.body),
///             _ => Polled::Pending,
///         })
///     })
///     .await?;
/// assert_eq!(body, "42 pages");
/// # Ok(())
/// # }
/// ```
///
/// *Pending* uses up the schedule; failures use the retry policy, and by default never end the asking. It has the
/// options of [`retry`]. If the time runs out nothing is lost: the [error](steadfast_driver::PollError::resume) says
/// where to go on.
///
/// ```
/// use steadfast_core::poll::PollPolicy;
/// use steadfast_tokio::{Polled, StopReason, poll_until};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::time::pause();
/// let policy = PollPolicy::default(); // ten polls in three minutes
/// let pending = || async { Polled::<u32, std::io::Error>::Pending };
/// let error = poll_until(&policy).run(pending).await.unwrap_err();
/// assert_eq!((error.polls, error.why), (8, StopReason::Deadline));
/// let state = error.resume().expect("it was not refused");
/// let ready = || async { Polled::<u32, std::io::Error>::Ready(7) };
/// assert_eq!(poll_until(&policy).resume(state).run(ready).await?, 7);
/// # Ok(())
/// # }
/// ```
pub fn poll_until<'h, P: Borrow<PollPolicy>>(policy: P) -> PollUntil<'h, P> {
    Call::poll_until(policy, TokioTimer)
}
