//! Screenings: one request under one key.

use std::time::Duration;

use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use steadfast_core::breaker::BreakerState;
use steadfast_core::gate::{Admission, Gate, Request, Settled};
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, Seed, SendSafety};
use steadfast_providers::didit::{DiditAml, Limits, SetupError};
use steadfast_providers::{Answer, Ask, Payload, Provider};

use super::{WALL, aml, key, read, unknown_outcome};

const SECOND: Duration = Duration::from_secs(1);

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

/// A screening may take longer than the usual lease of a breaker's probe. One that is given up before its answer
/// decides nothing, and as long as others wait to take its place the breaker would never close.
#[test]
fn screenings_that_take_their_time_close_a_breaker_again() {
    let share = Limits { writes: 60, ..Limits::default() };
    for aml in [aml(), aml().with_limits(share).unwrap()] {
        closes_again(&aml);
    }
}

fn closes_again(aml: &DiditAml) {
    let mut gate = Gate::new(aml.gate(), Seed::new(1));
    let mut now = WALL;
    while gate.breaker_state(now) == BreakerState::Closed {
        now = now.saturating_add(SECOND);
        let Admission::Go(permit) = gate.admit(Request::first(Kind::Create), now) else { continue };
        gate.settle(permit, Settled::Failed(Failure::new(Class::Transient, Certainty::MayHaveExecuted)), now);
    }
    let mut under_way = Vec::new();
    let takes = aml.policy().create().attempt_timeout().saturating_sub(SECOND);
    for _ in 0..600 {
        now = now.saturating_add(SECOND);
        under_way.extend(gate.admit(Request::first(Kind::Create), now).permit().map(|permit| (now, permit)));
        for (_, permit) in under_way.extract_if(.., |(began, _)| now.saturating_since(*began) >= takes) {
            gate.settle(permit, Settled::Answered, now);
        }
        if gate.breaker_state(now) == BreakerState::Closed {
            return;
        }
    }
    panic!("half-open for ten minutes, and each screening went well");
}
