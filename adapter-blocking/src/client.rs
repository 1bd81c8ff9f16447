//! What a program holds: a client to submit jobs with, and a handle for each.

use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use steadfast_core::gate::GatePolicy;
use steadfast_core::{Key, OperationId};
use steadfast_driver::{
    Acceptance, Accepted, Command, Delivery, Driver, Finished, Following, JobError, JobStatus, Mailbox, NotAccepted,
    Posted, Renew, RenewError, RenewsBy, ResumeError, Start, StartError, StatusError, Stopped, Submit, SubmitError,
    TraceSource, Unfinished, Unread, caught,
};
use steadfast_providers::{Payload, Provider};

use crate::Builder;
use crate::clock::Clock;
use crate::drive::{Input, narrow};
use crate::revisions::{Revisions, Subscribed, Told, subscribe};
use crate::transport::Transport;
use crate::turns::Turns;

/// Submits jobs to one provider and carries them to their outcome.
///
/// Cloning is cheap and shares the engine. When the last clone and the last [`Handle`] are dropped, the client stops:
/// jobs under way are not cancelled but not watched any more either, and with a store a later client takes them up.
/// The drop waits for what is being written, for [`LAST_DROP_WAITS`] at most; a store that takes longer is closed once
/// it has finished. [`shutdown`](Client::shutdown) waits for the jobs first, and reports the unfinished ones.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    mailbox: Mailbox,
    revisions: Subscribed,
    traces: TraceSource,
    turns: Arc<Turns>,
    driver: Mutex<Option<Thread>>,
}

/// The driver's own thread.
struct Thread {
    handle: JoinHandle<()>,
    /// Nothing is ever sent on it: it is closed when the thread ends.
    ends: mpsc::Receiver<Infallible>,
}

/// How long dropping the last client or handle waits for what is being written. A commit usually takes milliseconds,
/// and a program that drops its client may open the same store again at once; but a store that hangs must not block
/// the drop for ever.
pub const LAST_DROP_WAITS: Duration = Duration::from_secs(5);

impl Client {
    /// Starts describing a client for this provider, over this transport.
    pub fn builder<P: Provider, T: Transport>(provider: P, transport: T) -> Builder<P, T> {
        Builder::new(provider, transport)
    }

    /// Takes in a job under a key of your own, or joins the job that has this key already.
    ///
    /// Returns once the intent is durable, and not before. Blocks while as many jobs are under way as
    /// [`Limits::live`](steadfast_core::engine::Limits::live) allows.
    ///
    /// # Errors
    /// See [`SubmitError`]. In each case nothing was sent for this submit.
    ///
    /// # Panics
    /// If it is called in a function that the client itself calls and waits for (an observer, a seal): neither would
    /// ever go on.
    #[track_caller]
    pub fn submit(&self, key: Key, payload: impl Into<Payload>) -> Result<Handle, SubmitError> {
        self.0.turns.panic_if_ours();
        let (reply, taken) = oneshot::channel();
        let submit = Submit::new(key, payload.into(), reply).traced(self.0.traces.current());
        self.0.turns.bring(Input::Submit(submit)).map_err(|Stopped| SubmitError::Stopped)?;
        Ok(self.handle(taken.recv().map_err(|_| SubmitError::Stopped)??))
    }

    /// Submits a job and waits until it has ended.
    ///
    /// # Errors
    /// It was not taken in, or the client stopped before it ended.
    ///
    /// # Panics
    /// As [`submit`](Client::submit).
    #[track_caller]
    pub fn call(&self, key: Key, payload: impl Into<Payload>) -> Result<Finished, JobError> {
        Ok(self.submit(key, payload)?.wait()?)
    }

