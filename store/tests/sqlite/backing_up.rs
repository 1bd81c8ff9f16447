//! Backups: whole, in one file with its mark, or not there at all.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use steadfast_store::OpenError;
use steadfast_store::sqlite::{BackUpError, Backup, Mark, MayLock, Watermark};

use super::*;

/// Backs it up into a directory of its own.
fn back_up(home: &Home, lock: MayLock) -> (Home, Result<Backup, BackUpError>) {
    let to = Home::new();
    let backup = SqliteStore::back_up(home.journal(), to.journal(), lock);
    (to, backup)
}

/// The same by another process, as where a client runs here.
fn backs_up_elsewhere(home: &Home, to: &Home) -> Command {
    let mut child = child("backing_up::child_backs_up", &home.journal());
    child.env("BACKUP", to.journal());
    child
}

#[test]
#[ignore = "a part of others, which run it in a process of its own"]
fn child_backs_up() {
    let [journal, to] = ["JOURNAL", "BACKUP"].map(|name| env::var(name).unwrap());
    SqliteStore::back_up(journal, to, MayLock::IfTorn).unwrap();
}

fn entries() -> Vec<Entry> {
    let planned = entry("order-1", Stage::Planned).with_payload([7; 9_000]);
    vec![planned, entry("order-2", Stage::Delivered(READY)), entry("order-3", Stage::Ended(AMBIGUOUS))]
}

fn home() -> Home {
    let home = Home::new();
    home.open().append(&entries()).unwrap();
    home
}

fn names(home: &Home) -> Vec<String> {
    let name = |file: std::io::Result<fs::DirEntry>| file.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(&home.0).unwrap().map(name).collect();
    names.sort();
    names
}

/// All that a journal's directory holds.
fn files(home: &Home) -> Vec<(String, Vec<u8>)> {
    names(home).into_iter().map(|name| (name.clone(), fs::read(home.0.join(name)).unwrap())).collect()
}

/// Another journal with the same files, as its client would leave them that was killed.
fn unclosed(home: &Home) -> Home {
    let copy = Home::new();
    files(home).into_iter().for_each(|(name, bytes)| fs::write(copy.0.join(name), bytes).unwrap());
    copy
}

#[test]
fn a_backup_of_a_closed_journal_is_the_journal_and_only_its_owner_can_read_it() {
    let home = home();
    let before = files(&home);
    let (to, backup) = back_up(&home, MayLock::IfTorn);
    let backup = backup.unwrap();
    assert_eq!(files(&home), before);
    assert_eq!(names(&to), ["journal", "journal-mark"]);
    for name in names(&to) {
        assert_eq!(mode(&to.0.join(&name)), 0o600, "{name}");
    }
    assert_eq!((backup.operations, backup.mark), (3, Some(beside(&to.journal(), "-mark"))));
    let mut store = SqliteStore::open_backup(to.journal()).unwrap();
    assert_eq!((store.watermark(), store.load().unwrap()), (backup.watermark, entries()));
    let report = store.verify().unwrap();
    assert!(report.problems.is_empty() && report.mark == Mark::Whole, "{report:?}");
    drop(store);
    assert_eq!(home.open().watermark(), backup.watermark);
    // As every journal with its mark.
    to.open().append(&[entry("order-4", Stage::Planned)]).unwrap();
}

#[test]
fn a_backup_has_what_is_still_in_the_log_of_who_has_it_open_and_does_not_disturb_them() {
    let (home, to) = (home(), Home::new());
    let mut holder = home.open();
    holder.append(&[entry("order-4", Stage::InFlight)]).unwrap();
    let before = files(&home);
    succeeds(backs_up_elsewhere(&home, &to));
    assert_eq!(files(&home), before);
    assert_eq!(names(&to), ["journal", "journal-mark"]);
    let mut store = SqliteStore::open_backup(to.journal()).unwrap();
    assert_eq!((store.watermark(), store.load().unwrap()), (holder.watermark(), holder.load().unwrap()));
    drop(store);
    // The file is all of it, and its mark says so.
    assert_eq!(names(&to), ["journal", "journal-mark"]);
    holder.append(&[entry("order-5", Stage::InFlight)]).unwrap();
}

