//! Didit's screenings against sanctions and watch lists: one request, one answer, one charge for each key.

use core::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, Probes};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Key, Kind, OperationPolicy, PolicyError, SendSafety};

use super::{ApiKey, Limits, SetupError, reading};
use crate::json::{Object, object};
use crate::rate_limit::{Reset, quota};
use crate::secret::key_header;
use crate::{Answer, Ask, BaseUrl, Payload, Provider, RequestError, Secret};

/// `POST /v3/aml/`: screens a person or company and answers at once.
///
/// Of Didit's endpoints this is one of the two that honour an `Idempotency-Key` (docs.didit.me/integration/api-errors):
/// the same key and body get the stored answer, and one charge. So an ambiguous create is sent again under its key
/// ([`SendSafety::Keyed`]); the payload is sent as it is.
///
/// | answer | |
/// | --- | --- |
/// | 2xx with a `request_id` and an `aml` that has a `status` | ready: `Approved`, `Declined` and `In Review` are all results |
/// | 2xx with anything else | a failure that may have executed |
/// | 409 with `Retry-After` | the first request of this key still runs: sent again after that time |
/// | 409 without | the key was used with another body: refused, and what ran is not known |
/// | else | by its HTTP status ([`status`](crate::status)) |
///
/// There is nothing to poll and nothing to look up. With adverse media a screening takes up to half a minute, and Didit
/// asks for a time-out of a minute at least: the default is 75 s.
///
/// ```
/// use steadfast_core::{Key, Kind};
/// use steadfast_providers::didit::{Didit, DiditAml};
/// use steadfast_providers::{Ask, BaseUrl, Payload, Provider};
///
/// let aml = DiditAml::new(BaseUrl::parse(Didit::PRODUCTION)?, "YOUR_API_KEY")?;
/// let payload = Payload::from(r#"{"full_name":"A. Person","entity_type":"person"}"#);
/// let key = Key::new("screening-42")?;
/// let request = aml.request(&Ask::new(Kind::Create, &key, None, &payload))?;
/// assert_eq!(request.uri(), "https://verification.didit.me/v3/aml/");
/// assert_eq!(request.headers()["idempotency-key"], "screening-42");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DiditAml {
    base: BaseUrl,
    api_key: ApiKey,
    policy: OperationPolicy,
    gate: GatePolicy,
}

/// Didit asks for a minute at least.
const TIMEOUT: Duration = Duration::from_secs(75);

#[derive(serde::Deserialize)]
struct Screened {
    request_id: Option<String>,
    aml: Option<Object<Hits>>,
}

#[derive(serde::Deserialize)]
struct Hits {
    status: Option<String>,
}

impl DiditAml {
    /// The default time for which Didit is trusted to remember a key: an hour. Didit does not say; every attempt of the
    /// default policy is made within a quarter of that, and a job that is taken up later, after a restart, is left to a
    /// person.
    pub const KEY_WINDOW: Duration = Duration::from_secs(3_600);

    /// Sets up screenings for this API key, within [`Limits::default`].
    ///
    /// # Errors
    /// A key that is empty, or holds anything but visible ASCII.
    pub fn new(base: BaseUrl, api_key: impl Into<Secret>) -> Result<Self, SetupError> {
        let secs = Duration::from_secs;
        let waits = BackoffPolicy::new(Growth::doubling(secs(5)), secs(40), Jitter::Equal)?;
        let policy = OperationPolicy::default().with_create(RetryPolicy::new(5, secs(900), TIMEOUT, waits)?)?;
        Ok(Self {
            base,
            api_key: ApiKey::new(api_key)?,
            policy: policy.with_safety(SendSafety::Keyed { window: Self::KEY_WINDOW })?,
            gate: gate(Limits::default())?,
        })
    }

    /// Sets how long Didit remembers a key, for an account of which this is known. Default [`DiditAml::KEY_WINDOW`].
    ///
    /// # Errors
    /// A window that is not longer than a create's time-out.
    pub fn with_key_window(mut self, window: Duration) -> Result<Self, SetupError> {
        self.policy = self.policy.with_safety(SendSafety::Keyed { window })?;
        Ok(self)
    }

    /// Sets other rate limits. A screening uses only the limit on writes.
    ///
    /// # Errors
    /// A limit of zero.
    pub fn with_limits(mut self, limits: Limits) -> Result<Self, SetupError> {
        self.gate = gate(limits)?;
        Ok(self)
    }

    fn create(&self, key: &Key, payload: &Payload) -> Result<Request<Bytes>, RequestError> {
        let url = self.base.join(&["v3", "aml", ""], &[])?;
        let mut request = self.api_key.request(Method::POST, url, payload.bytes().clone())?;
        request.headers_mut().insert("idempotency-key", key_header(key)?);
        Ok(request)
    }
}

/// A probe whose lease expires before its answer comes decides nothing, so the lease is longer than a screening may
/// take.
fn gate(limits: Limits) -> Result<GatePolicy, PolicyError> {
    let probes = Probes { lease: TIMEOUT + TIMEOUT / 5, ..Probes::default() };
    Ok(limits.writing()?.with_breaker(Some(BreakerPolicy::default().with_probes(probes)?)))
}

impl Provider for DiditAml {
    fn name(&self) -> &str {
        "didit/aml"
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
            other => Err(RequestError::Unsupported(other)),
        }
    }

    fn route(&self, kind: Kind) -> Option<String> {
        let url = self.base.join(&["v3", "aml", ""], &[]);
        if kind == Kind::Create { Some(url.ok()?.path().to_owned()) } else { None }
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        let failure = reading::failure(answer);
        if answer.kind != Kind::Create || !answer.status.is_success() {
            return Err(failure);
        }
        let screened: Screened = object(answer.body).ok_or(failure)?;
        let named = screened.request_id.is_some_and(|id| !id.is_empty());
        let result = screened.aml.and_then(|Object(result)| result.status);
        if named && result.is_some_and(|status| !status.is_empty()) { Ok(Reading::Ready) } else { Err(failure) }
    }

    fn quota(&self, answer: &Answer<'_>) -> Option<Quota> {
        quota(answer.headers, Reset::EpochSeconds, answer.wall)
    }
}
