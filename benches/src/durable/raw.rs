//! The limit: records appended to a file, and made durable group by group.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use steadfast_core::journal;
use steadfast_core::operation::Record;

/// Records' bytes, one after the other, as an operation's records follow each other.
#[derive(Debug)]
pub struct Sample {
    bytes: Vec<u8>,
    records: u64,
}

impl Sample {
    /// Adds a record with its length, which [`Sample::new`] counts by.
    pub fn add(bytes: &mut Vec<u8>, record: &Record) {
        let at = bytes.len();
        bytes.extend([0; 2]);
        journal::encode(record, bytes);
        let length = ((bytes.len() - at - 2) as u16).to_le_bytes();
        bytes[at..at + 2].copy_from_slice(&length);
    }

    pub fn new(bytes: Vec<u8>) -> Self {
        let (mut at, mut records) = (0, 0);
        while let Some(length) = bytes.get(at..at + 2) {
            at += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
            records += 1;
        }
        Self { bytes, records }
    }

    fn of(&self, records: u32) -> usize {
        (self.bytes.len() as u64 * u64::from(records) / self.records.max(1)) as usize
    }
}

/// Appends groups of this many records to a file that grows, each time for a fifth of the span; the best time counts, as a limit should.
pub fn records_per_s(path: &Path, groups: &[u32], sample: &Sample, span: Duration) -> std::io::Result<f64> {
    let largest = groups.iter().copied().max().unwrap_or_default();
    let mut bytes = sample.bytes.clone();
    while bytes.len() < sample.of(largest) {
        bytes.extend_from_within(..);
    }
    let mut groups = groups.iter().cycle();
    let mut best = 0_f64;
    for _ in 0..5 {
        let mut file = File::create(path)?;
        let (mut records, began) = (0_u64, Instant::now());
        while began.elapsed() < span / 5 {
            let Some(group) = groups.next() else { break };
            file.write_all(&bytes[..sample.of(*group)])?;
            file.sync_data()?;
            records += u64::from(*group);
        }
        best = best.max(records as f64 / began.elapsed().as_secs_f64());
    }
    Ok(best)
}
