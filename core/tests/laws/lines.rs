//! Who waits at the gate: in which order they leave, who may go first, and who waits no longer.

use core::time::Duration;

use steadfast_core::breaker::BreakerState;
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::gate::{Gate, GatePolicy, Kinds, WhenOpen};
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Effect, Reading, Rejected};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Fingerprint, Key, Kind, Outcome, Seed, SendSafety};

use crate::run::*;

#[test]
fn after_an_outage_those_who_waited_leave_at_the_limits_pace_and_in_their_order() {
    let gate = GatePolicy::none().with_breaker(Some(breaker())).with_rate_limit(limit(2, SECOND, Kinds::ALL));
    let mut run = Run::new(gate, outage(0, 5_000));
    let ids = run.submit(10);
    run.until(at(300_000));
    let first_after: Vec<_> = run.sent.iter().filter(|(when, ..)| *when > at(5_000)).collect();
    let times: Vec<_> = first_after.iter().map(|(at, ..)| at.saturating_since(START).as_millis()).collect();
    assert_eq!(times[0], 10_500, "the probe, when the breaker's ten seconds are over");
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 500), "at the limit's pace: {times:?}");
    // 0 and 1 met the outage and stand behind those who had not been sent yet.
    let creates = first_after.iter().filter(|(.., attempt)| attempt.kind == Kind::Create);
    let creates: Vec<_> = creates.map(|(_, id, _)| *id).collect();
    assert_eq!(creates.len(), 10);
    let order: Vec<_> = creates.iter().map(|id| ids.iter().position(|it| it == id).unwrap()).collect();
    let untouched: Vec<_> = order.iter().filter(|n| **n >= 2).collect();
    assert!(untouched.is_sorted(), "first come, first served: {order:?}");
    assert_eq!(run.ended.len(), 10);
    assert!(run.ended.iter().all(|(.., outcome)| matches!(outcome, Outcome::Completed(_))));
}

/// Failing fast is for creates of which nothing runs: what only reads waits for the breaker, in line.
#[test]
fn look_ups_and_polls_wait_in_line_also_where_the_gate_fails_fast() {
    let gate = GatePolicy::none().with_breaker(Some(breaker())).with_when_open(WhenOpen::Refuse);
    let lost = Failure::new(Class::TimedOut, Certainty::MayHaveExecuted);
    let mut run = Run::new(gate.clone(), move |_, attempt| match attempt.kind {
        Kind::Create => Some(Err(lost)),
        _ => Some(Ok(Reading::Ready)),
    });
    let asked = policy().with_safety(SendSafety::Lookup { settle: Duration::from_millis(5_500) }).unwrap();
    run.engine = Engine::new(asked, Gate::new(gate.clone(), Seed::new(1)), Limits::default(), Seed::new(1));
    run.submit(2);
    run.until(at(60_000));
    assert_eq!(run.times(Kind::Lookup), [10_000, 10_000], "due at 5.5 s, when it is open until 10 s");

    let mut run = Run::new(gate, well);
    run.submit(2);
    run.drain();
    run.engine.gate_mut().breaker_mut().unwrap().0.force_open(at(8_000));
    run.until(at(60_000));
    assert_eq!(run.times(Kind::Poll), [8_000, 8_000], "due at 5 s");
}

#[test]
fn who_finds_no_budget_does_not_hold_up_those_behind() {
    let mut run = Run::new(GatePolicy::none().with_budget(Some(BudgetPolicy::new(1).unwrap())), outage(0, 500));
    let retries = run.submit(2);
    run.until(at(500));
    // Both retries are due at 1 s, and stand in line before one who needs no budget.
    run.engine.gate_mut().hold_until(at(2_000));
    run.until(at(1_500));
    let fresh = run.submit(1);
    run.until(at(2_500));
    let after: Vec<_> = run.sent[2..].iter().map(|(when, id, _)| (*when, *id)).collect();
    assert_eq!(after, [(at(2_000), retries[0]), (at(2_000), fresh[0])]);
}

#[test]
fn a_full_bulkhead_lets_the_next_in_as_soon_as_one_ends_and_nobody_overtakes() {
    let gate = GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(2).unwrap()));
    let mut run = Run::new(gate, |_, _| None);
    let ids = run.submit(5);
    run.drain();
    assert_eq!(run.sent.len(), 2);
    for n in 0..3 {
        // A newcomer comes with every end, and stands at the back.
        let (_, id, attempt) = run.sent[n];
        run.engine.handle(Event::Answered(id, attempt.id, accepted().unwrap()), run.now);
        run.submit(1);
        run.drain();
        assert_eq!(run.sent.len(), n + 3);
    }
    let order: Vec<_> = run.sent.iter().map(|(_, id, _)| *id).collect();
    assert_eq!(order, ids);
}

