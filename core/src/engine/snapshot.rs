//! An engine as bytes, whole, and back: for handing over to another process, for a bug report, for a test that
//! continues from a found state.
//!
//! A snapshot is not the journal. The journal says what must survive a crash, a record at a time; a snapshot says
//! everything at one moment, and what happens after it is not in it. So: **snapshot, restore, continue** is the same as
//! **continue** (I12), and resuming an old snapshot after more has happened is not safe, as little as an old copy of a
//! journal is.
//!
//! ```text
//! steadfast-engine 1 9d5ed678        what it is, the version, the CRC-32 of what follows
//! {"policy":{"safety":"unsafe", …    the engine as JSON
//! ```
//!
//! JSON, because a person who reports a bug should see what is in it, and because policies are read by their field
//! names, as from a file. A version that is not known is refused by name; damage anywhere is found by the checksum;
//! bytes that pass it and do not make sense together are refused too. What follows from the rest (the index of keys,
//! the timers) is not stored but built anew. Notices that nobody has read yet are left out: they decide nothing.
//!
//! Keys and references are in it in plain text; treat it as you treat the journal.

use alloc::collections::VecDeque;
#[cfg(feature = "snapshot")]
use alloc::format;
#[cfg(feature = "snapshot")]
use alloc::string::String;
use alloc::vec::Vec;

use super::keys::{Keys, seed_of};
use super::lines::Lines;
use super::slots::Slot;
use super::{Asked, Engine, Limits, OperationId};
use crate::gate::Gate;
use crate::notice::Told;
use crate::operation::{Kind, Operation, OperationPolicy, RecordId};
use crate::seed::Seed;
use crate::time::Timestamp;
use crate::timers::Timers;

/// The version that [`Engine::snapshot`] writes.
#[cfg(feature = "snapshot")]
pub const SNAPSHOT_VERSION: u32 = 1;

#[cfg(feature = "snapshot")]
const NAME: &str = "steadfast-engine ";

/// Why bytes are not a snapshot.
#[cfg(feature = "snapshot")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// No snapshot at all, or cut off before its checksum.
    #[error(
        "these bytes are no engine's snapshot: their first line is not \"steadfast-engine\", a version and a checksum"
    )]
    NotASnapshot,
    /// Another release's format.
    #[error(
        "this snapshot has format version {0}, and this release reads version {SNAPSHOT_VERSION}: use the release that wrote it, or a newer one"
    )]
    UnknownVersion(u32),
    /// Cut off, extended or altered.
    #[error("this snapshot is damaged, its checksum does not fit: take another copy, or restart from the journal")]
    Damaged,
    /// Undamaged, and yet nothing that an engine writes: forged, or written by a release with a bug.
    #[error("this snapshot contradicts itself at byte {at} of its body: restart from the journal")]
    Contradiction {
        /// Where, in bytes after the first line; the end if its parts do not fit together.
        at: usize,
    },
    /// The engine could not be written.
    #[error("this engine could not be written as JSON")]
    Unwritable,
}

#[cfg(feature = "snapshot")]
impl Engine {
    /// The whole engine as bytes, at any moment, between any two calls.
    ///
    /// What was popped before stays popped: the engine that is made of the bytes waits for the same acknowledgements
    /// and answers. If it is restored in another process, where those will never come, feed
    /// [`PersistFailed`](super::Event::PersistFailed) for records in flight (they are asked for again); requests in
    /// the air time out by themselves.
    ///
    /// Takes time and memory in proportion to the operations, some 800 bytes each.
    ///
    /// ```
    /// use steadfast_core::engine::{Engine, Limits};
    /// use steadfast_core::{Fingerprint, Gate, Key, OperationPolicy, Seed, Timestamp};
    ///
    /// let (policy, now) = (OperationPolicy::default(), Timestamp::from_secs(1_700_000_000));
    /// let mut engine = Engine::new(policy, Gate::default(), Limits::default(), Seed::new(7));
    /// let _ = engine.submit(Key::new("order-42")?, Fingerprint::new([0; 16]), now)?;
    ///
    /// let bytes = engine.snapshot()?;
    /// let mut restored = Engine::from_snapshot(&bytes)?;
    /// assert_eq!(restored.pop_effect(), engine.pop_effect()); // what was owed is owed
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// None that a caller can cause.
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        let body = serde_json::to_vec(self).map_err(|_| SnapshotError::Unwritable)?;
        let mut bytes = format!("{NAME}{SNAPSHOT_VERSION} {}\n", checksum(&body)).into_bytes();
        bytes.extend(body);
        Ok(bytes)
    }

    /// Restores the engine that [`snapshot`](Engine::snapshot) wrote.
    ///
    /// # Errors
    /// Bytes of another kind or version, damaged ones, and ones that contradict themselves.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let (version, sum, body) = split(bytes).ok_or(SnapshotError::NotASnapshot)?;
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::UnknownVersion(version));
        }
        // As text: what stands there must be what would have been written, to the last bit.
        if checksum(body) != sum {
            return Err(SnapshotError::Damaged);
        }
        serde_json::from_slice(body).map_err(|error| SnapshotError::Contradiction { at: error.column() })
    }
}

