//! Handles that threads share decide as if one owner had them alone.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use steadfast_core::breaker::{self, BreakerPolicy, BreakerState, Health, SlowCalls, Window};
use steadfast_core::rate_limit::{self, RatePolicy};
use steadfast_core::{Seed, Timestamp};
use steadfast_driver::{Breaker, CallError, Leases, RateLimiter, SharedClock};

/// A clock that stands still until it is moved.
#[derive(Clone, Default)]
struct Hands(Arc<AtomicU64>);

impl Hands {
    fn clock(&self) -> SharedClock {
        let hands = self.clone();
        SharedClock::following(move || Duration::from_nanos(hands.0.load(SeqCst)))
    }

    fn advance(&self, span: Duration) {
        self.0.fetch_add(span.as_nanos() as u64, SeqCst);
    }
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[derive(Clone, Debug)]
enum Step {
    Advance(u64),
    /// So many calls, one after the other.
    Calls(u32, Health),
    Begin,
    /// One of those that have begun.
    End(usize, Health),
    Snapshot,
    Reset,
}

fn step() -> BoxedStrategy<Step> {
    let health =
        prop_oneof![8 => Just(Health::Healthy), 6 => Just(Health::Failing), 1 => Just(Health::Ignored)].boxed();
    prop_oneof![
        4 => (0..30_u64).prop_map(Step::Advance),
        1 => (0..5_000_u64).prop_map(Step::Advance),
        8 => ((1..12_u32), health.clone()).prop_map(|(count, health)| Step::Calls(count, health)),
        1 => (500..1_200_u32).prop_map(|count| Step::Calls(count, Health::Healthy)),
        3 => Just(Step::Begin),
        3 => (any::<usize>(), health).prop_map(|(which, health)| Step::End(which, health)),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Reset),
    ]
    .boxed()
}

fn policy() -> BoxedStrategy<BreakerPolicy> {
    let window = prop_oneof![(1..=512_u16).prop_map(Window::Calls), (1..20_u16).prop_map(Window::Calls)].boxed();
    let window = prop_oneof![window, (1..400_u64).prop_map(|span| Window::Time(millis(span)))].boxed();
    let slow = (1..40_u64, 1..=100_u8).prop_map(|(than, percent)| SlowCalls { longer_than: millis(than), percent });
    let rate =
        (1..=100_u8, window, 1..30_u32, proptest::option::of(slow)).prop_map(|(percent, window, minimum, slow)| {
            let minimum = if let Window::Calls(size) = window { minimum.min(size.into()) } else { minimum };
            let policy = BreakerPolicy::rate(percent, window, minimum).unwrap();
            if let Some(slow) = slow { policy.with_slow_calls(slow).unwrap() } else { policy }
        });
    prop_oneof![1 => (1..5_u32).prop_map(|failures| BreakerPolicy::consecutive(failures).unwrap()), 4 => rate].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// The tally is told late, but nothing is decided later for it: every answer is that of a machine that was told of each call at once.
    #[test]
    fn a_shared_breaker_trips_at_the_same_call_as_one_with_one_owner(policy in policy(), steps in vec(step(), 1..80)) {
        let hands = Hands::default();
        let clock = hands.clock();
        let shared = Breaker::with_clock(policy.clone(), breaker::Breaker::new(&policy, Seed::new(1)), clock.clone());
        let mut alone = breaker::Breaker::new(&policy, Seed::new(1));
        let mut begun = Vec::new();
        let begin = |alone: &mut breaker::Breaker| {
            let now = clock.now();
            match (shared.acquire(), alone.admit(&policy, now)) {
                (Ok(permit), Ok(ticket)) => Ok(Some((permit, ticket))),
                (Err(retry_in), Err(until)) if retry_in == until.saturating_since(now) => Ok(None),
                (shared, alone) => Err(TestCaseError::fail(format!("{shared:?}, alone {alone:?}"))),
            }
        };
        for step in steps {
            match step {
                Step::Advance(span) => hands.advance(millis(span)),
                Step::Calls(count, health) => {
                    for _ in 0..count {
                        if let Some((permit, ticket)) = begin(&mut alone)? {
                            permit.settle(health);
                            alone.settle(&policy, ticket, health, clock.now());
                        }
                    }
                }
                Step::Begin => begun.extend(begin(&mut alone)?),
                Step::End(which, health) if !begun.is_empty() => {
                    let (permit, ticket) = begun.swap_remove(which % begun.len());
                    permit.settle(health);
                    alone.settle(&policy, ticket, health, clock.now());
                }
                Step::End(..) => {}
                Step::Snapshot => {
                    let (now, snapshot) = (clock.now(), shared.snapshot());
                    prop_assert_eq!(snapshot.counts(now), alone.counts(now));
                    prop_assert_eq!(snapshot.epoch(), alone.epoch());
                }
                Step::Reset => {
                    shared.reset();
                    alone.reset(&policy);
                }
            }
            prop_assert_eq!(shared.state(), alone.state(clock.now()));
        }
        let (now, snapshot) = (clock.now(), shared.snapshot());
        prop_assert_eq!(snapshot.counts(now), alone.counts(now));
        prop_assert_eq!(snapshot.epoch(), alone.epoch());
    }
}

