//! The names of a job: the caller's idempotency key, the payload's fingerprint, the provider's reference.
//!
//! Each is parsed once, where it enters, and then trusted. None shows its text in `Debug`, since callers put personal data into keys and
//! log what they debug; [`Key::as_str`] and [`Reference::as_str`] are the deliberate ways to it.

use alloc::boxed::Box;
use core::fmt;

use crate::seed::Seed;

/// The caller's name for one job, sent with every create attempt.
///
/// 1 to 255 visible ASCII characters (`!` to `~`): what every provider's header can carry, and nothing that could split one.
///
/// ```
/// use steadfast_core::Key;
///
/// let key = Key::new("order-42")?;
/// assert_eq!(key.as_str(), "order-42");
/// assert_eq!(format!("{key:?}"), "Key(#84386812)");
/// assert!(Key::new("order-42\r\nX-Admin: 1").is_err());
/// # Ok::<(), steadfast_core::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Box<str>", into = "Box<str>")
)]
pub struct Key(Box<str>);

impl Key {
    /// The longest key, in bytes (Stripe's, Didit's and Persona's limit).
    pub const MAX_LEN: usize = 255;

    /// Checks and takes a key.
    ///
    /// # Errors
    /// An empty key, one longer than [`Key::MAX_LEN`], or one with a space, a control character or anything beyond ASCII.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, KeyError> {
        let text = text.into();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(KeyError::TooLong { len: text.len() });
        }
        match text.bytes().position(|byte| !byte.is_ascii_graphic()) {
            Some(at) => Err(KeyError::Forbidden { at }),
            None => Ok(Self(text)),
        }
    }

    /// The key's text, which may be personal data: it belongs in the request, not in a log.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }

    /// Eight hex digits that stand for the key in logs. Not unique, not secret-proof: a label, not an identity.
    #[must_use]
    pub fn label(&self) -> Label {
        Label::of(self.0.as_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.label())
    }
}

impl TryFrom<Box<str>> for Key {
    type Error = KeyError;

    fn try_from(text: Box<str>) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl From<Key> for Box<str> {
    fn from(key: Key) -> Self {
        key.0
    }
}

/// A short stand-in for a text that must not be logged: `#1b2c3d4e`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label(u32);

impl Label {
    fn of(text: &[u8]) -> Self {
        Self((Seed::new(0).derive_bytes(text).value() >> 32) as u32)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:08x}", self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text cannot be a [`Key`]. It never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is nothing in it.
    #[error("the idempotency key is empty: give each job a name of its own, such as your order's number")]
    Empty,
    /// It is too long.
    #[error("the idempotency key has {len} bytes: shorten it to 255 or fewer, for example to a UUID")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It holds a byte that a header cannot carry everywhere.
    #[error(
        "the idempotency key holds a space, a control character or a non-ASCII character at byte {at}: \
         use letters, digits and punctuation only"
    )]
    Forbidden {
        /// Where, in bytes from the start.
        at: usize,
    },
}

/// A hash of the request's payload. The same key with another fingerprint is refused.
///
/// The core only compares fingerprints. Make them with a keyed hash: a plain hash of personal data can be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// From the first 16 bytes of a hash.
    #[must_use]
    pub const fn new(hash: [u8; 16]) -> Self {
        Self(hash)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", Label::of(&self.0))
    }
}

/// The provider's own name for a job: Deepvue's `transaction_id`, Didit's `session_id`.
///
/// 1 to 512 bytes without control characters. `Display` shows it, so that it can be given to the provider's support; `Debug` does not.
///
/// ```
/// use steadfast_core::Reference;
///
/// let reference = Reference::new("txn-1")?;
/// assert_eq!(reference.to_string(), "txn-1");
/// # Ok::<(), steadfast_core::ReferenceError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Box<str>", into = "Box<str>")
)]
pub struct Reference(Box<str>);

impl Reference {
    /// The longest reference, in bytes.
    pub const MAX_LEN: usize = 512;

    /// Checks and takes a reference.
    ///
    /// # Errors
    /// An empty text, one longer than [`Reference::MAX_LEN`], or one with a control character.
    pub fn new(text: impl Into<Box<str>>) -> Result<Self, ReferenceError> {
        let text = text.into();
        if text.is_empty() || text.len() > Self::MAX_LEN || text.chars().any(char::is_control) {
            return Err(ReferenceError { len: text.len() });
        }
        Ok(Self(text))
    }

    /// The reference's text.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({})", Label::of(self.0.as_bytes()))
    }
}

impl TryFrom<Box<str>> for Reference {
    type Error = ReferenceError;

    fn try_from(text: Box<str>) -> Result<Self, ReferenceError> {
        Self::new(text)
    }
}

impl From<Reference> for Box<str> {
    fn from(reference: Reference) -> Self {
        reference.0
    }
}

/// Why a text cannot be a [`Reference`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a provider's reference of {len} bytes is unusable: it must have 1 to 512 bytes and no control characters")]
pub struct ReferenceError {
    len: usize,
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;

    use super::*;

    /// In logs a key is found again by its label, also in those of an earlier release.
    #[test]
    fn labels_are_frozen_and_tell_no_key() {
        let key = Key::new("order-42").unwrap();
        assert_eq!(key.label().to_string(), "#84386812");
        assert_eq!(format!("{key:?} {:?}", key.label()), "Key(#84386812) #84386812");
        assert_ne!(key.label(), Key::new("order-43").unwrap().label());
    }

    #[test]
    fn texts_come_back_whole_and_at_their_longest() {
        let key = "k".repeat(Key::MAX_LEN);
        assert_eq!(Key::new(key.as_str()).unwrap().as_str(), key);
        assert_eq!(Key::new(key + "k"), Err(KeyError::TooLong { len: 256 }));
        assert_eq!((Key::new(""), Key::new("a b")), (Err(KeyError::Empty), Err(KeyError::Forbidden { at: 1 })));
        let reference = "r".repeat(Reference::MAX_LEN);
        assert_eq!(Reference::new(reference.as_str()).unwrap().to_string(), reference);
        assert!(
            Reference::new(reference + "r").is_err() && Reference::new("").is_err() && Reference::new("a\n").is_err()
        );
        assert_eq!(Box::<str>::from(Key::new("k").unwrap()), "k".into());
        assert_eq!(Box::<str>::from(Reference::new("r").unwrap()), "r".into());
        assert_eq!(Fingerprint::new([7; 16]).as_bytes(), &[7; 16]);
    }
}
