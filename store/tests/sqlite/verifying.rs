//! What it finds wrong with a file that somebody changed, and what it says.

use std::error::Error;

use steadfast_store::sqlite::Mark;

use super::*;

const SECRET: &str = "person-4711";

fn with_three() -> Home {
    let home = Home::new();
    let stages = [Stage::Accepted, Stage::Unknown, Stage::Ended(AMBIGUOUS)];
    let mut store = home.open();
    for (number, stage) in stages.into_iter().enumerate() {
        store.append(&[entry(&format!("{SECRET}-{number}"), stage).with_payload("their data")]).unwrap();
    }
    drop(store);
    home
}

/// What goes wrong with each change, by `load` and by `verify`.
fn complaints(change: &str) -> (String, Vec<String>) {
    let home = with_three();
    home.tamper(change);
    let mut store = home.open();
    let said = store.load().map_or_else(chain, |_| String::new());
    let problems = store.verify().unwrap().problems;
    let problems: Vec<String> =
        problems.iter().map(|problem| format!("{}: {}", problem.what, problem.advice)).collect();
    assert!(!format!("{said} {problems:?} {store:?}").contains(SECRET));
    if !said.is_empty() {
        assert!(store.append(&[entry("another", Stage::Planned)]).is_err(), "{change}: went on with damage");
        let mut fresh = home_again(store, &home);
        assert!(fresh.find(&Key::new(format!("{SECRET}-0")).unwrap()).is_err(), "{change}: found in spite of damage");
    }
    (said, problems)
}

fn home_again(store: SqliteStore, home: &Home) -> SqliteStore {
    drop(store);
    home.open()
}

fn chain(error: impl Error) -> String {
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    format!("{error}: {source}")
}

#[test]
fn a_whole_journal_has_no_problems_and_tells_what_is_unresolved() {
    let home = with_three();
    let report = home.open().verify().unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let states: Vec<_> = report.states.into_iter().collect();
    assert_eq!(states, [("accepted", 1), ("ended", 1), ("unknown", 1)]);
    let keys: Vec<_> = report.unresolved.iter().map(|it| it.key.as_str()).collect();
    assert_eq!((report.unresolved_count, keys), (2, vec!["person-4711-1", "person-4711-2"]));
    assert!(report.unresolved.iter().all(|it| it.reference.is_some() && it.provider == "deepvue"));
}

#[test]
fn every_change_that_counts_is_found() {
    let row = |change: &str| format!("UPDATE records SET {change} WHERE first = 2");
    let provider = "body = CAST(replace(body, x'64656570', x'64656571') AS BLOB)";
    let hash = "body = CAST(substr(body, 1, length(body) - 16) || zeroblob(16) AS BLOB)";
    let changes = [
        ("DELETE FROM records WHERE first = 2".into(), "3 operations were written and 2 are here"),
        ("DELETE FROM records WHERE first = 3".into(), "3 operations were written and 2 are here"),
        (row("payload = x'00'"), "row 2 of key #"),
        (row("payload = NULL"), "row 2 of key #"),
        (row("answer_status = 200, answer_body = x'00'"), "not what was written"),
        (row("answer_status = 200"), "its answer"),
        (row("first = 9"), "not what was written"),
        // Its predecessor's hash, its number, when it was written, accepted and ended.
        (row(&patch(1, "0000000000000000")), "not what was written"),
        (row(&patch(17, "09")), "not what was written"),
        (row(&patch(25, "09")), "row 2 of key #"),
        (row(&patch(33, "09")), "not what was written"),
        (row(&patch(41, "09")), "not what was written"),
        // The record's length and version, its stage, its key.
        (row(&patch(49, "00")), "row 2 of key #"),
        (row(&patch(55, "02")), "which may be a newer release's"),
        (row(&patch(56, "09")), "its record"),
        (row(&patch(107, "7A")), "row 2 of key #"),
        (row(provider), "not what was written"),
        (row(hash), "not what was written"),
        (row("body = body || x'00'").replace("body || x'00'", "CAST(body || x'00' AS BLOB)"), "row 2 of key #"),
        (row("body = x'00'"), "row 2, its place in the chain"),
    ];
    for (change, expected) in changes {
        let (said, problems) = complaints(&change);
        assert!(said.contains(expected), "{change}: {said}");
        assert!(said.contains("from a copy"), "{change}: {said}");
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{change}: {problems:?}");
    }
}

