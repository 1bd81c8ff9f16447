//! One operation under arbitrary events. The harness keeps its own books and checks the laws after every step.

use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::explain::Timeline;
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Attempt, AttemptId, Effect, Event, Reading, Record, RecordId, Stage, Turn};
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Fingerprint, Gate, Key, Kind, Operation, OperationPolicy, Reference, Seed, Timestamp};

use crate::policies;

pub(crate) const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Something that happens, sensible or not.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Pops what is owed and does it, except that records stay unacknowledged.
    Drain,
    /// The latest record that was asked for is durable.
    Ack,
    /// The one before.
    AckOlder,
    /// The latest record failed.
    Fail,
    /// An acknowledgement of a number that was never given out.
    AckUnknown,
    /// An answer to the request in the air.
    Answer(Result<Reading, Failure>),
    /// The request in the air has not left.
    Unsent,
    /// An answer to an earlier or unknown request.
    Late(u32, Result<Reading, Failure>),
    Webhook(Reading),
    Changed,
    Cancel,
    Delivered,
    /// Time passes.
    Tick(Duration),
    /// Time passes until the next deadline.
    Wake,
    /// The clock goes back.
    Back(Duration),
    /// The gate is held for so long.
    Hold(Duration),
    /// The process dies and starts again from what is durable.
    Crash,
}

pub(crate) fn reading() -> impl Strategy<Value = Reading> {
    let hint = || prop::option::of((0_u64..90_000).prop_map(Duration::from_millis));
    prop_oneof![
        3 => Just(Reading::Accepted(Reference::new("txn-1").unwrap())),
        1 => Just(Reading::Accepted(Reference::new("txn-2").unwrap())),
        3 => hint().prop_map(|hint| Reading::Pending { hint }),
        1 => hint().prop_map(|hint| Reading::AwaitingPerson { hint }),
        1 => Just(Reading::Partial),
        1 => Just(Reading::Ready),
        1 => Just(Reading::Undecided),
        1 => Just(Reading::Failed),
        1 => Just(Reading::NotFound),
        1 => Just(Reading::Unknown("odd".into())),
    ]
}

pub(crate) fn failure() -> impl Strategy<Value = Failure> {
    let class = prop::sample::select(vec![
        Class::Transient,
        Class::Transient,
        Class::Throttled,
        Class::TimedOut,
        Class::Permanent,
    ]);
    let certainty = prop::sample::select(vec![Certainty::NotExecuted, Certainty::MayHaveExecuted, Certainty::Executed]);
    let hint = prop::option::of(prop_oneof![(0_u64..90_000).prop_map(Duration::from_millis), Just(Duration::MAX)]);
    (class, certainty, hint).prop_map(|(class, certainty, hint)| Failure::new(class, certainty).with_retry_after(hint))
}

fn answer() -> impl Strategy<Value = Result<Reading, Failure>> {
    prop_oneof![reading().prop_map(Ok), failure().prop_map(Err)]
}

fn step() -> impl Strategy<Value = Step> {
    let span = || (0_u64..40_000).prop_map(Duration::from_millis);
    prop_oneof![
        8 => Just(Step::Drain),
        8 => Just(Step::Ack),
        1 => Just(Step::AckOlder),
        2 => Just(Step::Fail),
        1 => Just(Step::AckUnknown),
        8 => answer().prop_map(Step::Answer),
        2 => Just(Step::Unsent),
        2 => (0_u32..8, answer()).prop_map(|(id, answer)| Step::Late(id, answer)),
        1 => reading().prop_map(Step::Webhook),
        1 => Just(Step::Changed),
        1 => Just(Step::Cancel),
        1 => Just(Step::Delivered),
        4 => span().prop_map(Step::Tick),
        8 => Just(Step::Wake),
        1 => span().prop_map(Step::Back),
        1 => span().prop_map(Step::Hold),
        1 => Just(Step::Crash),
    ]
}

pub(crate) fn steps() -> BoxedStrategy<Vec<Step>> {
    prop::collection::vec(step().boxed(), 0..80).boxed()
}

/// An operation, its surroundings, and the harness's books.
pub(crate) struct History {
    pub(crate) policy: OperationPolicy,
    pub(crate) gate: Gate,
    pub(crate) now: Timestamp,
    /// How far the clock that comes with events is behind `now`.
    pub(crate) behind: Duration,
    pub(crate) job: Operation,
    seed: Seed,
    /// Records asked for and not settled, as they were when asked for.
    asked: Vec<(RecordId, Record)>,
    /// What a restart would find.
    pub(crate) durable: Option<Record>,
    /// A record failed when there was none on disk.
    failed_at_first: bool,
    pub(crate) in_the_air: Option<Attempt>,
    /// Requests that have left, and were not given back.
    pub(crate) left: u32,
    /// Every effect, in order, with its time.
    pub(crate) log: Vec<(Timestamp, Effect)>,
    pub(crate) ended: u32,
    /// Every notice, in order, with its time as the operation saw it.
    told: Vec<(Timestamp, Notice)>,
    seen: Timestamp,
}

