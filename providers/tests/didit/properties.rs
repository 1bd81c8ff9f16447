//! Whatever is sent and whatever comes.

use std::collections::BTreeMap;

use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};
use steadfast_core::operation::Reading;
use steadfast_core::retry::Certainty;
use steadfast_core::{Key, Kind, Reference, Timestamp};
use steadfast_providers::{Answer, Ask, Payload, Provider, RequestError};

use super::{CANARY, WALL, aml, didit, key, lookup, unusable};

/// JSON made of what Didit's answers are made of, and of what they should not be.
fn body() -> impl Strategy<Value = String> {
    let scalar = prop::sample::select(vec![
        "null",
        "true",
        "0",
        "7",
        "-1",
        "1e400",
        "\"\"",
        "\"order-42\"",
        "\"order-43\"",
        "\"In Review\"",
        "\"Approved\"",
        "\"user\"",
        "\"5b3720ed\"",
        "\"a/../b\"",
        "\"\\u0000\"",
        "123456789012345678901234567890",
        "[]",
    ])
    .prop_map(str::to_owned);
    let name = prop::sample::select(vec![
        "session_id",
        "vendor_data",
        "status",
        "count",
        "next",
        "results",
        "session_number",
        "session_kind",
        "request_id",
        "aml",
        "detail",
    ]);
    let json = scalar
        .prop_recursive(3, 24, 6, move |inner| {
            prop_oneof![
                prop::collection::vec((name.clone(), inner.clone()), 0..6).prop_map(|members| {
                    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
                prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            ]
        })
        .boxed();
    prop_oneof![
        4 => json.clone(),
        1 => (json, 0..60usize).prop_map(|(text, cut)| text.chars().take(cut).collect()),
        1 => ".{0,60}",
    ]
    .boxed()
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Create, Kind::Lookup, Kind::Poll])
}

