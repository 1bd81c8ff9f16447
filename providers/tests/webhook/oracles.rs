//! Cases of other suites, replayed. What is not replayed is listed with its reason, and a field that the replay does
//! not know is an error.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use steadfast_core::Timestamp;
use steadfast_providers::webhook::{DEFAULT_TOLERANCE, DiditSignatures, Scheme, SetupError, Verifier, WebhookError};

use crate::{body, now, verifier};

fn only(object: &Value, known: &[&str]) {
    for field in object.as_object().into_iter().flat_map(|object| object.keys()) {
        assert!(known.contains(&field.as_str()), "the replay does not know the field {field}");
    }
}

#[test]
fn the_cases_of_two_other_suites() {
    let file: Value = serde_json::from_str(include_str!("../../../tests/oracles/webhook.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    cases.iter().for_each(replay);
    println!("webhook.json: {} of {} cases replayed", cases.len(), cases.len());
    assert_eq!(cases.len(), 30);
}

fn replay(case: &Value) {
    let known = "id source scheme secrets headers body_utf8 now_unix expect known_answer note derived tolerance_s";
    only(case, &known.split(' ').collect::<Vec<_>>());
    only(&case["expect"], &["valid", "reason", "should_reject_by_policy", "then"]);
    let (id, expect) = (case["id"].as_str().unwrap(), &case["expect"]);
    let scheme = match case["scheme"].as_str().unwrap() {
        "standard-webhooks" => Scheme::StandardWebhooks,
        "stripe" => Scheme::Stripe,
        other => panic!("{id}: unknown scheme {other}"),
    };
    let secrets: Vec<_> = case["secrets"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    let ours = match Verifier::new(scheme, secrets) {
        Ok(ours) => ours.with_tolerance(match case.get("tolerance_s") {
            // Their way to say that any time will do.
            Some(Value::Null) => Duration::MAX,
            Some(seconds) => Duration::from_secs(seconds.as_u64().unwrap()),
            None => DEFAULT_TOLERANCE,
        }),
        Err(error) => {
            assert_eq!((error, &expect["reason"]), (SetupError::EmptySecret { at: 0 }, &"empty_secret".into()), "{id}");
            return;
        }
    };

    let mut headers = HeaderMap::new();
    for (name, value) in case["headers"].as_object().unwrap() {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.insert(name, HeaderValue::from_bytes(value.as_str().unwrap().as_bytes()).unwrap());
    }
    let body = case["body_utf8"].as_str().unwrap().as_bytes();
    let now = Timestamp::from_secs(case["now_unix"].as_u64().unwrap());
    let got = ours.verify(&headers, body, now);
    if expect.get("should_reject_by_policy").is_some() {
        let id_header = HeaderName::from_static("webhook-id");
        assert!(matches!(&got, Err(WebhookError::Malformed { header, .. }) if *header == id_header), "{id}: {got:?}");
    } else if expect["valid"] == true {
        assert!(got.is_ok(), "{id}: {got:?}");
        if expect["then"] == "json_error" {
            // Parsing comes after verifying, and is the caller's.
            assert_eq!(got.unwrap().id, None, "{id}");
        }
    } else {
        let error = got.expect_err(id);
        let fits = match expect["reason"].as_str().unwrap() {
            "signature" | "no_payload" => matches!(error, WebhookError::NoMatch(_) | WebhookError::NoSignature(_)),
            "timestamp" | "timestamp_or_too_old" | "header_format" => matches!(error, WebhookError::Malformed { .. }),
            "too_new" => matches!(error, WebhookError::TooNew { .. }),
            "not_signed" => matches!(error, WebhookError::Missing(_)),
            other => panic!("{id} expects {other}, which this test does not know"),
        };
        assert!(fits, "{id}: {error:?}");
    }

    if let Some(answer) = case["known_answer"].as_str() {
        let message = headers.get("webhook-id").map_or("", |id| id.to_str().unwrap());
        for (name, value) in &ours.sign(message, now, body).unwrap() {
            assert_eq!(value, headers[name], "{id}");
            assert!(!name.as_str().ends_with("signature") || value.to_str().unwrap().ends_with(answer), "{id}");
        }
    }
}

/// Cases of `hostile_inputs.json` that need more than one delivery's bytes.
const NOT_REPLAYED: &[(&str, &str)] = &[
    ("webhook-out-of-order", "what a job's state makes of an event is the operation's matter"),
    ("webhook-conflict-terminal", "what a job's state makes of an event is the operation's matter"),
    ("webhook-poll-after-webhook", "what a job's state makes of an event is the operation's matter"),
    ("webhook-flood-unknown", "a verifier remembers nothing, so nothing grows"),
];

#[test]
fn hostile_deliveries() {
    let file: Value = serde_json::from_str(include_str!("../../../tests/oracles/hostile_inputs.json")).unwrap();
    let mut ran = 0;
    for case in file["cases"].as_array().unwrap() {
        let (id, kind) = (case["id"].as_str().unwrap(), case["kind"].as_str().unwrap());
        if kind != "webhook_sequence" {
            println!("not replayed here: {id}: it is about {kind}, not about a webhook");
            continue;
        }
        if let Some((_, why)) = NOT_REPLAYED.iter().find(|(name, _)| *name == id) {
            println!("not replayed: {id}: {why}");
            continue;
        }
        for scheme in [Scheme::StandardWebhooks, Scheme::Didit(DiditSignatures::default())] {
            hostile(id, case["expect"]["verdict"].as_str().unwrap(), &scheme);
        }
        ran += 1;
    }
    println!("hostile_inputs.json: {ran} cases about webhooks replayed, {} listed above", NOT_REPLAYED.len());
    assert_eq!(ran, 5);
}

fn hostile(id: &str, verdict: &str, scheme: &Scheme) {
    let at = now().as_nanos() / 1_000_000_000;
    let (signed_with, listed, at) = match id {
        "webhook-dup-3" => ("new", &["new"][..], at),
        "webhook-future-6min" => ("new", &["new"][..], at + 360),
        "webhook-other-tenant" => ("tenant-b", &["tenant-a"][..], at),
        "webhook-old-secret-in-overlap" => ("old", &["new", "old"][..], at),
        "webhook-old-secret-after" => ("old", &["new"][..], at),
        _ => panic!("{id} is a case that this test does not know"),
    };
    let body = body(at, "");
    let headers = verifier(scheme, &[signed_with]).sign("evt_1", Timestamp::from_secs(at), &body).unwrap();
    let ours = verifier(scheme, listed);
    let got: Vec<_> = (0..3).map(|_| ours.verify(&headers, &body, now())).collect();
    match verdict {
        // Once is for who remembers; here, each is genuine and says that it is the same.
        "accepted" | "applied_once_2xx_each" => {
            assert!(
                got.iter().all(|it| it.as_ref().is_ok_and(|it| it.id.as_deref() == Some("evt_1"))),
                "{id}: {got:?}"
            );
        }
        "rejected" => assert!(got.iter().all(Result::is_err), "{id}: {got:?}"),
        other => panic!("{id} expects {other}, which this test does not know"),
    }
}
