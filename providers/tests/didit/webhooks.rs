//! What its webhooks tell, and which are believed.

use bytes::Bytes;
use http::HeaderMap;
use steadfast_core::{Kind, Reference, Timestamp};
use steadfast_providers::didit::{Didit, SetupError};
use steadfast_providers::webhook::{Scheme, Verifier};
use steadfast_providers::{Answer, BaseUrl, Provider, WebhookError, WebhookEvent};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn didit(secrets: &[&str]) -> Didit {
    let didit = Didit::new(BaseUrl::parse(Didit::PRODUCTION).unwrap(), "key").unwrap();
    didit.with_webhooks(secrets.iter().copied()).unwrap()
}

fn signed(secret: &str, body: &'static str) -> (HeaderMap, Bytes) {
    let body = Bytes::from_static(body.as_bytes());
    (Verifier::new(Scheme::Didit, [secret]).unwrap().sign("", NOW, &body).unwrap(), body)
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
