//! The one loop: one task owns the engine and does what it says.
//!
//! It is the loop of the core's front page with tokio's pieces: effects become spawned requests and journal commits, channels bring back
//! what came of them, one timer wakes it. No lock is held, and nothing but this task touches the engine.
//!
//! How jobs come in is told in `intake`, how they leave in `send`, what a restart takes up in `resume`, what the provider tells by itself in
//! `webhooks`, what it says of jobs that have ended in `revisions`, what is done about credentials that are over in `renew`, and what is kept of
//! those that ended in `results`.

mod end;
mod intake;
mod renew;
mod results;
mod resume;
mod revisions;
mod send;
mod webhooks;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::engine::{Event, Limits};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{AttemptId, Effect, Reading, RecordId, Stage};
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::Failure;
use steadfast_core::{Engine, Kind, OperationId};
use steadfast_providers::{Payload, Provider};
use steadfast_store::{self as store, KeptAnswer, StoreError};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::intake::Reply;
pub(crate) use self::intake::{Following, Question, Submit};
use self::renew::Renewal;
pub(crate) use self::renew::{Renew, RenewError};
use self::results::Results;
use self::resume::Parking;
use self::revisions::Ends;
use self::webhooks::Webhooks;
use crate::accepted::{AcceptingAnswer, Telling};
use crate::client::{FinalAnswer, Finished, ResumeError, SubmitError, Unfinished};
use crate::clock::Clock;
use crate::journal::{Batch, Done, Fate, Journal};
use crate::keep::Taken;
use crate::observe::{Hooks, Observation};
use crate::revision::Revision;
use crate::transport::Transport;
use crate::webhook::{Posted, WebhookPolicy};

/// How many events of a kind are taken in before effects are carried out: enough to batch, few enough to stay responsive.
const BATCH: usize = 64;

pub(crate) enum Command {
    Cancel(OperationId),
    Resume { key: steadfast_core::Key, reply: oneshot::Sender<Result<Following, ResumeError>> },
    Hold(Duration),
    Gate(Box<GatePolicy>),
    Shutdown { grace: Duration, reply: oneshot::Sender<Vec<Unfinished>> },
}

/// What bounds the driver's memory.
pub(crate) struct Bounds {
    pub(crate) limits: Limits,
    /// The most bytes of one answer.
    pub(crate) body: usize,
    /// The most bytes of all answers that are remembered.
    pub(crate) results: usize,
    pub(crate) webhooks: WebhookPolicy,
}

/// What came of a request.
struct Answered {
    id: OperationId,
    attempt: AttemptId,
    kind: Kind,
    /// Of the credentials that it was sent with.
    generation: u32,
    /// Whether the answer says that they are over.
    unauthorized: bool,
    meaning: Result<Reading, Failure>,
    answer: Option<FinalAnswer>,
    /// What the provider said of its own limit, and with an answer to what.
    quota: Option<(Kind, Quota)>,
}

/// What the driver holds for an operation that has not ended: the bytes, and who waits. See [`Driver::job`].
#[derive(Default)]
struct Job {
    /// What a create would send; after a restart it may not be at hand.
    payload: Option<Payload>,
    /// Whether the store has it.
    payload_kept: bool,
    /// Submits that wait for the intent to be durable.
    replies: Vec<Reply>,
    /// Handles that wait for the end.
    waiters: Vec<oneshot::Sender<Finished>>,
    /// The request in the air, or the last one.
    request: Option<JoinHandle<()>>,
    answer: Option<FinalAnswer>,
    /// The newest credentials with which a create was refused for them.
    refused_with: Option<u32>,
    /// Whom to tell that the provider has it.
    telling: Telling,
    durable: bool,
    /// Whether a handle was given out: whoever drops it lets go of the outcome.
    followed: bool,
    /// The record that makes it durable: the first that is asked for. One from before it was resumed is still on its way, perhaps.
    intent: Option<RecordId>,
    /// Why its intent is not on disk.
    failure: Option<Arc<StoreError>>,
}

pub(crate) struct Driver<P, T> {
    engine: Engine,
    clock: Clock,
    journal: Journal,
    provider: Arc<P>,
    /// For the journal.
    provider_name: Arc<str>,
    limits: Limits,
    transport: Arc<T>,
    body_limit: usize,
    hooks: Hooks,
    jobs: HashMap<OperationId, Job>,
    parked: Parking,
    results: Results,
    /// Jobs that have ended and whose outcome nobody has: delivered to the engine, not in the store.
    unclaimed: HashSet<OperationId>,
    webhooks: Webhooks,
    renewal: Renewal,
    ends: Ends,
    answered: mpsc::UnboundedSender<Answered>,
    answers: mpsc::UnboundedReceiver<Answered>,
    closing: Option<Closing>,
    /// Nothing is carried out any more; only what is being written is waited for.
    closed: bool,
}

