//! A journal and its mark: none is written to without one, since nobody could tell whether it is all that was kept.

use steadfast_store::OpenError;
use steadfast_store::sqlite::{Mark, MayLock, Watermark};

use super::*;

fn with_two() -> Home {
    let home = Home::new();
    home.open().append(&[entry("person-4711", Stage::Planned), entry("order-2", Stage::Accepted)]).unwrap();
    home
}

fn mark(home: &Home) -> PathBuf {
    beside(&home.journal(), "-mark")
}

fn state(home: &Home) -> Mark {
    SqliteStore::open_read_only(home.journal()).unwrap().verify().unwrap().mark
}

fn is_refused_as(home: &Home, expected: Mark) {
    let before = ["", "-mark"].map(|suffix| fs::read(beside(&home.journal(), suffix)).ok());
    match SqliteStore::open(home.journal()) {
        Err(error @ OpenError::Unmarked { state, .. }) => {
            let said = error.to_string();
            assert_eq!(state, expected);
            assert!(said.contains("journal-mark ") && said.contains("open_backup") && said.contains("from_backup()"));
            assert!(!said.contains("4711"), "a key in an error: {said}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(state(home), expected, "who only looks is told");
    let after = ["", "-mark"].map(|suffix| fs::read(beside(&home.journal(), suffix)).ok());
    assert!(before == after, "what is refused was changed");
}

#[test]
fn without_its_mark_a_journal_is_opened_as_a_backup_only() {
    type Harm = fn(&Path);
    let harms: [(Harm, Mark); 4] = [
        (|mark| fs::remove_file(mark).unwrap(), Mark::Missing),
        (|mark| fs::write(mark, "").unwrap(), Mark::Unreadable),
        (|mark| fs::write(mark, [0; 64]).unwrap(), Mark::Unreadable),
        (|mark| fs::write(mark, &fs::read(mark).unwrap()[..63]).unwrap(), Mark::Unreadable),
    ];
    for (harm, found) in harms {
        let home = with_two();
        harm(&mark(&home));
        is_refused_as(&home, found);
        let mut store = SqliteStore::open_backup(home.journal()).unwrap();
        assert_eq!((store.load().unwrap().len(), store.verify().unwrap().mark), (2, found));
        drop(store);
        assert!(matches!(SqliteStore::open(home.journal()), Err(OpenError::Unmarked { .. })), "nothing was written");
        let mut store = SqliteStore::open_backup(home.journal()).unwrap();
        store.append(&[entry("order-3", Stage::Planned)]).unwrap();
        drop(store);
        assert_eq!(state(&home), Mark::Whole);
        assert_eq!(home.open().load().unwrap().len(), 3);
    }
}

fn is_backup(home: &Home) -> bool {
    let [writes, looks] =
        [SqliteStore::open, SqliteStore::open_read_only].map(|open| open(home.journal()).unwrap().is_backup());
    assert_eq!(writes, looks);
    writes
}

/// Whatever is written to it, and however often it is opened: only a client that has begun on it knows what is
/// doubtful.
#[test]
#[cfg(unix)]
fn what_was_put_back_says_so_until_a_client_has_begun_on_it() {
    let (made, named, unmarked, whole) = (Home::new(), with_two(), with_two(), with_two());
    SqliteStore::back_up(whole.journal(), made.journal(), MayLock::IfTorn).unwrap();
    SqliteStore::open_backup(named.journal()).unwrap().load_live().unwrap();
    fs::remove_file(mark(&unmarked)).unwrap();
    SqliteStore::open_backup(unmarked.journal()).unwrap().append(&[entry("order-3", Stage::Accepted)]).unwrap();
    for home in [&made, &named, &unmarked] {
        assert!(is_backup(home) && state(home) == Mark::Whole);
        let mut store = home.open();
        store.append(&[entry("order-4", Stage::Delivered(READY))]).unwrap();
        assert_eq!((store.forget(Timestamp::NEVER, 9).unwrap(), store.is_backup()), (1, true));
        // One whose mark is removed is no other one.
        fs::remove_file(mark(home)).unwrap();
        store.append(&[entry("order-5", Stage::Accepted)]).unwrap();
        drop(store);
        assert!(is_backup(home));
        let copy = Home::new();
        SqliteStore::back_up(home.journal(), copy.journal(), MayLock::IfTorn).unwrap();
        assert!(is_backup(&copy));

        let mut store = home.open();
        let (end, kept) = (store.watermark(), store.load().unwrap());
        store.take_into_use().unwrap();
        assert!(!store.is_backup() && store.watermark() == end);
        drop(store);
        assert!(!is_backup(home) && state(home) == Mark::Whole);
        assert_eq!(home.open().load().unwrap(), kept);
    }
    assert!(!is_backup(&whole), "it was not put back, but copied");
}

#[test]
#[cfg(unix)]
fn a_backup_that_cannot_be_taken_into_use_stays_one() {
    let home = with_two();
    let mut store = SqliteStore::open_backup(home.journal()).unwrap();
    assert_eq!(store.load().unwrap().len(), 2);
    fs::remove_file(mark(&home)).unwrap();
    fs::create_dir(mark(&home)).unwrap();
    assert!(store.take_into_use().unwrap_err().is_certain() && store.is_backup());
    fs::remove_dir(mark(&home)).unwrap();
    store.append(&[entry("order-3", Stage::Planned)]).unwrap();
    drop(store);
    assert!(is_backup(&home));
    let mut looks = SqliteStore::open_read_only(home.journal()).unwrap();
    assert!(looks.take_into_use().is_err() && looks.is_backup());
}

#[test]
fn a_backup_that_is_not_there_is_not_made() {
    let home = Home::new();
    assert!(matches!(SqliteStore::open_backup(home.journal()), Err(OpenError::Missing)));
    assert!(!home.journal().exists());
    fs::write(home.journal(), "").unwrap();
    assert!(matches!(SqliteStore::open_backup(home.journal()), Err(OpenError::Missing)));
    assert!(!mark(&home).exists());
}

/// All that was kept lies in the log. What is left of it looks as if it had never been used.
#[test]
fn a_file_that_was_copied_alone_is_not_taken_for_a_new_journal() {
    let (home, copy) = (Home::new(), Home::new());
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::Accepted)]).unwrap();
    fs::copy(home.journal(), copy.journal()).unwrap();
    is_refused_as(&copy, Mark::Missing);
    assert_eq!(SqliteStore::open_backup(copy.journal()).unwrap().watermark().sequence(), 0);
    // With its mark it is known what is missing, and that is no backup's either.
    fs::copy(mark(&home), mark(&copy)).unwrap();
    for opened in [SqliteStore::open(copy.journal()), SqliteStore::open_backup(copy.journal())] {
        assert!(matches!(opened, Err(OpenError::Damaged(_))), "{opened:?}");
    }
}

