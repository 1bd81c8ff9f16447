//! Deepvue's profile: what is sent, and what an answer may and may not be taken for.

use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;
use serde_json::Value;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Kind, Reference, Seed, SendSafety, Timestamp};
use steadfast_providers::deepvue::{Credentials, Deepvue, SetupError};
use steadfast_providers::{Answer, Ask, BaseUrl, Payload, Provider, RequestError, SecretError};

const WALL: Timestamp = Timestamp::from_secs(1_700_000_000);
const TOKEN: &str = "canary-token-7731";
const SECRET: &str = "canary-secret-4402";

fn credentials() -> Credentials {
    Credentials::new(TOKEN, SECRET).unwrap()
}

fn deepvue() -> Deepvue {
    Deepvue::new(BaseUrl::parse(Deepvue::PRODUCTION).unwrap(), "driving-license", credentials()).unwrap()
}

fn read(kind: Kind, status: u16, body: &str) -> Result<Reading, Failure> {
    let headers = HeaderMap::new();
    deepvue().read(&Answer::new(kind, StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), WALL))
}

fn create(status: u16, body: &str) -> Result<Reading, Failure> {
    read(Kind::Create, status, body)
}

fn poll(status: u16, body: &str) -> Result<Reading, Failure> {
    read(Kind::Poll, status, body)
}

fn pending() -> Result<Reading, Failure> {
    Ok(Reading::Pending { hint: None })
}

fn unknown_outcome() -> Result<Reading, Failure> {
    Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted))
}

/// JSON made of what Deepvue's answers are made of, and of what they should not be.
fn body() -> impl Strategy<Value = String> {
    let scalar = prop::sample::select(vec![
        "null",
        "true",
        "0",
        "200",
        "202",
        "401",
        "404",
        "429",
        "503",
        "99999",
        "-1",
        "1e400",
        "\"\"",
        "\"abc\"",
        "\"pending\"",
        "\"completed\"",
        "\"failed\"",
        "\"partial\"",
        "\"Source Unavailable\"",
        "\"\\u0000\"",
        "123456789012345678901234567890",
    ])
    .prop_map(str::to_owned);
    let name =
        prop::sample::select(vec!["code", "transaction_id", "data", "status", "result", "detail", "message", "x"]);
    let json = scalar.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec((name.clone(), inner.clone()), 0..6).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
            prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))),
        ]
    });
    prop_oneof![
        4 => json.clone(),
        1 => (json, 0..60usize).prop_map(|(text, cut)| text.chars().take(cut).collect()),
        1 => ".{0,60}",
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Create, Kind::Lookup, Kind::Poll])
}

