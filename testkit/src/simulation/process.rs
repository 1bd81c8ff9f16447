//! The process: an engine, its driver, and everything that dies with them.

use std::collections::BTreeMap;

use steadfast_core::engine::Event;
use steadfast_core::operation::{Attempt, AttemptId, Completed, Effect, Reading, Record, RecordId};
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Kind, OperationId, Outcome, Timestamp};

use super::callers::Wish;
use super::chaos::{CrashPoint, Fault};
use super::disk::frame;
use super::flaw::Flawed;
use super::gate::GateBooks;
use super::invariant::Invariant::{I, R};
use super::mail::Mail;
use super::provider::{Answer, Request};
use super::words::{brief, name, stage};
use super::world::{Happening, World, ms};

/// A request that left, until its connection is closed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    pub(super) job: usize,
    pub(super) kind: Kind,
    /// Neither answered nor given up.
    pub(super) in_the_air: bool,
    /// For a read: when it was admitted.
    pub(super) admitted: Timestamp,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) engine: Flawed,
    /// The latest time that the engine was given.
    pub(super) seen: Timestamp,
    pub(super) jobs: BTreeMap<OperationId, usize>,
    /// The operation that was last begun or taken up for each job.
    pub(super) latest: BTreeMap<usize, OperationId>,
    pub(super) flights: BTreeMap<(OperationId, AttemptId), Flight>,
    /// Reads that were taken back, and when they were admitted.
    pub(super) taken_back: BTreeMap<(OperationId, AttemptId), Timestamp>,
    /// A batch was handed to the disk, and the engine has not heard the result: acknowledgements must come in order.
    pub(super) is_writing: bool,
    /// Requested records that wait until the disk is free.
    queue: Vec<(RecordId, Record)>,
    /// Webhooks about jobs whose references are not known yet.
    pub(super) parked: Vec<Mail>,
    /// Operations that were taken out of the engine, by their jobs.
    pub(super) withdrawn: BTreeMap<usize, Record>,
    /// Operations that received a second final answer, which a notice must report.
    pub(super) contradicted: Vec<OperationId>,
}

impl Process {
    pub(super) const fn new(engine: Flawed) -> Self {
        Self {
            engine,
            seen: Timestamp::EPOCH,
            jobs: BTreeMap::new(),
            latest: BTreeMap::new(),
            flights: BTreeMap::new(),
            taken_back: BTreeMap::new(),
            is_writing: false,
            queue: Vec::new(),
            parked: Vec::new(),
            withdrawn: BTreeMap::new(),
            contradicted: Vec::new(),
        }
    }
}

/// The most webhooks that wait for their references.
const PARKED: usize = 64;

impl World {
    /// Feeds the engine an event; sometimes with an earlier time than before.
    pub(super) fn feed(&mut self, event: Event) {
        self.feed_expecting(event, |_, _| {});
    }

    /// The same, and informs the gate's books, at the time that the engine takes for now.
    fn feed_expecting(&mut self, event: Event, expect: impl FnOnce(&mut GateBooks, Timestamp)) {
        let mut told = self.clock();
        if self.chaos.strikes_with(Fault::ClockBackward, 0.3) {
            told = told.saturating_sub(ms(self.dice.u64(1..10_000)));
        }
        if let Some(process) = &mut self.process {
            process.seen = process.seen.max(told);
            expect(&mut self.books.gate, process.seen);
            process.engine.handle(event, told);
        }
        self.hear_notices();
    }

    /// One more event before the effects of the last are carried out: a driver reads its clock once for a batch of
    /// events.
    pub(super) fn feed_too(&mut self, event: Event) {
        if let Some(process) = &mut self.process {
            process.engine.handle(event, process.seen);
        }
        self.hear_notices();
    }

    /// A wake: everything that is due is done, so that nothing is due afterwards.
    pub(super) fn wake_up(&mut self) {
        let now = self.clock();
        let Some(process) = &mut self.process else { return };
        process.seen = process.seen.max(now);
        process.engine.handle_timeout(now);
        let life = self.life;
        self.drain();
        let Some(process) = self.process.as_ref().filter(|_| self.life == life) else { return };
        let next = process.engine.engine().next_deadline();
        let seen = process.seen;
        let wake = process.engine.engine().next_wake();
        self.books.hold(I(18), next.is_none_or(|at| at > seen), || format!("at {seen:?} the next wake is {wake:?}"));
    }

