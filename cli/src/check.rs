//! `steadfast check`: explains a file of policies or a provider's description: what it says, when its attempts and
//! polls start, and what in it is doubtful.

mod chart;
mod doubts;
mod times;
mod words;

use std::error::Error;
use std::io::stdout;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;
use steadfast_core::explain::Span;
use steadfast_providers::document::{Document, Format};
use steadfast_providers::profile::Profile;
use steadfast_tokio::Policies;
use terminal_size::{Width, terminal_size_of};

use self::times::Start;
use self::words::Worst;
use crate::ops::name;
use crate::{input, profile};

/// Explain a file of policies: what it says, when each attempt and poll starts, and what in it is doubtful.
///
/// The file is TOML, JSON or YAML, as a client's `Builder::policies` takes it; or it is a provider's description (a
/// *profile*), whose policy is explained. Nothing is sent, and no secret is needed. What a file of policies does not
/// name stays as the profile that `--over` names has it, or else as the defaults are.
///
/// Exit codes: 0 the file is valid, with or without doubts; 64 the command line or the file is wrong (with --json,
/// {"error": …} says how).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file, or the name of a profile that comes with this program.
    file: PathBuf,
    /// The profile that a file of policies changes: a file, or the name of a profile that comes with this program.
    #[arg(long, value_name = "PROFILE")]
    over: Option<PathBuf>,
    /// The seed of the jitter in the runs behind the medians and the chart.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// The result, and its JSON. Times are in milliseconds, rounded down.
#[derive(Serialize)]
struct Report {
    kind: &'static str,
    /// The profile's name.
    name: Option<String>,
    policy: Vec<String>,
    gate: Vec<String>,
    doubts: Vec<String>,
    /// Starts of creates, since the submit.
    creates: Vec<Line>,
    /// Starts of polls of a job that stays pending, since it was accepted.
    polls: Vec<Line>,
    /// Attempts and polls beyond those listed.
    creates_not_listed: u16,
    polls_not_listed: u16,
    worst_case_ms: WorstCase,
    seed: u64,
}

#[derive(Serialize)]
struct Line {
    number: u16,
    earliest_ms: Option<u64>,
    median_ms: Option<u64>,
    latest_ms: Option<u64>,
    /// The latest start if each earlier attempt lasts as long as it may.
    slow_ms: Option<u64>,
    /// In how many of a hundred runs this attempt starts before the deadline.
    reached_percent: u64,
}

#[derive(Serialize)]
struct WorstCase {
    create: u64,
    lookup: u64,
    poll: u64,
    total: u64,
}

/// What the file says, and what is to be explained.
struct Explained {
    kind: &'static str,
    profile: Option<Profile>,
    policies: Policies,
}

pub(crate) fn check(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let it = read(args)?;
    let Policies { policy, gate, .. } = &it.policies;
    let creates = times::attempts(policy.create(), args.seed);
    let polls = times::polls(policy.poll(), args.seed);
    let worst = Worst::of(policy);
    let has_webhooks = it.profile.as_ref().is_some_and(Profile::describes_webhooks);
    let report = Report {
        kind: it.kind,
        name: it.profile.as_ref().map(|profile| profile.name().to_owned()),
        policy: words::operation(policy),
        gate: words::gate(gate),
        doubts: doubts::doubts(policy, gate, (&creates, &polls), has_webhooks, args.seed),
        creates: creates.iter().map(Line::of).collect(),
        polls: polls.iter().map(Line::of).collect(),
        creates_not_listed: policy.create().attempts().saturating_sub(times::MOST),
        polls_not_listed: policy.poll().polls().saturating_sub(times::MOST),
        worst_case_ms: WorstCase {
            create: millis(worst.create),
            lookup: millis(worst.lookup),
            poll: millis(worst.poll),
            total: millis(worst.total()),
        },
        seed: args.seed,
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        tell(&it, &report, &creates, &polls);
    }
    Ok(ExitCode::SUCCESS)
}

fn read(args: &Args) -> Result<Explained, Box<dyn Error>> {
    let of_profile = |kind, profile: Profile| Explained {
        kind,
        policies: Policies { policy: profile.policy().clone(), gate: profile.gate().clone(), ..Policies::default() },
        profile: Some(profile),
    };
    let takes_none =
        "--over goes with a file of policies, and this is a profile, which has its own policy: leave --over out";
    if profile::name_of_shipped(&args.file).is_some() {
        if args.over.is_some() {
            return Err(takes_none.into());
        }
        return Ok(of_profile("profile", profile::read(&args.file)?));
    }
    let document = document(&args.file, "file")?;
    let wrong = |error| format!("{}, {error}", name(&args.file));
    if Profile::is_meant_by(&document) {
        if args.over.is_some() {
            return Err(takes_none.into());
        }
        return Ok(of_profile("profile", Profile::read_from(&document).map_err(wrong)?));
    }
    let own = match &args.over {
        Some(file) => of_profile("policies", profile::read(file)?),
        None => Explained { kind: "policies", profile: None, policies: Policies::default() },
    };
    let policies = own.policies.changed_by(&document).map_err(wrong)?;
    Ok(Explained { policies, ..own })
}

