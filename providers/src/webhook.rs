//! Verifies webhooks: whether one is genuine, and when it was signed.
//!
//! Anyone can post to a webhook's address. A [`Verifier`] holds the secrets shared with the sender and decides from
//! headers, raw body and time whether a delivery is genuine. It checks in this order, and each step sees only what the
//! last one let through:
//!
//! 1. *Bounds*: the body has at most [`MAX_BODY`] bytes.
//! 2. *Headers*: each required header is there once and well formed; at most [`MAX_SIGNATURES`] signatures are looked
//!    at.
//! 3. *Signature*: HMAC-SHA256 under one of the secrets, compared in constant time.
//! 4. *Time*: the signed time is within the tolerance.
//!
//! | scheme | signed | the time | the id | secret |
//! | --- | --- | --- | --- | --- |
//! | [`Scheme::StandardWebhooks`] | id, time and body | `webhook-timestamp`, past and future | `webhook-id` (or all three as `svix-…`) | base64 after `whsec_` |
//! | [`Scheme::Stripe`] | time and body | `t` in `Stripe-Signature`; only its age is checked | the body's `id` | its text, with `whsec_` |
//! | [`Scheme::Timed`] | time and body | the same in a header of another name (Persona, Mux) | the body's `id` | its text |
//! | [`Scheme::Didit`] | body, its canonical form, or four of its members | the body's `timestamp`, past and future | the body's `event_id` | its text |
//! | [`Scheme::Hmac`] | body | none | none | its text |
//! | [`Scheme::Token`] | nothing: the secret itself is sent | none | none | its text, at least [`MIN_TOKEN`] characters |
//!
//! Guarantees: nothing unsigned is believed, and [`Verified::covers`] says how much of the body was signed (under a
//! [token](Scheme::Token) nothing is: an event of such a delivery [is a hint](WebhookEvent) and no more). No
//! unverified byte reaches a parser of bodies, except for those of Didit's signatures that sign a rewritten body: that
//! parser is bounded, and no error shows what it read. A number has exactly one accepted spelling, digits without a
//! sign or a leading zero, and so has a signature: an accepted delivery cannot be respelled and accepted again, except
//! that a body of which Didit signs the canonical form may be. No error and no `Debug` shows a signature, a secret or a
//! body.
//!
//! Duplicates are not detected here. A delivery that is sent again within the tolerance is as genuine as the first one;
//! [`Verified`] has the id or fingerprint to recognise it by.

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
use http::{HeaderMap, HeaderName};
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

/// The longest body that is verified: 1 MiB. Events are a few KiB; anyone may send bodies, so the hashing must be
/// bounded.
pub const MAX_BODY: usize = 1 << 20;

/// How many signatures of one delivery are looked at; what follows them is ignored. A rotation sends two.
pub const MAX_SIGNATURES: usize = 10;

/// How few characters a [token](Scheme::Token) may have: 16. A shorter one could be guessed.
pub const MIN_TOKEN: usize = 16;

/// How many characters a [token](Scheme::Token) may have: 1024.
pub const MAX_TOKEN: usize = 1024;

/// How far a delivery's time may be from ours by default: 300 s, as in the libraries of Standard Webhooks, Stripe and
/// Didit.
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
    /// An HMAC per secret, before any input; at least one. They are wiped when they are dropped, and show nothing.
    keys: Vec<Hmac<Sha256>>,
    /// The first secret itself, only for [`Scheme::Token`], which sends it.
    token: Option<Secret>,
    tolerance: Duration,
}

