//! Whose turn it is: the lock around the loop, the inbox before it, and the threads that take turns.
//!
//! Nobody holds the lock for longer than a turn takes. What clients want, and what the store has done, lies in an
//! inbox, and each turn begins with what lies there: so nobody waits for one particular thread to get its turn. The
//! loop's own thread sleeps until time or the inbox wants something. Requests go to a pool, whose threads bring their
//! answers in themselves: what follows from an answer, often the job's next request, needs no other thread to wake up.
//! The work of a store that may block is done on a thread of its own.

use std::io;
use std::mem;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle, Thread, ThreadId};
use std::time::SystemTime;

use steadfast_core::OperationId;
use steadfast_driver::{Answered, Command, Driver, SendError, Sending, Stopped, Work, caught};

use crate::clock::Clock;
use crate::drive::{Input, Loop};
use crate::pool::Pool;
use crate::transport::Transport;

/// How many times a thread lets others go first before it sleeps until it is its turn: as a rule a turn takes a few
/// microseconds, and being woken takes longer.
const PATIENCE: u32 = 8;

/// The loop, as the threads that take turns share it.
pub(crate) struct Turns {
    running: Mutex<Running>,
    /// The thread whose turn it is.
    taken_by: Mutex<Option<ThreadId>>,
    /// For the next turn, on whichever thread; `None` once the loop has ended.
    inbox: Mutex<Option<Vec<Input>>>,
    /// The loop's own thread, once it runs.
    own: OnceLock<Thread>,
    /// The store's thread, which the loop waits for.
    stores: OnceLock<ThreadId>,
    /// The process that all these threads are in.
    process: AtomicU32,
}

struct Running {
    /// `None` once the loop's own thread has taken it out, at the end.
    this: Option<Loop>,
    /// Whether a turn has panicked: then there is no other.
    has_panicked: bool,
}

impl Turns {
    /// # Errors
    /// A thread could not be started.
    pub(crate) fn new<T: Transport>(
        mut driver: Driver<()>,
        clock: Clock,
        transport: T,
        has_store: bool,
    ) -> io::Result<Arc<Self>> {
        let (works, work) = channel();
        let turns = Arc::new_cyclic(|turns: &Weak<Self>| {
            let bringing = turns.clone();
            let pool = Pool::new(move |sending: Box<Sending<()>>| {
                let id = sending.id();
                let came = caught(|| carry(&transport, sending));
                // Nobody is there any more if the client has stopped.
                bringing.upgrade().is_some_and(|turns| turns.returned(id, came))
            });
            let its_own = turns.clone();
            driver.give_back_to(move |finished| {
                bring(&its_own, Input::Command(Command::Unread(finished.clone()))).map_err(|_| finished.into())
            });
            let this = Loop::new(driver, clock, turns.clone(), pool, has_store.then_some(works));
            Self {
                running: Mutex::new(Running { this: Some(this), has_panicked: false }),
                taken_by: Mutex::default(),
                inbox: Mutex::new(Some(Vec::new())),
                own: OnceLock::new(),
                stores: OnceLock::new(),
                process: AtomicU32::new(process::id()),
            }
        });
        if has_store {
            start_store(work, Arc::downgrade(&turns))?;
        }
        Ok(turns)
    }

    /// The loop's own thread: until the last client is gone or has shut it down.
    pub(crate) fn run(&self) {
        let _ = self.own.set(thread::current());
        loop {
            let wait = self.take(|this| {
                this.turn();
                this.wait()
            });
            let Some(wait) = wait.flatten() else { break };
            thread::park_timeout(wait);
        }
        self.end();
    }

    /// Ends the loop: nothing is brought any more.
    pub(crate) fn end(&self) {
        // From here on nothing is brought: what is unread is all that there is.
        let unread = lock(&self.inbox).take();
        self.take(|this| this.end(unread.into_iter().flatten()));
        let over = self.lock().this.take();
        // Dropping it tells callers that wait. What goes with it may be the program's, and may ask whose turn it is.
        drop(over);
    }

    /// Leaves an input to the next turn, which is soon.
    ///
    /// # Errors
    /// The loop has ended, or is in another process.
    pub(crate) fn bring(&self, input: Input) -> Result<(), Stopped> {
        if self.are_elsewhere() {
            return Err(Stopped);
        }
        lock(&self.inbox).as_mut().ok_or(Stopped)?.push(input);
        // A thread that has the turn looks again after it.
        if self.running.try_lock().is_ok() {
            self.wake();
        }
        Ok(())
    }

