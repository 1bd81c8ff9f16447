//! What each scheme signs, and where the signature is written.
//!
//! [`Scheme::claims`] reads from the headers what the delivery claims, [`Claim::text`] is the text that must have been
//! signed for that; [`Scheme::told`] reads id and time once a signature was valid; [`Scheme::headers`] is the sender's
//! side.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use steadfast_core::Timestamp;

use super::didit::{self, DiditSignatures, Form};
use super::encoding::{
    secret_from_base64, tag_from_base64, tag_from_hex, tag_to_base64, tag_to_hex, unix_seconds, whole_seconds,
};
use super::{MAX_SIGNATURES, MAX_TOKEN, MIN_TOKEN, SetupError, WebhookError};
use crate::Secret;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const SVIX_ID: HeaderName = HeaderName::from_static("svix-id");
const SVIX_TIMESTAMP: HeaderName = HeaderName::from_static("svix-timestamp");
const SVIX_SIGNATURE: HeaderName = HeaderName::from_static("svix-signature");
const STRIPE_SIGNATURE: HeaderName = HeaderName::from_static("stripe-signature");

const AN_ID: &str = "1 to 255 visible ASCII characters, none of them a dot";
const SECONDS: &str = "whole Unix seconds up to the year 2554, in digits without a leading zero";
const TIMED: &str = "t=…,v1=…: one t in whole Unix seconds, and signatures, separated by commas";
pub(super) const HEX: &str = "the signature in 64 lower-case hexadecimal digits, after the prefix if there is one";
const BASE64: &str = "the signature in 44 characters of padded base64, after the prefix if there is one";
const TEXT: &str = "visible ASCII";

/// How a sender signs, or shows that it is the sender. All signatures are HMAC-SHA256: the algorithm is never taken
/// from the message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// [Standard Webhooks 1.0](https://github.com/standard-webhooks/standard-webhooks), symmetric: `v1` signatures of
    /// id, time and body, separated by spaces. Others, such as the asymmetric `v1a` (Ed25519), are skipped: a delivery
    /// that has nothing else is [refused](WebhookError::NoSignature) by name. Svix's form of it, with `svix-id`,
    /// `svix-timestamp` and `svix-signature`, is read too.
    StandardWebhooks,
    /// Stripe's: `Stripe-Signature: t=…,v1=…`, with several `v1` during a rotation. Others, such as `v0`, are skipped.
    Stripe,
    /// As [Stripe](Self::Stripe), in a header of another name: Persona's `Persona-Signature`, Mux's `Mux-Signature`.
    /// Persona sends a group for each secret during a rotation, with a space between them (`t=…,v1=… t=…,v1=…`); three
    /// are looked at.
    Timed {
        /// The header that holds time and signatures.
        header: HeaderName,
    },
    /// Didit's three, which come with the same delivery: `X-Signature` over the raw body, `X-Signature-V2` over JSON
    /// written again as Python writes it, and `X-Signature-Simple`, which leaves the decision out. Those that are
    /// accepted are tried in this order.
    ///
    /// The time is the `timestamp` inside the body, since the `X-Timestamp` header is not signed; if that header is
    /// there, it must say the same.
    Didit(DiditSignatures),
    /// HMAC-SHA256 over the raw body and nothing else, as Onfido, Sumsub, Veriff and GitHub do.
    ///
    /// No time is signed, so an old delivery is as valid as a new one: only duplicate detection keeps it from counting
    /// twice.
    ///
    /// ```
    /// use http::HeaderName;
    /// use steadfast_providers::webhook::{Encoding, Scheme, Verifier};
    ///
    /// let header = HeaderName::from_static("x-hub-signature-256");
    /// let github = Scheme::Hmac { header, encoding: Encoding::Hex, prefix: "sha256=".into() };
    /// assert!(Verifier::new(github, ["It's a Secret to Everybody"]).is_ok());
    /// ```
    Hmac {
        /// Which header holds the signature.
        header: HeaderName,
        /// The encoding of the signature.
        encoding: Encoding,
        /// The text before the signature: `sha256=`, or nothing. Visible ASCII.
        prefix: Box<str>,
    },
    /// No signature: the secret itself stands in a header, the same in every delivery. AssemblyAI's
    /// `webhook_auth_header_name` and `webhook_auth_header_value`, GitLab's `X-Gitlab-Token`.
    ///
    /// It shows who sent a delivery, and nothing more: neither the body nor a time is signed, and whoever sees one
    /// delivery (a proxy that logs headers) can send others. So what it brings is [a hint](super::Covered::Nothing).
    /// Choose it only for a sender that can do no better.
    ///
    /// A token has [`MIN_TOKEN`] to [`MAX_TOKEN`] characters: visible ASCII, with spaces inside (`Bearer …`). It is
    /// the header's whole value.
    ///
    /// ```
    /// use http::HeaderName;
    /// use steadfast_providers::webhook::{Scheme, SetupError, Verifier};
    ///
    /// let gitlab = Scheme::Token { header: HeaderName::from_static("x-gitlab-token") };
    /// assert!(Verifier::new(gitlab.clone(), ["9f86d081884c7d659a2feaa0c55ad015"]).is_ok());
    /// assert_eq!(Verifier::new(gitlab, ["hunter2"]).err(), Some(SetupError::Token { at: 0 }));
    /// ```
    Token {
        /// Which header holds the token.
        header: HeaderName,
    },
}

