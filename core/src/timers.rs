//! One timer for each of very many slots: which is due, and when is the next?
//!
//! A few timers stand in a heap. A crowd is spread over a wheel: buckets of a millisecond each for the next second, buckets 1,024 times as long for
//! the next eighteen minutes, and so on to the end of time. The heap then holds only what is *near*, so setting, moving and clearing a timer take the same
//! few steps however many there are, and a clock that jumps walks over no empty bucket.
//!
//! ```text
//!             tick ≤ cursor                tick > cursor: the level is that of the highest digit in which they differ
//! near: a heap, least first     level 0   1,024 buckets of 2²⁰ ns (1.05 ms)
//!                               level 1   1,024 buckets of 2³⁰ ns (1.07 s)
//!                               …         to level 4
//! ```
//!
//! All is exact: [`next`](Timers::next) is the earliest timer to the nanosecond, nothing fires early, and no cleared timer is kept. Timers fire by their
//! time, and those of the same time in the order of their slots, whatever has happened before; so two that hold the same timers are equal and
//! go on alike. Sixteen bytes a timer; nothing is allocated once there is room for as many as there are.
//!
//! Memory is touched where it was touched a moment ago: a bucket is a chain of chunks that hold the times themselves, so a bucket is filled and emptied in one
//! sweep, and what is cleared is replaced by the last of its bucket.
//!
//! Invariants: what is near has a tick of at most the cursor's, all else a later one; each bucket's chunks but the last are full; a slot's place is where its
//! timer stands.
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

use alloc::vec::Vec;

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

/// When, and whose. In twelve bytes, each field written and read in one piece: a processor must wait for what it puts together from several that it has just
/// written.
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

/// A chain of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// The chunk that is not full, if one is not.
    last: u32,
    len: u32,
}

impl Bucket {
    const EMPTY: Self = Self { last: NO_CHUNK, len: 0 };
}

