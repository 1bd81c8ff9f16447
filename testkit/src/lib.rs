//! Fake providers to test against: they answer faithfully, and misbehave on purpose.
//!
//! [`FakeDeepvue`] speaks real HTTP on a loopback port, as Deepvue documents it. A seeded schedule of [`Faults`] makes
//! it refuse connections, reset them, run a request and lose its answer, answer late, throttle, fail, or send garbage.
//! Its [`Ledger`] records what really happened: how often each key was run, when, and how it was answered. A test
//! carries jobs through it and compares what the client believes with the ledger:
//!
//! ```
//! use steadfast_testkit::{FakeDeepvue, Faults};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let provider = FakeDeepvue::new(7).with_faults(Faults::rate(0.3)).with_speed(50.0).start()?;
//! println!("point your client at {}", provider.base_url());
//! assert_eq!(provider.ledger().keys_run_more_than_once(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! Beside it:
//!
//! - [`FakeDidit`]: the same for Didit's sessions, which have no idempotency key and last as long as people take. It
//!   sends signed webhooks, and loses, repeats, delays and forges them as [`WebhookFaults`] say.
//! - [`FakeProfile`]: the same for any provider that a profile describes, made of the profile alone.
//! - [`StrictStore`] and [`StrictWire`]: a journal and a wire that know the protocol and report a driver that breaks
//!   it: a send without its durable record, two creates of a key at once.
//! - [`journal_kit`]: tests that every store must pass, and a store that fails on purpose.
//! - [`WithLookup`]: a provider profile with a look-up added, for a fake that offers one.
//! - [`scaled`], [`scaled_gate`]: a policy with every delay divided, to go with a provider that runs faster than life.
//! - [`http::serve`]: any other server in a few lines, for tests of redirects, endless bodies and the like.
//! - [`simulation`]: whole histories in virtual time, with crashes, for proving the engine.
//! - `kill_drill` (feature `kill-drill`): runs a client in a process of its own and kills it again and again; and
//!   `connect`, the client that fits a fake.
//! - [`tokio`] (feature `tokio`): the same fake in process for virtual time, and a transport that checks the protocol
//!   with [`StrictWire`].

#![cfg_attr(docsrs, feature(doc_cfg))]

mod brain;
#[cfg(feature = "kill-drill")]
pub mod connect;
mod deepvue;
mod didit;
mod faults;
pub mod http;
pub mod journal_kit;
#[cfg(feature = "kill-drill")]
pub mod kill_drill;
mod ledger;
mod lookup;
mod profiled;
mod server;
pub mod simulation;
mod speed;
mod strict;
#[cfg(feature = "tokio")]
pub mod tokio;
mod webhooks;

pub use crate::brain::{Brain, Reply};
pub use crate::deepvue::{FakeDeepvue, Keys};
pub use crate::didit::FakeDidit;
pub use crate::faults::{Fault, Faults};
pub use crate::ledger::{Answered, Execution, Ledger};
pub use crate::lookup::WithLookup;
pub use crate::profiled::{FakeProfile, Undrivable};
pub use crate::server::FakeServer;
pub use crate::speed::{scaled, scaled_gate};
pub use crate::strict::{StrictStore, StrictWire};
pub use crate::webhooks::{WebhookCounts, WebhookFault, WebhookFaults, WebhookPost};