impl History {
    /// Behind a gate drawn from the seed.
    pub(crate) fn begin(policy: OperationPolicy, seed: u64) -> Self {
        Self::begin_at(Gate::new(policies::drawn_gate(seed), Seed::new(seed)), policy, seed)
    }

    pub(crate) fn begin_at(mut gate: Gate, policy: OperationPolicy, seed: u64) -> Self {
        let seed = Seed::new(seed);
        let key = Key::new("order-42").unwrap();
        let print = Fingerprint::new([7; 16]);
        let mut turn = policy.turn(START, &mut gate);
        let job = Operation::new(key, print, seed, &mut turn);
        let (mut told, now, seen) = (Vec::new(), START, START);
        listen(&mut turn, &mut told, seen);
        let (asked, log, durable, in_the_air, left, ended) = (Vec::new(), Vec::new(), None, None, 0, 0);
        let (behind, failed_at_first) = (Duration::ZERO, false);
        Self {
            policy,
            gate,
            now,
            behind,
            job,
            seed,
            asked,
            durable,
            failed_at_first,
            in_the_air,
            left,
            log,
            ended,
            told,
            seen,
        }
    }

    pub(crate) fn feed(&mut self, event: Event) {
        let now = self.now;
        self.now = now.saturating_sub(self.behind);
        self.turn(|job, turn| job.handle(event, turn));
        self.now = now;
    }

    pub(crate) fn wake(&mut self) {
        self.turn(Operation::handle_timeout);
    }

    fn turn(&mut self, step: impl FnOnce(&mut Operation, &mut Turn<'_>)) {
        let mut turn = self.policy.turn(self.now, &mut self.gate);
        step(&mut self.job, &mut turn);
        self.seen = self.seen.max(self.now);
        listen(&mut turn, &mut self.told, self.seen);
        self.check();
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Drain => self.drain(),
            Step::Ack => {
                if let Some((number, record)) = self.asked.pop() {
                    self.asked.clear();
                    self.durable = Some(record);
                    self.feed(Event::Persisted(number));
                }
            }
            Step::AckOlder => {
                if self.asked.len() > 1 {
                    let (number, record) = self.asked.remove(0);
                    self.durable = Some(record);
                    self.feed(Event::Persisted(number));
                }
            }
            Step::Fail => {
                if let Some((number, _)) = self.asked.pop() {
                    self.asked.clear();
                    self.failed_at_first |= self.durable.is_none();
                    self.feed(Event::PersistFailed(number));
                }
            }
            Step::AckUnknown => self.feed(Event::Persisted(RecordId(0))),
            Step::Answer(answer) => {
                if let Some(attempt) = self.in_the_air.take() {
                    self.feed(Event::Answered(attempt.id, answer.clone()));
                }
            }
            Step::Unsent => {
                if let Some(attempt) = self.in_the_air.take() {
                    // Of one that was given up it is too late to say so.
                    self.left -= u32::from(self.job.in_flight() == Some(attempt));
                    self.feed(Event::Unsent(attempt.id));
                }
            }
            Step::Late(id, answer) => {
                let current = self.in_the_air.map(|attempt| attempt.id);
                if current != Some(AttemptId(*id)) {
                    self.feed(Event::Answered(AttemptId(*id), answer.clone()));
                }
            }
            Step::Webhook(reading) => self.feed(Event::Webhook(reading.clone())),
            Step::Changed => self.feed(Event::Changed),
            Step::Cancel => self.feed(Event::Cancel),
            Step::Delivered => self.feed(Event::Delivered),
            Step::Tick(span) => {
                self.now = self.now.saturating_add(*span);
                self.wake();
            }
            Step::Wake => {
                if let Some(at) = self.job.next_deadline() {
                    self.now = self.now.max(at);
                    self.wake();
                }
            }
            Step::Back(span) => {
                let true_now = self.now;
                self.now = self.now.saturating_sub(*span);
                self.wake();
                self.now = true_now;
            }
            Step::Hold(span) => self.gate.hold_until(self.now.saturating_add(*span)),
            Step::Crash => self.crash(),
        }
    }

    /// The process dies; what is durable is taken up by a new one.
    fn crash(&mut self) {
        let Some(record) = self.durable.clone() else { return };
        self.asked.clear();
        self.in_the_air = None;
        self.gate = Gate::new(self.gate.policy().clone(), self.seed);
        let seed = self.seed;
        self.seen = self.now;
        self.turn(|job, turn| *job = Operation::restore(record, seed, turn));
    }

    /// The same, with this on disk.
    pub(crate) fn crash_to(&mut self, record: Record) {
        self.durable = Some(record);
        self.crash();
    }

    /// What was told explains itself: each wait is as long as its parts say, and the timeline tells of every notice.
    pub(crate) fn check_told(&self) {
        let timeline = Timeline::new(self.told.iter().map(|(at, notice)| (*at, notice)));
        assert_eq!(timeline.entries().map(|entry| entry.notices()).sum::<usize>(), self.told.len());
        assert_eq!(timeline.to_string().lines().count(), timeline.entries().count());
        for (at, notice) in &self.told {
            if let Notice::Waiting { until, delay, .. } = notice {
                assert_eq!(*until, at.saturating_add(delay.wait()), "a wait is made of its parts: {notice:?}");
            }
        }
    }

