//! What durability costs: records a second at batches of 1, 16 and 256, beside the limit of the disk itself.
//!
//! ```text
//! cargo bench -p steadfast-store
//! ```
//!
//! `raw` appends the same records' bytes to a plain file and calls `fdatasync`, once per batch: nothing that is durable
//! can be faster on this disk. `new` appends operations that were not there, `next` the next record of operations that
//! are. `item/s` counts records. `load` reads a journal of a hundred thousand operations; with
//! `STEADFAST_BENCH_LOAD=1000000` one of a million.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fs, process};

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use steadfast_core::operation::{Record, Stage};
use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Reference, Seed, Timestamp, journal};
use steadfast_store::{Entry, MemoryStore, SqliteStore, Store};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const BATCHES: [u64; 3] = [1, 16, 256];

fn main() {
    divan::main();
}

/// A directory on the disk that a user would take; `TMPDIR` says another.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = env::temp_dir().join(format!("steadfast-bench-{}-{number}", process::id()));
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.0.join("journal")).expect("it opens")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Keys as people choose them: no order among them.
fn record(number: u64, stage: Stage) -> Record {
    let (policy, now) = (OperationPolicy::default(), Timestamp::from_secs(1_700_000_000 + number));
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let key = Key::new(format!("{scattered:016x}-order-{number:08}")).expect("a key");
    let print = Fingerprint::new(u128::from(scattered).to_le_bytes());
    let mut record =
        Operation::new(key, print, Seed::new(number), &mut policy.turn(now, &mut Gate::unlimited())).record();
    record.stage = stage;
    if stage == Stage::Accepted {
        record.reference = Reference::new(format!("txn-{scattered:032x}")).ok();
        record.due = Some(now);
    }
    record
}

fn batch(from: u64, size: u64, stage: Stage) -> Vec<Entry> {
    let provider: Arc<str> = Arc::from("deepvue");
    (from..from + size).map(|n| Entry::new(record(n, stage), provider.clone(), Timestamp::from_secs(n))).collect()
}

#[divan::bench(args = BATCHES)]
fn raw(bencher: Bencher<'_, '_>, size: u64) {
    let home = Home::new();
    let mut file = File::create(home.0.join("log")).expect("a file");
    let mut next = 0;
    bencher
        .counter(ItemsCount::new(size))
        .with_inputs(|| {
            next += size;
            batch(next, size, Stage::Accepted)
        })
        .bench_local_values(|entries| {
            let mut bytes = Vec::new();
            for entry in &entries {
                journal::encode(&entry.record, &mut bytes);
            }
            file.write_all(&bytes).expect("it is written");
            file.sync_data().expect("it is durable");
        });
}

#[divan::bench(args = BATCHES)]
fn new(bencher: Bencher<'_, '_>, size: u64) {
    let home = Home::new();
    let mut store = home.open();
    let mut next = 0;
    bencher
        .counter(ItemsCount::new(size))
        .with_inputs(|| {
            next += size;
            batch(next, size, Stage::InFlight)
        })
        .bench_local_values(|entries| store.append(&entries).expect("it is durable"));
}

/// Of operations that were written lately.
#[divan::bench(args = BATCHES)]
fn next(bencher: Bencher<'_, '_>, size: u64) {
    next_of(8_192, bencher, size);
}

/// Of more operations than the store remembers, so that each row is read before it is replaced.
#[divan::bench(args = BATCHES)]
fn next_of_many(bencher: Bencher<'_, '_>, size: u64) {
    next_of(65_536, bencher, size);
}

fn next_of(live: u64, bencher: Bencher<'_, '_>, size: u64) {
    let home = Home::new();
    let mut store = home.open();
    store.append(&batch(0, live, Stage::InFlight)).expect("it is durable");
    let mut next = 0;
    bencher
        .counter(ItemsCount::new(size))
        .with_inputs(|| {
            next = (next + size) % live;
            batch(next, size, Stage::Accepted)
        })
        .bench_local_values(|entries| store.append(&entries).expect("it is durable"));
}

#[divan::bench(args = BATCHES)]
fn next_in_memory(bencher: Bencher<'_, '_>, size: u64) {
    let mut store = MemoryStore::default();
    let mut next = 0;
    bencher
        .counter(ItemsCount::new(size))
        .with_inputs(|| {
            next = (next + size) % 65_536;
            batch(next, size, Stage::Accepted)
        })
        .bench_local_values(|entries| store.append(&entries));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn load(bencher: Bencher<'_, '_>) {
    let home = Home::new();
    let mut store = home.open();
    let count = env::var("STEADFAST_BENCH_LOAD").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000);
    for from in (0..count).step_by(10_000) {
        store.append(&batch(from, 10_000.min(count - from), Stage::Accepted)).expect("it is durable");
    }
    drop(store);
    bencher.counter(ItemsCount::new(count)).bench_local(|| home.open().load().expect("it loads"));
}
