//! What the shards of one client have in common: leave to send, the credentials' renewal, the inbox.
//!
//! A provider sees one client, so there is one gate, however many drivers there are. Each driver's engine has it for
//! the length of one step, under a lock that is held for no longer; between steps it has a stand-in that lets nothing
//! leave. So every limit holds for the client as a whole, to the last request, and what one shard learns (a pause, a
//! quota, an outage) the others know at their next step: there is nothing to be divided, nothing to be told, and no
//! moment at which they differ. The price is the lock, some ten times in the life of a job, for a fraction of a
//! microsecond each.
//!
//! Under neither lock (this one, the inbox's) is the program's code called: a subscriber, a recorder or a waker may take
//! its time, and may wait for what another shard says. What they are to hear is told once the lock is free.
//!
//! Steps of two shards may come to the gate in another order than their times were read in, by some microseconds. Its
//! machines bear that: time that runs backwards admits nothing that would otherwise wait (I11).
//!
//! # Who is next
//!
//! Each engine keeps the requests that wait at the gate in lines of its own, one for each kind of request. The shards
//! themselves stand in line here, once for each kind in which they have a request waiting. When the first of a shard's
//! line has gone, the shard goes to the back. A shard further back yields ([`Gate::stand_back`]): to those of the same
//! kind in any case, to those of another kind as long as what is free would be enough for one of them. So no shard
//! starves another, and places are used as soon as they are free.
//!
//! A shard that has come to the front, or that could go now, is told so ([`Word`]), since its own next deadline may be
//! later. One that does not come within [`Gate::RECHECK`] loses its place: a task that hangs holds up nobody else.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use steadfast_core::engine::{Event, RestoreError, SubmitError, Submitted};
use steadfast_core::gate::{Gate, GatePolicy, Kinds, Request};
use steadfast_core::operation::Record;
use steadfast_core::{Engine, Fingerprint, Key, Kind, OperationId, Reference, Seed, Timestamp};

use super::inbox::Board;
use super::renew::{Renew, Renewals};
use super::{Driver, Task};
use crate::meter::{Meter, OfGate};
use crate::webhook::WebhookPolicy;

const KINDS: [Kind; 3] = [Kind::Create, Kind::Lookup, Kind::Poll];

/// A message from one shard to another. Its content concerns only the drivers: pass it on ([`Driver::hear`]) as soon as
/// possible.
#[derive(Debug)]
#[must_use = "feed it to the other shard's `Driver::hear`: that shard waits for it"]
pub struct Word(pub(super) Said);

#[derive(Debug)]
pub(super) enum Said {
    /// The gate may have room for you.
    Look,
    /// A webhook lies in the inbox: is it about a job of yours, by its reference? It says nothing if it has taken it.
    Whose {
        early: u64,
        home: usize,
        reference: Reference,
        /// Its key is known, so it is about no job whose reference is not.
        has_key: bool,
    },
    /// None of mine, and whether it may turn out to be.
    NotMine { early: u64, may_be: bool },
}

/// What all shards of one client share.
pub(crate) struct Common {
    upstream: Mutex<Upstream>,
    /// What the metrics are told of the gate.
    levels: OnceLock<OfGate>,
    pub(super) board: Mutex<Board>,
    /// How many events lie in the inbox: as a rule none, and then it need not be locked.
    pub(super) early: AtomicUsize,
    pub(super) count: usize,
}

struct Upstream {
    gate: Gate,
    renewals: Renewals,
    /// Which shard waits to send which kind of request.
    line: Vec<(usize, Kind)>,
    /// The shard at the front of the line, and of each kind's, when a shard was last told.
    front: [Option<usize>; 1 + KINDS.len()],
    /// By shard: when it was told to come, if it has not come yet.
    told: Vec<Option<Timestamp>>,
}

/// One shard's part.
pub(crate) struct Shard {
    pub(crate) index: usize,
    pub(crate) common: Arc<Common>,
}

