//! What the driver knows by itself: what is on disk, what is in the air, what was told. Kept apart from all that the
//! engine believes.

use std::collections::{BTreeMap, VecDeque};

use steadfast_core::engine::Limits;
use steadfast_core::journal;
use steadfast_core::operation::{Attempt, AttemptId, Effect, Operation, Reading, Record, RecordId, Rejected, Stage};
use steadfast_core::retry::{Certainty, Failure};
use steadfast_core::{Key, Kind, OperationId, OperationPolicy, Outcome, SendSafety, Timestamp};

/// One job, since its key was last free.
#[derive(Default)]
struct Job {
    creates: u16,
    first_create: Option<Timestamp>,
    /// A create left, and nobody proved that it did not run.
    doubt: bool,
    /// The same, before the latest.
    doubt_before: bool,
    told: Option<(Outcome, Timestamp)>,
    /// Whoever waited for it has it.
    delivered: bool,
    /// What was told before it was resumed, while nothing has been told since.
    resumed_from: Option<Outcome>,
    resumed: bool,
}

pub(super) struct Books {
    policy: OperationPolicy,
    limits: Limits,
    /// The latest time that this life of the engine was told.
    pub(super) seen: Timestamp,
    /// Operations that this life of the engine has had.
    pub(super) entered: usize,
    /// Outcomes that nobody has confirmed.
    pub(super) told: Vec<OperationId>,
    last_record: RecordId,
    asked: VecDeque<(RecordId, Record)>,
    durable: BTreeMap<Key, Record>,
    air: BTreeMap<Key, (OperationId, Attempt)>,
    jobs: BTreeMap<Key, Job>,
}

impl Books {
    pub(super) const fn new(policy: OperationPolicy, limits: Limits) -> Self {
        Self {
            policy,
            limits,
            seen: Timestamp::EPOCH,
            entered: 0,
            told: Vec::new(),
            last_record: RecordId(0),
            asked: VecDeque::new(),
            durable: BTreeMap::new(),
            air: BTreeMap::new(),
            jobs: BTreeMap::new(),
        }
    }

    /// A key that is free again: nothing ran, or so long ago that it need not be remembered.
    pub(super) fn started(&mut self, key: &Key) {
        self.entered += 1;
        let job = self.jobs.insert(key.clone(), Job::default()).unwrap_or_default();
        match job.told {
            Some((Outcome::Rejected(_), _)) => {}
            Some((outcome, at)) => {
                let old = self.seen.saturating_since(at) >= self.limits.remember_for;
                let crowded = (self.limits.remember as usize) < super::KEYS;
                assert!(old || crowded, "I3: a key that ended as {} starts anew", outcome.name());
            }
            None => assert!(job.creates == 0, "I3: a key without an outcome starts anew"),
        }
    }

    pub(super) fn asked(&self, at: usize) -> Option<RecordId> {
        self.asked.get(at).or_else(|| self.asked.back()).map(|(number, _)| *number)
    }

    /// All up to this number are on disk, or lost.
    pub(super) fn acknowledged(&mut self, number: RecordId, good: bool) {
        while self.asked.front().is_some_and(|(asked, _)| *asked <= number) {
            let record = self.asked.pop_front().map(|(_, record)| record);
            if let Some(record) = record.filter(|_| good) {
                self.durable.insert(record.key.clone(), record);
            }
        }
    }

    pub(super) fn in_the_air(&self, at: usize) -> Option<(OperationId, AttemptId)> {
        let flights = self.air.values().nth(at % self.air.len().max(1));
        flights.map(|(id, attempt)| (*id, attempt.id))
    }

    pub(super) fn is_in_the_air(&self, id: OperationId, attempt: AttemptId) -> bool {
        self.air.values().any(|(owner, sent)| *owner == id && sent.id == attempt)
    }

    /// It has not left after all: all is as it was before it did.
    pub(super) fn unsent(&mut self, id: OperationId, attempt: AttemptId) {
        let Some((key, _)) = self.air.iter().find(|(_, (owner, sent))| *owner == id && sent.id == attempt) else {
            return;
        };
        let key = key.clone();
        if let (Some((_, sent)), Some(job)) = (self.air.remove(&key), self.jobs.get_mut(&key))
            && sent.kind == Kind::Create
        {
            job.creates -= 1;
            job.doubt = job.doubt_before;
            if job.creates == 0 {
                job.first_create = None;
            }
        }
    }

    pub(super) fn in_the_air_count(&self) -> usize {
        self.air.len()
    }

    pub(super) fn answered(&mut self, id: OperationId, attempt: AttemptId, answer: &Result<Reading, Failure>) {
        let Some((key, kind)) = self
            .air
            .iter()
            .find_map(|(key, (owner, sent))| (*owner == id && sent.id == attempt).then(|| (key.clone(), sent.kind)))
        else {
            return;
        };
        self.air.remove(&key);
        let proved = match (kind, answer) {
            (Kind::Create, Err(failure)) => failure.certainty == Certainty::NotExecuted,
            (Kind::Lookup, Ok(reading)) => *reading == Reading::NotFound,
            _ => false,
        };
        if let Some(job) = self.jobs.get_mut(&key) {
            job.doubt &= !proved;
        }
    }

