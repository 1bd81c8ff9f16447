//! Many operations at one upstream: timers, one execution per key, journal before send.
//!
//! The [`Engine`] is driven like an [`Operation`] and adds what many need together. It finds operations by key, so that a second submit
//! joins the first; it bounds how many are taken in; it knows whose deadline is next; and it numbers records across all operations, so that
//! one acknowledgement covers a whole batch (group commit).
//!
//! ```text
//! submit ─→ ┌────────────────────────────────┐ ─→ pop_effect   (operation, effect)
//! handle ─→ │ slab of operations             │ ─→ pop_notice   (operation, notice)
//! handle_   │ keys → slot    timers → slot   │ ─→ next_deadline
//! timeout ─→│ dirty list     records asked   │
//!           └────────────────────────────────┘
//! ```
//!
//! A record's number is drawn when its effect is popped. So numbers rise in the order in which the driver learns of records, and the
//! acknowledgement of one covers exactly what was popped before it.
//!
//! An operation that has ended, was delivered and is on disk is *finished*: it no longer counts as live. Its key is kept, so that a repeated
//! submit gets the same outcome, until it is older than [`Limits::remember_for`] or there are more than [`Limits::remember`]. A
//! *rejected* one is forgotten at once: nothing ran, so its key is free.
//!
//! Invariants: at most one create in flight per key (I3); nothing sent before its record is durable (I5); memory bounded by
//! [`Limits`] (I15); each drain ends and the next deadline is later than `now` (I18).

mod intake;
mod keys;
mod lines;
#[cfg(feature = "serde")]
mod snapshot;
mod timers;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

pub use self::intake::{Limits, RestoreError, SubmitError, Submitted};
use self::keys::Keys;
use self::lines::{Lines, Place};
#[cfg(feature = "snapshot")]
pub use self::snapshot::{SNAPSHOT_VERSION, SnapshotError};
use self::timers::Timers;
use crate::gate::Gate;
use crate::key::Key;
use crate::notice::{Notice, Wake, WakeReason};
use crate::operation::{self, AttemptId, Effect, Kind, Operation, OperationPolicy, Outcome, Reading, RecordId, Turn};
use crate::rate_limit::Quota;
use crate::retry::Failure;
use crate::seed::Seed;
use crate::time::Timestamp;

/// Names one operation of one engine. Generational: the id of a forgotten operation never names its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OperationId {
    slot: u32,
    generation: u32,
}

/// Something that happened. Fed to [`Engine::handle`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Event {
    /// The record of this number, and all popped before it, are durable.
    Persisted(RecordId),
    /// The record of this number, and all popped before it that were not yet acknowledged, could not be made durable.
    PersistFailed(RecordId),
    /// The request of this attempt was answered, or failed.
    Answered(OperationId, AttemptId, Result<Reading, Failure>),
    /// The provider told of this job by itself.
    Webhook(OperationId, Reading),
    /// The provider told by itself that this job has changed, and not how. See [`operation::Event::Changed`].
    Changed(OperationId),
    /// The caller no longer wants this job.
    Cancel(OperationId),
    /// The outcome has reached whoever waits for it.
    Delivered(OperationId),
    /// Somebody wants to know of an unresolved job after all. See [`Operation::can_resume`].
    Resume(OperationId),
    /// With an answer to a request of this kind, the provider told of its own rate limit. Feed it after the answer.
    Quota(Kind, Quota),
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Slot {
    generation: u32,
    operation: Option<Operation>,
    /// Whether it stands in the dirty list.
    dirty: bool,
    /// Whether it counts as live.
    live: bool,
    /// Where it waits at the gate.
    place: Option<Place>,
}

// What waits by the million is made of this.
const _: () = assert!(size_of::<Slot>() <= 176);

/// A record that was popped and is not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Asked {
    /// Its number in the engine.
    number: RecordId,
    /// Its number in its operation.
    own: RecordId,
    id: OperationId,
}

/// Many operations at one upstream. See the [module](self) for how it is driven.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(try_from = "snapshot::Stored"))]
pub struct Engine {
    policy: OperationPolicy,
    gate: Gate,
    limits: Limits,
    seed: Seed,
    slots: Vec<Slot>,
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
    live: u32,
    seen: Timestamp,
}

