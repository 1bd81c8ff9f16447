//! A store that is chosen at run time is the store that was chosen: nothing is left to a default of the trait.

use std::sync::{Arc, Mutex};

use steadfast_core::{Key, Timestamp};
use steadfast_store::{Entry, Store, StoreError};

/// Notes what it is asked, and answers otherwise than the trait's defaults.
struct Asked(Arc<Mutex<Vec<&'static str>>>);

impl Asked {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }
}

impl Store for Asked {
    fn append(&mut self, _: &[Entry]) -> Result<(), StoreError> {
        self.note("append");
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.note("load");
        Ok(Vec::new())
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.note("load_live");
        Ok(Vec::new())
    }

    fn find(&mut self, _: &Key) -> Result<Option<Entry>, StoreError> {
        self.note("find");
        Ok(None)
    }

    fn forget(&mut self, _: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.note("forget");
        Ok(most)
    }

    fn is_backup(&self) -> bool {
        self.note("is_backup");
        true
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.note("take_into_use");
        Ok(())
    }

    fn blocks(&self) -> bool {
        self.note("blocks");
        false
    }
}

/// As a builder takes one.
fn ask_everything(mut store: impl Store) {
    store.append(&[]).unwrap();
    assert!(store.load().unwrap().is_empty() && store.load_live().unwrap().is_empty());
    assert!(store.find(&Key::new("order-42").unwrap()).unwrap().is_none());
    assert_eq!(store.forget(Timestamp::EPOCH, 3).unwrap(), 3);
    store.take_into_use().unwrap();
    assert!(store.is_backup() && !store.blocks());
}

#[test]
fn a_box_asks_its_store_for_everything() {
    let asked = Arc::default();
    let chosen: Box<dyn Store> = Box::new(Asked(Arc::clone(&asked)));
    ask_everything(chosen);
    let all = ["append", "load", "load_live", "find", "forget", "take_into_use", "is_backup", "blocks"];
    assert_eq!(*asked.lock().unwrap(), all);
}
