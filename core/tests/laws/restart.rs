//! What one operation makes of its record after a restart: what it may send again, and what it must not.

use core::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{Completed, Reading, Rejected, Stage, Unresolved};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{
    Fingerprint, Gate, Key, Kind, Operation, OperationPolicy, Outcome, Reference, Seed, SendSafety, Timestamp,
};

use crate::history::{History, START, Step};

/// What failed without being refused, and proves absent, is created again: in the next process too.
#[test]
fn what_only_failed_and_proves_absent_is_created_again() {
    let policy = OperationPolicy::default().with_safety(SendSafety::Lookup { settle: Duration::from_secs(6) }).unwrap();
    let mut history = History::begin_at(Gate::unlimited(), policy, 1);
    let lost = Failure::new(Class::Transient, Certainty::MayHaveExecuted);
    for step in [Step::Drain, Step::Ack, Step::Drain, Step::Answer(Err(lost)), Step::Drain, Step::Ack] {
        history.step(&step);
    }
    assert_eq!(history.durable.as_ref().map(|record| (record.stage, record.refused)), Some((Stage::Unknown, false)));
    history.step(&Step::Crash);
    history.heal(|attempt| {
        Some(match attempt.kind {
            Kind::Lookup => Ok(Reading::NotFound),
            _ => Ok(Reading::Ready),
        })
    });
    assert_eq!((history.job.outcome(), history.job.creates()), (Some(Outcome::Completed(Completed::Ready)), 2));
}

/// R6: a create that was refused and may have run is looked up. When it did not run it stays refused, in the next
/// process too.
#[test]
fn r6_what_was_refused_and_proves_absent_is_not_created_again() {
    for crash in [false, true] {
        let settle = Duration::from_secs(60);
        let policy = OperationPolicy::default().with_safety(SendSafety::Lookup { settle }).unwrap();
        let mut history = History::begin_at(Gate::unlimited(), policy, 1);
        let refused = Failure::new(Class::Permanent, Certainty::MayHaveExecuted);
        for step in [Step::Ack, Step::Answer(Err(refused)), Step::Ack] {
            history.drain();
            history.step(&step);
        }
        if crash {
            history.step(&Step::Crash);
        }
        history.heal(|attempt| (attempt.kind == Kind::Lookup).then_some(Ok(Reading::NotFound)));
        let refused = Outcome::Rejected(Rejected::Refused);
        assert_eq!((history.job.outcome(), history.job.creates()), (Some(refused), 1), "crash: {crash}");
    }
}

/// R6, when the next process believes that the provider keeps keys: what was refused for good is not sent again.
#[test]
fn r6_what_was_refused_stays_refused_under_another_promise() {
    let lookup = SendSafety::Lookup { settle: Duration::from_secs(6) };
    let mut history = History::begin_at(Gate::unlimited(), OperationPolicy::default().with_safety(lookup).unwrap(), 1);
    let refused = Failure::new(Class::Permanent, Certainty::MayHaveExecuted);
    for step in [Step::Drain, Step::Ack, Step::Drain, Step::Answer(Err(refused)), Step::Drain, Step::Ack] {
        history.step(&step);
    }
    let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
    history.policy = OperationPolicy::default().with_safety(keyed).unwrap();
    history.step(&Step::Crash);
    assert_eq!(history.job.record().stage, Stage::Ended(Outcome::Unresolved(Unresolved::Refused)));
}

/// A record does not say why a wait is so long, so a clock that was wrong, and a gate that is gone, are not told from
/// what the provider asked for.
#[test]
fn a_restart_cuts_what_the_provider_asked_for_to_one_capped_delay() {
    let (policy, minute) = (OperationPolicy::default(), Duration::from_secs(60));
    let cap = policy.create().backoff().cap();
    assert!(cap < minute && policy.create().deadline() > minute);
    let throttled = Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(minute));
    let mut history = History::begin_at(Gate::unlimited(), policy, 1);
    for step in [Step::Drain, Step::Ack, Step::Drain, Step::Answer(Err(throttled)), Step::Drain, Step::Ack] {
        history.step(&step);
    }
    assert_eq!(history.job.next_deadline(), Some(START.saturating_add(minute)));
    history.step(&Step::Crash);
    assert_eq!(history.job.next_deadline(), Some(START.saturating_add(cap)));
}

