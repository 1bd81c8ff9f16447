//! How a request leaves, how its answer comes back, and what becomes of it.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use steadfast_core::engine::Event;
use steadfast_core::operation::{Attempt, AttemptId, Effect, Reading};
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Kind, Operation, OperationId, Reference, Timestamp};
use steadfast_providers::{Answer, Ask, ClockSkew, Payload, Provider, clock_skew};
use tracing::Span;

use super::{Driver, Job, Task};
use crate::accepted::AcceptingAnswer;
use crate::caught::caught;
use crate::finished::FinalAnswer;
use crate::observe::CorrelationId;
use crate::outgoing::{Outgoing, SendError};
use crate::span::{JobTrace, RequestTrace};

/// With more than `FAR` jobs, too many for a processor's caches, memory is prefetched for `MANY` of them at a time.
const MANY: usize = 64;
const FAR: usize = 32_768;

/// At most this many copies of the provider are kept for reuse.
const MOST_READERS: usize = 1_024;

/// A request to be sent. `H` is what the adapter holds for a request in flight.
#[non_exhaustive]
pub struct Sending<H> {
    /// The request itself.
    pub outgoing: Outgoing,
    /// What the adapter holds for the job's previous request, if there was one. That request must be finished or cut
    /// off before this one leaves: a job never has two in flight. Cut it off now if that can be done and has not been;
    /// how it went no longer matters.
    pub previous: Option<H>,
    /// Reads what comes of it.
    pub reader: Reader,
}

impl<H> Sending<H> {
    /// The job whose request it is.
    #[must_use]
    pub const fn id(&self) -> OperationId {
        self.reader.id
    }
}

impl<H> fmt::Debug for Sending<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sending({:?})", self.outgoing)
    }
}

/// Reads what came of one request, and knows what an answer to it means.
pub struct Reader {
    id: OperationId,
    attempt: AttemptId,
    kind: Kind,
    key: Key,
    /// The reference that a poll asks by.
    reference: Option<Reference>,
    /// The generation of the credentials that it was sent with.
    generation: u32,
    /// When it was handed to the adapter.
    sent: Timestamp,
    provider: Arc<dyn Provider>,
    trace: Option<Box<RequestTrace>>,
}

impl Reader {
    /// The span to send the request in; a disabled one if nobody traces. If sending is a future, enter the span for
    /// each poll of it ([`tracing::Instrument`]), never across a wait.
    #[must_use]
    pub fn span(&self) -> Span {
        self.trace.as_ref().map_or_else(Span::none, |trace| trace.span().clone())
    }

    /// Reads what came of the request. `wall` is the wall clock when it came. Call it where it delays nobody else: a
    /// body may be megabytes of JSON.
    #[must_use]
    pub fn read(self, came: Result<Response<Bytes>, SendError>, wall: Timestamp) -> Answered {
        let span = self.span();
        span.in_scope(|| self.read_here(came, wall))
    }

    fn read_here(mut self, came: Result<Response<Bytes>, SendError>, wall: Timestamp) -> Answered {
        let reference = self.reference.take();
        let (unanswered, key, trace) = self.before();
        let kind = unanswered.kind;
        let response = match came {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a request brought no answer");
                if let Some(trace) = trace {
                    trace.end(None, Some(&error.failure()));
                }
                return Answered { meaning: Err(error.failure()), ..unanswered };
            }
        };
        let (parts, body) = response.into_parts();
        if let Some(skew) = clock_skew(&parts.headers, wall).filter(|skew| skew.span() > ClockSkew::WORTH_SAYING) {
            tracing::warn!(key = %key.label(), ?skew, "the provider's clock is far from ours: what it dates and signs may be refused");
        }
        let mut answer = Answer::new(kind, parts.status, &parts.headers, &body, wall).about(&key);
        answer.reference = reference.as_ref();
        let provider = &unanswered.provider;
        let read = || {
            let meaning = provider.read(&answer).map_err(|failure| failure.with_answer(provider.stored(&answer)));
            let quota = provider.quota(&answer).map(|quota| (kind, as_asked(quota, &meaning)));
            (meaning, quota, provider.is_unauthorized(&answer))
        };
        let (meaning, quota, unauthorized) = caught(read).unwrap_or_else(|| {
            tracing::error!(key = %key.label(), "the provider's profile panicked on an answer: it counts as one that cannot be read");
            (Err(Failure::new(Class::Permanent, Certainty::MayHaveExecuted)), None, false)
        });
        if let Some(trace) = trace {
            trace.end(Some(parts.status.as_u16()), meaning.as_ref().err());
        }
        let answer = Some(FinalAnswer { status: parts.status, body });
        Answered { unauthorized, meaning, answer, quota, ..unanswered }
    }

    /// The result of a request that was not sent (nothing ran), and what is needed to read an answer.
    fn before(self) -> (Answered, Key, Option<Box<RequestTrace>>) {
        let Self { id, attempt, kind, key, generation, sent, provider, trace, .. } = self;
        let (unauthorized, meaning) = (false, Err(Failure::new(Class::Permanent, Certainty::NotExecuted)));
        let nothing = Answered {
            id,
            attempt,
            kind,
            generation,
            sent,
            provider,
            unauthorized,
            meaning,
            answer: None,
            quota: None,
        };
        (nothing, key, trace)
    }
}

