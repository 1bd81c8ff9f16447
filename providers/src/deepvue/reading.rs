//! What Deepvue's answers mean: the tables of the parent module, as code.
//!
//! Bodies are read strictly where they decide: a member twice, an id that is not text, or anything after the object's
//! end makes the whole answer unusable. What does not decide is skipped unread.

use core::fmt;

use http::StatusCode;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, Reference};

use super::Shape;
use crate::json::{Object, object, plain};
use crate::retry_after::retry_after;
use crate::{Answer, status};

#[derive(serde::Deserialize)]
struct Created {
    code: Option<u16>,
    transaction_id: Option<String>,
    request_id: Option<String>,
}

/// In the guide's shape (`data`) or in the API reference's (`status`, `result`).
#[derive(serde::Deserialize)]
struct Polled {
    code: Option<u16>,
    #[serde(default)]
    status: Glance,
    #[serde(default)]
    data: Glance,
    #[serde(default)]
    result: Glance,
}

#[derive(serde::Deserialize)]
struct Refused {
    detail: Option<String>,
}

pub(super) fn of_create(answer: &Answer<'_>, shape: Shape) -> Result<Reading, Failure> {
    if !answer.status.is_success() {
        return Err(refusal(answer));
    }
    let unusable = status::failure(answer);
    let created: Created = object(answer.body).ok_or(unusable)?;
    let answer = by_code(answer, created.code).ok_or(unusable)?;
    if !answer.status.is_success() {
        return Err(refusal(&answer));
    }
    let id = match shape {
        Shape::Guide => created.transaction_id.or(created.request_id),
        Shape::Reference => created.request_id.or(created.transaction_id),
    };
    let reference = id.filter(|id| !id.trim().is_empty()).and_then(|id| Reference::new(id).ok());
    reference.map(Reading::Accepted).ok_or(unusable)
}

/// A create that was answered with an error.
fn refusal(answer: &Answer<'_>) -> Failure {
    let failure = status::failure(answer);
    let detail = object(answer.body).and_then(|body: Refused| body.detail);
    let source_down = detail.is_some_and(|detail| detail.trim().eq_ignore_ascii_case("source unavailable"));
    if answer.status == StatusCode::SERVICE_UNAVAILABLE && source_down {
        return Failure::new(Class::Transient, Certainty::NotExecuted).with_retry_after(failure.retry_after);
    }
    failure
}

/// Whether an answer in the API reference's shape names another `request_id` than was asked for. (The guide's
/// `transaction_id` is that of the call: each poll has its own.)
fn is_of_another(answer: &Answer<'_>) -> bool {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(default)]
        request_id: Glance,
    }
    object(answer.body).is_some_and(|named: Named| answer.is_of_another(named.request_id.text()))
}

pub(super) fn of_poll(answer: &Answer<'_>, shape: Shape) -> Result<Reading, Failure> {
    if answer.status == StatusCode::ACCEPTED || !answer.status.is_success() {
        return without_body(answer);
    }
    let unusable = status::failure(answer);
    let polled: Polled = object(answer.body).ok_or(unusable)?;
    let answer = by_code(answer, polled.code).ok_or(unusable)?;
    if answer.status == StatusCode::ACCEPTED || !answer.status.is_success() {
        return without_body(&answer);
    }
    if shape == Shape::Reference && is_of_another(&answer) {
        return Err(unusable);
    }
    Ok(progress(polled, &answer))
}

/// A poll whose status alone decides.
fn without_body(answer: &Answer<'_>) -> Result<Reading, Failure> {
    let mut failure = status::failure(answer);
    match answer.status {
        StatusCode::ACCEPTED => return Ok(pending(answer)),
        StatusCode::NOT_FOUND => return Ok(Reading::NotFound),
        // The 401 is about the token, not about the job.
        StatusCode::UNAUTHORIZED => failure.class = Class::Unauthorized,
        _ => {}
    }
    Err(failure)
}

