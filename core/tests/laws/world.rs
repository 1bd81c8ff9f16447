//! A small world around an engine: a provider with a ledger, a journal that commits late or fails, a process that
//! crashes, callers that cancel. Everything is drawn from one seed. The provider keeps its ledger apart from all that
//! the engine believes.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use steadfast_core::engine::{Engine, Event, Limits, Submitted};
use steadfast_core::gate::GatePolicy;
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Attempt, Effect, Reading, Record, RecordId, Rejected, Stage};
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{
    Fingerprint, Gate, Key, Kind, OperationId, OperationPolicy, Outcome, Reference, Seed, SendSafety, Timestamp,
};

use crate::policies;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// What the provider does with a key that it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    Honoured,
    Lookup,
    Ignored,
}

pub(crate) struct World {
    dice: fastrand::Rng,
    keys: Keys,
    gate: GatePolicy,
    engine: Engine,
    now: Timestamp,
    /// Asked for and not committed.
    queue: VecDeque<(RecordId, OperationId, Record)>,
    durable: BTreeMap<Key, Record>,
    in_the_air: BTreeMap<OperationId, Attempt>,
    /// Those of them that wait in the driver, and have not left.
    waiting: BTreeSet<OperationId>,
    /// How often each key was run.
    pub(crate) ledger: BTreeMap<Key, u32>,
    /// Creates that left, per key, over all lives of the process.
    pub(crate) sent: BTreeMap<Key, u32>,
    pub(crate) outcomes: BTreeMap<Key, Outcome>,
    crashes_left: u32,
    pub(crate) crashes: u32,
    trouble: f64,
}

fn policy(keys: Keys) -> OperationPolicy {
    let safety = match keys {
        Keys::Honoured => SendSafety::Keyed { window: Duration::from_secs(86_400) },
        Keys::Lookup => SendSafety::Lookup { settle: Duration::from_secs(5) },
        Keys::Ignored => SendSafety::Unsafe,
    };
    OperationPolicy::default().with_safety(safety).unwrap()
}

/// A new process has a new gate.
fn engine(keys: Keys, gate: &GatePolicy) -> Engine {
    Engine::new(policy(keys), Gate::new(gate.clone(), Seed::new(9)), Limits::default(), Seed::new(9))
}

fn print() -> Fingerprint {
    Fingerprint::new([3; 16])
}

impl World {
    /// Carries `count` jobs to their ends.
    pub(crate) fn run(seed: u64, keys: Keys, count: usize, crashes: u32, trouble: f64) -> Self {
        let gate = policies::drawn_gate(seed);
        let mut world = Self {
            dice: fastrand::Rng::with_seed(seed),
            keys,
            engine: engine(keys, &gate),
            gate,
            now: START,
            queue: VecDeque::new(),
            durable: BTreeMap::new(),
            in_the_air: BTreeMap::new(),
            waiting: BTreeSet::new(),
            ledger: BTreeMap::new(),
            sent: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            crashes_left: crashes,
            crashes: 0,
            trouble,
        };
        let all: Vec<Key> = (0..count).map(|n| Key::new(format!("order-{n}")).unwrap()).collect();
        for step in 0.. {
            assert!(step < 20_000, "I14: the world does not come to rest: {:?}", world.engine);
            // The caller submits what it has no outcome for: again after a crash, as it must.
            let missing: Vec<&Key> = all.iter().filter(|key| !world.outcomes.contains_key(*key)).collect();
            if missing.is_empty() {
                break;
            }
            for key in missing {
                if world.engine.find(key).is_none() {
                    let submitted = world.engine.submit(key.clone(), print(), world.now);
                    assert!(matches!(submitted, Ok(Submitted::Started(_))));
                }
            }
            world.turn();
        }
        world.come_to_rest();
        world
    }

    /// What was delivered is written down, too.
    fn come_to_rest(&mut self) {
        self.trouble = 0.0;
        for _ in 0..1_000 {
            self.drain();
            self.commit();
            if self.engine.live() == 0 {
                assert_eq!(self.engine.gate().in_flight(), 0, "I8");
                return;
            }
            self.pass_time();
        }
        panic!("I14: something stays alive: {:?}", self.engine);
    }

