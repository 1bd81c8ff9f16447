//! Time, as an argument.

use core::fmt;
use core::time::Duration;

/// A moment: nanoseconds since the Unix epoch, up to the year 2554.
///
/// Nothing in this crate reads a clock: every entry point takes `now`. A driver makes it with a [`Clock`]. All
/// arithmetic saturates, so no input can overflow it.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::Timestamp;
///
/// let start = Timestamp::from_secs(1_700_000_000);
/// let later = start.saturating_add(Duration::from_secs(3));
/// assert_eq!(later.saturating_since(start), Duration::from_secs(3));
/// assert_eq!(start.saturating_since(later), Duration::ZERO);
/// assert_eq!(later.saturating_add(Duration::MAX), Timestamp::NEVER);
/// ```
///
/// # Time that runs backwards
///
/// An [`Operation`](crate::Operation) or an [`Engine`](crate::Engine) that is given a `now` earlier than the last one
/// it saw uses the last one it saw. The machines that answer at once (a breaker, a rate limiter …) keep no such time.
/// Asked at an earlier time they let nothing go that would have had to wait; but what they are told counts from the
/// time that they are given: a breaker that opens at an earlier time is open until an earlier time.
///
/// # After a restart
///
/// Restoring from a journal needs a clock that went on meanwhile; a counter that begins at zero with each reset did
/// not. Records written before the reset lie in its future, and count as *just now*. That makes no wait longer than
/// one capped delay, or one attempt's time-out with the backoff after it. But the window in which a provider remembers a key
/// ([`SendSafety::Keyed`](crate::SendSafety::Keyed)) begins again with each reset, so a create could be repeated after
/// its key is forgotten, and run twice. Ask another machine for the time first, or go on from the latest time in the
/// journal plus the longest time for which the power can have been off; or use
/// [`SendSafety::Lookup`](crate::SendSafety::Lookup) or [`Unsafe`](crate::SendSafety::Unsafe), which do not depend on
/// that window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z, the earliest moment.
    pub const EPOCH: Self = Self(0);

    /// Later than every other moment: "no deadline" inside the machines. At the edge it is `None`.
    pub const NEVER: Self = Self(u64::MAX);

    /// From nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// From milliseconds since the Unix epoch; saturates.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// From seconds since the Unix epoch; saturates.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This moment plus `span`, at most [`Timestamp::NEVER`].
    #[must_use]
    pub const fn saturating_add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    /// This moment less `span`, at least [`Timestamp::EPOCH`].
    #[must_use]
    pub const fn saturating_sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }

    /// The time from `earlier` to this moment, or zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment as callers see it: `None` for [`Timestamp::NEVER`], which stands for a deadline that does not
    /// exist.
    #[must_use]
    pub const fn deadline(self) -> Option<Self> {
        if self.0 == u64::MAX { None } else { Some(self) }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return f.write_str("never");
        }
        let nanos = self.0;
        write!(f, "{}.{:09}s", nanos / 1_000_000_000, nanos % 1_000_000_000)
    }
}

#[cfg(feature = "std")]
impl From<std::time::SystemTime> for Timestamp {
    /// A time before 1970 becomes [`Timestamp::EPOCH`], one after 2554 [`Timestamp::NEVER`].
    fn from(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::EPOCH.saturating_add(since)
    }
}

#[cfg(feature = "std")]
impl From<Timestamp> for std::time::SystemTime {
    /// For people and other libraries, since this crate does not write dates. A moment that the system's clock cannot
    /// represent becomes 1970.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use steadfast_core::Timestamp;
    ///
    /// let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    /// assert_eq!(SystemTime::from(Timestamp::from(moment)), moment);
    /// assert!(SystemTime::from(Timestamp::NEVER) > moment);
    /// ```
    fn from(moment: Timestamp) -> Self {
        Self::UNIX_EPOCH.checked_add(Duration::from_nanos(moment.0)).unwrap_or(Self::UNIX_EPOCH)
    }
}

/// A span in nanoseconds, at most `u64::MAX` (584 years).
pub(crate) const fn nanos(span: Duration) -> u64 {
    // In 64 bits: this stands on every path, and 128 cost three times as much.
    span.as_secs().saturating_mul(1_000_000_000).saturating_add(span.subsec_nanos() as u64)
}

/// How long something has taken, in four bytes: whole milliseconds, up to 24 days, after which it reads zero again.
///
/// For what is stored many times over and measured roughly, such as a request in the air.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub(crate) struct Stopwatch(u32);

impl Stopwatch {
    /// Not started, where nobody will look at it.
    pub(crate) const UNUSED: Self = Self(0);

    pub(crate) const fn start(now: Timestamp) -> Self {
        Self((now.0 / 1_000_000) as u32)
    }

    /// The time since the start: never less than has passed by more than a millisecond, never more by as much.
    pub(crate) const fn elapsed(self, now: Timestamp) -> Duration {
        let millis = Self::start(now).0.wrapping_sub(self.0);
        // Time that ran backwards shows as an enormous span.
        Duration::from_millis(if millis > u32::MAX / 2 { 0 } else { millis as u64 })
    }
}

