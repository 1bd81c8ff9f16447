//! What can be seen from outside: a `tracing` event for every notice, and an observer if one is set.
//!
//! Every event has the same fields: `key` (a label that stands for the key: keys may hold personal data), `reference`
//! (the provider's id), `attempt` (a number within the operation) and `correlation_id` (also sent with the request, as
//! `X-Request-Id` or in the header that the builder was given). There are no payloads, bodies or credentials in them,
//! since notices hold none. An event belongs to the [span](crate#spans) of its job.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use steadfast_core::breaker::BreakerState;
use steadfast_core::notice::Notice;
use steadfast_core::operation::{AttemptId, Outcome};
use steadfast_core::{Key, Label, Operation, OperationId, Reference, Timestamp};
use tracing::{Level, event, span};

use crate::correlation::CorrelationHeader;
use crate::driver::Renew;
use crate::finished::Finished;
use crate::trace_context::{TraceContext, TraceSource};

/// A notice, with the operation that it is about.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Observation {
    /// Which operation of this client.
    pub operation: OperationId,
    /// Stands for the key.
    pub key: Label,
    /// The provider's id, once known.
    pub reference: Option<Reference>,
    /// The attempt that the notice is about, or the latest.
    pub attempt: AttemptId,
    /// Identifies that attempt in logs here and at the provider.
    pub correlation_id: CorrelationId,
    /// When it was told.
    pub at: Timestamp,
    /// What happened.
    pub notice: Notice,
}

/// An attempt's id, of 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CorrelationId(u128);

impl CorrelationId {
    pub(crate) const fn of(operation: &Operation, attempt: AttemptId) -> Self {
        Self(operation.correlation_id(attempt))
    }

    /// Writes it into a request's headers. A header that the provider's own request has already stays: it may be the
    /// job's key.
    pub(crate) fn write(self, header: &CorrelationHeader, trace: Option<&TraceContext>, headers: &mut HeaderMap) {
        if !headers.contains_key(header.name())
            && let Ok(value) = HeaderValue::from_bytes(&self.digits())
        {
            headers.insert(header.name(), value);
        }
        let Some(trace) = trace else { return };
        let span = trace.parent().with_span(self.0 as u64);
        if let Ok(value) = HeaderValue::try_from(span.to_string()) {
            headers.insert("traceparent", value);
        }
        if let Some(Ok(value)) = trace.state().map(|state| HeaderValue::from_str(state.as_str())) {
            headers.insert("tracestate", value);
        }
    }

    /// The digits that `Display` shows, made for each request that leaves.
    fn digits(self) -> [u8; 32] {
        let digit = |half: u8| b'0' + half + u8::from(half > 9) * (b'a' - 10 - b'0');
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        digits
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// How a job came to be carried here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    Submitted,
    /// After a restart.
    Restored,
    Resumed,
}

impl Begun {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Restored => "restored",
            Self::Resumed => "resumed",
        }
    }
}

/// Called in the driver's turn with every notice: it must be quick and must not block.
pub(crate) type Observer = Arc<dyn Fn(&Observation) + Send + Sync>;

/// The program's functions that the driver calls.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) observer: Option<Observer>,
    /// For outcomes that nobody waits for.
    pub(crate) unclaimed: Option<Unclaimed>,
    /// For credentials that have expired.
    pub(crate) renew: Option<Renew>,
    /// Asked where a job is submitted.
    pub(crate) traces: TraceSource,
}

/// Called in the driver's turn with an outcome that nobody waits for.
pub(crate) type Unclaimed = Arc<dyn Fn(&Key, &Finished) -> Result<(), ClaimError> + Send + Sync>;

/// Why a program could not take an outcome. It is logged, so it must show no secret.
pub type ClaimError = Box<dyn std::error::Error + Send + Sync>;

/// What a program's [hook](crate::Builder::unclaimed) for outcomes returns: `()` if it always has the outcome once it
/// returns, or a `Result` whose error means *not now*.
pub trait Claim {
    /// Whether the program has the outcome.
    ///
    /// # Errors
    /// It could not take the outcome, and is to be told again.
    fn claim(self) -> Result<(), ClaimError>;
}

