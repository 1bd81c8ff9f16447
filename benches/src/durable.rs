//! Durable operations per second through the whole client, beside what the disk can do.
//!
//! So many callers, each with one operation at a time: submit, wait for the outcome, submit the next. The client is the real one on tokio, with its
//! breaker and retry budget, and its store a real file. The provider answers at once, in memory: a create is accepted, and the first poll is
//! *ready*. The poll schedule's first wait is zero, which the policy allows, so that what is measured is work, not waiting. One operation
//! is four records: in flight, accepted, ended, delivered.
//!
//! Beside it, in the same run and in the same groups:
//!
//! - *raw*, the limit of the disk: the same bytes, made before, appended to a file, and `fdatasync` after each group; once more with 256 records in each;
//! - *SQLite alone*: the same table, settings and statements with constant values; no client, no records made, no hashes, nothing looked up. What the
//!   store does not reach of *raw* is for the most part what a readable table costs.
//!
//! Each is measured five times, and its best time counts: what else runs on the machine takes from all, and a limit is a limit. Of that best time is, of the
//! store and of SQLite alone, how long 99 in 100 commits take at most, and how many bytes are written for a record (Linux only; else 0): pages and their
//! checksums, into the log and later into the file.

mod raw;
mod sqlite;
mod stub;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use serde::Serialize;
use steadfast_core::{Key, Timestamp};
use steadfast_store::{Entry, SqliteStore, Store, StoreError};
use steadfast_tokio::Client;

pub use self::stub::{Instant as InstantTransport, Stub};

/// How full a commit of the second raw measurement is.
const FULL: u32 = 256;
/// How often each is measured.
pub const ROUNDS: u32 = 5;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
struct Row {
    in_flight: usize,
    operations_per_s: f64,
    records_per_s: f64,
    commits_per_s: f64,
    records_per_commit: f64,
    /// The share of the time that the store was at work.
    store_busy: f64,
    /// Processor time of the whole process, callers and provider included.
    cpu_us_per_operation: f64,
    raw_records_per_s: f64,
    of_raw: f64,
    sqlite_records_per_s: f64,
    of_sqlite: f64,
    commit_p99_us: f64,
    sqlite_commit_p99_us: f64,
    written_bytes_per_record: f64,
    sqlite_written_bytes_per_record: f64,
    raw_records_per_s_at_256: f64,
    of_raw_at_256: f64,
}

pub fn run(seconds: u64, in_flight: &[usize], json: bool) -> std::io::Result<()> {
    let span = Duration::from_secs(seconds);
    let rows = in_flight.iter().map(|callers| measure(*callers, span)).collect::<std::io::Result<Vec<_>>>()?;
    let mut out = std::io::stdout().lock();
    if json { writeln!(out, "{}", serde_json::to_string(&rows)?) } else { write!(out, "{}", table(&rows)) }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| in flight | operations/s | records/s | commits/s | records/commit | store busy | CPU µs/operation | raw records/s | of raw | SQLite alone | of SQLite | raw at 256 | of raw at 256 | p99 of a commit, µs | SQLite's | bytes written/record | SQLite's |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        text += &format!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.1} | {:.0} % | {:.1} | {:.0} | {:.0} % | {:.0} | {:.0} % | {:.0} | {:.0} % | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            row.in_flight,
            row.operations_per_s,
            row.records_per_s,
            row.commits_per_s,
            row.records_per_commit,
            row.store_busy * 100.0,
            row.cpu_us_per_operation,
            row.raw_records_per_s,
            row.of_raw * 100.0,
            row.sqlite_records_per_s,
            row.of_sqlite * 100.0,
            row.raw_records_per_s_at_256,
            row.of_raw_at_256 * 100.0,
            row.commit_p99_us,
            row.sqlite_commit_p99_us,
            row.written_bytes_per_record,
            row.sqlite_written_bytes_per_record,
        );
    }
    text
}

