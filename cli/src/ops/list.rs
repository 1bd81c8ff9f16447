//! `ops FILE list`: one line per operation, the newest first.
//!
//! Rows are read one by one and only those that are shown are kept, so a journal of any size can be listed. Printing
//! begins once the journal is closed again, so that paging through the list keeps no client out.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{Write, stdout};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, Table};
use serde::Serialize;
use steadfast_core::explain::Span;
use steadfast_core::{Outcome, Timestamp};
use steadfast_store::sqlite::{Order, Stored, iso8601};
use terminal_size::{Width, terminal_size_of};

use super::TROUBLE;
use super::journal::{self, Look, Opened};
use super::row::Row;
use super::words::{argument, operations, plain, relative};

/// List operations, the newest first.
///
/// An operation is listed if it passes all filters. `CREATES` is how many creates were begun, and `REQUESTS` how many
/// requests in all: creates, polls and look-ups. `DUE` is when its next step is. The last two are from its last record,
/// and a client writes none for each poll: for an accepted operation, later polls are not counted, and `DUE` is when
/// it was first to be polled.
///
/// A damaged row is reported, and the exit code is 1. But a list does not verify what rows do not show by themselves,
/// such as a missing row: `doctor` and `export` do.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Filters {
    /// Only operations in this state; repeat it for several.
    #[arg(long)]
    state: Vec<State>,
    /// Only operations with this outcome; repeat it for several.
    #[arg(long)]
    outcome: Vec<Ended>,
    /// Only sent to this provider: the whole name, such as `deepvue/driving-license`.
    #[arg(long)]
    provider: Option<String>,
    /// Only submitted longer ago than this: `90s`, `1h`, `2d`.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Only operations that are under way and due by now, as the journal has it: a client that runs has polled since.
    #[arg(long)]
    due: bool,
    /// Only operations that may have run, with an unknown result.
    #[arg(long)]
    unresolved: bool,
    /// Only keys that begin with this.
    #[arg(long, value_name = "TEXT")]
    key_prefix: Option<String>,
    /// At most this many; how many were left out is reported.
    #[arg(long, value_name = "N", default_value_t = LIMIT)]
    limit: u64,
}

/// How many are listed unless more are asked for.
pub(super) const LIMIT: u64 = 100;

/// The index of the providers' column.
const PROVIDER: usize = 1;

/// The most providers that are named.
const PROVIDERS: usize = 20;

