//! `steadfast demo`: many jobs through a fake provider that misbehaves, then the client's belief beside the provider's books.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use steadfast_core::engine::Limits;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::notice::Notice;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::{Key, Kind, Outcome, Seed, SendSafety};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider as _};
use steadfast_testkit::{FakeDeepvue, FakeServer, Faults, Keys, WithLookup, scaled, scaled_gate};
use steadfast_tokio::{Builder, Client, Finished, Observation, ReqwestTransport};

use crate::pulse::Pulse;
use crate::report::{Attempts, Latency, Ledger, Outcomes, Report};
use crate::run::Provider;

/// Carry many jobs through a fake provider that misbehaves, and compare the outcomes with its books.
///
/// The provider runs in this process and speaks real HTTP on a loopback port. Exits with 1 if a key was run twice, a completed job never ran, a
/// rejected one did, or a job has no outcome.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which provider to fake.
    #[arg(long, default_value = "deepvue")]
    provider: Provider,
    /// How many jobs.
    #[arg(long, default_value_t = 200)]
    operations: u64,
    /// The share of requests that meet a fault, 0 to 1.
    #[arg(long, default_value_t = 0.2, value_parser = share)]
    faults: f64,
    /// Seeds the faults, the job times and the jitter. Runs still differ a little, since real sockets do.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Divides every delay of policy and provider alike, 1 to 1000.
    #[arg(long, default_value_t = 50.0, value_parser = speed)]
    speed: f64,
    /// An outage of so long (`5s`, `1m30s`) in the provider's time, five seconds after the first request: it answers everything with 503, and the
    /// client's breaker opens.
    #[arg(long, value_name = "DURATION", value_parser = humane)]
    outage: Option<Duration>,
    /// What the provider does with an idempotency key that it has seen before; the client is told.
    #[arg(long, default_value = "honoured")]
    keys: KeySupport,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What a provider does with a repeated key.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum KeySupport {
    /// Runs it once: the client may send again.
    Honoured,
    /// Can be asked for the job of a key: the client looks before it sends again.
    Lookup,
    /// Runs it again: the client must not send again, and says "unresolved" where it cannot know.
    Ignored,
}

/// How many jobs are under way at a time: enough for a crowd, within every system's limit of open files.
const AT_A_TIME: u32 = 256;

/// When an outage begins, before the speed: some jobs are accepted, some under way, some not yet submitted.
const BEFORE_OUTAGE: Duration = Duration::from_secs(5);

/// How wide the chart is, in characters.
const CHART: usize = 64;

const DAY: Duration = Duration::from_secs(86_400);

