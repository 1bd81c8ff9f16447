//! A writer whose lock was lost, and whose journal another has taken over: what it still wants to write changes
//! nothing.

use super::*;

#[test]
fn a_commit_under_an_old_fence_changes_nothing() {
    changes_nothing("overtaking::child_takes_over", |_| {});
}

/// The other one has a mark of its own then.
#[test]
fn nor_does_one_whose_mark_was_removed() {
    changes_nothing("overtaking::child_takes_over_without_a_mark", |mark| fs::remove_file(mark).unwrap());
}

/// The other one has added no record, and has removed some: written over that, they would be back.
#[test]
fn nor_does_one_that_knows_what_another_has_forgotten() {
    let home = Home::new();
    let mut old = home.open();
    old.append(&[entry("ours", Stage::InFlight), entry("over", Stage::Delivered(READY))]).unwrap();
    drop(fs::File::open(home.journal()).unwrap());
    succeeds(child("overtaking::child_forgets", &home.journal()));
    let error = old.append(&[entry("late", Stage::InFlight)]).unwrap_err();
    assert!(error.to_string().contains("another one has its jobs now"), "{error}");
    drop(old);
    assert_eq!(home.open().load().unwrap(), [entry("ours", Stage::InFlight)]);
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_forgets() {
    let mut store = SqliteStore::open(env::var("JOURNAL").unwrap()).unwrap();
    assert_eq!(store.forget(Timestamp::NEVER, 10).unwrap(), 1);
    // Killed, not closed.
    std::mem::forget(store);
}

fn changes_nothing(by: &str, meanwhile: fn(&Path)) {
    let home = Home::new();
    let mut old = home.open();
    old.append(&[entry("ours", Stage::InFlight)]).unwrap();
    // On POSIX, who closes any handle of a file gives up all locks that its process has on it.
    drop(fs::File::open(home.journal()).unwrap());
    meanwhile(&beside(&home.journal(), "-mark"));
    succeeds(child(by, &home.journal()));

    let files = || ["", "-wal", "-mark"].map(|suffix| fs::read(beside(&home.journal(), suffix)).unwrap());
    let before = files();
    for _ in 0..2 {
        let error = old.append(&[entry("late", Stage::InFlight)]).unwrap_err();
        assert!(error.is_certain() && error.to_string().contains("another one has its jobs now"), "{error}");
        assert!(old.forget(Timestamp::NEVER, 10).is_err());
    }
    drop(old);
    assert!(files() == before, "something was written");
    let keys: Vec<String> =
        home.open().load().unwrap().iter().map(|entry| entry.record.key.as_str().to_owned()).collect();
    assert_eq!(keys, ["ours", "theirs"]);
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_takes_over() {
    takes_over(SqliteStore::open(env::var("JOURNAL").unwrap()).unwrap());
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_takes_over_without_a_mark() {
    takes_over(SqliteStore::open_backup(env::var("JOURNAL").unwrap()).unwrap());
}

fn takes_over(mut store: SqliteStore) {
    store.append(&[entry("theirs", Stage::InFlight)]).unwrap();
    // Killed, not closed.
    std::mem::forget(store);
}
