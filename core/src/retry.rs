//! Whether and when to send a failed request again.
//!
//! A [`Failure`] says two things about a request that gave no usable answer: its [`Class`] (what kind of trouble) and
//! its [`Certainty`] (did it run?). The certainty comes from the phase the request had reached, told by the transport;
//! it is never guessed from an error's text. A [`RetryPolicy`] turns failure, count and time into a [`RetryDecision`]:
//!
//! ```text
//! permanent?                          → give up: Refused
//! may have run, and no repeat is safe → give up: Ambiguous
//! attempts spent?                     → give up: Attempts
//! backoff delay, Retry-After          → next attempt at t
//! t at or after the deadline?         → give up: Deadline, now, instead of waiting for nothing
//! ```
//!
//! Invariants, each a property test: attempts never exceed the limit and none starts at or after the deadline (I2); a
//! `Retry-After` is honoured up to its ceiling, or the attempts stop (I1).

mod delay;
mod failure;

pub use self::delay::{Delay, Ground, Hint, RetryAfter};
pub use self::failure::{AnswerDigest, Certainty, Class, Failure};

use core::num::{NonZeroU8, NonZeroU16};
use core::time::Duration;

use crate::backoff::BackoffPolicy;
use crate::policy::PolicyError;
use crate::seed::Seed;
use crate::time::Timestamp;

/// How often, for how long and with what pauses a request may be tried.
///
/// The default: 5 attempts in 2 minutes, 10 s each, 1 s doubling to 20 s between them with full jitter. (AWS and Google
/// send 3 and 10; a create is worth more than a read and a person waits for it, hence 5 and no longer than 2 minutes.)
/// Of creates under a key, no more than 3 in a row that are [answered alike](Self::identical). In a file each of these
/// may be left out; in a program, name what is to be otherwise:
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::retry::RetryPolicy;
///
/// let patient = RetryPolicy::default().with_attempts(8)?.with_deadline(Duration::from_secs(600))?;
/// assert_eq!(patient.attempt_timeout(), RetryPolicy::default().attempt_timeout());
/// # Ok::<(), steadfast_core::PolicyError>(())
/// ```
///
/// What it decides:
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::backoff::BackoffPolicy;
/// use steadfast_core::retry::{Certainty, Class, Failure, GaveUp, RetryDecision, RetryPolicy};
/// use steadfast_core::{Seed, Timestamp};
///
/// let secs = Duration::from_secs;
/// let policy = RetryPolicy::new(3, secs(60), secs(10), BackoffPolicy::default())?;
/// let reset = Failure::new(Class::Transient, Certainty::MayHaveExecuted);
/// let start = Timestamp::from_secs(1_700_000_000);
/// let keyed = true; // the provider drops repeats of a key
///
/// assert!(matches!(policy.decide(1, reset, start, start, keyed, Seed::new(1)), RetryDecision::At(_)));
/// assert_eq!(policy.decide(3, reset, start, start, keyed, Seed::new(1)), RetryDecision::GiveUp(GaveUp::Attempts));
/// assert_eq!(policy.decide(1, reset, start, start, false, Seed::new(1)), RetryDecision::GiveUp(GaveUp::Ambiguous));
/// # Ok::<(), steadfast_core::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "Unchecked"))]
pub struct RetryPolicy {
    attempts: NonZeroU16,
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
    deadline: Duration,
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
    attempt_timeout: Duration,
    backoff: BackoffPolicy,
    retry_after: RetryAfter,
    identical: NonZeroU8,
}

impl RetryPolicy {
    /// One that happened, one repeat that may be a coincidence, and one that is not.
    const IDENTICAL: NonZeroU8 = NonZeroU8::MIN.saturating_add(2);

    /// At most `attempts` attempts (the first counts), begun within `deadline` of the start, each given
    /// `attempt_timeout` or what is left until then.
    ///
    /// # Errors
    /// Zero attempts (there is no "0 means for ever"), a zero deadline or a zero time-out.
    pub fn new(
        attempts: u16,
        deadline: Duration,
        attempt_timeout: Duration,
        backoff: BackoffPolicy,
    ) -> Result<Self, PolicyError> {
        let policy = Self::default().with_backoff(backoff).with_attempts(attempts)?;
        policy.with_deadline(deadline)?.with_attempt_timeout(attempt_timeout)
    }

