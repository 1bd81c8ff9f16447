//! The contract, case by case, on a store that starts empty.

use steadfast_core::operation::{Stage, Unresolved};
use steadfast_core::{Key, Outcome, Timestamp};
use steadfast_store::{Entry, MemoryStore, Store};

use super::{READY, answer, any_entry, entry};

type Case = fn(&mut dyn Store);

pub(super) const ALL: [(&str, Case); 17] = [
    ("an empty store has nothing", an_empty_store_has_nothing),
    ("what is appended is loaded", what_is_appended_is_loaded),
    ("what is appended is found, and nothing else", what_is_appended_is_found),
    ("an empty batch changes nothing", an_empty_batch_changes_nothing),
    ("a later entry replaces", a_later_entry_replaces),
    ("entries of a batch count in their order", a_batch_counts_in_its_order),
    ("keys stay in the order in which they were first seen", keys_stay_in_their_order),
    ("a payload stays until the end", a_payload_stays_until_the_end),
    ("an answer is kept", an_answer_is_kept),
    ("an answer is of one end", an_answer_is_of_one_end),
    ("a key that is free again starts anew", a_key_that_is_free_again_starts_anew),
    ("what is live is loaded without the rest, in order", what_is_live_is_loaded),
    ("appending twice is harmless", appending_twice_is_harmless),
    ("a large batch is one", a_large_batch_is_one),
    ("only old settled operations are forgotten", only_old_settled_operations_are_forgotten),
    ("the oldest are forgotten first, and no more than asked for", the_oldest_are_forgotten_first),
    ("any history reads back as in memory", any_history_reads_back_as_in_memory),
];

fn load(store: &mut dyn Store) -> Vec<Entry> {
    store.load().expect("it loads")
}

fn load_live(store: &mut dyn Store) -> Vec<Entry> {
    store.load_live().expect("it loads what is live")
}

fn append(store: &mut dyn Store, entries: &[Entry]) {
    store.append(entries).expect("it appends");
}

fn find(store: &mut dyn Store, number: u64) -> Option<Entry> {
    let key = Key::new(format!("order-{number}")).expect("a key");
    store.find(&key).expect("it looks")
}

fn an_empty_store_has_nothing(store: &mut dyn Store) {
    assert_eq!(load(store), []);
    assert_eq!(load_live(store), []);
    assert_eq!(find(store, 1), None);
    assert_eq!(store.forget(Timestamp::NEVER, 10).expect("it forgets"), 0);
}

fn what_is_appended_is_loaded(store: &mut dyn Store) {
    let entries: Vec<Entry> = super::STAGES.into_iter().zip(1..).map(|(stage, n)| entry(n, stage, n)).collect();
    append(store, &entries);
    assert_eq!(load(store), entries);
}

fn what_is_appended_is_found(store: &mut dyn Store) {
    append(store, &[entry(1, Stage::Planned, 1), entry(10, Stage::Accepted, 1)]);
    assert_eq!(find(store, 1), Some(entry(1, Stage::Planned, 1)));
    assert_eq!(find(store, 10), Some(entry(10, Stage::Accepted, 1)));
    assert_eq!(find(store, 2), None);
}

fn an_empty_batch_changes_nothing(store: &mut dyn Store) {
    append(store, &[]);
    append(store, &[entry(1, Stage::Planned, 1)]);
    append(store, &[]);
    assert_eq!(load(store), [entry(1, Stage::Planned, 1)]);
}

fn a_later_entry_replaces(store: &mut dyn Store) {
    for (stage, at) in super::STAGES.into_iter().zip(1..) {
        append(store, &[entry(1, stage, at)]);
        assert_eq!(load(store), [entry(1, stage, at)]);
    }
}

fn a_batch_counts_in_its_order(store: &mut dyn Store) {
    append(store, &[entry(1, Stage::InFlight, 1), entry(2, Stage::InFlight, 1), entry(1, Stage::Accepted, 2)]);
    assert_eq!(load(store), [entry(1, Stage::Accepted, 2), entry(2, Stage::InFlight, 1)]);
}

fn keys_stay_in_their_order(store: &mut dyn Store) {
    // An order that is neither that of their names nor that of their last entries.
    append(store, &[entry(30, Stage::Planned, 1), entry(1, Stage::Planned, 1)]);
    append(store, &[entry(2, Stage::Planned, 1)]);
    append(store, &[entry(30, Stage::InFlight, 2)]);
    let order: Vec<Entry> = load(store);
    assert_eq!(order, [entry(30, Stage::InFlight, 2), entry(1, Stage::Planned, 1), entry(2, Stage::Planned, 1)]);
}

fn a_payload_stays_until_the_end(store: &mut dyn Store) {
    append(store, &[entry(1, Stage::Planned, 1).with_payload("who")]);
    append(store, &[entry(1, Stage::Accepted, 2)]);
    assert_eq!(load(store), [entry(1, Stage::Accepted, 2).with_payload("who")]);
    append(store, &[entry(1, Stage::Accepted, 3).with_payload("another")]);
    assert_eq!(find(store, 1), Some(entry(1, Stage::Accepted, 3).with_payload("another")));
    append(store, &[entry(1, Stage::Ended(READY), 4)]);
    assert_eq!(load(store), [entry(1, Stage::Ended(READY), 4)]);
}

