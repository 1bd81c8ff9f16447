//! Where a job stands. Asking sends nothing, claims no outcome, and needs no payload.
//!
//! Only what is durable is told, except why the job waits. So if a job's latest step is still being written, the store
//! is asked, which has the step before.

use std::sync::Arc;

use oneshot::Sender;
use steadfast_core::explain::Span;
use steadfast_core::notice::WakeReason;
use steadfast_core::operation::{Outcome, Record, Stage};
use steadfast_core::retry::Class;
use steadfast_core::{Key, Reference, Timestamp};
use steadfast_store::{Entry, StoreError};

use super::Driver;
use super::intake::{MOST_ASKING, Question};
use crate::finished::SubmitError;

/// Where a job stands. Its timestamps become a [`SystemTime`](std::time::SystemTime) by `into`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobStatus {
    /// How far it has come, as it stands in the journal.
    pub stage: Stage,
    /// The provider's id for it, if it is known.
    pub reference: Option<Reference>,
    /// When it was first submitted.
    pub submitted: Timestamp,
    /// When its next request may leave, or the one in flight is given up. `None` if the job has ended, or if something
    /// must be written or a payload brought first.
    pub due: Option<Timestamp>,
    /// What it waits for until then: [`Gate`](WakeReason::Gate) says that the breaker or a limit holds it back. `None`
    /// where there is no `due`, and for a job that only the store knows.
    pub waits_for: Option<WakeReason>,
    /// How its latest request that was answered, or given up, failed: why the job still waits. `None` if that request
    /// succeeded, if there was none since a restart, or if the job has ended. Kept in memory only.
    pub last_failure: Option<Class>,
    /// Create attempts made.
    pub creates: u16,
    /// Polls that the provider answered with *pending*, less one for each poll that a webhook brought forward, which
    /// takes none of the schedule's. For a job that is not under way, as many as its last record tells.
    pub polls: u16,
    /// Whether it was under way before a restart and waits for its key to be submitted again with the payload, until
    /// its create deadline at most.
    pub needs_payload: bool,
}

impl JobStatus {
    fn of(record: Record) -> Self {
        let Record { stage, reference, submitted, due, creates, polls, .. } = record;
        let due = due.filter(|_| !matches!(stage, Stage::Ended(_) | Stage::Delivered(_)));
        Self {
            stage,
            reference,
            submitted,
            due,
            waits_for: None,
            last_failure: None,
            creates,
            polls,
            needs_payload: false,
        }
    }

    /// How it ended; `None` if it has not. Submit the key again for its result.
    #[must_use]
    pub const fn outcome(&self) -> Option<Outcome> {
        match self.stage {
            Stage::Ended(outcome) | Stage::Delivered(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// Where it stands and why it still waits, as a sentence for a person. It holds no personal data, and not the
    /// reference.
    ///
    /// ```no_run
    /// # use steadfast_driver::JobStatus;
    /// # fn page(status: JobStatus) -> String {
    /// status.explain(std::time::SystemTime::now().into())
    /// # }
    /// // the provider has the job: next poll in 27 s; the latest request was throttled
    /// ```
    #[must_use]
    pub fn explain(&self, now: Timestamp) -> String {
        if let Some(outcome) = self.outcome() {
            return format!("{}: {}", outcome.name(), outcome.explain());
        }
        if self.needs_payload {
            return "interrupted by a restart: it goes on if its key is submitted again with the payload".into();
        }
        let mut text = String::from(match self.stage {
            Stage::Planned => "nothing has run yet",
            Stage::InFlight => "a create may be at the provider",
            Stage::Unknown => "a create may have run, and that is being found out",
            Stage::Accepted => "the provider has the job",
            _ => "under way",
        });
        if let Some((reason, due)) = self.waits_for.zip(self.due) {
            let left = Span(due.saturating_since(now));
            text += &match reason {
                WakeReason::Create => format!(": next create in {left}"),
                WakeReason::Lookup => format!(": next look-up in {left}"),
                WakeReason::Poll => format!(": next poll in {left}"),
                WakeReason::Gate => {
                    ": held back, since the provider is in trouble, a limit is reached, or somebody said so".into()
                }
                WakeReason::AttemptTimeout => format!(": up to {left} for an answer"),
                WakeReason::PersistRetry => format!(": its record could not be written, tried again in {left}"),
                _ => String::new(),
            };
        }
        if let Some(class) = self.last_failure {
            text += "; the latest request ";
            text += class.explain();
        }
        text
    }
}

/// Why the driver could not tell where a job stands.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The journal could not be read, or holds the key as a job of another provider.
    #[error("the journal could not say where the job stands: do as the cause says, then ask again")]
    Journal(#[source] Arc<StoreError>),
    /// Too many questions wait for the journal already: its disk is slow, or it hangs.
    #[error("the journal is slow, and too many questions are waiting for it: ask again in a few seconds")]
    Busy,
    /// The client was shut down, or its runtime is ending.
    #[error("the client has stopped: ask another client on the same journal")]
    Stopped,
}

impl StatusError {
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

/// Where a status goes.
pub(crate) type Asker = Sender<Result<Option<JobStatus>, StatusError>>;

impl<H> Driver<H> {
    pub(super) fn status(&mut self, key: Key, reply: Asker) {
        let known = self.known_status(&key);
        if known.is_some() || self.journal.is_volatile() {
            let _ = reply.send(Ok(known));
        } else if self.journal.asking() >= MOST_ASKING {
            let _ = reply.send(Err(StatusError::Busy));
        } else {
            self.journal.ask(Question::Status { key, reply });
        }
    }

    /// The status, if it is durable and known without the store.
    fn known_status(&self, key: &Key) -> Option<JobStatus> {
        let id = self.engine.find(key)?;
        let operation = self.engine.operation(id).filter(|operation| operation.is_durable())?;
        let mut record = operation.record();
        if let Stage::Delivered(outcome) = record.stage
            && self.unclaimed.contains(id)
        {
            // The engine has nothing left to do for it, but nobody has the outcome.
            record.stage = Stage::Ended(outcome);
        }
        let mut status = JobStatus::of(record);
        if status.outcome().is_none() {
            status.waits_for = operation.next_wake().map(|wake| wake.reason);
            status.last_failure = operation.last_failure();
        }
        Some(status)
    }

    pub(super) fn looked_up_status(&self, key: &Key, found: Option<Box<Entry>>, reply: Asker) {
        // It may have been written, or taken up, meanwhile.
        let known = self.known_status(key);
        let mut status = known.or_else(|| found.map(|entry| JobStatus::of(entry.record)));
        if let Some(status) = status.as_mut().filter(|_| self.parked.contains(key)) {
            // A look-up may have found that nothing ran, and that may not be on disk yet: so the stage is what the disk
            // says.
            (status.due, status.needs_payload) = (None, true);
        }
        let _ = reply.send(Ok(status));
    }
}
