//! What one transaction does to the rows: entries are added and removed, and head and places are kept in step.

use rusqlite::Connection;
use steadfast_core::{Key, Timestamp};

use super::body::{Hash, Place};
use super::error::{Damage, Fault};
use super::head::Head;
use super::places::Places;
use super::row::Reader;
use super::write::{Known, Recent, Writer};
use crate::Entry;

/// The parts of the store that a transaction works with.
pub(super) struct Work<'a> {
    pub(super) connection: &'a Connection,
    pub(super) reader: &'a mut Reader,
    pub(super) writer: Writer<'a>,
    pub(super) places: &'a mut Places,
    pub(super) recent: &'a mut Recent,
    pub(super) head: Head,
    pub(super) changes: Changes,
}

/// What a transaction has changed in the places of rows.
#[derive(Default)]
pub(super) struct Changes {
    /// New keys, by their [names](Places::name), and their rows. They can be found at once.
    came: Vec<(u64, i64)>,
    /// Forgotten keys, and their rows.
    went: Vec<(u64, i64)>,
    /// Newly settled rows, and when they were settled.
    settled: Vec<(Timestamp, i64)>,
    /// How many of the oldest settled rows are not settled any more.
    passed: usize,
}

impl Changes {
    pub(super) fn keep(self, places: &mut Places) {
        self.went.into_iter().for_each(|(name, first)| places.remove(name, first));
        places.pass(self.passed);
        self.settled.into_iter().for_each(|(at, first)| places.settled(at, first));
    }

    pub(super) fn undo(self, places: &mut Places) {
        self.came.into_iter().for_each(|(name, first)| places.remove(name, first));
    }
}

impl Work<'_> {
    pub(super) fn append(&mut self, entry: &Entry) -> Result<(), Fault> {
        let key = &entry.record.key;
        let name = self.places.name(key);
        let earlier = self.earlier(entry, name)?;
        let sequence = self.head.next()?;
        let first = earlier.as_ref().map_or(sequence, |known| known.first);
        let place = Place { first, sequence, previous: self.head.hash };
        let known = self.writer.write(&place, entry, earlier.as_ref())?;
        if earlier.is_none() {
            self.places.insert(name, first);
            self.changes.came.push((name, first));
        }
        self.head.append(known.hash, earlier.as_ref().map(|earlier| &earlier.hash))?;
        if entry.is_settled() {
            self.changes.settled.push((entry.at, first));
        }
        // After its delivery an operation usually has no further record.
        if entry.is_delivered() {
            self.recent.remove(name)
        } else {
            self.recent.insert(name, known)
        }
        Ok(())
    }

    /// The row of the entry's key, if it has one.
    fn earlier(&mut self, entry: &Entry, name: u64) -> Result<Option<Known>, Fault> {
        let key = &entry.record.key;
        match self.recent.get(name, entry) {
            Some(known) => Ok(Some(known)),
            None if self.places.candidates(name).next().is_none() => Ok(None),
            None => {
                self.writer.flush()?;
                Ok(self.reader.find(self.connection, self.places, key)?.as_ref().map(Known::of))
            }
        }
    }

    /// Forgets at most `most` operations that were settled before this time, the oldest first. Returns how many.
    pub(super) fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, Fault> {
        let mut gone = 0;
        while gone < most {
            let old = self.places.oldest().skip(self.changes.passed).take_while(|(at, _)| *at < before);
            let old: Vec<(Timestamp, i64)> = old.take(most - gone).collect();
            if old.is_empty() {
                break;
            }
            self.changes.passed += old.len();
            gone += self.remove_all(&old, Entry::is_settled)?;
        }
        Ok(gone)
    }

    /// Removes those of these rows that `goes` accepts and that have not changed since the given time. Returns how
    /// many.
    pub(super) fn remove_all(
        &mut self,
        rows: &[(Timestamp, i64)],
        goes: impl Fn(&Entry) -> bool,
    ) -> Result<usize, Fault> {
        self.writer.flush()?;
        let mut gone = 0;
        for (at, first) in rows {
            let row = self.reader.row(self.connection, *first)?;
            let Some(row) = row.filter(|row| row.entry.at == *at && goes(&row.entry)) else { continue };
            self.delete(&row.entry.record.key, *first, &row.hash)?;
            gone += 1;
        }
        Ok(gone)
    }

    /// Removes the operation of this key, if it was delivered.
    pub(super) fn remove(&mut self, key: &Key) -> Result<bool, Fault> {
        let Some(row) = self.reader.find(self.connection, self.places, key)?.filter(|row| row.entry.is_delivered())
        else {
            return Ok(false);
        };
        self.delete(&row.entry.record.key, row.first, &row.hash)?;
        Ok(true)
    }

    fn delete(&mut self, key: &Key, first: i64, hash: &Hash) -> Result<(), Fault> {
        let mut delete = self.connection.prepare_cached("DELETE FROM records WHERE first = ?1")?;
        if delete.execute([first])? != 1 {
            return Err(Damage::Gone.into());
        }
        self.head.forget(hash)?;
        let name = self.places.name(key);
        self.recent.remove(name);
        self.changes.went.push((name, first));
        Ok(())
    }
}
