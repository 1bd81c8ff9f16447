//! Records as bytes: one way to write each, and no bytes that are two records or half of one.
//!
//! - Any bytes are an error, which names a place in them, or a record that is written as exactly these bytes again. So
//!   no two texts are one record, and a changed bit is an error or shows in what is read. (That the other record is
//!   *refused*, R38, takes a checksum: the store's, around these bytes.)
//! - Bytes laid out by the module's table here, by another hand, read as the fields that were laid out. Cut or extended
//!   they are refused.
//! - An engine takes up any record, from whoever: it drains in bounded steps and never wakes in the past.
//!
//! Input: a record's bytes. The second and third read them as a quarry of fields.

use steadfast_core::engine::{Engine, Limits};
use steadfast_core::gate::GatePolicy;
use steadfast_core::journal::{DecodeError, VERSION, decode, encode};
use steadfast_core::operation::Record;
use steadfast_core::{Gate, Key, OperationPolicy, Reference, Seed, Timestamp};

use super::engine::safety;
use super::{WALL_SECS, digest};

/// See the [module](self).
pub fn holds(data: &[u8]) {
    check_any(data);
    let (bytes, key, reference) = laid_out(data);
    let record = match decode(&bytes) {
        Ok(record) => record,
        Err(error) => panic!("laid out by the table, and {error}: {}", bytes.escape_ascii()),
    };
    check_fields(&record, &bytes, &key, reference.as_deref());
    check_any(&bytes);

    let (at, bit) = (digest(data) % bytes.len(), digest(data) % 8);
    let mut flipped = bytes.clone();
    flipped[at] ^= 1 << bit;
    assert_ne!(decode(&flipped).as_ref(), Ok(&record), "byte {at}, bit {bit} does not count");
    check_any(&flipped);
    assert!(decode(&bytes[..at]).is_err(), "cut at {at}, and read");
    assert!(decode(&[&bytes[..], b"\0"].concat()).is_err(), "extended, and read");
    check_restore(record, digest(data));
}

/// Bytes are an error within them, or the only way to write what they say.
fn check_any(bytes: &[u8]) {
    match decode(bytes) {
        Ok(record) => {
            let mut again = Vec::new();
            encode(&record, &mut again);
            assert_eq!(again, bytes, "another way to write the same");
        }
        Err(DecodeError::UnknownVersion(version)) => {
            assert!(version != VERSION && bytes.first() == Some(&version), "the wrong version is told");
        }
        Err(DecodeError::Corrupt { at }) => assert!(at <= bytes.len(), "damaged beyond its end"),
        Err(other) => panic!("what else can be wrong: {other}"),
    }
}

/// The stages with the outcomes that there are.
const STAGES: u8 = 4 + 21 + 21;

/// A whole record by the table of `core/src/journal.rs`, with what there is in these bytes.
fn laid_out(data: &[u8]) -> (Vec<u8>, String, Option<String>) {
    let mut quarry = data.iter().copied().skip(1).chain(std::iter::repeat(0));
    let mut bytes = vec![VERSION];
    let stage = quarry.next().unwrap_or_default() % STAGES;
    bytes.extend(match stage {
        0..4 => [stage, 0],
        4..25 => [4, stage - 4],
        _ => [5, stage - 25],
    });
    bytes.extend(quarry.by_ref().take(24 + 2 + 2 + 4 + 16));
    // A text's length comes from its end of the bytes, so that what lies before does not move when it changes.
    let lengths = digest(data);
    let key_len = 1 + lengths % 255;
    let key: String = quarry.by_ref().take(key_len).map(|byte| char::from(b'!' + byte % 94)).collect();
    let reference_len = [0, 1, 12, 4_096][(lengths >> 8) % 4];
    let reference: String = quarry.take(reference_len).map(|byte| char::from(b' ' + byte % 95)).collect();
    bytes.push(key_len as u8);
    bytes.extend(key.bytes());
    bytes.extend((reference_len as u16).to_le_bytes());
    bytes.extend(reference.bytes());
    (bytes, key, Some(reference).filter(|text| !text.is_empty()))
}

fn check_fields(record: &Record, bytes: &[u8], key: &str, reference: Option<&str>) {
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
    let time = |at| Some(Timestamp::from_nanos(word(at))).filter(|time| *time != Timestamp::NEVER);
    let times = (Some(record.submitted).filter(|time| *time != Timestamp::NEVER), record.first_sent, record.due);
    assert_eq!(times, (time(3), time(11), time(19)));
    let counts = (u64::from(record.creates), u64::from(record.polls), u64::from(record.attempts));
    assert_eq!(counts, (word(27) & 0xffff, (word(27) >> 16) & 0xffff, word(27) >> 32));
    assert_eq!(record.fingerprint.as_bytes()[..], bytes[35..51]);
    assert_eq!((record.key.as_str(), record.reference.as_ref().map(Reference::as_str)), (key, reference));
    let shown = format!("{record:?}");
    let secret = |text: &str| text.len() > 20 && shown.contains(text);
    assert!(!secret(key) && !reference.is_some_and(secret), "R42: {shown}");
}

/// An engine takes up anything, once.
fn check_restore(record: Record, choice: usize) {
    let policy = OperationPolicy::default().with_safety(safety(choice as u8)).expect("settings that make sense");
    let gate = Gate::new(if choice & 4 == 0 { GatePolicy::none() } else { GatePolicy::default() }, Seed::new(1));
    let mut engine = Engine::new(policy, gate, Limits::default(), Seed::new(2));
    let now = Timestamp::from_secs(WALL_SECS);
    let key: Key = record.key.clone();
    let id = engine.restore(record.clone(), now).expect("the first of its key");
    assert!(engine.restore(record, now).is_err() || engine.find(&key).is_none(), "taken up twice");
    let mut at = now;
    for _ in 0..8 {
        engine.handle_timeout(at);
        let effects = std::iter::from_fn(|| engine.pop_effect()).take(9).count();
        assert!(effects < 9, "a drain without end");
        let next = engine.next_deadline();
        assert!(next.is_none_or(|next| next > at), "law 2: {next:?} at {at:?}");
        let Some(next) = next else { break };
        at = next;
    }
    assert!(engine.operation(id).is_none_or(|operation| operation.key() == key));
}
