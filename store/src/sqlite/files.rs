//! Opening: from a path to a connection that is locked, set up and migrated, or an error that says why not.
//!
//! Whatever is refused is left as it is, with its log and its mode: first comes a look, within a transaction, and only what is found to be a
//! journal of this release's is changed. A file in which nothing was ever kept, because its maker was killed while it made it, is made anew; who
//! only looks is told that there is no journal.
//!
//! Never opened or closed here by other means than SQLite's: a file that this process has open already, because closing it would give up SQLite's
//! lock (POSIX locks belong to the process).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};
use tempfile::TempDir;

use super::error::{Damage, OpenError};
use super::head::Head;
use super::schema::{self, Found};

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

/// Looks, and makes what is missing; [`take_over`] does the rest once it is known that it may be written to.
pub(super) fn open(path: &Path, access: Access) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite { version: rusqlite::version() });
    }
    prepare(path, access)?;
    let connection = connect(path, access)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.execute_batch("BEGIN EXCLUSIVE").map_err(OpenError::sqlite)?;
    let found = schema::look(&connection)?;
    if found == Found::Empty {
        not_emptied(path)?;
    }
    match (found, access) {
        (Found::Version(schema::VERSION), _) => {}
        (Found::Empty, Access::Read) => return Err(OpenError::Missing),
        (Found::Version(_), Access::Read) => return Err(OpenError::Foreign),
        (Found::Empty, Access::Write) => {
            schema::migrate(&connection, found)?;
            Head::create(&connection).map_err(OpenError::sqlite)?;
        }
        (Found::Version(_), Access::Write) => schema::migrate(&connection, found)?,
    }
    schema::check(&connection)?;
    connection.execute_batch("COMMIT").map_err(OpenError::sqlite)?;
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

/// Its files become their owner's only, and it gets a log. From now on there can be records.
pub(super) fn take_over(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    for suffix in ["", "-wal", "-mark"] {
        owner_only(&beside(path, suffix))?;
    }
    let mode: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(OpenError::sqlite)?;
    if mode == "wal" { Ok(()) } else { Err(OpenError::ReadOnly) }
}

/// A file at the path that may be a journal. If none was there it is made, with nobody else's eyes on it.
pub(super) fn prepare(path: &Path, access: Access) -> Result<(), OpenError> {
    let length = match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_symlink() => return Err(OpenError::Symlink),
        Ok(found) if !found.is_file() => return Err(OpenError::NotAFile),
        Ok(found) => Some(found.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    if length.unwrap_or_default() == 0 {
        // SQLite would take it for a new one and throw the log away.
        not_emptied(path)?;
        if access == Access::Read {
            return Err(OpenError::Missing);
        }
    }
    if access == Access::Write && length.is_none() {
        create(path)?;
    }
    Ok(())
}

/// Nothing is in the file: then nothing that was kept may lie beside it.
fn not_emptied(path: &Path) -> Result<(), OpenError> {
    if has_bytes(path, "-wal") || has_bytes(path, "-mark") { Err(Damage::Emptied.into()) } else { Ok(()) }
}

/// Whether there is anything in the file that belongs to the journal by this suffix.
pub(super) fn has_bytes(path: &Path, suffix: &str) -> bool {
    fs::metadata(beside(path, suffix)).is_ok_and(|found| found.len() > 0)
}

fn create(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.sync_all()?;
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

/// SQLite gives its log the file's mode.
#[cfg(unix)]
fn owner_only(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match fs::metadata(path) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            let mode = found.permissions().mode() & 0o700;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn owner_only(_: &Path) -> std::io::Result<()> {
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
    // Who only looks, or refuses what is there, leaves the log as it is: it may be all that is left. And leaves none where there was none. Before the settings, since
    // some of them look at the file.
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
    let mut uri = String::from("file:");
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
