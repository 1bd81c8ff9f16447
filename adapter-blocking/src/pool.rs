//! Threads for requests in the air: as many as there are requests, up to a limit; each is reused until it has been
//! idle for a while.

use std::collections::VecDeque;
use std::error::Error;
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use steadfast_driver::Sending;

/// The most threads for requests: 64. A gate without a bulkhead gets a bulkhead of this size, and one whose bulkhead
/// would let out more is narrowed.
pub const MOST_THREADS: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);

/// How long a thread waits for a next request before it ends. In a test, longer than any machine takes for it.
const IDLE: Duration = Duration::from_secs(if cfg!(test) { 3_600 } else { 10 });

/// When it is dropped it starts nothing more; what runs ends by itself.
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// What a thread does with a request. Returns whether it has left a next request for itself. It must not panic.
    carry: Box<dyn Fn(Box<Sending<()>>) -> bool + Send + Sync>,
}

#[derive(Default)]
struct State {
    requests: VecDeque<(Instant, Box<Sending<()>>)>,
    threads: usize,
    idle: usize,
    /// Threads that have left a request for themselves, and are about to come for it.
    coming: usize,
    /// Threads that were wanted for what waits, and could not be started.
    missing: usize,
    closed: bool,
    /// As where a machine has no threads left.
    #[cfg(test)]
    starts_none: bool,
    /// How many threads it was to start.
    #[cfg(test)]
    tried: usize,
}

impl Pool {
    pub(crate) fn new(carry: impl Fn(Box<Sending<()>>) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), carry: Box::new(carry) }))
    }

    /// Has it carried as soon as a thread is free. If one of the pool's own threads leaves it for itself
    /// (`for_itself`), no other needs to wake up: the rest of that thread's turn is usually shorter than waking
    /// another takes. Returns whether a thread that it should have could not be started: see [`is_stuck`](Self::is_stuck).
    pub(crate) fn carry(&self, request: Box<Sending<()>>, for_itself: bool) -> bool {
        let mut state = self.0.lock();
        state.requests.push_back((Instant::now(), request));
        if for_itself {
            state.coming += 1;
        } else if state.idle + state.coming >= state.requests.len() || state.threads >= MOST_THREADS.get() as usize {
            drop(state);
            self.0.changed.notify_one();
        } else {
            return !self.start(state);
        }
        false
    }

    /// Whether requests wait for threads that could not be started before. Starts none.
    pub(crate) fn is_short(&self) -> bool {
        self.0.lock().is_short()
    }

    /// Whether requests wait for threads that could not be started before and cannot be now. That says nothing about the
    /// provider, so they wait for as long as they have time.
    pub(crate) fn is_stuck(&self) -> bool {
        loop {
            let mut state = self.0.lock();
            if !state.is_short() {
                return false;
            }
            state.missing -= 1;
            if !self.start(state) {
                return true;
            }
        }
    }

    /// Starts one more thread, if possible. If it is not, one of the others may come to what it would have carried, but
    /// with fewer threads than there should be that may take long: it is still to be started.
    fn start(&self, mut state: MutexGuard<'_, State>) -> bool {
        state.threads += 1;
        #[cfg(test)]
        let starts_none = {
            state.tried += 1;
            state.starts_none
        };
        drop(state);
        let shared = self.0.clone();
        let thread = thread::Builder::new().name("steadfast-request".to_owned());
        #[cfg(test)]
        let thread = if starts_none { thread.stack_size(usize::MAX / 2) } else { thread };
        let Err(error) = thread.spawn(move || shared.work()) else { return true };
        let mut state = self.0.lock();
        state.threads -= 1;
        state.missing += 1;
        drop(state);
        tracing::error!(error = &error as &dyn Error, "no thread could be started for a request");
        false
    }

    /// Takes back the first request for which `is_it` holds and that still waits for a thread: it has certainly not
    /// left, and will not. Once a thread has taken a request, it may have left.
    pub(crate) fn take_back(&self, is_it: impl Fn(&Sending<()>) -> bool) -> Option<Box<Sending<()>>> {
        let mut state = self.0.lock();
        let place = state.requests.iter().position(|(_, request)| is_it(request))?;
        state.requests.remove(place).map(|(_, request)| request)
    }
}

impl State {
    /// Whether threads are still wanted that could not be started: others may have come to what they were for.
    fn is_short(&mut self) -> bool {
        let wanted = self.requests.len().saturating_sub(self.idle + self.coming);
        self.missing = self.missing.min(wanted).min((MOST_THREADS.get() as usize).saturating_sub(self.threads));
        self.missing > 0
    }

