//! What a status says of a create decides whether it may be sent again, so each row of the table is pinned.

use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use serde_json::Value;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure, RetryDecision, RetryPolicy};
use steadfast_core::{Kind, Seed, Timestamp};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{Answer, BaseUrl, Provider, status};

const WALL: Timestamp = Timestamp::from_secs(1_700_000_000);

fn failure(kind: Kind, status: u16, retry_after: Option<&'static str>) -> Failure {
    let mut headers = HeaderMap::new();
    if let Some(value) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
    }
    status::failure(&Answer::new(kind, StatusCode::from_u16(status).unwrap(), &headers, b"", WALL))
}

proptest! {
    /// The rule that keeps a job from running twice: only a refusal, or word that the same request is to be made elsewhere, proves that nothing ran.
    #[test]
    fn only_a_4xx_or_a_redirect_of_the_request_itself_proves_that_a_create_did_not_run(status in 100..=999u16, hint in any::<bool>()) {
        let failure = failure(Kind::Create, status, hint.then_some("5"));
        prop_assert_ne!(failure.certainty, Certainty::Executed);
        if failure.certainty == Certainty::NotExecuted {
            prop_assert!((400..500).contains(&status) || [307, 308].contains(&status));
        }
    }

    #[test]
    fn a_hint_never_makes_a_failure_permanent_and_is_handed_on(status in 100..=999u16) {
        let (with, without) = (failure(Kind::Create, status, Some("5")), failure(Kind::Create, status, None));
        prop_assert_eq!(with.retry_after.map(|wait| wait.as_secs()), Some(5));
        prop_assert_eq!(with.certainty, without.certainty);
        prop_assert!(with.class == without.class || with.class == Class::Transient);
    }

    #[test]
    fn reading_runs_nothing(status in 100..=999u16) {
        for kind in [Kind::Poll, Kind::Lookup] {
            let failure = failure(kind, status, None);
            prop_assert_eq!(failure.certainty, Certainty::NotExecuted);
            prop_assert_eq!(failure.class, self::failure(Kind::Create, status, None).class);
        }
    }
}

#[test]
fn the_table() {
    use Certainty::{MayHaveExecuted as Perhaps, NotExecuted as No};
    use Class::{Permanent, Throttled, Transient};
    for (statuses, hint, class, certainty) in [
        (&[100, 101, 103][..], None, Transient, Perhaps),
        (&[200, 201, 202, 204, 206, 299], None, Transient, Perhaps),
        (&[300, 301, 302, 303, 304, 305, 306, 309, 399], None, Permanent, Perhaps),
        (&[307, 308], None, Permanent, No),
        (
            &[
                400, 401, 402, 403, 404, 405, 406, 407, 410, 411, 412, 414, 415, 417, 418, 422, 423, 424, 426, 428,
                431, 451,
            ],
            None,
            Permanent,
            No,
        ),
        (&[408, 499], None, Transient, Perhaps),
        (&[409], Some("5"), Transient, Perhaps),
        (&[409], Some("soon"), Permanent, Perhaps),
        (&[409], None, Permanent, Perhaps),
        (&[413], Some("5"), Transient, No),
        (&[413], None, Permanent, No),
        (&[421, 425], None, Transient, No),
        (&[429], None, Throttled, No),
        (&[501, 505, 506, 508, 510, 511], None, Permanent, Perhaps),
        (&[500, 502, 503, 504, 507, 520, 522, 529, 599], None, Transient, Perhaps),
        (&[600, 700, 999], None, Transient, Perhaps),
    ] {
        for &status in statuses {
            let failure = failure(Kind::Create, status, hint);
            assert_eq!((failure.class, failure.certainty), (class, certainty), "{status} with Retry-After {hint:?}");
        }
    }
}

/// Whether a create that failed so is sent again: to a provider that honours keys, and to one that does not.
fn sent_again(failure: Failure) -> (bool, bool) {
    let again = |keyed| {
        matches!(RetryPolicy::default().decide(1, failure, WALL, WALL, keyed, Seed::new(1)), RetryDecision::At(_))
    };
    (again(true), again(false))
}

#[test]
fn the_statuses_of_the_hostile_inputs() {
    let file: Value = serde_json::from_str(include_str!("../../tests/oracles/hostile_inputs.json")).unwrap();
    let base = BaseUrl::parse(Deepvue::PRODUCTION).unwrap();
    let deepvue = Deepvue::new(base, "driving-license", Credentials::new("token", "secret").unwrap()).unwrap();
    let headers = HeaderMap::new();
    let mut ran = 0;
    for case in file["cases"].as_array().unwrap() {
        let (id, kind) = (case["id"].as_str().unwrap(), case["kind"].as_str().unwrap());
        if kind != "create_status" {
            println!("not replayed here: {id}: it is about {kind}, not about a status");
            continue;
        }
        let status = u16::try_from(case["input"]["status"].as_u64().unwrap()).unwrap();
        let html = b"<html>Service</html>";
        let read = |kind| deepvue.read(&Answer::new(kind, StatusCode::from_u16(status).unwrap(), &headers, html, WALL));
        match case["expect"]["verdict"].as_str().unwrap() {
            "poll_gone" => assert_eq!(read(Kind::Poll), Ok(Reading::NotFound), "{id}"),
            // Neither done nor refused: repeated under a key that is honoured, and never without one.
            "outcome_unknown" | "outcome_unknown_retry_same_key" | "protocol_error" => {
                let failure = read(Kind::Create).unwrap_err();
                assert_eq!(failure.certainty, Certainty::MayHaveExecuted, "{id}");
                assert_eq!(sent_again(failure), (true, false), "{id}");
            }
            "retry_same_key" => assert!(sent_again(read(Kind::Create).unwrap_err()).0, "{id}"),
            // What was done may be what it leads to.
            "not_followed" => assert_eq!(sent_again(read(Kind::Create).unwrap_err()), (false, false), "{id}"),
            "definitive_not_executed" => {
                let failure = read(Kind::Create).unwrap_err();
                assert_eq!(failure.certainty, Certainty::NotExecuted, "{id}");
                assert_eq!(sent_again(failure), (false, false), "{id}");
            }
            other => panic!("{id} expects {other}, which this test does not know"),
        }
        ran += 1;
    }
    println!("hostile_inputs.json: {ran} cases about a create's status replayed");
    assert_eq!(ran, 10);
}