/// Whatever cut the first attempt off, also a crash: the next one is paid for as a retry.
#[test]
fn the_first_create_is_free_and_one_after_a_restart_is_a_retry() {
    let policy =
        OperationPolicy::default().with_safety(SendSafety::Keyed { window: Duration::from_secs(86_400) }).unwrap();
    let gate = || {
        let budget = BudgetPolicy::new(5).unwrap();
        Gate::new(GatePolicy::none().with_budget(Some(budget)), Seed::new(1))
    };
    let mut history = History::begin_at(gate(), policy, 1);
    assert_eq!(history.gate.budget_tokens(START), Some(5));
    history.drain();
    history.step(&Step::Ack);
    history.step(&Step::Crash);
    history.gate = gate();
    history.step(&Step::Wake);
    assert_eq!((history.job.creates(), history.gate.budget_tokens(history.now)), (2, Some(4)));
}

fn keyed() -> OperationPolicy {
    OperationPolicy::default().with_safety(SendSafety::Keyed { window: Duration::from_secs(86_400) }).unwrap()
}

/// I3: what a process had in the air as it died may still be worked on, so its repeat waits until it has had its time,
/// and then like any other.
#[test]
fn i3_the_repeat_of_what_a_dead_process_sent_does_not_overlap_it() {
    let policy = keyed();
    let (timeout, cap) = (policy.create().attempt_timeout(), policy.create().backoff().cap());
    let mut history = History::begin_at(Gate::unlimited(), policy, 1);
    for step in [Step::Drain, Step::Ack, Step::Drain, Step::Tick(Duration::from_secs(3))] {
        history.step(&step);
    }
    let until = history.in_the_air.unwrap().until;
    assert_eq!((until, history.durable.as_ref().unwrap().due), (START.saturating_add(timeout), Some(until)));
    history.step(&Step::Crash);
    let again = history.job.next_deadline().unwrap();
    assert!(until < again && again <= until.saturating_add(cap), "{again:?}");
    // A loop of crashes does not put it off: the time stands in the record.
    history.step(&Step::Tick(Duration::from_secs(2)));
    history.step(&Step::Crash);
    assert_eq!(history.job.next_deadline(), Some(again));
    // One that comes up long after has nothing to wait for but its backoff.
    history.now = until;
    history.step(&Step::Crash);
    assert_eq!(history.job.next_deadline(), Some(again));
    history.now = START.saturating_add(Duration::from_secs(60));
    history.step(&Step::Crash);
    assert_eq!(history.job.next_deadline(), Some(history.now.saturating_add(again.saturating_since(until))));
    history.step(&Step::Wake);
    assert_eq!(history.job.creates(), 2);
    history.check_told();
}

/// I3 beside the clamp: a clock that was years ahead makes nobody wait for longer than one attempt and its repeat's
/// backoff, and an attempt that may take longer than the longest backoff is waited for all the same, also by who is given
/// the record that the restart makes of it. The backoff comes after it, so that not all repeats leave at one moment.
#[test]
fn i3_what_is_waited_for_is_one_attempt_and_a_backoff_at_most() {
    let (secs, ten_years) = (Duration::from_secs, Duration::from_secs(315_360_000));
    let backoff = BackoffPolicy::new(Growth::doubling(secs(1)), secs(2), Jitter::None).unwrap();
    let create = RetryPolicy::new(5, secs(300), secs(30), backoff).unwrap();
    let policy = keyed().with_create(create).unwrap();
    let mut history = History::begin_at(Gate::unlimited(), policy.clone(), 1);
    for step in [Step::Drain, Step::Ack, Step::Drain, Step::Crash] {
        history.step(&step);
    }
    let again = START.saturating_add(secs(31));
    assert_eq!(history.job.next_deadline(), Some(again));
    let seed = Seed::new(2);
    let waits = history.job.record();
    let back = Operation::restore(waits, seed, &mut policy.turn(history.now, &mut history.gate));
    assert_eq!(back.next_deadline(), Some(again), "taken out of its engine and given back");

    let mut record = history.durable.clone().unwrap();
    record.due = Some(START.saturating_add(ten_years));
    let late = Operation::restore(record, seed, &mut policy.turn(history.now, &mut history.gate));
    assert_eq!(late.next_deadline(), Some(history.now.saturating_add(secs(31))));
}

