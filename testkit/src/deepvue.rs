//! The fake Deepvue: what it says and knows, as its guide has it.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use steadfast_core::{Kind, Seed, Timestamp};

use crate::brain::{Api, Asked, Brain, Call, Denied, Habits, Outage, answer, detail, header, query};
use crate::faults::{Faults, share};
use crate::ledger::Ledger;
use crate::server::{FakeServer, serve};

/// What the provider does with a key that it has seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "kill-drill", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Keys {
    /// Runs it once, answers each repeat with the same job, refuses it with another payload.
    #[default]
    Honoured,
    /// Runs every create, but can be asked for the job of a key (`find-…?key=`).
    Lookup,
    /// Runs every create, as Deepvue itself may.
    Ignored,
}

/// A Deepvue to be started, over HTTP by [`start`](FakeDeepvue::start) or without sockets by [`brain`](FakeDeepvue::brain).
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is started"]
pub struct FakeDeepvue {
    pub(crate) seed: Seed,
    pub(crate) faults: Faults,
    pub(crate) keys: Keys,
    pub(crate) speed: f64,
    job_time: (Duration, Duration),
    lateness: Duration,
    failing: f64,
    storing: f64,
    key_memory: Duration,
    outage: Option<Outage>,
}

impl FakeDeepvue {
    /// Honours keys, makes no faults, takes 5 to 30 seconds for a job (as Deepvue's guide says).
    pub fn new(seed: u64) -> Self {
        Self {
            seed: Seed::new(seed),
            faults: Faults::none(),
            keys: Keys::default(),
            speed: 1.0,
            job_time: (Duration::from_secs(5), Duration::from_secs(30)),
            lateness: Duration::from_secs(15),
            failing: 0.0,
            storing: 0.0,
            key_memory: Duration::from_secs(86_400),
            outage: None,
        }
    }

    /// With these faults.
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Treating keys like this.
    pub const fn with_keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    /// With every delay divided by this: job times, lateness, waits it asks for, moments without a port. A `Retry-After` is in whole seconds, so
    /// what is left of one after the division is rounded down, often to 0.
    pub const fn with_speed(mut self, speed: f64) -> Self {
        self.speed = speed;
        self
    }

    /// With jobs that take from `least` to `most`, before the speed.
    pub const fn with_job_time(mut self, least: Duration, most: Duration) -> Self {
        self.job_time = (least, most);
        self
    }

    /// With late answers this late, before the speed. Default 15 s: later than the default policies wait for an answer (10 s).
    pub const fn with_lateness(mut self, lateness: Duration) -> Self {
        self.lateness = lateness;
        self
    }

    /// With this share of all jobs failing at the provider. Default 0.
    pub const fn with_failing(mut self, share: f64) -> Self {
        self.failing = share;
        self
    }

    /// With this share of all keys met by a 500 after they ran, which is stored and given to each repeat, as Stripe does. Only where keys are honoured.
    /// Default 0.
    pub const fn with_stored_failures(mut self, share: f64) -> Self {
        self.storing = share;
        self
    }

    /// Forgetting a key so long after its first use, before the speed: a repeat after that runs again. Default a day.
    pub const fn with_key_memory(mut self, span: Duration) -> Self {
        self.key_memory = span;
        self
    }

    /// With an outage that begins so long after the first request and lasts so long, both before the speed. In it every request gets a 503, and
    /// nothing runs; they are counted as faults of kind `outage`.
    pub const fn with_outage(mut self, after: Duration, lasting: Duration) -> Self {
        self.outage = Some(Outage { after, lasting });
        self
    }

    /// The provider without sockets.
    #[must_use]
    pub fn brain(self) -> Brain {
        let Self { seed, faults, speed, lateness, outage, .. } = self.clone();
        let deepvue = Deepvue { settings: self, jobs: BTreeMap::new(), by_key: BTreeMap::new() };
        Brain::new(Habits { seed, faults, speed, lateness, outage }, deepvue)
    }

    /// Starts it on a port of its own, on the current tokio runtime.
    ///
    /// # Errors
    /// No port could be had.
    pub fn start(self) -> io::Result<FakeServer> {
        serve(self.brain())
    }

    fn scaled(&self, span: Duration) -> Duration {
        crate::speed::divided(span, self.speed)
    }
}

impl From<FakeDeepvue> for Brain {
    fn from(fake: FakeDeepvue) -> Self {
        fake.brain()
    }
}

#[derive(Debug)]
struct Deepvue {
    settings: FakeDeepvue,
    jobs: BTreeMap<String, Job>,
    by_key: BTreeMap<String, First>,
}

/// The first create of a key.
#[derive(Debug)]
struct First {
    payload: Bytes,
    transaction_id: String,
    at: Timestamp,
    /// What each repeat is answered.
    answer: Response<Bytes>,
}

#[derive(Debug)]
struct Job {
    ready_at: Timestamp,
    partial_first: bool,
    fails: bool,
}

