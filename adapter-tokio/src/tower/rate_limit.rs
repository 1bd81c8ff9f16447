//! The rate limiter as a layer: a service is ready when its place has come.
//!
//! The place is taken in `poll_ready`, in the order of asking, so that a caller that is told *ready* need not wait any
//! more and nobody overtakes. If the service is dropped unused, what is left of the place is given back: nothing
//! leaks, since a place is a point in time and not one of a number.
//!
//! A place that is kept loses its meaning: ten services that became ready one after another, and are called together,
//! would leave together. So a place is good for [a second](steadfast_core::gate::Gate::RECHECK) after its time, and a
//! call that comes later asks for another; there may be none.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use steadfast_core::gate::{self, Blocked};
use tokio::time::Sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::error::LayerError;
use crate::gate::poll_new_sleep;
use crate::{OwnedPlace, RateLimiter, Refused};

/// Spaces calls by a [`RateLimiter`]. All services of the layer and their clones share the limiter, with everybody
/// else who holds a clone of it (tower's own `RateLimit` is not shared: each of its services counts for itself).
///
/// ```
/// use std::time::Duration;
///
/// use steadfast_core::rate_limit::RatePolicy;
/// use steadfast_tokio::RateLimiter;
/// use steadfast_tokio::tower::RateLimitLayer;
/// use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limiter = RateLimiter::new(RatePolicy::new(600, Duration::from_secs(60))?);
/// let double = service_fn(async |n: u32| Ok::<_, std::io::Error>(2 * n));
/// let mut service = ServiceBuilder::new().layer(RateLimitLayer::new(limiter)).service(double);
/// assert_eq!(service.ready().await?.call(21).await?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    limiter: RateLimiter,
}

impl RateLimitLayer {
    /// A layer with this limiter.
    #[must_use]
    pub const fn new(limiter: RateLimiter) -> Self {
        Self { limiter }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimitService { inner, limiter: self.limiter.clone(), place: None, sleep: None, is_ready: false }
    }
}

/// A service behind a [`RateLimiter`]. Made by [`RateLimitLayer`].
#[derive(Debug)]
pub struct RateLimitService<S> {
    inner: S,
    limiter: RateLimiter,
    place: Option<OwnedPlace>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The place's time has come.
    is_ready: bool,
}

impl<S: Clone> Clone for RateLimitService<S> {
    /// The clone has no place: it takes its own.
    fn clone(&self) -> Self {
        RateLimitLayer::new(self.limiter.clone()).layer(self.inner.clone())
    }
}

impl<S, Req> Service<Req> for RateLimitService<S>
where
    S: Service<Req>,
{
    type Response = S::Response;
    type Error = LayerError<S::Error>;
    type Future = RateLimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // First, so that no place passes while a connection comes about.
        ready!(self.inner.poll_ready(cx)).map_err(|error| {
            (self.place, self.is_ready) = (None, false);
            LayerError::Failed(error)
        })?;
        while !self.is_ready {
            let place = self.place.get_or_insert_with(|| self.limiter.reserve_owned());
            let wait = place.next_wait();
            self.is_ready = wait.is_zero();
            if !self.is_ready {
                ready!(poll_new_sleep(&mut self.sleep, wait, cx));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// # Panics
    /// If [`poll_ready`](Service::poll_ready) has not said that it is ready.
    fn call(&mut self, request: Req) -> Self::Future {
        let place = self.place.take().filter(|_| std::mem::take(&mut self.is_ready));
        let place = place.expect("service not ready: poll_ready must be called first, until it says so");
        let taken = if place.age() < gate::Gate::RECHECK {
            place.take();
            Ok(())
        } else {
            drop(place);
            self.limiter.try_acquire()
        };
        match taken {
            Ok(()) => RateLimitFuture { call: Some(self.inner.call(request)), refused: None },
            Err(limited) => {
                RateLimitFuture { call: None, refused: Some(Refused::new(Blocked::Rate, limited.retry_in)) }
            }
        }
    }
}

pin_project! {
    /// A call whose place has come.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct RateLimitFuture<F> {
        #[pin]
        call: Option<F>,
        refused: Option<Refused>,
    }
}

impl<F, Res, E> Future for RateLimitFuture<F>
where
    F: Future<Output = Result<Res, E>>,
{
    type Output = Result<Res, LayerError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.call.as_pin_mut() {
            Some(call) => call.poll(cx).map_err(LayerError::Failed),
            None => {
                let refused = this.refused.take().expect("polled after its end");
                Poll::Ready(Err(LayerError::Refused(refused)))
            }
        }
    }
}
