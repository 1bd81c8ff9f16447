//! Places of a rate limiter, taken in lots.
//!
//! Threads that take each place from one shared word spend most of their time waiting for it. A [`Lease`] takes a lot
//! of places at once and hands them out to its owner one by one.
//!
//! Places that lie in leases could be let go beside a whole burst. So the shared burst is smaller by all that leases
//! can hold: what they hold, and what is free to be taken, together never exceed the burst. Every step keeps that sum
//! or lowers it, and only time raises it, at the pace. So in any span of time no more leave than the pace allows plus
//! the burst (I10), whatever threads do, and however long a lease keeps what it has: leases cost burst, not pace, and
//! never expire.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::rate_limiter::{Limited, RateLimiter};

/// How many leases a limiter gives, and how many places each holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "plain settings")]
pub struct Leases {
    /// The most places in a lease; 0 counts as 1.
    pub size: u32,
    /// The most leases at a time: as many as there are threads that take places.
    pub most: u32,
}

impl Leases {
    /// How many places all leases can hold together.
    pub(super) const fn places(self) -> u32 {
        self.size.saturating_mul(self.most)
    }
}

/// Places of a [`RateLimiter`] for one thread or task, taken in lots. See [`RateLimiter::lease`].
///
/// Taking a place from it writes nothing that is shared, and reads no clock, except for one in [`size`](Leases::size)
/// of them. When it is dropped, it gives back what it holds.
pub struct Lease {
    limiter: RateLimiter,
    held: u32,
}

/// The leases of a limiter that are not given out.
pub(super) struct Free {
    pub(super) leases: Leases,
    left: AtomicU32,
}

impl Free {
    pub(super) const fn new(leases: Leases) -> Self {
        Self { leases, left: AtomicU32::new(leases.most) }
    }
}

impl Lease {
    pub(super) fn of(limiter: &RateLimiter) -> Option<Self> {
        // Acquires what the lease that was given back did before: it held nothing any more.
        let one_less = |left: u32| left.checked_sub(1);
        let taken = limiter.free()?.left.fetch_update(Ordering::Acquire, Ordering::Relaxed, one_less);
        taken.ok().map(|_| Self { limiter: limiter.clone(), held: 0 })
    }

    /// Takes a place now, or says when there is one.
    ///
    /// # Errors
    /// No place is free; nothing was taken.
    #[inline]
    pub fn try_acquire(&mut self) -> Result<(), Limited> {
        match self.held.checked_sub(1) {
            Some(held) => self.held = held,
            None => self.refill()?,
        }
        Ok(())
    }

    /// Takes a lot, and the first place of it.
    #[inline(never)]
    fn refill(&mut self) -> Result<(), Limited> {
        let size = self.limiter.free().map_or(1, |free| free.leases.size);
        self.held = self.limiter.try_acquire_up_to(size)?.saturating_sub(1);
        Ok(())
    }

    /// How many places it holds.
    #[must_use]
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// Gives back what it holds, for others to take: call it before its owner does something else for a time.
    pub fn give_back(&mut self) {
        if self.held > 0 {
            self.limiter.give_back(self.held);
            self.held = 0;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.give_back();
        if let Some(free) = self.limiter.free() {
            // After the places, or they would be held beside those of the next lease.
            free.left.fetch_add(1, Ordering::Release);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("held", &self.held).finish_non_exhaustive()
    }
}
