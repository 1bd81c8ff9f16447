//! `ops FILE doctor`: are the files what was written, and which operations need a person?

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;
use steadfast_core::operation::Stage;
use steadfast_core::{Reference, Timestamp};
use steadfast_store::sqlite::{Mark, Order, Report, Stored, iso8601};
use steadfast_store::{SqliteStore, StoreError};

use super::journal::{self, Look, Opened};
use super::list::LIMIT;
use super::words::{argument, operations, plain, relative, steps};
use super::{NEEDS_A_PERSON, TROUBLE};

/// An operation that was due longer ago than this is overdue: a running client is never that late.
const OVERDUE: Duration = Duration::from_secs(300);

/// An outcome that has not been delivered for this long is reported.
const UNDELIVERED: Duration = Duration::from_secs(3_600);

/// How many operations of a kind are listed one by one.
const MOST: usize = 20;

#[derive(Debug, Serialize)]
struct Examination {
    /// When this was so.
    at: Option<String>,
    healthy: bool,
    /// `null` if it cannot be told.
    in_use: Option<bool>,
    operations: u64,
    /// How many steps the journal has taken: records, and operations that it has forgotten.
    sequence: u64,
    states: BTreeMap<&'static str, u64>,
    problems: Vec<Problem>,
    /// `whole`, `missing` or `unreadable`; `null` if the journal could not be opened.
    mark: Option<&'static str>,
    /// What keeps this examination from being certain.
    warnings: Vec<Problem>,
    findings: Vec<Finding>,
}

/// A fault in the files, or a file that is missing beside them.
#[derive(Debug, Serialize)]
struct Problem {
    what: String,
    advice: &'static str,
}

/// Operations that need a person.
#[derive(Debug, Serialize)]
struct Finding {
    kind: &'static str,
    count: u64,
    advice: &'static str,
    /// The first of them.
    operations: Vec<Patient>,
}

#[derive(Debug, Serialize)]
struct Patient {
    key: String,
    provider: String,
    reference: Option<String>,
    why: String,
}

impl Finding {
    const fn new(kind: &'static str, advice: &'static str) -> Self {
        Self { kind, count: 0, advice, operations: Vec::new() }
    }

    fn add(&mut self, stored: &Stored, why: impl FnOnce() -> String) {
        self.count += 1;
        if self.operations.len() < MOST {
            self.operations.push(Patient {
                key: stored.entry.record.key.as_str().to_owned(),
                provider: stored.entry.provider.as_ref().to_owned(),
                reference: stored.entry.record.reference.as_ref().map(Reference::as_str).map(str::to_owned),
                why: why(),
            });
        }
    }
}

pub(crate) fn doctor(look: &Look, json: bool, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    let examined = match look.open() {
        Ok(opened) => examine(look, opened)?,
        // Damage that keeps the journal from being opened is a finding, not an error.
        Err(error) if error.is_damage => damaged(error.what()),
        Err(error) => return Err(error.into()),
    };
    if json {
        writeln!(out, "{}", serde_json::to_string(&examined)?)?;
    } else {
        print(look, &examined, out)?;
    }
    Ok(match (examined.problems.is_empty(), examined.findings.is_empty() && examined.warnings.is_empty()) {
        (false, _) => TROUBLE,
        (true, false) => NEEDS_A_PERSON,
        (true, true) => 0,
    })
}

fn damaged(what: String) -> Examination {
    Examination {
        at: None,
        healthy: false,
        in_use: None,
        operations: 0,
        sequence: 0,
        states: BTreeMap::new(),
        problems: vec![Problem { what, advice: "it cannot be opened, so nothing more is known" }],
        mark: None,
        warnings: Vec::new(),
        findings: Vec::new(),
    }
}

/// The consequence of a mark that cannot vouch for the journal.
const NO_WITNESS: &str = "so nobody knows whether the log lost its end, in a crash or since it was not copied along: records may be gone without a trace. \
                          FILE, FILE-wal and FILE-mark belong together: if this is a copy, take one of all three; else compare with what you know \
                          was submitted last. No client starts on it but one that opens it as a backup (`SqliteStore::open_backup`, `run --from-backup`)";

/// The same, while a client has the journal open.
const NO_WITNESS_YET: &str = "and it is written anew with its client's next record, since that one knows how far the journal has come: look again then. If the \
                              client ends before, only one starts on it that begins as on a backup (`run --from-backup`)";

/// Where to get a copy to restore, and how to start with it.
const COPIES: &str = "A copy to restore from is what `steadfast ops FILE copy OUT` wrote earlier: put OUT and OUT-mark in the journal's place, remove \
                      FILE-wal, and start the client with `from_backup()` on its builder (`steadfast run --from-backup`)";

fn mark(look: &Look, mark: Mark, in_use: Option<bool>) -> (&'static str, Option<Problem>) {
    let name = look.name();
    let what = match mark {
        Mark::Whole => return (journal::named(mark), None),
        Mark::Missing => format!("there is no {name}-mark"),
        _ => format!("{name}-mark is not what was written"),
    };
    (
        journal::named(mark),
        Some(Problem { what, advice: if in_use == Some(true) { NO_WITNESS_YET } else { NO_WITNESS } }),
    )
}

fn examine(look: &Look, opened: Opened) -> Result<Examination, Box<dyn Error>> {
    let Opened { mut store, now, in_use, .. } = opened;
    let report: Report = store.verify()?;
    let findings = findings(&mut store, now, in_use)?;
    let problems: Vec<Problem> =
        report.problems.into_iter().map(|problem| Problem { what: problem.what, advice: problem.advice }).collect();
    let (mark, warning) = mark(look, report.mark, in_use);
    Ok(Examination {
        at: Some(iso8601(now)),
        healthy: findings.is_empty() && problems.is_empty() && warning.is_none(),
        in_use,
        operations: store.count(),
        sequence: store.watermark().sequence(),
        states: report.states,
        problems,
        mark: Some(mark),
        warnings: warning.into_iter().collect(),
        findings,
    })
}

