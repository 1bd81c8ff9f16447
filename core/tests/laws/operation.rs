//! Laws and invariants of one operation.

use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::notice::{Notice, WakeReason};
use steadfast_core::operation::{AttemptId, Effect, Event, Reading, RecordId, Rejected, Stage};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{
    Fingerprint, Gate, Key, Kind, Operation, OperationPolicy, Outcome, Reference, Seed, SendSafety, Timestamp,
};

use crate::history::{History, START, Step, failure, reading, steps};
use crate::policies;

proptest! {
    /// Laws 1, 2, 3, 5; I2, I3, I4, I5, I18: all checked inside at every step. And what was told of it can be explained.
    #[test]
    fn the_laws_hold_whatever_happens(policy in policies::policy(), seed: u64, steps in steps()) {
        let mut history = History::begin(policy, seed);
        for step in &steps {
            history.step(step);
        }
        history.check_told();
    }

    #[test]
    fn i14_i8_every_operation_ends_once_the_world_heals_and_gives_its_permits_back(
        policy in policies::policy(), seed: u64, steps in steps(), last in failure(), answered: bool, good in reading(),
    ) {
        let mut history = History::begin(policy, seed);
        for step in &steps {
            history.step(step);
        }
        // Sends are answered, well or badly, or time out.
        let mut turn = 0;
        history.heal(|_| {
            turn += 1;
            answered.then(|| if turn % 3 == 0 { Ok(good.clone()) } else { Err(last) })
        });
        prop_assert_eq!(history.gate.in_flight(), 0);
        prop_assert!(history.job.outcome().is_some());
        prop_assert!(history.in_the_air.is_none(), "law 8: the last request was answered or abandoned");
    }

    #[test]
    fn i13_law_7_the_same_events_and_seed_give_the_same_effects(policy in policies::policy(), seed: u64, steps in steps()) {
        let run = || {
            let mut history = History::begin(policy.clone(), seed);
            steps.iter().for_each(|step| history.step(step));
            history.drain();
            (history.log, history.job)
        };
        prop_assert_eq!(run(), run());
    }

    /// Whether it wakes or is told something: what a clock says that has gone back is what the clock said before.
    #[test]
    fn i11_time_running_backwards_changes_nothing(policy in policies::policy(), seed: u64, steps in steps(), back in 0_u64..u64::MAX) {
        let run = |back: u64| {
            let back = Duration::from_nanos(back);
            let mut history = History::begin(policy.clone(), seed);
            for step in steps.iter().filter(|step| !matches!(step, Step::Back(_) | Step::Crash | Step::Hold(_))) {
                history.wake();
                history.behind = back;
                history.step(step);
                history.behind = Duration::ZERO;
                let again = history.now;
                history.now = again.saturating_sub(back);
                history.wake();
                history.now = again;
            }
            history.drain();
            (history.log, history.job)
        };
        prop_assert_eq!(run(0), run(back));
    }

    #[test]
    fn law_4_what_is_old_or_repeated_changes_nothing(policy in policies::policy(), seed: u64, steps in steps(), late in failure()) {
        let mut history = History::begin(policy, seed);
        for step in &steps {
            history.step(step);
        }
        history.drain();
        let before = history.job.clone();
        history.feed(Event::Persisted(RecordId(0)));
        history.feed(Event::PersistFailed(RecordId(0)));
        let current = history.in_the_air.map_or(0, |attempt| attempt.id.0);
        for id in (0..20).filter(|id| *id != current) {
            history.feed(Event::Answered(AttemptId(id), Err(late)));
            history.feed(Event::Unsent(AttemptId(id)));
        }
        for reading in [Reading::Pending { hint: None }, Reading::NotFound, Reading::Unknown("x".into())] {
            history.feed(Event::Webhook(reading));
        }
        prop_assert_eq!(&history.job, &before);
        // What was taken back is owed as it was, however often that is said.
        if let Some(attempt) = history.in_the_air.take() {
            history.feed(Event::Unsent(attempt.id));
            prop_assert!(history.job.owes_effects());
            // But for a repeat whose key may be forgotten by now.
            if history.job.has_ended() {
                return Ok(());
            }
            let owed = history.job.clone();
            history.feed(Event::Unsent(attempt.id));
            prop_assert_eq!(&history.job, &owed);
            history.drain();
            prop_assert_eq!(history.in_the_air, Some(attempt));
            prop_assert_eq!(history.job.record(), before.record());
        }
    }

    #[test]
    fn r31_an_outcome_is_never_rewritten(policy in policies::policy(), seed: u64, steps in steps(), more in steps()) {
        let mut history = History::begin(policy, seed);
        for step in &steps {
            history.step(step);
        }
        history.heal(|_| None);
        let outcome = history.job.outcome();
        let ended = history.ended;
        for step in more.iter().filter(|step| !matches!(step, Step::Crash)) {
            history.step(step);
        }
        history.drain();
        prop_assert_eq!(history.job.outcome(), outcome);
        prop_assert_eq!(history.ended, ended, "told once");
    }

    /// What is resumed is polled on with a fresh schedule, sends nothing before its record is durable (checked inside), and ends again; a crash at any
    /// moment of that leaves it as it had ended, or goes on. Nothing else is changed by being resumed.
    #[test]
    fn only_an_unresolved_outcome_with_a_reference_is_resumed_and_it_ends_again(
        policy in policies::policy(), seed: u64, steps in steps(), more in steps(), last in reading(),
    ) {
        let mut history = History::begin(policy, seed);
        for step in &steps {
            history.step(step);
        }
        history.drain();
        if !history.job.can_resume() {
            let before = history.job.clone();
            history.feed(Event::Resume);
            prop_assert_eq!(history.job.clone(), before, "resumed what has not ended, or what is known for good");
        }
        // Accepted where it can be, pending for a while, and then silent.
        let mut answers = 0;
        history.heal(|attempt| {
            answers += 1;
            let accepted = Reading::Accepted(Reference::new("txn-1").unwrap());
            (answers <= 20).then(|| Ok(if attempt.kind == Kind::Poll { Reading::Pending { hint: None } } else { accepted }))
        });
        let ended = history.job.record();
        let resumes = matches!(ended.stage, Stage::Delivered(Outcome::Unresolved(_))) && ended.reference.is_some();
        prop_assert_eq!(history.job.can_resume(), resumes);
        if !resumes {
            return Ok(());
        }
        history.feed(Event::Resume);
        prop_assert!(!history.job.can_resume() && history.job.outcome().is_none());
        history.crash_to(ended.clone());
        prop_assert!(history.job.can_resume(), "a crash before its record was durable: it is as it had ended");
        history.feed(Event::Resume);
        history.drain();
        let record = history.job.record();
        prop_assert_eq!((record.stage, record.polls, record.creates), (Stage::Accepted, 0, ended.creates));
        for step in &more {
            history.step(step);
        }
        history.heal(|_| Some(Ok(last.clone())));
        prop_assert!(history.job.is_finished());
        prop_assert_eq!(history.gate.in_flight(), 0);
        prop_assert_eq!(history.job.creates(), ended.creates, "never created again");
    }

    #[test]
    fn i17_a_cancelled_operation_leaves_the_gate_empty_and_says_whether_it_may_have_run(
        policy in policies::policy(), seed: u64, steps in steps(),
    ) {
        let mut history = History::begin(policy, seed);
        for step in steps.iter().filter(|step| !matches!(step, Step::Crash | Step::Webhook(_) | Step::Late(..))) {
            history.step(step);
        }
        let left = history.left;
        history.step(&Step::Cancel);
        prop_assert_eq!(history.gate.in_flight(), 0);
        history.heal(|_| None);
        if left == 0 {
            prop_assert!(matches!(history.job.outcome(), Some(Outcome::Rejected(_))), "{:?}", history.job.outcome());
        }
    }

    /// Law 6 and recovery: from the last durable record alone, an operation goes on to the same kind of end, and recovering twice is
    /// recovering once.
    #[test]
    fn law_6_r36_the_last_record_is_enough_and_recovery_may_be_repeated(policy in policies::policy(), seed: u64, steps in steps()) {
        let mut history = History::begin(policy.clone(), seed);
        for step in &steps {
            history.step(step);
        }
        let Some(record) = history.durable.clone() else { return Ok(()) };
        let restore = |record, now| Operation::restore(record, Seed::new(seed), &mut policy.turn(now, &mut Gate::unlimited()));
        let once = restore(record.clone(), history.now);
        prop_assert_eq!(&once, &restore(record.clone(), history.now));
        prop_assert!(once.creates() >= record.creates, "R2: attempts are not forgotten");
        // Nothing sleeps for longer than one capped delay, or, in doubt, one attempt's time-out before it, however wrong
        // the clock was that wrote the record.
        let (create, safety) = (policy.create(), policy.safety());
        let longest = match (record.stage, safety) {
            (Stage::Accepted, _) if record.reference.is_some() => policy.poll().schedule().cap(),
            (Stage::InFlight | Stage::Unknown | Stage::Accepted, SendSafety::Lookup { settle }) => settle,
            (Stage::InFlight | Stage::Unknown | Stage::Accepted, _) => {
                create.backoff().cap().saturating_add(create.attempt_timeout())
            }
            _ => create.backoff().cap(),
        };
        let wrong_clock = restore(record, Timestamp::from_secs(1_000));
        let latest = Timestamp::from_secs(1_000).saturating_add(longest);
        // One that owes effects does not sleep: its deadline is when it gives up on them.
        let awake = wrong_clock.owes_effects();
        prop_assert!(awake || wrong_clock.next_deadline().is_none_or(|at| at <= latest), "{:?}", wrong_clock.next_wake());
    }

    #[test]
    fn the_ends_of_time_neither_panic_nor_loop(policy in policies::policy(), at in prop::sample::select(vec![0, 1, u64::MAX - 1, u64::MAX])) {
        let mut gate = Gate::unlimited();
        let now = Timestamp::from_nanos(at);
        let key = Key::new("k").unwrap();
        let print = Fingerprint::new([0; 16]);
        let mut job = Operation::new(key, print, Seed::new(1), &mut policy.turn(now, &mut gate));
        for round in 0..50 {
            while let Some(effect) = job.pop_effect() {
                let event = match effect {
                    Effect::Persist(number) => Event::Persisted(number),
                    Effect::Send(attempt) => Event::Answered(attempt.id, Ok(Reading::Accepted(Reference::new("t").unwrap()))),
                    _ => Event::Delivered,
                };
                job.handle(event, &mut policy.turn(now, &mut gate));
            }
            let now = if round % 2 == 0 { Timestamp::NEVER } else { now };
            job.handle_timeout(&mut policy.turn(now, &mut gate));
        }
    }
}

