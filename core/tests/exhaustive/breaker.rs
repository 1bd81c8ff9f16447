//! Breakers that open at up to three failures, in windows of up to four calls or ticks, with one or two probes.

use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{Breaker, BreakerPolicy, BreakerState, Health, Probes, Ticket, Trip, Window};
use steadfast_core::{Seed, Timestamp};

use crate::{DEPTH, World, explore};

const TICK: Duration = Duration::from_secs(1);
const OPEN: u32 = 2;
const LEASE: u32 = 2;
const START: u64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ward {
    policy: BreakerPolicy,
    breaker: Breaker,
    now: Timestamp,
    /// Tickets out, and one that was given back already and may come again.
    out: Vec<Ticket>,
    spent: Option<Ticket>,
    /// What the closed breaker has seen since it was last closed: when, and whether it failed.
    log: Vec<(Timestamp, bool)>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Ask,
    Settle(usize, Health),
    /// The ticket is dropped and never comes back.
    Lose(usize),
    /// A ticket comes back a second time.
    Again,
    Tick,
    Back,
}

impl World for Ward {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let mut events = vec![Event::Tick];
        if self.out.len() < 3 {
            events.push(Event::Ask);
        }
        for at in 0..self.out.len() {
            let ends = [Health::Healthy, Health::Failing, Health::Ignored];
            events.extend(ends.map(|health| Event::Settle(at, health)));
            events.push(Event::Lose(at));
        }
        if self.spent.is_some() {
            events.push(Event::Again);
        }
        if self.now > Timestamp::from_secs(START) {
            events.push(Event::Back);
        }
        events
    }

    fn step(&self, event: Event) -> Self {
        let mut after = self.clone();
        match event {
            Event::Ask => after.ask(),
            Event::Settle(at, health) => {
                let ticket = after.out.remove(at);
                after.settle(ticket, health);
                after.spent = Some(ticket);
            }
            Event::Lose(at) => {
                let _ = after.out.remove(at);
            }
            Event::Again => {
                if let Some(ticket) = after.spent.take()
                    && self.breaker.state(self.now) != BreakerState::Closed
                {
                    after.breaker.settle(&self.policy, ticket, Health::Failing, self.now);
                    assert_eq!(after.breaker, self.breaker, "R21: a ticket counts once");
                }
            }
            Event::Tick => after.now = self.now.saturating_add(TICK),
            Event::Back => after.now = self.now.saturating_sub(TICK),
        }
        self.check_transition(&after);
        after
    }

    fn check(&self) {
        self.check_probes();
        self.check_window();
        self.check_time();
        self.check_recovery();
        #[cfg(feature = "serde")]
        self.check_snapshot();
    }
}

impl Ward {
    fn new(policy: BreakerPolicy) -> Self {
        let breaker = Breaker::new(&policy, Seed::new(1));
        let now = Timestamp::from_secs(START);
        Self { policy, breaker, now, out: Vec::new(), spent: None, log: Vec::new() }
    }

    fn ask(&mut self) {
        let asked = self.breaker.check(&self.policy, self.now);
        match self.breaker.admit(&self.policy, self.now) {
            Ok(ticket) => {
                assert_eq!(asked, Ok(()));
                self.out.push(ticket);
            }
            Err(until) => {
                assert_eq!(asked, Err(until));
                assert!(until > self.now, "a wait ends later than now");
            }
        }
    }

    fn settle(&mut self, ticket: Ticket, health: Health) {
        let before = self.breaker.clone();
        let closed = self.breaker.state(self.now) == BreakerState::Closed;
        let epoch = self.breaker.epoch();
        self.breaker.settle(&self.policy, ticket, health, self.now);
        if before == self.breaker || !closed {
            return;
        }
        if epoch != self.breaker.epoch() {
            self.log.clear();
        } else if health != Health::Ignored {
            self.log.push((self.now, health == Health::Failing));
        }
    }

    /// R20: only the transitions of the diagram, and R23: a ticket of another epoch changes nothing.
    fn check_transition(&self, after: &Self) {
        use BreakerState::{Closed, HalfOpen, Open};
        let changed = self.breaker.epoch() != after.breaker.epoch();
        let legal = match (self.breaker.state(self.now), after.breaker.state(after.now)) {
            (Closed, Closed) | (Open { .. }, Open { .. }) => !changed,
            (HalfOpen, HalfOpen) => true,
            (Closed, Open { .. }) | (HalfOpen, Open { .. } | Closed) => changed || self.now > after.now,
            // The time is over; it shows at once, and becomes so with the next ask.
            (Open { .. }, HalfOpen) => !changed && after.now > self.now,
            (_, _) => false,
        };
        assert!(legal, "R20: {self:?} → {after:?}");
    }

