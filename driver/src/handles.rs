//! Breakers, rate limiters and retry budgets to put around any call, shared by tasks and threads.
//!
//! The machines are the core's. This adds how threads share one, and a clock that they read, since a call that is not
//! a job has no driver to tell the time. Nothing here waits: a [`RateLimiter`] says how long, and an adapter sleeps.

mod breaker;
mod clock;
mod given_up;
mod lease;
mod rate_limiter;
mod retry_budget;
mod tally;

pub use self::breaker::{Breaker, CallError, OwnedPermit, Permit};
pub use self::clock::SharedClock;
pub use self::lease::{Lease, Leases};
pub use self::rate_limiter::{Limited, OwnedPlace, Place, RateLimiter};
pub use self::retry_budget::{BudgetSpent, RetryBudget};

/// Has its cache lines to itself (two, since processors fetch them in pairs): data beside a word that threads write to
/// is as slow to read as the word.
#[repr(align(128))]
struct Alone<T>(T);
