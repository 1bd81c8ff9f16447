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

/// The same for a handle that many threads read: no lock, and no suspends (a breaker that slept is none the wiser).
#[derive(Debug)]
pub(crate) struct SharedClock {
    wall: Timestamp,
    runtime: Instant,
}

impl SharedClock {
    pub(crate) fn start() -> Self {
        Self { wall: SystemTime::now().into(), runtime: Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.wall.saturating_add(self.runtime.elapsed())
    }
}
