//! The driver's side and the store's together, over a store that fails at random: each record has one fate, in the
//! records' order, and it is the right one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use proptest::prelude::*;
use steadfast_core::engine::Limits;
use steadfast_core::{Engine, Fingerprint, Gate, Key, OperationPolicy, Seed};
use steadfast_store::{MemoryStore, Store};

use super::work::QUICK;
use super::*;

/// What an append does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Writes,
    Fails,
    WritesInDoubt,
    FailsInDoubt,
    Panics,
}

#[derive(Debug, Default)]
struct Shelf {
    written: BTreeSet<u32>,
    /// The last append, if nobody knows what became of it.
    doubt: Option<Vec<u32>>,
    overtaken: bool,
    appends: usize,
    /// What a panic leaves behind panics as well when dropped, as a store does that finds its own lock poisoned.
    falls_apart: bool,
}

struct Rubble;

impl Drop for Rubble {
    fn drop(&mut self) {
        panic!("nobody gets rid of it");
    }
}

struct Fickle {
    shelf: Arc<Mutex<Shelf>>,
    how: Vec<How>,
    pace: Pace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// It never waits, and is worked on between two steps.
    InPlace,
    /// A thread's work, and done at once.
    Quick,
    /// A commit takes its time, as one that syncs does. It is spent, not slept.
    Slow,
}

impl Store for Fickle {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let began = Instant::now();
        while self.pace == Pace::Slow && began.elapsed() < 2 * QUICK {}
        let numbers: Vec<u32> = entries.iter().map(|entry| entry.record.attempts).collect();
        let mut shelf = self.shelf.lock().unwrap();
        shelf.appends += 1;
        shelf.overtaken |= shelf.doubt.take().is_some_and(|doubt| doubt != numbers);
        let how = self.how.pop().unwrap_or(How::Writes);
        if matches!(how, How::WritesInDoubt | How::FailsInDoubt) {
            shelf.doubt = Some(numbers.clone());
        }
        if matches!(how, How::Writes | How::WritesInDoubt) {
            shelf.written.extend(numbers);
        }
        let falls_apart = shelf.falls_apart;
        drop(shelf);
        match how {
            How::Panics if falls_apart => std::panic::panic_any(Rubble),
            How::Writes => Ok(()),
            How::Fails => Err(StoreError::write("no")),
            How::WritesInDoubt | How::FailsInDoubt => Err(StoreError::uncertain("who knows")),
            How::Panics => panic!("as it was told to"),
        }
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        Ok(Vec::new())
    }

    fn find(&mut self, _: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(None)
    }

    fn forget(&mut self, _: Timestamp, _: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn is_backup(&self) -> bool {
        false
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn blocks(&self) -> bool {
        self.pace != Pace::InPlace
    }
}

impl Drop for Fickle {
    fn drop(&mut self) {
        assert!(!self.shelf.lock().unwrap().falls_apart, "as it was told to");
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u8),
    Start,
    Follow,
    Feed,
    /// The store works, until nothing is laid out for it.
    Work,
    /// The driver hears of a piece of it.
    Hear,
    Done,
    /// What is in doubt may be tried again.
    Wait,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..5_u8).prop_map(Step::Push),
        1 => Just(Step::Push(40)),
        3 => Just(Step::Start),
        2 => Just(Step::Follow),
        1 => Just(Step::Feed),
        2 => Just(Step::Work),
        3 => Just(Step::Hear),
        2 => Just(Step::Done),
        1 => Just(Step::Wait),
    ];
    prop::collection::vec(step.boxed(), 1..60).boxed()
}

fn ways() -> impl Strategy<Value = Vec<How>> {
    let how = prop_oneof![
        6 => Just(How::Writes),
        2 => Just(How::Fails),
        2 => Just(How::WritesInDoubt),
        2 => Just(How::FailsInDoubt),
    ];
    (prop::collection::vec(how.boxed(), 0..12), any::<bool>())
        .prop_map(|(mut ways, panics)| {
            if panics {
                ways.insert(0, How::Panics);
            }
            ways
        })
        .boxed()
}

