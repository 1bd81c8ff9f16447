//! The adapter through its public API, in virtual time.

mod client;
mod logs;
mod support;
