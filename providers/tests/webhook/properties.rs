//! What is signed passes, within the tolerance and under any listed secret; anything else does not.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use steadfast_core::Timestamp;
use steadfast_providers::webhook::{DEFAULT_TOLERANCE, Scheme, WebhookError};

use crate::{NOW, body, has_time, now, schemes, verifier};

fn any_scheme() -> BoxedStrategy<Scheme> {
    (0..5usize).prop_map(|at| schemes()[at].clone()).boxed()
}

proptest! {
    #[test]
    fn what_is_signed_verifies_at_any_time_within_the_tolerance(
        scheme in any_scheme(), secret in "[!-~]{1,80}", text: String, at in 1_000_000..10_000_000_000u64,
        tolerance in 0..1_000_000_000_000u64, share in 0.0..=1.0f64, ahead: bool,
    ) {
        let ours = verifier(&scheme, &[&secret]).with_tolerance(Duration::from_nanos(tolerance));
        let (signed, body) = (Timestamp::from_secs(at), body(at, &text));
        let headers = ours.sign("msg_1", signed, &body).unwrap();
        let offset = Duration::from_nanos((tolerance as f64 * share) as u64);
        let now = if ahead { signed.saturating_sub(offset) } else { signed.saturating_add(offset) };
        let verified = ours.verify(&headers, &body, now);
        prop_assert!(verified.is_ok(), "{verified:?}");
        let verified = verified.unwrap();
        prop_assert_eq!(verified.timestamp, has_time(&scheme).then_some(signed));
        let id = match scheme {
            Scheme::StandardWebhooks => Some("msg_1"),
            Scheme::Stripe | Scheme::Timed { .. } | Scheme::Didit(_) => Some("evt_1"),
            _ => None,
        };
        prop_assert_eq!(verified.id.as_deref(), id);
    }

    #[test]
    fn beyond_the_tolerance_it_is_refused(
        scheme in any_scheme(), at in 1_000_000..10_000_000_000u64, tolerance in 0..1_000_000_000_000u64,
        beyond in 1..1_000_000_000_000u64, ahead: bool,
    ) {
        let ours = verifier(&scheme, &["secret"]).with_tolerance(Duration::from_nanos(tolerance));
        let (signed, body) = (Timestamp::from_secs(at), body(at, ""));
        let headers = ours.sign("msg_1", signed, &body).unwrap();
        let offset = Duration::from_nanos(tolerance + beyond);
        let now = if ahead { signed.saturating_sub(offset) } else { signed.saturating_add(offset) };
        let got = ours.verify(&headers, &body, now);
        match (scheme, ahead) {
            (Scheme::Hmac { .. }, _) | (Scheme::Stripe | Scheme::Timed { .. }, true) => prop_assert!(got.is_ok(), "{got:?}"),
            (_, true) => prop_assert!(matches!(&got, Err(WebhookError::TooNew { ahead, .. }) if *ahead == offset), "{got:?}"),
            (_, false) => prop_assert!(matches!(&got, Err(WebhookError::TooOld { age, .. }) if *age == offset), "{got:?}"),
        }
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused(
        scheme in any_scheme(), id in "[!--/-~]{1,40}", text in ".{0,20}", at in 0..10_000_000_000u64, which: usize, bit in 0..8u32,
    ) {
        let ours = verifier(&scheme, &["secret"]).with_tolerance(Duration::MAX);
        let mut body = body(at, &text);
        let mut headers = ours.sign(&id, Timestamp::from_secs(at), &body).unwrap();
        let total = headers.values().map(HeaderValue::len).sum::<usize>() + body.len();
        if flip(&mut headers, &mut body, which % total, bit) {
            let got = ours.verify(&headers, &body, now());
            prop_assert!(got.is_err(), "{got:?}");
        }
    }

    #[test]
    fn old_and_new_secret_both_pass_while_both_are_listed(
        scheme in any_scheme(), old in "[a-z]{1,80}", new in "[A-Z]{1,80}", text: String,
    ) {
        let body = body(NOW, &text);
        let both = verifier(&scheme, &[&new, &old]);
        for (at, secret) in [&new, &old].into_iter().enumerate() {
            let headers = verifier(&scheme, &[secret]).sign("msg_1", now(), &body).unwrap();
            prop_assert_eq!(both.verify(&headers, &body, now()).map(|it| it.secret), Ok(at));
            // A sender amid its rotation signs with both.
            let other = verifier(&scheme, &[if at == 0 { &old } else { &new }]);
            if let Some(headers) = joined(&scheme, &headers, &other.sign("msg_1", now(), &body).unwrap()) {
                prop_assert!(verifier(&scheme, &[&new]).verify(&headers, &body, now()).is_ok());
                prop_assert!(verifier(&scheme, &[&old]).verify(&headers, &body, now()).is_ok());
            }
        }
        let headers = verifier(&scheme, &[&old]).sign("msg_1", now(), &body).unwrap();
        let after = verifier(&scheme, &[&new]).verify(&headers, &body, now());
        prop_assert!(matches!(after, Err(WebhookError::NoMatch(_))), "{after:?}");
    }

    #[test]
    fn no_headers_or_body_panic_or_pass_unsigned(
        scheme in any_scheme(), values in prop::collection::vec(any::<Vec<u8>>(), 3), body: Vec<u8>, now: u64,
    ) {
        let got = verifier(&scheme, &["secret"]).verify(&claiming(&scheme, &values), &body, Timestamp::from_nanos(now));
        prop_assert!(got.is_err(), "{got:?}");
    }

    #[test]
    fn no_headers_that_look_right_panic_or_pass_unsigned(
        scheme in any_scheme(), id in "[a-z.]{0,9}", time in "[-+]?[0-9]{0,25}",
        signature in "(sha256=|v1,|t=[0-9]{0,25},v1=)?([0-9a-f]{64}|[A-Za-z0-9+/]{43}=)( v1,|,v1=|,)?([0-9a-f]{64}|[A-Za-z0-9+/]{43}=)?",
        now: u64,
    ) {
        let values = [signature.into_bytes(), time.into_bytes(), id.into_bytes()];
        let got = verifier(&scheme, &["secret"]).verify(&claiming(&scheme, &values), b"{}", Timestamp::from_nanos(now));
        prop_assert!(got.is_err(), "{got:?}");
    }

    #[test]
    fn where_there_is_no_id_the_body_s_fingerprint_tells_bodies_apart_at_any_time_and_is_no_signature(
        scheme in any_scheme(), a: String, b: String, later in 0..200u64,
    ) {
        let ours = verifier(&scheme, &["secret"]);
        let print = |text: &str, at| {
            let body = serde_json::json!({ "note": text, "timestamp": NOW }).to_string().into_bytes();
            // Didit's time is the body's.
            let at = if matches!(scheme, Scheme::Didit(_)) { now() } else { at };
            let headers = ours.sign("msg_1", at, &body).unwrap();
            let shown: String = headers.values().filter_map(|value| value.to_str().ok()).collect();
            let verified = ours.verify(&headers, &body, at).unwrap();
            assert_eq!(verified.fingerprint().is_none(), verified.id.is_some(), "one of them");
            assert_eq!(verified.id.is_some(), matches!(scheme, Scheme::StandardWebhooks), "{verified:?}");
            let print = verified.fingerprint();
            if let Some(print) = print {
                let hex: String = print.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(!shown.contains(&hex) && !shown.contains(&STANDARD.encode(&print.as_bytes()[..15])));
            }
            print
        };
        let (then, later) = (now(), now().saturating_add(Duration::from_secs(later)));
        prop_assert_eq!(print(&a, then), print(&a, later));
        if print(&a, then).is_some() {
            prop_assert_eq!(print(&a, then) == print(&b, later), a == b);
        }
    }
}

#[test]
fn every_single_bit_of_one_delivery_counts() {
    for scheme in schemes() {
        let ours = verifier(&scheme, &["secret"]).with_tolerance(Duration::MAX);
        let body = body(NOW, "text");
        let headers = ours.sign("msg_1", now(), &body).unwrap();
        assert!(ours.verify(&headers, &body, now()).is_ok());
        let total = headers.values().map(HeaderValue::len).sum::<usize>() + body.len();
        let mut refused = 0;
        for (at, bit) in (0..total).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let (mut headers, mut body) = (headers.clone(), body.clone());
            if flip(&mut headers, &mut body, at, bit) {
                assert!(ours.verify(&headers, &body, now()).is_err(), "{scheme:?}: byte {at}, bit {bit}");
                refused += 1;
            }
        }
        assert!(refused > total * 6, "{scheme:?}: only {refused} of {} could be sent", total * 8);
    }
}

