//! What a soak found: one structure, shown as tables to people and as JSON to machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use serde::Serialize;
use steadfast_testkit::simulation::{CrashPoint, Fault, History, Invariant, Options, Violation, shrink, simulate};

use crate::timeline;

/// A soak stops after so many.
pub(crate) const MOST_VIOLATIONS: usize = 8;

/// From so many histories on, a kind that was never met is a failure of the soak itself.
const ENOUGH: u64 = 100;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    #[serde(skip)]
    options: Options,
    #[serde(skip)]
    wanted: u64,
    seeds: u64,
    operations: u64,
    resumed: u64,
    withdrawn: u64,
    effects: u64,
    crashes: u64,
    faults: BTreeMap<&'static str, u64>,
    crashes_at: BTreeMap<&'static str, u64>,
    violations: Vec<Finding>,
    histories_per_second: f64,
    invariants: Vec<Checked>,
    /// Kinds of faults, crashes and checks that were never met although there were histories enough: the soak proves
    /// less than it says.
    never_met: Vec<String>,
    elapsed_seconds: f64,
}

/// An invariant, and how it was checked.
#[derive(Debug, Serialize)]
struct Checked {
    invariant: String,
    says: &'static str,
    times: u64,
    /// Where it is proved, if no history can show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    elsewhere: Option<&'static str>,
}

/// A broken invariant, with the smallest history that shows it.
#[derive(Debug, Serialize)]
struct Finding {
    seed: u64,
    invariant: String,
    says: &'static str,
    detail: String,
    /// The same in the smallest history: another job may be the one.
    smallest_detail: String,
    timeline: String,
}

impl Report {
    pub(crate) fn new(options: Options, wanted: u64) -> Self {
        let checked = |invariant: Invariant| Checked {
            invariant: invariant.to_string(),
            says: invariant.says(),
            times: 0,
            elsewhere: invariant.elsewhere(),
        };
        Self {
            options,
            wanted,
            seeds: 0,
            operations: 0,
            resumed: 0,
            withdrawn: 0,
            effects: 0,
            crashes: 0,
            faults: BTreeMap::new(),
            crashes_at: BTreeMap::new(),
            violations: Vec::new(),
            histories_per_second: 0.0,
            invariants: Invariant::all().map(checked).collect(),
            never_met: Vec::new(),
            elapsed_seconds: 0.0,
        }
    }

    pub(crate) fn add(&mut self, seed: u64, history: History) {
        self.seeds += 1;
        self.operations += history.operations;
        self.resumed += history.resumed;
        self.withdrawn += history.withdrawn;
        self.effects += history.effects;
        for (fault, met) in Fault::ALL.iter().zip(&history.faults) {
            *self.faults.entry(fault.name()).or_default() += met;
        }
        for (point, met) in CrashPoint::ALL.iter().zip(&history.crashes_at) {
            *self.crashes_at.entry(point.name()).or_default() += met;
            self.crashes += met;
        }
        for (checked, times) in self.invariants.iter_mut().zip(&history.checked) {
            checked.times += times;
        }
        if let Some(violation) = history.violation.filter(|_| self.violations.len() < MOST_VIOLATIONS) {
            self.violations.push(Finding::new(seed, violation, &self.options));
        }
    }

    pub(crate) fn finish(&mut self, elapsed: Duration) {
        self.elapsed_seconds = elapsed.as_secs_f64();
        self.histories_per_second = self.seeds as f64 / self.elapsed_seconds.max(1e-9);
        if self.seeds < ENOUGH || !self.violations.is_empty() {
            return;
        }
        let faults = self.faults.iter().map(|(name, met)| (format!("the fault {name}"), *met));
        let crashes = self.crashes_at.iter().map(|(name, met)| (format!("a crash at {name}"), *met));
        let checks = self.invariants.iter().filter(|it| it.elsewhere.is_none());
        let checks = checks.map(|it| (format!("a check of {}", it.invariant), it.times));
        let returns = [("an operation that is resumed", self.resumed), ("one that is withdrawn", self.withdrawn)];
        let returns = returns.map(|(name, met)| (name.to_owned(), met));
        let kinds = faults.chain(crashes).chain(checks).chain(returns);
        self.never_met = kinds.filter(|(_, met)| *met == 0).map(|(name, _)| name).collect();
    }

    pub(crate) const fn violations(&self) -> usize {
        self.violations.len()
    }

    pub(crate) fn code(&self) -> ExitCode {
        let clean = self.violations.is_empty() && self.never_met.is_empty();
        if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and text") + "\n"
    }