fn paces() -> impl Strategy<Value = Pace> {
    prop_oneof![Just(Pace::InPlace), Just(Pace::Quick), Just(Pace::Slow)]
}

/// Records under way, and what became of the others.
struct World {
    journal: Journal,
    shelf: Arc<Mutex<Shelf>>,
    engine: Engine,
    pushed: Vec<OperationId>,
    /// How many have had their fate.
    told: usize,
    last: RecordId,
    now: Timestamp,
    /// What the store has to do.
    work: Option<Box<Work>>,
    /// What it has done, and the driver has not heard of.
    worked: VecDeque<Worked>,
}

impl World {
    fn new(how: Vec<How>, pace: Pace) -> Self {
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let store: Home = Box::new(Fickle { shelf: shelf.clone(), how, pace });
        let policy = OperationPolicy::default();
        let backoff = policy.persist().clone();
        let now = Timestamp::from_secs(1);
        let journal = Journal::new(Some(store), Keep::default(), backoff, Duration::from_secs(60), now);
        let engine = Engine::new(policy, Gate::unlimited(), Limits::default(), Seed::new(7));
        let (pushed, worked) = (Vec::new(), VecDeque::new());
        Self { journal, shelf, engine, pushed, told: 0, last: RecordId(0), now, work: None, worked }
    }

    fn push(&mut self) {
        let number = self.pushed.len() as u32 + 1;
        let now = Timestamp::from_secs(1);
        let key = Key::new(format!("order-{number}")).unwrap();
        let id = self.engine.submit(key, Fingerprint::new([7; 16]), now).unwrap().id();
        let mut record = self.engine.operation(id).unwrap().record();
        record.attempts = number;
        self.journal.push(id, RecordId(number.into()), Some(Entry::new(record, Arc::from("deepvue"), now)));
        self.pushed.push(id);
    }

    fn take(&mut self, done: Done) {
        let Some((batch, fate)) = done.batch else { return };
        let from = self.told;
        self.told += batch.operations.len();
        assert!(batch.operations == self.pushed[from..self.told], "in their order, each once");
        assert_eq!(batch.last, RecordId(self.told as u64), "the last acknowledges these, and no others");
        assert!(batch.last > self.last);
        self.last = batch.last;
        let shelf = self.shelf.lock().unwrap();
        let written = (from..self.told).filter(|at| shelf.written.contains(&(*at as u32 + 1))).count();
        match fate {
            Fate::Durable => assert_eq!(written, batch.operations.len()),
            Fate::Failed(_) => assert_eq!(written, 0),
            Fate::Unknown(_) => {}
        }
    }

    fn started(&mut self, started: Option<Started>) {
        match started {
            Some(Started::Work(work)) => assert!(self.work.replace(work).is_none(), "one at a time"),
            Some(Started::Done) | None => {}
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Push(count) => (0..count).for_each(|_| self.push()),
            Step::Start => {
                let started = self.journal.start();
                self.started(started);
            }
            Step::Follow => {
                if let Some(Started::Work(work)) = self.journal.follow() {
                    self.started(Some(Started::Work(work)));
                }
            }
            Step::Feed => {
                let work = self.journal.feed();
                self.started(work);
            }
            Step::Work => {
                if let Some(work) = self.work.take() {
                    let last = work.run(|worked| self.worked.push_back(worked));
                    self.worked.push_back(last);
                }
            }
            Step::Hear => {
                if let Some(worked) = self.worked.pop_front() {
                    self.journal.worked(worked);
                }
            }
            Step::Done => {
                if let Some(done) = self.journal.pop_done() {
                    self.take(done);
                }
            }
            Step::Wait => {
                self.now = self.now.saturating_add(Duration::from_secs(20));
                self.journal.look_at_clock(self.now);
            }
        }
    }
}

