//! Which deliveries are believed, whatever headers and body: exactly those that carry the signature that their sender
//! would make.
//!
//! The signature is made a second time, by [`Verifier::sign`], from what the delivery was taken to say. So what is
//! believed was signed, of this time, and names the id and the time that were signed; one changed bit of the body,
//! another secret, or a clock that is too far off, and it is not. What was signed and not altered is believed. No error
//! shows a body, a signature or a secret (R42).
//!
//! Input: a letter for the scheme (`s`, `t` for Stripe, `d`, `c` for Didit's canonical form, `h`); the id; how many
//! seconds ago it was signed (a `-` before it: ahead); header lines, in which `$` stands for the right signature
//! header's value and a `+` before the name adds a line instead of replacing one; an empty line; the body.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use steadfast_core::Timestamp;
use steadfast_providers::webhook::{
    DEFAULT_TOLERANCE, DiditSignatures, Encoding, Scheme, Verified, Verifier, WebhookError,
};

use super::{WALL_SECS, digest, line, number, trimmed};

const SECRET: &str = "whsec_Y2FuYXJ5LTdmM2Etc2VjcmV0LW9mLXRoZS1zZW5kZXI=";
const OTHER: &str = "whsec_c29tZWJvZHktZWxzZXMtd2ViaG9vay1rZXkh";

fn scheme(letter: u8) -> (Scheme, HeaderName) {
    let (name, didit) = (HeaderName::from_static, Scheme::Didit);
    match letter {
        b't' => (Scheme::Stripe, name("stripe-signature")),
        b'p' => (Scheme::Timed { header: name("persona-signature") }, name("persona-signature")),
        b'd' => (didit(DiditSignatures { canonical: false, ..DiditSignatures::default() }), name("x-signature")),
        b'c' => (didit(DiditSignatures { raw: false, ..DiditSignatures::default() }), name("x-signature-v2")),
        b'h' => {
            let header = name("x-hub-signature-256");
            (Scheme::Hmac { header: header.clone(), encoding: Encoding::Hex, prefix: "sha256=".into() }, header)
        }
        _ => (Scheme::StandardWebhooks, name("webhook-signature")),
    }
}

/// See the [module](self).
pub fn holds(data: &[u8]) {
    let mut rest = data;
    let (scheme, signature) = scheme(line(&mut rest).first().copied().unwrap_or_default());
    let id = String::from_utf8_lossy(line(&mut rest)).into_owned();
    let now = Timestamp::from_secs(WALL_SECS);
    let age = line(&mut rest);
    let at = match age.strip_prefix(b"-") {
        Some(ahead) => now.saturating_add(Duration::from_secs(number(ahead).unwrap_or_default())),
        None => now.saturating_sub(Duration::from_secs(number(age).unwrap_or_default())),
    };
    let (ours, theirs) = (verifier(&scheme, SECRET), verifier(&scheme, OTHER));
    // The headers come before the body, and the signature is of the body.
    let mut lines = Vec::new();
    while let Some(header) = Some(line(&mut rest)).filter(|header| !header.is_empty()) {
        lines.push(header);
    }
    let body = rest;
    let signed = ours.sign(&id, at, body);
    let mut headers = signed.clone().unwrap_or_default();
    let right = headers.get(&signature).cloned();
    let altered =
        lines.into_iter().fold(false, |altered, header| alter(&mut headers, header, right.as_ref()) | altered);

    let read = ours.verify(&headers, body, now);
    assert_eq!(ours.verify(&headers, body, now), read, "another answer at the second time");
    match &read {
        Ok(verified) => believed(&ours, &theirs, &signature, &headers, body, verified, now),
        Err(error) => {
            // The same with other bodies, which say what of the error is its own words.
            let other = [b"{\"canary7f3a\":\"", body].concat();
            let resigned = ours.sign(&id, at, &other).map_or_else(Err, |headers| ours.verify(&headers, &other, now));
            refused(error, body, &[ours.verify(&headers, &other, now), resigned]);
            let fresh = at.saturating_since(now).max(now.saturating_since(at)) <= DEFAULT_TOLERANCE;
            // Didit's time has to be in the body as well.
            let whole = signed.is_ok() && !altered && fresh && !matches!(scheme, Scheme::Didit(_));
            assert!(!whole, "what was signed is refused: {error}");
        }
    }
}

