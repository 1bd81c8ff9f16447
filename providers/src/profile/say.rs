//! The inverse of reading, for fakes and tests: makes an answer that this profile reads with exactly the given meaning.
//!
//! A profile is written for reading, and one meaning may have many forms. So answers are found by trial: every place
//! that can give the meaning (the state, the reference, the list, each rule) makes a draft, and the first draft that
//! the profile itself reads as intended is used. So an answer is never read as anything else; and if no draft is read
//! as intended, this profile cannot express the meaning.
//!
//! The answer has no more than the profile looks at. It shows that a profile agrees with itself, not that the provider
//! agrees with the profile: that is what recorded answers are for ([`Profile::check`]).

use core::fmt;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value};
use steadfast_core::operation::Reading;
use steadfast_core::{Key, Kind, Reference, Timestamp};

use super::meaning::{Meaning, State};
use super::pointer::Pointer;
use super::read::{Read, ReferencePlace};
use super::rule::{Sort, Test, Verdict, What, When};
use super::{Call, Profile};
use crate::Answer;

/// The statuses that are tried where a rule leaves a choice, beside the ends of its range: the usual ones.
const USUAL: [u16; 12] = [200, 202, 404, 400, 401, 403, 409, 410, 422, 429, 500, 503];

/// The longest list that is made for a pointer through one: `/output/7`. A greater index becomes a member of that name.
const MAX_INDEX: usize = 63;

/// The answer to make: its kind, its meaning, and what it mentions.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Saying<'a> {
    /// The kind of request that it answers.
    pub kind: Kind,
    /// How it should be read.
    pub reading: &'a Reading,
    /// The key of the job that it is about. Default: none; a list of jobs needs one.
    pub key: Option<&'a Key>,
    /// The reference that the poll asked for. Default: the answer does not repeat it.
    pub reference: Option<&'a Reference>,
    /// The result, as JSON. Default: none.
    pub result: Option<&'a str>,
}

impl<'a> Saying<'a> {
    /// An answer to a request of this kind, with this meaning.
    #[must_use]
    pub const fn new(kind: Kind, reading: &'a Reading) -> Self {
        Self { kind, reading, key: None, reference: None, result: None }
    }

    /// Makes the answer about the job of this key.
    #[must_use]
    pub const fn about(mut self, key: &'a Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Makes it the answer to a poll that asked for this reference.
    #[must_use]
    pub const fn asked_by(mut self, reference: &'a Reference) -> Self {
        self.reference = Some(reference);
        self
    }

    /// Adds a result, which must be JSON.
    #[must_use]
    pub const fn with_result(mut self, json: &'a str) -> Self {
        self.result = Some(json);
        self
    }
}

impl fmt::Debug for Saying<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, reading, result, .. } = self;
        write!(f, "Saying({kind:?}, {reading:?}, {} bytes)", result.map_or(0, str::len))
    }
}

