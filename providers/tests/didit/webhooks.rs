//! What its webhooks tell, and which are believed.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use steadfast_core::{Kind, Reference, Timestamp};
use steadfast_providers::didit::{Didit, SetupError};
use steadfast_providers::webhook::{Covered, DiditSignatures, Scheme, Verifier};
use steadfast_providers::{Answer, BaseUrl, Provider, WebhookError, WebhookEvent};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn didit(secrets: &[&str]) -> Didit {
    let didit = Didit::new(BaseUrl::parse(Didit::PRODUCTION).unwrap(), "key").unwrap();
    didit.with_webhooks(secrets.iter().copied()).unwrap()
}

fn signed(secret: &str, body: &'static str) -> (HeaderMap, Bytes) {
    let body = Bytes::from_static(body.as_bytes());
    let all = DiditSignatures { simple: true, ..DiditSignatures::default() };
    (Verifier::new(Scheme::Didit(all), [secret]).unwrap().sign("", NOW, &body).unwrap(), body)
}

fn read(body: &'static str) -> WebhookEvent {
    let (headers, body) = signed("secret", body);
    didit(&["secret"]).webhook(&headers, &body, NOW).unwrap()
}

#[test]
fn a_delivery_names_its_session_and_says_no_more_than_that_it_changed() {
    let told = read(
        r#"{"event_id":"e-1","webhook_type":"status.updated","timestamp":1700000000,"session_id":"5b37-20ed","status":"Approved",
            "vendor_data":"order-42","decision":{"status":"Approved"}}"#,
    );
    assert_eq!(told.reference.unwrap().as_str(), "5b37-20ed");
    assert_eq!(told.key.unwrap().as_str(), "order-42");
    assert_eq!((told.meaning, told.result), (None, None));
    assert_eq!(told.verified.id.as_deref(), Some("e-1"));

    let company = read(r#"{"timestamp":1700000000,"business_session_id":"c-1","session_kind":"business"}"#);
    assert_eq!((company.reference.unwrap().as_str(), company.key), ("c-1", None));
}

