//! What a genuine webhook does: whose it is, what it teaches, and when its sender may be told 2xx.
//!
//! - *Whose*: by the provider's reference, else by the caller's key. Which job bears which reference is indexed only if the provider has webhooks.
//! - *What*: a reference that was not known is adopted, a meaning is fed to the engine as a poll's answer would be, and where there is none the next
//!   poll is due now. The engine decides; a job that has ended stays as it ended, and a word that differs is a notice.
//! - *When*: once its operation owes the disk nothing ([`Operation::is_durable`](steadfast_core::Operation::is_durable)), so never before the commit of
//!   what followed.
//!
//! What comes before the create's answer, and may be about that job, waits in the *inbox*: bounded in number, bytes and time, in memory only. So its
//! sender is told 2xx when it has been matched, and not before (unless [`UnknownJob::Accept`] says otherwise).
//!
//! Events are remembered, by id or else by their body, for longer than their senders repeat them. That memory is gone after a crash, which is enough:
//! it only saves work. What keeps a repeat from counting twice is the operation's own state, on disk before the first 2xx: a second *ready*
//! changes nothing in a job that has ended, a second reference is the one known already, and a second hint is one more poll.
//!
//! Webhooks are never relied upon: the poll schedule goes on beside them, and finds what they lose. Who has webhooks may set a slower one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use http::StatusCode;
use oneshot::Sender;
use steadfast_core::engine::Event;
use steadfast_core::operation::Reading;
use steadfast_core::{Fingerprint, Key, OperationId, Reference, Timestamp};
use steadfast_providers::WebhookEvent;
use steadfast_providers::webhook::Verified;
use steadfast_store::{Entry, StoreError};

use super::{Driver, Question};
use crate::finished::FinalAnswer;
use crate::webhook::{Delivery, Posted, UnknownJob, WebhookPolicy};

/// How many deliveries may wait for the journal at a time.
const MOST_WAITING: usize = 10_000;

/// How many repeats of one event may wait for its job at a time.
const MOST_REPEATS: usize = 16;

/// How many jobs are looked at to find one whose create is not answered; with more than that, it is taken that there is one.
const MOST_ASKED: usize = 4_096;

/// How large the index of references is before it is swept for the first time.
const SWEEP: usize = 1_024;

/// What an event costs in the inbox beside its result.
const EVENT: usize = 512;

/// What a repeated event is known by.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Name {
    Id(Box<str>),
    Body(Fingerprint),
}

impl Name {
    fn of(verified: &Verified) -> Self {
        verified.id.clone().map_or(Self::Body(verified.fingerprint), Self::Id)
    }
}

/// An event that came before its job was known.
struct Early {
    event: WebhookEvent,
    name: Name,
    until: Timestamp,
    /// Whoever sent it, and how long each of them waits.
    replies: Vec<(Timestamp, Sender<Delivery>)>,
}

impl Early {
    fn size(&self) -> usize {
        self.event.result.as_ref().map_or(0, |result| result.len()) + EVENT
    }

    fn is_about(&self, key: &Key, reference: Option<&Reference>) -> bool {
        self.event.key.as_ref() == Some(key) || (reference.is_some() && self.event.reference.as_ref() == reference)
    }
}

/// A delivery whose consequences are on their way to the disk.
struct Waiting {
    id: OperationId,
    until: Timestamp,
    taken: Delivery,
    reply: Sender<Delivery>,
}

pub(super) struct Webhooks {
    policy: WebhookPolicy,
    /// Whether the provider has any.
    on: bool,
    /// May name jobs that the engine has forgotten, for a while.
    jobs: HashMap<Reference, OperationId>,
    /// At how many the index is next rid of those.
    sweep_at: usize,
    /// Of an event about a job that the store alone knows: none.
    known: HashMap<Name, Option<OperationId>>,
    order: VecDeque<(Timestamp, Name)>,
    /// Oldest first.
    inbox: VecDeque<Early>,
    inbox_bytes: usize,
    /// Events that left the inbox unmatched.
    dropped: u64,
    /// Whose time is over first, first.
    waiting: Vec<Waiting>,
    /// Whose job the store is asked for: whose time is over first, first.
    asked: BTreeMap<u64, (Timestamp, Sender<Delivery>)>,
    next_ticket: u64,
}

