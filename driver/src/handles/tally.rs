//! Good calls, counted by the threads that made them.
//!
//! A breaker that looks at a share of calls must count each good one, though none of them decides anything. If all
//! were counted in one place, every thread would wait for that cache line, so each thread counts in a shard of its
//! own, and the thread that holds the breaker's lock collects them.
//!
//! A shard is one word: the breaker's epoch in which it counts, and the count. Counts of an epoch that has ended are
//! never collected (R23).
//!
//! Orderings are relaxed: a count publishes nothing but itself. All writes to a shard are read-modify-writes of one
//! word, so none is lost; and if a call was counted before another began to be settled, then coherence has the latter's
//! collection see it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::available_parallelism;

use super::Alone;

/// At most this many shards, since a call that fails reads them all.
const MOST_SHARDS: usize = 64;

pub(super) struct Tally(Box<[Alone<AtomicU64>]>);

impl Tally {
    pub(super) fn new(epoch: u32) -> Self {
        Self((0..shards()).map(|_| Alone(AtomicU64::new(word(epoch, 0)))).collect())
    }

    /// Counts one call. Returns how many this shard holds now; 0 if the epoch has ended meanwhile.
    #[inline]
    pub(super) fn count(&self, epoch: u32) -> u32 {
        let mine = thread() & (self.0.len() - 1);
        let Some(Alone(shard)) = self.0.get(mine) else { return 0 };
        let mut seen = shard.load(Relaxed);
        loop {
            let (of, counted) = parts(seen);
            let counted = match epoch.wrapping_sub(of) {
                0 => counted.saturating_add(1),
                // Its count was of an epoch that has ended.
                1..=LATER => 1,
                _ => return 0,
            };
            match shard.compare_exchange_weak(seen, word(epoch, counted), Relaxed, Relaxed) {
                Ok(_) => return counted,
                Err(other) => seen = other,
            }
        }
    }

    /// Takes out what was counted in this epoch, the newest there is.
    pub(super) fn collect(&self, epoch: u32) -> u32 {
        let none = word(epoch, 0);
        let collected = self.0.iter().map(|Alone(shard)| {
            // Read before writing: a word that is not written stays in its thread's cache.
            let (of, counted) = parts(shard.load(Relaxed));
            if of == epoch && counted > 0 { parts(shard.swap(none, Relaxed)).1 } else { 0 }
        });
        collected.fold(0, u32::saturating_add)
    }
}

/// Epochs wrap around: those up to half of all ahead are later.
const LATER: u32 = u32::MAX / 2;

const fn word(epoch: u32, counted: u32) -> u64 {
    (epoch as u64) << 32 | counted as u64
}

const fn parts(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// Twice as many as threads can run at a time, so that running threads seldom share one; a power of two.
fn shards() -> usize {
    static SHARDS: OnceLock<usize> = OnceLock::new();
    *SHARDS.get_or_init(|| {
        let threads = available_parallelism().map_or(1, usize::from);
        threads.saturating_mul(2).min(MOST_SHARDS).next_power_of_two()
    })
}

/// This thread's number, counted as they come.
#[inline]
fn thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicBool, AtomicU32};

    use super::*;

    #[test]
    fn an_epoch_that_has_ended_is_neither_counted_in_nor_collected() {
        for epoch in [0, 7, u32::MAX - 1] {
            let next = epoch.wrapping_add(1);
            let tally = Tally::new(epoch);
            assert_eq!((tally.count(epoch), tally.count(epoch)), (1, 2));
            assert_eq!(tally.count(next), 1, "begins anew");
            assert_eq!(tally.count(epoch), 0);
            assert_eq!(tally.collect(epoch), 0);
            assert_eq!((tally.collect(next), tally.collect(next)), (1, 0));
        }
    }

    /// More threads than shards, collected from meanwhile: a lost update would make the sums differ.
    #[test]
    fn what_threads_count_is_collected_once() {
        let (tally, done, collected) = (Tally::new(3), AtomicBool::new(false), AtomicU32::new(0));
        let (threads, each) = (2 * shards() as u32 + 1, 20_000);
        let start = Barrier::new(threads as usize);
        std::thread::scope(|scope| {
            let counting: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        (0..each).for_each(|_| assert!(tally.count(3) > 0));
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    collected.fetch_add(tally.collect(3), Relaxed);
                }
            });
            counting.into_iter().for_each(|it| it.join().unwrap());
            done.store(true, Relaxed);
        });
        assert_eq!(collected.into_inner() + tally.collect(3), threads * each);
    }
}
