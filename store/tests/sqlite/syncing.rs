//! What the system is asked to do, where `strace` can watch: a process that is killed loses nothing that was written,
//! so only this tells a store that waits for the disk from one that does not.

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

    let trace = fs::read_to_string(&trace).unwrap();
    let (mut is_written, mut is_synced, mut acknowledged) = (false, false, 0);
    for line in trace.lines() {
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

    // The mark and its name are there before a log is. Later on nobody waits for it.
    let directory = format!("{}>", home.0.display());
    let syncs = |part: &str| {
        let is_sync = |(_, line): &(usize, &str)| line.contains("sync(") && line.contains(part);
        trace.lines().enumerate().filter(is_sync).map(|(at, _)| at).collect::<Vec<_>>()
    };
    let log = trace.lines().position(|line| line.contains("journal-wal>")).unwrap();
    let mark = syncs("journal-mark>");
    assert!(mark.len() == 1 && mark[0] < log, "the mark is synced at {mark:?}, and the log begins at {log}");
    assert!(syncs(&directory).iter().any(|at| (mark[0]..log).contains(at)), "the mark's name is not synced");
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