impl Common {
    pub(crate) fn new(count: usize, gate: GatePolicy, seed: Seed, renew: Option<Renew>, inbox: &WebhookPolicy) -> Self {
        let upstream = Upstream {
            gate: Gate::new(gate, seed),
            renewals: Renewals::new(renew),
            line: Vec::new(),
            front: [None; 1 + KINDS.len()],
            told: vec![None; count],
        };
        let board = Mutex::new(Board::new(*inbox));
        let (upstream, levels) = (Mutex::new(upstream), OnceLock::new());
        Self { upstream, levels, board, early: AtomicUsize::new(0), count }
    }

    fn upstream(&self) -> MutexGuard<'_, Upstream> {
        // After a panic in a step the gate was put back before the lock was let go.
        self.upstream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    /// Puts the gate into this shard's engine. Returns the first in each of its lines.
    fn lend(&mut self, shard: usize, engine: &mut Engine, now: Timestamp) -> [Option<OperationId>; KINDS.len()] {
        self.told[shard] = None;
        if !self.line.is_empty() {
            self.pass_over_late(now);
        }
        std::mem::swap(engine.gate_mut(), &mut self.gate);
        for kind in KINDS {
            let before = self.line.iter().take_while(|place| **place != (shard, kind));
            let others = before.filter(|(other, _)| *other != shard);
            let first = others.fold(Kinds::NONE, |kinds, (_, kind)| kinds.with(*kind));
            engine.gate_mut().stand_back(kind, first);
        }
        KINDS.map(|kind| engine.first_in_line(kind))
    }

    /// Takes the gate back. Returns the shards to tell, as bits.
    fn take_back(
        &mut self,
        Shard { index: shard, .. }: &Shard,
        engine: &mut Engine,
        before: [Option<OperationId>; KINDS.len()],
        now: Timestamp,
    ) -> u64 {
        std::mem::swap(engine.gate_mut(), &mut self.gate);
        for (kind, before) in KINDS.into_iter().zip(before) {
            let (place, first) = ((*shard, kind), engine.first_in_line(kind));
            let at = self.line.iter().position(|other| *other == place);
            if let Some(at) = at.filter(|_| first.is_none() || first != before) {
                self.line.remove(at);
            }
            if first.is_some() && (at.is_none() || first != before) {
                self.line.push(place);
            }
        }
        if self.line.is_empty() {
            return 0;
        }
        self.call(*shard, now)
    }

    /// The shards to tell that it is their turn, other than the one that has just had its own.
    fn call(&mut self, but: usize, now: Timestamp) -> u64 {
        let first_of = |kind| self.line.iter().find(|(_, other)| *other == kind).map(|(shard, _)| *shard);
        let [create, lookup, poll] = KINDS.map(first_of);
        let front = [self.line.first().map(|(shard, _)| *shard), create, lookup, poll];
        let came = front.into_iter().zip(self.front).filter(|(now, before)| now != before).filter_map(|(now, _)| now);
        for kind in KINDS {
            self.gate.stand_back(kind, Kinds::NONE);
        }
        // A request that would be refused is no reason to call: polls wait on, and two shards would tell each other to
        // look for as long as an outage lasts.
        let goes = |kind: Kind| self.gate.check(Request::first(kind), now).is_none();
        let goes = self.line.iter().find(|(shard, kind)| *shard != but && goes(*kind)).map(|(shard, _)| *shard);
        let mut called = 0;
        for shard in came.chain(goes).filter(|shard| *shard != but) {
            if self.told[shard].is_none() {
                self.told[shard] = Some(now);
                called |= 1 << shard;
            }
        }
        self.front = front;
        called
    }

    /// A shard that was told and has not come goes to the back of the line.
    fn pass_over_late(&mut self, now: Timestamp) {
        for shard in 0..self.told.len() {
            if self.told[shard].is_some_and(|since| since.saturating_add(Gate::RECHECK) <= now) {
                self.told[shard] = None;
                self.line.sort_by_key(|(other, _)| *other == shard);
            }
        }
    }

