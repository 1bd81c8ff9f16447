//! Translates between Steadfast and HTTP: builds requests, reads answers, and verifies webhooks.
//!
//! Steadfast carries jobs at asynchronous APIs to their outcome. `steadfast-core` decides when a request leaves and
//! whether a failed one may be repeated; this crate knows the APIs. A [`Provider`] turns what the core wants to send
//! into an HTTP request, and an HTTP answer into its meaning: a [`Reading`], or a [`Failure`] with its class and its
//! certainty. Like the core it does no I/O; bytes go in and come out.
//!
//! ```
//! use http::{HeaderMap, StatusCode};
//! use steadfast_core::operation::Reading;
//! use steadfast_core::retry::{Certainty, Class};
//! use steadfast_core::{Key, Kind, Timestamp};
//! use steadfast_providers::deepvue::{Credentials, Deepvue};
//! use steadfast_providers::{Answer, Ask, BaseUrl, Payload, Provider};
//!
//! let deepvue = Deepvue::new(BaseUrl::parse(Deepvue::PRODUCTION)?, "driving-license", Credentials::new("token", "secret")?)?;
//! let (key, payload) = (Key::new("order-42")?, Payload::from(r#"{"dl_number":"DL1"}"#));
//! let request = deepvue.request(&Ask::new(Kind::Create, &key, None, &payload))?;
//! assert_eq!(request.headers()["idempotency-key"], "order-42");
//!
//! // Sent by any client; what came back:
//! let (headers, wall) = (HeaderMap::new(), Timestamp::from_secs(1_700_000_000));
//! let good = Answer::new(Kind::Create, StatusCode::OK, &headers, br#"{"code":200,"transaction_id":"txn-1"}"#, wall);
//! assert!(matches!(deepvue.read(&good), Ok(Reading::Accepted(_))));
//!
//! // A proxy's error says nothing of whether the job runs, so a repeat may be a second one.
//! let lost = Answer::new(Kind::Create, StatusCode::BAD_GATEWAY, &headers, b"<html>", wall);
//! let failure = deepvue.read(&lost).unwrap_err();
//! assert_eq!((failure.class, failure.certainty), (Class::Transient, Certainty::MayHaveExecuted));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is here
//!
//! Providers:
//!
//! - [`deepvue`]: Deepvue's asynchronous verifications.
//! - [`didit`]: Didit's verification sessions and screenings.
//! - [`profile`]: any other provider, described in a file.
//!
//! The parts they are made of, usable with any HTTP client:
//!
//! - [`status`]: what an HTTP status says about a request, where the provider does not say otherwise.
//! - [`retry_after`]: `Retry-After` in every form of RFC 9110.
//! - [`rate_limit`]: what a provider's headers say about its rate limit.
//! - [`structured`]: strings as structured fields write them, such as a quoted `Idempotency-Key`.
//! - [`webhook`]: whether a webhook is genuine, when it was signed, and what it says about which job.
//! - [`Secret`]: a token or key that no `Debug` and no error shows.
//! - [`BaseUrl`]: a provider's origin; no answer can lead a request to another.
//! - [`derived_key()`]: a key derived from the program's own names for a job, where these must not be shown.
//! - [`clock_skew()`]: how far the provider's clock is from ours.
//! - [`fingerprint()`]: a payload's fingerprint, to tell whether a repeated submit carries the same payload.
//!
//! # Features
//!
//! - `yaml`: [documents](document), and so profiles and policies, in YAML too; TOML and JSON are read in any case.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod base_url;
mod clock_skew;
pub mod deepvue;
mod derived_key;
pub mod didit;
pub mod document;
mod fingerprint;
mod json;
mod moment;
pub mod profile;
pub mod rate_limit;
pub mod retry_after;
mod secret;
pub mod status;
pub mod structured;
pub mod webhook;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::{AnswerDigest, Failure};
use steadfast_core::{Key, Kind, OperationPolicy, Reference, Timestamp};