/// Makes a driver's timestamps: wall time once, monotonic time from there on, plus the time for which the machine was
/// suspended.
///
/// It reads nothing itself; the driver hands in what its clocks say. Time it returns never runs backwards.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::{Clock, Timestamp};
///
/// let mut clock = Clock::new(Timestamp::from_secs(1_000));
/// let secs = Duration::from_secs;
/// assert_eq!(clock.now(secs(5), secs(0)), Timestamp::from_secs(1_005));
/// // The machine slept for an hour: the wall clock is ahead of the monotonic one by as much.
/// assert_eq!(clock.now(secs(6), secs(3_600)), Timestamp::from_secs(4_606));
/// // The wall clock was set back: nothing happens.
/// assert_eq!(clock.now(secs(7), secs(0)), Timestamp::from_secs(4_607));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    anchor: Timestamp,
    suspended: Duration,
    last: Timestamp,
}

impl Clock {
    /// How far the wall clock must run ahead of the monotonic one to be taken for a suspend: clocks that are merely
    /// being disciplined stay well below it (NTP slews at most 0.5 ms a second and steps above 128 ms). An operation
    /// that finds that its deadline passed this long ago assumes that the machine slept through it.
    pub const SUSPEND: Duration = Duration::from_secs(2);

    /// A clock that reads `wall` now.
    #[must_use]
    pub const fn new(wall: Timestamp) -> Self {
        Self { anchor: wall, suspended: Duration::ZERO, last: wall }
    }

    /// The time `elapsed` after [`Clock::new`], by the clock on which the driver sleeps.
    ///
    /// `ahead` is how much more time has passed since [`Clock::new`] by the wall clock than by the machine's monotonic
    /// clock (zero if less). Once it grows by [`Clock::SUSPEND`] the time jumps forward with it; it never jumps back.
    pub fn now(&mut self, elapsed: Duration, ahead: Duration) -> Timestamp {
        if ahead >= self.suspended.saturating_add(Self::SUSPEND) {
            self.suspended = ahead;
        }
        let now = self.anchor.saturating_add(elapsed).saturating_add(self.suspended);
        self.last = self.last.max(now);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn units_are_what_they_say_and_ends_hold() {
        let at = Timestamp::from_secs(5);
        assert_eq!((at, at.as_nanos()), (Timestamp::from_millis(5_000), 5_000_000_000));
        assert_eq!(at.saturating_add(Duration::new(2, 7)).as_nanos(), 7_000_000_007);
        assert_eq!(at.saturating_sub(Duration::from_millis(1)).as_nanos(), 4_999_000_000);
        assert_eq!(at.saturating_since(Timestamp::from_secs(3)), 2 * SECOND);
        assert_eq!(Timestamp::from_secs(3).saturating_since(at), Duration::ZERO);
        assert_eq!(
            (at.saturating_add(Duration::MAX), at.saturating_sub(Duration::MAX)),
            (Timestamp::NEVER, Timestamp::EPOCH)
        );
        assert_eq!(
            (Timestamp::from_secs(u64::MAX), Timestamp::from_millis(u64::MAX)),
            (Timestamp::NEVER, Timestamp::NEVER)
        );
        assert_eq!((at.deadline(), Timestamp::NEVER.deadline()), (Some(at), None));
    }

    #[cfg(feature = "std")]
    #[test]
    fn the_systems_time_counts_from_1970_and_not_before() {
        use std::time::SystemTime;

        let (epoch, span) = (SystemTime::UNIX_EPOCH, Duration::new(1_700_000_000, 5));
        assert_eq!(Timestamp::from(epoch.checked_add(span).unwrap()).as_nanos(), 1_700_000_000_000_000_005);
        assert_eq!(Timestamp::from(epoch.checked_sub(SECOND).unwrap()), Timestamp::EPOCH);
    }

    /// Milliseconds in 32 bits begin anew after 49 days; half of that can be told from time that ran backwards.
    #[test]
    fn a_stopwatch_runs_over_its_end_and_shows_nothing_for_time_that_ran_backwards() {
        let half = Duration::from_millis((u32::MAX / 2).into());
        for start in [0, 1_700_000_000, 4_294_967, 4_294_968] {
            let start = Timestamp::from_secs(start);
            let watch = Stopwatch::start(start);
            for span in [Duration::ZERO, Duration::from_millis(1), 90 * SECOND, half] {
                assert_eq!(watch.elapsed(start.saturating_add(span)), span);
            }
            let later = Stopwatch::start(start.saturating_add(SECOND));
            assert_eq!(later.elapsed(start), Duration::ZERO);
        }
    }

    #[test]
    fn a_clock_never_goes_back_and_adds_what_was_slept_through() {
        let wall = Timestamp::from_secs(1_000);
        let at = |secs| wall.saturating_add(Duration::from_secs(secs));
        let mut clock = Clock::new(wall);
        assert_eq!(clock.now(3 * SECOND, Duration::ZERO), at(3));
        assert_eq!(clock.now(2 * SECOND, Duration::ZERO), at(3), "what was told stays true");
        let drift = Clock::SUSPEND - Duration::from_nanos(1);
        assert_eq!(clock.now(4 * SECOND, drift), at(4), "a wall clock that drifts is no suspend");
        assert_eq!(clock.now(5 * SECOND, Clock::SUSPEND), at(7));
        assert_eq!(clock.now(6 * SECOND, Duration::ZERO), at(8), "nor is it taken back");
        assert_eq!(clock.now(7 * SECOND, Clock::SUSPEND + drift), at(9));
        assert_eq!(clock.now(8 * SECOND, 60 * SECOND), at(68), "and again");
    }
}
