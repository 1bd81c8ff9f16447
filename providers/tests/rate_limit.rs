//! What a provider says of its own limit comes from another party: it is read strictly, bounded, and never panics.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use steadfast_core::Timestamp;
use steadfast_core::rate_limit::Quota;
use steadfast_providers::rate_limit::{Reset, quota};
use steadfast_providers::retry_after::MAX;

const NAMES: [&str; 9] = [
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "date",
];

/// Our wall clock in these tests, 2023-11-14.
const WALL: Timestamp = Timestamp::from_secs(1_700_000_000);

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let line =
        |(name, value): &(&'static str, &str)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    // Repeated names are repeated lines.
    lines.iter().map(line).fold(HeaderMap::new(), |mut headers, (name, value)| {
        headers.append(name, value);
        headers
    })
}

fn read(lines: &[(&'static str, &str)]) -> Option<Quota> {
    quota(&headers(lines), Reset::Guess, WALL)
}

fn left(remaining: u32, reset: u64) -> Quota {
    Quota { remaining: Some(remaining), reset: Some(Duration::from_secs(reset)), ..Quota::default() }
}

proptest! {
    #[test]
    fn no_header_panics_or_exceeds_the_maximum(values in prop::collection::vec((0_usize..9, any::<Vec<u8>>()), 0..8), wall: u64) {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(HeaderName::from_static(NAMES[name]), value);
            }
        }
        for unit in [Reset::DeltaSeconds, Reset::EpochSeconds, Reset::EpochMillis, Reset::Guess] {
            if let Some(said) = quota(&headers, unit, Timestamp::from_nanos(wall)) {
                prop_assert!(said.reset.is_none_or(|reset| reset <= MAX) && said.window.is_none_or(|window| window <= MAX));
                prop_assert_ne!(said, Quota::default());
            }
        }
    }

    #[test]
    fn no_near_field_panics(item in "\"?[a-z]{0,3}\"?(;[rtqw](=-?[0-9]{0,20}(\\.[0-9])?)?){0,3}", policy in "\"a\";q=[0-9]{0,17};w=[0-9]{0,17}") {
        let _ = read(&[("ratelimit", &item), ("ratelimit-policy", &policy)]);
    }

    #[test]
    fn numbers_of_any_length_are_numbers(digits in "[0-9]{1,40}") {
        let said = read(&[("x-ratelimit-remaining", &digits)]).unwrap();
        prop_assert_eq!(said.remaining, Some(digits.parse().unwrap_or(u32::MAX)));
    }
}