    /// Starts polling again for a job that ended as *unresolved* with a reference: because its polls were spent, its
    /// deadline came, or it was cancelled after it had been accepted. It gets a fresh schedule and deadline, and its
    /// outcome may then be final. A job that is under way is joined; one that has ended for good gives its outcome.
    ///
    /// Jobs that a restart found under way need no call: [`Builder::start`] takes them up. Returns once it is durable
    /// that the job goes on.
    ///
    /// # Errors
    /// See [`ResumeError`]. In each case nothing was sent.
    ///
    /// # Panics
    /// As [`submit`](Client::submit).
    ///
    /// ```no_run
    /// # use steadfast_core::{Key, Outcome};
    /// # fn example(client: steadfast_blocking::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let key = Key::new("order-42")?;
    /// let finished = client.call(key.clone(), "{}")?;
    /// if let (Outcome::Unresolved(_), Some(_)) = (finished.outcome, &finished.reference) {
    ///     let finished = client.resume(key)?.wait()?;
    ///     println!("{}", finished.outcome.explain());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn resume(&self, key: Key) -> Result<Handle, ResumeError> {
        self.0.turns.panic_if_ours();
        let (reply, resumed) = oneshot::channel();
        self.command(Command::Resume { key, reply }).map_err(|Stopped| ResumeError::Stopped)?;
        Ok(self.handle(resumed.recv().map_err(|_| ResumeError::Stopped)??))
    }

    /// Tells where the job of this key stands, and changes nothing: nothing is sent for it, nobody's outcome is taken,
    /// and no payload is needed. `None` if neither this client nor its store knows the key. The key of a rejected job
    /// is free again, so only a store still knows about that job.
    ///
    /// Only what is durable is told: not a submit that has not returned yet, nor an answer that is still being
    /// written. For known jobs the store is not read.
    ///
    /// # Errors
    /// See [`StatusError`].
    ///
    /// # Panics
    /// As [`submit`](Client::submit).
    ///
    /// ```no_run
    /// # use steadfast_core::Key;
    /// # fn example(client: &steadfast_blocking::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// match client.status(Key::new("order-42")?)? {
    ///     None => println!("never submitted, or long ago"),
    ///     Some(job) if job.needs_payload => println!("submit it again"),
    ///     Some(job) => println!("{}", job.explain(std::time::SystemTime::now().into())),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn status(&self, key: Key) -> Result<Option<JobStatus>, StatusError> {
        self.0.turns.panic_if_ours();
        let (reply, told) = oneshot::channel();
        self.command(Command::Status { key, reply }).map_err(|Stopped| StatusError::Stopped)?;
        told.recv().map_err(|_| StatusError::Stopped)?
    }

    /// Takes in a webhook, as your HTTP server received it: all headers, and the body byte for byte, not parsed and
    /// written again. Returns what the server is to answer. Do not answer before this has returned, since a 2xx
    /// promises that what follows from the event is durable.
    ///
    /// What a webhook says of a job ends that job just as a poll would have, or makes its next poll due now. It may
    /// come early, late, twice, in any order, or about an unknown job; see [`Delivery`]. Polling goes on beside
    /// webhooks, and finds what they lose: where they are reliable, a slower schedule ([`Builder::policy`]) is enough.
    /// It blocks for no longer than [`WebhookPolicy::answer_within`](crate::WebhookPolicy::answer_within).
    ///
    /// # Panics
    /// As [`submit`](Client::submit).
    ///
    /// ```no_run
    /// # use bytes::Bytes;
    /// # use http::{Request, Response};
    /// # fn receive(client: steadfast_blocking::Client, request: Request<Bytes>) -> Result<Response<Bytes>, http::Error> {
    /// let (parts, body) = request.into_parts();
    /// let delivery = client.deliver(&parts.headers, body);
    /// println!("{delivery}");
    /// Response::builder().status(delivery.status()).body(Bytes::new())
    /// # }
    /// ```
    #[track_caller]
    pub fn deliver(&self, headers: &HeaderMap, body: Bytes) -> Delivery {
        self.0.turns.panic_if_ours();
        self.0.mailbox.count(self.post(headers, body))
    }

    fn post(&self, headers: &HeaderMap, body: Bytes) -> Delivery {
        let event = match self.0.mailbox.open(headers, &body, SystemTime::now().into()) {
            Ok(event) => event,
            Err(refused) => return refused,
        };
        let (reply, answered) = oneshot::channel();
        if self.0.turns.bring(Input::Posted(Posted::new(event, reply))).is_err() {
            return Delivery::Stopped;
        }
        // Dropped unanswered: the driver is gone.
        answered.recv().unwrap_or(Delivery::Stopped)
    }

    /// Subscribes to what the provider says of jobs after they have ended: a decision that was reopened, reversed, or
    /// has lapsed. The outcome that was reported stays as it was; see [`Revision`](crate::Revision). Revisions come by
    /// webhooks ([`deliver`](Client::deliver)), for jobs that this client remembers and, by their keys, for those in
    /// its store.
    ///
    /// Ordered by the provider's clock: a revision older than the latest is dropped. Up to 1,024 wait for a slow
    /// subscriber, which is told how many it missed beyond that. They are kept in memory only: one that was handed
    /// over and not acted on is lost by a crash, though its sender was answered with a 2xx.
    ///
    /// ```no_run
    /// # use steadfast_blocking::{Client, RevisionError};
    /// # fn example(client: &Client) {
    /// let mut revisions = client.revisions();
    /// loop {
    ///     match revisions.next() {
    ///         Ok(revision) => println!("{}: {}", revision.reference.as_str(), revision.status),
    ///         Err(RevisionError::Missed(count)) => println!("{count} missed"),
    ///         Err(_) => break,
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn revisions(&self) -> Revisions {
        subscribe(&self.0.revisions, Arc::downgrade(&self.0.turns))
    }

    /// Lets nothing leave for this long: a maintenance window of the provider, or an operator's stop. Jobs wait,
    /// against their own deadlines. A later call replaces an earlier one; [`Duration::ZERO`] ends the hold.
    pub fn hold(&self, span: Duration) {
        // If the driver is gone, there is nothing left to hold.
        let _ = self.command(Command::Hold { span, number: 0 });
    }

    /// Replaces the settings of the gate, for example after a quota was raised. Machines in both the old and the new
    /// settings keep their state. All settings are replaced, also [how many](GatePolicy::with_replicas) processes share
    /// the limits. A bulkhead that would let out more than [`MOST_THREADS`](crate::MOST_THREADS) is narrowed to that.
    pub fn set_gate(&self, gate: GatePolicy) {
        let _ = self.command(Command::Gate { policy: Box::new(gate), number: 0 });
    }

    /// Takes in no more jobs, waits up to `grace` for those under way, then stops. Reports the unfinished jobs.
    ///
    /// [`submit`](Client::submit)s that wait, and later ones, get [`SubmitError::Stopped`] at once. Unfinished jobs
    /// are not cancelled: with a store, a later client on the same store takes them up; without one, this report is
    /// all that is known of them. Clones that shut it down while it stops get the same report; after that there is
    /// nothing left to report from, and the list is empty. When this has returned, the store is closed; a request that
    /// is still in the air ends by its own time-out. In a function that the client itself calls and waits for (an
    /// observer, a seal) it returns at once with an empty report, and the client stops after that function.
    #[must_use = "without a store this is all that is known of jobs that have not ended"]
    pub fn shutdown(self, grace: Duration) -> Vec<Unfinished> {
        self.0.stop(grace, Duration::MAX)
    }

    fn command(&self, command: Command) -> Result<(), Stopped> {
        self.0.turns.bring(Input::Command(command))
    }

    fn handle(&self, following: Following) -> Handle {
        let Following { id, finished, acceptance, .. } = following;
        Handle { id, state: State::Waiting(finished), acceptance, client: self.clone() }
    }
}

