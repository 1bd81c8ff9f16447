//! Secrets: what they are at each sender, which are refused, and that nothing shows them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use steadfast_core::Timestamp;
use steadfast_providers::webhook::{Encoding, MAX_BODY, Scheme, SetupError, Verified, Verifier, WebhookError};

use crate::{NOW, base64_scheme, body, didit_raw, github, has_time, now, schemes, verifier, written};

/// GitHub's own example (docs, "Validating webhook deliveries"), RFC 4231 case 2 in base64, and one made with Python's
/// `hmac`.
#[test]
fn known_answers() {
    let example = Verifier::new(github(), ["It's a Secret to Everybody"]).unwrap();
    let headers = example.sign("", now(), b"Hello, World!").unwrap();
    let expected = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    assert_eq!(headers["x-hub-signature-256"], expected);

    let headers =
        Verifier::new(base64_scheme(), ["Jefe"]).unwrap().sign("", now(), b"what do ya want for nothing?").unwrap();
    assert_eq!(headers["x-sig"], "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");

    let didit = Verifier::new(didit_raw(), ["didit-secret"]).unwrap();
    let body = br#"{"event_id":"evt_1","session_id":"s-1","status":"Approved","timestamp":1700000000,"webhook_type":"status.updated"}"#;
    let headers = didit.sign("", now(), body).unwrap();
    assert_eq!(headers["x-signature"], "07ac8917f771e0326a28d7f3486de26a587d3277394dd42a4f66999ea607e89a");
    assert_eq!(headers["x-timestamp"], "1700000000");
}

#[test]
fn whsec_is_base64_at_one_and_text_at_the_other() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let ours = Verifier::new(
        Scheme::Hmac { header: HeaderName::from_static("a"), encoding: Encoding::Hex, prefix: "".into() },
        [secret],
    );
    let text = ours.unwrap().sign("", now(), b"1700000000.{}").unwrap()["a"].clone();
    let stripe = Verifier::new(Scheme::Stripe, [secret]).unwrap().sign("", now(), b"{}").unwrap();
    assert_eq!(stripe["stripe-signature"].to_str().unwrap(), format!("t=1700000000,v1={}", text.to_str().unwrap()));
    // Not so at Standard Webhooks: with and without the prefix it is one key.
    let [a, b] = [secret, &secret[6..]].map(|it| Verifier::new(Scheme::StandardWebhooks, [it]).unwrap());
    assert!(b.verify(&a.sign("msg_1", now(), b"").unwrap(), b"", now()).is_ok());
}

#[test]
fn secrets_that_cannot_be_right_are_refused() {
    let refused = |scheme: Scheme, secrets: &[&str]| Verifier::new(scheme, secrets.iter().copied()).err();
    for scheme in schemes() {
        assert_eq!(refused(scheme.clone(), &[]), Some(SetupError::NoSecret));
        assert_eq!(refused(scheme.clone(), &[""]), Some(SetupError::EmptySecret { at: 0 }));
        assert_eq!(refused(scheme.clone(), &["c2VjcmV0", ""]), Some(SetupError::EmptySecret { at: 1 }));
        for secret in ["c2VjcmV0\n", " c2VjcmV0", " ", "c2VjcmV0\u{a0}"] {
            assert_eq!(refused(scheme.clone(), &[secret]), Some(SetupError::Whitespace { at: 0 }), "{scheme:?}");
        }
    }
    for scheme in schemes() {
        for secret in ["c2Vj\nmV0", "c2Vj\r\ncmV0", "c2Vj\0cmV0", "c2Vj\u{85}cmV0", "c2Vj\tcmV0"] {
            assert_eq!(
                refused(scheme.clone(), &["c2VjcmV0", secret]),
                Some(SetupError::Control { at: 1 }),
                "{scheme:?}"
            );
        }
    }
    assert_eq!(refused(Scheme::StandardWebhooks, &["whsec_"]), Some(SetupError::EmptySecret { at: 0 }));
    assert_eq!(refused(Scheme::Stripe, &["whsec_"]), Some(SetupError::EmptySecret { at: 0 }));
    for secret in ["whsec_a-b_", "whxx_c2VjcmV0", "plain text", "c2Vj=cmV0"] {
        assert_eq!(refused(Scheme::StandardWebhooks, &[secret]), Some(SetupError::NotBase64 { at: 0 }), "{secret}");
    }
    for prefix in ["sha 256=", "sha256=\n", "ä"] {
        let header = HeaderName::from_static("x-sig");
        let scheme = Scheme::Hmac { header, encoding: Encoding::Hex, prefix: prefix.into() };
        assert_eq!(refused(scheme, &["secret"]), Some(SetupError::Prefix));
    }
}