/// What is unresolved, overdue or undelivered.
fn findings(store: &mut SqliteStore, now: Timestamp, in_use: Option<bool>) -> Result<Vec<Finding>, StoreError> {
    let mut unresolved = Finding::new(
        "unresolved",
        "ask the provider whether they ran; where there is a reference, `steadfast run --base-url URL --key KEY --journal FILE` (with the --provider \
         and --product, or the --profile, that it was sent by) or `client.resume(key)` polls on; \
         the client never forgets them (`steadfast ops FILE purge --key KEY` does), and until you know, never use new keys",
    );
    let mut overdue = Finding::new(
        "overdue",
        match in_use {
            Some(true) => {
                "their client has the journal open and is late: see what its gate holds back (breaker, rate limit), and whether it has their payloads"
            }
            Some(false) => "nobody has the journal open: start their client, which takes them up",
            None => {
                "make sure that their client runs, which a copy cannot show; one that runs is late: see what its gate holds back (breaker, rate limit), \
                 and whether it has their payloads"
            }
        },
    );
    let mut undelivered = Finding::new(
        "undelivered",
        "they ended, and nobody took the outcome: `client.resume(key)` gives it, as does `steadfast run --base-url URL --key KEY --journal FILE` without --payload \
         (with the --provider and --product, or the --profile, that it was sent by); to submit their keys again with the same payloads runs nothing and gives it too, \
         but the keys of rejected ones are free, so to submit one of those begins a new job",
    );
    store.browse(Order::OldestFirst, |stored| {
        // A damaged row is in the report already.
        if let Ok(stored) = stored {
            let record = &stored.entry.record;
            // A running client continues an operation in the *unknown* stage by itself.
            if stored.outcome().is_some() && stored.is_unresolved() {
                unresolved.add(&stored, || stored.outcome().map_or("", |outcome| outcome.explain()).to_owned());
            }
            if is_overdue(&stored, now, in_use) {
                let due = record.due.unwrap_or(stored.entry.at);
                overdue.add(&stored, || format!("{}, due {}", stored.state(), relative(due, now)));
            }
            let ended = stored.ended.unwrap_or(stored.entry.at);
            if matches!(record.stage, Stage::Ended(_)) && ended < now.saturating_sub(UNDELIVERED) {
                let outcome = stored.outcome().map_or("", |outcome| outcome.name());
                undelivered.add(&stored, || format!("{outcome}, ended {}", relative(ended, now)));
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok([unresolved, overdue, undelivered].into_iter().filter(|it| it.count > 0).collect())
}

/// Whether it has waited longer than a client would let it. A client writes no record for each poll, so nothing is
/// known of an accepted operation while a client may be running.
fn is_overdue(stored: &Stored, now: Timestamp, in_use: Option<bool>) -> bool {
    let record = &stored.entry.record;
    let under_way = match record.stage {
        Stage::Planned | Stage::InFlight | Stage::Unknown => true,
        Stage::Accepted => in_use == Some(false),
        _ => false,
    };
    // Some records have no due time.
    under_way && record.due.unwrap_or(stored.entry.at) < now.saturating_sub(OVERDUE)
}

fn print(look: &Look, examined: &Examination, out: &mut impl Write) -> std::io::Result<()> {
    let Examination { problems, warnings, findings, .. } = examined;
    if examined.at.is_some() {
        let states: Vec<String> = examined.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let states = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
        writeln!(out, "{}{states}; {} in all", operations(examined.operations), steps(examined.sequence))?;
    }
    if problems.is_empty() {
        let (what, mark) = if warnings.is_empty() { ("The files are", " mark,") } else { ("What is here is", "") };
        writeln!(out, "{what} what was written: rows, chain, head,{mark} and SQLite's own check.")?;
    }
    for warning in warnings {
        writeln!(out, "WARNING: {},\n  {}", plain(&warning.what), warning.advice)?;
    }
    for problem in problems {
        writeln!(out, "DAMAGED: {}\n  {}", plain(&problem.what), problem.advice)?;
    }
    if !problems.is_empty() {
        writeln!(out, "{COPIES}")?;
    }
    for finding in findings {
        writeln!(out, "\n{} {}: {}", finding.count, finding.kind.to_uppercase(), finding.advice)?;
        for patient in &finding.operations {
            let reference =
                patient.reference.as_ref().map(|it| format!(", reference {}", plain(it))).unwrap_or_default();
            writeln!(out, "  {} ({}{reference}): {}", patient.key, plain(&patient.provider), patient.why)?;
        }
        let more = finding.count.saturating_sub(finding.operations.len() as u64);
        if more > 0 {
            let all = match finding.kind {
                "unresolved" => "list --unresolved",
                "undelivered" => "list --state ended",
                // Not by the due time: a create that was about to leave has none on record.
                _ => "list --state planned --state in_flight --state unknown --state accepted",
            };
            let limit =
                if examined.operations > LIMIT { format!(" --limit {}", examined.operations) } else { String::new() };
            writeln!(out, "  and {more} more: `steadfast ops {} {all}{limit}`", argument(&look.file))?;
        }
    }
    if examined.healthy {
        writeln!(out, "Nothing is unresolved, overdue or undelivered.")?;
    }
    Ok(())
}
