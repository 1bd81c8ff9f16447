//! Tests that every store must pass.
//!
//! A [`Store`] is what makes a crash harmless, so a new one must be tested: [`check`] holds it to the trait's contract,
//! and compares it with [`MemoryStore`](steadfast_store::MemoryStore) over random histories; [`check_files`] damages
//! the files of a store that keeps files (cut, flipped, exchanged, torn, extended) and holds it to one rule: after any
//! damage, opening and loading gives *exactly the right state or an error*, never a panic, and never another state. A
//! store that cannot tell that its newest records are gone fails; SQLite's own log cannot, and the store on SQLite
//! passes because it keeps a watermark beside the file.
//!
//! After an acknowledged append, the right state includes it. After one that was not acknowledged, the state with it
//! and the state without it are both right.
//!
//! Each commit of a random history is also made to fail in turn, or is held: the state must then be exactly what the
//! trait allows, and appending again must bring everything. Those faults are put between the kit and the store;
//! [`check_failures`] has the store itself fail, in any way that its author can bring about. And a store that keeps
//! files must be the only one on them, in its process and among processes ([`check_processes`]), and must change
//! nothing once another has taken over its journal ([`check_fence`]).
//!
//! [`FaultyStore`] is for testing drivers: a store that fails, delays and tears on purpose.
//!
//! ```
//! use steadfast_store::MemoryStore;
//! use steadfast_testkit::journal_kit;
//!
//! journal_kit::check(MemoryStore::default);
//! ```

mod cases;
mod commits;
mod failures;
mod faulty;
mod fence;
mod files;
mod images;

use std::sync::Arc;

use steadfast_core::operation::{Completed, Record, Stage, Unresolved};
use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Outcome, Reference, Seed, Timestamp};
use steadfast_store::{Entry, KeptAnswer, Store};

pub use self::failures::check_failures;
pub use self::faulty::{FaultyStore, StoreFault, StoreFaults};
pub use self::fence::{check_fence, check_processes};
pub use self::files::{Depth, check_files};

/// Tests a store against the contract of [`Store`]. `open` gives an empty store each time.
///
/// # Panics
/// The store breaks the contract. The message begins with the case's name.
pub fn check<S: Store>(mut open: impl FnMut() -> S) {
    for (name, case) in cases::ALL {
        eprintln!("journal kit: {name}");
        case(&mut open());
    }
    // Only code that knows where the journal is kept can say what a crash would leave.
    for (name, case) in commits::all() {
        eprintln!("journal kit: {name}");
        case(&mut open, &|| None);
    }
}

/// An entry as the kit writes them: key `order-N`, in this stage, at second `at`.
#[must_use]
pub fn entry(number: u64, stage: Stage, at: u64) -> Entry {
    Entry::new(record(number, stage), Arc::from("deepvue"), Timestamp::from_secs(at))
}

fn record(number: u64, stage: Stage) -> Record {
    let policy = OperationPolicy::default();
    let now = Timestamp::from_secs(1_700_000_000 + number);
    let key = Key::new(format!("order-{number}")).expect("a key");
    let print = Fingerprint::new(u128::from(number).to_be_bytes());
    let mut record =
        Operation::new(key, print, Seed::new(number), &mut policy.turn(now, &mut Gate::unlimited())).record();
    record.stage = stage;
    if matches!(stage, Stage::Accepted | Stage::Ended(_) | Stage::Delivered(_)) {
        record.reference = Reference::new(format!("txn-{number}")).ok();
        record.due = Some(Timestamp::from_nanos(1_700_000_000_123_456_789 + number));
        record.polls = (number % 5) as u16;
    }
    record.refused = stage == Stage::Unknown && number.is_multiple_of(2);
    record
}

const READY: Outcome = Outcome::Completed(Completed::Ready);

/// Stages in the order in which an operation reaches them.
const STAGES: [Stage; 8] = [
    Stage::Planned,
    Stage::InFlight,
    Stage::Unknown,
    Stage::Accepted,
    Stage::Ended(READY),
    Stage::Ended(Outcome::Unresolved(Unresolved::Ambiguous)),
    Stage::Delivered(READY),
    Stage::Delivered(Outcome::Failed),
];

/// What [`Store::load_live`] must give where [`Store::load`] gives these.
fn live(entries: &[Entry]) -> Vec<Entry> {
    entries.iter().filter(|entry| !entry.is_delivered()).cloned().collect()
}

fn answer(number: u64) -> KeptAnswer {
    KeptAnswer { status: 200, body: format!("result {number}").into_bytes() }
}

/// A random entry of one of `keys` keys, at this second.
fn any_entry(random: &mut fastrand::Rng, keys: u64, at: u64) -> Entry {
    let number = random.u64(0..keys);
    any_entry_of(random, number, at)
}

fn any_entry_of(random: &mut fastrand::Rng, number: u64, at: u64) -> Entry {
    let mut entry = entry(number, STAGES[random.usize(0..STAGES.len())], at);
    if random.u8(0..3) == 0 {
        entry = entry.with_payload(format!("payload {number} {}", "x".repeat(random.usize(0..200))));
    }
    if random.u8(0..3) == 0 {
        entry = entry.with_answer(answer(random.u64(0..100)));
    }
    entry
}
