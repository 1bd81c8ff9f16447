//! Properties of both courses, over random policies and trouble.

use std::cell::RefCell;
use std::time::Duration;

use proptest::prelude::*;
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryAfter, RetryDecision, RetryPolicy};
use steadfast_core::{Seed, Timestamp};
use steadfast_driver::{
    AsyncTimer, BlockingTimer, Call, PollError, Polled, RetryError, StopReason, Timer, VirtualTimer,
};

/// What an attempt does: takes so long, and then succeeds or fails.
#[derive(Clone, Copy, Debug)]
struct Step {
    takes: Duration,
    fails: Option<Failure>,
    pending: Option<Option<Duration>>,
}

fn span(most: u64) -> BoxedStrategy<Duration> {
    prop_oneof![4 => (0..most).prop_map(Duration::from_millis), 1 => Just(Duration::ZERO), 1 => Just(Duration::from_nanos(1))]
        .boxed()
}

fn failure() -> BoxedStrategy<Failure> {
    let class = prop_oneof![
        4 => Just(Class::Transient), 2 => Just(Class::Throttled), 1 => Just(Class::TimedOut), 1 => Just(Class::Unauthorized),
        1 => Just(Class::Permanent),
    ];
    let certainty =
        prop_oneof![Just(Certainty::NotExecuted), Just(Certainty::MayHaveExecuted), Just(Certainty::Executed)];
    let hint = prop_oneof![3 => Just(None), 1 => span(60_000).prop_map(Some), 1 => Just(Some(Duration::MAX))];
    (class, certainty, hint)
        .prop_map(|(class, certainty, hint)| Failure::new(class, certainty).with_retry_after(hint))
        .boxed()
}

/// The first takes no time: an awaited call's clock begins when there is something to wait for.
fn steps() -> BoxedStrategy<Vec<Step>> {
    let pending =
        prop_oneof![2 => Just(None), 1 => Just(Some(None)), 1 => span(30_000).prop_map(|hint| Some(Some(hint)))];
    let step = (span(20_000), prop::option::weighted(0.8, failure()), pending)
        .prop_map(|(takes, fails, pending)| Step { takes, fails, pending });
    prop::collection::vec(step, 1..40)
        .prop_map(|mut steps| {
            steps[0].takes = Duration::ZERO;
            steps
        })
        .boxed()
}

fn backoff() -> BoxedStrategy<BackoffPolicy> {
    let jitter = prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        Just(Jitter::Decorrelated),
        (0_u8..=100).prop_map(|percent| Jitter::Proportional { percent }),
    ];
    let growth = prop_oneof![span(5_000).prop_map(Growth::Fixed), span(5_000).prop_map(Growth::doubling)];
    (growth, span(50_000), jitter)
        .prop_filter_map("settings that make sense", |(growth, cap, jitter)| {
            BackoffPolicy::new(growth, cap, jitter).ok()
        })
        .boxed()
}

fn policy() -> BoxedStrategy<RetryPolicy> {
    let deadline = prop_oneof![4 => (1_u64..120_000).prop_map(Duration::from_millis), 1 => Just(Duration::MAX)];
    let hints = prop_oneof![
        span(60_000).prop_map(|ceiling| RetryAfter::Floor { ceiling }),
        span(60_000).prop_map(|ceiling| RetryAfter::Exact { ceiling }),
        span(10_000).prop_map(|extra| RetryAfter::Clamped { extra }),
    ];
    (1_u16..20, deadline, 1_u64..20_000, backoff(), hints)
        .prop_map(|(attempts, deadline, timeout, backoff, hints)| {
            let timeout = Duration::from_millis(timeout);
            RetryPolicy::new(attempts, deadline, timeout, backoff).unwrap().with_retry_after(hints)
        })
        .boxed()
}

fn polls() -> BoxedStrategy<PollPolicy> {
    (backoff(), 1_u16..12, 1_u64..200_000, policy())
        .prop_filter_map("settings that make sense", |(schedule, polls, deadline, retry)| {
            PollPolicy::new(schedule, polls, Duration::from_millis(deadline), retry).ok()
        })
        .boxed()
}

/// Notes each attempt and each sleep.
#[derive(Clone, Debug, Default)]
struct Watched {
    timer: VirtualTimer,
    slept: std::sync::Arc<std::sync::Mutex<Vec<Duration>>>,
}

