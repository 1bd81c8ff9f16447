//! For the tokio adapter: the fake in process, for virtual time, and a transport that checks the protocol.
//!
//! Real sockets and a paused clock do not go together: the clock runs ahead as soon as every task waits for a socket.
//! [`InProcess`] gives the same provider, with the same faults, without sockets; every delay is tokio's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use http::header::DATE;
use http::{HeaderValue, Response};
use steadfast_core::operation::Attempt;
use steadfast_core::{Key, Timestamp};
use steadfast_tokio::{Outgoing, SendError, Transport};
use tokio::time::Instant;

use crate::brain::{Brain, Reply};
use crate::faults::Fault;
use crate::strict::StrictWire;

/// A fake provider as a transport. Clones share it.
#[derive(Clone, Debug)]
pub struct InProcess {
    brain: Arc<Mutex<Brain>>,
    started: Instant,
    wall: Timestamp,
}

impl InProcess {
    /// Starts the provider now, by tokio's clock.
    #[must_use]
    pub fn new(provider: impl Into<Brain>) -> Self {
        let brain = Arc::new(Mutex::new(provider.into()));
        Self { brain, started: Instant::now(), wall: SystemTime::now().into() }
    }

    /// The provider, to look at its ledger and its faults.
    pub fn brain(&self) -> MutexGuard<'_, Brain> {
        self.brain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for InProcess {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let now = self.wall.saturating_add(self.started.elapsed());
        let Reply { mut response, delay, fault } = self.brain().handle(&outgoing.request, now);
        tokio::time::sleep(delay).await;
        if fault == Some(Fault::Refuse) {
            return Err(SendError::not_sent());
        }
        if let Some(Fault::ResetBefore | Fault::LoseAnswer | Fault::WrongLength) = fault {
            return Err(SendError::ambiguous());
        }
        // The provider's own clock, so that a Retry-After in the form of a date can be read.
        let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(now.as_nanos()));
        if let Ok(date) = HeaderValue::try_from(date) {
            response.headers_mut().insert(DATE, date);
        }
        Ok(response)
    }
}

/// Any transport, with every request reported to a [`StrictWire`].
#[derive(Clone, Debug)]
pub struct StrictTransport<T> {
    inner: T,
    wire: StrictWire,
}

impl<T: Transport> StrictTransport<T> {
    /// Reports what `inner` sends to `wire`.
    #[must_use]
    pub const fn new(inner: T, wire: StrictWire) -> Self {
        Self { inner, wire }
    }
}

impl<T: Transport> Transport for StrictTransport<T> {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let flight = Flight { wire: &self.wire, key: outgoing.key.clone(), attempt: outgoing.attempt };
        self.wire.sending(&flight.key, &flight.attempt);
        self.inner.send(outgoing).await
    }
}

/// A request in flight: it ends when it is answered or when its future is dropped.
struct Flight<'a> {
    wire: &'a StrictWire,
    key: Key,
    attempt: Attempt,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.wire.landed(&self.key, &self.attempt);
    }
}
