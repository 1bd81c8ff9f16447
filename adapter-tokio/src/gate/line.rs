//! The callers that wait at the gate, and the permits that are kept and not used yet.
//!
//! A waiter says when it will look in again (`due`, at most one [`RECHECK`] off: its own timer sees to that). One that
//! has not come by a whole [`RECHECK`] after that is not being polled: it keeps its place and is passed over. When the
//! gate says no, a kept permit that is older than [`RECHECK`] goes to the first that asks.
//!
//! A place that is given up goes to the next that joins the line, unless it is the last, or one behind it has gone. Say
//! twenty callers come each second, ten may go, and each has a second for the wait and the call together. If given-up
//! places were lost, whoever goes would have waited for nearly all of that second, and would leave before its answer
//! comes: for as long as the load lasts, no call would be of use to anybody. Nobody waits longer for it: at most as many
//! such places are kept as there are callers in line.
//!
//! Where a full bulkhead is waited for, the same happens without anybody giving up a place: each gets its permit in its
//! last moments, leaves during the call, and makes room for the next, who is as late. So after a call that was given up
//! by a caller that had waited, the last in line goes before the first; but not twice in a row.
//!
//! [`RECHECK`]: Gate::RECHECK

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use steadfast_core::gate::{Admission, Blocked, Gate, Permit, Refusal, Request};
use steadfast_core::{Kind, Timestamp};

use super::Refused;

pub(super) struct State {
    pub(super) gate: Gate,
    /// One for each kind of request: what one kind waits for need not hold up another. In the order of joining, so of
    /// numbers too. What several kinds could have goes to the one of them that has waited longest, or those of a kind
    /// that always find room for themselves would keep the others out for ever.
    lines: [VecDeque<Waiter>; 3],
    /// For each line the numbers of the places before its last that were given up, in their order.
    given_up: [VecDeque<u64>; 3],
    /// For each line, who is next.
    next: [Next; 3],
    /// In the order of numbers, so of time too.
    #[cfg(feature = "tower")]
    kept: VecDeque<kept::KeptPermit>,
    numbers: u64,
    /// No longer of use. Dropped once nobody holds the lock: with the last waker a task may go, and what it holds of
    /// this gate.
    retired: Option<Waker>,
}

/// Which waiter of a line goes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    First,
    /// After a call that was given up.
    Last,
    /// The last has just gone.
    FirstAgain,
}

struct Waiter {
    number: u64,
    request: Request,
    due: Timestamp,
    waker: Waker,
}

/// What the gate says to somebody who would wait.
pub(super) enum Asked {
    Go(Permit),
    Refused(Refused),
    /// It is in line now: to ask again after this, or when it is woken.
    Wait(Duration),
}

/// The wakers to wake or drop once nobody holds the lock.
#[must_use]
pub(super) struct Woken {
    called: [Option<Waker>; 3],
    _retired: Option<Waker>,
}

impl Woken {
    pub(super) fn wake(self) {
        self.called.into_iter().flatten().for_each(Waker::wake);
    }
}

impl Waiter {
    fn is_absent(&self, now: Timestamp) -> bool {
        now >= self.due.saturating_add(Gate::RECHECK)
    }
}

