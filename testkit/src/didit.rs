//! The fake Didit: its answers, as the documentation gives them.
//!
//! `POST /v3/session/`, `GET /v3/session/{id}/decision/`, `GET /v3/sessions/`, and `POST /v3/aml/`, the only one that
//! honours idempotency keys. Like Didit it answers a create with an existing unfinished session of the same
//! `vendor_data`, but only of the workflow's newest version; if the workflow is [published
//! anew](FakeDidit::with_republishing) between two creates, or the session has been finished, a second one is made. So
//! a client that repeats a create blindly is lucky at best, and the ledger shows when it was not.

mod aml;
mod session;
mod webhooks;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use serde_json::{Value, json};
use steadfast_core::{Kind, Timestamp};
use steadfast_providers::didit::{Limits, Status};
use steadfast_providers::webhook::SetupError;

use self::aml::Screenings;
use self::session::Session;
use self::webhooks::{Destination, Outbox};
use crate::brain::{Api, Asked, Brain, Call, Denied, Habits, Outage, answer, detail, header, query};
use crate::faults::{Faults, share};
use crate::ledger::Ledger;
use crate::server::{FakeServer, serve};
use crate::webhooks::{WebhookFaults, WebhookPost};

/// A Didit to be started, over HTTP by [`start`](FakeDidit::start) or without sockets by [`brain`](FakeDidit::brain).
///
/// ```
/// use steadfast_testkit::{FakeDidit, Faults};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let didit = FakeDidit::new(7).with_faults(Faults::rate(0.3)).with_republishing(0.5).with_speed(100.0).start()?;
/// println!("point your client at {}", didit.base_url());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until it is started"]
pub struct FakeDidit {
    habits: Habits,
    republishing: f64,
    person_time: (Duration, Duration),
    review_time: (Duration, Duration),
    reviewed: f64,
    undecided: f64,
    business: bool,
    listing_lag: Duration,
    screening_time: Duration,
    limits: Option<Limits>,
    webhooks: Option<Destination>,
    webhook_faults: WebhookFaults,
}

impl FakeDidit {
    /// A fake that makes no faults; people take 1 to 10 minutes for each of their steps, one session in ten is reviewed
    /// (5 to 60 minutes), one in twenty never decided. It lists a session at once, publishes no workflow anew, and has
    /// no rate limit.
    pub fn new(seed: u64) -> Self {
        let minutes = |least: u64, most: u64| (Duration::from_secs(60 * least), Duration::from_secs(60 * most));
        Self {
            habits: Habits::new(seed),
            republishing: 0.0,
            person_time: minutes(1, 10),
            review_time: minutes(5, 60),
            reviewed: 0.1,
            undecided: 0.05,
            business: false,
            listing_lag: Duration::ZERO,
            screening_time: Duration::ZERO,
            limits: None,
            webhooks: None,
            webhook_faults: WebhookFaults::none(),
        }
    }

