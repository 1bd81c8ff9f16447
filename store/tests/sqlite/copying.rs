//! Copies of a journal that is in use: whole, or none.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use proptest::prelude::*;
use steadfast_store::OpenError;
use steadfast_store::sqlite::{MayLock, Watermark};

use super::*;

const SUFFIXES: [&str; 3] = ["", "-wal", "-mark"];
const PAGE: usize = 4_096;

fn read(path: &Path, suffix: &str) -> Vec<u8> {
    fs::read(beside(path, suffix)).unwrap_or_default()
}

/// Its files are copied from another process, as an operator's would: this one holds none of them.
fn child(test: &str, home: &Home) -> Command {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", test, "--ignored", "--nocapture"]).env("JOURNAL", home.journal());
    child
}

#[test]
fn a_writer_that_never_rests_is_copied_whole_and_never_older_than_its_mark() {
    let home = Home::new();
    let mut writer = child("copying::child_writes", &home).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains("writing")).unwrap().unwrap();
    let mut last = 0;
    for _ in 0..100 {
        let mark = read(&home.journal(), "-mark");
        let mark = Watermark::from_bytes(&mark.try_into().unwrap());
        let mut copy = SqliteStore::open_copy(home.journal()).unwrap();
        let found = copy.watermark().sequence();
        assert!(found >= mark.map_or(0, |mark| mark.sequence()) && found >= last, "{mark:?} {found} {last}");
        assert!(copy.verify().unwrap().problems.is_empty());
        for entry in copy.load().unwrap() {
            assert_eq!(entry.payload, Some(payload(entry.record.attempts.into())));
        }
        last = found;
    }
    assert!(writer.try_wait().unwrap().is_none(), "the writer has stopped");
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(home.open().watermark().sequence() > last.min(2));
}

fn payload(number: u64) -> Vec<u8> {
    vec![number as u8; 50_000 + (number as usize * 7_919) % 50_000]
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own and ends it"]
fn child_writes() {
    let mut store = SqliteStore::open(env::var("JOURNAL").unwrap()).unwrap();
    for number in 0_u32.. {
        let mut entry = entry(&format!("order-{}", number % 4), Stage::InFlight);
        entry.record.attempts = number;
        store.append(&[entry.with_payload(payload(number.into()))]).unwrap();
        if number == 2 {
            println!("writing");
            std::io::stdout().flush().unwrap();
        }
    }
}

#[test]
fn a_copy_from_the_process_that_holds_it_is_refused_and_the_lock_stays() {
    let home = Home::new();
    let mut holder = home.open();
    holder.append(&[entry("order-1", Stage::Planned)]).unwrap();
    assert!(matches!(SqliteStore::open_copy(home.journal()), Err(OpenError::HeldHere)));
    let opens = || child("opening::child_opens", &home).status().unwrap().success();
    assert!(!opens(), "the lock is gone");
    let copies = || child("copying::child_copies", &home).status().unwrap().success();
    assert!(copies() && !opens());
    drop(holder);
    assert!(copies() && opens());
    SqliteStore::open_copy(home.journal()).unwrap();
}

#[test]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_copies() {
    let mut copy = SqliteStore::open_copy(env::var("JOURNAL").unwrap()).unwrap();
    assert_eq!(copy.load().unwrap(), [entry("order-1", Stage::Planned)]);
    assert!(copy.append(&[entry("order-2", Stage::Planned)]).unwrap_err().is_certain());
}

#[test]
fn copying_changes_nothing_and_leaves_nothing_behind() {
    let home = Home::new();
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::Planned)]).unwrap();
    let unclosed = Home::new();
    for suffix in SUFFIXES {
        fs::write(beside(&unclosed.journal(), suffix), read(&home.journal(), suffix)).unwrap();
    }
    let files = || SUFFIXES.map(|suffix| read(&unclosed.journal(), suffix));
    let (before, temporary) = (files(), Home::new());
    let copies_in = |temporary: &Path| {
        let mut child = child("copying::child_copies", &unclosed);
        // As it is called on Unix, and on Windows.
        child.env("TMPDIR", temporary).env("TMP", temporary).output().unwrap()
    };
    assert!(copies_in(&temporary.0).status.success());
    assert!(files() == before);
    assert_eq!(fs::read_dir(&temporary.0).unwrap().count(), 0);
    let refused = copies_in(&temporary.0.join("none"));
    let said = format!("{}{}", String::from_utf8_lossy(&refused.stdout), String::from_utf8_lossy(&refused.stderr));
    assert!(!refused.status.success() && said.contains("NotCopied"), "{said}");
}

#[test]
fn what_is_no_journal_is_not_copied() {
    let home = Home::new();
    assert!(matches!(SqliteStore::open_copy(home.journal()), Err(OpenError::Missing)));
    assert!(matches!(SqliteStore::open_copy(&home.0), Err(OpenError::NotAFile)));
    fs::write(home.journal(), "a text of somebody's, longer than a database's header. ".repeat(20)).unwrap();
    assert!(matches!(SqliteStore::open_copy(home.journal()), Err(OpenError::Foreign)));
}

#[test]
fn a_damaged_journal_is_not_copied() {
    let home = Home::new();
    let mut store = home.open();
    store.append(&[entry("order-1", Stage::Planned), entry("order-2", Stage::Planned)]).unwrap();
    drop(store);
    home.tamper("DELETE FROM records WHERE first = 2");
    let error = SqliteStore::open_copy(home.journal()).unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(why, "2 operations were written and 1 are here");
}

/// The files of a journal at some moment, and what it held.
struct Moment {
    files: [Vec<u8>; 3],
    sequence: u64,
    entries: Vec<Entry>,
}