impl Timer for Watched {
    type Moment = Duration;

    fn now(&self) -> Duration {
        self.timer.elapsed()
    }

    fn since(&self, moment: Duration) -> Duration {
        self.timer.elapsed().saturating_sub(moment)
    }
}

impl AsyncTimer for Watched {
    async fn sleep(&self, span: Duration) {
        BlockingTimer::sleep(self, span);
    }
}

impl BlockingTimer for Watched {
    fn sleep(&self, span: Duration) {
        assert!(!span.is_zero(), "a zero delay touches no timer");
        self.slept.lock().unwrap().push(span);
        self.timer.advance(span);
    }
}

/// One attempt as it was seen: its number, when it began, what it had left, its limit.
type Seen = (u32, Duration, Duration, Duration);

struct Play<'s> {
    steps: std::slice::Iter<'s, Step>,
    seen: Vec<Seen>,
}

impl<'s> Play<'s> {
    fn new(steps: &'s [Step]) -> RefCell<Self> {
        RefCell::new(Self { steps: steps.iter(), seen: Vec::new() })
    }

    /// Plays one attempt; when the script is over, all is well.
    fn attempt(play: &RefCell<Self>, timer: &VirtualTimer, attempt: steadfast_driver::Attempt<'_>) -> Step {
        let mut play = play.borrow_mut();
        play.seen.push((attempt.number, timer.elapsed(), attempt.left, attempt.limit));
        let well = Step { takes: Duration::ZERO, fails: None, pending: None };
        let step = *play.steps.next().unwrap_or(&well);
        timer.advance(step.takes);
        step
    }
}

type Retried = (Result<(), RetryError<Failure>>, Vec<Seen>, Vec<Duration>);

fn retried(policy: &RetryPolicy, steps: &[Step], seed: u64, repeatable: bool, awaited: bool) -> Retried {
    let (timer, play) = (Watched::default(), Play::new(steps));
    let result = |step: Step| step.fails.map_or(Ok(()), Err);
    let call = Call::retry(policy, timer.clone())
        .seed(Seed::new(seed))
        .repeatable(repeatable)
        .classify(|error: &Failure| *error);
    let done = if awaited {
        let attempt = |attempt| std::future::ready(result(Play::attempt(&play, &timer.timer, attempt)));
        smol::block_on(call.run_with(attempt))
    } else {
        call.call_with(|attempt| result(Play::attempt(&play, &timer.timer, attempt)))
    };
    let slept = timer.slept.lock().unwrap().clone();
    (done, play.into_inner().seen, slept)
}

type Asked = (Result<(), PollError<Failure>>, Vec<Seen>, Vec<Duration>);

fn asked(policy: &PollPolicy, steps: &[Step], seed: u64, awaited: bool) -> Asked {
    let (timer, play) = (Watched::default(), Play::new(steps));
    let result = |step: Step| match (step.fails, step.pending) {
        (Some(failure), _) => Polled::Failed(failure),
        (None, Some(None)) => Polled::Pending,
        (None, Some(Some(hint))) => Polled::PendingFor(hint),
        (None, None) => Polled::Ready(()),
    };
    let call = Call::poll_until(policy, timer.clone()).seed(Seed::new(seed)).classify(|error: &Failure| *error);
    let done = if awaited {
        smol::block_on(call.run_with(|attempt| std::future::ready(result(Play::attempt(&play, &timer.timer, attempt)))))
    } else {
        call.call_with(|attempt| result(Play::attempt(&play, &timer.timer, attempt)))
    };
    let slept = timer.slept.lock().unwrap().clone();
    (done, play.into_inner().seen, slept)
}

/// What the core says of the same trouble, asked step by step.
fn expected(policy: &RetryPolicy, steps: &[Step], seed: Seed, repeatable: bool) -> (Vec<Duration>, Option<StopReason>) {
    let (mut began, mut elapsed) = (vec![Duration::ZERO], Duration::ZERO);
    for (made, step) in (1..).zip(steps) {
        elapsed = elapsed.saturating_add(step.takes);
        let Some(failure) = step.fails else { return (began, None) };
        let now = Timestamp::EPOCH.saturating_add(elapsed);
        match policy.decide(made, failure, Timestamp::EPOCH, now, repeatable, seed) {
            RetryDecision::At(at) => elapsed = at.saturating_since(Timestamp::EPOCH),
            RetryDecision::GiveUp(why) => return (began, Some(why.into())),
        }
        began.push(elapsed);
    }
    (began, None)
}

