//! Runs simulated histories, one per seed, and says what they met and what broke.
//!
//! Exit code 0: every invariant held, and every kind of fault and crash was met. 1: not so. 2: bad arguments.

mod report;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use steadfast_testkit::simulation::{Flaw, Options, simulate};

use crate::report::Report;

/// Carries jobs through simulated outages, crashes and lost answers, and checks that none runs twice and none is lost.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Arguments {
    /// How many histories to run. Default: 1000, or as many as there is time for if `--seconds` is given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run this one history only, and print what happened in it.
    #[arg(long, conflicts_with_all = ["seeds", "from", "seconds"])]
    seed: Option<u64>,
    /// Stop after so many seconds, however many histories were run.
    #[arg(long)]
    seconds: Option<u64>,
    /// How many threads; each history runs on one. Default: one per core.
    #[arg(long)]
    threads: Option<usize>,
    /// Break the engine on purpose, to see how a violation is found and told.
    #[arg(long, value_parser = flaw_of, value_name = "FLAW", help_heading = "To see that it can fail")]
    flaw: Option<Flaw>,
    /// The result as one JSON object.
    #[arg(long)]
    json: bool,
}

fn flaw_of(name: &str) -> Result<Flaw, String> {
    let names = || Flaw::ALL.map(Flaw::name).join(", ");
    Flaw::ALL.into_iter().find(|flaw| flaw.name() == name).ok_or_else(|| format!("use one of {}", names()))
}

impl Arguments {
    /// How many histories; `u64::MAX` if only the time counts.
    const fn histories(&self) -> u64 {
        match (self.seeds, self.seconds) {
            (Some(seeds), _) => seeds,
            (None, Some(_)) => u64::MAX,
            (None, None) => 1_000,
        }
    }

    fn options(&self) -> Options {
        Options { flaw: self.flaw, ..Options::default() }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // A panic in a history is a finding like any other; what it says goes into the report.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = arguments.seed {
        return one(seed, &arguments);
    }
    let report = many(&arguments);
    if arguments.json {
        report.print_json()
    } else {
        report.print_table()
    }
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One history, told from begin to end.
fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    let (started, json) = (Instant::now(), arguments.json);
    let history = simulate(seed, &Options { record: true, ..arguments.options() });
    let mut report = Report::new(arguments.options());
    let broken = history.violation.is_some();
    if !json && !broken {
        print!("{}", report::timeline(&history));
    }
    report.add(seed, history);
    report.finish(started.elapsed());
    if json {
        report.print_json()
    } else {
        report.print_table()
    }
    if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Histories on every core, until all are run or the time is over.
fn many(arguments: &Arguments) -> Report {
    let threads = arguments.threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1);
    let started = Instant::now();
    let limit = arguments.seconds.map(Duration::from_secs);
    let histories = arguments.histories();
    let counted = Some(histories).filter(|histories| *histories < u64::MAX);
    let bar = ProgressBar::with_draw_target(counted, ProgressDrawTarget::stderr_with_hz(4));
    let style = match counted {
        Some(_) => "{bar:40} {pos}/{len} histories, {per_sec}, {msg}{eta} left",
        None => "{spinner} {pos} histories, {per_sec}, {msg}{elapsed} gone",
    };
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (next, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (send, receive) = mpsc::channel();
    let mut report = Report::new(arguments.options());
    thread::scope(|scope| {
        for _ in 0..threads {
            let send = send.clone();
            let (next, over) = (&next, &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= histories || limit.is_some_and(|limit| started.elapsed() >= limit) {
                        return;
                    }
                    let seed = arguments.from.wrapping_add(n);
                    if send.send((seed, simulate(seed, &arguments.options()))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (seed, history) in receive {
            report.add(seed, history);
            bar.inc(1);
            if report.violations() > 0 {
                bar.set_message(format!("{} violations, ", report.violations()));
            }
            // More of the same would tell nothing new.
            over.fetch_or(report.violations() >= report::MOST_VIOLATIONS, Ordering::Relaxed);
        }
    });
    bar.finish_and_clear();
    report.finish(started.elapsed());
    report
}
