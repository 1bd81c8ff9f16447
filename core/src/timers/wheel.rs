//! What is further off: buckets by the highest digit in which their ticks differ from the cursor's, each a chain of
//! chunks.

use super::{Place, Timer, Timers, grow};

/// A digit of a tick has ten bits: what waits for seconds or minutes is moved twice, from level 1 to level 0 and from
/// there to what is near.
const DIGIT: u32 = 10;
pub(super) const DIGITS: usize = 1 << DIGIT;
pub(super) const WORDS: usize = DIGITS / 64;
/// They hold the 44 bits of a tick.
pub(super) const LEVELS: usize = 5;
pub(super) const CHUNK: usize = 16;
pub(super) const NO_CHUNK: u32 = u32::MAX;

/// A chain of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// The chunk that is not full, if one is not.
    pub(super) last: u32,
    pub(super) len: u32,
}

impl Bucket {
    pub(super) const EMPTY: Self = Self { last: NO_CHUNK, len: 0 };
}

impl Timers {
    pub(super) fn spread(&mut self, timer: Timer) {
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
    pub(super) fn leave_bucket(&mut self, place: usize, timer: Timer) {
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
    pub(super) fn open(&mut self, level: usize, digit: usize) {
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
    pub(super) fn insert_all(&mut self, mut bucket: Bucket) {
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

    pub(super) fn earliest(&self, mut bucket: Bucket) -> Option<Timer> {
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
    pub(super) fn first_bucket(&self) -> Option<(usize, usize)> {
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
pub(super) const fn digit_of(tick: u64, cursor: u64) -> (usize, usize) {
    let highest = u64::BITS.saturating_sub(1).saturating_sub((tick ^ cursor).leading_zeros());
    let level = highest / DIGIT;
    // Times what it was divided by: no more than it was.
    let digit = tick >> DIGIT.wrapping_mul(level);
    (level as usize, digit as usize % DIGITS)
}

pub(super) const fn bucket_at(level: usize, digit: usize) -> usize {
    level << DIGIT | digit
}

pub(super) const fn entry_at(chunk: u32, within: usize) -> usize {
    (chunk as usize) << CHUNK.trailing_zeros() | within
}
