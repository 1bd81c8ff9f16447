//! A request on its way to the provider, and why there may be no answer to it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use steadfast_core::operation::Attempt;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Timestamp};
use steadfast_providers::status;

/// The limit of a body unless a program says otherwise.
pub(crate) const BODY_LIMIT: usize = 4 << 20;

/// A request on its way out.
#[non_exhaustive]
pub struct Outgoing {
    /// What to send.
    pub request: Request<Bytes>,
    /// Which attempt of which kind this is.
    pub attempt: Attempt,
    /// The job's key, for transports that keep books. It is in the request already, where the provider wants it.
    pub key: Key,
    /// How long the answer is waited for.
    pub timeout: Duration,
    /// The most bytes a decoded body may have.
    pub body_limit: usize,
}

impl Outgoing {
    /// A request made by hand, to test a transport: 10 s for its answer, of at most 4 MiB, unless you set these
    /// fields. Real ones come from [`Driver::pop_task`](crate::Driver::pop_task).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use bytes::Bytes;
    /// use http::Request;
    /// use steadfast_core::operation::{Attempt, AttemptId};
    /// use steadfast_core::{Key, Kind, Timestamp};
    /// use steadfast_driver::Outgoing;
    ///
    /// let create = Attempt::new(AttemptId(1), Kind::Create, 1, Timestamp::from_secs(1_700_000_010));
    /// let request = Request::post("http://127.0.0.1:1/jobs").body(Bytes::from_static(b"{}"))?;
    /// let mut outgoing = Outgoing::new(request, create, Key::new("order-42")?);
    /// outgoing.timeout = Duration::from_millis(50);
    /// // … and now to your `exchange(&outgoing)`
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn new(request: Request<Bytes>, attempt: Attempt, key: Key) -> Self {
        Self { request, attempt, key, timeout: Duration::from_secs(10), body_limit: BODY_LIMIT }
    }
}

impl fmt::Debug for Outgoing {
    /// Without headers and body: they hold credentials and personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempt, key, .. } = self;
        write!(f, "Outgoing({attempt:?}, {key:?})")
    }
}

/// Why there is no answer, and what is certain about the request.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SendError {
    what: &'static str,
    class: Class,
    certainty: Certainty,
    wait: Option<Duration>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SendError {
    /// The request certainly did not leave: no connection was made.
    #[must_use]
    pub fn not_sent() -> Self {
        Self::new("no connection to the provider could be made", Class::Transient, Certainty::NotExecuted)
    }

    /// The request had begun to leave, and no whole answer came back.
    #[must_use]
    pub fn ambiguous() -> Self {
        Self::new(
            "the connection broke before the whole answer was there",
            Class::Transient,
            Certainty::MayHaveExecuted,
        )
    }

    /// The request had begun to leave, and no answer came in time.
    #[must_use]
    pub fn timed_out() -> Self {
        Self::new("no answer came in time", Class::TimedOut, Certainty::MayHaveExecuted)
    }

    /// The request was not sent, to keep to a limit that others share: it may go after this wait. The client's gate
    /// holds everything back for so long.
    #[must_use]
    pub fn held_back(wait: Duration) -> Self {
        let held =
            Self::new("it was held back to keep to a shared rate limit", Class::Throttled, Certainty::NotExecuted);
        Self { wait: Some(wait), ..held }
    }

    /// The request can never be sent as it is.
    #[must_use]
    pub fn unsendable() -> Self {
        Self::new("the request cannot be sent as it is", Class::Permanent, Certainty::NotExecuted)
    }

    /// The request would have left by plain `http` for another machine, or by no HTTP at all: see
    /// [`steadfast_providers::is_secure`].
    #[must_use]
    pub fn insecure() -> Self {
        Self::new(
            "the URL is not https, so the request was not sent: it would carry credentials and personal data for all to read",
            Class::Permanent,
            Certainty::NotExecuted,
        )
    }

    /// The answer led elsewhere, and the client did not follow it to its end.
    #[must_use]
    pub fn misdirected() -> Self {
        Self::new(
            "the answer led elsewhere, and was not followed to an end",
            Class::Permanent,
            Certainty::MayHaveExecuted,
        )
    }

    /// The answer's decoded body exceeds [`Outgoing::body_limit`].
    #[must_use]
    pub fn body_too_large() -> Self {
        Self::new(
            "the answer's body exceeds the limit: raise the builder's body_limit if such answers are expected",
            Class::Permanent,
            Certainty::MayHaveExecuted,
        )
    }

    /// The same, if the answer's head had come by then. What it says of coming again counts though the rest is missing:
    /// a 429 is one, its `Retry-After` is heeded, and an error page beyond the limit is no reason to give up. Whether
    /// the request ran stays open, since the body might have said. `wall` is our wall clock.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use http::{HeaderMap, HeaderValue, StatusCode};
    /// use steadfast_core::Timestamp;
    /// use steadfast_core::retry::{Certainty, Class};
    /// use steadfast_driver::SendError;
    ///
    /// let (mut headers, wall) = (HeaderMap::new(), Timestamp::from_secs(1_700_000_000));
    /// headers.insert("retry-after", HeaderValue::from_static("7"));
    /// let cut = SendError::ambiguous().after_head(StatusCode::TOO_MANY_REQUESTS, &headers, wall).failure();
    /// assert_eq!((cut.class, cut.certainty), (Class::Throttled, Certainty::MayHaveExecuted));
    /// assert_eq!(cut.retry_after, Some(Duration::from_secs(7)));
    /// ```
    #[must_use]
    pub fn after_head(self, status: StatusCode, headers: &HeaderMap, wall: Timestamp) -> Self {
        match status::check(status, headers, wall) {
            Err(said) if matches!(said.class, Class::Throttled | Class::Transient) => {
                Self { class: said.class, wait: said.retry_after, ..self }
            }
            // A success that cannot be read; or a refusal for good, of which the next answer may say more.
            _ => self,
        }
    }

    /// The same, with its cause. The cause must show no credentials: strip URLs and headers first.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(cause.into());
        self
    }

    /// What the core needs to know of it.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        Failure::new(self.class, self.certainty).with_retry_after(self.wait)
    }

    const fn new(what: &'static str, class: Class, certainty: Certainty) -> Self {
        Self { what, class, certainty, wait: None, source: None }
    }
}
