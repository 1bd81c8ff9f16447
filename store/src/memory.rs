//! Records in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use steadfast_core::Key;
use steadfast_core::operation::Record;

use crate::{Store, StoreError};

/// Keeps the latest record of each key in memory. Clones share what they keep, so one can be handed to a driver and the other asked.
///
/// ```
/// use steadfast_store::{MemoryStore, Store};
/// # use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Seed, Timestamp};
/// # let (policy, mut gate) = (OperationPolicy::default(), Gate::unlimited());
/// # let turn = &mut policy.turn(Timestamp::from_secs(1), &mut gate);
/// # let job = Operation::new(Key::new("order-42")?, Fingerprint::new([0; 16]), Seed::new(7), turn);
///
/// let mut store = MemoryStore::default();
/// store.append(&[job.record()])?;
/// assert_eq!(store.load()?, [job.record()]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    records: Vec<Record>,
    places: BTreeMap<Key, usize>,
}

impl Store for MemoryStore {
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let mut guard = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *guard;
        for record in records {
            match kept.places.get(&record.key) {
                Some(place) => kept.records[*place] = record.clone(),
                None => {
                    kept.places.insert(record.key.clone(), kept.records.len());
                    kept.records.push(record.clone());
                }
            }
        }
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Record>, StoreError> {
        Ok(self.kept.lock().unwrap_or_else(PoisonError::into_inner).records.clone())
    }
}