/// Each thread's good calls are in the window by the time of a failure that comes after them: one that was lost would
/// open it a call early, one counted twice a call late.
#[test]
fn no_good_call_of_any_thread_is_lost_or_counted_twice() {
    for round in 0..100 {
        let breaker = Breaker::new(BreakerPolicy::rate(50, Window::Calls(512), 2).unwrap());
        assert!(breaker.call(|| Err::<(), _>(())).is_err()); // one of one: fewer than the minimum
        let start = Barrier::new(5);
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    start.wait();
                    (0..40).for_each(|_| assert!(breaker.call(|| Ok::<_, ()>(())).is_ok()));
                });
            }
        });
        for failure in 2..=200 {
            assert_eq!(breaker.state(), BreakerState::Closed, "round {round}: {} of {}", failure - 1, 199 + failure);
            assert_eq!(breaker.call(|| Err::<(), _>(())), Err(CallError::Failed(())));
        }
        assert!(matches!(breaker.state(), BreakerState::Open { .. }), "round {round}: 200 of 400");
    }
}

#[derive(Clone, Debug)]
enum Move {
    Advance(u64),
    Direct(u32),
    Lease,
    /// From one of the leases.
    Spend(usize, u32),
    GiveBack(usize),
    DropLease(usize),
    Reserve,
    /// One of those reserved, if its time has come.
    Take(usize),
    Cancel(usize),
}

fn moves() -> BoxedStrategy<Move> {
    let which = any::<usize>;
    prop_oneof![
        4 => (0..3_000_u64).prop_map(Move::Advance),
        1 => (0..200_000_u64).prop_map(Move::Advance),
        4 => (1..20_u32).prop_map(Move::Direct),
        2 => Just(Move::Lease),
        6 => (which(), 1..20_u32).prop_map(|(lease, count)| Move::Spend(lease, count)),
        1 => which().prop_map(Move::GiveBack),
        1 => which().prop_map(Move::DropLease),
        2 => Just(Move::Reserve),
        3 => which().prop_map(Move::Take),
        1 => which().prop_map(Move::Cancel),
    ]
    .boxed()
}

fn pick<T>(which: usize, of: &[T]) -> Option<usize> {
    which.checked_rem(of.len())
}

