//! Which operation has this key? One execution per key starts here.
//!
//! An index into the slab, by a seeded hash of the key; the keys themselves live in their operations.

use hashbrown::HashTable;

use crate::key::Key;
use crate::seed::Seed;

#[derive(Clone, Debug)]
pub(super) struct Keys {
    slots: HashTable<u32>,
    seed: Seed,
}

impl PartialEq for Keys {
    /// The index follows from the slab: beside equal slabs, equal seeds make equal indexes.
    fn eq(&self, other: &Self) -> bool {
        self.seed == other.seed && self.slots.len() == other.slots.len()
    }
}

impl Keys {
    pub(super) fn new(seed: Seed) -> Self {
        Self { slots: HashTable::new(), seed }
    }

    /// The slot for which `holds` says that it has this key.
    pub(super) fn find(&self, key: &Key, holds: impl Fn(u32) -> bool) -> Option<u32> {
        self.slots.find(self.hash(key), |slot| holds(*slot)).copied()
    }

    /// Adds a slot. `key_of` finds the key of a slot already in the index, when it grows.
    pub(super) fn insert<'k>(&mut self, key: &Key, slot: u32, key_of: impl Fn(u32) -> Option<&'k Key>) {
        let seed = self.seed;
        self.slots.insert_unique(self.hash(key), slot, |slot| key_of(*slot).map_or(0, |key| hash(seed, key)));
    }

    /// Makes room for so many more.
    pub(super) fn reserve<'k>(&mut self, more: usize, key_of: impl Fn(u32) -> Option<&'k Key>) {
        let seed = self.seed;
        let _ = self.slots.try_reserve(more, |slot| key_of(*slot).map_or(0, |key| hash(seed, key)));
    }

    pub(super) fn remove(&mut self, key: &Key, slot: u32) {
        if let Ok(entry) = self.slots.find_entry(self.hash(key), |found| *found == slot) {
            entry.remove();
        }
    }

    fn hash(&self, key: &Key) -> u64 {
        hash(self.seed, key)
    }
}

fn hash(seed: Seed, key: &Key) -> u64 {
    seed.derive_bytes(key.as_str().as_bytes()).value()
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec::Vec;

    use super::*;

    /// Who may choose keys must not be able to choose them so that finding one takes long.
    #[test]
    fn keys_spread_and_another_seed_spreads_them_otherwise() {
        let hashes = |seed: u64| -> Vec<u64> {
            (0..1_000).map(|n| hash(Seed::new(seed), &Key::new(format!("order-{n}")).unwrap())).collect()
        };
        let (one, other) = (hashes(1), hashes(2));
        assert!(one.iter().zip(&other).all(|(a, b)| a != b));
        let mut low: Vec<u64> = one.iter().map(|hash| hash % 1_024).collect();
        low.sort_unstable();
        low.dedup();
        assert!(low.len() > 580, "{} of 1,024, where chance alone fills 638", low.len());
    }

    #[test]
    fn an_index_that_lost_or_kept_too_much_is_another_one() {
        let key = |n: u32| Key::new(format!("order-{n}")).unwrap();
        let keys: Vec<Key> = (0..50).map(key).collect();
        let index = |seed, count: u32| {
            let mut index = Keys::new(Seed::new(seed));
            (0..count).for_each(|n| index.insert(&key(n), n, |slot| keys.get(slot as usize)));
            index
        };
        let mut one = index(1, 50);
        assert_eq!(one, index(1, 50));
        assert_ne!(one, index(2, 50));
        assert_ne!(one, index(1, 49));
        one.remove(&key(7), 8);
        assert_eq!(one, index(1, 50), "that slot has another key");
        one.remove(&key(7), 7);
        assert_ne!(one, index(1, 50));
        for n in 0..50 {
            assert_eq!(one.find(&key(n), |slot| slot == n), (n != 7).then_some(n));
        }
    }
}
