//! The gate as a layer: breaker, bulkhead and rate limits, asked together and taken all or none.
//!
//! ```text
//!             poll_ready                                              call
//!   Asking ──── the gate refuses ─────────────────────────→ Refused ─────→ asks again, both: a call, or its error
//!     │  └───── the inner service is ready, and our turn ─→ Kept ────────→ the inner service's call, with the permit
//!     └ pending: the inner service is not ready, or we are in line          dropped: the permit is given back
//! ```
//!
//! The inner service is asked first, each time, so that no permit grows old while a connection comes about. Only a
//! refusal does not wait for it. A refusal is not kept either: the call asks again.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use steadfast_core::Kind;
use steadfast_core::gate::{Request, Settled};
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::classify::{AnyError, Classify, TIMED_OUT, settled};
use super::error::LayerError;
use super::{is_ready, poll_sleep};
use crate::gate::{Kept, Turn};
use crate::{Gate, GatePermit, Refused};

/// Lets calls go as a [`Gate`] says. All services of the layer and their clones share the gate, with everybody else
/// who holds a clone of it.
///
/// A service is ready once it has the gate's leave for the next call. While the gate says wait (the bulkhead is full, a
/// rate limit is reached, the breaker is open) it is not ready, and stands in a fair line. If the gate's policy says
/// [refuse](steadfast_core::gate::WhenOpen::Refuse), it is ready while the breaker is open, and the call fails with
/// [`LayerError::Refused`]. See the [module](super) for what that promises.
///
/// Calls ask as first attempts. The gate's retry budget is for callers that know that theirs is a retry: give
/// [`RetryLayer`](super::RetryLayer) one.
///
/// ```
/// use std::time::Duration;
///
/// use steadfast_core::bulkhead::BulkheadPolicy;
/// use steadfast_core::gate::{GatePolicy, WhenOpen};
/// use steadfast_tokio::Gate;
/// use steadfast_tokio::tower::GateLayer;
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let policy = GatePolicy::default().with_bulkhead(Some(BulkheadPolicy::fixed(10)?)).with_when_open(WhenOpen::Refuse);
/// let gate = Gate::new(policy);
/// let layer = GateLayer::new(gate.clone()).with_timeout(Duration::from_secs(10));
/// let double = service_fn(async |n: u32| Ok::<_, std::io::Error>(2 * n));
/// let mut service = ServiceBuilder::new().layer(layer).service(double);
/// assert_eq!(service.ready().await?.call(21).await?, 42);
/// assert_eq!(gate.in_flight(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GateLayer<C = AnyError> {
    gate: Gate,
    kind: Kind,
    timeout: Option<Duration>,
    classify: C,
}

impl GateLayer {
    /// A layer with this gate, for requests of the kind [`Kind::Create`]; every error counts as a failure, and there
    /// is no time-out.
    #[must_use]
    pub const fn new(gate: Gate) -> Self {
        Self { gate, kind: Kind::Create, timeout: None, classify: AnyError }
    }
}

impl<C> GateLayer<C> {
    /// Sets the kind of the requests: for a gate whose policy has rate limits that count only some kinds.
    #[must_use]
    pub const fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets a time-out: a call without an answer for this long is dropped, counts as a failure, and gives
    /// [`LayerError::TimedOut`]. The time begins when the call is first polled; the wait for the gate is not in it.
    /// Default: none.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets how results are classified. Default: [`AnyError`].
    #[must_use]
    pub fn classify<D>(self, classify: D) -> GateLayer<D> {
        GateLayer { gate: self.gate, kind: self.kind, timeout: self.timeout, classify }
    }
}

impl<S, C: Clone> Layer<S> for GateLayer<C> {
    type Service = GateService<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        GateService { inner, layer: self.clone(), ready: Ready::asking(self) }
    }
}

/// A service behind a [`Gate`]. Made by [`GateLayer`].
#[derive(Debug)]
pub struct GateService<S, C = AnyError> {
    inner: S,
    layer: GateLayer<C>,
    ready: Ready,
}

enum Ready {
    Asking(Turn),
    Kept(Kept),
    Refused(Refused),
}

impl Ready {
    fn asking<C>(layer: &GateLayer<C>) -> Self {
        Self::Asking(Turn::new(layer.gate.clone(), Request::first(layer.kind)))
    }
}

