//! Deepvue's asynchronous verifications.
//!
//! By [its guide](https://docs.deepvue.ai/async-endpoints): `POST /v1/verification/post-{product}` answers at once with a
//! `transaction_id`; `GET /v1/verification/get-{product}?transaction_id=…` answers 202 until the result is there, most
//! often within 5 to 30 seconds. What this profile makes of it:
//!
//! - **A repeated create may be a second charge.** Deepvue documents no idempotency key, and nothing says that it
//!   honours one, so after an ambiguous failure nothing is sent again: [`SendSafety::Unsafe`]. If your contract says
//!   otherwise, say so with [`Deepvue::with_safety`].
//! - **A key is sent all the same**, in the header `Idempotency-Key`, as plain text: `Idempotency-Key: order-42`. The
//!   draft of the header (draft-ietf-httpapi-idempotency-key-header) wants the quotes of RFC 8941 around it; the APIs
//!   that honour keys today (Stripe, Adyen, Didit) take it without quotes, and would read quotes as part of the key.
//! - **The schedule is the guide's**: polls after 3 s, doubling to 30 s, at most 10, for 3 minutes, without jitter.
//! - **A token lasts 24 hours**, and a job may be older: see [`Credentials::renew`]. A poll that is answered with 401
//!   is retried, at the pace of its retry policy, until the token has been renewed; no breaker counts the 401. A create
//!   that is answered with 401 is refused, and nothing ran, unless the driver has a hook to renew the token: then it is
//!   sent again, once.
//! - **Its pages disagree on the shape of requests and answers**: see [`Shape`]. Requests follow the chosen shape;
//!   answers are read in either.
//! - **A source that is down is one registry**, and not Deepvue: each product should have its own breaker, hence a
//!   client of its own. The rate limit belongs to the API key and spans all products: share [`Plan::rates`] between
//!   their clients.
//! - **Many records at once** are another kind of job: [`DeepvueBulk`].
//!
//! # What an answer means
//!
//! | create | |
//! | --- | --- |
//! | 2xx with a `transaction_id` (or `request_id`) that is a text | accepted |
//! | 2xx with anything else: no id, a number for an id, HTML, cut short, empty | a failure that may have executed |
//! | 503 `{"detail":"Source Unavailable"}` | the registry behind Deepvue is down: did not run, may be sent again |
//! | else | by its HTTP status: [`status`] |
//!
//! The 503 is an inference: Deepvue documents the text as "the government source is down", and a create whose source
//! was never reached has nothing to charge for. A 503 with any other body may come from anything on the way.
//!
//! | poll | |
//! | --- | --- |
//! | 202; or 200 where `data` is missing, empty, or only a word such as `pending` | pending |
//! | 200 with `data` | ready |
//! | 200, `status` at the top or in `data` is `pending`, `processing`, `queued`, `running`, `initiated`, `in_progress` (or with a hyphen, a space or nothing between) | partial if `data` has more, else pending |
//! | 200, `status` at the top or in `data` is `partial` | partial |
//! | 200, `status` at the top or in `data` is `failed` | failed |
//! | 200, `status` at the top is `completed` | ready, even without `data` |
//! | 200, `status` at the top is another text | unknown, kept as text: treated as pending |
//! | 404 | not found |
//! | 401 | unauthorized: the token has to be renewed |
//! | 2xx that is no JSON object; in the reference's shape, one with the `request_id` of another job | transient |
//! | else | by its HTTP status: [`status`] |
//!
//! Any other `status` *in* `data` belongs to the business result (`id_found`, `active`): whatever it says, the job is
//! done. The API reference shows another shape for the same answer, with `result` in the place of `data`; both are
//! read.
//!
//! A `code` in the body that contradicts an HTTP 2xx wins: `{"code":429}` is read like a 429.
//!
//! # Example
//!
//! ```
//! use http::{HeaderMap, StatusCode};
//! use steadfast_core::operation::Reading;
//! use steadfast_core::{Key, Kind, Reference, Timestamp};
//! use steadfast_providers::deepvue::{Credentials, Deepvue};
//! use steadfast_providers::{Answer, Ask, BaseUrl, Payload, Provider};
//!
//! let credentials = Credentials::new("YOUR_ACCESS_TOKEN", "YOUR_CLIENT_SECRET")?;
//! let deepvue = Deepvue::new(BaseUrl::parse(Deepvue::PRODUCTION)?, "driving-license", credentials)?;
//!
//! let key = Key::new("order-42")?;
//! let payload = Payload::from(r#"{"dl_number":"DL1234567890","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#);
//! let create = deepvue.request(&Ask::new(Kind::Create, &key, None, &payload))?;
//! assert_eq!(create.uri(), "https://production.deepvue.tech/v1/verification/post-driving-license");
//!
//! // Send it with any HTTP client, with redirects off. Then:
//! let (headers, wall) = (HeaderMap::new(), Timestamp::from_secs(1_700_000_000));
//! let body = br#"{"code":200,"transaction_id":"abc123def456","message":"Request accepted"}"#;
//! let answer = Answer::new(Kind::Create, StatusCode::OK, &headers, body, wall);
//! assert_eq!(deepvue.read(&answer), Ok(Reading::Accepted(Reference::new("abc123def456")?)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`status`]: crate::status

