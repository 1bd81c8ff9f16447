//! An engine as bytes. That one goes on as the other (I12) is checked in the world's every turn; here is what is
//! refused.

use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::{Engine, Event, Limits, SnapshotError};
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::operation::{Effect, Reading};
use steadfast_core::rate_limit::{Quota, RatePolicy};
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Fingerprint, Gate, Key, Kind, OperationPolicy, Reference, Seed, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const REFUSED: Failure = Failure::new(Class::Permanent, Certainty::NotExecuted);

/// One operation waits to poll, one is forgotten, one is in the air, one waits at the gate, one is being written, one
/// has just come.
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

/// "Unlimited", as some providers put it: what a limit has taken for its own is one that its settings could have said.
#[test]
fn a_limit_that_was_learnt_to_be_as_good_as_none_comes_back() {
    let mut engine = engine();
    let quota = Quota { limit: Some(u32::MAX), window: Some(Duration::from_secs(1)), ..Quota::default() };
    engine.handle(Event::Quota(Kind::Create, quota), NOW);
    assert_eq!(engine.gate().policy().rate_limits()[0].rate.count(), 1_000_000_000, "one each nanosecond");
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

/// More of everything: slots that are free, lines that some have left, records in flight, operations that owe effects.
fn crowded() -> Engine {
    let mut engine = engine();
    for n in 0..12 {
        let _ = engine.submit(Key::new(format!("more-{n}")).unwrap(), Fingerprint::new([1; 16]), NOW).unwrap();
    }
    let id = |engine: &Engine, n: u32| engine.find(&Key::new(format!("more-{n}")).unwrap()).unwrap();
    let settle = |engine: &mut Engine| {
        while let Some((id, effect)) = engine.pop_effect() {
            match effect {
                Effect::Persist(number) => engine.handle(Event::Persisted(number), NOW),
                Effect::End => engine.handle(Event::Delivered(id), NOW),
                _ => {}
            }
        }
    };
    settle(&mut engine);
    for n in [9, 10] {
        let gone = id(&engine, n);
        engine.handle(Event::Cancel(gone), NOW);
        settle(&mut engine);
    }
    for n in [1, 3, 5] {
        let leaving = id(&engine, n);
        engine.handle(Event::Cancel(leaving), NOW);
        if n < 5 {
            let Some((_, Effect::Persist(_))) = engine.pop_effect() else { panic!("its outcome comes first") };
        }
    }
    while engine.pop_notice().is_some() {}
    engine
}

/// In a text format, without a checksum: what contradicts itself is still refused.
#[test]
fn an_engine_that_contradicts_itself_is_refused() {
    use serde_json::{Value, json};

    let stored = serde_json::to_value(crowded()).unwrap();
    assert_eq!(serde_json::from_value::<Engine>(stored.clone()).unwrap(), crowded());
    // What the contradictions are made of: 14 and 15 are vacant, 8 and 10 owe, 6 does not; five of fifteen have left
    // the line.
    assert_eq!((&stored["free"], &stored["dirty"]), (&json!([14, 15]), &json!([8, 10])));
    assert_eq!(stored["asked"].as_array().unwrap().len(), 2);
    let line = &stored["lines"]["lines"][0];
    assert_eq!((line["waiting"].as_array().unwrap().len(), &line["left"]), (15, &json!(5)));
    assert_eq!(line["waiting"].as_array().unwrap()[12..], [json!([13, 14]), json!([14, 15]), json!([15, 16])]);

    fn creates(it: &mut Value) -> &mut Vec<Value> {
        it["lines"]["lines"][0]["waiting"].as_array_mut().unwrap()
    }
    type Alter = fn(&mut Value);
    let contradictions: [(&str, Alter); 36] = [
        ("machines", |it| it["gate"]["breaker"] = Value::Null),
        ("machines", |it| it["gate"]["budget"] = Value::Null),
        ("machines", |it| it["gate"]["bulkhead"] = Value::Null),
        ("machines", |it| it["gate"]["limiters"] = json!([])),
        ("live operations", |it| it["live"] = 9.into()),
        ("live operations", |it| {
            it["slots"][14]["live"] = true.into();
            it["live"] = 16.into();
        }),
        ("live operations", |it| it["slots"][14]["place"] = json!({"kind": "poll", "number": 1})),
        ("free slots", |it| it["free"] = json!([14])),
        ("free slots", |it| it["free"] = json!([0, 14])),
        ("free slots", |it| it["free"] = json!([14, 99])),
        // Behind the last slot, where its page has more room.
        ("free slots", |it| {
            let behind = it["slots"].as_array().unwrap().len();
            it["free"] = json!([14, behind]);
        }),
        ("free slots", |it| it["free"] = json!([14, 14])),
        ("list of operations that owe effects", |it| it["dirty"] = json!([])),
        ("list of operations that owe effects", |it| it["dirty"] = json!([8, 6])),
        ("list of operations that owe effects", |it| it["dirty"] = json!([8, 99])),
        ("list of operations that owe effects", |it| it["dirty"] = json!([8, 8])),
        ("list of operations that owe effects", |it| it["slots"][6]["dirty"] = true.into()),
        ("owes effects and is not in the list", |it| {
            it["dirty"] = json!([8]);
            it["slots"][10]["dirty"] = false.into();
        }),
        ("records in flight", |it| it["last_record"] = 0.into()),
        ("records in flight", |it| it["asked"].as_array_mut().unwrap().reverse()),
        // Nobody stands there, nobody's turn ever comes, a turn comes twice, or a number is given out again.
        ("lines at the gate", |it| creates(it).clear()),
        ("lines at the gate", |it| creates(it).swap(1, 2)),
        ("lines at the gate", |it| creates(it)[14][1] = 14.into()),
        ("lines at the gate", |it| it["lines"]["joined"] = 14.into()),
        ("lines at the gate", |it| it["lines"]["lines"][0]["left"] = 4.into()),
        ("lines at the gate", |it| creates(it)[13][0] = 13.into()),
        ("lines at the gate", |it| {
            creates(it).insert(0, json!([0, 14]));
            it["lines"]["lines"][0]["left"] = 6.into();
        }),
        ("lines at the gate", |it| {
            creates(it)[14][0] = 16.into();
            it["lines"]["lines"][0]["left"] = 6.into();
            it["lines"]["joined"] = 16.into();
        }),
        ("lines at the gate", |it| it["slots"][16]["place"]["kind"] = "poll".into()),
        ("stands in no line", |it| {
            creates(it).pop();
            it["slots"][16]["place"] = Value::Null;
        }),
        ("stands in no line", |it| {
            creates(it).push(json!([16, 6]));
            it["lines"]["joined"] = 16.into();
            it["slots"][6]["place"] = json!({"kind": "create", "number": 16});
        }),
        ("finished operations", |it| it["finished"] = json!([[0, { "slot": 0, "generation": 0 }]])),
        ("requests in flight", |it| it["gate"]["in_flight"] = json!([7, 0, 0])),
        // Nothing would ever leave.
        ("requests in flight", |it| it["gate"]["bulkhead"]["in_flight"] = 100.into()),
        // At the end of time what is never due would be, again and again.
        ("seen more than its engine", |it| it["slots"][0]["operation"]["seen"] = u64::MAX.into()),
        // Its key would not be found.
        ("an operation's seed", |it| it["slots"][0]["operation"]["seed"] = 1.into()),
    ];
    for (what, alter) in contradictions {
        let mut altered = stored.clone();
        alter(&mut altered);
        let error = serde_json::from_value::<Engine>(altered).expect_err(what).to_string();
        assert!(error.contains(what), "{what}: {error}");
    }
    let twice = stored["slots"][0]["operation"]["key"].clone();
    let mut altered = stored;
    altered["slots"][3]["operation"]["key"] = twice;
    assert!(serde_json::from_value::<Engine>(altered).unwrap_err().to_string().contains("two operations have"));
}

/// I14: what would wait for ever, or be told never. I9: a breaker that looks at nothing.
#[test]
fn an_operation_that_no_step_leads_to_is_refused() {
    use serde_json::{Value, json};

    let stored = serde_json::to_value(crowded()).unwrap();
    let state = |slot: usize| stored["slots"][slot]["operation"]["state"].as_object().unwrap().keys().next().unwrap();
    assert_eq!(
        (state(0), state(1), state(6)),
        (&"PollWaiting".to_owned(), &"Creating".to_owned(), &"Ending".to_owned())
    );
    fn operation(it: &mut Value, slot: usize) -> &mut Value {
        &mut it["slots"][slot]["operation"]
    }
    type Alter = fn(&mut Value);
    let contradictions: [(&str, Alter); 11] = [
        ("no step leads to", |it| operation(it, 0)["state"]["PollWaiting"]["at"] = u64::MAX.into()),
        ("no step leads to", |it| operation(it, 0)["phase_began"] = u64::MAX.into()),
        ("no step leads to", |it| operation(it, 0)["reference"] = Value::Null),
        ("no step leads to", |it| operation(it, 1)["state"]["Creating"]["until"] = u64::MAX.into()),
        ("no step leads to", |it| operation(it, 1)["submitted"] = u64::MAX.into()),
        ("no step leads to", |it| operation(it, 0)["state"] = json!({"Ending": {"outcome": "failed"}})),
        ("no step leads to", |it| {
            let latest = operation(it, 0)["journal"]["asked"].as_u64().unwrap() + 1;
            operation(it, 0)["journal"]["asked"] = latest.into();
            operation(it, 0)["journal"]["retry_at"] = (u64::MAX - 1).into();
        }),
        ("no step leads to", |it| operation(it, 10)["due"]["send"] = true.into()),
        ("no step leads to", |it| operation(it, 10)["due"]["end"] = true.into()),
        ("nobody asked for", |it| it["asked"] = json!([])),
        ("the breaker", |it| {
            it["gate"]["breaker"]["quiet"] = (!it["gate"]["breaker"]["quiet"].as_bool().unwrap()).into()
        }),
    ];
    for (n, (what, alter)) in contradictions.into_iter().enumerate() {
        let mut altered = stored.clone();
        alter(&mut altered);
        let error = serde_json::from_value::<Engine>(altered).map(|_| n).expect_err(what).to_string();
        assert!(error.contains(what), "{n}, {what}: {error}");
    }
}

/// What failed there is never tried again: that is no contradiction.
#[test]
fn an_engine_at_the_end_of_time_comes_back() {
    let mut engine = Engine::new(OperationPolicy::default(), Gate::default(), Limits::default(), Seed::new(2));
    let key = Key::new("late").unwrap();
    let id = engine.submit(key, Fingerprint::new([1; 16]), Timestamp::NEVER).unwrap().id();
    let Some((_, Effect::Persist(first))) = engine.pop_effect() else { panic!("its intent comes first") };
    engine.handle(Event::Persisted(first), Timestamp::NEVER);
    engine.handle(Event::Cancel(id), Timestamp::NEVER);
    while let Some((_, effect)) = engine.pop_effect() {
        if let Effect::Persist(number) = effect {
            engine.handle(Event::PersistFailed(number), Timestamp::NEVER);
        }
    }
    while engine.pop_notice().is_some() {}
    assert!(!engine.operation(id).unwrap().is_durable());
    assert_eq!(Engine::from_snapshot(&engine.snapshot().unwrap()), Ok(engine));
}

/// Who is remembered is over, is there, and is remembered once.
#[test]
fn a_list_of_finished_operations_that_is_not_theirs_is_refused() {
    use serde_json::json;

    let mut engine = engine();
    for name in ["accepted", "sent"] {
        let id = engine.find(&Key::new(name).unwrap()).unwrap();
        engine.handle(Event::Webhook(id, Reading::Ready), NOW);
        while let Some((id, effect)) = engine.pop_effect() {
            match effect {
                Effect::Persist(number) => engine.handle(Event::Persisted(number), NOW),
                Effect::End => engine.handle(Event::Delivered(id), NOW),
                _ => {}
            }
        }
    }
    let stored = serde_json::to_value(&engine).unwrap();
    let finished = stored["finished"].as_array().unwrap().clone();
    assert_eq!(finished.len(), 2);
    let live = engine.find(&Key::new("written").unwrap()).map(|id| serde_json::to_value(id).unwrap());
    let mut gone = finished[1].clone();
    gone[1]["generation"] = 9.into();
    let first = finished[0].clone();
    for wrong in [json!([first]), json!([first, first]), json!([first, [0, live]]), json!([first, gone])] {
        let mut altered = stored.clone();
        altered["finished"] = wrong;
        let error = serde_json::from_value::<Engine>(altered).expect_err("refused").to_string();
        assert!(error.contains("finished operations"), "{error}");
    }
    assert_eq!(serde_json::from_value::<Engine>(stored).unwrap().live(), engine.live());
}

/// Whoever stands in line is woken when waiting has become pointless; then it waits no longer, whatever its own time
/// says.
#[test]
fn a_wait_at_the_gate_that_is_longer_than_its_deadline_ends_with_it() {
    let mut stored = serde_json::to_value(crowded()).unwrap();
    let waiting = &mut stored["slots"][16]["operation"]["state"]["CreateWaiting"];
    assert_eq!(waiting["reason"], "gate");
    waiting["at"] = u64::MAX.into();
    stored["gate"]["held_until"] = u64::MAX.into();
    let mut engine: Engine = serde_json::from_value(stored).unwrap();
    while let Some(at) = engine.next_deadline().filter(|at| *at <= NOW.saturating_add(Duration::from_secs(3_600))) {
        engine.handle_timeout(at);
        assert!(engine.next_deadline().is_none_or(|next| next > at), "law 2");
    }
    assert!(engine.live_operations().all(|id| engine.operation(id).unwrap().has_ended()));
}
