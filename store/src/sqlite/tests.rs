//! A commit that failed at its sync, seen from inside: what is in the log, and what is known of it. The testkit makes
//! one fail from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process, slice};

use proptest::prelude::*;
use rusqlite::StatementStatus;
use rusqlite::types::Value;
use steadfast_core::operation::{Rejected, Stage, Unresolved};
use steadfast_core::{Fingerprint, Gate, Operation, OperationPolicy, Outcome, Seed};

use super::*;

pub(super) struct Home(PathBuf);

impl Home {
    pub(super) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("steadfast-settle-{}-{name}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn file(&self, suffix: &str) -> PathBuf {
        self.0.join(format!("journal{suffix}"))
    }

    /// Another home with the files as a crash would leave them here.
    pub(super) fn crashed(&self, name: &str) -> Self {
        let copy = Self::new(name);
        for suffix in ["", "-wal", "-mark"] {
            fs::copy(self.file(suffix), copy.file(suffix)).unwrap();
        }
        copy
    }

    pub(super) fn open(&self) -> SqliteStore {
        SqliteStore::open(self.file("")).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn entry(key: &str) -> Entry {
    let (policy, now) = (OperationPolicy::default(), Timestamp::from_secs(1));
    let gate = &mut Gate::unlimited();
    let turn = &mut policy.turn(now, gate);
    let mut record = Operation::new(Key::new(key).unwrap(), Fingerprint::new([7; 16]), Seed::new(7), turn).record();
    record.stage = Stage::InFlight;
    Entry::new(record, Arc::from("deepvue"), now)
}

/// A store that holds one entry and whose commit of a second one has failed at its sync, with all its pages in the log.
fn in_doubt(name: &str) -> (Home, SqliteStore) {
    let first = Home::new(&format!("{name}-first"));
    let mut store = first.open();
    store.append(&[entry("one")]).unwrap();
    // Two copies of the same journal; the second append is made in the copy, and its pages are then put into the log of
    // the other.
    let home = first.crashed(name);
    drop(store);
    let mut store = home.open();
    let copy = home.crashed(&format!("{name}-copy"));
    let mut ahead = copy.open();
    ahead.append(&[entry("two")]).unwrap();
    fs::write(home.file("-wal"), fs::read(copy.file("-wal")).unwrap()).unwrap();
    store.places = Some(store.verified().unwrap());
    store.doubt = Some(Doubt { before: store.head, after: ahead.head });
    (home, store)
}

#[test]
fn a_commit_that_failed_at_its_sync_can_come_back_after_a_crash() {
    let (home, _store) = in_doubt("comes-back");
    assert_eq!(home.crashed("came-back").open().load().unwrap(), [entry("one"), entry("two")]);
}

#[test]
fn once_it_is_settled_it_cannot() {
    let (home, mut store) = in_doubt("settled");
    assert_eq!(store.load().unwrap(), [entry("one")]);
    assert!(store.doubt.is_none());
    assert_eq!(home.crashed("settled-crashed").open().load().unwrap(), [entry("one")]);
    store.append(&[entry("two")]).unwrap();
    assert_eq!(home.crashed("settled-appended").open().load().unwrap(), [entry("one"), entry("two")]);
}

#[test]
fn while_it_cannot_be_settled_nobody_knows() {
    let (_home, mut store) = in_doubt("unsettled");
    store.connection.execute_batch("PRAGMA query_only = ON").unwrap();
    assert!(!store.append(&[entry("two")]).unwrap_err().is_certain());
    assert!(!store.forget(Timestamp::NEVER, 1).unwrap_err().is_certain());
    assert!(store.load().is_err());
    assert!(store.find(&Key::new("one").unwrap()).is_err());
    store.connection.execute_batch("PRAGMA query_only = OFF").unwrap();
    store.append(&[entry("two")]).unwrap();
    assert_eq!(store.load().unwrap(), [entry("one"), entry("two")]);
}

#[test]
fn a_commit_that_did_happen_is_known_once_it_is_settled() {
    let home = Home::new("happened");
    let mut store = home.open();
    let before = store.head;
    store.append(&[entry("one")]).unwrap();
    store.doubt = Some(Doubt { before, after: store.head });
    store.head = before;
    assert_eq!(store.load().unwrap(), [entry("one")]);
    // A writer that was not told will append the same again, and the entry is there: an error must not say that it
    // certainly is not.
    store.connection.execute_batch("PRAGMA query_only = ON").unwrap();
    assert!(!store.append(&[entry("one")]).unwrap_err().is_certain());
    store.connection.execute_batch("PRAGMA query_only = OFF").unwrap();
    store.append(&[entry("one")]).unwrap();
    store.connection.execute_batch("PRAGMA query_only = ON").unwrap();
    assert!(store.append(&[entry("two")]).unwrap_err().is_certain());
    store.connection.execute_batch("PRAGMA query_only = OFF").unwrap();
    store.append(&[entry("two")]).unwrap();
    drop(store);
    assert_eq!(home.open().load().unwrap(), [entry("one"), entry("two")]);
}

#[test]
fn a_head_that_is_neither_before_nor_after_is_damage() {
    let home = Home::new("neither");
    let mut store = home.open();
    let other = Head { sequence: 7, ..store.head };
    store.append(&[entry("one")]).unwrap();
    store.doubt = Some(Doubt { before: other, after: other });
    assert!(!store.append(&[entry("two")]).unwrap_err().is_certain());
}

#[test]
fn a_disk_that_is_full_is_a_failed_write_and_a_failed_sync_is_not() {
    let failed = |code| {
        let error = rusqlite::ffi::Error::new(code);
        Fault::from(rusqlite::Error::SqliteFailure(error, None)).is_failed_write()
    };
    assert!(failed(rusqlite::ffi::SQLITE_FULL) && failed(rusqlite::ffi::SQLITE_IOERR_WRITE));
    assert!(!failed(rusqlite::ffi::SQLITE_IOERR_FSYNC) && !failed(rusqlite::ffi::SQLITE_IOERR));
}

/// SQLite says nothing when the log cannot be brought into the file, so without a bound it would grow until the disk is
/// full. The limit on the files' lengths stands for a page of the file that the disk does not take any more.
#[test]
#[cfg(unix)]
fn a_log_that_cannot_be_brought_into_the_file_stops_growing_and_says_why() {
    let home = Home::new("log-stays");
    home.open().append(&(0..15).map(large).collect::<Vec<_>>()).unwrap();
    let mut child = process::Command::new("sh");
    // Told by an error, not by a signal.
    child.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(env::current_exe().unwrap());
    child.args(["--exact", "sqlite::tests::child_cannot_bring_its_log_in", "--ignored", "--nocapture"]);
    let output = child.env("JOURNAL", home.file("")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{complaint}");
    let acknowledged: usize = fs::read_to_string(home.file("-acknowledged")).unwrap().parse().unwrap();
    assert_eq!(home.open().load().unwrap(), (0..acknowledged).map(large).collect::<Vec<_>>());
}

#[cfg(unix)]
fn large(number: usize) -> Entry {
    entry(&format!("order-{number}")).with_payload(vec![b'x'; 200_000])
}

#[test]
#[cfg(unix)]
#[ignore = "a part of another, which runs it in a process of its own"]
fn child_cannot_bring_its_log_in() {
    let (_, most) = rlimit::getrlimit(rlimit::Resource::FSIZE).unwrap();
    let limit = |bytes| rlimit::setrlimit(rlimit::Resource::FSIZE, bytes, most).unwrap();
    let journal = PathBuf::from(env::var("JOURNAL").unwrap());
    let mut store = SqliteStore::open(&journal).unwrap();
    store.longest_log = 1_000_000;
    // The end of the file lies behind it, and the log is to stop before it.
    limit(2_000_000);
    let last = (15..).find(|number| store.append(&[large(*number)]).is_err()).unwrap();
    let log = || fs::metadata(files::beside(&journal, "-wal")).unwrap().len();
    let length = log();
    assert!((1_000_000..1_300_000).contains(&length), "{length}");
    let error = store.append(&[large(last)]).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.is_certain() && cause.contains("cannot be brought into the file"), "{error:?}");
    assert_eq!(log(), length);
    assert_eq!(store.load().unwrap().len(), last, "what is there can still be read");
    limit(most);
    // The log is in the file then, and used from its beginning.
    (last..last + 5).for_each(|number| store.append(&[large(number)]).unwrap());
    assert_eq!(log(), length);
    fs::write(files::beside(&journal, "-acknowledged"), (last + 5).to_string()).unwrap();
    // Killed, not closed.
    std::mem::forget(store);
}

#[test]
fn two_rows_of_a_key_are_damage() {
    let home = Home::new("twice");
    let mut store = home.open();
    store.append(&[entry("one")]).unwrap();
    store.places = Some(Places::default());
    store.append(&[entry("one")]).unwrap();
    drop(store);
    assert!(home.open().load().is_err());
    let problems = home.open().verify().unwrap().problems;
    assert!(problems.iter().any(|problem| problem.what.contains("two rows of key #")), "{problems:?}");
}

/// Rows are written, then the head is not updated: all is rolled back.
fn fail_to_append(store: &mut SqliteStore, entries: &[Entry]) {
    let head: body::Hash = store.connection.query_row("SELECT hash_of_head FROM head", [], |row| row.get(0)).unwrap();
    store.connection.execute("UPDATE head SET hash_of_head = zeroblob(16)", []).unwrap();
    assert!(store.append(entries).is_err());
    store.connection.execute("UPDATE head SET hash_of_head = ?1", [head]).unwrap();
}

#[test]
fn what_was_rolled_back_is_not_remembered() {
    let home = Home::new("rolled-back");
    let mut store = home.open();
    store.append(&[entry("one")]).unwrap();
    fail_to_append(&mut store, &[entry("one"), entry("two")]);
    store.append(&[entry("one"), entry("two")]).unwrap();
    drop(store);
    assert_eq!(home.open().load().unwrap(), [entry("one"), entry("two")]);
}

#[cfg(unix)]
#[test]
fn unfinished_copies_lie_where_only_their_owner_can_enter() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new("private");
    let private = files::private("steadfast-", &home.0).unwrap();
    assert_eq!(fs::metadata(private.path()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn rows_are_written_several_to_a_statement() {
    let home = Home::new("batches");
    let mut store = home.open();
    let entries: Vec<_> = (0..write::BATCH * 3 + 5).map(|n| entry(&format!("order-{n}"))).collect();
    let (new, next) = (write::statements!("INSERT"), write::statements!("REPLACE"));
    let ran = |store: &SqliteStore, sql| store.connection.prepare_cached(sql).unwrap().get_status(StatementStatus::Run);
    store.append(&entries).unwrap();
    assert_eq!(new.map(|sql| ran(&store, sql)), [5, 3]);
    store.append(&entries).unwrap();
    assert_eq!(new.map(|sql| ran(&store, sql)), [5, 3]);
    assert_eq!(next.map(|sql| ran(&store, sql)), [5, 3]);
    // New rows do not cause the batch of replaced ones to be written early, nor the other way round.
    let more = (0..write::BATCH).flat_map(|n| [entry(&format!("order-{n}")), entry(&format!("later-{n}"))]);
    store.append(&more.collect::<Vec<_>>()).unwrap();
    assert_eq!((new.map(|sql| ran(&store, sql)), next.map(|sql| ran(&store, sql))), ([5, 4], [5, 4]));
}

/// A row that keeps nothing beside its record is replaced without being read.
#[test]
fn a_row_that_is_gone_is_written_again_and_one_that_was_moved_is_found() {
    let home = Home::new("not-there");
    let mut store = home.open();
    store.append(&[entry("one")]).unwrap();
    store.connection.execute("DELETE FROM records", []).unwrap();
    store.append(&[entry("one")]).unwrap();
    drop(store);
    let mut store = home.open();
    assert_eq!(store.load().unwrap(), [entry("one")]);

    store.append(&[entry("one")]).unwrap();
    store.connection.execute("UPDATE records SET first = 9", []).unwrap();
    store.append(&[entry("one")]).unwrap();
    drop(store);
    assert!(home.open().load().unwrap_err().is_certain());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Rows are written several at a time, and those that keep something beside the record one at a time: whatever mix
    /// a commit has, of one key or of many, the entries count in their order.
    #[test]
    fn a_commit_leaves_what_its_entries_leave_one_after_the_other(
        commits in prop::collection::vec(prop::collection::vec((0..40_u8, 0..4_u8, prop::bool::weighted(0.05)), 1..120), 1..4),
    ) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let home = Home::new(&format!("order-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let (mut store, mut model) = (home.open(), crate::MemoryStore::default());
        for commit in commits {
            let of = |(key, stage, keeps): (u8, u8, bool)| {
                let mut entry = entry(&format!("order-{key}"));
                entry.record.attempts = u32::from(stage);
                entry.record.stage = if stage == 3 { Stage::Accepted } else { Stage::InFlight };
                if keeps { entry.with_payload([key]) } else { entry }
            };
            let entries: Vec<_> = commit.into_iter().map(of).collect();
            store.append(&entries).unwrap();
            model.append(&entries).unwrap();
        }
        let sorted = |mut entries: Vec<Entry>| {
            entries.sort_by(|a, b| a.record.key.cmp(&b.record.key));
            entries
        };
        let expected = sorted(model.load().unwrap());
        prop_assert_eq!(&sorted(store.load().unwrap()), &expected);
        drop(store);
        prop_assert_eq!(&sorted(home.open().load().unwrap()), &expected);
    }
}

#[test]
fn a_row_that_keeps_something_and_is_not_where_it_was_left_is_not_replaced() {
    let home = Home::new("not-there-kept");
    let mut store = home.open();
    let kept = entry("one").with_payload(*b"payload");
    store.append(slice::from_ref(&kept)).unwrap();
    store.connection.execute("UPDATE records SET first = 9", []).unwrap();
    assert!(store.append(&[entry("one")]).unwrap_err().is_certain());
    store.connection.execute("UPDATE records SET first = 1", []).unwrap();
    store.append(&[entry("one")]).unwrap();
    assert_eq!(store.load().unwrap(), [kept]);
}

#[test]
fn not_more_is_remembered_than_there_is_room_for() {
    let home = Home::new("room");
    let mut store = home.open();
    let keys: Vec<_> = (0..Recent::MOST + 2).map(|n| entry(&format!("order-{n}"))).collect();
    store.append(&keys).unwrap();
    assert!((1..=Recent::MOST).contains(&store.recent.len()));
    store.append(&[entry("order-0"), entry("order-1")]).unwrap();
    assert_eq!(store.load().unwrap().len(), keys.len());
}

/// A journal of one entry, with a changed head that has a matching checksum.
fn with_head(name: &str, change: impl FnOnce(&mut Head)) -> Home {
    let home = Home::new(name);
    let mut store = home.open();
    store.append(&[entry("one")]).unwrap();
    let mut head = store.head;
    change(&mut head);
    head.replace(&store.head, &store.connection).unwrap();
    drop(store);
    fs::remove_file(home.file("-mark")).unwrap();
    home
}

#[test]
fn a_head_that_no_journal_can_have_is_damage() {
    let sequences = [-1, 0, Head::LAST + 1, i64::MAX, i64::MIN].map(|sequence| (sequence, 1));
    let counts = [-1, 2, i64::MAX, i64::MIN].map(|count| (1, count));
    for (sequence, count) in sequences.into_iter().chain(counts) {
        let home = with_head(&format!("head-{sequence}-{count}"), |head| {
            (head.sequence, head.count) = (sequence, count);
        });
        let opened = SqliteStore::open_backup(home.file(""));
        assert!(matches!(opened, Err(OpenError::Damaged(_))), "sequence {sequence}, count {count}: {opened:?}");
    }
}

#[test]
fn behind_the_last_number_comes_none() {
    let home = with_head("last", |head| head.sequence = Head::LAST - 1);
    let mut store = SqliteStore::open_backup(home.file("")).unwrap();
    store.append(&[entry("two")]).unwrap();
    assert!(store.append(&[entry("three")]).unwrap_err().is_certain());
    assert_eq!(store.load().unwrap(), [entry("one"), entry("two")]);
    drop(store);
    assert_eq!(home.open().load().unwrap(), [entry("one"), entry("two")]);
}

/// Killing a process does not show what a power failure would lose, so no other test fails without these settings.
#[test]
fn what_makes_a_commit_durable_holds_on_the_connection_that_is_used() {
    let home = Home::new("settings");
    for _ in ["made", "opened again"] {
        let mut store = home.open();
        store.append(&[entry("one")]).unwrap();
        let setting = |name| -> Value { store.connection.pragma_query_value(None, name, |row| row.get(0)).unwrap() };
        assert_eq!(setting("synchronous"), Value::from(2), "FULL: a sync for each commit");
        assert_eq!(setting("fullfsync"), Value::from(1), "on macOS a sync that does not stop at the drive's cache");
        assert_eq!(setting("journal_mode"), Value::from("wal".to_owned()));
        assert_eq!(setting("locking_mode"), Value::from("exclusive".to_owned()));
        assert_eq!(setting("trusted_schema"), Value::from(0));
        assert_eq!(setting("secure_delete"), Value::from(1));
        assert_eq!(setting("mmap_size"), Value::from(0), "an I/O error is an error, not a signal");
        assert_eq!(setting("cell_size_check"), Value::from(1));
    }
}

/// One step in the life of a journal.
#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Entry>),
    Fail(Vec<Entry>),
    Forget(u64),
    Reopen,
}

fn any_step() -> impl Strategy<Value = Step> {
    let outcomes = [Outcome::Failed, Outcome::Rejected(Rejected::Refused), Outcome::Unresolved(Unresolved::Polls)];
    let ends = prop::sample::select(outcomes.to_vec()).boxed();
    let stages = prop_oneof![
        Just(Stage::Planned),
        Just(Stage::InFlight),
        Just(Stage::Accepted),
        ends.clone().prop_map(Stage::Ended),
        ends.prop_map(Stage::Delivered),
    ];
    let bytes = || prop::option::weighted(0.3, prop::collection::vec(any::<u8>(), 0..20));
    let parts = (0..4_u8, stages.boxed(), 0..2_u8, 1..9_u64, bytes(), bytes());
    let entries = parts.prop_map(|(key, stage, job, at, payload, body)| {
        let mut entry = entry(&format!("order-{key}"));
        entry.record.stage = stage;
        entry.record.fingerprint = Fingerprint::new([job; 16]);
        entry.at = Timestamp::from_secs(at);
        entry.payload = payload;
        entry.answer = body.map(|body| crate::KeptAnswer { status: 200, body });
        entry
    });
    let entries = prop::collection::vec(entries.boxed(), 1..5).boxed();
    prop_oneof![
        6 => entries.clone().prop_map(Step::Append),
        2 => entries.prop_map(Step::Fail),
        1 => (1..9_u64).prop_map(Step::Forget),
        1 => Just(Step::Reopen),
    ]
    .boxed()
}

fn everything(store: &SqliteStore) -> Vec<Vec<Value>> {
    let mut rows = store.connection.prepare("SELECT * FROM records ORDER BY first").unwrap();
    let columns = rows.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
    rows.query_map([], row).unwrap().map(Result::unwrap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Compared with a store that remembers nothing, and so reads each row before it replaces it, and with one in
    /// memory, which follows the rule.
    #[test]
    fn what_is_remembered_is_what_would_be_read(steps in prop::collection::vec(any_step(), 1..12)) {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let homes = [Home::new(&format!("remembers-{number}")), Home::new(&format!("reads-{number}"))];
        let mut stores = homes.each_ref().map(Home::open);
        let mut memory = crate::MemoryStore::default();
        for step in steps {
            match &step {
                Step::Append(entries) => memory.append(entries).unwrap(),
                Step::Forget(before) => drop(memory.forget(Timestamp::from_secs(*before), 1).unwrap()),
                Step::Fail(_) | Step::Reopen => {}
            }
            let [remembers, reads] = &mut stores;
            if let Step::Append(entries) = &step {
                // Each alone: within one transaction rows would be remembered.
                for entry in entries {
                    reads.append(slice::from_ref(entry)).unwrap();
                    reads.recent.clear();
                }
                remembers.append(entries).unwrap();
            }
            for (store, home) in stores.iter_mut().zip(&homes) {
                match &step {
                    Step::Append(_) => {}
                    Step::Fail(entries) => fail_to_append(store, entries),
                    Step::Forget(before) => drop(store.forget(Timestamp::from_secs(*before), 1).unwrap()),
                    Step::Reopen => {
                        // The old store releases the file first.
                        let aside = Home::new(&format!("aside-{number}"));
                        *store = aside.open();
                        *store = home.open();
                    }
                }
            }
            let [remembers, reads] = &mut stores;
            prop_assert_eq!(everything(remembers), everything(reads));
            prop_assert_eq!(remembers.head.sum, reads.head.sum);
            let problems = remembers.verify().unwrap().problems;
            prop_assert!(problems.is_empty(), "{problems:?}");
            let entries = remembers.load().unwrap();
            prop_assert_eq!(&entries, &reads.load().unwrap());
            prop_assert_eq!(&entries, &memory.load().unwrap());
        }
    }
}

/// A commit is in doubt, and meanwhile another process has taken the journal over: settling the doubt would overwrite
/// its records.
#[test]
fn what_is_in_doubt_is_not_settled_over_anothers_records() {
    let (home, mut store) = in_doubt("overtaken");
    let later = Watermark { sequence: store.head.watermark().sequence + 9, ..store.head.watermark() };
    fs::write(home.file("-mark"), later.to_bytes()).unwrap();
    let before = fs::read(home.file("-wal")).unwrap();
    assert!(!store.append(&[entry("two")]).unwrap_err().is_certain());
    assert!(store.find(&Key::new("one").unwrap()).is_err() && store.load().is_err());
    drop(store);
    assert!(fs::read(home.file("-wal")).unwrap() == before, "something was written");
}

/// The commit is durable and reported as such; the next one waits until the mark can be written.
#[test]
fn a_mark_that_cannot_be_written_any_more_stops_the_next_commit() {
    let home = Home::new("unwritable");
    let mut store = home.open();
    store.append(&[entry("one")]).unwrap();
    let writable = store.mark.file.replace(fs::File::open(home.file("-mark")).unwrap());
    store.append(&[entry("two")]).unwrap();
    for _ in 0..2 {
        let error = store.append(&[entry("three")]).unwrap_err();
        assert!(error.is_certain() && format!("{error:?}").contains("MarkFailed"), "{error:?}");
        assert!(store.forget(Timestamp::NEVER, 1).unwrap_err().is_certain());
        assert_eq!(store.load().unwrap(), [entry("one"), entry("two")]);
        assert!(store.find(&Key::new("three").unwrap()).unwrap().is_none());
    }
    // If the process is killed here, the next one finds a mark that is a little behind, which does no harm.
    assert_eq!(home.crashed("unwritable-crashed").open().load().unwrap(), [entry("one"), entry("two")]);
    store.mark.file = writable;
    store.append(&[entry("three")]).unwrap();
    let mark = Watermark::from_bytes(&fs::read(home.file("-mark")).unwrap().try_into().unwrap());
    assert_eq!(mark.map(|mark| mark.sequence()), Some(3));
    drop(store);
    assert_eq!(home.open().load().unwrap().len(), 3);
}

/// This is not an older copy that was put back: the mark says what this store knows.
#[test]
fn a_mark_that_was_written_although_an_error_was_told_stops_nothing() {
    let home = Home::new("told-otherwise");
    let mut store = home.open();
    store.append(&[entry("one")]).unwrap();
    let writable = store.mark.file.replace(fs::File::open(home.file("-mark")).unwrap());
    store.append(&[entry("two")]).unwrap();
    fs::write(home.file("-mark"), store.head.watermark().to_bytes()).unwrap();
    store.mark.file = writable;
    store.append(&[entry("three")]).unwrap();
    drop(store);
    assert_eq!(home.open().load().unwrap().len(), 3);
}

/// The first commit makes the planned operations doubtful. If it fails, the journal is still a backup.
#[test]
fn a_backup_stays_one_until_something_was_written() {
    let home = Home::new("backup");
    home.open().append(&[entry("one")]).unwrap();
    fs::remove_file(home.file("-mark")).unwrap();
    let mut store = SqliteStore::open_backup(home.file("")).unwrap();
    assert!(store.change(|_| Err::<(), _>(Damage::Head.into())).is_err());
    drop(store);
    let opened = SqliteStore::open(home.file(""));
    assert!(matches!(opened, Err(OpenError::Unmarked { state: Mark::Unreadable, .. })), "{opened:?}");
    let mut store = SqliteStore::open_backup(home.file("")).unwrap();
    store.append(&[entry("two")]).unwrap();
    drop(store);
    assert_eq!(home.open().load().unwrap(), [entry("one"), entry("two")]);
}

/// A store whose mark was removed, and whose next commit then failed: the mark that lies there before a commit is the
/// one that it left. Except on Unix a mark cannot be removed while it is in use.
#[cfg(unix)]
fn fails_without_its_mark(mut store: SqliteStore, home: &Home) {
    fs::remove_file(home.file("-mark")).unwrap();
    store.connection.execute_batch("PRAGMA query_only = ON").unwrap();
    assert!(store.append(&[entry("two")]).unwrap_err().is_certain());
}

#[test]
#[cfg(unix)]
fn a_mark_that_was_removed_is_whole_again_before_the_next_commit() {
    let home = Home::new("mark-first");
    let mut store = home.open();
    store.append(&[entry("one")]).unwrap();
    fails_without_its_mark(store, &home);
    assert_eq!(home.open().load().unwrap(), [entry("one")]);
}

#[test]
#[cfg(unix)]
fn a_backup_whose_mark_was_removed_stays_one_until_it_has_a_record() {
    let home = Home::new("mark-of-backup");
    home.open().append(&[entry("one")]).unwrap();
    fs::remove_file(home.file("-mark")).unwrap();
    fails_without_its_mark(SqliteStore::open_backup(home.file("")).unwrap(), &home);
    assert!(matches!(SqliteStore::open(home.file("")), Err(OpenError::Unmarked { .. })));
}
