//! There is only one version yet. To have migrations tested before the next one, these use an invented one, with each
//! kind of change that a migration can need.

use std::fs;

use super::*;
use crate::Store;
use crate::sqlite::files::{Access, Release};
use crate::sqlite::tests::{Home, entry};
use crate::sqlite::{Mark, SqliteStore};

const VIEW_2: &str = "CREATE VIEW operations AS SELECT first, note FROM records";

const VERSION_2: &[Step] = &[
    Step {
        name: "records",
        sql: "ALTER TABLE records ADD COLUMN note TEXT",
        leaves: Some(
            "CREATE TABLE records (
    first INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    payload BLOB,
    answer_status INTEGER,
    answer_body BLOB
, note TEXT) STRICT",
        ),
    },
    Step::make("notes", "CREATE TABLE notes (text TEXT NOT NULL) STRICT"),
    Step { name: "operations", sql: "DROP VIEW operations", leaves: None },
    Step::make("operations", VIEW_2),
    Step { name: "notes", sql: "DROP TABLE notes", leaves: None },
];

const NEXT: Migrations<'static> = &[VERSION_1, VERSION_2];

fn open(home: &Home, migrations: Migrations<'static>, access: Access) -> Result<SqliteStore, OpenError> {
    let release = Release { migrations, ..Release::this() };
    SqliteStore::open_by(&release, &home.file(""), access, false)
}

/// Two journals of this release's version with one entry: one that was closed, and one whose process was killed.
fn older(name: &str) -> [Home; 2] {
    let home = Home::new(name);
    let mut store = home.open();
    store.append(&[entry("one")]).unwrap();
    let killed = home.crashed(&format!("{name}-killed"));
    drop(store);
    [home, killed]
}

fn version(home: &Home) -> i64 {
    let connection = Connection::open(home.file("")).unwrap();
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

fn files(home: &Home) -> [Option<Vec<u8>>; 3] {
    ["", "-wal", "-mark"].map(|suffix| fs::read(home.file(suffix)).ok())
}

#[test]
fn an_older_journal_is_migrated_and_keeps_what_it_has() {
    for home in older("migrated") {
        let mut store = open(&home, NEXT, Access::Write).unwrap();
        assert_eq!(store.load().unwrap(), [entry("one")]);
        store.append(&[entry("two")]).unwrap();
        drop(store);
        assert_eq!(version(&home), 2);
        for access in [Access::Write, Access::Read] {
            assert_eq!(open(&home, NEXT, access).unwrap().load().unwrap(), [entry("one"), entry("two")]);
        }
        let before = files(&home);
        for opened in [SqliteStore::open(home.file("")), SqliteStore::open_read_only(home.file(""))] {
            assert!(matches!(opened, Err(OpenError::Newer { version: 2 })), "{opened:?}");
        }
        assert!(files(&home) == before, "what is refused was changed");
    }
}

#[test]
fn a_new_journal_has_the_newest_version_at_once() {
    let home = Home::new("newest");
    open(&home, NEXT, Access::Write).unwrap().append(&[entry("one")]).unwrap();
    assert_eq!(version(&home), 2);
    assert_eq!(open(&home, NEXT, Access::Write).unwrap().load().unwrap(), [entry("one")]);
}

/// Whenever the process is killed, the disk holds the older version.
#[test]
fn a_crash_in_the_middle_of_a_migration_leaves_the_older_version() {
    for steps in 0..=VERSION_2.len() {
        for (at, home) in older(&format!("killed-{steps}")).into_iter().enumerate() {
            let connection = Connection::open(home.file("")).unwrap();
            // So that pages go to the disk before the transaction ends.
            connection
                .execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = 1; BEGIN EXCLUSIVE")
                .unwrap();
            migrate(&connection, &[VERSION_1, &VERSION_2[..steps]], Found::Version(1)).unwrap();
            let _ = fs::File::options().append(true).create(true).open(home.file("-wal")).unwrap();
            let killed = home.crashed(&format!("killed-{steps}-{at}-copy"));
            assert_eq!(killed.open().load().unwrap(), [entry("one")], "{steps} steps");
            let mut migrated = open(&killed, NEXT, Access::Write).unwrap();
            assert_eq!(migrated.load().unwrap(), [entry("one")], "{steps} steps, and then all");
        }
    }
}

#[test]
fn a_migration_that_fails_leaves_the_older_version_as_it_was() {
    const FAILS: Migrations<'static> =
        &[VERSION_1, &[VERSION_2[0], VERSION_2[1], Step::make("notes", "CREATE TABLE notes (text TEXT) STRICT")]];
    /// The definition that this migration promises is not the one it leaves.
    const OTHERWISE: Migrations<'static> = &[VERSION_1, &[Step { leaves: Some("other"), ..VERSION_2[1] }]];
    for home in older("fails") {
        let before = files(&home);
        for migrations in [FAILS, OTHERWISE] {
            let opened = open(&home, migrations, Access::Write);
            assert!(matches!(opened, Err(OpenError::Damaged(_))), "{opened:?}");
            drop(opened);
            assert!(files(&home) == before, "something was changed");
        }
        assert_eq!(home.open().load().unwrap(), [entry("one")]);
    }
}

/// A refused file is left as it is, even by a release that would otherwise migrate it.
#[test]
fn an_older_journal_that_is_refused_is_not_migrated() {
    for home in older("refused") {
        let before = files(&home);
        assert!(open(&home, NEXT, Access::Read).is_err(), "who only looks migrates nothing");
        assert!(files(&home) == before, "something was changed");
        fs::remove_file(home.file("-mark")).unwrap();
        let opened = open(&home, NEXT, Access::Write);
        assert!(matches!(opened, Err(OpenError::Unmarked { state: Mark::Missing, .. })), "{opened:?}");
        drop(opened);
        assert!(files(&home)[..2] == before[..2], "something was changed");
        assert_eq!(SqliteStore::open_backup(home.file("")).unwrap().load().unwrap(), [entry("one")]);
    }
}

#[test]
fn a_sqlite_that_loses_data_opens_nothing() {
    let home = Home::new("old-sqlite");
    let with = |sqlite| {
        let release = Release { sqlite, ..Release::this() };
        SqliteStore::open_by(&release, &home.file(""), Access::Write, false)
    };
    for sqlite in [3_007_000, 3_051_002] {
        let opened = with(sqlite);
        assert!(matches!(opened, Err(OpenError::OldSqlite { .. })), "{opened:?}");
        assert!(opened.unwrap_err().to_string().contains("3.51.3"));
        assert!(!home.file("").exists(), "a file was made");
    }
    for sqlite in [3_051_003, 3_052_000] {
        with(sqlite).unwrap();
    }
}
