//! Opening: from a path to a connection that is locked, set up and migrated, or an error that says why not.
//!
//! A file that is refused is left as it is, with its log and its mode: it is examined first, within a transaction, and
//! only a journal of a version that this release knows is changed. A file in which nothing was ever kept, because its
//! maker was killed while making it, is made anew; for a read-only opener there is no journal then.
//!
//! A file that this process already has open is opened and closed by SQLite only: closing it by other means would
//! release SQLite's lock (POSIX locks belong to the process).

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};
use tempfile::TempDir;

use super::error::{Damage, OpenError};
use super::head::Head;
use super::schema::{self, Found, Migrations};

/// The first version without the WAL-reset defect, which could corrupt a file.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Set before the file is first read. `EXCLUSIVE` first, so that the log's index is kept in memory and no `-shm` file
/// is made. No `foreign_keys`: a table that somebody has added must not keep old rows from being forgotten.
const SETTINGS: &str = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0; \
     PRAGMA foreign_keys = OFF; \
     PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON; PRAGMA cache_size = -16384; \
     PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864";

/// The longest that a log stays, in bytes: the `journal_size_limit` above. It is brought into the file long before, so
/// only one very large commit makes it longer, or a file that cannot be written.
pub(super) const LONGEST_LOG: u64 = 67_108_864;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// The path of the file with this suffix that belongs to the journal.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The path as an absolute one: SQLite gives `:memory:` and names that begin with `file:` a special meaning, and the
/// journal must be found even after the program changes its directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, OpenError> {
    if path.as_os_str().is_empty() { Err(OpenError::Missing) } else { Ok(std::path::absolute(path)?) }
}

/// What a release brings with it: its SQLite and its migrations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Release {
    /// The number of the linked SQLite version.
    pub(super) sqlite: i32,
    pub(super) migrations: Migrations<'static>,
}

impl Release {
    pub(super) fn this() -> Self {
        Self { sqlite: rusqlite::version_number(), migrations: schema::MIGRATIONS }
    }
}

/// Opens the file, examines it, and makes what is missing; [`take_over`] does the rest once it is known that the file
/// may be written to. A file of an older release is migrated in a transaction that stays open until then.
pub(super) fn open(path: &Path, access: Access, release: &Release) -> Result<Connection, OpenError> {
    let (migrations, newest) = (release.migrations, schema::newest(release.migrations));
    if release.sqlite < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite { version: rusqlite::version() });
    }
    prepare(path, access)?;
    let connection = connect(path, access)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.execute_batch("BEGIN EXCLUSIVE").map_err(OpenError::sqlite)?;
    let found = schema::look(&connection, migrations)?;
    if found == Found::Empty {
        not_emptied(path)?;
    }
    match (found, access) {
        (Found::Version(version), _) if version == newest => {}
        (Found::Empty, Access::Read) => return Err(OpenError::Missing),
        (Found::Version(_), Access::Read) => return Err(OpenError::Foreign),
        (Found::Empty, Access::Write) => {
            schema::migrate(&connection, migrations, found)?;
            Head::create(&connection).map_err(OpenError::sqlite)?;
        }
        (Found::Version(_), Access::Write) => schema::migrate(&connection, migrations, found)?,
    }
    schema::check(&connection, migrations)?;
    if found == Found::Empty || found == Found::Version(newest) {
        connection.execute_batch("COMMIT").map_err(OpenError::sqlite)?;
    }
    if access == Access::Read {
        connection.execute_batch("PRAGMA query_only = ON").map_err(OpenError::sqlite)?;
    }
    Ok(connection)
}

/// Whether it was ever ready for records: they need a log, and the file remembers having had one.
pub(super) fn has_had_log(connection: &Connection) -> Result<bool, OpenError> {
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(OpenError::sqlite)?;
    Ok(mode == "wal")
}

/// Restricts the files to their owner, commits this release's version, and turns the log on. From now on there can be
/// records.
pub(super) fn take_over(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    for suffix in ["", "-wal", "-mark"] {
        owner_only(&beside(path, suffix))?;
    }
    if !connection.is_autocommit() {
        connection.execute_batch("COMMIT").map_err(OpenError::sqlite)?;
    }
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(OpenError::sqlite)?;
    if mode == "wal" { Ok(()) } else { Err(OpenError::ReadOnly) }
}

