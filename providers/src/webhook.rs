//! Does a webhook come from whom it says, and when was it signed?
//!
//! Anyone can post to a webhook's address. A [`Verifier`] holds the secrets shared with the sender and decides over headers, raw
//! body and time whether a delivery may be believed. It goes in one order, and each step sees only what the last one let through:
//!
//! 1. *Bounds*: the body has at most [`MAX_BODY`] bytes.
//! 2. *Headers*: each that counts is there once and well formed; at most [`MAX_SIGNATURES`] signatures are looked at.
//! 3. *Signature*: HMAC-SHA256 under one of the secrets, compared in constant time.
//! 4. *Time*: what was signed says when, and that is within the tolerance.
//!
//! | scheme | signed | the time | the id | secret |
//! | --- | --- | --- | --- | --- |
//! | [`Scheme::StandardWebhooks`] | id, time and body | `webhook-timestamp`, past and future | `webhook-id` (or all three as `svix-…`) | base64 after `whsec_` |
//! | [`Scheme::Stripe`] | time and body | `t` in `Stripe-Signature`, past only | the body's `id` | its text, with `whsec_` |
//! | [`Scheme::Timed`] | time and body | the same in a header of another name (Persona, Mux) | the body's `id` | its text |
//! | [`Scheme::Didit`] | body, its canonical form, or four of its members | the body's `timestamp`, past and future | the body's `event_id` | its text |
//! | [`Scheme::Hmac`] | body | none | none | its text |
//!
//! What holds: nothing that is not signed is believed, and [`Verified::covers`] says how much of the body was. No unverified byte reaches a parser of
//! bodies, unless one of Didit's signatures is tried for which the body has to be written anew: that parser is bounded, and says nothing of what it
//! saw. A number is written in one way only, digits without a sign or a leading zero, and so is a signature: an accepted delivery has no
//! second spelling, but for the spelling of a body of which Didit signs the canonical form.
//! No error and no `Debug` shows a signature, a secret or a body.
//!
//! What is not done here: remembering. A delivery that is sent again within the tolerance is as genuine as the first one;
//! [`Verified`] has what to know it by.

mod canonical;
mod didit;
mod encoding;
mod error;
mod event;
mod scheme;

use core::fmt;
use core::time::Duration;

use hmac::digest::CtOutput;
use hmac::{Hmac, Mac};
use http::HeaderMap;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};
use steadfast_core::{Fingerprint, Timestamp};

pub use self::didit::DiditSignatures;
use self::didit::Form;
pub use self::error::{SetupError, WebhookError};
pub use self::event::WebhookEvent;
use self::scheme::Claim;
pub use self::scheme::{Encoding, Scheme};
use crate::Secret;
use crate::fingerprint::{keyed, shorten};

/// The longest body that is verified: 1 MiB. Events are a few KiB; hashing what anyone may send has to end somewhere.
pub const MAX_BODY: usize = 1 << 20;

/// How many signatures of one delivery are looked at; what follows them is ignored. A rotation sends two.
pub const MAX_SIGNATURES: usize = 10;

/// How far a delivery's time may be from ours by default: 300 s, as in the libraries of Standard Webhooks, Stripe and Didit.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// Verifies the webhooks of one sender, and signs like it for fakes and tests.
///
/// ```
/// use steadfast_core::Timestamp;
/// use steadfast_providers::webhook::{Scheme, Verifier, WebhookError};
///
/// let verifier = Verifier::new(Scheme::StandardWebhooks, ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])?;
/// let now = Timestamp::from_secs(1_700_000_000);
/// let headers = verifier.sign("msg_1", now, b"{}")?;
///
/// let verified = verifier.verify(&headers, b"{}", now)?;
/// assert_eq!(verified.id.as_deref(), Some("msg_1"));
/// assert!(matches!(verifier.verify(&headers, b"[]", now), Err(WebhookError::NoMatch(_))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Verifier {
    scheme: Scheme,
    /// Under each secret, of nothing yet; at least one. They are wiped when they are dropped, and show nothing.
    keys: Vec<Hmac<Sha256>>,
    tolerance: Duration,
}