/// The row is whole, and was there once: only the head knows that it is old.
#[test]
fn a_row_that_was_set_back_is_found() {
    let home = with_three();
    home.tamper("CREATE TABLE old AS SELECT * FROM records WHERE first = 1");
    let mut store = home.open();
    store.append(&[entry("person-4711-0", Stage::Ended(READY))]).unwrap();
    drop(store);
    home.tamper("REPLACE INTO records SELECT * FROM old; DROP TABLE old");
    assert!(chain(home.open().load().unwrap_err()).contains("older than it should be"));
}

#[test]
fn a_damaged_head_or_table_is_found_when_opening() {
    let changes = [
        "UPDATE head SET count = 2",
        "UPDATE head SET sum = zeroblob(16)",
        "UPDATE head SET sum = zeroblob(15)",
        "UPDATE head SET sequence = 9",
        "DELETE FROM head",
        "DROP VIEW operations",
        "DROP VIEW operations; CREATE VIEW operations AS SELECT first, 'accepted' AS state FROM records",
        "ALTER TABLE head RENAME COLUMN count TO cound",
        "ALTER TABLE records RENAME COLUMN payload TO paylord",
        "CREATE TRIGGER t AFTER INSERT ON records BEGIN DELETE FROM records; END",
        "CREATE TRIGGER t INSTEAD OF DELETE ON operations BEGIN DELETE FROM records; END",
    ];
    for change in changes {
        let home = with_three();
        home.tamper(change);
        let error = SqliteStore::open(home.journal()).err().unwrap_or_else(|| panic!("{change}: opened"));
        assert!(error.to_string().starts_with("the journal is damaged"), "{change}: {error}");
    }
}

#[test]
fn a_journal_that_is_older_than_its_mark_is_not_opened() {
    let home = with_three();
    let old = fs::read(home.journal()).unwrap();
    let mut store = home.open();
    let mark = store.watermark();
    store.append(&[entry("order-9", Stage::Planned)]).unwrap();
    let later = store.watermark();
    store.check_watermark(&mark).unwrap();
    drop(store);
    fs::write(home.journal(), old).unwrap();
    let error = SqliteStore::open(home.journal()).unwrap_err().to_string();
    assert!(error.contains("records up to sequence 4 were durable, and the file ends at 3"), "{error}");
    // Without the mark it is a backup like any other, but who kept it elsewhere knows.
    fs::remove_file(beside(&home.journal(), "-mark")).unwrap();
    let mut store = SqliteStore::open_backup(home.journal()).unwrap();
    store.check_watermark(&mark).unwrap();
    assert!(chain(store.check_watermark(&later).unwrap_err()).contains("ends at 3"));
    assert!(chain(with_three().open().check_watermark(&mark).unwrap_err()).contains("another journal"));
}

/// To forget is a commit like any other: a log that loses it would bring back what was told to be gone.
#[test]
fn what_was_forgotten_does_not_come_back_with_a_log_that_lost_its_end() {
    let (home, copy) = (Home::new(), Home::new());
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::Delivered(READY)), entry("order-2", Stage::InFlight)]).unwrap();
    let log = fs::read(beside(&home.journal(), "-wal")).unwrap();
    assert_eq!(store.forget(Timestamp::NEVER, 10).unwrap(), 1);
    for suffix in ["", "-mark"] {
        fs::copy(beside(&home.journal(), suffix), beside(&copy.journal(), suffix)).unwrap();
    }
    fs::write(beside(&copy.journal(), "-wal"), log).unwrap();
    let opened = SqliteStore::open(copy.journal()).map(|mut store| store.load().unwrap().len());
    assert!(opened.as_ref().is_err_and(|error| error.to_string().contains("durable")), "{opened:?}");
}

#[test]
fn a_watermark_reads_back_as_written_and_never_otherwise() {
    use steadfast_store::sqlite::Watermark;
    let bytes = with_three().open().watermark().to_bytes();
    assert_eq!(Watermark::from_bytes(&bytes).map(|mark| mark.to_bytes()), Some(bytes));
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Watermark::from_bytes(&bytes), None, "bit {bit}");
    }
}

#[test]
fn a_payload_that_is_needed_no_more_is_overwritten() {
    let home = Home::new();
    let mut store = home.open();
    let payload = b"name and date of birth";
    store.append(&[entry("order-1", Stage::InFlight).with_payload(payload.repeat(1_000))]).unwrap();
    drop(store);
    let holds = |home: &Home| fs::read(home.journal()).unwrap().windows(payload.len()).any(|part| part == payload);
    assert!(holds(&home));
    home.open().append(&[entry("order-1", Stage::Ended(READY))]).unwrap();
    assert!(!holds(&home));
}

