//! An upstream that is strict about tower's contract, and policies that open, close and fill quickly.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, Probes};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::RetryPolicy;
use tokio::time::Instant;
use tower::Service;

pub(crate) const MILLI: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("down")]
pub(crate) struct Down;

pub(crate) type Answer = Result<u32, Down>;

/// What becomes of a call: an answer after a while, or none.
pub(crate) type Script = Box<dyn FnMut(u32) -> (Duration, Option<Answer>) + Send>;

/// An upstream. Its services say that they are ready while it is, and each panics if it is called without having said
/// so.
pub(crate) struct Upstream(Arc<Mutex<State>>);

struct State {
    script: Script,
    ready: Poll<Answer>,
    wakers: Vec<Waker>,
    /// When each call began.
    calls: Vec<Instant>,
    in_air: u32,
    most_in_air: u32,
}

impl Upstream {
    pub(crate) fn new(script: impl FnMut(u32) -> (Duration, Option<Answer>) + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(State {
            script: Box::new(script),
            ready: Poll::Ready(Ok(0)),
            wakers: Vec::new(),
            calls: Vec::new(),
            in_air: 0,
            most_in_air: 0,
        })))
    }

    /// Each call takes so long and ends well.
    pub(crate) fn healthy(span: Duration) -> Self {
        Self::new(move |n| (span, Some(Ok(n))))
    }

    /// Each call fails at once.
    pub(crate) fn failing() -> Self {
        Self::new(|_| (Duration::ZERO, Some(Err(Down))))
    }

    /// No call is ever answered.
    pub(crate) fn silent() -> Self {
        Self::new(|_| (Duration::ZERO, None))
    }

    pub(crate) fn service(&self) -> Strict {
        Strict { upstream: Self(Arc::clone(&self.0)), is_ready: false }
    }

    pub(crate) fn set_ready(&self, ready: Poll<Answer>) {
        self.state().ready = ready;
        let wakers = std::mem::take(&mut self.state().wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn calls(&self) -> usize {
        self.state().calls.len()
    }

    pub(crate) fn begun(&self) -> Vec<Instant> {
        self.state().calls.clone()
    }

    pub(crate) fn most_in_air(&self) -> u32 {
        self.state().most_in_air
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

pub(crate) struct Strict {
    upstream: Upstream,
    is_ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        self.upstream.service()
    }
}

impl Service<u32> for Strict {
    type Response = u32;
    type Error = Down;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Down>> {
        let mut state = self.upstream.state();
        let ready = state.ready;
        if ready.is_pending() {
            state.wakers.push(cx.waker().clone());
        }
        self.is_ready = ready.is_ready();
        ready.map_ok(drop)
    }

    fn call(&mut self, _: u32) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called without being ready");
        let mut state = self.upstream.state();
        let n = state.calls.len() as u32;
        state.calls.push(Instant::now());
        let (span, answer) = (state.script)(n);
        let upstream = Upstream(Arc::clone(&self.upstream.0));
        Box::pin(async move {
            let _in_air = InAir::enter(upstream);
            if !span.is_zero() {
                tokio::time::sleep(span).await;
            }
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }
}

struct InAir(Upstream);

impl InAir {
    fn enter(upstream: Upstream) -> Self {
        let mut state = upstream.state();
        state.in_air += 1;
        state.most_in_air = state.most_in_air.max(state.in_air);
        drop(state);
        Self(upstream)
    }
}

impl Drop for InAir {
    fn drop(&mut self) {
        self.0.state().in_air -= 1;
    }
}

/// Opens after two failures for ten seconds; one good probe, one at a time, closes it.
pub(crate) fn breaker() -> BreakerPolicy {
    let open = BackoffPolicy::new(Growth::Fixed(10 * SECOND), 10 * SECOND, Jitter::None).unwrap();
    let probes = Probes { at_once: 1, successes: 1, failures: 1, lease: 60 * SECOND };
    BreakerPolicy::consecutive(2).unwrap().with_open(open).unwrap().with_probes(probes).unwrap()
}

/// So many at once, and nothing else.
pub(crate) fn bulkhead(most: u32) -> GatePolicy {
    GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(most).unwrap()))
}

/// One each 100 ms, and nothing else.
pub(crate) fn paced() -> GatePolicy {
    GatePolicy::none().with_rate_limit(RateLimit { kinds: Kinds::ALL, rate: rate() })
}

pub(crate) fn rate() -> RatePolicy {
    RatePolicy::new(10, SECOND).unwrap()
}

/// So many attempts in a minute, ten seconds each, a second between them.
pub(crate) fn attempts(attempts: u16) -> RetryPolicy {
    RetryPolicy::new(attempts, 60 * SECOND, 10 * SECOND, pauses(SECOND)).unwrap()
}

pub(crate) fn pauses(pause: Duration) -> BackoffPolicy {
    BackoffPolicy::new(Growth::Fixed(pause), pause.max(MILLI), Jitter::None).unwrap()
}

/// Polls once whether it is ready, by a waker that does nothing.
pub(crate) fn poll_ready<S: Service<u32>>(service: &mut S) -> Poll<Result<(), S::Error>> {
    service.poll_ready(&mut Context::from_waker(Waker::noop()))
}

pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// tokio's timer wakes on the next millisecond.
#[track_caller]
pub(crate) fn assert_about(measured: Duration, expected: Duration) {
    assert!((expected..=expected + 5 * MILLI).contains(&measured), "{measured:?} instead of {expected:?}");
}