#[cfg(feature = "snapshot")]
fn checksum(body: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(body))
}

/// The version, the checksum and the rest.
#[cfg(feature = "snapshot")]
fn split(bytes: &[u8]) -> Option<(u32, &str, &[u8])> {
    let rest = bytes.strip_prefix(NAME.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (head, body) = (rest.get(..end)?, rest.get(end.saturating_add(1)..)?);
    let (version, sum) = core::str::from_utf8(head).ok()?.split_once(' ')?;
    // `parse` alone would take "+1" and "01" for 1.
    let number: u32 = version.parse().ok()?;
    (format!("{number}") == version).then_some((number, sum, body))
}

/// An engine as it is stored: its fields without those that follow from the rest.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    policy: OperationPolicy,
    gate: Gate,
    limits: Limits,
    seed: Seed,
    slots: Vec<Slot>,
    free: Vec<u32>,
    lines: Lines,
    lines_wake: Timestamp,
    dirty: VecDeque<u32>,
    asked: VecDeque<Asked>,
    last_record: RecordId,
    finished: VecDeque<(Timestamp, OperationId)>,
    notices_dropped: u64,
    live: u32,
    seen: Timestamp,
}

impl TryFrom<Stored> for Engine {
    type Error = &'static str;

    fn try_from(it: Stored) -> Result<Self, Self::Error> {
        let mut engine = Self {
            keys: Keys::default(),
            timers: Timers::default(),
            policy: it.policy,
            gate: it.gate,
            limits: it.limits,
            seed: it.seed,
            slots: it.slots.into_iter().collect(),
            free: it.free,
            lines: it.lines,
            lines_wake: it.lines_wake,
            dirty: it.dirty,
            asked: it.asked,
            last_record: it.last_record,
            finished: it.finished,
            notices: VecDeque::new(),
            notices_dropped: it.notices_dropped,
            told: Told::NOTHING,
            unobserved: false,
            live: it.live,
            seen: it.seen,
            first_generation: 0,
        };
        engine.check_slots()?;
        engine.check_lists()?;
        engine.check_ends()?;
        engine.index()?;
        Ok(engine)
    }
}

