//! Counts and times, as the table in [`metrics`](crate::metrics) has them: handles taken once, so that counting is an
//! addition and no look-up.
//!
//! What an operation did is counted from its notices, what the driver holds is looked at once a turn, what the store
//! took is timed on the store's own thread. Labels are words from enumerations of core's; for those there is a handle
//! each, in an array by their place in the list.

mod oldest;
mod recorder;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metrics::{SharedString, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use steadfast_core::breaker::BreakerState;
use steadfast_core::gate::{Blocked, Gate};
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Completed, Kind, Outcome, Rejected, Unresolved};
use steadfast_core::retry::Class;
use steadfast_core::{Engine, Operation, OperationId, Timestamp};

use self::oldest::Oldest;
use self::recorder::{Counter, Gauge, Histogram, Recorder};
use crate::journal::{Backlog, Journal};
use crate::metrics::{self as names, MetricKind, TABLE};
use crate::observe::Begun;
use crate::webhook::Delivery;

const BEGUN: [Begun; 3] = [Begun::Submitted, Begun::Restored, Begun::Resumed];

const KINDS: [Kind; 3] = [Kind::Create, Kind::Lookup, Kind::Poll];

const CLASSES: [Class; 5] =
    [Class::Transient, Class::Throttled, Class::TimedOut, Class::Permanent, Class::Unauthorized];

const BLOCKED: [Blocked; 10] = [
    Blocked::Held,
    Blocked::Paused,
    Blocked::Open,
    Blocked::Isolated,
    Blocked::Probing,
    Blocked::Budget,
    Blocked::Full,
    Blocked::Quota,
    Blocked::Rate,
    Blocked::Line,
];

/// By their names: an open one bears a time.
const STATES: [&str; 5] = ["closed", "open", "half_open", "isolated", "disabled"];

const OUTCOMES: [Outcome; 22] = [
    Outcome::Completed(Completed::Ready),
    Outcome::Completed(Completed::Partial),
    Outcome::Completed(Completed::Undecided),
    Outcome::Rejected(Rejected::Refused),
    Outcome::Rejected(Rejected::Attempts),
    Outcome::Rejected(Rejected::Deadline),
    Outcome::Rejected(Rejected::Cancelled),
    Outcome::Rejected(Rejected::NotDurable),
    Outcome::Rejected(Rejected::Unavailable),
    Outcome::Failed,
    Outcome::Unresolved(Unresolved::Ambiguous),
    Outcome::Unresolved(Unresolved::Attempts),
    Outcome::Unresolved(Unresolved::Deadline),
    Outcome::Unresolved(Unresolved::Refused),
    Outcome::Unresolved(Unresolved::KeyWindow),
    Outcome::Unresolved(Unresolved::Replayed),
    Outcome::Unresolved(Unresolved::Lookup),
    Outcome::Unresolved(Unresolved::Polls),
    Outcome::Unresolved(Unresolved::PollDeadline),
    Outcome::Unresolved(Unresolved::PollRefused),
    Outcome::Unresolved(Unresolved::NotFound),
    Outcome::Unresolved(Unresolved::Cancelled),
];

/// How many requests may wait at the gate, or have failed, beyond twice the live jobs before what is remembered of them
/// is dropped: notices may have been.
const SPARE: usize = 1_024;

/// One driver's.
pub(crate) struct Meter {
    provider: SharedString,
    recorder: Recorder,
    begun: [Counter; BEGUN.len()],
    ended: [Counter; OUTCOMES.len()],
    seconds: [Histogram; OUTCOMES.len()],
    attempts: Histogram,
    polls: Histogram,
    by_kind: [OfKind; KINDS.len()],
    changes: [Counter; STATES.len()],
    gate: Option<OfGate>,
    live: Level,
    parked: Level,
    pending: Level,
    oldest: Oldest,
    revisions: Counter,
    renewals: [Counter; 2],
    dropped: Counter,
    dropped_before: u64,
    /// Since when jobs wait at the gate.
    waits: HashMap<OperationId, Timestamp>,
    /// Whose last poll failed.
    failed: HashSet<OperationId>,
}