pub use crate::base_url::{BaseUrl, BaseUrlError, is_secure};
pub use crate::clock_skew::{ClockSkew, clock_skew};
pub use crate::derived_key::derived_key;
pub use crate::fingerprint::fingerprint;
use crate::rate_limit::Reset;
pub use crate::secret::{Secret, SecretError};
pub use crate::webhook::{WebhookError, WebhookEvent};

/// What one upstream's requests look like and what its answers mean.
///
/// Implement it to use an API that this crate does not know; [`deepvue::Deepvue`] is a model to follow.
pub trait Provider: Send + Sync + 'static {
    /// A short name for logs, tables and journals: `deepvue/driving-license`. A client does not start on a journal that
    /// holds jobs under another name, so it must name what all jobs of one client share, release after release: the
    /// API, and which part of it.
    fn name(&self) -> &str;

    /// The policy that suits this provider: its poll schedule, and above all what it does with a repeated create.
    fn policy(&self) -> OperationPolicy;

    /// The gate that suits this provider: above all its rate limits. Default: a breaker, a retry budget and a bulkhead,
    /// and no rate limit.
    fn gate(&self) -> GatePolicy {
        GatePolicy::default()
    }

    /// The request for one attempt. Every create attempt of one key must give the same bytes (credentials may have been
    /// renewed between).
    ///
    /// # Errors
    /// The request cannot be built from these inputs, so it is not sent.
    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError>;

    /// The path of requests of this kind as a template, for traces: `/v3/session/{reference}/decision/`, for example.
    /// It is the same for every job, and must contain no data of a job and no secret. Default: `None`, so traces show
    /// no path.
    fn route(&self, kind: Kind) -> Option<String> {
        let _ = kind;
        None
    }

    /// Says what an answer means.
    ///
    /// # Errors
    /// The answer is not usable. The certainty in the failure decides whether a create may be sent again.
    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure>;

    /// Whether the answer says that the credentials are invalid or expired, so that nothing ran and renewing them may
    /// help. Default: a 401.
    fn is_unauthorized(&self, answer: &Answer<'_>) -> bool {
        answer.status == StatusCode::UNAUTHORIZED
    }

    /// A digest of the answer to a failed create, to recognise a failure that the provider has stored for the key and
    /// replays. Default: [`status::stored`], by its status and its whole body. If a provider's stored failures contain
    /// something new each time, leave that part out of the digest; if it stores none, return `None`.
    fn stored(&self, answer: &Answer<'_>) -> Option<AnswerDigest> {
        status::stored(answer)
    }

    /// What an answer says about the provider's own rate limit, if anything. Default: what [`rate_limit::quota`] finds
    /// in its headers.
    fn quota(&self, answer: &Answer<'_>) -> Option<Quota> {
        rate_limit::quota(answer.headers, Reset::Guess, answer.wall)
    }

    /// The decision in an answer that ended a job, in the provider's word, as its webhooks spell it
    /// ([`WebhookEvent::status`]). By this word the webhook that reports this decision is told from one that reports a
    /// later decision. Default: `None`, not known.
    fn decision(&self, answer: &Answer<'_>) -> Option<Box<str>> {
        let _ = answer;
        None
    }

    /// Whether this provider sends webhooks, and has the secrets to verify them. Only then does the client keep track
    /// of which job bears which reference. Default: `false`.
    fn has_webhooks(&self) -> bool {
        false
    }

    /// Verifies a webhook and reads what it says. `body` is what came over the wire, byte for byte; `wall` is the wall
    /// clock, since it is compared with another party's. Verify first ([`Verifier`](webhook::Verifier)), and only then
    /// read. Default: [`WebhookError::Unsupported`].
    ///
    /// # Errors
    /// The webhook could not be verified or read; it must change nothing.
    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        let _ = (headers, body, wall);
        Err(WebhookError::Unsupported)
    }
}