    /// The next request that has time left, with what is left of it. One that has none stays to be
    /// [taken back](Pool::take_back): if a thread took it, it would count as perhaps sent, so nobody asks again whether
    /// there is time.
    fn next(&mut self) -> Option<Box<Sending<()>>> {
        let left = |(since, request): &(Instant, Box<Sending<()>>)| {
            request.outgoing.timeout.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
        };
        let (place, left) = self.requests.iter().enumerate().find_map(|(place, one)| Some((place, left(one)?)))?;
        let (_, mut request) = self.requests.remove(place)?;
        request.outgoing.timeout = left;
        Some(request)
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
            if let Some(request) = state.next() {
                drop(state);
                let comes = (self.carry)(request);
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

#[cfg(test)]
impl Pool {
    pub(crate) fn starts_none(&self, none: bool) {
        self.0.lock().starts_none = none;
    }

    pub(crate) fn tried(&self) -> usize {
        self.0.lock().tried
    }

    pub(crate) fn is_without(&self) -> bool {
        self.0.lock().starts_none
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::iter;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::ThreadId;

    use steadfast_core::gate::GatePolicy;
    use steadfast_core::{Key, OperationId, Timestamp};
    use steadfast_driver::{Builder, Driver, Submit, Task};
    use steadfast_providers::deepvue::{Credentials, Deepvue};
    use steadfast_providers::{BaseUrl, Provider};

    use super::*;

    const MOST: usize = MOST_THREADS.get() as usize;

    /// Long enough for whatever happens at all.
    const WHILE: Duration = Duration::from_secs(60);

    /// A request with a thread, which goes on when it is told whether it has left one for itself.
    struct Carried {
        id: OperationId,
        thread: ThreadId,
        ends: Sender<bool>,
    }

    fn pool() -> (Pool, Receiver<Carried>) {
        let (tells, told) = channel();
        let pool = Pool::new(move |request: Box<Sending<()>>| {
            let (ends, end) = channel();
            let _ = tells.send(Carried { id: request.id(), thread: thread::current().id(), ends });
            end.recv().unwrap_or_default()
        });
        (pool, told)
    }

    impl Pool {
        fn takes(&self, request: Box<Sending<()>>, for_itself: bool) {
            let _ = self.carry(request, for_itself);
        }

        /// Waits until so many threads have nothing to do, and none is on its way.
        fn rests(&self, idle: usize) {
            while self.0.lock().idle != idle {
                thread::yield_now();
            }
            assert_eq!(self.0.lock().coming, 0);
        }

        fn threads(&self) -> usize {
            self.0.lock().threads
        }
    }

    /// One of a job each.
    fn requests() -> impl Iterator<Item = Box<Sending<()>>> {
        let url = BaseUrl::parse("http://127.0.0.1:1").expect("a URL");
        let deepvue = Deepvue::new(url, "product", Credentials::new("token", "secret").expect("credentials"));
        let builder = Builder::<_, (), ()>::new(deepvue.expect("a provider"), ()).gate(GatePolicy::none());
        let (provider, (), settings) = builder.into_parts();
        let loaded = settings.load(provider.name()).expect("no store");
        let now = Timestamp::from_secs(1_700_000_000);
        let (mut driver, mut jobs) = (Driver::new(Arc::new(provider), loaded, now), 0);
        iter::from_fn(move || {
            jobs += 1;
            let (reply, _) = oneshot::channel();
            let key = Key::new(format!("order-{jobs}")).expect("a key");
            driver.submit(Submit::new(key, "{}".into(), reply), now);
            iter::from_fn(|| driver.pop_task(now)).find_map(|task| match task {
                Task::Send(sending) => Some(sending),
                _ => None,
            })
        })
    }

    /// However many come at once, and whoever leaves the next one to whom: none is left, and no thread is too many.
    #[test]
    fn a_burst_has_as_many_threads_as_there_may_be_and_all_of_it_is_carried() {
        let ((pool, carried), mut requests) = (pool(), requests());
        let (mut left, mut busy) = (HashSet::new(), VecDeque::new());
        let mut takes = |left: &mut HashSet<_>, for_itself| {
            let request = requests.next().expect("another job");
            left.insert(request.id());
            pool.takes(request, for_itself);
        };
        (0..3 * MOST).for_each(|_| takes(&mut left, false));
        let mut more = (0..2 * MOST).map(|number| number % 2 == 0);
        while !left.is_empty() {
            // As many as there may be, at once.
            while busy.len() < left.len().min(MOST) {
                busy.push_back(carried.recv_timeout(WHILE).expect("a thread"));
            }
            let Carried { id, ends, .. } = busy.pop_front().expect("one is left");
            assert!(left.remove(&id) && pool.threads() == MOST);
            let for_itself = more.next().inspect(|for_itself| takes(&mut left, *for_itself));
            ends.send(for_itself.unwrap_or_default()).expect("it waits");
        }
        pool.rests(MOST);
    }

    #[test]
    fn a_thread_that_is_about_to_come_is_counted_on_until_it_has() {
        let ((pool, carried), mut requests) = (pool(), requests());
        let mut next = || requests.next().expect("another job");
        let takes = |request| {
            pool.takes(request, false);
            carried.recv_timeout(WHILE).expect("a thread")
        };
        let (first, second) = (takes(next()), takes(next()));
        second.ends.send(false).expect("it waits");
        pool.rests(1);
        // One is for the first, which has not come yet, and one for the second, which has nothing to do. Who takes
        // which does not matter.
        pool.takes(next(), true);
        pool.takes(next(), false);
        assert_eq!(pool.threads(), 2);
        first.ends.send(true).expect("it waits");
        let both = [(); 2].map(|()| carried.recv_timeout(WHILE).expect("a thread"));
        let threads: HashSet<_> = both.iter().map(|carried| carried.thread).collect();
        assert_eq!(threads, HashSet::from([first.thread, second.thread]));
        // Now both are busy, for who knows how long.
        let third = takes(next());
        assert!(!threads.contains(&third.thread));
        assert_eq!(pool.threads(), 3);
    }

    /// As many as were wanted, though there is one that could come to all of them: that may take long.
    #[test]
    fn threads_that_could_not_be_started_are_started_once_there_are_some() {
        let ((pool, carried), mut requests) = (pool(), requests());
        let mut takes = |for_itself| pool.takes(requests.next().expect("another job"), for_itself);
        takes(false);
        let mut busy = vec![carried.recv_timeout(WHILE).expect("a thread")];
        pool.starts_none(true);
        (0..3).for_each(|_| takes(false));
        assert!(pool.is_stuck() && pool.threads() == 1);
        // What is taken back needs none.
        assert!(pool.take_back(|_| true).is_some());
        pool.starts_none(false);
        assert!(!pool.is_stuck());
        assert_eq!(pool.threads(), 3);
        busy.extend([(); 2].map(|()| carried.recv_timeout(WHILE).expect("a thread")));
        assert!(!pool.is_stuck() && pool.threads() == 3, "nothing waits any more");
        busy.into_iter().for_each(|carried| carried.ends.send(false).expect("it waits"));
        pool.rests(3);
    }

    #[test]
    fn a_thread_that_comes_in_vain_is_there_for_the_next() {
        let ((pool, carried), mut requests) = (pool(), requests());
        let mut next = || requests.next().expect("another job");
        pool.takes(next(), false);
        let first = carried.recv_timeout(WHILE).expect("a thread");
        let cancelled = next();
        let id = cancelled.id();
        pool.takes(cancelled, true);
        let take_back = || pool.take_back(|request| request.id() == id);
        assert!(take_back().is_some() && take_back().is_none());
        first.ends.send(true).expect("it waits");
        pool.rests(1);
        pool.takes(next(), false);
        assert_eq!(carried.recv_timeout(WHILE).expect("a thread").thread, first.thread);
        assert_eq!(pool.threads(), 1);
    }

    #[test]
    fn a_thread_takes_what_has_time_left_and_what_it_has_is_not_taken_back() {
        let ((pool, carried), mut requests) = (pool(), requests());
        let mut next = || requests.next().expect("another job");
        let (mut late, in_time) = (next(), next());
        late.outgoing.timeout = Duration::ZERO;
        let (is_late, is_in_time) = (late.id(), in_time.id());
        pool.takes(late, false);
        pool.takes(in_time, false);
        assert_eq!(carried.recv_timeout(WHILE).expect("a thread").id, is_in_time);
        assert!(pool.take_back(|request| request.id() == is_in_time).is_none());
        assert!(pool.take_back(|_| true).is_some_and(|request| request.id() == is_late));
        assert!(pool.take_back(|_| true).is_none());
    }
}
