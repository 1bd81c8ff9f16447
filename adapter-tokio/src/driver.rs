//! The one loop: one task owns the engine and does what it says.
//!
//! It is the loop of the core's front page with tokio's pieces: effects become spawned requests and journal commits, channels bring back
//! what came of them, one timer wakes it. No lock is held, and nothing but this task touches the engine.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::HeaderName;
use steadfast_core::engine::Event;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{Attempt, AttemptId, Effect, Outcome, Reading, Record, Rejected, SendSafety, Stage};
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Engine, Key, Kind, OperationId, Timestamp};
use steadfast_providers::{Answer, Ask, Payload, Provider, fingerprint};
use steadfast_store::{Entry, StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::{FinalAnswer, Finished, SubmitError, Unfinished};
use crate::clock::Clock;
use crate::journal::{Batch, Journal};
use crate::observe::{CorrelationId, Observation, Observer};
use crate::transport::{Outgoing, Transport};

/// How many events of a kind are taken in before effects are carried out: enough to batch, few enough to stay responsive.
const BATCH: usize = 64;

pub(crate) struct Submit {
    pub(crate) key: Key,
    pub(crate) payload: Payload,
    pub(crate) reply: Reply,
}

type Reply = oneshot::Sender<Result<(OperationId, oneshot::Receiver<Finished>), SubmitError>>;

pub(crate) enum Command {
    Cancel(OperationId),
    Hold(Duration),
    Gate(Box<GatePolicy>),
    Shutdown { grace: Duration, reply: oneshot::Sender<Vec<Unfinished>> },
}

/// What came of a request.
struct Answered {
    id: OperationId,
    attempt: AttemptId,
    meaning: Result<Reading, Failure>,
    answer: Option<FinalAnswer>,
    /// What the provider said of its own limit, and with an answer to what.
    quota: Option<(Kind, Quota)>,
}

/// What the driver holds for an operation that has not ended: the bytes, and who waits.
#[derive(Default)]
struct Job {
    payload: Payload,
    /// Submits that wait for the intent to be durable.
    replies: Vec<Reply>,
    /// Handles that wait for the end.
    waiters: Vec<oneshot::Sender<Finished>>,
    /// The request in the air, or the last one.
    request: Option<JoinHandle<()>>,
    answer: Option<FinalAnswer>,
    durable: bool,
}

pub(crate) struct Driver<P, T> {
    engine: Engine,
    clock: Clock,
    journal: Journal,
    provider: Arc<P>,
    /// For the journal.
    provider_name: Arc<str>,
    transport: Arc<T>,
    body_limit: usize,
    observer: Option<Observer>,
    jobs: HashMap<OperationId, Job>,
    /// Records whose create may have to be sent again: they wait for their payload.
    parked: HashMap<Key, Record>,
    results: Results,
    answered: mpsc::UnboundedSender<Answered>,
    answers: mpsc::UnboundedReceiver<Answered>,
    closing: Option<Closing>,
}

struct Closing {
    until: Instant,
    reply: Vec<oneshot::Sender<Vec<Unfinished>>>,
}

impl<P: Provider, T: Transport> Driver<P, T> {
    pub(crate) fn new(
        engine: Engine,
        journal: Journal,
        provider: Arc<P>,
        transport: Arc<T>,
        body_limit: usize,
        results_limit: usize,
        observer: Option<Observer>,
    ) -> Self {
        let (answered, answers) = mpsc::unbounded_channel();
        Self {
            engine,
            clock: Clock::start(),
            journal,
            provider_name: Arc::from(provider.name()),
            provider,
            transport,
            body_limit,
            observer,
            jobs: HashMap::new(),
            parked: HashMap::new(),
            results: Results { limit: results_limit, ..Results::default() },
            answered,
            answers,
            closing: None,
        }
    }

    pub(crate) async fn run(
        mut self,
        entries: Vec<Entry>,
        mut submits: mpsc::Receiver<Submit>,
        mut commands: mpsc::UnboundedReceiver<Command>,
    ) {
        self.take_up(entries);
        let timer = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(timer);
        let (mut submits_open, mut commands_open) = (true, true);
        loop {
            self.perform_effects();
            let abandoned = !submits_open && !commands_open;
            if (abandoned || self.closing.is_some()) && self.engine.live() == 0 && self.journal.is_idle() {
                break;
            }
            let mut wake = self.clock.wake_at(self.engine.next_deadline());
            if let Some(closing) = &self.closing {
                if closing.until <= Instant::now() {
                    break;
                }
                wake = wake.min(closing.until);
            }
            if timer.deadline() != wake {
                timer.as_mut().reset(wake);
            }
            let has_room = self.engine.has_room() && self.closing.is_none();
            tokio::select! {
                // In this order, so that a paused clock gives the same run each time: what is known before what is new, time last.
                biased;
                command = commands.recv(), if commands_open => match command {
                    Some(command) => self.command(command),
                    None => commands_open = false,
                },
                (batch, result) = self.journal.committed() => self.committed(batch, result),
                Some(answered) = self.answers.recv() => {
                    self.answer(answered);
                    for _ in 1..BATCH {
                        let Ok(answered) = self.answers.try_recv() else { break };
                        self.answer(answered);
                    }
                }
                submit = submits.recv(), if submits_open && has_room => match submit {
                    Some(submit) => {
                        self.submit(submit);
                        for _ in 1..BATCH {
                            if !self.engine.has_room() {
                                break;
                            }
                            let Ok(submit) = submits.try_recv() else { break };
                            self.submit(submit);
                        }
                    }
                    None => submits_open = false,
                },
                () = &mut timer => {}
            }
            // Whatever woke us, time may have made something due: a flood of answers must not starve a deadline.
            let now = self.clock.now();
            self.engine.handle_timeout(now);
        }
        submits.close();
        self.close().await;
    }

    /// Carries out what the engine owes, until it owes nothing.
    fn perform_effects(&mut self) {
        loop {
            self.tell_notices();
            while let Some((id, effect)) = self.engine.pop_effect() {
                match effect {
                    Effect::Persist(number) => {
                        let operation = self.engine.operation(id).filter(|_| !self.journal.is_volatile());
                        let now = self.clock.now();
                        let entry = operation.map(|it| Entry::new(it.record(), self.provider_name.clone(), now));
                        self.journal.push(id, number, entry);
                    }
                    Effect::Send(attempt) => self.send(id, attempt),
                    Effect::Abandon(_) => {
                        if let Some(request) = self.jobs.get(&id).and_then(|job| job.request.as_ref()) {
                            request.abort();
                        }
                    }
                    Effect::End => self.end(id),
                    _ => {}
                }
            }
            match self.journal.commit() {
                Some((batch, result)) => self.committed(batch, result),
                None => break,
            }
        }
    }

    fn submit(&mut self, Submit { key, payload, reply }: Submit) {
        let now = self.clock.now();
        let print = fingerprint(&key, &payload);
        let parked = self.parked.get(&key).filter(|record| record.fingerprint == print).is_some();
        if parked && let Some(record) = self.parked.remove(&key) {
            // The payload is here again: the job goes on where the record says.
            if let Ok(id) = self.engine.restore(record, now) {
                self.jobs.insert(id, Job { payload, durable: true, ..Job::default() });
                self.join(id, reply);
            }
            return;
        }
        if self.parked.contains_key(&key) {
            let _ = reply.send(Err(steadfast_core::engine::SubmitError::FingerprintMismatch.into()));
            return;
        }
        match self.engine.submit(key, print, now) {
            Ok(submitted) => {
                let id = submitted.id();
                if matches!(submitted, steadfast_core::engine::Submitted::Started(_)) {
                    self.jobs.insert(id, Job { payload, ..Job::default() });
                }
                self.join(id, reply);
            }
            Err(refused) => {
                let _ = reply.send(Err(refused.into()));
            }
        }
    }

    /// Answers a submit: at once if the operation is durable or has ended, else once it is.
    fn join(&mut self, id: OperationId, reply: Reply) {
        match self.jobs.get_mut(&id) {
            Some(job) if job.durable => job.hand_out(id, reply),
            Some(job) => job.replies.push(reply),
            None => {
                let (waiter, finished) = oneshot::channel();
                if let Some(finished) = self.finished(id) {
                    let _ = waiter.send(finished);
                }
                let _ = reply.send(Ok((id, finished)));
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Cancel(id) => {
                let now = self.clock.now();
                self.engine.handle(Event::Cancel(id), now);
            }
            // Those who wait at the gate learn of it in the turn's own `handle_timeout`.
            Command::Hold(span) => {
                let until = self.clock.now().saturating_add(span);
                self.engine.gate_mut().hold_until(until);
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

    fn committed(&mut self, batch: Batch, result: Result<(), StoreError>) {
        let now = self.clock.now();
        match result {
            Ok(()) => {
                for id in batch.operations {
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.durable = true;
                        for reply in std::mem::take(&mut job.replies) {
                            job.hand_out(id, reply);
                        }
                    }
                }
                self.engine.handle(Event::Persisted(batch.last), now);
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    records = batch.operations.len(),
                    "a commit failed"
                );
                self.engine.handle(Event::PersistFailed(batch.last), now);
            }
        }
    }

    fn answer(&mut self, Answered { id, attempt, meaning, answer, quota }: Answered) {
        if let (Some(job), Some(answer)) = (self.jobs.get_mut(&id), answer) {
            job.answer = Some(answer);
        }
        let now = self.clock.now();
        self.engine.handle(Event::Answered(id, attempt, meaning), now);
        if let Some((kind, quota)) = quota {
            self.engine.handle(Event::Quota(kind, quota), now);
        }
    }

    /// Sends a request on a task of its own, which brings back what came of it.
    fn send(&mut self, id: OperationId, attempt: Attempt) {
        let now = self.clock.now();
        let (Some(operation), Some(job)) = (self.engine.operation(id), self.jobs.get_mut(&id)) else { return };
        let ask = Ask::new(attempt.kind, operation.key(), operation.reference(), &job.payload);
        let built = catch_unwind(AssertUnwindSafe(|| self.provider.request(&ask)));
        let mut request = match built {
            Ok(Ok(request)) => request,
            failed => {
                let error = failed.ok().and_then(Result::err);
                let error = error.as_ref().map(|error| error as &dyn std::error::Error);
                tracing::error!(error, panicked = error.is_none(), "a request could not be built");
                let meaning = Err(Failure::new(Class::Permanent, Certainty::NotExecuted));
                let _ = self.answered.send(Answered { id, attempt: attempt.id, meaning, answer: None, quota: None });
                return;
            }
        };
        let correlation_id = CorrelationId::of(operation, attempt.id).to_string();
        if let Ok(value) = HeaderValue::try_from(correlation_id) {
            request.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
        }
        let outgoing = Outgoing {
            request,
            attempt,
            key: operation.key().clone(),
            timeout: attempt.until.saturating_since(now),
            body_limit: self.body_limit,
        };
        let (provider, transport, answered) = (self.provider.clone(), self.transport.clone(), self.answered.clone());
        let previous = job.request.take();
        job.request = Some(tokio::spawn(async move {
            if let Some(previous) = previous {
                // An abandoned request is gone before the next one of its job leaves: never two at a time. How it went no longer matters.
                let _ = previous.await;
            }
            let (meaning, answer, quota) = match transport.send(outgoing).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let wall = Timestamp::from(SystemTime::now());
                    let answer = Answer::new(attempt.kind, parts.status, &parts.headers, &body, wall);
                    let quota = provider.quota(&answer).map(|quota| (attempt.kind, quota));
                    (provider.read(&answer), Some(FinalAnswer { status: parts.status, body }), quota)
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a request brought no answer");
                    (Err(error.failure()), None, None)
                }
            };
            let _ = answered.send(Answered { id, attempt: attempt.id, meaning, answer, quota });
        }));
    }

    /// Tells everybody who waits.
    fn end(&mut self, id: OperationId) {
        let job = self.jobs.remove(&id).unwrap_or_default();
        self.results.keep(id, job.answer);
        if let Some(finished) = self.finished(id) {
            for waiter in job.waiters {
                let _ = waiter.send(finished.clone());
            }
            let not_durable = finished.outcome == Outcome::Rejected(Rejected::NotDurable);
            for reply in job.replies {
                let (waiter, receiver) = oneshot::channel();
                let _ = waiter.send(finished.clone());
                let _ = reply.send(if not_durable { Err(SubmitError::NotDurable) } else { Ok((id, receiver)) });
            }
        }
        let now = self.clock.now();
        self.engine.handle(Event::Delivered(id), now);
    }

    fn finished(&self, id: OperationId) -> Option<Finished> {
        let operation = self.engine.operation(id)?;
        Some(Finished {
            outcome: operation.outcome()?,
            reference: operation.reference().cloned(),
            creates: operation.creates(),
            answer: self.results.get(id),
        })
    }

    /// After a restart: everything that needs no payload goes on at once, the rest waits for its key to be submitted again.
    fn take_up(&mut self, entries: Vec<Entry>) {
        let safety = self.engine.policy().safety();
        for Entry { record, .. } in entries {
            let may_create = matches!(record.stage, Stage::Planned)
                || matches!(record.stage, Stage::InFlight | Stage::Unknown) && safety != SendSafety::Unsafe;
            if may_create {
                self.parked.insert(record.key.clone(), record);
                continue;
            }
            let now = self.clock.now();
            let Ok(id) = self.engine.restore(record, now) else { continue };
            // What was delivered before is over: nothing will end it a second time.
            if self.engine.operation(id).is_some_and(|operation| !operation.is_finished()) {
                self.jobs.insert(id, Job { durable: true, ..Job::default() });
            }
        }
    }

    fn tell_notices(&mut self) {
        while let Some((id, notice)) = self.engine.pop_notice() {
            if self.observer.is_none() && !Observation::is_logged(&notice) {
                continue;
            }
            let Some(operation) = self.engine.operation(id) else { continue };
            let observation = Observation::new(id, operation, notice, self.clock.now());
            observation.log();
            if let Some(observer) = self.observer.take() {
                // A bug in it costs the notices, not the jobs.
                match catch_unwind(AssertUnwindSafe(|| observer(&observation))) {
                    Ok(()) => self.observer = Some(observer),
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
        while !self.journal.is_idle() {
            let (batch, result) = self.journal.committed().await;
            self.committed(batch, result);
            if let Some((batch, result)) = self.journal.commit() {
                self.committed(batch, result);
            }
        }
        let under_way = self.engine.live_operations().filter_map(|id| self.engine.operation(id)).map(|operation| {
            let record = operation.record();
            Unfinished { key: record.key, reference: record.reference, stage: record.stage }
        });
        let parked = self.parked.into_values().map(|record| Unfinished {
            key: record.key,
            reference: record.reference,
            stage: record.stage,
        });
        let mut unfinished: Vec<_> = under_way.chain(parked).collect();
        unfinished.sort_by(|a, b| a.key.cmp(&b.key));
        for reply in self.closing.into_iter().flat_map(|closing| closing.reply) {
            let _ = reply.send(unfinished.clone());
        }
    }
}

impl Job {
    fn hand_out(&mut self, id: OperationId, reply: Reply) {
        let (waiter, finished) = oneshot::channel();
        self.waiters.push(waiter);
        let _ = reply.send(Ok((id, finished)));
    }
}

/// The last answers of operations that have ended, for repeated submits: bounded in bytes, oldest dropped first.
#[derive(Default)]
struct Results {
    limit: usize,
    bytes: usize,
    answers: HashMap<OperationId, FinalAnswer>,
    order: VecDeque<(OperationId, usize)>,
}

/// What an entry costs beside its body.
const ENTRY: usize = 128;

impl Results {
    fn keep(&mut self, id: OperationId, answer: Option<FinalAnswer>) {
        let Some(answer) = answer else { return };
        let size = answer.body.len() + ENTRY;
        self.bytes += size;
        self.order.push_back((id, size));
        self.answers.insert(id, answer);
        // The newest stays even if it alone exceeds the limit: whoever waits for it is told in this very step.
        while self.bytes > self.limit && self.order.len() > 1 {
            let Some((oldest, size)) = self.order.pop_front() else { break };
            self.answers.remove(&oldest);
            self.bytes -= size;
        }
    }

    fn get(&self, id: OperationId) -> Option<FinalAnswer> {
        self.answers.get(&id).cloned()
    }
}
