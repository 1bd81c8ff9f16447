//! Records as bytes.
//!
//! A [`Record`] goes to disk in a small format of its own: a version, then the fields in a fixed order, numbers
//! little-endian, texts with their length in front. It needs no serialisation crate, does not change when one does, and
//! reads hostile bytes without panicking or allocating more than they hold.
//!
//! ```text
//! version u8 = 1 │ stage u8, why u8 │ submitted u64 │ first_sent u64 │ due u64 │ creates u16 │ polls u16 │ attempts u32
//! │ fingerprint 16 bytes │ key: u8 length, bytes │ reference: u16 length (0 = none), bytes
//! ```
//!
//! *Why* is the outcome's number once there is one; of a create that may have run it is 1 if the provider refused it,
//! else 0. Times are nanoseconds since the Unix epoch; all bits set means *none*. A version that is not known is
//! refused, never guessed: a newer release wrote it. What guards against damage (sequence numbers, checksums, the hash
//! of the predecessor) belongs to the store, around these bytes.
//!
//! So a record takes 54 bytes, plus its key and its reference. Where the room for one is bounded, check the length of
//! these two, before a key is submitted and before [`Accepted`](crate::operation::Reading::Accepted) is fed: a record
//! that fits nowhere is asked for again and again, and its job goes no further.
//!
//! The latest record of a key is all that counts, so a journal that is full may drop the older ones. The latest itself
//! may go when its key is free: see [`Engine::submit`](crate::Engine::submit).

use alloc::string::String;
use alloc::vec::Vec;

use crate::key::{Fingerprint, Key, Reference};
use crate::operation::{Completed, Outcome, Record, Rejected, Stage, Unresolved};
use crate::time::Timestamp;

/// The version that [`encode`] writes.
pub const VERSION: u8 = 1;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Another release's format.
    #[error(
        "this record has format version {0}, and this release reads version 1: use the release that wrote it, or a newer one"
    )]
    UnknownVersion(u8),
    /// Damaged or cut off.
    #[error("this record is damaged at byte {at}: restore the journal from a copy")]
    Corrupt {
        /// Where, in bytes from the start.
        at: usize,
    },
}

/// Appends a record's bytes.
///
/// ```
/// use steadfast_core::journal;
/// # use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Seed, Timestamp};
/// # let (policy, mut gate) = (OperationPolicy::default(), Gate::unlimited());
/// # let turn = &mut policy.turn(Timestamp::from_secs(1), &mut gate);
/// # let job = Operation::new(Key::new("order-42")?, Fingerprint::new([0; 16]), Seed::new(7), turn);
///
/// let mut bytes = Vec::new();
/// journal::encode(&job.record(), &mut bytes);
/// assert_eq!(journal::decode(&bytes)?, job.record());
/// assert_eq!(bytes.len(), 54 + "order-42".len()); // and the reference, once there is one
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn encode(record: &Record, bytes: &mut Vec<u8>) {
    let (stage, why) = stage_code(record.stage, record.refused);
    bytes.extend([VERSION, stage, why]);
    for time in [Some(record.submitted), record.first_sent, record.due] {
        bytes.extend(time.unwrap_or(Timestamp::NEVER).as_nanos().to_le_bytes());
    }
    bytes.extend(record.creates.to_le_bytes());
    bytes.extend(record.polls.to_le_bytes());
    bytes.extend(record.attempts.to_le_bytes());
    bytes.extend(record.fingerprint.as_bytes());
    let key = record.key.as_bytes();
    bytes.push(key.len() as u8); // at most 255, by construction
    bytes.extend(key);
    let reference = record.reference.as_ref().map_or(&[][..], Reference::as_bytes);
    bytes.extend((reference.len() as u16).to_le_bytes()); // at most 4,096, by construction
    bytes.extend(reference);
}

