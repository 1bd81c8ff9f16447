//! The journal kit on the stores of this project.

use std::path::Path;

use steadfast_core::operation::Stage;
use steadfast_core::{Key, Timestamp};
use steadfast_store::{CombinedStore, Entry, MemoryStore, OpenError, SqliteStore, Store, StoreError};
use steadfast_testkit::journal_kit::{self, Depth, FaultyStore, StoreFault, StoreFaults};

#[test]
fn memory_keeps_the_contract() {
    journal_kit::check(MemoryStore::default);
}

#[test]
fn one_for_several_writers_keeps_the_contract_of_the_one_that_it_is_of() {
    journal_kit::check(|| CombinedStore::new(Box::new(MemoryStore::default())));
}

#[test]
fn sqlite_survives_damaged_files() {
    journal_kit::check_files(Depth::Sample(300), |path| SqliteStore::open(path));
}

#[test]
#[ignore = "takes minutes: cargo test --release -p steadfast-testkit --test journal_kit -- --ignored"]
fn sqlite_survives_every_flipped_bit() {
    journal_kit::check_files(Depth::Every, |path| SqliteStore::open(path));
}

/// What SQLite is without the watermark: its log loses its end without a word. The kit must see that.
#[test]
#[should_panic(expected = "silently another state")]
fn a_store_that_silently_loses_its_tail_fails() {
    let without_mark = |path: &Path| -> Result<SqliteStore, OpenError> {
        let _ = std::fs::remove_file(format!("{}-mark", path.display()));
        // The first time there is nothing to put back.
        if path.exists() { SqliteStore::open_backup(path) } else { SqliteStore::open(path) }
    };
    journal_kit::check_files(Depth::Sample(20), without_mark);
}

/// Entries as they come, without regard to what was kept before.
#[derive(Default)]
struct Careless(Vec<Entry>);

impl Store for Careless {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        for entry in entries {
            match self.0.iter_mut().find(|it| it.record.key == entry.record.key) {
                Some(known) => *known = entry.clone(),
                None => self.0.push(entry.clone()),
            }
        }
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        Ok(self.0.clone())
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(self.0.iter().find(|entry| entry.record.key == *key).cloned())
    }

    fn forget(&mut self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

#[test]
#[should_panic(expected = "assertion `left == right` failed")]
fn a_store_that_drops_payloads_fails() {
    journal_kit::check(Careless::default);
}

/// Whatever a faulty store did to each of them: who appends until somebody knows has every entry in the end.
#[test]
fn appending_until_somebody_knows_gets_over_every_fault() {
    let faults = StoreFaults::default();
    let mut store = FaultyStore::new(MemoryStore::default(), faults.clone());
    let batch = [1, 2, 3, 1].map(|number| journal_kit::entry(number, Stage::InFlight, number));
    for fault in [StoreFault::Fail, StoreFault::Lose, StoreFault::Hide, StoreFault::Tear] {
        faults.then(fault).then(fault);
        assert_eq!(store.append(&batch).unwrap_err().is_certain(), fault == StoreFault::Fail);
        assert!(store.append(&batch).is_err());
        store.append(&batch).unwrap();
        assert_eq!(store.load().unwrap().len(), 3);
        faults.then(fault);
        assert!(store.load().is_err());
    }
    assert_eq!(faults.calls(), 20);
}

#[test]
fn a_call_that_is_held_is_done_once_it_is_released() {
    let faults = StoreFaults::default();
    let mut kept = MemoryStore::default();
    let mut store = FaultyStore::new(kept.clone(), faults.clone());
    faults.then(StoreFault::Hold);
    let entry = journal_kit::entry(1, Stage::Planned, 1);
    let appended = std::thread::spawn(move || store.append(&[entry]));
    while faults.held() == 0 {
        std::thread::yield_now();
    }
    assert_eq!(kept.load().unwrap(), []);
    faults.release();
    appended.join().unwrap().unwrap();
    assert_eq!(kept.load().unwrap().len(), 1);
}