/// The draft's own examples (draft-ietf-httpapi-ratelimit-headers).
#[test]
fn the_ietf_fields_are_read_together() {
    let policy = r#""burst";q=100;w=60,"daily";q=1000;w=86400"#;
    let said = read(&[("ratelimit", r#""daily";r=50;t=30"#), ("ratelimit-policy", policy)]).unwrap();
    assert_eq!(said, Quota { limit: Some(1_000), window: Some(Duration::from_secs(86_400)), ..left(50, 30) });
    assert_eq!(read(&[("ratelimit", r#""default";r=50;t=30"#)]), Some(left(50, 30)));
    // Found by fuzzing: white space around a field is no part of it, tabs included.
    assert_eq!(read(&[("ratelimit", "\t\"default\";r=50;t=30 \t")]), Some(left(50, 30)));
    let policy = read(&[("ratelimit-policy", r#""default";q=100;w=10"#)]).unwrap();
    assert_eq!((policy.limit, policy.window, policy.remaining), (Some(100), Some(Duration::from_secs(10)), None));
}

#[test]
fn of_several_limits_the_tightest_counts_over_all_lines() {
    let lines = [("ratelimit", r#""day";r=5;t=3600"#), ("ratelimit", r#""minute";r=3;t=20, "hour";r=3;t=900"#)];
    assert_eq!(read(&lines), Some(left(3, 900)), "as few are left for longer");
}

/// `qu` says what a quota counts: bytes that are spent must not stop requests.
#[test]
fn a_quota_of_bytes_says_nothing_of_requests() {
    let policy = r#""bytes";q=9000;w=60;qu="content-bytes", "calls";q=10;w=60;qu="requests""#;
    let lines = [("ratelimit", r#""bytes";r=0;t=50, "calls";r=7;t=20"#), ("ratelimit-policy", policy)];
    let said = read(&lines).unwrap();
    assert_eq!(said, Quota { limit: Some(10), window: Some(Duration::from_secs(60)), ..left(7, 20) });
}

#[test]
fn a_malformed_field_counts_as_absent() {
    let broken =
        [r#""a";r=5;t=30,"#, r#"a;r=5"#, r#""a";r=-5;t=30"#, r#""a";r=5.5"#, r#"("a");r=5"#, "5", "", r#""a";t=30"#];
    for text in broken {
        assert_eq!(read(&[("ratelimit", text)]), None, "{text}");
    }
    for text in ["-1", "+5", "1.5", "1e3", "NaN", "5,10", "٥", ""] {
        assert_eq!(read(&[("x-ratelimit-remaining", text)]), None, "{text}");
    }
    let fallback = [("ratelimit", "nonsense;"), ("x-ratelimit-remaining", " 7\t"), ("x-ratelimit-reset", "9")];
    assert_eq!(read(&fallback), Some(left(7, 9)), "the next family is asked");
}

/// Draft 07 has one field for all three, as a dictionary: that is what many servers of Node.js write.
#[test]
fn the_draft_that_has_a_dictionary_is_read() {
    let policy = ("ratelimit-policy", "100;w=60");
    let said = read(&[policy, ("ratelimit", "limit=100, remaining=0, reset=50")]);
    assert_eq!(said, Some(Quota { limit: Some(100), ..left(0, 50) }));
    assert_eq!(read(&[("ratelimit", "remaining=7;x=1"), ("ratelimit", "reset=9")]), Some(left(7, 9)), "over all lines");
    for text in
        ["remaining=-1", "remaining=1.5", "remaining=\"1\"", "remaining=(1 2)", "remaining", "left=1", "remaining=5,"]
    {
        assert_eq!(read(&[("ratelimit", text)]), None, "{text}");
    }
}

/// A policy is the same in every answer. A server may write it in one family, and how much of it is left in another.
#[test]
fn a_family_that_says_how_much_is_left_counts_before_one_that_does_not() {
    let policy = ("ratelimit-policy", r#""default";q=100;w=60"#);
    let usual = [("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")];
    let spent = Quota { limit: Some(100), ..left(0, 30) };
    assert_eq!(read(&[&[policy], &usual[..]].concat()), Some(spent));
    assert_eq!(read(&[&[("ratelimit-limit", "100, 100;w=60")], &usual[..]].concat()), Some(spent));
    assert_eq!(read(&[&[("ratelimit-limit", "100")], &usual[..]].concat()), Some(spent));
    let both = [("ratelimit", r#""default";r=9;t=5"#), usual[1], usual[2]];
    assert_eq!(read(&both), Some(left(9, 5)), "the first that says it");
}

/// The draft: what comes out of a cache tells of the past. An `Age` of nothing is fresh.
#[test]
fn an_answer_out_of_a_cache_says_nothing_of_now() {
    let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")];
    for (age, said) in
        [("1", None), ("99999999999999999999", None), ("0", Some(left(0, 30))), ("soon", Some(left(0, 30)))]
    {
        assert_eq!(read(&[&[("age", age)], &spent[..]].concat()), said, "{age}");
    }
}

/// Persona: delta seconds on every authenticated answer.
#[test]
fn the_earlier_drafts_count_seconds() {
    let lines = [("ratelimit-limit", "300"), ("ratelimit-remaining", "299"), ("ratelimit-reset", "58")];
    assert_eq!(read(&lines), Some(Quota { limit: Some(300), ..left(299, 58) }));
    // GitLab counts from 1970 under the same name: nobody's window ends in 54 years.
    assert_eq!(read(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "1700000042")]), Some(left(0, 42)));
}

/// Didit: Unix seconds, on a 429 only.
#[test]
fn an_absolute_reset_is_compared_with_the_answers_own_clock() {
    let lines = [("x-ratelimit-limit", "600"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000042")];
    for unit in [Reset::EpochSeconds, Reset::Guess] {
        assert_eq!(quota(&headers(&lines), unit, WALL), Some(Quota { limit: Some(600), ..left(0, 42) }));
    }
    let mut with_date = headers(&lines);
    with_date.insert("date", HeaderValue::from_static("Tue, 14 Nov 2023 22:14:00 GMT"));
    let said = quota(&with_date, Reset::EpochSeconds, Timestamp::EPOCH).unwrap();
    assert_eq!(said.reset, Some(Duration::from_secs(2)), "their clock says 22:14:00, and the reset is at 22:14:02");
    let past = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1600000000")];
    assert_eq!(read(&past), Some(left(0, 0)));
}

#[test]
fn a_reset_is_guessed_by_its_size_or_read_as_one_is_told() {
    let reset = |value: &str, unit| {
        let said = quota(&headers(&[("x-rate-limit-reset", value)]), unit, WALL).unwrap();
        said.reset.unwrap().as_secs()
    };
    assert_eq!(reset("30", Reset::Guess), 30);
    assert_eq!(reset("1700000030", Reset::Guess), 30);
    assert_eq!(reset("1700000030000", Reset::Guess), 30);
    assert_eq!(reset("1700000030000", Reset::EpochMillis), 30);
    assert_eq!(reset("1700000030", Reset::DeltaSeconds), 1_700_000_030);
    assert_eq!(reset("99999999999999999999999", Reset::Guess), MAX.as_secs());
    // A date can be nothing else.
    for unit in [Reset::Guess, Reset::EpochSeconds, Reset::DeltaSeconds] {
        assert_eq!(reset("Tue, 14 Nov 2023 22:13:50 GMT", unit), 30);
        assert_eq!(reset("Tue, 14 Nov 2023 22:13:00 GMT", unit), 0, "past");
    }
    let skewed = [("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("ratelimit-remaining", "0")];
    let skewed = [&skewed[..], &[("ratelimit-reset", "Sun, 06 Nov 1994 08:49:42 GMT")]].concat();
    assert_eq!(read(&skewed), Some(left(0, 5)), "by the provider's clock");
}