fn measure(in_flight: usize, span: Duration) -> std::io::Result<Row> {
    let home = Home::new()?;
    let tally = Arc::new(Tally::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let store = Tallied { store: home.open(), tally: tally.clone() };
    let rounds = runtime.block_on(drive(store, in_flight, span, &tally));
    drop(runtime);
    let groups: Vec<u32> = rounds.iter().flat_map(|round| &round.groups).copied().collect();
    let sample = rounds.iter().find(|round| !round.sample.is_empty()).map_or(&[][..], |round| &round.sample);
    let best = rounds.iter().max_by(|a, b| a.per_s(a.operations).total_cmp(&b.per_s(b.operations))).expect("rounds");
    let raw = raw::records_per_s(&home.0.join("raw"), &groups, sample, span)?;
    let full = raw::records_per_s(&home.0.join("raw"), &[FULL], sample, span)?;
    let sqlite = sqlite::measure(&home.0.join("sqlite"), &groups, in_flight, span).map_err(std::io::Error::other)?;
    let records: u64 = best.groups.iter().copied().map(u64::from).sum();
    let records_per_s = best.per_s(records);
    Ok(Row {
        in_flight,
        operations_per_s: best.per_s(best.operations),
        records_per_s,
        commits_per_s: best.per_s(best.groups.len() as u64),
        records_per_commit: records as f64 / best.groups.len() as f64,
        store_busy: best.busy.as_secs_f64() / best.took.as_secs_f64(),
        cpu_us_per_operation: best.cpu.as_micros() as f64 / best.operations as f64,
        raw_records_per_s: raw,
        of_raw: records_per_s / raw,
        sqlite_records_per_s: sqlite.records_per_s,
        of_sqlite: records_per_s / sqlite.records_per_s,
        commit_p99_us: p99_us(&best.commits),
        sqlite_commit_p99_us: sqlite.commit_p99_us,
        written_bytes_per_record: best.written as f64 / records as f64,
        sqlite_written_bytes_per_record: sqlite.written_bytes_per_record,
        raw_records_per_s_at_256: full,
        of_raw_at_256: records_per_s / full,
    })
}

/// What was done in one round.
struct Round {
    operations: u64,
    took: Duration,
    cpu: Duration,
    /// What the store did.
    groups: Vec<u32>,
    commits: Vec<Duration>,
    sample: Vec<u8>,
    busy: Duration,
    /// Bytes, by the whole process.
    written: u64,
}

impl Round {
    fn per_s(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64()
    }
}

/// Lets the callers run, and counts what they get done, after two seconds in which files grow and caches warm up.
async fn drive(store: Tallied, in_flight: usize, span: Duration, tally: &Tally) -> Vec<Round> {
    let client = Client::builder(Stub::new(), InstantTransport).store(store).start().await.expect("it starts");
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..in_flight as u64)
        .map(|caller| {
            let (client, done, stop) = (client.clone(), done.clone(), stop.clone());
            tokio::spawn(async move {
                let mut next = caller;
                while !stop.load(Relaxed) {
                    let handle = client.submit(key(next), "{\"pan\":\"ABCDE1234F\"}").await.expect("it is durable");
                    let finished = handle.await.expect("it ends");
                    assert_eq!(finished.outcome.name(), "completed");
                    done.fetch_add(1, Relaxed);
                    next += in_flight as u64;
                }
            })
        })
        .collect();
    tokio::time::sleep(span.min(Duration::from_secs(2))).await;
    tally.counts.store(true, Relaxed);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        tally.take();
        let (before, began, cpu, written) = (done.load(Relaxed), Instant::now(), cpu_time(), written_bytes());
        tokio::time::sleep(span / ROUNDS).await;
        let (Given { groups, commits, sample }, busy) = tally.take();
        let operations = done.load(Relaxed) - before;
        let (took, cpu, written) = (began.elapsed(), cpu_time() - cpu, written_bytes() - written);
        rounds.push(Round { operations, took, cpu, groups, commits, sample, busy, written });
    }
    tally.counts.store(false, Relaxed);
    stop.store(true, Relaxed);
    for caller in callers {
        caller.await.expect("it stops");
    }
    assert!(client.shutdown(Duration::from_secs(60)).await.is_empty());
    rounds
}

/// Keys as people choose them: no order among them.
pub fn key(number: u64) -> Key {
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Key::new(format!("{scattered:016x}-order-{number:08}")).expect("a key")
}

/// User and system time of this process, by the kernel's ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// What this process has handed to files, by the kernel.
fn written_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or_default()
}

/// How long 99 in 100 take at most.
fn p99_us(commits: &[Duration]) -> f64 {
    let mut commits = commits.to_vec();
    commits.sort_unstable();
    commits.get(commits.len() * 99 / 100).map_or(0.0, |commit| commit.as_nanos() as f64 / 1_000.0)
}

/// What a store was given, and what came of it.
#[derive(Debug, Default)]
struct Tally {
    counts: AtomicBool,
    busy: AtomicU64,
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    /// Records of each commit.
    groups: Vec<u32>,
    /// How long each took.
    commits: Vec<Duration>,
    /// The bytes of the first commits.
    sample: Vec<u8>,
}

/// So many bytes of records are kept as a sample.
const SAMPLE: usize = 1 << 16;

impl Tally {
    fn take(&self) -> (Given, Duration) {
        let given = std::mem::take(&mut *self.given.lock().expect("no panic"));
        (given, Duration::from_nanos(self.busy.swap(0, Relaxed)))
    }
}

/// A store that counts.
struct Tallied {
    store: SqliteStore,
    tally: Arc<Tally>,
}

impl Tallied {
    fn timed<T>(&mut self, work: impl FnOnce(&mut SqliteStore) -> T) -> T {
        let began = Instant::now();
        let result = work(&mut self.store);
        if self.tally.counts.load(Relaxed) {
            self.tally.busy.fetch_add(began.elapsed().as_nanos() as u64, Relaxed);
        }
        result
    }
}

impl Store for Tallied {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let began = Instant::now();
        let result = self.timed(|store| store.append(entries));
        if self.tally.counts.load(Relaxed) {
            let mut given = self.tally.given.lock().expect("no panic");
            given.commits.push(began.elapsed());
            given.groups.push(entries.len() as u32);
            if given.sample.len() < SAMPLE {
                entries.iter().for_each(|entry| raw::add(&mut given.sample, &entry.record));
            }
        }
        result
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.store.load()
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.store.load_live()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.timed(|store| store.find(key))
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.timed(|store| store.forget(before, most))
    }
}

/// A directory of its own where temporary files are made.
pub struct Home(pub PathBuf);

impl Home {
    pub fn new() -> std::io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let path = env::temp_dir().join(format!("steadfast-bench-{}-{}", process::id(), NEXT.fetch_add(1, Relaxed)));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub fn open(&self) -> SqliteStore {
        SqliteStore::open(self.0.join("journal")).expect("it opens")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
