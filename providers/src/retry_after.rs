//! Reads `Retry-After`: how long the provider asks us to wait.
//!
//! `Retry-After` (RFC 9110, section 10.2.3) has two forms: a number of seconds, or a date in one of three notations.
//! Both come from another party, so both are read strictly and bounded:
//!
//! | value | read as |
//! | --- | --- |
//! | `120`, `007`, with spaces or tabs around | that many seconds |
//! | more than [`MAX`], with however many digits | [`MAX`] |
//! | `Sun, 06 Nov 1994 08:49:37 GMT` | the time until then |
//! | `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994` | the same: the two obsolete notations |
//! | a date in the past | zero |
//! | `-1`, `+5`, `1.5`, `1e3`, `NaN`, `5,10`, `٥`, nothing, a date that does not exist | malformed, hence absent |
//!
//! A date is a moment on the *provider's* clock. It is compared with the `Date` header of the same answer where there
//! is a usable one, so the two clocks need not agree; else with our own wall clock.
//!
//! If the header is repeated, its first line counts.

use core::time::Duration;

use http::HeaderMap;
use http::header::{AGE, AsHeaderName, DATE, RETRY_AFTER};
use steadfast_core::Timestamp;

/// The longest wait that is returned: 2^31 s, 68 years. RFC 9111, section 1.2.2, uses it for a number too large to
/// hold.
///
/// It means "practically for ever" without overflowing anything; the policy says how long a wait may really be
/// ([`RetryAfter`](steadfast_core::retry::RetryAfter), an hour by default).
pub const MAX: Duration = Duration::from_secs(1 << 31);

/// How long the provider asks us to wait from now, at most [`MAX`]; `None` if the header is missing or malformed.
///
/// `wall` is our wall clock when the answer came.
///
/// ```
/// use core::time::Duration;
/// use http::{HeaderMap, HeaderValue};
/// use steadfast_core::Timestamp;
/// use steadfast_providers::retry_after::retry_after;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("date", HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
/// headers.insert("retry-after", HeaderValue::from_static("Sun, 06 Nov 1994 08:49:42 GMT"));
/// let wall = Timestamp::from_secs(1_700_000_000); // our clock is years off theirs, and it does not matter
/// assert_eq!(retry_after(&headers, wall), Some(Duration::from_secs(5)));
///
/// headers.insert("retry-after", HeaderValue::from_static("soon"));
/// assert_eq!(retry_after(&headers, wall), None);
/// ```
#[must_use]
pub fn retry_after(headers: &HeaderMap, wall: Timestamp) -> Option<Duration> {
    let value = first_line(headers, RETRY_AFTER)?;
    if let Some(wait) = delay_seconds(value) {
        return Some(wait);
    }
    let then = http_date(value)?;
    let now = first_line(headers, DATE).and_then(http_date).unwrap_or(wall);
    Some(then.saturating_since(now).min(MAX))
}

/// The header's first line, without the optional white space around it: spaces and tabs, nothing else.
pub(crate) fn first_line(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let text = core::str::from_utf8(headers.get(name)?.as_bytes()).ok()?;
    Some(text.trim_matches([' ', '\t']))
}

/// A header that is one whole number: digits and nothing else, saturated at 64 bits.
pub(crate) fn digits(headers: &HeaderMap, name: impl AsHeaderName) -> Option<u64> {
    let text = first_line(headers, name)?;
    let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Whether the answer comes out of a cache, and so describes the past.
pub(crate) fn is_aged(headers: &HeaderMap) -> bool {
    digits(headers, AGE).is_some_and(|age| age > 0)
}

/// `delay-seconds = 1*DIGIT`. Any number of digits is a number; `u64`'s own parser would take a sign and refuse 21
/// digits.
fn delay_seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = text.parse().unwrap_or(u64::MAX);
    Some(Duration::from_secs(seconds).min(MAX))
}

/// `HTTP-date`, from 1970 on, in its three notations. A weekday that does not fit the date makes it malformed.
pub(crate) fn http_date(text: &str) -> Option<Timestamp> {
    // The parser skips the byte in front of the time unread where the day is written with hyphens.
    let before_time = text.find(':')?.checked_sub(3)?;
    if text.as_bytes().get(before_time) != Some(&b' ') {
        return None;
    }
    httpdate::parse_http_date(text).ok().map(Timestamp::from)
}
