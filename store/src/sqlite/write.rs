//! How entries become rows, and what is known of a row without reading it.
//!
//! A record of a key that has a row replaces that row, and must tell the head which hash goes. To read the row back for that would cost more
//! than to write it. So what was written lately is remembered ([`Recent`]): the hash, what is kept beside the record (as hashes too), and which job it
//! was. Of anything else the row is read. What is remembered is what this process wrote; should the file disagree, then so do the head's count and sum.
//! After a transaction that failed all of it is forgotten, so it never tells of what is not there.

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
    /// Which job it was: a key that was free again can be another's.
    job: (Fingerprint, Timestamp),
    /// Of its body, in bytes.
    length: usize,
}

impl Known {
    pub(super) fn of(row: &Row) -> Self {
        let Row { first, hash, kept, times, length, entry, .. } = row;
        let (outcome, job) = (columns::outcome(entry.record.stage), job(entry));
        Self { first: *first, hash: *hash, kept: *kept, outcome, times: *times, job, length: *length }
    }

    /// What is kept once this entry follows: what [`Entry::after`] would leave.
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

/// What this entry alone says.
fn times(entry: &Entry) -> Times {
    let when = |is: bool| if is { entry.at } else { Timestamp::NEVER };
    Times { accepted: when(entry.record.stage == Stage::Accepted), ended: when(entry.has_ended()) }
}

/// The rows that were written lately, by their keys' [names](super::places::Places::name): those of jobs that go on. So few that they stay near, where
/// the place of one key among all would have to be fetched from far.
#[derive(Debug, Default)]
pub(super) struct Recent(HashTable<(u64, Known)>);

impl Recent {
    /// So many are remembered, in some three megabytes; then all are forgotten, and those that go on are read once.
    pub(super) const MOST: usize = 16_384;

    /// What is known of the row of the key of this name, if it was this entry's job's.
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

/// For one row, and for [`BATCH`] of them.
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

/// Writes rows. Each statement is looked up once, and those that carry rows in batches are carried out for [`BATCH`] of them at once: what a statement
/// costs beside its rows is most of what one row would cost.
pub(super) struct Writer<'a> {
    connection: &'a Connection,
    new: Rows<'a>,
    next: Rows<'a>,
    insert: Option<CachedStatement<'a>>,
    update: Option<CachedStatement<'a>>,
    go_on: Option<CachedStatement<'a>>,
    encoder: Encoder,
}

/// A key's first row, which keeps something beside its record.
const INSERT: &str =
    "INSERT INTO records (first, body, payload, answer_status, answer_body) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Over the key's earlier row, of which something is kept or goes.
const UPDATE: &str = "UPDATE records SET body = ?2, payload = coalesce(?3, iif(?6, payload, NULL)), \
     answer_status = coalesce(?4, iif(?7, answer_status, NULL)), answer_body = coalesce(?5, iif(?7, answer_body, NULL)) WHERE first = ?1";

/// The same, leaving what is kept beside the record as it is.
const GO_ON: &str = "UPDATE records SET body = ?2 WHERE first = ?1";

impl<'a> Writer<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        let encoder = Encoder::default();
        // To replace all of a row that keeps nothing beside its record, SQLite need not read it. One that is gone is thereby written again; one that was
        // moved is found when all rows are read.
        let (new, next) = (Rows::new(statements!("INSERT")), Rows::new(statements!("REPLACE")));
        Self { connection, new, next, insert: None, update: None, go_on: None, encoder }
    }

    /// Writes the entry's row at this place of the chain, over the key's earlier one if there is one; in the file it is after [`flush`](Writer::flush). Tells
    /// what is then known of it.
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
                    // It is not replaced before it is there.
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
        // Its row may be among those that are still to be written.
        self.flush()?;
        let Self { connection, insert, update, go_on, encoder, .. } = self;
        let body = encoder.body();
        // A payload that is not kept any more, since the job has ended, is not written for the first time either.
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
        // None: damage. What is remembered is forgotten then, and the next try reads.
        if written == 1 { Ok(known) } else { Err(Damage::Gone.into()) }
    }

    /// Has all rows written that were told of. To be called before rows are read, and last.
    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        self.new.flush(self.connection)?;
        self.next.flush(self.connection)
    }
}

/// Rows that keep nothing beside their records, on their way into the table.
struct Rows<'a> {
    sql: Statements,
    one: Option<CachedStatement<'a>>,
    batch: Option<CachedStatement<'a>>,
    /// Where each one's body ends.
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
