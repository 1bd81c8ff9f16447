//! The encoding of one operation: everything in a single blob.
//!
//! A column costs more than its bytes: it has to be bound, checked, and put into the row. So what the client needs is
//! one blob, and the columns that people read are computed from it when they query (`view.rs`).
//!
//! ```text
//! previous 16 bytes │ sequence u64 │ at u64 │ accepted u64 │ ended u64 │ record: u16 length │ provider: u32 length
//! │ record (core's journal format) │ provider │ room │ hash 16 bytes
//! ```
//!
//! Numbers are little-endian; times are nanoseconds since the Unix epoch, with all bits set for *none*. A row that
//! grows makes its neighbours move, which costs more than writing it; so room for the reference is reserved from the
//! start, and a row never shrinks.
//!
//! The hash is SHA-256 cut to 16 bytes, over the key's first sequence number, what is kept beside the record (payload
//! and answer, each as a hash of its own, so that a job can continue without reading them), and all that stands before
//! it. Every row that is read is hashed again, so a row that differs in one bit from what was written is an error,
//! never another entry.

use sha2::{Digest, Sha256};
use steadfast_core::operation::{Record, Stage};
use steadfast_core::{Timestamp, journal};

use super::error::{Damage, Fault};
use crate::Entry;

/// SHA-256, cut to 16 bytes.
pub(super) type Hash = [u8; 16];

pub(super) fn cut(hasher: Sha256) -> Hash {
    let mut hash = [0; 16];
    hash.iter_mut().zip(hasher.finalize()).for_each(|(to, from)| *to = from);
    hash
}

/// The offset of the record.
const RECORD: usize = 54;
const HASH: usize = 16;
/// The offset of the key's length, with the key behind it, as the record's format has it.
const KEY: usize = RECORD + 51;

/// The usual length of a reference.
const REFERENCE: usize = 40;

/// What is kept beside a record, by its hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) payload: Option<Hash>,
    pub(super) answer: Option<(u16, Hash)>,
}

impl Kept {
    pub(super) fn new(payload: Option<&[u8]>, answer: Option<(u16, &[u8])>) -> Self {
        let hash = |bytes: &[u8]| cut(Sha256::new_with_prefix(bytes));
        Self { payload: payload.map(hash), answer: answer.map(|(status, body)| (status, hash(body))) }
    }

    pub(super) fn of(entry: &Entry) -> Self {
        Self::new(entry.payload.as_deref(), entry.answer.as_ref().map(|answer| (answer.status, &answer.body[..])))
    }

    /// What goes into the row's hash before its body.
    fn prefix(&self, first: i64, bytes: &mut Vec<u8>) {
        bytes.extend(first.to_le_bytes());
        bytes.push(u8::from(self.payload.is_some()) | u8::from(self.answer.is_some()) << 1);
        if let Some(hash) = &self.payload {
            bytes.extend(hash);
        }
        if let Some((status, hash)) = &self.answer {
            bytes.extend(status.to_le_bytes());
            bytes.extend(hash);
        }
    }
}

/// Where a record stands in the chain, and its row in the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) first: i64,
    pub(super) sequence: i64,
    pub(super) previous: Hash,
}

/// When the job was first known to be accepted, and when it ended with its present outcome; else `NEVER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) accepted: Timestamp,
    pub(super) ended: Timestamp,
}

/// Encodes bodies, together with what is hashed with them.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    from: usize,
}

impl Encoder {
    /// Writes the body of this entry, at least as long as the row's previous one. Returns its hash.
    pub(super) fn encode(
        &mut self,
        place: &Place,
        entry: &Entry,
        kept: &Kept,
        times: Times,
        length: usize,
    ) -> Result<Hash, Fault> {
        let Self { bytes, from } = self;
        bytes.clear();
        kept.prefix(place.first, bytes);
        *from = bytes.len();
        bytes.extend(place.previous);
        bytes.extend(place.sequence.to_le_bytes());
        for time in [entry.at, times.accepted, times.ended] {
            bytes.extend(time.as_nanos().to_le_bytes());
        }
        let lengths = bytes.len();
        bytes.extend([0; 6]);
        journal::encode(&entry.record, bytes);
        let record = (bytes.len() - lengths - 6) as u16; // at most 821, by the format
        bytes.extend(entry.provider.as_bytes());
        let provider = u32::try_from(entry.provider.len()).map_err(|_| Damage::Provider)?;
        let parts = record.to_le_bytes().into_iter().chain(provider.to_le_bytes());
        bytes.iter_mut().skip(lengths).zip(parts).for_each(|(to, from)| *to = from);
        let room = if entry.record.reference.is_none() && !entry.has_ended() { REFERENCE } else { 0 };
        let end = (bytes.len() + room).max(*from + length.saturating_sub(HASH));
        bytes.resize(end, 0);
        let hash = cut(Sha256::new_with_prefix(&bytes));
        bytes.extend(hash);
        Ok(hash)
    }

    /// The body that was encoded last.
    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(self.from..).unwrap_or_default()
    }
}

/// A body's parts.
#[derive(Debug)]
pub(super) struct Body<'a> {
    pub(super) sequence: i64,
    pub(super) previous: Hash,
    pub(super) hash: Hash,
    pub(super) at: Timestamp,
    pub(super) times: Times,
    pub(super) provider: &'a [u8],
    record: &'a [u8],
    hashed: &'a [u8],
}

impl<'a> Body<'a> {
    /// `None` if it is shorter than its lengths say.
    pub(super) fn split(bytes: &'a [u8]) -> Option<Self> {
        let (hashed, hash) = bytes.split_last_chunk::<HASH>()?;
        let (previous, rest) = hashed.split_first_chunk::<16>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let (accepted, rest) = rest.split_first_chunk::<8>()?;
        let (ended, rest) = rest.split_first_chunk::<8>()?;
        let (record, rest) = rest.split_first_chunk::<2>()?;
        let (provider, rest) = rest.split_first_chunk::<4>()?;
        let (record, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*record)))?;
        let provider = rest.get(..usize::try_from(u32::from_le_bytes(*provider)).ok()?)?;
        let time = |bytes: &[u8; 8]| Timestamp::from_nanos(u64::from_le_bytes(*bytes));
        Some(Self {
            sequence: i64::from_le_bytes(*sequence),
            previous: *previous,
            hash: *hash,
            at: time(at),
            times: Times { accepted: time(accepted), ended: time(ended) },
            provider,
            record,
            hashed,
        })
    }

    /// Whether the hash matches: this body was written for this row, with this kept beside it.
    pub(super) fn is_whole(&self, first: i64, kept: &Kept) -> bool {
        let mut bytes = Vec::with_capacity(64 + self.hashed.len());
        kept.prefix(first, &mut bytes);
        // In one piece: feeding a hasher in small pieces takes longer than the hashing itself.
        bytes.extend_from_slice(self.hashed);
        cut(Sha256::new_with_prefix(&bytes)) == self.hash
    }

    pub(super) fn record(&self) -> Result<Record, journal::DecodeError> {
        journal::decode(self.record)
    }
}

/// The key in a body, read from its place without checking the rest.
pub(super) fn key(body: &[u8]) -> Option<&[u8]> {
    let (length, rest) = body.get(KEY..)?.split_first()?;
    rest.get(..usize::from(*length)).filter(|key| !key.is_empty())
}

/// The stage in a body's record, and since when.
pub(super) fn stage(bytes: &[u8]) -> Option<(Stage, Timestamp)> {
    let body = Body::split(bytes)?;
    Some((body.record().ok()?.stage, body.at))
}
