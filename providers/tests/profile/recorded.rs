//! The shipped profiles: what each sends, and what recorded answers of public documentation are read as.

use std::collections::BTreeSet;

use steadfast_core::{Key, Kind, Reference, SendSafety};
use steadfast_providers::profile::{Profile, Recorded, RecordedError, SHIPPED, shipped};
use steadfast_providers::{Ask, Payload, Provider};

use super::connect;

type Sent = (Kind, &'static str, &'static str);

/// Each profile with its answers, a payload of its kind, and what its requests look like.
#[rustfmt::skip]
const ALL: &[(&str, &str, &str, &[Sent])] = &[
    ("assemblyai", include_str!("../../profiles/recorded/assemblyai.json"), r#"{"audio_url":"https://assembly.ai/wildfires.mp3"}"#, &[
        (Kind::Create, "POST https://api.assemblyai.com/v2/transcript", r#"{"audio_url":"https://assembly.ai/wildfires.mp3"}"#),
        (Kind::Poll, "GET https://api.assemblyai.com/v2/transcript/9ea68fd3-f953-42c1-9742-976c447fb463", ""),
    ]),
    ("azure-lro", include_str!("../../profiles/recorded/azure-lro.json"), "{}", &[
        (Kind::Create, "POST https://service.contoso.example/jobs:analyze?api-version=2024-01-01 operation-id=order-42", "{}"),
        (Kind::Poll, "GET https://service.contoso.example/operations/aQZ7b?api-version=2024-01-01", ""),
    ]),
    ("deepvue", include_str!("../../profiles/recorded/deepvue.json"), "{}", &[
        (Kind::Create, "POST https://production.deepvue.tech/v1/verification/post-driving-license idempotency-key=order-42", "{}"),
        (Kind::Poll, "GET https://production.deepvue.tech/v1/verification/get-driving-license?transaction_id=abc123def456", ""),
    ]),
    ("didit", include_str!("../../profiles/recorded/didit.json"), "{}", &[
        (Kind::Create, "POST https://verification.didit.me/v3/session/", r#"{"vendor_data":"order-42"}"#),
        (Kind::Lookup, "GET https://verification.didit.me/v3/sessions/?vendor_data=order-42&session_kind=all&limit=10", ""),
        (Kind::Poll, "GET https://verification.didit.me/v3/session/11111111-2222-3333-4444-555555555555/decision/", ""),
    ]),
    ("google-lro", include_str!("../../profiles/recorded/google-lro.json"), "{}", &[
        (Kind::Create, "POST https://us-documentai.googleapis.com/v1/projects/contoso/locations/us/processors/0123456789abcdef:batchProcess", "{}"),
        (Kind::Poll, "GET https://us-documentai.googleapis.com/v1/projects/123/locations/us/operations/456", ""),
    ]),
    ("onfido", include_str!("../../profiles/recorded/onfido.json"), r#"{"workflow_id":"w"}"#, &[
        (Kind::Create, "POST https://api.eu.onfido.com/v3.6/workflow_runs", r#"{"workflow_id":"w"}"#),
        (Kind::Poll, "GET https://api.eu.onfido.com/v3.6/workflow_runs/18f7b7d0-0000-4000-8000-000000000001", ""),
    ]),
    ("persona", include_str!("../../profiles/recorded/persona.json"), r#"{"data":{"attributes":{"inquiry-template-id":"itmpl_1"}}}"#, &[
        (Kind::Create, "POST https://api.withpersona.com/api/v1/inquiries idempotency-key=order-42 persona-version=2023-01-05",
            r#"{"data":{"attributes":{"inquiry-template-id":"itmpl_1"}}}"#),
        (Kind::Poll, "GET https://api.withpersona.com/api/v1/inquiries/inq_ABC123 persona-version=2023-01-05", ""),
    ]),
    ("replicate", include_str!("../../profiles/recorded/replicate.json"), r#"{"version":"v","input":{}}"#, &[
        (Kind::Create, "POST https://api.replicate.com/v1/predictions", r#"{"version":"v","input":{}}"#),
        (Kind::Poll, "GET https://api.replicate.com/v1/predictions/gm3qorzdhgbfurvjtvhg6dckhu", ""),
    ]),
    ("stripe-identity", include_str!("../../profiles/recorded/stripe-identity.json"), "type=document", &[
        (Kind::Create, "POST https://api.stripe.com/v1/identity/verification_sessions content-type=application/x-www-form-urlencoded idempotency-key=order-42",
            "type=document"),
        (Kind::Poll, "GET https://api.stripe.com/v1/identity/verification_sessions/vs_1NuNAILkdIwHu7ixh7OtGMLw", ""),
    ]),
    ("sumsub", include_str!("../../profiles/recorded/sumsub.json"), r#"{"type":"individual"}"#, &[
        (Kind::Create, "POST https://api.sumsub.com/resources/applicants?levelName=basic-kyc-level", r#"{"externalUserId":"order-42","type":"individual"}"#),
        (Kind::Lookup, "GET https://api.sumsub.com/resources/applicants/-/byExternalUserId/order-42", ""),
        (Kind::Poll, "GET https://api.sumsub.com/resources/applicants/5b594ade0a975a36c9349e66/status", ""),
    ]),
    ("textract", include_str!("../../profiles/recorded/textract.json"), r#"{"FeatureTypes":["TABLES"]}"#, &[
        (Kind::Create, "POST https://textract.us-east-1.amazonaws.com/ content-type=application/x-amz-json-1.1 x-amz-target=Textract.StartDocumentAnalysis",
            r#"{"ClientRequestToken":"order-42","FeatureTypes":["TABLES"]}"#),
        (Kind::Poll, "POST https://textract.us-east-1.amazonaws.com/ content-type=application/x-amz-json-1.1 x-amz-target=Textract.GetDocumentAnalysis",
            r#"{"JobId":"2af3e6a1f3b2c4d5"}"#),
    ]),
    ("veriff", include_str!("../../profiles/recorded/veriff.json"), r#"{"verification":{}}"#, &[
        (Kind::Create, "POST https://stationapi.veriff.com/v1/sessions", r#"{"verification":{"vendorData":"order-42"}}"#),
        (Kind::Poll, "GET https://stationapi.veriff.com/v1/sessions/f04bdb47-d3be-4b28-b028-a652feb060b5/decision", ""),
    ]),
];

#[test]
fn every_shipped_profile_has_its_recorded_answers() {
    let names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ALL.iter().map(|(name, ..)| *name).collect::<Vec<_>>());
}

#[test]
fn every_recorded_answer_is_read_as_it_should_be() {
    let mut read = 0;
    for (name, answers, ..) in ALL {
        let profile = Profile::parse(shipped(name).unwrap()).unwrap();
        let answers = Recorded::parse(answers).unwrap();
        let kinds: BTreeSet<&str> =
            answers.iter().map(|answer| if answer.kind == Kind::Poll { "poll" } else { "create" }).collect();
        assert!(answers.len() >= 8 && kinds.len() == 2, "{name}: creates and polls");
        for checked in profile.check(&answers) {
            assert!(checked.expected.is_some(), "{name}: {}", checked.name);
            assert!(checked.agrees(), "{name}: {}: read as {:?}", checked.name, checked.read);
            read += 1;
        }
    }
    println!("{read} recorded answers of {} providers", ALL.len());
}

/// Headers that say who is asking are left out, and the one that every JSON body has.
#[test]
fn every_shipped_profile_sends_what_its_provider_documents() {
    let secret = ["authorization", "x-api-key", "x-app-token", "x-auth-client"];
    for (name, answers, payload, requests) in ALL {
        let provider = connect(&Profile::parse(shipped(name).unwrap()).unwrap());
        let first = &Recorded::parse(answers).unwrap()[0];
        let accepted = provider.profile().check(core::slice::from_ref(first))[0].read.clone();
        let reference = Reference::new(accepted.strip_prefix("accepted ").unwrap()).unwrap();
        let (key, payload) = (Key::new("order-42").unwrap(), Payload::from(*payload));
        for (kind, line, body) in *requests {
            let request = provider.request(&Ask::new(*kind, &key, Some(&reference), &payload)).unwrap();
            let named = request.headers().iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap()));
            let mut shown: Vec<String> = named
                .filter(|header| {
                    header != "content-type=application/json" && !secret.contains(&header.split('=').next().unwrap())
                })
                .collect();
            shown.sort();
            let said = format!("{} {} {}", request.method(), request.uri(), shown.join(" "));
            assert_eq!(
                (said.trim_end(), request.body()),
                (*line, &bytes::Bytes::from_static(body.as_bytes())),
                "{name}"
            );
            assert!(
                request.headers().iter().any(|(name, _)| secret.contains(&name.as_str())) || *name == "textract",
                "{name}"
            );
        }
        let has_lookup = requests.iter().any(|(kind, ..)| *kind == Kind::Lookup);
        assert_eq!(matches!(provider.policy().safety(), SendSafety::Lookup { .. }), has_lookup, "{name}");
    }
}

