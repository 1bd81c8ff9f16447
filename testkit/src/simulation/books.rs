//! The books of the checks, kept apart from what an engine believes: which invariants were checked, and which broke
//! first.

use steadfast_core::breaker::BreakerState;
use steadfast_core::{Key, Timestamp};

use super::account::{Account, Life};
use super::disk::Disk;
use super::gate::GateBooks;
use super::invariant::Invariant;

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data, to be printed")]
pub struct Violation {
    /// The invariant.
    pub invariant: Invariant,
    /// How it was seen.
    pub detail: String,
}

#[derive(Debug)]
pub(super) struct Books {
    evaluated: Vec<u64>,
    pub(super) violation: Option<Violation>,
    /// One for each job, in their order.
    pub(super) accounts: Vec<Account>,
    pub(super) gate: GateBooks,
    /// The breaker's last reported state.
    pub(super) breaker: Option<BreakerState>,
}

impl Books {
    pub(super) fn new(jobs: usize) -> Self {
        Self {
            evaluated: vec![0; Invariant::all().count()],
            violation: None,
            accounts: (0..jobs).map(|_| Account::default()).collect(),
            gate: GateBooks::default(),
            breaker: None,
        }
    }

    /// The first breach is kept; it ends the history.
    pub(super) fn hold(&mut self, invariant: Invariant, holds: bool, detail: impl FnOnce() -> String) {
        self.evaluated[invariant.index()] += 1;
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation { invariant, detail: detail() });
        }
    }

    /// The same for a check that belongs to several invariants.
    pub(super) fn hold_all(&mut self, invariants: &[Invariant], holds: bool, detail: impl Fn() -> String) {
        for invariant in invariants {
            self.hold(*invariant, holds, &detail);
        }
    }

    /// How often each was checked, in the order of [`Invariant::all`].
    pub(super) fn evaluated(&self) -> &[u64] {
        &self.evaluated
    }

    /// The process is gone, and with it everything that was not written down.
    pub(super) fn crash<'a>(&mut self, disk: &Disk, keys: impl Iterator<Item = &'a Key>, now: Timestamp) {
        for (account, key) in self.accounts.iter_mut().zip(keys) {
            account.life = Life::default();
            account.refused &= disk.latest(key).is_some_and(|record| record.refused);
        }
        (self.gate, self.breaker) = (GateBooks::begin(now), None);
    }
}
