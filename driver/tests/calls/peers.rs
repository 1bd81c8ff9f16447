//! Bugs that others had in repeating calls and in polling, each as a test of ours. Each is named after who had it, and
//! what went wrong.

use std::cell::Cell;
use std::future::pending;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{BreakerState, Health};
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::gate::WhenOpen;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Key, Seed};
use steadfast_driver::{Call, Polled, RetryError, StopReason, VirtualTimer, http_response};

use crate::handles::{breaker, budget, limiter, opened};
use crate::{SECOND, fixed, policy};

fn down() -> Result<(), &'static str> {
    Err("down")
}

fn busy(wait: Duration) -> Failure {
    Failure::from(Class::Throttled).with_retry_after(Some(wait))
}

/// When attempts began that all fail, and how it ended.
fn failing(policy: &RetryPolicy, takes: Duration) -> (Vec<Duration>, RetryError<&'static str>) {
    let (timer, mut began) = (VirtualTimer::new(), Vec::new());
    let error = Call::retry(policy, timer.clone()).call(|| {
        began.push(timer.elapsed());
        timer.advance(takes);
        down()
    });
    (began, error.unwrap_err())
}

/// backon's `total_delay` (#149) is the sum of the sleeps alone; exponential-backoff and reliakit count likewise.
#[test]
fn backon_the_time_that_attempts_take_counts_against_the_deadline() {
    let (began, error) = failing(&policy(99, 30 * SECOND, SECOND), 9 * SECOND);
    assert_eq!(began, [0, 10, 20].map(Duration::from_secs));
    assert_eq!((error.why, error.elapsed), (StopReason::Deadline, 29 * SECOND));
}

/// backon panics ("overflow when adding durations") where a delay is huge; retry-policies multiplies without a check;
/// Polly (#1866) waits for ever.
#[test]
fn backon_huge_delays_neither_overflow_nor_are_slept() {
    let huge = BackoffPolicy::new(Growth::doubling(Duration::MAX), Duration::MAX, Jitter::Full).unwrap();
    for deadline in [SECOND, Duration::MAX] {
        let policy = RetryPolicy::new(3, deadline, Duration::MAX, huge.clone()).unwrap();
        let (timer, seed) = (VirtualTimer::new(), Seed::new(3));
        let call = Call::retry(&policy, timer.clone()).seed(seed).classify(|_: &&str| busy(Duration::MAX));
        let error = call.call(down).unwrap_err();
        assert!(matches!(error.why, StopReason::Deadline | StopReason::Attempts), "{error:?}");
    }
}

/// backon's blocking API cannot hear a `Retry-After`; tokio-retry2 takes one, reports it and never sleeps it;
/// reqwest-retry ignores it.
#[test]
fn tokio_retry2_a_retry_after_is_slept_also_by_blocking_calls() {
    let (timer, mut left) = (VirtualTimer::new(), 2);
    let done =
        Call::retry(policy(3, 300 * SECOND, SECOND), timer.clone()).classify(|_: &&str| busy(60 * SECOND)).call(|| {
            left -= 1;
            if left < 0 { Ok(()) } else { down() }
        });
    assert!(done.is_ok());
    assert_eq!(timer.elapsed(), 120 * SECOND);
}

/// backoff's `retry_after` bypasses `max_elapsed` (500 ms instead of 100); azure_core sleeps an hour's though the total
/// is a minute; others drop the hint with the error.
#[test]
fn azure_a_retry_after_beyond_the_deadline_stops_at_once_with_the_hint_in_the_error() {
    let timer = VirtualTimer::new();
    let call = Call::retry(policy(8, 60 * SECOND, SECOND), timer.clone()).classify(|_: &&str| busy(3_600 * SECOND));
    let error = call.call(down).unwrap_err();
    assert_eq!((error.why, error.attempts, timer.elapsed()), (StopReason::Deadline, 1, Duration::ZERO));
    assert_eq!(error.failure.unwrap().retry_after, Some(3_600 * SECOND));
}