/// One gate's.
pub(crate) struct OfGate {
    states: [Level; STATES.len()],
    in_flight: Level,
    budget: Option<Level>,
    bulkhead: Option<Level>,
}

impl OfGate {
    pub(crate) fn new(provider: &Arc<str>, gate: &Gate, now: Timestamp) -> Self {
        Self::by(&Recorder::default(), &SharedString::from(provider.clone()), gate, now)
    }

    fn by(recorder: &Recorder, provider: &SharedString, gate: &Gate, now: Timestamp) -> Self {
        let plain = |name: &'static str| Level::new(recorder.gauge(|| gauge!(name, "provider" => provider.clone())));
        let state = |state: &'static str| {
            let state = || gauge!(names::BREAKER_STATE, "provider" => provider.clone(), "state" => state);
            Level::new(recorder.gauge(state))
        };
        Self {
            states: STATES.map(state),
            in_flight: plain(names::ATTEMPTS_IN_FLIGHT),
            budget: gate.budget_tokens(now).map(|_| plain(names::BUDGET)),
            bulkhead: gate.bulkhead_limit().map(|_| plain(names::BULKHEAD)),
        }
    }

    /// Takes note of what there is at the end of a turn: one call at a time, under the lock of the gate if it is shared.
    /// What has changed is then to be [added](Self::add), without that lock.
    pub(crate) fn look(&self, gate: &Gate, now: Timestamp) -> Changes {
        let state: BreakerState = gate.breaker_state(now);
        let mut states = STATES.iter().zip(&self.states);
        let of = |level: &Option<Level>, part: Option<u32>| {
            level.as_ref().zip(part).map_or(0.0, |(level, part)| level.turn_to(part.into()))
        };
        Changes {
            states: [(); STATES.len()].map(|()| {
                states.next().map_or(0.0, |(name, level)| level.turn_to(u8::from(*name == state.name()).into()))
            }),
            in_flight: self.in_flight.turn_to(gate.in_flight().into()),
            budget: of(&self.budget, gate.budget_tokens(now)),
            bulkhead: of(&self.bulkhead, gate.bulkhead_limit()),
        }
    }

    /// Tells the recorder of changes, in whatever order.
    pub(crate) fn add(&self, changes: Changes) {
        let Changes { states, in_flight, budget, bulkhead } = changes;
        for (level, by) in self.states.iter().zip(states) {
            level.add(by);
        }
        self.in_flight.add(in_flight);
        for (level, by) in [(&self.budget, budget), (&self.bulkhead, bulkhead)] {
            if let Some(level) = level {
                level.add(by);
            }
        }
    }
}

/// By how much a gate's gauges change.
#[must_use = "the recorder is not told yet"]
pub(crate) struct Changes {
    states: [f64; STATES.len()],
    in_flight: f64,
    budget: f64,
    bulkhead: f64,
}

/// What is told apart by the kind of request.
struct OfKind {
    begun: Counter,
    retries: Counter,
    ok: Counter,
    failed: [Counter; CLASSES.len()],
    seconds: Histogram,
    blocked: [Counter; BLOCKED.len()],
    waited: Histogram,
}

impl OfKind {
    fn new(recorder: &Recorder, provider: &SharedString, kind: Kind) -> Self {
        let (provider, kind) = (|| provider.clone(), kind.name());
        let counter =
            |name: &'static str| recorder.counter(|| counter!(name, "provider" => provider(), "kind" => kind));
        let histogram =
            |name: &'static str| recorder.histogram(|| histogram!(name, "provider" => provider(), "kind" => kind));
        let ended = |class: &'static str| {
            recorder
                .counter(|| counter!(names::ATTEMPTS_ENDED, "provider" => provider(), "kind" => kind, "class" => class))
        };
        let blocked = |why: Blocked| {
            recorder.counter(
                || counter!(names::GATE_BLOCKED, "provider" => provider(), "kind" => kind, "why" => why.name()),
            )
        };
        Self {
            begun: counter(names::ATTEMPTS_BEGUN),
            retries: counter(names::RETRIES),
            ok: ended("ok"),
            failed: CLASSES.map(|class| ended(class.name())),
            seconds: histogram(names::ATTEMPT_SECONDS),
            blocked: BLOCKED.map(blocked),
            waited: histogram(names::GATE_WAIT),
        }
    }
}

