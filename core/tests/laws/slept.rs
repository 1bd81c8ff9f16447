//! A machine that slept: time leaps over deadlines that nobody watched.

use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::breaker::BreakerState;
use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::gate::{Gate, GatePolicy, Kinds};
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Attempt, Completed, Effect, Reading, RecordId, Rejected, Unresolved};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Kind, OperationPolicy, Outcome, Seed, SendSafety, Timestamp};

use crate::run::*;

const HOURS: u64 = 3 * 3_600_000;
const READY: Outcome = Outcome::Completed(Completed::Ready);
const DEADLINE: Outcome = Outcome::Unresolved(Unresolved::PollDeadline);

type Answer = Option<Result<Reading, Failure>>;

/// Accepts, and says *pending* until then and `later` after.
fn pending_until(end: u64, mut later: impl FnMut(Timestamp) -> Answer) -> impl FnMut(Timestamp, Attempt) -> Answer {
    move |now, attempt| match attempt.kind {
        Kind::Create => accepted(),
        _ if now < at(end) => Some(Ok(Reading::Pending { hint: None })),
        _ => later(now),
    }
}

/// The machine sleeps from here on, and wakes at `then`.
fn sleep<A: FnMut(Timestamp, Attempt) -> Answer>(run: &mut Run<A>, then: u64) {
    run.drain();
    run.now = at(then);
    run.engine.handle_timeout(run.now);
    run.drain();
}

fn ends<A>(run: &Run<A>) -> Vec<Outcome> {
    run.ended.iter().map(|(.., outcome)| *outcome).collect()
}

fn after(times: &[u64], when: u64) -> usize {
    times.iter().filter(|time| **time >= when).count()
}

/// The provider has had the result for hours.
#[test]
fn i2_a_poll_that_fell_due_while_the_machine_slept_is_still_made() {
    let mut run = Run::new(GatePolicy::none(), pending_until(60_000, |_| Some(Ok(Reading::Ready))));
    run.submit(1);
    run.until(at(12_000));
    sleep(&mut run, HOURS);
    assert_eq!(run.times(Kind::Poll), [5_000, 10_000, HOURS]);
    assert_eq!(ends(&run), [READY]);
    assert!(run.told.iter().any(|(.., notice)| *notice == Notice::Overslept));
}

#[test]
fn i2_such_a_poll_is_the_last_and_its_answer_ends_the_job() {
    let mut run = Run::new(GatePolicy::none(), pending_until(u64::MAX, |_| None));
    run.submit(1);
    run.until(at(12_000));
    sleep(&mut run, HOURS);
    assert_eq!(after(&run.times(Kind::Poll), HOURS), 1);
    assert_eq!(ends(&run), [DEADLINE]);
}

/// A laptop's network comes back some seconds after its lid was opened.
#[test]
fn i2_such_a_poll_that_fails_is_made_again_within_as_long_as_the_deadline() {
    let back = HOURS + 8_000;
    let answer = move |now| if now < at(back) { Some(Err(RESET)) } else { Some(Ok(Reading::Ready)) };
    let mut run = Run::new(GatePolicy::none(), pending_until(60_000, answer));
    run.submit(1);
    run.until(at(12_000));
    sleep(&mut run, HOURS);
    run.until(at(HOURS + 600_000));
    assert_eq!(ends(&run), [READY]);

    let mut run = Run::new(GatePolicy::none(), pending_until(60_000, |_| Some(Err(RESET))));
    run.submit(1);
    run.until(at(12_000));
    sleep(&mut run, HOURS);
    run.until(at(2 * HOURS));
    assert_eq!(ends(&run), [DEADLINE], "and no longer");
    assert!(run.ended[0].0 < at(HOURS + 300_000));
}

/// I10: those who wake together leave at the limit's pace, and none of them for nothing.
#[test]
fn i10_who_slept_together_leaves_at_the_limits_pace() {
    let gate = GatePolicy::none().with_rate_limit(limit(1, SECOND, Kinds::of(&[Kind::Poll])));
    let mut run = Run::new(gate, pending_until(400_000, |_| Some(Ok(Reading::Ready))));
    run.submit(50);
    // Some wait for the schedule by now, and some at the gate.
    run.until(at(62_000));
    sleep(&mut run, HOURS);
    run.until(at(HOURS + 600_000));
    assert_eq!(ends(&run), [READY; 50]);
    let times: Vec<_> = run.times(Kind::Poll).into_iter().filter(|time| *time >= HOURS).collect();
    assert_eq!(times.len(), 50);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{times:?}");
}

