//! The laws between the machines, with whole operations and engines behind one gate.

use core::time::Duration;

use steadfast_core::breaker::{BreakerPolicy, BreakerState, SlowCalls, Window};
use steadfast_core::budget::{BudgetPolicy, Tokens};
use steadfast_core::bulkhead::BulkheadPolicy;
use steadfast_core::engine::{Engine, Event, Limits};
use steadfast_core::gate::{Admission, Blocked, Gate, GatePolicy, Kinds, RateLimit, Request, Settled, WhenOpen};
use steadfast_core::notice::Notice;
use steadfast_core::operation::{self, Attempt, Effect, Operation, Reading, Rejected, Stage, Unresolved};
use steadfast_core::rate_limit::{Quota, RatePolicy};
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Fingerprint, Key, Kind, OperationPolicy, Outcome, Seed, SendSafety, Timestamp};

use crate::history::{History, Step};
use crate::run::*;

#[test]
fn an_open_breaker_consumes_no_attempt() {
    // Open from the second failure on: the third attempt waits for it, and is still there.
    let mut run = Run::new(GatePolicy::none().with_breaker(Some(breaker())), outage(0, 9_000));
    run.submit(1);
    run.until(at(100_000));
    assert_eq!(run.times(Kind::Create), [0, 1_000, 11_000]);
    assert!(matches!(run.ended[..], [(_, _, Outcome::Completed(_))]), "{:?}", run.ended);
    // Each change of the breaker is told once, by whom it came.
    let changes = run.told.iter().filter_map(|(at, _, told)| match told {
        Notice::Breaker(state) => Some((at.saturating_since(START).as_millis(), *state)),
        _ => None,
    });
    let open = BreakerState::Open { until: at(11_000) };
    let expected = [(1_000, open), (11_000, BreakerState::HalfOpen), (11_000, BreakerState::Closed)];
    assert_eq!(changes.collect::<Vec<_>>(), expected);
}

#[test]
fn waiting_at_the_gate_counts_against_the_deadline_and_a_wait_for_nothing_is_not_begun() {
    let mut run = Run::new(GatePolicy::none().with_breaker(Some(breaker())), outage(0, 1_000_000));
    run.submit(1);
    run.until(at(1_000_000));
    // The third attempt at 11 s is its last.
    assert_eq!(run.times(Kind::Create), [0, 1_000, 11_000]);
    assert_eq!(run.ended[0].2, Outcome::Rejected(Rejected::Attempts));

    let mut run = Run::new(GatePolicy::none(), well);
    let gate = run.engine.gate_mut();
    let permit = gate.admit(Request::first(Kind::Poll), START).permit().unwrap();
    let throttled = Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(60 * SECOND));
    gate.settle(permit, Settled::Failed(throttled), START);
    run.submit(1);
    run.drain();
    let ended = run.ended[0].2;
    assert_eq!(ended, Outcome::Rejected(Rejected::Deadline), "the pause ends with the deadline: no use waiting");
    assert_eq!(run.sent.len(), 0);
}

#[test]
fn the_budget_is_charged_once_for_a_retry_that_had_to_wait() {
    let gate = GatePolicy::none().with_budget(Some(BudgetPolicy::new(5).unwrap())).with_rate_limit(limit(
        1,
        20 * SECOND,
        Kinds::ALL,
    ));
    let mut run = Run::new(gate, outage(0, 1_000));
    run.submit(1);
    run.until(at(15_000));
    assert_eq!(run.engine.gate().budget_tokens(run.now), Some(5), "it waits for the limit since 1 s, uncharged");
    let waits = run.told.iter().filter(|(.., told)| matches!(told, Notice::Blocked { .. })).count();
    assert!(waits >= 1);
    run.until(at(25_000));
    assert_eq!(run.times(Kind::Create), [0, 20_000]);
    assert_eq!(run.engine.gate().budget_tokens(run.now), Some(4));
}

#[test]
fn an_empty_budget_sends_no_retry_and_waits_before_it_gives_up() {
    let gate = GatePolicy::none().with_budget(Some(BudgetPolicy::new(1).unwrap()));
    let mut run = Run::new(gate, outage(0, 1_000_000));
    run.submit(3);
    run.until(at(1_000_000));
    assert_eq!(run.times(Kind::Create), [0, 0, 0, 1_000], "one retry for all of them");
    assert!(run.ended.iter().all(|(when, ..)| *when >= at(2_000)), "{:?}", run.ended);
    assert!(run.ended.iter().all(|(.., outcome)| matches!(outcome, Outcome::Rejected(_))));
}

