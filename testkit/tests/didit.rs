//! The fake Didit keeps to Didit's documentation, also where that protects nobody from a second session.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use serde_json::{Value, json};
use steadfast_core::{Kind, Timestamp};
use steadfast_providers::didit::{Limits, Stage, Status};
use steadfast_testkit::{Brain, FakeDidit, Fault, Faults};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

fn send(brain: &mut Brain, method: &str, path: &str, body: &Value, now: Timestamp) -> Response<Bytes> {
    let body = if method == "GET" { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("x-api-key", "key").body(body).unwrap();
    brain.handle(&request, now).response
}

fn create(brain: &mut Brain, vendor_data: &str, now: Timestamp) -> Value {
    let body = json!({ "workflow_id": "w", "vendor_data": vendor_data, "metadata": { "at": now.as_nanos() } });
    let response = send(brain, "POST", "/v3/session/", &body, now);
    assert_eq!(response.status(), 201);
    serde_json::from_slice(response.body()).unwrap()
}

fn get(brain: &mut Brain, path: &str, now: Timestamp) -> Value {
    let response = send(brain, "GET", path, &Value::Null, now);
    assert_eq!(response.status(), 200, "{path}");
    serde_json::from_slice(response.body()).unwrap()
}

fn after(secs: u64) -> Timestamp {
    START.saturating_add(Duration::from_secs(secs))
}

#[test]
fn an_unfinished_session_is_given_back_and_its_metadata_overwritten() {
    let mut brain = FakeDidit::new(1).brain();
    let first = create(&mut brain, "a", START);
    let again = create(&mut brain, "a", after(5));
    assert_eq!((&first["session_id"], &first["session_number"]), (&again["session_id"], &again["session_number"]));
    assert_ne!(first["metadata"], again["metadata"]);
    let other = create(&mut brain, "b", after(6));
    assert_ne!(first["session_id"], other["session_id"]);
    assert_eq!((brain.ledger().executions("a").len(), brain.ledger().answers("a").len()), (1, 2));
}

#[test]
fn what_is_finished_or_of_an_older_workflow_is_not_given_back() {
    let mut brain = FakeDidit::new(1).with_undecided(0.0).brain();
    create(&mut brain, "a", START);
    create(&mut brain, "a", after(7 * 86_400));
    assert_eq!(brain.ledger().executions("a").len(), 2, "the first one was decided");

    let mut brain = FakeDidit::new(1).with_republishing(1.0).brain();
    create(&mut brain, "a", START);
    create(&mut brain, "a", after(1));
    assert_eq!(brain.ledger().executions("a").len(), 2, "the workflow was published anew");

    let mut brain = FakeDidit::new(1).brain();
    for _ in 0..2 {
        send(&mut brain, "POST", "/v3/session/", &json!({ "workflow_id": "w" }), START);
    }
    assert_eq!(brain.ledger().total_executions(), 2, "there is no vendor_data to know it by");
}

#[test]
fn a_session_goes_its_way_and_shows_results_once_there_are_any() {
    let mut brain = FakeDidit::new(3).with_undecided(0.0).brain();
    for n in 0..10 {
        let created = create(&mut brain, &format!("v{n}"), START);
        let id = created["session_id"].as_str().unwrap();
        assert_eq!((id.len(), id.split('-').count()), (36, 5));
        let mut stages = Vec::new();
        for minute in (0..180).step_by(2) {
            let session = get(&mut brain, &format!("/v3/session/{id}/decision/"), after(60 * minute));
            let stage = Status::parse(session["status"].as_str().unwrap()).unwrap().stage();
            assert_eq!(session["id_verifications"].is_null(), stage == Stage::Pending);
            stages.push(stage);
        }
        let decided = stages.iter().position(|stage| *stage == Stage::Decided).unwrap();
        assert!(stages[0] == Stage::Pending && stages[decided..].iter().all(|stage| *stage == Stage::Decided));
    }
}

#[test]
fn a_list_is_by_vendor_data_newest_first_paged_and_shows_companies_only_on_demand() {
    let mut brain = FakeDidit::new(1).with_republishing(1.0).brain();
    for n in 0..5 {
        create(&mut brain, "a b&c", after(n));
        create(&mut brain, "other", after(n));
    }
    let list = get(&mut brain, "/v3/sessions/?vendor_data=a%20b%26c&limit=2", after(9));
    assert_eq!((&list["count"], &list["previous"]), (&json!(5), &Value::Null));
    assert!(list["next"].as_str().unwrap().contains("offset=2"));
    let numbers = |list: &Value| -> Vec<u64> {
        list["results"].as_array().unwrap().iter().map(|row| row["session_number"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&list), [9, 7]);
    assert!(list["results"].as_array().unwrap().iter().all(|row| row["vendor_data"] == "a b&c"));
    assert_eq!(list["results"][0]["created_at"], "2023-11-14T22:13:24.000000Z");
    let last = get(&mut brain, "/v3/sessions/?vendor_data=a%20b%26c&limit=2&offset=4", after(9));
    assert_eq!((numbers(&last), &last["next"]), (vec![1], &Value::Null));
    assert_eq!(get(&mut brain, "/v3/sessions/?vendor_data=a", after(9))["count"], 0, "an exact match");

    let mut brain = FakeDidit::new(1).with_business(true).with_listing_lag(Duration::from_secs(20)).brain();
    create(&mut brain, "a", START);
    let count = |brain: &mut Brain, kind: &str, secs| {
        get(brain, &format!("/v3/sessions/?vendor_data=a{kind}"), after(secs))["count"].clone()
    };
    assert_eq!(
        (count(&mut brain, "&session_kind=all", 19), count(&mut brain, "&session_kind=all", 20)),
        (0.into(), 1.into())
    );
    assert_eq!((count(&mut brain, "", 20), count(&mut brain, "&session_kind=business", 20)), (0.into(), 1.into()));
}

#[test]
fn requests_that_didit_would_refuse_are_refused_and_run_nothing() {
    let mut brain = FakeDidit::new(1).brain();
    let mut status = |method, path, body| send(&mut brain, method, path, &body, START).status().as_u16();
    assert_eq!(status("POST", "/v3/session/", json!([])), 400);
    assert_eq!(status("POST", "/v3/session/", json!({ "vendor_data": "a" })), 400);
    assert_eq!(status("POST", "/v3/session", json!({ "workflow_id": "w" })), 404);
    assert_eq!(status("GET", "/v3/session/unknown/decision/", Value::Null), 404);
    assert_eq!(status("GET", "/v3/sessions/?session_kind=none", Value::Null), 400);
    let keyless = Request::builder().method("POST").uri("/v3/session/").body(Bytes::from(r#"{"workflow_id":"w"}"#));
    assert_eq!(brain.handle(&keyless.unwrap(), START).response.status(), 403);
    assert_eq!(brain.ledger().total_executions(), 0);
}

#[test]
fn limits_are_told_only_by_a_429_and_a_create_counts_twice() {
    let limits = Limits { creates: 5, writes: 3, reads: 4 };
    let mut brain = FakeDidit::new(1).with_limits(limits).brain();
    let body = json!({ "workflow_id": "w" });
    for n in 0..3 {
        let response = send(&mut brain, "POST", "/v3/session/", &body, after(n));
        assert!(response.status() == 201 && !response.headers().keys().any(|name| name.as_str().starts_with("x-rate")));
    }
    let full = send(&mut brain, "POST", "/v3/session/", &body, after(10));
    assert_eq!((full.status().as_u16(), &full.headers()["retry-after"]), (429, &"50".parse().unwrap()));
    assert_eq!(full.headers()["x-ratelimit-reset"], (1_700_000_060_u64).to_string());
    assert_eq!(full.headers()["x-ratelimit-remaining"], "0");
    assert_eq!(send(&mut brain, "POST", "/v3/session/", &body, after(60)).status(), 201, "the window slides");
    assert_eq!(send(&mut brain, "POST", "/v3/session/", &body, after(60)).status(), 429);
    for n in 0..5 {
        let read = send(&mut brain, "GET", "/v3/sessions/", &Value::Null, after(60));
        assert_eq!(read.status(), if n < 4 { 200 } else { 429 }, "reads have a window of their own");
    }
    assert_eq!(brain.ledger().total_executions(), 4);
}

#[test]
fn a_screening_is_run_once_for_its_key_and_body() {
    let mut brain = FakeDidit::new(1).with_screening_time(Duration::from_secs(3)).brain();
    let mut screen = |key: &str, name: &str, now| {
        let body = Bytes::from(json!({ "full_name": name }).to_string());
        let request = Request::builder().method("POST").uri("/v3/aml/").header("x-api-key", "key");
        let response = brain.handle(&request.header("idempotency-key", key).body(body).unwrap(), now).response;
        let wait = response.headers().get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
        (response.status().as_u16(), wait, response.into_body())
    };
    let (status, _, result) = screen("k", "A. Person", START);
    assert_eq!(status, 200);
    let (status, wait, _) = screen("k", "A. Person", after(1));
    assert_eq!((status, wait.as_deref()), (409, Some("2")), "it still runs");
    assert_eq!(screen("k", "A. Person", after(3)), (200, None, result.clone()));
    let (status, wait, _) = screen("k", "B. Person", after(4));
    assert_eq!((status, wait), (409, None), "the key has another body");
    assert_ne!(screen("l", "A. Person", after(4)).2, result);
    assert_eq!(screen("m", "A. Person", after(4)).0, 200);
    assert_eq!(brain.ledger().keys_run_more_than_once(), 0);
    assert_eq!(brain.ledger().total_executions(), 3);
}

#[test]
fn faults_spoil_answers_as_they_do_elsewhere() {
    for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::Refuse) {
        let mut brain = FakeDidit::new(1).with_faults(Faults::none().on(Kind::Create, 1, fault)).brain();
        let body = json!({ "workflow_id": "w", "vendor_data": "a" });
        let response = send(&mut brain, "POST", "/v3/session/", &body, START);
        assert_eq!(brain.ledger().executions("a").len(), usize::from(fault.executes()), "{fault:?}");
        assert!(!brain.ledger().answers("a")[0].intact);
        if matches!(fault, Fault::Throttle | Fault::ThrottleUntil) {
            assert_eq!(
                (response.status().as_u16(), &response.headers()["x-ratelimit-reset"]),
                (429, &"1700000002".parse().unwrap())
            );
            assert!(response.headers().contains_key("retry-after"));
        }
        assert_eq!(brain.faults().get(fault.name()), Some(&1));
    }
}