/// A gauge to which several clients add: each adds the change of its own part, and takes that away in the end.
struct Level {
    gauge: Gauge,
    /// The bits of a number. A shared gate's is looked at under that gate's lock, so nothing else orders it.
    part: AtomicU64,
}

impl Level {
    const fn new(gauge: Gauge) -> Self {
        Self { gauge, part: AtomicU64::new(0) }
    }

    fn set(&self, part: impl Into<f64>) {
        self.add(self.turn_to(part.into()));
    }

    /// Takes note of the part, one call at a time. Returns what is to be [added](Self::add).
    fn turn_to(&self, part: f64) -> f64 {
        let before = f64::from_bits(self.part.load(Ordering::Relaxed));
        self.part.store(part.to_bits(), Ordering::Relaxed);
        part - before
    }

    fn add(&self, by: f64) {
        if by != 0.0 {
            self.gauge.increment(by);
        }
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        self.set(0.0);
    }
}

impl Meter {
    /// Whether notices are counted.
    pub(crate) const LISTENS: bool = true;

    /// `gate` is its own; shards have one together, which is told of apart.
    pub(crate) fn new(name: &Arc<str>, gate: Option<&Gate>, now: Timestamp) -> Self {
        let (recorder, shared) = (Recorder::default(), SharedString::from(name.clone()));
        recorder.call(describe);
        let provider = || shared.clone();
        let counter = |name: &'static str| recorder.counter(|| counter!(name, "provider" => provider()));
        let histogram = |name: &'static str| recorder.histogram(|| histogram!(name, "provider" => provider()));
        let level = |name: &'static str| Level::new(recorder.gauge(|| gauge!(name, "provider" => provider())));
        let begun = |begun: Begun| {
            let name = names::OPERATIONS_BEGUN;
            recorder.counter(|| counter!(name, "provider" => provider(), "begun" => begun.name()))
        };
        let ended = |outcome: Outcome| {
            let (name, outcome, reason) = (names::OPERATIONS_ENDED, outcome.name(), outcome.reason());
            recorder.counter(|| counter!(name, "provider" => provider(), "outcome" => outcome, "reason" => reason))
        };
        let seconds = |outcome: Outcome| {
            let name = names::OPERATION_SECONDS;
            recorder.histogram(|| histogram!(name, "provider" => provider(), "outcome" => outcome.name()))
        };
        let change = |state: &'static str| {
            recorder.counter(|| counter!(names::BREAKER_CHANGES, "provider" => provider(), "state" => state))
        };
        let renewal = |result: &'static str| {
            recorder.counter(|| counter!(names::RENEWALS, "provider" => provider(), "result" => result))
        };
        Self {
            begun: BEGUN.map(begun),
            ended: OUTCOMES.map(ended),
            seconds: OUTCOMES.map(seconds),
            attempts: histogram(names::OPERATION_ATTEMPTS),
            polls: histogram(names::OPERATION_POLLS),
            by_kind: KINDS.map(|kind| OfKind::new(&recorder, &shared, kind)),
            changes: STATES.map(change),
            gate: gate.map(|gate| OfGate::by(&recorder, &shared, gate, now)),
            live: level(names::OPERATIONS_LIVE),
            parked: level(names::OPERATIONS_PARKED),
            pending: level(names::PENDING),
            oldest: Oldest::new(&recorder, &shared),
            revisions: counter(names::REVISIONS),
            renewals: ["renewed", "failed"].map(renewal),
            dropped: counter(names::DROPPED),
            dropped_before: 0,
            waits: HashMap::new(),
            failed: HashSet::new(),
            provider: shared.clone(),
            recorder: recorder.clone(),
        }
    }

    /// For the journal, whose work is done elsewhere.
    pub(crate) fn commits(&self) -> Commits {
        let provider = || self.provider.clone();
        let result = |result: &'static str| {
            self.recorder.counter(|| counter!(names::COMMITS, "provider" => provider(), "result" => result))
        };
        let histogram = |name: &'static str| self.recorder.histogram(|| histogram!(name, "provider" => provider()));
        Commits {
            results: ["durable", "failed", "unknown"].map(result),
            seconds: histogram(names::COMMIT_SECONDS),
            records: histogram(names::COMMIT_RECORDS),
            lag: histogram(names::LAG),
        }
    }

    pub(crate) fn begun(&self, begun: Begun) {
        add(&self.begun, BEGUN.iter().position(|other| *other == begun));
    }

    /// A notice, and whose it is.
    pub(crate) fn notice(&mut self, id: OperationId, operation: Option<&Operation>, notice: &Notice, now: Timestamp) {
        match notice {
            Notice::Sending(attempt) => {
                let waited = self.waits.remove(&id);
                let failed = self.failed.remove(&id);
                let Some(of) = of_kind(&self.by_kind, attempt.kind) else { return };
                of.begun.increment(1);
                if if attempt.kind == Kind::Poll { failed } else { attempt.number > 1 } {
                    of.retries.increment(1);
                }
                if let Some(since) = waited {
                    of.waited.record(now.saturating_since(since));
                }
            }
            Notice::Failed { attempt, failure } => {
                if attempt.kind == Kind::Poll {
                    self.failed.insert(id);
                }
                let Some(of) = of_kind(&self.by_kind, attempt.kind) else { return };
                add(&of.failed, CLASSES.iter().position(|class| *class == failure.class));
            }
            Notice::Blocked { kind, refusal } => {
                self.waits.entry(id).or_insert(now);
                let Some(of) = of_kind(&self.by_kind, *kind) else { return };
                add(&of.blocked, BLOCKED.iter().position(|why| *why == refusal.why));
            }
            Notice::Breaker(state) => add(&self.changes, STATES.iter().position(|name| *name == state.name())),
            Notice::Ended(outcome) => {
                self.forget(id);
                let place = OUTCOMES.iter().position(|other| other == outcome);
                add(&self.ended, place);
                let Some(record) = operation.map(Operation::record) else { return };
                if let Some(seconds) = place.and_then(|place| self.seconds.get(place)) {
                    seconds.record(now.saturating_since(record.submitted));
                }
                self.attempts.record(record.attempts);
                self.polls.record(f64::from(record.polls));
            }
            _ => {}
        }
    }

    /// What came of a request: usable, and waited for, or not.
    pub(crate) fn answered(&self, kind: Kind, usable: bool, took: Duration) {
        let Some(of) = of_kind(&self.by_kind, kind) else { return };
        of.seconds.record(took);
        if usable {
            of.ok.increment(1);
        }
    }

    /// A job that is taken out of the engine.
    pub(crate) fn forget(&mut self, id: OperationId) {
        self.waits.remove(&id);
        self.failed.remove(&id);
    }

    pub(crate) fn revised(&self) {
        self.revisions.increment(1);
    }

    pub(crate) fn renewed(&self, renewed: bool) {
        add(&self.renewals, Some(usize::from(!renewed)));
    }

    /// What there is at the end of a turn.
    pub(crate) fn sample(&mut self, engine: &Engine, parked: usize, journal: &Journal, now: Timestamp) {
        if let Some(gate) = &self.gate {
            gate.add(gate.look(engine.gate(), now));
        }
        self.live.set(engine.live());
        self.parked.set(parked as f64);
        let Backlog { records, oldest } = journal.backlog();
        self.pending.set(records as f64);
        self.oldest.set(oldest);
        self.dropped.increment(engine.notices_dropped().saturating_sub(self.dropped_before));
        self.dropped_before = engine.notices_dropped();
        let most = (engine.live() as usize).saturating_mul(2).saturating_add(SPARE);
        if self.waits.len().max(self.failed.len()) > most {
            self.waits.clear();
            self.failed.clear();
        }
    }
}

