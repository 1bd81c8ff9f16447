//! One row: an entry, its place in the chain, and the hash over all of it.
//!
//! The hash is SHA-256 cut to 16 bytes, over the sequence number, the key's first one, the hash of the record that was appended before,
//! and the entry: record, provider, time, payload, answer. The other columns follow from the record. What is read is hashed again, so a row
//! that differs in one bit from what was written is an error, never another entry.
//!
//! Two columns say what the last record does not: `accepted_at` and `ended_at`, when the job first reached those states. They are for people only
//! and are not hashed. A job that is resumed has not ended; another job under the same key (it was submitted at another time) begins with none.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};
use steadfast_core::operation::Stage;
use steadfast_core::{Key, Outcome, Reference, journal};

use super::error::{Damage, Fault};
use super::places::Places;
use super::{columns, iso};
use crate::{Entry, KeptAnswer};

/// SHA-256, cut.
pub(super) type Hash = [u8; 16];

pub(super) fn cut(hasher: Sha256) -> Hash {
    let mut hash = [0; 16];
    hash.iter_mut().zip(hasher.finalize()).for_each(|(to, from)| *to = from);
    hash
}

/// What [`Reader::read`] needs of a row, in its order.
macro_rules! read_columns {
    () => {
        "first, sequence, previous, hash, key, provider, updated_at, record, payload, answer_status, answer_body"
    };
}
pub(super) use read_columns;

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) first: i64,
    pub(super) sequence: i64,
    pub(super) previous: Hash,
    pub(super) hash: Hash,
    pub(super) entry: Entry,
}

impl Row {
    /// The row of this entry at this place of the chain.
    pub(super) fn new(first: i64, sequence: i64, previous: Hash, entry: Entry) -> (Self, Vec<u8>) {
        let mut record = Vec::with_capacity(160);
        journal::encode(&entry.record, &mut record);
        let mut row = Self { first, sequence, previous, hash: [0; 16], entry };
        row.hash = row.hash_with(&record);
        (row, record)
    }

    fn hash_with(&self, record: &[u8]) -> Hash {
        let mut hasher = Sha256::new();
        let mut counted = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        let Entry { provider, at, payload, answer, .. } = &self.entry;
        let mut fixed = [0_u8; 48];
        let parts =
            [&self.first.to_le_bytes()[..], &self.sequence.to_le_bytes(), &self.previous, &at.as_nanos().to_le_bytes()];
        for (to, from) in fixed.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        let status = answer.as_ref().map_or(0, |answer| answer.status).to_le_bytes();
        let [low, high] = status;
        let [.., has_payload, has_answer, status_low, status_high] = &mut fixed;
        (*has_payload, *has_answer) = (payload.is_some().into(), answer.is_some().into());
        (*status_low, *status_high) = (low, high);
        counted(&fixed);
        counted(record);
        counted(provider.as_bytes());
        counted(payload.as_deref().unwrap_or_default());
        counted(answer.as_ref().map_or(&[][..], |answer| &answer.body));
        cut(hasher)
    }

    /// Writes the row, over the one with the same `first` if `replaces`.
    pub(super) fn write(&self, connection: &Connection, record: &[u8], replaces: bool) -> rusqlite::Result<()> {
        const INSERT: &str = "INSERT INTO operations (first, key, provider, state, outcome, reason, reference, creates, attempts, polls, \
             created_at, updated_at, next_due, fingerprint, sequence, record, payload, answer_status, answer_body, previous, hash, \
             accepted_at, ended_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)";
        const UPDATE: &str = "UPDATE operations SET provider = ?3, state = ?4, outcome = ?5, reason = ?6, reference = ?7, creates = ?8, \
             attempts = ?9, polls = ?10, created_at = ?11, updated_at = ?12, next_due = ?13, fingerprint = ?14, sequence = ?15, record = ?16, \
             payload = ?17, answer_status = ?18, answer_body = ?19, previous = ?20, hash = ?21, \
             accepted_at = CASE created_at WHEN ?11 THEN coalesce(accepted_at, ?22) ELSE ?22 END, \
             ended_at = iif(created_at = ?11 AND outcome IS ?5 AND reason IS ?6 AND ?23 IS NOT NULL, coalesce(ended_at, ?23), ?23) WHERE first = ?1 AND key = ?2";
        let Entry { record: known, provider, at, payload, answer, .. } = &self.entry;
        let time = iso::write(*at);
        let written = connection.prepare_cached(if replaces { UPDATE } else { INSERT })?.execute(params![
            self.first,
            known.key.as_str(),
            &**provider,
            columns::state(known.stage),
            columns::outcome(known.stage).map(Outcome::name),
            columns::reason(known),
            known.reference.as_ref().map(Reference::as_str),
            known.creates,
            known.attempts,
            known.polls,
            iso::write(known.submitted),
            time,
            known.due.map(iso::write),
            &known.fingerprint.as_bytes()[..],
            self.sequence,
            record,
            payload,
            answer.as_ref().map(|answer| answer.status),
            answer.as_ref().map(|answer| &answer.body),
            &self.previous[..],
            &self.hash[..],
            (known.stage == Stage::Accepted).then_some(&time),
            columns::outcome(known.stage).map(|_| &time),
        ])?;
        if written == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(written)) }
    }
}

