//! How a request reaches the provider.

use std::future::Future;

use bytes::Bytes;
use http::Response;
use steadfast_driver::{Outgoing, SendError};

/// Carries one HTTP request and its whole answer. [`ReqwestTransport`](crate::ReqwestTransport) ships with the adapter;
/// implement this for any other client.
///
/// What an implementation must keep, because everything that is promised rests on it:
///
/// - one call, one request: no retry of its own, no redirect followed (clients carry API keys to other hosts);
/// - a request to another machine goes by `https` ([`steadfast_providers::is_secure`]);
/// - the *decoded* body is cut at [`Outgoing::body_limit`];
/// - a [`SendError`] says what is certain, from the phase that the request had reached. When in doubt,
///   [`SendError::ambiguous`]. If the head of an answer has come and its body is missing, [`SendError::after_head`] keeps
///   what it said of coming again.
///
/// The returned future is dropped when its answer is no longer waited for; it needs no time-out of its own. It is
/// usually polled on a task that carries one request after the other. Where requests are answered as soon as they are
/// polled, and now and then elsewhere, it is polled on the driver's task first: like any future, it must not block.
pub trait Transport: Send + Sync + 'static {
    /// Sends the request and reads the answer.
    fn send(&self, outgoing: Outgoing) -> impl Future<Output = Result<Response<Bytes>, SendError>> + Send;
}
