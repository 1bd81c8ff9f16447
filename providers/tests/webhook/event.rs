//! What a webhook tells, once it is believed.

use bytes::Bytes;
use http::{HeaderMap, Request};
use proptest::prelude::*;
use steadfast_core::operation::Reading;
use steadfast_core::retry::Failure;
use steadfast_core::{OperationPolicy, Timestamp};
use steadfast_providers::webhook::{DiditSignatures, Scheme, Verified, Verifier};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookError, WebhookEvent};

use crate::{now, written};

fn verified(id: &str, body: &[u8]) -> Verified {
    let scheme = Scheme::StandardWebhooks;
    let secret = written(&scheme, "secret");
    let verifier = Verifier::new(scheme, [secret]).unwrap();
    verifier.verify(&verifier.sign(id, now(), body).unwrap(), body, now()).unwrap()
}

fn plain(body: &str) -> WebhookEvent {
    WebhookEvent::plain(verified("evt-1", body.as_bytes()), &Bytes::copy_from_slice(body.as_bytes()))
}

#[test]
fn a_flat_body_names_its_job_and_may_say_how_it_stands() {
    let event = plain(r#"{"reference":"txn-1","key":"order-42","status":"ready"}"#);
    assert_eq!(event.reference.unwrap().as_str(), "txn-1");
    assert_eq!(event.key.unwrap().as_str(), "order-42");
    assert_eq!(event.meaning, Some(Reading::Ready));
    assert!(event.result.is_some());
    for (status, meaning) in [
        ("undecided", Some(Reading::Undecided)),
        ("failed", Some(Reading::Failed)),
        ("partial", Some(Reading::Partial)),
        ("pending", Some(Reading::Pending { hint: None })),
        ("new in 2031", None),
    ] {
        let event = plain(&format!(r#"{{"reference":"txn-1","status":"{status}"}}"#));
        assert_eq!((event.meaning.clone(), event.result.is_some()), (meaning.clone(), meaning.is_some()));
    }
}

/// Milliseconds where seconds belong, say. Taken for the end of time, nothing that is told afterwards would be a later
/// word.
#[test]
fn a_time_beyond_all_time_is_none_and_that_of_signing_counts() {
    for (at, told) in
        [("1699990000", 1_699_990_000), ("1700000000000", 1_700_000_000), ("18446744073709551615", 1_700_000_000)]
    {
        let event = plain(&format!(r#"{{"reference":"txn-1","status":"expired","at":{at}}}"#));
        assert_eq!(event.at, Some(Timestamp::from_secs(told)), "{at}");
    }
}

#[test]
fn what_names_no_job_is_about_none() {
    for body in
        ["", "null", "[]", "{}", r#"{"reference":7,"key":null}"#, r#"{"reference":"","key":"two words"}"#, "\u{0}"]
    {
        let event = plain(body);
        assert_eq!((event.reference, event.key, event.meaning), (None, None, None), "{body}");
    }
}

proptest! {
    #[test]
    fn debug_shows_no_id_no_name_and_no_body(canary in "canary[a-z]{6}") {
        let body = format!(r#"{{"reference":"{canary}","key":"{canary}","status":"ready"}}"#);
        let told = WebhookEvent::plain(verified(&canary, body.as_bytes()), &Bytes::from(body));
        let unknown = told.clone().with_meaning(Some(Reading::Unknown(canary.clone().into())));
        for event in [told, unknown] {
            prop_assert!(!format!("{event:?}").contains(&canary), "{event:?}");
        }
    }
}

/// Of such a body its sender has signed neither the key nor the result.
#[test]
fn a_hint_means_nothing_by_itself() {
    let simple = Scheme::Didit(DiditSignatures { raw: false, canonical: false, simple: true });
    let verifier = Verifier::new(simple, ["secret"]).unwrap();
    let body = Bytes::from_static(br#"{"timestamp":1700000000,"reference":"txn-1","key":"order-42","status":"ready"}"#);
    let verified = verifier.verify(&verifier.sign("", now(), &body).unwrap(), &body, now()).unwrap();
    let event = WebhookEvent::plain(verified, &body);
    assert_eq!((event.reference, event.key, event.meaning, event.result), (None, None, None, None));
}

#[test]
fn a_provider_has_no_webhooks_unless_it_says_so() {
    struct None;
    impl Provider for None {
        fn name(&self) -> &str {
            "none"
        }
        fn policy(&self) -> OperationPolicy {
            OperationPolicy::default()
        }
        fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
            Ok(Request::default())
        }
        fn read(&self, _: &Answer<'_>) -> Result<Reading, Failure> {
            Ok(Reading::Ready)
        }
    }
    assert!(!None.has_webhooks());
    assert_eq!(None.webhook(&HeaderMap::new(), &Bytes::new(), now()), Err(WebhookError::Unsupported));
}
