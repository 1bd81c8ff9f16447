//! `ops FILE show KEY`: what happened to one operation, what it waits for, and what to do about it.

use std::error::Error;
use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use steadfast_core::explain::Span;
use steadfast_core::operation::{Record, Stage};
use steadfast_core::{Key, Outcome, Timestamp};
use steadfast_store::KeptAnswer;
use steadfast_store::sqlite::Stored;
use steadfast_tokio::SEAL_MARK;

use super::Trouble;
use super::find;
use super::journal::{self, Look, Opened};
use super::row::Row;
use super::words::{argument, day_and_time, operations, plain, relative};
use crate::body::{self, Body};

/// Show one operation: what happened when, what it waits for, how it ended, and what to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its key, or the label that stands for it in logs: `'#1b2c3d4e'`.
    key: String,
    /// Print the answer's body as well, if it was kept. It is usually personal data.
    #[arg(long)]
    answer: bool,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    row: Row<'a>,
    explanation: String,
    to_do: &'static str,
    /// `null` if it cannot be told.
    in_use: Option<bool>,
    /// `whole`, `missing` or `unreadable`: only a whole one vouches for the newest records.
    mark: &'static str,
    /// Whether its payload is kept.
    payload: Option<Payload>,
    answer: Option<Answer<'a>>,
}

#[derive(Debug, Serialize)]
struct Payload {
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    status: u16,
    bytes: usize,
    /// If it was asked for. A body that is not text may be sealed.
    #[serde(flatten)]
    body: Option<Body>,
    #[serde(skip)]
    kept: &'a KeptAnswer,
}

pub(crate) fn show(look: &Look, args: Args, json: bool, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    let in_its_place = Path::new(&args.key);
    if !look.file.exists() && in_its_place.is_file() {
        let call = format!("steadfast ops {} show {}", argument(in_its_place), argument(&look.file));
        return Err(format!("there is no journal {}: it comes before the key, `{call}`", look.name()).into());
    }
    let key = Key::new(args.key)?;
    let Opened { mut store, now, in_use, .. } = look.open()?;
    let total = store.count();
    let found = find::named(&mut store, &key)?;
    let mark = store.mark();
    drop(store);
    let Some(stored) = found else {
        let or_newer = journal::or_newer(mark);
        let what = format!(
            "{} has {}, none with this key{or_newer}: check its spelling (`list --key-prefix` helps) and the file; \
             an outcome that was delivered is forgotten after the client's window, 24 h by default; one that is unresolved is not",
            look.name(),
            operations(total)
        );
        return Err(Trouble(what).into());
    };
    look.warn_of(mark);
    let answer = stored.entry.answer.as_ref().map(|kept| Answer::of(kept, args.answer));
    if json {
        let explanation = explain(&stored, now);
        let (row, to_do) = (Row::of(&stored), to_do(&stored.entry.record, in_use));
        let payload = stored.entry.payload.as_ref().map(|kept| Payload { bytes: kept.len() });
        let mark = journal::named(mark);
        let shown = Shown { row, explanation, to_do, in_use, mark, payload, answer };
        writeln!(out, "{}", serde_json::to_string(&shown)?)?;
        return Ok(0);
    }
    timeline(&stored, now, in_use, out)?;
    match (&answer, args.answer) {
        (None, true) => {
            let why = "no answer is kept: a client keeps answers only if it was built with `keep_answers`";
            writeln!(out, "\n{why}")?;
        }
        (Some(answer), true) => answer.print(out)?,
        (Some(answer), false) => {
            writeln!(
                out,
                "\nAn answer is kept, status {}, {} bytes: --answer prints it.",
                answer.status, answer.bytes
            )?;
        }
        (None, false) => {}
    }
    Ok(0)
}

impl<'a> Answer<'a> {
    fn of(kept: &'a KeptAnswer, with_body: bool) -> Self {
        let body = with_body.then(|| Body::of(&kept.body));
        Self { status: kept.status, bytes: kept.body.len(), body, kept }
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "\nThe answer, status {}, {} bytes:", self.status, self.bytes)?;
        if self.kept.body.starts_with(SEAL_MARK) {
            return writeln!(
                out,
                "(sealed by the client: `show --answer --json` and `export --with-answers` give it, behind a mark of eight bytes)"
            );
        }
        match std::str::from_utf8(&self.kept.body) {
            Ok(_) => out.write_all(&body::printed(&self.kept.body, stdout().is_terminal())),
            Err(_) => writeln!(
                out,
                "(not text: the client seals what it keeps, or the provider's answer is not text; \
                 `show --answer --json` and `export --with-answers` give it in base64)"
            ),
        }
    }
}

