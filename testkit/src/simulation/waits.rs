//! How long an operation may wait, and must: computed again from the documentation of the policies, and from the
//! answers themselves.

use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Jitter};
use steadfast_core::breaker::BreakerState;
use steadfast_core::gate::{Blocked, GatePolicy};
use steadfast_core::notice::{Notice, WakeReason};
use steadfast_core::retry::{Class, Ground, RetryAfter};
use steadfast_core::{Kind, OperationPolicy, Seed, SendSafety, Timestamp};

use super::books::Books;
use super::invariant::Invariant::{I, R};

/// How long a record that could not be written waits before the next try: the default of `OperationPolicy::persist`,
/// with its jitter.
const PERSIST_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// The policies that a history is compared with, which need not be those of its engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) policy: &'a OperationPolicy,
    pub(super) gate: &'a GatePolicy,
}

impl Books {
    /// Checks a notice about one job. `submitted` is when the engine believes that it was submitted.
    pub(super) fn hear(&mut self, job: usize, notice: &Notice, rules: Rules<'_>, submitted: Timestamp, now: Timestamp) {
        let Some(account) = self.accounts.get_mut(job) else { return };
        let life = &mut account.life;
        if let Notice::Failed { attempt, .. } = notice
            && attempt.kind == Kind::Lookup
        {
            life.lookup_failed = Some(now);
        }
        match notice {
            Notice::Breaker(state) => self.hear_breaker(*state, now),
            Notice::Restored => (life.restored, life.polls_began) = (true, now),
            Notice::Resumed => (life.polls_began, life.resumed_at) = (now, Some(now)),
            Notice::Sending(attempt) => {
                (life.latest, life.hint, life.failed, life.restored) = (Some(attempt.kind), None, false, false);
                (life.resumed_at, life.hurried) = (None, false);
                let time = attempt.until.saturating_since(now);
                let most = match attempt.kind {
                    Kind::Create => rules.policy.create().attempt_timeout(),
                    Kind::Lookup => rules.policy.lookup().attempt_timeout(),
                    _ => rules.policy.poll().retry().attempt_timeout(),
                };
                self.hold(R(3), time <= most, || format!("job {job}: {:?} has {time:?}, of {most:?}", attempt.kind));
                if attempt.kind != Kind::Create {
                    self.admit(attempt.kind, now);
                    self.check_read(job, attempt.kind, rules.policy, now);
                }
            }
            // Other failures had an answer, which was checked as it came.
            Notice::Failed { failure, .. } if failure.class == Class::TimedOut => {
                (life.hint, life.failed) = (None, true);
            }
            Notice::Accepted => {
                (life.latest, life.hint, life.failed) = (Some(Kind::Poll), None, false);
                (life.polls_began, life.not_before, life.pendings) = (now, Timestamp::EPOCH, 0);
                life.overslept = false;
            }
            Notice::Overslept => {
                let slept = account.has_overslept(rules.policy, now);
                let life = &mut account.life;
                life.overslept = true;
                // What the sleep has just cut off does not count.
                life.lookups -= u16::from(life.lookup_failed == Some(now));
                (life.polls_began, life.lookups_began) = (now, now);
                self.hold_all(&[I(2), R(3)], slept, || format!("job {job} has another deadline at {now:?}, awake"));
            }
            Notice::ProvenAbsent => (life.latest, life.hint, life.failed) = (Some(Kind::Create), None, true),
            Notice::Waiting { reason, until, delay } => {
                life.not_before = *until;
                // The budget alone decides how long a spent budget pauses.
                if delay.ground != Ground::Budget {
                    self.hear_wait(job, *reason, delay.ground, until.saturating_since(now), rules.policy);
                }
                if *reason == WakeReason::Create {
                    let deadline = submitted.saturating_add(rules.policy.create().deadline());
                    self.hold(R(3), *until < deadline, || format!("waits until {until:?}, after {deadline:?}"));
                }
            }
            Notice::Blocked { refusal, .. } => {
                life.resumed_at = None;
                if refusal.why != Blocked::Paused {
                    return;
                }
                let most = now.saturating_add(rules.gate.longest_pause());
                self.hold(R(1), refusal.until <= most, || format!("a pause until {:?}, after {most:?}", refusal.until));
            }
            Notice::PersistFailed { retry: Some(at), .. } => {
                let (wait, (least, most)) = (at.saturating_since(now), PERSIST_AGAIN);
                self.hold(R(1), least <= wait && wait <= most, || format!("writes again after {wait:?}"));
            }
            _ => {}
        }
    }

