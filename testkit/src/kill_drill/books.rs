//! The parent's own books: what it handed out, and what the child reported. The journal and the provider's ledger are
//! compared with them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use steadfast_core::Outcome;
use steadfast_core::operation::{Record, Stage};
use steadfast_store::{OpenError, SqliteStore, Store};

use super::KillReport;
use super::process::Line;
use crate::Ledger;
use crate::connect::job;

/// Written if there is no reference.
pub(super) const NO_REFERENCE: &str = "-";

/// What the child reported of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Told {
    /// The outcome's [name](Outcome::name).
    pub outcome: String,
    /// The provider's own id for the job, or `-`.
    pub reference: String,
    /// A hash of the answer's body.
    pub answer: String,
}

impl Told {
    /// Whether `next` may follow this report: the same, or with a reference that a late answer has brought. A request
    /// that is given up on threads is not cut off, and its answer may bring the reference after the job ended as
    /// unresolved: the outcome stays, and the job can be found.
    fn may_become(&self, next: &Self) -> bool {
        let found = self.outcome == "unresolved" && self.reference == NO_REFERENCE;
        let same_but_for_reference = (&self.outcome, &self.answer) == (&next.outcome, &next.answer);
        same_but_for_reference && (found || self.reference == next.reference)
    }

    /// Whether nothing ran: then its key is free, and another submit starts another job.
    fn is_rejected(&self) -> bool {
        self.outcome == "rejected"
    }
}

pub(super) struct Books {
    seed: u64,
    journal: PathBuf,
    handed_out: BTreeMap<u64, Instant>,
    handed_out_again: bool,
    taken: BTreeSet<u64>,
    told: BTreeMap<u64, (Told, Duration)>,
    left_by_kills: BTreeMap<&'static str, u64>,
    /// Keys whose create was in flight, or in doubt, when a kill came.
    left_in_doubt: BTreeSet<String>,
    violations: Vec<String>,
}

impl Books {
    pub(super) fn new(seed: u64, journal: PathBuf) -> Self {
        let (handed_out, taken, told) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let (left_by_kills, left_in_doubt, violations) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        let handed_out_again = false;
        Self { seed, journal, handed_out, handed_out_again, taken, told, left_by_kills, left_in_doubt, violations }
    }

    pub(super) fn ended(&self) -> u64 {
        self.told.len() as u64
    }

    /// Those that have not been reported as accepted.
    pub(super) fn hand_out(&mut self, numbers: Range<u64>) -> Vec<u64> {
        let unheard_of: Vec<u64> = numbers.filter(|number| !self.taken.contains(number)).collect();
        unheard_of.iter().for_each(|number| self.hands_out(*number));
        unheard_of
    }

    /// All except those reported as rejected. More may have been rejected without a report: then their keys are free
    /// and these are new jobs, whose attempts are counted anew.
    pub(super) fn hand_out_again(&mut self, numbers: Range<u64>) -> Vec<u64> {
        self.handed_out_again = true;
        let rejected = |number: &u64| self.told.get(number).is_some_and(|(told, _)| told.is_rejected());
        let again: Vec<u64> = numbers.filter(|number| !rejected(number)).collect();
        again.iter().for_each(|number| self.hands_out(*number));
        again
    }

    fn hands_out(&mut self, number: u64) {
        self.handed_out.entry(number).or_insert_with(Instant::now);
    }

    pub(super) fn hear(&mut self, line: Line) {
        match line {
            Line::Ready | Line::Left(0) => {}
            Line::Left(left) => self.violations.push(format!("{left} jobs were unfinished when all had ended")),
            Line::Taken(number) => {
                self.taken.insert(number);
            }
            Line::Refused(number, why) => self.violations.push(format!("job {number} was refused: {why}")),
            Line::Ended(number, told) => self.ends(number, told),
        }
    }

    fn ends(&mut self, number: u64, told: Told) {
        let took = self.handed_out.get(&number).map_or(Duration::ZERO, Instant::elapsed);
        match self.told.get_mut(&number) {
            Some((before, _)) if before.may_become(&told) => *before = told,
            Some((before, _)) => {
                self.violations.push(format!("job {number} was told as {before:?}, then as {told:?}"));
            }
            None => {
                self.told.insert(number, (told, took));
            }
        }
    }

