//! One store, several writers: who hears what, and in which order it is written.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use steadfast_core::operation::Record;
use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Seed, Timestamp};
use steadfast_store::{CombinedStore, Entry, MemoryStore, Store, StoreError};

/// The state number `state` of writer `writer`.
fn entry(writer: usize, state: u64) -> Entry {
    Entry::new(record(&format!("writer-{writer}")), Arc::from("model"), Timestamp::from_secs(state))
}

fn record(key: &str) -> Record {
    let (policy, mut gate) = (OperationPolicy::default(), Gate::unlimited());
    let turn = &mut policy.turn(Timestamp::from_secs(1), &mut gate);
    Operation::new(Key::new(key).unwrap(), Fingerprint::new([0; 16]), Seed::new(7), turn).record()
}

/// What a commit does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Commit {
    Works,
    Fails,
    InDoubt,
    Panics,
}

#[derive(Debug, Default)]
struct Log {
    /// Each commit's entries, and what came of it.
    commits: Vec<(Vec<(String, Timestamp)>, Commit)>,
}

/// Does as told, and notes what it was given.
struct Told {
    log: Arc<Mutex<Log>>,
    commits: Box<dyn FnMut() -> Commit + Send>,
    has_panicked: bool,
}

/// As where its own lock is poisoned.
impl Drop for Told {
    fn drop(&mut self) {
        assert!(!self.has_panicked, "the store has a bug, and cannot be dropped");
    }
}

impl Told {
    fn new(commits: impl FnMut() -> Commit + Send + 'static) -> (Self, Arc<Mutex<Log>>) {
        let log = Arc::default();
        (Self { log: Arc::clone(&log), commits: Box::new(commits), has_panicked: false }, log)
    }
}

