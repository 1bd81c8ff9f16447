//! The loop around the driver: one thread feeds it and carries out what it says.
//!
//! It is the loop of `steadfast-driver`'s front page with threads: requests go to a pool, the work of a store that may block to a thread of its own, and one channel brings back what
//! came of them, beside what clients want. Its time-out is the timer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use steadfast_core::OperationId;
use steadfast_core::gate::GatePolicy;
use steadfast_driver::{
    Answered, Command, Driver, Outgoing, Posted, Renewed, Renewing, SendError, Sending, Submit, Task, Work, Worked,
};

use crate::clock::Clock;
use crate::pool::{MOST_THREADS, Pool};
use crate::transport::Transport;

/// How many events are taken in before effects are carried out: enough to batch, few enough to stay responsive.
const BATCH: usize = 64;

pub(crate) enum Input {
    Submit(Submit),
    Command(Command),
    Posted(Posted),
    Answered(Answered),
    Worked(Worked),
    Renewed(Renewed),
}

pub(crate) struct Loop {
    driver: Driver<()>,
    clock: Clock,
    inputs: Sender<Input>,
    pool: Pool,
    /// The store's thread, if there is a store.
    store: Option<Sender<Box<Work>>>,
    /// Submits that wait for room.
    waiting: VecDeque<Submit>,
    /// Jobs whose request has not returned, given up or not.
    in_the_air: HashSet<OperationId>,
    /// The next requests of such, which must not leave before that.
    held: HashMap<OperationId, Box<Sending<()>>>,
    /// What the program does to renew its credentials.
    renewal: Option<JoinHandle<()>>,
}

impl Loop {
    /// # Errors
    /// A thread could not be started.
    pub(crate) fn new<T: Transport>(
        driver: Driver<()>,
        clock: Clock,
        transport: T,
        inputs: Sender<Input>,
        has_store: bool,
    ) -> io::Result<Self> {
        let store = has_store.then(|| work_for(inputs.clone())).transpose()?;
        let answers = inputs.clone();
        let pool = Pool::new(move |sending, waited| {
            let Sending { mut outgoing, reader, .. } = *sending;
            outgoing.timeout = outgoing.timeout.saturating_sub(waited);
            let came = reader.span().in_scope(|| carry(&transport, outgoing));
            let answered = reader.read(came, SystemTime::now().into());
            // Nobody is there any more if the client has stopped.
            let _ = answers.send(Input::Answered(answered));
        });
        Ok(Self {
            driver,
            clock,
            inputs,
            pool,
            store,
            waiting: VecDeque::new(),
            in_the_air: HashSet::new(),
            held: HashMap::new(),
            renewal: None,
        })
    }

