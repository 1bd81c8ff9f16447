//! How a client is described, and what its start takes up (`load`). The same for every adapter, so that none of them
//! lacks a setting or has another default.

mod load;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use steadfast_core::engine::Limits;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::OperationPolicy;
use steadfast_core::{Key, Seed};
use steadfast_providers::document::{Document, DocumentError};
use steadfast_providers::{Payload, Provider};
use steadfast_store::Store;

pub use self::load::{Loaded, StartError};
use crate::correlation::CorrelationHeader;
use crate::driver::Renew;
use crate::finished::Finished;
use crate::keep::{Durability, Keep, Seal};
use crate::observe::{Claim, Hooks, Observation};
use crate::outgoing::BODY_LIMIT;
use crate::policies::{ClientLimits, Policies};
use crate::trace_context::{TraceContext, TraceSource};
use crate::webhook::WebhookPolicy;

/// Describes a client `C`, of a provider `P` over a transport `T`. Made by the adapter's `Client::builder`.
#[must_use = "a builder does nothing until `start`"]
pub struct Builder<P, T, C> {
    provider: P,
    transport: T,
    pub(crate) settings: Settings,
    client: PhantomData<fn() -> C>,
}

/// An adapter's client, which a [`Builder`] can start.
pub trait Start<P, T>: Sized {
    /// What a start gives: the client, or a future of it, or an error.
    type Started;

    /// Starts it.
    fn start(builder: Builder<P, T, Self>) -> Self::Started;
}

/// An adapter's client, whose credentials an `F` can renew: an async function on tokio, a blocking one on threads. `M` is
/// for the compiler only: the types that `F` alone does not name, such as its error, and its future if it returns one.
pub trait RenewsBy<F, M> {
    /// The hook that it is.
    fn hook(renew: F) -> Renew;
}

/// What a [`Builder`] was told, for the adapter's [`Start`].
pub struct Settings {
    pub(crate) policy: OperationPolicy,
    pub(crate) gate: GatePolicy,
    pub(crate) limits: Limits,
    pub(crate) body_limit: usize,
    pub(crate) correlation_header: CorrelationHeader,
    pub(crate) results_limit: usize,
    pub(crate) webhooks: WebhookPolicy,
    store: Option<Box<dyn Store>>,
    durability: Option<Durability>,
    pub(crate) keep: Keep,
    pub(crate) seed: Option<Seed>,
    pub(crate) hooks: Hooks,
    pub(crate) shards: usize,
    from_backup: bool,
}

impl<P: Provider, T, C> Builder<P, T, C> {
    /// For adapters: a description with the provider's own policy and gate, and the defaults of everything else.
    pub fn new(provider: P, transport: T) -> Self {
        let settings = Settings {
            policy: provider.policy(),
            gate: provider.gate(),
            limits: Limits::default(),
            body_limit: BODY_LIMIT,
            correlation_header: CorrelationHeader::default(),
            results_limit: 64 << 20,
            webhooks: WebhookPolicy::default(),
            store: None,
            durability: None,
            keep: Keep::default(),
            seed: None,
            hooks: Hooks::default(),
            shards: 1,
            from_backup: false,
        };
        Self { provider, transport, settings, client: PhantomData }
    }

    /// For adapters: what it was given and told.
    #[must_use]
    pub fn into_parts(self) -> (P, T, Settings) {
        (self.provider, self.transport, self.settings)
    }

    /// How jobs are retried and polled. Default: the provider's own [`policy`](Provider::policy).
    pub fn policy(mut self, policy: OperationPolicy) -> Self {
        self.settings.policy = policy;
        self
    }

    /// What holds requests back: breaker, retry budget, bulkhead, rate limits. Default: the provider's own
    /// [`gate`](Provider::gate). A breaker waits for each probe at least as long as the [`policy`](Builder::policy) gives
    /// a request, even if its [lease](steadfast_core::breaker::Probes::lease) is shorter.
    pub fn gate(mut self, gate: GatePolicy) -> Self {
        self.settings.gate = gate;
        self
    }