impl Profile {
    /// Makes an answer that this profile, at its own [`base_url`](Self::base_url), reads as exactly this; `None` if the
    /// profile has no way to say it.
    ///
    /// With a result, [`Profile::result`] finds it in the answer: an object may have other members beside its own, such
    /// as the status; anything else is unchanged. A hint is `Retry-After` in whole seconds.
    ///
    /// ```
    /// use steadfast_core::operation::Reading;
    /// use steadfast_core::Kind;
    /// use steadfast_providers::profile::{self, Profile, Saying};
    ///
    /// let didit = Profile::parse(profile::shipped("didit").unwrap_or_default())?;
    /// let done = didit.say(&Saying::new(Kind::Poll, &Reading::Ready).with_result(r#"{"score":98.5}"#)).unwrap();
    /// assert_eq!(done.body(), r#"{"score":98.5,"status":"Approved"}"#);
    /// // Didit's sessions never fail: people are approved or declined.
    /// assert!(didit.say(&Saying::new(Kind::Poll, &Reading::Failed)).is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn say(&self, saying: &Saying<'_>) -> Option<Response<Bytes>> {
        let call = self.call(saying.kind)?;
        let result = saying.result.map(serde_json::from_str::<Value>).transpose().ok()?;
        let bases = match &result {
            None => vec![Value::Object(Map::new())],
            Some(result) => self.around_result(result),
        };
        let drafts = bases.iter().flat_map(|base| drafts(call, saying, base));
        drafts.filter_map(Draft::finished).find(|response| self.says(saying, result.as_ref(), response))
    }

    /// A reference as this profile's provider would give it, made of `id`, which should be letters, digits, `-` and
    /// `_`: `id` itself, or, if references are URLs to be polled, a URL at the base URL's origin.
    ///
    /// # Errors
    /// `id` is not a valid reference: it is empty, too long, or holds a control character.
    pub fn reference_of(&self, id: &str) -> Result<Reference, steadfast_core::ReferenceError> {
        let is_url = self.reference().is_some_and(|at| at.is_url);
        Reference::new(if is_url { format!("/operations/{id}") } else { id.to_owned() })
    }

    fn says(&self, saying: &Saying<'_>, result: Option<&Value>, response: &Response<Bytes>) -> bool {
        let Saying { kind, reading, key, reference, .. } = saying;
        // A hint in seconds is the same at any time.
        let wall = Timestamp::from_secs(0);
        let answer = Answer::new(*kind, response.status(), response.headers(), response.body(), wall);
        let read = self.read(&Answer { key: *key, reference: *reference, ..answer });
        let has_result = |result: &Value| {
            let found = serde_json::from_slice(&self.result(response.body()));
            found.is_ok_and(|found: Value| holds(&found, result))
        };
        read.is_ok_and(|read| read == **reading) && result.is_none_or(has_result)
    }

    /// Bodies that have the result where this profile looks for it.
    fn around_result(&self, result: &Value) -> Vec<Value> {
        let [_, ..] = &self.result[..] else { return vec![result.clone()] };
        let put = |pointer| {
            let mut body = Value::Null;
            put(&mut body, pointer, result.clone()).then_some(body)
        };
        self.result.iter().filter_map(put).collect()
    }
}

/// A candidate answer.
#[derive(Clone)]
struct Draft {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Draft {
    fn finished(self) -> Option<Response<Bytes>> {
        let Self { status, mut headers, body } = self;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = StatusCode::from_u16(status).ok()?;
        *response.headers_mut() = headers;
        Some(response)
    }
}

/// The plainest first; then those with a status word that one rule leaves to the rules after it.
fn drafts<'d>(call: &'d Call, saying: &'d Saying<'_>, base: &Value) -> impl Iterator<Item = Draft> + use<'d> {
    let read = &call.read;
    let plain = plain(call, saying, base);
    let plain = plain.unwrap_or(Draft { status: 200, headers: HeaderMap::new(), body: base.clone() });
    let passed = read.rules.iter().flat_map({
        let plain = plain.clone();
        move |rule| match &rule.verdict {
            Verdict::Is(..) => Vec::new(),
            Verdict::State(state) => with_word(state, &plain, state.texts(Meaning::Next)),
        }
    });
    core::iter::once(plain).chain(passed).flat_map(|plain| told(read, saying.reading, &plain))
}

/// The draft with each thing that may give the meaning, one at a time.
fn told(read: &Read, reading: &Reading, plain: &Draft) -> Vec<Draft> {
    let meanings = meanings(reading);
    let worded = |state: &State, draft: &Draft| {
        let unknown = if let Reading::Unknown(text) = reading { Some(&**text) } else { None };
        let known = meanings.iter().flat_map(|meaning| state.texts(*meaning));
        with_word(state, draft, unknown.into_iter().chain(known))
    };
    let mut drafts: Vec<Draft> = read.state.iter().flat_map(|state| worded(state, plain)).collect();
    // Without a status word: by the HTTP status alone, or because the word is missing.
    drafts.extend([200, 202].map(|status| Draft { status, ..plain.clone() }));
    for rule in &read.rules {
        match &rule.verdict {
            Verdict::Is(meaning, _) if !meanings.contains(meaning) => {}
            Verdict::Is(..) => drafts.extend(ways(&rule.when, plain)),
            Verdict::State(state) => {
                for way in ways(&rule.when, plain) {
                    drafts.extend(worded(state, &way));
                    drafts.push(way);
                }
            }
        }
    }
    let Some(status) = &read.status_in_body else { return drafts };
    let repeated = |draft: Draft| {
        let mut with_status = draft.clone();
        let done = put(&mut with_status.body, status, draft.status.into());
        done.then_some(with_status).into_iter().chain([draft])
    };
    drafts.into_iter().flat_map(repeated).collect()
}

