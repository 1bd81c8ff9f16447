//! Durable operations per second through the whole client, beside what the disk can do.
//!
//! So many callers, each with one operation at a time: submit, wait for the outcome, submit the next. The client is the
//! real one on tokio, with its breaker and retry budget, and its store a real file. The provider answers at once, in
//! memory: a create is accepted, and the first poll is *ready*. The poll schedule's first wait is zero, which the
//! policy allows, so that what is measured is work, not waiting. One operation is four records: in flight, accepted,
//! ended, delivered.
//!
//! Beside it, in the same run and in the same groups:
//!
//! - *raw*, the limit of the disk: the same bytes, made before, appended to a file, and `fdatasync` after each group;
//!   once more with 256 records in each;
//! - *SQLite alone*: the same table, settings and statements with constant values; no client, no records made, no
//!   hashes, nothing looked up. What the store does not reach of *raw* is for the most part what a readable table
//!   costs.
//!
//! Each is measured five times, and its best time counts: what else runs on the machine takes from all, and a limit is
//! a limit. Of that best time is, of the store and of SQLite alone, how long 99 in 100 commits take at most, and how
//! many bytes are written for a record (Linux only; else 0): pages and their checksums, into the log and later into the
//! file.

mod disk;
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

pub use self::disk::slow_down;
pub use self::stub::{Instant as InstantTransport, Stub};
use crate::measure::{self, allocations};
use crate::names::Names;

/// How full a commit of the second raw measurement is.
const FULL: u32 = 256;
/// How often each is measured.
pub const ROUNDS: u32 = 5;

/// What was measured at so many in flight.
struct Case {
    in_flight: usize,
    names: Names,
    operations_per_s: f64,
    commits_per_s: f64,
    records_per_commit: f64,
    /// The share of the time that the store was at work.
    store_busy: f64,
    /// Processor time of the whole process, callers and provider included.
    cpu_us_per_operation: f64,
    ours: Pace,
    raw: Pace,
    sqlite: Pace,
    raw_at_256: Pace,
}

/// How records were written in the best round. In JSON a row more is said of ours, of raw (*limit*) and of SQLite alone
/// (*rusqlite*) than elsewhere.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Pace {
    records_per_s: f64,
    commit_p99_us: f64,
    #[serde(skip)]
    written_bytes_per_record: f64,
    #[serde(skip)]
    allocs_per_record: f64,
}

impl Pace {
    /// The better of both.
    fn or(self, other: Self) -> Self {
        if other.records_per_s > self.records_per_s { other } else { self }
    }

    fn of(&self, other: &Self) -> f64 {
        self.records_per_s / other.records_per_s * 100.0
    }

    fn row(&self, case: &'static str, subject: &'static str) -> measure::Row {
        measure::Row {
            section: "durable",
            case,
            subject,
            ns_per_op: 1e9 / self.records_per_s,
            allocs_per_op: self.allocs_per_record,
            bytes_per_op: self.written_bytes_per_record,
        }
    }
}

#[derive(Serialize)]
struct Detailed {
    #[serde(flatten)]
    row: measure::Row,
    names: Names,
    #[serde(flatten)]
    pace: Pace,
}

impl Case {
    /// An op is a record; its bytes are those that were written.
    fn rows(&self) -> Vec<Detailed> {
        let case = format!("{} in flight, a record", self.in_flight).leak();
        let subjects = [("steadfast", self.ours), ("limit", self.raw), ("rusqlite", self.sqlite)];
        subjects
            .into_iter()
            .map(|(subject, pace)| Detailed { row: pace.row(case, subject), names: self.names, pace })
            .collect()
    }
}

/// For the table of all sections.
pub fn rows(seconds: u64, in_flight: &[usize]) -> std::io::Result<Vec<measure::Row>> {
    let cases = cases(seconds, in_flight, Names::Uuid)?;
    Ok(cases.iter().flat_map(Case::rows).map(|detailed| detailed.row).collect())
}

pub fn run(seconds: u64, in_flight: &[usize], names: Names, json: bool) -> std::io::Result<()> {
    let cases = cases(seconds, in_flight, names)?;
    let mut out = std::io::stdout().lock();
    if json {
        let rows: Vec<_> = cases.iter().flat_map(Case::rows).collect();
        writeln!(out, "{}", serde_json::to_string(&rows)?)
    } else {
        write!(out, "{}", table(&cases))
    }
}

fn cases(seconds: u64, in_flight: &[usize], names: Names) -> std::io::Result<Vec<Case>> {
    in_flight.iter().map(|callers| measure(*callers, names, Duration::from_secs(seconds))).collect()
}

