//! What the engine allocates where it must not: nothing.

use core::time::Duration;

use allocation_counter::measure;
use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::gate::{GatePolicy, WhenOpen};
use steadfast_core::operation::{Effect, Record};
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Fingerprint, Gate, Key, Kind, OperationPolicy, Seed, SendSafety, Timestamp};

/// A gate that fails fast refuses none that may be running. However many of those wait, an event costs no more for
/// them.
#[test]
fn an_event_while_the_breaker_is_open_allocates_nothing_for_those_who_wait_in_doubt() {
    let policy =
        OperationPolicy::default().with_safety(SendSafety::Keyed { window: Duration::from_secs(86_400) }).unwrap();
    let gate = Gate::new(GatePolicy::default().with_when_open(WhenOpen::Refuse), Seed::new(1));
    let mut engine = Engine::new(policy, gate, Limits::default(), Seed::new(2));
    let mut now = Timestamp::from_secs(1_700_000_000);
    let open_until = now.saturating_add(Duration::from_secs(20));
    engine.gate_mut().breaker_mut().unwrap().0.force_open(open_until);
    for record in in_doubt(1_000, now) {
        engine.restore(record, now).unwrap();
    }
    let drain = |engine: &mut Engine, now| {
        while let Some((_, effect)) = engine.pop_effect() {
            if let Effect::Persist(number) = effect {
                engine.handle(Event::Persisted(number), now);
            }
        }
        while engine.pop_notice().is_some() {}
    };
    // All have asked the gate, and stand in line.
    now = now.saturating_add(Duration::from_secs(10));
    engine.handle_timeout(now);
    drain(&mut engine, now);
    assert!(engine.first_in_line(Kind::Create).is_some());
    assert_eq!(engine.live(), 1_000);

    let allocated = measure(|| {
        for _ in 0..100 {
            engine.handle(Event::Quota(Kind::Poll, Quota::default()), now);
        }
    });
    assert_eq!(allocated.count_total, 0, "{allocated:?}");
}

/// Records of creates that were sent and never answered.
fn in_doubt(count: u32, now: Timestamp) -> Vec<Record> {
    let policy =
        OperationPolicy::default().with_safety(SendSafety::Keyed { window: Duration::from_secs(86_400) }).unwrap();
    let mut engine = Engine::new(policy, Gate::unlimited(), Limits::default(), Seed::new(3));
    let lost = Failure::new(Class::TimedOut, Certainty::MayHaveExecuted);
    for n in 0..count {
        let _ = engine.submit(Key::new(format!("order-{n}")).unwrap(), Fingerprint::new([0; 16]), now).unwrap();
    }
    let mut records = Vec::new();
    while let Some((id, effect)) = engine.pop_effect() {
        match effect {
            Effect::Persist(number) => engine.handle(Event::Persisted(number), now),
            Effect::Send(attempt) => {
                engine.handle(Event::Answered(id, attempt.id, Err(lost)), now);
                records.push(engine.operation(id).unwrap().record());
            }
            _ => {}
        }
    }
    records
}