impl Webhooks {
    pub(super) fn new(policy: WebhookPolicy, on: bool) -> Self {
        Self {
            policy,
            on,
            jobs: HashMap::new(),
            sweep_at: SWEEP,
            known: HashMap::new(),
            order: VecDeque::new(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            dropped: 0,
            waiting: Vec::new(),
            asked: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        let inbox = self.inbox.iter().flat_map(|early| early.replies.iter().map(|(at, _)| *at).chain([early.until]));
        let asked = self.asked.first_key_value().map(|(_, (until, _))| *until);
        inbox.chain(self.waiting.first().map(|waiting| waiting.until)).chain(asked).min()
    }

    /// Rids the index of jobs that are forgotten, once it has doubled: so it is never much larger than what the engine knows.
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

    fn take_early(&mut self, is_it: impl Fn(&Early) -> bool) -> Option<Early> {
        let early = self.inbox.remove(self.inbox.iter().position(is_it)?)?;
        self.inbox_bytes = self.inbox_bytes.saturating_sub(early.size());
        Some(early)
    }

    fn keep_early(&mut self, early: Early) {
        self.inbox_bytes += early.size();
        self.inbox.push_back(early);
        while self.inbox.len() > self.policy.inbox || self.inbox_bytes > self.policy.inbox_bytes {
            let Some(oldest) = self.take_early(|_| true) else { break };
            self.drop_early(oldest, "there are too many");
        }
    }

    /// It waited in vain. Whoever still waits for an answer is told to send it again.
    fn drop_early(&mut self, early: Early, why: &str) {
        self.dropped += 1;
        tracing::info!(
            reference = early.event.reference.as_ref().map_or("", Reference::as_str),
            dropped = self.dropped,
            why,
            "a webhook waited in vain for its job: if there is one, a poll will find out"
        );
        for (_, reply) in early.replies {
            let _ = reply.send(Delivery::Early);
        }
    }

    /// Answers those whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        if self.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        for early in &mut self.inbox {
            for (_, reply) in early.replies.extract_if(.., |(at, _)| *at <= now) {
                let _ = reply.send(Delivery::Early);
            }
        }
        // All of them wait for the same span, so the oldest goes first.
        while self.inbox.front().is_some_and(|oldest| oldest.until <= now)
            && let Some(oldest) = self.take_early(|_| true)
        {
            self.drop_early(oldest, "its time is over");
        }
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
        self.take_post(posted, false);
    }

    /// Whether the store, which alone remembers so long, may know the job as one that has ended, and somebody wants to hear of it.
    fn may_have_ended(&self, event: &WebhookEvent) -> bool {
        event.status.is_some() && self.ends.is_watched() && !self.journal.is_volatile() && self.closing.is_none()
    }

    /// The store was asked for the job of a webhook. Whoever sent it may have been told meanwhile that this took too long.
    pub(super) fn looked_up_ended(
        &mut self,
        event: WebhookEvent,
        ticket: u64,
        found: Result<Option<Entry>, Arc<StoreError>>,
    ) {
        let reply = self.webhooks.asked.remove(&ticket).map_or_else(|| oneshot::channel().0, |(_, reply)| reply);
        let Ok(found) = found else { return answer(reply, Delivery::NotDurable) };
        let (name, now) = (Name::of(&event.verified), self.now);
        // The job may have come back to life while it was looked for, and the same event may have come twice.
        let is_known = self.whose(&event).is_some() || self.webhooks.recall(&name, now).is_some();
        let ours = found.filter(|entry| !is_known && entry.provider == self.provider_name);
        if ours.is_some_and(|entry| self.revise_stored(&entry, &event)) {
            self.webhooks.remember(name, None, now);
            return answer(reply, Delivery::Taken);
        }
        self.take_post(Posted { event, reply }, true);
    }

