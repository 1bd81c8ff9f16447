//! The half of a driver that does no I/O.
//!
//! `steadfast-core` decides; something must hold the bytes that it never sees, gather its records into commits, know who waits for which job, and take in
//! webhooks. That is the same on every runtime, so it is here once: a [`Driver`] is a machine like the core's, fed with what happened and popped for what to do.
//! It has no thread, timer or socket, and takes the time as an argument. An adapter adds these, and a client for its callers: `steadfast-tokio` and
//! `steadfast-blocking` are such, and so can be your own.
//!
//! ```text
//!   callers ──submit, command, deliver──▶ ┌────────┐ ──Task::Send──▶ HTTP ──▶ Reader::read ──answered──┐
//!      ▲                                  │ Driver │ ──Task::Work──▶ a thread that may block ──worked──┤
//!      └───────── oneshot replies ─────── └────────┘ ◀──────────────────────────────────────────────────┘
//! ```
//!
//! # The loop of an adapter
//!
//! ```
//! use std::collections::VecDeque;
//! use std::sync::Arc;
//!
//! use bytes::Bytes;
//! use http::Response;
//! use steadfast_core::{Clock, Key, Outcome, Timestamp};
//! use steadfast_driver::{Builder, Driver, Submit, Task};
//! use steadfast_providers::deepvue::{Credentials, Deepvue};
//! use steadfast_providers::{BaseUrl, Provider};
//!
//! # fn send(request: &http::Request<Bytes>) -> Response<Bytes> {
//! #     let body = match request.method().as_str() {
//! #         "POST" => r#"{"code":200,"transaction_id":"txn-1"}"#,
//! #         _ => r#"{"code":200,"data":{"name":"A"}}"#,
//! #     };
//! #     Response::new(Bytes::from(body))
//! # }
//! # let credentials = Credentials::new("token", "secret")?;
//! let provider = Deepvue::new(BaseUrl::parse("http://127.0.0.1:1")?, "driving-license", credentials)?;
//! let builder: Builder<_, (), ()> = Builder::new(provider, ());
//! let (provider, (), settings) = builder.into_parts();
//! let loaded = settings.load(provider.name())?;
//!
//! let mut now = Timestamp::from_secs(1_700_000_000);
//! let mut driver: Driver<()> = Driver::new(Arc::new(provider), loaded, now);
//! let (reply, submitted) = oneshot::channel();
//! driver.submit(Submit::new(Key::new("order-42")?, "{}".into(), reply), now);
//! driver.abandon(); // nobody will ask for more
//!
//! loop {
//!     while let Some(task) = driver.pop_task(now) {
//!         match task {
//!             Task::Send(sending) => {
//!                 let answer = send(&sending.outgoing.request); // any HTTP client, redirects off
//!                 driver.answered(sending.reader.read(Ok(answer), now), now);
//!             }
//!             Task::Work(work) => driver.worked(work.run_one(), now),
//!             _ => {}
//!         }
//!     }
//!     if driver.is_over() {
//!         break;
//!     }
//!     now = driver.next_deadline().unwrap_or(now).max(now); // in place of a sleep
//!     driver.handle_timeout(now);
//! }
//! let finished = submitted.recv()??.finished.recv()?;
//! assert_eq!(finished.outcome.name(), "completed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `PLUG.md` beside this crate builds a runtime of one's own step by step, and `examples/` has two: on plain sockets and one thread, and on smol.

mod accepted;
mod builder;
mod driver;
mod finished;
mod journal;
mod keep;
mod observe;
mod outgoing;
mod revision;
mod webhook;

pub use crate::accepted::{Acceptance, Accepted, AcceptingAnswer, NotAccepted};
pub use crate::builder::{Builder, Loaded, RenewsBy, Settings, Start, StartError};
pub use crate::driver::{
    Answered, Command, Driver, Following, Reader, Renew, RenewError, Renewed, Renewing, Sending, Submit, Task,
};
pub use crate::finished::{FinalAnswer, Finished, ResumeError, Stopped, SubmitError, Unfinished};
pub use crate::journal::{Work, Worked};
pub use crate::keep::{Durability, Seal, SealError};
pub use crate::observe::{CorrelationId, Observation};
pub use crate::outgoing::{Outgoing, SendError};
pub use crate::revision::{REVISIONS, Revision, RevisionError, Subscribers};
pub use crate::webhook::{Delivery, Mailbox, Posted, UnknownJob, WebhookPolicy};

/// The guide's code is compiled and run as this crate's own.
#[cfg(doctest)]
#[doc = include_str!("../PLUG.md")]
mod plug {}
