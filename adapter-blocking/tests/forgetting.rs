//! What a client on threads forgets of its journal, and in how small pieces.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use steadfast_blocking::{Client, Outgoing, SendError, Transport};
use steadfast_core::operation::{Completed, Stage};
use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Outcome, Seed, Timestamp};
use steadfast_providers::BaseUrl;
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};

/// Nothing is to be sent.
struct Nobody;

impl Transport for Nobody {
    fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        Err(SendError::not_sent())
    }
}

/// Tells how many it was asked to forget, and how many it forgot.
struct Telling(MemoryStore, Sender<[usize; 2]>);

impl Store for Telling {
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
        let gone = self.0.forget(before, most)?;
        let _ = self.1.send([most, gone]);
        Ok(gone)
    }

    fn is_backup(&self) -> bool {
        self.0.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.0.take_into_use()
    }
}

fn delivered(number: u64) -> Entry {
    let (policy, now) = (OperationPolicy::default(), Timestamp::from_secs(1));
    let mut gate = Gate::unlimited();
    let key = Key::new(format!("order-{number}")).unwrap();
    let turn = &mut policy.turn(now, &mut gate);
    let mut record = Operation::new(key, Fingerprint::new([7; 16]), Seed::new(number), turn).record();
    record.stage = Stage::Delivered(Outcome::Completed(Completed::Ready));
    Entry::new(record, Arc::from("deepvue"), now)
}

/// While operations are forgotten nothing is written, so nobody's job shall wait for more than 256 of them.
#[test]
fn what_is_old_is_forgotten_in_small_batches() {
    let (tells, told) = channel();
    let mut store = MemoryStore::default();
    store.append(&(0..600).map(delivered).collect::<Vec<_>>()).unwrap();
    let url = BaseUrl::parse("http://127.0.0.1:1").unwrap();
    let deepvue = Deepvue::new(url, "product", Credentials::new("token", "secret").unwrap()).unwrap();
    let client = Client::builder(deepvue, Nobody).store(Telling(store.clone(), tells)).start().unwrap();
    let batches = [(); 3].map(|()| told.recv_timeout(Duration::from_secs(60)).unwrap());
    assert_eq!(batches, [[256, 256], [256, 256], [256, 88]]);
    assert_eq!(store.load().unwrap(), []);
    let _ = client.shutdown(Duration::from_secs(60));
    assert_eq!(told.recv().ok(), None, "there was nothing left to forget");
}
