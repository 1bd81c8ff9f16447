//! Writing records without holding up the driver.
//!
//! A store's work blocks, so it runs on tokio's blocking pool (which also keeps a paused clock from running ahead of it), one piece at a time.
//! Whatever queued up while one commit ran goes into the next; keys are looked up after it, on the same trip; and now and then, between two
//! commits, a few operations that ended long ago are forgotten. That an outcome was delivered is not worth a sync of its own: it goes with the next
//! commit, or after [`PATIENCE`]; a crash before that delivers the outcome once more, as is promised. Without a store records are acknowledged at once: nothing survives a crash,
//! as was chosen.
//!
//! **What is not known is neither promised nor denied.** A commit whose error is not certain is tried again, the same entries, until it is known
//! what is on disk; nothing that came after it is written before, and so nothing that depends on it is sent.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::operation::{Outcome, RecordId, Stage};
use steadfast_core::{Key, OperationId, Seed, Timestamp};
use steadfast_store::{Entry, Store, StoreError};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until};

use crate::driver::Question;
use crate::keep::Keep;

/// How often ended operations are forgotten, and how many at a time: a few milliseconds' work.
const FORGET_EVERY: Duration = Duration::from_secs(60);
const FORGET_MOST: usize = 256;

/// How long a record that nobody waits for waits for one that somebody does.
const PATIENCE: Duration = Duration::from_millis(100);

type Home = Box<dyn Store>;

/// What the store has of a key.
pub(crate) type Found = Result<Option<Entry>, Arc<StoreError>>;

pub(crate) struct Journal {
    home: Option<Home>,
    volatile: bool,
    keep: Keep,
    /// How long a batch of which nothing is known waits before it is tried again.
    backoff: BackoffPolicy,
    remember_for: Duration,
    queue: Batch,
    /// When the queue is written at the latest; at once as soon as somebody waits for a record in it.
    queue_due: Instant,
    questions: Vec<Question>,
    running: Option<Running>,
    /// What came of work that is done, before the one that is running.
    ready: VecDeque<Done>,
    uncertain: Option<Uncertain>,
    forget_at: Instant,
    /// Whether the last piece of work was a commit: then it is the turn of forgetting, if that is due.
    committed: bool,
    ill: bool,
    closing: bool,
}

/// Records that go to disk together.
#[derive(Default)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
    /// Whose they are.
    pub(crate) operations: Vec<OperationId>,
    /// Those of them whose payload is in it.
    pub(crate) payloads: Vec<OperationId>,
    /// The latest number among them: it acknowledges all.
    pub(crate) last: RecordId,
}

/// What became of a batch.
pub(crate) enum Fate {
    Durable,
    /// Certainly none of it is on disk.
    Failed(Arc<StoreError>),
    /// Nobody knows, and nobody will try again.
    Unknown(Arc<StoreError>),
}

/// What a piece of work brought.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) batch: Option<(Batch, Fate)>,
    pub(crate) found: Vec<(Question, Found)>,
}

struct Running {
    task: JoinHandle<Worked>,
    batch: Option<Batch>,
    questions: Vec<Question>,
    forgets: bool,
}

struct Worked {
    home: Home,
    entries: Vec<Entry>,
    result: Result<(), StoreError>,
    found: Vec<Result<Option<Entry>, StoreError>>,
    forgot: Option<Result<usize, StoreError>>,
}

/// A batch of which nobody knows whether it is on disk.
struct Uncertain {
    batch: Batch,
    tries: u32,
    at: Instant,
}

impl Journal {
    pub(crate) fn new(home: Option<Home>, keep: Keep, backoff: BackoffPolicy, remember_for: Duration) -> Self {
        Self {
            volatile: home.is_none(),
            home,
            keep,
            backoff,
            remember_for,
            queue: Batch::default(),
            queue_due: Instant::now(),
            questions: Vec::new(),
            running: None,
            ready: VecDeque::new(),
            uncertain: None,
            forget_at: Instant::now(),
            committed: false,
            ill: false,
            closing: false,
        }
    }

    /// Whether records are kept at all. If not, there is no need to make them.
    pub(crate) const fn is_volatile(&self) -> bool {
        self.volatile
    }

    pub(crate) const fn keep(&self) -> &Keep {
        &self.keep
    }

    /// Puts a record into the next commit. Unless it only marks an outcome as delivered, that begins at once.
    pub(crate) fn push(&mut self, id: OperationId, number: RecordId, entry: Option<Entry>) {
        if entry.as_ref().is_some_and(|entry| entry.payload.is_some()) {
            self.queue.payloads.push(id);
        }
        let now = Instant::now();
        if !entry.as_ref().is_none_or(only_marks) {
            self.queue_due = now;
        } else if self.queue.operations.is_empty() {
            self.queue_due = now + PATIENCE;
        }
        self.queue.entries.extend(entry);
        self.queue.operations.push(id);
        self.queue.last = number;
    }

