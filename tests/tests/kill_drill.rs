//! A client that is killed (SIGKILL) again and again, on a real journal file and over real HTTP: no key is run twice,
//! nothing is lost.
//!
//! The child is this very executable; the provider and its ledger are in the parent. What is checked is told in
//! [`steadfast_testkit::kill_drill`]. Small drills run with all tests. Large ones, sixty kills over 2,400 jobs for each
//! kind of provider and each client, are one command:
//!
//! ```text
//! cargo test --release -p steadfast-tests --test kill_drill -- --ignored --nocapture large
//! ```

use std::process::Command;

use steadfast_testkit::kill_drill::{self, Adapter, KillDrill, KillReport};
use steadfast_testkit::{FakeDeepvue, Faults, Keys};

const CHILD: &str = "STEADFAST_KILL_DRILL_CHILD";

const TOKIO: Adapter = Adapter::Tokio { shards: 1 };
const SHARDS: Adapter = Adapter::Tokio { shards: 2 };

/// No test of its own: the process that the others kill.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other tests start it"]
async fn child() {
    if std::env::var_os(CHILD).is_some() {
        kill_drill::child().await.unwrap();
    }
}

async fn drill(adapter: Adapter, keys: Keys, seed: u64, speed: f64, operations: u64, kills: u32) -> KillReport {
    let directory = tempfile::tempdir().unwrap();
    let provider = FakeDeepvue::new(seed).with_keys(keys).with_faults(Faults::rate(0.3)).with_speed(speed);
    let drill = KillDrill { provider, adapter, operations, kills, journal: directory.path().join("journal") };
    let child = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "child", "--nocapture"]).env(CHILD, "1");
        command
    };
    let (report, server) = drill.run(child, |_| {}).await.unwrap();
    let ledger = server.ledger();
    let mut outcomes = std::collections::BTreeMap::<&str, u32>::new();
    for (told, _) in report.told.values() {
        *outcomes.entry(&told.outcome).or_default() += 1;
    }
    println!(
        "{adapter:?}, {keys:?}: {kills} kills, {operations} operations, {} jobs run, {outcomes:?}, found by restarts {:?}, {} of those in doubt completed, {:.1} s",
        ledger.total_executions(),
        report.left_by_kills,
        report.recovered,
        report.elapsed.as_secs_f64()
    );
    assert_eq!(report.violations, [""; 0], "{adapter:?}, seed {seed}");
    // The drill's own checks say it too; here it stands in one line.
    assert_eq!(
        (report.kills, report.told.len() as u64, ledger.keys_run_more_than_once()),
        (kills, operations, 0),
        "{adapter:?}, seed {seed}"
    );
    // Kills that found nothing under way would prove nothing.
    let left: u64 = report.left_by_kills.values().sum();
    assert!(left >= u64::from(kills), "{:?}", report.left_by_kills);
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_provider_honours_keys() {
    drill(TOKIO, Keys::Honoured, 11, 100.0, 120, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_provider_ignores_keys() {
    drill(TOKIO, Keys::Ignored, 12, 100.0, 120, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_the_provider_can_be_asked() {
    drill(TOKIO, Keys::Lookup, 13, 100.0, 120, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_threads_while_the_provider_honours_keys() {
    drill(Adapter::Blocking, Keys::Honoured, 14, 100.0, 120, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_on_threads_while_the_provider_ignores_keys() {
    drill(Adapter::Blocking, Keys::Ignored, 15, 100.0, 120, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_two_shards_while_the_provider_can_be_asked() {
    drill(SHARDS, Keys::Lookup, 16, 100.0, 120, 10).await;
}

async fn large(adapter: Adapter, seeds: u64) {
    for (seed, keys) in (seeds..).zip([Keys::Honoured, Keys::Ignored, Keys::Lookup]) {
        let report = drill(adapter, keys, seed, 50.0, 2_400, 60).await;
        assert!(report.left_by_kills.len() >= 2, "{:?}", report.left_by_kills);
        // Where a create in doubt can be repeated or looked up, it is, and the job goes on.
        assert!(keys == Keys::Ignored || report.recovered >= 20, "{} recovered", report.recovered);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: see the module's text"]
async fn large_on_tokio() {
    large(TOKIO, 21).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: see the module's text"]
async fn large_on_threads() {
    large(Adapter::Blocking, 31).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: see the module's text"]
async fn large_in_two_shards() {
    large(SHARDS, 41).await;
}
