//! A provider and a transport in process, for virtual time: the transport is a script, the clock is tokio's, paused.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Kind, OperationPolicy, Reference, SendSafety};
use steadfast_providers::{Answer, Ask, Payload, Provider, RequestError};
use steadfast_tokio::{Outgoing, SendError, Transport};

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn keyed() -> OperationPolicy {
    OperationPolicy::default().with_safety(SendSafety::Keyed { window: DAY }).unwrap()
}

/// 201 accepts, 202 is pending, 200 is ready, 4xx refuses.
pub(crate) struct Plain;

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        keyed()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let (method, path, body) = match ask.kind {
            Kind::Poll => (Method::GET, ask.reference.ok_or(RequestError::NoReference)?.as_str(), Payload::default()),
            _ => (Method::POST, "", ask.payload.clone()),
        };
        let request = Request::builder().method(method).uri(format!("https://provider.test/jobs/{path}"));
        request
            .header("authorization", "Bearer canary-token")
            .header("idempotency-key", ask.key.as_str())
            .body(body.bytes().clone())
            .map_err(|_| RequestError::Unsendable("reference"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        let text = || String::from_utf8_lossy(answer.body).into_owned();
        match answer.status.as_u16() {
            201 => Reference::new(text())
                .map(Reading::Accepted)
                .map_err(|_| Failure::new(Class::Transient, Certainty::MayHaveExecuted)),
            202 => Ok(Reading::Pending { hint: None }),
            200 => Ok(Reading::Ready),
            400..=499 => Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
            _ => Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted)),
        }
    }
}

/// A profile that panics when asked for a request.
pub(crate) struct Broke;

impl Provider for Broke {
    fn name(&self) -> &str {
        "broke"
    }

    fn policy(&self) -> OperationPolicy {
        keyed()
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        panic!("the profile has a bug")
    }

    fn read(&self, _: &Answer<'_>) -> Result<Reading, Failure> {
        Ok(Reading::Ready)
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Bytes>, SendError>> + Send>>;
type Script = dyn Fn(Kind, u16, String) -> Answering + Send + Sync;

/// Answers by a function of kind, attempt number and key; counts what was sent.
#[derive(Clone)]
pub(crate) struct Scripted {
    script: Arc<Script>,
    sent: Arc<Mutex<BTreeMap<String, Vec<Kind>>>>,
}

impl Scripted {
    pub(crate) fn new<F, A>(script: F) -> Self
    where
        F: Fn(Kind, u16, String) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Response<Bytes>, SendError>> + Send + 'static,
    {
        Self { script: Arc::new(move |kind, number, key| Box::pin(script(kind, number, key))), sent: Arc::default() }
    }

    /// Accepts at once, is pending twice, then ready; 50 ms each.
    pub(crate) fn well_behaved() -> Self {
        Self::new(|kind, number, key| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(match (kind, number) {
                (Kind::Create, _) => answer(201, format!("txn-{key}")),
                (_, ..3) => answer(202, ""),
                _ => answer(200, r#"{"status":"verified"}"#),
            })
        })
    }

    pub(crate) fn sent(&self, key: &str) -> Vec<Kind> {
        self.sent.lock().unwrap().get(key).cloned().unwrap_or_default()
    }
}

impl Transport for Scripted {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let key = outgoing.key.as_str().to_owned();
        self.sent.lock().unwrap().entry(key.clone()).or_default().push(outgoing.attempt.kind);
        (self.script)(outgoing.attempt.kind, outgoing.attempt.number, key).await
    }
}

pub(crate) fn answer(status: u16, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}