    /// Changes what a [file of policies](crate::policies) names, down to single fields. All else stays as it is: as the
    /// provider has it, or as this builder was told before. Settings that the program decides itself belong after this
    /// call.
    ///
    /// # Errors
    /// The first mistake in the file, by line and field. Also one that only shows with what it changes: a create's
    /// time-out that is not shorter than the window in which the provider remembers a key, for instance.
    ///
    /// ```no_run
    /// # fn f<P: steadfast_providers::Provider, C>(builder: steadfast_driver::Builder<P, (), C>) -> Result<(), Box<dyn std::error::Error>> {
    /// use steadfast_providers::document::{Document, Format};
    ///
    /// let file = Document::parse(&std::fs::read_to_string("policies.toml")?, Format::Toml)?;
    /// let builder = builder.policies(&file)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn policies(mut self, file: &Document) -> Result<Self, DocumentError> {
        let Settings { policy, gate, limits: own, body_limit, results_limit, webhooks, .. } = &self.settings;
        let limits = ClientLimits::new(*own, *body_limit, *results_limit);
        let own = Policies { policy: policy.clone(), gate: gate.clone(), limits, webhooks: *webhooks };
        let Policies { policy, gate, limits, webhooks } = own.changed_by(file)?;
        self = self.policy(policy).gate(gate).webhooks(webhooks);
        Ok(self.limits(limits.engine()).body_limit(limits.body_bytes).results_limit(limits.results_bytes))
    }

    /// How many jobs may be under way, and how many ended ones are remembered. See [`Limits`] for the defaults. A limit
    /// of no jobs is an error at the start ([`StartError::NoRoom`]). A submit that finds no room waits. One that joins a
    /// job already known here, or brings the payload that a job [waits for](Builder::store), needs no room.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// The most bytes of one answer's decoded body; a larger one counts as unusable. Default 4 MiB: room for a result
    /// with images, not for a decompression bomb. A limit below 1,000 bytes is an error at the start
    /// ([`StartError::TooSmall`]), since not even a create's answer might fit.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.settings.body_limit = bytes;
        self
    }

    /// The most bytes of ended jobs' bodies kept in memory for repeated submits; the oldest are dropped first, and their
    /// outcomes stay. As many bytes again may be held of answers that have not ended their job: each job's latest, in
    /// case the job ends without another one. Default 64 MiB.
    pub fn results_limit(mut self, bytes: usize) -> Self {
        self.settings.results_limit = bytes;
        self
    }

    /// How webhooks are taken in. See [`WebhookPolicy`] for the defaults, and for what a client is not started with
    /// ([`StartError::TooSmall`]).
    pub fn webhooks(mut self, policy: WebhookPolicy) -> Self {
        self.settings.webhooks = policy;
        self
    }

    /// Keeps records here, so that a restart knows what was sent. Default: none are kept, and a crash forgets the jobs
    /// under way.
    ///
    /// [`start`](Builder::start) takes up the jobs in the store:
    ///
    /// - accepted jobs are polled on;
    /// - jobs of which nothing was sent, and jobs whose create was not answered and may be sent again, go on if their
    ///   payload is at hand: [kept](Builder::keep_payloads), or [given](Builder::payloads) by the program. If it is not,
    ///   they wait until their key is submitted again, at most until their create deadline;
    /// - a create that was not answered is looked up if the provider can be asked, which needs no payload; if it cannot,
    ///   and a repeat might run twice, the job is *unresolved*.
    ///
    /// A repeated create leaves no sooner than the [time-out](steadfast_core::retry::RetryPolicy::attempt_timeout) of the
    /// one that the dead process sent, and its backoff. No retry or poll waits longer than one capped delay, or one such
    /// time-out and the backoff after it, whatever the clock did meanwhile; a look-up waits for its `settle`.
    ///
    /// Ended jobs are kept for [`Limits::remember_for`], so that a repeated submit gets their outcome, and then
    /// forgotten a few at a time. Unresolved ones are not forgotten: they may have run, so their keys must not become
    /// free before somebody knows.
    pub fn store(mut self, store: impl Store) -> Self {
        self.settings.store = Some(Box::new(store));
        self
    }

    /// Whether a submit waits for its intent to be on disk. Default: [`Durable`](Durability::Durable) with a store,
    /// else [`Volatile`](Durability::Volatile).
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.durability = Some(durability);
        self
    }

    /// Keeps each job's payload in the store until the job has ended, so that a restart need not ask for it. Default:
    /// it is not kept, since it is personal data as a rule. Consider a [`seal`](Builder::seal).
    pub fn keep_payloads(mut self) -> Self {
        self.settings.keep.payloads = true;
        self
    }

    /// Keeps the answer that ended each job in the store, so that a repeated submit gets it too, also after a restart,
    /// for [`Limits::remember_for`]. Default: it is not kept, since it is personal data as a rule. Consider a
    /// [`seal`](Builder::seal).
    pub fn keep_answers(mut self) -> Self {
        self.settings.keep.answers = true;
        self
    }

    /// Encrypts the payloads and answers that are kept. Default: they are kept as they are.
    pub fn seal(mut self, seal: impl Seal) -> Self {
        self.settings.keep.seal = Some(Arc::new(seal));
        self
    }

    /// Where a restart finds the payload of a job that needs one and was not kept in the store: the program's own
    /// tables, say. Asked once per job during [`start`](Builder::start), on a thread that may block. `None`: the job
    /// waits until its key is submitted again, as it does if the payload is not the one that it was submitted with.
    pub fn payloads(mut self, loader: impl Fn(&Key) -> Option<Payload> + Send + Sync + 'static) -> Self {
        self.settings.keep.loader = Some(Arc::new(loader));
        self
    }

    /// The seed of all jitter and all [correlation ids](crate::CorrelationId). Default: each process draws its own at
    /// random; fix it to repeat a run. A restart does not need the seed of the process before it: waits that were drawn
    /// are in the records, and nothing that keeps a job from running twice depends on it. Do not fix it in production:
    /// breakers of processes with one seed probe at the same moment, and anybody who knows the seed can choose keys that
    /// are slow to find.
    pub fn seed(mut self, seed: Seed) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// Called with every notice, one at a time, on the driver's own task or, on threads, on whichever has the driver
    /// just then: it must be quick and must not block. If it panics, it is not called again (by that shard, if there
    /// are several).
    pub fn observer(mut self, observer: impl Fn(&Observation) + Send + Sync + 'static) -> Self {
        self.settings.hooks.observer = Some(Arc::new(observer));
        self
    }

    /// In which header each request bears its [correlation id](crate::CorrelationId). Default: `X-Request-Id`. If the
    /// provider's own request has that header already, that stays, and the request bears none of ours.
    pub fn correlation_header(mut self, header: CorrelationHeader) -> Self {
        self.settings.correlation_header = header;
        self
    }

    /// Gives the current trace context: called at each submit, on the task or thread that submits. All requests of the
    /// job then carry `traceparent` with that trace's id and a span id of their own, and its `tracestate`, beside their
    /// correlation id. Default: they carry neither. A submit that joins a job leaves it in the trace of its first submit,
    /// and a job that a restart takes up is in no trace.
    ///
    /// ```
    /// # use steadfast_driver::Builder;
    /// use steadfast_driver::{TraceContext, TraceParent};
    ///
    /// /// Trace id, span id and flags. With OpenTelemetry, of `Context::current().span().span_context()`: `trace_id().to_bytes()`,
    /// /// `span_id().to_bytes()` and `trace_flags().to_u8()`.
    /// fn current_span() -> ([u8; 16], [u8; 8], u8) {
    ///     // ...
    /// #   ([1; 16], [1; 8], 0)
    /// }
    /// # fn example<P: steadfast_providers::Provider>(builder: Builder<P, (), ()>) -> Builder<P, (), ()> {
    /// builder.trace_context(|| {
    ///     let (trace, span, flags) = current_span();
    ///     let parent = TraceParent::new(trace, span, flags);
    ///     Some(TraceContext::new(parent.ok()?)) // there is none if the ids are zeros
    /// })
    /// # }
    /// ```
    pub fn trace_context(mut self, current: impl Fn() -> Option<TraceContext> + Send + Sync + 'static) -> Self {
        self.settings.hooks.traces = TraceSource::new(current);
        self
    }

    /// Called with the outcome of each job that ends while no caller waits for it:
    ///
    /// - a restart took the job up;
    /// - its handle was dropped: by a server that had answered *accepted*, say, or with a request that was cut off;
    /// - its handle was told the outcome, and was dropped before anybody read it.
    ///
    /// It is not called for an outcome that one of those who waited for it has read, and once for all their handles.
    /// A caller that asks only after the job's end does not count among them.
    ///
    /// When the hook returns, the outcome is recorded in the store as delivered. If the process crashes before that, the
    /// next client calls it again. So make durable what must survive before you return, under the job's key, since the
    /// same outcome may come twice.
    ///
    /// A hook that cannot take an outcome now, because its database is down, returns an error. The outcome stays in the
    /// store, and the hook is called again after 1 s, doubled up to 60 s, with that outcome and with those of jobs that
    /// ended meanwhile, up to [`results_limit`](Builder::results_limit) bytes of them. The next client tells those beyond
    /// that, and those that are left when this client stops (with their answers if those are
    /// [kept](Builder::keep_answers)); submitting or resuming a key gives its outcome too. Without a store they are lost.
    /// So is, for the hook, a *rejected* one that a dropped handle had been told: nothing ran, and its key is free. A
    /// panic counts as an error. Each error is logged, so it must show no secret.
    ///
    /// ```
    /// # use std::io::Write;
    /// # fn f<P: steadfast_providers::Provider>(builder: steadfast_driver::Builder<P, (), ()>) {
    /// let builder = builder.unclaimed(|key, finished| -> std::io::Result<()> {
    ///     let mut file = std::fs::OpenOptions::new().append(true).create(true).open("outcomes")?;
    ///     writeln!(file, "{} {}", key.as_str(), finished.outcome.name())?;
    ///     file.sync_data()
    /// });
    /// # }
    /// ```
    ///
    /// It blocks the client, as the [observer](Builder::observer) does: do at most a commit to a database on a local
    /// disk, and hand anything slower to another task or thread. A crash may then lose what that task had not written, so
    /// at the next start submit or [resume](crate::ResumeError) the keys that your own tables call open.
    ///
    /// After a restart it is not told of an outcome whose kept answer the [seal](Builder::seal) cannot open: that waits
    /// in the store for a start with the right seal, or for a caller that submits or resumes the key.
    ///
    /// A handle that was told, and is dropped unread after its client has stopped, calls it in the thread that drops
    /// it, once: an error is logged, and the outcome is left to a caller that submits or resumes the key.
    ///
    /// An outcome that a handle was told counts as delivered at once. A crash before the handle is read or dropped loses
    /// it, so do not keep a handle that you do not await.
    ///
    /// Default: no hook. Then dropping a handle while the client runs gives up its outcome. Other outcomes stay in the
    /// store until their keys are submitted or resumed again, however long that takes. Their answers are there too if
    /// they are [kept](Builder::keep_answers); if not, the provider has to be asked for them by the reference.
    pub fn unclaimed<R: Claim>(mut self, taker: impl Fn(&Key, &Finished) -> R + Send + Sync + 'static) -> Self {
        self.settings.hooks.unclaimed = Some(Arc::new(move |key, finished| taker(key, finished).claim()));
        self
    }

    /// Renews expired credentials: called when the provider refuses them (a 401, as a rule), once for all requests that
    /// were refused together. On tokio it is a function that returns a future, on threads one that blocks. The refused
    /// requests are then sent again: polls and look-ups by their retry policy, a create once, since nothing ran. While
    /// the renewal runs, for 30 s at most, nothing leaves.
    ///
    /// An error is logged, so it must show no secret. If the renewal fails, or if the new credentials are refused too, the
    /// next renewal waits for 1 s, doubled up to 60 s. Default: none, and a create that is refused is *rejected*.
    ///
    /// ```
    /// # use steadfast_driver::{Builder, Renew, RenewError, RenewsBy};
    /// # use steadfast_providers::deepvue::{Credentials, Deepvue};
    /// # struct Tokio;
    /// # impl<F, R, E> RenewsBy<F, (R, E)> for Tokio
    /// # where
    /// #     F: Fn() -> R + Send + Sync + 'static,
    /// #     R: Future<Output = Result<(), E>> + Send + 'static,
    /// #     E: Into<RenewError>,
    /// # {
    /// #     fn hook(renew: F) -> Renew {
    /// #         Renew::by_future(renew)
    /// #     }
    /// # }
    /// # async fn authorize() -> String {
    /// #     String::new()
    /// # }
    /// # fn example(builder: Builder<Deepvue, (), Tokio>, credentials: Credentials) -> Builder<Deepvue, (), Tokio> {
    /// // On tokio; on threads: `builder.renew_credentials(move || credentials.renew(authorize()))`.
    /// builder.renew_credentials(move || {
    ///     let credentials = credentials.clone();
    ///     async move {
    ///         let token = authorize().await; // your own POST /v1/authorize
    ///         credentials.renew(token)
    ///     }
    /// })
    /// # }
    /// ```
    pub fn renew_credentials<F, M>(mut self, renew: F) -> Self
    where
        C: RenewsBy<F, M>,
    {
        self.settings.hooks.renew = Some(C::hook(renew));
        self
    }

    /// For the first start on a store that was put back from a copy: after the copy was made, its process may have gone
    /// on. Jobs that the copy calls *planned* count as perhaps run from now on, so they are sent again under their key,
    /// looked up, or called unresolved, as after a crash in the midst of a create; that is noted in the store. Of jobs
    /// that are newer than the copy only the provider knows: do not submit them again, unless the provider drops repeats
    /// of a key.
    ///
    /// Some stores [know](Store::is_backup) that they are a copy, and then this is not needed: on SQLite a copy made by
    /// `SqliteStore::back_up` or `steadfast ops FILE copy`, and any that was opened by `SqliteStore::open_backup`, as a
    /// copy without its mark must be. Files that were copied with their mark by other means, such as a disk's snapshot,
    /// look as if they had never been moved.
    pub fn from_backup(mut self) -> Self {
        self.settings.from_backup = true;
        self
    }

    /// Chooses the jobs in the store that this client goes on with by itself. Default: all. The others stay as they are
    /// until their keys are submitted or resumed here, or a later client chooses them. This is for a tool that carries
    /// one job, say, on a journal that holds others.
    pub fn take_up(mut self, chooses: impl Fn(&Key) -> bool + Send + Sync + 'static) -> Self {
        self.settings.keep.chooses = Some(Arc::new(chooses));
        self
    }

    /// Starts the client. On tokio it returns a future; on threads it blocks and returns the client.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(self) -> C::Started
    where
        C: Start<P, T>,
    {
        C::start(self)
    }
}