/// backoff (#39, xmr-btc-swap#305) counts from the policy's construction, so that a long-lived one never retries;
/// azure_core from the first answer.
#[test]
fn backoff_time_counts_from_the_call_and_not_from_the_policy_or_the_first_answer() {
    let timer = VirtualTimer::new();
    let policy = policy(2, 20 * SECOND, SECOND);
    let call = Call::retry(&policy, timer.clone());
    timer.advance(3_600 * SECOND);
    let error = call.call(down).unwrap_err();
    assert_eq!((error.why, error.attempts), (StopReason::Attempts, 2), "an hour before the call counts for nothing");
    let (began, error) = failing(&policy, 19 * SECOND);
    assert_eq!((began.len(), error.why), (1, StopReason::Deadline), "the first attempt's time counts");
}

/// backoff (#42), google-cloud-gax (#2307) and tenacity (#423) slept past the deadline; retry-policies retries at +3600
/// s of 10.
#[test]
fn retry_policies_no_wait_leads_past_the_deadline() {
    let (began, error) = failing(&policy(9, 10 * SECOND, 3_600 * SECOND), Duration::ZERO);
    assert_eq!((began.len(), error.elapsed, error.why), (1, Duration::ZERO, StopReason::Deadline));
}

/// google-cloud-gax computes what is left before the backoff and hands it out after: 10 s of a deadline of 10 s, 4 s
/// after the start.
#[test]
fn gax_what_is_left_is_computed_after_the_wait() {
    let (timer, mut left) = (VirtualTimer::new(), Vec::new());
    let call = Call::retry(policy(3, 10 * SECOND, 4 * SECOND), timer);
    let _ = call.call_with(|attempt| {
        left.push((attempt.left.as_secs(), attempt.limit.as_secs()));
        down()
    });
    assert_eq!(left, [(10, 10), (6, 6), (2, 2)]);
}

/// google-cloud-gax does not count throttled attempts, so that an attempt limit alone never ends: 24 hours with one
/// attempt.
#[test]
fn gax_throttled_attempts_count() {
    let timer = VirtualTimer::new();
    let call = Call::retry(policy(3, Duration::MAX, SECOND), timer.clone()).classify(|_: &&str| Class::Throttled);
    let error = call.call(down).unwrap_err();
    assert_eq!((error.why, error.attempts, timer.elapsed()), (StopReason::Attempts, 3, 2 * SECOND));
}

/// retry truncates below a millisecond to zero: a hot loop. reliakit's blocking `retry()` never sleeps at all.
#[test]
fn retry_delays_below_a_millisecond_are_slept() {
    let half = Duration::from_micros(500);
    let (began, _) = failing(&policy(4, SECOND, half), Duration::ZERO);
    assert_eq!(began, [0, 1, 2, 3].map(|n| n * half));
}

/// again's 32-bit arithmetic overflows and ends the retries in silence; azure_core's exponent panics at the 57th.
#[test]
fn again_thousands_of_attempts_are_all_made() {
    let doubling = BackoffPolicy::new(Growth::doubling(Duration::from_millis(1)), SECOND, Jitter::None).unwrap();
    let policy = RetryPolicy::new(u16::MAX, Duration::MAX, SECOND, doubling).unwrap();
    let (began, error) = failing(&policy, Duration::ZERO);
    assert_eq!((began.len(), error.attempts, error.why), (65_535, 65_535, StopReason::Attempts));
}

/// apalis makes one more than it says; restate had to explain what its number means in every SDK; temporal's zero is
/// "for ever".
#[test]
fn apalis_the_attempts_are_attempts_and_the_first_is_one() {
    for attempts in [1, 2, 5] {
        assert_eq!(failing(&policy(attempts, 60 * SECOND, SECOND), Duration::ZERO).0.len(), usize::from(attempts));
    }
    assert!(RetryPolicy::new(0, SECOND, SECOND, fixed(SECOND)).is_err());
}

/// Every backoff that one of tower's makers makes draws the same jitter, so the calls of one process come back in step.
#[test]
fn tower_calls_of_one_policy_do_not_come_back_in_step() {
    let spread = BackoffPolicy::new(Growth::Fixed(SECOND), SECOND, Jitter::Full).unwrap();
    let policy = RetryPolicy::new(2, 60 * SECOND, SECOND, spread).unwrap();
    let times: std::collections::BTreeSet<_> = (0..20).map(|_| failing(&policy, Duration::ZERO).0[1]).collect();
    assert!(times.len() > 15, "{times:?}");
}

