//! How jobs end: who is told, and what is kept for whoever asks later.
//!
//! An outcome is *delivered* once somebody has it: who waits for it, else the program's own hook. Without a hook, who took a handle and dropped it has let go of the
//! outcome, so that counts as well. But a job that a restart took up may end while nobody has asked for it yet, and one may end during a shutdown, after its
//! handle went down with its caller: these stay *ended* in the store, never forgotten, until somebody claims them by submitting or resuming their key,
//! in this process or a later one. To the engine they are delivered at once: it has nothing left to do for them.

use steadfast_core::OperationId;
use steadfast_core::engine::Event;
use steadfast_core::operation::{AttemptId, Outcome, Rejected, Stage};
use steadfast_store::Entry;

use super::{Driver, Job};
use crate::finished::{FinalAnswer, Finished, SubmitError, Unread};

impl<H> Driver<H> {
    /// Tells everybody who waits.
    pub(super) fn end(&mut self, id: OperationId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.telling.await_no_more();
        }
        self.tell_accepted(id);
        let job = self.jobs.remove(&id).unwrap_or_default();
        let Job { answer, waiters, replies, failure, followed, trace, withdrawn, .. } = job;
        withdrawn.map(|id| self.withdrawn.remove(&id));
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
                let told = waiter.send(Unread::new(finished.clone(), self.back.clone()));
                claimed |= told.map_err(|untold| untold.into_inner().read()).is_ok();
            }
            let not_durable = finished.outcome == Outcome::Rejected(Rejected::NotDurable);
            // Nothing is kept of it, so there is nothing to claim.
            claimed |= not_durable;
            for reply in replies {
                match &failure {
                    Some(error) if not_durable => reply.refuse(SubmitError::NotDurable(error.clone())),
                    _ => claimed |= reply.follow_finished(Some(id), Unread::new(finished.clone(), self.back.clone())),
                }
            }
            if !claimed && !lets_go && !self.hand_over(Some(id), &finished) && !self.journal.is_volatile() {
                self.remember_unclaimed(id);
            }
        }
        let now = self.now;
        self.engine.handle(Event::Delivered(id), now);
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

    /// A webhook has said first that the provider has the job. The page that a person must open is in the create's answer alone, so if that is on its way, and
    /// somebody waits for it, the create goes on, and nothing else leaves for its job. A second create might not have left yet, and must not now. Tells whether it goes on.
    pub(super) fn await_answer(&mut self, id: OperationId, changed: bool) -> bool {
        let operation = self.engine.operation(id);
        let is_accepted = operation.is_some_and(|it| it.creates() == 1 && it.reference().is_some() && !it.has_ended());
        let job = self.jobs.get_mut(&id).filter(|job| is_accepted && job.request.is_some());
        job.is_some_and(|job| job.telling.await_answer(changed))
    }

    /// The request is over: what the webhook told of besides is asked for now.
    pub(super) fn await_no_answer(&mut self, id: OperationId, attempt: AttemptId) {
        let job = self.jobs.get_mut(&id).filter(|job| job.sent == Some(attempt));
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

    fn remember_unclaimed(&mut self, id: OperationId) {
        // The engine forgets, and then the store alone knows.
        if self.unclaimed.len() >= self.limits.remember.max(1) as usize {
            self.unclaimed.retain(|id| self.engine.operation(*id).is_some());
        }
        self.unclaimed.insert(id);
    }

    /// Somebody has the outcome of this job now.
    pub(super) fn claim(&mut self, id: OperationId) {
        self.untaken.leave(id);
        self.note_claim(id);
    }

    /// If nobody had it before, that is noted in the store.
    pub(super) fn note_claim(&mut self, id: OperationId) {
        if !self.unclaimed.remove(&id) {
            return;
        }
        let now = self.now;
        let Some(record) = self.engine.operation(id).map(|operation| operation.record()) else { return };
        debug_assert!(matches!(record.stage, Stage::Delivered(_)), "it has ended");
        self.journal.note(id, Entry::new(record, self.provider_name.clone(), now));
    }
}