/// Every `Debug` and `Display` that can be had, with a secret, a body and signatures that must not be in them.
#[test]
fn nothing_shows_a_secret_a_body_or_a_signature() {
    const SECRET: &str = "canarysecret";
    const BODY: &str = "canarybody";
    for scheme in schemes() {
        let ours = verifier(&scheme, &[SECRET]);
        let body = body(NOW, BODY);
        let headers = ours.sign("msg_1", now(), &body).unwrap();
        let mut hidden = vec![SECRET.to_owned(), written(&scheme, SECRET), STANDARD.encode(SECRET), BODY.to_owned()];
        hidden.extend(signatures(&headers));
        hidden.extend([SECRET, BODY].map(|text| format!("{:?}", text.as_bytes()).trim_matches(['[', ']']).to_owned()));
        assert!(hidden.len() > 6, "{scheme:?}");

        let mut shown =
            vec![format!("{ours:?} {scheme:?} {headers:?} {:?}", ours.verify(&headers, &body, now()).unwrap())];
        let mut tell = |got: Result<Verified, WebhookError>| {
            let error = got.unwrap_err();
            let source = std::error::Error::source(&error).map(|it| format!("{it:?} {it}"));
            shown.push(format!("{error:?} {error} {source:?}"));
        };
        tell(verifier(&scheme, &["another"]).verify(&headers, &body, now()));
        if has_time(&scheme) {
            tell(ours.verify(&headers, &body, Timestamp::from_secs(2 * NOW)));
        }
        for (name, value) in &headers {
            let mut other = headers.clone();
            other.append(name, value.clone());
            tell(ours.verify(&other, &body, now()));
            other.insert(name, format!("{SECRET}{BODY}.{}", value.to_str().unwrap()).parse().unwrap());
            tell(ours.verify(&other, &body, now()));
            other.insert(name, HeaderValue::from_bytes(format!("{SECRET}ä").as_bytes()).unwrap());
            tell(ours.verify(&other, &body, now()));
        }
        tell(ours.verify(&headers, &[body.clone(), vec![b' '; MAX_BODY]].concat(), now()));
        if scheme == didit_raw() {
            let bad = format!(r#"{{"timestamp":"{BODY}"}}"#).into_bytes();
            tell(ours.verify(&ours.sign("", now(), &bad).unwrap(), &bad, now()));
        }
        for secrets in [vec![format!("{SECRET}*")], vec![format!("{SECRET} ")], vec![]] {
            if let Err(error) = Verifier::new(scheme.clone(), secrets) {
                shown.push(format!("{error:?} {error}"));
            }
        }
        for text in shown {
            for hidden in &hidden {
                assert!(!text.contains(hidden.as_str()), "{scheme:?}: {hidden} in {text}");
            }
        }
    }
}

/// The signatures among these headers' values: what is long enough to be nothing else.
fn signatures(headers: &HeaderMap) -> Vec<String> {
    let values = headers.values().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|text| text.split([',', ' ']))
        .map(|it| it.trim_start_matches("v1=").trim_start_matches("sha256="))
        .filter(|it| it.len() >= 44)
        .map(Into::into)
        .collect()
}
