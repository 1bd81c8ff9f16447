//! Asynchronous job APIs from tokio: submitted once, polled well, never run twice.
//!
//! A [`Client`] takes jobs under keys of your own and carries each to its outcome through an unreliable provider: it retries what is safe
//! to retry, polls by the provider's schedule, waits when asked to, and never repeats a create that may have run unless the provider
//! is known to drop repeats. It drives `steadfast-core`, where every decision is made; this crate adds timers, HTTP and tasks.
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
//! One task owns the engine. Submits, answers and finished commits reach it by channels; it feeds them, carries out the effects (spawning a task
//! for each request in the air, and none for a job that waits), and sleeps until the next deadline. Under tokio's paused clock
//! everything runs in virtual time, so tests of programs that use it need not sleep: give the builder a [`Transport`] of your own that answers in
//! process.
//!
//! # Webhooks
//!
//! Where the provider has webhooks, give what your HTTP server receives to [`Client::deliver`] and answer what it says: forged ones change nothing,
//! and a 2xx means that what followed is on disk. `examples/webhooks_axum.rs` and `examples/webhooks_std.rs` are such servers. Polling goes on as a safety net.
//!
//! # One machine alone
//!
//! A [`Breaker`] and a [`RateLimiter`] to share between tasks and threads, for calls that are no jobs.
//!
//! # What can be seen
//!
//! Every notice of the core becomes a [`tracing`](https://docs.rs/tracing) event with the fields `key` (a label: keys may hold personal data),
//! `reference`, `attempt` and `correlation_id`, and reaches the [observer](Builder::observer) if there is one.
//!
//! # Features
//!
//! - `reqwest` (default): [`ReqwestTransport`]. Without it, implement [`Transport`] for the client that you use.

mod breaker;
mod client;
mod clock;
mod drive;
mod paced;
mod rate_limiter;
#[cfg(feature = "reqwest")]
mod reqwest;
mod revisions;
mod transport;

pub use steadfast_driver::{
    Accepted, AcceptingAnswer, CorrelationId, Delivery, Durability, FinalAnswer, Finished, NotAccepted, Observation,
    Outgoing, RenewError, ResumeError, Revision, RevisionError, Seal, SealError, SendError, StartError, Stopped,
    SubmitError, Unfinished, UnknownJob, WebhookPolicy,
};

pub use crate::breaker::{Breaker, CallError, Permit};
pub use crate::client::{Client, Handle, Starting};
pub use crate::paced::PacedTransport;
pub use crate::rate_limiter::{Limited, RateLimiter};
#[cfg(feature = "reqwest")]
pub use crate::reqwest::{ReqwestTransport, TransportError};
pub use crate::revisions::Revisions;
pub use crate::transport::Transport;

/// Describes a [`Client`]. Made by [`Client::builder`]; its [`start`](steadfast_driver::Builder::start) is to be awaited, on the runtime that the client is to
/// live on, which must have its timer enabled.
pub type Builder<P, T> = steadfast_driver::Builder<P, T, Client>;
