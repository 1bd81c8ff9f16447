//! What an error says, and who is notified of it.
//!
//! By default every `Err` is transient, so it is repeated. A closure can say otherwise:
//! [`Call::when`](super::Call::when) with a bool, [`Call::classify`](super::Call::classify) with a [`Class`], or with a
//! [`Failure`], which can hold the wait that the upstream asks for and whether the request certainly did not run. The
//! helpers here make a `Failure` from an HTTP answer.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Response, StatusCode};
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, Timestamp};
use steadfast_providers::{Answer, status};

/// Says what an error of type `E` means. Closures from `&E` to a [`Failure`] or a [`Class`] implement it.
pub trait Classify<E> {
    /// What this error means.
    fn classify(&mut self, error: &E) -> Failure;
}

/// Every error is transient. The default.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct EveryError;

impl<E> Classify<E> for EveryError {
    #[inline]
    fn classify(&mut self, _: &E) -> Failure {
        Failure::new(Class::Transient, Certainty::MayHaveExecuted)
    }
}

/// Errors for which a closure returns `true` are transient, all others permanent. See
/// [`Call::when`](super::Call::when).
#[derive(Clone, Copy, Debug)]
pub struct When<F>(pub(super) F);

impl<E, F: FnMut(&E) -> bool> Classify<E> for When<F> {
    fn classify(&mut self, error: &E) -> Failure {
        Failure::from(if (self.0)(error) { Class::Transient } else { Class::Permanent })
    }
}

impl<E, V: Into<Failure>, F: FnMut(&E) -> V> Classify<E> for F {
    fn classify(&mut self, error: &E) -> Failure {
        self(error).into()
    }
}

/// What [`Call::notify`](super::Call::notify) tells: an attempt has failed, and there will be another.
#[derive(Debug)]
#[non_exhaustive]
pub struct Retrying<'e, E> {
    /// Which attempt it was, from 1; for polls, which poll.
    pub attempt: u32,
    /// Its error; `None` if it timed out.
    pub cause: Option<&'e E>,
    /// What the error says.
    pub failure: Failure,
    /// How long the wait before the next one is.
    pub wait: Duration,
    /// How long the whole call has taken so far.
    pub elapsed: Duration,
}

/// Is told of failed attempts. Closures that take a [`Retrying`] implement it.
pub trait Notify<E> {
    /// An attempt has failed, and there will be another.
    fn retrying(&mut self, retrying: Retrying<'_, E>);
}

/// Nobody is told. The default.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Silent;

impl<E> Notify<E> for Silent {
    #[inline]
    fn retrying(&mut self, _: Retrying<'_, E>) {}
}

impl<E, F: FnMut(Retrying<'_, E>)> Notify<E> for F {
    fn retrying(&mut self, retrying: Retrying<'_, E>) {
        self(retrying);
    }
}

/// What an HTTP answer that is not a success says: the class and the certainty by the [table of statuses](status), and
/// its `Retry-After`, a date being read against the answer's own `Date`; where the answer has none, against the
/// system's clock, which is read then.
///
/// ```
/// use std::time::Duration;
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use steadfast_core::retry::Class;
/// use steadfast_driver::http_failure;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("retry-after", HeaderValue::from_static("5"));
/// let failure = http_failure(StatusCode::TOO_MANY_REQUESTS, &headers);
/// assert_eq!((failure.class, failure.retry_after), (Class::Throttled, Some(Duration::from_secs(5))));
/// assert_eq!(http_failure(StatusCode::BAD_REQUEST, &headers).class, Class::Permanent);
/// ```
#[must_use]
pub fn http_failure(status: StatusCode, headers: &HeaderMap) -> Failure {
    let wall = Timestamp::from(SystemTime::now());
    status::failure(&Answer::new(Kind::Create, status, headers, b"", wall))
}

/// [`http_failure`] for an answer that is returned as the error: `.classify(http_response)`.
#[must_use]
pub fn http_response<B>(response: &Response<B>) -> Failure {
    http_failure(response.status(), response.headers())
}
