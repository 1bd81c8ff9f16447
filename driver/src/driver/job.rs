//! What is held for an operation beside the engine's state.

use std::hint::black_box;
use std::sync::Arc;

use oneshot::Sender;
use smallvec::SmallVec;
use steadfast_core::OperationId;
use steadfast_core::operation::{AttemptId, RecordId};
use steadfast_providers::Payload;
use steadfast_store::StoreError;

use super::intake::Reply;
use crate::accepted::Telling;
use crate::finished::{FinalAnswer, Unread};
use crate::span::JobTrace;

/// One, as a rule.
pub(super) type Few<T> = SmallVec<[T; 1]>;

/// What is held for an operation that has not ended: the bytes, and who waits. See [`Driver::job`](super::Driver::job).
pub(super) struct Job<H> {
    /// What a create would send, until the provider has the job; after a restart it may not be at hand.
    pub(super) payload: Option<Payload>,
    /// Whether the store has it.
    pub(super) payload_kept: bool,
    /// Submits that wait for the intent to be durable.
    pub(super) replies: Few<Reply>,
    /// Handles that wait for the end.
    pub(super) waiters: Few<Sender<Unread>>,
    /// What is held for the request in the air, or for one that was given up and is still to be gone.
    pub(super) request: Option<H>,
    /// The request that was sent last.
    pub(super) sent: Option<AttemptId>,
    /// By which it ended, until that is durable. One that ended it not is with the [results](super::Results).
    pub(super) answer: Option<FinalAnswer>,
    /// The newest credentials with which a create was refused for them.
    pub(super) refused_with: Option<u32>,
    /// Whom to tell that the provider has it.
    pub(super) telling: Telling,
    pub(super) durable: bool,
    /// Whether a handle was given out: without a hook for it, whoever drops it lets go of the outcome.
    pub(super) followed: bool,
    /// The record that makes it durable: the first that is asked for. One from before it was resumed is still on its
    /// way, perhaps.
    pub(super) intent: Option<RecordId>,
    /// Why its intent is not on disk.
    pub(super) failure: Option<Arc<StoreError>>,
    /// What follows it, if somebody traces.
    pub(super) trace: Option<Box<JobTrace>>,
    /// The id that its handles have, if it was taken out of the engine.
    pub(super) withdrawn: Option<OperationId>,
}

impl<H> Job<H> {
    /// Reads a word of each line of memory that it takes: several jobs' at once arrive in the time of one's.
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