fn with_word<'w>(state: &State, draft: &Draft, words: impl Iterator<Item = &'w str>) -> Vec<Draft> {
    let worded = |word: &str| {
        let mut draft = draft.clone();
        put(&mut draft.body, &state.pointer, word.into()).then_some(draft)
    };
    words.filter_map(worded).collect()
}

impl State {
    /// The status texts that have this meaning.
    fn texts(&self, meaning: Meaning) -> impl Iterator<Item = &str> {
        self.values.iter().filter(move |(_, of)| *of == meaning).map(|(text, _)| &**text)
    }
}

/// What the answer needs in any case: the reference, the list of jobs, the hint.
fn plain(call: &Call, saying: &Saying<'_>, base: &Value) -> Option<Draft> {
    let (read, key) = (&call.read, saying.key.map(Key::as_str));
    let mut draft = Draft { status: 200, headers: HeaderMap::new(), body: base.clone() };
    match (saying.reading, &read.found) {
        (Reading::Pending { hint: Some(hint) } | Reading::AwaitingPerson { hint: Some(hint) }, _) => {
            draft.headers.insert(RETRY_AFTER, HeaderValue::from(hint.as_secs()));
        }
        (Reading::Accepted(_) | Reading::NotFound, Some(found)) => {
            let mut jobs = Vec::new();
            if let Reading::Accepted(reference) = saying.reading {
                let mut job = Value::Null;
                let named = put(&mut job, &found.reference, reference.as_str().into());
                let placed = named && put(&mut job, &found.key, key?.into());
                let numbered = found.newest.iter().all(|newest| put(&mut job, newest, 1.into()));
                jobs.extend((placed && numbered).then_some(job));
            }
            let count = jobs.len();
            if found.list == Pointer::WHOLE {
                draft.body = jobs.into();
            } else if put(&mut draft.body, &found.list, jobs.into())
                && let Some(at) = &found.count
            {
                put(&mut draft.body, at, count.into());
            }
        }
        (Reading::Accepted(reference), None) => {
            match &read.reference.as_ref()?.place {
                ReferencePlace::Body(pointers) => {
                    put(&mut draft.body, pointers.first()?, reference.as_str().into());
                }
                ReferencePlace::Header(name) => {
                    draft.headers.insert(name, HeaderValue::from_str(reference.as_str()).ok()?);
                }
            }
            if let (Some(echo), Some(key)) = (&read.echo, key) {
                put(&mut draft.body, &echo.at, key.into());
            }
        }
        _ => {}
    }
    if let (Some(echo), Some(reference)) = (&read.echo, saying.reference)
        && saying.kind == Kind::Poll
    {
        put(&mut draft.body, &echo.at, reference.as_str().into());
    }
    Some(draft)
}

const fn meanings(reading: &Reading) -> &'static [Meaning] {
    match reading {
        Reading::Accepted(_) => &[Meaning::Accepted],
        Reading::Pending { .. } => &[Meaning::Pending],
        Reading::AwaitingPerson { .. } => &[Meaning::AwaitingUser, Meaning::AwaitingReview],
        Reading::Partial => &[Meaning::Partial],
        Reading::Ready => &[Meaning::Ready],
        Reading::Undecided => &[Meaning::Undecided],
        Reading::Failed => &[Meaning::Failed],
        Reading::NotFound => &[Meaning::NotFound],
        _ => &[],
    }
}

/// The draft, changed so that it fits the rule: one draft for each choice that the rule leaves.
fn ways(when: &When, draft: &Draft) -> Vec<Draft> {
    let within = |status: &u16| when.statuses.iter().any(|(from, to)| (from..=to).contains(&status));
    let ends = when.statuses.iter().flat_map(|(from, to)| [*from, *to]);
    let statuses = USUAL.into_iter().filter(within).chain(ends);
    let tests = when.headers.iter().map(|(_, test)| test).chain(when.body.iter().map(|(_, test)| test));
    let choices = tests.map(Test::choices).max().unwrap_or(1);
    let filled: Vec<Draft> = (0..choices).filter_map(|choice| fulfilled(when, draft.clone(), choice)).collect();
    statuses.flat_map(|status| filled.iter().map(move |draft| Draft { status, ..draft.clone() })).collect()
}

