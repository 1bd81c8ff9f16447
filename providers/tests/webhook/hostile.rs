//! Deliveries that somebody has thought about.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use steadfast_core::Timestamp;
use steadfast_providers::webhook::{MAX_BODY, MAX_SIGNATURES, Scheme, SetupError, Verifier, WebhookError};

use crate::{NOW, body, didit_raw, github, now, persona, schemes, verifier};

#[test]
fn each_header_that_counts_is_there_once() {
    for scheme in schemes() {
        let ours = verifier(&scheme, &["secret"]);
        let body = body(NOW, "");
        let headers = ours.sign("msg_1", now(), &body).unwrap();
        for (name, value) in &headers {
            let mut twice = headers.clone();
            twice.append(name, value.clone());
            assert_eq!(ours.verify(&twice, &body, now()), Err(WebhookError::Repeated(name.clone())), "{scheme:?}");

            let mut without = headers.clone();
            without.remove(name);
            let got = ours.verify(&without, &body, now());
            if name == "x-timestamp" {
                assert!(got.is_ok(), "nothing signs it, so nothing hangs on it");
            } else {
                assert_eq!(got, Err(WebhookError::Missing(name.clone())), "{scheme:?}");
                without.insert(name, HeaderValue::from_static(""));
                assert_eq!(ours.verify(&without, &body, now()), Err(WebhookError::Missing(name.clone())), "{scheme:?}");
            }
        }
    }
}

#[test]
fn the_tenth_signature_is_looked_at_and_the_eleventh_is_not() {
    for (scheme, name, between, wrong) in [
        (Scheme::StandardWebhooks, "webhook-signature", " ", format!("v1,{}", STANDARD.encode([7; 32]))),
        (Scheme::Stripe, "stripe-signature", ",", format!("v1={}", "07".repeat(32))),
        (persona(), "persona-signature", ",", format!("v1={}", "07".repeat(32))),
    ] {
        let ours = verifier(&scheme, &["secret"]);
        let headers = ours.sign("msg_1", now(), b"{}").unwrap();
        let signed = headers[name].to_str().unwrap();
        // Stripe's time comes first or last alike.
        let (time, right) =
            signed.split_once(",v1=").map_or_else(|| ("", signed.to_owned()), |(t, v)| (t, format!("v1={v}")));
        let after = |count: usize| {
            let mut entries = vec![wrong.clone(); count];
            entries.push(right.clone());
            entries.extend((!time.is_empty()).then(|| time.to_owned()));
            let mut headers = headers.clone();
            headers.insert(name, entries.join(between).parse().unwrap());
            ours.verify(&headers, b"{}", now())
        };
        assert!(after(0).is_ok() && after(MAX_SIGNATURES - 1).is_ok(), "{scheme:?}");
        for count in [MAX_SIGNATURES, 1_000] {
            assert!(matches!(after(count), Err(WebhookError::NoMatch(_))), "{scheme:?}");
        }
    }
}

#[test]
fn stripe_s_header_has_one_time() {
    let ours = verifier(&Scheme::Stripe, &["secret"]).with_tolerance(Duration::MAX);
    let signed = ours.sign("", now(), b"{}").unwrap()["stripe-signature"].to_str().unwrap().to_owned();
    let verify = |text: String| {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("stripe-signature"), text.parse().unwrap())]);
        ours.verify(&headers, b"{}", now())
    };
    for time in ["t=1", &format!("t={NOW}"), "t="] {
        for text in [format!("{time},{signed}"), format!("{signed},{time}")] {
            assert!(matches!(verify(text.clone()), Err(WebhookError::Malformed { .. })), "{text}");
        }
    }
    // Entries of other names are none of our business.
    assert!(verify(format!("v0=1,{signed},v2=t=1,=")).is_ok());
}

#[test]
fn a_body_of_the_bound_is_verified_and_one_byte_more_is_not() {
    let ours = verifier(&github(), &["secret"]);
    for (bytes, good) in [(0, true), (MAX_BODY, true), (MAX_BODY + 1, false), (2 << 20, false)] {
        let body = vec![b' '; bytes];
        let headers = ours.sign("", now(), &body).unwrap();
        let got = ours.verify(&headers, &body, now()).map(|_| ());
        assert_eq!(got, if good { Ok(()) } else { Err(WebhookError::TooLarge { bytes }) });
    }
}

