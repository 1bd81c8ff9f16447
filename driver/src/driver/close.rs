//! The driver's own end: when it has come, what still happens then, and what is told of what is unfinished.

use oneshot::Sender;
use steadfast_core::{OperationId, Timestamp};

use super::{Driver, Task};
use crate::finished::Unfinished;

pub(super) struct Closing {
    pub(super) until: Timestamp,
    pub(super) reply: Vec<Sender<Vec<Unfinished>>>,
    /// Those of which nobody knows whether they are on disk: the engine knows them no more.
    pub(super) in_doubt: Vec<Unfinished>,
}

impl<H> Driver<H> {
    /// Whether the end has come: all is done, or the time for it is over, or nobody is there who could end it while its
    /// jobs cannot end any more.
    pub(super) fn closes(&self) -> bool {
        let idle = self.engine.live() == 0 && self.journal.is_idle() && self.journal.asking() == 0;
        let over = self.is_out_of_time() || (idle && (self.abandoned || self.closing.is_some()));
        over || (self.abandoned && self.journal.is_gone())
    }

    pub(super) fn is_out_of_time(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.until <= self.now)
    }

    /// Stops what is in the air, and lets what is being written finish.
    pub(super) fn close(&mut self) {
        let in_the_air = self.jobs.iter().filter(|(_, job)| job.request.is_some()).map(|(id, _)| Task::Abort(*id));
        self.tasks.extend(in_the_air);
        self.leave_renewal();
        self.journal.close();
        self.engine.close();
        self.closed = true;
    }

    pub(super) fn unfinished(&self, id: OperationId) -> Option<Unfinished> {
        let record = self.engine.operation(id)?.record();
        Some(Unfinished { key: record.key, reference: record.reference, stage: record.stage })
    }

    /// Tells whoever shut it down what is unfinished, once that is certain.
    pub(super) fn report(&mut self) {
        let Some(closing) = self.closing.take_if(|_| self.journal.is_idle()) else { return };
        let under_way = self.engine.live_operations().filter_map(|id| self.unfinished(id));
        let parked = self.parked.records().map(|record| Unfinished {
            key: record.key.clone(),
            reference: record.reference.clone(),
            stage: record.stage,
        });
        let mut unfinished: Vec<_> = under_way.chain(parked).chain(closing.in_doubt).collect();
        unfinished.sort_by(|a, b| a.key.cmp(&b.key));
        // One in doubt may have been so with two records.
        unfinished.dedup_by(|a, b| a.key == b.key);
        for reply in closing.reply {
            let _ = reply.send(unfinished.clone());
        }
    }
}
