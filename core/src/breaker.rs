//! Is the upstream well enough to be asked?
//!
//! A [`Breaker`] watches how calls end. While they end well it is *closed* and lets every call through. When too many
//! fail it *opens* and lets none through: callers learn at once what they would have learnt after a time-out, and the
//! upstream gets rest. After a while it is *half-open*: a few calls go as probes, and their ends decide.
//!
//! ```text
//!            too many bad                    open time over, next ask
//!  Closed ─────────────────→ Open { until } ─────────────────────────→ HalfOpen
//!     ↑                          ↑                                    │      │
//!     │                          └── `failures` probes end badly ─────┘      │
//!     └──────────────────────────── `successes` probes end well ─────────────┘
//!
//!  By hand: force_open(until) → Open, isolate() → Isolated, disable() → Disabled, reset() → Closed
//! ```
//!
//! A call asks with [`admit`](Breaker::admit) and gets a [`Ticket`] or the time to ask again; it gives the ticket back
//! with [`settle`](Breaker::settle) and what became of the call. What counts as a failure is decided not here but by
//! the code that classifies answers: a 400 is a sign of the upstream's [`Health`], not of illness.
//!
//! Why tickets: each carries the *epoch* in which it was given, and every transition begins a new one, so a call that
//! began before the breaker opened changes nothing when it ends after (R23). A probe's ticket is a lease: given back
//! unused it frees its place, and one that is never given back expires, so no lost future can hold the breaker
//! half-open for ever. Those two are how nearly every other breaker has been wedged.
//!
//! Invariants, each a property test and checked over all histories of small settings: an open breaker lets a probe
//! through in bounded time (I9); never more probes at once than the policy says (R21); asked at an earlier time, it
//! lets nothing through that would otherwise wait (I11).
//!
//! ```
//! use core::time::Duration;
//! use steadfast_core::breaker::{Breaker, BreakerPolicy, BreakerState, Health};
//! use steadfast_core::{Seed, Timestamp};
//!
//! let policy = BreakerPolicy::consecutive(3)?;
//! let mut breaker = Breaker::new(&policy, Seed::new(7));
//! let now = Timestamp::from_secs(1_700_000_000);
//! for _ in 0..3 {
//!     let ticket = breaker.admit(&policy, now).expect("it is closed");
//!     breaker.settle(&policy, ticket, Health::Failing, now);
//! }
//! let until = breaker.admit(&policy, now).unwrap_err(); // open: ask again then
//! let probe = breaker.admit(&policy, until).expect("half-open: one probe may go");
//! assert!(breaker.admit(&policy, until).is_err()); // and no second one beside it
//! breaker.settle(&policy, probe, Health::Healthy, until);
//! let second = breaker.admit(&policy, until).expect("one good probe may be luck: another may go");
//! breaker.settle(&policy, second, Health::Healthy, until);
//! assert_eq!(breaker.state(until), BreakerState::Closed);
//! # Ok::<(), steadfast_core::PolicyError>(())
//! ```

mod glance;
mod policy;
mod window;

pub use self::glance::Glance;
pub use self::policy::{BreakerPolicy, Probes, SlowCalls, Trip, Window};
pub use self::window::Counts;

use self::policy::MOST_PROBES;
use self::window::Memory;
use crate::seed::Seed;
use crate::time::{Stopwatch, Timestamp};

/// What the end of a call says about the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a call speaks for the upstream, against it, or says nothing of it")]
pub enum Health {
    /// It answers: a success, and also a refusal of this one call.
    Healthy,
    /// It does not answer as it should: a time-out, a reset, a 500.
    Failing,
    /// The call says nothing about it: it was cancelled, never left, or was refused for its pace. Its ticket is given
    /// back, and no result is recorded.
    Ignored,
}

/// Permission for one call. Plain data, so that it can be stored with the state of what holds it; 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[must_use = "a ticket that is never settled counts for nothing, and a probe's place stays taken until its lease ends"]
pub struct Ticket {
    epoch: u32,
    began: Stopwatch,
    /// The probe's place, from 1; 0 if it is no probe.
    place: u8,
    /// Which lease of that place.
    lease: u8,
}

impl Ticket {
    /// A ticket of no breaker.
    pub(crate) const NONE: Self = Self { epoch: 0, began: Stopwatch::UNUSED, place: 0, lease: 0 };

