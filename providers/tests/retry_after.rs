//! `Retry-After` comes from another party: it is read strictly, bounded, and never panics.
//!
//! The cases of two files are replayed: `retry_after.json`, read out of seven public test suites that it names, and
//! this project's own `hostile_inputs.json`. What is not replayed is listed with its reason.

use std::time::{Duration, UNIX_EPOCH};

use http::header::{DATE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use serde_json::Value;
use steadfast_core::Timestamp;
use steadfast_core::retry::RetryAfter;
use steadfast_providers::retry_after::{MAX, retry_after};

fn read(value: &[u8], wall: Timestamp) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, HeaderValue::from_bytes(value).ok()?);
    retry_after(&headers, wall)
}

fn secs(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn wall() -> Timestamp {
    Timestamp::from_secs(1_700_000_000)
}

/// From 1970 to 9999, as far as an HTTP date goes.
fn date_seconds() -> impl Strategy<Value = u64> {
    prop_oneof![0..=253_402_300_799u64, 1_600_000_000..=1_800_000_000u64]
}

fn http_date(unix: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix))
}

proptest! {
    #[test]
    fn no_header_panics_or_exceeds_the_maximum(value: Vec<u8>, date: Vec<u8>, wall: u64) {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.insert(RETRY_AFTER, value);
        }
        if let Ok(date) = HeaderValue::from_bytes(&date) {
            headers.insert(DATE, date);
        }
        prop_assert!(retry_after(&headers, Timestamp::from_nanos(wall)).is_none_or(|wait| wait <= MAX));
    }

    #[test]
    fn no_near_date_panics_or_exceeds_the_maximum(
        value in "(Sun|Mon|Sunday),? ?[0-9]{0,2}[ -](Jan|Feb|Xyz)[ -][0-9]{0,4} [0-9]{2}:[0-9]{2}:[0-9]{2}( GMT| [0-9]{4})?",
        wall: u64,
    ) {
        prop_assert!(read(value.as_bytes(), Timestamp::from_nanos(wall)).is_none_or(|wait| wait <= MAX));
    }

    #[test]
    fn digits_are_seconds_up_to_the_maximum(digits in "[0-9]{1,40}", before in "[ \t]{0,3}", after in "[ \t]{0,3}") {
        let expected = digits.parse::<u128>().map_or(MAX, |n| Duration::from_secs(u64::try_from(n).unwrap_or(u64::MAX)).min(MAX));
        prop_assert_eq!(read(format!("{before}{digits}{after}").as_bytes(), wall()), Some(expected));
    }

    #[test]
    fn a_number_with_anything_else_in_it_is_absent(text in "[0-9]{0,5}[^0-9 \t][0-9]{0,5}") {
        prop_assert_eq!(read(text.as_bytes(), wall()), None);
    }

    #[test]
    fn a_date_is_read_against_the_date_of_the_same_answer(then in date_seconds(), now in date_seconds(), wall: u64) {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, http_date(then).parse().unwrap());
        headers.insert(DATE, http_date(now).parse().unwrap());
        // A `Timestamp` ends in the year 2554: dates beyond it are all the same.
        let (then, now) = (Timestamp::from_secs(then), Timestamp::from_secs(now));
        let expected = then.saturating_since(now).min(MAX);
        prop_assert_eq!(retry_after(&headers, Timestamp::from_nanos(wall)), Some(expected));
    }

    #[test]
    fn without_a_usable_date_it_is_read_against_the_wall(
        then in date_seconds(), date in "[a-z 0-9]{0,30}", now in 0..4_000_000_000u64,
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, http_date(then).parse().unwrap());
        headers.insert(DATE, HeaderValue::from_str(&date).unwrap());
        let now = Timestamp::from_secs(now);
        prop_assert_eq!(retry_after(&headers, now), Some(Timestamp::from_secs(then).saturating_since(now).min(MAX)));
    }
}

#[test]
fn all_three_notations_of_a_date() {
    let wall = Timestamp::from_secs(784_111_677); // 100 s before
    for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
        assert_eq!(read(date.as_bytes(), wall), secs(100), "{date}");
    }
}

