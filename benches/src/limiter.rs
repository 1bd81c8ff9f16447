//! A place from a rate limiter, granted each time.
//!
//! With one owner the caller hands in the time. Shared, everybody reads a clock of their own, but where the case says
//! otherwise: then what is left is the sharing.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::{Quota, RateLimiter as Governor};
use steadfast_core::Timestamp;
use steadfast_core::rate_limit::{RateLimiter, RatePolicy};
use steadfast_tokio::{Leases, RateLimiter as Shared};

use crate::measure::{Row, Subject, case, repeat};

const START: u64 = 1_700_000_000_000_000_000;
const LOT: u32 = 64;

/// A limit that nothing reaches: the fastest there is, with a burst to match.
fn unreached() -> RatePolicy {
    let policy = RatePolicy::new(1_000_000_000, Duration::from_secs(1)).and_then(|it| it.with_burst(u32::MAX));
    policy.expect("it makes sense")
}

pub fn rows() -> Vec<Row> {
    [one_owner(), shared(), shared_at(), leases()].concat()
}

fn one_owner() -> Vec<Row> {
    let policy = RatePolicy::new(10_000_000, Duration::from_secs(1)).expect("it makes sense");
    let mut limiter = RateLimiter::new();
    let mut now = START;
    let governor = Governor::direct(Quota::per_second(NonZeroU32::MAX));
    let (mut due, mut floor_now) = (0_u64, START);
    case(
        "limiter",
        "yes, one owner",
        vec![
            Subject::new("steadfast", |count| {
                let (start, mut own) = (now, limiter);
                for n in 1..=count {
                    let at = Timestamp::from_nanos(start + n * 100);
                    let _ = black_box(own.try_acquire(&policy, black_box(at)));
                }
                (now, limiter) = (start + count * 100, own);
            }),
            Subject::new("governor", |count| repeat(count, || governor.check())),
            Subject::new("limit", |count| {
                let (start, mut own) = (floor_now, due);
                for n in 1..=count {
                    let at = black_box(start + n * 100);
                    let goes = own <= at;
                    if goes {
                        own = own.max(at) + 100;
                    }
                    black_box(goes);
                }
                (floor_now, due) = (start + count * 100, own);
            }),
        ],
    )
}

fn shared() -> Vec<Row> {
    let ours = Shared::new(unreached());
    let governor = Governor::direct(Quota::per_second(NonZeroU32::MAX));
    let one = case(
        "limiter",
        "yes, shared, 1 thread",
        vec![
            Subject::new("steadfast", |count| repeat(count, || ours.try_acquire())),
            Subject::new("governor", |count| repeat(count, || governor.check())),
        ],
    );
    let two = case(
        "limiter",
        "yes, shared, 2 threads",
        vec![
            Subject::on_two_threads("steadfast", |count| repeat(count, || ours.try_acquire())),
            Subject::on_two_threads("governor", |count| repeat(count, || governor.check())),
        ],
    );
    [one, two].concat()
}

fn shared_at() -> Vec<Row> {
    let ours = Shared::new(unreached());
    let at = Timestamp::from_nanos(START);
    let due = AtomicU64::new(0);
    // A place in one word, by compare-and-exchange, with nothing else.
    let floor = |count| {
        repeat(count, || {
            let now = black_box(START);
            due.fetch_update(Ordering::AcqRel, Ordering::Acquire, |due| {
                (due <= now + (1 << 60)).then(|| due.max(now) + 1)
            })
        });
    };
    let one = case(
        "limiter",
        "yes, shared, the caller's clock, 1 thread",
        vec![
            Subject::new("steadfast", |count| repeat(count, || ours.try_acquire_at(black_box(at)))),
            Subject::new("limit", floor),
        ],
    );
    let two = case(
        "limiter",
        "yes, shared, the caller's clock, 2 threads",
        vec![
            Subject::on_two_threads("steadfast", |count| repeat(count, || ours.try_acquire_at(black_box(at)))),
            Subject::on_two_threads("limit", floor),
        ],
    );
    [one, two].concat()
}

fn leases() -> Vec<Row> {
    let leases = Leases { size: LOT, most: 4 };
    let ours = Shared::with_leases(unreached(), leases).expect("the burst is enough");
    let governor = Governor::direct(Quota::per_second(NonZeroU32::MAX));
    let leased = |count| {
        let mut lease = ours.lease().expect("there is one for each thread");
        repeat(count, || lease.try_acquire());
    };
    let pool = AtomicU64::new(0);
    let floor = |count| {
        let mut held = 0_u64;
        repeat(count, || {
            if black_box(held) == 0 {
                pool.fetch_add(u64::from(LOT), Ordering::AcqRel);
                held = u64::from(LOT);
            }
            held -= 1;
        });
    };
    let one = case(
        "limiter",
        "yes, leases of 64, 1 thread",
        vec![
            Subject::new("steadfast", leased),
            Subject::new("governor", |count| repeat(count, || governor.check())),
            Subject::new("limit", floor),
        ],
    );
    let two = case(
        "limiter",
        "yes, leases of 64, 2 threads",
        vec![
            Subject::on_two_threads("steadfast", leased),
            Subject::on_two_threads("governor", |count| repeat(count, || governor.check())),
            Subject::on_two_threads("limit", floor),
        ],
    );
    [one, two].concat()
}
