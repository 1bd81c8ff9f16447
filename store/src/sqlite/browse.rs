//! Looking through a journal, row by row, for a person.
//!
//! Nothing is collected: a journal of a million operations shows its newest hundred at once. Each row is hashed as it
//! is read, so only what was written is shown; whether a row is *missing* is found only by [`load`](crate::Store::load)
//! and [`verify`](SqliteStore::verify). A damaged row is reported, and the others are shown all the same (`reach.rs`).

use std::ops::ControlFlow;

use rusqlite::types::ValueRef;
use steadfast_core::operation::Stage;
use steadfast_core::{Key, Outcome, Timestamp};

use super::error::{Damage, DamageError, Fault};
use super::mark::Mark;
use super::row::Row;
use super::{SqliteStore, body, columns, reach};
use crate::{Entry, StoreError};

/// The order in which [`SqliteStore::browse`] visits operations: by when each key was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Order {
    /// The earliest first.
    OldestFirst,
    /// The latest first.
    NewestFirst,
}

/// One operation as it is stored, and when it reached its stages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// Its stored entry.
    pub entry: Entry,
    /// When it was first known that the provider has accepted the job.
    pub accepted: Option<Timestamp>,
    /// When it ended with its present outcome.
    pub ended: Option<Timestamp>,
}

impl Stored {
    /// `planned`, `in_flight`, `unknown`, `accepted`, `ended` or `delivered`.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        columns::state(self.entry.record.stage)
    }

    /// How it ended, if it has.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        columns::outcome(self.entry.record.stage)
    }

    /// Why it ended, in one word such as `ambiguous`; for a create that may have run, `refused` if the provider said no
    /// to it.
    #[must_use]
    pub const fn reason(&self) -> Option<&'static str> {
        columns::reason(&self.entry.record)
    }

    /// Whether it may have run, with an unknown result.
    #[must_use]
    pub const fn is_unresolved(&self) -> bool {
        matches!(self.entry.record.stage, Stage::Unknown) || matches!(self.outcome(), Some(Outcome::Unresolved(_)))
    }

    fn of(row: Row) -> Self {
        let Row { times, entry, .. } = row;
        Self { accepted: times.accepted.deadline(), ended: times.ended.deadline(), entry }
    }
}

impl SqliteStore {
    /// How many operations there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.head.count.unsigned_abs()
    }

    /// Whether `FILE-mark` could vouch for the journal when it was opened, or can since it was written. If not, newer
    /// records may be missing without a trace: a file that was copied alone looks like an older journal.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.mark.state()
    }

    /// Calls `each` with every operation, or with what is wrong with its row, until `each` breaks off. A page that
    /// cannot be read is reported once, and the rows behind it follow; rows between two such pages are not reached.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// use steadfast_store::sqlite::{Order, SqliteStore};
    /// # let path = std::env::temp_dir().join(format!("steadfast-browse-{}.db", std::process::id()));
    /// # drop(SqliteStore::open(&path)?);
    ///
    /// let mut newest = Vec::new();
    /// SqliteStore::open_read_only(&path)?.browse(Order::NewestFirst, |stored| {
    ///     newest.extend(stored);
    ///     if newest.len() < 100 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    /// })?;
    /// # for suffix in ["", "-mark"] { let _ = std::fs::remove_file(format!("{}{suffix}", path.display())); }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The file could not be read.
    pub fn browse(
        &mut self,
        order: Order,
        mut each: impl FnMut(Result<Stored, DamageError>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut look = || -> Result<(), Fault> {
            self.settle()?;
            let reader = &mut self.reader;
            reach::rows(&self.connection, order, |row| {
                let stored = match row.map_err(Fault::from).and_then(|row| reader.read(row)) {
                    Err(Fault::Damage(damage)) => Err(DamageError(damage)),
                    other => Ok(Stored::of(other?)),
                };
                Ok(each(stored))
            })
        };
        look().map_err(Fault::reading)
    }

    /// Finds the operation of this key. Unlike [`find`](crate::Store::find), this verifies no other row: it is meant
    /// for a single look-up.
    ///
    /// # Errors
    /// The file could not be read, or the operation's row is damaged; or the key was not found, and some row is so
    /// damaged that it could be this key's.
    pub fn look_up(&mut self, key: &Key) -> Result<Option<Stored>, StoreError> {
        let mut look = || -> Result<Option<Stored>, Fault> {
            self.settle()?;
            let mut unreadable = None;
            let mut all = self.connection.prepare_cached("SELECT first, body FROM records")?;
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                let ValueRef::Blob(body) = row.get_ref(1)? else { return Err(Damage::Structure.into()) };
                let found = body::key(body);
                if found == Some(key.as_str().as_bytes()) {
                    let row = self.reader.row(&self.connection, row.get(0)?)?.ok_or(Damage::Gone)?;
                    return Ok(Some(Stored::of(row)));
                }
                if found.is_none() {
                    unreadable = Some(row.get(0)?);
                }
            }
            // It cannot be told which key such a row has.
            unreadable.map_or(Ok(None), |first| self.reader.row(&self.connection, first).map(|_| None))
        };
        let found = match look() {
            // The row may lie behind a page that cannot be read.
            Err(Fault::Damage(damage)) => {
                self.reach(key).and_then(|found| found.map(Some).ok_or_else(|| damage.into()))
            }
            other => other,
        };
        found.map_err(Fault::reading)
    }

    fn reach(&mut self, key: &Key) -> Result<Option<Stored>, Fault> {
        let (mut found, reader) = (None, &mut self.reader);
        reach::rows(&self.connection, Order::OldestFirst, |row| {
            found = row.ok().and_then(|row| reader.read(row).ok()).filter(|row| row.entry.record.key == *key);
            Ok(if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found.map(Stored::of))
    }
}
