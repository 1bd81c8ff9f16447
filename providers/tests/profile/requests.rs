//! What is sent, and what is not sent at all.

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, StatusCode};
use proptest::prelude::*;
use steadfast_core::operation::Reading;
use steadfast_core::retry::Certainty;
use steadfast_core::{Key, Kind, Reference};
use steadfast_providers::profile::{self, ConnectError, Profile};
use steadfast_providers::{Answer, Ask, BaseUrl, Payload, Provider, RequestError};

use super::{ACME, WALL, acme, connect, key, read};

const KEY: &str = r#"key = { header = "Idempotency-Key" }"#;
const POLL: &str = r#"path = "/v1/scans/{reference}""#;
const CREATE: &str = r#"path = "/v1/scans""#;

fn ask(
    profile: &Profile,
    kind: Kind,
    reference: Option<&str>,
    payload: &str,
) -> Result<Request<bytes::Bytes>, RequestError> {
    let (key, payload) = (key(), Payload::from(payload.to_owned()));
    let reference = reference.map(|text| Reference::new(text).unwrap());
    connect(profile).request(&Ask::new(kind, &key, reference.as_ref(), &payload))
}

#[test]
fn a_create_and_a_poll_are_as_the_file_says() {
    let acme = Profile::parse(ACME).unwrap();
    let create = ask(&acme, Kind::Create, None, "any \u{0} bytes").unwrap();
    assert_eq!((create.method(), create.headers().len()), (&Method::POST, 3));
    assert_eq!(create.uri(), "https://api.example.com/kyc/v1/scans");
    assert_eq!(create.headers()[AUTHORIZATION], "Bearer canary-ACME_TOKEN");
    assert_eq!(create.headers()[CONTENT_TYPE], "application/json");
    assert_eq!(create.headers()["idempotency-key"], "order-42");
    assert_eq!(create.body(), "any \u{0} bytes");

    let poll = ask(&acme, Kind::Poll, Some("../x?y#z"), "personal data").unwrap();
    assert_eq!((poll.method(), poll.headers().len()), (&Method::GET, 1));
    assert_eq!(poll.uri(), "https://api.example.com/kyc/v1/scans/..%2Fx%3Fy%23z");
    assert!(poll.body().is_empty());

    assert_eq!(ask(&acme, Kind::Poll, None, "").unwrap_err(), RequestError::NoReference);
    assert_eq!(ask(&acme, Kind::Poll, Some(".."), "").unwrap_err(), RequestError::Unsendable("path"));
    assert_eq!(ask(&acme, Kind::Lookup, None, "").unwrap_err(), RequestError::Unsupported(Kind::Lookup));
}

