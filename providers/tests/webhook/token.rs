//! A token in a header and no signature: who may send, and that no more follows from it than a poll.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use steadfast_core::operation::Reading;
use steadfast_core::{Key, Reference, Timestamp};
use steadfast_providers::WebhookEvent;
use steadfast_providers::webhook::{
    Covered, MAX_BODY, MAX_TOKEN, MIN_TOKEN, Scheme, SetupError, Verified, Verifier, WebhookError,
};

use crate::now;

const NEW: &str = "Bearer canary-9f86d081884c7d65";
const OLD: &str = "canary-9a2feaa0c55ad015";
const BODY: &[u8] = br#"{"transcript_id":"t-1","status":"completed"}"#;
const HEADER: HeaderName = HeaderName::from_static("x-webhook-token");

fn scheme() -> Scheme {
    Scheme::Token { header: HEADER }
}

fn ours() -> Verifier {
    Verifier::new(scheme(), [NEW, OLD]).unwrap()
}

/// A delivery with these lines of the header.
fn verify(lines: &[&[u8]]) -> Result<Verified, WebhookError> {
    let lines = lines.iter().map(|line| (HEADER, HeaderValue::from_bytes(line).unwrap()));
    ours().verify(&lines.fold(HeaderMap::new(), appended), BODY, now())
}

fn appended(mut headers: HeaderMap, (name, value): (HeaderName, HeaderValue)) -> HeaderMap {
    headers.append(name, value);
    headers
}

#[test]
fn a_delivery_with_one_of_the_tokens_is_known_and_covers_nothing() {
    for (at, token) in [NEW, OLD].into_iter().enumerate() {
        let verified = verify(&[token.as_bytes()]).unwrap();
        assert_eq!((verified.secret, verified.covers), (at, Covered::Nothing));
        assert_eq!((&verified.id, verified.timestamp), (&None, None), "{verified:?}");
    }
    // At any time, and a repeat is known by its body.
    let headers = ours().sign("", now(), BODY).unwrap();
    assert_eq!(headers[HEADER], NEW);
    let told = |body: &[u8], at: u64| ours().verify(&headers, body, Timestamp::from_secs(at)).unwrap().fingerprint();
    assert_eq!((told(BODY, 0), told(BODY, 0).is_some()), (told(BODY, 4_000_000_000), true));
    assert_ne!(told(BODY, 0), told(b"{}", 0));
}

#[test]
fn anything_else_in_the_header_is_refused() {
    let (missing, repeated) = (Err(WebhookError::Missing(HEADER)), Err(WebhookError::Repeated(HEADER)));
    assert_eq!(verify(&[]), missing);
    assert_eq!(verify(&[b""]), missing);
    let (new, old) = (NEW.as_bytes(), OLD.as_bytes());
    for twice in [[new, new], [new, old], [new, b"x"], [b"x", new], [b"", new]] {
        assert_eq!(verify(&twice), repeated);
    }
    let long = NEW.repeat(10_000);
    for wrong in [
        &NEW[..NEW.len() - 1],
        &NEW[1..],
        &format!("{NEW}a"),
        &format!("a{NEW}"),
        &format!("{NEW} "),
        &format!(" {NEW}"),
        &format!("{NEW},{NEW}"),
        &format!("{NEW}{OLD}"),
        &NEW.to_uppercase(),
        &NEW.replace("Bearer ", ""),
        "x",
        " ",
        &long,
    ] {
        assert_eq!(verify(&[wrong.as_bytes()]), Err(WebhookError::WrongToken(HEADER)), "{} bytes", wrong.len());
    }
    for odd in ["é", &format!("{NEW}é"), "\u{feff}x"] {
        assert!(matches!(verify(&[odd.as_bytes()]), Err(WebhookError::Malformed { .. })), "{odd}");
    }
    assert!(matches!(verify(&[b"\xff\xfe"]), Err(WebhookError::Malformed { .. })));
    let headers = ours().sign("", now(), BODY).unwrap();
    let large = vec![b' '; MAX_BODY + 1];
    assert_eq!(ours().verify(&headers, &large, now()), Err(WebhookError::TooLarge { bytes: MAX_BODY + 1 }));
    let another = Scheme::Token { header: HeaderName::from_static("x-other") };
    assert!(Verifier::new(another, [NEW]).unwrap().verify(&headers, BODY, now()).is_err());
}

/// Long keys are hashed before an HMAC uses them: the hash is not the key.
#[test]
fn a_long_token_is_no_other_text() {
    let long = "0123456789abcdef".repeat(8);
    let ours = Verifier::new(scheme(), [long.as_str()]).unwrap();
    let with = |token: &str| ours.verify(&HeaderMap::from_iter([(HEADER, token.parse().unwrap())]), BODY, now());
    assert!(with(&long).is_ok());
    assert_eq!(with(&long[..64]), Err(WebhookError::WrongToken(HEADER)));
    assert_eq!(with(&format!("{long}0123456789abcdef")), Err(WebhookError::WrongToken(HEADER)));
}