/// With a log beside it SQLite may call that an I/O error, and a person would look for a failing disk.
#[test]
fn a_file_that_was_cut_off_is_damaged() {
    let (home, copy) = (Home::new(), Home::new());
    home.open().append(&[entry("order-1", Stage::InFlight).with_payload([7; 7_900])]).unwrap();
    let mut store = home.open();
    store.append(&[entry("order-2", Stage::InFlight)]).unwrap();
    let (written, whole) = (store.load().unwrap(), fs::read(home.journal()).unwrap());
    for pages in 1..whole.len() / 4_096 {
        for suffix in ["-wal", "-mark"] {
            fs::copy(beside(&home.journal(), suffix), beside(&copy.journal(), suffix)).unwrap();
        }
        fs::write(copy.journal(), &whole[..pages * 4_096]).unwrap();
        let said = match SqliteStore::open_read_only(copy.journal()) {
            Ok(mut store) => {
                let problems = store.verify().unwrap().problems;
                match store.load() {
                    Ok(entries) => assert_eq!(entries, written, "{pages}"),
                    Err(_) => assert!(!problems.is_empty(), "{pages}"),
                }
                store.load().map_or_else(chain, |_| "from a copy".into())
            }
            Err(error) => chain(error),
        };
        assert!(said.contains("from a copy"), "{pages}: {said}");
    }
}

/// Damage that is found only when rows are read: what lies in the log may be all that is left of them.
#[test]
fn what_is_found_damaged_is_left_as_it_is() {
    let home = Home::new();
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::InFlight)]).unwrap();
    store.append(&[entry("order-2", Stage::InFlight)]).unwrap();
    // As a killed process leaves it.
    let copy = Home::new();
    for suffix in ["", "-wal", "-mark"] {
        fs::copy(beside(&home.journal(), suffix), beside(&copy.journal(), suffix)).unwrap();
    }
    // SQLite does not mind, the hashes do.
    let tamper = rusqlite::Connection::open(copy.journal()).unwrap();
    tamper.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    tamper.execute("UPDATE records SET body = zeroblob(10) WHERE first = 1", []).unwrap();
    drop(tamper);
    let files = || ["", "-wal"].map(|suffix| fs::read(beside(&copy.journal(), suffix)).unwrap());
    let before = files();
    assert!(before[1].len() > 100);
    let mut store = copy.open();
    assert!(store.load().is_err());
    assert!(store.append(&[entry("order-3", Stage::InFlight)]).is_err());
    drop(store);
    assert_eq!(files(), before);
}

/// Whether the file beside it can testify is told as it was found, by the journal itself and by a copy of it.
#[test]
fn a_mark_that_cannot_testify_is_told() {
    let home = with_three();
    let mark = beside(&home.journal(), "-mark");
    let whole = fs::read(&mark).unwrap();
    let testify = |expected: Mark| {
        for open in [SqliteStore::open_read_only, SqliteStore::open_copy] {
            let report = open(home.journal()).unwrap().verify().unwrap();
            assert_eq!((report.mark, report.problems.len()), (expected, 0));
        }
    };
    testify(Mark::Whole);
    let new = Home::new();
    assert_eq!(new.open().verify().unwrap().mark, Mark::Whole);
    fs::remove_file(beside(&new.journal(), "-mark")).unwrap();
    assert_eq!(SqliteStore::open_read_only(new.journal()).unwrap().verify().unwrap().mark, Mark::Missing);
    for bit in [0, 77, whole.len() * 8 - 1] {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        fs::write(&mark, flipped).unwrap();
        testify(Mark::Unreadable);
    }
    fs::write(&mark, &whole[1..]).unwrap();
    testify(Mark::Unreadable);
    fs::remove_file(&mark).unwrap();
    testify(Mark::Missing);
    let mut store = SqliteStore::open_backup(home.journal()).unwrap();
    assert_eq!(store.verify().unwrap().mark, Mark::Missing);
    store.append(&[entry("another", Stage::Planned)]).unwrap();
    assert_eq!(store.verify().unwrap().mark, Mark::Whole);
    drop(store);
    testify(Mark::Whole);
}

/// The place of a page's first cell lies beyond the page. SQLite says so when it first reads the page, and reads on as
/// if nothing were the second time.
#[test]
fn what_was_found_damaged_stays_so_until_it_is_opened_anew() {
    let home = with_three();
    let mut bytes = fs::read(home.journal()).unwrap();
    bytes[4096 + 8] ^= 0x10;
    fs::write(home.journal(), bytes).unwrap();
    let mut store = home.open();
    let refused = store.load_live().unwrap_err();
    assert!(refused.source().is_some_and(|source| source.is::<steadfast_store::sqlite::DamageError>()), "{refused:?}");
    assert!(store.load().is_err() && store.load_live().is_err());
    assert!(store.append(&[entry("order-1", Stage::Planned)]).is_err());
}
