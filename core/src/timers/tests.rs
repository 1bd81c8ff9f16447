//! Against the obvious model: a sorted set of times and slots.

use alloc::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::wheel::{digit_of, entry_at};
use super::*;

impl Timers {
    /// The module's invariants.
    fn check(&self) {
        let standing = |timer: &Timer| assert_eq!(self.standing(self.place(timer.slot)), Some(*timer));
        self.near.iter().for_each(|timer| assert!(timer.tick() <= self.cursor));
        self.near.iter().for_each(standing);
        let mut spread = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            let (level, digit) = (at / DIGITS, at % DIGITS);
            assert_eq!(self.occupied[level][digit / 64] >> (digit % 64) & 1 == 1, bucket.len > 0);
            let (mut last, mut len) = (bucket.last, bucket.len as usize);
            assert_eq!(last == NO_CHUNK, len == 0);
            while len > 0 {
                let count = (len - 1) % CHUNK + 1;
                for timer in &self.entries[entry_at(last, 0)..][..count] {
                    assert!(timer.tick() > self.cursor);
                    assert_eq!(digit_of(timer.tick(), self.cursor), (level, digit));
                    standing(timer);
                }
                (spread, len, last) = (spread + count, len - count, self.before[last as usize]);
            }
        }
        assert_eq!(spread, self.spread);
        let set = self.places.iter().filter(|place| **place != Place::NONE).count();
        assert_eq!(set, self.len());
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Set(u32, u64),
    Clear(u32),
    Pop(u64),
    /// All that is due by then.
    Drain(u64),
}

/// Times that lie together, apart, at both ends, and on the borders of buckets.
fn time() -> BoxedStrategy<u64> {
    let minute = 60_000_000_000_u64;
    prop_oneof![
        4 => 0..minute,
        2 => 0_u64..2_000_000,
        1 => any::<u64>(),
        1 => prop::sample::select(alloc::vec![0, 1, u64::MAX - 1, u64::MAX]),
        1 => (0_u32..64, -2_i64..3).prop_map(|(bit, by)| (1_u64 << bit).wrapping_add_signed(by)),
        1 => Just(minute),
    ]
    .boxed()
}

fn steps(slots: u32, most: usize) -> BoxedStrategy<Vec<Step>> {
    let step = prop_oneof![
        8 => (0..slots, time()).prop_map(|(slot, at)| Step::Set(slot, at)),
        3 => (0..slots).prop_map(Step::Clear),
        3 => time().prop_map(Step::Pop),
        1 => time().prop_map(Step::Drain),
    ];
    prop::collection::vec(step, 0..most).boxed()
}

fn follows_the_model(steps: &[Step]) {
    let mut timers = Timers::default();
    let (mut model, mut times) = (BTreeSet::new(), BTreeMap::new());
    for step in steps {
        match *step {
            Step::Set(slot, at) => {
                timers.set(slot, Some(Timestamp::from_nanos(at)));
                if let Some(old) = times.insert(slot, at) {
                    model.remove(&(old, slot));
                }
                model.insert((at, slot));
            }
            Step::Clear(slot) => {
                timers.set(slot, None);
                if let Some(old) = times.remove(&slot) {
                    model.remove(&(old, slot));
                }
            }
            Step::Pop(now) | Step::Drain(now) => loop {
                let due = model.first().copied().filter(|(at, _)| *at <= now);
                assert_eq!(timers.pop_due(Timestamp::from_nanos(now)), due.map(|(_, slot)| slot));
                let Some((at, slot)) = due else { break };
                model.remove(&(at, slot));
                times.remove(&slot);
                let some: Vec<u32> = timers.some_due(Timestamp::from_nanos(now), 5).collect();
                assert!(some.len() <= 5 && some.iter().all(|slot| times[slot] <= now), "{some:?} are not due at {now}");
                assert!(some.first().is_none_or(|first| model.first().is_some_and(|(_, next)| first == next)));
                if matches!(step, Step::Pop(_)) {
                    break;
                }
            },
        }
        assert_eq!(timers.next(), model.first().map(|(at, slot)| (Timestamp::from_nanos(*at), *slot)));
        timers.check();
    }
    for (slot, at) in &times {
        assert_eq!(timers.get(*slot), Some(Timestamp::from_nanos(*at)));
    }
    // Another way to the same timers.
    let mut made = Timers::default();
    times.iter().for_each(|(slot, at)| made.set(*slot, Some(Timestamp::from_nanos(*at))));
    assert_eq!(timers, made);
}