proptest! {
    #[test]
    fn each_record_has_one_fate_in_their_order_and_nothing_overtakes_what_is_in_doubt(steps in steps(), how in ways(), pace in paces()) {
        let mut world = World::new(how, pace);
        for step in steps {
            world.step(step);
        }
        for _ in 0..1_000 {
            if world.journal.is_idle() {
                break;
            }
            for step in [Step::Work, Step::Hear, Step::Done, Step::Start, Step::Wait] {
                world.step(step);
            }
        }
        assert_eq!(world.told, world.pushed.len(), "nobody waits for ever");
        assert!(!world.shelf.lock().unwrap().overtaken);
    }
}

/// What was queued while a commit ran goes into the next, which begins by itself.
#[test]
fn the_store_goes_on_by_itself_with_what_was_laid_out() {
    let mut world = World::new(Vec::new(), Pace::Slow);
    // First it forgets, which is due from the start. (What came last is heard of twice if the store stayed for more.)
    for step in [Step::Start, Step::Work, Step::Hear, Step::Done, Step::Hear] {
        world.step(step);
    }
    for step in [Step::Push(1), Step::Start, Step::Push(1), Step::Start, Step::Push(1), Step::Follow, Step::Work] {
        world.step(step);
    }
    assert_eq!(world.shelf.lock().unwrap().appends, 2);
    assert_eq!(world.told, 0, "the driver has heard of nothing yet");
    for step in [Step::Hear, Step::Done, Step::Hear, Step::Done] {
        world.step(step);
    }
    assert!(!world.journal.is_idle(), "the store stays for more, and has not said that there was none");
    world.step(Step::Hear);
    assert_eq!(world.told, 3);
    assert!(world.journal.is_idle());
}

/// A driver that carries out much at once must not let the store stand still until it is done: they would take turns.
#[test]
fn a_store_that_stands_still_begins_once_there_is_much() {
    let mut world = World::new(Vec::new(), Pace::Slow);
    for step in [Step::Start, Step::Work, Step::Hear, Step::Done, Step::Hear] {
        world.step(step);
    }
    for step in [Step::Push(MANY as u8 - 1), Step::Feed] {
        world.step(step);
    }
    assert!(world.work.is_none(), "for a few it waits for more");
    for step in [Step::Push(1), Step::Feed] {
        world.step(step);
    }
    assert!(world.work.is_some());
    for step in [Step::Push(MANY as u8), Step::Feed, Step::Work, Step::Hear, Step::Done, Step::Hear, Step::Done] {
        world.step(step);
    }
    assert_eq!(world.shelf.lock().unwrap().appends, 2, "the second was laid out while the first was worked on");
    assert_eq!(world.told, 2 * MANY);
}

/// What does not wait need not be waited for: a commit costs no thread, and what it allows comes with the next look.
#[test]
fn a_store_that_never_waits_is_worked_on_in_place() {
    let mut world = World::new(Vec::new(), Pace::InPlace);
    world.step(Step::Start);
    assert!(world.work.is_some(), "forgetting may take long");
    for step in [Step::Work, Step::Hear, Step::Done, Step::Push(2), Step::Start, Step::Done] {
        world.step(step);
    }
    assert!(world.work.is_none());
    assert_eq!((world.told, world.shelf.lock().unwrap().appends), (2, 1));
    assert!(world.journal.is_idle());
}

/// A driver that has much to end must let others on its thread go on.
#[test]
fn after_many_commits_in_place_the_next_is_left_to_a_thread() {
    let mut world = World::new(Vec::new(), Pace::InPlace);
    for step in [Step::Start, Step::Work, Step::Hear, Step::Done] {
        world.step(step);
    }
    for commit in 0..=IN_ONE_GO {
        assert!(world.work.is_none(), "{commit} commits were made in place");
        for step in [Step::Push(1), Step::Start] {
            world.step(step);
        }
    }
    assert!(world.work.is_some());
    assert_eq!(world.shelf.lock().unwrap().appends, IN_ONE_GO as usize);
}

/// It may stay in doubt, and be tried again at once, for as long as the disk is ill.
#[test]
fn what_is_in_doubt_is_not_tried_again_in_place() {
    let mut world = World::new(vec![How::FailsInDoubt], Pace::InPlace);
    for step in [Step::Start, Step::Work, Step::Hear, Step::Done, Step::Push(1), Step::Start, Step::Wait] {
        world.step(step);
    }
    assert!(world.work.is_none() && world.journal.uncertain.is_some());
    world.step(Step::Start);
    assert!(world.work.is_some());
    for step in [Step::Work, Step::Hear, Step::Done, Step::Done] {
        world.step(step);
    }
    assert_eq!(world.told, 1);
}

