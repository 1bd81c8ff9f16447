//! How a round runs on each adapter.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use steadfast_blocking::Handle;
use steadfast_core::Key;
use steadfast_core::gate::GatePolicy;
use steadfast_driver::{
    Accepted, Delivery, Finished, NotAccepted, Outgoing, ResumeError, SendError, StartError, Stopped, SubmitError,
    Unfinished,
};

use crate::callers::{call, settle};
use crate::plan::{CALLERS, End, Renewal};
use crate::provider::{Book, Takes};
use crate::shelf::Watched;
use crate::world::{Client, World};

/// A client's way to the provider.
struct Wire {
    book: Arc<Book>,
    client: usize,
    _one_of: Arc<()>,
}

impl Wire {
    fn new(world: &World, client: usize) -> Self {
        Self { book: world.book.clone(), client, _one_of: world.wires.clone() }
    }
}

/// For who shuts a client down since its store is gone, as its log tells them to: else whoever waits for a job would
/// wait for ever.
const GRACE_WITHOUT_STORE: Duration = Duration::from_millis(5);

const RENEWAL_FAILS: &str = "the credentials' issuer says no";

impl Client for steadfast_blocking::Client {
    type Job = Handle;

    async fn submit(&self, key: Key, payload: String) -> Result<Self::Job, SubmitError> {
        Self::submit(self, key, payload)
    }

    async fn resume(&self, key: Key) -> Result<Self::Job, ResumeError> {
        Self::resume(self, key)
    }

    async fn deliver(&self, headers: &HeaderMap, body: Bytes) -> Delivery {
        Self::deliver(self, headers, body)
    }

    fn hold(&self, span: Duration) {
        Self::hold(self, span);
    }

    fn set_gate(&self, gate: GatePolicy) {
        Self::set_gate(self, gate);
    }

    async fn shutdown(self, grace: Duration) -> Vec<Unfinished> {
        Self::shutdown(self, grace)
    }

    async fn accepted(job: Self::Job) -> (Self::Job, Result<Accepted, NotAccepted>) {
        let accepted = job.accepted();
        (job, accepted)
    }

    fn cancel(job: &Self::Job) {
        job.cancel();
    }

    async fn ended(job: Self::Job) -> Result<Finished, Stopped> {
        job.wait()
    }
}

impl steadfast_blocking::Transport for Wire {
    fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let flight = self.book.leaves(self.client, &outgoing);
        match flight.course.takes {
            Takes::Nothing => {}
            Takes::Time(span) => thread::sleep(span),
            // It may not stay for ever.
            Takes::Forever => thread::sleep(Duration::from_millis(30)),
        }
        flight.lands()
    }
}

/// What never waits, or blocks instead.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

pub(crate) fn on_threads(world: &Arc<World>) {
    for (number, end) in world.plan.ends.iter().enumerate() {
        let (client, watched) = start_blocking(world, number);
        let (mut gone, dismiss, closed) = Watched::parts(watched);
        let operator = {
            let (world, client) = (world.clone(), client.clone());
            thread::spawn(move || {
                if gone.blocking_recv() == Some(true) {
                    world.reported(&client.shutdown(GRACE_WITHOUT_STORE));
                }
            })
        };
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (world, client) = (world.clone(), client.clone());
                thread::spawn(move || now(call(world, client, number, caller)))
            })
            .collect();
        let jobs: Vec<_> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
        let _ = dismiss.send(false);
        operator.join().unwrap();
        let waits = |jobs: Vec<_>| {
            let world = world.clone();
            thread::spawn(move || {
                jobs.into_iter().for_each(|(which, job): (usize, Handle)| world.ended(which, job.wait()))
            })
        };
        match end {
            End::Shutdown(times) => {
                let waiting = waits(jobs);
                thread::scope(|scope| {
                    for nth in 0..*times {
                        let client = client.clone();
                        scope.spawn(move || {
                            world.reported(&client.shutdown(Duration::from_millis(nth as u64 * 4)));
                        });
                    }
                });
                waiting.join().unwrap();
            }
            // It has no runtime to go down with.
            End::Dropped | End::Crash => drop(jobs),
        }
        drop(client);
        if let Some(closed) = closed {
            closed.blocking_recv().unwrap();
        }
    }
    if world.plan.is_kept() {
        world.book.is_well.store(true, Ordering::SeqCst);
        let (client, _) = start_blocking(world, world.plan.ends.len());
        now(settle(world, &client));
        world.left(&client.shutdown(Duration::from_secs(10)));
    }
}

/// Once its store can be read.
fn start_blocking(world: &Arc<World>, number: usize) -> (steadfast_blocking::Client, Option<Watched>) {
    for tries in 0.. {
        // A store that panics as it is read does so where the client is started.
        match catch_unwind(AssertUnwindSafe(|| try_start_blocking(world, number, tries))) {
            Ok((Ok(client), watched)) => return (client, watched),
            Ok((Err(StartError::Unreadable(_)), _)) | Err(_) => {}
            Ok((Err(error), _)) => panic!("{error}"),
        }
    }
    unreachable!("it tries for ever")
}

fn try_start_blocking(
    world: &Arc<World>,
    number: usize,
    tries: u64,
) -> (Result<steadfast_blocking::Client, StartError>, Option<Watched>) {
    let wire = Wire::new(world, number);
    let (builder, watched) = world.describe::<_, steadfast_blocking::Client>(number, tries, wire);
    let renewal = world.plan.renewal;
    let builder = match renewal {
        Renewal::Nobody => builder,
        _ => builder.renew_credentials(move || -> Result<(), &'static str> {
            match renewal {
                Renewal::Hangs => thread::sleep(Duration::from_millis(15)),
                Renewal::Fails => return Err(RENEWAL_FAILS),
                _ => {}
            }
            Ok(())
        }),
    };
    (builder.start(), watched)
}

