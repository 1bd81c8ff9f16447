//! `steadfast demo`: carries many jobs through a fake provider that misbehaves, then compares what the client believes
//! with the provider's books.
//!
//! With `--kill` the client runs in a process of its own, which is killed again and again (`demo/kills.rs`). Didit's
//! sessions, and the webhooks about them, are in `demo/didit.rs`.

mod didit;
mod kills;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use steadfast_blocking::UreqTransport;
use steadfast_core::notice::Notice;
use steadfast_core::{Key, KeyError, Kind};
use steadfast_testkit::connect::{Connect, job};
use steadfast_testkit::{FakeDeepvue, FakeServer, Faults, Keys};
use steadfast_tokio::{Client, Finished, Observation};

pub(crate) use self::kills::child;
use crate::ops::{argument, duration};
use crate::pulse::Pulse;
use crate::report::{Attempts, Latency, Ledger, Outcomes, Report};
use crate::scrape;

/// Carry many jobs through a fake provider that misbehaves, and compare the outcomes with its books.
///
/// The provider runs in this process and speaks real HTTP on a loopback port. With --kill, the client runs in another
/// process, which is killed and started again on its journal. Exits with 1 if a key was run twice, a completed job
/// never ran, a rejected one did, a job has no outcome, or a forged webhook was believed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which provider to fake.
    #[arg(long, default_value = "deepvue")]
    provider: Faked,
    /// What the client runs on. The same jobs, policies and report either way.
    #[arg(long, default_value = "tokio")]
    adapter: Adapter,
    /// How many jobs.
    #[arg(long, default_value_t = 200)]
    operations: u64,
    /// The share of requests, and of webhooks, that meet a fault, 0 to 1.
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    faults: f64,
    /// Seeds the faults, the job times and the jitter. Runs still differ a little, since real sockets do.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Divides every delay of policy and provider alike, 1 to 1000. Time-outs are divided too, but sockets and
    /// processors do not get faster: at a few hundred, requests time out that nothing delayed.
    #[arg(long, default_value_t = 50.0, value_parser = speed)]
    speed: f64,
    /// An outage of this length (`5s`, `1m30s`) in the provider's time, five seconds after the first request: the
    /// provider answers everything with 503, and the client's breaker opens.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    outage: Option<Duration>,
    /// Didit only: the provider reports changes of its sessions by signed webhooks, to a server in this process. It
    /// loses some, sends some twice, late or before the create is answered; and forged ones are sent too. The client
    /// polls slowly beside them.
    #[arg(long)]
    webhooks: bool,
    /// Deepvue only: what it does with an idempotency key that it has seen before; the client is told.
    #[arg(long, default_value = "honoured")]
    keys: KeySupport,
    /// Keep the client's journal in this file, which must not exist yet: a journal of an earlier demo would be about a
    /// provider that is gone. Look into it afterwards with `steadfast ops FILE`.
    #[arg(long, value_name = "FILE", value_parser = new_file)]
    journal: Option<PathBuf>,
    /// Deepvue only: run the client in a process of its own and kill it (SIGKILL) this many times at random moments;
    /// each time it is started again and continues from its journal. The provider and its ledger stay in this process.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kill: Option<u32>,
    /// Serve the client's metrics at this address (for example 127.0.0.1:9464), under /metrics, while the demo runs:
    /// for Prometheus, or a browser. Port 0 picks a free port; the address is printed.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "kill", value_parser = address)]
    metrics: Option<SocketAddr>,
    /// With --metrics: go on serving after the report, until Ctrl-C.
    #[arg(long, requires = "metrics", conflicts_with = "kill")]
    linger: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// The providers that can be faked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Faked {
    /// Deepvue's asynchronous verifications: jobs of seconds, polled.
    Deepvue,
    /// Didit's verification sessions: people take minutes, and there are no idempotency keys.
    Didit,
}

/// What the client runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Adapter {
    /// Tasks, and reqwest.
    Tokio,
    /// Threads, and ureq.
    Blocking,
}