    /// The ticket for a call that begins only now: time spent waiting before does not make it slow.
    pub const fn begun(mut self, now: Timestamp) -> Self {
        self.began = Stopwatch::start(now);
        self
    }

    /// Whether it is a half-open breaker's probe.
    #[must_use]
    pub const fn is_probe(self) -> bool {
        self.place > 0
    }

    /// Whether its call, ending now, was a slow one.
    #[must_use]
    pub fn is_slow(self, policy: &BreakerPolicy, now: Timestamp) -> bool {
        policy.slow_calls().is_some_and(|slow| self.began.elapsed(now) > slow.longer_than)
    }

    /// The breaker's [epoch](Breaker::epoch) in which it was given.
    #[must_use]
    pub const fn epoch(self) -> u32 {
        self.epoch
    }

    pub(crate) const fn parts(self) -> (u32, u8, u8) {
        (self.epoch, self.place, self.lease)
    }

    pub(crate) const fn of_parts(epoch: u32, began: Stopwatch, place: u8, lease: u8) -> Self {
        Self { epoch, began, place, lease }
    }
}

/// What a breaker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum BreakerState {
    /// Every call goes.
    Closed,
    /// No call goes before `until`.
    Open {
        /// When the first probe may go.
        until: Timestamp,
    },
    /// A few calls go as probes.
    HalfOpen,
    /// No call goes until somebody says so.
    Isolated,
    /// Every call goes, and how it ends is not looked at.
    Disabled,
}

impl BreakerState {
    /// `closed`, `open`, `half_open`, `isolated` or `disabled`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen => "half_open",
            Self::Isolated => "isolated",
            Self::Disabled => "disabled",
        }
    }
}

/// A circuit breaker. See the [module](self) for what it does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Breaker {
    phase: Phase,
    memory: Memory,
    /// Begins anew with every transition.
    epoch: u32,
    /// How often it has opened since it was last closed: open time backs off by it.
    opened: u32,
    /// Closed, and a good call would change nothing that is remembered, however long it took. Kept as a flag, so that
    /// the common case is one look.
    quiet: bool,
    seed: Seed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[expect(clippy::large_enum_variant, reason = "one to an upstream, and a box would be an allocation")]
enum Phase {
    Closed,
    Open { until: Timestamp },
    HalfOpen { well: u16, badly: u16, leases: [Lease; MOST_PROBES as usize] },
    Isolated,
    Disabled,
}

/// A probe's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Lease {
    /// Free from then on.
    until: Timestamp,
    number: u8,
}

impl Breaker {
    /// A closed breaker. `seed` spreads its open times, and should differ from upstream to upstream and process to
    /// process.
    #[must_use]
    pub const fn new(policy: &BreakerPolicy, seed: Seed) -> Self {
        let memory = Memory::new(policy.trip());
        let quiet = memory.is_clean() && policy.slow_calls().is_none();
        Self { phase: Phase::Closed, memory, epoch: 0, opened: 0, quiet, seed }
    }

    /// Asks whether one call may go.
    ///
    /// # Errors
    /// Not now: the time to ask again. It is later than `now`; [`Timestamp::NEVER`] while the breaker is isolated.
    /// While half-open it is when the next probe's lease ends, but a probe that comes back earlier may change things
    /// earlier.
    #[inline]
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn admit(&mut self, policy: &BreakerPolicy, now: Timestamp) -> Result<Ticket, Timestamp> {
        if self.quiet {
            return Ok(Ticket { epoch: self.epoch, began: Stopwatch::UNUSED, place: 0, lease: 0 });
        }
        match self.phase {
            Phase::Closed | Phase::Disabled => Ok(self.ticket(0, 0, policy, now)),
            Phase::Open { until } if until > now => Err(until),
            Phase::Open { .. } | Phase::HalfOpen { .. } | Phase::Isolated => self.admit_probe(policy, now),
        }
    }