    /// `asked`: the store has been, and knows no such job that has ended.
    fn take_post(&mut self, Posted { event, reply }: Posted, asked: bool) {
        let now = self.now;
        if event.reference.is_none() && event.key.is_none() {
            return answer(reply, Delivery::NoJob);
        }
        let policy = self.webhooks.policy;
        let (name, patience) = (Name::of(&event.verified), now.saturating_add(policy.answer_within));
        if let Some(id) = self.webhooks.recall(&name, now) {
            return match id {
                Some(id) => self.promise(id, Delivery::Repeated, patience, reply),
                None => answer(reply, Delivery::Repeated),
            };
        }
        if self.webhooks.inbox.iter().any(|early| early.name == name)
            && !self.may_be_early(&event)
            && let Some(early) = self.webhooks.take_early(|early| early.name == name)
        {
            // Whatever might have been its job has a name by now, and it is another.
            self.webhooks.drop_early(early, "no create is open");
        }
        if let Some(early) = self.webhooks.inbox.iter_mut().find(|early| early.name == name) {
            if policy.unknown == UnknownJob::Accept {
                return answer(reply, Delivery::Unknown { repeat: false });
            }
            if early.replies.len() >= MOST_REPEATS {
                return answer(reply, Delivery::Early);
            }
            return early.replies.push((patience, reply));
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
            if self.journal.asking() >= MOST_WAITING {
                return answer(reply, Delivery::Busy);
            }
            let ticket = self.webhooks.next_ticket;
            self.webhooks.next_ticket += 1;
            self.webhooks.asked.insert(ticket, (patience, reply));
            return self.journal.ask(Question::Webhook { key, event: Box::new(event), ticket });
        }
        if !self.may_be_early(&event) {
            return answer(reply, Delivery::Unknown { repeat: policy.unknown == UnknownJob::Repeat });
        }
        let replies = if policy.unknown == UnknownJob::Accept {
            answer(reply, Delivery::Unknown { repeat: false });
            Vec::new()
        } else {
            vec![(patience, reply)]
        };
        let until = now.saturating_add(policy.inbox_for);
        self.webhooks.keep_early(Early { event, name, until, replies });
    }