#[test]
fn who_was_held_at_the_gate_when_the_machine_slept_is_polled_as_well() {
    let mut run = Run::new(GatePolicy::none(), pending_until(60_000, |_| Some(Ok(Reading::Ready))));
    run.submit(1);
    run.until(at(12_000));
    run.engine.gate_mut().hold_until(at(40_000));
    run.until(at(20_000));
    assert!(run.engine.first_in_line(Kind::Poll).is_some());
    sleep(&mut run, HOURS);
    assert_eq!(ends(&run), [READY]);
}

/// Nobody slept: what the gate kept back until the deadline ends there.
#[test]
fn who_is_held_at_the_gate_until_the_deadline_is_not_polled() {
    let mut run = Run::new(GatePolicy::none(), pending_until(60_000, |_| Some(Ok(Reading::Ready))));
    run.submit(1);
    run.until(at(12_000));
    run.engine.gate_mut().hold_until(at(HOURS));
    run.until(at(2 * HOURS));
    assert_eq!((ends(&run), run.ended[0].0), (vec![DEADLINE], at(300_000)));
}

/// What was in the air when the machine went to sleep is not heard of again, or only says how things stood then.
#[test]
fn i2_a_poll_that_was_in_the_air_when_the_machine_slept_is_made_again() {
    for stale in [None, Some(Reading::Pending { hint: None })] {
        let mut polls = 0;
        let mut run = Run::new(GatePolicy::none(), move |_, attempt: Attempt| {
            polls += usize::from(attempt.kind == Kind::Poll);
            match (attempt.kind, polls) {
                (Kind::Create, _) => accepted(),
                (_, 1) => None,
                _ => Some(Ok(Reading::Ready)),
            }
        });
        run.submit(1);
        run.until(at(6_000));
        let (_, id, attempt) = *run.sent.last().unwrap();
        assert_eq!(attempt.kind, Kind::Poll);
        run.now = at(HOURS);
        if let Some(stale) = stale {
            run.engine.handle(Event::Answered(id, attempt.id, Ok(stale)), run.now);
        }
        sleep(&mut run, HOURS);
        run.until(at(HOURS + 60_000));
        assert_eq!(ends(&run), [READY]);
    }
}

/// Requests that a sleep cut off say nothing of the provider: no create is refused for them.
#[test]
fn a_time_out_that_was_slept_through_opens_no_breaker() {
    for (late, state) in [(HOURS, BreakerState::Closed), (10_000, BreakerState::Open { until: at(20_000) })] {
        let silent = |_, attempt: Attempt| if attempt.kind == Kind::Create { accepted() } else { None };
        let mut run = Run::new(GatePolicy::none().with_breaker(Some(breaker())), silent);
        run.submit(3);
        run.until(at(6_000));
        assert_eq!(run.engine.gate().in_flight(), 3);
        run.now = at(late);
        run.engine.handle_timeout(run.now);
        assert_eq!(run.engine.gate().breaker_state(run.now), state, "they had time until 10 s");
        assert_eq!(run.engine.gate().in_flight(), 0, "I8");
    }
}

/// It was accepted long ago.
#[test]
fn no_grace_begins_anew_when_the_machine_has_slept() {
    let retry = policy().poll().retry().clone();
    let poll = PollPolicy::new(fixed(5 * SECOND), 10, 300 * SECOND, retry).unwrap().with_not_found_grace(15 * SECOND);
    let mut run = Run::new(GatePolicy::none(), pending_until(60_000, |_| Some(Ok(Reading::NotFound))));
    let policy = policy().with_poll(poll);
    run.engine = Engine::new(policy, Gate::unlimited(), Limits::default(), Seed::new(1));
    run.submit(1);
    run.until(at(12_000));
    sleep(&mut run, HOURS);
    assert_eq!(ends(&run), [Outcome::Unresolved(Unresolved::NotFound)]);
}

/// Nothing is sent while a record is outstanding: a disk that stands still is slept through as well.
#[test]
fn i2_a_poll_that_waited_for_the_journal_beyond_the_deadline_is_still_made() {
    let mut run = Run::new(GatePolicy::none(), well);
    let id = run.submit(1)[0];
    let mut records = 0;
    while let Some((_, effect)) = run.engine.pop_effect() {
        match effect {
            Effect::Persist(number) if records == 0 => {
                records += 1;
                run.engine.handle(Event::Persisted(number), START);
            }
            Effect::Send(attempt) => run.engine.handle(Event::Answered(id, attempt.id, accepted().unwrap()), START),
            _ => {}
        }
    }
    assert_eq!((run.engine.next_deadline(), run.engine.operation(id).unwrap().is_durable()), (None, false));
    run.now = at(HOURS);
    run.engine.handle(Event::Persisted(RecordId(2)), run.now);
    run.drain();
    assert_eq!((run.times(Kind::Poll), ends(&run)), (vec![HOURS], vec![READY]));
}

