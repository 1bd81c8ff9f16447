//! When a breaker opens, for how long, and how it finds out that it may close.

use core::num::NonZeroU32;
use core::time::Duration;

use super::window::{Counts, MOST_CALLS};
use crate::backoff::{BackoffPolicy, Growth, Jitter};
use crate::policy::PolicyError;

/// The most probes at once.
pub(super) const MOST_PROBES: u8 = 16;

/// What opens a closed breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum Trip {
    /// This many failures with no success between them. For an upstream that is either up or down, and for few calls.
    Consecutive {
        /// At least 1.
        failures: NonZeroU32,
    },
    /// This share of the calls in a window failed. For many calls, of which some always fail.
    Rate {
        /// 1 to 100; the breaker opens at this share and above.
        percent: u8,
        /// Which calls count.
        window: Window,
        /// With fewer calls in the window, nothing opens it: one failure of one call is 100 percent.
        minimum: NonZeroU32,
    },
}

/// The calls over which a rate is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case", deny_unknown_fields)
)]
#[non_exhaustive]
pub enum Window {
    /// The last *n* calls, 1 to 512.
    Calls(u16),
    /// The calls of the last span of time, of a millisecond or more; kept in ten slices.
    Time(#[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))] Duration),
}

/// When a call counts as slow, and what share of slow calls opens the breaker: too slow is a sign of illness too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(deny_unknown_fields))]
#[expect(clippy::exhaustive_structs, reason = "plain settings")]
pub struct SlowCalls {
    /// A call that takes longer is slow. Measured to the millisecond.
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
    pub longer_than: Duration,
    /// The share of slow calls that opens the breaker, 1 to 100.
    pub percent: u8,
}

/// How a half-open breaker finds out whether it may close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[expect(clippy::exhaustive_structs, reason = "plain settings, written with struct update syntax")]
pub struct Probes {
    /// The most probes out at a time, 1 to 16. Default 1: an upstream that is coming back is not to be hit by all who
    /// waited.
    pub at_once: u8,
    /// This many good probes close it. Default 2 (as in breaker-machines): one may have been luck.
    pub successes: u16,
    /// This many bad probes open it again. Default 2, for the same reason.
    pub failures: u16,
    /// A probe that has not come back after this long is given up, and its place given to another. Default 30 s. It
    /// must be longer than a call may take: the result of a probe that has lost its place does not count, so if good
    /// calls take longer, the breaker never closes.
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
    pub lease: Duration,
}

impl Default for Probes {
    fn default() -> Self {
        Self { at_once: 1, successes: 2, failures: 2, lease: Duration::from_secs(30) }
    }
}

/// The settings of a [`Breaker`](super::Breaker).
///
/// The default opens when 80 percent of the last 50 calls have failed, with at least 20 of them, for 5 s doubling to
/// 60 s, of which half is random, and probes as [`Probes`] says. Libraries for interactive calls open at 50 percent
/// (resilience4j) or 10 (Polly). A job has minutes, and its retries are paced and budgeted: with half of all calls
/// failing nearly all jobs still complete, and a breaker that stopped them would be the greater harm. It is meant for
/// an upstream that is down.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::breaker::{BreakerPolicy, SlowCalls, Window};
///
/// let policy = BreakerPolicy::rate(50, Window::Calls(100), 10)?
///     .with_slow_calls(SlowCalls { longer_than: Duration::from_secs(2), percent: 80 })?;
/// assert!(BreakerPolicy::rate(0, Window::Calls(100), 10).is_err());
/// # Ok::<(), steadfast_core::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "Unchecked"))]
pub struct BreakerPolicy {
    trip: Trip,
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::or_none"))]
    slow_calls: Option<SlowCalls>,
    open: BackoffPolicy,
    probes: Probes,
}

impl BreakerPolicy {
    /// Opens after this many failures in a row.
    ///
    /// # Errors
    /// Zero failures.
    pub fn consecutive(failures: u32) -> Result<Self, PolicyError> {
        let Some(failures) = NonZeroU32::new(failures) else {
            return Err(PolicyError::new("breaker.failures", failures, "at least 1"));
        };
        Ok(Self { trip: Trip::Consecutive { failures }, ..Self::default() })
    }

    /// Opens when `percent` of the calls in the window have failed, and there are at least `minimum` of them.
    ///
    /// # Errors
    /// A share that is not 1 to 100, a window of no or too many calls or of less than a millisecond, a minimum of zero
    /// or of more calls than the window can hold.
    pub fn rate(percent: u8, window: Window, minimum: u32) -> Result<Self, PolicyError> {
        let Some(least) = NonZeroU32::new(minimum) else {
            return Err(PolicyError::new("breaker.minimum", minimum, "at least 1"));
        };
        Self { trip: Trip::Rate { percent, window, minimum: least }, ..Self::default() }.checked()
    }

    /// Makes it open also for calls that take too long.
    ///
    /// # Errors
    /// A share that is not 1 to 100, or a breaker that counts a streak: there is no window to take a share of.
    pub fn with_slow_calls(mut self, slow: SlowCalls) -> Result<Self, PolicyError> {
        self.slow_calls = Some(slow);
        self.checked()
    }

