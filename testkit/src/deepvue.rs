//! The fake Deepvue without its sockets: requests and time in, answers and faults out.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use steadfast_core::{Kind, Seed, Timestamp};

use crate::faults::{Fault, Faults, share};
use crate::ledger::Ledger;

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
    outage: Option<Outage>,
}

/// A time in which nothing works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outage {
    /// Counted from the first request.
    after: Duration,
    lasting: Duration,
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

    /// With an outage that begins so long after the first request and lasts so long, both before the speed. In it every request gets a 503, and
    /// nothing runs; they are counted as faults of kind `outage`.
    pub const fn with_outage(mut self, after: Duration, lasting: Duration) -> Self {
        self.outage = Some(Outage { after, lasting });
        self
    }

    /// The provider without sockets.
    #[must_use]
    pub const fn brain(self) -> Brain {
        Brain {
            settings: self,
            jobs: BTreeMap::new(),
            by_key: BTreeMap::new(),
            asked: BTreeMap::new(),
            ledger: Ledger::new(),
            faults: BTreeMap::new(),
            opened: None,
        }
    }

    pub(crate) fn scaled(&self, span: Duration) -> Duration {
        crate::speed::divided(span, self.speed)
    }
}

/// The provider's mind: what it knows, and what it answers. No I/O, no clock.
#[derive(Debug)]
pub struct Brain {
    settings: FakeDeepvue,
    jobs: BTreeMap<String, Job>,
    /// The first create of each key: its payload and its job.
    by_key: BTreeMap<String, (Bytes, String)>,
    /// Requests so far, by whom they are about and their kind.
    asked: BTreeMap<(String, u8), u32>,
    ledger: Ledger,
    faults: BTreeMap<&'static str, u64>,
    /// When the first request came.
    opened: Option<Timestamp>,
}

#[derive(Debug)]
struct Job {
    ready_at: Timestamp,
    partial_first: bool,
    fails: bool,
}

/// What to answer, when, and how to spoil it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// The answer as the provider meant it, or as the fault made it.
    pub response: Response<Bytes>,
    /// How long it takes.
    pub delay: Duration,
    /// What the wire must do: reset the connection for [`Fault::ResetBefore`] and [`Fault::LoseAnswer`], declare too many bytes for
    /// [`Fault::WrongLength`]. The other faults are in the response already.
    pub fault: Option<Fault>,
}

impl Brain {
    /// Takes in one request.
    pub fn handle(&mut self, request: &Request<Bytes>, now: Timestamp) -> Reply {
        if self.is_down(now) {
            *self.faults.entry("outage").or_default() += 1;
            let response = detail(StatusCode::SERVICE_UNAVAILABLE, "Source Unavailable");
            return Reply { response, delay: Duration::ZERO, fault: None };
        }
        let asked = match Asked::of(request) {
            Ok(asked) => asked,
            Err((status, why)) => return Reply { response: detail(status, why), delay: Duration::ZERO, fault: None },
        };
        let nth = self.asked.entry((asked.whom.clone(), asked.kind as u8)).or_default();
        *nth += 1;
        let nth = *nth;
        let fault = self.settings.faults.draw(self.settings.seed, &asked.whom, asked.kind, nth);
        if let Some(fault) = fault {
            self.count(fault);
        }
        let meant = match fault {
            Some(fault) if !fault.executes() => Response::new(Bytes::new()),
            _ => self.carry_out(&asked, request.body(), nth, now),
        };
        let response = self.spoil(meant, fault, now);
        if asked.kind == Kind::Create {
            let lost = matches!(fault, Some(Fault::ResetBefore | Fault::LoseAnswer));
            let status = (!lost).then_some(response.status().as_u16());
            self.ledger.answered(&asked.whom, now, status, fault.is_none());
        }
        let delay =
            if fault == Some(Fault::Late) { self.settings.scaled(self.settings.lateness) } else { Duration::ZERO };
        Reply { response, delay, fault }
    }

