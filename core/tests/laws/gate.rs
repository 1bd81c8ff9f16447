//! One gate by itself: its kinds, its limits when settings change, and what it is called in logs.

use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::breaker::BreakerState;
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::gate::{Admission, Blocked, Gate, GatePolicy, Kinds, RateLimit, Request, Settled, WhenOpen};
use steadfast_core::rate_limit::{Quota, RatePolicy};
use steadfast_core::retry::Class;
use steadfast_core::{Kind, Seed};

use crate::history::failure;
use crate::policies;
use crate::run::{SECOND, START, at, breaker, limit};

const KINDS: [Kind; 3] = [Kind::Create, Kind::Lookup, Kind::Poll];

proptest! {
    /// Whatever was let go, settled, settled again or told, and however the clock jumps: what it says of one moment agrees with what it says of another.
    #[test]
    fn i11_what_may_go_may_go_later_too_and_a_wait_that_only_time_ends_is_over_when_it_says(
        seed: u64,
        steps in prop::collection::vec((0_u8..8, 0_u64..90_000, any::<prop::sample::Index>(), failure()), 1..60),
        later in 0_u64..90_000,
    ) {
        let (mut gate, mut out, mut ever) = (Gate::new(policies::drawn_gate(seed), Seed::new(seed)), Vec::new(), Vec::new());
        for (step, millis, pick, failure) in steps {
            let (now, kind) = (at(millis), KINDS[pick.index(3)]);
            match step {
                0..4 => {
                    let request = if step == 0 { Request::retry(kind, failure.class) } else { Request::first(kind) };
                    let said = gate.check(request, now);
                    let got = gate.admit(request, now);
                    prop_assert_eq!(got.permit().is_none().then_some(got), said, "it looked otherwise");
                    out.extend(got.permit());
                    ever.extend(got.permit());
                }
                4 if !out.is_empty() => gate.settle(out.swap_remove(pick.index(out.len())), Settled::Failed(failure), now),
                5 if !out.is_empty() => gate.settle(out.swap_remove(pick.index(out.len())), Settled::Answered, now),
                6 if !ever.is_empty() => gate.settle(ever[pick.index(ever.len())], Settled::Unsent, now),
                _ => {
                    let span = Duration::from_millis(millis);
                    let quota = Quota { limit: Some(1), window: Some(span), remaining: Some(1), reset: Some(span) };
                    gate.learn(kind, quota, now);
                }
            }
            let then = at(millis + later);
            for kind in KINDS {
                for request in [Request::first(kind), Request::retry(kind, Class::Transient)] {
                    match gate.check(request, now) {
                        None => prop_assert_eq!(gate.check(request, then), None, "by waiting it lost its leave"),
                        Some(Admission::Wait(no) | Admission::Refuse(no)) => {
                            prop_assert!(no.until > now, "{:?}", no);
                            let still = gate.check(request, no.until);
                            let over = !matches!(still, Some(Admission::Wait(it) | Admission::Refuse(it)) if it.why == no.why);
                            prop_assert!(over || !no.why.is_timed(), "{:?}, and then {:?}", no, still);
                        }
                        Some(Admission::Go(_)) => prop_assert!(false, "looking gives no leave"),
                    }
                }
            }
        }
    }
}

#[test]
fn limits_remember_whatever_order_they_stand_in_and_each_its_own() {
    let creates = Kinds::of(&[Kind::Create]);
    let with =
        |limits: &[RateLimit]| limits.iter().fold(GatePolicy::none(), |policy, limit| policy.with_rate_limit(*limit));
    let (second, minute) = (limit(1, SECOND, Kinds::ALL), limit(1, 60 * SECOND, Kinds::ALL));
    let changed = |old: &[RateLimit], new: &[RateLimit]| {
        let mut gate = Gate::new(with(old), Seed::new(1));
        let _ = gate.admit(Request::first(Kind::Create), START).permit().unwrap();
        gate.set_policy(with(new), START);
        gate
    };
    let until = |gate: &Gate, kind, now| match gate.check(Request::first(kind), now) {
        Some(Admission::Wait(no)) => Some(no.until),
        _ => None,
    };
    let gate = changed(&[second, minute], &[minute, second]);
    assert_eq!(until(&gate, Kind::Poll, START), Some(at(60_000)));
    assert_eq!(until(&changed(&[second, minute], &[second]), Kind::Poll, START), Some(at(1_000)));
    // Of a limit whose window has changed the one in its place is the old one, if it is for the same kinds.
    let ten = limit(1, 10 * SECOND, creates);
    let gate = changed(&[ten], &[limit(1, 20 * SECOND, creates)]);
    assert_eq!(until(&gate, Kind::Create, START), Some(at(10_000)));
    let gate = changed(&[ten], &[limit(1, 20 * SECOND, Kinds::of(&[Kind::Poll]))]);
    assert_eq!(until(&gate, Kind::Poll, START), None);
}

