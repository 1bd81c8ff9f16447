//! When ended operations are forgotten, and how many at a time.
//!
//! While they are, nothing is written: so it is few at a time, between two commits. But not fewer than come: a slow
//! disk makes for large commits, and several drivers share one, and what is kept would grow for as long as there is
//! that much to do.

use std::time::Duration;

use steadfast_core::Timestamp;
use steadfast_store::StoreError;

use super::work::Forget;

/// How often ended operations are forgotten.
const EVERY: Duration = Duration::from_secs(60);

/// How many go at a time, if no more than that were written: less than a millisecond's work.
const MOST: usize = 256;

pub(super) struct Forgetting {
    remember_for: Duration,
    /// When some are forgotten next.
    pub(super) at: Timestamp,
    /// How many write to the same store, each of which is taken to write as much.
    writers: usize,
    /// How many entries the last commit had, if it was after the last time.
    written: usize,
    /// How many were to go the last time.
    most: usize,
}

impl Forgetting {
    /// From now on.
    pub(super) const fn new(remember_for: Duration, now: Timestamp) -> Self {
        Self { remember_for, at: now, writers: 1, written: 0, most: MOST }
    }

    /// For so many writers of the same store.
    pub(super) fn shared_by(self, writers: usize) -> Self {
        Self { writers, ..self }
    }

    /// Never: another writer of the same store does.
    pub(super) fn by_another(self) -> Self {
        Self { at: Timestamp::NEVER, ..self }
    }

    /// So many entries were written.
    pub(super) const fn note(&mut self, entries: usize) {
        if entries > 0 {
            self.written = entries;
        }
    }

    /// What is to go now. An operation is two entries at least, so it is more than came.
    pub(super) fn begin(&mut self, now: Timestamp) -> Forget {
        self.most = std::mem::take(&mut self.written).saturating_mul(self.writers).max(MOST);
        Forget { before: now.saturating_sub(self.remember_for), most: self.most }
    }

    /// What came of it.
    pub(super) fn done(&mut self, forgot: Result<usize, StoreError>, now: Timestamp) {
        let wait = match forgot {
            Ok(gone) if gone >= self.most => Duration::ZERO,
            Ok(_) => EVERY,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "old operations could not be forgotten: later again"
                );
                EVERY
            }
        };
        self.at = now.saturating_add(wait);
    }
}
