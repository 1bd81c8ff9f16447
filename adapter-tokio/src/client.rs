//! What a program holds: a client to submit jobs with, and a handle for each.

mod start;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use steadfast_core::gate::GatePolicy;
use steadfast_core::{Key, OperationId};
use steadfast_driver::{
    Acceptance, Accepted, Command, Delivery, Finished, Following, JobError, JobStatus, Mailbox, NotAccepted, Posted,
    ResumeError, Shards, StatusError, Stopped, Submit, SubmitError, TraceSource, Unfinished, Unread,
};
use steadfast_providers::{Payload, Provider};
use tokio::sync::{mpsc, watch};

use crate::Builder;
use crate::drive::is_late;
use crate::revisions::{Channel, Revisions};
use crate::transport::Transport;

pub use self::start::Starting;

/// Submits jobs to one provider and carries them to their outcome.
///
/// Cloning is cheap and shares the engine. When the last clone is dropped, the jobs under way go on until they end, as
/// long as the runtime lives; [`shutdown`](Client::shutdown) stops sooner and reports the unfinished jobs.
#[derive(Clone)]
pub struct Client {
    first: Lane,
    /// Of all shards, if there are several.
    lanes: Option<Arc<Lanes>>,
    mailbox: Mailbox,
    revisions: Weak<Channel>,
    traces: TraceSource,
}

struct Lanes {
    shards: Shards,
    of_all: Vec<Lane>,
    /// How many commands have been sent to all of them.
    said: AtomicU64,
}

/// The way to one driver.
#[derive(Clone)]
struct Lane {
    /// None of these is bounded: each caller waits for its answer, and what one that is dropped leaves there is taken
    /// out at the next turn. Who had to wait for room in them, and was not polled any more, would hold up everybody
    /// behind it.
    submits: mpsc::UnboundedSender<Submit>,
    commands: mpsc::UnboundedSender<Command>,
    posts: mpsc::UnboundedSender<Posted>,
    /// Closed once its driver and its store are closed.
    running: watch::Receiver<()>,
}

impl Client {
    /// Starts describing a client for this provider, over this transport.
    pub fn builder<P: Provider, T: Transport>(provider: P, transport: T) -> Builder<P, T> {
        Builder::new(provider, transport)
    }

    /// Takes in a job under a key of your own, or joins the job that has this key already.
    ///
    /// Returns once the intent is durable, and not before. Waits while as many jobs are under way as
    /// [`Limits::live`](steadfast_core::engine::Limits::live) allows. If the returned future is dropped while it
    /// waits, the job may or may not be taken in, and submitting the key again joins it if it was; a job that still
    /// waited for room is not.
    ///
    /// # Errors
    /// See [`SubmitError`]. In each case nothing was sent for this submit.
    pub async fn submit(&self, key: Key, payload: impl Into<Payload>) -> Result<Handle, SubmitError> {
        let (reply, taken) = oneshot::channel();
        let lane = self.lane(&key);
        let submit = Submit::new(key, payload.into(), reply).traced(self.traces.current());
        lane.submits.send(submit).map_err(|_| SubmitError::Stopped)?;
        let following = lane.reply(taken, is_late(&lane.submits)).await.ok_or(SubmitError::Stopped)??;
        Ok(lane.handle(following))
    }

    /// Submits a job and waits until it has ended. If the returned future is dropped while it waits, the job goes on,
    /// as after [`submit`](Client::submit).
    ///
    /// # Errors
    /// It was not taken in, or the client stopped before it ended.
    pub async fn call(&self, key: Key, payload: impl Into<Payload>) -> Result<Finished, JobError> {
        Ok(self.submit(key, payload).await?.await?)
    }