    /// The provider's books.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Faults committed so far, by kind.
    #[must_use]
    pub const fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }

    /// Requests of this kind so far, spoilt ones too; not those of an outage, nor those without credentials.
    #[must_use]
    pub fn requests(&self, kind: Kind) -> u64 {
        self.asked.iter().filter(|((_, of), _)| *of == kind as u8).map(|(_, count)| u64::from(*count)).sum()
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        *self.faults.entry(fault.name()).or_default() += 1;
    }

    fn is_down(&mut self, now: Timestamp) -> bool {
        let since = now.saturating_since(*self.opened.get_or_insert(now));
        self.settings.outage.is_some_and(|Outage { after, lasting }| {
            let began = self.settings.scaled(after);
            began <= since && since < began.saturating_add(self.settings.scaled(lasting))
        })
    }

    fn carry_out(&mut self, asked: &Asked, body: &Bytes, nth: u32, now: Timestamp) -> Response<Bytes> {
        match asked.kind {
            Kind::Create => self.create(&asked.whom, body, now),
            Kind::Poll => self.poll(&asked.whom, nth, now),
            _ => self.find(&asked.whom),
        }
    }

    fn create(&mut self, key: &str, body: &Bytes, now: Timestamp) -> Response<Bytes> {
        if let Err((status, why)) = valid(body) {
            return detail(status, why);
        }
        if self.settings.keys == Keys::Honoured
            && let Some((first, transaction_id)) = self.by_key.get(key)
        {
            return if first == body {
                accepted(transaction_id, now)
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
        self.ledger.ran(key, now, transaction_id.clone());
        let response = accepted(&transaction_id, now);
        self.by_key.entry(key.into()).or_insert_with(|| (body.clone(), transaction_id));
        response
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
            Some((_, transaction_id)) if self.settings.keys == Keys::Lookup => {
                answer(StatusCode::OK, &json!({ "code": 200, "transaction_id": transaction_id }))
            }
            _ => detail(StatusCode::NOT_FOUND, "no such key"),
        }
    }

    /// Makes of an answer what a fault makes of it.
    fn spoil(&self, meant: Response<Bytes>, fault: Option<Fault>, now: Timestamp) -> Response<Bytes> {
        let wait = || self.settings.scaled(Duration::from_secs(2)).as_secs();
        let throttled = |after: String| {
            let mut response =
                detail(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded. Please retry after some time.");
            if let Ok(value) = HeaderValue::try_from(after) {
                response.headers_mut().insert(RETRY_AFTER, value);
            }
            response
        };
        match fault {
            Some(Fault::ErrorBefore(code) | Fault::ErrorAfter(code)) => {
                detail(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "something went wrong")
            }
            Some(Fault::Throttle) => throttled(wait().to_string()),
            Some(Fault::ThrottleUntil) => {
                let at = now.saturating_add(Duration::from_secs(wait()));
                throttled(httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_nanos(at.as_nanos())))
            }
            Some(Fault::Truncate) => meant.map(|body| body.slice(..body.len() / 2)),
            Some(Fault::Html) => {
                let mut page = Response::new(Bytes::from_static(b"<!doctype html><title>Please wait</title>"));
                page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
                page
            }
            _ => meant,
        }
    }
}

/// What a request asks for, once it has passed the door.
struct Asked {
    kind: Kind,
    /// The key of a create or a look-up, the transaction id of a poll.
    whom: String,
}

/// A status, and why.
type Denied = (StatusCode, &'static str);

impl Asked {
    fn of(request: &Request<Bytes>) -> Result<Self, Denied> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if header(AUTHORIZATION.as_str()).strip_prefix("Bearer ").is_none_or(str::is_empty) {
            return Err((StatusCode::UNAUTHORIZED, "the access token is missing"));
        }
        if header("x-api-key").is_empty() {
            return Err((StatusCode::FORBIDDEN, "the client secret is missing"));
        }
        let path = request.uri().path().strip_prefix("/v1/verification/").unwrap_or_default();
        let query = |name: &str| {
            let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.into_iter().find(|(found, _)| *found == name).map_or("", |(_, value)| value);
            percent_decode_str(value).decode_utf8_lossy().into_owned()
        };
        let (kind, whom) = match (request.method(), path.split_once('-')) {
            (&Method::POST, Some(("post", _))) => (Kind::Create, header("idempotency-key").to_owned()),
            (&Method::GET, Some(("get", _))) => (Kind::Poll, query("transaction_id")),
            (&Method::GET, Some(("find", _))) => (Kind::Lookup, query("key")),
            _ => return Err((StatusCode::NOT_FOUND, "no such endpoint")),
        };
        Ok(Self { kind, whom })
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

fn detail(status: StatusCode, text: &str) -> Response<Bytes> {
    answer(status, &json!({ "detail": text }))
}

fn answer(status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

const fn millis(now: Timestamp) -> u64 {
    now.as_nanos() / 1_000_000
}
