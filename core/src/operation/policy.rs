//! The settings of an operation, and the context of one step of it.

use core::time::Duration;

use crate::backoff::{BackoffPolicy, Growth, Jitter};
use crate::gate::{Admission, Gate, Kinds, Permit, Refusal, Request, Settled};
use crate::notice::{Notice, Notices, Told, WakeReason};
use crate::policy::PolicyError;
use crate::poll::PollPolicy;
use crate::retry::{Delay, RetryPolicy};
use crate::time::Timestamp;

/// Whether a create may be repeated when an earlier one's fate is unknown. It describes the *provider*: that a key is
/// sent does not mean that it is honoured, so the default is the one that is safe with every provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum SendSafety {
    /// The provider runs every create it gets. After an ambiguous failure nothing is sent: the operation ends
    /// *unresolved*.
    #[default]
    Unsafe,
    /// By its nature, running the create twice has the same effect as running it once: it is sent again freely.
    Idempotent,
    /// The provider runs a key once within `window` of its first use: an ambiguous create is sent again with the same
    /// key. Where in the request the key goes (which header, as plain text or as RFC 8941 quotes it, or a field of the
    /// body) is up to the provider's profile. If the provider has stored a failure for the key and replays it, the
    /// repeats end: see [`RetryPolicy::identical`].
    Keyed {
        /// How long the provider remembers a key (Stripe and Persona: 24 hours). Nothing is resent later than this,
        /// less one time-out.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        window: Duration,
    },
    /// The provider can be asked for the job of a key: an ambiguous create is looked up, then adopted or sent again.
    Lookup {
        /// How long after an ambiguous create the provider certainly shows the job if it runs. Too short a time here
        /// is how a job runs twice: the look-up says "no such job" while the first request is still being processed.
        #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
        settle: Duration,
    },
}

/// Everything that decides how an operation behaves.
///
/// The default suits a provider of which nothing is known: careful retries, Deepvue's poll schedule, no repeat of an
/// ambiguous create.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::{OperationPolicy, SendSafety};
///
/// let day = Duration::from_secs(86_400);
/// let policy = OperationPolicy::default().with_safety(SendSafety::Keyed { window: day })?;
/// assert_eq!(policy.create().attempts(), 5);
/// # Ok::<(), steadfast_core::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "Unchecked"))]
pub struct OperationPolicy {
    safety: SendSafety,
    create: RetryPolicy,
    lookup: RetryPolicy,
    poll: PollPolicy,
    persist: BackoffPolicy,
}

impl OperationPolicy {
    /// Sets whether this provider allows an ambiguous create to be repeated.
    ///
    /// # Errors
    /// A key window that is not longer than a create's time-out (no repeat could ever be sent in time).
    pub fn with_safety(mut self, safety: SendSafety) -> Result<Self, PolicyError> {
        self.safety = safety;
        self.checked()
    }

    /// Sets how creates are retried.
    ///
    /// # Errors
    /// A time-out that is not shorter than the key window.
    pub fn with_create(mut self, create: RetryPolicy) -> Result<Self, PolicyError> {
        self.create = create;
        self.checked()
    }

    /// Sets how look-ups are retried.
    #[must_use]
    pub fn with_lookup(mut self, lookup: RetryPolicy) -> Self {
        self.lookup = lookup;
        self
    }

    /// Sets how jobs are polled.
    #[must_use]
    pub fn with_poll(mut self, poll: PollPolicy) -> Self {
        self.poll = poll;
        self
    }

    /// Sets the pauses before a record that could not be written is tried again.
    ///
    /// # Errors
    /// A backoff without delay, or a table whose last delay is zero: a broken disk would be retried without pause.
    pub fn with_persist(mut self, persist: BackoffPolicy) -> Result<Self, PolicyError> {
        self.persist = persist;
        self.checked()
    }

    fn checked(self) -> Result<Self, PolicyError> {
        if let SendSafety::Keyed { window } = self.safety
            && window <= self.create.attempt_timeout()
        {
            return Err(PolicyError::new(
                "safety.keyed.window",
                window,
                alloc::format!("longer than a create's time-out, {:?}", self.create.attempt_timeout()),
            ));
        }
        if !self.persist.growth().rests() {
            return Err(PolicyError::new(
                "persist",
                self.persist.growth(),
                "more than zero, or a broken disk gets no rest",
            ));
        }
        Ok(self)
    }

    /// What a create may do when an earlier one's fate is unknown.
    #[must_use]
    pub const fn safety(&self) -> SendSafety {
        self.safety
    }

    /// How creates are tried.
    #[must_use]
    pub const fn create(&self) -> &RetryPolicy {
        &self.create
    }

    /// How look-ups are tried.
    #[must_use]
    pub const fn lookup(&self) -> &RetryPolicy {
        &self.lookup
    }