#[test]
fn a_budget_that_time_refills_lets_the_others_follow() {
    let budget = BudgetPolicy::new(1).unwrap().with_per_second(Tokens::millionths(200_000));
    let mut run = Run::new(GatePolicy::none().with_budget(Some(budget)), outage(0, 500));
    run.submit(3);
    run.until(at(100_000));
    assert_eq!(run.ended.len(), 3);
    assert!(run.ended.iter().all(|(.., outcome)| matches!(outcome, Outcome::Completed(_))), "{:?}", run.ended);
}

/// A failing poll never ends the job: without a budget it goes on at the slowest pace of its schedule.
#[test]
fn polls_without_a_budget_go_on_by_their_schedule() {
    let gate = GatePolicy::none().with_budget(Some(BudgetPolicy::new(1).unwrap()));
    let mut run = Run::new(gate, |now: Timestamp, attempt: Attempt| match attempt.kind {
        Kind::Create => accepted(),
        _ if now < at(20_000) => Some(Err(RESET)),
        _ => Some(Ok(Reading::Ready)),
    });
    run.submit(1);
    run.until(at(100_000));
    assert_eq!(run.times(Kind::Poll), [5_000, 6_000, 12_000, 17_000, 22_000]);
    assert!(matches!(run.ended[0].2, Outcome::Completed(_)));
}

#[test]
fn failing_fast_rejects_what_was_never_sent_and_waits_for_what_may_be_running() {
    let gate = GatePolicy::none().with_breaker(Some(breaker())).with_when_open(WhenOpen::Refuse);
    let lost = Failure::new(Class::TimedOut, Certainty::MayHaveExecuted);
    let mut run =
        Run::new(gate, move |now, attempt| if now < at(5_000) { Some(Err(lost)) } else { well(now, attempt) });
    run.submit(2);
    run.drain();
    assert!(matches!(run.engine.gate().breaker_state(run.now), BreakerState::Open { .. }));
    run.submit(1);
    run.drain();
    assert_eq!(run.ended, [(START, run.ended[0].1, Outcome::Rejected(Rejected::Unavailable))]);
    run.until(at(100_000));
    assert_eq!(run.ended.len(), 3);
    assert!(run.ended[1..].iter().all(|(.., outcome)| matches!(outcome, Outcome::Completed(_))), "{:?}", run.ended);
}

/// Who is refused for want of a budget has room and a turn: it is no matter of standing in line, but of trying less
/// often.
#[test]
fn a_look_up_without_a_budget_makes_its_own_pause() {
    let budget = BudgetPolicy::new(1).unwrap().with_per_second(Tokens::millionths(200_000));
    let lost = Failure::new(Class::TimedOut, Certainty::MayHaveExecuted);
    let mut run = Run::new(GatePolicy::none(), move |now, attempt| match attempt.kind {
        Kind::Create => Some(Err(lost)),
        _ if now < at(10_000) => Some(Err(RESET)),
        _ => Some(Ok(Reading::Ready)),
    });
    let lookup = RetryPolicy::new(5, 60 * SECOND, 5 * SECOND, fixed(3 * SECOND)).unwrap();
    let asked = policy().with_safety(SendSafety::Lookup { settle: 5 * SECOND }).unwrap().with_lookup(lookup);
    let gate = Gate::new(GatePolicy::none().with_budget(Some(budget)), Seed::new(1));
    run.engine = Engine::new(asked, gate, Limits::default(), Seed::new(1));
    run.submit(1);
    run.until(at(60_000));
    assert_eq!(run.times(Kind::Lookup), [5_000, 8_000, 14_000], "refused at 11 s, though a token comes at 13 s");
}

/// Didit: creating sessions has a limit of its own beside the general one.
#[test]
fn kinds_have_limits_of_their_own() {
    let creates = limit(1, SECOND, Kinds::of(&[Kind::Create]));
    let reads = limit(10, SECOND, Kinds::of(&[Kind::Poll, Kind::Lookup]));
    let mut run = Run::new(GatePolicy::none().with_rate_limit(creates).with_rate_limit(reads), well);
    run.submit(3);
    run.until(at(60_000));
    assert_eq!(run.times(Kind::Create), [0, 1_000, 2_000]);
    assert_eq!(run.times(Kind::Poll), [5_000, 6_000, 7_000], "no creates' token is spent on polls");
}

