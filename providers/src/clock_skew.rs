//! How far another party's clock differs from ours.

use core::time::Duration;

use http::HeaderMap;
use http::header::DATE;
use steadfast_core::Timestamp;

use crate::retry_after::{first_line, http_date, is_aged};

/// The difference between another party's clock and ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockSkew {
    /// Theirs is ahead of ours by this much.
    Ahead(Duration),
    /// Theirs is behind ours by this much.
    Behind(Duration),
}

impl ClockSkew {
    /// A skew of this size or more cannot be explained by a slow answer: 4 minutes, as in AWS's SDKs. With such a
    /// clock, signed requests and webhooks fail.
    pub const WORTH_SAYING: Duration = Duration::from_secs(240);

    /// The size of the difference, in either direction.
    #[must_use]
    pub const fn span(self) -> Duration {
        let (Self::Ahead(span) | Self::Behind(span)) = self;
        span
    }
}

/// How far the clock behind an answer's `Date` is from ours, to the second (the answer's travel time is part of it).
/// `None` if the answer has no date, or comes out of a cache.
///
/// ```
/// use std::time::Duration;
///
/// use http::{HeaderMap, HeaderValue};
/// use steadfast_core::Timestamp;
/// use steadfast_providers::{ClockSkew, clock_skew};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("date", HeaderValue::from_static("Tue, 14 Nov 2023 22:13:20 GMT")); // 1,700,000,000 s
/// let ours = Timestamp::from_secs(1_700_000_300);
/// assert_eq!(clock_skew(&headers, ours), Some(ClockSkew::Behind(Duration::from_secs(300))));
/// ```
#[must_use]
pub fn clock_skew(headers: &HeaderMap, wall: Timestamp) -> Option<ClockSkew> {
    let theirs = http_date(first_line(headers, DATE)?).filter(|_| !is_aged(headers))?;
    Some(match theirs.saturating_since(wall) {
        Duration::ZERO => ClockSkew::Behind(wall.saturating_since(theirs)),
        ahead => ClockSkew::Ahead(ahead),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::AGE;

    use super::*;

    /// Such an answer's date is that of its storing: the clock may well be right.
    #[test]
    fn an_answer_out_of_a_cache_says_nothing_of_the_clock() {
        let date = (DATE, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:09 GMT"));
        let skew = |age| {
            let headers = HeaderMap::from_iter([date.clone(), (AGE, HeaderValue::from_static(age))]);
            clock_skew(&headers, Timestamp::from_secs(909))
        };
        assert_eq!((skew("900"), skew("0")), (None, Some(ClockSkew::Behind(Duration::from_secs(900)))));
    }

    #[test]
    fn a_date_that_is_none_says_nothing_and_no_clock_overflows() {
        for (date, wall, skew) in [
            ("yesterday", Timestamp::from_secs(1), None),
            ("", Timestamp::from_secs(1), None),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Timestamp::from_secs(7), Some(ClockSkew::Behind(Duration::from_secs(7)))),
            ("Thu, 01 Jan 1970 00:00:09 GMT", Timestamp::from_secs(7), Some(ClockSkew::Ahead(Duration::from_secs(2)))),
        ] {
            let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static(date))]);
            assert_eq!(clock_skew(&headers, wall), skew, "{date}");
        }
        let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static("Fri, 31 Dec 9999 23:59:59 GMT"))]);
        assert!(clock_skew(&headers, Timestamp::EPOCH).is_some_and(|skew| skew.span() > ClockSkew::WORTH_SAYING));
    }
}