/// Killed, or without power, after it had tables and before it could have a record.
#[test]
fn a_journal_that_was_being_made_gets_its_mark() {
    for left in [None, Some(&[][..]), Some(&[0; 64])] {
        let home = Home::new();
        drop(home.open());
        home.tamper("PRAGMA journal_mode = DELETE");
        fs::remove_file(mark(&home)).unwrap();
        if let Some(bytes) = left {
            fs::write(mark(&home), bytes).unwrap();
        }
        assert_eq!(home.open().verify().unwrap().mark, Mark::Whole);
        assert_eq!(state(&home), Mark::Whole);
    }
    // One that has records was made long ago, whatever a tool did to it.
    let home = with_two();
    home.tamper("PRAGMA journal_mode = DELETE");
    fs::remove_file(mark(&home)).unwrap();
    is_refused_as(&home, Mark::Missing);
}

#[test]
#[cfg(unix)]
fn a_mark_that_cannot_be_written_is_told_when_opening() {
    let home = with_two();
    set_mode(&home.journal(), 0o666);
    set_mode(&mark(&home), 0o444);
    succeeds(unprivileged("marking::child_is_refused", &home));
    // Nor is anything else taken for one.
    fs::remove_file(mark(&home)).unwrap();
    fs::create_dir(mark(&home)).unwrap();
    is_unusable(&home.journal());
}

fn is_unusable(journal: &Path) {
    for opened in [SqliteStore::open(journal), SqliteStore::open_backup(journal)] {
        let error = opened.unwrap_err();
        assert!(matches!(error, OpenError::MarkUnusable { .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.contains(&format!("{}-mark ", journal.display())) && said.contains("write access"), "{said}");
    }
}

#[test]
#[ignore = "a part of another, which runs it as another user"]
fn child_is_refused() {
    let journal = PathBuf::from(env::var("JOURNAL").unwrap());
    is_unusable(&journal);
    assert_eq!(SqliteStore::open_read_only(journal).unwrap().load().unwrap().len(), 2);
}

/// Its writer knows how far the journal has come: the next commit says so again, and no start finds the mark missing,
/// or an older one.
#[test]
#[cfg(unix)]
fn a_mark_that_is_emptied_removed_or_replaced_under_its_writer_is_written_anew_by_the_next_commit() {
    type Harm = fn(&Path, &Path);
    let harms: [Harm; 4] = [
        |mark, _| fs::write(mark, "").unwrap(),
        |mark, _| fs::remove_file(mark).unwrap(),
        |mark, aside| fs::rename(mark, aside).unwrap(),
        |mark, aside| fs::write(aside, "no mark").and_then(|()| fs::rename(aside, mark)).unwrap(),
    ];
    for harm in harms {
        let home = Home::new();
        let (mut store, aside) = (home.open(), home.0.join("aside"));
        store.append(&[entry("order-1", Stage::Planned)]).unwrap();
        harm(&mark(&home), &aside);
        for (key, sequence) in [("order-2", 2), ("order-3", 3)] {
            store.append(&[entry(key, Stage::Planned)]).unwrap();
            let found = fs::read(mark(&home)).unwrap().first_chunk().and_then(Watermark::from_bytes);
            assert_eq!(found.map(|mark| mark.sequence()), Some(sequence));
        }
        assert_eq!(mode(&mark(&home)) & 0o022, 0);
        drop(store);
        assert_eq!((state(&home), home.open().load().unwrap().len()), (Mark::Whole, 3));
    }
}

#[test]
#[cfg(unix)]
fn a_removed_mark_that_cannot_be_written_anew_stops_commits_until_it_can() {
    let home = Home::new();
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::Planned)]).unwrap();
    fs::remove_file(mark(&home)).unwrap();
    fs::create_dir(mark(&home)).unwrap();
    for _ in 0..2 {
        let error = store.append(&[entry("order-2", Stage::Planned)]).unwrap_err();
        let said = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(error.is_certain() && said.contains("FILE-mark beside it cannot be written"), "{said}");
    }
    fs::remove_dir(mark(&home)).unwrap();
    store.append(&[entry("order-2", Stage::Planned)]).unwrap();
    drop(store);
    assert_eq!((state(&home), home.open().load().unwrap().len()), (Mark::Whole, 2));
}
