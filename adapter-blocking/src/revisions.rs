//! Subscriptions to what the provider says of jobs that have ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use steadfast_driver::{REVISIONS, Revision, RevisionError, Subscribers};

/// A subscription to revisions. See [`Client::revisions`](crate::Client::revisions).
#[derive(Debug)]
pub struct Revisions {
    /// None if the client had stopped.
    queue: Option<Receiver<Revision>>,
    missed: Arc<AtomicU64>,
}

impl Revisions {
    /// Waits for the next one, so long at most. `None`: there is none yet.
    ///
    /// # Errors
    /// Some were missed, or there will be no more.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Revision>, RevisionError> {
        let missed = self.missed.swap(0, Ordering::AcqRel);
        if missed > 0 {
            return Err(RevisionError::Missed(missed));
        }
        match self.queue.as_ref().map(|queue| queue.recv_timeout(timeout)) {
            Some(Ok(revision)) => Ok(Some(revision)),
            Some(Err(RecvTimeoutError::Timeout)) => Ok(None),
            Some(Err(RecvTimeoutError::Disconnected)) | None => Err(RevisionError::Stopped),
        }
    }

    /// Waits for the next one.
    ///
    /// # Errors
    /// As [`next_timeout`](Revisions::next_timeout).
    pub fn wait(&mut self) -> Result<Revision, RevisionError> {
        loop {
            if let Some(revision) = self.next_timeout(Duration::from_secs(3_600))? {
                return Ok(revision);
            }
        }
    }
}

/// One of those who have subscribed.
pub(crate) struct Subscriber {
    queue: SyncSender<Revision>,
    /// Told to it when its queue was full: the newest are dropped.
    missed: Arc<AtomicU64>,
}

/// All who have subscribed; `None` once the client has stopped. Shared by the clients and the loop, which alone closes it.
pub(crate) type Subscribed = Arc<Mutex<Option<Vec<Subscriber>>>>;

pub(crate) fn subscribe(subscribed: &Subscribed) -> Revisions {
    let missed = Arc::new(AtomicU64::new(0));
    let mut all = subscribed.lock().unwrap_or_else(PoisonError::into_inner);
    let queue = all.as_mut().map(|all| {
        let (queue, receiver) = sync_channel(REVISIONS);
        all.push(Subscriber { queue, missed: missed.clone() });
        receiver
    });
    Revisions { queue, missed }
}

/// Tells all who have subscribed, until it is dropped with the loop.
pub(crate) struct Told(pub(crate) Subscribed);

impl Subscribers for Told {
    fn are_there(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|all| !all.is_empty())
    }

    fn tell(&self, revision: Revision) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(all) = all.as_mut() else { return };
        all.retain(|subscriber| match subscriber.queue.try_send(revision.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                subscriber.missed.fetch_add(1, Ordering::AcqRel);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