proptest! {
    /// I2 and the core's word: attempts begin when it says, never at the deadline or later, never more than allowed; and each is told what is left.
    #[test]
    fn i2_attempts_begin_when_the_policy_says(policy in policy(), steps in steps(), seed: u64, repeatable: bool, awaited: bool) {
        let (done, seen, _) = retried(&policy, &steps, seed, repeatable, awaited);
        let (began, why) = expected(&policy, &steps, Seed::new(seed), repeatable);
        prop_assert_eq!(seen.iter().map(|(_, at, ..)| *at).collect::<Vec<_>>(), began);
        prop_assert_eq!(done.as_ref().err().map(|error| error.why), why);
        prop_assert!(seen.len() <= usize::from(policy.attempts()));
        for (n, (number, at, left, limit)) in (1..).zip(&seen) {
            prop_assert_eq!((*number, *left), (n, policy.deadline().saturating_sub(*at)));
            prop_assert!(*at < policy.deadline());
            prop_assert_eq!(*limit, policy.attempt_timeout().min(*left));
        }
        if let Err(error) = done {
            let last = steps[seen.len() - 1].fails;
            let may_have_run = |step: &Step| step.fails.is_some_and(|it| it.certainty != Certainty::NotExecuted);
            let doubt = steps[..seen.len()].iter().any(may_have_run);
            let raised = |mut it: Failure| {
                it.certainty = if doubt { it.certainty.max(Certainty::MayHaveExecuted) } else { it.certainty };
                it
            };
            prop_assert_eq!(error.cause, last, "the last cause is kept");
            prop_assert_eq!(error.failure, last.map(raised), "no proof is made up");
            prop_assert_eq!(error.attempts as usize, seen.len());
            let (_, at, ..) = seen[seen.len() - 1];
            prop_assert_eq!(error.elapsed, at + steps[seen.len() - 1].takes);
        }
    }

    /// Both adapters' loops are one.
    #[test]
    fn awaited_and_blocking_calls_do_the_same(policy in policy(), polls in polls(), steps in steps(), seed: u64, repeatable: bool) {
        let told = |it: Retried| format!("{it:?}");
        prop_assert_eq!(told(retried(&policy, &steps, seed, repeatable, true)), told(retried(&policy, &steps, seed, repeatable, false)));
        let told = |it: Asked| format!("{it:?}");
        prop_assert_eq!(told(asked(&polls, &steps, seed, true)), told(asked(&polls, &steps, seed, false)));
    }

    /// A failing poll ends nothing but by a refusal; no poll begins at the deadline or later; no more say *pending* than allowed; what was owed is kept.
    #[test]
    fn asking_ends_by_the_schedule_or_a_refusal(policy in polls(), steps in steps(), seed: u64, awaited: bool) {
        let (done, seen, slept) = asked(&policy, &steps, seed, awaited);
        prop_assert!(seen.iter().all(|(_, at, ..)| *at < policy.deadline()));
        let total: Duration = slept.iter().sum();
        prop_assert!(seen.is_empty() || total < policy.deadline());
        let played = &steps[..seen.len().min(steps.len())];
        let pending = played.iter().filter(|step| step.fails.is_none() && step.pending.is_some()).count();
        prop_assert!(pending <= usize::from(policy.polls()));
        match done {
            Ok(()) => {}
            Err(error) => {
                let refused = played.last().and_then(|step| step.fails).is_some_and(|failure| failure.class == Class::Permanent);
                prop_assert_eq!(error.why == StopReason::Refused, refused);
                prop_assert_eq!(error.why == StopReason::Attempts, pending == usize::from(policy.polls()));
                prop_assert_eq!(error.resume().is_some(), !refused);
                prop_assert_eq!(error.polls as usize, seen.len());
                if let Some(state) = error.resume() {
                    let (timer, wait) = (VirtualTimer::new(), state.wait);
                    let again = Call::poll_until(&policy, timer.clone()).resume(state).call_with(|attempt| {
                        assert_eq!((attempt.number, timer.elapsed()), (state.polls + 1, wait));
                        Polled::<_, ()>::Ready(())
                    });
                    prop_assert_eq!(again.is_ok(), wait < policy.deadline(), "it can go on, after what was owed");
                }
            }
        }
    }
}
