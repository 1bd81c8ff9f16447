//! A gate with a small one of each machine.

use std::num::NonZeroU8;
use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, BreakerState, Probes};
use steadfast_core::budget::{BudgetPolicy, Costs, Tokens};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::gate::{Admission, Blocked, Gate, GatePolicy, Kinds, Permit, RateLimit, Request, Settled};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, Seed, Timestamp};

use crate::{DEPTH, World, explore};

const TICK: Duration = Duration::from_secs(1);
const START: u64 = 1_000;
/// One poll in two ticks, two together.
const EVERY: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Door {
    gate: Gate,
    now: Timestamp,
    /// Permits out, and when they were given.
    out: Vec<(Permit, Timestamp)>,
    /// When polls were let go, except those that never left.
    polls: Vec<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Ask(Request),
    Settle(usize, Settled),
    Lose(usize),
    Tick,
    Back,
}

const RESET: Failure = Failure::new(Class::Transient, Certainty::MayHaveExecuted);
const SLOWER: Failure =
    Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(Duration::from_secs(2)));

impl World for Door {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let mut events = vec![
            Event::Tick,
            Event::Ask(Request::first(Kind::Create)),
            Event::Ask(Request::first(Kind::Poll)),
            Event::Ask(Request::retry(Kind::Poll, Class::Transient)),
        ];
        if let Some(last) = self.out.len().checked_sub(1) {
            let ends = [Settled::Answered, Settled::Failed(RESET), Settled::Failed(SLOWER), Settled::Unsent];
            events.extend(ends.map(|how| Event::Settle(0, how)));
            events.push(Event::Lose(last));
        }
        if self.now > Timestamp::from_secs(START) {
            events.push(Event::Back);
        }
        events
    }

    fn step(&self, event: Event) -> Self {
        let mut after = self.clone();
        match event {
            Event::Ask(ask) => match after.gate.admit(ask, self.now) {
                Admission::Go(permit) => {
                    assert_eq!(self.gate.check(ask, self.now), None);
                    after.out.push((permit, self.now));
                    if ask.kind == Kind::Poll {
                        after.polls.push(self.now);
                    }
                    let spent = ask.retry_of.map_or(0, |_| 1);
                    assert_eq!(self.tokens() - after.tokens(), spent, "a retry is charged once, a first attempt never");
                }
                Admission::Wait(no) | Admission::Refuse(no) => {
                    assert_eq!(after.gate, self.gate, "a refusal takes nothing from anybody: {no:?}");
                    assert!(no.until > self.now, "a wait ends later than now: {no:?}");
                    self.check_order(ask, no.why);
                }
            },
            Event::Settle(at, how) => {
                let (permit, given) = after.out.remove(at);
                after.gate.settle(permit, how, self.now);
                if how == Settled::Unsent && permit.kind() == Kind::Poll {
                    let at = after.polls.iter().position(|at| *at == given).expect("it was let go then");
                    after.polls.remove(at);
                }
            }
            Event::Lose(at) => {
                // Whoever drops a permit says so; nobody need know how its request ended.
                let (permit, _) = after.out.remove(at);
                after.gate.settle(permit, Settled::Abandoned, self.now);
            }
            Event::Tick => after.now = self.now.saturating_add(TICK),
            Event::Back => after.now = self.now.saturating_sub(TICK),
        }
        after
    }

    fn check(&self) {
        assert_eq!(self.gate.in_flight() as usize, self.out.len(), "I8: {self:?}");
        assert!(self.out.len() <= 2, "no more in the air than the bulkhead lets in");
        let mut polls = self.polls.clone();
        polls.sort();
        for (from, start) in polls.iter().enumerate() {
            for (to, end) in polls.iter().enumerate().skip(from) {
                let most = end.saturating_since(*start).as_nanos() / EVERY.as_nanos() + 2;
                assert!(((to - from) as u128) < most, "I10: {self:?}");
            }
        }
        self.check_recovery();
        #[cfg(feature = "serde")]
        {
            let written = serde_json::to_string(&self.gate).unwrap();
            assert_eq!(serde_json::from_str::<Gate>(&written).unwrap(), self.gate, "I12");
        }
    }
}

impl Door {
    fn tokens(&self) -> u32 {
        self.gate.budget_tokens(self.now).expect("there is a budget")
    }

    /// The order of the questions: who says no earlier in the table is never overtaken by who says it later.
    fn check_order(&self, ask: Request, why: Blocked) {
        let open = matches!(self.gate.breaker_state(self.now), BreakerState::Open { .. });
        match why {
            Blocked::Open => assert!(open),
            Blocked::Budget => assert!(!open && ask.retry_of.is_some()),
            Blocked::Full => assert!(!open && self.out.len() == 2),
            Blocked::Rate => assert!(!open && self.out.len() < 2 && ask.kind == Kind::Poll),
            _ => {}
        }
    }

    /// I8 and I9: when all have ended, and time goes on, a poll goes through.
    fn check_recovery(&self) {
        let mut gate = self.gate.clone();
        let mut now = self.now;
        for (permit, _) in &self.out {
            gate.settle(*permit, Settled::Abandoned, now);
        }
        assert_eq!(gate.in_flight(), 0, "I8: {self:?}");
        for _ in 0..8 {
            match gate.admit(Request::first(Kind::Poll), now) {
                Admission::Go(_) => return,
                Admission::Wait(no) | Admission::Refuse(no) => now = no.until,
            }
        }
        panic!("I9: nothing goes through: {self:?}");
    }
}

#[test]
fn i8_to_i12_and_the_laws_between_the_machines_hold_in_every_small_gate() {
    let open = BackoffPolicy::new(Growth::Fixed(2 * TICK), 2 * TICK, Jitter::None).unwrap();
    let probes = Probes { at_once: 1, successes: 1, failures: 1, lease: 2 * TICK };
    let breaker = BreakerPolicy::consecutive(2).unwrap().with_open(open).unwrap().with_probes(probes).unwrap();
    let budget = BudgetPolicy::new(2).unwrap().with_costs(Costs::all(NonZeroU8::MIN)).unwrap();
    let rate = RatePolicy::new(1, EVERY).unwrap().with_burst(2).unwrap();
    let policy = GatePolicy::none()
        .with_breaker(Some(breaker))
        .with_budget(Some(budget.with_per_success(Tokens::whole(1))))
        .with_bulkhead(Some(BulkheadPolicy::fixed(2).unwrap()))
        .with_rate_limit(RateLimit { kinds: Kinds::of(&[Kind::Poll]), rate });
    let gate = Gate::new(policy, Seed::new(1));
    let start = Door { gate, now: Timestamp::from_secs(START), out: Vec::new(), polls: Vec::new() };
    println!("gate: {} states", explore(start, DEPTH));
}
