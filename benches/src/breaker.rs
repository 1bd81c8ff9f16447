//! A call through a breaker. The call itself does nothing: what is left is the breaker.

use std::hint::black_box;
use std::time::Duration;

use failsafe::{CircuitBreaker as _, backoff, failure_policy};
use steadfast_core::breaker::{Breaker, BreakerPolicy, Health, Window};
use steadfast_core::{Seed, Timestamp};
use steadfast_tokio::Breaker as Shared;

use crate::measure::{Row, Subject, case, repeat};

const START: u64 = 1_700_000_000_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);

fn consecutive() -> BreakerPolicy {
    BreakerPolicy::consecutive(5).expect("it makes sense")
}

/// Half of the last hundred.
fn rate() -> BreakerPolicy {
    BreakerPolicy::rate(50, Window::Calls(100), 100).expect("it makes sense")
}

pub fn rows() -> Vec<Row> {
    [closed_consecutive(), closed_rate(), some_failures(), open(), shared_consecutive(), shared_rate()].concat()
}

/// Ours with one owner: asked, and told that the call went well.
fn ours<'a>(policy: BreakerPolicy) -> Subject<'a> {
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    let mut now = START;
    Subject::new("steadfast", move |count| {
        for _ in 0..count {
            now += 100;
            let (breaker, at) = (black_box(&mut breaker), Timestamp::from_nanos(now));
            if let Ok(ticket) = breaker.admit(&policy, at) {
                let health = if ok().is_ok() { Health::Healthy } else { Health::Failing };
                breaker.settle(&policy, ticket, health, at);
            }
        }
    })
}

/// Good nineteen times of twenty: nothing that a breaker opens for, but something to remember.
fn mostly(n: u64) -> Result<(), ()> {
    black_box(if n.is_multiple_of(20) { Err(()) } else { Ok(()) })
}

fn some_failures() -> Vec<Row> {
    let (policy, mut n) = (rate(), 0);
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    let recloser = recloser::Recloser::custom().error_rate(0.5).closed_len(100).build();
    let failsafe = failsafe::Config::new().build();
    let (mut m, mut k) = (0, 0);
    case(
        "breaker",
        "closed, rate, one in 20 fails, one owner",
        vec![
            Subject::new("steadfast", |count| {
                for _ in 0..count {
                    n += 1;
                    let (breaker, at) = (black_box(&mut breaker), Timestamp::from_nanos(START + n));
                    if let Ok(ticket) = breaker.admit(&policy, at) {
                        let health = if mostly(n).is_ok() { Health::Healthy } else { Health::Failing };
                        breaker.settle(&policy, ticket, health, at);
                    }
                }
            }),
            Subject::new("recloser", |count| {
                repeat(count, || {
                    m += 1;
                    recloser.call(|| mostly(m))
                });
            }),
            Subject::new("failsafe", |count| {
                repeat(count, || {
                    k += 1;
                    failsafe.call(|| mostly(k))
                });
            }),
        ],
    )
}

fn ok() -> Result<(), ()> {
    black_box(Ok(()))
}

fn closed_consecutive() -> Vec<Row> {
    let peer = failsafe::Config::new()
        .failure_policy(failure_policy::consecutive_failures(5, backoff::constant(MINUTE)))
        .build();
    let mut streak = 0_u32;
    case(
        "breaker",
        "closed, consecutive, one owner",
        vec![
            ours(consecutive()),
            Subject::new("failsafe", |count| repeat(count, || peer.call(ok))),
            // The call included, as for the others.
            Subject::new("limit", |count| {
                for _ in 0..count {
                    if *black_box(&mut streak) < 5 {
                        streak = if ok().is_ok() { 0 } else { streak + 1 };
                    }
                }
            }),
        ],
    )
}

fn closed_rate() -> Vec<Row> {
    let recloser = recloser::Recloser::custom().error_rate(0.5).closed_len(100).build();
    let failsafe = failsafe::Config::new().build();
    case(
        "breaker",
        "closed, rate, one owner",
        vec![
            ours(rate()),
            Subject::new("recloser", |count| repeat(count, || recloser.call(ok))),
            Subject::new("failsafe", |count| repeat(count, || failsafe.call(ok))),
        ],
    )
}

fn open() -> Vec<Row> {
    let policy = consecutive();
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    breaker.force_open(Timestamp::NEVER);
    let day = Duration::from_secs(86_400);
    let recloser = recloser::Recloser::custom().error_rate(0.5).closed_len(1).open_wait(day).build();
    let failsafe =
        failsafe::Config::new().failure_policy(failure_policy::consecutive_failures(1, backoff::constant(day))).build();
    for _ in 0..3 {
        let _ = recloser.call(|| Err::<(), ()>(()));
        let _ = failsafe.call(|| Err::<(), ()>(()));
    }
    let mut now = START;
    case(
        "breaker",
        "open, one owner",
        vec![
            Subject::new("steadfast", |count| {
                for _ in 0..count {
                    now += 100;
                    let _ = black_box(breaker.admit(&policy, black_box(Timestamp::from_nanos(now))));
                }
            }),
            Subject::new("recloser", |count| repeat(count, || recloser.call(ok))),
            Subject::new("failsafe", |count| repeat(count, || failsafe.call(ok))),
        ],
    )
}

fn shared_consecutive() -> Vec<Row> {
    let ours = Shared::new(consecutive());
    let peer = failsafe::Config::new()
        .failure_policy(failure_policy::consecutive_failures(5, backoff::constant(MINUTE)))
        .build();
    case(
        "breaker",
        "closed, consecutive, two threads",
        vec![
            Subject::on_two_threads("steadfast", |count| repeat(count, || ours.call(ok))),
            Subject::on_two_threads("failsafe", |count| repeat(count, || peer.call(ok))),
        ],
    )
}

fn shared_rate() -> Vec<Row> {
    let ours = Shared::new(rate());
    let recloser = recloser::Recloser::custom().error_rate(0.5).closed_len(100).build();
    let failsafe = failsafe::Config::new().build();
    case(
        "breaker",
        "closed, rate, two threads",
        vec![
            Subject::on_two_threads("steadfast", |count| repeat(count, || ours.call(ok))),
            Subject::on_two_threads("recloser", |count| repeat(count, || recloser.call(ok))),
            Subject::on_two_threads("failsafe", |count| repeat(count, || failsafe.call(ok))),
        ],
    )
}