/// The operation was unresolved, was resumed, and ended in another way before that was written.
fn an_answer_is_of_one_end(store: &mut dyn Store) {
    let unresolved = Stage::Ended(Outcome::Unresolved(Unresolved::Cancelled));
    append(store, &[entry(1, unresolved, 1).with_answer(answer(1))]);
    append(store, &[entry(1, Stage::Ended(READY), 2)]);
    assert_eq!(find(store, 1), Some(entry(1, Stage::Ended(READY), 2)));
    append(store, &[entry(1, Stage::Delivered(READY), 3).with_answer(answer(2))]);
    assert_eq!(find(store, 1), Some(entry(1, Stage::Delivered(READY), 3).with_answer(answer(2))));
}

fn an_answer_is_kept(store: &mut dyn Store) {
    append(store, &[entry(1, Stage::Accepted, 1).with_payload("who")]);
    append(store, &[entry(1, Stage::Ended(READY), 2).with_answer(answer(1))]);
    append(store, &[entry(1, Stage::Delivered(READY), 3)]);
    let expected = entry(1, Stage::Delivered(READY), 3).with_answer(answer(1));
    assert_eq!(find(store, 1).as_ref(), Some(&expected));
    assert_eq!(load(store), [expected]);
}

fn a_key_that_is_free_again_starts_anew(store: &mut dyn Store) {
    append(store, &[entry(1, Stage::Delivered(READY), 1).with_answer(answer(1))]);
    append(store, &[entry(1, Stage::Planned, 2)]);
    assert_eq!(load(store), [entry(1, Stage::Planned, 2)]);
}

fn what_is_live_is_loaded(store: &mut dyn Store) {
    for (stage, n) in super::STAGES.into_iter().zip(0..) {
        append(store, &[entry(100 - n, stage, n).with_payload("who").with_answer(answer(n))]);
    }
    assert_eq!(load_live(store), super::live(&load(store)));
    assert_eq!(load_live(store).len(), 6);
    // An operation that is delivered later is no longer live; a key that is free again is live in its old place.
    append(store, &[entry(97, Stage::Delivered(READY), 20), entry(93, Stage::Planned, 20)]);
    assert_eq!(load_live(store), super::live(&load(store)));
    assert_eq!(load_live(store).last(), Some(&entry(93, Stage::Planned, 20)));
    assert_eq!(find(store, 97).map(|entry| entry.answer), Some(Some(answer(3))));
}

fn appending_twice_is_harmless(store: &mut dyn Store) {
    append(store, &[entry(0, Stage::Accepted, 1).with_payload("who")]);
    let batch = [
        entry(1, Stage::InFlight, 2).with_payload("it"),
        entry(0, Stage::Ended(READY), 3).with_answer(answer(3)),
        entry(1, Stage::Accepted, 4),
    ];
    append(store, &batch);
    let once = load(store);
    append(store, &batch);
    assert_eq!(load(store), once);
}

fn a_large_batch_is_one(store: &mut dyn Store) {
    let batch: Vec<Entry> = (0..5_000).map(|n| entry(n, Stage::InFlight, n).with_payload("x".repeat(300))).collect();
    append(store, &batch);
    assert_eq!(load(store), batch);
}

fn only_old_settled_operations_are_forgotten(store: &mut dyn Store) {
    for (stage, n) in super::STAGES.into_iter().zip(0..) {
        append(store, &[entry(n, stage, 10), entry(n + 100, stage, 20)]);
    }
    let before = load(store);
    let gone = store.forget(Timestamp::from_secs(20), usize::MAX).expect("it forgets");
    // An operation that may have run stays, however old: its key must not become free.
    let unresolved = |entry: &Entry| matches!(entry.record.stage, Stage::Delivered(Outcome::Unresolved(_)));
    let stays = |entry: &Entry| !entry.is_delivered() || unresolved(entry) || entry.at >= Timestamp::from_secs(20);
    let expected: Vec<Entry> = before.iter().filter(|entry| stays(entry)).cloned().collect();
    assert_eq!((gone, load(store)), (before.len() - expected.len(), expected));
    // A forgotten key counts as new, and comes last.
    append(store, &[entry(6, Stage::Planned, 30)]);
    assert_eq!(load(store).last(), Some(&entry(6, Stage::Planned, 30)));
}

fn the_oldest_are_forgotten_first(store: &mut dyn Store) {
    for (n, at) in [(1, 50), (2, 10), (3, 40), (4, 20)] {
        append(store, &[entry(n, Stage::Delivered(READY), at)]);
    }
    let later = Timestamp::from_secs(100);
    assert_eq!(store.forget(later, 0).expect("it forgets"), 0);
    assert_eq!(store.forget(later, 2).expect("it forgets"), 2);
    assert_eq!(load(store), [entry(1, Stage::Delivered(READY), 50), entry(3, Stage::Delivered(READY), 40)]);
    assert_eq!(store.forget(later, 3).expect("it forgets"), 2);
    assert_eq!(load(store), []);
}

fn any_history_reads_back_as_in_memory(store: &mut dyn Store) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut model = MemoryStore::default();
    for at in 0..300 {
        if random.u8(0..8) == 0 {
            let before = Timestamp::from_secs(random.u64(0..=at));
            let most = random.usize(0..10);
            let gone = store.forget(before, most).expect("it forgets");
            assert_eq!(gone, model.forget(before, most).expect("memory does not fail"), "step {at}");
        } else {
            let batch: Vec<Entry> = (0..random.u8(0..6)).map(|_| any_entry(&mut random, 40, at)).collect();
            append(store, &batch);
            append(&mut model, &batch);
        }
        let loaded = load(store);
        assert_eq!(loaded, load(&mut model), "step {at}");
        assert_eq!(load_live(store), super::live(&loaded), "step {at}");
        let number = random.u64(0..40);
        assert_eq!(find(store, number), find(&mut model, number), "step {at}");
    }
}
