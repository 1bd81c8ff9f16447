//! Outcomes that the program's hook could not take: they are told again until it does.
//!
//! With a store, each of them is *ended* there until then, so after a crash the next client tells it. What is held here
//! is bounded: outcomes for which there is no room are left to the next client too. While some wait, the hook is not
//! called for others: as a rule its database is down, and each call would hold up the driver for as long as it takes to
//! fail.

use std::collections::VecDeque;
use std::time::Duration;

use steadfast_core::{OperationId, Timestamp};

use super::Driver;
use crate::caught::caught;
use crate::finished::Finished;

/// What an outcome costs beside its answer.
const OUTCOME: usize = 256;

/// At most this many are told in one turn: the hook may take a commit's time for each.
const AT_ONCE: usize = 16;

/// How long the others wait after that.
const TURN: Duration = Duration::from_millis(10);

/// The longest wait after one that was refused. The first is 1 s, each next one is double.
const LONGEST: Duration = Duration::from_secs(60);

struct Untold {
    /// `None` for one that counts as delivered: its handle was told.
    id: Option<OperationId>,
    finished: Finished,
}

impl Untold {
    fn size(&self) -> usize {
        self.finished.body().len() + OUTCOME
    }
}

pub(super) struct Untaken {
    /// Oldest first, except those that were refused again.
    outcomes: VecDeque<Untold>,
    bytes: usize,
    limit: usize,
    /// Refusals in a row.
    refused: u32,
    at: Timestamp,
}

impl Untaken {
    pub(super) fn new(limit: usize) -> Self {
        Self { outcomes: VecDeque::new(), bytes: 0, limit, refused: 0, at: Timestamp::EPOCH }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        (!self.outcomes.is_empty()).then_some(self.at)
    }

    fn keep(&mut self, untold: Untold) {
        if self.bytes + untold.size() > self.limit {
            tracing::error!(
                key = %untold.finished.key.label(),
                "too many outcomes wait for the hook for unclaimed outcomes: submit or resume the key for this one, or leave it to the next client"
            );
            return;
        }
        self.bytes += untold.size();
        self.outcomes.push_back(untold);
    }

    fn pop(&mut self) -> Option<Untold> {
        let untold = self.outcomes.pop_front()?;
        self.bytes -= untold.size();
        Some(untold)
    }

    /// Drops an outcome that somebody else has by now.
    pub(super) fn leave(&mut self, id: OperationId) {
        self.outcomes.retain(|untold| {
            let stays = untold.id != Some(id);
            self.bytes -= if stays { 0 } else { untold.size() };
            stays
        });
    }

    fn refuse(&mut self, now: Timestamp) {
        let wait = Duration::from_secs(1 << self.refused.min(6)).min(LONGEST);
        self.refused = self.refused.saturating_add(1);
        self.at = now.saturating_add(wait);
    }
}

impl<H> Driver<H> {
    /// Tells the program's own hook of the outcome. Returns whether it has taken that; if not, it is told again later.
    pub(super) fn hand_over(&mut self, id: Option<OperationId>, finished: &Finished) -> bool {
        if self.hooks.unclaimed.is_none() {
            return false;
        }
        if self.untaken.next_deadline().is_none() {
            if self.give(finished) {
                return true;
            }
            self.untaken.refuse(self.now);
        }
        self.untaken.keep(Untold { id, finished: finished.clone() });
        false
    }

    fn give(&self, finished: &Finished) -> bool {
        let Some(unclaimed) = &self.hooks.unclaimed else { return false };
        let told = caught(|| unclaimed(&finished.key, finished)).unwrap_or_else(|| Err("it panicked".into()));
        if let Err(error) = &told {
            let error = &**error as &dyn std::error::Error;
            tracing::error!(key = %finished.key.label(), error, "the hook for unclaimed outcomes did not take one: it is called again");
        }
        told.is_ok()
    }

    /// Tells the hook again of outcomes that it did not take, until it refuses one.
    pub(super) fn give_again(&mut self) {
        let now = self.now;
        if self.untaken.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        for _ in 0..AT_ONCE {
            let Some(untold) = self.untaken.pop() else { return };
            if !self.still_stands(&untold) {
                continue;
            }
            if !self.give(&untold.finished) {
                self.untaken.keep(untold);
                return self.untaken.refuse(now);
            }
            self.untaken.refused = 0;
            if let Some(id) = untold.id {
                self.note_claim(id);
            }
        }
        self.untaken.at = now.saturating_add(TURN);
    }

    /// Whether nothing later is known of the key: the job may have been resumed, or, if it was rejected, submitted
    /// again.
    fn still_stands(&self, untold: &Untold) -> bool {
        match self.engine.find(&untold.finished.key) {
            Some(id) => {
                let outcome = self.engine.operation(id).and_then(|operation| operation.outcome());
                untold.id.is_none_or(|own| own == id) && outcome == Some(untold.finished.outcome)
            }
            None => !self.parked.contains(&untold.finished.key),
        }
    }
}