#[test]
fn cancelling_in_line_leaves_the_line_as_if_it_had_never_been_joined() {
    let gate = GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap()));
    let mut run = Run::new(gate, |_, _| None);
    let ids = run.submit(100);
    run.drain();
    for id in &ids[1..99] {
        run.engine.handle(Event::Cancel(*id), run.now);
    }
    run.drain();
    assert_eq!(run.ended.len(), 98);
    let (_, id, attempt) = run.sent[0];
    run.engine.handle(Event::Answered(id, attempt.id, accepted().unwrap()), run.now);
    run.drain();
    assert_eq!(run.sent.last().map(|(_, id, _)| *id), Some(ids[99]));
    assert_eq!(run.engine.gate().in_flight(), 1);
}

/// One limit for all kinds, and more polls than it lets through: the creates behind them have their turns all the same.
#[test]
fn no_kind_of_request_starves_another() {
    let mut run =
        Run::new(GatePolicy::none().with_rate_limit(limit(1, SECOND, Kinds::ALL)), |_, attempt| match attempt.kind {
            Kind::Create => accepted(),
            _ => Some(Ok(Reading::Pending { hint: None })),
        });
    run.submit(20);
    run.until(at(40_000));
    // Each accepted job wants a poll every five seconds: from the fifth on there are more polls than places.
    let creates = run.times(Kind::Create);
    assert!(creates.len() >= 15, "{creates:?}");
    assert!(creates.windows(2).all(|pair| pair[1] - pair[0] <= 12_000), "none waits long for its turn: {creates:?}");
}

/// Also not by who has just had a turn and wants another at once.
#[test]
fn whoever_had_a_turn_stands_behind_those_who_wait() {
    let retry = RetryPolicy::new(9, 300 * SECOND, 60 * SECOND, fixed(Duration::ZERO)).unwrap();
    let poll = PollPolicy::new(fixed(5 * SECOND), 10, 300 * SECOND, retry).unwrap();
    let gate = Gate::new(GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap())), Seed::new(1));
    let mut run =
        Run::new(GatePolicy::none(), |_, attempt| if attempt.kind == Kind::Create { accepted() } else { None });
    run.engine = Engine::new(policy().with_poll(poll), gate, Limits::default(), Seed::new(1));
    let ids = run.submit(2);
    run.until(at(5_000));
    let polls: Vec<_> = run.sent.iter().filter(|(.., attempt)| attempt.kind == Kind::Poll).copied().collect();
    let [(_, first, attempt)] = polls[..] else { panic!("the other waits for the one place: {polls:?}") };
    // It may try again at once, and there is room for one.
    run.engine.handle(Event::Answered(first, attempt.id, Err(RESET)), run.now);
    run.drain();
    let (_, next, _) = *run.sent.last().unwrap();
    assert!(next != first && ids.contains(&next), "the other has waited longer");
}

/// A create that is lost to a provider still ill may be lost for good; a poll is not.
#[test]
fn a_poll_probes_before_a_create() {
    let mut run = Run::new(GatePolicy::none().with_breaker(Some(breaker())), |_, attempt| {
        if attempt.kind == Kind::Create { accepted() } else { Some(Ok(Reading::Ready)) }
    });
    run.submit(1);
    run.drain();
    // Open from before the poll is due until after; the creates come first.
    run.engine.gate_mut().breaker_mut().unwrap().0.force_open(at(8_000));
    run.submit(3);
    run.until(at(8_000));
    let kinds: Vec<_> = run.sent.iter().map(|(.., attempt)| attempt.kind).collect();
    assert_eq!(kinds, [Kind::Create, Kind::Poll, Kind::Create, Kind::Create, Kind::Create]);
}

#[test]
fn who_waits_in_line_gives_up_at_its_deadline() {
    let mut run = Run::new(GatePolicy::none().with_breaker(Some(breaker())), well);
    run.engine.gate_mut().breaker_mut().unwrap().0.isolate();
    run.submit(3);
    run.until(at(200_000));
    let ends: Vec<_> = run.ended.iter().map(|(when, _, outcome)| (*when, *outcome)).collect();
    assert_eq!(ends, [(at(60_000), Outcome::Rejected(Rejected::Deadline)); 3]);
}