/// Parses the file in the format of its extension; without a known extension, as JSON if it begins with a brace, else
/// as TOML.
pub(crate) fn document(file: &Path, what: &str) -> Result<Document, Box<dyn Error>> {
    let unreadable = |error: &dyn Error| {
        let known =
            if what == "profile" { "; `steadfast profile list` lists those that come with this program" } else { "" };
        format!("the {what} {} cannot be read: {error}{known}", name(file))
    };
    let wrong = |line: usize, problem: &str| format!("{}, line {line}: {problem}", name(file));
    let bytes = input::file(file, Document::MAX_LEN).map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let read = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + read.iter().filter(|byte| **byte == b'\n').count();
        wrong(line, "this is not UTF-8 text: save the file as UTF-8")
    })?;
    let begin = text.trim_start_matches('\u{feff}').trim_start();
    let guess = if begin.starts_with('{') { Format::Json } else { Format::Toml };
    let format = Format::of(file).unwrap_or(guess);
    Ok(Document::parse(&text, format).map_err(|error| format!("{}, {error}", name(file)))?)
}

fn tell(it: &Explained, report: &Report, creates: &[Start], polls: &[Start]) {
    let width = width();
    match &it.profile {
        Some(profile) => describe(profile),
        None => println!("policies, over the defaults"),
    }
    println!();
    for sentence in report.policy.iter().chain(&report.gate) {
        println!("{}", wrapped(sentence, "- ", width));
    }
    if !report.doubts.is_empty() {
        println!("\nDoubtful:");
    }
    for doubt in &report.doubts {
        println!("{}", wrapped(doubt, "! ", width));
    }
    let policy = &it.policies.policy;
    let timeout = policy.create().attempt_timeout();
    let heading = format!(
        "Creates, counted from the submit: earliest to latest if each before fails at once, slow if each before takes {}",
        Span(timeout)
    );
    println!("\n{}", wrapped(&heading, "", width));
    show("attempt", creates, report.creates_not_listed, width);
    let timeout = policy.poll().retry().attempt_timeout();
    let heading = format!(
        "Polls of a job that stays pending, counted from its acceptance: earliest to latest if each before is answered at once, slow if each before takes {}",
        Span(timeout)
    );
    println!("\n{}", wrapped(&heading, "", width));
    show("poll", polls, report.polls_not_listed, width);
    let worst = Worst::of(policy);
    println!("\nAt worst a job ends {} after its submit", Span(worst.total()));
}

fn show(what: &str, starts: &[Start], more: u16, width: usize) {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([what, "earliest", "median", "latest", "slow", "reached"]);
    let time = |at: Option<Duration>| at.map_or_else(|| "-".to_owned(), |at| Span(at).to_string());
    for start in starts {
        table.add_row([
            start.number.to_string(),
            time(start.earliest),
            time(start.median),
            time(start.latest),
            time(start.slow),
            format!("{}%", start.reached()),
        ]);
    }
    println!("{table}");
    if more > 0 {
        println!("and {more} more");
    }
    let drawn = chart::chart(what, starts, width);
    if !drawn.is_empty() {
        println!("\n{drawn}");
    }
}

/// Prints what a profile says; without a terminal, lines are not wrapped.
pub(crate) fn describe(profile: &Profile) {
    for line in profile.describe().lines() {
        let (name, what) = line.split_at_checked(NAMES).filter(|_| line.starts_with("  ")).unwrap_or(("", line));
        println!("{}", wrapped(what, name, columns().unwrap_or(usize::MAX)));
    }
}

/// The width of the names' column before what a profile says.
const NAMES: usize = 13;

/// The terminal's width; 100 without a terminal.
fn width() -> usize {
    columns().unwrap_or(100)
}

/// The terminal's width, if there is a terminal.
pub(crate) fn columns() -> Option<usize> {
    terminal_size_of(stdout()).map(|(Width(columns), _)| usize::from(columns).clamp(40, 160))
}

/// Wraps a sentence to this width; the first line begins with this mark.
fn wrapped(sentence: &str, mark: &str, width: usize) -> String {
    let mut lines = vec![mark.to_owned()];
    for word in sentence.split(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line + word.chars().count() > width && line > mark.len() {
            lines.push(" ".repeat(mark.len()));
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
            line.push(' ');
        }
    }
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
    lines.join("\n")
}

impl Line {
    fn of(start: &Start) -> Self {
        let Start { number, earliest, median, latest, slow, .. } = start;
        let ms = |at: &Option<Duration>| at.map(millis);
        Self {
            number: *number,
            earliest_ms: ms(earliest),
            median_ms: ms(median),
            latest_ms: ms(latest),
            slow_ms: ms(slow),
            reached_percent: start.reached(),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
