//! Asynchronous job APIs from threads, without a runtime: submitted once, polled well, never run twice.
//!
//! A [`Client`] takes jobs under keys of your own and carries each to its outcome through an unreliable provider, as
//! `steadfast-tokio` does: the same engine, builder, defaults, journal, webhooks and notices. The difference is that
//! here calls block.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use steadfast_blocking::{Client, UreqTransport};
//! use steadfast_core::{Key, Outcome};
//! use steadfast_providers::BaseUrl;
//! use steadfast_providers::deepvue::{Credentials, Deepvue};
//!
//! # fn example(token: String, secret: String) -> Result<(), Box<dyn std::error::Error>> {
//! let credentials = Credentials::new(token, secret)?;
//! let provider = Deepvue::new(BaseUrl::parse(Deepvue::PRODUCTION)?, "driving-license", credentials)?;
//! let client = Client::builder(provider, UreqTransport::new()).start()?;
//!
//! let payload = r#"{"dl_number": "DL1234567890", "dob": "1990-01-01", "consent": "Y", "reason": "KYC"}"#;
//! let finished = client.call(Key::new("order-42")?, payload)?;
//! match finished.outcome {
//!     Outcome::Completed(_) => println!("{}", String::from_utf8_lossy(finished.body())),
//!     other => println!("{}: {} ({:?})", other.name(), other.explain(), finished.reference),
//! }
//! let unfinished = client.shutdown(Duration::from_secs(30));
//! assert!(unfinished.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! The [driver](steadfast_driver::Driver) lies behind a lock, and the thread that holds the lock takes in what clients
//! want. One thread handles what time makes due; one more writes the journal, if there is one. Each request in the air
//! has a thread, which takes in the answer itself, does what follows, and may carry a next request. **A job that waits
//! has no thread**: ten thousand jobs need no more threads than there are requests in the air, and the gate's bulkhead
//! bounds those (see [`MOST_THREADS`] for a gate that has no bulkhead, or one that lets out more).
//!
//! A request that is given up cannot be cut off: its thread goes on until the request's own time-out. The job's next
//! request does not leave before that, and has what is then left of its own time. An answer that comes meanwhile still
//! counts for what it teaches. A request that no thread has taken yet has certainly not left: if it is given up, by
//! its time-out, a cancel or a shutdown, it counts as not sent. Once a thread has it, it may have been sent.
//!
//! **Dropping the last client stops it**: once no [`Client`] and no [`Handle`] is left, nobody watches the jobs any
//! more. The drop waits for what is being written, for [`LAST_DROP_WAITS`] at most. (On tokio a client without handles
//! goes on until its jobs have ended.) [`Client::shutdown`] waits for the jobs, and for the store as long as it takes:
//! end a program with it.
//!
//! **A `fork` leaves a client behind**, since threads do not come along: in the new process it has stopped, for whoever
//! uses it there. A daemon starts its client once it has detached, and a server that forks workers one in each.
//!
//! # Crashes and webhooks
//!
//! Without a store, a crash forgets the jobs under way. Give the builder one
//! ([`Builder::store`](steadfast_driver::Builder::store), `steadfast_store::SqliteStore`), and nothing is sent before
//! it is on disk; the next process goes on from there. `examples/journal.rs` shows this with a program that is killed.
//! Pass the webhooks that your HTTP server receives to [`Client::deliver`], and answer with the status that it
//! returns.
//!
//! # One machine alone
//!
//! A [`Breaker`], a [`RateLimiter`] and a [`RetryBudget`] to share between threads, for calls that are not jobs.
//!
//! # Any call
//!
//! [`retry`] repeats any call, [`poll_until`] asks until something is ready; with the policies of the engine, and
//! behind those handles if you give them. `examples/retry.rs` shows both.
//!
//! # Features
//!
//! - `ureq` (default): [`UreqTransport`], and [`ResponseExt`] for calls that are not jobs. Without it, implement
//!   [`Transport`] for the client that you use.
//! - `metrics`: counts and times for the recorder that your program installs. The module of that name lists them.
//! - `yaml`: [policies] from YAML files too; TOML and JSON are read in any case.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod calls;
mod client;
mod clock;
mod drive;
mod pool;
mod rate_limiter;
#[cfg(feature = "ureq")]
mod resolver;
mod revisions;
mod transport;
mod turns;
#[cfg(feature = "ureq")]
mod ureq;

#[cfg(feature = "metrics")]
pub use steadfast_driver::metrics;
pub use steadfast_driver::policies;
pub use steadfast_driver::{
    Accepted, AcceptingAnswer, AsyncTimer, Attempt, BlockingTimer, Breaker, BudgetSpent, Call, CallError, Claim,
    ClaimError, Classify, CorrelationHeader, CorrelationHeaderError, CorrelationId, Delivery, Durability, EveryError,
    FinalAnswer, Finished, HttpError, JobError, JobStatus, Lease, Leases, Limited, NotAccepted, Notify, Observation,
    Outgoing, OwnedPermit, OwnedPlace, Permit, Place, Policies, PollAnswer, PollError, PollState, Polled, Polls,
    RenewError, ResumeError, Retries, RetryBudget, RetryError, Retrying, Revision, RevisionError, SEAL_MARK, Seal,
    SealError, SendError, SharedClock, Silent, StartError, StatusError, StopReason, Stopped, SubmitError, Timer,
    TraceContext, TraceError, TraceParent, TraceState, Unfinished, UnknownJob, VirtualTimer, WebhookPolicy, When,
    http_failure, http_response,
};

pub use crate::calls::{Moment, PollUntil, Retry, SystemTimer, poll_until, retry};
pub use crate::client::{Client, Handle, LAST_DROP_WAITS};
pub use crate::pool::MOST_THREADS;
pub use crate::rate_limiter::RateLimiter;
pub use crate::revisions::Revisions;
pub use crate::transport::Transport;
#[cfg(feature = "ureq")]
pub use crate::ureq::{ResponseExt, UreqTransport, classify_error};

/// Describes a [`Client`]. Made by [`Client::builder`]; its [`start`](steadfast_driver::Builder::start) blocks while
/// it reads the store, and returns the client.
pub type Builder<P, T> = steadfast_driver::Builder<P, T, Client>;
