//! What an HTTP status says about a request, where the provider does not say otherwise.
//!
//! Two questions are answered by a status alone: may the same request help later (the [`Class`]), and did this one run
//! (the [`Certainty`])? The second is asked of creates only: polls and look-ups run nothing.
//!
//! | status | class | did a create run? | why |
//! | --- | --- | --- | --- |
//! | 1xx | transient | perhaps | an interim answer is no answer |
//! | 2xx | transient | perhaps | asked only of a body that could not be read: HTML, cut short, empty |
//! | 307, 308 | permanent | no | the request is to be made elsewhere. Redirects are not followed: they would carry body and keys to another place |
//! | all other 3xx | permanent | perhaps | after a POST, 303 and in practice 301 and 302 lead to the result of what was done: RFC 9110, section 15.4.4 |
//! | 400 and all 4xx not below | permanent | no | the provider's word that it refused |
//! | 408 | transient | perhaps | the server stopped waiting; it does not say what it had received by then |
//! | 409 with `Retry-After` | transient | perhaps | an earlier request of this key is still running |
//! | 409 without | permanent | perhaps | the key was used before: with another body, or for a job that exists |
//! | 413 with `Retry-After` | transient | no | too large for now; without the header, for ever |
//! | 421 | transient | no | the wrong server: RFC 9110, section 15.5.20, allows any method again on another connection |
//! | 425 | transient | no | the server refused to risk a replay of early data: RFC 8470 |
//! | 429 | throttled | no | refused before it ran |
//! | 499 | transient | perhaps | between the server and its own back end somebody hung up: Google's APIs say so of every call that was cancelled, wherever that was, and servers that stop cancel what runs |
//! | 501, 505, 506, 508, 510, 511 | permanent | perhaps | the set-up is wrong, and stays so |
//! | all other 5xx (500, 502, 503, 504, 529, 599) | transient | perhaps | |
//! | 600 to 999 | transient | perhaps | RFC 9110, section 15: an invalid status is read like a 5xx |
//!
//! So a 4xx (with the exceptions above) is proof that nothing ran, and no 5xx is: it may come from a proxy that lost
//! the answer of a job well under way. A provider that promises more, such as "a 503 was not accepted", says so in its
//! profile.

use http::{HeaderMap, StatusCode};
use steadfast_core::retry::{AnswerDigest, Certainty, Class, Failure};
use steadfast_core::{Kind, Timestamp};

use crate::Answer;
use crate::retry_after::retry_after;

/// The failure that this answer's status stands for, by the module's table, with the provider's `Retry-After` if there
/// is one.
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use steadfast_core::retry::{Certainty, Class, Failure};
/// use steadfast_core::{Kind, Timestamp};
/// use steadfast_providers::{Answer, status};
///
/// let (headers, wall) = (HeaderMap::new(), Timestamp::from_secs(1_700_000_000));
/// let lost = Answer::new(Kind::Create, StatusCode::BAD_GATEWAY, &headers, b"", wall);
/// assert_eq!(status::failure(&lost), Failure::new(Class::Transient, Certainty::MayHaveExecuted));
/// ```
#[must_use]
pub fn failure(answer: &Answer<'_>) -> Failure {
    let wait = retry_after(answer.headers, answer.wall);
    let certainty = match answer.kind {
        Kind::Poll | Kind::Lookup => Certainty::NotExecuted,
        _ => certainty(answer.status),
    };
    Failure::new(class(answer.status, wait.is_some()), certainty).with_retry_after(wait)
}

/// Checks the status of a plain call, one that is not a job: a 2xx is a success, anything else is the [`failure`] that
/// the module's table makes of it.
///
/// The certainty is that of a create, since the status alone does not tell what was asked: a caller that knows its
/// request only reads may repeat it all the same. `wall` is our wall clock when the answer came.
///
/// ```
/// use core::time::Duration;
/// use http::{HeaderMap, HeaderValue, StatusCode};
/// use steadfast_core::Timestamp;
/// use steadfast_core::retry::{Certainty, Class};
/// use steadfast_providers::status;
///
/// let wall = Timestamp::from_secs(1_700_000_000);
/// let mut headers = HeaderMap::new();
/// headers.insert("retry-after", HeaderValue::from_static("5"));
/// assert!(status::check(StatusCode::CREATED, &headers, wall).is_ok());
/// let throttled = status::check(StatusCode::TOO_MANY_REQUESTS, &headers, wall).unwrap_err();
/// assert_eq!((throttled.class, throttled.certainty), (Class::Throttled, Certainty::NotExecuted));
/// assert_eq!(throttled.retry_after, Some(Duration::from_secs(5)));
/// ```
///
/// # Errors
/// The failure that the status stands for, with the `Retry-After` if there is one.
pub fn check(status: StatusCode, headers: &HeaderMap, wall: Timestamp) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    Err(failure(&Answer::new(Kind::Create, status, headers, b"", wall)))
}

/// A digest by which an answer is recognised when a provider that has stored it for a key replays it; `None` if answers
/// of its kind are not stored.
///
/// Taken for stored is what the job itself led to: a 2xx (here only one that could not be read) or a 5xx. Not a 4xx,
/// which as a rule refuses before anything runs or points to an earlier request (409); nor a 502, 503 or 504, which come
/// from proxies and gateways, are all alike, and pass. Headers are left out: dates and request ids differ in a replay.
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use steadfast_core::{Kind, Timestamp};
/// use steadfast_providers::{Answer, status};
///
/// let (headers, wall) = (HeaderMap::new(), Timestamp::from_secs(1_700_000_000));
/// let answer = |status| Answer::new(Kind::Create, status, &headers, b"{}", wall);
/// assert!(status::stored(&answer(StatusCode::INTERNAL_SERVER_ERROR)).is_some());
/// assert!(status::stored(&answer(StatusCode::BAD_GATEWAY)).is_none());
/// ```
#[must_use]
pub fn stored(answer: &Answer<'_>) -> Option<AnswerDigest> {
    let status = answer.status.as_u16();
    let is_stored = answer.kind == Kind::Create && matches!(status, 200..=299 | 500 | 501 | 505..=599);
    is_stored.then(|| AnswerDigest::of(status, answer.body))
}

fn class(status: StatusCode, says_when: bool) -> Class {
    match status.as_u16() {
        429 => Class::Throttled,
        408 | 421 | 425 | 499 => Class::Transient,
        409 | 413 if says_when => Class::Transient,
        300..=499 | 501 | 505 | 506 | 508 | 510 | 511 => Class::Permanent,
        _ => Class::Transient,
    }
}

fn certainty(status: StatusCode) -> Certainty {
    match status.as_u16() {
        408 | 409 | 499 => Certainty::MayHaveExecuted,
        307 | 308 | 400..=499 => Certainty::NotExecuted,
        _ => Certainty::MayHaveExecuted,
    }
}
