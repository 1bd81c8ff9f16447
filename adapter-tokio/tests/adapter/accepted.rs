//! The answer by which the provider took a job on reaches whoever follows the job, once that is durable, and is held
//! for nobody else. Virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use steadfast_core::{Kind, OperationPolicy, Outcome, SendSafety};
use steadfast_store::MemoryStore;
use steadfast_tokio::{Accepted, Client, SendError};
use tokio::time::timeout;

use crate::support::{Commit, Faulty, Kept, Plain, Scripted, answer, key};

const SECOND: Duration = Duration::from_secs(1);

/// The reference, and the answer's kind, status and body.
type Told<'a> = (&'a str, Option<(Kind, u16, &'a [u8])>);

fn told(accepted: &Accepted) -> Told<'_> {
    let answer = accepted.answer.as_ref().map(|answer| (answer.kind, answer.status.as_u16(), &answer.body[..]));
    (accepted.reference.as_str(), answer)
}

#[tokio::test(start_paused = true)]
async fn whoever_follows_has_it_before_the_job_ends_and_as_often_as_asked() {
    let client = Client::builder(Plain, Scripted::well_behaved()).start().await.unwrap();
    let job = client.submit(key("a"), "{}").await.unwrap();
    let other = client.submit(key("a"), "{}").await.unwrap();
    let expected = ("txn-a", Some((Kind::Create, 201, &b"txn-a"[..])));
    for _ in 0..2 {
        let accepted = timeout(SECOND, job.accepted()).await.expect("before its first poll").unwrap();
        assert_eq!(told(&accepted), expected);
        assert!(!format!("{accepted:?} {job:?}").contains("116"), "a body is shown: {accepted:?}");
    }
    assert_eq!(told(&other.accepted().await.unwrap()), expected);
    let late = client.submit(key("a"), "{}").await.unwrap();
    assert_eq!(told(&late.accepted().await.unwrap()), expected, "while somebody holds it, who joins has it too");
    drop((other, late));
    assert_eq!(job.await.unwrap().outcome.name(), "completed");
    let ended = client.submit(key("a"), "{}").await.unwrap();
    assert_eq!(told(&ended.accepted().await.unwrap()), ("txn-a", None), "a job that has ended holds nothing");
}

