//! The order in which operations wait at the gate: a line for each kind of request, first come, first served.
//!
//! Operations that wait in line are not woken to ask again and again. When the gate can have changed, the engine calls
//! the first ones for as long as the gate lets them go; so after an outage they leave one by one, as fast as the rate
//! limits say. Each kind has a line of its own, since a limit of one kind must not hold up another.
//!
//! Of polls and look-ups that may go, the one that has waited longest goes first. **They take turns with creates**: one
//! of them goes before a create that has waited longer, then that create goes. And one whose job has used up a third of
//! its time goes before every create. For where there are more creates than the limits let through, for minutes, their
//! line is long, and a poll that had to stand behind them all, or to take turns with them too often, would come after
//! its deadline. Each request that leaves would then be a create, spent on a job that ends before anybody has looked at
//! it. So what has begun is finished first; creates wait, and nothing has run for those that wait in vain.

use alloc::collections::VecDeque;
use core::num::NonZeroU64;

use super::Engine;
use crate::breaker::BreakerState;
use crate::gate::{Admission, Blocked, Gate, Kinds, Request};
use crate::operation::{Kind, Operation};
use crate::time::Timestamp;

impl Engine {
    /// Puts an operation in the line it belongs in, if it stands in another or in none.
    pub(super) fn stand_in_line(&mut self, index: u32, place: Option<Place>, blocked: Option<Kind>) {
        let joined = blocked.map(|kind| self.lines.join(kind, index));
        if let Some(slot) = self.slots.get_mut(index) {
            slot.place = joined;
        }
        if let Some(left) = place {
            let slots = &self.slots;
            self.lines.leave(left, |slot, place| slots.get(slot).is_some_and(|it| it.place == Some(place)));
        }
    }

    /// Lets those who wait at the gate go, in their order, as far as the gate allows now.
    #[inline(always)]
    pub(super) fn call_lines(&mut self, now: Timestamp) {
        self.lines_wake = Timestamp::NEVER;
        if !self.lines.are_empty() {
            self.call_those_who_stand(now);
        }
    }

    fn call_those_who_stand(&mut self, now: Timestamp) {
        self.refuse_those_who_wait(now);
        // Each call takes somebody out of line, or closes a line for this time; so this ends.
        let mut open = Kinds::ALL;
        while let Some((kind, slot, overtakes)) = self.next_to_call(&mut open, now) {
            self.step(slot, now, Operation::called);
            if self.lines.first(kind).map(|(_, first)| first) == Some(slot) {
                // It could not go after all: not at once again.
                self.lines_wake = self.lines_wake.min(now.saturating_add(Gate::RECHECK));
                open = open.without(kind);
            } else if self.slots.get(slot).and_then(|it| it.operation.as_ref()?.has_leave_for()) == Some(kind) {
                self.lines.has_gone(kind, overtakes);
            }
        }
    }

    /// If the gate fails fast, operations that stood in line when the breaker opened are refused as well, except those
    /// that may be running: they stay, and are not looked at again, however many they are and however often the line
    /// is called.
    fn refuse_those_who_wait(&mut self, now: Timestamp) {
        if self.lines.next_to_refuse().is_none() {
            return;
        }
        let Some(Admission::Refuse(_)) = self.gate.check(Request::first(Kind::Create), now) else { return };
        // Each is looked at once, and nobody joins by being refused; so this ends.
        while let Some((place, slot)) = self.lines.next_to_refuse() {
            self.lines.refused_up_to(place);
            let standing = self.slots.get(slot).filter(|slot| slot.place == Some(place));
            if standing.and_then(|slot| slot.operation.as_ref()).is_some_and(Operation::may_be_refused) {
                self.step(slot, now, Operation::knock);
            }
        }
    }

    /// The operation to call: of those that are first in their lines and may go, the one whose turn it is; and whether a
    /// create that could go has waited longer. Closes the lines whose first may not go.
    fn next_to_call(&mut self, open: &mut Kinds, now: Timestamp) -> Option<(Kind, u32, bool)> {
        // A poll or a look-up only reads, so it is the better probe of an upstream that may still be ill.
        let probing = self.gate.breaker_state(now) == BreakerState::HalfOpen;
        let mut next: Option<(u64, Kind, u32)> = None;
        let mut overtakes = false;
        for kind in [Kind::Poll, Kind::Lookup, Kind::Create] {
            let Some((number, slot)) = self.lines.first(kind).filter(|_| open.contains(kind)) else { continue };
            let request = self.slots.get(slot).and_then(|slot| slot.operation.as_ref()?.blocked());
            match request.and_then(|request| self.gate.check(request, now)) {
                Some(Admission::Wait(no) | Admission::Refuse(no)) if no.why != Blocked::Budget => {
                    self.lines_wake = self.lines_wake.min(no.until);
                    *open = open.without(kind);
                }
                _ => {
                    let is_earlier = next.is_none_or(|(earliest, ..)| !probing && number < earliest);
                    let is_pressed = next.is_some_and(|(_, _, slot)| self.is_pressed(slot, now));
                    overtakes =
                        kind == Kind::Create && is_earlier && next.is_some() && (is_pressed || !self.lines.overtaken);
                    if is_earlier && !overtakes {
                        next = Some((number, kind, slot));
                    }
                }
            }
        }
        next.map(|(_, kind, slot)| (kind, slot, overtakes))
    }

