//! What Deepvue's answers are taken for, whatever status, headers and body: nothing is believed that was not said, and
//! nothing counts as *did not run* without proof.
//!
//! The body is read a second time as a plain JSON value. By it: only a 2xx (by status and by the body's own `code`)
//! makes a job accepted or ends one; the reference is the text that stands there; a final reading has its word or its
//! content; a create that failed is *not executed* only by a status that proves it, or by the one documented body.
//! Beyond that: the same twice, `Retry-After` as read on its own, an unknown status bounded, and no byte of a body in
//! any `Debug` (R42): a canary in every place where one can be.
//!
//! Input: `create|lookup|poll STATUS`, then header lines, an empty line, and the body.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, Timestamp};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::retry_after::retry_after;
use steadfast_providers::{Answer, BaseUrl, Provider};

use super::{WALL_SECS, digest, line, number, trimmed};

const CANARY: &str = "canary7f3a";

/// A job's status that says that it goes on.
const UNDER_WAY: &[&str] = &[
    "pending",
    "processing",
    "queued",
    "running",
    "initiated",
    "in_progress",
    "in-progress",
    "in progress",
    "inprogress",
];

/// See the [module](self).
pub fn holds(data: &[u8]) {
    let deepvue = deepvue();
    let mut rest = data;
    let (kind, status) = asked(line(&mut rest));
    let mut headers = HeaderMap::new();
    while !rest.is_empty() {
        let header = line(&mut rest);
        let Some(colon) = header.iter().position(|byte| *byte == b':') else { break };
        let value = HeaderValue::from_bytes(trimmed(&header[colon + 1..]));
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&header[..colon]), value) {
            headers.append(name, value);
        }
    }
    let answer = |body| Answer::new(kind, status, &headers, body, Timestamp::from_secs(WALL_SECS));
    let read = deepvue.read(&answer(rest));
    assert_eq!(deepvue.read(&answer(rest)), read, "another answer at the second time");

    let body = object(rest);
    // What does not decide is skipped unread by the profile, and plain JSON is stricter there: such a body has no
    // second reading.
    let judged = body.is_some() || !rest.trim_ascii_start().starts_with(b"{");
    match (kind, &read) {
        _ if !judged => {}
        (_, Err(failure)) => check_failure(&answer(rest), body.as_ref(), *failure),
        (Kind::Create, Ok(reading)) => check_accepted(status, body.as_ref(), reading),
        (Kind::Poll, Ok(reading)) => check_polled(&answer(rest), body.as_ref(), reading),
        (_, Ok(reading)) => panic!("Deepvue has no look-up, and one is read: {reading:?}"),
    }

    // In every text, and spliced in wherever.
    let mut marked = body.unwrap_or_default();
    mark(&mut marked);
    let at = digest(rest) % (rest.len() + 1);
    let spliced = [&rest[..at], CANARY.as_bytes(), &rest[at..]].concat();
    for body in [marked.to_string().as_bytes(), &spliced] {
        let answer = answer(body);
        let (shown, read) = (format!("{answer:?}"), deepvue.read(&answer));
        assert!(!shown.contains(CANARY), "R42: {shown}");
        // The one text that is kept, so that somebody can see what status it was that nobody knows.
        if let Ok(Reading::Unknown(text)) = &read {
            assert!(text.chars().count() <= 64, "an unknown status without bound");
        } else {
            assert!(!format!("{read:?}").contains(CANARY), "R42: {read:?}");
        }
    }
}

fn deepvue() -> Deepvue {
    let base = BaseUrl::parse(Deepvue::PRODUCTION).expect("a URL");
    let credentials = Credentials::new("token", "secret").expect("visible ASCII");
    Deepvue::new(base, "driving-license", credentials).expect("a product")
}

/// What any first line asks: where it says nothing, its bytes choose.
fn asked(line: &[u8]) -> (Kind, StatusCode) {
    let kind = match line.first() {
        Some(b'c') => Kind::Create,
        Some(b'l') => Kind::Lookup,
        _ => Kind::Poll,
    };
    let written = line.split(|byte| *byte == b' ').nth(1).and_then(number);
    let chosen = written.unwrap_or_else(|| digest(line) as u64) % 1_000;
    let status = u16::try_from(chosen.max(100)).ok().and_then(|it| StatusCode::from_u16(it).ok());
    (kind, status.unwrap_or_default())
}

/// The body as plain JSON, if it is one object and nothing else. Of a name that stands twice the last counts; the
/// profile takes no such body.
fn object(body: &[u8]) -> Option<Value> {
    let unmarked = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    serde_json::from_slice(unmarked).ok().filter(Value::is_object)
}

/// What status the answer has, its body's `code` included; `None` if that is none.
fn effective(status: StatusCode, body: Option<&Value>) -> Option<u16> {
    match body.map(|body| &body["code"]) {
        Some(code) if status.is_success() && !code.is_null() => code.as_u64().and_then(|code| u16::try_from(code).ok()),
        _ => Some(status.as_u16()),
    }
}

