//! The adapter through its public API, in virtual time.

mod client;
mod handles;
mod logs;
mod support;
