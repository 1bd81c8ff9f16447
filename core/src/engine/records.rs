//! Records in the order in which the driver learns of them: one row of numbers over all operations, so that one
//! acknowledgement covers a whole batch.

use super::{Engine, OperationId};
use crate::operation::{self, Effect, Operation, RecordId};
use crate::time::Timestamp;

/// A record that was popped and is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Asked {
    /// Its number in the engine.
    pub(super) number: RecordId,
    /// Its number in its operation.
    pub(super) own: RecordId,
    pub(super) id: OperationId,
}

impl Engine {
    /// Gives a record its number in the engine.
    pub(super) fn number(&mut self, id: OperationId, effect: Effect) -> Effect {
        let Effect::Persist(own) = effect else { return effect };
        self.last_record = RecordId(self.last_record.0.saturating_add(1));
        self.asked.push_back(Asked { number: self.last_record, own, id });
        Effect::Persist(self.last_record)
    }

    /// Passes the acknowledgement of all records up to `number` on to their operations.
    pub(super) fn acknowledge(&mut self, number: RecordId, now: Timestamp, event: fn(RecordId) -> operation::Event) {
        const MANY: usize = 64;
        let mut fetched = 0_usize;
        while let Some(asked) = self.asked.front().copied().filter(|asked| asked.number <= number) {
            if fetched == 0 {
                self.fetch(self.asked.iter().take(MANY).map(|asked| asked.id.slot));
                fetched = MANY;
            }
            fetched = fetched.saturating_sub(1);
            self.asked.pop_front();
            if self.operation(asked.id).is_some() {
                self.feed(asked.id, event(asked.own), now);
            }
        }
    }

    /// Forgets the operations of which nobody knows whether anything is durable.
    pub(super) fn disown(&mut self, number: RecordId, now: Timestamp) {
        let mut next = 0_usize;
        while let Some(Asked { id, .. }) = self.asked.get(next).copied().filter(|asked| asked.number <= number) {
            next = next.saturating_add(1);
            let is_open = |operation: &Operation| operation.was_never_durable() && operation.outcome().is_none();
            if self.operation(id).is_some_and(is_open) {
                self.step(id.slot, now, Operation::give_up_permit);
                self.take_out(id);
            }
        }
    }
}
