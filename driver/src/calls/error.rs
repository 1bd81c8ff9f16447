//! The error of a call that gives no value.

use std::time::Duration;

use steadfast_core::retry::{Class, Failure, GaveUp};

use super::course::PollState;

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// The error was classified as permanent: the same again cannot help.
    #[error("the last error is one that a retry does not help")]
    Refused,
    /// It may have run, and the call was set not to be repeatable.
    #[error("the last attempt may have run, and must not run twice")]
    Ambiguous,
    /// All attempts are spent; for polls, all polls.
    #[error("all attempts are used up")]
    Attempts,
    /// The deadline has come, or the next attempt could not have begun before it.
    #[error("the deadline leaves no time for another attempt")]
    Deadline,
    /// The retry budget is spent: the retry was not sent, so that retries do not add to an outage.
    #[error("the retry budget is spent")]
    Budget,
    /// The breaker is open for longer than the deadline, or the call was set not to wait for it.
    #[error("the breaker is open: ask again in {retry_in:?}")]
    BreakerOpen {
        /// When asking again makes sense; [`Duration::MAX`] while it is isolated.
        retry_in: Duration,
    },
    /// The rate limiter's next place is beyond the deadline, or so shortly before it that the attempt would have less than
    /// half the time of a first one: it would hardly be answered.
    #[error("the rate limit is reached: the next place is free in {retry_in:?}")]
    RateLimited {
        /// When the next place is free, if nobody else takes it.
        retry_in: Duration,
    },
}

impl From<GaveUp> for StopReason {
    fn from(why: GaveUp) -> Self {
        match why {
            GaveUp::Ambiguous => Self::Ambiguous,
            GaveUp::Attempts => Self::Attempts,
            GaveUp::Deadline => Self::Deadline,
            // The others are about keys that a journal knows, and no call has such.
            _ => Self::Refused,
        }
    }
}

/// A call gave no value. It holds the last error that an attempt gave.
///
/// ```
/// use std::time::Duration;
/// use steadfast_core::retry::RetryPolicy;
/// use steadfast_driver::{Call, StopReason, VirtualTimer};
///
/// let error = Call::retry(RetryPolicy::default(), VirtualTimer::new())
///     .when(|error: &std::io::Error| error.kind() != std::io::ErrorKind::NotFound)
///     .call(|| Err::<(), _>(std::io::Error::from(std::io::ErrorKind::NotFound)))
///     .unwrap_err();
/// assert_eq!((error.why, error.attempts, error.elapsed), (StopReason::Refused, 1, Duration::ZERO));
/// assert_eq!(error.to_string(), "the last error is one that a retry does not help (1 attempt in 0ns)");
/// assert_eq!(error.into_cause().unwrap().kind(), std::io::ErrorKind::NotFound);
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{why} ({attempts} attempt{} in {elapsed:?}{})", if *.attempts == 1 { "" } else { "s" }, ending(.failure.as_ref()))]
#[non_exhaustive]
pub struct RetryError<E> {
    /// Why there was no further attempt.
    pub why: StopReason,
    /// The last error that an attempt gave; `None` if none gave any: they timed out, or there was none. Also the
    /// error's source.
    #[source]
    pub cause: Option<E>,
    /// How the last attempt failed, a time-out included, with the wait that the upstream asked for; `None` if there
    /// was no attempt. Its certainty is the whole call's: a refusal after an attempt that may have run is no proof
    /// that nothing did.
    pub failure: Option<Failure>,
    /// How many attempts there were.
    pub attempts: u32,
    /// How long it took, waits included, counted from when there is something to wait for: for a call that is awaited,
    /// from its first attempt's first poll; for one that blocks and has no deadline, from its first attempt's end. For
    /// one that blocks and has a long deadline it may be too long by a tick of the system's clock, some milliseconds.
    pub elapsed: Duration,
}

impl<E> RetryError<E> {
    /// The last error that an attempt gave, if any did.
    #[must_use]
    pub fn into_cause(self) -> Option<E> {
        self.cause
    }

    /// The last error that an attempt gave, or one that `make` makes of why there is none: for functions that return
    /// `E` alone.
    ///
    /// ```
    /// use steadfast_core::retry::RetryPolicy;
    /// use steadfast_driver::{Call, VirtualTimer};
    ///
    /// fn fetch() -> Result<u16, String> {
    ///     Call::retry(RetryPolicy::default(), VirtualTimer::new())
    ///         .call(|| Err(String::from("down")))
    ///         .map_err(|error| error.into_cause_or_else(|why| why.to_string()))
    /// }
    /// assert_eq!(fetch(), Err("down".into()));
    /// ```
    #[must_use]
    pub fn into_cause_or_else(self, make: impl FnOnce(StopReason) -> E) -> E {
        self.cause.unwrap_or_else(|| make(self.why))
    }
}

fn ending_of_polls(why: &StopReason) -> String {
    if *why == StopReason::Attempts { "all polls are used up".to_owned() } else { why.to_string() }
}

/// How the call ended, as far as no cause tells: a time-out has no cause, or an earlier attempt's.
fn ending(failure: Option<&Failure>) -> &'static str {
    match failure.map(|failure| failure.class) {
        Some(Class::TimedOut) => "; the last timed out",
        Some(Class::Throttled) => "; the last was throttled",
        _ => "",
    }
}

/// Asking ended without a value. Unless that was [refused](StopReason::Refused), it can go on: see
/// [`resume`](PollError::resume).
#[derive(Debug, thiserror::Error)]
#[error("{} ({polls} poll{} in {elapsed:?}{})", ending_of_polls(.why), if *.polls == 1 { "" } else { "s" }, ending(.failure.as_ref()))]
#[non_exhaustive]
pub struct PollError<E> {
    /// Why it was not asked again.
    pub why: StopReason,
    /// The last error that a poll gave since one said *pending*. Also the error's source.
    #[source]
    pub cause: Option<E>,
    /// How the last poll ended, if it failed or timed out.
    pub failure: Option<Failure>,
    /// How many polls there were in this call.
    pub polls: u32,
    /// How long this call took, waits included.
    pub elapsed: Duration,
    pub(super) state: PollState,
}

impl<E> PollError<E> {
    /// Where to go on from, with [`Call::resume`](super::Call::resume): the place in the schedule, and what was left
    /// of its wait. `None` if asking again does not mend the last error.
    #[must_use]
    pub fn resume(&self) -> Option<PollState> {
        (self.why != StopReason::Refused).then_some(self.state)
    }

    /// The last error that a poll gave, if any did since one said *pending*.
    #[must_use]
    pub fn into_cause(self) -> Option<E> {
        self.cause
    }

    /// The last error that a poll gave, or one that `make` makes of why there is none: for functions that return `E`
    /// alone.
    ///
    /// ```
    /// use steadfast_core::poll::PollPolicy;
    /// use steadfast_driver::{Call, Polled, VirtualTimer};
    ///
    /// fn wait() -> Result<u16, String> {
    ///     Call::poll_until(PollPolicy::default(), VirtualTimer::new())
    ///         .call(|| Polled::Pending)
    ///         .map_err(|error| error.into_cause_or_else(|why| why.to_string()))
    /// }
    /// assert!(wait().is_err());
    /// ```
    #[must_use]
    pub fn into_cause_or_else(self, make: impl FnOnce(StopReason) -> E) -> E {
        self.cause.unwrap_or_else(|| make(self.why))
    }
}
