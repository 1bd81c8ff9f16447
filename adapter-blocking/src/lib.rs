//! Asynchronous job APIs from threads, without a runtime: submitted once, polled well, never run twice.
//!
//! A [`Client`] takes jobs under keys of your own and carries each to its outcome through an unreliable provider, as `steadfast-tokio` does: the same
//! engine, builder, defaults, journal, webhooks and notices. What differs is who waits: here calls block.
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
//! One thread owns the [driver](steadfast_driver::Driver) and does what it says; one more writes the journal, if there is one; and requests in the air have a thread each,
//! which a next request uses again. **A job that waits has none**: ten thousand of them need no more threads than requests that are in the air, and of those the
//! gate's bulkhead lets out so many at a time (see [`MOST_THREADS`] for a gate that has none, or one that lets out more).
//!
//! A request that is given up cannot be cut off: its thread goes on until its own time-out, and the job's next request does not leave before that. An answer that comes
//! meanwhile still counts for what it teaches.
//!
//! # Features
//!
//! - `ureq` (default): [`UreqTransport`]. Without it, implement [`Transport`] for the client that you use.

mod client;
mod clock;
mod drive;
mod pool;
mod revisions;
mod transport;
#[cfg(feature = "ureq")]
mod ureq;

pub use steadfast_driver::{
    Accepted, AcceptingAnswer, CorrelationId, Delivery, Durability, FinalAnswer, Finished, NotAccepted, Observation,
    Outgoing, RenewError, ResumeError, Revision, RevisionError, Seal, SealError, SendError, StartError, Stopped,
    SubmitError, Unfinished, UnknownJob, WebhookPolicy,
};

pub use crate::client::{CallError, Client, Handle};
pub use crate::pool::MOST_THREADS;
pub use crate::revisions::Revisions;
pub use crate::transport::Transport;
#[cfg(feature = "ureq")]
pub use crate::ureq::UreqTransport;

/// Describes a [`Client`]. Made by [`Client::builder`]; its [`start`](steadfast_driver::Builder::start) blocks while it reads the store, and gives the client.
pub type Builder<P, T> = steadfast_driver::Builder<P, T, Client>;
