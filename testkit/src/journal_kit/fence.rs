//! Checks who may write: one store at a time, and none that was overtaken.
//!
//! [`Store`] has no fence of its own, such as a number that grows with each opener: each store must find out itself
//! that it was overtaken. A store in memory cannot be overtaken, since its clones are the same journal, and nobody can
//! put another in its place; one on files can, if another process removes, restores or writes them.

use std::fmt::{Debug, Display};
use std::path::Path;

use steadfast_core::Timestamp;
use steadfast_core::operation::Stage;
use steadfast_store::{Entry, Store};

use super::files::Kit;
use super::images::{Image, Scratch};
use super::{READY, entry};

fn ours() -> [Entry; 2] {
    [entry(1, Stage::InFlight, 1), entry(2, Stage::Delivered(READY), 1)]
}

fn theirs() -> [Entry; 2] {
    [entry(1, Stage::Accepted, 2), entry(3, Stage::InFlight, 2)]
}

fn late() -> [Entry; 2] {
    [entry(1, Stage::Unknown, 3), entry(4, Stage::InFlight, 3)]
}

/// Checks that the store reports an error, again and again: an `Ok` would be for records that nobody finds, or that
/// overwrite another's.
fn is_refused(old: &mut dyn Store, what: &str) {
    for _ in 0..2 {
        assert!(old.append(&late()).is_err(), "{what}: who was overtaken has appended");
        assert!(old.forget(Timestamp::NEVER, 10).is_err(), "{what}: who was overtaken has forgotten");
    }
}

/// Tests a store's fence: `overtake` makes another store the journal's owner, and returns it; after that, a commit of
/// `old` must be an error and change nothing in the new one. [`check_files`](super::check_files) does this with files
/// that are removed, put back from a copy and written over. This is for everything else that lets another store in: a
/// lease that expired, a lock that was lost. `old` starts empty.
///
/// ```
/// use steadfast_store::SqliteStore;
/// use steadfast_testkit::journal_kit;
///
/// # let path = std::env::temp_dir().join(format!("steadfast-fence-{}", std::process::id()));
/// # let remove = || ["", "-wal", "-mark"].map(|suffix| std::fs::remove_file(format!("{}{suffix}", path.display())));
/// let old = SqliteStore::open(&path)?;
/// journal_kit::check_fence(old, || {
///     remove(); // its files, and another begins anew
///     SqliteStore::open(&path).expect("it opens")
/// });
/// # remove();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Panics
/// The old store can still write.
pub fn check_fence<S: Store, T: Store>(old: S, overtake: impl FnOnce() -> T) {
    overtaken(old, "overtaken", overtake);
}

/// The same. Returns the contents of the new store in the end.
fn overtaken<S: Store, T: Store>(mut old: S, what: &str, overtake: impl FnOnce() -> T) -> Vec<Entry> {
    old.append(&ours()).expect("it appends");
    let mut new = overtake();
    new.append(&theirs()).expect("the new one appends");
    let mut held = new.load().expect("it loads");
    is_refused(&mut old, what);
    assert_eq!(new.load().expect("it loads"), held, "{what}: who was overtaken has changed something");
    drop(old);
    let more = entry(5, Stage::Planned, 4);
    new.append(std::slice::from_ref(&more)).expect("the new one goes on");
    held.push(more);
    assert_eq!(
        new.load().expect("it loads"),
        held,
        "{what}: who was overtaken has changed something when it was closed"
    );
    held
}

/// Tests that a store that keeps files admits one process at a time. `elsewhere` has another process open the journal
/// at a path, append [`entry`]`(2, Stage::Planned, 2)` if it is let in, and be killed or exit without closing it; it
/// returns whether it was let in.
///
/// ```no_run
/// use std::process::Command;
///
/// use steadfast_store::SqliteStore;
/// use steadfast_testkit::journal_kit;
///
/// let elsewhere = |path: &std::path::Path| {
///     // A program of yours, which exits with 0 if it was let in.
///     Command::new("opens-and-appends").arg(path).status().expect("it runs").success()
/// };
/// journal_kit::check_processes(|path| SqliteStore::open(path), elsewhere);
/// ```
///
/// # Panics
/// Two processes have one journal, or a process that is gone still keeps others out.
pub fn check_processes<S: Store, E: Display + Debug>(
    open: impl Fn(&Path) -> Result<S, E>,
    mut elsewhere: impl FnMut(&Path) -> bool,
) {
    let scratch = Scratch::new();
    let path = scratch.journal();
    let planned = [1, 3, 2].map(|number| entry(number, Stage::Planned, number));
    let mut first = open(&path).expect("it opens");
    first.append(&planned[..1]).expect("it appends");
    assert!(!elsewhere(&path), "two processes have one journal");
    first.append(&planned[1..2]).expect("the first is not disturbed");
    drop(first);
    assert!(elsewhere(&path), "another process is not let in when the first has closed it");
    let mut again = open(&path).expect("who is gone keeps nobody out");
    assert_eq!(again.load().expect("it loads"), planned);
}

