//! What somebody does to a journal with a database tool while no client runs.

use super::*;

fn delivered(count: u32) -> Vec<Entry> {
    (0..count).map(|number| entry(&format!("order-{number}"), Stage::Delivered(READY))).collect()
}

/// It is read, written and forgotten from as before.
fn goes_on(sql: &str) {
    let home = Home::new();
    home.open().append(&delivered(400)).unwrap();
    home.tamper(sql);
    let mut store = home.open();
    assert_eq!(store.load().unwrap().len(), 400, "{sql}");
    let more = [entry("order-9", Stage::Ended(READY)), entry("order-400", Stage::Planned)];
    store.append(&more).unwrap();
    assert_eq!(store.forget(Timestamp::NEVER, 1_000).unwrap(), 399, "{sql}");
    assert!(store.verify().unwrap().problems.is_empty(), "{sql}");
    drop(store);
    assert_eq!(home.open().load().unwrap(), more, "{sql}");
}

#[test]
fn what_tidies_it_up_or_lies_beside_its_tables_changes_nothing() {
    for sql in [
        "VACUUM",
        "ANALYZE",
        "REINDEX",
        "PRAGMA optimize",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA auto_vacuum = FULL; VACUUM",
        "PRAGMA journal_mode = DELETE; PRAGMA page_size = 512; VACUUM",
        "PRAGMA journal_mode = DELETE; PRAGMA page_size = 65536; VACUUM",
        "CREATE INDEX by_answer ON records (answer_status)",
        "CREATE VIEW mine AS SELECT key FROM operations",
        "CREATE VIEW broken AS SELECT it FROM nowhere",
        "CREATE TABLE notes (text TEXT)",
    ] {
        goes_on(sql);
    }
}

/// Every record is there: to restore an older copy would lose some.
#[test]
fn what_changes_its_tables_is_refused_and_can_be_undone() {
    for (sql, undo) in [
        ("CREATE TRIGGER mine AFTER INSERT ON records BEGIN SELECT 1; END", "DROP TRIGGER mine"),
        ("ALTER TABLE records ADD COLUMN note TEXT", "ALTER TABLE records DROP COLUMN note"),
        // To replace a row would remove each other row that it is in conflict with.
        ("CREATE UNIQUE INDEX mine ON records (substr(body, 56, 2), first)", "DROP INDEX mine"),
        ("CREATE UNIQUE INDEX mine ON head (sequence)", "DROP INDEX mine"),
    ] {
        let home = Home::new();
        home.open().append(&delivered(2)).unwrap();
        home.tamper(sql);
        let refused = SqliteStore::open(home.journal()).unwrap_err().to_string();
        assert!(refused.contains("undo what somebody has changed in it with a database tool"), "{sql}: {refused}");
        home.tamper(undo);
        assert_eq!(home.open().load().unwrap(), delivered(2), "{undo}");
    }
}