    fn check_probes(&self) {
        let most = u32::from(self.policy.probes().at_once);
        assert!(self.breaker.probes_out(self.now) <= most, "R21: {self:?}");
    }

    /// R24: what is counted is what happened in the window.
    fn check_window(&self) {
        if self.breaker.state(self.now) != BreakerState::Closed {
            return;
        }
        let counts = self.breaker.counts(self.now);
        let recent = |age: Duration| {
            let latest = self.log.iter().map(|(at, _)| *at).max().unwrap_or(self.now).max(self.now);
            self.log.iter().filter(move |(at, _)| latest.saturating_since(*at) < age).count() as u32
        };
        match self.policy.trip() {
            Trip::Consecutive { .. } => {
                let streak = self.log.iter().rev().take_while(|(_, failed)| *failed).count() as u32;
                assert_eq!(counts.failed, streak, "R24: {self:?}");
            }
            Trip::Rate { window: Window::Calls(size), .. } => {
                let last = self.log.iter().rev().take(size.into());
                assert_eq!(counts.failed, last.clone().filter(|(_, failed)| *failed).count() as u32, "R24: {self:?}");
                assert_eq!(counts.calls, last.count() as u32, "R24: {self:?}");
            }
            // Time ran backwards in some of these histories; then a call may count as a little younger than it is.
            Trip::Rate { window: Window::Time(span), .. } if self.log.is_sorted() => {
                assert!(counts.calls <= recent(span), "R24: {self:?}");
                assert!(counts.calls >= recent(span - TICK), "R24: {self:?}");
            }
            _ => {}
        }
    }

    /// I11: an earlier time lets nothing through that would wait now.
    fn check_time(&self) {
        for back in 1..=4 {
            let earlier = self.now.saturating_sub(TICK * back);
            if self.breaker.check(&self.policy, earlier).is_ok() {
                assert_eq!(self.breaker.check(&self.policy, self.now), Ok(()), "I11: {self:?}");
            }
        }
    }

    /// I9: whatever has happened, and if no ticket ever comes back, a call goes through in bounded time. I8: and good
    /// ones close it.
    fn check_recovery(&self) {
        let mut breaker = self.breaker.clone();
        let longest = TICK * (OPEN + LEASE);
        // Time may have gone back by as much as it had gone forward.
        let slack = TICK * 10;
        let mut now = self.now;
        for _ in 0..self.policy.probes().successes {
            if let Err(until) = breaker.check(&self.policy, now) {
                assert!(until <= now.saturating_add(longest).saturating_add(slack), "I9: {self:?}");
                now = until;
            }
            let ticket = breaker.admit(&self.policy, now).expect("I9: the time it said has come");
            breaker.settle(&self.policy, ticket, Health::Healthy, now);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed, "I8: {self:?}");
    }

    /// I12: what is read back is what was written.
    #[cfg(feature = "serde")]
    fn check_snapshot(&self) {
        let written = serde_json::to_string(&self.breaker).unwrap();
        assert_eq!(serde_json::from_str::<Breaker>(&written).unwrap(), self.breaker, "I12");
        let tickets = serde_json::to_string(&self.out).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Ticket>>(&tickets).unwrap(), self.out, "I12");
    }
}

fn small(policy: BreakerPolicy, at_once: u8, successes: u16, failures: u16) -> BreakerPolicy {
    let open = BackoffPolicy::new(Growth::Fixed(TICK * OPEN), TICK * OPEN, Jitter::None).unwrap();
    let probes = Probes { at_once, successes, failures, lease: TICK * LEASE };
    policy.with_open(open).unwrap().with_probes(probes).unwrap()
}

#[test]
fn i8_i9_i11_i12_r20_to_r24_hold_in_every_small_breaker() {
    let mut kinds: Vec<BreakerPolicy> = (1..=3).map(|n| BreakerPolicy::consecutive(n).unwrap()).collect();
    for size in 1..=4 {
        kinds.push(BreakerPolicy::rate(50, Window::Calls(size), u32::from(size).min(2)).unwrap());
        kinds.push(BreakerPolicy::rate(50, Window::Time(TICK * size.into()), 2).unwrap());
    }
    let mut total = 0;
    for kind in kinds {
        for (at_once, successes, failures) in [(1, 1, 1), (1, 2, 1), (2, 2, 2)] {
            let policy = small(kind.clone(), at_once, successes, failures);
            let states = explore(Ward::new(policy.clone()), DEPTH);
            println!("{:?}, {at_once} probes at once, {successes} to close: {states} states", policy.trip());
            total += states;
        }
    }
    println!("breakers: {total} states in all");
}
