//! Behind what calls share: a breaker, a budget, a limiter.

use std::cell::Cell;
use std::future::pending;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use proptest::prelude::*;
use steadfast_core::Seed;
use steadfast_core::breaker::{self, BreakerPolicy, BreakerState, Health, Probes};
use steadfast_core::budget::{self, BudgetPolicy};
use steadfast_core::gate::WhenOpen;
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::{self, RatePolicy};
use steadfast_core::retry::Class;
use steadfast_driver::{AsyncTimer, Breaker, Call, Polled, RateLimiter, RetryBudget, StopReason, Timer, VirtualTimer};

use crate::{SECOND, fixed, policy};

/// Opens after one failure, for ten seconds; one probe at a time, whose good end closes it.
pub(crate) fn quick() -> BreakerPolicy {
    let probes = Probes { at_once: 1, successes: 1, failures: 1, lease: 60 * SECOND };
    BreakerPolicy::consecutive(1).unwrap().with_open(fixed(10 * SECOND)).unwrap().with_probes(probes).unwrap()
}

pub(crate) fn breaker(timer: &VirtualTimer) -> Breaker {
    let machine = breaker::Breaker::new(&quick(), Seed::new(1));
    Breaker::with_clock(quick(), machine, timer.clock())
}

pub(crate) fn opened(timer: &VirtualTimer) -> Breaker {
    let breaker = breaker(timer);
    breaker.acquire().unwrap().settle(Health::Failing);
    assert!(matches!(breaker.state(), BreakerState::Open { .. }));
    breaker
}

pub(crate) fn limiter(timer: &VirtualTimer, count: u32, per: Duration) -> RateLimiter {
    RateLimiter::with_clock(RatePolicy::new(count, per).unwrap(), rate_limit::RateLimiter::new(), timer.clock())
}

pub(crate) fn budget(timer: &VirtualTimer, policy: BudgetPolicy) -> RetryBudget {
    let machine = budget::RetryBudget::new(&policy);
    RetryBudget::with_clock(policy, machine, timer.clock())
}

fn ok() -> Result<(), &'static str> {
    Ok(())
}

#[test]
fn an_open_breaker_is_waited_for_within_the_deadline_and_costs_no_attempt() {
    let timer = VirtualTimer::new();
    let breaker = opened(&timer);
    let done = Call::retry(policy(1, 60 * SECOND, SECOND), timer.clone()).breaker(&breaker).call(ok);
    assert!(done.is_ok());
    assert_eq!((timer.elapsed(), breaker.state()), (10 * SECOND, BreakerState::Closed));

    let breaker = opened(&timer);
    let error = Call::retry(policy(5, 10 * SECOND, SECOND), timer).breaker(&breaker).call(ok).unwrap_err();
    assert_eq!(error.why, StopReason::BreakerOpen { retry_in: 10 * SECOND });
    assert_eq!(
        (error.attempts, error.elapsed, error.cause),
        (0, Duration::ZERO, None),
        "at once: it could not be in time"
    );
}

#[test]
fn who_does_not_wait_for_a_breaker_is_told_at_once() {
    let timer = VirtualTimer::new();
    let breaker = opened(&timer);
    let call = Call::retry(policy(5, 60 * SECOND, SECOND), timer.clone()).breaker(&breaker);
    let error = call.when_open(WhenOpen::Refuse).call(ok).unwrap_err();
    assert_eq!((error.why, timer.elapsed()), (StopReason::BreakerOpen { retry_in: 10 * SECOND }, Duration::ZERO));

    breaker.isolate();
    let error = Call::retry(policy(5, Duration::MAX, SECOND), timer).breaker(&breaker).call(ok).unwrap_err();
    assert_eq!(error.why, StopReason::BreakerOpen { retry_in: Duration::MAX }, "nobody waits for ever");
}

