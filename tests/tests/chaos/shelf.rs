//! A store that fails now and then, and says when it is closed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fastrand::Rng;
use steadfast_core::{Key, Timestamp};
use steadfast_store::{Entry, MemoryStore, SqliteStore, Store, StoreError};
use tokio::sync::oneshot;

use crate::plan::Home;

pub(crate) struct Shelf {
    inner: Option<Box<dyn Store>>,
    blocks: bool,
    rng: Rng,
    /// Of a hundred commits, so many fail.
    ill: u32,
    has_failed: Arc<AtomicBool>,
    closed: Option<oneshot::Sender<()>>,
}

impl Shelf {
    /// None if nothing is kept. With it, what tells that it is closed.
    pub(crate) fn open(
        home: Home,
        memory: &MemoryStore,
        directory: &Path,
        rng: Rng,
        ill: u32,
        has_failed: Arc<AtomicBool>,
    ) -> Option<(Self, oneshot::Receiver<()>)> {
        let (inner, blocks): (Box<dyn Store>, _) = match home {
            Home::Nowhere => return None,
            Home::Memory(in_place) => (Box::new(memory.clone()), !in_place),
            Home::Sqlite => (Box::new(SqliteStore::open(directory.join("journal")).unwrap()), true),
        };
        let (closes, closed) = oneshot::channel();
        Some((Self { inner: Some(inner), blocks, rng, ill, has_failed, closed: Some(closes) }, closed))
    }

    fn inner(&mut self) -> &mut dyn Store {
        &mut **self.inner.as_mut().unwrap()
    }

    fn fails(&mut self) -> bool {
        let fails = self.rng.u32(..100) < self.ill;
        self.has_failed.fetch_or(fails, Ordering::SeqCst);
        fails
    }
}

impl Store for Shelf {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        if !self.fails() {
            return self.inner().append(entries);
        }
        match self.rng.u32(..3) {
            0 => return Err(StoreError::write("no space left on device")),
            1 => self.inner().append(entries)?,
            _ => {}
        }
        Err(StoreError::uncertain("input/output error"))
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.inner().load()
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.inner().load_live()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        if self.fails() { Err(StoreError::read("input/output error")) } else { self.inner().find(key) }
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.inner().forget(before, most)
    }

    fn blocks(&self) -> bool {
        self.blocks
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.inner = None;
        let _ = self.closed.take().map(|closed| closed.send(()));
    }
}
