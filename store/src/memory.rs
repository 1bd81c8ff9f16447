//! Records in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use steadfast_core::{Key, Timestamp};

use crate::{Entry, Store, StoreError};

/// Keeps the latest entry of each key in memory. Clones share what they keep, so one can be handed to a driver and the
/// other read.
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
    entries: HashMap<Key, Numbered>,
    /// The keys that may be forgotten, by when they last changed, so that forgetting need not look at all entries.
    settled: BTreeMap<(Timestamp, u64), Key>,
    next: u64,
}

#[derive(Debug)]
struct Numbered {
    /// Its place in the order in which keys were first seen.
    place: u64,
    entry: Entry,
}

impl Kept {
    /// The entries for which this holds, in the order in which their keys were first seen.
    fn in_order(&self, holds: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut entries: Vec<&Numbered> = self.entries.values().filter(|it| holds(&it.entry)).collect();
        entries.sort_unstable_by_key(|it| it.place);
        entries.into_iter().map(|it| it.entry.clone()).collect()
    }
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
            let key = &entry.record.key;
            let next = match kept.entries.remove(key) {
                Some(Numbered { place, entry: earlier }) => {
                    if earlier.is_settled() {
                        kept.settled.remove(&(earlier.at, place));
                    }
                    Numbered { place, entry: entry.clone().after(earlier) }
                }
                None => {
                    kept.next += 1;
                    Numbered { place: kept.next, entry: entry.clone() }
                }
            };
            if next.entry.is_settled() {
                kept.settled.insert((next.entry.at, next.place), key.clone());
            }
            kept.entries.insert(key.clone(), next);
        }
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        Ok(self.lock().in_order(|_| true))
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        Ok(self.lock().in_order(|entry| !entry.is_delivered()))
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(self.lock().entries.get(key).map(|it| it.entry.clone()))
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        let mut guard = self.lock();
        let kept = &mut *guard;
        let mut gone = 0;
        while gone < most
            && let Some(first) = kept.settled.first_entry().filter(|first| first.key().0 < before)
        {
            kept.entries.remove(&first.remove());
            gone += 1;
        }
        Ok(gone)
    }

    fn is_backup(&self) -> bool {
        false
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn blocks(&self) -> bool {
        false
    }
}