struct Closing {
    until: Instant,
    reply: Vec<oneshot::Sender<Vec<Unfinished>>>,
}

impl<P: Provider, T: Transport> Driver<P, T> {
    pub(crate) fn new(
        engine: Engine,
        journal: Journal,
        bounds: Bounds,
        provider: Arc<P>,
        transport: Arc<T>,
        hooks: Hooks,
        revised: broadcast::Sender<Revision>,
    ) -> Self {
        let (answered, answers) = mpsc::unbounded_channel();
        Self {
            engine,
            clock: Clock::start(),
            journal,
            provider_name: Arc::from(provider.name()),
            webhooks: Webhooks::new(bounds.webhooks, provider.has_webhooks()),
            provider,
            transport,
            body_limit: bounds.body,
            ends: Ends::new(revised, bounds.webhooks.remember),
            renewal: Renewal::new(hooks.renew.clone()),
            hooks,
            jobs: HashMap::new(),
            limits: bounds.limits,
            parked: Parking::default(),
            results: Results::new(bounds.results),
            unclaimed: HashSet::new(),
            answered,
            answers,
            closing: None,
            closed: false,
        }
    }

    pub(crate) async fn run(
        mut self,
        taken: Vec<Taken>,
        mut submits: mpsc::Receiver<Submit>,
        mut commands: mpsc::UnboundedReceiver<Command>,
        mut posts: mpsc::Receiver<Posted>,
    ) {
        self.take_up(taken);
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let (mut submits_open, mut commands_open) = (true, true);
        loop {
            self.perform_effects();
            let abandoned = !submits_open && !commands_open;
            let asking = self.journal.asking();
            if (abandoned || self.closing.is_some()) && self.engine.live() == 0 && self.journal.is_idle() && asking == 0
            {
                break;
            }
            let others = self.parked.next_deadline().into_iter().chain(self.webhooks.next_deadline());
            let deadline = self.engine.next_deadline().into_iter().chain(others).min();
            let mut wake = self.clock.wake_at(deadline);
            if let Some(closing) = &self.closing {
                if closing.until <= Instant::now() {
                    break;
                }
                wake = wake.min(closing.until);
            }
            if timer.deadline() != wake {
                timer.as_mut().reset(wake);
            }
            let has_room = self.has_room() && self.closing.is_none();
            tokio::select! {
                // In this order, so that a paused clock gives the same run each time: what is known before what is new, time last.
                biased;
                command = commands.recv(), if commands_open => match command {
                    Some(command) => self.command(command),
                    None => commands_open = false,
                },
                done = self.journal.done() => {
                    let now = self.clock.now();
                    self.journal.follow(now);
                    self.done(done);
                }
                Some(result) = self.renewal.result() => self.renewed(result),
                Some(answered) = self.answers.recv() => {
                    self.answer(answered);
                    for _ in 1..BATCH {
                        let Ok(answered) = self.answers.try_recv() else { break };
                        self.answer(answered);
                        self.keep_busy();
                    }
                }
                Some(posted) = posts.recv() => {
                    self.posted(posted);
                    for _ in 1..BATCH {
                        let Ok(posted) = posts.try_recv() else { break };
                        self.posted(posted);
                        self.keep_busy();
                    }
                }
                submit = submits.recv(), if submits_open && has_room => match submit {
                    Some(submit) => {
                        self.submit(submit);
                        for _ in 1..BATCH {
                            if !self.has_room() {
                                break;
                            }
                            let Ok(submit) = submits.try_recv() else { break };
                            self.submit(submit);
                            self.keep_busy();
                        }
                    }
                    None => submits_open = false,
                },
                () = &mut timer => {}
            }
            // Whatever woke us, time may have made something due: a flood of answers must not starve a deadline.
            let now = self.clock.now();
            self.engine.handle_timeout(now);
            self.unpark_overdue(now);
            self.webhooks.handle_timeout(now);
        }
        submits.close();
        posts.close();
        self.close().await;
    }

