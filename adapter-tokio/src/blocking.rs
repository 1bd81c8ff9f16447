//! Blocking work, on the threads that tokio has for it.
//!
//! If there is no such thread and the system gives no other, tokio panics, and keeps the work for a thread that may
//! never come. Then the work is done here: whatever else runs on this thread waits for it, but nobody waits for ever.

use std::sync::{Arc, Mutex, PoisonError};

use steadfast_driver::caught;
use tokio::task::{JoinHandle, spawn_blocking};

/// Why the work has no result.
pub(crate) enum Undone {
    Panicked,
    /// The runtime is ending.
    Ending,
}

/// Work that has begun. It goes on if this is dropped.
#[must_use = "whoever does not wait for it is to drop it deliberately"]
pub(crate) struct Begun<R> {
    result: oneshot::Receiver<R>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) fn begin<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Begun<R> {
    let (reply, result) = oneshot::channel();
    // The caller that waited for it may be gone.
    let work = move || drop(reply.send(work()));
    let place = Arc::new(Mutex::new(Some(work)));
    let kept = place.clone();
    let thread = caught(|| spawn_blocking(move || take(&kept).map_or((), |work| work())));
    if thread.is_none() {
        tracing::error!(
            "no thread could be started for work that may block: it is done on one of the runtime's own, and holds up others there; \
             look at the process's limits"
        );
        let _ = take(&place).and_then(caught);
    }
    Begun { result, thread }
}

fn take<W>(place: &Mutex<Option<W>>) -> Option<W> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl<R> Begun<R> {
    pub(crate) async fn done(self) -> Result<R, Undone> {
        if let Ok(done) = self.result.await {
            return Ok(done);
        }
        let Some(thread) = self.thread else { return Err(Undone::Panicked) };
        let Err(error) = thread.await else { return Err(Undone::Panicked) };
        let ending = error.is_cancelled();
        // What it panicked with is left where it is: to drop it may panic as well.
        std::mem::forget(error);
        Err(if ending { Undone::Ending } else { Undone::Panicked })
    }
}
