//! The head: how far the chain has come, how many rows there are, and the sum of their hashes.
//!
//! A later record of a key replaces the earlier one, so the chain has gaps, and links alone would not show that a row
//! is gone. Hence the count and the sum (the hashes as numbers, wrapping): both change in the transaction that changes
//! the rows, so rows and head match only together.
//!
//! Forgetting an operation leaves no row, but it is a step of the chain as well, with a number and a hash: otherwise
//! the mark would not move, and neither a log that lost this step nor another process that made it would be noticed.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use super::body::{Hash, cut};
use super::error::{Damage, Fault};
use super::mark::Watermark;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// A random number that identifies this journal, so that another is not taken for it.
    pub(super) instance: Hash,
    /// The number of the last step: a record that was appended, or one whose row was removed.
    pub(super) sequence: i64,
    /// The hash of the last step.
    pub(super) hash: Hash,
    pub(super) count: i64,
    pub(super) sum: u128,
}

impl Head {
    /// Larger than any journal's sequence: at a million records a second it would take 146,000 years.
    pub(super) const LAST: i64 = 1 << 62;

    /// Makes the head of an empty journal. Within the caller's transaction.
    pub(super) fn create(connection: &Connection) -> rusqlite::Result<()> {
        let instance: Vec<u8> = connection.query_row("SELECT randomblob(16)", [], |row| row.get(0))?;
        let mut head = Self { instance: [0; 16], sequence: 0, hash: [0; 16], count: 0, sum: 0 };
        head.instance.iter_mut().zip(instance).for_each(|(to, from)| *to = from);
        connection.execute(
            "INSERT INTO head (one, instance, sequence, hash, count, sum, hash_of_head, settled) VALUES (1, ?1, 0, ?2, 0, ?3, ?4, 0)",
            params![&head.instance[..], &head.hash[..], &head.sum.to_be_bytes()[..], &head.checksum()[..]],
        )?;
        Ok(())
    }

    pub(super) fn read(connection: &Connection) -> Result<Self, Fault> {
        let mut read = connection
            .prepare_cached("SELECT instance, sequence, hash, count, sum, hash_of_head FROM head WHERE one = 1")?;
        let columns = read
            .query_row([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get::<_, Hash>(5)?))
            })
            .optional();
        // A value of another type or length is damage as well; SQLite's own errors are not.
        let columns = match columns {
            Err(error @ rusqlite::Error::SqliteFailure(..)) => return Err(error.into()),
            other => other.ok().flatten().ok_or(Damage::Head)?,
        };
        let (instance, sequence, hash, count, sum, checksum) = columns;
        let head = Self { instance, sequence, hash, count, sum: u128::from_be_bytes(sum) };
        if head.checksum() == checksum && head.is_possible() { Ok(head) } else { Err(Damage::Head.into()) }
    }

    /// A checksum is not a signature: a program that writes the file can give any numbers a matching one. So this
    /// checks that there are no more rows than steps.
    fn is_possible(&self) -> bool {
        (0..=Self::LAST).contains(&self.sequence) && (0..=self.sequence).contains(&self.count)
    }

    /// Replaces the head row `before` by this one. Within the caller's transaction, with the rows that it counts.
    pub(super) fn replace(&self, before: &Self, connection: &Connection) -> Result<(), Fault> {
        let moved = connection
            .prepare_cached(
                "UPDATE head SET sequence = ?1, hash = ?2, count = ?3, sum = ?4, hash_of_head = ?5 WHERE one = 1 AND hash_of_head = ?6",
            )?
            .execute(params![
                self.sequence,
                &self.hash[..],
                self.count,
                &self.sum.to_be_bytes()[..],
                &self.checksum()[..],
                &before.checksum()[..],
            ])?;
        if moved == 1 { Ok(()) } else { Err(Damage::Head.into()) }
    }

    /// The number of the next step.
    pub(super) fn next(&self) -> Result<i64, Damage> {
        self.sequence.checked_add(1).filter(|next| *next <= Self::LAST).ok_or(Damage::Head)
    }

    /// Adds the row of the [`next`](Head::next) record to the count and the sum, and removes the row that it replaced.
    pub(super) fn append(&mut self, hash: Hash, replaced: Option<&Hash>) -> Result<(), Damage> {
        self.sequence = self.next()?;
        self.hash = hash;
        if let Some(replaced) = replaced {
            self.remove(replaced)?;
        }
        self.count = self.count.checked_add(1).ok_or(Damage::Head)?;
        self.sum = self.sum.wrapping_add(number(&hash));
        Ok(())
    }

    /// Removes a forgotten row from the count and the sum: the next step.
    pub(super) fn forget(&mut self, hash: &Hash) -> Result<(), Damage> {
        self.sequence = self.next()?;
        self.hash = cut(Sha256::new_with_prefix(self.hash).chain_update(hash));
        self.remove(hash)
    }

    /// Removes a row from the count and the sum.
    fn remove(&mut self, hash: &Hash) -> Result<(), Damage> {
        self.count = self.count.checked_sub(1).filter(|count| *count >= 0).ok_or(Damage::Head)?;
        self.sum = self.sum.wrapping_sub(number(hash));
        Ok(())
    }

    pub(super) fn watermark(&self) -> Watermark {
        Watermark { instance: self.instance, sequence: self.sequence.unsigned_abs(), hash: self.hash }
    }

    fn checksum(&self) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(self.instance);
        hasher.update(self.sequence.to_le_bytes());
        hasher.update(self.hash);
        hasher.update(self.count.to_le_bytes());
        hasher.update(self.sum.to_be_bytes());
        cut(hasher)
    }
}

pub(super) const fn number(hash: &Hash) -> u128 {
    u128::from_be_bytes(*hash)
}