impl Default for Filters {
    fn default() -> Self {
        let (state, outcome, provider, key_prefix) = (Vec::new(), Vec::new(), None, None);
        Self { state, outcome, provider, older_than: None, due: false, unresolved: false, key_prefix, limit: LIMIT }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum State {
    /// Certainly not sent yet.
    Planned,
    /// A create is about to leave or has left.
    #[value(name = "in_flight", alias = "in-flight")]
    InFlight,
    /// A create may have run; none is in flight.
    Unknown,
    /// The provider has accepted the job.
    Accepted,
    /// It has ended; the outcome may not have been delivered yet.
    Ended,
    /// It has ended, and the outcome was delivered.
    Delivered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ended {
    Completed,
    Rejected,
    Failed,
    Unresolved,
}

/// Whether none is asked for, or one of this name.
fn pass(asked_for: &[impl ValueEnum], name: Option<&str>) -> bool {
    let names = || asked_for.iter().filter_map(ValueEnum::to_possible_value);
    asked_for.is_empty() || names().any(|value| Some(value.get_name()) == name)
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    steadfast_core::policy::humane::parse(text).map_err(|expected| format!("it must be {expected}"))
}

impl Filters {
    /// Whether every operation passes, so that no counting is needed.
    fn is_none(&self) -> bool {
        Self { limit: LIMIT, ..self.clone() } == Self::default()
    }

    fn pass(&self, stored: &Stored, now: Timestamp) -> bool {
        let record = &stored.entry.record;
        let old = |age: &Duration| record.submitted < now.saturating_sub(*age);
        pass(&self.state, Some(stored.state()))
            && pass(&self.outcome, stored.outcome().map(Outcome::name))
            && self.provider.as_deref().is_none_or(|name| name == &*stored.entry.provider)
            && self.older_than.as_ref().is_none_or(old)
            && (!self.due || record.due.is_some_and(|due| due <= now))
            && (!self.unresolved || stored.is_unresolved())
            && self.key_prefix.as_deref().is_none_or(|prefix| record.key.as_str().starts_with(prefix))
    }
}

#[derive(Debug, Serialize)]
struct Listing<'a> {
    /// When this was so.
    at: String,
    /// `null` if it cannot be told.
    in_use: Option<bool>,
    /// `whole`, `missing` or `unreadable`: only a whole one vouches for the newest records.
    mark: &'static str,
    operations: Vec<Row<'a>>,
    left_out: u64,
    damaged: &'a [String],
}

pub(crate) fn list(look: &Look, filters: &Filters, json: bool, out: &mut impl Write) -> Result<u8, Box<dyn Error>> {
    let Opened { mut store, now, in_use, .. } = look.open()?;
    let (mut shown, mut passed, mut damaged, mut providers) = (Vec::new(), 0_u64, Vec::new(), BTreeSet::new());
    let total = store.count();
    store.browse(Order::NewestFirst, |stored| {
        if let Ok(stored) = &stored
            && filters.provider.is_some()
            && !providers.contains(&stored.entry.provider)
        {
            providers.insert(stored.entry.provider.clone());
        }
        match stored {
            Ok(mut stored) if filters.pass(&stored, now) => {
                passed += 1;
                if passed <= filters.limit {
                    // Neither is shown, and they can be large.
                    (stored.entry.payload, stored.entry.answer) = (None, None);
                    shown.push(stored);
                }
            }
            Ok(_) => {}
            Err(error) => damaged.push(error.to_string()),
        }
        let enough = filters.is_none() && passed >= filters.limit;
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let mark = store.mark();
    drop(store);
    let broke_off = filters.is_none() && passed >= filters.limit;
    let matched = if broke_off { total.saturating_sub(damaged.len() as u64) } else { passed };
    let left_out = matched.saturating_sub(shown.len() as u64);

    if json {
        let operations = shown.iter().map(Row::of).collect();
        let listing =
            Listing { at: iso8601(now), in_use, mark: journal::named(mark), operations, left_out, damaged: &damaged };
        writeln!(out, "{}", serde_json::to_string(&listing)?)?;
    } else {
        print(&shown, now, out)?;
        out.flush()?;
        if shown.is_empty() && left_out == 0 {
            let what = if total == 0 { "the journal holds no operation" } else { "no operation passes these filters" };
            eprintln!("steadfast: {what}{}", other_than(filters.provider.as_deref(), &providers));
        }
        if left_out > 0 {
            eprintln!("steadfast: {} more left out: raise --limit, or name filters", operations(left_out));
        }
    }
    look.warn_of(mark);
    for what in &damaged {
        eprintln!("steadfast: not shown, since it is damaged: {what}");
    }
    if damaged.is_empty() {
        return Ok(0);
    }
    eprintln!("steadfast: `steadfast ops {} doctor` tells what to do", argument(&look.file));
    Ok(TROUBLE)
}

/// The providers that there are, if the one asked for is not among them.
fn other_than(asked_for: Option<&str>, providers: &BTreeSet<Arc<str>>) -> String {
    match asked_for {
        Some(name) if !providers.is_empty() && !providers.contains(name) => {
            let names: Vec<String> = providers.iter().take(PROVIDERS).map(|name| plain(name).into_owned()).collect();
            let more = if providers.len() > PROVIDERS { " …" } else { "" };
            format!(": nothing was sent to {}, but to {}{more}", plain(name), names.join(", "))
        }
        _ => String::new(),
    }
}

fn print(shown: &[Stored], now: Timestamp, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    if shown.is_empty() {
        return Ok(());
    }
    let mut table = table(shown, now);
    let columns = terminal_size_of(stdout()).map(|(Width(columns), _)| usize::from(columns));
    if let Some(provider) = columns.and_then(|columns| make_room(&mut table, shown, columns)) {
        eprintln!("steadfast: all of these were sent to {}", plain(provider));
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn table(shown: &[Stored], now: Timestamp) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header([
        "KEY",
        "PROVIDER",
        "STATE",
        "OUTCOME",
        "REFERENCE",
        "CREATES",
        "REQUESTS",
        "AGE",
        "DUE",
        "UPDATED",
    ]);
    for stored in shown {
        let record = &stored.entry.record;
        let outcome = [stored.outcome().map(Outcome::name), stored.reason()];
        let outcome: Vec<&str> = outcome.into_iter().flatten().collect();
        let cell = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        table.add_row([
            record.key.as_str().to_owned(),
            plain(&stored.entry.provider).into_owned(),
            stored.state().to_owned(),
            cell(Some(outcome.join("/")).filter(|text| !text.is_empty())),
            cell(record.reference.as_ref().map(|it| plain(it.as_str()).into_owned())),
            record.creates.to_string(),
            record.attempts.to_string(),
            Span(now.saturating_since(record.submitted)).to_string(),
            cell(record.due.map(|due| relative(due, now))),
            relative(stored.entry.at, now),
        ]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
    }
    table
}

/// If a table is too wide for its terminal and all rows have the same provider, removes that column and returns the
/// provider.
fn make_room<'a>(table: &mut Table, shown: &'a [Stored], columns: usize) -> Option<&'a str> {
    let provider = &*shown.first()?.entry.provider;
    let is_wide = table.lines().any(|line| line.trim_end().chars().count() > columns);
    if !is_wide || shown.iter().any(|stored| &*stored.entry.provider != provider) {
        return None;
    }
    table.column_mut(PROVIDER)?.set_constraint(ColumnConstraint::Hidden);
    Some(provider)
}

#[cfg(test)]
mod tests {
    use steadfast_core::operation::Stage;
    use steadfast_store::{SqliteStore, Store as _};
    use steadfast_testkit::journal_kit::entry;

    use super::*;

    #[test]
    fn one_provider_takes_no_room_where_there_is_little() {
        let home = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(home.path().join("journal")).unwrap();
        store.append(&[entry(1, Stage::Planned, 1), entry(2, Stage::Planned, 2)]).unwrap();
        let mut shown = Vec::new();
        store
            .browse(Order::NewestFirst, |stored| {
                shown.extend(stored.ok());
                ControlFlow::Continue(())
            })
            .unwrap();
        let now = Timestamp::from_secs(9);
        let width = |table: &Table| table.lines().map(|line| line.trim_end().chars().count()).max().unwrap();
        let needed = width(&table(&shown, now));
        for (columns, provider) in [(needed, None), (needed - 1, Some(&*shown[0].entry.provider.clone()))] {
            let mut table = table(&shown, now);
            assert_eq!(make_room(&mut table, &shown, columns), provider);
            assert_eq!(
                (width(&table) == needed, table.to_string().contains("PROVIDER")),
                (provider.is_none(), provider.is_none())
            );
        }
        shown[0].entry.provider = "another".into();
        assert_eq!(make_room(&mut table(&shown, now), &shown, 40), None);
    }
}
