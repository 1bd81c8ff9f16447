//! The loop around the driver: what one turn does.
//!
//! It is the loop of `steadfast-driver`'s front page with threads (`turns`): it feeds the driver what has come, and
//! carries out what the driver says. Requests go to a pool, the store's work to its thread, a renewal of credentials to
//! one of its own.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::error::Error;
use std::mem;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use steadfast_core::gate::GatePolicy;
use steadfast_core::{OperationId, Timestamp};
use steadfast_driver::{Answered, Command, Driver, Posted, Renewed, Renewing, Sending, Submit, Task, Work, Worked};

use crate::clock::Clock;
use crate::pool::{MOST_THREADS, Pool};
use crate::turns::{Turns, bring, lock};

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

pub(crate) struct Loop {
    driver: Driver<()>,
    clock: Clock,
    turns: Weak<Turns>,
    pool: Pool,
    /// The store's thread, if there is a store.
    store: Option<Sender<Box<Work>>>,
    /// What lay in the inbox, while it is taken in; empty between turns.
    pub(crate) mail: Vec<Input>,
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

impl Loop {
    pub(crate) fn new(
        driver: Driver<()>,
        clock: Clock,
        turns: Weak<Turns>,
        pool: Pool,
        store: Option<Sender<Box<Work>>>,
    ) -> Self {
        Self {
            driver,
            clock,
            turns,
            pool,
            store,
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
        }
    }

    /// Takes in what lay in the inbox, and does what follows.
    pub(crate) fn turn(&mut self) {
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

    /// A turn on the thread that has carried the job's request, which is back. Returns whether it has left that thread
    /// a next one to carry, and whether the loop's own thread must wake sooner than it would.
    pub(crate) fn returned(&mut self, id: OperationId, came: Option<Answered>) -> (bool, bool) {
        self.is_carrier_free = true;
        // Behind what was there before: the job may have been cancelled.
        self.mail.push(Input::Returned(id, came));
        self.turn();
        (!mem::take(&mut self.is_carrier_free), self.is_sooner())
    }

    /// The last turn, with what was unread.
    pub(crate) fn end(&mut self, unread: impl Iterator<Item = Input>) {
        unread.for_each(|input| self.take_in(input));
        self.perform_tasks();
    }

    /// How long the loop's own thread may sleep; `None` if the loop has ended.
    pub(crate) fn wait(&mut self) -> Option<Duration> {
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

/// A gate that lets out no more than there are threads.
pub(crate) fn narrow(policy: &mut GatePolicy) {
    let bulkhead = policy.bulkhead().cloned().unwrap_or_default().at_most(MOST_THREADS);
    *policy = mem::take(policy).with_bulkhead(Some(bulkhead));
}
