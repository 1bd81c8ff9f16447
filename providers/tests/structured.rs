//! Strings of structured fields: the cases of the HTTP working group's own suite (`idempotency_key_sf.json` names it),
//! and what it cannot list.

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::Value;
use steadfast_providers::structured::{read_string, string};

const NAME: &str = "idempotency-key";

fn headers(lines: impl IntoIterator<Item = HeaderValue>) -> HeaderMap {
    lines.into_iter().map(|line| (NAME.parse().unwrap(), line)).collect()
}

proptest! {
    #[test]
    fn what_is_written_reads_back(text in "[ -~]{0,255}") {
        let written = string(&text).unwrap();
        prop_assert_eq!(read_string(&headers([written]), NAME), Some(text));
    }

    #[test]
    fn what_would_split_a_header_is_not_written(head in "[ -~]{0,20}", bad in "[^ -~]", tail in ".{0,20}") {
        let hostile = format!("{head}{bad}{tail}");
        let error = string(&hostile).unwrap_err();
        let shown = format!("{error} {error:?}");
        prop_assert!(!shown.contains(&hostile));
    }

    #[test]
    fn no_bytes_panic(lines: Vec<Vec<u8>>) {
        let lines = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok());
        let _ = read_string(&headers(lines), NAME);
    }
}

#[test]
fn the_cases_of_the_working_group() {
    let file: Value = serde_json::from_str(include_str!("../../tests/oracles/idempotency_key_sf.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let (mut read, mut written) = (0, 0);
    for case in cases {
        let (id, expect) = (case["id"].as_str().unwrap(), &case["expect"]);
        let value = expect["value"].as_str();
        assert!(value.is_some() != (expect["must_fail"] == true), "{id} expects {expect}");
        if let Some(text) = case["serialise"].as_str() {
            assert!(value.is_none() && string(text).is_err(), "{id}");
            written += 1;
            continue;
        }
        let lines: Vec<_> = case["input"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        // A line that no header can hold never gets here.
        let got: Option<Vec<_>> = lines.iter().map(|line| HeaderValue::from_bytes(line.as_bytes()).ok()).collect();
        let got = got.and_then(|lines| read_string(&headers(lines), NAME));
        assert_eq!(got.as_deref(), value, "{id}");
        if let Some(value) = value {
            let canonical = expect["canonical"][0].as_str().unwrap_or(lines[0]);
            assert_eq!(string(value).unwrap(), canonical, "{id}");
        }
        read += 1;
    }
    println!("idempotency_key_sf.json: {read} cases read, {written} written, of {}; none left out", cases.len());
    assert_eq!((read, written, read + written), (127, 17, cases.len()));
}

#[test]
fn only_a_string_is_one() {
    for (text, got) in [
        ("\"a\"", Some("a")),
        (" \t\"a\" ", Some("a")),
        ("\"\"", Some("")),
        ("\"a\";b=1", Some("a")),
        ("a", None),
        ("1", None),
        (":YQ==:", None),
        ("?1", None),
        ("(\"a\")", None),
        ("\"a\", \"b\"", None),
        ("\"a\" b", None),
        ("", None),
    ] {
        let headers = headers([HeaderValue::from_static(text)]);
        assert_eq!(read_string(&headers, NAME).as_deref(), got, "{text}");
    }
    assert_eq!(read_string(&HeaderMap::new(), NAME), None);
}
