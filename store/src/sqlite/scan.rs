//! All rows in order, verified one by one and all together.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use super::error::{Damage, Fault};
use super::head::{Head, number};
use super::row::{Hash, Reader, Row, read_columns};

/// In the order in which their keys were first seen.
pub(super) const ALL: &str = concat!("SELECT ", read_columns!(), " FROM operations NOT INDEXED ORDER BY first");

/// Calls `each` with every row. What it was called with counts only if the end is reached without an error.
pub(super) fn rows(
    connection: &Connection,
    reader: &mut Reader,
    head: &Head,
    mut each: impl FnMut(Row),
) -> Result<(), Fault> {
    let mut whole = Whole::default();
    let mut all = connection.prepare_cached(ALL)?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let row = reader.read(row)?;
        whole.count(&row);
        each(row);
    }
    drop(rows);
    whole.check(connection, head)?.map_or(Ok(()), |damage| Err(damage.into()))
}

/// What is to be known of rows beyond each alone.
#[derive(Debug, Default)]
pub(super) struct Whole {
    sum: u128,
    keys: Keys,
    /// Sequence number, the predecessor's hash and its own. Eight bytes of each are enough to tell a wrong order.
    links: Vec<(i64, u64, u64)>,
}

/// What the table says of its keys, to be compared with what the index says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Keys {
    count: u64,
    sum: u64,
}

impl Keys {
    fn count(&mut self, key: &[u8], first: i64) {
        // FNV-1a: against damage, not against malice.
        let seed = 0xcbf2_9ce4_8422_2325_u64;
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = first.to_le_bytes().iter().chain(key).fold(seed, mix);
        self.count += 1;
        self.sum = self.sum.wrapping_add(hash);
    }
}

impl Whole {
    pub(super) fn count(&mut self, row: &Row) {
        self.sum = self.sum.wrapping_add(number(&row.hash));
        self.keys.count(row.entry.record.key.as_str().as_bytes(), row.first);
        self.links.push((row.sequence, short(&row.previous), short(&row.hash)));
    }

    /// What is wrong with them, once all were counted.
    pub(super) fn check(mut self, connection: &Connection, head: &Head) -> Result<Option<Damage>, Fault> {
        let expected = head.count.unsigned_abs();
        if self.keys.count != expected {
            return Ok(Some(Damage::Count { expected, found: self.keys.count }));
        }
        if self.sum != head.sum {
            return Ok(Some(Damage::Sum));
        }
        self.links.sort_unstable();
        let follows = self.links.windows(2).find_map(|pair| match pair {
            [(one, _, hash), (next, previous, _)] if *one == *next || (*one + 1 == *next && hash != previous) => Some(*next),
            _ => None,
        });
        let end = self.links.last().filter(|(sequence, _, hash)| {
            *sequence > head.sequence || (*sequence == head.sequence && *hash != short(&head.hash))
        });
        if let Some(sequence) = follows.or_else(|| end.map(|(sequence, ..)| *sequence)) {
            return Ok(Some(Damage::Link { sequence: sequence.unsigned_abs() }));
        }
        Ok((index(connection)? != Some(self.keys)).then_some(Damage::KeyIndex))
    }
}

/// The keys by their index; `None` if they are not in order, in which case some cannot be found.
fn index(connection: &Connection) -> Result<Option<Keys>, Fault> {
    let mut keys = Keys::default();
    let mut last: Vec<u8> = Vec::new();
    let mut by_key =
        connection.prepare_cached("SELECT key, first FROM operations INDEXED BY operations_by_key ORDER BY key")?;
    let mut rows = by_key.query([])?;
    while let Some(row) = rows.next()? {
        let (ValueRef::Text(key), ValueRef::Integer(first)) = (row.get_ref(0)?, row.get_ref(1)?) else {
            return Ok(None);
        };
        if key <= last.as_slice() {
            return Ok(None);
        }
        last.clear();
        last.extend(key);
        keys.count(key, first);
    }
    Ok(Some(keys))
}

fn short(hash: &Hash) -> u64 {
    hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}
