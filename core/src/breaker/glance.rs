//! What threads that share a breaker need to know about it, so that most calls take no lock.
//!
//! A [`Glance`] is one word: whether calls go, and whether a good one changes anything. If all that it changes is a
//! count ([`counts_until`](Breaker::counts_until)), threads count for themselves, and hand the count in before the
//! next call of another kind ([`absorb`](Breaker::absorb)). Good calls open nothing, so no decision comes later for
//! that.

use super::{Breaker, BreakerPolicy, Health, Phase, Ticket};
use crate::time::{Stopwatch, Timestamp};

/// What can be said of a [`Breaker`] without its whole state. It holds until the breaker is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Glance {
    epoch: u32,
    admits: bool,
    quiet: bool,
}

impl Glance {
    /// As one word, and back ([`from_word`](Glance::from_word)): for an atomic.
    #[must_use]
    #[inline]
    pub const fn to_word(self) -> u64 {
        (self.epoch as u64) << 2 | (self.quiet as u64) << 1 | self.admits as u64
    }

    /// The glance that this word stands for.
    #[must_use]
    #[inline]
    pub const fn from_word(word: u64) -> Self {
        Self { epoch: (word >> 2) as u32, admits: word & 1 != 0, quiet: word & 2 != 0 }
    }

    /// What [`admit`](Breaker::admit) would give; `None` if the breaker itself must be asked.
    #[must_use]
    #[inline]
    pub const fn ticket(self, now: Timestamp) -> Option<Ticket> {
        if self.admits {
            Some(Ticket { epoch: self.epoch, began: Stopwatch::start(now), place: 0, lease: 0 })
        } else {
            None
        }
    }

    /// Whether [`settle`](Breaker::settle) would change nothing for this ticket's call, if it was no slow one.
    #[must_use]
    #[inline]
    pub const fn ignores(self, ticket: Ticket, health: Health) -> bool {
        let another_epoch = ticket.epoch != self.epoch;
        another_epoch
            || matches!(health, Health::Healthy if self.quiet)
            || matches!(health, Health::Ignored if self.admits)
    }
}

/// For threads that share it.
impl Breaker {
    /// What can be known of it at a glance: published as one word, it lets threads that share the breaker do most calls
    /// without a lock.
    #[must_use]
    pub const fn glance(&self) -> Glance {
        let disabled = matches!(self.phase, Phase::Disabled);
        let admits = disabled || matches!(self.phase, Phase::Closed);
        Glance { epoch: self.epoch, admits, quiet: disabled || self.quiet }
    }

    /// Until when good, quick calls of this epoch need only be counted, instead of each being
    /// [settled](Breaker::settle). The count must be handed in ([`absorb`](Breaker::absorb)) before any other kind of
    /// call, and before any call at a later time. For a window of calls this is [`Timestamp::NEVER`], for one of time
    /// the end of its newest slice, and [`Timestamp::EPOCH`] where each call must be settled.
    #[must_use]
    pub fn counts_until(&self) -> Timestamp {
        if let Phase::Closed = self.phase { self.memory.open_until() } else { Timestamp::EPOCH }
    }

    /// Takes in `good` good, quick calls of this epoch, all before [`counts_until`](Breaker::counts_until), as if each
    /// had been settled.
    pub fn absorb(&mut self, policy: &BreakerPolicy, good: u32) {
        if good > 0
            && let Phase::Closed = self.phase
        {
            self.memory.record_all_good(good, policy.trip_ref());
            self.look(policy);
        }
    }
}