    /// Carries out what the engine owes, until it owes nothing.
    fn perform_effects(&mut self) {
        loop {
            self.tell_notices();
            while let Some((id, effect)) = self.engine.pop_effect() {
                match effect {
                    Effect::Persist(number) => self.persist(id, number),
                    Effect::Send(attempt) => self.send(id, attempt),
                    Effect::Abandon(_) => {
                        if let Some(request) = self.jobs.get(&id).and_then(|job| job.request.as_ref()) {
                            request.abort();
                        }
                    }
                    Effect::End => self.end(id),
                    _ => {}
                }
                self.keep_busy();
            }
            if self.closing.is_some() || !self.has_room() {
                self.journal.hurry();
            }
            let now = self.clock.now();
            match self.journal.work(now) {
                Some(done) => self.done(done),
                None => break,
            }
        }
    }

    /// What is held for an operation that goes on. For one that a restart took up that is nothing, until there is something to hold.
    fn job(&mut self, id: OperationId) -> Option<&mut Job> {
        match self.jobs.entry(id) {
            Entry::Occupied(job) => Some(job.into_mut()),
            Entry::Vacant(place) => {
                let goes_on = self.engine.operation(id).is_some_and(|operation| operation.outcome().is_none());
                goes_on.then(|| place.insert(Job { durable: true, ..Job::default() }))
            }
        }
    }

    /// What queued up while a commit ran is written while what it allows is carried out.
    fn keep_busy(&mut self) {
        if self.journal.has_finished() {
            let now = self.clock.now();
            self.journal.keep_busy(now);
        }
    }

    fn has_room(&self) -> bool {
        (self.engine.live() as usize).saturating_add(self.journal.asking()) < self.limits.live as usize
    }

    /// Has a record written, with what is to be kept beside it.
    fn persist(&mut self, id: OperationId, number: RecordId) {
        if let Some(job) = self.job(id) {
            job.intent.get_or_insert(number);
        }
        let Some(operation) = self.engine.operation(id).filter(|_| !self.journal.is_volatile()) else {
            return self.journal.push(id, number, None);
        };
        let now = self.clock.now();
        let record = operation.record();
        if matches!(record.stage, Stage::Delivered(_)) && self.unclaimed.contains(&id) {
            return self.journal.push(id, number, None);
        }
        let planned = matches!(record.stage, Stage::Planned);
        let mut entry = store::Entry::new(record, self.provider_name.clone(), now);
        let keep = self.journal.keep();
        let job = self.jobs.get(&id);
        let lacks_payload = job.is_none_or(|job| job.payload.is_none());
        if let Some(job) = job {
            if keep.payloads && !job.payload_kept && !entry.has_ended() {
                entry.payload = job.payload.as_ref().map(|payload| payload.bytes().to_vec());
            }
            if keep.answers && matches!(entry.record.stage, Stage::Ended(_)) {
                let kept =
                    |answer: &FinalAnswer| KeptAnswer { status: answer.status.as_u16(), body: answer.body.to_vec() };
                entry.answer = job.answer.as_ref().map(kept);
            }
        }
        self.journal.push(id, number, Some(entry));
        if planned && lacks_payload {
            // A look-up has proved that nothing ran, so it is to be created: by whoever brings its payload.
            self.withdraw(id);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Cancel(id) => {
                let now = self.clock.now();
                self.engine.handle(Event::Cancel(id), now);
            }
            Command::Resume { key, reply } => self.resume(key, Reply::Resume(reply)),
            Command::Hold(span) => {
                self.renewal.held_until = self.clock.now().saturating_add(span);
                self.hold_gate();
            }
            Command::Gate(policy) => {
                let now = self.clock.now();
                self.engine.gate_mut().set_policy(*policy, now);
            }
            Command::Shutdown { grace, reply } => {
                let until = Instant::now() + grace.min(Duration::from_secs(86_400 * 365));
                let closing = self.closing.get_or_insert(Closing { until, reply: Vec::new() });
                closing.until = closing.until.min(until);
                closing.reply.push(reply);
            }
        }
    }

    fn done(&mut self, Done { batch, found }: Done) {
        if let Some((batch, fate)) = batch {
            self.committed(batch, fate);
        }
        for (question, found) in found {
            if self.closed {
                // Too late to be taken in: what nobody can carry out must not be promised.
                question.refuse_stopped();
                continue;
            }
            self.looked_up(question, found);
        }
    }