/// reqwest's own retries look at their scope only from the second retry on.
#[test]
fn reqwest_what_is_not_to_be_retried_is_not_retried_once() {
    let mut asked = 0;
    let call = Call::retry(policy(5, 60 * SECOND, SECOND), VirtualTimer::new()).when(|_: &&str| false);
    let error = call.call(|| {
        asked += 1;
        down()
    });
    assert_eq!((asked, error.unwrap_err().why), (1, StopReason::Refused));
}

/// reqwest-retry and azure_core (#2190) repeat any method, a POST that may have run included.
#[test]
fn reqwest_retry_what_may_have_run_is_repeated_only_if_that_is_safe() {
    for (certainty, attempts) in
        [(Certainty::NotExecuted, 3), (Certainty::MayHaveExecuted, 1), (Certainty::Executed, 1)]
    {
        let call = Call::retry(policy(3, 60 * SECOND, SECOND), VirtualTimer::new()).repeatable(false);
        let error = call.classify(|_: &&str| Failure::new(Class::Transient, certainty)).call(down).unwrap_err();
        assert_eq!(error.attempts, attempts, "{certainty:?}");
        assert_eq!(error.why == StopReason::Ambiguous, attempts == 1);
    }
}

/// reqwest-retry's strategy and policy do not see each other (#146), so no `Retry-After` can reach the wait: four POSTs
/// in 13 ms.
#[test]
#[expect(clippy::result_large_err, reason = "the whole answer, as an HTTP client gives it")]
fn reqwest_retry_an_answers_retry_after_reaches_the_wait() {
    let (timer, mut began) = (VirtualTimer::new(), Vec::new());
    let call = Call::retry(policy(3, 300 * SECOND, SECOND), timer.clone()).classify(http_response::<&str>);
    let error = call.call(|| {
        began.push(timer.elapsed().as_secs());
        let mut busy = Response::new("busy");
        *busy.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        *busy.headers_mut() = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static("30"))]);
        Err::<(), _>(busy)
    });
    assert_eq!(began, [0, 30, 60]);
    assert_eq!(*error.unwrap_err().into_cause().unwrap().body(), "busy", "the last answer is kept");
}

/// stripe-node makes the key once for all attempts; akash-network/console (#3449) paid for making a new one.
#[test]
fn akash_every_attempt_has_the_same_key() {
    let key = Key::new("order-42").unwrap();
    let call = Call::retry(policy(4, 60 * SECOND, SECOND), VirtualTimer::new()).key(&key);
    let mut numbers = Vec::new();
    let _ = call.call_with(|attempt| {
        numbers.push(attempt.number);
        assert_eq!(attempt.key, Some(&key));
        down()
    });
    assert_eq!(numbers, [1, 2, 3, 4]);
}

/// A call that times out is all that some report; the error that made it retry is lost.
#[test]
fn backon_a_time_out_at_the_end_does_not_hide_the_last_error() {
    let attempts = Cell::new(0);
    let call = Call::retry(policy(2, 60 * SECOND, SECOND), VirtualTimer::new());
    let error = smol::block_on(call.run(|| async {
        attempts.set(attempts.get() + 1);
        if attempts.get() == 2 {
            pending::<()>().await;
        }
        down()
    }));
    let error = error.unwrap_err();
    assert_eq!(error.to_string(), "all attempts are used up (2 attempts in 11s; the last timed out)");
    assert_eq!((error.cause, error.failure.unwrap().class), (Some("down"), Class::TimedOut));
    assert_eq!((error.why, error.elapsed), (StopReason::Attempts, 11 * SECOND));
}

/// execution-policy loses the probe of a half-open breaker when what stands behind it (budget, limiter) refuses the
/// attempt: 20 of 20 rejected from then on.
#[test]
fn execution_policy_who_is_refused_behind_the_breaker_keeps_no_probe() {
    let timer = VirtualTimer::new();
    let (shared, empty) = (breaker(&timer), budget(&timer, BudgetPolicy::new(1).unwrap().with_capacity(1, 0).unwrap()));
    let call = Call::retry(policy(9, 60 * SECOND, 10 * SECOND), timer.clone()).breaker(&shared).budget(&empty);
    assert_eq!(call.call(down).unwrap_err().why, StopReason::Budget);
    assert!(shared.call(|| Ok::<_, ()>(())).is_ok(), "the probe's place is free");
    assert_eq!(shared.state(), BreakerState::Closed);

    let (shared, paced) = (opened(&timer), limiter(&timer, 1, 3_600 * SECOND));
    paced.try_acquire().unwrap();
    timer.advance(10 * SECOND);
    let call = Call::retry(policy(9, 60 * SECOND, SECOND), timer).breaker(&shared).limiter(&paced);
    assert!(matches!(call.call(|| Ok::<_, ()>(())).unwrap_err().why, StopReason::RateLimited { .. }));
    assert!(shared.call(|| Ok::<_, ()>(())).is_ok());
}

