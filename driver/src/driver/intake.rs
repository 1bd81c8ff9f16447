//! How jobs come in: new ones, submits that join a job under way or ask for an earlier outcome, and jobs that are
//! resumed.
//!
//! A key that is not known here is looked up in the store before it counts as new: the engine forgets, the store
//! remembers for the key's window. The look-up runs with the next commit, so it costs no trip of its own when there is
//! much to do.

use std::sync::Arc;

use oneshot::Sender;
use steadfast_core::engine::{Event, SubmitError as Refused, Submitted};
use steadfast_core::operation::{Outcome, Record, Stage};
use steadfast_core::{Fingerprint, Key, OperationId};
use steadfast_providers::{Payload, WebhookEvent, fingerprint};
use steadfast_store::{Entry, KeptAnswer, StoreError};

use super::callers::{Following, Reply};
use super::job::Few;
use super::status::{Asker, StatusError};
use super::{Driver, Job};
use crate::finished::{FinalAnswer, Finished, ResumeError, SubmitError, Unread};
use crate::journal::Found;
use crate::keep::creates_next;
use crate::observe::Begun;
use crate::span::{JobTrace, Origin};
use crate::trace_context::TraceContext;

/// While this many questions wait for the store, a status or a resume is refused. Those of webhooks and submits count
/// here as well, but are still taken beyond it.
pub(super) const MOST_ASKING: usize = 5_000;

/// A job to be taken in.
#[derive(Debug)]
#[non_exhaustive]
pub struct Submit {
    /// The caller's name for it.
    pub key: Key,
    /// The body of its create.
    pub payload: Payload,
    /// The fingerprint of both.
    pub fingerprint: Fingerprint,
    /// Where the caller is answered, once the intent is durable. If it is dropped unanswered, the client has stopped:
    /// [`SubmitError::Stopped`].
    pub reply: Sender<Result<Following, SubmitError>>,
    /// The trace and span that it comes from, if somebody traces.
    pub(crate) origin: Option<Box<Origin>>,
}

impl Submit {
    /// A job under this key. Computes the fingerprint, which takes a while for a large payload: call it on the caller's
    /// thread or task, not in the adapter's loop.
    #[must_use]
    pub fn new(key: Key, payload: Payload, reply: Sender<Result<Following, SubmitError>>) -> Self {
        let fingerprint = fingerprint(&key, &payload);
        Self { key, payload, fingerprint, reply, origin: Origin::here(None) }
    }

    /// Places the job in a trace: its requests leave as spans of that trace. See
    /// [`Settings::trace_source`](crate::Settings::trace_source).
    #[must_use]
    pub fn traced(mut self, context: Option<TraceContext>) -> Self {
        if context.is_some() {
            self.origin = Origin::here(context);
        }
        self
    }
}

/// What is done once a key has been looked up in the store.
pub(crate) enum Question {
    Submit {
        key: Key,
        payload: Payload,
        print: Fingerprint,
        reply: Reply,
        origin: Option<Box<Origin>>,
    },
    Resume {
        key: Key,
        reply: Reply,
    },
    /// Somebody wants to know where the job stands.
    Status {
        key: Key,
        reply: Asker,
    },
    /// A webhook, perhaps about a job that has ended and that the store alone knows.
    Webhook {
        key: Key,
        event: Box<WebhookEvent>,
        /// Finds where its sender is answered.
        ticket: u64,
    },
}

impl Question {
    pub(crate) const fn key(&self) -> &Key {
        match self {
            Self::Submit { key, .. }
            | Self::Resume { key, .. }
            | Self::Status { key, .. }
            | Self::Webhook { key, .. } => key,
        }
    }

    /// Whether a job may come of it, by a submit or a resume.
    pub(crate) const fn is_about_job(&self) -> bool {
        matches!(self, Self::Submit { .. } | Self::Resume { .. })
    }

    fn refuse(self, why: SubmitError) {
        match self {
            Self::Submit { reply, .. } | Self::Resume { reply, .. } => reply.refuse(why),
            Self::Status { reply, .. } => drop(reply.send(Err(StatusError::of_submit(why)))),
            Self::Webhook { .. } => {}
        }
    }

    pub(super) fn refuse_stopped(self) {
        self.refuse(SubmitError::Stopped);
    }
}