impl Verifier {
    /// A verifier that believes any of these secrets, with [`DEFAULT_TOLERANCE`].
    ///
    /// Give the newest secret first, which is the one that [`sign`](Self::sign) uses, and the old ones for as long as the sender
    /// may still use them.
    ///
    /// # Errors
    /// No secret at all; one that is empty, has white space around it or a control character in it, or is not base64 where the scheme wants that; a prefix of
    /// [`Scheme::Hmac`] that no header can carry.
    pub fn new<S: Into<Secret>>(scheme: Scheme, secrets: impl IntoIterator<Item = S>) -> Result<Self, SetupError> {
        scheme.check()?;
        let keys = secrets
            .into_iter()
            .enumerate()
            .map(|(at, secret)| Ok(keyed(&Zeroizing::new(scheme.key(secret.into().expose(), at)?))))
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(SetupError::NoSecret);
        }
        Ok(Self { scheme, keys, tolerance: DEFAULT_TOLERANCE })
    }

    /// Believes deliveries that were signed at most `tolerance` ago, or (but for Stripe's and those like it) ahead of our clock by as much. Both
    /// ends are within.
    ///
    /// `Duration::MAX` believes them of any time. [`Scheme::Hmac`] signs no time, so it makes no difference there.
    #[must_use]
    pub const fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Whether this delivery may be believed, and what to know it by.
    ///
    /// `body` is what came over the wire, byte for byte: not parsed and written again. `now` is the wall clock, since it is
    /// compared with another party's.
    ///
    /// # Errors
    /// It may not; nothing of it should be used or kept. Answer 400 or 401. What fails on our own side, such as fetching a secret or
    /// storing an accepted event, deserves a 503 instead: some senders never repeat after a 4xx.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Verified, WebhookError> {
        if body.len() > MAX_BODY {
            return Err(WebhookError::TooLarge { bytes: body.len() });
        }
        let claims = self.scheme.claims(headers)?;
        for claim in claims.iter().flatten() {
            let Some(text) = claim.text(body) else { continue };
            let Some((secret, signed)) = self.matching(claim, &text) else { continue };
            let (id, timestamp) = self.scheme.told(claim, headers, &text)?;
            if let Some(timestamp) = timestamp {
                self.check_time(timestamp, now)?;
            }
            let covers = if claim.form == Form::Simple { Covered::Hint } else { Covered::Body };
            let tag = match (&id, self.keys.get(secret)) {
                (None, Some(key)) if !claim.before.is_empty() => Some(key.clone().chain_update(&*text).finalize()),
                // Where nothing was signed before the text, that is its tag already: hashing is most of what a verification costs.
                (None, _) => Some(signed),
                (Some(_), _) => None,
            };
            return Ok(Verified { id, timestamp, tag, secret, covers });
        }
        let is_signed = claims.iter().flatten().any(|claim| claim.signatures.iter().next().is_some());
        let why = if is_signed { WebhookError::NoMatch } else { WebhookError::NoSignature };
        Err(claims.into_iter().flatten().next().map_or(WebhookError::Unsupported, |claim| why(claim.header)))
    }

    /// The headers that the sender would send with this body, signed with the first secret.
    ///
    /// `id` is for Standard Webhooks only; elsewhere an id is in the body. `at` counts in whole seconds, and not at all for
    /// [`Scheme::Hmac`]. Didit's time is in the body too: write the same as `timestamp` there, or [`verify`](Self::verify)
    /// will refuse the contradiction. Of its signatures those are made that are accepted.
    ///
    /// # Errors
    /// An id that Standard Webhooks does not allow: it has 1 to 255 visible ASCII characters, none of them a dot.
    pub fn sign(&self, id: &str, at: Timestamp, body: &[u8]) -> Result<HeaderMap, WebhookError> {
        let mac = |before: &str, text: &[u8]| -> [u8; 32] {
            let key = self.keys.first().cloned().unwrap_or_else(|| keyed(&[]));
            key.chain_update(before).chain_update(text).finalize().into_bytes().into()
        };
        self.scheme.headers(id, at, body, mac)
    }

    /// The same under another scheme, whose secrets are written in the same way.
    pub(crate) fn under(mut self, scheme: Scheme) -> Result<Self, SetupError> {
        scheme.check()?;
        self.scheme = scheme;
        Ok(self)
    }

    /// The first secret under which one of the signatures is right, and that signature. Every signature is compared with every secret up to it, so the time
    /// taken does not tell which one failed where.
    fn matching(&self, claim: &Claim<'_>, text: &[u8]) -> Option<(usize, Tag)> {
        self.keys.iter().enumerate().find_map(|(at, key)| {
            let signed = key.clone().chain_update(&claim.before).chain_update(text).finalize();
            // Compared in constant time: so is every pair of tags.
            let right = |signature: &[u8; 32]| signed == Tag::new((*signature).into());
            let any = claim.signatures.iter().fold(false, |any, signature| right(signature) | any);
            any.then_some((at, signed))
        })
    }

    fn check_time(&self, timestamp: Timestamp, now: Timestamp) -> Result<(), WebhookError> {
        let (stated_in, tolerance) = (self.scheme.time_is_in(), self.tolerance);
        let (age, ahead) = (now.saturating_since(timestamp), timestamp.saturating_since(now));
        if age > tolerance {
            return Err(WebhookError::TooOld { stated_in, age, tolerance });
        }
        if ahead > tolerance && !matches!(self.scheme, Scheme::Stripe | Scheme::Timed { .. }) {
            return Err(WebhookError::TooNew { stated_in, ahead, tolerance });
        }
        Ok(())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, keys, tolerance } = self;
        write!(f, "Verifier({scheme:?}, {} secrets, tolerance {tolerance:?})", keys.len())
    }
}

