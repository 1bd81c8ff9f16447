//! `steadfast run`: one real job, a live timeline on stderr, its result on stdout.
//!
//! With a journal, a key that it knows is not run again: what is under way goes on, what has ended tells how, and what ended as unresolved is polled on
//! if there is something to ask for.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use steadfast_core::operation::Stage;
use steadfast_core::{Key, Outcome, Reference};
use steadfast_providers::BaseUrl;
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_store::{Entry, SqliteStore, Store as _};
use steadfast_tokio::{Client, Finished, Handle, ReqwestTransport};

use crate::timeline::Timeline;

/// Carry one real job to its outcome.
///
/// Credentials come from the environment: DEEPVUE_ACCESS_TOKEN and DEEPVUE_CLIENT_SECRET. Interrupting (Ctrl-C) stops the watching, not the
/// job; the reference is printed so that it can be found again.
///
/// With --journal, run the same command again after an interruption, a crash or an unresolved outcome: the job goes on where it was, and is never run
/// twice. Without it, a killed job may be running: ask the provider before you run the same key again, unless the provider drops repeats of a
/// key.
///
/// Exit codes: 0 completed, 2 rejected (nothing ran), 3 failed, 4 unresolved, 64 called wrongly, 130 interrupted (with a journal).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose API it is.
    #[arg(long, default_value = "deepvue")]
    provider: Provider,
    /// What to verify: the part after `post-` in the provider's path.
    #[arg(long, default_value = "driving-license")]
    product: String,
    /// Where the API is: https, or http on a loopback address.
    #[arg(long, value_name = "URL")]
    base_url: String,
    /// Your own name for the job, sent as its idempotency key: 1 to 255 visible ASCII characters.
    #[arg(long)]
    key: String,
    /// A file with the request's JSON body; `-` reads it from stdin. Not needed for a key whose job the provider has accepted.
    #[arg(long, value_name = "FILE", required_unless_present = "journal")]
    payload: Option<PathBuf>,
    /// Keep a journal in this file, made if there is none. It holds no payload and no result, unless the two options below say so. One file serves one
    /// product.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Keep the payload in the journal until the job has ended, so that nothing but the key is needed to go on. It is personal data.
    #[arg(long, requires = "journal")]
    keep_payload: bool,
    /// Keep the result in the journal for a day, so that it can be had again. It is personal data.
    #[arg(long, requires = "journal")]
    keep_answer: bool,
    /// Print one JSON object instead of the body: outcome, reason, reference, creates, status, body.
    #[arg(long)]
    json: bool,
}

/// The providers that this binary knows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Provider {
    /// Deepvue's asynchronous verifications.
    Deepvue,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let Provider::Deepvue = args.provider;
    let key = Key::new(args.key)?;
    let credentials = credentials()?;
    let provider = Deepvue::new(BaseUrl::parse(&args.base_url)?, &args.product, credentials)?;
    let payload = args.payload.as_deref().map(read_payload).transpose()?;

    let timeline = Timeline::start(key.label());
    let mut builder =
        Client::builder(provider, ReqwestTransport::new()?).observer(move |observation| timeline.print(observation));
    let mut known = None;
    if let Some(path) = &args.journal {
        let mut journal = SqliteStore::open(path)?;
        known = journal.find(&key)?;
        builder = builder.store(journal);
        if args.keep_payload {
            builder = builder.keep_payloads();
        }
        if args.keep_answer {
            builder = builder.keep_answers();
        }
    }
    if let Some(entry) = &known {
        eprintln!("{}", greet(entry));
    } else if payload.is_none() {
        return Err(
            "the journal does not know this key: give its --payload, or look for it with `steadfast ops`".into()
        );
    }
    let client = builder.start().await?;
    let mut job = begin(&client, key, payload, known.as_ref()).await?;
    let finished = tokio::select! {
        finished = &mut job => finished?,
        _ = tokio::signal::ctrl_c() => {
            if args.journal.is_some() {
                client.shutdown(Duration::ZERO).await;
                eprintln!("interrupted: the job is in the journal; run the same command again to go on");
                return Ok(ExitCode::from(INTERRUPTED));
            }
            job.cancel();
            job.await?
        }
    };
    // That the outcome was told is to be noted in the journal; other jobs that it holds are not waited for.
    client.shutdown(Duration::ZERO).await;

    if finished.answer.is_none() && matches!(finished.outcome, Outcome::Completed(_)) {
        eprintln!("its result came in an earlier run, and was not kept: --keep-answer would have");
    }
    if args.json {
        println!("{}", serde_json::to_string(&Summary::of(&finished))?);
    } else if !finished.body().is_empty() {
        println!("{}", String::from_utf8_lossy(finished.body()));
    }
    Ok(ExitCode::from(exit_code(finished.outcome)))
}