impl<H> Driver<H> {
    pub(super) fn take(&mut self, Submit { key, payload, fingerprint: print, reply, origin }: Submit) {
        let reply = Reply::Submit(reply);
        if self.journal.is_volatile() || self.is_at_hand(&key) {
            return self.take_in(key, payload, print, reply, origin);
        }
        self.journal.ask(Question::Submit { key, payload, print, reply, origin });
    }

    /// Whether a repeated submit can be answered in full without the store.
    pub(super) fn is_at_hand(&self, key: &Key) -> bool {
        let goes_on = |id| {
            self.jobs.contains(id) || self.engine.operation(id).is_some_and(|operation| operation.outcome().is_none())
        };
        let complete = |id| goes_on(id) || !self.journal.keep().answers || self.results.get(id).is_some();
        self.parked.contains(key) || self.engine.find(key).is_some_and(complete)
    }

    pub(super) fn looked_up(&mut self, question: Question, found: Found) {
        let question = match question {
            Question::Webhook { event, ticket, .. } => return self.looked_up_ended(*event, ticket, found),
            question => question,
        };
        let found = match found {
            Ok(found) => found,
            Err(error) => return question.refuse(SubmitError::Unreadable(error)),
        };
        match question {
            _ if found.as_ref().is_some_and(|entry| entry.provider != self.provider_name) => {
                let theirs = found.map(|entry| entry.provider).unwrap_or_default();
                let cause = format!("this key is there as a job of another provider, {theirs:?}");
                let error = StoreError::read(cause).advising("give each provider a store of its own");
                question.refuse(SubmitError::Unreadable(Arc::new(error)));
            }
            Question::Submit { key, payload, print, reply, origin } => {
                // Another submit may have been faster.
                match found.filter(|_| !self.is_at_hand(&key)).filter(|entry| self.is_remembered(entry)) {
                    Some(entry) => self.submit_again(*entry, payload, print, reply, origin),
                    None => self.take_in(key, payload, print, reply, origin),
                }
            }
            Question::Resume { key, reply } => self.resume_stored(&key, found, reply),
            Question::Status { key, reply } => self.looked_up_status(&key, found, reply),
            Question::Webhook { .. } => {}
        }
    }

    /// Whether the entry still holds its key. It does not if nothing ran, nor once it is settled and its window has
    /// passed. A job that may have run keeps its key.
    fn is_remembered(&self, entry: &Entry) -> bool {
        let now = self.now;
        let free =
            matches!(entry.record.stage, Stage::Ended(Outcome::Rejected(_)) | Stage::Delivered(Outcome::Rejected(_)));
        !free && (!entry.is_settled() || entry.at.saturating_add(self.limits.remember_for) > now)
    }

    /// The store knows the key, and the engine does not.
    fn submit_again(
        &mut self,
        entry: Entry,
        payload: Payload,
        print: Fingerprint,
        reply: Reply,
        origin: Option<Box<Origin>>,
    ) {
        if entry.record.fingerprint != print {
            return reply.refuse(Refused::FingerprintMismatch.into());
        }
        let key = entry.record.key.clone();
        match finished_of(&entry) {
            Some(finished) if self.is_told_from(&entry) => self.tell_stored(&key, finished, reply),
            finished => {
                if let Err(reply) = self.restore_for(reply, entry.record, Some(payload.clone()), finished) {
                    // The engine has it after all: it is joined.
                    self.take_in(key, payload, print, reply, origin);
                }
            }
        }
    }

    /// Whether the entry of a job that has ended says all there is to say: its outcome was delivered, or the engine has
    /// nothing left to do for it.
    fn is_told_from(&self, entry: &Entry) -> bool {
        entry.is_delivered() || self.engine.find(&entry.record.key).is_some()
    }

    /// Tells the outcome to a caller that asks after the end. If somebody had it before, it need not be given back when
    /// this one is dropped unread.
    fn tell_once_more(&mut self, id: Option<OperationId>, finished: Finished, reply: Reply) {
        let is_untaken = |id| self.journal.is_volatile() && self.untaken.contains(id);
        let back = self.back.clone().filter(|_| id.is_some_and(|id| self.unclaimed.contains(id) || is_untaken(id)));
        let told = Unread::new(finished, back);
        reply.follow_finished(id, told.share());
        if told.untold().is_none() {
            id.into_iter().for_each(|id| self.claim(id));
        }
    }

