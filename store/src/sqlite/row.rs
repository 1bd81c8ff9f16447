//! One row: an entry, its place in the chain, and the hash over all of it.
//!
//! The hash is SHA-256 cut to 16 bytes, over the sequence number, the key's first one, the hash of the record that was appended before,
//! and the entry: record, provider, time, and payload and answer, each by a hash of its own, so that a job goes on without their being read. The other
//! columns follow from the record. What is read is hashed again, so a row that differs in one bit from what was written is an error, never another entry.
//!
//! Two columns say what the last record does not: `accepted_at` and `ended_at`, when the job first reached those states. They are for people only
//! and are not hashed. A job that is resumed has not ended; another job under the same key (it was submitted at another time) begins with none.

use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};
use steadfast_core::{Key, journal};

use super::error::{Damage, Fault};
use super::iso;
use super::places::Places;
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

/// Where a record stands in the chain, and its row in the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) first: i64,
    pub(super) sequence: i64,
    pub(super) previous: Hash,
}

/// What is kept beside a record, by its hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) payload: Option<Hash>,
    pub(super) answer: Option<(u16, Hash)>,
}

impl Kept {
    pub(super) fn of(entry: &Entry) -> Self {
        let hash = |bytes: &[u8]| cut(Sha256::new_with_prefix(bytes));
        let answer = entry.answer.as_ref().map(|answer| (answer.status, hash(&answer.body)));
        Self { payload: entry.payload.as_deref().map(hash), answer }
    }
}

/// The hash over a row.
pub(super) fn digest(place: &Place, entry: &Entry, record: &[u8], kept: &Kept) -> Hash {
    let (status, answer) = kept.answer.unzip();
    let fixed = [
        &place.first.to_le_bytes()[..],
        &place.sequence.to_le_bytes(),
        &place.previous,
        &entry.at.as_nanos().to_le_bytes(),
        &[kept.payload.is_some().into(), kept.answer.is_some().into()],
        &status.unwrap_or_default().to_le_bytes(),
        kept.payload.as_ref().map_or(&[0; 16], |hash| hash),
        answer.as_ref().map_or(&[0; 16], |hash| hash),
        &(record.len() as u64).to_le_bytes(),
    ];
    // In one piece: a hasher that is fed bit by bit takes longer to be fed than to hash.
    let mut bytes = Vec::with_capacity(96 + record.len() + entry.provider.len());
    fixed.into_iter().chain([record, entry.provider.as_bytes()]).for_each(|part| bytes.extend_from_slice(part));
    cut(Sha256::new_with_prefix(&bytes))
}

impl Row {
    fn digest(&self, record: &[u8]) -> Hash {
        let Self { first, sequence, previous, entry, .. } = self;
        let place = Place { first: *first, sequence: *sequence, previous: *previous };
        digest(&place, entry, record, &Kept::of(entry))
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
        if found.digest(bytes) != found.hash {
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
