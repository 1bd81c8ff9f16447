//! The rows about clocks, windows, gates and single events. What another clock wrote is written by editing the record
//! on disk.

use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, BreakerState};
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::gate::{Admission, GatePolicy, Request};
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Attempt, Effect, Reading, Record, Rejected, Stage, Unresolved};
use steadfast_core::{Fingerprint, Gate, Key, Kind, OperationId, Outcome, Reference, Seed, SendSafety, Timestamp};
use steadfast_testkit::{Fault, Faults};
use tokio::time::Instant;

use crate::disk::On;
use crate::life::{Crash, Life, Point};
use crate::world::{Case, DAY, PAYLOAD, SECOND, World, at_each_step, key};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Every store, with payloads kept and not.
fn each() -> impl Iterator<Item = (On, bool)> {
    On::BOTH.into_iter().flat_map(|on| [false, true].map(|kept| (on, kept)))
}

/// What a process makes of the job that starts on it, dies at its step of this number, and is followed by another;
/// nobody submits anything. And whether it did die.
async fn left_alone(world: &World, step: u32) -> (Stage, bool) {
    let stage = world.stand_by(Crash::Step(step), SECOND).await;
    let dies = stage.is_none();
    let stage = match stage {
        Some(stage) => stage,
        None => world.stand_by(Crash::Never, SECOND).await.unwrap(),
    };
    (stage, dies)
}

/// Every process of a loop of crashes starts with a closed breaker and a full budget: neither is kept. What keeps a
/// storm from the provider is that a restart's creates count as retries, wait like retries, and are counted across
/// restarts.
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

