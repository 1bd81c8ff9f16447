//! Runs a client in a process of its own, and kills it again and again.
//!
//! The parent runs the fake provider, so that no kill touches its ledger, and starts one child after the other: each
//! *life* is a whole client on the same journal file. The parent hands out jobs a few at a time, reads from a pipe what
//! was accepted and how it ended, and kills (SIGKILL) at moments drawn from the seed: while the child starts and takes
//! up what it finds, after a number of lines from the child, or at some later moment.
//!
//! A job that was *accepted* is not submitted again before the last life: until then, only the journal carries it on.
//! In the last life everything is submitted once more, so that every outcome is reported, and those reported before a
//! second time.
//!
//! After each kill the file is opened, verified and compared with what the child said and with the provider's books
//! (`books.rs`):
//!
//! - a job that was accepted is there, and a job whose outcome was reported is there with that outcome;
//! - every job of which the provider has seen a create is there as more than planned: nothing was sent without its
//!   record;
//! - at the end, every job has an outcome; a second report of it is the same (except for the reference of an unresolved
//!   one, which a late answer may bring), and no key was run more than once.
//!
//! The child is any executable that calls [`child()`] when it is told to; see [`KillDrill::run`].

mod books;
mod child;
mod process;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::books::Books;
use self::process::{Life, Settings};
use crate::connect::Connect;
use crate::{FakeDeepvue, FakeServer};

pub use self::books::Told;
pub use self::child::child;

/// The settings of a drill: how often to kill, how many jobs, which journal.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is run"]
#[expect(clippy::exhaustive_structs, reason = "plain settings")]
pub struct KillDrill {
    /// The provider, with its faults, its speed and its treatment of keys.
    pub provider: FakeDeepvue,
    /// The client's adapter.
    pub adapter: Adapter,
    /// How many jobs.
    pub operations: u64,
    /// How many times the child is killed.
    pub kills: u32,
    /// The journal: a file that does not exist yet, in a directory that does.
    pub journal: PathBuf,
}

/// The adapter of the client that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Adapter {
    /// Tokio and reqwest, in this many shards.
    Tokio {
        /// As [`Builder::shards`](steadfast_driver::Builder::shards) takes them.
        shards: usize,
    },
    /// Threads and ureq.
    Blocking,
}

/// The result of a drill.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KillReport {
    /// How often the child was killed.
    pub kills: u32,
    /// What was reported of each job, and how long that took since it was first handed out, by the jobs' numbers.
    pub told: BTreeMap<u64, (Told, Duration)>,
    /// In which states the kills left operations that had not ended: as found in the journal, all kills together.
    pub left_by_kills: BTreeMap<&'static str, u64>,
    /// How many jobs were left by a kill with a create in flight or in doubt, and were completed in the end.
    pub recovered: u64,
    /// Broken promises, in words. Empty if all is well.
    pub violations: Vec<String>,
    /// How long it all took.
    pub elapsed: Duration,
}

/// How far a drill has come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// Kills so far.
    pub kills: u32,
    /// Jobs whose outcome has been reported so far.
    pub ended: u64,
}

/// How many jobs may be under way in the child.
const LIVE: u32 = 256;

/// Before the speed is applied: a child that is silent for this long hangs.
const SILENCE: Duration = Duration::from_secs(600);

/// When a life ends.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// This long after the process was started: perhaps it has not even opened its journal.
    Started(Duration),
    /// This long after it was ready.
    Ready(Duration),
    /// When this many jobs were accepted or ended.
    Heard(u64),
}

impl Moment {
    fn draw(chance: &mut fastrand::Rng) -> Self {
        match chance.u8(0..4) {
            0 => Self::Started(Duration::from_micros(chance.u64(0..60_000))),
            1 => Self::Ready(Duration::from_micros(chance.u64(0..250_000))),
            _ => Self::Heard(chance.u64(1..60)),
        }
    }
}

impl KillDrill {
    /// Runs the drill. `child` makes the command that starts the child: an executable that calls [`child()`] at once.
    /// `watch` is called with the progress.
    ///
    /// Must be called on a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The provider's port could not be opened, the child could not be started, or it ended by itself or hangs. A fault
    /// of the client is not an error but a [violation](KillReport::violations).
    pub async fn run(
        self,
        mut child: impl FnMut() -> Command,
        mut watch: impl FnMut(Progress),
    ) -> io::Result<(KillReport, FakeServer)> {
        let (started, seed) = (Instant::now(), self.provider.seed.value());
        let connect = Connect {
            base_url: String::new(),
            keys: self.provider.keys,
            speed: self.provider.speed,
            seed,
            live: LIVE,
            journal: Some(self.journal.clone()),
        };
        let silence = SILENCE.div_f64(self.provider.speed).max(Duration::from_secs(30));
        let server = self.provider.start()?;
        let connect = Connect { base_url: server.base_url(), ..connect };
        let settings = Settings { adapter: self.adapter, connect };
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut books = Books::new(seed, self.journal);
        for life in 1..=u64::from(self.kills) {
            // Leaves work for every life.
            let handed_out = (self.operations * life).div_ceil(u64::from(self.kills) + 1);
            let moment = Moment::draw(&mut chance);
            let mut process = Life::start(child(), &settings, silence).await?;
            process.hand_out(books.hand_out(0..handed_out)).await?;
            process.until(moment, |line| books.hear(line)).await?;
            books.check_journal(&server.ledger());
            watch(Progress { kills: life as u32, ended: books.ended() });
        }
        let mut process = Life::start(child(), &settings, silence).await?;
        process.hand_out(books.hand_out_again(0..self.operations)).await?;
        process
            .until_it_ends(|line| {
                books.hear(line);
                watch(Progress { kills: self.kills, ended: books.ended() });
            })
            .await?;
        books.check_journal(&server.ledger());
        books.check_end(self.operations, &server.ledger());
        let report = books.report(self.kills, started.elapsed());
        Ok((report, server))
    }
}
