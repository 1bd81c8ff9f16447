//! `[webhook]`: which deliveries are genuine, and what a delivery says.
//!
//! A delivery is verified first and read only then. It makes the job's next poll due now; only if the profile says
//! `believe = true` does its own state count. One whose ids cannot be read, or stand there twice, is about no job.
//!
//! Under a token nothing is signed: such a delivery names a job, and a file that wants more of it is refused.

use core::time::Duration;

use bytes::Bytes;
use http::HeaderName;
use steadfast_core::operation::Reading;
use steadfast_core::{Key, Kind};

use super::file::{Table, Value};
use super::meaning::{Meaning, Said, State, pointer, pointers};
use super::pointer::{Node, Pointer, Wanted};
use super::raw::part;
use super::read::{Around, ReferenceAt, text_at};
use super::request::header_name;
use super::template::checked_variable;
use super::{ConnectError, ProfileError};
use crate::json::plain;
use crate::moment::moment;
use crate::webhook::{DEFAULT_TOLERANCE, DiditSignatures, Encoding, Scheme, Verified, Verifier};
use crate::{Secret, WebhookEvent};

#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) scheme: Scheme,
    /// Environment variables, the newest secret's first.
    pub(super) secrets: Vec<Box<str>>,
    pub(super) tolerance: Duration,
    reference: Vec<Pointer>,
    key: Vec<Pointer>,
    event_id: Option<Pointer>,
    /// The job's status in the provider's word, and since when: for deliveries after the job's end.
    status: Option<Pointer>,
    at: Option<Pointer>,
    /// Only with `believe`.
    pub(super) state: Option<State>,
    result: Option<Pointer>,
}

impl Hook {
    pub(super) fn parse(value: &Value<'_>) -> Result<Self, ProfileError> {
        let table = value.table()?;
        let scheme = table.need("scheme", "how deliveries are signed, such as \"standard-webhooks\"")?;
        let scheme = if scheme.is_table() {
            with_header(&scheme)?
        } else {
            match scheme.text()? {
                "standard-webhooks" => Scheme::StandardWebhooks,
                "stripe" => Scheme::Stripe,
                "didit" => Scheme::Didit(DiditSignatures::default()),
                // The value is not repeated: it may be a webhook's secret.
                _ => {
                    return scheme.refuse(
                        "is none of \"standard-webhooks\", \"stripe\", \"didit\", { timed = { header = \"…\" } }, { hmac = { header = \"…\" } } and { token = { header = \"…\" } }",
                    );
                }
            }
        };
        let names = table.need("secrets", "the environment variables with the secrets, the newest first")?;
        let secrets: Vec<Box<str>> = names.list()?.iter().map(variable).collect::<Result<_, _>>()?;
        if secrets.is_empty() {
            return names.refuse("is empty: without a secret nothing may be believed");
        }
        let tolerance = tolerance(&table, &scheme)?;
        let (reference, key) = (pointers(&table, "reference")?, pointers(&table, "key")?);
        if reference.is_empty() && key.is_empty() {
            return value.refuse("says neither reference nor key: where in the body the job is named");
        }
        if matches!(scheme, Scheme::Token { .. }) {
            only_a_hint(&table)?;
        }
        let place = |name| table.get(name).map(|value| pointer(&value)).transpose();
        let (event_id, status, at) = (place("event_id")?, place("status")?, place("at")?);
        let (believe, state) = (table.get("believe"), table.get("state"));
        let result = table.get("result");
        let believed = believe.as_ref().map_or(Ok(false), |value| value.boolean())?;
        let state = match (&state, believed) {
            (Some(state), true) => Some(State::parse(state, Kind::Poll, Some(Meaning::Next))?),
            (Some(state), false) => return state.refuse("is not looked at unless believe = true"),
            (None, true) => {
                return value.refuse("has believe = true, and no [webhook.state] with what is to be believed");
            }
            (None, false) => None,
        };
        if let (Some(result), false) = (&result, believed) {
            return result.refuse("is not looked at unless believe = true");
        }
        let result = result.map(|value| pointer(&value)).transpose()?;
        table.finish()?;
        Ok(Self { scheme, secrets, tolerance, reference, key, event_id, status, at, state, result })
    }