    /// Sets the number of attempts, the first included.
    ///
    /// # Errors
    /// Zero: there is no "0 means for ever".
    pub fn with_attempts(mut self, attempts: u16) -> Result<Self, PolicyError> {
        let Some(attempts) = NonZeroU16::new(attempts) else {
            return Err(PolicyError::new("retry.attempts", attempts, "at least 1, which is the first attempt"));
        };
        self.attempts = attempts;
        Ok(self)
    }

    /// Sets the [deadline](Self::deadline). A longer one brings no more [attempts](Self::attempts).
    ///
    /// # Errors
    /// Zero: no attempt could start.
    pub fn with_deadline(mut self, deadline: Duration) -> Result<Self, PolicyError> {
        if deadline.is_zero() {
            return Err(PolicyError::new("retry.deadline", deadline, "more than zero, or no attempt may start"));
        }
        self.deadline = deadline;
        Ok(self)
    }

    /// Sets the time for each attempt, which gets less if less is left until the deadline.
    ///
    /// # Errors
    /// Zero: no attempt could be answered.
    pub fn with_attempt_timeout(mut self, attempt_timeout: Duration) -> Result<Self, PolicyError> {
        if attempt_timeout.is_zero() {
            return Err(PolicyError::new("retry.attempt_timeout", attempt_timeout, "more than zero"));
        }
        self.attempt_timeout = attempt_timeout;
        Ok(self)
    }

    /// Sets the pauses.
    #[must_use]
    pub fn with_backoff(mut self, backoff: BackoffPolicy) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets what a provider's `Retry-After` does to the pauses.
    #[must_use]
    pub const fn with_retry_after(mut self, retry_after: RetryAfter) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Sets after how many identical answers in a row to give up. See [`identical`](Self::identical).
    ///
    /// # Errors
    /// Zero: the first answer counts as one. A limit of as many as there are attempts, or more, has no effect.
    ///
    /// ```
    /// use steadfast_core::retry::RetryPolicy;
    ///
    /// assert_eq!(RetryPolicy::default().with_identical(2)?.identical(), 2);
    /// assert!(RetryPolicy::default().with_identical(0).is_err());
    /// # Ok::<(), steadfast_core::PolicyError>(())
    /// ```
    pub fn with_identical(mut self, identical: u8) -> Result<Self, PolicyError> {
        let Some(identical) = NonZeroU8::new(identical) else {
            return Err(PolicyError::new("retry.identical", identical, "at least 1, which is the first answer"));
        };
        self.identical = identical;
        Ok(self)
    }

    /// The most attempts, the first included.
    #[must_use]
    pub const fn attempts(&self) -> u16 {
        self.attempts.get()
    }

    /// No attempt starts this long after the start or later; one that is under way then is given up. Nor is an attempt
    /// begun that had to stand in line until too little was left for an answer. For a job's create, while nothing of it
    /// can be running, that is less than the time-out of an attempt (or half of the deadline, if that is shorter); for a
    /// call, less than half of what a first attempt has. Time that a machine sleeps through counts;
    /// [`PollPolicy::deadline`](crate::poll::PollPolicy::deadline) says what is still asked for an accepted job.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// An attempt without an answer for this long has timed out.
    #[must_use]
    pub const fn attempt_timeout(&self) -> Duration {
        self.attempt_timeout
    }

    /// The time that an attempt needs to have a fair chance: an attempt's, but no more than half of the deadline. One
    /// that has less, because it had to wait until shortly before the deadline, says nothing of the upstream if it is cut
    /// off there.
    pub(crate) fn fair_chance(&self) -> Duration {
        self.attempt_timeout.min(self.deadline.checked_div(2).unwrap_or_default())
    }

    /// The pauses.
    #[must_use]
    pub const fn backoff(&self) -> &BackoffPolicy {
        &self.backoff
    }

    /// What a `Retry-After` does to the pauses.
    #[must_use]
    pub const fn retry_after(&self) -> RetryAfter {
        self.retry_after
    }