    /// Carries out all effects that the engine asks for.
    pub(super) fn drain(&mut self) {
        self.snapshot_and_restore();
        self.hear_notices();
        for popped in 0.. {
            let Some(process) = &mut self.process else { return };
            let Some((id, effect)) = process.engine.pop_effect() else { break };
            let most = 8 * (process.jobs.len() + 1);
            self.books.hold(I(18), popped < most, || format!("{popped} effects in one drain"));
            if self.books.violation.is_some() {
                return;
            }
            self.log(id, effect);
            let point = match effect {
                Effect::Persist(_) => CrashPoint::Persist,
                Effect::Send(Attempt { kind: Kind::Create, .. }) => CrashPoint::SendCreate,
                Effect::Send(Attempt { kind: Kind::Lookup, .. }) => CrashPoint::SendLookup,
                Effect::Send(_) => CrashPoint::SendPoll,
                Effect::Abandon(_) => CrashPoint::Abandon,
                _ => CrashPoint::End,
            };
            if self.dies_at(point) {
                return;
            }
            match effect {
                Effect::Persist(number) => self.persist(id, number),
                Effect::Send(attempt) => self.send(id, attempt),
                Effect::Abandon(attempt) => self.abandon(id, attempt),
                _ => self.end(id),
            }
            if self.dies_at(point) {
                return;
            }
        }
        self.write();
        self.deliver_parked();
        self.check_step();
    }

    fn persist(&mut self, id: OperationId, number: RecordId) {
        let Some(process) = &mut self.process else { return };
        let record = process.engine.engine().operation(id).map(|operation| operation.record());
        self.books.hold(R(11), record.is_some(), || format!("a record is asked for, of {id:?} that nobody knows"));
        let Some(record) = record else { return };
        let rising = process.queue.last().is_none_or(|(last, _)| *last < number);
        self.books.hold(R(35), rising, || format!("record {number:?} comes after its successor"));
        let job = process.jobs[&id];
        self.books.accounts[job].asked.push(record.clone());
        let life = &mut self.books.accounts[job].life;
        (life.recorded, life.has_reference) = (true, record.reference.is_some());
        let seen = process.seen;
        process.queue.push((number, record.clone()));
        self.trace(Some(job), || format!("record {}: {}", number.0, stage(record.stage)));
        self.check_intent(job, &record, seen);
    }

    /// Writes one batch at a time; later requests go into the next.
    pub(super) fn write(&mut self) {
        let Some(process) = &mut self.process else { return };
        let Some(&(last, _)) = process.queue.last().filter(|_| !process.is_writing) else { return };
        process.is_writing = true;
        let batch = process.queue.drain(..).map(|(_, record)| frame(&record)).collect();
        self.disk.begin(batch, last);
        let slow = self.chaos.strikes(Fault::CommitSlow);
        let takes = ms(if slow { self.dice.u64(1_000..30_000) } else { self.dice.u64(..20) });
        let fails = self.chaos.strikes(Fault::CommitFailed);
        let life = self.life;
        self.after(takes, Happening::Written { life, fails });
    }

    /// A batch has reached the disk, or not. The process learns of it if it is alive.
    pub(super) fn written(&mut self, life: u32, fails: bool) {
        if life != self.life {
            return;
        }
        let number = if fails { self.disk.fail() } else { self.disk.finish() };
        if let Some(RecordId(last)) = number {
            self.trace(None, || {
                format!("the journal {} up to record {last}", if fails { "fails" } else { "is durable" })
            });
        }
        let may_die = self.crashes_left > 0 && self.process.is_some();
        if self.dies_at(CrashPoint::Commit) {
            if !fails {
                self.chaos.note(Fault::AckLost);
            }
        } else if may_die && !fails && self.chaos.strikes_with(Fault::AckLost, 0.2) {
            self.crashes_left -= 1;
            self.crash(CrashPoint::Commit);
        } else if let Some(number) = number {
            self.soon(Happening::Acknowledged { life, number, fails });
        }
    }

    fn send(&mut self, id: OperationId, attempt: Attempt) {
        let Some(process) = &self.process else { return };
        let sender = process.engine.key_of(id, attempt).zip(process.jobs.get(&id).copied());
        self.books.hold(R(11), sender.is_some(), || format!("a request leaves, of {id:?} that nobody knows"));
        let (Some((key, job)), Some(operation)) = (sender, process.engine.engine().operation(id)) else { return };
        let (reference, fingerprint) = (operation.reference(), operation.fingerprint());
        self.check_send(id, job, &key, fingerprint, attempt);
        if let Some(process) = &mut self.process {
            let again = process.taken_back.remove(&(id, attempt.id));
            if let Some(at) = again {
                self.books.gate.leaves_after_all(attempt.kind, at);
            }
            let admitted = again.unwrap_or(process.seen);
            let flight = Flight { job, kind: attempt.kind, in_the_air: true, admitted };
            process.flights.insert((id, attempt.id), flight);
        }
        let request = Request { kind: attempt.kind, key, fingerprint, reference };
        self.travel(id, attempt, request);
    }