impl Verifier {
    /// Makes a verifier that accepts any of these secrets, with [`DEFAULT_TOLERANCE`].
    ///
    /// Give the newest secret first, which is the one that [`sign`](Self::sign) uses, and the old ones for as long as
    /// the sender may still use them.
    ///
    /// # Errors
    /// There is no secret; one is empty, has white space around it or a control character in it, or is not base64 where
    /// the scheme wants that; one is no token where the scheme sends it; a prefix of [`Scheme::Hmac`] cannot be put
    /// into a header.
    pub fn new<S: Into<Secret>>(scheme: Scheme, secrets: impl IntoIterator<Item = S>) -> Result<Self, SetupError> {
        scheme.check()?;
        let mut token = None;
        let keys = secrets
            .into_iter()
            .enumerate()
            .map(|(at, secret)| {
                let secret = secret.into();
                let key = keyed(&Zeroizing::new(scheme.key(secret.expose(), at)?));
                if at == 0 && matches!(scheme, Scheme::Token { .. }) {
                    token = Some(secret);
                }
                Ok(key)
            })
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() {
            return Err(SetupError::NoSecret);
        }
        Ok(Self { scheme, keys, token, tolerance: DEFAULT_TOLERANCE })
    }

    /// Sets how old a delivery may be, and how far ahead of our clock. For Stripe and schemes like it only the age is
    /// checked. A difference of exactly `tolerance` is accepted.
    ///
    /// `Duration::MAX` accepts any time. [`Scheme::Hmac`] and [`Scheme::Token`] sign no time, so the tolerance makes no
    /// difference there.
    #[must_use]
    pub const fn with_tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Checks whether this delivery is genuine, and says what to recognise it by.
    ///
    /// `body` must be what came over the wire, byte for byte: not parsed and written again. `now` is the wall clock,
    /// since it is compared with another party's.
    ///
    /// # Errors
    /// The delivery is not genuine; nothing of it should be used or kept. Answer 400 or 401. Failures on our own side,
    /// such as fetching a secret or storing an accepted event, deserve a 503 instead: some senders never repeat after a
    /// 4xx.
    pub fn verify(&self, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Verified, WebhookError> {
        if body.len() > MAX_BODY {
            return Err(WebhookError::TooLarge { bytes: body.len() });
        }
        if let Scheme::Token { header } = &self.scheme {
            return self.verify_token(headers, header, body);
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
                // If nothing was signed before the text, the computed HMAC is already the text's tag. It is not
                // computed twice: hashing is most of the cost.
                (None, _) => Some(signed),
                (Some(_), _) => None,
            };
            return Ok(Verified { id, timestamp, tag, secret, covers });
        }
        let is_signed = claims.iter().flatten().any(|claim| claim.signatures.iter().next().is_some());
        let why = if is_signed { WebhookError::NoMatch } else { WebhookError::NoSignature };
        Err(claims.into_iter().flatten().next().map_or(WebhookError::Unsupported, |claim| why(claim.header)))
    }

    /// Makes the headers that the sender would send with this body, signed with the first secret.
    ///
    /// `id` is for Standard Webhooks only; in other schemes an id is in the body. `at` counts in whole seconds, and is
    /// not used for [`Scheme::Hmac`] and [`Scheme::Token`]. Didit's time is in the body too: write the same as
    /// `timestamp` there, or [`verify`](Self::verify) will refuse the contradiction. Of Didit's signatures, those that
    /// the scheme accepts are made.
    ///
    /// # Errors
    /// An id that Standard Webhooks does not allow: it has 1 to 255 visible ASCII characters, none of them a dot.
    pub fn sign(&self, id: &str, at: Timestamp, body: &[u8]) -> Result<HeaderMap, WebhookError> {
        let mac = |before: &str, text: &[u8]| -> [u8; 32] {
            let key = self.keys.first().cloned().unwrap_or_else(|| keyed(&[]));
            key.chain_update(before).chain_update(text).finalize().into_bytes().into()
        };
        self.scheme.headers(self.token.as_ref(), id, at, body, mac)
    }

    /// The same verifier under another scheme, whose secrets are written in the same way.
    pub(crate) fn under(mut self, scheme: Scheme) -> Result<Self, SetupError> {
        scheme.check()?;
        self.scheme = scheme;
        Ok(self)
    }

