//! How entries become rows, and what is known of a row without reading it.
//!
//! A record of a key that has a row replaces that row, and must tell the head which hash goes. To read the row back for that would cost more
//! than to write it. So what was written lately is remembered ([`Recent`]): the hash, what is kept beside the record (as hashes too), and which job it
//! was. Of anything else the row is read. What is remembered is what this process wrote; should the file disagree, then so do the head's count and sum.
//! After a transaction that failed all of it is forgotten, so it never tells of what is not there.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, params};
use steadfast_core::operation::Stage;
use steadfast_core::{Fingerprint, Outcome, Reference, Timestamp, journal};

use super::error::{Damage, Fault};
use super::row::{Hash, Kept, Place, Row, digest};
use super::{columns, iso};
use crate::Entry;

/// What is known of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) first: i64,
    pub(super) hash: Hash,
    kept: Kept,
    has_ended: bool,
    /// Which job it was: a key that was free again can be another's. Known only of rows that this process wrote: of others all columns are written
    /// once, so that one that did not agree with its record does again.
    job: Option<(Fingerprint, Timestamp)>,
}

impl Known {
    pub(super) fn of(row: &Row) -> Self {
        let Row { first, hash, entry, .. } = row;
        Self { first: *first, hash: *hash, kept: Kept::of(entry), has_ended: entry.has_ended(), job: None }
    }

    /// What is kept once this entry follows: what [`Entry::after`] would leave.
    fn followed_by(&self, entry: &Entry) -> Kept {
        let own = Kept::of(entry);
        let ended = entry.has_ended();
        if self.has_ended && !ended {
            return own;
        }
        let payload = own.payload.or(self.kept.payload).filter(|_| !ended);
        Kept { payload, answer: own.answer.or(self.kept.answer) }
    }
}

/// The rows that were written lately, by their `first`, each with its key's [name](super::places::Places::name): those of jobs that go on.
#[derive(Debug, Default)]
pub(super) struct Recent(HashMap<i64, (u64, Known)>);

impl Recent {
    /// So many are remembered, in some three megabytes; then all are forgotten, and those that go on are read once.
    pub(super) const MOST: usize = 16_384;

    pub(super) fn get(&self, first: i64, name: u64) -> Option<Known> {
        self.0.get(&first).filter(|(of, _)| *of == name).map(|(_, known)| *known)
    }

    pub(super) fn insert(&mut self, known: Known, name: u64) {
        if self.0.len() >= Self::MOST && !self.0.contains_key(&known.first) {
            self.clear();
        }
        self.0.insert(known.first, (name, known));
    }

    pub(super) fn remove(&mut self, first: i64) {
        self.0.remove(&first);
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
    record: Vec<u8>,
}

/// A key's first row.
const INSERT: &str = "INSERT INTO operations (first, key, state, outcome, reason, reference, creates, attempts, polls, updated_at, next_due, \
     sequence, record, previous, hash, accepted_at, ended_at, provider, created_at, fingerprint, payload, answer_status, answer_body) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)";

/// Over any earlier row of the key.
const REPLACE: &str = "UPDATE operations SET state = ?3, outcome = ?4, reason = ?5, reference = ?6, creates = ?7, attempts = ?8, polls = ?9, \
     updated_at = ?10, next_due = ?11, sequence = ?12, record = ?13, previous = ?14, hash = ?15, \
     accepted_at = CASE created_at WHEN ?19 THEN coalesce(accepted_at, ?16) ELSE ?16 END, \
     ended_at = iif(created_at = ?19 AND outcome IS ?4 AND reason IS ?5 AND ?17 IS NOT NULL, coalesce(ended_at, ?17), ?17), \
     provider = ?18, created_at = ?19, fingerprint = ?20, payload = coalesce(?21, iif(?24, payload, NULL)), \
     answer_status = coalesce(?22, iif(?25, answer_status, NULL)), answer_body = coalesce(?23, iif(?25, answer_body, NULL)) \
     WHERE first = ?1 AND key = ?2";

/// Over the same job's row, leaving what is kept beside the record as it is. A column that is not named costs a third of one that is.
const GO_ON: &str = "UPDATE operations SET state = ?3, outcome = ?4, reason = ?5, reference = ?6, creates = ?7, attempts = ?8, polls = ?9, \
     updated_at = ?10, next_due = ?11, sequence = ?12, record = ?13, previous = ?14, hash = ?15, accepted_at = coalesce(accepted_at, ?16), \
     ended_at = iif(outcome IS ?4 AND reason IS ?5 AND ?17 IS NOT NULL, coalesce(ended_at, ?17), ?17), provider = ?18 \
     WHERE first = ?1 AND key = ?2";

impl<'a> Writer<'a> {
    pub(super) const fn new(connection: &'a Connection) -> Self {
        Self { connection, insert: None, replace: None, go_on: None, record: Vec::new() }
    }

    /// Writes the entry's row at this place of the chain, over the key's earlier one if there is one. Tells what is then known of it.
    pub(super) fn write(&mut self, place: &Place, entry: &Entry, earlier: Option<&Known>) -> Result<Known, Fault> {
        let Self { connection, insert, replace, go_on, record } = self;
        record.clear();
        journal::encode(&entry.record, record);
        let kept = earlier.map_or_else(|| Kept::of(entry), |earlier| earlier.followed_by(entry));
        let hash = digest(place, entry, record, &kept);
        let job = Some((entry.record.fingerprint, entry.record.submitted));
        let known = Known { first: place.first, hash, kept, has_ended: entry.has_ended(), job };
        let Entry { record: it, provider, at, payload, answer, .. } = entry;
        let at = iso::Text::new(*at);
        let outcome = columns::outcome(it.stage);
        let due = it.due.map(iso::Text::new);
        let shared = params![
            place.first,
            it.key.as_str(),
            columns::state(it.stage),
            outcome.map(Outcome::name),
            columns::reason(it),
            it.reference.as_ref().map(Reference::as_str),
            it.creates,
            it.attempts,
            it.polls,
            at,
            due,
            place.sequence,
            &record[..],
            &place.previous[..],
            &hash[..],
            (it.stage == Stage::Accepted).then_some(&at),
            outcome.map(|_| &at),
            &**provider,
        ];
        let same_job = earlier.is_some_and(|earlier| earlier.job == known.job && earlier.kept == kept);
        let written = if same_job && payload.is_none() && answer.is_none() {
            prepared(go_on, connection, GO_ON)?.execute(shared)?
        } else {
            let created = iso::Text::new(it.submitted);
            let (status, body) = (answer.as_ref().map(|it| it.status), answer.as_ref().map(|it| &it.body));
            // A payload that is not kept any more, since the job has ended, is not written for the first time either.
            let payload = payload.as_ref().filter(|_| kept.payload.is_some());
            let own = params![created, &it.fingerprint.as_bytes()[..], payload, status, body];
            let keeps = params![kept.payload.is_some(), kept.answer.is_some()];
            match earlier {
                None => prepared(insert, connection, INSERT)?.execute(&[shared, own].concat()[..])?,
                Some(_) => prepared(replace, connection, REPLACE)?.execute(&[shared, own, keeps].concat()[..])?,
            }
        };
        // None: damage, or one chance in 2^64 that two keys have the same place. What is remembered is forgotten then, and the next try reads.
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
