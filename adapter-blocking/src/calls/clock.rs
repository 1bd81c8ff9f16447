//! When a call began.
//!
//! To keep a deadline, a call must know when it began. Most calls succeed at once and never ask again, so that one
//! reading is nearly all that they cost. Linux keeps the time of its last tick, on the scale of the exact time, and
//! reading it costs a quarter as much. Elsewhere the exact time is read.

use std::time::Duration;

/// A moment of [`SystemTimer`](super::SystemTimer): of the machine's clock, which only moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(system::Instant);

impl Moment {
    #[inline]
    pub(super) fn now() -> Self {
        Self(system::now())
    }

    /// Now or, by no more than a tick, earlier; never later.
    #[inline]
    pub(super) fn last_tick() -> Self {
        Self(system::last_tick())
    }

    pub(super) fn elapsed(self) -> Duration {
        system::since(self.0)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::time::Duration;

    use rustix::time::{ClockId, clock_gettime};

    /// In nanoseconds, as a single number, since two halves that were just written are slow to read as one.
    pub(super) type Instant = u64;

    #[inline]
    fn read(clock: ClockId) -> u64 {
        let time = clock_gettime(clock);
        // Never negative; of how many bits differs by platform.
        let [seconds, nanos] =
            [u64::try_from(time.tv_sec).ok(), u64::try_from(time.tv_nsec).ok()].map(Option::unwrap_or_default);
        seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos)
    }

    #[inline]
    pub(super) fn now() -> u64 {
        read(ClockId::Monotonic)
    }

    #[inline]
    pub(super) fn last_tick() -> u64 {
        read(ClockId::MonotonicCoarse)
    }

    pub(super) fn since(then: u64) -> Duration {
        Duration::from_nanos(now().saturating_sub(then))
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::time::Duration;

    pub(super) use std::time::Instant;

    pub(super) fn now() -> Instant {
        Instant::now()
    }

    pub(super) fn last_tick() -> Instant {
        Instant::now()
    }

    pub(super) fn since(then: Instant) -> Duration {
        then.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_last_tick_is_never_later_and_hardly_earlier() {
        for _ in 0..1_000 {
            let (tick, now) = (Moment::last_tick(), Instant::now());
            let passed = tick.elapsed();
            assert!(passed <= now.elapsed() + Duration::from_millis(20), "{passed:?}");
        }
        // What passes is what the system's clock says has passed. Busy, not asleep.
        let (now, tick, system) = (Moment::now(), Moment::last_tick(), Instant::now());
        while system.elapsed() < Duration::from_millis(20) {}
        assert!(now.elapsed() >= Duration::from_millis(20) && tick.elapsed() >= Duration::from_millis(20));
    }
}
