//! The driver's clock: the monotonic one, anchored to the wall once.
//!
//! A suspend of the machine shows as the wall clock running ahead of the monotonic one, and is added.

use std::time::{Duration, Instant, SystemTime};

use steadfast_core::Timestamp;

/// Waits are cut to this: after a suspend, during which the monotonic clock stood still, the driver wakes late by no
/// more.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Clock {
    anchored: steadfast_core::Clock,
    monotonic: Instant,
    wall: SystemTime,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let wall = SystemTime::now();
        Self { anchored: steadfast_core::Clock::new(wall.into()), monotonic: Instant::now(), wall }
    }

    /// The engine's time. Never runs backwards.
    pub(crate) fn now(&mut self) -> Timestamp {
        let (by_wall, passed) = (self.wall.elapsed().unwrap_or_default(), self.monotonic.elapsed());
        self.anchored.now(passed, by_wall.saturating_sub(passed))
    }

    /// As if so much time had passed.
    #[cfg(test)]
    pub(crate) fn forward(&mut self, span: Duration) {
        self.monotonic -= span;
    }

    /// How long to wait for a deadline of the engine: until then, or less. Without one there is nothing to wake for, and
    /// a process may have hundreds of clients that are quiet.
    pub(crate) fn wait_for(&mut self, deadline: Option<Timestamp>) -> Duration {
        deadline.map_or(Duration::MAX, |at| at.saturating_since(self.now()).min(LONGEST_WAIT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service may have hundreds of clients, and most of them are quiet.
    #[test]
    fn who_has_nothing_to_wait_for_is_not_woken() {
        let mut clock = Clock::start();
        assert_eq!(clock.wait_for(None), Duration::MAX);
        let now = clock.now();
        assert_eq!(clock.wait_for(Some(now.saturating_add(LONGEST_WAIT * 2))), LONGEST_WAIT);
    }
}
