//! What became of a request that gave no usable answer, and whether it ran.

use core::num::NonZeroU16;
use core::time::Duration;

use crate::breaker::Health;

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
    /// The credentials are no longer valid, and are being renewed: a 401 that says nothing about the job. The provider
    /// is well, so no breaker counts it.
    Unauthorized,
}

impl Class {
    /// What a failure of this class says of the upstream's health. A refusal is a sign of health; throttling says only
    /// that the upstream is alive and limits its pace, which is for the rate limits to handle.
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

    /// What the request met, for people: the end of a sentence that begins with the request.
    ///
    /// ```
    /// use steadfast_core::retry::Class;
    ///
    /// assert_eq!(format!("the latest poll {}", Class::TimedOut.explain()), "the latest poll got no answer in time");
    /// ```
    #[must_use]
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Transient => "met trouble at the provider or on the way",
            Self::Throttled => "was throttled",
            Self::TimedOut => "got no answer in time",
            Self::Permanent => "was refused, and would be again",
            Self::Unauthorized => "met credentials that are no longer valid",
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
    /// Recognises a complete answer when it comes again. `None` if there was no answer, or it is of a kind that no
    /// provider stores.
    #[cfg_attr(feature = "serde", serde(default))]
    pub answer: Option<AnswerDigest>,
}

/// A short hash of an answer, to recognise one that a provider has stored for a key and gives again. Drivers make it,
/// since bodies stay outside the core.
///
/// 16 bits, since each operation holds one. Two different answers are taken for the same once in 65,000 times; all
/// that follows is that a [limit](super::RetryPolicy::identical) is reached one attempt early.
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
    /// Hashes an answer's status and its body. (FNV-1a of 64 bits, folded: it need not withstand attacks, since a
    /// provider would only fool itself.)
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

    /// Adds how long the provider asks us to wait.
    #[must_use]
    pub const fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    /// Adds the hash by which a complete answer is recognised.
    #[must_use]
    pub const fn with_answer(mut self, answer: Option<AnswerDigest>) -> Self {
        self.answer = answer;
        self
    }
}

/// A failure of this class of which nothing else is known: it may have run.
impl From<Class> for Failure {
    fn from(class: Class) -> Self {
        Self::new(class, Certainty::MayHaveExecuted)
    }
}