    /// Answers from the store's entry, which may say more than is remembered here.
    fn tell_stored(&mut self, key: &Key, finished: Finished, reply: Reply) {
        self.tell_once_more(self.engine.find(key), finished, reply);
    }

    /// Takes up a job that only the store knew, for a caller that follows it. If it has ended, its outcome is told once
    /// more, and then is delivered.
    fn restore_for(
        &mut self,
        reply: Reply,
        record: Record,
        payload: Option<Payload>,
        finished: Option<Finished>,
    ) -> Result<(), Reply> {
        let now = self.now;
        let Ok(id) = self.engine.restore(record, now) else { return Err(reply) };
        let answer = finished.and_then(|finished| finished.answer);
        self.meter.begun(Begun::Restored);
        let trace = self.begin_trace(id, Begun::Restored, None);
        self.jobs.insert(id, Job { payload, answer, durable: true, trace, ..Job::default() });
        self.join(id, reply);
        self.match_early(id);
        Ok(())
    }

    fn take_in(&mut self, key: Key, payload: Payload, print: Fingerprint, reply: Reply, origin: Option<Box<Origin>>) {
        let now = self.now;
        if let Some(parked) = self.parked.get(&key) {
            if parked.fingerprint != print {
                return reply.refuse(Refused::FingerprintMismatch.into());
            }
            // The payload is here again: the job goes on where the record says.
            return self.unpark(&key, payload, reply);
        }
        match self.engine.submit(key, print, now) {
            Ok(Submitted::Started(id)) => {
                if let Some(operation) = self.engine.operation(id).filter(|_| self.untaken.has_rejected()) {
                    self.untaken.leave_rejected(&operation.key());
                }
                self.meter.begun(Begun::Submitted);
                let trace = self.begin_trace(id, Begun::Submitted, origin);
                self.jobs.insert(id, Job { payload: Some(payload), trace, ..Job::default() });
                self.join(id, reply);
                self.match_early(id);
            }
            Ok(Submitted::Joined(id)) => {
                let is_accepted = self.engine.operation(id).is_some_and(|operation| operation.reference().is_some());
                if let Some(job) = self.job(id) {
                    if !is_accepted {
                        job.payload.get_or_insert(payload);
                    }
                    if let Some(trace) = &job.trace {
                        trace.joined(origin);
                    }
                }
                self.join(id, reply);
            }
            Err(refused) => reply.refuse(refused.into()),
        }
    }

    /// `None` if nobody traces.
    pub(super) fn begin_trace(
        &self,
        id: OperationId,
        begun: Begun,
        origin: Option<Box<Origin>>,
    ) -> Option<Box<JobTrace>> {
        let operation = self.engine.operation(id)?;
        JobTrace::begin(&self.provider_name, operation, begun, origin)
    }

    /// Answers a caller that wants to follow the job: at once if the operation is durable or has ended, else once it is
    /// durable.
    pub(super) fn join(&mut self, id: OperationId, reply: Reply) {
        match self.job(id) {
            Some(job) if job.durable => {
                job.hand_out(id, reply);
                self.tell_accepted(id);
            }
            Some(job) => job.wait(reply),
            None => match self.finished(id) {
                Some(finished) => self.tell_once_more(Some(id), finished, reply),
                None => reply.refuse(SubmitError::Stopped),
            },
        }
    }

    /// Goes on polling a job that ended as unresolved, or joins one under way.
    pub(super) fn resume(&mut self, key: Key, reply: Reply) {
        if self.parked.contains(&key) {
            return reply.refuse_resume(ResumeError::PayloadNeeded);
        }
        let complete = self.is_at_hand(&key);
        let Some(id) = self.engine.find(&key).filter(|id| complete || !self.is_final(*id)) else {
            if self.journal.is_volatile() {
                return reply.refuse_resume(ResumeError::UnknownKey);
            }
            if self.closing.is_some() {
                // The store may have it, for a later client.
                return reply.refuse_resume(ResumeError::Stopped);
            }
            if self.journal.asking() >= MOST_ASKING {
                return reply.refuse_resume(ResumeError::Busy);
            }
            return self.journal.ask(Question::Resume { key, reply });
        };
        self.resume_known(id, reply);
    }

