//! Which deliveries are believed, and how far.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use steadfast_core::operation::Reading;
use steadfast_core::{Kind, Timestamp};
use steadfast_providers::profile::{ConnectError, Profile, shipped};
use steadfast_providers::webhook::{Encoding, Scheme, Verifier};
use steadfast_providers::{Answer, Provider, WebhookError};

use super::{ACME, WALL, connect, read};

const HINT: &str = r#"
[webhook]
scheme = { hmac = { header = "X-SHA2-Signature" } }
secrets = ["ACME_HOOK", "ACME_HOOK_OLD"]
reference = ["/object/id", "/id"]
key = "/object/tag"
event_id = "/event"
"#;

const BELIEVED: &str = r#"
[webhook]
scheme = "standard-webhooks"
secrets = ["ACME_HOOK"]
tolerance = "60s"
reference = "/object/id"
believe = true
result = "/object/output"
state = { pointer = "/object/status", values = { done = "ready", queued = "pending", gone = "undecided", bad = "failed" } }
"#;

fn profile(webhook: &str) -> Profile {
    Profile::parse(&format!("{ACME}{webhook}")).unwrap()
}

fn hmac(secret: &str, body: &'static str) -> (HeaderMap, Bytes) {
    let header = HeaderName::from_static("x-sha2-signature");
    let scheme = Scheme::Hmac { header, encoding: Encoding::Hex, prefix: "".into() };
    let body = Bytes::from_static(body.as_bytes());
    (Verifier::new(scheme, [secret]).unwrap().sign("", WALL, &body).unwrap(), body)
}