fn minute(count: u32) -> RateLimit {
    let rate = RatePolicy::new(count, 60 * SECOND).unwrap().with_burst(10).unwrap();
    RateLimit { kinds: Kinds::ALL, rate }
}

/// The two ways in which the number of a limit changes.
const CHANGES: [fn(&mut Gate, u32); 2] = [
    |gate, count| {
        let quota = Quota { limit: Some(count), window: Some(60 * SECOND), ..Quota::default() };
        gate.learn(Kind::Create, quota, START);
    },
    |gate, count| gate.set_policy(GatePolicy::none().with_rate_limit(minute(count)), START),
];

fn go(gate: &mut Gate) -> usize {
    (0..100).map_while(|_| gate.admit(Request::first(Kind::Create), START).permit()).count()
}

/// Places that were taken are taken, whatever each of them costs: else every change would be worth another burst.
#[test]
fn i10_a_limit_whose_number_changes_lets_no_second_burst_go() {
    for change in CHANGES {
        let mut gate = Gate::new(GatePolicy::none().with_rate_limit(minute(600)), Seed::new(1));
        assert_eq!(go(&mut gate), 10, "the burst");
        for count in [60, 600, 60, 7, 600] {
            change(&mut gate, count);
            assert_eq!(go(&mut gate), 0, "at {count} a minute");
        }
    }
}

/// A number that was wrong for a moment, or a plan that was a small one, holds nobody longer than the present pace
/// does.
#[test]
fn a_number_that_is_raised_counts_at_once_whoever_says_it() {
    for change in CHANGES {
        let mut gate = Gate::new(GatePolicy::none().with_rate_limit(minute(1)), Seed::new(1));
        assert_eq!(go(&mut gate), 10, "the burst");
        change(&mut gate, 600);
        let Some(Admission::Wait(no)) = gate.check(Request::first(Kind::Create), START) else { panic!("it is spent") };
        assert_eq!(no.until, at(100), "one place of the new pace");
    }
}

/// In metrics and logs names stand for years.
#[test]
fn names_are_what_dashboards_were_built_on() {
    let blocked = [
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
    ];
    let names = ["held", "paused", "open", "isolated", "probing", "budget", "full", "quota", "rate", "line"];
    assert_eq!(blocked.map(Blocked::name), names);
    let timed = blocked.into_iter().filter(|why| why.is_timed()).map(Blocked::name).collect::<Vec<_>>();
    let until = START;
    let states = [
        BreakerState::Closed,
        BreakerState::Open { until },
        BreakerState::HalfOpen,
        BreakerState::Isolated,
        BreakerState::Disabled,
    ];
    assert_eq!(states.map(BreakerState::name), ["closed", "open", "half_open", "isolated", "disabled"]);
    assert_eq!(timed, ["paused", "open", "quota", "rate"], "nobody can end these early");
}

/// The provider has none left for those that are under way either: one of them that never leaves makes no room.
#[test]
fn i10_what_was_let_go_beyond_a_providers_count_gives_nothing_back() {
    let mut gate = Gate::unlimited();
    let permits: Vec<_> = (0..3).filter_map(|_| gate.admit(Request::first(Kind::Create), START).permit()).collect();
    let quota = Quota { remaining: Some(1), reset: Some(60 * SECOND), ..Quota::default() };
    gate.learn(Kind::Create, quota, START);
    let mut free = Vec::new();
    for permit in permits {
        gate.settle(permit, Settled::Unsent, START);
        free.push(gate.check(Request::first(Kind::Create), START).is_none());
    }
    assert_eq!(free, [false, false, true], "one is left, and two had leave beyond it");
}

