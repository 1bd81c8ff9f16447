//! What Didit's webhooks say: that something has changed, and in which session.
//!
//! They never say more than that. A delivery may come late or out of order, and it does not contain all that the
//! decision does; so each one makes the session's next poll due now, and the poll's answer decides. A lost delivery
//! loses nothing: polling goes on beside them. Didit gives up a delivery after five minutes.
//!
//! A session that has ended is not polled any more: for it, the status in the delivery is reported as a later change,
//! dated by its `created_at`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use serde_json::value::RawValue;
use steadfast_core::{Key, Timestamp};

use super::Status;
use super::reading::reference;
use crate::WebhookEvent;
use crate::json::object;
use crate::webhook::{Covered, Verified};

const TEST: HeaderName = HeaderName::from_static("x-didit-test-webhook");

#[derive(serde::Deserialize)]
struct Told {
    session_id: Option<String>,
    /// A company's session.
    business_session_id: Option<String>,
    vendor_data: Option<String>,
    event_id: Option<IgnoredAny>,
    // Of any type: they do not decide which job the rest is about.
    metadata: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
    /// When it happened; `timestamp` is when it was sent, and differs in each repeat.
    created_at: Option<Box<RawValue>>,
}

/// The member's value, if it is there and of this type.
fn read<T: DeserializeOwned>(raw: Option<&RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// A delivery whose ids cannot be read, or stand there twice, is about no job. Nor is a test, which has no event id and
/// says so in its metadata or in a header. That header is not signed, so it does not turn a delivery that was signed
/// with an event id into a test.
pub(super) fn event(verified: Verified, headers: &HeaderMap, body: &Bytes) -> WebhookEvent {
    let covers = verified.covers;
    let event = WebhookEvent::new(verified);
    let Some(told) = object::<Told>(body) else { return event };
    let says_test = headers.get(TEST).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    if covers != Covered::Body {
        // Of the ids only `session_id` was signed.
        return if says_test { event } else { event.with_reference(told.session_id.and_then(reference)) };
    }
    let marked = read(told.metadata.as_deref()).is_some_and(|metadata: Value| metadata["test_webhook"] == true);
    if told.event_id.is_none() && (says_test || marked) {
        return event;
    }
    let id = told.session_id.or(told.business_session_id);
    let status: Option<String> = read(told.status.as_deref());
    let status = status.as_deref().and_then(Status::parse).map(|status| status.as_str().into());
    event
        .with_reference(id.and_then(reference))
        .with_key(told.vendor_data.and_then(|key| Key::new(key).ok()))
        .with_status(status, read(told.created_at.as_deref()).map(Timestamp::from_secs))
}
