//! More is asked for than the provider takes, for ten minutes: how much comes of it, and how soon all is well again.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::gate::{Gate, GatePolicy, Kinds};
use steadfast_core::operation::{Attempt, Effect, Reading};
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Fingerprint, Key, Kind, OperationId, OperationPolicy, Outcome, Seed, SendSafety, Timestamp};

use crate::run::*;

/// The provider takes ten requests a second. So five jobs a second, at one poll each.
const PACE: u32 = 10;
const BEST: u32 = 300;
const MINUTES: u64 = 10;

/// What a minute saw.
#[derive(Clone, Copy, Debug, Default)]
struct Minute {
    sent: u32,
    completed: u32,
    /// Created, and never fetched.
    wasted: u32,
}

struct World {
    engine: Engine,
    now: Timestamp,
    /// When each job was submitted, and accepted.
    jobs: BTreeMap<OperationId, (Timestamp, Option<Timestamp>)>,
    minutes: Vec<Minute>,
    /// The provider's: until when each is busy, how long a request takes it, and the answers that will come of it.
    servers: Vec<Timestamp>,
    latency: Duration,
    answers: VecDeque<(Timestamp, OperationId, Attempt, Result<Reading, Failure>)>,
    /// From submit to end, of those that completed, with the time of the submit.
    took: Vec<(Timestamp, Duration)>,
}

impl World {
    fn new(create: Duration, gate: GatePolicy) -> Self {
        let create = RetryPolicy::default().with_deadline(create).unwrap();
        let safety = SendSafety::Keyed { window: 36_000 * SECOND };
        let policy = OperationPolicy::default().with_create(create).unwrap().with_safety(safety).unwrap();
        let engine = Engine::new(policy, Gate::new(gate, Seed::new(1)), Limits::default(), Seed::new(1));
        let (servers, latency) = (vec![START; 100], Duration::from_millis(300));
        Self {
            servers,
            latency,
            engine,
            now: START,
            jobs: BTreeMap::new(),
            minutes: Vec::new(),
            answers: VecDeque::new(),
            took: Vec::new(),
        }
    }

    /// Submits a job each `every` until `end`. The provider answers by `ill`, or well: a job is ready after `work`.
    fn run(
        &mut self,
        every: Duration,
        end: Timestamp,
        work: Duration,
        mut ill: impl FnMut(Timestamp) -> Option<Failure>,
    ) {
        let mut next = self.now;
        while self.now < end {
            if next <= self.now {
                let key = Key::new(format!("order-{}-{}", self.jobs.len(), self.now.as_nanos())).unwrap();
                if let Ok(submitted) = self.engine.submit(key, Fingerprint::new([0; 16]), self.now) {
                    self.jobs.insert(submitted.id(), (self.now, None));
                }
                next = next.saturating_add(every);
            }
            self.drain(work, &mut ill);
            let due = self.engine.next_deadline().unwrap_or(Timestamp::NEVER);
            let answered = self.answers.front().map_or(Timestamp::NEVER, |(at, ..)| *at);
            self.now = due.min(next).min(answered).min(end).max(self.now);
            while self.answers.front().is_some_and(|(at, ..)| *at <= self.now) {
                let (_, id, attempt, answer) = self.answers.pop_front().unwrap();
                self.engine.handle(Event::Answered(id, attempt.id, answer), self.now);
            }
            self.engine.handle_timeout(self.now);
        }
    }

    fn drain(&mut self, work: Duration, ill: &mut impl FnMut(Timestamp) -> Option<Failure>) {
        let minute = (self.now.saturating_since(START).as_secs() / 60) as usize;
        self.minutes.resize(self.minutes.len().max(minute + 1), Minute::default());
        let minute = &mut self.minutes[minute];
        loop {
            while self.engine.pop_notice().is_some() {}
            let Some((id, effect)) = self.engine.pop_effect() else { return };
            match effect {
                Effect::Persist(number) => self.engine.handle(Event::Persisted(number), self.now),
                Effect::Send(attempt) => {
                    minute.sent += 1;
                    let accepted_at = &mut self.jobs.get_mut(&id).unwrap().1;
                    let answer = match (ill(self.now), attempt.kind) {
                        (Some(failure), _) => Err(failure),
                        (None, Kind::Create) => {
                            *accepted_at = Some(self.now);
                            accepted().unwrap()
                        }
                        _ if self.now.saturating_since(accepted_at.unwrap()) >= work => Ok(Reading::Ready),
                        _ => Ok(Reading::Pending { hint: None }),
                    };
                    let begun = self.servers.iter_mut().min().unwrap();
                    *begun = self.now.max(*begun).saturating_add(self.latency);
                    self.answers.push_back((*begun, id, attempt, answer));
                }
                Effect::End => {
                    let (submitted, accepted) = self.jobs.remove(&id).unwrap();
                    match self.engine.operation(id).and_then(|it| it.outcome()).unwrap() {
                        Outcome::Completed(_) => {
                            minute.completed += 1;
                            self.took.push((submitted, self.now.saturating_since(submitted)));
                        }
                        _ => minute.wasted += u32::from(accepted.is_some()),
                    }
                    self.engine.handle(Event::Delivered(id), self.now);
                }
                _ => {}
            }
        }
    }

