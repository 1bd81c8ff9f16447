//! What outlives a process, and processes that die at a chosen moment.
//!
//! A process is a whole client. It passes *points*: before and after each commit, before and after each request. At one of them it may die: from
//! then on its disk takes nothing, its requests reach nobody, and whatever it tells is not heard. What the world has seen is checked all the
//! while: nothing leaves without its durable record, every create of the key carries the same bytes, and no outcome is told that is not durable.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use steadfast_core::operation::{Record, Stage};
use steadfast_core::{Key, Kind, OperationPolicy, Outcome, SendSafety};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};
use steadfast_store::OpenError;
use steadfast_testkit::tokio::InProcess;
use steadfast_testkit::{FakeDeepvue, Faults, Keys, WithLookup};
use steadfast_tokio::{Client, Finished, Outgoing, SendError, StartError, Transport};
use tokio::sync::Notify;

use crate::disk::{Disk, On};
use crate::webhooks::Telling;

pub(crate) const PAYLOAD: &str = r#"{"dl_number":"DL1","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn key() -> Key {
    Key::new("order-42").unwrap()
}

/// What the provider does with a key that it has seen, and what the client knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Keyed,
    Ignored,
    Lookup,
}

impl Case {
    pub(crate) const ALL: [Self; 3] = [Self::Keyed, Self::Ignored, Self::Lookup];

    pub(crate) fn policy(self) -> OperationPolicy {
        match self {
            Self::Keyed => deepvue().with_safety(SendSafety::Keyed { window: DAY }).unwrap().policy(),
            Self::Ignored => deepvue().policy(),
            Self::Lookup => WithLookup::new(deepvue(), 20 * SECOND).policy(),
        }
    }
}

fn deepvue() -> Deepvue {
    let credentials = Credentials::new("token", "secret").unwrap();
    Deepvue::new(BaseUrl::parse("https://provider.test").unwrap(), "driving-license", credentials).unwrap()
}

/// A moment in a process's life. Commits and requests are counted from 1, in each process anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    BeforeCommit(u32),
    /// It is durable, and the process does not hear of it.
    AfterCommit(u32),
    /// Some of its bytes may have left; the provider does nothing.
    BeforeSend(Kind),
    /// The provider has done what was asked; the process does not hear of it.
    AfterSend(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    Never,
    At(Point),
    /// At the point of this number, from 1.
    Step(u32),
}

/// What the world has seen of the key.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The bodies of creates that left, whether they arrived or not.
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) sent: Vec<Kind>,
    /// Handles that a submit returned.
    pub(crate) handles: u32,
    /// Times that a job was found rejected before anybody asked again: then its key is free.
    pub(crate) rejected: u32,
    violations: Vec<String>,
}

/// Why a process did not get as far as a client.
#[derive(Debug)]
pub(crate) enum NoStart {
    /// Its store could not be opened.
    Store(OpenError),
    /// The client refused the store.
    Client(StartError),
}

impl From<OpenError> for NoStart {
    fn from(error: OpenError) -> Self {
        Self::Store(error)
    }
}

impl From<StartError> for NoStart {
    fn from(error: StartError) -> Self {
        Self::Client(error)
    }
}

#[derive(Clone)]
pub(crate) struct World {
    case: Case,
    /// Whether payloads are kept: then nobody needs to submit again.
    kept: bool,
    /// Whether the disk was put back from a copy, and the next process is told so.
    restored: bool,
    policy: OperationPolicy,
    disk: Disk,
    provider: InProcess,
    seen: Arc<Mutex<Seen>>,
}

impl World {
    pub(crate) fn new(on: On, case: Case, kept: bool) -> Self {
        Self::with_faults(on, case, kept, Faults::none())
    }

    pub(crate) fn with_faults(on: On, case: Case, kept: bool, faults: Faults) -> Self {
        let keys = match case {
            Case::Keyed => Keys::Honoured,
            Case::Ignored => Keys::Ignored,
            Case::Lookup => Keys::Lookup,
        };
        let provider = InProcess::new(FakeDeepvue::new(1).with_faults(faults).with_keys(keys));
        let (policy, disk) = (case.policy(), Disk::new(on));
        Self { case, kept, restored: false, policy, disk, provider, seen: Arc::default() }
    }