    /// With these faults.
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.habits.faults = faults;
        self
    }

    /// With every delay divided by this: people's times, lateness, lags, windows. Values in whole seconds are rounded.
    pub const fn with_speed(mut self, speed: f64) -> Self {
        self.habits.speed = speed;
        self
    }

    /// With late answers this late, before the speed. Default 15 s: later than Didit's default policy waits for an
    /// answer (10 s).
    pub const fn with_lateness(mut self, lateness: Duration) -> Self {
        self.habits.lateness = lateness;
        self
    }

    /// With an outage that begins `after` the first request and goes on for `lasting`, both before the speed. During it
    /// every request gets a 503, and nothing runs; these are counted as faults of kind `outage`.
    pub const fn with_outage(mut self, after: Duration, lasting: Duration) -> Self {
        self.habits.outage = Some(Outage { after, lasting });
        self
    }

    /// With workflows published anew before this share of all creates, so that no earlier session is returned.
    /// Default: none (0).
    pub const fn with_republishing(mut self, share: f64) -> Self {
        self.republishing = share;
        self
    }

    /// With people who take from `least` to `most` for each of their steps, before the speed.
    pub const fn with_person_time(mut self, least: Duration, most: Duration) -> Self {
        self.person_time = (least, most);
        self
    }

    /// With this share of all sessions going to a reviewer, who takes from `least` to `most`, before the speed.
    pub const fn with_reviews(mut self, share: f64, least: Duration, most: Duration) -> Self {
        (self.reviewed, self.review_time) = (share, (least, most));
        self
    }

    /// With this share of all sessions ending without a decision: half of them abandoned, half never begun.
    pub const fn with_undecided(mut self, share: f64) -> Self {
        self.undecided = share;
        self
    }

    /// With companies' sessions, in which somebody has to act in between (*Awaiting User*), and which a list shows only
    /// on demand.
    pub const fn with_business(mut self, business: bool) -> Self {
        self.business = business;
        self
    }

    /// With sessions that are listed only this long after they were created, before the speed. Default: at once.
    pub const fn with_listing_lag(mut self, lag: Duration) -> Self {
        self.listing_lag = lag;
        self
    }

    /// With screenings that run for this long after their first request, before the speed: a repeat within it gets a
    /// 409 with `Retry-After`. Default: no time.
    pub const fn with_screening_time(mut self, time: Duration) -> Self {
        self.screening_time = time;
        self
    }

    /// With rate limits enforced, in sliding windows of 60 s before the speed. Default none.
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// With webhooks, posted to this `http` URL and signed with this secret: an event for every status that a session
    /// takes on, sent again as Didit does after a 5xx, a 404 or no answer within 5 s (at any speed at least half a
    /// second).
    ///
    /// # Errors
    /// A secret that is empty or has white space around it.
    ///
    /// ```
    /// use steadfast_testkit::{FakeDidit, WebhookFaults};
    ///
    /// let didit = FakeDidit::new(7).with_webhooks("http://127.0.0.1:8080/didit".parse()?, "secret")?;
    /// let didit = didit.with_webhook_faults(WebhookFaults::rate(0.3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_webhooks(mut self, url: Uri, secret: &str) -> Result<Self, SetupError> {
        self.webhooks = Some(Destination::new(url, secret)?);
        Ok(self)
    }

    /// With these faults of webhooks. Default none.
    pub fn with_webhook_faults(mut self, faults: WebhookFaults) -> Self {
        self.webhook_faults = faults;
        self
    }

    /// The provider without sockets. Its webhooks have to be popped: see [`Brain::pop_webhook`].
    #[must_use]
    pub fn brain(self) -> Brain {
        let habits = self.habits.clone();
        let didit = Didit {
            outbox: self.webhooks.clone().map(Outbox::new),
            held_back: Duration::ZERO,
            settings: self,
            sessions: Vec::new(),
            screenings: Screenings::default(),
            versions: BTreeMap::new(),
            windows: BTreeMap::new(),
            creates: 0,
        };
        Brain::new(habits, didit)
    }

    /// Starts it on a port of its own, on the current tokio runtime; without one, on a thread of its own.
    ///
    /// # Errors
    /// No port could be opened.
    pub fn start(self) -> io::Result<FakeServer> {
        serve(self.brain())
    }
}

impl From<FakeDidit> for Brain {
    fn from(fake: FakeDidit) -> Self {
        fake.brain()
    }
}

#[derive(Debug)]
struct Didit {
    settings: FakeDidit,
    /// In the order of their creation.
    sessions: Vec<Session>,
    screenings: Screenings,
    /// How often each workflow was published anew.
    versions: BTreeMap<String, u32>,
    /// Requests of the last minute, by scope.
    windows: BTreeMap<Scope, VecDeque<Timestamp>>,
    creates: u64,
    outbox: Option<Outbox>,
    /// How long the last answer is held back, so that it comes after a webhook about the same session.
    held_back: Duration,
}

/// The path of screenings.
const AML: &str = "/v3/aml/";

/// The groups of requests that have a rate limit of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Creates,
    Writes,
    Reads,
}

impl Api for Didit {
    fn asked(&self, request: &Request<Bytes>) -> Result<Asked, Denied> {
        if header(request, "x-api-key").is_empty() {
            return Err((StatusCode::FORBIDDEN, "You do not have permission to perform this action."));
        }
        let path = request.uri().path();
        let session = path.strip_prefix("/v3/session/").and_then(|path| path.strip_suffix("/decision/"));
        let (kind, whom) = match (request.method(), path, session) {
            (&Method::POST, "/v3/session/", _) => {
                let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
                (Kind::Create, body["vendor_data"].as_str().unwrap_or_default().to_owned())
            }
            (&Method::POST, AML, _) => (Kind::Create, header(request, "idempotency-key").to_owned()),
            (&Method::GET, "/v3/sessions/", _) => (Kind::Lookup, query(request, "vendor_data")),
            (&Method::GET, _, Some(id)) => (Kind::Poll, id.to_owned()),
            _ => return Err((StatusCode::NOT_FOUND, "Not found.")),
        };
        Ok(Asked { kind, whom })
    }

