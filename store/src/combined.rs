//! One store for several writers: what queued up while one commit ran is the next.
//!
//! A [`Store`] has one writer, and a file has one chain of records. Where several drivers carry the jobs of one client, each appends here as if the store
//! were its own, on a thread of its own, and waits. Whoever gets hold of the store writes for all who wait:
//!
//! ```text
//!  append ─┬─ the store is free, nobody waits ──────────────────→ written as it came
//!          └─ else: into the line ─→ wait for the store ─┬─ somebody has written my round: that outcome
//!                                                        └─ nobody has: take the line, write it, leave the outcome
//! ```
//!
//! - The entries of one writer stay in the order in which it appended them: it waits for each append before it begins the next.
//! - What came of a commit is told to each whose entries were in it, and to nobody else, with its [certainty](StoreError::is_certain).
//! - What nobody knows of is appended again by each of its writers, alone or with others' entries. That is what a store must bear anyway.
//! - A store that panics is not used again. The panic goes on in each whose entries were in that commit, since of those nobody knows anything, and in each who
//!   comes again with what was in doubt before; others who come later are refused, for certain.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use steadfast_core::{Key, Timestamp};

use crate::{Entry, Store, StoreError};

/// A store that several write to at a time, each by a clone of its own: they share it. Each call waits for its turn, so it belongs on a thread that may block.
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
    /// Whether nobody knows what became of this writer's last entries.
    in_doubt: bool,
}

/// For another writer.
impl Clone for CombinedStore {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), in_doubt: false }
    }
}

struct Shared {
    home: Mutex<Home>,
    line: Mutex<Line>,
}

/// `None` once it has panicked.
struct Home(Option<Box<dyn Store>>);

/// Those who wait for the next commit, and what came of those before it.
#[derive(Default)]
struct Line {
    entries: Vec<Entry>,
    writers: usize,
    /// Which commit the line goes into.
    round: u64,
    /// Of rounds that are written: what came of it, and how many have not heard of it. Few: no more than there are writers.
    settled: Vec<(u64, usize, Written)>,
}

/// What came of a commit.
#[derive(Clone)]
enum Written {
    Durable,
    Failed(StoreError),
    Panicked,
    /// It had panicked before.
    Gone,
}

type Panic = Box<dyn Any + Send>;

impl CombinedStore {
    /// Of this store. What it has should be [loaded](Store::load_live) before.
    #[must_use]
    pub fn new(store: Box<dyn Store>) -> Self {
        let home = Mutex::new(Home(Some(store)));
        Self { shared: Arc::new(Shared { home, line: Mutex::default() }), in_doubt: false }
    }

    /// How many wait for the next commit.
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
        // Only now: whoever gets the store next finds what came of its round.
        drop(home);
        match panic {
            Some(panic) => resume_unwind(panic),
            None => self.tell(written),
        }
    }

    /// To one of a commit's writers.
    fn tell(&self, written: Written) -> Result<(), StoreError> {
        match written {
            Written::Durable => Ok(()),
            Written::Failed(error) => Err(error),
            // Its own report was printed where it happened.
            Written::Panicked => resume_unwind(Box::new("the store panicked in a commit of several writers")),
            Written::Gone if self.in_doubt => {
                resume_unwind(Box::new("the store panicked, and some of this was in doubt"))
            }
            Written::Gone => Err(gone()),
        }
    }

    /// Something that is no append, which has the store for itself.
    fn alone<T>(&self, work: impl FnOnce(&mut dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut home = lock(&self.shared.home);
        home.work(work).unwrap_or_else(|panic| {
            // Not while others would find the lock poisoned: it is the store that is gone.
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
            // It may panic once more, its own lock being poisoned, say; those whose entries were in it must hear of the first time all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(gone))).map_err(std::mem::forget);
        }
        done
    }
}

impl Line {
    /// What came of a round, for one of its writers.
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

    /// Also if the store itself does not: it may be another's turn, and for long.
    fn blocks(&self) -> bool {
        true
    }
}

fn gone() -> StoreError {
    StoreError::write("the store panicked in an earlier commit")
}

/// Whoever held it has left it as it should be: what can panic is caught inside.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for CombinedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CombinedStore")
    }
}
