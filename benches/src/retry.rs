//! A call that is repeated. The call itself does nothing: what is left is the wrapper.
//!
//! All have a policy of three attempts at least, made beforehand. *Limit* is the call alone, or the loop written by
//! hand.

use std::future::ready;
use std::hint::black_box;
use std::time::Duration;

use backon::{BackoffBuilder as _, BlockingRetryable as _, ConstantBuilder, Retryable as _};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::retry::RetryPolicy;
use tokio::runtime::{Builder, Runtime};
use tokio_retry::Retry;

use crate::measure::{Row, Subject, case};

/// Five attempts without delay, within two minutes, ten seconds each.
fn policy() -> RetryPolicy {
    within(Duration::from_secs(120))
}

fn within(deadline: Duration) -> RetryPolicy {
    let at_once = BackoffPolicy::new(Growth::Fixed(Duration::ZERO), Duration::ZERO, Jitter::None);
    at_once.and_then(|backoff| RetryPolicy::new(5, deadline, Duration::from_secs(10), backoff)).expect("it makes sense")
}

fn peers() -> ConstantBuilder {
    ConstantBuilder::default().with_delay(Duration::ZERO).with_max_times(4)
}

/// Without a timer: a zero delay that sleeps would find none.
fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime")
}

fn answer(n: u64) -> Result<u64, u32> {
    black_box(Ok(n))
}

/// Well at the third attempt.
fn third(attempts: &mut u32) -> Result<u64, u32> {
    *attempts += 1;
    black_box(if attempts.is_multiple_of(3) { Ok(1) } else { Err(*attempts) })
}

pub fn rows() -> Vec<Row> {
    // Whoever keeps a deadline must know when a call began that blocks; backon keeps none.
    let endless = ("ok at once, blocking, no deadline", within(Duration::MAX));
    let blocking = [("ok at once, blocking", policy()), endless].map(|(name, policy)| blocking(name, policy)).concat();
    [awaited(), blocking, fails_twice(), fails_twice_blocking()].concat()
}

fn awaited() -> Vec<Row> {
    let (policy, peers, runtime) = (policy(), peers(), runtime());
    let runtime = &runtime;
    case(
        "retry",
        "ok at once, awaited",
        vec![
            Subject::new("steadfast", |count| {
                runtime.block_on(async {
                    for n in 0..count {
                        let _ = black_box(steadfast_tokio::retry(&policy).run(|| async { answer(n) }).await.ok());
                    }
                });
            }),
            Subject::new("backon", |count| {
                runtime.block_on(async {
                    for n in 0..count {
                        let _ = black_box((|| async { answer(n) }).retry(peers).sleep(|_| ready(())).await.ok());
                    }
                });
            }),
            Subject::new("tokio-retry", |count| {
                runtime.block_on(async {
                    for n in 0..count {
                        let _ = black_box(Retry::start(peers.build(), || async { answer(n) }).await.ok());
                    }
                });
            }),
            Subject::new("limit", |count| {
                runtime.block_on(async {
                    for n in 0..count {
                        let _ = black_box(async { answer(n) }.await.ok());
                    }
                });
            }),
        ],
    )
}

fn blocking(name: &'static str, policy: RetryPolicy) -> Vec<Row> {
    let peers = peers();
    case(
        "retry",
        name,
        vec![
            Subject::new("steadfast", |count| {
                for n in 0..count {
                    let _ = black_box(steadfast_blocking::retry(&policy).call(|| answer(n)).ok());
                }
            }),
            Subject::new("backon", |count| {
                for n in 0..count {
                    let _ = black_box((|| answer(n)).retry(peers).sleep(|_| ()).call().ok());
                }
            }),
            Subject::new("limit", |count| {
                for n in 0..count {
                    let _ = black_box(answer(n).ok());
                }
            }),
        ],
    )
}

/// tokio-retry is left out: each of its zero sleeps waits for the timer's next millisecond.
fn fails_twice() -> Vec<Row> {
    let (policy, peers, runtime) = (policy(), peers(), runtime());
    let runtime = &runtime;
    let [mut ours, mut theirs, mut floor] = [0; 3];
    case(
        "retry",
        "fails twice, no delay, awaited",
        vec![
            Subject::new("steadfast", |count| {
                runtime.block_on(async {
                    for _ in 0..count {
                        let call = steadfast_tokio::retry(&policy).run(|| ready(third(&mut ours)));
                        let _ = black_box(call.await.ok());
                    }
                });
            }),
            Subject::new("backon", |count| {
                runtime.block_on(async {
                    for _ in 0..count {
                        let call = (|| ready(third(&mut theirs))).retry(peers).sleep(|_| ready(()));
                        let _ = black_box(call.await.ok());
                    }
                });
            }),
            Subject::new("limit", |count| by_hand(count, &mut floor)),
        ],
    )
}

fn fails_twice_blocking() -> Vec<Row> {
    let (policy, peers) = (policy(), peers());
    let [mut ours, mut theirs, mut floor] = [0; 3];
    case(
        "retry",
        "fails twice, no delay, blocking",
        vec![
            Subject::new("steadfast", |count| {
                for _ in 0..count {
                    let _ = black_box(steadfast_blocking::retry(&policy).call(|| third(&mut ours)).ok());
                }
            }),
            Subject::new("backon", |count| {
                for _ in 0..count {
                    let _ = black_box((|| third(&mut theirs)).retry(peers).sleep(|_| ()).call().ok());
                }
            }),
            Subject::new("limit", |count| by_hand(count, &mut floor)),
        ],
    )
}

fn by_hand(count: u64, attempts: &mut u32) {
    for _ in 0..count {
        for _ in 0..5 {
            if black_box(third(attempts)).is_ok() {
                break;
            }
        }
    }
}
