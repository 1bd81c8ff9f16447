//! Tasks that carry requests, one request after the other.
//!
//! A task for each request would be simpler, but an allocator has to find a kilobyte for it, aligned, and to take it
//! apart again: a twentieth of the processor time that a request over loopback takes. So a task whose request was
//! answered waits for the next one, and the task that has waited least goes on first.
//!
//! ```text
//!             Carriers::send               answered
//! idle tasks ───────────────→ in the air ────────────→ Answered, then Carriers::back
//!    ↑  none: a new one           │ abort                        │
//!    │                            └──→ gone, not idle again      │
//!    └───────────────────────────────────────────────────────────┘
//! ```
//!
//! A carrier belongs to the job whose request it carries. When its handle is dropped, its task finishes its request,
//! reports the answer, and ends.
//!
//! A request that was given up is gone before the next one of its job leaves, so a carrier waits for the one before
//! it. If it is cut off while it waits, it leaves that one to the carrier after it: however many are given up in a
//! row, none leaves while another is still in the air.
//!
//! A request that its carrier has not begun can be taken back: it has certainly not left, which cannot be said of one
//! that is cut off.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::SystemTime;

use bytes::Bytes;
use http::Response;
use steadfast_core::operation::Attempt;
use steadfast_core::{Kind, OperationId, Timestamp};
use steadfast_driver::{Answered, Outgoing, SendError, Sending, caught};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tracing::instrument::Instrumented;
use tracing::{Instrument, Span};

use crate::transport::Transport;

/// After a request that was not answered at once, this many get a carrier before the next is polled where the driver
/// runs.
const NOT_HERE: u32 = 1_000;

/// At most this many wait for a next request, for as long as the client lives. Over reqwest each takes a kilobyte;
/// over another transport, as much as its future holds.
const MOST_IDLE: usize = 256;

/// How many creates may wait for their carriers before it is checked which still do, and how many may be cut off
/// before it is checked which are gone.
const SWEEP: usize = 64;

/// Sends requests for a driver.
pub(crate) struct Carriers<T> {
    transport: Arc<T>,
    answered: mpsc::UnboundedSender<Answered>,
    idle: Vec<Carrier>,
    /// How many requests are still to get a carrier without being polled here.
    not_here: u32,
    waiting: Waiting,
    /// Carriers that were cut off, by job: a job may have ended, and be resumed, before its last one is gone.
    cut_off: HashMap<OperationId, Carrier>,
    /// How many there may be before it is checked which are gone.
    sweep_at: usize,
}

/// Creates that were given to carriers, and were not begun when they were last looked at. Of other requests it does not
/// matter whether they have left.
struct Waiting {
    creates: Vec<(Timestamp, OperationId, Weak<Place>)>,
    /// None of them is overdue before this.
    earliest: Timestamp,
    /// How many there may be before they are checked again.
    sweep_at: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { creates: Vec::new(), earliest: Timestamp::NEVER, sweep_at: SWEEP }
    }
}

impl Waiting {
    fn push(&mut self, sending: &Sending<Carrier>, carrier: &Carrier) {
        let Attempt { kind: Kind::Create, until, .. } = sending.outgoing.attempt else { return };
        if self.creates.len() >= self.sweep_at {
            self.sweep();
        }
        self.creates.push((until, sending.id(), Arc::downgrade(&carrier.0.place)));
        self.earliest = self.earliest.min(until);
    }

    /// Drops those that have begun.
    fn sweep(&mut self) {
        let waits = |place: &Weak<Place>| place.upgrade().is_some_and(|place| place.lock().request.is_some());
        self.creates.retain(|(.., place)| waits(place));
        self.earliest = self.creates.iter().map(|(until, ..)| *until).min().unwrap_or(Timestamp::NEVER);
        self.sweep_at = (2 * self.creates.len()).max(SWEEP);
    }

    fn take_overdue(&mut self, now: Timestamp) -> Vec<OperationId> {
        self.sweep();
        let overdue = self.creates.extract_if(.., |(until, ..)| *until <= now).map(|(_, id, _)| id).collect();
        self.earliest = self.creates.iter().map(|(until, ..)| *until).min().unwrap_or(Timestamp::NEVER);
        overdue
    }
}

/// How a request left.
pub(crate) enum Sent {
    /// It was answered at once.
    Here(Answered),
    /// This carrier has it.
    By(Carrier),
}

