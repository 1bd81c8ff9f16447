//! Whole operations on tokio, 100,000 in flight: the client beside what is put together by hand today, and beside a
//! hand-written limit.
//!
//! An operation is a create and three polls, of which one request in ten fails ([`model`]). All are begun at once, and
//! the clock is paused: waits cost nothing, so what is measured is work. Once more, on the running clock with two
//! workers. Figures are for each operation, and each subject runs in a process of its own:
//!
//! - *ns/op*: processor time of the whole process, the store's thread included;
//! - *bytes/op*: what is held while all are in flight and none has ended, by the allocator; in cases that say so by the
//!   system (RSS).
//!
//! Two shards beside one are measured at jobs without waits, as fast as two cores carry them: by the clock, and by the
//! processors' time.
//!
//! Each holds its keys (36 bytes) and references (24), as far as it knows any. Ours is the whole client with its
//! journal, breaker, retry budget and rate limiter. Its provider and transport answer in the process; it builds and
//! reads HTTP messages all the same, which the others do not. Its store encodes the records into a buffer that is used
//! again: what a store itself costs is in the case with `MemoryStore`, and in `durable`.

mod limit;
pub mod model;
mod ours;
mod stack;

use std::time::Instant;

use self::model::Waits;
use self::ours::{Handles, Kept};
use crate::measure::{Row, allocations, cpu_time, live_bytes, resident_bytes};
use crate::turns::{self, Sample};

const SECTION: &str = "tokio";
const MANY: u32 = 100_000;
const FEW: u32 = 10_000;
const ROUNDS: usize = 7;

const PAUSED: &str = "100k in flight, paused clock";
const PAUSED_FEW: &str = "10k in flight, paused clock";
const PAUSED_RESIDENT: &str = "100k in flight, paused clock, resident memory";
const DROPPED: &str = "100k in flight, paused clock, handles dropped";
const VOLATILE: &str = "100k in flight, paused clock, no journal";
const MEMORY: &str = "100k in flight, paused clock, journal in MemoryStore";
const REAL: &str = "100k in flight, two workers, real clock";

const FLAT_OUT: &str = "100k without waits, two workers, by the clock";
const FLAT_OUT_CPU: &str = "100k without waits, two workers, processor time";

const OURS: &str = "steadfast";
const SHARDED: &str = "steadfast, two shards";
const LIMIT: &str = "limit";
const TASKS: &str = "backon + governor + recloser, tasks";
const ONE_TASK: &str = "backon + governor + recloser, FuturesUnordered";
const SLEEPING: &str = "tokio, three sleeps";
const ALL: [&str; 5] = [OURS, LIMIT, TASKS, ONE_TASK, SLEEPING];

pub fn rows() -> Vec<Row> {
    let paused = turns::take(SECTION, PAUSED, &ALL, ROUNDS);
    let mut rows: Vec<_> = paused.iter().map(|it| it.row(SECTION, PAUSED)).collect();
    rows.extend(paused.iter().map(|it| it.resident_row(SECTION, PAUSED_RESIDENT)));
    for case in [PAUSED_FEW, DROPPED, VOLATILE, MEMORY] {
        rows.extend(turns::take(SECTION, case, &[OURS], ROUNDS).iter().map(|it| it.row(SECTION, case)));
    }
    rows.extend(turns::take(SECTION, REAL, &ALL, 3).iter().map(|it| it.row(SECTION, REAL)));
    let flat_out = turns::take(SECTION, FLAT_OUT, &[OURS, SHARDED], ROUNDS);
    rows.extend(flat_out.iter().map(|it| it.row(SECTION, FLAT_OUT)));
    rows.extend(flat_out.iter().map(|it| it.cpu_row(SECTION, FLAT_OUT_CPU)));
    rows
}

/// One run of a subject, in this process.
pub fn sample(case: &str, subject: &str) -> Sample {
    let (waits, runtime) = if matches!(case, REAL | FLAT_OUT) {
        let waits = if case == REAL { Waits::REAL } else { Waits::NEARLY_NONE };
        (waits, tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build())
    } else {
        (Waits::VIRTUAL, tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build())
    };
    let runtime = runtime.expect("it starts");
    let in_flight = if case == PAUSED_FEW { FEW } else { MANY };
    let (bytes, resident) = (live_bytes(), resident_bytes());
    let keys: Vec<_> = (0..in_flight).map(model::key).collect();
    let (mut held, mut in_use) = (0, 0);
    let all_begun = || (held, in_use) = (live_bytes(), resident_bytes());
    let (allocated, began, started) = (allocations(), cpu_time(), Instant::now());
    runtime.block_on(async {
        let kept = match case {
            VOLATILE => Kept::Nowhere,
            MEMORY => Kept::InMemory,
            _ => Kept::Encoded,
        };
        let handles = if case == DROPPED { Handles::Dropped } else { Handles::Held };
        match subject {
            OURS => ours::carry(keys, waits, kept, handles, 1, all_begun).await,
            SHARDED => ours::carry(keys, waits, kept, handles, 2, all_begun).await,
            LIMIT => limit::limit(in_flight, waits, all_begun).await,
            TASKS => stack::in_tasks(keys, waits, all_begun).await,
            ONE_TASK => stack::in_one_task(keys, waits, all_begun).await,
            SLEEPING => stack::sleeping(in_flight, waits, all_begun).await,
            _ => panic!("there is no subject {subject:?}"),
        }
    });
    let each = |total: u64| total as f64 / f64::from(in_flight);
    let took = started.elapsed();
    let cpu_ns = each((cpu_time() - began).as_nanos() as u64);
    Sample {
        ns: if case == FLAT_OUT { each(took.as_nanos() as u64) } else { cpu_ns },
        cpu_ns,
        allocs: each(allocations() - allocated),
        bytes: each(held.saturating_sub(bytes)),
        resident: each(in_use.saturating_sub(resident)),
    }
}