/// Law 7: frozen at 0.1.0. If this changes, a journal written by an earlier release replays differently.
#[test]
fn law_7_the_effects_of_this_history_are_frozen() {
    let policy =
        OperationPolicy::default().with_safety(SendSafety::Keyed { window: Duration::from_secs(86_400) }).unwrap();
    let mut history = History::begin_at(Gate::unlimited(), policy, 42);
    let mut creates = 0;
    history.heal(|attempt| match attempt.kind {
        Kind::Create => {
            creates += 1;
            match creates {
                1 => None,
                2 => Some(Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted))),
                _ => Some(Ok(Reading::Accepted(Reference::new("txn-1").unwrap()))),
            }
        }
        _ if attempt.number < 3 => Some(Ok(Reading::Pending { hint: None })),
        _ => Some(Ok(Reading::Ready)),
    });
    let log: Vec<String> = history
        .log
        .iter()
        .map(|(at, effect)| {
            let name = match effect {
                Effect::Persist(RecordId(number)) => format!("persist {number}"),
                Effect::Send(attempt) => format!("send {:?} {}", attempt.kind, attempt.number),
                Effect::Abandon(id) => format!("abandon {}", id.0),
                other => format!("{other:?}"),
            };
            format!("{} {name}", at.saturating_since(START).as_nanos())
        })
        .collect();
    assert_eq!(log.join("\n"), include_str!("frozen.txt").trim_end());
    assert_eq!(history.job.correlation_id(AttemptId(1)), FROZEN_CORRELATION);
}

