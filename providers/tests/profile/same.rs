//! The shipped files of Deepvue and Didit say what the code profiles do: the same requests, the same readings, the same
//! settings.
//!
//! Where the two differ, and why:
//!
//! - A status of Deepvue's that is no text but an object: the code looks into it, although it will not use it, so a
//!   `status` in there that is nested 128 deep, there twice or too large a number makes the answer unusable. The file
//!   skips what does not decide.
//! - The code compares at most 64 characters of Deepvue's status. The file compares all, and only shows 64.
//! - Deepvue's `{"detail":"Source Unavailable"}` may have control characters in it for the file, which ignores them
//!   wherever it ignores case, and not for the code.
//! - A reference that no path can take is refused as "session id" by Didit's code, and as "reference" by every file.
//!   Refusals of payloads have other words.
//! - `Didit::with_stop_on_review` and `Deepvue::with_plan` are lines of the file, to be changed there.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use serde_json::json;
use steadfast_core::operation::Reading;
use steadfast_core::{Key, Kind, Reference};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::didit::Didit;
use steadfast_providers::profile::ProfileProvider;
use steadfast_providers::webhook::{DiditSignatures, Scheme, Verifier};
use steadfast_providers::{Answer, Ask, BaseUrl, Payload, Provider, RequestError};

use super::{WALL, connect, deepvue, didit, key};

const KINDS: [Kind; 3] = [Kind::Create, Kind::Lookup, Kind::Poll];

const STATUSES: &[u16] = &[
    100, 200, 201, 202, 204, 299, 301, 302, 307, 400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 421, 422, 425, 429,
    500, 501, 502, 503, 504, 505, 529, 599, 600, 999,
];