/// A name such as Google's operations have: its slashes divide the path, and it leads nowhere else.
#[test]
fn a_reference_may_be_a_part_of_the_path() {
    let acme = acme(POLL, r#"path = "/v1/{+reference}:wait""#).unwrap();
    let polled = |reference| ask(&acme, Kind::Poll, Some(reference), "").map(|request| request.uri().to_string());
    let under = |path: &str| Ok(format!("https://api.example.com/kyc/v1/{path}"));
    assert_eq!(polled("projects/7/operations/4 2?a#b%2F"), under("projects/7/operations/4%202%3Fa%23b%252F:wait"));
    assert_eq!(polled("42"), under("42:wait"));
    for elsewhere in ["../admin", "a/../b", "./a", "/a", "//evil.example/a", "a//b"] {
        assert_eq!(polled(elsewhere), Err(RequestError::Unsendable("path")), "{elsewhere}");
    }
    assert_eq!(connect(&acme).route(Kind::Poll).as_deref(), Some("/kyc/v1/{+reference}:wait"));
    let (key, reference) = (key(), Reference::new("projects/7/operations/42").unwrap());
    let request = connect(&acme).request(&Ask::new(Kind::Poll, &key, Some(&reference), &Payload::default())).unwrap();
    assert_eq!(acme.recognise(&request, acme.base_url()).unwrap().reference, Some(reference));
}

/// Azure's Resource Manager signs its operations' URLs, and puts the certificate beside the signature: some 3 KB.
#[test]
fn a_status_url_may_be_as_long_as_a_certificate() {
    let azure = Profile::parse(profile::shipped("azure-lro").unwrap()).unwrap();
    let url = format!("https://service.contoso.example/operations/7?t=1&c={}&s=x", "MIIHHjCC".repeat(350));
    let headers = HeaderMap::from_iter([("operation-location".parse().unwrap(), url.parse().unwrap())]);
    let told = azure.read(&Answer::new(Kind::Create, StatusCode::ACCEPTED, &headers, b"{}", WALL));
    assert_eq!(told, Ok(Reading::Accepted(Reference::new(&url).unwrap())));
    assert_eq!(ask(&azure, Kind::Poll, Some(&url), "").unwrap().uri().to_string(), url);
}

#[test]
fn a_number_with_a_fraction_is_sent_as_one() {
    let acme =
        acme(CREATE, "path = \"/v1/scans\"\nbody = { temperature = 0.7, prompt = \"{payload./prompt}\" }").unwrap();
    let sent = ask(&acme, Kind::Create, None, r#"{"prompt":"x"}"#).unwrap();
    assert_eq!(sent.body(), r#"{"prompt":"x","temperature":0.7}"#);
}

#[test]
fn the_key_goes_where_the_file_says() {
    let sent = |place: &str, payload: &str| ask(&acme(KEY, place).unwrap(), Kind::Create, None, payload);
    let quoted = sent(r#"key = { header = "Idempotency-Key", quoted = true }"#, "").unwrap();
    assert_eq!(quoted.headers()["idempotency-key"], "\"order-42\"");
    let query = sent(r#"key = { query = "request id" }"#, "").unwrap();
    assert_eq!(query.uri().query(), Some("request%20id=order-42"));
    let template = sent(r#"headers = { operation-id = "op-{key}" }"#, "").unwrap();
    assert_eq!(template.headers()["operation-id"], "op-order-42");

    let nested = r#"key = { body = "/meta/client~1id" }"#;
    let body = sent(nested, " {\"n\":1.50, \"meta\" : { \"x\":1 } }").unwrap();
    assert_eq!(body.body(), "{\"n\":1.50, \"meta\" : {\"client/id\":\"order-42\", \"x\":1 } }");
    assert_eq!(sent(nested, r#"{"meta":{}}"#).unwrap().body(), r#"{"meta":{"client/id":"order-42"}}"#);
    let given = r#"{"meta":{"client/id":"order-42"}}"#;
    assert_eq!(sent(nested, given).unwrap().body(), given);
    for payload in [
        "",
        "[]",
        "{}",
        r#"{"meta":[]}"#,
        r#"{"meta":null}"#,
        r#"{"meta":{},"meta":{}}"#,
        r#"{"meta":{"client/id":"canary"}}"#,
        r#"{"meta":{"client/id":"order-42","client/id":"order-42"}}"#,
        r#"{"meta":{}"#,
    ] {
        let error = sent(nested, payload).unwrap_err();
        assert!(
            matches!(error, RequestError::Payload(_)) && !format!("{error}").contains("canary"),
            "{payload}: {error}"
        );
    }
}

/// RFC 8941, section 3.3.3: what a reader of structured fields gets back is the key.
#[test]
fn a_quoted_key_is_one_structured_field() {
    let acme = acme(KEY, r#"key = { header = "Idempotency-Key", quoted = true }"#).unwrap();
    for text in ["plain", "a\"b", "back\\slash", "\\\"", "!~"] {
        let (key, payload) = (Key::new(text).unwrap(), Payload::default());
        let request = connect(&acme).request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
        let item: sfv::Item = sfv::Parser::new(request.headers()["idempotency-key"].as_bytes()).parse().unwrap();
        assert_eq!(item.bare_item.as_string().unwrap().as_str(), text);
    }
}

#[test]
fn json_bodies_are_filled_in_as_text() {
    let poll = "method = \"POST\"\npath = \"/\"\nheaders = { x-target = \"Acme.Get\" }\n\
        body = { JobId = \"{reference}\", Max = 10, Deep = [{ on = true, brace = \"{{}}\" }] }";
    let acme = acme(POLL, poll).unwrap();
    let sent = ask(&acme, Kind::Poll, Some("a\"},{"), "").unwrap();
    assert_eq!(sent.method(), Method::POST);
    assert_eq!(sent.uri(), "https://api.example.com/kyc/");
    assert_eq!(
        (&sent.headers()["x-target"], &sent.headers()[CONTENT_TYPE]),
        (&"Acme.Get".parse().unwrap(), &"application/json".parse().unwrap())
    );
    let json: serde_json::Value = serde_json::from_slice(sent.body()).unwrap();
    assert_eq!(json, serde_json::json!({ "JobId": "a\"},{", "Max": 10, "Deep": [{ "on": true, "brace": "{}" }] }));
}

#[test]
fn a_part_of_the_payload_can_be_filled_in() {
    let acme = acme(CREATE, "path = \"/v1/{payload./flow/id}/scans\"\nheaders = { x-n = \"{payload./n}\" }").unwrap();
    let sent = ask(&acme, Kind::Create, None, r#"{"flow":{"id":"a/b"},"n":7}"#).unwrap();
    assert_eq!(sent.uri(), "https://api.example.com/kyc/v1/a%2Fb/scans");
    assert_eq!(sent.headers()["x-n"], "7");
    for payload in [
        "",
        "{}",
        r#"{"flow":{"id":null},"n":7}"#,
        r#"{"flow":{"id":"a","id":"b"},"n":7}"#,
        r#"{"flow":{"id":["a"]},"n":7}"#,
    ] {
        assert!(matches!(ask(&acme, Kind::Create, None, payload), Err(RequestError::Payload(_))), "{payload}");
    }
    let split = ask(&acme, Kind::Create, None, "{\"flow\":{\"id\":\"..\"},\"n\":7}");
    assert_eq!(split.unwrap_err(), RequestError::Unsendable("path"));
}

#[test]
fn what_is_filled_into_a_header_cannot_split_it() {
    let acme = acme(CREATE, "path = \"/v1/scans\"\nheaders = { x-name = \"{payload./name}\" }").unwrap();
    let sent = ask(&acme, Kind::Create, None, r#"{"name":"a\r\nx-admin: 1"}"#);
    assert_eq!(sent.unwrap_err(), RequestError::Unsendable("header"));
}

/// Credentials go with every poll.
#[test]
fn a_status_url_is_followed_only_to_known_origins() {
    let text = ACME
        .replace(POLL, "url = \"{reference}\"")
        .replace(r#"{ pointer = "/id" }"#, r#"{ header = "Operation-Location" }"#)
        .replace("\n[policy]", "allow_origins = [\"https://status.example.com:8443\"]\n[policy]");
    let acme = Profile::parse(&text).unwrap();
    let read = |lines: &[&str]| {
        let headers = lines.iter().map(|line| ("operation-location".parse().unwrap(), line.parse().unwrap()));
        let headers: HeaderMap = headers.fold(HeaderMap::new(), |mut all, (name, value): (http::HeaderName, _)| {
            all.append(name, value);
            all
        });
        acme.read(&Answer::new(Kind::Create, StatusCode::ACCEPTED, &headers, b"", WALL))
    };
    for (good, url) in [
        ("https://api.example.com/ops/1?v=2", "https://api.example.com/ops/1?v=2"),
        ("https://API.example.com:443/ops/1", "https://API.example.com:443/ops/1"),
        ("https://status.example.com:8443/1", "https://status.example.com:8443/1"),
        ("/ops/1", "https://api.example.com/ops/1"),
    ] {
        assert_eq!(read(&[good]), Ok(Reading::Accepted(Reference::new(good).unwrap())));
        assert_eq!(ask(&acme, Kind::Poll, Some(good), "").unwrap().uri(), url);
    }
    for bad in [
        "https://evil.example/ops/1",
        "http://api.example.com/ops/1",
        "https://api.example.com:444/1",
        "https://status.example.com/1",
        "//evil.example/1",
        "https://api.example.com@evil.example/1",
        "https://user@api.example.com/1",
        "https://user@api.example.com:443/1",
        "https://api.example.com:/1",
        "https://api.example.com:99999/1",
        "ops/1",
        "/\\evil.example/1",
        "https:/api.example.com/1",
        "ftp://api.example.com/",
        "/a#b",
        "",
    ] {
        assert!(read(&[bad]).is_err(), "{bad}");
        if !bad.is_empty() {
            assert_eq!(
                ask(&acme, Kind::Poll, Some(bad), "").unwrap_err(),
                RequestError::Unsendable("reference"),
                "{bad}"
            );
        }
    }
    assert!(read(&["/ops/1", "/ops/2"]).is_err(), "two of them");
    assert!(read(&[]).is_err());
    let elsewhere = acme.connect_at(BaseUrl::parse("http://127.0.0.1:8080").unwrap(), |_| Some("x".into())).unwrap();
    let (key, payload, reference) = (key(), Payload::default(), Reference::new("http://127.0.0.1:8080/ops/1").unwrap());
    let poll = elsewhere.request(&Ask::new(Kind::Poll, &key, Some(&reference), &payload)).unwrap();
    assert_eq!(poll.uri(), "http://127.0.0.1:8080/ops/1");
}

#[test]
fn secrets_come_from_the_environment_or_nothing_is_connected() {
    let acme = Profile::parse(ACME).unwrap();
    assert_eq!(acme.secrets(), [("create.headers".to_owned(), "ACME_TOKEN")]);
    let missing = acme.connect(|_| None).unwrap_err();
    assert_eq!(missing, ConnectError::Missing { variable: "ACME_TOKEN".into(), field: "create.headers".into() });
    for bad in ["", "canary\n", "canar y", "canaré"] {
        let error = acme.connect(|_| Some(bad.to_owned())).unwrap_err();
        assert!(matches!(error, ConnectError::Secret { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("canar"), "{error}");
    }

    let provider = acme.connect(|_| Some("today".to_owned())).unwrap();
    let clone = provider.clone();
    let sent = || {
        let (key, payload) = (key(), Payload::default());
        clone.request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap().headers()[AUTHORIZATION].clone()
    };
    provider.renew(|_| Some("tomorrow".to_owned())).unwrap();
    assert_eq!(sent(), "Bearer tomorrow");
    provider.renew(|_| None).unwrap_err();
    assert_eq!(sent(), "Bearer tomorrow", "the old ones stay");
}

/// An id of today's with a secret of yesterday's is refused, and with it the job.
#[test]
fn a_request_has_all_its_secrets_of_one_renewal() {
    let headers = "headers = { x-id = \"{env.ACME_ID}\", x-secret = \"{env.ACME_SECRET}\" }";
    let acme = acme(r#"headers = { authorization = "Bearer {env.ACME_TOKEN}" }"#, headers).unwrap();
    let provider = acme.connect(|_| Some("0".to_owned())).unwrap();
    let (key, payload) = (key(), Payload::from("{}"));
    std::thread::scope(|scope| {
        let renewed = provider.clone();
        let renewing = scope.spawn(move || (1..20_000).all(|n| renewed.renew(|_| Some(n.to_string())).is_ok()));
        while !renewing.is_finished() {
            let create = provider.request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
            assert_eq!(create.headers()["x-id"], create.headers()["x-secret"]);
        }
        assert!(renewing.join().unwrap());
    });
}

#[test]
fn numbers_are_references_only_where_the_file_says_so() {
    let acme_number = acme(r#"{ pointer = "/id" }"#, r#"{ pointer = "/id", number = true }"#).unwrap();
    let accepted = |id: &str| Ok(Reading::Accepted(Reference::new(id).unwrap()));
    assert_eq!(read(&acme_number, Kind::Create, 201, r#"{"id":12}"#), accepted("12"));
    assert_eq!(read(&acme_number, Kind::Create, 201, r#"{"id":"12"}"#), accepted("12"));
    for body in [r#"{"id":1.5}"#, r#"{"id":123456789012345678901234567890}"#, r#"{"id":{}}"#] {
        assert!(read(&acme_number, Kind::Create, 201, body).is_err(), "{body}");
    }
    assert!(read(&Profile::parse(ACME).unwrap(), Kind::Create, 201, r#"{"id":12}"#).is_err());
    // What a provider says in the place of an id where there is none.
    for none in ["false", "true", "7.0", "[7]"] {
        let failure = read(&acme_number, Kind::Create, 200, &format!(r#"{{"id":{none}}}"#)).unwrap_err();
        assert_eq!(failure.certainty, Certainty::MayHaveExecuted, "{none}");
    }
}

proptest! {
    /// R42.
    #[test]
    fn no_secret_or_personal_data_is_shown(reference in "[ -~]{1,40}", payload in ".{0,40}") {
        let profile = Profile::parse(&ACME.replace("/v1/scans\"", "/v1/{env.ACME_ACCOUNT}/scans\"")).unwrap();
        let provider = connect(&profile);
        let (key, payload) = (Key::new("canary-key").unwrap(), Payload::from(format!("canary{payload}")));
        let reference = Reference::new(format!("canary{reference}")).unwrap();
        let mut shown = format!("{provider:?} {provider:#?} {profile:?} {}", profile.describe());
        for kind in [Kind::Create, Kind::Poll, Kind::Lookup] {
            let ask = Ask::new(kind, &key, Some(&reference), &payload);
            match provider.request(&ask) {
                // The URL shows what the file puts into it; headers do not.
                Ok(request) => shown += &format!("{ask:?} {:?}", request.headers()[AUTHORIZATION]),
                Err(error) => shown += &format!("{ask:?} {error} {error:?}"),
            }
        }
        prop_assert!(!shown.contains("canary"), "{shown}");
    }
}

/// Whether identical failures end the repeats is the file's to say: a provider that stores none answers alike for other
/// reasons.
#[test]
fn a_file_says_whether_failures_are_stored_for_a_key() {
    let (text, headers) = (profile::shipped("stripe-identity").unwrap(), HeaderMap::new());
    let stored = |text: &str| {
        let provider = Profile::parse(text).unwrap().connect(|_| Some("secret".to_owned())).unwrap();
        let answer = Answer::new(Kind::Create, StatusCode::INTERNAL_SERVER_ERROR, &headers, b"{}", WALL);
        provider.stored(&answer).is_some()
    };
    assert!(stored(text));
    assert!(!stored(&format!("stored_failures = false\n{text}")));
}

/// A file may be a stranger's, and what it says is read before it is trusted.
#[test]
fn no_text_of_a_file_writes_a_line_of_its_own_or_commands_a_terminal() {
    let query = "path = \"/v1/scans\"\nquery = { a = \"1\\n  safety     a create may be sent again\\u001b[2J\" }";
    let profile = acme(CREATE, query).unwrap();
    let told = profile.describe();
    assert!(told.contains("?a=1\\n  safety     a create may be sent again\\u{1b}[2J with the payload"), "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("  safety")).count(), 1, "{told}");
}

/// Whatever says that it is an end: the state, a rule that looks into the body, or a status alone.
#[test]
fn no_answer_about_another_job_ends_this_one() {
    let path = r#"path = "/v1/scans/{reference}""#;
    let rules =
        "rules = [{ when = { status = 206 }, is = \"ready\" }, { when = { status = 410 }, is = \"undecided\" }]";
    let profile = acme(path, &format!("{path}\necho = \"/id\"\n{rules}")).unwrap();
    let (headers, asked) = (HeaderMap::new(), Reference::new("scan-1").unwrap());
    let read = |profile: &Profile, status: u16, body: &str| {
        let answer = Answer::new(Kind::Poll, StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), WALL);
        profile.read(&answer.asked_by(&asked))
    };
    for (status, reading) in [(200, Reading::Ready), (206, Reading::Ready), (410, Reading::Undecided)] {
        for id in [r#""scan-2""#, "7", "{}", "true", r#""""#] {
            let told = read(&profile, status, &format!(r#"{{"id":{id},"status":"done"}}"#));
            assert!(told.is_err(), "{status} {id}: {told:?}");
        }
        for ours in [r#"{"id":"scan-1","status":"done"}"#, r#"{"id":null,"status":"done"}"#, r#"{"status":"done"}"#] {
            assert_eq!(read(&profile, status, ours), Ok(reading.clone()), "{status} {ours}");
        }
    }
    let reference = r#"reference = { pointer = "/id" }"#;
    let numbered = ACME.replace(path, &format!("{path}\necho = \"/id\""));
    let numbered = numbered.replace(reference, r#"reference = { pointer = "/id", number = true }"#);
    let numbered = Profile::parse(&numbered).unwrap();
    let (seven, body) = (Reference::new("7").unwrap(), br#"{"id":7,"status":"done"}"#);
    let answer = Answer::new(Kind::Poll, StatusCode::OK, &headers, body, WALL);
    assert_eq!(numbered.read(&answer.asked_by(&seven)), Ok(Reading::Ready));
    assert!(numbered.read(&answer.asked_by(&asked)).is_err());
}