/// A task with a request. One pointer, since each job has room for one.
pub(crate) struct Carrier(Arc<Parts>);

struct Parts {
    place: Arc<Place>,
    task: Mutex<JoinHandle<()>>,
}

/// Where a carrier finds its next request.
#[derive(Default)]
struct Place {
    next: Mutex<Next>,
    changed: Notify,
}

#[derive(Default)]
struct Next {
    request: Option<Request>,
    /// The carrier that had the job's request before this one, and may have it still.
    before: Option<Carrier>,
    /// There is no other request after it.
    over: bool,
}

enum Request {
    New(Box<Sending<Carrier>>),
    /// One that was polled where the driver runs, and was not answered at once.
    Begun(Pin<Box<dyn Future<Output = Answered> + Send>>),
}

impl<T: Transport> Carriers<T> {
    pub(crate) fn new(transport: Arc<T>, answered: mpsc::UnboundedSender<Answered>) -> Self {
        Self {
            transport,
            answered,
            idle: Vec::new(),
            not_here: 0,
            waiting: Waiting::default(),
            cut_off: HashMap::new(),
            sweep_at: SWEEP,
        }
    }

    /// Sends a request by a carrier, which brings back its result. If the transport answers at once, as one in process
    /// may, the answer is taken here: that needs no task, and nobody has to be woken.
    pub(crate) fn send(&mut self, mut sending: Box<Sending<Carrier>>) -> Sent {
        let before = sending.previous.take().or_else(|| self.take_cut_off(sending.id()));
        // One that was left in the air for its answer's sake is not waited for any longer.
        if let Some(before) = &before {
            before.abort();
        }
        let request = if before.is_none() && self.tries_here() {
            let transport = self.transport.clone();
            let mut request = Box::pin(async move { carry(&*transport, sending).await });
            // Its task polls it again, with a waker that counts.
            if let Poll::Ready(answered) = request.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Sent::Here(answered);
            }
            self.not_here = NOT_HERE;
            Request::Begun(request)
        } else {
            Request::New(sending)
        };
        let carrier = self.idle.pop().unwrap_or_else(|| self.start());
        if let Request::New(sending) = &request {
            self.waiting.push(sending, &carrier);
        }
        carrier.carry(request, before);
        Sent::By(carrier)
    }

    /// Cuts off the request that this carrier carries for a job.
    pub(crate) fn cut_off(&mut self, id: OperationId, carrier: &Carrier) {
        carrier.abort();
        if self.cut_off.len() >= self.sweep_at {
            self.cut_off.retain(|_, carrier| !carrier.is_gone());
            self.sweep_at = (2 * self.cut_off.len()).max(SWEEP);
        }
        self.cut_off.insert(id, Carrier(carrier.0.clone()));
    }

    /// The job's request that was cut off and is not gone, perhaps.
    fn take_cut_off(&mut self, id: OperationId) -> Option<Carrier> {
        // As a rule there are none, and to look costs more than it takes to see that.
        if self.cut_off.is_empty() { None } else { self.cut_off.remove(&id) }
    }

    /// The jobs whose creates have not begun and have had all of their time.
    pub(crate) fn overdue(&mut self, now: Timestamp) -> Vec<OperationId> {
        if self.waiting.earliest <= now { self.waiting.take_overdue(now) } else { Vec::new() }
    }

    /// Takes back a carrier whose request was answered.
    pub(crate) fn back(&mut self, carrier: Carrier) {
        if self.idle.len() < MOST_IDLE && !carrier.0.place.lock().over {
            self.idle.push(carrier);
        }
    }

    /// Whether a request is polled here before it gets a carrier. A request that begins on this thread and ends on
    /// another has most of its allocations freed on another thread than made them, which in some allocators makes
    /// threads wait for each other: over loopback, that costs an eighth of the whole request.
    fn tries_here(&mut self) -> bool {
        let here = self.not_here == 0;
        self.not_here = self.not_here.saturating_sub(1);
        here
    }

    fn start(&self) -> Carrier {
        let (transport, answered, place) = (self.transport.clone(), self.answered.clone(), Arc::<Place>::default());
        let requests = place.clone();
        let task = tokio::spawn(async move {
            while requests.comes().await {
                requests.alone().await;
                // It stays where it can be taken back until it leaves.
                let Some(request) = requests.lock().request.take() else { continue };
                let answer = match request {
                    Request::New(sending) => carry(&*transport, sending).await,
                    Request::Begun(request) => request.await,
                };
                let _ = answered.send(answer);
            }
        });
        Carrier(Arc::new(Parts { place, task: Mutex::new(task) }))
    }
}