    /// Takes a turn on the thread that has carried the job's request, which is back. Returns whether the turn has left
    /// that thread a next one to carry.
    fn returned(&self, id: OperationId, came: Option<Answered>) -> bool {
        let (comes, wakes) = self.take(|this| this.returned(id, came)).unwrap_or_default();
        if wakes {
            self.wake();
        }
        comes
    }

    /// Whether this process was forked from the one that the loop is in. None of its threads came along: whoever waits
    /// here for one of them, or for a lock that one of them held, waits for ever.
    pub(crate) fn are_elsewhere(&self) -> bool {
        self.process.load(Ordering::Relaxed) != process::id()
    }

    /// As if this process had been forked, or had not.
    #[cfg(test)]
    pub(crate) fn forks(&self, forked: bool) {
        self.process.store(if forked { 0 } else { process::id() }, Ordering::Relaxed);
    }

    /// Whether the loop waits for this thread: it is the loop's own or the store's, or has the turn just now. Such a
    /// thread must not wait for the loop.
    pub(crate) fn is_ours(&self) -> bool {
        if self.are_elsewhere() {
            return false;
        }
        let here = thread::current().id();
        let is_its_own = self.own.get().is_some_and(|own| own.id() == here) || self.stores.get() == Some(&here);
        is_its_own || *lock(&self.taken_by) == Some(here)
    }

    /// To be called before this thread waits for the loop.
    ///
    /// # Panics
    /// If the loop waits for this thread: both would wait for ever, and nobody would be told why.
    #[track_caller]
    pub(crate) fn panic_if_ours(&self) {
        assert!(
            !self.is_ours(),
            "a function that a client calls and waits for, its observer or seal, say, must not wait for that client: hand it to another thread"
        );
    }

    /// Takes a turn; `None` if the loop has ended, as it has after a panic.
    pub(crate) fn take<T>(&self, turn: impl FnOnce(&mut Loop) -> T) -> Option<T> {
        let mut running = self.lock();
        let Running { this: Some(this), has_panicked: false } = &mut *running else { return None };
        if let Some(inbox) = &mut *lock(&self.inbox) {
            mem::swap(inbox, &mut this.mail);
        }
        *lock(&self.taken_by) = Some(thread::current().id());
        let done = caught(|| turn(this));
        *lock(&self.taken_by) = None;
        running.has_panicked = done.is_none();
        drop(running);
        let has_mail = lock(&self.inbox).as_ref().is_some_and(|inbox| !inbox.is_empty());
        if has_mail || done.is_none() {
            self.wake();
        }
        // The log may be what panicked, and the loop's own thread has still to tell those who wait.
        if done.is_none() {
            let _ = caught(|| tracing::error!("the driver panicked: the client stops"));
        }
        done
    }

    /// Has the loop's own thread take a turn, now or after the one that it is in.
    fn wake(&self) {
        if let Some(own) = self.own.get() {
            own.unpark();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        for _ in 0..PATIENCE {
            if let Ok(running) = self.running.try_lock() {
                return running;
            }
            thread::yield_now();
        }
        lock(&self.running)
    }
}

/// A panic leaves nothing half done behind any of these locks: that of a turn is caught.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves an input to the next turn; if the loop has ended, nobody waits for it.
pub(crate) fn bring(turns: &Weak<Turns>, input: Input) -> Result<(), Stopped> {
    turns.upgrade().ok_or(Stopped)?.bring(input)
}

/// Sends a request, and reads what comes of it. A transport that panics may have sent something.
fn carry(transport: &impl Transport, sending: Box<Sending<()>>) -> Answered {
    let Sending { outgoing, reader, .. } = *sending;
    let came = reader.span().in_scope(|| {
        caught(|| transport.send(outgoing)).unwrap_or_else(|| {
            tracing::error!("the transport panicked: what became of its request is not known");
            Err(SendError::ambiguous().because("the transport panicked"))
        })
    });
    reader.read(came, SystemTime::now().into())
}

/// The store's thread: it ends when the loop does.
fn start_store(works: Receiver<Box<Work>>, turns: Weak<Turns>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("steadfast-journal".to_owned()).spawn(move || {
        if let Some(turns) = turns.upgrade() {
            let _ = turns.stores.set(thread::current().id());
        }
        while let Ok(work) = works.recv() {
            let last = work.run(|worked| {
                let _ = bring(&turns, Input::Worked(worked));
            });
            if bring(&turns, Input::Worked(last)).is_err() {
                break;
            }
        }
    })
}
