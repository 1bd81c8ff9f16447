//! Runs the text scripts in `scripts/`: events in, effects out.
//!
//! A line that begins with `>` is something that happens; the lines under it are what the engine then owes, and what it
//! waits for. Text after `#` is for the reader. Times count from the start of the case. `REWRITE=1 cargo test -p
//! steadfast-core --test scripts` writes what the engine does now into the scripts, so that a change of behaviour shows
//! as a change of text.
//!
//! ```text
//! > policy keyed 1d            the provider: unsafe (default), keyed SPAN, lookup SPAN, idempotent
//! > submit KEY [PAYLOAD]       > cancel KEY      > webhook KEY MEANING
//! > answer KEY MEANING         the request in the air
//! > unsent KEY [cancel]        the request in the air has not left, and is owed again, unless the job is cancelled
//! > late KEY NUMBER MEANING    an attempt that is no longer in the air
//! > durable [NUMBER]           the latest record (or this one, and all before) is on disk
//! > disk fails                 the latest record could not be written
//! > wait [SPAN]                until the next deadline, or so long
//! > crash                      and start again from what is on disk
//! > hold SPAN                  the gate
//! > ceiling SPAN               no Retry-After counts for more (default 1h)
//! > timeline KEY               what `explain` says of the job so far
//! ```

use core::fmt::Write as _;
use core::time::Duration;
use std::collections::BTreeMap;
use std::path::Path;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::engine::{Engine, Event, Limits, Submitted};
use steadfast_core::explain::Timeline;
use steadfast_core::notice::{Notice, WakeReason};
use steadfast_core::operation::{Attempt, AttemptId, Effect, Reading, Record, RecordId, Stage};
use steadfast_core::retry::{AnswerDigest, Certainty, Class, Failure, RetryAfter, RetryPolicy};
use steadfast_core::{
    Fingerprint, Gate, Key, Kind, Operation, OperationId, OperationPolicy, Reference, Seed, SendSafety, Timestamp,
};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

#[test]
fn scripts_give_the_effects_they_show() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let rewrite = std::env::var_os("REWRITE").is_some();
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 9);
    for file in files {
        let expected = std::fs::read_to_string(&file).unwrap();
        let actual = replay(&expected);
        if rewrite {
            std::fs::write(&file, actual).unwrap();
            continue;
        }
        for (number, (expected, actual)) in (1..).zip(expected.lines().zip(actual.lines())) {
            assert_eq!(expected, actual, "{}:{number}", file.display());
        }
        assert_eq!(expected.len(), actual.len(), "{}: one is longer", file.display());
    }
}

