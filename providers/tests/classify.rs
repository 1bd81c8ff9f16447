//! Which failures are tried again: the cases of `classify.json`, read out of twelve suites that it names.
//!
//! The suites disagree with each other, by design; none knows a create that may have run and must not run twice. So
//! three things are told apart: what is replayed and agrees; where we decide otherwise, on purpose ([`OTHERWISE`],
//! replayed too: we must differ); and what asks of something that is not decided here.

use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use steadfast_core::retry::{Certainty, Class, Failure, RetryDecision, RetryPolicy};
use steadfast_core::{Kind, Seed, Timestamp};
use steadfast_providers::{Answer, status};

const WALL: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Where we decide otherwise, and why.
const OTHERWISE: &[(&str, &str)] = &[
    (
        "smithy-408",
        "the server waited no longer, and under an honoured key asking again cannot run it twice; Azure does so too",
    ),
    ("stripe-go-409", "a key in conflict stays so, unless a Retry-After says that the first request still runs"),
    ("stripe-node-409", "a key in conflict stays so, unless a Retry-After says that the first request still runs"),
    (
        "stripe-go-cert",
        "no connection was made, so nothing ran: tried again, in case the certificate is mended, and bounded by the attempts",
    ),
    ("stripe-node-econnreset-retries0", "the attempts are the limit, whatever fails"),
    ("stripe-node-epipe-retries0", "the attempts are the limit, whatever fails"),
    (
        "boto-throttle-07",
        "throttled by an AWS error code; by its status a 503 is transient, which is tried again as well",
    ),
    (
        "boto-throttle-11",
        "throttled by an AWS error code; by its status a 503 is transient, which is tried again as well",
    ),
    (
        "boto-throttle-13",
        "throttled by an AWS error code; by its status a 502 is transient, which is tried again as well",
    ),
];

/// Questions that are not asked here, by what their ids begin with.
const NOT_REPLAYED: &[(&str, &str)] = &[
    ("boto-throttle-00", "an error code of AWS in a 400: what a body says is for its profile"),
    ("boto-throttle-02", "an error code of AWS in a 400: what a body says is for its profile"),
    ("boto-throttle-04", "an error code of AWS in a 400: what a body says is for its profile"),
    ("boto-throttle-06", "an error code of AWS in a 400: what a body says is for its profile"),
    ("boto-throttle-09", "an error code of AWS in a 400: what a body says is for its profile"),
    ("boto-throttle-10", "an error code of AWS in a 403: what a body says is for its profile"),
    ("boto-throttle-12", "an error code of AWS in a 400: what a body says is for its profile"),
    ("boto-transient-00", "an error code of AWS in a 400: what a body says is for its profile"),
    ("boto-transient-11", "a success: asked of no status, but of the body"),
    ("boto-200-error-body", "a success: asked of no status, but of the body"),
    ("stripe-go-canceled", "a success; and who cancelled is not asked again, which is the operation's matter"),
    ("stripe-go-400-hdr-true", "a header of Stripe's own"),
    ("stripe-node-200", "a success: asked of no status, but of the body"),
    ("gax-unavailable", "gRPC is not spoken here"),
    ("gax-unknown-503", "gRPC is not spoken here"),
    ("gax-permission", "gRPC is not spoken here"),
    ("gax-poll-ser", "a request that cannot be built is not sent: the driver's matter"),
    ("gaxgo-", "gRPC, or a list of statuses to retry, which is not a setting here"),
    ("envoy-5xx-overflow", "its own queue is full: here that is the gate's answer, and no failure of a request"),
    ("envoy-gw-overflow", "its own queue is full: here that is the gate's answer, and no failure of a request"),
    ("envoy-grpc-", "gRPC is not spoken here"),
    ("envoy-5xx-200", "a success: asked of no status, but of the body"),
    ("envoy-4xx-reset", "a list of conditions to retry, which is not a setting here"),
    ("urllib3-7", "a list of methods to retry, which is not a setting here"),
    (
        "urllib3-strip-headers",
        "redirects are not followed, so there is nothing to strip: the transport's matrix shows it",
    ),
    ("awsgo-skew-", "requests are not signed with a time, so no clock can be wrong in them"),
    ("temporal-", "what a worker reports of its own code: here a job's failure is its outcome"),
];