#[test]
fn kinds_are_sets() {
    let all = [Kind::Create, Kind::Lookup, Kind::Poll];
    let subset = |bits: u8| all.into_iter().zip(0..).filter(move |(_, n)| bits >> n & 1 == 1).map(|(kind, _)| kind);
    for bits in 0..8 {
        let listed: Vec<_> = subset(bits).chain(subset(bits)).collect();
        let kinds = Kinds::of(&listed);
        assert!(all.into_iter().all(|kind| kinds.contains(kind) == listed.contains(&kind)));
        for kind in all {
            let (more, less) = (kinds.with(kind), kinds.without(kind));
            assert!(more.contains(kind) && !less.contains(kind));
            assert!(all.into_iter().filter(|it| *it != kind).all(|it| more.contains(it) == kinds.contains(it)));
            assert!(all.into_iter().filter(|it| *it != kind).all(|it| less.contains(it) == kinds.contains(it)));
        }
    }
    assert_eq!((Kinds::of(&all), Kinds::of(&[])), (Kinds::ALL, Kinds::NONE));
}

/// Who writes a limit means to be held to it: in a file an empty list is refused, and a policy has no limit that holds
/// nothing back.
#[test]
fn no_policy_has_a_limit_of_nothing() {
    let rate = RatePolicy::new(1, SECOND).unwrap();
    let policy = GatePolicy::none().with_rate_limit(RateLimit { kinds: Kinds::NONE, rate });
    assert!(policy.rate_limits().is_empty());
    let policy = policy.with_rate_limit(RateLimit { kinds: Kinds::ALL, rate });
    assert_eq!((policy.rate_limits().len(), policy.without_rate_limits()), (1, GatePolicy::none()));
}

