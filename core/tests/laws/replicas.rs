//! Processes that share a provider's limits, each with a gate of its own that knows how many they are.

use core::num::NonZeroU32;
use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::gate::{Admission, Blocked, Gate, GatePolicy, Kinds, RateLimit, Request, Settled};
use steadfast_core::rate_limit::{Quota, RatePolicy};
use steadfast_core::{Kind, Seed, Timestamp};

use crate::run::{SECOND, START, at, limit};

fn replicas(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap()
}

/// When requests leave, until `end`, if each gate always has one that waits.
fn saturated(gates: &mut [Gate], end: Timestamp) -> Vec<Timestamp> {
    let mut left = Vec::new();
    for gate in gates {
        let mut now = START;
        while now < end {
            match gate.admit(Request::first(Kind::Create), now) {
                Admission::Go(permit) => {
                    gate.settle(permit, Settled::Answered, now);
                    left.push(now);
                }
                Admission::Wait(no) | Admission::Refuse(no) => now = no.until,
            }
        }
    }
    left.sort_unstable();
    left
}

proptest! {
    /// Also if the provider names another count than was configured, and if what is known was stored in between.
    #[test]
    fn i10_processes_that_share_a_limit_keep_to_it_together_and_use_it_up(
        processes in 1_u32..6,
        count in 1_u32..200,
        burst in 1_u32..20,
        named in prop::option::of(1_u32..200),
        stored: bool,
    ) {
        let whole = limit(count, 60 * SECOND, Kinds::ALL);
        let whole = RateLimit { rate: whole.rate.with_burst(burst).unwrap(), ..whole };
        let policy = GatePolicy::none().with_rate_limit(whole).with_replicas(replicas(processes));
        let mut gates: Vec<Gate> = (0..processes).map(|seed| Gate::new(policy.clone(), Seed::new(seed.into()))).collect();
        for gate in &mut gates {
            gate.learn(Kind::Create, Quota { limit: named, window: Some(60 * SECOND), ..Quota::default() }, START);
            if stored {
                *gate = gate.clone().restored(START);
            }
        }
        let left = saturated(&mut gates, at(600_000));

        let (count, together) = (u64::from(named.unwrap_or(count)), u64::from(burst.max(processes)));
        for (first, begin) in left.iter().enumerate() {
            for (last, end) in left.iter().enumerate().skip(first) {
                let span = u64::try_from(end.saturating_since(*begin).as_millis()).unwrap();
                let allowed = together + span * count / 60_000;
                prop_assert!((last - first) as u64 <= allowed, "{} in {span} ms", last - first + 1);
                // As one process would, whatever the moments at which they begin.
                if count >= u64::from(processes) && end.saturating_since(*begin) < 60 * SECOND {
                    prop_assert!(((last - first) as u64) < count + u64::from(burst) - 1, "{} in a window", last - first + 1);
                }
            }
        }
        // Ten windows of it, less what each may have just missed, and what does not divide.
        let used = if count < u64::from(processes) { count } else { count - count % u64::from(processes) };
        prop_assert!(left.len() as u64 + u64::from(processes) >= 10 * used, "{} of {}", left.len(), 10 * used);
    }

    #[test]
    fn a_part_of_a_policy_is_a_policy(count in 1_u32.., millis in 1_u64..1_000_000_000, burst in 1_u32.., processes in 1_u32..) {
        prop_assume!(Duration::from_millis(millis).as_nanos() >= u128::from(count));
        let whole = RatePolicy::new(count, Duration::from_millis(millis)).unwrap().with_burst(burst).unwrap();
        let part = whole.divided_among(replicas(processes));
        let again = RatePolicy::new(part.count(), part.per()).unwrap().with_burst(part.burst()).unwrap();
        prop_assert_eq!(part, again);
        let (parts, longer) = if count < processes { (count, processes) } else { (count / processes, 1) };
        prop_assert_eq!((part.count(), part.per()), (parts, whole.per() * longer));
        prop_assert_eq!(part.burst(), (burst / processes).max(1));
        prop_assert!(processes > 1 || part == whole);
    }
}