fn table(cases: &[Case]) -> String {
    let mut text = String::from(
        "| in flight | names | operations/s | records/s | commits/s | records/commit | store busy | CPU µs/operation | raw records/s | of raw | SQLite alone | of SQLite | raw at 256 | of raw at 256 | p99 of a commit, µs | SQLite's | bytes written/record | SQLite's |\n\
         | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for case in cases {
        let Case { ours, raw, sqlite, raw_at_256, .. } = case;
        text += &format!(
            "| {} | {} | {:.0} | {:.0} | {:.0} | {:.1} | {:.0} % | {:.1} | {:.0} | {:.0} % | {:.0} | {:.0} % | {:.0} | {:.0} % | {:.0} | {:.0} | {:.0} | {:.0} |\n",
            case.in_flight,
            case.names.told(),
            case.operations_per_s,
            ours.records_per_s,
            case.commits_per_s,
            case.records_per_commit,
            case.store_busy * 100.0,
            case.cpu_us_per_operation,
            raw.records_per_s,
            ours.of(raw),
            sqlite.records_per_s,
            ours.of(sqlite),
            raw_at_256.records_per_s,
            ours.of(raw_at_256),
            ours.commit_p99_us,
            sqlite.commit_p99_us,
            ours.written_bytes_per_record,
            sqlite.written_bytes_per_record,
        );
    }
    text
}

fn measure(in_flight: usize, names: Names, span: Duration) -> std::io::Result<Case> {
    let home = Home::new()?;
    let tally = Arc::new(Tally::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build()?;
    let store = Tallied { store: home.open(), tally: tally.clone() };
    let spells = runtime.block_on(drive(store, in_flight, names, span, &tally));
    drop(runtime);
    let groups: Vec<u32> = spells.iter().flat_map(|spell| &spell.given.groups).copied().collect();
    let samples = spells.iter().map(|spell| &spell.given.sample[..]);
    let sample = samples.into_iter().find(|sample| !sample.is_empty()).unwrap_or_default();
    let best = spells.iter().max_by(|a, b| a.pace.records_per_s.total_cmp(&b.pace.records_per_s)).expect("rounds");
    let per_s = |count: f64| count / best.took.as_secs_f64();
    let (operations, commits) = (best.operations as f64, best.given.groups.len() as f64);
    Ok(Case {
        in_flight,
        names,
        operations_per_s: per_s(operations),
        commits_per_s: per_s(commits),
        records_per_commit: best.given.records() as f64 / commits,
        store_busy: best.busy.as_secs_f64() / best.took.as_secs_f64(),
        cpu_us_per_operation: best.cpu.as_micros() as f64 / operations,
        ours: best.pace,
        raw: raw::measure(&home.0.join("raw"), &groups, sample, span)?,
        sqlite: sqlite::measure(&home.0.join("sqlite"), &groups, in_flight, span).map_err(std::io::Error::other)?,
        raw_at_256: raw::measure(&home.0.join("raw"), &[FULL], sample, span)?,
    })
}

/// What was done in one round with the whole client.
struct Spell {
    operations: u64,
    took: Duration,
    cpu: Duration,
    /// What the store did.
    given: Given,
    busy: Duration,
    pace: Pace,
}

/// A round that is being measured.
pub struct Round {
    began: Instant,
    written: u64,
    allocated: u64,
    pub commits: Vec<Duration>,
}

impl Round {
    fn begin() -> Self {
        // Room from the start, so that what it takes down is not counted with what it measures.
        let commits = Vec::with_capacity(1 << 17);
        Self { commits, written: written_bytes(), allocated: allocations(), began: Instant::now() }
    }

    fn end(mut self, records: u64) -> Pace {
        let (took, count) = (self.began.elapsed().as_secs_f64(), records as f64);
        let (written, allocated) = (written_bytes() - self.written, allocations() - self.allocated);
        self.commits.sort_unstable();
        let p99 = self.commits.get(self.commits.len() * 99 / 100).copied().unwrap_or_default();
        Pace {
            records_per_s: count / took,
            commit_p99_us: p99.as_nanos() as f64 / 1_000.0,
            written_bytes_per_record: written as f64 / count,
            allocs_per_record: allocated as f64 / count,
        }
    }
}

/// Lets the callers run, and counts what they get done, after two seconds in which files grow and caches warm up.
async fn drive(store: Tallied, in_flight: usize, names: Names, span: Duration, tally: &Tally) -> Vec<Spell> {
    let client = Client::builder(Stub::new(), InstantTransport(names)).store(store).start().await.expect("it starts");
    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..in_flight as u64)
        .map(|caller| {
            let (client, done, stop) = (client.clone(), done.clone(), stop.clone());
            tokio::spawn(async move {
                let mut next = caller;
                while !stop.load(Relaxed) {
                    let handle =
                        client.submit(names.key(next), "{\"pan\":\"ABCDE1234F\"}").await.expect("it is durable");
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
        let (before, cpu, mut round) = (done.load(Relaxed), cpu_time(), Round::begin());
        let began = Instant::now();
        tokio::time::sleep(span / ROUNDS).await;
        let (given, busy) = tally.take();
        let (operations, took, cpu) = (done.load(Relaxed) - before, began.elapsed(), cpu_time() - cpu);
        round.commits.clone_from(&given.commits);
        let pace = round.end(given.records());
        rounds.push(Spell { operations, took, cpu, given, busy, pace });
    }
    tally.counts.store(false, Relaxed);
    stop.store(true, Relaxed);
    for caller in callers {
        caller.await.expect("it stops");
    }
    assert!(client.shutdown(Duration::from_secs(60)).await.is_empty());
    rounds
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

impl Given {
    fn records(&self) -> u64 {
        self.groups.iter().copied().map(u64::from).sum()
    }
}

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

    fn is_backup(&self) -> bool {
        self.store.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.store.take_into_use()
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