impl Shared {
    /// Waits for its end for at most this long.
    fn stop(&self, grace: Duration, patience: Duration) -> Vec<Unfinished> {
        let (reply, unfinished) = oneshot::channel();
        let asked = self.turns.bring(Input::Command(Command::Shutdown { grace, reply }));
        if self.turns.are_elsewhere() {
            return Vec::new();
        }
        if self.turns.is_ours() {
            // Called in a function that the client waits for: it stops once that has returned, and not before.
            return Vec::new();
        }
        // Until its thread has ended: another caller that stops it at the same time waits here, since the store is
        // closed no sooner.
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = driver.take() {
            if thread.ends.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                // The log may panic, and this may be a drop because of a panic.
                let _ = caught(|| {
                    tracing::error!(
                        waited = ?patience,
                        "nobody has a handle of this client any more and it has not ended yet: its store takes long, or a function that it calls; \
                         it is not waited for any longer, and keeps its store open until that is done"
                    );
                });
                return Vec::new();
            }
            // If the driver had panicked, that would have been reported.
            let _ = thread.handle.join();
        }
        drop(driver);
        asked.map_or_else(|Stopped| Vec::new(), |()| unfinished.recv().unwrap_or_default())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop(Duration::ZERO, LAST_DROP_WAITS);
    }
}

