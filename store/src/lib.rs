//! Where records are kept, so that a crash loses nothing.
//!
//! Steadfast carries jobs at asynchronous APIs to their outcome. Its core says *what* must be durable before a request
//! may leave, an answer may be acted on, or an outcome may be told; a [`Store`] makes it so. Clients take one with
//! `Builder::store`, and go on at their next start with what it holds.
//!
//! - [`SqliteStore`] (feature `sqlite`, on by default) keeps records in a file, which outlives a killed process and can
//!   be queried by people. It needs a C compiler.
//! - [`MemoryStore`] keeps them in memory: for tests, and for programs that accept losing what they knew in a crash.
//! - [`CombinedStore`] lets several writers use one store, with their entries going to disk together: for a client on
//!   several cores.
//! - Your own store implements [`Store`], which is synchronous and takes batches: it can run on a thread of its own,
//!   and what is queued while one commit runs goes into the next. `steadfast_testkit::journal_kit` checks it against
//!   the contract.
//!
//! A record is what a restart needs to be safe: key, fingerprint of the payload, how far the job came, how often it was
//! sent, the provider's reference. It holds no payload and no result; those are kept beside it only if the client is
//! told to.
//!
//! ```
//! # let path = std::env::temp_dir().join(format!("steadfast-store-{}.db", std::process::id()));
//! # #[cfg(feature = "sqlite")] {
//! use steadfast_store::{SqliteStore, Store};
//!
//! let mut journal = SqliteStore::open(&path)?; // on a local disk, for one process and one provider
//! let live = journal.load_live()?; // what a client would go on with
//! assert!(live.is_empty());
//! # drop(journal);
//! # for suffix in ["", "-mark"] { std::fs::remove_file(format!("{}{suffix}", path.display()))?; }
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(docsrs, feature(doc_cfg))]

mod combined;
mod entry;
mod error;
mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use steadfast_core::{Key, Timestamp};

pub use crate::combined::CombinedStore;
pub use crate::entry::{Entry, KeptAnswer};
pub use crate::error::StoreError;
pub use crate::memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use crate::sqlite::{OpenError, SqliteStore};

/// Keeps the records of one client.
///
/// The contract that makes a crash harmless:
///
/// - [`append`](Store::append) returns `Ok` only when all its entries would survive a crash. A
///   [certain](StoreError::is_certain) error says that none of them is there, now or after a restart; any other error
///   says that this is not known, and the driver appends the same entries again until it is. So appending entries that
///   are there already must be harmless; entries of other keys may come before them and beside them.
/// - A later entry of a key replaces the earlier ones: its record says all that theirs said. What is kept beside the
///   record stays until it is replaced, or is no longer needed: a payload goes when its operation has ended, an answer
///   when it has ended in another way.
/// - [`load`](Store::load) gives the latest durable entry of each key that is not forgotten, in the order in which the
///   keys were first seen.
/// - Damage is an error, never an older state that looks whole.
/// - A client that has lost the journal changes nothing: once another client has it, since a lock was lost or its files
///   were replaced, each call that writes is an error. A store that cannot be lost in this way, such as one in memory,
///   has nothing to do for that.
pub trait Store: Send + 'static {
    /// Makes the entries durable, all or none.
    ///
    /// # Errors
    /// They could not be written, or it is not known whether they were. The driver then sends nothing that depends on
    /// them, and tries again.
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError>;

    /// The latest entry of each key.
    ///
    /// # Errors
    /// They could not be read, or are damaged.
    fn load(&mut self) -> Result<Vec<Entry>, StoreError>;

    /// The latest entry of each key whose outcome was not delivered: what a client goes on with. As
    /// [`load`](Store::load) without the others, and in the same order.
    ///
    /// A store that keeps much should not gather the others first, as this default does; but it must look at them all
    /// the same.
    ///
    /// # Errors
    /// Entries could not be read, or are damaged, including those that are not returned.
    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = self.load()?;
        entries.retain(|entry| !entry.is_delivered());
        Ok(entries)
    }

    /// The latest entry of this key.
    ///
    /// # Errors
    /// It could not be read, or is damaged.
    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError>;

    /// Forgets operations that are [settled](Entry::is_settled) and last changed before this time: at most `most` of
    /// them, the oldest first. Returns how many. An unresolved operation stays until a person knows what became of it.
    ///
    /// # Errors
    /// They could not be removed: none was.
    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError>;

    /// Whether the store was restored from a backup, and no client has started on it since. Clients may have done more,
    /// after that copy was made, than the store says. So a client that starts on it treats operations that are
    /// *planned* there as perhaps sent ([`Entry::doubted`]), makes that durable, and then calls
    /// [`take_into_use`](Store::take_into_use).
    ///
    /// `false` if the store cannot know: then the operator who restores the copy must tell the client
    /// (`from_backup()`). A store that wraps another one must forward both methods, or jobs may run twice: so neither
    /// has a default, which would be easy to miss.
    fn is_backup(&self) -> bool;

    /// Makes durable that a client has started on the store, so that it no longer counts as [restored from a
    /// backup](Store::is_backup).
    ///
    /// # Errors
    /// That could not be noted: the store still counts as restored from a backup.
    fn take_into_use(&mut self) -> Result<(), StoreError>;

    /// Whether [`append`](Store::append) and [`find`](Store::find) may block: on a disk, a network, or a lock that
    /// somebody holds for long. A driver leaves such a store to a thread that may block. Any other store it calls
    /// itself, between two steps, which saves waking that thread for each commit. Some work always goes to a thread:
    /// forgetting, since it may have much to look at; entries of which it is not known whether they are durable; all
    /// work if the program seals what is kept, since that may take its time; and what comes after many commits in a
    /// row.
    ///
    /// The default is `true`. The answer must not change. A store that wraps another one gives that store's answer.
    fn blocks(&self) -> bool {
        true
    }
}

/// Lets a program choose its store at run time: a `Box<dyn Store>` is one.
#[warn(clippy::missing_trait_methods)]
impl<S: Store + ?Sized> Store for Box<S> {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        (**self).append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        (**self).load()
    }

    fn load_live(&mut self) -> Result<Vec<Entry>, StoreError> {
        (**self).load_live()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        (**self).find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        (**self).forget(before, most)
    }

    fn is_backup(&self) -> bool {
        (**self).is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        (**self).take_into_use()
    }

    fn blocks(&self) -> bool {
        (**self).blocks()
    }
}
