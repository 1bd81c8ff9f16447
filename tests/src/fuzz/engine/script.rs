//! What the bytes of a script mean.

use std::time::Duration;

use arbitrary::Unstructured;
use steadfast_core::Reference;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};

use super::YEAR;

/// The next byte; zero after the last.
pub(super) fn byte(script: &mut Unstructured<'_>) -> u8 {
    script.arbitrary().unwrap_or_default()
}

/// A digit is its number.
pub(super) fn index(script: &mut Unstructured<'_>) -> usize {
    usize::from(byte(script).wrapping_sub(b'0'))
}

/// A digit is a span that matters somewhere; any other byte, eight more of nanoseconds.
pub(super) fn span(script: &mut Unstructured<'_>) -> Duration {
    match byte(script) {
        b'0' => Duration::ZERO,
        b'1' => Duration::from_millis(1),
        b'2' => Duration::from_millis(100),
        b'3' => Duration::from_secs(1),
        b'4' => Duration::from_secs(5),
        b'5' => Duration::from_secs(30),
        b'6' => Duration::from_secs(120),
        b'7' => Duration::from_secs(3_600),
        b'8' => Duration::from_secs(86_400),
        b'9' => YEAR,
        _ => Duration::from_nanos(script.arbitrary().unwrap_or_default()),
    }
}

/// `0` accepted, `1` pending, `2` ready, `3` failed, `4` not found, `5` partial, `6` undecided, `7` failed before it
/// ran, `8` perhaps, `9` refused; others by other bytes.
pub(super) fn answer(script: &mut Unstructured<'_>) -> Result<Reading, Failure> {
    let reference = |text: &str| Reading::Accepted(Reference::new(text).expect("no control characters"));
    let failed = |class, certainty| Err(Failure::new(class, certainty));
    match byte(script) % 20 {
        8 => Ok(reference("txn-1")),
        9 => Ok(Reading::Pending { hint: None }),
        10 => Ok(Reading::Ready),
        11 => Ok(Reading::Failed),
        12 => Ok(Reading::NotFound),
        13 => Ok(Reading::Partial),
        14 => Ok(Reading::Undecided),
        15 => failed(Class::Transient, Certainty::NotExecuted),
        16 => failed(Class::Transient, Certainty::MayHaveExecuted),
        17 => failed(Class::Permanent, Certainty::NotExecuted),
        6 => Ok(reference("txn-2")),
        7 => Ok(Reading::Pending { hint: Some(span(script)) }),
        18 => Ok(Reading::AwaitingPerson { hint: Some(Duration::MAX) }),
        19 => Ok(Reading::Unknown("strange".into())),
        0 => failed(Class::Permanent, Certainty::Executed),
        1 => failed(Class::Permanent, Certainty::MayHaveExecuted),
        2 => failed(Class::TimedOut, Certainty::MayHaveExecuted),
        3 => failed(Class::Throttled, Certainty::NotExecuted),
        _ => Err(Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(span(script)))),
    }
}
