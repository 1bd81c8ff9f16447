//! How often to ask whether a job is done.
//!
//! A [`PollPolicy`] keeps two things apart that are often mixed. A *pending* answer is good news and consumes the
//! **poll schedule**: at most so many polls, at growing intervals, within a deadline. A poll that *fails* consumes the
//! **retry policy**: any good answer resets its streak of failures, and when the streak has used up the attempts,
//! polling goes on at the schedule's slowest pace. So a failing poll never ends the job; what ends the wait is the
//! schedule, or a refusal that would only be repeated.
//!
//! ```text
//! accepted → wait delay(1) → poll → pending → wait delay(2) → poll → … → ready
//!                             └ failed → wait retry delay → poll
//! ```

use core::num::NonZeroU16;
use core::time::Duration;

use crate::backoff::{BackoffPolicy, Growth, Jitter};
use crate::policy::PolicyError;
use crate::retry::{Class, Delay, Failure, GaveUp, Ground, RetryDecision, RetryPolicy};
use crate::seed::Seed;
use crate::time::Timestamp;

/// When to poll, how often, and for how long.
///
/// The default is the schedule that Deepvue's guide asks for: 3 s doubling to 30 s, 10 polls, 3 minutes, no jitter. In
/// a file each of these may be left out; but a schedule that is given without a jitter has full jitter, like any
/// backoff. In a program, name only what differs: `PollPolicy::default().with_deadline(hour)?.with_polls(200)?`.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::Seed;
/// use steadfast_core::poll::PollPolicy;
///
/// let policy = PollPolicy::default();
/// let waits: Vec<u64> = (0..5).map(|polls| policy.wait(polls, None, Seed::new(1)).as_secs()).collect();
/// assert_eq!(waits, [3, 6, 12, 24, 30]);
/// // A provider that says "in 45 s" is believed, even above the schedule's cap.
/// assert_eq!(policy.wait(0, Some(Duration::from_secs(45)), Seed::new(1)).as_secs(), 45);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "Unchecked"))]
pub struct PollPolicy {
    schedule: BackoffPolicy,
    polls: NonZeroU16,
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
    deadline: Duration,
    retry: RetryPolicy,
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
    not_found_grace: Duration,
    accept_partial: bool,
}

impl PollPolicy {
    /// Waits by `schedule` (its first delay is the wait before the first poll), at most `polls` pending answers, no
    /// poll at or after `deadline` from acceptance; `retry` paces polls that fail (its own deadline and attempts do not
    /// end the wait).
    ///
    /// # Errors
    /// Zero polls, a zero deadline, or a first wait that is not below the deadline (no poll would ever be sent). A
    /// schedule that could go on without waiting is refused too: its delay must be more than zero, and so must a
    /// table's last delay.
    pub fn new(
        schedule: BackoffPolicy,
        polls: u16,
        deadline: Duration,
        retry: RetryPolicy,
    ) -> Result<Self, PolicyError> {
        if !schedule.growth().rests() {
            return Err(PolicyError::new("poll.schedule", schedule.growth(), "more than zero, or polling never rests"));
        }
        let policy = Self { schedule, retry, ..Self::default() };
        policy.with_polls(polls)?.with_deadline(deadline)
    }

    /// Sets the most pending answers.
    ///
    /// # Errors
    /// Zero.
    pub fn with_polls(mut self, polls: u16) -> Result<Self, PolicyError> {
        let Some(polls) = NonZeroU16::new(polls) else {
            return Err(PolicyError::new("poll.polls", polls, "at least 1"));
        };
        self.polls = polls;
        Ok(self)
    }

    /// Sets the [deadline](Self::deadline). A longer one brings no more [polls](Self::polls).
    ///
    /// # Errors
    /// A deadline that is not longer than the wait before the first poll.
    pub fn with_deadline(mut self, deadline: Duration) -> Result<Self, PolicyError> {
        let first = self.schedule.first();
        if deadline <= first {
            return Err(PolicyError::new(
                "poll.deadline",
                deadline,
                alloc::format!("more than the wait before the first poll, {first:?}"),
            ));
        }
        self.deadline = deadline;
        Ok(self)
    }

