//! The slab: a slot for each operation, in pages.
//!
//! A page never moves, and a further one costs the same whether a thousand operations are in flight or a million. In
//! one vector the step that outgrows it would have to copy all slots: with a million of them 192 MB, while everybody
//! waits.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::lines::Place;
use crate::operation::Operation;
use crate::timers::grow;

/// Slots on a page: with fewer, the list of pages would be felt; with more, an engine of a few operations.
const PAGE: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(align(64))]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) operation: Option<Operation>,
    /// Whether it stands in the dirty list.
    pub(super) dirty: bool,
    /// Whether it counts as live.
    pub(super) live: bool,
    /// Where it waits at the gate.
    pub(super) place: Option<Place>,
}

impl Slot {
    const VACANT: Self = Self { generation: 0, operation: None, dirty: false, live: false, place: None };
}

// There may be a million of these: three cache lines each, none of them shared.
const _: () = assert!(size_of::<Slot>() == 192);

/// Pages hold vacant slots up to their end: so an index that is on a page needs no second check.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    pages: Vec<Box<[Slot; PAGE]>>,
    len: usize,
}

impl Slots {
    #[cfg(any(test, feature = "serde"))]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Slot> {
        self.pages.get(slot as usize / PAGE)?.get(slot as usize % PAGE)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.pages.get_mut(slot as usize / PAGE)?.get_mut(slot as usize % PAGE)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.pages.iter().flat_map(|page| page.iter()).take(self.len)
    }

    /// Each slot with its index.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (u32, &Slot)> {
        (0..).zip(self.iter())
    }

    /// Adds a slot, and returns its index.
    pub(super) fn push(&mut self, slot: Slot) -> u32 {
        let index = self.len;
        self.add_pages(1);
        if let Some(place) = self.pages.get_mut(index / PAGE).and_then(|page| page.get_mut(index % PAGE)) {
            *place = slot;
            self.len = self.len.saturating_add(1);
        }
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// Makes room for `more` further slots, if there is so much.
    pub(super) fn reserve(&mut self, more: usize) {
        // Asked for in one piece, and given back at once: page by page all memory would be gone before there is none.
        let mut room = Vec::<Slot>::new();
        if room.try_reserve_exact(more).is_ok() {
            drop(room);
            self.add_pages(more);
        }
    }

    /// Adds pages until there is room for `more` further slots.
    fn add_pages(&mut self, more: usize) {
        let pages = self.len.saturating_add(more).div_ceil(PAGE);
        while self.pages.len() < pages {
            grow(&mut self.pages, 1);
            // Collected, not copied from the stack, which may be smaller than a page.
            let page: Box<[Slot]> = (0..PAGE).map(|_| Slot::VACANT).collect();
            let Ok(page) = page.try_into() else { return };
            self.pages.push(page);
        }
    }
}

impl PartialEq for Slots {
    /// Pages that are reserved make no difference.
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl FromIterator<Slot> for Slots {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut it = Self::default();
        for slot in slots {
            it.push(slot);
        }
        it
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Slots {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(generation: u32) -> Slot {
        Slot { generation, ..Slot::VACANT }
    }

    #[test]
    fn a_slot_is_found_on_its_page_and_no_page_moves() {
        let count = 3 * PAGE as u32 + 1;
        let mut slots: Slots = (0..PAGE as u32).map(slot).collect();
        let first = core::ptr::from_ref(slots.get(0).unwrap());
        for generation in PAGE as u32..count {
            assert_eq!(slots.push(slot(generation)), generation);
        }
        assert_eq!(slots.len(), count as usize);
        assert!(slots.numbered().all(|(index, slot)| index == slot.generation));
        assert!((0..count).all(|index| slots.get(index).is_some_and(|slot| slot.generation == index)));
        assert!(slots.get(4 * PAGE as u32).is_none() && slots.get_mut(u32::MAX).is_none());
        assert_eq!(core::ptr::from_ref(slots.get(0).unwrap()), first);
        slots.get_mut(count - 1).unwrap().dirty = true;
        assert!(slots.iter().last().unwrap().dirty);
    }

    #[test]
    fn room_that_there_is_not_is_not_reserved() {
        for more in [usize::MAX, usize::MAX / size_of::<Slot>(), isize::MAX as usize / size_of::<Slot>()] {
            let mut slots: Slots = (0..3).map(slot).collect();
            slots.reserve(more);
            assert_eq!((slots.pages.len(), slots.push(slot(3))), (1, 3));
        }
    }

    #[test]
    fn room_that_is_reserved_is_used_and_makes_no_difference() {
        let mut slots: Slots = (0..3).map(slot).collect();
        let few = slots.clone();
        slots.reserve(2 * PAGE);
        assert_eq!((slots.pages.len(), slots.len()), (3, 3));
        assert_eq!(slots, few);
        for generation in 3..2 * PAGE as u32 + 3 {
            assert_eq!(slots.push(slot(generation)), generation);
        }
        assert_eq!(slots.pages.len(), 3, "nothing was taken for what had been reserved");
        assert_ne!(slots, few);
    }
}
