//! Didit's verification sessions, and its screenings ([`DiditAml`]).
//!
//! By [its documentation](https://docs.didit.me/sessions-api/create-session): `POST /v3/session/` answers 201 with a
//! `session_id`; a person then goes through the session; `GET /v3/session/{id}/decision/` answers in the same shape
//! before and after the decision, and its `status` says how far the session is. What this profile makes of it:
//!
//! - **A session has no idempotency key.** Some blogs say otherwise, but [the error guide](https://docs.didit.me/integration/api-errors)
//!   says: after a time-out, list by `vendor_data` before creating another. So the key is put into the payload as
//!   `vendor_data`, and the safety is [`SendSafety::Lookup`]: nothing is sent again before `GET
//!   /v3/sessions/?vendor_data=…` has shown that there is no such session.
//! - **A 201 is no proof of a new session.** If an unfinished session with the same `vendor_data` exists, Didit returns
//!   that one, unless the workflow has been published anew since. That protects only against some repeats, so nothing
//!   here relies on it.
//! - **The person needs the session's page**, whose `url` stands in the create's answer and, as `session_url`, in every
//!   list of sessions. A session that was adopted by a look-up has one like any other. [`page()`] finds it in either
//!   answer.
//! - **People take their time.** Polls begin after 30 s and slow down to one in ten minutes, for a week: a thousand
//!   open sessions then cost a sixth of the read limit. Didit recommends webhooks ([`Didit::with_webhooks`]); polling
//!   makes up for deliveries that get lost. If a workflow's own expiry is longer than a week, set another policy.
//! - **Limits are per API key**, and a create counts twice: see [`Limits`].
//! - **The API key must see all sessions.** A key that is scoped to some workflows, or to approved sessions, does not
//!   list the others, and a look-up with it would say "no such job" of one that runs.
//!
//! # What an answer means
//!
//! | create | |
//! | --- | --- |
//! | 2xx with a `session_id` of letters, digits, `-` and `_` | accepted |
//! | 2xx with anything else, or with another `vendor_data` | a failure that may have executed |
//! | else | by its HTTP status ([`status`](crate::status)), whatever its body: Didit's errors have no common shape |
//!
//! | look-up | |
//! | --- | --- |
//! | 200 with an empty list | not found: nothing ran |
//! | 200 with sessions, all with the key as `vendor_data` | accepted: of several, the newest |
//! | 200 with anything else: another `vendor_data`, sessions of both kinds, a count that does not fit | transient; if it persists, a matter for a person |
//! | else, a 404 too | by its HTTP status ([`status`](crate::status)) |
//!
//! If several are listed, the newest session (by `session_number`) is adopted: the create in doubt was the last one
//! sent for this key. So a key must stand for one job, and not for a user who is verified every year. Sessions of
//! people and of companies are numbered separately, so a list with both kinds is not decided automatically. A list of
//! more than one page begins with the newest.
//!
//! | poll | |
//! | --- | --- |
//! | 200, `status` | by its [`Status`] |
//! | 200 without a `status` that is text, or with the `session_id` of another session | transient |
//! | 404 | not found; for the first minute pending |
//! | else | by its HTTP status ([`status`](crate::status)) |
//!
//! | `status` | |
//! | --- | --- |
//! | `Not Started`, `In Progress`, `Resubmitted` | pending |
//! | `Awaiting User`, `In Review` | awaiting a person; with [`Didit::with_stop_on_review`] a review ends the wait |
//! | `Approved`, `Declined`, `Kyc Expired` | ready |
//! | `Abandoned`, `Expired` | ended without a decision |
//! | another text | unknown, kept as text: treated as pending |
//!
//! A 429 names the time at which its window ends (`X-RateLimit-Reset`, seconds since 1970): without a `Retry-After`,
//! the wait lasts until then.
//!
//! # Example
//!
//! ```
//! use http::{HeaderMap, StatusCode};
//! use steadfast_core::operation::Reading;
//! use steadfast_core::{Key, Kind, Reference, Timestamp};
//! use steadfast_providers::didit::Didit;
//! use steadfast_providers::{Answer, Ask, BaseUrl, Payload, Provider};
//!
//! let didit = Didit::new(BaseUrl::parse(Didit::PRODUCTION)?, "YOUR_API_KEY")?;
//!
//! let key = Key::new("order-42")?;
//! let payload = Payload::from(r#"{"workflow_id":"d9e78474-6c8d-4f2a-bb90-6f5c2f3a1147"}"#);
//! let create = didit.request(&Ask::new(Kind::Create, &key, None, &payload))?;
//! assert_eq!(create.uri(), "https://verification.didit.me/v3/session/");
//! assert!(create.body().starts_with(br#"{"vendor_data":"order-42","#));
//!
//! // Send it with any HTTP client, with redirects off. Then:
//! let (headers, wall) = (HeaderMap::new(), Timestamp::from_secs(1_700_000_000));
//! let body = br#"{"session_id":"5b3720ed-d429-42ef-b67f-37ea805f48ee","status":"Not Started","vendor_data":"order-42"}"#;
//! let answer = Answer::new(Kind::Create, StatusCode::CREATED, &headers, body, wall).about(&key);
//! let session = Reference::new("5b3720ed-d429-42ef-b67f-37ea805f48ee")?;
//! assert_eq!(didit.read(&answer), Ok(Reading::Accepted(session)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aml;
mod limits;
mod page;
mod payload;
mod reading;
mod status;
mod webhook;

