//! A provider and transports in process.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use steadfast_blocking::{Client, Outgoing, SendError, Transport};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::operation::{Completed, Reading};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Key, Kind, OperationPolicy, Outcome, Reference, SendSafety};
use steadfast_providers::{Answer, Ask, Provider, RequestError};

pub(crate) const READY: Outcome = Outcome::Completed(Completed::Ready);

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// 201 accepts, 202 is pending, 200 is ready, 4xx refuse.
pub(crate) struct Plain(pub(crate) OperationPolicy);

/// Retries and polls within milliseconds.
pub(crate) fn swift() -> OperationPolicy {
    let soon = BackoffPolicy::new(Growth::Fixed(ms(1)), ms(1), Jitter::None).unwrap();
    let create = RetryPolicy::new(5, ms(60_000), ms(10_000), soon.clone()).unwrap();
    let poll = PollPolicy::new(soon, 1_000, ms(60_000), create.clone()).unwrap();
    let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
    OperationPolicy::default().with_create(create).unwrap().with_poll(poll).with_safety(keyed).unwrap()
}

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        self.0.clone()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let method = if ask.kind == Kind::Create { Method::POST } else { Method::GET };
        let request = Request::builder().method(method).uri("https://provider.test/jobs");
        request.body(ask.payload.bytes().clone()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match answer.status.as_u16() {
            201 => Ok(Reading::Accepted(Reference::new(String::from_utf8_lossy(answer.body)).unwrap())),
            202 => Ok(Reading::Pending { hint: None }),
            200 => Ok(Reading::Ready),
            418 => panic!("the profile has a bug"),
            400..=499 => Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
            _ => Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted)),
        }
    }
}

pub(crate) fn answer(status: u16, body: &str) -> Result<Response<Bytes>, SendError> {
    Ok(Response::builder().status(status).body(Bytes::from(body.to_owned())).unwrap())
}

/// Answers by a function.
pub(crate) struct Script<F>(pub(crate) F);

impl<F> Transport for Script<F>
where
    F: Fn(Outgoing) -> Result<Response<Bytes>, SendError> + Send + Sync + 'static,
{
    fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        self.0(outgoing)
    }
}

/// Accepts each job, and has it ready when it is asked for the third time.
pub(crate) fn willing() -> impl Fn(Outgoing) -> Result<Response<Bytes>, SendError> {
    let polls: Mutex<HashMap<Key, u32>> = Mutex::default();
    move |outgoing| match outgoing.attempt.kind {
        Kind::Create => answer(201, &format!("txn-{}", outgoing.key.as_str())),
        _ => {
            let mut polls = polls.lock().unwrap();
            let polls = polls.entry(outgoing.key).or_default();
            *polls += 1;
            if *polls < 3 { answer(202, "") } else { answer(200, "the result") }
        }
    }
}

/// Holds each request until it is let go.
pub(crate) struct Held {
    pub(crate) arrived: Receiver<Outgoing>,
    pub(crate) let_go: Sender<u16>,
}

pub(crate) fn held() -> (Held, impl Fn(Outgoing) -> Result<Response<Bytes>, SendError> + Send + Sync + 'static) {
    let (arrives, arrived) = channel();
    let (let_go, gone) = channel();
    let (arrives, gone) = (Mutex::new(arrives), Mutex::new(gone));
    let transport = move |outgoing| {
        let _ = arrives.lock().unwrap().send(outgoing);
        match gone.lock().unwrap().recv() {
            Ok(status) => answer(status, "txn-1"),
            Err(_) => Err(SendError::ambiguous()),
        }
    };
    (Held { arrived, let_go }, transport)
}

pub(crate) fn client(
    transport: impl Fn(Outgoing) -> Result<Response<Bytes>, SendError> + Send + Sync + 'static,
) -> Client {
    Client::builder(Plain(swift()), Script(transport)).start().unwrap()
}
