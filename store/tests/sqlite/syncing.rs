//! What the system is asked to do, where `strace` can watch: a process that is killed loses nothing that was written, so only this tells a
//! store that waits for the disk from one that does not.

use std::fs::File;
use std::process::{Command, Stdio};

use super::*;

const APPENDS: usize = 5;

#[test]
fn no_append_is_acknowledged_before_the_disk_has_it() {
    let can_watch = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    if !can_watch.is_ok_and(|status| status.success()) {
        eprintln!("not watched: `strace` is missing or not allowed");
        return;
    }
    let home = Home::new();
    let trace = home.0.join("trace");
    let mut child = Command::new("strace");
    child.args(["-f", "-y", "-e", "trace=openat,pwrite64,fsync,fdatasync", "-o"]).arg(&trace);
    child.arg(env::current_exe().unwrap()).args(["--exact", "syncing::child_appends", "--ignored"]);
    assert!(child.env("JOURNAL", home.journal()).stdout(Stdio::null()).status().unwrap().success());

    let (mut is_written, mut is_synced, mut acknowledged) = (false, false, 0);
    for line in fs::read_to_string(&trace).unwrap().lines() {
        let of_log = line.contains("journal-wal>");
        if of_log && line.contains("pwrite64(") {
            (is_written, is_synced) = (true, false);
        } else if of_log && line.contains("sync(") {
            is_synced = true;
        } else if line.contains("acknowledged") {
            assert!(is_written && is_synced, "append {acknowledged}: written {is_written}, synced {is_synced}");
            (is_written, is_synced, acknowledged) = (false, false, acknowledged + 1);
        }
    }
    assert_eq!(acknowledged, APPENDS);
}

#[test]
#[ignore = "a part of another, which watches it"]
fn child_appends() {
    let journal = PathBuf::from(env::var("JOURNAL").unwrap());
    let mut store = SqliteStore::open(&journal).unwrap();
    store.load().unwrap();
    for number in 0..APPENDS {
        store.append(&[entry(&format!("order-{number}"), Stage::InFlight)]).unwrap();
        // A mark in the trace: there is no such file.
        assert!(File::open(journal.with_file_name("acknowledged")).is_err());
    }
}
