//! `steadfast run`: one real job, a live timeline on stderr, its result on stdout.
//!
//! With a journal, a key that it knows is not run again: a job under way continues, an ended one reports its outcome,
//! and an unresolved one is polled on if there is a reference to ask for.

mod causes;
mod journal;
mod provider;

use std::error::Error;
use std::future::Future;
use std::io::{IsTerminal as _, stdin, stdout};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use steadfast_core::operation::{Stage, Unresolved};
use steadfast_core::{Key, Outcome, Reference};
use steadfast_providers::Provider;
use steadfast_store::Entry;
use steadfast_tokio::{
    Builder, Client, Finished, Handle, ReqwestTransport, ResumeError, Stopped, SubmitError, Unfinished,
};

use self::causes::{Advice, Telling};
use self::journal::at;
use crate::body::{self, Body};
use crate::failure;
use crate::input::{self, MOST};
use crate::ops::{name, plain};
use crate::timeline::Timeline;

/// Carry one real job to its outcome.
///
/// Credentials come from the environment: DEEPVUE_ACCESS_TOKEN and DEEPVUE_CLIENT_SECRET, or DIDIT_API_KEY, or those
/// that the profile names. Interrupting (Ctrl-C, SIGTERM) stops the watching, not the job; the reference is printed so
/// that it can be found again.
///
/// With --journal, run the same command again after an interruption, a crash or an unresolved outcome: the job
/// continues where it was, and is never run twice for as long as the journal knows it (a run of another key forgets
/// jobs that ended longer than a day ago). A rejected job never ran, and starts anew with its payload. Without
/// --journal, a job may still be running after its process was killed: ask the provider before you run the same key
/// again, unless the provider drops repeats of a key.
///
/// Exit codes: 0 completed, 2 rejected (nothing ran), 3 failed, 4 unresolved, 64 called wrongly, or the journal could
/// not be used, or the result of a job that ran could not be printed, 130 interrupted (with a journal).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whose API it is.
    #[arg(long, default_value = "deepvue", conflicts_with = "profile")]
    provider: provider::Known,
    /// The file that describes the provider, or the name of a description that comes with this program: see `steadfast
    /// profile`.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// What to verify, of Deepvue: the part after `post-` in the provider's path. Default: driving-license.
    #[arg(long, conflicts_with = "profile")]
    product: Option<String>,
    /// The API's base URL: https, or http on a loopback address. Default: the profile's.
    #[arg(long, value_name = "URL", required_unless_present = "profile")]
    base_url: Option<String>,
    /// Your own name for the job, sent as its idempotency key: 1 to 255 visible ASCII characters.
    #[arg(long)]
    key: String,
    /// A file with the request's JSON body; `-` reads it from stdin. Not needed for a key whose job the provider has
    /// accepted.
    #[arg(long, value_name = "FILE", required_unless_present = "journal")]
    payload: Option<PathBuf>,
    /// Keep a journal in this file, which is created if there is none and a payload is given. It holds no payload and
    /// no result, unless the two options below say so. One file serves one product, as long as any of its jobs is
    /// under way; FILE, FILE-wal and FILE-mark belong together.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// The journal is a copy that was put back: what it calls planned may have been sent since, and FILE-mark may be
    /// missing.
    #[arg(long, requires = "journal")]
    from_backup: bool,
    /// Keep the payload in the journal until the job has ended, so that the key alone is enough to continue. It is
    /// personal data.
    #[arg(long, requires = "journal")]
    keep_payload: bool,
    /// Keep the result in the journal for at least a day, so that it can be printed again. It is personal data.
    #[arg(long, requires = "journal")]
    keep_answer: bool,
    /// Print one JSON object instead of the body: outcome, reason, reference, creates, status, hint, has_answer, and
    /// body, or base64 in its place if the body is not text. If has_answer is false, body is null: the job is
    /// unresolved, or it ended in an earlier run that did not keep the answer. If nothing is known of the job, or the
    /// watching was interrupted: {"error": …, "because": […]}.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode, Box<dyn Error>> {
    let base_url = args.base_url.as_deref();
    let chosen = match &args.profile {
        Some(file) => provider::described(file, base_url)?,
        None => provider::known(args.provider, args.product.as_deref(), base_url.unwrap_or_default())?,
    };
    let key = Key::new(&args.key)?;
    let payload = args.payload.as_deref().map(|path| read_payload(path, args.profile.is_none())).transpose()?;
    let (provider, advice, profile) = (chosen.provider, chosen.advice, chosen.profile);

    let timeline = Timeline::start(key.label());
    let transport = Telling { transport: ReqwestTransport::new()?, key: key.clone() };
    let mut builder = Client::builder(provider, transport).observer(move |observation| timeline.print(observation));
    let path = args.journal.as_deref();
    let mut known = None;
    if let Some(path) = path {
        (builder, known) = on_journal(builder, path, &args, &key, payload.is_some())?;
    }
    // Set up before the client takes the job up, so that from then on an interruption always says where to find the job
    // again.
    let mut interrupted = pin!(interrupted()?);
    let client = builder.start().await.map_err(|error| match path {
        Some(path) => at(path, error),
        None => error.into(),
    })?;
    let begun = tokio::select! {
        begun = begin(&client, key.clone(), payload, known.as_ref()) => Some(begun),
        () = &mut interrupted => None,
    };
    let mut job = match begun {
        Some(Ok(job)) => job,
        Some(Err(Refused::Resume(ResumeError::NoReference(why)))) => {
            let _ = client.shutdown(Duration::ZERO).await;
            eprintln!("steadfast: {}", ResumeError::NoReference(why));
            if args.json {
                let creates = known.map_or(0, |entry| entry.record.creates);
                println!("{}", serde_json::to_string(&Summary::unresolved(why, creates))?);
            }
            return Ok(ExitCode::from(exit_code(Outcome::Unresolved(why))));
        }
        Some(Err(refused)) => return Err(refused.at(path)),
        None => return Ok(stop(client, &key, path, args.json).await),
    };
    let mut was_interrupted = false;
    let mut finished = tokio::select! {
        finished = &mut job => finished?,
        () = &mut interrupted => {
            if path.is_some() {
                return Ok(stop(client, &key, path, args.json).await);
            }
            was_interrupted = true;
            job.cancel();
            job.await?
        }
    };
    if let (Some(profile), Outcome::Completed(_), Some(answer)) = (&profile, finished.outcome, &mut finished.answer) {
        answer.body = profile.result(&answer.body);
    }
    tell(&finished, &advice, args.json, was_interrupted)?;
    // The journal must record that the outcome was delivered; its other jobs are not waited for.
    let _ = client.shutdown(Duration::ZERO).await;
    Ok(ExitCode::from(exit_code(finished.outcome)))
}