/// The same, where each phase draws: a look-up's and a poll's next, and a record's that could not be written.
#[test]
fn law_7_the_draws_of_each_phase_are_frozen() {
    let schedule =
        BackoffPolicy::new(Growth::Fixed(Duration::from_secs(8)), Duration::from_secs(8), Jitter::Full).unwrap();
    let poll = PollPolicy::new(schedule, 10, Duration::from_secs(180), RetryPolicy::default()).unwrap();
    let safety = SendSafety::Lookup { settle: Duration::from_secs(5) };
    let policy = OperationPolicy::default().with_safety(safety).unwrap().with_poll(poll);
    let mut history = History::begin_at(Gate::unlimited(), policy, 42);
    let lost = || Step::Answer(Err(Failure::new(Class::Transient, Certainty::MayHaveExecuted)));
    let found = || Step::Answer(Ok(Reading::Accepted(Reference::new("txn-1").unwrap())));
    let mut waits = Vec::new();
    for step in
        [Step::Ack, lost(), Step::Ack, Step::Wake, lost(), Step::Wake, found(), Step::Fail, Step::Wake, Step::Ack]
    {
        history.drain();
        history.step(&step);
        history.drain();
        let wake = history.job.next_wake();
        waits.extend(wake.map(|wake| (wake.reason, wake.at.saturating_since(history.now).as_nanos())));
    }
    let drawn = |reason| waits.iter().rev().find(|(why, _)| *why == reason).unwrap().1;
    let drawn = [WakeReason::Lookup, WakeReason::PersistRetry, WakeReason::Poll].map(drawn);
    assert_eq!(drawn, FROZEN_DRAWS, "{waits:?}");
}

