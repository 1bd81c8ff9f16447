//! What is near: a heap with four children to each, least first.

use super::{Place, Timer, Timers};

impl Timers {
    pub(super) fn leave_heap(&mut self, place: usize) {
        let Some(last) = self.near.pop() else { return };
        if place < self.near.len() {
            let place = self.rise(place, last);
            self.sink(place, last);
        }
    }

    /// Puts a timer there, or as far up from there as it belongs.
    pub(super) fn rise(&mut self, mut place: usize, timer: Timer) -> usize {
        while let Some(above) = place.checked_sub(1) {
            let above = above / 4;
            let Some(parent) = self.near.get(above).copied().filter(|it| timer.is_before(*it)) else { break };
            self.put(place, parent);
            place = above;
        }
        self.put(place, timer);
        place
    }

    /// The same, down.
    fn sink(&mut self, mut place: usize, timer: Timer) {
        loop {
            let first = place.saturating_mul(4).saturating_add(1);
            let last = first.saturating_add(4).min(self.near.len());
            let children = self.near.get(first..last).unwrap_or_default();
            let least = (first..).zip(children).min_by_key(|(_, child)| child.order());
            let Some((below, child)) = least.filter(|(_, child)| child.order() < timer.order()) else { break };
            let child = *child;
            self.put(place, child);
            place = below;
        }
        self.put(place, timer);
    }

    fn put(&mut self, place: usize, timer: Timer) {
        if let Some(entry) = self.near.get_mut(place) {
            *entry = timer;
        }
        self.note(timer.slot, Place::near(place));
    }
}
