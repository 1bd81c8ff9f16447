//! What a restart takes up, and what must wait for its payload.
//!
//! A job goes on at once if its next step needs no payload, or its payload is at hand. Otherwise it is *parked*:
//! outside the engine, until its key is submitted again, but no longer than its own create deadline. Then it ends as it
//! would have ended there: as rejected if nothing was ever sent, else as unresolved.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use steadfast_core::engine::Event;
use steadfast_core::explain::Span;
use steadfast_core::operation::{Record, Stage};
use steadfast_core::{Key, OperationId, Timestamp};
use steadfast_providers::Payload;

use super::callers::Reply;
use super::intake::final_answer;
use super::{Driver, Job};
use crate::keep::{Taken, creates_next};
use crate::observe::Begun;

/// Jobs whose create may have to be sent, and whose payload is not at hand.
pub(super) struct Parking<H> {
    jobs: HashMap<Key, (Record, Job<H>, Timestamp)>,
    deadlines: BTreeSet<(Timestamp, Key)>,
}

impl<H> Default for Parking<H> {
    fn default() -> Self {
        Self { jobs: HashMap::new(), deadlines: BTreeSet::new() }
    }
}

impl<H> Parking<H> {
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.jobs.contains_key(key)
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Record> {
        self.jobs.get(key).map(|(record, ..)| record)
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.jobs.values().map(|(record, ..)| record)
    }

    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn job_mut(&mut self, key: &Key) -> Option<&mut Job<H>> {
        self.jobs.get_mut(key).map(|(_, job, _)| job)
    }

    fn park(&mut self, record: Record, job: Job<H>, until: Timestamp) {
        self.deadlines.insert((until, record.key.clone()));
        self.jobs.insert(record.key.clone(), (record, job, until));
    }

    fn take(&mut self, key: &Key) -> Option<(Record, Job<H>)> {
        let (record, job, until) = self.jobs.remove(key)?;
        self.deadlines.remove(&(until, key.clone()));
        Some((record, job))
    }

    fn take_overdue(&mut self, now: Timestamp) -> Option<(Record, Job<H>)> {
        let (_, key) = self.deadlines.first().filter(|(at, _)| *at <= now)?.clone();
        self.take(&key)
    }
}

impl<H> Driver<H> {
    pub(super) fn take_up(&mut self, taken: Vec<Taken>) {
        self.warn_of_clock(&taken);
        self.engine.reserve(taken.len());
        for Taken { record, payload, answer } in taken {
            if payload.is_none() && creates_next(&record, self.engine.policy()) {
                tracing::info!(key = %record.key.label(), "a job waits for its payload: submit its key again");
                self.park(record, Job::default());
                continue;
            }
            // A payload that is at hand again was kept, or will be loaded again. Where there is none, nothing need be
            // held: a million jobs may wait.
            let answer = answer.as_ref().and_then(final_answer);
            let job = (payload.is_some() || answer.is_some()).then(|| Job {
                payload,
                payload_kept: true,
                answer,
                ..Job::default()
            });
            self.restore(record, job);
        }
        let now = self.now;
        self.unpark_overdue(now);
    }

    /// A clock that is behind the one by which the records were written keeps nothing waiting, but what is delivered now
    /// is dated too early. Some of a minute is what clocks of hosts differ by.
    fn warn_of_clock(&self, taken: &[Taken]) {
        let written = taken.iter().map(|Taken { record, .. }| record.first_sent.unwrap_or(record.submitted)).max();
        let behind = written.unwrap_or_default().saturating_since(self.now);
        if behind > Duration::from_secs(60) {
            tracing::warn!(
                behind = %Span(behind),
                "the clock is behind the journal, by this much at least: set it before jobs end, or their keys will be free too early"
            );
        }
    }