    fn turn(&mut self) {
        self.drain();
        match self.dice.u32(..20) {
            0..8 => self.answer(),
            8..14 => self.commit(),
            14..18 => self.pass_time(),
            18 if self.crashes_left > 0 => self.crash(),
            19 if self.dice.f64() < 0.1 => {
                let live: Vec<OperationId> = self.engine.live_operations().collect();
                if let Some(id) = self.dice.choice(live) {
                    self.take_back(id);
                    self.engine.handle(Event::Cancel(id), self.now);
                }
            }
            _ => {
                if let Some(id) = self.dice.choice(self.waiting.clone()) {
                    if self.dice.bool() { self.take_back(id) } else { self.leave(id) }
                }
            }
        }
        self.listen();
        #[cfg(feature = "snapshot")]
        self.store_and_restore();
        self.check();
    }

    fn drain(&mut self) {
        while let Some((id, effect)) = self.engine.pop_effect() {
            match effect {
                Effect::Persist(number) => {
                    let record = self.engine.operation(id).unwrap().record();
                    assert!(self.queue.back().is_none_or(|(last, ..)| *last < number), "records are numbered in order");
                    self.queue.push_back((number, id, record));
                }
                Effect::Send(attempt) => self.send(id, attempt),
                Effect::Abandon(attempt) => {
                    self.waiting.remove(&id);
                    let gone = self.in_the_air.remove(&id).is_none_or(|sent| sent.id <= attempt);
                    assert!(gone, "abandons what was never sent");
                }
                Effect::End => {
                    let operation = self.engine.operation(id).unwrap();
                    let (key, outcome) = (operation.key(), operation.outcome().unwrap());
                    if outcome == Outcome::Rejected(Rejected::NotDurable) {
                        // Nothing of it was ever on disk, and the submit was refused: its caller tries again.
                        assert!(!self.durable.contains_key(&key) && !self.sent.contains_key(&key));
                        self.engine.handle(Event::Delivered(id), self.now);
                        continue;
                    }
                    assert_eq!(self.durable[&key].stage, Stage::Ended(outcome), "R14: told before it was durable");
                    let first = *self.outcomes.entry(key).or_insert(outcome);
                    assert_eq!(first, outcome, "R44: told twice, and differently");
                    self.engine.handle(Event::Delivered(id), self.now);
                }
                _ => {}
            }
        }
    }

    fn send(&mut self, id: OperationId, attempt: Attempt) {
        let operation = self.engine.operation(id).unwrap();
        let key = operation.key();
        let record = self.durable.get(&key).expect("I5: nothing leaves without a durable record");
        assert!(self.in_the_air.insert(id, attempt).is_none(), "I3: two requests of one key at a time");
        match attempt.kind {
            Kind::Create => {
                assert_eq!((record.stage, record.creates >= attempt.number), (Stage::InFlight, true), "I5");
                *self.sent.entry(key.clone()).or_default() += 1;
                assert!(self.sent[&key] <= u32::from(policy(self.keys).create().attempts()), "R2: across restarts");
            }
            Kind::Poll => assert_eq!(record.stage, Stage::Accepted, "I5"),
            _ => assert!(matches!(record.stage, Stage::Unknown | Stage::InFlight), "I5"),
        }
        self.waiting.insert(id);
        if self.dice.f64() >= self.trouble / 2.0 {
            self.leave(id);
        }
    }

    /// Whether it runs is the provider's affair, now; whether anybody hears of it is another.
    fn leave(&mut self, id: OperationId) {
        self.waiting.remove(&id);
        let is_create = self.in_the_air.get(&id).is_some_and(|attempt| attempt.kind == Kind::Create);
        let Some(operation) = self.engine.operation(id).filter(|_| is_create) else { return };
        if self.dice.f64() >= self.trouble / 2.0 {
            let runs = self.ledger.entry(operation.key()).or_default();
            *runs = if self.keys == Keys::Honoured { 1 } else { *runs + 1 };
        }
    }

    /// What waits in the driver goes back to the engine. What has left does not.
    fn take_back(&mut self, id: OperationId) {
        let Some(attempt) = self.in_the_air.get(&id).copied().filter(|_| self.waiting.remove(&id)) else { return };
        self.in_the_air.remove(&id);
        if let (Kind::Create, Some(operation)) = (attempt.kind, self.engine.operation(id)) {
            *self.sent.entry(operation.key()).or_default() -= 1;
        }
        self.engine.handle(Event::Unsent(id, attempt.id), self.now);
    }

