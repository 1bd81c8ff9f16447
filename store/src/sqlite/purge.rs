//! Removes operations that were delivered long ago, for an operator.
//!
//! A client forgets settled operations by itself ([`Store::forget`](crate::Store::forget)), but never unresolved ones:
//! they may have run, so their keys must not become free before somebody knows. A person decides that, and removes them
//! here, one by one or all that are old. A person also wants to know beforehand how many there are, and to see the
//! progress; hence small transactions, each of which continues where the last one ended, so that the journal stays
//! consistent if the process dies.

use rusqlite::types::ValueRef;
use steadfast_core::operation::Stage;
use steadfast_core::{Key, Outcome, Timestamp};

use super::error::Fault;
use super::{SqliteStore, body};
use crate::{Entry, StoreError};

/// Which operations to remove: those that were delivered and have not changed since before a given time.
///
/// Never one that is under way, or whose outcome was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, and callers make it")]
pub struct Purge {
    /// Only operations that have not changed since before this time.
    pub before: Timestamp,
    /// Also unresolved operations, whose keys become free although they may have run.
    pub unresolved_too: bool,
}

impl Purge {
    /// How many operations are removed in one transaction.
    pub const BATCH: usize = 1_000;
}

/// The kinds of operations that are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Settled,
    Unresolved,
}

impl Purge {
    /// The kinds that this purge removes, one after the other.
    fn kinds(self) -> impl Iterator<Item = Kind> {
        [Kind::Settled].into_iter().chain(self.unresolved_too.then_some(Kind::Unresolved))
    }

    fn takes(self, kind: Kind, stage: Stage, at: Timestamp) -> bool {
        let Stage::Delivered(outcome) = stage else { return false };
        let found = if matches!(outcome, Outcome::Unresolved(_)) { Kind::Unresolved } else { Kind::Settled };
        at < self.before && found == kind
    }
}

impl SqliteStore {
    /// Counts the operations that [`purge`](SqliteStore::purge) would remove.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn count_purgeable(&mut self, purge: Purge) -> Result<u64, StoreError> {
        let count = |kind| self.purgeable(purge, kind).map(|rows| rows.len() as u64);
        purge.kinds().map(count).sum::<Result<u64, Fault>>().map_err(Fault::reading)
    }

    /// The rows to remove, the oldest first.
    fn purgeable(&mut self, purge: Purge, kind: Kind) -> Result<Vec<(Timestamp, i64)>, Fault> {
        self.settle()?;
        let mut found = Vec::new();
        let mut all = self.connection.prepare_cached("SELECT first, body FROM records")?;
        let mut rows = all.query([])?;
        while let Some(row) = rows.next()? {
            // A row that cannot be read does not count as old; the removal itself verifies all rows.
            if let (ValueRef::Integer(first), ValueRef::Blob(bytes)) = (row.get_ref(0)?, row.get_ref(1)?)
                && let Some((stage, at)) = body::stage(bytes)
                && purge.takes(kind, stage, at)
            {
                found.push((at, first));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Removes operations that were delivered long ago, the settled ones first and of each kind the oldest first,
    /// [`Purge::BATCH`] in one transaction. Calls `progress` after each with how many are gone so far, and returns how
    /// many were removed in all.
    ///
    /// # Errors
    /// They could not be removed, or the journal is damaged. The operations reported to `progress` are gone, the rest
    /// is there.
    pub fn purge(&mut self, purge: Purge, mut progress: impl FnMut(u64)) -> Result<u64, StoreError> {
        let mut gone = 0_u64;
        for kind in purge.kinds() {
            let old = self.purgeable(purge, kind).map_err(Fault::writing)?;
            for batch in old.chunks(Purge::BATCH) {
                let goes = |entry: &Entry| purge.takes(kind, entry.record.stage, entry.at);
                let count = self.change(|work| work.remove_all(batch, goes))?;
                gone = gone.saturating_add(count as u64);
                progress(gone);
            }
        }
        Ok(gone)
    }

    /// Removes one delivered operation, whatever its outcome and its age: use it when somebody knows what became of the
    /// job. Its key is free again. Returns whether it was removed; an operation that is under way, or whose outcome was
    /// not delivered, stays.
    ///
    /// # Errors
    /// It could not be removed, or the journal is damaged. The operation is still there.
    pub fn purge_one(&mut self, key: &Key) -> Result<bool, StoreError> {
        self.change(|work| work.remove(key))
    }
}