    pub(super) fn restore(&mut self, record: Record, job: Option<Job<H>>) -> Option<OperationId> {
        let now = self.now;
        let id = self.engine.restore(record, now).ok()?;
        // A job that was delivered before has ended: nothing will end it a second time.
        let goes_on = self.engine.operation(id).is_some_and(|operation| !operation.is_finished());
        if goes_on {
            self.meter.begun(Begun::Restored);
        }
        if let Some(job) = job
            && goes_on
        {
            let trace = job.trace.or_else(|| self.begin_trace(id, Begun::Restored, None));
            self.jobs.insert(id, Job { durable: true, trace, ..job });
        }
        self.match_early(id);
        Some(id)
    }

    fn park(&mut self, mut record: Record, job: Job<H>) {
        let now = self.now;
        // As the core would: a clock that was wrong must not put it to sleep for years.
        record.submitted = record.submitted.min(now);
        let until = record.submitted.saturating_add(self.engine.policy().create().deadline());
        self.parked.park(record, job, until);
    }

    pub(super) fn unpark(&mut self, key: &Key, payload: Payload, reply: Reply) {
        let Some((record, job)) = self.parked.take(key) else { return };
        if let Some(id) = self.restore(record, Some(Job { payload: Some(payload), payload_kept: false, ..job })) {
            self.join(id, reply);
        }
    }

    /// Takes up a parked job of which a webhook says that the provider has it. It is about to be fed that, which makes
    /// it accepted or ended, and must not begin, or give up, by itself before. So whatever came of its creates, it is
    /// restored as one whose create is due a moment later.
    pub(super) fn unpark_created(&mut self, key: &Key) -> Option<OperationId> {
        let moment = self.now.saturating_add(Duration::from_nanos(1));
        let feedable =
            |(record, _, until): &&(Record, Job<H>, Timestamp)| record.reference.is_none() && *until > moment;
        self.parked.jobs.get(key).filter(feedable)?;
        self.unpark_for_a_word(key)
    }

    fn unpark_for_a_word(&mut self, key: &Key) -> Option<OperationId> {
        let (mut record, job) = self.parked.take(key)?;
        (record.stage, record.due) = (Stage::Planned, Some(self.now.saturating_add(Duration::from_nanos(1))));
        self.restore(record, Some(job))
    }

    /// The job that a handle knows by this id.
    pub(super) fn followed(&mut self, id: OperationId) -> Option<&mut Job<H>> {
        match self.withdrawn.get(&id) {
            Some(key) if self.parked.contains(key) => self.parked.job_mut(key),
            _ => self.jobs.get_mut(self.current(id)),
        }
    }

    /// The id that the job's requests have by now, of a job that a handle knows by this id. It is another one if the job
    /// waited for its payload since.
    #[must_use]
    pub fn current(&self, id: OperationId) -> OperationId {
        self.withdrawn.get(&id).and_then(|key| self.engine.find(key)).unwrap_or(id)
    }

    pub(super) fn cancel(&mut self, id: OperationId) {
        if let Some(key) = self.withdrawn.get(&id).cloned() {
            // The engine knows how it ends.
            self.unpark_for_a_word(&key);
        }
        self.engine.handle(Event::Cancel(self.current(id)), self.now);
    }

    /// Ends jobs that have waited in vain: past its deadline no create leaves, so they need no payload for that.
    pub(super) fn unpark_overdue(&mut self, now: Timestamp) {
        while let Some((record, job)) = self.parked.take_overdue(now) {
            self.restore(record, Some(job));
        }
    }

    /// Takes a job that is to be created, and has no payload, out of the engine.
    pub(super) fn withdraw(&mut self, id: OperationId) {
        let now = self.now;
        let Some(record) = self.engine.withdraw(id, now) else { return };
        self.meter.forget(id);
        tracing::info!(key = %record.key.label(), "nothing ran, and the payload is not at hand: submit the key again");
        let mut job = self.jobs.remove(id).unwrap_or_default();
        self.results.let_go(&mut job);
        self.note_name(id);
        job.withdrawn = Some(id);
        self.withdrawn.insert(id, record.key.clone());
        self.park(record, job);
    }
}