    pub(super) fn popped(&mut self, id: OperationId, operation: &Operation, effect: Effect) {
        let key = &operation.key();
        match effect {
            Effect::Persist(number) => {
                assert!(number > self.last_record, "records are numbered in order");
                self.last_record = number;
                let (record, mut bytes) = (operation.record(), Vec::new());
                journal::encode(&record, &mut bytes);
                assert_eq!(journal::decode(&bytes).as_ref(), Ok(&record), "what goes to disk comes back");
                self.asked.push_back((number, record));
            }
            Effect::Send(attempt) => self.sent(id, key, attempt),
            Effect::Abandon(attempt) => {
                let gone = self.air.get(key).is_none_or(|(owner, sent)| *owner == id && sent.id <= attempt);
                assert!(gone, "abandons what was never sent");
                self.air.remove(key);
            }
            Effect::End => {
                let outcome = operation.outcome().expect("an end has an outcome");
                self.ended(key, outcome);
                self.told.push(id);
            }
            other => panic!("an effect that no driver knows: {other:?}"),
        }
    }

    fn sent(&mut self, id: OperationId, key: &Key, attempt: Attempt) {
        let record = self.durable.get(key).expect("I5: nothing leaves without a record on disk");
        assert!(self.air.insert(key.clone(), (id, attempt)).is_none(), "I3: two requests of one key at a time");
        let on_disk = match attempt.kind {
            Kind::Create => record.stage == Stage::InFlight && record.creates >= attempt.number,
            Kind::Poll => record.stage == Stage::Accepted && record.reference.is_some(),
            _ => matches!(record.stage, Stage::Unknown | Stage::InFlight),
        };
        assert!(on_disk, "I5: {attempt:?} leaves, and on disk it is {record:?}");
        if attempt.kind != Kind::Create {
            return;
        }
        let job = self.jobs.entry(key.clone()).or_default();
        job.creates += 1;
        assert!(job.creates <= self.policy.create().attempts(), "I2: more creates than attempts");
        assert!(job.told.is_none() && !job.resumed, "I3: a create after the outcome");
        let first = *job.first_create.get_or_insert(self.seen);
        match self.policy.safety() {
            SendSafety::Unsafe | SendSafety::Lookup { .. } => {
                assert!(!job.doubt, "I7: a create after one that may have run");
            }
            SendSafety::Keyed { window } if job.doubt => {
                assert!(attempt.until <= first.saturating_add(window), "a key is sent that may be forgotten");
            }
            _ => {}
        }
        job.doubt_before = std::mem::replace(&mut job.doubt, true);
    }

    /// An outcome is told.
    pub(super) fn ended(&mut self, key: &Key, outcome: Outcome) {
        let job = self.jobs.entry(key.clone()).or_default();
        let (first, _) = *job.told.get_or_insert((outcome, self.seen));
        assert_eq!(first, outcome, "R44: told twice, and differently");
        if outcome == Outcome::Rejected(Rejected::NotDurable) {
            return assert_eq!(job.creates, 0, "R15: rejected, and sent");
        }
        assert!(!(job.doubt && matches!(outcome, Outcome::Rejected(_))), "R15: rejected, and it may have run");
        let stage = self.durable.get(key).map(|record| record.stage);
        let durable = stage == Some(Stage::Ended(outcome)) || stage == Some(Stage::Delivered(outcome));
        assert!(durable, "R14: told as {outcome:?}, and on disk it is {stage:?}");
    }

    /// Somebody has the outcome.
    pub(super) fn delivered(&mut self, operation: &Operation) {
        if let (Some(_), Some(job)) = (operation.outcome(), self.jobs.get_mut(&operation.key())) {
            job.delivered = true;
        }
    }

    /// Somebody resumes it. Tells whether it goes on: then it has no outcome any more.
    pub(super) fn resumes(&mut self, record: &Record) -> bool {
        let Some(job) = self.jobs.get_mut(&record.key) else { return false };
        let unresolved = matches!(job.told, Some((Outcome::Unresolved(_), _))) && job.delivered;
        if !unresolved || record.reference.is_none() {
            return false;
        }
        job.resumed_from = job.told.take().map(|(outcome, _)| outcome);
        (job.delivered, job.resumed) = (false, true);
        true
    }

    /// What is not on disk is gone. Gives what is.
    pub(super) fn crash(&mut self, now: Timestamp) -> Vec<Record> {
        self.asked.clear();
        self.air.clear();
        self.told.clear();
        self.seen = Timestamp::EPOCH;
        self.last_record = RecordId(0);
        self.entered = self.durable.len();
        for job in self.jobs.values_mut() {
            // What the new process remembers, it remembers from now on. What never came to disk it does not: if the key
            // had an older job, that one's end is all that is known.
            let kept = job.told.filter(|(outcome, _)| *outcome != Outcome::Rejected(Rejected::NotDurable));
            job.told = kept.map(|(outcome, _)| (outcome, now));
            job.delivered = false;
        }
        for (key, record) in &self.durable {
            let (Some(job), Stage::Delivered(outcome)) = (self.jobs.get_mut(key), record.stage) else { continue };
            // That it was resumed is not on disk: it is as it had ended.
            if job.told.is_none() && job.resumed_from == Some(outcome) {
                job.told = Some((outcome, now));
            }
            job.delivered = job.told.is_some();
        }
        self.durable.values().cloned().collect()
    }
}
