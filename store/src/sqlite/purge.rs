//! Removing what was delivered long ago, for an operator.
//!
//! A client forgets by itself ([`Store::forget`](crate::Store::forget)), all that was delivered before its window. A person may want more spared than
//! that: an unresolved operation with a reference can still be resumed. And a person wants to know how many beforehand, and to see it go on; hence small
//! transactions, each of which starts where the one before ended, and leaves whole what is left if the process dies.

use rusqlite::params;
use steadfast_core::operation::Stage;
use steadfast_core::{Outcome, Timestamp};

use super::error::Fault;
use super::{SqliteStore, iso};
use crate::{Entry, StoreError};

/// The rows that [`Old`] speaks of, by `before`, `spares`, `after` and `first`.
macro_rules! old {
    () => {
        " FROM operations INDEXED BY operations_delivered WHERE state = 'delivered' AND updated_at < ?1 \
         AND NOT (?2 AND outcome = 'unresolved' AND reference IS NOT NULL) AND updated_at >= ?3 AND (updated_at, first) > (?3, ?4)"
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
    /// Also the unresolved that have a reference, and could be resumed.
    pub unresolved_too: bool,
}

impl Purge {
    /// How many operations go in one transaction.
    pub const BATCH: usize = 1_000;
}

/// What is to be forgotten, and how far that has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Old {
    purge: Purge,
    pub(super) at: Timestamp,
    pub(super) first: i64,
}

impl Old {
    /// All that was delivered before.
    pub(super) const fn delivered(before: Timestamp) -> Self {
        Self::of(Purge { before, unresolved_too: true })
    }

    const fn of(purge: Purge) -> Self {
        Self { purge, at: Timestamp::EPOCH, first: 0 }
    }

    pub(super) fn before(&self) -> String {
        iso::write(self.purge.before)
    }

    pub(super) const fn spares(&self) -> bool {
        !self.purge.unresolved_too
    }

    pub(super) fn after(&self) -> String {
        iso::write(self.at)
    }

    /// Whether the record says that this one goes; the columns, by which it was found, count for nothing.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        let resumable =
            entry.record.reference.is_some() && matches!(entry.record.stage, Stage::Delivered(Outcome::Unresolved(_)));
        entry.is_delivered() && entry.at < self.purge.before && !(self.spares() && resumable)
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
        let old = Old::of(purge);
        let mut count = self.connection.prepare_cached(COUNT).map_err(|error| Fault::from(error).reading())?;
        let found = count.query_row(params![old.before(), old.spares(), old.after(), old.first], |row| row.get(0));
        found.map(i64::unsigned_abs).map_err(|error| Fault::from(error).reading())
    }

    /// Removes operations that were delivered long ago, the oldest first, [`Purge::BATCH`] in one transaction. Calls `progress` after each with
    /// how many are gone, and tells how many went in all.
    ///
    /// # Errors
    /// They could not be removed, or the journal is damaged. What `progress` was told of is gone, the rest is there.
    pub fn purge(&mut self, purge: Purge, mut progress: impl FnMut(u64)) -> Result<u64, StoreError> {
        let (mut old, mut gone) = (Old::of(purge), 0_u64);
        loop {
            let (next, count) = self.change(|work| {
                let mut next = old;
                work.forget(&mut next, Purge::BATCH).map(|count| (next, count))
            })?;
            if count == 0 {
                return Ok(gone);
            }
            old = next;
            gone = gone.saturating_add(count as u64);
            progress(gone);
        }
    }
}
