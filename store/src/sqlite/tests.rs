//! A commit that failed at its sync, which no test can bring about from outside: what is in the log, and what is known of it.

use std::sync::Arc;
use std::{env, fs, process};

use steadfast_core::operation::Stage;
use steadfast_core::{Fingerprint, Gate, Operation, OperationPolicy, Seed};

use super::*;

struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("steadfast-settle-{}-{name}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.0.join(format!("journal{suffix}"))
    }

    /// Another home, as a crash would leave this one.
    fn crashed(&self, name: &str) -> Self {
        let copy = Self::new(name);
        for suffix in ["", "-wal", "-mark"] {
            fs::copy(self.file(suffix), copy.file(suffix)).unwrap();
        }
        copy
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.file("")).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn entry(key: &str) -> Entry {
    let (policy, now) = (OperationPolicy::default(), Timestamp::from_secs(1));
    let gate = &mut Gate::unlimited();
    let turn = &mut policy.turn(now, gate);
    let mut record = Operation::new(Key::new(key).unwrap(), Fingerprint::new([7; 16]), Seed::new(7), turn).record();
    record.stage = Stage::InFlight;
    Entry::new(record, Arc::from("deepvue"), now)
}

/// A store that holds one entry and whose commit of a second one has failed at its sync, with all its pages in the log.
fn in_doubt(name: &str) -> (Home, SqliteStore) {
    let first = Home::new(&format!("{name}-first"));
    let mut store = first.open();
    store.append(&[entry("one")]).unwrap();
    // Twice the same journal; in the copy the second append is made, and its pages are then put into the log of the other.
    let home = first.crashed(name);
    drop(store);
    let mut store = home.open();
    let copy = home.crashed(&format!("{name}-copy"));
    let mut ahead = copy.open();
    ahead.append(&[entry("two")]).unwrap();
    fs::write(home.file("-wal"), fs::read(copy.file("-wal")).unwrap()).unwrap();
    store.places = Some(store.verified().unwrap());
    store.doubt = Some(Doubt { before: store.head, after: ahead.head });
    (home, store)
}

#[test]
fn a_commit_that_failed_at_its_sync_can_come_back_after_a_crash() {
    let (home, _store) = in_doubt("comes-back");
    assert_eq!(home.crashed("came-back").open().load().unwrap(), [entry("one"), entry("two")]);
}

#[test]
fn once_it_is_settled_it_cannot() {
    let (home, mut store) = in_doubt("settled");
    assert_eq!(store.load().unwrap(), [entry("one")]);
    assert!(store.doubt.is_none());
    assert_eq!(home.crashed("settled-crashed").open().load().unwrap(), [entry("one")]);
    store.append(&[entry("two")]).unwrap();
    assert_eq!(home.crashed("settled-appended").open().load().unwrap(), [entry("one"), entry("two")]);
}

#[test]
fn while_it_cannot_be_settled_nobody_knows() {
    let (_home, mut store) = in_doubt("unsettled");
    store.connection.execute_batch("PRAGMA query_only = ON").unwrap();
    assert!(!store.append(&[entry("two")]).unwrap_err().is_certain());
    assert!(!store.forget(Timestamp::NEVER, 1).unwrap_err().is_certain());
    assert!(store.load().is_err());
    assert!(store.find(&Key::new("one").unwrap()).is_err());
    store.connection.execute_batch("PRAGMA query_only = OFF").unwrap();
    store.append(&[entry("two")]).unwrap();
    assert_eq!(store.load().unwrap(), [entry("one"), entry("two")]);
}

#[test]
fn a_commit_that_did_happen_is_known_once_it_is_settled() {
    let home = Home::new("happened");
    let mut store = home.open();
    let before = store.head;
    store.append(&[entry("one")]).unwrap();
    store.doubt = Some(Doubt { before, after: store.head });
    store.head = before;
    assert_eq!(store.load().unwrap(), [entry("one")]);
    // Who was not told will append the same again, and it is there: an error must not say that it certainly is not.
    store.connection.execute_batch("PRAGMA query_only = ON").unwrap();
    assert!(!store.append(&[entry("one")]).unwrap_err().is_certain());
    store.connection.execute_batch("PRAGMA query_only = OFF").unwrap();
    store.append(&[entry("one")]).unwrap();
    store.connection.execute_batch("PRAGMA query_only = ON").unwrap();
    assert!(store.append(&[entry("two")]).unwrap_err().is_certain());
    store.connection.execute_batch("PRAGMA query_only = OFF").unwrap();
    store.append(&[entry("two")]).unwrap();
    drop(store);
    assert_eq!(home.open().load().unwrap(), [entry("one"), entry("two")]);
}

#[test]
fn a_head_that_is_neither_before_nor_after_is_damage() {
    let home = Home::new("neither");
    let mut store = home.open();
    let other = Head { sequence: 7, ..store.head };
    store.append(&[entry("one")]).unwrap();
    store.doubt = Some(Doubt { before: other, after: other });
    assert!(!store.append(&[entry("two")]).unwrap_err().is_certain());
}

#[test]
fn a_disk_that_is_full_is_a_failed_write_and_a_failed_sync_is_not() {
    let failed = |code| {
        let error = rusqlite::ffi::Error::new(code);
        Fault::from(rusqlite::Error::SqliteFailure(error, None)).is_failed_write()
    };
    assert!(failed(rusqlite::ffi::SQLITE_FULL) && failed(rusqlite::ffi::SQLITE_IOERR_WRITE));
    assert!(!failed(rusqlite::ffi::SQLITE_IOERR_FSYNC) && !failed(rusqlite::ffi::SQLITE_IOERR));
}

#[test]
fn two_rows_of_a_key_are_damage() {
    let home = Home::new("twice");
    let mut store = home.open();
    store.append(&[entry("one")]).unwrap();
    store.places = Some(Places::default());
    store.append(&[entry("one")]).unwrap();
    drop(store);
    assert!(home.open().load().is_err());
    let problems = home.open().verify().unwrap().problems;
    assert!(problems.iter().any(|problem| problem.what.contains("two rows of key #")), "{problems:?}");
}
