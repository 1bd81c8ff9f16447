//! The adapters: how each starts the client that a scenario asks for.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use steadfast_blocking::UreqTransport;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::Failure;
use steadfast_core::{Key, OperationPolicy, Seed, Timestamp};
use steadfast_driver::{
    Builder, Delivery, Finished, JobStatus, Observation, ResumeError, StatusError, Stopped, SubmitError, Unfinished,
};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::webhook::{Scheme, Verifier};
use steadfast_providers::{Answer, Ask, BaseUrl, Provider, RequestError, WebhookError, WebhookEvent};
use steadfast_store::MemoryStore;
use steadfast_testkit::WithLookup;
use steadfast_testkit::journal_kit::FaultyStore;
use steadfast_tokio::ReqwestTransport;
use tokio::runtime;

use crate::provider::PATIENCE;
use crate::scenario::{Keeps, Scenario};
use crate::{Client, Job, Runtime, SECRETS};

/// All that a scenario asks of its client.
pub(crate) struct Setup {
    provider: Profile,
    policy: OperationPolicy,
    gate: GatePolicy,
    body_limit: usize,
    keeps: Keeps,
    store: Option<FaultyStore<MemoryStore>>,
    see: Box<dyn Fn(&Observation) + Send + Sync>,
}

impl Setup {
    pub(crate) fn new(
        scenario: &Scenario,
        base_url: &str,
        store: Option<FaultyStore<MemoryStore>>,
        see: impl Fn(&Observation) + Send + Sync + 'static,
    ) -> Self {
        Self {
            provider: Profile::new(base_url),
            policy: scenario.policy.clone(),
            gate: scenario.gate.clone(),
            body_limit: scenario.body_limit,
            keeps: scenario.keeps,
            store,
            see: Box::new(see),
        }
    }

    /// With a store that never waits.
    fn in_place(self) -> Self {
        Self { store: self.store.map(FaultyStore::in_place), ..self }
    }

    /// A builder of the adapter's client, over its transport.
    pub(crate) fn describe<T, C>(self, transport: T) -> Builder<Profile, T, C> {
        let mut builder = Builder::new(self.provider, transport)
            .policy(self.policy)
            .gate(self.gate)
            .body_limit(self.body_limit)
            .seed(Seed::new(7))
            .observer(self.see);
        if let Some(store) = self.store {
            builder = builder.store(store);
        }
        match self.keeps {
            Keeps::Nothing | Keeps::Records => builder,
            Keeps::Payloads => builder.keep_payloads(),
            Keeps::Answers => builder.keep_payloads().keep_answers(),
        }
    }
}

/// Deepvue with a look-up and with webhooks.
pub(crate) struct Profile {
    deepvue: WithLookup<Deepvue>,
    webhooks: Verifier,
}

impl Profile {
    fn new(base_url: &str) -> Self {
        let credentials = Credentials::new("token", "secret").unwrap();
        let deepvue = Deepvue::new(BaseUrl::parse(base_url).unwrap(), "driving-license", credentials).unwrap();
        let webhooks = Verifier::new(Scheme::StandardWebhooks, [SECRETS[0]]).unwrap();
        Self { deepvue: WithLookup::new(deepvue, Duration::ZERO), webhooks }
    }
}

impl Provider for Profile {
    fn name(&self) -> &str {
        self.deepvue.name()
    }

    fn policy(&self) -> OperationPolicy {
        self.deepvue.policy()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        self.deepvue.request(ask)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        self.deepvue.read(answer)
    }

    fn quota(&self, answer: &Answer<'_>) -> Option<Quota> {
        self.deepvue.quota(answer)
    }

    fn has_webhooks(&self) -> bool {
        true
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        Ok(WebhookEvent::plain(self.webhooks.verify(headers, body, wall)?, body))
    }
}

/// `steadfast-tokio`, over reqwest, with so many shards.
pub(crate) struct Tokio(runtime::Runtime, ReqwestTransport, usize);

