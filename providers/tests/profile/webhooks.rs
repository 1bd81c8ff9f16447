//! Which deliveries are believed, and how far.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use steadfast_core::operation::Reading;
use steadfast_core::{Kind, Timestamp};
use steadfast_providers::profile::{ConnectError, Profile, shipped};
use steadfast_providers::webhook::{Covered, Encoding, Scheme, Verifier};
use steadfast_providers::{Answer, Ask, Payload, Provider, WebhookError};

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

/// assemblyai.com/docs/pre-recorded-audio/webhooks: the header that was chosen with the request, and nothing signed.
#[test]
fn a_delivery_of_assemblyais_makes_a_poll_due_and_tells_nothing_else() {
    let profile = Profile::parse(shipped("assemblyai").unwrap()).unwrap();
    let told = "not signed, known by a token in x-webhook-token; each makes a poll due now, and tells nothing else";
    assert!(profile.describe().contains(told), "{}", profile.describe());
    let assemblyai = connect(&profile);
    let deliver = |tokens: &[&str], body: &'static [u8]| {
        let name = HeaderName::from_static("x-webhook-token");
        let mut headers = HeaderMap::new();
        for token in tokens {
            headers.append(&name, token.parse().unwrap());
        }
        assemblyai.webhook(&headers, &Bytes::from_static(body), WALL)
    };
    let body = br#"{"transcript_id":"5552493-16d8-42d8-8feb-c2a16b56f6e8","status":"completed"}"#;
    for (at, token) in ["canary-ASSEMBLYAI_WEBHOOK_TOKEN", "canary-ASSEMBLYAI_WEBHOOK_TOKEN_OLD"].iter().enumerate() {
        let event = deliver(&[token], body).unwrap();
        assert_eq!(event.reference.unwrap().as_str(), "5552493-16d8-42d8-8feb-c2a16b56f6e8");
        assert_eq!((event.verified.secret, event.verified.covers, event.key), (at, Covered::Nothing, None));
        assert_eq!((event.meaning, event.result, event.status, event.at), (None, None, None, None));
    }
    // Of redacted audio there is another delivery, which names no transcript; and an id that is none names no job.
    for about_none in [
        &br#"{"status":"redacted_audio_ready","redacted_audio_url":"https://a/b.mp3"}"#[..],
        br#"{"transcript_id":"../x"}"#,
    ] {
        assert_eq!(deliver(&["canary-ASSEMBLYAI_WEBHOOK_TOKEN"], about_none).unwrap().reference, None);
    }
    let refused = |tokens: &[&str]| deliver(tokens, body).unwrap_err().to_string();
    assert!(refused(&[]).starts_with("the webhook has no x-webhook-token header, or an empty one"));
    assert!(refused(&["canary"]).starts_with("the token in the webhook's x-webhook-token header is none of ours"));
    let both = ["canary-ASSEMBLYAI_WEBHOOK_TOKEN"; 2];
    assert!(refused(&both).starts_with("the webhook has more than one x-webhook-token header"));

    let short = profile.connect(|_| Some("canary-15-bytes".to_owned())).unwrap_err();
    let told = "the webhooks' secrets (ASSEMBLYAI_WEBHOOK_TOKEN, ASSEMBLYAI_WEBHOOK_TOKEN_OLD) cannot be used: webhook token 0 \
        (from 0) must have 16 to 1024 characters";
    assert!(short.to_string().starts_with(told), "{short}");
    assert!(!format!("{short} {short:?}").contains("canary"), "{short}");
}

/// As the file says in a comment: the token goes with the request, and is in no payload.
#[test]
fn assemblyais_token_can_be_written_by_the_file() {
    let (before, rest) = shipped("assemblyai").unwrap().split_once("\n# body = ").unwrap();
    let (body, rest) = rest.split_once("\n[create]\n").unwrap();
    let text = format!("{before}\n[create]\nbody = {body}\n{rest}");
    let (assemblyai, payload) =
        (connect(&Profile::parse(&text).unwrap()), Payload::from(r#"{"audio_url":"https://a/b.mp3"}"#));
    let key = super::key();
    let request = assemblyai.request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
    let sent: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    let expected = serde_json::json!({
        "audio_url": "https://a/b.mp3", "webhook_url": "https://…", "webhook_auth_header_name": "X-Webhook-Token",
        "webhook_auth_header_value": "canary-ASSEMBLYAI_WEBHOOK_TOKEN",
    });
    assert_eq!(sent, expected);
}

/// Other senders that sign nothing name the job by its key.
#[test]
fn a_token_may_come_with_a_key() {
    let hook =
        "[webhook]\nscheme = { token = { header = \"X-Gitlab-Token\" } }\nsecrets = [\"ACME_HOOK\"]\nkey = \"/tag\"\n";
    let acme = profile(hook).connect(|_| Some("16-byte-canaries".to_owned())).unwrap();
    let headers =
        HeaderMap::from_iter([(HeaderName::from_static("x-gitlab-token"), "16-byte-canaries".parse().unwrap())]);
    let event = acme.webhook(&headers, &Bytes::from_static(br#"{"tag":"order-42","id":"s-1"}"#), WALL).unwrap();
    assert_eq!((event.reference, event.key.unwrap().as_str()), (None, "order-42"));
    assert!(!format!("{acme:?} {headers:?}").contains("gitlab-token: 16-byte"), "{acme:?}");
}

/// Seconds or a text by RFC 3339; what is neither is left out, and then the time of signing counts, if there is one.
#[test]
fn since_when_may_be_a_text() {
    let acme = connect(&profile(&HINT.replace("event_id", "status = \"/status\"\nat = \"/since\"\nevent_id")));
    let at = |since: &str| {
        let body: &'static str = format!(r#"{{"id":"s-1","status":"done","since":{since}}}"#).leak();
        let (headers, body) = hmac("canary-ACME_HOOK", body);
        acme.webhook(&headers, &body, WALL).unwrap().at
    };
    for since in ["1700000000", "\"1700000000\"", "\"2023-11-14T22:13:20Z\"", "\"2023-11-14T17:13:20.000-05:00\""] {
        assert_eq!(at(since), Some(WALL), "{since}");
    }
    assert_eq!(at("\"2023-11-14T22:13:20.25Z\""), Some(Timestamp::from_nanos(1_700_000_000_250_000_000)));
    for since in ["\"yesterday\"", "1.5", "-1", "null", "[]", "true", "\"2023-11-14\""] {
        assert_eq!(at(since), None, "{since}");
    }
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
    // Of two events about an inquiry that has ended the one that was made later counts, in whatever order they come.
    assert_eq!((event.status.as_deref(), event.at), (Some("approved"), Some(Timestamp::from_secs(1_568_069_192))));
}
