//! What is sent, how often, and what is not sent at all.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, StatusCode};
use steadfast_core::gate::{Admission, Gate, Request, Settled};
use steadfast_core::{Key, Kind, Seed, SendSafety};
use steadfast_providers::didit::{Didit, DiditAml, Limits, SetupError};
use steadfast_providers::{Answer, Ask, Payload, Provider, RequestError, SecretError};

use super::{API_KEY, CANARY, WALL, aml, base, didit, key};

#[test]
fn a_create_as_didit_has_it() {
    let payload = Payload::from(r#" { "workflow_id":"w", "n":12345678901234567890123, "x":1.50 }"#);
    let request = didit().request(&Ask::new(Kind::Create, &key(), None, &payload)).unwrap();
    assert_eq!((request.method(), request.headers().len()), (&Method::POST, 2));
    assert_eq!(request.uri(), "https://verification.didit.me/v3/session/");
    assert_eq!(request.headers()["x-api-key"], API_KEY);
    assert_eq!(request.headers()[CONTENT_TYPE], "application/json");
    // Every other byte as it was.
    let sent = r#"{"vendor_data":"order-42", "workflow_id":"w", "n":12345678901234567890123, "x":1.50 }"#;
    assert_eq!(request.body(), sent);
    let empty = didit().request(&Ask::new(Kind::Create, &key(), None, &Payload::from("{ }"))).unwrap();
    assert_eq!(empty.body(), r#"{"vendor_data":"order-42" }"#);
}

#[test]
fn payloads_that_cannot_bear_the_key_are_refused() {
    let refused = |payload: &[u8]| {
        let payload = Payload::from(payload.to_vec());
        let error = didit().request(&Ask::new(Kind::Create, &key(), None, &payload)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        matches!(error, RequestError::Payload(_))
    };
    for payload in [
        "",
        "[]",
        "[\"order-42\"]",
        "null",
        "\"canary\"",
        "{\"a\":1",
        "{\"a\":1} {}",
        "{\"vendor_data\":\"canary-other\"}",
        "{\"vendor_data\":\"order-42 \"}",
        "{\"vendor_data\":null}",
        "{\"vendor_data\":42}",
        "{\"vendor_data\":\"order-42\",\"vendor_data\":\"order-42\"}",
        "{\"vendor_data\":\"order-42\",\"vendor\\u005fdata\":\"canary\"}",
    ] {
        assert!(refused(payload.as_bytes()), "{payload}");
    }
    assert!(refused(b"{\"name\":\"\xff\"}"));
}

#[test]
fn what_it_cannot_ask() {
    let (key, payload) = (key(), Payload::default());
    let poll = didit().request(&Ask::new(Kind::Poll, &key, None, &payload)).unwrap_err();
    assert_eq!(poll, RequestError::NoReference);
    for kind in [Kind::Poll, Kind::Lookup] {
        assert_eq!(aml().request(&Ask::new(kind, &key, None, &payload)).unwrap_err(), RequestError::Unsupported(kind));
    }
}

#[test]
fn no_secret_or_personal_data_is_shown() {
    let key = Key::new("canary-key-9918").unwrap();
    let payload = Payload::from(r#"{"name":"canary-payload-1183"}"#);
    let request = didit().request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
    let headers = HeaderMap::new();
    let shown = [
        format!("{:?} {:#?}", didit(), aml()),
        format!("{:?}", Ask::new(Kind::Create, &key, None, &payload)),
        format!("{:?}", Answer::new(Kind::Poll, StatusCode::OK, &headers, CANARY.as_bytes(), WALL).about(&key)),
        format!("{:?}", request.headers()["x-api-key"]),
        format!("{0} {0:?}", Didit::new(base(), "canary\n").unwrap_err()),
        format!("{0} {0:?}", DiditAml::new(base(), "canary\r").unwrap_err()),
    ];
    for text in &shown {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn an_api_key_that_would_split_a_header_is_refused() {
    assert_eq!(Didit::new(base(), "").unwrap_err(), SetupError::ApiKey(SecretError::Empty("API key")));
    let split = SecretError::Character { which: "API key", at: 3 };
    assert_eq!(Didit::new(base(), "abc\r\nX: 1").unwrap_err(), SetupError::ApiKey(split));
    assert_eq!(DiditAml::new(base(), "abc é").unwrap_err(), SetupError::ApiKey(split));
}

#[test]
fn the_policy_looks_up_before_it_repeats_and_polls_slowly() {
    let policy = didit().policy();
    assert_eq!(policy.safety(), SendSafety::Lookup { settle: Duration::from_secs(60) });
    let poll = policy.poll();
    let waits: Vec<u64> = (0..7).map(|polls| poll.wait(polls, None, Seed::new(7)).as_secs()).collect();
    for (wait, meant) in waits.iter().zip([30, 60, 120, 240, 480, 600, 600]) {
        assert!(wait.abs_diff(meant) <= meant / 10 + 1 && *wait <= 600, "{waits:?}");
    }
    assert_eq!(poll.deadline(), Duration::from_secs(7 * 86_400));
    assert!(!poll.accepts_partial());
    // The polls allowed outlast the deadline, or the last days of a session would not be seen.
    assert!(u64::from(poll.polls()) * 540 > poll.deadline().as_secs());
    // A create, its time-out, its settling and its look-up: five of them within the deadline.
    let create = policy.create();
    let round = create.attempt_timeout() + Duration::from_secs(60) + Duration::from_secs(40);
    assert!(round * u32::from(create.attempts()) < create.deadline());

    let settle = Duration::from_secs(5);
    let changed = didit().with_settle(settle).unwrap().with_stop_on_review(true).policy();
    assert_eq!(changed.safety(), SendSafety::Lookup { settle });
    assert!(changed.poll().accepts_partial());
}

/// docs.didit.me/integration/rate-limiting: a create counts as a create and as a write, and whichever window is full
/// first counts.
#[test]
fn the_limits_hold_in_every_minute_and_a_create_counts_twice() {
    for (limits, kind, most) in [
        (Limits::default(), Kind::Create, 300),
        (Limits::default(), Kind::Poll, 600),
        (Limits { creates: 50, ..Limits::default() }, Kind::Create, 50),
        (Limits { creates: 1, writes: 1, reads: 1 }, Kind::Lookup, 1),
    ] {
        let mut gate = Gate::new(didit().with_limits(limits).unwrap().gate(), Seed::new(1));
        let start = WALL;
        let (mut now, mut sent) = (start, Vec::new());
        while now.saturating_since(start) < Duration::from_secs(600) {
            match gate.admit(Request::first(kind), now) {
                Admission::Go(permit) => {
                    gate.settle(permit, Settled::Answered, now);
                    sent.push(now);
                }
                Admission::Wait(no) | Admission::Refuse(no) => now = no.until,
            }
        }
        let minute = Duration::from_secs(60);
        let crowded = sent.windows(most + 1).any(|those| those[most].saturating_since(those[0]) < minute);
        assert!(!crowded, "more than {most} in a minute");
        assert!(sent.len() >= most * 9, "and not much less than ten minutes allow: {} of {most}", sent.len());
    }
    assert!(didit().with_limits(Limits { reads: 0, ..Limits::default() }).is_err());
}
