//! The engine under any script of its driver: the laws of the driving protocol, and what must never be sent.
//!
//! A script feeds events in any order, with ids that exist, that are gone or that never were, with a clock that leaps
//! and runs backwards, with crashes, full journals and answers that contradict each other. Beside the engine a `World`
//! keeps its own books of what is on disk and in the air, and asserts:
//!
//! - driving: `handle` is total; popping decides nothing (law 1) and ends; after a wake and a drain the next deadline
//!   is later than now (law 2, I18); a repeated wake changes nothing; a snapshot gives an equal engine, which then does
//!   the same step for step (I12, I13);
//! - durability: nothing is sent before its record is on disk (I5), no outcome told (R14) or told otherwise a second
//!   time (R44);
//! - one execution: never two requests of one key in the air (I3), no more creates than attempts, over all crashes
//!   (I2), none after an outcome, none where an earlier one may have run and a repeat is not safe (I7), or is so no
//!   longer (the key's window);
//! - what comes back: only an outcome that was delivered as unresolved, with a reference, is resumed; it is then polled
//!   on, and never created again. What waits for its create can be withdrawn and restored, and is then as it was;
//! - bounds: no more live operations than the limit takes in (I15), no more in flight than there are operations and the
//!   bulkhead allows; and in the end, when journal and provider are well again, every operation ends (I14) and the
//!   gate's count returns to zero (I8).
//!
//! Input: four characters that choose send safety, gate, limits and time-outs, then steps of a letter and its
//! parameters, which stand in `World::step`. Spaces count for nothing; other bytes choose among the letters, so any
//! bytes are a script.

mod books;
mod script;
mod settings;

use std::time::Duration;

use arbitrary::Unstructured;
use steadfast_core::engine::{Engine, Event, SubmitError, Submitted};
use steadfast_core::operation::{AttemptId, Reading, Record, RecordId, Stage};
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::Failure;
use steadfast_core::{Fingerprint, Gate, Key, Kind, OperationId, Seed, SendSafety, Timestamp};

use self::books::Books;
use self::script::{answer, byte, index, span};
pub(super) use self::settings::safety;
use self::settings::{gate, limits, most_in_flight, policy};
use super::WALL_SECS;

const LETTERS: &[u8] = b"sspppzzzaaaaAwHceTTTttbdnqQxygCShGfRRWUuv";
const KEYS: usize = 6;
/// A script that is longer says nothing new.
const STEPS: usize = 400;
const YEAR: Duration = Duration::from_secs(366 * 86_400);

/// See the [module](self).
pub fn holds(data: &[u8]) {
    World::after(data).come_to_rest();
}

/// The engine as a script leaves it.
pub(super) fn after(script: &[u8]) -> Engine {
    World::after(script).engine
}

struct World {
    engine: Engine,
    /// The engine from before it was stored and restored: it has to go on in the same way.
    twin: Option<Engine>,
    choices: [u8; 4],
    /// The driver's clock, which may run backwards.
    now: Timestamp,
    /// All ids ever given, those of earlier lives too.
    ids: Vec<OperationId>,
    books: Books,
    /// Operations that were taken out of the engine.
    withdrawn: Vec<Record>,
    most_in_flight: Option<u32>,
    snapshots: u32,
}

impl World {
    fn new(script: &mut Unstructured<'_>) -> Self {
        let choices = std::array::from_fn(|_| byte(script));
        Self {
            engine: Self::engine(choices),
            twin: None,
            choices,
            now: Timestamp::from_secs(WALL_SECS),
            ids: Vec::new(),
            books: Books::new(policy(choices[3], safety(choices[0])), limits(choices[2])),
            withdrawn: Vec::new(),
            most_in_flight: most_in_flight(choices[1]),
            snapshots: 0,
        }
    }

    fn after(data: &[u8]) -> Self {
        let mut script = Unstructured::new(data);
        let mut world = Self::new(&mut script);
        for _ in 0..STEPS {
            if script.is_empty() {
                break;
            }
            world.step(&mut script);
            world.check();
        }
        world
    }