#[test]
fn a_backup_of_a_journal_whose_client_was_killed_has_its_log_and_a_mark_of_its_end() {
    let home = home();
    let mark = fs::read(beside(&home.journal(), "-mark")).unwrap();
    let mut holder = home.open();
    holder.append(&[entry("order-4", Stage::InFlight)]).unwrap();
    let killed = unclosed(&home);
    // After a crash it may be a little behind.
    fs::write(beside(&killed.journal(), "-mark"), mark).unwrap();
    let before = files(&killed);
    let (to, backup) = back_up(&killed, MayLock::IfTorn);
    assert_eq!(backup.unwrap().watermark, holder.watermark());
    let mut opened = to.open();
    assert_eq!((files(&killed), opened.load().unwrap()), (before, holder.load().unwrap()));
    opened.take_into_use().unwrap();
    let mark = fs::read(beside(&to.journal(), "-mark")).unwrap().try_into().unwrap();
    assert_eq!(Watermark::from_bytes(&mark), Some(holder.watermark()));
}

#[test]
fn backups_of_a_journal_that_never_rests_are_whole_or_refused() {
    let home = Home::new();
    let mut writer = child("copying::child_writes", &home.journal()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains("writing")).unwrap().unwrap();
    let (mut whole, mut last) = (0, 0);
    for _ in 0..30 {
        let (to, backup) = back_up(&home, MayLock::IfTorn);
        match backup {
            Ok(backup) => {
                let mut store = SqliteStore::open_backup(to.journal()).unwrap();
                assert_eq!((store.watermark(), store.count()), (backup.watermark, backup.operations));
                assert!(store.verify().unwrap().problems.is_empty() && backup.watermark.sequence() >= last);
                (whole, last) = (whole + 1, backup.watermark.sequence());
            }
            Err(error) => {
                assert!(matches!(error, BackUpError::Torn { tries: 20, .. }), "{error:?}");
                assert!(names(&to).is_empty());
            }
        }
    }
    assert!(writer.try_wait().unwrap().is_none(), "the writer has stopped");
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(whole > 0);
}

#[test]
fn a_backup_from_the_process_that_holds_the_journal_is_refused_and_the_lock_stays() {
    let home = home();
    let holder = home.open();
    for lock in [MayLock::IfTorn, MayLock::Never] {
        let (to, backup) = back_up(&home, lock);
        let error = backup.unwrap_err();
        assert!(matches!(&error, BackUpError::NotOpened { source: OpenError::HeldHere, .. }), "{error:?}");
        assert!(names(&to).is_empty());
    }
    let opens = || child("opening::child_opens", &home.journal()).status().unwrap().success();
    assert!(!opens(), "the lock is gone");
    drop(holder);
    assert!(opens() && back_up(&home, MayLock::IfTorn).1.is_ok());
}

#[test]
fn a_damaged_journal_is_not_backed_up_and_told_from_one_that_changes() {
    let home = home();
    home.tamper(&format!("UPDATE records SET {} WHERE first = 3", patch(56, "09")));
    let before = files(&home);
    let (to, backup) = back_up(&home, MayLock::IfTorn);
    let error = backup.unwrap_err();
    let BackUpError::Damaged { journal, problems } = &error else { panic!("{error:?}") };
    assert!(*journal == home.journal() && problems[0].what.starts_with("row 3 of key #"), "{error:?}");
    let said = error.to_string();
    assert!(said.contains(&home.journal().display().to_string()) && said.contains(&problems[0].what), "{said}");
    assert!(!format!("{said}{error:?}").contains("order-"), "{error:?}");
    assert!(names(&to).is_empty() && files(&home) == before);
    // Who asks for no lock cannot know.
    let (to, backup) = back_up(&home, MayLock::Never);
    let error = backup.unwrap_err();
    let BackUpError::Torn { tries: 20, problems, .. } = &error else { panic!("{error:?}") };
    assert!(problems[0].what.starts_with("row 3 of key #") && names(&to).is_empty(), "{error:?}");
    // Nor who finds it open elsewhere: there it may be pages of different moments.
    let _holder = home.open();
    let output = backs_up_elsewhere(&home, &to).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && said.contains("Torn"), "{said}");
    assert!(names(&to).is_empty());
}

#[test]
fn a_log_that_lost_its_end_is_damage() {
    let home = home();
    let mut holder = home.open();
    holder.append(&[entry("order-4", Stage::Planned)]).unwrap();
    let killed = unclosed(&home);
    fs::write(beside(&killed.journal(), "-wal"), []).unwrap();
    let (to, backup) = back_up(&killed, MayLock::IfTorn);
    let error = backup.unwrap_err();
    assert!(matches!(&error, BackUpError::NotOpened { source: OpenError::Damaged(_), .. }), "{error:?}");
    assert!(names(&to).is_empty());
}