#[test]
fn the_default_tolerance_is_five_minutes() {
    assert_eq!(DEFAULT_TOLERANCE, Duration::from_secs(300));
    let ours = verifier(&Scheme::StandardWebhooks, &["secret"]);
    let headers = ours.sign("msg_1", now(), b"").unwrap();
    for (at, good) in [(NOW - 301, false), (NOW - 300, true), (NOW + 300, true), (NOW + 301, false)] {
        assert_eq!(ours.verify(&headers, b"", Timestamp::from_secs(at)).is_ok(), good, "{at}");
    }
}

/// Flips one bit of all header values and the body, counted through. `false` if no header can hold the result.
fn flip(headers: &mut HeaderMap, body: &mut [u8], mut at: usize, bit: u32) -> bool {
    for value in headers.values_mut() {
        if at < value.len() {
            let mut bytes = value.as_bytes().to_vec();
            bytes[at] ^= 1 << bit;
            return HeaderValue::from_bytes(&bytes).map(|flipped| *value = flipped).is_ok();
        }
        at -= value.len();
    }
    body[at] ^= 1 << bit;
    true
}

/// The same headers with two signatures, where the scheme can carry them.
fn joined(scheme: &Scheme, one: &HeaderMap, other: &HeaderMap) -> Option<HeaderMap> {
    let (name, between, skip) = match scheme {
        Scheme::StandardWebhooks => ("webhook-signature", " ", 0),
        Scheme::Stripe => ("stripe-signature", ",", format!("t={NOW},").len()),
        Scheme::Timed { .. } => ("persona-signature", " ", 0),
        _ => return None,
    };
    let mut headers = one.clone();
    let text = format!("{}{between}{}", one[name].to_str().unwrap(), &other[name].to_str().unwrap()[skip..]);
    headers.insert(name, text.parse().unwrap());
    Some(headers)
}

/// The scheme's headers with these values: signature, time, id.
fn claiming(scheme: &Scheme, values: &[Vec<u8>]) -> HeaderMap {
    let names = match scheme {
        Scheme::StandardWebhooks => vec!["webhook-signature", "webhook-timestamp", "webhook-id"],
        Scheme::Stripe => vec!["stripe-signature"],
        Scheme::Didit(_) => vec!["x-signature", "x-timestamp"],
        Scheme::Timed { header } | Scheme::Hmac { header, .. } => vec![header.as_str()],
        _ => panic!("a scheme that this test does not know"),
    };
    let mut headers = HeaderMap::new();
    for (name, value) in names.into_iter().zip(values) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
    }
    headers
}
