//! Every history of small machines, up to a number of events.
//!
//! Properties draw histories by chance; here none is left out. A machine of small settings is taken through every
//! sequence of events, and the invariants are checked in every state and at every step. States that have been seen are
//! not entered again, so the number of histories covered is far larger than the number of states that is printed.

mod breaker;
mod gate;
mod limiter;
mod operation;

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

/// How many events a history of one of the gate's machines has.
const DEPTH: usize = 10;
/// How many events may pass until the end once nothing fails any more.
const HEALED_WITHIN: usize = 40;

/// A machine, those who use it, and the clock.
trait World: Clone + Hash + Debug {
    type Event: Copy + Debug;

    /// Everything that can happen now.
    fn events(&self) -> Vec<Self::Event>;

    /// What follows. Panics if the step breaks an invariant.
    fn step(&self, event: Self::Event) -> Self;

    /// Panics if the state breaks an invariant.
    fn check(&self);

    /// The next event once nothing fails any more, the other side answering or silent; none when the end is reached.
    fn heal(&self, _answering: bool) -> Option<Self::Event> {
        None
    }
}

/// How many states there are within `depth` events of this one, all of them checked. The shortest histories come first.
/// From the last of them an end is reached.
fn explore<W: World>(start: W, depth: usize) -> usize {
    explore_and_look(start, depth, |_| ())
}

/// The same, and looks at each state, those on the way to an end included.
fn explore_and_look<W: World>(start: W, depth: usize, mut look: impl FnMut(&W)) -> usize {
    let mut seen = HashSet::from([fingerprint(&start)]);
    let mut history = History { steps: Vec::new(), now: None };
    let mut edge = vec![(start, None)];
    for left in (0..depth).rev() {
        let mut next = Vec::new();
        for (world, at) in edge {
            for event in world.events() {
                history.now = Some((at, event));
                let after = world.step(event);
                if !seen.insert(fingerprint(&after)) {
                    continue;
                }
                after.check();
                look(&after);
                let known = history.steps.len();
                history.steps.push((at, event));
                if left > 0 {
                    next.push((after, Some(known)));
                    continue;
                }
                for answering in [true, false] {
                    check_end(after.clone(), known, answering, &mut history, &mut look);
                }
                history.steps.truncate(known);
            }
        }
        edge = next;
    }
    seen.len()
}

fn check_end<W: World>(
    mut world: W,
    mut at: usize,
    answering: bool,
    history: &mut History<W::Event>,
    look: &mut impl FnMut(&W),
) {
    let known = history.steps.len();
    while let Some(event) = world.heal(answering) {
        history.now = Some((Some(at), event));
        assert!(history.steps.len() < known + HEALED_WITHIN, "it does not end");
        world = world.step(event);
        world.check();
        look(&world);
        history.steps.push((Some(at), event));
        at = history.steps.len() - 1;
    }
    history.steps.truncate(known);
}

/// Stands for a state that has been seen, so that millions of them have room: 128 bits, which no two of so few share.
fn fingerprint(world: &impl Hash) -> [u64; 2] {
    let mut bytes = Bytes(Vec::with_capacity(1_024));
    world.hash(&mut bytes);
    [0, 1].map(|salt| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(&bytes.0);
        hasher.finish()
    })
}

/// All that is hashed of a state, in one piece: without optimisation a hasher is slow with many small ones.
struct Bytes(Vec<u8>);

impl Hasher for Bytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

/// What led to each state: the event, and the place of what led to the state before. Tells it when an invariant is
/// broken.
struct History<E: Copy + Debug> {
    steps: Vec<(Option<usize>, E)>,
    now: Option<(Option<usize>, E)>,
}

impl<E: Copy + Debug> Drop for History<E> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut events = Vec::new();
        let mut step = self.now;
        while let Some((before, event)) = step {
            events.push(event);
            step = before.map(|at| self.steps[at]);
        }
        events.reverse();
        println!("after {events:#?}");
    }
}