#[test]
fn a_breaker_that_opens_under_way_holds_the_retries_and_keeps_the_cause() {
    let timer = VirtualTimer::new();
    let breaker = breaker(&timer);
    let error =
        Call::retry(policy(9, 25 * SECOND, SECOND), timer).breaker(&breaker).call(|| Err::<(), _>("down")).unwrap_err();
    // At 0, 10 and 20 s; the next probe would be at 30 s.
    assert_eq!((error.attempts, error.cause), (3, Some("down")));
    assert!(matches!(error.why, StopReason::BreakerOpen { .. }), "{error:?}");
}

/// The lease of the probe that is out ends in a minute, but it may end well any moment.
#[test]
fn while_a_probe_is_out_the_breaker_is_asked_again_each_second() {
    struct Settles<'b>(VirtualTimer, Cell<Option<steadfast_driver::Permit<'b>>>);
    impl Timer for Settles<'_> {
        type Moment = Duration;
        fn now(&self) -> Duration {
            self.0.now()
        }
        fn since(&self, moment: Duration) -> Duration {
            self.0.since(moment)
        }
    }
    impl steadfast_driver::BlockingTimer for Settles<'_> {
        fn sleep(&self, span: Duration) {
            self.0.advance(span);
            if self.0.elapsed() >= 13 * SECOND
                && let Some(probe) = self.1.take()
            {
                probe.settle(Health::Healthy);
            }
        }
    }
    let timer = VirtualTimer::new();
    let breaker = opened(&timer);
    timer.advance(10 * SECOND);
    let probe = breaker.acquire().unwrap();
    let settles = Settles(timer.clone(), Cell::new(Some(probe)));
    let done = Call::retry(policy(1, 20 * SECOND, SECOND), settles).breaker(&breaker).call(ok);
    assert!(done.is_ok() && timer.elapsed() == 13 * SECOND, "{done:?} at {:?}", timer.elapsed());
}

/// A place whose time has come while the breaker is open: nothing leaves by it, so another may.
#[test]
fn a_breaker_that_refuses_burns_no_place_that_was_waited_for() {
    /// Wakes a little late, as every timer does, and the breaker opens meanwhile.
    struct Late<'b>(VirtualTimer, &'b Breaker, Cell<bool>);
    impl Timer for Late<'_> {
        type Moment = Duration;
        fn now(&self) -> Duration {
            self.0.now()
        }
        fn since(&self, moment: Duration) -> Duration {
            self.0.since(moment)
        }
    }
    impl steadfast_driver::BlockingTimer for Late<'_> {
        fn sleep(&self, span: Duration) {
            self.0.advance(span + Duration::from_millis(1));
            if !self.2.replace(true) {
                self.1.force_open(10 * SECOND);
            }
        }
    }
    let timer = VirtualTimer::new();
    let (breaker, limiter) = (breaker(&timer), limiter(&timer, 1, 60 * SECOND));
    limiter.try_acquire().unwrap();
    let late = Late(timer.clone(), &breaker, Cell::new(false));
    let done = Call::retry(policy(1, 100 * SECOND, SECOND), late).breaker(&breaker).limiter(&limiter).call(ok);
    assert!(done.is_ok(), "{done:?}");
    assert!(timer.elapsed() < 71 * SECOND, "{:?}: the limit's minute was over", timer.elapsed());
}

#[test]
fn what_a_poll_has_waited_is_not_owed_once_more() {
    let timer = VirtualTimer::new();
    let breaker = breaker(&timer);
    let asking = PollPolicy::new(fixed(60 * SECOND), 9, 300 * SECOND, policy(1, SECOND, SECOND)).unwrap();
    let call = || Call::poll_until(&asking, timer.clone()).breaker(&breaker).when_open(WhenOpen::Refuse);
    let error = call().call_with(|attempt| {
        if attempt.number == 1 {
            breaker.force_open(90 * SECOND);
        }
        Polled::<(), &str>::Pending
    });
    let error = error.unwrap_err();
    assert_eq!(error.why, StopReason::BreakerOpen { retry_in: 30 * SECOND });
    let state = error.resume().unwrap();
    assert_eq!((state.polls, state.wait, timer.elapsed()), (1, Duration::ZERO, 120 * SECOND));
}

