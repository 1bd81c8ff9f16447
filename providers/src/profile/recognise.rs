//! The inverse of building requests, for fakes and tests: which request this is, for which job, with which payload.
//!
//! A request is recognised by what its table fixes (method, path, query, literal headers, a JSON body's members) and
//! read by the same templates that wrote it. Anything else in it makes no difference. Secrets may have any value: a
//! fake has none to compare with.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use steadfast_core::{Key, Kind, Reference};

use super::Profile;
use super::pointer::Pointer;
use super::raw::without_key;
use super::request::{Body, JsonTemplate, KeyPlace, Sent, Target};
use super::say::put;
use super::template::{Part, Template};
use crate::{BaseUrl, Payload, structured};

/// A request of this profile, recognised: what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recognised {
    /// Create, look up or poll.
    pub kind: Kind,
    /// The job's idempotency key, if the request carries it.
    pub key: Option<Key>,
    /// The provider's own id for the job, if the request carries it. If that is a URL: path and query.
    pub reference: Option<Reference>,
    /// The payload of a create: byte for byte if it is the body; otherwise a JSON object of what the request took from
    /// it.
    pub payload: Payload,
}

/// Why a request is not one of this profile's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unrecognised {
    /// It is neither create, look-up nor poll.
    #[error("the request is none that the profile makes: method, path, query, a header or the body differs")]
    Endpoint,
    /// It would be one, but a header that carries a secret is missing.
    #[error("the request lacks a header with a secret")]
    Credentials,
}

impl Profile {
    /// Finds out what a request asks for, if this profile makes such requests when connected at `base`. A URL without
    /// scheme and host will do.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use steadfast_core::Kind;
    /// use steadfast_providers::profile::{self, Profile};
    ///
    /// let didit = Profile::parse(profile::shipped("didit").unwrap_or_default())?;
    /// let poll = Request::get("/v3/session/s-1/decision/").header("x-api-key", "any").body(Bytes::new())?;
    /// let asked = didit.recognise(&poll, didit.base_url())?;
    /// assert_eq!((asked.kind, asked.reference.unwrap().as_str()), (Kind::Poll, "s-1"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The request is not one of this profile's, or has no credentials.
    pub fn recognise(&self, request: &Request<Bytes>, base: &BaseUrl) -> Result<Recognised, Unrecognised> {
        let calls = [
            (Kind::Create, Some(&self.create)),
            (Kind::Lookup, self.lookup.as_ref()),
            (Kind::Poll, self.poll.as_ref()),
        ];
        let mut refused = Unrecognised::Endpoint;
        for (kind, call) in calls {
            let Some(call) = call else { continue };
            match recognised(&call.sent, kind, request, base) {
                Err(Unrecognised::Endpoint) => {}
                Err(other) => refused = other,
                good => return good,
            }
        }
        Err(refused)
    }
}

fn recognised(sent: &Sent, kind: Kind, request: &Request<Bytes>, base: &BaseUrl) -> Result<Recognised, Unrecognised> {
    let mut caught = Caught::default();
    let (refused, allowed) = (Unrecognised::Endpoint, caught.heads(sent, request.headers()));
    if *request.method() != sent.method || !caught.target(&sent.target, request, base) {
        return Err(refused);
    }
    let parameters = parameters(request);
    let parameter = |name: &str| parameters.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    let fits = sent.query.iter().all(|(name, value)| parameter(name).is_some_and(|text| caught.text(value, text)));
    let body = match &sent.body {
        Body::Json(json) => serde_json::from_slice(request.body()).is_ok_and(|body| caught.json(json, &body)),
        Body::None | Body::Payload => true,
    };
    if !fits || !body || !allowed? {
        return Err(refused);
    }
    let mut payload = match &sent.body {
        Body::Payload => request.body().clone(),
        Body::None | Body::Json(_) => caught.payload(),
    };
    let placed = match &sent.key {
        None => None,
        Some(KeyPlace::Header { name, quoted: true }) => structured::read_string(request.headers(), name.as_str()),
        Some(KeyPlace::Header { name, quoted: false }) => header(request.headers(), name).map(str::to_owned),
        Some(KeyPlace::Query(name)) => parameter(name).map(str::to_owned),
        Some(KeyPlace::Body(pointer)) => without_key(request.body(), pointer).map(|(key, without)| {
            if matches!(sent.body, Body::Payload) {
                payload = without;
            }
            key
        }),
    };
    let key = placed.or(caught.key).map(Key::new).transpose().map_err(|_| refused)?;
    let reference = caught.reference.map(Reference::new).transpose().map_err(|_| refused)?;
    let payload = if kind == Kind::Create { Payload::from(payload) } else { Payload::default() };
    Ok(Recognised { kind, key, reference, payload })
}

