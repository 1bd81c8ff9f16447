//! A store that fails on purpose.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use steadfast_core::{Key, Timestamp};
use steadfast_store::{Entry, Store, StoreError};

/// The fault of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreFault {
    /// The call fails, and certainly changed nothing.
    Fail,
    /// The call changed nothing, and reports an uncertain error. A read fails.
    Lose,
    /// The call was carried out, and reports an uncertain error. A read fails.
    Hide,
    /// The first half of the call's entries is written, and it reports an uncertain error. No store may do that;
    /// appending again repairs it. Any call other than an append fails.
    Tear,
    /// The call waits until [`StoreFaults::release`], then is carried out.
    Hold,
}

/// The plan of a [`FaultyStore`]. Clones share it, so that a test can keep one while a driver has the store.
#[derive(Clone, Debug, Default)]
pub struct StoreFaults {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    plan: Mutex<Plan>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    next: VecDeque<Option<StoreFault>>,
    otherwise: Option<StoreFault>,
    calls: u64,
    held: u64,
    released: u64,
}

impl StoreFaults {
    /// Plans the next call: it meets this fault, or succeeds. Calls that forget are not counted: they come when the
    /// journal decides, in shards beside calls that somebody waits for, so their position would be a matter of luck.
    pub fn then(&self, fault: impl Into<Option<StoreFault>>) -> &Self {
        self.lock().next.push_back(fault.into());
        self
    }

    /// Sets the fault of every call beyond the planned ones, or none; it also applies to every call that forgets.
    pub fn otherwise(&self, fault: impl Into<Option<StoreFault>>) {
        self.lock().otherwise = fault.into();
    }

    /// Releases the calls that are held now.
    pub fn release(&self) {
        let mut plan = self.lock();
        plan.released = plan.held;
        drop(plan);
        self.shared.released.notify_all();
    }

    /// How many calls are held.
    #[must_use]
    pub fn held(&self) -> u64 {
        let plan = self.lock();
        plan.held - plan.released
    }

    /// How many calls there were, without those that forget.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault of the call that begins now; waits first if the call is to be held.
    fn begin(&self) -> Option<StoreFault> {
        let mut plan = self.lock();
        plan.calls += 1;
        let fault = plan.next.pop_front().unwrap_or(plan.otherwise);
        self.bear(plan, fault)
    }

    /// The same for a call that forgets.
    fn begin_unplanned(&self) -> Option<StoreFault> {
        let plan = self.lock();
        let fault = plan.otherwise;
        self.bear(plan, fault)
    }

    fn bear(&self, mut plan: MutexGuard<'_, Plan>, fault: Option<StoreFault>) -> Option<StoreFault> {
        if fault != Some(StoreFault::Hold) {
            return fault;
        }
        plan.held += 1;
        let turn = plan.held;
        while plan.released < turn {
            plan = self.shared.released.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

/// A store around another one, whose calls fail, wait or tear by plan.
///
/// ```
/// use steadfast_core::operation::Stage;
/// use steadfast_store::{MemoryStore, Store};
/// use steadfast_testkit::journal_kit::{self, FaultyStore, StoreFault, StoreFaults};
///
/// let faults = StoreFaults::default();
/// let mut store = FaultyStore::new(MemoryStore::default(), faults.clone());
/// let entry = journal_kit::entry(42, Stage::Planned, 1);
///
/// faults.then(StoreFault::Fail).then(StoreFault::Hide);
/// assert!(store.append(&[entry.clone()]).unwrap_err().is_certain());
/// assert!(!store.append(&[entry.clone()]).unwrap_err().is_certain());
/// assert_eq!(store.load().unwrap(), [entry]);
/// ```
#[derive(Debug)]
pub struct FaultyStore<S> {
    store: S,
    faults: StoreFaults,
    blocks: bool,
}

impl<S: Store> FaultyStore<S> {
    /// Wraps `store`, with this plan.
    pub const fn new(store: S, faults: StoreFaults) -> Self {
        Self { store, faults, blocks: true }
    }

    /// Makes it report that it never [blocks](Store::blocks), so that a driver calls it in place. Then nothing may be
    /// [held](StoreFault::Hold).
    #[must_use]
    pub fn in_place(self) -> Self {
        Self { blocks: false, ..self }
    }

    /// The store inside: what a restart would find.
    pub fn into_inner(self) -> S {
        self.store
    }
}

const TOLD: &str = "this call was told to fail";

impl<S: Store> Store for FaultyStore<S> {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        match self.faults.begin() {
            None | Some(StoreFault::Hold) => self.store.append(entries),
            Some(StoreFault::Fail) => Err(StoreError::write(TOLD)),
            Some(StoreFault::Lose) => Err(StoreError::uncertain(TOLD)),
            Some(StoreFault::Hide) => self.store.append(entries).and(Err(StoreError::uncertain(TOLD))),
            Some(StoreFault::Tear) => {
                let (first, _) = entries.split_at(entries.len() / 2);
                self.store.append(first).and(Err(StoreError::uncertain(TOLD)))
            }
        }
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        match self.faults.begin() {
            None | Some(StoreFault::Hold) => self.store.load(),
            Some(_) => Err(StoreError::read(TOLD)),
        }
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        match self.faults.begin() {
            None | Some(StoreFault::Hold) => self.store.load_live(),
            Some(_) => Err(StoreError::read(TOLD)),
        }
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        match self.faults.begin() {
            None | Some(StoreFault::Hold) => self.store.find(key),
            Some(_) => Err(StoreError::read(TOLD)),
        }
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        match self.faults.begin_unplanned() {
            None | Some(StoreFault::Hold) => self.store.forget(before, most),
            Some(StoreFault::Fail | StoreFault::Tear) => Err(StoreError::write(TOLD)),
            Some(StoreFault::Lose) => Err(StoreError::uncertain(TOLD)),
            Some(StoreFault::Hide) => self.store.forget(before, most).and(Err(StoreError::uncertain(TOLD))),
        }
    }

    fn is_backup(&self) -> bool {
        self.store.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.store.take_into_use()
    }

    fn blocks(&self) -> bool {
        self.blocks
    }
}
