//! Reads all rows in order, and verifies them one by one and as a whole.

use rusqlite::Connection;

use super::body::{self, Hash};
use super::error::{Damage, Fault};
use super::head::{Head, number};
use super::places::Places;
use super::row::{Reader, Row, read_columns};

/// In the order in which their keys were first seen.
pub(super) const ALL: &str = concat!("SELECT ", read_columns!(), " FROM records ORDER BY first");

/// For how many rows to allocate room at once: the head's count, if that is plausible.
pub(super) fn expected(head: &Head) -> usize {
    usize::try_from(head.count).unwrap_or_default().min(1 << 20)
}

/// Calls `each` with every row, and returns where each key is. Discard what `each` received if this returns an error.
pub(super) fn rows(
    connection: &Connection,
    reader: &mut Reader,
    head: &Head,
    mut each: impl FnMut(Row),
) -> Result<Places, Fault> {
    let mut whole = Whole::default();
    whole.links.reserve(expected(head));
    let mut all = connection.prepare_cached(ALL)?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let row = reader.read(row)?;
        whole.count(connection, &row)?;
        each(row);
    }
    whole.check(head)
}

/// What verification needs beyond single rows.
#[derive(Debug, Default)]
pub(super) struct Whole {
    sum: u128,
    places: Places,
    /// Sequence number, the predecessor's hash and its own. Eight bytes of each hash are enough to detect a wrong
    /// order.
    links: Vec<(i64, u64, u64)>,
}

impl Whole {
    pub(super) fn count(&mut self, connection: &Connection, row: &Row) -> Result<(), Fault> {
        let key = &row.entry.record.key;
        let name = self.places.name(key);
        for other in self.places.candidates(name) {
            let mut read = connection.prepare_cached("SELECT body FROM records WHERE first = ?1")?;
            let mut rows = read.query([other])?;
            let found = body::key(rows.next()?.ok_or(Damage::Gone)?.get_ref(0)?.as_blob().unwrap_or_default());
            if found == Some(key.as_str().as_bytes()) {
                return Err(Damage::Twice(key.label()).into());
            }
        }
        self.places.insert(name, row.first);
        if row.entry.is_settled() {
            self.places.settled(row.entry.at, row.first);
        }
        self.sum = self.sum.wrapping_add(number(&row.hash));
        self.links.push((row.sequence, short(&row.previous), short(&row.hash)));
        Ok(())
    }

    /// After all rows were added: where the keys are, or what is wrong with the rows.
    pub(super) fn check(mut self, head: &Head) -> Result<Places, Fault> {
        let (expected, found) = (head.count.unsigned_abs(), self.links.len() as u64);
        if found != expected {
            return Err(Damage::Count { expected, found }.into());
        }
        if self.sum != head.sum {
            return Err(Damage::Sum.into());
        }
        self.links.sort_unstable();
        let follows = self.links.windows(2).find_map(|pair| match pair {
            [(one, _, hash), (next, previous, _)] if *one == *next || (*one + 1 == *next && hash != previous) => {
                Some(*next)
            }
            _ => None,
        });
        let end = self.links.last().filter(|(sequence, _, hash)| {
            *sequence > head.sequence || (*sequence == head.sequence && *hash != short(&head.hash))
        });
        match follows.or_else(|| end.map(|(sequence, ..)| *sequence)) {
            Some(sequence) => Err(Damage::Link { sequence: sequence.unsigned_abs() }.into()),
            None => Ok(self.places),
        }
    }
}

fn short(hash: &Hash) -> u64 {
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}
