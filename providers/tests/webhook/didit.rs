//! Didit's three signatures: which are believed, in which order, and what each of them covers.
//!
//! The known answers are Python's: `didit/vectors.py` makes them, and needs nothing but Python to run.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::Value;
use steadfast_core::Timestamp;
use steadfast_providers::webhook::{Covered, DiditSignatures, MAX_BODY, Scheme, SetupError, Verifier, WebhookError};

use crate::{NOW, now, verifier};

const ALL: DiditSignatures = DiditSignatures { raw: true, canonical: true, simple: true };
const RAW: DiditSignatures = DiditSignatures { raw: true, canonical: false, simple: false };
const V2: DiditSignatures = DiditSignatures { raw: false, canonical: true, simple: false };
const SIMPLE: DiditSignatures = DiditSignatures { raw: false, canonical: false, simple: true };

const EVENT: &str = r#"{"decision":{"score":98.5},"event_id":"evt-1","session_id":"5b37-20ed","status":"Approved","timestamp":1700000000,"webhook_type":"status.updated"}"#;
/// The same as some middleware writes it.
const REWRITTEN: &str = r#"{ "timestamp": 1.7e9, "status": "\u0041pproved", "session_id": "5b37-20ed",
    "webhook_type": "status.updated", "event_id": "evt-1", "decision": { "score": 98.50 } }"#;

fn didit(accepted: DiditSignatures) -> Verifier {
    verifier(&Scheme::Didit(accepted), &["secret"])
}

/// As Didit sends it: with all its signatures.
fn sent(body: &str) -> HeaderMap {
    didit(ALL).sign("", now(), body.as_bytes()).unwrap()
}

fn name(text: &'static str) -> HeaderName {
    HeaderName::from_static(text)
}

/// What `X-Signature-V2` signs, made visible: the raw signature of the canonical form is the same.
fn v2(body: &str) -> Option<HeaderValue> {
    didit(V2).sign("", now(), body.as_bytes()).unwrap().remove("x-signature-v2")
}

fn raw(body: &str) -> HeaderValue {
    didit(RAW).sign("", now(), body.as_bytes()).unwrap()["x-signature"].clone()
}

#[test]
fn known_answers_of_python() {
    assert!(include_str!("didit/vectors.py").contains("json.dumps"), "the script that made them is kept beside them");
    let file: Value = serde_json::from_str(include_str!("didit/vectors.json")).unwrap();
    let ours = Verifier::new(Scheme::Didit(ALL), [file["secret"].as_str().unwrap()]).unwrap();
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let (what, body) = (&case["name"], case["body"].as_str().unwrap());
        let headers = ours.sign("", now(), body.as_bytes()).unwrap();
        assert_eq!(headers["x-signature"], case["raw"].as_str().unwrap(), "{what}");
        assert_eq!(headers["x-signature-v2"], case["v2"].as_str().unwrap(), "{what}: {}", case["canonical"]);
        // Python writes whatever it finds there; what is no event of Didit's has none here.
        let is_event = body.contains("\"webhook_type\"");
        if is_event {
            assert_eq!(headers["x-signature-simple"], case["simple"].as_str().unwrap(), "{what}");
        }
        let canonical = case["canonical"].as_str().unwrap();
        let again = ours.sign("", now(), canonical.as_bytes()).unwrap();
        assert_eq!(
            (&again["x-signature"], &again["x-signature-v2"]),
            (&headers["x-signature-v2"], &headers["x-signature-v2"])
        );
    }
    println!("vectors.json: {} of {} cases replayed", cases.len(), cases.len());
    assert_eq!(cases.len(), 391);
}

