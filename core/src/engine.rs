//! Many operations at one upstream: timers, one execution per key, journal before send.
//!
//! The [`Engine`] is driven like an [`Operation`] and adds what many need together. It finds operations by key, so that
//! a second submit joins the first; it bounds how many are taken in; it knows whose deadline is next; and it numbers
//! records across all operations, so that one acknowledgement covers a whole batch (group commit).
//!
//! ```text
//! submit ─→ ┌────────────────────────────────┐ ─→ pop_effect   (operation, effect)
//! handle ─→ │ slab of operations             │ ─→ pop_notice   (operation, notice)
//! handle_   │ keys → slot    timers → slot   │ ─→ next_deadline
//! timeout ─→│ dirty list     records asked   │
//!           └────────────────────────────────┘
//! ```
//!
//! A record's number is drawn when its effect is popped. So numbers rise in the order in which the driver learns of
//! records, and the acknowledgement of one covers exactly what was popped before it.
//!
//! An operation that has ended, was delivered and is on disk is *finished*: it no longer counts as live. Its key is
//! kept, so that a repeated submit gets the same outcome, until it is older than [`Limits::remember_for`] or there are
//! more than [`Limits::remember`]. A *rejected* one is forgotten at once: nothing ran, so its key is free.
//!
//! # Group commit
//!
//! Pop everything, write all records at once, acknowledge the last number, and pop again: what waited for its record is
//! owed now.
//!
//! ```
//! # use steadfast_core::engine::{Event, Limits};
//! # use steadfast_core::operation::Effect;
//! # use steadfast_core::{Engine, Fingerprint, Gate, Key, OperationPolicy, Seed, Timestamp};
//! # let now = Timestamp::from_secs(1_700_000_000);
//! # let mut engine = Engine::new(OperationPolicy::default(), Gate::unlimited(), Limits::default(), Seed::new(7));
//! # for order in 0..3 {
//! #     let _ = engine.submit(Key::new(format!("order-{order}"))?, Fingerprint::new([0; 16]), now)?;
//! # }
//! # let (mut disk, mut performed) = (Vec::new(), Vec::new());
//! loop {
//!     let (mut batch, mut last) = (Vec::new(), None);
//!     while let Some((id, effect)) = engine.pop_effect() {
//!         match effect {
//!             Effect::Persist(number) => {
//!                 batch.extend(engine.operation(id).map(|operation| operation.record())); // as it is now
//!                 last = Some(number);
//!             }
//!             effect => performed.push((id, effect)), // what it rests on is durable already
//!         }
//!     }
//!     let Some(last) = last else { break }; // and sleep
//!     disk.append(&mut batch); // one commit; only once it is durable:
//!     engine.handle(Event::Persisted(last), now);
//! }
//! assert_eq!((disk.len(), performed.len()), (3, 3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! If a commit certainly failed, feed a [`PersistFailed`](Event::PersistFailed). If nobody knows whether it did, feed
//! nothing until somebody does: see there.
//!
//! Invariants: at most one create in flight per key (I3); nothing sent before its record is durable (I5); memory
//! bounded by [`Limits`] (I15); each drain ends and the next deadline is later than `now` (I18).

mod event;
mod intake;
mod keys;
mod lines;
mod notices;
mod records;
mod slots;
#[cfg(feature = "serde")]
mod snapshot;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

pub use self::event::Event;
pub use self::intake::{Limits, RestoreError, SubmitError, Submitted};
use self::keys::{Keys, seed_of};
use self::lines::Lines;
use self::records::Asked;
use self::slots::Slots;
#[cfg(feature = "snapshot")]
pub use self::snapshot::{SNAPSHOT_VERSION, SnapshotError};
use crate::gate::Gate;
use crate::key::Key;
use crate::notice::{Notice, Notices, Told, Wake, WakeReason};
use crate::operation::{self, Effect, Kind, Operation, OperationPolicy, Outcome, RecordId, Turn};
use crate::seed::Seed;
use crate::time::Timestamp;
use crate::timers::Timers;

/// Names one operation of one engine. Generational: the id of a forgotten operation never names its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OperationId {
    slot: u32,
    generation: u32,
}

impl OperationId {
    /// The number of its slot in the engine: the index for a table that a driver keeps beside it. It is smaller than
    /// the most operations that the engine has held at once, and names one operation at a time. The next one in that
    /// slot has another id, so keep the id in the table as well, and compare.
    ///
    /// ```
    /// # use steadfast_core::engine::Limits;
    /// # use steadfast_core::{Engine, Fingerprint, Gate, Key, OperationPolicy, Seed, Timestamp};
    /// # let mut engine = Engine::new(OperationPolicy::default(), Gate::unlimited(), Limits::default(), Seed::new(7));
    /// let id = engine.submit(Key::new("order-42")?, Fingerprint::new([0; 16]), Timestamp::from_secs(1_700_000_000))?.id();
    /// assert_eq!(id.slot(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn slot(self) -> u32 {
        self.slot
    }
}

