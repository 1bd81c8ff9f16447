//! Subscriptions to what the provider says of jobs that have ended.

use steadfast_driver::{Revision, RevisionError, Subscribers};
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

/// Tells all who have subscribed.
pub(crate) struct Told(pub(crate) broadcast::Sender<Revision>);

impl Subscribers for Told {
    fn are_there(&self) -> bool {
        self.0.receiver_count() > 0
    }

    fn tell(&self, revision: Revision) {
        // Nobody subscribed: there is nobody to tell.
        let _ = self.0.send(revision);
    }
}
