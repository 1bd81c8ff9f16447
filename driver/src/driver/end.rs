//! How jobs end: who is told, and what is kept for whoever asks later.
//!
//! An outcome is *delivered* once somebody has it: who waits for it, else the program's own hook. Without a hook, who took a handle and dropped it has let go of the
//! outcome, so that counts as well. But a job that a restart took up may end while nobody has asked for it yet, and one may end during a shutdown, after its
//! handle went down with its caller: these stay *ended* in the store, never forgotten, until somebody claims them by submitting or resuming their key,
//! in this process or a later one. To the engine they are delivered at once: it has nothing left to do for them.

use steadfast_core::engine::Event;
use steadfast_core::operation::{Outcome, Rejected, Stage};
use steadfast_core::{Engine, Key, OperationId};
use steadfast_store::Entry;

use super::by_id::Ids;
use super::{Driver, Job};
use crate::caught::caught;
use crate::finished::{FinalAnswer, Finished, SubmitError};
use crate::observe::Hooks;

/// How many have no outcome told before they are swept for the first time.
const SWEEP: usize = 1_024;

/// Jobs that have ended and whose outcome nobody has: delivered to the engine, not in the store.
#[derive(Default)]
pub(super) struct Unclaimed {
    jobs: Ids,
    /// At how many it is next rid of those that the engine has forgotten, and the store alone knows.
    sweep_at: usize,
}

impl Unclaimed {
    pub(super) fn contains(&self, id: OperationId) -> bool {
        self.jobs.contains(&id)
    }

    pub(super) fn remove(&mut self, id: OperationId) -> bool {
        self.jobs.remove(&id)
    }

    /// Sweeps once they have doubled: so they are never much more than what the engine knows, and each costs no more than two looks.
    fn insert(&mut self, id: OperationId, is_known: impl Fn(OperationId) -> bool) {
        if self.jobs.len() >= self.sweep_at.max(SWEEP) {
            self.jobs.retain(|id| is_known(*id));
            self.sweep_at = 2 * self.jobs.len();
        }
        self.jobs.insert(id);
    }
}

/// Under which key the program's hook is to be told of it, if there is one.
pub(super) fn unread_as(hooks: &Hooks, engine: &Engine, id: OperationId) -> Option<Key> {
    hooks.unclaimed.as_ref().and_then(|_| Some(engine.operation(id)?.key()))
}

impl<H> Driver<H> {
    /// Tells everybody who waits.
    pub(super) fn end(&mut self, id: OperationId) {
        self.tell_accepted(id);
        let job = self.jobs.remove(&id).unwrap_or_default();
        let Job { answer, waiters, replies, failure, followed, trace, .. } = job;
        let latest = self.results.let_go(id);
        let answer = answer.or(latest);
        if let Some(outcome) = self.engine.operation(id).and_then(|operation| operation.outcome()) {
            self.note_end(id, outcome, answer.as_ref());
            if let (Some(trace), Some(operation)) = (trace, self.engine.operation(id)) {
                trace.end(operation, outcome);
            }
        }
        let finished = self.finished_with(id, answer.clone());
        self.results.keep(id, answer);
        // Who gave a hook wants to hear of each, and handles go down with requests that are cut off. While the client is shut down, they are dropped for other reasons too.
        let lets_go = followed && self.closing.is_none() && self.hooks.unclaimed.is_none();
        let mut claimed = false;
        if let Some(finished) = finished {
            for waiter in waiters {
                claimed |= waiter.send(finished.clone()).is_ok();
            }
            let not_durable = finished.outcome == Outcome::Rejected(Rejected::NotDurable);
            // Nothing is kept of it, so there is nothing to claim.
            claimed |= not_durable;
            for reply in replies {
                match &failure {
                    Some(error) if not_durable => reply.refuse(SubmitError::NotDurable(error.clone())),
                    _ => {
                        let unread = unread_as(&self.hooks, &self.engine, id);
                        claimed |= reply.follow_finished(Some(id), finished.clone(), unread);
                    }
                }
            }
            if !claimed && !lets_go && !self.hands_over(id, &finished) && !self.journal.is_volatile() {
                self.unclaimed.insert(id, |id| self.engine.operation(id).is_some());
            }
        }
        let now = self.now;
        self.engine.handle(Event::Delivered(id), now);
        self.note_name(id);
    }