/// Checks that the path holds a file that may be a journal, or nothing; in the latter case it creates a file that
/// nobody else can read.
pub(super) fn prepare(path: &Path, access: Access) -> Result<(), OpenError> {
    is_no_part(path)?;
    // Checked before the length: if another process is just making the journal, the file has content before there is
    // anything beside it.
    let has_kept = not_emptied(path);
    let length = match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_symlink() => return Err(OpenError::Symlink),
        Ok(found) if !found.is_file() => return Err(OpenError::NotAFile),
        Ok(found) => Some(found.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    is_short(path)?;
    // A single byte counts as empty too: SQLite itself once wrote one into an empty file.
    if length.unwrap_or_default() <= 1 {
        // SQLite would take the file for a new one and throw the log away.
        has_kept?;
        takes_nothing_along(path)?;
        if access == Access::Read {
            return Err(OpenError::Missing);
        }
    }
    if access == Access::Write && length.is_none() {
        create(path)?;
    }
    Ok(())
}

/// Checks that this path is not that of a journal's log or mark: a journal made there would be removed with the next
/// log.
pub(super) fn is_no_part(path: &Path) -> Result<(), OpenError> {
    whole_of(path, &["-wal", "-mark"]).map_or(Ok(()), |journal| Err(OpenError::PartOf { journal }))
}

/// The journal whose log or mark would lie at `path`, if a file of the journal's name is there: a file written at
/// `path` would be taken for its log or mark, and removed with the next one.
///
/// It goes by the name alone: to check that the file is a journal, it would have to be opened, and closing it would
/// release the lock of a store that has it open.
///
/// ```
/// use steadfast_store::SqliteStore;
/// use steadfast_store::sqlite::part_of;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = tempfile::tempdir()?;
/// let journal = home.path().join("jobs.db");
/// let store = SqliteStore::open(&journal)?;
/// assert_eq!(part_of(home.path().join("jobs.db-wal")), Some(journal));
/// assert_eq!(part_of(home.path().join("jobs.jsonl")), None);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn part_of(path: impl AsRef<Path>) -> Option<PathBuf> {
    whole_of(path.as_ref(), &["-mark", "-wal", "-journal", "-shm"])
}

fn whole_of(path: &Path, suffixes: &[&str]) -> Option<PathBuf> {
    let name = path.file_name()?;
    let whole = suffixes.iter().find_map(|suffix| without(name, suffix))?;
    Some(path.with_file_name(whole)).filter(|whole| whole.is_file())
}

#[cfg(unix)]
fn without<'a>(name: &'a OsStr, suffix: &str) -> Option<&'a OsStr> {
    use std::os::unix::ffi::OsStrExt;
    name.as_bytes().strip_suffix(suffix.as_bytes()).map(OsStr::from_bytes)
}

#[cfg(not(unix))]
fn without<'a>(name: &'a OsStr, suffix: &str) -> Option<&'a OsStr> {
    name.to_str()?.strip_suffix(suffix).map(OsStr::new)
}

/// Replaces the error if the reason is that this user may not read one of the files. Never called for a file that this
/// process has open: closing it here would release its lock.
pub(super) fn or_denied(path: &Path, why: OpenError) -> OpenError {
    let denied = |file: &PathBuf| File::open(file).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
    match why {
        OpenError::Io(_) | OpenError::Sqlite(_) => {
            let file = ["", "-wal"].into_iter().map(|suffix| beside(path, suffix)).find(denied);
            file.map_or(why, |file| OpenError::Denied { file })
        }
        why => why,
    }
}

/// The longest path that SQLite supports, in bytes: it must have room for `-journal` and a terminating zero.
pub(super) const LONGEST: usize = 504;

/// Whether the path is short enough for SQLite, with all links resolved. SQLite's own error would say only that the
/// file cannot be opened.
fn is_short(path: &Path) -> Result<(), OpenError> {
    let leads_to = fs::canonicalize(directory(path)).map(|found| found.join(path.file_name().unwrap_or_default()));
    let bytes = leads_to.map_or(0, |path| path.as_os_str().len());
    if cfg!(unix) && bytes > LONGEST { Err(OpenError::LongPath { bytes }) } else { Ok(()) }
}

