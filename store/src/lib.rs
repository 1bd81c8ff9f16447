//! Where records are kept, so that a crash loses nothing.
//!
//! Steadfast carries jobs at asynchronous APIs to their outcome. Its core says *what* must be durable before a request
//! may leave, an answer may be acted on, or an outcome may be told; a [`Store`] makes it so. Clients take one with
//! `Builder::store`, and go on at their next start with what it holds.
//!
//! - [`SqliteStore`] (feature `sqlite`, on by default) keeps records in a file, which a process that was killed finds
//!   again, and in which people can look things up. It needs a C compiler.
//! - [`MemoryStore`] keeps them in memory: for tests, and for programs that accept losing what they knew in a crash.
//! - [`CombinedStore`] is one of them for several writers at a time, whose entries go to disk together: for a client on
//!   several cores.
//! - Your own implements [`Store`], which is synchronous and takes batches, so that it can sit on a thread of its own
//!   and whatever queued up while one commit ran goes into the next. `steadfast_testkit::journal_kit` holds it to the
//!   contract.
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

/// A home for the records of one client.
///
/// The contract that makes a crash harmless:
///
/// - [`append`](Store::append) returns `Ok` only when all its entries would survive a crash. A
///   [certain](StoreError::is_certain) error says that none of them is there, now or after a restart; any other error
///   says that nobody knows, and the driver appends the same entries again until somebody does. So appending what is
///   there already must be harmless, and is; other entries, of other keys, may come before it and beside it.
/// - A later entry of a key replaces the earlier ones: its record tells all that they told. What is kept beside the
///   record stays until it is replaced, or is no longer needed: a payload goes when its operation has ended, an answer
///   when it has ended in another way.
/// - [`load`](Store::load) gives the latest durable entry of each key that is not forgotten, in the order in which the
///   keys were first seen.
/// - Damage is an error, never an older state that looks whole.
/// - Whoever was overtaken changes nothing: once another has the journal, since a lock was lost or its files were
///   replaced, each call that writes is an error. A store that cannot be overtaken, such as one in memory, has nothing
///   to do for that.
pub trait Store: Send + 'static {
    /// Makes the entries durable, all or none.
    ///
    /// # Errors
    /// They could not be written, or nobody knows whether they were. The driver then sends nothing that depends on
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
    /// A store that keeps much should not gather the others first, as this default does; but it looks at them all the
    /// same.
    ///
    /// # Errors
    /// Entries could not be read, or are damaged: those that are not given count as well.
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

    /// Forgets operations that are [settled](Entry::is_settled) and have not changed since before this time: at most so
    /// many, the oldest first. Tells how many. What is unresolved stays until a person knows what became of it.
    ///
    /// # Errors
    /// They could not be removed. None was.
    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError>;

    /// Whether it was put back from a copy, and no client has begun on it since: of what it says, later processes may
    /// have done more. A client that starts on one takes what it calls *planned* for perhaps sent ([`Entry::doubted`]),
    /// has that made durable, and then says so ([`take_into_use`](Store::take_into_use)).
    ///
    /// `false` where the store cannot know: then whoever puts a copy back tells the client (`from_backup()`). A store
    /// that wraps another one hands both on, or jobs may run twice: so neither has a default that could be forgotten.
    fn is_backup(&self) -> bool;

    /// It is [put back](Store::is_backup) no more, and that is durable: a client has begun on it.
    ///
    /// # Errors
    /// That could not be noted. It is still one.
    fn take_into_use(&mut self) -> Result<(), StoreError>;

    /// Whether [`append`](Store::append) and [`find`](Store::find) may wait: for a disk, a network, or a lock that
    /// somebody holds for long. A driver has such a store worked on by a thread that may block; another one it works on
    /// itself, between two steps, which saves waking that thread for each commit. Forgetting is always left to a
    /// thread, since it may have much to look at; so are entries of which nobody knows whether they are there, all work
    /// where a program seals what is kept, since that may take its time, and what comes after many commits in a row.
    ///
    /// `true` unless the store says otherwise. It must not change. A store that wraps another one says what that says.
    fn blocks(&self) -> bool {
        true
    }
}