proptest! {
    #[test]
    fn no_answer_panics_and_only_a_2xx_is_good_news(
        kind in kind(), status in prop_oneof![Just(200u16), 100..=999u16], body in body(), hint in "[ -~]{0,30}", wall: u64,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(&hint).unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        let wall = Timestamp::from_nanos(wall);
        let read = deepvue().read(&Answer::new(kind, status, &headers, body.as_bytes(), wall));
        match (kind, &read) {
            (_, Ok(Reading::Accepted(_))) => prop_assert!(kind == Kind::Create && status.is_success()),
            (_, Ok(Reading::NotFound)) => prop_assert!(kind == Kind::Poll),
            (_, Ok(_)) => prop_assert!(kind == Kind::Poll && status.is_success()),
            (Kind::Create, Err(failure)) => prop_assert_ne!(failure.certainty, Certainty::Executed),
            (_, Err(failure)) => prop_assert_eq!(failure.certainty, Certainty::NotExecuted),
        }
    }

    #[test]
    fn no_bytes_panic(kind in kind(), status in 100..=999u16, body: Vec<u8>) {
        let headers = HeaderMap::new();
        let status = StatusCode::from_u16(status).unwrap();
        let read = deepvue().read(&Answer::new(kind, status, &headers, &body, WALL));
        prop_assert!(!matches!(read, Ok(Reading::Accepted(_) | Reading::Ready)));
    }

    #[test]
    fn every_create_of_one_key_is_the_same_request(key in "[!-~]{1,255}", payload: Vec<u8>) {
        let (deepvue, key, payload) = (deepvue(), Key::new(key).unwrap(), Payload::from(payload));
        let reference = Reference::new("learned-since").unwrap();
        let first = deepvue.request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
        let again = deepvue.request(&Ask::new(Kind::Create, &key, Some(&reference), &payload)).unwrap();
        prop_assert_eq!((first.method(), first.uri()), (again.method(), again.uri()));
        prop_assert_eq!(first.headers().iter().collect::<Vec<_>>(), again.headers().iter().collect::<Vec<_>>());
        prop_assert_eq!((first.body(), first.body()), (again.body(), payload.bytes()));
        prop_assert_eq!(first.headers()["idempotency-key"].to_str().unwrap(), key.as_str());
    }

    #[test]
    fn no_reference_changes_where_a_poll_goes(text in "[^\\p{Cc}]{1,120}") {
        let reference = Reference::new(text.clone()).unwrap();
        let (key, payload) = (Key::new("k").unwrap(), Payload::default());
        let request = deepvue().request(&Ask::new(Kind::Poll, &key, Some(&reference), &payload)).unwrap();
        prop_assert_eq!(request.uri().authority().unwrap().as_str(), "production.deepvue.tech");
        prop_assert_eq!(request.uri().path(), "/v1/verification/get-driving-license");
        let value = request.uri().query().unwrap().strip_prefix("transaction_id=").unwrap();
        prop_assert!(!value.contains(['&', '#', '?', '/']));
        prop_assert_eq!(percent_encoding::percent_decode_str(value).decode_utf8().unwrap(), text);
    }

    #[test]
    fn an_unknown_status_is_kept_short_and_plain(text in ".{1,200}") {
        let body = serde_json::json!({ "status": text, "data": { "x": 1 } }).to_string();
        if let Ok(Reading::Unknown(kept)) = poll(200, &body) {
            prop_assert!(kept.chars().count() <= 64);
            prop_assert!(!kept.chars().any(char::is_control));
        }
    }

    #[test]
    fn a_secret_that_would_split_a_header_is_refused(head in "[!-~]{0,20}", bad in "[^!-~]", tail in ".{0,20}") {
        let hostile = format!("{head}{bad}{tail}");
        let at = head.len();
        let refused = |which| SetupError::Secret(SecretError::Character { which, at });
        prop_assert_eq!(Credentials::new(hostile.as_str(), SECRET).unwrap_err(), refused("access token"));
        prop_assert_eq!(Credentials::new(TOKEN, hostile.as_str()).unwrap_err(), refused("client secret"));
        prop_assert_eq!(credentials().renew(hostile.as_str()).unwrap_err(), refused("access token"));
    }
}

