//! A backup: a copy of a journal that a client can begin from, taken whether another process has the journal open or not.
//!
//! Copied as for a look, and torn copies are thrown away here too (`sqlite/copy.rs`). What is kept for later has to be more than whole for now:
//!
//! - Everything in it is verified, and told if it is not what was written. Then its log is brought into it, so that it is one file with its mark.
//! - It is made in a directory of its own beside its place. What is whole and on disk gets its names, the journal's own last, so what has that
//!   name is whole. Nothing is overwritten, and of what fails nothing is left.
//! - A journal that is damaged is told from one that changes too fast: what is not whole again and again while nobody has the journal open is damaged. To see
//!   that nobody has takes its lock for a moment, and a client that starts at that moment is refused. So it is not asked for until a copy was torn,
//!   and who must never keep a client out says so ([`MayLock`]).

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

/// So many that are not whole while nobody has the journal open are damage: a client that came and went can only be behind one.
const CALM_TRIES: u32 = 2;

/// What SQLite would take for a part of the backup.
const SUFFIXES: [&str; 5] = ["", "-mark", "-wal", "-journal", "-shm"];

/// Whether [`SqliteStore::back_up`] may take the journal's lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MayLock {
    /// For a moment after each copy that was not whole, to tell a damaged journal from one that changes too fast. A client that opens it at that very moment
    /// is refused with [`OpenError::Locked`].
    #[default]
    IfTorn,
    /// In no case. A damaged journal is copied as often as one that changes too fast, and is not told from it.
    Never,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// How many operations it holds.
    pub operations: u64,
    /// How far the journal had come. Who keeps it elsewhere can tell with [`check_watermark`](SqliteStore::check_watermark) which backup a file is.
    pub watermark: Watermark,
    /// Its mark, beside it. `None` if the journal had none that could testify: then nothing tells whether its newest records are missing, and
    /// only [`open_backup`](SqliteStore::open_backup) opens the backup to write.
    pub mark: Option<PathBuf>,
}