impl Engine {
    /// An engine without operations.
    #[must_use]
    pub fn new(policy: OperationPolicy, gate: Gate, limits: Limits, seed: Seed) -> Self {
        Self {
            policy,
            gate,
            limits,
            seed,
            slots: Vec::new(),
            free: Vec::new(),
            keys: Keys::new(seed.derive(0)),
            timers: Timers::default(),
            lines: Lines::default(),
            lines_wake: Timestamp::NEVER,
            dirty: VecDeque::new(),
            asked: VecDeque::new(),
            last_record: RecordId(0),
            finished: VecDeque::new(),
            notices: VecDeque::new(),
            notices_dropped: 0,
            live: 0,
            seen: Timestamp::EPOCH,
        }
    }
}

/// Feed.
impl Engine {
    /// Takes in what happened. Never fails: what does not fit is absorbed and becomes a [`Notice`].
    pub fn handle(&mut self, event: Event, now: Timestamp) {
        let now = self.look_at_clock(now);
        match event {
            Event::Persisted(number) => self.acknowledge(number, now, operation::Event::Persisted),
            Event::PersistFailed(number) => self.acknowledge(number, now, operation::Event::PersistFailed),
            Event::Answered(id, attempt, answer) => self.feed(id, operation::Event::Answered(attempt, answer), now),
            Event::Webhook(id, reading) => self.feed(id, operation::Event::Webhook(reading), now),
            Event::Changed(id) => self.feed(id, operation::Event::Changed, now),
            Event::Cancel(id) => self.feed(id, operation::Event::Cancel, now),
            Event::Delivered(id) => self.feed(id, operation::Event::Delivered, now),
            Event::Resume(id) => self.resume(id, now),
            Event::Quota(kind, quota) => self.gate.learn(kind, quota, now),
        }
        self.call_lines(now);
    }

    /// Does what time has made due. Early or repeated calls change nothing.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let now = self.look_at_clock(now);
        self.call_lines(now);
        while let Some(slot) = self.timers.pop_due(now) {
            self.step(slot, now, Operation::handle_timeout);
            // A request that timed out has made room: for those who wait, before the next who is due.
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
            if let Some(slot) = self.slots.get_mut(index as usize) {
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

    /// The next notice; observers may read them, and nobody must.
    #[must_use]
    pub fn pop_notice(&mut self) -> Option<(OperationId, Notice)> {
        self.notices.pop_front()
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

    /// The same, with the reason, and the operation if it is one's own.
    #[must_use]
    pub fn next_wake(&self) -> Option<(Wake, Option<OperationId>)> {
        let forget = self.next_forgotten().map(|at| (Wake { at, reason: WakeReason::Forget }, None));
        let timer = self.timers.next().and_then(|(at, slot)| {
            let id = self.id(slot)?;
            let mut wake = self.operation(id)?.next_wake()?;
            // In line, it is only woken when waiting has become pointless.
            wake.at = at;
            Some((wake, Some(id)))
        });
        let called = self.next_called().map(|at| (Wake { at, reason: WakeReason::Gate }, None));
        timer.into_iter().chain(called).chain(forget).min_by_key(|(wake, _)| wake.at)
    }

    /// An operation, until it is forgotten.
    #[must_use]
    pub fn operation(&self, id: OperationId) -> Option<&Operation> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.operation.as_ref().filter(|_| slot.generation == id.generation)
    }

    /// The operation of this key, if the engine has it.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<OperationId> {
        let slot = self.keys.find(key, |slot| self.key_of(slot) == Some(key))?;
        self.id(slot)
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
        (0..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.live)
            .map(|(index, slot)| OperationId { slot: index, generation: slot.generation })
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

    /// The upstream's gate, to hold it, to let it go or to give it other settings. Call [`handle_timeout`](Engine::handle_timeout) afterwards, so that those
    /// who wait there learn of it.
    pub const fn gate_mut(&mut self) -> &mut Gate {
        &mut self.gate
    }

    /// Notices that found no room. A driver that pops none sees this grow; nothing else happens.
    #[must_use]
    pub const fn notices_dropped(&self) -> u64 {
        self.notices_dropped
    }
}

/// Makes room for so many more by an eighth: a vector that doubles would have each of a million operations carry another's bytes.
fn grow<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity().saturating_sub(vec.len()) < more {
        // What has no room at all is told by whoever puts something in.
        let _ = vec.try_reserve_exact(more.max(vec.len() / 8).max(16));
    }
}

impl Engine {
    fn look_at_clock(&mut self, now: Timestamp) -> Timestamp {
        self.seen = self.seen.max(now).min(Timestamp::NEVER.saturating_sub(Duration::from_nanos(1)));
        self.seen
    }