/// How 32 bytes of signature are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// 64 hexadecimal digits, lower case.
    Hex,
    /// 44 characters of padded base64 in the standard alphabet.
    Base64,
}

/// What a delivery claims by its headers, before any of it is verified.
pub(super) struct Claim<'h> {
    /// The header that the signatures came from.
    pub(super) header: HeaderName,
    /// What is signed before the text.
    pub(super) before: String,
    /// Which form of the body was signed; `Raw` except for Didit's.
    pub(super) form: Form,
    pub(super) signatures: Signatures,
    id: Option<&'h str>,
    timestamp: Option<Timestamp>,
}

/// What a delivery claims, the best first: at least one claim, and at most Didit's three.
pub(super) type Claims<'h> = [Option<Claim<'h>>; 3];

/// The signatures of one header, at most [`MAX_SIGNATURES`]. Nearly always there is one, which needs no allocation.
#[derive(Default)]
pub(super) struct Signatures {
    first: Option<[u8; 32]>,
    others: Vec<[u8; 32]>,
}

impl Signatures {
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8; 32]> {
        self.first.iter().chain(&self.others)
    }
}

impl FromIterator<[u8; 32]> for Signatures {
    fn from_iter<I: IntoIterator<Item = [u8; 32]>>(signatures: I) -> Self {
        let mut signatures = signatures.into_iter();
        Self { first: signatures.next(), others: signatures.collect() }
    }
}

impl<'h> Claim<'h> {
    /// One signature, of the body in this form and of nothing before it.
    pub(super) fn of_body(header: HeaderName, form: Form, signature: [u8; 32]) -> Self {
        let signatures = Signatures { first: Some(signature), others: Vec::new() };
        Self { header, before: String::new(), form, signatures, id: None, timestamp: None }
    }

    /// The text that is signed after `before`; `None` if this body has no such text.
    pub(super) fn text<'b>(&self, body: &'b [u8]) -> Option<Cow<'b, [u8]>> {
        self.form.text(body)
    }
}

