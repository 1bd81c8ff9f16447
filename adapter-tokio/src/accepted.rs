//! The answer by which the provider took a job on, for whoever follows the job.
//!
//! Some creates answer with more than a reference: the page that a person must open, say. Whoever holds a [`Handle`](crate::Handle) can have that answer,
//! once the acceptance is on disk. It is held by the handles alone: a job that nobody follows holds none, and with the last handle it goes.

use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::StatusCode;
use steadfast_core::{Kind, Reference};
use tokio::sync::watch;

/// The provider has the job. See [`Handle::accepted`](crate::Handle::accepted).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Accepted {
    /// The provider's id for it.
    pub reference: Reference,
    /// The answer that said so. `None` where there is none at hand: the job was accepted before a restart, while nobody followed it, or by a
    /// webhook. Then the provider has to be asked, by the reference.
    pub answer: Option<AcceptingAnswer>,
}

/// The answer by which the provider took a job on. Its `Debug` shows the body's length only.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AcceptingAnswer {
    /// What it answered: the create, or the look-up that found the job. They differ in shape.
    pub kind: Kind,
    /// The HTTP status.
    pub status: StatusCode,
    /// The decoded body, of [`Builder::body_limit`](crate::Builder::body_limit) at most.
    pub body: Bytes,
}

impl fmt::Debug for AcceptingAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AcceptingAnswer({:?}, {}, {} bytes)", self.kind, self.status, self.body.len())
    }
}

/// The job ended, or its client stopped, before it was known to be accepted. Await the handle to learn which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the job ended, or its client stopped, before the provider was known to have it: await its handle to learn how"
)]
#[non_exhaustive]
pub struct NotAccepted;

type State = Option<Result<Accepted, NotAccepted>>;

/// What the handles of one job share.
#[derive(Clone)]
pub(crate) struct Acceptance(Arc<watch::Sender<State>>);

impl Acceptance {
    /// Of a job that has ended.
    pub(crate) fn ended(reference: Option<Reference>) -> Self {
        let accepted = reference.map(|reference| Accepted { reference, answer: None }).ok_or(NotAccepted);
        Self(Arc::new(watch::Sender::new(Some(accepted))))
    }

    pub(crate) async fn wait(&self) -> Result<Accepted, NotAccepted> {
        let mut state = self.0.subscribe();
        match state.wait_for(Option::is_some).await {
            Ok(state) => state.clone().unwrap_or(Err(NotAccepted)),
            Err(_) => Err(NotAccepted),
        }
    }
}

/// The driver's end. If it is dropped before it has told, the job has ended.
#[derive(Default)]
pub(crate) struct Telling {
    handles: Weak<watch::Sender<State>>,
    /// What is told once it is durable.
    answer: Option<(Reference, AcceptingAnswer)>,
}

impl Telling {
    /// For one more handle.
    pub(crate) fn join(&mut self) -> Acceptance {
        let shared = self.handles.upgrade().unwrap_or_else(|| Arc::new(watch::Sender::new(None)));
        self.handles = Arc::downgrade(&shared);
        Acceptance(shared)
    }

    /// An answer says that the provider has the job. It is kept if there is somebody to tell.
    pub(crate) fn learn(&mut self, reference: &Reference, answer: impl FnOnce() -> AcceptingAnswer) {
        if self.handles.strong_count() > 0 {
            self.answer = Some((reference.clone(), answer()));
        }
    }

    /// It is durable that the provider has the job under this reference.
    pub(crate) fn tell(&mut self, reference: &Reference) {
        let answer = self.answer.take().filter(|(of, _)| of == reference).map(|(_, answer)| answer);
        let Some(handles) = self.handles.upgrade() else { return };
        handles.send_if_modified(|state| {
            let untold = state.is_none();
            if untold {
                *state = Some(Ok(Accepted { reference: reference.clone(), answer }));
            }
            untold
        });
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let Some(handles) = self.handles.upgrade() else { return };
        handles.send_if_modified(|state| {
            let untold = state.is_none();
            state.get_or_insert(Err(NotAccepted));
            untold
        });
    }
}
