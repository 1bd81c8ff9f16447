//! Writing records without holding up the driver.
//!
//! A store's work blocks, so it is handed out in pieces ([`Work`]), one at a time, for the adapter to do where it may block.
//! Whatever queued up while one commit ran goes into the next; keys are looked up after it, on the same trip; and now and then, between two
//! commits, a few operations that ended long ago are forgotten. That an outcome was delivered is not worth a sync of its own: it goes with the next
//! commit, or after [`PATIENCE`]; a crash before that delivers the outcome once more, as is promised. Without a store records are acknowledged at once: nothing survives a crash,
//! as was chosen.
//!
//! **What is not known is neither promised nor denied.** A commit whose error is not certain is tried again, the same entries, until it is known
//! what is on disk; nothing that came after it is written before, and so nothing that depends on it is sent.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::operation::{Outcome, RecordId, Stage};
use steadfast_core::{Key, OperationId, Seed, Timestamp};
use steadfast_store::{Entry, Store, StoreError};

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
    queue_due: Timestamp,
    questions: Vec<Question>,
    running: Option<Running>,
    /// What came of work that is done, before the one that is running.
    ready: VecDeque<Done>,
    uncertain: Option<Uncertain>,
    forget_at: Timestamp,
    /// Whether the last piece of work was a commit: then it is the turn of forgetting, if that is due.
    committed: bool,
    now: Timestamp,
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

/// What comes of an attempt to start work.
pub(crate) enum Started {
    /// There is some.
    Work(Box<Work>),
    /// It needs none, or cannot have any.
    Done(Done),
}

struct Running {
    batch: Option<Batch>,
    questions: Vec<Question>,
    forgets: bool,
}

/// A piece of work for the store, which may block: a commit, look-ups of keys, or forgetting. The store travels with it.
#[must_use = "the journal waits for what comes of it"]
pub struct Work {
    home: Home,
    keep: Keep,
    entries: Vec<Entry>,
    /// Whether what is kept beside the entries is still to be sealed.
    seals: bool,
    keys: Vec<Key>,
    forget: Option<Timestamp>,
}

impl Work {
    /// Does it. Blocks. A store that panics costs the journal, and no more.
    pub fn run(self) -> Worked {
        Worked(catch_unwind(AssertUnwindSafe(|| self.work())).ok())
    }

    fn work(self) -> Brought {
        let Self { mut home, keep, mut entries, seals, keys, forget } = self;
        // What is tried again was sealed before.
        let sealed = if seals { entries.iter_mut().try_for_each(|entry| keep.seal(entry)) } else { Ok(()) };
        let result = match sealed {
            Ok(()) if entries.is_empty() => Ok(()),
            Ok(()) => home.append(&entries),
            Err(panicked) => Err(StoreError::write(panicked)),
        };
        let found = keys.iter().map(|key| Ok(home.find(key)?.map(|entry| keep.open(entry)))).collect();
        let forgot = forget.map(|before| home.forget(before, FORGET_MOST));
        Brought { home, entries, result, found, forgot }
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, keys, forget, .. } = self;
        write!(f, "Work({} entries, {} keys, forgets: {})", entries.len(), keys.len(), forget.is_some())
    }
}

/// What came of the store's work: nothing, if the store panicked.
#[must_use = "the journal waits for it"]
pub struct Worked(Option<Brought>);

impl Worked {
    /// The thread that had it is gone, and the store with it.
    pub const fn lost() -> Self {
        Self(None)
    }
}

impl fmt::Debug for Worked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worked(panicked: {})", self.0.is_none())
    }
}

struct Brought {
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
    at: Timestamp,
}

