//! Where each key's row lies, and which rows may be forgotten first.
//!
//! In memory, not in the file: keys have no order, so an index of them in the file would have each record of a batch rewrite a page of its own, which
//! costs many times what the records do. All rows are read once anyway, to verify them. An entry is four bytes of a hash and four of a row number,
//! some twenty bytes a key with the room that a hash table needs; whether a row is really the key's is seen when it is read, or remembered by a longer hash. Row numbers count
//! records, so after four thousand million of them they need eight bytes: those stand apart.
//!
//! Of what was settled, sixteen bytes more say when. That is a hint: a row may have gone, or changed, since.

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
    /// Whether they do not lie in the order of their times: rows are read in the order of their keys, and several writers' clocks differ by a moment.
    mixed: bool,
}

const _: () = assert!(size_of::<(u32, u32)>() == 8);

impl Places {
    /// The rows that may be the key's of this name: hardly ever more than one.
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

    /// Notes that this row was settled then.
    pub(super) fn settled(&mut self, at: Timestamp, first: i64) {
        self.mixed |= self.settled.back().is_some_and(|(last, _)| *last > at);
        self.settled.push_back((at, first));
    }

    /// When rows were settled, the oldest first; those that are not any more among them.
    pub(super) fn oldest(&mut self) -> impl Iterator<Item = (Timestamp, i64)> {
        if std::mem::take(&mut self.mixed) {
            // The stable sort, since nearly all lie in their order, and it takes what does as it is: of a million 1 ms, where the other takes 40.
            self.settled.make_contiguous().sort_by_key(|(at, _)| *at);
        }
        self.settled.iter().copied()
    }

    /// Forgets so many of the oldest.
    pub(super) fn pass(&mut self, count: usize) {
        self.settled.drain(..count.min(self.settled.len()));
    }

    /// What stands for a key where its row is not read: nobody can make two keys that have the same one, and chance makes none.
    pub(super) fn name(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key)
    }
}

/// A table takes its buckets from the low bits of a hash, and seven more to tell entries apart from the high ones.
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
