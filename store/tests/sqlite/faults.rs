//! A disk that is full: files that may not grow. The limit is the process's, so each case has a process of its own.

use std::process::Command;

use rlimit::Resource;
use steadfast_store::sqlite::{BackUpError, MayLock};

use super::*;

/// Runs a test of this file's in a child that is told of a full disk by an error, not by a signal.
fn in_a_child(name: &str, journal: &Path) {
    let mut child = Command::new("sh");
    child.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(env::current_exe().unwrap());
    child.args(["--exact", name, "--ignored", "--nocapture"]).env("JOURNAL", journal);
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn limit(bytes: u64) {
    let (_, hard) = rlimit::getrlimit(Resource::FSIZE).unwrap();
    rlimit::setrlimit(Resource::FSIZE, bytes, hard).unwrap();
}

fn unlimited() {
    let (_, hard) = rlimit::getrlimit(Resource::FSIZE).unwrap();
    limit(hard);
}

fn batch(number: usize) -> Vec<Entry> {
    (0..50).map(|n| entry(&format!("order-{number}-{n}"), Stage::InFlight).with_payload([b'x'; 500])).collect()
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let home = Home::new();
    in_a_child("faults::child_fills_the_disk", &home.journal());
    // The child checked what it saw; this is what a restart finds.
    let kept = home.open().load().unwrap();
    let acknowledged: usize = fs::read_to_string(home.0.join("acknowledged")).unwrap().parse().unwrap();
    assert_eq!(kept, (0..acknowledged).flat_map(batch).collect::<Vec<_>>());
    assert!(acknowledged > 0);
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_fills_the_disk() {
    let journal = PathBuf::from(env::var("JOURNAL").unwrap());
    let mut store = SqliteStore::open(&journal).unwrap();
    limit(300_000);
    let full = (0..).find(|number| store.append(&batch(*number)).is_err()).unwrap();
    for _ in 0..100 {
        let error = store.append(&batch(full)).unwrap_err();
        assert!(error.is_certain(), "{error:?}");
    }
    assert_eq!(store.load().unwrap().len(), full * 50, "what is there can still be read");
    fs::write(journal.with_file_name("acknowledged"), full.to_string()).unwrap();
    // Killed, not closed.
    std::mem::forget(store);
}

#[test]
fn when_there_is_room_again_it_goes_on() {
    let home = Home::new();
    in_a_child("faults::child_gets_room_again", &home.journal());
    assert_eq!(home.open().load().unwrap(), [larger(0), larger(1), larger(2)].concat());
    assert!(home.open().verify().unwrap().problems.is_empty());
}

/// More than fits into the log that the one before it left.
fn larger(number: usize) -> Vec<Entry> {
    let many = 4_usize.pow(number as u32);
    (number * 100..number * 100 + many).flat_map(batch).collect()
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_gets_room_again() {
    let journal = PathBuf::from(env::var("JOURNAL").unwrap());
    let mut store = SqliteStore::open(&journal).unwrap();
    store.append(&larger(0)).unwrap();
    for (number, room) in [(1, 0), (2, 10_000)] {
        let count = store.count();
        limit(fs::metadata(beside(&journal, "-wal")).unwrap().len() + room);
        for _ in 0..3 {
            assert!(store.append(&larger(number)).unwrap_err().is_certain());
            assert_eq!(store.find(&larger(number)[0].record.key).unwrap(), None, "it is not there");
            assert_eq!(store.find(&batch(0)[0].record.key).unwrap().as_ref(), Some(&batch(0)[0]));
        }
        assert_eq!(store.load().unwrap().len() as u64, count, "what is there can still be read");
        unlimited();
        store.append(&larger(number)).unwrap();
    }
    assert_eq!(store.load().unwrap().len(), 50 * 21);
}

/// What the log holds lies in the file as well once it is brought there, and then its room is used again: none more is
/// needed for records of jobs that go on.
#[test]
fn a_full_disk_stops_nothing_while_the_log_has_room_in_it() {
    let home = Home::new();
    in_a_child("faults::child_uses_the_log_again", &home.journal());
    let mut kept = home.open();
    assert_eq!(kept.load().unwrap(), moved(39));
    assert!(kept.verify().unwrap().problems.is_empty());
}

fn moved(number: usize) -> Vec<Entry> {
    let mut entries = batch(0);
    entries.iter_mut().for_each(|entry| entry.record.polls = number as u16);
    entries
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_uses_the_log_again() {
    let journal = PathBuf::from(env::var("JOURNAL").unwrap());
    let mut store = SqliteStore::open(&journal).unwrap();
    (0..4).for_each(|number| store.append(&moved(number)).unwrap());
    let log = || fs::metadata(beside(&journal, "-wal")).unwrap().len();
    let full = log();
    limit(full);
    (4..40).for_each(|number| store.append(&moved(number)).unwrap());
    assert_eq!(log(), full);
    // Killed, not closed.
    std::mem::forget(store);
}

#[test]
fn of_a_backup_for_which_there_is_no_room_nothing_is_left() {
    let home = Home::new();
    home.open().append(&[batch(0), batch(1), batch(2)].concat()).unwrap();
    let mut holder = home.open();
    holder.append(&batch(3)).unwrap();
    in_a_child("faults::child_backs_up_without_room", &home.journal());
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_backs_up_without_room() {
    let journal = PathBuf::from(env::var("JOURNAL").unwrap());
    let names = || fs::read_dir(journal.parent().unwrap()).unwrap().count();
    let (before, length) = (names(), fs::metadata(&journal).unwrap().len());
    // Not enough for the file, for all but its end, and for what is in the log.
    for room in [length / 2, length - 1, length + 4_096] {
        limit(room);
        let error = SqliteStore::back_up(&journal, beside(&journal, "-backup"), MayLock::IfTorn).unwrap_err();
        unlimited();
        assert!(
            matches!(&error, BackUpError::NotWritten { to, .. } if *to == beside(&journal, "-backup")),
            "{error:?}"
        );
        assert_eq!(names(), before);
    }
}
