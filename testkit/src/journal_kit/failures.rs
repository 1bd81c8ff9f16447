//! Commits that fail in the store itself.

use steadfast_core::Timestamp;
use steadfast_core::operation::Stage;
use steadfast_store::{Entry, MemoryStore, Store};

use super::commits::history;
use super::{READY, entry};

/// Tests a store against the contract while its own commits fail, each one of a random history in turn, once and
/// several times in a row. `open` opens the same journal again and again: empty at first, then with its contents. After
/// `fail(true)` all or some commits must fail, in any way that can be brought about (a full disk, an I/O error); after
/// `fail(false)` none.
///
/// After an error that is certain, nothing of the commit may be there, now or when the journal is opened again; after
/// any other error, all or nothing. Appending again without a fault must bring everything. The same goes for commits
/// that forget. Returns how many appends failed with certainty and how many without: the caller must judge whether
/// enough of them failed.
///
/// ```
/// use steadfast_store::MemoryStore;
/// use steadfast_testkit::journal_kit::{self, FaultyStore, StoreFault, StoreFaults};
///
/// let (kept, faults) = (MemoryStore::default(), StoreFaults::default());
/// let open = || FaultyStore::new(kept.clone(), faults.clone());
/// let fail = |fails: bool| faults.otherwise(fails.then_some(StoreFault::Hide));
/// let [certain, uncertain] = journal_kit::check_failures(open, fail);
/// assert!(certain == 0 && uncertain > 0);
/// ```
///
/// # Panics
/// The store breaks the contract.
pub fn check_failures<S: Store>(mut open: impl FnMut() -> S, mut fail: impl FnMut(bool)) -> [usize; 2] {
    let (mut failed, mut model) = ([0; 2], MemoryStore::default());
    let mut store = open();
    assert_eq!(store.load().expect("it loads"), [], "it starts empty");
    for (nth, batch) in history(9).iter().enumerate() {
        let before = model.load().expect("memory does not fail");
        model.append(batch).expect("memory does not fail");
        let after = model.load().expect("memory does not fail");
        let look = |store: &mut S, state: &mut [bool; 2], when: &str| {
            let left = store.load().expect("it loads when nothing fails any more");
            let found = [left == before, left == after];
            let is_allowed = (found[0] && state[0]) || (found[1] && state[1]);
            assert!(is_allowed, "commit {nth} failed, {when}: the state is none that it may be");
            *state = found;
        };
        // Whether the state before is possible, and the state after. Once the state was seen, only one is.
        let mut state = [true, false];
        for _ in 0..=nth % 3 {
            fail(true);
            let appended = store.append(batch);
            fail(false);
            match &appended {
                Ok(()) => state = [false, true],
                Err(error) if error.is_certain() => {
                    state = [true, false];
                    failed[0] += 1;
                }
                Err(_) => {
                    state[1] = true;
                    failed[1] += 1;
                }
            }
            if nth % 2 == 0 {
                look(&mut store, &mut state, "and was looked for");
            }
            if appended.is_ok() {
                break;
            }
        }
        // Every other one is closed unread, and so in doubt.
        drop(store);
        store = open();
        look(&mut store, &mut state, "and it was opened again");
        store.append(batch).expect("it appends when nothing fails any more");
        assert_eq!(store.load().expect("it loads"), after, "commit {nth}, appended again");
    }
    drop(store);
    assert_eq!(open().load().expect("it loads"), model.load().expect("memory does not fail"), "opened once more");
    forgets(&mut open, &mut fail);
    failed
}

/// Forgetting is a commit as well: what it does not report as gone is there, and what is gone stays gone.
fn forgets<S: Store>(open: &mut impl FnMut() -> S, fail: &mut impl FnMut(bool)) {
    let over: Vec<Entry> = (100..108).map(|number| entry(number, Stage::Delivered(READY), number)).collect();
    open().append(&over).expect("it appends when nothing fails any more");
    // Settled operations of the history are older, and go first.
    let until = |number: u64| Timestamp::from_secs(number + 1);
    open().forget(until(99), usize::MAX).expect("it forgets when nothing fails any more");
    for entry in &over {
        let number = entry.at.as_nanos() / 1_000_000_000;
        let mut store = open();
        let before = store.load().expect("it loads");
        fail(true);
        let forgot = store.forget(until(number), 10);
        fail(false);
        // As above: some are closed in doubt.
        if number % 2 == 0 {
            drop(store);
            store = open();
        }
        let (here, what) = (store.load().expect("it loads when nothing fails any more"), &entry.record.key);
        let is_gone = !here.contains(entry);
        match &forgot {
            Ok(count) => assert!(is_gone && *count == 1, "{what:?}: {count} are said to be forgotten, gone: {is_gone}"),
            Err(error) => {
                let certain = error.is_certain();
                assert!(!(certain && is_gone), "{what:?}: its error is certain: {certain}, gone: {is_gone}");
            }
        }
        assert_eq!(here.len() + usize::from(is_gone), before.len(), "{what:?}: another is gone");
        drop(store);
        store = open();
        assert_eq!(store.load().expect("it loads"), here, "{what:?}: opened again after it was to be forgotten");
        let again = store.forget(until(number), 10).expect("it forgets when nothing fails any more");
        assert_eq!(again, usize::from(!is_gone), "{what:?}: forgotten once");
    }
}
