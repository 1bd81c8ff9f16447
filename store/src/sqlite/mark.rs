//! How far a journal had come, kept outside of it.
//!
//! SQLite's log cannot tell a torn tail from a damaged middle: one flipped bit in it, and all later records are gone without an error,
//! rows and head together. Only something outside of the file can know better. So after each commit its sequence number and hash are written to
//! a small file beside it, `FILE-mark`, without waiting for the disk: that costs a microsecond. A journal that ends before its mark has lost records that
//! were durable, and is not opened.
//!
//! It is also the fence behind the lock. A lock can be lost, on POSIX by nothing worse than somebody in the same process closing the file; a writer
//! that then finds a mark which it has not written knows that another has taken the journal over, and changes nothing.
//!
//! The mark is written after the commit, so it never promises what was not durable; after a crash it may be a little behind, which is no harm.
//! One that is missing, empty or not whole says nothing ([`Mark`] tells, and `verify` reports it), and the journal is opened all the
//! same. Nor does it help when journal and mark are both replaced by an older copy: who must know even that keeps the [`Watermark`] in another place.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::body::{Hash, cut};
use super::error::Damage;

/// How far a journal has come: which journal, the sequence number of its last record, and that record's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    pub(super) instance: Hash,
    pub(super) sequence: u64,
    pub(super) hash: Hash,
}

const MAGIC: &[u8; 8] = b"SFMARK1\n";

impl Watermark {
    /// How many bytes it has.
    pub const LENGTH: usize = 64;

    /// How many records the journal had taken, all told.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// It as bytes, with a checksum.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        let parts = [&MAGIC[..], &self.instance, &self.sequence.to_le_bytes(), &self.hash, &self.checksum()];
        bytes.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }

    /// From the bytes of [`to_bytes`](Watermark::to_bytes). `None` if they are not whole.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Option<Self> {
        let (_, rest) = bytes.split_first_chunk::<8>()?;
        let (instance, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (hash, _) = rest.split_first_chunk()?;
        let mark = Self { instance: *instance, sequence: u64::from_le_bytes(*sequence), hash: *hash };
        (mark.to_bytes() == *bytes).then_some(mark)
    }

    fn checksum(&self) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(MAGIC);
        hasher.update(self.instance);
        hasher.update(self.sequence.to_le_bytes());
        hasher.update(self.hash);
        cut(hasher)
    }

    /// Whether a journal that ends at `found` can be the one that had come this far.
    pub(super) fn holds(&self, found: &Self) -> Result<(), Damage> {
        if self.instance != found.instance {
            return Err(Damage::Exchanged);
        }
        if self.sequence > found.sequence {
            return Err(Damage::Lost { expected: self.sequence, found: found.sequence });
        }
        if self.sequence == found.sequence && self.hash != found.hash {
            return Err(Damage::Exchanged);
        }
        Ok(())
    }
}

/// What `FILE-mark` can testify.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mark {
    /// It says how far the journal had come.
    #[default]
    Whole,
    /// There is none: it was not copied along, say, or could not be written. Whether the log lost its end would not be noticed.
    Missing,
    /// There is one that is not what was written, so it says nothing either.
    Unreadable,
}

/// `FILE-mark`, opened.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: Option<File>,
    /// What it said when it was opened, or since it was written.
    state: Mark,
}

impl MarkFile {
    /// Opens it for writing. A mark is a second witness: a journal works without one, where it cannot be written. One that has taken no record gets
    /// its mark at once: a file without its log can look as if it were new.
    pub(super) fn open(path: &Path, state: Mark, head: &Watermark) -> Self {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut mark = Self { file: options.open(path).ok(), state };
        if head.sequence == 0 {
            mark.write(head);
        }
        mark
    }

    /// None, for who only looks.
    pub(super) const fn closed(state: Mark) -> Self {
        Self { file: None, state }
    }

    /// What it can testify.
    pub(super) const fn state(&self) -> Mark {
        self.state
    }

    /// What the last writer left, or why that says nothing.
    pub(super) fn read(path: &Path) -> std::io::Result<Result<Watermark, Mark>> {
        let mut bytes = [0; Watermark::LENGTH];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut bytes));
        match read {
            Ok(()) => Ok(Watermark::from_bytes(&bytes).ok_or(Mark::Unreadable)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Err(Mark::Missing)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Err(Mark::Unreadable)),
            Err(error) => Err(error),
        }
    }

    /// Whether somebody else has written it since: it is ahead of what we know, or another journal's.
    pub(super) fn is_anothers(&mut self, known: &Watermark) -> bool {
        let mut bytes = [0; Watermark::LENGTH];
        let Some(file) = &mut self.file else { return false };
        let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_exact(&mut bytes));
        let found = read.ok().and_then(|()| Watermark::from_bytes(&bytes));
        found.is_some_and(|found| found.holds(known).is_err())
    }

    pub(super) fn write(&mut self, mark: &Watermark) {
        if let Some(file) = &mut self.file {
            // What it says stays true if this fails: it is a little behind.
            let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&mark.to_bytes()));
            if written.is_ok() {
                self.state = Mark::Whole;
            }
        }
    }
}