const EVERY: u64 = 1_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// I10 with leases: however long they keep what they hold, whoever gives back what, and with waiters between them.
    #[test]
    fn no_window_sees_more_than_pace_and_burst_whatever_leases_hold(
        size in 1..8_u32, most in 0..4_u32, more in 0..10_u32, moves in vec(moves(), 1..120),
    ) {
        let burst = size * (most + 1) + more;
        let policy = RatePolicy::new(1, Duration::from_nanos(EVERY)).unwrap().with_burst(burst).unwrap();
        let hands = Hands::default();
        let clock = hands.clock();
        let leases = Leases { size, most };
        let limiter = RateLimiter::with_leases(policy, leases, rate_limit::RateLimiter::new(), clock.clone()).unwrap();
        let (mut admitted, mut held, mut line) = (Vec::<Timestamp>::new(), Vec::new(), Vec::new());
        for step in moves {
            let now = clock.now();
            match step {
                Move::Advance(span) => hands.advance(Duration::from_nanos(span)),
                Move::Direct(count) => {
                    admitted.extend((0..count).filter(|_| limiter.try_acquire().is_ok()).map(|_| now));
                }
                Move::Lease => {
                    let lease = limiter.lease();
                    prop_assert_eq!(lease.is_some(), held.len() < most as usize);
                    held.extend(lease);
                }
                Move::Spend(which, count) => {
                    if let Some(at) = pick(which, &held) {
                        admitted.extend((0..count).filter(|_| held[at].try_acquire().is_ok()).map(|_| now));
                    }
                }
                Move::GiveBack(which) => {
                    if let Some(at) = pick(which, &held) {
                        held[at].give_back();
                    }
                }
                Move::DropLease(which) => {
                    pick(which, &held).map(|at| held.swap_remove(at));
                }
                Move::Reserve => {
                    let place = limiter.reserve();
                    line.push((now.saturating_add(place.wait()), place));
                }
                Move::Take(which) => {
                    if let Some(at) = pick(which, &line)
                        && line[at].1.wait().is_zero()
                    {
                        let (at, place) = line.swap_remove(at);
                        place.take();
                        admitted.push(at);
                    }
                }
                Move::Cancel(which) => {
                    pick(which, &line).map(|at| line.swap_remove(at));
                }
            }
        }
        admitted.sort_unstable();
        for (first, from) in admitted.iter().enumerate() {
            for (last, to) in admitted.iter().enumerate().skip(first) {
                let (went, span) = ((last - first + 1) as u64, to.saturating_since(*from).as_nanos() as u64);
                prop_assert!(
                    went <= u64::from(burst) + span / EVERY,
                    "{} went in {} ns at one each {} ns and a burst of {}", went, span, EVERY, burst
                );
            }
        }
    }

    /// In whatever order: one that is given up before others goes to the next that asks, and none is lost in the end.
    #[test]
    fn places_that_are_given_up_are_not_lost(burst in 1..4_u32, order in vec(any::<usize>(), 1..30)) {
        let policy = RatePolicy::new(1, Duration::from_nanos(EVERY)).unwrap().with_burst(burst).unwrap();
        let limiter = RateLimiter::with_clock(policy, rate_limit::RateLimiter::new(), Hands::default().clock());
        (0..burst).for_each(|_| limiter.try_acquire().unwrap());
        let mut line: Vec<_> = (0..order.len()).map(|_| limiter.reserve()).collect();
        for which in order {
            let given_up = line.swap_remove(which % line.len());
            let wait = given_up.wait();
            drop(given_up);
            let first = limiter.reserve();
            prop_assert!(first.wait() <= wait, "{:?} and not {:?}", first.wait(), wait);
        }
        prop_assert_eq!(limiter.try_acquire().unwrap_err().retry_in, Duration::from_nanos(EVERY));
    }

    /// What leases give back is there for others: in the end all that the pace and the shared burst allow can be had.
    #[test]
    fn what_leases_give_back_is_not_lost(size in 1..8_u32, most in 1..4_u32, spent in 0..8_u32) {
        let burst = size * (most + 1);
        let policy = RatePolicy::new(1, Duration::from_secs(3_600)).unwrap().with_burst(burst).unwrap();
        let leases = Leases { size, most };
        let clock = Hands::default().clock();
        let limiter = RateLimiter::with_leases(policy, leases, rate_limit::RateLimiter::new(), clock).unwrap();
        let mut lease = limiter.lease().unwrap();
        let spent = (0..spent).filter(|_| lease.try_acquire().is_ok()).count();
        drop(lease);
        prop_assert!(limiter.lease().is_some());
        let rest = (0..burst).filter(|_| limiter.try_acquire().is_ok()).count();
        prop_assert_eq!(spent + rest, size as usize);
    }
}

/// No exchange is lost: of places that do not come back, threads take exactly those there are.
#[test]
fn threads_with_leases_and_without_take_each_place_once() {
    let (size, most, burst) = (64, 3, 20_000);
    let policy = RatePolicy::new(1, Duration::from_secs(3_600)).unwrap().with_burst(burst).unwrap();
    let leases = Leases { size, most };
    let limiter =
        RateLimiter::with_leases(policy, leases, rate_limit::RateLimiter::new(), SharedClock::start()).unwrap();
    let start = Barrier::new(4);
    let taken: u32 = std::thread::scope(|scope| {
        let direct = scope.spawn(|| {
            start.wait();
            (0..burst).filter(|_| limiter.try_acquire().is_ok()).count()
        });
        let leased = (0..most).map(|_| {
            scope.spawn(|| {
                start.wait();
                // A new lease now and then, so that places are given back while others take.
                (0..burst / 50).fold(0, |taken, _| {
                    let mut lease = limiter.lease().expect("one for each");
                    taken + (0..50).filter(|_| lease.try_acquire().is_ok()).count()
                })
            })
        });
        let threads: Vec<_> = leased.chain([direct]).collect();
        threads.into_iter().map(|thread| thread.join().unwrap() as u32).sum()
    });
    let left = (0..burst).filter(|_| limiter.try_acquire().is_ok()).count() as u32;
    assert_eq!(taken + left, burst - size * most);
}

#[test]
fn a_burst_that_leases_would_use_up_is_refused_with_what_it_would_take() {
    let policy = RatePolicy::new(1_000, Duration::from_secs(1)).unwrap().with_burst(319).unwrap();
    let leases = Leases { size: 64, most: 4 };
    let refused =
        |policy| RateLimiter::with_leases(policy, leases, rate_limit::RateLimiter::new(), SharedClock::start());
    let error = refused(policy).unwrap_err();
    assert_eq!(error.field(), "rate.burst");
    assert!(error.to_string().contains("at least 320"), "{error}");
    assert!(refused(policy.with_burst(320).unwrap()).is_ok());
}