const FROZEN_DRAWS: [u128; 3] = [298_934_897, 86_827_075, 5_418_787_184];

const FROZEN_CORRELATION: u128 = 97_416_808_294_597_679_373_631_792_879_609_730_925;

/// Polls that fail are bounded by time alone, so there may be more of them than their number can say.
#[test]
fn a_poll_that_is_beyond_all_numbers_keeps_the_largest() {
    let instant =
        BackoffPolicy::new(Growth::Fixed(Duration::from_nanos(1)), Duration::from_nanos(1), Jitter::None).unwrap();
    let retry = RetryPolicy::new(2, Duration::from_secs(9), Duration::from_secs(1), instant.clone()).unwrap();
    let policy =
        OperationPolicy::default().with_poll(PollPolicy::new(instant, 1, Duration::from_secs(9), retry).unwrap());
    let (mut gate, mut now, mut numbers) = (Gate::unlimited(), START, Vec::new());
    let mut job = Operation::new(
        Key::new("k").unwrap(),
        Fingerprint::new([0; 16]),
        Seed::new(1),
        &mut policy.turn(now, &mut gate),
    );
    while numbers.len() < 65_540 {
        while let Some(effect) = job.pop_effect() {
            let event = match effect {
                Effect::Persist(number) => Event::Persisted(number),
                Effect::Send(attempt) if attempt.kind == Kind::Create => {
                    Event::Answered(attempt.id, Ok(Reading::Accepted(Reference::new("t").unwrap())))
                }
                Effect::Send(attempt) => {
                    numbers.push(attempt.number);
                    Event::Answered(attempt.id, Err(Failure::new(Class::Transient, Certainty::NotExecuted)))
                }
                other => panic!("a failing poll never ends the job, and here is {other:?}"),
            };
            job.handle(event, &mut policy.turn(now, &mut gate));
        }
        now = job.next_deadline().unwrap();
        job.handle_timeout(&mut policy.turn(now, &mut gate));
    }
    assert_eq!(numbers[65_533..], [65_534, 65_535, 65_535, 65_535, 65_535, 65_535, 65_535]);
}