impl Claim for () {
    fn claim(self) -> Result<(), ClaimError> {
        Ok(())
    }
}

impl<E: Into<ClaimError>> Claim for Result<(), E> {
    fn claim(self) -> Result<(), ClaimError> {
        self.map_err(Into::into)
    }
}

impl Observation {
    pub(crate) fn new(id: OperationId, operation: &Operation, notice: Notice, at: Timestamp) -> Self {
        let attempt = match &notice {
            Notice::Sending(attempt) | Notice::Failed { attempt, .. } => attempt.id,
            Notice::LateAnswer(id) => *id,
            _ => operation.last_attempt(),
        };
        Self {
            operation: id,
            key: operation.key().label(),
            reference: operation.reference(),
            attempt,
            correlation_id: CorrelationId::of(operation, attempt),
            at,
            notice,
        }
    }

    /// Whether anybody would see an event of this notice.
    pub(crate) fn is_logged(notice: &Notice) -> bool {
        match level(notice) {
            Level::ERROR => tracing::enabled!(Level::ERROR),
            Level::WARN => tracing::enabled!(Level::WARN),
            Level::INFO => tracing::enabled!(Level::INFO),
            _ => tracing::enabled!(Level::DEBUG),
        }
    }

    /// As an event of the job's span, if it has one.
    pub(crate) fn log(&self, span: Option<span::Id>) {
        let Self { key, attempt, correlation_id, notice, .. } = self;
        let reference = self.reference.as_ref().map_or("", Reference::as_str);
        macro_rules! log {
            ($level:expr) => {
                event!(parent: span.clone(), $level, %key, reference, attempt = attempt.0, %correlation_id, ?notice, "{}", summary(notice))
            };
        }
        match level(notice) {
            Level::ERROR => log!(Level::ERROR),
            Level::WARN => log!(Level::WARN),
            Level::INFO => log!(Level::INFO),
            _ => log!(Level::DEBUG),
        }
    }
}

/// Ends are for every log, doubts for everybody's attention, steps for close observers.
const fn level(notice: &Notice) -> Level {
    match notice {
        Notice::PersistFailed { .. } => Level::ERROR,
        Notice::Conflict
        | Notice::UnknownStatus(_)
        | Notice::Ended(Outcome::Unresolved(_))
        | Notice::Breaker(BreakerState::Open { .. }) => Level::WARN,
        Notice::Ended(_) | Notice::Breaker(_) => Level::INFO,
        _ => Level::DEBUG,
    }
}

/// What a log line says; the values are its fields.
const fn summary(notice: &Notice) -> &'static str {
    match notice {
        Notice::Sending(_) => "sending a request",
        Notice::Failed { .. } => "a request gave no usable answer",
        Notice::SameAnswer { .. } => "the same answer again: perhaps the provider has stored it for the key",
        Notice::Waiting { .. } => "waiting",
        Notice::Blocked { .. } => "waiting at the gate",
        Notice::Breaker(BreakerState::Open { .. }) => "the breaker opened: the provider is not asked for a while",
        Notice::Breaker(BreakerState::HalfOpen) => "the breaker is half-open: a probe may go",
        Notice::Breaker(_) => "the breaker closed: the provider answers again",
        Notice::Accepted => "the provider has the job",
        Notice::Pending { .. } => "the job is not done",
        Notice::Progress { .. } => "a part of the job is done",
        Notice::AwaitingPerson => "the job waits for a person",
        Notice::Partial => "a part of the result is there",
        Notice::UnknownStatus(_) => "the provider gave a status that is not known: it counts as pending",
        Notice::Webhook => "the provider told of the job by itself",
        Notice::ProvenAbsent => "the look-up proved that nothing ran",
        Notice::LateAnswer(_) => "an answer came after its time",
        Notice::Conflict => "the provider contradicts itself: the first answer stands",
        Notice::Absorbed => "an event changed nothing",
        Notice::PersistFailed { .. } => "a record could not be written",
        Notice::Restored => "taken up after a restart",
        Notice::Resumed => "it had ended as unresolved, and is polled on",
        Notice::Overslept => "its deadline passed unseen, as if the machine had slept: what fell due is still asked",
        Notice::Ended(outcome) => outcome.explain(),
        _ => "noticed",
    }
}
