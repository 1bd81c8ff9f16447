//! The fake Deepvue: its answers, as the guide documents them.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use steadfast_core::{Kind, Seed, Timestamp};
use steadfast_providers::deepvue::Shape;

use crate::brain::{Api, Asked, Brain, Call, Denied, Habits, Outage, answer, detail, header, query};
use crate::faults::{Faults, share};
use crate::ledger::Ledger;
use crate::server::{FakeServer, serve};

/// What the provider does with a key that it has seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "kill-drill", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Keys {
    /// Runs it once, answers each repeat with the same job, and refuses it with another payload.
    #[default]
    Honoured,
    /// Runs every create, but can be asked for the job of a key (`find-…?key=`).
    Lookup,
    /// Runs every create, as Deepvue itself may.
    Ignored,
}

/// A Deepvue to be started, over HTTP by [`start`](FakeDeepvue::start) or without sockets by
/// [`brain`](FakeDeepvue::brain).
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
    shape: Shape,
    token_life: Option<Duration>,
    /// A product, and when its source is down.
    source_down: Option<(String, Outage)>,
    outage: Option<Outage>,
}

impl FakeDeepvue {
    /// A fake that honours keys, makes no faults, and takes 5 to 30 seconds for a job (as Deepvue's guide says).
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
            key_memory: Duration::MAX,
            shape: Shape::Guide,
            token_life: None,
            source_down: None,
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

    /// With every delay divided by this: job times, lateness, waits it asks for, moments with the port closed. A
    /// `Retry-After` is in whole seconds, so after the division it is rounded down, often to 0.
    pub const fn with_speed(mut self, speed: f64) -> Self {
        self.speed = speed;
        self
    }

    /// With jobs that take from `least` to `most`, before the speed.
    pub const fn with_job_time(mut self, least: Duration, most: Duration) -> Self {
        self.job_time = (least, most);
        self
    }

    /// With late answers this late, before the speed. Default 15 s: later than the default policies wait for an answer
    /// (10 s).
    pub const fn with_lateness(mut self, lateness: Duration) -> Self {
        self.lateness = lateness;
        self
    }

    /// With this share of all jobs failing at the provider. Default 0.
    pub const fn with_failing(mut self, share: f64) -> Self {
        self.failing = share;
        self
    }

    /// With this share of all keys answered by a 500 after they ran, which is stored and replayed to each repeat, as
    /// Stripe does. Only where keys are honoured. Default 0.
    pub const fn with_stored_failures(mut self, share: f64) -> Self {
        self.storing = share;
        self
    }

    /// With keys that are forgotten this long after their first use, before the speed: a repeat after that runs again.
    /// Default: never.
    pub const fn with_key_memory(mut self, span: Duration) -> Self {
        self.key_memory = span;
        self
    }

    /// Following this one of Deepvue's pages. Default [`Shape::Guide`].
    pub const fn with_shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// With access tokens that expire this long after their first use, before the speed. Default: never.
    pub const fn with_token_life(mut self, life: Duration) -> Self {
        self.token_life = Some(life);
        self
    }

    /// With the source of one product down: from `after` (counted from the product's first request) on, for `lasting`,
    /// both before the speed. Requests for it get a 503, "Source Unavailable", and run nothing; other products are
    /// served.
    pub fn with_source_down(mut self, product: &str, after: Duration, lasting: Duration) -> Self {
        self.source_down = Some((product.into(), Outage { after, lasting }));
        self
    }

    /// With an outage that begins `after` the first request and goes on for `lasting`, both before the speed. During it
    /// every request gets a 503, and nothing runs; these are counted as faults of kind `outage`.
    pub const fn with_outage(mut self, after: Duration, lasting: Duration) -> Self {
        self.outage = Some(Outage { after, lasting });
        self
    }

    /// The provider without sockets.
    #[must_use]
    pub fn brain(self) -> Brain {
        let Self { seed, faults, speed, lateness, outage, .. } = self.clone();
        let deepvue = Deepvue {
            settings: self,
            jobs: BTreeMap::new(),
            by_key: BTreeMap::new(),
            tokens: BTreeMap::new(),
            source_asked: None,
        };
        Brain::new(Habits { seed, faults, speed, lateness, outage }, deepvue)
    }

