//! Whose file it opens, and what it does to it.

#[cfg(unix)]
use std::os::unix::fs::symlink;
use std::process::Command;

use steadfast_store::OpenError;
use steadfast_store::sqlite::{BackUpError, MayLock};

use super::*;

#[test]
fn a_second_opener_is_refused_at_once_and_disturbs_nobody() {
    let home = Home::new();
    let mut first = home.open();
    first.append(&[entry("order-1", Stage::Planned)]).unwrap();
    assert!(matches!(SqliteStore::open(home.journal()), Err(OpenError::Locked { .. })));
    let refused = SqliteStore::open_read_only(home.journal()).unwrap_err();
    assert!(matches!(&refused, OpenError::Locked { journal } if *journal == home.journal()));
    assert!(refused.to_string().contains(home.journal().to_str().unwrap()), "a program may have several: {refused}");
    first.append(&[entry("order-2", Stage::Planned)]).unwrap();
    drop(first);
    let looks = SqliteStore::open_read_only(home.journal()).unwrap();
    assert!(
        matches!(SqliteStore::open(home.journal()), Err(OpenError::Locked { .. })),
        "what is looked at stands still"
    );
    drop(looks);
    assert_eq!(home.open().load().unwrap().len(), 2);
}

#[test]
fn another_process_is_refused() {
    let home = Home::new();
    let holder = home.open();
    let mut other = Command::new(env::current_exe().unwrap());
    let other = other.args(["--exact", "opening::child_opens", "--ignored"]).env("JOURNAL", home.journal()).status();
    assert!(!other.unwrap().success());
    drop(holder);
    let mut other = Command::new(env::current_exe().unwrap());
    let other = other.args(["--exact", "opening::child_opens", "--ignored"]).env("JOURNAL", home.journal()).status();
    assert!(other.unwrap().success());
}

#[test]
#[ignore = "a part of others, which run it in a process of its own"]
fn child_opens() {
    if let Err(error) = SqliteStore::open(env::var("JOURNAL").unwrap()) {
        assert!(matches!(error, OpenError::Locked { .. }), "{error}");
        process::exit(3);
    }
}

#[test]
fn a_newer_version_is_refused_and_left_as_it_is() {
    let home = Home::new();
    drop(home.open());
    home.tamper("PRAGMA user_version = 2");
    let bytes = fs::read(home.journal()).unwrap();
    assert!(matches!(SqliteStore::open(home.journal()), Err(OpenError::Newer { version: 2 })));
    assert_eq!(fs::read(home.journal()).unwrap(), bytes);
}

#[test]
fn what_is_not_a_journal_is_refused_and_left_as_it_is() {
    let home = Home::new();
    home.tamper("CREATE TABLE somebody_elses (text TEXT)");
    let database = fs::read(home.journal()).unwrap();
    for bytes in [database, b"a text of somebody's, longer than a database's header. ".repeat(20)] {
        fs::write(home.journal(), &bytes).unwrap();
        for opened in [SqliteStore::open(home.journal()), SqliteStore::open_read_only(home.journal())] {
            assert!(matches!(opened, Err(OpenError::Foreign)), "{opened:?}");
        }
        assert_eq!(fs::read(home.journal()).unwrap(), bytes);
    }
}

#[test]
#[cfg(unix)]
fn a_symbolic_link_a_directory_and_a_missing_file_are_refused() {
    let home = Home::new();
    drop(home.open());
    let link = home.0.join("link");
    symlink(home.journal(), &link).unwrap();
    assert!(matches!(SqliteStore::open(&link), Err(OpenError::Symlink)));
    assert!(matches!(SqliteStore::open(&home.0), Err(OpenError::NotAFile)));
    let nowhere = SqliteStore::open(home.0.join("no/journal")).map(drop);
    assert!(matches!(&nowhere, Err(OpenError::NoDirectory { directory }) if directory.ends_with("no")), "{nowhere:?}");
    assert!(matches!(SqliteStore::open_read_only(home.0.join("none")), Err(OpenError::Missing)));
    assert!(!home.0.join("none").exists());
}

#[test]
#[cfg(unix)]
fn a_path_that_is_too_long_for_sqlite_is_told_and_nothing_is_made_there() {
    let home = Home::new();
    let deep = fs::canonicalize(&home.0).unwrap().join("d".repeat(200)).join("d".repeat(200));
    fs::create_dir_all(&deep).unwrap();
    let path = |length: usize| deep.join("j".repeat(length - deep.as_os_str().len() - 1));
    drop(SqliteStore::open(path(504)).unwrap());
    for open in [SqliteStore::open, SqliteStore::open_read_only] {
        let error = open(path(505)).unwrap_err();
        assert!(matches!(error, OpenError::LongPath { bytes: 505 }), "{error:?}");
        assert!(error.to_string().contains("name a shorter one"));
    }
    assert!(!path(505).exists());
    // What counts is where it leads.
    let short = home.0.join("short");
    symlink(&deep, &short).unwrap();
    let named = |path: PathBuf| short.join(path.file_name().unwrap());
    assert!(matches!(SqliteStore::open(named(path(505))), Err(OpenError::LongPath { bytes: 505 })));
    assert!(SqliteStore::open(named(path(504))).is_ok());
    // A backup is made in a directory beside its place.
    let deeper = path(490);
    fs::create_dir(&deeper).unwrap();
    let error = SqliteStore::back_up(path(504), deeper.join("copy"), MayLock::IfTorn).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(matches!(error, BackUpError::NotWritten { .. }) && source.contains("name a shorter one"), "{error:?}");
}

