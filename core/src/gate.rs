//! May a request leave now?
//!
//! Before a request leaves, it asks the [`Gate`] of its upstream, and gets an answer at once: [`Go`](Admission::Go)
//! with a [`Permit`], [`Wait`](Admission::Wait) until a time, or [`Refuse`](Admission::Refuse). Behind this one
//! question stand up to six checks, always made in this order:
//!
//! | # | who | says no | because |
//! | --- | --- | --- | --- |
//! | 1 | a hold, a pause | wait | an operator said so ([`hold_until`](Gate::hold_until)), or the provider did: a 429's `Retry-After` holds everything back |
//! | 2 | [breaker](crate::breaker) | wait, or refuse if [`WhenOpen::Refuse`] | the upstream is ill, or somebody has isolated it |
//! | 3 | [retry budget](crate::budget) | refuse; retries only | retries must not multiply an outage |
//! | 4 | [bulkhead](crate::bulkhead) | wait | enough requests are in the air |
//! | 5 | [allowance](crate::rate_limit::Allowance) | wait | by the provider's own count, no request is left in its window |
//! | 6 | [rate limits](crate::rate_limit) | wait | it is too early: each limit that covers this kind of request is asked |
//!
//! **Request all, then commit all.** Nothing is taken from any of them unless all agree. So (each a test of its own):
//!
//! - a breaker that refuses burns no rate limiter's token, and no one else's;
//! - an open breaker uses up no attempt of an operation's retry policy: it waits *before* the attempt is counted;
//! - a retry is charged to the budget once, when it goes, however often it had to wait;
//! - waiting counts against the operation's deadline, since a wait is all that the operation sees;
//! - when the breaker closes after an outage, those who waited leave at the rate limits' pace, not all at once.
//!
//! The caller settles its permit when the request has ended, and says how it [ended](Settled); each machine learns its
//! part. A permit whose request never left gives back what it took.
//!
//! Different kinds of requests may have different limits at one provider: each [`RateLimit`] says which [`Kinds`] it
//! counts.
//!
//! Invariants: after all requests end, [`Gate::in_flight`] is 0 (I8); a wait ends later than `now`; see also the
//! machines' own.
//!
//! ```
//! use core::time::Duration;
//! use steadfast_core::gate::{Admission, Gate, GatePolicy, Kinds, RateLimit, Request, Settled};
//! use steadfast_core::rate_limit::RatePolicy;
//! use steadfast_core::{Kind, Seed, Timestamp};
//!
//! let creates = RatePolicy::new(600, Duration::from_secs(60))?; // Didit
//! let policy = GatePolicy::default().with_rate_limit(RateLimit { kinds: Kinds::of(&[Kind::Create]), rate: creates });
//! let mut gate = Gate::new(policy, Seed::new(7));
//! let now = Timestamp::from_secs(1_700_000_000);
//!
//! let Admission::Go(permit) = gate.admit(Request::first(Kind::Create), now) else { panic!("nothing is in the way") };
//! let Admission::Wait(wait) = gate.admit(Request::first(Kind::Create), now) else { panic!("not so fast") };
//! assert_eq!(wait.until, now.saturating_add(Duration::from_millis(100)));
//! assert!(matches!(gate.admit(Request::first(Kind::Poll), now), Admission::Go(_))); // another kind
//! gate.settle(permit, Settled::Answered, now);
//! # Ok::<(), steadfast_core::PolicyError>(())
//! ```

mod admission;
mod permit;
mod policy;

pub use self::admission::{Admission, Blocked, Refusal, Request};
pub use self::permit::{Permit, Settled};
pub use self::policy::{GatePolicy, Kinds, RateLimit, WhenOpen};

use alloc::boxed::Box;
use core::time::Duration;

use crate::breaker::{Breaker, BreakerPolicy, BreakerState, Health, Ticket};
use crate::budget::RetryBudget;
use crate::bulkhead::{Bulkhead, Load};
use crate::operation::Kind;
use crate::rate_limit::{Allowance, Quota, RateLimiter};
use crate::retry::Class;
use crate::seed::Seed;
use crate::time::Timestamp;