impl Adapter {
    const fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Blocking => "blocking",
        }
    }
}

/// What a provider does with a key that it has seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeySupport {
    /// Runs it once: the client may send again.
    Honoured,
    /// Can be asked for the job of a key: the client looks it up before it sends again.
    Lookup,
    /// Runs it again: the client must not send again, and reports "unresolved" when it cannot know whether the job ran.
    Ignored,
}

impl From<KeySupport> for Keys {
    fn from(support: KeySupport) -> Self {
        match support {
            KeySupport::Honoured => Self::Honoured,
            KeySupport::Lookup => Self::Lookup,
            KeySupport::Ignored => Self::Ignored,
        }
    }
}

/// How many jobs are under way at a time: many, but within every system's limit of open files.
const AT_A_TIME: u32 = 256;

/// When an outage begins, before the speed is applied: some jobs are accepted, some under way, some not yet submitted.
const BEFORE_OUTAGE: Duration = Duration::from_secs(5);

/// How wide the chart is, in characters.
const CHART: usize = 64;

pub(crate) async fn demo(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    if let Some(address) = args.metrics {
        let bound = scrape::serve(address).await?;
        // On stderr: stdout may hold a single JSON object.
        eprintln!("What the client counts is at http://{bound}/metrics");
    }
    let linger = args.linger;
    let done = match args.provider {
        Faked::Deepvue => with_deepvue(args).await,
        Faked::Didit => didit::demo(args).await,
    };
    if linger && done.is_ok() {
        eprintln!("It stays there until Ctrl-C.");
        tokio::signal::ctrl_c().await?;
    }
    done
}

async fn with_deepvue(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    if args.webhooks {
        return Err("Deepvue has no webhooks: add --provider didit, or leave --webhooks out".into());
    }
    let mut fake = FakeDeepvue::new(args.seed)
        .with_faults(Faults::rate(args.faults))
        .with_keys(args.keys.into())
        .with_speed(args.speed);
    if let Some(lasting) = args.outage {
        fake = fake.with_outage(BEFORE_OUTAGE, lasting);
    }
    if let Some(count) = args.kill {
        return kills::demo(args, fake, count).await;
    }
    let server = fake.start()?;
    if !args.json {
        println!("A fake Deepvue speaks HTTP at {}", server.base_url());
        explain(&args);
    }

    let sent = Arc::new(Sent::default());
    let connect = Connect {
        base_url: server.base_url(),
        keys: args.keys.into(),
        speed: args.speed,
        seed: args.seed,
        live: AT_A_TIME,
        journal: args.journal.clone(),
    };
    let (results, elapsed) = match args.adapter {
        Adapter::Tokio => on_tokio(&args, connect, sent.clone()).await?,
        Adapter::Blocking => on_threads(&args, connect, sent.clone()).await?,
    };

    let report = compare("deepvue", &args, &server, &sent, &results, elapsed);
    let broken = report.broken_promises();
    tell(&args, &report, &broken, || println!("{}\n", sent.pulse.chart(CHART, args.speed)))
}

