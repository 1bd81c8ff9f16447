//! Why a journal could not be opened, and what is wrong with a damaged one.
//!
//! None of these shows a key, a payload or an answer, nor SQLite's own messages, which can quote what is in the file.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi;
use steadfast_core::Label;

use super::files;
use super::mark::Mark;
use super::schema::VERSION;
use crate::StoreError;

/// What to do about damage.
pub(super) const RESTORE: &str = "stop, move the files aside as they are, restore the journal from a copy, with its -mark and without the old -wal, and start \
                                  its client as one from a backup; operations that were under way since then may have run";

/// What to do about foreign tables: most likely every record is there.
const UNDO: &str = "stop, and undo what somebody has changed in it with a database tool, such as a trigger, a column, a unique index or a view: that loses nothing; if nobody did, move \
                    the files aside as they are, restore the journal from a copy, with its -mark and without the old -wal, and start its client as one from a \
                    backup; operations that were under way since then may have run";

/// Why a journal on SQLite could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another store in this one, has it open.
    #[error(
        "the journal {} is in use: only one process may hold it, so stop the other one first; within this process, await the shutdown of the client that has \
         it, since one that is dropped may still go on", journal.display()
    )]
    Locked {
        /// The journal's path.
        journal: PathBuf,
    },
    /// A newer release wrote it. It was left as it is.
    #[error("the journal has version {version}, and this release reads up to {VERSION}: use the release that wrote it")]
    Newer {
        /// The file's `user_version`.
        version: i64,
    },
    /// The file is something else: another program's database, or no database.
    #[error("this file is not a journal, or its first bytes are damaged: name another file, or restore it from a copy")]
    Foreign,
    /// It can be read but not written.
    #[error("the journal is read-only: give this user write access to it and to its directory")]
    ReadOnly,
    /// It can be read but not written, and its newest records are in a `-wal` that only a writer can read.
    #[error(
        "the journal is read-only and was not closed: copy it with its -wal and -mark to where it can be written, and read that"
    )]
    ReadOnlyUnclosed,
    /// The path ends in a symbolic link.
    #[error("the journal's path is a symbolic link: name the file itself, so that nobody can exchange it")]
    Symlink,
    /// The path is longer than SQLite supports. Nothing was made there.
    #[error(
        "the journal's path has {bytes} bytes from the root on, and SQLite takes up to {}: name a shorter one",
        files::LONGEST
    )]
    LongPath {
        /// The path's length.
        bytes: usize,
    },
    /// There is no such file.
    #[error("there is no journal at this path: check its name")]
    Missing,
    /// The path is that of a journal's log or mark. A journal there would be removed with the next log.
    #[error("it belongs to the journal {}: name that one", journal.display())]
    PartOf {
        /// The journal that the path belongs to.
        journal: PathBuf,
    },
    /// There is no journal at the path yet, and another one lies where SQLite looks for the remains of an interrupted
    /// transaction. Nothing was made.
    #[error("SQLite would take the journal {} for a remnant of this one, and remove it: name another file", journal.display())]
    WouldRemove {
        /// The other journal.
        journal: PathBuf,
    },
    /// This user has no permission to read one of the journal's files.
    #[error("this user may not read {}: only its owner can, so run this as the user that made the journal", file.display())]
    Denied {
        /// The file itself or its `-wal`; for a mark the error is [`MarkUnusable`](Self::MarkUnusable).
        file: PathBuf,
    },
    /// The path is a directory, a pipe or the like.
    #[error("the journal's path is not a regular file: name a file")]
    NotAFile,
    /// The linked SQLite library has a defect that can corrupt files.
    #[error("SQLite {version} has known defects that lose data: link 3.51.3 or later")]
    OldSqlite {
        /// The linked version.
        version: &'static str,
    },
    /// `FILE-mark`, which says how far the journal had come, is missing or not whole: it cannot be told whether the
    /// journal has lost its end.
    #[error("the journal's mark {} {}: {UNMARKED}", mark.display(), missing(*state))]
    Unmarked {
        /// Where the mark should be.
        mark: PathBuf,
        /// What was found there.
        state: Mark,
    },
    /// `FILE-mark` cannot be read, or cannot be opened for writing.
    #[error(
        "the journal's mark {} cannot be read and written: see that this user has read and write access to it and its directory, and that the disk is well; \
         without it a lost end of the journal would not be noticed", mark.display()
    )]
    MarkUnusable {
        /// Where the mark is.
        mark: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The content of the files is not what was written.
    #[error("the journal is damaged ({0}): {advice}", advice = .0.0.advice())]
    Damaged(#[source] DamageError),
    /// No copy was whole: the journal is in use and changed while it was copied, or it is damaged.
    #[error(
        "none of {tries} copies of the journal was whole: its client changes it faster than it is copied, or it is damaged; \
         name a faster disk in TMPDIR, or stop its client and look again"
    )]
    Torn {
        /// How many copies were taken.
        tries: u32,
        /// What was wrong with the last copy that was examined.
        source: Option<DamageError>,
    },
    /// The process that asked for a copy has the journal open itself.
    #[error(
        "this process has the journal open itself, and a copy would undo its lock: ask its store, or copy from another process"
    )]
    HeldHere,
    /// No copy could be made.
    #[error("the journal could not be copied: name a directory with room for it, and with write access, in TMPDIR")]
    NotCopied(#[source] std::io::Error),
    /// Its directory does not exist: a typing error, perhaps, or a volume that is not there yet. Nothing was made.
    #[error("there is no directory {}: make it first, or name the journal elsewhere", directory.display())]
    NoDirectory {
        /// The directory that the journal's path names.
        directory: PathBuf,
    },
    /// The file system returned an error.
    #[error("the journal's files could not be opened: check the path, its permissions and the disk")]
    Io(#[from] std::io::Error),
    /// One of its files is readable by others, and this user may write it but may not change its mode. Nothing was
    /// written.
    #[error(
        "{} belongs to another user, and only that one can keep others from reading it: run this as its owner", file.display()
    )]
    NotOwned {
        /// The file.
        file: PathBuf,
    },
    /// SQLite returned an error.
    #[error("the journal could not be opened: check the disk, its permissions and free space")]
    Sqlite(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The consequence of a mark that cannot vouch for the journal, and what to do.
const UNMARKED: &str = "the journal may have lost its newest records without a trace, and jobs that ran would run again; put the mark back beside it \
                        with the -wal of the same moment, or if it is a copy that was put back, open it with `SqliteStore::open_backup` \
                        and start its client with `from_backup()`";

const fn missing(state: Mark) -> &'static str {
    match state {
        Mark::Missing => "is missing",
        Mark::Unreadable | Mark::Whole => "is not what was written",
    }
}