#[test]
fn a_429_with_a_hint_pauses_the_whole_gate() {
    let mut first = true;
    let mut run = Run::new(GatePolicy::none(), move |now, attempt| {
        let throttled = Failure::new(Class::Throttled, Certainty::NotExecuted);
        if core::mem::take(&mut first) {
            Some(Err(throttled.with_retry_after(Some(7 * SECOND))))
        } else {
            well(now, attempt)
        }
    });
    run.submit(1);
    run.drain();
    run.submit(2);
    run.until(at(60_000));
    assert_eq!(run.times(Kind::Create), [0, 7_000, 7_000, 7_000]);
}

#[test]
fn a_hostile_hint_does_not_hold_the_gate_for_longer_than_the_policy_says() {
    let policy = GatePolicy::none().with_longest_pause(60 * SECOND);
    let mut gate = Gate::new(policy, Seed::new(1));
    let permit = gate.admit(Request::first(Kind::Create), START).permit().unwrap();
    let throttled = Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(Duration::MAX));
    gate.settle(permit, Settled::Failed(throttled), START);
    let Admission::Wait(no) = gate.admit(Request::first(Kind::Create), START) else { panic!("it is paused") };
    assert_eq!((no.until, no.why), (at(60_000), Blocked::Paused));
}

#[test]
fn what_the_provider_says_is_left_bounds_what_is_sent() {
    let mut run = Run::new(GatePolicy::none(), well);
    let quota = Quota { remaining: Some(2), reset: Some(30 * SECOND), ..Quota::default() };
    run.engine.handle(Event::Quota(Kind::Create, quota), START);
    run.submit(4);
    run.until(at(200_000));
    assert_eq!(run.times(Kind::Create), [0, 0, 30_000, 30_000]);
    assert_eq!(run.times(Kind::Poll)[0], 5_000, "another kind is another quota");
}

#[test]
fn a_limit_for_the_same_window_takes_the_providers_number() {
    let mut gate = Gate::new(GatePolicy::none().with_rate_limit(limit(10, 10 * SECOND, Kinds::ALL)), Seed::new(1));
    let quota = Quota { limit: Some(2), window: Some(10 * SECOND), ..Quota::default() };
    gate.learn(Kind::Poll, quota, START);
    assert_eq!(gate.policy().rate_limits()[0].rate.count(), 2);
    gate.learn(Kind::Poll, Quota { window: Some(SECOND), ..quota }, START);
    gate.learn(Kind::Poll, Quota { limit: Some(0), ..quota }, START);
    assert_eq!(gate.policy().rate_limits()[0].rate.count(), 2, "another window, or no request at all, teaches nothing");
    let creates = limit(10, 10 * SECOND, Kinds::of(&[Kind::Create]));
    let mut gate = Gate::new(GatePolicy::none().with_rate_limit(creates), Seed::new(1));
    gate.learn(Kind::Poll, quota, START);
    assert_eq!(gate.policy().rate_limits()[0].rate.count(), 10, "nor does another kind");
}

#[test]
fn settings_change_while_requests_are_in_the_air() {
    let old = GatePolicy::none().with_breaker(Some(breaker())).with_rate_limit(limit(1, SECOND, Kinds::ALL));
    let mut gate = Gate::new(old, Seed::new(1));
    let permit = gate.admit(Request::first(Kind::Poll), START).permit().unwrap();
    let new = GatePolicy::none().with_breaker(Some(breaker())).with_rate_limit(limit(1, 60 * SECOND, Kinds::ALL));
    gate.set_policy(new.with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap())), START);
    assert_eq!(gate.in_flight(), 1);
    gate.settle(permit, Settled::Answered, START);
    assert_eq!(gate.in_flight(), 0);
    let Admission::Wait(no) = gate.admit(Request::first(Kind::Poll), at(500)) else { panic!("the limiter remembers") };
    assert_eq!(no.until, at(1_000), "what was promised holds");
    let _ = gate
        .admit(Request::first(Kind::Poll), at(1_000))
        .permit()
        .map(|it| gate.settle(it, Settled::Answered, at(1_000)));
    let Admission::Wait(no) = gate.admit(Request::first(Kind::Poll), at(1_000)) else { panic!("it is paced") };
    assert_eq!(no.until, at(61_000), "and the new pace from there on");
}

