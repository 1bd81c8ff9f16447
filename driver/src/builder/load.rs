//! What a client's start takes up: its settings are looked over, and its store is read.

use std::fmt;
use std::sync::Arc;

use steadfast_store::{Store, StoreError};

use super::Settings;
use crate::driver::Shard;
use crate::keep::{self, Durability, Taken};
use crate::probes::lasting;
use crate::webhook::{LEAST, LEAST_BODY};

/// What a [`Driver`](crate::Driver) starts with: settings, and what their store had.
pub struct Loaded {
    pub(crate) settings: Settings,
    pub(crate) store: Option<Box<dyn Store>>,
    pub(crate) taken: Vec<Taken>,
    /// If it is one of several.
    pub(crate) shard: Option<Shard>,
}

impl Settings {
    /// Reads what the store has for the provider of this name. Blocks if [there is one](Settings::has_store).
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn load(mut self, provider: &str) -> Result<Loaded, StartError> {
        if self.limits.live == 0 {
            return Err(StartError::NoRoom);
        }
        if self.body_limit < LEAST_BODY {
            let (setting, value) = ("Builder::body_limit", format!("{} bytes", self.body_limit));
            return Err(StartError::TooSmall { setting, value, least: LEAST });
        }
        self.webhooks.check()?;
        self.check_shards()?;
        lasting(&mut self.gate, &self.policy);
        let store = self.store.take();
        let mut store = match (store, self.durability) {
            (None, Some(Durability::Durable)) => return Err(StartError::NoStore),
            (None, _) | (_, Some(Durability::Volatile)) => {
                return Ok(Loaded { settings: self, store: None, taken: Vec::new(), shard: None });
            }
            (Some(store), _) => store,
        };
        let mut entries = store.load_live()?;
        if let Some(entry) = entries.iter().find(|entry| *entry.provider != *provider) {
            return Err(StartError::OtherProvider { theirs: entry.provider.clone(), ours: provider.to_owned() });
        }
        if self.from_backup || store.is_backup() {
            store.append(&keep::doubt(&mut entries))?;
            store.take_into_use()?;
        }
        let taken = self.keep.take_up(entries, &self.policy, self.hooks.unclaimed.is_some());
        Ok(Loaded { settings: self, store: Some(store), taken, shard: None })
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("settings", &self.settings)
            .field("jobs", &self.taken.len())
            .finish_non_exhaustive()
    }
}

/// Why a client was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// What the store holds could not be read, or is damaged; or it was put back from a copy, and what is doubtful of
    /// that could not be written.
    #[error("the client was not started, since its store could not be read or written")]
    Unreadable(#[from] StoreError),
    /// The store holds jobs of another [provider](steadfast_providers::Provider::name). Nothing was sent: this provider
    /// does not know them, their payloads are not meant for it, and their keys would be taken for its own.
    #[error(
        "the client was not started: its store holds jobs of {theirs:?}, and its provider is {ours:?}; \
         give each provider a store of its own, or this one the name that it had"
    )]
    OtherProvider {
        /// The name that the jobs bear.
        theirs: Arc<str>,
        /// The name of the client's provider.
        ours: String,
    },
    /// [`Durability::Durable`] was asked for, and there is nothing to keep records in.
    #[error(
        "the client was not started: it was told to be durable and has no store; give it one with `Builder::store`"
    )]
    NoStore,
    /// No job may be [live](steadfast_core::engine::Limits::live): each submit would wait for room that never comes.
    #[error(
        "the client was not started: it has room for no job, since `Limits::live` is 0; say how many may be under way, at least 1"
    )]
    NoRoom,
    /// A setting is so small that nothing could get through: no answer, or no webhook.
    #[error("the client was not started: `{setting}` is {value}; it must be at least {least}")]
    TooSmall {
        /// Which.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it must be at least, and why.
        least: &'static str,
    },
    /// The number of [shards](crate::Builder::shards) is not from 1 to 64, or there are more of them than jobs may be
    /// [live](steadfast_core::engine::Limits::live).
    #[error(
        "the client was not started: it was told to have {shards} shards, and room for {live} jobs; \
         say 1 to 64 shards, and no more of them than jobs"
    )]
    Shards {
        /// How many it was told.
        shards: usize,
        /// How many jobs may be live.
        live: u32,
    },
    /// The system gave no thread to carry the client.
    #[error("the client was not started: the system gave no thread for it; look at the process's limits")]
    NoThread(#[source] std::io::Error),
}