fn verifier(scheme: &Scheme, secret: &str) -> Verifier {
    Verifier::new(scheme.clone(), [secret]).expect("a secret for every scheme")
}

/// Whether the line changed anything.
fn alter(headers: &mut HeaderMap, header: &[u8], right: Option<&HeaderValue>) -> bool {
    let Some(colon) = header.iter().position(|byte| *byte == b':') else { return false };
    let (name, value) = (&header[..colon], trimmed(&header[colon + 1..]));
    let (name, adds) = name.strip_prefix(b"+").map_or((name, false), |name| (name, true));
    let right = right.map_or(&b""[..], HeaderValue::as_bytes);
    let value: Vec<u8> =
        value.iter().flat_map(|byte| if *byte == b'$' { right.to_vec() } else { vec![*byte] }).collect();
    let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(&value)) else { return false };
    if adds {
        headers.append(name, value);
    } else {
        headers.insert(name, value);
    }
    true
}

fn believed(
    ours: &Verifier,
    theirs: &Verifier,
    signature: &HeaderName,
    headers: &HeaderMap,
    body: &[u8],
    verified: &Verified,
    now: Timestamp,
) {
    let id = headers.get("webhook-id").and(verified.id.as_deref()).unwrap_or_default();
    let again = ours.sign(id, verified.timestamp.unwrap_or(now), body).expect("an id that was believed is one");
    let (made, came) = (&again[signature], &headers[signature]);
    let tokens = |value: &HeaderValue| -> Vec<String> {
        let text = value.to_str().unwrap_or_default().to_owned();
        text.split([' ', ',']).filter(|token| token.len() >= 44).map(str::to_owned).collect()
    };
    assert!(tokens(came).contains(&tokens(made)[0]), "believed without the signature that its sender makes");
    assert!(theirs.verify(headers, body, now).is_err(), "another secret is as good");
    if let Some(timestamp) = verified.timestamp {
        let off = now.saturating_since(timestamp).max(timestamp.saturating_since(now));
        assert!(
            off <= DEFAULT_TOLERANCE || matches!(signature.as_str(), "stripe-signature" | "persona-signature"),
            "of another time: {off:?}"
        );
        let late = timestamp.saturating_add(DEFAULT_TOLERANCE + Duration::from_secs(1));
        // Stripe's may be ahead as far as the clock goes; nothing comes later than its end.
        let ends = late.saturating_since(timestamp) <= DEFAULT_TOLERANCE;
        assert!(ends || ours.verify(headers, body, late).is_err(), "believed too late");
    }
    let mut other = body.to_vec();
    match other.len() {
        0 => other.push(b' '),
        length => other[digest(body) % length] ^= 1 << (digest(body) % 8),
    }
    let spelt_anew = *signature == "x-signature-v2" && says(&other).is_some() && says(&other) == says(body);
    assert!(spelt_anew || ours.verify(headers, &other, now).is_err(), "another body is believed");
    // The id is there to be seen; nothing else is.
    let mut nameless = verified.clone();
    nameless.id = None;
    assert!(!format!("{nameless:?}").contains("canary"), "R42");
}

/// What JSON says, however it is spelt. Of two floats that are the same text in the end, one bit of which was changed,
/// nothing else is known here.
fn says(body: &[u8]) -> Option<serde_json::Value> {
    serde_json::from_slice(body).ok()
}

/// An error shows nothing of what it was about.
fn refused(error: &WebhookError, body: &[u8], others: &[Result<Verified, WebhookError>]) {
    let shown = |error: &WebhookError| format!("{error} {error:?}");
    let holds = |text: &str| body.len() >= 24 && text.as_bytes().windows(body.len()).any(|part| part == body);
    let others: Vec<String> = others.iter().filter_map(|read| read.as_ref().err()).map(shown).collect();
    let told = holds(&shown(error)) && !others.iter().any(|text| holds(text));
    assert!(!told, "R42: {error}");
    for text in others.iter().chain([&shown(error)]) {
        assert!(!text.contains("canary") && !text.contains(&SECRET[6..]), "R42: {text}");
    }
}
