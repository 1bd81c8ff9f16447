//! Adds a look-up to a profile: for a provider that can be asked for the job of a key.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::{Certainty, Failure};
use steadfast_core::{Kind, OperationPolicy, SendSafety};
use steadfast_providers::{Answer, Ask, Provider, RequestError};

/// A provider's profile, with look-ups at the fake's `find-…` endpoint. Goes with
/// [`Keys::Lookup`](crate::Keys::Lookup).
#[derive(Clone, Debug)]
pub struct WithLookup<P> {
    inner: P,
    settle: Duration,
}

impl<P: Provider> WithLookup<P> {
    /// Adds look-ups, which are sent `settle` after an ambiguous create at the earliest.
    #[must_use]
    pub const fn new(inner: P, settle: Duration) -> Self {
        Self { inner, settle }
    }
}

impl<P: Provider> Provider for WithLookup<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn policy(&self) -> OperationPolicy {
        let policy = self.inner.policy();
        policy.clone().with_safety(SendSafety::Lookup { settle: self.settle }).unwrap_or(policy)
    }

    fn gate(&self) -> GatePolicy {
        self.inner.gate()
    }

    fn quota(&self, answer: &Answer<'_>) -> Option<Quota> {
        self.inner.quota(answer)
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        if ask.kind != Kind::Lookup {
            return self.inner.request(ask);
        }
        // As the create, with its credentials, but a GET at another path.
        let create = Ask::new(Kind::Create, ask.key, None, ask.payload);
        let mut request = self.inner.request(&create)?.map(|_| Bytes::new());
        let url = request.uri().to_string().replacen("/post-", "/find-", 1);
        let key = utf8_percent_encode(ask.key.as_str(), NON_ALPHANUMERIC);
        *request.uri_mut() = Uri::try_from(format!("{url}?key={key}")).map_err(|_| RequestError::Unsendable("URL"))?;
        *request.method_mut() = Method::GET;
        Ok(request)
    }

    fn route(&self, kind: Kind) -> Option<String> {
        if kind != Kind::Lookup {
            return self.inner.route(kind);
        }
        Some(self.inner.route(Kind::Create)?.replacen("/post-", "/find-", 1))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        if answer.kind != Kind::Lookup {
            return self.inner.read(answer);
        }
        if answer.status == 404 {
            return Ok(Reading::NotFound);
        }
        // An answer that names the job is read like the create's answer.
        let read = self.inner.read(&Answer::new(Kind::Create, answer.status, answer.headers, answer.body, answer.wall));
        read.map_err(|mut failure| {
            // A look-up itself runs nothing.
            failure.certainty = Certainty::NotExecuted;
            failure
        })
    }
}
