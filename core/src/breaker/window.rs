//! What a closed breaker remembers of the last calls: a streak, a window of calls, or a window of time.
//!
//! A window of calls is a ring of bits, one call each. A window of time is a ring of ten slices: a slice opens with the
//! first call after a tenth of the span and is dropped whole when it began a span ago (as in Polly), so what counts is
//! never older than the span and never less than nine tenths of it. Both are of fixed size: nothing is allocated, and
//! the counts are kept, not added up.

use core::time::Duration;

use super::{Trip, Window};
use crate::time::Timestamp;

/// The longest window of calls: what fits in the ring.
pub(super) const MOST_CALLS: u16 = 512;

const WORDS: usize = MOST_CALLS as usize / 64;
const SLICES: u32 = 10;

/// How many calls a window holds, and how many of them were bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Counts {
    /// All calls.
    pub calls: u32,
    /// Calls that failed.
    pub failed: u32,
    /// Calls that took too long, failed or not.
    pub slow: u32,
}

impl Counts {
    const fn add(&mut self, other: Self) {
        self.calls = self.calls.saturating_add(other.calls);
        self.failed = self.failed.saturating_add(other.failed);
        self.slow = self.slow.saturating_add(other.slow);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum Memory {
    Streak(u32),
    Calls(Ring),
    Time(Slices),
}

impl Memory {
    pub(super) const fn new(trip: Trip) -> Self {
        match trip {
            Trip::Consecutive { .. } => Self::Streak(0),
            Trip::Rate { window: Window::Calls(size), .. } => Self::Calls(Ring::new(size)),
            Trip::Rate { window: Window::Time(span), .. } => Self::Time(Slices::new(span)),
        }
    }

    /// Takes in one call. A memory of another shape belongs to settings that have been changed: it starts afresh.
    #[inline]
    pub(super) fn record(&mut self, failed: bool, slow: bool, trip: &Trip, now: Timestamp) {
        match (&mut *self, trip) {
            (Self::Streak(streak), Trip::Consecutive { .. }) => {
                *streak = if failed { streak.saturating_add(1) } else { 0 };
            }
            (Self::Calls(ring), Trip::Rate { window: Window::Calls(size), .. }) if ring.size == *size => {
                ring.record(failed, slow);
            }
            (Self::Time(slices), Trip::Rate { window: Window::Time(span), .. }) if slices.span == *span => {
                slices.record(failed, slow, now);
            }
            (Self::Streak(_) | Self::Calls(_) | Self::Time(_), _) => {
                *self = Self::new(*trip);
                // Of the right shape now, so this ends.
                self.record(failed, slow, trip, now);
            }
        }
    }

    /// Takes in a good, quick call, if it remembers calls one by one and by these settings.
    #[inline]
    pub(super) fn record_good(&mut self, trip: &Trip) -> bool {
        match (self, trip) {
            (Self::Calls(ring), Trip::Rate { window: Window::Calls(size), .. }) if ring.size == *size => {
                ring.record(false, false);
                true
            }
            _ => false,
        }
    }

    /// Takes in `calls` good, quick calls that came one after the other, none later than
    /// [`open_until`](Memory::open_until).
    pub(super) fn record_all_good(&mut self, calls: u32, trip: &Trip) {
        match (self, trip) {
            (Self::Calls(ring), Trip::Rate { window: Window::Calls(size), .. }) if ring.size == *size => {
                ring.record_all_good(calls);
            }
            (Self::Time(slices), Trip::Rate { window: Window::Time(span), .. }) if slices.span == *span => {
                let newest = slices.open.checked_sub(1).and_then(|newest| slices.slice_mut(newest));
                if let Some(newest) = newest {
                    newest.counts.add(Counts { calls, failed: 0, slow: 0 });
                }
            }
            _ => {}
        }
    }

    /// Until when good calls only add to a count here.
    pub(super) fn open_until(&self) -> Timestamp {
        match self {
            Self::Streak(_) => Timestamp::EPOCH,
            Self::Calls(_) => Timestamp::NEVER,
            Self::Time(slices) => {
                let newest = slices.open.checked_sub(1).and_then(|newest| slices.slices.get(slices.at(newest)));
                newest.map_or(Timestamp::EPOCH, |newest| newest.began.saturating_add(slices.tenth()))
            }
        }
    }

    #[inline]
    pub(super) fn counts(&self, now: Timestamp) -> Counts {
        match self {
            Self::Streak(streak) => Counts { calls: *streak, failed: *streak, slow: 0 },
            Self::Calls(ring) => ring.counts,
            Self::Time(slices) => slices.counts(now),
        }
    }

    /// Whether it fits these settings, and holds nothing from the future: with a clock that was wrong when it was
    /// stored, that would count as recent for as long as the clock was ahead.
    pub(super) fn is_of(&self, trip: &Trip, now: Timestamp) -> bool {
        match (self, trip) {
            (Self::Streak(_), Trip::Consecutive { .. }) => true,
            (Self::Calls(ring), Trip::Rate { window: Window::Calls(size), .. }) => ring.size == *size,
            (Self::Time(slices), Trip::Rate { window: Window::Time(span), .. }) => {
                slices.span == *span && slices.slices.iter().all(|slice| slice.began <= now)
            }
            (Self::Streak(_) | Self::Calls(_) | Self::Time(_), _) => false,
        }
    }

    /// Whether a good call leaves no trace here: in a streak of none, and in a full ring of good calls, where one more
    /// takes the place of its like.
    pub(super) const fn is_clean(&self) -> bool {
        match self {
            Self::Streak(streak) => *streak == 0,
            Self::Calls(ring) => {
                ring.counts.calls >= ring.size as u32 && ring.counts.failed == 0 && ring.counts.slow == 0
            }
            Self::Time(_) => false,
        }
    }
}

/// The last calls, one bit each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Ring {
    size: u16,
    next: u16,
    counts: Counts,
    failed: [u64; WORDS],
    slow: [u64; WORDS],
}

impl Ring {
    const fn new(size: u16) -> Self {
        let empty = Counts { calls: 0, failed: 0, slow: 0 };
        Self { size, next: 0, counts: empty, failed: [0; WORDS], slow: [0; WORDS] }
    }

