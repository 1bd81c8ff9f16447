//! The loop around the driver: a thread of its own feeds it and carries out what it says, and so does each thread that has carried a request.
//!
//! It is the loop of `steadfast-driver`'s front page with threads. The driver is behind a lock, which nobody holds for longer than a turn takes. Its own
//! thread waits for what clients want, for the store and for time. Requests go to a pool, whose threads bring their answers in themselves: what follows
//! from an answer, often the job's next request, needs no other thread to wake up. The work of a store that may block is done on a thread of its own.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use steadfast_core::gate::GatePolicy;
use steadfast_core::{OperationId, Timestamp};
use steadfast_driver::{
    Answered, Command, Driver, Outgoing, Posted, Renewed, Renewing, SendError, Sending, Submit, Task, Work, Worked,
};

use crate::clock::Clock;
use crate::pool::{MOST_THREADS, Pool};
use crate::transport::Transport;

/// How many events are taken in before effects are carried out: enough to batch, few enough to stay responsive.
const BATCH: usize = 64;

/// How many times a thread lets others go first before it sleeps until it is its turn: a turn takes a microsecond or two, being woken takes longer.
const PATIENCE: u32 = 8;

pub(crate) enum Input {
    Submit(Submit),
    Command(Command),
    Posted(Posted),
    Answered(Answered),
    Worked(Worked),
    Renewed(Renewed),
    /// There is something to do sooner than was known.
    Look,
}

/// The loop, for whoever's turn it is.
pub(crate) struct Turns {
    /// None once it is over.
    running: Mutex<Option<Loop>>,
    /// Whose turn it is.
    taken_by: Mutex<Option<ThreadId>>,
    /// To the loop's own thread.
    inputs: Sender<Input>,
}

struct Loop {
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
    /// When its own thread wakes by itself.
    wakes_at: Timestamp,
    /// Whether the turn is that of a thread which carries requests, and is free for a next one after it.
    by_carrier: bool,
}

impl Turns {
    /// # Errors
    /// A thread could not be started.
    pub(crate) fn new<T: Transport>(
        driver: Driver<()>,
        clock: Clock,
        transport: T,
        inputs: Sender<Input>,
        has_store: bool,
    ) -> io::Result<Arc<Self>> {
        let store = has_store.then(|| work_for(inputs.clone())).transpose()?;
        Ok(Arc::new_cyclic(|turns: &Weak<Self>| {
            let turns = turns.clone();
            let pool = Pool::new(move |sending, waited| {
                let Sending { mut outgoing, reader, .. } = *sending;
                outgoing.timeout = outgoing.timeout.saturating_sub(waited);
                let came = reader.span().in_scope(|| carry(&transport, outgoing));
                let answered = reader.read(came, SystemTime::now().into());
                if let Some(turns) = turns.upgrade() {
                    turns.answered(answered);
                }
            });
            let this = Loop {
                driver,
                clock,
                inputs: inputs.clone(),
                pool,
                store,
                waiting: VecDeque::new(),
                in_the_air: HashSet::new(),
                held: HashMap::new(),
                renewal: None,
                wakes_at: Timestamp::NEVER,
                by_carrier: false,
            };
            Self { running: Mutex::new(Some(this)), taken_by: Mutex::default(), inputs }
        }))
    }

    /// Until the last client is gone or has shut it down.
    pub(crate) fn run(&self, inputs: &Receiver<Input>) {
        let mut first = None;
        loop {
            let wait = self.take(|this| {
                for input in first.take().into_iter().chain(inputs.try_iter()).take(BATCH) {
                    this.take_in(input);
                }
                this.turn();
                this.wait()
            });
            let Some(wait) = wait.flatten() else { break };
            first = inputs.recv_timeout(wait).ok();
        }
        let over = self.lock().take();
        // What goes with it may be the program's, and may ask whose turn it is.
        drop(over);
    }

    /// What came of a request, from the thread that has carried it.
    fn answered(&self, answered: Answered) {
        let wakes = self.take(|this| {
            this.by_carrier = true;
            this.take_in(Input::Answered(answered));
            this.turn();
            this.by_carrier = false;
            this.is_sooner()
        });
        if wakes == Some(true) {
            // Nobody is there any more if the client has stopped.
            let _ = self.inputs.send(Input::Look);
        }
    }

    /// Whether it is this thread's turn just now.
    pub(crate) fn is_ours(&self) -> bool {
        *self.taken_by.lock().unwrap_or_else(PoisonError::into_inner) == Some(thread::current().id())
    }

