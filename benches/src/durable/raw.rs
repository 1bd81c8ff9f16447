//! The limit: records appended to a file, and made durable group by group.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use steadfast_core::journal;
use steadfast_core::operation::Record;

use super::{Pace, ROUNDS, Round};

/// Adds a record's bytes to a sample, with their length before them.
pub fn add(sample: &mut Vec<u8>, record: &Record) {
    let at = sample.len();
    sample.extend([0; 2]);
    journal::encode(record, sample);
    let length = ((sample.len() - at - 2) as u16).to_le_bytes();
    sample[at..at + 2].copy_from_slice(&length);
}

fn records(sample: &[u8]) -> usize {
    let (mut at, mut records) = (0, 0);
    while let Some(length) = sample.get(at..at + 2) {
        at += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
        records += 1;
    }
    records
}

/// Appends groups of this many records to a file that grows.
pub fn measure(path: &Path, groups: &[u32], sample: &[u8], span: Duration) -> std::io::Result<Pace> {
    let of = |group: u32| sample.len() * group as usize / records(sample).max(1);
    let mut bytes = sample.to_vec();
    while bytes.len() < groups.iter().copied().map(of).max().unwrap_or_default() {
        bytes.extend_from_within(..);
    }
    let lengths: Vec<(u32, usize)> = groups.iter().map(|group| (*group, of(*group))).collect();
    let mut next = lengths.iter().cycle();
    let mut best = Pace::default();
    for _ in 0..ROUNDS {
        let mut file = File::create(path)?;
        let (mut records, mut round, began) = (0_u64, Round::begin(), Instant::now());
        while began.elapsed() < span / ROUNDS {
            let Some((group, length)) = next.next() else { break };
            let commit_began = Instant::now();
            file.write_all(&bytes[..*length])?;
            file.sync_data()?;
            round.commits.push(commit_began.elapsed());
            records += u64::from(*group);
        }
        best = best.or(round.end(records));
    }
    Ok(best)
}
