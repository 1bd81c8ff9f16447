//! What became of a batch: it is durable, it certainly is not, or nobody knows yet and it is tried again.

use std::sync::Arc;

use steadfast_core::{Seed, Timestamp};
use steadfast_store::StoreError;

use super::{Asked, Batch, Done, Journal, Running};

/// What became of a batch.
pub(crate) enum Fate {
    Durable,
    /// Certainly none of it is on disk.
    Failed(Arc<StoreError>),
    /// Nobody knows, and nobody will try again.
    Unknown(Arc<StoreError>),
}

/// A batch of which nobody knows whether it is on disk.
pub(super) struct Uncertain {
    pub(super) batch: Batch,
    tries: u32,
    pub(super) at: Timestamp,
}

impl Journal {
    /// What became of a batch, if that is known.
    pub(super) fn settle(&mut self, batch: Batch, result: Result<(), StoreError>) -> Option<(Batch, Fate)> {
        let tries = self.uncertain.take().map_or(0, |uncertain| uncertain.tries);
        let records = batch.operations.len();
        let error = match result {
            Ok(()) => {
                let since = batch.since.unwrap_or(self.now);
                self.commits.durable(records, self.now.saturating_since(since));
                if std::mem::take(&mut self.ill) {
                    tracing::info!("the journal can be written again");
                }
                return Some((batch, Fate::Durable));
            }
            Err(error) => error,
        };
        self.ill = true;
        let source = &error as &dyn std::error::Error;
        // If the batch was in doubt before, the error says only that this try wrote nothing: an earlier one may have.
        if error.is_certain() && tries == 0 {
            self.commits.failed();
            tracing::error!(error = source, records, "a commit failed");
            return Some((batch, Fate::Failed(Arc::new(error))));
        }
        self.commits.unknown();
        if self.closing {
            tracing::error!(error = source, records, "a commit is given up, and nobody knows whether it happened");
            return Some((batch, Fate::Unknown(Arc::new(error))));
        }
        let tries = tries.saturating_add(1);
        let wait = self.backoff.delay(tries, Seed::new(batch.last.0));
        tracing::error!(
            error = source,
            records,
            again_in = ?wait,
            "nobody knows whether a commit happened: it is tried again, and nothing new is sent meanwhile"
        );
        self.uncertain = Some(Uncertain { batch, tries, at: self.now.saturating_add(wait) });
        None
    }

    /// The store is gone. Nothing is asked of it any more: its state is not known, nor whether it wrote what it had
    /// been given.
    pub(super) fn lost(&mut self, running: Option<Running>) -> Done {
        // What a panic says may be anything: it stays in the panic's own report.
        let cause = "the store panicked, and is not used any more: see the panic's own message";
        let error = Arc::new(StoreError::uncertain(cause).advising("mend the store, then restart on it"));
        let forgets = running.as_ref().is_some_and(|running| running.forgets);
        tracing::error!(
            error = &*error as &dyn std::error::Error,
            forgets,
            "the store panicked: it is not used any more"
        );
        let asked = running.and_then(|mut running| running.pieces.pop_front());
        let Asked { batch, questions } = asked.unwrap_or_default();
        let found = questions.into_iter().map(|question| (question, Err(error.clone()))).collect();
        // A batch that was in doubt already stays so for ever.
        let batch = batch.or_else(|| self.uncertain.take().map(|uncertain| uncertain.batch));
        self.uncertain = None;
        Done { batch: batch.map(|batch| (batch, Fate::Unknown(error))), found }
    }

    /// Refuses all that is queued: the store is gone.
    pub(super) fn refuse_all(&mut self) -> Option<Done> {
        let error = Arc::new(StoreError::write("the store panicked in an earlier commit"));
        let found: Vec<_> =
            std::mem::take(&mut self.questions).into_iter().map(|question| (question, Err(error.clone()))).collect();
        let batch = self.take_queue().map(|batch| (batch, Fate::Failed(error)));
        (batch.is_some() || !found.is_empty()).then_some(Done { batch, found })
    }
}