    fn carry_out(&mut self, call: &Call<'_>, ledger: &mut Ledger) -> Response<Bytes> {
        let Call { asked: Asked { kind, whom }, request, now, .. } = *call;
        self.held_back = Duration::ZERO;
        let screens = request.uri().path() == AML;
        let scopes: &[Scope] = match kind {
            Kind::Create if screens => &[Scope::Writes],
            Kind::Create => &[Scope::Creates, Scope::Writes],
            _ => &[Scope::Reads],
        };
        if let Err(until) = self.within_limits(scopes, now) {
            return self.throttled_for(*kind, until, now);
        }
        match kind {
            Kind::Create if screens => self.screenings.screen(whom, request.body(), now, &self.settings, ledger),
            Kind::Create => self.create(request.body(), now, ledger),
            Kind::Poll => self.decision(whom, now),
            _ => self.list(request, now),
        }
    }

    fn down(&self) -> Response<Bytes> {
        detail(StatusCode::SERVICE_UNAVAILABLE, "Service temporarily unavailable, try again later.")
    }

    fn throttled(&self, kind: Kind, until: Timestamp) -> Response<Bytes> {
        let limits = self.settings.limits.unwrap_or_default();
        let limit = if kind == Kind::Create { limits.writes } else { limits.reads };
        let mut response = detail(StatusCode::TOO_MANY_REQUESTS, "Request was throttled.");
        for (name, value) in
            [("limit", u64::from(limit)), ("remaining", 0), ("reset", until.as_nanos() / 1_000_000_000)]
        {
            if let Ok(name) = HeaderName::try_from(format!("x-ratelimit-{name}")) {
                response.headers_mut().insert(name, HeaderValue::from(value));
            }
        }
        response
    }

    fn held_back(&self) -> Duration {
        self.held_back
    }

    fn next_webhook(&self) -> Option<Timestamp> {
        self.outbox.as_ref()?.next()
    }

    fn pop_webhook(&mut self, now: Timestamp, ledger: &mut Ledger) -> Option<WebhookPost> {
        self.outbox.as_mut()?.pop(&self.sessions, &self.settings, now, ledger.webhooks_mut())
    }

    fn webhook_answered(&mut self, ticket: u64, status: Option<StatusCode>, now: Timestamp, ledger: &mut Ledger) {
        if let Some(outbox) = &mut self.outbox {
            outbox.answered(ticket, status, &self.settings, now, ledger.webhooks_mut());
        }
    }
}

impl Didit {
    fn create(&mut self, body: &Bytes, now: Timestamp, ledger: &mut Ledger) -> Response<Bytes> {
        let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
            return detail(StatusCode::BAD_REQUEST, "JSON parse error");
        };
        let Some(workflow) = body.get("workflow_id").and_then(Value::as_str) else {
            return answer(StatusCode::BAD_REQUEST, &json!({ "workflow_id": ["This field is required."] }));
        };
        let vendor_data = body.get("vendor_data").and_then(Value::as_str);
        let metadata = body.get("metadata").cloned().unwrap_or_default();
        self.creates += 1;
        let republished = share(self.settings.habits.seed.derive_bytes(b"publishing").derive(self.creates));
        let version = self.versions.entry(workflow.to_owned()).or_insert(1);
        *version += u32::from(republished < self.settings.republishing);
        let version = *version;