/// By `created_at`, which is the same in each repeat; what is only signed later is no later word.
#[test]
fn a_delivery_dates_the_status_that_it_names() {
    let told = read(r#"{"timestamp":1700000000,"created_at":1699990000,"session_id":"a","status":"Kyc Expired"}"#);
    assert_eq!((told.status.as_deref(), told.at), (Some("Kyc Expired"), Some(Timestamp::from_secs(1_699_990_000))));
    let told = read(r#"{"timestamp":1700000000,"session_id":"a","status":"Resubmitted"}"#);
    assert_eq!((told.status.as_deref(), told.at), (Some("Resubmitted"), Some(NOW)));
    let told = read(r#"{"timestamp":1700000000,"session_id":"a"}"#);
    assert_eq!(told.status, None);
    assert!(
        !format!("{:?}", read(r#"{"timestamp":1700000000,"session_id":"a","status":"canary"}"#)).contains("canary")
    );
    // As an answer has it, so that the two can be compared.
    let (headers, body) = (HeaderMap::new(), br#"{"session_id":"a","status":"Kyc Expired"}"#);
    let answer = Answer::new(Kind::Poll, http::StatusCode::OK, &headers, body, NOW);
    assert_eq!(didit(&["secret"]).decision(&answer).as_deref(), Some("Kyc Expired"));
}

/// In the answer to a create, and in a list of sessions: of this session, and of no other.
#[test]
fn the_page_of_a_session_is_found_in_either_answer() {
    let session = Reference::new("b").unwrap();
    let page = |body: &str| steadfast_providers::didit::page(body.as_bytes(), &session);
    assert_eq!(page(r#"{"session_id":"b","url":"https://v/b"}"#).as_deref(), Some("https://v/b"));
    let list = r#"{"count":2,"results":[{"session_id":"a","session_url":"https://v/a"},{"session_id":"b","session_url":"https://v/b"}]}"#;
    assert_eq!(page(list).as_deref(), Some("https://v/b"));
    for none in [
        "",
        "[]",
        "{}",
        r#"{"session_id":"b"}"#,
        r#"{"session_id":"b","url":""}"#,
        r#"{"session_id":"a","url":"https://v/a"}"#,
    ] {
        assert_eq!(page(none), None, "{none}");
    }
}

#[test]
fn what_cannot_be_read_is_about_no_job() {
    for body in [
        r#"{"timestamp":1700000000}"#,
        r#"{"timestamp":1700000000,"session_id":"../../admin"}"#,
        r#"{"timestamp":1700000000,"session_id":"a","session_id":"b"}"#,
        r#"{"timestamp":1700000000,"session_id":7,"vendor_data":"order-42"}"#,
        r#"{"timestamp":1700000000,"session_id":"","vendor_data":"with space"}"#,
    ] {
        let told = read(body);
        assert_eq!((told.reference, told.key), (None, None), "{body}");
    }
}

#[test]
fn only_what_one_of_the_secrets_has_signed_is_believed() {
    let (headers, body) = signed("old", r#"{"timestamp":1700000000,"session_id":"a"}"#);
    assert!(didit(&["new", "old"]).webhook(&headers, &body, NOW).is_ok());
    assert!(didit(&["new"]).webhook(&headers, &body, NOW).is_err());
    assert!(didit(&["old"]).webhook(&HeaderMap::new(), &body, NOW).is_err());
    let altered = Bytes::from_static(br#"{"timestamp":1700000000,"session_id":"b"}"#);
    assert!(didit(&["old"]).webhook(&headers, &altered, NOW).is_err());
    let late = Timestamp::from_secs(1_700_000_301);
    assert!(matches!(didit(&["old"]).webhook(&headers, &body, late), Err(WebhookError::TooOld { .. })));

    let without = Didit::new(BaseUrl::parse(Didit::PRODUCTION).unwrap(), "key").unwrap();
    assert!(!without.has_webhooks() && didit(&["old"]).has_webhooks());
    assert_eq!(without.webhook(&headers, &body, NOW), Err(WebhookError::Unsupported));
    assert!(matches!(without.with_webhooks([""; 1]), Err(SetupError::Webhooks(_))));
    assert!(!format!("{:?}", didit(&["canary"])).contains("canary"), "R42");
}

const TOLD: &str = r#"{"event_id":"e-1","webhook_type":"status.updated","timestamp":1700000000,"session_id":"5b37-20ed","status":"Approved","vendor_data":"order-42"}"#;

/// The event of a delivery whose body was changed on its way.
fn changed(didit: &Didit, from: &str, to: &str) -> Result<WebhookEvent, WebhookError> {
    let (headers, body) = signed("secret", TOLD);
    let body = String::from_utf8(body.to_vec()).unwrap().replace(from, to);
    didit.webhook(&headers, &Bytes::from(body), NOW)
}

#[test]
fn what_middleware_wrote_anew_is_believed_by_its_second_signature() {
    let told = changed(&didit(&["secret"]), ",", " , ").unwrap();
    assert_eq!((told.reference.unwrap().as_str(), told.key.unwrap().as_str()), ("5b37-20ed", "order-42"));
    assert_eq!((told.verified.id.as_deref(), told.verified.covers), (Some("e-1"), Covered::Body));
    assert!(changed(&didit(&["secret"]), "order-42", "order-43").is_err());
}

/// Its signature covers neither the key nor the event's id: so whoever changes them reaches no other job, and uses no
/// other event's name up.
#[test]
fn the_simple_signature_is_a_hint_about_its_session_and_only_when_asked_for() {
    let simple = DiditSignatures { raw: false, canonical: false, simple: true };
    let all = DiditSignatures { simple: true, ..DiditSignatures::default() };
    for accepted in [simple, all] {
        let before = Didit::new(BaseUrl::parse(Didit::PRODUCTION).unwrap(), "key").unwrap();
        let before = before.with_webhook_signatures(accepted).unwrap().with_webhooks(["secret"]).unwrap();
        for didit in [before, didit(&["secret"]).with_webhook_signatures(accepted).unwrap()] {
            for (from, to) in [
                ("order-42", "order-43"),
                ("e-1", "e-2"),
                ("event_id", "decision"),
                ("vendor_data", "business_session_id"),
            ] {
                let told = changed(&didit, from, to).unwrap();
                assert_eq!(told.reference.unwrap().as_str(), "5b37-20ed");
                assert_eq!((told.key, told.meaning, told.result), (None, None, None));
                assert_eq!((told.verified.id, told.verified.covers), (None, Covered::Hint));
            }
            for (from, to) in [
                ("5b37", "6b37"),
                ("Approved", "Declined"),
                ("00,", "01,"),
                ("status.updated", "data.updated"),
                ("session_id", "session"),
            ] {
                assert!(changed(&didit, from, to).is_err(), "{from} {to}");
            }
        }
    }
    // However it was altered, it is one hint.
    let didit = didit(&["secret"]).with_webhook_signatures(simple).unwrap();
    let [one, other] = ["order-43", "order-44"].map(|to| changed(&didit, "order-42", to).unwrap().verified);
    assert_eq!(one, other);
    let none = DiditSignatures { raw: false, canonical: false, simple: false };
    assert!(matches!(didit.with_webhook_signatures(none), Err(SetupError::Webhooks(_))));
}

#[test]
fn a_test_is_about_no_job_and_a_true_event_cannot_be_made_one() {
    const BY_ITS_METADATA: &str =
        r#"{"timestamp":1700000000,"session_id":"5b37","vendor_data":"order-42","metadata":{"test_webhook":true}}"#;
    const BY_ITS_HEADER: &str = r#"{"timestamp":1700000000,"session_id":"5b37","vendor_data":"order-42"}"#;
    const EVENT: &str = r#"{"event_id":"e-1","timestamp":1700000000,"session_id":"5b37","vendor_data":"order-42","metadata":{"test_webhook":true}}"#;
    let says_test = |body, says: &'static str| {
        let (mut headers, body) = signed("secret", body);
        headers.insert("x-didit-test-webhook", HeaderValue::from_static(says));
        didit(&["secret"]).webhook(&headers, &body, NOW).unwrap()
    };
    for told in [
        read(BY_ITS_METADATA),
        says_test(BY_ITS_METADATA, "true"),
        says_test(BY_ITS_HEADER, "true"),
        says_test(BY_ITS_HEADER, "True"),
    ] {
        assert_eq!((told.reference, told.key, told.verified.id), (None, None, None));
    }
    for told in [read(EVENT), read(BY_ITS_HEADER), says_test(EVENT, "true"), says_test(BY_ITS_HEADER, "false")] {
        assert_eq!((told.reference.unwrap().as_str(), told.key.unwrap().as_str()), ("5b37", "order-42"));
    }
}

/// What stands beside the ids may be anything: a genuine delivery still names its session.
#[test]
fn nothing_beside_the_ids_takes_a_delivery_from_its_session() {
    for body in [
        r#"{"event_id":"e","timestamp":1700000000,"session_id":"s","created_at":"2026-01-01T00:00:00Z"}"#,
        r#"{"event_id":"e","timestamp":1700000000,"session_id":"s","created_at":1700000000.5,"status":7}"#,
        r#"{"event_id":"e","timestamp":1700000000,"session_id":"s","created_at":1700000000000}"#,
        r#"{"event_id":"e","timestamp":1700000000,"session_id":"s","metadata":{"big":1e999},"status":{"a":1}}"#,
    ] {
        let told = read(body);
        assert_eq!(told.reference.unwrap().as_str(), "s", "{body}");
        assert_eq!((told.status, told.at), (None, Some(NOW)), "{body}");
    }
}
