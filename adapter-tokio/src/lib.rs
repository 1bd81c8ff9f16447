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
//! and a 2xx means that what followed is on disk. `examples/webhooks.rs` is such a server. Polling goes on as a safety net.
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

mod accepted;
mod breaker;
mod builder;
mod client;
mod clock;
mod driver;
mod journal;
mod keep;
mod observe;
mod paced;
mod rate_limiter;
#[cfg(feature = "reqwest")]
mod reqwest;
mod revision;
mod transport;
mod webhook;

pub use crate::accepted::{Accepted, AcceptingAnswer, NotAccepted};
pub use crate::breaker::{Breaker, CallError, Permit};
pub use crate::builder::{Builder, StartError};
pub use crate::client::{Client, FinalAnswer, Finished, Handle, ResumeError, Stopped, SubmitError, Unfinished};
pub use crate::keep::{Durability, Seal, SealError};
pub use crate::observe::{CorrelationId, Observation};
pub use crate::paced::PacedTransport;
pub use crate::rate_limiter::{Limited, RateLimiter};
#[cfg(feature = "reqwest")]
pub use crate::reqwest::{ReqwestTransport, TransportError};
pub use crate::revision::{Revision, RevisionError, Revisions};
pub use crate::transport::{Outgoing, SendError, Transport};
pub use crate::webhook::{Delivery, UnknownJob, WebhookPolicy};
