//! One operation against a provider that keeps its promise and nothing more: every history of a few events, for each
//! promise.
//!
//! The driver is honest and quick: it does at once what it is told. All else is free: records are written, fail, or are
//! written in a process that dies before it hears of it; creates are carried out or lost, early or late; answers come
//! in time, late or never; webhooks come at any time; what waits in the driver is taken back; the caller cancels, and
//! resumes what ended as unresolved; the process dies. After each event the harness's own books are compared with the
//! operation.

mod books;
mod checks;
mod provider;

use std::collections::HashSet;

use steadfast_core::operation::{
    Attempt, Completed, Effect, Event as Fed, Record, RecordId, Rejected, Stage, Unresolved,
};
use steadfast_core::{Fingerprint, Gate, Key, Kind, Operation, OperationPolicy, Outcome, Seed, Timestamp};

use self::books::{Books, Flight, Lost, Refusal, Resumption};
use self::provider::{Answer, HINT, Promise, Provider, SECOND};
use crate::{World, explore_and_look};

const START: Timestamp = Timestamp::from_secs(1_000);
const SEED: Seed = Seed::new(1);

/// The operation, the driver's books, and the provider.
#[derive(Clone, Debug, Hash)]
struct Job {
    job: Operation,
    gate: Gate,
    now: Timestamp,
    provider: Provider,
    /// Records asked for and not settled, as they were when asked for.
    asked: Vec<(RecordId, Record)>,
    /// What a restart would find.
    durable: Option<Record>,
    air: Option<Flight>,
    /// Requests that nobody waits for, of which something may still come.
    lost: Vec<Lost>,
    /// What was told to the caller.
    told: Option<Outcome>,
    books: Books,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Committed,
    /// All that is outstanding, with one acknowledgement.
    CommittedTogether,
    CommitFailed,
    /// It is said to have failed, and is durable all the same.
    CommitInDoubt,
    /// The record is durable, and the process dies before it hears of it.
    CommittedAndCrashed,
    /// The create in the air is carried out; its answer is on its way.
    CarriedOut,
    Answered(Answer),
    /// The lost create of this place is carried out after all.
    CarriedOutLate(usize),
    AnsweredLate(usize, Answer),
    Webhook(Answer),
    Cancel,
    /// So it is while the request has not left: the driver takes it back first.
    TakenBackAndCancelled,
    /// All of its time goes by before it leaves, and the driver takes it back then.
    TakenBackTooLate,
    Delivered,
    /// Once, where it is of use; that it changes nothing elsewhere is checked in each state.
    Resume,
    /// The process dies and starts again from what is durable; from nothing, if the caller submits the job again.
    Crash,
    /// Time passes until the next deadline.
    Wake,
    Second,
}

impl World for Job {
    type Event = Event;

    fn events(&self) -> Vec<Event> {
        let resumes = self.can_resume() && self.books.resumed.is_none();
        if self.job.is_finished() {
            return if resumes { vec![Event::Resume] } else { Vec::new() };
        }
        let mut events = vec![Event::Crash];
        if resumes {
            events.push(Event::Resume);
        }
        if !self.asked.is_empty() {
            events.extend([Event::Committed, Event::CommitFailed, Event::CommittedAndCrashed]);
        }
        // Not the first: if that is said to have failed the job is refused, so a driver must be certain of it.
        if !self.asked.is_empty() && self.durable.is_some() {
            events.push(Event::CommitInDoubt);
        }
        if self.asked.len() > 1 {
            events.push(Event::CommittedTogether);
        }
        if let Some(Flight { attempt, carried_out, .. }) = self.air {
            if attempt.kind == Kind::Create && !carried_out {
                events.push(Event::CarriedOut);
            }
            if !carried_out {
                events.extend([Event::TakenBackAndCancelled, Event::TakenBackTooLate]);
            }
            events.extend(self.provider.answers(attempt.kind, carried_out).into_iter().map(Event::Answered));
        }
        for (place, lost) in self.lost.iter().enumerate() {
            if lost.may_land(self.now) {
                events.push(Event::CarriedOutLate(place));
            }
            if lost.heard {
                let answers = self.provider.late_answers(lost.kind, lost.carried_out);
                events.extend(answers.into_iter().map(|answer| Event::AnsweredLate(place, answer)));
            }
        }
        events.extend(self.provider.webhooks().into_iter().map(Event::Webhook));
        if self.decided().is_none() {
            events.push(Event::Cancel);
        }
        if self.books.to_deliver {
            events.push(Event::Delivered);
        }
        let soon = self.now.saturating_add(SECOND);
        if self.job.next_deadline().is_some_and(|at| at != soon) {
            events.push(Event::Wake);
        }
        events.push(Event::Second);
        events
    }

