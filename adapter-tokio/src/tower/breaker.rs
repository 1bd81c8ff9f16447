//! The breaker as a layer: while the upstream is ill, calls fail at once.
//!
//! `poll_ready` reserves nothing. A half-open breaker has few probes to give; one that lay in a service that is kept
//! ready would be lost to all others until its lease ends. So a call asks when it is made. While the breaker is open
//! the service says *ready* without asking the inner one, so that its calls fail at once, even if the inner one can no
//! longer come ready. The breaker's state at `poll_ready` does not bind the call.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use steadfast_core::breaker::Health;
use steadfast_core::gate::Blocked;
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::classify::{AnyError, Classify, TIMED_OUT};
use super::error::LayerError;
use super::gate::poll_timeout;
use super::is_ready;
use crate::{Breaker, OwnedPermit, Refused};

/// Keeps calls off an upstream that is ill, by a [`Breaker`]. All services of the layer and their clones share the
/// breaker, with everybody else who holds a clone of it.
///
/// While it is open, or half-open with its probes out, calls fail with [`LayerError::Refused`]. To have them wait
/// instead, use a [`GateLayer`](super::GateLayer) whose policy has a breaker and nothing else: it keeps a line.
///
/// ```
/// use std::time::Duration;
///
/// use steadfast_core::breaker::BreakerPolicy;
/// use steadfast_tokio::Breaker;
/// use steadfast_tokio::tower::{BreakerLayer, LayerError};
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer = BreakerLayer::new(Breaker::new(BreakerPolicy::consecutive(2)?)).with_timeout(Duration::from_secs(10));
/// let down = service_fn(async |_: ()| Err::<(), _>(std::io::Error::other("down")));
/// let mut service = ServiceBuilder::new().layer(layer).service(down);
/// for _ in 0..2 {
///     assert!(matches!(service.ready().await?.call(()).await, Err(LayerError::Failed(_))));
/// }
/// assert!(matches!(service.ready().await?.call(()).await, Err(LayerError::Refused(_)))); // not called any more
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct BreakerLayer<C = AnyError> {
    breaker: Breaker,
    timeout: Option<Duration>,
    classify: C,
}

impl BreakerLayer {
    /// A layer with this breaker; every error counts as a failure, and there is no time-out.
    #[must_use]
    pub const fn new(breaker: Breaker) -> Self {
        Self { breaker, timeout: None, classify: AnyError }
    }
}

impl<C> BreakerLayer<C> {
    /// Sets a time-out: a call without an answer for this long is dropped, counts as a failure, and gives
    /// [`LayerError::TimedOut`]. The time begins when the call is first polled. Default: none.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how results are classified. If a result is a failure, its [class](steadfast_core::retry::Class::health)
    /// counts. Default: [`AnyError`].
    #[must_use]
    pub fn classify<D>(self, classify: D) -> BreakerLayer<D> {
        BreakerLayer { breaker: self.breaker, timeout: self.timeout, classify }
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = BreakerService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        BreakerService { inner, layer: self.clone(), refuses: false }
    }
}

/// A service behind a [`Breaker`]. Made by [`BreakerLayer`].
#[derive(Debug)]
pub struct BreakerService<S, C = AnyError> {
    inner: S,
    layer: BreakerLayer<C>,
    /// It said *ready* without having asked the inner service.
    refuses: bool,
}

impl<S: Clone, C: Clone> Clone for BreakerService<S, C> {
    fn clone(&self) -> Self {
        self.layer.layer(self.inner.clone())
    }
}

impl<S, C, Req> Service<Req> for BreakerService<S, C>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = LayerError<S::Error>;
    type Future = BreakerFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.layer.breaker.check().is_err() {
            self.refuses = true;
            return Poll::Ready(Ok(()));
        }
        match self.inner.poll_ready(cx) {
            // It was ready, if only to refuse, and by tower's contract it stays so.
            Poll::Pending if self.refuses => Poll::Ready(Ok(())),
            inner => {
                self.refuses = false;
                inner.map_err(LayerError::Failed)
            }
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let was_asked = !std::mem::take(&mut self.refuses);
        let permit = self.layer.breaker.acquire_owned().map_err(refused).and_then(|permit| {
            // That it was open then says nothing about now; but only an inner service that is ready is called.
            if was_asked || is_ready(&mut self.inner) { Ok(permit) } else { Err(refused(Duration::ZERO)) }
        });
        let (call, permit, refused) = match permit {
            Ok(permit) => (Some(self.inner.call(request)), Some(permit), None),
            Err(refused) => (None, None, Some(refused)),
        };
        let BreakerLayer { timeout, classify, .. } = &self.layer;
        BreakerFuture { call, permit, refused, timeout: *timeout, sleep: None, classify: classify.clone() }
    }
}

/// What time does not end, only an operator can.
fn refused(retry_in: Duration) -> Refused {
    Refused::new(if retry_in == Duration::MAX { Blocked::Isolated } else { Blocked::Open }, retry_in)
}

pin_project! {
    /// A call through a breaker. If it is dropped, its permit is released and no result is recorded.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct BreakerFuture<F, C = AnyError> {
        #[pin]
        call: Option<F>,
        permit: Option<OwnedPermit>,
        refused: Option<Refused>,
        timeout: Option<Duration>,
        sleep: Option<Pin<Box<Sleep>>>,
        classify: C,
    }
}

impl<F, C, Res, E> Future for BreakerFuture<F, C>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
{
    type Output = Result<Res, LayerError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(refused) = this.refused.take() {
            return Poll::Ready(Err(LayerError::Refused(refused)));
        }
        let call = this.call.as_mut().as_pin_mut().expect("polled after its end");
        let (failure, result) = match call.poll(cx) {
            Poll::Ready(result) => (this.classify.classify(&result), result.map_err(LayerError::Failed)),
            Poll::Pending => {
                let after = ready!(poll_timeout(*this.timeout, this.sleep, cx));
                (Some(TIMED_OUT), Err(LayerError::TimedOut { after }))
            }
        };
        this.call.set(None);
        if let Some(permit) = this.permit.take() {
            permit.settle(failure.map_or(Health::Healthy, |failure| failure.class.health()));
        }
        Poll::Ready(result)
    }
}
