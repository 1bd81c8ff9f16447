//! What becomes of webhooks, and what their senders are told: true ones, forged, repeated, late, out of order. Virtual
//! time.
//!
//! Those that come before their job is known are in `early`, thousands that are not to be believed in `forged`; all of
//! it at once, in any order, in `interleaving`; what is said of jobs that have ended in `revisions`.

mod early;
mod forged;
mod interleaving;
mod revisions;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request};
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Completed, Reading, Stage, Unresolved};
use steadfast_core::retry::Failure;
use steadfast_core::{Kind, OperationPolicy, Outcome, Timestamp};
use steadfast_providers::webhook::{Encoding, Scheme, Verifier};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookError, WebhookEvent};
use steadfast_store::{MemoryStore, Store};
use steadfast_tokio::{Builder, Client, Delivery, Finished, WebhookPolicy};
use tokio::time::{Instant, sleep};

use crate::support::{Commit, Faulty, Kept, Plain, Scripted, answer, key, keyed};

const SECOND: Duration = Duration::from_secs(1);
const READY: &str = r#"{"reference":"txn-a","status":"ready"}"#;
const CHANGED: &str = r#"{"reference":"txn-a"}"#;

/// `Plain`, which tells of its jobs by flat JSON under a signature.
#[derive(Clone)]
pub(crate) struct Telling(Verifier);

impl Telling {
    pub(crate) fn new() -> Self {
        Self::by(Scheme::StandardWebhooks, "whsec_c3RlYWRmYXN0LWFkYXB0ZXItdGVzdHM=")
    }

    fn by(scheme: Scheme, secret: &str) -> Self {
        Self(Verifier::new(scheme, [secret]).unwrap())
    }

    /// As the provider sends it, now.
    fn sign(&self, id: &str, body: &str) -> (HeaderMap, Bytes) {
        let now = Timestamp::from(SystemTime::now());
        (self.0.sign(id, now, body.as_bytes()).unwrap(), Bytes::copy_from_slice(body.as_bytes()))
    }

    pub(crate) async fn tell(&self, client: &Client, id: &str, body: &str) -> Delivery {
        let (headers, body) = self.sign(id, body);
        client.deliver(&headers, body).await
    }
}

impl Provider for Telling {
    fn name(&self) -> &str {
        Plain.name()
    }

    fn policy(&self) -> OperationPolicy {
        Plain.policy()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        Plain.request(ask)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        Plain.read(answer)
    }

    fn has_webhooks(&self) -> bool {
        true
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, wall: Timestamp) -> Result<WebhookEvent, WebhookError> {
        Ok(WebhookEvent::plain(self.0.verify(headers, body, wall)?, body))
    }
}

/// What the observer was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Notice>>>);

impl Told {
    fn watch<T: steadfast_tokio::Transport>(&self, builder: Builder<Telling, T>) -> Builder<Telling, T> {
        let told = self.0.clone();
        builder.observer(move |observation| told.lock().unwrap().push(observation.notice.clone()))
    }

    fn count(&self, wanted: impl Fn(&Notice) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|notice| wanted(notice)).count()
    }
}

/// Accepts at once, and is pending for ever.
pub(crate) fn pending_for_ever() -> Scripted {
    Scripted::new(|kind, _, key| async move {
        Ok(if kind == Kind::Create { answer(201, format!("txn-{key}")) } else { answer(202, "not yet") })
    })
}

/// Accepts after so long, and is pending for ever.
pub(crate) fn accepts_after(span: Duration) -> Scripted {
    Scripted::new(move |kind, _, key| async move {
        if kind == Kind::Create {
            sleep(span).await;
            return Ok(answer(201, format!("txn-{key}")));
        }
        Ok(answer(202, "not yet"))
    })
}

fn polls(transport: &Scripted, name: &str) -> usize {
    transport.sent(name).iter().filter(|kind| **kind == Kind::Poll).count()
}

fn creates(transport: &Scripted, name: &str) -> usize {
    transport.sent(name).iter().filter(|kind| **kind == Kind::Create).count()
}