    fn leave(&mut self, shard: usize) {
        self.line.retain(|(other, _)| *other != shard);
    }
}

/// A shard that has ended waits for nothing.
impl Drop for Shard {
    fn drop(&mut self) {
        self.common.upstream().leave(self.index);
        self.common.leave_board(self.index);
    }
}

/// A driver's engine. A shard's has the gate only during a step; what changes nothing can be asked at any time.
pub(super) struct Gated {
    engine: Engine,
    shard: Option<Shard>,
    /// Nothing is carried out any more, so nothing waits.
    closed: bool,
    /// A bit for each shard that is to be told to look at the gate.
    called: u64,
}

impl Gated {
    pub(super) const fn new(engine: Engine, shard: Option<Shard>) -> Self {
        Self { engine, shard, closed: false, called: 0 }
    }

    /// A stand-in for a gate that is elsewhere.
    pub(super) fn stand_in() -> Gate {
        let mut gate = Gate::unlimited();
        gate.hold_until(Timestamp::NEVER);
        gate
    }

    fn step<T>(&mut self, now: Timestamp, step: impl FnOnce(&mut Engine) -> T) -> T {
        let Some(shard) = &self.shard else { return step(&mut self.engine) };
        let mut upstream = shard.common.upstream();
        let before = upstream.lend(shard.index, &mut self.engine, now);
        let done = catch_unwind(AssertUnwindSafe(|| step(&mut self.engine)));
        // Also after a panic: it costs this shard, not the gate of all.
        self.called |= upstream.take_back(shard, &mut self.engine, before, now);
        if self.closed {
            upstream.leave(shard.index);
        }
        drop(upstream);
        done.unwrap_or_else(|panicked| resume_unwind(panicked))
    }

    pub(super) fn handle(&mut self, event: Event, now: Timestamp) {
        self.step(now, |engine| engine.handle(event, now));
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        self.step(now, |engine| engine.handle_timeout(now));
    }

    pub(super) fn submit(&mut self, key: Key, print: Fingerprint, now: Timestamp) -> Result<Submitted, SubmitError> {
        self.step(now, |engine| engine.submit(key, print, now))
    }

    pub(super) fn restore(&mut self, record: Record, now: Timestamp) -> Result<OperationId, RestoreError> {
        self.step(now, |engine| engine.restore(record, now))
    }

    pub(super) fn withdraw(&mut self, id: OperationId, now: Timestamp) -> Option<Record> {
        self.step(now, |engine| engine.withdraw(id, now))
    }

    pub(super) fn with_gate<T>(&mut self, now: Timestamp, work: impl FnOnce(&mut Gate) -> T) -> T {
        self.step(now, |engine| work(engine.gate_mut()))
    }

    /// Waits for nothing from now on.
    pub(super) fn close(&mut self) {
        self.closed = true;
        if let Some(shard) = &self.shard {
            shard.common.upstream().leave(shard.index);
        }
    }
}

/// To look at, and to pop: neither needs the gate.
impl Deref for Gated {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl DerefMut for Gated {
    fn deref_mut(&mut self) -> &mut Engine {
        &mut self.engine
    }
}

impl<H> Driver<H> {
    /// Feeds a word from another shard of the client. Then go on as after any input.
    pub fn hear(&mut self, word: Word, now: Timestamp) {
        self.look_at_clock(now);
        match word.0 {
            // The next `handle_timeout` does.
            Said::Look => {}
            Said::Whose { early, home, reference, has_key } => self.look_for(early, home, &reference, has_key),
            Said::NotMine { early, may_be } => self.is_not_theirs(early, may_be),
        }
    }

    /// Takes back a word that could not be passed on, since the shard that it was for has ended.
    pub fn unheard(&mut self, word: Word) {
        // That shard's jobs may be in the store, so it cannot be said that nobody knows the job.
        if let Said::Whose { early, .. } = word.0 {
            self.is_not_theirs(early, true);
        }
    }