/// The trap that numbered acknowledgements are there for: the ack of *accepted* must not vouch for *ended*.
#[test]
fn an_older_acknowledgement_does_not_end_an_operation() {
    let mut history = History::begin(OperationPolicy::default(), 1);
    history.drain();
    history.step(&Step::Ack);
    history.drain();
    history.step(&Step::Answer(Ok(Reading::Accepted(Reference::new("txn-1").unwrap()))));
    history.drain(); // asks for the record "accepted"
    history.step(&Step::Webhook(Reading::Ready));
    history.drain(); // asks for the record "ended"
    history.step(&Step::AckOlder);
    assert_eq!(history.job.outcome(), None, "the outcome is not durable yet");
    history.step(&Step::Ack);
    assert_eq!(history.job.outcome().unwrap().name(), "completed");
}

/// For a driver that writes after every event, whatever it is asked.
#[test]
fn a_record_that_is_durable_before_it_is_popped_is_not_owed() {
    let (policy, mut gate) = (OperationPolicy::default(), Gate::unlimited());
    let mut turn = policy.turn(START, &mut gate);
    let mut job = Operation::new(Key::new("k").unwrap(), Fingerprint::new([0; 16]), Seed::new(1), &mut turn);
    job.handle(Event::Persisted(RecordId(1)), &mut turn);
    assert!(matches!(job.pop_effect(), Some(Effect::Send(_))));
    assert_eq!(job.pop_effect(), None);
}

#[test]
fn only_a_create_that_ran_and_was_refused_for_good_is_a_failed_job() {
    for class in [Class::Transient, Class::Throttled, Class::TimedOut, Class::Permanent] {
        for certainty in [Certainty::NotExecuted, Certainty::MayHaveExecuted, Certainty::Executed] {
            let mut history = History::begin(OperationPolicy::default(), 0);
            let answer = Step::Answer(Err(Failure::new(class, certainty)));
            for step in [Step::Drain, Step::Ack, Step::Drain, answer] {
                history.step(&step);
            }
            let failed = history.job.record().stage == Stage::Ended(Outcome::Failed);
            assert_eq!(
                failed,
                class == Class::Permanent && certainty == Certainty::Executed,
                "{class:?} {certainty:?}"
            );
        }
    }
}

/// Waiting at the gate costs no attempt and counts against the deadline.
#[test]
fn a_held_gate_costs_time_and_no_attempt() {
    let policy = OperationPolicy::default();
    let mut gate = Gate::unlimited();
    gate.hold_until(START.saturating_add(Duration::from_secs(60)));
    let key = Key::new("k").unwrap();
    let print = Fingerprint::new([0; 16]);
    let mut turn = policy.turn(START, &mut gate);
    let job = Operation::new(key.clone(), print, Seed::new(1), &mut turn);
    assert!(matches!(turn.pop_notice(), Some(Notice::Blocked { .. })));
    assert_eq!((job.creates(), job.record().stage), (0, Stage::Planned));
    assert_eq!(job.record().first_sent, None, "a key's window has not begun");
    assert!(job.owes_effects(), "what was taken in survives a crash, even before it may leave");

    gate.hold_until(START.saturating_add(Duration::from_secs(600)));
    let mut job = Operation::new(key, print, Seed::new(1), &mut policy.turn(START, &mut gate));
    while let Some(effect) = job.pop_effect() {
        if let Effect::Persist(number) = effect {
            job.handle(Event::Persisted(number), &mut policy.turn(START, &mut gate));
        }
    }
    // The hold may be ended at any time, so it waits; but no longer than its deadline.
    let deadline = START.saturating_add(policy.create().deadline());
    assert_eq!((job.outcome(), job.next_deadline()), (None, Some(deadline)));
    let mut turn = policy.turn(deadline, &mut gate);
    job.handle_timeout(&mut turn);
    let ended = Notice::Ended(Outcome::Rejected(Rejected::Deadline));
    while let Some(Effect::Persist(number)) = job.pop_effect() {
        job.handle(Event::Persisted(number), &mut turn);
    }
    assert!(core::iter::from_fn(|| turn.pop_notice()).any(|told| told == ended));
}
