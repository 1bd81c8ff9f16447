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
