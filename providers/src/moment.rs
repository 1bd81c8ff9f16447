//! Moments as providers write them in bodies: seconds since 1970, or a text by RFC 3339.

use core::time::Duration;

use jiff::fmt::temporal::DateTimeParser;
use steadfast_core::Timestamp;

/// Whole seconds since 1970, as digits, or an RFC 3339 text such as `2024-03-11T21:30:07.5+01:00`. Anything else, a
/// moment before 1970 and a text after 2554 are `None`.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_secs).or_else(|| rfc3339(text))
}

/// The calendar is jiff's. It reads more than RFC 3339 says (other spellings of ISO 8601, which are not told apart from a
/// mistake), no fraction of more than nine digits, and the second before for a leap second.
fn rfc3339(text: &str) -> Option<Timestamp> {
    let (clock, rest) = text.split_at_checked(19)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(digits) => rest.split_at_checked(1 + digits.bytes().take_while(u8::is_ascii_digit).count())?,
        None => ("", rest),
    };
    let has_shape =
        |text: &str, shape: &str| text.replace(|c: char| c.is_ascii_digit(), "0").eq_ignore_ascii_case(shape);
    let is_zone = zone.eq_ignore_ascii_case("z")
        || ["+00:00", "-00:00"].iter().any(|shape| has_shape(zone, shape)) && zone.get(1..3)? < "24";
    if !has_shape(clock, "0000-00-00T00:00:00") || !is_zone {
        return None;
    }
    let nanoseconds = fraction.get(..fraction.len().min(10))?;
    let moment = DateTimeParser::new().parse_timestamp(format!("{clock}{nanoseconds}{zone}")).ok()?;
    let moment = Timestamp::from_nanos(u64::try_from(moment.as_nanosecond()).ok()?);
    Some(if clock.ends_with("60") { moment.saturating_add(Duration::from_secs(1)) } else { moment })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        moment(text).map(|at| at.as_nanos() / 1_000_000_000)
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
