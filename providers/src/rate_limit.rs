//! Reads from a provider's headers how many requests are left.
//!
//! Four families of headers say it. The first readable one that says how much is left counts; if none does, the first
//! that says anything:
//!
//! | headers | left | until the window ends | limit and window |
//! | --- | --- | --- | --- |
//! | `RateLimit`, `RateLimit-Policy` (IETF draft of 2025, structured fields) | `r` | `t`, in seconds | `q`, `w` |
//! | `RateLimit: limit=…, remaining=…, reset=…` (draft 07) | yes | in seconds | limit only |
//! | `RateLimit-Limit`, `-Remaining`, `-Reset` (earlier drafts; Persona, GitLab) | yes | in seconds, or since 1970: by its size, as [`Reset::Guess`] | limit only |
//! | `X-RateLimit-Limit`, `-Remaining`, `-Reset`, also `X-Rate-Limit-*` | yes | see [`Reset`] | limit only |
//!
//! All come from another party and are read strictly: digits and nothing else, however many (of a reset also an HTTP
//! date); a malformed field counts as absent. Of several limits in one `RateLimit` field the one with the least left
//! counts; limits of bytes or connections (`qu`) are skipped. A `Retry-After` beside these headers takes precedence and
//! is read separately ([`retry_after`](crate::retry_after)): a client asks again after that, even if the window ends
//! later. An answer out of a cache (`Age`) is about the past, so its headers are ignored.

use core::time::Duration;

use http::HeaderMap;
use http::header::DATE;
use sfv::{Dictionary, List, ListEntry, Parameters, Parser};
use steadfast_core::Timestamp;
use steadfast_core::rate_limit::Quota;

use crate::retry_after::{MAX, digits, first_line, http_date, is_aged};
use crate::structured::lines;

/// What `X-RateLimit-Reset` counts: providers differ, and the number does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Reset {
    /// Seconds from now.
    DeltaSeconds,
    /// Seconds since 1970 (GitHub, Didit).
    EpochSeconds,
    /// Milliseconds since 1970.
    EpochMillis,
    /// Guessed from its size: up to 10⁸ (three years) seconds from now, up to 10¹¹ seconds since 1970, above that
    /// milliseconds since 1970. Right for every provider that we know of; where the provider documents the unit, name
    /// it.
    #[default]
    Guess,
}

/// What these headers say about the provider's rate limit; `None` if they say nothing usable.
///
/// `reset` is the unit of `X-RateLimit-Reset`; `wall` is our wall clock when the answer came, for an absolute reset
/// without a usable `Date` beside it.
///
/// ```
/// use core::time::Duration;
/// use http::{HeaderMap, HeaderValue};
/// use steadfast_core::Timestamp;
/// use steadfast_providers::rate_limit::{Reset, quota};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("ratelimit", HeaderValue::from_static(r#""default";r=50;t=30"#));
/// headers.insert("ratelimit-policy", HeaderValue::from_static(r#""default";q=100;w=60"#));
/// let said = quota(&headers, Reset::Guess, Timestamp::EPOCH).unwrap();
/// assert_eq!((said.remaining, said.reset), (Some(50), Some(Duration::from_secs(30))));
/// assert_eq!((said.limit, said.window), (Some(100), Some(Duration::from_secs(60))));
/// ```
#[must_use]
pub fn quota(headers: &HeaderMap, reset: Reset, wall: Timestamp) -> Option<Quota> {
    // Most answers have no such header, and looking each name up would cost more than all other work on the answer.
    if !headers.keys().any(|name| name.as_str().contains("limit")) || is_aged(headers) {
        return None;
    }
    let draft = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];
    let usual = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    let rare = ["x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"];
    let plain = [(draft, Reset::Guess), (usual, reset), (rare, reset)];
    let plain = plain.into_iter().filter_map(|(names, unit)| numbers(headers, names, unit, wall));
    let mut all = structured(headers).into_iter().chain(dictionary(headers)).chain(plain);
    let first = all.next()?;
    if first.remaining.is_some() { Some(first) } else { all.find(|said| said.remaining.is_some()).or(Some(first)) }
}

