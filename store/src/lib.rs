//! Where records are kept.
//!
//! Steadfast's core says *what* must be durable before a request may leave; a [`Store`] makes it so. The trait is synchronous and takes
//! batches, so that it can sit on a thread of its own and whatever queued up while one commit ran goes into the next.
//!
//! [`MemoryStore`] keeps records in memory: for tests, and for programs that accept losing what they knew in a crash.

mod memory;

use steadfast_core::operation::Record;

pub use crate::memory::MemoryStore;

/// A home for records.
///
/// The contract that makes a crash harmless:
///
/// - [`append`](Store::append) returns `Ok` only when all its records would survive a crash, and `Err` when none of them is to be counted on.
/// - A later record of a key replaces the earlier ones: it tells all that they told.
/// - [`load`](Store::load) gives the latest durable record of each key, in the order in which the keys were first seen.
pub trait Store: Send + 'static {
    /// Makes the records durable, all or none.
    ///
    /// # Errors
    /// They could not be written. The driver then sends nothing that depends on them, and tries again.
    fn append(&mut self, records: &[Record]) -> Result<(), StoreError>;

    /// The latest record of each key.
    ///
    /// # Errors
    /// They could not be read, or are damaged.
    fn load(&mut self) -> Result<Vec<Record>, StoreError>;
}

/// Why a store could not do its work. The cause is kept as its [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[error("the journal could not be {action}: check its disk, permissions and free space")]
pub struct StoreError {
    action: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl StoreError {
    /// Records could not be written.
    #[must_use]
    pub fn write(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { action: "written", source: cause.into() }
    }

    /// Records could not be read.
    #[must_use]
    pub fn read(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { action: "read", source: cause.into() }
    }
}