/// What is wrong with a journal's files, in words; a key is named by its label.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DamageError(#[from] pub(super) Damage);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("row {row}{}, {what}", label.map(|label| format!(" of key {label}")).unwrap_or_default())]
    Row { row: i64, label: Option<Label>, what: &'static str },
    #[error("a table or a view is not as it was created, or has a trigger or a unique index")]
    Schema,
    #[error("the head row is missing or not what was written")]
    Head,
    #[error("{expected} operations were written and {found} are here")]
    Count { expected: u64, found: u64 },
    #[error(
        "the rows together are not those that the head row was written for: one is missing, or older than it should be"
    )]
    Sum,
    #[error("the record of sequence {sequence} does not follow the one before it")]
    Link { sequence: u64 },
    #[error("there are two rows of key {0}")]
    Twice(Label),
    #[error("a row that was there is not found any more")]
    Gone,
    #[error("records up to sequence {expected} were durable, and the file ends at {found}")]
    Lost { expected: u64, found: u64 },
    #[error("another journal's watermark lies beside it, or it was replaced by another journal")]
    Exchanged,
    #[error("the file is empty, and a -wal or -mark beside it shows that it was not; to begin anew, remove those too")]
    Emptied,
    #[error("another process has written to it since this one opened it")]
    Overtaken,
    #[error("its file was removed or replaced while it was open")]
    Moved,
    #[error("an older copy was put over its files while it was open")]
    PutBack,
    #[error("its file, or the log beside it, was cut short or removed while it was open")]
    Cut,
    #[error("the database's structure")]
    Structure,
    #[error("the provider's name is longer than a row can hold")]
    Provider,
}

impl Damage {
    pub(super) const fn advice(&self) -> &'static str {
        match self {
            Self::Overtaken => "stop this process: another one has its jobs now",
            Self::Moved | Self::PutBack => MOVED,
            Self::Schema => UNDO,
            Self::Provider => "give the provider a shorter name",
            Self::Lost { .. } => LOST,
            _ => RESTORE,
        }
    }
}

/// What to do about a journal that is older than its mark. Its rows are whole, but there is no other trace of the jobs
/// that it has lost.
const LOST: &str = "stop, move the files aside as they are, restore the journal from a copy, with its -mark and without the old -wal, and start \
                    its client as one from a backup; operations that were under way since then may have run. What the file still holds can be looked at, \
                    and exported, in a copy of FILE and FILE-wal alone, without the -mark (`steadfast ops COPY`)";