/// The values found where templates have placeholders.
#[derive(Clone, Default)]
struct Caught {
    key: Option<String>,
    reference: Option<String>,
    payload: Vec<(Pointer, String)>,
}

impl Caught {
    fn heads(&mut self, sent: &Sent, headers: &HeaderMap) -> Result<bool, Unrecognised> {
        let (mut fits, mut allowed) = (true, true);
        for (name, template) in &sent.headers {
            let there = header(headers, name).is_some_and(|text| self.text(template, text));
            let is_secret = template.secrets().next().is_some();
            *(if is_secret { &mut allowed } else { &mut fits }) &= there;
        }
        if fits && !allowed { Err(Unrecognised::Credentials) } else { Ok(fits) }
    }

    fn target(&mut self, target: &Target, request: &Request<Bytes>, base: &BaseUrl) -> bool {
        let segments = match target {
            Target::Path(segments) => segments,
            Target::Reference => {
                let url = request.uri().path_and_query();
                return self.value(&Part::Reference, url.map_or("/", |url| url.as_str()));
            }
        };
        let path = request.uri().path().strip_prefix(base.prefix()).and_then(|path| path.strip_prefix('/'));
        let Some(path) = path else { return false };
        let mut found = path.split('/');
        // A reference with slashes takes all segments that the others do not need.
        let Some(more) = found.clone().count().checked_sub(segments.len()) else { return false };
        let fits = |template: &Template| {
            let steps = if template.has_reference_path() { 1 + more } else { 1 };
            let text = found.by_ref().take(steps).collect::<Vec<_>>().join("/");
            percent_decode_str(&text).decode_utf8().is_ok_and(|text| self.text(template, &text))
        };
        segments.iter().all(fits) && found.next().is_none()
    }

    fn json(&mut self, template: &JsonTemplate, value: &Value) -> bool {
        match (template, value) {
            (JsonTemplate::Plain(plain), value) => plain == value,
            (JsonTemplate::Text(template), Value::String(text)) => self.text(template, text),
            (JsonTemplate::List(templates), Value::Array(items)) => {
                templates.len() == items.len()
                    && templates.iter().zip(items).all(|(template, item)| self.json(template, item))
            }
            (JsonTemplate::Object(members), Value::Object(object)) => members
                .iter()
                .all(|(name, template)| object.get(&**name).is_some_and(|value| self.json(template, value))),
            _ => false,
        }
    }

    /// Whether the template can have written this text; if so, the filled-in values are kept.
    fn text(&mut self, template: &Template, text: &str) -> bool {
        self.parts(&template.0, text)
    }

    /// The first placeholder takes as little text as it can.
    fn parts(&mut self, parts: &[Part], text: &str) -> bool {
        let Some((part, rest)) = parts.split_first() else { return text.is_empty() };
        if let Part::Text(plain) = part {
            return text.strip_prefix(&**plain).is_some_and(|text| self.parts(rest, text));
        }
        let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        // Nothing comes after the last part, so it takes all that is left.
        let ends = ends.filter(|end| !rest.is_empty() || *end == text.len());
        for (value, after) in ends.filter_map(|end| text.split_at_checked(end)) {
            let before = self.clone();
            if self.value(part, value) && self.parts(rest, after) {
                return true;
            }
            *self = before;
        }
        false
    }

    /// `false`: the value is not possible here, or contradicts the same placeholder elsewhere.
    fn value(&mut self, part: &Part, value: &str) -> bool {
        let place = match part {
            Part::Text(plain) => return **plain == *value,
            Part::Secret(_) => return !value.is_empty(),
            Part::Payload(pointer) => {
                return match self.payload.iter().find(|(other, _)| other == pointer) {
                    Some((_, known)) => known == value,
                    None => {
                        self.payload.push((pointer.clone(), value.to_owned()));
                        true
                    }
                };
            }
            Part::Key => &mut self.key,
            Part::Reference | Part::ReferencePath => &mut self.reference,
        };
        !value.is_empty() && place.get_or_insert_with(|| value.to_owned()) == value
    }

    fn payload(&self) -> Bytes {
        if self.payload.is_empty() {
            return Bytes::new();
        }
        let mut payload = Value::Object(Map::new());
        for (pointer, text) in &self.payload {
            put(&mut payload, pointer, text.as_str().into());
        }
        Bytes::from(payload.to_string())
    }
}

fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).and_then(|value| core::str::from_utf8(value.as_bytes()).ok())
}

fn parameters(request: &Request<Bytes>) -> Vec<(String, String)> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).ok();
    let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter_map(|(name, value)| Some((decoded(name)?, decoded(value)?))).collect()
}