#[test]
fn a_bulkhead_that_comes_later_counts_what_is_in_the_air_and_a_limit_is_known_by_what_it_counts() {
    let minute = limit(1, 60 * SECOND, Kinds::ALL);
    let mut gate = Gate::new(GatePolicy::none().with_rate_limit(minute), Seed::new(1));
    let first = gate.admit(Request::first(Kind::Poll), START).permit().unwrap();
    let creates = limit(5, SECOND, Kinds::of(&[Kind::Create]));
    let policy = GatePolicy::none().with_rate_limit(creates).with_rate_limit(minute);
    gate.set_policy(policy.with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap())), START);
    let why = |gate: &mut Gate, now| match gate.admit(Request::first(Kind::Poll), now) {
        Admission::Wait(no) | Admission::Refuse(no) => Some(no.why),
        Admission::Go(_) => None,
    };
    assert_eq!(why(&mut gate, START), Some(Blocked::Full));
    gate.settle(first, Settled::Answered, START);
    assert_eq!(
        why(&mut gate, START),
        Some(Blocked::Rate),
        "the minute's place is still taken, though it stands second now"
    );
    assert_eq!(why(&mut gate, at(60_000)), None);
    assert_eq!(why(&mut gate, at(120_000)), Some(Blocked::Full), "and the one bulkhead place by its own");
}

/// A request that never left gives back what it took: here its commit fails.
#[test]
fn an_intent_that_cannot_be_written_gives_everything_back() {
    let gate = GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap())).with_rate_limit(limit(
        1,
        1_000 * SECOND,
        Kinds::ALL,
    ));
    let mut run = Run::new(gate, well);
    run.submit(1);
    let Some((_, Effect::Persist(number))) = run.engine.pop_effect() else { panic!("its intent comes first") };
    run.engine.handle(Event::PersistFailed(number), START);
    assert_eq!(run.engine.gate().in_flight(), 0);
    run.drain();
    run.submit(1);
    run.until(at(10));
    assert_eq!(run.times(Kind::Create), [1], "within the millisecond that a refund is rounded by");
}

/// A clock that once ran years ahead must not close a gate for years.
#[test]
fn a_gate_restored_from_a_wrong_clock_waits_no_longer_than_its_policy_says() {
    let rate = RatePolicy::new(10, 60 * SECOND).unwrap().with_burst(3).unwrap();
    let policy = GatePolicy::none()
        .with_breaker(Some(breaker()))
        .with_budget(Some(BudgetPolicy::new(9).unwrap().with_per_second(Tokens::whole(1))))
        .with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap()))
        .with_longest_pause(30 * SECOND)
        .with_rate_limit(RateLimit { kinds: Kinds::ALL, rate });
    let wrong = START.saturating_add(1_000_000_000 * SECOND);
    let mut gate = Gate::new(policy, Seed::new(1));
    for _ in 0..2 {
        let permit = gate.admit(Request::first(Kind::Poll), wrong).permit().unwrap();
        gate.settle(permit, Settled::Failed(RESET.with_retry_after(Some(20 * SECOND))), wrong);
    }
    assert!(matches!(gate.breaker_state(wrong), BreakerState::Open { .. }));
    let quota = Quota { remaining: Some(0), reset: Some(3_600 * SECOND), ..Quota::default() };
    gate.learn(Kind::Create, quota, wrong);

    let mut gate = gate.restored(START);
    let Admission::Wait(no) = gate.admit(Request::first(Kind::Poll), START) else { panic!("it is still open") };
    assert_eq!((no.until, no.why), (at(10_000), Blocked::Open), "for as long as it opens at most");
    let probe = gate.admit(Request::first(Kind::Poll), no.until).permit().expect("ten seconds make room for a request");
    gate.settle(probe, Settled::Answered, no.until);
    let Admission::Wait(no) = gate.admit(Request::first(Kind::Create), at(10_000)) else { panic!("none is left") };
    assert!(no.until <= at(86_400_000), "{no:?}");
    let _ = gate
        .admit(Request::retry(Kind::Poll, Class::Transient), at(20_000))
        .permit()
        .expect("tokens came by the clock");
}

