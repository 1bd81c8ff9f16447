//! The loop around the driver: one task feeds it and carries out what it says.
//!
//! It is the loop of `steadfast-driver`'s front page with tokio's pieces: requests become spawned tasks, the store's work goes to the blocking pool (which
//! also keeps a paused clock from running ahead of it), channels bring back what came of them, one timer wakes it. No lock is held, and nothing but this
//! task touches the driver.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
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
    /// What the store does.
    work: Option<JoinHandle<Worked>>,
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
    let mut this = Loop { driver, clock, transport, answered, work: None, renewal: None, renewed };
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
            let worked = this.worked().await;
            let now = this.clock.now();
            this.driver.worked(worked, now);
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
            worked = this.worked() => {
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
                for _ in 1..BATCH {
                    let Ok(answered) = answers.try_recv() else { break };
                    this.driver.answered(answered, now);
                    this.keep_busy();
                }
            }
            Some(first) = posts.recv() => {
                let now = this.clock.now();
                this.driver.deliver(first, now);
                for _ in 1..BATCH {
                    let Ok(posted) = posts.try_recv() else { break };
                    this.driver.deliver(posted, now);
                    this.keep_busy();
                }
            }
            submit = submits.recv(), if submits_open && has_room => match submit {
                Some(first) => {
                    let now = this.clock.now();
                    this.driver.submit(first, now);
                    for _ in 1..BATCH {
                        if !this.driver.has_room() {
                            break;
                        }
                        let Ok(submit) = submits.try_recv() else { break };
                        this.driver.submit(submit, now);
                        this.keep_busy();
                    }
                }
                None => submits_open = false,
            },
            () = &mut timer => {}
        }
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
            Task::Work(work) => self.work = Some(tokio::task::spawn_blocking(|| work.run())),
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
        let Some(work) = self.work.as_mut().filter(|work| work.is_finished()) else { return };
        let context = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(worked) = Pin::new(work).poll(context) {
            self.work = None;
            let now = self.clock.now();
            self.driver.worked(worked.unwrap_or_else(|_| Worked::lost()), now);
            if let Some(task) = self.driver.pop_task(now) {
                self.perform(task);
            }
        }
    }

    /// What comes of the store's work; never, if it has none.
    async fn worked(&mut self) -> Worked {
        let Some(work) = &mut self.work else { return std::future::pending().await };
        let worked = work.await;
        self.work = None;
        // A panic of the store's does not come this far: the runtime is ending.
        worked.unwrap_or_else(|_| Worked::lost())
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
