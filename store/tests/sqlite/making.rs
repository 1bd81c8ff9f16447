//! A process that was killed while it made its journal: nothing was ever kept in what it left.

use steadfast_store::OpenError;

use super::*;

fn is_made_anew(home: &Home) {
    let looked = SqliteStore::open_read_only(home.journal());
    assert!(matches!(looked, Err(OpenError::Missing)), "{looked:?}");
    drop(looked);
    home.open().append(&[entry("order-1", Stage::Planned)]).unwrap();
    assert_eq!(home.open().load().unwrap(), [entry("order-1", Stage::Planned)]);
}

#[test]
fn one_without_tables_is_not_there_yet() {
    let home = Home::new();
    home.tamper("CREATE TABLE any (text TEXT); DROP TABLE any");
    assert!(fs::metadata(home.journal()).unwrap().len() > 0);
    is_made_anew(&home);
}

/// Some pages are in the file, and beside it is what takes them back.
#[test]
fn one_whose_first_commit_did_not_end_is_not_there_yet() {
    let (half, home) = (Home::new(), Home::new());
    let connection = rusqlite::Connection::open(half.journal()).unwrap();
    connection
        .execute_batch(
            "PRAGMA cache_size = 1; BEGIN EXCLUSIVE; PRAGMA application_id = 0x53664a31; PRAGMA user_version = 1; \
             CREATE TABLE operations (record BLOB); \
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) \
             INSERT INTO operations SELECT zeroblob(4000) FROM n",
        )
        .unwrap();
    for suffix in ["", "-journal"] {
        let copied = fs::copy(beside(&half.journal(), suffix), beside(&home.journal(), suffix)).unwrap();
        assert!(copied > 0, "{suffix:?} is empty");
    }
    is_made_anew(&home);
}
