//! The driver's clock: tokio's, anchored to the wall once.
//!
//! It reads `tokio::time::Instant`, so a paused runtime stops the engine too, and a test that advances time moves
//! both. A suspend of the machine shows as the wall clock running ahead of the monotonic one, and is added. (Both are
//! real, so a paused runtime sees none.)

use std::time::{Duration, SystemTime};

use steadfast_core::Timestamp;
use steadfast_driver::SharedClock;
use tokio::time::Instant;

/// Sleeps are cut to this: after a suspend, during which the monotonic clock stood still, the driver wakes late by no
/// more.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// How often the wall clock is looked at: reading all three clocks is most of what an idle turn of the driver costs.
const LOOK_AT_WALL: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
pub(crate) struct Clock {
    anchored: steadfast_core::Clock,
    runtime: Instant,
    monotonic: std::time::Instant,
    wall: SystemTime,
    /// How far the wall's clock had run ahead when it was last looked at, and when that was.
    ahead: Duration,
    looked: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now();
        Self {
            anchored: steadfast_core::Clock::new(wall.into()),
            runtime: Instant::now(),
            monotonic: std::time::Instant::now(),
            wall,
            ahead: Duration::ZERO,
            looked: Duration::ZERO,
        }
    }

    /// The engine's time. Never runs backwards.
    pub(crate) fn now(&mut self) -> Timestamp {
        let elapsed = self.runtime.elapsed();
        if elapsed.saturating_sub(self.looked) >= LOOK_AT_WALL {
            let by_wall = self.wall.elapsed().unwrap_or_default();
            (self.ahead, self.looked) = (by_wall.saturating_sub(self.monotonic.elapsed()), elapsed);
        }
        self.anchored.now(elapsed, self.ahead)
    }

    /// When to wake for a deadline of the engine: then, or sooner. Without one there is nothing to wake for, and a
    /// process may have hundreds of clients that are quiet.
    pub(crate) fn wake_at(&mut self, deadline: Option<Timestamp>) -> Option<Instant> {
        deadline.map(|at| Instant::now() + at.saturating_since(self.now()).min(LONGEST_SLEEP))
    }
}

/// The same for a handle that many threads read: the machine's clock, or the runtime's if it is paused when the handle
/// is made, as in a test.
pub(crate) fn shared() -> SharedClock {
    let before = std::time::Instant::now();
    let start = Instant::now();
    let real = (before..=std::time::Instant::now()).contains(&start.into_std());
    if real { SharedClock::start() } else { SharedClock::following(move || start.elapsed()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_runtime_holds_a_shared_clock() {
        for advanced in [Duration::ZERO, Duration::from_secs(3_600)] {
            tokio::time::advance(advanced).await;
            let clock = shared();
            let first = clock.now();
            tokio::time::advance(Duration::from_secs(10)).await;
            assert_eq!(clock.now().saturating_since(first), Duration::from_secs(10));
        }
    }
}