/// If the answer says when to try again, that takes precedence over a later end of the quota's window, as the draft of
/// the `RateLimit` fields says. A wait of zero says nothing.
fn as_asked(quota: Quota, meaning: &Result<Reading, Failure>) -> Quota {
    let asked = meaning.as_ref().err().and_then(|failure| failure.retry_after).filter(|asked| !asked.is_zero());
    Quota { reset: quota.reset.map(|reset| asked.map_or(reset, |asked| asked.min(reset))), ..quota }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reader({:?} of {:?})", self.attempt, self.id)
    }
}

/// What came of a request, as its [`Reader`] has read it.
pub struct Answered {
    pub(super) id: OperationId,
    pub(super) attempt: AttemptId,
    kind: Kind,
    /// The generation of the credentials that it was sent with.
    generation: u32,
    /// When the request was handed to the adapter.
    sent: Timestamp,
    /// The reader's copy of the provider.
    provider: Arc<dyn Provider>,
    /// Whether the answer refuses those credentials.
    unauthorized: bool,
    meaning: Result<Reading, Failure>,
    answer: Option<FinalAnswer>,
    /// What the provider said of its own limit, and the kind of request whose answer said it.
    quota: Option<(Kind, Quota)>,
}

impl Answered {
    /// The job whose request it was.
    #[must_use]
    pub const fn id(&self) -> OperationId {
        self.id
    }
}

impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answered({:?} of {:?}, {:?})", self.attempt, self.id, self.answer)
    }
}

impl<H> Driver<H> {
    /// Has a request sent.
    pub(super) fn send(&mut self, id: OperationId, attempt: Attempt) {
        if self.job(id).is_none() {
            return;
        }
        let generation = self.generation();
        let (Some(operation), Some(job)) = (self.engine.operation(id), self.jobs.get_mut(id)) else { return };
        let mut reader = Reader {
            id,
            attempt: attempt.id,
            kind: attempt.kind,
            key: operation.key(),
            reference: operation.reference(),
            generation,
            sent: self.now,
            provider: self.readers.pop().unwrap_or_else(|| self.provider.clone()),
            trace: None,
        };
        let none = Payload::default();
        let payload = job.payload.as_ref().unwrap_or(&none);
        let ask = Ask::new(attempt.kind, &reader.key, reader.reference.as_ref(), payload);
        // Jobs without a payload are parked before it comes to this; an empty body must not leave under their name.
        let lacks_payload = attempt.kind == Kind::Create && job.payload.is_none();
        let built = caught(|| (!lacks_payload).then(|| self.provider.request(&ask)).transpose());
        let mut request = match built {
            Some(Ok(Some(request))) => request,
            failed => {
                let error = failed.and_then(Result::err);
                let error = error.as_ref().map(|error| error as &dyn std::error::Error);
                tracing::error!(error, lacks_payload, "a request could not be built");
                return self.unsent.push_back(reader.before().0);
            }
        };
        let correlation_id = CorrelationId::of(operation, attempt.id);
        let trace = job.trace.as_deref();
        correlation_id.write(&self.correlation_header, trace.and_then(JobTrace::context), request.headers_mut());
        reader.trace = RequestTrace::begin(trace, operation, attempt, &request, &*self.provider);
        let outgoing = Outgoing {
            request,
            attempt,
            key: reader.key.clone(),
            timeout: attempt.until.saturating_since(self.now),
            body_limit: self.body_limit,
        };
        let previous = job.request.take();
        job.sent = Some(attempt.id);
        if let Some(reference) = reader.reference.as_ref().filter(|_| job.telling.await_no_more().is_some()) {
            job.telling.tell(reference);
        }
        if attempt.kind == Kind::Create {
            self.note_name(id);
        }
        self.tasks.push_back(Task::Send(Box::new(Sending { outgoing, previous, reader })));
    }

    /// Takes back a request that has not left: it is due again. What the adapter holds for it stays, since the job's
    /// next request may have to wait for the same thing.
    pub(super) fn give_back(&mut self, reader: Reader, why: &'static str) {
        tracing::debug!(why, "a request was taken back before it left");
        let (nothing, _, trace) = reader.before();
        if let Some(trace) = trace {
            trace.end(None, Some(&Failure::new(Class::Transient, Certainty::NotExecuted)));
        }
        let Answered { id, attempt, provider, .. } = nothing;
        self.keep_reader(provider);
        self.engine.handle(Event::Unsent(id, attempt), self.now);
        self.await_no_answer(id, attempt);
        self.note_name(id);
    }