#[test]
fn a_token_that_could_be_guessed_or_not_be_sent_is_refused() {
    let refused = |token: &str| Verifier::new(scheme(), [NEW, token]).err();
    let wrong = Some(SetupError::Token { at: 1 });
    for (length, problem) in [
        (0, Some(SetupError::EmptySecret { at: 1 })),
        (1, wrong),
        (MIN_TOKEN - 1, wrong),
        (MIN_TOKEN, None),
        (MAX_TOKEN, None),
        (MAX_TOKEN + 1, wrong),
    ] {
        assert_eq!(refused(&"a".repeat(length)), problem, "{length}");
    }
    assert_eq!(refused("sixteen letters é"), wrong);
    assert_eq!(refused(&format!("{OLD}\n")), Some(SetupError::Whitespace { at: 1 }));
    assert_eq!(refused(&format!("{OLD}\0{OLD}")), Some(SetupError::Control { at: 1 }));
    assert_eq!(Verifier::new(scheme(), [""; 0]).err(), Some(SetupError::NoSecret));
    let told = SetupError::Token { at: 1 }.to_string();
    assert!(told.contains("16 to 1024 characters") && told.contains("take 32 random bytes"), "{told}");
}

#[test]
fn nothing_shows_a_token() {
    let headers = ours().sign("", now(), BODY).unwrap();
    let mut shown = format!("{:?} {headers:?} {:?}", ours(), ours().verify(&headers, BODY, now()));
    let too_long = "canary".repeat(200);
    let errors = [verify(&[b"canary"]).unwrap_err(), verify(&[NEW.as_bytes(), b"canary"]).unwrap_err()];
    errors.iter().for_each(|error| shown += &format!("{error} {error:?}"));
    for token in ["canary", &format!("{NEW}é"), &too_long] {
        let error = Verifier::new(scheme(), [token]).unwrap_err();
        shown += &format!("{error} {error:?}");
    }
    assert!(!shown.contains("canary") && !shown.contains("9f86d081"), "{shown}");
}

/// Whatever code makes of such a delivery: the event names one job, and says no more.
#[test]
fn an_event_that_nothing_signs_is_a_hint() {
    let (reference, key) = (Reference::new("t-1").unwrap(), Key::new("order-42").unwrap());
    let event = |signed: bool| {
        let body = Bytes::from_static(br#"{"id":"evt_1"}"#);
        let verifier = if signed { crate::verifier(&Scheme::Stripe, &["secret"]) } else { ours() };
        let headers = verifier.sign("", now(), &body).unwrap();
        WebhookEvent::new(verifier.verify(&headers, &body, now()).unwrap())
            .with_key(Some(key.clone()))
            .with_reference(Some(reference.clone()))
            .with_meaning(Some(Reading::Ready))
            .with_result(Some(body))
            .with_status(Some("done".into()), Some(now()))
    };
    let (signed, unsigned) = (event(true), event(false));
    assert!(signed.key.is_some() && signed.meaning.is_some() && signed.result.is_some() && signed.status.is_some());
    assert_eq!((&unsigned.reference, &unsigned.key), (&Some(reference.clone()), &None));
    assert_eq!((unsigned.meaning, unsigned.result, unsigned.status, unsigned.at), (None, None, None, None));
    let verified = unsigned.verified;
    let named = |event: WebhookEvent| (event.reference.is_some(), event.key.is_some());
    let new = || WebhookEvent::new(verified.clone());
    assert_eq!(named(new().with_key(Some(key.clone()))), (false, true));
    assert_eq!(named(new().with_reference(Some(reference)).with_key(Some(key))), (true, false));
    let plain = Bytes::from_static(br#"{"reference":"t-1","key":"order-42","status":"ready"}"#);
    assert_eq!(WebhookEvent::plain(verified.clone(), &plain), new());

    let mut written = new();
    (written.reference, written.key) = (Reference::new("t-1").ok(), Key::new("order-42").ok());
    (written.meaning, written.result) = (Some(Reading::Ready), Some(plain));
    (written.status, written.at) = (Some("done".into()), Some(now()));
    assert_eq!(written.believable(), new().with_reference(Reference::new("t-1").ok()));
}

proptest! {
    #[test]
    fn exactly_the_tokens_are_accepted(
        tokens in prop::collection::vec("[!-~]{16,80}", 1..4), other in "[!-~]{1,80}", at: prop::sample::Index,
        near in 0..80usize, body: Vec<u8>,
    ) {
        let ours = Verifier::new(scheme(), tokens.iter().map(String::as_str)).unwrap();
        let verify = |token: &str| {
            let headers = HeaderMap::from_iter([(HEADER, token.parse().unwrap())]);
            ours.verify(&headers, &body, now()).map(|verified| verified.secret)
        };
        let right = &tokens[at.index(tokens.len())];
        prop_assert_eq!(verify(right), Ok(tokens.iter().position(|token| token == right).unwrap()));
        // One character of it is another.
        let mut bytes = right.clone().into_bytes();
        let near = near % bytes.len();
        bytes[near] = if bytes[near] == b'~' { b'!' } else { bytes[near] + 1 };
        for token in [&other, &String::from_utf8(bytes).unwrap()] {
            prop_assert_eq!(verify(token).ok(), tokens.iter().position(|known| known == token));
        }
    }
}
