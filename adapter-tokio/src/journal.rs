//! Writing records without holding up the driver.
//!
//! A store's commit blocks, so it runs on tokio's blocking pool (which also keeps a paused clock from running ahead of it). One commit runs at
//! a time; whatever queued up meanwhile goes into the next. Without a store records are acknowledged at once: nothing survives a crash, as
//! was chosen.

use steadfast_core::OperationId;
use steadfast_core::operation::RecordId;
use steadfast_store::{Entry, Store, StoreError};
use tokio::task::JoinHandle;

type Home = Box<dyn Store>;
type Committed = (Home, Result<(), StoreError>);

pub(crate) struct Journal {
    home: Option<Home>,
    volatile: bool,
    queue: Batch,
    running: Option<(JoinHandle<Committed>, Batch)>,
}

/// Records that go to disk together.
#[derive(Default)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
    /// Whose they are.
    pub(crate) operations: Vec<OperationId>,
    /// The latest number among them: it acknowledges all.
    pub(crate) last: RecordId,
}

impl Journal {
    pub(crate) fn new(home: Option<Home>) -> Self {
        Self { volatile: home.is_none(), home, queue: Batch::default(), running: None }
    }

    /// Whether records are kept at all. If not, there is no need to make them.
    pub(crate) const fn is_volatile(&self) -> bool {
        self.volatile
    }

    /// Puts a record into the next commit.
    pub(crate) fn push(&mut self, id: OperationId, number: RecordId, entry: Option<Entry>) {
        self.queue.entries.extend(entry);
        self.queue.operations.push(id);
        self.queue.last = number;
    }

    /// Starts the next commit, unless one is running or there is nothing to commit. What needs no commit, or cannot have one, is returned.
    pub(crate) fn commit(&mut self) -> Option<(Batch, Result<(), StoreError>)> {
        if self.running.is_some() || self.queue.operations.is_empty() {
            return None;
        }
        let mut batch = std::mem::take(&mut self.queue);
        if self.volatile {
            return Some((batch, Ok(())));
        }
        let Some(mut home) = self.home.take() else {
            return Some((batch, Err(StoreError::write("the store panicked in an earlier commit"))));
        };
        let entries = std::mem::take(&mut batch.entries);
        let running = tokio::task::spawn_blocking(move || {
            let result = home.append(&entries);
            (home, result)
        });
        self.running = Some((running, batch));
        None
    }

    /// Waits for the commit that is running; for ever if there is none.
    pub(crate) async fn committed(&mut self) -> (Batch, Result<(), StoreError>) {
        let Some((running, _)) = &mut self.running else { return std::future::pending().await };
        let committed = running.await;
        let batch = self.running.take().map(|(_, batch)| batch).unwrap_or_default();
        match committed {
            Ok((home, result)) => {
                self.home = Some(home);
                (batch, result)
            }
            // Its state is unknown: nothing is written through it any more.
            Err(panicked) => (batch, Err(StoreError::write(panicked))),
        }
    }

    /// Whether everything pushed has been committed or failed.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_none() && self.queue.operations.is_empty()
    }
}