#[test]
fn a_delivery_names_its_job_and_is_a_hint() {
    let acme = connect(&profile(HINT));
    assert!(acme.has_webhooks());
    let (headers, body) = hmac(
        "canary-ACME_HOOK_OLD",
        r#"{"event":"e-1","object":{"id":"s-1","tag":"order-42","status":"done"},"id":"x"}"#,
    );
    let told = acme.webhook(&headers, &body, WALL).unwrap();
    assert_eq!((told.reference.unwrap().as_str(), told.key.unwrap().as_str()), ("s-1", "order-42"));
    assert_eq!((told.verified.id.as_deref(), told.verified.secret), (Some("e-1"), 1));
    assert_eq!((told.meaning, told.result), (None, None));

    let (headers, body) = hmac("canary-ACME_HOOK", r#"{"id":"s-2","event":"not an id"}"#);
    let told = acme.webhook(&headers, &body, WALL).unwrap();
    assert_eq!((told.reference.unwrap().as_str(), told.verified.id), ("s-2", None));
    for about_none in [
        "{}",
        "[]",
        "",
        r#"{"object":{"id":7},"id":"s-1"}"#,
        r#"{"id":"s-1","id":"s-2"}"#,
        r#"{"object":{"tag":[]},"id":"s-1"}"#,
    ] {
        let (headers, body) = hmac("canary-ACME_HOOK", about_none);
        let told = acme.webhook(&headers, &body, WALL).unwrap();
        assert_eq!((told.reference, told.key), (None, None), "{about_none}");
    }
}

/// A sender that counts its attempts writes another body each time: what it sends again is known by the event's id
/// then, and not by the body.
#[test]
fn where_the_file_says_where_the_events_id_is_a_repeat_is_known_by_it() {
    let acme = connect(&profile(HINT));
    let told = |body| {
        let (headers, body) = hmac("canary-ACME_HOOK", body);
        acme.webhook(&headers, &body, WALL).unwrap().verified
    };
    let (first, again) =
        (told(r#"{"event":"e-1","id":"s-1","attempt":1}"#), told(r#"{"event":"e-1","id":"s-1","attempt":2}"#));
    assert_eq!((first.id.as_deref(), again.id.as_deref()), (Some("e-1"), Some("e-1")));
    assert_eq!((first.fingerprint(), again.fingerprint()), (None, None), "there is an id");
    assert!(told(r#"{"id":"s-1"}"#).fingerprint().is_some(), "there is none");
    let numbered = told(r#"{"event":71,"id":"s-1","attempt":1}"#);
    assert_eq!((numbered.id.as_deref(), numbered.fingerprint()), (Some("71"), None), "a count of events is as good");
}

#[test]
fn nothing_unsigned_is_believed() {
    let acme = connect(&profile(HINT));
    let (headers, body) = hmac("another", r#"{"id":"s-1"}"#);
    assert!(matches!(acme.webhook(&headers, &body, WALL), Err(WebhookError::NoMatch(_))));
    assert!(acme.webhook(&HeaderMap::new(), &body, WALL).is_err());
    let without = connect(&Profile::parse(ACME).unwrap());
    assert!(!without.has_webhooks());
    assert_eq!(without.webhook(&headers, &body, WALL), Err(WebhookError::Unsupported));
}

#[test]
fn without_any_of_its_secrets_there_are_no_webhooks() {
    let profile = profile(HINT);
    let with = |names: &'static [&'static str]| {
        profile.connect(move |name| names.contains(&name).then(|| "s3cret".to_owned()))
    };
    assert!(!with(&["ACME_TOKEN"]).unwrap().has_webhooks());
    assert!(with(&["ACME_TOKEN", "ACME_HOOK_OLD"]).unwrap().has_webhooks());
    let empty = profile.connect(|_| Some(" canary".to_owned())).unwrap_err();
    assert!(
        matches!(&empty, ConnectError::Webhooks { variables, .. } if &**variables == "ACME_HOOK, ACME_HOOK_OLD"),
        "{empty}"
    );
    assert!(!format!("{empty} {empty:?}").contains("canary"));
    let old = profile.connect(|name| match name {
        "ACME_HOOK" => None,
        "ACME_HOOK_OLD" => Some(String::new()),
        _ => Some("s3cret".to_owned()),
    });
    let told = old.unwrap_err().to_string();
    assert!(told.starts_with("the webhooks' secrets (ACME_HOOK_OLD) cannot be used: webhook secret 0 "), "{told}");
}

#[test]
fn where_the_file_believes_it_the_state_counts() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let acme = profile(BELIEVED).connect(|_| Some(secret.to_owned())).unwrap();
    let told = |body: &'static str, now: Timestamp| {
        let body = Bytes::from_static(body.as_bytes());
        let headers = Verifier::new(Scheme::StandardWebhooks, [secret]).unwrap().sign("msg_1", WALL, &body).unwrap();
        acme.webhook(&headers, &body, now).map(|told| (told.meaning, told.result))
    };
    let result = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    assert_eq!(
        told(r#"{"object":{"id":"s-1","status":"done","output":{ "n":1.50 }}}"#, WALL),
        Ok((Some(Reading::Ready), result(r#"{ "n":1.50 }"#)))
    );
    let bare = r#"{"object":{"id":"s-1","status":"gone"}}"#;
    assert_eq!(told(bare, WALL), Ok((Some(Reading::Undecided), result(bare))));
    // What is not known, or not there, is for a poll to find out.
    assert_eq!(told(r#"{"object":{"id":"s-1","status":"asleep"}}"#, WALL), Ok((None, None)));
    assert_eq!(told(r#"{"object":{"id":"s-1"}}"#, WALL), Ok((None, None)));
    let late = WALL.saturating_add(core::time::Duration::from_secs(61));
    assert!(matches!(told(bare, late), Err(WebhookError::TooOld { .. })));
}

/// Where the file says that ids are numbers, they are numbers in deliveries and in lists too.
#[test]
fn a_job_that_is_a_number_is_told_by_its_number() {
    let numbers = ACME.replace("{ pointer = \"/id\" }", "{ pointer = \"/id\", number = true }");
    let list = "[lookup]\npath = \"/v1/scans\"\nquery = { client = \"{key}\" }\n\
        list = { pointer = \"/scans\", reference = \"/id\", key = \"/client\" }\n";
    let parse = |profile: &str| Profile::parse(&format!("{profile}{list}{HINT}")).unwrap();
    let (acme, texts) = (connect(&parse(&numbers)), connect(&parse(ACME)));
    let (headers, body) = hmac("canary-ACME_HOOK", r#"{"object":{"id":7,"tag":"order-42"}}"#);
    let told = acme.webhook(&headers, &body, WALL).unwrap();
    assert_eq!(told.reference.map(|reference| reference.as_str().to_owned()).as_deref(), Some("7"));
    assert_eq!(told.key.unwrap().as_str(), "order-42");
    let doubtful = texts.webhook(&headers, &body, WALL).unwrap();
    assert_eq!((doubtful.reference, doubtful.key), (None, None), "a number is no id where texts are");

    let listed = r#"{"scans":[{"id":7,"client":"order-42"}]}"#;
    let found = Reading::Accepted(steadfast_core::Reference::new("7").unwrap());
    assert_eq!(read(acme.profile(), Kind::Lookup, 200, listed), Ok(found));
    assert!(read(texts.profile(), Kind::Lookup, 200, listed).is_err());
}

/// What a delivery tells of a job that has ended is compared with the word that ended it: both are read alike.
#[test]
fn a_state_that_is_a_number_is_a_word_for_the_decision() {
    let numbers = "{ 9001 = \"ready\", 9121 = \"undecided\" }, number = true";
    let state = "{ queued = \"pending\", done = \"ready\", error = \"failed\" }";
    let hook = HINT.replace("event_id", "status = \"/object/code\"\nevent_id");
    let parse = |profile: &str| connect(&Profile::parse(&format!("{profile}{hook}")).unwrap());
    let (acme, texts) = (parse(&ACME.replace(state, numbers)), parse(ACME));
    let headers = HeaderMap::new();
    let polled = Answer::new(Kind::Poll, http::StatusCode::OK, &headers, br#"{"status":9001}"#, WALL);
    let (headers, body) = hmac("canary-ACME_HOOK", r#"{"object":{"id":"s-1","code":9121}}"#);
    assert_eq!(acme.decision(&polled).as_deref(), Some("9001"));
    assert_eq!(acme.webhook(&headers, &body, WALL).unwrap().status.as_deref(), Some("9121"));
    assert_eq!(texts.decision(&polled), None);
    assert_eq!(texts.webhook(&headers, &body, WALL).unwrap().status, None, "it could be compared with nothing");
}

/// docs.withpersona.com/v2022-09-01/docs/webhooks: the event's id, and what it is about, stand in the body.
#[test]
fn an_event_of_personas_names_its_inquiry_and_itself() {
    let persona = connect(&Profile::parse(shipped("persona").unwrap()).unwrap());
    let body = br#"{"data":{"type":"event","id":"evt_XGuYWp7","attributes":{"name":"inquiry.approved","payload":{"data":
        {"type":"inquiry","id":"inq_2CVZ4HyVg7","attributes":{"status":"approved"}}},"created-at":"2019-09-09T22:46:32.000Z"}}}"#;
    let sign = |secret: &str| {
        let scheme = Scheme::Timed { header: HeaderName::from_static("persona-signature") };
        let headers = Verifier::new(scheme, [secret]).unwrap().sign("", WALL, body).unwrap();
        headers["persona-signature"].to_str().unwrap().to_owned()
    };
    let both = [sign("canary-PERSONA_WEBHOOK_SECRET_NEW"), sign("canary-PERSONA_WEBHOOK_SECRET")].join(" ");
    let headers = HeaderMap::from_iter([(HeaderName::from_static("persona-signature"), both.parse().unwrap())]);
    let event = persona.webhook(&headers, &Bytes::from_static(body), WALL).unwrap();
    assert_eq!(event.reference.unwrap().as_str(), "inq_2CVZ4HyVg7");
    assert_eq!((event.verified.id.as_deref(), event.meaning), (Some("evt_XGuYWp7"), None));
}
