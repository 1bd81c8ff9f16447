//! How a client is described, and what its start takes up.

use std::fmt;
use std::sync::Arc;

use steadfast_core::engine::Limits;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::OperationPolicy;
use steadfast_core::{Engine, Gate, Key, Seed};
use steadfast_providers::{Payload, Provider};
use steadfast_store::{Store, StoreError};
use tokio::sync::{broadcast, mpsc};

use crate::client::{Client, Finished};
use crate::driver::{Bounds, Driver, RenewError};
use crate::journal::Journal;
use crate::keep::{self, Durability, Keep, Seal};
use crate::observe::{Hooks, Observation};
use crate::revision;
use crate::transport::Transport;
use crate::webhook::{Mailbox, WebhookPolicy};

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
    pub(crate) fn new(provider: P, transport: T) -> Self {
        Self {
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

    /// How credentials that are over are renewed: called when the provider refuses them (a 401, as a rule), for all requests that met this together.
    /// What was refused is then sent again: polls and look-ups by their retry policy, a create once, since nothing ran. While it runs, for 30 s at
    /// most, nothing leaves.
    ///
    /// An error is logged, so it must show no secret. If it fails, or if what it brought is refused as well, the next one waits for 1 s, doubled up to
    /// 60 s. Default: there is none, and a create that is refused is *rejected*.
    ///
    /// ```
    /// use steadfast_providers::deepvue::{Credentials, Deepvue, SetupError};
    /// use steadfast_tokio::{Client, ReqwestTransport};
    ///
    /// # async fn authorize() -> String { String::new() }
    /// # async fn example(provider: Deepvue, credentials: Credentials) -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder(provider, ReqwestTransport::new()?)
    ///     .renew_credentials(move || {
    ///         let credentials = credentials.clone();
    ///         async move {
    ///             let token = authorize().await; // your own POST /v1/authorize
    ///             credentials.renew(token)
    ///         }
    ///     })
    ///     .start()
    ///     .await?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    pub fn renew_credentials<F, R, E>(mut self, renew: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<RenewError>,
    {
        self.hooks.renew = Some(Arc::new(move || {
            let renewing = renew();
            Box::pin(async move { renewing.await.map_err(Into::into) })
        }));
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
        let (revised, _) = broadcast::channel(revision::ROOM);
        let revisions = revised.downgrade();
        let driver = Driver::new(engine, journal, bounds, provider, transport, self.hooks, revised);
        tokio::spawn(driver.run(taken, submitted, commanded, posts));
        Ok(Client { submits, commands, mailbox, revisions })
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
