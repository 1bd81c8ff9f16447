//! Which operation has this key? One execution per key starts here.
//!
//! An index into the slab, by a seeded hash of the key; the keys themselves live in their operations. An operation's
//! seed is such a hash: so a key is hashed once, when it comes in, and not again when the index grows or gives it up.

use hashbrown::HashTable;

use crate::key::Key;
use crate::seed::Seed;

#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    slots: HashTable<u32>,
}

impl PartialEq for Keys {
    /// The index follows from the slab: beside equal slabs, as many entries make equal indexes.
    fn eq(&self, other: &Self) -> bool {
        self.slots.len() == other.slots.len()
    }
}

/// The seed of the operation that has this key. A caller who chooses keys does not know the engine's seed, so cannot
/// make them collide.
pub(super) fn seed_of(engine: Seed, key: &Key) -> Seed {
    engine.derive_bytes(key.as_bytes())
}

impl Keys {
    /// The slot for which `holds` says that it has the key of this seed.
    pub(super) fn find(&self, seed: Seed, holds: impl Fn(u32) -> bool) -> Option<u32> {
        self.slots.find(seed.value(), |slot| holds(*slot)).copied()
    }

    /// Adds a slot. `seed_of` finds the seed of a slot already in the index, when it grows.
    pub(super) fn insert(&mut self, seed: Seed, slot: u32, seed_of: impl Fn(u32) -> Option<Seed>) {
        self.slots.insert_unique(seed.value(), slot, |slot| seed_of(*slot).map_or(0, Seed::value));
    }

    /// Makes room for `more` further entries.
    pub(super) fn reserve(&mut self, more: usize, seed_of: impl Fn(u32) -> Option<Seed>) {
        let _ = self.slots.try_reserve(more, |slot| seed_of(*slot).map_or(0, Seed::value));
    }

    pub(super) fn remove(&mut self, seed: Seed, slot: u32) {
        if let Ok(entry) = self.slots.find_entry(seed.value(), |found| *found == slot) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec::Vec;

    use super::*;

    /// A caller who chooses keys must not be able to choose them so that finding one takes long.
    #[test]
    fn keys_spread_and_another_seed_spreads_them_otherwise() {
        let hashes = |seed: u64| -> Vec<u64> {
            (0..1_000).map(|n| seed_of(Seed::new(seed), &Key::new(format!("order-{n}")).unwrap()).value()).collect()
        };
        let (one, other) = (hashes(1), hashes(2));
        assert!(one.iter().zip(&other).all(|(a, b)| a != b));
        // The index looks at the lowest bits and at the highest seven.
        for part in [0, 54] {
            let mut bits: Vec<u64> = one.iter().map(|hash| hash >> part & 1_023).collect();
            bits.sort_unstable();
            bits.dedup();
            assert!(bits.len() > 580, "{} of 1,024, where chance alone fills 638", bits.len());
        }
    }

    #[test]
    fn an_index_that_lost_or_kept_too_much_is_another_one() {
        let seed = |n: u32| seed_of(Seed::new(1), &Key::new(format!("order-{n}")).unwrap());
        let index = |count: u32| {
            let mut index = Keys::default();
            (0..count).for_each(|n| index.insert(seed(n), n, |slot| Some(seed(slot))));
            index
        };
        let mut one = index(50);
        assert_eq!(one, index(50));
        assert_ne!(one, index(49));
        one.remove(seed(7), 8);
        assert_eq!(one, index(50), "that slot has another key");
        one.remove(seed(7), 7);
        assert_ne!(one, index(50));
        for n in 0..50 {
            assert_eq!(one.find(seed(n), |slot| slot == n), (n != 7).then_some(n));
        }
    }
}