    /// How jobs are polled.
    #[must_use]
    pub const fn poll(&self) -> &PollPolicy {
        &self.poll
    }

    /// The pauses between tries to write a record.
    #[must_use]
    pub const fn persist(&self) -> &BackoffPolicy {
        &self.persist
    }

    /// The context of one step of an operation: these settings, the time and the gate.
    pub fn turn<'a>(&'a self, now: Timestamp, gate: &'a mut Gate) -> Turn<'a> {
        self.turn_in_line(now, gate, Kinds::NONE, Notices::Kept(Told::NOTHING))
    }

    /// The same for a gate at which others may wait, with notices going elsewhere.
    #[inline]
    pub(crate) fn turn_in_line<'a>(
        &'a self,
        now: Timestamp,
        gate: &'a mut Gate,
        line: Kinds,
        notices: Notices<'a>,
    ) -> Turn<'a> {
        // At the very end of time "never" would be due.
        let now = now.min(Timestamp::NEVER.saturating_sub(Duration::from_nanos(1)));
        Turn { now, policy: self, gate, line, notices }
    }
}

impl Default for OperationPolicy {
    /// Writing is tried again after 100 ms doubling to 10 s.
    fn default() -> Self {
        Self {
            safety: SendSafety::default(),
            create: RetryPolicy::default(),
            lookup: RetryPolicy::default(),
            poll: PollPolicy::default(),
            persist: BackoffPolicy::trusted(
                Growth::doubling(Duration::from_millis(100)),
                Duration::from_secs(10),
                Jitter::Equal,
            ),
        }
    }
}

/// One step's surroundings: the time, the settings, the gate. Made by [`OperationPolicy::turn`].
#[derive(Debug)]
pub struct Turn<'a> {
    pub(crate) now: Timestamp,
    pub(crate) policy: &'a OperationPolicy,
    pub(crate) gate: &'a mut Gate,
    /// Kinds of requests for which others wait at the gate.
    pub(crate) line: Kinds,
    pub(crate) notices: Notices<'a>,
}

impl Turn<'_> {
    /// The notices of the step, at most eight. Reading them is optional.
    #[must_use]
    pub fn pop_notice(&mut self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Asks the gate, and makes the notices that its answer calls for. A request never overtakes those that wait
    /// already.
    pub(crate) fn ask(&mut self, request: Request) -> Admission {
        let admission = if self.line.contains(request.kind) {
            match self.gate.check(request, self.now) {
                // Who is refused need not stand in line for it.
                Some(refused @ Admission::Refuse(_)) => refused,
                _ => Admission::Wait(Refusal::in_line(self.now)),
            }
        } else {
            self.watching_breaker(|gate, now| gate.admit(request, now))
        };
        if let Admission::Wait(refusal) | Admission::Refuse(refusal) = admission {
            self.tell(Notice::Blocked { kind: request.kind, refusal });
        }
        admission
    }

    #[inline]
    pub(crate) fn settle(&mut self, permit: Permit, how: Settled) {
        self.watching_breaker(|gate, now| gate.settle(permit, how, now));
    }

    fn watching_breaker<T>(&mut self, step: impl FnOnce(&mut Gate, Timestamp) -> T) -> T {
        let before = self.gate.breaker_epoch();
        let done = step(self.gate, self.now);
        if self.gate.breaker_epoch() != before {
            self.tell(Notice::Breaker(self.gate.breaker_state(self.now)));
        }
        done
    }

    #[inline]
    pub(crate) fn tell(&mut self, notice: Notice) {
        self.notices.tell(notice);
    }

    #[inline]
    pub(crate) fn tell_wait(&mut self, reason: WakeReason, until: Timestamp, delay: Delay) {
        self.tell(Notice::Waiting { reason, until, delay });
    }
}

/// A policy as it stands in a file, before it has been looked at.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    #[serde(default)]
    safety: SendSafety,
    #[serde(default)]
    create: RetryPolicy,
    #[serde(default)]
    lookup: RetryPolicy,
    #[serde(default)]
    poll: PollPolicy,
    #[serde(default = "Unchecked::default_persist", deserialize_with = "Unchecked::persist")]
    persist: BackoffPolicy,
}

#[cfg(feature = "serde")]
impl Unchecked {
    fn default_persist() -> BackoffPolicy {
        OperationPolicy::default().persist
    }

    fn persist<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BackoffPolicy, D::Error> {
        crate::backoff::read_over(Self::default_persist(), deserializer)
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for OperationPolicy {
    type Error = PolicyError;

    fn try_from(it: Unchecked) -> Result<Self, PolicyError> {
        let Unchecked { safety, create, lookup, poll, persist } = it;
        Self { safety, create, lookup, poll, persist }.checked()
    }
}
