//! The machine: what happened goes in, what the adapter must do comes out.
//!
//! It owns the engine and does what that says, as far as it needs no I/O: it builds requests, reads answers, gathers
//! records into commits, and tells callers what they wait for. What is left for an adapter is a loop around it, shown
//! on the front page: carry out each [`Task`], feed what came of it, sleep until
//! [`next_deadline`](Driver::next_deadline).
//!
//! `intake` takes jobs in, `callers` are those who follow them, `send` sends their requests and takes in the answers,
//! `resume` takes jobs up after a restart, `webhooks` takes in what the provider tells by itself, `revisions` what it
//! says of jobs that have ended, `renew` renews credentials, `results` keeps the answers of jobs that have ended,
//! `untaken` the outcomes that the program's hook could not take, `notices` tells the observer, `status` tells where a
//! job stands, and `close` ends the driver. What the shards of one client have in common is in `shared`.

mod by_id;
mod callers;
mod close;
mod end;
mod inbox;
mod intake;
mod job;
mod jobs;
mod notices;
mod records;
mod renew;
mod results;
mod resume;
mod revisions;
mod send;
mod shared;
mod status;
mod task;
mod untaken;
mod webhooks;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use steadfast_core::engine::{self, Limits};
use steadfast_core::gate::Gate;
use steadfast_core::operation::Effect;
use steadfast_core::{Engine, Key, OperationId, Seed, Timestamp};
use steadfast_providers::Provider;
use tracing::level_filters::LevelFilter;

use self::by_id::{ById, Ids};
pub use self::callers::Following;
use self::callers::Reply;
use self::close::Closing;
use self::end::Unclaimed;
pub(crate) use self::intake::Question;
pub use self::intake::Submit;
use self::job::Job;
use self::jobs::Jobs;
use self::renew::Renewals;
pub use self::renew::{Renew, RenewError, Renewed, Renewing};
use self::results::Results;
use self::resume::Parking;
use self::revisions::Ends;
pub use self::send::{Answered, Reader, Sending};
use self::shared::Gated;
pub use self::shared::Word;
pub(crate) use self::shared::{Common, Shard};
pub use self::status::{JobStatus, StatusError};
pub use self::task::{Command, Task};
use self::untaken::Untaken;
use self::webhooks::Webhooks;
use crate::builder::Loaded;
use crate::correlation::CorrelationHeader;
use crate::finished::{Back, Finished, SubmitError};
use crate::journal::{Journal, Started, Worked};
use crate::meter::Meter;
use crate::observe::Hooks;
use crate::probes::lasting;
use crate::revision::Subscribers;
use crate::webhook::Posted;

/// One client's engine, with all that an adapter needs beside it. See the [crate's front page](crate).
///
/// Like the core's driven machines it takes the time as an argument, made from the wall clock by
/// [`steadfast_core::Clock`]. After [`handle_timeout`](Driver::handle_timeout), and once all tasks are popped, its next
/// deadline is later than `now`.
pub struct Driver<H> {
    engine: Gated,
    now: Timestamp,
    journal: Journal,
    provider: Arc<dyn Provider>,
    /// Copies of `provider` that readers of answers gave back, for reuse: to clone and drop the `Arc` on two threads in
    /// turns would cost more.
    readers: Vec<Arc<dyn Provider>>,
    /// For the journal.
    provider_name: Arc<str>,
    limits: Limits,
    body_limit: usize,
    correlation_header: CorrelationHeader,
    hooks: Hooks,
    /// Where outcomes go that nobody has read, if there is a hook for them.
    back: Option<Back>,
    meter: Meter,
    jobs: Jobs<H>,
    /// After this many more effects, jobs' memory is prefetched again.
    fetched: usize,
    parked: Parking<H>,
    /// Jobs that were taken out of the engine, parked or back under another id: by the ids that their handles have.
    withdrawn: ById<Key>,
    results: Results,
    unclaimed: Unclaimed,
    untaken: Untaken,
    webhooks: Webhooks,
    renewals: Renewals,
    /// The last renewal that was begun here, and not by another shard.
    renewal: Option<u32>,
    ends: Ends,
    /// Results of requests that did not leave, since they could not be built.
    unsent: VecDeque<Answered>,
    tasks: VecDeque<Task<H>>,
    closing: Option<Closing>,
    /// No client is left that could ask for something.
    abandoned: bool,
    /// Nothing is carried out any more; only what is being written is waited for.
    closed: bool,
    /// Creates that did not leave after that, which is still to be written.
    recalled: Ids,
}

