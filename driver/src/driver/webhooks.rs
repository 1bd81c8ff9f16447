//! What a genuine webhook does: which job it is about, what it teaches, and when its sender may be told 2xx.
//!
//! - *Whose*: the job is found by the provider's reference, else by the caller's key. References are indexed only if
//!   the provider has webhooks.
//! - *What*: a reference that was not known is adopted, a meaning is fed to the engine as a poll's answer would be, and
//!   if there is none, the next poll is due now. The engine decides; a job that has ended stays as it ended, and a
//!   webhook that contradicts that is a notice.
//! - *When*: once its operation owes the disk nothing
//!   ([`Operation::is_durable`](steadfast_core::Operation::is_durable)), so never before the commit of what followed.
//!
//! An event that comes before the create's answer, and may be about that job, waits in the *inbox* (`inbox.rs`):
//! bounded in number, bytes and time, in memory only. So its sender is told 2xx when the event has been matched, and
//! not before (unless [`UnknownJob::Accept`] says otherwise).
//!
//! Shards have one inbox together. An event goes to the shard of its key, or of its reference if it has none. If its
//! job is not known there, it is put into the inbox first, where whichever shard learns of such a job finds it; then
//! the others are asked. One that has the job takes it. When all have said that they have not, and none may turn out to
//! have it, it is taken out again.
//!
//! Events are remembered, by id or else by their body, for longer than their senders repeat them. That memory is gone
//! after a crash, which does no harm: it only saves work. Where it cannot tell a repeat from another *look again*, it
//! saves none. What keeps a repeat from counting twice is the operation's own state, on disk before the first 2xx: a
//! second *ready* changes nothing in a job that has ended, a second reference is the one known already, and a second
//! hint is one more poll.
//!
//! Webhooks are never relied upon: the poll schedule goes on beside them, and finds what they lose. A program with
//! webhooks may set a slower one.

use std::collections::{BTreeMap, HashMap, VecDeque};

use http::StatusCode;
use oneshot::Sender;
use steadfast_core::engine::Event;
use steadfast_core::operation::Reading;
use steadfast_core::{OperationId, Reference, Timestamp};
use steadfast_providers::WebhookEvent;

use super::by_id::Ids;
use super::inbox::{Asking, Early, Inbox, Name, size};
use super::shared::{Said, Shard, Word};
use super::{Driver, Question, Task};
use crate::finished::FinalAnswer;
use crate::journal::Found;
use crate::webhook::{Delivery, Posted, UnknownJob, WebhookPolicy};

/// How many deliveries may wait for the journal at a time.
const MOST_WAITING: usize = 10_000;

/// How many repeats of one event may wait for its job at a time.
const MOST_REPEATS: usize = 16;

/// How large the index of references is before it is swept for the first time.
const SWEEP: usize = 1_024;

/// A delivery whose consequences are on their way to the disk.
struct Waiting {
    id: OperationId,
    until: Timestamp,
    taken: Delivery,
    reply: Sender<Delivery>,
}

pub(super) struct Webhooks {
    policy: WebhookPolicy,
    /// Whether the provider has any, as it said at the start.
    pub(super) on: bool,
    /// May name jobs that the engine has forgotten, for a while.
    jobs: HashMap<Reference, OperationId>,
    /// The size at which the index is next rid of those.
    sweep_at: usize,
    /// Jobs whose create has left, and that have no reference yet.
    nameless: Ids,
    /// The job of each event; `None` if only the store knows it.
    known: HashMap<Name, Option<OperationId>>,
    order: VecDeque<(Timestamp, Name)>,
    inbox: Inbox,
    /// Earliest deadline first.
    waiting: Vec<Waiting>,
    /// Deliveries whose job the store is asked for, earliest deadline first.
    asked: BTreeMap<u64, (Timestamp, Sender<Delivery>)>,
    /// What the events of all such deliveries cost, those whose senders have been told included.
    asked_bytes: usize,
    next_ticket: u64,
}

