//! The adapter through its public API, in virtual time.

mod accepted;
mod broken_stores;
mod client;
mod handles;
mod journal;
mod logs;
mod renewal;
mod resume;
mod support;
mod unclaimed;
mod webhooks;
