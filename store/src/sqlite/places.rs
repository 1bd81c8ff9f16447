//! Finds each key's row, and the rows that may be forgotten first.
//!
//! In memory, not in the file: keys have no order, so with an index in the file each record of a batch would rewrite a
//! page of its own, which costs many times what the records do. All rows are read once anyway, to verify them. An entry
//! is four bytes of a hash and four of a row number, some twenty bytes per key with the room that a hash table needs;
//! whether a row is really the key's is checked when it is read, or by a longer hash that is remembered. Row numbers
//! count records, so beyond four thousand million they need eight bytes: those are kept separately.
//!
//! For settled operations, sixteen bytes more say when they were settled. That is a hint: a row may have gone, or
//! changed, since.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use steadfast_core::{Key, Timestamp};

#[derive(Debug, Default)]
pub(super) struct Places {
    hasher: RandomState,
    near: HashTable<(u32, u32)>,
    far: HashTable<(u32, i64)>,
    settled: VecDeque<(Timestamp, i64)>,
    /// Whether they are out of the order of their times: rows are read in the order of their keys, and several
    /// writers' clocks differ by a moment.
    mixed: bool,
}

const _: () = assert!(size_of::<(u32, u32)>() == 8);

impl Places {
    /// The rows that may belong to the key of this name: hardly ever more than one.
    pub(super) fn candidates(&self, name: u64) -> impl Iterator<Item = i64> {
        let hash = name as u32;
        let near =
            self.near.iter_hash(spread(hash)).filter(move |(of, _)| *of == hash).map(|(_, first)| i64::from(*first));
        let far = self.far.iter_hash(spread(hash)).filter(move |(of, _)| *of == hash).map(|(_, first)| *first);
        near.chain(far)
    }

    pub(super) fn insert(&mut self, name: u64, first: i64) {
        let hash = name as u32;
        if let Ok(first) = u32::try_from(first) {
            self.near.insert_unique(spread(hash), (hash, first), |(hash, _)| spread(*hash));
        } else {
            self.far.insert_unique(spread(hash), (hash, first), |(hash, _)| spread(*hash));
        }
    }

    pub(super) fn remove(&mut self, name: u64, first: i64) {
        let hash = name as u32;
        if let Ok(first) = u32::try_from(first) {
            if let Ok(entry) = self.near.find_entry(spread(hash), |place| *place == (hash, first)) {
                entry.remove();
            }
        } else if let Ok(entry) = self.far.find_entry(spread(hash), |place| *place == (hash, first)) {
            entry.remove();
        }
    }

    /// Notes when this row was settled.
    pub(super) fn settled(&mut self, at: Timestamp, first: i64) {
        self.mixed |= self.settled.back().is_some_and(|(last, _)| *last > at);
        self.settled.push_back((at, first));
    }

    /// When rows were settled, the oldest first; rows that are not settled any more may be among them.
    pub(super) fn oldest(&mut self) -> impl Iterator<Item = (Timestamp, i64)> {
        if std::mem::take(&mut self.mixed) {
            // The stable sort, since nearly all are in order already, which it exploits: 1 ms for a million, where the
            // unstable one takes 40.
            self.settled.make_contiguous().sort_by_key(|(at, _)| *at);
        }
        self.settled.iter().copied()
    }

    /// Drops this many of the oldest.
    pub(super) fn pass(&mut self, count: usize) {
        self.settled.drain(..count.min(self.settled.len()));
    }

    /// A hash that stands for a key where its row is not read: nobody can construct two keys with the same one, and
    /// chance does not produce them.
    pub(super) fn name(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key)
    }
}

/// A hash table takes its buckets from the low bits of a hash, and seven more from the high ones to tell entries apart.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_come_first_and_those_of_one_moment_need_no_sorting() {
        let mut places = Places::default();
        let at = Timestamp::from_secs;
        [(5, 3), (5, 1), (6, 2)].into_iter().for_each(|(seconds, first)| places.settled(at(seconds), first));
        assert!(!places.mixed);
        places.settled(at(4), 9);
        assert_eq!(places.oldest().collect::<Vec<_>>(), [(at(4), 9), (at(5), 3), (at(5), 1), (at(6), 2)]);
    }
}
