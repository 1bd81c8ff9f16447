//! A hundred thousand deliveries, most of them not as they were sent: none is believed of which anything was altered
//! that its signature covers.
//!
//! One seeded generator draws for each a scheme, a body, and what becomes of it: forged, altered, cut, mixed up with
//! another, sent again, too late, too early, under another scheme, with a header twice or gone. The judge keeps what
//! was truly sent and compares it with what is believed; it knows no HMAC.
//!
//! All of them take some 14 s of processor time unoptimised, shared by the cores; `cargo test --release -p
//! steadfast-providers --test webhook deliveries` one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use steadfast_core::{Seed, Timestamp};
use steadfast_providers::webhook::{
    Covered, DEFAULT_TOLERANCE, DiditSignatures, Scheme, Verified, Verifier, WebhookError,
};

use crate::{NOW, base64_scheme, didit_raw, github, persona, verifier};

const DELIVERIES: u64 = 100_000;

/// What becomes of a delivery.
const FATES: [&str; 12] = [
    "intact",
    "forged",
    "body altered",
    "body cut",
    "header altered",
    "header twice",
    "header gone",
    "mixed up",
    "sent again",
    "too old",
    "too new",
    "wrong scheme",
];

/// A way to sign: its name here, its verifier, and one with somebody else's secret.
struct Way {
    name: &'static str,
    scheme: Scheme,
    ours: Verifier,
    theirs: Verifier,
}

fn ways() -> Vec<Way> {
    let didit = |raw, canonical, simple| Scheme::Didit(DiditSignatures { raw, canonical, simple });
    let all = [
        ("standard", Scheme::StandardWebhooks),
        ("stripe", Scheme::Stripe),
        ("persona", persona()),
        ("github", github()),
        ("base64", base64_scheme()),
        ("didit raw", didit_raw()),
        ("didit v2", didit(false, true, false)),
        ("didit simple", didit(false, false, true)),
        ("didit default", Scheme::Didit(DiditSignatures::default())),
        ("didit all", didit(true, true, true)),
    ];
    let way = |(name, scheme)| {
        let (ours, theirs) = (verifier(&scheme, &["secret", "older"]), verifier(&scheme, &["somebody else's"]));
        Way { name, scheme, ours, theirs }
    };
    all.map(way).into()
}

/// Numbers, each drawn from the seed and its place.
struct Dice(Seed, u64);