#[test]
fn the_cases_of_twelve_other_suites() {
    let file: Value = serde_json::from_str(include_str!("../../tests/oracles/classify.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let (mut agrees, mut otherwise, mut left_out) = (0, 0, 0);
    let mut used = Vec::new();
    for case in cases {
        let id = case["id"].as_str().unwrap();
        if let Some((prefix, why)) = NOT_REPLAYED.iter().find(|(prefix, _)| id.starts_with(prefix)) {
            println!("not replayed: {id}: {why}");
            used.push(*prefix);
            left_out += 1;
            continue;
        }
        let agreed = agrees_with(id, &case["input"], &case["expect"]);
        if let Some((name, why)) = OTHERWISE.iter().find(|(name, _)| *name == id) {
            println!("otherwise: {id}: {why}");
            assert!(!agreed, "{id}: we agree after all");
            used.push(*name);
            otherwise += 1;
        } else {
            assert!(agreed, "{id} expects {}", case["expect"]);
            agrees += 1;
        }
    }
    let listed = NOT_REPLAYED.iter().chain(OTHERWISE).map(|(name, _)| *name);
    let stale: Vec<_> = listed.filter(|name| !used.contains(name)).collect();
    assert!(stale.is_empty(), "listed, and there is no such case: {stale:?}");
    println!(
        "classify.json: {agrees} cases agree, {otherwise} are decided otherwise, {left_out} left out, of {}",
        cases.len()
    );
    assert_eq!((agrees, otherwise, agrees + otherwise + left_out), (40, 9, cases.len()));
}

fn agrees_with(id: &str, input: &Value, expect: &Value) -> bool {
    for field in input.as_object().unwrap().keys() {
        // `code`, `problem` and `retry_on` name what the suite decides by; all of these cases have a status or a phase
        // that says as much.
        let known = "status code transport headers method idempotent phase retries_done max_retries attempt attempt_limit \
                     retry_on retry_statuses allowed_methods problem sent_idempotency_key";
        assert!(
            known.split_ascii_whitespace().any(|it| it == field),
            "{id}: the replay does not know the field {field}"
        );
    }
    let failure = failure(id, input);
    let again = tried_again(input, failure);
    let (name, value) = expect.as_object().unwrap().iter().find(|(name, _)| *name != "error").unwrap();
    match (name.as_str(), value) {
        ("retry", value) => again == value.as_bool().unwrap(),
        ("throttle", value) => (failure.class == Class::Throttled) == value.as_bool().unwrap(),
        ("transient", value) => (failure.class == Class::Transient) == value.as_bool().unwrap() && again,
        ("poll", value) => match value.as_str().unwrap() {
            "continue" => again && failure.class != Class::Permanent,
            "permanent" => failure.class == Class::Permanent,
            "exhausted" => !again,
            other => panic!("{id}: unknown {other}"),
        },
        _ => panic!("{id} expects {expect}, which this test does not know"),
    }
}

fn failure(id: &str, input: &Value) -> Failure {
    let polls = input["phase"] == "poll" || input["method"] == "GET";
    let kind = if polls { Kind::Poll } else { Kind::Create };
    if let Some(status) = input["status"].as_u64() {
        let status = StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap();
        return status::failure(&Answer::new(kind, status, &HeaderMap::new(), b"", WALL));
    }
    let ran = if polls { Certainty::NotExecuted } else { Certainty::MayHaveExecuted };
    match input["transport"].as_str() {
        // The phases that a transport tells apart.
        Some("pre_rpc_transient" | "certificate_unknown_authority") => {
            Failure::new(Class::Transient, Certainty::NotExecuted)
        }
        Some("ETIMEDOUT") => Failure::new(Class::TimedOut, ran),
        Some(
            "http_client_error" | "other" | "io" | "ECONNRESET" | "EPIPE" | "remote_reset" | "credentials_transient",
        )
        | None => Failure::new(Class::Transient, ran),
        Some(other) => panic!("{id}: unknown transport failure {other}"),
    }
}

/// By a provider that honours keys, unless the case says that the call is not idempotent.
fn tried_again(input: &Value, failure: Failure) -> bool {
    let number = |name: &str| input[name].as_u64().and_then(|number| u16::try_from(number).ok());
    let made = number("attempt").or_else(|| Some(number("retries_done")? + 1)).unwrap_or(1);
    let most = number("attempt_limit").or_else(|| Some(number("max_retries")? + 1)).unwrap_or(5);
    let policy = RetryPolicy::default().with_attempts(most).unwrap();
    let keyed = input["idempotent"] != false;
    matches!(policy.decide(made, failure, WALL, WALL, keyed, Seed::new(1)), RetryDecision::At(_))
}

/// What the table of conflicts hangs on.
#[test]
fn a_conflict_is_tried_again_when_it_says_when() {
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("1"))]);
    let failure = status::failure(&Answer::new(Kind::Create, StatusCode::CONFLICT, &headers, b"", WALL));
    assert!(tried_again(&Value::Null, failure));
    assert!(!tried_again(&serde_json::json!({ "idempotent": false }), failure));
}
