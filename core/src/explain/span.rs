//! A duration as a person says it.

use core::fmt::{self, Write as _};
use core::time::Duration;

/// Shows a duration in at most two units, rounded: `250 ms`, `6.1 s`, `2 min 5 s`, `3 h`, `2 d 4 h`. A width is
/// honoured, to the right.
///
/// To read one back, use [`policy::humane`](crate::policy), which is exact.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::explain::Span;
///
/// assert_eq!(Span(Duration::from_millis(6_130)).to_string(), "6.1 s");
/// assert_eq!(format!("{:>10}", Span(Duration::from_secs(125))), " 2 min 5 s");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a duration, to be shown")]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(width) = f.width() {
            let mut length = Length(0);
            write_span(&mut length, self.0)?;
            for _ in length.0..width {
                f.write_char(' ')?;
            }
        }
        write_span(f, self.0)
    }
}

/// Rounds to the unit below first, so that 59.96 s is a minute and never `60 s`.
fn write_span(f: &mut impl fmt::Write, span: Duration) -> fmt::Result {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let millis = rounded(micros, 1_000);
    if span.is_zero() {
        return f.write_str("0 s");
    }
    if millis == 0 {
        return f.write_str("under 1 ms");
    }
    if millis < 1_000 {
        return write!(f, "{millis} ms");
    }
    let tenths = rounded(millis, 100);
    if tenths < 600 {
        let (secs, tenth) = (tenths / 10, tenths % 10);
        return if tenth == 0 { write!(f, "{secs} s") } else { write!(f, "{secs}.{tenth} s") };
    }
    let secs = rounded(millis, 1_000);
    if secs < 3_600 {
        return two(f, secs / 60, "min", secs % 60, "s");
    }
    let mins = rounded(secs, 60);
    if mins < 1_440 {
        return two(f, mins / 60, "h", mins % 60, "min");
    }
    let hours = rounded(mins, 60);
    two(f, hours / 24, "d", hours % 24, "h")
}

const fn rounded(count: u64, unit: u64) -> u64 {
    match count.saturating_add(unit / 2).checked_div(unit) {
        Some(whole) => whole,
        None => count,
    }
}

fn two(f: &mut impl fmt::Write, great: u64, unit: &str, small: u64, sub: &str) -> fmt::Result {
    write!(f, "{great} {unit}")?;
    if small > 0 { write!(f, " {small} {sub}") } else { Ok(()) }
}

/// Counts what is written, all of it ASCII.
struct Length(usize);

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.saturating_add(text.len());
        Ok(())
    }
}