    pub(crate) fn drain(&mut self) {
        while let Some(effect) = self.job.pop_effect() {
            self.log.push((self.now, effect));
            match effect {
                Effect::Persist(number) => self.asked.push((number, self.job.record())),
                Effect::Send(attempt) => self.sent(attempt),
                Effect::Abandon(id) => {
                    let known = self.in_the_air.take().is_none_or(|attempt| attempt.id <= id);
                    assert!(known, "abandons an attempt that was never sent");
                }
                Effect::End => self.ended += 1,
                _ => {}
            }
        }
    }

    /// Law 3, I2, I3, I5: what must hold whenever a request leaves.
    fn sent(&mut self, attempt: Attempt) {
        assert!(self.in_the_air.is_none(), "I3: {attempt:?} leaves while {:?} is in the air", self.in_the_air);
        self.in_the_air = Some(attempt);
        self.left += 1;
        assert!(attempt.until > self.now, "an attempt has time");
        let durable = self.durable.as_ref().expect("I5: nothing leaves without a durable record");
        match attempt.kind {
            Kind::Create => {
                assert!(!self.failed_at_first, "its payload went with the first record");
                assert_eq!(durable.stage, Stage::InFlight, "I5");
                assert!(durable.creates >= attempt.number, "I5: the record counts this attempt");
                assert!(
                    durable.first_sent.is_some_and(|at| at <= self.now),
                    "a key's window counts from the first send"
                );
                assert!(attempt.number <= self.policy.create().attempts(), "I2");
                assert!(self.now < durable.submitted.saturating_add(self.policy.create().deadline()), "I2");
                assert!(self.job.reference().is_none(), "no create after acceptance");
            }
            Kind::Poll => assert_eq!(durable.stage, Stage::Accepted, "I5"),
            _ => assert!(matches!(durable.stage, Stage::Unknown | Stage::InFlight), "I5: {:?}", durable.stage),
        }
        assert_eq!((durable.key.as_str(), durable.fingerprint), ("order-42", Fingerprint::new([7; 16])), "I4");
    }

    /// The laws that hold after every step.
    fn check(&self) {
        // Law 1: popping decides nothing.
        let mut popped = self.job.clone();
        while popped.pop_effect().is_some() {}
        assert_eq!(popped.next_wake(), self.job.next_wake(), "law 1");
        assert_eq!(popped.record(), self.job.record(), "law 1");
        assert_eq!(popped.outcome(), self.job.outcome(), "law 1");

        // Law 2: after handle_timeout(now) and a full drain, the deadline is later than now.
        let (mut woken, mut gate) = (self.job.clone(), self.gate.clone());
        woken.handle_timeout(&mut self.policy.turn(self.now, &mut gate));
        let mut effects = 0;
        while woken.pop_effect().is_some() {
            effects += 1;
            assert!(effects <= 4, "I18: a drain ends");
        }
        assert!(
            woken.next_deadline().is_none_or(|at| at > self.now),
            "law 2: {:?} at {:?}",
            woken.next_wake(),
            self.now
        );

        // Law 5: effects are a projection of state: what is copied or stored owes the same.
        self.check_stored();
    }

    #[cfg(feature = "serde")]
    fn check_stored(&self) {
        let stored = serde_json::to_string(&self.job).unwrap();
        let restored: Operation = serde_json::from_str(&stored).unwrap();
        assert_eq!(restored, self.job, "law 5");
    }

    #[cfg(not(feature = "serde"))]
    fn check_stored(&self) {}

    /// The world heals: records are written, requests are answered `so`, time passes. Tells how many turns it took to
    /// end.
    pub(crate) fn heal(&mut self, mut so: impl FnMut(Attempt) -> Option<Result<Reading, Failure>>) -> u32 {
        self.gate.hold_until(Timestamp::EPOCH);
        // The shortest polls beside the longest deadline are some ten thousand.
        for turn in 0..100_000 {
            self.drain();
            if self.job.is_finished() {
                return turn;
            }
            if !self.asked.is_empty() {
                self.step(&Step::Ack);
            } else if let Some(answer) = self.in_the_air.and_then(&mut so) {
                self.step(&Step::Answer(answer));
            } else if matches!(self.job.record().stage, Stage::Ended(_)) && self.job.outcome().is_some() {
                self.step(&Step::Delivered);
            } else {
                assert!(self.job.next_deadline().is_some(), "I14: it waits for nothing: {:?}", self.job);
                self.step(&Step::Wake);
            }
        }
        panic!("I14: it does not end: {:?}", self.job);
    }
}

fn listen(turn: &mut Turn<'_>, told: &mut Vec<(Timestamp, Notice)>, now: Timestamp) {
    while let Some(notice) = turn.pop_notice() {
        told.push((now, notice));
    }
}
