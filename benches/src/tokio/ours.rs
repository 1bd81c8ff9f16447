//! The whole client, over a provider and a transport that answer in the process.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::engine::Limits;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::operation::Reading;
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Key, Kind, OperationPolicy, Reference, SendSafety, Timestamp, journal};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};
use steadfast_tokio::{Client, Outgoing, SendError, Transport};
use tokio::task::JoinSet;

use super::model::{self, Waits, number, reference};

/// So many submit at the same time, each one job after the other.
const CALLERS: usize = 256;
const DAY: Duration = Duration::from_secs(86_400);

/// Where records go.
#[derive(Clone, Copy)]
pub enum Kept {
    Nowhere,
    Encoded,
    InMemory,
}

/// What callers do with their handles.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Handles {
    Held,
    Dropped,
}

pub async fn carry(
    keys: Vec<Box<str>>,
    waits: Waits,
    kept: Kept,
    handles: Handles,
    shards: usize,
    all_begun: impl FnOnce(),
) {
    // They are divided, and keys are not dealt out quite evenly.
    let live = keys.len() as u32 * if shards > 1 { 2 } else { 1 };
    let limits = Limits { live, ..Limits::default() };
    let builder = Client::builder(Model::new(waits), InProcess).limits(limits).shards(shards);
    let started = match kept {
        Kept::Nowhere => builder.start(),
        Kept::Encoded => builder.store(Encoding::default()).start(),
        Kept::InMemory => builder.store(MemoryStore::default()).start(),
    };
    let client = started.await.expect("it starts");
    let mut callers = JoinSet::new();
    let each = keys.len().div_ceil(CALLERS);
    let mut keys = keys.into_iter();
    loop {
        let keys: Vec<_> = keys.by_ref().take(each).collect();
        if keys.is_empty() {
            break;
        }
        let client = client.clone();
        callers.spawn(async move {
            let mut held = Vec::with_capacity(if handles == Handles::Held { keys.len() } else { 0 });
            for key in keys {
                let key = Key::new(key).expect("a key");
                let handle = client.submit(key, "{\"pan\":\"ABCDE1234F\"}").await.expect("it is taken in");
                if handles == Handles::Held {
                    held.push(handle);
                }
            }
            held
        });
    }
    drop(keys);
    let mut held = Vec::with_capacity(CALLERS);
    while let Some(more) = callers.join_next().await {
        held.push(more.expect("it does not panic"));
    }
    tokio::time::sleep(waits.unit / 8).await;
    all_begun();
    for handle in held.into_iter().flatten() {
        assert_eq!(handle.await.expect("it ends").outcome.name(), "completed");
    }
    assert!(client.shutdown(DAY).await.is_empty());
}

/// What requests and answers mean. They carry as little as is possible.
struct Model {
    waits: Waits,
    uri: Uri,
}

impl Model {
    fn new(waits: Waits) -> Self {
        Self { waits, uri: Uri::from_static("https://model.example/jobs") }
    }

    fn repeats(&self) -> RetryPolicy {
        let backoff = BackoffPolicy::new(Growth::doubling(self.waits.unit), self.waits.cap(), Jitter::Full);
        RetryPolicy::new(10, DAY, Duration::from_secs(10), backoff.expect("it makes sense")).expect("it makes sense")
    }
}

impl Provider for Model {
    fn name(&self) -> &str {
        "model"
    }

    fn policy(&self) -> OperationPolicy {
        let waits = Growth::Table([self.waits.unit, self.waits.cap()].into());
        let schedule = BackoffPolicy::new(waits, self.waits.cap(), Jitter::Equal).expect("it makes sense");
        let poll = PollPolicy::new(schedule, 10, DAY, self.repeats()).expect("it makes sense");
        let policy = OperationPolicy::default().with_poll(poll).with_safety(SendSafety::Keyed { window: 2 * DAY });
        policy.and_then(|policy| policy.with_create(self.repeats())).expect("it makes sense")
    }

    /// The default breaker, a retry budget that is never empty, a rate limit that nothing reaches; as many in the air
    /// as there are.
    fn gate(&self) -> GatePolicy {
        let rate = RatePolicy::new(1_000_000_000, Duration::from_secs(1)).and_then(|it| it.with_burst(u32::MAX));
        let budget = BudgetPolicy::default().with_capacity(1_000_000, 1_000_000).expect("it makes sense");
        let limit = RateLimit { kinds: Kinds::ALL, rate: rate.expect("it makes sense") };
        GatePolicy::default().with_bulkhead(None).with_budget(Some(budget)).with_rate_limit(limit)
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let (method, body) = match ask.kind {
            Kind::Create => (Method::POST, ask.payload.bytes().clone()),
            _ => (Method::GET, Bytes::new()),
        };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        Ok(request)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        Ok(match answer.body {
            b"pending" => Reading::Pending { hint: None },
            b"ready" => Reading::Ready,
            reference => {
                let reference = std::str::from_utf8(reference).ok().and_then(|text| Reference::new(text).ok());
                Reading::Accepted(reference.expect("the transport gives one"))
            }
        })
    }
}

struct InProcess;

impl Transport for InProcess {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let number = number(outgoing.key.as_str());
        let answer = model::answer(number, outgoing.attempt.id.0).map_err(|_| SendError::ambiguous())?;
        Ok(Response::new(match answer {
            model::Answer::Accepted => Bytes::from(reference(number)),
            model::Answer::Pending => Bytes::from_static(b"pending"),
            model::Answer::Ready => Bytes::from_static(b"ready"),
        }))
    }
}

/// Makes of records what would go to a disk, and keeps none.
#[derive(Default)]
struct Encoding {
    bytes: Vec<u8>,
}

impl Store for Encoding {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        for entry in entries {
            self.bytes.clear();
            journal::encode(&entry.record, &mut self.bytes);
            std::hint::black_box(&self.bytes);
        }
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        Ok(Vec::new())
    }

    fn find(&mut self, _: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(None)
    }

    fn forget(&mut self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn is_backup(&self) -> bool {
        false
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn blocks(&self) -> bool {
        false
    }
}