    fn engine([safe, gates, limit, times]: [u8; 4]) -> Engine {
        let gate = Gate::new(gate(gates), Seed::new(9));
        Engine::new(policy(times, safety(safe)), gate, limits(limit), Seed::new(9))
    }

    /// The same for the engine and its twin, which must say the same.
    fn both<T: PartialEq + std::fmt::Debug>(&mut self, step: impl Fn(&mut Engine, Timestamp) -> T) -> T {
        let said = step(&mut self.engine, self.now);
        if let Some(twin) = &mut self.twin {
            assert_eq!(step(twin, self.now), said, "I12: the stored and restored engine goes another way");
        }
        said
    }

    /// The same, for a step that tells the time.
    fn at<T: PartialEq + std::fmt::Debug>(&mut self, step: impl Fn(&mut Engine, Timestamp) -> T) -> T {
        self.books.seen = self.books.seen.max(self.now).min(Timestamp::NEVER.saturating_sub(Duration::from_nanos(1)));
        self.both(step)
    }

    fn feed(&mut self, event: Event) {
        self.at(|engine, now| engine.handle(event.clone(), now));
    }

    fn step(&mut self, script: &mut Unstructured<'_>) {
        let letter = byte(script);
        match if LETTERS.contains(&letter) || letter == b' ' || letter == b'\n' {
            letter
        } else {
            LETTERS[usize::from(letter) % LETTERS.len()]
        } {
            // s KEY PAYLOAD: submit.
            b's' => self.submit(index(script), byte(script)),
            // p: the journal commits all. q N: up to the Nth that waits. Q and eight bytes: a number from nowhere is
            // acknowledged.
            b'p' => self.commit(usize::MAX, true),
            b'q' => self.commit(index(script), true),
            b'Q' => self.acknowledge(RecordId(script.arbitrary().unwrap_or_default()), true),
            // x: the journal fails for all. y N: up to the Nth.
            b'x' => self.commit(usize::MAX, false),
            b'y' => self.commit(index(script), false),
            // a N ANSWER: the Nth request in the air is answered.
            b'a' => {
                let (at, answer) = (index(script), answer(script));
                if let Some((id, attempt)) = self.books.in_the_air(at) {
                    self.answer(id, attempt, answer);
                }
            }
            // A ID ATTEMPT ANSWER: an answer to whatever.
            b'A' => {
                let (id, attempt) = (self.id(script), AttemptId(index(script) as u32));
                self.answer(id, attempt, answer(script));
            }
            // u N: the Nth request in the air has not left. v ID ATTEMPT: so it is said of whatever was not taken, or
            // is gone.
            b'u' => {
                let at = index(script);
                if let Some((id, attempt)) = self.books.in_the_air(at) {
                    self.unsent(id, attempt);
                }
            }
            b'v' => {
                let (id, attempt) = (self.id(script), AttemptId(index(script) as u32));
                if !self.books.is_in_the_air(id, attempt) {
                    self.unsent(id, attempt);
                }
            }
            // w ID ANSWER: a webhook. c ID: cancel. e ID: delivered.
            b'w' => {
                let id = self.id(script);
                let reading = answer(script).unwrap_or_else(|_| Reading::Unknown("strange".into()));
                self.feed(Event::Webhook(id, reading));
            }
            // H ID: a webhook that says only that something has changed.
            b'H' => {
                let id = self.id(script);
                self.feed(Event::Changed(id));
            }
            b'c' => {
                let id = self.id(script);
                self.feed(Event::Cancel(id));
            }
            b'e' => {
                let id = self.id(script);
                // Who says so without having been told has looked.
                if let Some((key, outcome)) = self.engine.operation(id).and_then(|it| Some((it.key(), it.outcome()?))) {
                    self.books.ended(&key, outcome);
                }
                self.deliver(id);
            }
            // R ID: somebody resumes it. W ID: it is withdrawn. U N: the Nth that was comes back.
            b'R' => {
                let id = self.id(script);
                self.resume(id);
            }
            b'W' => {
                let id = self.id(script);
                self.withdraw(id);
            }
            b'U' => {
                let at = index(script);
                if !self.withdrawn.is_empty() {
                    let record = self.withdrawn.remove(at % self.withdrawn.len());
                    self.give_back(record);
                }
            }
            // T: sleep until the next deadline. t SPAN: sleep for so long. b SPAN: the clock runs backwards.
            b'T' => {
                self.now = self.engine.next_deadline().map_or(self.now, |at| self.now.max(at));
                self.wake();
            }
            b't' => {
                self.now = self.now.saturating_add(span(script));
                self.wake();
            }
            b'b' => self.now = self.now.saturating_sub(span(script)),
            // d: pop one effect. z: all. n: a notice.
            b'd' => drop(self.pop()),
            b'z' => self.drain(),
            b'n' => drop(self.both(|engine, _| engine.pop_notice())),
            // g KIND NUMBERS: the provider tells of its limit.
            b'g' => {
                let kind = [Kind::Create, Kind::Lookup, Kind::Poll][index(script) % 3];
                let quota = Quota {
                    limit: Some(u32::from(byte(script))),
                    window: Some(span(script)),
                    remaining: Some(index(script) as u32),
                    reset: Some(span(script)),
                };
                self.feed(Event::Quota(kind, quota));
            }
            // h SPAN: the gate is held. G GATE: it gets other settings.
            b'h' => {
                let span = span(script);
                self.both(|engine, now| engine.gate_mut().hold_until(now.saturating_add(span)));
                self.wake();
            }
            b'G' => {
                let choice = byte(script);
                self.most_in_flight = None;
                self.both(|engine, now| engine.gate_mut().set_policy(gate(choice), now));
                self.wake();
            }
            // C SPAN: the process dies, and starts again so much later. S: it is stored and restored. f: woken twice.
            b'C' => self.crash(span(script)),
            b'S' => self.store(),
            b'f' => {
                self.wake();
                let before = self.engine.clone();
                self.at(|engine, now| engine.handle_timeout(now));
                assert_eq!(self.engine, before, "a repeated wake changes something");
            }
            _ => {}
        }
    }

