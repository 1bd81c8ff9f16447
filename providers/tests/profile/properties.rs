//! Whatever comes: rules, states and words.

use std::sync::LazyLock;
use std::time::Duration;

use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::gate::{Kinds, RateLimit, WhenOpen};
use steadfast_core::operation::Reading;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, SendSafety, Timestamp};
use steadfast_providers::profile::{Profile, SHIPPED, words};
use steadfast_providers::{Answer, Provider};

use super::{ACME, WALL, connect, deepvue, key, read};

/// [`ACME`] with these tables after it.
fn with(tables: &str) -> Profile {
    Profile::parse(&format!("{ACME}{tables}")).unwrap()
}

#[test]
fn rules_on_status_and_headers_come_first_and_then_the_files_order() {
    let acme = with(
        r#"
        [[poll.rules]]
        when = { body = { pointer = "/code", equals = [7, "7", true] } }
        is = "undecided"
        [[poll.rules]]
        when = { status = ["2xx", 404], body = { contains = "PARTLY", loose = true } }
        is = "partial"
        [[poll.rules]]
        when = { status = [404, 410] }
        is = "not-found"
        [[poll.rules]]
        when = { status = "any", header = { name = "x-state", equals = "busy" } }
        is = "throttled"
        [[poll.rules]]
        when = { status = "5xx", body = [{ pointer = "/a", present = true }, { pointer = "/b", present = false }] }
        is = "permanent"
        "#,
    );
    let poll = |status, body: &str| read(&acme, Kind::Poll, status, body);
    assert_eq!(poll(200, r#"{"status":"done","code":7}"#), Ok(Reading::Undecided));
    assert_eq!(poll(200, r#"{"status":"done","code":"7"}"#), Ok(Reading::Undecided));
    assert_eq!(poll(200, r#"{"status":"done","code":true}"#), Ok(Reading::Undecided));
    assert_eq!(poll(200, r#"{"status":"done","code":"true"}"#), Ok(Reading::Ready), "a text is no truth value");
    assert_eq!(poll(200, r#"{"status":"done","code":8,"x":"partly"}"#), Ok(Reading::Partial));
    assert_eq!(poll(404, "partly"), Ok(Reading::NotFound), "the status alone is asked first");
    assert_eq!(poll(410, r#"{"code":7}"#), Ok(Reading::NotFound));
    let permanent = Err(Failure::new(Class::Permanent, Certainty::NotExecuted));
    assert_eq!(poll(500, r#"{"a":0}"#), permanent);
    for other in [r#"{"a":0,"b":0}"#, r#"{"a":null}"#, r#"{"a":0,"a":1}"#, "<html>"] {
        assert_eq!(poll(500, other), Err(Failure::new(Class::Transient, Certainty::NotExecuted)), "{other}");
    }
    assert_eq!(
        poll(500, r#"{"code":7}"#),
        Err(Failure::new(Class::Transient, Certainty::NotExecuted)),
        "2xx if it says none"
    );

    let busy = HeaderMap::from_iter([("x-state".parse().unwrap(), HeaderValue::from_static("busy"))]);
    let answer = Answer::new(Kind::Poll, StatusCode::OK, &busy, br#"{"status":"done"}"#, WALL);
    assert_eq!(acme.read(&answer), Err(Failure::new(Class::Throttled, Certainty::NotExecuted)));
}

#[test]
fn a_creates_failures_are_as_certain_as_the_file_says() {
    let acme = with(
        r#"
        [[create.rules]]
        when = { status = 503 }
        is = "transient"
        certainty = "not-executed"
        [[create.rules]]
        when = { status = 409, body = { pointer = "/code", equals = 6701 } }
        is = "transient"
        [[create.rules]]
        when = { status = 409, body = { pointer = "/id", present = true } }
        is = "accepted"
        [[create.rules]]
        when = { status = 422 }
        is = "permanent"
        certainty = "executed"
        [[create.rules]]
        when = { status = 208 }
        is = "accepted"
        "#,
    );
    let create = |status, body: &str| read(&acme, Kind::Create, status, body);
    let failure = |class, certainty| Err(Failure::new(class, certainty));
    assert_eq!(create(503, ""), failure(Class::Transient, Certainty::NotExecuted));
    assert_eq!(create(409, r#"{"code":6701}"#), failure(Class::Transient, Certainty::MayHaveExecuted));
    assert_eq!(create(409, "{}"), failure(Class::Permanent, Certainty::MayHaveExecuted));
    assert_eq!(words(&create(409, r#"{"id":"s-1"}"#)), "accepted s-1");
    assert_eq!(words(&create(208, r#"{"id":"s-1"}"#)), "accepted s-1");
    assert_eq!(create(409, r#"{"id":7}"#), failure(Class::Permanent, Certainty::MayHaveExecuted), "no text");
    assert_eq!(create(422, ""), failure(Class::Permanent, Certainty::Executed));
}

#[test]
fn states_are_exact_unless_the_file_says_loose() {
    let other = |state: &str| Profile::parse(&ACME.replace("state = { pointer = \"/status\", ", state)).unwrap();
    let exact = Profile::parse(ACME).unwrap();
    let loose =
        other("state = { pointer = \"/status\", loose = true, missing = \"pending\", unknown = \"awaiting-review\", ");
    let poll = |profile, status: &str| words(&read(profile, Kind::Poll, 200, &format!(r#"{{"status":{status}}}"#)));
    assert_eq!(poll(&exact, r#""DONE""#), "unknown status \"DONE\"");
    assert_eq!(poll(&exact, "null"), "transient failure, not executed");
    assert_eq!(poll(&loose, r#"" DONE\n""#), "ready");
    assert_eq!(poll(&loose, "null"), "pending");
    assert_eq!(poll(&loose, r#""asleep""#), "awaiting a person");
    let numbers = Profile::parse(&ACME.replace(
        "{ queued = \"pending\", done = \"ready\", error = \"failed\" }",
        "{ 9001 = \"ready\", true = \"failed\" }, number = true",
    ))
    .unwrap();
    assert_eq!(
        (&*poll(&numbers, "9001"), &*poll(&numbers, "true"), &*poll(&numbers, "9002")),
        ("ready", "failed", "unknown status \"9002\"")
    );
}

#[test]
fn without_a_state_the_status_alone_decides() {
    let state = ACME.lines().find(|line| line.starts_with("state")).unwrap();
    let acme = Profile::parse(&ACME.replace(state, "")).unwrap();
    assert_eq!(read(&acme, Kind::Poll, 202, "<html>"), Ok(Reading::Pending { hint: None }));
    assert_eq!(read(&acme, Kind::Poll, 200, "%PDF"), Ok(Reading::Ready));
    assert_eq!(read(&acme, Kind::Poll, 404, ""), Err(Failure::new(Class::Permanent, Certainty::NotExecuted)));
}

#[test]
fn a_byte_order_mark_is_no_part_of_an_answer() {
    let body = "\u{feff}{\"code\":200,\"data\":{\"name\":\"A\"}}";
    assert_eq!(read(&deepvue(), Kind::Poll, 200, body), Ok(Reading::Ready));
    assert_eq!(deepvue().result(&body.into()), r#"{"name":"A"}"#);
}

#[test]
fn a_hint_counts_where_the_file_believes_it() {
    let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
    let answer = |kind, status| {
        Answer::new(kind, StatusCode::from_u16(status).unwrap(), &headers, br#"{"status":"queued"}"#, WALL)
    };
    let (acme, seven) = (Profile::parse(ACME).unwrap(), Some(Duration::from_secs(7)));
    assert_eq!(acme.read(&answer(Kind::Poll, 200)), Ok(Reading::Pending { hint: seven }));
    assert_eq!(acme.read(&answer(Kind::Create, 409)).unwrap_err().class, Class::Transient);
    let deaf = Profile::parse(&format!("retry_after = false\nrate_limit_reset = \"ignored\"\n{ACME}")).unwrap();
    assert_eq!(deaf.read(&answer(Kind::Poll, 200)), Ok(Reading::Pending { hint: None }));
    assert_eq!(
        deaf.read(&answer(Kind::Create, 409)).unwrap_err(),
        Failure::new(Class::Permanent, Certainty::MayHaveExecuted)
    );
    let limits = HeaderMap::from_iter([("x-ratelimit-remaining".parse().unwrap(), HeaderValue::from_static("1"))]);
    let answer = Answer::new(Kind::Poll, StatusCode::OK, &limits, b"", WALL);
    assert!(connect(&acme).quota(&answer).is_some() && connect(&deaf).quota(&answer).is_none());
}

#[test]
fn a_body_that_is_no_json_can_be_looked_at_as_text() {
    let state = ACME.lines().find(|line| line.starts_with("state")).unwrap();
    let rule = "[[poll.rules]]\nwhen = { body = { contains = \"still running\", loose = true } }\nis = \"pending\"";
    let acme = Profile::parse(&ACME.replace(state, rule)).unwrap();
    assert_eq!(read(&acme, Kind::Poll, 200, "<p>Still Running</p>"), Ok(Reading::Pending { hint: None }));
    assert_eq!(read(&acme, Kind::Poll, 200, "%PDF"), Ok(Reading::Ready));
}

/// Azure's 202 has no body, and a result may be a picture: what a rule looks for in an error says nothing of those.
#[test]
fn a_rule_on_an_errors_body_asks_no_json_of_a_good_answer() {
    let state = ACME.lines().find(|line| line.starts_with("state")).unwrap();
    let acme = ACME.replace(state, "").replace("{ pointer = \"/id\" }", "{ header = \"Operation-Location\" }");
    let rules = "[[create.rules]]\nwhen = { status = 409, body = { pointer = \"/code\", equals = 6701 } }\nis = \"transient\"\n\
        [[poll.rules]]\nwhen = { status = [\"4xx\", 503], body = { pointer = \"/code\", equals = 7 } }\nis = \"throttled\"\n\
        [[poll.rules]]\nwhen.status = 410\nstate = { pointer = \"/state\", values = { gone = \"undecided\" } }";
    let acme = Profile::parse(&format!("{acme}{rules}")).unwrap();
    let headers = HeaderMap::from_iter([("operation-location".parse().unwrap(), HeaderValue::from_static("s-1"))]);
    let created = Answer::new(Kind::Create, StatusCode::ACCEPTED, &headers, b"", WALL);
    assert_eq!(words(&acme.read(&created)), "accepted s-1");
    assert_eq!(read(&acme, Kind::Poll, 202, ""), Ok(Reading::Pending { hint: None }));
    assert_eq!(read(&acme, Kind::Poll, 200, "%PDF"), Ok(Reading::Ready));
    assert_eq!(read(&acme, Kind::Poll, 503, r#"{"code":7}"#).unwrap_err().class, Class::Throttled);
    assert_eq!(read(&acme, Kind::Poll, 410, r#"{"state":"gone"}"#), Ok(Reading::Undecided));
    let conflict = read(&acme, Kind::Create, 409, r#"{"code":6701}"#);
    assert_eq!(words(&conflict), "transient failure, may have executed");
}

/// `{"code": 202}` with an HTTP 200 is a 202, and so are the rules that are asked.
#[test]
fn a_status_in_the_body_has_the_rules_of_that_status() {
    let rules = "[[poll.rules]]\nwhen = { status = 202, body = { pointer = \"/part\", present = true } }\nis = \"partial\"\n\
        [[poll.rules]]\nwhen = { status = 202, body = { pointer = \"/part\", present = false } }\nis = \"pending\"";
    let acme = Profile::parse(&format!("status_in_body = \"/code\"\n{ACME}{rules}")).unwrap();
    for (status, body) in [(202, r#"{"part":1}"#), (202, r#"{"code":202,"part":1}"#), (200, r#"{"code":202,"part":1}"#)]
    {
        assert_eq!(read(&acme, Kind::Poll, status, body), Ok(Reading::Partial), "{status} {body}");
    }
    assert_eq!(read(&acme, Kind::Poll, 200, r#"{"code":202}"#), Ok(Reading::Pending { hint: None }));
    let twice = read(&acme, Kind::Poll, 200, r#"{"code":202,"part":1,"part":2}"#);
    assert_eq!(twice, Err(Failure::new(Class::Transient, Certainty::NotExecuted)), "a member that decides");
}

/// [`ACME`] with a look-up that is answered with a list at this place.
fn listing(at: &str, more: &str, rules: &str) -> Profile {
    with(&format!(
        "[lookup]\npath = \"/v1/scans\"\nquery = {{ client = \"{{key}}\" }}\n\
        list = {{ pointer = \"{at}\", reference = \"/id\", key = \"/client\"{more} }}\n{rules}"
    ))
}

/// A job that is there must not be created again because a rule asks for the same place in another way.
#[test]
fn a_rule_sees_into_the_list_that_is_looked_through() {
    let none = |first: &str| {
        format!(
            "[[lookup.rules]]\nwhen = {{ body = {{ pointer = \"{first}\", present = false }} }}\nis = \"not-found\""
        )
    };
    let (member, whole) = (listing("/scans", "", &none("/scans/0/id")), listing("", "", &none("/0")));
    let jobs = r#"[{"id":"s-1","client":"order-42"}]"#;
    let wrapped = format!(r#"{{"scans":{jobs}}}"#);
    for (profile, found, empty) in [(&member, &*wrapped, r#"{"scans":[]}"#), (&whole, jobs, "[]")] {
        assert_eq!(words(&read(profile, Kind::Lookup, 200, found)), "accepted s-1");
        assert_eq!(read(profile, Kind::Lookup, 200, empty), Ok(Reading::NotFound));
    }
    let twice = r#"{"scans":[{"id":"s-1","client":"order-42","id":"s-2"}]}"#;
    assert!(read(&member, Kind::Lookup, 200, twice).is_err());
}

/// A cursor that is there in any case is empty after the last page.
#[test]
fn an_empty_cursor_is_no_next_page() {
    let pages = listing("/scans", ", more = \"/next\"", "");
    let listed = |next: &str| read(&pages, Kind::Lookup, 200, &format!(r#"{{"scans":[],"next":{next}}}"#));
    for none in ["null", "false", "\"\""] {
        assert_eq!(listed(none), Ok(Reading::NotFound), "{none}");
    }
    for more in ["true", "\"c-2\"", "\" \"", "0", "1", "{\"page\":2}"] {
        assert!(listed(more).is_err(), "{more}");
    }
}

#[test]
fn the_gate_is_set_in_the_cores_own_words() {
    let gate = "[gate]\nwhen_open = \"refuse\"\nlongest_pause = \"10m\"\nbreaker = { trip = { consecutive = { failures = 3 } } }\n\
        [[limits]]\ncount = 5\nper = \"1s\"\nkinds = [\"create\"]\n[policy]";
    let acme = Profile::parse(&ACME.replace("[policy]", gate)).unwrap();
    let set = connect(&acme).gate();
    assert_eq!((set.when_open(), set.longest_pause()), (WhenOpen::Refuse, Duration::from_secs(600)));
    assert_eq!(set.breaker(), Some(&BreakerPolicy::consecutive(3).unwrap()));
    assert_eq!(
        set.rate_limits(),
        [RateLimit { kinds: Kinds::of(&[Kind::Create]), rate: RatePolicy::new(5, Duration::from_secs(1)).unwrap() }]
    );
    assert_eq!(connect(&acme).policy().safety(), SendSafety::Keyed { window: Duration::from_secs(86_400) });
}

#[test]
fn a_result_is_cut_out_as_it_was_written() {
    let path = "path = \"/v1/scans/{reference}\"";
    let acme = Profile::parse(&ACME.replace(path, &format!("{path}\nresult = [\"/data/0\", \"/output\"]"))).unwrap();
    let cut = |body: &str| acme.result(&body.to_owned().into());
    assert_eq!(cut(r#"{"data":[ {"n":1.50} ,2]}"#), r#"{"n":1.50}"#);
    assert_eq!(cut(r#"{"data":[null],"output":"x"}"#), r#""x""#);
    assert_eq!(cut(r#"{"x":1}"#), r#"{"x":1}"#);
    assert_eq!(cut("%PDF"), "%PDF");
}

#[test]
fn every_shipped_profile_is_good_and_told_in_words() {
    for (name, text) in SHIPPED {
        let profile = Profile::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let told = profile.describe();
        for fact in ["create", "key", "safety", "secrets"] {
            assert!(told.lines().any(|line| line.trim_start().starts_with(fact)), "{name}: {told}");
        }
        println!("{told}");
    }
}

fn shipped() -> &'static [(&'static str, Profile)] {
    static PROFILES: LazyLock<Vec<(&str, Profile)>> =
        LazyLock::new(|| SHIPPED.iter().map(|(name, text)| (*name, Profile::parse(text).unwrap())).collect());
    &PROFILES
}

/// JSON made of what the answers of shipped profiles are made of.
pub(super) fn body() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<String> = SHIPPED
        .iter()
        .flat_map(|(_, text)| text.split('"'))
        .filter(|word| (1..40).contains(&word.len()) && !word.contains(['\n', '\\']))
        .map(|word| word.rsplit('/').next().unwrap_or_default().to_owned())
        .collect();
    let word = prop::sample::select(words);
    let scalar = prop_oneof![
        4 => word.clone().prop_map(|word| format!("\"{word}\"")),
        1 => prop::sample::select(vec!["null", "true", "0", "9001", "-1", "1e400", "[]", "{}", "1.5"]).prop_map(str::to_owned),
    ];
    let json = scalar
        .prop_recursive(3, 24, 6, move |inner| {
            prop_oneof![
                4 => prop::collection::vec((word.clone(), inner.clone()), 0..6).prop_map(|members| {
                    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                    format!("{{{}}}", members.join(","))
                }),
                1 => prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            ]
        })
        .boxed();
    prop_oneof![4 => json.prop_map(String::into_bytes), 1 => any::<Vec<u8>>()].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_answer_panics_and_a_reading_fits_its_request(
        kind in prop::sample::select(&[Kind::Create, Kind::Lookup, Kind::Poll][..]), status in prop_oneof![Just(200u16), 100..=999u16],
        body in body(), hint in "[ -~]{0,30}", wall: u64, told: bool,
    ) {
        let mut headers = HeaderMap::new();
        for name in ["retry-after", "x-ratelimit-reset", "location", "operation-location"] {
            headers.insert(name, HeaderValue::from_str(&hint).unwrap());
        }
        let (status, key) = (StatusCode::from_u16(status).unwrap(), key());
        let mut answer = Answer::new(kind, status, &headers, &body, Timestamp::from_nanos(wall));
        if told {
            answer = answer.about(&key);
        }
        for (name, profile) in shipped() {
            let read = profile.read(&answer);
            prop_assert_eq!(&read, &profile.read(&answer));
            match (kind, &read) {
                (Kind::Poll, Ok(reading)) => prop_assert!(!matches!(reading, Reading::Accepted(_)), "{}", name),
                (_, Ok(reading)) => prop_assert!(
                    matches!(reading, Reading::Accepted(_) | Reading::NotFound | Reading::Ready | Reading::Undecided | Reading::Failed),
                    "{}", name
                ),
                (Kind::Create, Err(_)) => {}
                (_, Err(failure)) => prop_assert_eq!(failure.certainty, Certainty::NotExecuted),
            }
            prop_assert!(profile.result(&body.clone().into()).len() <= body.len());
        }
    }
}