/// The salt by which the first generation of a driver's job ids is drawn.
const GENERATION: u64 = u64::MAX;

/// Feed.
impl<H> Driver<H> {
    /// A driver of this provider's jobs, with these [settings](crate::Settings) and the jobs that their store held.
    /// Jobs that were under way go on.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>, loaded: Loaded, now: Timestamp) -> Self {
        let Loaded { settings, store, taken, shard } = loaded;
        let seed = settings.seed.unwrap_or_else(|| Seed::new(fastrand::u64(..)));
        // Every process has chance of its own here: breakers that opened together must not ask again together.
        let own_gate = || Gate::new(settings.gate, settings.seed.unwrap_or_else(|| Seed::new(fastrand::u64(..))));
        let gate = if shard.is_some() { Gated::stand_in() } else { own_gate() };
        let persist = settings.policy.persist().clone();
        let provider_name = Arc::from(provider.name());
        let meter = Meter::new(&provider_name, Some(&gate).filter(|_| shard.is_none()), now);
        let webhooks = Webhooks::new(settings.webhooks, provider.has_webhooks(), shard.as_ref());
        let journal = Journal::new(store, settings.keep, persist, settings.limits.remember_for, now);
        // One of the shards is enough to forget.
        let journal = match &shard {
            None => journal,
            Some(shard) if shard.index == 0 => journal.forgetting_for(shard.common.count),
            Some(_) => journal.remembering(),
        };
        let shard_index = shard.as_ref().map_or(0, |shard| shard.index as u32);
        // Drawn, so that a program which mixes up its drivers, or feeds one what an earlier one has left, gives no job
        // another's answer.
        let drawn = seed.derive(GENERATION).between(0, (1 << 25) - 1) as u32;
        // Room is counted here, with what is still looked up: what was let in is not refused because others came back
        // meanwhile.
        let limits = Limits { live: u32::MAX, ..settings.limits };
        let engine =
            Engine::new(settings.policy, gate, limits, seed).with_first_generation((shard_index << 26) + drawn);
        let mut driver = Self {
            engine: Gated::new(engine, shard),
            now,
            journal: journal.counted(meter.commits()),
            provider_name,
            meter,
            webhooks,
            readers: Vec::new(),
            provider,
            body_limit: settings.body_limit,
            correlation_header: settings.correlation_header,
            renewals: Renewals::new(settings.hooks.renew.clone()),
            renewal: None,
            ends: Ends::new(settings.webhooks.remember),
            hooks: settings.hooks,
            back: None,
            jobs: Jobs::default(),
            fetched: 0,
            limits: settings.limits,
            parked: Parking::default(),
            withdrawn: ById::default(),
            results: Results::new(settings.results_limit),
            unclaimed: Unclaimed::default(),
            untaken: Untaken::new(settings.results_limit),
            unsent: VecDeque::new(),
            tasks: VecDeque::new(),
            closing: None,
            abandoned: false,
            closed: false,
            recalled: Ids::default(),
        };
        driver.take_up(taken);
        driver
    }

    /// Sets where [revisions](crate::Revision) go.
    pub fn tell_revisions_to(&mut self, subscribers: Box<dyn Subscribers>) {
        self.ends.subscribers = Some(subscribers);
    }

    /// Sets what is called with an outcome that was sent to a handle and never read, since the handle was dropped just
    /// then. It must bring the outcome to this driver as [`Command::Unread`]. It is called on whichever thread drops
    /// the outcome, and only if the program has a hook for [unclaimed](crate::Builder::unclaimed) outcomes. If nothing
    /// is set, that hook does not hear of such outcomes.
    ///
    /// If the driver is gone, `back` returns the outcome as its error, and the hook is called at once, on that thread.
    pub fn give_back_to(&mut self, back: impl Fn(Finished) -> Result<(), Box<Finished>> + Send + Sync + 'static) {
        let Some(unclaimed) = self.hooks.unclaimed.clone() else { return };
        self.back = Some(Arc::new(move |finished| {
            if let Err(finished) = back(finished) {
                untaken::take(&unclaimed, &finished, "its client has stopped, so submit or resume the key for it");
            }
        }));
    }

    /// Takes in a job, or joins the one of this key. Call it only while there [is room](Driver::has_room), or if the
    /// submit [joins](Driver::joins) a job. Once a shutdown has begun, the caller is answered with
    /// [`SubmitError::Stopped`].
    pub fn submit(&mut self, submit: Submit, now: Timestamp) {
        self.look_at_clock(now);
        if self.closing.is_some() || self.closed {
            return Reply::Submit(submit.reply).refuse(SubmitError::Stopped);
        }
        if !self.has_room() && !self.joins(&submit) {
            let full = engine::SubmitError::Full { live: self.limits.live };
            return Reply::Submit(submit.reply).refuse(full.into());
        }
        self.take(submit);
    }

    /// Carries out a program's command.
    pub fn command(&mut self, command: Command, now: Timestamp) {
        self.look_at_clock(now);
        match command {
            // A caller can still ask what is unfinished, and that must not change any more.
            Command::Cancel(_) | Command::Resume { .. } | Command::Status { .. } if self.closed => {}
            Command::Hold { .. } | Command::Gate { .. } if self.closed => {}
            Command::Accepted { id, reply } => {
                if let Some(job) = self.followed(id) {
                    job.telling.wait(reply);
                }
            }
            Command::Cancel(id) => self.cancel(id),
            Command::Resume { key, reply } => self.resume(key, Reply::Resume(reply)),
            Command::Status { key, reply } => self.status(key, reply),
            Command::Unread(finished) => self.given_back(&finished),
            Command::Hold { span, number } => self.hold(span, number),
            Command::Gate { mut policy, number } => {
                lasting(&mut policy, self.engine.policy());
                self.set_gate(*policy, number);
            }
            Command::Shutdown { grace, reply } => {
                let until = self.now.saturating_add(grace);
                let closing = self.closing.get_or_insert(Closing { until, reply: Vec::new(), in_doubt: Vec::new() });
                closing.until = closing.until.min(until);
                closing.reply.push(reply);
            }
        }
    }

    /// Takes in a genuine webhook: see [`Mailbox`](crate::Mailbox).
    pub fn deliver(&mut self, posted: Posted, now: Timestamp) {
        self.look_at_clock(now);
        self.posted(posted);
    }

    /// Hands over what the adapter holds for a request that it has begun to send.
    pub fn sent(&mut self, id: OperationId, held: H) {
        // If the job has ended meanwhile, or was taken out, no next request waits for this one.
        if let Some(job) = self.jobs.get_mut(id) {
            job.request = Some(held);
        }
    }

    /// What the adapter holds for the job's request in flight, or for one that was given up and has brought nothing
    /// yet.
    #[must_use]
    pub fn request(&self, id: OperationId) -> Option<&H> {
        self.jobs.get(self.current(id)).and_then(|job| job.request.as_ref())
    }

    /// What the adapter holds for all requests, each with its job: to find those that have not left when a shutdown's
    /// grace has passed.
    pub fn requests(&self) -> impl Iterator<Item = (OperationId, &H)> {
        self.jobs.iter().filter_map(|(id, job)| Some((id, job.request.as_ref()?)))
    }

    /// Takes back what the adapter holds for the answered request, if the adapter uses that again: a task that waits
    /// for its next request, say. Call it before [feeding](Driver::answered) the answer, which drops it. `None` if
    /// nothing is held for it any more: another request has followed, the job is gone, or it was taken already.
    /// [`request`](Driver::request) does not find it afterwards.
    ///
    /// ```
    /// use steadfast_core::Timestamp;
    /// use steadfast_driver::{Answered, Driver};
    ///
    /// fn take_in<H>(driver: &mut Driver<H>, idle: &mut Vec<H>, answered: Answered, now: Timestamp) {
    ///     idle.extend(driver.take_request(&answered));
    ///     driver.answered(answered, now);
    /// }
    /// ```
    pub fn take_request(&mut self, answered: &Answered) -> Option<H> {
        self.jobs.get_mut(answered.id).filter(|job| job.sent == Some(answered.attempt))?.request.take()
    }

    /// Feeds what came of a request.
    pub fn answered(&mut self, answered: Answered, now: Timestamp) {
        self.look_at_clock(now);
        self.answer(answered);
    }

    /// Gives back a request that certainly has not left, and will not: the adapter took it back before its transport
    /// had it, since the job was cancelled, the request's time ran out, or the client stops. It counts as not executed,
    /// and is due again, unless what is fed next ends the job or the provider may have forgotten its key by now. It
    /// says nothing about the provider. `why` is for the log.
    ///
    /// Do not use it for a connection that could not be made, which is
    /// [`SendError::not_sent`](crate::SendError::not_sent): there the transport was asked, and the provider may be
    /// down.
    ///
    /// ```
    /// use steadfast_core::{OperationId, Timestamp};
    /// use steadfast_driver::{Command, Driver, Sending};
    ///
    /// fn cancel<H>(driver: &mut Driver<H>, id: OperationId, waits: Option<Box<Sending<H>>>, now: Timestamp) {
    ///     if let Some(request) = waits {
    ///         driver.unsent(*request, "it was cancelled", now);
    ///     }
    ///     driver.command(Command::Cancel(id), now);
    /// }
    /// ```
    pub fn unsent(&mut self, request: Sending<H>, why: &'static str, now: Timestamp) {
        self.look_at_clock(now);
        self.give_back(request.reader, why);
    }

    /// Feeds what came of the store's work. The next piece of work begins before the results of this one are carried
    /// out.
    pub fn worked(&mut self, worked: Worked, now: Timestamp) {
        self.look_at_clock(now);
        self.journal.worked(worked);
        if let Some(Started::Work(work)) = self.journal.follow() {
            self.tasks.push_front(Task::Work(work));
        }
    }

    /// Says that the last client is gone: the driver ends once everything it has is done. Drain it afterwards, as after
    /// any input: if nothing is left to do, that ends it.
    pub fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Does what is due at `now`. Early or repeated calls change nothing.
    ///
    /// Feed what has come before you call it: it gives up requests whose time has passed, and if your loop was held up,
    /// answers to them may be waiting that came in time.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.look_at_clock(now);
        if self.closed {
            // The store may take its time, but the senders of webhooks are answered within theirs.
            return self.webhooks.handle_timeout(self.now);
        }
        // Notices are made only if somebody hears them; a subscriber may come and go.
        let heard = self.hooks.observer.is_some() || Meter::LISTENS || LevelFilter::current() != LevelFilter::OFF;
        self.engine.observe(heard);
        self.give_up_renewal();
        self.engine.handle_timeout(self.now);
        self.results.forget(|id| self.engine.operation(id).is_some());
        self.unpark_overdue(self.now);
        self.webhooks.handle_timeout(self.now);
        self.give_again();
    }

    fn look_at_clock(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.journal.look_at_clock(self.now);
    }
}