/// What to do about a journal that is no longer at its path.
const MOVED: &str = "stop the client, since another one may have begun anew at the same path, and put the journal back with its -wal and -mark, or \
                     restore it from a copy; operations that were under way since then may have run";

/// The mark could not be written.
#[derive(Debug, thiserror::Error)]
#[error("FILE-mark beside it cannot be written, and without it a lost end of the journal would not be noticed")]
struct MarkFailed(#[source] std::io::Error);

/// The log was not brought into the file, and is not to grow any more.
#[derive(Debug, thiserror::Error)]
#[error("FILE-wal beside it has grown too long, since it cannot be brought into the file")]
struct LogStays(#[source] Box<dyn std::error::Error + Send + Sync>);

/// SQLite's error, without the message.
#[derive(Debug, thiserror::Error)]
#[error("SQLite says: {0}")]
struct Refused(ffi::Error);

/// Any failure inside a store, before it is known which operation it belongs to.
#[derive(Debug)]
pub(super) enum Fault {
    Damage(Damage),
    /// The mark could not be written before a commit; nothing of that commit was written.
    Mark(std::io::Error),
    /// Before a commit the log, which had grown too long, could not be brought into the file; nothing of that commit was
    /// written.
    Log(rusqlite::Error),
    Sqlite(rusqlite::Error),
}

impl From<Damage> for Fault {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damage(Damage::Structure),
            _ if is_cut_off(&error) => Self::Damage(Damage::Structure),
            _ if is_other_schema(&error) => Self::Damage(Damage::Schema),
            _ => Self::Sqlite(error),
        }
    }
}

/// A page lies beyond the file's end: SQLite reports an I/O error, though no disk has failed.
fn is_cut_off(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHORT_READ)
}

/// Our statements fit our tables: if one does not, a table's definition is not the one that was written.
fn is_other_schema(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqlInputError { .. })
        || error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_ERROR)
}

impl Fault {
    /// A page could not be written: out of space, or refused by the disk.
    pub(super) fn is_failed_write(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        error
            .sqlite_error()
            .is_some_and(|error| error.code == ErrorCode::DiskFull || error.extended_code == ffi::SQLITE_IOERR_WRITE)
    }

    pub(super) fn reading(self) -> StoreError {
        self.into(StoreError::read)
    }

    pub(super) fn writing(self) -> StoreError {
        self.into(StoreError::write)
    }

    pub(super) fn unsure(self) -> StoreError {
        self.into(StoreError::uncertain)
    }

    fn into(self, action: fn(Box<dyn std::error::Error + Send + Sync>) -> StoreError) -> StoreError {
        match self {
            Self::Damage(damage) => {
                let advice = damage.advice();
                action(Box::new(DamageError(damage))).advising(advice)
            }
            Self::Mark(error) => action(Box::new(MarkFailed(error))),
            Self::Log(error) => action(Box::new(LogStays(quiet(error)))),
            Self::Sqlite(error) => action(quiet(error)),
        }
    }
}

impl From<Fault> for OpenError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Damage(damage) => damage.into(),
            Fault::Mark(error) => error.into(),
            Fault::Log(error) | Fault::Sqlite(error) => Self::sqlite(error),
        }
    }
}

impl From<Damage> for OpenError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(DamageError(damage))
    }
}

impl OpenError {
    /// A function rather than `From`, which would make the SQLite crate's version a part of our public interface.
    pub(super) fn sqlite(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { journal: PathBuf::new() },
            Some(ErrorCode::NotADatabase) => Self::Foreign,
            Some(ErrorCode::DatabaseCorrupt) => Damage::Structure.into(),
            _ if is_cut_off(&error) => Damage::Structure.into(),
            _ if is_other_schema(&error) => Damage::Schema.into(),
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            _ => Self::Sqlite(quiet(error)),
        }
    }

    /// Adds the journal's path where the error needs it, which is not known where SQLite's error is converted.
    pub(super) fn at(self, path: &Path) -> Self {
        match self {
            Self::Locked { .. } => Self::Locked { journal: path.to_owned() },
            Self::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
                match directory.filter(|directory| directory.try_exists().is_ok_and(|exists| !exists)) {
                    Some(directory) => Self::NoDirectory { directory: directory.to_owned() },
                    None => Self::Io(error),
                }
            }
            other => other,
        }
    }
}

fn quiet(error: rusqlite::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        rusqlite::Error::SqliteFailure(code, _) => Box::new(Refused(code)),
        rusqlite::Error::SqlInputError { error, .. } => Box::new(Refused(error)),
        other => Box::new(other),
    }
}
