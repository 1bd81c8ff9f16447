//! Invariants of many operations in one engine.

use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::engine::{Engine, Event, Limits, RestoreError, SubmitError, Submitted};
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::operation::{Effect, Reading, RecordId};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::{Fingerprint, Gate, Key, Kind, OperationPolicy, Outcome, Reference, Seed, Timestamp};

use crate::world::{Keys, World};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

proptest! {
    // A world is many histories: it needs a quarter of the cases.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(4)))]

    #[test]
    fn i6_a_provider_that_honours_keys_runs_each_once(seed: u64, crashes in 0_u32..8, trouble in 0.0..0.7) {
        let world = World::run(seed, Keys::Honoured, 6, crashes, trouble);
        for (key, outcome) in &world.outcomes {
            let ran = world.ledger.get(key).copied().unwrap_or_default();
            match outcome {
                Outcome::Completed(_) | Outcome::Failed => prop_assert_eq!(ran, 1, "{:?}", key),
                Outcome::Rejected(_) => prop_assert_eq!(ran, 0, "R15: {:?}", key),
                Outcome::Unresolved(_) => prop_assert!(ran <= 1),
            }
        }
    }

    #[test]
    fn i7_a_provider_that_ignores_keys_runs_none_twice_and_doubt_is_unresolved(seed: u64, crashes in 0_u32..8, trouble in 0.0..0.7) {
        let world = World::run(seed, Keys::Ignored, 6, crashes, trouble);
        for (key, outcome) in &world.outcomes {
            let ran = world.ledger.get(key).copied().unwrap_or_default();
            prop_assert!(ran <= 1, "{key:?} ran {ran} times");
            match outcome {
                Outcome::Completed(_) | Outcome::Failed => prop_assert_eq!(ran, 1),
                Outcome::Rejected(_) => prop_assert_eq!(ran, 0, "R15"),
                Outcome::Unresolved(_) => {}
            }
        }
    }

    #[test]
    fn i6_a_provider_that_can_be_asked_runs_each_at_most_once(seed: u64, crashes in 0_u32..8, trouble in 0.0..0.7) {
        let world = World::run(seed, Keys::Lookup, 6, crashes, trouble);
        for (key, outcome) in &world.outcomes {
            let ran = world.ledger.get(key).copied().unwrap_or_default();
            prop_assert!(ran <= 1, "{key:?} ran {ran} times");
            prop_assert!(!matches!(outcome, Outcome::Rejected(_)) || ran == 0, "R15");
        }
    }
}

fn key(n: usize) -> Key {
    Key::new(format!("order-{n}")).unwrap()
}

fn print(n: u8) -> Fingerprint {
    Fingerprint::new([n; 16])
}

fn engine(limits: Limits) -> Engine {
    Engine::new(OperationPolicy::default(), Gate::unlimited(), limits, Seed::new(1))
}

/// Answers everything at once; `refuse` says whose create is refused.
fn carry(engine: &mut Engine, now: &mut Timestamp, refuse: bool) {
    for _ in 0..1_000 {
        let mut last = None;
        while let Some((id, effect)) = engine.pop_effect() {
            match effect {
                Effect::Persist(number) => last = Some(number),
                Effect::Send(attempt) => {
                    let failure = steadfast_core::retry::Failure::new(
                        steadfast_core::retry::Class::Permanent,
                        steadfast_core::retry::Certainty::NotExecuted,
                    );
                    let answer = match attempt.kind {
                        Kind::Create if refuse => Err(failure),
                        Kind::Create => Ok(Reading::Accepted(Reference::new("t").unwrap())),
                        _ => Ok(Reading::Ready),
                    };
                    engine.handle(Event::Answered(id, attempt.id, answer), *now);
                }
                Effect::End => engine.handle(Event::Delivered(id), *now),
                _ => {}
            }
        }
        match last {
            Some(number) => engine.handle(Event::Persisted(number), *now),
            None if engine.live() == 0 => return,
            None => {
                *now = engine.next_deadline().unwrap();
                engine.handle_timeout(*now);
            }
        }
    }
    panic!("it does not end");
}

