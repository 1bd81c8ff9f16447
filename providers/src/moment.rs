//! Moments as providers write them in bodies: seconds since 1970, or a text by RFC 3339.

use steadfast_core::Timestamp;

const NANOS: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// Whole seconds since 1970, as digits, or an RFC 3339 text such as `2024-03-11T21:30:07.5+01:00`. Anything else, a
/// moment before 1970 and a text after 2554 are `None`.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_secs).or_else(|| rfc3339(text))
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let (time, rest) = rest.strip_prefix(['T', 't'])?.split_at_checked(8)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    // A leap second is the first one of the next minute.
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2]).filter(|[h, m, s]| *h < 24 && *m < 60 && *s <= 60)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at_checked(rest.bytes().take_while(u8::is_ascii_digit).count())?,
        None => ("0", rest),
    };
    let seconds = days(year, month, day)? * DAY + (hour * 60 + minute) * 60 + second;
    let seconds = if zone.eq_ignore_ascii_case("z") {
        seconds
    } else {
        let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2]).filter(|[h, m]| *h < 24 && *m < 60)?;
        let offset = (hours * 60 + minutes) * 60;
        // East of Greenwich it is later than there.
        match zone.as_bytes().first()? {
            b'+' => seconds.checked_sub(offset)?,
            b'-' => seconds + offset,
            _ => return None,
        }
    };
    seconds.checked_mul(NANOS)?.checked_add(nanos(fraction)?).map(Timestamp::from_nanos)
}

/// So many numbers of so many digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[u64; N]> {
    let (mut parts, mut numbers) = (text.split(between), [0; N]);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part =
            parts.next().filter(|part| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// What is finer than a nanosecond is dropped.
fn nanos(fraction: &str) -> Option<u64> {
    let known: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    if fraction.is_empty() { None } else { known.parse().ok() }
}

/// Days from 1970 to this date of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let february = if is_leap { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    if !(1..=*months.get(before)?).contains(&day) {
        return None;
    }
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let years = year.checked_sub(1970)?;
    let passed: u64 = months.iter().take(before).sum();
    Some(years * 365 + leaps(year - 1) - leaps(1969) + passed + day - 1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        moment(text).map(|at| at.as_nanos() / NANOS)
    }

    /// The examples of RFC 3339, section 5.8, but for the one of 1937; the seconds are those of GNU date.
    #[test]
    fn the_examples_of_the_standard() {
        assert_eq!(moment("1985-04-12T23:20:50.52Z"), Some(Timestamp::from_nanos(482_196_050_520_000_000)));
        assert_eq!(seconds("1996-12-19T16:39:57-08:00"), Some(851_042_397));
        assert_eq!(seconds("1990-12-31T23:59:60Z"), Some(662_688_000));
        assert_eq!(seconds("1990-12-31T15:59:60-08:00"), Some(662_688_000));
        assert_eq!(seconds("1937-01-01T12:00:27.87+00:20"), None, "before 1970");
    }

    #[test]
    fn other_spellings_of_the_same_moment() {
        for text in [
            "1700000000",
            "2023-11-14T22:13:20Z",
            "2023-11-14t22:13:20z",
            "2023-11-14T22:13:20.000000000999Z",
            "2023-11-15T03:43:20+05:30",
            "2023-11-14T22:13:20-00:00",
        ] {
            assert_eq!(moment(text), Some(Timestamp::from_secs(1_700_000_000)), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for text in [
            "",
            "-1",
            "1.5",
            "yesterday",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20,5Z",
            "2023-11-14T22:13:20ZZ",
            "2023-11-14T22:13:20+0530",
            "2023-11-14T22:13:20+24:00",
            "2023-11-14T22:13:20é05:30",
            "2023-11-14T22:13:2éZ",
            "2023-11-1é22:13:20Z",
            "2023-13-01T00:00:00Z",
            "2023-00-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2023-04-31T00:00:00Z",
            "2023-04-00T00:00:00Z",
            "2023-04-01T24:00:00Z",
            "2023-04-01T00:60:00Z",
            "2023-04-01T00:00:61Z",
            "+023-04-01T00:00:00Z",
            "1970-01-01T00:00:00+00:01",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    proptest! {
        /// Against another implementation, of HTTP's dates, which counts whole seconds.
        #[test]
        fn a_date_is_the_moment_that_http_dates_say(secs in 0..18_446_744_073_u64) {
            let date = httpdate::HttpDate::from(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)).to_string();
            let [_, day, month, year, time, _] = date.split(' ').collect::<Vec<_>>()[..] else { panic!("{date}") };
            let names = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            let month = names.iter().position(|name| *name == month).unwrap() + 1;
            prop_assert_eq!(seconds(&format!("{year}-{month:02}-{day}T{time}Z")), Some(secs));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}(\\.[0-9]{0,12})?[Zz+-].{0,6}") {
            let _ = moment(&text);
        }
    }
}
