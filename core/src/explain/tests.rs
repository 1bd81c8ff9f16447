//! Here and not in `tests/`: only inside the crate can every notice be made.

use core::time::Duration;
use std::string::{String, ToString as _};
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;

use super::{STATUS_SHOWN, Span, Timeline, explain};
use crate::breaker::BreakerState;
use crate::gate::{Blocked, Refusal};
use crate::notice::{Notice, WakeReason};
use crate::operation::{Attempt, AttemptId, Completed, Kind, Outcome, RecordId, Rejected, Unresolved};
use crate::retry::{Certainty, Class, Delay, Failure, Ground, Hint, RetryAfter};
use crate::time::Timestamp;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        (0_u64..400_000).prop_map(|millis| START.saturating_add(Duration::from_millis(millis))),
        any::<u64>().prop_map(Timestamp::from_nanos),
        Just(Timestamp::NEVER),
    ]
}

fn span() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0_u64..200_000).prop_map(Duration::from_millis),
        any::<u64>().prop_map(Duration::from_nanos),
        Just(Duration::MAX)
    ]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Create, Kind::Lookup, Kind::Poll, Kind::Poll])
}

fn attempt() -> impl Strategy<Value = Attempt> {
    (any::<u32>(), kind(), any::<u16>(), time()).prop_map(|(id, kind, number, until)| Attempt {
        id: AttemptId(id),
        kind,
        number,
        until,
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    let class = prop::sample::select(vec![
        Class::Transient,
        Class::Throttled,
        Class::TimedOut,
        Class::Permanent,
        Class::Unauthorized,
    ]);
    let certainty = prop::sample::select(vec![Certainty::NotExecuted, Certainty::MayHaveExecuted, Certainty::Executed]);
    (class, certainty, prop::option::of(span()))
        .prop_map(|(class, certainty, wait)| Failure::new(class, certainty).with_retry_after(wait))
}

fn delay() -> impl Strategy<Value = Delay> {
    let ground = prop::sample::select(vec![
        Ground::Backoff,
        Ground::Schedule,
        Ground::SlowestPace,
        Ground::Settle,
        Ground::Budget,
        Ground::Record,
    ]);
    let hint = (span(), any::<bool>(), any::<bool>()).prop_map(|(counts, cut, decides)| Hint { counts, cut, decides });
    (span(), ground, prop::option::of(hint)).prop_map(|(own, ground, hint)| Delay { own, ground, hint })
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let why = prop::sample::select(vec![
        Blocked::Held,
        Blocked::Paused,
        Blocked::Open,
        Blocked::Isolated,
        Blocked::Probing,
        Blocked::Budget,
        Blocked::Full,
        Blocked::Quota,
        Blocked::Rate,
        Blocked::Line,
    ]);
    (time(), why).prop_map(|(until, why)| Refusal { until, why })
}

fn reason() -> impl Strategy<Value = WakeReason> {
    prop::sample::select(vec![WakeReason::Poll, WakeReason::Create, WakeReason::Lookup, WakeReason::Gate])
}

fn breaker() -> impl Strategy<Value = BreakerState> {
    prop_oneof![
        Just(BreakerState::Closed),
        time().prop_map(|until| BreakerState::Open { until }),
        Just(BreakerState::HalfOpen),
        Just(BreakerState::Isolated),
        Just(BreakerState::Disabled),
    ]
}

/// Text as a provider might send it, and worse.
fn text() -> impl Strategy<Value = String> {
    let odd =
        prop::sample::select(vec!['\n', '\r', '\0', '\u{1b}', '\u{7f}', '\u{9b}', '\u{2028}', '\u{202e}', '"', 'x']);
    prop::collection::vec(prop_oneof![odd, any::<char>()].boxed(), 0..100).prop_map(String::from_iter)
}

/// Any notice; often what a round of polling is made of, so that something is folded.
fn notice() -> BoxedStrategy<Notice> {
    let polls = (any::<u16>(), time()).prop_map(|(number, until)| Attempt {
        id: AttemptId(1),
        kind: Kind::Poll,
        number,
        until,
    });
    let told = prop::sample::select(vec![
        Notice::Accepted,
        Notice::AwaitingPerson,
        Notice::Partial,
        Notice::Webhook,
        Notice::ProvenAbsent,
        Notice::Conflict,
        Notice::Absorbed,
        Notice::Restored,
        Notice::Resumed,
        Notice::Overslept,
        Notice::Ended(Outcome::Completed(Completed::Ready)),
        Notice::Ended(Outcome::Rejected(Rejected::Unavailable)),
        Notice::Ended(Outcome::Unresolved(Unresolved::KeyWindow)),
        Notice::Ended(Outcome::Unresolved(Unresolved::Replayed)),
        Notice::Ended(Outcome::Failed),
    ]);
    prop_oneof![
        2 => polls.prop_map(Notice::Sending),
        1 => attempt().prop_map(Notice::Sending),
        1 => (attempt(), failure()).prop_map(|(attempt, failure)| Notice::Failed { attempt, failure }),
        2 => (reason(), time(), delay()).prop_map(|(reason, until, delay)| Notice::Waiting { reason, until, delay }),
        1 => (kind(), refusal()).prop_map(|(kind, refusal)| Notice::Blocked { kind, refusal }),
        1 => breaker().prop_map(Notice::Breaker),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(done, total)| Notice::Progress { done, total }),
        1 => (2_u8..).prop_map(|times| Notice::SameAnswer { times }),
        2 => prop::option::of(span()).prop_map(|hint| Notice::Pending { hint }),
        1 => text().prop_map(|text| Notice::UnknownStatus(text.into())),
        1 => any::<u32>().prop_map(|id| Notice::LateAnswer(AttemptId(id))),
        1 => (any::<u64>(), prop::option::of(time()))
            .prop_map(|(record, retry)| Notice::PersistFailed { record: RecordId(record), retry }),
        3 => told,
    ]
    .boxed()
}

/// Rounds of polling among anything else.
fn notices() -> BoxedStrategy<Vec<(Timestamp, Notice)>> {
    let round = (attempt(), notice(), delay(), 0_usize..5).prop_map(|(attempt, answer, delay, count)| {
        let attempt = Attempt { kind: Kind::Poll, ..attempt };
        let due = Notice::Waiting { reason: WakeReason::Poll, until: attempt.until, delay };
        let round = [Notice::Sending(attempt), answer, due];
        (0..count).flat_map(|_| round.clone()).collect::<Vec<_>>()
    });
    let alone = notice().prop_map(|notice| vec![notice]);
    let parts = prop::collection::vec(prop_oneof![round.boxed(), alone.boxed()].boxed(), 0..12).boxed();
    (parts, prop::collection::vec(time(), 180))
        .prop_map(|(parts, mut times)| {
            // Mostly in order, as they are recorded.
            let late = times.len() / 10;
            times[late..].sort();
            times.into_iter().zip(parts.into_iter().flatten()).collect()
        })
        .boxed()
}

proptest! {
    #[test]
    fn any_notice_is_one_line_without_control_characters(notice in notice(), at in time()) {
        let line = explain(&notice, at).to_string();
        prop_assert!(!line.is_empty() && line.len() < 400, "{line:?}");
        prop_assert!(!line.contains(|c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)), "{line:?}");
    }

    #[test]
    fn a_timeline_is_a_line_per_entry_in_order_of_time_and_tells_of_every_notice(told in notices()) {
        let timeline = Timeline::new(told.iter().map(|(at, notice)| (*at, notice)));
        let text = timeline.to_string();
        let entries: Vec<_> = timeline.entries().collect();
        prop_assert_eq!(text.lines().count(), entries.len());
        prop_assert_eq!(entries.iter().map(|entry| entry.notices()).sum::<usize>(), told.len());
        prop_assert!(entries.is_sorted_by_key(|entry| entry.at()));
        prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        for (line, entry) in text.lines().zip(&entries) {
            prop_assert!(line.ends_with(&entry.to_string()), "{line:?}");
        }
    }

    #[test]
    fn an_unknown_status_is_shown_within_its_bound(text in text()) {
        let line = explain(&Notice::UnknownStatus(text.into()), START).to_string();
        let frame = explain(&Notice::UnknownStatus("".into()), START).to_string();
        prop_assert!(line.chars().count() <= frame.chars().count() + STATUS_SHOWN + "…".chars().count());
    }

    /// To the last digit that is shown, and in two units at most.
    #[test]
    fn a_span_is_rounded_by_less_than_its_last_unit(span in span()) {
        let text = Span(span).to_string();
        if text != "under 1 ms" {
            let words: Vec<&str> = text.split(' ').collect();
            prop_assert!(words.len() == 2 || words.len() == 4, "{}", text);
            let (mut shown, mut last) = (0.0, 0.0);
            for pair in words.chunks(2) {
                let unit = match pair[1] { "ms" => 0.001, "s" => 1.0, "min" => 60.0, "h" => 3_600.0, _ => 86_400.0 };
                shown += pair[0].parse::<f64>().unwrap() * unit;
                last = if pair[0].contains('.') { 0.1 } else { unit };
                prop_assert!(pair[0] != "60" || unit >= 86_400.0, "{}", text);
            }
            // The greater unit alone says that the smaller one is zero.
            let last = if words.len() == 2 && last >= 60.0 { last / 24.0 } else { last };
            if span < Duration::from_nanos(u64::MAX) {
                prop_assert!((span.as_secs_f64() - shown).abs() <= last, "{} is {:?}", text, span);
            }
        }
    }

    /// As the rule was always written; the parts are only kept beside it.
    #[test]
    fn a_weighed_wait_is_the_rules_wait(own in span(), asked in prop::option::of(span()), limit in span()) {
        let (ceiling, extra) = (limit, limit);
        let Some(hint) = asked else {
            prop_assert_eq!(RetryAfter::Floor { ceiling }.apply(own, None), own);
            return Ok(());
        };
        let clamped = hint.max(own).min(own.saturating_add(extra));
        prop_assert_eq!(RetryAfter::Floor { ceiling }.apply(own, asked), own.max(hint.min(ceiling)));
        prop_assert_eq!(RetryAfter::Exact { ceiling }.apply(own, asked), hint.min(ceiling));
        prop_assert_eq!(RetryAfter::Clamped { extra }.apply(own, asked), clamped);
    }
}