/// The client of a run, before it starts.
type Described = Builder<Box<dyn Provider>, Telling<ReqwestTransport>>;

/// The same client with this journal, and what the journal knows of the key.
fn on_journal(
    mut builder: Described,
    path: &Path,
    args: &Args,
    key: &Key,
    has_payload: bool,
) -> Result<(Described, Option<Entry>), Box<dyn Error>> {
    let (store, known) = journal::open(path, key, has_payload, args.from_backup)?;
    if args.from_backup {
        builder = builder.from_backup();
    }
    // Other jobs in the journal are for other callers to carry on, and to receive the outcomes of.
    let mine = key.clone();
    builder = builder.store(store).take_up(move |key| *key == mine);
    if args.keep_payload {
        builder = builder.keep_payloads();
    }
    if args.keep_answer {
        builder = builder.keep_answers();
    }
    if let Some(entry) = &known {
        eprintln!("{}", journal::greet(entry));
        builder = builder.limits(journal::limits(entry, SystemTime::now().into()));
    }
    Ok((builder, known))
}

/// Prints the result on stdout, and notes about it on stderr; the reference comes last.
fn tell(finished: &Finished, advice: &Advice, json: bool, was_interrupted: bool) -> Result<(), Box<dyn Error>> {
    let summary = Summary::of(finished, advice);
    // If a job did not end, its last answer (the create's, for example) is not a result.
    let has_result = matches!(finished.outcome, Outcome::Completed(_) | Outcome::Failed);
    if json {
        println!("{}", serde_json::to_string(&summary)?);
    } else if has_result && !finished.body().is_empty() {
        print_bytes!(&body::printed(finished.body(), stdout().is_terminal()));
    }
    if finished.answer.is_none() && has_result {
        eprintln!("its result came in an earlier run, and was not kept: --keep-answer would have");
    }
    if let Some(hint) = &summary.hint {
        eprintln!("{hint}");
    }
    if !json && matches!(finished.outcome, Outcome::Rejected(_)) && !finished.body().is_empty() {
        eprintln!("what the provider answered may hold personal data: --json prints it");
    }
    let interrupted = if was_interrupted { "interrupted: " } else { "" };
    match (finished.outcome, summary.reference) {
        (Outcome::Unresolved(_), Some(reference)) => {
            eprintln!("{interrupted}the provider knows the job as {}: ask by that what became of it", plain(reference));
        }
        (Outcome::Unresolved(_), None) => {
            eprintln!("{interrupted}no reference is known: ask the provider for the key before you run it again");
        }
        _ if was_interrupted => eprintln!("interrupted: {}, {}", summary.outcome, summary.reason),
        _ => {}
    }
    Ok(())
}

/// Stops watching, and says where to find the job again.
async fn stop(client: Client, key: &Key, path: Option<&Path>, json: bool) -> ExitCode {
    let unfinished = client.shutdown(Duration::ZERO).await;
    let known = unfinished.iter().find(|job| job.key == *key);
    let left = match path {
        Some(path) => journal::left(path, key, known),
        None => match known {
            Some(Unfinished { stage, reference, .. }) if *stage != Stage::Planned => {
                let name = reference.as_ref().map_or_else(|| "no reference is known".into(), |it| plain(it.as_str()));
                format!("interrupted: the job may run all the same; ask the provider before you run it again: {name}")
            }
            _ => "interrupted before the job was taken in: nothing was sent".to_owned(),
        },
    };
    eprintln!("{left}");
    if json {
        failure::object(&left, &[]);
    }
    ExitCode::from(INTERRUPTED)
}

