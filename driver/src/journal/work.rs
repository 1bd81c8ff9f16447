//! The store's side: pieces of work, one after the other.
//!
//! While one is worked on the driver lays out the next, and adds to it until it is taken. So the store need not wait for the driver to hear of the one
//! that is done, to begin the other and to have a thread woken, which takes a fifth as long as a commit.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use steadfast_core::{Key, Timestamp};
use steadfast_store::{Entry, Store, StoreError};

use crate::keep::Keep;

pub(super) type Home = Box<dyn Store>;

/// How many operations are forgotten at a time: a few milliseconds' work.
pub(super) const FORGET_MOST: usize = 256;

/// What is to be done: in this order.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) entries: Vec<Entry>,
    /// Whether the entries were sealed before: they are tried again.
    pub(super) sealed: bool,
    /// What is to be looked up.
    pub(super) keys: Vec<Key>,
    /// What ended before is to be forgotten.
    pub(super) forget: Option<Timestamp>,
}

/// What came of it.
pub(super) struct Brought {
    /// Cleared if they were written.
    pub(super) entries: Vec<Entry>,
    pub(super) result: Result<(), StoreError>,
    pub(super) found: Vec<Result<Option<Entry>, StoreError>>,
    pub(super) forgot: Option<Result<usize, StoreError>>,
}

/// Where the next piece lies.
#[derive(Clone, Default)]
pub(super) struct Tray(Arc<Mutex<Option<Piece>>>);

impl Tray {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work for the store, which may block: commits, look-ups of keys, and forgetting. The store travels with it.
#[must_use = "the journal waits for what comes of it"]
pub struct Work {
    home: Home,
    keep: Keep,
    piece: Piece,
    tray: Tray,
}

impl Work {
    pub(super) const fn new(home: Home, keep: Keep, piece: Piece, tray: Tray) -> Self {
        Self { home, keep, piece, tray }
    }

    /// Does it, and no more: for an adapter to which a moment between two commits does not matter. What is laid out meanwhile goes into the next work. Blocks.
    pub fn run_one(self) -> Worked {
        let Self { mut home, keep, piece, .. } = self;
        match catch_unwind(AssertUnwindSafe(|| one(&mut home, &keep, piece))) {
            Ok(brought) => Worked(What::Last(brought, home)),
            Err(_) => Worked::lost(),
        }
    }

    /// Does it, and what is laid out meanwhile, until there is nothing left or something went wrong: then what lies there must wait. Blocks. Tells what came of each
    /// piece but the last, which it returns: feed all of them to the driver, in this order. A store that panics costs the journal, and no more.
    pub fn run(self, mut tell: impl FnMut(Worked)) -> Worked {
        let Self { mut home, keep, mut piece, tray } = self;
        loop {
            let done = catch_unwind(AssertUnwindSafe(|| one(&mut home, &keep, piece)));
            let Ok(brought) = done else { return Worked::lost() };
            if brought.result.is_err() {
                return Worked(What::Last(brought, home));
            }
            let Some(next) = tray.lock().take() else { return Worked(What::Last(brought, home)) };
            tell(Worked(What::Piece(brought)));
            piece = next;
        }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Piece { entries, keys, forget, .. } = &self.piece;
        write!(f, "Work({} entries, {} keys, forgets: {})", entries.len(), keys.len(), forget.is_some())
    }
}

/// What came of a piece of the store's work.
#[must_use = "the journal waits for it"]
pub struct Worked(pub(super) What);

pub(super) enum What {
    /// Of one after which another was begun at once.
    Piece(Brought),
    /// Of the last one; the store is free.
    Last(Brought, Home),
    /// Nothing is known: the store is gone.
    Lost,
}

impl Worked {
    /// The thread that had it is gone, and the store with it.
    pub const fn lost() -> Self {
        Self(What::Lost)
    }
}

impl fmt::Debug for Worked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            What::Piece(_) => "Worked(a piece)",
            What::Last(..) => "Worked(the last piece)",
            What::Lost => "Worked(lost)",
        })
    }
}

fn one(home: &mut Home, keep: &Keep, piece: Piece) -> Brought {
    let Piece { mut entries, sealed, keys, forget } = piece;
    let seal = |entry: &mut Entry| if sealed { Ok(()) } else { keep.seal(entry) };
    let result = match entries.iter_mut().try_for_each(seal) {
        Ok(()) if entries.is_empty() => Ok(()),
        Ok(()) => home.append(&entries),
        Err(panicked) => Err(StoreError::write(panicked)),
    };
    if result.is_ok() {
        // Here, not where the driver is: it has other things to do.
        entries.clear();
    }
    let found = keys.iter().map(|key| Ok(home.find(key)?.map(|entry| keep.open(entry)))).collect();
    let forgot = forget.map(|before| home.forget(before, FORGET_MOST));
    Brought { entries, result, found, forgot }
}
