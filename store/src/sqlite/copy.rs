//! Copies a journal that is in use: to look at it, or to keep it (`sqlite/backup.rs`).
//!
//! A client keeps its journal locked, and goes on writing while the files are copied: the copy may be *torn*, made of
//! pages of different moments. That is not prevented but detected, by the same checks that find damage:
//!
//! - `FILE-mark` is copied first, then the file, then its log. The mark only ever names commits that were durable
//!   before it was written, so a copy that ends before its mark has lost something, and is thrown away. Otherwise the
//!   copy is at least as new as the moment at which copying began.
//! - Every row of the copy is hashed, and the head row holds the number of rows and the sum of their hashes. A row half
//!   old and half new does not match its hash; whole rows of different moments do not match the head's sum; a head of
//!   two moments does not match its checksum. So the rows of a copy that opens are exactly those of one commit.
//! - SQLite's `integrity_check` finds an index or a free list that is torn.
//!
//! A database tool that was killed may have left a rollback journal, `FILE-journal`, without which the file is not whole:
//! whoever opens it next goes back by it. So it is copied too, before the file: if somebody goes back meanwhile, the
//! copy goes back as well, to the same.
//!
//! A torn copy is thrown away and another taken. Most are whole at the first try: while the log only grows, everything
//! that the file's pages lack is in it, and its unfinished end is ignored. A copy is torn if the log was begun anew
//! meanwhile, which its header shows; that is checked first, since it is cheap.
//!
//! **Never within the process that holds the file.** Its locks are POSIX locks: they belong to the process, and closing
//! any handle of the file, even a read-only one, releases all of them. So each store notes which file it holds, and
//! copying such a file is refused.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::error::{Damage, OpenError};
use super::files::{self, Access, FileId};
use super::mark::{Mark, MarkFile};
use super::{SqliteStore, scan};

/// The most copies that are taken until one is whole.
pub(super) const TRIES: u32 = 20;

/// How often a note is checked, a millisecond apart, before it is believed.
const LOOKS: u32 = 200;

/// The length of a log's header, whose salts change whenever the log is begun anew.
const LOG_HEADER: usize = 32;

/// What a rollback journal begins with that is to be gone back by.
const ROLLBACK: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// The journals that this process has open.
static HELD: Mutex<Vec<FileId>> = Mutex::new(Vec::new());

/// A note in [`HELD`], for as long as it lives.
#[derive(Debug)]
pub(super) struct Held(Option<FileId>);

impl Held {
    /// Whether the file at this path is the one that is held.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        files::is_at(path, self.0.as_ref())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = held.iter().position(|id| Some(id) == self.0.as_ref()) {
            held.swap_remove(place);
        }
    }
}

/// Opens a journal while no copy of it is under way, and notes that it is held.
pub(super) fn holding<T>(path: &Path, open: impl FnOnce() -> Result<T, OpenError>) -> Result<(T, Held), OpenError> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    let is_held = files::id(path).is_ok_and(|id| held.contains(&id));
    let opened = open().map_err(|why| if is_held { why } else { files::or_denied(path, why) })?;
    let id = files::id(path).ok();
    held.extend(id.iter().cloned());
    Ok((opened, Held(id)))
}

impl SqliteStore {
    /// Opens a copy of a journal, to look into it while another process has it open. The copy is read-only, whole, and
    /// not older than the moment of this call; it needs as much room in the directory for temporary files (`TMPDIR`) as
    /// the journal does, and as long as it takes to [`load`](crate::Store::load) it.
    ///
    /// It lies in a directory that only its owner can enter, and is removed once it is open (on Windows, once this
    /// store is dropped). A process that is killed while it copies leaves it behind.
    ///
    /// ```
    /// use steadfast_store::sqlite::{OpenError, SqliteStore};
    ///
    /// fn look(path: &str) -> Result<SqliteStore, OpenError> {
    ///     match SqliteStore::open_read_only(path) {
    ///         Err(OpenError::Locked { .. }) => SqliteStore::open_copy(path),
    ///         other => other,
    ///     }
    /// }
    /// # assert!(matches!(look("/nonexistent/journal"), Err(OpenError::Missing)));
    /// ```
    ///
    /// # Errors
    /// [`OpenError::HeldHere`] if this process itself has the journal open: then ask its store. [`OpenError::Torn`] if
    /// no copy was whole. [`OpenError::NotCopied`] if there is no room. Otherwise as
    /// [`open_read_only`](SqliteStore::open_read_only).
    pub fn open_copy(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        files::prepare(path, Access::Read)?;
        let mut why = None;
        for _ in 0..TRIES {
            let home = files::private("steadfast-", &env::temp_dir()).map_err(OpenError::NotCopied)?;
            let copy = home.path().join("journal");
            if !take(path, &copy)? {
                continue;
            }
            match Self::open_whole(&copy, home) {
                Err(OpenError::Damaged(damage)) => why = Some(damage),
                other => return other,
            }
        }
        Err(OpenError::Torn { tries: TRIES, source: why })
    }

