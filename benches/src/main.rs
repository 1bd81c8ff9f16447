//! Steadfast's machines beside the crates that people would pick instead, and beside a hand-written floor, in one run.
//!
//! ```text
//! cargo run --release --manifest-path benches/Cargo.toml -- [SECTION…] [--json]
//! cargo run --release --manifest-path benches/Cargo.toml -- durable [--sync-us N] [--names text] [--json]
//! cargo run --release --manifest-path benches/Cargo.toml -- resume [OPERATIONS] [--names text] [--json]
//! ```
//!
//! Absolute times depend on the machine; the ratios of one run are what to compare. Subjects of a case take turns, and
//! the median of their turns counts. Peers read their own clock inside of a call, ours takes the time as an argument:
//! that is part of what each costs. Where ours is a handle that threads share, it reads its clock as they do.
//!
//! `durable` and `resume` measure the whole client on a file: see there. They write to the directory for temporary
//! files (`TMPDIR`), which should be on the disk that is meant.

mod backoff;
mod breaker;
mod durable;
mod http;
mod limiter;
mod measure;
mod names;
mod operation;
mod resume;
mod retry;
mod timers;
mod tokio;
mod turns;
mod webhook;

use std::io::Write as _;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::measure::Row;
use crate::names::Names;

#[derive(Debug, Parser)]
#[command(version, about = "Steadfast's machines beside their peers", subcommand_precedence_over_arg = true)]
struct Args {
    #[command(subcommand)]
    whole: Option<Whole>,
    /// What to measure; everything if none is named.
    sections: Vec<Section>,
    /// Print an array of rows instead of a table.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum Whole {
    /// Durable operations per second through the client, beside what the disk can do.
    Durable {
        /// For how many seconds each is measured.
        #[arg(long, default_value_t = SECONDS)]
        seconds: u64,
        /// How many operations are in flight: each of these in turn.
        #[arg(long, default_values_t = IN_FLIGHT)]
        in_flight: Vec<usize>,
        /// What jobs are called.
        #[arg(long, value_enum, default_value = "uuid")]
        names: Names,
        /// How many microseconds a sync of the disk takes at least, for the share on a slower disk than this one
        /// (Linux).
        #[arg(long, default_value_t = 0)]
        sync_us: u64,
    },
    /// How long a restart takes until it holds all accepted operations, and how much memory.
    Resume {
        /// How many.
        #[arg(default_value_t = 1_000_000)]
        operations: u64,
        /// What they are called.
        #[arg(long, value_enum, default_value = "uuid")]
        names: Names,
    },
    /// One subject of a case in a process of its own, for this program itself.
    #[command(hide = true)]
    Subject { section: Section, case: String, subject: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Section {
    /// The next delay.
    Backoff,
    /// A call through a breaker.
    Breaker,
    /// A place from a rate limiter.
    Limiter,
    /// Whether a webhook is genuine.
    Webhook,
    /// A call that is repeated.
    Retry,
    /// A create and 3.4 polls, with ten thousand to a million operations in flight.
    Operation,
    /// A million timers.
    Timers,
    /// Whole operations on tokio, 100,000 in flight.
    Tokio,
    /// Real HTTP, 64 in flight.
    Http,
}

/// How long each durable measurement takes.
const SECONDS: u64 = 5;
/// How many durable operations are in flight.
const IN_FLIGHT: [usize; 3] = [1, 16, 256];

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    match args.whole {
        Some(Whole::Durable { seconds, in_flight, names, sync_us }) => {
            durable::slow_down(Duration::from_micros(sync_us))?;
            return durable::run(seconds, &in_flight, names, args.json);
        }
        Some(Whole::Resume { operations, names }) => return resume::run(operations, names, args.json),
        Some(Whole::Subject { section: Section::Tokio, case, subject }) => {
            return turns::serve(|| tokio::sample(&case, &subject));
        }
        Some(Whole::Subject { case, subject, .. }) => return http::serve(&case, &subject),
        None => {}
    }
    let all = args.sections.is_empty();
    let sections = if all { Section::value_variants() } else { &args.sections };
    let mut rows = Vec::new();
    for section in sections {
        rows.extend(match section {
            Section::Backoff => backoff::rows(),
            Section::Breaker => breaker::rows(),
            Section::Limiter => limiter::rows(),
            Section::Webhook => webhook::rows(),
            Section::Retry => retry::rows(),
            Section::Operation => operation::rows(),
            Section::Timers => timers::rows(),
            Section::Tokio => tokio::rows(),
            Section::Http => http::rows(),
        });
    }
    if all {
        rows.extend(durable::rows(SECONDS, &IN_FLIGHT)?);
    }
    let mut out = std::io::stdout().lock();
    if args.json { writeln!(out, "{}", serde_json::to_string(&rows)?) } else { write!(out, "{}", table(&rows)) }
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| section | case | subject | ns/op | allocs/op | bytes/op | × steadfast |\n| --- | --- | --- | ---: | ---: | ---: | ---: |\n",
    );
    for row in rows {
        let Row { section, case, subject, ns_per_op, allocs_per_op, bytes_per_op } = row;
        let ours = rows.iter().find(|it| it.case == *case && it.section == *section && it.subject == "steadfast");
        let ratio = ours.map_or_else(String::new, |ours| format!("{:.1}", ns_per_op / ours.ns_per_op));
        text += &format!(
            "| {section} | {case} | {subject} | {ns_per_op:.1} | {allocs_per_op:.2} | {bytes_per_op:.1} | {ratio} |\n"
        );
    }
    text
}
