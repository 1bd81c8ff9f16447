//! The same without the feature `metrics`: nothing is counted, and nothing is paid for it.

use std::sync::Arc;
use std::time::Duration;

use steadfast_core::gate::Gate;
use steadfast_core::notice::Notice;
use steadfast_core::operation::Kind;
use steadfast_core::{Engine, Operation, OperationId, Timestamp};

use crate::journal::Journal;
use crate::observe::Begun;
use crate::webhook::Delivery;

pub(crate) struct Meter;

impl Meter {
    /// Whether notices are counted.
    pub(crate) const LISTENS: bool = false;

    pub(crate) const fn new(_: &Arc<str>, _: Option<&Gate>, _: Timestamp) -> Self {
        Self
    }

    pub(crate) const fn commits(&self) -> Commits {
        Commits
    }

    pub(crate) const fn begun(&self, _: Begun) {}

    pub(crate) const fn notice(&self, _: OperationId, _: Option<&Operation>, _: &Notice, _: Timestamp) {}

    pub(crate) const fn answered(&self, _: Kind, _: bool, _: Duration) {}

    pub(crate) const fn forget(&self, _: OperationId) {}

    pub(crate) const fn revised(&self) {}

    pub(crate) const fn renewed(&self, _: bool) {}

    pub(crate) const fn sample(&self, _: &Engine, _: usize, _: &Journal, _: Timestamp) {}
}

pub(crate) struct OfGate;

impl OfGate {
    pub(crate) const fn new(_: &Arc<str>, _: &Gate, _: Timestamp) -> Self {
        Self
    }

    pub(crate) const fn look(&self, _: &Gate, _: Timestamp) -> Changes {
        Changes
    }

    pub(crate) const fn add(&self, _: Changes) {}
}

pub(crate) struct Changes;

#[derive(Clone)]
pub(crate) struct Commits;

impl Commits {
    pub(crate) const fn none() -> Self {
        Self
    }

    pub(crate) fn time<T>(&self, commit: impl FnOnce() -> T) -> T {
        commit()
    }

    pub(crate) const fn durable(&self, _: usize, _: Duration) {}

    pub(crate) const fn failed(&self) {}

    pub(crate) const fn unknown(&self) {}
}

#[derive(Clone)]
pub(crate) struct Verdicts;

impl Verdicts {
    pub(crate) const fn new(_: &str) -> Self {
        Self
    }

    pub(crate) const fn count(&self, _: &Delivery) {}
}