    fn hear_wait(&mut self, job: usize, reason: WakeReason, ground: Ground, wait: Duration, policy: &OperationPolicy) {
        let account = &mut self.accounts[job];
        let (creates, life) = (account.creates, &mut account.life);
        let (poll, again) = (policy.poll(), policy.poll().retry());
        let (cap, least, hints) = match reason {
            WakeReason::Create => {
                let backoff = policy.create().backoff();
                // What was in flight has its time first.
                let first = if life.restored && ground == Ground::Record {
                    policy.create().attempt_timeout()
                } else {
                    Duration::ZERO
                };
                let cap = backoff.cap().saturating_add(first);
                (cap, least_delay(backoff, creates), policy.create().retry_after())
            }
            WakeReason::Lookup if life.latest == Some(Kind::Lookup) => {
                let backoff = policy.lookup().backoff();
                (backoff.cap(), least_delay(backoff, 1), policy.lookup().retry_after())
            }
            // The first look-up waits for the provider to settle.
            WakeReason::Lookup => {
                let SendSafety::Lookup { settle } = policy.safety() else { return };
                (life.lookups_began, life.lookups, life.overslept) = (life.not_before, 0, false);
                return self.hold(R(1), wait == settle, || format!("looks up after {wait:?}, not {settle:?}"));
            }
            WakeReason::Poll if life.failed => {
                let cap = poll.schedule().cap().max(again.backoff().cap());
                let least = least_delay(again.backoff(), 1).min(poll.schedule().cap());
                (cap, least, again.retry_after())
            }
            WakeReason::Poll => {
                let schedule = poll.schedule();
                (schedule.cap(), least_delay(schedule, life.pendings.saturating_add(1)), again.retry_after())
            }
            _ => return,
        };
        let (hint, restored) = (life.hint, life.restored);
        // The remainder of a wait after a restart may be zero.
        let least = if restored { Duration::ZERO } else { least };
        let (least, most) = bounds(hints, hint, least, cap);
        self.hold_all(&[I(1), R(1)], wait <= most, || {
            format!("job {job} waits {wait:?}, more than {most:?} ({reason:?}, hint {hint:?}, {hints:?})")
        });
        self.hold_all(&[I(1), R(4)], wait >= least, || {
            format!("job {job} waits {wait:?}, less than {least:?} ({reason:?}, hint {hint:?}, {hints:?})")
        });
    }

    fn hear_breaker(&mut self, state: BreakerState, now: Timestamp) {
        use BreakerState::{Closed, HalfOpen, Open};
        self.gate.breaker(state, now);
        let before = self.breaker.replace(state);
        let legal = match (before.unwrap_or(state), state) {
            (Closed | HalfOpen, Open { .. }) | (Open { .. }, HalfOpen) | (HalfOpen, Closed) => true,
            // The first that is reported in this life.
            _ => before.is_none(),
        };
        self.hold(R(20), legal, || format!("the breaker went from {before:?} to {state:?}"));
    }

    /// A poll or a look-up is admitted: it must be due, within the limit on their number, and before their deadline.
    fn check_read(&mut self, job: usize, kind: Kind, policy: &OperationPolicy, now: Timestamp) {
        let life = &mut self.accounts[job].life;
        let (due, over) = (life.not_before, life.over);
        let (used, most, began, patience) = if kind == Kind::Poll {
            (life.pendings, policy.poll().polls(), life.polls_began, policy.poll().deadline())
        } else {
            life.lookups += 1;
            (life.lookups - 1, policy.lookup().attempts(), life.lookups_began, policy.lookup().deadline())
        };
        let deadline = began.saturating_add(patience);
        self.hold_all(&[R(1), R(4)], now >= due, || format!("job {job}: a {kind:?} at {now:?}, due at {due:?}"));
        self.hold_all(&[I(2), R(2)], used < most, || format!("job {job}: a {kind:?} more than the {most} allowed"));
        self.hold_all(&[I(2), R(3)], now < deadline, || {
            format!("job {job}: a {kind:?} at {now:?}, after {deadline:?}")
        });
        self.hold_all(&[R(29), R(31)], !over, || {
            format!("job {job}: a {kind:?} although there is nothing more to ask")
        });
    }
}

/// The shortest delay before try `n` that the jitter can draw.
fn least_delay(backoff: &BackoffPolicy, n: u16) -> Duration {
    let steady = BackoffPolicy::new(backoff.growth().clone(), backoff.cap(), Jitter::None).expect("it was in order");
    let delay = steady.delay(u32::from(n.max(1)), Seed::new(0));
    match backoff.jitter() {
        Jitter::None => delay,
        Jitter::Equal => delay / 2,
        Jitter::Proportional { percent } => delay * u32::from(100 - percent.min(100)) / 100,
        Jitter::Decorrelated => steady.delay(1, Seed::new(0)),
        _ => Duration::ZERO,
    }
    // Fractions of a nanosecond may be rounded either way.
    .saturating_sub(Duration::from_nanos(2))
}

/// The shortest and the longest wait that follow a hint.
fn bounds(hints: RetryAfter, hint: Option<Duration>, least: Duration, cap: Duration) -> (Duration, Duration) {
    let Some(hint) = hint else { return (least, cap) };
    match hints {
        RetryAfter::Floor { ceiling } => (least.max(hint.min(ceiling)), cap.max(hint.min(ceiling))),
        // A poll beyond its retries goes at the slowest pace, whatever the hint.
        RetryAfter::Exact { ceiling } => (hint.min(ceiling), cap.max(hint.min(ceiling))),
        RetryAfter::Clamped { extra } => (least.max(hint.min(extra)), cap.saturating_add(extra)),
        _ => (Duration::ZERO, Duration::MAX),
    }
}