/// Reads one record, which must fill the bytes exactly.
///
/// # Errors
/// An unknown version, or bytes that [`encode`] would not have written.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let mut reader = Reader { bytes, at: 0 };
    let [version] = reader.array()?;
    if version != VERSION {
        return Err(DecodeError::UnknownVersion(version));
    }
    let [stage, why] = reader.array()?;
    let stage = stage_of(stage, why).ok_or(DecodeError::Corrupt { at: 1 })?;
    let refused = stage == Stage::Unknown && why == 1;
    let submitted = reader.time()?.unwrap_or(Timestamp::NEVER);
    let first_sent = reader.time()?;
    let due = reader.time()?;
    let creates = u16::from_le_bytes(reader.array()?);
    let polls = u16::from_le_bytes(reader.array()?);
    let attempts = u32::from_le_bytes(reader.array()?);
    let fingerprint = Fingerprint::new(reader.array()?);
    let [key_len] = reader.array()?;
    let at = reader.at;
    let key = Key::new(reader.text(usize::from(key_len))?).map_err(|_| DecodeError::Corrupt { at })?;
    let reference_len = usize::from(u16::from_le_bytes(reader.array()?));
    let at = reader.at;
    let reference = match reader.text(reference_len)? {
        text if text.is_empty() => None,
        text => Some(Reference::new(text).map_err(|_| DecodeError::Corrupt { at })?),
    };
    if reader.at != bytes.len() {
        return Err(DecodeError::Corrupt { at: reader.at });
    }
    Ok(Record { key, fingerprint, stage, reference, submitted, first_sent, due, creates, attempts, polls, refused })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Result<&[u8], DecodeError> {
        let end = self.at.saturating_add(len);
        let taken = self.bytes.get(self.at..end).ok_or(DecodeError::Corrupt { at: self.at })?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| DecodeError::Corrupt { at })
    }

    fn time(&mut self) -> Result<Option<Timestamp>, DecodeError> {
        Ok(Timestamp::from_nanos(u64::from_le_bytes(self.array()?)).deadline())
    }

    fn text(&mut self, len: usize) -> Result<String, DecodeError> {
        let at = self.at;
        let bytes = self.take(len)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Corrupt { at })
    }
}

/// Outcomes and reasons by number. Numbers are never reused; a new one goes at the end.
const OUTCOMES: [Outcome; 22] = [
    Outcome::Completed(Completed::Ready),
    Outcome::Completed(Completed::Partial),
    Outcome::Completed(Completed::Undecided),
    Outcome::Failed,
    Outcome::Rejected(Rejected::Refused),
    Outcome::Rejected(Rejected::Attempts),
    Outcome::Rejected(Rejected::Deadline),
    Outcome::Rejected(Rejected::Cancelled),
    Outcome::Rejected(Rejected::NotDurable),
    Outcome::Unresolved(Unresolved::Ambiguous),
    Outcome::Unresolved(Unresolved::Attempts),
    Outcome::Unresolved(Unresolved::Deadline),
    Outcome::Unresolved(Unresolved::Refused),
    Outcome::Unresolved(Unresolved::KeyWindow),
    Outcome::Unresolved(Unresolved::Lookup),
    Outcome::Unresolved(Unresolved::Polls),
    Outcome::Unresolved(Unresolved::PollDeadline),
    Outcome::Unresolved(Unresolved::PollRefused),
    Outcome::Unresolved(Unresolved::NotFound),
    Outcome::Unresolved(Unresolved::Cancelled),
    Outcome::Rejected(Rejected::Unavailable),
    Outcome::Unresolved(Unresolved::Replayed),
];

fn stage_code(stage: Stage, refused: bool) -> (u8, u8) {
    let number = |outcome| (0_u8..).zip(OUTCOMES).find(|(_, known)| *known == outcome).map_or(u8::MAX, |(n, _)| n);
    match stage {
        Stage::Planned => (0, 0),
        Stage::InFlight => (1, 0),
        Stage::Unknown => (2, u8::from(refused)),
        Stage::Accepted => (3, 0),
        Stage::Ended(outcome) => (4, number(outcome)),
        Stage::Delivered(outcome) => (5, number(outcome)),
    }
}