#[test]
fn an_answer_that_is_read_otherwise_does_not_agree() {
    let acme = Profile::parse(super::ACME).unwrap();
    let agrees = |read: &str| {
        let file =
            format!(r#"{{"answers":[{{"name":"n","kind":"poll","status":200,"body":{{"status":"done"}}{read}}}]}}"#);
        acme.check(&Recorded::parse(&file).unwrap())[0].agrees()
    };
    assert!(agrees(r#","read":"ready""#) && agrees(""));
    assert!(!agrees(r#","read":"reads""#) && !agrees(r#","read":"""#));
}

#[test]
fn recorded_answers_that_are_none_are_refused() {
    let parse = |text: &str| Recorded::parse(text).map(drop);
    assert_eq!(parse(r#"{"answers":[]}"#), Ok(()));
    let one = |rest: &str| parse(&format!(r#"{{"answers":[{{"name":"n","kind":"poll",{rest}}}]}}"#));
    let wrong = |what| Err(RecordedError::Answer { at: 0, what });
    assert_eq!(one(r#""status":200"#), Ok(()));
    assert_eq!(one(r#""status":99"#), wrong("status"));
    assert_eq!(one(r#""status":200,"headers":{"a b":"c"}"#), wrong("header's name"));
    assert_eq!(one(r#""status":200,"headers":{"a":1}"#), wrong("header's value"));
    assert_eq!(one(r#""status":200,"key":"a b""#), wrong("key"));
    for text in ["", "[]", "{}", r#"{"answers":[{}]}"#, r#"{"answers":[],"answer":1}"#] {
        assert!(matches!(parse(text), Err(RecordedError::Json(_))), "{text}");
    }
    let secret = Recorded::parse(r#"{"answers":[{"name":"n","kind":"poll","status":200,"body":"canary"}]}"#).unwrap();
    assert!(!format!("{secret:?}").contains("canary"));
}

/// What was recorded may be a person's, and a file of another form may be all of it.
#[test]
fn what_is_wrong_with_a_file_of_answers_is_told_without_its_texts() {
    for (text, told) in [
        (r#""canary""#, "invalid type, expected an object with `answers` at line 1"),
        (r#"{"answers": "canary, expected here"}"#, "invalid type, expected a sequence at line 1 column 35"),
        (
            r#"{"answers":[{"name":"n","kind":"canary"}]}"#,
            "unknown variant, expected one of `create`, `lookup`, `poll` at line 1",
        ),
        (r#"{"answers":[{"name":"n","kind":"poll","status":"canary"}]}"#, "invalid type, expected u16 at line 1"),
        (r#"{"answers":[{"name":"n","headers":"Bearer canary"}]}"#, "invalid type, expected a map at line 1"),
        ("{\"answers\":[{\"per\\u001bson\":1}]}", "unknown field `per\\u{1b}son`, expected one of `name`, "),
        (r#"{"answers":[{"name":"n"}]}"#, "missing field `kind` at line 1"),
        (r#"{"answers":[{"name":"n","name":"m"}]}"#, "duplicate field `name` at line 1"),
        (r#"{"answers":["#, "EOF while parsing a list at line 1"),
    ] {
        let error = Recorded::parse(text).unwrap_err();
        assert!(error.to_string().contains(told), "{text}: {error}");
        assert!(!format!("{error} {error:?}").contains("canary"), "{error:?}");
    }
    assert_eq!(Recorded::parse("\u{feff}{\"answers\":[]}").unwrap().len(), 0);
}