impl State {
    pub(super) fn new(gate: Gate) -> Self {
        Self {
            gate,
            lines: Default::default(),
            given_up: Default::default(),
            next: [Next::First; 3],
            #[cfg(feature = "tower")]
            kept: VecDeque::new(),
            numbers: 0,
            retired: None,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.lines.iter().map(VecDeque::len).sum()
    }

    /// Asks leave for a caller that would not wait.
    pub(super) fn try_admit(&mut self, request: Request, now: Timestamp) -> Result<Permit, Refused> {
        if !self.is_next(None, request.kind, now) {
            return Err(Refused::new(Blocked::Line, Gate::RECHECK));
        }
        match self.admit(request, now) {
            Admission::Go(permit) => Ok(permit),
            Admission::Wait(refusal) | Admission::Refuse(refusal) => Err(self.refused(refusal, now)),
        }
    }

    /// Asks leave for the caller with this place, or with none yet. If it has to wait it has a place afterwards,
    /// otherwise none.
    pub(super) fn ask(&mut self, place: &mut Option<u64>, request: Request, waker: &Waker, now: Timestamp) -> Asked {
        let said = match self.gate.check(request, now) {
            // Said to all at once, wherever they stand.
            Some(Admission::Refuse(refusal)) => Admission::Refuse(refusal),
            _ if self.is_next(*place, request.kind, now) => self.admit(request, now),
            _ => return self.wait(place, request, waker, Gate::RECHECK, now),
        };
        if let Admission::Wait(refusal) = said {
            let wait = refusal.until.saturating_since(now).min(Gate::RECHECK);
            return self.wait(place, request, waker, wait, now);
        }
        if let Some(place) = place.take() {
            self.leave(place, request.kind);
            let next = &mut self.next[request.kind as usize];
            if let Admission::Go(_) = said {
                let was_first = *next != Next::Last;
                *next = if was_first { Next::First } else { Next::FirstAgain };
                if was_first {
                    // Those before it have had their time.
                    let given_up = &mut self.given_up[request.kind as usize];
                    given_up.drain(..given_up.partition_point(|other| *other < place));
                }
            }
        }
        match said {
            Admission::Go(permit) => Asked::Go(permit),
            Admission::Wait(refusal) | Admission::Refuse(refusal) => Asked::Refused(self.refused(refusal, now)),
        }
    }

    /// Gives a place to a caller that has none yet, if it comes before others by it: one that somebody has given up, or
    /// the last if the last goes next.
    pub(super) fn come(&mut self, place: &mut Option<u64>, request: Request, waker: &Waker, now: Timestamp) {
        let (line, given_up) = (&mut self.lines[request.kind as usize], &mut self.given_up[request.kind as usize]);
        if place.is_some() || line.is_empty() {
            return;
        }
        let number = if self.next[request.kind as usize] == Next::Last {
            self.numbers += 1;
            self.numbers
        } else if let Some(number) = given_up.pop_front() {
            number
        } else {
            return;
        };
        let at = line.partition_point(|waiter| waiter.number < number);
        line.insert(at, Waiter { number, request, due: now, waker: waker.clone() });
        *place = Some(number);
    }

    /// Gives up a place in the line, for the next that comes.
    pub(super) fn give_up(&mut self, place: u64, kind: Kind) {
        self.leave(place, kind);
        let given_up = &mut self.given_up[kind as usize];
        given_up.insert(given_up.partition_point(|other| *other < place), place);
        self.forget_last(kind);
    }

    /// A caller that had waited has given its call up.
    pub(super) fn was_too_late(&mut self, kind: Kind) {
        let next = &mut self.next[kind as usize];
        if *next == Next::First && !self.lines[kind as usize].is_empty() {
            *next = Next::Last;
        }
    }

    /// Leaves the line.
    fn leave(&mut self, place: u64, kind: Kind) {
        let line = &mut self.lines[kind as usize];
        if let Ok(at) = line.binary_search_by_key(&place, |waiter| waiter.number) {
            self.retired = line.remove(at).map(|waiter| waiter.waker);
        }
        self.forget_last(kind);
    }

    /// A place that nobody stands behind is none, nor is one too many.
    fn forget_last(&mut self, kind: Kind) {
        let last = self.lines[kind as usize].back().map_or(0, |waiter| waiter.number);
        let given_up = &mut self.given_up[kind as usize];
        given_up.truncate(given_up.partition_point(|place| *place < last));
        // As many as there are to take turns with at most: after a rush, or a time in which nobody could go, all who come
        // would go before those who have stayed.
        given_up.drain(..given_up.len().saturating_sub(self.lines[kind as usize].len()));
        if last == 0 {
            self.next[kind as usize] = Next::First;
        }
    }

    /// Calls the first of each line, unless the gate would have it wait for as long as it does, or longer: one that
    /// has come to be first only now must know when its time is. A caller that takes its permit calls the next.
    pub(super) fn call(&mut self, now: Timestamp) -> Woken {
        let mut woken = self.call_nobody();
        for ((line, next), woken) in self.lines.iter_mut().zip(self.next).zip(&mut woken.called) {
            let is_there = |waiter: &&mut Waiter| !waiter.is_absent(now);
            let mut waiters = line.iter_mut();
            let first = if next == Next::Last { waiters.rfind(is_there) } else { waiters.find(is_there) };
            let Some(first) = first else { continue };
            let until = match self.gate.check(first.request, now) {
                Some(Admission::Wait(refusal)) => Some(refusal.until),
                _ => None,
            };
            if until.is_none_or(|until| until < first.due) {
                first.due = first.due.min(now);
                *woken = Some(first.waker.clone());
            }
        }
        woken
    }

    pub(super) const fn call_nobody(&mut self) -> Woken {
        Woken { called: [const { None }; 3], _retired: self.retired.take() }
    }

    /// The refusal as told to callers that do not wait. The machine has waiters look in on an isolated breaker; a
    /// caller that leaves is told that time does not end it.
    pub(super) fn refused(&self, refusal: Refusal, now: Timestamp) -> Refused {
        let is_isolated = refusal.why == Blocked::Isolated;
        let retry_in = if is_isolated { Duration::MAX } else { refusal.until.saturating_since(now) };
        Refused::new(refusal.why, retry_in)
    }

    fn admit(&mut self, request: Request, now: Timestamp) -> Admission {
        let said = self.gate.admit(request, now);
        #[cfg(feature = "tower")]
        if matches!(said, Admission::Wait(_)) && self.take_back_forgotten(now) {
            return self.gate.admit(request, now);
        }
        said
    }

    /// Whether the caller with this place, or with none, is the next of its kind, and no other kind has waited longer
    /// and could go. A kind has waited for as long as its first has, also while its last goes next: that is the newest of
    /// all, and a kind that waited for no longer than that would never go beside another.
    fn is_next(&self, place: Option<u64>, kind: Kind, now: Timestamp) -> bool {
        let is_there = |waiter: &&Waiter| !waiter.is_absent(now) || place == Some(waiter.number);
        let first = |line: &VecDeque<Waiter>| line.iter().find(is_there).map(|first| first.number);
        let own = place.and_then(|_| first(&self.lines[kind as usize]));
        self.lines.iter().zip(self.next).all(|(line, next)| {
            let next = if next == Next::Last { line.iter().rfind(is_there) } else { line.iter().find(is_there) };
            let Some(next) = next else { return true };
            if next.request.kind == kind {
                return place == Some(next.number);
            }
            let has_waited_longer = own.is_none_or(|own| first(line).is_some_and(|first| first < own));
            !has_waited_longer || self.gate.check(next.request, now).is_some()
        })
    }

    fn wait(
        &mut self,
        place: &mut Option<u64>,
        request: Request,
        waker: &Waker,
        wait: Duration,
        now: Timestamp,
    ) -> Asked {
        let due = now.saturating_add(wait);
        let line = &mut self.lines[request.kind as usize];
        let stands = place.and_then(|place| line.binary_search_by_key(&place, |waiter| waiter.number).ok());
        if let Some(waiter) = stands.and_then(|at| line.get_mut(at)) {
            waiter.due = due;
            if !waiter.waker.will_wake(waker) {
                self.retired = Some(std::mem::replace(&mut waiter.waker, waker.clone()));
            }
        } else {
            self.numbers += 1;
            line.push_back(Waiter { number: self.numbers, request, due, waker: waker.clone() });
            *place = Some(self.numbers);
        }
        Asked::Wait(wait)
    }
}

/// A permit that is kept for later.
#[cfg(feature = "tower")]
mod kept {
    use steadfast_core::Timestamp;
    use steadfast_core::breaker::Breaker;
    use steadfast_core::gate::{Admission, Blocked, Gate, Permit, Request, Settled};