#[test]
#[cfg(unix)]
fn all_files_are_their_owners_only() {
    let home = Home::new();
    let modes = || ["", "-wal", "-mark"].map(|suffix| mode(&beside(&home.journal(), suffix)));
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::Planned)]).unwrap();
    assert_eq!(modes(), [0o600; 3]);
    drop(store);
    for suffix in ["", "-mark"] {
        set_mode(&beside(&home.journal(), suffix), 0o644);
    }
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::Planned)]).unwrap();
    assert_eq!(modes(), [0o600; 3]);
}

/// SQLite would take it for a new database, and throw the log away.
#[test]
fn an_emptied_file_with_a_log_is_refused_and_the_log_kept() {
    let home = Home::new();
    let copy = Home::new();
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::Planned)]).unwrap();
    fs::copy(beside(&home.journal(), "-wal"), beside(&copy.journal(), "-wal")).unwrap();
    for emptied in [false, true] {
        if emptied {
            fs::write(copy.journal(), "").unwrap();
        }
        for opened in [SqliteStore::open(copy.journal()), SqliteStore::open_read_only(copy.journal())] {
            assert!(matches!(opened, Err(OpenError::Damaged(_))), "{opened:?}");
        }
        assert!(fs::metadata(beside(&copy.journal(), "-wal")).unwrap().len() > 0);
    }
}

/// Looking must not tidy up: a damaged log may be all that is left.
#[test]
fn looking_changes_nothing() {
    let home = Home::new();
    let copy = Home::new();
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::Planned)]).unwrap();
    for suffix in ["", "-wal", "-mark"] {
        fs::copy(beside(&home.journal(), suffix), beside(&copy.journal(), suffix)).unwrap();
    }
    let files = || ["", "-wal", "-mark"].map(|suffix| fs::read(beside(&copy.journal(), suffix)).unwrap());
    let before = files();
    let mut looking = SqliteStore::open_read_only(copy.journal()).unwrap();
    assert_eq!(looking.load().unwrap(), [entry("order-1", Stage::Planned)]);
    assert!(looking.verify().unwrap().problems.is_empty());
    assert!(looking.append(&[entry("order-2", Stage::Planned)]).unwrap_err().is_certain());
    drop(looking);
    assert!(files() == before);
}

#[test]
#[cfg(unix)]
fn a_read_only_file_can_be_looked_at_and_not_written() {
    let home = Home::new();
    home.open().append(&[entry("order-1", Stage::Planned)]).unwrap();
    for suffix in ["", "-mark"] {
        set_mode(&beside(&home.journal(), suffix), 0o444);
    }
    succeeds(unprivileged("opening::child_reads", &home));
}

#[test]
#[ignore = "a part of another, which runs it as another user"]
fn child_reads() {
    let path = env::var("JOURNAL").unwrap();
    let refused = SqliteStore::open(&path);
    assert!(matches!(&refused, Err(OpenError::ReadOnly | OpenError::Io(_))), "{refused:?}");
    // A second slash at the root is a path's, and no host of a URI.
    for path in [path.clone(), format!("/{path}")] {
        assert_eq!(SqliteStore::open_read_only(path).unwrap().load().unwrap(), [entry("order-1", Stage::Planned)]);
    }
}

/// SQLite would keep the one in memory, and take the others for the name of another file, with options.
#[test]
#[cfg(unix)]
fn a_name_that_means_something_to_sqlite_is_a_name() {
    let home = Home::new();
    let mut child = child("opening::child_names", &home.journal());
    child.current_dir(&home.0);
    succeeds(child);
    for name in NAMES {
        let path = home.0.join(name);
        assert!(["", "-mark"].map(|suffix| beside(&path, suffix)).iter().all(|file| file.is_file()), "{name}");
        assert_eq!(SqliteStore::open_read_only(path).unwrap().load().unwrap(), [entry(name, Stage::Planned)]);
    }
    assert!(matches!(SqliteStore::open(""), Err(OpenError::Missing)));
    assert!(matches!(SqliteStore::open_read_only(""), Err(OpenError::Missing)));
}

const NAMES: [&str; 4] = [":memory:", "file:jobs.db", "file:jobs.db?mode=memory", "jobs.db"];

#[test]
#[cfg(unix)]
#[ignore = "a part of another, which runs it in a directory of its own"]
fn child_names() {
    for name in NAMES {
        let mut store = SqliteStore::open(name).unwrap();
        // Wherever the program goes, its journal stays.
        let home = env::current_dir().unwrap();
        env::set_current_dir("/").unwrap();
        store.append(&[entry(name, Stage::Planned)]).unwrap();
        drop(store);
        env::set_current_dir(home).unwrap();
    }
}