/// For an empty file: SQLite will remove `FILE-journal`, which may be another journal. If it is one, it has a mark.
fn takes_nothing_along(path: &Path) -> Result<(), OpenError> {
    let journal = beside(path, "-journal");
    let is_one = journal.is_file() && beside(&journal, "-mark").is_file();
    if is_one { Err(OpenError::WouldRemove { journal }) } else { Ok(()) }
}

/// For an empty file: nothing that was ever kept may lie beside it.
fn not_emptied(path: &Path) -> Result<(), OpenError> {
    if has_bytes(path, "-wal") || has_bytes(path, "-mark") { Err(Damage::Emptied.into()) } else { Ok(()) }
}

/// Whether the journal's file with this suffix has any content.
pub(super) fn has_bytes(path: &Path, suffix: &str) -> bool {
    fs::metadata(beside(path, suffix)).is_ok_and(|found| found.len() > 0)
}

/// If another process creates it first, that one has or had it: the lock decides later.
fn create(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        file => file?.sync_all()?,
    }
    sync_directory(path)
}

/// Makes the file's name durable.
pub(super) fn sync_directory(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(directory(path))?.sync_all() } else { Ok(()) }
}

/// A directory for unfinished files, which only its owner can enter.
pub(super) fn private(prefix: &str, directory: &Path) -> std::io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.prefix(prefix).tempdir_in(directory)
}

/// The directory that holds the file.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Identifies a file whatever its path: by device and number, where the system has them.
#[cfg(unix)]
pub(super) type FileId = (u64, u64);
#[cfg(not(unix))]
pub(super) type FileId = PathBuf;

#[cfg(unix)]
pub(super) fn id(path: &Path) -> std::io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(not(unix))]
pub(super) fn id(path: &Path) -> std::io::Result<FileId> {
    fs::canonicalize(path)
}

/// Whether the file at this path is the open one, or that cannot be found out: a process that may not look there any
/// more still has its file. Called before each commit: 0.3 µs, as measured on Linux.
#[cfg(unix)]
pub(super) fn is_at(path: &Path, open: Option<&FileId>) -> bool {
    match id(path) {
        Ok(found) => open.is_none_or(|open| *open == found),
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// An open file can be neither removed nor replaced here.
#[cfg(not(unix))]
pub(super) const fn is_at(_: &Path, _: Option<&FileId>) -> bool {
    true
}

/// Makes the file readable by its owner only. SQLite gives its log the file's mode.
#[cfg(unix)]
fn owner_only(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::PermissionsExt;
    match fs::metadata(path) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let mode = found.permissions().mode() & 0o700;
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied => OpenError::NotOwned { file: path.to_owned() },
                _ => error.into(),
            })
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(unix))]
fn owner_only(_: &Path) -> Result<(), OpenError> {
    Ok(())
}

fn connect(path: &Path, access: Access) -> Result<Connection, OpenError> {
    // Before SQLite makes one.
    let has_log = beside(path, "-wal").exists();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(OpenError::sqlite)?;
    let connection = match (connection.is_readonly(MAIN_DB).map_err(OpenError::sqlite)?, access) {
        (true, Access::Write) => return Err(OpenError::ReadOnly),
        (true, Access::Read) => immutable(path)?,
        (false, _) => connection,
    };
    // A read-only opener, and one that refuses the file, must leave an existing log alone (it may be the last copy of
    // some records) and must not leave one where there was none. Set before anything reads the file: when SQLite closes
    // it after a failed read, it would write the log back.
    leave_log(&connection, has_log).map_err(OpenError::sqlite)?;
    connection.busy_timeout(Duration::ZERO).map_err(OpenError::sqlite)?;
    connection.execute_batch(SETTINGS).map_err(OpenError::sqlite)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(OpenError::sqlite)?;
    Ok(connection)
}

/// Sets whether the log stays when the connection is closed; if not, it is brought into the file and removed.
pub(super) fn leave_log(connection: &Connection, stays: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, stays).map(drop)
}

/// Opens a file that this user cannot write, and therefore cannot lock. Without a log or a rollback journal the file is
/// complete as it is.
fn immutable(path: &Path) -> Result<Connection, OpenError> {
    if has_bytes(path, "-wal") || has_bytes(path, "-journal") {
        return Err(OpenError::ReadOnlyUnclosed);
    }
    // With an empty host: a path may begin with two slashes.
    let mut uri = String::from("file://");
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02x}"));
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri, flags).map_err(OpenError::sqlite)
}
