//! How a request reaches the provider.

use bytes::Bytes;
use http::Response;
use steadfast_driver::{Outgoing, SendError};

/// Carries one HTTP request and its whole answer. [`UreqTransport`](crate::UreqTransport) ships with the adapter;
/// implement this for any other client.
///
/// What an implementation must keep, because everything that is promised rests on it:
///
/// - one call, one request: no retry of its own, no redirect followed (clients carry API keys to other hosts);
/// - a request to another machine goes by `https` ([`steadfast_providers::is_secure`]);
/// - the *decoded* body is cut at [`Outgoing::body_limit`];
/// - it returns when [`Outgoing::timeout`] has passed, or soon after: nobody can cut it off, and its job's next request
///   waits for it;
/// - a [`SendError`] says what is certain, from the phase that the request had reached. When in doubt,
///   [`SendError::ambiguous`]. If the head of an answer has come and its body is missing, [`SendError::after_head`] keeps
///   what it said of coming again.
pub trait Transport: Send + Sync + 'static {
    /// Sends the request and reads the answer. Blocks.
    ///
    /// # Errors
    /// There is no complete answer.
    fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError>;
}
