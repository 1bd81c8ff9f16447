//! How entries become rows, and what is known of a row without reading it.
//!
//! A record of a key that has a row replaces that row, and the head needs the hash that goes. Reading the row back for
//! that would cost more than writing it. So recently written rows are remembered ([`Recent`]): the hash, what is kept
//! beside the record (as hashes too), and which job it was. Any other row is read. What is remembered is what this
//! process wrote; if the file disagrees, so do the head's count and sum. After a failed transaction everything is
//! forgotten, so nothing is remembered that is not there.

use hashbrown::HashTable;
use rusqlite::{CachedStatement, Connection};
use steadfast_core::operation::Stage;
use steadfast_core::{Fingerprint, Outcome, Timestamp};

use super::body::{Encoder, Hash, Kept, Place, Times};
use super::columns;
use super::error::{Damage, Fault};
use super::row::Row;
use crate::Entry;

/// What is known of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) first: i64,
    pub(super) hash: Hash,
    kept: Kept,
    outcome: Option<Outcome>,
    times: Times,
    /// Which job it was: a key that became free may belong to another.
    job: (Fingerprint, Timestamp),
    /// The length of its body, in bytes.
    length: usize,
}

impl Known {
    pub(super) fn of(row: &Row) -> Self {
        let Row { first, hash, kept, times, length, entry, .. } = row;
        let (outcome, job) = (columns::outcome(entry.record.stage), job(entry));
        Self { first: *first, hash: *hash, kept: *kept, outcome, times: *times, job, length: *length }
    }

    /// What is kept once this entry follows: the same as [`Entry::after`] leaves.
    fn followed_by(&self, entry: &Entry) -> Kept {
        let own = Kept::of(entry);
        let ended = entry.has_ended();
        if self.outcome.is_some() && !ended {
            return own;
        }
        let payload = own.payload.or(self.kept.payload).filter(|_| !ended);
        let same_end = self.outcome.is_none() || self.outcome == columns::outcome(entry.record.stage);
        Kept { payload, answer: own.answer.or_else(|| self.kept.answer.filter(|_| same_end)) }
    }

    /// When the job was accepted and when it ended, once this entry follows.
    fn times_with(&self, entry: &Entry) -> Times {
        let own = times(entry);
        let outcome = columns::outcome(entry.record.stage);
        if self.job.1 != entry.record.submitted {
            return own;
        }
        let first = |known: Timestamp, own: Timestamp| if known == Timestamp::NEVER { own } else { known };
        let stays = outcome.is_some() && outcome == self.outcome;
        Times {
            accepted: first(self.times.accepted, own.accepted),
            ended: if stays { first(self.times.ended, own.ended) } else { own.ended },
        }
    }
}

const fn job(entry: &Entry) -> (Fingerprint, Timestamp) {
    (entry.record.fingerprint, entry.record.submitted)
}

/// The times that this entry alone gives.
fn times(entry: &Entry) -> Times {
    let when = |is: bool| if is { entry.at } else { Timestamp::NEVER };
    Times { accepted: when(entry.record.stage == Stage::Accepted), ended: when(entry.has_ended()) }
}

/// The recently written rows, by their keys' [names](super::places::Places::name): those of jobs in progress. Few
/// enough to stay in the processor's cache, where the place of one key among all would have to be fetched from memory.
#[derive(Debug, Default)]
pub(super) struct Recent(HashTable<(u64, Known)>);

impl Recent {
    /// At most this many are remembered, in some three megabytes; then all are forgotten, and rows of jobs in progress
    /// are read once.
    pub(super) const MOST: usize = 16_384;

    /// What is known of the row of the key with this name, if it belongs to this entry's job.
    pub(super) fn get(&self, name: u64, entry: &Entry) -> Option<Known> {
        let (_, known) = self.0.find(name, |(of, _)| *of == name)?;
        (known.job == job(entry)).then_some(*known)
    }

    pub(super) fn insert(&mut self, name: u64, known: Known) {
        if let Some(place) = self.0.find_mut(name, |(of, _)| *of == name) {
            place.1 = known;
            return;
        }
        if self.0.len() >= Self::MOST {
            self.clear();
        }
        self.0.insert_unique(name, (name, known), |(of, _)| *of);
    }

