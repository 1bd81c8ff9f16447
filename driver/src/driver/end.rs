//! How jobs end: who is told, and what is kept for callers that ask later.
//!
//! An outcome is *delivered* once somebody has it: a caller that waits for it, else the program's own hook. If there is
//! no hook, dropping the handle counts as delivery: the caller has said that it does not want the outcome. But a job
//! that a restart took up may end before anybody has asked for it, and a job may end during a shutdown, after its
//! handle was dropped together with its caller. Such jobs stay *ended* in the store, never forgotten, until somebody
//! claims them by submitting or resuming their key, in this process or a later one. To the engine they are delivered at
//! once: it has nothing left to do for them.

use steadfast_core::OperationId;
use steadfast_core::engine::Event;
use steadfast_core::operation::{AttemptId, Outcome, Rejected, Stage};
use steadfast_store::Entry;

use super::by_id::Ids;
use super::{Driver, Job};
use crate::finished::{FinalAnswer, Finished, SubmitError, Unread};

/// How many unclaimed jobs there are before they are swept for the first time.
const SWEEP: usize = 1_024;

/// Jobs that have ended and whose outcome nobody has: delivered to the engine, not in the store.
#[derive(Default)]
pub(super) struct Unclaimed {
    jobs: Ids,
    /// The size at which those that the engine has forgotten, and only the store knows, are next removed.
    sweep_at: usize,
}

impl Unclaimed {
    pub(super) fn contains(&self, id: OperationId) -> bool {
        self.jobs.contains(&id)
    }

    pub(super) fn remove(&mut self, id: OperationId) -> bool {
        self.jobs.remove(&id)
    }

    /// Sweeps once the set has doubled, so that it never holds many more jobs than the engine knows, and each job costs
    /// no more than two looks.
    fn insert(&mut self, id: OperationId, is_known: impl Fn(OperationId) -> bool) {
        if self.jobs.len() >= self.sweep_at.max(SWEEP) {
            self.jobs.retain(|id| is_known(*id));
            self.sweep_at = 2 * self.jobs.len();
        }
        self.jobs.insert(id);
    }
}

impl<H> Driver<H> {
    /// Ends a job, and tells everybody who waits for that.
    pub(super) fn end(&mut self, id: OperationId) {
        if let Some(job) = self.jobs.get_mut(id) {
            job.telling.await_no_more();
        }
        self.tell_accepted(id);
        let mut job = self.jobs.remove(id).unwrap_or_default();
        let answer = self.results.let_go(&mut job);
        let Job { waiters, replies, failure, followed, trace, withdrawn, .. } = job;
        withdrawn.map(|id| self.withdrawn.remove(&id));
        if let Some(outcome) = self.engine.operation(id).and_then(|operation| operation.outcome()) {
            self.note_end(id, outcome, answer.as_ref());
            if let (Some(trace), Some(operation)) = (trace, self.engine.operation(id)) {
                trace.end(operation, outcome);
            }
        }
        let finished = self.finished_with(id, answer.clone());
        // A program with a hook wants to hear of each outcome, and handles are dropped with calls that are cut off.
        // During a shutdown they are dropped for other reasons too.
        let lets_go = followed && self.closing.is_none() && self.hooks.unclaimed.is_none();
        if let Some(finished) = finished {
            let not_durable = finished.outcome == Outcome::Rejected(Rejected::NotDurable);
            let told = Unread::new(finished, self.back.clone());
            for waiter in waiters {
                let _ = waiter.send(told.share());
            }
            for reply in replies {
                match &failure {
                    Some(error) if not_durable => reply.refuse(SubmitError::NotDurable(error.clone())),
                    _ => reply.follow_finished(Some(id), told.share()),
                }
            }
            // Of what was not durable nothing is kept, so there is nothing to claim.
            let unclaimed = told.untold().filter(|_| !not_durable && !lets_go);
            if unclaimed.is_some_and(|finished| !self.hand_over(Some(id), &finished)) && !self.journal.is_volatile() {
                self.remember_unclaimed(id);
            }
        }
        let now = self.now;
        self.engine.handle(Event::Delivered(id), now);
        // One that was rejected is forgotten at once, if its end need not be written; else once it is.
        if self.engine.operation(id).is_some() {
            self.results.keep(id, answer);
        }
        self.note_name(id);
    }

    /// Tells the job's followers that the provider has it, if that is known and on disk. From then on no create leaves,
    /// so the payload, which is somebody's data and may be large, need not be held for as long as the job takes.
    pub(super) fn tell_accepted(&mut self, id: OperationId) {
        let Some(operation) = self.engine.operation(id).filter(|operation| operation.is_durable()) else { return };
        if let (Some(job), Some(reference)) = (self.jobs.get_mut(id), operation.reference()) {
            job.payload = None;
            job.telling.tell(&reference);
        }
    }

    /// A webhook was the first to say that the provider has the job. The page that a person must open is in the
    /// create's answer alone. So if that answer is on its way, and somebody waits for it, the create goes on, and
    /// nothing else leaves for the job. This is not for a second create, which might not have left yet, and must not
    /// leave now. Returns whether the create goes on.
    pub(super) fn await_answer(&mut self, id: OperationId, changed: bool) -> bool {
        let operation = self.engine.operation(id);
        let is_accepted = operation.is_some_and(|it| it.creates() == 1 && it.reference().is_some() && !it.has_ended());
        let job = self.jobs.get_mut(id).filter(|job| is_accepted && job.request.is_some());
        job.is_some_and(|job| job.telling.await_answer(changed))
    }

    /// The request has ended: what else the webhook told of is asked for now.
    pub(super) fn await_no_answer(&mut self, id: OperationId, attempt: AttemptId) {
        let job = self.jobs.get_mut(id).filter(|job| job.sent == Some(attempt));
        let Some(changed) = job.and_then(|job| job.telling.await_no_more()) else { return };
        self.tell_accepted(id);
        if changed {
            self.engine.handle(Event::Changed(id), self.now);
        }
    }

    pub(super) fn finished(&self, id: OperationId) -> Option<Finished> {
        self.finished_with(id, self.results.get(id))
    }

    fn finished_with(&self, id: OperationId, answer: Option<FinalAnswer>) -> Option<Finished> {
        let operation = self.engine.operation(id)?;
        Some(Finished {
            key: operation.key(),
            outcome: operation.outcome()?,
            reference: operation.reference(),
            creates: operation.creates(),
            answer,
        })
    }

    pub(super) fn remember_unclaimed(&mut self, id: OperationId) {
        self.unclaimed.insert(id, |id| self.engine.operation(id).is_some());
    }

    /// Somebody has the outcome of this job now.
    pub(super) fn claim(&mut self, id: OperationId) {
        self.untaken.leave(id);
        self.note_claim(id);
    }

    /// Notes in the store that somebody has the outcome, if nobody had it before.
    pub(super) fn note_claim(&mut self, id: OperationId) {
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
    use steadfast_core::{Engine, Fingerprint, Gate, Key, OperationPolicy, Seed, Timestamp};

    use super::*;

    /// I15: of a restart's jobs that end one after the other, and nobody asks for, as many are held as the engine
    /// knows, and each costs the same.
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
