//! Why a verifier cannot be made, and why a delivery is refused. Neither repeats a secret, a signature or a body.

use core::time::Duration;

use http::HeaderName;
use steadfast_core::explain::Span;

use super::{MAX_BODY, MAX_TOKEN, MIN_TOKEN};

/// Why a [`Verifier`](super::Verifier) cannot be made. It never repeats a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The list of secrets is empty.
    #[error("there is no webhook secret: give the one that the sender's dashboard shows for this endpoint")]
    NoSecret,
    /// A secret is empty, perhaps a prefix alone.
    #[error("webhook secret {at} (from 0) is empty: anyone could sign with it; give all that the dashboard shows")]
    EmptySecret {
        /// Its index in the order given, from 0.
        at: usize,
    },
    /// White space around a secret: usually a line break from a file.
    #[error("webhook secret {at} (from 0) begins or ends with white space: remove it, it would be part of the key")]
    Whitespace {
        /// Its index in the order given, from 0.
        at: usize,
    },
    /// A control character in a secret: usually two secrets in one, or a binary file.
    #[error(
        "webhook secret {at} (from 0) holds a control character, such as a line break: give one secret, as the dashboard shows it"
    )]
    Control {
        /// Its index in the order given, from 0.
        at: usize,
    },
    /// Not the encoding that Standard Webhooks uses.
    #[error(
        "webhook secret {at} (from 0) is not base64: Standard Webhooks secrets are base64 after whsec_; \
         a secret that is plain text belongs to another scheme"
    )]
    NotBase64 {
        /// Its index in the order given, from 0.
        at: usize,
    },
    /// The asymmetric half of Standard Webhooks.
    #[error(
        "webhook secret {at} (from 0) is of a key pair (whpk_ or whsk_), and Ed25519 signatures (v1a) are not verified here: \
         have the sender sign with a shared secret too, and give that one (whsec_)"
    )]
    KeyPair {
        /// Its index in the order given, from 0.
        at: usize,
    },
    /// No token that [`Scheme::Token`](super::Scheme::Token) could send, or one that could be guessed.
    #[error(
        "webhook token {at} (from 0) must have {MIN_TOKEN} to {MAX_TOKEN} characters of visible ASCII, and it has fewer, more or others: \
         a short one could be guessed; take 32 random bytes in hexadecimal, and give the sender the same"
    )]
    Token {
        /// Its index in the order given, from 0.
        at: usize,
    },
    /// None of [`DiditSignatures`](super::DiditSignatures) is accepted.
    #[error(
        "none of Didit's signatures is accepted, so no webhook could be: accept X-Signature, X-Signature-V2 or both"
    )]
    NoSignature,
    /// The prefix of [`Scheme::Hmac`](super::Scheme::Hmac) cannot be put into a header.
    #[error("the prefix of webhook signatures holds a character that no header can carry: use visible ASCII")]
    Prefix,
}

/// Why a delivery is refused. It names what to look at, and never repeats a signature, a secret or a body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// The provider has no webhooks, or no secret to verify them with.
    #[error(
        "this provider takes no webhooks, or was given no secret to know them by: give its profile the secret, or stop the sender"
    )]
    Unsupported,
    /// The body is longer than [`MAX_BODY`].
    #[error(
        "the webhook's body has {bytes} bytes, and at most {MAX_BODY} are verified: refuse it before reading it whole"
    )]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// A header is missing or empty.
    #[error(
        "the webhook has no {0} header, or an empty one: have the sender sign (or send its token), use this sender's scheme, \
         and let proxies pass the header on"
    )]
    Missing(HeaderName),
    /// A header is there more than once, so that two readers may believe different values.
    #[error("the webhook has more than one {0} header: find who adds the second, a sender writes one")]
    Repeated(HeaderName),
    /// A header does not have the form that the scheme prescribes.
    #[error("the webhook's {header} header is malformed: it must be {expected}")]
    Malformed {
        /// The header.
        header: HeaderName,
        /// The form that it must have.
        expected: &'static str,
    },
    /// A header has no signature of a kind that is verified: for Standard Webhooks it may have only Ed25519's (`v1a`),
    /// for example.
    #[error(
        "the webhook's {0} header has no whole v1 signature (HMAC-SHA256), the only kind that is verified here: \
         have the sender sign with a shared secret, and not with a key pair (v1a) alone"
    )]
    NoSignature(HeaderName),
    /// No signature is valid under any of the secrets.
    #[error(
        "no signature in the webhook's {0} header is right: check that the secret is this endpoint's, \
         and that the body is verified as it came, byte for byte, before anything parses it"
    )]
    NoMatch(HeaderName),
    /// The header holds another token than ours.
    #[error(
        "the token in the webhook's {0} header is none of ours: give the sender the same token as its profile's secret, \
         whole, and after a change keep the old one as a second secret"
    )]
    WrongToken(HeaderName),
    /// The signed body lacks the time that the scheme expects in it.
    #[error(
        "the webhook's signed body is no JSON object with one `timestamp` in whole Unix seconds: check the sender's webhook version"
    )]
    NoTime,
    /// A header contradicts what was signed.
    #[error(
        "the webhook's {0} header says another time than its signed body: it was altered on the way, or sent again later"
    )]
    Contradiction(HeaderName),
    /// Signed too long ago.
    #[error(
        "the webhook was signed {} ago by its {stated_in}, and {} are tolerated: it is sent again, or late; \
         if all of them are, set this machine's clock",
        Span(*age),
        Span(*tolerance)
    )]
    TooOld {
        /// Where the time of signing stands.
        stated_in: &'static str,
        /// How long ago.
        age: Duration,
        /// How long ago it may have been signed.
        tolerance: Duration,
    },
    /// Signed too far in the future.
    #[error(
        "the webhook was signed {} in the future by its {stated_in}, and {} are tolerated: \
         set the clock that is wrong, this machine's or the sender's",
        Span(*ahead),
        Span(*tolerance)
    )]
    TooNew {
        /// Where the time of signing stands.
        stated_in: &'static str,
        /// How far ahead.
        ahead: Duration,
        /// How far ahead it may be signed.
        tolerance: Duration,
    },
}