impl Store for Told {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        let commit = (self.commits)();
        let named = |entry: &Entry| (entry.record.key.as_str().to_owned(), entry.at);
        self.log.lock().unwrap().commits.push((entries.iter().map(named).collect(), commit));
        match commit {
            Commit::Works => Ok(()),
            Commit::Fails => Err(StoreError::write(io::Error::from(io::ErrorKind::StorageFull)).advising("make room")),
            Commit::InDoubt => Err(StoreError::uncertain("input/output error")),
            Commit::Panics => {
                self.has_panicked = true;
                panic!("the store has a bug")
            }
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
}

/// As the writers heard it.
fn heard(result: thread::Result<Result<(), StoreError>>) -> Commit {
    match result {
        Ok(Ok(())) => Commit::Works,
        Ok(Err(error)) if error.is_certain() => Commit::Fails,
        Ok(Err(_)) => Commit::InDoubt,
        Err(_) => Commit::Panics,
    }
}

fn append(store: &mut CombinedStore, entries: &[Entry]) -> Commit {
    heard(catch_unwind(AssertUnwindSafe(|| store.append(entries))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Each entry is in one commit, beside the others of its append and after its writer's earlier ones, and its writer heard what came of that commit.
    #[test]
    fn every_append_is_in_one_commit_in_order_and_hears_what_came_of_that_one(
        writers in vec(vec(1_usize..4, 1..12), 1..6),
        commits in vec(prop_oneof![4 => Just(Commit::Works), 1 => Just(Commit::Fails), 1 => Just(Commit::InDoubt)].boxed(), 0..20),
    ) {
        let mut commits = commits.into_iter();
        let (told, log) = Told::new(move || {
            thread::yield_now();
            commits.next().unwrap_or(Commit::Works)
        });
        let store = CombinedStore::new(Box::new(told));
        let together = Barrier::new(writers.len());
        let results: Vec<Vec<(Vec<Timestamp>, Commit)>> = thread::scope(|scope| {
            let carry = |(writer, appends): (usize, &Vec<usize>)| {
                let (mut store, together, appends) = (store.clone(), &together, appends.clone());
                scope.spawn(move || {
                    together.wait();
                    let mut state = 0;
                    let each = appends.into_iter().map(|count| {
                        let entries: Vec<Entry> = (0..count).map(|_| { state += 1; entry(writer, state) }).collect();
                        let result = append(&mut store, &entries);
                        (entries.iter().map(|entry| entry.at).collect(), result)
                    });
                    each.collect()
                })
            };
            let spawned: Vec<_> = writers.iter().enumerate().map(carry).collect();
            spawned.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let log = log.lock().unwrap();
        let mut written: BTreeMap<&str, Vec<(Timestamp, Commit, usize)>> = BTreeMap::new();
        for (number, (entries, commit)) in log.commits.iter().enumerate() {
            for (key, at) in entries {
                written.entry(key).or_default().push((*at, *commit, number));
            }
        }
        for (writer, appends) in results.iter().enumerate() {
            let written = &written[format!("writer-{writer}").as_str()];
            let told: Vec<_> = appends.iter().flat_map(|(states, told)| states.iter().map(|at| (*at, *told))).collect();
            prop_assert_eq!(&written.iter().map(|(at, commit, _)| (*at, *commit)).collect::<Vec<_>>(), &told);
            let mut rest = written.as_slice();
            for (states, _) in appends {
                let (these, later) = rest.split_at(states.len());
                prop_assert!(these.iter().all(|(.., number)| *number == these[0].2), "torn apart");
                rest = later;
            }
        }
    }
}

/// A store in which a commit goes on until it is let go.
fn held() -> (Told, Arc<Mutex<Log>>, Receiver<()>, Sender<Commit>) {
    let ((entered, enters), (go, goes)) = (channel(), channel());
    let (told, log) = Told::new(move || {
        entered.send(()).unwrap();
        goes.recv().unwrap()
    });
    (told, log, enters, go)
}

/// Has writer 0 begin a commit, 1 to 3 queue up behind it, and the two commits end like this. What each heard.
fn meeting(first: Commit, second: Commit) -> (Vec<Commit>, Vec<usize>, CombinedStore) {
    let (told, log, enters, go) = held();
    let store = CombinedStore::new(Box::new(told));
    let heard = thread::scope(|scope| {
        let write = |writer| {
            let mut store = store.clone();
            scope.spawn(move || append(&mut store, &[entry(writer, 1)]))
        };
        let mut threads = vec![write(0)];
        enters.recv().unwrap();
        threads.extend((1..4).map(write));
        while store.waiting() < 3 {
            thread::yield_now();
        }
        go.send(first).unwrap();
        if first != Commit::Panics {
            enters.recv().unwrap();
            go.send(second).unwrap();
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sizes = log.lock().unwrap().commits.iter().map(|(entries, _)| entries.len()).collect();
    (heard, sizes, store)
}

#[test]
fn what_queued_up_while_a_commit_ran_is_one_commit() {
    let (heard, sizes, _) = meeting(Commit::Works, Commit::Works);
    assert_eq!((heard, sizes), (vec![Commit::Works; 4], vec![1, 3]));
}

#[test]
fn an_error_reaches_all_whose_entries_were_in_it_and_nobody_else() {
    for error in [Commit::Fails, Commit::InDoubt] {
        let (heard, ..) = meeting(Commit::Works, error);
        assert_eq!(heard, [Commit::Works, error, error, error]);
        let (heard, ..) = meeting(error, Commit::Works);
        assert_eq!(heard, [error, Commit::Works, Commit::Works, Commit::Works]);
    }
}

#[test]
fn an_error_that_several_hear_says_what_the_store_said() {
    let (told, _, enters, go) = held();
    let store = CombinedStore::new(Box::new(told));
    let errors: Vec<StoreError> = thread::scope(|scope| {
        let mut own = store.clone();
        let first = scope.spawn(move || own.append(&[entry(0, 1)]));
        enters.recv().unwrap();
        let write = |writer| {
            let mut store = store.clone();
            scope.spawn(move || store.append(&[entry(writer, 1)]).unwrap_err())
        };
        let others: Vec<_> = (1..3).map(write).collect();
        while store.waiting() < 2 {
            thread::yield_now();
        }
        go.send(Commit::Works).unwrap();
        enters.recv().unwrap();
        go.send(Commit::Fails).unwrap();
        first.join().unwrap().unwrap();
        others.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for error in errors {
        assert_eq!(error.to_string(), "the journal could not be written: make room");
        let cause = std::error::Error::source(&error).unwrap();
        let cause = cause.downcast_ref::<io::Error>().expect("as the store gave it");
        assert_eq!(cause.kind(), io::ErrorKind::StorageFull);
    }
}

/// Of a commit that panicked nobody knows anything; of what came later, that it was not written.
#[test]
fn a_panic_goes_on_in_all_whose_entries_were_in_it_and_others_are_refused_for_certain() {
    let (heard, _, mut store) = meeting(Commit::Works, Commit::Panics);
    assert_eq!(heard, [Commit::Works, Commit::Panics, Commit::Panics, Commit::Panics]);
    assert_eq!(append(&mut store, &[entry(9, 1)]), Commit::Fails);
    assert!(store.find(&Key::new("a").unwrap()).is_err());
    let (heard, sizes, _) = meeting(Commit::Panics, Commit::Works);
    assert_eq!(heard, [Commit::Panics, Commit::Fails, Commit::Fails, Commit::Fails]);
    assert_eq!(sizes, [1], "it is not asked again");
}

/// What it was told before may be there: that can be said neither of it nor against it.
#[test]
fn who_was_in_doubt_when_the_store_panicked_is_not_told_that_nothing_is_there() {
    let mut commits = [Commit::InDoubt, Commit::Panics].into_iter();
    let (told, log) = Told::new(move || commits.next().unwrap());
    let mut first = CombinedStore::new(Box::new(told));
    let mut second = first.clone();
    assert_eq!(append(&mut first, &[entry(0, 1)]), Commit::InDoubt);
    assert_eq!(append(&mut second, &[entry(1, 1)]), Commit::Panics);
    assert_eq!(append(&mut second.clone(), &[entry(2, 1)]), Commit::Fails);
    assert_eq!(append(&mut first, &[entry(0, 1)]), Commit::Panics);
    assert_eq!(log.lock().unwrap().commits.len(), 2);
}

/// Each of its writers tries again what nobody knew of, at its own time, beside others' entries.
#[test]
fn what_was_in_doubt_is_appended_again_by_each_and_is_there_once() {
    struct Doubtful(MemoryStore, bool);
    impl Store for Doubtful {
        fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
            self.0.append(entries)?;
            if std::mem::take(&mut self.1) { Err(StoreError::uncertain("input/output error")) } else { Ok(()) }
        }
        fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
            self.0.load()
        }
        fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
            self.0.find(key)
        }
        fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
            self.0.forget(before, most)
        }

        fn is_backup(&self) -> bool {
            self.0.is_backup()
        }

        fn take_into_use(&mut self) -> Result<(), StoreError> {
            self.0.take_into_use()
        }
    }
    let mut kept = MemoryStore::default();
    let store = CombinedStore::new(Box::new(Doubtful(kept.clone(), true)));
    let (mut first, mut second) = (store.clone(), store);
    assert_eq!(append(&mut first, &[entry(0, 1)]), Commit::InDoubt);
    assert_eq!(append(&mut second, &[entry(1, 1)]), Commit::Works);
    assert_eq!(append(&mut first, &[entry(0, 1)]), Commit::Works);
    assert_eq!(kept.load().unwrap(), [entry(0, 1), entry(1, 1)]);
}

#[test]
fn it_blocks_even_if_the_store_does_not() {
    assert!(!MemoryStore::default().blocks());
    assert!(CombinedStore::new(Box::new(MemoryStore::default())).blocks(), "it may be another's turn");
}
