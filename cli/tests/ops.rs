//! `steadfast ops` as an operator meets it, at journals that were written a while ago.

#![cfg(unix)]

#[path = "ops/copy.rs"]
mod copy;
#[path = "ops/doctor.rs"]
mod doctor;
#[path = "ops/export.rs"]
mod export;
#[path = "ops/failures.rs"]
mod failures;
#[path = "ops/list.rs"]
mod list;
#[path = "ops/pitfalls.rs"]
mod pitfalls;
#[path = "ops/purge.rs"]
mod purge;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use std::{env, fs, process};

use serde_json::Value;
use steadfast_core::operation::{Completed, Rejected, Stage, Unresolved};
use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Outcome, Reference, Seed, Timestamp};
use steadfast_store::{Entry, KeptAnswer, SqliteStore, Store};

const READY: Outcome = Outcome::Completed(Completed::Ready);
const AMBIGUOUS: Outcome = Outcome::Unresolved(Unresolved::Ambiguous);
const DEADLINE: Outcome = Outcome::Unresolved(Unresolved::PollDeadline);
const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// A directory that goes away, and the journal in it.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("steadfast-ops-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn with(entries: &[Entry]) -> Self {
        let home = Self::new();
        home.open().append(entries).unwrap();
        home
    }

    fn journal(&self) -> String {
        self.0.join("journal").display().to_string()
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.journal()).unwrap()
    }

    fn open_read_only(&self) -> SqliteStore {
        SqliteStore::open_read_only(self.journal()).unwrap()
    }

    /// Changes the file as somebody with a database tool would.
    fn tamper(&self, sql: &str) {
        rusqlite::Connection::open(self.journal()).unwrap().execute_batch(sql).unwrap();
    }

    fn ops(&self, args: &[&str]) -> Output {
        ops(&self.journal(), args)
    }

    /// What it says on stdout, all being well.
    fn says(&self, args: &[&str]) -> String {
        let output = self.ops(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        text(&output.stdout)
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.ops(&[args, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// The keys that are listed so.
    fn keys(&self, args: &[&str]) -> Vec<String> {
        let listing = self.json(args);
        let key = |row: &Value| row["key"].as_str().unwrap().to_owned();
        listing["operations"].as_array().unwrap().iter().map(key).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn ops(file: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.args(["ops", file]).args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn ago(secs: u64) -> Timestamp {
    Timestamp::from(SystemTime::now()).saturating_sub(Duration::from_secs(secs))
}

/// Submitted so long ago, last changed half as long ago.
fn entry(key: &str, stage: Stage, secs: u64) -> Entry {
    let (now, policy) = (ago(secs), OperationPolicy::default());
    let gate = &mut Gate::unlimited();
    let turn = &mut policy.turn(now, gate);
    let mut record = Operation::new(Key::new(key).unwrap(), Fingerprint::new([7; 16]), Seed::new(7), turn).record();
    (record.stage, record.due) = (stage, None);
    (record.creates, record.attempts, record.first_sent) = (1, 3, Some(now));
    Entry::new(record, Arc::from("deepvue"), ago(secs / 2))
}

fn with_reference(mut entry: Entry) -> Entry {
    entry.record.reference = Reference::new(format!("txn-of-{}", entry.record.key.as_str())).ok();
    entry
}

/// One in each state, the oldest first.
fn entries() -> Vec<Entry> {
    let answer = KeptAnswer { status: 200, body: br#"{"name":"canary-name"}"#.to_vec() };
    let mut planned = entry("order-7", Stage::Planned, 2 * HOUR);
    planned.record.due = Some(ago(0).saturating_add(Duration::from_secs(3 * HOUR + 20)));
    (planned.record.creates, planned.record.attempts, planned.record.first_sent) = (0, 0, None);
    let mut unknown = entry("person-6", Stage::Unknown, 20 * MINUTE).with_payload("canary-payload");
    (unknown.record.due, unknown.provider) = (Some(ago(2)), Arc::from("other"));
    let mut accepted = with_reference(entry("order-5", Stage::Accepted, 2 * HOUR));
    accepted.record.due = Some(ago(HOUR));
    vec![
        with_reference(entry("order-1", Stage::Delivered(READY), 200 * HOUR)).with_answer(answer),
        with_reference(entry("order-2", Stage::Delivered(DEADLINE), 180 * HOUR)),
        entry("order-3", Stage::Delivered(AMBIGUOUS), 160 * HOUR),
        with_reference(entry("order-4", Stage::Ended(Outcome::Failed), 4 * HOUR)),
        accepted,
        unknown,
        planned,
    ]
}

/// Runs a program that was copied just now: another test's child may still hold it open for writing, until it becomes
/// another program.
fn copied(command: &mut Command) -> Output {
    loop {
        match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
            other => return other.unwrap(),
        }
    }
}

const ALL: [&str; 7] = ["order-7", "person-6", "order-5", "order-4", "order-3", "order-2", "order-1"];

#[test]
fn show_tells_what_happened_and_what_to_do() {
    let home = Home::with(&entries());
    let mut store = home.open();
    let mut later = with_reference(entry("order-5", Stage::Delivered(DEADLINE), 2 * HOUR));
    later.record.submitted = entries()[4].record.submitted;
    store.append(&[later]).unwrap();
    drop(store);
    let cases: [(&str, &[&str]); 6] = [
        (
            "order-7",
            &["submitted, 2 h ago", "nothing was sent yet: its first create is due in 3 h", "start its client"],
        ),
        ("person-6", &["sent to other", "may have run", "never use a new key"]),
        (
            "order-5",
            &[
                "the first create was about to leave",
                "ended: unresolved",
                "resume by its reference",
                "client.resume(key)",
                "txn-of-order-5",
            ],
        ),
        ("order-4", &["ended: failed", "nobody took the outcome yet", "To do      start its client"]),
        (
            "order-3",
            &["this provider would run a repeat again", "To do      ask the provider whether it ran", "none is known"],
        ),
        (
            "order-1",
            &[
                "Requests   3: 1 create, 0 polls that found it pending, 2 other polls and look-ups",
                "completed: the provider gave its final answer",
                "--answer prints it",
            ],
        ),
    ];
    for (key, parts) in cases {
        let said = home.says(&["show", key]);
        for part in parts {
            assert!(said.contains(part), "{key}: {part}: {said}");
        }
        assert!(!said.contains("canary"), "{said}");
        let shown = home.json(&["show", key]);
        assert!(shown["key"] == key && shown["explanation"].is_string() && shown["to_do"].is_string(), "{shown}");
        assert!(!shown.to_string().contains("canary"), "{shown}");
    }
}

#[test]
fn a_key_that_is_not_there_is_said_with_what_to_check() {
    let home = Home::with(&entries());
    let output = home.ops(&["show", "order-99"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("has 7 operations, none with this key: check its spelling") && said.contains("forgotten"),
        "{said}"
    );
}

#[test]
fn an_answer_is_printed_when_asked_for_and_sealed_ones_are_bytes() {
    let sealed = KeptAnswer { status: 202, body: vec![0xff, 0xfe, 7] };
    let mut all = entries();
    all.push(entry("order-8", Stage::Delivered(READY), 1).with_answer(sealed));
    let home = Home::with(&all);
    assert!(home.says(&["show", "order-1", "--answer"]).contains(r#"{"name":"canary-name"}"#));
    assert_eq!(home.json(&["show", "order-1", "--answer"])["answer"]["body"]["name"], "canary-name");
    assert_eq!(home.json(&["show", "order-1"])["answer"], serde_json::json!({"status": 200, "bytes": 22}));
    let said = home.says(&["show", "order-8", "--answer"]);
    assert!(said.contains("status 202, 3 bytes") && said.contains("the client seals what it keeps"), "{said}");
    assert_eq!(home.json(&["show", "order-8", "--answer"])["answer"]["base64"], "//4H");
    let marked = KeptAnswer { status: 202, body: b"\0sealed\0eyJhbGciOiJkaXIi".to_vec() };
    home.open().append(&[entry("order-7", Stage::Delivered(READY), 1).with_answer(marked)]).unwrap();
    let said = home.says(&["show", "order-7", "--answer"]);
    assert!(said.contains("(sealed by the client") && !said.contains("eyJ"), "{said}");
    assert!(home.says(&["show", "order-2", "--answer"]).contains("no answer is kept"));
    // A number that is read and written again may be another one.
    let digits = br#"{"number":123456789012345678901}"#;
    home.open()
        .append(&[
            entry("order-9", Stage::Delivered(READY), 1).with_answer(KeptAnswer { status: 200, body: digits.to_vec() })
        ])
        .unwrap();
    assert!(
        home.says(&["show", "order-9", "--answer", "--json"]).contains(r#""body":{"number":123456789012345678901}"#)
    );
}

#[test]
fn a_doctor_tells_a_sound_journal_from_one_with_work_for_a_person() {
    let fresh = [entry("order-1", Stage::Delivered(READY), HOUR), entry("order-2", Stage::Accepted, 2)];
    let sound = Home::with(&fresh);
    let said = sound.says(&["doctor"]);
    assert!(said.contains("Nothing is unresolved") && said.contains("2 operations: 1 accepted, 1 delivered"), "{said}");
    assert_eq!(sound.json(&["doctor"])["healthy"], true);

    let home = Home::with(&entries());
    let output = home.ops(&["doctor"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let parts = [
        "The files are what was written",
        "2 UNRESOLVED: ask the provider",
        "order-2 (deepvue, reference txn-of-order-2): the job was accepted and not done",
        "1 OVERDUE: nobody has the journal open: start their client",
        "order-5 (deepvue, reference txn-of-order-5): accepted, due 1 h ago",
        "1 UNDELIVERED: ",
        "order-4 (deepvue, reference txn-of-order-4): failed, ended 2 h ago",
    ];
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
    let report = home.json(&["doctor"]);
    let kinds: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|finding| finding["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["unresolved", "overdue", "undelivered"]);
    assert_eq!((&report["healthy"], &report["sequence"]), (&false.into(), &7.into()));
}

#[test]
fn damage_is_told_with_what_to_do_and_the_rest_is_shown() {
    let home = Home::with(&entries());
    home.tamper(
        "UPDATE records SET body = CAST(substr(body, 1, 55) || x'09' || substr(body, 57) AS BLOB) WHERE first = 3",
    );
    let output = home.ops(&["doctor"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("DAMAGED: row 3 of key #") && said.contains("restore the journal"), "{said}");
    assert!(said.contains("UNDELIVERED"), "{said}");
    let output = home.ops(&["--limit", "9"]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(1), 7), "{output:?}");
    assert!(text(&output.stderr).contains("row 3 of key #"), "{output:?}");
    let output = home.ops(&["export"]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(1), 7), "{output:?}");
    assert!(text(&output.stderr).contains("6 operations of 7"), "{output:?}");
    for args in [&["show", "order-3"][..], &["purge", "--older-than", "1h", "--yes"]] {
        let output = home.ops(args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains("restore the journal"), "{output:?}");
    }
    assert_eq!(home.ops(&["show", "order-4"]).status.code(), Some(0));

    let beheaded = Home::with(&entries());
    beheaded.tamper("UPDATE head SET count = 2");
    for args in [&[][..], &["doctor"], &["doctor", "--json"], &["show", "order-1"], &["export"]] {
        let output = beheaded.ops(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(said.contains("restore the journal"), "{args:?}: {said}");
    }
}

#[test]
fn an_export_holds_everything_but_what_was_not_asked_for() {
    let home = Home::with(&entries());
    let said = home.says(&["export"]);
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["format"], "steadfast-journal-export");
    assert_eq!((&lines[0]["version"], &lines[0]["count"], &lines[0]["sequence"]), (&1.into(), &7.into(), &7.into()));
    let watermark: String = home.open().watermark().to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(lines[0]["watermark"], watermark);
    let keys: Vec<&str> = lines[1..].iter().rev().map(|line| line["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ALL);
    assert!(lines.iter().all(|line| line["payload"].is_null() && line["answer"].is_null()));

    let with = |flag| home.says(&["export", flag]);
    assert!(with("--with-payloads").contains(r#""payload":"Y2FuYXJ5LXBheWxvYWQ=""#));
    assert!(!with("--with-payloads").contains(r#""answer""#));
    assert!(with("--with-answers").contains(r#""answer":{"status":200,"body":"eyJuYW1lIjoiY2FuYXJ5LW5hbWUifQ=="}"#));
    assert!(!with("--with-answers").contains(r#""payload""#));
}

#[test]
fn an_export_to_a_file_is_its_owners_and_overwrites_nothing() {
    let home = Home::with(&entries());
    let out = home.0.join("out.jsonl");
    let args = ["export", "--output", out.to_str().unwrap()];
    assert_eq!(home.says(&args), "");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&out).unwrap();
    assert_eq!(written.lines().count(), 8);
    let again = home.ops(&args);
    assert_eq!(again.status.code(), Some(64), "{again:?}");
    assert!(text(&again.stderr).contains("exists already") && fs::read_to_string(&out).unwrap() == written);
}

#[test]
fn a_journal_in_use_is_looked_at_by_a_copy_and_not_changed() {
    let home = Home::with(&entries());
    let temporary = Home::new();
    let mut client = home.open();
    client.append(&[entry("order-8", Stage::InFlight, 1)]).unwrap();
    // Read by another process: to close a file here would give up the lock on it.
    let file = |suffix| Command::new("cat").arg(format!("{}{suffix}", home.journal())).output().unwrap().stdout;
    let files = || ["", "-wal", "-mark"].map(file);
    let before = files();
    for args in [&[][..], &["show", "order-8"], &["doctor"], &["export"], &["purge", "--older-than", "1h", "--dry-run"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
        let output = command.args(["ops", &home.journal()]).args(args).env("TMPDIR", &temporary.0).output().unwrap();
        assert!(matches!(output.status.code(), Some(0 | 2)), "{args:?}: {output:?}");
        assert!(text(&output.stderr).contains("is in use: this is a copy, taken at 20"), "{args:?}: {output:?}");
    }
    assert!(home.says(&["show", "order-8"]).contains("its client has the journal open and carries it on"));
    // A client writes no record for each poll.
    assert!(!text(&home.ops(&["doctor"]).stdout).contains("OVERDUE"));
    assert_eq!(home.json(&[])["in_use"], true);
    let purge = home.ops(&["purge", "--older-than", "1h", "--yes"]);
    assert_eq!(purge.status.code(), Some(64), "{purge:?}");
    assert!(text(&purge.stderr).contains("stop its client first"), "{purge:?}");
    assert!(files() == before);
    assert_eq!(fs::read_dir(&temporary.0).unwrap().count(), 0);
    client.append(&[entry("order-9", Stage::InFlight, 1)]).unwrap();
    drop(client);
    assert!(home.ops(&[]).stderr.is_empty());
    assert!(text(&home.ops(&["--copy"]).stderr).contains("this is a copy, taken at 20"));
}

#[test]
fn what_cannot_be_opened_is_said_with_what_to_do() {
    let home = Home::new();
    let at = |name: &str| home.0.join(name).display().to_string();
    fs::write(at("empty"), "").unwrap();
    fs::write(at("foreign"), "a text of somebody's, longer than a database's header. ".repeat(20)).unwrap();
    let newer = Home::with(&[]);
    newer.tamper("PRAGMA user_version = 9");
    let cases = [
        (at("none"), "there is no journal at this path: check its name"),
        (at("empty"), "the file is empty"),
        (at("foreign"), "this file is not a journal"),
        (at(""), "not a regular file"),
        (newer.journal(), "the journal has version 9"),
    ];
    for (file, expected) in cases {
        for args in
            [&[][..], &["doctor"], &["show", "k"], &["export"], &["purge", "--older-than", "1h", "--yes"], &["--copy"]]
        {
            let output = ops(&file, args);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{file} {args:?}: {said}");
            assert!(said.contains(expected) && said.contains(&file), "{file} {args:?}: {said}");
        }
    }
    assert!(!Path::new(&at("none")).exists());
    let empty = Home::with(&[]);
    assert!(text(&empty.ops(&[]).stderr).contains("holds no operation"));
}

#[test]
fn who_may_not_read_it_is_told_who_may() {
    let home = Home::with(&entries());
    // Whoever may do everything must become somebody else first, and from a place that somebody else can reach.
    let program = home.0.join("program");
    fs::copy(env!("CARGO_BIN_EXE_steadfast"), &program).unwrap();
    fs::set_permissions(&home.0, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(home.journal(), fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = Command::new(&program);
    command.args(["ops", &home.journal()]).current_dir("/");
    if fs::read(home.journal()).is_ok() {
        command.uid(65_534);
    }
    let output = copied(&mut command);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    assert!(text(&output.stderr).contains("run this as the user that the client runs as"), "{output:?}");
}

#[test]
fn no_name_commands_a_terminal() {
    let mut evil = entry("order-1", Stage::Ended(AMBIGUOUS), 3 * HOUR);
    evil.provider = Arc::from("a\u{1b}[2Jb\nc");
    let home = Home::with(&[evil]);
    for args in [&[][..], &["show", "order-1"], &["doctor"]] {
        let output = home.ops(args);
        assert!(!output.stdout.contains(&0x1b) && text(&output.stdout).contains(r"a\u{1b}[2Jb\nc"), "{output:?}");
    }
}

#[test]
fn who_reads_no_further_is_told_of_as_a_shell_does() {
    let entries: Vec<Entry> = (0..2_000).map(|number| entry(&format!("order-{number}"), Stage::Accepted, 9)).collect();
    let home = Home::with(&entries);
    for args in [&["export"][..], &["list", "--limit", "9999"], &["list", "--limit", "9999", "--json"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
        command.args(["ops", &home.journal()]).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = [0; 1];
        std::io::Read::read_exact(&mut child.stdout.take().unwrap(), &mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        // As of any other command of this program, since there may have been more to tell.
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(141), ""), "{args:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_printed_is_said() {
    let home = Home::with(&entries());
    for args in
        [&[][..], &["show", "order-1"], &["doctor", "--json"], &["export"], &["purge", "--key", "order-1", "--yes"]]
    {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
        let output = command.args(["ops", &home.journal()]).args(args).stdout(full).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {said}");
        assert!(
            said.starts_with("steadfast: the result could not be written to standard output: "),
            "{args:?}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    // Whatever was done before is done, and not half.
    assert!(text(&home.ops(&["doctor"]).stdout).contains("The files are what was written"));
}

#[test]
fn wrong_calls_exit_with_64_and_say_what_to_change() {
    let home = Home::with(&entries());
    let cases: [(&[&str], &str); 9] = [
        (&["--unresolved", "doctor"], "filters go behind the command"),
        (&["frob"], "`ops FILE frob` is no command: name one of list, show, doctor, export, copy, purge\n"),
        (&["--older-than", "99999999999d"], "at most 584 years (213503d)"),
        (&["purge", "--older-than", "99999999999999999999999h"], "at most 584 years (213503d)"),
        (&["--older-than", "5"], "a duration such as"),
        (&["--state", "done"], "possible values: planned"),
        (&["show"], "<KEY>"),
        (&["show", "a b"], "use letters, digits and punctuation only"),
        (&["purge"], "<--older-than <DURATION>|--key <KEY>>"),
    ];
    for (args, says) in cases {
        let output = home.ops(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?}: {said}");
    }
}

#[test]
fn a_key_in_the_journals_place_is_told_from_a_journal_that_is_not_there() {
    let home = Home::with(&entries());
    let swapped = ops("order-1", &["show", &home.journal()]);
    assert_eq!(swapped.status.code(), Some(64), "{swapped:?}");
    let said = text(&swapped.stderr);
    assert!(said.contains(&format!("`steadfast ops {} show order-1`", home.journal())), "{said}");
    let none = ops("/nonexistent", &["show", "order-1"]);
    assert!(text(&none.stderr).contains("there is no journal at this path"), "{none:?}");
}
