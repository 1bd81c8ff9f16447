//! A call through a breaker. The call itself does nothing: what is left is the breaker.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
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
    [
        closed_consecutive(),
        closed_rate(),
        some_failures(),
        open(),
        shared_consecutive(),
        shared_rate(),
        shared_some_failures(),
        shared_open(),
    ]
    .concat()
}

/// Ours with one owner: asked, and told that the call went well.
fn ours<'a>(policy: BreakerPolicy) -> Subject<'a> {
    let mut breaker = Breaker::new(&policy, Seed::new(1));
    let mut now = START;
    Subject::new("steadfast", move |count| {
        let start = now;
        now += count * 100;
        for n in 1..=count {
            let (breaker, at) = (black_box(&mut breaker), Timestamp::from_nanos(start + n * 100));
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
    let until = u64::MAX;
    case(
        "breaker",
        "open, one owner",
        vec![
            Subject::new("steadfast", |count| {
                for n in 0..count {
                    let at = black_box(Timestamp::from_nanos(START + n));
                    black_box(breaker.admit(&policy, at).is_ok());
                }
            }),
            Subject::new("limit", |count| {
                for n in 0..count {
                    black_box(*black_box(&until) <= black_box(START + n));
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
    let one = case(
        "breaker",
        "closed, consecutive, shared, 1 thread",
        vec![
            Subject::new("steadfast", |count| repeat(count, || ours.call(ok))),
            Subject::new("failsafe", |count| repeat(count, || peer.call(ok))),
        ],
    );
    let two = case(
        "breaker",
        "closed, consecutive, shared, 2 threads",
        vec![
            Subject::on_two_threads("steadfast", |count| repeat(count, || ours.call(ok))),
            Subject::on_two_threads("failsafe", |count| repeat(count, || peer.call(ok))),
        ],
    );
    [one, two].concat()
}

fn shared_rate() -> Vec<Row> {
    let ours = Shared::new(rate());
    let recloser = recloser::Recloser::custom().error_rate(0.5).closed_len(100).build();
    let failsafe = failsafe::Config::new().build();
    let one = case(
        "breaker",
        "closed, rate, shared, 1 thread",
        vec![
            Subject::new("steadfast", |count| repeat(count, || ours.call(ok))),
            Subject::new("recloser", |count| repeat(count, || recloser.call(ok))),
            Subject::new("failsafe", |count| repeat(count, || failsafe.call(ok))),
        ],
    );
    let two = case(
        "breaker",
        "closed, rate, shared, 2 threads",
        vec![
            Subject::on_two_threads("steadfast", |count| repeat(count, || ours.call(ok))),
            Subject::on_two_threads("recloser", |count| repeat(count, || recloser.call(ok))),
            Subject::on_two_threads("failsafe", |count| repeat(count, || failsafe.call(ok))),
        ],
    );
    [one, two].concat()
}

/// Two threads' counters, each with its cache lines to itself.
#[repr(align(128))]
#[derive(Default)]
struct Padded(AtomicU64);

/// A window that remembers failures: every good call must be counted. One in a thousand fails.
fn shared_some_failures() -> Vec<Row> {
    let seldom = |n: u64| black_box(if n.is_multiple_of(1_000) { Err(()) } else { Ok(()) });
    let policy = BreakerPolicy::rate(50, Window::Time(MINUTE), 100).expect("it makes sense");
    let (calls, time) = (Shared::new(rate()), Shared::new(policy));
    // So that the window of calls is not full of good ones when it begins.
    for breaker in [&calls, &time] {
        let _ = breaker.call(|| Err::<(), ()>(()));
    }
    let recloser = recloser::Recloser::custom().error_rate(0.5).closed_len(100).build();
    let next = AtomicU64::new(0);
    let shards = [Padded::default(), Padded::default()];
    let floor = |count| {
        let mine = &shards[next.fetch_add(1, Ordering::Relaxed) as usize % 2].0;
        repeat(count, || mine.fetch_add(1, Ordering::Relaxed));
    };
    let of_calls = |count| (0..count).for_each(|n| _ = black_box(calls.call(|| seldom(n))));
    let in_time = |count| (0..count).for_each(|n| _ = black_box(time.call(|| seldom(n))));
    let peer = |count| (0..count).for_each(|n| _ = black_box(recloser.call(|| seldom(n))));
    let one = case(
        "breaker",
        "closed, rate of calls, one in 1000 fails, shared, 1 thread",
        vec![Subject::new("steadfast", of_calls), Subject::new("recloser", peer), Subject::new("limit", floor)],
    );
    let two = case(
        "breaker",
        "closed, rate of calls, one in 1000 fails, shared, 2 threads",
        vec![
            Subject::on_two_threads("steadfast", of_calls),
            Subject::on_two_threads("recloser", peer),
            Subject::on_two_threads("limit", floor),
        ],
    );
    // Neither peer here has a window of time that it can be set beside.
    let timed_one = case(
        "breaker",
        "closed, rate in time, one in 1000 fails, shared, 1 thread",
        vec![Subject::new("steadfast", in_time), Subject::new("limit", floor)],
    );
    let timed_two = case(
        "breaker",
        "closed, rate in time, one in 1000 fails, shared, 2 threads",
        vec![Subject::on_two_threads("steadfast", in_time), Subject::on_two_threads("limit", floor)],
    );
    [one, two, timed_one, timed_two].concat()
}

fn shared_open() -> Vec<Row> {
    let day = Duration::from_secs(86_400);
    let ours = Shared::new(consecutive());
    ours.force_open(day);
    let recloser = recloser::Recloser::custom().error_rate(0.5).closed_len(1).open_wait(day).build();
    for _ in 0..3 {
        let _ = recloser.call(|| Err::<(), ()>(()));
    }
    let one = case(
        "breaker",
        "open, shared, 1 thread",
        vec![
            Subject::new("steadfast", |count| repeat(count, || ours.call(ok))),
            Subject::new("recloser", |count| repeat(count, || recloser.call(ok))),
        ],
    );
    let two = case(
        "breaker",
        "open, shared, 2 threads",
        vec![
            Subject::on_two_threads("steadfast", |count| repeat(count, || ours.call(ok))),
            Subject::on_two_threads("recloser", |count| repeat(count, || recloser.call(ok))),
        ],
    );
    [one, two].concat()
}
