//! Whatever is polled, called and dropped, in whatever order: nothing leaks, no limit is passed, and the breaker can
//! close (I8, I10, I17).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use steadfast_core::breaker::BreakerState;
use steadfast_core::gate::{Kinds, RateLimit, WhenOpen};
use steadfast_tokio::tower::{
    AnyError, BreakerLayer, BreakerService, GateLayer, GateService, RateLimitLayer, RateLimitService,
};
use steadfast_tokio::{Breaker, Gate, RateLimiter};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt};

use crate::support::{Down, MILLI, SECOND, breaker, bulkhead, rate};

const SERVICES: usize = 5;
const BULKHEAD: u32 = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    PollReady(usize),
    Call(usize),
    PollCall(usize),
    /// The answer to a call, which shows at its next poll.
    Answer(usize, bool),
    DropCall(usize),
    /// The service is dropped for a clone of itself.
    Clone(usize),
    Advance(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let service = 0..SERVICES;
    prop_oneof![
        4 => service.clone().prop_map(Step::PollReady),
        4 => service.clone().prop_map(Step::Call),
        3 => service.clone().prop_map(Step::PollCall),
        3 => (service.clone(), any::<bool>()).prop_map(|(service, good)| Step::Answer(service, good)),
        1 => service.clone().prop_map(Step::DropCall),
        1 => service.prop_map(Step::Clone),
        3 => prop_oneof![Just(1_u64), Just(50), Just(100), Just(1_000), Just(11_000)].prop_map(Step::Advance),
    ]
    .boxed()
}

/// An upstream whose answers are given by hand. It writes down when it is called.
#[derive(Clone, Default)]
struct ByHand {
    calls: Arc<Mutex<Vec<Instant>>>,
}

type Slot = Arc<Mutex<Option<Result<(), Down>>>>;

impl Service<Slot> for ByHand {
    type Response = ();
    type Error = Down;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Down>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, slot: Slot) -> Answer {
        self.calls.lock().unwrap().push(Instant::now());
        Answer(slot)
    }
}

struct Answer(Slot);

impl Future for Answer {
    type Output = Result<(), Down>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.lock().unwrap().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Runs the steps over one kind of service; `check` looks after each. Everything is dropped at the end.
async fn run<S>(fresh: &S, steps: &[Step], mut check: impl FnMut(usize))
where
    S: Service<Slot> + Clone,
    S::Future: Unpin,
    S::Error: std::fmt::Debug,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut services: Vec<(S, bool)> = (0..SERVICES).map(|_| (fresh.clone(), false)).collect();
    let mut calls: Vec<Option<(S::Future, Slot)>> = (0..SERVICES).map(|_| None).collect();
    for step in steps {
        match *step {
            Step::PollReady(at) => {
                let (service, is_ready) = &mut services[at];
                let ready = service.poll_ready(&mut cx);
                assert!(!*is_ready || ready.is_ready(), "ready stays ready");
                *is_ready = ready.is_ready();
            }
            Step::Call(at) => {
                let (service, is_ready) = &mut services[at];
                if std::mem::take(is_ready) {
                    let slot = Slot::default();
                    calls[at] = Some((service.call(Arc::clone(&slot)), slot));
                }
            }
            Step::PollCall(at) => {
                if let Some((call, _)) = &mut calls[at]
                    && Pin::new(call).poll(&mut cx).is_ready()
                {
                    calls[at] = None;
                }
            }
            Step::Answer(at, is_good) => {
                if let Some((_, slot)) = &calls[at] {
                    *slot.lock().unwrap() = Some(if is_good { Ok(()) } else { Err(Down) });
                }
            }
            Step::DropCall(at) => calls[at] = None,
            Step::Clone(at) => services[at] = (services[at].0.clone(), false),
            Step::Advance(millis) => advance(Duration::from_millis(millis)).await,
        }
        check(calls.iter().flatten().count() + services.iter().filter(|(_, is_ready)| *is_ready).count());
    }
}

fn in_virtual_time(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test);
}

/// Good calls close the breaker again, within bounded time (I9).
async fn recovers<S: Service<Slot> + Clone>(fresh: &S, state: impl Fn() -> BreakerState) {
    for _ in 0..4 {
        let good = Arc::new(Mutex::new(Some(Ok(()))));
        let served = tokio::time::timeout(30 * SECOND, fresh.clone().oneshot(good)).await;
        assert!(served.is_ok(), "it has wedged");
        if state() != BreakerState::Closed {
            advance(11 * SECOND).await;
        }
    }
    assert_eq!(state(), BreakerState::Closed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn i8_i17_a_gate_is_empty_in_the_end_and_its_breaker_can_close(
        steps in prop::collection::vec(step(), 0..120), refuse: bool, is_paced: bool,
    ) {
        in_virtual_time(async {
            let mut policy = bulkhead(BULKHEAD).with_breaker(Some(breaker()));
            if refuse {
                policy = policy.with_when_open(WhenOpen::Refuse);
            }
            if is_paced {
                policy = policy.with_rate_limit(RateLimit { kinds: Kinds::ALL, rate: rate() });
            }
            let gate = Gate::new(policy);
            let fresh: GateService<ByHand, AnyError> = GateLayer::new(gate.clone()).layer(ByHand::default());
            run(&fresh, &steps, |held| {
                assert!(gate.in_flight() <= BULKHEAD && gate.in_flight() as usize <= held, "{gate:?}, {held} held");
            })
            .await;
            assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
            recovers(&fresh, || gate.breaker_state()).await;
            assert_eq!((gate.in_flight(), gate.waiting()), (0, 0));
        });
    }

    #[test]
    fn i8_i9_i17_a_breaker_can_close_in_the_end(steps in prop::collection::vec(step(), 0..120)) {
        in_virtual_time(async {
            let shared = Breaker::new(breaker());
            let fresh: BreakerService<ByHand> = BreakerLayer::new(shared.clone()).layer(ByHand::default());
            run(&fresh, &steps, |_| {}).await;
            recovers(&fresh, || shared.state()).await;
        });
    }

    /// What is kept for up to a second may leave that much closer together, and no more.
    #[test]
    fn i10_no_span_sees_more_calls_than_the_limit(steps in prop::collection::vec(step(), 0..200), by_gate: bool) {
        in_virtual_time(async {
            let upstream = ByHand::default();
            if by_gate {
                let gate = Gate::new(crate::support::paced());
                run(&GateLayer::new(gate).layer(upstream.clone()), &steps, |_| {}).await;
            } else {
                let fresh: RateLimitService<ByHand> =
                    RateLimitLayer::new(RateLimiter::new(rate())).layer(upstream.clone());
                run(&fresh, &steps, |_| {}).await;
            }
            let calls = upstream.calls.lock().unwrap();
            for (from, start) in calls.iter().enumerate() {
                for (to, end) in calls.iter().enumerate().skip(from) {
                    let span = end.duration_since(*start) + SECOND + MILLI;
                    let most = span.as_millis() / 100 + 1;
                    assert!((to - from + 1) as u128 <= most, "{} in {span:?}", to - from + 1);
                }
            }
        });
    }
}
