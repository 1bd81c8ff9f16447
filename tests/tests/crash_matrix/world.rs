//! What outlives a process, and processes that die at a chosen moment.
//!
//! A process is a whole client. It passes points (`life`), and at one of them it may die: from then on its disk takes
//! nothing, its requests reach nobody, and whatever it tells is not heard. What the world has seen is checked all the
//! while: nothing leaves without its durable record, every create of the key carries the same bytes, and no outcome is
//! told that is not durable.
//!
//! Every row has one scheme ([`at_each_step`]): the process that recovers is crashed at its first step, in a new world
//! at its second, and so on until it has no more; each time another one recovers from that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use steadfast_core::gate::GatePolicy;
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Record, Stage};
use steadfast_core::{Key, Kind, OperationPolicy, Outcome, SendSafety};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};
use steadfast_store::{OpenError, Store};
use steadfast_testkit::tokio::InProcess;
use steadfast_testkit::{FakeDeepvue, Faults, Keys, WithLookup};
use steadfast_tokio::{Client, Finished, Observation, Outgoing, SendError, StartError, Transport};
use tokio::time::Instant;

use crate::disk::{Disk, On};
use crate::life::{Crash, Life, Point};
use crate::webhooks::Telling;

pub(crate) const PAYLOAD: &str = r#"{"dl_number":"DL1","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

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

/// What the world has seen of the key.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The bodies of creates that left, whether they arrived or not.
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) sent: Vec<Kind>,
    /// When each of those left.
    pub(crate) sent_at: Vec<Instant>,
    /// What clients told their observers while their processes lived.
    pub(crate) notices: Vec<Notice>,
    /// Outcomes that nobody waited for, as they were told to the program.
    pub(crate) unclaimed: Vec<(Key, Outcome)>,
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

/// How a recovery came out.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) finished: Finished,
    /// Whether the process that recovered died as well.
    pub(crate) twice: bool,
}

/// Runs a row again and again. It is given the number of the step at which its recovery is to be crashed, and tells
/// whether that had so many. Gives how many.
pub(crate) async fn at_each_step(row: impl AsyncFn(u32) -> bool) -> u32 {
    let mut steps = 0;
    while row(steps + 1).await {
        steps += 1;
        assert!(steps < 120, "a recovery of so many steps");
    }
    steps
}