    fn id(&self, script: &mut Unstructured<'_>) -> OperationId {
        let at = index(script);
        // One that never was, for a start.
        let strange = r#"{"slot":4294967295,"generation":7}"#;
        let none = || serde_json::from_str(strange).expect("an id");
        self.ids.get(at % self.ids.len().max(1)).copied().unwrap_or_else(none)
    }

    fn submit(&mut self, at: usize, payload: u8) {
        let key = Key::new(format!("order-{}", at % KEYS)).expect("visible ASCII");
        if let Some(at) = self.withdrawn.iter().position(|record| record.key == key) {
            let record = self.withdrawn.remove(at);
            self.give_back(record);
        }
        let (found, print) = (self.engine.find(&key), Fingerprint::new([payload % 2; 16]));
        match self.at(|engine, now| engine.submit(key.clone(), print, now)) {
            Ok(Submitted::Started(id)) => {
                self.ids.push(id);
                self.books.started(&key);
                assert_eq!(self.engine.find(&key), Some(id));
                assert!(self.engine.live() <= limits(self.choices[2]).live, "I15");
            }
            Ok(Submitted::Joined(id)) => {
                assert_eq!(found, Some(id), "joined another");
                assert_eq!(self.engine.operation(id).map(|it| it.fingerprint()), Some(print), "another payload");
            }
            Err(SubmitError::FingerprintMismatch) => assert!(found.is_some(), "refused for nobody's sake"),
            Err(SubmitError::Full { live }) => assert!(live >= limits(self.choices[2]).live && !self.engine.has_room()),
            Err(other) => panic!("what else can be wrong: {other}"),
        }
    }

