//! An inner service that has something to do in every turn spends tokio's whole budget in each. It is cut off in time
//! all the same.

use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use steadfast_core::gate::GatePolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_tokio::tower::{Again, BreakerLayer, GateLayer, LayerError, RetryLayer};
use steadfast_tokio::{Breaker, Gate};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{Answer, Down, SECOND, breaker, pauses};

async fn busy() -> Answer {
    loop {
        consume_budget().await;
    }
}

/// Fails once; and then it is busy coming ready.
#[derive(Clone)]
struct NeverReadyAgain {
    has_failed: bool,
}

impl Service<u32> for NeverReadyAgain {
    type Response = u32;
    type Error = Down;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Down>> {
        if self.has_failed { std::pin::pin!(busy()).poll(cx).map_ok(drop) } else { Poll::Ready(Ok(())) }
    }

    fn call(&mut self, _: u32) -> Self::Future {
        self.has_failed = true;
        std::future::ready(Err(Down))
    }
}

/// What it came to, and after how many seconds.
async fn ended<T: Send + 'static>(call: impl Future<Output = T> + Send + 'static) -> (T, u64) {
    let start = Instant::now();
    let call = tokio::spawn(call);
    for _ in 0..100 {
        if call.is_finished() {
            return (call.await.unwrap(), start.elapsed().as_secs());
        }
        // It cannot advance by itself: somebody is always busy.
        advance(SECOND).await;
        tokio::task::yield_now().await;
    }
    panic!("it is never cut off");
}

fn always(
    deadline: Duration,
) -> RetryLayer<steadfast_tokio::tower::AnyError, impl Fn(&u32) -> Option<Again<u32>> + Clone> {
    let policy = RetryPolicy::new(2, deadline, 10 * SECOND, pauses(SECOND)).unwrap();
    RetryLayer::new(policy).repeat(|request: &u32| Some(Again::Always(*request)))
}

#[tokio::test(start_paused = true)]
async fn a_busy_call_is_cut_off_by_a_gates_time_out() {
    let layer = GateLayer::new(Gate::new(GatePolicy::none())).with_timeout(5 * SECOND);
    let (result, seconds) = ended(layer.layer(service_fn(|_: u32| busy())).oneshot(0)).await;
    assert!(matches!(result, Err(LayerError::TimedOut { .. })), "{result:?}");
    assert!((5..=7).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_call_is_cut_off_by_a_breakers_time_out() {
    let layer = BreakerLayer::new(Breaker::new(breaker())).with_timeout(5 * SECOND);
    let (result, seconds) = ended(layer.layer(service_fn(|_: u32| busy())).oneshot(0)).await;
    assert!(matches!(result, Err(LayerError::TimedOut { .. })), "{result:?}");
    assert!((5..=7).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_attempt_is_cut_off_by_its_time_out_and_the_last_one_by_the_deadline() {
    let service = always(14 * SECOND).layer(service_fn(|_: u32| busy()));
    let (result, seconds) = ended(service.oneshot(0)).await;
    // 0 to 10, 11 to 14; a second or two more, since the clock is moved by whole ones.
    assert!(matches!(result, Err(LayerError::TimedOut { after, .. }) if after <= 3 * SECOND), "{result:?}");
    assert!((14..=16).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_busy_coming_ready_is_cut_off_by_the_deadline() {
    let service = always(20 * SECOND).layer(NeverReadyAgain { has_failed: false });
    let (result, seconds) = ended(service.oneshot(0)).await;
    assert_eq!(result, Err(LayerError::Failed(Down)));
    assert!((20..=22).contains(&seconds), "{seconds}");
}