/// The bodies of the code profiles' own tests, and some more.
const BODIES: &[&str] = &[
    "",
    "{}",
    "[]",
    "null",
    "NaN",
    "\"abc\"",
    "<html>OK</html>",
    "<!doctype html><title>Server Error (500)</title>",
    // Deepvue's creates.
    r#" {"code":200,"transaction_id":"abc123def456","message":"Request accepted"} "#,
    r#"{"transaction_id":"007"}"#,
    r#"{"transaction_id":"../x?y#z","timestamp":1700000000000}"#,
    r#"{"code":200,"transaction_id":"abc123"#,
    r#"{"code":200,"message":"Request accepted"}"#,
    r#"{"code":200,"transaction_id":null}"#,
    r#"{"code":200,"transaction_id":""}"#,
    r#"{"code":200,"transaction_id":"a\nb"}"#,
    r#"{"code":200,"transaction_id":" \u2003"}"#,
    r#"{"code":200,"transaction_id":123456789012345678901234567890}"#,
    r#"{"code":200,"transaction_id":12}"#,
    r#"{"code":429,"transaction_id":12}"#,
    r#"{"code":200,"transaction_id":["abc"]}"#,
    r#"{"code":"200","transaction_id":"abc"}"#,
    r#"{"code":99,"transaction_id":"abc"}"#,
    r#"{"code":1000,"transaction_id":"abc"}"#,
    r#"{"code":70000,"transaction_id":"abc"}"#,
    r#"{"code":200.0,"transaction_id":"abc"}"#,
    r#"{"code":-1,"transaction_id":"abc"}"#,
    r#"{"code":null,"transaction_id":"abc"}"#,
    r#"{"code":200,"transaction_id":"abc"} {}"#,
    r#"[200,"abc"]"#,
    r#"{"transaction_id":"a","transaction_id":"b"}"#,
    r#"{"code":200,"code":429,"transaction_id":"a"}"#,
    r#"{"code":429,"transaction_id":"a","transaction_id":"b"}"#,
    r#"{"detail":1,"detail":2,"transaction_id":"a","data":[1]}"#,
    // Its errors.
    r#"{"detail":"Source Unavailable"}"#,
    r#"{"detail":" source unavailable\n"}"#,
    r#"{"code":503,"detail":"Source Unavailable"}"#,
    r#"{"code":503,"detail":"Source Unavailable","transaction_id":"a"}"#,
    r#"{"detail":"Source Unavailable","transaction_id":1,"transaction_id":2}"#,
    r#"{"detail":"Source Unavailable","detail":"Source Unavailable"}"#,
    r#"{"detail":"Service Unavailable"}"#,
    r#"{"detail":["Source Unavailable"]}"#,
    r#"["Source Unavailable"]"#,
    r#"{"detail":"Inactive client_id"}"#,
    r#"{"detail":[{"loc":["body","dob"],"msg":"field required"}]}"#,
    r#"{"code":200,"transaction_id":"abc","data":{"x":1}}"#,
    r#"{"code":202,"transaction_id":"abc","data":{"x":1}}"#,
    r#"{"code":401,"transaction_id":"abc","data":{"x":1}}"#,
    r#"{"code":403,"transaction_id":"abc","data":{"x":1}}"#,
    r#"{"code":404,"transaction_id":"abc","data":{"x":1}}"#,
    r#"{"code":409,"transaction_id":"abc","data":{"x":1}}"#,
    r#"{"code":422,"transaction_id":"abc","data":{"x":1}}"#,
    r#"{"code":429,"transaction_id":"abc","data":{"x":1}}"#,
    r#"{"code":500,"transaction_id":"abc","data":{"x":1}}"#,
    r#"{"code":700,"transaction_id":"abc","data":{"x":1}}"#,
    // Its polls.
    r#"{"data":{},"data":{"x":1}}"#,
    r#"{"status":"pending","status":"completed"}"#,
    r#"{"data":{"status":"pending","status":"active","x":1}}"#,
    r#"{"code":200,"data":{"name":"A"}}"#,
    "\u{feff}{\"code\":200,\"data\":{\"name\":\"A\"}}",
    r#"{"code":200,"data":{"name":null}}"#,
    r#"{"code":200,"data":[1]}"#,
    r#"{"code":200,"data":"text"}"#,
    r#"{"code":200,"data":true}"#,
    r#"{"code":200,"data":1}"#,
    r#"{"code":200,"data":-1}"#,
    r#"{"code":200,"data":0.5}"#,
    r#"{"code":200,"data":{"name":"A","status":"active"}}"#,
    r#"{"code":200,"data":{"status":"id_not_found"}}"#,
    r#"{"code":200,"data":{"status":200,"message":"done"}}"#,
    r#"{"code":200,"data":{"status":200}}"#,
    r#"{"code":200,"data":{"status":0}}"#,
    r#"{"code":200,"data":{"status":{}}}"#,
    r#"{"code":200,"data":{"status":{"status":"failed"}}}"#,
    r#"{"code":200,"transaction_id":"abc","message":"in progress"}"#,
    r#"{"code":200,"data":null}"#,
    r#"{"code":200,"data":{}}"#,
    r#"{"code":200,"data": { } }"#,
    r#"{"code":200,"data":[]}"#,
    r#"{"code":200,"data":""}"#,
    r#"{"code":200,"data":"Pending"}"#,
    r#"{"code":200,"data":"in progress","status":"completed"}"#,
    r#"{"code":200,"data":"queued","status":"failed"}"#,
    r#"{"code":200,"data":"queued","status":"active"}"#,
    r#"{"code":200,"data":"queued","status":"pending","result":{"a":1}}"#,
    r#"{"code":200,"data":false}"#,
    r#"{"code":200,"data":0}"#,
    r#"{"code":200,"data":-0.0}"#,
    r#"{"code":200,"data":{"status":null}}"#,
    r#"{"data":{"status":"partial","name":"A"}}"#,
    r#"{"status":"partial","data":{"name":"A"}}"#,
    r#"{"status":"in_progress","data":{"name":"A"}}"#,
    r#"{"status":"in_progress","data":{"status":"active"}}"#,
    r#"{"status":"in_progress","data":{"status":null}}"#,
    r#"{"data":{"status":"Processing","name":"A"}}"#,
    r#"{"data":{"status":"processing"}}"#,
    r#"{"data":{"status":"in-progress"}}"#,
    r#"{"data":{"status":"In Progress","name":null}}"#,
    r#"{"status":"InProgress"}"#,
    r#"{"status":"QUEUED","data":{"x":1}}"#,
    r#"{"result":{"status":"running"}}"#,
    r#"{"result":{"status":"initiated","x":1}}"#,
    r#"{"status":"pending"}"#,
    r#"{"status":"PENDING","data":{}}"#,
    r#"{"status":"completed","data":{"status":"partial","name":"A"}}"#,
    r#"{"status":"failed","message":"registry error"}"#,
    r#"{"data":{"status":"failed"}}"#,
    r#"{"status":"hibernating","data":{"x":1}}"#,
    r#"{"status":" Re\u0000view\u001b "}"#,
    r#"{"status":"pen\u0000ding"}"#,
    r#"{"status":"","data":{"x":1}}"#,
    r#"{"status":"\u0000 ","data":{"x":1}}"#,
    r#"{"status":7,"data":{"x":1}}"#,
    r#"{"request_id":"r","task_id":"t","status":"completed","result":{"source_output":{"status":"id_not_found"}}}"#,
    r#"{"request_id":"r","status":"completed"}"#,
    r#"{"request_id":"r","result":{"source_output":{}}}"#,
    r#"{"status":"in_progress","result":{"name":"A"}}"#,
    r#"{"data":{},"result":{"status":"partial","name":"A"}}"#,
    r#"{"data":{"x":1},"result":{"status":"failed"}}"#,
    r#"{"request_id":"r","status":"in_progress","result":null}"#,
    r#"[200,"completed",{"x":1}]"#,
    r#"{"data":{"x":1}"#,
    r#"{"data":{"x":NaN}}"#,
    r#"{"data":1}}"#,
    // Didit's creates.
    r#"{"session_id":"5b3720ed-d429-42ef-b67f-37ea805f48ee","vendor_data":"order-42","status":"Not Started"}"#,
    r#"{"session_id":"s-1","status":"In Progress","vendor_data":null}"#,
    r#"{"session_id":"abc"#,
    r#"{"session_id":null}"#,
    r#"{"session_id":""}"#,
    r#"{"session_id":12}"#,
    r#"{"session_id":["abc"]}"#,
    r#"{"session_id":"a/../b"}"#,
    r#"{"session_id":"a b"}"#,
    r#"{"session_id":"a%2fb"}"#,
    r#"{"session_id":"a\nb"}"#,
    r#"{"session_id":"é"}"#,
    r#"{"session_id":"a","session_id":"b"}"#,
    r#"{"session_id":"a","vendor_data":"order-42","vendor_data":"order-43"}"#,
    r#"{"session_id":"a","vendor_data":"order-43"}"#,
    r#"{"session_id":"a","vendor_data":42}"#,
    r#"{"session_id":"a"} {}"#,
    r#"["abc"]"#,
    // Its polls.
    r#"{"status":"Not Started"}"#,
    r#"{"status":"In Progress"}"#,
    r#"{"status":"Resubmitted"}"#,
    r#"{"status":"Awaiting User"}"#,
    r#"{"status":"In Review"}"#,
    r#"{"status":"Approved"}"#,
    r#"{"status":"Declined"}"#,
    r#"{"status":"Kyc Expired"}"#,
    r#"{"status":"Abandoned"}"#,
    r#"{"status":"Expired"}"#,
    r#"{"status":"APPROVED"}"#,
    r#"{"status":" Approved"}"#,
    r#"{"status":"Approved\u0000"}"#,
    r#"{"status":"in_review"}"#,
    r#"{"status":null}"#,
    r#"{"status":"\u0007"}"#,
    r#"{"status":200}"#,
    r#"{"status":{"status":"Approved"}}"#,
    r#"{"status":"Approved","status":"Declined"}"#,
    r#"{"status":"Approved"}}"#,
    // Its look-ups.
    r#"{"results":[]}"#,
    r#"{"count":0,"next":null,"results":[]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":"order-42"}]}"#,
    r#"{"count":3,"next":null,"results":[{"session_id":"s-3","vendor_data":"order-42","session_number":3,"session_kind":"user"},
        {"session_id":"s-2","vendor_data":"order-42","session_number":2,"session_kind":"user"},
        {"session_id":"s-4","vendor_data":"order-42","session_number":4,"session_kind":"user"}]}"#,
    r#"{"next":"https://x/?offset=10","results":[{"session_id":"s-1","vendor_data":"order-42","session_number":9},{"session_id":"s-2","vendor_data":"order-42","session_number":10}]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":"order-43","session_number":1}]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":"order-42"},{"session_id":"s-2","vendor_data":"order-43"}]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":"ORDER-42"}]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":null}]}"#,
    r#"{"results":[{"session_id":"s-1"}]}"#,
    r#"{"results":[{"vendor_data":"order-42"}]}"#,
    r#"{"results":[{"session_id":null,"vendor_data":"order-42"}]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":"order-42","session_number":1,"session_kind":"user"},{"session_id":"b-1","vendor_data":"order-42","session_number":2,"session_kind":"business"}]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":"order-42"},{"session_id":"s-2","vendor_data":"order-42"}]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":"order-42","session_number":1},{"session_id":"s-2","vendor_data":"order-42","session_number":1}]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":"order-42","session_number":-1}]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":"order-42","session_number":1.5}]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":"order-42","session_kind":1}]}"#,
    r#"{"results":[{"session_id":"../s","vendor_data":"order-42","session_number":1}]}"#,
    r#"{"count":1,"next":null,"results":[]}"#,
    r#"{"count":"0","results":[]}"#,
    r#"{"count":0,"next":"https://x/?offset=10","results":[]}"#,
    r#"{"results":{}}"#,
    r#"{"count":0,"results":null}"#,
    r#"{"count":0}"#,
    r#"{"results":[["s-1","order-42",1,"user"]]}"#,
    r#"{"results":[null]}"#,
    r#"{"results":[],"results":[{"session_id":"s-1","vendor_data":"order-42"}]}"#,
    r#"{"count":0,"count":1,"results":[]}"#,
    r#"{"results":[{"session_id":"s-1","session_id":"s-2","vendor_data":"order-42"}]}"#,
    r#"{"results":[{"session_id":"s-1","vendor_data":"order-43","vendor_data":"order-42"}]}"#,
];

