//! What becomes of webhooks, and what their senders are told: true ones, forged, repeated, early, late, out of order. Virtual time.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request};
use proptest::prelude::*;
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Completed, Reading, Stage, Unresolved};
use steadfast_core::retry::Failure;
use steadfast_core::{Kind, OperationPolicy, Outcome, Seed, Timestamp};
use steadfast_providers::webhook::{Encoding, Scheme, Verifier};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookError, WebhookEvent};
use steadfast_store::{MemoryStore, Store};
use steadfast_tokio::{Builder, Client, Delivery, Finished, UnknownJob, WebhookPolicy};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Commit, Faulty, Kept, Plain, Scripted, answer, key, keyed};

const SECOND: Duration = Duration::from_secs(1);
const READY: &str = r#"{"reference":"txn-a","status":"ready"}"#;
const CHANGED: &str = r#"{"reference":"txn-a"}"#;

/// `Plain`, which tells of its jobs by flat JSON under a signature.
#[derive(Clone)]
struct Telling(Verifier);

impl Telling {
    fn new() -> Self {
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

    async fn tell(&self, client: &Client, id: &str, body: &str) -> Delivery {
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
fn pending_for_ever() -> Scripted {
    Scripted::new(|kind, _, key| async move {
        Ok(if kind == Kind::Create { answer(201, format!("txn-{key}")) } else { answer(202, "not yet") })
    })
}

/// Accepts after so long, and is pending for ever.
fn accepts_after(span: Duration) -> Scripted {
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
    let header = HeaderName::from_static("x-signature");
    let unnamed = Telling::by(Scheme::Hmac { header, encoding: Encoding::Hex, prefix: "".into() }, "secret");
    for (telling, ids) in [(Telling::new(), ["evt-1", "evt-2"]), (unnamed, ["", ""])] {
        let transport = pending_for_ever();
        let client = Client::builder(telling.clone(), transport.clone()).start().await.unwrap();
        let _job = client.submit(key("a"), "{}").await.unwrap();
        sleep(Duration::from_millis(10)).await;
        for (expected, polled) in [(Delivery::Taken, 1), (Delivery::Repeated, 1), (Delivery::Repeated, 1)] {
            assert_eq!(telling.tell(&client, ids[0], CHANGED).await, expected);
            sleep(Duration::from_millis(10)).await;
            assert_eq!(polls(&transport, "a"), polled);
        }
        // Another event: by another id, or where there are none by other bytes.
        assert_eq!(telling.tell(&client, ids[1], r#"{"reference":"txn-a","n":2}"#).await, Delivery::Taken);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(polls(&transport, "a"), 2);
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
async fn before_the_creates_answer_the_callers_key_finds_the_job_and_teaches_its_reference() {
    for store in Kept::both() {
        let (telling, transport) = (Telling::new(), accepts_after(8 * SECOND));
        let client = Client::builder(telling.clone(), transport.clone()).store(store).start().await.unwrap();
        let job = client.submit(key("a"), "{}").await.unwrap();
        sleep(SECOND).await;
        let delivery = telling.tell(&client, "evt-1", r#"{"key":"a","reference":"txn-a"}"#).await;
        assert_eq!(delivery, Delivery::Taken);
        sleep(SECOND).await;
        assert_eq!(transport.sent("a"), [Kind::Create, Kind::Poll], "adopted, and asked at once");
        assert_eq!(telling.tell(&client, "evt-2", READY).await, Delivery::Taken);
        let finished = job.await.unwrap();
        assert!(is_ready(&finished));
        assert_eq!(finished.reference.unwrap().as_str(), "txn-a");
        sleep(20 * SECOND).await;
        assert_eq!(creates(&transport, "a"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_creates_answer_a_reference_waits_in_the_inbox_and_then_counts() {
    let (telling, transport) = (Telling::new(), accepts_after(2 * SECOND));
    let client = Client::builder(telling.clone(), transport.clone()).start().await.unwrap();
    let job = client.submit(key("a"), "{}").await.unwrap();
    sleep(SECOND).await;
    let began = Instant::now();
    // Twice: both senders wait, and it counts once.
    let (first, second) = tokio::join!(telling.tell(&client, "evt-1", READY), telling.tell(&client, "evt-1", READY));
    assert_eq!((first, second), (Delivery::Taken, Delivery::Taken));
    assert!(began.elapsed() >= SECOND, "2xx before it was matched");
    assert!(is_ready(&job.await.unwrap()));
    assert_eq!(transport.sent("a"), [Kind::Create]);
    assert_eq!(telling.tell(&client, "evt-1", READY).await, Delivery::Repeated);
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_to_send_it_again_and_what_was_sent_still_counts() {
    let (telling, transport) = (Telling::new(), accepts_after(8 * SECOND));
    let client = Client::builder(telling.clone(), transport.clone()).start().await.unwrap();
    let job = client.submit(key("a"), "{}").await.unwrap();
    sleep(SECOND).await;
    let began = Instant::now();
    let delivery = telling.tell(&client, "evt-1", READY).await;
    assert_eq!((delivery.status().as_u16(), delivery), (503, Delivery::Early));
    assert!((3 * SECOND..5 * SECOND).contains(&began.elapsed()), "within what senders allow: {:?}", began.elapsed());
    assert!(is_ready(&job.await.unwrap()));
    assert_eq!(transport.sent("a"), [Kind::Create], "matched when the reference came, without a poll");
    assert_eq!(telling.tell(&client, "evt-1", READY).await, Delivery::Repeated);
}

#[tokio::test(start_paused = true)]
async fn the_inbox_is_bounded_in_number_bytes_and_time() {
    let default = WebhookPolicy::default();
    let late = |policy: WebhookPolicy| async move {
        let (telling, transport) = (Telling::new(), accepts_after(8 * SECOND));
        let client = Client::builder(telling.clone(), transport.clone()).webhooks(policy).start().await.unwrap();
        let job = client.submit(key("a"), "{}").await.unwrap();
        sleep(SECOND).await;
        let other = r#"{"reference":"txn-other","status":"ready"}"#;
        let (first, second) =
            tokio::join!(telling.tell(&client, "evt-1", READY), telling.tell(&client, "evt-2", other));
        assert_eq!((first, second), (Delivery::Early, Delivery::Early));
        sleep(5 * SECOND).await;
        timeout(100 * Duration::from_millis(1), job).await.is_ok()
    };
    assert!(late(default).await, "kept, and matched");
    assert!(!late(WebhookPolicy { inbox: 1, ..default }).await, "the oldest of two");
    assert!(!late(WebhookPolicy { inbox_bytes: 600, ..default }).await, "the oldest of two");
    assert!(!late(WebhookPolicy { inbox_for: 6 * SECOND, ..default }).await, "older than 6 s");
}

/// However long each of them takes: the job to be known, and the disk.
#[tokio::test(start_paused = true)]
async fn an_answer_comes_within_the_time_that_senders_allow() {
    for store in Faulty::both() {
        let telling = Telling::new();
        let builder = Client::builder(telling.clone(), accepts_after(2 * SECOND));
        let client = builder.store(store.clone()).start().await.unwrap();
        let job = client.submit(key("a"), "{}").await.unwrap();
        sleep(Duration::from_millis(100)).await;
        store.tell([Commit::InDoubtAndNot; 60]);
        let began = Instant::now();
        assert_eq!(telling.tell(&client, "evt-1", READY).await, Delivery::NotDurable);
        let waited = began.elapsed();
        assert!((2_900..3_100).contains(&waited.as_millis()), "{waited:?}");
        store.tell([]);
        assert!(is_ready(&job.await.unwrap()));
        assert_eq!(telling.tell(&client, "evt-1", READY).await, Delivery::Repeated);
    }
}

/// I15: however many are sent at once, few wait here.
#[tokio::test(start_paused = true)]
async fn those_who_wait_for_an_answer_are_bounded() {
    let telling = Telling::new();
    let client = Client::builder(telling.clone(), accepts_after(8 * SECOND)).start().await.unwrap();
    let _job = client.submit(key("a"), "{}").await.unwrap();
    sleep(SECOND).await;
    let count = async |client: &Client, ids: &[String], wanted: Delivery| {
        let mut deliveries = tokio::task::JoinSet::new();
        for id in ids {
            let (telling, client, id) = (telling.clone(), client.clone(), id.clone());
            deliveries.spawn(async move {
                let began = Instant::now();
                (telling.tell(&client, &id, READY).await, began.elapsed())
            });
        }
        let all = deliveries.join_all().await;
        all.iter().filter(|(delivery, waited)| *delivery == wanted && *waited < SECOND).count()
    };
    let repeats = vec!["evt-1".to_owned(); 20];
    assert_eq!(count(&client, &repeats, Delivery::Early).await, 4, "sixteen wait for the job of one event");

    let [store, _] = Faulty::both();
    let client = Client::builder(telling.clone(), pending_for_ever()).store(store.clone()).start().await.unwrap();
    let _job = client.submit(key("a"), "{}").await.unwrap();
    sleep(SECOND / 2).await;
    store.tell([Commit::InDoubtAndNot; 60]);
    let many: Vec<_> = (0..10_003).map(|n| format!("evt-{n}")).collect();
    assert_eq!(count(&client, &many, Delivery::Busy).await, 3, "ten thousand wait for the journal");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_not_ours_is_answered_as_the_policy_says() {
    for (unknown, known_later) in [
        (UnknownJob::RepeatIfEarly, Delivery::Early),
        (UnknownJob::Accept, Delivery::Unknown { repeat: false }),
        (UnknownJob::Repeat, Delivery::Early),
    ] {
        let repeat = unknown == UnknownJob::Repeat;
        let telling = Telling::new();
        let policy = WebhookPolicy { unknown, ..WebhookPolicy::default() };
        let transport = accepts_after(8 * SECOND);
        let client = Client::builder(telling.clone(), transport.clone()).webhooks(policy).start().await.unwrap();
        let began = Instant::now();
        let delivery = telling.tell(&client, "evt-1", READY).await;
        assert_eq!(delivery, Delivery::Unknown { repeat }, "no create is open");
        assert_eq!(delivery.status().as_u16(), if repeat { 503 } else { 200 });
        assert_eq!(telling.tell(&client, "evt-2", r#"{"status":"ready"}"#).await, Delivery::NoJob);

        let job = client.submit(key("a"), "{}").await.unwrap();
        sleep(Duration::from_millis(10)).await;
        // Somebody else's key, passed on by the provider: not a job of ours, whatever is open.
        let other = r#"{"key":"z","reference":"txn-z","status":"ready"}"#;
        assert_eq!(telling.tell(&client, "evt-3", other).await, Delivery::Unknown { repeat });
        assert!(began.elapsed() < SECOND, "kept waiting for nothing");
        // Not used up by having come too soon.
        assert_eq!(telling.tell(&client, "evt-1", READY).await, known_later);
        assert!(is_ready(&job.await.unwrap()), "matched when the reference came");
        assert_eq!(polls(&transport, "a"), 0);
    }
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

/// A restart found the job and not its payload. The provider has it after all, so none is needed.
#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_its_payload_needs_none_once_the_provider_tells_of_it() {
    for (store, spent) in Kept::both().into_iter().zip([false, true]).chain(Kept::both().into_iter().zip([true, false]))
    {
        let telling = Telling::new();
        let silent = Scripted::new(|_, _, _| std::future::pending());
        let client = Client::builder(telling.clone(), silent).store(store.clone()).start().await.unwrap();
        let _job = client.submit(key("a"), "{}").await.unwrap();
        assert_eq!(client.shutdown(Duration::ZERO).await.len(), 1);
        let creates = if spent { keyed().create().attempts() } else { 1 };
        let mut entry = store.clone().find(&key("a")).unwrap().unwrap();
        entry.record.creates = creates;
        store.clone().append(&[entry]).unwrap();

        let transport = pending_for_ever();
        let client = Client::builder(telling.clone(), transport.clone()).store(store.clone()).start().await.unwrap();
        // That something changed is no reason to give the payload up.
        assert_eq!(telling.tell(&client, "evt-1", r#"{"key":"a"}"#).await, Delivery::Taken);
        // Until after its next create would have been due.
        sleep(20 * SECOND).await;
        assert_eq!(transport.sent("a"), []);
        assert_eq!(store.clone().find(&key("a")).unwrap().unwrap().record.stage, Stage::InFlight);
        let named = r#"{"key":"a","reference":"txn-a"}"#;
        assert_eq!(telling.tell(&client, "evt-2", named).await, Delivery::Taken);
        let record = store.clone().find(&key("a")).unwrap().unwrap().record;
        assert_eq!(
            (record.stage, record.creates),
            (Stage::Accepted, creates),
            "2xx before the commit, or one more create"
        );
        sleep(SECOND).await;
        assert_eq!(transport.sent("a"), [Kind::Poll]);
        assert_eq!(telling.tell(&client, "evt-3", READY).await, Delivery::Taken);
        assert!(is_ready(&client.submit(key("a"), "{}").await.unwrap().await.unwrap()));
    }
}

/// The memory of repeats is gone, and the operation's own state is enough.
#[tokio::test(start_paused = true)]
async fn a_repeat_after_a_restart_changes_nothing() {
    for store in Kept::both() {
        let transport = pending_for_ever();
        let (client, telling, job, _) = accepted(&transport, Some(store.clone())).await;
        assert_eq!(telling.tell(&client, "evt-1", READY).await, Delivery::Taken);
        let first = job.await.unwrap();
        client.shutdown(SECOND).await;
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

/// What happens to one job, whose create and polls are answered after drawn delays, and which is ready at a drawn moment.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    /// The provider tells the truth of now: a hint, or what is so. By key, by reference or by both.
    Tell {
        named: u8,
        meaning: bool,
    },
    /// Something that was told before is sent again.
    Again(usize),
    /// A lie, badly signed; or a true word that was altered.
    Forge {
        named: u8,
        altered: bool,
    },
    /// The truth about somebody else's job.
    Stranger,
}

fn steps() -> BoxedStrategy<Vec<Step>> {
    let step = prop_oneof![
        4 => (1_u64..4_000).prop_map(Step::Wait),
        4 => (0_u8..3, any::<bool>()).prop_map(|(named, meaning)| Step::Tell { named, meaning }),
        2 => (0_usize..8).prop_map(Step::Again),
        3 => (0_u8..3, any::<bool>()).prop_map(|(named, altered)| Step::Forge { named, altered }),
        1 => Just(Step::Stranger),
    ];
    prop::collection::vec(step.boxed(), 0..24).boxed()
}

fn body(named: u8, name: &str, status: &str, n: usize) -> String {
    let named = match named {
        0 => format!(r#""reference":"txn-{name}""#),
        1 => format!(r#""key":"{name}""#),
        _ => format!(r#""key":"{name}","reference":"txn-{name}""#),
    };
    format!(r#"{{{named},"status":"{status}","n":{n}}}"#)
}

/// What was observed of the job: notices by name, its end, and what was sent.
type Seen = (Vec<String>, Finished, Vec<Kind>);

async fn live(steps: &[Step], delays: [u64; 3], forged: bool, stored: bool) -> Seen {
    let [create, poll, ready] = delays.map(Duration::from_millis);
    let began = Instant::now();
    let transport = Scripted::new(move |kind, _, key| async move {
        sleep(if kind == Kind::Create { create } else { poll }).await;
        Ok(match kind {
            Kind::Create => answer(201, format!("txn-{key}")),
            _ if began.elapsed() >= ready => answer(200, "polled"),
            _ => answer(202, "not yet"),
        })
    });
    let (telling, told) = (Telling::new(), Told::default());
    let stranger = Telling::by(Scheme::StandardWebhooks, "whsec_c29tZWJvZHktZWxzZQ==");
    let builder = told.watch(Client::builder(telling.clone(), transport.clone())).seed(Seed::new(7));
    let builder = if stored { builder.store(MemoryStore::default()) } else { builder };
    let client = builder.start().await.unwrap();
    let job = client.submit(key("a"), "{}").await.unwrap();
    let mut sent: Vec<(String, (HeaderMap, Bytes))> = Vec::new();
    let mut deliveries = tokio::task::JoinSet::new();
    for (n, step) in steps.iter().enumerate() {
        let post = |id: &str, signed: (HeaderMap, Bytes), genuine: bool| {
            let (client, id) = (client.clone(), id.to_owned());
            async move { (id, client.deliver(&signed.0, signed.1).await, genuine) }
        };
        match step {
            Step::Wait(ms) => sleep(Duration::from_millis(*ms)).await,
            Step::Tell { named, meaning } => {
                let status = match (meaning, began.elapsed() >= ready) {
                    (false, _) => "changed",
                    (true, true) => "ready",
                    (true, false) => "pending",
                };
                let id = format!("evt-{n}");
                let signed = telling.sign(&id, &body(*named, "a", status, n));
                sent.push((id.clone(), signed.clone()));
                deliveries.spawn(post(&id, signed, true));
            }
            Step::Again(which) if !sent.is_empty() => {
                let (id, signed) = sent[which % sent.len()].clone();
                deliveries.spawn(post(&id, signed, true));
            }
            Step::Again(_) => {}
            Step::Forge { named, altered } if forged => {
                let lie = body(*named, "a", "failed", n);
                let signed = match sent.last().filter(|_| *altered) {
                    Some((_, (headers, _))) => (headers.clone(), Bytes::from(lie)),
                    None => stranger.sign(&format!("evt-{n}"), &lie),
                };
                deliveries.spawn(post("forged", signed, false));
            }
            Step::Forge { .. } => {}
            Step::Stranger => {
                let id = format!("evt-{n}");
                deliveries.spawn(post(&id, telling.sign(&id, &body(2, "z", "failed", n)), true));
            }
        }
        tokio::task::yield_now().await;
    }
    let finished = timeout(3_600 * SECOND, job).await.expect("I14: it ends").unwrap();
    while let Some(delivered) = deliveries.join_next().await {
        let (_, delivery, genuine) = delivered.unwrap();
        let status = delivery.status().as_u16();
        assert!(if genuine { status == 200 || status == 503 } else { status == 400 }, "{delivery:?}");
    }
    // Everything once more, after the end, among it what was told to come again: it is taken now, and changes nothing.
    for (id, (headers, body)) in &sent {
        let delivery = client.deliver(headers, body.clone()).await;
        assert_eq!(delivery.status().as_u16(), 200, "{id}: {delivery:?}");
    }
    let again = client.submit(key("a"), "{}").await.unwrap().await.unwrap();
    assert_eq!(again, finished, "one outcome");
    assert!(client.shutdown(60 * SECOND).await.is_empty());
    assert_eq!(told.count(|notice| matches!(notice, Notice::Ended(_))), 1, "one outcome");
    let webhooks = told.count(|notice| matches!(notice, Notice::Webhook));
    assert!(webhooks <= 2 * sent.len(), "{webhooks} of {}: a repeat counted", sent.len());
    let name = |notice: &Notice| format!("{notice:?}").split(['{', '(']).next().unwrap_or_default().trim().to_owned();
    let notices = told.0.lock().unwrap().iter().map(name).collect();
    (notices, finished, transport.sent("a"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// I16, and exactly one outcome: whatever comes between the polls, the job ends once, and truly; what is forged changes nothing at all.
    #[test]
    fn i16_any_interleaving_of_polls_and_deliveries_gives_one_outcome(
        steps in steps(), create in 1_u64..6_000, poll in 1_u64..3_000, ready in 1_u64..20_000
    ) {
        let live = |forged, stored| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(live(&steps, [create, poll, ready], forged, stored))
        };
        let check = |(_, finished, sent): &Seen| {
            let body = finished.body();
            let creates = sent.iter().filter(|kind| **kind == Kind::Create).count();
            is_ready(finished) && creates == 1 && (body == b"polled" || body.windows(7).any(|it| it == b"\"ready\""))
        };
        let seen = [live(true, true), live(true, false)];
        for seen in &seen {
            prop_assert!(check(seen), "{seen:?}");
        }
        // A store's thread runs in real time, so only without one is a second run the same.
        prop_assert_eq!(&seen[1], &live(false, false));
    }
}
