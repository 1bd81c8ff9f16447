//! What a program holds: a client to submit jobs with, and a handle for each.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use steadfast_core::engine;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{Outcome, Stage, Unresolved};
use steadfast_core::{Key, Reference};
use steadfast_providers::{Payload, Provider};
use steadfast_store::StoreError;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::accepted::{Acceptance, Accepted, NotAccepted};
use crate::builder::Builder;
use crate::driver::{Command, Following, Submit};
use crate::revision::{Revision, Revisions};
use crate::transport::Transport;
use crate::webhook::{Delivery, Mailbox};

/// Submits jobs to one provider and carries them to their outcome.
///
/// Cloning is cheap and shares the engine. When the last clone is dropped, the jobs under way go on until they end, as long as
/// the runtime lives; [`shutdown`](Client::shutdown) ends sooner and says what is unfinished.
#[derive(Clone)]
pub struct Client {
    pub(crate) submits: mpsc::Sender<Submit>,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) mailbox: Mailbox,
    pub(crate) revisions: broadcast::WeakSender<Revision>,
}

impl Client {
    /// Starts describing a client for this provider, over this transport.
    pub fn builder<P: Provider, T: Transport>(provider: P, transport: T) -> Builder<P, T> {
        Builder::new(provider, transport)
    }

    /// Takes in a job under a key of your own, or joins the job that has this key already.
    ///
    /// Returns once the intent is durable, and not before. Waits while as many jobs are under way as [`Limits::live`](engine::Limits::live) allows. If the
    /// returned future is dropped while it waits, the job may or may not be taken in; submitting the key again joins it if it was.
    ///
    /// # Errors
    /// See [`SubmitError`]. In each case nothing was sent for this submit.
    pub async fn submit(&self, key: Key, payload: impl Into<Payload>) -> Result<Handle, SubmitError> {
        let (reply, taken) = oneshot::channel();
        let submit = Submit { key, payload: payload.into(), reply };
        self.submits.send(submit).await.map_err(|_| SubmitError::Stopped)?;
        let following = taken.await.map_err(|_| SubmitError::Stopped)??;
        Ok(self.handle(following))
    }

    /// Watches a job again that ended as *unresolved* with a reference: its polls were spent, its deadline came, it was cancelled after it had been
    /// accepted. It is polled on, with a fresh schedule and deadline, and its outcome may then be final. A job that is under way is joined; one
    /// that has ended for good gives its outcome.
    ///
    /// Jobs that a restart found under way need no call: [`Builder::start`] takes them up. Returns once it is durable that the job goes on.
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
        self.commands.send(Command::Resume { key, reply }).map_err(|_| ResumeError::Stopped)?;
        let following = resumed.await.map_err(|_| ResumeError::Stopped)??;
        Ok(self.handle(following))
    }

    /// Takes in a webhook, as your HTTP server received it: all headers, and the body byte for byte, not parsed and written again. Tells what the server is
    /// to answer. Answer in this order: when it has returned, and not before, since a 2xx promises that what follows from the event is
    /// durable.
    ///
    /// What can be told of a job ends it just as a poll would have, or makes its next poll due now. It may come early, late, twice, in any order, or
    /// about nobody's job; see [`Delivery`]. Polling goes on beside webhooks, and finds what they lose: where they are reliable, a slower schedule
    /// ([`Builder::policy`]) is enough. It waits for no longer than [`WebhookPolicy::answer_within`](crate::WebhookPolicy::answer_within).
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
        self.mailbox.deliver(headers, &body).await
    }

    /// Subscribes to what the provider says of jobs after they have ended: a decision that was reopened, reversed, or has lapsed. The outcome that was told
    /// stays as it was; see [`Revision`]. They come by webhooks ([`deliver`](Client::deliver)), for jobs that this client remembers and, by their keys,
    /// for those in its store.
    ///
    /// Ordered by the provider's clock: what is older than the last word is dropped. Up to 1,024 wait for a slow subscriber, which is told how many it
    /// missed beyond that. In memory only: what was handed over and not acted on is lost by a crash, though its sender was told 2xx.
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
        Revisions(self.revisions.upgrade().map(|sender| sender.subscribe()))
    }

    fn handle(&self, Following { id, finished, acceptance }: Following) -> Handle {
        Handle { id, finished, acceptance, commands: self.commands.clone() }
    }

    /// Lets nothing leave for so long: a maintenance window of the provider, or an operator's stop. Jobs wait, against their own deadlines. A later call
    /// replaces an earlier one's; [`Duration::ZERO`] ends it.
    pub fn hold(&self, span: Duration) {
        // If the driver is gone, there is nothing left to hold.
        let _ = self.commands.send(Command::Hold(span));
    }

    /// Puts other settings of the gate in place: a quota that was raised, say. Machines that both have keep what they know.
    pub fn set_gate(&self, gate: GatePolicy) {
        let _ = self.commands.send(Command::Gate(Box::new(gate)));
    }

    /// Takes in no more jobs, waits up to `grace` for those under way, then stops. Reports what is unfinished.
    ///
    /// Waiting [`submit`](Client::submit)s get [`SubmitError::Stopped`]. Unfinished jobs are not cancelled: with a store, a later client
    /// on the same store takes them up; without one, their report is all that is known of them.
    pub async fn shutdown(self, grace: Duration) -> Vec<Unfinished> {
        let (reply, unfinished) = oneshot::channel();
        if self.commands.send(Command::Shutdown { grace, reply }).is_err() {
            return Vec::new();
        }
        unfinished.await.unwrap_or_default()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("running", &!self.submits.is_closed()).finish()
    }
}

