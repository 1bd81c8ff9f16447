//! Commits that the store itself fails to make.

use steadfast_store::{MemoryStore, Store};

use super::commits::history;

/// Holds a store to the contract while its own commits fail, each one of a random history in turn, once and several times in a row. `open` opens one journal
/// again and again: an empty one, then with what it has. After `fail(true)` commits shall fail in whatever way can be brought about (a full disk, an I/O
/// error), or some of them; after `fail(false)` none.
///
/// After an error that is certain, nothing of the commit may be there, now or when it is opened again; after any other, all or nothing. Appended again without
/// a fault, everything is. Tells how many commits failed, for certain and not: whether there was anything to hold it to is for the caller to judge.
///
/// ```
/// use steadfast_store::MemoryStore;
/// use steadfast_testkit::journal_kit::{self, FaultyStore, StoreFault, StoreFaults};
///
/// let (kept, faults) = (MemoryStore::default(), StoreFaults::default());
/// let open = || FaultyStore::new(kept.clone(), faults.clone());
/// let [certain, uncertain] = journal_kit::check_failures(open, |fails| {
///     if fails {
///         faults.then(StoreFault::Hide);
///     }
/// });
/// assert!(certain == 0 && uncertain > 0);
/// ```
///
/// # Panics
/// The store broke it.
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
        // Whether it may be the one before, and the one after. Once it was seen it is known.
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
        // Of every other one nobody has seen anything yet: it is closed in doubt.
        drop(store);
        store = open();
        look(&mut store, &mut state, "and it was opened again");
        store.append(batch).expect("it appends when nothing fails any more");
        assert_eq!(store.load().expect("it loads"), after, "commit {nth}, appended again");
    }
    drop(store);
    assert_eq!(open().load().expect("it loads"), model.load().expect("memory does not fail"), "opened once more");
    failed
}