/// I3 after a deploy that gives an attempt less time than the dead process's had: that one's time counts. One that gives
/// it more waits no longer for that.
#[test]
fn i3_the_first_create_has_the_time_that_it_was_sent_with() {
    let secs = Duration::from_secs;
    let backoff = BackoffPolicy::new(Growth::doubling(secs(1)), secs(2), Jitter::None).unwrap();
    let of =
        |timeout| keyed().with_create(RetryPolicy::new(5, secs(120), secs(timeout), backoff.clone()).unwrap()).unwrap();
    for (before, after) in [(60, 5), (5, 60)] {
        let mut history = History::begin_at(Gate::unlimited(), of(before), 1);
        for step in [Step::Drain, Step::Ack, Step::Drain, Step::Tick(secs(3))] {
            history.step(&step);
        }
        history.policy = of(after);
        history.step(&Step::Crash);
        let again = Some(START.saturating_add(secs(before + 1)));
        assert_eq!(history.job.next_deadline(), again, "{before} s before and {after} s after");
        // Nor does it count for less in the process after that.
        history.step(&Step::Tick(secs(1)));
        history.step(&Step::Crash);
        assert_eq!(history.job.next_deadline(), again);
        // By a clock that was an hour ahead, it is the same time.
        let mut record = history.durable.clone().unwrap();
        let ahead = |at: Option<Timestamp>| at.map(|at| at.saturating_add(secs(3_600)));
        (record.first_sent, record.due) = (ahead(record.first_sent), ahead(record.due));
        let late = Operation::restore(record, Seed::new(2), &mut history.policy.turn(history.now, &mut history.gate));
        assert_eq!(late.next_deadline(), Some(history.now.saturating_add(secs(before.max(after) + 1))));
    }
}

/// I3 beside the deadline: one that is too short for the first create's time leaves none for a repeat, and does not make
/// it overlap.
#[test]
fn i3_a_deadline_that_comes_before_the_first_creates_time_is_over_leaves_no_repeat() {
    let mut history = History::begin_at(Gate::unlimited(), keyed(), 1);
    for step in [Step::Drain, Step::Ack, Step::Drain, Step::Tick(Duration::from_secs(1))] {
        history.step(&step);
    }
    let secs = Duration::from_secs;
    let backoff = BackoffPolicy::new(Growth::doubling(secs(1)), secs(2), Jitter::None).unwrap();
    assert_eq!(history.policy.create().attempt_timeout(), secs(10));
    history.policy = keyed().with_create(RetryPolicy::new(5, secs(5), secs(2), backoff).unwrap()).unwrap();
    history.step(&Step::Crash);
    assert_eq!(history.job.record().stage, Stage::Ended(Outcome::Unresolved(Unresolved::Deadline)));
    assert_eq!(history.job.creates(), 1);
}