    /// The most identical failures in a row of a create under a key, the first included. Default 3.
    ///
    /// Some providers store the answer to a key, failures too, and replay it (Stripe: a 500, for 24 hours): then no
    /// repeat can bring anything else. Two identical failures may be one problem that has not passed yet; by the
    /// third, the repeats have had their backoff. A request without a complete answer (a time-out, a reset), or with
    /// one of a kind that is not stored (a 429), neither counts nor ends the row.
    ///
    /// Applies only to creates under [`SendSafety::Keyed`](crate::SendSafety::Keyed): without a key, nothing is
    /// stored.
    #[must_use]
    pub const fn identical(&self) -> u8 {
        self.identical.get()
    }

    /// When attempt `made + 1` may start, given that attempt `made` failed at `now`, or why there is none.
    ///
    /// `repeatable`: the request may be sent again although it may have run (it reads only, or the provider honours its
    /// key).
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn decide(
        &self,
        made: u16,
        failure: Failure,
        started: Timestamp,
        now: Timestamp,
        repeatable: bool,
        seed: Seed,
    ) -> RetryDecision {
        match self.weigh(made, failure, started, now, repeatable, seed) {
            Ok((at, _)) => RetryDecision::At(at),
            Err(why) => RetryDecision::GiveUp(why),
        }
    }

    /// [`decide`](Self::decide), with what determined the wait.
    pub(crate) fn weigh(
        &self,
        made: u16,
        failure: Failure,
        started: Timestamp,
        now: Timestamp,
        repeatable: bool,
        seed: Seed,
    ) -> Result<(Timestamp, Delay), GaveUp> {
        if failure.class == Class::Permanent {
            return Err(GaveUp::Refused);
        }
        if !repeatable && failure.certainty != Certainty::NotExecuted {
            return Err(GaveUp::Ambiguous);
        }
        if made >= self.attempts.get() {
            return Err(GaveUp::Attempts);
        }
        let backoff = self.backoff.delay(u32::from(made), seed);
        let delay = self.retry_after.weigh(Ground::Backoff, backoff, failure.retry_after);
        let at = now.saturating_add(delay.wait());
        if at >= started.saturating_add(self.deadline) {
            return Err(GaveUp::Deadline);
        }
        Ok((at, delay))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: NonZeroU16::MIN.saturating_add(4),
            deadline: Duration::from_secs(120),
            attempt_timeout: Duration::from_secs(10),
            backoff: BackoffPolicy::default(),
            retry_after: RetryAfter::default(),
            identical: Self::IDENTICAL,
        }
    }
}

/// The answer of [`RetryPolicy::decide`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "there is either a next attempt or a reason why not")]
pub enum RetryDecision {
    /// The next attempt may start at this time.
    At(Timestamp),
    /// There is no further attempt.
    GiveUp(GaveUp),
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum GaveUp {
    /// The provider said no, and would say so again.
    Refused,
    /// The request may have run, and sending it again might run it twice.
    Ambiguous,
    /// All attempts are spent.
    Attempts,
    /// The next attempt could not have started before the deadline.
    Deadline,
    /// The provider may have forgotten the key by then, and would run the request again.
    KeyWindow,
    /// The provider answers the key with the same failure each time: it has stored it.
    Replayed,
}

/// A policy as written in a file, before [`RetryPolicy::new`] has checked it.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Unchecked {
    attempts: u16,
    #[serde(with = "crate::policy::humane")]
    deadline: Duration,
    #[serde(with = "crate::policy::humane")]
    attempt_timeout: Duration,
    backoff: BackoffPolicy,
    retry_after: RetryAfter,
    identical: u8,
}

#[cfg(feature = "serde")]
impl Default for Unchecked {
    fn default() -> Self {
        let RetryPolicy { attempts, deadline, attempt_timeout, backoff, retry_after, identical } =
            RetryPolicy::default();
        Self { attempts: attempts.get(), deadline, attempt_timeout, backoff, retry_after, identical: identical.get() }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for RetryPolicy {
    type Error = PolicyError;

    fn try_from(it: Unchecked) -> Result<Self, PolicyError> {
        Self::new(it.attempts, it.deadline, it.attempt_timeout, it.backoff)?
            .with_retry_after(it.retry_after)
            .with_identical(it.identical)
    }
}