/// A delivery that may be believed, and what to know it by when it comes again.
///
/// Remember it for at least as long as the sender repeats, not for the tolerance: Standard Webhooks advises retries over three days.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The sender's name for the event, the same in every delivery of it: 1 to 255 visible ASCII characters.
    ///
    /// `None` where the scheme has none, and where what was signed has none that fits, such as Didit's test events. Didit's own
    /// pages differ on whether `event_id` stays the same in a repeat, so make what follows from it repeatable too.
    pub id: Option<Box<str>>,
    /// When it was signed, in whole seconds. `None` for [`Scheme::Hmac`], whose deliveries could be of any time.
    pub timestamp: Option<Timestamp>,
    /// Which of the secrets matched, from 0. Once it is always 0, the old secrets can go.
    pub secret: usize,
    /// How much of the body was signed, and so may be believed.
    pub covers: Covered,
    /// Of the text that was signed, if the scheme has no id.
    tag: Option<Tag>,
}

impl Verified {
    /// What to know it by where there is no [`id`](Self::id); `None` where there is one. It is made of the text that was signed, as a rule the body: 16 bytes of
    /// a hash of its HMAC-SHA256 under the secret that matched.
    ///
    /// Another secret, or one byte changed in a repeat (a fresh time, a counter), gives another one.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        // A body may say an id that its scheme has not.
        self.tag.as_ref().filter(|_| self.id.is_none()).map(fingerprint)
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, timestamp, secret, covers, .. } = self;
        f.debug_struct("Verified")
            .field("id", id)
            .field("timestamp", timestamp)
            .field("fingerprint", &self.fingerprint())
            .field("secret", secret)
            .field("covers", covers)
            .finish()
    }
}

/// How much of a body its signature covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Covered {
    /// All that it says.
    Body,
    /// No more than `timestamp`, `session_id`, `status` and `webhook_type` of a body of Didit's ([`DiditSignatures::simple`]): enough to go and ask. Whoever
    /// passed it on may have changed the rest.
    Hint,
}

/// What a signature should be, compared in constant time.
type Tag = CtOutput<Hmac<Sha256>>;

/// Hashed and labelled, because a bare HMAC of the body is the signature itself in some schemes, and this one may be stored and shown.
fn fingerprint(tag: &Tag) -> Fingerprint {
    let labelled = Sha256::new_with_prefix(b"steadfast webhook body\0").chain_update(tag.as_bytes());
    shorten(labelled.finalize().into())
}
