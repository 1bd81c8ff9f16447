//! What comes unasked or too late: answers to requests that are given up, webhooks, a second truth.

use core::time::Duration;

use steadfast_core::notice::Notice;
use steadfast_core::operation::{AttemptId, Completed, Effect, Event, Reading, Rejected, Stage, Unresolved};
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Gate, OperationPolicy, Outcome, Reference, SendSafety};

use crate::history::{History, Step};

/// An answer that comes after its attempt timed out is adopted for what it teaches.
#[test]
fn a_late_reference_is_adopted_after_a_timeout() {
    let policy =
        OperationPolicy::default().with_safety(SendSafety::Keyed { window: Duration::from_secs(86_400) }).unwrap();
    let mut history = History::begin(policy, 1);
    history.drain();
    history.step(&Step::Ack);
    history.drain();
    history.step(&Step::Wake);
    history.drain();
    assert_eq!(history.job.record().stage, Stage::Unknown);
    history.step(&Step::Late(1, Ok(Reading::Accepted(Reference::new("txn-1").unwrap()))));
    assert_eq!(history.job.reference().unwrap().as_str(), "txn-1");
    assert_eq!(history.job.record().stage, Stage::Accepted);
    history.heal(|_| Some(Ok(Reading::Ready)));
    assert_eq!(history.job.creates(), 1, "it was not created again");
}

/// Answers carry the id of their request; and what has not left cannot be answered.
#[test]
fn only_an_answer_to_the_request_in_the_air_is_one() {
    let refused = || Err(Failure::new(Class::Permanent, Certainty::NotExecuted));
    let mut history = History::begin(OperationPolicy::default(), 0);
    history.drain();
    history.step(&Step::Ack);
    let owed = history.job.clone();
    assert_eq!(owed.in_flight().map(|attempt| attempt.id), Some(AttemptId(1)));
    history.feed(Event::Answered(AttemptId(1), refused()));
    assert_eq!(history.job, owed, "it is about to leave");
    history.drain();
    let sent = history.job.clone();
    for other in [0, 2] {
        history.feed(Event::Answered(AttemptId(other), refused()));
        assert_eq!(history.job, sent);
    }
    history.feed(Event::Answered(AttemptId(1), refused()));
    assert_eq!(history.job.record().stage, Stage::Ended(Outcome::Rejected(Rejected::Refused)));
}

/// The first reference and the first final reading are kept; others are told of, and change nothing.
#[test]
fn what_comes_unasked_is_adopted_once_and_a_second_truth_is_a_conflict() {
    let named = |name| Reading::Accepted(Reference::new(name).unwrap());
    let begin = |policy: OperationPolicy, answer| {
        let mut history = History::begin_at(Gate::unlimited(), policy, 1);
        for step in [Step::Drain, Step::Ack, Step::Drain, Step::Answer(answer), Step::Drain, Step::Ack, Step::Drain] {
            history.step(&step);
        }
        history
    };
    let feed = |history: &mut History, event| {
        let mut turn = history.policy.turn(history.now, &mut history.gate);
        history.job.handle(event, &mut turn);
        core::iter::from_fn(|| turn.pop_notice()).collect::<Vec<_>>()
    };
    let tell = |history: &mut History, reading| {
        let told = feed(history, Event::Webhook(reading));
        assert_eq!(told.first(), Some(&Notice::Webhook), "that it was a webhook is always told");
        told[1..].to_vec()
    };
    let lost = || Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted));

    let mut polled = begin(OperationPolicy::default(), Ok(named("txn-1")));
    let before = polled.job.clone();
    assert_eq!(tell(&mut polled, named("txn-1")), [Notice::Absorbed]);
    assert_eq!(tell(&mut polled, named("txn-2")), [Notice::Conflict]);
    assert_eq!(tell(&mut polled, Reading::Partial), [Notice::Partial]);
    assert_eq!(tell(&mut polled, Reading::Pending { hint: None }), [Notice::Absorbed]);
    assert_eq!(polled.job, before);
    tell(&mut polled, Reading::Ready);
    assert_eq!(tell(&mut polled, Reading::Ready), [Notice::Absorbed]);
    assert_eq!(tell(&mut polled, Reading::Partial), [Notice::Conflict]);
    assert_eq!(tell(&mut polled, Reading::Failed), [Notice::Conflict]);
    assert_eq!(tell(&mut polled, Reading::NotFound), [Notice::Absorbed]);
    assert_eq!(tell(&mut polled, named("txn-2")), [Notice::Conflict]);
    assert_eq!(polled.job.record().stage, Stage::Ended(Outcome::Completed(Completed::Ready)));

    let partial = OperationPolicy::default().poll().clone().with_accept_partial(true);
    let mut accepts = begin(OperationPolicy::default().with_poll(partial), Ok(named("txn-1")));
    let mut asked = begin(accepts.policy.clone(), Ok(named("txn-1")));
    for step in [Step::Wake, Step::Drain, Step::Answer(Ok(Reading::Partial))] {
        asked.step(&step);
    }
    assert_eq!(asked.job.record().stage, Stage::Ended(Outcome::Completed(Completed::Partial)));
    let mut asked = begin(OperationPolicy::default(), Ok(named("txn-1")));
    for (name, conflicts) in [("txn-2", true), ("txn-1", false)] {
        asked.step(&Step::Wake);
        asked.drain();
        let poll = asked.job.last_attempt();
        let told = feed(&mut asked, Event::Answered(poll, Ok(named(name))));
        assert_eq!(told.contains(&Notice::Conflict), conflicts, "a poll is answered with {name}");
        asked.in_the_air = None;
    }
    assert_eq!(asked.job.reference().unwrap().as_str(), "txn-1");
    tell(&mut accepts, Reading::Partial);
    assert_eq!(accepts.job.record().stage, Stage::Ended(Outcome::Completed(Completed::Partial)));

    // Unresolved for want of a reference: it stays so, but a person can now find the job.
    let mut unresolved = begin(OperationPolicy::default(), lost());
    let ambiguous = Some(Outcome::Unresolved(Unresolved::Ambiguous));
    assert_eq!((unresolved.job.outcome(), unresolved.job.reference()), (ambiguous, None));
    assert_eq!(tell(&mut unresolved, named("txn-1")), [Notice::Accepted]);
    assert!(matches!(unresolved.job.pop_effect(), Some(Effect::Persist(_))));
    assert_eq!(tell(&mut unresolved, named("txn-2")), [Notice::Conflict]);
    assert_eq!(unresolved.job.outcome(), ambiguous);
    assert_eq!(unresolved.job.reference().unwrap().as_str(), "txn-1");

    // Rejected: nothing ran, so there is nothing to find.
    let mut rejected = begin(OperationPolicy::default(), Err(Failure::new(Class::Permanent, Certainty::NotExecuted)));
    assert_eq!(tell(&mut rejected, named("txn-1")), [Notice::Conflict]);
    assert_eq!(rejected.job.reference(), None);
}
