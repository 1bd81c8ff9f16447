//! What shows while a client ends, and who finds it stopped.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Response;
use steadfast_core::Timestamp;
use steadfast_driver::{Outgoing, RevisionError, SendError};
use steadfast_providers::BaseUrl;
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};

use super::*;

struct Nobody;

impl Transport for Nobody {
    fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        Err(SendError::not_sent())
    }
}

/// Says that it is closed, once it is.
struct Closing(MemoryStore, Arc<AtomicBool>);

impl Store for Closing {
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
        self.0.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.0.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.0.take_into_use()
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        // Whoever does not wait for it is given time to be found out.
        (0..100).for_each(|_| thread::yield_now());
        self.1.store(true, Ordering::SeqCst);
    }
}

fn start(closed: &Arc<AtomicBool>) -> Client {
    let url = BaseUrl::parse("http://127.0.0.1:1").expect("a URL");
    let deepvue = Deepvue::new(url, "product", Credentials::new("token", "secret").expect("credentials"));
    let store = Closing(MemoryStore::default(), closed.clone());
    Client::builder(deepvue.expect("a provider"), Nobody).store(store).start().expect("it starts")
}

/// In a hook, say, for whose end another thread waits that shuts it down.
#[test]
fn it_is_shown_while_it_is_shut_down() {
    let client = start(&Arc::default());
    let shuts_down = client.0.driver.lock().expect("no panic");
    assert_eq!(format!("{client:?}"), "Client { running: true }");
    drop(shuts_down);
    let other = client.clone();
    let _ = client.shutdown(Duration::ZERO);
    assert_eq!(format!("{other:?}"), "Client { running: false }");
}

/// A daemon that has detached, or a worker: of the client's threads none came along, so nobody is waited for.
#[test]
fn in_a_process_that_was_forked_it_has_stopped() {
    let client = start(&Arc::default());
    client.hold(Duration::from_secs(3_600));
    let key = |text| Key::new(text).expect("a key");
    let mut job = client.submit(key("order-1"), "{}").expect("it is taken in");
    let mut revisions = client.revisions();
    client.0.turns.forks(true);
    assert!(matches!(client.submit(key("order-2"), "{}"), Err(SubmitError::Stopped)));
    assert!(matches!(client.status(key("order-1")), Err(StatusError::Stopped)));
    assert!(job.accepted().is_err());
    assert_eq!(job.wait_timeout(Duration::MAX).map(drop), Err(Stopped));
    assert_eq!(job.try_outcome().map(drop), Err(Stopped), "whoever asks again and again would never end");
    assert_eq!(job.wait().map(drop), Err(Stopped));
    assert_eq!(revisions.next().map(drop), Err(RevisionError::Stopped));
    assert_eq!(revisions.next_timeout(Duration::ZERO).map(drop), Err(RevisionError::Stopped));
    assert_eq!(client.clone().shutdown(Duration::MAX).len(), 0);
    // The process that it was forked from goes on.
    client.0.turns.forks(false);
    assert_eq!(client.shutdown(Duration::ZERO).len(), 1);
}

#[test]
fn in_a_process_that_was_forked_what_had_come_before_may_be_had() {
    let client = start(&Arc::default());
    client.hold(Duration::from_secs(3_600));
    let key = Key::new("order-1").expect("a key");
    let [mut watched, job] = [(); 2].map(|()| client.submit(key.clone(), "{}").expect("it is taken in"));
    job.cancel();
    assert!(job.wait().is_ok());
    // The turn in which all are told has ended when the next one tells this.
    assert!(client.status(key).is_ok_and(|status| status.is_some()));
    let mut revisions = client.revisions();
    revisions.subscriber.queue().missed = 3;
    client.0.turns.forks(true);
    assert_eq!(revisions.next_timeout(Duration::ZERO), Err(RevisionError::Missed(3)));
    assert_eq!(revisions.next_timeout(Duration::ZERO), Err(RevisionError::Stopped));
    assert!(watched.try_outcome().is_ok_and(|finished| finished.is_some()));
    assert!(watched.wait_timeout(Duration::MAX).is_ok_and(|finished| finished.is_some()), "and had again");
    assert!(watched.wait().is_ok());
    client.0.turns.forks(false);
    let _ = client.shutdown(Duration::ZERO);
}

/// By a thread that did not come along, and releases nothing.
#[test]
fn in_a_process_that_was_forked_nobody_waits_for_a_lock() {
    let client = start(&Arc::default());
    let mut revisions = client.revisions();
    client.0.turns.forks(true);
    let subscriber = revisions.subscriber.clone();
    let (of_all, of_one) = (client.0.revisions.lock().expect("no panic"), subscriber.queue());
    for timeout in [Duration::ZERO, Duration::MAX] {
        assert_eq!(revisions.next_timeout(timeout).map(drop), Err(RevisionError::Stopped));
        assert_eq!(client.revisions().next_timeout(timeout).map(drop), Err(RevisionError::Stopped));
    }
    drop((of_all, of_one));
    client.0.turns.forks(false);
    let _ = client.shutdown(Duration::ZERO);
}

#[test]
fn whoever_of_several_has_shut_it_down_finds_the_store_closed() {
    for _ in 0..100 {
        let closed = Arc::default();
        let client = start(&closed);
        let together = Barrier::new(2);
        let shut_down = |client: Client| {
            together.wait();
            let _ = client.shutdown(Duration::ZERO);
            assert!(closed.load(Ordering::SeqCst));
        };
        let other = client.clone();
        thread::scope(|scope| {
            scope.spawn(|| shut_down(client));
            scope.spawn(|| shut_down(other));
        });
    }
}
