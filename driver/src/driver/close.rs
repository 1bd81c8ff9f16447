//! The driver's own end: when it comes, what still happens then, and how unfinished jobs are reported.

use oneshot::Sender;
use steadfast_core::{OperationId, Timestamp};

use super::{Driver, Task};
use crate::finished::Unfinished;

pub(super) struct Closing {
    pub(super) until: Timestamp,
    pub(super) reply: Vec<Sender<Vec<Unfinished>>>,
    /// Jobs of which nobody knows whether they are on disk, and which the engine no longer knows.
    pub(super) in_doubt: Vec<Unfinished>,
}

impl<H> Driver<H> {
    /// Whether the end has come: all is done, or the grace has passed, or the store is gone, so that jobs cannot end
    /// any more, and no client is left to shut the driver down.
    pub(super) fn closes(&self) -> bool {
        let idle = self.engine.live() == 0 && self.journal.is_idle() && self.journal.asking() == 0;
        let over = self.is_out_of_time() || (idle && (self.abandoned || self.closing.is_some()));
        over || (self.abandoned && self.journal.is_gone())
    }

    pub(super) fn is_out_of_time(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.until <= self.now)
    }

    /// Stops the requests in flight, and lets what is being written finish.
    pub(super) fn close(&mut self) {
        let in_the_air = self.jobs.iter().filter(|(_, job)| job.request.is_some()).map(|(id, _)| Task::Abort(id));
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

    /// Tells the callers of the shutdown which jobs are unfinished, once that is certain.
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
        // A job in doubt may be there twice, with two records.
        unfinished.dedup_by(|a, b| a.key == b.key);
        for reply in closing.reply {
            let _ = reply.send(unfinished.clone());
        }
    }
}