impl Webhooks {
    pub(super) fn new(policy: WebhookPolicy, on: bool, shard: Option<&Shard>) -> Self {
        Self {
            policy,
            on,
            jobs: HashMap::new(),
            sweep_at: SWEEP,
            nameless: Ids::default(),
            known: HashMap::new(),
            order: VecDeque::new(),
            inbox: Inbox::new(policy, shard),
            waiting: Vec::new(),
            asked: BTreeMap::new(),
            asked_bytes: 0,
            next_ticket: 0,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let asked = self.asked.first_key_value().map(|(_, (until, _))| *until);
        self.inbox
            .next_deadline()
            .into_iter()
            .chain(self.waiting.first().map(|waiting| waiting.until))
            .chain(asked)
            .min()
    }

    /// Rids the index of jobs that are forgotten, once it has doubled: so it is never much larger than what the engine
    /// knows.
    fn sweep(&mut self, bears: impl Fn(&Reference, OperationId) -> bool) {
        if self.jobs.len() >= self.sweep_at {
            self.jobs.retain(|reference, id| bears(reference, *id));
            self.sweep_at = (2 * self.jobs.len()).max(SWEEP);
        }
    }

    fn recall(&mut self, name: &Name, now: Timestamp) -> Option<Option<OperationId>> {
        while let Some((since, _)) = self.order.front()
            && (since.saturating_add(self.policy.remember_for) <= now || self.order.len() > self.policy.remember)
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.known.get(name).copied()
    }

    fn remember(&mut self, name: Name, id: Option<OperationId>, now: Timestamp) {
        if self.known.insert(name.clone(), id).is_none() {
            self.order.push_back((now, name.clone()));
        }
        self.recall(&name, now);
    }

    /// Answers deliveries whose time has run out.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        if self.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        self.inbox.handle_timeout(now);
        while let Some(late) = self.asked.first_entry().filter(|asked| asked.get().0 <= now) {
            answer(late.remove().1, Delivery::NotDurable);
        }
        for late in self.waiting.extract_if(.., |waiting| waiting.until <= now) {
            let _ = late.reply.send(Delivery::NotDurable);
        }
    }
}

impl<H> Driver<H> {
    pub(super) fn posted(&mut self, posted: Posted) {
        let patience = self.now.saturating_add(self.webhooks.policy.answer_within);
        self.take_post(posted, patience, false);
    }

    /// Whether the store, which remembers for longer than the driver, may know the job as one that has ended, and
    /// somebody has subscribed to hear of it.
    fn may_have_ended(&self, event: &WebhookEvent) -> bool {
        event.status.is_some() && self.ends.is_watched() && !self.journal.is_volatile()
    }

    /// Goes on with a webhook whose job the store was asked for. Its sender may have been told meanwhile that this took
    /// too long.
    pub(super) fn looked_up_ended(&mut self, event: WebhookEvent, ticket: u64, found: Found) {
        self.webhooks.asked_bytes = self.webhooks.asked_bytes.saturating_sub(size(&event));
        let gone = || (self.now, oneshot::channel().0);
        let (patience, reply) = self.webhooks.asked.remove(&ticket).unwrap_or_else(gone);
        let Ok(found) = found else { return answer(reply, Delivery::NotDurable) };
        let (name, now) = (Name::of(&event.verified), self.now);
        // The job may have come back to life while it was looked for, and the same event may have come twice.
        let is_known = self.whose(&event).is_some() || self.webhooks.recall(&name, now).is_some();
        let ours = found.filter(|entry| !is_known && entry.provider == self.provider_name);
        if ours.is_some_and(|entry| self.revise_stored(&entry, &event)) {
            self.webhooks.remember(name, None, now);
            return answer(reply, Delivery::Taken);
        }
        self.take_post(Posted { event, reply }, patience, true);
    }

    /// `patience`: until when the sender waits. `asked`: the store has been asked, and knows no such job that has
    /// ended.
    fn take_post(&mut self, Posted { event, mut reply }: Posted, patience: Timestamp, asked: bool) {
        let now = self.now;
        if event.reference.is_none() && event.key.is_none() {
            return answer(reply, Delivery::NoJob);
        }
        let policy = self.webhooks.policy;
        let name = Name::of(&event.verified);
        if let Some(id) = self.webhooks.recall(&name, now) {
            return match id {
                Some(id) if self.is_worth_a_poll(id, &name, &event) => {
                    self.told(id, event);
                    self.promise(id, Delivery::Taken, patience, reply)
                }
                Some(id) => self.promise(id, Delivery::Repeated, patience, reply),
                None => answer(reply, Delivery::Repeated),
            };
        }
        if self.webhooks.inbox.has(&name) {
            match self.wait_with(&name, &event, patience, reply) {
                Some(back) => reply = back,
                None => return,
            }
        }
        if let Some(id) = self.whose(&event) {
            self.webhooks.remember(name, Some(id), now);
            self.told(id, event);
            self.match_early(id);
            return self.promise(id, Delivery::Taken, patience, reply);
        }
        if self.parked_waits_on(&event) {
            // Its end is about to be decided, or there is nothing to learn.
            return answer(reply, if proves_created(&event) { Delivery::Early } else { Delivery::Taken });
        }
        if let Some(key) = event.key.clone().filter(|_| !asked && self.may_have_ended(&event)) {
            let asked = self.webhooks.asked_bytes;
            let bytes = asked + size(&event);
            // One always fits: the program may have no room for others.
            if self.journal.asking() >= MOST_WAITING || (asked > 0 && bytes > policy.inbox_bytes) {
                return answer(reply, Delivery::Busy);
            }
            self.webhooks.asked_bytes = bytes;
            let ticket = self.webhooks.next_ticket;
            self.webhooks.next_ticket += 1;
            self.webhooks.asked.insert(ticket, (patience, reply));
            return self.journal.ask(Question::Webhook { key, event: Box::new(event), ticket });
        }
        let (may_be, others) = (self.may_be_early(&event), self.others_to_ask(&event));
        if !may_be && others == 0 {
            return answer(reply, Delivery::Unknown { repeat: policy.unknown == UnknownJob::Repeat });
        }
        let until = now.saturating_add(policy.inbox_for);
        let mut early = Early::new(event, name, until, (may_be, others));
        match policy.unknown {
            UnknownJob::Accept if others == 0 => answer(reply, Delivery::Unknown { repeat: false }),
            // The store took too long for its sender.
            _ if patience <= now => answer(reply, Delivery::Early),
            _ => early.replies.push((patience, reply)),
        }
        let place = self.webhooks.inbox.keep(early);
        self.ask_others(place);
    }

