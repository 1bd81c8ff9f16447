//! The dry run: how this profile reads recorded answers.
//!
//! A file of recorded answers is JSON:
//!
//! ```json
//! { "answers": [
//!   { "name": "still running", "source": "https://docs.example.com/scans", "kind": "poll", "status": 200,
//!     "headers": { "retry-after": "5" }, "body": { "status": "queued" }, "read": "pending, again in 5s" } ] }
//! ```
//!
//! A body that is a text is used as the body itself; any other JSON is written out as JSON. `key` is the key of the job
//! asked about, `reference` the one that a poll asked for, and `read` how the answer should be read, in [`words`].

use core::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use steadfast_core::operation::Reading;
use steadfast_core::policy::humane;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Kind, Reference, Timestamp};

use super::Profile;
use super::describe::in_a_line;
use crate::Answer;

/// An answer that was recorded: from documentation, or from a sandbox. Its `Debug` shows no body.
#[derive(Clone)]
#[non_exhaustive]
pub struct Recorded {
    /// What the answer is an example of.
    pub name: Box<str>,
    /// Where it comes from.
    pub source: Option<Box<str>>,
    /// The kind of request that it answers.
    pub kind: Kind,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The key of the job that was asked about.
    pub key: Option<Key>,
    /// The reference that a poll asked for.
    pub reference: Option<Reference>,
    /// The wall clock when the answer came; by default the epoch.
    pub wall: Timestamp,
    /// How it should be read, in [`words`].
    pub read: Option<Box<str>>,
}

/// How a recorded answer was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checked {
    /// The answer's name.
    pub name: Box<str>,
    /// How it was read, in [`words`].
    pub read: String,
    /// How it should be read, if the file says.
    pub expected: Option<Box<str>>,
}

impl Checked {
    /// Whether it is read as it should be.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.expected.as_ref().is_none_or(|expected| **expected == *self.read)
    }
}

/// Why recorded answers cannot be used: which one, from 0, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordedError {
    /// The file does not hold recorded answers.
    #[error("the recorded answers are no JSON of the form {{\"answers\": […]}}: {0}")]
    Json(Box<str>),
    /// One of them cannot be an answer.
    #[error("recorded answer {at} (from 0) has a {what} that is none")]
    Answer {
        /// Its index, from 0.
        at: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `answers`")]
struct File {
    #[expect(dead_code, reason = "for whoever reads the file")]
    source: Option<String>,
    answers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an answer, which is an object")]
struct Entry {
    name: Box<str>,
    source: Option<Box<str>>,
    kind: Kind,
    status: u16,
    #[serde(default)]
    headers: serde_json::Map<String, Value>,
    #[serde(default)]
    body: Value,
    key: Option<Box<str>>,
    reference: Option<Box<str>>,
    wall: Option<u64>,
    read: Option<Box<str>>,
}

/// What is wrong and where, in `serde_json`'s words, without any text of the file: it may be a person's. A field's name
/// is repeated.
fn without_texts(error: &serde_json::Error) -> Box<str> {
    let said = error.to_string();
    let Some((wrong, expected)) = said.rsplit_once(", expected ") else { return said.into() };
    if wrong.starts_with("unknown field") {
        return format!("{}, expected {expected}", in_a_line(wrong)).into();
    }
    let kind = wrong.split([':', '`']).next().unwrap_or_default().trim_end();
    format!("{kind}, expected {expected}").into()
}

impl Recorded {
    /// Reads a file of recorded answers.
    ///
    /// # Errors
    /// JSON of another form, or an invalid status, header or key.
    pub fn parse(json: &str) -> Result<Vec<Self>, RecordedError> {
        let json = json.strip_prefix('\u{feff}').unwrap_or(json);
        let file: File = serde_json::from_str(json).map_err(|error| RecordedError::Json(without_texts(&error)))?;
        file.answers.into_iter().enumerate().map(|(at, entry)| Self::of(at, entry)).collect()
    }

    fn of(at: usize, entry: Entry) -> Result<Self, RecordedError> {
        let wrong = |what| RecordedError::Answer { at, what };
        let mut headers = HeaderMap::new();
        for (name, value) in &entry.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("header's name"))?;
            let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
            headers.append(name, value.ok_or_else(|| wrong("header's value"))?);
        }
        let body = match entry.body {
            Value::Null => Bytes::new(),
            Value::String(text) => Bytes::from(text),
            json => Bytes::from(json.to_string()),
        };
        Ok(Self {
            name: entry.name,
            source: entry.source,
            kind: entry.kind,
            status: StatusCode::from_u16(entry.status).map_err(|_| wrong("status"))?,
            headers,
            body,
            key: entry.key.map(Key::new).transpose().map_err(|_| wrong("key"))?,
            reference: entry.reference.map(Reference::new).transpose().map_err(|_| wrong("reference"))?,
            wall: Timestamp::from_secs(entry.wall.unwrap_or_default()),
            read: entry.read,
        })
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, status, body, .. } = self;
        write!(f, "Recorded({name:?}, {kind:?}, {status}, {} bytes)", body.len())
    }
}