fn check_failure(answer: &Answer<'_>, body: Option<&Value>, failure: Failure) {
    let wait = retry_after(answer.headers, answer.wall);
    assert_eq!(failure.retry_after, wait, "a wait that the header does not say");
    let effective = effective(answer.status, body);
    assert!((failure.class == Class::Throttled) <= (effective == Some(429)), "throttled without a 429");
    assert_ne!(failure.certainty, Certainty::Executed, "no answer of Deepvue's says that it ran and failed");
    if answer.kind != Kind::Create {
        assert_eq!(failure.certainty, Certainty::NotExecuted, "what only asks runs nothing");
        return;
    }
    let source_down = body.and_then(|body| body["detail"].as_str()).is_some_and(|detail| {
        let said = detail.trim();
        said.eq_ignore_ascii_case("source unavailable")
    });
    let proved = match effective {
        Some(408 | 409 | 499) | None => false,
        Some(307 | 308 | 400..=499) => true,
        Some(503) => source_down,
        Some(_) => false,
    };
    assert!((failure.certainty == Certainty::NotExecuted) <= proved, "not executed, without proof: {failure:?}");
    // A body that names something twice is not read at all, so it proves nothing, whatever the last of them says.
    if matches!(answer.status.as_u16(), 300..=499) {
        assert_eq!(failure.certainty == Certainty::NotExecuted, proved, "{failure:?}");
    }
}

fn check_accepted(status: StatusCode, body: Option<&Value>, reading: &Reading) {
    let Reading::Accepted(reference) = reading else { panic!("a create is accepted or has failed: {reading:?}") };
    let body = body.expect("accepted by what is no JSON object");
    assert!(matches!(effective(status, Some(body)), Some(200..=299)) && status.is_success(), "accepted without a 2xx");
    let ids = [&body["transaction_id"], &body["request_id"]];
    let written = ids.into_iter().find(|id| !id.is_null()).and_then(Value::as_str);
    assert_eq!(written, Some(reference.as_str()), "another reference than is written there");
}

fn check_polled(answer: &Answer<'_>, body: Option<&Value>, reading: &Reading) {
    let is_final = !matches!(reading, Reading::Pending { .. } | Reading::NotFound);
    if !answer.status.is_success() {
        assert_eq!((answer.status.as_u16(), reading), (404, &Reading::NotFound), "a reading without a 2xx");
        return;
    }
    if let Reading::Pending { hint } = reading {
        assert_eq!(*hint, retry_after(answer.headers, answer.wall), "a hint that the header does not say");
    }
    let code = effective(answer.status, body);
    if *reading == Reading::NotFound {
        return assert_eq!(code, Some(404), "not found, and nobody says so");
    }
    if answer.status == StatusCode::ACCEPTED {
        return assert!(!is_final, "a 202 is no result: {reading:?}");
    }
    let body = body.expect("read by what is no JSON object");
    assert!(matches!(code, Some(200..=299)), "{reading:?} without a 2xx");
    assert!(!is_final || code != Some(202), "a 202 is no result: {reading:?}");
    let word = |text: &Value| {
        let short: String = text.as_str()?.chars().filter(|c| !c.is_control()).take(64).collect();
        Some(short.trim().to_ascii_lowercase()).filter(|word| !word.is_empty())
    };
    let content = if is_empty(&body["data"]) { &body["result"] } else { &body["data"] };
    let words = [word(&body["status"]), word(&content["status"])];
    let says = |what: &[&str]| words.iter().flatten().any(|word| what.contains(&word.as_str()));
    match reading {
        Reading::Ready => {
            assert!(!is_empty(content) || words[0].as_deref() == Some("completed"), "ready without a result")
        }
        Reading::Failed => assert!(says(&["failed"]), "failed, and nobody says so"),
        Reading::Partial => assert!(says(&[&["partial"][..], UNDER_WAY].concat()), "partial, unsaid"),
        Reading::Unknown(text) => assert_eq!(words[0], Some(text.to_ascii_lowercase()), "another text"),
        Reading::Pending { .. } if code == Some(202) => {}
        Reading::Pending { .. } => assert!(is_empty(content) || says(UNDER_WAY)),
        other => panic!("Deepvue says no such thing: {other:?}"),
    }
}

/// What the guide's own sample takes for no data yet.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(it) => !it,
        Value::Number(it) => it.as_f64() == Some(0.0),
        Value::String(it) => it.is_empty(),
        Value::Array(it) => it.is_empty(),
        Value::Object(it) => it.is_empty() || (it.len() == 1 && it.get("status").is_some_and(is_empty)),
    }
}

fn mark(value: &mut Value) {
    match value {
        Value::String(text) => *text = format!("{CANARY}{text}"),
        Value::Array(items) => items.iter_mut().for_each(mark),
        Value::Object(members) => members.values_mut().for_each(mark),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
