//! Screenings: one request under one key.

use std::time::Duration;

use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, SendSafety};
use steadfast_providers::didit::{DiditAml, SetupError};
use steadfast_providers::{Answer, Ask, Payload, Provider};

use super::{WALL, aml, key, read, unknown_outcome};

#[test]
fn a_screening_is_sent_under_its_key_and_ends_at_once() {
    let payload = Payload::from(r#"{"full_name":"A. Person"}"#);
    let request = aml().request(&Ask::new(Kind::Create, &key(), None, &payload)).unwrap();
    assert_eq!((request.method(), request.uri().path(), request.headers().len()), (&Method::POST, "/v3/aml/", 3));
    assert_eq!(
        (&request.headers()["idempotency-key"], request.body()),
        (&"order-42".parse().unwrap(), payload.bytes())
    );
    assert_eq!(aml().policy().safety(), SendSafety::Keyed { window: DiditAml::KEY_WINDOW });
    assert!(aml().policy().create().attempt_timeout() > Duration::from_secs(60), "as the documentation asks");
    assert!(aml().policy().create().deadline() < DiditAml::KEY_WINDOW / 2);
    assert!(matches!(aml().with_key_window(Duration::from_secs(1)), Err(SetupError::Policy(_))));

    let read = |status, body: &str| read(&aml(), Kind::Create, status, body);
    for word in ["Approved", "Declined", "In Review"] {
        let body = json!({ "request_id": "r-1", "aml": { "status": word, "total_hits": 0 } }).to_string();
        assert_eq!(read(200, &body), Ok(Reading::Ready), "{word}");
    }
    for body in [
        "",
        "{}",
        r#"{"request_id":"r-1"}"#,
        r#"{"request_id":"","aml":{"status":"Approved"}}"#,
        r#"{"request_id":"r-1","aml":{"status":""}}"#,
        r#"{"request_id":"r-1","aml":["Approved"]}"#,
        r#"{"request_id":"r-1","aml":{"status":"Approved","status":"Declined"}}"#,
        r#"{"aml":{"status":"Approved"}}"#,
    ] {
        assert_eq!(read(200, body), unknown_outcome(), "{body}");
    }
}

/// The two meanings of a 409: wait, or a bug.
#[test]
fn a_409_with_a_wait_is_repeated_and_one_without_is_not() {
    let conflict = |headers: HeaderMap| {
        let answer = Answer::new(Kind::Create, StatusCode::CONFLICT, &headers, b"{\"detail\":\"conflict\"}", WALL);
        aml().read(&answer)
    };
    let waiting = conflict(HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("3"))])).unwrap_err();
    assert_eq!((waiting.class, waiting.certainty), (Class::Transient, Certainty::MayHaveExecuted));
    assert_eq!(waiting.retry_after, Some(Duration::from_secs(3)));
    let reused = Failure::new(Class::Permanent, Certainty::MayHaveExecuted);
    assert_eq!(conflict(HeaderMap::new()), Err(reused));
}
