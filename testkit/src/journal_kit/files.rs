//! A store's files, damaged in every way that fits into a test.

use std::fmt::{Debug, Display};
use std::path::Path;

use steadfast_core::Timestamp;
use steadfast_core::operation::Stage;
use steadfast_store::{Entry, Store};

use super::images::{FILE, Image, Scratch};
use super::{READY, answer, any_entry, entry, live};

/// How much is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing beyond every")]
pub enum Depth {
    /// Up to so many places of each file and kind of damage, evenly spread.
    Sample(usize),
    /// Every byte and every bit.
    Every,
}

impl Depth {
    /// Which of so many places.
    fn of(self, places: usize) -> impl Iterator<Item = usize> {
        let most = match self {
            Self::Sample(most) => most,
            Self::Every => usize::MAX,
        };
        // Not by a power of two: bits of all weights and bytes of all fields have their turn.
        let step = match places.div_ceil(most.max(1)) {
            0 | 1 => 1,
            step => step | 1,
        };
        (0..places).step_by(step)
    }
}

/// Runs [`check`](super::check), then damages the files of a store, and holds it to *the right state or an error*. `open` opens the journal at
/// a path, making it if there is none; whatever else it puts into that directory is damaged as well. While one is open, `open` must refuse a second one on the same path, and
/// leave the first undisturbed; once that is dropped, it must open again.
///
/// # Panics
/// The store showed another state, panicked, refused what it must take, or took what it must refuse.
pub fn check_files<S: Store, E: Display + Debug>(depth: Depth, open: impl Fn(&Path) -> Result<S, E>) {
    let kit = Kit { depth, open: &open, scratch: Scratch::new() };
    super::check(|| {
        kit.scratch.lay_out(&Image::default());
        kit.open()
    });
    let cases: [(&str, Case<'_, S, E>); 10] = [
        ("what was appended survives closing", Kit::survives_closing),
        ("what was appended survives a crash", Kit::survives_a_crash),
        ("a second opener is refused", Kit::second_opener),
        ("an append that was torn is there or not", Kit::torn_append),
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

struct Kit<'a, S, E> {
    depth: Depth,
    open: &'a dyn Fn(&Path) -> Result<S, E>,
    scratch: Scratch,
}

/// Batches of a small journal; the last one is the tail.
fn history() -> Vec<Vec<Entry>> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut batches: Vec<Vec<Entry>> =
        (0..6).map(|at| (0..3).map(|_| any_entry(&mut random, 8, at)).collect()).collect();
    batches.push(vec![entry(1, Stage::Ended(READY), 10).with_answer(answer(1)), entry(20, Stage::InFlight, 10)]);
    batches
}

/// A journal's files at three moments, and what it held.
struct Life {
    /// The tail was not appended yet.
    before: (Image, Vec<Entry>),
    /// It was, and the process was killed.
    crashed: Image,
    /// It was, and the store closed.
    closed: Image,
    state: Vec<Entry>,
}

impl<S: Store, E: Display + Debug> Kit<'_, S, E> {
    fn open(&self) -> S {
        (self.open)(&self.scratch.journal()).expect("it opens")
    }

    fn live(&self) -> Life {
        self.scratch.lay_out(&Image::default());
        let mut store = self.open();
        let batches = history();
        let (tail, head) = batches.split_last().expect("a history");
        for batch in head {
            store.append(batch).expect("it appends");
        }
        let before = (self.scratch.image(), store.load().expect("it loads"));
        store.append(tail).expect("it appends");
        let (crashed, state) = (self.scratch.image(), store.load().expect("it loads"));
        drop(store);
        Life { before, crashed, closed: self.scratch.image(), state }
    }

    /// What an image holds; `None` if the store says that it cannot tell. `what` is said of it if it is wrong.
    fn read(&self, image: &Image, what: impl Display) -> Option<Vec<Entry>> {
        self.scratch.lay_out(image);
        let mut store = (self.open)(&self.scratch.journal()).ok()?;
        // First, as a client does: nothing was verified yet.
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

    /// The same, and once more after the store went on with it: damage that was not met yet must not spread.
    fn read_and_go_on(&self, image: &Image, state: &[Entry], what: impl Display) -> Option<Vec<Entry>> {
        let loaded = self.read(image, &what)?;
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
        Some(loaded)
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
        assert_eq!(self.read_and_go_on(&life.crashed, &life.state, "after a crash"), Some(life.state.clone()));
        assert_eq!(self.read_and_go_on(&life.closed, &life.state, "closed"), Some(life.state));
    }

    fn second_opener(&self) {
        self.scratch.lay_out(&Image::default());
        let mut first = self.open();
        first.append(&[entry(1, Stage::Planned, 1)]).expect("it appends");
        let refused = (self.open)(&self.scratch.journal());
        assert!(refused.is_err(), "two stores have one journal");
        first.append(&[entry(2, Stage::Planned, 1)]).expect("the first is not disturbed");
        drop(first);
        assert_eq!(self.open().load().expect("it loads").len(), 2);
    }

    fn torn_append(&self) {
        let life = self.live();
        let (before, state_before) = &life.before;
        for (name, after) in &life.crashed.files {
            let length = before.files.get(name).map_or(0, Vec::len);
            let Some(grown) = after.len().checked_sub(length) else { continue };
            for cut in self.depth.of(grown) {
                let image = before.with(name, |bytes| bytes.clone_from(&after[..length + cut].to_vec()));
                let what = format!("{name} torn {cut} bytes into an append");
                let read = self.read(&image, &what);
                // Nobody was told that it is there, and nothing that was told is gone: this must open.
                let state = read.unwrap_or_else(|| panic!("{what}: refused"));
                assert!(state == *state_before || state == life.state, "{what}: another state");
            }
        }
    }

    fn lost_tail(&self) {
        let life = self.live();
        for image in [&life.crashed, &life.closed] {
            for (name, bytes) in &image.files {
                let tail = bytes.len().min(20_000);
                for cut in self.depth.of(tail) {
                    let cut = bytes.len() - 1 - cut;
                    let image = image.with(name, |bytes| bytes.truncate(cut));
                    self.right_or_refused(&image, &life.state, format_args!("{name} cut to {cut} bytes"));
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
                    // With nothing of it left there is nothing to be told.
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
        self.flip_bits(&life.closed, &life.state);
    }

    fn flipped_crashed(&self) {
        let life = self.live();
        self.flip_bits(&life.crashed, &life.state);
    }

    fn flip_bits(&self, image: &Image, state: &[Entry]) {
        for (name, bytes) in &image.files {
            let (mut right, mut refused) = (0, 0);
            for place in self.depth.of(bytes.len() * 8) {
                let image = image.with(name, |bytes| bytes[place / 8] ^= 1 << (place % 8));
                let what = format!("{name} with bit {place} flipped");
                match self.right_or_refused(&image, state, &what) {
                    true => right += 1,
                    false => refused += 1,
                }
                if place % 5 == 0 {
                    self.read_and_go_on(&image, state, &what);
                }
            }
            eprintln!("  {name}: {right} right, {refused} refused");
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
            self.right_or_refused(&damaged, &life.state, &what);
            self.read_and_go_on(&damaged, &life.state, &what);
        }
    }
}