/// Prints the report; the exit code says whether the promises were kept.
fn tell(args: &Args, report: &Report, broken: &[String], chart: impl FnOnce()) -> Result<ExitCode, Box<dyn Error>> {
    if args.json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        println!("{}", report.table());
        chart();
    }
    for promise in broken {
        eprintln!("broken promise: {promise}");
    }
    if broken.is_empty() && !args.json {
        println!("No key was run twice, and every outcome agrees with the provider's books.");
        if report.outcomes.unresolved > 0 {
            println!(
                "{} unresolved: what became of them is not known, and the client does not guess.",
                report.outcomes.unresolved
            );
        }
        if let Some(journal) = &args.journal {
            println!("`steadfast ops {}` lists what the journal holds.", argument(journal));
        }
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explain(args: &Args) {
    if args.adapter == Adapter::Blocking {
        println!("The client has no runtime: it is on threads, over ureq.");
    }
    println!("It goes wrong on {:.0} % of all requests.", args.faults * 100.0);
    println!(
        "{}",
        match args.keys {
            KeySupport::Honoured => "It runs a key once, so a create whose answer was lost is sent again.",
            KeySupport::Lookup =>
                "It runs every create, but can be asked for the job of a key: a create in doubt is looked up first.",
            KeySupport::Ignored => "It runs every create, so one in doubt is never sent again: it ends unresolved.",
        }
    );
    println!("It allows 1000 requests a minute, 17 of them at once; the client's rate limiter keeps to that.");
    if let Some(outage) = args.outage {
        let outage = outage.as_secs_f64();
        println!("Five seconds in it goes down for {outage} s: the breaker opens, and what is due waits.");
    }
    println!(
        "Speed {}: every delay of policy and provider is divided by it (polls after 3, 6, 12 … s, jobs of 5 to 30 s).\n",
        args.speed
    );
}

/// Requests sent, by kind.
#[derive(Debug, Default)]
struct Sent {
    create: AtomicU64,
    poll: AtomicU64,
    lookup: AtomicU64,
    pulse: Pulse,
}

impl Sent {
    fn count(&self, seen: &Observation) {
        self.pulse.watch(seen);
        let Notice::Sending(attempt) = &seen.notice else { return };
        let counter = match attempt.kind {
            Kind::Create => &self.create,
            Kind::Poll => &self.poll,
            _ => &self.lookup,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// One job: its key, how it ended if it did, and how long that took.
type Carried = (Key, Option<Finished>, Duration);

/// How long a client may take, once all jobs have ended, to record in its journal that the outcomes were delivered.
const GRACE: Duration = Duration::from_secs(10);

/// Submits every job at once; the client accepts as many at a time as it has room for.
async fn carry(args: &Args, client: &Client, job: fn(u64, u64) -> Result<(Key, String), KeyError>) -> Vec<Carried> {
    let progress = progress(args);
    let mut jobs = tokio::task::JoinSet::new();
    for n in 0..args.operations {
        let (client, progress, seed) = (client.clone(), progress.clone(), args.seed);
        jobs.spawn(async move {
            let (key, payload) = job(seed, n).ok()?;
            let handle = client.submit(key.clone(), payload).await.ok()?;
            let submitted = Instant::now();
            let finished = handle.await.ok();
            progress.inc(1);
            Some((key, finished, submitted.elapsed()))
        });
    }
    let results = jobs.join_all().await.into_iter().flatten().collect();
    progress.finish_and_clear();
    results
}

async fn on_tokio(args: &Args, connect: Connect, sent: Arc<Sent>) -> Result<(Vec<Carried>, Duration), Box<dyn Error>> {
    let client = connect.start(move |seen| sent.count(seen)).await.map_err(|error| error as Box<dyn Error>)?;
    let started = Instant::now();
    let results = carry(args, &client, job).await;
    let elapsed = started.elapsed();
    let _ = client.shutdown(GRACE).await;
    Ok((results, elapsed))
}

/// The same with threads: as many callers as there is room for, each with one job at a time.
async fn on_threads(
    args: &Args,
    connect: Connect,
    sent: Arc<Sent>,
) -> Result<(Vec<Carried>, Duration), Box<dyn Error>> {
    let (progress, seed, operations) = (progress(args), args.seed, args.operations);
    // The fake provider runs on tokio, which must not be blocked.
    let carried = tokio::task::spawn_blocking(move || -> Result<_, Box<dyn Error + Send + Sync>> {
        let described =
            connect.describe::<_, steadfast_blocking::Client>(UreqTransport::new(), move |seen| sent.count(seen))?;
        let (client, started, next) = (described.start()?, Instant::now(), AtomicU64::new(0));
        let number = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|number| *number < operations);
        let carry = |number| {
            let (key, payload) = job(seed, number).ok()?;
            let handle = client.submit(key.clone(), payload).ok()?;
            let submitted = Instant::now();
            let finished = handle.wait().ok();
            progress.inc(1);
            Some((key, finished, submitted.elapsed()))
        };
        let caller = || std::iter::from_fn(number).filter_map(carry).collect::<Vec<_>>();
        let results = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..operations.min(AT_A_TIME.into())).map(|_| scope.spawn(caller)).collect();
            callers.into_iter().flat_map(|caller| caller.join().unwrap_or_default()).collect()
        });
        let elapsed = started.elapsed();
        progress.finish_and_clear();
        let _ = client.shutdown(GRACE);
        Ok((results, elapsed))
    });
    carried.await?.map_err(|error| error as Box<dyn Error>)
}

