//! Moments as providers write them in bodies: seconds since 1970, or a text by RFC 3339.

use jiff::fmt::temporal::DateTimeParser;
use steadfast_core::Timestamp;

/// Whole seconds since 1970, as digits, or an RFC 3339 text such as `2024-03-11T21:30:07.5+01:00`, with nine digits of a
/// fraction at most. `None` for a moment before 1970 or after 2554, and for a text that is none; other spellings of ISO
/// 8601 are read as jiff reads them.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_secs).or_else(|| rfc3339(text))
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    let moment = DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(moment.as_nanosecond()).ok().map(Timestamp::from_nanos)
}

#[cfg(test)]
mod tests {
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
        assert_eq!(seconds("1990-12-31T23:59:60Z"), Some(662_687_999), "a leap second is the one before it");
        assert_eq!(seconds("1990-12-31T15:59:60-08:00"), Some(662_687_999));
        assert_eq!(seconds("1937-01-01T12:00:27.87+00:20"), None, "before 1970");
    }

    #[test]
    fn other_spellings_of_the_same_moment() {
        for text in [
            "1700000000",
            "2023-11-14T22:13:20Z",
            "2023-11-14t22:13:20z",
            "2023-11-14T22:13:20.000000000Z",
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
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20ZZ",
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
        #[test]
        fn no_text_panics(text in ".{0,40}|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}(\\.[0-9]{0,12})?[Zz+-].{0,6}") {
            let _ = moment(&text);
        }
    }
}
