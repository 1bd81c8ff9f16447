//! The last answers of operations that have ended, for repeated submits: bounded in bytes, oldest dropped first, and held
//! no longer than the operation itself is remembered. They may be personal data.
//!
//! And how much room there is for the latest answers of operations under way, in case no other follows. It has the same
//! bound; the answers are with their [jobs](super::Job).

use std::collections::VecDeque;

use steadfast_core::OperationId;

use super::Job;
use super::by_id::ById;
use crate::finished::FinalAnswer;

/// What an entry costs beside its body.
const ENTRY: usize = 128;

pub(super) struct Results {
    limit: usize,
    bytes: usize,
    answers: ById<FinalAnswer>,
    order: VecDeque<(OperationId, usize)>,
    /// Of operations under way.
    latest_bytes: usize,
}

impl Results {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, answers: ById::default(), order: VecDeque::new(), latest_bytes: 0 }
    }

    pub(super) fn keep(&mut self, id: OperationId, answer: Option<FinalAnswer>) {
        let Some(answer) = answer else { return };
        let size = answer.body.len() + ENTRY;
        if self.answers.insert(id, answer).is_some() {
            self.leave_order(id);
        }
        self.bytes += size;
        self.order.push_back((id, size));
        // The newest stays even if it alone exceeds the limit: the next caller finds it.
        while self.bytes > self.limit && self.order.len() > 1 {
            let Some((oldest, size)) = self.order.pop_front() else { break };
            self.answers.remove(&oldest);
            self.bytes -= size;
        }
    }

    /// Drops answers that nobody can ask for any more: the engine does not know their operations.
    pub(super) fn forget(&mut self, is_known: impl Fn(OperationId) -> bool) {
        while let Some((oldest, size)) = self.order.front().copied().filter(|(id, _)| !is_known(*id)) {
            self.order.pop_front();
            self.answers.remove(&oldest);
            self.bytes -= size;
        }
    }

    /// Drops the answer of a job that is resumed, since it is no longer the last word; or of one that was rejected, and is
    /// forgotten before others that ended earlier.
    pub(super) fn drop(&mut self, id: OperationId) {
        if self.answers.remove(&id).is_some() {
            self.leave_order(id);
        }
    }

    fn leave_order(&mut self, id: OperationId) {
        // From the newest on: what was rejected has ended just now.
        let place = self.order.iter().rposition(|(kept, _)| *kept == id);
        if let Some((_, size)) = place.and_then(|place| self.order.remove(place)) {
            self.bytes -= size;
        }
    }

    /// Gives a job under way its latest answer, in place of the one before, if there is room for it. To make some,
    /// another job's answer would have to be searched for.
    pub(super) fn hold<H>(&mut self, job: &mut Job<H>, answer: FinalAnswer) {
        self.let_go(job);
        let size = answer.body.len() + ENTRY;
        if size <= self.limit.saturating_sub(self.latest_bytes) {
            self.latest_bytes += size;
            (job.answer, job.takes_room) = (Some(answer), true);
        }
    }

    /// Takes a job's answer, and the room that it took.
    pub(super) fn let_go<H>(&mut self, job: &mut Job<H>) -> Option<FinalAnswer> {
        let answer = job.answer.take()?;
        if std::mem::take(&mut job.takes_room) {
            self.latest_bytes -= answer.body.len() + ENTRY;
        }
        Some(answer)
    }

    pub(super) fn get(&self, id: OperationId) -> Option<FinalAnswer> {
        self.answers.get(&id).cloned()
    }
}
