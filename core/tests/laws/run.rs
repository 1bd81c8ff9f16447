//! An engine behind a gate whose requests are answered at once, by a function of time: what it sent and told, and when.

use core::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, Probes};
use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::gate::{Gate, GatePolicy, Kinds, RateLimit};
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Attempt, Effect, Reading};
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{
    Fingerprint, Key, Kind, OperationId, OperationPolicy, Outcome, Reference, Seed, SendSafety, Timestamp,
};

pub(crate) const START: Timestamp = Timestamp::from_secs(1_700_000_000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const RESET: Failure = Failure::new(Class::Transient, Certainty::NotExecuted);

pub(crate) fn at(millis: u64) -> Timestamp {
    START.saturating_add(Duration::from_millis(millis))
}

pub(crate) fn fixed(span: Duration) -> BackoffPolicy {
    BackoffPolicy::new(Growth::Fixed(span), span, Jitter::None).unwrap()
}

/// Opens after two failures for ten seconds; one good probe closes.
pub(crate) fn breaker() -> BreakerPolicy {
    let probes = Probes { at_once: 1, successes: 1, failures: 1, lease: 30 * SECOND };
    BreakerPolicy::consecutive(2).unwrap().with_open(fixed(10 * SECOND)).unwrap().with_probes(probes).unwrap()
}

/// Three attempts a second apart, within a minute; polls every five seconds.
pub(crate) fn policy() -> OperationPolicy {
    let retry = RetryPolicy::new(3, 60 * SECOND, 5 * SECOND, fixed(SECOND)).unwrap();
    let poll = PollPolicy::new(fixed(5 * SECOND), 10, 300 * SECOND, retry.clone()).unwrap();
    let safety = SendSafety::Keyed { window: 3_600 * SECOND };
    OperationPolicy::default().with_create(retry).unwrap().with_poll(poll).with_safety(safety).unwrap()
}

pub(crate) fn limit(count: u32, per: Duration, kinds: Kinds) -> RateLimit {
    RateLimit { kinds, rate: RatePolicy::new(count, per).unwrap() }
}

/// An engine whose requests are answered at once by `answer`, and what it sent and told, with the time.
pub(crate) struct Run<A> {
    pub(crate) engine: Engine,
    pub(crate) now: Timestamp,
    pub(crate) answer: A,
    pub(crate) sent: Vec<(Timestamp, OperationId, Attempt)>,
    pub(crate) told: Vec<(Timestamp, OperationId, Notice)>,
    pub(crate) ended: Vec<(Timestamp, OperationId, Outcome)>,
}

impl<A: FnMut(Timestamp, Attempt) -> Option<Result<Reading, Failure>>> Run<A> {
    pub(crate) fn new(gate: GatePolicy, answer: A) -> Self {
        let engine = Engine::new(policy(), Gate::new(gate, Seed::new(1)), Limits::default(), Seed::new(1));
        Self { engine, now: START, answer, sent: Vec::new(), told: Vec::new(), ended: Vec::new() }
    }

    pub(crate) fn submit(&mut self, count: usize) -> Vec<OperationId> {
        let first = self.engine.live() as usize;
        let submit = |n| {
            let key = Key::new(format!("order-{}", first + n)).unwrap();
            self.engine.submit(key, Fingerprint::new([0; 16]), self.now).unwrap().id()
        };
        (0..count).map(submit).collect()
    }

    pub(crate) fn drain(&mut self) {
        loop {
            while let Some((id, notice)) = self.engine.pop_notice() {
                self.told.push((self.now, id, notice));
            }
            let Some((id, effect)) = self.engine.pop_effect() else { return };
            match effect {
                Effect::Persist(number) => self.engine.handle(Event::Persisted(number), self.now),
                Effect::Send(attempt) => {
                    self.sent.push((self.now, id, attempt));
                    if let Some(answer) = (self.answer)(self.now, attempt) {
                        self.engine.handle(Event::Answered(id, attempt.id, answer), self.now);
                    }
                }
                Effect::End => {
                    let outcome = self.engine.operation(id).and_then(|it| it.outcome()).unwrap();
                    self.ended.push((self.now, id, outcome));
                    self.engine.handle(Event::Delivered(id), self.now);
                }
                _ => {}
            }
        }
    }

    /// Goes on until then, or until nothing is left to wait for but forgetting.
    pub(crate) fn until(&mut self, end: Timestamp) {
        self.drain();
        while self.engine.live() > 0
            && let Some(at) = self.engine.next_deadline().filter(|at| *at <= end)
        {
            assert!(at > self.now, "law 2");
            self.now = at;
            self.engine.handle_timeout(at);
            self.drain();
        }
        self.now = self.now.max(end);
    }

    pub(crate) fn times(&self, kind: Kind) -> Vec<u64> {
        let of_kind = self.sent.iter().filter(|(.., attempt)| attempt.kind == kind);
        of_kind.map(|(at, ..)| at.saturating_since(START).as_millis() as u64).collect()
    }
}

pub(crate) fn accepted() -> Option<Result<Reading, Failure>> {
    Some(Ok(Reading::Accepted(Reference::new("t").unwrap())))
}

pub(crate) fn well(_: Timestamp, attempt: Attempt) -> Option<Result<Reading, Failure>> {
    if attempt.kind == Kind::Create { accepted() } else { Some(Ok(Reading::Ready)) }
}

/// Answers well outside of an outage.
pub(crate) fn outage(from: u64, to: u64) -> impl FnMut(Timestamp, Attempt) -> Option<Result<Reading, Failure>> {
    move |now, attempt| if (at(from)..at(to)).contains(&now) { Some(Err(RESET)) } else { well(now, attempt) }
}