#[cfg(feature = "serde")]
proptest! {
    #[test]
    fn a_notice_reads_back_as_it_was_stored(notice in notice()) {
        let stored = serde_json::to_string(&notice).unwrap();
        prop_assert_eq!(serde_json::from_str::<Notice>(&stored).unwrap(), notice, "{}", stored);
    }
}

#[test]
fn a_wait_says_what_decided_and_by_how_much() {
    let (floor, exact) = (RetryAfter::Floor { ceiling: secs(60) }, RetryAfter::Exact { ceiling: secs(60) });
    let clamped = RetryAfter::Clamped { extra: secs(5) };
    let own = Duration::from_millis(4_200);
    let cases = [
        (floor.weigh(Ground::Backoff, own, None), "by backoff, the provider named no time"),
        (floor.weigh(Ground::Backoff, own, Some(secs(6))), "Retry-After 6 s over backoff 4.2 s, 1.8 s longer"),
        (floor.weigh(Ground::Backoff, own, Some(secs(1))), "backoff 4.2 s over Retry-After 1 s, 3.2 s longer"),
        (floor.weigh(Ground::Backoff, secs(3), Some(secs(3))), "backoff 3 s over Retry-After 3 s, which is as long"),
        (
            floor.weigh(Ground::Schedule, secs(3), Some(secs(300))),
            "Retry-After 1 min (cut to its ceiling) over the schedule's 3 s, 57 s longer",
        ),
        (
            clamped.weigh(Ground::Backoff, secs(2), Some(secs(9))),
            "Retry-After 7 s (cut to its ceiling) over backoff 2 s, 5 s longer",
        ),
        (exact.weigh(Ground::Backoff, own, Some(secs(2))), "Retry-After 2 s in place of backoff 4.2 s, 2.2 s shorter"),
        (
            exact.weigh(Ground::SlowestPace, secs(30), Some(secs(2))).no_shorter(),
            "the schedule's slowest pace of 30 s over Retry-After 2 s, 28 s longer",
        ),
    ];
    for (delay, why) in cases {
        let until = START.saturating_add(delay.wait());
        let notice = Notice::Waiting { reason: WakeReason::Create, until, delay };
        let said = format!("next create in {}: {why}", Span(delay.wait()));
        assert_eq!(explain(&notice, START).to_string(), said);
    }
}