    pub(super) fn answer(&mut self, answered: Answered) {
        let Answered { id, attempt, kind, generation, sent, provider, unauthorized, meaning, answer, quota } = answered;
        self.keep_reader(provider);
        // The request has ended: to keep what was held for it would cost more than the job itself, for as long as the
        // job waits.
        if let Some(job) = self.jobs.get_mut(id).filter(|job| job.sent == Some(attempt)) {
            job.request = None;
        }
        let meaning = self.weigh_credentials(id, kind, generation, unauthorized, meaning);
        self.count_answer(id, attempt, kind, sent, meaning.is_ok());
        if let (Ok(Reading::Accepted(reference)), Some(FinalAnswer { status, body })) = (&meaning, &answer)
            && let Some(job) = self.jobs.get_mut(id)
        {
            job.telling.learn(reference, || AcceptingAnswer { kind, status: *status, body: body.clone() });
        }
        self.await_no_answer(id, attempt);
        let (now, had_ended) = (self.now, self.has_ended(id));
        self.engine.handle(Event::Answered(id, attempt, meaning), now);
        // A job that a webhook has ended meanwhile keeps the result that came with it.
        if let Some(answer) = answer.filter(|_| !had_ended) {
            self.note_answer(id, answer);
        }
        self.match_early(id);
        if let Some((kind, quota)) = quota {
            self.engine.handle(Event::Quota(kind, quota), now);
        }
    }

    /// Keeps a job's latest answer. If the job has just ended, that is its result, and is kept whatever its size. Jobs
    /// under way may be many, and for long: theirs are kept as far as there is room.
    fn note_answer(&mut self, id: OperationId, answer: FinalAnswer) {
        let ended = self.has_ended(id);
        let Some(job) = self.jobs.get_mut(id) else { return };
        if ended {
            self.results.let_go(job);
            job.answer = Some(answer);
        } else {
            self.results.hold(job, answer);
        }
    }

    /// Counts what came of a request, before the engine hears of it. Only an answer that is still waited for ends the
    /// request. A failure is counted by its notice.
    fn count_answer(&self, id: OperationId, attempt: AttemptId, kind: Kind, sent: Timestamp, usable: bool) {
        let in_flight = self.engine.operation(id).and_then(Operation::in_flight);
        let is_waited_for = in_flight.is_some_and(|in_flight| in_flight.id == attempt);
        self.meter.answered(kind, usable && is_waited_for, self.now.saturating_since(sent));
    }

    fn keep_reader(&mut self, provider: Arc<dyn Provider>) {
        if self.readers.len() < MOST_READERS && Arc::ptr_eq(&provider, &self.provider) {
            self.readers.push(provider);
        }
    }

    /// The next effect to carry out. Once a shutdown's grace has passed, nothing leaves any more, and a create that was
    /// about to leave is known not to have run. Once the client is closed, only that is still written: otherwise the
    /// disk would say that a create whose intent was being written may have left.
    ///
    /// A request whose time went by before it was fetched has not left either: it is not handed out, and whoever calls
    /// `handle_timeout` next, which is due, finds that nothing of it ran.
    pub(super) fn next_effect(&mut self) -> Option<(OperationId, Effect)> {
        loop {
            if self.fetched > 0 {
                self.fetched -= 1;
            } else if self.jobs.len() > FAR {
                self.fetched = self.fetch(self.engine.owing().take(MANY)).saturating_sub(1);
            }
            let (id, effect) = self.engine.pop_effect()?;
            match effect {
                Effect::Send(attempt) if self.closed || self.is_out_of_time() => self.recall(id, attempt),
                Effect::Persist(_) if self.closed && self.recalled.remove(&id) => return Some((id, effect)),
                _ if self.closed => {}
                Effect::Send(attempt) if attempt.until <= self.now => {
                    self.engine.handle(Event::Unsent(id, attempt.id), self.now);
                    return None;
                }
                _ => return Some((id, effect)),
            }
        }
    }

    /// Prefetches jobs' memory: with a hundred thousand jobs, waiting for each one's took a tenth of all time.
    fn fetch(&self, ids: impl Iterator<Item = OperationId>) -> usize {
        ids.filter_map(|id| self.jobs.get(id)).map(Job::touch).count()
    }

    /// The same, for those whose records are durable.
    pub(super) fn fetch_written(&self, ids: &[OperationId]) {
        if self.jobs.len() > FAR {
            self.fetch(ids.iter().copied());
        }
    }

    fn recall(&mut self, id: OperationId, attempt: Attempt) {
        if attempt.kind != Kind::Create {
            return;
        }
        if self.closed {
            self.recalled.insert(id);
        }
        let unsent = Failure::new(Class::Transient, Certainty::NotExecuted);
        self.engine.handle(Event::Answered(id, attempt.id, Err(unsent)), self.now);
    }
}
