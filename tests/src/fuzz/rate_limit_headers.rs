//! The headers that tell of a rate limit, of any bytes: never more room than they say, and nothing that they do not
//! say.
//!
//! The families that are plain digits, or dates, are read a second time here and must agree exactly: which family
//! counts, each number, each unit, each clock, each age. For the structured ones: every number in the answer stands in
//! the text; one more limit with nothing left in a list is always seen; and what was read reads the same when written
//! canonically. For all: bounded, not empty, the same twice, and headers of other names and spaces around a value
//! change nothing.
//!
//! Input: lines of `name: value`. A first line `reset=delta|epoch|millis|guess` says what `X-RateLimit-Reset` counts,
//! and one `wall=SECONDS` our clock.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use steadfast_core::Timestamp;
use steadfast_core::rate_limit::Quota;
use steadfast_providers::rate_limit::{Reset, quota};
use steadfast_providers::retry_after::MAX;

use super::retry_after::seconds_of_date;
use super::{WALL_SECS, number, trimmed};

const STRUCTURED: [&str; 2] = ["ratelimit", "ratelimit-policy"];
const PLAIN: [[&str; 3]; 3] = [
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"],
    ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
    ["x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"],
];

/// See the [module](self).
pub fn holds(data: &[u8]) {
    let (mut headers, mut reset, mut wall) = (HeaderMap::new(), Reset::Guess, WALL_SECS);
    for line in data.split(|byte| *byte == b'\n') {
        match line {
            b"reset=delta" => reset = Reset::DeltaSeconds,
            b"reset=epoch" => reset = Reset::EpochSeconds,
            b"reset=millis" => reset = Reset::EpochMillis,
            b"reset=guess" => reset = Reset::Guess,
            _ if line.starts_with(b"wall=") => wall = number(&line[5..]).unwrap_or(wall),
            _ => drop(header(line, &mut headers)),
        }
    }
    let read = |headers: &HeaderMap| quota(headers, reset, Timestamp::from_secs(wall));
    let said = read(&headers);
    assert_eq!(read(&headers), said, "another answer at the second time");
    assert_ne!(said, Some(Quota::default()), "an answer that says nothing");
    if let Some(said) = said {
        assert!(said.reset.is_none_or(|reset| reset <= MAX));
        assert!(said.window.is_none_or(|window| !window.is_zero() && window <= MAX));
    }
    assert_eq!(read(&changed(&headers, |value| [b"\t ", value, b" \t"].concat())), said, "spaces around it count");
    let mut strange = headers.clone();
    strange.insert("x-other", HeaderValue::from_static("\"default\";r=0;t=1"));
    assert_eq!(read(&strange), said, "another header counts");

    let mut plain = headers.clone();
    STRUCTURED.iter().for_each(|name| drop(plain.remove(*name)));
    let by_digits = first_of(PLAIN.map(|names| digits(&plain, names, reset, wall)));
    assert_eq!(read(&plain), by_digits, "{plain:?}");
    let mut structured = headers;
    PLAIN.as_flattened().iter().for_each(|name| drop(structured.remove(*name)));
    let by_list = read(&structured);
    assert_eq!(said, first_of([by_list, by_digits]), "the first family that says what is left counts");
    if let Some(by_list) = by_list {
        check_list(&structured, by_list, read);
    }
}

fn header(line: &[u8], headers: &mut HeaderMap) -> Option<bool> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    Some(headers.append(name, HeaderValue::from_bytes(trimmed(&line[colon + 1..])).ok()?))
}

fn changed(headers: &HeaderMap, change: impl Fn(&[u8]) -> Vec<u8>) -> HeaderMap {
    let changed =
        |value: &HeaderValue| HeaderValue::from_bytes(&change(value.as_bytes())).unwrap_or_else(|_| value.clone());
    headers.iter().map(|(name, value)| (name.clone(), changed(value))).collect()
}

/// The first that says how much is left, or else anything.
fn first_of(families: impl IntoIterator<Item = Option<Quota>>) -> Option<Quota> {
    let families: Vec<Quota> = families.into_iter().flatten().collect();
    families.iter().find(|said| said.remaining.is_some()).or_else(|| families.first()).copied()
}