    /// A verifier, or `None` if the environment has none of the secrets.
    pub(super) fn verifier(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Verifier>, ConnectError> {
        let there = self.secrets.iter().filter_map(|name| Some((&**name, Secret::from(env(name)?))));
        let (variables, secrets): (Vec<&str>, Vec<Secret>) = there.unzip();
        if secrets.is_empty() {
            return Ok(None);
        }
        let verifier = Verifier::new(self.scheme.clone(), secrets)
            .map_err(|why| ConnectError::Webhooks { variables: variables.join(", ").into(), why })?;
        Ok(Some(verifier.with_tolerance(self.tolerance)))
    }

    pub(super) fn event(
        &self,
        mut verified: Verified,
        body: &Bytes,
        checks: Option<&ReferenceAt>,
        polled: Option<&State>,
        around: Around<'_>,
    ) -> WebhookEvent {
        let mut wanted = Wanted::default();
        let places = self.reference.iter().chain(&self.key).chain(&self.event_id).chain(&self.status).chain(&self.at);
        places.for_each(|pointer| wanted.add(pointer));
        self.state.iter().for_each(|state| state.want(&mut wanted));
        let Some(told) = wanted.read(body) else { return WebhookEvent::new(verified) };
        // If a name is there but is not valid, it is doubtful which job the rest is about.
        let named = |places: &[Pointer], number: bool| {
            let names: Result<Vec<_>, ()> = places.iter().map(|at| text_at(Some(&told), at, number)).collect();
            names.map(|names| names.into_iter().flatten().next())
        };
        let number = checks.is_some_and(|checks| checks.number);
        let (Ok(reference), Ok(key)) = (named(&self.reference, number), named(&self.key, false)) else {
            return WebhookEvent::new(verified);
        };
        let reference = reference.and_then(|text| match checks {
            Some(checks) => checks.checked(text, around),
            None => steadfast_core::Reference::new(text).ok(),
        });
        let key = key.and_then(|key| Key::new(key).ok());
        let id = self.event_id.as_ref().and_then(|at| told.at(at)?.name(true)).filter(|id| is_id(id));
        verified.id = verified.id.or_else(|| id.map(Into::into));
        let meaning = self.state.as_ref().and_then(|state| meaning(state, &told));
        let result = meaning.is_some().then(|| self.result(body));
        // Read as in a poll's answer, with which it is compared.
        let number = polled.is_some_and(|state| state.number);
        let status = self.status.as_ref().and_then(|at| told.at(at)?.word(number)).and_then(plain);
        let at = self.at.as_ref().and_then(|at| moment(told.at(at)?.word(true)?));
        let event = WebhookEvent::new(verified).with_reference(reference).with_key(key).with_status(status, at);
        event.with_meaning(meaning).with_result(result)
    }

    fn result(&self, body: &Bytes) -> Bytes {
        let cut = self.result.as_ref().and_then(|at| part(core::str::from_utf8(body).ok()?, at));
        cut.map_or_else(|| body.clone(), |cut| Bytes::copy_from_slice(cut.as_bytes()))
    }
}

fn meaning(state: &State, told: &Node) -> Option<Reading> {
    match state.read(told) {
        Said::Means(Meaning::Pending) => Some(Reading::Pending { hint: None }),
        Said::Means(Meaning::AwaitingUser | Meaning::AwaitingReview) => Some(Reading::AwaitingPerson { hint: None }),
        Said::Means(Meaning::Ready) => Some(Reading::Ready),
        Said::Means(Meaning::Partial) => Some(Reading::Partial),
        Said::Means(Meaning::Undecided) => Some(Reading::Undecided),
        Said::Means(Meaning::Failed) => Some(Reading::Failed),
        // A poll has to find out everything else.
        Said::Means(_) | Said::Unknown(_) | Said::Unusable => None,
    }
}

/// An id that callers can store as it is: the same rule as everywhere in this crate.
fn is_id(id: &str) -> bool {
    (1..=255).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn variable(value: &Value<'_>) -> Result<Box<str>, ProfileError> {
    let name = value.text()?;
    checked_variable(name).map(|()| name.into()).or_else(|problem| value.refuse(problem))
}

/// The schemes whose header the file must name.
fn with_header(value: &Value<'_>) -> Result<Scheme, ProfileError> {
    let table = value.table()?;
    let (timed, untimed, token) = (table.get("timed"), table.get("hmac"), table.get("token"));
    table.finish()?;
    match (timed, untimed, token) {
        (Some(timed), None, None) => {
            let header = only_header(&timed, "the header with time and signatures, such as \"Mux-Signature\"")?;
            Ok(Scheme::Timed { header })
        }
        (None, Some(scheme), None) => hmac(&scheme),
        (None, None, Some(token)) => {
            Ok(Scheme::Token { header: only_header(&token, "the header with the token, such as \"X-Gitlab-Token\"")? })
        }
        _ => value.refuse("needs one of timed, hmac and token, as in { hmac = { header = \"X-Signature\" } }"),
    }
}

fn only_header(value: &Value<'_>, what: &str) -> Result<HeaderName, ProfileError> {
    let table = value.table()?;
    let header = table.need("header", what)?;
    table.finish()?;
    header_name(header.text()?, &header)
}

/// Under a token anything but the job's name would be believed unsigned. Nor may a delivery name it twice: then it
/// would teach which reference a key has.
fn only_a_hint(table: &Table<'_>) -> Result<(), ProfileError> {
    for name in ["event_id", "status", "at", "believe", "state", "result"] {
        if let Some(value) = table.get(name) {
            return value.refuse(
                "is not looked at: a token signs nothing, so a delivery only makes the next poll due now; leave this out, \
                 or use a scheme that signs",
            );
        }
    }
    match (table.get("reference"), table.get("key")) {
        (Some(_), Some(key)) => key.refuse(
            "stands beside reference: a token signs nothing, so a delivery must not say which reference a key has; \
             leave one of the two out",
        ),
        _ => Ok(()),
    }
}

fn hmac(value: &Value<'_>) -> Result<Scheme, ProfileError> {
    let table = value.table()?;
    let header = table.need("header", "the header with the signature")?;
    let encodings = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    let encoding = table.get("encoding").map_or(Ok(Encoding::Hex), |value| value.word(&encodings))?;
    let prefix = match table.get("prefix") {
        Some(value) if !value.text()?.bytes().all(|byte| byte.is_ascii_graphic()) => {
            return value.refuse("holds what no header can carry: use visible ASCII");
        }
        Some(value) => value.text()?,
        None => "",
    };
    table.finish()?;
    Ok(Scheme::Hmac { header: header_name(header.text()?, &header)?, encoding, prefix: prefix.into() })
}

fn tolerance(table: &Table<'_>, scheme: &Scheme) -> Result<Duration, ProfileError> {
    match table.get("tolerance") {
        None => Ok(DEFAULT_TOLERANCE),
        Some(value) if matches!(scheme, Scheme::Hmac { .. } | Scheme::Token { .. }) => {
            value.refuse("makes no difference: this scheme signs no time")
        }
        Some(value) => value.duration(),
    }
}