    fn commit(&mut self, at: usize, good: bool) {
        if let Some(number) = self.books.asked(at) {
            self.acknowledge(number, good);
        }
    }

    fn acknowledge(&mut self, number: RecordId, good: bool) {
        self.books.acknowledged(number, good);
        self.feed(if good { Event::Persisted(number) } else { Event::PersistFailed(number) });
    }

    fn answer(&mut self, id: OperationId, attempt: AttemptId, answer: Result<Reading, Failure>) {
        self.books.answered(id, attempt, &answer);
        self.feed(Event::Answered(id, attempt, answer));
    }

    /// It is owed again, unless its time is over; said of another, it changes nothing.
    fn unsent(&mut self, id: OperationId, attempt: AttemptId) {
        let is_current = self.books.is_in_the_air(id, attempt);
        let before = self.engine.operation(id).map(|it| it.record());
        self.books.unsent(id, attempt);
        self.feed(Event::Unsent(id, attempt));
        let after =
            self.engine.operation(id).map(|it| (it.record(), it.in_flight().map(|it| it.id), it.owes_effects()));
        if let (true, Some((record, Some(current), owes))) = (is_current, after)
            && current == attempt
        {
            assert_eq!(Some(record), before, "what is taken back changes no record");
            assert!(owes, "what is taken back is owed again");
        }
    }

    fn deliver(&mut self, id: OperationId) {
        if let Some(operation) = self.engine.operation(id) {
            self.books.delivered(operation);
        }
        self.feed(Event::Delivered(id));
    }

    fn resume(&mut self, id: OperationId) {
        let Some(before) = self.engine.operation(id).map(|it| it.record()) else {
            return self.feed(Event::Resume(id));
        };
        let resumes = self.books.resumes(&before);
        self.feed(Event::Resume(id));
        let after = self.engine.operation(id).expect("nobody forgets it for that").record();
        if resumes {
            let mut expected = before;
            (expected.stage, expected.polls, expected.due) = (Stage::Accepted, 0, after.due);
            assert_eq!(after, expected, "R31: what is resumed is polled on, and nothing else of it changes");
            assert!(self.engine.live_operations().any(|live| live == id), "I15: it is live again");
        } else if matches!(before.stage, Stage::Ended(_) | Stage::Delivered(_)) {
            assert_eq!(after, before, "R31: resumed in vain");
        }
    }

    /// As a driver must, it does first what it is told to.
    fn withdraw(&mut self, id: OperationId) {
        self.drain();
        let (before, live) = (self.engine.operation(id).map(|it| it.record()), self.engine.live());
        let may_look_up = matches!(safety(self.choices[0]), SendSafety::Lookup { .. });
        let waits = |record: &Record| match record.stage {
            Stage::Planned => true,
            Stage::Unknown => !may_look_up,
            _ => false,
        };
        let withdrawn = self.at(|engine, now| engine.withdraw(id, now));
        assert_eq!(withdrawn, before.filter(waits), "what waits for its create, and nothing else");
        if let Some(record) = withdrawn {
            assert!(self.engine.operation(id).is_none() && self.engine.find(&record.key).is_none());
            assert_eq!(self.engine.live(), live - 1);
            self.withdrawn.push(record);
        }
    }

    fn give_back(&mut self, record: Record) {
        let id = self.at(|engine, now| engine.restore(record.clone(), now)).expect("nobody else has its key");
        self.books.entered += 1;
        self.ids.push(id);
    }

    fn pop(&mut self) -> bool {
        let Some((id, effect)) = self.both(|engine, _| engine.pop_effect()) else { return false };
        let operation = self.engine.operation(id).expect("an effect of an operation that there is");
        self.books.popped(id, operation, effect);
        true
    }