/// How far the job is. A `status` at the top is the job's own; one in the content may be the job's or the business
/// result's: there, only words that can mean nothing else are read as the job's.
fn progress(polled: Polled, answer: &Answer<'_>) -> Reading {
    let waits = matches!(polled.data.text().and_then(Status::parse), Some(Status::UnderWay));
    let content = if polled.data.is_empty() { polled.result } else { polled.data };
    let completed = match polled.status.text().and_then(Status::parse) {
        Some(Status::Failed) => return Reading::Failed,
        Some(Status::Partial) => return Reading::Partial,
        // `"data":"Pending"` is no data yet.
        Some(Status::UnderWay | Status::Completed) | None if waits => return pending(answer),
        Some(Status::UnderWay) if content.is_empty() => return pending(answer),
        Some(Status::UnderWay) => return Reading::Partial,
        Some(Status::Other(text)) => return Reading::Unknown(text),
        Some(Status::Completed) => true,
        None => false,
    };
    match content.status().and_then(Status::parse) {
        Some(Status::Failed) => Reading::Failed,
        Some(Status::Partial) => Reading::Partial,
        Some(Status::UnderWay) if matches!(content, Glance::Tagged { more: false, .. }) => pending(answer),
        Some(Status::UnderWay) => Reading::Partial,
        Some(Status::Completed | Status::Other(_)) => Reading::Ready,
        None if completed || !content.is_empty() => Reading::Ready,
        None => pending(answer),
    }
}

fn pending(answer: &Answer<'_>) -> Reading {
    Reading::Pending { hint: retry_after(answer.headers, answer.wall) }
}

/// Whether the access token has expired or is invalid, by the HTTP status or by the code in the body.
pub(super) fn is_unauthorized(answer: &Answer<'_>) -> bool {
    /// Parsed with the other members that decide, of whatever type: if one of them is not valid JSON (a number out of
    /// range, for example), the code is not read either.
    #[derive(serde::Deserialize)]
    struct Coded {
        code: Option<u16>,
        #[serde(rename = "transaction_id")]
        _transaction_id: Option<serde_json::Value>,
        #[serde(rename = "request_id")]
        _request_id: Option<serde_json::Value>,
    }
    let code = || match answer.kind {
        Kind::Poll => object(answer.body).and_then(|it: Polled| it.code),
        _ => object(answer.body).and_then(|it: Coded| it.code),
    };
    answer.status == StatusCode::UNAUTHORIZED || (answer.status.is_success() && code() == Some(401))
}

/// The answer about a batch: the code in `data`, the output file, and the counts if there are any.
#[derive(serde::Deserialize)]
struct Batch {
    #[serde(default)]
    request_id: Glance,
    status: Option<u16>,
    message: Option<String>,
    batch_output_file_url: Option<String>,
    processed_records: Option<u32>,
    total_records: Option<u32>,
}

#[derive(serde::Deserialize)]
struct BatchStatus {
    code: Option<u16>,
    data: Option<Object<Batch>>,
}

pub(super) fn of_batch(answer: &Answer<'_>) -> Result<Reading, Failure> {
    if answer.status == StatusCode::ACCEPTED || !answer.status.is_success() {
        return without_body(answer);
    }
    let unusable = status::failure(answer);
    let told: BatchStatus = object(answer.body).ok_or(unusable)?;
    let answer = by_code(answer, told.code).ok_or(unusable)?;
    if answer.status == StatusCode::ACCEPTED || !answer.status.is_success() {
        return without_body(&answer);
    }
    let Some(Object(batch)) = told.data else { return Ok(pending(&answer)) };
    if answer.is_of_another(batch.request_id.text()) {
        return Err(unusable);
    }
    let has_file = batch.batch_output_file_url.as_deref().is_some_and(|url| !url.trim().is_empty());
    let message = batch.message.as_deref().unwrap_or_default().trim();
    let is_completed = message.eq_ignore_ascii_case("batch processing completed");
    let says_failed = message.to_ascii_lowercase().contains("failed");
    Ok(match batch.status {
        // Only the exact documented words: "not completed" contains them too.
        Some(200) if has_file || is_completed => Reading::Ready,
        Some(200..=202) | None if has_file => Reading::Partial,
        Some(200..=202) | None => match (batch.processed_records, batch.total_records) {
            (Some(done), Some(total)) if done <= total => {
                Reading::Progress { done, total, hint: retry_after(answer.headers, answer.wall) }
            }
            _ => pending(&answer),
        },
        Some(404) => Reading::NotFound,
        Some(400..) if says_failed => Reading::Failed,
        Some(other) => Reading::Unknown(format!("batch status {other}").into()),
    })
}