    /// Compares the journal, as the last life left it, with what the child reported and with the provider's books.
    pub(super) fn check_journal(&mut self, ledger: &Ledger) {
        let records = match self.records() {
            Ok(records) => records,
            Err(violation) => return self.violations.push(violation),
        };
        for record in records.values() {
            let state = match record.stage {
                Stage::Planned => "planned",
                Stage::InFlight => "in_flight",
                Stage::Unknown => "unknown",
                Stage::Accepted => "accepted",
                _ => continue,
            };
            *self.left_by_kills.entry(state).or_default() += 1;
            if matches!(record.stage, Stage::InFlight | Stage::Unknown) {
                self.left_in_doubt.insert(record.key.as_str().to_owned());
            }
        }
        let mut violations = Vec::new();
        for number in &self.taken {
            let Ok((key, _)) = job(self.seed, *number) else { continue };
            let told = self.told.get(number).map(|(told, _)| told);
            if told.is_some_and(Told::is_rejected) {
                continue;
            }
            let Some(record) = records.get(key.as_str()) else {
                violations.push(format!("job {number} was taken in, and the journal does not know it"));
                continue;
            };
            let outcome = match record.stage {
                Stage::Ended(outcome) | Stage::Delivered(outcome) => Some(outcome),
                _ => None,
            };
            if told.is_some_and(|told| outcome.map(Outcome::name) != Some(&told.outcome)) {
                violations.push(format!("job {number} was told as {told:?}, and the journal has {:?}", record.stage));
            }
            let sent = ledger.answers(key.as_str()).len();
            if !self.handed_out_again && sent > usize::from(record.creates) {
                violations.push(format!("job {number} was sent {sent} times, and the journal has {}", record.creates));
            }
        }
        self.violations.extend(violations);
    }

    /// The records in the verified file. Empty if a life ended before there was a file.
    fn records(&self) -> Result<BTreeMap<String, Record>, String> {
        let mut store = match SqliteStore::open_read_only(&self.journal) {
            Err(OpenError::Missing) if self.taken.is_empty() => return Ok(BTreeMap::new()),
            opened => opened.map_err(|error| format!("the journal cannot be opened after a kill: {error}"))?,
        };
        let damage = |error| format!("the journal cannot be read after a kill: {error}");
        if let Some(problem) = store.verify().map_err(damage)?.problems.first() {
            return Err(format!("the journal is damaged after a kill: {}", problem.what));
        }
        let entries = store.load().map_err(damage)?;
        Ok(entries.into_iter().map(|entry| (entry.record.key.as_str().to_owned(), entry.record)).collect())
    }

    /// Compares the report of every job with the provider's books.
    pub(super) fn check_end(&mut self, operations: u64, ledger: &Ledger) {
        for number in 0..operations {
            let Ok((key, _)) = job(self.seed, number) else { continue };
            let executions = ledger.executions(key.as_str());
            let ran = executions.len();
            let reference = self.told.get(&number).map_or(NO_REFERENCE, |(told, _)| &told.reference);
            if reference != NO_REFERENCE && !executions.iter().any(|execution| execution.transaction_id == reference) {
                self.violations.push(format!("job {number} was told the reference of another"));
            }
            let wrong = match self.told.get(&number).map(|(told, _)| told.outcome.as_str()) {
                None => "has no outcome",
                Some("completed" | "failed") if ran == 0 => "was told to have run, and did not",
                Some("rejected") if ran > 0 => "was told not to have run, and did",
                _ if ran > 1 => "was run more than once",
                _ => continue,
            };
            self.violations.push(format!("job {number} {wrong}"));
        }
        match self.records() {
            Ok(records) => {
                // A rejected job is not submitted again: if a kill came before its delivery was recorded, it still
                // waits for a caller.
                let delivered =
                    |record: &&Record| matches!(record.stage, Stage::Delivered(_) | Stage::Ended(Outcome::Rejected(_)));
                let left = records.values().filter(|record| !delivered(record)).count();
                if left > 0 {
                    self.violations.push(format!("{left} operations are not delivered at the end"));
                }
            }
            Err(violation) => self.violations.push(violation),
        }
    }

    pub(super) fn report(self, kills: u32, elapsed: Duration) -> KillReport {
        let recovered = self.told.keys().filter(|number| self.has_recovered(**number)).count();
        let Self { told, left_by_kills, violations, .. } = self;
        KillReport { kills, told, left_by_kills, recovered: recovered as u64, violations, elapsed }
    }

    /// Whether a kill left its create in doubt, and the job was completed all the same.
    fn has_recovered(&self, number: u64) -> bool {
        let completed = self.told.get(&number).is_some_and(|(told, _)| told.outcome == "completed");
        completed && job(self.seed, number).is_ok_and(|(key, _)| self.left_in_doubt.contains(key.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(outcome: &str, reference: &str) -> Told {
        Told { outcome: outcome.into(), reference: reference.into(), answer: "0".into() }
    }

    #[test]
    fn what_is_told_twice_is_the_same_but_for_a_reference_that_came_late() {
        let late = told("unresolved", "txn-1");
        assert!(told("unresolved", NO_REFERENCE).may_become(&late) && late.may_become(&late));
        let others = [told("unresolved", NO_REFERENCE), told("unresolved", "txn-2"), told("completed", "txn-1")];
        assert!(others.iter().all(|other| !late.may_become(other)));
        assert!(!told("failed", NO_REFERENCE).may_become(&told("failed", "txn-1")));
        assert!(!told("unresolved", NO_REFERENCE).may_become(&told("completed", "txn-1")));
    }
}
