//! How operations come in, how they are given back, and how finished ones are forgotten.
//!
//! A key belongs to one operation for as long as that is under way or remembered. A submit of the key meanwhile joins
//! that operation, or is refused if the payload is another. [`Limits`] bounds how many are under way, how many are
//! remembered, and for how long.

use core::time::Duration;

use super::keys::seed_of;
use super::slots::Slot;
use super::{Engine, OperationId};
use crate::key::{Fingerprint, Key};
use crate::notice::Notices;
use crate::operation::{Operation, Record, Turn};
use crate::time::Timestamp;
use crate::timers::grow;

/// What bounds an engine's memory.
///
/// ```
/// use steadfast_core::engine::Limits;
///
/// let limits = Limits { live: 256, ..Limits::default() };
/// assert_eq!(limits.remember, 100_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[expect(clippy::exhaustive_structs, reason = "plain settings, written with struct update syntax")]
pub struct Limits {
    /// The most operations taken in and not finished; a further submit is refused. Default 10,000.
    pub live: u32,
    /// The most finished operations whose keys are remembered; the oldest are forgotten first. Default 100,000 (some
    /// 22 MB). 0 counts as 1, so that an operation that a driver has just restored is there until the next one ends.
    pub remember: u32,
    /// How long a finished operation's key is remembered. Default 24 h, the key window of Stripe and Persona. It holds
    /// for an [*unresolved*](crate::operation::Unresolved) one too, though that may have run: only a journal keeps its
    /// key for longer. See [`Engine::submit`].
    #[cfg_attr(feature = "serde", serde(with = "crate::policy::humane"))]
    pub remember_for: Duration,
    /// The most notices kept for [`Engine::pop_notice`]; further ones are dropped and counted. Default 4,096.
    pub notices: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { live: 10_000, remember: 100_000, remember_for: Duration::from_secs(86_400), notices: 4_096 }
    }
}

/// What became of a submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(clippy::exhaustive_enums, reason = "a submit starts a job or joins one")]
pub enum Submitted {
    /// A new operation.
    Started(OperationId),
    /// The operation that has this key already; it may have ended.
    Joined(OperationId),
}

impl Submitted {
    /// The operation, new or not.
    #[must_use]
    pub const fn id(self) -> OperationId {
        match self {
            Self::Started(id) | Self::Joined(id) => id,
        }
    }
}

/// Why a submit was refused. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The key belongs to a job with another payload. They are compared byte for byte.
    #[error(
        "this idempotency key belongs to a job with another payload, byte for byte: if it is the same job, written in another \
         way, resume its key or submit the first payload's bytes again; if it is another job, give it a key of its own"
    )]
    FingerprintMismatch,
    /// As many operations are under way as [`Limits::live`] allows.
    #[error("{live} operations are under way, which is the limit: wait until one ends, or raise the limit")]
    Full {
        /// How many are under way.
        live: u32,
    },
}

/// Why a record could not be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The engine has an operation of this key already.
    #[error(
        "the engine already has an operation with this record's key: restore only the latest record of each key, once"
    )]
    DuplicateKey,
}

impl Engine {
    /// Takes in a job, or joins the one that has this key.
    ///
    /// A forgotten key counts as new here, whatever became of its job, even if that ended as *unresolved* and may have
    /// run. A journal remembers it for longer. So a driver that has one asks it first (`Store::find`, in
    /// `steadfast-store`) about a key that [`find`](Engine::find) does not know. If there is an entry:
    ///
    /// 1. its job was *rejected*, or its outcome was delivered longer than [`Limits::remember_for`] ago and is not
    ///    *unresolved*: the key is free, submit it;
    /// 2. its fingerprint is another: refuse the submit;
    /// 3. its outcome was delivered: that is the answer;
    /// 4. else [restore](Engine::restore) its record, and submit nothing.
    ///
    /// # Errors
    /// The key belongs to another payload, or the engine is full. Nothing changed.
    pub fn submit(&mut self, key: Key, fingerprint: Fingerprint, now: Timestamp) -> Result<Submitted, SubmitError> {
        let now = self.look_at_clock(now);
        self.forget_old(now);
        let seed = seed_of(self.seed, &key);
        if let Some(id) = self.find_by(seed, &key) {
            let same = self.operation(id).is_some_and(|operation| operation.fingerprint() == fingerprint);
            return if same { Ok(Submitted::Joined(id)) } else { Err(SubmitError::FingerprintMismatch) };
        }
        if self.live >= self.limits.live {
            return Err(SubmitError::Full { live: self.live });
        }
        // Operations that wait at the gate come before one that comes now.
        self.call_lines(now);
        let id = self.admit(now, |turn| Operation::new(key, fingerprint, seed, turn));
        self.call_lines(now);
        Ok(Submitted::Started(id))
    }

