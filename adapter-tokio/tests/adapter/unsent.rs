//! What is given up before it has left has not left, and what was answered before the end was answered. Virtual time.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::breaker::BreakerPolicy;
use steadfast_core::gate::{GatePolicy, WhenOpen};
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Outcome, Rejected, Stage};
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{Kind, OperationPolicy, SendSafety};
use steadfast_store::{MemoryStore, Store};
use steadfast_tokio::{Builder, Client, SendError};
use tokio::sync::Notify;
use tokio::time::{advance, sleep};

use crate::support::{Plain, Scripted, answer, key};

const SECOND: Duration = Duration::from_secs(1);

/// So many attempts, of a provider that would run a repeat again.
fn unkeyed(attempts: u16) -> OperationPolicy {
    let create = RetryPolicy::new(attempts, 600 * SECOND, 10 * SECOND, BackoffPolicy::default()).unwrap();
    OperationPolicy::default().with_safety(SendSafety::Unsafe).unwrap().with_create(create).unwrap()
}

/// Its first create does not get there, a moment later; the next would.
fn second_time_lucky() -> Scripted {
    Scripted::new(|kind, number, key| async move {
        sleep(Duration::from_millis(1)).await;
        match (kind, number) {
            (Kind::Create, 1) => Err(SendError::not_sent()),
            (Kind::Create, _) => Ok(answer(201, format!("txn-{key}"))),
            _ => Ok(answer(200, "{}")),
        }
    })
}

/// Does this in the turn of the driver's in which the second create is handed to whoever carries it.
fn as_the_second_leaves(
    builder: Builder<Plain, Scripted>,
    does: impl Fn() + Send + Sync + 'static,
) -> Builder<Plain, Scripted> {
    builder.policy(unkeyed(4)).observer(move |seen| {
        if matches!(seen.notice, Notice::Sending(attempt) if attempt.kind == Kind::Create && attempt.number == 2) {
            does();
        }
    })
}

/// Its last attempt, too.
#[tokio::test(start_paused = true)]
async fn a_create_that_is_cancelled_before_it_leaves_has_not_run() {
    for attempts in [4, 2] {
        let transport = second_time_lucky();
        let job = Arc::new(Mutex::new(None));
        let cancelled = job.clone();
        let builder = as_the_second_leaves(Client::builder(Plain, transport.clone()), move || {
            let job: Option<steadfast_tokio::Handle> = cancelled.lock().unwrap().take();
            job.expect("it is under way").cancel();
        });
        let client = builder.policy(unkeyed(attempts)).start().await.unwrap();
        let followed = client.submit(key("order-42"), "{}").await.unwrap();
        *job.lock().unwrap() = Some(client.submit(key("order-42"), "{}").await.unwrap());
        assert_eq!(followed.await.unwrap().outcome, Outcome::Rejected(Rejected::Cancelled), "of {attempts} attempts");
        assert_eq!(transport.sent("order-42"), [Kind::Create]);
    }
}

/// The runtime had no turn for it: its threads were busy with something else, or the machine slept.
#[tokio::test(start_paused = true)]
async fn a_create_that_got_no_turn_in_all_of_its_time_has_not_left_and_is_sent_again() {
    let transport = second_time_lucky();
    let client: Arc<Mutex<Option<Client>>> = Arc::default();
    let wakes = client.clone();
    let breaker = BreakerPolicy::consecutive(2).unwrap();
    let gate = GatePolicy::none().with_breaker(Some(breaker)).with_when_open(WhenOpen::Refuse);
    let builder = as_the_second_leaves(Client::builder(Plain, transport.clone()), move || {
        // Before anything else has its turn, time goes by, and the driver looks at the clock once more.
        let passes = pin!(advance(20 * SECOND));
        assert!(passes.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        if let Some(client) = &*wakes.lock().unwrap() {
            client.hold(Duration::ZERO);
        }
    });
    let started = builder.gate(gate).start().await.unwrap();
    *client.lock().unwrap() = Some(started.clone());
    let finished = started.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
    assert_eq!(finished.outcome.name(), "completed");
    assert_eq!(transport.sent("order-42"), [Kind::Create, Kind::Create, Kind::Poll]);
}

#[tokio::test(start_paused = true)]
async fn a_create_that_a_shutdown_keeps_from_leaving_is_sent_by_the_next_client() {
    let (transport, store) = (second_time_lucky(), MemoryStore::default());
    let client = Arc::new(Mutex::new(None));
    let stopped = client.clone();
    let builder = Client::builder(Plain, transport.clone()).store(store.clone()).keep_payloads();
    let builder = as_the_second_leaves(builder, move || {
        let client: Option<Client> = stopped.lock().unwrap().take();
        let shut_down = pin!(client.expect("it runs").shutdown(Duration::ZERO));
        assert!(shut_down.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    });
    let started = builder.start().await.unwrap();
    let job = started.submit(key("order-42"), "{}").await.unwrap();
    *client.lock().unwrap() = Some(started);
    job.await.expect_err("its client has stopped");
    assert_eq!(transport.sent("order-42"), [Kind::Create]);
    let entry = store.clone().find(&key("order-42")).unwrap().expect("it is there");
    assert_eq!(entry.record.stage, Stage::Planned);

    let client = Client::builder(Plain, transport.clone()).policy(unkeyed(4)).store(store).keep_payloads();
    let client = client.start().await.unwrap();
    let finished = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
    assert_eq!(finished.outcome.name(), "completed");
}

/// More of them than the loop takes in at one go.
#[tokio::test(start_paused = true)]
async fn what_was_answered_before_the_end_is_not_in_doubt_after_it() {
    let store = MemoryStore::default();
    let answers = || {
        Scripted::new(|kind, _, key| async move {
            sleep(SECOND).await;
            Ok(if kind == Kind::Create { answer(201, format!("txn-{key}")) } else { answer(200, "{}") })
        })
    };
    let build = |transport| Client::builder(Plain, transport).policy(unkeyed(4)).gate(GatePolicy::none());
    let client = build(answers()).store(store.clone()).start().await.unwrap();
    let mut jobs = Vec::new();
    for n in 0..300 {
        jobs.push(client.submit(key(&format!("order-{n}")), "{}").await.unwrap());
    }
    // At the same moment as all their answers.
    sleep(SECOND).await;
    assert_eq!(client.shutdown(Duration::ZERO).await.len(), jobs.len());
    let entries = store.clone().load().unwrap();
    let accepted = entries.iter().filter(|entry| entry.record.reference.is_some()).count();
    assert_eq!(accepted, jobs.len());
}

/// The loop has not taken it in yet.
#[tokio::test(start_paused = true)]
async fn what_was_answered_before_a_cancel_counts() {
    let answers = Arc::new(Notify::new());
    let answered = answers.clone();
    let transport = Scripted::new(move |_, _, _| {
        let answers = answers.clone();
        async move {
            sleep(SECOND).await;
            answers.notify_one();
            Err(SendError::not_sent())
        }
    });
    let client = Client::builder(Plain, transport).policy(unkeyed(4)).start().await.unwrap();
    let job = client.submit(key("order-42"), "{}").await.unwrap();
    // On a task of its own, whose turn comes before the loop's.
    let cancelled = tokio::spawn(async move {
        answered.notified().await;
        job.cancel();
        job.await
    });
    assert_eq!(cancelled.await.unwrap().unwrap().outcome, Outcome::Rejected(Rejected::Cancelled));
}