const WRITES: &str = "written over";
const FORGETS: &str = "written over by who forgets";

impl<S: Store, E: Display + Debug> Kit<'_, S, E> {
    pub(super) fn second_opener(&self) {
        self.scratch.lay_out(&Image::default());
        let mut first = self.open();
        first.append(&[entry(1, Stage::Planned, 1)]).expect("it appends");
        let refused = (self.open)(&self.scratch.journal());
        assert!(refused.is_err(), "two stores have one journal");
        first.append(&[entry(2, Stage::Planned, 1)]).expect("the first is not disturbed");
        drop(first);
        assert_eq!(self.open().load().expect("it loads").len(), 2);
    }

    /// The files are removed and another store begins anew at the same path; or they are put back from a copy, and
    /// another continues from that.
    pub(super) fn replaced(&self) {
        for (what, is_copied) in [("removed and begun anew", false), ("put back from a copy", true)] {
            self.scratch.lay_out(&Image::default());
            let held = overtaken(self.open(), what, || {
                let image = if is_copied { self.scratch.image() } else { Image::default() };
                self.scratch.lay_out(&image);
                self.open()
            });
            assert_eq!(self.open().load().expect("it loads"), held, "{what}");
        }
    }

    /// The lock is lost, and another process writes into the same files: one that goes on, one that has closed them,
    /// one that has only forgotten something, and one that puts an older copy back.
    pub(super) fn written_over(&self) {
        let kinds = [WRITES, "written over and closed", FORGETS, "written over with an older copy"];
        // If it is closed at once, it has not looked at the files since.
        for (what, is_closed_at_once) in kinds.into_iter().flat_map(|what| [(what, false), (what, true)]) {
            self.scratch.lay_out(&Image::default());
            let mut old = self.open();
            old.append(&ours()).expect("it appends");
            let copy = self.scratch.image();
            let (image, state) = if what == "written over with an older copy" {
                old.append(&theirs()).expect("it appends");
                (copy, ours().to_vec())
            } else {
                self.taken_over(&copy, what)
            };
            self.scratch.write_over(&image);
            if !is_closed_at_once {
                is_refused(&mut old, what);
                assert!(self.scratch.image() == image, "{what}: who was overtaken has written");
            }
            drop(old);
            assert!(self.scratch.image() == image, "{what}: who was overtaken has tidied up");
            assert_eq!(self.read(&image, what), Some(state));
        }
    }

    /// What another store makes of a journal, and what it then holds.
    fn taken_over(&self, image: &Image, what: &str) -> (Image, Vec<Entry>) {
        let elsewhere = Scratch::new();
        elsewhere.lay_out(image);
        let mut new = (self.open)(&elsewhere.journal()).expect("a copy opens");
        if what == FORGETS {
            assert_eq!(new.forget(Timestamp::NEVER, 10).expect("it forgets"), 1);
        } else {
            new.append(&theirs()).expect("it appends");
        }
        let state = new.load().expect("it loads");
        let living = elsewhere.image();
        drop(new);
        (if [WRITES, FORGETS].contains(&what) { living } else { elsewhere.image() }, state)
    }

    /// Records appended now would never be found.
    pub(super) fn moved_away(&self) {
        self.scratch.lay_out(&Image::default());
        let mut old = self.open();
        old.append(&ours()).expect("it appends");
        let aside = Scratch::new();
        self.scratch.move_to(&aside);
        is_refused(&mut old, "moved away");
        drop(old);
        assert!(self.scratch.image() == Image::default(), "something is where the journal was");
        assert_eq!((self.open)(&aside.journal()).expect("it opens").load().expect("it loads"), ours());
    }
}