    /// Tells whoever follows a job that the provider has it, if that is known and on disk. From then on no create leaves, so its payload, which is somebody's
    /// data and may be large, is not held for as long as the job takes.
    pub(super) fn tell_accepted(&mut self, id: OperationId) {
        let Some(operation) = self.engine.operation(id).filter(|operation| operation.is_durable()) else { return };
        if let (Some(job), Some(reference)) = (self.jobs.get_mut(&id), operation.reference()) {
            job.payload = None;
            job.telling.tell(&reference);
        }
    }

    pub(super) fn finished(&self, id: OperationId) -> Option<Finished> {
        self.finished_with(id, self.results.get(id))
    }

    fn finished_with(&self, id: OperationId, answer: Option<FinalAnswer>) -> Option<Finished> {
        let operation = self.engine.operation(id)?;
        Some(Finished {
            outcome: operation.outcome()?,
            reference: operation.reference(),
            creates: operation.creates(),
            answer,
        })
    }

    /// Whether the program's own hook has taken the outcome.
    fn hands_over(&self, id: OperationId, finished: &Finished) -> bool {
        unread_as(&self.hooks, &self.engine, id).is_some_and(|key| self.give(&key, finished))
    }

    /// Also of what a handle was told, and was dropped before anybody read it: in the store that is delivered by now.
    pub(super) fn give(&self, key: &Key, finished: &Finished) -> bool {
        let Some(unclaimed) = &self.hooks.unclaimed else { return false };
        let taken = caught(|| unclaimed(key, finished));
        if taken.is_none() {
            tracing::error!(key = %key.label(), "the hook for unclaimed outcomes panicked: submit or resume the key for the outcome");
        }
        taken.is_some()
    }

    /// Somebody has the outcome of this job now. If nobody had it before, that is noted in the store.
    pub(super) fn claim(&mut self, id: OperationId) {
        if !self.unclaimed.remove(id) {
            return;
        }
        let now = self.now;
        let Some(record) = self.engine.operation(id).map(|operation| operation.record()) else { return };
        debug_assert!(matches!(record.stage, Stage::Delivered(_)), "it has ended");
        self.journal.note(id, Entry::new(record, self.provider_name.clone(), now));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use steadfast_core::engine::Limits;
    use steadfast_core::{Fingerprint, Gate, OperationPolicy, Seed, Timestamp};

    use super::*;

    /// I15: of a restart's jobs that end one after the other, and nobody asks for, as many are held as the engine knows, and each costs the same.
    #[test]
    fn many_that_nobody_claims_cost_no_more_each_than_few() {
        const REMEMBERED: usize = 10_000;
        let limits = Limits { live: u32::MAX, ..Limits::default() };
        let mut engine = Engine::new(OperationPolicy::default(), Gate::unlimited(), limits, Seed::new(7));
        let submit =
            |n| engine.submit(Key::new(format!("order-{n}")).unwrap(), Fingerprint::new([0; 16]), Timestamp::EPOCH);
        let ids: Vec<_> = (0..10 * REMEMBERED).map(submit).map(|submitted| submitted.unwrap().id()).collect();
        let (mut unclaimed, looks) = (Unclaimed::default(), Cell::new(0));
        for (n, id) in ids.iter().enumerate() {
            let first_known = n.saturating_sub(REMEMBERED);
            let is_known = |id: OperationId| {
                looks.set(looks.get() + 1);
                ids[first_known..].binary_search(&id).is_ok()
            };
            unclaimed.insert(*id, is_known);
            assert!(unclaimed.jobs.len() <= 2 * REMEMBERED + 1, "{}", unclaimed.jobs.len());
        }
        assert!(unclaimed.contains(ids[9 * REMEMBERED]), "all that are known are held");
        assert!(looks.get() <= 3 * ids.len(), "{} looks", looks.get());
    }
}