/// The second reading of a family of plain digits.
fn digits(headers: &HeaderMap, names: [&str; 3], reset: Reset, wall: u64) -> Option<Quota> {
    let line = |name: &str| headers.get(name).map(|value| trimmed(value.as_bytes()));
    let read = |name: &str| line(name).and_then(number);
    if read("age").is_some_and(|age| age > 0) {
        return None;
    }
    let now = line("date").and_then(seconds_of_date).unwrap_or(wall);
    let unit = if names[0].starts_with('x') { reset } else { Reset::Guess };
    let (scale, absolute) = match (unit, read(names[2]).unwrap_or_default()) {
        (Reset::EpochSeconds, _) | (Reset::Guess, 100_000_001..=100_000_000_000) => (1_000_000_000, true),
        (Reset::EpochMillis, _) | (Reset::Guess, 100_000_000_001..) => (1_000_000, true),
        _ => (1_000_000_000, false),
    };
    let span = |at: u64| {
        let nanos = |number: u64, scale: u128| (u128::from(number) * scale).min(u128::from(u64::MAX));
        let from = if absolute { nanos(now, 1_000_000_000) } else { 0 };
        Duration::from_nanos(nanos(at, scale).saturating_sub(from) as u64).min(MAX)
    };
    let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
    let [limit, remaining] = [names[0], names[1]].map(|name| read(name).map(small));
    // A date says what it counts.
    let dated =
        || line(names[2]).and_then(seconds_of_date).map(|at| Duration::from_secs(at.saturating_sub(now)).min(MAX));
    let said = Quota { limit, window: None, remaining, reset: read(names[2]).map(span).or_else(dated) };
    (said != Quota::default()).then_some(said)
}

fn check_list(headers: &HeaderMap, said: Quota, read: impl Fn(&HeaderMap) -> Option<Quota>) {
    let mut told = Vec::new();
    for value in STRUCTURED.iter().flat_map(|name| headers.get_all(*name)) {
        told.extend(value.as_bytes().split(|byte| !byte.is_ascii_digit()).filter_map(number));
    }
    let counts = |count: u32| told.iter().any(|number| u32::try_from(*number).unwrap_or(u32::MAX) == count);
    let lasts = |span: Duration| told.iter().any(|number| Duration::from_secs(*number).min(MAX) == span);
    assert!(said.limit.is_none_or(counts) && said.remaining.is_none_or(counts), "a count that is not told: {said:?}");
    assert!(said.reset.is_none_or(lasts) && said.window.is_none_or(lasts), "a time that is not told: {said:?}");

    // Draft 07 has a dictionary in its place, which nothing can be added to.
    let is_list = headers.get(STRUCTURED[0]).is_some_and(|value| trimmed(value.as_bytes()).starts_with(b"\""));
    if said.remaining.is_some() && is_list {
        let mut spent = headers.clone();
        spent.append(STRUCTURED[0], HeaderValue::from_static("\"one that no text names\";r=0;t=0"));
        assert_eq!(read(&spent).and_then(|said| said.remaining), Some(0), "a spent limit is not seen: {spent:?}");
    }
    if said.remaining.is_none() && said.reset.is_some() {
        // So says a dictionary alone.
        return assert!(!is_list, "a time of no limit: {said:?}");
    }
    let parameter = |name, number: Option<u64>| number.map_or(String::new(), |number| format!(";{name}={number}"));
    let limit = parameter("r", said.remaining.map(u64::from)) + &parameter("t", said.reset.map(|it| it.as_secs()));
    let policy = parameter("q", said.limit.map(u64::from)) + &parameter("w", said.window.map(|it| it.as_secs()));
    let written = [(STRUCTURED[0], limit), (STRUCTURED[1], policy)];
    let canonical = written.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| {
        (HeaderName::from_static(name), HeaderValue::try_from(format!("\"x\"{text}")).expect("visible ASCII"))
    });
    assert_eq!(read(&canonical.collect()), Some(said), "written canonically");
}