fn fulfilled(when: &When, mut draft: Draft, choice: usize) -> Option<Draft> {
    for (name, test) in &when.headers {
        match (test.value(choice), test.wants_something()) {
            (Some(Value::String(text)), _) => drop(draft.headers.insert(name, HeaderValue::from_str(&text).ok()?)),
            (_, true) if !draft.headers.contains_key(name) => {
                draft.headers.insert(name, HeaderValue::from_static("1"));
            }
            (_, true) => {}
            (_, false) => drop(draft.headers.remove(name)),
        }
    }
    for (pointer, test) in &when.body {
        let done = match (pointer, test.value(choice)) {
            (Some(pointer), Some(value)) => put(&mut draft.body, pointer, value),
            (Some(pointer), None) if test.wants_something() => {
                let is_there = at(&draft.body, pointer).is_some_and(|value| !is_empty(value));
                is_there || put(&mut draft.body, pointer, true.into())
            }
            (Some(pointer), None) => remove(&mut draft.body, pointer),
            // Anywhere in the text.
            (None, value) => put(&mut draft.body, &Pointer::WHOLE.child("message"), value?),
        };
        if !done {
            return None;
        }
    }
    Some(draft)
}

impl Test {
    fn choices(&self) -> usize {
        match &self.what {
            What::Equals(those) => those.len(),
            What::Contains(parts) => parts.len(),
            What::Present(_) | What::Empty { .. } => 1,
        }
    }

    /// A value that fits; if there are several, the one at index `choice`, or the last. `None` if all that counts is
    /// whether there is any.
    fn value(&self, choice: usize) -> Option<Value> {
        let at = choice.min(self.choices().saturating_sub(1));
        match &self.what {
            What::Equals(those) => those.get(at).map(|(sort, text)| match sort {
                Sort::Text => text.as_ref().into(),
                Sort::Number => text.parse::<i64>().map_or(Value::Null, Value::from),
                Sort::Flag => (&**text == "true").into(),
            }),
            What::Contains(parts) => parts.get(at).map(|part| part.as_ref().into()),
            What::Present(_) | What::Empty { .. } => None,
        }
    }

    const fn wants_something(&self) -> bool {
        !matches!(self.what, What::Present(false) | What::Empty { empty: true, .. })
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// Whether one value has all that another has.
fn holds(value: &Value, other: &Value) -> bool {
    match (value, other) {
        (Value::Object(value), Value::Object(other)) => {
            other.iter().all(|(name, other)| value.get(name).is_some_and(|value| holds(value, other)))
        }
        _ => value == other,
    }
}

fn at<'v>(value: &'v Value, pointer: &Pointer) -> Option<&'v Value> {
    pointer.steps().iter().try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        value => value.get(&**step),
    })
}

/// Puts a value there, creating the objects on the way. `false`: something else stands in the way.
pub(super) fn put(body: &mut Value, pointer: &Pointer, value: Value) -> bool {
    let mut place = body;
    for step in pointer.steps() {
        let index = step.parse::<usize>().ok().filter(|index| *index <= MAX_INDEX && index.to_string() == **step);
        if place.is_null() {
            *place = if index.is_some() { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
        }
        place = match place {
            Value::Object(members) => members.entry(&**step).or_insert(Value::Null),
            Value::Array(items) => {
                let Some(index) = index else { return false };
                if items.len() <= index {
                    items.resize(index + 1, Value::Null);
                }
                let Some(item) = items.get_mut(index) else { return false };
                item
            }
            _ => return false,
        };
    }
    *place = value;
    true
}

/// Removes the value there. `false`: nothing can be removed from what contains it.
fn remove(body: &mut Value, pointer: &Pointer) -> bool {
    let Some((name, way)) = pointer.steps().split_last() else { return false };
    let mut place = body;
    for step in way {
        let next = match place {
            Value::Object(members) => members.get_mut(&**step),
            Value::Array(items) => step.parse::<usize>().ok().and_then(|index| items.get_mut(index)),
            _ => None,
        };
        let Some(next) = next else { return true };
        place = next;
    }
    match place {
        Value::Object(members) => drop(members.remove(&**name)),
        Value::Array(items) => {
            if let Some(item) = name.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                *item = Value::Null;
            }
        }
        _ => {}
    }
    true
}
