//! One timer for each of very many slots: which is due, and when is the next?
//!
//! A few timers stand in a heap. A crowd is spread over a wheel: buckets of a millisecond each for the next second,
//! buckets 1,024 times as long for the next eighteen minutes, and so on to the end of time. The heap then holds only
//! what is *near*, so setting, moving and clearing a timer take the same few steps however many there are, and a clock
//! that jumps walks over no empty bucket.
//!
//! ```text
//!             tick ≤ cursor                tick > cursor: the level is that of the highest digit in which they differ
//! near: a heap, least first     level 0   1,024 buckets of 2²⁰ ns (1.05 ms)
//!                               level 1   1,024 buckets of 2³⁰ ns (1.07 s)
//!                               …         to level 4
//! ```
//!
//! Everything is exact: [`next`](Timers::next) is the earliest timer to the nanosecond, nothing fires early, and no
//! cleared timer is kept. Timers fire by their time, and those of the same time in the order of their slots, whatever
//! has happened before; so two `Timers` that hold the same timers are equal and go on alike. Sixteen bytes a timer;
//! nothing is allocated once there is room for as many as there are.
//!
//! Memory is touched where it was touched a moment ago: a bucket is a chain of chunks that hold the times themselves,
//! so a bucket is filled and emptied in one sweep, and what is cleared is replaced by the last of its bucket.
//!
//! Invariants: what is near has a tick of at most the cursor's, all else a later one; each bucket's chunks but the last
//! are full; a slot's place is where its timer stands.
//!
//! ```
//! use steadfast_core::Timestamp;
//! use steadfast_core::timers::Timers;
//!
//! let mut timers = Timers::default();
//! timers.set(7, Some(Timestamp::from_secs(30)));
//! timers.set(3, Some(Timestamp::from_secs(10)));
//! timers.set(7, Some(Timestamp::from_secs(20))); // moved
//! assert_eq!(timers.next(), Some((Timestamp::from_secs(10), 3)));
//! assert_eq!(timers.pop_due(Timestamp::from_secs(9)), None);
//! assert_eq!(timers.pop_due(Timestamp::from_secs(60)), Some(3));
//! assert_eq!(timers.pop_due(Timestamp::from_secs(60)), Some(7));
//! assert_eq!(timers.next(), None);
//! ```

mod heap;
mod wheel;

use alloc::vec::Vec;

use self::wheel::{Bucket, CHUNK, DIGITS, LEVELS, NO_CHUNK, WORDS, bucket_at};
use crate::time::Timestamp;

/// Timers, one for each slot that has one. See the [module](self).
#[derive(Clone, Debug)]
pub struct Timers {
    /// A heap of what is near, four children to each, least first.
    near: Vec<Timer>,
    /// By slot: where its timer stands.
    places: Vec<Place>,
    /// The chunks of all buckets.
    entries: Vec<Timer>,
    /// By chunk: the one before it in its bucket, or the next that is free.
    before: Vec<u32>,
    free: u32,
    /// By level and digit; as many levels as have been needed.
    buckets: Vec<Bucket>,
    /// By level: the digits whose buckets hold something.
    occupied: [[u64; WORDS]; LEVELS],
    /// How many stand in the wheel.
    spread: usize,
    /// The tick up to which timers are near. At the end of time there is no wheel yet.
    cursor: u64,
    /// How many were set near since the wheel was last laid out or nothing was near.
    early: usize,
    next: Option<Timer>,
}

/// When, and whose. In twelve bytes, each field written and read in one piece: a processor must wait for what it puts
/// together from several that it has just written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
struct Timer {
    nanos: u64,
    slot: u32,
}

const _: () = assert!(size_of::<Timer>() == 12);

impl Timer {
    const VACANT: Self = Self { nanos: 0, slot: 0 };

    const fn new(at: Timestamp, slot: u32) -> Self {
        Self { nanos: at.as_nanos(), slot }
    }

    const fn at(self) -> Timestamp {
        Timestamp::from_nanos(self.nanos)
    }

