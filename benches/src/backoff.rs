//! The next delay: exponential, doubling, full jitter, cap at a minute.

use std::hint::black_box;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use steadfast_core::Seed;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};

use crate::measure::{Row, Subject, case};

const FIRST: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(60);

pub fn rows() -> Vec<Row> {
    let policy = BackoffPolicy::new(Growth::doubling(FIRST), CAP, Jitter::Full).expect("it makes sense");
    let builder = ExponentialBuilder::default()
        .with_min_delay(FIRST)
        .with_max_delay(CAP)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times();
    case(
        "backoff",
        "next delay",
        vec![
            Subject::new("steadfast", |count| {
                for n in 0..count {
                    let (retry, seed) = ((n % 8) as u32 + 1, Seed::new(n / 8));
                    black_box(policy.delay(black_box(retry), black_box(seed)));
                }
            }),
            // Its state is an iterator, made anew for each eight delays: an operation's life.
            Subject::new("backon", |count| {
                let mut delays = builder.build();
                for n in 0..count {
                    if n % 8 == 0 {
                        delays = builder.build();
                    }
                    black_box(delays.next());
                }
            }),
            Subject::new("limit", |count| {
                let mut state = 0x9e37_79b9_7f4a_7c15_u64;
                for n in 0..count {
                    let delay = (1_000_000_000_u64 << (black_box(n) % 8)).min(60_000_000_000);
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    black_box(((u128::from(state) * u128::from(delay)) >> 64) as u64);
                }
            }),
        ],
    )
}