impl Tokio {
    pub(crate) fn new(shards: usize) -> Self {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self(runtime, ReqwestTransport::new().unwrap(), shards)
    }
}

impl Runtime for Tokio {
    fn name(&self) -> &'static str {
        if self.2 > 1 { "tokio, in shards" } else { "tokio" }
    }

    fn start(&self, setup: Setup) -> Box<dyn Client> {
        // In shards, and on threads, the store is left to a thread; here it is worked on in place.
        let setup = if self.2 > 1 { setup } else { setup.in_place() };
        let builder = setup.describe::<_, steadfast_tokio::Client>(self.1.clone()).shards(self.2);
        let runtime = self.0.handle().clone();
        let client = runtime.block_on(async { builder.start().await }).unwrap();
        Box::new(On { runtime, it: client })
    }
}

/// Something of tokio's, and the runtime to ask it on.
struct On<T> {
    runtime: runtime::Handle,
    it: T,
}

impl<T> On<T> {
    fn with<U>(&self, it: U) -> Box<On<U>> {
        Box::new(On { runtime: self.runtime.clone(), it })
    }
}

impl Client for On<steadfast_tokio::Client> {
    fn submit(&self, key: Key, payload: &str) -> Result<Box<dyn Job>, SubmitError> {
        Ok(self.with(self.runtime.block_on(self.it.submit(key, payload.to_owned()))?))
    }

    fn resume(&self, key: Key) -> Result<Box<dyn Job>, ResumeError> {
        Ok(self.with(self.runtime.block_on(self.it.resume(key))?))
    }

    fn status(&self, key: Key) -> Result<Option<JobStatus>, StatusError> {
        self.runtime.block_on(self.it.status(key))
    }

    fn deliver(&self, headers: &HeaderMap, body: Bytes) -> Delivery {
        self.runtime.block_on(self.it.deliver(headers, body))
    }

    fn hold(&self, span: Duration) {
        self.it.hold(span);
    }

    fn shut_down(&self) -> Vec<Unfinished> {
        self.runtime.block_on(self.it.clone().shutdown(Duration::ZERO))
    }
}

impl Job for On<steadfast_tokio::Handle> {
    fn cancel(&self) {
        self.it.cancel();
    }

    fn wait(self: Box<Self>) -> Option<Result<Finished, Stopped>> {
        let Self { runtime, it } = *self;
        runtime.block_on(async { tokio::time::timeout(PATIENCE, it).await }).ok()
    }
}

/// `steadfast-blocking`, over ureq.
pub(crate) struct Blocking(UreqTransport);

impl Blocking {
    pub(crate) fn new() -> Self {
        Self(UreqTransport::new())
    }
}

impl Runtime for Blocking {
    fn name(&self) -> &'static str {
        "threads"
    }

    fn start(&self, setup: Setup) -> Box<dyn Client> {
        Box::new(setup.describe::<_, steadfast_blocking::Client>(self.0.clone()).start().unwrap())
    }
}

impl Client for steadfast_blocking::Client {
    fn submit(&self, key: Key, payload: &str) -> Result<Box<dyn Job>, SubmitError> {
        Ok(Box::new(Self::submit(self, key, payload.to_owned())?))
    }

    fn resume(&self, key: Key) -> Result<Box<dyn Job>, ResumeError> {
        Ok(Box::new(Self::resume(self, key)?))
    }

    fn status(&self, key: Key) -> Result<Option<JobStatus>, StatusError> {
        Self::status(self, key)
    }

    fn deliver(&self, headers: &HeaderMap, body: Bytes) -> Delivery {
        Self::deliver(self, headers, body)
    }

    fn hold(&self, span: Duration) {
        Self::hold(self, span);
    }

    fn shut_down(&self) -> Vec<Unfinished> {
        self.clone().shutdown(Duration::ZERO)
    }
}

impl Job for steadfast_blocking::Handle {
    fn cancel(&self) {
        Self::cancel(self);
    }

    fn wait(mut self: Box<Self>) -> Option<Result<Finished, Stopped>> {
        self.wait_timeout(PATIENCE).transpose()
    }
}
