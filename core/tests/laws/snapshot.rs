//! An engine as bytes. That one goes on as the other (I12) is checked in the world's every turn; here is what is refused.

use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::{Engine, Event, Limits, SnapshotError};
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::operation::{Effect, Reading};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Fingerprint, Gate, Key, OperationPolicy, Reference, Seed, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const REFUSED: Failure = Failure::new(Class::Permanent, Certainty::NotExecuted);

/// One operation waits to poll, one is forgotten, one is in the air, one waits at the gate, one is being written, one has just come.
fn engine() -> Engine {
    let rate = RatePolicy::new(100, Duration::from_secs(1)).unwrap().with_burst(10).unwrap();
    let policy = GatePolicy::default()
        .with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap()))
        .with_rate_limit(RateLimit { kinds: Kinds::ALL, rate });
    let gate = Gate::new(policy, Seed::new(1));
    let mut engine = Engine::new(OperationPolicy::default(), gate, Limits::default(), Seed::new(2));
    for name in ["accepted", "refused", "sent", "waiting", "written", "owed"] {
        let key = Key::new(name).unwrap();
        let _ = engine.submit(key, Fingerprint::new([1; 16]), NOW).unwrap();
        while name != "owed"
            && let Some((id, effect)) = engine.pop_effect()
        {
            let event = match effect {
                Effect::Persist(number) if name != "written" => Event::Persisted(number),
                Effect::Send(attempt) if name == "accepted" => {
                    Event::Answered(id, attempt.id, Ok(Reading::Accepted(Reference::new("txn-1").unwrap())))
                }
                Effect::Send(attempt) if name == "refused" => Event::Answered(id, attempt.id, Err(REFUSED)),
                Effect::End => Event::Delivered(id),
                _ => continue,
            };
            engine.handle(event, NOW);
        }
    }
    while engine.pop_notice().is_some() {}
    engine
}

#[test]
fn a_restored_engine_is_the_same() {
    let engine = engine();
    assert_eq!(Engine::from_snapshot(&engine.snapshot().unwrap()), Ok(engine));
}

proptest! {
    #[test]
    fn r38_a_snapshot_with_any_bit_flipped_cut_or_extended_is_refused(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let whole = engine().snapshot().unwrap();
        let mut flipped = whole.clone();
        let at = at.index(whole.len());
        flipped[at] ^= 1 << bit;
        prop_assert!(Engine::from_snapshot(&flipped).is_err(), "byte {at}, bit {bit}");
        prop_assert!(Engine::from_snapshot(&whole[..at]).is_err());
        prop_assert!(Engine::from_snapshot(&[&whole[..], &[0]].concat()).is_err());
    }

    /// Bytes that somebody gave a right checksum on purpose: an engine or an error, never a panic, and the engine can be driven.
    #[test]
    fn forged_snapshots_never_panic(at in any::<prop::sample::Index>(), byte: u8, more in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut body = serde_json::to_vec(&engine()).unwrap();
        let at = at.index(body.len());
        body[at] = byte;
        body.splice(at..at, more.iter().take(usize::from(byte % 3)).copied());
        let mut forged = format!("steadfast-engine 1 {:08x}\n", crc32fast::hash(&body)).into_bytes();
        forged.extend(body);
        if let Ok(mut engine) = Engine::from_snapshot(&forged) {
            engine.handle_timeout(NOW);
            for _ in 0..100 {
                let _ = engine.pop_effect();
            }
        }
    }
}

#[test]
fn a_newer_version_and_other_bytes_are_refused_by_name() {
    let mut bytes = engine().snapshot().unwrap();
    let version = "steadfast-engine ".len();
    bytes[version] = b'2';
    assert_eq!(Engine::from_snapshot(&bytes), Err(SnapshotError::UnknownVersion(2)));
    assert_eq!(Engine::from_snapshot(b"{\"policy\":{}}"), Err(SnapshotError::NotASnapshot));
    bytes[version] = b'1';
    bytes[99] ^= 1;
    assert_eq!(Engine::from_snapshot(&bytes), Err(SnapshotError::Damaged));
}

/// In a text format, without a checksum: what contradicts itself is still refused.
#[test]
fn an_engine_that_contradicts_itself_is_refused() {
    let stored = serde_json::to_value(engine()).unwrap();
    assert_eq!(serde_json::from_value::<Engine>(stored.clone()).unwrap(), engine());
    let twice = stored["slots"][0]["operation"]["key"].clone();
    type Alter = fn(&mut serde_json::Value);
    let contradictions: [(&str, Alter); 8] = [
        ("live operations", |it| it["live"] = 9.into()),
        ("free slots", |it| it["free"] = serde_json::json!([0])),
        ("owe effects", |it| it["dirty"] = serde_json::json!([])),
        ("records in flight", |it| it["last_record"] = 0.into()),
        ("lines at the gate", |it| it["lines"]["lines"][0]["waiting"] = serde_json::json!([])),
        ("finished operations", |it| it["finished"] = serde_json::json!([[0, { "slot": 0, "generation": 0 }]])),
        ("requests in flight", |it| it["gate"]["in_flight"] = serde_json::json!([7, 0, 0])),
        ("machines", |it| it["gate"]["limiters"] = serde_json::json!([])),
    ];
    for (what, alter) in contradictions {
        let mut altered = stored.clone();
        alter(&mut altered);
        let error = serde_json::from_value::<Engine>(altered).expect_err(what).to_string();
        assert!(error.contains(what), "{error}");
    }
    let mut altered = stored;
    altered["slots"][3]["operation"]["key"] = twice;
    assert!(serde_json::from_value::<Engine>(altered).unwrap_err().to_string().contains("two operations have"));
}