impl Api for Deepvue {
    fn asked(&self, request: &Request<Bytes>) -> Result<Asked, Denied> {
        if header(request, AUTHORIZATION.as_str()).strip_prefix("Bearer ").is_none_or(str::is_empty) {
            return Err((StatusCode::UNAUTHORIZED, "the access token is missing"));
        }
        if header(request, "x-api-key").is_empty() {
            return Err((StatusCode::FORBIDDEN, "the client secret is missing"));
        }
        let path = request.uri().path().strip_prefix("/v1/verification/").unwrap_or_default();
        let (kind, whom) = match (request.method(), path.split_once('-')) {
            (&Method::POST, Some(("post", _))) => (Kind::Create, header(request, "idempotency-key").to_owned()),
            (&Method::GET, Some(("get", _))) => (Kind::Poll, query(request, "transaction_id")),
            (&Method::GET, Some(("find", _))) => (Kind::Lookup, query(request, "key")),
            _ => return Err((StatusCode::NOT_FOUND, "no such endpoint")),
        };
        Ok(Asked { kind, whom })
    }

    fn carry_out(&mut self, call: &Call<'_>, ledger: &mut Ledger) -> Response<Bytes> {
        let Call { asked: Asked { kind, whom }, request, nth, now } = *call;
        match kind {
            Kind::Create => self.create(whom, request.body(), now, ledger),
            Kind::Poll => self.poll(whom, nth, now),
            _ => self.find(whom),
        }
    }

    fn down(&self) -> Response<Bytes> {
        detail(StatusCode::SERVICE_UNAVAILABLE, "Source Unavailable")
    }

    fn throttled(&self, _kind: Kind, _until: Timestamp) -> Response<Bytes> {
        detail(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded. Please retry after some time.")
    }
}

impl Deepvue {
    fn create(&mut self, key: &str, body: &Bytes, now: Timestamp, ledger: &mut Ledger) -> Response<Bytes> {
        if let Err((status, why)) = valid(body) {
            return detail(status, why);
        }
        let memory = self.settings.scaled(self.settings.key_memory);
        if self.settings.keys == Keys::Honoured
            && let Some(first) = self.by_key.get(key).filter(|first| now < first.at.saturating_add(memory))
        {
            return if first.payload == body {
                first.answer.clone()
            } else {
                detail(StatusCode::UNPROCESSABLE_ENTITY, "this Idempotency-Key was used with another payload")
            };
        }
        let draw = self.settings.seed.derive_bytes(b"jobs").derive(self.jobs.len() as u64);
        let transaction_id = format!("{:016x}{:08x}", draw.value(), self.jobs.len());
        let (least, most) = self.settings.job_time;
        let time = Duration::from_nanos(draw.derive(1).between(least.as_nanos() as u64, most.as_nanos() as u64));
        let job = Job {
            ready_at: now.saturating_add(self.settings.scaled(time)),
            partial_first: share(draw.derive(2)) < 0.1,
            fails: share(draw.derive(3)) < self.settings.failing,
        };
        self.jobs.insert(transaction_id.clone(), job);
        ledger.ran(key, now, transaction_id.clone());
        let answer = if share(draw.derive(4)) < self.settings.storing {
            detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        } else {
            accepted(&transaction_id, now)
        };
        let first = First { payload: body.clone(), transaction_id, at: now, answer: answer.clone() };
        // Where keys are asked for, the first one is what is found; where it was forgotten, the repeat is the first.
        if self.settings.keys == Keys::Honoured {
            self.by_key.insert(key.into(), first);
        } else {
            self.by_key.entry(key.into()).or_insert(first);
        }
        answer
    }

    fn poll(&mut self, transaction_id: &str, nth: u32, now: Timestamp) -> Response<Bytes> {
        let Some(job) = self.jobs.get_mut(transaction_id) else {
            return detail(StatusCode::NOT_FOUND, "no such transaction");
        };
        let body = |data: Value| json!({ "code": 200, "timestamp": millis(now), "transaction_id": transaction_id, "data": data });
        if now < job.ready_at {
            let empty = share(self.settings.seed.derive_bytes(transaction_id.as_bytes()).derive(u64::from(nth))) < 0.2;
            return if empty {
                answer(StatusCode::OK, &body(json!({})))
            } else {
                answer(StatusCode::ACCEPTED, &json!({ "message": "Request is still being processed" }))
            };
        }
        if job.fails {
            return answer(
                StatusCode::OK,
                &json!({ "code": 200, "transaction_id": transaction_id, "status": "failed" }),
            );
        }
        if std::mem::take(&mut job.partial_first) {
            return answer(StatusCode::OK, &body(json!({ "status": "partial", "name": null })));
        }
        answer(StatusCode::OK, &body(json!({ "status": "id_found", "name": "A. Person", "class_of_vehicle": ["LMV"] })))
    }

    fn find(&self, key: &str) -> Response<Bytes> {
        match self.by_key.get(key) {
            Some(first) if self.settings.keys == Keys::Lookup => {
                answer(StatusCode::OK, &json!({ "code": 200, "transaction_id": first.transaction_id }))
            }
            _ => detail(StatusCode::NOT_FOUND, "no such key"),
        }
    }
}

/// What Deepvue checks before it takes a request on.
fn valid(body: &Bytes) -> Result<(), Denied> {
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return Err((StatusCode::BAD_REQUEST, "the body is no JSON object"));
    };
    if body.get("consent") != Some(&json!("Y")) || !body.contains_key("reason") {
        return Err((StatusCode::UNPROCESSABLE_ENTITY, "consent must be Y, and a reason be given"));
    }
    Ok(())
}

fn accepted(transaction_id: &str, now: Timestamp) -> Response<Bytes> {
    let body = json!({
        "code": 200, "timestamp": millis(now), "transaction_id": transaction_id, "message": "Request accepted"
    });
    answer(StatusCode::OK, &body)
}

const fn millis(now: Timestamp) -> u64 {
    now.as_nanos() / 1_000_000
}