impl Profile {
    /// Reads each of these answers with this profile. Nothing is sent, and no secret is needed.
    ///
    /// ```
    /// use steadfast_providers::profile::{self, Profile, Recorded};
    ///
    /// let didit = Profile::parse(profile::shipped("didit").unwrap_or_default())?;
    /// let answers = Recorded::parse(
    ///     r#"{"answers": [{"name": "done", "kind": "poll", "status": 200, "body": {"status": "Approved"}, "read": "ready"}]}"#,
    /// )?;
    /// assert!(didit.check(&answers).iter().all(|checked| checked.agrees()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn check(&self, answers: &[Recorded]) -> Vec<Checked> {
        let checked = |recorded: &Recorded| {
            let Recorded { kind, status, headers, body, wall, .. } = recorded;
            let (key, reference) = (recorded.key.as_ref(), recorded.reference.as_ref());
            let answer = Answer { key, reference, ..Answer::new(*kind, *status, headers, body, *wall) };
            Checked { name: recorded.name.clone(), read: words(&self.read(&answer)), expected: recorded.read.clone() }
        };
        answers.iter().map(checked).collect()
    }
}

/// Puts into words how an answer was read: `accepted txn-1`, `pending, again in 5s`, `transient failure, may have
/// executed`.
///
/// An unknown status is shown as the provider wrote it, and so is a reference.
#[must_use]
pub fn words(read: &Result<Reading, Failure>) -> String {
    let waiting = |what: &str, wait: Option<core::time::Duration>| match wait {
        Some(wait) => format!("{what}, again in {}", humane::format(wait)),
        None => what.to_owned(),
    };
    match read {
        Ok(Reading::Accepted(reference)) => format!("accepted {reference}"),
        Ok(Reading::Pending { hint }) => waiting("pending", *hint),
        Ok(Reading::AwaitingPerson { hint }) => waiting("awaiting a person", *hint),
        Ok(Reading::Partial) => "partial".to_owned(),
        Ok(Reading::Ready) => "ready".to_owned(),
        Ok(Reading::Undecided) => "undecided".to_owned(),
        Ok(Reading::Failed) => "failed".to_owned(),
        Ok(Reading::NotFound) => "not found".to_owned(),
        Ok(Reading::Unknown(text)) => format!("unknown status {text:?}"),
        Ok(other) => format!("{other:?}"),
        Err(failure) => {
            let class = match failure.class {
                Class::Transient => "transient",
                Class::Throttled => "throttled",
                Class::TimedOut => "timed-out",
                Class::Permanent => "permanent",
                Class::Unauthorized => "unauthorized",
                _ => "other",
            };
            let certainty = match failure.certainty {
                Certainty::NotExecuted => "not executed",
                Certainty::Executed => "executed",
                _ => "may have executed",
            };
            waiting(&format!("{class} failure, {certainty}"), failure.retry_after)
        }
    }
}
