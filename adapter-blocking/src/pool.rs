//! Threads for requests in the air: as many as there are requests, up to a limit, each used again until it has been idle for a while.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use steadfast_core::OperationId;
use steadfast_driver::Sending;

/// The most threads for requests: 64. A gate without a bulkhead gets one of this size, and one whose bulkhead would let out more is narrowed.
pub const MOST_THREADS: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);

/// How long a thread waits for a next request before it ends.
const IDLE: Duration = Duration::from_secs(10);

/// Dropped, it starts nothing more; what runs ends by itself.
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// What a thread does with a request that has waited for so long, and whether it has thereby left one for itself. It must not panic.
    carry: Box<dyn Fn(Box<Sending<()>>, Duration) -> bool + Send + Sync>,
}

#[derive(Default)]
struct State {
    requests: VecDeque<(Instant, Box<Sending<()>>)>,
    threads: usize,
    idle: usize,
    /// Threads that have left a request for themselves, and are about to come for it.
    coming: usize,
    closed: bool,
}

impl Pool {
    pub(crate) fn new(carry: impl Fn(Box<Sending<()>>, Duration) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), carry: Box::new(carry) }))
    }

    /// Has it carried as soon as a thread is free. Where it is one of the pool's own that leaves it for itself, no other needs to wake up: what is left of
    /// its turn is shorter, as a rule, than another takes for that.
    ///
    /// # Errors
    /// There is no thread, and none can be started.
    pub(crate) fn carry(
        &self,
        request: Box<Sending<()>>,
        for_itself: bool,
    ) -> Result<(), (io::Error, Box<Sending<()>>)> {
        let mut state = self.0.lock();
        state.requests.push_back((Instant::now(), request));
        if for_itself {
            state.coming += 1;
            return Ok(());
        }
        if state.idle + state.coming >= state.requests.len() || state.threads >= MOST_THREADS.get() as usize {
            drop(state);
            self.0.changed.notify_one();
            return Ok(());
        }
        state.threads += 1;
        drop(state);
        let shared = self.0.clone();
        let started = thread::Builder::new().name("steadfast-request".to_owned()).spawn(move || shared.work());
        let Err(error) = started else { return Ok(()) };
        let mut state = self.0.lock();
        state.threads -= 1;
        // Where there are others, one of them will come to it.
        let last = if state.threads == 0 { state.requests.pop_back() } else { None };
        last.map_or(Ok(()), |(_, request)| Err((error, request)))
    }
}

impl Pool {
    /// Drops the job's request if it still waits for a thread. Tells whether it did.
    pub(crate) fn drop_waiting(&self, id: OperationId) -> bool {
        let mut state = self.0.lock();
        let place = state.requests.iter().position(|(_, request)| request.id() == id);
        place.and_then(|place| state.requests.remove(place)).is_some()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.requests.clear();
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some((since, request)) = state.requests.pop_front() {
                drop(state);
                let comes = (self.carry)(request, since.elapsed());
                state = self.lock();
                state.coming -= usize::from(comes);
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let (woken, timeout) = self.changed.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if timeout.timed_out() && state.requests.is_empty() {
                break;
            }
        }
        state.threads -= 1;
    }
}
