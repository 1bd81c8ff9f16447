//! Writing records without holding up the driver.
//!
//! A store's work blocks as a rule, so it is handed out ([`Work`]) for the adapter to do where it may block, one piece
//! at a time. A store that [never waits](steadfast_store::Store::blocks) is worked on in place, unless it is to forget,
//! what it did is in doubt, or a program's seal may block. What is queued while one commit runs goes into the next,
//! which the store finds laid out when it is done with the one before it (`work`). Keys are looked up after a commit,
//! on the same trip. Now and then, between two commits, a few operations that ended long ago are forgotten. That an
//! outcome was delivered is not worth a sync of its own: it goes with the next commit, or after [`PATIENCE`]; a crash
//! before that delivers the outcome once more, as is promised. Without a store records are acknowledged at once:
//! nothing survives a crash, as was chosen.
//!
//! **What is not known is neither promised nor denied.** A commit whose error is not certain is tried again, the same
//! entries, until it is known what is on disk; nothing that came after it is written before, and so nothing that
//! depends on it is sent (`fate`).

mod batch;
mod fate;
mod forgetting;
#[cfg(test)]
mod tests;
mod work;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::operation::{Outcome, RecordId, Stage};
use steadfast_core::{Key, OperationId, Timestamp};
use steadfast_store::{Entry, StoreError};

pub(crate) use self::batch::Batch;
use self::batch::Spare;
pub(crate) use self::fate::Fate;
use self::fate::Uncertain;
use self::forgetting::Forgetting;
use self::work::{Brought, Home, Piece, Tray, What};
pub use self::work::{Work, Worked};
use crate::driver::Question;
use crate::keep::Keep;
use crate::meter::Commits;

/// This many records are written, or laid out for the next commit, without waiting for more.
const MANY: usize = 32;

/// At most this many pieces of work are done in place before one is left to a thread, which lets others have their
/// turn.
const IN_ONE_GO: u32 = 64;

/// How long a record that nobody waits for is held back, to be written with one that somebody waits for.
const PATIENCE: Duration = Duration::from_millis(100);

/// What the store has of a key.
pub(crate) type Found = Result<Option<Box<Entry>>, Arc<StoreError>>;

pub(crate) struct Journal {
    home: Option<Home>,
    volatile: bool,
    /// Whether the store's calls, or those of the program's seal, may block.
    blocks: bool,
    /// How many more pieces of work are done in place before others on this thread have their turn.
    in_place_left: u32,
    keep: Keep,
    /// How long a batch of which nothing is known waits before it is tried again.
    backoff: BackoffPolicy,
    forgetting: Forgetting,
    commits: Commits,
    queue: Batch,
    /// When the queue is written at the latest; `None` is at once: somebody waits for a record in it.
    queue_due: Option<Timestamp>,
    /// Room of batches that are written: the next ones need not grow.
    spare: Spare,
    questions: Vec<Question>,
    /// How many of those that are not answered are about jobs to be taken in.
    job_questions: usize,
    running: Option<Running>,
    /// What came of work that is done, before the one that is running.
    ready: VecDeque<Done>,
    uncertain: Option<Uncertain>,
    /// Whether the last piece of work was a commit: then it is the turn of forgetting, if that is due.
    committed: bool,
    ill: bool,
    closing: bool,
    now: Timestamp,
}

/// What is not durable yet, for metrics.
#[cfg(feature = "metrics")]
#[derive(Default)]
pub(crate) struct Backlog {
    pub(crate) records: usize,
    pub(crate) oldest: Option<Timestamp>,
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
    /// It needed none, or could not have any: what came of it is [ready](Journal::pop_done).
    Done,
}

struct Running {
    /// Who asked for each piece: those that are done and not heard of yet, the one that is worked on, and the one that
    /// lies in the tray, if there is one.
    pieces: VecDeque<Asked>,
    tray: Tray,
    forgets: bool,
}

