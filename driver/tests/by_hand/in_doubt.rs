//! What becomes of a job of which nobody knows whether its intent is on disk, and nobody will find out: it is neither
//! promised nor denied.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast_core::notice::Notice;
use steadfast_core::operation::Stage;
use steadfast_core::{Key, SendSafety, Timestamp};
use steadfast_driver::{Builder, Driver, SubmitError};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};

use super::support::{self, Plain, START, run, shut_down, submit};

/// How the store fails once it has written.
#[derive(Clone, Copy)]
enum Fails {
    InDoubt,
    Panics,
}

struct Doubtful(MemoryStore, Fails);

impl Store for Doubtful {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.0.append(entries)?;
        match self.1 {
            Fails::InDoubt => Err(StoreError::uncertain("the disk does not answer")),
            Fails::Panics => panic!("as it was told to"),
        }
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

type Noticed = Arc<Mutex<Vec<Notice>>>;

fn driver(store: &MemoryStore, fails: Fails, noticed: &Noticed) -> Driver<()> {
    let noticed = noticed.clone();
    let builder: Builder<_, (), ()> = Builder::new(Plain(SendSafety::Unsafe), ())
        .store(Doubtful(store.clone(), fails))
        .observer(move |observation| noticed.lock().unwrap().push(observation.notice.clone()));
    let mut driver = support::driver(builder);
    turn(&mut driver);
    driver
}

/// With the store's work done, as long as there is some. Nothing leaves.
fn turn(driver: &mut Driver<()>) {
    assert_eq!(run(driver, START).len(), 0);
}

fn stage(store: &MemoryStore) -> Stage {
    store.clone().load().unwrap()[0].record.stage
}

fn ends(noticed: &Noticed) -> Vec<Notice> {
    let is_end = |notice: &&Notice| matches!(notice, Notice::Ended(_) | Notice::PersistFailed { retry: None, .. });
    noticed.lock().unwrap().iter().filter(is_end).cloned().collect()
}

/// The commit is in doubt when the client stops.
#[test]
fn a_job_whose_intent_is_given_up_in_doubt_is_not_said_to_be_rejected() {
    let (store, noticed) = (MemoryStore::default(), Noticed::default());
    let mut driver = driver(&store, Fails::InDoubt, &noticed);
    let taken = submit(&mut driver, "order-42", START);
    turn(&mut driver);
    assert!(taken.try_recv().is_err(), "it is tried again");
    let unfinished = shut_down(&mut driver, Duration::ZERO, START);
    turn(&mut driver);
    assert!(driver.is_over());
    let told = taken.try_recv().unwrap().unwrap_err();
    assert!(matches!(told, SubmitError::Uncertain(_)), "{told}");
    assert_eq!(ends(&noticed), []);
    let unfinished: Vec<_> = unfinished.try_recv().unwrap().into_iter().map(|job| job.stage).collect();
    assert_eq!(unfinished, [Stage::InFlight], "as it is on disk, perhaps");
    assert_eq!(stage(&store), Stage::InFlight, "and the next client goes on with it");
}

/// Nor is it there for a next submit to join, which would wait for ever.
#[test]
fn a_job_whose_intent_a_store_took_down_with_it_is_neither_rejected_nor_joined() {
    let (store, noticed) = (MemoryStore::default(), Noticed::default());
    let mut driver = driver(&store, Fails::Panics, &noticed);
    let taken = submit(&mut driver, "order-42", START);
    turn(&mut driver);
    let told = taken.try_recv().unwrap().unwrap_err();
    assert!(matches!(told, SubmitError::Uncertain(_)), "{told}");
    assert_eq!(ends(&noticed), []);
    let again = submit(&mut driver, "order-42", START);
    turn(&mut driver);
    let told = again.try_recv().unwrap().unwrap_err();
    assert!(matches!(told, SubmitError::Unreadable(_)), "{told}");
    assert_eq!((ends(&noticed), stage(&store)), (vec![], Stage::InFlight));

    // Nothing holds its end up either.
    let _unfinished = shut_down(&mut driver, Duration::from_secs(60), START);
    turn(&mut driver);
    assert!(driver.is_over());
}