impl Scheme {
    pub(super) fn check(&self) -> Result<(), SetupError> {
        match self {
            Self::Didit(accepted) => accepted.check(),
            Self::Hmac { prefix, .. } if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) => Err(SetupError::Prefix),
            _ => Ok(()),
        }
    }

    /// The key that this secret stands for. `whsec_` marks base64 in Standard Webhooks and plain text in Stripe.
    pub(super) fn key(&self, secret: &str, at: usize) -> Result<Vec<u8>, SetupError> {
        if secret.trim() != secret {
            return Err(SetupError::Whitespace { at });
        }
        if secret.contains(char::is_control) {
            return Err(SetupError::Control { at });
        }
        let key = match self {
            Self::StandardWebhooks if ["whpk_", "whsk_"].iter().any(|prefix| secret.starts_with(prefix)) => {
                return Err(SetupError::KeyPair { at });
            }
            Self::StandardWebhooks => {
                let text = secret.strip_prefix("whsec_").unwrap_or(secret);
                secret_from_base64(text).ok_or(SetupError::NotBase64 { at })?
            }
            // All of Stripe's text is the key; but a prefix alone is a secret that was not copied completely.
            Self::Stripe if secret == "whsec_" => Vec::new(),
            // A token is compared with whatever comes, so a short one could be found by trying.
            Self::Token { .. } if !secret.is_empty() && !is_token(secret) => return Err(SetupError::Token { at }),
            Self::Stripe | Self::Timed { .. } | Self::Didit(_) | Self::Hmac { .. } | Self::Token { .. } => {
                secret.as_bytes().to_vec()
            }
        };
        if key.is_empty() { Err(SetupError::EmptySecret { at }) } else { Ok(key) }
    }

    /// What the delivery claims.
    pub(super) fn claims<'h>(&self, headers: &'h HeaderMap) -> Result<Claims<'h>, WebhookError> {
        let claim = match self {
            Self::StandardWebhooks => standard_claim(headers),
            Self::Stripe => timed_claim(required(headers, &STRIPE_SIGNATURE)?, &STRIPE_SIGNATURE),
            Self::Timed { header } => return timed_claims(headers, header),
            Self::Didit(accepted) => return accepted.claims(headers),
            Self::Hmac { header, encoding, prefix } => body_claim(headers, header, *encoding, prefix),
            // Nothing is signed: `Verifier::verify` asks for the token instead.
            Self::Token { .. } => return Ok(Claims::default()),
        };
        Ok([Some(claim?), None, None])
    }

    /// The id and time that a valid signature of this text covers.
    pub(super) fn told(
        &self,
        claim: &Claim<'_>,
        headers: &HeaderMap,
        text: &[u8],
    ) -> Result<(Option<Box<str>>, Option<Timestamp>), WebhookError> {
        match self {
            Self::StandardWebhooks => Ok((claim.id.map(Into::into), claim.timestamp)),
            Self::Stripe | Self::Timed { .. } => {
                // The signature is already valid: a body without an id is genuine all the same.
                let event = serde_json::from_slice::<StripeEvent>(text).ok();
                Ok((event.and_then(|event| usable_id(&event.id)), claim.timestamp))
            }
            Self::Didit(_) => didit::told(claim.form, headers, text),
            Self::Hmac { .. } | Self::Token { .. } => Ok((None, None)),
        }
    }

    pub(super) const fn time_is_in(&self) -> &'static str {
        match self {
            Self::StandardWebhooks => "webhook-timestamp header",
            Self::Stripe => "stripe-signature header",
            Self::Timed { .. } => "signature header",
            Self::Didit(_) => "signed body's `timestamp`",
            Self::Hmac { .. } | Self::Token { .. } => "signature",
        }
    }

    /// The sender's side: `mac` signs two texts, one after the other. `token` is what [`Scheme::Token`] sends.
    pub(super) fn headers(
        &self,
        token: Option<&Secret>,
        id: &str,
        at: Timestamp,
        body: &[u8],
        mac: impl Fn(&str, &[u8]) -> [u8; 32],
    ) -> Result<HeaderMap, WebhookError> {
        let sign = |before: &str| mac(before, body);
        let seconds = whole_seconds(at);
        let mut headers = HeaderMap::new();
        match self {
            Self::StandardWebhooks => {
                let tag = tag_to_base64(&sign(&standard_before(checked_id(&WEBHOOK_ID, id)?, &seconds.to_string())));
                headers.insert(WEBHOOK_ID, value(&WEBHOOK_ID, id)?);
                headers.insert(WEBHOOK_TIMESTAMP, seconds.into());
                headers.insert(WEBHOOK_SIGNATURE, value(&WEBHOOK_SIGNATURE, &format!("v1,{tag}"))?);
            }
            Self::Stripe | Self::Timed { .. } => {
                let header = if let Self::Timed { header } = self { header } else { &STRIPE_SIGNATURE };
                let tag = tag_to_hex(&sign(&format!("{seconds}.")));
                headers.insert(header, value(header, &format!("t={seconds},v1={tag}"))?);
            }
            Self::Didit(accepted) => {
                for form in accepted.forms() {
                    // A body that Didit cannot have written has only some of the forms.
                    let Some(text) = form.text(body) else { continue };
                    let header = form.header();
                    let signature = value(&header, &tag_to_hex(&mac("", &text)))?;
                    headers.insert(header, signature);
                }
                headers.insert(didit::TIMESTAMP, seconds.into());
            }
            Self::Hmac { header, encoding, prefix } => {
                let tag = encoding.write(&sign(""));
                headers.insert(header, value(header, &format!("{prefix}{tag}"))?);
            }
            Self::Token { header } => {
                headers.insert(header, value(header, token.map_or("", Secret::expose))?);
            }
        }
        Ok(headers)
    }
}

impl Encoding {
    fn read(self, text: &str) -> Option<[u8; 32]> {
        match self {
            Self::Hex => tag_from_hex(text),
            Self::Base64 => tag_from_base64(text),
        }
    }

    fn write(self, tag: &[u8; 32]) -> String {
        match self {
            Self::Hex => tag_to_hex(tag),
            Self::Base64 => tag_to_base64(tag),
        }
    }
}

