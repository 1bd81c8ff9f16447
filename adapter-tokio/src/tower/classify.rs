//! What a call's result says: is it a success, and if not, what kind of failure?

use std::time::SystemTime;

use http::Response;
use steadfast_core::gate::Settled;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_providers::status;

/// Says what kind of failure a result is; `None` if it is a success.
///
/// A response can be a failure (a 503), and an error can say that the upstream is well. Any `Fn(&Result<Response,
/// Error>) -> Option<Failure>` implements this; [`AnyError`] is the default of all layers, [`HttpStatus`] reads HTTP
/// responses.
///
/// ```
/// use steadfast_core::retry::{Certainty, Class, Failure};
/// use steadfast_tokio::tower::Classify;
///
/// let by_kind = |result: &Result<u32, std::io::ErrorKind>| match result {
///     Err(std::io::ErrorKind::ConnectionRefused) => Some(Failure::new(Class::Transient, Certainty::NotExecuted)),
///     Err(_) => Some(Failure::new(Class::Transient, Certainty::MayHaveExecuted)),
///     Ok(_) => None,
/// };
/// assert_eq!(by_kind.classify(&Ok(7)), None);
/// ```
pub trait Classify<Res, E> {
    /// The failure that this is.
    fn classify(&self, result: &Result<Res, E>) -> Option<Failure>;
}

impl<Res, E, F> Classify<Res, E> for F
where
    F: Fn(&Result<Res, E>) -> Option<Failure>,
{
    fn classify(&self, result: &Result<Res, E>) -> Option<Failure> {
        self(result)
    }
}

/// Every response is a success, and every error likely to pass; whether the request was executed is not known.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AnyError;

impl<Res, E> Classify<Res, E> for AnyError {
    fn classify(&self, result: &Result<Res, E>) -> Option<Failure> {
        result.is_err().then(|| Failure::new(Class::Transient, Certainty::MayHaveExecuted))
    }
}

/// HTTP responses by their status: [`steadfast_providers::status`] has the table. A `Retry-After` is read against the
/// answer's own `Date`. Errors are taken for likely to pass, and may have been executed, unless
/// [`errors`](HttpStatus::errors) knows better.
///
/// ```
/// use steadfast_core::retry::{Certainty, Class, Failure};
/// use steadfast_tokio::tower::{Classify, HttpStatus};
///
/// let by_status = HttpStatus::new().errors(|error: &std::io::Error| match error.kind() {
///     std::io::ErrorKind::ConnectionRefused => Failure::new(Class::Transient, Certainty::NotExecuted),
///     _ => Failure::new(Class::Transient, Certainty::MayHaveExecuted),
/// });
/// let throttled = http::Response::builder().status(429).header("retry-after", "7").body(())?;
/// assert_eq!(by_status.classify(&Ok(throttled)).unwrap().class, Class::Throttled);
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpStatus<F = AnyError> {
    errors: F,
}

impl HttpStatus {
    /// For any kind of error.
    #[must_use]
    pub const fn new() -> Self {
        Self { errors: AnyError }
    }

    /// Sets what failure an error is.
    #[must_use]
    pub fn errors<E, F>(self, errors: F) -> HttpStatus<F>
    where
        F: Fn(&E) -> Failure,
    {
        HttpStatus { errors }
    }
}

impl<B, E> Classify<Response<B>, E> for HttpStatus {
    fn classify(&self, result: &Result<Response<B>, E>) -> Option<Failure> {
        match result {
            Ok(response) => of_response(response),
            Err(_) => self.errors.classify(result),
        }
    }
}

impl<B, E, F> Classify<Response<B>, E> for HttpStatus<F>
where
    F: Fn(&E) -> Failure,
{
    fn classify(&self, result: &Result<Response<B>, E>) -> Option<Failure> {
        match result {
            Ok(response) => of_response(response),
            Err(error) => Some((self.errors)(error)),
        }
    }
}

fn of_response<B>(response: &Response<B>) -> Option<Failure> {
    status::check(response.status(), response.headers(), SystemTime::now().into()).err()
}

/// What a gate learns from it.
pub(super) fn settled(failure: Option<Failure>) -> Settled {
    failure.map_or(Settled::Answered, Settled::Failed)
}

/// The failure of a call that was given up for want of an answer.
pub(super) const TIMED_OUT: Failure = Failure::new(Class::TimedOut, Certainty::MayHaveExecuted);
