//! Decisions for calls that are no jobs: the same as a job's.

use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::backoff::{BackoffPolicy, Jitter};
use steadfast_core::breaker::{Breaker, BreakerPolicy, BreakerState};
use steadfast_core::gate::{Gate, GatePolicy, Request, Settled};
use steadfast_core::operation::{Effect, Event, Reading, Unresolved};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, GaveUp, RetryDecision, RetryPolicy};
use steadfast_core::{Fingerprint, Key, Kind, Operation, OperationPolicy, Outcome, Reference, Seed, Timestamp};

use crate::policies::{growth, span};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// What a poll comes to: pending with a hint, or a failure.
type Answer = Result<Option<Duration>, Failure>;

fn unspread(most: u64) -> BoxedStrategy<BackoffPolicy> {
    (growth(most), span(10 * most))
        .prop_filter_map("settings that make sense", |(growth, cap)| BackoffPolicy::new(growth, cap, Jitter::None).ok())
        .boxed()
}

/// Schedules without jitter: an operation draws its own.
fn poll() -> BoxedStrategy<PollPolicy> {
    (unspread(5_000), unspread(5_000), 1_u16..12, 1_u64..200_000, 1_u16..5)
        .prop_filter_map("settings that make sense", |(schedule, backoff, polls, deadline, attempts)| {
            let ms = Duration::from_millis;
            let retry = RetryPolicy::new(attempts, ms(60_000), ms(10_000), backoff).ok()?;
            PollPolicy::new(schedule, polls, ms(deadline), retry).ok()
        })
        .boxed()
}

fn answers() -> BoxedStrategy<Vec<Answer>> {
    let class = prop_oneof![6 => Just(Class::Transient), 2 => Just(Class::Throttled), 2 => Just(Class::TimedOut), 1 => Just(Class::Permanent)];
    let hint = prop_oneof![3 => Just(None), 1 => span(60_000).prop_map(Some)];
    let failure = (class, hint.clone()).prop_map(|(class, hint)| Failure::from(class).with_retry_after(hint));
    prop::collection::vec(prop_oneof![2 => hint.prop_map(Ok), 1 => failure.prop_map(Err)], 1..30).boxed()
}

/// When an operation sends its polls if they are answered at once, counted from its acceptance, and why it stopped.
fn by_an_operation(policy: &PollPolicy, answers: &[Answer]) -> (Vec<Timestamp>, Option<Unresolved>) {
    let policy = OperationPolicy::default().with_poll(policy.clone());
    let (mut gate, mut now, mut answers) = (Gate::unlimited(), START, answers.iter());
    let mut job = Operation::new(
        Key::new("k").unwrap(),
        Fingerprint::new([0; 16]),
        Seed::new(1),
        &mut policy.turn(now, &mut gate),
    );
    let mut polls = Vec::new();
    loop {
        while let Some(effect) = job.pop_effect() {
            let event = match effect {
                Effect::Persist(number) => Event::Persisted(number),
                Effect::Send(attempt) if attempt.kind == Kind::Create => {
                    Event::Answered(attempt.id, Ok(Reading::Accepted(Reference::new("t").unwrap())))
                }
                Effect::Send(attempt) => {
                    polls.push(now);
                    let Some(answer) = answers.next() else { return (polls, None) };
                    Event::Answered(attempt.id, answer.map(|hint| Reading::Pending { hint }))
                }
                Effect::End => match job.outcome() {
                    Some(Outcome::Unresolved(why)) => return (polls, Some(why)),
                    other => panic!("{other:?}"),
                },
                _ => continue,
            };
            job.handle(event, &mut policy.turn(now, &mut gate));
        }
        now = job.next_deadline().unwrap();
        job.handle_timeout(&mut policy.turn(now, &mut gate));
    }
}

fn by_decisions(policy: &PollPolicy, answers: &[Answer]) -> (Vec<Timestamp>, Option<Unresolved>) {
    let (seed, mut pending, mut streak, mut polls) = (Seed::new(9), 0, 0, Vec::new());
    let mut now = START.saturating_add(policy.wait(0, None, seed));
    for answer in answers {
        polls.push(now);
        let decision = match answer {
            Ok(hint) => {
                (pending, streak) = (pending + 1, 0);
                policy.decide_pending(pending, *hint, START, now, seed)
            }
            Err(failure) => {
                streak += 1;
                policy.decide_failed(streak, *failure, START, now, seed)
            }
        };
        now = match decision {
            RetryDecision::At(at) => at,
            RetryDecision::GiveUp(GaveUp::Attempts) => return (polls, Some(Unresolved::Polls)),
            RetryDecision::GiveUp(GaveUp::Deadline) => return (polls, Some(Unresolved::PollDeadline)),
            RetryDecision::GiveUp(GaveUp::Refused) => return (polls, Some(Unresolved::PollRefused)),
            other => panic!("{other:?}"),
        };
    }
    polls.push(now);
    (polls, None)
}

proptest! {
    #[test]
    fn polls_without_an_operation_leave_when_an_operations_would(policy in poll(), answers in answers()) {
        prop_assert_eq!(by_decisions(&policy, &answers), by_an_operation(&policy, &answers));
    }

    /// I2, for polls.
    #[test]
    fn no_poll_is_decided_for_after_the_deadline(
        policy in crate::policies::poll(), pending: u16, hint in prop::option::of(span(600_000)), passed in span(400_000), seed: u64,
    ) {
        let now = START.saturating_add(passed);
        let failure = Failure::from(Class::Throttled).with_retry_after(hint);
        let decisions = [
            policy.decide_pending(pending, hint, START, now, Seed::new(seed)),
            policy.decide_failed(pending, failure, START, now, Seed::new(seed)),
        ];
        for decision in decisions {
            if let RetryDecision::At(at) = decision {
                prop_assert!(at >= now && at < START.saturating_add(policy.deadline()));
            }
        }
    }
}

/// A breaker that is told of classes by hand learns what one behind a gate does.
#[test]
fn a_class_says_of_health_what_a_gate_hears() {
    for class in [Class::Transient, Class::Throttled, Class::TimedOut, Class::Permanent, Class::Unauthorized] {
        let policy = BreakerPolicy::consecutive(1).unwrap();
        let mut alone = Breaker::new(&policy, Seed::new(1));
        let ticket = alone.admit(&policy, START).unwrap();
        alone.settle(&policy, ticket, class.health(), START);
        let mut gate = Gate::new(GatePolicy::none().with_breaker(Some(policy)), Seed::new(1));
        let permit = gate.admit(Request::first(Kind::Poll), START).permit().unwrap();
        gate.settle(permit, Settled::Failed(Failure::from(class)), START);
        let opened =
            [alone.state(START), gate.breaker_state(START)].map(|state| matches!(state, BreakerState::Open { .. }));
        assert_eq!(opened, [matches!(class, Class::Transient | Class::TimedOut); 2], "{class:?}");
        assert_eq!(Failure::from(class).certainty, Certainty::MayHaveExecuted);
    }
}
