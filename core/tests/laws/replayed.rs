//! A failure that the provider has stored for a key, and gives to every repeat: the repeats stop, and the end says why.

use core::time::Duration;

use proptest::prelude::*;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Effect, Event, Unresolved};
use steadfast_core::retry::{AnswerDigest, Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Fingerprint, Gate, Key, Operation, OperationPolicy, Outcome, Seed, SendSafety, Timestamp};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const SECOND: Duration = Duration::from_secs(1);
const KEYED: SendSafety = SendSafety::Keyed { window: Duration::from_secs(86_400) };

fn policy(safety: SendSafety, attempts: u16, identical: u8) -> OperationPolicy {
    let waits = BackoffPolicy::new(Growth::Fixed(SECOND), SECOND, Jitter::None).unwrap();
    let create =
        RetryPolicy::new(attempts, 3_600 * SECOND, 5 * SECOND, waits).unwrap().with_identical(identical).unwrap();
    OperationPolicy::default().with_create(create).unwrap().with_safety(safety).unwrap()
}

/// A job whose creates fail one after the other in these ways, the last way for ever. Gives how it ended, after how
/// many creates, and what it told of answers that were the same.
fn carry(policy: &OperationPolicy, failures: &[Failure], crash_after: Option<usize>) -> (Outcome, usize, Vec<u8>) {
    let (mut gate, mut now, mut told, mut creates) = (Gate::unlimited(), START, Vec::new(), 0);
    let mut crashes = crash_after;
    let mut turn = policy.turn(now, &mut gate);
    let mut job = Operation::new(Key::new("order-42").unwrap(), Fingerprint::new([0; 16]), Seed::new(7), &mut turn);
    loop {
        while let Some(effect) = job.pop_effect() {
            let mut turn = policy.turn(now, &mut gate);
            match effect {
                Effect::Persist(record) => job.handle(Event::Persisted(record), &mut turn),
                Effect::Send(attempt) => {
                    let failure = failures.get(creates).or_else(|| failures.last()).copied().unwrap();
                    creates += 1;
                    job.handle(Event::Answered(attempt.id, Err(failure)), &mut turn);
                }
                Effect::End => return (job.outcome().unwrap(), creates, told),
                _ => {}
            }
            while let Some(notice) = turn.pop_notice() {
                if let Notice::SameAnswer { times } = notice {
                    told.push(times);
                }
            }
        }
        if crashes == Some(creates) {
            crashes = None;
            job = Operation::restore(job.record(), Seed::new(7), &mut policy.turn(now, &mut gate));
            continue;
        }
        now = job.next_deadline().expect("it waits for something");
        job.handle_timeout(&mut policy.turn(now, &mut gate));
    }
}

fn stored(body: &[u8]) -> Failure {
    Failure::new(Class::Transient, Certainty::MayHaveExecuted).with_answer(Some(AnswerDigest::of(500, body)))
}

/// What a create may meet that leaves it open whether to try again.
fn failure() -> BoxedStrategy<Failure> {
    prop_oneof![
        3 => (0_u8..2).prop_map(|body| stored(&[body])).boxed(),
        1 => Just(Failure::new(Class::TimedOut, Certainty::MayHaveExecuted)).boxed(),
        1 => Just(Failure::new(Class::Throttled, Certainty::NotExecuted)).boxed(),
        // It says that it did not run, so nothing is stored, however alike the answers are.
        1 => Just(Failure::new(Class::Transient, Certainty::NotExecuted).with_answer(stored(b"down").answer)).boxed(),
    ]
    .boxed()
}

/// After which create the row of identical answers is as long as the limit, by counting.
fn full_row(failures: &[Failure], attempts: usize, limit: u8) -> Option<usize> {
    let (mut last, mut row) = (None, 0);
    let all = (0..attempts).map(|n| failures.get(n).or_else(|| failures.last()).unwrap());
    for (n, failure) in all.enumerate() {
        let Some(answer) = failure.answer.filter(|_| failure.certainty != Certainty::NotExecuted) else { continue };
        row = if last == Some(answer) { row + 1 } else { 1 };
        last = Some(answer);
        if row == limit {
            return Some(n + 1);
        }
    }
    None
}

proptest! {
    #[test]
    fn a_stored_failure_ends_the_repeats_at_the_limit_and_no_other_does(
        failures in prop::collection::vec(failure(), 1..8).boxed(), attempts in 1_u16..10, limit in 1_u8..5,
    ) {
        let (outcome, creates, told) = carry(&policy(KEYED, attempts, limit), &failures, None);
        match full_row(&failures, attempts.into(), limit) {
            Some(after) => {
                prop_assert_eq!((outcome, creates), (Outcome::Unresolved(Unresolved::Replayed), after));
                prop_assert!(limit == 1 || told.last() == Some(&limit), "{:?}", told);
            }
            None => {
                prop_assert_eq!(creates, usize::from(attempts));
                prop_assert!(outcome != Outcome::Unresolved(Unresolved::Replayed), "{:?}", outcome);
                prop_assert!(told.iter().all(|times| *times < limit));
            }
        }
    }

    /// The count is not in the record. What is there, the attempts, bounds the sum.
    #[test]
    fn a_restart_counts_anew_within_the_attempts(attempts in 1_u16..12, limit in 1_u8..5, crash in 1_usize..8) {
        let (outcome, creates, _) = carry(&policy(KEYED, attempts, limit), &[stored(b"")], Some(crash));
        prop_assert!(creates <= usize::from(attempts));
        let (limit, attempts) = (usize::from(limit), usize::from(attempts));
        // The crash comes only if the job goes on until then.
        let after = if crash < limit { crash + limit } else { limit };
        let replayed = outcome == Outcome::Unresolved(Unresolved::Replayed);
        prop_assert_eq!(replayed, after <= attempts, "{:?}", outcome);
        prop_assert_eq!(creates, after.min(attempts));
    }
}

/// Only for a key is an answer stored: whoever may repeat without one is not stopped by answers that are alike.
#[test]
fn what_is_safe_to_repeat_without_a_key_is_not_counted() {
    let (outcome, creates, told) = carry(&policy(SendSafety::Idempotent, 6, 2), &[stored(b"")], None);
    assert_eq!((outcome, creates, told.len()), (Outcome::Unresolved(Unresolved::Attempts), 6, 0));
}

/// A refusal says why by itself.
#[test]
fn a_stored_refusal_is_a_refusal() {
    let refused = Failure::new(Class::Permanent, Certainty::MayHaveExecuted).with_answer(stored(b"").answer);
    let (outcome, creates, _) = carry(&policy(KEYED, 6, 1), &[refused], None);
    assert_eq!((outcome, creates), (Outcome::Unresolved(Unresolved::Refused), 1));
}

#[test]
fn the_default_limit_is_three_and_none_is_zero() {
    assert_eq!(RetryPolicy::default().identical(), 3);
    let error = RetryPolicy::default().with_identical(0).unwrap_err();
    assert!(error.to_string().contains("retry.identical"), "{error}");
}
