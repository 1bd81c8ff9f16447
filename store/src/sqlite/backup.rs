//! A backup: a copy of a journal that a client can start from, made whether or not another process has the journal
//! open.
//!
//! Files are copied as [`open_copy`](SqliteStore::open_copy) copies them, and torn copies are thrown away here too
//! (`sqlite/copy.rs`). A backup has to meet more conditions:
//!
//! - Everything in it is verified, and damage is reported. Then its log is brought into it, so that it is one file with
//!   its mark.
//! - It is made in a directory of its own beside its destination. Only what is whole and on disk gets its final name,
//!   the journal's own last, so a file with that name is whole. Nothing is overwritten, and a failed backup leaves
//!   nothing.
//! - Damage is told from a journal that changes too fast: a copy that is torn again and again while nobody has the
//!   journal open means damage. To see that nobody has it open, its lock is taken for a moment, and a client that
//!   starts at that moment is refused. So this is done only after a torn copy, and [`MayLock::Never`] forbids it.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::mem;
use std::path::{Path, PathBuf};

use tempfile::{TempDir, TempPath};

use super::SqliteStore;
use super::copy::{self, TRIES};
use super::error::OpenError;
use super::files::{self, Access};
use super::mark::{Mark, Said, Watermark};
use super::verify::Problem;

/// This many torn copies while nobody has the journal open mean damage: a client that came and went can explain only
/// one.
const CALM_TRIES: u32 = 2;

/// The suffixes of files that SQLite or this store would take for a part of the backup.
const SUFFIXES: [&str; 5] = ["", "-mark", "-wal", "-journal", "-shm"];

/// Whether [`SqliteStore::back_up`] may take the journal's lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MayLock {
    /// For a moment after each torn copy, to tell a damaged journal from one that changes too fast. A client that opens
    /// it at that very moment is refused with [`OpenError::Locked`].
    #[default]
    IfTorn,
    /// Never. A damaged journal is then copied as often as one that changes too fast, and cannot be told from it.
    Never,
}

/// What a finished backup holds, and where its mark is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// How many operations it holds.
    pub operations: u64,
    /// How far the journal had come. Keep it in another place, to tell with
    /// [`check_watermark`](SqliteStore::check_watermark) which backup a file is.
    pub watermark: Watermark,
    /// The backup's mark, beside it. `None` if the journal had no usable mark: then it cannot be told whether the
    /// newest records are missing, and only [`open_backup`](SqliteStore::open_backup) opens the backup to write.
    pub mark: Option<PathBuf>,
}