    /// Starts polling again for a job that ended as *unresolved* with a reference: because its polls were spent, its
    /// deadline came, or it was cancelled after it had been accepted. It gets a fresh schedule and deadline, and its
    /// outcome may then be final. A job that is under way is joined; one that has ended for good gives its outcome.
    ///
    /// Jobs that a restart found under way need no call: [`Builder::start`] takes them up. Returns once it is durable
    /// that the job goes on. It goes on all the same if the returned future is dropped once it has been polled.
    ///
    /// # Errors
    /// See [`ResumeError`]. In each case nothing was sent.
    ///
    /// ```no_run
    /// # use steadfast_core::{Key, Outcome};
    /// # async fn example(client: steadfast_tokio::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let key = Key::new("order-42")?;
    /// let finished = client.submit(key.clone(), "{}").await?.await?;
    /// if let (Outcome::Unresolved(_), Some(_)) = (finished.outcome, &finished.reference) {
    ///     let finished = client.resume(key).await?.await?;
    ///     println!("{}", finished.outcome.explain());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn resume(&self, key: Key) -> Result<Handle, ResumeError> {
        let (reply, resumed) = oneshot::channel();
        let lane = self.lane(&key);
        lane.commands.send(Command::Resume { key, reply }).map_err(|_| ResumeError::Stopped)?;
        let following = lane.reply(resumed, is_late(&lane.commands)).await.ok_or(ResumeError::Stopped)??;
        Ok(lane.handle(following))
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
    /// ```no_run
    /// # use steadfast_core::Key;
    /// # async fn example(client: &steadfast_tokio::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// match client.status(Key::new("order-42")?).await? {
    ///     None => println!("never submitted, or long ago"),
    ///     Some(job) if job.needs_payload => println!("submit it again"),
    ///     Some(job) => println!("{}", job.explain(std::time::SystemTime::now().into())),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn status(&self, key: Key) -> Result<Option<JobStatus>, StatusError> {
        let (reply, told) = oneshot::channel();
        let lane = self.lane(&key);
        lane.commands.send(Command::Status { key, reply }).map_err(|_| StatusError::Stopped)?;
        lane.reply(told, is_late(&lane.commands)).await.ok_or(StatusError::Stopped)?
    }

    /// Takes in a webhook, as your HTTP server received it: all headers, and the body byte for byte, not parsed and
    /// written again. Returns what the server is to answer. Do not answer before this has returned, since a 2xx
    /// promises that what follows from the event is durable.
    ///
    /// What a webhook says of a job ends that job just as a poll would have, or makes its next poll due now. It may
    /// come early, late, twice, in any order, or about an unknown job; see [`Delivery`]. Polling goes on beside
    /// webhooks, and finds what they lose: where they are reliable, a slower schedule ([`Builder::policy`]) is enough.
    /// It waits for no longer than [`WebhookPolicy::answer_within`](crate::WebhookPolicy::answer_within). If the
    /// returned future is dropped while it waits, as by a server whose peer hangs up, the event counts all the same;
    /// its sender, which was not answered, sends it again, and the repeat changes nothing.
    ///
    /// ```no_run
    /// # use bytes::Bytes;
    /// # use http::{Request, Response};
    /// # async fn receive(client: steadfast_tokio::Client, request: Request<Bytes>) -> Result<Response<Bytes>, http::Error> {
    /// let (parts, body) = request.into_parts();
    /// let delivery = client.deliver(&parts.headers, body).await;
    /// println!("{delivery}");
    /// Response::builder().status(delivery.status()).body(Bytes::new())
    /// # }
    /// ```
    pub async fn deliver(&self, headers: &HeaderMap, body: Bytes) -> Delivery {
        self.mailbox.count(self.post(headers, body).await)
    }

    async fn post(&self, headers: &HeaderMap, body: Bytes) -> Delivery {
        let event = match self.mailbox.open(headers, &body, SystemTime::now().into()) {
            Ok(event) => event,
            Err(refused) => return refused,
        };
        let (reply, answered) = oneshot::channel();
        let Ok(lane) = self.pass_on(Posted::new(event, reply)) else { return Delivery::Stopped };
        lane.reply(answered, is_late(&lane.posts)).await.unwrap_or(Delivery::Stopped)
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
    /// # use steadfast_tokio::{Client, RevisionError};
    /// # async fn example(client: &Client) {
    /// let mut revisions = client.revisions();
    /// loop {
    ///     match revisions.next().await {
    ///         Ok(revision) => println!("{}: {}", revision.reference.as_str(), revision.status),
    ///         Err(RevisionError::Missed(count)) => println!("{count} missed"),
    ///         Err(_) => break,
    ///     }
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn revisions(&self) -> Revisions {
        Revisions(self.revisions.upgrade().map(|channel| channel.subscribe()))
    }

    fn pass_on(&self, mut posted: Posted) -> Result<&Lane, Stopped> {
        let (home, others) = match self.lanes.as_deref() {
            None => (0, 1),
            // Without a key any shard will do, even if that shard stops before the others do: they ask each other.
            Some(Lanes { shards, of_all: lanes, .. }) => {
                (shards.of_event(posted.event()), if posted.event().key.is_none() { lanes.len() } else { 1 })
            }
        };
        for lane in self.lanes().iter().cycle().skip(home).take(others) {
            match lane.posts.send(posted) {
                Ok(()) => return Ok(lane),
                Err(mpsc::error::SendError(back)) => posted = back,
            }
        }
        Err(Stopped)
    }

    fn lane(&self, key: &Key) -> &Lane {
        match self.lanes.as_deref() {
            Some(Lanes { shards, of_all, .. }) => of_all.get(shards.of(key)).unwrap_or(&self.first),
            None => &self.first,
        }
    }

    fn lanes(&self) -> &[Lane] {
        self.lanes.as_deref().map_or_else(|| slice::from_ref(&self.first), |lanes| &lanes.of_all)
    }

    /// Lets nothing leave for this long: a maintenance window of the provider, or an operator's stop. Jobs wait,
    /// against their own deadlines. A later call replaces an earlier one; [`Duration::ZERO`] ends the hold.
    pub fn hold(&self, span: Duration) {
        self.command(|number| Command::Hold { span, number });
    }

    /// Replaces the settings of the gate, for example after a quota was raised. Machines in both the old and the new
    /// settings keep their state. All settings are replaced, also [how many](GatePolicy::with_replicas) processes share
    /// the limits.
    pub fn set_gate(&self, gate: GatePolicy) {
        self.command(|number| Command::Gate { policy: Box::new(gate.clone()), number });
    }

    /// Sends every driver a command that concerns no single job. It comes before whatever is asked of any of them
    /// afterwards.
    fn command(&self, command: impl Fn(u64) -> Command) {
        let number = self.lanes.as_ref().map_or(0, |lanes| lanes.said.fetch_add(1, Ordering::Relaxed));
        for lane in self.lanes() {
            // A driver that has stopped has nothing left to be told.
            let _ = lane.commands.send(command(number));
        }
    }

    /// Takes in no more jobs, waits up to `grace` for those under way, then stops, and closes the store. Reports the
    /// unfinished jobs.
    ///
    /// [`submit`](Client::submit)s that wait, and later ones, get [`SubmitError::Stopped`] at once. Unfinished jobs
    /// are not cancelled: with a store, a later client on the same store takes them up; without one, this report is
    /// all that is known of them. Clones that shut it down while it stops get the same report; after that there is
    /// nothing left to report from, and the list is empty. If the returned future is dropped, the shutdown goes on.
    #[must_use = "without a store this is all that is known of jobs that have not ended"]
    pub async fn shutdown(self, grace: Duration) -> Vec<Unfinished> {
        let reports = self.lanes().iter().filter_map(|lane| {
            let (reply, unfinished) = oneshot::channel();
            lane.commands.send(Command::Shutdown { grace, reply }).ok().map(|()| (lane, unfinished))
        });
        let reports: Vec<_> = reports.collect();
        let mut unfinished = Vec::new();
        for (lane, report) in reports {
            unfinished.extend(lane.reply(report, is_late(&lane.commands)).await.unwrap_or_default());
        }
        for lane in self.lanes() {
            // Nothing is ever said on it: it ends.
            let _ = lane.running.clone().changed().await;
        }
        if self.lanes.is_some() {
            unfinished.sort_by(|a, b| a.key.cmp(&b.key));
        }
        unfinished
    }
}

