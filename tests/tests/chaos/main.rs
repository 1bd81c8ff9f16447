//! Whole clients on both adapters, against the book of a provider of which nothing is certain: submits, doubled or with
//! another payload, cancels, resumes, webhooks, other gates, shutdowns in the midst and handles that are dropped, all
//! at once, over stores that fail or panic, seals that do, requests that are late, lost or panic, and credentials that
//! are over. Then another client on the same journal, or on a copy of it that was made in the midst of the one before
//! and is put back; or where nothing is kept, though there is a store, none. Real threads, and on tokio in half of the
//! rounds a paused clock.
//!
//! Each round is drawn from a seed, which is printed if a law is broken. `STEADFAST_CHAOS_ROUNDS=500` runs more of them
//! than the suite does, and `STEADFAST_CHAOS_SEED=42` one. What threads do to each other is not in the seed: repeat a
//! round that has failed.

mod adapters;
mod cabinet;
mod callers;
mod plan;
mod provider;
mod seal;
mod shelf;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};

use crate::plan::Plan;
use crate::world::World;

/// Longer than any round takes on any machine.
const HANGS: Duration = Duration::from_secs(120);

/// What is at zero once nothing is under way.
const LEVELS: [&str; 4] = [
    "steadfast_operations_live",
    "steadfast_operations_parked",
    "steadfast_attempts_in_flight",
    "steadfast_journal_pending_records",
];

fn rounds(adapter: fn(&Arc<World>)) {
    let asked = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seeds = match asked("STEADFAST_CHAOS_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=asked("STEADFAST_CHAOS_ROUNDS").unwrap_or(40),
    };
    let (are_many, mut met, mut broken) = (seeds.clone().count() >= 40, BTreeSet::new(), Vec::new());
    for seed in seeds {
        let (outcomes, violations) = round(seed, adapter);
        met.extend(outcomes);
        broken.extend(violations);
    }
    assert!(broken.is_empty(), "{}", broken.join("\n\n"));
    assert!(!are_many || met.len() == 4, "not every outcome was met: {met:?}");
}

/// In which ways its jobs ended, and what laws it has broken, if any. On a thread of its own, so that a round that
/// hangs is found out.
fn round(seed: u64, adapter: fn(&Arc<World>)) -> (BTreeSet<&'static str>, Option<String>) {
    let plan = Plan::new(seed);
    let said = format!("STEADFAST_CHAOS_SEED={seed}, {plan:?}");
    let (tells, over) = channel();
    let world = World::new(plan);
    let book = world.book.clone();
    let running = thread::spawn(move || {
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || adapter(&world));
        world.check();
        let _ = tells.send((world.outcomes(), world.book.take_violations(), levels(&recorder)));
    });
    let (outcomes, mut violations, levels) = match over.recv_timeout(HANGS) {
        Ok(over) => over,
        Err(RecvTimeoutError::Timeout) => panic!("{said}: it hangs:\n{}", book.told()),
        Err(RecvTimeoutError::Disconnected) => {
            eprintln!("{said}");
            resume_unwind(running.join().expect_err("it has told nothing"));
        }
    };
    running.join().expect("it is over");
    if levels.values().any(|level| *level != 0.0) {
        violations.push(format!("something is left: {levels:?}"));
    }
    let broken = (!violations.is_empty()).then(|| format!("{said}:\n{}", violations.join("\n")));
    (outcomes, broken)
}

fn levels(recorder: &DebuggingRecorder) -> BTreeMap<String, f64> {
    let mut levels = BTreeMap::new();
    for (key, _, _, value) in recorder.snapshotter().snapshot().into_vec() {
        if let (name, DebugValue::Gauge(level)) = (key.key().name(), value)
            && LEVELS.contains(&name)
        {
            levels.insert(key.key().to_string(), level.into_inner());
        }
    }
    levels
}

#[test]
fn on_threads_no_law_is_broken() {
    rounds(adapters::on_threads);
}

#[test]
fn on_tokio_no_law_is_broken() {
    rounds(adapters::on_tokio);
}
