//! What is refused is left as it is: its bytes, its log, its mode, and nothing new beside it.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::config::DbConfig;
use steadfast_store::OpenError;

use super::*;

const APPLICATION_ID: i64 = 0x5366_4a31;

/// All files of a home, with their modes.
fn files(home: &Home) -> BTreeMap<String, (u32, Vec<u8>)> {
    let read = |file: fs::DirEntry| {
        let mode = mode(&file.path());
        (file.file_name().into_string().unwrap(), (mode, fs::read(file.path()).unwrap()))
    };
    fs::read_dir(&home.0).unwrap().map(|file| read(file.unwrap())).collect()
}

/// Lays out the files of a home in another one.
fn copied(home: &Home) -> Home {
    let copy = Home::new();
    for file in fs::read_dir(&home.0).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), copy.0.join(file.file_name())).unwrap();
    }
    copy
}

/// A database in WAL mode; with its log not written back, as when its program was killed.
fn database(application_id: i64, version: i64, has_log: bool) -> Home {
    let home = Home::new();
    let connection = rusqlite::Connection::open(home.journal()).unwrap();
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, has_log).unwrap();
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA application_id = {application_id}; PRAGMA user_version = {version}; \
             CREATE TABLE notes (text TEXT); INSERT INTO notes VALUES ('a note')"
        ))
        .unwrap();
    drop(connection);
    set_mode(&home.journal(), 0o664);
    assert_eq!(fs::metadata(beside(&home.journal(), "-wal")).is_ok_and(|log| log.len() > 0), has_log);
    home
}

/// Opens it in both ways, each of which must be refused and change nothing.
fn is_refused_and_left(home: &Home, is_right: impl Fn(&OpenError) -> bool) {
    let before = files(home);
    for opened in [SqliteStore::open(home.journal()), SqliteStore::open_read_only(home.journal())] {
        assert!(opened.as_ref().is_err_and(&is_right), "{opened:?}");
        drop(opened);
        let after = files(home);
        let changed: BTreeSet<_> =
            before.keys().chain(after.keys()).filter(|name| before.get(*name) != after.get(*name)).collect();
        assert!(changed.is_empty(), "changed: {changed:?}");
    }
}

#[test]
fn a_strangers_file_keeps_its_mode() {
    let home = Home::new();
    home.tamper("CREATE TABLE notes (text TEXT)");
    for bytes in [fs::read(home.journal()).unwrap(), b"a text of somebody's, longer than a header. ".repeat(20)] {
        fs::write(home.journal(), bytes).unwrap();
        set_mode(&home.journal(), 0o664);
        is_refused_and_left(&home, |error| matches!(error, OpenError::Foreign));
    }
}

#[test]
fn a_strangers_database_keeps_its_log() {
    is_refused_and_left(&database(0, 0, true), |error| matches!(error, OpenError::Foreign));
}

#[test]
fn a_strangers_database_without_a_log_gets_none() {
    is_refused_and_left(&database(0, 0, false), |error| matches!(error, OpenError::Foreign));
}

#[test]
fn a_newer_journal_keeps_its_log() {
    let newer = |error: &OpenError| matches!(error, OpenError::Newer { version: 2 });
    is_refused_and_left(&database(APPLICATION_ID, 2, true), newer);
    is_refused_and_left(&database(APPLICATION_ID, 2, false), newer);
}

