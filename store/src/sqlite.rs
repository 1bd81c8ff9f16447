//! Records in one SQLite file, with its log and its mark beside it: `FILE`, `FILE-wal` and `FILE-mark` belong together,
//! also in a copy.
//!
//! SQLite because its crash safety is the best tested there is, and because the file can be queried: `operations` is a
//! view with readable columns, which any SQLite tool shows while no client has the file open
//! ([`open_copy`](SqliteStore::open_copy) shows it at any time, and [`back_up`](SqliteStore::back_up) makes a copy to
//! keep). The version is bundled, since older ones can lose data.
//!
//! SQLite alone does not guarantee that a file still says what was written: a flipped bit in a page is returned as it
//! is, and one in its log silently cuts off all later records. So
//!
//! - every row has a sequence number, the hash of the record before it, and a hash over itself and both
//!   (`sqlite/body.rs`);
//! - a head row holds the end of the chain, the number of rows and the sum of their hashes, and is updated in the same
//!   transaction as the rows (`sqlite/head.rs`): a row that is missing, altered, older than it should be, or not ours,
//!   is found;
//! - how far the journal has come is also written to a file beside it, `FILE-mark` (`sqlite/mark.rs`): a log that lost
//!   its end is found.
//!
//! All of that is verified by [`load`](Store::load) and [`load_live`](Store::load_live), or before the first other
//! operation; single rows again each time they are read. Rows are read one by one: rows that are verified but not asked
//! for, such as delivered answers, are not kept in memory.
//!
//! One [`append`](Store::append) is one transaction with one sync (`journal_mode=WAL`, `synchronous=FULL`). A commit
//! whose pages could not be written, as on a full disk, has certainly failed: the page that ends it comes last. If the
//! sync failed, all of them may be in the log, and a crash could still bring them back. So before anything else a small
//! commit is made in their place: once that one is durable, the content of the file is certain again; until then
//! [`StoreError::is_certain`] is false (`settle`).
//!
//! The file is locked for as long as the store lives (`locking_mode=EXCLUSIVE`): another opener is refused at once. If
//! the lock is lost, the mark is the fence: a store that finds that another has written since, or that an older copy
//! was put over the file, changes nothing. Only the owner can read the file and those beside it. Removed payloads are
//! overwritten (`secure_delete`), though the log may hold them until it is next reused. Not detected: a network file
//! system, whose locks and syncs may not do what they report; keep the file on a local disk.

mod backup;
mod body;
mod browse;
mod columns;
mod copy;
mod error;
mod files;
mod head;
mod iso;
mod lengths;
mod mark;
mod places;
mod purge;
mod reach;
mod row;
mod scan;
mod schema;
#[cfg(test)]
mod tests;
mod verify;
mod view;
mod work;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use steadfast_core::{Key, Timestamp};
use tempfile::TempDir;

use self::copy::Held;
use self::error::{Damage, Fault};
use self::files::{Access, Release};
use self::head::Head;
use self::lengths::Lengths;
use self::mark::MarkFile;
use self::places::Places;
use self::row::Reader;
use self::work::{Changes, Work};
use self::write::{Recent, Writer};
use crate::{Entry, Store, StoreError};

pub use self::backup::{BackUpError, Backup, MayLock};
pub use self::browse::{Order, Stored};
pub use self::error::{DamageError, OpenError};
pub use self::files::part_of;
pub use self::iso::iso8601;
pub use self::mark::{Mark, Watermark};
pub use self::purge::Purge;
pub use self::verify::{Problem, Report, UnresolvedOperation};

/// Keeps records in one SQLite file, `FILE`. Its log `FILE-wal` and its mark `FILE-mark` belong to it: for a valid
/// copy, either copy all three while nobody has the file open, or use [`back_up`](SqliteStore::back_up) at any time, from
/// a process that does not have it open.
///
/// ```
/// use std::sync::Arc;
///
/// use steadfast_store::{Entry, SqliteStore, Store};
/// # use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Seed, Timestamp};
/// # let (policy, mut gate, now) = (OperationPolicy::default(), Gate::unlimited(), Timestamp::from_secs(1));
/// # let turn = &mut policy.turn(now, &mut gate);
/// # let job = Operation::new(Key::new("order-42")?, Fingerprint::new([0; 16]), Seed::new(7), turn);
/// # let path = std::env::temp_dir().join(format!("steadfast-doc-{}.db", std::process::id()));
///
/// let mut store = SqliteStore::open(&path)?;
/// let entry = Entry::new(job.record(), Arc::from("deepvue"), now);
/// store.append(&[entry.clone()])?;
/// drop(store);
/// assert_eq!(SqliteStore::open(&path)?.load()?, [entry]);
/// # for suffix in ["", "-mark"] { std::fs::remove_file(format!("{}{suffix}", path.display()))?; }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SqliteStore {
    connection: Connection,
    path: PathBuf,
    mark: MarkFile,
    head: Head,
    reader: Reader,
    access: Access,
    /// Where each key's row is; set once all rows are verified.
    places: Option<Places>,
    /// The damage that verification found. SQLite checks a page's structure only when it first reads it, so another
    /// look might find nothing.
    damage: Option<Damage>,
    recent: Recent,
    /// A commit failed, and after a crash the file may have either of these heads.
    doubt: Option<Doubt>,
    /// A commit that was reported as uncertain turned out to be durable; its writer will append the same again.
    repeated: bool,
    /// The last change found no room for its pages.
    lacks_room: bool,
    /// The log was brought into the file to make room, and no commit has succeeded since.
    was_relieved: bool,
    lengths: Lengths,
    /// [`files::LONGEST_LOG`], if no test has set another.
    longest_log: u64,
    /// Declared after the connection, so dropped after it: the note that this process holds the file.
    held: Held,
    /// Declared after the connection, so dropped after it: the directory of the files, if they are a copy.
    _copy: Option<TempDir>,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    before: Head,
    after: Head,
}