    /// Each operation owes each effect once at most; and popping decides nothing (law 1).
    fn drain(&mut self) {
        let before = self.engine.next_deadline();
        let most = 4 * self.books.entered;
        let popped = (0..=most).take_while(|_| self.pop()).count();
        assert!(popped <= most, "I18: a drain without end");
        assert_eq!(self.engine.next_deadline(), before, "law 1");
        let in_flight = self.engine.gate().in_flight() as usize;
        assert!(self.books.in_the_air_count() <= in_flight, "I8: more in the air than the gate knows of");
    }

    fn wake(&mut self) {
        self.at(|engine, now| engine.handle_timeout(now));
        self.drain();
        let next = self.engine.next_deadline();
        assert!(
            next.is_none_or(|at| at > self.books.seen),
            "law 2: {:?}, {:?}",
            self.engine.next_wake(),
            self.books.seen
        );
    }

    fn crash(&mut self, later: Duration) {
        self.engine = Self::engine(self.choices);
        self.twin = None;
        self.withdrawn.clear();
        self.most_in_flight = most_in_flight(self.choices[1]);
        self.now = self.now.saturating_add(later);
        for record in self.books.crash(self.now) {
            let id = self.at(|engine, now| engine.restore(record.clone(), now)).expect("one record a key");
            self.ids.push(id);
            let again = self.at(|engine, now| engine.restore(record.clone(), now));
            assert!(again.is_err() || self.engine.operation(id).is_none(), "a key twice");
        }
    }

    /// I12. Notices are left out of a snapshot: they decide nothing.
    fn store(&mut self) {
        self.snapshots += 1;
        if self.snapshots > 4 {
            return;
        }
        while self.both(|engine, _| engine.pop_notice()).is_some() {}
        let restored = Engine::from_snapshot(&self.engine.snapshot().expect("it can be written"));
        assert_eq!(restored.as_ref(), Ok(&self.engine), "I12");
        self.twin = restored.ok().map(|restored| std::mem::replace(&mut self.engine, restored));
    }

    fn check(&self) {
        let (wake, live) = (self.engine.next_wake(), self.engine.live());
        assert_eq!(wake.map(|(wake, _)| wake.at), self.engine.next_deadline(), "a wake without its reason");
        assert_eq!(self.engine.live_operations().count(), live as usize);
        let in_flight = self.engine.gate().in_flight();
        assert!(in_flight <= live, "I8: {in_flight} in flight, {live} operations");
        assert!(self.most_in_flight.is_none_or(|most| in_flight <= most), "{in_flight} past the bulkhead");
    }

    /// The journal is well, the provider answers, the clock goes on, somebody takes the outcomes. Every other script,
    /// nobody wants them any more.
    fn come_to_rest(&mut self) {
        self.both(|engine, _| engine.gate_mut().hold_until(Timestamp::EPOCH));
        self.now = self.now.max(self.books.seen);
        for record in std::mem::take(&mut self.withdrawn) {
            self.give_back(record);
        }
        if self.choices[0] & 4 == 0 {
            let live: Vec<OperationId> = self.engine.live_operations().collect();
            live.into_iter().for_each(|id| self.feed(Event::Cancel(id)));
        }
        for _ in 0..2_000 {
            self.wake();
            self.check();
            self.commit(usize::MAX, true);
            while let Some((id, attempt)) = self.books.in_the_air(0) {
                self.answer(id, attempt, Ok(Reading::Ready));
            }
            self.drain();
            while let Some(id) = self.books.told.pop() {
                self.deliver(id);
            }
            self.drain();
            self.commit(usize::MAX, true);
            if self.engine.live() == 0 {
                assert_eq!(self.engine.gate().in_flight(), 0, "I8");
                assert!(self.twin.is_none() || self.twin.as_ref() == Some(&self.engine), "I12");
                return;
            }
            // At the end of time nothing comes due any more.
            if self.now > Timestamp::NEVER.saturating_sub(YEAR) {
                return;
            }
            self.now = self.engine.next_deadline().map_or(self.now, |at| self.now.max(at));
        }
        panic!("I14: something stays alive: {:?}", self.engine);
    }
}
