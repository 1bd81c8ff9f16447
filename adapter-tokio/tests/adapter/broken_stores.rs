//! Stores that panic, or whose look-ups take their time.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use steadfast_core::{Key, Timestamp};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};
use steadfast_tokio::{Client, SubmitError};
use tokio::sync::Notify;

use crate::support::{Plain, Scripted, key};

/// Its first append is done, and fails in doubt; its second look-up panics.
struct Moody {
    inner: MemoryStore,
    appends: u32,
    finds: u32,
    blocks: bool,
}

impl Store for Moody {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.inner.append(entries)?;
        self.appends += 1;
        if self.appends == 1 { Err(StoreError::uncertain("input/output error")) } else { Ok(()) }
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.inner.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.finds += 1;
        assert!(self.finds < 2, "canary-of-a-bug");
        self.inner.find(key)
    }

    fn forget(&mut self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn blocks(&self) -> bool {
        self.blocks
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_doubt_is_not_denied_when_the_store_panics() {
    for blocks in [false, true] {
        doubt_outlives_a_panic(Moody { inner: MemoryStore::default(), appends: 0, finds: 0, blocks }).await;
    }
}

async fn doubt_outlives_a_panic(store: Moody) {
    let client = Client::builder(Plain, Scripted::well_behaved()).store(store).start().await.unwrap();
    let submitting = client.clone();
    let first = tokio::spawn(async move { submitting.submit(key("in-doubt"), "{}").await });
    tokio::time::sleep(Duration::from_millis(5)).await;
    let panicked = client.submit(key("order-42"), "{}").await.unwrap_err();
    assert!(!format!("{panicked:?} {:?}", std::error::Error::source(&panicked)).contains("canary"), "{panicked:?}");
    let told = first.await.unwrap().unwrap_err();
    assert!(matches!(told, SubmitError::Uncertain(_)), "{told:?}");
}

/// Its look-ups tell that they have begun, and wait to be told to go on.
#[derive(Clone)]
struct Slow {
    inner: MemoryStore,
    begun: Arc<Notify>,
    goes_on: Arc<(Mutex<bool>, Condvar)>,
}

impl Store for Slow {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.inner.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.inner.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.begun.notify_one();
        let (goes_on, told) = &*self.goes_on;
        drop(told.wait_while(goes_on.lock().unwrap(), |goes_on| !*goes_on).unwrap());
        self.inner.find(key)
    }

    fn forget(&mut self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }
}

/// A look-up that comes back while the client stops: nobody can carry the job out any more, so it is not taken in.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_shutdown_reports_as_unfinished_is_in_the_store() {
    let store = Slow { inner: MemoryStore::default(), begun: Arc::default(), goes_on: Arc::default() };
    let client = Client::builder(Plain, Scripted::well_behaved()).store(store.clone()).start().await.unwrap();
    let (first, other) = (client.clone(), client.clone());
    let submit = tokio::spawn(async move { first.submit(key("order-42"), "{}").await });
    store.begun.notified().await;
    let stops = tokio::spawn(client.shutdown(Duration::ZERO));
    // It takes in nothing more as soon as it only waits for the store.
    while format!("{other:?}").contains("running: true") {
        tokio::task::yield_now().await;
    }
    *store.goes_on.0.lock().unwrap() = true;
    store.goes_on.1.notify_all();
    assert!(matches!(submit.await.unwrap(), Err(SubmitError::Stopped)));
    assert_eq!(stops.await.unwrap(), []);
    assert_eq!(store.inner.clone().load().unwrap(), []);
}
