//! A profile backwards: what it reads it can say, and what it asks it recognises.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, StatusCode};
use proptest::prelude::*;
use steadfast_core::operation::Reading;
use steadfast_core::{Key, Kind, Reference};
use steadfast_providers::profile::{Profile, ProfileProvider, Recorded, SHIPPED, Saying, Unrecognised};
use steadfast_providers::{Answer, Ask, Payload, Provider};

use super::{ACME, WALL, connect, key};

struct Shipped {
    name: &'static str,
    profile: Profile,
    provider: ProfileProvider,
}

fn shipped() -> &'static [Shipped] {
    static PROFILES: LazyLock<Vec<Shipped>> = LazyLock::new(|| {
        let connected = |(name, text): &(&'static str, &str)| {
            let profile = Profile::parse(text).unwrap();
            Shipped { name, provider: connect(&profile), profile }
        };
        SHIPPED.iter().map(connected).collect()
    });
    &PROFILES
}

const KINDS: [Kind; 3] = [Kind::Create, Kind::Lookup, Kind::Poll];
const HINTLESS: Option<Duration> = None;

/// What the connected provider reads in what its profile says.
fn read_back(Shipped { name, profile, provider }: &Shipped, saying: &Saying<'_>) -> Option<Bytes> {
    let said = profile.say(saying)?;
    let mut answer = Answer::new(saying.kind, said.status(), said.headers(), said.body(), WALL);
    answer.key = saying.key;
    let read = provider.read(&answer);
    assert_eq!(read.as_ref(), Ok(saying.reading), "{name}: {said:?}");
    Some(profile.result(said.body()))
}

#[test]
fn each_shipped_profile_says_what_its_provider_can() {
    let reference = |profile: &Profile| Reading::Accepted(profile.reference_of("job-1").unwrap());
    let polled = [
        ("pending", Reading::Pending { hint: HINTLESS }),
        ("awaiting", Reading::AwaitingPerson { hint: HINTLESS }),
        ("partial", Reading::Partial),
        ("ready", Reading::Ready),
        ("undecided", Reading::Undecided),
        ("failed", Reading::Failed),
        ("not-found", Reading::NotFound),
        ("unknown", Reading::Unknown("moonstruck".into())),
    ];
    let mut told = Vec::new();
    for shipped in shipped() {
        let key = key();
        let says = |kind, reading: &Reading| read_back(shipped, &Saying::new(kind, reading).about(&key)).is_some();
        let mut words = Vec::new();
        for (word, kind, reading) in [
            ("created", Kind::Create, reference(&shipped.profile)),
            ("found", Kind::Lookup, reference(&shipped.profile)),
            ("absent", Kind::Lookup, Reading::NotFound),
        ] {
            words.extend(says(kind, &reading).then_some(word));
        }
        words.extend(polled.iter().filter(|(_, reading)| says(Kind::Poll, reading)).map(|(word, _)| *word));
        told.push(format!("{}: {}", shipped.name, words.join(" ")));
    }
    assert_eq!(
        told,
        [
            "assemblyai: created pending ready failed not-found unknown",
            "azure-lro: created pending ready undecided failed not-found unknown",
            "deepvue: created pending partial ready failed not-found unknown",
            "didit: created found absent pending awaiting ready undecided not-found unknown",
            "google-lro: created pending ready undecided failed not-found unknown",
            "onfido: created pending awaiting ready undecided failed not-found unknown",
            "persona: created awaiting ready undecided not-found unknown",
            "replicate: created pending ready undecided failed not-found unknown",
            "stripe-identity: created pending awaiting ready undecided not-found unknown",
            "sumsub: created found absent pending awaiting ready not-found unknown",
            "textract: created pending ready failed not-found unknown",
            "veriff: created pending awaiting ready undecided not-found unknown",
        ]
    );
}

