//! The tables, and how a file gets them.
//!
//! A file is a journal if its `application_id` says so; `user_version` counts the migrations it has had. A file with
//! more migrations than this release knows is refused and left as it is. The definition of each table and view is
//! compared with what was written: it lies in the file like everything else, and a damaged one would make SQLite read
//! columns as others.

#[cfg(test)]
mod tests;

use rusqlite::{Connection, OptionalExtension};

use super::error::{Damage, OpenError};
use super::view;

/// `SfJ1` as a number.
pub(super) const APPLICATION_ID: i64 = 0x5366_4a31;

/// Each migration brings a file from the version at its index to the next. Never changed once released; new ones are
/// added at the end.
pub(super) type Migrations<'a> = &'a [&'a [Step]];

/// This release's migrations.
pub(super) const MIGRATIONS: Migrations<'static> = &[VERSION_1];

/// What a migration does to one table or view.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    /// The definition that `sqlite_schema` then has for it; `None` once it is gone.
    pub(super) leaves: Option<&'static str>,
}

impl Step {
    /// A step that creates something: SQLite keeps the text of the statement itself.
    pub(super) const fn make(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql, leaves: Some(sql) }
    }
}

/// `first` is the sequence number of the key's first record: rows are stored and loaded in the order in which keys were
/// first seen. What the client needs is the body (`body.rs`); people read the view (`view.rs`). There are no indexes,
/// which would cost more than the records: that no key is there twice is checked whenever all rows are verified, and
/// `places.rs` knows where each key is and which rows are old.
pub(super) const VERSION_1: &[Step] = &[
    Step::make(
        "records",
        "CREATE TABLE records (
    first INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    payload BLOB,
    answer_status INTEGER,
    answer_body BLOB
) STRICT",
    ),
    Step::make("operations", view::OPERATIONS),
    Step::make(
        "head",
        "CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    instance BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    hash BLOB NOT NULL,
    count INTEGER NOT NULL,
    sum BLOB NOT NULL,
    hash_of_head BLOB NOT NULL,
    settled INTEGER NOT NULL
) STRICT",
    ),
];

/// The version that this release writes.
pub(super) const VERSION: i64 = newest(MIGRATIONS);

/// The version after all these migrations.
pub(super) const fn newest(migrations: Migrations<'_>) -> i64 {
    migrations.len() as i64
}

/// What a file's tables show it to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The file is empty.
    Empty,
    /// A journal of this version, which is not newer than ours.
    Version(i64),
}

pub(super) fn look(connection: &Connection, migrations: Migrations<'_>) -> Result<Found, OpenError> {
    let number = |pragma| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let application = number("PRAGMA application_id").map_err(OpenError::sqlite)?;
    let version = number("PRAGMA user_version").map_err(OpenError::sqlite)?;
    let objects = number("SELECT count(*) FROM sqlite_schema").map_err(OpenError::sqlite)?;
    match (application, version) {
        (0, 0) if objects == 0 => Ok(Found::Empty),
        (APPLICATION_ID, 1..) if version > newest(migrations) => Err(OpenError::Newer { version }),
        (APPLICATION_ID, 1..) => Ok(Found::Version(version)),
        _ => Err(OpenError::Foreign),
    }
}

/// Migrates a file to the newest version. Within the caller's transaction, so that it ends with either that version or
/// the one that was found.
pub(super) fn migrate(connection: &Connection, migrations: Migrations<'_>, found: Found) -> Result<(), OpenError> {
    let from = match found {
        Found::Empty => 0,
        Found::Version(version) => usize::try_from(version).unwrap_or_default(),
    };
    for step in migrations.iter().skip(from).copied().flatten() {
        connection.execute_batch(step.sql).map_err(OpenError::sqlite)?;
    }
    let version = newest(migrations);
    connection
        .execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}"))
        .map_err(OpenError::sqlite)?;
    Ok(())
}

/// Checks that tables and view are what the migrations left, and that nobody has added what changes or refuses rows: a
/// trigger, or an index that allows each value once (`REPLACE` removes every row that is in conflict with the new one).
pub(super) fn check(connection: &Connection, migrations: Migrations<'_>) -> Result<(), OpenError> {
    let mut text = connection
        .prepare("SELECT sql FROM sqlite_schema WHERE name = ?1 AND (rootpage > 1 OR type = 'view')")
        .map_err(OpenError::sqlite)?;
    let steps: Vec<&Step> = migrations.iter().copied().flatten().collect();
    for (at, step) in steps.iter().enumerate() {
        if steps.iter().skip(at + 1).any(|later| later.name == step.name) {
            continue;
        }
        let found: Option<String> =
            text.query_row([step.name], |row| row.get(0)).optional().map_err(OpenError::sqlite)?;
        if found.as_deref() != step.leaves {
            return Err(Damage::Schema.into());
        }
    }
    const ADDED: &str = "SELECT (SELECT count(*) FROM sqlite_schema WHERE type = 'trigger')
        + (SELECT count(*) FROM pragma_index_list('records') WHERE \"unique\")
        + (SELECT count(*) FROM pragma_index_list('head') WHERE \"unique\")";
    let added: i64 = connection.query_row(ADDED, [], |row| row.get(0)).map_err(OpenError::sqlite)?;
    if added == 0 { Ok(()) } else { Err(Damage::Schema.into()) }
}