    /// Sets the pace of polls that fail.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Takes "no such job" for *pending* for this long after acceptance: for providers whose reads lag behind their
    /// writes.
    #[must_use]
    pub const fn with_not_found_grace(mut self, grace: Duration) -> Self {
        self.not_found_grace = grace;
        self
    }

    /// Sets whether the job ends at a partial result, instead of being polled on for the whole one.
    #[must_use]
    pub const fn with_accept_partial(mut self, accept: bool) -> Self {
        self.accept_partial = accept;
        self
    }

    /// The waits between pending answers.
    #[must_use]
    pub const fn schedule(&self) -> &BackoffPolicy {
        &self.schedule
    }

    /// The most pending answers.
    #[must_use]
    pub const fn polls(&self) -> u16 {
        self.polls.get()
    }

    /// The time that a poll needs to have a fair chance: see [`RetryPolicy`].
    pub(crate) fn fair_chance(&self) -> Duration {
        self.retry.attempt_timeout().min(self.deadline.checked_div(2).unwrap_or_default())
    }

    /// No poll starts this long after acceptance or later; one that is under way then is given up.
    ///
    /// Time that a machine sleeps through counts. But if nothing ran when the deadline passed, nor for
    /// [`Clock::SUSPEND`](crate::Clock::SUSPEND) after it (a laptop's lid was closed, a virtual machine or the journal
    /// stood still), a job is asked for once more, since the provider may have had its result for hours: one poll,
    /// through the gate, repeated while it fails, within a second span of the same length. Its answer ends the job,
    /// whatever it is, unless the provider told of a change while it was under way. The same holds for a [look-up](crate::SendSafety::Lookup); a create that such a sleep kept from
    /// leaving does not leave.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The pace of polls that fail, the time-out of each poll, and what a `Retry-After` means.
    #[must_use]
    pub const fn retry(&self) -> &RetryPolicy {
        &self.retry
    }

    /// How long after acceptance "no such job" counts as pending.
    #[must_use]
    pub const fn not_found_grace(&self) -> Duration {
        self.not_found_grace
    }

    /// Whether a partial result ends the operation.
    #[must_use]
    pub const fn accepts_partial(&self) -> bool {
        self.accept_partial
    }

    /// The wait before the next poll, after this many pending answers, with the provider's hint if it gave one; a hint
    /// of zero is ignored.
    #[must_use]
    pub fn wait(&self, pending: u16, hint: Option<Duration>, seed: Seed) -> Duration {
        self.delay(pending, hint, seed).wait()
    }

    /// [`wait`](Self::wait), with what decided it.
    pub(crate) fn delay(&self, pending: u16, hint: Option<Duration>, seed: Seed) -> Delay {
        let drawn = self.schedule.delay(u32::from(pending).saturating_add(1), seed);
        // Chance must not end a job before it was polled once; without jitter, the first wait is below the deadline.
        let own = if pending == 0 && drawn >= self.deadline { self.schedule.first() } else { drawn };
        // Asking at once, again and again, would use all polls up in a moment.
        self.retry.retry_after().weigh(Ground::Schedule, own, hint.filter(|hint| !hint.is_zero()))
    }

    /// The wait before the next poll, after this many failed polls in a row, the last with `failure`.
    #[must_use]
    pub fn wait_after_failure(&self, streak: u16, failure: Failure, seed: Seed) -> Duration {
        self.delay_after_failure(streak, failure, seed).wait()
    }

    /// [`wait_after_failure`](Self::wait_after_failure), with what decided it.
    pub(crate) fn delay_after_failure(&self, streak: u16, failure: Failure, seed: Seed) -> Delay {
        let retry_after = self.retry.retry_after();
        if streak < self.retry.attempts() {
            let own = self.retry.backoff().delay(u32::from(streak), seed);
            retry_after.weigh(Ground::Backoff, own, failure.retry_after)
        } else {
            // Whatever the provider suggests: nothing holds these polls back but their pace.
            retry_after.weigh(Ground::SlowestPace, self.schedule.cap(), failure.retry_after).no_shorter()
        }
    }