#[test]
fn what_an_error_says_is_what_the_breaker_learns() {
    let timer = VirtualTimer::new();
    for (class, opens) in
        [(Class::Permanent, false), (Class::Throttled, false), (Class::Transient, true), (Class::TimedOut, true)]
    {
        let breaker = breaker(&timer);
        let call =
            Call::retry(policy(1, SECOND, SECOND), timer.clone()).breaker(&breaker).classify(|class: &Class| *class);
        assert!(call.call(|| Err::<(), _>(class)).is_err());
        assert_eq!(matches!(breaker.state(), BreakerState::Open { .. }), opens, "{class:?}");
    }
}

/// Who would come to its place with less than half of an attempt's time is told at once, and a retry that had as little
/// says nothing of the upstream if it is cut off.
#[test]
fn what_has_no_fair_chance_before_the_deadline_is_not_begun_or_opens_no_breaker() {
    for (deadline, begins) in [(15, true), (14, false)] {
        let timer = VirtualTimer::new();
        let limiter = limiter(&timer, 1, 10 * SECOND);
        limiter.try_acquire().unwrap();
        let call = Call::retry(policy(1, deadline * SECOND, SECOND), timer.clone()).limiter(&limiter).call(ok);
        let told = call.map_err(|error| (error.why, error.elapsed));
        let too_late = Err((StopReason::RateLimited { retry_in: 10 * SECOND }, Duration::ZERO));
        assert_eq!(told, if begins { Ok(()) } else { too_late }, "{deadline} s");
    }
    for (wait, opens) in [(15, true), (16, false)] {
        let timer = VirtualTimer::new();
        let (breaker, mut failures) = (breaker(&timer), [Class::Throttled, Class::TimedOut].into_iter());
        let call = Call::retry(policy(2, 20 * SECOND, wait * SECOND), timer.clone()).breaker(&breaker);
        let call = call.classify(|class: &Class| *class).call(|| Err::<(), _>(failures.next().unwrap()));
        assert_eq!(call.unwrap_err().attempts, 2);
        assert_eq!(matches!(breaker.state(), BreakerState::Open { .. }), opens, "{} s left", 20 - wait);
    }
}

#[test]
fn each_attempt_takes_its_place_in_the_limiters_line_and_waits_within_the_deadline() {
    let timer = VirtualTimer::new();
    let limiter = limiter(&timer, 1, 10 * SECOND);
    let mut began = Vec::new();
    let error = Call::retry(policy(9, 35 * SECOND, SECOND), timer.clone())
        .limiter(&limiter)
        .call(|| {
            began.push(timer.elapsed());
            Err::<(), _>("down")
        })
        .unwrap_err();
    assert_eq!(began, [0, 10, 20, 30].map(Duration::from_secs));
    assert_eq!(error.why, StopReason::RateLimited { retry_in: 9 * SECOND });
    assert_eq!(limiter.try_acquire().unwrap_err().retry_in, 9 * SECOND, "the place that was of no use was given back");
}

#[test]
fn a_budget_is_paid_by_retries_when_they_leave_and_gets_back_what_ends_well() {
    let timer = VirtualTimer::new();
    let shared = budget(&timer, BudgetPolicy::aws());
    let mut left = 2;
    let done = Call::retry(policy(5, 60 * SECOND, SECOND), timer.clone()).budget(&shared).call(|| {
        left -= 1;
        if left < 0 { ok() } else { Err("down") }
    });
    assert!(done.is_ok());
    assert_eq!(shared.tokens(), 500 - 14, "two retries, of which the good one is given back");

    let shared = budget(&timer, BudgetPolicy::new(2).unwrap());
    let call = Call::retry(policy(9, 60 * SECOND, SECOND), timer.clone()).budget(&shared);
    let error = call.call(|| Err::<(), _>("down")).unwrap_err();
    assert_eq!((error.why, error.attempts, error.elapsed), (StopReason::Budget, 3, 3 * SECOND), "after its pause");
    let first = Call::retry(policy(9, 60 * SECOND, SECOND), timer).budget(&shared).call(ok);
    assert!(first.is_ok(), "first attempts are not held back");
}

