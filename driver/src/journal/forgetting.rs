//! When ended operations are forgotten, and how many at a time.
//!
//! Nothing is written meanwhile, so only a few are forgotten at a time, between two commits. But not fewer than are
//! added: a slow disk makes for large commits, several drivers may share one, and the store would grow for as long as
//! they are that busy.

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
    /// How many write to the same store, each of which is assumed to write as much.
    writers: usize,
    /// How many entries the last commit had, if it was after the last time.
    written: usize,
    /// How many were to go the last time.
    most: usize,
}

impl Forgetting {
    /// Forgets from now on.
    pub(super) const fn new(remember_for: Duration, now: Timestamp) -> Self {
        Self { remember_for, at: now, writers: 1, written: 0, most: MOST }
    }

    /// Forgets for this many writers of the same store.
    pub(super) fn shared_by(self, writers: usize) -> Self {
        Self { writers, ..self }
    }

    /// Never forgets: another writer of the same store does.
    pub(super) fn by_another(self) -> Self {
        Self { at: Timestamp::NEVER, ..self }
    }

    /// Notes that this many entries were written.
    pub(super) const fn note(&mut self, entries: usize) {
        if entries > 0 {
            self.written = entries;
        }
    }

    /// What to forget now. An operation is at least two entries, so more go than came.
    pub(super) fn begin(&mut self, now: Timestamp) -> Forget {
        self.most = std::mem::take(&mut self.written).saturating_mul(self.writers).max(MOST);
        Forget { before: now.saturating_sub(self.remember_for), most: self.most }
    }

    /// Notes what came of it.
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
