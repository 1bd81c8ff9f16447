//! How long it waits: its own delays, and what the provider asks for.

use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::gate::GatePolicy;
use steadfast_core::retry::RetryAfter;

use crate::provider::{accepted, asking, error, pending, ready, with_headers};
use crate::scenario::{Scenario, Try, unkeyed};

const THEN: &str = "create > accepted > 2ms > poll > completed: ready";

pub(crate) fn all() -> Vec<Scenario> {
    [forms(), rules(), growth(), pauses().into_iter().map(Scenario::timed).collect()].concat()
}

/// A scenario whose first create is throttled, with these headers.
fn throttled(name: impl Into<String>, source: &'static str, headers: &[(&str, &str)]) -> Scenario {
    unkeyed(name, source)
        .creates([with_headers(429, headers, r#"{"detail":"slow down"}"#), accepted()])
        .polls([ready()])
}

/// RFC 9110, section 10.2.3: seconds or a date, of the provider's clock. What is malformed counts as absent.
fn forms() -> Vec<Scenario> {
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let rows: [(&str, &[&str], &str); 16] = [
        ("nothing", &[], ""),
        ("zero", &["0"], " asks 0ns"),
        ("seconds", &["1"], " asks 1s"),
        ("seconds with zeros in front", &["007"], " asks 7s"),
        ("a negative number", &["-1"], ""),
        ("a signed number", &["+5"], ""),
        ("a fraction", &["1.5"], ""),
        ("a power of ten", &["1e3"], ""),
        ("no number", &["NaN"], ""),
        ("a list", &["5,10"], ""),
        ("a word", &["soon"], ""),
        ("two lines, of which the first counts", &["1", "600"], " asks 1s"),
        ("a date, three seconds after the answer's own", &["Sun, 06 Nov 1994 08:49:40 GMT"], " asks 3s"),
        ("a date of RFC 850", &["Sunday, 06-Nov-94 08:49:42 GMT"], " asks 5s"),
        ("a date of asctime", &["Sun Nov  6 08:49:44 1994"], " asks 7s"),
        ("a date of the past", &["Sun, 06 Nov 1994 08:00:00 GMT"], " asks 0ns"),
    ];
    let scenarios = rows.map(|(what, values, asks)| {
        let retry_after = values.iter().map(|value| ("retry-after", *value));
        let headers: Vec<_> = [("date", date)].into_iter().chain(retry_after).collect();
        let wait = if matches!(asks, "" | " asks 0ns") { "4ms" } else { "30ms asked, cut" };
        throttled(format!("a Retry-After of {what}"), "RFC 9110 §10.2.3, §5.6.7; R4", &headers)
            .tells(format!("create > throttled/no{asks} > {wait} > {THEN}"))
    });
    let mut scenarios = scenarios.to_vec();
    scenarios.push(
        throttled(
            "a Retry-After with a date that does not exist",
            "RFC 9110 §5.6.7",
            &[("retry-after", "Sun, 30 Feb 2025 08:49:37 GMT")],
        )
        .tells(format!("create > throttled/no > 4ms > {THEN}")),
    );
    scenarios
}

/// What the wish does to the policy's own delay: all three rules are in use by well-known clients.
fn rules() -> Vec<Scenario> {
    let asks = |name: &str, source, wish: &str, hints: RetryAfter| {
        throttled(name, source, &[("retry-after", wish)]).trying(|policy| Try { hints, ..policy })
    };
    let hour = Duration::from_secs(3_600);
    let floor = RetryAfter::Floor { ceiling: hour };
    vec![
        asks("a wish is kept to the second", "I1, R4; Didit rate-limiting: a floor", "1", floor)
            .tells(format!("create > throttled/no asks 1s > 1s asked > {THEN}")),
        asks("a wish shorter than the own delay is a floor and no more", "Azure core: max(policy, hint)", "0", floor)
            .tells(format!("create > throttled/no asks 0ns > 4ms > {THEN}")),
        asks("a wish is taken as it is", "gRPC A6 pushback", "0", RetryAfter::Exact { ceiling: hour })
            .tells(format!("create > throttled/no asks 0ns > 0ns asked > {THEN}")),
        asks(
            "a wish counts so far beyond the own delay",
            "AWS: t_i to t_i + 5 s",
            "1",
            RetryAfter::Clamped { extra: Duration::from_millis(20) },
        )
        .tells(format!("create > throttled/no asks 1s > 24ms asked, cut > {THEN}")),
        asks(
            "a wish beyond the deadline ends it at once",
            "I2, R3; google-cloud-rust gax: it gives up before the sleep, not after",
            "3600",
            floor,
        )
        .tells("create > throttled/no asks 3600s > rejected: deadline")
        .runs(0),
        asks(
            "a wish of more digits than any number has",
            "R1; urllib3#3743, go-retryablehttp#247",
            &"9".repeat(400),
            floor,
        )
        .tells("create > throttled/no asks 2147483648s > rejected: deadline")
        .runs(0),
        asks(
            "a wish of ten thousand years",
            "R1; urllib3#3743, go-retryablehttp#247",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            floor,
        )
        .tells("create > throttled/no asks 2147483648s > rejected: deadline")
        .runs(0),
        unkeyed("a wish on a poll that would end after the poll deadline", "R3; poll policy")
            .creates([accepted()])
            .polls([asking(202, "3600")])
            .polls_trying(|policy| Try { hints: RetryAfter::default(), ..policy })
            .tells("create > accepted > 2ms > poll > pending asks 3600s > unresolved: poll deadline"),
    ]
}

/// Its own delays.
fn growth() -> Vec<Scenario> {
    let ms = Duration::from_millis;
    let tries = |name: &str, source, growth: Growth, cap| {
        let backoff = BackoffPolicy::new(growth, ms(cap), Jitter::None).unwrap();
        unkeyed(name, source).creates([error(429)]).trying(|policy| Try { attempts: 5, backoff, ..policy }).runs(0)
    };
    let all = |waits: [u64; 4]| {
        let tried: String = waits.iter().map(|wait| format!("create > throttled/no > {wait}ms > ")).collect();
        format!("{tried}create > throttled/no > rejected: attempts")
    };
    let source = "I1, R1: the cap holds";
    vec![
        tries("delays that stay", source, Growth::Fixed(ms(3)), 100).tells(all([3, 3, 3, 3])),
        tries("delays that grow by a step", source, Growth::Linear { first: ms(2), step: ms(3) }, 100).tells(all([2, 5, 8, 11])),
        tries("delays that double up to their cap", source, Growth::doubling(ms(3)), 10).tells(all([3, 6, 10, 10])),
        tries("delays after Fibonacci", source, Growth::Fibonacci { first: ms(2) }, 100).tells(all([2, 2, 4, 6])),
        tries("delays by a table", source, Growth::Table([ms(7), ms(1), ms(9)].into()), 100).tells(all([7, 1, 9, 9])),
        unkeyed("polls by a guide's table", "docs.deepvue.ai/async-endpoints: start, double, cap")
            .creates([accepted()])
            .polls([pending(), pending(), pending(), pending(), ready()])
            .tells(
                "create > accepted > 2ms > poll > pending > 4ms > poll > pending > 8ms > poll > pending > 8ms > poll > pending > \
                 8ms > poll > completed: ready",
            ),
    ]
}

/// A wish of the provider's is for all requests, and so are its counters.
fn pauses() -> Vec<Scenario> {
    let pausing = |gate: GatePolicy| gate.with_longest_pause(Duration::from_millis(400));
    let quota: [(&str, &str); 3] =
        [("x-ratelimit-limit", "10"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")];
    vec![
        throttled("a throttled create holds back whatever comes next", "gate: a 429 pauses", &[("retry-after", "1")])
            .gate(pausing)
            .tells(format!("create > throttled/no asks 1s > 30ms asked, cut > blocked: paused > {THEN}")),
        unkeyed("a throttled poll holds back the next", "gate: a 429 pauses; R4")
            .creates([accepted()])
            .polls([asking(429, "1"), ready()])
            .gate(pausing)
            .tells(
                "create > accepted > 2ms > poll > throttled/no asks 1s > 30ms asked, cut > blocked: paused > poll > \
                 completed: ready",
            ),
        unkeyed(
            "none is left of the provider's own count",
            "draft-ietf-httpapi-ratelimit-headers; Didit rate-limiting",
        )
        .creates([accepted()])
        .polls([with_headers(202, &quota, ""), ready()])
        .tells("create > accepted > 2ms > poll > pending > 4ms > blocked: quota > poll > completed: ready"),
        unkeyed("a count that cannot be read is none", "draft-ietf-httpapi-ratelimit-headers §3: malformed is ignored")
            .creates([accepted()])
            .polls([with_headers(202, &[("ratelimit", "r=0;t=soon")], ""), ready()])
            .tells("create > accepted > 2ms > poll > pending > 4ms > poll > completed: ready"),
    ]
}
