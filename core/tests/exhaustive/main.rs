//! Every history of small machines, up to ten events long.
//!
//! Properties draw histories by chance; here none is left out. A machine of small settings is taken through every sequence of events, and the
//! invariants are checked in every state and at every step. States that have been seen are not entered again, so the number of histories
//! covered is far larger than the number of states that is printed.

mod breaker;
mod gate;
mod limiter;

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

const DEPTH: usize = 10;

/// A machine, those who use it, and the clock.
trait World: Clone + Eq + Hash + Debug {
    type Event: Copy + Debug;

    /// Everything that can happen now.
    fn events(&self) -> Vec<Self::Event>;

    /// What follows. Panics if the step breaks an invariant.
    fn step(&self, event: Self::Event) -> Self;

    /// Panics if the state breaks an invariant.
    fn check(&self);
}

/// How many states there are within ten events of this one, all of them checked.
fn explore<W: World>(start: W) -> usize {
    let mut seen = HashSet::from([start.clone()]);
    let mut edge = vec![(start, Vec::new())];
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for (world, history) in edge {
            for event in world.events() {
                let mut history = History(history.clone());
                history.0.push(event);
                let after = world.step(event);
                if !seen.contains(&after) {
                    after.check();
                    seen.insert(after.clone());
                    next.push((after, std::mem::take(&mut history.0)));
                }
            }
        }
        edge = next;
    }
    seen.len()
}

/// Tells how it came to it when an invariant is broken.
struct History<E: Debug>(Vec<E>);

impl<E: Debug> Drop for History<E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("after {:#?}", self.0);
        }
    }
}