/// Why no backup was made. Unfinished files are removed, and files that were there before are unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackUpError {
    /// The journal cannot be read, or there is none. [`OpenError::HeldHere`] if this process has it open itself;
    /// [`OpenError::Damaged`] if the damage is so great that it cannot even be opened.
    #[error("{} could not be backed up: it cannot be opened as a journal", journal.display())]
    NotOpened {
        /// The journal to be backed up.
        journal: PathBuf,
        /// Why, and what to do.
        source: OpenError,
    },
    /// The journal is damaged. It was looked at more than once while nobody had it open.
    #[error(
        "{} is damaged ({}), and was not backed up: to keep what is left, copy it with its -wal and -mark as they are",
        journal.display(), problems.first().map_or("not whole", |first| &first.what)
    )]
    Damaged {
        /// The journal to be backed up.
        journal: PathBuf,
        /// What is wrong with it, as [`verify`](SqliteStore::verify) reports it.
        problems: Vec<Problem>,
    },
    /// No copy was whole: the journal changed while it was copied, or it is damaged; with [`MayLock::Never`] the two
    /// cannot be told apart.
    #[error(
        "none of {tries} copies of {} was whole: its client changes it faster than it is copied, or it is damaged; name a file on a \
         faster disk, or stop its client and copy again", journal.display()
    )]
    Torn {
        /// The journal to be backed up.
        journal: PathBuf,
        /// How many copies were taken.
        tries: u32,
        /// What was wrong with the last copy that was examined; if it is the same each time, it is likely to be
        /// damage.
        problems: Vec<Problem>,
    },
    /// There is such a file already, or one that would be taken for a part of the backup.
    #[error("{} exists already, and is left as it is: name a new file", file.display())]
    Exists {
        /// The file that is there.
        file: PathBuf,
    },
    /// The directory in which the backup is to be does not exist.
    #[error("{} cannot be made: there is no such directory: make it first, or name another file", to.display())]
    NoDirectory {
        /// The backup to be made.
        to: PathBuf,
    },
    /// The path is that of another journal's log or mark: the backup would be taken for it, and removed with it.
    #[error("{} would be taken for a part of the journal {}: name another file", to.display(), journal.display())]
    PartOf {
        /// The backup to be made.
        to: PathBuf,
        /// The journal whose file it would be.
        journal: PathBuf,
    },
    /// There is no room, or its directory cannot be written to.
    #[error(
        "{} could not be written, and nothing is left of it: name a file in a directory with room for it, and with write access",
        to.display()
    )]
    NotWritten {
        /// The backup to be made.
        to: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl SqliteStore {
    /// Makes a backup of the journal at `path`, whether or not another process has it open: the file `to`, which must
    /// not exist yet, in a directory that does, and its mark `to-mark`.
    ///
    /// When this returns, the backup is on disk, every row of it was verified with the chain, the head and SQLite's own
    /// structures, and it contains everything that was durable when this was called (without a `FILE-mark` that cannot
    /// be checked). Only its owner can read it. It contains what the journal does, including kept payloads and answers,
    /// sealed if they were.
    ///
    /// It needs as much room beside `to` as the journal and its log do, and as long as copying and
    /// [verifying](SqliteStore::verify) them takes; a copy that is torn because the journal changed meanwhile is taken
    /// again, up to 20 times. While a copy is being taken, this process can neither open nor close another journal.
    /// Unfinished files lie in a directory `.steadfast-…` beside `to`, which is left behind only if the process is
    /// killed. If it is killed at the very end, `to-mark` may be left as well: alone it is useless, and can be removed.
    ///
    /// To restore a backup, put it and its mark in the journal's place, remove the old `FILE-wal` (and `FILE-mark`, if
    /// the backup has none), and open it with [`open`](SqliteStore::open) (without a mark with
    /// [`open_backup`](SqliteStore::open_backup)). An operation that the backup calls *planned* may have been sent
    /// meanwhile: the restored journal is marked as a backup ([`Store::is_backup`](crate::Store::is_backup)), and the
    /// first client that starts on it treats such operations as possibly sent.
    ///
    /// ```
    /// use steadfast_store::sqlite::{MayLock, SqliteStore};
    ///
    /// # let home = tempfile::tempdir()?;
    /// # let (journal, to) = (home.path().join("jobs.db"), home.path().join("backup.db"));
    /// # drop(SqliteStore::open(&journal)?);
    /// let backup = SqliteStore::back_up(&journal, &to, MayLock::IfTorn)?;
    /// println!("{} operations, {} steps in all", backup.operations, backup.watermark.sequence());
    /// if backup.mark.is_none() {
    ///     println!("nothing tells whether newer records are missing");
    /// }
    /// # assert!(backup.mark.is_some() && SqliteStore::open(&to).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// See [`BackUpError`]: in particular, this process itself has the journal open ([`OpenError::HeldHere`]; call this
    /// from another process), it is damaged, or `to` exists.
    pub fn back_up(path: impl AsRef<Path>, to: impl AsRef<Path>, lock: MayLock) -> Result<Backup, BackUpError> {
        let task = Task { journal: path.as_ref(), to: to.as_ref() };
        task.is_free()?;
        task.name(task.whole(lock)?)
    }
}

/// A copy that is verified and closed, but does not have its final name yet.
struct Whole {
    home: TempDir,
    backup: Backup,
}

/// Why a copy cannot be used.
enum Unfit {
    /// Pages of different moments, or damage: what is wrong. Empty if the log was begun anew meanwhile.
    Torn(Vec<Problem>),
    NotOpened(OpenError),
    NotWritten(io::Error),
}

/// What is known of a journal while no copy of it was whole.
struct Seen {
    /// At the last check a client may have had it open.
    may_change: bool,
    calm_tries: u32,
}

impl Seen {
    /// Called after each torn copy: whether the journal is damaged.
    fn is_damage(&mut self, may_change: bool, problems: &[Problem]) -> bool {
        let could_change = mem::replace(&mut self.may_change, may_change);
        // If nothing was found wrong, the log was begun anew, so a client was there.
        let is_calm = !could_change && !may_change && !problems.is_empty();
        self.calm_tries = if is_calm { self.calm_tries + 1 } else { 0 };
        self.calm_tries == CALM_TRIES
    }
}

struct Task<'a> {
    journal: &'a Path,
    to: &'a Path,
}

