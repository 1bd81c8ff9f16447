//! Records on their way to disk together, and the room that they lie in.

use std::sync::Arc;

use steadfast_core::operation::RecordId;
use steadfast_core::{OperationId, Timestamp};
use steadfast_store::{Entry, StoreError};

/// Records that go to disk together.
#[derive(Default)]
pub(crate) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Whose they are.
    pub(crate) operations: Vec<OperationId>,
    /// Those of them whose payload is in it.
    pub(crate) payloads: Vec<OperationId>,
    /// The latest number among them: it acknowledges all.
    pub(crate) last: RecordId,
    /// Since when the oldest of them waits.
    pub(super) since: Option<Timestamp>,
}

impl Batch {
    /// Takes over whose the records of a later one are.
    pub(super) fn append(&mut self, later: &mut Self) {
        self.operations.append(&mut later.operations);
        self.payloads.append(&mut later.payloads);
        self.last = self.last.max(later.last);
        self.since = self.since.or(later.since);
        (later.last, later.since) = (RecordId::default(), None);
    }
}

/// What became of a batch.
pub(crate) enum Fate {
    Durable,
    /// Certainly none of it is on disk.
    Failed(Arc<StoreError>),
    /// Nobody knows, and nobody will try again.
    Unknown(Arc<StoreError>),
}

/// Room for entries: one batch is written, one is laid out, one is queued. And what they had in common.
#[derive(Default)]
pub(super) struct Spare {
    rooms: [Vec<Entry>; 3],
    names: Vec<Arc<str>>,
}

impl Spare {
    /// Room for no more entries than this is kept, and no more names.
    const MOST: usize = 1_024;

    /// The most there is.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        self.rooms.iter_mut().max_by_key(|room| room.capacity()).map(std::mem::take).unwrap_or_default()
    }

    /// The provider's name, as an entry had it that is written.
    pub(super) fn name(&mut self) -> Option<Arc<str>> {
        self.names.pop()
    }

    /// What lies in it goes here, where it was made: entries share names, and counts that two threads have in turns
    /// cost more than to free them. The one that all share is used again, uncounted.
    pub(super) fn keep(&mut self, mut entries: Vec<Entry>) {
        let room = Self::MOST.saturating_sub(self.names.len());
        self.names.extend(entries.drain(..).map(|entry| entry.provider).take(room));
        let least = self.rooms.iter_mut().min_by_key(|room| room.capacity());
        if let Some(least) = least.filter(|least| (least.capacity()..=Self::MOST).contains(&entries.capacity())) {
            *least = entries;
        }
    }
}
