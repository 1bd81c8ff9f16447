//! Times as people read them.

use steadfast_core::Timestamp;

/// Formats a time as the file's columns do: `2026-11-21T08:54:49.123456789Z`, always UTC. All have thirty characters, so
/// texts sort as times do.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "64 bits of nanoseconds end in the year 2554")]
pub fn iso8601(time: Timestamp) -> String {
    let time = jiff::Timestamp::from_nanosecond(time.as_nanos().into()).expect("before the year 9999");
    format!("{time:.9}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_sort_as_times_do(a in any::<u64>(), b in any::<u64>()) {
            let text = |nanos| iso8601(Timestamp::from_nanos(nanos));
            prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
        }
    }

    #[test]
    fn known_times_read_as_in_the_calendar() {
        let text = |seconds| iso8601(Timestamp::from_secs(seconds));
        assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(text(1_700_000_000), "2023-11-14T22:13:20.000000000Z");
        assert_eq!(iso8601(Timestamp::NEVER), "2554-07-21T23:34:33.709551615Z");
    }
}
