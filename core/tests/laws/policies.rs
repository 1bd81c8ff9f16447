//! Random settings, the strange ones included: no delay, hardly any time, one attempt.

use core::num::NonZeroU32;
use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::backoff::{BackoffPolicy, Factor, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, Probes, Window};
use steadfast_core::budget::{BudgetPolicy, Tokens};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit, WhenOpen};
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{RetryAfter, RetryPolicy};
use steadfast_core::{Kind, OperationPolicy, SendSafety};

pub(crate) fn span(most: u64) -> BoxedStrategy<Duration> {
    prop_oneof![
        4 => (0..most).prop_map(Duration::from_millis),
        1 => Just(Duration::ZERO),
        1 => Just(Duration::from_nanos(1)),
    ]
    .boxed()
}

pub(crate) fn jitter() -> BoxedStrategy<Jitter> {
    prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        (0_u8..=100).prop_map(|percent| Jitter::Proportional { percent }),
        Just(Jitter::Decorrelated),
    ]
    .boxed()
}

pub(crate) fn growth(most: u64) -> BoxedStrategy<Growth> {
    let factor = (1.0..10.0_f64).prop_map(|factor| Factor::new(factor).unwrap());
    prop_oneof![
        span(most).prop_map(Growth::Fixed),
        (span(most), span(most)).prop_map(|(first, step)| Growth::Linear { first, step }),
        (span(most), factor).prop_map(|(first, factor)| Growth::Exponential { first, factor }),
        span(most).prop_map(|first| Growth::Fibonacci { first }),
        prop::collection::vec(span(most), 1..5).prop_map(|delays| Growth::Table(delays.into())),
    ]
    .boxed()
}

pub(crate) fn backoff(most: u64) -> BoxedStrategy<BackoffPolicy> {
    (growth(most), span(10 * most), jitter())
        .prop_filter_map("settings that make sense", |(growth, cap, jitter)| {
            BackoffPolicy::new(growth, cap, jitter).ok()
        })
        .boxed()
}

pub(crate) fn retry() -> BoxedStrategy<RetryPolicy> {
    let hints = prop_oneof![
        span(60_000).prop_map(|ceiling| RetryAfter::Floor { ceiling }),
        span(60_000).prop_map(|ceiling| RetryAfter::Exact { ceiling }),
        span(10_000).prop_map(|extra| RetryAfter::Clamped { extra }),
    ];
    (1_u16..6, 1_u64..120_000, 1_u64..10_000, backoff(5_000), hints)
        .prop_map(|(attempts, deadline, timeout, backoff, hints)| {
            let ms = Duration::from_millis;
            RetryPolicy::new(attempts, ms(deadline), ms(timeout), backoff).unwrap().with_retry_after(hints)
        })
        .boxed()
}

pub(crate) fn poll() -> BoxedStrategy<PollPolicy> {
    (backoff(5_000), 1_u16..12, 1_u64..200_000, retry(), span(10_000), any::<bool>())
        .prop_filter_map("settings that make sense", |(schedule, polls, deadline, retry, grace, partial)| {
            let policy = PollPolicy::new(schedule, polls, Duration::from_millis(deadline), retry).ok()?;
            Some(policy.with_not_found_grace(grace).with_accept_partial(partial))
        })
        .boxed()
}

pub(crate) fn safety() -> BoxedStrategy<SendSafety> {
    prop_oneof![
        Just(SendSafety::Unsafe),
        Just(SendSafety::Idempotent),
        (10_001_u64..100_000).prop_map(|ms| SendSafety::Keyed { window: Duration::from_millis(ms) }),
        span(20_000).prop_map(|settle| SendSafety::Lookup { settle }),
    ]
    .boxed()
}

pub(crate) fn policy() -> BoxedStrategy<OperationPolicy> {
    (safety(), retry(), retry(), poll(), backoff(1_000))
        .prop_filter_map("settings that make sense", |(safety, create, lookup, poll, persist)| {
            let policy = OperationPolicy::default().with_create(create).ok()?.with_safety(safety).ok()?;
            policy.with_lookup(lookup).with_poll(poll).with_persist(persist).ok()
        })
        .boxed()
}

/// The gate of this seed: none at all for every other one, else small machines, so that they get in the way.
pub(crate) fn drawn_gate(seed: u64) -> GatePolicy {
    let mut dice = fastrand::Rng::with_seed(seed ^ 0x6a7e);
    let mut gate = GatePolicy::none();
    if dice.bool() {
        return gate;
    }
    if dice.bool() {
        gate = gate.with_breaker(Some(drawn_breaker(&mut dice)));
        gate = gate.with_when_open(if dice.u8(..4) == 0 { WhenOpen::Refuse } else { WhenOpen::Wait });
    }
    if dice.bool() {
        let budget = BudgetPolicy::new(dice.u32(1..6)).unwrap();
        gate = gate.with_budget(Some(budget.with_per_second(Tokens::millionths(dice.u64(..200_000)))));
    }
    if dice.bool() {
        let most = dice.u32(1..4);
        gate = gate.with_bulkhead(Some(BulkheadPolicy::adaptive(1, most, most).unwrap()));
    }
    for _ in 0..dice.u8(..3) {
        let kinds = [Kinds::ALL, Kinds::of(&[Kind::Create]), Kinds::of(&[Kind::Poll, Kind::Lookup])];
        let rate = RatePolicy::new(dice.u32(1..20), Duration::from_millis(dice.u64(1_000..60_000))).unwrap();
        let rate = rate.with_burst(dice.u32(1..5)).unwrap();
        gate = gate.with_rate_limit(RateLimit { kinds: kinds[dice.usize(..3)], rate });
    }
    if dice.u8(..4) == 0 {
        gate = gate.with_replicas(NonZeroU32::new(dice.u32(2..4)).unwrap());
    }
    gate
}

fn drawn_breaker(dice: &mut fastrand::Rng) -> BreakerPolicy {
    let policy = if dice.bool() {
        BreakerPolicy::consecutive(dice.u32(1..4)).unwrap()
    } else {
        BreakerPolicy::rate(dice.u8(30..=100), Window::Calls(dice.u16(2..9)), 2).unwrap()
    };
    let ms = Duration::from_millis;
    let first = ms(dice.u64(1..10_000));
    let open = BackoffPolicy::new(Growth::doubling(first), 4 * first, Jitter::Full).unwrap();
    let probes = Probes {
        at_once: dice.u8(1..4),
        successes: dice.u16(1..3),
        failures: dice.u16(1..3),
        lease: ms(dice.u64(1..30_000)),
    };
    policy.with_open(open).unwrap().with_probes(probes).unwrap()
}