    fn step(&self, event: Event) -> Self {
        let mut after = self.clone();
        after.take_in(event);
        let crashed = matches!(event, Event::Crash | Event::CommittedAndCrashed);
        if matches!(event, Event::Resume) {
            assert_eq!(after.decided(), None, "it is resumed, and over");
        } else if let (Some(before), false) = (self.decided(), crashed) {
            let undone = after.told.is_some() && after.durable.is_none();
            assert!(after.decided() == Some(before) || undone, "R31: {before:?} becomes {:?}", after.decided());
        }
        after
    }

    fn check(&self) {
        self.check_clock();
        self.check_air();
        self.check_outcome();
        self.check_resume();
    }

    /// I14: once records are written it ends, whether the provider answers or not.
    fn heal(&self, answering: bool) -> Option<Event> {
        if self.job.is_finished() {
            return None;
        }
        if !self.asked.is_empty() {
            return Some(Event::Committed);
        }
        if let (Some(flight), true) = (self.air, answering) {
            let kind = flight.attempt.kind;
            let answers = self.provider.answers(kind, flight.carried_out);
            let good = [Answer::Accepted, Answer::NotFound, Answer::Ready, Answer::Failed];
            let good = if kind == Kind::Poll { &good[2..] } else { &good };
            return good.iter().find(|answer| answers.contains(answer)).copied().map(Event::Answered);
        }
        Some(if self.books.to_deliver { Event::Delivered } else { Event::Wake })
    }
}