/// Personal data, as a rule, and perhaps megabytes of a scan: a job may wait for a person for days.
#[tokio::test(start_paused = true)]
async fn the_payload_is_let_go_of_once_the_provider_has_the_job() {
    struct Scan(#[expect(dead_code, reason = "it counts who holds the bytes")] Arc<()>);
    impl AsRef<[u8]> for Scan {
        fn as_ref(&self) -> &[u8] {
            b"{}"
        }
    }
    let held = Arc::new(());
    let scan = || Bytes::from_owner(Scan(held.clone()));
    for store in [None, Some(MemoryStore::default())] {
        let builder = Client::builder(Plain, Scripted::well_behaved());
        let builder = match &store {
            Some(store) => builder.store(store.clone()).keep_payloads(),
            None => builder,
        };
        let client = builder.start().await.unwrap();
        let job = client.submit(key("a"), scan()).await.unwrap();
        assert!(Arc::strong_count(&held) > 1, "its create is to be sent");
        job.accepted().await.unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
        let joined = client.submit(key("a"), scan()).await.unwrap();
        assert_eq!(Arc::strong_count(&held), 1, "who joins brings it again for nothing");
        for job in [job, joined] {
            assert_eq!(job.await.unwrap().outcome.name(), "completed");
        }
    }
}

/// Committed before it is shown.
#[tokio::test(start_paused = true)]
async fn it_is_told_when_it_is_durable_and_not_before() {
    for store in Faulty::both() {
        let client = Client::builder(Plain, Scripted::well_behaved()).store(store.clone()).start().await.unwrap();
        let job = client.submit(key("a"), "{}").await.unwrap();
        store.tell([Commit::Fails; 5]);
        let early = timeout(Duration::from_millis(300), job.accepted()).await;
        assert!(early.is_err() && store.left() < 5, "told while the record could not be written: {early:?}");
        store.tell([]);
        assert_eq!(told(&job.accepted().await.unwrap()), ("txn-a", Some((Kind::Create, 201, &b"txn-a"[..]))));
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_never_accepted_is_told_so() {
    let refusing = Scripted::new(|_, _, _| async { Ok(answer(422, "no")) });
    let client = Client::builder(Plain, refusing).start().await.unwrap();
    let job = client.submit(key("a"), "{}").await.unwrap();
    job.accepted().await.unwrap_err();
    assert!(matches!(job.await.unwrap().outcome, Outcome::Rejected(_)));

    let silent = Scripted::new(|_, _, _| std::future::pending());
    let client = Client::builder(Plain, silent).start().await.unwrap();
    let job = client.submit(key("a"), "{}").await.unwrap();
    let _ = client.shutdown(Duration::ZERO).await;
    job.accepted().await.unwrap_err();
}

/// A look-up that found the job says where it is, in its own shape.
#[tokio::test(start_paused = true)]
async fn a_look_ups_answer_says_that_it_is_one() {
    let transport = Scripted::new(|kind, _, _| async move {
        match kind {
            Kind::Create => Err(SendError::ambiguous()),
            Kind::Lookup => Ok(answer(201, "txn-1")),
            _ => Ok(answer(200, "done")),
        }
    });
    let lookup = OperationPolicy::default().with_safety(SendSafety::Lookup { settle: SECOND }).unwrap();
    let client = Client::builder(Plain, transport).policy(lookup).start().await.unwrap();
    let job = client.submit(key("a"), "{}").await.unwrap();
    assert_eq!(told(&job.accepted().await.unwrap()), ("txn-1", Some((Kind::Lookup, 201, &b"txn-1"[..]))));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_the_reference_alone_is_known() {
    for store in Kept::both() {
        let pending = || {
            Scripted::new(|kind, _, _| async move { Ok(answer(if kind == Kind::Create { 201 } else { 202 }, "txn-1")) })
        };
        let client = Client::builder(Plain, pending()).store(store.clone()).start().await.unwrap();
        let job = client.submit(key("a"), "{}").await.unwrap();
        assert!(job.accepted().await.unwrap().answer.is_some());
        let _ = client.shutdown(Duration::ZERO).await;
        let client = Client::builder(Plain, pending()).store(store).start().await.unwrap();
        let job = client.submit(key("a"), "{}").await.unwrap();
        assert_eq!(told(&job.accepted().await.unwrap()), ("txn-1", None));
    }
}

/// A body that is counted while it is there.
struct Counted(Arc<AtomicUsize>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        b"txn-1"
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_not_held() {
    let alive = Arc::new(AtomicUsize::new(0));
    let count = alive.clone();
    let transport = Scripted::new(move |kind, _, _| {
        let count = count.clone();
        async move {
            if kind != Kind::Create {
                return Ok(answer(202, ""));
            }
            count.fetch_add(1, Ordering::SeqCst);
            Ok(answer(201, Bytes::from_owner(Counted(count))))
        }
    });
    let client = Client::builder(Plain, transport).start().await.unwrap();
    let mut jobs = Vec::new();
    for n in 0..10 {
        jobs.push(client.submit(key(&format!("job-{n}")), "{}").await.unwrap());
    }
    // The first polls have been answered, so nothing else holds the creates' bodies.
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(alive.load(Ordering::SeqCst), 10);
    jobs.truncate(3);
    tokio::time::sleep(SECOND).await;
    assert_eq!(alive.load(Ordering::SeqCst), 3, "whoever dropped the handle does not want it");
    jobs.clear();
    tokio::time::sleep(SECOND).await;
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

/// On a task that may run on any thread: a server's handler, say.
#[tokio::test(start_paused = true)]
async fn a_task_of_its_own_learns_that_a_job_was_accepted_and_how_it_ended() {
    let client = Client::builder(Plain, Scripted::well_behaved()).start().await.unwrap();
    let job = client.submit(key("order-42"), "{}").await.unwrap();
    let followed = tokio::spawn(async move { (job.accepted().await.unwrap(), job.await.unwrap()) });
    let (accepted, finished) = followed.await.unwrap();
    assert_eq!((accepted.reference.as_str(), finished.outcome.name()), ("txn-order-42", "completed"));
}
