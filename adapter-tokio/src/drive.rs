//! The loop around the driver: one task feeds it and carries out what it says.
//!
//! It is the loop of `steadfast-driver`'s front page with tokio's pieces: requests become spawned tasks, the store's work goes to the blocking pool (which
//! also keeps a paused clock from running ahead of it), channels bring back what came of them, one timer wakes it. No lock is held, and nothing but this
//! task touches the driver.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Response;
use steadfast_driver::{
    Answered, Command, Driver, Outgoing, Posted, Renewed, SendError, Sending, Submit, Task, Worked,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::transport::Transport;

/// How many events of a kind are taken in before effects are carried out: enough to batch, few enough to stay responsive.
const BATCH: usize = 64;

/// What comes from clients.
pub(crate) struct Inputs {
    pub(crate) submits: mpsc::Receiver<Submit>,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    pub(crate) posts: mpsc::Receiver<Posted>,
}

struct Loop<T> {
    driver: Driver<JoinHandle<()>>,
    clock: Clock,
    transport: Arc<T>,
    answered: mpsc::UnboundedSender<Answered>,
    /// What the store has done.
    worked: mpsc::UnboundedReceiver<Worked>,
    works: mpsc::UnboundedSender<Worked>,
    /// What the program does to renew its credentials.
    renewal: Option<JoinHandle<()>>,
    renewed: mpsc::UnboundedSender<Renewed>,
}

/// Until the last client is gone or has shut it down.
pub(crate) async fn drive<T: Transport>(
    driver: Driver<JoinHandle<()>>,
    clock: Clock,
    transport: Arc<T>,
    inputs: Inputs,
) {
    let Inputs { mut submits, mut commands, mut posts } = inputs;
    let (answered, mut answers) = mpsc::unbounded_channel();
    let (renewed, mut renewals) = mpsc::unbounded_channel();
    let (works, worked) = mpsc::unbounded_channel();
    let mut this = Loop { driver, clock, transport, answered, worked, works, renewal: None, renewed };
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    let (mut submits_open, mut commands_open) = (true, true);
    loop {
        this.perform_tasks();
        if this.driver.is_over() {
            break;
        }
        if this.driver.is_closed() {
            submits.close();
            posts.close();
            if let Some(worked) = this.worked.recv().await {
                let now = this.clock.now();
                this.driver.worked(worked, now);
            }
            continue;
        }
        let wake = this.clock.wake_at(this.driver.next_deadline());
        if timer.deadline() != wake {
            timer.as_mut().reset(wake);
        }
        let has_room = this.driver.has_room();
        tokio::select! {
            // In this order, so that a paused clock gives the same run each time: what is known before what is new, time last.
            biased;
            command = commands.recv(), if commands_open => match command {
                Some(command) => {
                    let now = this.clock.now();
                    this.driver.command(command, now);
                }
                None => commands_open = false,
            },
            Some(worked) = this.worked.recv() => {
                let now = this.clock.now();
                this.driver.worked(worked, now);
            }
            Some(renewed) = renewals.recv() => {
                let now = this.clock.now();
                this.driver.renewed(renewed, now);
            }
            Some(first) = answers.recv() => {
                let now = this.clock.now();
                this.driver.answered(first, now);
            }
            Some(first) = posts.recv() => {
                let now = this.clock.now();
                this.driver.deliver(first, now);
            }
            submit = submits.recv(), if submits_open && has_room => match submit {
                Some(first) => {
                    let now = this.clock.now();
                    this.driver.submit(first, now);
                }
                None => submits_open = false,
            },
            () = &mut timer => {}
        }
        this.take_in_more(&mut answers, &mut posts, &mut submits);
        if !submits_open && !commands_open {
            this.driver.abandon();
        }
        // Whatever woke us, time may have made something due: a flood of answers must not starve a deadline.
        let now = this.clock.now();
        this.driver.handle_timeout(now);
    }
}

impl<T> Drop for Loop<T> {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }
}

impl<T: Transport> Loop<T> {
    /// What else has come meanwhile: one turn is for all of it, up to a bound, since a turn costs more than what it takes in.
    fn take_in_more(
        &mut self,
        answers: &mut mpsc::UnboundedReceiver<Answered>,
        posts: &mut mpsc::Receiver<Posted>,
        submits: &mut mpsc::Receiver<Submit>,
    ) {
        let now = self.clock.now();
        for _ in 0..BATCH {
            let Ok(answered) = answers.try_recv() else { break };
            self.driver.answered(answered, now);
            self.keep_busy();
        }
        for _ in 0..BATCH {
            let Ok(posted) = posts.try_recv() else { break };
            self.driver.deliver(posted, now);
            self.keep_busy();
        }
        for _ in 0..BATCH {
            if !self.driver.has_room() {
                break;
            }
            let Ok(submit) = submits.try_recv() else { break };
            self.driver.submit(submit, now);
            self.keep_busy();
        }
    }

    fn perform_tasks(&mut self) {
        let now = self.clock.now();
        while let Some(task) = self.driver.pop_task(now) {
            self.perform(task);
            self.keep_busy();
        }
    }

    fn perform(&mut self, task: Task<JoinHandle<()>>) {
        match task {
            Task::Send(sending) => self.send(*sending),
            Task::Abort(id) => {
                if let Some(request) = self.driver.request(id) {
                    request.abort();
                }
            }
            Task::Renew(renewing) => {
                let renewed = self.renewed.clone();
                let renewal = tokio::spawn(async move {
                    let _ = renewed.send(renewing.run().await);
                });
                if let Some(earlier) = self.renewal.replace(renewal) {
                    earlier.abort();
                }
            }
            Task::Work(work) => {
                let works = self.works.clone();
                tokio::task::spawn_blocking(move || {
                    // Nobody hears it once the loop is gone.
                    let last = work.run(|worked| drop(works.send(worked)));
                    let _ = works.send(last);
                });
            }
            _ => {}
        }
    }

    /// Sends a request on a task of its own, which brings back what came of it.
    fn send(&mut self, sending: Sending<JoinHandle<()>>) {
        let id = sending.id();
        let Sending { outgoing, previous, reader, .. } = sending;
        let (transport, answered) = (self.transport.clone(), self.answered.clone());
        let request = tokio::spawn(async move {
            if let Some(previous) = previous {
                // An abandoned request is gone before the next one of its job leaves.
                let _ = previous.await;
            }
            let came = carry(&*transport, outgoing).await;
            let _ = answered.send(reader.read(came, SystemTime::now().into()));
        });
        self.driver.sent(id, request);
    }

    /// What queued up while a commit ran is written while what it allows is carried out.
    fn keep_busy(&mut self) {
        while let Ok(worked) = self.worked.try_recv() {
            let now = self.clock.now();
            self.driver.worked(worked, now);
            if let Some(task) = self.driver.pop_task(now) {
                self.perform(task);
            }
        }
    }
}

/// A transport that panics has sent something, perhaps.
async fn carry<T: Transport>(transport: &T, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
    let mut sending = pin!(async { transport.send(outgoing).await });
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| sending.as_mut().poll(context))).unwrap_or_else(|_| {
            tracing::error!("the transport panicked: what became of its request is not known");
            Poll::Ready(Err(SendError::ambiguous().because("the transport panicked")))
        })
    })
    .await
}
