//! The names of a job: the caller's idempotency key, the payload's fingerprint, the provider's reference.
//!
//! Each is parsed once, where it enters, and then trusted. None shows its text in `Debug`, since callers put personal
//! data into keys and log what they debug; [`Key::as_str`] and [`Reference::as_str`] are the deliberate ways to it.
//!
//! Keys and references of up to 22 bytes, UUIDs and hexadecimal digits, which nearly all of them are, are stored
//! inline: making, copying and dropping one allocates nothing.

use alloc::boxed::Box;
use alloc::string::String;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;

use crate::seed::Seed;
use crate::text::{Packed, Text};

/// The caller's name for one job, sent with every create attempt.
///
/// 1 to 255 visible ASCII characters (`!` to `~`): what every provider's header can carry, and nothing that could split
/// one.
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
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Box<str>", into = "Box<str>")
)]
pub struct Key(Text);

impl Key {
    /// The longest key, in bytes (Stripe's, Didit's and Persona's limit).
    pub const MAX_LEN: usize = 255;

    /// Parses a key.
    ///
    /// # Errors
    /// An empty key, one longer than [`Key::MAX_LEN`], or one with a space, a control character or anything beyond
    /// ASCII.
    pub fn new(text: impl AsRef<str>) -> Result<Self, KeyError> {
        let text = text.as_ref();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(KeyError::TooLong { len: text.len() });
        }
        if all(text, u8::is_ascii_graphic) {
            return Ok(Self(Text::new(text)));
        }
        let at = text.bytes().position(|byte| !byte.is_ascii_graphic()).unwrap_or_default();
        Err(KeyError::Forbidden { at })
    }

    /// The key's text, which may be personal data: it belongs in the request, not in a log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Eight hex digits that stand for the key in logs. Not unique, not secret-proof: a label, not an identity.
    #[must_use]
    pub fn label(&self) -> Label {
        Label::of(self.as_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.label())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash_as_text(state);
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl TryFrom<&str> for Key {
    type Error = KeyError;

    fn try_from(text: &str) -> Result<Self, KeyError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::new(text)
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
        key.0.into_box()
    }
}

/// Looks at every byte, many at a time, which is quicker than to stop at the first that fails.
fn all(text: &str, is: impl Fn(&u8) -> bool) -> bool {
    text.as_bytes().iter().fold(true, |all, byte| all & is(byte))
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
    /// The text is empty.
    #[error("the idempotency key is empty: give each job a name of its own, such as your order's number")]
    Empty,
    /// The text is too long.
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
    /// Makes a fingerprint from the first 16 bytes of a hash.
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
/// 1 to 4,096 bytes without control characters: an id, or a URL, which may bear a signature and its certificate.
/// `Display` shows it, so that it can be given to the provider's support; `Debug` does not.
///
/// ```
/// use steadfast_core::Reference;
///
/// let reference = Reference::new("txn-1")?;
/// assert_eq!(reference.to_string(), "txn-1");
/// # Ok::<(), steadfast_core::ReferenceError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "Box<str>", into = "Box<str>")
)]
pub struct Reference(Text);

impl Reference {
    /// The longest reference, in bytes.
    pub const MAX_LEN: usize = 4_096;

    /// Parses a reference.
    ///
    /// # Errors
    /// An empty text, one longer than [`Reference::MAX_LEN`], or one with a control character.
    pub fn new(text: impl AsRef<str>) -> Result<Self, ReferenceError> {
        let text = text.as_ref();
        let has_control = || !all(text, u8::is_ascii_graphic) && text.chars().any(char::is_control);
        if text.is_empty() || text.len() > Self::MAX_LEN || has_control() {
            return Err(ReferenceError { len: text.len() });
        }
        Ok(Self(Text::new(text)))
    }

    /// The reference's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({})", Label::of(self.as_bytes()))
    }
}

impl PartialOrd for Reference {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reference {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl Hash for Reference {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash_as_text(state);
    }
}

impl AsRef<str> for Reference {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::new(text)
    }
}

impl TryFrom<&str> for Reference {
    type Error = ReferenceError;

    fn try_from(text: &str) -> Result<Self, ReferenceError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, ReferenceError> {
        Self::new(text)
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
        reference.0.into_box()
    }
}

/// A key as an operation keeps it: the same in 24 bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(from = "Key", into = "Key"))]
pub(crate) struct PackedKey(Packed);

impl PackedKey {
    pub(crate) fn is(&self, key: &Key) -> bool {
        self.0.is(&key.0)
    }
}

impl From<Key> for PackedKey {
    fn from(key: Key) -> Self {
        Self(key.0.into())
    }
}

#[cfg(feature = "serde")]
impl From<PackedKey> for Key {
    fn from(packed: PackedKey) -> Self {
        (&packed).into()
    }
}

