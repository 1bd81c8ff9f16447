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
        Kept { payload, answer: own.answer.or(self.kept.answer) }
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

/// Writes rows. Each statement is looked up once.
pub(super) struct Writer<'a> {
    connection: &'a Connection,
    insert: Option<CachedStatement<'a>>,
    replace: Option<CachedStatement<'a>>,
    go_on: Option<CachedStatement<'a>>,
    encoder: Encoder,
}

/// A key's first row.
const INSERT: &str =
    "INSERT INTO records (first, body, payload, answer_status, answer_body) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Over the key's earlier row.
const REPLACE: &str = "UPDATE records SET body = ?2, payload = coalesce(?3, iif(?6, payload, NULL)), \
     answer_status = coalesce(?4, iif(?7, answer_status, NULL)), answer_body = coalesce(?5, iif(?7, answer_body, NULL)) WHERE first = ?1";

/// The same, leaving what is kept beside the record as it is.
const GO_ON: &str = "UPDATE records SET body = ?2 WHERE first = ?1";

impl<'a> Writer<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, insert: None, replace: None, go_on: None, encoder: Encoder::default() }
    }

    /// Writes the entry's row at this place of the chain, over the key's earlier one if there is one. Tells what is then known of it.
    pub(super) fn write(&mut self, place: &Place, entry: &Entry, earlier: Option<&Known>) -> Result<Known, Fault> {
        let Self { connection, insert, replace, go_on, encoder } = self;
        let kept = earlier.map_or_else(|| Kept::of(entry), |earlier| earlier.followed_by(entry));
        let times = earlier.map_or_else(|| times(entry), |earlier| earlier.times_with(entry));
        let hash = encoder.encode(place, entry, &kept, times, earlier.map_or(0, |earlier| earlier.length))?;
        let (first, body) = (place.first, encoder.body());
        let (outcome, length) = (columns::outcome(entry.record.stage), body.len());
        let known = Known { first, hash, kept, outcome, times, job: job(entry), length };
        // A payload that is not kept any more, since the job has ended, is not written for the first time either.
        let payload = entry.payload.as_ref().filter(|_| kept.payload.is_some());
        let (status, answer) = (entry.answer.as_ref().map(|it| it.status), entry.answer.as_ref().map(|it| &it.body));
        let keeps_nothing_new = entry.payload.is_none() && entry.answer.is_none();
        let written = match earlier {
            None => {
                let insert = prepared(insert, connection, INSERT)?;
                insert.execute((first, body, payload, status, answer))?
            }
            Some(earlier) if keeps_nothing_new && earlier.kept == kept => {
                let go_on = prepared(go_on, connection, GO_ON)?;
                go_on.raw_bind_parameter(1, first)?;
                go_on.raw_bind_parameter(2, body)?;
                go_on.raw_execute()?
            }
            Some(_) => {
                let replace = prepared(replace, connection, REPLACE)?;
                let keeps = (kept.payload.is_some(), kept.answer.is_some());
                replace.execute((first, body, payload, status, answer, keeps.0, keeps.1))?
            }
        };
        // None: damage. What is remembered is forgotten then, and the next try reads.
        if written == 1 { Ok(known) } else { Err(Damage::Gone.into()) }
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