    /// Starts it on a port of its own, on the current tokio runtime; without one, on a thread of its own.
    ///
    /// # Errors
    /// No port could be opened.
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
    /// When each access token was first used.
    tokens: BTreeMap<String, Timestamp>,
    /// When the product whose source will be down was first asked for.
    source_asked: Option<Timestamp>,
}

/// The first create of a key.
#[derive(Debug)]
struct First {
    payload: Bytes,
    transaction_id: String,
    at: Timestamp,
    /// The answer to each repeat.
    answer: Response<Bytes>,
}

#[derive(Debug)]
struct Job {
    began: Timestamp,
    ready_at: Timestamp,
    /// For a batch.
    records: Option<u32>,
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
        let id = match self.settings.shape {
            Shape::Reference => "request_id",
            _ => "transaction_id",
        };
        let (kind, whom) = match (request.method(), path.split_once('-')) {
            (&Method::POST, _) if path.ends_with("/batch") => {
                (Kind::Create, header(request, "idempotency-key").to_owned())
            }
            (&Method::GET, _) if path == BATCH_STATUS => (Kind::Poll, query(request, "request_id")),
            (&Method::POST, Some(("post", _))) => (Kind::Create, header(request, "idempotency-key").to_owned()),
            (&Method::GET, Some(("get", _))) => (Kind::Poll, query(request, id)),
            (&Method::GET, Some(("find", _))) => (Kind::Lookup, query(request, "key")),
            _ => return Err((StatusCode::NOT_FOUND, "no such endpoint")),
        };
        Ok(Asked { kind, whom })
    }

    fn carry_out(&mut self, call: &Call<'_>, ledger: &mut Ledger) -> Response<Bytes> {
        let Call { asked: Asked { kind, whom }, request, nth, now } = *call;
        if let Some(life) = self.settings.token_life.map(|life| self.settings.scaled(life)) {
            let token = header(request, AUTHORIZATION.as_str()).to_owned();
            if now >= self.tokens.entry(token).or_insert(now).saturating_add(life) {
                return detail(StatusCode::UNAUTHORIZED, "Token expired");
            }
        }
        if self.is_source_down(request.uri().path(), now) {
            return self.down();
        }
        match kind {
            Kind::Create => self.create(whom, request, now, ledger),
            Kind::Poll if request.uri().path().ends_with(BATCH_STATUS) => self.batch_status(whom, now),
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
    fn is_source_down(&mut self, path: &str, now: Timestamp) -> bool {
        let Some((_, Outage { after, lasting })) =
            self.settings.source_down.as_ref().filter(|(product, _)| path.contains(product.as_str()))
        else {
            return false;
        };
        let since = now.saturating_since(*self.source_asked.get_or_insert(now));
        let began = self.settings.scaled(*after);
        began <= since && since < began.saturating_add(self.settings.scaled(*lasting))
    }

    fn create(&mut self, key: &str, request: &Request<Bytes>, now: Timestamp, ledger: &mut Ledger) -> Response<Bytes> {
        let body = request.body();
        let records = match records(request) {
            Some(Ok(records)) => Some(records),
            None => match valid(body) {
                Ok(()) => None,
                Err((status, why)) => return detail(status, why),
            },
            Some(Err((status, why))) => return detail(status, why),
        };
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
            began: now,
            records,
            ready_at: now.saturating_add(self.settings.scaled(time)),
            partial_first: share(draw.derive(2)) < 0.1,
            fails: share(draw.derive(3)) < self.settings.failing,
        };
        self.jobs.insert(transaction_id.clone(), job);
        ledger.ran(key, now, transaction_id.clone());
        let answer = if share(draw.derive(4)) < self.settings.storing {
            detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
        } else {
            self.accepted(&transaction_id, records, now)
        };
        let first = First { payload: body.clone(), transaction_id, at: now, answer: answer.clone() };
        // With look-ups, the first job of a key is found; if the key was forgotten, the repeat counts as the first.
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
        if self.settings.shape == Shape::Reference {
            return by_reference(transaction_id, job, now);
        }
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

    /// The answer of the reference for a finished batch; answers before that are an inference.
    fn batch_status(&mut self, request_id: &str, now: Timestamp) -> Response<Bytes> {
        let Some((job, records)) = self.jobs.get_mut(request_id).and_then(|job| job.records.map(|count| (job, count)))
        else {
            return detail(StatusCode::NOT_FOUND, "no such batch");
        };
        let file = format!("https://files.deepvue.test/{request_id}.csv?signature=canary");
        let (passed, whole) = (now.saturating_since(job.began), job.ready_at.saturating_since(job.began));
        let done =
            (f64::from(records) * (passed.as_secs_f64() / whole.as_secs_f64().max(1e-9))).min(f64::from(records));
        let (status, message, url) = if now >= job.ready_at {
            (200, "batch processing completed", file.as_str())
        } else if job.partial_first && done * 2.0 >= f64::from(records) {
            (202, "batch processing in progress", file.as_str())
        } else {
            (202, "batch processing in progress", "")
        };
        let data = json!({ "request_id": request_id, "status": status, "product_id": "", "message": message,
            "processed_records": done as u32, "total_records": records, "batch_output_file_url": url });
        let message = "Batch Upload status fetched successfully";
        let body =
            json!({ "code": 200, "sub_code": "SUCCESS", "timestamp": millis(now), "message": message, "data": data });
        answer(StatusCode::OK, &body)
    }

    fn accepted(&self, id: &str, records: Option<u32>, now: Timestamp) -> Response<Bytes> {
        if records.is_some() {
            let body = json!({ "code": 201, "timestamp": millis(now), "transaction_id": id, "request_id": id,
                "message": "batch processing in progress", "sub_code": "SUCCESS", "output_batch_file": "" });
            return answer(StatusCode::CREATED, &body);
        }
        match self.settings.shape {
            Shape::Reference => answer(StatusCode::OK, &json!({ "request_id": id })),
            _ => accepted(id, now),
        }
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

const BATCH_STATUS: &str = "batch-processing-status";

/// The API reference's shape, which is IDfy's.
fn by_reference(request_id: &str, job: &Job, now: Timestamp) -> Response<Bytes> {
    let mut body = json!({ "action": "verify_with_source", "created_at": "2024-01-01T00:00:00Z", "group_id": "g", "request_id": request_id,
        "task_id": "t", "type": "ind_driving_license", "status": "in_progress" });
    if now >= job.ready_at {
        body["status"] = if job.fails { "failed".into() } else { "completed".into() };
        body["completed_at"] = "2024-01-01T00:00:30Z".into();
        if !job.fails {
            body["result"] = json!({ "source_output": { "status": "id_found", "name": "A. Person" } });
        }
    }
    answer(StatusCode::OK, &body)
}

/// How many records a batch has: the lines of its file except the first. `None` if the request is not a batch.
fn records(request: &Request<Bytes>) -> Option<Result<u32, Denied>> {
    const BAD: Denied = (StatusCode::UNPROCESSABLE_ENTITY, "there is no batch_file with records in it");
    request.uri().path().ends_with("/batch").then(|| {
        let kind = header(request, CONTENT_TYPE.as_str());
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").ok_or(BAD)?;
        let text = std::str::from_utf8(request.body()).map_err(|_| BAD)?;
        let part = text.strip_prefix(&format!("--{boundary}\r\n")).ok_or(BAD)?;
        let part = part.strip_suffix(&format!("\r\n--{boundary}--\r\n")).ok_or(BAD)?;
        let (head, file) = part.split_once("\r\n\r\n").ok_or(BAD)?;
        let lines = file.lines().filter(|line| !line.trim().is_empty()).count();
        let named = head.contains("name=\"batch_file\"");
        u32::try_from(lines.saturating_sub(1)).ok().filter(|records| named && *records > 0).ok_or(BAD)
    })
}

/// The checks that Deepvue makes before it accepts a request.
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
