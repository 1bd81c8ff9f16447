//! `ops FILE doctor`: are the files what was written, and which operations need a person?

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;
use steadfast_core::operation::Stage;
use steadfast_core::{Reference, Timestamp};
use steadfast_store::sqlite::{OpenError, Order, Report, Stored, iso8601};

use super::journal::{Look, Opened};
use super::words::{operations, plain, relative};
use super::{NEEDS_A_PERSON, TROUBLE};

/// An operation that was due longer ago than this is overdue: a client that runs is never so late.
const OVERDUE: Duration = Duration::from_secs(300);

/// An outcome that nobody took for so long is told of.
const UNDELIVERED: Duration = Duration::from_secs(3_600);

/// How many operations of a kind are told one by one.
const MOST: usize = 20;

#[derive(Debug, Serialize)]
struct Examination {
    /// When this was so.
    at: Option<String>,
    healthy: bool,
    in_use: bool,
    operations: u64,
    /// How many records the journal has taken.
    sequence: u64,
    states: std::collections::BTreeMap<&'static str, u64>,
    problems: Vec<Problem>,
    findings: Vec<Finding>,
}

/// Something that is wrong with the files.
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
        Ok(opened) => examine(opened)?,
        // What cannot be opened for damage is what a doctor is asked about.
        Err(error) if matches!(error.why, OpenError::Damaged(_)) => damaged(&error.why),
        Err(error) => return Err(error.into()),
    };
    if json {
        writeln!(out, "{}", serde_json::to_string(&examined)?)?;
    } else {
        print(look, &examined, out)?;
    }
    Ok(match (examined.problems.is_empty(), examined.findings.is_empty()) {
        (false, _) => TROUBLE,
        (true, false) => NEEDS_A_PERSON,
        (true, true) => 0,
    })
}

fn damaged(why: &OpenError) -> Examination {
    Examination {
        at: None,
        healthy: false,
        in_use: false,
        operations: 0,
        sequence: 0,
        states: std::collections::BTreeMap::default(),
        problems: vec![Problem { what: why.to_string(), advice: "it cannot be opened, so nothing more is known" }],
        findings: Vec::new(),
    }
}

fn examine(opened: Opened) -> Result<Examination, Box<dyn Error>> {
    let Opened { mut store, now, in_use, .. } = opened;
    let report: Report = store.verify()?;
    let mut unresolved = Finding::new(
        "unresolved",
        "ask the provider whether they ran, or `client.resume(key)` where there is a reference; the client never forgets them (`purge --key` does), \
         and until you know, never use new keys",
    );
    let mut overdue = Finding::new(
        "overdue",
        if in_use {
            "their client has the journal open and is late: see what its gate holds back (breaker, rate limit), and whether it has their payloads"
        } else {
            "nobody has the journal open: start their client, which takes them up"
        },
    );
    let mut undelivered = Finding::new(
        "undelivered",
        "they ended, and nobody took the outcome: submit their keys again with the same payloads, which runs nothing and gives the outcomes",
    );
    store.browse(Order::OldestFirst, |stored| {
        // What is damaged was told by the report.
        if let Ok(stored) = stored {
            let record = &stored.entry.record;
            // A client that lives goes on with an unknown one by itself.
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
    let findings: Vec<Finding> = [unresolved, overdue, undelivered].into_iter().filter(|it| it.count > 0).collect();
    let problems: Vec<Problem> =
        report.problems.into_iter().map(|problem| Problem { what: problem.what, advice: problem.advice }).collect();
    Ok(Examination {
        at: Some(iso8601(now)),
        healthy: findings.is_empty() && problems.is_empty(),
        in_use,
        operations: store.count(),
        sequence: store.watermark().sequence(),
        states: report.states,
        problems,
        findings,
    })
}

/// Whether it waits for longer than a client would let it. A client writes no record for each poll, so of an accepted one nothing is known while one runs.
fn is_overdue(stored: &Stored, now: Timestamp, in_use: bool) -> bool {
    let record = &stored.entry.record;
    let under_way = match record.stage {
        Stage::Planned | Stage::InFlight | Stage::Unknown => true,
        Stage::Accepted => !in_use,
        _ => false,
    };
    // A create that was about to leave has no time on record.
    under_way && record.due.unwrap_or(stored.entry.at) < now.saturating_sub(OVERDUE)
}

fn print(look: &Look, examined: &Examination, out: &mut impl Write) -> std::io::Result<()> {
    let Examination { problems, findings, .. } = examined;
    if examined.at.is_some() {
        let states: Vec<String> = examined.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let states = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
        writeln!(out, "{}{states}; {} records in all", operations(examined.operations), examined.sequence)?;
    }
    if problems.is_empty() {
        writeln!(out, "The files are what was written: rows, chain, head, mark, and SQLite's own check.")?;
    }
    for problem in problems {
        writeln!(out, "DAMAGED: {}\n  {}", plain(&problem.what), problem.advice)?;
    }
    for finding in findings {
        writeln!(out, "\n{} {}: {}", finding.count, finding.kind.to_uppercase(), finding.advice)?;
        for patient in &finding.operations {
            let reference = patient.reference.as_ref().map(|it| format!(", reference {it}")).unwrap_or_default();
            writeln!(out, "  {} ({}{reference}): {}", patient.key, plain(&patient.provider), patient.why)?;
        }
        let more = finding.count.saturating_sub(finding.operations.len() as u64);
        if more > 0 {
            let all = match finding.kind {
                "unresolved" => "list --unresolved",
                "undelivered" => "list --state ended",
                _ => "list --due",
            };
            writeln!(out, "  and {more} more: `steadfast ops {} {all}`", look.name())?;
        }
    }
    if examined.healthy {
        writeln!(out, "Nothing is unresolved, overdue or undelivered.")?;
    }
    Ok(())
}