#[test]
fn a_shorter_hint_does_not_shorten_a_pause() {
    let mut gate = Gate::unlimited();
    let permits = [0; 2].map(|_| gate.admit(Request::first(Kind::Poll), START).permit().unwrap());
    for (permit, secs) in permits.into_iter().zip([20, 5]) {
        let throttled = Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(SECOND * secs));
        gate.settle(permit, Settled::Failed(throttled), START);
    }
    let Admission::Wait(no) = gate.admit(Request::first(Kind::Poll), START) else { panic!("it is paused") };
    assert_eq!(no.until, at(20_000));
}

/// A 429 says that the provider is alive and minds its pace: the limits' affair, and no illness.
#[test]
fn being_throttled_opens_no_breaker() {
    let mut gate = Gate::new(GatePolicy::none().with_breaker(Some(breaker())), Seed::new(1));
    for _ in 0..100 {
        let permit = gate.admit(Request::first(Kind::Poll), START).permit().unwrap();
        gate.settle(permit, Settled::Failed(Failure::new(Class::Throttled, Certainty::NotExecuted)), START);
    }
    assert_eq!(gate.breaker_state(START), BreakerState::Closed);
}

#[test]
fn a_retry_that_never_left_gets_its_charge_back() {
    let mut gate = Gate::new(GatePolicy::none().with_budget(Some(BudgetPolicy::new(3).unwrap())), Seed::new(1));
    for _ in 0..100 {
        let permit = gate.admit(Request::retry(Kind::Create, Class::Transient), START).permit().unwrap();
        gate.settle(permit, Settled::Unsent, START);
    }
    assert_eq!(gate.budget_tokens(START), Some(3));
    let permit = gate.admit(Request::retry(Kind::Create, Class::Transient), START).permit().unwrap();
    gate.settle(permit, Settled::Abandoned, START);
    assert_eq!(gate.budget_tokens(START), Some(2), "one that left and was given up has cost its token");
}

#[test]
fn what_a_slow_disk_takes_does_not_make_a_call_slow() {
    let slow = SlowCalls { longer_than: 2 * SECOND, percent: 1 };
    let breaker = BreakerPolicy::rate(100, Window::Calls(1), 1).unwrap().with_slow_calls(slow).unwrap();
    let mut run = Run::new(GatePolicy::none().with_breaker(Some(breaker)), well);
    run.submit(1);
    let Some((_, Effect::Persist(number))) = run.engine.pop_effect() else { panic!("its intent comes first") };
    run.now = at(10_000);
    run.engine.handle(Event::Persisted(number), run.now);
    let Some((id, Effect::Send(attempt))) = run.engine.pop_effect() else { panic!("it is durable") };
    run.now = at(11_000);
    run.engine.handle(Event::Answered(id, attempt.id, accepted().unwrap()), run.now);
    assert_eq!(run.engine.gate().breaker_state(run.now), BreakerState::Closed);
}

/// What was taken and given back says nothing of the provider, however its time ends; and it has not run.
#[test]
fn a_request_that_has_not_left_counts_for_nothing_at_the_breaker_and_is_sent_again() {
    let mut run = Run::new(GatePolicy::none().with_breaker(Some(BreakerPolicy::consecutive(1).unwrap())), well);
    run.submit(1);
    let Some((_, Effect::Persist(number))) = run.engine.pop_effect() else { panic!("its intent comes first") };
    run.engine.handle(Event::Persisted(number), run.now);
    let Some((id, Effect::Send(attempt))) = run.engine.pop_effect() else { panic!("it is durable") };
    let absorbed = |run: &mut Run<_>| {
        run.engine.handle(Event::Unsent(id, attempt.id), run.now);
        core::iter::from_fn(|| run.engine.pop_notice()).filter(|(_, notice)| *notice == Notice::Absorbed).count()
    };
    assert_eq!((absorbed(&mut run), absorbed(&mut run)), (0, 1), "the second time it says nothing new");
    assert_eq!(run.engine.pop_effect(), Some((id, Effect::Send(attempt))), "it is owed again");
    run.now = attempt.until;
    run.engine.handle(Event::Unsent(id, attempt.id), run.now);
    assert!(matches!(run.engine.pop_effect(), Some((_, Effect::Persist(_)))), "there is nothing to abandon");
    assert_eq!(run.engine.operation(id).unwrap().record().stage, Stage::Planned);
    assert_eq!(run.engine.gate().breaker_state(run.now), BreakerState::Closed);
    assert_eq!(run.engine.gate().in_flight(), 0, "I8");
}

