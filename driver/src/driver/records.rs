//! Records on their way to the store, and what follows once they are there, or could not be written.

use steadfast_core::OperationId;
use steadfast_core::engine::Event;
use steadfast_core::operation::{Outcome, RecordId, Stage};
use steadfast_store::{Entry, KeptAnswer};

use super::Driver;
use crate::finished::{FinalAnswer, SubmitError};
use crate::journal::{Batch, Done, Fate};

impl<H> Driver<H> {
    /// Has a record written, with what is to be kept beside it.
    pub(super) fn persist(&mut self, id: OperationId, number: RecordId) {
        if let Some(job) = self.job(id) {
            job.intent.get_or_insert(number);
        }
        let Some(operation) = self.engine.operation(id).filter(|_| !self.journal.is_volatile()) else {
            return self.journal.push(id, number, None);
        };
        let now = self.now;
        let mut record = operation.record();
        if let Stage::Delivered(outcome) = record.stage
            && self.unclaimed.contains(id)
        {
            // An unresolved job needs a reference that came after its end, to be resumed; with another outcome, nothing
            // that came later is needed.
            if record.reference.is_none() || !matches!(outcome, Outcome::Unresolved(_)) {
                return self.journal.push(id, number, None);
            }
            record.stage = Stage::Ended(outcome);
        }
        let planned = matches!(record.stage, Stage::Planned);
        let name = self.journal.spare_name().unwrap_or_else(|| self.provider_name.clone());
        let mut entry = Entry::new(record, name, now);
        let keep = self.journal.keep();
        let job = self.jobs.get(id);
        let lacks_payload = job.is_none_or(|job| job.payload.is_none());
        if let Some(job) = job {
            if keep.payloads && !job.payload_kept && !entry.has_ended() {
                entry.payload = job.payload.as_ref().map(|payload| payload.bytes().to_vec());
            }
            if keep.answers && matches!(entry.record.stage, Stage::Ended(_)) {
                let kept =
                    |answer: &FinalAnswer| KeptAnswer { status: answer.status.as_u16(), body: answer.body.to_vec() };
                entry.answer = job.answer.as_ref().map(kept);
            }
        }
        self.journal.push(id, number, Some(entry));
        if planned && lacks_payload {
            // A look-up has proved that nothing ran, so the job is still to be created, once a caller brings its
            // payload.
            self.withdraw(id);
        }
    }

    pub(super) fn done(&mut self, Done { batch, found }: Done) {
        if let Some((batch, fate)) = batch {
            self.committed(batch, fate);
        }
        for (question, found) in found {
            if self.closed {
                // Too late to be taken in: what nobody can carry out must not be promised.
                question.refuse_stopped();
                continue;
            }
            self.looked_up(question, found);
        }
    }

    /// Drops what is held for jobs that the engine no longer knows.
    fn forget_disowned(&mut self, ids: &[OperationId]) {
        for id in ids {
            if self.engine.operation(*id).is_none() {
                if let Some(mut job) = self.jobs.remove(*id) {
                    self.results.let_go(&mut job);
                }
                self.meter.forget(*id);
                self.note_name(*id);
            }
        }
    }

    fn committed(&mut self, batch: Batch, fate: Fate) {
        let now = self.now;
        let (operations, durable) = (batch.operations, matches!(fate, Fate::Durable));
        self.fetch_written(&operations);
        // Jobs that are forgotten here: a store that is gone takes jobs with it, and the caller of a shutdown is told
        // of them.
        let mut in_doubt = Vec::new();
        let event = match fate {
            Fate::Durable => {
                for id in batch.payloads {
                    if let Some(job) = self.jobs.get_mut(id) {
                        job.payload_kept = true;
                    }
                }
                for id in &operations {
                    if let Some(job) = self.jobs.get_mut(*id).filter(|job| job.rests_on(batch.last)) {
                        job.durable = true;
                        for reply in std::mem::take(&mut job.replies) {
                            job.hand_out(*id, reply);
                        }
                    }
                }
                Event::Persisted(batch.last)
            }
            Fate::Failed(error) => {
                for id in &operations {
                    if let Some(job) = self.jobs.get_mut(*id).filter(|job| job.rests_on(batch.last)) {
                        job.failure = Some(error.clone());
                    }
                }
                Event::PersistFailed(batch.last)
            }
            Fate::Unknown(error) => {
                // Nothing was sent, and nothing will be by this client; but the intent may be on disk. So the job gets
                // no outcome, and a caller that submits the key again is told what the store says then.
                for id in &operations {
                    let job = self.jobs.get_mut(*id).filter(|job| job.rests_on(batch.last));
                    for reply in job.map(|job| std::mem::take(&mut job.replies)).unwrap_or_default() {
                        reply.refuse(SubmitError::Uncertain(error.clone()));
                    }
                    in_doubt.extend(self.unfinished(*id).map(|unfinished| (*id, unfinished)));
                }
                Event::PersistUnknown(batch.last)
            }
        };
        self.engine.handle(event, now);
        if !durable {
            self.forget_disowned(&operations);
        }
        for id in operations.iter().filter(|id| self.engine.operation(**id).is_none()) {
            self.results.drop(*id);
        }
        in_doubt.retain(|(id, _)| self.engine.operation(*id).is_none());
        if let Some(closing) = &mut self.closing {
            closing.in_doubt.extend(in_doubt.into_iter().map(|(_, unfinished)| unfinished));
        }
        for id in &operations {
            self.tell_accepted(*id);
            self.refuse_resumed(*id);
        }
        self.keep_promises(&operations, durable);
    }

    /// A caller that resumed a job does not wait until the disk has room again, as the job does. The caller of a new
    /// job is told by its end.
    fn refuse_resumed(&mut self, id: OperationId) {
        let goes_on = self.engine.operation(id).is_some_and(|operation| operation.outcome().is_none());
        let Some(job) = self.jobs.get_mut(id).filter(|job| goes_on && !job.durable) else { return };
        if let Some(error) = job.failure.take() {
            for reply in std::mem::take(&mut job.replies) {
                reply.refuse(SubmitError::NotDurable(error.clone()));
            }
        }
    }
}