fn timeline(stored: &Stored, now: Timestamp, in_use: Option<bool>, out: &mut impl Write) -> std::io::Result<()> {
    let record = &stored.entry.record;
    writeln!(out, "{}, sent to {}\n", record.key.as_str(), plain(&stored.entry.provider))?;
    let mut line = |time: Timestamp, what: &str| {
        let after = time.saturating_since(record.submitted);
        let after = if after < Duration::from_millis(1) { String::new() } else { format!("+{}", Span(after)) };
        writeln!(out, "{}  {after:>12}  {what}", day_and_time(time))
    };
    line(record.submitted, &format!("submitted, {}", relative(record.submitted, now)))?;
    if let Some(sent) = record.first_sent {
        line(sent, "the first create was about to leave")?;
    }
    if let Some(accepted) = stored.accepted {
        line(accepted, "accepted: the provider has the job")?;
    }
    if let (Some(ended), Some(outcome)) = (stored.ended, stored.outcome()) {
        line(ended, &format!("ended: {}", outcome.name()))?;
    }
    let last = match record.stage {
        Stage::Delivered(_) => "its outcome was delivered: the last record",
        _ => "the last record",
    };
    line(stored.entry.at, &format!("{last}, {}", relative(stored.entry.at, now)))?;

    let reference = match &record.reference {
        Some(reference) => plain(reference.as_str()),
        None => "none is known".into(),
    };
    writeln!(out, "\nReference  {reference}")?;
    writeln!(out, "Label      {}, which stands for the key in logs", record.key.label())?;
    writeln!(out, "Requests   {}", requests(record))?;
    match &stored.entry.payload {
        Some(payload) => writeln!(out, "Payload    kept, {} bytes, until the job has ended", payload.len())?,
        None => writeln!(out, "Payload    not kept")?,
    }
    writeln!(out, "State      {}: {}", stored.state(), explain(stored, now))?;
    writeln!(out, "To do      {}", to_do(record, in_use))
}

/// How many requests were made, all accounted for.
fn requests(record: &Record) -> String {
    let Record { attempts, creates, polls, .. } = record;
    // Polls are counted only up to the last record.
    let more = if record.stage == Stage::Accepted { " (perhaps more by now: not every poll is recorded)" } else { "" };
    if *attempts == 0 {
        return format!("0{more}");
    }
    let s = |count: u32| if count == 1 { "" } else { "s" };
    let look_ups = |count: u32| if count == 1 { "poll or look-up" } else { "polls and look-ups" };
    let (creates, polls) = (u32::from(*creates), u32::from(*polls));
    let others = attempts.saturating_sub(creates).saturating_sub(polls);
    format!(
        "{attempts}: {creates} create{}, {polls} poll{} that found it pending, {others} other {}{more}",
        s(creates),
        s(polls),
        look_ups(others)
    )
}

/// Where it stands, and until when.
fn explain(stored: &Stored, now: Timestamp) -> String {
    let record = &stored.entry.record;
    let due = |what: &str, step: &str| match record.due {
        Some(due) => {
            let is = if due < now { "was" } else { "is" };
            format!("{what}: {step} {is} due {} ({})", relative(due, now), day_and_time(due))
        }
        None => format!("{what}; the journal does not say when {step} is due"),
    };
    match record.stage {
        Stage::Planned if record.creates > 0 => due("nothing ran yet, and it is tried again", "its next create"),
        Stage::Planned => due("nothing was sent yet", "its first create"),
        // A next client that may repeat it waits for that first.
        Stage::InFlight => due("a create was being sent, and may have run; no answer is recorded yet", "its time-out"),
        Stage::Unknown if record.refused => {
            due("an earlier create may have run, and a later one was refused", "its next step")
        }
        Stage::Unknown => due("a create may have run", "its next step"),
        // No record is written for each poll.
        Stage::Accepted => due("the provider has the job, which is polled", "by the last record, its first poll"),
        Stage::Ended(outcome) => format!("{}: {}; nobody took the outcome yet", outcome.name(), outcome.explain()),
        Stage::Delivered(outcome) => format!("{}: {}", outcome.name(), outcome.explain()),
        _ => "this release does not know this state".into(),
    }
}

fn to_do(record: &Record, in_use: Option<bool>) -> &'static str {
    match record.stage {
        // Submitting it again starts a new job, and does not ask for this outcome.
        Stage::Ended(Outcome::Rejected(_)) => {
            "decide whether it is still wanted: its key is free, and a repeat begins a new job; `client.resume(key)` gives the outcome of this one"
        }
        Stage::Ended(_) if in_use == Some(false) => {
            "start its client, which delivers the outcome to whoever submits this key again"
        }
        Stage::Ended(_) if in_use.is_none() => {
            "make sure that its client runs, which a copy cannot show: it delivers the outcome to whoever submits this key again"
        }
        Stage::Ended(outcome) | Stage::Delivered(outcome) => match outcome {
            Outcome::Completed(_) => "nothing",
            // The explanation says what to correct.
            Outcome::Rejected(_) => "decide whether it is still wanted: its key is free",
            Outcome::Failed => "decide whether to submit a new job, under a new key",
            Outcome::Unresolved(_) if record.reference.is_some() => {
                "go on polling, with `client.resume(key)` or with `steadfast run --base-url URL --key KEY --journal FILE` and the --provider and --product, or the \
                 --profile, that it was sent by; or ask the provider by its reference; \
                 never use a new key before you know"
            }
            Outcome::Unresolved(_) => "ask the provider whether it ran; never use a new key before you know",
        },
        _ if in_use == Some(true) => {
            "nothing: its client has the journal open and carries it on; meanwhile never use a new key"
        }
        _ if in_use.is_none() => {
            "make sure that its client runs, which a copy cannot show: it carries the job on; meanwhile never use a new key"
        }
        Stage::Planned => {
            "start its client, which sends it once it has the payload (kept in the journal, or submitted again)"
        }
        Stage::InFlight | Stage::Unknown => {
            "start its client, which sends it again, looks it up or ends it as unresolved, as the provider allows; never use a new key"
        }
        Stage::Accepted => "start its client, which goes on polling; never use a new key",
        _ => "use the release that wrote this record",
    }
}
