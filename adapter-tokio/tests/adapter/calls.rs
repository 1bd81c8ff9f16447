//! Any call on tokio: cut off in time, dropped without a trace, in virtual time.

use std::cell::Cell;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::{BreakerPolicy, BreakerState, Probes};
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_core::retry::{Class, RetryPolicy};
use steadfast_tokio::{Breaker, Polled, RateLimiter, RetryBudget, StopReason, poll_until, retry};
use tokio::task::yield_now;
use tokio::time::{Instant, advance, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn fixed(span: Duration) -> BackoffPolicy {
    BackoffPolicy::new(Growth::Fixed(span), span, Jitter::None).unwrap()
}

/// So many attempts of at most 10 s, within this deadline, with this wait between them.
fn policy(attempts: u16, deadline: Duration, wait: Duration) -> RetryPolicy {
    RetryPolicy::new(attempts, deadline, 10 * SECOND, fixed(wait)).unwrap()
}

/// tokio's timer wakes on the next millisecond.
fn about(passed: Duration, due: Duration) -> bool {
    (due..=due + Duration::from_millis(5)).contains(&passed)
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_cut_off_and_repeated() {
    let (start, attempts) = (Instant::now(), Cell::new(0));
    let done = retry(policy(3, 60 * SECOND, SECOND)).run(|| async {
        attempts.set(attempts.get() + 1);
        if attempts.get() < 3 {
            pending::<()>().await;
        }
        Ok::<_, &str>(attempts.get())
    });
    assert_eq!(done.await.unwrap(), 3);
    assert!(about(start.elapsed(), 22 * SECOND), "{:?}", start.elapsed());
}

/// backon and tokio-retry keep no deadline while an attempt hangs; Failsafe and gax hand out more than is left.
#[tokio::test(start_paused = true)]
async fn backon_the_deadline_ends_an_attempt_under_way() {
    let start = Instant::now();
    let error = retry(policy(9, 25 * SECOND, SECOND)).run(pending::<Result<(), &str>>).await.unwrap_err();
    assert_eq!((error.why, error.attempts, error.cause), (StopReason::Deadline, 3, None));
    assert_eq!(error.failure.unwrap().class, Class::TimedOut);
    assert!(about(start.elapsed(), 25 * SECOND) && about(error.elapsed, 25 * SECOND), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_with_the_time_out_counts() {
    let done = retry(policy(1, 60 * SECOND, SECOND)).run(|| async {
        sleep(10 * SECOND).await;
        Ok::<_, &str>("in time")
    });
    assert_eq!(done.await.unwrap(), "in time");
}

/// Peers' zero sleeps wait for the timer's next millisecond. Without a timer in the runtime there is none to touch.
#[test]
fn tower_zero_delays_touch_no_timer() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(async {
        let mut limited = 0;
        retry(policy(1_000, 60 * SECOND, Duration::ZERO))
            .run(|| {
                limited += 1;
                async { Err::<(), _>("down") }
            })
            .await
            .unwrap_err()
    });
    assert_eq!((error.why, error.attempts), (StopReason::Attempts, 1_000));
}

#[tokio::test(start_paused = true)]
async fn attempts_without_delay_leave_others_their_turn() {
    let (others, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (turns, stopped) = (Arc::clone(&others), Arc::clone(&stop));
    let task = tokio::spawn(async move {
        while stopped.load(Ordering::Relaxed) == 0 {
            turns.fetch_add(1, Ordering::Relaxed);
            yield_now().await;
        }
    });
    let _ = retry(policy(1_000, 60 * SECOND, Duration::ZERO)).run(|| async { Err::<(), _>("down") }).await;
    stop.store(1, Ordering::Relaxed);
    task.await.unwrap();
    assert!(others.load(Ordering::Relaxed) >= 30, "{others:?}");
}

/// tower-resilience's hedge (#393) kept what had lost running; Failsafe (#52) goes on with retries after a cancel.
#[tokio::test(start_paused = true)]
async fn failsafe_a_dropped_call_makes_no_further_attempt() {
    let attempts = AtomicU32::new(0);
    let call = retry(policy(9, 60 * SECOND, SECOND)).run(|| async {
        attempts.fetch_add(1, Ordering::Relaxed);
        Err::<(), _>("down")
    });
    assert!(timeout(Duration::from_millis(2_500), call).await.is_err());
    sleep(60 * SECOND).await;
    assert_eq!(attempts.load(Ordering::Relaxed), 3);
}

/// An attempt's connection is not held over the wait for the next.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_has_ended_is_dropped_before_the_wait() {
    let held = Arc::new(());
    let (inside, seen) = (Arc::clone(&held), Arc::clone(&held));
    let call = tokio::spawn(async move {
        retry(policy(2, 60 * SECOND, 30 * SECOND))
            .run(|| {
                let connection = Arc::clone(&inside);
                async move {
                    let _connection = connection;
                    yield_now().await;
                    Err::<(), _>("down")
                }
            })
            .await
    });
    sleep(10 * SECOND).await;
    assert_eq!(Arc::strong_count(&seen), 3, "held here, seen, and the closure's own");
    assert!(call.await.unwrap().is_err());
}

/// I8, I17: Polly (#1979), resilience4j (#1681), execution-policy and seven others are wedged by it.
#[tokio::test(start_paused = true)]
async fn polly_a_dropped_attempt_frees_its_probe_and_its_place() {
    let probes = Probes { at_once: 1, successes: 1, failures: 1, lease: 3_600 * SECOND };
    let open =
        BreakerPolicy::consecutive(1).unwrap().with_open(fixed(10 * SECOND)).unwrap().with_probes(probes).unwrap();
    let breaker = Breaker::new(open);
    let limiter = RateLimiter::new(RatePolicy::new(1, 20 * SECOND).unwrap());
    let budget = RetryBudget::new(BudgetPolicy::new(5).unwrap());
    let _ = breaker.call(|| Err::<(), _>("down"));
    for after in [5, 15, 25, 35, 45] {
        // Dropped while it waits for the breaker, for its answer, for the limiter, and so on.
        let call = retry(policy(9, 600 * SECOND, SECOND)).breaker(&breaker).limiter(&limiter).budget(&budget);
        assert!(timeout(Duration::from_secs(after), call.run(pending::<Result<(), &str>>)).await.is_err());
    }
    advance(60 * SECOND).await;
    let call = retry(policy(1, SECOND, SECOND)).breaker(&breaker).limiter(&limiter).budget(&budget);
    assert!(call.run(|| async { Ok::<_, &str>(()) }).await.is_ok());
    assert_eq!(breaker.state(), BreakerState::Closed);
}

/// google-cloud-gax's poller takes its operation's name out before it awaits: a poll that times out leaves it with
/// nothing, for ever.
#[tokio::test(start_paused = true)]
async fn gax_a_poll_that_was_dropped_can_be_made_again() {
    let policy = PollPolicy::new(fixed(5 * SECOND), 10, 60 * SECOND, policy(3, 10 * SECOND, SECOND)).unwrap();
    let asked = Cell::new(0);
    let ask = || async {
        asked.set(asked.get() + 1);
        if asked.get() == 1 {
            pending::<()>().await;
        }
        Polled::<_, &str>::Ready(asked.get())
    };
    assert!(timeout(6 * SECOND, poll_until(&policy).run(ask)).await.is_err());
    assert_eq!(poll_until(&policy).run(ask).await.unwrap(), 2);
}

/// A poll that hangs is cut off and repeated, and the deadline ends one that is under way.
#[tokio::test(start_paused = true)]
async fn a_poll_that_hangs_is_a_failure_of_that_poll() {
    let policy = PollPolicy::new(fixed(5 * SECOND), 10, 60 * SECOND, policy(3, 10 * SECOND, SECOND)).unwrap();
    let start = Instant::now();
    let error = poll_until(&policy).run(pending::<Polled<(), &str>>).await.unwrap_err();
    assert_eq!((error.why, error.polls, error.failure.unwrap().class), (StopReason::Deadline, 5, Class::TimedOut));
    assert!(about(start.elapsed(), 60 * SECOND), "{:?}", start.elapsed());
    assert!(error.resume().is_some());
}

/// What a runtime's tasks can be given: borrowed handles and policies included.
#[tokio::test(start_paused = true)]
async fn calls_can_be_spawned() {
    struct Upstream {
        policy: RetryPolicy,
        breaker: Breaker,
    }
    impl Upstream {
        async fn get(&self, path: &str) -> Result<usize, String> {
            yield_now().await;
            Ok(path.len())
        }

        async fn fetch(&self, path: &str) -> Result<usize, String> {
            retry(&self.policy)
                .breaker(&self.breaker)
                .when(|error: &String| error != "gone")
                .run_with(|attempt| async move {
                    let _ = attempt.number;
                    self.get(path).await
                })
                .await
                .map_err(|error| error.into_cause_or_else(|why| why.to_string()))
        }
    }
    let upstream =
        Arc::new(Upstream { policy: RetryPolicy::default(), breaker: Breaker::new(BreakerPolicy::default()) });
    let shared = Arc::clone(&upstream);
    assert_eq!(tokio::spawn(async move { shared.fetch("/a").await }).await.unwrap(), Ok(2));
    let direct = tokio::spawn(retry(RetryPolicy::default()).run(|| async { Ok::<_, String>(1) }));
    assert_eq!(direct.await.unwrap().unwrap(), 1);
    let polled = tokio::spawn(poll_until(PollPolicy::default()).run(async || Ok::<_, String>(Polled::Ready(1))));
    assert_eq!(polled.await.unwrap().unwrap(), 1);
}

/// Twice as many calls as the limiter lets through. Their deadline is a total, of which the line takes its part: it must
/// not take all, or each call would go only to be cut off, and the breaker would open for an upstream that is well.
#[tokio::test(start_paused = true)]
async fn a_line_longer_than_the_deadline_neither_wastes_the_calls_nor_opens_the_breaker() {
    let (limiter, breaker) =
        (RateLimiter::new(RatePolicy::new(10, SECOND).unwrap()), Breaker::new(BreakerPolicy::default()));
    let policy = RetryPolicy::default().with_deadline(5 * SECOND).unwrap();
    let upstream = Arc::new(AtomicU32::new(0));
    for minute in 0..10 {
        upstream.store(0, Ordering::Relaxed);
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..60 * 20 {
            let (limiter, breaker, policy, upstream) =
                (limiter.clone(), breaker.clone(), policy.clone(), Arc::clone(&upstream));
            calls.spawn(async move {
                let call = retry(policy).limiter(&limiter).breaker(&breaker);
                let call = call.run(|| {
                    upstream.fetch_add(1, Ordering::Relaxed);
                    async {
                        sleep(Duration::from_millis(300)).await;
                        Ok::<_, std::io::Error>(())
                    }
                });
                call.await.is_ok()
            });
            sleep(SECOND / 20).await;
        }
        let good = calls.join_all().await.into_iter().filter(|it| *it).count() as u32;
        let sent = upstream.load(Ordering::Relaxed);
        assert!((570..=640).contains(&good), "{good} of 600, {sent} sent in minute {minute}: {breaker:?}");
        assert_eq!((sent, breaker.state()), (good, BreakerState::Closed));
    }
}