impl SqliteStore {
    /// Opens a journal, and creates it if there is none. Its directory must exist.
    ///
    /// # Errors
    /// See [`OpenError`]. In particular, another process has it open ([`OpenError::Locked`], at once), it is damaged,
    /// or its mark is missing ([`OpenError::Unmarked`]), so that it cannot be told whether its newest records are lost.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_for(path.as_ref(), Access::Write, false)
    }

    /// Opens a journal as [`open`](SqliteStore::open) does, but also without its mark: use it for a copy that was put
    /// back, and that may lack the newest records. The first record written creates the mark anew. The next client that
    /// starts on it treats every operation that the journal calls *planned* as possibly sent, even if this process dies
    /// before that ([`Store::is_backup`]).
    ///
    /// # Errors
    /// As [`open`](SqliteStore::open), but never [`OpenError::Unmarked`]; and [`OpenError::Missing`] if there is no
    /// journal, since a backup should be there. A mark that is there and whole still counts: a journal that ends before
    /// its mark is refused.
    pub fn open_backup(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_for(path.as_ref(), Access::Write, true)
    }

    /// Opens a journal to look into it. Nothing is written, not even what an unclosed journal would need to be tidied
    /// up; it is locked all the same, so that it does not change while it is read.
    ///
    /// # Errors
    /// As [`open`](SqliteStore::open), and [`OpenError::Missing`] if there is no journal, or if the process that made
    /// it was killed before anything could be kept in it. For a journal that is in use, see
    /// [`open_copy`](SqliteStore::open_copy).
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_for(path.as_ref(), Access::Read, false)
    }

    fn open_for(path: &Path, access: Access, is_backup: bool) -> Result<Self, OpenError> {
        Self::open_by(&Release::this(), path, access, is_backup).map_err(|error| error.at(path))
    }

    fn open_by(release: &Release, path: &Path, access: Access, is_backup: bool) -> Result<Self, OpenError> {
        let path = files::absolute(path)?;
        files::is_no_part(&path)?;
        if is_backup && std::fs::metadata(&path).map_or(0, |found| found.len()) == 0 {
            return Err(OpenError::Missing);
        }
        let ((connection, head, mark), held) = copy::holding(&path, || {
            let connection = files::open(&path, access, release)?;
            let head = Head::read(&connection)?;
            let mark = MarkFile::of(&path, access, is_backup, &connection, &head)?;
            if access == Access::Write {
                files::take_over(&path, &connection)?;
            }
            Ok((connection, head, mark))
        })?;
        let (reader, places, recent) = (Reader::default(), None, Recent::default());
        let (lengths, damage, doubt, repeated, _copy) = (Lengths::of(&path), None, None, false, None);
        Ok(Self {
            connection,
            path,
            mark,
            head,
            reader,
            access,
            places,
            damage,
            recent,
            doubt,
            repeated,
            lacks_room: false,
            was_relieved: false,
            lengths,
            longest_log: files::LONGEST_LOG,
            held,
            _copy,
        })
    }

    /// How far the journal has come. Keep it in another place to detect later, with
    /// [`check_watermark`](SqliteStore::check_watermark), that the journal was replaced by an older copy of itself.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.head.watermark()
    }

    /// Checks that this is the journal that had come as far as `mark`, and that it has lost nothing since.
    ///
    /// # Errors
    /// It is another journal, or an older copy.
    pub fn check_watermark(&mut self, mark: &Watermark) -> Result<(), StoreError> {
        self.settle().map_err(Fault::reading)?;
        mark.holds(&self.head.watermark()).map_err(|damage| Fault::from(damage).reading())
    }

    /// Runs one transaction that changes rows and head together; an error says whether anything may have changed.
    ///
    /// If there is no room for its pages, the log is brought into the file and the transaction is tried once more: it
    /// then overwrites the log from its beginning, which may need no new room. If that does not help, it is not done
    /// again until a commit succeeds, since it can mean writing megabytes for each refused commit.
    fn change<T>(&mut self, mut work: impl FnMut(&mut Work<'_>) -> Result<T, Fault>) -> Result<T, StoreError> {
        self.lacks_room = false;
        let mut changed = self.try_change(&mut work);
        if self.lacks_room && !std::mem::replace(&mut self.was_relieved, true) && self.empty_log() {
            changed = self.try_change(&mut work);
        }
        self.was_relieved &= changed.is_err();
        changed
    }

    fn try_change<T>(&mut self, work: impl FnOnce(&mut Work<'_>) -> Result<T, Fault>) -> Result<T, StoreError> {
        if self.access == Access::Read {
            return Err(StoreError::write("it was opened read-only").advising("open it for writing"));
        }
        self.is_ours().map_err(|fault| {
            let in_doubt = self.doubt.is_some() || self.repeated;
            if in_doubt { fault.unsure() } else { fault.writing() }
        })?;
        // The entries may be in the file already, if they are those of the commit in doubt.
        self.settle().map_err(Fault::unsure)?;
        let failed = if self.repeated { Fault::unsure } else { Fault::writing };
        self.shorten_log().map_err(failed)?;
        let before = self.head;
        let mut places = self.verified().map_err(failed)?;
        if let Err(error) = self.mark.catch_up(&before.watermark()) {
            self.places = Some(places);
            return Err(failed(Fault::Mark(error)));
        }
        let connection = &self.connection;
        let (worked, after, changes) = {
            let (reader, recent, writer) = (&mut self.reader, &mut self.recent, Writer::new(connection));
            let (head, places) = (before, &mut places);
            let changes = Changes::default();
            let mut tools = Work { connection, reader, writer, head, places, recent, changes };
            let worked = run(connection, "BEGIN IMMEDIATE").and_then(|()| {
                let result = work(&mut tools)?;
                tools.writer.flush()?;
                tools.head.replace(&before, connection)?;
                Ok(result)
            });
            (worked, tools.head, tools.changes)
        };
        let committed = worked.map(|result| (result, run(connection, "COMMIT")));
        self.lengths.look(&self.path);
        if !matches!(committed, Ok((_, Ok(())))) {
            self.recent.clear();
            // If the roll-back fails, the next transaction cannot begin, and so reports it.
            let _ = connection.execute_batch("ROLLBACK");
        }
        let outcome = match committed {
            Ok((result, Ok(()))) => {
                self.head = after;
                self.mark.write(&after.watermark());
                Ok(result)
            }
            Ok((_, Err(fault))) if fault.is_failed_write() && self.is_still_at(&before) => {
                self.lacks_room = true;
                Err(failed(fault))
            }
            Ok((result, Err(fault))) => {
                self.doubt = Some(Doubt { before, after });
                match self.settle() {
                    Ok(()) if self.head == after => Ok(result),
                    Ok(()) => Err(failed(fault)),
                    // All rows are read again once the doubt is settled.
                    Err(_) => return Err(fault.unsure()),
                }
            }
            Err(fault) => {
                self.lacks_room = fault.is_failed_write();
                Err(failed(fault))
            }
        };
        self.repeated &= outcome.is_err();
        if outcome.is_ok() {
            changes.keep(&mut places)
        } else {
            changes.undo(&mut places)
        }
        self.places = Some(places);
        outcome
    }

    /// Brings the log into the file. Returns whether all of it is there now: then the next commit overwrites the log
    /// instead of being appended to it.
    fn empty_log(&mut self) -> bool {
        let brought = self.is_ours().is_ok().then(|| {
            let ask = "PRAGMA wal_checkpoint(PASSIVE)";
            self.connection.query_row(ask, [], |row| Ok([row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?]))
        });
        self.lengths.look(&self.path);
        matches!(brought, Some(Ok([0, log, brought])) if log > 0 && brought == log)
    }

    /// Brings a log that has grown too long into the file, or says why it cannot be. SQLite does so by itself after a
    /// commit, and keeps the failure to itself: the log would grow for as long as the disk has room for it, and each
    /// commit would try in vain to bring all of it in.
    fn shorten_log(&mut self) -> Result<(), Fault> {
        if self.lengths.log() <= self.longest_log {
            return Ok(());
        }
        let brought = self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        self.lengths.look(&self.path);
        brought.map_err(|error| match Fault::from(error) {
            Fault::Sqlite(error) => Fault::Log(error),
            fault => fault,
        })
    }

    /// Checks that the file is where it was and that nobody else has written to it: if not, nothing may be written any
    /// more, not even when closing.
    fn is_ours(&mut self) -> Result<(), Fault> {
        // The farthest that our own commits may have brought it.
        let known = self.doubt.map_or(self.head, |doubt| doubt.after);
        let damage = if !self.held.is_at(&self.path) {
            Damage::Moved
        } else if let Some(damage) = self.mark.changed_by_another(&known.watermark()) {
            damage
        } else if !self.lengths.are_kept(&self.path) {
            Damage::Cut
        } else {
            return Ok(());
        };
        // The log stays even when we close: the next opener can bring it in.
        files::leave_log(&self.connection, true)?;
        Err(damage.into())
    }

    /// Finds out whether a failed commit is in the file, and makes the answer permanent.
    ///
    /// If the pages of the failed commit are anywhere, they are in the log beyond its end. The next commit is written
    /// over them, so once it is durable they cannot come back.
    fn settle(&mut self) -> Result<(), Fault> {
        let Some(doubt) = self.doubt else { return Ok(()) };
        self.is_ours()?;
        if !self.connection.is_autocommit() {
            run(&self.connection, "ROLLBACK")?;
        }
        let settled = self
            .connection
            .execute_batch("BEGIN IMMEDIATE; UPDATE head SET settled = settled + 1 WHERE one = 1; COMMIT")
            .map_err(Fault::from)
            .and_then(|()| Head::read(&self.connection));
        self.lengths.look(&self.path);
        let head = match settled {
            Ok(head) => head,
            Err(fault) => {
                let _ = self.connection.execute_batch("ROLLBACK");
                return Err(fault);
            }
        };
        if head != doubt.before && head != doubt.after {
            return Err(Damage::Head.into());
        }
        self.doubt = None;
        self.repeated |= head == doubt.after;
        self.head = head;
        self.mark.write(&head.watermark());
        Ok(())
    }

    /// Whether a failed commit was rolled back, as far as SQLite can tell.
    fn is_still_at(&self, before: &Head) -> bool {
        self.connection.is_autocommit() && Head::read(&self.connection).is_ok_and(|head| head == *before)
    }

    /// Where each key's row is. Verifies all rows if that has not been done yet.
    fn verified(&mut self) -> Result<Places, Fault> {
        match self.places.take() {
            Some(places) => Ok(places),
            None => self.scan(|_| {}),
        }
    }

    /// Verifies all rows. A whole journal may be tidied up when it is closed; a damaged one is left untouched.
    fn scan(&mut self, each: impl FnMut(row::Row)) -> Result<Places, Fault> {
        if let Some(damage) = &self.damage {
            return Err(damage.clone().into());
        }
        let places = scan::rows(&self.connection, &mut self.reader, &self.head, each);
        if let Err(Fault::Damage(damage)) = &places {
            self.damage = Some(damage.clone());
        }
        match (&places, self.access) {
            (Ok(_), Access::Write) => {
                files::leave_log(&self.connection, false)?;
                self.mark.note_backup().map_err(Fault::Mark)?;
            }
            (Err(_), _) if files::has_bytes(&self.path, "-wal") => files::leave_log(&self.connection, true)?,
            _ => {}
        }
        places
    }
}

impl Drop for SqliteStore {
    /// Closing normally writes the log back into the file and removes it: not if that could destroy what a person might
    /// still recover.
    fn drop(&mut self) {
        if self.access == Access::Write {
            let _ = self.is_ours();
        }
    }
}

fn run(connection: &Connection, sql: &str) -> Result<(), Fault> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

impl Store for SqliteStore {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.change(|work| entries.iter().try_for_each(|entry| work.append(entry)))
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.settle().map_err(Fault::reading)?;
        let mut entries = Vec::with_capacity(scan::expected(&self.head));
        self.places = Some(self.scan(|row| entries.push(row.entry)).map_err(Fault::reading)?);
        Ok(entries)
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.settle().map_err(Fault::reading)?;
        let mut entries = Vec::new();
        let places = self.scan(|row| entries.extend(Some(row.entry).filter(|entry| !entry.is_delivered())));
        self.places = Some(places.map_err(Fault::reading)?);
        Ok(entries)
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let places = self.settle().and_then(|()| self.verified()).map_err(Fault::reading)?;
        let row = self.reader.find(&self.connection, &places, key);
        self.places = Some(places);
        row.map(|row| row.map(|row| row.entry)).map_err(Fault::reading)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.change(|work| work.forget(before, most))
    }

    fn is_backup(&self) -> bool {
        self.mark.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        if !self.is_backup() {
            return Ok(());
        }
        // The rows that the mark will vouch for may reach the disk only with the next commit.
        self.change(|_| Ok(()))?;
        self.mark.take_into_use(&self.head.watermark()).map_err(|error| Fault::Mark(error).writing())
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}