    #[inline(never)]
    fn admit_probe(&mut self, policy: &BreakerPolicy, now: Timestamp) -> Result<Ticket, Timestamp> {
        self.check(policy, now)?;
        if let Phase::Open { .. } = self.phase {
            let free = Lease { until: Timestamp::EPOCH, number: 0 };
            self.turn(Phase::HalfOpen { well: 0, badly: 0, leases: [free; MOST_PROBES as usize] });
        }
        let until = now.saturating_add(policy.probes().lease);
        let mut given = (0, 0);
        if let Phase::HalfOpen { leases, .. } = &mut self.phase {
            for (place, lease) in (1..=policy.probes().at_once).zip(leases) {
                if lease.until <= now {
                    *lease = Lease { until, number: lease.number.wrapping_add(1) };
                    given = (place, lease.number);
                    break;
                }
            }
        }
        Ok(self.ticket(given.0, given.1, policy, now))
    }

    /// What [`admit`](Breaker::admit) would say; nothing changes.
    ///
    /// # Errors
    /// As [`admit`](Breaker::admit).
    pub fn check(&self, policy: &BreakerPolicy, now: Timestamp) -> Result<(), Timestamp> {
        match &self.phase {
            Phase::Closed | Phase::Disabled => Ok(()),
            Phase::Open { until } if *until <= now => Ok(()),
            Phase::Open { until } => Err(*until),
            Phase::Isolated => Err(Timestamp::NEVER),
            Phase::HalfOpen { leases, .. } => {
                let in_use = leases.iter().take(usize::from(policy.probes().at_once));
                let next = in_use.map(|lease| lease.until).min().unwrap_or(Timestamp::NEVER);
                if next <= now { Ok(()) } else { Err(next) }
            }
        }
    }

    /// Takes a ticket back, with what became of its call. A ticket of another epoch changes nothing.
    #[inline]
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn settle(&mut self, policy: &BreakerPolicy, ticket: Ticket, health: Health, now: Timestamp) {
        // The common case by far: all is well, and stays so.
        let all_well = self.quiet && matches!(health, Health::Healthy);
        if ticket.epoch == self.epoch && !all_well {
            self.look_closer(policy, ticket, health, now);
        }
    }

    #[inline(never)]
    fn look_closer(&mut self, policy: &BreakerPolicy, ticket: Ticket, health: Health, now: Timestamp) {
        // Well again, with failures in the window: it opens nothing, and nothing need be looked at but a bit.
        if let (Health::Healthy, Phase::Closed, None) = (health, &self.phase, policy.slow_calls())
            && self.memory.record_good(policy.trip_ref())
        {
            self.quiet = self.memory.is_clean();
            return;
        }
        self.count(policy, ticket, health, now);
        self.look(policy);
    }

    fn count(&mut self, policy: &BreakerPolicy, ticket: Ticket, health: Health, now: Timestamp) {
        let slow = ticket.is_slow(policy, now);
        match &mut self.phase {
            Phase::Closed if health != Health::Ignored => {
                let bad = health == Health::Failing;
                self.memory.record(bad, slow, policy.trip_ref(), now);
                // A good call opens nothing, even if it is the one that makes the number of calls sufficient.
                if (bad || slow) && policy.is_tripped_by(self.memory.counts(now)) {
                    self.open(policy, now);
                }
            }
            Phase::HalfOpen { well, badly, leases } => {
                let place = usize::from(ticket.place).wrapping_sub(1);
                let Some(lease) = leases.get_mut(place).filter(|lease| lease.number == ticket.lease) else { return };
                if lease.until == Timestamp::EPOCH {
                    return;
                }
                lease.until = Timestamp::EPOCH;
                match health {
                    Health::Ignored => {}
                    Health::Healthy if !slow => *well = well.saturating_add(1),
                    Health::Healthy | Health::Failing => *badly = badly.saturating_add(1),
                }
                if *well >= policy.probes().successes {
                    self.reset(policy);
                } else if *badly >= policy.probes().failures {
                    self.open(policy, now);
                }
            }
            Phase::Closed | Phase::Open { .. } | Phase::Isolated | Phase::Disabled => {}
        }
    }