/// A job under way: a future of how it ended.
///
/// Dropping it does not cancel the job; submitting the key again gives another handle. [`cancel`](Handle::cancel) does, as far as that is possible.
#[must_use = "a handle is a future of the outcome: await it, or drop it deliberately to let the job go on unwatched"]
pub struct Handle {
    /// None if the job ended long ago, and is known from the store alone.
    id: Option<steadfast_core::OperationId>,
    finished: oneshot::Receiver<Finished>,
    acceptance: Acceptance,
    commands: mpsc::UnboundedSender<Command>,
}

impl Handle {
    /// Waits until it is durable that the provider has the job, and gives the answer that said so: in it stands, for example, the page that a person
    /// must open. Await the handle afterwards for how the job ends.
    ///
    /// The answer is in memory, for as long as a handle of the job is there. After a restart the reference alone is known.
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
        self.acceptance.wait().await
    }

    /// Gives the job up. Before its first request has left, it ends as *rejected* and nothing ran. After that it ends as *unresolved*: the
    /// provider may run it all the same, and only the watching stops. A job that has ended stays as it ended.
    ///
    /// Returns at once; await the handle to learn which it was.
    pub fn cancel(&self) {
        if let Some(id) = self.id {
            // If the driver is gone, there is nothing left to cancel.
            let _ = self.commands.send(Command::Cancel(id));
        }
    }
}

impl Future for Handle {
    type Output = Result<Finished, Stopped>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let finished = ready!(Pin::new(&mut self.finished).poll(context));
        Poll::Ready(finished.map_err(|_| Stopped))
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({:?})", self.id)
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finished {
    /// How.
    pub outcome: Outcome,
    /// The provider's id for it, if it became known.
    pub reference: Option<Reference>,
    /// Create attempts made.
    pub creates: u16,
    /// The provider's last answer: of a completed job, its result. `None` if there was none, or if the job ended long ago and its body was
    /// dropped to stay within [`Builder::results_limit`].
    pub answer: Option<FinalAnswer>,
}

impl Finished {
    /// The final body of a completed job; empty if there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.answer.as_ref().map_or(&[], |answer| &answer.body)
    }
}

/// What the provider said last. Its `Debug` shows the body's length only.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FinalAnswer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The decoded body.
    pub body: Bytes,
}

impl fmt::Debug for FinalAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FinalAnswer({}, {} bytes)", self.status, self.body.len())
    }
}

/// A job that had not ended when its client was shut down.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// The caller's name for it.
    pub key: Key,
    /// The provider's id for it, if it became known.
    pub reference: Option<Reference>,
    /// How far it had come.
    pub stage: Stage,
}

/// Why a job was not taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The key belongs to a job with another payload.
    #[error(transparent)]
    Refused(#[from] engine::SubmitError),
    /// The intent could not be made durable, so nothing was sent. The cause is its source.
    #[error(
        "the job was not taken in, since its intent could not be written to the journal: mend the journal, submit again"
    )]
    NotDurable(#[source] Arc<StoreError>),
    /// Whether the intent is durable is not known, and the store does not let itself be asked any more. Nothing was sent.
    #[error(
        "nobody knows whether the job's intent was written to the journal, and nothing was sent: \
         restart on the same journal, then submit the same key again"
    )]
    Uncertain(#[source] Arc<StoreError>),
    /// The store could not tell whether it has this key already, so nothing was sent.
    #[error(
        "the job was not taken in, since the journal could not be asked for its key: mend the journal, submit again"
    )]
    Unreadable(#[source] Arc<StoreError>),
    /// The client was shut down, or its runtime is ending.
    #[error("the client has stopped: nothing was sent for this submit")]
    Stopped,
}

/// Why a job was not resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// Neither this client nor its store knows the key: it was never submitted here, nothing ran, or it ended longer ago than
    /// [`Limits::remember_for`](engine::Limits::remember_for).
    #[error(
        "no job of this key is known here: submit it if it is new; ask the provider if it is older than the journal"
    )]
    UnknownKey,
    /// It ended as unresolved before the provider gave a reference to poll.
    #[error(
        "this job has no reference to ask for ({}): ask the provider whether it ran, and never submit it under a new key before",
        explain(.0)
    )]
    NoReference(Unresolved),
    /// It waits for its payload.
    #[error("this job was taken up after a restart and waits for its payload: submit the same key and payload again")]
    PayloadNeeded,
    /// The journal could not be read or written. If its error is not [certain](StoreError::is_certain), the job may go on after a restart all the same.
    #[error("the job was not resumed, since the journal could not be used: mend the journal, resume again")]
    Journal(#[source] Arc<StoreError>),
    /// The client was shut down, or its runtime is ending.
    #[error("the client has stopped: the job was not resumed, or a later client on the same store goes on with it")]
    Stopped,
}

const fn explain(why: &Unresolved) -> &'static str {
    Outcome::Unresolved(*why).explain()
}

impl From<SubmitError> for ResumeError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::NotDurable(error) | SubmitError::Uncertain(error) | SubmitError::Unreadable(error) => {
                Self::Journal(error)
            }
            SubmitError::Refused(_) | SubmitError::Stopped => Self::Stopped,
        }
    }
}

/// The client stopped before the job ended. The job is not lost: with a store, a later client takes it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the client stopped before the job ended: start a client on the same store and submit the key again to follow it"
)]
#[non_exhaustive]
pub struct Stopped;