/// Tells the recorder what each of them means.
fn describe() {
    for metric in TABLE {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.help),
            MetricKind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
}

fn of_kind(all: &[OfKind; KINDS.len()], kind: Kind) -> Option<&OfKind> {
    all.get(KINDS.iter().position(|other| *other == kind)?)
}

fn add(counters: &[Counter], place: Option<usize>) {
    if let Some(counter) = place.and_then(|place| counters.get(place)) {
        counter.increment(1);
    }
}

/// The journal's.
#[derive(Clone)]
pub(crate) struct Commits {
    results: [Counter; 3],
    seconds: Histogram,
    records: Histogram,
    lag: Histogram,
}

impl Commits {
    /// Counts nothing.
    pub(crate) fn none() -> Self {
        let none = Recorder::default();
        let nothing = || none.histogram(metrics::Histogram::noop);
        let results = [(); 3].map(|()| none.counter(metrics::Counter::noop));
        Self { results, seconds: nothing(), records: nothing(), lag: nothing() }
    }

    /// Where the store works, in real time: the driver's own goes on meanwhile, or stands still in tests.
    pub(crate) fn time<T>(&self, commit: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = commit();
        self.seconds.record(began.elapsed());
        done
    }

    pub(crate) fn durable(&self, records: usize, lag: Duration) {
        add(&self.results, Some(0));
        self.records.record(records as f64);
        self.lag.record(lag);
    }