#[test]
fn only_plain_digits_are_a_time() {
    let hostile = [
        "",
        "-1",
        "+1700000000",
        "1700000000.0",
        "1.7e9",
        "0x6553f100",
        " 1700000000",
        "1700000000 ",
        "01700000000",
        "1_700_000_000",
        "-9223372036854775808",
        "9223372036854775807",
        "18446744073709551615",
        "18446744074",
        "18446744073709551616",
        "NaN",
        &"9".repeat(4096),
    ];
    for time in hostile {
        for (scheme, value) in [
            (Scheme::StandardWebhooks, ("webhook-timestamp", time.to_owned())),
            (Scheme::Stripe, ("stripe-signature", format!("t={time},v1={}", "07".repeat(32)))),
            (persona(), ("persona-signature", format!("t={time},v1={}", "07".repeat(32)))),
            (didit_raw(), ("x-timestamp", time.to_owned())),
        ] {
            let ours = verifier(&scheme, &["secret"]).with_tolerance(Duration::MAX);
            let body = body(NOW, "");
            let mut headers = ours.sign("msg_1", now(), &body).unwrap();
            headers.insert(value.0, value.1.parse().unwrap());
            let got = ours.verify(&headers, &body, now());
            let refused = match &got {
                Err(WebhookError::Malformed { header, .. }) => header == value.0,
                Err(WebhookError::Missing(header)) => header == value.0 && time.is_empty(),
                _ => false,
            };
            assert!(refused, "{scheme:?} {time:?}: {got:?}");
        }
    }
}

#[test]
fn an_id_that_could_be_cut_in_two_ways_is_refused() {
    let ours = verifier(&Scheme::StandardWebhooks, &["secret"]);
    for id in ["", "a.b", ".", "a b", "a\tb", "ä", &"a".repeat(256)] {
        assert!(matches!(ours.sign(id, now(), b""), Err(WebhookError::Malformed { .. })), "{id:?}");
        let mut headers = ours.sign("msg_1", now(), b"").unwrap();
        headers.insert("webhook-id", HeaderValue::from_bytes(id.as_bytes()).unwrap());
        let got = ours.verify(&headers, b"", now());
        assert!(matches!(got, Err(WebhookError::Malformed { .. } | WebhookError::Missing(_))), "{id:?}: {got:?}");
    }
    assert!(ours.sign(&"a".repeat(255), now(), b"").is_ok());
}

#[test]
fn didit_s_time_is_the_signed_one() {
    let ours = verifier(&didit_raw(), &["secret"]);
    let old = NOW - 301;
    let replayed = body(old, "");
    let mut headers = ours.sign("", Timestamp::from_secs(old), &replayed).unwrap();
    // A replay with a fresh time in the header, which nothing signs.
    headers.insert("x-timestamp", NOW.into());
    let name = HeaderName::from_static("x-timestamp");
    assert_eq!(ours.verify(&headers, &replayed, now()), Err(WebhookError::Contradiction(name)));
    headers.remove("x-timestamp");
    assert!(matches!(ours.verify(&headers, &replayed, now()), Err(WebhookError::TooOld { .. })));

    for body in [
        "",
        "{}",
        "null",
        "{",
        r#"{"timestamp":"1700000000"}"#,
        r#"{"timestamp":1700000000.0}"#,
        r#"{"timestamp":-1700000000}"#,
        r#"{"timestamp":1700000000,"timestamp":1}"#,
        r#"{"timestamp":18446744073709551615}"#,
        r#"{"a":{"timestamp":1700000000}}"#,
        r#"{"timestamp":1700000000} "x""#,
        &format!("{}1", "[".repeat(200_000)),
    ] {
        let headers = ours.sign("", now(), body.as_bytes()).unwrap();
        assert_eq!(ours.verify(&headers, body.as_bytes(), now()), Err(WebhookError::NoTime), "{body:.60}");
        // Unverified bytes do not get as far as a parser.
        let other = verifier(&didit_raw(), &["another"]).verify(&headers, body.as_bytes(), now());
        assert!(matches!(other, Err(WebhookError::NoMatch(_))), "{body:.60}");
    }
}