#[test]
fn what_a_provider_names_is_the_whole_of_which_each_process_has_its_part() {
    let policy = GatePolicy::none().with_rate_limit(limit(60, 60 * SECOND, Kinds::ALL)).with_replicas(replicas(3));
    let mut gate = Gate::new(policy, Seed::new(1));
    let six_hundred = Quota { limit: Some(600), window: Some(60 * SECOND), ..Quota::default() };
    let _ = gate.admit(Request::first(Kind::Create), START).permit().unwrap();
    gate.learn(Kind::Create, six_hundred, START);
    assert_eq!(gate.policy().rate_limits()[0].rate.count(), 600, "the limit is the account's");
    let Admission::Wait(no) = gate.admit(Request::first(Kind::Create), START) else { panic!("one each 300 ms") };
    assert_eq!((no.until, no.why), (at(300), Blocked::Rate));
}

#[test]
fn of_what_a_provider_says_is_left_each_process_takes_its_part() {
    let left = |remaining, processes| {
        let mut gate = Gate::new(GatePolicy::none().with_replicas(replicas(processes)), Seed::new(1));
        let quota = Quota { remaining: Some(remaining), reset: Some(30 * SECOND), ..Quota::default() };
        gate.learn(Kind::Create, quota, START);
        (0..100).take_while(|_| gate.admit(Request::first(Kind::Create), START).permit().is_some()).count()
    };
    assert_eq!((left(10, 1), left(10, 3), left(10, 10), left(10, 11)), (10, 3, 1, 0));
    // What nobody takes is not lost for longer than the window.
    let mut gate = Gate::new(GatePolicy::none().with_replicas(replicas(9)), Seed::new(1));
    gate.learn(Kind::Create, Quota { remaining: Some(1), reset: Some(SECOND), ..Quota::default() }, START);
    let Admission::Wait(no) = gate.admit(Request::first(Kind::Create), START) else { panic!("it is somebody else's") };
    assert_eq!((no.until, no.why), (at(1_000), Blocked::Quota));
    assert!(gate.admit(Request::first(Kind::Create), at(1_000)).permit().is_some());
}

#[test]
fn a_limit_keeps_its_own_state_when_the_number_of_processes_changes() {
    // A sixtieth of the first has the span of the second.
    let of =
        |count, per| RateLimit { rate: limit(count, per, Kinds::ALL).rate.with_burst(60).unwrap(), kinds: Kinds::ALL };
    let policy = GatePolicy::none().with_rate_limit(of(50, SECOND)).with_rate_limit(of(1, 60 * SECOND));
    let mut gate = Gate::new(policy.clone().with_replicas(replicas(60)), Seed::new(1));
    let _ = gate.admit(Request::first(Kind::Create), START).permit().unwrap();
    let two_seconds = at(2_000);
    gate.set_policy(policy, two_seconds);
    let go = (0..100).take_while(|_| gate.admit(Request::first(Kind::Create), two_seconds).permit().is_some()).count();
    assert_eq!(go, 59, "the first limit has forgotten the request, the second has not");
}

#[test]
fn what_is_left_is_divided_anew_when_the_number_of_processes_changes() {
    let left = |before, after| {
        let policy = |count| GatePolicy::none().with_replicas(replicas(count));
        let mut gate = Gate::new(policy(before), Seed::new(1));
        let quota = Quota { remaining: Some(100), reset: Some(30 * SECOND), ..Quota::default() };
        gate.learn(Kind::Create, quota, START);
        gate.set_policy(policy(after), START);
        (0..1_000).take_while(|_| gate.admit(Request::first(Kind::Create), START).permit().is_some()).count()
    };
    assert_eq!((left(1, 10), left(10, 1), left(3, 3), left(4, 1_000)), (10, 100, 33, 0));
}

#[test]
fn more_processes_pace_what_is_left_of_a_running_limit() {
    let policy = GatePolicy::none().with_rate_limit(limit(60, 60 * SECOND, Kinds::ALL));
    let mut gate = Gate::new(policy.clone(), Seed::new(1));
    let _ = gate.admit(Request::first(Kind::Create), START).permit().unwrap();
    gate.set_policy(policy.clone().with_replicas(replicas(4)), START);
    let Admission::Wait(no) = gate.admit(Request::first(Kind::Create), at(1_000)) else { panic!("one each 4 s") };
    assert_eq!((no.until, no.why), (at(4_000), Blocked::Rate));
    gate.set_policy(policy, at(1_000));
    let Admission::Wait(no) = gate.admit(Request::first(Kind::Create), at(1_000)) else { panic!("three of four s") };
    assert_eq!((no.until, no.why), (at(1_750), Blocked::Rate));
}