#[test]
fn a_create_as_the_guide_has_it() {
    let (key, payload) = (Key::new("order-42").unwrap(), Payload::from(r#"{"dl_number":"DL1"}"#));
    let request = deepvue().request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri(), "https://production.deepvue.tech/v1/verification/post-driving-license");
    assert_eq!(request.headers().len(), 4);
    assert_eq!(request.headers()[AUTHORIZATION], format!("Bearer {TOKEN}"));
    assert_eq!(request.headers()["x-api-key"], SECRET);
    assert_eq!(request.headers()[CONTENT_TYPE], "application/json");
    assert_eq!(request.headers()["idempotency-key"], "order-42");
    assert_eq!(request.body(), payload.bytes());
}

#[test]
fn a_poll_as_the_guide_has_it() {
    let (key, payload) = (Key::new("order-42").unwrap(), Payload::from("personal data"));
    let reference = Reference::new("abc123def456").unwrap();
    let request = deepvue().request(&Ask::new(Kind::Poll, &key, Some(&reference), &payload)).unwrap();
    assert_eq!(request.method(), Method::GET);
    let url = "https://production.deepvue.tech/v1/verification/get-driving-license?transaction_id=abc123def456";
    assert_eq!(request.uri(), url);
    assert_eq!(request.headers().len(), 2);
    assert_eq!(request.headers()[AUTHORIZATION], format!("Bearer {TOKEN}"));
    assert_eq!(request.headers()["x-api-key"], SECRET);
    assert!(request.body().is_empty());
}

#[test]
fn what_it_cannot_ask() {
    let (key, payload) = (Key::new("order-42").unwrap(), Payload::default());
    let ask = |kind| deepvue().request(&Ask::new(kind, &key, None, &payload)).unwrap_err();
    assert_eq!(ask(Kind::Lookup), RequestError::Unsupported(Kind::Lookup));
    assert_eq!(ask(Kind::Poll), RequestError::NoReference);
    let lookup = SendSafety::Lookup { settle: Duration::from_secs(1) };
    assert_eq!(deepvue().with_safety(lookup).unwrap_err(), SetupError::NoLookup);
}

#[test]
fn a_renewed_token_reaches_all_clones() {
    let kept = credentials();
    let deepvue = Deepvue::new(BaseUrl::parse(Deepvue::PRODUCTION).unwrap(), "pan", kept.clone()).unwrap();
    kept.renew("tomorrow").unwrap();
    let (key, payload) = (Key::new("k").unwrap(), Payload::default());
    let request = deepvue.request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
    assert_eq!(request.headers()[AUTHORIZATION], "Bearer tomorrow");

    kept.renew("bro\r\nken").unwrap_err();
    let request = deepvue.request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
    assert_eq!(request.headers()[AUTHORIZATION], "Bearer tomorrow");
}

#[test]
fn no_secret_or_personal_data_is_shown() {
    let (key, payload) = (Key::new("canary-key-9918").unwrap(), Payload::from("canary-payload-1183"));
    let reference = Reference::new("canary-reference-2204").unwrap();
    let ask = Ask::new(Kind::Create, &key, Some(&reference), &payload);
    let request = deepvue().request(&ask).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("canary-header-6650"))]);
    let answer = Answer::new(Kind::Poll, StatusCode::OK, &headers, b"canary-body-3317", WALL);
    let shown = [
        format!("{:?}", deepvue()),
        format!("{:#?}", credentials()),
        format!("{ask:?}"),
        format!("{answer:?}"),
        format!("{:?}", request.headers()[AUTHORIZATION]),
        format!("{:?}", request.headers()["x-api-key"]),
        format!("{0} {0:?}", Credentials::new("canary\n", SECRET).unwrap_err()),
        format!("{0} {0:?}", Credentials::new(TOKEN, "canary\r").unwrap_err()),
        format!("{0} {0:?}", Deepvue::new(BaseUrl::parse("https://x").unwrap(), "canary/", credentials()).unwrap_err()),
    ];
    for text in &shown {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn products_are_one_plain_path_segment() {
    let new = |product: &str| Deepvue::new(BaseUrl::parse("https://x").unwrap(), product, credentials());
    for good in ["driving-license", "pan", "a", "E_pan2", &"x".repeat(64)] {
        assert!(new(good).is_ok(), "{good}");
    }
    for bad in ["", "..", "a/b", "a?b", "a#b", "a b", "a%2fb", "é", "a\r\nb", &"x".repeat(65)] {
        assert_eq!(new(bad).unwrap_err(), SetupError::Product, "{bad}");
    }
}

#[test]
fn empty_secrets_are_refused() {
    assert_eq!(Credentials::new("", SECRET).unwrap_err(), SetupError::Secret(SecretError::Empty("access token")));
    assert_eq!(Credentials::new(TOKEN, "").unwrap_err(), SetupError::Secret(SecretError::Empty("client secret")));
}

#[test]
fn the_policy_is_the_guides_and_repeats_no_ambiguous_create() {
    let policy = deepvue().policy();
    assert_eq!(policy.safety(), SendSafety::Unsafe);
    let poll = policy.poll();
    let waits: Vec<u64> = (0..10).map(|polls| poll.wait(polls, None, Seed::new(7)).as_secs()).collect();
    assert_eq!(waits, [3, 6, 12, 24, 30, 30, 30, 30, 30, 30]);
    assert_eq!((poll.polls(), poll.deadline()), (10, Duration::from_secs(180)));
    assert!(!poll.accepts_partial());

    let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
    let policy = deepvue().with_safety(keyed).unwrap().policy();
    assert_eq!((policy.safety(), policy.poll().polls()), (keyed, 10));
    let short = SendSafety::Keyed { window: Duration::from_secs(1) };
    assert!(matches!(deepvue().with_safety(short), Err(SetupError::Policy(_))));
}

#[test]
fn a_create_is_accepted_only_with_a_usable_reference() {
    let accepted = |id: &str| Ok(Reading::Accepted(Reference::new(id).unwrap()));
    for status in [200, 201, 202] {
        let body = r#" {"code":200,"transaction_id":"abc123def456","message":"Request accepted"} "#;
        assert_eq!(create(status, body), accepted("abc123def456"), "{status}");
    }
    assert_eq!(create(200, r#"{"transaction_id":"007"}"#), accepted("007"));
    assert_eq!(create(200, r#"{"transaction_id":"../x?y#z","timestamp":1700000000000}"#), accepted("../x?y#z"));

    for body in [
        "",
        "{}",
        "<html>OK</html>",
        r#"{"code":200,"transaction_id":"abc123"#,
        r#"{"code":200,"message":"Request accepted"}"#,
        r#"{"code":200,"transaction_id":null}"#,
        r#"{"code":200,"transaction_id":""}"#,
        r#"{"code":200,"transaction_id":"a\nb"}"#,
        r#"{"code":200,"transaction_id":123456789012345678901234567890}"#,
        r#"{"code":200,"transaction_id":12}"#,
        r#"{"code":200,"transaction_id":["abc"]}"#,
        r#"{"code":"200","transaction_id":"abc"}"#,
        r#"{"code":99,"transaction_id":"abc"}"#,
        r#"{"code":70000,"transaction_id":"abc"}"#,
        r#"{"code":200,"transaction_id":"abc"} {}"#,
        r#"[200,"abc"]"#,
        r#""abc""#,
        "null",
        "NaN",
    ] {
        assert_eq!(create(200, body), unknown_outcome(), "{body}");
    }
    assert_eq!(create(204, ""), unknown_outcome());
    let long = format!(r#"{{"transaction_id":"{}"}}"#, "x".repeat(4_097));
    assert_eq!(create(200, &long), unknown_outcome());
}

/// Which of two counts is a guess, and `serde_json::Value` would guess the last.
#[test]
fn a_member_twice_makes_an_answer_unusable() {
    assert_eq!(create(200, r#"{"transaction_id":"a","transaction_id":"b"}"#), unknown_outcome());
    assert_eq!(create(200, r#"{"code":200,"code":429,"transaction_id":"a"}"#), unknown_outcome());
    let unusable = Err(Failure::new(Class::Transient, Certainty::NotExecuted));
    assert_eq!(poll(200, r#"{"data":{},"data":{"x":1}}"#), unusable);
    assert_eq!(poll(200, r#"{"status":"pending","status":"completed"}"#), unusable);
    assert_eq!(poll(200, r#"{"data":{"status":"pending","status":"active","x":1}}"#), unusable);
}

#[test]
fn refusals_of_a_create() {
    let refused = Err(Failure::new(Class::Permanent, Certainty::NotExecuted));
    for (status, body) in [
        (400, r#"{"detail":"Inactive client_id"}"#),
        (401, r#"{"detail":"Invalid token"}"#),
        (403, ""),
        (404, r#"{"detail":"Not Found"}"#),
        (422, r#"{"detail":[{"loc":["body","dob"],"msg":"field required"}]}"#),
        (307, ""),
    ] {
        assert_eq!(create(status, body), refused, "{status}");
    }
    assert_eq!(
        create(429, r#"{"detail":"Rate limit exceeded. Please retry after some time."}"#),
        Err(Failure::new(Class::Throttled, Certainty::NotExecuted))
    );
}

#[test]
fn an_unavailable_source_ran_nothing_but_another_503_may_have() {
    let not_run = Err(Failure::new(Class::Transient, Certainty::NotExecuted));
    assert_eq!(create(503, r#"{"detail":"Source Unavailable"}"#), not_run);
    assert_eq!(create(200, r#"{"code":503,"detail":"Source Unavailable"}"#), not_run);
    for body in [
        "",
        "<html>",
        r#"{"detail":"Service Unavailable"}"#,
        r#"{"detail":["Source Unavailable"]}"#,
        r#"["Source Unavailable"]"#,
    ] {
        assert_eq!(create(503, body), unknown_outcome(), "{body}");
    }
    for status in [500, 502, 504] {
        assert_eq!(create(status, r#"{"detail":"Source Unavailable"}"#), unknown_outcome(), "{status}");
    }
}

#[test]
fn a_code_in_the_body_that_contradicts_a_200_wins() {
    let with = |code: u16| format!(r#"{{"code":{code},"transaction_id":"abc","data":{{"x":1}}}}"#);
    assert_eq!(create(200, &with(429)), Err(Failure::new(Class::Throttled, Certainty::NotExecuted)));
    assert_eq!(create(200, &with(422)), Err(Failure::new(Class::Permanent, Certainty::NotExecuted)));
    assert_eq!(create(200, &with(500)), unknown_outcome());
    assert_eq!(create(200, &with(202)), Ok(Reading::Accepted(Reference::new("abc").unwrap())));

    assert_eq!(poll(200, &with(200)), Ok(Reading::Ready));
    assert_eq!(poll(200, &with(202)), pending());
    assert_eq!(poll(200, &with(404)), Ok(Reading::NotFound));
    for (code, class) in
        [(401, Class::Unauthorized), (403, Class::Permanent), (429, Class::Throttled), (500, Class::Transient)]
    {
        assert_eq!(poll(200, &with(code)), Err(Failure::new(class, Certainty::NotExecuted)), "{code}");
    }
    // It contradicts good news only: an error stays one.
    assert_eq!(create(500, &with(200)), unknown_outcome());
    assert_eq!(poll(202, &with(200)), pending());
}

#[test]
fn what_a_poll_finds() {
    let unknown = |text: &str| Ok(Reading::Unknown(text.into()));
    for (body, reading) in [
        // The guide's shape.
        (r#"{"code":200,"data":{"name":"A"}}"#, Ok(Reading::Ready)),
        (r#"{"code":200,"data":[1]}"#, Ok(Reading::Ready)),
        (r#"{"code":200,"data":"text"}"#, Ok(Reading::Ready)),
        (r#"{"code":200,"data":true}"#, Ok(Reading::Ready)),
        (r#"{"code":200,"data":1}"#, Ok(Reading::Ready)),
        (r#"{"code":200,"data":-1}"#, Ok(Reading::Ready)),
        (r#"{"code":200,"data":0.5}"#, Ok(Reading::Ready)),
        (r#"{"code":200,"data":{"name":"A","status":"active"}}"#, Ok(Reading::Ready)),
        (r#"{"code":200,"data":{"status":"id_not_found"}}"#, Ok(Reading::Ready)),
        (r#"{"code":200,"data":{"status":200,"message":"done"}}"#, Ok(Reading::Ready)),
        (r#"{"code":200,"transaction_id":"abc","message":"in progress"}"#, pending()),
        (r#"{"code":200,"data":null}"#, pending()),
        (r#"{"code":200,"data":{}}"#, pending()),
        (r#"{"code":200,"data": { } }"#, pending()),
        (r#"{"code":200,"data":[]}"#, pending()),
        (r#"{"code":200,"data":""}"#, pending()),
        (r#"{"code":200,"data":"Pending"}"#, pending()),
        (r#"{"code":200,"status":"in_progress","data":" queued "}"#, pending()),
        (r#"{"code":200,"data":"processing","result":{"a":1}}"#, pending()),
        (r#"{"code":200,"status":"failed","data":"pending"}"#, Ok(Reading::Failed)),
        (r#"{"code":200,"data":false}"#, pending()),
        (r#"{"code":200,"data":0}"#, pending()),
        (r#"{"code":200,"data":0.0}"#, pending()),
        (r#"{"code":200,"data":{"status":null}}"#, pending()),
        // Part of a result.
        (r#"{"data":{"status":"partial","name":"A"}}"#, Ok(Reading::Partial)),
        (r#"{"status":"partial","data":{"name":"A"}}"#, Ok(Reading::Partial)),
        (r#"{"status":"in_progress","data":{"name":"A"}}"#, Ok(Reading::Partial)),
        (r#"{"data":{"status":"Processing","name":"A"}}"#, Ok(Reading::Partial)),
        (r#"{"data":{"status":"processing"}}"#, pending()),
        // However a job that is under way is spelt, it has not ended.
        (r#"{"data":{"status":"in-progress"}}"#, pending()),
        (r#"{"data":{"status":"In Progress","name":null}}"#, Ok(Reading::Partial)),
        (r#"{"data":{"status":"InProgress"}}"#, pending()),
        (r#"{"data":{"status":"QUEUED"}}"#, pending()),
        (r#"{"status":"running"}"#, pending()),
        (r#"{"result":{"status":"initiated"}}"#, pending()),
        (r#"{"status":"pending"}"#, pending()),
        (r#"{"status":"PENDING","data":{}}"#, pending()),
        (r#"{"status":"completed","data":{"status":"partial","name":"A"}}"#, Ok(Reading::Partial)),
        // Failed, and words that are not known.
        (r#"{"status":"failed","message":"registry error"}"#, Ok(Reading::Failed)),
        (r#"{"data":{"status":"failed"}}"#, Ok(Reading::Failed)),
        (r#"{"status":"hibernating","data":{"x":1}}"#, unknown("hibernating")),
        (r#"{"status":" Re\u0000view\u001b "}"#, unknown("Review")),
        (r#"{"status":"","data":{"x":1}}"#, Ok(Reading::Ready)),
        (r#"{"status":"\u0000 ","data":{"x":1}}"#, Ok(Reading::Ready)),
        (r#"{"status":7,"data":{"x":1}}"#, Ok(Reading::Ready)),
        // The API reference's shape: two layers of status, of which the outer is the job's.
        (
            r#"{"request_id":"r","task_id":"t","status":"completed","result":{"source_output":{"status":"id_not_found"}}}"#,
            Ok(Reading::Ready),
        ),
        (r#"{"request_id":"r","status":"completed"}"#, Ok(Reading::Ready)),
        (r#"{"request_id":"r","result":{"source_output":{}}}"#, Ok(Reading::Ready)),
        (r#"{"status":"in_progress","result":{"name":"A"}}"#, Ok(Reading::Partial)),
        (r#"{"data":{},"result":{"status":"partial","name":"A"}}"#, Ok(Reading::Partial)),
        (r#"{"request_id":"r","status":"in_progress","result":null}"#, pending()),
    ] {
        assert_eq!(poll(200, body), reading, "{body}");
    }
    assert_eq!(poll(202, r#"{"message":"still processing"}"#), pending());
    assert_eq!(poll(202, "<html>"), pending());
    assert_eq!(poll(404, ""), Ok(Reading::NotFound));
}

#[test]
fn a_poll_that_fails_is_not_a_job_that_failed() {
    let failure = |class| Err(Failure::new(class, Certainty::NotExecuted));
    for body in [
        "",
        "<html>",
        "[]",
        r#"[200,"completed",{"x":1}]"#,
        r#"{"data":{"x":1}"#,
        r#"{"data":{"x":NaN}}"#,
        r#"{"data":1}}"#,
    ] {
        assert_eq!(poll(200, body), failure(Class::Transient), "{body}");
    }
    assert_eq!(poll(204, ""), failure(Class::Transient));
    // The token is over after a day; the job is not.
    assert_eq!(poll(401, r#"{"detail":"Token expired"}"#), failure(Class::Unauthorized));
    for status in [400, 403, 422] {
        assert_eq!(poll(status, ""), failure(Class::Permanent), "{status}");
    }
    for status in [500, 502, 503] {
        assert_eq!(poll(status, r#"{"detail":"Source Unavailable"}"#), failure(Class::Transient), "{status}");
    }
    assert_eq!(poll(429, ""), failure(Class::Throttled));
}

#[test]
fn a_hint_is_handed_on_wherever_it_stands() {
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
    let read = |kind, status, body: &'static str| {
        deepvue().read(&Answer::new(kind, StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), WALL))
    };
    let seven = Some(Duration::from_secs(7));
    assert_eq!(read(Kind::Poll, 202, ""), Ok(Reading::Pending { hint: seven }));
    assert_eq!(read(Kind::Poll, 200, "{}"), Ok(Reading::Pending { hint: seven }));
    assert_eq!(read(Kind::Create, 429, "").unwrap_err().retry_after, seven);
    assert_eq!(read(Kind::Create, 503, r#"{"detail":"Source Unavailable"}"#).unwrap_err().retry_after, seven);
    assert_eq!(read(Kind::Poll, 401, "").unwrap_err().retry_after, seven);
}

#[test]
fn depth_is_no_attack() {
    let nested = |open: &str, inner: &str, close: &str| open.repeat(200_000) + inner + &close.repeat(200_000);
    let unusable = Err(Failure::new(Class::Transient, Certainty::NotExecuted));
    let (arrays, statuses) = (nested("[", "", "]"), nested(r#"{"status":"#, "1", "}"));
    for body in [arrays.clone(), statuses.clone(), format!(r#"{{"data":{statuses}}}"#), format!(r#"{{"data":{arrays}"#)]
    {
        assert_eq!(poll(200, &body), unusable);
        assert_eq!(create(200, &body), unknown_outcome());
    }
    // What does not decide is skipped, however deep.
    assert_eq!(poll(200, &format!(r#"{{"x":{arrays},"data":{{"x":{arrays}}}}}"#)), Ok(Reading::Ready));
}

#[test]
fn the_bodies_of_the_hostile_inputs() {
    let file: Value = serde_json::from_str(include_str!("../../tests/oracles/hostile_inputs.json")).unwrap();
    let mut ran = 0;
    for case in file["cases"].as_array().unwrap() {
        let (id, kind) = (case["id"].as_str().unwrap(), case["kind"].as_str().unwrap());
        if kind != "json_body" {
            println!("not replayed here: {id}: it is about {kind}, not about a JSON body");
            continue;
        }
        // As the answer to a create, where a wrong reading would cost most: all of them leave it unknown.
        assert_eq!(create(200, case["input"]["body"].as_str().unwrap()), unknown_outcome(), "{id}");
        ran += 1;
    }
    println!("hostile_inputs.json: {ran} cases about a JSON body replayed");
    assert_eq!(ran, 5);
}

/// docs.deepvue.ai/rate-limits: all three windows hold, whatever is asked for.
#[test]
fn a_plan_is_kept_in_every_second_minute_and_day() {
    use steadfast_core::gate::{Admission, Gate, Request, Settled};
    let deepvue = deepvue().with_plan(steadfast_providers::deepvue::Plan::Business).unwrap();
    let limits = deepvue.gate();
    let mut gate = Gate::new(limits, Seed::new(1));
    let start = Timestamp::from_secs(1_700_000_000);
    let (mut now, mut sent) = (start, Vec::new());
    while now.saturating_since(start) < Duration::from_secs(2 * 86_400) {
        match gate.admit(Request::first(Kind::Poll), now) {
            Admission::Go(permit) => {
                gate.settle(permit, Settled::Answered, now);
                sent.push(now);
            }
            Admission::Wait(no) | Admission::Refuse(no) => now = no.until,
        }
    }
    for (most, span) in [(2, 1), (100, 60), (10_000, 86_400)] {
        let span = Duration::from_secs(span);
        let crowded = sent.windows(most + 1).any(|those| those[most].saturating_since(those[0]) < span);
        assert!(!crowded, "more than {most} in {span:?}");
    }
    assert!(sent.len() > 17_000, "and not much less than two days allow: {}", sent.len());
}
