//! Whether and when to send a failed request again.
//!
//! A [`Failure`] says two things about a request that gave no usable answer: its [`Class`] (what kind of trouble) and its
//! [`Certainty`] (did it run?). The certainty comes from the phase the request had reached, told by the transport; it is never guessed
//! from an error's text. A [`RetryPolicy`] turns failure, count and time into a [`RetryDecision`]:
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

use core::num::{NonZeroU8, NonZeroU16};
use core::time::Duration;

use crate::backoff::BackoffPolicy;
use crate::breaker::Health;
use crate::policy::PolicyError;
use crate::seed::Seed;
use crate::time::Timestamp;

/// What kind of trouble a request met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Class {
    /// Likely to pass: a refused connection, a reset, a 500, 502, 503, 504.
    Transient,
    /// The provider asks for a slower pace: a 429.
    Throttled,
    /// No answer in time.
    TimedOut,
    /// Sending the same again cannot help: a 400, 401, 403, 422.
    Permanent,
    /// The credentials are no longer valid, and are being renewed: a 401 that says nothing of the job. The provider is well, so no breaker counts it.
    Unauthorized,
}

impl Class {
    /// What a failure of this class says of the upstream's health. A refusal is a sign of it; throttling says that it is alive and minds its pace, which
    /// is the limits' affair.
    ///
    /// ```
    /// use steadfast_core::breaker::Health;
    /// use steadfast_core::retry::Class;
    ///
    /// assert_eq!(Class::Permanent.health(), Health::Healthy); // a 400: it answers
    /// assert_eq!(Class::TimedOut.health(), Health::Failing);
    /// ```
    #[must_use]
    pub const fn health(self) -> Health {
        match self {
            Self::Permanent | Self::Unauthorized => Health::Healthy,
            Self::Transient | Self::TimedOut => Health::Failing,
            Self::Throttled => Health::Ignored,
        }
    }

    /// `transient`, `throttled`, `timed_out`, `permanent` or `unauthorized`: for logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::TimedOut => "timed_out",
            Self::Permanent => "permanent",
            Self::Unauthorized => "unauthorized",
        }
    }
}

/// Whether the provider ran the request that failed.
///
/// Ordered: a later variant is more certain to have run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Certainty {
    /// It certainly did not run: the connection was refused, or the provider answered that it will not run it.
    NotExecuted,
    /// Nobody can tell: no answer, or an unusable one, after the request had begun to leave.
    MayHaveExecuted,
    /// It ran, and the provider says that it failed.
    Executed,
}

/// A request that gave no usable answer.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::retry::{Certainty, Class, Failure};
///
/// let throttled = Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(Duration::from_secs(5)));
/// assert_eq!(throttled.retry_after, Some(Duration::from_secs(5)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Failure {
    /// What kind of trouble.
    pub class: Class,
    /// Whether it ran.
    pub certainty: Certainty,
    /// How long the provider asks us to wait, from now. Malformed means absent.
    pub retry_after: Option<Duration>,
    /// What a whole answer is known by when it comes again. `None`: there was no answer, or it is of a kind that no provider stores.
    #[cfg_attr(feature = "serde", serde(default))]
    pub answer: Option<AnswerDigest>,
}

/// A few bits of an answer, by which one that a provider has stored for a key is known when it is given again. Bodies stay outside: drivers make it.
///
/// 16 bits, since each operation holds one. Two different answers are taken for the same once in 65,000 times; all that comes of it is a
/// [limit](RetryPolicy::identical) that is reached one attempt early.
///
/// ```
/// use steadfast_core::retry::AnswerDigest;
///
/// let digest = AnswerDigest::of(500, b"{}");
/// assert_eq!(digest, AnswerDigest::of(500, b"{}"));
/// assert_ne!(digest, AnswerDigest::of(502, b"{}"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AnswerDigest(NonZeroU16);

impl AnswerDigest {
    /// Of an answer's status and its body. (FNV-1a of 64 bits, folded: it need not withstand anybody, since a provider only fools itself.)
    #[must_use]
    pub fn of(status: u16, body: &[u8]) -> Self {
        let bytes = status.to_le_bytes();
        let hash = bytes.iter().chain(body).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let folded = (hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48) as u16;
        Self(NonZeroU16::new(folded).unwrap_or(NonZeroU16::MIN))
    }
}