impl Engine {
    fn check_slots(&self) -> Result<(), &'static str> {
        if !self.gate.is_whole() {
            return Err("the gate's machines are not those of its policy");
        }
        if !self.gate.looks_closely() {
            return Err("the breaker, which looks at nothing or at all");
        }
        if u32::try_from(self.slots.len()).is_err() {
            return Err("more slots than there can be");
        }
        let count = |test: fn(&Slot) -> bool| self.slots.iter().filter(|slot| test(slot)).count();
        if count(|slot| slot.live) != self.live as usize
            || count(|slot| slot.operation.is_none() && (slot.live || slot.place.is_some())) > 0
        {
            return Err("the number of live operations");
        }
        let ahead = |slot: &Slot| slot.operation.as_ref().is_some_and(|operation| operation.seen() > self.seen);
        if self.slots.iter().any(ahead) {
            return Err("an operation that has seen more than its engine of the clock");
        }
        let sound = |slot: &Slot| slot.operation.as_ref().is_none_or(|operation| operation.is_sound(&self.policy));
        if !self.slots.iter().all(sound) {
            return Err("an operation that no step leads to");
        }
        // A page has room behind the last slot, and that room looks like a vacant slot.
        let vacant = |slot: &u32| {
            (*slot as usize) < self.slots.len() && self.slots.get(*slot).is_some_and(|slot| slot.operation.is_none())
        };
        if count(|slot| slot.operation.is_none()) != self.free.len()
            || !self.free.iter().all(vacant)
            || !all_differ(&self.free)
        {
            return Err("the list of free slots");
        }
        Ok(())
    }

    fn check_lists(&self) -> Result<(), &'static str> {
        let dirty = self.slots.iter().filter(|slot| slot.dirty).count();
        let marked = |slot: &u32| self.slots.get(*slot).is_some_and(|slot| slot.dirty);
        let listed: Vec<u32> = self.dirty.iter().copied().collect();
        if dirty != listed.len() || !listed.iter().all(marked) || !all_differ(&listed) {
            return Err("the list of operations that owe effects");
        }
        let owes = |slot: &Slot| slot.operation.as_ref().is_some_and(|operation| operation.owes_effects());
        if self.slots.iter().any(|slot| owes(slot) && !slot.dirty) {
            return Err("an operation that owes effects and is not in the list");
        }
        let mut numbers = self.asked.iter().map(|asked| asked.number);
        if !numbers.clone().is_sorted() || numbers.next_back().is_some_and(|last| last > self.last_record) {
            return Err("the records in flight");
        }
        let mut asked: Vec<_> = self.asked.iter().map(|asked| (asked.id, asked.own)).collect();
        asked.sort_unstable();
        for (index, slot) in self.slots.numbered() {
            let id = OperationId { slot: index, generation: slot.generation };
            let awaited = slot.operation.as_ref().and_then(|operation| operation.awaits(&self.policy));
            if awaited.is_some_and(|own| asked.binary_search(&(id, own)).is_err()) {
                return Err("a record that nobody asked for");
            }
        }
        let placed = self.slots.iter().filter(|slot| slot.place.is_some()).count();
        if self.lines.standing(|slot| self.slots.get(slot)?.place) != Some(placed) {
            return Err("the lines at the gate");
        }
        let standing = |slot: &Slot| slot.operation.as_ref().is_some_and(|operation| operation.blocked().is_some());
        if self.slots.iter().any(|slot| standing(slot) != slot.place.is_some()) {
            return Err("an operation that waits at the gate and stands in no line");
        }
        Ok(())
    }

    /// All that are finished are remembered and no longer live, and no others; all that hold a permit are counted at
    /// the gate, and no others.
    fn check_ends(&self) -> Result<(), &'static str> {
        let mut remembered = 0_usize;
        for slot in self.slots.iter() {
            let Some(operation) = &slot.operation else { continue };
            let sound = if slot.live { !operation.is_finished() } else { operation.is_delivered() };
            if !sound {
                return Err("an operation that is live and finished, or neither");
            }
            remembered = remembered.saturating_add(usize::from(!slot.live));
        }
        let ids: Vec<u32> = self.finished.iter().map(|(_, id)| id.slot).collect();
        let live = |id: OperationId| self.slots.get(id.slot).is_some_and(|slot| slot.live);
        let known = |(_, id): &(Timestamp, OperationId)| self.operation(*id).is_some() && !live(*id);
        if ids.len() != remembered || !self.finished.iter().all(known) || !all_differ(&ids) {
            return Err("the list of finished operations");
        }
        for kind in [Kind::Create, Kind::Lookup, Kind::Poll] {
            let operations = self.slots.iter().filter_map(|slot| slot.operation.as_ref());
            let airborne = operations.filter(|operation| operation.has_leave_for() == Some(kind)).count();
            if u32::try_from(airborne) != Ok(self.gate.in_flight_of(kind)) {
                return Err("the number of requests in flight");
            }
        }
        if !self.gate.counts_alike() {
            return Err("the bulkhead's number of requests in flight");
        }
        Ok(())
    }

    /// Builds what follows from the slots: the index of keys, and the timers.
    fn index(&mut self) -> Result<(), &'static str> {
        for (index, slot) in self.slots.numbered() {
            let Some(operation) = &slot.operation else {
                self.timers.set(index, None);
                continue;
            };
            let key = operation.key();
            let seed = seed_of(self.seed, &key);
            if self.find_by(seed, &key).is_some() {
                return Err("a key that two operations have");
            }
            // The index goes by it.
            if operation.seed() != seed {
                return Err("an operation's seed, which follows from the engine's and its key");
            }
            self.timers.set(index, Self::wake_of(&self.policy, operation, operation.blocked().is_some()));
            let seed_at = |slot: u32| self.slots.get(slot)?.operation.as_ref().map(Operation::seed);
            self.keys.insert(seed, index, seed_at);
        }
        Ok(())
    }
}

fn all_differ(slots: &[u32]) -> bool {
    let mut sorted = slots.to_vec();
    sorted.sort_unstable();
    sorted.is_sorted_by(|a, b| a < b)
}
