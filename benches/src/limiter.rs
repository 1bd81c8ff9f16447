//! A place from a rate limiter, granted each time.

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::{Quota, RateLimiter as Governor};
use steadfast_core::Timestamp;
use steadfast_core::rate_limit::{RateLimiter, RatePolicy};
use steadfast_tokio::RateLimiter as Shared;

use crate::measure::{Row, Subject, case, repeat};

/// A limit that nothing reaches: the fastest there is, with a burst to match.
fn unreached() -> RatePolicy {
    let policy = RatePolicy::new(1_000_000_000, Duration::from_secs(1)).and_then(|it| it.with_burst(u32::MAX));
    policy.expect("it makes sense")
}

pub fn rows() -> Vec<Row> {
    [one_owner(), two_threads()].concat()
}

fn one_owner() -> Vec<Row> {
    let policy = RatePolicy::new(10_000_000, Duration::from_secs(1)).expect("it makes sense");
    let mut limiter = RateLimiter::new();
    let mut now = 1_700_000_000_000_000_000_u64;
    let governor = Governor::direct(Quota::per_second(NonZeroU32::MAX));
    let (mut due, mut floor_now) = (0_u64, 1_700_000_000_000_000_000_u64);
    case(
        "limiter",
        "yes, one owner",
        vec![
            Subject::new("steadfast", |count| {
                for _ in 0..count {
                    now += 100;
                    let _ = black_box(limiter.try_acquire(&policy, black_box(Timestamp::from_nanos(now))));
                }
            }),
            Subject::new("governor", |count| repeat(count, || governor.check())),
            Subject::new("limit", |count| {
                for _ in 0..count {
                    floor_now += 100;
                    let at = black_box(floor_now);
                    let goes = due <= at;
                    if goes {
                        due = due.max(at) + 100;
                    }
                    black_box(goes);
                }
            }),
        ],
    )
}

fn two_threads() -> Vec<Row> {
    let ours = Shared::new(unreached());
    let governor = Governor::direct(Quota::per_second(NonZeroU32::MAX));
    case(
        "limiter",
        "yes, two threads",
        vec![
            Subject::on_two_threads("steadfast", |count| repeat(count, || ours.try_acquire())),
            Subject::on_two_threads("governor", |count| repeat(count, || governor.check())),
        ],
    )
}