impl Carrier {
    /// Has it carry a request, once the one before it is gone.
    fn carry(&self, request: Request, before: Option<Self>) {
        if let Some(before) = &before {
            before.end();
        }
        self.0.place.change(|next| (next.request, next.before) = (Some(request), before));
    }

    /// Cuts its request off.
    pub(crate) fn abort(&self) {
        let mut not_begun = None;
        self.0.place.change(|next| (next.over, not_begun) = (true, next.request.take()));
        // One that it has not begun goes at once. It may be the transport's already, which may panic in this.
        let _ = caught(|| drop(not_begun));
        self.0.task().abort();
    }

    fn is_gone(&self) -> bool {
        self.0.task().is_finished()
    }

    /// Takes its request back, if `is_it` holds for it and it has certainly not left. After that the carrier gets no
    /// other.
    pub(crate) fn take_back(&self, is_it: impl Fn(&Outgoing) -> bool) -> Option<Box<Sending<Self>>> {
        let mut back = None;
        self.0.place.change(|next| match next.request.take() {
            Some(Request::New(request)) if is_it(&request.outgoing) => (next.over, back) = (true, Some(request)),
            other => next.request = other,
        });
        back
    }

    /// It gets no other request after this one.
    fn end(&self) {
        self.0.place.change(|next| next.over = true);
    }
}

impl Parts {
    fn task(&self) -> MutexGuard<'_, JoinHandle<()>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready once its task has ended. A caller that is told so waits no more.
    fn poll_gone(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut task = self.task();
        // It may have been waited for before, and cannot be asked again.
        if !task.is_finished()
            && let Err(panicked) = ready!(Pin::new(&mut *task).poll(context))
        {
            // What it panicked with is left where it is: to drop it may panic as well.
            std::mem::forget(panicked);
        }
        Poll::Ready(())
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.end();
    }
}

impl Place {
    fn change(&self, change: impl FnOnce(&mut Next)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next request; returns whether there is one.
    async fn comes(&self) -> bool {
        loop {
            {
                let next = self.lock();
                if next.request.is_some() || next.over {
                    return next.request.is_some();
                }
            }
            self.changed.notified().await;
        }
    }

    /// Returns once the request before this one is gone, with whatever that one was still waiting for.
    async fn alone(&self) {
        poll_fn(|context| {
            let mut next = self.lock();
            while let Some(before) = &next.before {
                ready!(before.0.poll_gone(context));
                let left = before.0.place.lock().before.take();
                next.before = left;
            }
            Poll::Ready(())
        })
        .await;
    }
}

/// Sends a request, and reads what comes of it. If the transport panics, it may have sent something.
///
/// There is one of these for each request in the air, so it holds the request once: boxed, until the transport has it.
async fn carry<T: Transport>(transport: &T, sending: Box<Sending<Carrier>>) -> Answered {
    let Sending { outgoing, reader, .. } = {
        // In a scope of its own, or what is left of the box would stay for as long as the request takes.
        let sending = sending;
        *sending
    };
    let mut sent = pin!(begin(transport, outgoing, reader.span()));
    let came = poll_fn(|context| {
        let poll = || sent.as_mut().as_pin_mut().map(|sent| sent.poll(context));
        caught(poll).flatten().unwrap_or_else(|| Poll::Ready(panicked(&reader.span())))
    });
    let came = came.await;
    // What it holds goes before the answer is read; and a transport may panic in this as well.
    let _ = caught(|| sent.set(None));
    reader.read(came, SystemTime::now().into())
}

/// The request itself, in its span; none if the transport panics.
fn begin<T: Transport>(
    transport: &T,
    outgoing: Outgoing,
    span: Span,
) -> Option<Instrumented<impl Future<Output = Result<Response<Bytes>, SendError>> + Send>> {
    let sent = span.in_scope(|| caught(|| transport.send(outgoing)))?;
    Some(sent.instrument(span))
}

fn panicked(span: &Span) -> Result<Response<Bytes>, SendError> {
    span.in_scope(|| tracing::error!("the transport panicked: what became of its request is not known"));
    Err(SendError::ambiguous().because("the transport panicked"))
}

#[cfg(test)]
mod tests;