    fn open_whole(copy: &Path, home: TempDir) -> Result<Self, OpenError> {
        let mut store = Self::open_for(copy, Access::Read, false)?;
        if cfg!(unix) {
            // On Unix open files stay readable after their removal, so from now on nothing is left behind whatever
            // happens.
            drop(home);
        } else {
            store._copy = Some(home);
        }
        let mut broken = false;
        store.integrity(|_| broken = true)?;
        if broken {
            return Err(Damage::Structure.into());
        }
        store.places = Some(scan::rows(&store.connection, &mut store.reader, &store.head, |_| {})?);
        Ok(store)
    }
}

/// Copies the files of a journal in the right order to `copy` and the names beside it. Returns whether the log is still
/// the one that it was; if so, a copy that opens and is whole shows the journal at one moment. [`OpenError::NotCopied`]
/// is about the copy, any other error about the journal.
pub(super) fn take(path: &Path, copy: &Path) -> Result<bool, OpenError> {
    let held = unless_held(path)?;
    let (mark, log) = (files::beside(path, "-mark"), files::beside(path, "-wal"));
    // A mark that is being written at this moment may be half old and half new; one that stays unreadable says nothing.
    let mut read = MarkFile::read(&mark)?;
    for _ in 0..2 {
        if read == Err(Mark::Unreadable) {
            read = MarkFile::read(&mark)?;
        }
    }
    let copied = match read {
        Ok(mark) => fs::write(files::beside(copy, "-mark"), mark.to_bytes()),
        // The copy's mark is then unreadable as well, as the journal's is.
        Err(Mark::Unreadable) => fs::write(files::beside(copy, "-mark"), []),
        Err(_) => Ok(()),
    };
    copied.map_err(OpenError::NotCopied)?;
    let before = header(&log)?;
    if let Some(mut back) = rollback(&files::beside(path, "-journal"), &held)? {
        put(&mut back, &files::beside(copy, "-journal"))?;
    }
    put(&mut File::open(path)?, copy)?;
    if let Some(mut log) = opened(&log)? {
        put(&mut log, &files::beside(copy, "-wal"))?;
    }
    drop(held);
    Ok(before == header(&files::beside(copy, "-wal"))? && before == header(&log)?)
}

/// Checks that this process does not hold the file at this path. While the returned guard lives, no journal is opened
/// or closed.
///
/// A store closes its file first and removes its note then. If the file had been removed, another file may have got its
/// number in between: so a note that is found is checked again for a while. The note of a file that is really held
/// stays.
fn unless_held(path: &Path) -> Result<MutexGuard<'static, Vec<FileId>>, OpenError> {
    let id = files::id(path)?;
    for _ in 0..LOOKS {
        let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.contains(&id) {
            return Ok(held);
        }
        drop(held);
        thread::sleep(Duration::from_millis(1));
    }
    Err(OpenError::HeldHere)
}

fn opened(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// The rollback journal at this path, if that is what is there: another journal of ours may have this name. If this
/// process holds that one, it is not even opened: to close it would release its lock.
fn rollback(path: &Path, held: &[FileId]) -> io::Result<Option<File>> {
    if files::id(path).is_ok_and(|id| held.contains(&id)) {
        return Ok(None);
    }
    let Some(mut file) = opened(path)? else { return Ok(None) };
    let mut begin = Vec::with_capacity(ROLLBACK.len());
    (&mut file).take(ROLLBACK.len() as u64).read_to_end(&mut begin)?;
    file.rewind()?;
    Ok(Some(file).filter(|_| begin == ROLLBACK))
}

fn header(log: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(LOG_HEADER);
    if let Some(log) = opened(log)? {
        log.take(LOG_HEADER as u64).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn put(from: &mut File, to: &Path) -> Result<(), OpenError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let copied = options.open(to).and_then(|mut to| io::copy(from, &mut to));
    copied.map(drop).map_err(OpenError::NotCopied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_outlives_its_file_for_a_moment_is_not_the_next_ones() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("journal");
        drop(SqliteStore::open(&path).unwrap());
        let ((), note) = holding(&path, || Ok(())).unwrap();
        // As if its store had closed the file just now, on another thread.
        let goes = thread::spawn(move || drop(note));
        assert!(unless_held(&path).is_ok());
        goes.join().unwrap();
        let ((), _note) = holding(&path, || Ok(())).unwrap();
        assert!(matches!(unless_held(&path), Err(OpenError::HeldHere)));
    }
}
