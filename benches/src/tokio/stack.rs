//! What is put together by hand today: a future per operation, which retries by backon behind governor's rate limiter
//! and recloser's breaker.
//!
//! It calls the model as a function; it builds no requests, keeps no journal, and joins no submits of one key.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use recloser::{AsyncRecloser, Recloser};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::model::{Answer, Fault, Waits, answer, number, reference, scattered};

pub struct Stack {
    limiter: DefaultDirectRateLimiter,
    breaker: AsyncRecloser,
    waits: Waits,
}

impl Stack {
    /// With limits that nothing reaches.
    pub fn new(waits: Waits) -> Arc<Self> {
        let limiter = RateLimiter::direct(Quota::per_second(NonZeroU32::MAX));
        Arc::new(Self { limiter, breaker: Recloser::custom().error_rate(0.5).build().into(), waits })
    }

    async fn carry(self: Arc<Self>, key: Box<str>) -> String {
        let (number, requests) = (number(&key), AtomicU32::new(0));
        assert_eq!(self.send(number, &requests).await, Answer::Accepted);
        let reference = reference(number);
        for pending in 0.. {
            sleep(self.waits.before_poll(pending, u64::from(number) << 8 | u64::from(pending))).await;
            if self.send(number, &requests).await == Answer::Ready {
                break;
            }
        }
        reference
    }

    async fn send(&self, number: u32, requests: &AtomicU32) -> Answer {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(self.waits.unit / 2)
            .with_max_delay(self.waits.cap())
            .with_max_times(10)
            .with_jitter();
        let send = || async {
            self.limiter.until_ready().await;
            let request = requests.fetch_add(1, Relaxed) + 1;
            self.breaker.call(async { answer(number, request) }).await
        };
        send.retry(backoff).await.map_err(|_| Fault).expect("ten repeats are enough")
    }
}

/// Each on a task of its own.
pub async fn in_tasks(keys: Vec<Box<str>>, waits: Waits, all_begun: impl FnOnce()) {
    let stack = Stack::new(waits);
    let mut tasks = JoinSet::new();
    for key in keys {
        tasks.spawn(stack.clone().carry(key));
    }
    sleep(waits.unit / 8).await;
    all_begun();
    while let Some(done) = tasks.join_next().await {
        done.expect("it does not panic");
    }
}

/// All in one task.
pub async fn in_one_task(keys: Vec<Box<str>>, waits: Waits, all_begun: impl FnOnce()) {
    let stack = Stack::new(waits);
    let mut futures: FuturesUnordered<_> = keys.into_iter().map(|key| stack.clone().carry(key)).collect();
    let first = timeout(waits.unit / 8, futures.next()).await;
    assert!(first.is_err(), "none has ended yet");
    all_begun();
    while futures.next().await.is_some() {}
}

/// What a task that waits costs by itself: each sleeps three times, and does nothing else.
pub async fn sleeping(count: u32, waits: Waits, all_begun: impl FnOnce()) {
    let mut tasks = JoinSet::new();
    for number in 0..count {
        tasks.spawn(async move {
            for wait in 0..3 {
                sleep(waits.before_poll(wait, scattered(u64::from(number)) ^ u64::from(wait))).await;
            }
        });
    }
    sleep(Duration::from_millis(1)).await;
    all_begun();
    while let Some(done) = tasks.join_next().await {
        done.expect("it does not panic");
    }
}