/// The script with the effects as they are now.
fn replay(script: &str) -> String {
    let mut out = String::new();
    let mut scene = Scene::new();
    for line in script.lines() {
        if line.starts_with("# ---") {
            scene = Scene::new();
        }
        if let Some(command) = line.strip_prefix("> ") {
            let _ = writeln!(out, "{line}");
            scene.perform(command.split('#').next().unwrap_or_default().trim(), &mut out);
        } else if line.is_empty() || line.starts_with('#') {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

struct Scene {
    safety: SendSafety,
    ceiling: Duration,
    engine: Engine,
    now: Timestamp,
    asked: Vec<(RecordId, Record)>,
    disk: BTreeMap<Key, Record>,
    in_the_air: BTreeMap<OperationId, Attempt>,
    told: Vec<(Key, Timestamp, Notice)>,
}

impl Scene {
    fn new() -> Self {
        let (safety, ceiling) = (SendSafety::Unsafe, Duration::from_secs(3600));
        let (engine, now, asked) = (engine(safety, ceiling), START, Vec::new());
        let (disk, in_the_air) = (BTreeMap::new(), BTreeMap::new());
        Self { safety, ceiling, engine, now, asked, disk, in_the_air, told: Vec::new() }
    }

    fn perform(&mut self, command: &str, out: &mut String) {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            ["policy", ..] => {
                self.safety = safety(&words[1..]);
                self.engine = engine(self.safety, self.ceiling);
            }
            ["ceiling", time] => {
                self.ceiling = span(time);
                self.engine = engine(self.safety, self.ceiling);
            }
            ["timeline", key] => return self.timeline(key, out),
            ["submit", key, ..] => self.submit(key, words.get(2).copied().unwrap_or_default(), out),
            ["cancel", key] => self.feed(Event::Cancel(self.id(key))),
            ["webhook", key, ..] => self.feed(Event::Webhook(self.id(key), reading(&words[2..]).unwrap())),
            ["answer", key, ..] => {
                let id = self.id(key);
                let attempt = self.in_the_air.remove(&id).expect("a request in the air");
                self.feed(Event::Answered(id, attempt.id, meaning(&words[2..])));
            }
            ["unsent", key, ..] => {
                let id = self.id(key);
                let attempt = self.in_the_air.remove(&id).expect("a request in the air");
                self.feed(Event::Unsent(id, attempt.id));
                if words.get(2) == Some(&"cancel") {
                    self.feed(Event::Cancel(id));
                }
            }
            ["late", key, number, ..] => {
                let attempt = AttemptId(number.parse().unwrap());
                self.feed(Event::Answered(self.id(key), attempt, meaning(&words[3..])));
            }
            ["durable"] => self.durable(self.asked.last().expect("a record asked for").0),
            ["durable", number] => self.durable(RecordId(number.parse().unwrap())),
            ["disk", "fails"] => {
                let (number, _) = self.asked.last().expect("a record asked for").clone();
                self.asked.clear();
                self.feed(Event::PersistFailed(number));
            }
            ["wait"] => self.wait(self.engine.next_deadline().expect("a deadline").saturating_since(self.now), out),
            ["wait", time] => self.wait(span(time), out),
            ["hold", time] => self.engine.gate_mut().hold_until(self.now.saturating_add(span(time))),
            ["crash"] => self.crash(),
            _ => panic!("what is {command:?}?"),
        }
        self.show(out);
    }

    fn submit(&mut self, key: &str, payload: &str, out: &mut String) {
        let print = Fingerprint::new([payload.len() as u8; 16]);
        match self.engine.submit(Key::new(key).unwrap(), print, self.now) {
            Ok(Submitted::Started(_)) => {}
            Ok(Submitted::Joined(_)) => out.push_str("joins the job that has this key\n"),
            Err(error) => {
                let _ = writeln!(out, "refused: {error}");
            }
        }
    }

    fn id(&self, key: &str) -> OperationId {
        self.engine.find(&Key::new(key).unwrap()).unwrap_or_else(|| panic!("no job has the key {key}"))
    }

    fn feed(&mut self, event: Event) {
        self.engine.handle(event, self.now);
    }

    fn durable(&mut self, number: RecordId) {
        let (done, rest) = std::mem::take(&mut self.asked).into_iter().partition(|(asked, _)| *asked <= number);
        self.asked = rest;
        for (_, record) in Vec::<(RecordId, Record)>::from_iter::<Vec<_>>(done) {
            self.disk.insert(record.key.clone(), record);
        }
        self.feed(Event::Persisted(number));
    }

    fn wait(&mut self, time: Duration, out: &mut String) {
        self.now = self.now.saturating_add(time);
        let _ = writeln!(out, "at {}", since(self.now));
        self.engine.handle_timeout(self.now);
    }

    fn crash(&mut self) {
        self.engine = engine(self.safety, self.ceiling);
        self.asked.clear();
        self.in_the_air.clear();
        for record in self.disk.values() {
            self.engine.restore(record.clone(), self.now).unwrap();
        }
    }

    fn timeline(&self, key: &str, out: &mut String) {
        let own = self.told.iter().filter(|(whose, ..)| whose.as_str() == key);
        let _ = write!(out, "{}", Timeline::new(own.map(|(_, at, notice)| (*at, notice))));
    }

    fn listen(&mut self) {
        while let Some((id, notice)) = self.engine.pop_notice() {
            let key = self.engine.operation(id).expect("told of a job that is forgotten").key();
            self.told.push((key, self.now, notice));
        }
    }

    /// What is owed, and what is waited for.
    fn show(&mut self, out: &mut String) {
        // Before it is delivered: a job of which nothing is on disk is then forgotten.
        self.listen();
        while let Some((id, effect)) = self.engine.pop_effect() {
            let operation = self.engine.operation(id).unwrap();
            let key = operation.key();
            let _ = match effect {
                Effect::Persist(number) => {
                    let record = operation.record();
                    let stage = stage(&record);
                    self.asked.push((number, record));
                    writeln!(out, "{}: write record {}: {stage}", key.as_str(), number.0)
                }
                Effect::Send(attempt) => {
                    self.in_the_air.insert(id, attempt);
                    let kind = kind(attempt.kind);
                    writeln!(
                        out,
                        "{}: send {kind} {}, answer by {}",
                        key.as_str(),
                        attempt.number,
                        since(attempt.until)
                    )
                }
                Effect::Abandon(attempt) => {
                    self.in_the_air.remove(&id);
                    writeln!(out, "{}: abandon request {}", key.as_str(), attempt.0)
                }
                Effect::End => {
                    let outcome = operation.outcome().unwrap();
                    self.engine.handle(Event::Delivered(id), self.now);
                    writeln!(out, "{}: end, {outcome:?}", key.as_str())
                }
                other => writeln!(out, "{}: {other:?}", key.as_str()),
            };
        }
        self.listen();
        if let Some((wake, id)) = self.engine.next_wake()
            && wake.reason != WakeReason::Forget
        {
            let key = id.and_then(|id| self.engine.operation(id)).map(Operation::key);
            let key = key.as_ref().map_or("", Key::as_str);
            let _ = writeln!(out, "waits until {} for {:?} of {key}", since(wake.at), wake.reason);
        }
    }
}

/// The default policy without jitter, so that the scripts show round numbers.
fn engine(safety: SendSafety, ceiling: Duration) -> Engine {
    let secs = Duration::from_secs;
    let backoff = BackoffPolicy::new(Growth::doubling(secs(1)), secs(20), Jitter::None).unwrap();
    let retry = RetryPolicy::new(5, secs(120), secs(10), backoff.clone()).unwrap();
    let retry = retry.with_retry_after(RetryAfter::Floor { ceiling });
    let schedule = BackoffPolicy::new(Growth::doubling(secs(3)), secs(30), Jitter::None).unwrap();
    let poll = steadfast_core::poll::PollPolicy::new(schedule, 10, secs(180), retry.clone()).unwrap();
    let policy = OperationPolicy::default().with_create(retry.clone()).unwrap().with_lookup(retry);
    let policy = policy.with_poll(poll.with_not_found_grace(secs(5))).with_persist(backoff).unwrap();
    Engine::new(policy.with_safety(safety).unwrap(), Gate::unlimited(), Limits::default(), Seed::new(1))
}

fn safety(words: &[&str]) -> SendSafety {
    match words {
        ["keyed", window] => SendSafety::Keyed { window: span(window) },
        ["lookup", settle] => SendSafety::Lookup { settle: span(settle) },
        ["idempotent"] => SendSafety::Idempotent,
        _ => SendSafety::Unsafe,
    }
}

fn meaning(words: &[&str]) -> Result<Reading, Failure> {
    reading(words).ok_or_else(|| failure(words))
}

fn reading(words: &[&str]) -> Option<Reading> {
    Some(match words {
        ["accepted", reference] => Reading::Accepted(Reference::new(*reference).unwrap()),
        ["pending"] => Reading::Pending { hint: None },
        ["pending", hint] => Reading::Pending { hint: Some(span(hint)) },
        ["person"] => Reading::AwaitingPerson { hint: None },
        ["partial"] => Reading::Partial,
        ["ready"] => Reading::Ready,
        ["undecided"] => Reading::Undecided,
        ["failed"] => Reading::Failed,
        ["not-found"] => Reading::NotFound,
        ["unknown", text] => Reading::Unknown((*text).into()),
        _ => return None,
    })
}

/// `transient maybe`, `throttled not after 5s`, `transient maybe same X`: class, did it run, and the `Retry-After` or
/// what the answer is known by.
fn failure(words: &[&str]) -> Failure {
    let class = match words[0] {
        "transient" => Class::Transient,
        "throttled" => Class::Throttled,
        "timed-out" => Class::TimedOut,
        "permanent" => Class::Permanent,
        other => panic!("what is {other}?"),
    };
    let certainty = match words[1] {
        "not" => Certainty::NotExecuted,
        "maybe" => Certainty::MayHaveExecuted,
        "ran" => Certainty::Executed,
        other => panic!("did it run: {other}?"),
    };
    let failure = Failure::new(class, certainty);
    match words[2..] {
        [] => failure,
        ["after", time] => failure.with_retry_after(Some(span(time))),
        ["same", body] => failure.with_answer(Some(AnswerDigest::of(500, body.as_bytes()))),
        _ => panic!("what is {words:?}?"),
    }
}

fn span(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap());
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        other => panic!("what is the unit {other}?"),
    };
    Duration::from_millis(number.parse::<u64>().unwrap() * unit)
}

fn since(at: Timestamp) -> String {
    format!("{:?}", at.saturating_since(START))
}

fn stage(record: &Record) -> String {
    match record.stage {
        Stage::Planned => "planned, nothing ran".into(),
        Stage::InFlight => format!("create {} in flight", record.creates),
        Stage::Unknown => "a create may have run".into(),
        Stage::Accepted => format!("accepted as {}", record.reference.as_ref().unwrap()),
        Stage::Ended(outcome) => format!("ended, {outcome:?}"),
        Stage::Delivered(_) => "delivered".into(),
        other => format!("{other:?}"),
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Create => "create",
        Kind::Lookup => "look-up",
        _ => "poll",
    }
}
