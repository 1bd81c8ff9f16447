//! What an HTTP call that is no job came to, where it came to nothing good.
//!
//! HTTP clients report two things in two ways: an answer whose status says no is an `Ok`, and a request without an
//! answer is an `Err`. Whoever repeats calls asks one question of both, the [`Failure`]: is it likely to pass, may the
//! request have run, and how long does the provider ask us to wait? The adapters make an [`HttpError`] of their
//! client's results; it answers by the tables that jobs go by ([`steadfast_providers::status`] and [`SendError`]).

use std::fmt;

use http::StatusCode;
use steadfast_core::retry::Failure;

use crate::SendError;

/// A call that came to nothing good. `A` is the HTTP client's answer.
///
/// It shows neither URL, headers nor body: they hold credentials and personal data.
///
/// ```
/// use http::{Response, StatusCode};
/// use steadfast_core::retry::{Certainty, Class, Failure};
/// use steadfast_driver::{HttpError, SendError};
///
/// let lost: HttpError<Response<()>> = HttpError::NoAnswer(SendError::ambiguous());
/// assert_eq!(lost.failure(), Failure::new(Class::Transient, Certainty::MayHaveExecuted));
///
/// let refused = Failure::new(Class::Permanent, Certainty::NotExecuted);
/// let error = HttpError::status(StatusCode::NOT_FOUND, refused, Some(Response::new("no such thing")));
/// assert_eq!(error.to_string(), "the answer's status is 404 Not Found");
/// assert_eq!(error.into_answer().unwrap().into_body(), "no such thing");
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum HttpError<A> {
    /// There is an answer, and its status is no 2xx.
    #[error("the answer's status is {status}")]
    #[non_exhaustive]
    Status {
        /// The status.
        status: StatusCode,
        /// What it stands for, with the answer's `Retry-After`.
        failure: Failure,
        /// The answer, its body unread; `None` if the client had thrown it away already.
        answer: Option<Box<A>>,
    },
    /// There is none.
    #[error(transparent)]
    NoAnswer(SendError),
}

impl<A> HttpError<A> {
    /// An answer with this status, which stands for this failure.
    #[must_use]
    pub fn status(status: StatusCode, failure: Failure, answer: Option<A>) -> Self {
        Self::Status { status, failure, answer: answer.map(Box::new) }
    }

    /// What a retry policy, a breaker or a gate needs to know of it.
    #[must_use]
    pub const fn failure(&self) -> Failure {
        match self {
            Self::Status { failure, .. } => *failure,
            Self::NoAnswer(error) => error.failure(),
        }
    }

    /// The answer, if there is one: its body may say more.
    #[must_use]
    pub fn into_answer(self) -> Option<A> {
        match self {
            Self::Status { answer, .. } => answer.map(|answer| *answer),
            Self::NoAnswer(_) => None,
        }
    }
}

impl<A> fmt::Debug for HttpError<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status { status, failure, .. } => write!(f, "Status({status}, {failure:?})"),
            Self::NoAnswer(error) => f.debug_tuple("NoAnswer").field(error).finish(),
        }
    }
}
