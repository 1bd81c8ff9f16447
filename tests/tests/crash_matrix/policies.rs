//! The rows about clocks, windows, gates and single events. What another clock wrote is written by editing the record on disk.

use std::time::Duration;

use steadfast_core::budget::BudgetPolicy;
use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::gate::GatePolicy;
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Attempt, Effect, Reading, Record, Rejected, Stage, Unresolved};
use steadfast_core::{Fingerprint, Gate, Key, Kind, OperationId, Outcome, Reference, Seed, SendSafety, Timestamp};
use tokio::time::Instant;

use crate::disk::On;
use crate::world::{Case, Crash, DAY, Life, Point, World, key};

const SECOND: Duration = Duration::from_secs(1);
const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Every store, with payloads kept and not.
fn each() -> impl Iterator<Item = (On, bool)> {
    On::BOTH.into_iter().flat_map(|on| [false, true].map(|kept| (on, kept)))
}

/// What the disk says of the job a little after a process has started on it, and nobody has submitted anything.
async fn left_alone(world: &World) -> Stage {
    let client = world.start(&Life::new(Crash::Never)).await;
    tokio::time::sleep(SECOND).await;
    let stage = world.stage().unwrap();
    client.shutdown(Duration::ZERO).await;
    world.check();
    stage
}

/// Every process of a loop of crashes starts with a closed breaker and a full budget: neither is kept. What keeps a storm from the provider is that a
/// restart's creates count as retries, wait like retries, and are counted across restarts.
#[test]
fn c07_open_breaker_or_empty_budget() {
    let policy = Case::Keyed.policy();
    // The budget alone: no bulkhead that would hide what it does.
    let budget = BudgetPolicy::default();
    let gate = || Gate::new(GatePolicy::none().with_budget(Some(budget.clone())), Seed::new(7));
    let full = gate().budget_tokens(START).unwrap() as usize;
    let new = || Engine::new(policy.clone(), gate(), Limits::default(), Seed::new(7));
    let (mut now, jobs) = (START, 4 * full);
    let mut disk: Vec<Record> = Vec::new();
    let mut engine = new();
    for n in 0..jobs {
        let key = Key::new(format!("order-{n}")).unwrap();
        let id = engine.submit(key, Fingerprint::new([0; 16]), now).unwrap().id();
        while let Some((_, effect)) = engine.pop_effect() {
            if let Effect::Persist(number) = effect {
                disk.push(engine.operation(id).unwrap().record());
                engine.handle(Event::Persisted(number), now);
            }
        }
    }
    assert!(disk.iter().all(|record| record.stage == Stage::InFlight) && disk.len() == jobs);
    for restart in 0..8 {
        let mut engine = new();
        for record in &disk {
            engine.restore(record.clone(), now).unwrap();
        }
        let began = now;
        let mut sent = 0;
        // So long as an answer could not have come, none of them is the answer to another.
        while now.saturating_since(began) < 9 * SECOND {
            let mut acks = Vec::new();
            while let Some((id, effect)) = engine.pop_effect() {
                match effect {
                    Effect::Persist(number) => {
                        let record = engine.operation(id).unwrap().record();
                        if let Some(kept) = disk.iter_mut().find(|kept| kept.key == record.key) {
                            *kept = record;
                        }
                        acks.push(number);
                    }
                    Effect::Send(_) => {
                        assert!(now > began, "restart {restart}: sent without waiting");
                        sent += 1;
                    }
                    _ => {}
                }
            }
            if let Some(last) = acks.pop() {
                engine.handle(Event::Persisted(last), now);
                continue;
            }
            let Some(next) = engine.next_deadline() else { break };
            now = now.max(next);
            engine.handle_timeout(now);
        }
        let refilled = 9 * 10;
        assert!(sent <= full + refilled, "restart {restart}: a storm of {sent}");
    }
    let most = disk.iter().map(|record| record.creates).max().unwrap();
    assert!(most > 1 && most <= policy.create().attempts(), "{most}: counted across restarts");
}

