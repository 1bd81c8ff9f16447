//! One row: an entry, its place in the chain, and the hash over all of it (`body.rs`).
//!
//! A body says two things that the last record does not: when the job was first accepted, and when it ended. They are
//! only for people. A resumed job has not ended; another job under the same key (with another submission time) starts
//! without either.

use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use steadfast_core::{Key, journal};

use super::body::{self, Body, Hash, Kept, Times};
use super::error::{Damage, Fault};
use super::places::Places;
use crate::{Entry, KeptAnswer};

/// The columns that [`Reader::read`] needs, in its order.
macro_rules! read_columns {
    () => {
        "first, body, payload, answer_status, answer_body"
    };
}
pub(super) use read_columns;

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) first: i64,
    pub(super) sequence: i64,
    pub(super) previous: Hash,
    pub(super) hash: Hash,
    pub(super) kept: Kept,
    pub(super) times: Times,
    /// The length of its body, in bytes.
    pub(super) length: usize,
    pub(super) entry: Entry,
}

/// Reads rows, and shares one copy of a provider's name among all that bear it.
#[derive(Debug, Default)]
pub(super) struct Reader {
    provider: Option<Arc<str>>,
}

impl Reader {
    /// The row of this key.
    pub(super) fn find(&mut self, connection: &Connection, places: &Places, key: &Key) -> Result<Option<Row>, Fault> {
        for first in places.candidates(places.name(key)) {
            let row = self.row(connection, first)?.ok_or(Damage::Gone)?;
            if row.entry.record.key == *key {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// The row with this number.
    pub(super) fn row(&mut self, connection: &Connection, first: i64) -> Result<Option<Row>, Fault> {
        const ROW: &str = concat!("SELECT ", read_columns!(), " FROM records WHERE first = ?1");
        let mut find = connection.prepare_cached(ROW)?;
        let mut rows = find.query([first])?;
        rows.next()?.map(|row| self.read(row)).transpose()
    }

    /// Reads a row from these [`read_columns`].
    pub(super) fn read(&mut self, row: &rusqlite::Row<'_>) -> Result<Row, Fault> {
        let (ValueRef::Integer(first), ValueRef::Blob(bytes)) = (row.get_ref(0)?, row.get_ref(1)?) else {
            return Err(Damage::Structure.into());
        };
        let damaged = |what| damaged(first, bytes, what);
        let Some(body) = Body::split(bytes) else { return Err(damaged("its place in the chain")) };
        let payload = match row.get_ref(2)? {
            ValueRef::Null => None,
            ValueRef::Blob(payload) => Some(payload),
            _ => return Err(damaged("its payload")),
        };
        let answer = match (row.get_ref(3)?, row.get_ref(4)?) {
            (ValueRef::Null, ValueRef::Null) => None,
            (ValueRef::Integer(status), ValueRef::Blob(body)) => {
                Some((u16::try_from(status).map_err(|_| damaged("its answer"))?, body))
            }
            _ => return Err(damaged("its answer")),
        };
        let record = body.record().map_err(|error| match error {
            journal::DecodeError::UnknownVersion(_) => damaged("its record, which may be a newer release's"),
            _ => damaged("its record"),
        })?;
        let kept = Kept::new(payload, answer);
        if !body.is_whole(first, &kept) {
            return Err(damaged("which is not what was written"));
        }
        let provider = self.provider(body.provider).ok_or_else(|| damaged("its provider"))?;
        let mut entry = Entry::new(record, provider, body.at);
        entry.payload = payload.map(<[u8]>::to_vec);
        entry.answer = answer.map(|(status, body)| KeptAnswer { status, body: body.to_vec() });
        let Body { sequence, previous, hash, times, .. } = body;
        Ok(Row { first, sequence, previous, hash, kept, times, length: bytes.len(), entry })
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

/// The fault of a damaged row, naming its key's label if that can be read.
fn damaged(first: i64, body: &[u8], what: &'static str) -> Fault {
    let key = body::key(body).and_then(|key| core::str::from_utf8(key).ok()).and_then(|key| Key::new(key).ok());
    Damage::Row { row: first, label: key.map(|key| key.label()), what }.into()
}