impl Task<'_> {
    /// Checks that none of its names is taken, and that its directory exists.
    fn is_free(&self) -> Result<(), BackUpError> {
        if let Some(journal) = files::part_of(self.to) {
            return Err(BackUpError::PartOf { to: self.to.to_owned(), journal });
        }
        for suffix in SUFFIXES {
            let file = files::beside(self.to, suffix);
            if file.symlink_metadata().is_ok() {
                return Err(BackUpError::Exists { file });
            }
        }
        if files::directory(self.to).is_dir() {
            Ok(())
        } else {
            Err(BackUpError::NoDirectory { to: self.to.to_owned() })
        }
    }

    fn whole(&self, lock: MayLock) -> Result<Whole, BackUpError> {
        let journal = || self.journal.to_owned();
        let not_opened = |source| BackUpError::NotOpened { journal: journal(), source };
        let (mut seen, mut last) = (Seen { may_change: true, calm_tries: 0 }, Vec::new());
        for _ in 0..TRIES {
            let problems = match self.take() {
                Ok(whole) => return Ok(whole),
                Err(Unfit::Torn(problems)) => problems,
                Err(Unfit::NotOpened(why)) => return Err(not_opened(why)),
                Err(Unfit::NotWritten(why)) => return Err(self.not_written(why)),
            };
            if seen.is_damage(self.may_change(lock).map_err(not_opened)?, &problems) {
                return Err(BackUpError::Damaged { journal: journal(), problems });
            }
            if !problems.is_empty() {
                last = problems;
            }
        }
        Err(BackUpError::Torn { journal: journal(), tries: TRIES, problems: last })
    }

    /// Whether the journal may change while it is copied: a client has it open, or that cannot be found out.
    fn may_change(&self, lock: MayLock) -> Result<bool, OpenError> {
        if lock == MayLock::Never {
            return Ok(true);
        }
        match SqliteStore::open_read_only(self.journal) {
            Ok(_) => Ok(false),
            // Without write access the lock cannot be requested, though reading is possible.
            Err(OpenError::Locked { .. } | OpenError::ReadOnly | OpenError::ReadOnlyUnclosed) => Ok(true),
            Err(why) => Err(why),
        }
    }

    /// Copies the files once.
    fn take(&self) -> Result<Whole, Unfit> {
        files::prepare(self.journal, Access::Read).map_err(Unfit::NotOpened)?;
        let home = files::private(".steadfast-", files::directory(self.to)).map_err(Unfit::NotWritten)?;
        let staged = home.path().join("journal");
        match copy::take(self.journal, &staged) {
            Ok(true) => {}
            Ok(false) => return Err(Unfit::Torn(Vec::new())),
            Err(OpenError::NotCopied(why)) => return Err(Unfit::NotWritten(why)),
            Err(why) => return Err(Unfit::NotOpened(why)),
        }
        let (operations, watermark, has_mark) = close(&staged)?;
        let mark = has_mark.then(|| files::beside(self.to, "-mark"));
        Ok(Whole { home, backup: Backup { operations, watermark, mark } })
    }

    /// Gives the files their final names.
    fn name(&self, whole: Whole) -> Result<Backup, BackUpError> {
        let Whole { home, backup } = whole;
        let name = |staged: &str, place: &Path| {
            let staged = TempPath::try_from_path(home.path().join(staged)).map_err(|why| self.not_written(why))?;
            staged.persist_noclobber(place).map_err(|failed| match failed.error.kind() {
                ErrorKind::AlreadyExists => BackUpError::Exists { file: place.to_owned() },
                _ => self.not_written(failed.error),
            })
        };
        if let Some(mark) = &backup.mark {
            name("journal-mark", mark)?;
        }
        let named = name("journal", self.to).and_then(|()| {
            // A name that a crash could undo is not durable.
            files::sync_directory(self.to).map_err(|why| {
                let _ = fs::remove_file(self.to);
                self.not_written(why)
            })
        });
        if let (Err(_), Some(mark)) = (&named, &backup.mark) {
            // A mark alone would say that its journal was lost.
            let _ = fs::remove_file(mark);
        }
        named.map(|()| backup)
    }

    fn not_written(&self, source: io::Error) -> BackUpError {
        BackUpError::NotWritten { to: self.to.to_owned(), source }
    }
}