    /// Makes room for `operations` more, before they are [restored](Engine::restore): as much as they take, and no
    /// more. Without it, or if there is no such room, memory grows as they come.
    ///
    /// ```
    /// # use steadfast_core::engine::{Engine, Limits};
    /// # use steadfast_core::operation::Record;
    /// # use steadfast_core::{Gate, OperationPolicy, Seed, Timestamp};
    /// # let mut engine = Engine::new(OperationPolicy::default(), Gate::default(), Limits::default(), Seed::new(7));
    /// # let (records, now) = (Vec::<Record>::new(), Timestamp::from_secs(1));
    /// engine.reserve(records.len());
    /// for record in records {
    ///     engine.restore(record, now)?;
    /// }
    /// # Ok::<(), steadfast_core::engine::RestoreError>(())
    /// ```
    pub fn reserve(&mut self, operations: usize) {
        let vacant = self.free.len();
        let more = operations.saturating_sub(vacant);
        self.slots.reserve(more);
        self.timers.reserve(more);
        let slots = &self.slots;
        self.keys.reserve(operations, |slot| slots.get(slot)?.operation.as_ref().map(Operation::seed));
    }

    /// Takes up the operation of a record, after a restart. `now` must have
    /// [gone on](crate::Timestamp#after-a-restart) meanwhile.
    ///
    /// Operations beyond [`Limits::live`] are taken up all the same: what was promised is kept. One that was rejected
    /// and delivered leaves nothing to keep: its key is free, and the returned id names no operation.
    ///
    /// The engine need not have the seed of the lost one. Only what is drawn from now on depends on it: the jitter of
    /// waits, within the policies' bounds, and [correlation ids](Operation::correlation_id). A wait that was drawn
    /// before is in the record, and no promise rests on chance. With the same seed a history can be replayed: the same
    /// records, events and times give the same decisions.
    ///
    /// # Errors
    /// The engine already has an operation with this key.
    pub fn restore(&mut self, record: Record, now: Timestamp) -> Result<OperationId, RestoreError> {
        let now = self.look_at_clock(now);
        let seed = seed_of(self.seed, &record.key);
        if self.find_by(seed, &record.key).is_some() {
            return Err(RestoreError::DuplicateKey);
        }
        let id = self.admit(now, |turn| Operation::restore(record, seed, turn));
        // What it found or left at the gate decides when those in line are to be called.
        self.call_lines(now);
        Ok(id)
    }

    /// Removes an operation, and returns it as the record that [`restore`](Engine::restore) takes. For a driver that
    /// cannot go on with it yet, for example because it has no payload.
    ///
    /// Only an operation that waits for its next create can be withdrawn: it has nothing in the air and holds no
    /// permit, and once restored it sends nothing before a new record is durable. In any other state, or if there is
    /// no such operation, this returns `None` and changes nothing. Pop all effects first: those that are still owed
    /// (to abandon an earlier request, say) are lost with it.
    pub fn withdraw(&mut self, id: OperationId, now: Timestamp) -> Option<Record> {
        let now = self.look_at_clock(now);
        let record = self.operation(id).filter(|operation| operation.waits_to_create())?.record();
        self.take_out(id);
        self.call_lines(now);
        Some(record)
    }
}

impl Engine {
    /// Of a live operation, nothing is known any more.
    pub(super) fn take_out(&mut self, id: OperationId) {
        let place = self.slots.get(id.slot).and_then(|slot| slot.place);
        self.stand_in_line(id.slot, place, None);
        self.forget(id);
        self.live = self.live.saturating_sub(1);
    }

    /// Makes an operation and gives it a slot.
    pub(super) fn admit(&mut self, now: Timestamp, make: impl FnOnce(&mut Turn<'_>) -> Operation) -> OperationId {
        // The slot comes first, so that what is told on the way can be told of it.
        let index = self.free.pop().unwrap_or_else(|| {
            let generation = self.first_generation;
            self.slots.push(Slot { generation, operation: None, dirty: false, live: false, place: None })
        });
        let generation = self.slots.get(index).map_or(0, |slot| slot.generation);
        let id = OperationId { slot: index, generation };
        let line = self.lines.ahead_of(index);
        let notices = if self.unobserved { Notices::Unheard } else { Notices::Lent(&mut self.told) };
        let operation = make(&mut self.policy.turn_in_line(now, &mut self.gate, line, notices));
        if !self.unobserved {
            self.pass_on(id);
        }
        let seed = operation.seed();
        if let Some(slot) = self.slots.get_mut(index) {
            slot.operation = Some(operation);
            slot.live = true;
        }
        let slots = &self.slots;
        self.keys.insert(seed, index, |slot| slots.get(slot)?.operation.as_ref().map(Operation::seed));
        self.live = self.live.saturating_add(1);
        self.look_after(index, now);
        id
    }

    pub(super) fn next_forgotten(&self) -> Option<Timestamp> {
        let (finished, _) = self.finished.front()?;
        finished.saturating_add(self.limits.remember_for).deadline()
    }

    pub(super) fn forget_old(&mut self, now: Timestamp) {
        while let Some((_, id)) = self.finished.front().copied() {
            let crowded = self.finished.len() > self.limits.remember.max(1) as usize;
            let old = self.next_forgotten().is_some_and(|at| at <= now);
            if !crowded && !old {
                return;
            }
            self.finished.pop_front();
            self.forget(id);
        }
    }

    pub(super) fn forget(&mut self, id: OperationId) {
        let Some(slot) = self.slots.get_mut(id.slot) else { return };
        let Some(operation) = slot.operation.as_ref() else { return };
        self.keys.remove(operation.seed(), id.slot);
        slot.operation = None;
        slot.generation = slot.generation.wrapping_add(1);
        slot.live = false;
        slot.place = None;
        self.timers.set(id.slot, None);
        grow(&mut self.free, 1);
        self.free.push(id.slot);
    }
}
