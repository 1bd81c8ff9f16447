//! Times as people and SQLite's date functions read them, and back without loss.
//!
//! `2026-11-21T08:54:49.123456789Z`: always thirty characters, always UTC, so that texts sort as times do.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use steadfast_core::Timestamp;

const DAY: u64 = 86_400;
const SECOND: u64 = 1_000_000_000;
const LENGTH: usize = 30;
/// Where the digits stand in the text: year, month, day, hour, minute, second, nanosecond.
const FIELDS: [(usize, usize); 7] = [(0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19), (20, 29)];

/// The text, where it costs no allocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text([u8; LENGTH]);

impl Text {
    pub(super) fn new(time: Timestamp) -> Self {
        let (seconds, nanos) = (time.as_nanos() / SECOND, time.as_nanos() % SECOND);
        let (year, month, day) = date(seconds / DAY);
        let clock = seconds % DAY;
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        for ((from, to), value) in
            FIELDS.into_iter().zip([year, month, day, clock / 3600, clock / 60 % 60, clock % 60, nanos])
        {
            let mut rest = value;
            for digit in text.iter_mut().take(to).skip(from).rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        Self(text)
    }
}

impl ToSql for Text {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

pub(super) fn write(time: Timestamp) -> String {
    // Digits and ASCII signs only.
    String::from_utf8(Text::new(time).0.to_vec()).unwrap_or_default()
}

/// `None` for what [`write()`] would not have written.
pub(super) fn read(text: &[u8]) -> Option<Timestamp> {
    if text.len() != LENGTH {
        return None;
    }
    let mut values = [0_u64; 7];
    for (value, (from, to)) in values.iter_mut().zip(FIELDS) {
        for byte in text.get(from..to)? {
            *value = *value * 10 + u64::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
        }
    }
    let [year, month, day, hour, minute, second, nanos] = values;
    let days = days(year, month, day)?;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let time = Timestamp::from_nanos(seconds.checked_mul(SECOND)?.checked_add(nanos)?);
    // Whatever is out of range or has other separators is not what is written for the time it would stand for.
    (Text::new(time).0 == text).then_some(time)
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

/// The way back, `days_from_civil`.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = ((153 * shifted + 2) / 5 + day).checked_sub(1)?;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_time_reads_back_as_written(nanos in any::<u64>()) {
            let time = Timestamp::from_nanos(nanos);
            prop_assert_eq!(read(write(time).as_bytes()), Some(time));
        }

        #[test]
        fn texts_sort_as_times_do(a in any::<u64>(), b in any::<u64>()) {
            let text = |nanos| write(Timestamp::from_nanos(nanos));
            prop_assert_eq!(text(a).cmp(&text(b)), a.cmp(&b));
        }

        #[test]
        fn what_is_read_is_what_would_be_written(text in "[0-9TZ:. -]{28,31}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}.[0-9]{9}Z") {
            if let Some(time) = read(text.as_bytes()) {
                prop_assert_eq!(write(time), text);
            }
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
