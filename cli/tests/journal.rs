//! The commands that keep a journal, and what they make of one that is there.

#![cfg(unix)]

#[path = "journal/interrupts.rs"]
mod interrupts;
#[path = "journal/trouble.rs"]
mod trouble;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use steadfast_core::operation::{Completed, Rejected, Stage};
use steadfast_core::{Fingerprint, Gate, Key, Kind, Operation, OperationPolicy, Outcome, Seed, Timestamp};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Payload, fingerprint};
use steadfast_store::{Entry, SqliteStore, Store};
use steadfast_testkit::{FakeDeepvue, FakeServer};
use steadfast_tokio::{Client, ReqwestTransport};
use tempfile::TempDir;

const PAYLOAD: &str = r#"{"dl_number":"canary-number","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;

fn steadfast(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
    command.env_remove("RUST_LOG");
    command.args(args).env("DEEPVUE_ACCESS_TOKEN", "token").env("DEEPVUE_CLIENT_SECRET", "secret").stdin(Stdio::null());
    command
}

fn says(output: &Output, code: i32, what: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(what), "{what:?} is not in {text}");
    assert!(!text.contains("canary"), "R42: {text}");
}

/// As a client would have written it just now.
fn entry(key: &str, stage: Stage) -> Entry {
    let (now, policy) = (Timestamp::from(SystemTime::now()), OperationPolicy::default());
    let gate = &mut Gate::unlimited();
    let turn = &mut policy.turn(now, gate);
    let mut record = Operation::new(Key::new(key).unwrap(), Fingerprint::new([7; 16]), Seed::new(7), turn).record();
    record.stage = stage;
    if stage != Stage::Planned {
        (record.creates, record.attempts, record.first_sent, record.due) = (1, 1, Some(now), None);
    }
    Entry::new(record, Arc::from("deepvue/driving-license"), now)
}

fn stages(journal: &Path) -> Vec<Stage> {
    let entries = SqliteStore::open_read_only(journal).unwrap().load().unwrap();
    entries.into_iter().map(|entry| entry.record.stage).collect()
}