use core::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Key, Kind, OperationPolicy, PolicyError, Reference, SendSafety, Timestamp};

pub use self::aml::DiditAml;
pub use self::limits::Limits;
pub use self::page::page;
pub use self::status::{Stage, Status};
use crate::rate_limit::{Reset, quota};
use crate::webhook::{self as signed, DiditSignatures, Scheme, Verifier};
use crate::{Answer, Ask, BaseUrl, Payload, Provider, RequestError, Secret, SecretError, WebhookError, WebhookEvent};

/// How many sessions a look-up asks for: enough to detect several of one key and one kind, without fetching more
/// personal data than that.
const LISTED: &str = "10";

/// Didit's verification sessions, as one API key reaches them. See the [module](self).
#[derive(Clone, Debug)]
pub struct Didit {
    base: BaseUrl,
    api_key: ApiKey,
    policy: OperationPolicy,
    gate: GatePolicy,
    stop_on_review: bool,
    signatures: DiditSignatures,
    webhooks: Option<Verifier>,
}

impl Didit {
    /// Where Didit's API is: `https://verification.didit.me`.
    pub const PRODUCTION: &str = "https://verification.didit.me";

    /// The default wait between an ambiguous create and its look-up, after which a session is certainly listed: 60 s,
    /// since gateways give up at a minute or before. Didit does not say; as a rule a session is there within seconds.
    pub const SETTLE: Duration = Duration::from_secs(60);

    /// Sets up sessions for this API key (`x-api-key`), within [`Limits::default`].
    ///
    /// # Errors
    /// A key that is empty, or holds anything but visible ASCII.
    pub fn new(base: BaseUrl, api_key: impl Into<Secret>) -> Result<Self, SetupError> {
        Ok(Self {
            base,
            api_key: ApiKey::new(api_key)?,
            policy: OperationPolicy::default()
                .with_create(tries(5)?)?
                .with_lookup(tries(8)?)
                .with_poll(schedule()?)
                .with_safety(SendSafety::Lookup { settle: Self::SETTLE })?,
            gate: Limits::default().gate()?,
            stop_on_review: false,
            signatures: DiditSignatures::default(),
            webhooks: None,
        })
    }

    /// Sets other rate limits: an account's own.
    ///
    /// # Errors
    /// A limit of zero.
    pub fn with_limits(mut self, limits: Limits) -> Result<Self, SetupError> {
        self.gate = limits.gate()?;
        Ok(self)
    }

    /// Sets how long after an ambiguous create its look-up is sent. Default [`Didit::SETTLE`]. If it is too short, the
    /// look-up may miss a session that was created, and a second one is created.
    ///
    /// # Errors
    /// None with the policy as it is.
    pub fn with_settle(mut self, settle: Duration) -> Result<Self, SetupError> {
        self.policy = self.policy.with_safety(SendSafety::Lookup { settle })?;
        Ok(self)
    }

    /// Whether *In Review* ends the job: as completed in part, with all that the checks found but without the decision,
    /// for which a reviewer may take days. Default: no, it is polled on. (What lets a partial result end a job is
    /// [`PollPolicy::with_accept_partial`], which this method sets as well: set it too in a policy of your own.)
    #[must_use]
    pub fn with_stop_on_review(mut self, stop: bool) -> Self {
        self.stop_on_review = stop;
        let poll = self.policy.poll().clone().with_accept_partial(stop);
        self.policy = self.policy.with_poll(poll);
        self
    }

    /// Accepts webhooks that are signed with one of these secrets: the `secret_shared_key` of each destination, the
    /// newest first. A webhook makes the session's next poll due now; the poll decides. Polls go on beside them, since
    /// Didit drops a delivery that failed three times.
    ///
    /// # Errors
    /// No secret, or one that is empty or has white space around it.
    pub fn with_webhooks<S: Into<Secret>>(mut self, secrets: impl IntoIterator<Item = S>) -> Result<Self, SetupError> {
        self.webhooks = Some(Verifier::new(Scheme::Didit(self.signatures), secrets)?);
        Ok(self)
    }

    /// Sets which signatures of webhooks are accepted. Default `X-Signature` and `X-Signature-V2`, which cover the
    /// whole body. A delivery of which only `X-Signature-Simple` is right still makes the poll due, but identifies its
    /// session by the session id alone.
    ///
    /// # Errors
    /// No signature is accepted.
    pub fn with_webhook_signatures(mut self, signatures: DiditSignatures) -> Result<Self, SetupError> {
        signatures.check()?;
        self.signatures = signatures;
        self.webhooks = self.webhooks.map(|verifier| verifier.under(Scheme::Didit(signatures))).transpose()?;
        Ok(self)
    }