fn looks_up(attempts: u16) -> OperationPolicy {
    policy()
        .with_safety(SendSafety::Lookup { settle: 10 * SECOND })
        .unwrap()
        .with_lookup(RetryPolicy::new(attempts, 60 * SECOND, 5 * SECOND, fixed(SECOND)).unwrap())
}

/// A look-up that nobody made is no look-up without an answer, and one that the sleep cut off took no attempt.
#[test]
fn i2_a_look_up_that_fell_due_while_the_machine_slept_is_still_made() {
    for (in_the_air, attempts) in [(false, 3), (true, 3), (true, 1)] {
        let mut looked_up = 0;
        let lost = Failure::new(Class::Transient, Certainty::MayHaveExecuted);
        let mut run = Run::new(GatePolicy::none(), move |_, attempt: Attempt| match attempt.kind {
            Kind::Create => Some(Err(lost)),
            Kind::Lookup => {
                looked_up += 1;
                if in_the_air && looked_up == 1 { None } else { accepted() }
            }
            _ => Some(Ok(Reading::Ready)),
        });
        run.engine = Engine::new(looks_up(attempts), Gate::unlimited(), Limits::default(), Seed::new(1));
        run.submit(1);
        run.until(at(if in_the_air { 11_000 } else { 2_000 }));
        sleep(&mut run, HOURS);
        run.until(at(HOURS + 60_000));
        assert_eq!(ends(&run), [READY], "in the air: {in_the_air}, {attempts} attempts");
    }
}

/// A create is another matter: whoever asked for it waits two minutes, not hours, and nothing ran.
#[test]
fn a_create_that_was_never_sent_before_its_deadline_is_not_sent_after_it() {
    let mut run = Run::new(GatePolicy::none(), well);
    run.engine.gate_mut().hold_until(at(30_000));
    run.submit(1);
    run.until(at(2_000));
    sleep(&mut run, HOURS);
    assert_eq!((ends(&run), run.sent.len()), (vec![Outcome::Rejected(Rejected::Deadline)], 0));
}

proptest! {
    /// However often and however long it sleeps: after the deadline one poll is answered at most, and only if nobody saw that deadline pass.
    #[test]
    fn i2_after_the_deadline_one_poll_is_answered_at_most(
        sleeps in prop::collection::vec((0_u64..120_000, 0_u64..400_000), 0..8),
        fails in prop::collection::vec(any::<bool>(), 64),
    ) {
        let mut fails = fails.into_iter().cycle();
        let mut answered = Vec::new();
        let mut run = Run::new(GatePolicy::none(), |now, attempt: Attempt| {
            if attempt.kind == Kind::Create {
                return accepted();
            }
            if fails.next() == Some(true) {
                return Some(Err(RESET));
            }
            answered.push(now);
            Some(Ok(Reading::Pending { hint: None }))
        });
        let schedule = fixed(5 * SECOND);
        let retry = policy().poll().retry().clone();
        let poll = PollPolicy::new(schedule, 10_000, 300 * SECOND, retry).unwrap();
        run.engine = Engine::new(policy().with_poll(poll), Gate::unlimited(), Limits::default(), Seed::new(1));
        run.submit(1);
        let mut slept = false;
        for (awake, asleep) in sleeps {
            run.until(run.now.saturating_add(Duration::from_millis(awake)));
            let before = run.now;
            let then = run.now.saturating_add(Duration::from_millis(asleep)).saturating_since(START).as_millis() as u64;
            sleep(&mut run, then);
            slept |= before < at(300_000) && run.now >= at(302_000);
        }
        run.until(at(HOURS));
        prop_assert_eq!(ends(&run).len(), 1, "I14");
        let polls = run.times(Kind::Poll);
        let overslept = run.told.iter().filter(|(.., notice)| *notice == Notice::Overslept).count();
        drop(run);
        let late = answered.iter().filter(|when| **when >= at(300_000)).count();
        prop_assert!(late <= 1, "{answered:?}");
        prop_assert!(overslept <= usize::from(slept));
        prop_assert!(overslept == 1 || after(&polls, 300_000) == 0, "{polls:?}");
        prop_assert!(after(&polls, 300_000) >= overslept, "the poll that was owed is made");
    }
}
