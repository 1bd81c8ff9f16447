//! Places that were given up while later ones were promised to others.
//!
//! The state of a limiter is one number, the time at which the next place is due, and that cannot go back past a place
//! that somebody waits for. So a place that is given up before such a one is kept here, for the next caller that asks.
//! If it were lost, the line would grow by a place with each caller that came and left: with twice as many callers as
//! places, each of whom waits for a second at most, the line would soon be longer than that for everybody, and nobody
//! would be let go until they had all stayed away for as long as it is. Those who wait behind such a place look here now
//! and then, and move up into one that nobody has come for. They leave the others to who comes: whoever has just come has
//! the most time left, so where callers come and leave all the time, most are served like this.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use steadfast_core::Timestamp;
use steadfast_core::rate_limit::Reservation;

/// How long a place is left to who comes.
const UNWANTED: Duration = Duration::from_millis(500);

/// As many at most as there were callers waiting at a time: whoever asks takes one of these first.
#[derive(Default)]
pub(super) struct GivenUp {
    /// How many there are: as a rule none, and then nobody need take the lock.
    count: AtomicUsize,
    /// By their times, each with when it was given up.
    places: Mutex<VecDeque<(Reservation, Timestamp)>>,
}

/// All of them, while nobody else gives one up or takes one.
pub(super) struct Opened<'a> {
    count: &'a AtomicUsize,
    places: MutexGuard<'a, VecDeque<(Reservation, Timestamp)>>,
}

impl GivenUp {
    /// The first whose time has not passed.
    #[inline]
    pub(super) fn take(&self, now: Timestamp) -> Option<Reservation> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.open(now).places.pop_front().map(|(place, _)| place)
    }

    /// The first before this one that nobody has come for.
    pub(super) fn take_before(&self, place: &Reservation, now: Timestamp) -> Option<Reservation> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut opened = self.open(now);
        let before = opened.places.iter().take_while(|(other, _)| other.at() < place.at());
        let first = before.enumerate().find(|(_, (_, since))| now.saturating_since(*since) >= UNWANTED)?.0;
        opened.places.remove(first).map(|(place, _)| place)
    }

    /// Those whose time has passed are gone.
    pub(super) fn open(&self, now: Timestamp) -> Opened<'_> {
        // Nothing panics while it holds this.
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = places.partition_point(|(place, _)| place.at() < now);
        places.drain(..passed);
        Opened { count: &self.count, places }
    }
}

impl Opened<'_> {
    pub(super) fn keep(&mut self, place: Reservation, now: Timestamp) {
        let at = self.places.partition_point(|(other, _)| other.at() <= place.at());
        self.places.insert(at, (place, now));
    }

    pub(super) fn last(&self) -> Option<Reservation> {
        self.places.back().map(|(place, _)| *place)
    }

    pub(super) fn drop_last(&mut self) {
        self.places.pop_back();
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if self.places.is_empty() {
            // A rush leaves no room behind either.
            *self.places = VecDeque::new();
        }
        self.count.store(self.places.len(), Ordering::Relaxed);
    }
}