pub(crate) async fn demo(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let Provider::Deepvue = args.provider;
    let mut fake = FakeDeepvue::new(args.seed)
        .with_faults(Faults::rate(args.faults))
        .with_keys(match args.keys {
            KeySupport::Honoured => Keys::Honoured,
            KeySupport::Lookup => Keys::Lookup,
            KeySupport::Ignored => Keys::Ignored,
        })
        .with_speed(args.speed);
    if let Some(lasting) = args.outage {
        fake = fake.with_outage(BEFORE_OUTAGE, lasting);
    }
    let server = fake.start()?;
    if !args.json {
        explain(&args, &server);
    }

    let sent = Arc::new(Sent::default());
    let client = connect(&args, &server, &sent).await?;
    let started = Instant::now();
    let results = carry(&args, &client).await;
    let elapsed = started.elapsed();
    client.shutdown(Duration::ZERO).await;

    let report = compare(&args, &server, &sent, &results, elapsed);
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", report.table());
        println!("{}\n", sent.pulse.chart(CHART, args.speed));
    }
    let broken = report.broken_promises();
    for promise in &broken {
        eprintln!("broken promise: {promise}");
    }
    if broken.is_empty() && !args.json {
        println!("No key was run twice, and every outcome agrees with the provider's books.");
        if report.outcomes.unresolved > 0 {
            println!(
                "{} jobs are unresolved: attempts or time ran out, and the client does not guess.",
                report.outcomes.unresolved
            );
        }
    }
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn explain(args: &Args, server: &FakeServer) {
    println!(
        "A fake Deepvue speaks HTTP at {}. It goes wrong on {:.0} % of all requests.",
        server.base_url(),
        args.faults * 100.0
    );
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

async fn connect(args: &Args, server: &FakeServer, sent: &Arc<Sent>) -> Result<Client, Box<dyn Error>> {
    let credentials = Credentials::new("demo-token", "demo-secret")?;
    let deepvue = Deepvue::new(BaseUrl::parse(&server.base_url())?, "driving-license", credentials)?;
    let transport = ReqwestTransport::new()?;
    Ok(match args.keys {
        KeySupport::Honoured => {
            let deepvue = deepvue.with_safety(SendSafety::Keyed { window: DAY })?;
            start(
                args,
                sent,
                Client::builder(deepvue.clone(), transport).policy(scaled(&deepvue.policy(), args.speed)?),
            )
            .await?
        }
        KeySupport::Lookup => {
            // The machine does not run faster with the speed: a request it has not got to yet would look as if it never ran.
            let settle = Duration::from_secs(20).max(Duration::from_millis(400).mul_f64(args.speed));
            let found = WithLookup::new(deepvue, settle);
            start(args, sent, Client::builder(found.clone(), transport).policy(scaled(&found.policy(), args.speed)?))
                .await?
        }
        KeySupport::Ignored => {
            start(
                args,
                sent,
                Client::builder(deepvue.clone(), transport).policy(scaled(&deepvue.policy(), args.speed)?),
            )
            .await?
        }
    })
}

async fn start<P, T>(args: &Args, sent: &Arc<Sent>, builder: Builder<P, T>) -> Result<Client, Box<dyn Error>>
where
    P: steadfast_providers::Provider,
    T: steadfast_tokio::Transport,
{
    let sent = sent.clone();
    // The numbers of Deepvue's largest plan. A burst, since a client that is sped up is woken too rarely to keep a spacing of a millisecond.
    let rate = RatePolicy::new(1_000, Duration::from_secs(60))?.with_burst(17)?;
    let gate = GatePolicy::default().with_rate_limit(RateLimit { kinds: Kinds::ALL, rate });
    let client = builder
        .gate(scaled_gate(&gate, args.speed)?)
        .limits(Limits { live: AT_A_TIME, ..Limits::default() })
        .seed(Seed::new(args.seed))
        .observer(move |seen| sent.count(seen))
        .start();
    Ok(client.await?)
}

/// One job: its key, how it ended if it did, and how long that took.
type Carried = (Key, Option<Finished>, Duration);

/// Submits every job at once; the client takes in as many as it has room for.
async fn carry(args: &Args, client: &Client) -> Vec<Carried> {
    let progress = progress(args);
    let mut jobs = tokio::task::JoinSet::new();
    for n in 0..args.operations {
        let (client, progress, seed) = (client.clone(), progress.clone(), args.seed);
        jobs.spawn(async move {
            let key = Key::new(format!("order-{seed}-{n}")).ok()?;
            let payload = format!(r#"{{"dl_number":"DL{n:010}","dob":"1990-01-01","consent":"Y","reason":"KYC"}}"#);
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

fn progress(args: &Args) -> ProgressBar {
    let shown = !args.json && std::io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} jobs ended, {elapsed} ({eta} left)");
    ProgressBar::with_draw_target(Some(args.operations), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Holds what the client believes against the provider's books.
fn compare(args: &Args, server: &FakeServer, sent: &Sent, results: &[Carried], elapsed: Duration) -> Report {
    let books = server.ledger();
    let mut outcomes = Outcomes::default();
    let mut ledger = Ledger {
        executions: books.total_executions() as u64,
        keys: books.keys() as u64,
        keys_run_more_than_once: books.keys_run_more_than_once() as u64,
        ..Ledger::default()
    };
    for (key, finished, _) in results {
        let Some(finished) = finished else { continue };
        let ran = !books.executions(key.as_str()).is_empty();
        match finished.outcome {
            Outcome::Completed(_) => {
                outcomes.completed += 1;
                ledger.completed_but_never_run += u64::from(!ran);
            }
            Outcome::Rejected(_) => {
                outcomes.rejected += 1;
                ledger.rejected_but_run += u64::from(ran);
            }
            Outcome::Failed => outcomes.failed += 1,
            Outcome::Unresolved(_) => outcomes.unresolved += 1,
        }
    }
    Report {
        provider: "deepvue",
        seed: args.seed,
        operations: args.operations,
        outcomes,
        attempts: Attempts {
            create: sent.create.load(Ordering::Relaxed),
            poll: sent.poll.load(Ordering::Relaxed),
            lookup: sent.lookup.load(Ordering::Relaxed),
        },
        faults: server.faults().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect::<BTreeMap<_, _>>(),
        ledger,
        latency_ms: Latency::of(results.iter().map(|(.., latency)| *latency).collect()),
        gate: sent.pulse.report(args.speed),
        elapsed_ms: elapsed.as_millis() as u64,
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "a number from 0 to 1 is expected".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("it must be from 0 (never) to 1 (always)".into()) }
}

fn humane(text: &str) -> Result<Duration, String> {
    steadfast_core::policy::humane::parse(text).map_err(|expected| format!("it must be {expected}"))
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "a number from 1 to 1000 is expected".to_owned())?;
    if (1.0..=1000.0).contains(&speed) { Ok(speed) } else { Err("it must be from 1 (as in life) to 1000".into()) }
}
