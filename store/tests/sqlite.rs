//! The store on SQLite where it differs from others: whose file it opens, what it finds wrong, and what a full disk
//! does to it.
//!
//! What every store must do is in the testkit's journal kit, which also damages the files. Modes, users, symbolic links
//! and files that are taken away while they are open are tested where there are such: on Unix.

#![cfg(feature = "sqlite")]
// What the tests on Unix alone use.
#![cfg_attr(not(unix), allow(dead_code, unused_imports))]

#[path = "sqlite/backing_up.rs"]
mod backing_up;
#[path = "sqlite/browsing.rs"]
mod browsing;
#[path = "sqlite/copying.rs"]
mod copying;
#[cfg(unix)]
#[path = "sqlite/faults.rs"]
mod faults;
#[path = "sqlite/live.rs"]
mod live;
#[path = "sqlite/making.rs"]
mod making;
#[path = "sqlite/marking.rs"]
mod marking;
#[cfg(unix)]
#[path = "sqlite/moving.rs"]
mod moving;
#[path = "sqlite/opening.rs"]
mod opening;
#[cfg(unix)]
#[path = "sqlite/overtaking.rs"]
mod overtaking;
#[path = "sqlite/pages.rs"]
mod pages;
#[path = "sqlite/querying.rs"]
mod querying;
#[path = "sqlite/refusing.rs"]
mod refusing;
#[path = "sqlite/syncing.rs"]
mod syncing;
#[path = "sqlite/tools.rs"]
mod tools;
#[path = "sqlite/verifying.rs"]
mod verifying;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, process};

use steadfast_core::operation::{Completed, Stage, Unresolved};
use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Outcome, Reference, Seed, Timestamp};
use steadfast_store::{Entry, SqliteStore, Store};

const READY: Outcome = Outcome::Completed(Completed::Ready);
const AMBIGUOUS: Outcome = Outcome::Unresolved(Unresolved::Ambiguous);

/// A directory that goes away, and the journal in it.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("steadfast-store-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn journal(&self) -> PathBuf {
        self.0.join("journal")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.journal()).unwrap()
    }

    /// Changes the file as somebody with a database tool would.
    fn tamper(&self, sql: &str) {
        rusqlite::Connection::open(self.journal()).unwrap().execute_batch(sql).unwrap();
    }

    fn ask(&self, sql: &str) -> String {
        rusqlite::Connection::open(self.journal()).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// SQL that puts these bytes, in hex, at this place of a body, which it counts from 1.
fn patch(at: usize, hex: &str) -> String {
    let rest = at + hex.len() / 2;
    format!("body = CAST(substr(body, 1, {at} - 1) || x'{hex}' || substr(body, {rest}) AS BLOB)")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// A test of this program, to be run as a process of its own by another one, on this journal.
fn child(name: &str, journal: &Path) -> Command {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", name, "--ignored", "--nocapture"]).env("JOURNAL", journal);
    child
}

/// The same for a user who may not do everything. Whoever may becomes somebody else first, and runs a program that
/// somebody else can reach.
#[cfg(unix)]
fn unprivileged(name: &str, home: &Home) -> Command {
    let program = home.0.join("program");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    set_mode(&home.0, 0o777);
    let mut child = Command::new(&program);
    child.args(["--exact", name, "--ignored", "--nocapture"]).env("JOURNAL", home.journal()).current_dir("/");
    let sealed = home.0.join("sealed");
    fs::write(&sealed, "").unwrap();
    set_mode(&sealed, 0o444);
    if fs::OpenOptions::new().append(true).open(sealed).is_ok() {
        std::os::unix::process::CommandExt::uid(&mut child, 65_534);
    }
    child
}

/// What its owner and others may do with a file; of all the same where that is not told by a mode.
fn mode(path: &Path) -> u32 {
    let _found = fs::metadata(path).unwrap();
    #[cfg(unix)]
    return std::os::unix::fs::PermissionsExt::mode(&_found.permissions()) & 0o777;
    #[cfg(not(unix))]
    0o600
}

fn set_mode(_path: &Path, _mode: u32) {
    #[cfg(unix)]
    fs::set_permissions(_path, std::os::unix::fs::PermissionsExt::from_mode(_mode)).unwrap();
}

fn succeeds(mut child: Command) {
    let output = child.output().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{failed}");
}

fn entry(key: &str, stage: Stage) -> Entry {
    let now = Timestamp::from_secs(1_700_000_000);
    let policy = OperationPolicy::default();
    let gate = &mut Gate::unlimited();
    let turn = &mut policy.turn(now, gate);
    let mut record = Operation::new(Key::new(key).unwrap(), Fingerprint::new([7; 16]), Seed::new(7), turn).record();
    record.stage = stage;
    record.reference = Reference::new(format!("txn-of-{key}")).ok();
    Entry::new(record, Arc::from("deepvue"), now)
}