/// Many operations at one upstream. See the [module](self) for how it is driven, and for [group
/// commit](self#group-commit).
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "snapshot::Stored"))]
pub struct Engine {
    policy: OperationPolicy,
    gate: Gate,
    limits: Limits,
    seed: Seed,
    slots: Slots,
    free: Vec<u32>,
    #[cfg_attr(feature = "serde", serde(skip))]
    keys: Keys,
    #[cfg_attr(feature = "serde", serde(skip))]
    timers: Timers,
    /// Operations that wait at the gate.
    lines: Lines,
    /// When to ask the gate for the first of them again.
    lines_wake: Timestamp,
    /// Operations that owe effects.
    dirty: VecDeque<u32>,
    /// Records popped and not acknowledged, by number.
    asked: VecDeque<Asked>,
    last_record: RecordId,
    /// Finished operations, oldest first.
    finished: VecDeque<(Timestamp, OperationId)>,
    #[cfg_attr(feature = "serde", serde(skip))]
    notices: VecDeque<(OperationId, Notice)>,
    notices_dropped: u64,
    /// What the step under way tells.
    #[cfg_attr(feature = "serde", serde(skip))]
    told: Told,
    /// Nobody observes: no notice is made.
    #[cfg_attr(feature = "serde", serde(skip))]
    unobserved: bool,
    live: u32,
    seen: Timestamp,
    /// The generation of a slot that was never used.
    #[cfg_attr(feature = "serde", serde(skip))]
    first_generation: u32,
}

impl Engine {
    /// An engine without operations. Draw the seed at random, except for tests and replays: whoever knows it can
    /// choose keys that are slow to find. See [`restore`](Engine::restore) for what else depends on it.
    #[must_use]
    pub fn new(policy: OperationPolicy, gate: Gate, limits: Limits, seed: Seed) -> Self {
        Self {
            policy,
            gate,
            limits,
            seed,
            slots: Slots::default(),
            free: Vec::new(),
            keys: Keys::default(),
            timers: Timers::default(),
            lines: Lines::default(),
            lines_wake: Timestamp::NEVER,
            dirty: VecDeque::new(),
            asked: VecDeque::new(),
            last_record: RecordId(0),
            finished: VecDeque::new(),
            notices: VecDeque::new(),
            notices_dropped: 0,
            told: Told::NOTHING,
            unobserved: false,
            live: 0,
            seen: Timestamp::EPOCH,
            first_generation: 0,
        }
    }

    /// Makes operations' ids begin with this generation instead of 0. For a client with several engines: none of their
    /// operations share an id, until a slot has been reused as often as the first generations differ. Not part of a
    /// snapshot.
    #[must_use]
    pub const fn with_first_generation(mut self, generation: u32) -> Self {
        self.first_generation = generation;
        self
    }
}

/// Feed.
impl Engine {
    /// Takes in what happened. Never fails: what does not fit is absorbed and becomes a [`Notice`].
    pub fn handle(&mut self, event: Event, now: Timestamp) {
        let now = self.look_at_clock(now);
        // What is one operation's is fed in one place.
        let fed = match event {
            Event::Answered(id, attempt, answer) => Some((id, operation::Event::Answered(attempt, answer))),
            Event::Unsent(id, attempt) => Some((id, operation::Event::Unsent(attempt))),
            Event::Webhook(id, reading) => Some((id, operation::Event::Webhook(reading))),
            Event::Changed(id) => Some((id, operation::Event::Changed)),
            Event::Cancel(id) => Some((id, operation::Event::Cancel)),
            Event::Delivered(id) => Some((id, operation::Event::Delivered)),
            Event::Resume(id) => {
                self.revive(id);
                Some((id, operation::Event::Resume))
            }
            Event::Persisted(number) => {
                self.acknowledge(number, now, operation::Event::Persisted);
                None
            }
            Event::PersistFailed(number) => {
                self.acknowledge(number, now, operation::Event::PersistFailed);
                None
            }
            Event::PersistUnknown(number) => {
                self.disown(number, now);
                self.acknowledge(number, now, operation::Event::PersistFailed);
                None
            }
            Event::Quota(kind, quota) => {
                self.gate.learn(kind, quota, now);
                None
            }
        };
        if let Some((id, event)) = fed {
            self.feed(id, event, now);
        }
        self.call_lines(now);
    }