impl From<&PackedKey> for Key {
    fn from(key: &PackedKey) -> Self {
        Self((&key.0).into())
    }
}

impl fmt::Debug for PackedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Key::from(self).fmt(f)
    }
}

/// A reference as an operation keeps it.
#[derive(Clone, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "Reference", into = "Reference")
)]
pub(crate) struct PackedReference(Packed);

impl PackedReference {
    pub(crate) fn is(&self, reference: &Reference) -> bool {
        self.0.is(&reference.0)
    }
}

impl From<Reference> for PackedReference {
    fn from(reference: Reference) -> Self {
        Self(reference.0.into())
    }
}

#[cfg(feature = "serde")]
impl From<PackedReference> for Reference {
    fn from(packed: PackedReference) -> Self {
        (&packed).into()
    }
}

impl From<&PackedReference> for Reference {
    fn from(reference: &PackedReference) -> Self {
        Self((&reference.0).into())
    }
}

impl fmt::Debug for PackedReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Reference::from(self).fmt(f)
    }
}

/// Why a text cannot be a [`Reference`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a provider's reference of {len} bytes is unusable: it must have 1 to 4096 bytes and no control characters")]
pub struct ReferenceError {
    len: usize,
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use std::hash::{BuildHasher, RandomState};

    use proptest::prelude::*;

    use super::*;

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[!-~]{1,60}".boxed(),
            "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}".boxed(),
            "[0-9a-f]{20,40}".boxed()
        ]
    }

    proptest! {
        /// However it is kept, a name is its text: what is on disk, what is sent and what is drawn from it goes by that alone.
        #[test]
        fn names_compare_hash_and_print_as_their_texts(one in name(), other in name()) {
            let hashes = RandomState::new();
            let (key, reference) = (Key::new(&one).unwrap(), Reference::new(&one).unwrap());
            prop_assert_eq!((key.as_str(), reference.as_str()), (one.as_str(), one.as_str()));
            prop_assert_eq!(key.cmp(&Key::new(&other).unwrap()), one.cmp(&other));
            prop_assert_eq!(key == Key::new(&other).unwrap(), one == other);
            prop_assert_eq!(reference.cmp(&Reference::new(&other).unwrap()), one.cmp(&other));
            prop_assert_eq!(hashes.hash_one(&key), hashes.hash_one(&one));
            prop_assert_eq!(hashes.hash_one(&reference), hashes.hash_one(&one));
            prop_assert_eq!(key.label(), Label::of(one.as_bytes()));
            prop_assert_eq!(reference.to_string(), &*one);
            let (packed, told) = (PackedKey::from(key.clone()), PackedReference::from(reference.clone()));
            prop_assert!(packed.is(&key) && told.is(&reference));
            prop_assert_eq!(format!("{packed:?} {told:?}"), format!("{key:?} {reference:?}"));
            prop_assert_eq!((Key::from(&packed), Reference::from(&told)), (key, reference));
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn names_are_written_as_their_texts_and_read_with_care() {
        for text in ["order-42", "8e03978e-40d5-43e8-bc93-6894a57f9324", "65f0c1a2b3c4d5e6f7a8b9c0"] {
            let key = Key::new(text).unwrap();
            let packed = PackedKey::from(key.clone());
            let written = format!("{text:?}");
            assert_eq!(serde_json::to_string(&key).unwrap(), written);
            assert_eq!(serde_json::to_string(&packed).unwrap(), written);
            assert_eq!(serde_json::from_str::<PackedKey>(&written).unwrap(), packed);
            assert_eq!(
                serde_json::from_str::<PackedReference>(&written).unwrap(),
                Reference::new(text).unwrap().into()
            );
        }
        assert!(serde_json::from_str::<PackedKey>("\"a b\"").is_err());
        assert!(serde_json::from_str::<PackedReference>("\"\"").is_err());
    }

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
        assert_eq!(Key::new(""), Key::try_from(""));
        assert_eq!(Key::new("k"), "k".parse());
        assert_eq!(Key::new("k"), Key::try_from(String::from("k")));
        assert_eq!(Reference::new("r"), Reference::try_from("r"));
        assert_eq!(Reference::new("r"), "r".parse());
        assert_eq!(Reference::new("r"), Reference::try_from(String::from("r")));
        assert_eq!((Key::new("k").unwrap().as_ref(), Reference::new("r").unwrap().as_ref()), ("k", "r"));
        assert_eq!(Box::<str>::from(Key::new("k").unwrap()), "k".into());
        assert_eq!(Box::<str>::from(Reference::new("r").unwrap()), "r".into());
        assert_eq!(Fingerprint::new([7; 16]).as_bytes(), &[7; 16]);
    }
}