    fn committed(&mut self, batch: Batch, fate: Fate) {
        let now = self.clock.now();
        let (operations, durable) = (batch.operations, matches!(fate, Fate::Durable));
        let event = match fate {
            Fate::Durable => {
                for id in batch.payloads {
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.payload_kept = true;
                    }
                }
                for id in &operations {
                    if let Some(job) = self.jobs.get_mut(id).filter(|job| job.rests_on(batch.last)) {
                        job.durable = true;
                        for reply in std::mem::take(&mut job.replies) {
                            job.hand_out(*id, reply);
                        }
                    }
                }
                Event::Persisted(batch.last)
            }
            Fate::Failed(error) => {
                for id in &operations {
                    if let Some(job) = self.jobs.get_mut(id).filter(|job| job.rests_on(batch.last)) {
                        job.failure = Some(error.clone());
                    }
                }
                Event::PersistFailed(batch.last)
            }
            Fate::Unknown(error) => {
                // Nothing was sent, and nothing will be by this client; but it cannot be said that the intent is not there.
                for id in &operations {
                    let job = self.jobs.get_mut(id).filter(|job| job.rests_on(batch.last));
                    for reply in job.map(|job| std::mem::take(&mut job.replies)).unwrap_or_default() {
                        reply.refuse(SubmitError::Uncertain(error.clone()));
                    }
                }
                Event::PersistFailed(batch.last)
            }
        };
        self.engine.handle(event, now);
        for id in &operations {
            self.tell_accepted(*id);
        }
        self.keep_promises(&operations, durable);
    }

    fn answer(&mut self, answered: Answered) {
        let Answered { id, attempt, kind, generation, unauthorized, meaning, answer, quota } = answered;
        let meaning = self.weigh_credentials(id, kind, generation, unauthorized, meaning);
        if let (Ok(Reading::Accepted(reference)), Some(FinalAnswer { status, body })) = (&meaning, &answer)
            && let Some(job) = self.jobs.get_mut(&id)
        {
            job.telling.learn(reference, || AcceptingAnswer { kind, status: *status, body: body.clone() });
        }
        // A job that a webhook has ended meanwhile keeps the result that came with it.
        let counts = answer.is_some() && !self.has_ended(id);
        if let (Some(job), Some(answer)) = (self.jobs.get_mut(&id).filter(|_| counts), answer) {
            job.answer = Some(answer);
        }
        let now = self.clock.now();
        self.engine.handle(Event::Answered(id, attempt, meaning), now);
        self.match_early(id);
        if let Some((kind, quota)) = quota {
            self.engine.handle(Event::Quota(kind, quota), now);
        }
    }

    fn tell_notices(&mut self) {
        while let Some((id, notice)) = self.engine.pop_notice() {
            if self.hooks.observer.is_none() && !Observation::is_logged(&notice) {
                continue;
            }
            let Some(operation) = self.engine.operation(id) else { continue };
            let observation = Observation::new(id, operation, notice, self.clock.now());
            observation.log();
            if let Some(observer) = self.hooks.observer.take() {
                // A bug in it costs the notices, not the jobs.
                match catch_unwind(AssertUnwindSafe(|| observer(&observation))) {
                    Ok(()) => self.hooks.observer = Some(observer),
                    Err(_) => tracing::error!("the observer panicked: it is not called again"),
                }
            }
        }
    }

    /// Stops what is in the air, lets the commits that run finish, and reports what is unfinished.
    async fn close(mut self) {
        for job in self.jobs.values() {
            if let Some(request) = &job.request {
                request.abort();
            }
        }
        self.journal.close();
        self.closed = true;
        loop {
            let now = self.clock.now();
            if let Some(done) = self.journal.work(now) {
                self.done(done);
            } else if self.journal.is_idle() {
                break;
            } else {
                let done = self.journal.done().await;
                self.done(done);
            }
        }
        let under_way = self.engine.live_operations().filter_map(|id| self.engine.operation(id)).map(|operation| {
            let record = operation.record();
            Unfinished { key: record.key, reference: record.reference, stage: record.stage }
        });
        let parked = self.parked.records().map(|record| Unfinished {
            key: record.key.clone(),
            reference: record.reference.clone(),
            stage: record.stage,
        });
        let mut unfinished: Vec<_> = under_way.chain(parked).collect();
        unfinished.sort_by(|a, b| a.key.cmp(&b.key));
        for reply in self.closing.into_iter().flat_map(|closing| closing.reply) {
            let _ = reply.send(unfinished.clone());
        }
    }
}
