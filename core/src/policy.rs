//! What every policy shares: one error for settings that make no sense, and durations a person can write.
//!
//! Policies are validated where they are made, so a value of a policy's type is a good one; there is no `validate()` to
//! forget. With the `serde` feature the same constructors stand behind deserialisation.

use alloc::boxed::Box;
use alloc::format;

/// A setting was refused: which, what it was, and what would be right.
///
/// ```
/// use core::time::Duration;
/// use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
///
/// let wrong = BackoffPolicy::new(Growth::doubling(Duration::from_secs(9)), Duration::from_secs(3), Jitter::Full);
/// let error = wrong.unwrap_err();
/// assert_eq!(error.to_string(), "backoff.cap is 3s: it must be at least the first delay, 9s");
/// assert_eq!((error.field(), error.value(), error.expected()), ("backoff.cap", "3s", "at least the first delay, 9s"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: it must be {expected}")]
pub struct PolicyError {
    field: &'static str,
    value: Box<str>,
    expected: Box<str>,
}

impl PolicyError {
    /// The setting's name, as in a file: `retry.attempts`.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// What it was, as a person reads it.
    #[must_use]
    pub const fn value(&self) -> &str {
        &self.value
    }

    /// What would be right, as the end of a sentence that begins "it must be".
    #[must_use]
    pub const fn expected(&self) -> &str {
        &self.expected
    }

    pub(crate) fn new(field: &'static str, value: impl core::fmt::Debug, expected: impl Into<Box<str>>) -> Self {
        Self { field, value: format!("{value:?}").into(), expected: expected.into() }
    }
}

/// Durations as a person writes them: `"3s"`, `"250ms"`, `"1m30s"`; units `ns`, `us`, `ms`, `s`, `m`, `h`, `d`.
///
/// For `#[serde(with = "steadfast_core::policy::humane")]`. Exact: whole numbers only, no floats, no bare numbers.
#[cfg(feature = "serde")]
pub mod humane {
    use alloc::string::String;
    use core::fmt::{self, Write as _};
    use core::time::Duration;

    use serde::de::{self, Visitor};
    use serde::{Deserializer, Serializer};

    const UNITS: [(&str, u64); 7] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];

    const EXPECTED: &str = "a duration such as \"3s\", \"250ms\" or \"1m30s\" (whole numbers; ns, us, ms, s, m, h, d)";

    /// Reads `"1m30s"`.
    ///
    /// # Errors
    /// Text that is not one or more whole numbers, each with a unit, or that exceeds 584 years.
    pub fn parse(text: &str) -> Result<Duration, &'static str> {
        const SHORTER: &str = "a duration of at most 584 years (213503d)";
        let mut total: u64 = 0;
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(EXPECTED);
        }
        while !rest.is_empty() {
            let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or(EXPECTED)?;
            let (number, tail) = rest.split_at_checked(unit_at).ok_or(EXPECTED)?;
            let next_at = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at_checked(next_at).ok_or(EXPECTED)?;
            let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(EXPECTED)?;
            if number.is_empty() {
                return Err(EXPECTED);
            }
            // They are all digits, so this fails only if the number is too large.
            let part = number.parse().ok().and_then(|number: u64| number.checked_mul(*scale));
            total = part.and_then(|part| total.checked_add(part)).ok_or(SHORTER)?;
            rest = tail;
        }
        Ok(Duration::from_nanos(total))
    }

    /// Writes what [`parse`] reads.
    #[must_use]
    pub fn format(span: Duration) -> String {
        let mut rest = crate::time::nanos(span);
        let mut text = String::new();
        for (unit, scale) in UNITS {
            let count = rest.checked_div(scale).unwrap_or_default();
            rest = rest.checked_rem(scale).unwrap_or_default();
            if count > 0 {
                let _ = write!(text, "{count}{unit}");
            }
        }
        if text.is_empty() { "0s".into() } else { text }
    }

    /// For `serde(with)`.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(*span))
    }

    /// For `serde(with)`.
    ///
    /// # Errors
    /// As [`parse`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_str(Text)
    }

    /// A duration's text. A number without a unit is told what it should be.
    struct Text;

    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(EXPECTED)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(|expected| E::custom(alloc::format!("{text:?} is not {expected}")))
        }
    }

    /// One duration, where `serde(with)` cannot reach: inside a list or a map.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
    #[serde(transparent)]
    #[expect(clippy::exhaustive_structs, reason = "a duration, to be written")]
    pub struct Humane(#[serde(with = "self")] pub Duration);

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn durations_read_back_as_written() {
            for text in ["0s", "3s", "250ms", "1m30s", "2d3h4m5s6ms7us8ns"] {
                assert_eq!(format(parse(text).unwrap()), text);
            }
        }

        #[test]
        fn nonsense_is_refused() {
            for text in ["", " ", "3", "s", "3x", "-3s", "1.5s", "99999999999999999999s", "600y", "3 s", "٣s"] {
                assert!(parse(text).is_err(), "{text:?}");
            }
        }

        #[test]
        fn what_is_too_long_is_not_called_misspelt() {
            for text in ["213504d", "99999999999999999999ns", "1s18446744073709551615ns", "1d99999999999999999999s"] {
                assert!(parse(text).unwrap_err().contains("at most 584 years"), "{text:?}");
            }
            assert!(parse("213503d").is_ok());
        }
    }
}

/// An optional setting whose default is not `None`: in a file, the word `"none"` switches it off, since not every
/// format has a null (TOML).
///
/// For `#[serde(with = "steadfast_core::policy::or_none")]` on an `Option`. A null is read too.
#[cfg(feature = "serde")]
pub mod or_none {
    use core::fmt;
    use core::marker::PhantomData;

    use serde::de::value::MapAccessDeserializer;
    use serde::de::{Error, MapAccess, Visitor};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// For `serde(with)`.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<T: Serialize, S: Serializer>(setting: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        match setting {
            Some(setting) if serializer.is_human_readable() => setting.serialize(serializer),
            None if serializer.is_human_readable() => serializer.serialize_str("none"),
            _ => setting.serialize(serializer),
        }
    }

    /// For `serde(with)`.
    ///
    /// # Errors
    /// Neither `"none"` nor what the setting itself is read from.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(OrNone(PhantomData))
        } else {
            Option::deserialize(deserializer)
        }
    }

    struct OrNone<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OrNone<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of settings or \"none\"")
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_any(self)
        }

        fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
            if word == "none" { Ok(None) } else { Err(E::invalid_value(serde::de::Unexpected::Other("a text"), &self)) }
        }

        fn visit_map<A: MapAccess<'de>>(self, settings: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(settings)).map(Some)
        }
    }
}