    /// When the next poll may start after `pending` pending answers, the last one at `now`; or why there is none: all
    /// [polls](Self::polls) are used up ([`GaveUp::Attempts`]), or it could not begin before the deadline.
    ///
    /// For callers that poll without an [operation](crate::operation). An operation decides alike, except that it asks
    /// once more after a [deadline](Self::deadline) that passed while the machine slept.
    ///
    /// ```
    /// use core::time::Duration;
    /// use steadfast_core::poll::PollPolicy;
    /// use steadfast_core::retry::{GaveUp, RetryDecision};
    /// use steadfast_core::{Seed, Timestamp};
    ///
    /// let (policy, seed) = (PollPolicy::default(), Seed::new(1));
    /// let start = Timestamp::from_secs(1_700_000_000);
    /// let later = |secs| start.saturating_add(Duration::from_secs(secs));
    /// assert_eq!(policy.decide_pending(1, None, start, later(3), seed), RetryDecision::At(later(9)));
    /// assert_eq!(policy.decide_pending(10, None, start, later(3), seed), RetryDecision::GiveUp(GaveUp::Attempts));
    /// assert_eq!(policy.decide_pending(1, None, start, later(174), seed), RetryDecision::GiveUp(GaveUp::Deadline));
    /// ```
    pub fn decide_pending(
        &self,
        pending: u16,
        hint: Option<Duration>,
        started: Timestamp,
        now: Timestamp,
        seed: Seed,
    ) -> RetryDecision {
        if pending >= self.polls.get() {
            return RetryDecision::GiveUp(GaveUp::Attempts);
        }
        self.decide_at(self.wait(pending, hint, seed), started, now)
    }

    /// When the next poll may start after `streak` failed polls in a row, the last one at `now`. Only a refusal, or
    /// the deadline, ends the polling.
    pub fn decide_failed(
        &self,
        streak: u16,
        failure: Failure,
        started: Timestamp,
        now: Timestamp,
        seed: Seed,
    ) -> RetryDecision {
        if failure.class == Class::Permanent {
            return RetryDecision::GiveUp(GaveUp::Refused);
        }
        self.decide_at(self.wait_after_failure(streak, failure, seed), started, now)
    }

    fn decide_at(&self, wait: Duration, started: Timestamp, now: Timestamp) -> RetryDecision {
        let at = now.saturating_add(wait);
        if at >= started.saturating_add(self.deadline) {
            return RetryDecision::GiveUp(GaveUp::Deadline);
        }
        RetryDecision::At(at)
    }
}

impl Default for PollPolicy {
    fn default() -> Self {
        Self {
            schedule: PRESCRIBED,
            polls: NonZeroU16::MIN.saturating_add(9),
            deadline: Duration::from_secs(180),
            retry: RetryPolicy::default(),
            not_found_grace: Duration::ZERO,
            accept_partial: false,
        }
    }
}

/// 3 s, 6 s, 12 s, 24 s, 30 s, 30 s, …
const PRESCRIBED: BackoffPolicy =
    BackoffPolicy::trusted(Growth::doubling(Duration::from_secs(3)), Duration::from_secs(30), Jitter::None);

/// A policy as written in a file, before [`PollPolicy::new`] has checked it.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Unchecked {
    #[serde(deserialize_with = "Unchecked::schedule")]
    schedule: BackoffPolicy,
    polls: u16,
    #[serde(with = "crate::policy::humane")]
    deadline: Duration,
    retry: RetryPolicy,
    #[serde(with = "crate::policy::humane")]
    not_found_grace: Duration,
    accept_partial: bool,
}

#[cfg(feature = "serde")]
impl Unchecked {
    fn schedule<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BackoffPolicy, D::Error> {
        crate::backoff::read_over(PRESCRIBED, deserializer)
    }
}

#[cfg(feature = "serde")]
impl Default for Unchecked {
    fn default() -> Self {
        let PollPolicy { schedule, polls, deadline, retry, not_found_grace, accept_partial } = PollPolicy::default();
        Self { schedule, polls: polls.get(), deadline, retry, not_found_grace, accept_partial }
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for PollPolicy {
    type Error = PolicyError;

    fn try_from(it: Unchecked) -> Result<Self, PolicyError> {
        Ok(Self::new(it.schedule, it.polls, it.deadline, it.retry)?
            .with_not_found_grace(it.not_found_grace)
            .with_accept_partial(it.accept_partial))
    }
}
