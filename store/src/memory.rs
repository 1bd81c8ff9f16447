//! Records in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use steadfast_core::{Key, Timestamp};

use crate::{Entry, Store, StoreError};

/// Keeps the latest entry of each key in memory. Clones share what they keep, so one can be handed to a driver and the other asked.
///
/// ```
/// use std::sync::Arc;
///
/// use steadfast_store::{Entry, MemoryStore, Store};
/// # use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Seed, Timestamp};
/// # let (policy, mut gate, now) = (OperationPolicy::default(), Gate::unlimited(), Timestamp::from_secs(1));
/// # let turn = &mut policy.turn(now, &mut gate);
/// # let job = Operation::new(Key::new("order-42")?, Fingerprint::new([0; 16]), Seed::new(7), turn);
///
/// let mut store = MemoryStore::default();
/// let entry = Entry::new(job.record(), Arc::from("deepvue"), now);
/// store.append(&[entry.clone()])?;
/// assert_eq!(store.load()?, [entry]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By when their keys were first seen.
    entries: BTreeMap<u64, Entry>,
    places: BTreeMap<Key, u64>,
    next: u64,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut guard = self.lock();
        let kept = &mut *guard;
        for entry in entries {
            let place = *kept.places.entry(entry.record.key.clone()).or_insert_with(|| {
                kept.next += 1;
                kept.next
            });
            let entry = match kept.entries.remove(&place) {
                Some(earlier) => entry.clone().after(earlier),
                None => entry.clone(),
            };
            kept.entries.insert(place, entry);
        }
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        Ok(self.lock().entries.values().cloned().collect())
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        Ok(self.lock().entries.values().filter(|entry| !entry.is_delivered()).cloned().collect())
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let kept = self.lock();
        Ok(kept.places.get(key).and_then(|place| kept.entries.get(place)).cloned())
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        let mut guard = self.lock();
        let kept = &mut *guard;
        let old = |(_, entry): &(&u64, &Entry)| entry.is_settled() && entry.at < before;
        let mut gone: Vec<(Timestamp, u64)> = kept.entries.iter().filter(old).map(|(at, it)| (it.at, *at)).collect();
        gone.sort_unstable();
        gone.truncate(most);
        for (_, place) in &gone {
            if let Some(entry) = kept.entries.remove(place) {
                kept.places.remove(&entry.record.key);
            }
        }
        Ok(gone.len())
    }

    fn blocks(&self) -> bool {
        false
    }
}