/// A journal's files after each of these steps: `None` closes it, which moves its log into the file, and opens it
/// again.
fn history(steps: &[Option<(u8, u16)>]) -> Vec<Moment> {
    let home = Home::new();
    let mut store = Some(home.open());
    let mut moments = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Some((key, length)) => {
                let mut entry = entry(&format!("order-{key}"), Stage::InFlight);
                entry.record.attempts = number as u32;
                let payload = vec![number as u8; usize::from(*length)];
                store.as_mut().unwrap().append(&[entry.with_payload(payload)]).unwrap();
            }
            None => {
                drop(store.take());
                store = Some(home.open());
            }
        }
        let store = store.as_mut().unwrap();
        let (entries, sequence) = (store.load().unwrap(), store.watermark().sequence());
        moments.push(Moment { files: SUFFIXES.map(|suffix| read(&home.journal(), suffix)), sequence, entries });
    }
    moments
}

/// One of these, and then one of those that come after it, for as long as there are choices.
fn torn(images: &[&Vec<u8>], choices: &[prop::sample::Index], part: usize) -> Vec<u8> {
    let longest = images.iter().map(|image| image.len()).max().unwrap_or_default();
    let mut torn = Vec::new();
    for (place, choice) in (0..longest).step_by(part).zip(choices.iter().cycle()) {
        let image = images[choice.index(images.len())];
        let Some(bytes) = image.get(place..image.len().min(place + part)) else { break };
        torn.extend_from_slice(bytes);
    }
    torn
}

fn steps() -> impl Strategy<Value = Vec<Option<(u8, u16)>>> {
    let length = prop_oneof![4 => 0_u16..200, 1 => 0_u16..9_000];
    let step = prop_oneof![(0_u8..4, length).prop_map(Some), Just(None)];
    prop::collection::vec(step, 2..12).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Pages of the file, and parts of the log, each of another moment: worse than any copy can be.
    #[test]
    fn a_torn_copy_is_none_or_is_what_was_at_one_moment_not_before_the_mark(
        steps in steps(),
        begin in any::<prop::sample::Index>(),
        pages in prop::collection::vec(any::<prop::sample::Index>(), 12..24),
        logs in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
    ) {
        let moments = history(&steps);
        let meanwhile = &moments[begin.index(moments.len())..];
        let mark = &meanwhile[0];
        let home = Home::new();
        let images = |file: usize| meanwhile.iter().map(|moment| &moment.files[file]).collect::<Vec<_>>();
        fs::write(home.journal(), torn(&images(0), &pages, PAGE)).unwrap();
        fs::write(beside(&home.journal(), "-wal"), torn(&images(1), &logs, 7 * PAGE)).unwrap();
        fs::write(beside(&home.journal(), "-mark"), &mark.files[2]).unwrap();
        match SqliteStore::open_copy(home.journal()) {
            Ok(mut copy) => {
                let sequence = copy.watermark().sequence();
                prop_assert!(sequence >= mark.sequence);
                let moment = moments.iter().find(|moment| moment.sequence == sequence).unwrap();
                prop_assert_eq!(&copy.load().unwrap(), &moment.entries);
                prop_assert!(copy.verify().unwrap().problems.is_empty());
            }
            Err(error) => prop_assert!(matches!(error, OpenError::Torn { .. }), "{error:?}"),
        }
    }
}

/// As a `VACUUM` leaves it that is killed after `PRAGMA journal_mode = DELETE`: with `FILE-journal` beside it the file is
/// whole, and whoever opens it next goes back to what was committed.
#[test]
fn what_an_interrupted_tool_has_left_is_copied_as_it_was_before() {
    let home = Home::new();
    let entries: Vec<Entry> = (0..500).map(|number| entry(&format!("order-{number}"), Stage::Planned)).collect();
    home.open().append(&entries).unwrap();
    let tool = rusqlite::Connection::open(home.journal()).unwrap();
    tool.execute_batch(
        "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 5; BEGIN; UPDATE records SET body = zeroblob(99)",
    )
    .unwrap();
    let killed = Home::new();
    for suffix in ["", "-journal", "-mark"] {
        fs::copy(beside(&home.journal(), suffix), beside(&killed.journal(), suffix)).unwrap();
    }
    let files = || ["", "-journal", "-mark"].map(|suffix| fs::read(beside(&killed.journal(), suffix)).unwrap());
    let before = files();
    assert_eq!(SqliteStore::open_copy(killed.journal()).unwrap().load().unwrap(), entries);
    let backup = beside(&killed.journal(), "-backup");
    SqliteStore::back_up(killed.journal(), &backup, MayLock::Never).unwrap();
    assert_eq!(SqliteStore::open(&backup).unwrap().load().unwrap(), entries);
    assert!(files() == before, "looking at it changes nothing");
    assert_eq!(killed.open().load().unwrap(), entries);
}

/// Looked at as what a tool may have left, and closed again, it would lose its lock.
#[test]
fn another_journal_of_that_name_keeps_its_lock() {
    let home = Home::new();
    home.open().append(&[entry("order-1", Stage::Planned)]).unwrap();
    let namesake = beside(&home.journal(), "-journal");
    let mut holder = SqliteStore::open(&namesake).unwrap();
    holder.append(&[entry("order-2", Stage::Planned)]).unwrap();
    assert_eq!(SqliteStore::open_copy(home.journal()).unwrap().load().unwrap(), [entry("order-1", Stage::Planned)]);
    let opens = || child("opening::child_opens", &home).env("JOURNAL", &namesake).status().unwrap().success();
    assert!(!opens(), "the lock is gone");
    drop(holder);
    assert!(opens());
}
