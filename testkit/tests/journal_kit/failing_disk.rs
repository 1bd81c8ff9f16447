//! Commits on SQLite that really fail, and one that really takes long: a disk that is full, and calls to the system
//! that fail or wait.
//!
//! Limits and calls are a process's own, so each case has a process of its own, which is this program once more. Calls
//! are caught by a small library that is built with the C compiler which SQLite needs anyway, and that only looks at
//! the journal's log.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, process, thread};

use rlimit::Resource;
use steadfast_core::operation::Stage;
use steadfast_store::{OpenError, SqliteStore, Store};
use steadfast_testkit::journal_kit;

use super::child;

/// A directory that goes away.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("steadfast-failing-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn succeeds(mut child: Command) {
    let output = child.output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{failed}");
}

fn limit(bytes: u64) {
    let (_, hard) = rlimit::getrlimit(Resource::FSIZE).unwrap();
    rlimit::setrlimit(Resource::FSIZE, bytes.min(hard), hard).unwrap();
}

fn log(journal: &Path) -> PathBuf {
    PathBuf::from(format!("{}-wal", journal.display()))
}

#[test]
fn each_commit_meets_a_full_disk() {
    let home = Home::new();
    let mut child = Command::new("sh");
    // Told of a full disk by an error, not by a signal.
    child.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(env::current_exe().unwrap());
    child.args(["--exact", "failing_disk::child_fills_the_disk", "--ignored", "--nocapture"]);
    child.env("JOURNAL", home.0.join("journal"));
    succeeds(child);
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_fills_the_disk() {
    let journal = env::var("JOURNAL").unwrap();
    // Room for nothing, for a part of a page's header, for that, for a part of the page, for one page, for some.
    for room in [0, 1, 23, 24, 25, 2_000, 4_119, 4_120, 4_121, 6_000, 8_240] {
        let journal = PathBuf::from(format!("{journal}-{room}"));
        let length = || fs::metadata(log(&journal)).map_or(0, |log| log.len());
        let failed = journal_kit::check_failures(
            || SqliteStore::open(&journal).unwrap(),
            |fails| limit(if fails { length() + room } else { u64::MAX }),
        );
        assert!(failed[0] > 0 && failed[1] == 0, "with room for {room} bytes, {failed:?} commits failed");
    }
}

/// Between a program and its system: what `FAULT` says happens to what is done to a file whose name ends in `-wal`.
/// `s`: to sync it fails. `w3`: to write to it fails, but for three times. `h`: to sync it makes `FAULT-waits` and
/// waits until somebody opens the pipe `FAULT-pipe`.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int passed;

static char fault(int fd, int *number) {
    char name[64], path[4096], said[16] = {0};
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path);
    const char *plan = getenv("FAULT");
    if (!plan || length < 4 || memcmp(path + length - 4, "-wal", 4)) return 0;
    int file = open(plan, O_RDONLY);
    if (file < 0) return 0;
    if (read(file, said, sizeof said - 1) < 0) said[0] = 0;
    close(file);
    *number = atoi(said + 1);
    if (said[0] != 'w') passed = 0;
    return said[0];
}

static int failing_sync(int fd, long call) {
    int number = 0;
    char kind = fault(fd, &number);
    if (kind == 's') { errno = EIO; return -1; }
    if (kind == 'h') {
        char pipe[4096];
        snprintf(pipe, sizeof pipe, "%s-waits", getenv("FAULT"));
        close(open(pipe, O_WRONLY | O_CREAT, 0600));
        snprintf(pipe, sizeof pipe, "%s-pipe", getenv("FAULT"));
        close(open(pipe, O_RDONLY));
    }
    return syscall(call, fd);
}

int fsync(int fd) { return failing_sync(fd, SYS_fsync); }
int fdatasync(int fd) { return failing_sync(fd, SYS_fdatasync); }

