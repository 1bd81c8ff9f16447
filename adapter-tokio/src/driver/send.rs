//! How a request leaves, and how what came of it comes back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

use http::HeaderValue;
use http::header::HeaderName;
use steadfast_core::operation::Attempt;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, OperationId, Timestamp};
use steadfast_providers::{Answer, Ask, Payload, Provider};

use super::{Answered, Driver};
use crate::client::FinalAnswer;
use crate::observe::CorrelationId;
use crate::transport::{Outgoing, Transport};

impl<P: Provider, T: Transport> Driver<P, T> {
    /// Sends a request on a task of its own, which brings back what came of it.
    pub(super) fn send(&mut self, id: OperationId, attempt: Attempt) {
        let now = self.clock.now();
        if self.job(id).is_none() {
            return;
        }
        let (Some(operation), Some(job)) = (self.engine.operation(id), self.jobs.get_mut(&id)) else { return };
        let unanswered = Answered {
            id,
            attempt: attempt.id,
            kind: attempt.kind,
            generation: self.renewal.generation,
            unauthorized: false,
            meaning: Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
            answer: None,
            quota: None,
        };
        let none = Payload::default();
        let payload = job.payload.as_ref().unwrap_or(&none);
        let ask = Ask::new(attempt.kind, operation.key(), operation.reference(), payload);
        // Jobs without a payload are parked before it comes to this; an empty body must not leave under their name.
        let lacks_payload = attempt.kind == Kind::Create && job.payload.is_none();
        let built =
            catch_unwind(AssertUnwindSafe(|| (!lacks_payload).then(|| self.provider.request(&ask)).transpose()));
        let mut request = match built {
            Ok(Ok(Some(request))) => request,
            failed => {
                let error = failed.ok().and_then(Result::err);
                let error = error.as_ref().map(|error| error as &dyn std::error::Error);
                tracing::error!(error, lacks_payload, "a request could not be built");
                let _ = self.answered.send(unanswered);
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
        let key = operation.key().clone();
        let previous = job.request.take();
        job.request = Some(tokio::spawn(async move {
            if let Some(previous) = previous {
                // An abandoned request is gone before the next one of its job leaves: never two at a time. How it went no longer matters.
                let _ = previous.await;
            }
            let answered_with = match transport.send(outgoing).await {
                Ok(response) => {
                    let (parts, body) = response.into_parts();
                    let wall = Timestamp::from(SystemTime::now());
                    let answer = Answer::new(attempt.kind, parts.status, &parts.headers, &body, wall).about(&key);
                    let quota = provider.quota(&answer).map(|quota| (attempt.kind, quota));
                    let meaning =
                        provider.read(&answer).map_err(|failure| failure.with_answer(provider.stored(&answer)));
                    let unauthorized = provider.is_unauthorized(&answer);
                    let answer = Some(FinalAnswer { status: parts.status, body });
                    Answered { unauthorized, meaning, answer, quota, ..unanswered }
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "a request brought no answer");
                    Answered { meaning: Err(error.failure()), ..unanswered }
                }
            };
            let _ = answered.send(answered_with);
        }));
    }
}
