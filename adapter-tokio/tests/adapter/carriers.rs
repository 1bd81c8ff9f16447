//! On which tasks requests are carried, and that no two of a job are at a time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::operation::Unresolved;
use steadfast_core::poll::PollPolicy;
use steadfast_core::{Kind, OperationPolicy, Outcome};
use steadfast_tokio::Client;
use tokio::sync::Notify;
use tokio::task::{Id, id};

use crate::support::{Plain, Scripted, answer, key, keyed};

const SECOND: Duration = Duration::from_secs(1);

/// Where each request began and where it ended, with a transport that waits or does not.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(Id, Id)>>>);

impl Seen {
    fn transport(&self, waits: bool) -> Scripted {
        let seen = self.clone();
        Scripted::new(move |kind, _, key| {
            let seen = seen.clone();
            async move {
                let began = id();
                if waits {
                    tokio::time::sleep(SECOND).await;
                }
                seen.0.lock().unwrap().push((began, id()));
                Ok(if kind == Kind::Create { answer(201, format!("txn-{key}")) } else { answer(200, "{}") })
            }
        })
    }

    fn all(&self) -> Vec<(Id, Id)> {
        self.0.lock().unwrap().clone()
    }
}

fn distinct(seen: &[(Id, Id)]) -> HashSet<Id> {
    seen.iter().map(|(_, ended)| *ended).collect()
}

async fn one_by_one(client: &Client, jobs: u32) {
    for n in 0..jobs {
        client.submit(key(&format!("order-{n}")), "{}").await.unwrap().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_at_once_needs_no_task() {
    let seen = Seen::default();
    let client = Client::builder(Plain, seen.transport(false)).start().await.unwrap();
    one_by_one(&client, 20).await;
    let seen = seen.all();
    assert_eq!((seen.len(), distinct(&seen).len()), (40, 1), "the driver's own: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_end_on_the_task_that_they_began_on_and_leave_it_to_those_after_them() {
    let seen = Seen::default();
    let client = Client::builder(Plain, seen.transport(true)).start().await.unwrap();
    one_by_one(&client, 600).await;
    let one_at_a_time = seen.all();
    // The first is tried on the driver's, and so is one of the next thousand.
    let elsewhere = one_at_a_time.iter().filter(|(began, ended)| began != ended).count();
    assert_eq!((one_at_a_time.len(), elsewhere, distinct(&one_at_a_time).len()), (1_200, 2, 1));

    let mut jobs = Vec::new();
    for n in 600..1_000 {
        jobs.push(client.submit(key(&format!("order-{n}")), "{}").await.unwrap());
    }
    for job in jobs {
        job.await.unwrap();
    }
    let at_once = &seen.all()[1_200..];
    assert_eq!((at_once.len(), distinct(at_once).len()), (800, 100), "as many as the gate lets go at once");

    let _ = client.shutdown(SECOND).await;
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    while alive() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_request_was_cut_off_carries_no_other() {
    let began: Arc<Mutex<Vec<Id>>> = Arc::default();
    let seen = began.clone();
    let transport = Scripted::new(move |kind, number, key| {
        seen.lock().unwrap().push(id());
        async move {
            if kind == Kind::Create && number <= 3 {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(SECOND).await;
            Ok(if kind == Kind::Create { answer(201, format!("txn-{key}")) } else { answer(200, "{}") })
        }
    });
    let client = Client::builder(Plain, transport).policy(keyed()).start().await.unwrap();
    client.submit(key("order-7"), "{}").await.unwrap().await.unwrap();
    let began = began.lock().unwrap();
    // The first is begun on the driver's; the fourth is answered, and the poll follows it.
    assert_eq!((began.len(), began.iter().collect::<HashSet<_>>().len()), (5, 4), "{began:?}");
    assert_eq!(began[3], began[4]);
}

/// What a transport panics with; to drop it panics as well.
struct Rubble;

impl Drop for Rubble {
    fn drop(&mut self) {
        panic!("it cannot be dropped");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_that_panics_again_costs_a_request_and_no_more() {
    // Where the driver runs, and on a task.
    for panics in [1, 2] {
        let sent = AtomicU32::new(0);
        let transport = Scripted::new(move |kind, _, key| {
            let number = sent.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                if number == panics {
                    std::panic::panic_any(Rubble);
                }
                tokio::time::sleep(SECOND).await;
                Ok(if kind == Kind::Create { answer(201, format!("txn-{key}")) } else { answer(200, "{}") })
            }
        });
        let client = Client::builder(Plain, transport).policy(keyed()).start().await.unwrap();
        for n in 0..3 {
            let finished = client.submit(key(&format!("order-{n}")), "{}").await.unwrap().await.unwrap();
            assert_eq!(finished.outcome.name(), "completed");
        }
    }
}

/// Its transport is in the midst of something that it cannot be cut off from.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_job_that_is_resumed_is_not_asked_for_while_a_request_that_was_cut_off_is_still_there() {
    let (began, let_go) = (Arc::new(Notify::new()), Arc::new((Mutex::new(false), Condvar::new())));
    let polls: Arc<Mutex<u32>> = Arc::default();
    let (begins, goes_on, counts) = (began.clone(), let_go.clone(), polls.clone());
    let transport = Scripted::new(move |kind, _, key| {
        let (begins, goes_on, counts) = (begins.clone(), goes_on.clone(), counts.clone());
        async move {
            // Not where the driver runs.
            tokio::task::yield_now().await;
            if kind == Kind::Create {
                return Ok(answer(201, format!("txn-{key}")));
            }
            if key == "order-42" {
                let nth = {
                    let mut counts = counts.lock().unwrap();
                    *counts += 1;
                    *counts
                };
                if nth == 1 {
                    begins.notify_one();
                    drop(goes_on.1.wait_while(goes_on.0.lock().unwrap(), |goes_on| !*goes_on).unwrap());
                    std::future::pending::<()>().await;
                }
            }
            Ok(answer(200, "{}"))
        }
    });
    let client = Client::builder(Plain, transport).policy(at_once()).start().await.unwrap();
    let job = client.submit(key("order-42"), "{}").await.unwrap();
    began.notified().await;
    job.cancel();
    assert_eq!(job.await.unwrap().outcome, Outcome::Unresolved(Unresolved::Cancelled));
    let job = client.resume(key("order-42")).await.unwrap();
    // Whatever was to leave before this one's has.
    for n in 0..20 {
        let other = client.submit(key(&format!("order-{n}")), "{}").await.unwrap().await.unwrap();
        assert_eq!(other.outcome.name(), "completed");
    }
    let meanwhile = *polls.lock().unwrap();
    *let_go.0.lock().unwrap() = true;
    let_go.1.notify_all();
    assert_eq!(job.await.unwrap().outcome.name(), "completed");
    assert_eq!((meanwhile, *polls.lock().unwrap()), (1, 2), "one while the first was there, and one after it");
}

/// Polled at once.
fn at_once() -> OperationPolicy {
    let moment = Duration::from_millis(1);
    let steady = BackoffPolicy::new(Growth::Fixed(moment), moment, Jitter::None).unwrap();
    let policy = OperationPolicy::default();
    let retry = policy.poll().retry().clone();
    policy.with_poll(PollPolicy::new(steady, 100, 60_000 * moment, retry).unwrap())
}
