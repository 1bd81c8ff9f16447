//! The last answers of operations that have ended, for repeated submits: bounded in bytes, oldest dropped first, and no
//! longer than the operation itself is remembered. They may be personal data.
//!
//! And those of operations that go on, in case that no other follows: within the same bound, so long as there is room.

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
    /// Of those that go on.
    latest: ById<FinalAnswer>,
    latest_bytes: usize,
}

impl Results {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            answers: ById::default(),
            order: VecDeque::new(),
            latest: ById::default(),
            latest_bytes: 0,
        }
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

    /// Holds what was said last of a job that goes on, in place of what was said before. It is not held if there is no
    /// room for it: others' would have to be looked for to make some.
    pub(super) fn hold(&mut self, id: OperationId, answer: FinalAnswer) {
        self.let_go(id);
        let size = answer.body.len() + ENTRY;
        if size <= self.limit.saturating_sub(self.latest_bytes) {
            self.latest_bytes += size;
            self.latest.insert(id, answer);
        }
    }

    pub(super) fn let_go(&mut self, id: OperationId) -> Option<FinalAnswer> {
        let answer = self.latest.remove(&id)?;
        self.latest_bytes -= answer.body.len() + ENTRY;
        Some(answer)
    }

    /// What was said last of a job that goes on.
    pub(super) fn latest(&self, id: OperationId) -> Option<&FinalAnswer> {
        self.latest.get(&id)
    }

    pub(super) fn get(&self, id: OperationId) -> Option<FinalAnswer> {
        self.answers.get(&id).cloned()
    }
}