    /// Puts an entry into the next commit of which the engine knows nothing. If that fails, it is not written.
    pub(crate) fn note(&mut self, id: OperationId, entry: Entry) {
        let last = self.queue.last;
        self.push(id, last, Some(entry));
    }

    /// Has what is queued written at once: somebody waits for what comes after it.
    pub(crate) fn hurry(&mut self) {
        self.queue_due = Instant::now();
    }

    /// Has a key looked up.
    pub(crate) fn ask(&mut self, question: Question) {
        self.questions.push(question);
    }

    /// Questions that are not answered yet.
    pub(crate) fn asking(&self) -> usize {
        let found: usize = self.ready.iter().map(|done| done.found.len()).sum();
        self.questions.len() + found + self.running.as_ref().map_or(0, |running| running.questions.len())
    }

    /// Whether the piece of work that was running is done, and what came of it was not taken up.
    pub(crate) fn has_finished(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.task.is_finished())
    }

    /// Starts the next piece of work as soon as the store is free. What came of the last one is kept for whoever waits for [`done`](Journal::done).
    pub(crate) fn keep_busy(&mut self, now: Timestamp) {
        let Some(Running { task, .. }) = &mut self.running else { return };
        let context = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(worked) = Pin::new(task).poll(context) {
            let done = self.worked(worked);
            self.follow(now);
            self.ready.push_back(done);
        }
    }

    /// Starts the next piece of work, before what came of the last one is carried out. What it writes was asked for before that.
    pub(crate) fn follow(&mut self, now: Timestamp) {
        if self.home.is_some() {
            // With a store at hand, nothing comes back at once.
            let _ = self.start(now);
        }
    }

    /// Starts the next piece of work, unless one is running or there is none. What needs no work, or cannot have any, is returned.
    pub(crate) fn work(&mut self, now: Timestamp) -> Option<Done> {
        self.ready.pop_front().or_else(|| self.start(now))
    }

    fn start(&mut self, now: Timestamp) -> Option<Done> {
        if self.running.is_some() {
            return None;
        }
        if self.volatile {
            let batch = self.take_queue()?;
            return Some(Done { batch: Some((batch, Fate::Durable)), ..Done::default() });
        }
        if self.home.is_none() {
            return self.refuse_all();
        }
        let forget = self.forgets_now().then(|| now.saturating_sub(self.remember_for));
        let batch = if forget.is_some() { None } else { self.next_batch() };
        let questions = if forget.is_some() { Vec::new() } else { std::mem::take(&mut self.questions) };
        if batch.is_none() && questions.is_empty() && forget.is_none() {
            return None;
        }
        let mut home = self.home.take()?;
        let (mut batch, keep) = (batch, self.keep.clone());
        let mut entries = batch.as_mut().map(|batch| std::mem::take(&mut batch.entries)).unwrap_or_default();
        let seals = self.uncertain.is_none();
        let keys: Vec<Key> = questions.iter().map(|question| question.key().clone()).collect();
        let task = tokio::task::spawn_blocking(move || {
            // What is tried again was sealed before.
            let sealed = if seals { entries.iter_mut().try_for_each(|entry| keep.seal(entry)) } else { Ok(()) };
            let result = match sealed {
                Ok(()) if entries.is_empty() => Ok(()),
                Ok(()) => home.append(&entries),
                Err(panicked) => Err(StoreError::write(panicked)),
            };
            let found = keys.iter().map(|key| Ok(home.find(key)?.map(|entry| keep.open(entry)))).collect();
            let forgot = forget.map(|before| home.forget(before, FORGET_MOST));
            Worked { home, entries, result, found, forgot }
        });
        self.committed = batch.is_some();
        self.running = Some(Running { task, batch, questions, forgets: forget.is_some() });
        None
    }

    /// Waits until the work that is running is done, or until there is some to be done again; for ever if there is neither.
    pub(crate) async fn done(&mut self) -> Done {
        if let Some(done) = self.ready.pop_front() {
            return done;
        }
        let Some(running) = &mut self.running else {
            match &self.uncertain {
                Some(uncertain) if !self.closing => sleep_until(uncertain.at).await,
                None if !self.queue.operations.is_empty() => sleep_until(self.queue_due).await,
                _ => std::future::pending().await,
            }
            return Done::default();
        };
        let worked = (&mut running.task).await;
        self.worked(worked)
    }

    /// What came of the work that was running.
    fn worked(&mut self, worked: Result<Worked, JoinError>) -> Done {
        let Some(Running { batch, questions, forgets, .. }) = self.running.take() else { return Done::default() };
        match worked {
            Ok(Worked { home, entries, result, found, forgot }) => {
                self.home = Some(home);
                if let Some(forgot) = forgot {
                    self.forgot(forgot);
                }
                let found = found.into_iter().map(|found| found.map_err(Arc::new));
                let batch = batch.and_then(|batch| self.settle(Batch { entries, ..batch }, result));
                Done { batch, found: questions.into_iter().zip(found).collect() }
            }
            // Nothing is asked of it any more: its state is not known, and so neither is whether it wrote what it had been given.
            Err(panicked) => {
                // What a panic says may be anything: it stays in the panic's own report.
                drop(panicked);
                let cause = "the store panicked, and is not used any more: see the panic's own message";
                let error = Arc::new(StoreError::uncertain(cause).advising("mend the store, then restart on it"));
                tracing::error!(
                    error = &*error as &dyn std::error::Error,
                    forgets,
                    "the store panicked: it is not used any more"
                );
                let found = questions.into_iter().map(|question| (question, Err(error.clone()))).collect();
                // One that was in doubt already stays so for ever.
                let batch = batch.or_else(|| self.uncertain.take().map(|uncertain| uncertain.batch));
                self.uncertain = None;
                Done { batch: batch.map(|batch| (batch, Fate::Unknown(error))), found }
            }
        }
    }

    /// Whether everything pushed has been committed or failed.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_none() && self.ready.is_empty() && self.uncertain.is_none() && self.queue.operations.is_empty()
    }

    /// What is uncertain is tried once more, at once, and then given up; nothing more is forgotten.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        self.questions.clear();
    }

    fn take_queue(&mut self) -> Option<Batch> {
        (!self.queue.operations.is_empty()).then(|| std::mem::take(&mut self.queue))
    }

    fn next_batch(&mut self) -> Option<Batch> {
        let is_due = self.is_due();
        match &mut self.uncertain {
            Some(uncertain) if uncertain.at <= Instant::now() || self.closing => {
                Some(std::mem::take(&mut uncertain.batch))
            }
            // Nothing overtakes it.
            Some(_) => None,
            None if is_due => self.take_queue(),
            None => None,
        }
    }

    fn is_due(&self) -> bool {
        !self.queue.operations.is_empty() && (self.closing || self.queue_due <= Instant::now())
    }

    fn forgets_now(&self) -> bool {
        let waits = self.is_due() || !self.questions.is_empty();
        let due = self.forget_at <= Instant::now() && self.uncertain.is_none() && !self.closing;
        due && (self.committed || !waits)
    }

    fn forgot(&mut self, forgot: Result<usize, StoreError>) {
        let wait = match forgot {
            Ok(FORGET_MOST) => Duration::ZERO,
            Ok(_) => FORGET_EVERY,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "old operations could not be forgotten: later again"
                );
                FORGET_EVERY
            }
        };
        self.forget_at = Instant::now() + wait;
    }

    /// What is known of a batch, if anything.
    fn settle(&mut self, batch: Batch, result: Result<(), StoreError>) -> Option<(Batch, Fate)> {
        let tries = self.uncertain.take().map_or(0, |uncertain| uncertain.tries);
        let records = batch.operations.len();
        let error = match result {
            Ok(()) => {
                if std::mem::take(&mut self.ill) {
                    tracing::info!("the journal can be written again");
                }
                return Some((batch, Fate::Durable));
            }
            Err(error) => error,
        };
        self.ill = true;
        let source = &error as &dyn std::error::Error;
        // Of what was in doubt before, it says only that this try wrote nothing: the earlier one may have.
        if error.is_certain() && tries == 0 {
            tracing::error!(error = source, records, "a commit failed");
            return Some((batch, Fate::Failed(Arc::new(error))));
        }
        if self.closing {
            tracing::error!(error = source, records, "a commit is given up, and nobody knows whether it happened");
            return Some((batch, Fate::Unknown(Arc::new(error))));
        }
        let tries = tries.saturating_add(1);
        let wait = self.backoff.delay(tries, Seed::new(batch.last.0));
        tracing::error!(
            error = source,
            records,
            again_in = ?wait,
            "nobody knows whether a commit happened: it is tried again, and nothing new is sent meanwhile"
        );
        self.uncertain = Some(Uncertain { batch, tries, at: Instant::now() + wait });
        None
    }

    /// The store is gone.
    fn refuse_all(&mut self) -> Option<Done> {
        let error = Arc::new(StoreError::write("the store panicked in an earlier commit"));
        let found: Vec<_> =
            std::mem::take(&mut self.questions).into_iter().map(|question| (question, Err(error.clone()))).collect();
        let batch = self.take_queue().map(|batch| (batch, Fate::Failed(error)));
        (batch.is_some() || !found.is_empty()).then_some(Done { batch, found })
    }
}

/// Whether nobody waits for it: the outcome was told. Of what was rejected somebody does, since it frees the key.
const fn only_marks(entry: &Entry) -> bool {
    matches!(entry.record.stage, Stage::Delivered(Outcome::Completed(_) | Outcome::Failed | Outcome::Unresolved(_)))
}
