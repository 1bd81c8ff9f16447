//! Opens a journal to look at it, even if a client has it open, and says what to do if that fails.

use std::error::Error;
use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::SystemTime;

use steadfast_core::Timestamp;
use steadfast_store::SqliteStore;
use steadfast_store::sqlite::{Mark, OpenError};

use super::words::{argument, day_and_time, name, plain};

/// The journal, and how to look at it.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) file: PathBuf,
    pub(crate) copy: bool,
}

/// An open journal.
pub(crate) struct Opened {
    pub(crate) store: SqliteStore,
    /// The time by this machine's clock; what is shown is as of then.
    pub(crate) now: Timestamp,
    /// Whether a client has the journal open. Only the lock tells, so `None` if the lock was not requested.
    pub(crate) in_use: Option<bool>,
}

/// What to add where it is said that there is no such operation.
pub(crate) const fn or_newer(mark: Mark) -> &'static str {
    match mark {
        Mark::Whole => "",
        _ => ", or is newer than what is here: the journal has no mark that can testify",
    }
}

/// A mark's state as `--json` names it.
pub(crate) const fn named(mark: Mark) -> &'static str {
    match mark {
        Mark::Whole => "whole",
        Mark::Missing => "missing",
        _ => "unreadable",
    }
}

impl Look {
    /// Says so if nothing vouches for the newest records: what is shown then looks whole, and may be an older state.
    pub(crate) fn warn_of(&self, mark: Mark) {
        if mark != Mark::Whole {
            eprintln!(
                "steadfast: the journal has no mark that can testify, so newer records may be missing: `steadfast ops {} doctor` tells what that means",
                argument(&self.file)
            );
        }
    }

    /// Its name, for messages.
    pub(crate) fn name(&self) -> String {
        name(&self.file)
    }

    /// Opens it, or a copy of it.
    pub(crate) fn open(&self) -> Result<Opened, CannotOpen> {
        let locked = if self.copy { None } else { Some(SqliteStore::open_read_only(&self.file)) };
        let now = now();
        let (store, in_use, copied) = match locked {
            None => (self.open_copy(), None, Some("")),
            Some(Err(OpenError::Locked { .. })) => (self.open_copy(), Some(true), Some(" is in use")),
            // A client may have it open or not: without write access to it and its directory it can neither be locked
            // nor its log be read.
            Some(Err(OpenError::ReadOnly | OpenError::ReadOnlyUnclosed)) => {
                let why = " cannot be locked without write access to it and its directory";
                (self.open_copy(), None, Some(why))
            }
            Some(other) => (other, Some(false), None),
        };
        let store = store.map_err(|why| self.cannot(why))?;
        if let Some(why) = copied {
            eprintln!("steadfast: {}{why}: this is a copy, taken at {}", self.name(), day_and_time(now));
        }
        Ok(Opened { store, now, in_use })
    }

    fn open_copy(&self) -> Result<SqliteStore, OpenError> {
        let before = self.stamps();
        SqliteStore::open_copy(&self.file).map_err(|why| match why {
            OpenError::Torn { source: Some(damage), .. } if before == self.stamps() => OpenError::Damaged(damage),
            why => why,
        })
    }

    /// The lengths and modification times of its files. Only a writer can tear copies; if nothing changed and still
    /// none of many copies was whole, the journal is damaged.
    pub(crate) fn stamps(&self) -> [Option<(u64, SystemTime)>; 3] {
        ["", "-wal", "-mark"].map(|suffix| {
            let found = fs::metadata(self.beside(suffix)).ok()?;
            Some((found.len(), found.modified().ok()?))
        })
    }

    /// Opens it to change it.
    pub(crate) fn open_to_write(&self) -> Result<SqliteStore, CannotOpen> {
        SqliteStore::open(&self.file).map_err(|why| self.cannot(why))
    }

    pub(crate) fn cannot(&self, why: OpenError) -> CannotOpen {
        // Safe for the locks of others, since the journal was not opened.
        let denied =
            |suffix| File::open(self.beside(suffix)).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        let was_journal = || ["-wal", "-mark"].iter().any(|suffix| self.has_beside(suffix));
        let advice = match &why {
            OpenError::Foreign if was_journal() => {
                return CannotOpen { file: self.name(), advice: Some(BEHEADED), why, is_damage: true };
            }
            OpenError::Unmarked { .. } => Some(
                "its FILE-mark is missing or not what was written, so it is not changed: `steadfast ops FILE doctor` tells what that means, and a client \
                 that begins on it as on a backup (`steadfast run --from-backup`) writes the mark anew",
            ),
            OpenError::Missing if fs::metadata(&self.file).is_ok() => {
                Some("the file is empty: nothing was ever written to it, so check its name")
            }
            OpenError::Denied { .. } | OpenError::Io(_) | OpenError::Sqlite(_) | OpenError::NotCopied(_) => {
                DENIED.iter().find(|(suffix, _)| denied(suffix)).map(|(_, advice)| *advice)
            }
            _ => None,
        };
        let is_damage = matches!(why, OpenError::Damaged(_));
        CannotOpen { file: self.name(), advice, why, is_damage }
    }

    /// Whether the journal's file with this suffix has any content.
    fn has_beside(&self, suffix: &str) -> bool {
        fs::metadata(self.beside(suffix)).is_ok_and(|found| found.len() > 0)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}

pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Which of its files this user may not read.
const DENIED: [(&str, &str); 3] = [
    ("", "this user may not read it: only its owner can, so run this as the user that the client runs as"),
    ("-wal", "this user may not read its -wal: only its owner can, so run this as the user that the client runs as"),
    ("-mark", "this user may not read its -mark: only its owner can, so run this as the user that the client runs as"),
];

/// A file that is not a journal, with a journal's files beside it, was one before.
const BEHEADED: &str = "the journal is damaged (its first bytes are not a journal's, though its -wal or -mark lies beside it): stop, move the files aside as \
                        they are, restore the journal from a copy, with its -mark and without the old -wal, and start its client as one from a backup; operations that were \
                        under way since then may have run";

/// A journal could not be opened.
#[derive(Debug)]
pub(crate) struct CannotOpen {
    file: String,
    /// Advice that is better than the store's.
    advice: Option<&'static str>,
    why: OpenError,
    /// The journal is damaged.
    pub(crate) is_damage: bool,
}

impl CannotOpen {
    /// What is wrong, without the name of the file.
    pub(crate) fn what(&self) -> String {
        self.advice.map_or_else(|| self.why.to_string(), str::to_owned)
    }
}

impl fmt::Display for CannotOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.advice {
            Some(advice) => write!(f, "{}: {advice}", self.file),
            // The store's message may name other files.
            None => write!(f, "{}: {}", self.file, plain(&self.why.to_string())),
        }
    }
}

impl Error for CannotOpen {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.why {
            // The text contains it already.
            OpenError::Damaged(_) => None,
            why => why.source(),
        }
    }
}
