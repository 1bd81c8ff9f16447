//! Subscriptions to what the provider says of jobs that have ended.

use std::sync::{Arc, OnceLock};

use steadfast_driver::{REVISIONS, Revision, RevisionError, Subscribers};
use tokio::sync::broadcast;

/// A subscription to revisions. See [`Client::revisions`](crate::Client::revisions).
#[derive(Debug)]
pub struct Revisions(pub(crate) Option<broadcast::Receiver<Revision>>);

impl Revisions {
    /// Waits for the next one. Cancel-safe: if it is dropped while it waits, it has taken none.
    ///
    /// # Errors
    /// Some were missed, or there will be no more.
    pub async fn next(&mut self) -> Result<Revision, RevisionError> {
        let Some(receiver) = &mut self.0 else { return Err(RevisionError::Stopped) };
        receiver.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(missed) => RevisionError::Missed(missed),
            broadcast::error::RecvError::Closed => RevisionError::Stopped,
        })
    }
}

/// The way to all who have subscribed, made for the first of them: it has room for all revisions that may wait, and a
/// process may have hundreds of clients of which nobody asks. The drivers keep it open.
#[derive(Debug, Default)]
pub(crate) struct Channel(OnceLock<broadcast::Sender<Revision>>);

impl Channel {
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Revision> {
        self.0.get_or_init(|| broadcast::channel(REVISIONS).0).subscribe()
    }
}

/// Tells all who have subscribed.
pub(crate) struct Told(pub(crate) Arc<Channel>);

impl Subscribers for Told {
    fn are_there(&self) -> bool {
        self.0.0.get().is_some_and(|sender| sender.receiver_count() > 0)
    }

    fn tell(&self, revision: Revision) {
        if let Some(sender) = self.0.0.get() {
            // Nobody subscribed: there is nobody to tell.
            let _ = sender.send(revision);
        }
    }
}