/// Why no backup was made. Nothing is left of what was begun, and what was there before is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackUpError {
    /// The journal cannot be read, or is none. [`OpenError::HeldHere`] if this process has it open itself; [`OpenError::Damaged`] if so much is damaged that
    /// it does not even open.
    #[error("{} could not be backed up: it cannot be opened as a journal", journal.display())]
    NotOpened {
        /// What was to be backed up.
        journal: PathBuf,
        /// Why, and what to do.
        source: OpenError,
    },
    /// The journal is not what was written. It was looked at more than once while nobody had it open.
    #[error(
        "{} is damaged ({}), and was not backed up: to keep what is left, copy it with its -wal and -mark as they are",
        journal.display(), problems.first().map_or("not whole", |first| &first.what)
    )]
    Damaged {
        /// What was to be backed up.
        journal: PathBuf,
        /// What is wrong with it, as [`verify`](SqliteStore::verify) tells it.
        problems: Vec<Problem>,
    },
    /// Each copy was made of pages of different moments, or the journal is damaged: with [`MayLock::Never`] nobody can tell.
    #[error(
        "none of {tries} copies of {} was whole: its client changes it faster than it is copied, or it is damaged; name a file on a \
         faster disk, or stop its client and copy again", journal.display()
    )]
    Torn {
        /// What was to be backed up.
        journal: PathBuf,
        /// How many copies were taken.
        tries: u32,
        /// What was wrong with the last one that was looked at; the same each time is likely to be damage.
        problems: Vec<Problem>,
    },
    /// There is such a file, or one that would be taken for a part of the backup.
    #[error("{} exists already, and is left as it is: name a new file", file.display())]
    Exists {
        /// What is there.
        file: PathBuf,
    },
    /// The directory in which the backup is to be does not exist.
    #[error("{} cannot be made: there is no such directory: make it first, or name another file", to.display())]
    NoDirectory {
        /// What was to be made.
        to: PathBuf,
    },
    /// It would lie where a journal has its log or its mark, be taken for that, and go with it.
    #[error("{} would be taken for a part of the journal {}: name another file", to.display(), journal.display())]
    PartOf {
        /// What was to be made.
        to: PathBuf,
        /// What it would belong to.
        journal: PathBuf,
    },
    /// There is no room, or its directory cannot be written to.
    #[error(
        "{} could not be written, and nothing is left of it: name a file in a directory with room for it, and with write access",
        to.display()
    )]
    NotWritten {
        /// What was to be made.
        to: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SqliteStore {
    /// Makes a backup of the journal at `path`, whether another process has it open or nobody: the file `to`, which must not exist yet, in a directory that
    /// does, and its mark `to-mark`.
    ///
    /// When this returns, the backup is on disk, every row of it was verified with the chain, the head and SQLite's own structures, and nothing is
    /// missing that was durable at the moment of this call (without a `FILE-mark` nothing can tell that). Only its owner can read it. It is what the
    /// journal was: payloads and answers that are kept are in it, sealed if they were.
    ///
    /// It takes as much room beside `to` as the journal and its log do, and as long as to copy and [`verify`](SqliteStore::verify) them; a copy that is
    /// not whole, since the journal changed meanwhile, is taken again, up to 20 times. While a copy is being taken, this process can neither open nor close
    /// another journal. Its unfinished files lie in a directory `.steadfast-…` beside `to`, which is left behind only by a process that is killed. One that is
    /// killed at the very end may leave `to-mark` as well: alone it is nothing, and can be removed.
    ///
    /// To go on from a backup, put it and its mark in the journal's place, remove the old `FILE-wal` (and `FILE-mark`, if the backup has none), and open
    /// it with [`open`](SqliteStore::open) (without a mark with [`open_backup`](SqliteStore::open_backup)). What the backup calls *planned* may have been sent
    /// meanwhile: it knows that it is one ([`Store::is_backup`](crate::Store::is_backup)), and the first client that starts on it takes that for sent.
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
    /// See [`BackUpError`]: in particular this process itself has the journal open ([`OpenError::HeldHere`]; call this from another one), it is
    /// damaged, or `to` exists.
    pub fn back_up(path: impl AsRef<Path>, to: impl AsRef<Path>, lock: MayLock) -> Result<Backup, BackUpError> {
        let task = Task { journal: path.as_ref(), to: to.as_ref() };
        task.is_free()?;
        task.name(task.whole(lock)?)
    }
}

/// A copy that was verified, closed and not yet given its name.
struct Whole {
    home: TempDir,
    backup: Backup,
}

/// Why a copy is not one.
enum Unfit {
    /// Pages of different moments, or damage: what is wrong. Nothing if the log was begun anew meanwhile.
    Torn(Vec<Problem>),
    NotOpened(OpenError),
    NotWritten(io::Error),
}

/// What was seen of a journal while no copy of it was whole.
struct Seen {
    /// A client may have had it open when it was looked for last.
    may_change: bool,
    calm_tries: u32,
}

impl Seen {
    /// After each copy that was not whole: whether that is because the journal is damaged.
    fn is_damage(&mut self, may_change: bool, problems: &[Problem]) -> bool {
        let could_change = mem::replace(&mut self.may_change, may_change);
        // Where nothing was found wrong, its log was begun anew, and somebody did that.
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
    /// That nothing has its names, and that there is a place for them.
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

    /// Whether the journal may change while it is copied: a client has it open, or nobody can tell.
    fn may_change(&self, lock: MayLock) -> Result<bool, OpenError> {
        if lock == MayLock::Never {
            return Ok(true);
        }
        match SqliteStore::open_read_only(self.journal) {
            Ok(_) => Ok(false),
            // Without write access there is no lock to ask for, and to read is enough.
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

    /// Gives the files their names.
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
            // What a crash could undo is not written.
            files::sync_directory(self.to).map_err(|why| {
                let _ = fs::remove_file(self.to);
                self.not_written(why)
            })
        });
        if let (Err(_), Some(mark)) = (&named, &backup.mark) {
            // Alone it would say that its journal was lost.
            let _ = fs::remove_file(mark);
        }
        named.map(|()| backup)
    }

    fn not_written(&self, source: io::Error) -> BackUpError {
        BackUpError::NotWritten { to: self.to.to_owned(), source }
    }
}

/// Verifies a copy, and makes one file of it. How many operations there are, how far it had come, and whether its mark says so.
fn close(staged: &Path) -> Result<(u64, Watermark, bool), Unfit> {
    let unfit = |why| match why {
        OpenError::Damaged(damage) => {
            Unfit::Torn(vec![Problem { what: damage.to_string(), advice: damage.0.advice() }])
        }
        OpenError::Io(why) | OpenError::MarkUnusable { source: why, .. } => Unfit::NotWritten(why),
        // There is no room, say.
        why @ (OpenError::Sqlite(_) | OpenError::LongPath { .. }) => Unfit::NotWritten(io::Error::other(why)),
        why => Unfit::NotOpened(why),
    };
    // First so, since who opens to write would make a journal of an empty file, and a new one of an old one.
    let has_mark = SqliteStore::open_read_only(staged).map_err(unfit)?.mark.state() == Mark::Whole;
    let mut store = SqliteStore::open_backup(staged).map_err(unfit)?;
    let report = store.verify().map_err(|why| Unfit::NotWritten(io::Error::other(why)))?;
    if !report.problems.is_empty() {
        return Err(Unfit::Torn(report.problems));
    }
    // What is whole is tidied up as it is closed.
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
    // Windows syncs only what is open to be written.
    let sync = |file: &Path| OpenOptions::new().write(true).open(file)?.sync_all();
    if let Some(watermark) = watermark {
        let mark = files::beside(staged, "-mark");
        // What was copied may be a little behind.
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
        // A client that has just gone may have torn the first, and one that comes and goes any one of them.
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
