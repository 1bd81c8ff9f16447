//! A process's life: the points that it passes, and at which of them it dies.
//!
//! Its *steps* are all of them: each call of its store, each request, each answer, and whatever its client tells of,
//! such as a wait that begins, an answer that was understood or a job that ended. A wait that is over shows in what
//! follows it.

use std::sync::{Arc, Mutex, MutexGuard};

use steadfast_core::Kind;
use tokio::sync::Notify;

/// A moment in a process's life. Commits are counted from 1, in each process anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// It has the store, and has read nothing yet.
    Opened,
    /// It is about to read all that the store has, or what it has of a key.
    BeforeRead,
    BeforeCommit(u32),
    /// It is durable, and the process does not hear of it.
    AfterCommit(u32),
    /// Old operations are about to be forgotten.
    BeforeForget,
    AfterForget,
    /// Some of its bytes may have left; the provider does nothing.
    BeforeSend(Kind),
    /// The provider has done what was asked; the process does not hear of it.
    AfterSend(Kind),
    /// The client has told its observer something.
    Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    Never,
    At(Point),
    /// At the point of this number, from 1.
    Step(u32),
}

/// Whether a process lives, and when it is to die. Clones share it.
#[derive(Clone)]
pub(crate) struct Life {
    state: Arc<(Mutex<State>, Notify)>,
}

struct State {
    crash: Crash,
    alive: bool,
    steps: u32,
    /// Whether it has changed what is on disk.
    has_written: bool,
    /// From which commit on the disk is full.
    full_at: u32,
}

impl Life {
    pub(crate) fn new(crash: Crash) -> Self {
        let state = State { crash, alive: true, steps: 0, has_written: false, full_at: u32::MAX };
        Self { state: Arc::new((Mutex::new(state), Notify::new())) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    /// Steps are counted from now on.
    pub(crate) fn set_crash(&self, crash: Crash) {
        let mut state = self.state();
        (state.crash, state.steps) = (crash, 0);
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.state().alive
    }

    /// Whether it is the same process.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    pub(crate) fn has_written(&self) -> bool {
        self.state().has_written
    }

    pub(crate) fn is_disk_full(&self, commit: u32) -> bool {
        self.state().full_at <= commit
    }

    /// From the commit of this number on the disk is full.
    pub(crate) fn fill_disk_at(&self, commit: u32) {
        self.state().full_at = commit;
    }

    pub(crate) fn make_room(&self) {
        self.fill_disk_at(u32::MAX);
    }

    pub(crate) fn kill(&self) {
        self.state().alive = false;
        self.state.1.notify_waiters();
    }

    pub(crate) async fn died(&self) {
        let notified = self.state.1.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if self.is_alive() {
            notified.await;
        }
    }

    /// Tells whether it lives beyond this point.
    pub(crate) fn passes(&self, point: Point) -> bool {
        let mut state = self.state();
        state.steps += 1;
        state.has_written |= matches!(point, Point::AfterCommit(_) | Point::AfterForget);
        let dies = match state.crash {
            Crash::Never => false,
            Crash::At(at) => at == point,
            Crash::Step(step) => step == state.steps,
        };
        let lives = state.alive && !dies;
        drop(state);
        if !lives {
            self.kill();
        }
        lives
    }
}