#[test]
fn a_second_submit_joins_and_another_payload_is_refused() {
    let (mut engine, mut now) = (engine(Limits::default()), START);
    let first = engine.submit(key(1), print(1), now).unwrap();
    assert_eq!(engine.submit(key(1), print(1), now), Ok(Submitted::Joined(first.id())));
    assert_eq!(engine.submit(key(1), print(2), now), Err(SubmitError::FingerprintMismatch));
    carry(&mut engine, &mut now, false);
    assert_eq!(engine.submit(key(1), print(1), now), Ok(Submitted::Joined(first.id())), "also after the end");
    assert_eq!(engine.operation(first.id()).unwrap().outcome().unwrap().name(), "completed");
}

#[test]
fn a_rejected_key_is_free_again_and_old_ids_never_name_its_successor() {
    let (mut engine, mut now) = (engine(Limits::default()), START);
    let first = engine.submit(key(1), print(1), now).unwrap().id();
    carry(&mut engine, &mut now, true);
    assert!(engine.operation(first).is_none() && engine.find(&key(1)).is_none());
    let second = engine.submit(key(1), print(2), now).unwrap().id();
    assert_ne!(first, second);
    let before = engine.operation(second).cloned();
    engine.handle(Event::Cancel(first), now);
    assert_eq!(engine.operation(second).cloned(), before, "an event for the forgotten one changes nothing");
}

#[test]
fn i15_intake_and_memory_are_bounded() {
    let limits = Limits { live: 3, remember: 2, remember_for: Duration::from_secs(60), notices: 5 };
    let (mut engine, mut now) = (engine(limits), START);
    for n in 0..3 {
        assert!(engine.has_room());
        let _ = engine.submit(key(n), print(1), now).unwrap();
    }
    assert!(!engine.has_room() && engine.live() == 3);
    let live: Vec<_> = engine.live_operations().collect();
    assert_eq!(live, [0, 1, 2].map(|n| engine.find(&key(n)).unwrap()));
    assert_eq!(engine.submit(key(3), print(1), now), Err(SubmitError::Full { live: 3 }));
    assert!(matches!(engine.submit(key(0), print(1), now), Ok(Submitted::Joined(_))), "joining needs no room");
    carry(&mut engine, &mut now, false);
    let remembered = (0..3).filter(|n| engine.find(&key(*n)).is_some()).count();
    assert_eq!(remembered, 2, "the oldest finished one is forgotten");
    assert_eq!(engine.live_operations().count(), 0, "finished");
    let told = std::iter::from_fn(|| engine.pop_notice()).count();
    assert_eq!((told, engine.notices_dropped()), (5, 10), "each tells five times");
    let (wake, _) = engine.next_wake().unwrap();
    assert_eq!(wake.reason, steadfast_core::notice::WakeReason::Forget);
    engine.handle_timeout(wake.at);
    assert_eq!((0..3).filter(|n| engine.find(&key(*n)).is_some()).count(), 0, "and all of them after a while");
    assert_eq!(engine.next_deadline(), None);
}

#[test]
fn who_does_not_observe_is_told_nothing_and_nothing_else_differs() {
    let run = |observed: bool| {
        let (mut engine, mut now) = (engine(Limits::default()), START);
        engine.observe(observed);
        for n in 0..3 {
            let _ = engine.submit(key(n), print(1), now).unwrap();
        }
        carry(&mut engine, &mut now, false);
        let told = std::iter::from_fn(|| engine.pop_notice()).count();
        assert_eq!(engine.notices_dropped(), 0);
        engine.observe(true);
        (told, now, engine)
    };
    let ((told, now, engine), (untold, later, quiet)) = (run(true), run(false));
    assert!(told > 0 && untold == 0);
    assert_eq!((now, engine), (later, quiet));

    let (mut engine, now) = (self::engine(Limits::default()), START);
    let _ = engine.submit(key(0), print(1), now).unwrap();
    engine.observe(false);
    assert_eq!(engine.pop_notice(), None, "nobody will fetch what was told");
}

