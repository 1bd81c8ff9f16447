//! The half of a driver that does no I/O.
//!
//! `steadfast-core` decides; something must hold the bytes that it never sees, gather its records into commits, know
//! who waits for which job, and take in webhooks. That is the same on every runtime, so it is here once: a [`Driver`]
//! is a machine like the core's, fed with what happened and popped for what to do. It has no thread, timer or socket,
//! and decides by the time that it is given. An adapter adds these, and a client for its callers: `steadfast-tokio` and
//! `steadfast-blocking` are adapters, and you can write your own.
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
//! let finished = submitted.recv()??.finished.recv()?.read();
//! assert_eq!(finished.outcome.name(), "completed");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # One machine alone
//!
//! A [`Breaker`], a [`RateLimiter`] and a [`RetryBudget`] to share between tasks and threads, for calls that are not
//! jobs. They read a clock ([`SharedClock`]). Otherwise this crate reads one only to measure how long a store's work
//! takes, and in [`http_failure`], for dates in answers that bear none of their own.
//!
//! # Calls that are no jobs
//!
//! A [`Call`] repeats any closure by a `RetryPolicy`, or asks by a `PollPolicy` until the result is ready, behind these
//! handles if they are given. It is awaited or blocks; an adapter supplies the clock and the sleep, as an
//! [`AsyncTimer`] or a [`BlockingTimer`].
//!
//! # Spans
//!
//! Every job is a [`tracing`](https://docs.rs/tracing) span named `job`, of level `INFO`, from its submit to its end;
//! every request is a span below it named `request`, an HTTP client span by OpenTelemetry's semantic conventions
//! (stable since their version 1.23.0). `span.rs` lists their attributes. They hold the key's label and never the key,
//! and of a URL only what [`Provider::route`](steadfast_providers::Provider::route) says. A job's span *follows from*
//! the span in which the program submits it, which is a link in OpenTelemetry: as its child it would keep that span
//! open for as long as the job takes. If no subscriber wants spans, none are made or held.
//!
//! # Features
//!
//! - `metrics`: counts and times, through the facade `metrics`. The module of that name lists them.
//! - `yaml`: [policies] from YAML files too; TOML and JSON are read in any case.
//!
//! `PLUG.md` beside this crate builds an adapter for your own runtime step by step, and `examples/` has two adapters:
//! on plain sockets and one thread, and on smol.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod accepted;
mod builder;
mod calls;
mod caught;
mod correlation;
mod driver;
mod finished;
mod handles;
mod http_error;
mod journal;
mod keep;
#[cfg_attr(not(feature = "metrics"), path = "meter/off.rs")]
mod meter;
#[cfg(feature = "metrics")]
pub mod metrics;
mod observe;
mod outgoing;
pub mod policies;
mod probes;
mod revision;
mod shards;
mod span;
mod trace_context;
mod webhook;

pub use crate::accepted::{Acceptance, Accepted, AcceptingAnswer, NotAccepted};
pub use crate::builder::{Builder, Loaded, RenewsBy, Settings, Start, StartError};
pub use crate::calls::{
    AsyncTimer, Attempt, BlockingTimer, Call, Classify, EveryError, Notify, PollAnswer, PollError, PollState, Polled,
    Polls, Retries, RetryError, Retrying, Silent, StopReason, Timer, VirtualTimer, When, http_failure, http_response,
};
#[doc(hidden)]
pub use crate::caught::caught;
pub use crate::correlation::{CorrelationHeader, CorrelationHeaderError};
pub use crate::driver::{
    Answered, Command, Driver, Following, JobStatus, Reader, Renew, RenewError, Renewed, Renewing, Sending,
    StatusError, Submit, Task, Word,
};
pub use crate::finished::{FinalAnswer, Finished, JobError, ResumeError, Stopped, SubmitError, Unfinished, Unread};
pub use crate::handles::{
    Breaker, BudgetSpent, CallError, Lease, Leases, Limited, OwnedPermit, OwnedPlace, Permit, Place, RateLimiter,
    RetryBudget, SharedClock,
};
pub use crate::http_error::HttpError;
pub use crate::journal::{Work, Worked};
pub use crate::keep::{Durability, SEAL_MARK, Seal, SealError};
pub use crate::observe::{Claim, ClaimError, CorrelationId, Observation};
pub use crate::outgoing::{Outgoing, SendError};
pub use crate::policies::Policies;
pub use crate::revision::{REVISIONS, Revision, RevisionError, Subscribers};
pub use crate::shards::{Sharded, Shards};
pub use crate::trace_context::{TraceContext, TraceError, TraceParent, TraceSource, TraceState};
pub use crate::webhook::{Delivery, Mailbox, Posted, UnknownJob, WebhookPolicy};

/// The guide's code is compiled and run as this crate's own.
#[cfg(doctest)]
#[doc = include_str!("../PLUG.md")]
mod plug {}