impl Lane {
    /// What the driver answers; `None` if it is gone. What was handed over just as the driver closed its end (which is
    /// then `late`) may stay unanswered for as long as there is a client, since nothing is taken out afterwards.
    async fn reply<T>(&self, reply: oneshot::Receiver<T>, late: bool) -> Option<T> {
        let mut reply = reply.into_future();
        if !late {
            return reply.await.ok();
        }
        let mut running = self.running.clone();
        tokio::select! {
            biased;
            answer = &mut reply => answer.ok(),
            // It may have answered since it was asked, and before it was gone.
            _ = running.changed() => if reply.has_message() { reply.await.ok() } else { None },
        }
    }

    fn handle(&self, following: Following) -> Handle {
        let Following { id, finished, acceptance, .. } = following;
        let (finished, commands) = (Mutex::new(finished.into_future()), Some(self.commands.clone()));
        Handle { id, finished, acceptance, commands }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("running", &!self.lanes().iter().all(|lane| lane.submits.is_closed())).finish()
    }
}

/// A job under way: a future of how it ended, to be awaited once. (Polled again after that, it panics.) In a `select!`
/// loop, await `&mut handle`: nothing is lost where another branch comes first.
///
/// Dropping it does not cancel the job; submitting the key again gives another handle. [`cancel`](Handle::cancel)
/// does, as far as that is possible. While any handle has not yet given its job's outcome, the driver goes on, and the
/// store stays open, unless the client is [shut down](Client::shutdown).
#[must_use = "a handle is a future of the outcome: await it, or drop it deliberately to let the job go on unwatched"]
pub struct Handle {
    /// `None` if the job ended long ago, and is known from the store alone.
    id: Option<OperationId>,
    /// Never locked: a task that waits for [`accepted`](Handle::accepted) holds the handle by reference, and may go on
    /// in another thread only if threads may share it.
    finished: Mutex<oneshot::AsyncReceiver<Unread>>,
    acceptance: Acceptance,
    /// Dropped after `finished`: what that was told may go back by this when both are dropped. `None` once the job has
    /// ended: there is nothing left to ask for, and a handle that is kept must not keep the driver.
    commands: Option<mpsc::UnboundedSender<Command>>,
}

