//! Where each key's row lies.
//!
//! In memory, not in the file: keys have no order, so an index of them in the file would have each record of a batch rewrite a page of its own, which
//! costs many times what the records do. All rows are read once anyway, to verify them. An entry is a hash and a row number, about thirty bytes a
//! key; whether a row is really the key's is seen when it is read.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use steadfast_core::Key;

#[derive(Debug, Default)]
pub(super) struct Places {
    hasher: RandomState,
    rows: HashTable<(u64, i64)>,
}

impl Places {
    /// The rows that may be this key's: hardly ever more than one.
    pub(super) fn candidates(&self, key: &Key) -> impl Iterator<Item = i64> {
        let hash = self.hasher.hash_one(key);
        self.rows.iter_hash(hash).filter(move |(of, _)| *of == hash).map(|(_, first)| *first)
    }

    pub(super) fn insert(&mut self, key: &Key, first: i64) {
        let hash = self.hasher.hash_one(key);
        self.rows.insert_unique(hash, (hash, first), |(hash, _)| *hash);
    }

    pub(super) fn remove(&mut self, key: &Key, first: i64) {
        let hash = self.hasher.hash_one(key);
        if let Ok(entry) = self.rows.find_entry(hash, |place| *place == (hash, first)) {
            entry.remove();
        }
    }
}