    /// Does what time has made due. Early or repeated calls change nothing.
    ///
    /// Feed what has come before you call it: it gives up requests whose time has passed, and if your loop was held up,
    /// answers to them may be waiting that came in time. Of a create that is given up nobody knows whether it ran.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let now = self.look_at_clock(now);
        self.call_lines(now);
        let mut fetched = 0_usize;
        while let Some(slot) = self.timers.pop_due(now) {
            if fetched == 0 {
                fetched = self.fetch_due(now);
            }
            fetched = fetched.saturating_sub(1);
            // An operation in line is woken when waiting has become pointless. A wait of its own must not keep it
            // then, or this would never end.
            self.step(slot, now, Operation::knock);
            // A request that timed out has made room. Those in line get it before the next operation that is due.
            self.call_lines(now);
        }
        self.forget_old(now);
    }
}

/// Pop.
impl Engine {
    /// The next thing the driver must do; `None` when there is nothing left until the next event or deadline.
    #[must_use]
    #[doc(alias = "poll_output")]
    #[doc(alias = "poll_transmit")]
    pub fn pop_effect(&mut self) -> Option<(OperationId, Effect)> {
        while let Some(index) = self.dirty.front().copied() {
            if let Some(slot) = self.slots.get_mut(index) {
                let id = OperationId { slot: index, generation: slot.generation };
                if let Some(effect) = slot.operation.as_mut().and_then(Operation::pop_effect) {
                    return Some((id, self.number(id, effect)));
                }
                slot.dirty = false;
            }
            self.dirty.pop_front();
        }
        None
    }
}

/// Look.
impl Engine {
    /// When to call [`handle_timeout`](Engine::handle_timeout), if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let timer = self.timers.next().map(|(at, _)| at);
        timer.into_iter().chain(self.next_called()).chain(self.next_forgotten()).min()
    }

    /// The same, with the reason, and with the operation if the deadline belongs to one.
    #[must_use]
    pub fn next_wake(&self) -> Option<(Wake, Option<OperationId>)> {
        let forget = self.next_forgotten().map(|at| (Wake { at, reason: WakeReason::Forget }, None));
        let timer = self.timers.next().and_then(|(at, slot)| {
            let id = self.id(slot)?;
            let mut wake = self.operation(id)?.next_wake()?;
            // In line, an operation is only woken when waiting has become pointless.
            wake.at = at;
            Some((wake, Some(id)))
        });
        let called = self.next_called().map(|at| (Wake { at, reason: WakeReason::Gate }, None));
        timer.into_iter().chain(called).chain(forget).min_by_key(|(wake, _)| wake.at)
    }

    /// The operation with this id, until it is forgotten.
    #[must_use]
    pub fn operation(&self, id: OperationId) -> Option<&Operation> {
        let slot = self.slots.get(id.slot)?;
        slot.operation.as_ref().filter(|_| slot.generation == id.generation)
    }

    /// The operation of this key, if the engine has it.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<OperationId> {
        self.find_by(seed_of(self.seed, key), key)
    }

    /// Operations taken in and not finished.
    #[must_use]
    pub const fn live(&self) -> u32 {
        self.live
    }

    /// Whether a submit of a new key would be taken in.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.live < self.limits.live
    }

    /// The ids of all operations that are not finished, in the order of their slots.
    pub fn live_operations(&self) -> impl Iterator<Item = OperationId> + '_ {
        self.slots
            .numbered()
            .filter(|(_, slot)| slot.live)
            .map(|(index, slot)| OperationId { slot: index, generation: slot.generation })
    }

    /// The operations that owe effects, in the order in which [`pop_effect`](Engine::pop_effect) comes to them. A
    /// driver that holds data of its own for each can use this to prefetch it.
    ///
    /// ```
    /// # use steadfast_core::engine::Limits;
    /// # use steadfast_core::{Engine, Fingerprint, Gate, Key, OperationPolicy, Seed, Timestamp};
    /// # let now = Timestamp::from_secs(1_700_000_000);
    /// # let mut engine = Engine::new(OperationPolicy::default(), Gate::unlimited(), Limits::default(), Seed::new(7));
    /// let first = engine.submit(Key::new("order-1")?, Fingerprint::new([0; 16]), now)?.id();
    /// let second = engine.submit(Key::new("order-2")?, Fingerprint::new([0; 16]), now)?.id();
    /// assert!(engine.owing().eq([first, second]));
    /// assert!(engine.pop_effect().is_some_and(|(id, _)| id == first));
    /// assert!(engine.owing().eq([second]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn owing(&self) -> impl Iterator<Item = OperationId> + '_ {
        let ids = self.dirty.iter().filter_map(|slot| self.id(*slot));
        ids.filter(|id| self.operation(*id).is_some_and(Operation::owes_effects))
    }

    /// The settings of its operations.
    #[must_use]
    pub const fn policy(&self) -> &OperationPolicy {
        &self.policy
    }

    /// The upstream's gate.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The upstream's gate, for holding or releasing it or changing its settings. Call
    /// [`handle_timeout`](Engine::handle_timeout) afterwards, so that operations that wait there learn of it.
    pub const fn gate_mut(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// The operation that is first in line for a request of this kind. Changes when that operation goes, or gives up.
    #[must_use]
    pub fn first_in_line(&self, kind: Kind) -> Option<OperationId> {
        self.lines.first(kind).and_then(|(_, slot)| self.id(slot))
    }
}