    pub(crate) const fn set_restored(&mut self, restored: bool) {
        self.restored = restored;
    }

    pub(crate) fn set_policy(&mut self, policy: OperationPolicy) {
        self.policy = policy;
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// How often the job ran.
    pub(crate) fn runs(&self) -> usize {
        self.provider.brain().ledger().executions(key().as_str()).len()
    }

    /// The provider's name for the job, once it has run.
    pub(crate) fn transaction(&self) -> Option<String> {
        let brain = self.provider.brain();
        brain.ledger().executions(key().as_str()).first().map(|execution| execution.transaction_id.clone())
    }

    pub(crate) fn creates(&self) -> usize {
        self.seen().bodies.len()
    }

    pub(crate) fn handles(&self) -> u32 {
        self.seen().handles
    }

    pub(crate) const fn disk(&self) -> &Disk {
        &self.disk
    }

    pub(crate) fn record(&self) -> Option<Record> {
        self.disk.find(&key()).map(|entry| entry.record)
    }

    pub(crate) fn stage(&self) -> Option<Stage> {
        self.record().map(|record| record.stage)
    }

    pub(crate) fn edit(&self, edit: impl Fn(&mut Record)) {
        self.disk.edit(|entry| edit(&mut entry.record));
    }

    pub(crate) async fn start(&self, life: &Life) -> Client {
        self.try_start(life).await.unwrap()
    }

    /// A process opens its store and starts a client on it, or cannot.
    pub(crate) async fn try_start(&self, life: &Life) -> Result<Client, NoStart> {
        let disk = self.disk.open(life)?;
        let wire = Wire { life: life.clone(), world: self.clone() };
        macro_rules! start {
            ($provider:expr) => {{
                let builder = Client::builder(Telling($provider), wire).policy(self.policy.clone()).store(disk);
                let builder = if self.kept { builder.keep_payloads() } else { builder };
                let builder = if self.restored { builder.from_backup() } else { builder };
                Ok(builder.start().await?)
            }};
        }
        match self.case {
            Case::Lookup => start!(WithLookup::new(deepvue(), 20 * SECOND)),
            Case::Keyed | Case::Ignored => start!(deepvue()),
        }
    }

    /// One process's life: until the job's outcome is delivered and that is durable, or until it dies.
    pub(crate) async fn live(&self, crash: Crash) -> Option<Finished> {
        self.live_beside(crash, async |_, _| ()).await
    }

    /// The same, while somebody else does something with it; both must come to their end.
    pub(crate) async fn live_beside(&self, crash: Crash, beside: impl AsyncFnOnce(&Client, &Life)) -> Option<Finished> {
        let life = Life::new(crash);
        let client = self.start(&life).await;
        let finished = tokio::select! {
            biased;
            () = life.died() => None,
            (finished, ()) = async { tokio::join!(self.follow(&client), beside(&client, &life)) } => Some(finished),
        };
        let outlived = tokio::select! {
            biased;
            () = life.died() => false,
            unfinished = client.clone().shutdown(60 * SECOND) => unfinished.is_empty(),
        };
        if !life.is_alive() {
            // What is left of it reaches nothing any more; it need not be waited for either.
            client.shutdown(Duration::ZERO).await;
            return None;
        }
        assert!(outlived, "a process that lives ends its job");
        self.check();
        finished
    }

    /// The caller: submits again, or, where payloads are kept, only looks what has become of the job.
    async fn follow(&self, client: &Client) -> Finished {
        if self.kept && self.stage().is_some() {
            let mut waited = 0;
            while !matches!(self.stage(), Some(Stage::Ended(_) | Stage::Delivered(_))) {
                tokio::time::sleep(SECOND).await;
                waited += 1;
                assert!(waited < 3_600, "I14: nobody goes on with it: {:?}", self.record());
            }
            if let Some(Stage::Ended(Outcome::Rejected(_)) | Stage::Delivered(Outcome::Rejected(_))) = self.stage() {
                self.seen().rejected += 1;
            }
        }
        let job = client.submit(key(), PAYLOAD).await.expect("it is taken in");
        assert!(self.stage().is_some(), "C00: a handle before its commit");
        self.seen().handles += 1;
        let finished = job.await.expect("it ends");
        let durable = self.stage().is_some_and(
            |stage| matches!(stage, Stage::Ended(outcome) | Stage::Delivered(outcome) if outcome == finished.outcome),
        );
        assert!(durable, "told what is not durable: {finished:?}, {:?}", self.stage());
        finished
    }

    /// What must never be seen, whatever row it is.
    pub(crate) fn check(&self) {
        let (runs, seen) = (self.runs(), self.seen());
        assert_eq!(seen.violations, [""; 0]);
        assert!(runs <= 1, "it ran {runs} times");
        assert!(seen.bodies.iter().all(|body| *body == seen.bodies[0]), "a changed body");
        if let Some(Stage::Ended(outcome) | Stage::Delivered(outcome)) = self.stage() {
            match outcome {
                Outcome::Completed(_) | Outcome::Failed => assert_eq!(runs, 1),
                Outcome::Rejected(_) => assert_eq!(runs, 0, "reported as not run, and it ran"),
                Outcome::Unresolved(_) => {}
            }
        }
    }
}

/// Whether a process lives, and when it is to die. Clones share it.
#[derive(Clone)]
pub(crate) struct Life {
    state: Arc<(Mutex<State>, Notify)>,
}

struct State {
    crash: Crash,
    alive: bool,
    steps: u32,
    /// From which commit on the disk is full.
    full_at: u32,
}

impl Life {
    pub(crate) fn new(crash: Crash) -> Self {
        Self { state: Arc::new((Mutex::new(State { crash, alive: true, steps: 0, full_at: u32::MAX }), Notify::new())) }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.state.0.lock().unwrap().alive
    }