    pub(crate) fn text(&self, all_invariants: bool) -> String {
        let mut text = String::new();
        let faults = counts("fault", &self.faults);
        let _ = writeln!(text, "{}", side_by_side(&faults, &counts("crash at", &self.crashes_at)));
        self.write_invariants(&mut text, all_invariants);
        for finding in &self.violations {
            finding.write(&mut text, &self.options);
        }
        for name in &self.never_met {
            let _ = writeln!(text, "NEVER MET: {name}: this soak proves less than it should");
        }
        let number = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        let short = self.wanted < u64::MAX && self.seeds < self.wanted;
        let _ = writeln!(
            text,
            "\n{}{}, {} operations ({} resumed, {} withdrawn), {} effects, {}, {}; {:.0} histories per second, {:.1} s",
            number(self.seeds, "history", "histories"),
            if short { format!(" (stopped early, of {})", self.wanted) } else { String::new() },
            self.operations,
            self.resumed,
            self.withdrawn,
            self.effects,
            number(self.crashes, "crash", "crashes"),
            number(self.violations.len() as u64, "violation", "violations"),
            self.histories_per_second,
            self.elapsed_seconds,
        );
        text
    }

    fn write_invariants(&self, text: &mut String, all: bool) {
        let here = || self.invariants.iter().filter(|it| it.elsewhere.is_none() && it.times > 0);
        let times: u64 = here().map(|it| it.times).sum();
        let rarest = here().min_by_key(|it| it.times);
        let rarest =
            rarest.map_or_else(String::new, |it| format!("; the rarest, {}, {} times", it.invariant, it.times));
        let _ = writeln!(text, "{} invariants were checked, {times} times in all{rarest}", here().count());
        if all {
            let mut table = table(["invariant", "checked", "what it says"]);
            for it in &self.invariants {
                let times = if it.elsewhere.is_some() { "elsewhere".into() } else { it.times.to_string() };
                table.add_row([Cell::new(&it.invariant), right(times), Cell::new(it.says)]);
            }
            let _ = writeln!(text, "{table}");
        } else {
            let _ = writeln!(text, "  --invariants lists them with what they say");
        }
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for it in &self.invariants {
            let Some(why) = it.elsewhere else { continue };
            match reasons.iter_mut().find(|(known, _)| *known == why) {
                Some((_, names)) => names.push(&it.invariant),
                None => reasons.push((why, vec![&it.invariant])),
            }
        }
        let _ = writeln!(text, "invariants that no history can show:");
        for (why, names) in reasons {
            let _ = writeln!(text, "  {}: {why}", names.join(", "));
        }
    }
}

impl Finding {
    fn new(seed: u64, violation: Violation, options: &Options) -> Self {
        let history = simulate(seed, &shrink(seed, options));
        let smallest = history.violation.as_ref().map_or_else(|| violation.detail.clone(), |it| it.detail.clone());
        Self {
            seed,
            invariant: violation.invariant.to_string(),
            says: violation.invariant.says(),
            detail: violation.detail,
            smallest_detail: smallest,
            timeline: timeline::told(&history),
        }
    }

    fn write(&self, text: &mut String, options: &Options) {
        let Self { seed, invariant, says, detail, smallest_detail, timeline } = self;
        let flaw = options.flaw.map_or_else(String::new, |flaw| format!(" --flaw {}", flaw.name()));
        let _ = writeln!(text, "\nVIOLATION of {invariant} ({says}), seed {seed}\n  {detail}");
        let _ = writeln!(text, "\nthe smallest history that shows it:\n{timeline}  → {smallest_detail}");
        let _ = writeln!(text, "\nwhole: cargo run --release -p steadfast-tests --bin soak -- --seed {seed}{flaw}");
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// Names and numbers, the ones that were met.
fn counts(title: &str, list: &BTreeMap<&str, u64>) -> Vec<[String; 2]> {
    let met = list.iter().filter(|(_, count)| **count > 0);
    let rows = met.map(|(name, count)| [(*name).to_owned(), count.to_string()]);
    std::iter::once([title.to_owned(), "times".to_owned()]).chain(rows).collect()
}

fn side_by_side(left: &[[String; 2]], other: &[[String; 2]]) -> Table {
    let row = |at: usize| [left, other].map(|list| list.get(at).cloned().unwrap_or_default());
    let [[a, b], [c, d]] = row(0);
    let mut table = table([&a, &b, &c, &d]);
    for at in 1..left.len().max(other.len()) {
        let [[a, b], [c, d]] = row(at);
        table.add_row([Cell::new(a), right(b), Cell::new(c), right(d)]);
    }
    table
}