/// Lets a program choose its provider at run time.
impl Provider for Box<dyn Provider> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn policy(&self) -> OperationPolicy {
        (**self).policy()
    }

    fn gate(&self) -> GatePolicy {
        (**self).gate()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        (**self).request(ask)
    }

    fn route(&self, kind: Kind) -> Option<String> {
        (**self).route(kind)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        (**self).read(answer)
    }

    fn is_unauthorized(&self, answer: &Answer<'_>) -> bool {
        (**self).is_unauthorized(answer)
    }

    fn stored(&self, answer: &Answer<'_>) -> Option<AnswerDigest> {
        (**self).stored(answer)
    }

    fn quota(&self, answer: &Answer<'_>) -> Option<Quota> {
        (**self).quota(answer)
    }

    fn decision(&self, answer: &Answer<'_>) -> Option<Box<str>> {
        (**self).decision(answer)
    }

    fn has_webhooks(&self) -> bool {
        (**self).has_webhooks()
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        (**self).webhook(headers, body, wall)
    }
}

/// What to ask the provider: the inputs of one request.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ask<'a> {
    /// Create, look up or poll.
    pub kind: Kind,
    /// The job's idempotency key, chosen by the caller.
    pub key: &'a Key,
    /// The provider's own id for the job, once known; always there for a poll.
    pub reference: Option<&'a Reference>,
    /// The body of a create. A look-up has it too, unless the job was taken up after a restart and its payload was not
    /// kept; a poll never has it.
    pub payload: &'a Payload,
}

impl<'a> Ask<'a> {
    /// A request of this kind about this job.
    #[must_use]
    pub const fn new(kind: Kind, key: &'a Key, reference: Option<&'a Reference>, payload: &'a Payload) -> Self {
        Self { kind, key, reference, payload }
    }
}

/// The body of a create: personal data, as a rule, so its `Debug` shows only a length. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Payload(Bytes);

impl Payload {
    /// The bytes, which belong in the request and nowhere else.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl<B: Into<Bytes>> From<B> for Payload {
    fn from(bytes: B) -> Self {
        Self(bytes.into())
    }
}

impl core::fmt::Debug for Payload {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// A complete HTTP answer.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Answer<'a> {
    /// The kind of request that it answers.
    pub kind: Kind,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The decoded body.
    pub body: &'a [u8],
    /// The wall clock when the answer came: to compare with dates in headers, which another party's clock made.
    pub wall: Timestamp,
    /// The key of the job that was asked about, if the driver says so: shows when an answer is about another job.
    pub key: Option<&'a Key>,
    /// The reference that a poll asked for, if the driver says so: serves the same check.
    pub reference: Option<&'a Reference>,
}

impl<'a> Answer<'a> {
    /// An answer to a request of this kind.
    #[must_use]
    pub const fn new(kind: Kind, status: StatusCode, headers: &'a HeaderMap, body: &'a [u8], wall: Timestamp) -> Self {
        Self { kind, status, headers, body, wall, key: None, reference: None }
    }

    /// Says which job's key the request was about. Drivers should set it: a look-up that lists another job is then
    /// refused, not adopted.
    #[must_use]
    pub const fn about(mut self, key: &'a Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Says which reference the poll asked for. Drivers should set it: an answer that names another job is then
    /// unusable, and ends nothing.
    #[must_use]
    pub const fn asked_by(mut self, reference: &'a Reference) -> Self {
        self.reference = Some(reference);
        self
    }

    /// Whether the answer names another job than the one asked about. `named` is what the answer calls its job; without
    /// a name on either side the result is `false`.
    pub(crate) fn is_of_another(&self, named: Option<&str>) -> bool {
        named.zip(self.reference).is_some_and(|(named, asked)| named != asked.as_str())
    }
}

impl core::fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { kind, status, body, .. } = self;
        write!(f, "Answer({kind:?}, {status}, {} bytes)", body.len())
    }
}

/// Why a request could not be built. It never repeats the payload or the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The provider has no such request: it offers no look-up, for example.
    #[error("this provider has no {0:?} request: choose a policy whose send safety it supports")]
    Unsupported(Kind),
    /// A poll without a reference.
    #[error("a poll needs the provider's reference, and none is known")]
    NoReference,
    /// A value that cannot be put into a header or URL.
    #[error("the {0} is too long for an HTTP request, or holds what none can carry")]
    Unsendable(&'static str),
    /// A payload that the provider does not accept.
    #[error("the payload {0}")]
    Payload(&'static str),
}