/// What happens.
impl Job {
    fn begin(promise: Promise) -> Self {
        let mut gate = Gate::unlimited();
        let job = submit(promise.policy(), START, &mut gate);
        let provider = Provider::new(promise);
        let (asked, lost, books) = (Vec::new(), Vec::new(), Books { submitted: START, ..Books::default() });
        let mut begun =
            Self { job, gate, now: START, provider, asked, durable: None, air: None, lost, told: None, books };
        begun.drain();
        begun
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Committed => {
                let number = self.commit();
                self.feed(Fed::Persisted(number));
            }
            Event::CommittedTogether => {
                while self.asked.len() > 1 {
                    self.commit();
                }
                let number = self.commit();
                self.feed(Fed::Persisted(number));
            }
            Event::CommitFailed => {
                let (number, _) = self.asked.remove(0);
                self.commit_failed(number);
            }
            Event::CommitInDoubt => {
                let number = self.commit();
                self.commit_failed(number);
            }
            Event::CommittedAndCrashed => {
                self.commit();
                self.crash();
            }
            Event::CarriedOut => {
                self.provider.run(self.now);
                self.air = self.air.map(|flight| Flight { carried_out: true, ..flight });
            }
            Event::Answered(answer) => self.answered(answer),
            Event::CarriedOutLate(place) => {
                self.provider.run(self.now);
                self.lost[place].carried_out = true;
            }
            Event::AnsweredLate(place, answer) => {
                let lost = self.lost.remove(place);
                self.provider.says(answer);
                self.feed(Fed::Answered(lost.id, answer.meaning(lost.kind)));
                self.check_learnt(answer);
            }
            Event::Webhook(answer) => {
                self.provider.says(answer);
                self.feed(Fed::Webhook(answer.meaning(Kind::Poll).expect("a webhook tells something")));
                self.check_learnt(answer);
            }
            Event::Cancel => {
                self.feed(Fed::Cancel);
                assert_eq!(self.gate.in_flight(), 0, "I17: a cancelled operation holds nothing");
            }
            Event::TakenBackAndCancelled => {
                self.take_back();
                self.take_in(Event::Cancel);
            }
            Event::TakenBackTooLate => {
                self.now = self.job.next_deadline().unwrap_or(self.now);
                self.take_back();
                self.drain();
            }
            Event::Delivered => {
                self.books.to_deliver = false;
                self.feed(Fed::Delivered);
            }
            Event::Resume => self.resume(),
            Event::Crash => self.crash(),
            Event::Wake => self.wake_at(self.job.next_deadline().unwrap_or(self.now)),
            Event::Second => self.wake_at(self.now.saturating_add(SECOND)),
        }
        let now = self.now;
        self.lost.retain(|lost| lost.may_land(now) || lost.heard && (lost.carried_out || lost.kind != Kind::Create));
    }

    fn commit(&mut self) -> RecordId {
        let (number, record) = self.asked.remove(0);
        if self.books.refused == Refusal::Heard && record.stage != Stage::InFlight {
            self.books.refused = Refusal::Durable;
        }
        if let Some(resumed) = &mut self.books.resumed {
            resumed.durable |= number >= resumed.record;
        }
        self.durable = Some(record);
        number
    }

    fn commit_failed(&mut self, number: RecordId) {
        let left = self.asked.len();
        self.feed(Fed::PersistFailed(number));
        assert_eq!(self.asked.len(), left, "a broken disk is asked again without rest");
    }

    fn answered(&mut self, answer: Answer) {
        let Some(mut flight) = self.air.take() else { return };
        let kind = flight.attempt.kind;
        if kind == Kind::Create {
            if answer.tells_of_a_run() && !flight.carried_out {
                self.provider.run(self.now);
                flight.carried_out = true;
            }
            if answer.leaves_open() {
                self.lose(flight, false);
            }
            if answer.is_refusal() {
                self.books.refused = Refusal::Heard;
            }
        }
        self.provider.says(answer);
        if answer == Answer::Throttled {
            self.books.not_before = self.now.saturating_add(HINT);
        }
        if answer == Answer::Busy {
            self.books.busy = Some((kind, self.now.saturating_add(HINT)));
        }
        if kind == Kind::Poll && matches!(answer, Answer::Pending | Answer::NotFound) {
            self.books.pending += 1;
        }
        self.feed(Fed::Answered(flight.attempt.id, answer.meaning(kind)));
        self.check_learnt(answer);
    }

    /// The driver finds out only from what is fed next whether it is owed again.
    fn take_back(&mut self) {
        let Some(Flight { attempt, .. }) = self.air.take() else { return };
        match attempt.kind {
            Kind::Create => self.books.creates -= 1,
            Kind::Lookup => self.books.lookups -= 1,
            _ => {}
        }
        let mut turn = self.provider.promise.policy().turn(self.now, &mut self.gate);
        self.job.handle(Fed::Unsent(attempt.id), &mut turn);
    }

    fn lose(&mut self, flight: Flight, heard: bool) {
        let Flight { attempt: Attempt { id, kind, .. }, sent, carried_out } = flight;
        let lands_before = self.provider.lands_before(sent, self.now);
        if kind != Kind::Create {
            // Of those that only read, one late answer is as good as another.
            self.lost.retain(|lost| lost.kind != kind);
        }
        self.lost.push(Lost { id, kind, carried_out, lands_before, heard });
    }

    fn resume(&mut self) {
        let before = self.job.record();
        let from = self.told.take().expect("it had ended");
        (self.books.pending, self.books.polls_began) = (0, Some(self.now));
        // Whoever wants to know now is not kept waiting by what an earlier poll of its own was told; by what the gate
        // was told, it is.
        self.books.busy = None;
        self.feed(Fed::Resume);
        let mut expected = before;
        let (record, _) = *self.asked.last().expect("it is to be written down");
        self.books.resumed = Some(Resumption { from, record, durable: false });
        (expected.stage, expected.due, expected.polls) = (Stage::Accepted, Some(self.now), 0);
        assert_eq!(self.job.record(), expected, "nothing is forgotten, and the first poll is due at once");
    }

    fn crash(&mut self) {
        if let Some(flight) = self.air.take() {
            self.lose(flight, false);
        }
        self.lost.iter_mut().for_each(|lost| lost.heard = false);
        self.asked.clear();
        self.gate = Gate::unlimited();
        let refused = if self.books.refused == Refusal::Durable { Refusal::Durable } else { Refusal::No };
        let Books { creates, submitted, resumed, .. } = self.books;
        let undone = resumed.filter(|resumed| !resumed.durable);
        self.told = undone.map(|resumed| resumed.from).or(self.told);
        let resumed = resumed.filter(|resumed| resumed.durable);
        self.books = Books { creates, submitted, refused, resumed, ..Books::default() };
        let policy = self.provider.promise.policy();
        self.job = match self.durable.clone() {
            Some(record) => Operation::restore(record, SEED, &mut policy.turn(self.now, &mut self.gate)),
            None => {
                assert_eq!(self.books.creates, 0, "I5: something was sent, and nothing is on disk");
                self.told = None;
                self.books.submitted = self.now;
                submit(policy, self.now, &mut self.gate)
            }
        };
        self.drain();
    }

    fn feed(&mut self, event: Fed) {
        self.job.handle(event, &mut self.provider.promise.policy().turn(self.now, &mut self.gate));
        self.drain();
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.now = at;
        self.job.handle_timeout(&mut self.provider.promise.policy().turn(self.now, &mut self.gate));
        self.drain();
    }

    fn drain(&mut self) {
        for effects in 0.. {
            assert!(effects <= 4, "I18: a drain ends");
            match self.job.pop_effect() {
                Some(Effect::Abandon(id)) => {
                    if let Some(flight) = self.air.take() {
                        assert_eq!(flight.attempt.id, id, "abandons what was not sent");
                        self.lose(flight, true);
                    }
                }
                Some(Effect::Persist(number)) => self.asked.push((number, self.job.record())),
                Some(Effect::Send(attempt)) => self.sent(attempt),
                Some(Effect::End) => self.ended(),
                Some(_) => {}
                None => return,
            }
        }
    }
}

