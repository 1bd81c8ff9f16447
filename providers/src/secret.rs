//! Secrets: tokens and keys that go into headers, and keys that sign.
//!
//! Guarantees: no `Debug` and no error shows a secret; its memory is wiped when the last owner drops it; and one that a
//! header could not carry is refused when it is given, not when the first request fails. (Once a header is made, it
//! belongs to the HTTP client, which wipes nothing.)

use core::fmt;

use http::HeaderValue;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use steadfast_core::Key;

use crate::RequestError;

/// A text that must not be shown: an access token, an API key, a webhook's secret.
///
/// Functions that take a secret take text too, and check it for their own use: [`Secret::new`] checks that a header can
/// carry it, which is the strictest rule. `Debug` is redacted, there is no `Display`, and its memory is wiped when it
/// is dropped.
///
/// ```
/// use steadfast_providers::Secret;
///
/// let secret = Secret::new("YOUR_API_KEY")?;
/// assert_eq!(format!("{secret:?}"), "Secret(redacted)");
/// assert!(Secret::new("read from a file\n").is_err());
///
/// let header = secret.header()?; // for a provider of your own
/// assert!(header.is_sensitive());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Makes a secret that a header can carry: visible ASCII, at least one character.
    ///
    /// # Errors
    /// If the text is anything else. The error says what is wrong and where, and repeats nothing of the text.
    pub fn new(text: impl Into<Self>) -> Result<Self, SecretError> {
        text.into().checked("secret")
    }

    /// The text itself. It belongs in the request and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// A header's value for `x-api-key: …` and the like, which no `Debug` shows.
    ///
    /// # Errors
    /// If the secret was not made by [`Secret::new`] and no header can carry it.
    pub fn header(&self) -> Result<HeaderValue, RequestError> {
        sensitive(self.expose(), "secret")
    }

    /// A header's value for `authorization: Bearer …`, which no `Debug` shows.
    ///
    /// # Errors
    /// As [`Secret::header`].
    pub fn bearer(&self) -> Result<HeaderValue, RequestError> {
        sensitive(&Zeroizing::new(format!("Bearer {}", self.expose())), "secret")
    }

    /// Checks it by the rule of [`Secret::new`], with a name for the error.
    pub(crate) fn checked(self, which: &'static str) -> Result<Self, SecretError> {
        let text = self.expose();
        if text.is_empty() {
            return Err(SecretError::Empty(which));
        }
        match text.bytes().position(|byte| !byte.is_ascii_graphic()) {
            Some(at) => Err(SecretError::Character { which, at }),
            None => Ok(self),
        }
    }
}

/// A job's key as a header's value, without quotes. A key is no secret, but people put personal data into keys.
pub(crate) fn key_header(key: &Key) -> Result<HeaderValue, RequestError> {
    sensitive(key.as_str(), "idempotency key")
}

fn sensitive(text: &str, which: &'static str) -> Result<HeaderValue, RequestError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| RequestError::Unsendable(which))?;
    value.set_sensitive(true);
    Ok(value)
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Box<str>> for Secret {
    fn from(text: Box<str>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Why a text cannot be used as a secret. It never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The text is empty.
    #[error("the {0} is empty: fill it in")]
    Empty(&'static str),
    /// It cannot be put into a header.
    #[error(
        "the {which} holds a space, a line break or another character that is no visible ASCII, at byte {at}: \
         remove it; a line break at the end comes from reading it from a file"
    )]
    Character {
        /// Which secret.
        which: &'static str,
        /// The position of the character, in bytes from the start.
        at: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::zeroize::ZeroizeOnDrop;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_goes_into_a_header_as_it_is(text in ".{0,40}|[!-~]{1,40}") {
            match Secret::new(text.as_str()) {
                Ok(secret) => {
                    let (plain, bearer) = (secret.header().unwrap(), secret.bearer().unwrap());
                    prop_assert!(plain.is_sensitive() && bearer.is_sensitive());
                    prop_assert_eq!(plain.to_str().unwrap(), text.as_str());
                    prop_assert_eq!(bearer.to_str().unwrap().strip_prefix("Bearer "), Some(text.as_str()));
                }
                Err(SecretError::Empty(_)) => prop_assert!(text.is_empty()),
                Err(SecretError::Character { at, .. }) => {
                    prop_assert!(text.as_bytes()[..at].iter().all(u8::is_ascii_graphic));
                    prop_assert!(!text.as_bytes()[at].is_ascii_graphic());
                }
            }
        }

        #[test]
        fn nothing_shows_it(text in "[a-z]{12}", bad in "[\\x00-\\x20]") {
            let secret = Secret::from(text.as_str());
            let error = Secret::new(format!("{text}{bad}")).unwrap_err();
            let unsendable = Secret::from(format!("{text}\n")).header().unwrap_err();
            let header = secret.bearer().unwrap();
            let shown = format!("{secret:?} {secret:#?} {error} {error:?} {unsendable} {unsendable:?} {header:?}");
            prop_assert!(!shown.contains(&text), "{}", shown);
        }
    }

    #[test]
    fn its_memory_is_wiped() {
        fn wiped(_: &impl ZeroizeOnDrop) {}
        wiped(&Secret::from("secret").0);
    }
}
