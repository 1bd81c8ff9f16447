//! What a person sees who looks through a journal, and what goes when it is purged.

use std::ops::ControlFlow;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use steadfast_core::operation::Rejected;
use steadfast_store::sqlite::{Order, Purge, Stored, iso8601};

use super::*;

const DEADLINE: Outcome = Outcome::Unresolved(Unresolved::PollDeadline);

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs)
}

fn entry_at(key: &str, stage: Stage, secs: u64) -> Entry {
    let mut entry = entry(key, stage);
    entry.at = at(secs);
    entry
}

fn all(store: &mut SqliteStore, order: Order) -> Vec<Stored> {
    let mut found = Vec::new();
    let each = |stored: Result<Stored, _>| {
        found.push(stored.unwrap());
        ControlFlow::Continue(())
    };
    store.browse(order, each).unwrap();
    found
}

/// After each record of one key, when it was accepted and when it ended.
fn times(stages: &[Stage]) -> Vec<(Option<Timestamp>, Option<Timestamp>)> {
    let home = Home::new();
    let mut store = home.open();
    let append = |(secs, stage): (u64, &Stage)| {
        store.append(&[entry_at("order-1", *stage, secs)]).unwrap();
        let stored = store.look_up(&Key::new("order-1").unwrap()).unwrap().unwrap();
        assert_eq!(stored, all(&mut store, Order::OldestFirst)[0]);
        assert!(store.verify().unwrap().problems.is_empty());
        (stored.accepted, stored.ended)
    };
    (0..).zip(stages).map(append).collect()
}

#[test]
fn a_time_is_that_of_the_first_record_that_says_so() {
    let stages = [Stage::InFlight, Stage::Accepted, Stage::Accepted, Stage::Ended(READY), Stage::Delivered(READY)];
    let (accepted, ended) = (Some(at(1)), Some(at(3)));
    assert_eq!(
        times(&stages),
        [(None, None), (accepted, None), (accepted, None), (accepted, ended), (accepted, ended)]
    );
    let never = [Stage::Unknown, Stage::Ended(AMBIGUOUS), Stage::Delivered(AMBIGUOUS)];
    assert_eq!(times(&never), [(None, None), (None, Some(at(1))), (None, Some(at(1)))]);
}

#[test]
fn a_resumed_job_has_not_ended_and_ends_anew() {
    let stages = [Stage::Accepted, Stage::Delivered(DEADLINE), Stage::Accepted, Stage::Ended(READY)];
    let accepted = Some(at(0));
    assert_eq!(times(&stages), [(accepted, None), (accepted, Some(at(1))), (accepted, None), (accepted, Some(at(3)))]);
    let rejected = Outcome::Rejected(Rejected::Deadline);
    let unresolved = Outcome::Unresolved(Unresolved::Deadline);
    for (one, other) in [(DEADLINE, READY), (DEADLINE, AMBIGUOUS), (rejected, unresolved)] {
        assert_eq!(times(&[Stage::Ended(one), Stage::Ended(other)])[1], (None, Some(at(1))));
    }
}

#[test]
fn another_job_under_the_same_key_begins_with_no_times() {
    let home = Home::new();
    let mut store = home.open();
    store.append(&[entry_at("order-1", Stage::Accepted, 1)]).unwrap();
    store.append(&[entry_at("order-1", Stage::Ended(READY), 2)]).unwrap();
    for (stage, ended) in [(Stage::Planned, None), (Stage::Ended(READY), Some(at(9)))] {
        let mut other = entry_at("order-1", stage, 9);
        other.record.submitted = at(9);
        store.append(&[other]).unwrap();
        let stored = store.look_up(&Key::new("order-1").unwrap()).unwrap().unwrap();
        assert_eq!((stored.accepted, stored.ended), (None, ended));
    }
}

