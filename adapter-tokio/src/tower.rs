//! Layers for [tower] services: hyper clients, tonic channels, servers, anything that is a [`Service`].
//!
//! | layer | what it does | what `poll_ready` says | what `call` may say |
//! | --- | --- | --- | --- |
//! | [`RetryLayer`] | sends again what failed and may be sent again | what the inner service says | what the last attempt came to |
//! | [`GateLayer`] | breaker, bulkhead and rate limits as one | not ready while one has to wait | [`Refused`](LayerError::Refused), if told to refuse |
//! | [`BreakerLayer`] | keeps calls off an upstream that is ill | ready, so that the call fails at once | [`Refused`](LayerError::Refused) |
//! | [`RateLimitLayer`] | spaces calls | not ready before there is a place | nothing of its own, as a rule |
//!
//! # The order of a stack
//!
//! ```text
//!   RetryLayer    outermost: every attempt passes all below, and a pause holds no place in them
//!     GateLayer   sees each attempt, times it out itself, so that its breaker learns of it
//!       client
//! ```
//!
//! A time-out outside a breaker only drops the call's future, and a dropped call says nothing about the upstream: an
//! upstream that never answers would never open the breaker. So the time-out belongs inside:
//! [`GateLayer::with_timeout`], [`BreakerLayer::with_timeout`], or a layer further in.
//!
//! # What `poll_ready` promises
//!
//! - *Ready* means that the next call goes, and what it needs (a place in the bulkhead, in the rate limits, a half-open
//!   breaker's probe) is taken already. So backpressure works: `LoadShed`, `Buffer` and balancers see a service that is
//!   not ready.
//! - A service that is dropped unused gives back what was taken. If a call is dropped, even before it is polled, its
//!   permit is released and no result is recorded; its place in the rate limits is spent, since the inner service has
//!   been called. A clone has nothing of all this and asks for itself.
//! - A service that was ready and is not called for [a second](steadfast_core::gate::Gate::RECHECK) (balancers keep
//!   such) loses what it took as soon as others need it, and asks again when it is called: only then can a call of a
//!   ready [`GateLayer`] or [`RateLimitLayer`] be refused. One that was ready only to refuse asks again as well, and
//!   goes if nothing is in its way any more.
//! - `poll_ready` never gives an error of ours: by tower's contract that would mean that the service is dead, and
//!   `Buffer` and balancers would throw it away, though an open breaker closes again.
//! - The inner service's readiness is passed on, its errors too, and it is called only if it was ready.
//!
//! All waits are fair: first come, first served, as long as nobody gives up. A place in line that is given up goes to the
//! next that comes; and after a call through a [`Gate`](crate::Gate) that was given up by somebody who had waited, the
//! last in line goes before the first, never twice in a row. Else, under overload, all would leave the line with too
//! little of their patience left for the call.
//!
//! # Errors
//!
//! [`LayerError`], with the inner service's error inside. What it says about whether the request was executed
//! ([`LayerError::failure`]) holds for all attempts together: after one that may have been, a refusal proves nothing.
//! Where a stack wants `Box<dyn Error>` throughout, use `.map_err(LayerError::boxed)`.
//!
//! ```
//! use std::time::Duration;
//!
//! use steadfast_core::backoff::BackoffPolicy;
//! use steadfast_core::gate::GatePolicy;
//! use steadfast_core::retry::RetryPolicy;
//! use steadfast_tokio::Gate;
//! use steadfast_tokio::tower::{GateLayer, HttpRequests, HttpStatus, RetryLayer};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = service_fn(async |_: http::Request<String>| Ok::<_, std::io::Error>(http::Response::new("hello")));
//!
//! let policy = RetryPolicy::new(3, Duration::from_secs(30), Duration::from_secs(5), BackoffPolicy::default())?;
//! let gate = GateLayer::new(Gate::new(GatePolicy::default()))
//!     .with_timeout(policy.attempt_timeout())
//!     .classify(HttpStatus::new());
//! let retry = RetryLayer::new(policy).classify(HttpStatus::new()).repeat(HttpRequests::new());
//! let mut service = ServiceBuilder::new().layer(retry).layer(gate).service(client);
//!
//! let request = http::Request::get("https://api.example.com/rates").body(String::new())?;
//! assert_eq!(service.ready().await?.call(request).await?.into_body(), "hello");
//! # Ok(())
//! # }
//! ```
//!
//! [tower]: https://docs.rs/tower

mod breaker;
mod classify;
mod error;
mod gate;
mod rate_limit;
mod repeat;
mod retry;

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::task::coop::unconstrained;
use tokio::time::Sleep;
use tower_service::Service;

pub use self::breaker::{BreakerFuture, BreakerLayer, BreakerService};
pub use self::classify::{AnyError, Classify, HttpStatus};
pub use self::error::LayerError;
pub use self::gate::{GateFuture, GateLayer, GateService};
pub use self::rate_limit::{RateLimitFuture, RateLimitLayer, RateLimitService};
pub use self::repeat::{Again, HttpRequests, IfNotExecuted, Repeat};
pub use self::retry::{RetryFuture, RetryLayer, RetryService};

/// Whether its time has come, whatever is left of tokio's budget: an inner service that is busy in each turn uses up
/// the budget, and a timer that needs some would never cut it off. So the timer may come second, and an answer that
/// comes together with the time-out counts.
fn poll_sleep(sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    pin!(unconstrained(sleep)).poll(cx)
}

/// Whether it can be called now: asked in a call, where nobody waits. If it is not ready, the next `poll_ready` asks
/// again, with its waker.
fn is_ready<S: Service<Req>, Req>(service: &mut S) -> bool {
    matches!(service.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())))
}
