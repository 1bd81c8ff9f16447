//! Every case of `tests/oracles/hostile_inputs.json` is met somewhere: here, or by a test of the crate that it
//! concerns.
//!
//! `account` names the tests, for the file's cases and for the hazards that this project knows of; a case without a
//! test or a reason fails, and so does a name that has gone. What needs several crates is replayed below.

mod account;

use std::fs;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use steadfast_core::journal::{DecodeError, decode, encode};
use steadfast_core::operation::Stage;
use steadfast_core::retry::{Certainty, Class, Failure, GaveUp, RetryDecision, RetryPolicy};
use steadfast_core::{Key, Kind, Reference, Seed, Timestamp};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::didit::Didit;
use steadfast_providers::{Answer, Ask, BaseUrl, Payload, Provider, is_secure, structured};
use steadfast_store::{SqliteStore, Store};
use steadfast_testkit::journal_kit::entry;
use url::{Host, Url};

/// The cases of one kind, and how many there must be.
fn each(kind: &str, count: usize, replay: impl Fn(&str, &Value, &Value)) {
    let file: Value = serde_json::from_str(include_str!("../../oracles/hostile_inputs.json")).unwrap();
    let cases = file["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == kind);
    let ran = cases.map(|case| replay(case["id"].as_str().unwrap(), &case["input"], &case["expect"])).count();
    println!("hostile_inputs.json: {ran} cases of kind {kind} replayed");
    assert_eq!(ran, count);
}

/// An idempotency key goes into a header, bare or quoted, and is what was given.
#[test]
fn keys() {
    each("idempotency_key", 8, |id, input, expect| {
        let text = input["key"].as_str().unwrap();
        let key = Key::new(text);
        assert_eq!(key.is_ok(), expect["accept"].as_bool().unwrap(), "{id}");
        let Ok(key) = key else {
            let error = key.unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(text.len() < 3 || !shown.contains(text), "{id}: {shown}");
            return;
        };
        let payload = Payload::from("{}");
        let request = deepvue().request(&Ask::new(Kind::Create, &key, None, &payload)).unwrap();
        assert_eq!(request.headers()["idempotency-key"], text, "{id}");
        let quoted = HeaderMap::from_iter([("idempotency-key".parse().unwrap(), structured::string(text).unwrap())]);
        assert_eq!(structured::read_string(&quoted, "idempotency-key").as_deref(), Some(text), "{id}");
    });
}

/// However often a provider asks to wait, the operation's deadline holds.
#[test]
fn waits_in_all() {
    each("retry_after_total", 1, |id, input, expect| {
        let number = |name: &str| input[name].as_u64().unwrap();
        let wait = Duration::from_secs(input["value"].as_str().unwrap().parse().unwrap());
        let deadline = Duration::from_millis(number("deadline_ms"));
        let most = u16::try_from(number("repeat")).unwrap() + 1;
        let policy = RetryPolicy::default().with_attempts(most).unwrap().with_deadline(deadline).unwrap();
        let throttled = Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(wait));
        let started = Timestamp::from_secs(1_700_000_000);
        let (mut now, mut made) = (started, 1);
        let gave_up = loop {
            match policy.decide(made, throttled, started, now, false, Seed::new(7)) {
                RetryDecision::At(at) => {
                    assert!(at.saturating_since(now) >= wait, "{id}: sooner than it was asked to");
                    (now, made) = (at, made + 1);
                }
                RetryDecision::GiveUp(why) => break why,
            }
        };
        let total = now.saturating_since(started);
        assert!(total <= Duration::from_millis(expect["total_wait_le_ms"].as_u64().unwrap()), "{id}: {total:?}");
        assert_eq!(gave_up, GaveUp::Deadline, "{id}, after {made} attempts and {total:?}");
    });
}

fn deepvue() -> Deepvue {
    Deepvue::new(base(), "pan", Credentials::new("token", "secret").unwrap()).unwrap()
}

fn didit() -> Didit {
    Didit::new(base(), "api-key").unwrap()
}

