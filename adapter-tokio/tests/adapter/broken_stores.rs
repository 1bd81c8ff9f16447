//! Stores that panic, or take their time.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use steadfast_core::{Key, Timestamp};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};
use steadfast_tokio::{Client, Delivery, SubmitError, WebhookPolicy};
use tokio::runtime::Builder;
use tokio::sync::Notify;

use crate::support::{Plain, Scripted, answer, key, without_threads};
use crate::webhooks::Telling;

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

    fn is_backup(&self) -> bool {
        false
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        Ok(())
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

/// Its second append panics.
struct Breaks(MemoryStore, u32);

impl Store for Breaks {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.1 += 1;
        assert!(self.1 < 2, "as it was told to");
        self.0.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.0.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.0.find(key)
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

/// It could tell nobody of anything, for ever.
#[tokio::test(start_paused = true)]
async fn a_client_without_a_store_any_more_ends_when_everybody_has_dropped_it() {
    for shards in [1, 2] {
        let store = Breaks(MemoryStore::default(), 0);
        let client =
            Client::builder(Plain, Scripted::well_behaved()).store(store).shards(shards).start().await.unwrap();
        let job = client.submit(key("order-42"), "{}").await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop((client, job));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0, "{shards} shards");
    }
}

/// Panics as it is read, with what must not be seen.
struct Unread;

impl Store for Unread {
    fn append(&mut self, _: &[Entry]) -> Result<(), StoreError> {
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        panic!("canary-of-a-bug")
    }

    fn find(&mut self, _: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(None)
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

#[tokio::test]
async fn what_a_store_panics_with_as_it_is_read_is_in_no_error() {
    let error = Client::builder(Plain, Scripted::well_behaved()).store(Unread).start().await.unwrap_err();
    let mut shown = format!("{error} {error:?}");
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        shown.push_str(&format!(" {cause} {cause:?}"));
        next = cause.source();
    }
    assert!(shown.contains("panicked") && !shown.contains("canary"), "{shown}");
}

/// Its look-ups tell that they have begun, and wait to be told to go on.
#[derive(Clone)]
struct Slow {
    inner: MemoryStore,
    begun: Arc<Notify>,
    goes_on: Arc<(Mutex<bool>, Condvar)>,
}

impl Slow {
    fn new() -> Self {
        Self { inner: MemoryStore::default(), begun: Arc::default(), goes_on: Arc::default() }
    }

    fn go_on(&self, goes_on: bool) {
        *self.goes_on.0.lock().unwrap() = goes_on;
        self.goes_on.1.notify_all();
    }
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

    fn is_backup(&self) -> bool {
        false
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// It takes in nothing more as soon as it only waits for the store.
async fn until_it_waits_for_the_store(client: &Client) {
    while format!("{client:?}").contains("running: true") {
        tokio::task::yield_now().await;
    }
}

/// A look-up that comes back while the client stops: nobody can carry the job out any more, so it is not taken in.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_shutdown_reports_as_unfinished_is_in_the_store() {
    let store = Slow::new();
    let client = Client::builder(Plain, Scripted::well_behaved()).store(store.clone()).start().await.unwrap();
    let (first, other) = (client.clone(), client.clone());
    let submit = tokio::spawn(async move { first.submit(key("order-42"), "{}").await });
    store.begun.notified().await;
    let stops = tokio::spawn(client.shutdown(Duration::ZERO));
    until_it_waits_for_the_store(&other).await;
    store.go_on(true);
    assert!(matches!(submit.await.unwrap(), Err(SubmitError::Stopped)));
    assert_eq!(stops.await.unwrap(), []);
    assert_eq!(store.inner.clone().load().unwrap(), []);
}

/// A client with a job whose create is never answered, which waits for a look-up of another.
async fn stuck(store: &Slow, answer_within: Duration) -> Client {
    let policy = WebhookPolicy { answer_within, ..WebhookPolicy::default() };
    let transport = Scripted::new(|_, _, _| std::future::pending());
    let builder = Client::builder(Telling::new(), transport).webhooks(policy).store(store.clone());
    let client = builder.start().await.unwrap();
    store.go_on(true);
    drop(client.submit(key("order-1"), "{}").await.unwrap());
    store.begun.notified().await;
    store.go_on(false);
    let submitting = client.clone();
    tokio::spawn(async move { submitting.submit(key("order-2"), "{}").await });
    store.begun.notified().await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shuts_it_down_while_it_stops_is_told_what_is_unfinished() {
    let store = Slow::new();
    let client = stuck(&store, Duration::from_secs(3)).await;
    let first = tokio::spawn(client.clone().shutdown(Duration::ZERO));
    until_it_waits_for_the_store(&client).await;
    // By the time the store goes on it has been asked.
    let (second, ()) = tokio::join!(client.shutdown(Duration::from_secs(60)), async { store.go_on(true) });
    assert_eq!((second.len(), first.await.unwrap().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_answered_in_time_while_the_client_waits_for_its_store_to_stop() {
    let store = Slow::new();
    let client = stuck(&store, Duration::from_millis(50)).await;
    let (early, telling) = (client.clone(), Telling::new());
    let told = tokio::spawn(async move {
        let told = telling.tell(&early, "msg-1", r#"{"reference":"txn-7"}"#);
        tokio::time::timeout(Duration::from_secs(10), told).await
    });
    let stops = tokio::spawn(client.clone().shutdown(Duration::ZERO));
    until_it_waits_for_the_store(&client).await;
    let told = told.await.unwrap();
    store.go_on(true);
    assert!(matches!(told, Ok(Delivery::Early | Delivery::Stopped)), "{told:?}");
    assert_eq!(stops.await.unwrap().len(), 1);
}

/// Is read once it is told to be.
struct Read {
    inner: MemoryStore,
    reads: Receiver<()>,
    _open: Arc<()>,
}

impl Store for Read {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.inner.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.reads.recv().unwrap();
        self.inner.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.inner.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.inner.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.inner.take_into_use()
    }
}

/// The process is at its limit, say, after the client has started.
#[test]
fn a_store_that_no_thread_can_be_had_for_is_worked_on_all_the_same() {
    let threads = Builder::new_current_thread().enable_time().build().unwrap();
    let (open, (reads, read)) = (Arc::new(()), channel());
    without_threads().block_on(async {
        let refuses = Scripted::new(|_, _, _| async { Ok(answer(422, "no")) });
        let store = Read { inner: MemoryStore::default(), reads: read, _open: open.clone() };
        let mut starting = Client::builder(Plain, refuses).store(store).start();
        poll_fn(|context| {
            let _here = threads.enter();
            assert!(Pin::new(&mut starting).poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        reads.send(()).unwrap();
        let client = starting.await.unwrap();
        let finished = client.submit(key("a"), "{}").await.unwrap().await.unwrap();
        assert_eq!(finished.outcome.name(), "rejected");
        assert!(client.shutdown(Duration::ZERO).await.is_empty());
        assert_eq!(Arc::strong_count(&open), 1, "the store is closed");
    });
}