/// Verifies a copy, and makes it one file. Returns how many operations there are, how far it had come, and whether its
/// mark vouches for that.
fn close(staged: &Path) -> Result<(u64, Watermark, bool), Unfit> {
    let unfit = |why| match why {
        OpenError::Damaged(damage) => {
            Unfit::Torn(vec![Problem { what: damage.to_string(), advice: damage.0.advice() }])
        }
        OpenError::Io(why) | OpenError::MarkUnusable { source: why, .. } => Unfit::NotWritten(why),
        // For example, there is no room.
        why @ (OpenError::Sqlite(_) | OpenError::LongPath { .. }) => Unfit::NotWritten(io::Error::other(why)),
        why => Unfit::NotOpened(why),
    };
    // Read-only first, since opening to write would turn an empty file into a new journal, and migrate an old one.
    let has_mark = SqliteStore::open_read_only(staged).map_err(unfit)?.mark.state() == Mark::Whole;
    let mut store = SqliteStore::open_backup(staged).map_err(unfit)?;
    let report = store.verify().map_err(|why| Unfit::NotWritten(io::Error::other(why)))?;
    if !report.problems.is_empty() {
        return Err(Unfit::Torn(report.problems));
    }
    // Verified, so its log is brought in as it is closed.
    files::leave_log(&store.connection, false).map_err(|why| unfit(OpenError::sqlite(why)))?;
    let (operations, watermark) = (store.count(), store.watermark());
    drop(store);
    on_disk(staged, has_mark.then_some(&watermark)).map_err(Unfit::NotWritten)?;
    Ok((operations, watermark, has_mark))
}

fn on_disk(staged: &Path, watermark: Option<&Watermark>) -> io::Result<()> {
    if files::beside(staged, "-wal").exists() {
        return Err(io::Error::other("its log could not be brought into the file: is there no room?"));
    }
    // Windows syncs only files that are open for writing.
    let sync = |file: &Path| OpenOptions::new().write(true).open(file)?.sync_all();
    if let Some(watermark) = watermark {
        let mark = files::beside(staged, "-mark");
        // The copied mark may be a little behind.
        fs::write(&mark, Said { watermark: *watermark, is_backup: true }.to_bytes())?;
        sync(&mark)?;
    }
    sync(staged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_twice_while_nobody_has_it_open_is_damage() {
        let wrong = [Problem { what: "a row".to_owned(), advice: "" }];
        let after = |tries: &[(bool, &[Problem])]| -> Vec<bool> {
            let mut seen = Seen { may_change: true, calm_tries: 0 };
            tries.iter().map(|(may_change, problems)| seen.is_damage(*may_change, problems)).collect()
        };
        let (open, closed) = ((true, &wrong[..]), (false, &wrong[..]));
        // A client that has just closed may have torn the first copy, and one that comes and goes may tear any of them.
        assert_eq!(after(&[closed, closed, closed]), [false, false, true]);
        assert_eq!(after(&[closed, closed, open, closed, closed, closed]), [false, false, false, false, false, true]);
        assert_eq!(after(&[closed, closed, (false, &[]), closed, closed]), [false, false, false, false, true]);
        assert_eq!(after(&[open; 20]), [false; 20]);
    }

    #[test]
    fn what_came_meanwhile_is_not_overwritten_and_no_mark_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let [journal, to] = ["journal", "backup"].map(|name| home.path().join(name));
        drop(SqliteStore::open(&journal).unwrap());
        for suffix in ["", "-mark"] {
            let task = Task { journal: &journal, to: &to };
            let whole = task.whole(MayLock::IfTorn).unwrap();
            let came = files::beside(&to, suffix);
            fs::write(&came, "somebody's").unwrap();
            let error = task.name(whole).unwrap_err();
            assert!(matches!(&error, BackUpError::Exists { file } if *file == came), "{error:?}");
            assert_eq!(fs::read_to_string(&came).unwrap(), "somebody's");
            fs::remove_file(came).unwrap();
            // The journal and its mark.
            assert_eq!(fs::read_dir(home.path()).unwrap().count(), 2);
        }
    }
}
