//! What ureq's results mean, for calls that are not jobs.
//!
//! ureq gives a 503 as an `Err` that has lost the answer, or as an `Ok` if it is told so, and what it knows of a
//! request without an answer as one error among thirty. [`ResponseExt::classify`] turns all of these into one
//! [`HttpError`], by the tables that jobs go by, with the `Retry-After` read against the answer's own `Date`.
//!
//! What it says about certainty holds for an agent that follows no redirects: otherwise the connection that was
//! refused may be the second one, after the first host has run the request.
//! [`UreqTransport::agent`](crate::UreqTransport::agent) follows none, gives every status as an `Ok`, and its
//! connector says for certain whether there was a connection; with another agent, a failed TLS handshake counts as
//! *may have run*.

use std::time::SystemTime;

use http::{HeaderMap, Response, StatusCode};
use steadfast_driver::HttpError;
use steadfast_providers::status;
use ureq::{Body, Error};

/// Says whether a [`Response`], or the result of sending, is a success, and if not, what kind of failure it is.
///
/// ```no_run
/// use steadfast_blocking::{ResponseExt, UreqTransport, classify_error};
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let transport = UreqTransport::new();
/// let mut answer = match transport.agent().get("https://api.example.com/rates").call().classify() {
///     Ok(answer) => answer, // a 2xx
///     Err(error) => {
///         let failure = error.failure();
///         println!("{error}: {:?}, {:?}, wait for {:?}", failure.class, failure.certainty, failure.retry_after);
///         return Ok(());
///     }
/// };
/// let body = answer.body_mut().read_to_vec().map_err(classify_error)?; // the answer may break off in its body
/// # drop(body);
/// # Ok(())
/// # }
/// ```
///
/// With [`retry`](crate::retry()):
///
/// ```no_run
/// use steadfast_blocking::{HttpError, ResponseExt, UreqTransport, classify_error, retry};
/// use steadfast_core::retry::RetryPolicy;
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let transport = UreqTransport::new();
/// let body = retry(RetryPolicy::default()).classify(HttpError::failure).call(|| {
///     let mut answer = transport.agent().get("https://api.example.com/rates").call().classify()?;
///     answer.body_mut().read_to_vec().map_err(classify_error)
/// })?;
/// # drop(body);
/// # Ok(())
/// # }
/// ```
pub trait ResponseExt {
    /// The response if its status is a 2xx.
    ///
    /// # Errors
    /// What failure it is otherwise, by [`steadfast_providers::status`]; for a request without an answer, from the
    /// phase that it had reached.
    fn classify(self) -> Result<Response<Body>, HttpError<Response<Body>>>;
}

impl ResponseExt for Response<Body> {
    fn classify(self) -> Result<Self, HttpError<Self>> {
        match status::check(self.status(), self.headers(), SystemTime::now().into()) {
            Ok(()) => Ok(self),
            Err(failure) => Err(HttpError::status(self.status(), failure, Some(self))),
        }
    }
}

impl ResponseExt for Result<Response<Body>, Error> {
    fn classify(self) -> Result<Response<Body>, HttpError<Response<Body>>> {
        self.map_err(classify_error)?.classify()
    }
}

/// What failure a ureq error is. Its text is not used, and not shown: it may hold the URL.
///
/// [`Error::StatusCode`] has lost the answer and its headers, so it has no `Retry-After`: configure the agent with
/// `http_status_as_error(false)`, or use [`UreqTransport::agent`](crate::UreqTransport::agent).
#[must_use]
pub fn classify_error(error: Error) -> HttpError<Response<Body>> {
    let of_status = match &error {
        Error::StatusCode(code) => StatusCode::from_u16(*code).ok(),
        _ => None,
    };
    let of_status = of_status.and_then(|status| {
        let failure = status::check(status, &HeaderMap::new(), SystemTime::now().into()).err()?;
        Some(HttpError::status(status, failure, None))
    });
    of_status.unwrap_or_else(|| HttpError::NoAnswer(super::classify(error)))
}
