//! What is held for an operation beside the engine's state.

use std::hint::black_box;
use std::sync::Arc;

use oneshot::Sender;
use smallvec::SmallVec;
use steadfast_core::OperationId;
use steadfast_core::operation::{AttemptId, RecordId};
use steadfast_providers::Payload;
use steadfast_store::StoreError;

use super::Driver;
use super::callers::Reply;
use crate::accepted::Telling;
use crate::finished::{FinalAnswer, Unread};
use crate::observe::Begun;
use crate::span::JobTrace;

/// One, as a rule.
pub(super) type Few<T> = SmallVec<[T; 1]>;

/// What is held for an operation that has not ended: the bytes, and who waits. See [`Driver::job`].
pub(super) struct Job<H> {
    /// What a create would send, until the provider has the job; after a restart it may not be at hand.
    pub(super) payload: Option<Payload>,
    /// Whether the store has the payload.
    pub(super) payload_kept: bool,
    /// Submits that wait for the intent to be durable.
    pub(super) replies: Few<Reply>,
    /// Handles that wait for the end.
    pub(super) waiters: Few<Sender<Unread>>,
    /// What the adapter holds for the request in flight, or for one that was given up and may not be gone yet.
    pub(super) request: Option<H>,
    /// The request that was sent last.
    pub(super) sent: Option<AttemptId>,
    /// The latest answer, if there was room for it. Once it is decided how the job ends: the answer that comes with its
    /// end, if one does, until that is durable.
    pub(super) answer: Option<FinalAnswer>,
    /// Whether the answer takes of the room that answers of jobs under way share: see the [results](super::Results).
    pub(super) takes_room: bool,
    /// The newest generation of credentials for which a create was refused.
    pub(super) refused_with: Option<u32>,
    /// The callers to tell that the provider has the job.
    pub(super) telling: Telling,
    pub(super) durable: bool,
    /// Whether a handle was given out. If there is no hook for unclaimed outcomes, dropping it gives up the outcome.
    pub(super) followed: bool,
    /// The record that makes the job durable: the first that is asked for. A record from before a resume may still be
    /// on its way.
    pub(super) intent: Option<RecordId>,
    /// Why its intent is not on disk.
    pub(super) failure: Option<Arc<StoreError>>,
    /// The job's span, if somebody traces.
    pub(super) trace: Option<Box<JobTrace>>,
    /// The id that its handles have, if it was taken out of the engine.
    pub(super) withdrawn: Option<OperationId>,
}

impl<H> Job<H> {
    /// Reads a word of each cache line that the job takes: those of several jobs arrive together, in the time of one's.
    pub(super) fn touch(&self) {
        black_box((
            self.payload.is_some(),
            self.waiters.len(),
            self.replies.len(),
            self.request.is_some(),
            self.answer.is_some(),
        ));
        black_box((self.sent, self.intent, self.durable));
    }
}

impl<H> Default for Job<H> {
    fn default() -> Self {
        Self {
            payload: None,
            payload_kept: false,
            replies: Few::new(),
            waiters: Few::new(),
            request: None,
            sent: None,
            answer: None,
            takes_room: false,
            refused_with: None,
            telling: Telling::default(),
            durable: false,
            followed: false,
            intent: None,
            failure: None,
            trace: None,
            withdrawn: None,
        }
    }
}

impl<H> Driver<H> {
    /// What is held for an operation under way. For one that a restart took up nothing is held, until there is
    /// something to hold.
    pub(super) fn job(&mut self, id: OperationId) -> Option<&mut Job<H>> {
        if !self.jobs.contains(id) {
            let operation = self.engine.operation(id).filter(|operation| operation.outcome().is_none())?;
            let trace = JobTrace::begin(&self.provider_name, operation, Begun::Restored, None);
            self.jobs.insert(id, Job { durable: true, trace, ..Job::default() });
        }
        self.jobs.get_mut(id)
    }
}
