//! Opening: from a path to a connection that is locked, set up and migrated, or an error that says why not.
//!
//! Whatever is refused is left as it is, with its log and its mode: first comes a look, within a transaction, and only what is found to be a
//! journal of this release's is changed. A file in which nothing was ever kept, because its maker was killed while it made it, is made anew; who
//! only looks is told that there is no journal.
//!
//! Never opened or closed here by other means than SQLite's: a file that this process has open already, because closing it would give up SQLite's
//! lock (POSIX locks belong to the process).

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

/// Before the first look at the file. `EXCLUSIVE` first, so that the log's index is kept in memory and no `-shm` file is made. No `foreign_keys`: a table that
/// somebody has put beside ours must not keep what is old from being forgotten.
const SETTINGS: &str = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0; \
     PRAGMA foreign_keys = OFF; \
     PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON; PRAGMA cache_size = -16384; \
     PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// The file of this name that belongs to the journal.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The same path from the root on: SQLite takes `:memory:` and what begins with `file:` for something else than a file's name, and a program that changes its
/// directory has its journal where it was.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, OpenError> {
    if path.as_os_str().is_empty() { Err(OpenError::Missing) } else { Ok(std::path::absolute(path)?) }
}

/// What a release brings to a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Release {
    /// The number of the SQLite that is linked.
    pub(super) sqlite: i32,
    pub(super) migrations: Migrations<'static>,
}

impl Release {
    pub(super) fn this() -> Self {
        Self { sqlite: rusqlite::version_number(), migrations: schema::MIGRATIONS }
    }
}

/// Looks, and makes what is missing; [`take_over`] does the rest once it is known that it may be written to. What an older release wrote is migrated in a
/// transaction that is left open until then.
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

/// Whether it ever was ready for records: they come with a log only, and the file remembers having had one.
pub(super) fn has_had_log(connection: &Connection) -> Result<bool, OpenError> {
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(OpenError::sqlite)?;
    Ok(mode == "wal")
}

/// Its files become their owner's only, it has this release's version, and gets a log. From now on there can be records.
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

/// A file at the path that may be a journal. If none was there it is made, with nobody else's eyes on it.
pub(super) fn prepare(path: &Path, access: Access) -> Result<(), OpenError> {
    is_no_part(path)?;
    // Before its length: another process that makes it just now has something in it before there is anything beside it.
    let has_kept = not_emptied(path);
    let length = match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_symlink() => return Err(OpenError::Symlink),
        Ok(found) if !found.is_file() => return Err(OpenError::NotAFile),
        Ok(found) => Some(found.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    is_short(path)?;
    // Also one of a single byte: SQLite itself once wrote one into an empty file.
    if length.unwrap_or_default() <= 1 {
        // SQLite would take it for a new one and throw the log away.
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

/// That a journal has neither its log nor its mark at this path. A journal that is made there is removed with the next log.
pub(super) fn is_no_part(path: &Path) -> Result<(), OpenError> {
    whole_of(path, &["-wal", "-mark"]).map_or(Ok(()), |journal| Err(OpenError::PartOf { journal }))
}

/// The file that one of this name would be a part of, if it is there: whatever is written at `path` would be taken for its log or its mark, and go with the next one.
///
/// By its name alone: to look whether that file is a journal would be to open it, and to close it again would undo the lock of a store that has it open.
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

/// That this user may not read one of the files, if that is why. Never asked of what this process has open: to close it here would undo its lock.
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

/// How long a path may be for SQLite, in bytes, where `-journal` and the end of a text go behind it.
pub(super) const LONGEST: usize = 504;

/// Whether SQLite takes the path, from which it takes all links first. It would say only that it cannot open it.
fn is_short(path: &Path) -> Result<(), OpenError> {
    let leads_to = fs::canonicalize(directory(path)).map(|found| found.join(path.file_name().unwrap_or_default()));
    let bytes = leads_to.map_or(0, |path| path.as_os_str().len());
    if cfg!(unix) && bytes > LONGEST { Err(OpenError::LongPath { bytes }) } else { Ok(()) }
}

/// Nothing is in the file: then SQLite removes `FILE-journal`, which may be a journal of its own. One that is has a mark.
fn takes_nothing_along(path: &Path) -> Result<(), OpenError> {
    let journal = beside(path, "-journal");
    let is_one = journal.is_file() && beside(&journal, "-mark").is_file();
    if is_one { Err(OpenError::WouldRemove { journal }) } else { Ok(()) }
}

/// Nothing is in the file: then nothing that was kept may lie beside it.
fn not_emptied(path: &Path) -> Result<(), OpenError> {
    if has_bytes(path, "-wal") || has_bytes(path, "-mark") { Err(Damage::Emptied.into()) } else { Ok(()) }
}

/// Whether there is anything in the file that belongs to the journal by this suffix.
pub(super) fn has_bytes(path: &Path, suffix: &str) -> bool {
    fs::metadata(beside(path, suffix)).is_ok_and(|found| found.len() > 0)
}

/// If another process is faster, it is the one that has it, or had it: who opens it next is told by its lock.
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

/// The file's name is on disk when this returns.
pub(super) fn sync_directory(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(directory(path))?.sync_all() } else { Ok(()) }
}

/// A directory for files that are not whole yet, which only its owner can enter.
pub(super) fn private(prefix: &str, directory: &Path) -> std::io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.prefix(prefix).tempdir_in(directory)
}

/// Where the file is.
pub(super) fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// How a file is told from others, whatever its path: device and number, where there are such.
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

/// Whether the file at this path is the one that is open, or nobody can tell: a process that may not look there any more still has its file. Asked before each
/// commit: it takes 0.3 µs, as measured on Linux.
#[cfg(unix)]
pub(super) fn is_at(path: &Path, open: Option<&FileId>) -> bool {
    match id(path) {
        Ok(found) => open.is_none_or(|open| *open == found),
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// One that is open can be neither removed nor replaced.
#[cfg(not(unix))]
pub(super) const fn is_at(_: &Path, _: Option<&FileId>) -> bool {
    true
}

/// SQLite gives its log the file's mode.
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
    // Who only looks, or refuses what is there, leaves the log as it is: it may be all that is left. And leaves none where there was none. Before anything that
    // reads the file: closed after an error of that, SQLite would write the log back.
    leave_log(&connection, has_log).map_err(OpenError::sqlite)?;
    connection.busy_timeout(Duration::ZERO).map_err(OpenError::sqlite)?;
    connection.execute_batch(SETTINGS).map_err(OpenError::sqlite)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(OpenError::sqlite)?;
    Ok(connection)
}

/// Whether the log stays when the connection is closed; if not, it is brought into the file and removed.
pub(super) fn leave_log(connection: &Connection, stays: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, stays).map(drop)
}

/// A file that this user cannot write cannot be locked either; without a log, or what takes back a half-made commit, it is whole as it is.
fn immutable(path: &Path) -> Result<Connection, OpenError> {
    if has_bytes(path, "-wal") || has_bytes(path, "-journal") {
        return Err(OpenError::ReadOnlyUnclosed);
    }
    // With a host, which is none: a path may begin with two slashes.
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