mod bulk;
mod credentials;
mod plan;
mod reading;

use core::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Uri};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Key, Kind, OperationPolicy, PolicyError, Reference, SendSafety};

pub use self::bulk::{DeepvueBulk, OutputFile};
pub use self::credentials::Credentials;
pub use self::plan::Plan;
use crate::secret::key_header;
use crate::{Answer, Ask, BaseUrl, Payload, Provider, RequestError, SecretError, status};

/// Which of Deepvue's documentation pages a product follows. The pages contradict each other on the same endpoints; the
/// answers that your own account gets tell which is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Shape {
    /// [The guide](https://docs.deepvue.ai/async-endpoints): a job is a `transaction_id`, asked for by that name, and its result is in `data`.
    #[default]
    Guide,
    /// [The API reference](https://docs.deepvue.ai/reference/kyc/async/result-driver-license-verification): a job is a
    /// `request_id`, asked for by that name; `status` says how far it is, and its result is in `result`.
    Reference,
}

impl Shape {
    /// The query parameter that names the job in a poll.
    const fn parameter(self) -> &'static str {
        match self {
            Self::Guide => "transaction_id",
            Self::Reference => "request_id",
        }
    }
}

/// One of Deepvue's products, as one set of credentials reaches it. See the [module](self).
#[derive(Clone, Debug)]
pub struct Deepvue {
    base: BaseUrl,
    name: Box<str>,
    post: Box<str>,
    get: Box<str>,
    shape: Shape,
    credentials: Credentials,
    policy: OperationPolicy,
    gate: GatePolicy,
}

impl Deepvue {
    /// Where Deepvue's API is: `https://production.deepvue.tech`.
    pub const PRODUCTION: &str = "https://production.deepvue.tech";

    /// The longest product name.
    pub const MAX_PRODUCT_LEN: usize = 64;

    /// Sets up the product of this name: `driving-license` for `post-driving-license` and `get-driving-license`.
    ///
    /// # Errors
    /// A product that is not 1 to 64 letters, digits, `-` and `_` of ASCII.
    pub fn new(base: BaseUrl, product: &str, credentials: Credentials) -> Result<Self, SetupError> {
        check_product(product)?;
        let policy = OperationPolicy::default().with_poll(schedule()?).with_safety(SendSafety::Unsafe)?;
        Ok(Self {
            base,
            name: format!("deepvue/{product}").into(),
            post: format!("post-{product}").into(),
            get: format!("get-{product}").into(),
            shape: Shape::default(),
            credentials,
            policy,
            gate: GatePolicy::default(),
        })
    }