/// Pop.
impl<H> Driver<H> {
    /// The next task; `None` if there is none until something is fed, or until the next deadline. On the way it answers
    /// callers that wait.
    #[must_use = "a task that is dropped is not done, and its job never gets on"]
    pub fn pop_task(&mut self, now: Timestamp) -> Option<Task<H>> {
        self.look_at_clock(now);
        loop {
            self.tell_notices();
            if let Some(task) = self.tasks.pop_front().or_else(|| self.tell_shards()) {
                return Some(task);
            }
            if let Some(answered) = self.unsent.pop_front() {
                self.answer(answered);
            } else if let Some(done) = self.journal.pop_done() {
                self.done(done);
            } else if let Some(started) = self.journal.feed() {
                if let Started::Work(work) = started {
                    return Some(Task::Work(work));
                }
            } else if let Some((id, effect)) = self.next_effect() {
                self.perform(id, effect);
            } else if let Some(started) = self.start_work() {
                if let Started::Work(work) = started {
                    return Some(Task::Work(work));
                }
            } else if self.closed {
                // A caller that waits for the end finds it counted.
                self.sample_gate();
                self.meter.sample(&self.engine, self.parked.len(), &self.journal, self.now);
                self.report();
                return None;
            } else if self.closes() {
                self.close();
            } else {
                self.sample_gate();
                self.meter.sample(&self.engine, self.parked.len(), &self.journal, self.now);
                return None;
            }
        }
    }

