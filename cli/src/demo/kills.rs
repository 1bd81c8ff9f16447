//! `demo --kill N`: the client is a process of its own, which is killed and started again on its journal.

use std::error::Error;
use std::process::{Command, ExitCode};

use steadfast_core::Kind;
use steadfast_testkit::FakeDeepvue;
use steadfast_testkit::connect::job;
use steadfast_testkit::kill_drill::{self, KillDrill, KillReport};

use super::{Adapter, Args, beside_the_books, explain, progress, tell};
use crate::report::{Attempts, Latency, Report};
use crate::run::INTERRUPTED;

/// The process that is killed.
pub(crate) async fn child() -> Result<ExitCode, Box<dyn Error>> {
    kill_drill::child().await.map_err(|error| error as Box<dyn Error>)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn demo(args: Args, provider: FakeDeepvue, kills: u32) -> Result<ExitCode, Box<dyn Error>> {
    // A temporary directory, removed at the end.
    let directory = if args.journal.is_none() { Some(directory()?) } else { None };
    let in_it = directory.as_ref().map(|directory| directory.path().join("journal"));
    let journal = args.journal.clone().or(in_it).unwrap_or_default();
    if !args.json {
        println!("A fake Deepvue speaks HTTP on a port of this process, and the client runs in another.");
        explain(&args);
        println!("The client's process is killed {kills} times; each time the next one goes on from the journal.\n");
    }
    let progress = progress(&args);
    let program = std::env::current_exe()?;
    let child = || {
        let mut command = Command::new(&program);
        command.arg("demo-child");
        command
    };
    // Without a progress bar, the lives would pass without any output.
    let (speaks, mut told) = (!args.json && progress.is_hidden(), 0);
    let adapter = match args.adapter {
        Adapter::Tokio => kill_drill::Adapter::Tokio { shards: 1 },
        Adapter::Blocking => kill_drill::Adapter::Blocking,
    };
    let drill = KillDrill { provider, adapter, operations: args.operations, kills, journal };
    let run = drill.run(child, |so_far| {
        progress.set_position(so_far.ended);
        progress.set_message(format!("killed {} times, ", so_far.kills));
        if speaks && so_far.kills > told {
            told = so_far.kills;
            eprintln!("killed {told} of {kills} times, {} of {} jobs ended", so_far.ended, args.operations);
        }
    });
    let (found, server) = tokio::select! {
        biased;
        // Ctrl-C is caught: ending by the signal itself would leave the directory behind.
        _ = tokio::signal::ctrl_c() => {
            progress.finish_and_clear();
            return Ok(ExitCode::from(INTERRUPTED));
        }
        done = run => done?,
    };
    progress.finish_and_clear();

    let KillReport { told, left_by_kills, violations, elapsed, .. } = found;
    let ended = told.iter().filter_map(|(number, (told, _))| {
        let (key, _) = job(args.seed, *number).ok()?;
        Some((key, told.outcome.as_str()))
    });
    let (outcomes, ledger) = beside_the_books(&server.ledger(), ended);
    let report = Report {
        provider: "deepvue",
        adapter: args.adapter.name(),
        seed: args.seed,
        operations: args.operations,
        outcomes,
        attempts: Attempts {
            create: server.requests(Kind::Create),
            poll: server.requests(Kind::Poll),
            lookup: server.requests(Kind::Lookup),
        },
        faults: server.faults().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        ledger,
        latency_ms: Latency::of(told.values().map(|(_, took)| *took).collect()),
        gate: None,
        kills: Some(found.kills),
        left_by_kills,
        webhooks: None,
        elapsed_ms: elapsed.as_millis() as u64,
    };
    let broken: Vec<String> = report.broken_promises().into_iter().chain(violations).collect();
    if let (false, Some(directory)) = (broken.is_empty(), directory) {
        eprintln!("the journal is kept in {}", directory.keep().display());
    }
    tell(&args, &report, &broken, || {})
}

fn directory() -> Result<tempfile::TempDir, String> {
    tempfile::tempdir().map_err(|error| {
        format!("the journal has no place: {error}; name a directory with room in TMPDIR, or a file with --journal")
    })
}
