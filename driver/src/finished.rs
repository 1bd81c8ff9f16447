//! What a program is told of its jobs: how they ended, or why they were not taken in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::StatusCode;
use steadfast_core::engine;
use steadfast_core::operation::{Outcome, Stage, Unresolved};
use steadfast_core::{Key, Reference};
use steadfast_store::StoreError;

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finished {
    /// The caller's name for the job.
    pub key: Key,
    /// How the job ended.
    pub outcome: Outcome,
    /// The provider's id for it, if it became known.
    pub reference: Option<Reference>,
    /// Create attempts made.
    pub creates: u16,
    /// The provider's last answer; for a completed job, its result. `None` if there was none, or if it was dropped to
    /// stay within [`Builder::results_limit`](crate::Builder::results_limit). That may happen to a job that ended long
    /// ago, or to one that ended without an answer that says so, by its deadline for instance.
    pub answer: Option<FinalAnswer>,
}

impl Finished {
    /// The final body of a completed job; empty if there is none.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.answer.as_ref().map_or(&[], |answer| &answer.body)
    }
}

/// How a job ended, not yet [read](Unread::read).
///
/// If it is dropped unread, as with a handle that is dropped at that very moment, it goes back to the [function that
/// takes such outcomes](crate::Driver::give_back_to), if there is one. If several handles were told together, the last
/// of them gives it back, and only if none was read.
#[must_use = "`read` it: an outcome that is dropped counts as not read"]
pub struct Unread(Arc<Told>);

/// What all have in common who are told together.
struct Told {
    finished: Finished,
    back: Option<Back>,
    read: AtomicBool,
}

/// Takes outcomes that nobody has read, on whichever thread drops them.
pub(crate) type Back = Arc<dyn Fn(Finished) + Send + Sync>;

impl Unread {
    pub(crate) fn new(finished: Finished, back: Option<Back>) -> Self {
        Self(Arc::new(Told { finished, back, read: AtomicBool::new(false) }))
    }

    /// For one more who is told.
    pub(crate) fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// If nobody has it any more, and nobody has read it: it stays with the driver, which need not be given it back.
    pub(crate) fn untold(self) -> Option<Finished> {
        let mut told = Arc::into_inner(self.0)?;
        told.back = None;
        (!*told.read.get_mut()).then(|| told.finished.clone())
    }

    pub(crate) fn reference(&self) -> Option<&Reference> {
        self.0.finished.reference.as_ref()
    }

    /// Reads how it ended. From here on the reader is responsible for it: it is not given back.
    #[must_use]
    pub fn read(self) -> Finished {
        self.0.read.store(true, Ordering::Relaxed);
        self.0.finished.clone()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(back) = self.back.take().filter(|_| !*self.read.get_mut()) {
            back(self.finished.clone());
        }
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unread").field(&self.0.finished).finish()
    }
}

/// The provider's last answer. Its `Debug` shows the body's length only.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FinalAnswer {
    /// The HTTP status. For a result that came with a webhook it is 200, as for a poll's answer with that body.
    pub status: StatusCode,
    /// The decoded body.
    pub body: Bytes,
}

impl fmt::Debug for FinalAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FinalAnswer({}, {} bytes)", self.status, self.body.len())
    }
}

/// A job that had not ended when its client was shut down.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// The caller's name for it.
    pub key: Key,
    /// The provider's id for it, if it became known.
    pub reference: Option<Reference>,
    /// How far it had come.
    pub stage: Stage,
}

