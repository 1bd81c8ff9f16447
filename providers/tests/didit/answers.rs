//! What an answer is taken for, and what it is not.

use std::time::Duration;

use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, Reference};
use steadfast_providers::didit::{Stage, Status};
use steadfast_providers::profile::{self, Profile};
use steadfast_providers::{Answer, Provider};

use super::{API_KEY, SESSION, WALL, accepted, create, didit, lookup, poll, read, unknown_outcome, unusable};

#[test]
fn a_create_is_accepted_only_with_a_usable_session() {
    let body = json!({
        "session_id": SESSION, "session_number": 720, "session_token": "t", "url": "https://verify.didit.me/session/t",
        "vendor_data": "order-42", "status": "Not Started", "workflow_id": "w", "session_kind": "user",
    });
    for status in [200, 201] {
        assert_eq!(create(status, &body.to_string()), accepted(SESSION), "{status}");
    }
    // An existing one that is given back looks the same, but for its status.
    assert_eq!(create(201, r#"{"session_id":"s-1","status":"In Progress","vendor_data":null}"#), accepted("s-1"));
    for body in [
        "",
        "{}",
        "<html>OK</html>",
        r#"{"session_id":"abc"#,
        r#"{"session_id":null}"#,
        r#"{"session_id":""}"#,
        r#"{"session_id":12}"#,
        r#"{"session_id":["abc"]}"#,
        r#"{"session_id":"a/../b"}"#,
        r#"{"session_id":"a b"}"#,
        r#"{"session_id":"a%2fb"}"#,
        r#"{"session_id":"a\nb"}"#,
        r#"{"session_id":"é"}"#,
        r#"{"session_id":"a","session_id":"b"}"#,
        r#"{"session_id":"a","vendor_data":"order-42","vendor_data":"order-43"}"#,
        r#"{"session_id":"a","vendor_data":"order-43"}"#,
        r#"{"session_id":"a"} {}"#,
        r#"["abc"]"#,
        r#"{"detail":"Something"}"#,
        "null",
    ] {
        assert_eq!(create(201, body), unknown_outcome(), "{body}");
    }
    assert_eq!(create(204, ""), unknown_outcome());
    let long = json!({ "session_id": "x".repeat(129) }).to_string();
    assert_eq!(create(201, &long), unknown_outcome());
}

/// docs.didit.me/integration/api-errors: no common envelope, so the body decides nothing.
#[test]
fn errors_of_every_shape() {
    let shapes = [
        r#"{"detail":"You do not have permission to perform this action."}"#,
        r#"{"workflow_id":["This field is required."]}"#,
        r#"["This field is required."]"#,
        r#"{"code":"contract_billing_suspended","detail":"…"}"#,
        r#"{"session_id":"5b3720ed","status":"Approved","vendor_data":"order-42"}"#,
        r#"{"count":0,"next":null,"results":[]}"#,
        "<!doctype html><title>Server Error (500)</title>",
        "",
    ];
    let failure = |class, certainty| Err(Failure::new(class, certainty));
    for body in shapes {
        for status in [400, 401, 402, 403, 404, 405, 413, 415, 422, 307] {
            let refused = failure(Class::Permanent, Certainty::NotExecuted);
            assert_eq!(create(status, body), refused, "{status} {body}");
            assert_eq!(lookup(status, body), refused, "{status} {body}");
            let reading = if status == 404 { Ok(Reading::NotFound) } else { refused };
            assert_eq!(poll(status, body), reading, "{status} {body}");
        }
        for status in [301, 303, 409] {
            let perhaps = failure(Class::Permanent, Certainty::MayHaveExecuted);
            assert_eq!(create(status, body), perhaps, "{status} {body}");
        }
        for status in [500, 502, 503, 504, 599] {
            assert_eq!(create(status, body), unknown_outcome(), "{status} {body}");
            assert_eq!((lookup(status, body), poll(status, body)), (unusable(), unusable()), "{status} {body}");
        }
        for (kind, read) in [(Kind::Create, create(429, body)), (Kind::Lookup, lookup(429, body))] {
            assert_eq!(read, failure(Class::Throttled, Certainty::NotExecuted), "{kind:?} {body}");
        }
        assert_eq!(poll(429, body), failure(Class::Throttled, Certainty::NotExecuted), "{body}");
    }
}

#[test]
fn a_429_says_when_its_window_ends() {
    let read = |headers: &[(&'static str, &'static str)]| {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let headers = HeaderMap::from_iter(headers);
        let answer = Answer::new(Kind::Create, StatusCode::TOO_MANY_REQUESTS, &headers, b"{}", WALL);
        (didit().read(&answer).unwrap_err().retry_after.map(|wait| wait.as_secs()), didit().quota(&answer))
    };
    let limits = [("x-ratelimit-limit", "300"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000042")];
    let (wait, quota) = read(&limits);
    assert_eq!(wait, Some(42));
    let quota = quota.unwrap();
    let reset = quota.reset.map(|reset| reset.as_secs());
    assert_eq!((quota.limit, quota.remaining, reset), (Some(300), Some(0), Some(42)));
    // Retry-After is the first word.
    assert_eq!(read(&[&limits[..], &[("retry-after", "7")]].concat()).0, Some(7));
    assert_eq!(read(&[("x-ratelimit-reset", "1699999999")]).0, None, "past");
    assert_eq!(read(&[("x-ratelimit-reset", "soon")]), (None, None));
    // Small enough to be taken for seconds from now by who guesses: it is a moment in 1970.
    let (wait, quota) = read(&[("x-ratelimit-reset", "42")]);
    assert_eq!((wait, quota.unwrap().reset), (None, Some(Duration::ZERO)));
}

#[test]
fn every_status_has_its_class() {
    let none = None;
    for (word, status, stage, reading) in [
        ("Not Started", Status::NotStarted, Stage::Pending, Reading::Pending { hint: none }),
        ("In Progress", Status::InProgress, Stage::Pending, Reading::Pending { hint: none }),
        ("Resubmitted", Status::Resubmitted, Stage::Pending, Reading::Pending { hint: none }),
        ("Awaiting User", Status::AwaitingUser, Stage::AwaitingUser, Reading::AwaitingPerson { hint: none }),
        ("In Review", Status::InReview, Stage::AwaitingReview, Reading::AwaitingPerson { hint: none }),
        ("Approved", Status::Approved, Stage::Decided, Reading::Ready),
        ("Declined", Status::Declined, Stage::Decided, Reading::Ready),
        ("Kyc Expired", Status::KycExpired, Stage::Decided, Reading::Ready),
        ("Abandoned", Status::Abandoned, Stage::EndedUndecided, Reading::Undecided),
        ("Expired", Status::Expired, Stage::EndedUndecided, Reading::Undecided),
    ] {
        let parsed = Status::parse(word).unwrap();
        assert_eq!((parsed.as_str(), parsed.to_string().as_str()), (word, word));
        assert_eq!((&parsed, parsed.stage()), (&status, stage), "{word}");
        let body = json!({ "session_id": SESSION, "status": word, "id_verifications": null }).to_string();
        assert_eq!(poll(200, &body), Ok(reading), "{word}");
        // Words are exact: in other letters it is one that nobody knows.
        for other in [word.to_uppercase(), word.to_lowercase(), word.replace(' ', "_"), format!("{word}!")] {
            if other == word {
                continue;
            }
            let body = json!({ "status": other }).to_string();
            assert_eq!(poll(200, &body), Ok(Reading::Unknown(other.as_str().into())));
            assert_eq!(Status::parse(&other).unwrap().stage(), Stage::Pending);
        }
    }
    let review = r#"{"status":"In Review"}"#;
    assert_eq!(read(&didit().with_stop_on_review(true), Kind::Poll, 200, review), Ok(Reading::Partial));
    let user = r#"{"status":"Awaiting User"}"#;
    assert!(matches!(
        read(&didit().with_stop_on_review(true), Kind::Poll, 200, user),
        Ok(Reading::AwaitingPerson { hint: None })
    ));
}

#[test]
fn a_poll_that_fails_is_not_a_session_that_failed() {
    for body in [
        "",
        "<html>",
        "[]",
        r#"["Approved"]"#,
        "{}",
        r#"{"status":null}"#,
        r#"{"status":""}"#,
        r#"{"status":"\u0007"}"#,
        r#"{"status":200}"#,
        r#"{"status":{"status":"Approved"}}"#,
        r#"{"status":"Approved","status":"Declined"}"#,
        r#"{"status":"Approved"}}"#,
        r#"{"status":"Approved""#,
    ] {
        assert_eq!(poll(200, body), unusable(), "{body}");
    }
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("90"))]);
    let answer = |body| Answer::new(Kind::Poll, StatusCode::OK, &headers, body, WALL);
    let hint = Some(Duration::from_secs(90));
    assert_eq!(didit().read(&answer(br#"{"status":"In Progress"}"#)), Ok(Reading::Pending { hint }));
    assert_eq!(didit().read(&answer(br#"{"status":"In Review"}"#)), Ok(Reading::AwaitingPerson { hint }));
}

/// That nothing is listed has a create sent again. An answer that is a part of one, or is yet to come, is no proof of
/// it.
#[test]
fn only_a_whole_list_proves_that_there_is_no_session() {
    let file = Profile::parse(profile::shipped("didit").unwrap()).unwrap();
    let file = file.connect(|name| (name == "DIDIT_API_KEY").then(|| API_KEY.to_owned())).unwrap();
    let none = r#"{"count":0,"next":null,"results":[]}"#;
    for (status, proof) in [(200, true), (201, false), (202, false), (203, false), (206, false), (207, false)] {
        let said = if proof { Ok(Reading::NotFound) } else { unusable() };
        assert_eq!(lookup(status, none), said, "{status}");
        assert_eq!(read(&file, Kind::Lookup, status, none), said, "{status}, by the file");
    }
}

#[test]
fn a_look_up_that_lists_none_one_many_or_another() {
    let row = |id: &str, vendor_data: &str, number: u64, kind: &str| {
        json!({ "session_id": id, "vendor_data": vendor_data, "session_number": number, "session_kind": kind,
            "status": "In Progress", "full_name": "A. Person", "features": [{ "feature": "AML", "status": "Approved" }] })
    };
    let ours = |id, number| row(id, "order-42", number, "user");
    let page = |rows: Vec<Value>| json!({ "count": rows.len(), "next": null, "previous": null, "results": rows });
    let read = |page: Value| lookup(200, &page.to_string());

    assert_eq!(read(page(vec![])), Ok(Reading::NotFound));
    assert_eq!(read(json!({ "results": [] })), Ok(Reading::NotFound));
    assert_eq!(read(page(vec![ours("s-1", 1)])), accepted("s-1"));
    assert_eq!(read(json!({ "results": [{ "session_id": "s-1", "vendor_data": "order-42" }] })), accepted("s-1"));
    // Whatever the order.
    assert_eq!(read(page(vec![ours("s-3", 3), ours("s-2", 2), ours("s-1", 1)])), accepted("s-3"));
    assert_eq!(read(page(vec![ours("s-1", 9), ours("s-2", 10)])), accepted("s-2"));
    // More pages: the newest come first.
    let mut more = page(vec![ours("s-3", 3), ours("s-2", 2)]);
    more["next"] = json!("https://verification.didit.me/v3/sessions/?limit=10&offset=10&vendor_data=order-42");
    assert_eq!(read(more), accepted("s-3"));

    for (why, doubtful) in [
        ("another's", page(vec![row("s-1", "order-43", 1, "user")])),
        ("another's beside ours", page(vec![ours("s-1", 1), row("s-2", "order-43", 2, "user")])),
        ("in other letters", page(vec![row("s-1", "ORDER-42", 1, "user")])),
        ("nobody's", json!({ "results": [{ "session_id": "s-1", "vendor_data": null }] })),
        ("unnamed", json!({ "results": [{ "session_id": "s-1" }] })),
        ("of two kinds", page(vec![ours("s-1", 1), row("b-1", "order-42", 2, "business")])),
        (
            "unnumbered",
            json!({ "results": [
            { "session_id": "s-1", "vendor_data": "order-42" }, { "session_id": "s-2", "vendor_data": "order-42" }] }),
        ),
        ("of one number", page(vec![ours("s-1", 1), ours("s-2", 1)])),
        ("with an id that is none", page(vec![ours("../s", 1)])),
        ("counted and not shown", json!({ "count": 1, "next": null, "results": [] })),
        ("on a later page", json!({ "count": 0, "next": "https://x/?offset=10", "results": [] })),
        ("no list", json!({ "results": {} })),
        ("null", json!({ "count": 0, "results": null })),
        ("missing", json!({ "count": 0 })),
        ("rows by position", json!({ "results": [["s-1", "order-42", 1, "user"]] })),
        ("an empty array", json!([])),
    ] {
        assert_eq!(read(doubtful), unusable(), "{why}");
    }
    for twice in [
        r#"{"results":[],"results":[{"session_id":"s-1","vendor_data":"order-42"}]}"#,
        r#"{"count":0,"count":1,"results":[]}"#,
        r#"{"results":[{"session_id":"s-1","session_id":"s-2","vendor_data":"order-42"}]}"#,
        r#"{"results":[{"session_id":"s-1","vendor_data":"order-43","vendor_data":"order-42"}]}"#,
    ] {
        assert_eq!(lookup(200, twice), unusable(), "{twice}");
    }
}

/// A driver that does not say whose list it is: still nothing of two keys is adopted.
#[test]
fn a_look_up_without_its_key_takes_no_mixed_list() {
    let headers = HeaderMap::new();
    let read =
        |body: &'static str| didit().read(&Answer::new(Kind::Lookup, StatusCode::OK, &headers, body.as_bytes(), WALL));
    assert_eq!(read(r#"{"results":[{"session_id":"s-1","vendor_data":"order-42"}]}"#), accepted("s-1"));
    let mixed = r#"{"results":[{"session_id":"s-1","vendor_data":"a","session_number":1},{"session_id":"s-2","vendor_data":"b","session_number":2}]}"#;
    assert_eq!(read(mixed), unusable());
    assert_eq!(read(r#"{"results":[{"session_id":"s-1"}]}"#), unusable());
}

#[test]
fn the_bodies_of_the_hostile_inputs() {
    let file: Value = serde_json::from_str(include_str!("../../../tests/oracles/hostile_inputs.json")).unwrap();
    let mut ran = 0;
    for case in file["cases"].as_array().unwrap() {
        if case["kind"] != "json_body" {
            continue;
        }
        // Written for another provider's create; as any of Didit's answers they say nothing.
        let (id, body) = (&case["id"], case["input"]["body"].as_str().unwrap());
        assert_eq!(create(201, body), unknown_outcome(), "{id}");
        let renamed = body.replace("transaction_id", "session_id");
        assert_eq!(create(201, &renamed), unknown_outcome(), "{id}: {renamed}");
        assert_eq!(lookup(200, body), unusable(), "{id}");
        assert!(matches!(poll(200, body), Err(_) | Ok(Reading::Unknown(_))), "{id}");
        ran += 1;
    }
    println!("hostile_inputs.json: {ran} cases about a JSON body replayed, in two shapes each");
    assert_eq!(ran, 5);
}

#[test]
fn depth_is_no_attack() {
    let nested = "[".repeat(200_000) + &"]".repeat(200_000);
    let body = format!(r#"{{"x":{nested},"session_id":{nested},"status":{nested},"results":{nested}}}"#);
    assert_eq!((create(201, &body), lookup(200, &body), poll(200, &body)), (unknown_outcome(), unusable(), unusable()));
    // What does not decide is skipped, however deep.
    assert_eq!(poll(200, &format!(r#"{{"x":{nested},"status":"Approved"}}"#)), Ok(Reading::Ready));
}

/// A cache or a proxy that mixes people up: whoever is approved there, it is not this one.
#[test]
fn an_answer_about_another_session_ends_nothing() {
    let (headers, asked) = (HeaderMap::new(), Reference::new(SESSION).unwrap());
    let poll = |body: &str| {
        didit().read(&Answer::new(Kind::Poll, StatusCode::OK, &headers, body.as_bytes(), WALL).asked_by(&asked))
    };
    let told = |id: Value, status: &str| poll(&json!({ "session_id": id, "status": status }).to_string());
    for status in ["Approved", "Declined", "Kyc Expired", "Abandoned", "Expired", "In Progress", "Under Appeal"] {
        for other in [json!("5b3720ed"), json!(""), json!(5), json!([SESSION])] {
            assert_eq!(told(other, status), unusable(), "{status}");
        }
    }
    let twice = format!(r#"{{"session_id":"{SESSION}","session_id":"other","status":"Approved"}}"#);
    assert_eq!(poll(&twice), unusable());
    assert_eq!(told(SESSION.into(), "Approved"), Ok(Reading::Ready));
    assert_eq!(
        (told(Value::Null, "Approved"), poll(r#"{"status":"Approved"}"#)),
        (Ok(Reading::Ready), Ok(Reading::Ready))
    );
}
