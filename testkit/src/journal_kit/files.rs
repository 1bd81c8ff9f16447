//! Damages a store's files in every way that fits into a test.

use std::fmt::{Debug, Display};
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use steadfast_core::Timestamp;
use steadfast_core::operation::Stage;
use steadfast_store::{Entry, Store};

use super::images::{FILE, Image, Scratch};
use super::{READY, answer, any_entry, commits, entry, live};

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing beyond every")]
pub enum Depth {
    /// At most this many places of each file and kind of damage, evenly spread.
    Sample(usize),
    /// Every byte and every bit of a very small journal, of two commits: as much as an ordinary test can afford. Where
    /// the files have the same bytes after a crash as after closing, each bit is flipped after closing, and every 17th
    /// after the crash.
    Small,
    /// Every byte and every bit of one of seven commits. Takes minutes.
    Every,
}

impl Depth {
    /// Which of this many places to try.
    fn of(self, places: usize) -> impl Iterator<Item = usize> {
        let most = match self {
            Self::Sample(most) => most,
            Self::Small | Self::Every => usize::MAX,
        };
        // Not a power of two, so that bits of all weights and bytes of all fields are tried.
        let step = match places.div_ceil(most.max(1)) {
            0 | 1 => 1,
            step => step | 1,
        };
        (0..places).step_by(step)
    }
}

/// Runs [`check`](super::check), then damages the files of a store, and checks that it shows *the right state or an
/// error*. `open` opens the journal at a path, creating it if there is none; all other files that it puts into that
/// directory are damaged as well. While one is open, `open` must refuse a second one on the same path, and leave the
/// first undisturbed; once the first is dropped, it must open again. Two threads open at a time, in two directories.
///
/// # Panics
/// The store shows another state, panics, refuses what it must accept, or accepts what it must refuse.
pub fn check_files<S: Store, E: Display + Debug>(depth: Depth, open: impl Fn(&Path) -> Result<S, E> + Sync) {
    let kit = Kit { depth, open: &open, scratch: Scratch::new() };
    super::check(|| {
        kit.scratch.lay_out(&Image::default());
        kit.open()
    });
    let cases: [(&str, Case<'_, S, E>); 14] = [
        ("what was appended survives closing", Kit::survives_closing),
        ("what was appended survives a crash", Kit::survives_a_crash),
        ("what is on the disk is what was told, whatever commits went wrong", Kit::commits_go_wrong),
        ("a second opener is refused", Kit::second_opener),
        ("who was overtaken changes nothing: its files were replaced", Kit::replaced),
        ("who was overtaken changes nothing: another wrote into its files", Kit::written_over),
        ("what was moved away takes no more", Kit::moved_away),
        ("an append that was torn is there or not, and what forgets is done or not", Kit::torn_tail),
        ("a tail that is gone is missed", Kit::lost_tail),
        ("what is behind the end does no harm", Kit::garbage),
        ("a missing, emptied or older file is missed", Kit::exchanged),
        ("a flipped bit in a closed journal changes nothing silently", Kit::flipped_closed),
        ("a flipped bit after a crash changes nothing silently", Kit::flipped_crashed),
        ("a hundred damaged files change nothing silently", Kit::random_damage),
    ];
    for (name, case) in cases {
        eprintln!("journal kit, files: {name}");
        case(&kit);
    }
}

type Case<'a, S, E> = fn(&Kit<'a, S, E>);

pub(super) struct Kit<'a, S, E> {
    depth: Depth,
    pub(super) open: &'a (dyn Fn(&Path) -> Result<S, E> + Sync),
    pub(super) scratch: Scratch,
}

/// Batches of a journal; the last one is the tail.
fn history(depth: Depth) -> Vec<Vec<Entry>> {
    let tail = vec![entry(1, Stage::Ended(READY), 10).with_answer(answer(1)), entry(20, Stage::InFlight, 10)];
    if depth == Depth::Small {
        let head = [entry(1, Stage::Accepted, 1).with_payload("who"), entry(2, Stage::Delivered(READY), 2)];
        return vec![head.to_vec(), tail];
    }
    let mut random = fastrand::Rng::with_seed(3);
    let mut batches: Vec<Vec<Entry>> =
        (0..6).map(|at| (0..3).map(|_| any_entry(&mut random, 8, at)).collect()).collect();
    batches.push(tail);
    batches
}

/// A journal's files at three moments, and its contents.
struct Life {
    /// Before its tail was written.
    before: (Image, Vec<Entry>),
    /// With the tail, after the process was killed.
    crashed: Image,
    /// With the tail, after the store was closed.
    closed: Image,
    state: Vec<Entry>,
}