    fn create(&self, key: &Key, payload: &Payload) -> Result<Request<Bytes>, RequestError> {
        let body = payload::with_vendor_data(payload.bytes(), key)?;
        let url = self.base.join(&["v3", "session", ""], &[])?;
        self.api_key.request(Method::POST, url, body)
    }

    fn lookup(&self, key: &Key) -> Result<Request<Bytes>, RequestError> {
        // Without `session_kind` only the sessions of people are listed, and a company's would seem not to exist.
        let query = [("vendor_data", key.as_str()), ("session_kind", "all"), ("limit", LISTED)];
        self.api_key.request(Method::GET, self.base.join(&["v3", "sessions", ""], &query)?, Bytes::new())
    }

    fn poll(&self, reference: &Reference) -> Result<Request<Bytes>, RequestError> {
        let id = reference.as_str();
        if !reading::is_session_id(id) {
            return Err(RequestError::Unsendable("session id"));
        }
        self.api_key.request(Method::GET, self.base.join(&["v3", "session", id, "decision", ""], &[])?, Bytes::new())
    }
}

/// For creates, look-ups and failing polls: the waits that docs.didit.me/integration/rate-limiting advises, 5 to 40 s
/// doubled, with jitter.
fn waits() -> Result<BackoffPolicy, PolicyError> {
    BackoffPolicy::new(Growth::doubling(Duration::from_secs(5)), Duration::from_secs(40), Jitter::Equal)
}

/// For creates and look-ups: within ten minutes, so that five creates fit in with their look-ups between them.
fn tries(attempts: u16) -> Result<RetryPolicy, PolicyError> {
    RetryPolicy::new(attempts, Duration::from_secs(600), Duration::from_secs(10), waits()?)
}

/// From 30 s, doubled, capped at ten minutes, for a week. Our own: Didit prescribes none.
fn schedule() -> Result<PollPolicy, PolicyError> {
    let secs = Duration::from_secs;
    let schedule = BackoffPolicy::new(Growth::doubling(secs(30)), secs(600), Jitter::Proportional { percent: 10 })?;
    let retry = RetryPolicy::default().with_attempts(5)?.with_attempt_timeout(secs(10))?.with_backoff(waits()?);
    Ok(PollPolicy::new(schedule, 1_500, secs(7 * 86_400), retry)?.with_not_found_grace(secs(60)))
}

impl Provider for Didit {
    fn name(&self) -> &str {
        "didit/session"
    }

    fn policy(&self) -> OperationPolicy {
        self.policy.clone()
    }

    fn gate(&self) -> GatePolicy {
        self.gate.clone()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        match ask.kind {
            Kind::Create => self.create(ask.key, ask.payload),
            Kind::Lookup => self.lookup(ask.key),
            Kind::Poll => self.poll(ask.reference.ok_or(RequestError::NoReference)?),
            other => Err(RequestError::Unsupported(other)),
        }
    }

    fn route(&self, kind: Kind) -> Option<String> {
        let under = self.base.join(&["v3", ""], &[]).ok()?;
        let path = match kind {
            Kind::Create => "session/",
            Kind::Lookup => "sessions/",
            Kind::Poll => "session/{reference}/decision/",
            _ => return None,
        };
        Some(format!("{}{path}", under.path()))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match answer.kind {
            Kind::Create => reading::of_create(answer),
            Kind::Lookup => reading::of_lookup(answer),
            Kind::Poll => reading::of_poll(answer, self.stop_on_review),
            _ => Err(reading::failure(answer)),
        }
    }

    fn quota(&self, answer: &Answer<'_>) -> Option<Quota> {
        quota(answer.headers, Reset::EpochSeconds, answer.wall)
    }

    fn decision(&self, answer: &Answer<'_>) -> Option<Box<str>> {
        reading::decision(answer)
    }

    fn has_webhooks(&self) -> bool {
        self.webhooks.is_some()
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        let verified = self.webhooks.as_ref().ok_or(WebhookError::Unsupported)?.verify(headers, body, wall)?;
        Ok(webhook::event(verified, headers, body))
    }
}

/// The credential that Didit knows its caller by: `x-api-key`.
#[derive(Clone, Debug)]
struct ApiKey(Secret);

impl ApiKey {
    fn new(text: impl Into<Secret>) -> Result<Self, SecretError> {
        Ok(Self(text.into().checked("API key")?))
    }

    /// A request under this key; one with a body is JSON.
    fn request(&self, method: Method, url: Uri, body: Bytes) -> Result<Request<Bytes>, RequestError> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = url;
        request.headers_mut().insert("x-api-key", self.0.header()?);
        if request.method() == Method::POST {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        Ok(request)
    }
}

/// Why a [`Didit`] or a [`DiditAml`] cannot be set up. It repeats no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The API key is not valid.
    #[error(transparent)]
    ApiKey(#[from] SecretError),
    /// The policy contradicts itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The webhooks' secrets are not valid.
    #[error(transparent)]
    Webhooks(#[from] signed::SetupError),
}