/// Who waits for a piece of work.
#[derive(Default)]
struct Asked {
    batch: Option<Batch>,
    questions: Vec<Question>,
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
            blocks: keep.may_block() || home.as_ref().is_some_and(|home| home.blocks()),
            in_place_left: IN_ONE_GO,
            home,
            keep,
            backoff,
            forgetting: Forgetting::new(remember_for, now),
            commits: Commits::none(),
            queue: Batch::default(),
            queue_due: None,
            spare: Spare::default(),
            questions: Vec::new(),
            job_questions: 0,
            running: None,
            ready: VecDeque::new(),
            uncertain: None,
            committed: false,
            ill: false,
            closing: false,
            now,
        }
    }

    /// With its commits counted.
    pub(crate) fn counted(self, commits: Commits) -> Self {
        Self { commits, ..self }
    }

    /// Forgets for this many writers of the same store.
    pub(crate) fn forgetting_for(self, writers: usize) -> Self {
        Self { forgetting: self.forgetting.shared_by(writers), ..self }
    }

    /// Leaves it to another writer of the same store to forget.
    pub(crate) fn remembering(self) -> Self {
        Self { forgetting: self.forgetting.by_another(), ..self }
    }

    /// Whether records are kept at all. If not, there is no need to make them.
    pub(crate) const fn is_volatile(&self) -> bool {
        self.volatile
    }

    pub(crate) const fn keep(&self) -> &Keep {
        &self.keep
    }

    /// The provider's name for an entry, if one that is written had it: a copy that is used again need not be counted.
    pub(crate) fn spare_name(&mut self) -> Option<Arc<str>> {
        self.spare.name()
    }

    /// Puts a record into the next commit. Unless it only marks an outcome as delivered, that begins at once.
    pub(crate) fn push(&mut self, id: OperationId, number: RecordId, entry: Option<Entry>) {
        if entry.as_ref().is_some_and(|entry| entry.payload.is_some()) {
            self.queue.payloads.push(id);
        }
        if !entry.as_ref().is_none_or(only_marks) {
            self.queue_due = None;
        } else if self.queue.operations.is_empty() {
            self.queue_due = Some(self.now.saturating_add(PATIENCE));
        }
        self.queue.since.get_or_insert(self.now);
        self.queue.entries.extend(entry);
        self.queue.operations.push(id);
        self.queue.last = number;
    }

    /// Puts an entry that the engine knows nothing of into the next commit. If that commit fails, the entry is not
    /// written.
    pub(crate) fn note(&mut self, id: OperationId, entry: Entry) {
        let last = self.queue.last;
        self.push(id, last, Some(entry));
    }

    /// Has what is queued written at once: somebody waits for what comes after it.
    pub(crate) fn hurry(&mut self) {
        self.queue_due = None;
    }

    /// Has a key looked up.
    pub(crate) fn ask(&mut self, question: Question) {
        self.job_questions += usize::from(question.is_about_job());
        self.questions.push(question);
    }

    /// Questions that are not answered yet.
    pub(crate) fn asking(&self) -> usize {
        let found: usize = self.ready.iter().map(|done| done.found.len()).sum();
        let asked = self.running.iter().flat_map(|running| &running.pieces).map(|asked| asked.questions.len());
        self.questions.len() + found + asked.sum::<usize>()
    }

    /// All that follows happens at this time.
    pub(crate) const fn look_at_clock(&mut self, now: Timestamp) {
        self.now = now;
        self.in_place_left = IN_ONE_GO;
    }

    /// What is not durable yet.
    #[cfg(feature = "metrics")]
    pub(crate) fn backlog(&self) -> Backlog {
        let running = self.running.iter().flat_map(|running| &running.pieces).filter_map(|asked| asked.batch.as_ref());
        let uncertain = self.uncertain.iter().map(|uncertain| &uncertain.batch);
        let batches = running.chain(uncertain).chain([&self.queue]);
        batches.fold(Backlog::default(), |backlog, batch| Backlog {
            records: backlog.records + batch.operations.len(),
            oldest: backlog.oldest.into_iter().chain(batch.since).min(),
        })
    }

    /// When [`start`](Journal::start) will have something to do that it has not now.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        if self.running.is_some() || self.home.is_none() {
            return None;
        }
        if let Some(uncertain) = &self.uncertain {
            return Some(uncertain.at);
        }
        let queue = (!self.queue.operations.is_empty()).then(|| self.queue_due.unwrap_or(self.now));
        let forget = (!self.closing).then_some(self.forgetting.at);
        queue.into_iter().chain(forget).min()
    }

    /// Starts to write what is queued, or lays it out, once it is much, without waiting for more: the store must not
    /// stand still while the driver carries out what the last commit allowed, or the two take turns.
    pub(crate) fn feed(&mut self) -> Option<Started> {
        if self.queue.operations.len() < MANY || (self.running.is_none() && self.home.is_none()) {
            return None;
        }
        self.start()
    }

    /// Starts the next piece of work, or lays it out, before what came of the last one is carried out. What it writes
    /// was asked for before that.
    pub(crate) fn follow(&mut self) -> Option<Started> {
        // Without a store at hand the result would come back at once: that can wait.
        (self.running.is_some() || self.home.is_some()).then(|| self.start()).flatten()
    }

    /// Whether this key is being looked up for a job.
    pub(crate) fn asks_for(&self, key: &Key) -> bool {
        self.job_questions > 0 && self.job_questions().any(|question| question.key() == key)
    }

    /// How many look-ups may each end with a job being taken in.
    pub(crate) const fn asking_for_jobs(&self) -> usize {
        self.job_questions
    }

    fn job_questions(&self) -> impl Iterator<Item = &Question> {
        let found = self.ready.iter().flat_map(|done| &done.found).map(|(question, _)| question);
        let asked = self.running.iter().flat_map(|running| &running.pieces).flat_map(|asked| &asked.questions);
        self.questions.iter().chain(found).chain(asked).filter(|question| question.is_about_job())
    }

    /// What came of work that is done.
    pub(crate) fn pop_done(&mut self) -> Option<Done> {
        let done = self.ready.pop_front()?;
        let found = done.found.iter().filter(|(question, _)| question.is_about_job()).count();
        self.job_questions = self.job_questions.saturating_sub(found);
        Some(done)
    }

    /// Lays out what is queued, for the store to find when the work that is running is done.
    fn lay_out(&mut self) {
        let is_due = self.is_due();
        // Nothing overtakes what is uncertain, and forgetting gets its turn.
        let is_asked = is_due || !self.questions.is_empty();
        if !is_asked || self.uncertain.is_some() || self.forgets_now() {
            return;
        }
        let Some(Running { pieces, tray, .. }) = &mut self.running else { return };
        let mut laid_out = tray.lock();
        if laid_out.is_none() {
            pieces.push_back(Asked::default());
        }
        let Some(asked) = pieces.back_mut() else { return };
        let piece = laid_out.get_or_insert_with(|| Piece { entries: self.spare.take(), ..Piece::default() });
        piece.keys.extend(self.questions.iter().map(|question| question.key().clone()));
        asked.questions.append(&mut self.questions);
        if is_due {
            if piece.entries.is_empty() {
                std::mem::swap(&mut piece.entries, &mut self.queue.entries);
            } else {
                piece.entries.append(&mut self.queue.entries);
            }
            asked.batch.get_or_insert_default().append(&mut self.queue);
            self.committed = true;
        }
        drop(laid_out);
        tray.call();
    }

    /// Takes back what was laid out and not taken: it comes first in the queue.
    fn take_back(&mut self, running: &mut Running) {
        let Some(mut piece) = running.tray.lock().take() else { return };
        let Some(Asked { batch, mut questions }) = running.pieces.pop_back() else { return };
        questions.append(&mut self.questions);
        self.questions = questions;
        if let Some(mut batch) = batch {
            piece.entries.append(&mut self.queue.entries);
            batch.append(&mut self.queue);
            self.queue = Batch { entries: piece.entries, ..batch };
            self.queue_due = None;
        }
    }

    /// Starts the next piece of work, unless one is running or there is none; lays it out if one is. What needs no
    /// work, or cannot have any, is done at once, and so is the work of a store that never waits.
    pub(crate) fn start(&mut self) -> Option<Started> {
        if self.running.is_some() {
            self.lay_out();
            return None;
        }
        if self.volatile {
            let batch = self.take_queue()?;
            self.ready.push_back(Done { batch: Some((batch, Fate::Durable)), ..Done::default() });
            return Some(Started::Done);
        }
        if self.home.is_none() {
            let refused = self.refuse_all()?;
            self.ready.push_back(refused);
            return Some(Started::Done);
        }
        let forget = self.forgets_now().then(|| self.forgetting.begin(self.now));
        let mut batch = if forget.is_some() { None } else { self.next_batch() };
        let questions = if forget.is_some() { Vec::new() } else { std::mem::take(&mut self.questions) };
        if batch.is_none() && questions.is_empty() && forget.is_none() {
            return None;
        }
        let home = self.home.take()?;
        let in_place = forget.is_none() && self.goes_in_place();
        let piece = Piece {
            entries: batch.as_mut().map(|batch| std::mem::take(&mut batch.entries)).unwrap_or_default(),
            sealed: self.uncertain.is_some(),
            keys: questions.iter().map(|question| question.key().clone()).collect(),
            forget,
        };
        let tray = Tray::default();
        self.committed = batch.is_some();
        let pieces = VecDeque::from([Asked { batch, questions }]);
        self.running = Some(Running { pieces, tray: tray.clone(), forgets: forget.is_some() });
        let work = Work::new(home, self.keep.clone(), piece, tray, self.commits.clone());
        if in_place {
            self.worked(work.run_one());
            return Some(Started::Done);
        }
        Some(Started::Work(Box::new(work)))
    }

    /// Whether this work is done in place. A commit in doubt is not: it may stay in doubt, and be tried again at once.
    fn goes_in_place(&mut self) -> bool {
        if self.blocks || self.uncertain.is_some() || self.in_place_left == 0 {
            return false;
        }
        self.in_place_left -= 1;
        true
    }

    /// Takes in what came of a piece of work. To be called in the order of the pieces. After the last one the store is
    /// at hand again.
    pub(crate) fn worked(&mut self, worked: Worked) {
        if self.running.is_none() {
            return;
        }
        let done = match worked.0 {
            What::Piece(brought) => self.brought(brought),
            What::Last(brought, home) => {
                self.home = Some(home);
                let done = self.brought(brought);
                self.end_running();
                done
            }
            What::Free(home) => {
                self.home = Some(home);
                self.end_running();
                return;
            }
            What::Lost => {
                let running = self.end_running();
                self.lost(running)
            }
        };
        self.ready.push_back(done);
    }

    fn end_running(&mut self) -> Option<Running> {
        let mut running = self.running.take()?;
        self.take_back(&mut running);
        Some(running)
    }

    /// What came of a piece of work.
    fn brought(&mut self, Brought { mut entries, result, found, forgot }: Brought) -> Done {
        let asked = self.running.as_mut().and_then(|running| running.pieces.pop_front());
        let Asked { batch, questions } = asked.unwrap_or_default();
        if result.is_ok() {
            self.forgetting.note(entries.len());
            self.spare.keep(std::mem::take(&mut entries));
        }
        if let Some(forgot) = forgot {
            self.forgetting.done(forgot, self.now);
        }
        let found = found.into_iter().map(|found| found.map_err(Arc::new));
        let batch = batch.and_then(|batch| self.settle(Batch { entries, ..batch }, result));
        Done { batch, found: questions.into_iter().zip(found).collect() }
    }

    /// Whether everything pushed has been committed or failed.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_none() && self.ready.is_empty() && self.uncertain.is_none() && self.queue.operations.is_empty()
    }

    /// Whether the store has panicked: nothing will be durable any more.
    pub(crate) const fn is_gone(&self) -> bool {
        !self.volatile && self.home.is_none() && self.running.is_none()
    }

    /// What is uncertain is tried once more, at once, and then given up; nothing more is forgotten.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        let cleared = self.questions.drain(..).filter(Question::is_about_job).count();
        self.job_questions = self.job_questions.saturating_sub(cleared);
    }

    fn take_queue(&mut self) -> Option<Batch> {
        if self.queue.operations.is_empty() {
            return None;
        }
        let operations = Vec::with_capacity(self.queue.operations.len());
        let next = Batch { entries: self.spare.take(), operations, ..Batch::default() };
        Some(std::mem::replace(&mut self.queue, next))
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
        !self.queue.operations.is_empty() && (self.closing || self.queue_due.is_none_or(|at| at <= self.now))
    }

    fn forgets_now(&self) -> bool {
        let waits = self.is_due() || !self.questions.is_empty();
        let due = self.forgetting.at <= self.now && self.uncertain.is_none() && !self.closing;
        due && (self.committed || !waits)
    }
}

/// Whether nobody waits for this entry, since it only marks an outcome as delivered. If the job was rejected, somebody
/// may wait, since the entry frees the key.
const fn only_marks(entry: &Entry) -> bool {
    matches!(entry.record.stage, Stage::Delivered(Outcome::Completed(_) | Outcome::Failed | Outcome::Unresolved(_)))
}
