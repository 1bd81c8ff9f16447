//! Rate limits that several clients share: those of an API key, over all of its products.
//!
//! Each client has a gate of its own, and so a breaker of its own: a product in trouble holds no other back. Limits
//! that count per key cannot live there. They live in the transport that all the clients share, a [`PacedTransport`],
//! where every request takes its place in all limits at once, in the order of asking.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use steadfast_core::rate_limit::{RateLimiter, RatePolicy, try_acquire_all};
use steadfast_driver::{Outgoing, SendError, SharedClock};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::clock;
use crate::transport::Transport;

/// Any transport, behind limits that its clones share: give each client a clone.
///
/// A request waits for its turn for at most half of its own time-out. If that is not enough, it is certainly not sent,
/// and the client's gate holds its next ones back until there is a place ([`SendError::held_back`]). So give each
/// client's gate the limits too, with [`GatePolicy`]: then this happens seldom, and only because of what the other
/// clients send. They are this process's limits: where several share the key, each takes its
/// [part](RatePolicy::divided_among) here, and its gates know
/// [how many](steadfast_core::gate::GatePolicy::with_replicas) they are.
///
/// ```
/// use steadfast_providers::BaseUrl;
/// use steadfast_providers::deepvue::{Credentials, Deepvue, Plan};
/// use steadfast_tokio::{Client, PacedTransport, ReqwestTransport};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let transport = PacedTransport::new(ReqwestTransport::new()?, Plan::Growth.rates()?);
/// let credentials = Credentials::new("YOUR_ACCESS_TOKEN", "YOUR_CLIENT_SECRET")?;
/// for product in ["driving-license", "pan"] {
///     let provider = Deepvue::new(BaseUrl::parse(Deepvue::PRODUCTION)?, product, credentials.clone())?;
///     let client = Client::builder(provider.with_plan(Plan::Growth)?, transport.clone()).start().await?;
///     // A breaker of its own, and the limits of all.
/// #   drop(client);
/// }
/// # Ok(())
/// # }
/// ```
///
/// [`GatePolicy`]: steadfast_core::gate::GatePolicy
#[derive(Clone)]
pub struct PacedTransport<T> {
    inner: T,
    limits: Arc<Limits>,
}

struct Limits {
    rates: Box<[RatePolicy]>,
    clock: SharedClock,
    /// Fair: the first to ask goes first, and the others wait for it.
    turn: Mutex<Box<[RateLimiter]>>,
}

impl<T: Transport> PacedTransport<T> {
    /// A transport that sends by `inner`, within all these limits.
    #[must_use]
    pub fn new(inner: T, rates: impl IntoIterator<Item = RatePolicy>) -> Self {
        let rates: Box<[RatePolicy]> = rates.into_iter().collect();
        let turn = Mutex::new(vec![RateLimiter::new(); rates.len()].into());
        Self { inner, limits: Arc::new(Limits { rates, clock: clock::shared(), turn }) }
    }
}

impl Limits {
    /// Waits for a place in every limit; if that would take longer than `patience`, says how long. If it is dropped,
    /// it has taken none.
    async fn take_turn(&self, patience: Duration) -> Result<(), Duration> {
        let until = Instant::now() + patience;
        let Ok(mut limiters) = tokio::time::timeout_at(until, self.turn.lock()).await else { return Err(patience) };
        loop {
            let now = self.clock.now();
            let Err(at) = try_acquire_all(&self.rates, &mut limiters, now) else { return Ok(()) };
            let wait = at.saturating_since(now);
            if Instant::now() + wait > until {
                return Err(wait);
            }
            tokio::time::sleep(wait).await;
        }
    }
}

impl<T: Transport> Transport for PacedTransport<T> {
    async fn send(&self, mut outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let began = Instant::now();
        self.limits.take_turn(outgoing.timeout / 2).await.map_err(SendError::held_back)?;
        // Waiting in line must not make the whole request take longer.
        outgoing.timeout = outgoing.timeout.saturating_sub(began.elapsed());
        self.inner.send(outgoing).await
    }
}

impl<T> fmt::Debug for PacedTransport<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacedTransport").field("rates", &self.limits.rates).finish_non_exhaustive()
    }
}