impl<S: Store, E: Display + Debug> Kit<'_, S, E> {
    pub(super) fn open(&self) -> S {
        (self.open)(&self.scratch.journal()).expect("it opens")
    }

    fn live(&self) -> Life {
        let batches = history(self.depth);
        let (tail, head) = batches.split_last().expect("a history");
        self.live_to(head, |store| store.append(tail).expect("it appends"))
    }

    /// A life whose tail removes something: that must not come back either.
    fn forget(&self) -> Life {
        let head = [entry(1, Stage::Delivered(READY), 1).with_answer(answer(1)), entry(2, Stage::InFlight, 2)];
        self.live_to(&[head.to_vec()], |store| {
            assert_eq!(store.forget(Timestamp::from_secs(2), 10).expect("it forgets"), 1);
        })
    }

    fn live_to(&self, head: &[Vec<Entry>], tail: impl FnOnce(&mut S)) -> Life {
        self.scratch.lay_out(&Image::default());
        let mut store = self.open();
        for batch in head {
            store.append(batch).expect("it appends");
        }
        let before = (self.scratch.image(), store.load().expect("it loads"));
        tail(&mut store);
        let (crashed, state) = (self.scratch.image(), store.load().expect("it loads"));
        drop(store);
        Life { before, crashed, closed: self.scratch.image(), state }
    }

    /// The contents of an image; `None` if the store reports an error. `what` is for the panic message if they are
    /// wrong.
    pub(super) fn read(&self, image: &Image, what: impl Display) -> Option<Vec<Entry>> {
        self.scratch.lay_out(image);
        let mut store = (self.open)(&self.scratch.journal()).ok()?;
        // Called first, as a client does, while nothing is verified yet.
        let live_only = store.load_live();
        let loaded = store.load();
        assert!(
            live_only.is_ok() == loaded.is_ok(),
            "{what}: what is live and the whole are not refused alike: {:?} and {:?}",
            live_only.err(),
            loaded.err()
        );
        let (live_only, loaded) = (live_only.ok()?, loaded.ok()?);
        assert!(live_only == live(&loaded), "{what}: what is live is not what is live of the whole");
        for entry in &loaded {
            let found = store.find(&entry.record.key).ok()?;
            assert_eq!(found.as_ref(), Some(entry), "{what}: a loaded key is found");
        }
        Some(loaded)
    }

    /// Reads the state again after the store has gone on with it: damage that was not noticed yet must not spread.
    fn go_on(&self, state: &[Entry], what: impl Display) -> Option<()> {
        let mut store = (self.open)(&self.scratch.journal()).ok()?;
        let more = [entry(1, Stage::Delivered(READY), 20), entry(30, Stage::Planned, 20).with_payload("x".repeat(500))];
        store.append(&more).ok()?;
        store.forget(Timestamp::from_secs(15), 2).ok()?;
        drop(store);
        let went_on = (self.open)(&self.scratch.journal()).ok()?.load().ok()?;
        let old =
            |entry: &&Entry| went_on.contains(entry) || entry.is_delivered() || entry.record.key == more[0].record.key;
        assert!(state.iter().all(|entry| old(&entry)), "{what}: an operation was lost later on");
        assert!(
            more.iter().all(|entry| went_on.iter().any(|it| it.record == entry.record)),
            "{what}: an entry was lost"
        );
        Some(())
    }

    /// Tries these places on two threads, half of them in another directory. Returns for how many `is_right` was true,
    /// and for how many not.
    fn each(&self, places: impl Iterator<Item = usize>, is_right: impl Fn(&Self, usize) -> bool + Sync) -> [usize; 2] {
        let places: Vec<usize> = places.collect();
        let (some, others) = places.split_at(places.len() / 2);
        let right = |kit: &Self, places: &[usize]| places.iter().filter(|place| is_right(kit, **place)).count();
        let (depth, open) = (self.depth, self.open);
        let right = thread::scope(|scope| {
            let there = scope.spawn(|| right(&Self { depth, open, scratch: Scratch::new() }, others));
            right(self, some) + there.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        [right, places.len() - right]
    }

    /// The rule.
    fn right_or_refused(&self, image: &Image, state: &[Entry], what: impl Display) -> bool {
        let read = self.read(image, &what);
        if let Some(read) = &read {
            assert!(
                read == state,
                "{what}: silently another state, {} instead of {} operations",
                read.len(),
                state.len()
            );
        }
        read.is_some()
    }

    fn survives_closing(&self) {
        let life = self.live();
        assert_eq!(self.read(&life.closed, "closed"), Some(life.state));
    }

    fn survives_a_crash(&self) {
        let life = self.live();
        assert_eq!(self.read(&life.before.0, "before its end"), Some(life.before.1));
        for (image, what) in [(&life.crashed, "after a crash"), (&life.closed, "closed")] {
            assert_eq!(self.read(image, what).as_ref(), Some(&life.state));
            assert_eq!(self.go_on(&life.state, what), Some(()), "{what}: it does not go on");
        }
    }

    /// With faults, and with crashes at each of them: the files on disk at that moment are laid out elsewhere and
    /// opened.
    fn commits_go_wrong(&self) {
        let aside = Scratch::new();
        for (name, case) in commits::all() {
            eprintln!("journal kit, files: {name}");
            let mut fresh = || {
                self.scratch.lay_out(&Image::default());
                self.open()
            };
            case(&mut fresh, &|| {
                aside.lay_out(&self.scratch.image());
                Some((self.open)(&aside.journal()).expect("it opens").load().expect("it loads"))
            });
        }
    }

    fn torn_tail(&self) {
        for (life, tail) in [(self.live(), "an append"), (self.forget(), "what forgets")] {
            let (before, state_before) = &life.before;
            for (name, after) in &life.crashed.files {
                let length = before.files.get(name).map_or(0, Vec::len);
                let Some(grown) = after.len().checked_sub(length) else { continue };
                self.each(self.depth.of(grown), |kit, cut| {
                    let image = before.with(name, |bytes| bytes.clone_from(&after[..length + cut].to_vec()));
                    let what = format!("{name} torn {cut} bytes into {tail}");
                    let read = kit.read(&image, &what);
                    // The commit was not acknowledged, and nothing that was is gone: this must open.
                    let state = read.unwrap_or_else(|| panic!("{what}: refused"));
                    assert!(state == *state_before || state == life.state, "{what}: another state");
                    state == life.state
                });
            }
        }
    }

    fn lost_tail(&self) {
        for life in [self.live(), self.forget()] {
            for image in [&life.crashed, &life.closed] {
                for (name, bytes) in &image.files {
                    let tail = bytes.len().min(20_000);
                    self.each(self.depth.of(tail), |kit, cut| {
                        let cut = bytes.len() - 1 - cut;
                        let image = image.with(name, |bytes| bytes.truncate(cut));
                        kit.right_or_refused(&image, &life.state, format_args!("{name} cut to {cut} bytes"))
                    });
                }
            }
        }
    }

    fn garbage(&self) {
        let life = self.live();
        let mut random = fastrand::Rng::with_seed(5);
        for image in [&life.crashed, &life.closed] {
            for name in image.files.keys() {
                let image = image.with(name, |bytes| bytes.extend((0..4096).map(|_| random.u8(..))));
                self.right_or_refused(&image, &life.state, format_args!("{name} with 4 KiB behind its end"));
            }
        }
    }

    fn exchanged(&self) {
        let life = self.live();
        let others = [("missing", None), ("emptied", Some(vec![]))];
        for image in [&life.crashed, &life.closed] {
            for name in image.files.keys() {
                let older = ("older", life.before.0.files.get(name).cloned());
                for (what, bytes) in others.clone().into_iter().chain([older]) {
                    let image = match bytes {
                        Some(older) => image.with(name, |bytes| *bytes = older),
                        None => image.without(name),
                    };
                    // If no file is left, nothing can be noticed.
                    if !image.files.is_empty() {
                        self.right_or_refused(&image, &life.state, format_args!("{name} {what}"));
                    }
                }
            }
        }
        assert!(life.closed.files.contains_key(FILE));
    }

    fn flipped_closed(&self) {
        let life = self.live();
        self.flip_bits(&life.closed, &life.state, |_, _| false);
    }

    fn flipped_crashed(&self) {
        let life = self.live();
        self.flip_bits(&life.crashed, &life.state, |name, place| {
            let byte = |image: &Image| image.files.get(name).and_then(|bytes| bytes.get(place / 8)).copied();
            self.depth == Depth::Small && place % 17 != 0 && byte(&life.closed) == byte(&life.crashed)
        });
    }

    fn flip_bits(&self, image: &Image, state: &[Entry], is_done: impl Fn(&str, usize) -> bool) {
        for (name, bytes) in &image.files {
            let places = self.depth.of(bytes.len() * 8).filter(|place| !is_done(name, *place));
            let [right, refused] = self.each(places, |kit, place| {
                let image = image.with(name, |bytes| bytes[place / 8] ^= 1 << (place % 8));
                let what = format!("{name} with bit {place} flipped");
                let is_right = kit.right_or_refused(&image, state, &what);
                if is_right && place % 5 == 0 {
                    kit.go_on(state, &what);
                }
                is_right
            });
            eprintln!("  {name}, {} bytes: {right} bits right, {refused} refused", bytes.len());
        }
    }

    fn random_damage(&self) {
        let life = self.live();
        let mut random = fastrand::Rng::with_seed(11);
        for number in 0..100 {
            let image = if number % 2 == 0 { &life.crashed } else { &life.closed };
            let names: Vec<&String> = image.files.keys().collect();
            let name = names[random.usize(0..names.len())];
            let damaged = image.with(name, |bytes| {
                for _ in 0..random.usize(1..20) {
                    let at = random.usize(0..bytes.len());
                    bytes[at] = random.u8(..);
                }
            });
            let what = format!("damaged file {number}, {name}");
            if self.right_or_refused(&damaged, &life.state, &what) {
                self.go_on(&life.state, &what);
            }
        }
    }
}
