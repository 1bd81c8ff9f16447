//! Why a store could not do its work, and what is known of it.

/// Why a store could not do its work. The cause is kept as its [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[error("the journal could not be {action}: {advice}")]
pub struct StoreError {
    action: &'static str,
    advice: &'static str,
    certain: bool,
    source: Box<dyn std::error::Error + Send + Sync>,
}

const ADVICE: &str = "check its disk, permissions and free space";

impl StoreError {
    /// Records could not be written, and certainly none of them was.
    #[must_use]
    pub fn write(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { action: "written", advice: ADVICE, certain: true, source: cause.into() }
    }

    /// Records may have been written or not: a disk that failed while it was flushing, say.
    #[must_use]
    pub fn uncertain(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { certain: false, ..Self::write(cause) }
    }

    /// Records could not be read.
    #[must_use]
    pub fn read(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { action: "read", ..Self::write(cause) }
    }

    /// The same for somebody else, with this in the place of its cause.
    pub(crate) fn again(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: cause.into(), ..*self }
    }

    /// The same, with other advice than to look at the disk.
    #[must_use]
    pub const fn advising(mut self, advice: &'static str) -> Self {
        self.advice = advice;
        self
    }

    /// Whether it is known that nothing changed.
    #[must_use]
    pub const fn is_certain(&self) -> bool {
        self.certain
    }
}
