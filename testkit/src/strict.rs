//! A journal and a wire that know the protocol, and report a driver that breaks it.
//!
//! The rules; breaking one is a *violation*:
//!
//! - a create leaves only under a durable record *in flight* that counts it;
//! - a poll leaves only under a durable record *accepted*; a look-up only under *unknown*, or *in flight* after a
//!   restart;
//! - never two requests of one key at a time;
//! - the key's fingerprint never changes, and nothing leaves once the key has ended.
//!
//! A violation panics at once, where it happens. Since a panic on another task is easily lost, it is also kept:
//! [`StrictWire::assert_clean`] panics again, and so does dropping the last handle.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use steadfast_core::operation::{Attempt, AttemptId, Record, Stage};
use steadfast_core::{Key, Kind, Outcome, Timestamp};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};

/// The journal's half: a store in memory, made by [`StrictWire::store`].
#[derive(Debug)]
pub struct StrictStore {
    books: Arc<Mutex<Books>>,
}

/// The wire's half: tell it what leaves and what comes back.
///
/// ```
/// use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Seed, Timestamp};
/// use steadfast_core::operation::{Effect, Event};
/// use std::sync::Arc;
/// use steadfast_store::{Entry, Store};
/// use steadfast_testkit::StrictWire;
///
/// let wire = StrictWire::new();
/// let mut store = wire.store();
/// # let (policy, mut gate, now) = (OperationPolicy::default(), Gate::unlimited(), Timestamp::from_secs(1));
/// # let key = Key::new("order-42")?;
/// let mut job = Operation::new(key, Fingerprint::new([0; 16]), Seed::new(7), &mut policy.turn(now, &mut gate));
/// while let Some(effect) = job.pop_effect() {
///     match effect {
///         Effect::Persist(number) => {
///             // Without this line the next would panic.
///             store.append(&[Entry::new(job.record(), Arc::from("deepvue"), now)])?;
///             job.handle(Event::Persisted(number), &mut policy.turn(now, &mut gate));
///         }
///         Effect::Send(attempt) => wire.sending(&job.key(), &attempt),
///         _ => {}
///     }
/// }
/// wire.assert_clean();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct StrictWire {
    books: Arc<Mutex<Books>>,
}

#[derive(Debug, Default)]
struct Books {
    store: MemoryStore,
    durable: BTreeMap<Key, Record>,
    in_the_air: BTreeMap<Key, AttemptId>,
    violations: Vec<String>,
    /// How many of the next commits are to fail.
    failing: usize,
    commits: usize,
}

impl StrictWire {
    /// A wire with empty books.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store that writes into these books.
    #[must_use]
    pub fn store(&self) -> StrictStore {
        StrictStore { books: self.books.clone() }
    }

    /// Makes the next `commits` commits fail, without making anything durable.
    pub fn fail_next(&self, commits: usize) {
        self.lock().failing = commits;
    }

    /// Call this before a request leaves.
    ///
    /// # Panics
    /// The protocol does not allow the request.
    pub fn sending(&self, key: &Key, attempt: &Attempt) {
        let mut books = self.lock();
        let wrong = books.wrong_to_send(key, attempt);
        books.in_the_air.insert(key.clone(), attempt.id);
        if let Some(wrong) = wrong {
            books.violations.push(wrong.clone());
            drop(books);
            panic!("{wrong}");
        }
    }

    /// Call this when the request of this attempt was answered, failed, or was given up.
    pub fn landed(&self, key: &Key, attempt: &Attempt) {
        let mut books = self.lock();
        if books.in_the_air.get(key) == Some(&attempt.id) {
            books.in_the_air.remove(key);
        }
    }

    /// The records that a restart would find.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.lock().durable.values().cloned().collect()
    }

    /// Successful commits so far.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.lock().commits
    }

    /// Removes the violations so far and returns them: for a test that provokes one.
    #[must_use]
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().violations)
    }

    /// Panics if there was any violation.
    ///
    /// # Panics
    /// There was a violation.
    pub fn assert_clean(&self) {
        let violations = self.lock().violations.clone();
        assert!(violations.is_empty(), "the driver broke the protocol: {violations:#?}");
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn wrong_to_send(&self, key: &Key, attempt: &Attempt) -> Option<String> {
        let wrong = |what: &str| Some(format!("{:?} {} of {key:?}: {what}", attempt.kind, attempt.number));
        if let Some(other) = self.in_the_air.get(key) {
            return wrong(&format!("sent while attempt {} is in the air", other.0));
        }
        let Some(record) = self.durable.get(key) else {
            return wrong("sent without any durable record");
        };
        match (attempt.kind, record.stage) {
            (_, Stage::Ended(_) | Stage::Delivered(_)) => wrong("sent after the end was durable"),
            (Kind::Create, Stage::InFlight) if record.creates >= attempt.number => None,
            (Kind::Create, Stage::InFlight) => wrong("sent under the record of an earlier attempt"),
            (Kind::Create, _) => wrong("sent without a durable record of its intent"),
            (Kind::Poll, Stage::Accepted) => None,
            (Kind::Poll, _) => wrong("sent before the acceptance was durable"),
            (Kind::Lookup, Stage::Unknown | Stage::InFlight) => None,
            (Kind::Lookup, _) => wrong("sent when nothing is in doubt"),
            _ => wrong("is of a kind that these books do not know"),
        }
    }
}

impl Store for StrictStore {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if books.failing > 0 {
            books.failing -= 1;
            return Err(StoreError::write("this commit was told to fail"));
        }
        books.commits += 1;
        for entry in entries {
            let before = books.store.find(&entry.record.key)?;
            // A rejected job's key is free again, for another payload too; after a crash even if the rejection was not
            // delivered.
            let restarted = before
                .as_ref()
                .is_some_and(|it| it.is_delivered() || matches!(it.record.stage, Stage::Ended(Outcome::Rejected(_))));
            if before.is_some_and(|it| it.record.fingerprint != entry.record.fingerprint) && !restarted {
                books.violations.push(format!("the fingerprint of {:?} changed", entry.record.key));
            }
        }
        books.store.append(entries)?;
        for entry in entries {
            books.durable.insert(entry.record.key.clone(), entry.record.clone());
        }
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).store.load()
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).store.load_live()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).store.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).store.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).store.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner).store.take_into_use()
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        if !self.violations.is_empty() && !std::thread::panicking() {
            panic!("the driver broke the protocol: {:#?}", self.violations);
        }
    }
}