fn submit(policy: &OperationPolicy, now: Timestamp, gate: &mut Gate) -> Operation {
    let key = Key::new("order-42").unwrap();
    Operation::new(key, Fingerprint::new([7; 16]), SEED, &mut policy.turn(now, gate))
}

/// Where histories begin: at the very start, and where most of their events would be spent to come to.
const BEGINNINGS: [(&str, &[Event]); 7] = [
    ("submitted", &[]),
    ("polling", &[Event::Committed, Event::Answered(Answer::Accepted), Event::Committed, Event::Wake]),
    ("lost", &[Event::Committed, Event::Wake, Event::Committed, Event::Wake]),
    ("ran unheard", &[Event::Committed, Event::CarriedOut, Event::Wake, Event::Second]),
    ("failed", &[Event::Committed, Event::Answered(Answer::Unavailable), Event::Committed, Event::Wake]),
    (
        "given up",
        &[
            Event::Committed,
            Event::Answered(Answer::Accepted),
            Event::Committed,
            Event::Cancel,
            Event::Committed,
            Event::Delivered,
        ],
    ),
    (
        "given up, then heard of",
        &[
            Event::Committed,
            Event::CarriedOut,
            Event::Cancel,
            Event::Committed,
            Event::Delivered,
            Event::Committed,
            Event::AnsweredLate(0, Answer::Accepted),
        ],
    ),
];

/// Ends that every provider can bring about.
const ENDS: [Outcome; 12] = [
    Outcome::Completed(Completed::Ready),
    Outcome::Failed,
    Outcome::Rejected(Rejected::Refused),
    Outcome::Rejected(Rejected::Attempts),
    Outcome::Rejected(Rejected::Deadline),
    Outcome::Rejected(Rejected::Cancelled),
    Outcome::Rejected(Rejected::NotDurable),
    Outcome::Unresolved(Unresolved::Polls),
    Outcome::Unresolved(Unresolved::PollDeadline),
    Outcome::Unresolved(Unresolved::PollRefused),
    Outcome::Unresolved(Unresolved::NotFound),
    Outcome::Unresolved(Unresolved::Cancelled),
];

/// `STEADFAST_DEPTH` makes histories longer, for a release build.
///
/// `own` are the ends to which only this promise can lead: that each end was come to shows that the histories lead
/// somewhere.
fn explore_all(promise: Promise, own: &[Unresolved]) {
    let depth = std::env::var("STEADFAST_DEPTH").ok();
    let depth = depth.map_or(7, |depth| depth.parse().expect("STEADFAST_DEPTH is a number of events"));
    let mut ends = HashSet::new();
    for (name, beginning) in BEGINNINGS {
        let start = beginning.iter().fold(Job::begin(promise), |job, event| job.step(*event));
        let states = explore_and_look(start, depth, |job| ends.extend(job.told));
        println!("operation, {promise:?}, {name}: {states} states within {depth} events");
    }
    let own = own.iter().map(|why| Outcome::Unresolved(*why));
    assert_eq!(ends, ENDS.into_iter().chain(own).collect());
}

#[test]
fn i2_to_i8_and_i14_hold_in_every_short_history_where_keys_are_honoured() {
    explore_all(
        Promise::Keys,
        &[Unresolved::Attempts, Unresolved::Deadline, Unresolved::Refused, Unresolved::KeyWindow],
    );
}

#[test]
fn i2_to_i8_and_i14_hold_in_every_short_history_where_jobs_can_be_looked_up() {
    explore_all(Promise::Lookups, &[Unresolved::Lookup]);
}

#[test]
fn i2_to_i8_and_i14_hold_in_every_short_history_where_nothing_is_promised() {
    explore_all(Promise::Nothing, &[Unresolved::Ambiguous, Unresolved::Refused]);
}