/// `RateLimit` and `RateLimit-Policy`.
fn structured(headers: &HeaderMap) -> Option<Quota> {
    let (mut limits, mut policies) = (list(headers, "ratelimit"), list(headers, "ratelimit-policy"));
    // A policy with another unit limits bytes or connections, not requests.
    let other_units: Vec<String> =
        policies.iter().filter(|(_, policy)| !counts_requests(policy)).map(|(name, _)| name.clone()).collect();
    limits.retain(|(name, _)| !other_units.contains(name));
    policies.retain(|(name, _)| !other_units.contains(name));
    let tightest = limits
        .iter()
        .filter_map(|(name, limit)| Some((whole(limit, "r")?, core::cmp::Reverse(whole(limit, "t")), name, limit)))
        .min_by_key(|(left, until, ..)| (*left, *until));
    let policy = match (&tightest, &policies[..]) {
        (Some((.., name, _)), _) if policies.iter().any(|(other, _)| other == *name) => {
            policies.iter().find(|(other, _)| other == *name)
        }
        // The only policy there is, or no limit beside it to tell which counts.
        (_, [one]) => Some(one),
        _ => None,
    };
    let seconds = |parameters: &Parameters, name| whole(parameters, name).map(|it| Duration::from_secs(it).min(MAX));
    let said = Quota {
        limit: policy.and_then(|(_, policy)| whole(policy, "q")).map(saturated),
        window: policy.and_then(|(_, policy)| seconds(policy, "w")).filter(|window| !window.is_zero()),
        remaining: tightest.as_ref().map(|(left, ..)| saturated(*left)),
        reset: tightest.as_ref().and_then(|(.., limit)| seconds(limit, "t")),
    };
    (said != Quota::default()).then_some(said)
}

/// The items of a structured list whose names are strings, over all lines of the header; none if any of it is
/// malformed.
fn list(headers: &HeaderMap, name: &str) -> Vec<(String, Parameters)> {
    let Ok(parsed) = Parser::new(&lines(headers, name)).parse::<List>() else { return Vec::new() };
    let items = parsed.into_iter().map(|entry| match entry {
        ListEntry::Item(item) => Some((item.bare_item.as_string()?.as_str().to_owned(), item.params)),
        ListEntry::InnerList(_) => None,
    });
    items.collect::<Option<_>>().unwrap_or_default()
}

/// Whether a policy's unit (`qu`) is requests, which is also the default.
fn counts_requests(policy: &Parameters) -> bool {
    let unit = policy.iter().find(|(key, _)| key.as_str() == "qu").map(|(_, value)| value);
    unit.is_none_or(|unit| unit.as_string().is_some_and(|unit| unit.as_str() == "requests"))
}

/// A parameter that is a non-negative whole number.
fn whole(parameters: &Parameters, name: &str) -> Option<u64> {
    let (_, value) = parameters.iter().find(|(key, _)| key.as_str() == name)?;
    u64::try_from(i64::from(value.as_integer()?)).ok()
}

/// `RateLimit` as draft 07 has it.
fn dictionary(headers: &HeaderMap) -> Option<Quota> {
    let members: Dictionary = Parser::new(&lines(headers, "ratelimit")).parse().ok()?;
    let whole = |name: &str| match members.get(name)? {
        ListEntry::Item(item) => u64::try_from(i64::from(item.bare_item.as_integer()?)).ok(),
        ListEntry::InnerList(_) => None,
    };
    let said = Quota {
        limit: whole("limit").map(saturated),
        window: None,
        remaining: whole("remaining").map(saturated),
        reset: whole("reset").map(|seconds| Duration::from_secs(seconds).min(MAX)),
    };
    (said != Quota::default()).then_some(said)
}

/// Three headers with a number each: limit, remaining, reset.
fn numbers(headers: &HeaderMap, names: [&str; 3], unit: Reset, wall: Timestamp) -> Option<Quota> {
    let [limit, remaining, reset] = names.map(|name| digits(headers, name));
    let said = Quota {
        limit: limit.map(saturated),
        window: None,
        remaining: remaining.map(saturated),
        reset: reset.map(|reset| until(reset, unit, headers, wall)).or_else(|| dated(headers, names[2], wall)),
    };
    (said != Quota::default()).then_some(said)
}

/// A reset that is a date, whatever unit is set: a date can be read in one way only.
fn dated(headers: &HeaderMap, name: &str, wall: Timestamp) -> Option<Duration> {
    let at = first_line(headers, name).and_then(http_date)?;
    Some(at.saturating_since(now(headers, wall)).min(MAX))
}

/// The present time: by the provider's clock if the answer says it, else by ours.
fn now(headers: &HeaderMap, wall: Timestamp) -> Timestamp {
    first_line(headers, DATE.as_str()).and_then(http_date).unwrap_or(wall)
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The time from now to a reset, at most [`MAX`]; zero if it is past.
fn until(reset: u64, unit: Reset, headers: &HeaderMap, wall: Timestamp) -> Duration {
    let at = match unit {
        Reset::DeltaSeconds => return Duration::from_secs(reset).min(MAX),
        Reset::Guess if reset <= 100_000_000 => return Duration::from_secs(reset).min(MAX),
        Reset::EpochSeconds => Timestamp::from_secs(reset),
        Reset::Guess if reset <= 100_000_000_000 => Timestamp::from_secs(reset),
        Reset::EpochMillis | Reset::Guess => Timestamp::from_millis(reset),
    };
    at.saturating_since(now(headers, wall)).min(MAX)
}