fn is_ready(finished: &Finished) -> bool {
    finished.outcome == Outcome::Completed(Completed::Ready)
}

/// A client with job `a` accepted, and its first poll not due yet.
async fn accepted(transport: &Scripted, store: Option<Kept>) -> (Client, Telling, steadfast_tokio::Handle, Told) {
    let (telling, told) = (Telling::new(), Told::default());
    let builder = told.watch(Client::builder(telling.clone(), transport.clone()));
    let client = match store {
        Some(store) => builder.store(store).start().await.unwrap(),
        None => builder.start().await.unwrap(),
    };
    let job = client.submit(key("a"), "{}").await.unwrap();
    while told.count(|notice| matches!(notice, Notice::Accepted)) == 0 {
        tokio::task::yield_now().await;
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(polls(transport, "a"), 0);
    (client, telling, job, told)
}

#[tokio::test(start_paused = true)]
async fn a_ready_webhook_ends_its_job_as_a_poll_would_have() {
    for store in [None].into_iter().chain(Kept::both().map(Some)) {
        let transport = pending_for_ever();
        let (client, telling, job, _) = accepted(&transport, store.clone()).await;
        let delivery = telling.tell(&client, "evt-1", READY).await;
        assert_eq!((delivery.status().as_u16(), delivery), (200, Delivery::Taken));
        if let Some(mut store) = store {
            let stage = store.find(&key("a")).unwrap().unwrap().record.stage;
            assert!(matches!(stage, Stage::Ended(_) | Stage::Delivered(_)), "2xx before the commit: {stage:?}");
        }
        let finished = job.await.unwrap();
        assert!(is_ready(&finished));
        assert_eq!((finished.body(), finished.reference.as_ref().unwrap().as_str()), (READY.as_bytes(), "txn-a"));
        // Whoever asks again is told the same, and nothing more is sent.
        assert_eq!(client.submit(key("a"), "{}").await.unwrap().await.unwrap().body(), READY.as_bytes());
        assert_eq!(transport.sent("a"), [Kind::Create]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_makes_the_next_poll_due_now_and_the_gate_still_decides() {
    let (telling, transport) = (Telling::new(), Scripted::well_behaved());
    let client = Client::builder(telling.clone(), transport.clone()).start().await.unwrap();
    let job = client.submit(key("a"), "{}").await.unwrap();
    sleep(Duration::from_millis(60)).await;
    let began = Instant::now();
    for n in 1..=3 {
        assert_eq!(telling.tell(&client, &format!("evt-{n}"), CHANGED).await, Delivery::Taken);
        sleep(Duration::from_millis(60)).await;
        assert_eq!(polls(&transport, "a"), n);
    }
    assert!(is_ready(&job.await.unwrap()));
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());

    let held = client.submit(key("b"), "{}").await.unwrap();
    sleep(Duration::from_millis(60)).await;
    client.hold(20 * SECOND);
    assert_eq!(telling.tell(&client, "evt-4", r#"{"reference":"txn-b"}"#).await, Delivery::Taken);
    sleep(19 * SECOND).await;
    assert_eq!(polls(&transport, "b"), 0, "past the gate");
    assert!(is_ready(&held.await.unwrap()));
}

/// C09's sentence: never before the commit of what followed.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_made_durable_is_503_until_it_is() {
    for commit in [Commit::Fails, Commit::InDoubtAndNot, Commit::InDoubtAndDone] {
        for store in Faulty::both() {
            let (telling, transport) = (Telling::new(), pending_for_ever());
            let client =
                Client::builder(telling.clone(), transport.clone()).store(store.clone()).start().await.unwrap();
            let job = client.submit(key("a"), "{}").await.unwrap();
            sleep(Duration::from_millis(500)).await;
            assert!(store.inner.clone().find(&key("a")).unwrap().unwrap().record.stage == Stage::Accepted);
            store.tell([commit; 60]);
            let began = Instant::now();
            let delivery = telling.tell(&client, "evt-1", READY).await;
            let longest = if commit == Commit::Fails { SECOND / 10 } else { 5 * SECOND };
            assert!(began.elapsed() < longest, "{commit:?}: {:?}", began.elapsed());
            assert_eq!((delivery.status().as_u16(), delivery), (503, Delivery::NotDurable), "{commit:?}");
            // The disk is still ill when it is sent again: not 2xx because it is known.
            let again = telling.tell(&client, "evt-1", READY).await;
            assert_eq!(again, Delivery::NotDurable, "{commit:?}");
            store.tell([]);
            assert!(is_ready(&job.await.unwrap()));
            assert_eq!(telling.tell(&client, "evt-1", READY).await, Delivery::Repeated);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_known_by_its_id_or_else_by_its_body() {
    const STARTED: &str = r#"{"reference":"txn-a","status":"pending"}"#;
    let (unnamed, told) = (Telling::by(unnamed(), "secret"), Told::default());
    for (telling, ids, body) in [(Telling::new(), ["evt-1", "evt-2"], CHANGED), (unnamed, ["", ""], STARTED)] {
        let client = told.watch(Client::builder(telling.clone(), pending_for_ever())).start().await.unwrap();
        let _job = client.submit(key("a"), "{}").await.unwrap();
        sleep(Duration::from_millis(10)).await;
        let before = told.count(|notice| *notice == Notice::Webhook);
        for expected in [Delivery::Taken, Delivery::Repeated, Delivery::Repeated] {
            assert_eq!(telling.tell(&client, ids[0], body).await, expected);
            sleep(Duration::from_millis(10)).await;
            assert_eq!(told.count(|notice| *notice == Notice::Webhook), before + 1);
        }
        // Another event: by another id, or where there are none by other bytes.
        assert_eq!(telling.tell(&client, ids[1], r#"{"reference":"txn-a","n":2}"#).await, Delivery::Taken);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(told.count(|notice| *notice == Notice::Webhook), before + 2);
    }
}

fn unnamed() -> Scheme {
    Scheme::Hmac { header: HeaderName::from_static("x-signature"), encoding: Encoding::Hex, prefix: "".into() }
}

/// *Look again* has the same bytes each time, where nothing in it tells one from another: taken for a repeat, the
/// second would leave its job to the schedule.
#[tokio::test(start_paused = true)]
async fn two_hints_without_an_id_and_of_one_body_are_two_polls() {
    for early in [false, true] {
        let (telling, transport) = (Telling::by(unnamed(), "secret"), accepts_after(SECOND));
        let client = Client::builder(telling.clone(), transport.clone()).start().await.unwrap();
        let job = client.submit(key("a"), "{}").await.unwrap();
        sleep(SECOND * if early { 0 } else { 2 }).await;
        for n in 1..=3 {
            assert_eq!(telling.tell(&client, "", CHANGED).await, Delivery::Taken, "{n}");
            sleep(Duration::from_millis(10)).await;
            assert_eq!(polls(&transport, "a"), n, "early {early}");
        }
        // What it brings forward takes nothing of the schedule, so nobody can use it up.
        for _ in 0..100 {
            assert_eq!(telling.tell(&client, "", CHANGED).await, Delivery::Taken);
            sleep(Duration::from_millis(10)).await;
        }
        assert!(tokio::time::timeout(Duration::from_millis(1), job).await.is_err(), "it goes on");
    }
}

/// The memory is bounded in number and time; forgetting costs one more poll at most.
#[tokio::test(start_paused = true)]
async fn the_memory_of_repeats_is_bounded() {
    let policy = WebhookPolicy { remember: 2, remember_for: 100 * SECOND, ..WebhookPolicy::default() };
    let telling = Telling::new();
    let client = Client::builder(telling.clone(), pending_for_ever()).webhooks(policy).start().await.unwrap();
    let _job = client.submit(key("a"), "{}").await.unwrap();
    sleep(Duration::from_millis(10)).await;
    for id in ["evt-1", "evt-2", "evt-3"] {
        assert_eq!(telling.tell(&client, id, CHANGED).await, Delivery::Taken);
    }
    assert_eq!(telling.tell(&client, "evt-3", CHANGED).await, Delivery::Repeated);
    assert_eq!(telling.tell(&client, "evt-1", CHANGED).await, Delivery::Taken, "the oldest is forgotten");
    sleep(101 * SECOND).await;
    assert_eq!(telling.tell(&client, "evt-1", CHANGED).await, Delivery::Taken, "what is old is forgotten");
}

#[tokio::test(start_paused = true)]
async fn what_fails_verification_is_4xx_and_changes_nothing() {
    let transport = pending_for_ever();
    let (client, telling, _job, told) = accepted(&transport, None).await;
    let before = told.0.lock().unwrap().clone();
    let stranger = Telling::by(Scheme::StandardWebhooks, "whsec_c29tZWJvZHktZWxzZQ==");
    let (headers, _) = telling.sign("evt-1", READY);
    let hour_ago = Timestamp::from(SystemTime::now() - 3_600 * SECOND);
    let old = telling.0.sign("evt-2", hour_ago, READY.as_bytes()).unwrap();
    for (headers, body) in [
        stranger.sign("evt-1", READY),
        (headers, Bytes::from_static(br#"{"reference":"txn-a","status":"failed"}"#)),
        (old, Bytes::from_static(READY.as_bytes())),
        (HeaderMap::new(), Bytes::from_static(READY.as_bytes())),
    ] {
        let delivery = client.deliver(&headers, body).await;
        assert!(matches!(delivery, Delivery::Refused(_)), "{delivery:?}");
        assert_eq!(delivery.status().as_u16(), 400);
    }
    sleep(Duration::from_millis(10)).await;
    assert_eq!(*told.0.lock().unwrap(), before);
    assert_eq!(transport.sent("a"), [Kind::Create]);
    // And the event's id was not used up by whoever guessed it.
    assert_eq!(telling.tell(&client, "evt-1", READY).await, Delivery::Taken);
}

#[tokio::test(start_paused = true)]
async fn a_body_beyond_the_limit_is_413_before_anything_is_hashed() {
    /// A provider that must not be asked.
    struct Unasked;
    impl Provider for Unasked {
        fn name(&self) -> &str {
            "unasked"
        }
        fn policy(&self) -> OperationPolicy {
            keyed()
        }
        fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
            Plain.request(ask)
        }
        fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
            Plain.read(answer)
        }
        fn webhook(&self, _: &HeaderMap, _: &Bytes, _: Timestamp) -> Result<WebhookEvent, WebhookError> {
            panic!("it looked at what is too large")
        }
    }
    for (limit, told) in [(1_000, 1_000), (usize::MAX, 1 << 20)] {
        let policy = WebhookPolicy { body_limit: limit, ..WebhookPolicy::default() };
        let client = Client::builder(Unasked, pending_for_ever()).webhooks(policy).start().await.unwrap();
        let delivery = client.deliver(&HeaderMap::new(), vec![0; told + 1].into()).await;
        assert_eq!(delivery, Delivery::TooLarge { bytes: told + 1, limit: told });
        assert_eq!(delivery.status().as_u16(), 413);
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_without_webhooks_says_so_and_the_sender_is_not_blamed() {
    let client = Client::builder(Plain, pending_for_ever()).start().await.unwrap();
    let (headers, body) = Telling::new().sign("evt-1", READY);
    let delivery = client.deliver(&headers, body).await;
    assert_eq!((delivery.status().as_u16(), delivery), (501, Delivery::Refused(WebhookError::Unsupported)));
}

#[tokio::test(start_paused = true)]
async fn after_the_polls_answer_nothing_changes_and_a_later_revision_is_a_notice() {
    for store in [None].into_iter().chain(Kept::both().map(Some)) {
        let (telling, transport, told) = (Telling::new(), Scripted::well_behaved(), Told::default());
        let builder = told.watch(Client::builder(telling.clone(), transport.clone()));
        let builder = if let Some(store) = store.clone() { builder.store(store) } else { builder };
        let client = builder.start().await.unwrap();
        let polled = client.submit(key("a"), "{}").await.unwrap().await.unwrap();
        assert!(is_ready(&polled));
        let sent = transport.sent("a");
        // The same, an older status, a hint, and another end.
        let failed = r#"{"reference":"txn-a","status":"failed"}"#;
        for (n, body) in [READY, r#"{"reference":"txn-a","status":"pending"}"#, CHANGED, failed].into_iter().enumerate()
        {
            assert_eq!(telling.tell(&client, &format!("evt-{n}"), body).await, Delivery::Taken);
        }
        sleep(60 * SECOND).await;
        assert_eq!(transport.sent("a"), sent);
        assert_eq!(client.submit(key("a"), "{}").await.unwrap().await.unwrap(), polled);
        assert_eq!(told.count(|notice| matches!(notice, Notice::Conflict)), 1, "the revision");
        assert_eq!(told.count(|notice| matches!(notice, Notice::Ended(_))), 1);
    }
}

/// The same in the other order: the webhook's *ready* stands, whatever an older poll or webhook says.
#[tokio::test(start_paused = true)]
async fn an_older_status_undoes_nothing() {
    // The poll's answer is on its way while the webhook comes.
    let transport = Scripted::new(|kind, _, key| async move {
        if kind == Kind::Create {
            return Ok(answer(201, format!("txn-{key}")));
        }
        sleep(5 * SECOND).await;
        Ok(answer(202, "older"))
    });
    let (client, telling, job, told) = accepted(&transport, None).await;
    assert_eq!(telling.tell(&client, "evt-1", CHANGED).await, Delivery::Taken);
    sleep(SECOND).await;
    assert_eq!(polls(&transport, "a"), 1);
    let (ready, pending) = tokio::join!(
        telling.tell(&client, "evt-3", READY),
        telling.tell(&client, "evt-2", r#"{"reference":"txn-a","status":"pending"}"#)
    );
    assert_eq!((ready, pending), (Delivery::Taken, Delivery::Taken));
    let finished = job.await.unwrap();
    assert_eq!((is_ready(&finished), finished.body()), (true, READY.as_bytes()));
    sleep(60 * SECOND).await;
    assert_eq!((polls(&transport, "a"), told.count(|notice| matches!(notice, Notice::Ended(_)))), (1, 1));
}

/// Another session of the same key at the provider: a conflict, and not this job's end.
#[tokio::test(start_paused = true)]
async fn another_reference_under_the_same_key_is_another_job() {
    let transport = pending_for_ever();
    let (client, telling, job, told) = accepted(&transport, None).await;
    let other = r#"{"key":"a","reference":"txn-other","status":"failed"}"#;
    assert_eq!(telling.tell(&client, "evt-1", other).await, Delivery::Taken);
    assert_eq!(told.count(|notice| matches!(notice, Notice::Conflict)), 1);
    assert_eq!(telling.tell(&client, "evt-2", READY).await, Delivery::Taken);
    let finished = job.await.unwrap();
    assert_eq!((is_ready(&finished), finished.reference.unwrap().as_str()), (true, "txn-a"));
}

#[tokio::test(start_paused = true)]
async fn while_it_shuts_down_jobs_may_end_by_webhook_and_then_it_is_503() {
    for store in Kept::both() {
        let transport = pending_for_ever();
        let (client, telling, job, _) = accepted(&transport, Some(store)).await;
        let closing = tokio::spawn(client.clone().shutdown(60 * SECOND));
        sleep(SECOND).await;
        assert_eq!(telling.tell(&client, "evt-1", READY).await, Delivery::Taken);
        assert!(is_ready(&job.await.unwrap()));
        assert!(closing.await.unwrap().is_empty());
        let delivery = telling.tell(&client, "evt-2", CHANGED).await;
        assert_eq!((delivery.status().as_u16(), delivery), (503, Delivery::Stopped));
    }
    // Who waits in the inbox when it stops is not forgotten: it is to come again.
    let telling = Telling::new();
    let client = Client::builder(telling.clone(), accepts_after(60 * SECOND)).start().await.unwrap();
    let _job = client.submit(key("a"), "{}").await.unwrap();
    sleep(SECOND).await;
    let (delivery, _) =
        tokio::join!(telling.tell(&client, "evt-1", READY), client.clone().shutdown(Duration::from_millis(100)));
    assert_eq!(delivery, Delivery::Stopped);
}

/// The memory of repeats is gone, and the operation's own state is enough.
#[tokio::test(start_paused = true)]
async fn a_repeat_after_a_restart_changes_nothing() {
    for store in Kept::both() {
        let transport = pending_for_ever();
        let (client, telling, job, _) = accepted(&transport, Some(store.clone())).await;
        assert_eq!(telling.tell(&client, "evt-1", READY).await, Delivery::Taken);
        let first = job.await.unwrap();
        let _ = client.shutdown(SECOND).await;
        let told = Told::default();
        let builder = told.watch(Client::builder(telling.clone(), transport.clone()));
        let client = builder.store(store).start().await.unwrap();
        assert_eq!(telling.tell(&client, "evt-1", READY).await.status().as_u16(), 200);
        let again = client.submit(key("a"), "{}").await.unwrap().await.unwrap();
        assert_eq!((again.outcome, again.reference), (first.outcome, first.reference));
        assert_eq!((told.count(|_| true), transport.sent("a")), (0, vec![Kind::Create]));
    }
}

/// Webhooks are lost: the schedule goes on, so the job ends all the same.
#[tokio::test(start_paused = true)]
async fn polling_goes_on_beside_webhooks() {
    let (telling, transport) = (Telling::new(), Scripted::well_behaved());
    let client = Client::builder(telling, transport.clone()).start().await.unwrap();
    assert!(is_ready(&client.submit(key("a"), "{}").await.unwrap().await.unwrap()));
    assert_eq!(polls(&transport, "a"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_webhook_keeps_its_answer_in_the_store_as_a_poll_does() {
    let (telling, mut store) = (Telling::new(), MemoryStore::default());
    let builder = Client::builder(telling.clone(), pending_for_ever()).store(store.clone()).keep_answers();
    let client = builder.start().await.unwrap();
    let job = client.submit(key("a"), "{}").await.unwrap();
    sleep(Duration::from_millis(10)).await;
    assert_eq!(telling.tell(&client, "evt-1", READY).await, Delivery::Taken);
    assert!(is_ready(&job.await.unwrap()));
    assert_eq!(store.find(&key("a")).unwrap().unwrap().answer.unwrap().body, READY.as_bytes());
}

/// A word about a job that nobody watches any more: counted, and what is unresolved stays so until somebody resumes it.
#[tokio::test(start_paused = true)]
async fn an_unresolved_job_is_not_rewritten() {
    let transport = pending_for_ever();
    let (client, telling, job, told) = accepted(&transport, None).await;
    job.cancel();
    assert_eq!(job.await.unwrap().outcome, Outcome::Unresolved(Unresolved::Cancelled));
    assert_eq!(telling.tell(&client, "evt-1", READY).await, Delivery::Taken);
    let again = client.submit(key("a"), "{}").await.unwrap().await.unwrap();
    assert_eq!(again.outcome, Outcome::Unresolved(Unresolved::Cancelled));
    assert_eq!(told.count(|notice| matches!(notice, Notice::Conflict)), 1);
}

#[test]
fn deliveries_and_events_show_nothing_private() {
    let telling = Telling::new();
    let (headers, body) =
        telling.sign("canary-id", r#"{"reference":"canary-ref","key":"canary-key","status":"ready"}"#);
    let event = telling.webhook(&headers, &body, Timestamp::from(SystemTime::now())).unwrap();
    let refused = telling.webhook(&headers, &Bytes::from_static(b"canary-body"), Timestamp::from(SystemTime::now()));
    let refused = Delivery::Refused(refused.unwrap_err());
    for shown in [format!("{event:?}"), format!("{refused:?} {refused}")] {
        assert!(!shown.contains("canary"), "{shown}");
    }
}
