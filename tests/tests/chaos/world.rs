//! What the clients of one round have in common, and what is held against the provider's book.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{Rejected, Unresolved};
use steadfast_core::{Key, Outcome, Seed};
use steadfast_driver::{
    Accepted, Builder, Delivery, Durability, Finished, NotAccepted, ResumeError, Stopped, SubmitError, Unfinished,
    WebhookPolicy,
};
use steadfast_store::Store;

use crate::cabinet::{Cabinet, Known};
use crate::plan::{KEYS, Payloads, Plan, Taker, Wax};
use crate::provider::{Book, Profile};
use crate::seal::{Sealer, take};
use crate::shelf::{Shelf, Watched};

/// A client, as either adapter has it.
pub(crate) trait Client: Clone + Send + Sync + 'static {
    type Job: Send + 'static;

    fn submit(&self, key: Key, payload: String) -> impl Future<Output = Result<Self::Job, SubmitError>> + Send;
    fn resume(&self, key: Key) -> impl Future<Output = Result<Self::Job, ResumeError>> + Send;
    fn deliver(&self, headers: &HeaderMap, body: Bytes) -> impl Future<Output = Delivery> + Send;
    fn hold(&self, span: Duration);
    fn set_gate(&self, gate: GatePolicy);
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
    pub(crate) cabinet: Cabinet,
    /// Whether the store has failed, a client gone down without its shutdown, or a copy been put back: then more may
    /// be in doubt than has left.
    pub(crate) is_in_doubt: Arc<AtomicBool>,
    /// Held by each way to the provider, as long as anything may leave by it.
    pub(crate) wires: Arc<()>,
    copied: Mutex<Copied>,
    told: Mutex<Told>,
}

/// Of a copy of the journal.
#[derive(Default)]
struct Copied {
    known: Known,
    /// How many creates had left when it was made, by key.
    left: BTreeMap<usize, u32>,
    is_put_back: bool,
    /// What may have been submitted since, when it was put back, and the copy does not know.
    is_lost: BTreeSet<usize>,
}

/// What callers were told, by key.
#[derive(Default)]
struct Told {
    /// With which payload each was taken in last.
    taken_in: BTreeMap<usize, usize>,
    outcomes: BTreeMap<usize, Vec<Finished>>,
    /// Which were said to have been sent, perhaps, when none of their creates had left, nor anything happened that
    /// leaves more in doubt.
    unleft: BTreeSet<usize>,
    stopped: BTreeSet<usize>,
    reported: BTreeSet<String>,
}

pub(crate) fn key(number: usize) -> Key {
    Key::new(format!("order-{number}")).unwrap()
}

/// The number of a key, if it is one of ours.
pub(crate) fn number(of: &Key) -> Option<usize> {
    (0..KEYS).find(|number| key(*number) == *of)
}

pub(crate) fn payload(number: usize, which: usize) -> String {
    format!("payload {which} of {number}")
}

