//! The part of Steadfast that decides: submit a job once, wait well, never run it twice.
//!
//! Many APIs run a job for you and give its result later: identity verification, document OCR, payments, model
//! inference. A request creates the job, further requests (or a webhook) tell when it is done. Networks drop answers,
//! providers throttle and fail, processes crash, and running a job twice costs money. This crate holds every decision
//! of such a client as pure functions of state, event and time: when to retry, when to poll, whether a repeat is safe,
//! what must be on disk first.
//!
//! It does no I/O. It has no clock, thread, global, `unsafe` or panic, and needs only `alloc`. If you use tokio, take
//! `steadfast-tokio`, which drives this for you; if you have a runtime of your own, this crate is what you plug into
//! it.
//!
//! # The loop
//!
//! A driver does four things, for one [`Operation`] as for an [`Engine`] full of them: **feed** what happened, **pop**
//! what must be done until there is nothing left, **sleep** until the next deadline, **wake** it.
//!
//! ```
//! use steadfast_core::operation::{Effect, Event, Reading};
//! use steadfast_core::{Fingerprint, Gate, Key, Kind, Operation, OperationPolicy, Reference, Seed, Timestamp};
//!
//! let (policy, mut gate) = (OperationPolicy::default(), Gate::unlimited());
//! let mut now = Timestamp::from_secs(1_700_000_000);
//! let (mut journal, mut sent) = (Vec::new(), Vec::new()); // your database, your sockets
//!
//! let (key, fingerprint) = (Key::new("order-42")?, Fingerprint::new([0; 16]));
//! let mut job = Operation::new(key, fingerprint, Seed::new(7), &mut policy.turn(now, &mut gate));
//! 'job: loop {
//!     while let Some(effect) = job.pop_effect() {
//!         let event = match effect {
//!             Effect::Persist(number) => {
//!                 journal.push(job.record()); // commit it; only then:
//!                 Event::Persisted(number)
//!             }
//!             Effect::Send(attempt) => {
//!                 sent.push((attempt.kind, now)); // send it, and read the answer:
//!                 Event::Answered(attempt.id, Ok(match (attempt.kind, sent.len()) {
//!                     (Kind::Create, _) => Reading::Accepted(Reference::new("txn-1")?),
//!                     (_, 2) => Reading::Pending { hint: None },
//!                     _ => Reading::Ready,
//!                 }))
//!             }
//!             Effect::End => break 'job,
//!             _ => continue, // Abandon: stop that request
//!         };
//!         job.handle(event, &mut policy.turn(now, &mut gate));
//!     }
//!     now = job.next_deadline().expect("it waits for something"); // sleep until then
//!     job.handle_timeout(&mut policy.turn(now, &mut gate));
//! }
//! assert_eq!(job.outcome().unwrap().name(), "completed");
//! assert_eq!(journal.len(), 3); // in flight, accepted, ended
//! assert_eq!(now, Timestamp::from_secs(1_700_000_009)); // polls after 3 s and 6 s more
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # On a device
//!
//! `default-features = false` leaves only `alloc`. A small device may lack three things:
//!
//! - **A clock that goes on through a reset.** [`Timestamp::from_millis`] takes a counter, but if that counter restarts
//!   at zero, a key [may run twice](Timestamp#after-a-restart).
//! - **Room for every [record](journal).** A record that never fits is asked for again and again. Write each one so
//!   that a torn write leaves the record before it intact.
//! - **Randomness.** Make each [`Seed`] from a number that is unique to the device, or all devices come back in step.
//!
//! # The map
//!
//! Four floors, each usable alone:
//!
//! 1. **Policies**: [`backoff`] (how long), [`retry`] (whether and when), [`poll`] (how often); and **machines**:
//!    [`breaker`] (is the upstream well?), [`rate_limit`] (how fast?), [`budget`] (are there too many retries?),
//!    [`bulkhead`] (how many at once?).
//! 2. **[`gate`]**: may a request leave now? All the machines of one upstream behind one question.
//! 3. **[`operation`]**: one job, from intent to outcome.
//! 4. **[`engine`]**: many operations over one gate; one execution per key.
//!
//! Beside them: [`timers`] (which of a million deadlines is next?), [`journal`] (records as bytes), [`notice`] (what
//! observers may want to know), [`explain`] (notices as sentences, and a timeline of one job), [`Timestamp`] and
//! [`Seed`] (time and chance, always arguments).
//!
//! # What is promised
//!
//! For one key the engine sends one request, never two attempts at a time, and never before its record is durable. If
//! the provider executes at most once per key, the operation executes at most once. If it does not, an interrupted
//! create ends as [`Unresolved`](operation::Unresolved) and is looked up or handed to a person; it is never silently
//! repeated. Outcomes are delivered at least once.
//!
//! The driver's half: acknowledge a record only when it is durable, send what [`Effect::Send`](operation::Effect::Send)
//! says with the same key and bytes each time, and say of a failed request what is certain about it, not what is
//! likely.
//!
//! # Features
//!
//! - `std` (default): conversions between [`Timestamp`] and `SystemTime`, and the `std` features of `thiserror` and
//!   `serde`. Nothing else depends on it.
//! - `serde`: policies from files, with durations such as `"250ms"` and the same validation; state as plain data.
//! - `snapshot`: an engine as bytes, versioned and checked, and back.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![no_std]
// What could panic, and what std offers but core or alloc has. The tests may.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::wildcard_enum_match_arm,
        clippy::std_instead_of_core,
        clippy::alloc_instead_of_core
    )
)]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod engine;
pub mod explain;
pub mod gate;
pub mod journal;
mod key;
pub mod notice;
pub mod operation;
pub mod policy;
pub mod poll;
pub mod rate_limit;
pub mod retry;
mod seed;
mod text;
mod time;
pub mod timers;

pub use crate::engine::{Engine, OperationId};
pub use crate::gate::Gate;
pub use crate::key::{Fingerprint, Key, KeyError, Label, Reference, ReferenceError};
pub use crate::operation::{Kind, Operation, OperationPolicy, Outcome, SendSafety};
pub use crate::policy::PolicyError;
pub use crate::seed::Seed;
pub use crate::time::{Clock, Timestamp};