impl Client for steadfast_tokio::Client {
    type Job = steadfast_tokio::Handle;

    async fn submit(&self, key: Key, payload: String) -> Result<Self::Job, SubmitError> {
        Self::submit(self, key, payload).await
    }

    async fn resume(&self, key: Key) -> Result<Self::Job, ResumeError> {
        Self::resume(self, key).await
    }

    async fn deliver(&self, headers: &HeaderMap, body: Bytes) -> Delivery {
        Self::deliver(self, headers, body).await
    }

    fn hold(&self, span: Duration) {
        Self::hold(self, span);
    }

    fn set_gate(&self, gate: GatePolicy) {
        Self::set_gate(self, gate);
    }

    async fn shutdown(self, grace: Duration) -> Vec<Unfinished> {
        Self::shutdown(self, grace).await
    }

    async fn accepted(job: Self::Job) -> (Self::Job, Result<Accepted, NotAccepted>) {
        let accepted = job.accepted().await;
        (job, accepted)
    }

    fn cancel(job: &Self::Job) {
        job.cancel();
    }

    async fn ended(job: Self::Job) -> Result<Finished, Stopped> {
        job.await
    }
}

impl steadfast_tokio::Transport for Wire {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let flight = self.book.leaves(self.client, &outgoing);
        match flight.course.takes {
            Takes::Nothing => {}
            Takes::Time(span) => tokio::time::sleep(span).await,
            Takes::Forever => std::future::pending().await,
        }
        flight.lands()
    }
}

pub(crate) fn on_tokio(world: &Arc<World>) {
    let runtime = || {
        let mut builder = if world.plan.is_paused {
            tokio::runtime::Builder::new_current_thread()
        } else {
            tokio::runtime::Builder::new_multi_thread()
        };
        builder.worker_threads(2).enable_time().start_paused(world.plan.is_paused).build().unwrap()
    };
    for (number, end) in world.plan.ends.iter().enumerate() {
        let runtime = runtime();
        let closed = runtime.block_on(phase(world, number, *end));
        if *end == End::Crash {
            world.is_in_doubt.store(true, Ordering::SeqCst);
            drop(runtime);
            if let Some(closed) = closed {
                closed.blocking_recv().unwrap();
            }
            continue;
        }
        if let Some(closed) = closed {
            runtime.block_on(closed).unwrap();
        }
    }
    if world.plan.is_kept() {
        world.book.is_well.store(true, Ordering::SeqCst);
        runtime().block_on(async {
            let (client, _) = start_tokio(world, world.plan.ends.len()).await;
            settle(world, &client).await;
            world.left(&client.shutdown(Duration::from_secs(10)).await);
        });
    }
}

async fn phase(world: &Arc<World>, number: usize, end: End) -> Option<tokio::sync::oneshot::Receiver<()>> {
    let (client, watched) = start_tokio(world, number).await;
    let (mut gone, dismiss, closed) = Watched::parts(watched);
    let operator = tokio::spawn({
        let (world, client) = (world.clone(), client.clone());
        async move {
            if gone.recv().await == Some(true) {
                world.reported(&client.shutdown(GRACE_WITHOUT_STORE).await);
            }
        }
    });
    let callers: Vec<_> =
        (0..CALLERS).map(|caller| tokio::spawn(call(world.clone(), client.clone(), number, caller))).collect();
    let mut jobs = Vec::new();
    for caller in callers {
        jobs.extend(caller.await.unwrap());
    }
    let _ = dismiss.send(false);
    operator.await.unwrap();
    if let End::Shutdown(times) = end {
        let waiting: Vec<_> = jobs
            .into_iter()
            .map(|(which, job)| {
                let world = world.clone();
                tokio::spawn(async move { world.ended(which, job.await) })
            })
            .collect();
        let shut_down: Vec<_> = (0..times)
            .map(|nth| tokio::spawn(client.clone().shutdown(Duration::from_millis(nth as u64 * 4))))
            .collect();
        for unfinished in shut_down {
            world.reported(&unfinished.await.unwrap());
        }
        for waiting in waiting {
            waiting.await.unwrap();
        }
    }
    closed
}

/// Once its store can be read.
async fn start_tokio(world: &Arc<World>, number: usize) -> (steadfast_tokio::Client, Option<Watched>) {
    for tries in 0.. {
        match try_start_tokio(world, number, tries).await {
            (Ok(client), watched) => return (client, watched),
            (Err(StartError::Unreadable(_)), _) => {}
            (Err(error), _) => panic!("{error}"),
        }
    }
    unreachable!("it tries for ever")
}

async fn try_start_tokio(
    world: &Arc<World>,
    number: usize,
    tries: u64,
) -> (Result<steadfast_tokio::Client, StartError>, Option<Watched>) {
    let wire = Wire::new(world, number);
    let (builder, watched) = world.describe::<_, steadfast_tokio::Client>(number, tries, wire);
    let (renewal, is_paused) = (world.plan.renewal, world.plan.is_paused);
    let builder = match renewal {
        Renewal::Nobody => builder,
        _ => builder.renew_credentials(move || async move {
            match renewal {
                Renewal::Hangs if is_paused => std::future::pending().await,
                Renewal::Hangs => tokio::time::sleep(Duration::from_millis(15)).await,
                Renewal::Fails => return Err(RENEWAL_FAILS),
                _ => {}
            }
            Ok(())
        }),
    };
    (builder.shards(world.plan.shards).start().await, watched)
}