impl Failure {
    /// A failure without a `Retry-After`.
    #[must_use]
    pub const fn new(class: Class, certainty: Certainty) -> Self {
        Self { class, certainty, retry_after: None, answer: None }
    }

    /// The same, with what the provider asks us to wait.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// The same, of a whole answer that is known by this.
    #[must_use]
    pub const fn with_answer(mut self, answer: Option<AnswerDigest>) -> Self {
        self.answer = answer;
        self
    }
}

/// Of this class, and nothing else is known of it: it may have run.
impl From<Class> for Failure {
    fn from(class: Class) -> Self {
        Self::new(class, Certainty::MayHaveExecuted)
    }
}

/// What a provider's `Retry-After` does to our own delay. All three are in use by well-known clients; see each variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum RetryAfter {
    /// The longer of the two (Azure's clients; Didit's documentation).
    Floor {
        /// No hint counts for more than this, however large.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        ceiling: Duration,
    },
    /// The hint instead of our own delay (gRPC's pushback, go-retryablehttp). To a job that is pending a hint of zero is none: polling must rest.
    Exact {
        /// No hint counts for more than this, however large. Where it is zero no hint counts at all, and our own delay stands.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        ceiling: Duration,
    },
    /// The hint, but no less than our own delay and no more than that plus `extra` (AWS, `extra` = 5 s).
    Clamped {
        /// How far above our own delay a hint may lead.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        extra: Duration,
    },
}

impl RetryAfter {
    /// The wait that results from our own `delay` and the provider's `hint`.
    #[must_use]
    pub fn apply(self, delay: Duration, hint: Option<Duration>) -> Duration {
        self.weigh(Ground::Backoff, delay, hint).wait()
    }

    /// The same, with what decided. `ground` says where our own delay comes from.
    ///
    /// ```
    /// use core::time::Duration;
    /// use steadfast_core::retry::{Ground, RetryAfter};
    ///
    /// let secs = Duration::from_secs;
    /// let delay = RetryAfter::Floor { ceiling: secs(60) }.weigh(Ground::Backoff, secs(4), Some(secs(90)));
    /// let hint = delay.hint.unwrap();
    /// assert!(hint.decides && hint.cut);
    /// assert_eq!(delay.wait(), secs(60));
    /// ```
    #[must_use]
    pub fn weigh(self, ground: Ground, own: Duration, asked: Option<Duration>) -> Delay {
        let hint = asked.map(|asked| {
            let ceiling = match self {
                Self::Floor { ceiling } | Self::Exact { ceiling } => ceiling,
                Self::Clamped { extra } => own.saturating_add(extra),
            };
            let counts = asked.min(ceiling);
            let instead = matches!(self, Self::Exact { ceiling } if !ceiling.is_zero());
            let decides = instead || counts > own;
            Hint { counts, cut: asked > ceiling, decides }
        });
        Delay { own, ground, hint }
    }
}

impl Default for RetryAfter {
    /// A floor of at most an hour. The operation's deadline is usually shorter: then a longer hint stops the attempts.
    fn default() -> Self {
        Self::Floor { ceiling: Duration::from_secs(3600) }
    }
}

/// A wait, and what it was decided from: for whoever asks why it is so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Delay {
    /// Our own part, before the provider is heard.
    pub own: Duration,
    /// Where our own part comes from.
    pub ground: Ground,
    /// The provider's part. `None`: it asked for nothing, or is not asked here.
    pub hint: Option<Hint>,
}

impl Delay {
    /// Our own part alone.
    #[must_use]
    pub const fn own(ground: Ground, own: Duration) -> Self {
        Self { own, ground, hint: None }
    }

    /// How long the wait is: the provider's part if it decides, else our own.
    #[must_use]
    pub fn wait(self) -> Duration {
        self.hint.filter(|hint| hint.decides).map_or(self.own, |hint| hint.counts)
    }

    /// The same, but never shorter than our own part.
    pub(crate) fn no_shorter(mut self) -> Self {
        if let Some(hint) = &mut self.hint {
            hint.decides &= hint.counts >= self.own;
        }
        self
    }
}

