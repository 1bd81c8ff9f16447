//! A writer whose lock was lost, and whose journal another has taken over: what it still wants to write changes nothing.

use std::process::Command;

use super::*;

#[test]
fn a_commit_under_an_old_fence_changes_nothing() {
    let home = Home::new();
    let mut old = home.open();
    old.append(&[entry("ours", Stage::InFlight)]).unwrap();
    // On POSIX, who closes any handle of a file gives up all locks that its process has on it.
    drop(fs::File::open(home.journal()).unwrap());
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "overtaking::child_takes_over", "--ignored", "--nocapture"]).env("JOURNAL", home.journal());
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

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
    let mut store = SqliteStore::open(env::var("JOURNAL").unwrap()).unwrap();
    store.append(&[entry("theirs", Stage::InFlight)]).unwrap();
    // Killed, not closed.
    std::mem::forget(store);
}