/// Every text of a JSON value with a canary in it.
fn mark(value: &mut Value) {
    match value {
        Value::String(text) => *text = format!("{CANARY}{text}"),
        Value::Array(items) => items.iter_mut().for_each(mark),
        Value::Object(members) => members.values_mut().for_each(mark),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_answer_panics_and_only_a_2xx_is_good_news(
        kind in kind(), status in prop_oneof![Just(200u16), 100..=999u16], body in body(), hint in "[ -~]{0,30}", wall: u64, told: bool,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(&hint).unwrap());
        headers.insert("x-ratelimit-reset", HeaderValue::from_str(&hint).unwrap());
        let (status, key) = (StatusCode::from_u16(status).unwrap(), key());
        let mut answer = Answer::new(kind, status, &headers, body.as_bytes(), Timestamp::from_nanos(wall));
        if told {
            answer = answer.about(&key);
        }
        let read = didit().read(&answer);
        prop_assert_eq!(&read, &didit().read(&answer));
        match (kind, &read) {
            (Kind::Create, Ok(reading)) => prop_assert!(matches!(reading, Reading::Accepted(_)) && status.is_success()),
            (Kind::Lookup, Ok(reading)) => {
                prop_assert!(matches!(reading, Reading::Accepted(_) | Reading::NotFound) && status.is_success());
            }
            (_, Ok(Reading::NotFound)) => prop_assert_eq!(status, 404),
            (_, Ok(reading)) => prop_assert!(!matches!(reading, Reading::Accepted(_)) && status.is_success()),
            (Kind::Create, Err(failure)) => prop_assert_ne!(failure.certainty, Certainty::Executed),
            (_, Err(failure)) => prop_assert_eq!(failure.certainty, Certainty::NotExecuted),
        }
        let screened = aml().read(&answer);
        if let Ok(reading) = screened {
            prop_assert!(reading == Reading::Ready && status.is_success() && kind == Kind::Create);
        }
    }

    /// R42.
    #[test]
    fn no_bytes_panic_and_none_are_shown(kind in kind(), status in 100..=999u16, body: Vec<u8>, json in body(), at: usize) {
        let (headers, status) = (HeaderMap::new(), StatusCode::from_u16(status).unwrap());
        let at = at % (body.len() + 1);
        let spliced = [&body[..at], CANARY.as_bytes(), &body[at..]].concat();
        let mut marked: Value = serde_json::from_str(&json).unwrap_or_default();
        mark(&mut marked);
        for body in [&body[..], &spliced, marked.to_string().as_bytes()] {
            let answer = Answer::new(kind, status, &headers, body, WALL);
            let (one, other) = (didit().read(&answer), aml().read(&answer));
            let shown = format!("{answer:?} {other:?}");
            prop_assert!(!shown.contains(CANARY));
            // The one text that is kept, so that somebody can see what status it was that nobody knows.
            match one {
                Ok(Reading::Unknown(text)) => prop_assert!(text.chars().count() <= 64 && !text.chars().any(char::is_control)),
                one => prop_assert!(!format!("{one:?}").contains(CANARY), "{:?}", one),
            }
        }
    }

    #[test]
    fn every_create_of_one_key_is_the_same_request_and_names_the_key(
        key in "[!-~]{1,255}", members in prop::collection::btree_map("[a-z]{1,6}", ".{0,9}", 0..4),
    ) {
        let key = Key::new(key).unwrap();
        let payload = Payload::from(serde_json::to_vec(&members).unwrap());
        let reference = Reference::new("learned-since").unwrap();
        let first = didit().request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
        let again = didit().request(&Ask::new(Kind::Create, &key, Some(&reference), &payload)).unwrap();
        prop_assert_eq!((first.method(), first.uri(), first.body()), (again.method(), again.uri(), again.body()));
        let mut sent: BTreeMap<String, String> = serde_json::from_slice(first.body()).unwrap();
        let vendor_data = sent.remove("vendor_data");
        prop_assert_eq!(vendor_data.as_deref(), Some(key.as_str()));
        prop_assert_eq!(sent, members);
        // Given by the caller as well, it is sent as it was given.
        let named = Payload::from(first.body().clone());
        let request = didit().request(&Ask::new(Kind::Create, &key, None, &named)).unwrap();
        prop_assert_eq!(request.body(), first.body());
    }

    #[test]
    fn a_look_up_asks_for_the_key_and_nothing_of_it_leaks_into_the_url(key in "[!-~]{1,255}") {
        let (key, payload) = (Key::new(key).unwrap(), Payload::from(CANARY));
        let request = didit().request(&Ask::new(Kind::Lookup, &key, None, &payload)).unwrap();
        prop_assert_eq!(request.method(), Method::GET);
        prop_assert!(request.body().is_empty());
        prop_assert_eq!(request.uri().authority().unwrap().as_str(), "verification.didit.me");
        prop_assert_eq!(request.uri().path(), "/v3/sessions/");
        let query = request.uri().query().unwrap();
        let value = query.strip_prefix("vendor_data=").unwrap().strip_suffix("&session_kind=all&limit=10").unwrap();
        prop_assert!(!value.contains(['&', '#', '?', '/', '+', ' ']));
        prop_assert_eq!(percent_encoding::percent_decode_str(value).decode_utf8().unwrap(), key.as_str());
    }

    #[test]
    fn a_poll_goes_to_its_session_or_nowhere(text in "[^\\p{Cc}]{1,140}") {
        let (reference, payload) = (Reference::new(text.clone()).unwrap(), Payload::default());
        let plain = text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        match didit().request(&Ask::new(Kind::Poll, &key(), Some(&reference), &payload)) {
            Ok(request) => {
                let url = format!("https://verification.didit.me/v3/session/{text}/decision/");
                prop_assert!(plain && request.uri().to_string() == url);
            }
            Err(error) => prop_assert!(!plain && error == RequestError::Unsendable("session id")),
        }
    }

    /// A look-up decides whether something is created a second time, or somebody else's session is taken for ours.
    #[test]
    fn a_look_up_adopts_only_what_bears_the_key(
        rows in prop::collection::vec((prop::bool::weighted(0.8), 0..4u64, prop::bool::weighted(0.9), "[a-f0-9]{4}|a/b"), 0..5),
        next: bool, count in prop::option::of(0..3u64),
    ) {
        let listed: Vec<Value> = rows.iter().map(|(ours, number, user, id)| json!({
            "session_id": id, "vendor_data": if *ours { "order-42" } else { "order-43" }, "session_number": number,
            "session_kind": if *user { "user" } else { "business" }, "full_name": CANARY,
        })).collect();
        let next = next.then_some("https://verification.didit.me/v3/sessions/?offset=10");
        let mut body = json!({ "next": next, "previous": null, "results": listed });
        if let Some(count) = count {
            body["count"] = count.into();
        }
        match lookup(200, &body.to_string()) {
            Ok(Reading::NotFound) => prop_assert!(rows.is_empty() && next.is_none() && count.unwrap_or(0) == 0),
            Ok(Reading::Accepted(reference)) => {
                prop_assert!(rows.iter().all(|(ours, _, user, id)| *ours && *user == rows[0].2 && id != "a/b"));
                let newest: Vec<_> = rows.iter().filter(|row| rows.iter().all(|other| other.1 <= row.1)).collect();
                prop_assert_eq!(newest.len(), 1);
                prop_assert_eq!(reference.as_str(), &newest[0].3);
            }
            other => prop_assert_eq!(other, unusable()),
        }
    }
}
