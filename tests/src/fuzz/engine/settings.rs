//! What a script's first characters choose: few settings, each of which gets in the way somewhere.

use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::Limits;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit, WhenOpen};
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{Kind, OperationPolicy, SendSafety};

/// The send safety of this choice.
pub(in crate::fuzz) fn safety(choice: u8) -> SendSafety {
    match choice % 4 {
        0 => SendSafety::Unsafe,
        1 => SendSafety::Idempotent,
        2 => SendSafety::Keyed { window: Duration::from_secs(600) },
        _ => SendSafety::Lookup { settle: Duration::from_secs(5) },
    }
}

pub(super) fn policy(times: u8, safety: SendSafety) -> OperationPolicy {
    let secs = Duration::from_secs;
    let hasty = |attempts, deadline, jitter| {
        let waits = BackoffPolicy::new(Growth::Fixed(secs(1)), secs(2), jitter).expect("a cap above it");
        (waits.clone(), RetryPolicy::new(attempts, deadline, secs(2), waits).expect("more than zero"))
    };
    let policy = match times % 3 {
        0 => OperationPolicy::default(),
        1 => {
            let (waits, retry) = hasty(2, secs(5), Jitter::Full);
            let poll = PollPolicy::new(waits, 2, secs(8), retry.clone()).expect("more than zero");
            OperationPolicy::default().with_lookup(retry.clone()).with_poll(poll).with_create(retry).expect("short")
        }
        _ => {
            let (waits, retry) = hasty(8, secs(300), Jitter::None);
            let poll = PollPolicy::new(waits, 3, secs(300), retry.clone()).expect("more than zero");
            let poll = poll.with_accept_partial(true).with_not_found_grace(secs(10));
            OperationPolicy::default().with_poll(poll).with_create(retry).expect("short")
        }
    };
    policy.with_safety(safety).expect("a window that is longer than a time-out")
}

pub(super) fn gate(choice: u8) -> GatePolicy {
    let secs = Duration::from_secs;
    let rate = |count, per| RatePolicy::new(count, secs(per)).expect("more than zero");
    let breaker = |failures| BreakerPolicy::consecutive(failures).expect("more than zero");
    match choice % 6 {
        0 => GatePolicy::none(),
        1 => GatePolicy::default(),
        2 => GatePolicy::none()
            .with_bulkhead(BulkheadPolicy::fixed(1).ok())
            .with_rate_limit(RateLimit { kinds: Kinds::ALL, rate: rate(60, 60) }),
        3 => GatePolicy::none().with_breaker(Some(breaker(1))).with_when_open(WhenOpen::Refuse),
        4 => GatePolicy::default()
            .with_breaker(Some(breaker(2)))
            .with_budget(BudgetPolicy::new(1).ok())
            .with_bulkhead(BulkheadPolicy::adaptive(1, 2, 3).ok())
            .with_rate_limit(RateLimit { kinds: Kinds::of(&[Kind::Create]), rate: rate(1, 10) })
            .with_rate_limit(RateLimit { kinds: Kinds::of(&[Kind::Poll, Kind::Lookup]), rate: rate(2, 4) }),
        _ => GatePolicy::none().with_budget(BudgetPolicy::new(2).ok()),
    }
}

/// The most requests in the air at once that this gate allows, if it says.
pub(super) const fn most_in_flight(choice: u8) -> Option<u32> {
    match choice % 6 {
        2 => Some(1),
        4 => Some(3),
        _ => None,
    }
}

pub(super) fn limits(choice: u8) -> Limits {
    match choice % 3 {
        0 => Limits { live: 8, ..Limits::default() },
        1 => Limits { live: 2, remember: 1, notices: 2, ..Limits::default() },
        _ => Limits { remember_for: Duration::ZERO, notices: 0, ..Limits::default() },
    }
}
