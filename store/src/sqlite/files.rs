//! Opening: from a path to a connection that is locked, set up and migrated, or an error that says why not.
//!
//! Nothing is changed in a file that is not ours, or that a newer release wrote. Never opened or closed here by other means than SQLite's: a
//! file that this process has open already, because closing it would give up SQLite's lock (POSIX locks belong to the process).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};

use super::error::{Damage, OpenError};
use super::head::Head;
use super::schema::{self, Found};

/// The first version without the WAL-reset defect, which could corrupt a file.
const OLDEST_SQLITE: i32 = 3_051_003;

/// Before the first look at the file. `EXCLUSIVE` first, so that the log's index is kept in memory and no `-shm` file is made.
const SETTINGS: &str = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA trusted_schema = OFF; PRAGMA mmap_size = 0; \
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

pub(super) fn open(path: &Path, access: Access) -> Result<(Connection, Access), OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite { version: rusqlite::version() });
    }
    prepare(path, access)?;
    let connection = connect(path, access)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.execute_batch("BEGIN EXCLUSIVE")?;
    let found = schema::look(&connection)?;
    if found != Found::Version(schema::VERSION) {
        if access == Access::Read {
            return Err(OpenError::Foreign);
        }
        schema::migrate(&connection, found)?;
        if found == Found::Empty {
            Head::create(&connection)?;
        }
    }
    connection.execute_batch("COMMIT")?;
    match access {
        Access::Read => connection.execute_batch("PRAGMA query_only = ON")?,
        Access::Write => {
            let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
            if mode != "wal" {
                return Err(OpenError::ReadOnly);
            }
        }
    }
    schema::check(&connection)?;
    Ok((connection, access))
}

/// A file of our own at the path, with nobody else's eyes on it.
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
        let left = |suffix| fs::metadata(beside(path, suffix)).is_ok_and(|found| found.len() > 0);
        if left("-wal") || left("-mark") {
            return Err(Damage::Emptied.into());
        }
        if access == Access::Read {
            return Err(OpenError::Missing);
        }
    }
    if access == Access::Write {
        if length.is_none() {
            create(path)?;
        }
        for suffix in ["", "-wal", "-mark"] {
            owner_only(&beside(path, suffix))?;
        }
    }
    Ok(())
}

fn create(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.sync_all()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
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
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    let connection = match (connection.is_readonly(MAIN_DB)?, access) {
        (true, Access::Write) => return Err(OpenError::ReadOnly),
        (true, Access::Read) => immutable(path)?,
        (false, _) => connection,
    };
    connection.busy_timeout(Duration::ZERO)?;
    connection.execute_batch(SETTINGS)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Who only looks, or finds damage, leaves the log as it is: it may be all that is left.
    leave_log(&connection, true)?;
    Ok(connection)
}

/// Whether the log stays when the connection is closed; if not, it is brought into the file and removed.
pub(super) fn leave_log(connection: &Connection, stays: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, stays).map(drop)
}

/// A file that this user cannot write cannot be locked either; without a log it is whole as it is.
fn immutable(path: &Path) -> Result<Connection, OpenError> {
    if fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0) {
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
    Ok(Connection::open_with_flags(uri, flags)?)
}