    pub(super) fn remove(&mut self, name: u64) {
        if let Ok(place) = self.0.find_entry(name, |(of, _)| *of == name) {
            place.remove();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// How many rows a statement carries.
pub(super) const BATCH: usize = 16;

/// The SQL for one row, and for [`BATCH`] of them.
type Statements = [&'static str; 2];

macro_rules! statements {
    ($verb:literal) => {
        [
            concat!($verb, " INTO records (first, body) VALUES (?, ?)"),
            concat!(
                $verb,
                " INTO records (first, body) VALUES (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), \
                 (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?), (?, ?)"
            ),
        ]
    };
}

#[cfg(test)]
pub(super) use statements;

/// Writes rows. Each statement is looked up once, and rows are written [`BATCH`] at a time where possible: for a single
/// row most of the cost is the statement's own.
pub(super) struct Writer<'a> {
    connection: &'a Connection,
    new: Rows<'a>,
    next: Rows<'a>,
    insert: Option<CachedStatement<'a>>,
    update: Option<CachedStatement<'a>>,
    go_on: Option<CachedStatement<'a>>,
    encoder: Encoder,
}

/// A key's first row, if it keeps something beside its record.
const INSERT: &str =
    "INSERT INTO records (first, body, payload, answer_status, answer_body) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Replaces the key's earlier row, and keeps or removes what is beside its record.
const UPDATE: &str = "UPDATE records SET body = ?2, payload = coalesce(?3, iif(?6, payload, NULL)), \
     answer_status = coalesce(?4, iif(?7, answer_status, NULL)), answer_body = coalesce(?5, iif(?7, answer_body, NULL)) WHERE first = ?1";

/// Replaces the body only, and leaves what is kept beside the record as it is.
const GO_ON: &str = "UPDATE records SET body = ?2 WHERE first = ?1";

impl<'a> Writer<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        let encoder = Encoder::default();
        // A row that keeps nothing beside its record is replaced whole, which SQLite does without reading it. So a row
        // that is gone is written again; one that was moved is found when all rows are read.
        let (new, next) = (Rows::new(statements!("INSERT")), Rows::new(statements!("REPLACE")));
        Self { connection, new, next, insert: None, update: None, go_on: None, encoder }
    }

    /// Writes the entry's row at this place of the chain, over the key's earlier row if there is one; it is in the file
    /// after [`flush`](Writer::flush). Returns what is then known of the row.
    pub(super) fn write(&mut self, place: &Place, entry: &Entry, earlier: Option<&Known>) -> Result<Known, Fault> {
        let kept = earlier.map_or_else(|| Kept::of(entry), |earlier| earlier.followed_by(entry));
        let times = earlier.map_or_else(|| times(entry), |earlier| earlier.times_with(entry));
        let hash = self.encoder.encode(place, entry, &kept, times, earlier.map_or(0, |earlier| earlier.length))?;
        let (first, body) = (place.first, self.encoder.body());
        let (outcome, length) = (columns::outcome(entry.record.stage), body.len());
        let known = Known { first, hash, kept, outcome, times, job: job(entry), length };
        if kept == Kept::default() {
            let rows = match earlier {
                None => &mut self.new,
                Some(_) => {
                    // A row cannot be replaced before it is in the file.
                    if self.new.hold(first) {
                        self.new.flush(self.connection)?;
                    }
                    &mut self.next
                }
            };
            rows.add(first, body);
            if rows.is_full() {
                rows.flush(self.connection)?;
            }
            return Ok(known);
        }
        // The earlier row may be among those that wait to be written.
        self.flush()?;
        let Self { connection, insert, update, go_on, encoder, .. } = self;
        let body = encoder.body();
        // If the payload is not kept any more because the job has ended, it is not written in the first place.
        let payload = entry.payload.as_ref().filter(|_| kept.payload.is_some());
        let (status, answer) = (entry.answer.as_ref().map(|it| it.status), entry.answer.as_ref().map(|it| &it.body));
        let keeps_nothing_new = entry.payload.is_none() && entry.answer.is_none();
        let written = match earlier {
            None => prepared(insert, connection, INSERT)?.execute((first, body, payload, status, answer))?,
            Some(earlier) if keeps_nothing_new && earlier.kept == kept => {
                prepared(go_on, connection, GO_ON)?.execute((first, body))?
            }
            Some(_) => {
                let keeps = (kept.payload.is_some(), kept.answer.is_some());
                let update = prepared(update, connection, UPDATE)?;
                update.execute((first, body, payload, status, answer, keeps.0, keeps.1))?
            }
        };
        // No row changed: damage. What is remembered is then forgotten, and the next try reads.
        if written == 1 { Ok(known) } else { Err(Damage::Gone.into()) }
    }

    /// Writes all rows that are waiting. Call it before rows are read, and at the end.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        self.new.flush(self.connection)?;
        self.next.flush(self.connection)
    }
}

/// Rows that keep nothing beside their records, waiting to be written.
struct Rows<'a> {
    sql: Statements,
    one: Option<CachedStatement<'a>>,
    batch: Option<CachedStatement<'a>>,
    /// Each row's number, and where its body ends.
    waiting: Vec<(i64, usize)>,
    bodies: Vec<u8>,
}

impl<'a> Rows<'a> {
    const fn new(sql: Statements) -> Self {
        Self { sql, one: None, batch: None, waiting: Vec::new(), bodies: Vec::new() }
    }

    fn add(&mut self, first: i64, body: &[u8]) {
        self.bodies.extend(body);
        self.waiting.push((first, self.bodies.len()));
    }

    fn hold(&self, first: i64) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == first)
    }

    const fn is_full(&self) -> bool {
        self.waiting.len() == BATCH
    }

    fn flush(&mut self, connection: &'a Connection) -> Result<(), Fault> {
        let [one, batch] = self.sql;
        let (sql, slot, count) = if self.is_full() { (batch, &mut self.batch, BATCH) } else { (one, &mut self.one, 1) };
        let mut from = 0;
        for rows in self.waiting.chunks(count) {
            let statement = prepared(slot, connection, sql)?;
            for ((first, end), at) in rows.iter().zip((1..).step_by(2)) {
                statement.raw_bind_parameter(at, first)?;
                statement.raw_bind_parameter(at + 1, self.bodies.get(from..*end))?;
                from = *end;
            }
            statement.raw_execute()?;
        }
        self.waiting.clear();
        self.bodies.clear();
        Ok(())
    }
}

fn prepared<'s, 'a>(
    slot: &'s mut Option<CachedStatement<'a>>,
    connection: &'a Connection,
    sql: &str,
) -> rusqlite::Result<&'s mut CachedStatement<'a>> {
    match slot {
        Some(statement) => Ok(statement),
        None => Ok(slot.insert(connection.prepare_cached(sql)?)),
    }
}
