//! Who waits at the gate, in which order: a line for each kind of request, first come, first served.
//!
//! Operations that wait in line are not woken to ask again and again. When the gate can have changed, the engine calls the first of each line for
//! as long as the gate lets them go; so after an outage they leave one by one, as fast as the rate limits say, and nobody is passed by.

use alloc::collections::VecDeque;

use super::Engine;
use crate::gate::{Admission, Blocked, Gate, Kinds};
use crate::operation::{Kind, Operation};
use crate::time::Timestamp;

/// The lines are called in this order: a poll or a look-up only reads, so it is the better probe of an upstream that may still be ill.
const ORDER: [Kind; 3] = [Kind::Poll, Kind::Lookup, Kind::Create];

impl Engine {
    /// Puts an operation in the line it belongs in.
    pub(super) fn stand_in_line(&mut self, index: u32, place: Option<Place>, blocked: Option<Kind>) {
        if place.map(|place| place.kind) == blocked {
            return;
        }
        let joined = blocked.map(|kind| self.lines.join(kind, index));
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.place = joined;
        }
        if let Some(left) = place {
            let slots = &self.slots;
            self.lines.leave(left, |slot, place| slots.get(slot as usize).is_some_and(|it| it.place == Some(place)));
        }
    }

    /// Lets those who wait at the gate go, in their order, as far as the gate allows now.
    pub(super) fn call_lines(&mut self, now: Timestamp) {
        self.lines_wake = Timestamp::NEVER;
        if self.lines.is_empty() {
            return;
        }
        for kind in ORDER {
            while let Some(first) = self.lines.first(kind) {
                let ask = self.slots.get(first as usize).and_then(|slot| slot.operation.as_ref()?.blocked());
                let said = ask.and_then(|ask| self.gate.check(ask, now));
                if let Some(Admission::Wait(no) | Admission::Refuse(no)) = said
                    && no.why != Blocked::Budget
                {
                    self.lines_wake = self.lines_wake.min(no.until);
                    break;
                }
                self.step(first, now, Operation::knock);
                if self.lines.first(kind) == Some(first) {
                    // It could not go after all: not at once again.
                    self.lines_wake = self.lines_wake.min(now.saturating_add(Gate::RECHECK));
                    break;
                }
            }
        }
    }

    /// When the first in line is to be called again.
    pub(super) fn next_called(&self) -> Option<Timestamp> {
        self.lines_wake.deadline()
    }
}

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