    fn perform(&mut self, id: OperationId, effect: Effect) {
        match effect {
            Effect::Persist(number) => self.persist(id, number),
            Effect::Send(attempt) => self.send(id, attempt),
            // Its answer is still wanted.
            Effect::Abandon(_) if self.jobs.get(id).is_some_and(|job| job.telling.awaits_answer()) => {}
            Effect::Abandon(_) if self.request(id).is_some() => self.tasks.push_back(Task::Abort(id)),
            Effect::End => self.end(id),
            _ => {}
        }
    }

    fn start_work(&mut self) -> Option<Started> {
        if self.closing.is_some() || !self.has_room() {
            self.journal.hurry();
        }
        self.journal.start()
    }
}

/// Look.
impl<H> Driver<H> {
    /// When to call [`handle_timeout`](Driver::handle_timeout) and [`pop_task`](Driver::pop_task), if nothing happens
    /// before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if self.closed {
            return self.webhooks.next_deadline().and_then(Timestamp::deadline);
        }
        let parts = [
            self.engine.next_deadline(),
            self.parked.next_deadline(),
            self.webhooks.next_deadline(),
            self.journal.next_deadline(),
            self.renewals.next_deadline(),
            self.untaken.next_deadline(),
            self.closing.as_ref().map(|closing| closing.until),
        ];
        parts.into_iter().flatten().min().and_then(Timestamp::deadline)
    }

    /// Whether another job may be [submitted](Driver::submit). If not, the adapter keeps it waiting, unless it
    /// [joins](Driver::joins) a job. `true` once a shutdown has begun, which makes no room: then a submit is refused at
    /// once.
    ///
    /// Ask again after each drain of [`pop_task`](Driver::pop_task), before you sleep: a drain that ends a job makes
    /// room, and no deadline or event tells of it. An adapter that asks only before the drain sleeps while jobs wait.
    ///
    /// ```
    /// use std::collections::VecDeque;
    ///
    /// use steadfast_core::Timestamp;
    /// use steadfast_driver::{Driver, Submit, Task};
    ///
    /// fn turn<H>(driver: &mut Driver<H>, waiting: &mut VecDeque<Submit>, now: Timestamp, mut perform: impl FnMut(&mut Driver<H>, Task<H>)) {
    ///     loop {
    ///         while driver.has_room()
    ///             && let Some(submit) = waiting.pop_front()
    ///         {
    ///             driver.submit(submit, now);
    ///         }
    ///         while let Some(task) = driver.pop_task(now) {
    ///             perform(driver, task);
    ///         }
    ///         if waiting.is_empty() || !driver.has_room() {
    ///             return; // and now it may sleep
    ///         }
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn has_room(&self) -> bool {
        let jobs = (self.engine.live() as usize).saturating_add(self.journal.asking_for_jobs());
        self.closing.is_some() || jobs < self.limits.live as usize
    }

    /// Whether this submit needs no [room](Driver::has_room): it joins a job that is known here, or brings the payload
    /// that one [waits for](crate::Builder::store). Submit it at once, ahead of those that wait for room: behind them,
    /// the payload might come after its job's deadline.
    #[must_use]
    pub fn joins(&self, submit: &Submit) -> bool {
        self.is_at_hand(&submit.key)
    }

    /// Whether the driver is closed: it takes in nothing more, and whatever is fed comes too late.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the driver has ended: nothing is left to do, and nothing is waited for.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.closed && self.tasks.is_empty() && self.journal.is_idle()
    }
}

impl<H> fmt::Debug for Driver<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("provider", &self.provider_name)
            .field("live", &self.engine.live())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}
