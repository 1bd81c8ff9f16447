//! Outcomes that the program's hook could not take: they are told again until it does.
//!
//! With a store, each of them is *ended* there until then, so after a crash the next client tells it. What is held here
//! is bounded: outcomes for which there is no room are left to the next client too. An outcome that a dropped handle gave
//! back was delivered there, and is ended again; but not if it was rejected, since the engine has forgotten it. While
//! some wait, the hook is not called for others: as a rule its database is down, and each call would hold up the driver
//! for as long as it takes to fail.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use steadfast_core::operation::{Outcome, Record, Stage};
use steadfast_core::{Key, OperationId, Timestamp};
use steadfast_store::Entry;

use super::Driver;
use crate::caught::caught;
use crate::finished::Finished;
use crate::observe::Unclaimed;

/// What an outcome costs beside its answer, with the record of one that was rejected.
const OUTCOME: usize = 512;

/// At most this many are told in one turn: the hook may take a commit's time for each.
const AT_ONCE: usize = 16;

/// How long the others wait after that.
const TURN: Duration = Duration::from_millis(10);

/// The longest wait after one that was refused. The first is 1 s, each next one is double.
const LONGEST: Duration = Duration::from_secs(60);

struct Untold {
    /// `None` for one that was given back when the engine knew it no more.
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
    /// Of those that were rejected, as delivered: the engine forgets them at once. Their keys are free, so each is there
    /// only until its key is another job's.
    rejected: HashMap<Key, (OperationId, Record)>,
    bytes: usize,
    limit: usize,
    /// Refusals in a row.
    refused: u32,
    at: Timestamp,
}

impl Untaken {
    pub(super) fn new(limit: usize) -> Self {
        Self { outcomes: VecDeque::new(), rejected: HashMap::new(), bytes: 0, limit, refused: 0, at: Timestamp::EPOCH }
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
            self.take_rejected(&untold);
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
            if !stays {
                self.bytes -= untold.size();
                self.rejected.remove(&untold.finished.key);
            }
            stays
        });
    }

    pub(super) fn has_rejected(&self) -> bool {
        !self.rejected.is_empty()
    }

    /// The key is a new job's.
    pub(super) fn leave_rejected(&mut self, key: &Key) {
        self.rejected.remove(key);
    }

    fn take_rejected(&mut self, untold: &Untold) -> Option<(OperationId, Record)> {
        let key = &untold.finished.key;
        self.rejected.get(key).filter(|(id, _)| untold.id == Some(*id))?;
        self.rejected.remove(key)
    }

    pub(super) fn contains(&self, id: OperationId) -> bool {
        self.outcomes.iter().any(|untold| untold.id == Some(id))
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
        if matches!(finished.outcome, Outcome::Rejected(_))
            && let Some((id, mut record)) = id.and_then(|id| Some((id, self.engine.operation(id)?.record())))
        {
            record.stage = Stage::Delivered(finished.outcome);
            self.untaken.rejected.insert(finished.key.clone(), (id, record));
        }
        self.untaken.keep(Untold { id, finished: finished.clone() });
        false
    }

    /// Somebody was told it, so to the journal it is delivered, and nobody has read it.
    pub(super) fn given_back(&mut self, finished: &Finished) {
        let ended = |id: &OperationId| {
            self.engine.operation(*id).is_some_and(|operation| operation.outcome() == Some(finished.outcome))
        };
        let id = self.engine.find(&finished.key).filter(ended);
        // It may have been given back by another, who asked later.
        id.into_iter().for_each(|id| self.untaken.leave(id));
        if self.hand_over(id, finished) || self.journal.is_volatile() {
            return;
        }
        let Some((id, mut record)) = id.and_then(|id| Some((id, self.engine.operation(id)?.record()))) else { return };
        self.remember_unclaimed(id);
        record.stage = Stage::Ended(finished.outcome);
        // Its answer is there, if answers are kept.
        self.journal.note(id, Entry::new(record, self.provider_name.clone(), self.now));
    }

    fn give(&self, finished: &Finished) -> bool {
        self.hooks.unclaimed.as_ref().is_some_and(|unclaimed| take(unclaimed, finished, "it is called again"))
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
                self.untaken.take_rejected(&untold);
                continue;
            }
            if !self.give(&untold.finished) {
                self.untaken.keep(untold);
                return self.untaken.refuse(now);
            }
            self.untaken.refused = 0;
            let rejected = self.untaken.take_rejected(&untold);
            match untold.id {
                Some(id) if self.engine.operation(id).is_some() => self.note_claim(id),
                _ => rejected.into_iter().for_each(|(id, record)| self.note_rejected(id, record)),
            }
        }
        self.untaken.at = now.saturating_add(TURN);
    }

    /// Of one that the engine knows no more: it was rejected, and the hook has it now.
    fn note_rejected(&mut self, id: OperationId, record: Record) {
        // Those that are forgotten may have been swept from there.
        self.unclaimed.remove(id);
        if !self.journal.is_volatile() {
            self.journal.note(id, Entry::new(record, self.provider_name.clone(), self.now));
        }
    }

    /// Whether nothing later is known of the key: the job may have been resumed, or, if it was rejected, submitted
    /// again.
    fn still_stands(&self, untold: &Untold) -> bool {
        match self.engine.find(&untold.finished.key) {
            Some(id) => {
                let outcome = self.engine.operation(id).and_then(|operation| operation.outcome());
                untold.id.is_none_or(|own| own == id) && outcome == Some(untold.finished.outcome)
            }
            None => {
                let key = &untold.finished.key;
                let is_newest = |id| self.untaken.rejected.get(key).is_some_and(|(newest, _)| *newest == id);
                let was_rejected = matches!(untold.finished.outcome, Outcome::Rejected(_));
                !self.parked.contains(key) && untold.id.filter(|_| was_rejected).is_none_or(is_newest)
            }
        }
    }
}

/// Whether the hook has taken it. A bug in the hook's error, which is logged, costs no more than one in the hook.
pub(super) fn take(unclaimed: &Unclaimed, finished: &Finished, else_what: &str) -> bool {
    let key = finished.key.label();
    let told = caught(|| match unclaimed(&finished.key, finished) {
        Ok(()) => true,
        Err(error) => {
            let error = &*error as &dyn std::error::Error;
            tracing::error!(%key, error, "the hook for unclaimed outcomes did not take one: {else_what}");
            false
        }
    });
    told.unwrap_or_else(|| {
        tracing::error!(%key, "the hook for unclaimed outcomes panicked, and did not take one: {else_what}");
        false
    })
}