fn base() -> BaseUrl {
    BaseUrl::parse("https://api.example").unwrap()
}

/// Beyond the cases of the file: what else has led clients astray.
const PLACES: &[&str] = &[
    "//evil.example/x",
    "///evil.example/x",
    "\\\\evil.example\\x",
    "/\\evil.example",
    "http://evil.example",
    "https://evil.example",
    "https://api.example@evil.example",
    "https://api.example.evil.example",
    "https://api.example:8443/x",
    "http://api.example/x",
    "http://169.254.169.254/latest/meta-data",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://[::ffff:127.0.0.1]/",
    "javascript:alert(1)",
    "data:,x",
    "..",
    ".",
    "../..",
    "%2e%2e",
    "%2e%2e%2f",
    "..%2f..",
    "%252e%252e",
    "..;/admin",
    "x?y=z",
    "x#y",
    "x&transaction_id=other",
    "@evil.example",
    ":80",
    "x\u{202e}gnp.exe",
    "\u{2044}\u{2215}x",
    "\u{ff0e}\u{ff0e}\u{ff0f}x",
    "x\u{200b}y",
    "é",
];

/// A place in an answer's header is not read; one that is given for a reference is text, and leads nowhere else.
#[test]
fn places() {
    let asked = std::cell::Cell::new(0);
    let try_all = |id: &str, location: &str| {
        leads_nowhere(id, location);
        asked.set(asked.get() + 1);
    };
    each("poll_location", 7, |id, input, expect| {
        assert!(expect["verdict"].as_str().unwrap().starts_with("refuse"), "{id}");
        try_all(id, input["location"].as_str().unwrap());
    });
    PLACES.iter().for_each(|place| try_all(place, place));
    // As long as references may be, and longer.
    for len in [4_096, 4_100, 70_000] {
        try_all("long", &"/..".repeat(len / 3));
    }
    assert_eq!(asked.get(), 7 + PLACES.len() + 3);
}

fn leads_nowhere(id: &str, location: &str) {
    let (key, payload) = (Key::new("order-42").unwrap(), Payload::from("{}"));
    // As a header of the answer to a create, beside a job that was accepted and in its place.
    let mut headers = HeaderMap::new();
    for name in ["location", "operation-location", "content-location", "link", "azure-asyncoperation", "refresh"] {
        if let Ok(value) = location.parse() {
            headers.insert(name, value);
        }
    }
    for status in [201, 202, 303] {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answer::new(Kind::Create, status, &headers, b"{}", Timestamp::EPOCH).about(&key);
        assert!(deepvue().read(&answer).is_err() && didit().read(&answer).is_err(), "{id}: {status}");
    }
    // As the reference itself.
    let Ok(reference) = Reference::new(location) else { return };
    let ask = Ask::new(Kind::Poll, &key, Some(&reference), &payload);
    assert!(didit().request(&ask).is_err(), "{id}: no session has such a name");
    let url = deepvue().request(&ask).unwrap().uri().clone();
    let origin = (url.scheme_str().unwrap(), url.authority().unwrap().as_str(), url.path());
    assert_eq!(origin, ("https", "api.example", "/v1/verification/get-pan"), "{id}");
    let value = url.query().unwrap().strip_prefix("transaction_id=").unwrap();
    assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{id}: {url}");
    // As a part of a path, where a profile puts it there.
    let Ok(url) = base().join(&["jobs", location, "result"], &[]) else { return };
    assert_eq!((url.scheme_str(), url.authority().unwrap().as_str()), (Some("https"), "api.example"), "{id}");
    assert_eq!(url.path().split('/').count(), 4, "{id}: {url}");
    assert!(!url.path().split('/').any(|it| matches!(it, "." | "..")), "{id}: {url}");
    // By another reader's rules, which resolve dots even where they are encoded.
    let other = reqwest_url(&url.to_string());
    assert_eq!(other, url.to_string(), "{id}");
}

/// The same URL as the HTTP client reads it.
fn reqwest_url(url: &str) -> String {
    Url::parse(url).unwrap().to_string()
}

