//! What a breaker remembers, counted again; and what threads that share one see of it.

use core::time::Duration;
use std::collections::VecDeque;

use proptest::prelude::*;
use steadfast_core::breaker::{Breaker, BreakerPolicy, BreakerState, Glance, Health, SlowCalls, Window};
use steadfast_core::{Seed, Timestamp};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const SECOND: Duration = Duration::from_secs(1);

proptest! {
    /// R24, over many times round the ring and through all slices: what is counted is what a recount of the log counts.
    #[test]
    fn r24_a_window_counts_what_a_recount_counts(
        size in 1_u16..=512, calls in prop::collection::vec((0_u8..8, 0_u8..8, 0_u64..400), 1..1_500), by_time: bool,
    ) {
        let span = Duration::from_millis(10 * u64::from(size));
        let window = if by_time { Window::Time(span) } else { Window::Calls(size) };
        // Slow calls alone may be all that there are, failures never: nothing opens it.
        let slow = SlowCalls { longer_than: SECOND, percent: 100 };
        let policy = BreakerPolicy::rate(100, window, if by_time { 2_000 } else { size.into() }).unwrap();
        let policy = policy.with_slow_calls(slow).unwrap();
        let (mut breaker, mut now, mut log) = (Breaker::new(&policy, Seed::new(1)), START, VecDeque::new());
        for (kind, pace, gap) in calls {
            now = now.saturating_add(Duration::from_millis(gap / 40));
            let (failed, slow) = (kind == 0, pace == 0);
            log.push_back((now, failed, slow));
            let last = log.iter().rev().take(size.into());
            if !by_time && (last.clone().all(|call| call.1) || last.clone().all(|call| call.2)) {
                // It opens, rightly; here only its counting is looked at.
                breaker.reset(&policy);
                log.clear();
                continue;
            }
            let began = if slow { now.saturating_sub(2 * SECOND) } else { now };
            let ticket = breaker.admit(&policy, began).unwrap();
            breaker.settle(&policy, ticket, if failed { Health::Failing } else { Health::Healthy }, now);
            let counts = breaker.counts(now);
            let recount = |age: Duration| {
                let young = log.iter().rev().take_while(|(at, ..)| now.saturating_since(*at) < age);
                young.fold((0, 0, 0), |(calls, f, s), call| (calls + 1, f + u32::from(call.1), s + u32::from(call.2)))
            };
            let (calls, failed, slow) = (counts.calls, counts.failed, counts.slow);
            if by_time {
                let (most, least) = (recount(span), recount(span - span / 10));
                prop_assert!(calls <= most.0 && failed <= most.1 && slow <= most.2, "{:?} of {:?}", counts, most);
                prop_assert!(calls >= least.0 && failed >= least.1 && slow >= least.2, "{:?} of {:?}", counts, least);
            } else {
                let last = log.iter().rev().take(size.into());
                prop_assert_eq!(calls, last.clone().count() as u32);
                prop_assert_eq!(failed, last.clone().filter(|call| call.1).count() as u32);
                prop_assert_eq!(slow, last.filter(|call| call.2).count() as u32);
            }
        }
    }

    /// What a thread may do without the lock is what the breaker itself would do; nothing more is left to it than that.
    #[test]
    fn a_glance_knows_what_the_breaker_would_do(
        calls in any::<bool>(), steps in prop::collection::vec((0_u8..10, any::<prop::sample::Index>(), 0_u64..4), 0..80),
    ) {
        let policy = if calls { BreakerPolicy::rate(50, Window::Calls(4), 2) } else { BreakerPolicy::consecutive(2) }.unwrap();
        let (mut breaker, mut now) = (Breaker::new(&policy, Seed::new(1)), START);
        let mut tickets = vec![breaker.admit(&policy, now).unwrap()];
        for (step, which, gap) in steps {
            now = now.saturating_add(SECOND * gap as u32);
            let ticket = tickets[which.index(tickets.len())];
            match step {
                0 => breaker.force_open(now.saturating_add(SECOND)),
                1 => breaker.isolate(),
                2 => breaker.disable(),
                3 => breaker.reset(&policy),
                4 | 5 => breaker.settle(&policy, ticket, Health::Failing, now),
                6..8 => breaker.settle(&policy, ticket, Health::Healthy, now),
                _ => tickets.extend(breaker.admit(&policy, now)),
            }
            let glance = breaker.glance();
            prop_assert_eq!(Glance::from_word(glance.to_word()), glance);
            let state = breaker.state(now);
            let admits = matches!(state, BreakerState::Closed | BreakerState::Disabled);
            prop_assert_eq!(glance.ticket(now).is_some(), admits);
            let admitted = breaker.clone().admit(&policy, now);
            prop_assert!(!admits || admitted.map(|it| it.begun(now)) == Ok(glance.ticket(now).unwrap()));
            for ticket in tickets.iter().chain(&glance.ticket(now)) {
                for health in [Health::Healthy, Health::Failing, Health::Ignored] {
                    let mut settled = breaker.clone();
                    settled.settle(&policy, *ticket, health, now);
                    let idle = !glance.ignores(*ticket, health) || settled == breaker;
                    prop_assert!(idle, "{:?} {:?} of {:?}", ticket, health, breaker);
                }
            }
            if let Some(current) = glance.ticket(now) {
                prop_assert!(!current.is_probe() && glance.ignores(current, Health::Ignored));
                prop_assert!(!glance.ignores(current, Health::Failing) || state == BreakerState::Disabled);
            }
        }
        // One that is well, and one that looks at nothing, need no lock; and what was begun in another epoch never does.
        breaker.reset(&policy);
        let old = breaker.admit(&policy, now).unwrap();
        prop_assert_eq!(breaker.glance().ignores(old, Health::Healthy), !calls, "a window that is not full counts them");
        breaker.disable();
        prop_assert!(breaker.glance().ignores(old, Health::Failing));
        let current = breaker.admit(&policy, now).unwrap();
        prop_assert!([Health::Healthy, Health::Ignored].iter().all(|health| breaker.glance().ignores(current, *health)));
    }
}

#[test]
fn good_calls_need_no_lock_once_they_fill_the_window_and_all_do_while_a_failure_is_in_it() {
    let policy = BreakerPolicy::rate(100, Window::Calls(4), 4).unwrap();
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    let ticket = breaker.admit(&policy, START).unwrap();
    let good = |breaker: &mut Breaker| {
        let needs_a_lock = !breaker.glance().ignores(ticket, Health::Healthy);
        breaker.settle(&policy, ticket, Health::Healthy, START);
        needs_a_lock
    };
    assert_eq!([(); 6].map(|()| good(&mut breaker)), [true, true, true, true, false, false]);
    breaker.settle(&policy, ticket, Health::Failing, START);
    let seen = [(); 6].map(|()| (good(&mut breaker), breaker.counts(START).failed));
    assert_eq!(seen, [(true, 1), (true, 1), (true, 1), (true, 0), (false, 0), (false, 0)]);
}