fn progress(args: &Args) -> ProgressBar {
    let shown = !args.json && std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {msg}{pos}/{len} jobs ended, {elapsed} ({eta} left)");
    ProgressBar::with_draw_target(Some(args.operations), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Compares what the client believes with the provider's books.
fn compare(
    provider: &'static str,
    args: &Args,
    server: &FakeServer,
    sent: &Sent,
    results: &[Carried],
    elapsed: Duration,
) -> Report {
    let ended = results.iter().filter_map(|(key, finished, _)| Some((key.clone(), finished.as_ref()?.outcome.name())));
    let (outcomes, ledger) = beside_the_books(&server.ledger(), ended);
    Report {
        provider,
        adapter: args.adapter.name(),
        seed: args.seed,
        operations: args.operations,
        outcomes,
        attempts: Attempts {
            create: sent.create.load(Ordering::Relaxed),
            poll: sent.poll.load(Ordering::Relaxed),
            lookup: sent.lookup.load(Ordering::Relaxed),
        },
        faults: server.faults().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        ledger,
        latency_ms: Latency::of(results.iter().map(|(.., latency)| *latency).collect()),
        gate: Some(sent.pulse.report(args.speed)),
        kills: None,
        left_by_kills: BTreeMap::new(),
        webhooks: None,
        elapsed_ms: elapsed.as_millis() as u64,
    }
}

/// Counts outcomes, by key and name, and compares them with what the provider did for each key.
fn beside_the_books<'a>(
    books: &steadfast_testkit::Ledger,
    ended: impl Iterator<Item = (Key, &'a str)>,
) -> (Outcomes, Ledger) {
    let mut outcomes = Outcomes::default();
    let mut ledger = Ledger {
        executions: books.total_executions() as u64,
        keys: books.keys() as u64,
        keys_run_more_than_once: books.keys_run_more_than_once() as u64,
        ..Ledger::default()
    };
    for (key, outcome) in ended {
        let ran = !books.executions(key.as_str()).is_empty();
        match outcome {
            "completed" => {
                outcomes.completed += 1;
                ledger.completed_but_never_run += u64::from(!ran);
            }
            "rejected" => {
                outcomes.rejected += 1;
                ledger.rejected_but_run += u64::from(ran);
            }
            "failed" => outcomes.failed += 1,
            _ => outcomes.unresolved += 1,
        }
    }
    (outcomes, ledger)
}

/// A demo's journal must be new.
fn new_file(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let mark = format!("{text}-mark");
    for taken in [path, Path::new(&mark)] {
        if taken.symlink_metadata().is_ok() {
            return Err(format!(
                "{} exists already: name a new file, since the jobs of an earlier demo are of a provider that is gone",
                taken.display()
            ));
        }
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if !directory.is_dir() {
        return Err(format!("there is no directory {}: make it first, or name another file", directory.display()));
    }
    Ok(path.to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "is no IP address with a port, such as 127.0.0.1:9464".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "a number from 0 to 1 is expected".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("it must be from 0 (never) to 1 (always)".into()) }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "a number from 1 to 1000 is expected".to_owned())?;
    if (1.0..=1000.0).contains(&speed) { Ok(speed) } else { Err("it must be from 1 (as in life) to 1000".into()) }
}
