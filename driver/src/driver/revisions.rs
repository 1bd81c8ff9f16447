//! Which webhooks about a job that has ended bring news, and who is told of them. Three things must hold:
//!
//! - *Ended*: the job has ended, here or by the store, which is asked for the key if somebody has subscribed.
//! - *Later*, by the provider's clock: a webhook dated before the end of the job, or before the last word that was
//!   told, is absorbed, whenever it comes. Its clock and ours are compared to the second.
//! - *New*: another status than the last one. The outcome's own status is what the profile reads in the answer that
//!   ended the job ([`Provider::decision`](steadfast_providers::Provider::decision)); where that is not known, the
//!   webhook that tells of the decision itself is taken for the first revision.
//!
//! A job that only the store knows counts as ended when its last record was written: if its outcome was claimed late,
//! when it was claimed.
//!
//! Repeats are recognised by their event's id before they come here. What is handed over is in memory: a crash after
//! the 2xx loses it.

use std::collections::{HashMap, VecDeque};

use http::HeaderMap;
use steadfast_core::operation::Outcome;
use steadfast_core::{Key, Kind, OperationId, Reference, Timestamp};
use steadfast_providers::{Answer, WebhookEvent};
use steadfast_store::Entry;

use super::Driver;
use super::intake::final_answer;
use crate::caught::caught;
use crate::finished::FinalAnswer;
use crate::revision::{Revision, Subscribers};

/// The last word on a job.
struct Latest {
    at: Timestamp,
    /// `None`: not known.
    status: Option<Box<str>>,
    revision: u32,
}

pub(super) struct Ends {
    /// None before an adapter gives some.
    pub(super) subscribers: Option<Box<dyn Subscribers>>,
    latest: HashMap<Reference, Latest>,
    /// Oldest first.
    order: VecDeque<Reference>,
    /// The most jobs that are remembered.
    room: usize,
}

impl Ends {
    pub(super) fn new(room: usize) -> Self {
        Self { subscribers: None, latest: HashMap::new(), order: VecDeque::new(), room }
    }

    pub(super) fn is_watched(&self) -> bool {
        self.subscribers.as_ref().is_some_and(|subscribers| subscribers.are_there())
    }

    /// For a job that was resumed and has ended again, the count goes on.
    fn remember(&mut self, reference: &Reference, at: Timestamp, status: Option<Box<str>>) {
        if let Some(latest) = self.latest.get_mut(reference) {
            (latest.at, latest.status) = (latest.at.max(at), status);
            return;
        }
        self.latest.insert(reference.clone(), Latest { at, status, revision: 0 });
        self.order.push_back(reference.clone());
        while self.order.len() > self.room.max(1)
            && let Some(oldest) = self.order.pop_front()
        {
            self.latest.remove(&oldest);
        }
    }

    /// Tells the subscribers if the event brings another status. Returns whether it does.
    fn tell(&mut self, key: Option<&Key>, reference: &Reference, event: &WebhookEvent) -> bool {
        let Some((status, at)) = event.status.as_ref().zip(event.at) else { return false };
        let Some(latest) = self.latest.get_mut(reference).filter(|latest| at >= latest.at) else { return false };
        latest.at = at;
        if latest.status.as_ref() == Some(status) {
            return false;
        }
        latest.status = Some(status.clone());
        latest.revision = latest.revision.saturating_add(1);
        let (key, reference, revision) = (key.cloned(), reference.clone(), latest.revision);
        tracing::info!(
            reference = reference.as_str(),
            revision,
            "the provider has another word on a job that has ended"
        );
        if let Some(subscribers) = &self.subscribers {
            subscribers.tell(Revision { key, reference, revision, status: status.clone(), at });
        }
        true
    }
}

/// Webhooks count in whole seconds.
fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_secs(at.as_nanos() / 1_000_000_000)
}

impl<H> Driver<H> {
    /// A job ends: from now on, what the provider says of it is a revision.
    pub(super) fn note_end(&mut self, id: OperationId, outcome: Outcome, answer: Option<&FinalAnswer>) {
        if !self.webhooks.on || matches!(outcome, Outcome::Rejected(_)) {
            return;
        }
        let now = whole_seconds(self.now);
        let decided = answer.filter(|_| !matches!(outcome, Outcome::Unresolved(_)));
        let decided = decided.and_then(|answer| self.decision(answer));
        if let Some(reference) = self.engine.operation(id).and_then(|operation| operation.reference()) {
            self.ends.remember(&reference, now, decided);
        }
    }

    fn decision(&self, answer: &FinalAnswer) -> Option<Box<str>> {
        let headers = HeaderMap::new();
        // Nothing in it is relative to the clock.
        let answer = Answer::new(Kind::Poll, answer.status, &headers, &answer.body, self.now);
        caught(|| self.provider.decision(&answer)).unwrap_or_else(|| {
            tracing::error!(
                "the provider's profile panicked on the answer that ended a job: its decision counts as not known"
            );
            None
        })
    }

    /// A webhook about a job that has ended here.
    pub(super) fn revise(&mut self, id: OperationId, event: &WebhookEvent) {
        let Some(operation) = self.engine.operation(id) else { return };
        if let Some(reference) = operation.reference() {
            if !self.ends.latest.contains_key(&reference) {
                // Its end is decided and not durable yet, or too many others have ended since. Any status but the
                // decision's own is a later one.
                // An answer from before its end, which still takes of the room for those, is no decision.
                let ended = self.jobs.get(id).filter(|job| !job.takes_room);
                let answer = ended.and_then(|job| job.answer.clone()).or_else(|| self.results.get(id));
                let decided = answer.as_ref().and_then(|answer| self.decision(answer));
                self.ends.remember(&reference, Timestamp::EPOCH, decided);
            }
            if self.ends.tell(Some(&operation.key()), &reference, event) {
                self.meter.revised();
            }
        }
    }

    /// The same about a job that only the store knows. Returns whether the webhook is about that job.
    pub(super) fn revise_stored(&mut self, entry: &Entry, event: &WebhookEvent) -> bool {
        let Some(reference) = entry.record.reference.as_ref().filter(|_| entry.has_ended()) else { return false };
        if event.reference.as_ref().is_some_and(|told| told != reference) {
            return false;
        }
        if !self.ends.latest.contains_key(reference) {
            let decided = entry.answer.as_ref().and_then(final_answer).and_then(|answer| self.decision(&answer));
            self.ends.remember(reference, whole_seconds(entry.at), decided);
        }
        if self.ends.tell(Some(&entry.record.key), reference, event) {
            self.meter.revised();
        }
        true
    }
}
