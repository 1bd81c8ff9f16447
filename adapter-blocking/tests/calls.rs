//! Any call on a thread. What is decided is tested in the driver; here, what is the adapter's: the clock and the sleep.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use steadfast_blocking::{Breaker, Polled, RetryBudget, StopReason, SystemTimer, VirtualTimer, poll_until, retry};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_driver::{BlockingTimer, Timer};

fn policy(attempts: u16, wait: Duration) -> RetryPolicy {
    let backoff = BackoffPolicy::new(Growth::Fixed(wait), wait, Jitter::None).unwrap();
    RetryPolicy::new(attempts, Duration::from_secs(60), Duration::from_secs(10), backoff).unwrap()
}

/// The one test that sleeps, since that is what it tests: 2 ms.
#[test]
fn the_systems_timer_sleeps_and_keeps_the_systems_pace() {
    let (timer, system) = (SystemTimer::default(), Instant::now());
    let start = timer.now();
    timer.sleep(Duration::from_millis(2));
    let (passed, truly) = (timer.since(start), system.elapsed());
    assert!(
        passed >= Duration::from_micros(1_900) && passed <= truly + Duration::from_millis(1),
        "{passed:?} of {truly:?}"
    );
}

/// reliakit's `retry()` never sleeps; ours does, by whatever timer it is given.
#[test]
fn reliakit_the_waits_are_slept_by_the_timer() {
    let timer = VirtualTimer::new();
    let error =
        retry(policy(4, Duration::from_secs(3))).timer(timer.clone()).call(|| Err::<(), _>("down")).unwrap_err();
    assert_eq!((error.why, error.attempts, timer.elapsed()), (StopReason::Attempts, 4, Duration::from_secs(9)));
}

#[test]
fn a_blocking_call_goes_through_every_option() {
    let (breaker, budget) = (Breaker::new(BreakerPolicy::default()), RetryBudget::new(BudgetPolicy::default()));
    let (mut left, mut told) = (2, Vec::new());
    let done = retry(policy(3, Duration::ZERO))
        .breaker(&breaker)
        .budget(&budget)
        .when(|error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused)
        .notify(|retrying: steadfast_blocking::Retrying<'_, io::Error>| told.push(retrying.attempt))
        .call(|| {
            left -= 1;
            if left < 0 { Ok(7) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
        });
    assert_eq!((done.unwrap(), told), (7, vec![1, 2]));
    assert_eq!(budget.tokens(), 98);
}

#[test]
fn what_is_left_can_be_given_to_a_socket() {
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    let error =
        retry(policy(2, Duration::ZERO)).call_with(|attempt| TcpStream::connect_timeout(&closed, attempt.limit));
    assert_eq!(error.unwrap_err().attempts, 2);
}

#[test]
fn polls_block_until_it_is_ready() {
    let timer = VirtualTimer::new();
    let ready = poll_until(PollPolicy::default()).timer(timer.clone()).call_with(|attempt| match attempt.number {
        1 => Ok(Polled::Pending),
        2 => Err("down"),
        number => Ok(Polled::Ready(number)),
    });
    assert_eq!(ready.unwrap(), 3);
    assert!(timer.elapsed() >= Duration::from_secs(9));
}
