//! The model of a journal's disk: an append-only log of framed records, a batch that is being written, and what a crash
//! leaves of it.
//!
//! An acknowledged batch is whole. Of any other batch, a crash leaves some prefix, down to half a frame; opening the
//! log again reads up to the first frame that is not whole and cuts the rest off.

use std::collections::BTreeMap;

use steadfast_core::operation::{Record, RecordId};
use steadfast_core::{Key, journal};

#[derive(Debug, Default)]
pub(super) struct Disk {
    log: Vec<u8>,
    /// The latest durable record of each key, as it was read back from its bytes.
    latest: BTreeMap<Key, Record>,
    /// Frames on their way to the disk, and the number to acknowledge them with.
    writing: Option<(Vec<Vec<u8>>, RecordId)>,
}

/// A record as it goes to the disk: its length, then its bytes.
pub(super) fn frame(record: &Record) -> Vec<u8> {
    let mut frame = vec![0; 2];
    journal::encode(record, &mut frame);
    let length = u16::try_from(frame.len() - 2).expect("a record is shorter than 64 KiB");
    frame[..2].copy_from_slice(&length.to_le_bytes());
    frame
}

/// The log's first record, and the rest; `None` if no whole one is there.
fn first_record(log: &[u8]) -> Option<(Record, &[u8])> {
    let (length, rest) = log.split_first_chunk::<2>()?;
    let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    Some((journal::decode(bytes).expect("what is whole was written whole"), rest))
}

impl Disk {
    pub(super) fn begin(&mut self, batch: Vec<Vec<u8>>, last: RecordId) {
        self.writing = Some((batch, last));
    }

    /// The batch is durable.
    pub(super) fn finish(&mut self) -> Option<RecordId> {
        let (batch, last) = self.writing.take()?;
        for frame in batch {
            let (record, _) = first_record(&frame)?;
            self.latest.insert(record.key.clone(), record);
            self.log.extend(frame);
        }
        Some(last)
    }

    /// Certainly nothing of the batch is durable.
    pub(super) fn fail(&mut self) -> Option<RecordId> {
        self.writing.take().map(|(_, last)| last)
    }

    /// A crash: the share `left` of the batch's bytes, between 0 and 1, reached the disk. Returns whether the batch was
    /// torn.
    pub(super) fn tear(&mut self, left: f64) -> bool {
        let Some((batch, _)) = self.writing.take() else { return false };
        let bytes = batch.concat();
        let kept = (left * bytes.len() as f64) as usize;
        self.log.extend(&bytes[..kept]);
        0 < kept && kept < bytes.len()
    }

    /// Opens the log again: cuts off what is not whole, and reads the latest record of each key.
    pub(super) fn open(&mut self) -> Vec<Record> {
        self.latest.clear();
        let mut rest = &self.log[..];
        while let Some((record, after)) = first_record(rest) {
            self.latest.insert(record.key.clone(), record);
            rest = after;
        }
        let whole = self.log.len() - rest.len();
        self.log.truncate(whole);
        self.latest.values().cloned().collect()
    }

    pub(super) fn latest(&self, key: &Key) -> Option<&Record> {
        self.latest.get(key)
    }
}