    fn is_final(&self, id: OperationId) -> bool {
        let outcome = self.engine.operation(id).and_then(|operation| operation.outcome());
        outcome.is_some_and(|outcome| !matches!(outcome, Outcome::Unresolved(_)))
    }

    fn resume_known(&mut self, id: OperationId, reply: Reply) {
        let Some(operation) = self.engine.operation(id) else { return reply.refuse_resume(ResumeError::UnknownKey) };
        match operation.outcome() {
            Some(Outcome::Unresolved(why)) if operation.reference().is_none() => {
                reply.refuse_resume(ResumeError::NoReference(why));
            }
            Some(Outcome::Unresolved(_)) if operation.can_resume() => {
                self.results.drop(id);
                self.unclaimed.remove(id);
                self.untaken.leave(id);
                self.meter.begun(Begun::Resumed);
                let trace = self.begin_trace(id, Begun::Resumed, None);
                self.jobs.insert(id, Job { replies: Few::from([reply]), trace, ..Job::default() });
                let now = self.now;
                self.engine.handle(Event::Resume(id), now);
            }
            _ => self.join(id, reply),
        }
    }

    fn resume_stored(&mut self, key: &Key, found: Option<Box<Entry>>, reply: Reply) {
        // By now, perhaps: it may have been taken up for somebody else meanwhile.
        if self.parked.contains(key) {
            return reply.refuse_resume(ResumeError::PayloadNeeded);
        }
        if let Some(id) = self.engine.find(key).filter(|id| !self.is_final(*id)) {
            return self.resume_known(id, reply);
        }
        let Some(entry) = found else { return reply.refuse_resume(ResumeError::UnknownKey) };
        match finished_of(&entry) {
            Some(Finished { outcome: Outcome::Unresolved(why), reference: None, .. }) => {
                reply.refuse_resume(ResumeError::NoReference(why));
            }
            Some(finished) if !matches!(finished.outcome, Outcome::Unresolved(_)) => {
                if self.is_told_from(&entry) {
                    self.tell_stored(key, finished, reply);
                } else if let Err(reply) = self.restore_for(reply, entry.record, None, Some(finished)) {
                    reply.refuse_resume(ResumeError::UnknownKey);
                }
            }
            None => self.resume_under_way(*entry, reply),
            _ => {
                let (now, mut record) = (self.now, entry.record);
                if let Stage::Ended(outcome) = record.stage {
                    // A caller that resumes the job has that outcome already, or does not want it.
                    record.stage = Stage::Delivered(outcome);
                }
                match self.engine.restore(record, now) {
                    Ok(id) => {
                        self.resume_known(id, reply);
                        self.match_early(id);
                    }
                    Err(_) => reply.refuse_resume(ResumeError::UnknownKey),
                }
            }
        }
    }

    /// Takes up a job under way that was left out at the start: it goes on if its next step needs no payload, or the
    /// store has the payload.
    fn resume_under_way(&mut self, Entry { record, payload, .. }: Entry, reply: Reply) {
        let payload = payload.map(Payload::from);
        if payload.is_none() && creates_next(&record, self.engine.policy()) {
            // The job stays in the store: in the engine it would end for lack of a payload.
            return reply.refuse_resume(ResumeError::PayloadNeeded);
        }
        let job = Job { payload, payload_kept: true, ..Job::default() };
        match self.restore(record, Some(job)) {
            Some(id) => self.join(id, reply),
            None => reply.refuse_resume(ResumeError::UnknownKey),
        }
    }
}

/// How the job of an entry ended, if it has.
fn finished_of(entry: &Entry) -> Option<Finished> {
    let (Stage::Ended(outcome) | Stage::Delivered(outcome)) = entry.record.stage else { return None };
    let answer = entry.answer.as_ref().and_then(final_answer);
    Some(Finished {
        key: entry.record.key.clone(),
        outcome,
        reference: entry.record.reference.clone(),
        creates: entry.record.creates,
        answer,
    })
}

pub(super) fn final_answer(kept: &KeptAnswer) -> Option<FinalAnswer> {
    let status = http::StatusCode::from_u16(kept.status).ok()?;
    Some(FinalAnswer { status, body: kept.body.clone().into() })
}