    /// Whether a third of the time that its poll or look-up has is over.
    fn is_pressed(&self, slot: u32, now: Timestamp) -> bool {
        let operation = self.slots.get(slot).and_then(|it| it.operation.as_ref());
        operation.is_some_and(|it| it.is_pressed(&self.policy, now))
    }

    /// When the first in line is to be called again.
    pub(super) fn next_called(&self) -> Option<Timestamp> {
        self.lines_wake.deadline()
    }
}

/// A place in a line; each is given out once. In eight bytes, since each operation has room for one: the kind is in the
/// lowest two bits, and never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(from = "Written", into = "Written"))]
pub(super) struct Place(NonZeroU64);

/// A place as it is stored.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Written {
    kind: Kind,
    number: u64,
}

#[cfg(feature = "serde")]
impl From<Written> for Place {
    fn from(it: Written) -> Self {
        Self::new(it.kind, it.number)
    }
}

#[cfg(feature = "serde")]
impl From<Place> for Written {
    fn from(place: Place) -> Self {
        Self { kind: place.kind(), number: place.number() }
    }
}

impl Place {
    /// No line has come so far: at a million joins a second it would take 36,000 years.
    #[cfg(feature = "serde")]
    const LAST: u64 = 1 << 60;

    const fn new(kind: Kind, number: u64) -> Self {
        let code = match kind {
            Kind::Create => NonZeroU64::MIN,
            Kind::Lookup => NonZeroU64::MIN.saturating_add(1),
            Kind::Poll => NonZeroU64::MIN.saturating_add(2),
        };
        Self(code.saturating_add(number.saturating_mul(4)))
    }

    pub(super) const fn kind(self) -> Kind {
        match self.0.get() % 4 {
            1 => Kind::Create,
            2 => Kind::Lookup,
            _ => Kind::Poll,
        }
    }