/// A request may arrive as late as one time-out after it leaves: so what is taken back may not leave at any time before
/// it is given up.
#[test]
fn a_repeat_that_is_taken_back_does_not_leave_once_its_key_may_be_forgotten() {
    let window = Duration::from_secs(30);
    let policy = OperationPolicy::default().with_safety(SendSafety::Keyed { window }).unwrap();
    let expiry = window - policy.create().attempt_timeout();
    for (late, leaves) in [(Duration::from_nanos(1), true), (Duration::ZERO, false)] {
        let mut history = History::begin_at(Gate::unlimited(), policy.clone(), 1);
        for step in [Step::Drain, Step::Ack, Step::Drain, Step::Wake, Step::Drain, Step::Ack, Step::Wake] {
            history.step(&step);
        }
        for step in [Step::Drain, Step::Ack, Step::Drain] {
            history.step(&step);
        }
        let repeat = history.in_the_air.expect("the first had no answer");
        history.now = START.saturating_add(expiry).saturating_sub(late);
        assert!(repeat.number == 2 && history.now < repeat.until);
        history.step(&Step::Unsent);
        assert_eq!(history.job.in_flight(), Some(repeat).filter(|_| leaves));
        if !leaves {
            let stage = Stage::Ended(Outcome::Unresolved(Unresolved::KeyWindow));
            assert_eq!((history.job.record().stage, history.gate.in_flight()), (stage, 0));
        }
    }
}

/// There is no first that the provider could have forgotten.
#[test]
fn a_first_create_that_is_taken_back_leaves_whatever_the_keys_window() {
    let window = Duration::from_secs(11); // a second more than the time-out
    let policy = OperationPolicy::default().with_safety(SendSafety::Keyed { window }).unwrap();
    let mut history = History::begin_at(Gate::unlimited(), policy, 1);
    for step in [Step::Drain, Step::Ack, Step::Drain] {
        history.step(&step);
    }
    let first = history.in_the_air;
    history.now = START.saturating_add(Duration::from_secs(2));
    history.step(&Step::Unsent);
    assert!(first.is_some() && history.job.owes_effects());
    assert_eq!(history.job.in_flight(), first);
}

/// How long ago a create took it is not known once it was due to leave; of a poll it is.
#[test]
fn a_create_that_has_not_left_gives_nothing_of_the_rate_limit_back_and_a_poll_does() {
    for (kind, comes_back) in [(Kind::Create, false), (Kind::Poll, true)] {
        let rate = RatePolicy::new(1, Duration::from_secs(60)).unwrap();
        let limited = GatePolicy::none().with_rate_limit(RateLimit { kinds: Kinds::of(&[kind]), rate });
        let mut history = History::begin_at(Gate::new(limited, Seed::new(1)), OperationPolicy::default(), 1);
        let taken = [Step::Drain, Step::Ack, Step::Drain];
        let polled = [Step::Answer(accepted().unwrap()), Step::Drain, Step::Ack, Step::Wake, Step::Drain];
        for step in taken.iter().chain(polled.iter().filter(|_| kind == Kind::Poll)) {
            history.step(step);
        }
        assert_eq!(history.in_the_air.map(|attempt| attempt.kind), Some(kind));
        history.step(&Step::Unsent);
        history.step(&Step::Cancel);
        // But for the millisecond that a permit's stopwatch may be off.
        let soon = history.now.saturating_add(Duration::from_millis(1));
        let admission = history.gate.admit(Request::first(kind), soon);
        assert_eq!(matches!(admission, Admission::Go(_)), comes_back, "{kind:?}: {admission:?}");
    }
}

/// Who made a hold may end it: nobody gives up on it before their own deadline.
#[test]
fn a_hold_that_is_ended_early_has_cost_no_job() {
    let mut run = Run::new(GatePolicy::none(), well);
    run.engine.gate_mut().hold_until(Timestamp::NEVER);
    run.submit(3);
    run.until(at(2_000));
    run.engine.gate_mut().hold_until(Timestamp::EPOCH);
    run.engine.handle_timeout(run.now);
    run.until(at(60_000));
    assert_eq!(run.times(Kind::Create), [2_000; 3]);
    assert!(run.ended.iter().all(|(.., outcome)| matches!(outcome, Outcome::Completed(_))), "{:?}", run.ended);
}

