//! The journal kit on the stores of this project.

#[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
#[path = "journal_kit/failing_disk.rs"]
mod failing_disk;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, process};

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

/// In the smallest pages that SQLite has, so that no bit is spent on what pages have in reserve.
#[test]
fn sqlite_survives_every_bit_and_every_cut_of_a_small_journal() {
    journal_kit::check_files(Depth::Small, |path| {
        if !path.exists() {
            let empty = rusqlite::Connection::open(path).unwrap();
            empty.execute_batch("PRAGMA page_size = 512; VACUUM").unwrap();
        }
        SqliteStore::open(path)
    });
}

#[test]
#[ignore = "takes minutes: cargo test --release -p steadfast-testkit --test journal_kit -- --ignored every_flipped_bit"]
fn sqlite_survives_every_flipped_bit() {
    journal_kit::check_files(Depth::Every, |path| SqliteStore::open(path));
}

/// Whoever has overtaken the file has overtaken all who write to it together.
#[test]
fn sqlite_for_several_writers_survives_damaged_files() {
    journal_kit::check_files(Depth::Sample(20), |path| {
        SqliteStore::open(path).map(|store| CombinedStore::new(Box::new(store)))
    });
}

/// In memory there is no second opener: each store is a journal of its own, and its clones are one journal. So none of
/// them can be overtaken, and none is ever behind.
#[test]
fn clones_of_one_in_memory_are_one_journal_and_none_is_behind() {
    let (mut random, mut model) = (fastrand::Rng::with_seed(1), MemoryStore::default());
    let first = MemoryStore::default();
    let mut clones = [first.clone(), first];
    for at in 0..200 {
        let stage = if at % 3 == 0 { Stage::InFlight } else { Stage::Accepted };
        let batch = [random.u64(0..9), random.u64(0..9)].map(|number| journal_kit::entry(number, stage, at));
        clones[random.usize(0..2)].append(&batch).unwrap();
        model.append(&batch).unwrap();
        for clone in &mut clones {
            assert_eq!(clone.load().unwrap(), model.load().unwrap());
        }
    }
    assert_eq!(MemoryStore::default().load().unwrap(), []);
}

/// Clones overtake nobody: the kit sees that the first can still write.
#[test]
#[should_panic(expected = "who was overtaken has appended")]
fn a_store_without_a_fence_fails() {
    let store = MemoryStore::default();
    journal_kit::check_fence(store.clone(), || store);
}

/// A store that means well: what it cannot write, it opens the journal anew for.
struct Insistent(PathBuf, Option<SqliteStore>);

impl Insistent {
    fn store(&mut self) -> Result<&mut SqliteStore, StoreError> {
        match &mut self.1 {
            Some(store) => Ok(store),
            closed => Ok(closed.insert(SqliteStore::open(&self.0).map_err(StoreError::read)?)),
        }
    }
}

impl Store for Insistent {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        if self.store()?.append(entries).is_ok() {
            return Ok(());
        }
        self.1 = None;
        self.store()?.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.store()?.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.store()?.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.store()?.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.1.as_ref().is_some_and(|store| store.is_backup())
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.store()?.take_into_use()
    }
}

#[test]
#[should_panic(expected = "written over: who was overtaken has appended")]
fn a_store_that_opens_its_files_anew_when_it_was_overtaken_fails() {
    journal_kit::check_files(Depth::Sample(1), |path| {
        SqliteStore::open(path).map(|store| Insistent(path.to_owned(), Some(store)))
    });
}

#[test]
fn one_process_at_a_time_has_a_journal_on_sqlite() {
    journal_kit::check_processes(
        |path| SqliteStore::open(path),
        |path| {
            let status = child("child_opens", path).status().unwrap();
            assert!(matches!(status.code(), Some(0 | 3)), "{status}");
            status.success()
        },
    );
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_opens() {
    match SqliteStore::open(env::var("JOURNAL").unwrap()) {
        Ok(mut store) => {
            store.append(&[journal_kit::entry(2, Stage::Planned, 2)]).unwrap();
            // Killed, not closed.
            process::exit(0);
        }
        Err(error) => {
            assert!(matches!(error, OpenError::Locked { .. }), "{error}");
            process::exit(3);
        }
    }
}

/// A test of this program, to be run as a process of its own by another one, on this journal.
fn child(name: &str, journal: &Path) -> Command {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", name, "--ignored", "--nocapture"]).env("JOURNAL", journal);
    child
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

    fn is_backup(&self) -> bool {
        false
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
#[should_panic(expected = "assertion `left == right` failed")]
fn a_store_that_drops_payloads_fails() {
    journal_kit::check(Careless::default);
}

/// Takes a batch whose first entry is there for one that is there.
#[derive(Default)]
struct Hasty(MemoryStore);

impl Store for Hasty {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let Some(first) = entries.first() else { return Ok(()) };
        let known = self.0.find(&first.record.key)?;
        let is_there = known.is_some_and(|known| known.record == first.record && known.at == first.at);
        if is_there { Ok(()) } else { self.0.append(entries) }
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.0.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.0.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.0.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.0.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.0.take_into_use()
    }
}

#[test]
#[should_panic(expected = "commit 0 of the history: Tear")]
fn a_store_that_does_not_finish_what_was_torn_fails() {
    journal_kit::check(Hasty::default);
}

/// Says of every other commit that it is certainly not there, and it is.
#[derive(Clone, Default)]
struct Lying(MemoryStore, u64);

impl Store for Lying {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.1 += 1;
        self.0.append(entries)?;
        if self.1.is_multiple_of(2) { Err(StoreError::write("no space left on device")) } else { Ok(()) }
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.0.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.0.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.0.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.0.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.0.take_into_use()
    }
}

#[test]
#[should_panic(expected = "the state is none that it may be")]
fn a_store_that_is_certain_and_wrong_fails() {
    let kept = Lying(MemoryStore::default(), 1);
    journal_kit::check_failures(|| kept.clone(), |_| {});
}

/// Says each time that it has certainly forgotten nothing, and has.
#[derive(Clone, Default)]
struct Forgetful(MemoryStore, StoreFaults);

impl Store for Forgetful {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.0.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.0.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.0.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        let said = FaultyStore::new(MemoryStore::default(), self.1.clone()).forget(before, most);
        self.0.forget(before, most).and_then(|count| said.map(|_| count))
    }

    fn is_backup(&self) -> bool {
        self.0.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.0.take_into_use()
    }
}

#[test]
#[should_panic(expected = "is certain: true, gone: true")]
fn a_store_that_forgets_and_is_certain_that_it_did_not_fails() {
    let (kept, faults) = (MemoryStore::default(), StoreFaults::default());
    let open = || Forgetful(kept.clone(), faults.clone());
    journal_kit::check_failures(open, |fails| faults.otherwise(fails.then_some(StoreFault::Fail)));
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