    /// Sets how long it stays open: the first delay the first time, the second if the probes fail, and so on.
    ///
    /// # Errors
    /// A backoff without delay, or a table whose last delay is zero: a breaker that is open for no time lets
    /// everything through.
    pub fn with_open(mut self, open: BackoffPolicy) -> Result<Self, PolicyError> {
        self.open = open;
        self.checked()
    }

    /// Sets how it probes once it is half-open.
    ///
    /// # Errors
    /// A number of probes that is not 1 to 16, no successes or failures to decide by, or a lease of zero.
    pub fn with_probes(mut self, probes: Probes) -> Result<Self, PolicyError> {
        self.probes = probes;
        self.checked()
    }

    fn checked(self) -> Result<Self, PolicyError> {
        let share = |field, percent: u8| {
            let good = (1..=100).contains(&percent);
            if good { Ok(()) } else { Err(PolicyError::new(field, percent, "a share from 1 to 100 percent")) }
        };
        if let Trip::Rate { percent, window, minimum } = self.trip {
            share("breaker.percent", percent)?;
            match window {
                Window::Calls(calls) if !(1..=MOST_CALLS).contains(&calls) => {
                    return Err(PolicyError::new("breaker.window.calls", calls, "from 1 to 512"));
                }
                Window::Calls(calls) if minimum.get() > u32::from(calls) => {
                    let expected = alloc::format!("at most the window's {calls} calls, or it never opens");
                    return Err(PolicyError::new("breaker.minimum", minimum, expected));
                }
                Window::Time(span) if span < Duration::from_millis(1) => {
                    return Err(PolicyError::new("breaker.window.time", span, "at least 1ms"));
                }
                Window::Calls(_) | Window::Time(_) => {}
            }
        }
        if let Some(slow) = self.slow_calls {
            share("breaker.slow_calls.percent", slow.percent)?;
            if let Trip::Consecutive { .. } = self.trip {
                return Err(PolicyError::new(
                    "breaker.slow_calls",
                    slow,
                    "left out, or the breaker one that opens at a rate: a streak has no share of slow calls",
                ));
            }
        }
        if !self.open.growth().rests() {
            return Err(PolicyError::new("breaker.open", self.open.growth(), "more than zero, or it never rests"));
        }
        let Probes { at_once, successes, failures, lease } = self.probes;
        if !(1..=MOST_PROBES).contains(&at_once) {
            return Err(PolicyError::new("breaker.probes.at_once", at_once, "from 1 to 16"));
        }
        if successes == 0 || failures == 0 {
            let field = if successes == 0 { "breaker.probes.successes" } else { "breaker.probes.failures" };
            return Err(PolicyError::new(field, 0, "at least 1"));
        }
        if lease.is_zero() {
            return Err(PolicyError::new("breaker.probes.lease", lease, "more than a call may take"));
        }
        Ok(self)
    }

    /// What opens it.
    #[must_use]
    pub const fn trip(&self) -> Trip {
        self.trip
    }

    pub(super) const fn trip_ref(&self) -> &Trip {
        &self.trip
    }

    /// Which calls count as slow, if the breaker looks at that.
    #[must_use]
    pub const fn slow_calls(&self) -> Option<SlowCalls> {
        self.slow_calls
    }

    /// How long it stays open.
    #[must_use]
    pub const fn open(&self) -> &BackoffPolicy {
        &self.open
    }

    /// How it probes.
    #[must_use]
    pub const fn probes(&self) -> Probes {
        self.probes
    }

    pub(super) fn is_tripped_by(&self, counts: Counts) -> bool {
        let share = |part: u32, percent: u8| {
            u64::from(part).saturating_mul(100) >= u64::from(percent).saturating_mul(u64::from(counts.calls))
        };
        match self.trip {
            Trip::Consecutive { failures } => counts.failed >= failures.get(),
            Trip::Rate { percent, minimum, .. } => {
                counts.calls >= minimum.get()
                    && (share(counts.failed, percent)
                        || self.slow_calls.is_some_and(|slow| share(counts.slow, slow.percent)))
            }
        }
    }
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            trip: Trip::Rate { percent: 80, window: Window::Calls(50), minimum: NonZeroU32::MIN.saturating_add(19) },
            slow_calls: None,
            open: BackoffPolicy::trusted(Growth::doubling(secs(5)), secs(60), Jitter::Equal),
            probes: Probes::default(),
        }
    }
}

/// A policy as written in a file, before it has been checked.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    trip: Option<Trip>,
    #[serde(default, deserialize_with = "crate::policy::or_none::deserialize")]
    slow_calls: Option<SlowCalls>,
    #[serde(default = "Unchecked::default_open", deserialize_with = "Unchecked::open")]
    open: BackoffPolicy,
    #[serde(default)]
    probes: Probes,
}

#[cfg(feature = "serde")]
impl Unchecked {
    fn default_open() -> BackoffPolicy {
        BreakerPolicy::default().open
    }

    fn open<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BackoffPolicy, D::Error> {
        crate::backoff::read_over(Self::default_open(), deserializer)
    }
}

#[cfg(feature = "serde")]
impl TryFrom<Unchecked> for BreakerPolicy {
    type Error = PolicyError;

    fn try_from(it: Unchecked) -> Result<Self, PolicyError> {
        let default = Self::default();
        Self { trip: it.trip.unwrap_or(default.trip), slow_calls: it.slow_calls, open: it.open, probes: it.probes }
            .checked()
    }
}