    /// Whether to act on what looks like a repeat all the same. Without an id, one *look again* may have the same body
    /// as the next: a poll too many costs little, and takes nothing from the schedule; one too few leaves the job to
    /// the schedule.
    fn is_worth_a_poll(&self, id: OperationId, name: &Name, event: &WebhookEvent) -> bool {
        matches!(name, Name::Body(_)) && event.meaning.is_none() && !self.has_ended(id)
    }

    /// Takes another delivery of an event that lies in the inbox. `None` if it now waits with the first, or was
    /// answered.
    fn wait_with(
        &mut self,
        name: &Name,
        event: &WebhookEvent,
        patience: Timestamp,
        reply: Sender<Delivery>,
    ) -> Option<Sender<Delivery>> {
        let (may_be, others) = (self.may_be_early(event), self.others_to_ask(event));
        if !may_be && others == 0 {
            // Every job that it might have been about has a reference by now, and it is another one.
            self.webhooks.inbox.drop_one(name, "no create is open");
            return Some(reply);
        }
        let accepts = self.webhooks.policy.unknown == UnknownJob::Accept && others == 0;
        let is_late = patience <= self.now;
        let (mut reply, mut answered) = (Some(reply), None);
        let place = self.webhooks.inbox.with_one(name, |early| {
            match reply.take() {
                Some(reply) if accepts => answered = Some((reply, Delivery::Unknown { repeat: false })),
                Some(reply) if is_late || early.replies.len() >= MOST_REPEATS => {
                    answered = Some((reply, Delivery::Early));
                }
                Some(reply) => early.replies.push((patience, reply)),
                None => {}
            }
            early.ask_again(may_be, others)
        });
        if let Some((reply, delivery)) = answered {
            answer(reply, delivery);
        }
        self.ask_others(place.flatten());
        // It is still there if another shard has taken the event meanwhile.
        reply
    }

    /// How many other shards are to be asked whether the event is about a job of theirs: all, if it bears a reference.
    fn others_to_ask(&self, event: &WebhookEvent) -> usize {
        self.shard().filter(|_| event.reference.is_some()).map_or(0, |shard| shard.common.count - 1)
    }

    /// Asks the other shards. One that knows the job takes the event; the others say whether it may turn out to be
    /// theirs.
    fn ask_others(&mut self, question: Option<Asking>) {
        let (Some(Asking { early, reference, has_key }), Some(shard)) = (question, self.shard()) else { return };
        let (home, count) = (shard.index, shard.common.count);
        for other in (0..count).filter(|other| *other != home) {
            let reference = reference.clone();
            self.tasks.push_back(Task::Tell(other, Word(Said::Whose { early, home, reference, has_key })));
        }
    }

    /// Answers another shard, which has an event about no job of its own.
    pub(super) fn look_for(&mut self, early: u64, home: usize, reference: &Reference, has_key: bool) {
        let bears =
            |id: &OperationId| self.engine.operation(*id).is_some_and(|it| it.reference().as_ref() == Some(reference));
        if let Some(id) = self.webhooks.jobs.get(reference).copied().filter(bears) {
            return self.match_early(id);
        }
        // Once this driver is closed, nobody here knows what the store has.
        let may_be = self.closed || (!has_key && self.has_nameless());
        self.tasks.push_back(Task::Tell(home, Word(Said::NotMine { early, may_be })));
    }

