//! Didit's three signatures of one delivery, and what each of them covers.
//!
//! All are HMAC-SHA256 in lower-case hexadecimal digits, under the secret's text (docs.didit.me/integration/webhooks):
//!
//! | header | signed | so it may be believed |
//! | --- | --- | --- |
//! | `X-Signature` | the raw body | all of it |
//! | `X-Signature-V2` | the body in its [canonical form](super::canonical), which survives middleware that parses and writes JSON | all of it |
//! | `X-Signature-Simple` | `timestamp:session_id:status:webhook_type` of the body, a missing one empty | these four; not the id, the decision or the key |
//!
//! They are tried in this order, and the first valid one counts: a wrong `X-Signature` is the case that
//! `X-Signature-V2` is there for. If an accepted signature's header is malformed, or there twice, the delivery is
//! refused.
//!
//! The time is the `timestamp` that was signed. `X-Timestamp` is not signed; if it is there, it must say the same.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde_json::Value;
use steadfast_core::Timestamp;

use super::canonical::canonical;
use super::encoding::{exact, tag_from_hex, unix_seconds};
use super::scheme::{Claim, Claims, HEX, seconds, single, usable_id};
use super::{SetupError, WebhookError};
use crate::json::object;

pub(super) const TIMESTAMP: HeaderName = HeaderName::from_static("x-timestamp");

/// Which of Didit's signatures are accepted.
///
/// ```
/// use steadfast_providers::webhook::{DiditSignatures, Scheme, Verifier};
///
/// // The server in front of this program keeps the bytes as they came, so nothing else is needed.
/// let strict = DiditSignatures { canonical: false, ..DiditSignatures::default() };
/// let verifier = Verifier::new(Scheme::Didit(strict), ["the destination's secret_shared_key"])?;
/// # Ok::<(), steadfast_providers::webhook::SetupError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "plain settings, written with struct update syntax")]
pub struct DiditSignatures {
    /// `X-Signature`. Default yes.
    pub raw: bool,
    /// `X-Signature-V2`. Default yes.
    pub canonical: bool,
    /// `X-Signature-Simple`, which makes a delivery a mere hint: only time, session, status and type of its body are
    /// signed, and all else may have been altered. Default no.
    pub simple: bool,
}

impl Default for DiditSignatures {
    fn default() -> Self {
        Self { raw: true, canonical: true, simple: false }
    }
}

/// What one of the signatures covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Raw,
    Canonical,
    Simple,
}

impl Form {
    pub(super) const fn header(self) -> HeaderName {
        match self {
            Self::Raw => HeaderName::from_static("x-signature"),
            Self::Canonical => HeaderName::from_static("x-signature-v2"),
            Self::Simple => HeaderName::from_static("x-signature-simple"),
        }
    }

    /// The signed text of this body, if it has one.
    pub(super) fn text(self, body: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Self::Raw => Some(Cow::Borrowed(body)),
            Self::Canonical => canonical(body).map(Cow::Owned),
            Self::Simple => simple(body).map(|text| Cow::Owned(text.into_bytes())),
        }
    }
}

impl DiditSignatures {
    /// The accepted forms, the best first.
    pub(super) fn forms(self) -> impl Iterator<Item = Form> {
        let accepted = [(self.raw, Form::Raw), (self.canonical, Form::Canonical), (self.simple, Form::Simple)];
        accepted.into_iter().filter_map(|(accepted, form)| accepted.then_some(form))
    }

    pub(crate) fn check(self) -> Result<(), SetupError> {
        self.forms().next().map(|_| ()).ok_or(SetupError::NoSignature)
    }

    pub(super) fn claims(self, headers: &HeaderMap) -> Result<Claims<'_>, WebhookError> {
        let mut claims = Claims::default();
        for (form, place) in self.forms().zip(&mut claims) {
            let header = form.header();
            let Some(text) = single(headers, &header)? else { continue };
            if text.is_empty() {
                return Err(WebhookError::Missing(header));
            }
            let Some(signature) = tag_from_hex(text) else {
                return Err(WebhookError::Malformed { header, expected: HEX });
            };
            *place = Some(Claim::of_body(header, form, signature));
        }
        if claims.iter().all(Option::is_none) {
            let best = self.forms().next().unwrap_or(Form::Raw);
            return Err(WebhookError::Missing(best.header()));
        }
        Ok(claims)
    }
}

#[derive(Deserialize)]
struct Event {
    timestamp: u64,
    #[serde(default)]
    event_id: Value,
}

/// The id and the time in a text that was signed in this form.
pub(super) fn told(
    form: Form,
    headers: &HeaderMap,
    text: &[u8],
) -> Result<(Option<Box<str>>, Option<Timestamp>), WebhookError> {
    let (id, timestamp) = match form {
        Form::Simple => {
            let text = core::str::from_utf8(text).unwrap_or_default();
            (None, text.split_once(':').and_then(|(time, _)| unix_seconds(time)))
        }
        Form::Raw | Form::Canonical => {
            let event: Event = object(text).ok_or(WebhookError::NoTime)?;
            (usable_id(&event.event_id), exact(event.timestamp))
        }
    };
    let timestamp = timestamp.ok_or(WebhookError::NoTime)?;
    if let Some(text) = single(headers, &TIMESTAMP)?
        && seconds(&TIMESTAMP, text)? != timestamp
    {
        return Err(WebhookError::Contradiction(TIMESTAMP));
    }
    Ok((id, Some(timestamp)))
}

/// `timestamp:session_id:status:webhook_type`. `None` if one of them is of another type, or holds a colon, since then
/// the text could be split in two ways; or if the body has no canonical form: a body that two readers may read
/// differently is not even a hint.
fn simple(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Told {
        timestamp: Option<u64>,
        #[serde(default)]
        session_id: String,
        #[serde(default)]
        status: String,
        #[serde(default)]
        webhook_type: String,
    }
    let Told { timestamp, session_id, status, webhook_type } = object(&canonical(body)?)?;
    if [&session_id, &status, &webhook_type].into_iter().any(|part| part.contains(':')) {
        return None;
    }
    let timestamp = timestamp.map(|seconds| seconds.to_string()).unwrap_or_default();
    Some(format!("{timestamp}:{session_id}:{status}:{webhook_type}"))
}
