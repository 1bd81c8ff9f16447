//! The lengths of a journal's files. A file that is cut short or removed while it is open is noticed before anything is
//! written behind the cut: SQLite checks neither length, so it would acknowledge records that nobody finds again, and
//! when closing would write a log with a hole back into the file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::files::beside;

#[derive(Debug)]
pub(super) struct Lengths {
    log_path: PathBuf,
    file: u64,
    log: u64,
}

impl Lengths {
    /// The present lengths.
    pub(super) fn of(path: &Path) -> Self {
        let mut lengths = Self { log_path: beside(path, "-wal"), file: 0, log: 0 };
        lengths.look(path);
        lengths
    }

    /// Call after each transaction: the files grow by it, and a log that begins anew may be shortened.
    pub(super) fn look(&mut self, path: &Path) {
        self.file = length(path).unwrap_or_default();
        self.log = length(&self.log_path).unwrap_or_default();
    }

    /// The log's length when last looked at.
    pub(super) const fn log(&self) -> u64 {
        self.log
    }

    /// Whether no file is shorter than it was, or that cannot be found out: a process that may not look there any more
    /// still has its files.
    pub(super) fn are_kept(&self, path: &Path) -> bool {
        let kept = |path: &Path, had: u64| length(path).is_none_or(|has| has >= had);
        kept(path, self.file) && kept(&self.log_path, self.log)
    }
}

fn length(path: &Path) -> Option<u64> {
    match fs::metadata(path) {
        Ok(found) => Some(found.len()),
        Err(error) => (error.kind() == ErrorKind::NotFound).then_some(0),
    }
}
