//! One timer per operation: which is due, and when is the next?
//!
//! A binary heap that knows where each operation's timer stands, so that setting, moving and clearing one are exact and
//! O(log n): nothing stale is kept, and nothing is allocated once the heap has grown. Equal times fire in the order of the slots, so that a
//! replay fires alike.

use alloc::vec::Vec;

use super::grow;
use crate::time::Timestamp;

#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    /// Least first.
    heap: Vec<Timer>,
    /// Where in the heap each slot's timer stands; `ABSENT` if it has none.
    places: Vec<u32>,
}

/// When, and whose: in this order. In twelve bytes: with the time in one piece it would be sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Timer {
    high: u32,
    low: u32,
    slot: u32,
}

const _: () = assert!(size_of::<Timer>() == 12);

impl Timer {
    const fn new(at: Timestamp, slot: u32) -> Self {
        let nanos = at.as_nanos();
        Self { high: (nanos >> 32) as u32, low: nanos as u32, slot }
    }

    const fn at(self) -> Timestamp {
        Timestamp::from_nanos((self.high as u64) << 32 | self.low as u64)
    }
}

const ABSENT: u32 = u32::MAX;

impl PartialEq for Timers {
    /// The same timers fire alike, however the heap has come to lie.
    fn eq(&self, other: &Self) -> bool {
        self.heap.len() == other.heap.len()
            && self.heap.iter().all(|timer| {
                let place = other.places.get(timer.slot as usize).copied().unwrap_or(ABSENT);
                other.heap.get(place as usize) == Some(timer)
            })
    }
}

impl Timers {
    /// Sets, moves or (with `None`) clears the timer of a slot.
    pub(super) fn set(&mut self, slot: u32, at: Option<Timestamp>) {
        let index = slot as usize;
        if self.places.len() <= index {
            let more = index.saturating_add(1).saturating_sub(self.places.len());
            grow(&mut self.places, more);
            self.places.resize(index.saturating_add(1), ABSENT);
        }
        let place = self.places.get(index).copied().unwrap_or(ABSENT);
        match (at, place) {
            (Some(at), ABSENT) => {
                grow(&mut self.heap, 1);
                self.heap.push(Timer::new(at, slot));
                self.rise(self.heap.len().saturating_sub(1));
            }
            (Some(at), place) => {
                let place = place as usize;
                if let Some(entry) = self.heap.get_mut(place) {
                    *entry = Timer::new(at, slot);
                }
                self.settle(place);
            }
            (None, ABSENT) => {}
            (None, place) => self.remove(place as usize),
        }
    }

    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        let _ = self.heap.try_reserve_exact(more);
        let _ = self.places.try_reserve_exact(more);
    }

    /// The earliest timer.
    pub(super) fn next(&self) -> Option<(Timestamp, u32)> {
        self.heap.first().map(|timer| (timer.at(), timer.slot))
    }

    /// Takes the earliest timer if it is due.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<u32> {
        let (at, slot) = self.next()?;
        if at > now {
            return None;
        }
        self.remove(0);
        Some(slot)
    }

    fn remove(&mut self, place: usize) {
        let last = self.heap.len().saturating_sub(1);
        self.swap(place, last);
        if let Some(timer) = self.heap.pop()
            && let Some(at) = self.places.get_mut(timer.slot as usize)
        {
            *at = ABSENT;
        }
        self.settle(place);
    }

    /// Moves the entry at `place` to where it belongs.
    fn settle(&mut self, place: usize) {
        if place < self.heap.len() {
            let place = self.rise(place);
            self.sink(place);
        }
    }

    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = place.saturating_sub(1) / 2;
            if self.heap.get(parent) <= self.heap.get(place) {
                break;
            }
            self.swap(place, parent);
            place = parent;
        }
        self.note(place);
        place
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let left = place.saturating_mul(2).saturating_add(1);
            let right = left.saturating_add(1);
            if left >= self.heap.len() {
                break;
            }
            let least =
                if right < self.heap.len() && self.heap.get(right) < self.heap.get(left) { right } else { left };
            if self.heap.get(place) <= self.heap.get(least) {
                break;
            }
            self.swap(place, least);
            place = least;
        }
        self.note(place);
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a < self.heap.len() && b < self.heap.len() {
            self.heap.swap(a, b);
            self.note(a);
            self.note(b);
        }
    }

    fn note(&mut self, place: usize) {
        if let Some(timer) = self.heap.get(place)
            && let Some(at) = self.places.get_mut(timer.slot as usize)
        {
            *at = place as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the obvious model: a map from slot to time.
        #[test]
        fn timers_fire_in_order_and_only_when_set(
            steps in prop::collection::vec((0_u32..12, prop::option::of(0_u64..40), any::<bool>()), 0..200)
        ) {
            let mut timers = Timers::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (slot, at, pop) in steps {
                timers.set(slot, at.map(Timestamp::from_nanos));
                match at {
                    Some(at) => model.insert(slot, at),
                    None => model.remove(&slot),
                };
                if pop {
                    let due = model.iter().map(|(slot, at)| (*at, *slot)).min().filter(|(at, _)| *at <= 20);
                    prop_assert_eq!(timers.pop_due(Timestamp::from_nanos(20)), due.map(|(_, slot)| slot));
                    if let Some((_, slot)) = due {
                        model.remove(&slot);
                    }
                }
                let next = model.iter().map(|(slot, at)| (Timestamp::from_nanos(*at), *slot)).min();
                prop_assert_eq!(timers.next(), next);
            }
        }
    }

    #[test]
    fn timers_are_equal_if_they_fire_alike() {
        let made = |entries: &[(u32, u64)]| {
            let mut timers = Timers::default();
            entries.iter().for_each(|(slot, at)| timers.set(*slot, Some(Timestamp::from_nanos(*at))));
            timers
        };
        let timers = made(&[(0, 9), (1, 5), (2, 7)]);
        assert_eq!(timers, made(&[(1, 5), (2, 7), (0, 9)]), "however the heap has come to lie");
        assert_eq!(timers, timers.clone());
        assert_ne!(timers, made(&[(0, 9), (1, 5)]));
        assert_ne!(timers, made(&[(0, 9), (1, 5), (2, 8)]), "another time");
        assert_ne!(timers, made(&[(0, 9), (1, 5), (3, 7)]), "another slot");
        assert_ne!(made(&[(0, 9)]), Timers::default());
    }
}