    /// Whose job it is about, if that is known. One that waits for its payload is taken up if it will not need it now.
    fn whose(&mut self, event: &WebhookEvent) -> Option<OperationId> {
        if let Some(reference) = &event.reference
            && let Some(id) = self.webhooks.jobs.get(reference).copied()
        {
            if self.engine.operation(id).is_some_and(|operation| operation.reference() == Some(reference)) {
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

    /// Whether the event of an unknown job may be about one of ours all the same: its create is not answered yet, or its key is being looked up.
    fn may_be_early(&self, event: &WebhookEvent) -> bool {
        // The provider passes the callers' keys on: this one is nobody's here, unless it is being looked up.
        if let Some(key) = &event.key {
            return self.journal.asks_for(key);
        }
        if self.journal.asking() > 0 {
            return true;
        }
        let nameless = |id| {
            let operation = self.engine.operation(id);
            operation.is_some_and(|operation| operation.reference().is_none() && operation.outcome().is_none())
        };
        self.parked.records().next().is_some()
            || self.engine.live() as usize > MOST_ASKED
            || self.engine.live_operations().any(nameless)
    }

    /// Feeds the engine what the event says of this job.
    fn told(&mut self, id: OperationId, event: WebhookEvent) {
        let now = self.now;
        let had_ended = self.has_ended(id);
        let Some(operation) = self.engine.operation(id) else { return };
        if had_ended && event.reference.as_ref().is_none_or(|reference| operation.reference() == Some(reference)) {
            self.revise(id, &event);
        }
        let Some(operation) = self.engine.operation(id) else { return };
        if let Some(reference) = event.reference.filter(|reference| operation.reference() != Some(reference)) {
            let has_another = operation.reference().is_some();
            self.engine.handle(Event::Webhook(id, Reading::Accepted(reference)), now);
            if has_another {
                // The job of this key is another one, so what is said is not of it: a conflict, and no more.
                return;
            }
        }
        let Some(meaning) = event.meaning else { return self.engine.handle(Event::Changed(id), now) };
        self.engine.handle(Event::Webhook(id, meaning), now);
        if !had_ended && self.has_ended(id) {
            let result = event.result.map(|body| FinalAnswer { status: StatusCode::OK, body });
            if let Some(job) = self.job(id) {
                job.answer = result;
            }
        }
    }

    /// Whether how it ends is decided, on disk or not: then no later answer is its result.
    pub(super) fn has_ended(&self, id: OperationId) -> bool {
        self.engine.operation(id).is_none_or(|operation| operation.has_ended())
    }

    /// After whatever may have made a job's reference known, or a job: it is found by it from now on, and what came early is matched.
    pub(super) fn match_early(&mut self, id: OperationId) {
        if !self.webhooks.on {
            return;
        }
        loop {
            let Some(operation) = self.engine.operation(id) else { return };
            if let Some(reference) = operation.reference()
                && self.webhooks.jobs.get(reference) != Some(&id)
            {
                self.webhooks.jobs.insert(reference.clone(), id);
            }
            let Some(early) = self.webhooks.take_early(|early| early.is_about(operation.key(), operation.reference()))
            else {
                break;
            };
            let now = self.now;
            self.webhooks.remember(early.name, Some(id), now);
            self.told(id, early.event);
            for (patience, reply) in early.replies {
                self.promise(id, Delivery::Taken, patience, reply);
            }
        }
        self.webhooks.sweep(|reference, id| {
            self.engine.operation(id).is_some_and(|operation| operation.reference() == Some(reference))
        });
    }

    /// Answers once the operation owes the disk nothing, or says that this took too long.
    fn promise(&mut self, id: OperationId, taken: Delivery, until: Timestamp, reply: Sender<Delivery>) {
        if self.owes_nothing(id) {
            return answer(reply, taken);
        }
        if self.webhooks.waiting.len() >= MOST_WAITING {
            return answer(reply, Delivery::Busy);
        }
        let waiting = &mut self.webhooks.waiting;
        let place = waiting.partition_point(|other| other.until <= until);
        waiting.insert(place, Waiting { id, until, taken, reply });
    }

    /// What is forgotten was on disk before.
    fn owes_nothing(&self, id: OperationId) -> bool {
        self.engine.operation(id).is_none_or(|operation| operation.is_durable())
    }

    /// After a commit, whatever came of it: 2xx for what is durable now, 503 for what could not be written.
    pub(super) fn keep_promises(&mut self, batch: &[OperationId], durable: bool) {
        if self.webhooks.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.webhooks.waiting);
        for kept in waiting.extract_if(.., |waiting| self.owes_nothing(waiting.id)) {
            answer(kept.reply, kept.taken);
        }
        if !durable {
            for broken in waiting.extract_if(.., |waiting| batch.contains(&waiting.id)) {
                answer(broken.reply, Delivery::NotDurable);
            }
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
    use steadfast_core::{Engine, Gate, OperationPolicy, Seed};

    use super::*;

    /// I15: of a million jobs that came and went, it holds few; of those that are there, all.
    #[test]
    fn the_index_is_bounded_by_the_jobs_that_are_there() {
        let mut engine = Engine::new(OperationPolicy::default(), Gate::unlimited(), Limits::default(), Seed::new(7));
        let key = Key::new("order-42").unwrap();
        let id = engine.submit(key, Fingerprint::new([0; 16]), Timestamp::EPOCH).unwrap().id();
        let mut webhooks = Webhooks::new(WebhookPolicy::default(), true);
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