    /// Another shard does not know the job of an event that lies here.
    pub(super) fn is_not_theirs(&mut self, early: u64, may_be: bool) {
        let unknown = self.webhooks.policy.unknown;
        let Some(replies) = self.webhooks.inbox.is_not_theirs(early, may_be, unknown == UnknownJob::Accept) else {
            return;
        };
        for (_, reply) in replies {
            answer(reply, Delivery::Unknown { repeat: unknown == UnknownJob::Repeat });
        }
    }

    /// The job that the event is about, if it is known. One that waits for its payload is taken up if it will not need
    /// that now.
    fn whose(&mut self, event: &WebhookEvent) -> Option<OperationId> {
        if let Some(reference) = &event.reference
            && let Some(id) = self.webhooks.jobs.get(reference).copied()
        {
            if self.engine.operation(id).is_some_and(|operation| operation.reference().as_ref() == Some(reference)) {
                return Some(id);
            }
            self.webhooks.jobs.remove(reference);
        }
        let key = event.key.as_ref()?;
        self.engine.find(key).or_else(|| if proves_created(event) { self.unpark_created(key) } else { None })
    }

    /// Whether it is about a job that waits for its payload, and goes on waiting.
    fn parked_waits_on(&self, event: &WebhookEvent) -> bool {
        event.key.as_ref().is_some_and(|key| self.parked.contains(key))
    }

    /// Whether the event of an unknown job may be about one of ours all the same: its create is not answered yet, or
    /// its key is being looked up.
    fn may_be_early(&self, event: &WebhookEvent) -> bool {
        // The provider passes the callers' keys on: this key is nobody's here, unless it is being looked up.
        if let Some(key) = &event.key {
            return self.journal.asks_for(key);
        }
        self.has_nameless()
    }

    /// Whether the provider may have a job whose reference is not known here yet. One that waits at the gate for its
    /// first create is not such a job.
    fn has_nameless(&self) -> bool {
        self.journal.asking_for_jobs() > 0
            || self.parked.records().next().is_some()
            || !self.webhooks.nameless.is_empty()
    }

    /// To be called after anything that may have let a job's create leave, given it a reference, or ended it.
    pub(super) fn note_name(&mut self, id: OperationId) {
        if !self.webhooks.on {
            return;
        }
        let operation = self.engine.operation(id);
        if operation.is_some_and(|it| it.creates() > 0 && it.reference().is_none() && it.outcome().is_none()) {
            self.webhooks.nameless.insert(id);
        } else {
            self.webhooks.nameless.remove(&id);
        }
    }

    /// Feeds the engine what the event says of this job.
    fn told(&mut self, id: OperationId, event: WebhookEvent) {
        let now = self.now;
        let had_ended = self.has_ended(id);
        let Some(operation) = self.engine.operation(id) else { return };
        let (known, mut is_first) = (operation.reference(), false);
        if had_ended && event.reference.as_ref().is_none_or(|reference| known.as_ref() == Some(reference)) {
            self.revise(id, &event);
        }
        if let Some(reference) = event.reference.filter(|reference| known.as_ref() != Some(reference)) {
            let has_another = known.is_some();
            self.engine.handle(Event::Webhook(id, Reading::Accepted(reference)), now);
            if has_another {
                // The job of this key has another reference, so the event is not about it: a conflict, and no more.
                return;
            }
            is_first = true;
        }
        let Some(meaning) = event.meaning else {
            if !is_first || !self.await_answer(id, true) {
                self.engine.handle(Event::Changed(id), now);
            }
            return;
        };
        self.engine.handle(Event::Webhook(id, meaning), now);
        if is_first {
            self.await_answer(id, false);
        }
        if !had_ended && self.has_ended(id) {
            let result = event.result.map(|body| FinalAnswer { status: StatusCode::OK, body });
            if self.job(id).is_some()
                && let Some(job) = self.jobs.get_mut(id)
            {
                self.results.let_go(job);
                job.answer = result;
            }
        }
    }

    /// Whether it is decided how the job ends, on disk or not: then no later answer is its result.
    pub(super) fn has_ended(&self, id: OperationId) -> bool {
        self.engine.operation(id).is_none_or(|operation| operation.has_ended())
    }

