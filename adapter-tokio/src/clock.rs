//! The driver's clock: tokio's, anchored to the wall once.
//!
//! It reads `tokio::time::Instant`, so a paused runtime holds the engine too, and a test that advances time moves both. The machine's suspends
//! are seen as the wall clock running ahead of the monotonic one (both real, so a paused runtime sees none) and added.

use std::time::{Duration, SystemTime};

use steadfast_core::Timestamp;
use tokio::time::Instant;

/// Sleeps are cut to this: a suspended machine wakes late by no more, since its monotonic clock stood still.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Clock {
    anchored: steadfast_core::Clock,
    runtime: Instant,
    monotonic: std::time::Instant,
    wall: SystemTime,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now();
        Self {
            anchored: steadfast_core::Clock::new(wall.into()),
            runtime: Instant::now(),
            monotonic: std::time::Instant::now(),
            wall,
        }
    }

    /// The engine's time. Never runs backwards.
    pub(crate) fn now(&mut self) -> Timestamp {
        let by_wall = self.wall.elapsed().unwrap_or_default();
        let ahead = by_wall.saturating_sub(self.monotonic.elapsed());
        self.anchored.now(self.runtime.elapsed(), ahead)
    }

    /// When to wake for a deadline of the engine: then, or sooner.
    pub(crate) fn wake_at(&mut self, deadline: Option<Timestamp>) -> Instant {
        let wait = deadline.map_or(LONGEST_SLEEP, |at| at.saturating_since(self.now()));
        Instant::now() + wait.min(LONGEST_SLEEP)
    }
}

/// The same for a handle that many threads read: no lock, no suspends (a breaker that slept is none the wiser), and a quarter of the cost of the
/// system's clock, which would be most of what a rate limiter's answer costs.
#[derive(Debug)]
pub(crate) struct SharedClock {
    wall: Timestamp,
    reading: Reading,
}

#[derive(Debug)]
enum Reading {
    /// The processor's counter, calibrated.
    Counter { clock: quanta::Clock, start: u64 },
    /// The time of a runtime that was paused when the handle was made: a test's.
    Runtime { start: Instant },
}

impl SharedClock {
    pub(crate) fn start() -> Self {
        let before = std::time::Instant::now();
        let start = Instant::now();
        let real = (before..=std::time::Instant::now()).contains(&start.into_std());
        let clock = quanta::Clock::new();
        let reading = if real { Reading::Counter { start: clock.raw(), clock } } else { Reading::Runtime { start } };
        Self { wall: SystemTime::now().into(), reading }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let passed = match &self.reading {
            Reading::Counter { clock, start } => Duration::from_nanos(clock.delta_as_nanos(*start, clock.raw())),
            Reading::Runtime { start } => start.elapsed(),
        };
        self.wall.saturating_add(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_holds_a_shared_clock() {
        for advanced in [Duration::ZERO, Duration::from_secs(3_600)] {
            tokio::time::advance(advanced).await;
            let clock = SharedClock::start();
            let first = clock.now();
            tokio::time::advance(Duration::from_secs(10)).await;
            assert_eq!(clock.now().saturating_since(first), Duration::from_secs(10));
        }
    }

    #[test]
    fn without_a_runtime_it_keeps_the_systems_pace() {
        let (clock, system) = (SharedClock::start(), std::time::Instant::now());
        let first = clock.now();
        // Busy, not asleep: what passes is what the system's clock says has passed.
        while system.elapsed() < Duration::from_millis(20) {}
        let passed = clock.now().saturating_since(first);
        assert!(passed >= Duration::from_millis(19) && passed < Duration::from_secs(10), "{passed:?}");
    }
}