    const fn tick(self) -> u64 {
        self.nanos >> TICK
    }

    /// By time, then by slot.
    const fn order(self) -> u128 {
        (self.nanos as u128) << 32 | self.slot as u128
    }

    const fn is_before(self, other: Self) -> bool {
        let (nanos, other_nanos) = (self.nanos, other.nanos);
        nanos < other_nanos || nanos == other_nanos && self.slot < other.slot
    }
}

/// A place in the heap, in the wheel, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u32);

impl Place {
    const NONE: Self = Self(u32::MAX);
    const NEAR: u32 = 1 << 31;

    const fn near(index: usize) -> Self {
        Self(index as u32 | Self::NEAR)
    }

    const fn spread(index: usize) -> Self {
        Self(index as u32)
    }

    const fn is_near(self) -> bool {
        self.0 & Self::NEAR != 0
    }

    const fn index(self) -> usize {
        (self.0 & !Self::NEAR) as usize
    }
}

/// A tick is 2²⁰ ns.
const TICK: u32 = 20;
/// A bucket with at most this many is searched for the earliest; one with more is spread first. Also how many may
/// stand in the heap without a wheel.
const FEW: usize = 32;

/// Read.
impl Timers {
    /// The earliest timer, and its slot.
    #[must_use]
    pub fn next(&self) -> Option<(Timestamp, u32)> {
        self.next.map(|timer| (timer.at(), timer.slot))
    }

    /// When the timer of this slot is due, if it has one.
    #[must_use]
    pub fn get(&self, slot: u32) -> Option<Timestamp> {
        self.standing(self.place(slot)).map(Timer::at)
    }
}

/// Change.
impl Timers {
    /// Sets, moves or (with `None`) clears the timer of a slot. Memory is in proportion to the highest slot.
    #[inline]
    pub fn set(&mut self, slot: u32, at: Option<Timestamp>) {
        let place = self.place(slot);
        if let Some(old) = self.standing(place) {
            if at == Some(old.at()) {
                return;
            }
            self.remove(place, old);
        }
        let was_next = self.next.is_some_and(|next| next.slot == slot);
        if let Some(at) = at {
            let timer = Timer::new(at, slot);
            if self.places.len() <= slot as usize {
                self.make_places(slot);
            }
            self.insert(timer);
            if timer.tick() <= self.cursor {
                self.count_early();
            }
            if !was_next && self.next.is_none_or(|next| timer.is_before(next)) {
                self.next = Some(timer);
            }
        } else if place != Place::NONE {
            self.note(slot, Place::NONE);
        }
        if was_next {
            self.find_next();
        }
    }

    /// Takes the earliest timer if it is due.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<u32> {
        let next = self.next.filter(|next| next.at() <= now)?;
        while self.near.is_empty() {
            // It stands in the first bucket, which therefore has begun.
            let Some((level, digit)) = self.first_bucket() else { break };
            self.open(level, digit);
        }
        let place = self.place(next.slot);
        if let Some(timer) = self.standing(place) {
            self.remove(place, timer);
            self.note(next.slot, Place::NONE);
        }
        self.find_next();
        Some(next.slot)
    }

    /// The slots of some that are due, the next ones among them.
    pub(crate) fn some_due(&self, now: Timestamp, most: usize) -> impl Iterator<Item = u32> + '_ {
        // A heap has its least in front.
        self.near.iter().take(most).filter(move |timer| timer.at() <= now).map(|timer| timer.slot)
    }

    /// Makes room for `more` further timers.
    pub fn reserve(&mut self, more: usize) {
        let _ = self.places.try_reserve_exact(more);
        if self.len().saturating_add(more) <= FEW {
            // They need no wheel. To make room for one takes 200 kB, and a process may have hundreds of engines.
            let _ = self.near.try_reserve_exact(more);
            return;
        }
        // Each bucket may leave a chunk unfilled; few have something in them at a time.
        let chunks = (more / CHUNK).saturating_add(DIGITS);
        let _ = self.before.try_reserve_exact(chunks);
        let _ = self.entries.try_reserve_exact(chunks.saturating_mul(CHUNK));
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            near: Vec::new(),
            places: Vec::new(),
            entries: Vec::new(),
            before: Vec::new(),
            free: NO_CHUNK,
            buckets: Vec::new(),
            occupied: [[0; WORDS]; LEVELS],
            spread: 0,
            cursor: u64::MAX,
            early: 0,
            next: None,
        }
    }
}

