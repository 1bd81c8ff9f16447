//! Checks a journal's health, for a person who has to decide something.
//!
//! Unlike [`load`](crate::Store::load), which stops at the first damage, this looks at everything it can reach and says
//! what is wrong with it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use steadfast_core::operation::{Record, Stage};
use steadfast_core::{Key, Outcome, Reference};

use super::browse::Order;
use super::error::{Damage, Fault};
use super::mark::Mark;
use super::row::Reader;
use super::scan::Whole;
use super::{SqliteStore, columns, reach};
use crate::StoreError;

/// What [`SqliteStore::verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// How many operations there are in each state: `planned`, `in_flight`, `unknown`, `accepted`, `ended`,
    /// `delivered`.
    pub states: BTreeMap<&'static str, u64>,
    /// How many operations may have run, with an unknown result.
    pub unresolved_count: u64,
    /// The first [`Report::MOST`] of them, in the order in which their keys were first seen.
    pub unresolved: Vec<UnresolvedOperation>,
    /// What is wrong with the files; at most [`Report::MOST`] problems. Empty if they are what was written.
    pub problems: Vec<Problem>,
    /// Whether `FILE-mark` can vouch for the journal. It is not a problem if it cannot: the file is whole, but it
    /// cannot be told whether it once held more.
    pub mark: Mark,
}

impl Report {
    /// How many operations, and how many problems, are listed individually.
    pub const MOST: usize = 1_000;

    fn problem(&mut self, what: impl ToString, advice: &'static str) {
        if self.problems.len() < Self::MOST {
            self.problems.push(Problem { what: what.to_string(), advice });
        }
    }

    fn count(&mut self, record: &Record, provider: &str) {
        *self.states.entry(columns::state(record.stage)).or_default() += 1;
        let why = match record.stage {
            Stage::Unknown => "a create may have run: the client goes on with it, or ends it as unresolved",
            Stage::Ended(outcome @ Outcome::Unresolved(_)) | Stage::Delivered(outcome @ Outcome::Unresolved(_)) => {
                outcome.explain()
            }
            _ => return,
        };
        self.unresolved_count += 1;
        if self.unresolved.len() < Self::MOST {
            let (key, reference, provider) = (record.key.clone(), record.reference.clone(), provider.to_owned());
            self.unresolved.push(UnresolvedOperation { key, provider, reference, why });
        }
    }
}

/// An operation whose result is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnresolvedOperation {
    /// Its key, which may be personal data; `Debug` shows its label.
    pub key: Key,
    /// Where it was sent.
    pub provider: String,
    /// The provider's own id for it: ask the provider about this one.
    pub reference: Option<Reference>,
    /// What happened and what to do.
    pub why: &'static str,
}

/// A difference between the files and what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// What is wrong. Keys are named by their labels.
    pub what: String,
    /// What to do.
    pub advice: &'static str,
}

const INTEGRITY: &str = "copy the files, then restore the journal from a copy, with its -mark and without the old -wal, or mend the copy with \
                         SQLite's `.recover` and ask again";

impl SqliteStore {
    /// Checks everything: SQLite's own `integrity_check`, each row's hash, the chain, head and watermark.
    ///
    /// ```
    /// # use steadfast_store::{OpenError, SqliteStore};
    /// # let path = std::env::temp_dir().join(format!("steadfast-verify-{}.db", std::process::id()));
    /// let report = SqliteStore::open(&path)?.verify()?;
    /// assert!(report.problems.is_empty());
    /// # for suffix in ["", "-mark"] { let _ = std::fs::remove_file(format!("{}{suffix}", path.display())); }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The file could not be read. Damage is not an error here but a [`Problem`].
    pub fn verify(&mut self) -> Result<Report, StoreError> {
        let mut report = Report::default();
        let looked = self.settle().and_then(|()| self.look(&mut report));
        report.mark = self.mark.state();
        match looked {
            Ok(()) => Ok(report),
            Err(Fault::Damage(damage)) => {
                let advice = damage.advice();
                report.problem(damage, advice);
                Ok(report)
            }
            Err(fault) => Err(fault.reading()),
        }
    }

    /// Calls `each` with every fault that SQLite finds in the file's structure.
    pub(super) fn integrity(&self, mut each: impl FnMut(&str)) -> Result<(), Fault> {
        let mut integrity = self.connection.prepare("PRAGMA integrity_check")?;
        let mut lines = integrity.query([])?;
        while let Some(line) = lines.next()? {
            let line: String = line.get(0)?;
            if line != "ok" {
                each(&line);
            }
        }
        Ok(())
    }

    fn look(&self, report: &mut Report) -> Result<(), Fault> {
        match self.integrity(|line| report.problem(format!("SQLite's integrity check: {line}"), INTEGRITY)) {
            // It stops at a page that it cannot read, but the rows on other pages can still be read.
            Err(Fault::Damage(_)) => report.problem("SQLite's integrity check could not be ended", INTEGRITY),
            other => other?,
        }
        let mut whole = Some(Whole::default());
        let mut reader = Reader::default();
        reach::rows(&self.connection, Order::OldestFirst, |row| {
            match row.map_err(Fault::from).and_then(|row| reader.read(row)) {
                Ok(found) => {
                    report.count(&found.entry.record, &found.entry.provider);
                    match whole.as_mut().map(|whole| whole.count(&self.connection, &found)) {
                        Some(Err(Fault::Damage(damage))) => {
                            let advice = damage.advice();
                            report.problem(damage, advice);
                            whole = None;
                        }
                        Some(Err(fault)) => return Err(fault),
                        Some(Ok(())) | None => {}
                    }
                }
                Err(Fault::Damage(damage)) => {
                    let advice = damage.advice();
                    report.problem(damage, advice);
                    whole = None;
                }
                Err(fault) => return Err(fault),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        // With a damaged row the sums are wrong for a reason that was already reported.
        let head = super::Head::read(&self.connection)?;
        if head != self.head {
            report.problem(Damage::Head, Damage::Head.advice());
        }
        whole.map_or(Ok(()), |whole| whole.check(&head).map(drop))
    }
}