/// Found by fuzzing: the date parser skips this one byte unread.
#[test]
fn something_else_than_a_space_between_day_and_time_makes_no_date() {
    for date in ["Sunday, 06-Nov-94$08:49:37 GMT", "Sun, 06 Nov 1994_08:49:37 GMT", "Sun Nov  6T08:49:37 1994"] {
        assert_eq!(read(date.as_bytes(), wall()), None, "{date}");
    }
}

#[test]
fn the_first_line_counts_even_when_malformed() {
    let mut headers = HeaderMap::new();
    headers.append(RETRY_AFTER, HeaderValue::from_static("2"));
    headers.append(RETRY_AFTER, HeaderValue::from_static("3"));
    assert_eq!(retry_after(&headers, wall()), secs(2));

    headers.insert(RETRY_AFTER, HeaderValue::from_static("soon"));
    headers.append(RETRY_AFTER, HeaderValue::from_static("3"));
    assert_eq!(retry_after(&headers, wall()), None);
}

#[test]
fn a_number_needs_no_clock() {
    assert_eq!(read(b"5", Timestamp::EPOCH), secs(5));
    assert_eq!(read(b"5", Timestamp::NEVER), secs(5));
}

/// Cases of `retry_after.json` that say nothing of a `Retry-After` header, or follow another policy.
const NOT_REPLAYED: &[(&str, &str)] = &[
    (
        "retryablehttp-backoff-502-ignored",
        "that client believes the header of a 429 and a 503 only; RFC 9110 does not limit it, so we believe it everywhere",
    ),
    ("envoy-seconds-date", "a setting of that proxy to read seconds only; RFC 9110 has dates too"),
    ("smithy-ms-5000", "x-amz-retry-after is another header, in milliseconds; no provider here sends it"),
    ("smithy-ms-2500", "x-amz-retry-after is another header, in milliseconds; no provider here sends it"),
    ("smithy-ms-invalid", "x-amz-retry-after is another header, in milliseconds; no provider here sends it"),
    ("smithy-own-code-wins", "x-amz-retry-after is another header, in milliseconds; no provider here sends it"),
];

