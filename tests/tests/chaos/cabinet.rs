//! Where the journal of a round is, and a copy of it that is put back.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use steadfast_core::operation::Stage;
use steadfast_core::{Key, Outcome, Timestamp};
use steadfast_store::sqlite::MayLock;
use steadfast_store::{Entry, MemoryStore, OpenError, SqliteStore, Store, StoreError};

use crate::plan::Home;

pub(crate) struct Cabinet {
    home: Home,
    directory: tempfile::TempDir,
    kept: Mutex<Kept>,
}

#[derive(Clone, Default)]
struct Kept {
    memory: MemoryStore,
    file: PathBuf,
    /// Its mark may be lost.
    is_backup: bool,
    /// Which is not in use yet.
    copy: Option<Box<Self>>,
}

/// What a copy knows of each key: whether it is a job that may have run.
pub(crate) type Known = BTreeMap<String, bool>;

impl Cabinet {
    pub(crate) fn new(home: Home) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept { file: directory.path().join("journal"), ..Kept::default() };
        Self { home, directory, kept: Mutex::new(kept) }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) -> Option<Box<dyn Store>> {
        let kept = self.lock().clone();
        Some(match self.home {
            Home::Nowhere => return None,
            Home::Memory(in_place) => Box::new(Memory(kept.memory, !in_place)),
            Home::Sqlite => Box::new(match SqliteStore::open(&kept.file) {
                Err(OpenError::Unmarked { .. }) if kept.is_backup => SqliteStore::open_backup(&kept.file).unwrap(),
                opened => opened.unwrap(),
            }),
        })
    }

    /// Copies what this store has, which is the journal's only one. Gives it back, and what the copy knows.
    pub(crate) fn copy(&self, mut store: Box<dyn Store>) -> (Box<dyn Store>, Known) {
        let entries = store.load().unwrap();
        let mut copy = Kept { file: self.directory.path().join("copy"), ..Kept::default() };
        if self.home == Home::Sqlite {
            drop(store);
            SqliteStore::back_up(&self.lock().file, &copy.file, MayLock::IfTorn).unwrap();
            store = self.open().unwrap();
        } else {
            copy.memory.append(&entries).unwrap();
        }
        self.lock().copy = Some(Box::new(copy));
        let is_free = |entry: &Entry| {
            matches!(entry.record.stage, Stage::Ended(Outcome::Rejected(_)) | Stage::Delivered(Outcome::Rejected(_)))
        };
        let known = entries.iter().map(|entry| (entry.record.key.as_str().to_owned(), !is_free(entry)));
        (store, known.collect())
    }

    /// The copy in the journal's place, with its mark or without. False if there is none.
    pub(crate) fn put_back(&self, is_marked: bool) -> bool {
        let mut kept = self.lock();
        let Some(copy) = kept.copy.take() else { return false };
        if self.home == Home::Sqlite && !is_marked {
            fs::remove_file(format!("{}-mark", copy.file.display())).unwrap();
        }
        *kept = Kept { is_backup: !is_marked, ..*copy };
        true
    }

    /// Whether its client need not be told.
    pub(crate) fn knows_what_was_put_back(&self) -> bool {
        self.home == Home::Sqlite
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open().is_none_or(|mut store| store.load().unwrap().is_empty())
    }
}

/// Whether the driver works on it in place is the round's to say.
struct Memory(MemoryStore, bool);

impl Store for Memory {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.0.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.0.load()
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.0.load_live()
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

    fn blocks(&self) -> bool {
        self.1
    }
}
