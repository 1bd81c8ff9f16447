//! What a soak found: one structure, shown as tables to people and as JSON to machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;
use steadfast_core::explain::explain;
use steadfast_testkit::simulation::{
    CrashPoint, Fault, History, Invariant, Options, Violation, What, shrink, simulate,
};

/// A soak stops after so many.
pub(crate) const MOST_VIOLATIONS: usize = 8;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    #[serde(skip)]
    options: Options,
    seeds: u64,
    operations: u64,
    effects: u64,
    crashes: u64,
    faults: BTreeMap<&'static str, u64>,
    crashes_at: BTreeMap<&'static str, u64>,
    violations: Vec<Finding>,
    histories_per_second: f64,
    /// How often each invariant was checked.
    checks: BTreeMap<String, u64>,
    /// Invariants that no history can show, and where they are proved.
    checked_elsewhere: BTreeMap<String, &'static str>,
    /// Kinds of faults, crashes and checks that were never met although there were seeds enough: the soak proves less than it says.
    never_met: Vec<String>,
    elapsed_seconds: f64,
}

/// A broken invariant, with the smallest history that shows it.
#[derive(Debug, Serialize)]
struct Finding {
    seed: u64,
    invariant: String,
    says: &'static str,
    detail: String,
    timeline: String,
}

/// From so many seeds on, a kind that was never met is a failure of the soak itself.
const ENOUGH: u64 = 100;

impl Report {
    pub(crate) fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    pub(crate) fn add(&mut self, seed: u64, history: History) {
        self.seeds += 1;
        self.operations += history.operations;
        self.effects += history.effects;
        for (fault, met) in Fault::ALL.iter().zip(&history.faults) {
            *self.faults.entry(fault.name()).or_default() += met;
        }
        for (point, met) in CrashPoint::ALL.iter().zip(&history.crashes_at) {
            *self.crashes_at.entry(point.name()).or_default() += met;
            self.crashes += met;
        }
        for (invariant, checked) in Invariant::all().zip(&history.checked) {
            if invariant.elsewhere().is_none() {
                *self.checks.entry(invariant.to_string()).or_default() += checked;
            }
        }
        if let Some(violation) = history.violation {
            self.violations.push(Finding::new(seed, &violation, &self.options));
        }
    }

    pub(crate) fn finish(&mut self, elapsed: Duration) {
        self.elapsed_seconds = elapsed.as_secs_f64();
        self.histories_per_second = self.seeds as f64 / self.elapsed_seconds.max(1e-9);
        for invariant in Invariant::all() {
            if let Some(why) = invariant.elsewhere() {
                self.checked_elsewhere.insert(invariant.to_string(), why);
            }
        }
        if self.seeds < ENOUGH {
            return;
        }
        let faults = self.faults.iter().map(|(name, met)| (format!("fault {name}"), *met));
        let crashes = self.crashes_at.iter().map(|(name, met)| (format!("crash at {name}"), *met));
        let checks = self.checks.iter().map(|(name, met)| (format!("check of {name}"), *met));
        self.never_met =
            faults.chain(crashes).chain(checks).filter(|(_, met)| *met == 0).map(|(name, _)| name).collect();
    }

    pub(crate) const fn violations(&self) -> usize {
        self.violations.len()
    }

    pub(crate) const fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.never_met.is_empty()
    }

    pub(crate) fn print_json(&self) {
        println!("{}", serde_json::to_string_pretty(self).expect("numbers and text"));
    }

    pub(crate) fn print_table(&self) {
        println!("{}", counts(&[("fault", &self.faults), ("crash at", &self.crashes_at)]));
        println!("invariants checked in every history: {}", listed(&self.checks));
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, why) in &self.checked_elsewhere {
            reasons.entry(why).or_default().push(name);
        }
        println!("invariants that no history can show:");
        for (why, names) in reasons {
            println!("  {}: {why}", names.join(", "));
        }
        for finding in self.violations.iter().take(MOST_VIOLATIONS) {
            println!("\nVIOLATION of {} ({}), seed {}", finding.invariant, finding.says, finding.seed);
            println!("  {}\n\nthe smallest history that shows it:\n{}", finding.detail, finding.timeline);
            let flaw = self.options.flaw.map_or_else(String::new, |flaw| format!(" --flaw {}", flaw.name()));
            println!("again: cargo run --release -p steadfast-tests --bin soak -- --seed {}{flaw}", finding.seed);
        }
        for name in &self.never_met {
            println!("NEVER MET: {name}: this soak proves less than it should");
        }
        println!(
            "\n{} histories, {} operations, {} effects, {} crashes, {} violations; {:.0} histories per second, {:.1} s",
            self.seeds,
            self.operations,
            self.effects,
            self.crashes,
            self.violations.len(),
            self.histories_per_second,
            self.elapsed_seconds,
        );
    }
}

impl Finding {
    fn new(seed: u64, violation: &Violation, options: &Options) -> Self {
        let smallest = shrink(seed, options);
        let history = simulate(seed, &smallest);
        let shown = history.violation.as_ref().unwrap_or(violation);
        Self {
            seed,
            invariant: shown.invariant.to_string(),
            says: shown.invariant.says(),
            detail: shown.detail.clone(),
            timeline: timeline(&history),
        }
    }
}

/// What happened, a line each.
pub(crate) fn timeline(history: &History) -> String {
    let mut text = String::new();
    let start = history.entries.first().map(|entry| entry.at);
    for entry in &history.entries {
        let since = start.map_or(Duration::ZERO, |start| entry.at.saturating_since(start));
        let job = entry.job.map_or_else(|| "      ".into(), |job| format!("job {job:<2}"));
        let what = match &entry.what {
            What::World(text) => format!("· {text}"),
            What::Notice(notice, clock) => {
                let line = explain(notice, *clock);
                format!("{} {line}", line.mark())
            }
            _ => continue,
        };
        let _ = writeln!(text, "{:>11.3} s  {job}  {what}", since.as_secs_f64());
    }
    text
}

/// Two columns of names and numbers for each list, side by side.
fn counts(lists: &[(&str, &BTreeMap<&str, u64>)]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(
        lists.iter().flat_map(|(title, _)| [Cell::new(title), Cell::new("times").set_alignment(CellAlignment::Right)]),
    );
    let rows = lists.iter().map(|(_, list)| list.len()).max().unwrap_or_default();
    for row in 0..rows {
        table.add_row(lists.iter().flat_map(|(_, list)| {
            let (name, count) = list
                .iter()
                .nth(row)
                .map_or((String::new(), String::new()), |(name, count)| ((*name).into(), count.to_string()));
            [Cell::new(name), Cell::new(count).set_alignment(CellAlignment::Right)]
        }));
    }
    table
}

/// `I1 ×12, I2 ×7`, in the order of the list.
fn listed(checks: &BTreeMap<String, u64>) -> String {
    let shown = Invariant::all().map(|invariant| invariant.to_string());
    let shown = shown.filter_map(|name| checks.get(&name).map(|count| format!("{name} ×{count}")));
    shown.collect::<Vec<_>>().join(", ")
}