const NO_CHUNK: u32 = u32::MAX;
/// A tick is 2²⁰ ns.
const TICK: u32 = 20;
/// A digit of a tick has ten bits: what waits for seconds or minutes is moved twice, from level 1 to level 0 and from there to what is near.
const DIGIT: u32 = 10;
const DIGITS: usize = 1 << DIGIT;
const WORDS: usize = DIGITS / 64;
/// They hold the 44 bits of a tick.
const LEVELS: usize = 5;
const CHUNK: usize = 16;
/// So many in a bucket are looked through for the earliest; more are spread first. And so many may stand in the heap without a wheel.
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

    /// Makes room for so many more.
    pub fn reserve(&mut self, more: usize) {
        let _ = self.places.try_reserve_exact(more);
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

/// The wheel.
impl Timers {
    fn spread(&mut self, timer: Timer) {
        let (level, digit) = digit_of(timer.tick(), self.cursor);
        let at = bucket_at(level, digit);
        if self.buckets.len() <= at {
            self.make_buckets(level);
        }
        let mut bucket = self.buckets.get(at).copied().unwrap_or(Bucket::EMPTY);
        let within = bucket.len as usize % CHUNK;
        if within == 0 {
            let chunk = self.take_chunk();
            if let Some(before) = self.before.get_mut(chunk as usize) {
                *before = bucket.last;
            }
            bucket.last = chunk;
        }
        let place = entry_at(bucket.last, within);
        if let Some(entry) = self.entries.get_mut(place) {
            *entry = timer;
        }
        bucket.len = bucket.len.saturating_add(1);
        if let Some(at) = self.buckets.get_mut(at) {
            *at = bucket;
        }
        self.mark(level, digit, true);
        self.spread = self.spread.saturating_add(1);
        self.note(timer.slot, Place::spread(place));
    }

    #[cold]
    fn make_buckets(&mut self, level: usize) {
        self.buckets.resize(level.saturating_add(1) << DIGIT, Bucket::EMPTY);
    }

    /// The last of its bucket takes its place.
    fn leave_bucket(&mut self, place: usize, timer: Timer) {
        let (level, digit) = digit_of(timer.tick(), self.cursor);
        let Some(bucket) = self.buckets.get_mut(bucket_at(level, digit)) else { return };
        let Some(len) = bucket.len.checked_sub(1) else { return };
        bucket.len = len;
        let (chunk, within) = (bucket.last, len as usize % CHUNK);
        if within == 0 {
            bucket.last = self.before.get(chunk as usize).copied().unwrap_or(NO_CHUNK);
        }
        let moved = self.entries.get(entry_at(chunk, within)).copied().unwrap_or(timer);
        if let Some(entry) = self.entries.get_mut(place) {
            *entry = moved;
        }
        self.note(moved.slot, Place::spread(place));
        if within == 0 {
            self.give_chunk(chunk);
        }
        if len == 0 {
            self.mark(level, digit, false);
        }
        self.spread = self.spread.saturating_sub(1);
    }

    /// Moves the cursor to where a bucket begins, the first that holds something, and spreads what is in it anew.
    fn open(&mut self, level: usize, digit: usize) {
        let shift = DIGIT.saturating_mul(level as u32);
        let above = self.cursor >> shift >> DIGIT;
        self.cursor = (above << DIGIT | digit as u64) << shift;
        let bucket = self.buckets.get_mut(bucket_at(level, digit));
        let bucket = bucket.map_or(Bucket::EMPTY, |bucket| core::mem::replace(bucket, Bucket::EMPTY));
        self.mark(level, digit, false);
        self.spread = self.spread.saturating_sub(bucket.len as usize);
        self.insert_all(bucket);
    }

    /// Puts everything in a bucket that is no longer in the wheel where it belongs.
    fn insert_all(&mut self, mut bucket: Bucket) {
        while bucket.len > 0 {
            let chunk = bucket.last;
            let count = (bucket.len as usize).saturating_sub(1) % CHUNK;
            for within in 0..=count {
                if let Some(timer) = self.entries.get(entry_at(chunk, within)).copied() {
                    self.insert(timer);
                }
            }
            bucket.len = bucket.len.saturating_sub(count as u32).saturating_sub(1);
            bucket.last = self.before.get(chunk as usize).copied().unwrap_or(NO_CHUNK);
            self.give_chunk(chunk);
        }
    }

    fn earliest(&self, mut bucket: Bucket) -> Option<Timer> {
        let mut earliest: Option<Timer> = None;
        while bucket.len > 0 {
            let count = (bucket.len as usize).saturating_sub(1) % CHUNK;
            let from = entry_at(bucket.last, 0);
            let chunk = self.entries.get(from..=from.saturating_add(count)).unwrap_or_default();
            earliest = chunk.iter().copied().chain(earliest).min_by_key(|timer| timer.order());
            bucket.len = bucket.len.saturating_sub(count as u32).saturating_sub(1);
            bucket.last = self.before.get(bucket.last as usize).copied().unwrap_or(NO_CHUNK);
        }
        earliest
    }

    /// The bucket whose timers are due first: lower levels lie before higher ones, and the cursor before all.
    fn first_bucket(&self) -> Option<(usize, usize)> {
        self.occupied.iter().enumerate().find_map(|(level, words)| {
            let (index, word) = words.iter().enumerate().find(|(_, word)| **word != 0)?;
            Some((level, index.saturating_mul(64).saturating_add(word.trailing_zeros() as usize)))
        })
    }

    fn mark(&mut self, level: usize, digit: usize, holds: bool) {
        if let Some(word) = self.occupied.get_mut(level).and_then(|words| words.get_mut(digit / 64)) {
            let bit = 1 << (digit % 64);
            *word = if holds { *word | bit } else { *word & !bit };
        }
    }

    fn take_chunk(&mut self) -> u32 {
        let chunk = self.free;
        if let Some(next) = self.before.get(chunk as usize) {
            self.free = *next;
            return chunk;
        }
        self.make_chunk()
    }

    #[cold]
    fn make_chunk(&mut self) -> u32 {
        let chunk = self.before.len();
        grow(&mut self.before, 1);
        self.before.push(NO_CHUNK);
        grow(&mut self.entries, CHUNK);
        self.entries.resize(self.entries.len().saturating_add(CHUNK), Timer::VACANT);
        chunk as u32
    }

    fn give_chunk(&mut self, chunk: u32) {
        if let Some(next) = self.before.get_mut(chunk as usize) {
            *next = self.free;
            self.free = chunk;
        }
    }
}

/// The highest digit in which a later tick differs from the cursor, and what it is.
const fn digit_of(tick: u64, cursor: u64) -> (usize, usize) {
    let highest = u64::BITS.saturating_sub(1).saturating_sub((tick ^ cursor).leading_zeros());
    let level = highest / DIGIT;
    // Times what it was divided by: no more than it was.
    let digit = tick >> DIGIT.wrapping_mul(level);
    (level as usize, digit as usize % DIGITS)
}

const fn bucket_at(level: usize, digit: usize) -> usize {
    level << DIGIT | digit
}

const fn entry_at(chunk: u32, within: usize) -> usize {
    (chunk as usize) << CHUNK.trailing_zeros() | within
}

/// The heap.
impl Timers {
    fn leave_heap(&mut self, place: usize) {
        let Some(last) = self.near.pop() else { return };
        if place < self.near.len() {
            let place = self.rise(place, last);
            self.sink(place, last);
        }
    }

    /// Puts a timer there, or as far up from there as it belongs.
    fn rise(&mut self, mut place: usize, timer: Timer) -> usize {
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

/// Makes room for so many more by an eighth: a vector that doubles would have each of a million operations carry another's bytes.
#[inline]
pub(crate) fn grow<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity().saturating_sub(vec.len()) < more {
        make_room(vec, more);
    }
}

#[cold]
fn make_room<T>(vec: &mut Vec<T>, more: usize) {
    // What has no room at all is told by whoever puts something in.
    let _ = vec.try_reserve_exact(more.max(vec.len() / 8).max(16));
}

#[cfg(test)]
mod tests;