/// resilience4j (#593, #1444), failsafe (#377), cockatiel (#36): whether a breaker's refusal burns attempts and a
/// limiter's places is up to how the user stacked them.
#[test]
fn resilience4j_a_breakers_refusal_burns_no_attempt_and_no_place() {
    let timer = VirtualTimer::new();
    let (shared, paced) = (opened(&timer), limiter(&timer, 1, 3_600 * SECOND));
    for _ in 0..100 {
        let call = Call::retry(policy(1, 60 * SECOND, SECOND), timer.clone()).breaker(&shared).limiter(&paced);
        let error = call.when_open(WhenOpen::Refuse).call(|| Ok::<_, ()>(())).unwrap_err();
        assert_eq!(error.attempts, 0);
    }
    assert!(paced.try_acquire().is_ok());
}

/// smithy-rs (#4632): an adaptive limiter deducts what it then refuses, and never recovers.
#[test]
fn smithy_a_wait_that_is_refused_takes_nothing() {
    let timer = VirtualTimer::new();
    let paced = limiter(&timer, 1, 60 * SECOND);
    paced.try_acquire().unwrap();
    for _ in 0..1_000 {
        let error = Call::retry(policy(1, SECOND, SECOND), timer.clone()).limiter(&paced).call(|| Ok::<_, ()>(()));
        assert_eq!(error.unwrap_err().why, StopReason::RateLimited { retry_in: 60 * SECOND });
    }
    timer.advance(60 * SECOND);
    assert!(paced.try_acquire().is_ok());
}

/// aws-smithy-runtime learnt that callers who ask again at once make a hot loop of an empty budget, and sleeps before
/// it says no.
#[test]
fn smithy_an_empty_budget_pauses_before_it_says_no() {
    let timer = VirtualTimer::new();
    let empty = budget(&timer, BudgetPolicy::new(1).unwrap().with_capacity(1, 0).unwrap());
    let call = Call::retry(policy(9, 60 * SECOND, 3 * SECOND), timer.clone()).budget(&empty);
    let error = call.call(down).unwrap_err();
    assert_eq!((error.why, error.attempts, timer.elapsed()), (StopReason::Budget, 1, 3 * SECOND));
}

/// Polly (#1979) and Hystrix (#1621): a breaker whose probe panics or is dropped stays half-open for ever.
#[test]
fn polly_an_attempt_that_panics_frees_its_probe() {
    let timer = VirtualTimer::new();
    let shared = opened(&timer);
    timer.advance(10 * SECOND);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let call = Call::retry(policy(9, 60 * SECOND, SECOND), timer.clone()).breaker(&shared);
        call.call(|| panic!("in the call") as Result<(), ()>)
    }));
    assert!(panicked.is_err());
    shared.acquire().unwrap().settle(Health::Healthy);
    assert_eq!(shared.state(), BreakerState::Closed);
}

/// backon has no `#[must_use]`: who ignores what a builder returns has silently set nothing (kube#1896).
#[test]
#[expect(unused_must_use, reason = "that the compiler warns of it is what is tested")]
fn kube_an_option_that_is_dropped_is_warned_of() {
    let call = Call::retry(policy(1, SECOND, SECOND), VirtualTimer::new());
    call.repeatable(false);
}

fn asking() -> PollPolicy {
    PollPolicy::new(fixed(5 * SECOND), 10, 60 * SECOND, policy(3, 10 * SECOND, SECOND)).unwrap()
}

