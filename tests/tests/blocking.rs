//! The blocking adapter over real sockets, held against the provider's own ledger.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use steadfast_blocking::{Client, Finished, UreqTransport};
use steadfast_core::engine::Limits;
use steadfast_core::{Key, SendSafety};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};
use steadfast_store::SqliteStore;
use steadfast_testkit::connect::{Connect, job};
use steadfast_testkit::{FakeDeepvue, Faults, Keys, scaled};

const JOBS: usize = 60;
const SPEED: f64 = 50.0;

fn provider(base_url: &str, safety: SendSafety) -> Deepvue {
    let credentials = Credentials::new("token", "secret").unwrap();
    let provider = Deepvue::new(BaseUrl::parse(base_url).unwrap(), "driving-license", credentials).unwrap();
    provider.with_safety(safety).unwrap()
}

/// I6, I7: whatever goes wrong, what the client believes agrees with the ledger, and no key runs twice.
#[test]
fn what_it_believes_agrees_with_the_ledger() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
    for (keys, safety) in [(Keys::Honoured, keyed), (Keys::Ignored, SendSafety::Unsafe)] {
        let fake = FakeDeepvue::new(7).with_faults(Faults::rate(0.3)).with_keys(keys).with_speed(SPEED);
        let server = runtime.block_on(async { fake.start().unwrap() });
        let directory = tempfile::tempdir().unwrap();
        let provider = provider(&server.base_url(), safety);
        let policy = scaled(&provider.policy(), SPEED).unwrap();
        let store = SqliteStore::open(directory.path().join("jobs.db")).unwrap();
        let client = Client::builder(provider, UreqTransport::new()).policy(policy).store(store).start().unwrap();
        let submit = |n: usize| {
            let payload = format!(r#"{{"dl_number":"DL{n}","dob":"1990-01-01","consent":"Y","reason":"KYC"}}"#);
            client.submit(Key::new(format!("order-{n}")).unwrap(), payload)
        };
        let jobs: Vec<_> = (0..JOBS).map(|n| submit(n).unwrap()).collect();
        let ended: Vec<Finished> = jobs.into_iter().map(|job| job.wait().unwrap()).collect();
        let ledger = server.ledger();
        assert_eq!(ledger.keys_run_more_than_once(), 0);
        for (n, finished) in ended.iter().enumerate() {
            let ran = ledger.executions(&format!("order-{n}")).len();
            match finished.outcome.name() {
                "completed" | "failed" => assert_eq!(ran, 1, "order-{n}: {finished:?}"),
                "rejected" => assert_eq!(ran, 0, "order-{n}: {finished:?}"),
                name => assert_eq!(name, "unresolved"),
            }
        }
        let completed = ended.iter().filter(|finished| finished.outcome.name() == "completed").count();
        assert!(completed > JOBS / 2, "{completed} of {JOBS}: {ended:?}");
        assert!(client.shutdown(Duration::ZERO).is_empty());
    }
}

/// Two minutes of jobs at a provider of which three requests in ten go wrong: memory stays where it was.
///
/// ```sh
/// cargo test --release -p steadfast-tests --test blocking -- --ignored --nocapture soak
/// ```
///
/// `SOAK_SECONDS` makes it longer or shorter. `SOAK_JOURNAL=1` adds a journal, whose page cache is full after a minute
/// or two: let it run for five. The provider is a process of its own: its books grow.
#[test]
#[ignore = "it takes two minutes, and is meant for a release build"]
fn soak() {
    if std::env::var_os("SOAK_PROVIDER").is_some() {
        return provide();
    }
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(120);
    let journaled = std::env::var_os("SOAK_JOURNAL").is_some();
    let mut provider = Command::new(std::env::current_exe().unwrap());
    provider.args(["--ignored", "--exact", "soak", "--nocapture"]).env("SOAK_PROVIDER", "1");
    let mut provider = provider.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // Held to the end: it writes more, and must not find its output closed.
    let mut lines = BufReader::new(provider.stdout.take().unwrap()).lines().map_while(Result::ok);
    let base_url = lines.find_map(|line| line.find("http://").map(|at| line[at..].to_owned()));
    let directory = tempfile::tempdir().unwrap();
    let connect = Connect {
        base_url: base_url.unwrap(),
        keys: Keys::Honoured,
        speed: SOAK_SPEED,
        seed: 7,
        live: 256,
        journal: journaled.then(|| directory.path().join("jobs.db")),
    };
    // What it remembers of ended jobs is bounded, and full before it is measured.
    let limits = Limits { live: 256, remember: 1_000, ..Limits::default() };
    let builder = connect.describe::<_, Client>(UreqTransport::new(), |_| {}).unwrap();
    let client = builder.limits(limits).results_limit(1 << 20).start().unwrap();
    let (started, next, completed) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let whole = Duration::from_secs(seconds);
    let warm = if journaled { whole * 2 / 3 } else { whole / 6 };
    let at_first = std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                while started.elapsed() < whole {
                    let (key, payload) = job(7, next.fetch_add(1, Ordering::Relaxed)).unwrap();
                    let finished = client.call(key, payload).unwrap();
                    completed.fetch_add(u64::from(finished.outcome.name() == "completed"), Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(warm);
        (resident(), threads())
    });
    let (jobs, completed) = (next.into_inner(), completed.into_inner());
    let at_last = (resident(), threads());
    println!("{jobs} jobs in {:?}, {completed} completed", started.elapsed());
    println!("resident: {} KiB after {warm:?}, {} KiB at the end", at_first.0, at_last.0);
    println!("threads: {} after {warm:?}, {} at the end, without callers", at_first.1, at_last.1);
    assert!(client.shutdown(Duration::from_secs(30)).is_empty());
    // It ends when its input does.
    drop(provider.stdin.take());
    lines.for_each(drop);
    assert!(provider.wait().unwrap().success(), "a key was run twice");
    assert!(completed > jobs / 2, "{completed} of {jobs}");
    assert!(at_last.0 * 10 <= at_first.0 * 12, "memory grows: {at_first:?}, then {at_last:?}");
}

const SOAK_SPEED: f64 = 200.0;

/// The soak's provider, until its input ends.
fn provide() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fake = FakeDeepvue::new(7).with_faults(Faults::rate(0.3)).with_speed(SOAK_SPEED);
    let server = runtime.block_on(async { fake.start().unwrap() });
    println!("{}", server.base_url());
    let _ = std::io::stdin().lines().last();
    assert_eq!(server.ledger().keys_run_more_than_once(), 0);
}

/// Memory of this process, in KiB; 0 where the system does not tell.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}
