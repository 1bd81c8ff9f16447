//! The loop around the driver: a thread that has something for it takes a turn, the loop's own or one that has carried
//! a request.
//!
//! It is the loop of `steadfast-driver`'s front page with threads. The driver is behind a lock, which nobody holds for
//! longer than a turn takes. What clients want, and what the store has done, lies in an inbox, and each turn begins
//! with what lies there: so nobody waits for one particular thread to get its turn. The loop's own thread sleeps until
//! time or the inbox wants something. Requests go to a pool, whose threads bring their answers in themselves: what
//! follows from an answer, often the job's next request, needs no other thread to wake up. The work of a store that may
//! block is done on a thread of its own.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::error::Error;
use std::io;
use std::mem;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, JoinHandle, Thread, ThreadId};
use std::time::{Duration, SystemTime};

use steadfast_core::gate::GatePolicy;
use steadfast_core::{OperationId, Timestamp};
use steadfast_driver::{
    Answered, Command, Driver, Posted, Renewed, Renewing, SendError, Sending, Stopped, Submit, Task, Work, Worked,
    caught,
};

use crate::clock::Clock;
use crate::pool::{MOST_THREADS, Pool};
use crate::transport::Transport;

/// How many times a thread lets others go first before it sleeps until it is its turn: as a rule a turn takes a few
/// microseconds, and being woken takes longer.
const PATIENCE: u32 = 8;

/// If a turn comes this much later than it was due, other threads had none either: the process was stopped, or the
/// machine slept.
const LATE: Duration = Duration::from_millis(100);

/// How long the threads that read answers then have, before requests that were not answered in time are given up.
const CATCHING_UP: Duration = Duration::from_millis(50);

/// How long to wait before trying again to start threads, if they could not be started: each try may well be in vain,
/// and is logged.
const NO_THREAD: Duration = Duration::from_secs(1);

pub(crate) enum Input {
    Submit(Submit),
    Command(Command),
    Posted(Posted),
    /// The job's request is back, with what came of it; `None` if reading its answer panicked.
    Returned(OperationId, Option<Answered>),
    Worked(Worked),
    Renewed(Renewed),
}

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