impl World {
    pub(crate) fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            book: Book::new(plan.clone()),
            cabinet: Cabinet::new(plan.home),
            plan,
            is_in_doubt: Arc::default(),
            wires: Arc::default(),
            copied: Mutex::default(),
            told: Mutex::default(),
        })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client of this number, which could not be started so often; the last is well, and so is all around it. With
    /// it, by which it is known how its store does.
    pub(crate) fn describe<T, C>(
        self: &Arc<Self>,
        number: usize,
        tries: u64,
        transport: T,
    ) -> (Builder<Profile, T, C>, Option<Watched>) {
        let (plan, is_last) = (&self.plan, number == self.plan.ends.len());
        let mut builder = Builder::new(Profile(plan.clone()), transport).seed(Seed::new(plan.seed));
        let webhooks = WebhookPolicy {
            unknown: plan.unknown,
            answer_within: WHILE,
            inbox_for: 4 * WHILE,
            ..WebhookPolicy::default()
        };
        builder = builder.webhooks(webhooks);
        if self.puts_back(number) && !self.cabinet.knows_what_was_put_back() {
            builder = builder.from_backup();
        }
        let mut watched = None;
        if let Some((shelf, watches)) = Shelf::open(self, number, is_last, tries) {
            builder = builder.store(shelf);
            watched = Some(watches);
        }
        if plan.is_volatile {
            builder = builder.durability(Durability::Volatile);
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
        if plan.wax != Wax::None {
            let wax = if is_last { Wax::Good } else { plan.wax };
            let rng = Mutex::new(plan.rng(&[number as u64, 17]));
            builder = builder.seal(Sealer { world: self.clone(), wax, rng });
        }
        if plan.taker != Taker::Nobody {
            let (world, rng) = (self.clone(), Mutex::new(plan.rng(&[number as u64, 19])));
            builder = builder.unclaimed(move |key, finished| take(&world, &rng, key, finished));
        }
        if number > 0 && !is_last {
            let seed = plan.seed;
            builder = builder.take_up(move |key| key.as_str().bytes().map(u64::from).sum::<u64>() % 3 != seed % 3);
        }
        (builder, watched)
    }

    fn copied(&self) -> MutexGuard<'_, Copied> {
        self.copied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a copy of the journal, which is in this store.
    pub(crate) fn copy(&self, store: Box<dyn Store>) -> Box<dyn Store> {
        let (store, known) = self.cabinet.copy(store);
        let left = (0..KEYS).map(|number| (number, self.book.look(key(number).as_str(), |page| page.left)));
        *self.copied() = Copied { known, left: left.collect(), ..Copied::default() };
        store
    }

    /// Whether the client of this number starts on a copy, which is in the journal's place now.
    fn puts_back(&self, client: usize) -> bool {
        let Some(copy) = self.plan.copy.filter(|copy| copy.client == client) else { return false };
        if self.cabinet.put_back(!copy.unmarked) {
            let mut copied = self.copied();
            let is_lost = |number: &usize| {
                let key = key(*number);
                let is_known = copied.known.get(key.as_str()).is_some_and(|may_have_run| *may_have_run);
                !is_known && self.book.look(key.as_str(), |page| Some(page.left) != copied.left.get(number).copied())
            };
            copied.is_lost = (0..KEYS).filter(is_lost).collect();
            copied.is_put_back = true;
            self.is_in_doubt.store(true, Ordering::SeqCst);
        }
        self.is_put_back()
    }

    pub(crate) fn is_put_back(&self) -> bool {
        self.copied().is_put_back
    }

    /// Whether the copy that was put back does not know what was submitted since.
    pub(crate) fn is_lost(&self, number: usize) -> bool {
        self.copied().is_lost.contains(&number)
    }

    /// Not what may have been submitted after the copy was made that was put back, unless the provider drops repeats of
    /// a key.
    pub(crate) fn may_be_submitted(&self, number: usize) -> bool {
        self.plan.is_keyed() || !self.is_lost(number)
    }

    fn load(&self, key: &Key) -> Option<String> {
        let number = number(key)?;
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
                if left == 0 && !self.is_in_doubt.load(Ordering::SeqCst) {
                    self.told().unleft.insert(number);
                }
                was_accepted && ran == 0
            }
            Outcome::Rejected(_) => false,
        };
        let other_reference = finished.reference.as_ref().is_some_and(|it| Some(it.as_str()) != reference.as_deref());
        let is_known = matches!(finished.outcome, Outcome::Completed(_) | Outcome::Failed);
        let (body, webhook) = (finished.body(), b"{\"reference\"");
        let strange = is_known && !body.is_empty() && body != b"the result" && !body.starts_with(webhook);
        if wrong || other_reference || strange {
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
        // On a busy machine a thread that has taken a request may come to send it when all is over.
        while Arc::strong_count(&self.wires) > 1 {
            thread::yield_now();
        }
        let told = self.told();
        for number in &told.unleft {
            let key = key(*number);
            if self.book.look(key.as_str(), |page| page.left) == 0 {
                self.book.violated(key.as_str(), "was said to have run, perhaps, though no create has left");
            }
        }
        for (number, outcomes) in &told.outcomes {
            let key = key(*number);
            // One of which no create was begun may have come before one that ran.
            let was_tried = |one: &Finished| one.creates > 0 && one.outcome != Outcome::Rejected(Rejected::Cancelled);
            let all_rejected = outcomes.iter().all(|one| matches!(one.outcome, Outcome::Rejected(_)) && was_tried(one));
            let (ran, jobs) = self.book.look(key.as_str(), |page| (page.ran, page.jobs));
            if all_rejected && ran > 0 && jobs == 1 && !self.is_lost(*number) {
                self.book.violated(key.as_str(), "was rejected, though it ran");
            }
            let ends = outcomes.iter().map(|one| one.outcome);
            let known: BTreeSet<_> =
                ends.filter(|end| matches!(end, Outcome::Completed(_) | Outcome::Failed)).map(Outcome::name).collect();
            if known.len() > 1 {
                self.book.violated(key.as_str(), format!("ended in two ways: {outcomes:?}"));
            }
        }
        if self.plan.is_volatile && !self.cabinet.is_empty() {
            self.book.violated("the journal", "something is kept, though nothing was to be");
        }
        for number in &told.stopped {
            let key = key(*number);
            if !told.outcomes.contains_key(number) && !told.reported.contains(key.as_str()) {
                self.book.violated(key.as_str(), "was taken in, and is neither ended nor reported");
            }
        }
    }
}