#[test]
fn it_goes_in_the_order_asked_for_and_stops_when_told() {
    let home = Home::new();
    let mut store = home.open();
    for number in 0..5 {
        store.append(&[entry(&format!("order-{number}"), Stage::Planned)]).unwrap();
    }
    store.append(&[entry("order-1", Stage::Accepted)]).unwrap();
    let keys = |found: Vec<Stored>| found.iter().map(|it| it.entry.record.key.as_str().to_owned()).collect::<String>();
    assert_eq!(keys(all(&mut store, Order::OldestFirst)), "order-0order-1order-2order-3order-4");
    assert_eq!(keys(all(&mut store, Order::NewestFirst)), "order-4order-3order-2order-1order-0");
    let mut seen = 0;
    let each = |_| {
        seen += 1;
        if seen < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    store.browse(Order::NewestFirst, each).unwrap();
    assert_eq!((seen, store.count()), (2, 5));
    assert_eq!(store.look_up(&Key::new("order-9").unwrap()).unwrap(), None);
    assert_eq!(iso8601(at(0)), "2023-11-14T22:13:20.000000000Z");
}

#[test]
fn a_damaged_row_is_told_of_and_the_others_are_shown() {
    let home = Home::new();
    let mut store = home.open();
    for key in ["order-1", "order-2", "order-3"] {
        store.append(&[entry(key, Stage::Planned)]).unwrap();
    }
    drop(store);
    home.tamper(&format!("UPDATE records SET {} WHERE first = 2", patch(56, "09")));
    let mut found = Vec::new();
    let each = |stored: Result<Stored, steadfast_store::sqlite::DamageError>| {
        found.push(stored.map(|it| it.state()).map_err(|error| error.to_string()));
        ControlFlow::Continue(())
    };
    home.open().browse(Order::OldestFirst, each).unwrap();
    assert_eq!((&found[0], &found[2]), (&Ok("planned"), &Ok("planned")));
    let error = found[1].as_ref().unwrap_err();
    assert!(error.contains("row 2 of key #") && !error.contains("order"), "{error}");
    let look_up = |key| home.open().look_up(&Key::new(key).unwrap());
    assert!(look_up("order-2").is_err() && look_up("order-3").is_ok_and(|found| found.is_some()));
    assert_eq!(look_up("order-9").unwrap(), None);
    home.tamper("UPDATE records SET body = zeroblob(200) WHERE first = 2");
    assert!(look_up("order-9").is_err(), "nobody can tell whose that row is");
    assert!(look_up("order-3").is_ok_and(|found| found.is_some()));
}

#[derive(Clone, Debug)]
struct Job {
    stage: Stage,
    age: u64,
    has_reference: bool,
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let stages = [
        Stage::Planned,
        Stage::Unknown,
        Stage::Accepted,
        Stage::Ended(READY),
        Stage::Ended(DEADLINE),
        Stage::Delivered(READY),
        Stage::Delivered(AMBIGUOUS),
        Stage::Delivered(DEADLINE),
    ];
    let job = (prop::sample::select(stages.to_vec()), 0_u64..4, any::<bool>());
    vec(job.prop_map(|(stage, age, has_reference)| Job { stage, age, has_reference }), 0..30).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_purge_takes_what_was_delivered_before_and_spares_what_may_have_run(
        jobs in jobs(),
        before in 0_u64..5,
        unresolved_too in any::<bool>(),
    ) {
        let home = Home::new();
        let mut store = home.open();
        let entries: Vec<Entry> = (0..).zip(&jobs).map(|(number, job): (u64, _)| {
            let mut entry = entry_at(&format!("order-{number}"), job.stage, job.age);
            if !job.has_reference {
                entry.record.reference = None;
            }
            entry
        }).collect();
        store.append(&entries).unwrap();
        let unresolved = |job: &Job| matches!(job.stage, Stage::Delivered(Outcome::Unresolved(_)));
        let goes = |job: &Job| {
            matches!(job.stage, Stage::Delivered(_)) && job.age < before && (unresolved_too || !unresolved(job))
        };
        let expected: Vec<Entry> =
            entries.iter().zip(&jobs).filter(|(_, job)| !goes(job)).map(|(entry, _)| entry.clone()).collect();
        let purge = Purge { before: at(before), unresolved_too };
        let gone = (entries.len() - expected.len()) as u64;
        prop_assert_eq!(store.count_purgeable(purge).unwrap(), gone);
        prop_assert_eq!(store.purge(purge, |_| {}).unwrap(), gone);
        prop_assert_eq!(store.load().unwrap(), expected);
        prop_assert_eq!(store.count_purgeable(purge).unwrap(), 0);
        drop(store);
        prop_assert!(home.open().verify().unwrap().problems.is_empty());
    }
}

#[test]
fn a_purge_goes_in_batches_and_tells_of_each() {
    let home = Home::new();
    let mut store = home.open();
    let batch = Purge::BATCH as u64;
    // All of one moment, with the spared ones between.
    let stage = |number| if number % 3 == 1 { Stage::Delivered(DEADLINE) } else { Stage::Delivered(READY) };
    let entries: Vec<Entry> = (0..3 * batch).map(|number| entry(&format!("order-{number}"), stage(number))).collect();
    store.append(&entries).unwrap();
    let mut told = Vec::new();
    let purge = Purge { before: at(0).saturating_add(Duration::from_nanos(1)), unresolved_too: false };
    assert_eq!(store.purge(purge, |gone| told.push(gone)).unwrap(), 2 * batch);
    assert_eq!((told, store.count()), (vec![batch, 2 * batch], batch));
    assert_eq!(store.purge(Purge { unresolved_too: true, ..purge }, |_| {}).unwrap(), batch);
}