#[test]
fn the_best_signature_that_is_right_counts() {
    let covers = |accepted, headers: &HeaderMap, body: &str| {
        didit(accepted).verify(headers, body.as_bytes(), now()).map(|verified| (verified.covers, verified.id))
    };
    let (id, headers) = (Some("evt-1".into()), sent(EVENT));
    assert_eq!(headers.len(), 4);
    for accepted in [ALL, RAW, V2, DiditSignatures::default()] {
        assert_eq!(covers(accepted, &headers, EVENT), Ok((Covered::Body, id.clone())));
    }
    // Nobody signs the id for this one.
    assert_eq!(covers(SIMPLE, &headers, EVENT), Ok((Covered::Hint, None)));
    // Written anew on its way: X-Signature is wrong now, and X-Signature-V2 is right.
    for accepted in [ALL, V2, DiditSignatures::default()] {
        assert_eq!(covers(accepted, &headers, REWRITTEN), Ok((Covered::Body, id.clone())));
    }
    assert_eq!(covers(RAW, &headers, REWRITTEN), Err(WebhookError::NoMatch(name("x-signature"))));
    // Altered where only the first two look.
    let altered = EVENT.replace("98.5", "12.5");
    assert_eq!(covers(ALL, &headers, &altered), Ok((Covered::Hint, None)));
    assert_eq!(covers(DiditSignatures::default(), &headers, &altered), Err(WebhookError::NoMatch(name("x-signature"))));
    assert_eq!(covers(V2, &headers, &altered), Err(WebhookError::NoMatch(name("x-signature-v2"))));
    // Altered where all of them look.
    for (from, to) in [("Approved", "Declined"), ("5b37", "6b37"), ("1700000000", "1700000001"), ("updated", "done")] {
        let altered = EVENT.replace(from, to);
        assert!(covers(ALL, &headers, &altered).is_err(), "{altered}");
    }
}

#[test]
fn one_that_is_not_accepted_does_not_stand_in() {
    let headers = sent(EVENT);
    let only = |kept: &'static str| HeaderMap::from_iter([(name(kept), headers[kept].clone())]);
    let verify = |accepted, headers: &HeaderMap| didit(accepted).verify(headers, EVENT.as_bytes(), now());
    for (accepted, header, others) in [
        (RAW, "x-signature", ["x-signature-v2", "x-signature-simple"]),
        (V2, "x-signature-v2", ["x-signature", "x-signature-simple"]),
        (SIMPLE, "x-signature-simple", ["x-signature", "x-signature-v2"]),
    ] {
        assert!(verify(accepted, &only(header)).is_ok());
        for other in others {
            assert_eq!(verify(accepted, &only(other)), Err(WebhookError::Missing(name(header))));
            // Nor does its signature under this one's name, unless it is the same: of a body that is written
            // canonically.
            if headers[other] != headers[header] {
                let moved = HeaderMap::from_iter([(name(header), headers[other].clone())]);
                assert_eq!(verify(accepted, &moved), Err(WebhookError::NoMatch(name(header))));
            }
        }
    }
    let simple = only("x-signature-simple");
    assert_eq!(verify(DiditSignatures::default(), &simple), Err(WebhookError::Missing(name("x-signature"))));
    let none = DiditSignatures { raw: false, canonical: false, simple: false };
    assert_eq!(Verifier::new(Scheme::Didit(none), ["secret"]).err(), Some(SetupError::NoSignature));
}

#[test]
fn an_accepted_header_that_is_malformed_or_there_twice_is_not_passed_over() {
    for header in ["x-signature", "x-signature-v2", "x-signature-simple"] {
        let mut twice = sent(EVENT);
        twice.append(header, twice[header].clone());
        let got = didit(ALL).verify(&twice, EVENT.as_bytes(), now());
        assert_eq!(got, Err(WebhookError::Repeated(name(header))));
        for (text, expected) in [("", None), ("0", Some(())), (&"A".repeat(64), Some(())), (&"07".repeat(33), Some(()))]
        {
            let mut headers = sent(EVENT);
            headers.insert(header, text.parse().unwrap());
            let got = didit(ALL).verify(&headers, EVENT.as_bytes(), now());
            match expected {
                None => assert_eq!(got, Err(WebhookError::Missing(name(header)))),
                Some(()) => {
                    assert!(matches!(&got, Err(WebhookError::Malformed { header: it, .. }) if it == header), "{got:?}")
                }
            }
        }
        // Of one that is not accepted nobody looks at anything.
        let mut headers = sent(EVENT);
        headers.insert("x-signature-simple", HeaderValue::from_static("?"));
        assert!(didit(DiditSignatures::default()).verify(&headers, EVENT.as_bytes(), now()).is_ok());
    }
}

