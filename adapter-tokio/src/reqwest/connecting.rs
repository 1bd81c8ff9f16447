//! How long connecting may take for a create: no longer than half of the time left to the request that waits for the
//! connection. And what a failure costs: no more than that request.
//!
//! If no connection came about, it is certain that nothing ran; if no answer came, it is not. If the request's own
//! time ends first, nobody can tell the two apart. So one bound for all connections is not enough: a policy may give
//! an attempt less, and the last one before a deadline has only what is left.
//!
//! Requests that may be repeated do not need this, so their connections do without: reqwest clones a connector with
//! layers for each request, whether it connects or not.

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
    /// The bound of the request that is being polled: hyper begins its connection there.
    static CONNECTED_BY: Instant;
}

/// Sends the request, which has this much time in all if that matters: half of it is for its connection.
pub(super) async fn within<F: Future>(time: Option<Duration>, request: F) -> F::Output {
    match time.and_then(|time| Instant::now().checked_add(time / 2)) {
        Some(by) => CONNECTED_BY.scope(by, request).await,
        None => request.await,
    }
}

/// Whatever fails on the way to a connection, no request has left. So it is an error that says so, and must not end
/// the request in another way.
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