    const fn number(self) -> u64 {
        self.0.get() / 4
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Lines {
    lines: [Line; 3],
    joined: u64,
    /// Creates that stand in line up to this place may be running: the gate does not refuse them while they stand
    /// there.
    #[cfg_attr(feature = "serde", serde(default))]
    refused: u64,
    /// A poll or a look-up has gone before a create that had waited longer, and no create has gone since.
    #[cfg_attr(feature = "serde", serde(default))]
    overtaken: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Line {
    /// Place and slot, the first in line first. Places that were left stay until they come first, or until they are
    /// half of all.
    waiting: VecDeque<(u64, u32)>,
    left: usize,
}

impl Lines {
    /// The first of this line has gone; `overtakes`: before a create that had waited longer.
    const fn has_gone(&mut self, kind: Kind, overtakes: bool) {
        self.overtaken = overtakes || (self.overtaken && !matches!(kind, Kind::Create));
    }

    pub(super) fn join(&mut self, kind: Kind, slot: u32) -> Place {
        self.joined = self.joined.saturating_add(1);
        if let Some(line) = self.lines.get_mut(kind as usize) {
            line.waiting.push_back((self.joined, slot));
        }
        Place::new(kind, self.joined)
    }

    /// Whether nobody stands in any of them.
    #[inline]
    fn are_empty(&self) -> bool {
        self.lines.iter().all(|line| line.waiting.is_empty())
    }

    /// Gives up a place. `stands` tells whether a slot still has a place.
    pub(super) fn leave(&mut self, place: Place, stands: impl Fn(u32, Place) -> bool) {
        let kind = place.kind();
        let Some(line) = self.lines.get_mut(kind as usize) else { return };
        line.left = line.left.saturating_add(1);
        while let Some((number, slot)) = line.waiting.front().copied()
            && !stands(slot, Place::new(kind, number))
        {
            line.waiting.pop_front();
            line.left = line.left.saturating_sub(1);
        }
        if line.left.saturating_mul(2) > line.waiting.len() {
            line.waiting.retain(|(number, slot)| stands(*slot, Place::new(kind, *number)));
            line.left = 0;
        }
    }

    /// How many stand in the lines, if they are consistent: places in their order, and the first of each line does
    /// stand there.
    #[cfg(feature = "serde")]
    pub(super) fn standing(&self, place_of: impl Fn(u32) -> Option<Place>) -> Option<usize> {
        if self.joined > Place::LAST || self.refused > self.joined {
            return None;
        }
        let mut standing = 0_usize;
        for (kind, line) in [Kind::Create, Kind::Lookup, Kind::Poll].into_iter().zip(&self.lines) {
            let stands = |(number, slot): &(u64, u32)| place_of(*slot) == Some(Place::new(kind, *number));
            let here = line.waiting.iter().filter(|entry| stands(entry)).count();
            let sound = line.waiting.iter().is_sorted_by(|(a, _), (b, _)| a < b)
                && line.waiting.back().is_none_or(|(last, _)| *last <= self.joined)
                && line.waiting.front().is_none_or(stands)
                && here.saturating_add(line.left) == line.waiting.len();
            if !sound {
                return None;
            }
            standing = standing.saturating_add(here);
        }
        Some(standing)
    }

    /// The first create in line that may be refused: it is not known that it may be running. Or one that has left the
    /// line.
    fn next_to_refuse(&self) -> Option<(Place, u32)> {
        let waiting = &self.lines.get(Kind::Create as usize)?.waiting;
        // As a rule all have been looked at, or none.
        waiting.back().filter(|(last, _)| *last > self.refused)?;
        let next = waiting.partition_point(|(number, _)| *number <= self.refused);
        waiting.get(next).map(|(number, slot)| (Place::new(Kind::Create, *number), *slot))
    }

    const fn refused_up_to(&mut self, place: Place) {
        self.refused = place.number();
    }

    /// The place and the slot that are first in line.
    pub(super) fn first(&self, kind: Kind) -> Option<(u64, u32)> {
        self.lines.get(kind as usize)?.waiting.front().copied()
    }

    /// The kinds of requests for which others than this slot come first.
    #[inline]
    pub(super) fn ahead_of(&self, slot: u32) -> Kinds {
        let mut kinds = Kinds::NONE;
        if self.are_empty() {
            return kinds;
        }
        for kind in [Kind::Create, Kind::Lookup, Kind::Poll] {
            if self.first(kind).is_some_and(|(_, first)| first != slot) {
                kinds = kinds.with(kind);
            }
        }
        kinds
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const KINDS: [Kind; 3] = [Kind::Create, Kind::Lookup, Kind::Poll];

    proptest! {
        /// Against the obvious model: a map from place to slot for each kind.
        #[test]
        fn whoever_has_waited_longest_is_first_and_places_left_never_outnumber_those_who_stand(
            steps in prop::collection::vec((0_u32..12, prop::option::of(0_usize..3)), 0..200)
        ) {
            let mut lines = Lines::default();
            let mut places: BTreeMap<u32, Place> = BTreeMap::new();
            for (slot, join) in steps {
                // As the engine does it: whoever changes lines has joined the new one before leaving the old.
                let joined = join.map(|kind| lines.join(KINDS[kind], slot));
                let left = match joined {
                    Some(place) => places.insert(slot, place),
                    None => places.remove(&slot),
                };
                if let Some(left) = left {
                    lines.leave(left, |slot, place| places.get(&slot) == Some(&place));
                }
                for kind in KINDS {
                    let mut standing: Vec<(u64, u32)> =
                        places.iter().filter(|(_, it)| it.kind() == kind).map(|(slot, it)| (it.number(), *slot)).collect();
                    standing.sort_unstable();
                    prop_assert_eq!(lines.first(kind), standing.first().copied());
                    let waiting = &lines.lines[kind as usize].waiting;
                    prop_assert!(waiting.len() <= 2 * standing.len(), "I15");
                    prop_assert!(standing.iter().all(|it| waiting.contains(it)));
                    for slot in places.keys() {
                        let behind = standing.first().is_some_and(|(_, first)| first != slot);
                        prop_assert_eq!(lines.ahead_of(*slot).contains(kind), behind);
                    }
                }
            }
        }
    }

    /// Or each event would walk along all who wait in doubt.
    #[test]
    fn whoever_stands_for_a_create_is_looked_at_once() {
        let mut lines = Lines::default();
        let look = |lines: &mut Lines| -> Vec<u32> {
            let mut seen = Vec::new();
            while let Some((place, slot)) = lines.next_to_refuse() {
                lines.refused_up_to(place);
                seen.push(slot);
            }
            seen
        };
        for slot in 0..5 {
            lines.join(Kind::Create, slot);
            lines.join(Kind::Poll, 10 + slot);
        }
        assert_eq!(look(&mut lines), [0, 1, 2, 3, 4]);
        assert!(look(&mut lines).is_empty());
        let again = lines.join(Kind::Create, 3);
        assert_eq!(lines.next_to_refuse(), Some((again, 3)), "another place, another turn");
        assert_eq!(look(&mut lines), [3]);
    }
}
