//! Simulates whole histories in virtual time, each from one seed: engines with their gates and journals, a provider,
//! callers, and everything that can go wrong.
//!
//! A history draws its own settings and fault rates from its seed, some of them zero. In it
//!
//! - the **provider** honours keys, or offers a look-up, or ignores keys; it is slow, down, throttles, loses answers,
//!   gives them late or twice, contradicts itself, and sends webhooks that are lost, early, doubled, out of order or
//!   forged. It keeps a ledger of its own;
//! - the **journal** commits late, fails, or is torn by a crash;
//! - the **process** crashes before and after every kind of effect, while it recovers, and between a commit and its
//!   acknowledgement; its clock jumps; its driver wakes late;
//! - **callers** submit, join, cancel, come with another payload, submit again what was rejected, and resume what is
//!   unresolved, at any time, sensible or not; the driver takes jobs out of the engine for which it has no payload, and
//!   gives them back.
//!
//! Then all faults stop and everything must end. After every step the [invariants](Invariant) are checked, the costly
//! ones at some steps only, by books that are kept apart from what the engine believes. Each history runs twice, the
//! second time through snapshots of the engine at random moments, and must do the same things at the same times.
//!
//! ```
//! use steadfast_testkit::simulation::{Options, simulate};
//!
//! let history = simulate(42, &Options::default());
//! assert_eq!(history.violation, None);
//! assert!(history.effects > 0);
//! ```
//!
//! A history that breaks an invariant can be [shrunk](shrink()): faults, crashes and jobs are removed for as long as
//! the same invariant breaks. That the checks can fail at all is shown by [`Flaw`]: engines broken on purpose.

mod account;
mod books;
mod callers;
mod chaos;
mod checks;
mod disk;
mod flaw;
mod gate;
mod invariant;
mod lives;
mod mail;
mod process;
mod provider;
mod returns;
mod room;
mod settings;
mod shrink;
mod waits;
mod words;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use steadfast_core::Timestamp;
use steadfast_core::notice::Notice;

pub use self::books::Violation;
pub use self::chaos::{CrashPoint, Fault};
pub use self::flaw::Flaw;
pub use self::invariant::Invariant;
pub use self::shrink::shrink;
use self::world::World;

/// What to leave out of a history, and what to add to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, written with struct update syntax")]
pub struct Options {
    /// Faults that do not happen.
    pub without_faults: Vec<Fault>,
    /// The process never crashes.
    pub without_crashes: bool,
    /// Jobs that are not submitted, by their numbers from 0.
    pub without_jobs: Vec<usize>,
    /// An engine broken on purpose.
    pub flaw: Option<Flaw>,
    /// Whether to keep [`History::entries`].
    pub record: bool,
}

/// The result of a history.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct History {
    /// The first broken invariant, which ended the history.
    pub violation: Option<Violation>,
    /// Operations begun.
    pub operations: u64,
    /// Operations that were resumed after they had ended as unresolved.
    pub resumed: u64,
    /// Operations that were taken out of the engine for a while.
    pub withdrawn: u64,
    /// Effects carried out.
    pub effects: u64,
    /// Crashes at each point, in the order of [`CrashPoint::ALL`].
    pub crashes_at: Vec<u64>,
    /// How often each fault happened, in the order of [`Fault::ALL`].
    pub faults: Vec<u64>,
    /// How often each invariant was checked, in the order of [`Invariant::all`].
    pub checked: Vec<u64>,
    /// How many jobs the settings drew, including those that were left out. One more is submitted once all faults have
    /// stopped.
    pub jobs: usize,
    /// What happened, if it was recorded.
    pub entries: Vec<Entry>,
}

/// One line of what happened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// When, in true time.
    pub at: Timestamp,
    /// The job that it concerns, by its number from 0.
    pub job: Option<usize>,
    /// What happened.
    pub what: What,
}

/// What a line reports.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// Something happened to the process, the disk or the provider.
    World(String),
    /// The engine's notice, with the time by its own clock.
    Notice(Timestamp, Notice),
}

/// Runs the history of a seed, twice. A panic is a violation too.
#[must_use]
pub fn simulate(seed: u64, options: &Options) -> History {
    let mut first = run(seed, options, false);
    if first.books.violation.is_none() {
        let mut second = run(seed, options, true);
        let found = second.books.violation.take();
        if found.is_some() {
            (first.books.violation, first.entries) = (found, second.entries.take());
        }
        let same = first.digest() == second.digest();
        for invariant in [Invariant::I(12), Invariant::I(13), Invariant::R(45), Invariant::Total] {
            first.books.hold(invariant, same, || "the same seed did other things when run again".into());
        }
    }
    History {
        operations: first.operations,
        resumed: first.resumed,
        withdrawn: first.withdrawn,
        effects: first.effects,
        crashes_at: first.crashes_at,
        faults: first.chaos.met(),
        checked: first.books.evaluated().to_vec(),
        jobs: first.settings.jobs.len() - usize::from(first.probing),
        violation: first.books.violation,
        entries: first.entries.unwrap_or_default(),
    }
}

/// Runs it to its end; a panic on the way ends it.
fn run(seed: u64, options: &Options, snapshots: bool) -> World {
    let mut world = World::new(seed, options, snapshots);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("something panicked");
        world.books.hold(Invariant::Total, false, || text.into());
    }
    world
}