/// One engine whose disk is one record.
struct Single {
    engine: Engine,
    durable: Option<Record>,
    in_the_air: Option<(OperationId, Attempt)>,
    ends: Vec<Outcome>,
}

impl Single {
    fn new() -> Self {
        let engine = Engine::new(Case::Keyed.policy(), Gate::default(), Limits::default(), Seed::new(7));
        Self { engine, durable: None, in_the_air: None, ends: Vec::new() }
    }

    fn submit(&mut self) -> OperationId {
        let id = self.engine.submit(key(), Fingerprint::new([0; 16]), START).unwrap().id();
        self.settle();
        id
    }

    /// Writes and sends what is owed; the outcome is told, and not marked as delivered.
    fn settle(&mut self) {
        while let Some((id, effect)) = self.engine.pop_effect() {
            match effect {
                Effect::Persist(number) => {
                    self.durable = self.engine.operation(id).map(|operation| operation.record());
                    self.engine.handle(Event::Persisted(number), START);
                }
                Effect::Send(attempt) => self.in_the_air = Some((id, attempt)),
                Effect::End => self.ends.extend(self.engine.operation(id).and_then(|operation| operation.outcome())),
                _ => {}
            }
        }
    }

    fn restart(&mut self) -> OperationId {
        self.engine = Self::new().engine;
        let id = self.engine.restore(self.durable.clone().unwrap(), START).unwrap();
        self.settle();
        id
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.engine.pop_notice()).map(|(_, notice)| notice).collect()
    }
}

/// The webhook's effect is durable, and the provider was not told that it was received, so it sends it again.
#[test]
fn c10_webhook_journaled_and_not_acknowledged() {
    let mut single = Single::new();
    let id = single.submit();
    let (_, create) = single.in_the_air.unwrap();
    let reference = Reading::Accepted(Reference::new("txn-1").unwrap());
    single.engine.handle(Event::Answered(id, create.id, Ok(reference)), START);
    single.settle();
    single.engine.handle(Event::Webhook(id, Reading::Ready), START);
    single.settle();
    assert!(matches!(single.durable.as_ref().unwrap().stage, Stage::Ended(Outcome::Completed(_))));

    let id = single.restart();
    let told = single.ends.clone();
    let before = single.durable.clone();
    let _ = single.notices();
    single.engine.handle(Event::Webhook(id, Reading::Ready), START);
    single.settle();
    assert_eq!((single.durable.clone(), &single.ends), (before, &told), "applied twice");
    assert!(single.notices().contains(&Notice::Absorbed));
    // Told again after the restart, since whether it had been heard is not known; and the same.
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], told[1]);
}

/// A cancelled create's late answer still tells its reference, and the permit has come back.
#[test]
fn c23_cancelled_in_flight() {
    let mut single = Single::new();
    let id = single.submit();
    let (_, create) = single.in_the_air.unwrap();
    single.engine.handle(Event::Cancel(id), START);
    single.settle();
    assert_eq!(single.engine.gate().in_flight(), 0, "the permit leaked");
    assert_eq!(single.ends, [Outcome::Unresolved(Unresolved::Cancelled)]);
    let reference = Reading::Accepted(Reference::new("txn-1").unwrap());
    single.engine.handle(Event::Answered(id, create.id, Ok(reference)), START);
    single.settle();
    let record = single.durable.unwrap();
    assert_eq!(record.reference.unwrap().as_str(), "txn-1", "the late answer is journaled");
}

/// A create that may have run, and the provider may have forgotten its key by now.
#[tokio::test(start_paused = true)]
async fn c20_the_key_may_be_forgotten() {
    let policy = Case::Keyed.policy().with_safety(SendSafety::Keyed { window: 60 * SECOND }).unwrap();
    for (on, kept) in each() {
        for lost in [20 * SECOND, 70 * SECOND] {
            let mut world = World::new(on, Case::Keyed, kept);
            world.set_policy(policy.clone());
            assert_eq!(world.live(Crash::At(Point::AfterSend(Kind::Create))).await, None);
            world.edit(|record| {
                record.submitted = record.submitted.saturating_sub(lost);
                record.first_sent = record.first_sent.map(|at| at.saturating_sub(lost));
            });
            let finished = world.live(Crash::Never).await.unwrap();
            if lost < 60 * SECOND {
                assert_eq!(
                    (finished.outcome.name(), world.creates()),
                    ("completed", 2),
                    "within its window it is sent again"
                );
            } else {
                assert_eq!(finished.outcome, Outcome::Unresolved(Unresolved::KeyWindow));
                assert_eq!(world.creates(), 1, "an expired key was sent again");
            }
        }
    }
}