#[test]
fn a_demo_leaves_its_journal_behind_and_does_not_touch_another_one() {
    let home = tempfile::tempdir().unwrap();
    let journal = home.path().join("journal");
    let args =
        ["demo", "--operations", "20", "--speed", "200", "--faults", "0.1", "--journal", journal.to_str().unwrap()];
    let output = steadfast(&args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("steadfast ops "), "{output:?}");
    let stages = stages(&journal);
    assert_eq!(stages.len(), 20);
    assert!(stages.iter().all(|stage| matches!(stage, Stage::Delivered(_))), "{stages:?}");
    says(&steadfast(&args).output().unwrap(), 64, "exists already: name a new file");
    let nowhere = home.path().join("nodir/journal");
    for kill in [&[][..], &["--kill", "3"]] {
        let mut command = steadfast(&["demo", "--journal", nowhere.to_str().unwrap()]);
        let output = command.args(kill).output().unwrap();
        says(&output, 64, "nodir: make it first, or name another file");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

/// A life after the other goes by, and where there is no bar nothing else would tell.
#[test]
fn a_demo_tells_of_each_kill_where_no_bar_is_shown() {
    let args = ["demo", "--operations", "3", "--faults", "0", "--speed", "200", "--kill", "4"];
    let output = steadfast(&args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("killed ")).collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert!(
        lines.iter().zip(1..).all(|(line, kill)| line.starts_with(&format!("killed {kill} of 4 times, "))),
        "{said}"
    );
    assert!(lines.iter().all(|line| line.ends_with(" of 3 jobs ended")), "{said}");
}

#[test]
fn a_demo_without_a_place_for_its_journal_says_what_to_name() {
    let home = tempfile::tempdir().unwrap();
    let demo = |more: &[&str]| {
        let mut command = steadfast(&["demo", "--operations", "2", "--faults", "0", "--speed", "500", "--kill", "1"]);
        command.args(more).env("TMPDIR", home.path().join("gone")).output().unwrap()
    };
    says(&demo(&[]), 64, "name a directory with room in TMPDIR, or a file with --journal");
    let journal = home.path().join("journal").display().to_string();
    says(&demo(&["--journal", &journal]), 0, "killed 1 of 1 times");
}

#[test]
fn a_demo_whose_client_is_killed_counts_the_kills_and_keeps_its_promises() {
    let args = ["demo", "--operations", "60", "--faults", "0.3", "--speed", "100", "--kill", "5", "--json"];
    for adapter in ["tokio", "blocking"] {
        let output = steadfast(&args).args(["--adapter", adapter]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((report["kills"].as_u64(), report["operations"].as_u64()), (Some(5), Some(60)), "{report}");
        assert_eq!(report["adapter"].as_str(), Some(adapter), "{report}");
        assert_eq!(report["ledger"]["keys_run_more_than_once"].as_u64(), Some(0), "{report}");
        let sum: u64 = report["outcomes"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(sum, 60, "{report}");
        assert!(report["left_by_kills"].as_object().is_some_and(|states| !states.is_empty()), "{report}");
    }
}

/// A journal, a payload's file and a provider.
struct World {
    home: TempDir,
    server: FakeServer,
}

impl World {
    fn new(fake: FakeDeepvue) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("payload"), PAYLOAD).unwrap();
        Self { home, server: fake.start().unwrap() }
    }

    fn file(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    /// `run` on the journal.
    fn command(&self, more: &[&str]) -> Command {
        let (url, journal) = (self.server.base_url(), self.file("journal"));
        steadfast(&[&["run", "--base-url", &url, "--key", "order-42", "--journal", &journal], more].concat())
    }

    async fn run(&self, more: &[&str]) -> Output {
        let mut command = self.command(more);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Runs until a line of the timeline says this, then kills.
    async fn kill_at(&self, more: &[&str], what: &'static str) {
        let mut command = self.command(more);
        let killed = move || {
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains(what)), "{what}");
            child.kill().unwrap();
            child.wait().unwrap();
        };
        tokio::task::spawn_blocking(killed).await.unwrap();
    }

    fn runs(&self) -> usize {
        self.server.ledger().executions("order-42").len()
    }
}

/// Its jobs are ready when they are first polled, after three seconds.
fn slow() -> FakeDeepvue {
    let second = Duration::from_secs(1);
    FakeDeepvue::new(1).with_job_time(second, second)
}

/// Its jobs are not.
fn slower() -> FakeDeepvue {
    let seconds = Duration::from_secs(4);
    FakeDeepvue::new(1).with_job_time(seconds, seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn run_goes_on_with_a_key_that_its_journal_knows() {
    let world = World::new(slower());
    let payload = world.file("payload");
    world.kill_at(&["--payload", &payload], "→ poll 1").await;
    assert_eq!(stages(Path::new(&world.file("journal"))), [Stage::Accepted]);

    // The payload is needed no more.
    let went_on = world.run(&["--keep-answer"]).await;
    says(&went_on, 0, "the provider has accepted it as ");
    assert!(String::from_utf8_lossy(&went_on.stdout).contains("id_found"), "{went_on:?}");
    assert_eq!((world.runs(), world.server.requests(Kind::Create)), (1, 1));

    // Ended: told again, and nothing is asked.
    let polls = world.server.requests(Kind::Poll);
    let again = world.run(&["--payload", &payload]).await;
    says(&again, 0, "it has ended as completed");
    assert_eq!(again.stdout, went_on.stdout);
    assert_eq!((world.runs(), world.server.requests(Kind::Poll)), (1, polls));
}

/// All that was known is in the log, and the file alone was copied back: the job would run again.
#[tokio::test(flavor = "multi_thread")]
async fn run_begins_on_a_journal_without_its_mark_only_as_on_a_backup() {
    let world = World::new(slower());
    let payload = world.file("payload");
    world.kill_at(&["--payload", &payload], "→ poll 1").await;
    std::fs::remove_file(world.file("journal-mark")).unwrap();
    let refused = world.run(&["--payload", &payload]).await;
    says(&refused, 64, "FILE-mark beside it is missing or not what was written");
    says(&refused, 64, "say so with --from-backup");
    assert_eq!(world.server.requests(Kind::Create), 1);

    let mistyped = world.file("journl");
    let url = world.server.base_url();
    let nowhere = [
        "run",
        "--base-url",
        &url,
        "--key",
        "order-42",
        "--payload",
        &payload,
        "--from-backup",
        "--journal",
        &mistyped,
    ];
    says(&steadfast(&nowhere).output().unwrap(), 64, "a backup is one that was put back, so check its name");
    assert!(!Path::new(&mistyped).exists());
    // One that is a backup: what it lacks is not known, and what it has goes on.
    says(&world.run(&["--from-backup"]).await, 0, "the provider has accepted it as ");
    assert_eq!((world.runs(), world.server.requests(Kind::Create)), (1, 1));
    says(&world.run(&[]).await, 0, "it has ended as completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_says_so_when_a_result_was_not_kept() {
    let world = World::new(slow());
    assert_eq!(world.run(&["--payload", &world.file("payload")]).await.status.code(), Some(0));
    let again = world.run(&[]).await;
    says(&again, 0, "was not kept: --keep-answer would have");
    assert_eq!(again.stdout, b"");
    let told = world.run(&["--json"]).await;
    says(&told, 0, "was not kept: --keep-answer would have");
    let summary: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&summary["outcome"], &summary["has_answer"]), (&"completed".into(), &false.into()), "{summary}");
    assert!(summary["body"].is_null() && summary["status"].is_null(), "an empty text would be an answer: {summary}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_refuses_another_payload_for_a_key_that_its_journal_knows() {
    let world = World::new(slower());
    let payload = world.file("payload");
    world.kill_at(&["--payload", &payload], "→ poll 1").await;
    std::fs::write(&payload, PAYLOAD.replace("1990", "1991")).unwrap();
    says(&world.run(&["--payload", &payload]).await, 64, "another payload");
    assert_eq!(world.runs(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn run_needs_a_payload_only_for_what_it_must_send() {
    let world = World::new(slow());
    let path = world.file("journal");
    // A mistyped name makes no file, and does not lead to a second run.
    says(&world.run(&[]).await, 64, "there is no journal at this path");
    says(&world.run(&[]).await, 64, &path);
    assert!(!Path::new(&path).exists());
    SqliteStore::open(&path).unwrap().append(&[entry("order-1", Stage::Delivered(Outcome::Failed))]).unwrap();
    let unknown = world.run(&[]).await;
    says(&unknown, 64, "does not know this key");
    says(&unknown, 64, &format!("{path}: "));
    // Nothing of it was sent yet.
    SqliteStore::open(&path).unwrap().append(&[entry("order-42", Stage::Planned)]).unwrap();
    says(&world.run(&[]).await, 64, "give it with --payload");

    // Killed while the create waits for its answer: this provider may run it twice, so it is not sent again, payload or
    // not.
    let late = World::new(slow().with_faults(steadfast_testkit::Faults::none().on(
        Kind::Create,
        1,
        steadfast_testkit::Fault::Late,
    )));
    late.kill_at(&["--payload", &late.file("payload")], "→ create 1").await;
    let output = late.run(&[]).await;
    says(&output, 4, "a create may have run");
    assert!(late.server.requests(Kind::Create) <= 1);
    // Nothing can be asked for; it is as unresolved as before.
    for more in [&[][..], &["--json"]] {
        let again = late.run(more).await;
        says(&again, 4, "no reference");
        assert_eq!(String::from_utf8_lossy(&again.stdout).contains(r#""outcome":"unresolved""#), !more.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_says_that_it_made_a_journal_and_names_it_in_errors() {
    let world = World::new(slow());
    let path = world.file("journal");
    let payload = world.file("payload");
    let made = format!("a new journal was made at {path}");
    let mut logging = world.command(&["--payload", &payload]);
    logging.env("RUST_LOG", "debug");
    let first = tokio::task::spawn_blocking(move || logging.output().unwrap()).await.unwrap();
    says(&first, 0, &made);
    says(&first, 0, "DEBUG job{");
    says(&first, 0, "steadfast_driver::");
    let second = world.run(&["--payload", &payload]).await;
    says(&second, 0, "the journal has this job");
    assert!(!String::from_utf8_lossy(&second.stderr).contains(&made), "{second:?}");
    std::fs::write(&path, "no journal at all. ".repeat(99)).unwrap();
    says(&world.run(&["--payload", &payload]).await, 64, &format!("{path}: this file is not a journal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn run_polls_on_what_ended_as_unresolved() {
    let world = World::new(slow());
    // Given up after it was accepted: unresolved, with a reference.
    let provider = |product: &str| {
        let base = BaseUrl::parse(&world.server.base_url()).unwrap();
        Deepvue::new(base, product, Credentials::new("token", "secret").unwrap()).unwrap()
    };
    let (accepted, wait) = tokio::sync::oneshot::channel();
    let accepted = std::sync::Mutex::new(Some(accepted));
    let client = Client::builder(provider("driving-license"), ReqwestTransport::new().unwrap())
        .store(SqliteStore::open(world.file("journal")).unwrap())
        .observer(move |seen| {
            if seen.reference.is_some() {
                accepted.lock().unwrap().take().into_iter().for_each(|tell| tell.send(()).unwrap());
            }
        })
        .start()
        .await
        .unwrap();
    let job = client.submit(Key::new("order-42").unwrap(), PAYLOAD).await.unwrap();
    wait.await.unwrap();
    job.cancel();
    assert!(matches!(job.await.unwrap().outcome, Outcome::Unresolved(_)));
    let _ = client.shutdown(Duration::ZERO).await;

    // With the payload or without: the job is the same.
    let output = world.run(&["--payload", &world.file("payload")]).await;
    says(&output, 0, "it ended as unresolved");
    assert_eq!((world.runs(), world.server.requests(Kind::Create)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_serves_one_product() {
    let world = World::new(slower());
    world.kill_at(&["--payload", &world.file("payload")], "→ poll 1").await;
    let polls = world.server.requests(Kind::Poll);
    let other = world.run(&["--product", "pan", "--payload", &world.file("payload")]).await;
    says(&other, 64, "\"deepvue/driving-license\"");
    says(&other, 64, &world.file("journal"));
    assert_eq!(world.server.requests(Kind::Poll), polls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_serves_one_process() {
    let world = World::new(slow());
    let _held = SqliteStore::open(world.file("journal")).unwrap();
    let second = world.run(&["--payload", &world.file("payload")]).await;
    says(&second, 64, &format!("{}: the journal is in use by another process", world.file("journal")));
    says(&second, 64, "has ended, and look meanwhile");
    // That is for programs that hold two clients.
    assert!(!String::from_utf8_lossy(&second.stderr).contains("within this process"), "{second:?}");
    assert_eq!(world.server.requests(Kind::Create), 0);
}

/// Its result would be nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn run_leaves_the_other_jobs_of_its_journal_alone() {
    let world = World::new(slower());
    let payload = world.file("payload");
    world.kill_at(&["--payload", &payload], "→ poll 1").await;
    let polls = world.server.requests(Kind::Poll);
    let (url, journal) = (world.server.base_url(), world.file("journal"));
    let args = ["run", "--base-url", &url, "--key", "order-43", "--journal", &journal, "--payload", &payload];
    let mut other = steadfast(&args);
    let output = tokio::task::spawn_blocking(move || other.output().unwrap()).await.unwrap();
    says(&output, 0, "create 1");
    let stages = stages(Path::new(&journal));
    assert!(matches!(stages[..], [Stage::Accepted, Stage::Delivered(Outcome::Completed(_))]), "{stages:?}");
    assert!(world.server.requests(Kind::Poll) > polls);
    says(&world.run(&["--keep-answer"]).await, 0, "the provider has accepted it as ");
}

/// As an earlier run would have left it so long ago, of the payload in the file.
fn ended(outcome: Outcome, age: Duration) -> Entry {
    let mut entry = entry("order-42", Stage::Delivered(outcome));
    entry.record.fingerprint = fingerprint(&entry.record.key, &Payload::from(PAYLOAD));
    entry.record.submitted = entry.record.submitted.saturating_sub(age);
    entry.at = entry.at.saturating_sub(age);
    entry
}

/// What a client remembers for a day a person may ask for later, and it costs money to run it again.
#[tokio::test(flavor = "multi_thread")]
async fn run_does_not_run_again_what_its_journal_knows_to_have_ended_long_ago() {
    let world = World::new(slow());
    let payload = world.file("payload");
    for outcome in [Outcome::Completed(Completed::Ready), Outcome::Failed] {
        for more in [&["--payload", &payload][..], &[]] {
            let old = ended(outcome, Duration::from_secs(1_000 * 3_600));
            SqliteStore::open(world.file("journal")).unwrap().append(&[old]).unwrap();
            let code = if outcome == Outcome::Failed { 3 } else { 0 };
            says(&world.run(more).await, code, &format!("it has ended as {}", outcome.name()));
            assert_eq!((world.runs(), world.server.requests(Kind::Create)), (0, 0), "{outcome:?} {more:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_says_that_a_rejected_job_begins_anew_and_asks_for_its_outcome_without_a_payload() {
    let world = World::new(slow());
    let mut rejected = ended(Outcome::Rejected(Rejected::Refused), Duration::from_secs(60));
    // Nobody took it.
    rejected.record.stage = Stage::Ended(Outcome::Rejected(Rejected::Refused));
    SqliteStore::open(world.file("journal")).unwrap().append(&[rejected]).unwrap();
    says(&world.run(&[]).await, 2, "it has ended as rejected");
    let rejected = Stage::Delivered(Outcome::Rejected(Rejected::Refused));
    assert_eq!((stages(Path::new(&world.file("journal"))), world.server.requests(Kind::Create)), (vec![rejected], 0));
    let anew = world.run(&["--payload", &world.file("payload")]).await;
    says(&anew, 0, "it has ended as rejected: nothing ran, so its key is free, and with a payload it begins anew");
    assert_eq!(world.runs(), 1);
}