    /// To be called after anything that may have made a job known, or its reference: the job is found by that from now
    /// on, and events that came early are matched.
    pub(super) fn match_early(&mut self, id: OperationId) {
        if !self.webhooks.on {
            return;
        }
        self.note_name(id);
        loop {
            let Some(operation) = self.engine.operation(id) else { return };
            let (key, reference) = (operation.key(), operation.reference());
            if let Some(reference) = &reference
                && self.webhooks.jobs.get(reference) != Some(&id)
            {
                self.webhooks.jobs.insert(reference.clone(), id);
            }
            let Some(early) = self.webhooks.inbox.take_about(&key, reference.as_ref()) else { break };
            let now = self.now;
            // It may lie there from another shard, which does not know that it was taken here before.
            let is_new =
                self.webhooks.recall(&early.name, now).is_none() || self.is_worth_a_poll(id, &early.name, &early.event);
            let delivery = if is_new { Delivery::Taken } else { Delivery::Repeated };
            if is_new {
                self.webhooks.remember(early.name, Some(id), now);
                self.told(id, early.event);
                self.note_name(id);
            }
            for (patience, reply) in early.replies {
                self.promise(id, delivery.clone(), patience, reply);
            }
        }
        self.webhooks.sweep(|reference, id| {
            self.engine.operation(id).is_some_and(|operation| operation.reference().as_ref() == Some(reference))
        });
    }

    /// Answers once the operation owes the disk nothing, or says that this took too long.
    fn promise(&mut self, id: OperationId, taken: Delivery, until: Timestamp, reply: Sender<Delivery>) {
        if self.owes_nothing(id) {
            return answer(reply, taken);
        }
        if until <= self.now {
            return answer(reply, Delivery::NotDurable);
        }
        if self.webhooks.waiting.len() >= MOST_WAITING {
            return answer(reply, Delivery::Busy);
        }
        let waiting = &mut self.webhooks.waiting;
        let place = waiting.partition_point(|other| other.until <= until);
        waiting.insert(place, Waiting { id, until, taken, reply });
    }

    /// An operation that is forgotten was on disk before.
    fn owes_nothing(&self, id: OperationId) -> bool {
        self.engine.operation(id).is_none_or(|operation| operation.is_durable())
    }

    /// After a commit, whatever came of it: 2xx for what is durable now, 503 for what could not be written.
    pub(super) fn keep_promises(&mut self, batch: &[OperationId], durable: bool) {
        if self.webhooks.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.webhooks.waiting);
        // First: a job that is forgotten since nothing of it is durable owes nothing either.
        if !durable {
            for broken in waiting.extract_if(.., |waiting| batch.contains(&waiting.id)) {
                answer(broken.reply, Delivery::NotDurable);
            }
        }
        for kept in waiting.extract_if(.., |waiting| self.owes_nothing(waiting.id)) {
            answer(kept.reply, kept.taken);
        }
        self.webhooks.waiting = waiting;
    }
}

/// The sender may have hung up: then there is nobody to tell.
fn answer(reply: Sender<Delivery>, delivery: Delivery) {
    drop(reply.send(delivery));
}

/// Whether a job that was to be created need not be: the provider has it.
const fn proves_created(event: &WebhookEvent) -> bool {
    event.reference.is_some() || matches!(event.meaning, Some(Reading::Ready | Reading::Undecided | Reading::Failed))
}

#[cfg(test)]
mod tests {
    use steadfast_core::engine::Limits;
    use steadfast_core::{Engine, Fingerprint, Gate, Key, OperationPolicy, Seed};

    use super::*;

    /// I15: of a million jobs that came and went, it holds few; of those that are there, all.
    #[test]
    fn the_index_is_bounded_by_the_jobs_that_are_there() {
        let mut engine = Engine::new(OperationPolicy::default(), Gate::unlimited(), Limits::default(), Seed::new(7));
        let key = Key::new("order-42").unwrap();
        let id = engine.submit(key, Fingerprint::new([0; 16]), Timestamp::EPOCH).unwrap().id();
        let mut webhooks = Webhooks::new(WebhookPolicy::default(), true, None);
        for live in [10, 3_000, 10] {
            for n in 0..20_000 {
                webhooks.jobs.insert(Reference::new(format!("txn-{n}")).unwrap(), id);
                let is_live = |reference: &Reference, _| {
                    let number: usize = reference.as_str().trim_start_matches("txn-").parse().unwrap();
                    number + live > n && number <= n
                };
                webhooks.sweep(is_live);
                assert!(webhooks.jobs.len() <= SWEEP.max(2 * 3_000), "{}", webhooks.jobs.len());
                assert!(webhooks.jobs.contains_key(&Reference::new(format!("txn-{}", n.saturating_sub(5))).unwrap()));
            }
        }
    }
}