/// azure_core's poller ends at a poll's error; so do hypit (#336), dwave (#324), debugg-ai (#5) and others: the job
/// ran, and nobody looks any more.
#[test]
fn azure_a_failing_poll_never_ends_the_asking() {
    let timer = VirtualTimer::new();
    let ready = Call::poll_until(asking(), timer.clone()).call_with(|attempt| match attempt.number {
        1..=7 => Err("down"),
        _ => Ok(Polled::Ready(attempt.number)),
    });
    assert_eq!(ready.unwrap(), 8);
    // Two retries a second apart, then the schedule's pace; the policy's three attempts and ten seconds end nothing.
    assert_eq!(timer.elapsed(), (5 + 1 + 1 + 5 * 5) * SECOND);
}

/// google-cloud-gax counts on a streak that good answers do not end.
#[test]
fn gax_a_good_answer_ends_the_streak_of_failures() {
    let (timer, mut began) = (VirtualTimer::new(), Vec::new());
    let _ = Call::poll_until(asking(), timer.clone()).call_with(|attempt| {
        began.push(timer.elapsed().as_secs());
        match attempt.number {
            3 | 6 => Polled::Pending,
            10 => Polled::Ready(()),
            _ => Polled::Failed("down"),
        }
    });
    assert_eq!(began, [5, 6, 7, 12, 13, 14, 19, 20, 21, 26]);
}

/// google-cloud-gax (#1935) and azure_core (#2758) cannot take up a poll that ran out of time; a person's job is then
/// lost.
#[test]
fn azure_asking_that_ran_out_of_time_goes_on() {
    let timer = VirtualTimer::new();
    let error = Call::poll_until(asking(), timer.clone()).call(|| Polled::<(), &str>::Pending).unwrap_err();
    assert_eq!((error.why, error.polls, error.elapsed), (StopReason::Attempts, 10, 50 * SECOND));
    let state = error.resume().unwrap();
    let again = Call::poll_until(asking(), timer.clone())
        .resume(state)
        .call_with(|attempt| Polled::<_, &str>::Ready(attempt.number));
    assert_eq!((again.unwrap(), timer.elapsed()), (11, 55 * SECOND), "by the schedule, and numbered from there");
    let again = Call::poll_until(asking(), VirtualTimer::new()).resume(state);
    let error = again.call(|| Polled::<(), &str>::Pending).unwrap_err();
    assert_eq!(error.to_string(), "all polls are used up (10 polls in 50s)", "of its own");
    assert_eq!(error.resume().unwrap().polls, 20);

    let call = Call::poll_until(asking(), timer).when(|_: &&str| false);
    assert_eq!(call.call(|| Err::<Polled<(), _>, _>("gone")).unwrap_err().resume(), None, "what is refused stays so");
}

/// azure_core has no total limit for polling, and a poll's `Retry-After` is heard by few.
#[test]
fn azure_a_polls_retry_after_is_heard_and_the_deadline_kept() {
    let (timer, mut began) = (VirtualTimer::new(), Vec::new());
    let error = Call::poll_until(asking(), timer.clone()).call(|| {
        began.push(timer.elapsed().as_secs());
        Polled::<(), &str>::PendingFor(20 * SECOND)
    });
    let error = error.unwrap_err();
    assert_eq!((began, error.why), (vec![5, 25, 45], StopReason::Deadline));
    assert_eq!(error.resume().unwrap().wait, 20 * SECOND, "and what it asked for is owed");
}

/// tower and reqwest-retry give the last attempt's error alone: a connection that was refused, after a time-out of a
/// request that ran.
#[test]
fn tower_a_refusal_after_an_attempt_that_may_have_run_is_no_proof() {
    use Certainty::{MayHaveExecuted, NotExecuted};
    for (certainties, expected) in [
        ([MayHaveExecuted, NotExecuted], MayHaveExecuted),
        ([NotExecuted, MayHaveExecuted], MayHaveExecuted),
        ([NotExecuted, NotExecuted], NotExecuted),
    ] {
        let mut attempts = certainties.into_iter();
        let error = Call::retry(policy(2, 60 * SECOND, SECOND), VirtualTimer::new())
            .classify(|certainty: &Certainty| Failure::new(Class::Transient, *certainty))
            .call(|| Err::<(), _>(attempts.next().unwrap()))
            .unwrap_err();
        assert_eq!(error.failure.map(|failure| failure.certainty), Some(expected), "{certainties:?}");
    }
}
