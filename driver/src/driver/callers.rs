//! Callers that follow a job: how they are answered, and how those of one job wait together.

use oneshot::Sender;
use steadfast_core::OperationId;
use steadfast_core::operation::RecordId;

use super::Job;
use super::job::Few;
use crate::accepted::Acceptance;
use crate::finished::{ResumeError, SubmitError, Unread};

/// What follows a job: an adapter makes a caller's handle of it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Following {
    /// The id to cancel the job by. `None` if only the store knows the job.
    pub id: Option<OperationId>,
    /// Receives how the job ended. If its sender is gone, the client has [stopped](crate::Stopped) before that.
    /// Dropping it gives up the outcome, unless the program has a hook for [unclaimed](crate::Builder::unclaimed)
    /// outcomes.
    pub finished: oneshot::Receiver<Unread>,
    /// Tells when the provider has accepted the job, and with which answer.
    pub acceptance: Acceptance,
}

/// A caller that waits to follow a job.
pub(crate) enum Reply {
    Submit(Sender<Result<Following, SubmitError>>),
    Resume(Sender<Result<Following, ResumeError>>),
}

impl Reply {
    /// Returns whether the caller has it: it may have stopped waiting.
    pub(super) fn follow(self, following: Following) -> bool {
        match self {
            Self::Submit(reply) => reply.send(Ok(following)).is_ok(),
            Self::Resume(reply) => reply.send(Ok(following)).is_ok(),
        }
    }

    pub(super) fn follow_finished(self, id: Option<OperationId>, outcome: Unread) {
        let (waiter, finished) = oneshot::channel();
        let acceptance = Acceptance::ended(outcome.reference().cloned());
        let _ = waiter.send(outcome);
        self.follow(Following { id, finished, acceptance });
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Submit(reply) => reply.is_closed(),
            Self::Resume(reply) => reply.is_closed(),
        }
    }

    pub(super) fn refuse(self, why: SubmitError) {
        match self {
            Self::Submit(reply) => drop(reply.send(Err(why))),
            Self::Resume(reply) => drop(reply.send(Err(ResumeError::of_submit(why)))),
        }
    }

    pub(super) fn refuse_resume(self, why: ResumeError) {
        match self {
            Self::Submit(_) => {}
            Self::Resume(reply) => drop(reply.send(Err(why))),
        }
    }
}

/// Makes room for one more. A job may take days, and somebody may ask for it every second: entries whose caller has
/// stopped waiting are removed before the list grows.
fn make_room<T>(waiting: &mut Few<T>, has_stopped: impl Fn(&T) -> bool) {
    if waiting.len() == waiting.capacity() {
        waiting.retain(|one| !has_stopped(one));
        // As many may come before the list is looked through again.
        waiting.reserve(waiting.len());
    }
}

impl<H> Job<H> {
    /// Whether the job is not durable yet, and is with this record: that of its intent, or a later one.
    pub(super) fn rests_on(&self, record: RecordId) -> bool {
        !self.durable && self.intent.is_some_and(|intent| intent <= record)
    }

    /// Keeps the reply until the job is durable.
    pub(super) fn wait(&mut self, reply: Reply) {
        make_room(&mut self.replies, Reply::is_closed);
        self.replies.push(reply);
    }

    pub(super) fn hand_out(&mut self, id: OperationId, reply: Reply) {
        let (waiter, finished) = oneshot::channel();
        make_room(&mut self.waiters, Sender::is_closed);
        self.waiters.push(waiter);
        let acceptance = self.telling.join();
        self.followed |= reply.follow(Following { id: Some(id), finished, acceptance });
    }
}

#[cfg(test)]
mod tests {
    use steadfast_core::operation::Outcome;
    use steadfast_core::{Fingerprint, Key};

    use super::*;
    use crate::finished::Finished;

    /// I15: a caller that submits the key again and again, and stops waiting each time, is not held until the job ends.
    #[test]
    fn those_who_have_stopped_waiting_are_not_held_until_the_job_ends() {
        let mut job = Job::<()>::default();
        let stays = Vec::from_iter((0..3).map(|_| {
            let (reply, taken) = oneshot::channel();
            job.hand_out(id(), Reply::Submit(reply));
            taken
        }));
        for _ in 0..1_000 {
            let (reply, taken) = oneshot::channel();
            job.hand_out(id(), Reply::Submit(reply));
            drop(taken);
            job.wait(Reply::Submit(oneshot::channel().0));
            job.wait(Reply::Resume(oneshot::channel().0));
        }
        assert!(job.waiters.len() < 16 && job.replies.len() < 16, "{} {}", job.waiters.len(), job.replies.len());
        let key = Key::new("order-42").unwrap();
        let finished = Finished { key, outcome: Outcome::Failed, reference: None, creates: 1, answer: None };
        job.waiters.into_iter().for_each(|waiter| drop(waiter.send(Unread::new(finished.clone(), None))));
        for taken in stays {
            assert_eq!(taken.try_recv().unwrap().unwrap().finished.try_recv().unwrap().read(), finished);
        }
    }

    fn id() -> OperationId {
        use steadfast_core::engine::Limits;
        use steadfast_core::{Engine, Gate, OperationPolicy, Seed, Timestamp};
        let mut engine = Engine::new(OperationPolicy::default(), Gate::unlimited(), Limits::default(), Seed::new(7));
        let key = Key::new("order-42").unwrap();
        engine.submit(key, Fingerprint::new([0; 16]), Timestamp::EPOCH).unwrap().id()
    }
}
