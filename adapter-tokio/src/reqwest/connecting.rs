//! How long a create's connection may take to come about: no longer than half of what is left to the request that waits for it. And what it may cost: no more
//! than itself.
//!
//! That no connection came about is certain, and nothing ran; that no answer came is not. Where the request's own time is over first, nobody can tell the one from
//! the other. So a bound for all connections is not enough: a policy may give an attempt less, and the last one before a deadline has what is left.
//!
//! Of what may be repeated it is all the same, so its connections do without: reqwest clones a connector with layers for each request, whether it connects or not.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use steadfast_driver::caught;
use tokio::time::{Instant, timeout_at};
use tower_layer::Layer;
use tower_service::Service;

type BoxError = Box<dyn Error + Send + Sync>;

tokio::task_local! {
    /// Of the request that is polled: hyper begins its connection where it is.
    static CONNECTED_BY: Instant;
}

/// The request, with so much time for its answer if that matters.
pub(super) async fn within<F: Future>(time: Option<Duration>, request: F) -> F::Output {
    match time.and_then(|time| Instant::now().checked_add(time / 2)) {
        Some(by) => CONNECTED_BY.scope(by, request).await,
        None => request.await,
    }
}

/// Whatever becomes of a step on the way to a connection, no request has left: so it is an error like others that say so, and not the request's own end.
const PANICKED: &str = "a panic on the way to a connection: no thread could be started to look up the host, or a resolver or connector has a bug; \
                        what the panic said tells which";

/// Bounds connections by what their requests have, but those of requests that are not sent by [`within`].
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectInTime;

impl<S> Layer<S> for ConnectInTime {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded(inner)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Bounded<S>(S);

impl<S, To> Service<To> for Bounded<S>
where
    S: Service<To, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: To) -> Self::Future {
        let connecting = caught(|| self.0.call(to));
        let by = CONNECTED_BY.try_with(|by| *by).ok();
        Box::pin(async move {
            let Some(connecting) = connecting else { return Err(PANICKED.into()) };
            let mut connecting = pin!(connecting);
            let connected = poll_fn(|context| {
                caught(|| connecting.as_mut().poll(context)).unwrap_or_else(|| Poll::Ready(Err(PANICKED.into())))
            });
            let Some(by) = by else { return connected.await };
            timeout_at(by, connected).await.unwrap_or_else(|_| Err("no connection came about in time".into()))
        })
    }
}
