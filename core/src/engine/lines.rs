//! Who waits at the gate, in which order: a line for each kind of request, first come, first served.
//!
//! Operations that wait in line are not woken to ask again and again. When the gate can have changed, the engine calls the first of each line for
//! as long as the gate lets them go; so after an outage they leave one by one, as fast as the rate limits say, and nobody is passed by.

use alloc::collections::VecDeque;

use crate::gate::Kinds;
use crate::operation::Kind;

/// The lines are called in this order: a poll or a look-up only reads, so it is the better probe of an upstream that may still be ill.
pub(super) const ORDER: [Kind; 3] = [Kind::Poll, Kind::Lookup, Kind::Create];

/// A place in a line; each is given out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) kind: Kind,
    number: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Lines {
    lines: [Line; 3],
    joined: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Line {
    /// Place and slot, the first in line first. Places that were left stay until they come first, or until they are half of all.
    waiting: VecDeque<(u64, u32)>,
    left: usize,
}

impl Lines {
    pub(super) fn join(&mut self, kind: Kind, slot: u32) -> Place {
        self.joined = self.joined.saturating_add(1);
        if let Some(line) = self.lines.get_mut(kind as usize) {
            line.waiting.push_back((self.joined, slot));
        }
        Place { kind, number: self.joined }
    }

    /// Gives up a place. `stands` tells whether a slot still has a place.
    pub(super) fn leave(&mut self, place: Place, stands: impl Fn(u32, Place) -> bool) {
        let kind = place.kind;
        let Some(line) = self.lines.get_mut(kind as usize) else { return };
        line.left = line.left.saturating_add(1);
        while let Some((number, slot)) = line.waiting.front().copied()
            && !stands(slot, Place { kind, number })
        {
            line.waiting.pop_front();
            line.left = line.left.saturating_sub(1);
        }
        if line.left.saturating_mul(2) > line.waiting.len() {
            line.waiting.retain(|(number, slot)| stands(*slot, Place { kind, number: *number }));
            line.left = 0;
        }
    }

    /// The slot that is first in line.
    pub(super) fn first(&self, kind: Kind) -> Option<u32> {
        Some(self.lines.get(kind as usize)?.waiting.front()?.1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.waiting.is_empty())
    }

    /// The kinds of requests for which others than this slot come first.
    pub(super) fn ahead_of(&self, slot: u32) -> Kinds {
        let mut kinds = Kinds::NONE;
        for kind in ORDER {
            if self.first(kind).is_some_and(|first| first != slot) {
                kinds = kinds.with(kind);
            }
        }
        kinds
    }
}