/// The clock that wrote the record was hours ahead.
#[tokio::test(start_paused = true)]
async fn c21_the_clock_went_back() {
    let policy = Case::Keyed.policy();
    let cap = policy.create().backoff().cap().max(policy.poll().schedule().cap());
    for (on, case) in On::BOTH.into_iter().flat_map(|on| Case::ALL.map(|case| (on, case))) {
        for point in [Point::BeforeCommit(2), Point::AfterCommit(2)] {
            let world = World::new(on, case, true);
            assert_eq!(world.live(Crash::At(point)).await, None);
            world.edit(|record| {
                let ahead = |at: Timestamp| at.saturating_add(6 * 3_600 * SECOND);
                record.submitted = ahead(record.submitted);
                record.first_sent = record.first_sent.map(ahead);
                record.due = Some(ahead(record.due.unwrap_or(record.submitted)));
            });
            let (sent, began) = (world.seen().sent.len(), Instant::now());
            let client = world.start(&Life::new(Crash::Never)).await;
            while world.seen().sent.len() == sent && !matches!(world.stage(), Some(Stage::Ended(_))) {
                tokio::time::sleep(SECOND).await;
                assert!(
                    began.elapsed() <= cap + 2 * SECOND,
                    "{case:?}, {point:?}: it sleeps for {:?}",
                    began.elapsed()
                );
            }
            client.shutdown(600 * SECOND).await;
            world.check();
        }
    }
}

/// The clock jumped ahead, beyond every deadline.
#[tokio::test(start_paused = true)]
async fn c22_the_clock_jumped_forward() {
    let past = |world: &World| {
        world.edit(|record| {
            record.submitted = record.submitted.saturating_sub(10 * DAY);
            record.first_sent = record.first_sent.map(|at| at.saturating_sub(10 * DAY));
            record.due = record.due.map(|at| at.saturating_sub(10 * DAY));
        });
    };
    for (on, kept) in each() {
        // Something was sent: nobody may say that it failed.
        for case in [Case::Keyed, Case::Ignored] {
            let world = World::new(on, case, kept);
            assert_eq!(world.live(Crash::At(Point::AfterSend(Kind::Create))).await, None);
            past(&world);
            let stage = left_alone(&world).await;
            let doubt = if case == Case::Keyed { Unresolved::Deadline } else { Unresolved::Ambiguous };
            assert_eq!(stage, Stage::Ended(Outcome::Unresolved(doubt)), "kept: {kept}");
            assert_eq!(world.creates(), 1);
        }
        // Nothing was: it is rejected, and its key is free.
        let world = World::new(on, Case::Keyed, kept);
        let client = world.start(&Life::new(Crash::Never)).await;
        client.hold(60 * SECOND);
        let _waits = client.submit(key(), crate::world::PAYLOAD).await.unwrap();
        client.shutdown(Duration::ZERO).await;
        assert_eq!(world.stage(), Some(Stage::Planned));
        past(&world);
        assert_eq!(left_alone(&world).await, Stage::Ended(Outcome::Rejected(Rejected::Deadline)));
        assert_eq!(world.creates(), 0);
    }
    // What was accepted has a new time to be polled in: while nobody watched does not count.
    for on in On::BOTH {
        let world = World::new(on, Case::Keyed, false);
        assert_eq!(world.live(Crash::At(Point::AfterCommit(2))).await, None);
        past(&world);
        assert_eq!(world.live(Crash::Never).await.unwrap().outcome.name(), "completed");
    }
}