impl Engine {
    /// Prefetches the operations that are due next. Returns after how many steps to do so again.
    fn fetch_due(&self, now: Timestamp) -> usize {
        // The first four levels of the heap that they stand in: the next few dozen lie there, as a rule.
        const MOST: usize = 1 + 4 + 16 + 64;
        // Not all that are in front come first, so it is done again before all of these have come.
        self.fetch(self.timers.some_due(now, MOST)) / 2
    }

    /// Prefetches operations, many at a time: with a hundred thousand in flight each step would otherwise wait for its
    /// own from memory, which takes as long as the step. Returns how many.
    fn fetch(&self, slots: impl Iterator<Item = u32>) -> usize {
        slots.filter_map(|slot| self.slots.get(slot)?.operation.as_ref()).map(Operation::touch).count()
    }

    fn look_at_clock(&mut self, now: Timestamp) -> Timestamp {
        self.seen = self.seen.max(now).min(Timestamp::NEVER.saturating_sub(Duration::from_nanos(1)));
        self.seen
    }

    fn id(&self, slot: u32) -> Option<OperationId> {
        let generation = self.slots.get(slot)?.generation;
        Some(OperationId { slot, generation })
    }

    /// The same for a key whose seed is known.
    fn find_by(&self, seed: Seed, key: &Key) -> Option<OperationId> {
        let holds =
            |slot: u32| self.slots.get(slot).and_then(|slot| slot.operation.as_ref()).is_some_and(|it| it.is_of(key));
        let slot = self.keys.find(seed, holds)?;
        self.id(slot)
    }

    #[inline]
    fn feed(&mut self, id: OperationId, event: operation::Event, now: Timestamp) {
        if self.operation(id).is_none() {
            return self.tell(id, Notice::Absorbed);
        }
        self.step(id.slot, now, |operation, turn| operation.handle(event, turn));
    }

    /// A resumed operation counts as live again, even beyond [`Limits::live`]: it was taken in once.
    fn revive(&mut self, id: OperationId) {
        let resumes = self.operation(id).is_some_and(Operation::can_resume);
        if let Some(slot) = self.slots.get_mut(id.slot).filter(|slot| resumes && !slot.live) {
            slot.live = true;
            self.live = self.live.saturating_add(1);
            self.finished.retain(|(_, finished)| *finished != id);
        }
    }

    fn step(&mut self, index: u32, now: Timestamp, step: impl FnOnce(&mut Operation, &mut Turn<'_>)) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let id = OperationId { slot: index, generation: slot.generation };
        let Some(operation) = slot.operation.as_mut() else { return };
        let line = self.lines.ahead_of(index);
        let notices = if self.unobserved { Notices::Unheard } else { Notices::Lent(&mut self.told) };
        step(operation, &mut self.policy.turn_in_line(now, &mut self.gate, line, notices));
        if !self.unobserved {
            self.pass_on(id);
        }
        self.look_after(index, now);
    }

    /// When to wake an operation. An operation in line is only woken when waiting has become pointless.
    fn wake_of(policy: &OperationPolicy, operation: &Operation, waits_in_line: bool) -> Option<Timestamp> {
        if waits_in_line { operation.blocked_until(policy).deadline() } else { operation.next_deadline() }
    }

    /// After each step of an operation: its timer, its effects, and whether it is finished.
    #[inline]
    fn look_after(&mut self, index: u32, now: Timestamp) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(operation) = slot.operation.as_ref() else { return };
        let blocked = operation.blocked().map(|ask| ask.kind);
        self.timers.set(index, Self::wake_of(&self.policy, operation, blocked.is_some()));
        if operation.owes_effects() && !slot.dirty {
            slot.dirty = true;
            self.dirty.push_back(index);
        }
        let finished = slot.live && operation.is_finished();
        let place = slot.place;
        if place.map(|place| place.kind()) != blocked {
            self.stand_in_line(index, place, blocked);
        }
        if finished {
            self.finish(index, now);
        }
    }

    /// It no longer counts as live. Its key is remembered, or free at once.
    fn finish(&mut self, index: u32, now: Timestamp) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.live = false;
        self.live = self.live.saturating_sub(1);
        let id = OperationId { slot: index, generation: slot.generation };
        if let Some(Outcome::Rejected(_)) = slot.operation.as_ref().and_then(Operation::outcome) {
            return self.forget(id);
        }
        self.finished.push_back((now, id));
        self.forget_old(now);
    }
}