struct Loop {
    driver: Driver<()>,
    clock: Clock,
    turns: Weak<Turns>,
    pool: Pool,
    /// The store's thread, if there is a store.
    store: Option<Sender<Box<Work>>>,
    /// What lay in the inbox, while it is taken in; empty between turns.
    mail: Vec<Input>,
    /// Submits that wait for room.
    waiting: VecDeque<Submit>,
    /// Jobs whose request has not returned, given up or not.
    in_the_air: HashSet<OperationId>,
    /// The next requests of such jobs, which must not leave before that.
    held: HashMap<OperationId, Box<Sending<()>>>,
    /// What the program does to renew its credentials.
    renewal: Option<JoinHandle<()>>,
    /// What could not be renewed for want of a thread. The driver takes it for a renewal that takes its time, and may
    /// have given it up by the time that there is one.
    to_renew: Option<Renewing>,
    /// When its own thread wakes by itself.
    wakes_at: Timestamp,
    /// Whether threads could not be started since it last looked, and whether it wakes before that to try again.
    is_short: bool,
    is_stuck: bool,
    /// Before this, what threads could not be started for is not tried again.
    no_thread_until: Timestamp,
    /// Before this nothing is given up: the threads that read answers are to have their turns first.
    catches_up_until: Timestamp,
    /// When the grace ends, if the client has been shut down.
    stops_at: Timestamp,
    /// Whether a thread that carries requests has this turn, and has not been left a next request yet.
    is_carrier_free: bool,
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
            let this = Loop {
                driver,
                clock,
                turns: turns.clone(),
                pool,
                store: has_store.then_some(works),
                mail: Vec::new(),
                waiting: VecDeque::new(),
                in_the_air: HashSet::new(),
                held: HashMap::new(),
                renewal: None,
                to_renew: None,
                wakes_at: Timestamp::NEVER,
                is_short: false,
                is_stuck: false,
                no_thread_until: Timestamp::EPOCH,
                catches_up_until: Timestamp::EPOCH,
                stops_at: Timestamp::NEVER,
                is_carrier_free: false,
            };
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
    fn end(&self) {
        // From here on nothing is brought: what is unread is all that there is.
        let unread = lock(&self.inbox).take();
        self.take(|this| {
            unread.into_iter().flatten().for_each(|input| this.take_in(input));
            this.perform_tasks();
        });
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
        let turn = self.take(|this| {
            this.is_carrier_free = true;
            // Behind what was there before: the job may have been cancelled.
            this.mail.push(Input::Returned(id, came));
            this.turn();
            (!mem::take(&mut this.is_carrier_free), this.is_sooner())
        });
        let (comes, wakes) = turn.unwrap_or_default();
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
    fn take<T>(&self, turn: impl FnOnce(&mut Loop) -> T) -> Option<T> {
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
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Loop {
    /// Takes in what lay in the inbox, and does what follows.
    fn turn(&mut self) {
        let mut mail = mem::take(&mut self.mail);
        for input in mail.drain(..) {
            self.take_in(input);
        }
        // So that its room is used again.
        self.mail = mail;
        // Whatever woke us, time may have made something due.
        let now = self.now();
        if !self.catches_up(now) {
            self.driver.handle_timeout(now);
        }
        loop {
            while self.driver.has_room()
                && let Some(submit) = self.waiting.pop_front()
            {
                self.driver.submit(submit, now);
            }
            self.perform_tasks();
            // What was done may have made room.
            if self.waiting.is_empty() || !self.driver.has_room() {
                break;
            }
        }
    }

    /// How long the loop's own thread may sleep; `None` if the loop has ended.
    fn wait(&mut self) -> Option<Duration> {
        if self.driver.is_over() {
            return None;
        }
        let now = self.clock.now();
        if now < self.catches_up_until {
            return Some(self.catches_up_until.saturating_since(now));
        }
        let deadline = self.driver.next_deadline();
        self.wakes_at = deadline.unwrap_or(Timestamp::NEVER);
        self.is_stuck = self.is_stuck();
        let most = if self.is_stuck { self.no_thread_until.saturating_since(self.clock.now()) } else { Duration::MAX };
        Some(self.clock.wait_for(deadline).min(most))
    }

    /// Whether what is due must still wait. If no thread ran for a while, answers that came in time may lie unread, and
    /// this turn comes before those of the threads that read them. So they have theirs first, once: otherwise these
    /// requests would be given up, and of a create nobody would know whether it ran.
    fn catches_up(&mut self, now: Timestamp) -> bool {
        let is_late = now.saturating_since(self.wakes_at) >= LATE;
        if is_late && self.catches_up_until <= self.wakes_at && !self.in_the_air.is_empty() {
            self.catches_up_until = now.saturating_add(CATCHING_UP);
        }
        now < self.catches_up_until
    }

    /// Whether the loop's own thread must wake sooner than it would.
    fn is_sooner(&mut self) -> bool {
        let deadline = self.driver.next_deadline().unwrap_or(Timestamp::NEVER);
        let is_short = mem::take(&mut self.is_short) && !self.is_stuck;
        let sooner = self.driver.is_over() || is_short || deadline < self.wakes_at;
        self.wakes_at = self.wakes_at.min(deadline);
        sooner
    }

    /// The time, for the driver. It is told first of requests that it would give up by then and that never left:
    /// otherwise it would have to treat them as perhaps sent.
    fn now(&mut self) -> Timestamp {
        let now = self.clock.now();
        if !self.driver.is_closed() {
            let stops = self.stops_at <= now;
            let why = if stops { "the client stops" } else { "all of its time went by before it could leave" };
            self.take_back(why, now, |request| stops || request.outgoing.attempt.until <= now);
        }
        now
    }

    /// Takes back requests that have not left: those that wait for a thread, or for their job's earlier request to
    /// return.
    fn take_back(&mut self, why: &'static str, now: Timestamp, is_it: impl Fn(&Sending<()>) -> bool) {
        while let Some(request) = self.pool.take_back(&is_it) {
            self.in_the_air.remove(&request.id());
            self.driver.unsent(*request, why, now);
        }
        for (_, request) in self.held.extract_if(|_, request| is_it(request)) {
            self.driver.unsent(*request, why, now);
        }
    }

    fn take_in(&mut self, input: Input) {
        // An answer is fed before late requests are taken back: its job's next request may be late as well.
        let now = if let Input::Returned(..) = &input { self.clock.now() } else { self.now() };
        match input {
            Input::Worked(worked) => {
                self.driver.worked(worked, now);
                // The next commit starts before what the last one allowed is carried out, so that the two overlap.
                if let Some(task) = self.driver.pop_task(now) {
                    self.perform(task);
                }
            }
            // A caller can still ask what is unfinished. Any other is told that the client has stopped by its reply
            // being dropped.
            Input::Command(command) if self.driver.is_closed() => self.driver.command(command, now),
            _ if self.driver.is_closed() => {}
            Input::Submit(submit) if self.driver.joins(&submit) => self.driver.submit(submit, now),
            Input::Submit(submit) => self.waiting.push_back(submit),
            Input::Command(mut command) => {
                match &mut command {
                    Command::Gate { policy, .. } => narrow(policy),
                    Command::Shutdown { grace, .. } => self.stops_at = self.stops_at.min(now.saturating_add(*grace)),
                    Command::Cancel(id) => {
                        let id = self.driver.current(*id);
                        self.take_back("it was cancelled", now, |request| request.id() == id);
                    }
                    _ => {}
                }
                self.driver.command(command, now);
            }
            Input::Renewed(renewed) => self.driver.renewed(renewed, now),
            Input::Posted(posted) => self.driver.deliver(posted, now),
            Input::Returned(id, came) => {
                if let Some(answered) = came {
                    self.driver.answered(answered, now);
                }
                // What it teaches may have made the job's next request pointless.
                self.perform_tasks();
                self.in_the_air.remove(&id);
                if let Some(mut next) = self.held.remove(&id) {
                    // It is given up when it would have been without the wait: in flight after that, it would make the
                    // one after it wait as well.
                    next.outgoing.timeout = next.outgoing.attempt.until.saturating_since(now);
                    self.send(next);
                }
            }
        }
        if self.driver.is_closed() {
            self.waiting.clear();
        }
    }

    fn perform_tasks(&mut self) {
        let now = self.now();
        while let Some(task) = self.driver.pop_task(now) {
            self.perform(task);
        }
    }

    fn perform(&mut self, task: Task<()>) {
        match task {
            Task::Send(sending) => self.send(sending),
            // A request in flight stays there; one that has not left is dropped.
            Task::Abort(id) => {
                if self.pool.take_back(|request| request.id() == id).is_some() {
                    self.in_the_air.remove(&id);
                }
                self.held.remove(&id);
            }
            Task::Renew(renewing) => {
                // An earlier one was given up.
                self.to_renew = None;
                self.renew(renewing);
            }
            Task::Work(work) => {
                if let Some(store) = &self.store
                    && store.send(work).is_err()
                {
                    let _ = bring(&self.turns, Input::Worked(Worked::lost()));
                }
            }
            _ => {}
        }
    }

    /// On a thread of its own: it may block for as long as it likes.
    fn renew(&mut self, renewing: Renewing) {
        if self.renewal.as_ref().is_some_and(|renewal| !renewal.is_finished()) {
            // It cannot be cut off, and two at a time might undo each other.
            let refused = renewing.refuse("an earlier renewal, which took too long, still runs");
            let _ = bring(&self.turns, Input::Renewed(refused));
            return;
        }
        let turns = self.turns.clone();
        let to_run = Arc::new(Mutex::new(Some(renewing)));
        let its_own = to_run.clone();
        let thread = thread::Builder::new().name("steadfast-renewal".to_owned());
        #[cfg(test)]
        let thread = if self.pool.is_without() { thread.stack_size(usize::MAX / 2) } else { thread };
        let started = thread.spawn(move || {
            let renewing = lock(&its_own).take();
            if let Some(renewing) = renewing {
                let _ = bring(&turns, Input::Renewed(renewing.run_blocking()));
            }
        });
        match started {
            Ok(renewal) => self.renewal = Some(renewal),
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::error!(error, "no thread could be started to renew credentials");
                self.to_renew = lock(&to_run).take();
                self.lacks_thread();
            }
        }
    }

    /// A thread could not be started.
    fn lacks_thread(&mut self) {
        self.is_short = true;
        self.no_thread_until = self.clock.now().saturating_add(NO_THREAD);
    }

    /// Starts what threads could not be started for, if it is time to try again; whether there is still none for some
    /// of it.
    fn is_stuck(&mut self) -> bool {
        if self.no_thread_until <= self.clock.now() {
            if let Some(renewing) = self.to_renew.take() {
                self.renew(renewing);
            }
            if self.pool.is_stuck() {
                self.lacks_thread();
            }
        }
        self.is_short = false;
        self.pool.is_short() || self.to_renew.is_some()
    }

    fn send(&mut self, sending: Box<Sending<()>>) {
        let id = sending.id();
        self.driver.sent(id, ());
        if !self.in_the_air.insert(id) {
            // Never two at a time.
            self.held.insert(id, sending);
            return;
        }
        if self.pool.carry(sending, mem::take(&mut self.is_carrier_free)) {
            self.lacks_thread();
        }
    }
}

/// Leaves an input to the next turn; if the loop has ended, nobody waits for it.
fn bring(turns: &Weak<Turns>, input: Input) -> Result<(), Stopped> {
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

/// A gate that lets out no more than there are threads.
pub(crate) fn narrow(policy: &mut GatePolicy) {
    let bulkhead = policy.bulkhead().cloned().unwrap_or_default().at_most(MOST_THREADS);
    *policy = mem::take(policy).with_bulkhead(Some(bulkhead));
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
