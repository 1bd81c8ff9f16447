//! The store's side: pieces of work, one after the other.
//!
//! While one is worked on the driver lays out the next, and adds to it until it is taken. So the store need not wait
//! until the driver has heard of the finished piece, begun the next and had a thread woken, which takes a fifth as long
//! as a commit.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use steadfast_core::{Key, Timestamp};
use steadfast_store::{Entry, Store, StoreError};

use crate::caught::caught;
use crate::keep::Keep;
use crate::meter::Commits;

pub(super) type Home = Box<dyn Store>;

/// What is to be done: in this order.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) entries: Vec<Entry>,
    /// Whether the entries were sealed before: they are tried again.
    pub(super) sealed: bool,
    /// What is to be looked up.
    pub(super) keys: Vec<Key>,
    pub(super) forget: Option<Forget>,
}

/// What is to be forgotten: operations that ended before `before`, at most `most` of them.
#[derive(Clone, Copy)]
pub(super) struct Forget {
    pub(super) before: Timestamp,
    pub(super) most: usize,
}

/// What came of it.
pub(super) struct Brought {
    pub(super) entries: Vec<Entry>,
    pub(super) result: Result<(), StoreError>,
    pub(super) found: Vec<Result<Option<Box<Entry>>, StoreError>>,
    pub(super) forgot: Option<Result<usize, StoreError>>,
}

/// How long the store's thread waits at most when nothing is laid out: about as long as a commit takes. In that time
/// the driver carries out what the commit allowed, which asks for the next one. To wake a waiting thread costs half of
/// what it costs to begin anew.
const LINGER: Duration = Duration::from_micros(200);

/// A store that is quicker than this syncs nothing, and its thread need not wait for more.
pub(super) const QUICK: Duration = Duration::from_micros(50);

/// Where the next piece lies.
#[derive(Clone, Default)]
pub(super) struct Tray(Arc<(Mutex<Option<Piece>>, Condvar)>);

impl Tray {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Piece>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread that waits for a piece.
    pub(super) fn call(&self) {
        self.0.1.notify_one();
    }

    fn take(&self) -> Option<Piece> {
        self.lock().take()
    }

    /// Waits a little for the next piece.
    fn wait(&self) -> Option<Piece> {
        let waited = self.0.1.wait_timeout_while(self.lock(), LINGER, |piece| piece.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take()
    }
}

/// Work for the store, which may block: commits, look-ups of keys, and forgetting. The store travels with it.
#[must_use = "run it and feed the result to `Driver::worked`: the journal waits for it"]
pub struct Work {
    home: Home,
    keep: Keep,
    piece: Piece,
    tray: Tray,
    commits: Commits,
}

impl Work {
    pub(super) const fn new(home: Home, keep: Keep, piece: Piece, tray: Tray, commits: Commits) -> Self {
        Self { home, keep, piece, tray, commits }
    }

    /// Does this piece of work only, for an adapter to which a moment between two commits does not matter. What is laid
    /// out meanwhile goes into the next [`Work`]. Blocks.
    pub fn run_one(self) -> Worked {
        let Self { mut home, keep, piece, commits, .. } = self;
        match caught(|| one(&mut home, &keep, piece, &commits)) {
            Some(brought) => Worked(What::Last(brought, home)),
            None => Worked::lose(home),
        }
    }

    /// Does this piece of work, and what is laid out meanwhile and for a moment after, until nothing is left or
    /// something went wrong; what lies there then must wait. Blocks. Passes results to `tell`, and returns the last
    /// one: that of the last piece, or that there was no more. Feed all of them to the driver, in this order. If the
    /// store panics, only the journal is lost.
    pub fn run(self, mut tell: impl FnMut(Worked)) -> Worked {
        let Self { mut home, keep, mut piece, tray, commits } = self;
        loop {
            let began = Instant::now();
            let Some(brought) = caught(|| one(&mut home, &keep, piece, &commits)) else { return Worked::lose(home) };
            let next = if brought.result.is_ok() { tray.take() } else { None };
            if next.is_none() && (brought.result.is_err() || began.elapsed() < QUICK) {
                return Worked(What::Last(brought, home));
            }
            tell(Worked(What::Piece(brought)));
            let Some(next) = next.or_else(|| tray.wait()) else { return Worked(What::Free(home)) };
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

/// The result of a piece of the store's work.
#[must_use = "feed it to `Driver::worked`: the journal waits for it"]
pub struct Worked(pub(super) What);

pub(super) enum What {
    /// The result of a piece; the store's thread goes on.
    Piece(Brought),
    /// The result of the last piece; the store is free.
    Last(Brought, Home),
    /// There was no other after the last one; the store is free.
    Free(Home),
    /// Nothing is known: the store is gone.
    Lost,
}

impl Worked {
    /// Says that the thread that did the work is gone, and the store with it.
    pub const fn lost() -> Self {
        Self(What::Lost)
    }

    /// The store panicked. Dropping it may panic as well (its own lock may be poisoned, say), and callers that wait
    /// must be told all the same.
    fn lose(home: Home) -> Self {
        let _ = caught(|| drop(home));
        Self::lost()
    }
}

impl fmt::Debug for Worked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            What::Piece(_) => "Worked(a piece)",
            What::Last(..) => "Worked(the last piece)",
            What::Free(_) => "Worked(nothing more)",
            What::Lost => "Worked(lost)",
        })
    }
}

fn one(home: &mut Home, keep: &Keep, piece: Piece, commits: &Commits) -> Brought {
    let Piece { mut entries, sealed, keys, forget } = piece;
    let seal = |entry: &mut Entry| if sealed { Ok(()) } else { keep.seal(entry) };
    let result = match entries.iter_mut().try_for_each(seal) {
        Ok(()) if entries.is_empty() => Ok(()),
        Ok(()) => commits.time(|| home.append(&entries)),
        Err(unsealed) => Err(StoreError::write(unsealed).advising("mend what seals, or what it needs")),
    };
    let found = keys.iter().map(|key| Ok(home.find(key)?.map(|entry| Box::new(keep.found(entry))))).collect();
    let forgot = forget.map(|Forget { before, most }| home.forget(before, most));
    Brought { entries, result, found, forgot }
}