#[test]
fn an_id_in_a_body_that_nobody_could_keep_is_none() {
    for scheme in [Scheme::Stripe, persona(), didit_raw()] {
        let ours = verifier(&scheme, &["secret"]);
        let fields = ["", "\"\"", "7", "null", "[\"evt_1\"]", "\"a b\"", "\"ä\"", &format!("\"{}\"", "a".repeat(256))];
        for id in fields {
            let body = match id {
                "" => format!(r#"{{"timestamp":{NOW}}}"#),
                id => format!(r#"{{"timestamp":{NOW},"id":{id},"event_id":{id}}}"#),
            };
            let headers = ours.sign("", now(), body.as_bytes()).unwrap();
            assert_eq!(ours.verify(&headers, body.as_bytes(), now()).map(|it| it.id), Ok(None), "{scheme:?} {id}");
        }
    }
}

/// Svix and its customers send Standard Webhooks under names of their own.
#[test]
fn svix_names_count_together_or_not_at_all() {
    let verifier = verifier(&Scheme::StandardWebhooks, &["secret"]);
    let sent = verifier.sign("msg_1", now(), b"{}").unwrap();
    let mut svix = HeaderMap::new();
    for (name, value) in &sent {
        svix.insert(HeaderName::try_from(name.as_str().replace("webhook-", "svix-")).unwrap(), value.clone());
    }
    assert_eq!(verifier.verify(&svix, b"{}", now()).unwrap().id.as_deref(), Some("msg_1"));
    assert!(
        matches!(verifier.verify(&svix, b"[]", now()), Err(WebhookError::NoMatch(name)) if name == "svix-signature")
    );
    // The other family's headers are not filled in, whichever signs.
    for (gone, other) in [("svix-id", "webhook-id"), ("svix-timestamp", "webhook-timestamp")] {
        let mut mixed = svix.clone();
        let value = mixed.remove(gone).unwrap();
        mixed.insert(other, value);
        assert!(matches!(verifier.verify(&mixed, b"{}", now()), Err(WebhookError::Missing(name)) if name == gone));
    }
    let both = HeaderMap::from_iter(
        svix.into_iter()
            .chain([(Some("webhook-signature".parse().unwrap()), "v1,x".parse().unwrap())])
            .filter_map(|(name, value)| Some((name?, value))),
    );
    assert!(matches!(verifier.verify(&both, b"{}", now()), Err(WebhookError::Missing(name)) if name == "webhook-id"));
}

/// docs.withpersona.com/docs/webhooks-best-practices: two sets of pairs while a secret is rotated, with a space between
/// them.
#[test]
fn a_rotation_sends_a_group_for_each_secret() {
    let [old, new] = ["wbhsec_old", "wbhsec_new"].map(|secret| verifier(&persona(), &[secret]));
    let group = |by: &Verifier, at| by.sign("", Timestamp::from_secs(at), b"{}").unwrap()["persona-signature"].clone();
    let told = |ours: &Verifier, text: &str| {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("persona-signature"), text.parse().unwrap())]);
        ours.verify(&headers, b"{}", now()).map(|verified| verified.timestamp)
    };
    let groups = [&new, &old].map(|by| group(by, NOW).to_str().unwrap().to_owned());
    for both in [groups.join(" "), format!("{} {}", groups[1], groups[0])] {
        assert_eq!((told(&new, &both), told(&old, &both)), (Ok(Some(now())), Ok(Some(now()))), "{both}");
        assert!(matches!(told(&verifier(&persona(), &["wbhsec_other"]), &both), Err(WebhookError::NoMatch(_))));
    }
    // A group's time is signed by its own signatures alone.
    let hour_ago = group(&new, NOW - 3_600).to_str().unwrap().to_owned();
    let forged = format!("t={NOW},v1={} {hour_ago}", "07".repeat(32));
    assert!(matches!(told(&new, &forged), Err(WebhookError::TooOld { .. })));
    let moved = format!("t={NOW},{} t={NOW},v1={}", hour_ago.split_once(',').unwrap().1, "07".repeat(32));
    assert!(matches!(told(&new, &moved), Err(WebhookError::NoMatch(_))));
}

/// Whoever looks for a wrong secret would look for long.
#[test]
fn who_signs_with_a_key_pair_alone_is_told_so() {
    let ours = verifier(&Scheme::StandardWebhooks, &["secret"]);
    let mut headers = ours.sign("msg_1", now(), b"{}").unwrap();
    let symmetric = headers["webhook-signature"].to_str().unwrap().to_owned();
    let asymmetric = format!("v1a,{}", STANDARD.encode([7; 64]));
    headers.insert("webhook-signature", asymmetric.parse().unwrap());
    let refused = ours.verify(&headers, b"{}", now()).unwrap_err();
    assert_eq!(refused, WebhookError::NoSignature(HeaderName::from_static("webhook-signature")));
    assert!(refused.to_string().contains("v1a"), "{refused}");
    headers.insert("webhook-signature", format!("{asymmetric} {symmetric}").parse().unwrap());
    assert!(ours.verify(&headers, b"{}", now()).is_ok());
    for half in ["whpk_MCowBQYDK2VwAyEA", "whsk_MC4CAQAwBQYDK2Vw"] {
        let refused = Verifier::new(Scheme::StandardWebhooks, ["whsec_c2VjcmV0", half]).unwrap_err();
        assert_eq!(refused, SetupError::KeyPair { at: 1 });
        assert!(!refused.to_string().contains(half));
    }
}