    pub(crate) fn failed(&self) {
        add(&self.results, Some(1));
    }

    pub(crate) fn unknown(&self) {
        add(&self.results, Some(2));
    }
}

/// A mailbox's.
#[derive(Clone)]
pub(crate) struct Verdicts(Arc<[Counter]>);

impl Verdicts {
    pub(crate) fn new(provider: &str) -> Self {
        let recorder = Recorder::default();
        recorder.call(describe);
        let of = |verdict: &&'static str| {
            recorder.counter(|| counter!(names::WEBHOOKS, "provider" => provider.to_owned(), "verdict" => *verdict))
        };
        Self(Delivery::NAMES.iter().map(of).collect())
    }

    pub(crate) fn count(&self, delivery: &Delivery) {
        add(&self.0, Delivery::NAMES.iter().position(|name| *name == delivery.name()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// None of them is forgotten, none counted as another.
    #[test]
    fn every_word_of_a_label_is_there_once() {
        let outcomes: HashSet<_> = OUTCOMES.iter().map(|outcome| (outcome.name(), outcome.reason())).collect();
        assert_eq!(outcomes.len(), OUTCOMES.len());
        let variants = |source: &str, name: &str| {
            let body = source.split_once(&format!("pub enum {name} {{")).unwrap().1.split_once("\n}").unwrap().0;
            body.lines().filter(|line| line.ends_with(',') && !line.trim_start().starts_with('/')).count()
        };
        let reasons = ["Completed", "Rejected", "Unresolved"];
        let source = include_str!("../../core/src/operation/outcome.rs");
        assert_eq!(reasons.map(|name| variants(source, name)).iter().sum::<usize>() + 1, OUTCOMES.len());
        let all = |names: Vec<&'static str>, source: &str, name: &str| {
            assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len(), "{name}");
            assert_eq!(variants(source, name), names.len(), "{name}");
        };
        all(KINDS.map(Kind::name).to_vec(), include_str!("../../core/src/operation/effect.rs"), "Kind");
        all(CLASSES.map(Class::name).to_vec(), include_str!("../../core/src/retry/failure.rs"), "Class");
        all(BLOCKED.map(Blocked::name).to_vec(), include_str!("../../core/src/gate/admission.rs"), "Blocked");
    }
}