/// The times of all three are the signed body's, and `X-Timestamp` must say the same.
#[test]
fn the_signed_time_counts_under_each_signature() {
    for accepted in [RAW, V2, SIMPLE, ALL] {
        let ours = didit(accepted);
        let mut headers = sent(EVENT);
        let verify = |headers: &HeaderMap, at| ours.verify(headers, EVENT.as_bytes(), Timestamp::from_secs(at));
        assert!(verify(&headers, NOW + 300).is_ok() && verify(&headers, NOW - 300).is_ok());
        assert!(matches!(verify(&headers, NOW + 301), Err(WebhookError::TooOld { .. })));
        assert!(matches!(verify(&headers, NOW - 301), Err(WebhookError::TooNew { .. })));
        headers.insert("x-timestamp", (NOW + 301).into());
        assert_eq!(verify(&headers, NOW + 301), Err(WebhookError::Contradiction(name("x-timestamp"))));
        headers.remove("x-timestamp");
        assert!(verify(&headers, NOW).is_ok());
        // Without one that can be read, nothing is of now.
        for body in [
            "{}",
            r#"{"timestamp":"1700000000"}"#,
            r#"{"timestamp":1700000000.5}"#,
            r#"{"timestamp":1e300}"#,
            "[1700000000]",
        ] {
            let headers = ours.sign("", now(), body.as_bytes()).unwrap();
            let got = ours.verify(&headers, body.as_bytes(), now());
            assert!(
                matches!(got, Err(WebhookError::NoTime | WebhookError::Missing(_))),
                "{accepted:?} {body}: {got:?}"
            );
        }
    }
}

#[test]
fn what_python_would_not_have_written_has_no_canonical_form() {
    let bodies = [
        "",
        " ",
        "{",
        "}",
        "[1,]",
        "{,}",
        r#"{"a":1,}"#,
        r#"{"a"}"#,
        r#"{a:1}"#,
        "[1 2]",
        "1 2",
        "nul",
        "nulls",
        "True",
        "NaN",
        "Infinity",
        "-Infinity",
        "1e400",
        "-1e400",
        "01",
        "-",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "0x1",
        "1_000",
        "- 1",
        "--1",
        "1.5.5",
        "1e5e5",
        r#""a"#,
        "\"\n\"",
        r#""\x""#,
        r#""\u12""#,
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""a" "b""#,
        "'a'",
        "\u{feff}{}",
        "{}\u{a0}",
        "// {}",
        // A member twice, however it is written, at any depth.
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"b":2,"\u0061":1}"#,
        r#"[{"x":{"b":1,"a":2,"b":3}}]"#,
    ];
    for body in bodies {
        assert_eq!(v2(body), None, "{body:?}");
    }
    let digits = |count: usize| "9".repeat(count);
    assert!(v2(&digits(4_300)).is_some() && v2(&digits(4_301)).is_none(), "Python reads no longer integers");
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(v2(&deep(127)).is_some() && v2(&deep(128)).is_none());
    assert!(v2(&"[".repeat(MAX_BODY)).is_none());
    let not_text = didit(V2).sign("", now(), b"\"\xff\"").unwrap();
    assert!(!not_text.contains_key("x-signature-v2"));
}

/// Anyone can have a body written anew, so it must cost no more than its length: not with numbers that grow, nor with
/// members to be sorted at every depth.
#[test]
fn a_hostile_body_costs_little() {
    let grows = format!("[{}1]", "1e300,".repeat(MAX_BODY / 7));
    let members: Vec<String> = (0..9_000).rev().map(|n| format!("\"{n}\":1")).collect();
    let mut unsorted = format!("{{{}}}", members.join(","));
    for _ in 0..120 {
        unsorted = format!("{{\"b\":{unsorted},\"a\":1}}");
    }
    let wide = format!("[{}1]", "{},".repeat(MAX_BODY / 4));
    for body in [grows, unsorted, wide, "[1,".repeat(MAX_BODY / 3), format!("\"{}", "\\\"".repeat(MAX_BODY / 3))] {
        assert!(body.len() <= MAX_BODY);
        let headers =
            HeaderMap::from_iter([(name("x-signature-v2"), HeaderValue::from_str(&"07".repeat(32)).unwrap())]);
        let began = std::time::Instant::now();
        let got = didit(V2).verify(&headers, body.as_bytes(), now());
        assert_eq!(got, Err(WebhookError::NoMatch(name("x-signature-v2"))));
        assert!(began.elapsed() < Duration::from_secs(5), "{:.60}: {:?}", body, began.elapsed());
    }
}