/// The file of another journal in the place of this one, with the watermark that lay beside it.
#[test]
fn the_journal_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (name, first) in [("ours", 0), ("theirs", 100)] {
        let mut store = SqliteStore::open(at(name)).unwrap();
        store.load().unwrap();
        for number in first..first + 5 {
            store.append(&[entry(number, Stage::Accepted, number)]).unwrap();
        }
    }
    fs::copy(at("theirs"), at("ours")).unwrap();
    let _ = fs::remove_file(at("ours-wal"));
    let before = contents(directory.path());
    let error = SqliteStore::open(at("ours")).map(drop).unwrap_err();
    let told = format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
    assert!(told.contains("another journal"), "{told}");
    assert_eq!(contents(directory.path()), before, "and it is left as it is");
}

fn contents(directory: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let files = fs::read_dir(directory).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = files.map(|file| (file.file_name(), fs::read(file.path()).unwrap())).collect();
    files.sort();
    files
}

/// A length of four gigabytes: no field of a record can say so (the longest has two bytes), and what it says is
/// compared with what is there.
#[test]
fn lengths_in_a_record() {
    let mut bytes = Vec::new();
    encode(&entry(7, Stage::Accepted, 7).record, &mut bytes);
    let right = decode(&bytes).unwrap();
    let mut refused = 0;
    for at in 0..bytes.len() {
        for length in [1, 2, 4, 8] {
            let mut hostile = bytes.clone();
            hostile.iter_mut().skip(at).take(length).for_each(|byte| *byte = 0xff);
            match decode(&hostile) {
                Ok(record) => assert_eq!(record.key.as_str().len(), right.key.as_str().len()),
                Err(DecodeError::Corrupt { at }) => {
                    assert!(at <= hostile.len());
                    refused += 1;
                }
                Err(error) => assert_eq!(error, DecodeError::UnknownVersion(0xff)),
            }
        }
    }
    assert!(refused > 4 * right.key.as_str().len(), "{refused}");
}

/// The HTTP client parses a URL anew, by other rules than the crate that builds it: no text may be this machine to the
/// one and another to the other.
#[test]
fn two_readers_of_a_url_agree_on_whose_it_is() {
    #[rustfmt::skip]
    let parts = [
        "http://", "HTTP://", "https://", "//", "/", "\\", "@", ":", "?", "#", "%", "%2f", "%40", "%00", "%2e", ";",
        "&", "=", "[", "]", "::1", "[::1]", "[::ffff:127.0.0.1]", "127.0.0.1", "127.1", "0x7f.1", "2130706433",
        "0177.0.0.1", "127.0.0.1.", "localhost", "LOCALHOST", "localhost.", "evil.example", "xn--", ":80", ":0",
        ":65536", "user", "a", ".", "..", "\t", "\n", " ", "é", "。", "\u{ff0f}", "~", "!", "$", "'", "(", "*", ",",
        "_", "-", "+", "|", "^", "`", "{", "<", "\"",
    ];
    let mut random = fastrand::Rng::with_seed(0x5eed);
    let (mut here, mut there) = (0, 0);
    for round in 0..200_000 {
        let mut text = if round % 2 == 0 { "http://".to_owned() } else { String::new() };
        for _ in 0..random.usize(1..7) {
            text.push_str(parts[random.usize(..parts.len())]);
        }
        let Ok(uri) = text.parse::<Uri>() else { continue };
        if !is_secure(&uri) {
            continue;
        }
        // What the client makes of it, if anything.
        let Ok(url) = Url::parse(&uri.to_string()) else { continue };
        if url.scheme() == "https" {
            there += 1;
            continue;
        }
        let is_here = match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost",
            None => false,
        };
        assert!(url.scheme() == "http" && is_here, "{text:?}: {uri} is {url}");
        here += 1;
    }
    println!("{here} URLs of this machine, {there} of others by https");
    assert!(here > 1_000 && there > 200, "{here}, {there}");
}