/// Why a job was not taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The key belongs to a job with another payload. (Not that there is no room: a client waits for that. Only an
    /// adapter that [submits](crate::Driver::submit) without looking for room is refused for it.)
    #[error(transparent)]
    Refused(#[from] engine::SubmitError),
    /// The intent could not be made durable, so nothing was sent. The cause is its source.
    #[error(
        "the job was not taken in, since its intent could not be written to the journal: do as the cause says \
         (check its disk, permissions, free space and any limit on the size of its files), then submit again"
    )]
    NotDurable(#[source] Arc<StoreError>),
    /// It is not known whether the intent is durable, and the store can no longer be asked. Nothing was sent.
    #[error(
        "nobody knows whether the job's intent was written to the journal, and nothing was sent: \
         restart on the same journal, then submit the same key again"
    )]
    Uncertain(#[source] Arc<StoreError>),
    /// The store could not tell whether it has this key already, or holds it as a job of another provider, so nothing
    /// was sent. The cause says what to do.
    #[error(
        "the job was not taken in, since the journal could not say what it knows of this key, and nothing was sent: \
         do as the cause says, then submit again"
    )]
    Unreadable(#[source] Arc<StoreError>),
    /// The client was shut down, or its runtime is ending.
    #[error(
        "the client has stopped, and nothing was sent for this submit: submit it again to a client that is running"
    )]
    Stopped,
}

/// Why a client's `call`, which submits a job and waits for its end, gave no outcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The job was not taken in.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The client stopped before the job ended.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why a job was not resumed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// Neither this client nor its store knows the key: it was never submitted here, nothing ran, or it ended longer
    /// ago than [`Limits::remember_for`](engine::Limits::remember_for).
    #[error(
        "no job with this key is known here: submit it if it is new; ask the provider if it is older than the journal"
    )]
    UnknownKey,
    /// It ended as unresolved before the provider gave a reference to poll.
    #[error(
        "this job has no reference to ask for ({}): ask the provider whether it ran, and never submit it under a new key before you know",
        explain(.0)
    )]
    NoReference(Unresolved),
    /// The job waits for its payload.
    #[error("this job was under way before a restart and waits for its payload: submit the same key and payload again")]
    PayloadNeeded,
    /// The journal could not be read or written. Once it can be written again, or if its error is not
    /// [certain](StoreError::is_certain) after a restart, the job may go on all the same: resume it again to follow it.
    #[error("the job was not resumed, since the journal could not be used: do as the cause says, then resume again")]
    Journal(#[source] Arc<StoreError>),
    /// Too many questions wait for the journal already: its disk is slow, or it hangs.
    #[error(
        "the job was not resumed, since the journal is slow and too many wait for it: resume it again in a few seconds"
    )]
    Busy,
    /// The client was shut down, or its runtime is ending.
    #[error(
        "the client has stopped, so the job may not have been resumed: start a client on the same store and resume it again"
    )]
    Stopped,
}

const fn explain(why: &Unresolved) -> &'static str {
    Outcome::Unresolved(*why).explain()
}

impl ResumeError {
    /// No `From`: by `?` a program's own refused submit would become a client that has stopped.
    pub(crate) fn of_submit(error: SubmitError) -> Self {
        match error {
            SubmitError::NotDurable(error) | SubmitError::Uncertain(error) | SubmitError::Unreadable(error) => {
                Self::Journal(error)
            }
            SubmitError::Refused(_) | SubmitError::Stopped => Self::Stopped,
        }
    }
}

/// The client stopped before the job ended. The job is not lost: with a store, a later client takes it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the client stopped before the job ended: start a client on the same store and submit the key again to follow it"
)]
#[expect(clippy::exhaustive_structs, reason = "a fact, and adapters state it")]
pub struct Stopped;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn what_nobody_read_goes_back_also_out_of_a_channel() {
        let back = Arc::new(Mutex::new(Vec::new()));
        let unread = |name| {
            let key = Key::new(name).unwrap();
            let finished = Finished { key, outcome: Outcome::Failed, reference: None, creates: 1, answer: None };
            let back = back.clone();
            Unread::new(finished, Some(Arc::new(move |finished: Finished| back.lock().unwrap().push(finished.key))))
        };
        assert_eq!(unread("read").read().key.as_str(), "read");
        drop(unread("dropped"));
        let (teller, told) = oneshot::channel();
        teller.send(unread("sent")).unwrap();
        drop(told);
        assert_eq!(back.lock().unwrap().iter().map(Key::as_str).collect::<Vec<_>>(), ["dropped", "sent"]);
    }
}