/// Failing fast goes for those who stand in line as well, and for those who come when others do.
#[test]
fn failing_fast_reaches_those_who_stand_in_line() {
    let gate = GatePolicy::none()
        .with_breaker(Some(breaker()))
        .with_when_open(WhenOpen::Refuse)
        .with_rate_limit(limit(1, SECOND, Kinds::ALL));
    let mut run = Run::new(gate, outage(0, 60_000));
    run.submit(5);
    // The second failure, at 1 s, opens the breaker; three have never been sent.
    run.until(at(1_500));
    assert!(matches!(run.engine.gate().breaker_state(run.now), BreakerState::Open { .. }));
    assert!(run.ended.len() >= 3, "those who stood in line: {:?}", run.ended);
    run.until(at(2_500));
    assert_eq!(run.ended.len(), 5, "and those whose retries came due, of whom certainly nothing ran: {:?}", run.ended);
    assert!(run.ended.iter().all(|(.., outcome)| *outcome == Outcome::Rejected(Rejected::Unavailable)));

    // A doubtful one waits, and those who come after it are refused all the same.
    let lost = Failure::new(Class::TimedOut, Certainty::MayHaveExecuted);
    let gate = GatePolicy::none().with_breaker(Some(breaker())).with_when_open(WhenOpen::Refuse);
    let mut run =
        Run::new(gate, move |now, attempt| if now < at(5_000) { Some(Err(lost)) } else { well(now, attempt) });
    let doubtful = run.submit(2);
    run.until(at(2_000));
    for n in 1..4 {
        run.submit(1);
        run.drain();
        assert_eq!(run.ended.len(), n);
    }
    assert!(run.ended.iter().all(|(.., outcome)| *outcome == Outcome::Rejected(Rejected::Unavailable)));
    for id in doubtful {
        let told = run.told.iter().filter(|(_, of, told)| *of == id && matches!(told, Notice::Blocked { .. }));
        assert_eq!(told.count(), 1, "it asked once, and is not woken to ask in vain");
    }
}

/// For who carries one gate from engine to engine: whose turn it is, and whose ids they are.
#[test]
fn who_is_first_in_line_is_told_and_engines_of_one_client_have_ids_of_their_own() {
    let engine = |first| {
        let gate = GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap()));
        let engine = Engine::new(policy(), Gate::new(gate, Seed::new(1)), Limits::default(), Seed::new(1));
        engine.with_first_generation(first)
    };
    let key = |n: u8| Key::new(format!("order-{n}")).unwrap();
    let print = |n: u8| Fingerprint::new([n; 16]);
    let (mut engine, mut other) = (engine(0), engine(1 << 26));
    let ids: Vec<_> = (0..3).map(|n| engine.submit(key(n), print(n), START).unwrap().id()).collect();
    let others: Vec<_> = (0..3).map(|n| other.submit(key(n), print(n), START).unwrap().id()).collect();
    assert!(ids.iter().all(|id| !others.contains(id)));
    assert!(others.iter().all(|id| other.operation(*id).is_some() && engine.operation(*id).is_none()));
    let written = |engine: &mut Engine| {
        while let Some((_, effect)) = engine.pop_effect() {
            if let Effect::Persist(record) = effect {
                engine.handle(Event::Persisted(record), START);
            }
        }
    };
    written(&mut engine);
    assert_eq!(engine.first_in_line(Kind::Create), Some(ids[1]));
    assert_eq!((engine.first_in_line(Kind::Poll), engine.first_in_line(Kind::Lookup)), (None, None));
    engine.handle(Event::Cancel(ids[1]), START);
    assert_eq!(engine.first_in_line(Kind::Create), Some(ids[2]));
    written(&mut engine);
    engine.handle(Event::Cancel(ids[0]), START);
    assert_eq!(engine.first_in_line(Kind::Create), None, "there is room for it");
}

/// Of a deadline that the line has nearly used up, too little is left for an answer.
#[test]
fn who_comes_to_be_first_just_before_the_deadline_is_not_sent_and_what_is_cut_short_opens_no_breaker() {
    let gate = GatePolicy::none().with_breaker(Some(breaker())).with_bulkhead(Some(BulkheadPolicy::fixed(2).unwrap()));
    for (hold, creates) in [(55_000, 3), (55_001, 0)] {
        let mut run = Run::new(gate.clone(), well);
        run.engine.gate_mut().hold_until(at(hold));
        run.submit(3);
        run.until(at(400_000));
        assert_eq!(run.times(Kind::Create).len(), creates, "an attempt has five seconds");
        let as_it_should = |outcome: &Outcome| match outcome {
            Outcome::Completed(_) => creates > 0,
            outcome => creates == 0 && *outcome == Outcome::Rejected(Rejected::Deadline),
        };
        assert!(run.ended.len() == 3 && run.ended.iter().all(|(.., outcome)| as_it_should(outcome)), "{:?}", run.ended);
    }

    // A poll is the job's last chance, and goes: until 300 s. Half of its five seconds would be enough to learn that
    // nobody answers.
    for (hold, state) in [(297_502, BreakerState::Closed), (297_000, BreakerState::Open { until: at(310_000) })] {
        let mut run = Run::new(gate.clone(), |_, attempt| if attempt.kind == Kind::Create { accepted() } else { None });
        run.submit(2);
        run.drain();
        run.engine.gate_mut().hold_until(at(hold));
        run.until(at(301_000));
        assert_eq!((run.times(Kind::Poll).len(), run.engine.gate().breaker_state(run.now)), (2, state), "{hold}");
    }
}