proptest! {
    #[test]
    fn timers_fire_by_time_and_slot_and_only_when_set(few in steps(12, 200)) {
        follows_the_model(&few);
    }

    #[test]
    fn a_crowd_of_timers_fires_by_time_and_slot_and_only_when_set(many in steps(400, 600)) {
        follows_the_model(&many);
    }
}

#[test]
fn timers_are_equal_if_they_fire_alike() {
    let made = |entries: &[(u32, u64)]| {
        let mut timers = Timers::default();
        entries.iter().for_each(|(slot, at)| timers.set(*slot, Some(Timestamp::from_nanos(*at))));
        timers
    };
    let timers = made(&[(0, 9), (1, 5), (2, 7)]);
    assert_eq!(timers, made(&[(1, 5), (2, 7), (0, 9)]), "however they have come to lie");
    assert_eq!(timers, timers.clone());
    assert_ne!(timers, made(&[(0, 9), (1, 5)]));
    assert_ne!(timers, made(&[(0, 9), (1, 5), (2, 8)]), "another time");
    assert_ne!(timers, made(&[(0, 9), (1, 5), (3, 7)]), "another slot");
    assert_ne!(made(&[(0, 9)]), Timers::default());
}

/// Ten thousand in steady use: chunks are used again, whatever the clock does.
#[test]
fn memory_is_bounded_by_the_most_timers_at_a_time() {
    let (mut timers, mut now, mut chance) = (Timers::default(), 0_u64, 1_u64);
    let mut next = move || {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        chance >> 33
    };
    let second = 1_000_000_000;
    (0..10_000).for_each(|slot| timers.set(slot, Some(Timestamp::from_nanos(next() % (60 * second)))));
    for round in 0..300 {
        now += if round % 50 == 0 { 86_400 * second } else { second / 2 };
        while let Some(slot) = timers.pop_due(Timestamp::from_nanos(now)) {
            timers.set(slot, Some(Timestamp::from_nanos(now + 1 + next() % (60 * second))));
            // And one that is moved to and fro, as a time-out is.
            let other = (next() % 10_000) as u32;
            let at = timers.get(other);
            timers.set(other, Some(Timestamp::from_nanos(now + 10 * second)));
            timers.set(other, at);
        }
    }
    timers.check();
    assert_eq!(timers.len(), 10_000);
    assert!(timers.entries.len() < 10_000 + 1_000 * CHUNK, "{} entries", timers.entries.len());
}

/// A service may have an engine for each of its tenants, most of which have few operations.
#[test]
fn room_for_a_few_is_no_room_for_a_crowd() {
    for few in [0, 1, 32] {
        let mut timers = Timers::default();
        timers.reserve(few);
        assert!(
            timers.entries.capacity() == 0 && timers.before.capacity() == 0,
            "{few}: {}",
            timers.entries.capacity()
        );
        assert!(timers.near.capacity() >= few && timers.places.capacity() >= few);
        let (near, places) = (timers.near.capacity(), timers.places.capacity());
        (0..).zip(0..few as u64).for_each(|(slot, at)| timers.set(slot, Some(Timestamp::from_secs(at))));
        assert_eq!((timers.near.capacity(), timers.places.capacity(), timers.entries.capacity()), (near, places, 0));
    }
}
