//! Records on their way to disk together, and the room that they lie in.

use std::sync::Arc;

use steadfast_core::operation::RecordId;
use steadfast_core::{OperationId, Timestamp};
use steadfast_store::Entry;

/// Records that go to disk together.
#[derive(Default)]
pub(crate) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// The operations whose records they are.
    pub(crate) operations: Vec<OperationId>,
    /// Those of the operations whose payload is in it.
    pub(crate) payloads: Vec<OperationId>,
    /// The latest number among them: it acknowledges all.
    pub(crate) last: RecordId,
    /// Since when the oldest of them waits.
    pub(super) since: Option<Timestamp>,
}

impl Batch {
    /// Takes over the operations of a later batch.
    pub(super) fn append(&mut self, later: &mut Self) {
        self.operations.append(&mut later.operations);
        self.payloads.append(&mut later.payloads);
        self.last = self.last.max(later.last);
        self.since = self.since.or(later.since);
        (later.last, later.since) = (RecordId::default(), None);
    }
}

/// Buffers for entries, to be used again: one batch is written, one is laid out, one is queued. And copies of the
/// provider's name, which entries have in common.
#[derive(Default)]
pub(super) struct Spare {
    rooms: [Vec<Entry>; 3],
    names: Vec<Arc<str>>,
}

impl Spare {
    /// No buffer for more entries than this is kept, and no more names than this.
    const MOST: usize = 1_024;

    /// The largest buffer.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        self.rooms.iter_mut().max_by_key(|room| room.capacity()).map(std::mem::take).unwrap_or_default()
    }

    /// The provider's name, as an entry had it that is written.
    pub(super) fn name(&mut self) -> Option<Arc<str>> {
        self.names.pop()
    }

    /// Entries are dropped here, on the thread that made them: they share names, and reference counts that two threads
    /// change in turns cost more than freeing the entries. Copies of the provider's name are used again, without
    /// counting.
    pub(super) fn keep(&mut self, mut entries: Vec<Entry>) {
        let room = Self::MOST.saturating_sub(self.names.len());
        self.names.extend(entries.drain(..).map(|entry| entry.provider).take(room));
        let least = self.rooms.iter_mut().min_by_key(|room| room.capacity());
        if let Some(least) = least.filter(|least| (least.capacity()..=Self::MOST).contains(&entries.capacity())) {
            *least = entries;
        }
    }
}