    /// One request in the air is answered, well or badly.
    fn answer(&mut self) {
        let flights: Vec<(OperationId, Attempt)> = self
            .in_the_air
            .iter()
            .map(|(id, attempt)| (*id, *attempt))
            .filter(|(id, _)| !self.waiting.contains(id))
            .collect();
        let Some((id, attempt)) = self.dice.choice(flights) else { return };
        let Some(operation) = self.engine.operation(id) else { return };
        let ran = self.ledger.get(&operation.key()).copied().unwrap_or_default() > 0;
        let bad = self.dice.f64() < self.trouble;
        let failed = |class, certainty| Err(Failure::new(class, certainty));
        let answer = match attempt.kind {
            Kind::Create if ran && !bad => Ok(Reading::Accepted(Reference::new("txn").unwrap())),
            // Certainty is told only where it is so.
            Kind::Create if !ran => match self.dice.u32(..4) {
                0 => failed(Class::Transient, Certainty::NotExecuted),
                1 => failed(Class::Throttled, Certainty::NotExecuted),
                2 => failed(Class::Permanent, Certainty::NotExecuted),
                _ => failed(Class::Transient, Certainty::MayHaveExecuted),
            },
            Kind::Lookup if !bad && ran => Ok(Reading::Accepted(Reference::new("txn").unwrap())),
            Kind::Lookup if !bad => Ok(Reading::NotFound),
            Kind::Poll if !bad => Ok(if self.dice.bool() { Reading::Ready } else { Reading::Pending { hint: None } }),
            // Lost: the time-out will tell.
            _ if self.dice.bool() => return,
            _ => failed(Class::Transient, Certainty::MayHaveExecuted),
        };
        self.in_the_air.remove(&id);
        self.engine.handle(Event::Answered(id, attempt.id, answer), self.now);
    }

    /// A batch goes to disk, or does not.
    fn commit(&mut self) {
        let many = self.dice.usize(..=self.queue.len());
        let batch: Vec<_> = self.queue.drain(..many).collect();
        let Some((last, ..)) = batch.last().cloned() else { return };
        if self.dice.f64() < self.trouble / 4.0 {
            return self.engine.handle(Event::PersistFailed(last), self.now);
        }
        for (_, _, record) in batch {
            self.durable.insert(record.key.clone(), record);
        }
        self.engine.handle(Event::Persisted(last), self.now);
    }

    fn pass_time(&mut self) {
        self.listen();
        let Some(at) = self.engine.next_deadline() else { return };
        // Forgetting is a day away; the jobs are not.
        if at.saturating_since(self.now) < Duration::from_secs(3_600) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now);
        }
    }

    /// The process dies, at whatever moment, and starts again from what is durable.
    fn crash(&mut self) {
        self.crashes_left -= 1;
        self.crashes += 1;
        self.queue.clear();
        self.in_the_air.clear();
        self.waiting.clear();
        self.engine = engine(self.keys, &self.gate);
        // The clock of the new process may be off.
        self.now = if self.dice.bool() {
            self.now.saturating_add(Duration::from_secs(self.dice.u64(..30)))
        } else {
            self.now.saturating_sub(Duration::from_secs(self.dice.u64(..30)))
        };
        for record in self.durable.values() {
            // A rejected and delivered one is over, and its key is free again.
            self.engine.restore(record.clone(), self.now).unwrap();
        }
    }

    /// A wait that is told is as long as the parts that it is explained by.
    fn listen(&mut self) {
        while let Some((_, notice)) = self.engine.pop_notice() {
            if let Notice::Waiting { until, delay, .. } = notice {
                assert_eq!(until, self.now.saturating_add(delay.wait()), "{notice:?}");
            }
        }
    }

    /// I18: after a wake and a drain, the next deadline is later than now.
    fn check(&self) {
        let mut woken = self.engine.clone();
        woken.handle_timeout(self.now);
        let before = woken.next_deadline();
        assert_eq!(woken.next_wake().map(|(wake, _)| wake.at), before, "the same, with the reason");
        let owing: Vec<_> = woken.owing().collect();
        let mut popped: Vec<_> = std::iter::from_fn(|| woken.pop_effect()).map(|(id, _)| id).collect();
        popped.dedup();
        assert_eq!(popped, owing, "who owes is told in the order of popping");
        assert_eq!(woken.next_deadline(), before, "law 1: popping decides nothing");
        assert!(before.is_none_or(|at| at > self.now), "law 2: {:?}", woken.next_wake());
    }

    /// I12: the restored engine is the same, and it is the one that goes on.
    #[cfg(feature = "snapshot")]
    fn store_and_restore(&mut self) {
        let restored = Engine::from_snapshot(&self.engine.snapshot().unwrap()).unwrap();
        assert_eq!(restored, self.engine, "I12");
        self.engine = restored;
    }
}