        let is_reused = |session: &&mut Session| {
            vendor_data.is_some()
                && session.vendor_data.as_deref() == vendor_data
                && (session.workflow.as_str(), session.version) == (workflow, version)
                && session.is_unfinished(now)
        };
        if let Some(session) = self.sessions.iter_mut().rev().find(is_reused) {
            session.metadata = metadata;
            return answer(StatusCode::CREATED, &created(session, now, self.settings.business));
        }
        let number = self.sessions.len() as u64 + 1;
        let mut session = Session::new(number, workflow.to_owned(), version, now, &self.settings);
        session.metadata = metadata;
        session.vendor_data = vendor_data.map(str::to_owned);
        ledger.ran(vendor_data.unwrap_or_default(), now, session.id.clone());
        let response = answer(StatusCode::CREATED, &created(&session, now, self.settings.business));
        if let Some(outbox) = &mut self.outbox {
            self.held_back = outbox.plan(self.sessions.len(), &session, &self.settings, ledger.webhooks_mut());
        }
        self.sessions.push(session);
        response
    }

    fn decision(&self, id: &str, now: Timestamp) -> Response<Bytes> {
        let Some(session) = self.sessions.iter().find(|session| session.id == id) else {
            return detail(StatusCode::NOT_FOUND, "Not found.");
        };
        answer(StatusCode::OK, &decision(session, session.status(now), self.settings.business))
    }

    /// Newest first.
    fn list(&self, request: &Request<Bytes>, now: Timestamp) -> Response<Bytes> {
        let (vendor_data, asked_kind) = (query(request, "vendor_data"), query(request, "session_kind"));
        let kinds: &[&str] = match asked_kind.as_str() {
            "" | "user" => &["user"],
            "business" => &["business"],
            "all" => &["user", "business"],
            _ => return answer(StatusCode::BAD_REQUEST, &json!({ "session_kind": ["Not a valid choice."] })),
        };
        let lag = self.settings.habits.scaled(self.settings.listing_lag);
        let ours = kind(self.settings.business);
        let found: Vec<&Session> = self
            .sessions
            .iter()
            .rev()
            .filter(|session| kinds.contains(&ours) && session.created_at.saturating_add(lag) <= now)
            .filter(|session| vendor_data.is_empty() || session.vendor_data.as_deref() == Some(vendor_data.as_str()))
            .collect();
        let limit = query(request, "limit").parse().unwrap_or(50);
        let offset: usize = query(request, "offset").parse().unwrap_or(0);
        let end = offset.saturating_add(limit);
        let page = |offset: usize| format!("https://verification.didit.me/v3/sessions/?limit={limit}&offset={offset}");
        let rows: Vec<Value> = found
            .iter()
            .skip(offset)
            .take(limit)
            .map(|session| {
                json!({
                    "session_id": session.id, "session_kind": ours, "session_number": session.number,
                    "session_url": url(session), "full_name": "Zoë Ångström", "country": "ESP",
                    "status": session.status(now).as_str(), "vendor_data": session.vendor_data,
                    "created_at": timestamp(session.created_at), "features": [],
                })
            })
            .collect();
        answer(
            StatusCode::OK,
            &json!({
                "count": found.len(), "next": (end < found.len()).then(|| page(end)),
                "previous": (offset > 0).then(|| page(offset.saturating_sub(limit))), "results": rows,
            }),
        )
    }

    /// Counts a request in its scopes; or, if one is full, returns when it opens again.
    fn within_limits(&mut self, scopes: &[Scope], now: Timestamp) -> Result<(), Timestamp> {
        let Some(limits) = self.settings.limits else { return Ok(()) };
        let minute = self.settings.habits.scaled(Duration::from_secs(60));
        for scope in scopes {
            let limit = match scope {
                Scope::Creates => limits.creates,
                Scope::Writes => limits.writes,
                Scope::Reads => limits.reads,
            };
            let window = self.windows.entry(*scope).or_default();
            while window.front().is_some_and(|first| first.saturating_add(minute) <= now) {
                window.pop_front();
            }
            if window.len() >= limit as usize {
                return Err(window.front().map_or(now, |first| first.saturating_add(minute)));
            }
        }
        for scope in scopes {
            self.windows.entry(*scope).or_default().push_back(now);
        }
        Ok(())
    }

    fn throttled_for(&self, kind: Kind, until: Timestamp, now: Timestamp) -> Response<Bytes> {
        let wait = until.saturating_since(now);
        let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let mut response = self.throttled(kind, now.saturating_add(Duration::from_secs(secs)));
        response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from(secs));
        response
    }
}

/// What Didit says about a session of this status, in its API and in webhooks.
fn decision(session: &Session, status: &Status, business: bool) -> Value {
    let verified = matches!(status, Status::Approved | Status::Declined | Status::InReview);
    let checked = |check: Value| if verified { json!([check]) } else { Value::Null };
    json!({
        "session_id": session.id, "session_number": session.number, "session_kind": kind(business),
        "session_url": url(session), "status": status.as_str(), "workflow_id": session.workflow,
        "vendor_data": session.vendor_data, "metadata": session.metadata, "created_at": timestamp(session.created_at),
        "id_verifications": checked(json!({ "status": status.as_str(), "full_name": "Zoë Ångström" })),
        "liveness_checks": checked(json!({ "status": "Approved", "score": 98.5 })),
        "aml_screenings": null,
    })
}

fn created(session: &Session, now: Timestamp, business: bool) -> Value {
    json!({
        "session_id": session.id, "session_number": session.number, "session_token": &session.id[..8],
        "url": url(session), "vendor_data": session.vendor_data, "metadata": session.metadata,
        "status": session.status(now).as_str(), "session_kind": kind(business), "workflow_id": session.workflow,
    })
}

const fn kind(business: bool) -> &'static str {
    if business { "business" } else { "user" }
}

fn url(session: &Session) -> String {
    format!("https://verify.didit.me/session/{}", &session.id[..8])
}

/// In ISO 8601, in UTC.
fn timestamp(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_nanosecond(at.as_nanos().into()).expect("any of them is before the year 2555");
    format!("{at:.6}")
}