/// Decides when requests may leave for one upstream. See the [module](self).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Gate {
    policy: GatePolicy,
    held_until: Timestamp,
    paused_until: Timestamp,
    breaker: Option<Breaker>,
    budget: Option<RetryBudget>,
    bulkhead: Option<Bulkhead>,
    /// One for each kind of request.
    allowances: [Allowance; 3],
    /// One for each limit of the policy.
    limiters: Box<[RateLimiter]>,
    /// One for each kind of request.
    in_flight: [u32; 3],
    seed: Seed,
    /// For each kind of request, the kinds whose requests elsewhere come first. See [`stand_back`](Gate::stand_back).
    #[cfg_attr(feature = "serde", serde(skip, default = "Gate::nobody"))]
    behind: [Kinds; 3],
}

impl Gate {
    /// How long to wait before asking again where no exact time is known, since a request may end at any moment.
    pub const RECHECK: Duration = Duration::from_secs(1);

    /// A gate with the machines of this policy. `seed` spreads the breaker's open times.
    #[must_use]
    pub fn new(policy: GatePolicy, seed: Seed) -> Self {
        Self {
            held_until: Timestamp::EPOCH,
            paused_until: Timestamp::EPOCH,
            breaker: policy.breaker().map(|breaker| Breaker::new(breaker, seed)),
            budget: policy.budget().map(RetryBudget::new),
            bulkhead: policy.bulkhead().map(Bulkhead::new),
            allowances: [Allowance::new(); 3],
            limiters: policy.rate_limits().iter().map(|_| RateLimiter::new()).collect(),
            in_flight: [0; 3],
            seed,
            behind: Self::nobody(),
            policy,
        }
    }

    const fn nobody() -> [Kinds; 3] {
        [Kinds::NONE; 3]
    }