#[test]
fn the_simple_text_can_be_cut_in_one_way_only() {
    let simple = |body: &str| didit(SIMPLE).sign("", now(), body.as_bytes()).unwrap().remove("x-signature-simple");
    assert!(simple(EVENT).is_some() && simple("{}").is_some());
    for member in ["session_id", "status", "webhook_type"] {
        for value in ["\"a:b\"", "7", "null", "true", "[]"] {
            let body = format!(r#"{{"timestamp":{NOW},"{member}":{value}}}"#);
            assert_eq!(simple(&body), None, "{body}");
        }
        let twice = format!(r#"{{"timestamp":{NOW},"{member}":"a","{member}":"a"}}"#);
        assert_eq!(simple(&twice), None, "{twice}");
    }
    // A part that is not there is empty, so that it can be told from the next one.
    assert_ne!(simple(r#"{"timestamp":1,"session_id":"a"}"#), simple(r#"{"timestamp":1,"status":"a"}"#));
}

/// JSON of which a canonical form exists, in two spellings that say the same.
fn spellings() -> BoxedStrategy<(String, String)> {
    let text = "[a-cé😀\"\\\\\\x00-\\x1f]{0,4}";
    let escaped = |text: &str| text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect::<String>();
    let quoted = move |text: String| (serde_json::to_string(&text).unwrap(), format!("\"{}\"", escaped(&text)));
    let scalar = prop_oneof![
        text.prop_map(quoted).boxed(),
        any::<i64>().prop_map(|n| (n.to_string(), n.to_string())).boxed(),
        (-1_000_000_000_000i64..1_000_000_000_000).prop_map(|n| (n.to_string(), format!("{n}.0"))).boxed(),
        any::<f64>()
            .prop_filter("JSON has no other", |x| x.is_finite())
            .prop_map(|x| (format!("{x:e}"), format!("{x:?}")))
            .boxed(),
        prop::sample::select(vec!["true", "false", "null"])
            .prop_map(|word| (word.to_owned(), format!(" {word}\n")))
            .boxed(),
    ];
    scalar
        .prop_recursive(4, 32, 4, move |inner| {
            let list = prop::collection::vec(inner.clone(), 0..4).prop_map(|items| {
                let (one, other): (Vec<_>, Vec<_>) = items.into_iter().unzip();
                (format!("[{}]", one.join(",")), format!("[ {} ]", other.join("\t, ")))
            });
            let members = prop::collection::btree_map(text, inner, 0..4).prop_map(move |members| {
                let pairs = members.into_iter().map(|(name, (one, other))| {
                    let (plain, escaped) = quoted(name);
                    (format!("{plain}:{one}"), format!("{escaped} : {other}"))
                });
                let (one, mut other): (Vec<_>, Vec<_>) = pairs.unzip();
                other.reverse();
                (format!("{{{}}}", one.join(",")), format!("{{ {} }}", other.join(" ,")))
            });
            prop_oneof![list.boxed(), members.boxed()].boxed()
        })
        .boxed()
}

proptest! {
    #[test]
    fn another_spelling_of_the_same_has_the_same_canonical_form((one, other) in spellings()) {
        prop_assert!(v2(&one).is_some(), "{one}");
        prop_assert_eq!(v2(&one), v2(&other), "{} {}", one, other);
    }

    /// `serde_json` keeps what it reads of integers of 64 bits and of texts, and sorts members as Python does: there the forms agree.
    #[test]
    fn the_canonical_form_is_what_serde_json_writes_where_that_is_python_s((one, _) in spellings()) {
        fn plain(value: &Value) -> bool {
            match value {
                Value::Number(number) => !number.is_f64(),
                Value::Array(items) => items.iter().all(plain),
                Value::Object(members) => members.values().all(plain),
                _ => true,
            }
        }
        let value: Value = serde_json::from_str(&one).unwrap();
        if plain(&value) {
            prop_assert_eq!(v2(&one), Some(raw(&value.to_string())));
        }
    }

    /// What has a canonical form is JSON, and what is JSON has one, but for what is named above.
    #[test]
    fn no_bytes_panic_and_only_json_has_a_canonical_form(body in "[\\[\\]{}\",:0-9eE.+ntfalsru\\\\-]{0,24}") {
        let (form, json) = (v2(&body), serde_json::from_str::<Value>(&body));
        if form.is_some() {
            prop_assert!(json.is_ok(), "{}", body);
        }
        if let Ok(value) = json && !value.is_object() && !value.is_array() {
            prop_assert!(form.is_some(), "{}", body);
        }
    }
}
