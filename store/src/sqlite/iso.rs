//! Times as people read them.
//!
//! `2026-11-21T08:54:49.123456789Z`: always thirty characters, always UTC, so that texts sort as times do. The view
//! writes the same form (`view.rs`).

use steadfast_core::Timestamp;

const DAY: u64 = 86_400;
const SECOND: u64 = 1_000_000_000;

pub(super) fn write(time: Timestamp) -> String {
    let (seconds, nanos) = (time.as_nanos() / SECOND, time.as_nanos() % SECOND);
    let (year, month, day) = date(seconds / DAY);
    let clock = seconds % DAY;
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Howard Hinnant's `civil_from_days`, for days since 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_sort_as_times_do(a in any::<u64>(), b in any::<u64>()) {
            let text = |nanos| write(Timestamp::from_nanos(nanos));
            prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
        }
    }

    #[test]
    fn known_times_read_as_in_the_calendar() {
        let text = |seconds| write(Timestamp::from_secs(seconds));
        assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(text(1_700_000_000), "2023-11-14T22:13:20.000000000Z");
        assert_eq!(write(Timestamp::NEVER), "2554-07-21T23:34:33.709551615Z");
    }
}