impl Settings {
    /// The same settings for another driver, but for these. The store is not among them.
    pub(crate) fn like(&self, limits: Limits, results_limit: usize, webhooks: WebhookPolicy) -> Self {
        Self {
            policy: self.policy.clone(),
            gate: self.gate.clone(),
            limits,
            body_limit: self.body_limit,
            correlation_header: self.correlation_header.clone(),
            results_limit,
            webhooks,
            store: None,
            durability: self.durability,
            keep: self.keep.clone(),
            seed: self.seed,
            hooks: self.hooks.clone(),
            shards: self.shards,
            from_backup: self.from_backup,
        }
    }

    /// Whether [`load`](Settings::load) has something to read, and so may block.
    #[must_use]
    pub fn has_store(&self) -> bool {
        self.store.is_some() && self.durability != Some(Durability::Volatile)
    }

    /// How webhooks are taken in.
    #[must_use]
    pub const fn webhooks(&self) -> &WebhookPolicy {
        &self.webhooks
    }

    /// For adapters: what each submit is to be [told](crate::Submit::traced), to be asked where it is made.
    #[must_use]
    pub fn trace_source(&self) -> TraceSource {
        self.hooks.traces.clone()
    }

    /// The gate's settings, for an adapter that has limits of its own.
    pub const fn gate_mut(&mut self) -> &mut GatePolicy {
        &mut self.gate
    }
}

impl<P: Provider, T, C> fmt::Debug for Builder<P, T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let provider = self.provider.name();
        f.debug_struct("Builder").field("provider", &provider).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, gate, limits, body_limit, results_limit, webhooks, .. } = self;
        f.debug_struct("Settings")
            .field("policy", policy)
            .field("gate", gate)
            .field("limits", limits)
            .field("body_limit", body_limit)
            .field("results_limit", results_limit)
            .field("webhooks", webhooks)
            .finish_non_exhaustive()
    }
}
