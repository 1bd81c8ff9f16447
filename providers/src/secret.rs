//! Secrets that go into headers.

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use crate::RequestError;

/// Why a text cannot be a secret. It never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// There is nothing in it.
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
        /// Where, in bytes from the start.
        at: usize,
    },
}

/// A secret of visible ASCII.
pub(crate) fn checked(secret: SecretString, which: &'static str) -> Result<SecretString, SecretError> {
    let text = secret.expose_secret();
    if text.is_empty() {
        return Err(SecretError::Empty(which));
    }
    match text.bytes().position(|byte| !byte.is_ascii_graphic()) {
        Some(at) => Err(SecretError::Character { which, at }),
        None => Ok(secret),
    }
}

/// A header's value that no `Debug` shows.
pub(crate) fn sensitive(text: &str, which: &'static str) -> Result<HeaderValue, RequestError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| RequestError::Unsendable(which))?;
    value.set_sensitive(true);
    Ok(value)
}