    use super::{Refused, State};

    pub(super) struct KeptPermit {
        number: u64,
        permit: Permit,
        since: Timestamp,
        /// The breaker's when the permit was given.
        epoch: u32,
    }

    impl State {
        /// Keeps a permit for its owner; gives the number to claim it by.
        pub(in crate::gate) fn keep(&mut self, permit: Permit, now: Timestamp) -> u64 {
            self.numbers += 1;
            let epoch = self.epoch();
            self.kept.push_back(KeptPermit { number: self.numbers, permit, since: now, epoch });
            self.numbers
        }

        /// The permit of this number if it is still valid; else another, if there is one now.
        pub(in crate::gate) fn claim(
            &mut self,
            number: Option<u64>,
            request: Request,
            now: Timestamp,
        ) -> Result<Permit, Refused> {
            if let Some(kept) = self.take(number) {
                if self.stands(&kept, request, now) {
                    return Ok(kept.permit.begun(now));
                }
                self.gate.settle(kept.permit, Settled::Unsent, now);
            }
            match self.admit(request, now) {
                Admission::Go(permit) => Ok(permit),
                Admission::Wait(refusal) | Admission::Refuse(refusal) => Err(self.refused(refusal, now)),
            }
        }

        /// Gives back the permit of this number, if it has not been given to others already.
        pub(in crate::gate) fn give_back(&mut self, number: u64, now: Timestamp) {
            if let Some(kept) = self.take(Some(number)) {
                self.gate.settle(kept.permit, Settled::Unsent, now);
            }
        }

        /// Takes back a permit that has been kept for longer than anybody needs who means to use it.
        pub(super) fn take_back_forgotten(&mut self, now: Timestamp) -> bool {
            let forgotten = self.kept.partition_point(|kept| kept.is_forgotten(now));
            for kept in self.kept.drain(..forgotten) {
                self.gate.settle(kept.permit, Settled::Unsent, now);
            }
            forgotten > 0
        }

        /// Whether the upstream's state is as it was when the permit was given.
        fn stands(&mut self, kept: &KeptPermit, request: Request, now: Timestamp) -> bool {
            let blocked = match self.gate.check(request, now) {
                Some(Admission::Wait(refusal) | Admission::Refuse(refusal)) => Some(refusal.why),
                _ => None,
            };
            let lease = self.gate.policy().breaker().map(|breaker| breaker.probes().lease);
            let has_expired =
                kept.permit.is_probe() && lease.is_some_and(|lease| now >= kept.since.saturating_add(lease));
            !kept.is_forgotten(now)
                && !has_expired
                && kept.epoch == self.epoch()
                && !matches!(blocked, Some(Blocked::Held | Blocked::Paused))
        }

        fn take(&mut self, number: Option<u64>) -> Option<KeptPermit> {
            let at = self.kept.binary_search_by_key(&number?, |kept| kept.number).ok()?;
            self.kept.remove(at)
        }

        fn epoch(&mut self) -> u32 {
            self.gate.breaker_mut().map_or(0, |(breaker, _)| Breaker::epoch(breaker))
        }
    }

    impl KeptPermit {
        fn is_forgotten(&self, now: Timestamp) -> bool {
            now >= self.since.saturating_add(Gate::RECHECK)
        }
    }
}