    /// Until the last client is gone or has shut it down.
    pub(crate) fn run(mut self, inputs: &Receiver<Input>) {
        loop {
            self.perform_tasks();
            if self.driver.is_over() {
                break;
            }
            let wait = self.clock.wait_for(self.driver.next_deadline());
            match inputs.recv_timeout(wait) {
                Ok(first) => {
                    self.take_in(first);
                    for _ in 1..BATCH {
                        let Ok(next) = inputs.try_recv() else { break };
                        self.take_in(next);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            let now = self.clock.now();
            while self.driver.has_room()
                && let Some(submit) = self.waiting.pop_front()
            {
                self.driver.submit(submit, now);
            }
            // Whatever woke us, time may have made something due.
            self.driver.handle_timeout(now);
        }
    }

    fn take_in(&mut self, input: Input) {
        let now = self.clock.now();
        match input {
            Input::Worked(worked) => {
                self.driver.worked(worked, now);
                // What queued up while the last commit ran is written while what it allows is carried out.
                if let Some(task) = self.driver.pop_task(now) {
                    self.perform(task);
                }
            }
            // Who waits for it is told so by its reply, which is dropped.
            _ if self.driver.is_closed() => {}
            Input::Submit(submit) => self.waiting.push_back(submit),
            Input::Command(mut command) => {
                if let Command::Gate(policy) = &mut command {
                    narrow(policy);
                }
                self.driver.command(command, now);
            }
            Input::Renewed(renewed) => self.driver.renewed(renewed, now),
            Input::Posted(posted) => self.driver.deliver(posted, now),
            Input::Answered(answered) => {
                let id = answered.id();
                self.driver.answered(answered, now);
                // What it teaches may have made the job's next request pointless.
                self.perform_tasks();
                self.in_the_air.remove(&id);
                if let Some(next) = self.held.remove(&id) {
                    self.send(next);
                }
            }
        }
        if self.driver.is_closed() {
            self.waiting.clear();
        }
    }

    fn perform_tasks(&mut self) {
        let now = self.clock.now();
        while let Some(task) = self.driver.pop_task(now) {
            self.perform(task);
        }
    }

    fn perform(&mut self, task: Task<()>) {
        match task {
            Task::Send(sending) => self.send(sending),
            // What is in the air stays there; what has not left does not.
            Task::Abort(id) => {
                if self.pool.drop_waiting(id) {
                    self.in_the_air.remove(&id);
                }
                self.held.remove(&id);
            }
            Task::Renew(renewing) => self.renew(renewing),
            Task::Work(work) => {
                if let Some(store) = &self.store
                    && store.send(work).is_err()
                {
                    let _ = self.inputs.send(Input::Worked(Worked::lost()));
                }
            }
            _ => {}
        }
    }

    /// On a thread of its own: it may block for as long as it likes. If there is none, the driver takes it for one that takes too long.
    fn renew(&mut self, renewing: Renewing) {
        if self.renewal.as_ref().is_some_and(|renewal| !renewal.is_finished()) {
            // It cannot be cut off, and two at a time might undo each other.
            let refused = renewing.refuse("an earlier renewal, which took too long, still runs");
            let _ = self.inputs.send(Input::Renewed(refused));
            return;
        }
        let inputs = self.inputs.clone();
        let started = thread::Builder::new().name("steadfast-renewal".to_owned()).spawn(move || {
            let _ = inputs.send(Input::Renewed(renewing.run_blocking()));
        });
        match started {
            Ok(renewal) => self.renewal = Some(renewal),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "no thread could be started to renew credentials");
            }
        }
    }

    fn send(&mut self, sending: Box<Sending<()>>) {
        let id = sending.id();
        self.driver.sent(id, ());
        if !self.in_the_air.insert(id) {
            // Never two at a time.
            self.held.insert(id, sending);
            return;
        }
        if let Err((error, sending)) = self.pool.carry(sending) {
            tracing::error!(error = &error as &dyn std::error::Error, "no thread could be started for a request");
            let unsent = sending.reader.read(Err(SendError::not_sent().because(error)), SystemTime::now().into());
            let _ = self.inputs.send(Input::Answered(unsent));
        }
    }
}

/// A transport that panics has sent something, perhaps.
fn carry(transport: &impl Transport, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
    if outgoing.timeout == Duration::ZERO {
        return Err(SendError::not_sent().because("all of its time went by before a thread was free"));
    }
    catch_unwind(AssertUnwindSafe(|| transport.send(outgoing))).unwrap_or_else(|_| {
        tracing::error!("the transport panicked: what became of its request is not known");
        Err(SendError::ambiguous().because("the transport panicked"))
    })
}

/// A gate that lets out no more than there are threads.
pub(crate) fn narrow(policy: &mut GatePolicy) {
    let bulkhead = policy.bulkhead().cloned().unwrap_or_default().at_most(MOST_THREADS);
    *policy = std::mem::take(policy).with_bulkhead(Some(bulkhead));
}

/// The store's thread: it ends when the loop does.
fn work_for(inputs: Sender<Input>) -> io::Result<Sender<Box<Work>>> {
    let (works, work) = channel::<Box<Work>>();
    let thread = thread::Builder::new().name("steadfast-journal".to_owned());
    thread.spawn(move || {
        while let Ok(work) = work.recv() {
            // Nobody hears it once the loop is gone: then nobody waits for what comes next either.
            let last = work.run(|worked| drop(inputs.send(Input::Worked(worked))));
            if inputs.send(Input::Worked(last)).is_err() {
                break;
            }
        }
    })?;
    Ok(works)
}
