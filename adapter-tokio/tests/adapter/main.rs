//! The adapter through its public API, in virtual time.

mod accepted;
mod broken_stores;
mod calls;
mod carriers;
mod client;
mod deploys;
mod endurance;
mod handles;
mod idle;
mod journal;
mod logs;
mod overload;
mod paced;
mod releases;
mod renewal;
mod resume;
mod shards;
mod stopping;
mod support;
mod turns;
mod unclaimed;
mod unsent;
mod webhooks;
#[cfg(feature = "reqwest")]
mod wire;