/// Group commit: one acknowledgement covers what was popped before it, and nothing that was popped after.
#[test]
fn one_acknowledgement_covers_a_batch_and_no_more() {
    let mut engine = engine(Limits::default());
    let ids: Vec<_> = (0..3).map(|n| engine.submit(key(n), print(1), START).unwrap().id()).collect();
    let numbers: Vec<_> = std::iter::from_fn(|| engine.pop_effect()).collect();
    let expected: Vec<_> = (1..=3).map(RecordId).map(Effect::Persist).collect();
    assert_eq!(numbers, ids.iter().copied().zip(expected).collect::<Vec<_>>());
    engine.handle(Event::Persisted(RecordId(2)), START);
    let sent: Vec<_> = std::iter::from_fn(|| engine.pop_effect()).map(|(id, _)| id).collect();
    assert_eq!(sent, ids[..2], "the third record is not durable");
    engine.handle(Event::PersistFailed(RecordId(3)), START);
    let ended: Vec<_> = std::iter::from_fn(|| engine.pop_effect()).collect();
    assert_eq!(ended, [(ids[2], Effect::End)], "nothing of it was ever durable: rejected, and nothing was sent");
}

#[test]
fn a_key_is_restored_once() {
    let mut engine = engine(Limits::default());
    let id = engine.submit(key(1), print(1), START).unwrap().id();
    let record = engine.operation(id).unwrap().record();
    assert_eq!(engine.restore(record, START), Err(RestoreError::DuplicateKey));
}

#[test]
fn the_world_is_rough_enough_to_mean_something() {
    let worlds: Vec<World> = (0..40).map(|seed| World::run(seed, Keys::Honoured, 6, 6, 0.5)).collect();
    let crashes: u32 = worlds.iter().map(|world| world.crashes).sum();
    let retried = worlds.iter().flat_map(|world| world.sent.values()).filter(|sent| **sent > 1).count();
    let name =
        |name| worlds.iter().flat_map(|world| world.outcomes.values()).filter(|outcome| outcome.name() == name).count();
    assert!(crashes > 100 && retried > 50, "{crashes} crashes, {retried} retried");
    let ends = ["completed", "rejected", "unresolved"].map(name);
    assert!(ends.iter().all(|count| *count >= 3), "{ends:?}");
}

/// Ends a job as accepted and unresolved: its polls are refused.
fn unresolved(engine: &mut Engine, n: usize, now: &mut Timestamp) -> steadfast_core::OperationId {
    let id = engine.submit(key(n), print(1), *now).unwrap().id();
    for _ in 0..100 {
        let mut last = None;
        while let Some((id, effect)) = engine.pop_effect() {
            match effect {
                Effect::Persist(number) => last = Some(number),
                Effect::Send(attempt) if attempt.kind == Kind::Create => {
                    let reading = Reading::Accepted(Reference::new("t").unwrap());
                    engine.handle(Event::Answered(id, attempt.id, Ok(reading)), *now);
                }
                Effect::Send(attempt) => {
                    let (class, certainty) =
                        (steadfast_core::retry::Class::Permanent, steadfast_core::retry::Certainty::NotExecuted);
                    let failure = steadfast_core::retry::Failure::new(class, certainty);
                    engine.handle(Event::Answered(id, attempt.id, Err(failure)), *now);
                }
                Effect::End => engine.handle(Event::Delivered(id), *now),
                _ => {}
            }
        }
        match last {
            Some(number) => engine.handle(Event::Persisted(number), *now),
            None if engine.operation(id).unwrap().is_finished() => return id,
            None => {
                *now = engine.next_deadline().unwrap();
                engine.handle_timeout(*now);
            }
        }
    }
    panic!("it does not end");
}

#[test]
fn what_is_resumed_is_live_again_and_is_remembered_from_its_second_end() {
    let limits = Limits { live: 1, remember_for: Duration::from_secs(60), ..Limits::default() };
    let (mut engine, mut now) = (engine(limits), START);
    let first = unresolved(&mut engine, 1, &mut now);
    let second = unresolved(&mut engine, 2, &mut now);
    assert_eq!(engine.live(), 0);
    now = now.saturating_add(Duration::from_secs(50));
    engine.handle(Event::Resume(first), now);
    engine.handle(Event::Resume(first), now);
    engine.handle(Event::Resume(second), now);
    assert_eq!(engine.live(), 2, "beyond the limit: it was taken in once");
    assert!(!engine.has_room());
    carry(&mut engine, &mut now, false);
    for id in [first, second] {
        assert_eq!(engine.operation(id).unwrap().outcome().unwrap().name(), "completed");
    }
    engine.handle(Event::Resume(first), now);
    assert_eq!(engine.live(), 0, "what is known for good stays so");
    engine.handle_timeout(now.saturating_add(Duration::from_secs(59)));
    assert!(engine.find(&key(1)).is_some());
    engine.handle_timeout(now.saturating_add(Duration::from_secs(61)));
    assert!(engine.find(&key(1)).is_none() && engine.find(&key(2)).is_none());
}