#[test]
fn a_journal_with_other_tables_is_not_brought_into_another_mode() {
    let damaged = |error: &OpenError| matches!(error, OpenError::Damaged(_));
    is_refused_and_left(&database(APPLICATION_ID, 1, true), damaged);
    let home = Home::new();
    home.tamper(&format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; CREATE TABLE head (one)"));
    set_mode(&home.journal(), 0o664);
    is_refused_and_left(&home, damaged);
}

/// The mark beside it is of a journal that had records; a new one in its place would be another journal.
#[test]
fn a_journal_whose_tables_are_gone_is_not_made_anew() {
    let home = Home::new();
    home.open().append(&[entry("order-1", Stage::Planned)]).unwrap();
    fs::remove_file(home.journal()).unwrap();
    home.tamper("CREATE TABLE notes (text TEXT); DROP TABLE notes");
    is_refused_and_left(&home, |error| matches!(error, OpenError::Damaged(_)));
}

/// Not written back into the file either, which is then neither journal.
#[test]
fn a_journal_beside_the_log_of_another_is_left_with_both() {
    let entries = |count: u32| (0..count).map(|at| entry(&format!("order-{at}"), Stage::Accepted)).collect::<Vec<_>>();
    let other = Home::new();
    let mut client = other.open();
    client.append(&entries(1)).unwrap();
    for count in [1, 20, 400] {
        let home = Home::new();
        home.open().append(&entries(count)).unwrap();
        fs::copy(beside(&other.journal(), "-wal"), beside(&home.journal(), "-wal")).unwrap();
        is_refused_and_left(&home, |_| true);
    }
}

/// Whatever SQLite makes of it: what was damaged in one file may be whole in the other yet.
#[test]
fn a_journal_that_crashed_and_was_damaged_is_left_as_it_is() {
    let crashed = Home::new();
    let entries: Vec<Entry> = (0..200).map(|at| entry(&format!("order-{at}"), Stage::Accepted)).collect();
    crashed.open().append(&entries).unwrap();
    let mut client = crashed.open();
    client.append(&[entry("order-7", Stage::Delivered(READY))]).unwrap();
    let whole = fs::read(crashed.journal()).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        bytes
    };
    let cuts = (1..whole.len()).step_by(4_000).map(|length| whole[..length].to_vec());
    let flips = (0..whole.len()).step_by(3_001).chain((0..100).step_by(9)).map(flipped);
    type Open = fn(PathBuf) -> Result<SqliteStore, OpenError>;
    let ways: [Open; 3] = [SqliteStore::open, SqliteStore::open_read_only, SqliteStore::open_backup];
    let bytes = |home: &Home| files(home).into_values().map(|(_, bytes)| bytes).collect::<Vec<_>>();
    let mut refused = 0;
    for damaged in cuts.chain(flips) {
        for open in ways {
            let home = copied(&crashed);
            fs::write(home.journal(), &damaged).unwrap();
            let before = bytes(&home);
            let loaded = open(home.journal()).map_err(drop).and_then(|mut store| store.load().map_err(drop));
            if loaded.is_err() {
                refused += 1;
                assert!(bytes(&home) == before, "something was written: {}", damaged.len());
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn a_journal_that_does_not_load_keeps_its_log() {
    let home = Home::new();
    let many: Vec<Entry> = (0..400).map(|number| entry(&format!("order-{number}"), Stage::Planned)).collect();
    home.open().append(&many).unwrap();
    let mut store = home.open();
    store.append(&[entry("order-400", Stage::Planned)]).unwrap();
    let copy = copied(&home);
    let mut bytes = fs::read(copy.journal()).unwrap();
    let provider = bytes.windows(7).position(|window| window == b"deepvue").unwrap();
    bytes[provider] ^= 1;
    fs::write(copy.journal(), bytes).unwrap();
    let before = files(&copy);
    assert!(!before["journal-wal"].1.is_empty());
    let looks: [fn(&mut SqliteStore) -> bool; 3] = [
        |store| store.load().is_err(),
        |store| store.append(&[entry("order-401", Stage::Planned)]).is_err(),
        |store| store.find(&Key::new("order-1").unwrap()).is_err(),
    ];
    for is_refused in looks {
        assert!(is_refused(&mut copy.open()));
        assert!(files(&copy) == before);
    }
}

/// Its process was killed, and a bit of the file's header has flipped since: SQLite may find that before it is told to
/// leave the log.
#[test]
fn a_journal_with_a_damaged_header_keeps_its_log() {
    let home = Home::new();
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::Planned)]).unwrap();
    let killed = copied(&home);
    let whole = files(&killed);
    assert!(!whole["journal-wal"].1.is_empty());
    let mut refused = 0;
    for bit in 0..100 * 8 {
        let mut damaged = whole.clone();
        damaged.get_mut("journal").unwrap().1[bit / 8] ^= 1 << (bit % 8);
        for open in [SqliteStore::open, SqliteStore::open_read_only] {
            for name in files(&killed).keys() {
                fs::remove_file(killed.0.join(name)).unwrap();
            }
            for (name, (mode, bytes)) in &damaged {
                fs::write(killed.0.join(name), bytes).unwrap();
                set_mode(&killed.0.join(name), *mode);
            }
            if let Err(error) = open(killed.journal()) {
                refused += 1;
                assert!(files(&killed) == damaged, "bit {bit}: changed, and then refused: {error}");
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn a_closed_journal_that_does_not_load_gets_no_log() {
    let home = Home::new();
    home.open().append(&[entry("order-1", Stage::Planned)]).unwrap();
    home.tamper(&format!("UPDATE records SET {}", patch(25, "09")));
    let before = files(&home);
    assert_eq!(before.len(), 2);
    assert!(home.open().load().is_err());
    assert!(SqliteStore::open_read_only(home.journal()).unwrap().load().is_err());
    assert!(files(&home) == before);
}

#[test]
fn looking_at_a_closed_journal_leaves_no_log_beside_it() {
    let home = Home::new();
    home.open().append(&[entry("order-1", Stage::Planned)]).unwrap();
    let before = files(&home);
    let mut looking = SqliteStore::open_read_only(home.journal()).unwrap();
    assert_eq!(looking.load().unwrap().len(), 1);
    drop(looking);
    assert!(files(&home) == before);
}

/// Somebody keeps notes beside the operations: what is theirs neither holds up what is forgotten, nor goes with it.
#[test]
fn a_table_of_somebodys_that_refers_to_rows_changes_nothing() {
    let home = Home::new();
    home.open().append(&[entry("order-1", Stage::Delivered(READY)), entry("order-2", Stage::Accepted)]).unwrap();
    home.tamper(
        "CREATE TABLE notes (about REFERENCES records (first)); INSERT INTO notes SELECT first FROM records; \
         CREATE TABLE tags (about REFERENCES records (first) ON DELETE CASCADE); INSERT INTO tags SELECT first FROM records",
    );
    let mut store = home.open();
    store.append(&[entry("order-2", Stage::Ended(READY))]).unwrap();
    assert_eq!(store.forget(Timestamp::NEVER, 9).unwrap(), 1);
    drop(store);
    assert_eq!(home.ask("SELECT (SELECT count(*) FROM notes) || ' ' || (SELECT count(*) FROM tags)"), "2 2");
    assert!(home.open().verify().unwrap().problems.is_empty());
}

/// SQLite would remove it with the next log of the journal whose place it has, and all that it kept.
#[test]
fn no_journal_is_made_or_opened_where_a_part_of_one_belongs() {
    let home = Home::new();
    let client = home.open();
    for (suffix, is_there) in [("-wal", true), ("-mark", true), ("-wal", false), ("-mark", false)] {
        let part = beside(&home.journal(), suffix);
        if !is_there {
            let _ = fs::remove_file(&part);
        }
        let before = files(&home);
        let opened = [
            SqliteStore::open(&part),
            SqliteStore::open_read_only(&part),
            SqliteStore::open_backup(&part),
            SqliteStore::open_copy(&part),
        ];
        for opened in opened {
            let is_told =
                |error: &OpenError| matches!(error, OpenError::PartOf { journal } if *journal == home.journal());
            assert!(opened.as_ref().is_err_and(is_told), "{part:?}: {opened:?}");
        }
        assert_eq!(files(&home), before);
    }
    drop(client);
    // What merely is called so is a journal as any other.
    let other = Home::new();
    drop(SqliteStore::open(beside(&other.journal(), "-mark")).unwrap());
    drop(SqliteStore::open(beside(&other.journal(), "-mark")).unwrap());
}

/// SQLite takes `FILE-journal` for what an interrupted transaction has left, and removes it beside a FILE in which
/// there is nothing.
#[test]
fn no_journal_is_begun_where_another_one_would_go_for_it() {
    let home = Home::new();
    let other = beside(&home.journal(), "-journal");
    let mut client = SqliteStore::open(&other).unwrap();
    client.append(&[entry("order-1", Stage::Accepted)]).unwrap();
    for is_empty_there in [false, true] {
        if is_empty_there {
            fs::write(home.journal(), "").unwrap();
        }
        let opened = SqliteStore::open(home.journal());
        let is_told = |error: &OpenError| matches!(error, OpenError::WouldRemove { journal } if *journal == other);
        assert!(opened.as_ref().is_err_and(is_told), "{opened:?}");
    }
    client.append(&[entry("order-2", Stage::Accepted)]).unwrap();
    drop(client);
    assert_eq!(SqliteStore::open(&other).unwrap().load().unwrap().len(), 2);
}