impl Handle {
    /// Waits until it is durable that the provider has the job, and gives the answer that said so, which may hold, for
    /// example, the page that a person must open. Await the handle afterwards to learn how the job ends.
    ///
    /// The answer is kept in memory for as long as there is a handle of the job. For a job that was accepted before a
    /// restart only the reference is known. Cancel-safe: it can be asked again, as often as you like.
    ///
    /// # Errors
    /// The job ended before the provider was known to have it, or the client stopped.
    ///
    /// ```no_run
    /// # async fn example(job: steadfast_tokio::Handle) -> Result<(), Box<dyn std::error::Error>> {
    /// let accepted = job.accepted().await?;
    /// if let Some(answer) = accepted.answer {
    ///     println!("{} bytes to read the page's address from", answer.body.len());
    /// }
    /// let finished = job.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn accepted(&self) -> Result<Accepted, NotAccepted> {
        if let Some(accepted) = self.acceptance.get() {
            return Ok(accepted.clone());
        }
        let (id, commands) = self.id.zip(self.commands.as_ref()).ok_or(NotAccepted)?;
        let (reply, accepted) = oneshot::channel();
        commands.send(Command::Accepted { id, reply }).map_err(|_| NotAccepted)?;
        // If this is closed by now, the driver has stopped, and there may be nobody to drop the reply.
        let accepted = if is_late(commands) { None } else { accepted.await.ok() };
        // It may have ended meanwhile, perhaps as one that was accepted.
        accepted.or_else(|| self.acceptance.get().cloned()).ok_or(NotAccepted)
    }

    /// Gives the job up. Before its first request has left, it ends as *rejected* and nothing ran. After that it ends
    /// as *unresolved*: the provider may run it all the same, and only the watching stops. A job that has ended stays
    /// as it ended.
    ///
    /// Returns at once; await the handle to learn which it was.
    pub fn cancel(&self) {
        if let Some((id, commands)) = self.id.zip(self.commands.as_ref()) {
            // If the driver is gone, there is nothing left to cancel.
            let _ = commands.send(Command::Cancel(id));
        }
    }
}

impl Future for Handle {
    type Output = Result<Finished, Stopped>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // What it would say else, that the client has stopped, would not be true.
        assert!(self.commands.is_some(), "a handle was polled after it had given its job's outcome");
        let finished = self.finished.get_mut().unwrap_or_else(PoisonError::into_inner);
        let finished = ready!(Pin::new(finished).poll(context));
        self.commands = None;
        Poll::Ready(finished.map(Unread::read).map_err(|_| Stopped))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:?})", self.id)
    }
}