    fn wasted(&self) -> u32 {
        self.minutes.iter().map(|it| it.wasted).sum()
    }
}

fn minutes(minutes: u64) -> Timestamp {
    at(60_000 * minutes)
}

fn paced() -> GatePolicy {
    GatePolicy::default().with_rate_limit(limit(PACE, SECOND, Kinds::ALL))
}

/// Whether a create waits for longer than a poll may (the second deadline is beyond a poll's), or not. Jobs of a minute
/// are asked for twice: a third of their time is over then.
#[test]
fn at_any_load_what_is_begun_is_finished_and_half_of_all_requests_bring_an_outcome() {
    for (create, work, most) in [(120, 20, 270), (600, 20, 270), (600, 60, 190)] {
        // Half of what the provider takes at best, all, twice and ten times as much.
        for (every, least) in [(400, 140), (200, most), (101, most), (21, most)] {
            let mut world = World::new(create * SECOND, paced());
            world.run(Duration::from_millis(every), minutes(MINUTES), work * SECOND, |_| None);
            let case = format!("each {every} ms, for {create} s, {work} s of work: {:?}", world.minutes);
            assert_eq!(world.wasted(), 0, "{case}");
            // The first jobs end, and the line grows to what it will be.
            assert!(world.minutes[5..].iter().all(|it| it.completed >= least), "{case}");
            assert!(world.minutes.iter().all(|it| it.sent <= 60 * PACE + 1 && it.completed <= 2 * BEST), "{case}");
        }
    }
}

/// Of a poll's three minutes they take most. What has begun is still finished: if creates went on by their turns, the
/// polls would come too late, and after some minutes not one job would be fetched.
#[test]
fn at_any_load_long_jobs_are_fetched_too() {
    for (create, work) in [(120, 100), (600, 100), (120, 120)] {
        for every in [200, 101, 21] {
            let mut world = World::new(create * SECOND, paced());
            world.run(Duration::from_millis(every), minutes(2 * MINUTES), work * SECOND, |_| None);
            let fetched: u32 = world.minutes[5..].iter().map(|it| it.completed).sum();
            let (wasted, case) = (world.wasted(), format!("each {every} ms, for {create} s, {work} s of work"));
            // At four requests a job, 150 a minute.
            assert!(fetched >= 15 * 110, "{case}: {fetched}: {:?}", world.minutes);
            assert!(wasted * 10 <= fetched, "{case}: {wasted} of {fetched}: {:?}", world.minutes);
        }
    }
}

/// Nothing stays of it but those who wait, and they do so for as long as their deadline at most.
#[test]
fn when_the_load_falls_all_is_as_before_once_those_who_wait_have_gone() {
    for create in [120, 600] {
        let mut world = World::new(create * SECOND, paced());
        world.run(Duration::from_millis(21), minutes(MINUTES), 20 * SECOND, |_| None);
        let fell = minutes(MINUTES);
        // With time for each poll: four requests a job.
        world.run(SECOND, minutes(3 * MINUTES), 20 * SECOND, |_| None);
        assert_eq!(world.wasted(), 0, "{:?}", world.minutes);
        // By then one of four of those who came meanwhile waits behind them.
        let soon = fell.saturating_add((create + create / 4 + 60) * SECOND);
        let after: Vec<_> = world.took.iter().filter(|(submitted, _)| *submitted > soon).collect();
        assert!(after.len() > 100 && after.iter().all(|(_, took)| *took <= 30 * SECOND), "{create}: {after:?}");
    }
}

/// A minute in which nothing is answered well, at twice the load that the provider takes.
#[test]
fn after_a_minute_of_outage_or_throttling_as_much_is_done_as_before() {
    let down = Failure::new(Class::Transient, Certainty::NotExecuted);
    let busy = Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(5 * SECOND));
    for failure in [down, busy] {
        let mut world = World::new(120 * SECOND, paced());
        let outage = minutes(4)..minutes(5);
        world.run(Duration::from_millis(101), minutes(MINUTES), 20 * SECOND, |now| {
            outage.contains(&now).then_some(failure)
        });
        let seen = &world.minutes;
        assert!(seen[4].sent <= 120, "{failure:?} is not hammered: {seen:?}");
        // The breaker opens for a minute at most; then the line empties at the limit's pace.
        assert!(seen[7..].iter().all(|it| it.completed >= 270), "{failure:?}: {seen:?}");
        assert_eq!(world.wasted(), 0, "{failure:?}: {seen:?}");
    }
}

/// Ten servers, a second for each request, and a queue before them that is as long as what is in the air: with the
/// default bulkhead, just as long as a time-out. There is no rate limit that would spare them.
#[test]
fn a_provider_that_slows_down_under_load_gives_as_much_as_it_can() {
    for every in [200, 101, 21] {
        let mut world = World::new(120 * SECOND, GatePolicy::default());
        (world.servers, world.latency) = (vec![START; 10], SECOND);
        world.run(Duration::from_millis(every), minutes(MINUTES), SECOND, |_| None);
        let seen = &world.minutes;
        assert!(seen[1..].iter().all(|it| it.completed >= 290), "each {every} ms: {seen:?}");
        assert_eq!(world.wasted(), 0, "each {every} ms: {seen:?}");
    }
}
