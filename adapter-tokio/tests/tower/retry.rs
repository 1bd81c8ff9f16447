//! The retry layer: what is sent again, when, and until when.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::budget::BudgetPolicy;
use steadfast_core::gate::{GatePolicy, Request, WhenOpen};
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Kind, Seed};
use steadfast_tokio::tower::{Again, AnyError, GateLayer, HttpRequests, HttpStatus, LayerError, RetryLayer};
use steadfast_tokio::{Gate, RetryBudget};
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{Answer, Down, MILLI, SECOND, Upstream, assert_about, attempts, breaker, bulkhead, pauses};

type Always = fn(&u32) -> Option<Again<u32>>;
const ALWAYS: Always = |request| Some(Again::Always(*request));

fn always(policy: RetryPolicy) -> RetryLayer<AnyError, Always> {
    RetryLayer::new(policy).repeat(ALWAYS)
}

#[tokio::test(start_paused = true)]
async fn by_default_only_what_was_certainly_not_executed_is_repeated() {
    let refused = |result: &Answer| result.is_err().then(|| Failure::new(Class::Transient, Certainty::NotExecuted));
    let (unknown, unsent) = (Upstream::failing(), Upstream::failing());
    assert!(RetryLayer::new(attempts(3)).layer(unknown.service()).oneshot(0).await.is_err());
    assert!(RetryLayer::new(attempts(3)).classify(refused).layer(unsent.service()).oneshot(0).await.is_err());
    assert_eq!((unknown.calls(), unsent.calls()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_copied_is_sent_once_and_the_last_attempt_needs_no_copy() {
    let upstream = Upstream::failing();
    let never = |_: &u32| None::<Again<u32>>;
    assert!(RetryLayer::new(attempts(3)).repeat(never).layer(upstream.service()).oneshot(0).await.is_err());
    assert_eq!(upstream.calls(), 1);

    let copies = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&copies);
    let counting = move |request: &u32| {
        counted.fetch_add(1, Ordering::Relaxed);
        Some(Again::Always(*request))
    };
    assert!(RetryLayer::new(attempts(3)).repeat(counting).layer(upstream.service()).oneshot(0).await.is_err());
    assert_eq!((upstream.calls(), copies.load(Ordering::Relaxed)), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn the_last_result_is_returned_as_it_was() {
    let upstream = service_fn(async |request: http::Request<u32>| {
        let status = if request.body() == &1 { 503 } else { 404 };
        Ok::<_, Down>(http::Response::builder().status(status).body("what it says").unwrap())
    });
    let service = RetryLayer::new(attempts(3)).classify(HttpStatus::new()).repeat(HttpRequests::new()).layer(upstream);
    for (body, status, span) in [(1, 503, 2 * SECOND), (2, 404, Duration::ZERO)] {
        let start = Instant::now();
        let response = service.clone().oneshot(http::Request::get("/").body(body).unwrap()).await.unwrap();
        assert_eq!((response.status().as_u16(), response.into_body()), (status, "what it says"));
        assert_about(start.elapsed(), span);
    }
}

/// reqwest-middleware#146: four hits in 13 ms on a 503 that asked for 30 s.
#[tokio::test(start_paused = true)]
async fn a_retry_after_is_waited_for_or_the_attempts_stop() {
    for (asked, waited, calls) in [("30", 30 * SECOND, 2), ("61", Duration::ZERO, 1), ("soon", SECOND, 2)] {
        let made = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&made);
        let upstream = service_fn(move |_: http::Request<()>| {
            let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
            let response = http::Response::builder().header("retry-after", asked).status(if first { 503 } else { 200 });
            std::future::ready(Ok::<_, Down>(response.body(()).unwrap()))
        });
        let layer = RetryLayer::new(attempts(3)).classify(HttpStatus::new()).repeat(HttpRequests::new());
        let start = Instant::now();
        let _ = layer.layer(upstream).oneshot(http::Request::get("/").body(()).unwrap()).await;
        assert_about(start.elapsed(), waited);
        assert_eq!(made.load(Ordering::Relaxed), calls, "{asked}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_its_time_out_and_the_deadline_cuts_the_last_one() {
    let policy = RetryPolicy::new(10, 25 * SECOND, 10 * SECOND, pauses(SECOND)).unwrap();
    let (upstream, start) = (Upstream::silent(), Instant::now());
    let result = always(policy).layer(upstream.service()).oneshot(0).await;
    // 0 to 10, 11 to 21, 22 to 25.
    assert!(matches!(result, Err(LayerError::TimedOut { after, .. }) if after <= 3 * SECOND), "{result:?}");
    assert_about(start.elapsed(), 25 * SECOND);
    assert_eq!(upstream.calls(), 3);
}

/// R4: what is left is computed after the wait, and a wait for the inner service counts.
#[tokio::test(start_paused = true)]
async fn a_wait_for_the_inner_service_ends_at_the_deadline_with_the_last_error() {
    let upstream = Arc::new(Upstream::new(|_| (SECOND, Some(Err(Down)))));
    let service = always(attempts(5)).layer(upstream.service());
    let start = Instant::now();
    let call = tokio::spawn(service.oneshot(0));
    tokio::time::sleep(SECOND / 2).await;
    upstream.set_ready(Poll::Pending);
    let ended = timeout(3_600 * SECOND, call).await.expect("the deadline is not kept");
    assert_eq!(ended.unwrap(), Err(LayerError::Failed(Down)));
    assert_about(start.elapsed(), 60 * SECOND);
    assert_eq!(upstream.calls(), 1);
}

/// An attempt that waits at the gate is not counted before it goes, and holds no place while it pauses.
#[tokio::test(start_paused = true)]
async fn a_pause_holds_no_place_in_the_gate() {
    let gate = Gate::new(bulkhead(1));
    let upstream = Upstream::new(|n| (MILLI, Some(if n == 0 { Err(Down) } else { Ok(n) })));
    let service = always(attempts(3)).layer(GateLayer::new(gate.clone()).layer(upstream.service()));
    let call = tokio::spawn(service.oneshot(0));
    tokio::time::sleep(SECOND / 2).await;
    let held = gate.try_acquire(Request::first(Kind::Create)).expect("it pauses");
    tokio::time::sleep(20 * SECOND).await;
    drop(held);
    assert_eq!(call.await.unwrap(), Ok(1));
    assert_eq!((upstream.calls(), gate.in_flight()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_budget_is_charged_once_for_a_retry_and_paid_back_for_one_that_never_leaves() {
    let budget = RetryBudget::new(BudgetPolicy::new(3).unwrap());
    let upstream = Upstream::failing();
    let service = always(attempts(10)).with_budget(budget.clone()).layer(upstream.service());
    assert!(timeout(SECOND / 2, service.clone().oneshot(0)).await.is_err(), "dropped while it pauses");
    assert_eq!((budget.tokens(), upstream.calls()), (3, 1));
    let start = Instant::now();
    assert_eq!(service.clone().oneshot(0).await, Err(LayerError::Ambiguous(Down)));
    assert_eq!((budget.tokens(), upstream.calls()), (0, 5), "three retries");
    assert_about(start.elapsed(), 3 * SECOND);
    assert!(service.oneshot(0).await.is_err());
    assert_eq!(upstream.calls(), 6, "first attempts go on");
}

#[tokio::test(start_paused = true)]
async fn an_inner_service_that_is_dead_ends_the_call() {
    let upstream = Arc::new(Upstream::failing());
    let call = tokio::spawn(always(attempts(3)).layer(upstream.service()).oneshot(0));
    tokio::time::sleep(SECOND / 2).await;
    upstream.set_ready(Poll::Ready(Err(Down)));
    assert_eq!(call.await.unwrap(), Err(LayerError::Ambiguous(Down)));
    assert_eq!(upstream.calls(), 1);
}

/// tower's own backoff: every one of one maker replays the same jitter, so a herd stays a herd.
#[tokio::test(start_paused = true)]
async fn requests_of_one_layer_do_not_pause_in_step() {
    let spread = BackoffPolicy::new(Growth::Fixed(SECOND), SECOND, Jitter::Full).unwrap();
    let policy = RetryPolicy::new(2, 60 * SECOND, 10 * SECOND, spread).unwrap();
    let run = |seed| {
        let layer = always(policy.clone()).with_seed(Seed::new(seed));
        async move {
            let mut spans = Vec::new();
            for _ in 0..20 {
                let start = Instant::now();
                assert!(layer.layer(Upstream::failing().service()).oneshot(0).await.is_err());
                spans.push(start.elapsed().as_millis());
            }
            spans
        }
    };
    let spans = run(7).await;
    assert_eq!(spans, run(7).await, "a seed repeats a run");
    let mut different = spans.clone();
    different.sort_unstable();
    different.dedup();
    assert!(different.len() > 15, "{spans:?}");
}

/// A zero pause touches no timer: it works without one, and other tasks get a turn.
#[test]
fn a_zero_pause_needs_no_timer_and_gives_others_a_turn() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let upstream = Upstream::failing();
        let policy = RetryPolicy::new(1_000, 60 * SECOND, 10 * SECOND, pauses(Duration::ZERO)).unwrap();
        let turns = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                let mut had = false;
                // Unlike tokio's own, which comes back only after the driver.
                poll_fn(|cx| {
                    cx.waker().wake_by_ref();
                    if std::mem::replace(&mut had, true) { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert!(tokio::spawn(always(policy).layer(upstream.service()).oneshot(0)).await.unwrap().is_err());
        other.abort();
        assert_eq!(upstream.calls(), 1_000);
        assert!(turns.load(Ordering::Relaxed) >= 20);
    });
}

#[tokio::test(start_paused = true)]
async fn a_call_allocates_no_copy_and_no_timer_when_there_is_but_one_attempt() {
    let upstream = Upstream::healthy(Duration::ZERO);
    let unasked = |_: &u32| -> Option<Again<u32>> { panic!("there is no second attempt") };
    let mut service = RetryLayer::new(attempts(1)).repeat(unasked).layer(upstream.service());
    assert_eq!(service.ready().await.unwrap().call(0).await, Ok(0));
}

const REFUSED: Failure = Failure::new(Class::Transient, Certainty::NotExecuted);

/// By the error's number: 1 is a reset, any other certainly did not run.
fn by_number(error: &Number) -> Failure {
    let certainty = if error.0 == 1 { Certainty::MayHaveExecuted } else { Certainty::NotExecuted };
    Failure::new(Class::Transient, certainty)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("number {0}")]
struct Number(u32);

/// Each attempt fails with the next of these numbers, the last for ever.
fn failing(
    numbers: &'static [u32],
) -> impl Service<u32, Response = u32, Error = Number, Future = std::future::Ready<Result<u32, Number>>> + Clone {
    let made = Arc::new(AtomicU32::new(0));
    service_fn(move |_: u32| {
        let made = made.fetch_add(1, Ordering::Relaxed) as usize;
        std::future::ready(Err(Number(numbers[made.min(numbers.len() - 1)])))
    })
}

#[tokio::test(start_paused = true)]
async fn no_refusal_after_an_attempt_that_may_have_run_says_that_the_request_did_not() {
    let by_number = |result: &Result<u32, Number>| result.as_ref().err().map(by_number);
    for (numbers, certainty) in [
        (&[1, 2, 2][..], Certainty::MayHaveExecuted),
        (&[2, 1, 2], Certainty::MayHaveExecuted),
        (&[2, 2, 1], Certainty::MayHaveExecuted),
        (&[2, 2, 2], Certainty::NotExecuted),
    ] {
        let layer = RetryLayer::new(attempts(3)).classify(by_number).repeat(ALWAYS);
        let error = layer.layer(failing(numbers)).oneshot(0).await.unwrap_err();
        assert_eq!(error.failure(self::by_number).certainty, certainty, "{numbers:?}: {error:?}");
        assert_eq!(error.into_failed(), Some(Number(numbers[2])));
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_gate_after_an_attempt_that_timed_out_says_nothing_of_that() {
    let gate = Gate::new(GatePolicy::none().with_breaker(Some(breaker())).with_when_open(WhenOpen::Refuse));
    let upstream = Upstream::silent();
    let of = |error: &LayerError<Down>| error.failure(|_| REFUSED);
    let classify = move |result: &Result<u32, LayerError<Down>>| result.as_ref().err().map(of);
    let layer = RetryLayer::new(attempts(2)).classify(classify).repeat(ALWAYS);
    let gated = GateLayer::new(gate.clone()).layer(upstream.service());
    let call = tokio::spawn(layer.layer(gated).oneshot(0));
    tokio::time::sleep(SECOND).await;
    gate.work(|machine, now| machine.breaker_mut().unwrap().0.force_open(now.saturating_add(60 * SECOND)));
    let error = call.await.unwrap().unwrap_err();
    assert_eq!((error.failure(of).certainty, upstream.calls()), (Certainty::MayHaveExecuted, 1), "{error:?}");
    assert!(matches!(error.into_failed(), Some(LayerError::Refused(_))));
}

/// The copy of a copy may be less safe than the first one; what went before counts for it too.
#[tokio::test(start_paused = true)]
async fn what_may_be_repeated_only_if_not_executed_is_not_repeated_after_any_attempt_that_may_have_run() {
    let by_number = |result: &Result<u32, Number>| result.as_ref().err().map(by_number);
    let repeat = |request: &u32| {
        Some(if *request == 0 { Again::Always(request + 1) } else { Again::IfNotExecuted(request + 1) })
    };
    for (numbers, made) in [(&[1, 2, 3][..], 2), (&[2, 2, 3], 3)] {
        let layer = RetryLayer::new(attempts(3)).classify(by_number).repeat(repeat);
        let error = layer.layer(failing(numbers)).oneshot(0).await.unwrap_err();
        assert_eq!(error.into_failed(), Some(Number(numbers[made - 1])));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_answered_is_not_said_to_have_had_no_answer() {
    let throttled = Failure::new(Class::Throttled, Certainty::NotExecuted).with_retry_after(Some(3 * SECOND));
    let upstream = Arc::new(Upstream::healthy(SECOND));
    let layer = RetryLayer::new(attempts(5)).classify(move |_: &Answer| Some(throttled)).repeat(ALWAYS);
    let start = Instant::now();
    let call = tokio::spawn(layer.layer(upstream.service()).oneshot(0));
    tokio::time::sleep(SECOND / 2).await;
    upstream.set_ready(Poll::Pending);
    let error = timeout(3_600 * SECOND, call).await.expect("the deadline is not kept").unwrap().unwrap_err();
    assert_about(start.elapsed(), 60 * SECOND);
    assert!(!matches!(error, LayerError::TimedOut { .. }), "{error:?}");
    // What it asked to wait has been waited.
    assert_eq!(error.failure(|_| REFUSED), throttled.with_retry_after(None));
    let boxed = error.boxed().downcast::<std::io::Error>().unwrap();
    assert_eq!(boxed.kind(), std::io::ErrorKind::TimedOut);
}
