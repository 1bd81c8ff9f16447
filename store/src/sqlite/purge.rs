//! Removing what was delivered long ago, for an operator.
//!
//! A client forgets by itself what is settled ([`Store::forget`](crate::Store::forget)), never what is unresolved: that may have run, so its key must not
//! become free before somebody knows. That somebody is a person, who removes it here, one by one or all that is old. And a person wants to know how
//! many beforehand, and to see it go on; hence small transactions, each of which starts where the one before ended, and leaves whole what is
//! left if the process dies.

use rusqlite::params;
use steadfast_core::operation::Stage;
use steadfast_core::{Key, Outcome, Timestamp};

use super::error::Fault;
use super::{SqliteStore, iso};
use crate::{Entry, StoreError};

/// The rows that [`Old`] speaks of, by `before`, `unresolved`, `after` and `first`.
macro_rules! old {
    () => {
        " FROM operations INDEXED BY operations_delivered WHERE state = 'delivered' AND (outcome = 'unresolved') = ?2 \
         AND updated_at < ?1 AND updated_at >= ?3 AND (updated_at, first) > (?3, ?4)"
    };
}
pub(super) use old;

/// Which operations go: of those that were delivered and not changed since before a time.
///
/// Never any that is under way, or whose outcome was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, and callers make it")]
pub struct Purge {
    /// Only what did not change since before this time.
    pub before: Timestamp,
    /// Also the unresolved, whose keys become free although they may have run.
    pub unresolved_too: bool,
}

impl Purge {
    /// How many operations go in one transaction.
    pub const BATCH: usize = 1_000;
}

/// What is to be forgotten, and how far that has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Old {
    before: Timestamp,
    unresolved: bool,
    pub(super) at: Timestamp,
    pub(super) first: i64,
}

impl Old {
    /// All that was settled before.
    pub(super) const fn settled(before: Timestamp) -> Self {
        Self { before, unresolved: false, at: Timestamp::EPOCH, first: 0 }
    }

    const fn unresolved(before: Timestamp) -> Self {
        Self { unresolved: true, ..Self::settled(before) }
    }

    /// What a purge removes, one after the other.
    fn of(purge: Purge) -> impl Iterator<Item = Self> {
        let unresolved = purge.unresolved_too.then(|| Self::unresolved(purge.before));
        [Self::settled(purge.before)].into_iter().chain(unresolved)
    }

    pub(super) fn before(&self) -> String {
        iso::write(self.before)
    }

    pub(super) const fn is_unresolved(&self) -> bool {
        self.unresolved
    }

    pub(super) fn after(&self) -> String {
        iso::write(self.at)
    }

    /// Whether the record says that this one goes; the columns, by which it was found, count for nothing.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        let unresolved = matches!(entry.record.stage, Stage::Delivered(Outcome::Unresolved(_)));
        entry.is_delivered() && entry.at < self.before && self.unresolved == unresolved
    }
}

impl SqliteStore {
    /// How many operations [`purge`](SqliteStore::purge) would remove.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn count_purgeable(&mut self, purge: Purge) -> Result<u64, StoreError> {
        const COUNT: &str = concat!("SELECT count(*)", old!());
        self.settle().map_err(Fault::reading)?;
        let count = |old: Old| -> rusqlite::Result<u64> {
            let mut count = self.connection.prepare_cached(COUNT)?;
            let found = params![old.before(), old.is_unresolved(), old.after(), old.first];
            count.query_row(found, |row| row.get(0)).map(i64::unsigned_abs)
        };
        Old::of(purge).map(count).sum::<rusqlite::Result<u64>>().map_err(|error| Fault::from(error).reading())
    }

    /// Removes operations that were delivered long ago, the settled first and of each kind the oldest, [`Purge::BATCH`] in one transaction. Calls
    /// `progress` after each with how many are gone, and tells how many went in all.
    ///
    /// # Errors
    /// They could not be removed, or the journal is damaged. What `progress` was told of is gone, the rest is there.
    pub fn purge(&mut self, purge: Purge, mut progress: impl FnMut(u64)) -> Result<u64, StoreError> {
        let mut gone = 0_u64;
        for mut old in Old::of(purge) {
            loop {
                let (next, count) = self.change(|work| {
                    let mut next = old;
                    work.forget(&mut next, Purge::BATCH).map(|count| (next, count))
                })?;
                if count == 0 {
                    break;
                }
                old = next;
                gone = gone.saturating_add(count as u64);
                progress(gone);
            }
        }
        Ok(gone)
    }

    /// Removes one operation that was delivered, however it ended and however long ago: somebody knows what became of it, and its key is free again.
    /// Tells whether it was there; one that is under way stays, as does one whose outcome was not delivered.
    ///
    /// # Errors
    /// It could not be removed, or the journal is damaged. It is still there.
    pub fn purge_one(&mut self, key: &Key) -> Result<bool, StoreError> {
        self.change(|work| work.remove(key))
    }
}
