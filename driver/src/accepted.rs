//! The answer by which the provider took a job on, for callers that follow the job.
//!
//! Some creates answer with more than a reference: the page that a person must open, say. The holder of a handle can
//! have that answer once the acceptance is on disk; if a webhook has reported it first, once that answer has come as
//! well. Only the handles hold it: a job without handles holds none, and it goes with the last handle.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use http::StatusCode;
use oneshot::Sender;
use steadfast_core::{Kind, Reference};

/// The provider has the job.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The provider's id for it.
    pub reference: Reference,
    /// The answer that said so. `None` if there is none at hand: the job was accepted before a restart or while nobody
    /// followed it; or a webhook said so first, and the create that it overtook was not answered, or was not the
    /// first. Then the provider has to be asked, by the reference.
    pub answer: Option<AcceptingAnswer>,
}

/// The answer by which the provider took a job on. Its `Debug` shows the body's length only.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptingAnswer {
    /// Which request it answered: the create, or the look-up that found the job. They differ in shape.
    pub kind: Kind,
    /// The HTTP status.
    pub status: StatusCode,
    /// The decoded body, at most [`Builder::body_limit`](crate::Builder::body_limit) long.
    pub body: Bytes,
}

impl fmt::Debug for AcceptingAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AcceptingAnswer({:?}, {}, {} bytes)", self.kind, self.status, self.body.len())
    }
}

/// The job ended, or its client stopped, before it was known to be accepted. Wait for the job's outcome to learn
/// which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the job ended, or its client stopped, before the provider was known to have it: wait for the job's outcome to \
     learn which"
)]
#[expect(clippy::exhaustive_structs, reason = "a fact, and adapters state it")]
pub struct NotAccepted;

/// What the handles of one job share: the acceptance, once it is known and durable. Until then, ask for it by
/// [`Command::Accepted`](crate::Command::Accepted).
#[derive(Clone, Debug)]
pub struct Acceptance(Arc<OnceLock<Accepted>>);

impl Acceptance {
    /// For a job that has ended, or that only the store knows.
    pub(crate) fn ended(reference: Option<Reference>) -> Self {
        let cell = OnceLock::new();
        if let Some(reference) = reference {
            // It is new.
            let _ = cell.set(Accepted { reference, answer: None });
        }
        Self(Arc::new(cell))
    }

    /// The acceptance, if it is known and durable.
    #[must_use]
    pub fn get(&self) -> Option<&Accepted> {
        self.0.get()
    }
}

/// The driver's side.
#[derive(Default)]
pub(crate) struct Telling {
    handles: Weak<OnceLock<Accepted>>,
    /// The answer that is told once it is durable.
    answer: Option<Box<(Reference, AcceptingAnswer)>>,
    /// `Some` if a webhook was there first, and the request whose answer says more is in the air. Holds whether to ask
    /// at once what else has changed.
    coming: Option<bool>,
    /// Those who wait for it. They are dropped untold if the job ends before, or if the client stops: they learn no
    /// more than [`NotAccepted`], and the job's outcome says which.
    waiting: Vec<Sender<Accepted>>,
}

impl Telling {
    /// For one more handle.
    pub(crate) fn join(&mut self) -> Acceptance {
        let shared = self.handles.upgrade().unwrap_or_default();
        self.handles = Arc::downgrade(&shared);
        Acceptance(shared)
    }

    /// Somebody waits, unless it was told.
    pub(crate) fn wait(&mut self, reply: Sender<Accepted>) {
        match self.handles.upgrade().as_deref().and_then(OnceLock::get) {
            // The caller that asked may have stopped waiting.
            Some(accepted) => drop(reply.send(accepted.clone())),
            None => {
                self.waiting.retain(|waiting| !waiting.is_closed());
                self.waiting.push(reply);
            }
        }
    }

    /// An answer says that the provider has the job. It is kept if there is somebody to tell.
    pub(crate) fn learn(&mut self, reference: &Reference, answer: impl FnOnce() -> AcceptingAnswer) {
        if self.handles.strong_count() > 0 {
            self.answer = Some(Box::new((reference.clone(), answer())));
        }
    }

    /// A webhook was there first: if somebody waits for the answer that is on its way, it is waited for here too.
    /// Returns whether it is.
    pub(crate) fn await_answer(&mut self, changed: bool) -> bool {
        self.coming = self.waiting.iter().any(|waiting| !waiting.is_closed()).then_some(changed);
        self.coming.is_some()
    }

    pub(crate) const fn awaits_answer(&self) -> bool {
        self.coming.is_some()
    }

    /// Its request has ended. If it was waited for, returns whether something else has changed.
    pub(crate) const fn await_no_more(&mut self) -> Option<bool> {
        self.coming.take()
    }

    /// It is durable that the provider has the job under this reference.
    pub(crate) fn tell(&mut self, reference: &Reference) {
        if self.coming.is_some() {
            return;
        }
        let answer = self.answer.take().filter(|answer| answer.0 == *reference).map(|answer| answer.1);
        let Some(handles) = self.handles.upgrade() else { return self.waiting.clear() };
        let accepted = handles.get_or_init(|| Accepted { reference: reference.clone(), answer });
        for reply in self.waiting.drain(..) {
            let _ = reply.send(accepted.clone());
        }
    }
}