    /// Takes a turn; `None` if it is over. After a panic it is.
    fn take<T>(&self, turn: impl FnOnce(&mut Loop) -> T) -> Option<T> {
        let mut running = self.lock();
        let this = running.as_mut()?;
        self.is_taken_by(Some(thread::current().id()));
        let done = catch_unwind(AssertUnwindSafe(|| turn(this)));
        self.is_taken_by(None);
        done.map_err(|_| {
            tracing::error!("the driver panicked: the client stops");
            let over = running.take();
            drop(running);
            // Whoever waits for something is told so by this.
            drop(over);
            let _ = self.inputs.send(Input::Look);
        })
        .ok()
    }

    fn is_taken_by(&self, thread: Option<ThreadId>) {
        *self.taken_by.lock().unwrap_or_else(PoisonError::into_inner) = thread;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Loop>> {
        for _ in 0..PATIENCE {
            if let Ok(running) = self.running.try_lock() {
                return running;
            }
            thread::yield_now();
        }
        // A panic in a turn does not go past `take`.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loop {
    /// What follows, once something has come.
    fn turn(&mut self) {
        let now = self.clock.now();
        while self.driver.has_room()
            && let Some(submit) = self.waiting.pop_front()
        {
            self.driver.submit(submit, now);
        }
        // Whatever woke us, time may have made something due.
        self.driver.handle_timeout(now);
        self.perform_tasks();
    }

    /// How long its own thread may wait for something to come; `None` if it is over.
    fn wait(&mut self) -> Option<Duration> {
        if self.driver.is_over() {
            return None;
        }
        let deadline = self.driver.next_deadline();
        self.wakes_at = deadline.unwrap_or(Timestamp::NEVER);
        Some(self.clock.wait_for(deadline))
    }

    /// Whether its own thread must wake sooner than it would.
    fn is_sooner(&mut self) -> bool {
        let deadline = self.driver.next_deadline().unwrap_or(Timestamp::NEVER);
        let sooner = self.driver.is_over() || deadline < self.wakes_at;
        self.wakes_at = self.wakes_at.min(deadline);
        sooner
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
            Input::Look => {}
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
        if let Err((error, sending)) = self.pool.carry(sending, self.by_carrier) {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use http::Request;
    use steadfast_core::operation::Reading;
    use steadfast_core::retry::Failure;
    use steadfast_core::{Key, OperationPolicy};
    use steadfast_driver::{Builder, Start, StartError};
    use steadfast_providers::{Answer, Ask, Payload, Provider, RequestError};

    use super::*;

    /// Of whom nothing is asked.
    struct Nobody;

    impl Provider for Nobody {
        fn name(&self) -> &'static str {
            "nobody"
        }

        fn policy(&self) -> OperationPolicy {
            OperationPolicy::default()
        }

        fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
            Err(RequestError::Unsendable("anything"))
        }

        fn read(&self, _: &Answer<'_>) -> Result<Reading, Failure> {
            Ok(Reading::Ready)
        }
    }

    impl Transport for Nobody {
        fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
            Err(SendError::not_sent())
        }
    }

    struct Bare(Arc<Turns>, Receiver<Input>);

    impl Start<Nobody, Nobody> for Bare {
        type Started = Result<Self, StartError>;

        fn start(builder: Builder<Nobody, Nobody, Self>) -> Self::Started {
            let (provider, transport, settings) = builder.into_parts();
            let loaded = settings.load("nobody")?;
            let mut clock = Clock::start();
            let driver = Driver::new(Arc::new(provider), loaded, clock.now());
            let (inputs, taken_in) = channel();
            let turns = Turns::new(driver, clock, transport, inputs, false).map_err(StartError::NoThread)?;
            Ok(Self(turns, taken_in))
        }
    }

    #[test]
    fn after_a_panic_in_a_turn_whoever_waits_is_told() {
        let Bare(turns, taken_in) = Builder::<_, _, Bare>::new(Nobody, Nobody).start().expect("it starts");
        let (reply, taken) = oneshot::channel();
        let submit = Submit::new(Key::new("order-1").expect("a key"), Payload::default(), reply);
        // It waits for a turn that takes it in.
        turns.take(|this| this.waiting.push_back(submit));
        assert!(!turns.is_ours());
        assert_eq!(turns.take(|_| panic!("as it was told to")), None::<()>);
        assert!(!turns.is_ours());
        assert!(taken.recv().is_err(), "the client has stopped");
        assert_eq!(turns.take(|_| ()), None, "it is over");
        assert!(matches!(taken_in.try_recv(), Ok(Input::Look)), "its own thread ends at once");
        turns.run(&taken_in);
    }
}