fn standard_claim(headers: &HeaderMap) -> Result<Claim<'_>, WebhookError> {
    let is_svix = headers.contains_key(&SVIX_SIGNATURE) && !headers.contains_key(&WEBHOOK_SIGNATURE);
    let names = [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE];
    // All three headers of one family or none: a header of the other family does not belong to this delivery.
    let [id, time, header] = if is_svix { [SVIX_ID, SVIX_TIMESTAMP, SVIX_SIGNATURE] } else { names };
    let id = checked_id(&id, required(headers, &id)?)?;
    let text = required(headers, &time)?;
    let timestamp = seconds(&time, text)?;
    let signatures = required(headers, &header)?
        .split(' ')
        .filter_map(|entry| entry.strip_prefix("v1,"))
        .take(MAX_SIGNATURES)
        .filter_map(tag_from_base64)
        .collect();
    let before = standard_before(id, text);
    let (id, timestamp) = (Some(id), Some(timestamp));
    Ok(Claim { header, before, form: Form::Raw, signatures, id, timestamp })
}

fn standard_before(id: &str, time: &str) -> String {
    format!("{id}.{time}.")
}

/// One claim per group: each group's signatures cover only its own time.
fn timed_claims<'h>(headers: &'h HeaderMap, header: &HeaderName) -> Result<Claims<'h>, WebhookError> {
    let mut claims = Claims::default();
    for (group, place) in required(headers, header)?.split(' ').zip(&mut claims) {
        *place = Some(timed_claim(group, header)?);
    }
    Ok(claims)
}

fn timed_claim<'h>(group: &str, header: &HeaderName) -> Result<Claim<'h>, WebhookError> {
    let malformed = || WebhookError::Malformed { header: header.clone(), expected: TIMED };
    let mut time = None;
    let mut candidates = Vec::new();
    for entry in group.split(',') {
        match entry.split_once('=').ok_or_else(malformed)? {
            ("t", _) if time.is_some() => return Err(malformed()),
            ("t", text) => time = Some(text),
            ("v1", text) if candidates.len() < MAX_SIGNATURES => candidates.push(text),
            _ => {}
        }
    }
    let time = time.ok_or_else(malformed)?;
    let timestamp = unix_seconds(time).ok_or_else(malformed)?;
    let signatures = candidates.into_iter().filter_map(tag_from_hex).collect();
    let before = format!("{time}.");
    Ok(Claim { header: header.clone(), before, form: Form::Raw, signatures, id: None, timestamp: Some(timestamp) })
}

/// One signature, of the body alone.
fn body_claim<'h>(
    headers: &'h HeaderMap,
    header: &HeaderName,
    encoding: Encoding,
    prefix: &str,
) -> Result<Claim<'h>, WebhookError> {
    let text = required(headers, header)?;
    let signature = text.strip_prefix(prefix).and_then(|text| encoding.read(text)).ok_or_else(|| {
        let expected = match encoding {
            Encoding::Hex => HEX,
            Encoding::Base64 => BASE64,
        };
        WebhookError::Malformed { header: header.clone(), expected }
    })?;
    Ok(Claim::of_body(header.clone(), Form::Raw, signature))
}

/// With a dot in the id, the signed text could be split into id, time and body in more than one way.
fn checked_id<'t>(header: &HeaderName, id: &'t str) -> Result<&'t str, WebhookError> {
    if fits(id) && !id.contains('.') {
        return Ok(id);
    }
    Err(WebhookError::Malformed { header: header.clone(), expected: AN_ID })
}

/// An id from a signed body, if callers can store it as it is.
pub(super) fn usable_id(value: &Value) -> Option<Box<str>> {
    value.as_str().filter(|id| fits(id)).map(Into::into)
}

fn fits(id: &str) -> bool {
    (1..=255).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

pub(super) fn seconds(header: &HeaderName, text: &str) -> Result<Timestamp, WebhookError> {
    unix_seconds(text).ok_or_else(|| WebhookError::Malformed { header: header.clone(), expected: SECONDS })
}

/// Whether a token is long enough not to be guessed, and a header can carry it. White space around it, which a header
/// loses, is refused before.
fn is_token(text: &str) -> bool {
    (MIN_TOKEN..=MAX_TOKEN).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

pub(super) fn required<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h str, WebhookError> {
    single(headers, name)?.filter(|text| !text.is_empty()).ok_or_else(|| WebhookError::Missing(name.clone()))
}

/// A header's one line.
pub(super) fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, WebhookError> {
    let mut lines = headers.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(WebhookError::Repeated(name.clone()));
    }
    let text = line.to_str().map_err(|_| WebhookError::Malformed { header: name.clone(), expected: TEXT })?;
    Ok(Some(text))
}

fn value(name: &HeaderName, text: &str) -> Result<HeaderValue, WebhookError> {
    let malformed = |_| WebhookError::Malformed { header: name.clone(), expected: TEXT };
    let mut value = HeaderValue::from_str(text).map_err(malformed)?;
    // So that the `Debug` of a header map does not show it.
    value.set_sensitive(*name != WEBHOOK_ID);
    Ok(value)
}

#[derive(Deserialize)]
struct StripeEvent {
    #[serde(default)]
    id: Value,
}
