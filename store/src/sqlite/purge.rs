//! Removing what was delivered long ago, for an operator.
//!
//! A client forgets by itself what is settled ([`Store::forget`](crate::Store::forget)), never what is unresolved: that may have run, so its key must not
//! become free before somebody knows. That somebody is a person, who removes it here, one by one or all that is old. And a person wants to know how
//! many beforehand, and to see it go on; hence small transactions, each of which starts where the one before ended, and leaves whole what is
//! left if the process dies.

use rusqlite::types::ValueRef;
use steadfast_core::operation::Stage;
use steadfast_core::{Key, Outcome, Timestamp};

use super::error::Fault;
use super::{SqliteStore, body};
use crate::{Entry, StoreError};

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

/// Which kind goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Settled,
    Unresolved,
}

impl Purge {
    /// What it removes, one kind after the other.
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
    /// How many operations [`purge`](SqliteStore::purge) would remove.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn count_purgeable(&mut self, purge: Purge) -> Result<u64, StoreError> {
        let count = |kind| self.purgeable(purge, kind).map(|rows| rows.len() as u64);
        purge.kinds().map(count).sum::<Result<u64, Fault>>().map_err(Fault::reading)
    }

    /// The rows that go, the oldest first.
    fn purgeable(&mut self, purge: Purge, kind: Kind) -> Result<Vec<(Timestamp, i64)>, Fault> {
        self.settle()?;
        let mut found = Vec::new();
        let mut all = self.connection.prepare_cached("SELECT first, body FROM records")?;
        let mut rows = all.query([])?;
        while let Some(row) = rows.next()? {
            // What cannot be read is not old; whoever removes what is, verifies all.
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

    /// Removes operations that were delivered long ago, the settled first and of each kind the oldest, [`Purge::BATCH`] in one transaction. Calls
    /// `progress` after each with how many are gone, and tells how many went in all.
    ///
    /// # Errors
    /// They could not be removed, or the journal is damaged. What `progress` was told of is gone, the rest is there.
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

    /// Removes one operation that was delivered, however it ended and however long ago: somebody knows what became of it, and its key is free again.
    /// Tells whether it was there; one that is under way stays, as does one whose outcome was not delivered.
    ///
    /// # Errors
    /// It could not be removed, or the journal is damaged. It is still there.
    pub fn purge_one(&mut self, key: &Key) -> Result<bool, StoreError> {
        self.change(|work| work.remove(key))
    }
}