impl Dice {
    /// From 0 up to, but not including, `end`.
    fn below(&mut self, end: usize) -> usize {
        self.1 += 1;
        self.0.derive(self.1).between(0, end as u64 - 1) as usize
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What was truly sent.
#[derive(Clone)]
struct Sent {
    headers: HeaderMap,
    body: Vec<u8>,
    at: u64,
    id: Option<String>,
}

fn send(dice: &mut Dice, scheme: &Scheme, ours: &Verifier, at: u64) -> Sent {
    let n = dice.below(1 << 30);
    let status = dice.of(&["Approved", "Declined", "In Review", "Zoë 😀"]);
    let body = json!({
        "event_id": format!("evt-{n}"), "id": format!("evt-{n}"), "session_id": format!("s-{n}"), "status": status, "timestamp": at,
        "webhook_type": "status.updated", "decision": { "score": dice.below(100), "ok": n > 99 },
    });
    let body = body.to_string().into_bytes();
    let headers = ours.sign(&format!("evt-{n}"), Timestamp::from_secs(at), &body).unwrap();
    let id = match scheme {
        Scheme::Hmac { .. } | Scheme::Didit(DiditSignatures { raw: false, canonical: false, .. }) => None,
        _ => Some(format!("evt-{n}")),
    };
    Sent { headers, body, at, id }
}

/// Whether all that is believed of this delivery is as it was sent.
fn is_true(verified: &Verified, body: &[u8], sent: &Sent, scheme: &Scheme) -> bool {
    let (came, went): (Value, Value) =
        (serde_json::from_slice(body).unwrap_or_default(), serde_json::from_slice(&sent.body).unwrap());
    let same = match verified.covers {
        Covered::Hint => ["timestamp", "session_id", "status", "webhook_type"].iter().all(|it| came[it] == went[it]),
        // Only the canonical form forgives another spelling.
        _ if matches!(scheme, Scheme::Didit(accepted) if accepted.canonical) => came == went,
        _ => body == sent.body,
    };
    let time = verified.timestamp.is_none_or(|at| at == Timestamp::from_secs(sent.at));
    let id = verified.id.is_none() || verified.id.as_deref() == sent.id.as_deref();
    same && time && id
}

/// One byte of it becomes another, goes, or comes.
fn alter(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let at = dice.below(bytes.len());
    match dice.below(3) {
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => drop(bytes.remove(at)),
        _ => bytes.insert(at, dice.of(b"0aA \",:}{.e1")),
    }
}

fn any_header(dice: &mut Dice, headers: &HeaderMap) -> HeaderName {
    let names: Vec<_> = headers.keys().cloned().collect();
    names[dice.below(names.len())].clone()
}

/// Draws delivery number `n` and holds it against what was sent. Returns its scheme, its fate and whether it was
/// believed.
fn judge(n: u64, ways: &[Way]) -> (&'static str, &'static str, bool) {
    let mut dice = Dice(Seed::new(2026).derive(n), 0);
    let Way { name, scheme, ours, theirs } = &ways[dice.below(ways.len())];
    let fate = dice.of(&FATES);
    let at = NOW - 300 + dice.below(601) as u64;
    let sent = send(&mut dice, scheme, if fate == "forged" { theirs } else { ours }, at);
    let Sent { mut headers, mut body, .. } = sent.clone();
    let (mut now, mut by, mut of) = (NOW, ours, scheme);
    match fate {
        "body altered" => alter(&mut dice, &mut body),
        "body cut" => body.truncate(dice.below(body.len())),
        "header altered" => {
            let header = any_header(&mut dice, &headers);
            let mut value = headers[&header].as_bytes().to_vec();
            alter(&mut dice, &mut value);
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.insert(header, value);
            }
        }
        "header twice" => {
            let header = any_header(&mut dice, &headers);
            let value = headers[&header].clone();
            headers.append(header, value);
        }
        "header gone" => drop(headers.remove(any_header(&mut dice, &headers))),
        "mixed up" => {
            let other = send(&mut dice, scheme, ours, at);
            if dice.below(2) == 0 {
                body = other.body;
            } else {
                let header = any_header(&mut dice, &headers);
                headers.insert(header.clone(), other.headers[header].clone());
            }
        }
        "too old" => now = at + 301 + dice.below(1 << 20) as u64,
        "too new" => now = at - 301 - dice.below(1 << 20) as u64,
        "wrong scheme" => {
            let other = &ways[dice.below(ways.len())];
            (by, of) = (&other.ours, &other.scheme);
        }
        _ => {}
    }
    let now = Timestamp::from_secs(now);
    let got = by.verify(&headers, &body, now);
    let told = || format!("delivery {n}, {name}, {fate}: {got:?}");
    if let Ok(verified) = &got {
        assert!(fate != "forged" && fate != "header twice", "{}", told());
        assert!(is_true(verified, &body, &sent, scheme), "{}", told());
        let age = now.saturating_since(Timestamp::from_secs(at)).max(Timestamp::from_secs(at).saturating_since(now));
        let in_time = match scheme {
            Scheme::Hmac { .. } => true,
            Scheme::Stripe | Scheme::Timed { .. } => Timestamp::from_secs(at) > now || age <= DEFAULT_TOLERANCE,
            _ => age <= DEFAULT_TOLERANCE,
        };
        assert!(in_time, "{}", told());
        // Didit's settings are one scheme: what one of them signs another may accept.
        assert!(of == scheme || matches!((of, scheme), (Scheme::Didit(_), Scheme::Didit(_))), "{}", told());
    } else if matches!(fate, "intact" | "sent again") {
        panic!("{}", told());
    }
    if fate == "sent again" {
        // As genuine as the first one, and known by the same name; until its time is over.
        assert_eq!(by.verify(&headers, &body, now), got, "{}", told());
        let late = Timestamp::from_secs(at).saturating_add(DEFAULT_TOLERANCE + Duration::from_secs(1));
        let timeless = matches!(scheme, Scheme::Hmac { .. });
        let then = by.verify(&headers, &body, late);
        assert!(timeless || matches!(then, Err(WebhookError::TooOld { .. })), "{}: {then:?}", told());
    }
    (*name, fate, got.is_ok())
}

/// I16's first half.
#[test]
fn i16_of_a_hundred_thousand_deliveries_none_is_believed_that_was_altered() {
    let (began, ways, threads) =
        (Instant::now(), ways(), std::thread::available_parallelism().map_or(1, |n| n.get() as u64));
    let mut counts: BTreeMap<(&str, &str), [u64; 2]> = BTreeMap::new();
    let mut count = |(scheme, fate, believed)| counts.entry((scheme, fate)).or_default()[usize::from(believed)] += 1;
    std::thread::scope(|scope| {
        let ways = &ways;
        let share =
            |first| move || (first..DELIVERIES).step_by(threads as usize).map(|n| judge(n, ways)).collect::<Vec<_>>();
        let judges: Vec<_> = (0..threads).map(|first| scope.spawn(share(first))).collect();
        judges.into_iter().flat_map(|judge| judge.join().unwrap()).for_each(&mut count);
    });
    let total: u64 = counts.values().flatten().sum();
    let believed: u64 = counts.values().map(|[_, believed]| believed).sum();
    println!("{total} deliveries, {believed} of them believed, in {:?}", began.elapsed());
    assert_eq!((total, counts.len()), (DELIVERIES, ways.len() * FATES.len()), "every fate under every scheme");
    for ((scheme, fate), [refused, believed]) in counts {
        let (none, all) = match fate {
            "intact" | "sent again" => (false, true),
            "forged" | "header twice" | "body cut" => (true, false),
            // No time is signed, or only the past is looked at.
            "too old" | "too new" if matches!(scheme, "github" | "base64") => (false, true),
            "too new" if matches!(scheme, "stripe" | "persona") => (false, true),
            "too old" | "too new" => (true, false),
            _ => (false, false),
        };
        assert!(
            !(none && believed > 0 || all && refused > 0),
            "{scheme}, {fate}: {refused} refused, {believed} believed"
        );
    }
}