    /// What it is doing now.
    #[must_use]
    pub const fn state(&self, now: Timestamp) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { until } if until.as_nanos() > now.as_nanos() => BreakerState::Open { until },
            Phase::Open { .. } | Phase::HalfOpen { .. } => BreakerState::HalfOpen,
            Phase::Isolated => BreakerState::Isolated,
            Phase::Disabled => BreakerState::Disabled,
        }
    }

    /// The calls that it remembers; of an open breaker, those that opened it. If it counts failures in a row, only
    /// those are told.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> Counts {
        self.memory.counts(now)
    }

    /// Probes that are out and have not expired.
    #[must_use]
    pub fn probes_out(&self, now: Timestamp) -> u32 {
        let Phase::HalfOpen { leases, .. } = &self.phase else { return 0 };
        leases.iter().fold(0, |out, lease| out.saturating_add(u32::from(lease.until > now)))
    }

    /// Changes with every transition.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }
}

/// For operating it by hand.
impl Breaker {
    /// Opens it until `until`; from then on it is half-open. To open it for ever, use [`isolate`](Breaker::isolate).
    pub const fn force_open(&mut self, until: Timestamp) {
        self.opened = self.opened.saturating_add(1);
        self.turn(Phase::Open { until });
    }

    /// Lets nothing through until [`reset`](Breaker::reset).
    pub const fn isolate(&mut self) {
        self.turn(Phase::Isolated);
    }

    /// Lets everything through and looks at nothing, until [`reset`](Breaker::reset).
    pub const fn disable(&mut self) {
        self.turn(Phase::Disabled);
    }

    /// Closes it, with nothing remembered.
    pub const fn reset(&mut self, policy: &BreakerPolicy) {
        self.memory = Memory::new(policy.trip());
        self.opened = 0;
        self.turn(Phase::Closed);
        self.look(policy);
    }

    /// Restores a stored breaker at this time. No wait is longer than one that could begin now: a clock that was wrong
    /// when it was stored must not keep it open for years. A hold by [`force_open`](Breaker::force_open) is cut as
    /// well.
    #[must_use]
    pub fn restored(mut self, policy: &BreakerPolicy, now: Timestamp) -> Self {
        match &mut self.phase {
            Phase::Open { until } => *until = (*until).min(now.saturating_add(policy.open().cap())),
            Phase::HalfOpen { leases, .. } => {
                for lease in leases {
                    lease.until = lease.until.min(now.saturating_add(policy.probes().lease));
                }
            }
            Phase::Closed | Phase::Isolated | Phase::Disabled => {}
        }
        if !self.memory.is_of(policy.trip_ref(), now) {
            self.memory = Memory::new(policy.trip());
        }
        self.look(policy);
        self
    }

    /// Switches to other settings, which every later call must then be given. If it is closed, calls that are under
    /// way no longer count: they were begun under the old settings.
    pub fn adopt(&mut self, policy: &BreakerPolicy) {
        if !self.memory.is_of(policy.trip_ref(), Timestamp::NEVER) {
            self.memory = Memory::new(policy.trip());
        }
        if let Phase::Closed = self.phase {
            self.turn(Phase::Closed);
            self.look(policy);
        }
    }
}

impl Breaker {
    fn open(&mut self, policy: &BreakerPolicy, now: Timestamp) {
        self.opened = self.opened.saturating_add(1);
        let wait = policy.open().delay(self.opened, self.seed.derive(u64::from(self.epoch)));
        self.turn(Phase::Open { until: now.saturating_add(wait) });
    }

    const fn turn(&mut self, phase: Phase) {
        self.phase = phase;
        self.quiet = false;
        self.epoch = self.epoch.wrapping_add(1);
    }

    const fn look(&mut self, policy: &BreakerPolicy) {
        self.quiet = self.is_quiet(policy);
    }

    const fn is_quiet(&self, policy: &BreakerPolicy) -> bool {
        matches!(self.phase, Phase::Closed) && self.memory.is_clean() && policy.slow_calls().is_none()
    }

    /// Whether a stored breaker's `quiet` is right. If it were set by mistake, the breaker would see nothing, and a
    /// half-open one never close.
    #[cfg(feature = "serde")]
    pub(crate) const fn looks_closely(&self, policy: &BreakerPolicy) -> bool {
        self.quiet == self.is_quiet(policy)
    }

    #[inline]
    const fn ticket(&self, place: u8, lease: u8, policy: &BreakerPolicy, now: Timestamp) -> Ticket {
        // Nobody asks how long a call took unless there are slow ones.
        let began = if policy.slow_calls().is_some() { Stopwatch::start(now) } else { Stopwatch::UNUSED };
        Ticket { epoch: self.epoch, began, place, lease }
    }
}