fn stage_of(stage: u8, why: u8) -> Option<Stage> {
    let outcome = || OUTCOMES.get(usize::from(why)).copied();
    match (stage, why) {
        (0, 0) => Some(Stage::Planned),
        (1, 0) => Some(Stage::InFlight),
        (2, 0 | 1) => Some(Stage::Unknown),
        (3, 0) => Some(Stage::Accepted),
        (4, _) => outcome().map(Stage::Ended),
        (5, _) => outcome().map(Stage::Delivered),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn any_record() -> impl Strategy<Value = Record> {
        let time = || prop::option::of(0..u64::MAX).prop_map(|nanos| nanos.map(Timestamp::from_nanos));
        let stage = (0_u8..6, 0_u8..22)
            .prop_filter_map("a stage", |(stage, why)| Some((stage_of(stage, why)?, stage == 2 && why == 1)));
        let texts = ("[!-~]{1,255}", prop::option::of("[^\\p{Cc}]{1,100}"));
        (stage, texts, (0..u64::MAX, time(), time()), any::<(u16, u16, u32, [u8; 16])>()).prop_map(
            |((stage, refused), (key, reference), (submitted, first_sent, due), (creates, polls, attempts, hash))| {
                Record {
                    key: Key::new(key).unwrap(),
                    fingerprint: Fingerprint::new(hash),
                    stage,
                    reference: reference.map(|text| Reference::new(text).unwrap()),
                    submitted: Timestamp::from_nanos(submitted),
                    first_sent,
                    due,
                    creates,
                    attempts,
                    polls,
                    refused,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_written(record in any_record()) {
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            prop_assert_eq!(decode(&bytes), Ok(record));
        }

        #[test]
        fn a_cut_or_extended_record_is_refused(record in any_record(), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            encode(&record, &mut bytes);
            let cut = cut.index(bytes.len());
            prop_assert!(decode(bytes.get(..cut).unwrap()).is_err());
            bytes.push(0);
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
            let mut versioned = vec![VERSION];
            versioned.extend(bytes);
            let _ = decode(&versioned);
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        assert_eq!(decode(&[2, 0, 0]), Err(DecodeError::UnknownVersion(2)));
    }

    /// Frozen at 0.1.0, and extended at the end only.
    #[test]
    fn each_stage_and_each_outcome_has_its_number_for_ever() {
        let mut stages = vec![
            (Stage::Planned, 0, 0),
            (Stage::InFlight, 1, 0),
            (Stage::Unknown, 2, 0),
            (Stage::Accepted, 3, 0),
            (Stage::Ended(Outcome::Completed(Completed::Ready)), 4, 0),
            (Stage::Ended(Outcome::Failed), 4, 3),
            (Stage::Delivered(Outcome::Rejected(Rejected::NotDurable)), 5, 8),
            (Stage::Delivered(Outcome::Unresolved(Unresolved::Ambiguous)), 5, 9),
            (Stage::Ended(Outcome::Rejected(Rejected::Unavailable)), 4, 20),
            (Stage::Ended(Outcome::Unresolved(Unresolved::Replayed)), 4, 21),
        ];
        stages.extend((0_u8..).zip(OUTCOMES).map(|(why, outcome)| (Stage::Ended(outcome), 4, why)));
        stages.extend((0_u8..).zip(OUTCOMES).map(|(why, outcome)| (Stage::Delivered(outcome), 5, why)));
        assert_eq!((stage_code(Stage::Unknown, true), stage_of(2, 1)), ((2, 1), Some(Stage::Unknown)));
        for (stage, code, why) in stages {
            assert_eq!((stage_code(stage, false), stage_of(code, why)), ((code, why), Some(stage)));
        }
        for (code, why) in [(0, 1), (1, 1), (2, 2), (3, 1), (4, 22), (5, 22), (6, 0), (255, 255)] {
            assert_eq!(stage_of(code, why), None, "{code} {why}");
        }
    }

    /// Frozen at 0.1.0: what one release writes, every later one reads.
    #[test]
    fn the_format_is_frozen() {
        let record = Record {
            key: Key::new("k").unwrap(),
            fingerprint: Fingerprint::new([9; 16]),
            stage: Stage::Ended(Outcome::Unresolved(Unresolved::Cancelled)),
            reference: Some(Reference::new("r").unwrap()),
            submitted: Timestamp::from_nanos(1),
            first_sent: Some(Timestamp::from_nanos(2)),
            due: None,
            creates: 3,
            attempts: 5,
            polls: 4,
            refused: false,
        };
        let mut bytes = Vec::new();
        encode(&record, &mut bytes);
        let mut expected = vec![1, 4, 19, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([255; 8]);
        expected.extend([3, 0, 4, 0, 5, 0, 0, 0]);
        expected.extend([9; 16]);
        expected.extend([1, b'k', 1, 0, b'r']);
        assert_eq!(bytes, expected);
    }
}
