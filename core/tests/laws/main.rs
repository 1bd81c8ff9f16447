//! The laws of the driving protocol and the invariants, as properties over random histories.
//!
//! - [`history`]: one operation under arbitrary events, in any order, most of them senseless.
//! - [`world`]: an engine with many operations, a journal that fails, a provider with a ledger, crashes and restarts.

mod breaker;
mod calls;
mod changes;
mod engine;
mod gate;
mod gates;
mod guards;
mod history;
mod lines;
mod machines;
mod operation;
mod overload;
mod peers;
mod policies;
mod replayed;
mod replicas;
mod restart;
mod run;
mod sharing;
mod slept;
#[cfg(feature = "snapshot")]
mod snapshot;
mod unasked;
mod world;