/// Blocks while the store is read.
impl<P: Provider, T: Transport> Start<P, T> for Client {
    type Started = Result<Self, StartError>;

    fn start(builder: Builder<P, T>) -> Self::Started {
        let (provider, transport, mut settings) = builder.into_parts();
        let provider: Arc<dyn Provider> = Arc::new(provider);
        let (mailbox, has_store) = (Mailbox::new(provider.clone(), settings.webhooks()), settings.has_store());
        let traces = settings.trace_source();
        narrow(settings.gate_mut());
        let loaded = settings.load(provider.name())?;
        let mut clock = Clock::start();
        let mut driver = Driver::new(provider, loaded, clock.now());
        let revisions = Arc::new(Mutex::new(Some(Vec::new())));
        driver.tell_revisions_to(Box::new(Told(Arc::clone(&revisions))));
        let turns = Turns::new(driver, clock, transport, has_store).map_err(StartError::NoThread)?;
        let (its_own, thread) = (turns.clone(), thread::Builder::new().name("steadfast-driver".to_owned()));
        let (end, ends) = mpsc::channel();
        let run = move || {
            its_own.run();
            // What is left of the loop is dropped before its end is told.
            drop(its_own);
            drop(end);
        };
        let driver = Thread { handle: thread.spawn(run).map_err(StartError::NoThread)?, ends };
        Ok(Self(Arc::new(Shared { mailbox, revisions, traces, turns, driver: Mutex::new(Some(driver)) })))
    }
}

/// By a function that blocks.
impl<F, E> RenewsBy<F, E> for Client
where
    F: Fn() -> Result<(), E> + Send + Sync + 'static,
    E: Into<RenewError>,
{
    fn hook(renew: F) -> Renew {
        Renew::by_call(renew)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The holder of the lock waits for the thread's end, and may be waiting for this.
        let driver = self.0.driver.try_lock();
        let running = !driver.is_ok_and(|driver| driver.as_ref().is_none_or(|thread| thread.handle.is_finished()));
        f.debug_struct("Client").field("running", &running).finish()
    }
}

/// A job under way.
///
/// Dropping it does not cancel the job; submitting the key again gives another handle. [`cancel`](Handle::cancel)
/// does, as far as that is possible. While there is a handle, its client goes on.
#[must_use = "a handle is how to wait for the outcome: wait, or drop it deliberately to let the job go on unwatched"]
pub struct Handle {
    /// `None` if the job ended long ago, and is known from the store alone.
    id: Option<OperationId>,
    state: State,
    acceptance: Acceptance,
    /// Dropped after the state: what that was told may go back by this when both are dropped.
    client: Client,
}

enum State {
    Waiting(oneshot::Receiver<Unread>),
    Ended(Result<Finished, Stopped>),
}