#[test]
fn a_block_names_its_machine_and_its_end() {
    let cases = [
        (Blocked::Held, "by a hold: somebody holds the gate; for 3 s, unless it is let go before"),
        (Blocked::Paused, "by a pause: the provider asked for it; for 3 s"),
        (Blocked::Open, "by the breaker: it is open, since the provider is in trouble; for 3 s"),
        (Blocked::Isolated, "by the breaker: somebody has isolated it; until they end that"),
        (Blocked::Probing, "by the breaker: it is half-open, and its probe is under way; asks again within 3 s"),
        (Blocked::Budget, "by the retry budget: there were too many retries lately; for 3 s at least"),
        (Blocked::Full, "by the bulkhead: enough requests are in the air; asks again within 3 s"),
        (Blocked::Quota, "by the quota: none is left in the provider's own window; for 3 s"),
        (Blocked::Rate, "by the rate limit: it would be too fast; for 3 s"),
        (Blocked::Line, "by the line: others have waited longer; until its turn comes"),
    ];
    for (why, said) in cases {
        let refusal = Refusal { until: START.saturating_add(secs(3)), why };
        let notice = Notice::Blocked { kind: Kind::Poll, refusal };
        assert_eq!(explain(&notice, START).to_string(), format!("poll held back {said}"));
    }
}

