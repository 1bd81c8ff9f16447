//! Turns: what a busy client leaves to other tasks, and what callers who take no turn, or have gone, leave to others.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use steadfast_core::Kind;
use steadfast_core::engine::Limits;
use steadfast_core::gate::{GatePolicy, Request, Settled};
use steadfast_core::rate_limit::RatePolicy;
use steadfast_tokio::{Client, Delivery, Gate, RateLimiter, SubmitError};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::support::{Plain, Scripted, answer, key};
use crate::webhooks::Telling;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Polls a future once, and never again for as long as it is kept.
fn polled_once<F: Future>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    future
}

/// Jobs end as soon as they are sent, once `slow` is over. Counts what was sent.
fn quick(slow: &Arc<AtomicBool>, sent: &Arc<AtomicUsize>) -> Scripted {
    let (slow, sent) = (slow.clone(), sent.clone());
    Scripted::new(move |_, _, _| {
        let (slow, sent) = (slow.clone(), sent.clone());
        async move {
            if slow.load(Ordering::SeqCst) {
                tokio::time::sleep(SECOND).await;
            }
            sent.fetch_add(1, Ordering::SeqCst);
            Ok(answer(200, "{}"))
        }
    })
}

/// A stream of buffered futures polls none of them while its own loop awaits something else. Those stood in a line for
/// the way to the driver, and everybody behind them waited for ever.
#[tokio::test(start_paused = true)]
async fn submits_that_are_polled_no_more_hold_up_no_other() {
    let client = Client::builder(Plain, Scripted::well_behaved()).start().await.unwrap();
    let held: Vec<_> = (0..300).map(|n| polled_once(client.submit(key(&format!("order-{n}")), "{}"))).collect();
    let other = timeout(HOUR, client.submit(key("other"), "{}")).await.expect("it waits for none of them").unwrap();
    other.await.unwrap();
    for submit in held {
        drop(submit.await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn webhooks_whose_senders_are_polled_no_more_hold_up_no_other() {
    let client = Client::builder(Telling::new(), Scripted::well_behaved()).start().await.unwrap();
    let told = Telling::new();
    let (ids, body) =
        ((0..300).map(|n| format!("msg-{n}")).collect::<Vec<_>>(), r#"{"reference":"txn","status":"ready"}"#);
    let held: Vec<_> = ids.iter().map(|id| polled_once(told.tell(&client, id, body))).collect();
    let other = timeout(HOUR, told.tell(&client, "other", body)).await.expect("it waits for none of them");
    assert_ne!(other, Delivery::Stopped);
    for tell in held {
        assert_ne!(tell.await, Delivery::Stopped);
    }
}

/// Where each job ends at once and makes room for the next, the driver had its turn for as long as there was a next.
#[tokio::test(start_paused = true)]
async fn a_line_of_jobs_that_end_at_once_leaves_others_their_turn() {
    const JOBS: usize = 5_000;
    let (slow, sent) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let limits = Limits { live: 4, ..Limits::default() };
    let client = Client::builder(Plain, quick(&slow, &sent)).limits(limits).start().await.unwrap();
    for n in 0..JOBS {
        let client = client.clone();
        tokio::spawn(async move { client.submit(key(&format!("order-{n}")), "{}").await.map(drop) });
    }
    // As long as this task is ready, no time passes.
    for _ in 0..JOBS {
        yield_now().await;
    }
    assert_eq!(sent.load(Ordering::SeqCst), 0, "all others wait for room");
    slow.store(false, Ordering::SeqCst);
    let (mut before, mut most) = (0, 0);
    tokio::time::advance(2 * SECOND).await;
    while before < JOBS {
        yield_now().await;
        let now = sent.load(Ordering::SeqCst);
        (most, before) = (most.max(now - before), now);
    }
    assert!(most <= 1_000, "{most} jobs in one turn");
}

/// Each of them would have been run, one after the other, long after its caller had given up.
#[tokio::test(start_paused = true)]
async fn what_its_caller_gave_up_while_it_waited_for_room_is_not_run() {
    let (slow, sent) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let limits = Limits { live: 2, ..Limits::default() };
    let client = Client::builder(Plain, quick(&slow, &sent)).limits(limits).start().await.unwrap();
    let submits = (0..1_000).map(|n| {
        let client = client.clone();
        tokio::spawn(async move { timeout(SECOND / 10, client.submit(key(&format!("order-{n}")), "{}")).await.is_ok() })
    });
    let submits: Vec<_> = submits.collect();
    let mut taken_in = 0;
    for submit in submits {
        taken_in += usize::from(submit.await.unwrap());
    }
    assert_eq!(taken_in, 2);
    let later = client.submit(key("later"), "{}").await.unwrap();
    later.await.unwrap();
    tokio::time::sleep(HOUR).await;
    assert_eq!(sent.load(Ordering::SeqCst), 3);
    let _ = client.clone().shutdown(Duration::ZERO).await;
    assert!(matches!(client.submit(key("stopped"), "{}").await, Err(SubmitError::Stopped)));
}

/// As with tokio's own: whoever finds no reason to wait, in turn after turn, waits now and then all the same.
#[tokio::test]
async fn leave_that_is_given_at_once_leaves_others_their_turn() {
    let turns = Arc::new(AtomicUsize::new(0));
    let others = turns.clone();
    tokio::spawn(async move {
        loop {
            others.fetch_add(1, Ordering::SeqCst);
            yield_now().await;
        }
    });
    let gate = Gate::new(GatePolicy::default());
    for _ in 0..10_000 {
        gate.acquire(Request::first(Kind::Create)).await.unwrap().settle(Settled::Answered);
    }
    let by_the_gate = turns.swap(0, Ordering::SeqCst);
    let limiter = RateLimiter::new(RatePolicy::new(1_000_000, SECOND).unwrap().with_burst(20_000).unwrap());
    for _ in 0..10_000 {
        limiter.acquire().await;
    }
    let by_the_limiter = turns.load(Ordering::SeqCst);
    assert!(by_the_gate >= 10 && by_the_limiter >= 10, "{by_the_gate} and {by_the_limiter} turns of another task");
}