#[test]
fn nothing_is_overwritten_nor_taken_for_a_part_of_the_backup() {
    let home = home();
    for suffix in ["", "-mark", "-wal", "-journal", "-shm"] {
        let to = Home::new();
        let taken = beside(&to.journal(), suffix);
        fs::write(&taken, "somebody's").unwrap();
        let error = SqliteStore::back_up(home.journal(), to.journal(), MayLock::IfTorn).unwrap_err();
        assert!(matches!(&error, BackUpError::Exists { file } if *file == taken), "{error:?}");
        assert!(error.to_string().contains(&taken.display().to_string()), "{error}");
        assert_eq!((names(&to).len(), fs::read_to_string(&taken).unwrap().as_str()), (1, "somebody's"));
    }
    let before = files(&home);
    let error = SqliteStore::back_up(home.journal(), home.journal(), MayLock::IfTorn).unwrap_err();
    assert!(matches!(error, BackUpError::Exists { .. }) && files(&home) == before);
}

/// A path need not be a text.
#[test]
#[cfg(unix)]
fn a_part_of_a_journal_is_known_by_any_name() {
    use std::os::unix::ffi::OsStrExt;
    let home = home();
    let journal = home.0.join(std::ffi::OsStr::from_bytes(b"j\xff"));
    drop(SqliteStore::open(&journal).unwrap());
    let part = home.0.join(std::ffi::OsStr::from_bytes(b"j\xff-wal"));
    let error = SqliteStore::back_up(home.journal(), &part, MayLock::IfTorn).unwrap_err();
    assert!(matches!(&error, BackUpError::PartOf { journal: told, .. } if *told == journal), "{error:?}");
    let error = SqliteStore::open(&part).unwrap_err();
    assert!(matches!(&error, OpenError::PartOf { journal: told } if *told == journal), "{error:?}");
}

/// It would go with the next log of the journal whose place it has.
#[test]
fn no_backup_is_made_where_a_part_of_a_journal_belongs() {
    let home = home();
    let before = files(&home);
    for suffix in ["-wal", "-journal", "-shm"] {
        let part = beside(&home.journal(), suffix);
        let error = SqliteStore::back_up(home.journal(), &part, MayLock::IfTorn).unwrap_err();
        let is_told =
            matches!(&error, BackUpError::PartOf { to, journal } if *to == part && *journal == home.journal());
        assert!(is_told && error.to_string().contains("name another file"), "{error:?}");
        assert!(files(&home) == before);
    }
}

#[test]
fn a_backup_needs_its_directory() {
    let home = home();
    let to = home.0.join("none").join("backup");
    let error = SqliteStore::back_up(home.journal(), &to, MayLock::IfTorn).unwrap_err();
    assert!(matches!(&error, BackUpError::NoDirectory { to: told } if *told == to), "{error:?}");
    assert_eq!(names(&home), ["journal", "journal-mark"]);
}

#[test]
#[cfg(unix)]
fn what_is_no_journal_is_not_backed_up() {
    let home = Home::new();
    let why = || match back_up(&home, MayLock::IfTorn) {
        (to, Err(BackUpError::NotOpened { journal, source })) => {
            assert!(journal == home.journal() && names(&to).is_empty());
            source
        }
        (_, other) => panic!("{other:?}"),
    };
    assert!(matches!(why(), OpenError::Missing));
    fs::write(home.journal(), "").unwrap();
    assert!(matches!(why(), OpenError::Missing));
    fs::write(home.journal(), "a text of somebody's, longer than a database's header. ".repeat(20)).unwrap();
    assert!(matches!(why(), OpenError::Foreign));
    fs::remove_file(home.journal()).unwrap();
    // Its log and its mark would be looked for beside the link.
    let (elsewhere, link) = (self::home(), home.journal());
    std::os::unix::fs::symlink(elsewhere.journal(), &link).unwrap();
    assert!(matches!(why(), OpenError::Symlink));
    fs::remove_file(&link).unwrap();
    fs::create_dir(&link).unwrap();
    assert!(matches!(why(), OpenError::NotAFile));
}

#[test]
fn a_backup_says_no_more_of_its_end_than_the_journal_could() {
    for mark in [None, Some("SFMARK1\nnot all of it")] {
        let home = home();
        fs::remove_file(beside(&home.journal(), "-mark")).unwrap();
        if let Some(bytes) = mark {
            fs::write(beside(&home.journal(), "-mark"), bytes).unwrap();
        }
        let (to, backup) = back_up(&home, MayLock::IfTorn);
        assert_eq!((backup.unwrap().mark, names(&to)), (None, vec!["journal".to_owned()]));
        assert!(matches!(SqliteStore::open(to.journal()), Err(OpenError::Unmarked { .. })));
        assert_eq!(SqliteStore::open_backup(to.journal()).unwrap().load().unwrap(), entries());
    }
}
