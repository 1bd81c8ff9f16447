//! Checks that the gate admits nothing that it must hold back: holds, pauses, quotas, an open breaker, rate limits, the
//! bulkhead and the retry budget, each computed again from the settings and from what was heard, independently of the
//! gate.
//!
//! A poll or a look-up is admitted when its notice is given. A create is admitted some time before it leaves, when the
//! record of its intent is first asked for; of two events at the same time it is not known which came first, so a ban
//! that began at that very time does not apply to it.

use steadfast_core::breaker::BreakerState;
use steadfast_core::gate::GatePolicy;
use steadfast_core::rate_limit::Quota;
use steadfast_core::{Kind, Timestamp};

use super::books::Books;
use super::invariant::Invariant::{self, I, R};

/// Nothing may be admitted in this span of time.
#[derive(Clone, Copy, Debug, Default)]
struct Ban {
    since: Timestamp,
    until: Timestamp,
}

impl Ban {
    const fn new(since: Timestamp, until: Timestamp) -> Self {
        Self { since, until }
    }

    fn binds(self, kind: Kind, now: Timestamp) -> bool {
        now < self.until && (self.since < now || kind != Kind::Create)
    }
}

/// What is known about one life of a gate.
#[derive(Debug, Default)]
pub(super) struct GateBooks {
    began: Timestamp,
    held: Ban,
    paused: Ban,
    open: Ban,
    /// By kind: the provider's own window has no requests left.
    spent: [Ban; 3],
    admitted: Vec<(Kind, Timestamp)>,
    /// Some were admitted since the rates were last checked.
    unchecked: bool,
    retried: u64,
}

impl GateBooks {
    /// A new process has a new gate, or a kept one that may know more than these books.
    pub(super) fn begin(now: Timestamp) -> Self {
        Self { began: now, ..Self::default() }
    }

    pub(super) const fn hold(&mut self, now: Timestamp, until: Timestamp) {
        self.held = Ban::new(now, until);
    }

    /// A throttled answer with a hint was heard.
    pub(super) fn pause(&mut self, now: Timestamp, until: Timestamp) {
        if until > self.paused.until {
            self.paused = Ban::new(now, until);
        }
    }

    pub(super) fn learn(&mut self, kind: Kind, quota: Quota, now: Timestamp) {
        let (Some(remaining), Some(reset)) = (quota.remaining, quota.reset) else { return };
        if let Some(spent) = self.spent.get_mut(kind as usize) {
            let until = if remaining == 0 { now.saturating_add(reset) } else { now };
            *spent = Ban::new(now, until);
        }
    }

    pub(super) const fn breaker(&mut self, state: BreakerState, now: Timestamp) {
        let until = if let BreakerState::Open { until } = state { until } else { now };
        self.open = Ban::new(now, until);
    }

    /// A create that was admitted has not left, and gave back what it took.
    pub(super) fn unsent(&mut self, at: Timestamp) {
        self.give_back(Kind::Create, at);
    }

    /// A read that was admitted at this time has not left, and gives back what it took.
    pub(super) fn give_back(&mut self, kind: Kind, at: Timestamp) {
        if let Some(last) = self.admitted.iter().rposition(|it| *it == (kind, at)) {
            self.admitted.remove(last);
        }
    }

    /// It leaves after all, with the permit that it had.
    pub(super) fn leaves_after_all(&mut self, kind: Kind, at: Timestamp) {
        let place = self.admitted.partition_point(|(_, admitted)| *admitted <= at);
        self.admitted.insert(place, (kind, at));
        self.unchecked = true;
    }

    pub(super) const fn retried(&mut self) {
        self.retried += 1;
    }

    pub(super) const fn not_retried(&mut self) {
        self.retried = self.retried.saturating_sub(1);
    }
}

impl Books {
    /// A request is admitted.
    pub(super) fn admit(&mut self, kind: Kind, now: Timestamp) {
        let gate = &self.gate;
        // A create that has not left gives back what it took of the quota, so for creates it is not known how many are
        // left.
        let spent = gate.spent.get(kind as usize).copied().filter(|_| kind != Kind::Create).unwrap_or_default();
        let bans: [(&str, Ban, &[Invariant]); 4] = [
            ("while the gate is held", gate.held, &[R(4)]),
            ("in a pause that the provider asked for", gate.paused, &[I(1), R(4)]),
            ("while the breaker is open", gate.open, &[R(20)]),
            ("with nothing left of the provider's quota", spent, &[I(10)]),
        ];
        for (when, ban, invariants) in bans {
            self.hold_all(invariants, !ban.binds(kind, now), || format!("a {kind:?} at {now:?} {when}: {ban:?}"));
        }
        self.gate.admitted.push((kind, now));
        self.gate.unchecked = true;
        let recent = self.gate.admitted.len().saturating_sub(64);
        self.gate.admitted.drain(..recent);
    }

    /// After a step, when it is known which creates have not left after all: no span had more than its limits allow.
    pub(super) fn check_rates(&mut self, policy: &GatePolicy) {
        if !std::mem::take(&mut self.gate.unchecked) {
            return;
        }
        let replicas = u128::from(policy.replicas().get());
        for limit in policy.rate_limits() {
            let burst = (u128::from(limit.rate.burst()) / replicas).max(1) as usize;
            let count = u128::from(limit.rate.count());
            let (count, longer) = if count < replicas { (count, replicas) } else { (count / replicas, 1) };
            let every = longer * limit.rate.per().as_nanos() / count;
            let admitted = self.gate.admitted.iter().filter(|(kind, _)| limit.kinds.contains(*kind));
            let times: Vec<_> = admitted.map(|(_, at)| *at).collect();
            let within = times.iter().enumerate().all(|(first, begin)| {
                times.iter().enumerate().skip(first + burst).all(|(last, end)| {
                    let beyond = (last + 1 - first - burst) as u128;
                    beyond * every <= end.saturating_since(*begin).as_nanos()
                })
            });
            self.hold_all(&[I(10), R(25), R(28)], within, || format!("{times:?} under {limit:?}"));
        }
    }

    /// R7: compares the retries that left with a budget that only time refills.
    ///
    /// `refill` is in millionths of a token a second.
    pub(super) fn check_budget(&mut self, now: Timestamp, policy: &GatePolicy, refill: u64) {
        let Some(budget) = policy.budget() else { return };
        let filled =
            u128::from(refill) * now.saturating_since(self.gate.began).as_nanos() / (1_000_000 * 1_000_000_000);
        let most = u128::from(budget.capacity()) + filled;
        let retried = self.gate.retried;
        self.hold(R(7), u128::from(retried) <= most, || format!("{retried} retries of a budget of {most}"));
    }
}