/// The URL of a batch's results, if the answer names one.
pub(super) fn output_file(body: &[u8]) -> Option<String> {
    let told: BatchStatus = object(body)?;
    told.data?.0.batch_output_file_url.filter(|url| !url.trim().is_empty())
}

/// The same answer, with the status that its body's `code` claims; `None` if `code` is not a status.
fn by_code<'a>(answer: &Answer<'a>, code: Option<u16>) -> Option<Answer<'a>> {
    let status = match code {
        Some(code) => StatusCode::from_u16(code).ok()?,
        None => answer.status,
    };
    Some(Answer { status, ..*answer })
}

/// A job's status.
enum Status {
    UnderWay,
    Partial,
    Completed,
    Failed,
    Other(Box<str>),
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        let text = plain(text)?;
        Some(match text.to_ascii_lowercase().as_str() {
            "pending" | "processing" | "queued" | "running" | "initiated" => Self::UnderWay,
            "in_progress" | "in-progress" | "in progress" | "inprogress" => Self::UnderWay,
            "partial" => Self::Partial,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            _ => Self::Other(text),
        })
    }
}

/// The parts of a JSON value that decide: whether anything is in it, and its `status`.
#[derive(Default)]
enum Glance {
    /// `null`, `false`, `0`, `""`, `[]`, `{}`: the values that the guide's own Python sample treats as no data yet.
    #[default]
    Nothing,
    Text(Box<str>),
    /// An object with a `status` that is text, and perhaps more.
    Tagged {
        status: Box<str>,
        more: bool,
    },
    Other,
}

impl Glance {
    const fn is_empty(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn status(&self) -> Option<&str> {
        if let Self::Tagged { status, .. } = self { Some(status) } else { None }
    }

    const fn other(there: bool) -> Self {
        if there { Self::Other } else { Self::Nothing }
    }
}

impl<'de> Deserialize<'de> for Glance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GlanceVisitor)
    }
}

struct GlanceVisitor;

impl<'de> Visitor<'de> for GlanceVisitor {
    type Value = Glance;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Glance, E> {
        Ok(Glance::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Glance, E> {
        Ok(Glance::other(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Glance, E> {
        Ok(Glance::other(value != 0))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Glance, E> {
        Ok(Glance::other(value != 0))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Glance, E> {
        Ok(Glance::other(value != 0.0))
    }

    fn visit_str<E>(self, value: &str) -> Result<Glance, E> {
        Ok(if value.is_empty() { Glance::Nothing } else { Glance::Text(value.into()) })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Glance, A::Error> {
        let mut any = false;
        while items.next_element::<IgnoredAny>()?.is_some() {
            any = true;
        }
        Ok(Glance::other(any))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Glance, A::Error> {
        let mut status: Option<Glance> = None;
        let mut more = false;
        while let Some(name) = members.next_key::<String>()? {
            if name != "status" {
                members.next_value::<IgnoredAny>()?;
                more = true;
            } else if status.replace(members.next_value()?).is_some() {
                return Err(A::Error::duplicate_field("status"));
            }
        }
        Ok(match status {
            Some(Glance::Text(status)) => Glance::Tagged { status, more },
            None | Some(Glance::Nothing) => Glance::other(more),
            Some(_) => Glance::Other,
        })
    }
}