/// The same of whole processes, with a breaker that one failure opens: each of a loop of them dies as it sends, until
/// there is no attempt left, and none sends at once. Or only the one that recovers dies, at each of its steps.
#[tokio::test(start_paused = true)]
async fn c07_processes_that_die_while_the_breaker_is_open() {
    let gate = GatePolicy::default().with_breaker(Some(BreakerPolicy::consecutive(1).unwrap()));
    let faults = Faults::none().on(Kind::Create, 1, Fault::ErrorBefore(503));
    let is_open = |notice: &Notice| matches!(notice, Notice::Breaker(BreakerState::Open { .. }));
    // Not by chance: then it could be due at once.
    let wait = 10 * SECOND;
    let backoff = BackoffPolicy::new(Growth::Fixed(wait), wait, Jitter::None).unwrap();
    for (on, kept) in each() {
        for case in Case::ALL {
            let ill = async || {
                let mut world = World::with_faults(on, case, kept, faults.clone());
                world.set_gate(gate.clone());
                let create = case.policy().create().clone();
                world.set_policy(case.policy().with_create(create.with_backoff(backoff.clone())).unwrap());
                world.die(Point::AfterCommit(2)).await;
                assert!(world.seen().notices.iter().any(is_open), "it is open when it dies");
                assert_eq!(world.creates(), 1);
                world
            };
            let outcome = if case == Case::Ignored { "unresolved" } else { "completed" };
            at_each_step(async |step| {
                // The records' clock is the wall's, which does not stand still.
                let wall = std::time::Instant::now();
                let world = ill().await;
                let (began, sent) = (Instant::now(), world.seen().sent.len());
                let end = world.recover(step).await;
                assert_eq!((end.finished.outcome.name(), world.creates() > 1), (outcome, case != Case::Ignored));
                let next = world.seen().sent_at.get(sent).map(|at| at.duration_since(began));
                let waited = next.is_none_or(|next| next + wall.elapsed() >= wait);
                assert!(waited, "{case:?}: sent {next:?} after it had started");
                end.twice
            })
            .await;

            let world = ill().await;
            let (mut lives, mut began) = (0, Instant::now());
            while world.live(Crash::At(Point::BeforeSend(Kind::Create))).await.is_none() {
                lives += 1;
                // It was proven that nothing ran, and the caller has begun anew.
                if world.seen().rejected > 0 {
                    break;
                }
                let last = world.seen().sent_at.last().map(|at| at.duration_since(began));
                assert!(lives == 1 || last >= Some(wait), "{case:?}: process {lives} sent after {last:?}");
                began = Instant::now();
            }
            let most = case.policy().create().attempts();
            let (creates, anew) = (world.creates(), world.seen().rejected as usize);
            assert!(creates <= usize::from(most) + anew, "{case:?}: a storm of {creates} creates");
            assert!(lives > 1 || case == Case::Ignored, "{case:?}: {lives}");
            world.check();
        }
    }
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

/// The create that is cancelled was the probe of a half-open breaker: another may go in its place.
#[test]
fn c23_cancelled_as_a_probe() {
    let mut single = Single::new();
    let policy = GatePolicy::default().with_breaker(Some(BreakerPolicy::consecutive(1).unwrap()));
    let mut gate = Gate::new(policy, Seed::new(7));
    gate.breaker_mut().unwrap().0.force_open(START);
    single.engine = Engine::new(Case::Keyed.policy(), gate, Limits::default(), Seed::new(7));
    let id = single.submit();
    assert!(single.in_the_air.is_some());
    assert_eq!(single.engine.gate().breaker_state(START), BreakerState::HalfOpen);
    let probe = Request::first(Kind::Create);
    assert!(matches!(single.engine.gate().check(probe, START), Some(Admission::Wait(_))), "two probes at once");
    single.engine.handle(Event::Cancel(id), START);
    single.settle();
    assert!(!matches!(single.engine.gate().check(probe, START), Some(Admission::Wait(_))), "the probe's permit leaked");
}

/// A create that may have run, and the provider may have forgotten its key by now.
#[tokio::test(start_paused = true)]
async fn c20_the_key_may_be_forgotten() {
    let policy = Case::Keyed.policy().with_safety(SendSafety::Keyed { window: 60 * SECOND }).unwrap();
    for (on, kept) in each() {
        for lost in [20 * SECOND, 70 * SECOND] {
            at_each_step(async |step| {
                let mut world = World::new(on, Case::Keyed, kept);
                world.set_policy(policy.clone());
                world.die(Point::AfterSend(Kind::Create)).await;
                world.edit(|record| {
                    record.submitted = record.submitted.saturating_sub(lost);
                    record.first_sent = record.first_sent.map(|at| at.saturating_sub(lost));
                });
                let end = world.recover(step).await;
                if lost < 60 * SECOND {
                    assert_eq!(end.finished.outcome.name(), "completed");
                    let again = world.creates() - 1;
                    assert!(
                        again == 1 || (again == 2 && end.twice),
                        "within its window it is sent again: {again} times"
                    );
                } else {
                    assert_eq!(end.finished.outcome, Outcome::Unresolved(Unresolved::KeyWindow));
                    assert_eq!(world.creates(), 1, "an expired key was sent again");
                }
                end.twice
            })
            .await;
        }
    }
}

/// Where the provider can be asked, that is done instead, however long ago the create was.
#[tokio::test(start_paused = true)]
async fn c20_the_key_may_be_forgotten_and_the_provider_can_be_asked() {
    for (on, kept) in each() {
        at_each_step(async |step| {
            let world = World::new(on, Case::Lookup, kept);
            world.die(Point::AfterSend(Kind::Create)).await;
            world.edit(|record| {
                record.submitted = record.submitted.saturating_sub(70 * SECOND);
                record.first_sent = record.first_sent.map(|at| at.saturating_sub(70 * SECOND));
            });
            let end = world.recover(step).await;
            assert_eq!((end.finished.outcome.name(), world.creates()), ("completed", 1));
            assert_eq!(world.seen().sent[1], Kind::Lookup);
            end.twice
        })
        .await;
    }
}

/// The clock that wrote the record was hours ahead.
#[tokio::test(start_paused = true)]
async fn c21_the_clock_went_back() {
    let policy = Case::Keyed.policy();
    let cap = policy.create().backoff().cap().max(policy.poll().schedule().cap());
    for (on, case) in On::BOTH.into_iter().flat_map(|on| Case::ALL.map(|case| (on, case))) {
        for point in [Point::BeforeCommit(2), Point::AfterCommit(2)] {
            at_each_step(async |step| {
                let world = World::new(on, case, true);
                world.die(point).await;
                world.edit(|record| {
                    let ahead = |at: Timestamp| at.saturating_add(6 * 3_600 * SECOND);
                    record.submitted = ahead(record.submitted);
                    record.first_sent = record.first_sent.map(ahead);
                    record.due = Some(ahead(record.due.unwrap_or(record.submitted)));
                });
                let (sent, began) = (world.seen().sent.len(), Instant::now());
                let end = world.recover(step).await;
                let expected =
                    if case == Case::Ignored && point == Point::BeforeCommit(2) { "unresolved" } else { "completed" };
                assert_eq!(end.finished.outcome.name(), expected);
                // Of two processes each may wait.
                let first = world.seen().sent_at.get(sent).map(|at| at.duration_since(began));
                let most = if end.twice { 2 * cap } else { cap } + 2 * SECOND;
                assert!(first.is_none_or(|first| first <= most), "{case:?}, {point:?}: it sleeps for {first:?}");
                end.twice
            })
            .await;
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
            at_each_step(async |step| {
                let world = World::new(on, case, kept);
                world.die(Point::AfterSend(Kind::Create)).await;
                past(&world);
                let (stage, dies) = left_alone(&world, step).await;
                let doubt = if case == Case::Keyed { Unresolved::Deadline } else { Unresolved::Ambiguous };
                assert_eq!(stage, Stage::Ended(Outcome::Unresolved(doubt)), "kept: {kept}");
                assert_eq!(world.creates(), 1);
                dies
            })
            .await;
        }
        // Nothing was, or it was refused, which C06 waits after: it is rejected, and its key is free.
        for creates in [0, 1] {
            at_each_step(async |step| {
                let faults = Faults::none().on(Kind::Create, 1, Fault::Throttle);
                let world = World::with_faults(on, Case::Keyed, kept, faults);
                if creates == 0 {
                    let client = world.start(&Life::new(Crash::Never)).await;
                    client.hold(60 * SECOND);
                    let _waits = client.submit(key(), PAYLOAD).await.unwrap();
                    let _ = client.shutdown(Duration::ZERO).await;
                } else {
                    world.die(Point::AfterCommit(2)).await;
                }
                assert_eq!(world.stage(), Some(Stage::Planned));
                past(&world);
                let (stage, dies) = left_alone(&world, step).await;
                assert_eq!(stage, Stage::Ended(Outcome::Rejected(Rejected::Deadline)));
                assert_eq!((world.creates(), world.runs()), (creates, 0));
                dies
            })
            .await;
        }
    }
    // What was accepted has a new time to be polled in: while nobody watched does not count.
    for on in On::BOTH {
        at_each_step(async |step| {
            let world = World::new(on, Case::Keyed, false);
            world.die(Point::AfterCommit(2)).await;
            past(&world);
            let end = world.recover(step).await;
            assert_eq!((end.finished.outcome.name(), world.creates()), ("completed", 1));
            end.twice
        })
        .await;
    }
}
