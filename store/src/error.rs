//! Why a store could not do its work, and whether anything may have changed.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Why a store could not do its work. The cause is kept as its [`source`](std::error::Error::source), and clones share
/// it.
#[derive(Clone, Debug)]
pub struct StoreError {
    action: &'static str,
    advice: &'static str,
    certain: bool,
    source: Arc<dyn Error + Send + Sync>,
}

const ADVICE: &str = "check its disk, permissions, free space and any limit on the size of its files";

impl StoreError {
    /// Records could not be written, and certainly none of them was.
    #[must_use]
    pub fn write(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { action: "written", advice: ADVICE, certain: true, source: cause.into().into() }
    }

    /// Records may or may not have been written: a disk that failed while it was flushing, for example.
    #[must_use]
    pub fn uncertain(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { certain: false, ..Self::write(cause) }
    }

    /// Records could not be read.
    #[must_use]
    pub fn read(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { action: "read", ..Self::write(cause) }
    }

    /// Replaces the default advice, to look at the disk.
    #[must_use]
    pub const fn advising(mut self, advice: &'static str) -> Self {
        self.advice = advice;
        self
    }

    /// Whether it is certain that nothing changed.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        self.certain
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the journal could not be {}: {}", self.action, self.advice)
    }
}

/// The source is the cause itself, so that it can be downcast: a derived implementation would return the shared pointer
/// instead.
impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