/// Neither those who have ended like it, nor the count of the live, when its delivery is not on disk yet.
#[test]
fn what_is_resumed_concerns_nobody_else_and_is_counted_once() {
    let limits = Limits { remember_for: Duration::from_secs(60), ..Limits::default() };
    let (mut engine, mut now) = (engine(limits), START);
    let first = unresolved(&mut engine, 1, &mut now);
    let _second = unresolved(&mut engine, 2, &mut now);
    engine.handle(Event::Resume(first), now.saturating_add(Duration::from_secs(50)));
    now = now.saturating_add(Duration::from_secs(70));
    engine.handle_timeout(now);
    assert!(engine.find(&key(1)).is_some(), "it is under way again");
    assert!(engine.find(&key(2)).is_none(), "its time was over");

    let third = engine.submit(key(3), print(1), now).unwrap().id();
    engine.handle(Event::Webhook(third, Reading::Accepted(Reference::new("t").unwrap())), now);
    engine.handle(Event::Cancel(third), now);
    while let Some((_, effect)) = engine.pop_effect() {
        if let Effect::Persist(number) = effect {
            engine.handle(Event::Persisted(number), now);
        }
    }
    engine.handle(Event::Delivered(third), now);
    assert!(engine.operation(third).unwrap().can_resume() && !engine.operation(third).unwrap().is_finished());
    let live = engine.live();
    engine.handle(Event::Resume(third), now);
    assert_eq!(engine.live(), live, "it had not left");
    carry(&mut engine, &mut now, false);
    assert_eq!(engine.live(), 0);
}

#[test]
fn what_is_withdrawn_leaves_nothing_behind_and_can_be_restored() {
    let (mut engine, mut now) = (engine(Limits::default()), START);
    engine.gate_mut().hold_until(now.saturating_add(Duration::from_secs(30)));
    let ids: Vec<_> = (0..3).map(|n| engine.submit(key(n), print(1), now).unwrap().id()).collect();
    while let Some((_, effect)) = engine.pop_effect() {
        if let Effect::Persist(number) = effect {
            engine.handle(Event::Persisted(number), now);
        }
    }
    let record = engine.withdraw(ids[1], now).unwrap();
    assert_eq!((&record.key, record.creates), (&key(1), 0));
    assert!(engine.find(&key(1)).is_none() && engine.operation(ids[1]).is_none());
    assert_eq!((engine.live(), engine.withdraw(ids[1], now)), (2, None));
    #[cfg(feature = "snapshot")]
    assert!(Engine::from_snapshot(&engine.snapshot().unwrap()).is_ok(), "its place in line is not free");
    let restored = engine.restore(record, now).unwrap();
    carry(&mut engine, &mut now, false);
    assert_eq!(engine.operation(restored).unwrap().outcome().unwrap().name(), "completed");
    assert_eq!((engine.live(), engine.gate().in_flight()), (0, 0));
    assert_eq!(engine.withdraw(restored, now), None, "what has ended stays");
    let sent = engine.submit(key(9), print(1), now).unwrap().id();
    assert_eq!(engine.withdraw(sent, now), None, "its intent is being written");
}

/// Who waits at the gate after a restart is called when the gate lets it go, and not only when its time is over.
#[test]
fn who_is_restored_into_a_line_is_called_in_time() {
    let rate = RatePolicy::new(1, Duration::from_secs(30)).unwrap();
    let limit = RateLimit { kinds: Kinds::ALL, rate };
    let gate = || Gate::new(GatePolicy::none().with_rate_limit(limit), Seed::new(1));
    let new = || Engine::new(OperationPolicy::default(), gate(), Limits::default(), Seed::new(1));
    let mut lost = new();
    let ids: Vec<_> = (0..3).map(|n| lost.submit(key(n), print(1), START).unwrap().id()).collect();
    let mut records: Vec<_> = ids.iter().map(|id| lost.operation(*id).unwrap().record()).collect();
    let mut engine = new();
    for mut record in records.split_off(1) {
        record.due = None;
        engine.restore(record, START).unwrap();
    }
    assert_eq!(engine.next_deadline(), Some(START.saturating_add(Duration::from_secs(30))));
}
