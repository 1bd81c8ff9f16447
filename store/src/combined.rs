//! One store shared by several writers: entries that arrive while a commit runs are written together in the next one.
//!
//! A [`Store`] has one writer, and a file has one chain of records. Where several drivers carry the jobs of one client,
//! each appends through its own clone as if the store were its own, on a thread of its own, and waits. The writer that
//! acquires the store writes the entries of all that wait:
//!
//! ```text
//!  append ─┬─ the store is free, nobody waits ──────────────────→ written as it came
//!          └─ else: join the line ─→ wait for the store ─┬─ another writer has written my round: that outcome
//!                                                        └─ nobody has: take the line, write it, leave the outcome
//! ```
//!
//! - The entries of one writer stay in the order in which it appended them: it waits for each append before it begins
//!   the next.
//! - The outcome of a commit, with its [certainty](StoreError::is_certain), goes to every writer whose entries were in
//!   it, and to no other.
//! - Entries whose fate is uncertain are appended again by each of their writers, alone or together with others'
//!   entries. Every store must accept that anyway.
//! - A store that panics is not used again. The panic continues in every writer whose entries were in that commit,
//!   since their fate is unknown, and in every writer that comes back with entries that were already in doubt; other,
//!   later calls fail with an error that is certain.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use steadfast_core::{Key, Timestamp};

use crate::{Entry, Store, StoreError};

/// A store that several writers use at the same time, each through its own clone. Each call waits for its turn, so call
/// it on a thread that may block.
///
/// ```
/// use steadfast_store::{CombinedStore, MemoryStore, Store};
///
/// let mut first = CombinedStore::new(Box::new(MemoryStore::default()));
/// let mut second = first.clone();
/// std::thread::scope(|scope| {
///     scope.spawn(|| first.append(&[])); // if they meet, one of them writes for both
///     scope.spawn(|| second.append(&[]));
/// });
/// ```
pub struct CombinedStore {
    shared: Arc<Shared>,
    /// Whether it is unknown what became of this writer's last entries.
    in_doubt: bool,
}

/// A clone for another writer.
impl Clone for CombinedStore {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), in_doubt: false }
    }
}

struct Shared {
    home: Mutex<Home>,
    line: Mutex<Line>,
}

/// `None` once the store has panicked.
struct Home(Option<Box<dyn Store>>);

/// The entries that wait for the next commit, and the outcomes of earlier ones.
#[derive(Default)]
struct Line {
    entries: Vec<Entry>,
    writers: usize,
    /// The number of the commit that will write the line.
    round: u64,
    /// For each written round: its outcome, and how many of its writers have not fetched it yet. At most as many as
    /// there are writers.
    settled: Vec<(u64, usize, Written)>,
}

/// The outcome of a commit.
#[derive(Clone)]
enum Written {
    Durable,
    Failed(StoreError),
    Panicked,
    /// The store had panicked before.
    Gone,
}

type Panic = Box<dyn Any + Send>;

impl CombinedStore {
    /// Shares this store. [Load](Store::load_live) its contents first.
    #[must_use]
    pub fn new(store: Box<dyn Store>) -> Self {
        let home = Mutex::new(Home(Some(store)));
        Self { shared: Arc::new(Shared { home, line: Mutex::default() }), in_doubt: false }
    }

    /// How many writers wait for the next commit.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.line().writers
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        lock(&self.shared.line)
    }

    fn append_in_turn(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let at_hand = match self.shared.home.try_lock() {
            Ok(home) => Some(home),
            Err(TryLockError::Poisoned(home)) => Some(home.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let mut line = self.line();
        if let Some(mut home) = at_hand.filter(|_| line.writers == 0) {
            drop(line);
            if home.0.is_none() {
                return self.tell(Written::Gone);
            }
            return home.work(|store| store.append(entries)).unwrap_or_else(|panic| {
                drop(home);
                resume_unwind(panic)
            });
        }
        let round = line.round;
        line.entries.extend_from_slice(entries);
        line.writers += 1;
        drop(line);
        let mut home = lock(&self.shared.home);
        let mut line = self.line();
        if let Some(written) = line.outcome(round) {
            drop((line, home));
            return self.tell(written);
        }
        let (entries, writers) = (std::mem::take(&mut line.entries), std::mem::take(&mut line.writers));
        line.round += 1;
        drop(line);
        let (written, panic) = match home.work(|store| store.append(&entries)) {
            Ok(Err(_)) if home.0.is_none() => (Written::Gone, None),
            Ok(Ok(())) => (Written::Durable, None),
            Ok(Err(error)) => (Written::Failed(error), None),
            Err(panic) => (Written::Panicked, Some(panic)),
        };
        if writers > 1 {
            self.line().settled.push((round, writers - 1, written.clone()));
        }
        // Only now: the next writer that acquires the store then finds the outcome of its round.
        drop(home);
        match panic {
            Some(panic) => resume_unwind(panic),
            None => self.tell(written),
        }
    }

    /// Reports the outcome to one of a commit's writers.
    fn tell(&self, written: Written) -> Result<(), StoreError> {
        match written {
            Written::Durable => Ok(()),
            Written::Failed(error) => Err(error),
            // The original panic was printed where it happened.
            Written::Panicked => resume_unwind(Box::new("the store panicked in a commit of several writers")),
            Written::Gone if self.in_doubt => {
                resume_unwind(Box::new("the store panicked, and some of this was in doubt"))
            }
            Written::Gone => Err(gone()),
        }
    }

    /// Does something other than an append, with the store to itself.
    fn alone<T>(&self, work: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut home = lock(&self.shared.home);
        home.work(work).unwrap_or_else(|panic| {
            // Released before the panic continues, so that the lock is not poisoned for others: it is the store that is
            // gone.
            drop(home);
            resume_unwind(panic)
        })
    }
}

impl Home {
    fn work<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>,
    ) -> Result<Result<T, StoreError>, Panic> {
        let Some(store) = &mut self.0 else {
            return Ok(Err(gone()));
        };
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut **store)));
        if done.is_err() {
            let gone = self.0.take();
            // Dropping the store may panic again (if a lock of its own is poisoned, for example); the writers of that
            // commit must learn of the first panic all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(gone))).map_err(std::mem::forget);
        }
        done
    }
}

impl Line {
    /// Takes the outcome of a round, for one of its writers.
    fn outcome(&mut self, round: u64) -> Option<Written> {
        let place = self.settled.iter().position(|(settled, ..)| *settled == round)?;
        let (_, writers, written) = self.settled.get_mut(place)?;
        let written = written.clone();
        *writers -= 1;
        if *writers == 0 {
            self.settled.swap_remove(place);
        }
        Some(written)
    }
}

impl Store for CombinedStore {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let result = self.append_in_turn(entries);
        self.in_doubt = result.as_ref().is_err_and(|error| !error.is_certain());
        result
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.alone(|store| store.load())
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.alone(|store| store.load_live())
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.alone(|store| store.find(key))
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.alone(|store| store.forget(before, most))
    }

    fn is_backup(&self) -> bool {
        lock(&self.shared.home).0.as_ref().is_some_and(|store| store.is_backup())
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.alone(|store| store.take_into_use())
    }

    /// Always, even if the store itself does not block: it may be another writer's turn, and for long.
    fn blocks(&self) -> bool {
        true
    }
}

fn gone() -> StoreError {
    StoreError::write("the store panicked in an earlier commit")
}

/// Ignores poisoning: all that can panic is caught inside, so the data is consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for CombinedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CombinedStore")
    }
}