    /// What the network does with a request.
    fn travel(&mut self, id: OperationId, attempt: Attempt, request: Request) {
        let life = self.life;
        let answer = |said| Happening::Answer { life, id, attempt: attempt.id, answer: Answer { said, quota: None } };
        if self.chaos.strikes_with(Fault::TakenBack, 0.5) {
            let waits = ms(self.dice.u64(..15_000));
            return self.after(waits, Happening::TakeBack { life, id, attempt: attempt.id });
        }
        let latency = ms(self.dice.u64(..=self.settings.latency.as_millis() as u64));
        if self.chaos.strikes(Fault::Refused) {
            return self.after(latency, answer(Err(Failure::new(Class::Transient, Certainty::NotExecuted))));
        }
        if self.chaos.strikes(Fault::RequestLost) {
            if self.dice.bool() {
                self.after(latency, answer(Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted))));
            }
            return;
        }
        let late = self.chaos.strikes(Fault::RequestLate);
        let travels = if late { ms(self.dice.u64(..=self.settings.latest.as_millis() as u64)) } else { latency };
        self.after(travels, Happening::Arrive { life, id, attempt: attempt.id, request });
    }

    /// A request is given up. A driver may go on listening for a while; then the answer comes late.
    fn abandon(&mut self, id: OperationId, attempt: AttemptId) {
        let Some(process) = &mut self.process else { return };
        let listens = self.dice.u8(..3) > 0;
        let given_up = process.flights.range_mut((id, AttemptId(0))..=(id, attempt));
        let open: Vec<_> = given_up
            .filter_map(|(at, flight)| std::mem::take(&mut flight.in_the_air).then_some(*at))
            .filter(|_| !listens)
            .collect();
        for at in open {
            process.flights.remove(&at);
        }
    }

    /// An answer reaches the process.
    pub(super) fn answered(&mut self, life: u32, id: OperationId, attempt: AttemptId, answer: Answer) {
        if life != self.life || self.dies_at(CrashPoint::Answer) {
            return;
        }
        let Some(process) = &mut self.process else { return };
        let Some(flight) = process.flights.get_mut(&(id, attempt)) else { return };
        let current = std::mem::take(&mut flight.in_the_air);
        let flight = *flight;
        let account = &mut self.books.accounts[flight.job];
        if current {
            account.life.hint = match &answer.said {
                Ok(Reading::Pending { hint } | Reading::AwaitingPerson { hint }) => *hint,
                Ok(_) => None,
                Err(failure) => failure.retry_after,
            };
            account.life.failed = answer.said.is_err();
            let pending = answer
                .said
                .as_ref()
                .is_ok_and(|it| outcome_of(it, self.settings.policy.poll().accepts_partial()).is_none());
            let again = std::mem::take(&mut account.life.hurried) && account.life.hint.is_none();
            let counts = pending && !again && flight.kind == Kind::Poll;
            account.life.pendings += u16::from(counts);
            // Requests that fell due while it stood still have been sent, and no more will be.
            account.life.over |= counts && account.life.overslept;
        }
        match (&answer.said, flight.kind) {
            (Err(failure), Kind::Create) => {
                if failure.certainty == Certainty::NotExecuted {
                    account.doubtful.remove(&attempt);
                }
                account.refused |= failure.class == Class::Permanent && current;
            }
            (Ok(Reading::NotFound), Kind::Lookup) if current => account.doubtful.clear(),
            (Err(failure), Kind::Poll) if current => account.life.over |= failure.class == Class::Permanent,
            _ => {}
        }
        let pause = match &answer.said {
            Err(Failure { class: Class::Throttled, retry_after, .. }) if current => *retry_after,
            _ => None,
        };
        self.trace(Some(flight.job), || format!("{} answered: {}", name(flight.kind), brief(&answer.said)));
        let reading = answer.said.as_ref().ok().cloned();
        self.expect_conflict(id, reading.as_ref());
        let longest = self.settings.gate.longest_pause();
        self.feed_expecting(Event::Answered(id, attempt, answer.said), |gate, now| {
            if let Some(pause) = pause {
                gate.pause(now, now.saturating_add(pause.min(longest)));
            }
        });
        if current && flight.kind == Kind::Poll && reading == Some(Reading::NotFound) {
            self.check_grace(flight.job);
        }
        self.check_learnt(id, flight.job, reading.as_ref());
        self.drain();
        if let Some(quota) = answer.quota.filter(|_| life == self.life) {
            // Only now: requests that the answer released left at the time given with it, which may be earlier.
            let kind = flight.kind;
            self.feed_expecting(Event::Quota(kind, quota), |gate, now| gate.learn(kind, quota, now));
            self.drain();
        }
    }

    /// A webhook reaches the process.
    pub(super) fn told(&mut self, mail: Mail) {
        let Some(process) = &mut self.process else { return };
        let engine = process.engine.engine();
        let id = if self.settings.webhooks_by_key {
            engine.find(&mail.key)
        } else {
            let known = |id: &&OperationId| {
                engine.operation(**id).is_some_and(|it| it.reference().as_ref() == Some(&mail.reference))
            };
            process.jobs.keys().find(known).copied()
        };
        let Some(id) = id else {
            if process.parked.len() < PARKED {
                process.parked.push(mail);
            }
            return;
        };
        let job = process.jobs[&id];
        let Some(reading) = &mail.reading else { return self.hurried(id, job) };
        self.trace(Some(job), || format!("webhook: {}", brief(&Ok(reading.clone()))));
        self.expect_conflict(id, Some(reading));
        self.feed(Event::Webhook(id, reading.clone()));
        self.check_learnt(id, job, Some(reading));
        self.check_repeat(id, Event::Webhook(id, reading.clone()));
        self.drain();
    }

    /// A webhook says that the job has changed, but not how.
    fn hurried(&mut self, id: OperationId, job: usize) {
        self.trace(Some(job), || "webhook: it has changed".into());
        let Some(process) = &self.process else { return };
        let mut flights = process.flights.range((id, AttemptId(0))..=(id, AttemptId(u32::MAX)));
        let polling = flights.any(|(_, flight)| flight.in_the_air && flight.kind == Kind::Poll);
        // The engine will not take an earlier time for now.
        let now = process.seen;
        self.books.accounts[job].hurry(polling, now);
        self.feed(Event::Changed(id));
        self.check_repeat(id, Event::Changed(id));
        self.check_hurry(id, job);
        self.drain();
    }

    /// Delivers webhooks that came too early, now that their references may be known.
    fn deliver_parked(&mut self) {
        let Some(process) = &mut self.process else { return };
        let engine = process.engine.engine();
        let known = |mail: &Mail| {
            process
                .jobs
                .keys()
                .any(|id| engine.operation(*id).is_some_and(|it| it.reference().as_ref() == Some(&mail.reference)))
        };
        let due = process.parked.iter().position(known);
        if let Some(at) = due {
            let mail = process.parked.remove(at);
            self.soon(Happening::Parked(mail));
        }
    }

    /// The engine reports an end: it must be on disk, and true.
    fn end(&mut self, id: OperationId) {
        let Some(process) = &mut self.process else { return };
        let outcome = process.engine.engine().operation(id).and_then(|operation| operation.outcome());
        let end = outcome.zip(process.jobs.get(&id).copied());
        self.books.hold(R(44), end.is_some(), || format!("an end is told, of {id:?} that has none"));
        let Some((outcome, job)) = end else { return };
        self.check_end(job, outcome);
        let account = &mut self.books.accounts[job];
        account.life.ended = true;
        account.outcome = Some(outcome);
        if let Some(at) = account.life.writing.take() {
            self.books.gate.unsent(at);
        }
        let (wait, life) = (ms(self.dice.u64(..2_000)), self.life);
        self.after(wait, Happening::Deliver { life, id });
        // Some callers come at once, before the outcome was delivered; some afterwards; some a second time.
        for _ in 0..3 {
            if matches!(outcome, Outcome::Unresolved(_)) && self.chaos.strikes_with(Fault::CallerResumes, 4.0) {
                let later = ms(self.dice.u64(..20_000)).min(wait * 3);
                self.after(later, Happening::Caller(job, Wish::Resume));
            }
        }
        if matches!(outcome, Outcome::Rejected(_)) && self.chaos.strikes(Fault::CallerRepeats) {
            let later = wait + ms(self.dice.u64(1..5_000));
            self.after(later, Happening::Caller(job, Wish::Repeat));
        }
    }

    /// The caller has the outcome. A rejected job may be submitted again.
    pub(super) fn delivered(&mut self, life: u32, id: OperationId) {
        if life == self.life
            && let Some(process) = &self.process
        {
            let job = process.jobs[&id];
            self.books.accounts[job].life.delivered = true;
            self.feed(Event::Delivered(id));
            self.drain();
        }
    }
}

/// The outcome that a final answer means.
pub(super) fn outcome_of(reading: &Reading, accepts_partial: bool) -> Option<Outcome> {
    Some(match reading {
        Reading::Ready => Outcome::Completed(Completed::Ready),
        Reading::Partial if accepts_partial => Outcome::Completed(Completed::Partial),
        Reading::Undecided => Outcome::Completed(Completed::Undecided),
        Reading::Failed => Outcome::Failed,
        _ => return None,
    })
}
