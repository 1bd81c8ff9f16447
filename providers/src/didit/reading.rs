//! What Didit's answers mean: the tables of the parent module, as code.

use core::time::Duration;

use http::StatusCode;
use serde::de::IgnoredAny;
use steadfast_core::Reference;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Class, Failure};

use super::{Stage, Status};
use crate::json::{Object, object};
use crate::rate_limit::{Reset, quota};
use crate::retry_after::retry_after;
use crate::{Answer, status};

/// Didit's ids are UUIDs; a longer text is not one of them.
const MAX_ID_LEN: usize = 128;

#[derive(serde::Deserialize)]
struct Created {
    session_id: Option<String>,
    vendor_data: Option<String>,
}

#[derive(serde::Deserialize)]
struct Listed {
    count: Option<u64>,
    /// The link to the next page, if there is one.
    next: Option<IgnoredAny>,
    results: Vec<Object<Row>>,
}

#[derive(serde::Deserialize)]
struct Row {
    session_id: String,
    vendor_data: Option<String>,
    session_number: Option<u64>,
    session_kind: Option<String>,
}

#[derive(serde::Deserialize)]
struct Polled {
    session_id: Option<String>,
    status: Option<String>,
}

/// Whether a text is safe to use in a path and in a journal.
pub(super) fn is_session_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= MAX_ID_LEN && text.bytes().all(fits)
}

pub(super) fn reference(id: String) -> Option<Reference> {
    Reference::new(id).ok().filter(|reference| is_session_id(reference.as_str()))
}

pub(super) fn of_create(answer: &Answer<'_>) -> Result<Reading, Failure> {
    let failure = failure(answer);
    if !answer.status.is_success() {
        return Err(failure);
    }
    let created: Created = object(answer.body).ok_or(failure)?;
    let about_another = match (answer.key, created.vendor_data) {
        (Some(key), Some(vendor_data)) => key.as_str() != vendor_data,
        _ => false,
    };
    match created.session_id.and_then(reference) {
        Some(reference) if !about_another => Ok(Reading::Accepted(reference)),
        _ => Err(failure),
    }
}

pub(super) fn of_lookup(answer: &Answer<'_>) -> Result<Reading, Failure> {
    let failure = failure(answer);
    if !answer.status.is_success() {
        return Err(failure);
    }
    let listed: Listed = object(answer.body).ok_or(failure)?;
    if listed.results.is_empty() {
        // An empty list is proof only if nothing is kept back or yet to come.
        let whole = answer.status == StatusCode::OK;
        let none = whole && listed.next.is_none() && listed.count.is_none_or(|count| count == 0);
        return if none { Ok(Reading::NotFound) } else { Err(failure) };
    }
    adopted(listed.results, answer).map(Reading::Accepted).ok_or(failure)
}

/// The session that a look-up found, unless it is doubtful which.
fn adopted(rows: Vec<Object<Row>>, answer: &Answer<'_>) -> Option<Reference> {
    let rows: Vec<Row> = rows.into_iter().map(|Object(row)| row).collect();
    let first = rows.first()?;
    // If the driver does not say which key was asked about, the list's filter is trusted; still all rows must be of one
    // key.
    let vendor_data = answer.key.map(steadfast_core::Key::as_str).or(first.vendor_data.as_deref())?;
    let alike = |row: &Row| row.vendor_data.as_deref() == Some(vendor_data) && row.session_kind == first.session_kind;
    if !rows.iter().all(|row| alike(row) && is_session_id(&row.session_id)) {
        return None;
    }
    if rows.len() == 1 {
        return rows.into_iter().next().and_then(|row| reference(row.session_id));
    }
    let numbered: Option<Vec<_>> = rows.into_iter().map(|row| Some((row.session_number?, row.session_id))).collect();
    let mut numbered = numbered?;
    numbered.sort_unstable();
    let twice = numbered.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other));
    numbered.pop().filter(|_| !twice).and_then(|(_, id)| reference(id))
}

/// The decision in Didit's word, if there is one.
pub(super) fn decision(answer: &Answer<'_>) -> Option<Box<str>> {
    let polled: Polled = object(answer.body)?;
    polled.status.as_deref().and_then(Status::parse).map(|status| status.as_str().into())
}

pub(super) fn of_poll(answer: &Answer<'_>, stop_on_review: bool) -> Result<Reading, Failure> {
    let failure = failure(answer);
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(Reading::NotFound);
    }
    if !answer.status.is_success() {
        return Err(failure);
    }
    let polled: Polled = object(answer.body).ok_or(failure)?;
    if answer.is_of_another(polled.session_id.as_deref()) {
        return Err(failure);
    }
    let status = polled.status.as_deref().and_then(Status::parse).ok_or(failure)?;
    let hint = retry_after(answer.headers, answer.wall);
    Ok(match (status.stage(), status) {
        (_, Status::Other(text)) => Reading::Unknown(text),
        (Stage::Pending, _) => Reading::Pending { hint },
        (Stage::AwaitingReview, _) if stop_on_review => Reading::Partial,
        (Stage::AwaitingUser | Stage::AwaitingReview, _) => Reading::AwaitingPerson { hint },
        (Stage::Decided, _) => Reading::Ready,
        (Stage::EndedUndecided, _) => Reading::Undecided,
    })
}

/// The failure that the status stands for; with a 429, until its window ends.
pub(super) fn failure(answer: &Answer<'_>) -> Failure {
    let failure = status::failure(answer);
    if failure.class != Class::Throttled || failure.retry_after.is_some() {
        return failure;
    }
    let ends = quota(answer.headers, Reset::EpochSeconds, answer.wall).and_then(|quota| quota.reset);
    failure.with_retry_after(ends.filter(|wait| *wait > Duration::ZERO))
}