#[derive(Clone)]
pub(crate) struct World {
    on: On,
    case: Case,
    /// Whether payloads are kept: then nobody needs to submit again.
    kept: bool,
    /// Whether the disk was put back from a copy: processes are told so until one of them has started, which notes it.
    restored: Arc<AtomicBool>,
    /// Whether the program takes outcomes that nobody waits for.
    claims: bool,
    gate: Option<GatePolicy>,
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
        let (restored, claims, gate) = (Arc::default(), false, None);
        Self { on, case, kept, restored, claims, gate, policy, disk, provider, seen: Arc::default() }
    }

    pub(crate) fn set_restored(&self) {
        self.restored.store(true, Ordering::Relaxed);
    }

    pub(crate) const fn set_claims(&mut self) {
        self.claims = true;
    }

    pub(crate) fn set_gate(&mut self, gate: GatePolicy) {
        self.gate = Some(gate);
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
        let provider = deepvue();
        let client = match self.case {
            Case::Lookup => self.client(WithLookup::new(provider, 20 * SECOND), life, wire, disk).await?,
            Case::Keyed | Case::Ignored => self.client(provider, life, wire, disk).await?,
        };
        if life.is_alive() {
            self.restored.store(false, Ordering::Relaxed);
        }
        Ok(client)
    }

    async fn client(
        &self,
        provider: impl Provider,
        life: &Life,
        wire: Wire,
        disk: impl Store,
    ) -> Result<Client, StartError> {
        let (observing, watched) = (self.clone(), life.clone());
        let observer = move |observed: &Observation| {
            // What is told leaves no trace on a disk: where that costs most, with payloads in files, it is no step.
            let is_step = !(observing.kept && observing.on == On::Sqlite);
            if (is_step && watched.passes(Point::Told)) || (!is_step && watched.is_alive()) {
                observing.seen().notices.push(observed.notice.clone());
            }
        };
        let builder = Client::builder(Telling(provider), wire).policy(self.policy.clone()).store(disk);
        let builder = builder.observer(observer);
        let builder = if self.kept { builder.keep_payloads() } else { builder };
        let builder = if self.restored.load(Ordering::Relaxed) { builder.from_backup() } else { builder };
        let builder = if let Some(gate) = &self.gate { builder.gate(gate.clone()) } else { builder };
        if !self.claims {
            return builder.start().await;
        }
        let (claiming, life) = (self.clone(), life.clone());
        let claims = move |key: &Key, finished: &Finished| {
            if life.is_alive() {
                claiming.seen().unclaimed.push((key.clone(), finished.outcome));
            }
        };
        builder.unclaimed(claims).start().await
    }

    /// One process's life: until the job's outcome is delivered and that is durable, or until it dies.
    pub(crate) async fn live(&self, crash: Crash) -> Option<Finished> {
        self.live_beside(crash, async |_, _| ()).await
    }

    /// The same, while somebody else does something with it; both must come to their end.
    pub(crate) async fn live_beside(&self, crash: Crash, beside: impl AsyncFnOnce(&Client, &Life)) -> Option<Finished> {
        self.live_as(&Life::new(crash), beside).await
    }

    /// A client, unless its process died while it started.
    async fn start_or_die(&self, life: &Life) -> Option<Client> {
        match self.try_start(life).await {
            Ok(client) if life.is_alive() => Some(client),
            Ok(client) => {
                let _ = client.shutdown(Duration::ZERO).await;
                None
            }
            Err(_) if !life.is_alive() => None,
            Err(error) => panic!("it does not start: {error:?}"),
        }
    }

    /// C25: what has committed nothing has changed nothing.
    async fn live_as(&self, life: &Life, beside: impl AsyncFnOnce(&Client, &Life)) -> Option<Finished> {
        let found = self.disk.find(&key());
        let finished = self.live_on(life, beside).await;
        let is_right = life.has_written() || self.disk.find(&key()) == found;
        assert!(is_right, "{:?}: it changed what is on disk, and has committed nothing", self.case);
        finished
    }

    async fn live_on(&self, life: &Life, beside: impl AsyncFnOnce(&Client, &Life)) -> Option<Finished> {
        let client = self.start_or_die(life).await?;
        let finished = tokio::select! {
            biased;
            () = life.died() => None,
            (finished, ()) = async { tokio::join!(self.follow(&client), beside(&client, life)) } => Some(finished),
        };
        let outlived = tokio::select! {
            biased;
            () = life.died() => false,
            unfinished = client.clone().shutdown(60 * SECOND) => unfinished.is_empty(),
        };
        if !life.is_alive() {
            // What is left of it reaches nothing any more; it need not be waited for either.
            let _ = client.shutdown(Duration::ZERO).await;
            return None;
        }
        assert!(outlived, "a process that lives ends its job");
        self.check();
        finished
    }

    /// A process dies at this point of the job.
    pub(crate) async fn die(&self, point: Point) {
        let case = self.case;
        assert_eq!(self.live(Crash::At(point)).await, None, "{case:?}: the process does not come to {point:?}");
        self.check();
    }

    /// The process that recovers dies at its step of this number, if it comes to it. Then another one recovers, and
    /// does not.
    pub(crate) async fn recover(&self, step: u32) -> End {
        self.recover_beside(step, async |_, _| ()).await
    }

    /// The same, while somebody else does something with each of them.
    pub(crate) async fn recover_beside(&self, step: u32, beside: impl AsyncFn(&Client, &Life)) -> End {
        let recovered = self.live_beside(Crash::Step(step), &beside).await;
        let twice = recovered.is_none();
        self.check();
        let finished = match recovered {
            Some(finished) => finished,
            None => self.live_beside(Crash::Never, &beside).await.unwrap(),
        };
        // After every other crash: that takes a process more.
        if !twice || step.is_multiple_of(2) {
            self.is_settled(&finished).await;
        }
        End { finished, twice }
    }

    /// Whoever asks once more is told the same, and nothing more is sent.
    async fn is_settled(&self, finished: &Finished) {
        assert_eq!(self.seen().rejected, 0, "{:?}: a job that was taken in was given up", self.case);
        let sent = self.seen().sent.len();
        let again = self.live(Crash::Never).await.unwrap();
        assert_eq!((again.outcome, &again.reference), (finished.outcome, &finished.reference), "C12: told otherwise");
        assert_eq!(self.seen().sent.len(), sent, "{:?}: sent after the end", self.case);
    }

    /// A process starts, nobody submits anything, and after this time it is ended. Gives what the disk says of the job
    /// then; `None` if it dies before.
    pub(crate) async fn stand_by(&self, crash: Crash, span: Duration) -> Option<Stage> {
        let life = Life::new(crash);
        let client = self.start_or_die(&life).await?;
        tokio::select! {
            biased;
            () = life.died() => {}
            () = tokio::time::sleep(span) => {}
        }
        let _ = client.shutdown(Duration::ZERO).await;
        self.check();
        if life.is_alive() { self.stage() } else { None }
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
        assert_eq!(self.provider.brain().ledger().total_executions(), runs, "it ran under another key");
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
            seen.sent_at.push(Instant::now());
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
