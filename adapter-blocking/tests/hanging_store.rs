//! A client that is dropped while its store hangs: whoever drops it is not held up for ever.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use steadfast_blocking::{Client, LAST_DROP_WAITS, Outgoing, SendError, Transport};
use steadfast_core::operation::Reading;
use steadfast_core::retry::Failure;
use steadfast_core::{Key, OperationPolicy, Reference, Timestamp};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};

/// Takes every job.
struct Plain;

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default()
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        Request::post("https://provider.test/").body(Bytes::new()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, _: &Answer<'_>) -> Result<Reading, Failure> {
        Ok(Reading::Accepted(Reference::new("txn-1").unwrap()))
    }
}

impl Transport for Plain {
    fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        Ok(Response::new(Bytes::new()))
    }
}

/// Writes the first commit. Of the next it tells, and hangs in it until it is let go.
struct Hanging {
    memory: MemoryStore,
    commits: u32,
    hangs: Sender<()>,
    let_go: Receiver<()>,
    closed: Sender<()>,
}

impl Store for Hanging {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.commits += 1;
        if self.commits == 2 {
            self.hangs.send(()).unwrap();
            // Not for ever, so that one who waits for it is found out.
            let _ = self.let_go.recv_timeout(LAST_DROP_WAITS * 6);
        }
        self.memory.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.memory.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.memory.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.memory.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.memory.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.memory.take_into_use()
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = self.closed.send(());
    }
}

#[test]
fn the_last_drop_waits_for_a_store_that_hangs_so_long_and_no_longer() {
    let ((hangs, hung), (lets_go, let_go), (closes, closed)) = (channel(), channel(), channel());
    let store = Hanging { memory: MemoryStore::default(), commits: 0, hangs, let_go, closed: closes };
    let client = Client::builder(Plain, Plain).store(store).start().unwrap();
    let job = client.submit(Key::new("order-1").unwrap(), "{}").unwrap();
    hung.recv().unwrap();
    let began = Instant::now();
    drop(client);
    drop(job);
    let waited = began.elapsed();
    assert!(waited >= LAST_DROP_WAITS, "{waited:?}: the store might have been done by then");
    assert!(waited < LAST_DROP_WAITS * 5, "{waited:?}");
    assert!(closed.try_recv().is_err());
    lets_go.send(()).unwrap();
    closed.recv_timeout(Duration::from_secs(60)).expect("it is closed once it has written");
}

#[test]
fn what_is_being_written_is_waited_for() {
    let ((hangs, hung), (lets_go, let_go), (closes, closed)) = (channel(), channel(), channel());
    let store = Hanging { memory: MemoryStore::default(), commits: 0, hangs, let_go, closed: closes };
    let client = Client::builder(Plain, Plain).store(store).start().unwrap();
    drop(client.submit(Key::new("order-1").unwrap(), "{}").unwrap());
    hung.recv().unwrap();
    lets_go.send(()).unwrap();
    drop(client);
    closed.try_recv().expect("it is closed by now");
}