/// The time of an attempt counts from its intent. A journal that takes longer than that to write it down is slow, and
/// not lost: the attempt leaves all the same, and what is written once more tells a later time.
#[test]
fn i3_an_intent_that_is_written_late_is_sent_and_one_that_is_written_again_has_a_new_time() {
    let policy = keyed();
    let timeout = policy.create().attempt_timeout();
    let mut history = History::begin_at(Gate::unlimited(), policy, 1);
    history.drain();
    history.step(&Step::Tick(timeout * 2));
    assert_eq!((history.job.creates(), history.job.record().stage), (1, Stage::InFlight));
    history.step(&Step::Ack);
    history.drain();
    assert_eq!(history.in_the_air.unwrap().until, history.now.saturating_add(timeout));
    // Its next one fails to be written, and is written again.
    let reset = Failure::new(Class::Transient, Certainty::MayHaveExecuted);
    for step in [Step::Answer(Err(reset)), Step::Drain, Step::Ack, Step::Wake, Step::Drain, Step::Fail, Step::Wake] {
        history.step(&step);
    }
    assert_eq!(history.job.creates(), 2);
    assert_eq!(history.job.record().due, Some(history.now.saturating_add(timeout)));
}

/// No release writes it; if it stands on disk, a create may have run, and there is no name to poll by.
#[test]
fn a_record_that_says_accepted_and_not_as_what_is_in_doubt() {
    let mut history = History::begin(OperationPolicy::default(), 0);
    for step in [Step::Drain, Step::Ack, Step::Drain, Step::Answer(Ok(Reading::Accepted(Reference::new("t").unwrap())))]
    {
        history.step(&step);
    }
    let mut record = history.job.record();
    let restored = |record, history: &mut History| {
        Operation::restore(record, Seed::new(0), &mut history.policy.turn(history.now, &mut history.gate))
            .record()
            .stage
    };
    assert_eq!(restored(record.clone(), &mut history), Stage::Accepted);
    record.reference = None;
    assert_eq!(restored(record, &mut history), Stage::Ended(Outcome::Unresolved(Unresolved::Ambiguous)));
}

#[test]
fn r3_after_a_restart_no_wait_leads_past_the_deadline() {
    let secs = Duration::from_secs;
    let backoff = BackoffPolicy::new(Growth::doubling(secs(1)), secs(20), Jitter::None).unwrap();
    let create = RetryPolicy::new(3, secs(5), secs(2), backoff).unwrap();
    let policy = OperationPolicy::default().with_create(create).unwrap();
    let (mut gate, seed) = (Gate::unlimited(), Seed::new(4));
    let (key, print) = (Key::new("order-42").unwrap(), Fingerprint::new([7; 16]));
    let mut record = Operation::new(key, print, seed, &mut policy.turn(START, &mut gate)).record();
    // A retry that was due long before the deadline, by a clock that was minutes ahead of this process's.
    (record.stage, record.creates, record.due) = (Stage::Planned, 1, Some(START));
    let now = START.saturating_sub(secs(300));
    let restored = Operation::restore(record, seed, &mut policy.turn(now, &mut gate));
    assert_eq!(restored.record().stage, Stage::Ended(Outcome::Rejected(Rejected::Deadline)));
}

/// A clock that was ahead when the wait was written down: the job is asked for all the same, and does not end at its
/// deadline unasked.
#[test]
fn a_poll_that_a_wrong_clock_put_beyond_the_deadline_is_due_at_once() {
    let secs = Duration::from_secs;
    let schedule = BackoffPolicy::new(Growth::doubling(secs(3)), secs(600), Jitter::None).unwrap();
    let poll = PollPolicy::new(schedule, 10, secs(180), RetryPolicy::default()).unwrap();
    let policy = OperationPolicy::default().with_poll(poll);
    let mut history = History::begin_at(Gate::unlimited(), policy.clone(), 1);
    let accepted = Step::Answer(Ok(Reading::Accepted(Reference::new("txn-1").unwrap())));
    for step in [Step::Drain, Step::Ack, Step::Drain, accepted, Step::Drain, Step::Ack] {
        history.step(&step);
    }
    let record = history.durable.clone().unwrap();
    let (seed, mut gate) = (Seed::new(1), Gate::unlimited());
    let now = START.saturating_sub(secs(86_400));
    let job = Operation::restore(record, seed, &mut policy.turn(now, &mut gate));
    assert_eq!(job.in_flight().map(|attempt| attempt.kind), Some(Kind::Poll), "{:?}", job.next_wake());
}