impl Handle {
    /// Waits until the job has ended.
    ///
    /// # Errors
    /// The client stopped before that.
    ///
    /// # Panics
    /// Where [`submit`](Client::submit) does, unless the job has ended.
    #[track_caller]
    pub fn wait(mut self) -> Result<Finished, Stopped> {
        if let Some(finished) = self.try_outcome()? {
            return Ok(finished);
        }
        self.client.0.turns.panic_if_ours();
        match mem::replace(&mut self.state, State::Ended(Err(Stopped))) {
            State::Waiting(finished) => finished.recv().map(Unread::read).map_err(|_| Stopped),
            State::Ended(how) => how,
        }
    }

    /// Waits until it is durable that the provider has the job, and gives the answer that said so, which may hold, for
    /// example, the page that a person must open. Wait afterwards to learn how the job ends.
    ///
    /// The answer is kept in memory for as long as there is a handle of the job. For a job that was accepted before a
    /// restart only the reference is known.
    ///
    /// # Errors
    /// The job ended before the provider was known to have it, or the client stopped.
    ///
    /// # Panics
    /// Where [`submit`](Client::submit) does, unless the acceptance is known.
    ///
    /// ```no_run
    /// # fn example(job: steadfast_blocking::Handle) -> Result<(), Box<dyn std::error::Error>> {
    /// let accepted = job.accepted()?;
    /// if let Some(answer) = accepted.answer {
    ///     println!("{} bytes to read the page's address from", answer.body.len());
    /// }
    /// let finished = job.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn accepted(&self) -> Result<Accepted, NotAccepted> {
        if let Some(accepted) = self.acceptance.get() {
            return Ok(accepted.clone());
        }
        let id = self.id.ok_or(NotAccepted)?;
        self.client.0.turns.panic_if_ours();
        let (reply, accepted) = oneshot::channel();
        self.client.command(Command::Accepted { id, reply }).map_err(|Stopped| NotAccepted)?;
        // If it has ended meanwhile, then perhaps as one that was accepted.
        accepted.recv().or_else(|_| self.acceptance.get().cloned().ok_or(NotAccepted))
    }

    /// Waits for at most this long. `None`: it has not ended yet. It may be asked again, also once it has ended.
    ///
    /// # Errors
    /// The client stopped before it ended.
    ///
    /// # Panics
    /// Where [`submit`](Client::submit) does, if it would wait.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn example(mut job: steadfast_blocking::Handle) -> Result<(), steadfast_blocking::Stopped> {
    /// while job.wait_timeout(Duration::from_secs(5))?.is_none() {
    ///     println!("still under way");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Finished>, Stopped> {
        if !timeout.is_zero() {
            if let Some(finished) = self.try_outcome()? {
                return Ok(Some(finished));
            }
            self.client.0.turns.panic_if_ours();
        }
        if let State::Waiting(finished) = &self.state {
            self.state = State::Ended(match finished.recv_timeout(timeout) {
                Ok(finished) => Ok(finished.read()),
                // In a process that was forked only what had come before can be had.
                Err(oneshot::RecvTimeoutError::Timeout) if self.client.0.turns.are_elsewhere() => return Err(Stopped),
                Err(oneshot::RecvTimeoutError::Timeout) => return Ok(None),
                Err(oneshot::RecvTimeoutError::Disconnected) => Err(Stopped),
            });
        }
        match &self.state {
            State::Ended(how) => how.clone().map(Some),
            State::Waiting(_) => Ok(None),
        }
    }

    /// How it ended, if it has. Does not wait.
    ///
    /// # Errors
    /// As [`wait_timeout`](Handle::wait_timeout).
    pub fn try_outcome(&mut self) -> Result<Option<Finished>, Stopped> {
        self.wait_timeout(Duration::ZERO)
    }

    /// Gives the job up. Before its first request has left, it ends as *rejected* and nothing ran. After that it ends
    /// as *unresolved*: the provider may run it all the same, and only the watching stops. A job that has ended stays
    /// as it ended.
    ///
    /// Returns at once; wait to learn which it was.
    pub fn cancel(&self) {
        if let Some(id) = self.id {
            // If the driver is gone, there is nothing left to cancel.
            let _ = self.client.command(Command::Cancel(id));
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:?})", self.id)
    }
}

#[cfg(test)]
mod tests;