    fn id(&self, slot: u32) -> Option<OperationId> {
        let generation = self.slots.get(slot as usize)?.generation;
        Some(OperationId { slot, generation })
    }

    fn key_of(&self, slot: u32) -> Option<&Key> {
        self.slots.get(slot as usize)?.operation.as_ref().map(Operation::key)
    }

    fn feed(&mut self, id: OperationId, event: operation::Event, now: Timestamp) {
        if self.operation(id).is_none() {
            return self.tell(id, Notice::Absorbed);
        }
        self.step(id.slot, now, |operation, turn| operation.handle(event, turn));
    }

    /// What is resumed counts as live again, beyond [`Limits::live`] if need be: it was taken in once.
    fn resume(&mut self, id: OperationId, now: Timestamp) {
        let resumes = self.operation(id).is_some_and(Operation::can_resume);
        if let Some(slot) = self.slots.get_mut(id.slot as usize).filter(|slot| resumes && !slot.live) {
            slot.live = true;
            self.live = self.live.saturating_add(1);
            self.finished.retain(|(_, finished)| *finished != id);
        }
        self.feed(id, operation::Event::Resume, now);
    }

    /// Passes the acknowledgement of all records up to `number` on to their operations.
    fn acknowledge(&mut self, number: RecordId, now: Timestamp, event: fn(RecordId) -> operation::Event) {
        while let Some(asked) = self.asked.front().copied().filter(|asked| asked.number <= number) {
            self.asked.pop_front();
            if self.operation(asked.id).is_some() {
                self.feed(asked.id, event(asked.own), now);
            }
        }
    }

    fn step(&mut self, index: u32, now: Timestamp, step: impl FnOnce(&mut Operation, &mut Turn<'_>)) {
        let mut turn = self.policy.turn(now, &mut self.gate);
        turn.line = self.lines.ahead_of(index);
        if let Some(operation) = self.slots.get_mut(index as usize).and_then(|slot| slot.operation.as_mut()) {
            step(operation, &mut turn);
        }
        let notices = turn.notices;
        self.look_after(index, notices, now);
    }

    /// When to wake an operation. In line it is only woken when waiting has become pointless.
    fn wake_of(policy: &OperationPolicy, operation: &Operation) -> Option<Timestamp> {
        match operation.blocked() {
            Some(_) => operation.blocked_until(policy).deadline(),
            None => operation.next_deadline(),
        }
    }

    /// After each step of an operation: its timer, its effects, its notices, and whether it is finished.
    fn look_after(&mut self, index: u32, mut notices: crate::notice::Notices, now: Timestamp) {
        let Some(slot) = self.slots.get_mut(index as usize) else { return };
        let Some(operation) = slot.operation.as_ref() else { return };
        let id = OperationId { slot: index, generation: slot.generation };
        let blocked = operation.blocked();
        self.timers.set(index, Self::wake_of(&self.policy, operation));
        if operation.owes_effects() && !slot.dirty {
            slot.dirty = true;
            self.dirty.push_back(index);
        }
        let finished = slot.live && operation.is_finished();
        let outcome = operation.outcome();
        let place = slot.place;
        if finished {
            slot.live = false;
            self.live = self.live.saturating_sub(1);
        }
        while let Some(notice) = notices.pop() {
            self.tell(id, notice);
        }
        self.stand_in_line(index, place, blocked.map(|ask| ask.kind));
        if finished {
            if matches!(outcome, Some(Outcome::Rejected(_))) {
                return self.forget(id);
            }
            self.finished.push_back((now, id));
            self.forget_old(now);
        }
    }

    fn tell(&mut self, id: OperationId, notice: Notice) {
        if self.notices.len() < self.limits.notices as usize {
            self.notices.push_back((id, notice));
        } else {
            self.notices_dropped = self.notices_dropped.saturating_add(1);
        }
    }

    /// Gives a record its number in the engine.
    fn number(&mut self, id: OperationId, effect: Effect) -> Effect {
        let Effect::Persist(own) = effect else { return effect };
        self.last_record = RecordId(self.last_record.0.saturating_add(1));
        self.asked.push_back(Asked { number: self.last_record, own, id });
        Effect::Persist(self.last_record)
    }
}
