//! Where records are kept.
//!
//! Steadfast's core says *what* must be durable before a request may leave; a [`Store`] makes it so. The trait is synchronous and takes
//! batches, so that it can sit on a thread of its own and whatever queued up while one commit ran goes into the next.
//!
//! [`SqliteStore`] (feature `sqlite`, on by default) keeps them in a file, which a process that was killed finds again, and in which people can look
//! things up. [`MemoryStore`] keeps records in memory: for tests, and for programs that accept losing what they knew in a crash.

mod entry;
mod error;
mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use steadfast_core::{Key, Timestamp};

pub use crate::entry::{Entry, KeptAnswer};
pub use crate::error::StoreError;
pub use crate::memory::MemoryStore;
#[cfg(feature = "sqlite")]
pub use crate::sqlite::{OpenError, SqliteStore};

/// A home for the records of one client.
///
/// The contract that makes a crash harmless:
///
/// - [`append`](Store::append) returns `Ok` only when all its entries would survive a crash. A [certain](StoreError::is_certain) error says that
///   none of them is there, now or after a restart; any other error says that nobody knows, and the driver appends the same entries again until
///   somebody does. So appending what is there already must be harmless, and is.
/// - A later entry of a key replaces the earlier ones: its record tells all that they told. What is kept beside the record stays until it is
///   replaced, or is no longer needed: a payload goes when its operation has ended.
/// - [`load`](Store::load) gives the latest durable entry of each key that is not forgotten, in the order in which the keys were first seen.
/// - Damage is an error, never an older state that looks whole.
pub trait Store: Send + 'static {
    /// Makes the entries durable, all or none.
    ///
    /// # Errors
    /// They could not be written, or nobody knows whether they were. The driver then sends nothing that depends on them, and tries again.
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError>;

    /// The latest entry of each key.
    ///
    /// # Errors
    /// They could not be read, or are damaged.
    fn load(&mut self) -> Result<Vec<Entry>, StoreError>;

    /// The latest entry of each key whose outcome was not delivered: what a client goes on with. As [`load`](Store::load) without the others,
    /// and in the same order.
    ///
    /// A store that keeps much should not gather the others first, as this default does; but it looks at them all the same.
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

    /// Forgets operations that are [settled](Entry::is_settled) and have not changed since before this time: at most so many, the oldest first. Tells how
    /// many. What is unresolved stays until a person knows what became of it.
    ///
    /// # Errors
    /// They could not be removed. None was.
    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError>;
}