#[cfg(feature = "serde")]
#[test]
fn a_limit_of_nothing_in_a_file_is_refused_by_name() {
    let read = |kinds: &str| {
        let file = format!(r#"{{"rate_limits": [{{{kinds} "rate": {{"count": 1, "per": "1s"}}}}]}}"#);
        serde_json::from_str::<GatePolicy>(&file).map(|policy| policy.rate_limits()[0].kinds)
    };
    let refused = read(r#""kinds": [],"#).unwrap_err().to_string();
    let expected = "rate_limits.kinds is []: it must be at least one of create, lookup and poll, or left out for all";
    assert!(refused.starts_with(expected), "{refused}");
    assert_eq!(read("").unwrap(), Kinds::ALL);
    assert_eq!(read(r#""kinds": ["poll", "poll"],"#).unwrap(), Kinds::of(&[Kind::Poll]));
}

#[test]
fn a_permit_knows_whether_it_probes_and_a_gate_how_many_it_lets_in() {
    let policy =
        GatePolicy::none().with_breaker(Some(breaker())).with_bulkhead(Some(BulkheadPolicy::fixed(7).unwrap()));
    let mut gate = Gate::new(policy, Seed::new(1));
    assert_eq!((gate.bulkhead_limit(), Gate::unlimited().bulkhead_limit()), (Some(7), None));
    let usual = gate.admit(Request::first(Kind::Poll), START).permit().unwrap();
    gate.breaker_mut().unwrap().0.force_open(at(1_000));
    let probe = gate.admit(Request::first(Kind::Poll), at(1_000)).permit().unwrap();
    assert_eq!((usual.is_probe(), probe.is_probe()), (false, true));
}

/// What is owed for a burst that may be no more is no more than the whole of the one that may: else it would wait for
/// longer than any wait by the new settings.
#[test]
fn a_burst_that_is_lowered_is_waited_for_no_longer_than_a_whole_one() {
    let limited = |burst| {
        let rate = RatePolicy::new(1, SECOND).unwrap().with_burst(burst).unwrap();
        GatePolicy::none().with_rate_limit(RateLimit { kinds: Kinds::ALL, rate })
    };
    let mut gate = Gate::new(limited(10), Seed::new(1));
    assert_eq!(go(&mut gate), 10);
    gate.set_policy(limited(2), START);
    let Some(Admission::Wait(no)) = gate.check(Request::first(Kind::Poll), START) else { panic!("ten have left") };
    assert_eq!(no.until, at(1_000));
}

/// A part of a nanosecond is a whole one: rounded down, each change would let the next go before its time.
#[test]
fn i10_what_is_left_of_a_place_is_rounded_up_when_it_changes() {
    let nanos = Duration::from_nanos;
    let limited = |count| GatePolicy::none().with_rate_limit(limit(count, nanos(6), Kinds::ALL));
    let mut gate = Gate::new(limited(2), Seed::new(1));
    let _ = gate.admit(Request::first(Kind::Poll), START).permit().unwrap();
    let later = START.saturating_add(nanos(2)); // a third of its place is left
    gate.set_policy(limited(3), later);
    let Some(Admission::Wait(no)) = gate.check(Request::first(Kind::Poll), later) else { panic!("too soon") };
    assert_eq!(no.until, START.saturating_add(nanos(3)));
}

/// Open and isolated are one to whoever would rather fail than wait; while it probes, there is an end in sight.
#[test]
fn failing_fast_is_for_a_breaker_that_is_open_or_isolated_and_not_for_one_that_probes() {
    for (when_open, refuses) in [(WhenOpen::Wait, false), (WhenOpen::Refuse, true)] {
        let policy = GatePolicy::none().with_breaker(Some(breaker())).with_when_open(when_open);
        let mut gate = Gate::new(policy, Seed::new(1));
        let said = |gate: &Gate, now| match gate.check(Request::first(Kind::Create), now) {
            Some(Admission::Refuse(no)) => Some((true, no.why, no.until)),
            Some(Admission::Wait(no)) => Some((false, no.why, no.until)),
            _ => None,
        };
        gate.breaker_mut().unwrap().0.isolate();
        assert_eq!(said(&gate, START), Some((refuses, Blocked::Isolated, at(1_000))));
        gate.breaker_mut().unwrap().0.force_open(at(5_000));
        assert_eq!(said(&gate, START), Some((refuses, Blocked::Open, at(5_000))));
        let _probe = gate.admit(Request::first(Kind::Poll), at(5_000)).permit().unwrap();
        assert_eq!(said(&gate, at(5_000)), Some((false, Blocked::Probing, at(6_000))));
    }
}

/// What is carried from engine to engine: whoever stands elsewhere comes first in the same kind, and in another as long
/// as there is something for them.
#[test]
fn who_stands_back_leaves_what_there_is_to_those_who_come_first() {
    let creates = Kinds::of(&[Kind::Create]);
    let bulkhead = Some(BulkheadPolicy::fixed(2).unwrap());
    let slow = limit(1, 60 * SECOND, creates);
    let policy = GatePolicy::none().with_bulkhead(bulkhead).with_rate_limit(slow);
    let mut gate = Gate::new(policy.clone(), Seed::new(1));
    let why = |gate: &Gate, kind| match gate.check(Request::first(kind), START) {
        Some(Admission::Wait(no)) => Some((no.why, no.until)),
        _ => None,
    };
    let in_line = Some((Blocked::Line, START.saturating_add(Gate::RECHECK)));
    gate.stand_back(Kind::Create, creates);
    gate.stand_back(Kind::Poll, creates);
    let told = gate.clone();
    assert_eq!([Kind::Create, Kind::Lookup, Kind::Poll].map(|kind| why(&gate, kind)), [in_line, None, in_line]);
    assert!(gate.admit(Request::first(Kind::Poll), START).permit().is_none());
    assert_eq!(gate, told, "a refusal takes nothing");
    // The create has gone, and no other may for a minute: what is left is nobody's.
    gate.stand_back(Kind::Create, Kinds::NONE);
    let _ = gate.admit(Request::first(Kind::Create), START).permit().unwrap();
    assert_eq!(why(&gate, Kind::Poll), None);
    // What else is in the way says so, with its own time.
    gate.stand_back(Kind::Create, creates);
    assert_eq!(why(&gate, Kind::Create), Some((Blocked::Rate, at(60_000))));
    gate.set_policy(policy, START);
    assert_eq!(why(&gate, Kind::Create), Some((Blocked::Rate, at(60_000))));
    let mut other = told;
    other.set_policy(GatePolicy::none(), START);
    assert_eq!(why(&other, Kind::Poll), in_line, "other settings change nobody's place");
}
