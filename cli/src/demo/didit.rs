//! `demo --provider didit`: sessions in which people take minutes, at a provider without idempotency keys; with
//! `--webhooks`, the provider reports changes.
//!
//! The receiving server is axum's, and does what yours would: it hands headers and body to `client.deliver`, and
//! answers accordingly. Polls go on beside the webhooks, far apart: they find what lost webhooks would have said.

use std::error::Error;
use std::future::IntoFuture;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::engine::Limits;
use steadfast_core::poll::PollPolicy;
use steadfast_core::{Key, KeyError, OperationPolicy, PolicyError, Seed};
use steadfast_providers::didit::Didit;
use steadfast_providers::{BaseUrl, Provider};
use steadfast_store::SqliteStore;
use steadfast_testkit::{FakeDidit, FakeServer, Faults, WebhookFaults, scaled, scaled_gate};
use steadfast_tokio::{Client, ReqwestTransport, WebhookPolicy};
use tokio::net::TcpListener;

use super::{AT_A_TIME, Args, BEFORE_OUTAGE, CHART, GRACE, KeySupport, Sent, carry, compare, tell};

/// The webhooks' secret, which the fake and the client share. The server is for this demo only.
const SECRET: &str = "demo-secret";

/// The interval of polls beside webhooks, before the speed is applied.
const SAFETY_POLL: Duration = Duration::from_secs(120);

pub(super) async fn demo(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    if args.kill.is_some() || args.keys != KeySupport::Honoured {
        return Err(
            "--kill and --keys are for --provider deepvue: leave them out (Didit knows no idempotency keys)".into()
        );
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = fake(&args, address)?.start()?;
    if !args.json {
        println!("A fake Didit speaks HTTP at {}", server.base_url());
        explain(&args, address);
    }
    let sent = Arc::new(Sent::default());
    let client = client(&args, &server, sent.clone()).await?;
    let receiver = tokio::spawn(axum::serve(listener, receiver(client.clone())).into_future());
    let started = Instant::now();
    let results = carry(&args, &client, job).await;
    let elapsed = started.elapsed();
    let _ = client.shutdown(GRACE).await;
    receiver.abort();

    let mut report = compare("didit", &args, &server, &sent, &results, elapsed);
    report.webhooks = args.webhooks.then(|| server.ledger().webhooks().into());
    let broken = report.broken_promises();
    tell(&args, &report, &broken, || println!("{}\n", sent.pulse.chart(CHART, args.speed)))
}

fn fake(args: &Args, address: std::net::SocketAddr) -> Result<FakeDidit, Box<dyn Error>> {
    let secs = Duration::from_secs;
    let mut fake = FakeDidit::new(args.seed)
        .with_faults(Faults::rate(args.faults))
        .with_person_time(secs(30), secs(120))
        .with_reviews(0.1, secs(30), secs(90))
        .with_speed(args.speed);
    if let Some(lasting) = args.outage {
        fake = fake.with_outage(BEFORE_OUTAGE, lasting);
    }
    if args.webhooks {
        let url = format!("http://{address}/didit").parse()?;
        fake = fake.with_webhooks(url, SECRET)?.with_webhook_faults(WebhookFaults::rate(args.faults));
    }
    Ok(fake)
}

async fn client(args: &Args, server: &FakeServer, sent: Arc<Sent>) -> Result<Client, Box<dyn Error>> {
    // The machine does not get faster with the speed: a request that it has not handled yet would look as if it never
    // ran.
    let settle = Didit::SETTLE.max(Duration::from_millis(1_500).mul_f64(args.speed));
    let mut provider = Didit::new(BaseUrl::parse(&server.base_url())?, "demo-api-key")?.with_settle(settle)?;
    let mut policy = provider.policy();
    if args.webhooks {
        provider = provider.with_webhooks([SECRET])?;
        policy = polled_slowly(policy)?;
    }
    let webhooks = WebhookPolicy::default();
    let answer_within = webhooks.answer_within.div_f64(args.speed).max(Duration::from_millis(300));
    let gate = scaled_gate(&provider.gate(), args.speed)?;
    let mut builder = Client::builder(provider, ReqwestTransport::new()?)
        .policy(scaled(&policy, args.speed)?)
        .gate(gate)
        .limits(Limits { live: AT_A_TIME, ..Limits::default() })
        .webhooks(WebhookPolicy { answer_within, ..webhooks })
        .seed(Seed::new(args.seed))
        .observer(move |observation| sent.count(observation));
    if let Some(journal) = &args.journal {
        builder = builder.store(SqliteStore::open(journal)?).keep_payloads().keep_answers();
    }
    Ok(builder.start().await?)
}

fn polled_slowly(policy: OperationPolicy) -> Result<OperationPolicy, PolicyError> {
    let waits =
        BackoffPolicy::new(Growth::Fixed(SAFETY_POLL), SAFETY_POLL * 5 / 4, Jitter::Proportional { percent: 10 })?;
    let poll = policy.poll();
    let (polls, deadline, retry) = (poll.polls(), poll.deadline(), poll.retry().clone());
    let slow = PollPolicy::new(waits, polls, deadline, retry)?.with_not_found_grace(poll.not_found_grace());
    Ok(policy.with_poll(slow))
}

fn receiver(client: Client) -> Router {
    let limit = DefaultBodyLimit::max(WebhookPolicy::default().body_limit);
    Router::new().route("/didit", post(receive)).layer(limit).with_state(client)
}

async fn receive(State(client): State<Client>, headers: HeaderMap, body: Bytes) -> StatusCode {
    client.deliver(&headers, body).await.status()
}

/// The session of this number: its key, and a payload that the fake takes.
fn job(seed: u64, number: u64) -> Result<(Key, String), KeyError> {
    let payload = r#"{"workflow_id":"d9e78474-6c8d-4f2a-bb90-6f5c2f3a1147","callback":"https://example.com/done"}"#;
    Ok((Key::new(format!("order-{seed}-{number}"))?, payload.to_owned()))
}

fn explain(args: &Args, address: std::net::SocketAddr) {
    println!("It goes wrong on {:.0} % of all requests.", args.faults * 100.0);
    println!(
        "It knows no idempotency keys, so a create in doubt is looked up by its `vendor_data` before another is sent."
    );
    if args.webhooks {
        println!(
            "It tells of every change by a signed webhook to http://{address}/didit, where a server calls client.deliver."
        );
        println!("{:.0} % of them are lost, repeated, late, early, forged, altered or replayed.", args.faults * 100.0);
    }
    if let Some(outage) = args.outage {
        println!(
            "Five seconds in it goes down for {} s: the breaker opens, and what is due waits.",
            outage.as_secs_f64()
        );
    }
    let polls = if args.webhooks { "polls every 2 min, beside webhooks" } else { "polls after 30 s, 1, 2, 4 … min" };
    println!(
        "Speed {}: every delay of policy and provider is divided by it ({polls}; people take 30 s to 2 min).\n",
        args.speed
    );
}
