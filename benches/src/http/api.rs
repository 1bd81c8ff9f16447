//! The provider's API, as each client sees it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use serde::Deserialize;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Kind, OperationPolicy, Reference, SendSafety};
use steadfast_providers::{Answer, Ask, Provider, RequestError, status as meaning};

pub const TOKEN: &str = "a-token-of-the-length-that-such-tokens-have-0123456789";
pub const PAYLOAD: &str =
    r#"{"document_number":"ABCDE1234F","name":"A PERSON","date_of_birth":"1990-01-01","consent":"Y","reason":"KYC"}"#;

/// The answer to a create.
#[derive(Deserialize)]
pub struct Job {
    pub job_id: Box<str>,
}

impl Job {
    pub fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).expect("an answer to a create")
    }
}

/// The answer to a poll.
#[derive(Deserialize)]
pub struct Status<'a> {
    status: &'a str,
}

pub fn status(body: &[u8]) -> Status<'_> {
    serde_json::from_slice(body).expect("an answer to a poll")
}

impl Status<'_> {
    pub fn is_completed(&self) -> bool {
        self.status == "completed"
    }
}

/// As long as a UUID.
pub fn key(number: u64) -> String {
    format!("order-{number:030}")
}

/// For our clients: polls follow one another at once.
pub struct Api {
    create: Uri,
    bearer: HeaderValue,
    policy: OperationPolicy,
}

impl Api {
    pub fn new(base: &str) -> Self {
        let day = Duration::from_secs(86_400);
        let waits = BackoffPolicy::new(
            Growth::Table([Duration::ZERO, Duration::ZERO, Duration::ZERO, Duration::from_secs(1)].into()),
            Duration::from_secs(1),
            Jitter::None,
        );
        let poll = PollPolicy::new(waits.expect("it makes sense"), 10, day, RetryPolicy::default());
        let policy = OperationPolicy::default().with_poll(poll.expect("it makes sense"));
        Self {
            create: format!("{base}/jobs").parse().expect("a URI"),
            bearer: format!("Bearer {TOKEN}").parse().expect("a header"),
            policy: policy.with_safety(SendSafety::Keyed { window: 2 * day }).expect("it makes sense"),
        }
    }
}

impl Provider for Api {
    fn name(&self) -> &str {
        "loopback"
    }

    fn policy(&self) -> OperationPolicy {
        self.policy.clone()
    }

    /// Breaker and budget as by default; as many in the air as there are callers.
    fn gate(&self) -> GatePolicy {
        GatePolicy::default().with_bulkhead(None)
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let mut request = Request::new(Bytes::new());
        match (ask.kind, ask.reference) {
            (Kind::Create, _) => {
                *request.method_mut() = Method::POST;
                *request.uri_mut() = self.create.clone();
                *request.body_mut() = ask.payload.bytes().clone();
                let key = HeaderValue::from_str(ask.key.as_str()).expect("keys are what headers carry");
                request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                request.headers_mut().insert(HeaderName::from_static("idempotency-key"), key);
            }
            (_, Some(reference)) => {
                *request.uri_mut() = format!("{}/{}", self.create, reference.as_str()).parse().expect("a URI");
            }
            (_, None) => unreachable!("polls have a reference"),
        }
        request.headers_mut().insert(AUTHORIZATION, self.bearer.clone());
        Ok(request)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        if answer.status != StatusCode::OK {
            return Err(meaning::failure(answer));
        }
        Ok(if answer.kind == Kind::Create {
            Reading::Accepted(Reference::new(Job::of(answer.body).job_id).expect("a reference"))
        } else if status(answer.body).is_completed() {
            Reading::Ready
        } else {
            Reading::Pending { hint: None }
        })
    }
}
