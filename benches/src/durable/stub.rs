//! A provider that answers at once, in memory.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Kind, OperationPolicy, Reference, SendSafety};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_tokio::{Outgoing, SendError, Transport};

use crate::names::Names;

/// What its requests and answers mean.
#[derive(Clone, Debug)]
pub struct Stub {
    policy: OperationPolicy,
}

impl Stub {
    /// The first poll at once.
    pub fn new() -> Self {
        Self::polling_first_after(Duration::ZERO)
    }

    /// The first poll after so long; further ones a second later.
    pub fn polling_first_after(first: Duration) -> Self {
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let waits = Growth::Table([first, second].into());
        let schedule = BackoffPolicy::new(waits, first.max(second), Jitter::None).expect("it makes sense");
        let poll = PollPolicy::new(schedule, 10, 2 * day, RetryPolicy::default()).expect("it makes sense");
        let policy = OperationPolicy::default().with_poll(poll).with_safety(SendSafety::Keyed { window: day });
        Self { policy: policy.expect("it makes sense") }
    }
}

impl Provider for Stub {
    fn name(&self) -> &str {
        "stub"
    }

    fn policy(&self) -> OperationPolicy {
        self.policy.clone()
    }

    /// Breaker and budget as by default; as many in the air as there are.
    fn gate(&self) -> GatePolicy {
        GatePolicy::default().with_bulkhead(None)
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let (method, uri) = match ask.kind {
            Kind::Create => ("POST", "https://stub.example/jobs"),
            _ => ("GET", "https://stub.example/jobs/1"),
        };
        let mut request = Request::new(ask.payload.bytes().clone());
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = http::Uri::from_static(uri);
        Ok(request)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        if answer.kind != Kind::Create {
            return Ok(Reading::Ready);
        }
        let reference = std::str::from_utf8(answer.body).ok().and_then(|text| Reference::new(text).ok());
        Ok(Reading::Accepted(reference.expect("the transport gives one")))
    }
}

/// Answers a create with a reference made of its key, and a poll with a small result.
#[derive(Clone, Copy, Debug)]
pub struct Instant(pub Names);

impl Transport for Instant {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let body = match outgoing.attempt.kind {
            Kind::Create => Bytes::from(self.0.reference(&outgoing.key)),
            _ => Bytes::from_static(b"{\"status\":\"complete\",\"result\":{\"match\":true}}"),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::OK;
        Ok(response)
    }
}