#[test]
fn spans_read_as_a_person_says_them() {
    let millis = Duration::from_millis;
    let cases = [
        (Duration::ZERO, "0 s"),
        (Duration::from_nanos(1), "under 1 ms"),
        (Duration::from_micros(400), "under 1 ms"),
        (millis(250), "250 ms"),
        (Duration::from_micros(999_700), "1 s"),
        (millis(6_130), "6.1 s"),
        (secs(6), "6 s"),
        (millis(59_960), "1 min"),
        (secs(125), "2 min 5 s"),
        (secs(3_599), "59 min 59 s"),
        (secs(10_800), "3 h"),
        (secs(12_000), "3 h 20 min"),
        (secs(86_399), "1 d"),
        (secs(187_200), "2 d 4 h"),
    ];
    for (span, said) in cases {
        assert_eq!(Span(span).to_string(), said);
    }
    assert_eq!(format!("[{:>8}]", Span(secs(6))), "[     6 s]");
}

#[test]
fn a_hostile_status_cannot_reach_the_terminal() {
    let status = format!("\u{1b}[2J\r\n\u{202e}\"{}", "x".repeat(1_000));
    let line = explain(&Notice::UnknownStatus(status.into()), START).to_string();
    let shown = format!(r#""\u{{1b}}[2J\r\n\u{{202e}}\"{}…", which"#, "x".repeat(41));
    assert!(line.contains(&shown), "{line}");
    // What turns the reading direction, or is not seen.
    for c in ['\u{200b}', '\u{200f}', '\u{2028}', '\u{2066}', '\u{2069}', '\u{feff}', '\u{e0041}', '\u{9b}'] {
        let line = explain(&Notice::UnknownStatus(c.to_string().into()), START).to_string();
        assert!(line.is_ascii(), "{line:?}");
    }
}
