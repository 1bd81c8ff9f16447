//! The time for a handle that many threads read.
//!
//! It takes no lock and sees no suspends (to a breaker, that time has not passed), and costs a quarter of reading the
//! system's clock, which would be most of what a rate limiter's answer costs. A runtime with a time of its own, such
//! as tokio's when it is paused, supplies that instead.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use steadfast_core::Timestamp;

/// A clock that threads share: the wall clock read once, and the time that has passed since.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// use steadfast_driver::SharedClock;
///
/// let passed = Arc::new(AtomicU64::new(0));
/// let hands = Arc::clone(&passed);
/// let clock = SharedClock::following(move || Duration::from_secs(hands.load(Ordering::Relaxed)));
/// let start = clock.now();
/// passed.store(60, Ordering::Relaxed);
/// assert_eq!(clock.now().saturating_since(start), Duration::from_secs(60));
/// ```
#[derive(Clone)]
pub struct SharedClock {
    wall: Timestamp,
    reading: Reading,
}

#[derive(Clone)]
enum Reading {
    /// The processor's counter, calibrated.
    Counter { clock: quanta::Clock, start: u64 },
    /// A clock that somebody else supplies.
    Following(Arc<dyn Fn() -> Duration + Send + Sync>),
}

impl SharedClock {
    /// A clock on the machine's own time.
    #[must_use]
    pub fn start() -> Self {
        let clock = quanta::Clock::new();
        Self { wall: SystemTime::now().into(), reading: Reading::Counter { start: clock.raw(), clock } }
    }

    /// A clock that follows `passed`, which says how much time has passed since now and never goes backwards.
    #[must_use]
    pub fn following(passed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { wall: SystemTime::now().into(), reading: Reading::Following(Arc::new(passed)) }
    }

    /// The time.
    #[must_use]
    #[inline]
    pub fn now(&self) -> Timestamp {
        let passed = match &self.reading {
            Reading::Counter { clock, start } => Duration::from_nanos(clock.delta_as_nanos(*start, clock.raw())),
            Reading::Following(passed) => passed(),
        };
        self.wall.saturating_add(passed)
    }
}

impl fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedClock").field("now", &self.now()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_systems_pace() {
        let (clock, system) = (SharedClock::start(), std::time::Instant::now());
        let first = clock.now();
        // Busy, not asleep: what passes is what the system's clock says has passed.
        while system.elapsed() < Duration::from_millis(20) {}
        let passed = clock.now().saturating_since(first);
        assert!(passed >= Duration::from_millis(19) && passed < Duration::from_secs(10), "{passed:?}");
    }
}