/// Otherwise the store's thread would end without a word, and callers that submit or shut down would wait for ever.
#[test]
fn a_store_that_panics_and_does_so_again_when_it_goes_is_lost_and_that_is_told() {
    for pace in [Pace::InPlace, Pace::Quick, Pace::Slow] {
        let mut world = World::new(vec![How::Panics], pace);
        for step in [Step::Start, Step::Work, Step::Hear, Step::Done, Step::Hear] {
            world.step(step);
        }
        world.shelf.lock().unwrap().falls_apart = true;
        for step in [Step::Push(1), Step::Start, Step::Work, Step::Hear, Step::Done] {
            world.step(step);
        }
        assert!(world.told == 1 && world.journal.is_idle(), "{pace:?}");
    }
}

/// A slow disk makes for large commits, and several drivers share one: else what is kept grows for as long as there is
/// that much to do.
#[test]
fn what_is_forgotten_keeps_up_with_what_is_written() {
    for (writers, jobs) in [(1, 900), (8, 150)] {
        let store = MemoryStore::default();
        let (policy, start) = (OperationPolicy::default(), Timestamp::from_secs(1));
        let (keep, backoff) = (Keep::default(), policy.persist().clone());
        let journal = Journal::new(Some(Box::new(store.clone())), keep, backoff, Duration::ZERO, start);
        let mut journal = journal.forgetting_for(writers);
        let limits = Limits { live: 1_000_000, ..Limits::default() };
        let mut engine = Engine::new(policy, Gate::unlimited(), limits, Seed::new(7));
        let mut number = 0;
        for round in 0..60 {
            let now = start.saturating_add(Duration::from_secs(10 * round));
            journal.look_at_clock(now);
            for writer in 0..writers {
                for _ in 0..jobs {
                    number += 1;
                    let key = Key::new(format!("order-{number}")).unwrap();
                    let id = engine.submit(key, Fingerprint::new([7; 16]), start).unwrap().id();
                    let planned = engine.operation(id).unwrap().record();
                    let mut delivered = planned.clone();
                    delivered.stage = Stage::Delivered(Outcome::Failed);
                    let entries = [planned, delivered].map(|record| Entry::new(record, Arc::from("deepvue"), now));
                    if writer > 0 {
                        store.clone().append(&entries).unwrap();
                        continue;
                    }
                    entries.into_iter().for_each(|entry| journal.push(id, RecordId(number), Some(entry)));
                }
            }
            // A piece or two: more is asked for at once.
            for _ in 0..2 {
                if let Some(Started::Work(work)) = journal.start() {
                    let mut pieces = Vec::new();
                    let last = work.run(|worked| pieces.push(worked));
                    pieces.into_iter().chain([last]).for_each(|worked| journal.worked(worked));
                }
                while journal.pop_done().is_some() {}
            }
        }
        // Forgetting is begun once a minute.
        let kept = store.clone().load().unwrap().len();
        assert!(kept <= 8 * writers * jobs, "{writers} writers: {kept} are kept");
    }
}

/// However much there is to write, it is not put off for ever; nor does it put off what is to be written for more than
/// its own turn.
#[test]
fn forgetting_takes_turns_with_commits() {
    let mut world = World::new(Vec::new(), Pace::Quick);
    let mut forgets = Vec::new();
    for _ in 0..6 {
        world.now = world.now.saturating_add(Duration::from_secs(60));
        let now = world.now;
        world.journal.look_at_clock(now);
        for step in [Step::Push(1), Step::Start] {
            world.step(step);
        }
        forgets.push(world.journal.running.as_ref().is_some_and(|running| running.forgets));
        for step in [Step::Work, Step::Hear, Step::Done] {
            world.step(step);
        }
    }
    assert_eq!(forgets, [false, true, false, true, false, true]);
}