static int fails_to_write(int fd) {
    int number = 0;
    if (fault(fd, &number) != 'w' || passed++ < number) return 0;
    errno = EIO;
    return 1;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    return fails_to_write(fd) ? -1 : syscall(SYS_write, fd, bytes, length);
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    return fails_to_write(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, length, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t at) {
    return fails_to_write(fd) ? -1 : syscall(SYS_pwrite64, fd, bytes, length, at);
}
"#;

/// Runs a test of this file's with the library between it and its system.
fn with_faults(name: &str) {
    let home = Home::new();
    let (source, library) = (home.0.join("shim.c"), home.0.join("shim.so"));
    fs::write(&source, SHIM).unwrap();
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let built = Command::new(compiler).args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).status();
    assert!(built.unwrap().success());
    let mut child = child(&format!("failing_disk::{name}"), &home.0.join("journal"));
    child.env("LD_PRELOAD", library).env("FAULT", home.0.join("fault"));
    succeeds(child);
}

fn tell(fault: Option<&str>) {
    let plan = env::var("FAULT").unwrap();
    match fault {
        Some(fault) => fs::write(plan, fault).unwrap(),
        None => fs::remove_file(plan).unwrap(),
    }
}

#[test]
fn each_commit_meets_a_disk_that_does_not_write() {
    with_faults("child_cannot_write");
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_cannot_write() {
    let journal = env::var("JOURNAL").unwrap();
    let mut failed = [0; 2];
    // A commit of few rows has three pages at most, each written in two goes, and the log's own header.
    for writes in 0..7 {
        let journal = format!("{journal}-{writes}");
        let plan = format!("w{writes}");
        let open = || SqliteStore::open(&journal).unwrap();
        let now = journal_kit::check_failures(open, |fails| tell(fails.then_some(&plan)));
        failed = [failed[0] + now[0], failed[1] + now[1]];
    }
    assert!(failed[0] > 30 && failed[1] == 0, "{failed:?} commits failed");
}

#[test]
fn each_commit_meets_a_disk_that_does_not_sync() {
    with_faults("child_cannot_sync");
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_cannot_sync() {
    let journal = env::var("JOURNAL").unwrap();
    let open = || SqliteStore::open(&journal).unwrap();
    let failed = journal_kit::check_failures(open, |fails| tell(fails.then_some("s")));
    assert!(failed[0] == 0 && failed[1] > 5, "{failed:?} commits failed: all is in the log, so nobody knows");
}

#[test]
fn a_commit_that_waits_for_the_disk_keeps_others_out_and_is_there_or_not() {
    with_faults("child_waits");
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_waits() {
    let journal = PathBuf::from(env::var("JOURNAL").unwrap());
    let [pipe, waits] = ["pipe", "waits"].map(|name| PathBuf::from(format!("{}-{name}", env::var("FAULT").unwrap())));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let [before, slow] = [1, 2].map(|number| journal_kit::entry(number, Stage::InFlight, number));
    let mut store = SqliteStore::open(&journal).unwrap();
    store.append(std::slice::from_ref(&before)).unwrap();
    tell(Some("h"));
    let entries = [slow.clone()];
    let appends = thread::spawn(move || store.append(&entries).map(|()| store));
    while !waits.exists() && !appends.is_finished() {
        thread::yield_now();
    }
    tell(None);
    assert!(!appends.is_finished());
    assert!(matches!(SqliteStore::open(&journal), Err(OpenError::Locked { .. })));
    let copy = journal.with_file_name("killed");
    for suffix in ["", "-wal", "-mark"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        fs::copy(name(&journal), name(&copy)).unwrap();
    }
    let left = SqliteStore::open(copy).unwrap().load().unwrap();
    assert!(left == [before.clone()] || left == [before.clone(), slow.clone()], "{} operations", left.len());
    // Opened as soon as it is read at the other end, which goes on when it is closed.
    drop(fs::File::options().write(true).open(pipe).unwrap());
    let mut store = appends.join().unwrap().unwrap();
    assert_eq!(store.load().unwrap(), [before, slow]);
}