impl Journal {
    pub(crate) fn new(
        home: Option<Home>,
        keep: Keep,
        backoff: BackoffPolicy,
        remember_for: Duration,
        now: Timestamp,
    ) -> Self {
        Self {
            volatile: home.is_none(),
            home,
            keep,
            backoff,
            remember_for,
            queue: Batch::default(),
            queue_due: now,
            questions: Vec::new(),
            running: None,
            ready: VecDeque::new(),
            uncertain: None,
            forget_at: now,
            committed: false,
            now,
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
        if !entry.as_ref().is_none_or(only_marks) {
            self.queue_due = self.now;
        } else if self.queue.operations.is_empty() {
            self.queue_due = self.now.saturating_add(PATIENCE);
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
        self.queue_due = self.now;
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

    /// All that follows happens at this time.
    pub(crate) const fn look_at_clock(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// When [`start`](Journal::start) will have something to do that it has not now.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        if self.running.is_some() || self.home.is_none() {
            return None;
        }
        if let Some(uncertain) = &self.uncertain {
            return Some(uncertain.at);
        }
        let queue = (!self.queue.operations.is_empty()).then_some(self.queue_due);
        let forget = (!self.closing).then_some(self.forget_at);
        queue.into_iter().chain(forget).min()
    }

    /// Starts the next piece of work, before what came of the last one is carried out. What it writes was asked for before that.
    pub(crate) fn follow(&mut self) -> Option<Started> {
        // Without a store at hand something would come back at once: later.
        self.home.is_some().then(|| self.start()).flatten()
    }

    /// What came of work that is done.
    pub(crate) fn pop_done(&mut self) -> Option<Done> {
        self.ready.pop_front()
    }

    /// Starts the next piece of work, unless one is running or there is none. What needs no work, or cannot have any, is done at once.
    pub(crate) fn start(&mut self) -> Option<Started> {
        if self.running.is_some() {
            return None;
        }
        if self.volatile {
            let batch = self.take_queue()?;
            return Some(Started::Done(Done { batch: Some((batch, Fate::Durable)), ..Done::default() }));
        }
        if self.home.is_none() {
            return self.refuse_all().map(Started::Done);
        }
        let forget = self.forgets_now().then(|| self.now.saturating_sub(self.remember_for));
        let batch = if forget.is_some() { None } else { self.next_batch() };
        let questions = if forget.is_some() { Vec::new() } else { std::mem::take(&mut self.questions) };
        if batch.is_none() && questions.is_empty() && forget.is_none() {
            return None;
        }
        let home = self.home.take()?;
        let mut batch = batch;
        let entries = batch.as_mut().map(|batch| std::mem::take(&mut batch.entries)).unwrap_or_default();
        let seals = self.uncertain.is_none();
        let keys: Vec<Key> = questions.iter().map(|question| question.key().clone()).collect();
        self.committed = batch.is_some();
        self.running = Some(Running { batch, questions, forgets: forget.is_some() });
        Some(Started::Work(Box::new(Work { home, keep: self.keep.clone(), entries, seals, keys, forget })))
    }

    /// Takes in what came of the work that was running.
    pub(crate) fn worked(&mut self, Worked(brought): Worked) {
        let Some(Running { batch, questions, forgets }) = self.running.take() else { return };
        let done = match brought {
            Some(Brought { home, entries, result, found, forgot }) => {
                self.home = Some(home);
                if let Some(forgot) = forgot {
                    self.forgot(forgot);
                }
                let found = found.into_iter().map(|found| found.map_err(Arc::new));
                let batch = batch.and_then(|batch| self.settle(Batch { entries, ..batch }, result));
                Done { batch, found: questions.into_iter().zip(found).collect() }
            }
            // Nothing is asked of it any more: its state is not known, and so neither is whether it wrote what it had been given.
            None => {
                // What a panic says may be anything: it stays in the panic's own report.
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
        };
        self.ready.push_back(done);
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
            Some(uncertain) if uncertain.at <= self.now || self.closing => Some(std::mem::take(&mut uncertain.batch)),
            // Nothing overtakes it.
            Some(_) => None,
            None if is_due => self.take_queue(),
            None => None,
        }
    }

    fn is_due(&self) -> bool {
        !self.queue.operations.is_empty() && (self.closing || self.queue_due <= self.now)
    }

    fn forgets_now(&self) -> bool {
        let waits = self.is_due() || !self.questions.is_empty();
        let due = self.forget_at <= self.now && self.uncertain.is_none() && !self.closing;
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
        self.forget_at = self.now.saturating_add(wait);
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
        self.uncertain = Some(Uncertain { batch, tries, at: self.now.saturating_add(wait) });
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
