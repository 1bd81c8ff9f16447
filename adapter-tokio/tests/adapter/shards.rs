//! Several shards are one client: once per key, one gate, one journal, one inbox, one renewal. Virtual time, on one
//! thread.

mod gate;
mod together;
mod told;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use steadfast_core::breaker::{BreakerPolicy, BreakerState};
use steadfast_core::gate::GatePolicy;
use steadfast_core::notice::Notice;
use steadfast_core::operation::Reading;
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, OperationPolicy, Seed, Timestamp};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_tokio::{Builder, Client, Outgoing, SendError, Transport};
use tokio::time::{Instant, sleep};

use crate::support::{Plain, answer, key};

const SECOND: Duration = Duration::from_secs(1);

/// `Plain`, which asks for a slower pace by 429 and tells what is left of its window.
struct Throttling;

impl Provider for Throttling {
    fn name(&self) -> &str {
        Plain.name()
    }

    fn policy(&self) -> OperationPolicy {
        Plain.policy()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<http::Request<Bytes>, RequestError> {
        Plain.request(ask)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        if answer.status == 429 {
            let failure = Failure::new(Class::Throttled, Certainty::NotExecuted);
            return Err(failure.with_retry_after(seconds(answer, "retry-after")));
        }
        Plain.read(answer)
    }

    fn quota(&self, answer: &Answer<'_>) -> Option<Quota> {
        let remaining = seconds(answer, "remaining")?.as_secs() as u32;
        Some(Quota { remaining: Some(remaining), reset: seconds(answer, "reset"), ..Quota::default() })
    }
}

fn seconds(answer: &Answer<'_>, header: &str) -> Option<Duration> {
    let value = answer.headers.get(header)?.to_str().ok()?;
    value.parse().ok().map(Duration::from_secs)
}

fn with(mut response: Response<Bytes>, headers: &[(&'static str, &'static str)]) -> Response<Bytes> {
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

/// What was sent, and when; it answers by a function of how many there were before, after so long.
#[derive(Clone)]
struct Upstream {
    began: Instant,
    takes: Duration,
    answers: Arc<dyn Fn(usize, Duration) -> Response<Bytes> + Send + Sync>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// When each left, and whose it was.
    sent: Vec<(Duration, String, Kind)>,
    in_the_air: usize,
    most_in_the_air: usize,
}

impl Upstream {
    fn new(takes: Duration, answers: impl Fn(usize, Duration) -> Response<Bytes> + Send + Sync + 'static) -> Self {
        Self { began: Instant::now(), takes, answers: Arc::new(answers), seen: Arc::default() }
    }

    /// Each create is the job's end.
    fn ready(takes: Duration) -> Self {
        Self::new(takes, |_, _| answer(200, "done"))
    }

    fn times(&self) -> Vec<Duration> {
        self.seen.lock().unwrap().sent.iter().map(|(at, ..)| *at).collect()
    }
}

impl Transport for Upstream {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let at = self.began.elapsed();
        let number = {
            let mut seen = self.seen.lock().unwrap();
            seen.sent.push((at, outgoing.key.as_str().to_owned(), outgoing.attempt.kind));
            seen.in_the_air += 1;
            seen.most_in_the_air = seen.most_in_the_air.max(seen.in_the_air);
            seen.sent.len() - 1
        };
        let response = (self.answers)(number, at);
        sleep(self.takes).await;
        self.seen.lock().unwrap().in_the_air -= 1;
        Ok(response)
    }
}

/// Submits `job-0` and so on at once, and waits for their ends, which it gives by name.
async fn carry(client: &Client, jobs: usize) -> Vec<&'static str> {
    let mut handles = Vec::new();
    for n in 0..jobs {
        handles.push(client.submit(key(&format!("job-{n}")), "{}").await.unwrap());
    }
    let mut outcomes = Vec::new();
    for handle in handles {
        outcomes.push(handle.await.unwrap().outcome.name());
    }
    outcomes
}

fn described<P: Provider>(provider: P, upstream: &Upstream, shards: usize) -> Builder<P, Upstream> {
    Client::builder(provider, upstream.clone()).seed(Seed::new(7)).shards(shards)
}

/// A gate that is open, but for this.
fn only(change: impl FnOnce(GatePolicy) -> GatePolicy) -> GatePolicy {
    change(GatePolicy::none())
}

/// When the breaker opened, and until when.
#[derive(Clone, Default)]
struct Openings(Arc<Mutex<Vec<(Timestamp, Timestamp)>>>);

impl Openings {
    fn watch<P: Provider>(&self, builder: Builder<P, Upstream>) -> Builder<P, Upstream> {
        let openings = self.0.clone();
        builder.observer(move |seen| {
            if let Notice::Breaker(BreakerState::Open { until }) = seen.notice {
                openings.lock().unwrap().push((seen.at, until));
            }
        })
    }
}

fn breaker(failures: u32) -> Option<BreakerPolicy> {
    Some(BreakerPolicy::consecutive(failures).unwrap())
}
