//! What reqwest's results mean, for calls that are not jobs.
//!
//! reqwest gives a 503 as an `Ok`, and what it knows of a request without an answer as a handful of yes-or-no
//! questions. [`ResponseExt::classify`] turns both into one [`HttpError`], by the tables that jobs go by, with the
//! `Retry-After` read against the answer's own `Date`.
//!
//! What it says about certainty holds for a client that follows no redirects
//! ([`ReqwestTransport::client`](crate::ReqwestTransport::client) is one): otherwise the connection that was refused
//! may be the second one, after the first host has run the request.

use std::time::SystemTime;

use reqwest::{Error, Response};
use steadfast_driver::{HttpError, SendError};
use steadfast_providers::status;

/// Says whether a [`Response`], or the result of sending, is a success, and if not, what kind of failure it is.
///
/// ```no_run
/// use steadfast_tokio::{ReqwestTransport, ResponseExt, classify_error};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = ReqwestTransport::new()?.client().clone();
/// let answer = match client.get("https://api.example.com/rates").send().await.classify() {
///     Ok(answer) => answer, // a 2xx
///     Err(error) => {
///         let failure = error.failure();
///         println!("{error}: {:?}, {:?}, wait for {:?}", failure.class, failure.certainty, failure.retry_after);
///         return Ok(());
///     }
/// };
/// let body = answer.bytes().await.map_err(classify_error)?; // the answer may break off in its body
/// # drop(body);
/// # Ok(())
/// # }
/// ```
///
/// With [`retry`](crate::retry()):
///
/// ```no_run
/// use steadfast_core::retry::RetryPolicy;
/// use steadfast_tokio::{HttpError, ReqwestTransport, ResponseExt, classify_error, retry};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = ReqwestTransport::new()?.client().clone();
/// let body = retry(RetryPolicy::default())
///     .classify(HttpError::failure)
///     .run(|| async { client.get("https://api.example.com/rates").send().await.classify()?.bytes().await.map_err(classify_error) })
///     .await?;
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
    fn classify(self) -> Result<Response, HttpError<Response>>;
}

impl ResponseExt for Response {
    fn classify(self) -> Result<Response, HttpError<Response>> {
        match status::check(self.status(), self.headers(), SystemTime::now().into()) {
            Ok(()) => Ok(self),
            Err(failure) => Err(HttpError::status(self.status(), failure, Some(self))),
        }
    }
}

impl ResponseExt for Result<Response, Error> {
    fn classify(self) -> Result<Response, HttpError<Response>> {
        self.map_err(classify_error)?.classify()
    }
}

/// What failure a reqwest error is. Its text is not used, and its URL, which may hold a reference or a key, is
/// removed.
///
/// An error from [`Response::error_for_status`] has lost the answer and its headers, so it has no `Retry-After`: use
/// [`ResponseExt::classify`] instead.
#[must_use]
pub fn classify_error(error: Error) -> HttpError<Response> {
    let of_status = error.status().and_then(|status| {
        let failure = status::check(status, &http::HeaderMap::new(), SystemTime::now().into()).err()?;
        Some(HttpError::status(status, failure, None))
    });
    of_status.unwrap_or_else(|| HttpError::NoAnswer(super::classify(error, SendError::ambiguous())))
}