    /// Sets which of Deepvue's pages requests follow. Default [`Shape::Guide`]. If an answer bears both ids, the chosen
    /// shape's id is the job's.
    #[must_use]
    pub const fn with_shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// Keeps to the rate limits of the account's plan. Without a plan there is no limit but what a 429 teaches.
    ///
    /// The limits count per API key. Where several products share one key, they must share the limits too
    /// ([`Plan::rates`], in a transport that all of their clients send by). Where several processes share one, say how
    /// many ([`GatePolicy::with_replicas`]).
    ///
    /// # Errors
    /// None with the current plans.
    pub fn with_plan(mut self, plan: Plan) -> Result<Self, SetupError> {
        for limit in plan.limits()? {
            self.gate = self.gate.with_rate_limit(limit);
        }
        Ok(self)
    }

    /// Sets what a repeated create may do, for an account whose creates are known to be safer than Deepvue documents:
    /// because keys are honoured, for example.
    ///
    /// # Errors
    /// [`SendSafety::Lookup`], since Deepvue cannot be asked for the job of a key; a key window that is not longer than
    /// a create's time-out.
    pub fn with_safety(mut self, safety: SendSafety) -> Result<Self, SetupError> {
        if matches!(safety, SendSafety::Lookup { .. }) {
            return Err(SetupError::NoLookup);
        }
        self.policy = self.policy.with_safety(safety)?;
        Ok(self)
    }

    fn url(&self, endpoint: &str, query: &[(&str, &str)]) -> Result<Uri, RequestError> {
        self.base.join(&["v1", "verification", endpoint], query)
    }

    fn create(&self, key: &Key, payload: &Payload) -> Result<Request<Bytes>, RequestError> {
        let mut request =
            self.credentials.request(Method::POST, self.url(&self.post, &[])?, payload.bytes().clone())?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert("idempotency-key", key_header(key)?);
        Ok(request)
    }

    fn poll(&self, reference: &Reference) -> Result<Request<Bytes>, RequestError> {
        let url = self.url(&self.get, &[(self.shape.parameter(), reference.as_str())])?;
        self.credentials.request(Method::GET, url, Bytes::new())
    }
}

/// A product is one plain segment of a path.
fn check_product(product: &str) -> Result<(), SetupError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_plain = !product.is_empty() && product.len() <= Deepvue::MAX_PRODUCT_LEN && product.bytes().all(fits);
    if is_plain { Ok(()) } else { Err(SetupError::Product) }
}

/// The guide's schedule: from 3 seconds, doubled, capped at 30, 10 attempts, 2 to 3 minutes. It prescribes the waits,
/// so there is no jitter.
fn schedule() -> Result<PollPolicy, PolicyError> {
    let secs = Duration::from_secs;
    let waits = BackoffPolicy::new(Growth::doubling(secs(3)), secs(30), Jitter::None)?;
    PollPolicy::new(waits, 10, secs(180), RetryPolicy::default())
}

impl Provider for Deepvue {
    fn name(&self) -> &str {
        &self.name
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
            Kind::Poll => self.poll(ask.reference.ok_or(RequestError::NoReference)?),
            other => Err(RequestError::Unsupported(other)),
        }
    }

    fn route(&self, kind: Kind) -> Option<String> {
        let endpoint = match kind {
            Kind::Create => &self.post,
            Kind::Poll => &self.get,
            _ => return None,
        };
        Some(self.url(endpoint, &[]).ok()?.path().to_owned())
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match answer.kind {
            Kind::Create => reading::of_create(answer, self.shape),
            Kind::Poll => reading::of_poll(answer, self.shape),
            _ => Err(status::failure(answer)),
        }
    }

    fn is_unauthorized(&self, answer: &Answer<'_>) -> bool {
        reading::is_unauthorized(answer)
    }
}

/// Why a [`Deepvue`] or its [`Credentials`] cannot be set up. It repeats no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The product's name cannot be part of a path.
    #[error(
        "the product must be 1 to 64 letters, digits, '-' or '_', without the endpoint's 'post-' or 'get-' in front: \
         driving-license, for example"
    )]
    Product,
    /// Deepvue has no look-up by key.
    #[error("Deepvue cannot be asked for the job of a key: choose a send safety without a look-up")]
    NoLookup,
    /// A secret is missing, or cannot be put into a header.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The policy contradicts itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}