/// Many polls say *pending*: they must not pay for a storm of creates.
#[test]
fn polls_that_say_pending_never_touch_the_budget() {
    let budget = BudgetPolicy::aws().with_capacity(500, 20).unwrap().with_per_request(Tokens::whole(1));
    let mut gate = Gate::new(GatePolicy::none().with_budget(Some(budget)), Seed::new(1));
    for _ in 0..100 {
        let permit = gate.admit(Request::first(Kind::Poll), START).permit().unwrap();
        gate.settle(permit, Settled::Answered, START);
    }
    assert_eq!(gate.budget_tokens(START), Some(20));
    let retry = gate.admit(Request::retry(Kind::Poll, Class::Transient), START).permit().unwrap();
    assert_eq!(gate.budget_tokens(START), Some(6), "a poll that is a retry pays");
    gate.settle(retry, Settled::Answered, START);
    assert_eq!(gate.budget_tokens(START), Some(20));
    let create = gate.admit(Request::first(Kind::Create), START).permit().unwrap();
    assert_eq!(gate.budget_tokens(START), Some(21));
    gate.settle(create, Settled::Unsent, START);
    assert_eq!(gate.budget_tokens(START), Some(20), "what never left brings nothing");
}

/// A journal that does not answer must not fill the bulkhead for ever.
#[test]
fn a_create_whose_record_is_never_written_gives_its_place_back_at_its_deadline() {
    let mut run = Run::new(GatePolicy::none().with_bulkhead(Some(BulkheadPolicy::fixed(1).unwrap())), well);
    run.submit(1);
    let Some((_, Effect::Persist(_))) = run.engine.pop_effect() else { panic!("its intent comes first") };
    assert_eq!(run.engine.gate().in_flight(), 1);
    assert_eq!(run.engine.next_deadline(), Some(at(60_000)));
    run.engine.handle_timeout(at(60_000));
    assert_eq!(run.engine.gate().in_flight(), 0);
}

#[test]
fn a_quota_that_is_raised_counts_at_once() {
    let day = |count| {
        let rate = RatePolicy::new(count, 86_400 * SECOND).unwrap().with_burst(100).unwrap();
        GatePolicy::none().with_rate_limit(RateLimit { kinds: Kinds::ALL, rate })
    };
    let mut gate = Gate::new(day(100), Seed::new(1));
    for _ in 0..100 {
        let permit = gate.admit(Request::first(Kind::Create), START).permit().unwrap();
        gate.settle(permit, Settled::Answered, START);
    }
    gate.set_policy(day(10_000), START);
    let Admission::Wait(no) = gate.admit(Request::first(Kind::Create), START) else { panic!("the burst is spent") };
    assert_eq!(no.until, at(8_640), "one place of the new pace, not of the old");
}

/// Its place was taken when it asked, and not when its record was durable: what the time since then has brought is not
/// given back as well.
#[test]
fn i10_a_create_that_was_never_taken_gives_back_no_more_than_is_left_of_its_place() {
    let rate = RatePolicy::new(1, 60 * SECOND).unwrap().with_burst(2).unwrap();
    let mut gate = Gate::new(GatePolicy::none().with_rate_limit(RateLimit { kinds: Kinds::ALL, rate }), Seed::new(1));
    let (policy, key) = (policy(), Key::new("order-0").unwrap());
    let mut job = Operation::new(key, Fingerprint::new([0; 16]), Seed::new(1), &mut policy.turn(START, &mut gate));
    let Some(Effect::Persist(record)) = job.pop_effect() else { panic!("a record is asked for first") };
    job.handle(operation::Event::Persisted(record), &mut policy.turn(at(30_000), &mut gate));
    let mut left = vec![34_000];
    let _ = gate.admit(Request::first(Kind::Poll), at(34_000)).permit().unwrap();
    // The driver was suspended, and has not come to take the create.
    job.handle_timeout(&mut policy.turn(at(35_000), &mut gate));
    assert_eq!(gate.in_flight(), 1);
    for millis in 35_000..94_000 {
        if gate.admit(Request::first(Kind::Poll), at(millis)).permit().is_some() {
            left.push(millis);
        }
    }
    assert!(left.len() <= 2, "within a minute of each other: {left:?}");
}
