//! Texts with placeholders: `Bearer {env.ACME_TOKEN}`, `/v1/jobs/{reference}`.
//!
//! | placeholder | is |
//! | --- | --- |
//! | `{key}` | the idempotency key |
//! | `{reference}` | the provider's name for the job; in polls only |
//! | `{+reference}` | the same with its slashes, which divide a path: in the path of polls only |
//! | `{payload}` | the payload, whole: only as a body, alone |
//! | `{payload./a/b}` | the text or whole number at this place of the payload, which must be JSON; in creates only |
//! | `{env.NAME}` | what the environment has under this name: the only way for a secret. In a path or a query it is part of the URL, which logs may show |
//! | `{{`, `}}` | a brace |

use core::fmt;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use secrecy::zeroize::Zeroizing;
use steadfast_core::Kind;

use super::pointer::{Pointer, Wanted};
use crate::{Ask, RequestError, Secret};

/// The longest name of an environment variable.
const MAX_NAME_LEN: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text(Box<str>),
    Key,
    Reference,
    /// The slashes of the value divide the path.
    ReferencePath,
    Payload(Pointer),
    Secret(Box<str>),
}

/// A text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(pub(super) Vec<Part>);

impl Template {
    /// Parses the template for a request of this kind.
    pub(super) fn parse(text: &str, kind: Kind) -> Result<Self, String> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if before.ends_with('$') && from.starts_with('{') && !from.starts_with("{{") {
                return Err(
                    "has a $ before a brace, as shells write it: here it would be sent; leave it out".to_owned()
                );
            }
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                plain.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let Some((name, after)) = from.strip_prefix('{').and_then(|from| from.split_once('}')) else {
                return Err("has a brace without its other: write {{ or }} for a brace that is meant as one".to_owned());
            };
            if !plain.is_empty() {
                parts.push(Part::Text(core::mem::take(&mut plain).into()));
            }
            parts.push(Part::parse(name, kind)?);
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self(parts))
    }

    /// The environment's variables in it.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| if let Part::Secret(name) = part { Some(&**name) } else { None })
    }

    pub(super) fn has_key(&self) -> bool {
        self.0.contains(&Part::Key)
    }

    pub(super) fn has_reference(&self) -> bool {
        self.0.contains(&Part::Reference) || self.has_reference_path()
    }

    pub(super) fn has_reference_path(&self) -> bool {
        self.0.contains(&Part::ReferencePath)
    }

    /// Whether it is a plain text without placeholders.
    pub(super) fn is_literal(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Fills the placeholders in. The text may hold a secret, so the buffer is wiped.
    pub(super) fn fill(&self, ask: &Ask<'_>, secrets: &Held) -> Result<Zeroizing<String>, RequestError> {
        let mut text = Zeroizing::new(String::with_capacity(ROOM));
        for part in &self.0 {
            part.put(ask, secrets, &mut text)?;
        }
        Ok(text)
    }

    /// The path segments of a template that stands between two slashes: text of the file and filled-in values in turn.
    pub(super) fn segments<'s>(&'s self, ask: &Ask<'_>, secrets: &Held) -> Result<Vec<Segment<'s>>, RequestError> {
        let (mut segments, mut open) = (Vec::new(), Segment::new());
        for part in &self.0 {
            if let Part::Text(text) = part {
                open.push((text, String::new()));
                continue;
            }
            let mut value = String::new();
            part.put(ask, secrets, &mut value)?;
            if *part == Part::ReferencePath {
                let mut rest = &*value;
                while let Some((step, after)) = rest.split_once('/') {
                    open.push(("", step.to_owned()));
                    segments.push(core::mem::take(&mut open));
                    rest = after;
                }
                value = rest.to_owned();
            }
            open.push(("", value));
        }
        segments.push(open);
        Ok(segments)
    }
}

/// One path segment: texts of the file, and values that are encoded whole.
pub(super) type Segment<'s> = Vec<(&'s str, String)>;

/// As it stands in the file.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Part::Key => f.write_str("{key}"),
            Part::Reference => f.write_str("{reference}"),
            Part::ReferencePath => f.write_str("{+reference}"),
            Part::Payload(pointer) => write!(f, "{{payload.{pointer}}}"),
            Part::Secret(name) => write!(f, "{{env.{name}}}"),
        })
    }
}

impl Part {
    fn put(&self, ask: &Ask<'_>, secrets: &Held, text: &mut String) -> Result<(), RequestError> {
        match self {
            Self::Text(plain) => text.push_str(plain),
            Self::Key => text.push_str(ask.key.as_str()),
            Self::Reference | Self::ReferencePath => {
                text.push_str(ask.reference.ok_or(RequestError::NoReference)?.as_str())
            }
            Self::Payload(pointer) => {
                let mut wanted = Wanted::default();
                wanted.add(pointer);
                let json = wanted.read(ask.payload.bytes());
                let word = json.as_ref().and_then(|json| json.at(pointer)?.word(true));
                text.push_str(word.ok_or(RequestError::Payload(
                    "is no JSON object, or has no text where the profile takes one from",
                ))?);
            }
            Self::Secret(name) => {
                text.push_str(secrets.get(name).ok_or(RequestError::Unsendable("secret"))?.expose());
            }
        }
        Ok(())
    }

    fn parse(name: &str, kind: Kind) -> Result<Self, String> {
        match name {
            "key" => return Ok(Self::Key),
            "reference" if kind == Kind::Poll => return Ok(Self::Reference),
            "+reference" if kind == Kind::Poll => return Ok(Self::ReferencePath),
            "reference" | "+reference" => return Err("has {reference}, which is known in polls only".to_owned()),
            "payload" => return Err("has {payload}, which can only be a body, alone".to_owned()),
            _ => {}
        }
        if let Some(variable) = name.strip_prefix("env.") {
            return checked_variable(variable).map(|()| Self::Secret(variable.into()));
        }
        match name.strip_prefix("payload.") {
            Some(pointer) if kind == Kind::Create => Pointer::parse(pointer).map(Self::Payload),
            Some(_) => Err("has {payload./…}, which is there in creates only".to_owned()),
            // The text may be a secret, so it is not repeated.
            None => {
                Err("has a placeholder that is none of {key}, {reference}, {payload}, {payload./a/b} and {env.NAME}"
                    .to_owned())
            }
        }
    }
}

/// Refuses a text that is not the name of an environment variable. The error repeats nothing: the text may be the
/// secret itself.
pub(super) fn checked_variable(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let good = name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
        && name.len() <= MAX_NAME_LEN
        && name.bytes().all(fits);
    if good {
        return Ok(());
    }
    Err(format!(
        "is no environment variable's name (1 to {MAX_NAME_LEN} capitals, digits and _, as in ACME_API_KEY): a secret itself has no place in a profile"
    ))
}

/// The buffer's capacity: a longer text would make it move, and leave parts of the text behind in memory.
const ROOM: usize = 1_024;

/// The values that the environment had for a profile's variables. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Secrets(Arc<RwLock<Arc<Held>>>);

/// The secrets of one renewal. A whole request is filled in from one of these, since secrets of two renewals may not
/// fit together.
pub(super) type Held = BTreeMap<Box<str>, Secret>;

impl Secrets {
    pub(super) fn replace(&self, all: Held) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
    }

    pub(super) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(redacted)")
    }
}
