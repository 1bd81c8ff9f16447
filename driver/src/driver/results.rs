//! The last answers of operations that have ended, for repeated submits: bounded in bytes, oldest dropped first, and no
//! longer than the operation itself is remembered. They may be personal data.
//!
//! And the latest answers of operations under way, in case no other follows: within the same bound, as long as there is
//! room.

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
    /// Those of operations under way.
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

    /// Drops the answer of a job that is resumed: it is no longer the last word.
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

    /// Holds the latest answer of a job under way, in place of the one before. It is not held if there is no room for
    /// it: to make some, another job's answer would have to be searched for.
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

    /// The latest answer of a job under way.
    pub(super) fn latest(&self, id: OperationId) -> Option<&FinalAnswer> {
        self.latest.get(&id)
    }

    pub(super) fn get(&self, id: OperationId) -> Option<FinalAnswer> {
        self.answers.get(&id).cloned()
    }
}
