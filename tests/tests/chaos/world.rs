//! What the clients of one round have in common, and what is held against the provider's book.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use steadfast_core::operation::{Rejected, Unresolved};
use steadfast_core::{Key, Outcome, Seed};
use steadfast_driver::{
    Accepted, Builder, Delivery, Finished, NotAccepted, ResumeError, Stopped, SubmitError, Unfinished, WebhookPolicy,
};
use steadfast_store::MemoryStore;
use tokio::sync::oneshot;

use crate::plan::{KEYS, Payloads, Plan};
use crate::provider::{Book, Profile};
use crate::shelf::Shelf;

/// A client, as either adapter has it.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    type Job: Send + 'static;

    fn submit(&self, key: Key, payload: String) -> impl Future<Output = Result<Self::Job, SubmitError>> + Send;
    fn resume(&self, key: Key) -> impl Future<Output = Result<Self::Job, ResumeError>> + Send;
    fn deliver(&self, headers: &HeaderMap, body: Bytes) -> impl Future<Output = Delivery> + Send;
    fn hold(&self, span: Duration);
    fn shutdown(self, grace: Duration) -> impl Future<Output = Vec<Unfinished>> + Send;
    fn accepted(job: Self::Job) -> impl Future<Output = (Self::Job, Result<Accepted, NotAccepted>)> + Send;
    fn cancel(job: &Self::Job);
    fn ended(job: Self::Job) -> impl Future<Output = Result<Finished, Stopped>> + Send;
}

/// How long a webhook is kept waiting.
const WHILE: Duration = Duration::from_millis(10);

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) book: Arc<Book>,
    /// Whether the store has failed, or a client gone down without its shutdown: then more may be in doubt than has left.
    pub(crate) is_in_doubt: Arc<AtomicBool>,
    memory: MemoryStore,
    directory: tempfile::TempDir,
    told: Mutex<Told>,
}

/// What callers were told, by key.
#[derive(Default)]
struct Told {
    /// With which payload each was taken in last.
    taken_in: BTreeMap<usize, usize>,
    outcomes: BTreeMap<usize, Vec<Finished>>,
    stopped: BTreeSet<usize>,
    reported: BTreeSet<String>,
}

pub(crate) fn key(number: usize) -> Key {
    Key::new(format!("order-{number}")).unwrap()
}

pub(crate) fn payload(number: usize, which: usize) -> String {
    format!("payload {which} of {number}")
}