/// Reads rows, and keeps one copy of a provider's name for all that share it.
#[derive(Debug, Default)]
pub(super) struct Reader {
    provider: Option<Arc<str>>,
}

impl Reader {
    /// The row of this key.
    pub(super) fn find(&mut self, connection: &Connection, places: &Places, key: &Key) -> Result<Option<Row>, Fault> {
        for first in places.candidates(key) {
            let mut find =
                connection.prepare_cached(concat!("SELECT ", read_columns!(), " FROM operations WHERE first = ?1"))?;
            let mut rows = find.query([first])?;
            let row = self.read(rows.next()?.ok_or(Damage::Gone)?)?;
            if row.entry.record.key == *key {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// The row that lies in these [`read_columns`].
    pub(super) fn read(&mut self, row: &rusqlite::Row<'_>) -> Result<Row, Fault> {
        let ValueRef::Integer(first) = row.get_ref(0)? else { return Err(Damage::Structure.into()) };
        let key = row.get_ref(4)?;
        let damaged = |what| {
            let text = key.as_str().ok().and_then(|text| Key::new(text).ok());
            Fault::from(Damage::Row { row: first, label: text.map(|key| key.label()), what })
        };
        let (ValueRef::Integer(sequence), ValueRef::Blob(previous), ValueRef::Blob(hash)) =
            (row.get_ref(1)?, row.get_ref(2)?, row.get_ref(3)?)
        else {
            return Err(damaged("its place in the chain"));
        };
        let (Ok(previous), Ok(hash)) = (previous.try_into(), hash.try_into()) else {
            return Err(damaged("its place in the chain"));
        };
        let ValueRef::Blob(bytes) = row.get_ref(7)? else { return Err(damaged("its record")) };
        let record = journal::decode(bytes).map_err(|error| match error {
            journal::DecodeError::UnknownVersion(_) => damaged("its record, which may be a newer release's"),
            _ => damaged("its record"),
        })?;
        let ValueRef::Text(provider) = row.get_ref(5)? else { return Err(damaged("its provider")) };
        let provider = self.provider(provider).ok_or_else(|| damaged("its provider"))?;
        let ValueRef::Text(at) = row.get_ref(6)? else { return Err(damaged("its time")) };
        let at = iso::read(at).ok_or_else(|| damaged("its time"))?;
        let mut entry = Entry::new(record, provider, at);
        entry.payload = match row.get_ref(8)? {
            ValueRef::Null => None,
            ValueRef::Blob(payload) => Some(payload.to_vec()),
            _ => return Err(damaged("its payload")),
        };
        entry.answer = match (row.get_ref(9)?, row.get_ref(10)?) {
            (ValueRef::Null, ValueRef::Null) => None,
            (ValueRef::Integer(status), ValueRef::Blob(body)) => {
                let status = u16::try_from(status).map_err(|_| damaged("its answer"))?;
                Some(KeptAnswer { status, body: body.to_vec() })
            }
            _ => return Err(damaged("its answer")),
        };
        let found = Row { first, sequence, previous, hash, entry };
        if found.hash_with(bytes) != found.hash {
            return Err(damaged("which is not what was written"));
        }
        if key != ValueRef::Text(found.entry.record.key.as_str().as_bytes()) {
            return Err(damaged("its key"));
        }
        Ok(found)
    }

    fn provider(&mut self, name: &[u8]) -> Option<Arc<str>> {
        match &self.provider {
            Some(known) if known.as_bytes() == name => Some(known.clone()),
            _ => {
                let name: Arc<str> = core::str::from_utf8(name).ok()?.into();
                self.provider = Some(name.clone());
                Some(name)
            }
        }
    }
}
