//! What `.ci/instructions` counts: the same work a given number of times, in a process of its own.
//!
//! ```text
//! instructions CASE TIMES
//! ```
//!
//! Two runs that differ only in `TIMES` differ by the instructions of so many times the case; getting ready for it
//! falls out. Times on a shared machine say little, instructions are the same on each.

use std::hint::black_box;
use std::time::Duration;

use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::breaker::{Breaker, BreakerPolicy, Health, Window};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::operation::{Attempt, Effect, Reading};
use steadfast_core::rate_limit::{RateLimiter, RatePolicy};
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Fingerprint, Gate, Key, Kind, OperationPolicy, Reference, Seed, Timestamp};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const SECOND: Duration = Duration::from_secs(1);
const MILLI: u64 = 1_000_000;

type Case = (&'static str, fn(u64));

/// By the name that the baseline has for it.
const CASES: [Case; 5] = [
    ("engine-operation", engine_operation),
    ("next-delay", next_delay),
    ("breaker-closed", breaker_closed),
    ("limiter-yes", limiter_yes),
    ("retry-decision", retry_decision),
];

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (Some(name), Some(times)) = (args.next(), args.next().and_then(|times| times.parse().ok())) else {
        // As a part of all benches it has nothing to say.
        return CASES.iter().for_each(|(name, _)| println!("{name}"));
    };
    match CASES.iter().find(|(case, _)| *case == name) {
        Some((_, run)) => run(times),
        None => panic!("there is no case {name:?}: run without arguments for a list"),
    }
}

/// A create and 3.4 polls, one answer in ten a failure, among ten thousand in flight; a breaker, a bulkhead and a rate
/// limit at the gate; nobody observes.
fn engine_operation(times: u64) {
    let rate = RatePolicy::new(1_000_000_000, SECOND).and_then(|it| it.with_burst(u32::MAX)).unwrap();
    let gate = GatePolicy::none()
        .with_breaker(Some(BreakerPolicy::rate(50, Window::Calls(100), 100).unwrap()))
        .with_bulkhead(Some(BulkheadPolicy::fixed(u32::MAX).unwrap()))
        .with_rate_limit(RateLimit { kinds: Kinds::ALL, rate });
    let limits = Limits { live: u32::MAX, remember: 0, ..Limits::default() };
    let mut engine = Engine::new(OperationPolicy::default(), Gate::new(gate, Seed::new(1)), limits, Seed::new(2));
    engine.observe(false);
    let (mut now, mut chance) = (START, 0x9e37_79b9_7f4a_7c15_u64);
    let mut next = move || {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance
    };
    let (mut submitted, mut ended, in_flight) = (0_u64, 0, 10_000);
    while ended < times {
        // The first ones come over eight seconds; then each that ends makes room for one.
        let arrival = |n: u64| START.saturating_add(SECOND * 8 * n as u32 / 10_000);
        while submitted < in_flight + ended && (submitted >= in_flight || now >= arrival(submitted)) {
            let key = Key::new(format!("8e03978e-40d5-43e8-bc93-{submitted:012x}")).unwrap();
            let _ = engine.submit(key, Fingerprint::new(u128::from(next()).to_le_bytes()), now).unwrap();
            submitted += 1;
        }
        let mut last = None;
        while let Some((id, effect)) = engine.pop_effect() {
            match effect {
                Effect::Persist(number) => last = Some(number),
                Effect::Send(attempt) => {
                    let name = engine.operation(id).unwrap().fingerprint().as_bytes()[0];
                    let answer = answer(next(), name, attempt);
                    engine.handle(Event::Answered(id, attempt.id, answer), now);
                }
                Effect::End => {
                    ended += 1;
                    engine.handle(Event::Delivered(id), now);
                }
                _ => {}
            }
        }
        if let Some(number) = last {
            engine.handle(Event::Persisted(number), now);
            continue;
        }
        let due = engine.next_deadline().unwrap_or(Timestamp::NEVER);
        let wake = if submitted < in_flight { due.min(arrival(submitted)) } else { due };
        now = Timestamp::from_nanos(wake.as_nanos().next_multiple_of(MILLI)).max(now);
        engine.handle_timeout(now);
    }
}

fn answer(chance: u64, name: u8, attempt: Attempt) -> Result<Reading, Failure> {
    if chance.is_multiple_of(10) {
        return Err(Failure::new(Class::Transient, Certainty::NotExecuted));
    }
    Ok(match attempt.kind {
        Kind::Create => Reading::Accepted(Reference::new("65f0c1a2b3c4d5e6f7a8b9c0").unwrap()),
        _ if attempt.number < if name % 5 < 2 { 4 } else { 3 } => Reading::Pending { hint: None },
        _ => Reading::Ready,
    })
}

/// Exponential, full jitter.
fn next_delay(times: u64) {
    let policy = BackoffPolicy::default();
    for n in 0..times {
        black_box(black_box(&policy).delay(black_box(4), black_box(Seed::new(n))));
    }
}

/// Asked, and told that the call went well.
fn breaker_closed(times: u64) {
    let policy = BreakerPolicy::default();
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    for n in 0..times {
        let now = START.saturating_add(Duration::from_nanos(100 * n));
        if let Ok(ticket) = black_box(&mut breaker).admit(&policy, now) {
            breaker.settle(&policy, ticket, black_box(Health::Healthy), now);
        }
    }
}

fn limiter_yes(times: u64) {
    let policy = RatePolicy::new(10_000_000, SECOND).unwrap();
    let mut limiter = RateLimiter::new();
    for n in 0..times {
        let now = START.saturating_add(Duration::from_nanos(100 * n));
        let _ = black_box(black_box(&mut limiter).try_acquire(&policy, now));
    }
}

fn retry_decision(times: u64) {
    let policy = RetryPolicy::default();
    let failure = Failure::new(Class::Transient, Certainty::NotExecuted);
    for n in 0..times {
        let _ = black_box(black_box(&policy).decide(2, black_box(failure), START, START, true, Seed::new(n)));
    }
}
