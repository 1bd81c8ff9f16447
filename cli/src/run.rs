//! `steadfast run`: one real job, a live timeline on stderr, its result on stdout.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;
use steadfast_core::{Key, Outcome, Reference};
use steadfast_providers::BaseUrl;
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_tokio::{Client, Finished, ReqwestTransport};

use crate::timeline::Timeline;

/// Carry one real job to its outcome.
///
/// Credentials come from the environment: DEEPVUE_ACCESS_TOKEN and DEEPVUE_CLIENT_SECRET. Interrupting (Ctrl-C) stops the watching, not the
/// job; the reference is printed so that it can be found again.
///
/// This command keeps no journal. If it was killed, the job may be running: ask the provider before you run the same key again, unless the provider
/// drops repeats of a key.
///
/// Exit codes: 0 completed, 2 rejected (nothing ran), 3 failed, 4 unresolved, 64 called wrongly.
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
    /// A file with the request's JSON body; `-` reads it from stdin.
    #[arg(long, value_name = "FILE")]
    payload: PathBuf,
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
    let payload = read_payload(&args.payload)?;

    let timeline = Timeline::start();
    let client = Client::builder(provider, ReqwestTransport::new()?)
        .observer(move |observation| timeline.print(observation))
        .start()
        .await?;
    let mut job = client.submit(key, payload).await?;
    let finished = tokio::select! {
        finished = &mut job => finished?,
        _ = tokio::signal::ctrl_c() => {
            job.cancel();
            job.await?
        }
    };

    if args.json {
        println!("{}", serde_json::to_string(&Summary::of(&finished))?);
    } else if !finished.body().is_empty() {
        println!("{}", String::from_utf8_lossy(finished.body()));
    }
    Ok(ExitCode::from(exit_code(finished.outcome)))
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