/// Interrupted from the keyboard, as shells say it.
const INTERRUPTED: u8 = 130;

/// What is known of a job that the journal has.
fn greet(entry: &Entry) -> String {
    let at = entry.record.reference.as_ref().map(|reference| format!(" as {}", reference.as_str())).unwrap_or_default();
    match entry.record.stage {
        Stage::Planned => "the journal has this job: nothing of it has run, and it goes on".to_owned(),
        Stage::Accepted => format!("the journal has this job: the provider has accepted it{at}, and it is polled on"),
        Stage::Ended(outcome) | Stage::Delivered(outcome) => match outcome {
            Outcome::Unresolved(_) if !at.is_empty() => {
                format!(
                    "the journal has this job: it ended as unresolved, is known to the provider{at}, and is polled on"
                )
            }
            outcome => format!("the journal has this job: it has ended as {}", outcome.name()),
        },
        _ => "the journal has this job: a create may have run, and it goes on as the provider allows".to_owned(),
    }
}

/// Whether it ended without an answer, and there is something to ask for.
fn can_be_polled_on(entry: &Entry) -> bool {
    let unresolved =
        matches!(entry.record.stage, Stage::Ended(Outcome::Unresolved(_)) | Stage::Delivered(Outcome::Unresolved(_)));
    unresolved && entry.record.reference.is_some()
}

/// Submits or takes up the job.
async fn begin(
    client: &Client,
    key: Key,
    payload: Option<Vec<u8>>,
    known: Option<&Entry>,
) -> Result<Handle, Box<dyn Error>> {
    let Some(payload) = payload else { return Ok(client.resume(key).await?) };
    // A known key is refused here with another payload than it had.
    let job = client.submit(key.clone(), payload).await?;
    if !known.is_some_and(can_be_polled_on) {
        return Ok(job);
    }
    // This is how it ended the last time.
    job.await?;
    Ok(client.resume(key).await?)
}

const fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Completed(_) => 0,
        Outcome::Rejected(_) => 2,
        Outcome::Failed => 3,
        Outcome::Unresolved(_) => 4,
    }
}

fn credentials() -> Result<Credentials, Box<dyn Error>> {
    let names = ["DEEPVUE_ACCESS_TOKEN", "DEEPVUE_CLIENT_SECRET"];
    let [token, secret] = names.map(|name| std::env::var(name).unwrap_or_default());
    let missing: Vec<&str> =
        names.into_iter().zip([&token, &secret]).filter(|(_, value)| value.is_empty()).map(|(name, _)| name).collect();
    if !missing.is_empty() {
        return Err(format!("set the environment variables {}: they are unset or empty", missing.join(" and ")).into());
    }
    Ok(Credentials::new(token, secret)?)
}

fn read_payload(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let read = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin()).map(String::into_bytes)
    } else {
        std::fs::read(path)
    };
    let payload = read.map_err(|error| format!("the payload {} cannot be read: {error}", path.display()))?;
    // What is wrong is not shown: it is personal data.
    match serde_json::from_slice::<serde_json::Value>(&payload) {
        Ok(serde_json::Value::Object(_)) => Ok(payload),
        _ => Err(format!("the payload {} is no JSON object, which the provider would refuse: mend it", path.display())),
    }
}

#[derive(Serialize)]
struct Summary<'a> {
    outcome: &'static str,
    reason: &'static str,
    reference: Option<&'a str>,
    creates: u16,
    status: Option<u16>,
    /// As JSON if it is JSON, else as text.
    body: serde_json::Value,
}

impl<'a> Summary<'a> {
    fn of(finished: &'a Finished) -> Self {
        let text = || serde_json::Value::String(String::from_utf8_lossy(finished.body()).into_owned());
        Self {
            outcome: finished.outcome.name(),
            reason: finished.outcome.explain(),
            reference: finished.reference.as_ref().map(Reference::as_str),
            creates: finished.creates,
            status: finished.answer.as_ref().map(|answer| answer.status.as_u16()),
            body: serde_json::from_slice(finished.body()).unwrap_or_else(|_| text()),
        }
    }
}