    /// Whether it is the same process.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    pub(crate) fn is_disk_full(&self, commit: u32) -> bool {
        self.state.0.lock().unwrap().full_at <= commit
    }

    /// From the commit of this number on the disk is full.
    pub(crate) fn fill_disk_at(&self, commit: u32) {
        self.state.0.lock().unwrap().full_at = commit;
    }

    pub(crate) fn make_room(&self) {
        self.fill_disk_at(u32::MAX);
    }

    pub(crate) fn kill(&self) {
        self.state.0.lock().unwrap().alive = false;
        self.state.1.notify_waiters();
    }

    pub(crate) async fn died(&self) {
        let notified = self.state.1.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if self.is_alive() {
            notified.await;
        }
    }

    /// Tells whether it lives beyond this point.
    pub(crate) fn passes(&self, point: Point) -> bool {
        let mut state = self.state.0.lock().unwrap();
        state.steps += 1;
        let dies = match state.crash {
            Crash::Never => false,
            Crash::At(at) => at == point,
            Crash::Step(step) => step == state.steps,
        };
        let lives = state.alive && !dies;
        drop(state);
        if !lives {
            self.kill();
        }
        lives
    }
}

/// A process's way to the provider.
struct Wire {
    life: Life,
    world: World,
}

impl Transport for Wire {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let attempt = outgoing.attempt;
        if self.life.is_alive() {
            let durable = self.world.record();
            let mut seen = self.world.seen();
            let allowed = match (attempt.kind, durable.as_ref().map(|record| record.stage)) {
                (Kind::Create, Some(Stage::InFlight)) => durable.is_some_and(|it| it.creates >= attempt.number),
                (Kind::Poll, Some(Stage::Accepted)) => true,
                (Kind::Lookup, Some(Stage::InFlight | Stage::Unknown)) => true,
                _ => false,
            };
            if !allowed || outgoing.key != key() {
                seen.violations.push(format!("{attempt:?} without its record"));
            }
            if attempt.kind == Kind::Create {
                seen.bodies.push(outgoing.request.body().clone());
            }
            seen.sent.push(attempt.kind);
        }
        if !self.life.passes(Point::BeforeSend(attempt.kind)) {
            return std::future::pending().await;
        }
        let answer = self.world.provider.send(outgoing).await;
        if !self.life.passes(Point::AfterSend(attempt.kind)) {
            return std::future::pending().await;
        }
        answer
    }
}