    /// A gate that stands open: it counts requests, can be held and honours a provider's pauses, and nothing else is
    /// in the way.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(GatePolicy::none(), Seed::new(0))
    }

    /// Asks whether one request may leave: a permit, or why it may not. A refusal takes nothing from any machine.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn admit(&mut self, request: Request, now: Timestamp) -> Admission {
        if let Some(no) = self.check(request, now) {
            return no;
        }
        // All have said yes: now each takes its part, and none can refuse.
        let mut ticket = Ticket::NONE;
        if let (Some(breaker), Some(policy)) = (&mut self.breaker, self.policy.breaker()) {
            ticket = breaker.admit(policy, now).unwrap_or(Ticket::NONE);
        }
        let mut charge = None;
        if let (Some(budget), Some(policy)) = (&mut self.budget, self.policy.budget()) {
            match request.retry_of {
                Some(class) => charge = budget.withdraw(policy, class, now).ok(),
                None if request.kind != Kind::Poll => budget.first_attempt(policy, now),
                None => {}
            }
        }
        if let (Some(bulkhead), Some(policy)) = (&mut self.bulkhead, self.policy.bulkhead()) {
            let _ = bulkhead.admit(policy);
        }
        if let Some(allowance) = self.allowances.get_mut(request.kind as usize) {
            allowance.take();
        }
        for (limiter, limit) in self.limiters.iter_mut().zip(self.policy.shares()) {
            if limit.kinds.contains(request.kind) {
                let _ = limiter.try_acquire(&limit.rate, now);
            }
        }
        if let Some(in_flight) = self.in_flight.get_mut(request.kind as usize) {
            *in_flight = in_flight.saturating_add(1);
        }
        Admission::Go(Permit::new(request.kind, ticket, charge, now))
    }

    /// Why the request could not leave now; `None` if it could. Nothing changes.
    #[must_use]
    pub fn check(&self, request: Request, now: Timestamp) -> Option<Admission> {
        let no = self.check_machines(request, now);
        match self.behind.get(request.kind as usize) {
            Some(first) if no.is_none() && self.is_for_others(*first, request.kind, now) => {
                Some(Admission::Wait(Refusal::in_line(now)))
            }
            _ => no,
        }
    }

    /// Whether what is free now is for requests that wait elsewhere and come before one of this kind.
    fn is_for_others(&self, first: Kinds, kind: Kind, now: Timestamp) -> bool {
        let goes = |other| first.contains(other) && self.check_machines(Request::first(other), now).is_none();
        first != Kinds::NONE && (first.contains(kind) || [Kind::Create, Kind::Lookup, Kind::Poll].into_iter().any(goes))
    }

    fn check_machines(&self, request: Request, now: Timestamp) -> Option<Admission> {
        let recheck = now.saturating_add(Self::RECHECK);
        if now < self.held_until {
            return Some(Admission::Wait(Refusal { until: self.held_until, why: Blocked::Held }));
        }
        if now < self.paused_until {
            return Some(Admission::Wait(Refusal { until: self.paused_until, why: Blocked::Paused }));
        }
        if let (Some(breaker), Some(policy)) = (&self.breaker, self.policy.breaker())
            && let Err(until) = breaker.check(policy, now)
        {
            let refusal = match breaker.state(now) {
                BreakerState::HalfOpen => Refusal { until: until.min(recheck), why: Blocked::Probing },
                BreakerState::Isolated => Refusal { until: recheck, why: Blocked::Isolated },
                BreakerState::Closed | BreakerState::Open { .. } | BreakerState::Disabled => {
                    Refusal { until, why: Blocked::Open }
                }
            };
            return Some(match (refusal.why, self.policy.when_open()) {
                (Blocked::Open | Blocked::Isolated, WhenOpen::Refuse) => Admission::Refuse(refusal),
                _ => Admission::Wait(refusal),
            });
        }
        if let (Some(budget), Some(policy), Some(class)) = (&self.budget, self.policy.budget(), request.retry_of)
            && let Err(exhausted) = budget.check(policy, class, now)
        {
            return Some(Admission::Refuse(Refusal { until: exhausted.until, why: Blocked::Budget }));
        }
        if let (Some(bulkhead), Some(policy)) = (&self.bulkhead, self.policy.bulkhead())
            && bulkhead.check(policy).is_err()
        {
            return Some(Admission::Wait(Refusal { until: recheck, why: Blocked::Full }));
        }
        if let Some(Err(until)) = self.allowances.get(request.kind as usize).map(|allowance| allowance.check(now)) {
            return Some(Admission::Wait(Refusal { until, why: Blocked::Quota }));
        }
        let limits =
            self.limiters.iter().zip(self.policy.shares()).filter(|(_, limit)| limit.kinds.contains(request.kind));
        let until = limits.filter_map(|(limiter, limit)| limiter.check(&limit.rate, now).err()).max()?;
        Some(Admission::Wait(Refusal { until, why: Blocked::Rate }))
    }

    /// Takes a permit back, with how its request ended. Settle each permit once.
    #[cfg_attr(steadfast_no_panic, no_panic::no_panic)]
    pub fn settle(&mut self, permit: Permit, how: Settled, now: Timestamp) {
        if let Some(in_flight) = self.in_flight.get_mut(permit.kind() as usize) {
            *in_flight = in_flight.saturating_sub(1);
        }
        if let Settled::Failed(failure) = how
            && failure.class == Class::Throttled
            && let Some(wait) = failure.retry_after
        {
            let until = now.saturating_add(wait.min(self.policy.longest_pause()));
            self.paused_until = self.paused_until.max(until);
        }
        let (ticket, charge) = (permit.ticket(), permit.charge());
        if let (Some(breaker), Some(policy)) = (&mut self.breaker, self.policy.breaker()) {
            breaker.settle(policy, ticket, how.health(), now);
        }
        if let (Some(budget), Some(policy)) = (&mut self.budget, self.policy.budget()) {
            match (how, charge) {
                // A poll that is no retry never touches the budget: there are too many of them, and most say *pending*.
                (_, None) if permit.kind() == Kind::Poll => {}
                (Settled::Answered, _) => budget.succeeded(policy, charge, now),
                (Settled::Unsent, Some(charge)) => budget.refund(policy, charge),
                (Settled::Unsent, None) => budget.first_attempt_unsent(policy),
                (Settled::Failed(_) | Settled::Abandoned, _) => {}
            }
        }
        // The stopwatch counts whole milliseconds. One is added, so that a request is not taken for a later one than
        // it is, and no more is given back than was taken.
        let since = permit.elapsed(now).saturating_add(Duration::from_millis(1));
        if let (Some(bulkhead), Some(policy)) = (&mut self.bulkhead, self.policy.bulkhead()) {
            bulkhead.settle(policy, how.load(), now.saturating_sub(since), now);
        }
        if how == Settled::Unsent {
            if let Some(allowance) = self.allowances.get_mut(permit.kind() as usize) {
                allowance.give_back();
            }
            for (limiter, limit) in self.limiters.iter_mut().zip(self.policy.shares()) {
                if limit.kinds.contains(permit.kind()) {
                    limiter.refund(&limit.rate, since);
                }
            }
        }
    }

    /// Learns what the provider said about its own limit in the answer to a request of this kind, after that request
    /// has been settled.
    ///
    /// What is left of the provider's window bounds requests of this kind until the window ends. A limit of this kind
    /// whose window has the same length adopts the provider's count. Where several processes
    /// [share](GatePolicy::with_replicas) the limit, this one takes its part of both.
    pub fn learn(&mut self, kind: Kind, quota: Quota, now: Timestamp) {
        let replicas = self.policy.replicas();
        let in_flight = self.in_flight.get(kind as usize).copied().unwrap_or_default();
        if let Some(allowance) = self.allowances.get_mut(kind as usize) {
            let remaining = quota.remaining.and_then(|remaining| remaining.checked_div(replicas.get()));
            allowance.learn(Quota { remaining, ..quota }, in_flight, now);
        }
        for (limiter, limit) in self.limiters.iter_mut().zip(self.policy.rate_limits_mut()) {
            let old = limit.divided_among(replicas);
            if limit.learn(kind, quota) {
                *limiter = limiter.repaced(&old.rate, &limit.divided_among(replicas).rate, now);
            }
        }
    }

    /// Lets nothing leave before `until`. A later call with an earlier time shortens the hold; [`Timestamp::EPOCH`]
    /// ends it for requests that ask from now on.
    pub const fn hold_until(&mut self, until: Timestamp) {
        self.held_until = until;
    }

    /// Makes requests of `kind` yield to requests of the kinds in `first` that stand in line in *another* engine. Only
    /// needed by drivers that share one gate between several engines, each of which keeps lines of its own. The
    /// requests wait ([`Blocked::Line`]) while others of their own kind come first, and while a request of another
    /// kind that comes first could go. Nobody comes first by default; not part of a snapshot.
    ///
    /// ```
    /// use steadfast_core::gate::{Admission, Blocked, Gate, Kinds, Request};
    /// use steadfast_core::{Kind, Timestamp};
    ///
    /// let (mut gate, now) = (Gate::default(), Timestamp::from_secs(1_700_000_000));
    /// gate.stand_back(Kind::Poll, Kinds::of(&[Kind::Create]));
    /// let Admission::Wait(no) = gate.admit(Request::first(Kind::Poll), now) else { panic!("a create elsewhere may go") };
    /// assert_eq!(no.why, Blocked::Line);
    /// ```
    pub fn stand_back(&mut self, kind: Kind, first: Kinds) {
        if let Some(behind) = self.behind.get_mut(kind as usize) {
            *behind = first;
        }
    }

    /// Replaces the settings. A machine that is in both policies keeps its state; a rate limit is the same if it
    /// counts the same kinds in the same span, or the same kinds at the same place in the list. Requests in the air
    /// stay counted.
    pub fn set_policy(&mut self, policy: GatePolicy, now: Timestamp) {
        let old = core::mem::replace(self, Self::new(policy, self.seed));
        self.held_until = old.held_until;
        self.paused_until = old.paused_until;
        self.in_flight = old.in_flight;
        self.behind = old.behind;
        let (were, are) = (old.policy.replicas(), self.policy.replicas());
        self.allowances = old.allowances.map(|allowance| allowance.shared_anew(were, are));
        self.breaker = self.breaker.take().map(|new| old.breaker.unwrap_or(new));
        if let (Some(breaker), Some(policy)) = (&mut self.breaker, self.policy.breaker()) {
            breaker.adopt(policy);
        }
        self.budget = self.budget.take().map(|new| old.budget.unwrap_or(new));
        // A new bulkhead counts those that are in the air already: their ends will be told to it.
        let in_flight = self.in_flight();
        self.bulkhead = self.bulkhead.take().map(|new| old.bulkhead.unwrap_or_else(|| new.holding(in_flight)));
        let before = old.policy.rate_limits();
        for ((at, limiter), limit) in (0..).zip(&mut self.limiters).zip(self.policy.rate_limits()) {
            let same = |old: &RateLimit| old.kinds == limit.kinds && old.rate.per() == limit.rate.per();
            let in_place = || before.get(at).filter(|old| old.kinds == limit.kinds).map(|_| at);
            let place = before.iter().position(same).or_else(in_place);
            if let Some((was, old)) = place.and_then(|at| before.get(at).zip(old.limiters.get(at))) {
                // A raised quota counts at once; under a lowered one, what has left already counts as well.
                *limiter = old.repaced(&was.divided_among(were).rate, &limit.divided_among(are).rate, now);
            }
        }
    }

    /// Restores a stored gate at this time, after a restart. The requests that were in the air are gone with their
    /// process, so none is counted. Every wait is cut to the longest that could begin now, except an operator's
    /// [hold](Gate::hold_until).
    #[must_use]
    pub fn restored(mut self, now: Timestamp) -> Self {
        self.in_flight = [0; 3];
        self.bulkhead = self.policy.bulkhead().map(Bulkhead::new);
        self.paused_until = self.paused_until.min(now.saturating_add(self.policy.longest_pause()));
        if let (Some(breaker), Some(policy)) = (self.breaker.take(), self.policy.breaker()) {
            self.breaker = Some(breaker.restored(policy, now));
        }
        self.budget = self.budget.map(|budget| budget.restored(now));
        self.allowances = self.allowances.map(|allowance| allowance.restored(now));
        for (limiter, limit) in self.limiters.iter_mut().zip(self.policy.shares()) {
            *limiter = limiter.restored(&limit.rate, now);
        }
        self
    }

    /// Whether it has the machines that its policy names. A stored gate may lack some.
    #[cfg(feature = "serde")]
    pub(crate) fn is_whole(&self) -> bool {
        self.breaker.is_some() == self.policy.breaker().is_some()
            && self.budget.is_some() == self.policy.budget().is_some()
            && self.bulkhead.is_some() == self.policy.bulkhead().is_some()
            && self.limiters.len() == self.policy.rate_limits().len()
    }

    /// Whether the breaker looks at what it must, and at no more.
    #[cfg(feature = "serde")]
    pub(crate) fn looks_closely(&self) -> bool {
        self.breaker.as_ref().zip(self.policy.breaker()).is_none_or(|(breaker, policy)| breaker.looks_closely(policy))
    }

    /// Whether the bulkhead counts those that are in the air, and no others: else nothing would ever leave, or too many
    /// would.
    #[cfg(feature = "serde")]
    pub(crate) fn counts_alike(&self) -> bool {
        self.bulkhead.is_none_or(|bulkhead| bulkhead.in_flight() == self.in_flight())
    }

    /// The settings.
    #[must_use]
    pub const fn policy(&self) -> &GatePolicy {
        &self.policy
    }

    /// What the breaker is doing; closed if there is none.
    #[must_use]
    pub fn breaker_state(&self, now: Timestamp) -> BreakerState {
        self.breaker.as_ref().map_or(BreakerState::Closed, |breaker| breaker.state(now))
    }

    /// Changes with every transition of the breaker.
    pub(crate) fn breaker_epoch(&self) -> u32 {
        self.breaker.as_ref().map_or(0, Breaker::epoch)
    }

    /// The breaker and its settings, for operating it by hand.
    #[must_use]
    pub fn breaker_mut(&mut self) -> Option<(&mut Breaker, &BreakerPolicy)> {
        self.breaker.as_mut().zip(self.policy.breaker())
    }

    /// Requests that have leave and have not been settled.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.iter().fold(0, |sum, kind| sum.saturating_add(*kind))
    }

    /// The same, of one kind.
    #[cfg(feature = "serde")]
    pub(crate) fn in_flight_of(&self, kind: Kind) -> u32 {
        self.in_flight.get(kind as usize).copied().unwrap_or_default()
    }

    /// How many may be in the air at once, if that is bounded.
    #[must_use]
    pub fn bulkhead_limit(&self) -> Option<u32> {
        Some(self.bulkhead.as_ref()?.limit(self.policy.bulkhead()?))
    }

    /// Whole tokens in the retry budget, if there is one.
    #[must_use]
    pub fn budget_tokens(&self, now: Timestamp) -> Option<u32> {
        Some(self.budget.as_ref()?.tokens(self.policy.budget()?, now))
    }
}

impl Default for Gate {
    /// With the default policy and a seed of zero.
    fn default() -> Self {
        Self::new(GatePolicy::default(), Seed::new(0))
    }
}

impl Settled {
    /// What it says of the upstream's health.
    const fn health(self) -> Health {
        match self {
            Self::Answered => Health::Healthy,
            Self::Failed(failure) => failure.class.health(),
            Self::Abandoned | Self::Unsent => Health::Ignored,
        }
    }

    /// What it says of its load.
    const fn load(self) -> Load {
        match self {
            Self::Answered => Load::Bearable,
            Self::Failed(failure) => match failure.class {
                Class::Permanent | Class::Unauthorized => Load::Bearable,
                Class::Transient | Class::TimedOut | Class::Throttled => Load::TooMuch,
            },
            Self::Abandoned | Self::Unsent => Load::Unknown,
        }
    }
}