/// A provider's part in a [`Delay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Hint {
    /// What it asked for, as far as the policy lets it count.
    pub counts: Duration,
    /// Whether it asked for more than that.
    pub cut: bool,
    /// Whether it decides how long the wait is.
    pub decides: bool,
}

/// Where our own part of a [`Delay`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Ground {
    /// The retry policy's backoff.
    Backoff,
    /// The poll schedule.
    Schedule,
    /// The poll schedule's slowest pace: the retries of failing polls are used up.
    SlowestPace,
    /// A look-up waits until the provider certainly shows the job if it runs.
    Settle,
    /// The retry budget was spent, so the retry pauses once more.
    Budget,
    /// After a restart: what the record says was left of a wait, at most one capped delay.
    Record,
}

/// How often, how long and with what pauses a request may be tried.
///
/// The default: 5 attempts in 2 minutes, 10 s each, 1 s doubling to 20 s between them with full jitter. (AWS and Google send 3 and 10;
/// a create is worth more than a read and a person waits for it, hence 5 and no longer than 2 minutes.) Of creates under a key, no more than
/// 3 in a row that are [answered alike](Self::identical). In a file each of these may be left out.
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

    /// At most `attempts` attempts (the first counts), begun within `deadline` of the start, each given `attempt_timeout` or what is left until then.
    ///
    /// # Errors
    /// Zero attempts (there is no "0 means for ever"), a zero deadline or a zero time-out.
    pub fn new(
        attempts: u16,
        deadline: Duration,
        attempt_timeout: Duration,
        backoff: BackoffPolicy,
    ) -> Result<Self, PolicyError> {
        let Some(attempts) = NonZeroU16::new(attempts) else {
            return Err(PolicyError::new("retry.attempts", attempts, "at least 1, which is the first attempt"));
        };
        if deadline.is_zero() {
            return Err(PolicyError::new("retry.deadline", deadline, "more than zero, or no attempt may start"));
        }
        if attempt_timeout.is_zero() {
            return Err(PolicyError::new("retry.attempt_timeout", attempt_timeout, "more than zero"));
        }
        Ok(Self {
            attempts,
            deadline,
            attempt_timeout,
            backoff,
            retry_after: RetryAfter::default(),
            identical: Self::IDENTICAL,
        })
    }

    /// The same, treating a provider's `Retry-After` this way.
    #[must_use]
    pub const fn with_retry_after(mut self, retry_after: RetryAfter) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// The same, giving up after so many identical answers in a row. See [`identical`](Self::identical).
    ///
    /// # Errors
    /// Zero: the first answer is identical to none. As many as there are attempts, or more, is no limit.
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

    /// No attempt starts this long after the start, or later; one that is under way then is given up.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// An attempt without an answer for this long has timed out.
    #[must_use]
    pub const fn attempt_timeout(&self) -> Duration {
        self.attempt_timeout
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

    /// The most identical failures of a create under a key, the first included, in a row. Default 3.
    ///
    /// Providers store what a key was answered, failures too, and give it again (Stripe: a 500, for 24 hours): then no repeat can bring anything
    /// else. Two alike may be one trouble that has not passed yet; at the third, the repeats since the first have had their backoff. What is no whole
    /// answer (a time-out, a reset), or of a kind that is not stored (a 429), neither counts nor ends the row.
    ///
    /// Counts for creates under [`SendSafety::Keyed`](crate::SendSafety::Keyed), and for nothing else: without a key nothing is stored for it.
    #[must_use]
    pub const fn identical(&self) -> u8 {
        self.identical.get()
    }

    /// When attempt `made + 1` may start, given that attempt `made` failed just `now`, or why there is none.
    ///
    /// `repeatable`: the request may be sent again although it may have run (it reads only, or the provider honours its key).
    #[cfg_attr(feature = "no-panic", no_panic::no_panic)]
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

    /// [`decide`](Self::decide), with what the wait was decided from.
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

/// What [`RetryPolicy::decide`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "there is either a next attempt or a reason why not")]
pub enum RetryDecision {
    /// The next attempt may start then.
    At(Timestamp),
    /// There is none.
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

/// A policy as it stands in a file, before [`RetryPolicy::new`] has looked at it.
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