    #[inline]
    fn record(&mut self, failed: bool, slow: bool) {
        let Counts { calls, failed: all_failed, slow: all_slow } = &mut self.counts;
        // Of a window without slow calls, no bit need be looked at for one that is not.
        if slow || *all_slow > 0 {
            replace(&mut self.slow, self.next, slow, all_slow);
        }
        replace(&mut self.failed, self.next, failed, all_failed);
        *calls = calls.saturating_add(1).min(self.size.into());
        self.next = self.next.saturating_add(1);
        if self.next >= self.size {
            self.next = 0;
        }
    }

    fn record_all_good(&mut self, calls: u32) {
        // Once around is as good as more often: then all are good.
        let calls = u16::try_from(calls).unwrap_or(u16::MAX).min(self.size);
        let end = self.next.saturating_add(calls);
        let (end, wrapped) = (end.min(self.size), end.saturating_sub(self.size));
        for (bits, count) in [(&mut self.failed, &mut self.counts.failed), (&mut self.slow, &mut self.counts.slow)] {
            clear(bits, self.next, end, count);
            clear(bits, 0, wrapped, count);
        }
        self.counts.calls = self.counts.calls.saturating_add(calls.into()).min(self.size.into());
        self.next = if end >= self.size { wrapped } else { end };
    }
}

/// Clears the bits from `start` to before `end`, and keeps the count of those that are set.
fn clear(bits: &mut [u64; WORDS], start: u16, end: u16, count: &mut u32) {
    for (word, first) in bits.iter_mut().zip((0_u16..).step_by(64)) {
        let from = start.saturating_sub(first).min(64);
        let to = end.saturating_sub(first).min(64);
        // A shift by all 64 bits leaves none.
        let below = |place: u16| !u64::MAX.checked_shl(place.into()).unwrap_or(0);
        let cleared = below(to) & !below(from);
        *count = count.saturating_sub((*word & cleared).count_ones());
        *word &= !cleared;
    }
}

/// Writes one bit, and keeps the count of those that are set.
#[inline]
fn replace(bits: &mut [u64; WORDS], at: u16, bit: bool, count: &mut u32) {
    let Some(word) = bits.get_mut(usize::from(at / 64)) else { return };
    let place = at % 64;
    let was = *word >> place & 1;
    *word = *word & !(1 << place) | u64::from(bit) << place;
    *count = count.saturating_add(bit.into()).saturating_sub(was as u32);
}
/// The last span of time, in slices.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Slices {
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
    span: Duration,
    /// Oldest first from `first`, around the ring; `open` of them.
    slices: [Slice; SLICES as usize],
    first: u8,
    open: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Slice {
    began: Timestamp,
    counts: Counts,
}

impl Slices {
    const fn new(span: Duration) -> Self {
        let empty = Slice { began: Timestamp::EPOCH, counts: Counts { calls: 0, failed: 0, slow: 0 } };
        Self { span, slices: [empty; SLICES as usize], first: 0, open: 0 }
    }

    fn record(&mut self, failed: bool, slow: bool, now: Timestamp) {
        self.drop_old(now);
        let call = Counts { calls: 1, failed: failed.into(), slow: slow.into() };
        let tenth = self.tenth();
        let newest = self.open.checked_sub(1).and_then(|newest| self.slice_mut(newest));
        if let Some(newest) = newest
            && now.saturating_since(newest.began) < tenth
        {
            return newest.counts.add(call);
        }
        if usize::from(self.open) >= self.slices.len() {
            self.drop_first();
        }
        let place = self.open;
        self.open = self.open.saturating_add(1);
        if let Some(slice) = self.slice_mut(place) {
            *slice = Slice { began: now, counts: call };
        }
    }

    /// How long a slice takes in calls.
    fn tenth(&self) -> Duration {
        self.span.checked_div(SLICES).unwrap_or_default()
    }

    fn counts(&self, now: Timestamp) -> Counts {
        let mut total = Counts::default();
        for place in 0..self.open {
            if let Some(slice) = self.slices.get(self.at(place)).filter(|slice| !self.is_old(slice, now)) {
                total.add(slice.counts);
            }
        }
        total
    }

    fn is_old(&self, slice: &Slice, now: Timestamp) -> bool {
        now.saturating_since(slice.began) >= self.span
    }

    fn drop_old(&mut self, now: Timestamp) {
        while self.open > 0 && self.slices.get(self.at(0)).is_some_and(|oldest| self.is_old(oldest, now)) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        // Left as an empty one, so that equal windows are equal.
        let empty = Slice { began: Timestamp::EPOCH, counts: Counts::default() };
        if let Some(oldest) = self.slice_mut(0) {
            *oldest = empty;
        }
        self.first = around(self.first.saturating_add(1));
        self.open = self.open.saturating_sub(1);
    }

    fn slice_mut(&mut self, place: u8) -> Option<&mut Slice> {
        let at = self.at(place);
        self.slices.get_mut(at)
    }

    fn at(&self, place: u8) -> usize {
        usize::from(around(self.first.saturating_add(place)))
    }
}

/// A place around the ring; `place` is less than twice round.
const fn around(place: u8) -> u8 {
    if place >= SLICES as u8 { place.saturating_sub(SLICES as u8) } else { place }
}