/// The profiles' own recorded answers, each with the key it is about.
fn recorded(name: &str) -> Vec<Recorded> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/recorded");
    Recorded::parse(&std::fs::read_to_string(format!("{folder}/{name}.json")).unwrap()).unwrap()
}

#[test]
fn whatever_a_recorded_answer_is_read_as_can_be_said() {
    let mut said = 0;
    for shipped in shipped() {
        for Recorded { name, kind, status, headers, body, key, wall, .. } in recorded(shipped.name) {
            let mut answer = Answer::new(kind, status, &headers, &body, wall);
            answer.key = key.as_ref();
            let Ok(reading) = shipped.profile.read(&answer) else { continue };
            // A list without a key has nothing to be known by.
            let key = key.unwrap_or_else(super::key);
            let again = read_back(shipped, &Saying::new(kind, &reading).about(&key));
            assert!(again.is_some(), "{}: {name}: {reading:?}", shipped.name);
            said += 1;
        }
    }
    assert!(said > 60, "{said}");
}

#[test]
fn rules_are_said_too() {
    let state = ACME.lines().find(|line| line.starts_with("state")).unwrap();
    let ruled = |rules: &str| Profile::parse(&format!("{}{rules}", ACME.replace(state, ""))).unwrap();
    let says = |profile: &Profile, reading: &Reading| {
        profile.say(&Saying::new(Kind::Poll, reading)).map(|said| (said.status().as_u16(), said.body().clone()))
    };
    let acme = ruled(
        r#"
        [[poll.rules]]
        when = { status = "4xx", header = { name = "x-state", contains = "wait" }, body = { pointer = "/n/1", equals = 7 } }
        is = "awaiting-review"
        [[poll.rules]]
        when = { status = [400, 409], body = { contains = "never" } }
        is = "failed"
        [[poll.rules]]
        when = { body = [{ pointer = "/done", equals = [false, true] }, { pointer = "/error", empty = true }] }
        is = "ready"
        [[poll.rules]]
        when = { body = [{ pointer = "/done", present = false }, { pointer = "/late", empty = false }] }
        is = "undecided"
        "#,
    );
    assert_eq!(says(&acme, &Reading::AwaitingPerson { hint: None }), Some((404, r#"{"n":[null,7]}"#.into())));
    assert_eq!(says(&acme, &Reading::Failed), Some((400, r#"{"message":"never"}"#.into())));
    assert_eq!(says(&acme, &Reading::Undecided), Some((200, r#"{"late":true}"#.into())));
    assert_eq!(says(&acme, &Reading::Pending { hint: None }), Some((202, "{}".into())), "by the status alone");
    assert_eq!(says(&acme, &Reading::Partial), None);

    // A rule's state may say it by having no word.
    let wordless = ruled(
        "[[poll.rules]]\nwhen = { status = 410 }\nstate = { pointer = \"/s\", values = { a = \"failed\" }, missing = \"not-found\" }",
    );
    assert_eq!(says(&wordless, &Reading::NotFound), Some((410, "{}".into())));
    assert_eq!(says(&wordless, &Reading::Failed), Some((410, r#"{"s":"a"}"#.into())));

    // One rule has to let the answer pass, for another to decide.
    let passing = ruled(
        "[[poll.rules]]\nstate = { pointer = \"/s\", values = { over = \"next\" }, missing = \"pending\" }\n\
         [[poll.rules]]\nwhen.body = { pointer = \"/n\", equals = 3 }\nis = \"failed\"",
    );
    assert_eq!(says(&passing, &Reading::Failed), Some((200, r#"{"n":3,"s":"over"}"#.into())));
    assert_eq!(says(&passing, &Reading::Unknown("odd".into())), Some((200, r#"{"s":"odd"}"#.into())));

    // The first rule takes one of the words away from the second.
    let shadowed = ruled(
        "[[poll.rules]]\nwhen.body = { pointer = \"/s\", equals = \"a\" }\nis = \"failed\"\n\
         [[poll.rules]]\nwhen.body = { pointer = \"/s\", equals = [\"a\", \"b\"] }\nis = \"partial\"",
    );
    assert_eq!(says(&shadowed, &Reading::Partial), Some((200, r#"{"s":"b"}"#.into())));
}

#[test]
fn a_result_stands_where_it_is_looked_for() {
    for shipped in shipped() {
        let saying = Saying::new(Kind::Poll, &Reading::Ready).with_result(r#"{"score":[1.5,null]}"#);
        let result = read_back(shipped, &saying).unwrap();
        let result: serde_json::Value = serde_json::from_slice(&result).unwrap();
        assert_eq!(result["score"], serde_json::json!([1.5, null]), "{}", shipped.name);
    }
    let replicate = shipped().iter().find(|shipped| shipped.name == "replicate").unwrap();
    let saying = Saying::new(Kind::Poll, &Reading::Ready);
    assert_eq!(read_back(replicate, &saying.with_result("[\"a\"]")).unwrap(), "[\"a\"]");
    assert!(replicate.profile.say(&saying.with_result("{")).is_none(), "no JSON");
    let onfido = shipped().iter().find(|shipped| shipped.name == "onfido").unwrap();
    assert!(
        onfido.profile.say(&saying.with_result("7")).is_none(),
        "where the whole body is the result, it has a status"
    );
    assert!(onfido.profile.say(&saying.with_result(r#"{"status":"mine"}"#)).is_none(), "the status is the profile's");

    // A place that must stay empty is passed over.
    let two = "path = \"/v1/scans/{reference}\"\nresult = [\"/data\", \"/output\"]";
    let rule = "[[poll.rules]]\nwhen.body = { pointer = \"/data\", empty = true }\nis = \"ready\"";
    let acme = ACME.replace("path = \"/v1/scans/{reference}\"", two).replace("done = \"ready\"", "done = \"failed\"");
    let said = Profile::parse(&format!("{acme}{rule}")).unwrap().say(&saying.with_result("[1]")).unwrap();
    assert_eq!(said.body(), r#"{"output":[1]}"#);
}

#[test]
fn a_request_of_another_is_not_recognised() {
    let (acme, payload, key) = (Profile::parse(ACME).unwrap(), Payload::from("{}"), key());
    let request = connect(&acme).request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
    let recognised = |request: &Request<Bytes>| acme.recognise(request, acme.base_url()).map(|asked| asked.kind);
    let with = |change: &dyn Fn(&mut Request<Bytes>)| {
        let mut request = request.clone();
        change(&mut request);
        recognised(&request)
    };
    assert_eq!(with(&|_| {}), Ok(Kind::Create));
    assert_eq!(with(&|request| *request.uri_mut() = "/kyc/v1/scans".parse().unwrap()), Ok(Kind::Create));
    let (endpoint, credentials) = (Err(Unrecognised::Endpoint), Err(Unrecognised::Credentials));
    assert_eq!(with(&|request| *request.method_mut() = Method::PUT), endpoint);
    for other in ["/v1/scans", "/kyc/v1/scans/", "/kyc/v1", "/kyc/v1/scans/%ff"] {
        assert_eq!(with(&|request| *request.uri_mut() = other.parse().unwrap()), endpoint, "{other}");
    }
    assert_eq!(with(&|request| drop(request.headers_mut().remove("authorization"))), credentials);
    let everywhere = Profile::parse(EVERYWHERE).unwrap();
    let payload = Payload::from(r#"{"day":"d","of":{"region":"eu","name":"n"}}"#);
    let request = connect(&everywhere).request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
    let another = request.clone().map(|body| String::from_utf8(body.to_vec()).unwrap().replace("order-42", "b").into());
    assert!(everywhere.recognise(&request, everywhere.base_url()).is_ok());
    assert_eq!(everywhere.recognise(&another, everywhere.base_url()), Err(Unrecognised::Endpoint), "two keys");
    assert_eq!(
        with(&|request| drop(request.headers_mut().insert("authorization", "Basic x".parse().unwrap()))),
        credentials
    );
}

/// A profile that fills in everywhere.
const EVERYWHERE: &str = r#"
name = "acme/everywhere"
base_url = "https://api.example.com/kyc"
headers = { authorization = "Bearer {env.ACME_TOKEN}", x-mode = "live" }

[create]
method = "PUT"
path = "/v1/{payload./of/region}/scans/"
query = { id = "a-{key}", day = "{payload./day}", token = "{env.ACME_TOKEN}" }
headers = { x-day = "{payload./day}" }
body = { list = [1, true, "{payload./of/name}", { deep = "<{key}>" }] }
reference = { pointer = "/id" }

[lookup]
path = "/v1/find"
query = { q = "key:{key}" }

[poll]
method = "POST"
path = "/v1/{key}/{reference}.json"
"#;

/// Anything that can be a key.
fn any_key() -> impl Strategy<Value = Key> {
    prop_oneof![4 => "[!-~]{1,40}", 1 => "[!-~]{200,255}"].prop_map(|text| Key::new(text).unwrap()).boxed()
}

/// Ids, URLs, and what no one would think of.
fn any_reference() -> impl Strategy<Value = Reference> {
    prop_oneof!["[A-Za-z0-9_-]{1,128}", "/[!-~]{0,40}", "\\PC{1,40}"]
        .prop_filter_map("a reference", |text| Reference::new(text).ok())
        .boxed()
}

/// An object into which every shipped profile can put its key.
fn any_payload() -> impl Strategy<Value = Payload> {
    let space = || prop::sample::select(vec!["", " ", "\n\t"]);
    (space(), space(), prop::option::of("[a-z{}\\[\\] ]{0,20}"))
        .prop_map(|(here, there, text)| {
            let more = text.map_or(String::new(), |text| format!("{here}\"text\":\"{text}\"{there}"));
            let comma = if more.is_empty() { "" } else { "," };
            Payload::from(format!("{{{here}\"verification\":{there}{{{more}}}{comma}{more}{here}}}"))
        })
        .boxed()
}

fn any_reading() -> impl Strategy<Value = (Kind, Reading)> {
    let hint = || prop::option::of((0_u64..1_000_000).prop_map(Duration::from_secs));
    let reading = prop_oneof![
        3 => any_reference().prop_map(Reading::Accepted),
        2 => hint().prop_map(|hint| Reading::Pending { hint }),
        2 => hint().prop_map(|hint| Reading::AwaitingPerson { hint }),
        1 => prop::sample::select(vec![Reading::Partial, Reading::Ready, Reading::Undecided, Reading::Failed, Reading::NotFound]),
        1 => "\\PC{1,20}".prop_map(|text| Reading::Unknown(text.into())),
    ];
    (prop::sample::select(&KINDS[..]), reading).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_said_is_read_as_what_was_said(
        (kind, reading) in any_reading(), key in any_key(), result in prop::option::of(Just("{\"n\":1}")),
    ) {
        for shipped in shipped() {
            let mut saying = Saying::new(kind, &reading).about(&key);
            saying.result = result;
            read_back(shipped, &saying);
        }
    }

    /// Nothing that can be read is beyond what can be said.
    #[test]
    fn whatever_is_read_can_be_said(
        kind in prop::sample::select(&KINDS[..]), status in prop_oneof![8 => Just(200_u16), 1 => 200..=299_u16, 1 => 400..=599_u16],
        body in super::properties::body(), wait in prop::option::of(0_u32..100_000), key in any_key(),
    ) {
        let mut headers = HeaderMap::from_iter([("operation-location".parse().unwrap(), HeaderValue::from_static("/op/1"))]);
        headers.extend(wait.map(|wait| (RETRY_AFTER, HeaderValue::from(wait))));
        for shipped in shipped() {
            let mut answer = Answer::new(kind, StatusCode::from_u16(status).unwrap(), &headers, &body, WALL);
            answer.key = Some(&key);
            if let Ok(reading) = shipped.provider.read(&answer) {
                let again = read_back(shipped, &Saying::new(kind, &reading).about(&key));
                prop_assert!(again.is_some(), "{}: {reading:?}", shipped.name);
            }
        }
    }

    #[test]
    fn what_is_accepted_can_always_be_said(key in any_key(), id in "[A-Za-z0-9_-]{1,100}") {
        for shipped in shipped() {
            let accepted = Reading::Accepted(shipped.profile.reference_of(&id).unwrap());
            let saying = |kind| Saying::new(kind, &accepted).about(&key);
            prop_assert!(read_back(shipped, &saying(Kind::Create)).is_some(), "{}", shipped.name);
            let has_lookup = ["didit", "sumsub"].contains(&shipped.name);
            prop_assert_eq!(read_back(shipped, &saying(Kind::Lookup)).is_some(), has_lookup, "{}", shipped.name);
        }
    }

    #[test]
    fn what_is_asked_is_recognised(
        kind in prop::sample::select(&KINDS[..]), key in any_key(), reference in any_reference(), payload in any_payload(),
    ) {
        for Shipped { name, profile, provider } in shipped() {
            let ask = Ask::new(kind, &key, Some(&reference), &payload);
            let Ok(request) = provider.request(&ask) else { continue };
            let asked = profile.recognise(&request, profile.base_url());
            let asked = asked.unwrap_or_else(|error| panic!("{name}: {error}: {request:?}"));
            prop_assert_eq!(asked.kind, kind, "{}", name);
            let bears_key = match kind {
                Kind::Create => !["assemblyai", "google-lro", "onfido", "replicate"].contains(name),
                kind => kind == Kind::Lookup,
            };
            prop_assert_eq!(asked.key.as_ref(), bears_key.then_some(&key), "{}", name);
            prop_assert_eq!(asked.reference.as_ref(), (kind == Kind::Poll).then_some(&reference), "{}", name);
            let sent = if kind == Kind::Create { payload.clone() } else { Payload::default() };
            prop_assert_eq!(asked.payload.bytes(), sent.bytes(), "{}", name);
        }
    }

    #[test]
    fn what_is_asked_in_odd_places_is_recognised(
        kind in prop::sample::select(&KINDS[..]), key in any_key(), reference in any_reference(), name in "\\PC{0,20}", day in "[!-~]{1,20}",
    ) {
        let profile = Profile::parse(EVERYWHERE).unwrap();
        let payload = serde_json::json!({ "day": day, "of": { "region": "eu", "name": name } });
        let (sent, provider) = (Payload::from(payload.to_string()), connect(&profile));
        let Ok(request) = provider.request(&Ask::new(kind, &key, Some(&reference), &sent)) else { return Ok(()) };
        let asked = profile.recognise(&request, profile.base_url()).unwrap();
        prop_assert_eq!((asked.kind, asked.key.as_ref()), (kind, Some(&key)));
        match kind {
            Kind::Create => {
                let taken: serde_json::Value = serde_json::from_slice(asked.payload.bytes()).unwrap();
                prop_assert_eq!(taken, payload);
            }
            Kind::Poll => prop_assert_eq!(asked.reference.as_ref(), Some(&reference)),
            _ => prop_assert_eq!(asked.reference.as_ref(), None),
        }
        // Recognised is as good as asked: the same request again.
        let (key, reference) = (asked.key.unwrap(), asked.reference.unwrap_or(reference));
        let again = provider.request(&Ask::new(kind, &key, Some(&reference), &sent)).unwrap();
        prop_assert_eq!(again.uri(), request.uri());
    }
}
