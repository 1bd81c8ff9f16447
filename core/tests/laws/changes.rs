//! A change that is told of, by a webhook that says no more: the next poll is due at once, and nothing else is hurried.

use core::time::Duration;

use steadfast_core::operation::{Completed, Event, Reading, RecordId, Stage};
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Gate, Kind, OperationPolicy, Outcome, Reference};

use crate::history::{History, Step};

/// A job that is accepted, and whose first poll is not due yet.
fn accepted(policy: OperationPolicy) -> History {
    let mut history = History::begin_at(Gate::unlimited(), policy, 1);
    let answer = Step::Answer(Ok(Reading::Accepted(Reference::new("txn-1").unwrap())));
    for step in [Step::Drain, Step::Ack, Step::Drain, answer, Step::Drain, Step::Ack, Step::Drain] {
        history.step(&step);
    }
    assert!(history.job.in_flight().is_none() && history.job.is_durable());
    history
}

fn pending() -> Step {
    Step::Answer(Ok(Reading::Pending { hint: None }))
}

#[test]
fn a_change_that_is_told_of_is_asked_for_at_once() {
    let mut history = accepted(OperationPolicy::default());
    history.step(&Step::Changed);
    let first = history.job.in_flight().expect("a poll");
    assert_eq!(first.kind, Kind::Poll);
    history.step(&Step::Drain);
    history.step(&pending());
    assert!(history.job.in_flight().is_none(), "and then as scheduled");
    assert!(history.job.next_deadline().unwrap() > history.now);
}

/// The answer to a poll that was under way may be older than the change.
#[test]
fn a_change_told_of_while_a_poll_is_in_the_air_is_not_lost() {
    for (hint, again) in [(None, true), (Some(Duration::from_secs(30)), false)] {
        let mut history = accepted(OperationPolicy::default());
        for step in [Step::Changed, Step::Drain, Step::Changed, Step::Changed] {
            history.step(&step);
        }
        history.step(&Step::Answer(Ok(Reading::Pending { hint })));
        assert_eq!(history.job.in_flight().is_some(), again, "what the provider asks to wait is waited");
        for step in [Step::Drain, pending()] {
            history.step(&step);
        }
        assert!(history.job.in_flight().is_none(), "one poll for one change");
    }
}

/// It leaves after that, so its answer is no older than the change.
#[test]
fn a_change_told_of_while_a_poll_waits_to_leave_needs_no_other_poll() {
    let taken_back = vec![Step::Changed, Step::Drain, Step::Changed, Step::Unsent, Step::Drain, pending()];
    for steps in [taken_back, vec![Step::Changed, Step::Changed, Step::Drain, pending()]] {
        let mut history = accepted(OperationPolicy::default());
        steps.iter().for_each(|step| history.step(step));
        assert!(history.job.in_flight().is_none(), "one poll for both");
    }
}

/// A failed poll's wait is kept (R: a `Retry-After` is honoured), and before acceptance there is nothing to poll.
#[test]
fn a_change_hurries_nothing_but_the_schedule() {
    let mut history = accepted(OperationPolicy::default());
    for step in [Step::Changed, Step::Drain] {
        history.step(&step);
    }
    let failure =
        Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(Duration::from_secs(20)));
    history.step(&Step::Answer(Err(failure)));
    let before = history.job.clone();
    history.step(&Step::Changed);
    assert_eq!(history.job, before);

    let mut creating = History::begin(OperationPolicy::default(), 0);
    for step in [Step::Drain, Step::Ack, Step::Drain] {
        creating.step(&step);
    }
    let before = creating.job.clone();
    creating.step(&Step::Changed);
    assert_eq!(creating.job, before);

    let mut ended = accepted(OperationPolicy::default());
    for step in [Step::Webhook(Reading::Ready), Step::Drain, Step::Ack, Step::Drain] {
        ended.step(&step);
    }
    let before = ended.job.clone();
    ended.step(&Step::Changed);
    assert_eq!(ended.job, before);
}

/// However often a job changes, the schedule's polls are there for when nothing is told.
#[test]
fn changes_do_not_use_the_schedule_up() {
    let policy = OperationPolicy::default();
    let scheduled = |policy: &OperationPolicy, changes: u32| {
        let mut history = accepted(policy.clone());
        history.step(&Step::Wake);
        for step in [Step::Drain, pending()] {
            history.step(&step);
        }
        for _ in 0..changes {
            for step in [Step::Changed, Step::Drain, pending()] {
                history.step(&step);
            }
        }
        let mut polls = 0;
        while history.job.record().stage == Stage::Accepted {
            for step in [Step::Wake, Step::Drain, pending()] {
                history.step(&step);
            }
            polls += 1;
        }
        polls
    };
    assert_eq!(scheduled(&policy, 100), scheduled(&policy, 0));
}

/// A key from an earlier life whose journal is lost, say: the provider has done its job. A broken disk makes no
/// "nothing ran" of that.
#[test]
fn a_job_that_the_provider_says_is_done_is_not_undone_by_a_journal_that_fails() {
    for (reading, outcome) in [
        (Reading::Ready, Outcome::Completed(Completed::Ready)),
        (Reading::Undecided, Outcome::Completed(Completed::Undecided)),
        (Reading::Failed, Outcome::Failed),
    ] {
        let mut history = History::begin_at(Gate::unlimited(), OperationPolicy::default(), 1);
        for step in [Step::Drain, Step::Webhook(reading), Step::Drain] {
            history.step(&step);
        }
        history.feed(Event::PersistFailed(RecordId(2)));
        assert_eq!(history.job.outcome(), None, "not on disk");
        history.heal(|_| None);
        assert_eq!(history.job.outcome(), Some(outcome));
    }
}