    /// A task that tells another shard to look at the gate, if one is to be told.
    pub(super) fn tell_shards(&mut self) -> Option<Task<H>> {
        if self.engine.called == 0 {
            return None;
        }
        let shard = self.engine.called.trailing_zeros();
        self.engine.called &= !(1 << shard);
        Some(Task::Tell(shard as usize, Word(Said::Look)))
    }

    /// Its own place among the client's shards; `None` if it is alone.
    pub(super) fn shard(&self) -> Option<&Shard> {
        self.engine.shard.as_ref()
    }

    /// Runs this with the shards' common gate and renewals in place, under their lock. Steps of the engine in it belong
    /// to the same locked section.
    pub(super) fn in_common<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let Some(shard) = self.engine.shard.take() else { return work(self) };
        let now = self.now;
        let mut upstream = shard.common.upstream();
        let before = upstream.lend(shard.index, &mut self.engine.engine, now);
        std::mem::swap(&mut self.renewals, &mut upstream.renewals);
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        // Also after a panic: it costs this shard, not the gate of all.
        std::mem::swap(&mut self.renewals, &mut upstream.renewals);
        // So that the driver wakes when a renewal that it began is due to end.
        self.renewals.look_like(&upstream.renewals);
        self.engine.called |= upstream.take_back(&shard, &mut self.engine.engine, before, now);
        if self.engine.closed {
            upstream.leave(shard.index);
        }
        drop(upstream);
        self.engine.shard = Some(shard);
        done.unwrap_or_else(|panicked| resume_unwind(panicked))
    }

    /// Which credentials requests are sent with.
    pub(super) fn generation(&self) -> u32 {
        match self.shard().filter(|_| self.renewals.has_hook()) {
            Some(shard) => shard.common.upstream().renewals.generation,
            None => self.renewals.generation,
        }
    }

    /// Samples the gate at the end of a turn, if shards share it. The recorder, which is the program's code, is called
    /// without the lock: what it is told are changes, which may come in any order.
    pub(super) fn sample_gate(&self) {
        let Some(shard) = self.shard().filter(|_| Meter::LISTENS) else { return };
        let levels = match shard.common.levels.get() {
            Some(levels) => levels,
            None => {
                let gate = shard.common.upstream().gate.clone();
                let new = OfGate::new(&self.provider_name, &gate, self.now);
                // Not made in `get_or_init`, which is a lock too. If another shard was first, its gauges are the same.
                shard.common.levels.get_or_init(|| new)
            }
        };
        let upstream = shard.common.upstream();
        let changes = levels.look(&upstream.gate, self.now);
        drop(upstream);
        levels.add(changes);
    }
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Common({} shards)", self.count)
    }
}

#[cfg(test)]
mod locks;

#[cfg(test)]
mod tests {
    use steadfast_core::OperationPolicy;
    use steadfast_core::engine::Limits;

    use super::*;

    #[test]
    fn a_step_that_panics_costs_its_shard_and_not_the_gate_of_all() {
        let (policy, seed, now) = (GatePolicy::default(), Seed::new(7), Timestamp::from_secs(1));
        let common = Arc::new(Common::new(2, policy, seed, None, &WebhookPolicy::default()));
        let shard = |index| {
            let engine = Engine::new(OperationPolicy::default(), Gated::stand_in(), Limits::default(), seed);
            Gated::new(engine, Some(Shard { index, common: common.clone() }))
        };
        let (mut one, mut other) = (shard(0), shard(1));
        let panicked = catch_unwind(AssertUnwindSafe(|| one.step(now, |_| panic!("as it was told to"))));
        assert!(panicked.is_err());
        let goes = |gate: &mut Gate| gate.check(Request::first(Kind::Create), now).is_none();
        assert!(other.with_gate(now, goes));
        assert!(!goes(one.gate_mut()), "between steps it has a stand-in");
        drop(one);
        assert!(other.with_gate(now, goes));
    }
}
