//! Rate limiters of up to three requests in up to four ticks, with bursts of up to three.

use std::time::Duration;

use steadfast_core::Timestamp;
use steadfast_core::rate_limit::{RateLimiter, RatePolicy, Reservation};

use crate::{DEPTH, World, explore};

const TICK: Duration = Duration::from_secs(1);
const START: u64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Queue {
    policy: RatePolicy,
    limiter: RateLimiter,
    now: Timestamp,
    /// When requests left, or will.
    left: Vec<Timestamp>,
    reserved: Option<Reservation>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Take(u32),
    Reserve,
    Cancel,
    CancelLate,
    Tick,
    Back,
}

impl World for Queue {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Tick, Event::Take(1), Event::Take(2), Event::Reserve];
        if self.reserved.is_some() {
            events.extend([Event::Cancel, Event::CancelLate]);
        }
        if self.now > Timestamp::from_secs(START) {
            events.push(Event::Back);
        }
        events
    }

    fn step(&self, event: Event) -> Self {
        let mut after = self.clone();
        match event {
            Event::Take(count) => match after.limiter.try_acquire_many(&self.policy, count, self.now) {
                Ok(()) => after.left.extend((0..count).map(|_| self.now)),
                Err(at) => {
                    assert_eq!(after.limiter, self.limiter, "a refusal takes nothing");
                    assert!(at > self.now);
                    if count <= self.policy.burst() {
                        // R26: exact to the nanosecond.
                        let early = at.saturating_sub(Duration::from_nanos(1));
                        assert!(self.limiter.clone().try_acquire_many(&self.policy, count, early).is_err(), "R26");
                        assert!(self.limiter.clone().try_acquire_many(&self.policy, count, at).is_ok(), "R26");
                    }
                }
            },
            Event::Reserve => {
                let place = after.limiter.reserve(&self.policy, 1, self.now).expect("one is within any burst");
                assert!(place.at() >= self.now);
                after.left.push(place.at());
                after.reserved = Some(place);
            }
            Event::Cancel | Event::CancelLate => {
                let place = after.reserved.take().expect("there is one");
                match event {
                    Event::Cancel => after.limiter.cancel(&self.policy, place, self.now),
                    _ => after.limiter.cancel_late(&self.policy, place, self.now),
                }
                assert!(after.limiter <= self.limiter, "R27: it takes nothing");
                // Given back or not, this one does not leave.
                let at = after.left.iter().position(|at| *at == place.at()).expect("it was to leave then");
                after.left.remove(at);
            }
            Event::Tick => after.now = self.now.saturating_add(TICK),
            Event::Back => after.now = self.now.saturating_sub(TICK),
        }
        after
    }

    /// I10 and R25: in no span of time do more leave than the pace allows plus the burst.
    fn check(&self) {
        let mut left = self.left.clone();
        left.sort();
        for (from, start) in left.iter().enumerate() {
            for (to, end) in left.iter().enumerate().skip(from) {
                let span = end.saturating_since(*start).as_nanos();
                let paced = span * u128::from(self.policy.count()) / self.policy.per().as_nanos();
                let most = paced + u128::from(self.policy.burst());
                assert!((to - from + 1) as u128 <= most, "I10: {} in {span} ns: {self:?}", to - from + 1);
            }
        }
        // I11: an earlier time lets nothing through that would wait now.
        for back in 1..=4 {
            let earlier = self.now.saturating_sub(TICK * back);
            if self.limiter.check(&self.policy, earlier).is_ok() {
                assert_eq!(self.limiter.check(&self.policy, self.now), Ok(()), "I11");
            }
        }
    }
}

#[test]
fn i10_i11_r25_to_r27_hold_in_every_small_limiter() {
    let mut total = 0;
    for count in 1..=3 {
        for per in [1, 4] {
            for burst in 1..=3 {
                let policy = RatePolicy::new(count, TICK * per).unwrap().with_burst(burst).unwrap();
                let now = Timestamp::from_secs(START);
                let start = Queue { policy, limiter: RateLimiter::new(), now, left: Vec::new(), reserved: None };
                total += explore(start, DEPTH);
            }
        }
    }
    println!("limiters: {total} states in all");
}
