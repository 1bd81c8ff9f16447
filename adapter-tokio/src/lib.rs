//! Asynchronous job APIs from tokio: submitted once, polled well, never run twice.
//!
//! A [`Client`] takes jobs under keys of your own and carries each to its outcome through an unreliable provider: it
//! retries what is safe to retry, polls by the provider's schedule, waits when asked to, and never repeats a create
//! that may have run unless the provider is known to ignore repeats. It drives `steadfast-core`, where every decision
//! is made; this crate adds timers, HTTP and tasks.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use steadfast_core::{Key, Outcome};
//! use steadfast_providers::BaseUrl;
//! use steadfast_providers::deepvue::{Credentials, Deepvue};
//! use steadfast_tokio::{Client, ReqwestTransport};
//!
//! # async fn example(token: String, secret: String) -> Result<(), Box<dyn std::error::Error>> {
//! let credentials = Credentials::new(token, secret)?;
//! let provider = Deepvue::new(BaseUrl::parse(Deepvue::PRODUCTION)?, "driving-license", credentials)?;
//! let client = Client::builder(provider, ReqwestTransport::new()?).start().await?;
//!
//! let payload = r#"{"dl_number": "DL1234567890", "dob": "1990-01-01", "consent": "Y", "reason": "KYC"}"#;
//! let job = client.submit(Key::new("order-42")?, payload).await?;
//! let finished = job.await?;
//! match finished.outcome {
//!     Outcome::Completed(_) => println!("{}", String::from_utf8_lossy(finished.body())),
//!     other => println!("{}: {} ({:?})", other.name(), other.explain(), finished.reference),
//! }
//! let unfinished = client.shutdown(Duration::from_secs(30)).await;
//! assert!(unfinished.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//!
//! One task owns the engine. Submits, answers and finished commits reach it by channels; it feeds them, carries out the
//! effects (spawning a task for each request that is not answered at once, and none for a job that waits), and sleeps
//! until the next deadline. Under tokio's paused clock everything runs in virtual time, so tests of programs that use
//! it need not sleep: give the builder a [`Transport`] of your own that answers in process.
//!
//! **Dropping the last client stops nothing**: when no [`Client`] and no [`Handle`] is left, the jobs under way go on
//! until they have ended, for as long as the runtime lives; then the store is closed. The drop itself does not wait
//! for any of this. (On threads, the last drop stops the client.) End a program with [`Client::shutdown`], which
//! returns when everything has stopped.
//!
//! A client that one core cannot carry has several such tasks, its [shards](steadfast_driver::Builder::shards), and is
//! one client in every other respect.
//!
//! # Crashes
//!
//! Without a store, a crash forgets the jobs under way. Give the builder one
//! ([`Builder::store`](steadfast_driver::Builder::store), `steadfast_store::SqliteStore`), and nothing is sent before
//! it is on disk; the next process goes on from there.
//!
//! The store runs in the runtime's pool for blocking calls. If all threads of that pool wait for the client, none is
//! left for the store, and neither can go on: so await the client in tasks.
//!
//! # Webhooks
//!
//! Where the provider has webhooks, pass what your HTTP server receives to [`Client::deliver`] and answer with the
//! status that it returns: forged webhooks change nothing, and a 2xx means that what followed is on disk.
//! `examples/webhooks_axum.rs` and `examples/webhooks_std.rs` are such servers. Polling goes on as a safety net.
//!
//! # One machine alone
//!
//! A [`Breaker`], a [`RateLimiter`] and a [`RetryBudget`] to share between tasks and threads, for calls that are not
//! jobs; a [`Gate`] is all of them and a bulkhead, and lets calls that cannot go at once wait in line.
//!
//! # Any call
//!
//! [`retry`] repeats any asynchronous call, [`poll_until`] asks until something is ready; with the policies of the
//! engine, and behind those handles if you give them. `examples/retry.rs` shows both.
//!
//! # What can be seen
//!
//! Every notice of the core becomes a [`tracing`](https://docs.rs/tracing) event with the fields `key` (a label: keys may hold personal data),
//! `reference`, `attempt` and `correlation_id`, and reaches the [observer](Builder::observer) if there is one.
//!
//! # Features
//!
//! - `reqwest` (default): [`ReqwestTransport`], and [`ResponseExt`] for calls that are not jobs. Without it, implement
//!   [`Transport`] for the client that you use.
//! - `tower`: layers for tower services: retry, breaker, rate limit, and a gate that combines them. The module of that
//!   name lists them.
//! - `metrics`: counts and times for the recorder that your program installs. The module of that name lists them.
//! - `yaml`: [policies] from YAML files too; TOML and JSON are read in any case.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod blocking;
mod calls;
mod carriers;
mod client;
mod clock;
mod drive;
mod gate;
mod handles;
mod paced;
#[cfg(feature = "reqwest")]
mod reqwest;
mod revisions;
#[cfg(feature = "tower")]
pub mod tower;
mod transport;

#[cfg(feature = "metrics")]
pub use steadfast_driver::metrics;
pub use steadfast_driver::policies;
pub use steadfast_driver::{
    Accepted, AcceptingAnswer, AsyncTimer, Attempt, BlockingTimer, BudgetSpent, Call, CallError, Claim, ClaimError,
    Classify, CorrelationHeader, CorrelationHeaderError, CorrelationId, Delivery, Durability, EveryError, FinalAnswer,
    Finished, HttpError, JobError, JobStatus, Lease, Leases, Limited, NotAccepted, Notify, Observation, Outgoing,
    OwnedPermit, OwnedPlace, Permit, Place, Policies, PollAnswer, PollError, PollState, Polled, Polls, RenewError,
    ResumeError, Retries, RetryError, Retrying, Revision, RevisionError, SEAL_MARK, Seal, SealError, SendError,
    SharedClock, Silent, StartError, StatusError, StopReason, Stopped, SubmitError, Timer, TraceContext, TraceError,
    TraceParent, TraceState, Unfinished, UnknownJob, VirtualTimer, WebhookPolicy, When, http_failure, http_response,
};

pub use crate::calls::{PollUntil, Retry, TokioTimer, poll_until, retry};
pub use crate::client::{Client, Handle, Starting};
pub use crate::gate::{Gate, GatePermit, Refused};
pub use crate::handles::{Breaker, RateLimiter, RetryBudget};
pub use crate::paced::PacedTransport;
#[cfg(feature = "reqwest")]
pub use crate::reqwest::{ReqwestTransport, ResponseExt, TransportError, classify_error};
pub use crate::revisions::Revisions;
pub use crate::transport::Transport;

/// Describes a [`Client`]. Made by [`Client::builder`]; await its [`start`](steadfast_driver::Builder::start) on the
/// runtime that the client is to live on, which must have its timer enabled: it panics otherwise.
pub type Builder<P, T> = steadfast_driver::Builder<P, T, Client>;
