//! Calls that are no jobs, in virtual time: nobody sleeps.
//!
//! - [`laws`]: properties over random policies and random trouble; awaited and blocking calls do the same.
//! - [`handles`]: behind a breaker, a budget and a limiter that calls share.
//! - [`peers`]: what other libraries got wrong.
//! - [`threads`]: which calls may go to another thread.

mod handles;
mod laws;
mod peers;
mod threads;

use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::retry::RetryPolicy;

const SECOND: Duration = Duration::from_secs(1);

fn fixed(span: Duration) -> BackoffPolicy {
    BackoffPolicy::new(Growth::Fixed(span), span, Jitter::None).unwrap()
}

/// So many attempts, this deadline, 10 s for each attempt, this wait between them.
fn policy(attempts: u16, deadline: Duration, wait: Duration) -> RetryPolicy {
    RetryPolicy::new(attempts, deadline, 10 * SECOND, fixed(wait)).unwrap()
}