impl<S: Clone, C: Clone> Clone for GateService<S, C> {
    /// The clone has no permit: it asks for its own.
    fn clone(&self) -> Self {
        self.layer.layer(self.inner.clone())
    }
}

impl<S, C, Req> Service<Req> for GateService<S, C>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = LayerError<S::Error>;
    type Future = GateFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let request = Request::first(self.layer.kind);
        let turn = match &mut self.ready {
            // By tower's contract it stays ready, if only to refuse, until it is called.
            Ready::Refused(_) => return Poll::Ready(Ok(())),
            Ready::Kept(_) => {
                let inner = ready!(self.inner.poll_ready(cx));
                return Poll::Ready(inner.map_err(|error| {
                    self.ready = Ready::asking(&self.layer);
                    LayerError::Failed(error)
                }));
            }
            Ready::Asking(turn) => turn,
        };
        if let Some(refused) = self.layer.gate.refuses(request) {
            self.ready = Ready::Refused(refused);
            return Poll::Ready(Ok(()));
        }
        ready!(self.inner.poll_ready(cx)).map_err(LayerError::Failed)?;
        self.ready = match ready!(turn.poll(cx)) {
            Ok(permit) => Ready::Kept(Kept::new(permit, request)),
            Err(refused) => Ready::Refused(refused),
        };
        Poll::Ready(Ok(()))
    }

    /// # Panics
    /// If [`poll_ready`](Service::poll_ready) has not said that it is ready.
    fn call(&mut self, request: Req) -> Self::Future {
        let ready = std::mem::replace(&mut self.ready, Ready::asking(&self.layer));
        let permit = match ready {
            Ready::Kept(kept) => kept.claim(),
            Ready::Refused(refused) => self.ask_again(refused),
            Ready::Asking(_) => panic!("service not ready: poll_ready must be called first, until it says so"),
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(refused) => return GateFuture::refused(refused, self.layer.classify.clone()),
        };
        GateFuture {
            call: Some(self.inner.call(request)),
            permit: Some(permit),
            refused: None,
            timeout: self.layer.timeout,
            sleep: None,
            classify: self.layer.classify.clone(),
        }
    }
}

impl<S, C> GateService<S, C> {
    /// A refusal at that time says nothing about now; but only an inner service that is ready is called.
    fn ask_again<Req>(&mut self, refused: Refused) -> Result<GatePermit, Refused>
    where
        S: Service<Req>,
    {
        let permit = self.layer.gate.try_acquire(Request::first(self.layer.kind))?;
        if is_ready(&mut self.inner) {
            return Ok(permit);
        }
        permit.settle(Settled::Unsent);
        Err(Refused { retry_in: Duration::ZERO, ..refused })
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Asking(_) => "Asking",
            Self::Kept(_) => "Kept",
            Self::Refused(_) => "Refused",
        })
    }
}

pin_project! {
    /// A call through a gate. If it is dropped, its permit is released and no result is recorded.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct GateFuture<F, C = AnyError> {
        #[pin]
        call: Option<F>,
        permit: Option<GatePermit>,
        refused: Option<Refused>,
        timeout: Option<Duration>,
        sleep: Option<Pin<Box<Sleep>>>,
        classify: C,
    }
}

impl<F, C> GateFuture<F, C> {
    fn refused(refused: Refused, classify: C) -> Self {
        Self { call: None, permit: None, refused: Some(refused), timeout: None, sleep: None, classify }
    }
}

impl<F, C, Res, E> Future for GateFuture<F, C>
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
        let result = match call.poll(cx) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                let after = ready!(poll_timeout(*this.timeout, this.sleep, cx));
                // Dropped before others take its place.
                this.call.set(None);
                settle(this.permit, Settled::Failed(TIMED_OUT));
                return Poll::Ready(Err(LayerError::TimedOut { after }));
            }
        };
        let failure = this.classify.classify(&result);
        this.call.set(None);
        settle(this.permit, settled(failure));
        Poll::Ready(result.map_err(LayerError::Failed))
    }
}

fn settle(permit: &mut Option<GatePermit>, how: Settled) {
    if let Some(permit) = permit.take() {
        permit.settle(how);
    }
}

/// Armed only once there is something to wait for.
pub(super) fn poll_timeout(
    timeout: Option<Duration>,
    sleep: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<Duration> {
    let Some(timeout) = timeout else { return Poll::Pending };
    let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
    poll_sleep(sleep.as_mut(), cx).map(|()| timeout)
}