impl World {
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            book: Book::new(plan.clone()),
            plan,
            is_in_doubt: Arc::default(),
            memory: MemoryStore::default(),
            directory: tempfile::tempdir().unwrap(),
            told: Mutex::default(),
        })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client of this number; the last is well, and so is all around it. With it, what tells that its store is closed.
    pub(crate) fn describe<T, C>(
        self: &Arc<Self>,
        number: usize,
        transport: T,
    ) -> (Builder<Profile, T, C>, Option<oneshot::Receiver<()>>) {
        let (plan, is_last) = (&self.plan, number == self.plan.ends.len());
        let mut builder = Builder::new(Profile(plan.clone()), transport).seed(Seed::new(plan.seed));
        let ill = if is_last { 0 } else { plan.store_ill };
        let rng = plan.rng(&[number as u64, 11]);
        let shelf = Shelf::open(plan.home, &self.memory, self.directory.path(), rng, ill, self.is_in_doubt.clone());
        let webhooks = WebhookPolicy { answer_within: WHILE, inbox_for: 4 * WHILE, ..WebhookPolicy::default() };
        builder = builder.webhooks(webhooks);
        let mut is_closed = None;
        if let Some((shelf, closed)) = shelf {
            builder = builder.store(shelf);
            is_closed = Some(closed);
        }
        match plan.payloads {
            Payloads::Kept => builder = builder.keep_payloads(),
            Payloads::Loaded => {
                let world = self.clone();
                builder = builder.payloads(move |key| world.load(key).map(Into::into));
            }
            Payloads::Nowhere => {}
        }
        if plan.keeps_answers {
            builder = builder.keep_answers();
        }
        if number > 0 && !is_last {
            let seed = plan.seed;
            builder = builder.take_up(move |key| key.as_str().bytes().map(u64::from).sum::<u64>() % 3 != seed % 3);
        }
        (builder, is_closed)
    }

    fn load(&self, key: &Key) -> Option<String> {
        let number = (0..KEYS).find(|number| self::key(*number) == *key)?;
        Some(payload(number, *self.told().taken_in.get(&number)?))
    }

    /// Which payload the key was taken in with, if it was.
    pub(crate) fn taken_in(&self, number: usize) -> Option<usize> {
        self.told().taken_in.get(&number).copied()
    }

    pub(crate) fn take_in(&self, number: usize, which: usize) {
        self.told().taken_in.insert(number, which);
    }

    pub(crate) fn reported(&self, unfinished: &[Unfinished]) {
        self.told().reported.extend(unfinished.iter().map(|one| one.key.as_str().to_owned()));
    }

    /// By the last client: nothing but what waits for a payload that nobody was told to bring.
    pub(crate) fn left(&self, unfinished: &[Unfinished]) {
        let told = self.told();
        for one in unfinished {
            if told.taken_in.keys().any(|number| key(*number) == one.key) {
                self.book.violated(one.key.as_str(), "is unfinished at last");
            }
        }
    }

    /// How a job ended, as somebody was told.
    pub(crate) fn ended(&self, number: usize, ended: Result<Finished, Stopped>) {
        let key = key(number);
        let Ok(finished) = ended else {
            self.book.note(key.as_str(), "its client has stopped");
            self.told().stopped.insert(number);
            return;
        };
        self.book.note(key.as_str(), format!("ended: {:?} after {} creates", finished.outcome, finished.creates));
        let (ran, left, end, reference) =
            self.book.look(key.as_str(), |page| (page.ran, page.left, page.end, page.reference.clone()));
        let wrong = match finished.outcome {
            Outcome::Completed(_) => end != Some(false) || ran == 0,
            Outcome::Failed => end != Some(true) || ran == 0,
            Outcome::Unresolved(why) => {
                let was_accepted = matches!(
                    why,
                    Unresolved::Polls | Unresolved::PollDeadline | Unresolved::PollRefused | Unresolved::NotFound
                );
                // Nothing is known to have left, and whoever was there to know of it went in peace.
                (was_accepted && ran == 0) || (left == 0 && !self.is_in_doubt.load(Ordering::SeqCst))
            }
            Outcome::Rejected(_) => false,
        };
        let other_reference = finished.reference.as_ref().is_some_and(|it| Some(it.as_str()) != reference.as_deref());
        if wrong || other_reference {
            let book = format!("ran {ran} times, {left} creates left, ended {end:?}");
            self.book.violated(key.as_str(), format!("told {:?}, but in the book: {book}", finished.outcome));
        }
        self.told().outcomes.entry(number).or_default().push(finished);
    }

    /// In which ways jobs have ended.
    pub(crate) fn outcomes(&self) -> BTreeSet<&'static str> {
        self.told().outcomes.values().flatten().map(|one| one.outcome.name()).collect()
    }

    /// Once all has ended.
    pub(crate) fn check(&self) {
        let told = self.told();
        for (number, outcomes) in &told.outcomes {
            let key = key(*number);
            // One of which no create was begun may have come before one that ran.
            let was_tried = |one: &Finished| one.creates > 0 && one.outcome != Outcome::Rejected(Rejected::Cancelled);
            let all_rejected = outcomes.iter().all(|one| matches!(one.outcome, Outcome::Rejected(_)) && was_tried(one));
            let (ran, jobs) = self.book.look(key.as_str(), |page| (page.ran, page.jobs));
            if all_rejected && ran > 0 && jobs == 1 {
                self.book.violated(key.as_str(), "was rejected, though it ran");
            }
            let ends = outcomes.iter().map(|one| one.outcome);
            let known: BTreeSet<_> =
                ends.filter(|end| matches!(end, Outcome::Completed(_) | Outcome::Failed)).map(Outcome::name).collect();
            if known.len() > 1 {
                self.book.violated(key.as_str(), format!("ended in two ways: {outcomes:?}"));
            }
        }
        for number in &told.stopped {
            let key = key(*number);
            if !told.outcomes.contains_key(number) && !told.reported.contains(key.as_str()) {
                self.book.violated(key.as_str(), "was taken in, and is neither ended nor reported");
            }
        }
    }
}