#[test]
fn the_cases_of_seven_other_suites() {
    let file: Value = serde_json::from_str(include_str!("../../tests/oracles/retry_after.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let (mut ran, mut skipped) = (0, 0);
    for case in cases {
        let id = case["id"].as_str().unwrap();
        if let Some((_, why)) = NOT_REPLAYED.iter().find(|(name, _)| *name == id) {
            println!("not replayed: {id}: {why}");
            skipped += 1;
            continue;
        }
        replay(id, case);
        ran += 1;
    }
    println!("retry_after.json: {ran} of {} cases replayed, {skipped} listed above", cases.len());
    assert_eq!((ran, skipped), (32, NOT_REPLAYED.len()));
}

fn replay(id: &str, case: &Value) {
    let (input, expect) = (&case["input"], &case["expect"]);
    let mut headers = HeaderMap::new();
    for value in input["values"].as_array().unwrap() {
        headers.append(RETRY_AFTER, HeaderValue::from_str(value.as_str().unwrap()).unwrap());
    }
    let mut got = retry_after(&headers, Timestamp::from_secs(input["now_unix"].as_u64().unwrap_or(0)));
    // Their cap and their own delay, by our policy.
    if let Some(cap) = input["max_retry_after_s"].as_u64() {
        let policy = RetryAfter::Floor { ceiling: Duration::from_secs(cap) };
        got = got.map(|_| policy.apply(Duration::ZERO, got));
    }
    if let Some(own) = input["backoff_min_ms"].as_u64() {
        got = Some(RetryAfter::Exact { ceiling: MAX }.apply(Duration::from_millis(own), got));
    }

    // Where a suite is more lenient than RFC 9110, it says what a strict reader finds.
    let expect = case.get("strict_expect").unwrap_or(expect);
    let members: Vec<_> = expect.as_object().unwrap().iter().collect();
    match members[..] {
        [(name, value)] => match name.as_str() {
            "delay_ms" => assert_eq!(got, value.as_u64().map(Duration::from_millis), "{id}"),
            "delay_ms_at_least" => assert!(got >= value.as_u64().map(Duration::from_millis), "{id}: {got:?}"),
            // A bare date, read at 1970: the wait is its Unix time.
            "unix" => assert_eq!(got, value.as_u64().map(Duration::from_secs), "{id}"),
            "invalid" | "absent" | "ignored" => assert_eq!(got, None, "{id}"),
            other => panic!("{id} expects {other}, which this test does not know"),
        },
        _ => panic!("{id} expects {expect}"),
    }
}

#[test]
fn hostile_values() {
    let file: Value = serde_json::from_str(include_str!("../../tests/oracles/hostile_inputs.json")).unwrap();
    let mut ran = 0;
    for case in file["cases"].as_array().unwrap() {
        let (id, kind) = (case["id"].as_str().unwrap(), case["kind"].as_str().unwrap());
        if kind != "retry_after" {
            println!("not replayed here: {id}: it is about {kind}, not about one Retry-After header");
            continue;
        }
        let (input, expect) = (&case["input"], &case["expect"]);
        let ceiling = Duration::from_millis(input["max_retry_after_ms"].as_u64().unwrap());
        let wall = Timestamp::from_secs(input["now_unix"].as_u64().unwrap());
        // A value that no header can hold never gets here: `read` then says `None`, as for every malformed one.
        let got = read(input["value"].as_str().unwrap().as_bytes(), wall).map(|wait| wait.min(ceiling));
        match (expect["verdict"].as_str(), expect["delay_ms"].as_u64()) {
            (Some("invalid"), None) => assert_eq!(got, None, "{id}"),
            (Some("capped" | "capped_or_invalid"), None) => assert_eq!(got, Some(ceiling), "{id}"),
            (None, Some(ms)) => assert_eq!(got, Some(Duration::from_millis(ms)), "{id}"),
            _ => panic!("{id} expects {expect}, which this test does not know"),
        }
        ran += 1;
    }
    println!("hostile_inputs.json: {ran} cases about Retry-After replayed");
    assert_eq!(ran, 20);
}

#[test]
fn no_status_is_needed_to_be_believed() {
    // The header alone decides; `status::failure` hands it on for any status.
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
    for status in [408, 429, 500, 502, 503] {
        let answer = steadfast_providers::Answer::new(
            steadfast_core::Kind::Create,
            StatusCode::from_u16(status).unwrap(),
            &headers,
            b"",
            wall(),
        );
        assert_eq!(steadfast_providers::status::failure(&answer).retry_after, secs(2), "{status}");
    }
}

/// Texts of `http_date.json` that are no HTTP date by the grammar, and mean something in this header all the same.
const ALSO_READ: &[(&str, &str)] = &[("curl-175", "the spaces around a field's value are no part of it")];

#[test]
fn the_dates_of_five_other_suites() {
    let file: Value = serde_json::from_str(include_str!("../../tests/oracles/http_date.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let (mut dates, mut none, mut early, mut lenient) = (0, 0, 0, 0);
    for case in cases {
        let (id, text) = (case["id"].as_str().unwrap(), case["input"].as_str().unwrap());
        let grammar = &case["rfc9110_grammar"];
        assert!(grammar["leap"] != true && grammar["weekday_ok"] != false, "{id}: this test does not know such a date");
        // Ours begin in 1970.
        let unix = match ALSO_READ.iter().find(|(name, _)| *name == id) {
            Some((_, why)) => {
                println!("read: {id}: {why}");
                case["expect"]["unix"].as_u64()
            }
            None => grammar["unix"].as_u64(),
        };
        let Some(unix) = unix else {
            assert_eq!(read(text.as_bytes(), Timestamp::EPOCH), None, "{id}");
            none += 1;
            early += usize::from(grammar["unix"].is_i64());
            lenient += usize::from(case["expect"]["unix"].is_i64() || case["expect"]["accept"] == true);
            continue;
        };
        // A `Timestamp` ends in the year 2554: dates beyond it are all the same.
        let then = Timestamp::from_secs(unix);
        let before = Timestamp::from_nanos(then.as_nanos() - 10_000_000_000);
        assert_eq!(read(text.as_bytes(), before), secs(10), "{id}");
        if let Some(theirs) = case["expect"]["unix"].as_i64() {
            assert_eq!(i64::try_from(unix), Ok(theirs), "{id}");
        }
        dates += 1;
    }
    println!(
        "http_date.json: {} cases replayed, none left out: {dates} dates, {none} refused, of which {early} are of before 1970, and {lenient} \
         are read by the suite that they are from",
        cases.len()
    );
    assert_eq!((dates, none, early), (19, 126, 4));
    assert_eq!(dates + none, cases.len());
}
