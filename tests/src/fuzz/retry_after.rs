//! `Retry-After`, of any bytes: exactly what RFC 9110 says, no more and no less.
//!
//! The grammar is written down a second time here, from section 10.2.3 and 5.6.7 and by another way to count days, and
//! both must agree on every value: a number of seconds, a date in one of its three notations, or nothing. So a wait is
//! never shorter than the text says, never longer, and never told where the text says none. Spaces around the value,
//! and further lines of the header, change nothing; what was read reads the same when written canonically.
//!
//! Input: the header's value; on further lines, each optional, the `Date` beside it, our wall clock in seconds, and
//! further lines of the same header.

use std::time::{Duration, SystemTime};

use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
use steadfast_core::Timestamp;
use steadfast_providers::retry_after::{MAX, retry_after};

use super::{WALL_SECS, number, trimmed};

/// See the [module](self).
pub fn holds(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let value = lines.next().unwrap_or_default();
    let date = lines.next().filter(|date| !date.is_empty());
    let wall = lines.next().and_then(number).unwrap_or(WALL_SECS);
    let more: Vec<&[u8]> = lines.collect();

    let Some(said) = ask(&[value], date, wall) else { return };
    let now = date.and_then(|date| seconds_of_date(trimmed(date))).unwrap_or(wall);
    let then = seconds_of_date(trimmed(value));
    // Times beyond the year 2554 are the last moment that there is.
    let stamp = |seconds: u64| u128::from(seconds) * 1_000_000_000;
    let left = |then| stamp(then).min(u128::from(u64::MAX)).saturating_sub(stamp(now).min(u128::from(u64::MAX)));
    let expected = match number(trimmed(value)) {
        Some(seconds) => Some(Duration::from_secs(seconds).min(MAX)),
        None => then.map(|then| Duration::from_nanos(u64::try_from(left(then)).unwrap_or(u64::MAX)).min(MAX)),
    };
    assert_eq!(said, expected, "{}", value.escape_ascii());

    let spaced = [b" \t", value, b"\t "].concat();
    assert_eq!(ask(&[&spaced], date, wall), Some(said), "spaces around it count");
    if let Some(with_more) = ask(&[&[value], &more[..]].concat(), date, wall) {
        assert_eq!(with_more, said, "a further line counts");
    }
    if let Some(wait) = said {
        let canonical = wait.as_secs().to_string();
        let whole = Duration::from_secs(wait.as_secs());
        assert_eq!(ask(&[canonical.as_bytes()], date, wall), Some(Some(whole)), "as seconds");
    }
    if let Some(then) = then {
        let canonical = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(then));
        assert_eq!(ask(&[canonical.as_bytes()], date, wall), Some(said), "as {canonical}");
    }
}

/// What is read; `None` if no header can carry these values.
fn ask(values: &[&[u8]], date: Option<&[u8]>, wall: u64) -> Option<Option<Duration>> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(RETRY_AFTER, HeaderValue::from_bytes(value).ok()?);
    }
    if let Some(date) = date {
        headers.insert(DATE, HeaderValue::from_bytes(date).ok()?);
    }
    Some(retry_after(&headers, Timestamp::from_secs(wall)))
}

const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
/// From a Thursday, as 1 January 1970 was.
const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The seconds since 1970 of an `HTTP-date` of RFC 9110, section 5.6.7, that exists, on the weekday that it names.
///
/// A year of two digits is read as from 1970 to 2069: the 50-year rule needs a clock to count from, and the parser has
/// none.
pub(super) fn seconds_of_date(text: &[u8]) -> Option<u64> {
    let comma = text.iter().position(|byte| *byte == b',');
    let (name, long, day, month, year, time) = match (comma, text) {
        // Sun, 06 Nov 1994 08:49:37 GMT
        (Some(3), [_, _, _, b',', b' ', d1, d2, b' ', m1, m2, m3, b' ', y1, y2, y3, y4, b' ', time @ ..]) => {
            (&text[..3], false, [*d1, *d2], [*m1, *m2, *m3], [*y1, *y2, *y3, *y4], time.strip_suffix(b" GMT")?)
        }
        // Sunday, 06-Nov-94 08:49:37 GMT
        (Some(at), _) => {
            let [b',', b' ', d1, d2, b'-', m1, m2, m3, b'-', y1, y2, b' ', time @ ..] = &text[at..] else {
                return None;
            };
            let century = if number(&[*y1, *y2])? < 70 { b"20" } else { b"19" };
            let year = [century[0], century[1], *y1, *y2];
            (&text[..at], true, [*d1, *d2], [*m1, *m2, *m3], year, time.strip_suffix(b" GMT")?)
        }
        // Sun Nov  6 08:49:37 1994
        (None, [n1, n2, n3, b' ', m1, m2, m3, b' ', d1, d2, b' ', rest @ ..]) => {
            let (time, [b' ', year @ ..]) = rest.split_at_checked(8)? else { return None };
            let day = [if *d1 == b' ' { b'0' } else { *d1 }, *d2];
            (&[*n1, *n2, *n3][..], false, day, [*m1, *m2, *m3], year.try_into().ok()?, time)
        }
        _ => return None,
    };
    let month = MONTHS.iter().position(|known| *known == month)? + 1;
    let (day, year) = (number(&day)?, number(&year)?);
    let [h1, h2, b':', n1, n2, b':', s1, s2] = time else { return None };
    let (hour, minute, second) = (number(&[*h1, *h2])?, number(&[*n1, *n2])?, number(&[*s1, *s2])?);
    if hour > 23 || minute > 59 || second > 59 || year < 1970 {
        return None;
    }
    let days = days_until(year, month, day)?;
    let weekday = DAYS[(days % 7) as usize];
    let named = if long { weekday } else { &weekday[..3] };
    (named.as_bytes() == name).then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days from 1970 to this one, counted year by year and month by month; `None` if it does not exist.
fn days_until(year: u64, month: usize, day: u64) -> Option<u64> {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let months: u64 = lengths.iter().take(month - 1).sum();
    (1..=lengths[month - 1]).contains(&day).then(|| years + months + day - 1)
}