impl PartialEq for Timers {
    /// The same timers fire alike, however they have come to lie.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && (0..).zip(&self.places).all(|(slot, _)| {
                let at = self.get(slot);
                at.is_none() || at == other.get(slot)
            })
    }
}

/// Near and far.
impl Timers {
    const fn len(&self) -> usize {
        self.near.len().saturating_add(self.spread)
    }

    fn place(&self, slot: u32) -> Place {
        self.places.get(slot as usize).copied().unwrap_or(Place::NONE)
    }

    /// The timer that stands there.
    fn standing(&self, place: Place) -> Option<Timer> {
        if place == Place::NONE {
            return None;
        }
        if place.is_near() { self.near.get(place.index()) } else { self.entries.get(place.index()) }.copied()
    }

    #[cold]
    fn make_places(&mut self, slot: u32) {
        let len = (slot as usize).saturating_add(1);
        let more = len.saturating_sub(self.places.len());
        grow(&mut self.places, more);
        self.places.resize(len, Place::NONE);
    }

    fn note(&mut self, slot: u32, place: Place) {
        if let Some(at) = self.places.get_mut(slot as usize) {
            *at = place;
        }
    }

    fn insert(&mut self, timer: Timer) {
        if timer.tick() <= self.cursor {
            grow(&mut self.near, 1);
            self.near.push(timer);
            self.rise(self.near.len().saturating_sub(1), timer);
        } else {
            self.spread(timer);
        }
    }

    fn count_early(&mut self) {
        self.early = self.early.saturating_add(1);
        if self.early > FEW.max(self.len() / 2) && self.near.len() > FEW {
            self.lay_out();
        }
    }

    /// Takes the timer that stands there away. Its slot's place is for the caller to note.
    fn remove(&mut self, place: Place, timer: Timer) {
        if place.is_near() { self.leave_heap(place.index()) } else { self.leave_bucket(place.index(), timer) }
    }

    /// After the earliest has gone: which is it now?
    fn find_next(&mut self) {
        while self.near.is_empty() {
            self.early = 0;
            let Some((level, digit)) = self.first_bucket() else { break };
            let bucket = self.buckets.get(bucket_at(level, digit)).copied().unwrap_or(Bucket::EMPTY);
            if level > 0 && bucket.len as usize <= FEW {
                self.next = self.earliest(bucket);
                return;
            }
            self.open(level, digit);
        }
        self.next = self.near.first().copied();
    }

    /// Lays the wheel out from the earliest timer on: too many have been set before where it began.
    fn lay_out(&mut self) {
        let near = core::mem::take(&mut self.near);
        let buckets = core::mem::take(&mut self.buckets);
        let first = near.iter().map(|timer| timer.tick()).min();
        self.occupied = [[0; WORDS]; LEVELS];
        (self.cursor, self.spread, self.early) = (first.unwrap_or(self.cursor), 0, 0);
        for timer in near {
            self.insert(timer);
        }
        for bucket in buckets {
            self.insert_all(bucket);
        }
    }
}

/// Makes room for `more` further entries, by an eighth or more: a vector that doubles would have each of a million
/// operations carry another's bytes.
#[inline]
pub(crate) fn grow<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity().saturating_sub(vec.len()) < more {
        make_room(vec, more);
    }
}

#[cold]
fn make_room<T>(vec: &mut Vec<T>, more: usize) {
    // If there is no memory at all, whatever puts something in reports it.
    let _ = vec.try_reserve_exact(more.max(vec.len() / 8).max(16));
}

#[cfg(test)]
mod tests;
