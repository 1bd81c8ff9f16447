//! Calls every step that carries the link-time proof, so that the linker has to look at it.
//!
//! With `--cfg steadfast_no_panic`, in release with link-time optimisation, this file does not link if one of them can
//! panic (`.ci/run no-panic`). As an ordinary test it is one short life of an operation.

use std::time::Duration;

use steadfast_core::breaker::{BreakerPolicy, SlowCalls, Window};
use steadfast_core::gate::{Admission, GatePolicy, Kinds, RateLimit, Request, Settled};
use steadfast_core::operation::{Effect, Event, Reading};
use steadfast_core::rate_limit::{RateLimiter, RatePolicy};
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Fingerprint, Gate, Key, Kind, Operation, OperationPolicy, Reference, Seed, Timestamp};

#[test]
fn one_life_of_an_operation_links_without_panics() {
    let (policy, mut gate) = (OperationPolicy::default(), Gate::unlimited());
    let mut now = Timestamp::from_secs(1_700_000_000);
    let key = Key::new("order-42").unwrap();
    let mut job = Operation::new(key, Fingerprint::new([0; 16]), Seed::new(7), &mut policy.turn(now, &mut gate));
    let mut polls = 0;
    while job.outcome().is_none() {
        while let Some(effect) = job.pop_effect() {
            let event = match effect {
                Effect::Persist(number) => Event::Persisted(number),
                Effect::Send(attempt) if attempt.kind == Kind::Create => {
                    Event::Answered(attempt.id, Ok(Reading::Accepted(Reference::new("txn-1").unwrap())))
                }
                Effect::Send(attempt) => {
                    polls += 1;
                    Event::Answered(
                        attempt.id,
                        Ok(if polls < 3 { Reading::Pending { hint: None } } else { Reading::Ready }),
                    )
                }
                _ => Event::Delivered,
            };
            job.handle(event, &mut policy.turn(now, &mut gate));
        }
        let Some(wake) = job.next_wake() else { continue };
        now = wake.at;
        job.handle_timeout(&mut policy.turn(now, &mut gate));
    }
    assert_eq!(job.outcome().unwrap().name(), "completed");
    assert_eq!(polls, 3);
}

#[test]
fn the_steps_of_the_machines_link_without_panics() {
    let minute = Duration::from_secs(60);
    let rate = RatePolicy::new(600, minute).unwrap().with_burst(3).unwrap();
    let slow = SlowCalls { longer_than: minute, percent: 50 };
    for window in [Window::Calls(4), Window::Time(minute)] {
        let breaker = BreakerPolicy::rate(50, window, 2).unwrap().with_slow_calls(slow).unwrap();
        let policy =
            GatePolicy::default().with_breaker(Some(breaker)).with_rate_limit(RateLimit { kinds: Kinds::ALL, rate });
        let mut gate = Gate::new(policy, Seed::new(7));
        let mut now = Timestamp::from_secs(1_700_000_000);
        let mut ends = [Settled::Answered, Settled::Failed(Failure::new(Class::TimedOut, Certainty::MayHaveExecuted))];
        for _ in 0..20 {
            ends.reverse();
            match gate.admit(Request::retry(Kind::Poll, Class::Transient), now) {
                Admission::Go(permit) => gate.settle(permit, ends[0], now),
                Admission::Wait(no) | Admission::Refuse(no) => now = no.until,
            }
        }
        assert_eq!(gate.in_flight(), 0);
    }
    let (mut limiter, now) = (RateLimiter::new(), Timestamp::from_secs(1));
    let place = limiter.reserve(&rate, 2, now).unwrap();
    limiter.cancel(&rate, place, now);
    let place = limiter.reserve(&rate, 2, now).unwrap();
    limiter.cancel_late(&rate, place, now);
    assert_eq!(limiter.try_acquire_many(&rate, 3, now), Ok(()));
}