#[test]
fn polls_that_say_pending_never_touch_the_budget_and_without_one_failing_polls_go_on_slowly() {
    let timer = VirtualTimer::new();
    let shared = budget(&timer, BudgetPolicy::new(1).unwrap());
    let asking = PollPolicy::new(fixed(5 * SECOND), 100, 300 * SECOND, policy(9, 60 * SECOND, SECOND)).unwrap();
    let mut began = Vec::new();
    let error = Call::poll_until(&asking, timer.clone())
        .budget(&shared)
        .call_with(|attempt| {
            began.push(timer.elapsed().as_secs());
            match attempt.number {
                1..=3 => Polled::Pending,
                4..=6 => Polled::Failed("down"),
                _ => Polled::<(), _>::Pending,
            }
        })
        .unwrap_err();
    // The one retry at 21 s is paid; the next one, due at 22 s, is not, and waits for the schedule's slowest pace.
    assert_eq!(began[..8], [5, 10, 15, 20, 21, 27, 33, 38]);
    assert_eq!((error.why, error.cause), (StopReason::Deadline, None));
    assert_eq!(shared.tokens(), 0);
}

/// A timer that never wakes anybody.
#[derive(Clone, Debug)]
struct Asleep(VirtualTimer);

impl Timer for Asleep {
    type Moment = Duration;
    fn now(&self) -> Duration {
        self.0.now()
    }
    fn since(&self, moment: Duration) -> Duration {
        self.0.since(moment)
    }
}

impl AsyncTimer for Asleep {
    fn sleep(&self, _: Duration) -> impl Future<Output = ()> {
        pending()
    }
}

proptest! {
    /// I8, I17: a future that is dropped while it waits for a limiter, for a breaker, for its backoff or for an answer leaves nothing taken.
    #[test]
    fn i17_a_dropped_future_leaks_nothing(open: bool, limited: bool, fails: bool, answers: bool) {
        let timer = VirtualTimer::new();
        let breaker = if open { opened(&timer) } else { breaker(&timer) };
        let limiter = limiter(&timer, 1, 10 * SECOND);
        if limited {
            limiter.try_acquire().unwrap();
        }
        let budget = budget(&timer, BudgetPolicy::new(3).unwrap());
        for _ in 0..50 {
            let call = Call::retry(policy(5, 60 * SECOND, SECOND), Asleep(timer.clone()));
            let call = call.breaker(&breaker).limiter(&limiter).budget(&budget).classify(|_: &&str| Class::Throttled);
            let mut future = pin!(call.run(|| async {
                if !answers {
                    pending::<()>().await;
                }
                if fails { Err("busy") } else { Ok(()) }
            }));
            let _ = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        // At most the one place that an attempt which left had taken.
        prop_assert!(limiter.try_acquire().is_ok() || limiter.try_acquire().unwrap_err().retry_in <= 10 * SECOND);
        prop_assert_eq!(budget.tokens(), 3);
        timer.advance(20 * SECOND);
        if let Ok(permit) = breaker.acquire() {
            permit.settle(Health::Healthy);
        }
        prop_assert_eq!(breaker.state(), BreakerState::Closed);
    }
}

/// aws-smithy-runtime holds what a retry was charged in an object that all calls share: overlapping calls that all
/// succeed leak it dry after 123 pairs.
#[test]
fn aws_overlapping_calls_that_succeed_leak_no_tokens() {
    let timer = VirtualTimer::new();
    let shared = budget(&timer, BudgetPolicy::aws());
    let policy = policy(3, 60 * SECOND, Duration::ZERO);
    for _ in 0..1_000 {
        // Fails, and while it is being retried, another does the same.
        let done = Call::retry(&policy, timer.clone()).budget(&shared).call_with(|outer| {
            let inner = Call::retry(&policy, timer.clone()).budget(&shared);
            let inner = inner.call_with(|inner| if inner.number == 1 { Err("once") } else { ok() });
            assert!(inner.is_ok());
            if outer.number == 1 { Err("once") } else { ok() }
        });
        assert!(done.is_ok());
    }
    assert_eq!(shared.tokens(), 500);
}
