//! Each commit of a random history fails in turn, in each way, or takes its time: checks what is there then, what a
//! crash would leave, and that appending again brings everything.

use std::thread;

use steadfast_core::operation::Stage;
use steadfast_store::{CombinedStore, Entry, MemoryStore, Store};

use super::{FaultyStore, StoreFault, StoreFaults, any_entry_of, entry, live};

/// What a crash would leave of the last opened journal; `None` if that cannot be told.
pub(super) type Crashed<'a> = dyn Fn() -> Option<Vec<Entry>> + 'a;

type Case<S> = fn(&mut dyn FnMut() -> S, &Crashed<'_>);

pub(super) fn all<S: Store>() -> [(&'static str, Case<S>); 2] {
    [
        ("each commit in turn goes wrong, in each way", each_goes_wrong),
        ("each commit in turn is held, while others read and wait", each_is_held),
    ]
}

const COMMITS: usize = 6;

/// Batches as clients write them: each key once in a batch, since its next record waits for the outcome of the one
/// before; and no payload for an ended operation.
pub(super) fn history(seed: u64) -> Vec<Vec<Entry>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let batch = |at: usize| {
        let numbers = random.choose_multiple(0..8, 2 + at % 3);
        let mut entry = |number| {
            let mut entry = any_entry_of(&mut random, number, at as u64);
            if entry.has_ended() {
                entry.payload = None;
            }
            entry
        };
        numbers.into_iter().map(&mut entry).collect()
    };
    (0..COMMITS).map(batch).collect()
}

fn shows(store: &mut dyn Store, expected: &[Entry], crashed: &Crashed<'_>, what: &str) {
    assert_eq!(store.load().expect("it loads"), expected, "{what}");
    assert_eq!(store.load_live().expect("it loads what is live"), live(expected), "{what}");
    if let Some(left) = crashed() {
        assert_eq!(left, expected, "{what}, after a crash");
    }
}

fn each_goes_wrong<S: Store>(open: &mut dyn FnMut() -> S, crashed: &Crashed<'_>) {
    let faults = [StoreFault::Fail, StoreFault::Lose, StoreFault::Hide, StoreFault::Tear];
    for (nth, fault) in (0..COMMITS).flat_map(|nth| faults.map(|fault| (nth, fault))) {
        for tries in 1..3 {
            goes_wrong(open(), crashed, nth, fault, tries);
        }
    }
}

fn goes_wrong<S: Store>(store: S, crashed: &Crashed<'_>, nth: usize, fault: StoreFault, tries: usize) {
    let what = format!("commit {nth} of the history: {fault:?}, {tries} times");
    let (plan, mut model) = (StoreFaults::default(), MemoryStore::default());
    let mut store = FaultyStore::new(store, plan.clone());
    for (at, batch) in history(nth as u64).iter().enumerate() {
        if at == nth {
            let left = match fault {
                StoreFault::Hide => &batch[..],
                StoreFault::Tear => &batch[..batch.len() / 2],
                _ => &[],
            };
            model.append(left).expect("memory does not fail");
            let expected = model.load().expect("memory does not fail");
            for _ in 0..tries {
                plan.then(fault);
                let error = store.append(batch).expect_err("it was told to fail");
                assert_eq!(error.is_certain(), fault == StoreFault::Fail, "{what}");
                shows(&mut store, &expected, crashed, &what);
            }
            // Meanwhile another writer goes on.
            let others = [entry(20, Stage::Planned, 1)];
            store.append(&others).expect("it appends another's");
            model.append(&others).expect("memory does not fail");
        }
        store.append(batch).unwrap_or_else(|error| panic!("{what}: it does not append again: {error}"));
        model.append(batch).expect("memory does not fail");
    }
    let expected = model.load().expect("memory does not fail");
    shows(&mut store, &expected, crashed, &what);
    drop(store);
    if let Some(closed) = crashed() {
        assert_eq!(closed, expected, "{what}, closed");
    }
}

fn each_is_held<S: Store>(open: &mut dyn FnMut() -> S, crashed: &Crashed<'_>) {
    for nth in 0..COMMITS {
        let (plan, mut model) = (StoreFaults::default(), MemoryStore::default());
        let mut store = CombinedStore::new(Box::new(FaultyStore::new(open(), plan.clone())));
        for (at, batch) in history(nth as u64).iter().enumerate() {
            if at == nth {
                let before = model.load().expect("memory does not fail");
                let others = [entry(20, Stage::Planned, 1)];
                held(&store, &plan, batch, &others, &|| {
                    assert!(
                        crashed().is_none_or(|left| left == before),
                        "commit {nth} was held, and something is there"
                    );
                });
                model.append(batch).expect("memory does not fail");
                model.append(&others).expect("memory does not fail");
            } else {
                store.append(batch).expect("it appends");
                model.append(batch).expect("memory does not fail");
            }
        }
        let expected = model.load().expect("memory does not fail");
        shows(&mut store, &expected, crashed, "after a commit that was held");
    }
}

/// Releases held calls even if a check panics, since threads would wait for them otherwise.
struct Releases<'a>(&'a StoreFaults);

impl Drop for Releases<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// One writer appends and is held; meanwhile another has something to append, and a third something to read. `look` is
/// called while all wait.
fn held(store: &CombinedStore, plan: &StoreFaults, batch: &[Entry], others: &[Entry], look: &dyn Fn()) {
    let [mut first, mut second, mut third] = [(); 3].map(|()| store.clone());
    let asked = &batch.last().expect("a batch of some").record;
    plan.then(StoreFault::Hold);
    thread::scope(|scope| {
        let _releases = Releases(plan);
        let first = scope.spawn(move || first.append(batch));
        while plan.held() == 0 && !first.is_finished() {
            thread::yield_now();
        }
        let second = scope.spawn(move || second.append(others));
        let third = scope.spawn(move || third.find(&asked.key));
        while store.waiting() == 0 && !second.is_finished() {
            thread::yield_now();
        }
        look();
        assert!(!first.is_finished() && !second.is_finished() && !third.is_finished(), "somebody did not wait");
        plan.release();
        first.join().expect("no panic").expect("it was held, and appends");
        second.join().expect("no panic").expect("it waited, and appends");
        let found = third.join().expect("no panic").expect("it waited, and finds");
        assert_eq!(found.map(|entry| entry.record).as_ref(), Some(asked), "it waited for this commit");
    });
}