    /// The first secret under which one of the signatures is right, and that signature. Every signature is compared
    /// with every secret up to that one, so the time taken does not tell which comparison failed.
    fn matching(&self, claim: &Claim<'_>, text: &[u8]) -> Option<(usize, Tag)> {
        self.keys.iter().enumerate().find_map(|(at, key)| {
            let signed = key.clone().chain_update(&claim.before).chain_update(text).finalize();
            // Compared in constant time, like every pair of tags.
            let right = |signature: &[u8; 32]| signed == Tag::new((*signature).into());
            let any = claim.signatures.iter().fold(false, |any, signature| right(signature) | any);
            any.then_some((at, signed))
        })
    }

    /// Whether one of the tokens stands in the header. Not the texts are compared but what they sign, in constant time:
    /// how long a comparison takes tells neither where they differ nor how long ours is.
    fn verify_token(&self, headers: &HeaderMap, header: &HeaderName, body: &[u8]) -> Result<Verified, WebhookError> {
        let signed = |key: Hmac<Sha256>| key.chain_update(b"steadfast webhook token").finalize();
        let told = scheme::required(headers, header)?;
        let told = signed(keyed(told.as_bytes()));
        let found = self.keys.iter().enumerate().find(|(_, key)| signed((*key).clone()) == told);
        let (secret, key) = found.ok_or_else(|| WebhookError::WrongToken(header.clone()))?;
        let tag = Some(key.clone().chain_update(body).finalize());
        Ok(Verified { id: None, timestamp: None, tag, secret, covers: Covered::Nothing })
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
        let Self { scheme, keys, token: _, tolerance } = self;
        write!(f, "Verifier({scheme:?}, {} secrets, tolerance {tolerance:?})", keys.len())
    }
}

/// A genuine delivery, and what to recognise it by when it comes again.
///
/// Remember it for at least as long as the sender repeats, not for the tolerance: Standard Webhooks advises retries
/// over three days.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The sender's name for the event, the same in every delivery of it: 1 to 255 visible ASCII characters.
    ///
    /// `None` if the scheme has no id, or if the signed part has no valid one, as in Didit's test events. Didit's own
    /// pages differ on whether `event_id` stays the same in a repeat, so handle repeats safely even with an id.
    pub id: Option<Box<str>>,
    /// When it was signed, in whole seconds. `None` for [`Scheme::Hmac`] and [`Scheme::Token`], whose deliveries could
    /// be of any time.
    pub timestamp: Option<Timestamp>,
    /// Which of the secrets matched, from 0. When it is always 0, the old secrets can be removed.
    pub secret: usize,
    /// How much of the body was signed, and so may be believed.
    pub covers: Covered,
    /// The tag of the signed text, or of a body under a token, if the scheme has no id.
    tag: Option<Tag>,
}

impl Verified {
    /// A fingerprint to recognise the delivery by where there is no [`id`](Self::id); `None` where there is one. It is
    /// made of the signed text, as a rule the body: 16 bytes of a hash of its HMAC-SHA256 under the secret that
    /// matched.
    ///
    /// Under another secret, or if one byte differs in a repeat (a fresh time, a counter), the fingerprint differs too.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        // A body may name an id although its scheme has none.
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
    /// The whole body.
    Body,
    /// Only `timestamp`, `session_id`, `status` and `webhook_type` of one of Didit's bodies
    /// ([`DiditSignatures::simple`]): enough to go and poll. Anyone who relayed the delivery may have changed the rest.
    Hint,
    /// Nothing: a [token](Scheme::Token) only shows who sent it. Enough to go and poll the job that the body names.
    Nothing,
}

/// An HMAC value, compared in constant time.
type Tag = CtOutput<Hmac<Sha256>>;

/// Hashed and labelled, because a bare HMAC of the body is the signature itself in some schemes, and this one may be
/// stored and shown.
fn fingerprint(tag: &Tag) -> Fingerprint {
    let labelled = Sha256::new_with_prefix(b"steadfast webhook body\0").chain_update(tag.as_bytes());
    shorten(labelled.finalize().into())
}
