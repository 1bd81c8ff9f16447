//! What a program holds: a client to submit jobs with, and a handle for each.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use steadfast_core::engine::{self, Limits};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{OperationPolicy, Outcome, Stage, Unresolved};
use steadfast_core::{Engine, Gate, Key, Reference, Seed};
use steadfast_providers::{Payload, Provider};
use steadfast_store::{Store, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::driver::{Bounds, Command, Driver, Following, Submit};
use crate::journal::Journal;
use crate::keep::{self, Durability, Keep, Seal};
use crate::observe::{Hooks, Observation};
use crate::transport::Transport;
use crate::webhook::{Delivery, Mailbox, WebhookPolicy};

/// Submits jobs to one provider and carries them to their outcome.
///
/// Cloning is cheap and shares the engine. When the last clone is dropped, the jobs under way go on until they end, as long as
/// the runtime lives; [`shutdown`](Client::shutdown) ends sooner and says what is unfinished.
#[derive(Clone)]
pub struct Client {
    submits: mpsc::Sender<Submit>,
    commands: mpsc::UnboundedSender<Command>,
    mailbox: Mailbox,
}

impl Client {
    /// Starts describing a client for this provider, over this transport.
    pub fn builder<P: Provider, T: Transport>(provider: P, transport: T) -> Builder<P, T> {
        Builder {
            policy: provider.policy(),
            gate: provider.gate(),
            provider,
            transport,
            limits: Limits::default(),
            body_limit: 4 << 20,
            results_limit: 64 << 20,
            webhooks: WebhookPolicy::default(),
            store: None,
            durability: None,
            keep: Keep::default(),
            seed: None,
            hooks: Hooks::default(),
            from_backup: false,
        }
    }

    /// Takes in a job under a key of your own, or joins the job that has this key already.
    ///
    /// Returns once the intent is durable, and not before. Waits while as many jobs are under way as [`Limits::live`] allows. If the
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
    /// ([`Builder::policy`]) is enough. It waits for no longer than [`WebhookPolicy::answer_within`].
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

    fn handle(&self, Following { id, finished }: Following) -> Handle {
        Handle { id, finished, commands: self.commands.clone() }
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

/// Describes a [`Client`]. Made by [`Client::builder`].
#[must_use = "a builder does nothing until `start`"]
pub struct Builder<P, T> {
    provider: P,
    transport: T,
    policy: OperationPolicy,
    gate: GatePolicy,
    limits: Limits,
    body_limit: usize,
    results_limit: usize,
    webhooks: WebhookPolicy,
    store: Option<Box<dyn Store>>,
    durability: Option<Durability>,
    keep: Keep,
    seed: Option<Seed>,
    hooks: Hooks,
    from_backup: bool,
}

impl<P: Provider, T: Transport> Builder<P, T> {
    /// How jobs are retried and polled. Default: the provider's own [`policy`](Provider::policy).
    pub fn policy(mut self, policy: OperationPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// What holds requests back: breaker, retry budget, bulkhead, rate limits. Default: the provider's own [`gate`](Provider::gate).
    pub fn gate(mut self, gate: GatePolicy) -> Self {
        self.gate = gate;
        self
    }

    /// How many jobs may be under way, and how many ended ones are remembered. See [`Limits`] for the defaults.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The most bytes of one answer's decoded body; a larger one counts as unusable. Default 4 MiB: room for a result with images, not for
    /// a decompression bomb.
    pub const fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// The most bytes of ended jobs' bodies kept for repeated submits; the oldest go first, their outcomes stay. Default 64 MiB.
    pub const fn results_limit(mut self, bytes: usize) -> Self {
        self.results_limit = bytes;
        self
    }

    /// How webhooks are taken in. See [`WebhookPolicy`] for the defaults.
    pub const fn webhooks(mut self, policy: WebhookPolicy) -> Self {
        self.webhooks = policy;
        self
    }

    /// Keeps records here, so that a restart knows what was sent. Default: none are kept, and a crash forgets the jobs under way.
    ///
    /// What the store holds is taken up on [`start`](Builder::start). Accepted jobs are polled on. Those of which nothing was sent, and those
    /// whose create was not answered and may be sent again, go on if their payload is at hand: [kept](Builder::keep_payloads), or
    /// [given](Builder::payloads) by the program. If not, they wait until their key is submitted again, at most until their create deadline. A
    /// create that was not answered is looked up where the provider can be asked, which needs no payload, and is *unresolved* where a repeat
    /// might run twice. No wait is longer than one capped delay, whatever the clock did meanwhile.
    ///
    /// Ended jobs are kept for [`Limits::remember_for`], so that a repeated submit gets their outcome, and then forgotten a few at a time. Unresolved
    /// ones are not forgotten: they may have run, so their keys must not become free before somebody knows.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Box::new(store));
        self
    }

    /// Whether a submit waits for its intent to be on disk. Default: [`Durable`](Durability::Durable) with a store, else
    /// [`Volatile`](Durability::Volatile).
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Keeps each job's payload in the store until the job has ended, so that a restart need not ask for it. Default: it is not kept, since
    /// it is personal data as a rule. Consider a [`seal`](Builder::seal).
    pub const fn keep_payloads(mut self) -> Self {
        self.keep.payloads = true;
        self
    }

    /// Keeps the answer that ended each job in the store, so that a repeated submit gets it too, also after a restart, for
    /// [`Limits::remember_for`]. Default: it is not kept, since it is personal data as a rule. Consider a [`seal`](Builder::seal).
    pub const fn keep_answers(mut self) -> Self {
        self.keep.answers = true;
        self
    }

    /// Encrypts the payloads and answers that are kept. Default: they are kept as they are.
    pub fn seal(mut self, seal: impl Seal) -> Self {
        self.keep.seal = Some(Arc::new(seal));
        self
    }

    /// Where a restart finds the payload of a job that needs one and was not kept in the store: the program's own tables, say. Asked once per job
    /// during [`start`](Builder::start), on a thread that may block. `None`: the job waits until its key is submitted again, as it does if the
    /// payload is not the one that it was submitted with.
    pub fn payloads(mut self, loader: impl Fn(&Key) -> Option<Payload> + Send + Sync + 'static) -> Self {
        self.keep.loader = Some(Arc::new(loader));
        self
    }

    /// What all jitter is drawn from. Default: drawn at random; fix it to repeat a run.
    pub const fn seed(mut self, seed: Seed) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Called with every notice, on the driver's task: it must be quick and must not block.
    pub fn observer(mut self, observer: impl Fn(&Observation) + Send + Sync + 'static) -> Self {
        self.hooks.observer = Some(Arc::new(observer));
        self
    }

    /// Called with the outcome of each job that ends with nobody waiting for it: one that a restart took up, above all, or whose handle went down
    /// with its caller while the client was shut down. On the driver's task: it must be quick and must not block; send the outcome on. Once it has
    /// returned, the outcome counts as delivered; a crash before that is noted in the store has it called again by the next client.
    ///
    /// Default: there is none, and such outcomes stay in the store until their keys are submitted or resumed again, however long that takes. Their
    /// answers are there too if they are [kept](Builder::keep_answers); if not, the provider has to be asked for them by the reference.
    ///
    /// Not called for a job whose handle was dropped while the client ran: that is how a program says that it does not want to know.
    pub fn unclaimed(mut self, taker: impl Fn(&Key, &Finished) + Send + Sync + 'static) -> Self {
        self.hooks.unclaimed = Some(Arc::new(taker));
        self
    }

    /// For the first start on a store that was put back from a copy: of what the copy says, later processes may have done more. Jobs that it calls
    /// *planned* count as perhaps run from now on, so they are sent again under their key, looked up, or called unresolved, as after a crash in the midst
    /// of a create; that is noted in the store. What the copy does not know at all is known to the provider alone: do not submit again what may have been
    /// submitted since, unless the provider drops repeats of a key.
    pub const fn from_backup(mut self) -> Self {
        self.from_backup = true;
        self
    }

    /// Which of the jobs in the store this client goes on with by itself. Default: all. The others stay as they are, until their keys are submitted or
    /// resumed here, or a later client chooses them: for a tool that carries one job, say, on a journal that holds others.
    pub fn take_up(mut self, chooses: impl Fn(&Key) -> bool + Send + Sync + 'static) -> Self {
        self.keep.chooses = Some(Arc::new(chooses));
        self
    }

    /// Starts the client on the current tokio runtime, which must have its timer enabled.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(self) -> Result<Client, StartError> {
        let store = match (self.store, self.durability) {
            (None, Some(Durability::Durable)) => return Err(StartError::NoStore),
            (_, Some(Durability::Volatile)) => None,
            (store, _) => store,
        };
        let (store, taken) = match store {
            None => (None, Vec::new()),
            Some(mut store) => {
                let (keep, policy, ours) = (self.keep.clone(), self.policy.clone(), self.provider.name().to_owned());
                let (hands_over, from_backup) = (self.hooks.unclaimed.is_some(), self.from_backup);
                let loading = tokio::task::spawn_blocking(move || {
                    let mut entries = store.load_live()?;
                    if let Some(entry) = entries.iter().find(|entry| *entry.provider != *ours) {
                        return Err(StartError::OtherProvider { theirs: entry.provider.clone(), ours });
                    }
                    if from_backup {
                        store.append(&keep::doubt(&mut entries))?;
                    }
                    Ok((store, keep.take_up(entries, &policy, hands_over)))
                });
                let (store, taken) = loading.await.map_err(StoreError::read)??;
                (Some(store), taken)
            }
        };
        // Room for as many submits as a driver takes in at one go; those beyond wait with their caller.
        let (submits, submitted) = mpsc::channel(64);
        let (commands, commanded) = mpsc::unbounded_channel();
        let seed = self.seed.unwrap_or_else(|| Seed::new(fastrand::u64(..)));
        // Every process has chance of its own here: breakers that opened together must not ask again together.
        let gate = Gate::new(self.gate, self.seed.unwrap_or_else(|| Seed::new(fastrand::u64(..))));
        let journal = Journal::new(store, self.keep, self.policy.persist().clone(), self.limits.remember_for);
        let engine = Engine::new(self.policy, gate, self.limits, seed);
        let (limits, webhooks) = (self.limits, self.webhooks);
        let bounds = Bounds { limits, body: self.body_limit, results: self.results_limit, webhooks };
        let (provider, transport) = (Arc::new(self.provider), Arc::new(self.transport));
        let (posted, posts) = mpsc::channel(64);
        let mailbox = Mailbox::new(provider.clone(), webhooks.body_limit, posted);
        let driver = Driver::new(engine, journal, bounds, provider, transport, self.hooks);
        tokio::spawn(driver.run(taken, submitted, commanded, posts));
        Ok(Client { submits, commands, mailbox })
    }
}

impl<P: Provider, T> fmt::Debug for Builder<P, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, policy, gate, limits, .. } = self;
        let provider = provider.name();
        f.debug_struct("Builder")
            .field("provider", &provider)
            .field("policy", policy)
            .field("gate", gate)
            .field("limits", limits)
            .finish_non_exhaustive()
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
    commands: mpsc::UnboundedSender<Command>,
}

impl Handle {
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
    /// [`Limits::remember_for`].
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

/// Why a client was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// What the store holds could not be read, or is damaged.
    #[error("the client was not started, since its store could not be read")]
    Unreadable(#[from] StoreError),
    /// The store holds jobs of another [provider](Provider::name). Nothing was sent: this provider does not know them, their payloads are not meant for
    /// it, and their keys would be taken for its own.
    #[error(
        "the client was not started: its store holds jobs of {theirs:?}, and its provider is {ours:?}; \
         give each provider a store of its own"
    )]
    OtherProvider {
        /// The name that the jobs bear.
        theirs: Arc<str>,
        /// The name of the client's provider.
        ours: String,
    },
    /// [`Durability::Durable`] was asked for, and there is nothing to keep records in.
    #[error(
        "the client was not started: it was told to be durable and has no store; give it one with `Builder::store`"
    )]
    NoStore,
}