/// Waits for Ctrl-C, or SIGTERM where that exists.
#[cfg(unix)]
fn interrupted() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn interrupted() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        // If interrupts cannot be caught, the job is watched to its end.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

/// The exit code that shells use for an interrupt from the keyboard.
pub(crate) const INTERRUPTED: u8 = 130;

/// Whether it ended without an answer, and has a reference to poll.
fn can_be_polled_on(entry: &Entry) -> bool {
    let unresolved =
        matches!(entry.record.stage, Stage::Ended(Outcome::Unresolved(_)) | Stage::Delivered(Outcome::Unresolved(_)));
    unresolved && entry.record.reference.is_some()
}

/// Why the job was not taken up.
#[derive(Debug)]
enum Refused {
    Submit(SubmitError),
    Resume(ResumeError),
    Stopped(Stopped),
}

impl Refused {
    /// The error in words for this command, with the journal's path if it is about the journal.
    fn at(self, path: Option<&Path>) -> Box<dyn Error> {
        let error: Box<dyn Error> = match self {
            Self::Submit(error @ SubmitError::Refused(_)) => return error.into(),
            Self::Submit(error) => error.into(),
            Self::Resume(ResumeError::PayloadNeeded) => {
                "the job waits for its payload, and none is kept: give it with --payload, the same as before".into()
            }
            Self::Resume(error) => error.into(),
            Self::Stopped(error) => error.into(),
        };
        match path {
            Some(path) => at(path, error),
            None => error,
        }
    }
}

/// Submits or takes up the job.
async fn begin(client: &Client, key: Key, payload: Option<Vec<u8>>, known: Option<&Entry>) -> Result<Handle, Refused> {
    let Some(payload) = payload else { return client.resume(key).await.map_err(Refused::Resume) };
    // A known key with another payload than before is refused here.
    let job = client.submit(key.clone(), payload).await.map_err(Refused::Submit)?;
    if !known.is_some_and(can_be_polled_on) {
        return Ok(job);
    }
    // The job ended so in an earlier run.
    job.await.map_err(Refused::Stopped)?;
    client.resume(key).await.map_err(Refused::Resume)
}

const fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Completed(_) => 0,
        Outcome::Rejected(_) => 2,
        Outcome::Failed => 3,
        Outcome::Unresolved(_) => 4,
    }
}

fn read_payload(path: &Path, is_json: bool) -> Result<Vec<u8>, String> {
    let is_stdin = path.as_os_str() == "-";
    let read = if is_stdin { input::all_of(stdin().lock(), MOST) } else { input::file(path, MOST) };
    let payload = read.map_err(|error| format!("the payload {} cannot be read: {error}", name(path)))?;
    if !is_json {
        return Ok(payload);
    }
    // The error does not show the payload: it is personal data.
    match serde_json::from_slice::<serde_json::Value>(&payload) {
        Ok(serde_json::Value::Object(_)) => Ok(payload),
        _ => Err(format!("the payload {} is no JSON object, which the provider would refuse: mend it", name(path))),
    }
}

#[derive(Serialize)]
struct Summary<'a> {
    outcome: &'static str,
    reason: &'static str,
    reference: Option<&'a str>,
    creates: u16,
    status: Option<u16>,
    /// What to look at, if the last answer's status suggests it.
    hint: Option<String>,
    /// Whether the answer that ended the job is available: it came in this run, or was kept. An unresolved job has
    /// none: its last answer is not a result.
    has_answer: bool,
    /// The answer's body; null without an answer.
    #[serde(flatten)]
    body: Body,
}

impl<'a> Summary<'a> {
    const fn unresolved(why: Unresolved, creates: u16) -> Self {
        let outcome = Outcome::Unresolved(why);
        let (outcome, reason) = (outcome.name(), outcome.explain());
        Self {
            outcome,
            reason,
            reference: None,
            creates,
            status: None,
            hint: None,
            has_answer: false,
            body: Body::NONE,
        }
    }

    fn of(finished: &'a Finished, advice: &Advice) -> Self {
        let ended_well = matches!(finished.outcome, Outcome::Completed(_));
        let status = finished.answer.as_ref().map(|answer| answer.status);
        let has_answer = finished.answer.is_some() && !matches!(finished.outcome, Outcome::Unresolved(_));
        Self {
            outcome: finished.outcome.name(),
            reason: finished.outcome.explain(),
            reference: finished.reference.as_ref().map(Reference::as_str),
            creates: finished.creates,
            status: status.map(|status| status.as_u16()),
            hint: status.filter(|_| !ended_well).and_then(|status| advice.on(status)),
            has_answer,
            body: if has_answer { Body::of(finished.body()) } else { Body::NONE },
        }
    }
}
