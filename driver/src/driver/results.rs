//! The last answers of operations that have ended, for repeated submits: bounded in bytes, oldest dropped first, and no longer than the operation itself is
//! remembered. They may be personal data.

use std::collections::VecDeque;

use steadfast_core::OperationId;

use super::by_id::ById;
use crate::finished::FinalAnswer;

/// What an entry costs beside its body.
const ENTRY: usize = 128;

pub(super) struct Results {
    limit: usize,
    bytes: usize,
    answers: ById<FinalAnswer>,
    order: VecDeque<(OperationId, usize)>,
}

impl Results {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, answers: ById::default(), order: VecDeque::new() }
    }

    pub(super) fn keep(&mut self, id: OperationId, answer: Option<FinalAnswer>) {
        let Some(answer) = answer else { return };
        let size = answer.body.len() + ENTRY;
        if self.answers.insert(id, answer).is_some() {
            self.leave_order(id);
        }
        self.bytes += size;
        self.order.push_back((id, size));
        // The newest stays even if it alone exceeds the limit: whoever asks next finds it.
        while self.bytes > self.limit && self.order.len() > 1 {
            let Some((oldest, size)) = self.order.pop_front() else { break };
            self.answers.remove(&oldest);
            self.bytes -= size;
        }
    }

    /// Those that nobody can ask for any more: the engine does not know their operations.
    pub(super) fn forget(&mut self, is_known: impl Fn(OperationId) -> bool) {
        while let Some((oldest, size)) = self.order.front().copied().filter(|(id, _)| !is_known(*id)) {
            self.order.pop_front();
            self.answers.remove(&oldest);
            self.bytes -= size;
        }
    }

    /// Of a job that is resumed: what was said of it is no longer the last word.
    pub(super) fn drop(&mut self, id: OperationId) {
        if self.answers.remove(&id).is_some() {
            self.leave_order(id);
        }
    }

    fn leave_order(&mut self, id: OperationId) {
        let place = self.order.iter().position(|(kept, _)| *kept == id);
        if let Some((_, size)) = place.and_then(|place| self.order.remove(place)) {
            self.bytes -= size;
        }
    }

    pub(super) fn get(&self, id: OperationId) -> Option<FinalAnswer> {
        self.answers.get(&id).cloned()
    }
}