fn coded_deepvue() -> Deepvue {
    let credentials = Credentials::new("canary-DEEPVUE_ACCESS_TOKEN", "canary-DEEPVUE_CLIENT_SECRET").unwrap();
    Deepvue::new(BaseUrl::parse(Deepvue::PRODUCTION).unwrap(), "driving-license", credentials).unwrap()
}

fn coded_didit() -> Didit {
    let didit = Didit::new(BaseUrl::parse(Didit::PRODUCTION).unwrap(), "canary-DIDIT_API_KEY").unwrap();
    didit.with_webhooks(["canary-DIDIT_WEBHOOK_SECRET", "canary-DIDIT_WEBHOOK_SECRET_OLD"]).unwrap()
}

type Pair = (ProfileProvider, Box<dyn Provider>);

/// Of each provider what the file says, and what the code does.
fn pairs() -> &'static [Pair; 2] {
    static PAIRS: LazyLock<[Pair; 2]> = LazyLock::new(|| {
        [(connect(&deepvue()), Box::new(coded_deepvue())), (connect(&didit()), Box::new(coded_didit()))]
    });
    &PAIRS
}

fn header_sets() -> Vec<HeaderMap> {
    let set = |headers: &[(&'static str, &'static str)]| {
        HeaderMap::from_iter(
            headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))),
        )
    };
    vec![
        HeaderMap::new(),
        set(&[("retry-after", "7")]),
        set(&[("x-ratelimit-limit", "300"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000042")]),
        set(&[("x-ratelimit-reset", "42"), ("retry-after", "soon")]),
    ]
}

/// The same reading, or the same failure; and the same quota.
fn assert_same(file: &ProfileProvider, code: &dyn Provider, answer: &Answer<'_>) {
    let body = String::from_utf8_lossy(answer.body);
    assert_eq!(file.read(answer), code.read(answer), "{} {:?} {} {body}", code.name(), answer.kind, answer.status);
    assert_eq!(file.quota(answer), code.quota(answer), "{} {:?} {}", code.name(), answer.kind, answer.status);
    if answer.kind != Kind::Lookup {
        assert_eq!(file.is_unauthorized(answer), code.is_unauthorized(answer), "{} {body}", code.name());
    }
}

#[test]
fn every_answer_of_the_tables_is_read_alike() {
    let (key, asked) = (key(), Reference::new("abc").unwrap());
    let mut read = 0;
    for (file, code) in pairs() {
        for headers in &header_sets() {
            for (kind, status) in KINDS.iter().flat_map(|kind| STATUSES.iter().map(|status| (*kind, *status))) {
                let status = StatusCode::from_u16(status).unwrap();
                // What headers say does not depend on bodies: a few will do.
                for body in BODIES.iter().step_by(if headers.is_empty() { 1 } else { 17 }) {
                    let answer = Answer::new(kind, status, headers, body.as_bytes(), WALL);
                    assert_same(file, code.as_ref(), &answer);
                    assert_same(file, code.as_ref(), &answer.about(&key));
                    assert_same(file, code.as_ref(), &answer.asked_by(&asked));
                    read += 3;
                }
            }
        }
    }
    println!("{read} answers read by file and by code");
}

/// The same bytes, or the same refusal.
fn assert_same_request(file: &dyn Provider, code: &dyn Provider, ask: &Ask<'_>) {
    match (file.request(ask), code.request(ask)) {
        (Ok(file), Ok(code)) => {
            let sorted = |headers: &HeaderMap| {
                let mut all: Vec<_> = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                all.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
                all
            };
            assert_eq!((file.method(), file.uri()), (code.method(), code.uri()));
            assert_eq!(sorted(file.headers()), sorted(code.headers()));
            assert_eq!(file.body(), code.body());
        }
        (Err(RequestError::Payload(_)), Err(RequestError::Payload(_)))
        | (Err(RequestError::Unsendable("reference")), Err(RequestError::Unsendable("session id"))) => {}
        (file, code) => assert_eq!(file.map(drop), code.map(drop)),
    }
}

const PAYLOADS: &[&str] = &[
    "",
    "[]",
    "null",
    "{}",
    "{ }",
    " { } ",
    "\"canary\"",
    "{\"a\":1",
    "{\"a\":1} {}",
    "[\"order-42\"]",
    r#"{"dl_number":"DL1"}"#,
    r#" { "workflow_id":"w", "n":12345678901234567890123, "x":1.50 }"#,
    r#"{"vendor_data":"order-42"}"#,
    r#" {"a":{"vendor_data":1},"vendor_data":"order\u002d42"} "#,
    r#"{"vendor_data":"canary-other"}"#,
    r#"{"vendor_data":"order-42 "}"#,
    r#"{"vendor_data":null}"#,
    r#"{"vendor_data":42}"#,
    r#"{"vendor_data":"order-42","vendor_data":"order-42"}"#,
    r#"{"vendor_data":"order-42","vendor\u005fdata":"canary"}"#,
];

#[test]
fn every_request_is_the_same_bytes() {
    let key = key();
    for (file, code) in pairs() {
        for payload in
            PAYLOADS.iter().map(|payload| Payload::from(*payload)).chain([Payload::from(&b"{\"a\":\"\xff\"}"[..])])
        {
            for reference in [None, Some("abc123def456"), Some("../x?y#z"), Some("é"), Some("a b")] {
                let reference = reference.map(|text| Reference::new(text).unwrap());
                for kind in KINDS {
                    assert_same_request(file, code.as_ref(), &Ask::new(kind, &key, reference.as_ref(), &payload));
                }
            }
        }
    }
}

#[test]
fn every_setting_is_the_same() {
    for (file, code) in pairs() {
        assert_eq!(file.name(), code.name());
        assert_eq!(file.policy(), code.policy(), "{}", file.name());
        assert_eq!(file.gate(), code.gate(), "{}", file.name());
        assert_eq!(file.has_webhooks(), code.has_webhooks());
    }
}

#[test]
fn every_delivery_tells_the_same() {
    let [_, (file, code)] = pairs();
    for body in [
        r#"{"event_id":"e-1","webhook_type":"status.updated","timestamp":1700000000,"session_id":"5b37-20ed","status":"Approved","vendor_data":"order-42"}"#,
        r#"{"timestamp":1700000000,"business_session_id":"c-1","session_kind":"business"}"#,
        r#"{"timestamp":1700000000}"#,
        r#"{"timestamp":1700000000,"session_id":"../../admin"}"#,
        r#"{"timestamp":1700000000,"session_id":"a","session_id":"b"}"#,
        r#"{"timestamp":1700000000,"session_id":7,"vendor_data":"order-42"}"#,
        r#"{"timestamp":1700000000,"session_id":null,"business_session_id":"c-1","vendor_data":null}"#,
        r#"{"timestamp":1700000000,"session_id":"a","business_session_id":7}"#,
        r#"{"timestamp":1700000000,"session_id":"","vendor_data":"with space"}"#,
        "[1700000000]",
        "",
    ] {
        let body = Bytes::from_static(body.as_bytes());
        for secret in ["canary-DIDIT_WEBHOOK_SECRET", "canary-DIDIT_WEBHOOK_SECRET_OLD", "another"] {
            let headers = Verifier::new(Scheme::Didit(DiditSignatures::default()), [secret])
                .unwrap()
                .sign("", WALL, &body)
                .unwrap();
            assert_eq!(file.webhook(&headers, &body, WALL), code.webhook(&headers, &body, WALL), "{body:?}");
        }
    }
}

/// JSON made of what the answers of both are made of, and of what they should not be.
fn body() -> impl Strategy<Value = String> {
    let scalars = vec![
        "null",
        "true",
        "false",
        "0",
        "7",
        "200",
        "202",
        "401",
        "404",
        "429",
        "503",
        "99999",
        "-1",
        "0.0",
        "1e400",
        "\"\"",
        "\"abc\"",
        "\"order-42\"",
        "\"order-43\"",
        "\"pending\"",
        "\"completed\"",
        "\"failed\"",
        "\"partial\"",
        "\"active\"",
        "\"Source Unavailable\"",
        "\"In Review\"",
        "\"Approved\"",
        "\"user\"",
        "\"a/../b\"",
        "\"\\u0000\"",
        "123456789012345678901234567890",
        "[]",
        "{}",
    ];
    let names = vec![
        "code",
        "transaction_id",
        "data",
        "status",
        "result",
        "detail",
        "x",
        "session_id",
        "vendor_data",
        "count",
        "next",
        "results",
        "session_number",
        "session_kind",
    ];
    let json = prop::sample::select(scalars)
        .prop_map(str::to_owned)
        .prop_recursive(3, 24, 6, move |inner| {
            let member = (prop::sample::select(names.clone()), inner.clone());
            prop_oneof![
                4 => prop::collection::vec(member, 0..6).prop_map(|members| {
                    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
                1 => prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            ]
        })
        .boxed();
    prop_oneof![
        6 => json.clone(),
        1 => (json, 0..60usize).prop_map(|(text, cut)| text.chars().take(cut).collect()),
        1 => ".{0,60}",
    ]
    .boxed()
}

/// Lists of sessions, mostly good.
fn list() -> impl Strategy<Value = String> {
    let row = (prop::bool::weighted(0.8), 0..4u64, prop::bool::weighted(0.9), "[a-f0-9]{4}|a/b");
    (prop::collection::vec(row, 0..5), any::<bool>(), prop::option::of(0..3u64))
        .prop_map(|(rows, next, count)| {
            let rows: Vec<_> = rows
                .iter()
                .map(|(ours, number, user, id)| {
                    json!({ "session_id": id, "vendor_data": if *ours { "order-42" } else { "order-43" },
                        "session_number": number, "session_kind": if *user { "user" } else { "business" } })
                })
                .collect();
            json!({ "count": count, "next": next.then_some("more"), "results": rows }).to_string()
        })
        .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_answer_is_read_otherwise_than_by_the_code(
        kind in prop::sample::select(&KINDS[..]), status in prop_oneof![4 => Just(200u16), 1 => 100..=999u16],
        body in prop_oneof![4 => body(), 1 => list()], hint in prop::option::of("[ -~]{0,30}"), told: bool,
    ) {
        let (key, mut headers) = (key(), HeaderMap::new());
        if let Some(hint) = hint {
            headers.insert(RETRY_AFTER, HeaderValue::from_str(&hint).unwrap());
            headers.insert("x-ratelimit-reset", HeaderValue::from_str(&hint).unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let mut answer = Answer::new(kind, status, &headers, body.as_bytes(), WALL);
        let asked = Reference::new("abc").unwrap();
        if told {
            answer = answer.about(&key).asked_by(&asked);
        }
        let [deepvue, didit] = pairs();
        assert_same(&didit.0, didit.1.as_ref(), &answer);
        // The first difference at the top.
        if !body.contains("\"status\":{") {
            assert_same(&deepvue.0, deepvue.1.as_ref(), &answer);
        }
    }

    #[test]
    fn no_request_is_other_than_the_codes(
        kind in prop::sample::select(&KINDS[..]), key in "[!-~]{1,255}", reference in prop::option::of("[^\\p{Cc}]{1,60}|[A-Za-z0-9_-]{1,140}"),
        payload in prop_oneof![body(), ".{0,40}"],
    ) {
        let (key, payload) = (Key::new(key).unwrap(), Payload::from(payload));
        let reference = reference.map(|text| Reference::new(text).unwrap());
        for (file, code) in pairs() {
            assert_same_request(file, code.as_ref(), &Ask::new(kind, &key, reference.as_ref(), &payload));
        }
    }
}

/// The one place where file and code are known to differ in a reading (see the top): neither panics, and neither takes
/// it for an end.
#[test]
fn depth_is_no_attack() {
    let nested = |open: &str, inner: &str, close: &str| open.repeat(200_000) + inner + &close.repeat(200_000);
    let (arrays, statuses) = (nested("[", "", "]"), nested(r#"{"status":"#, "1", "}"));
    for (file, code) in pairs() {
        for body in [&arrays, &format!(r#"{{"data":{arrays}"#), &format!(r#"{{"x":{arrays},"data":{{"x":{arrays}}}}}"#)]
        {
            let headers = HeaderMap::new();
            for kind in KINDS {
                assert_same(file, code.as_ref(), &Answer::new(kind, StatusCode::OK, &headers, body.as_bytes(), WALL));
            }
        }
    }
    assert!(super::read(&didit(), Kind::Poll, 200, &statuses).is_err());
    assert_eq!(super::read(&deepvue(), Kind::Poll, 200, &statuses), Ok(Reading::Pending { hint: None }));
}
