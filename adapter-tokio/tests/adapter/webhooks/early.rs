//! What comes before its job is known: before the create's answer, before the payload, or about nobody's job.

use std::time::Duration;

use steadfast_core::Kind;
use steadfast_core::gate::{GatePolicy, Kinds, RateLimit};
use steadfast_core::operation::Stage;
use steadfast_core::rate_limit::RatePolicy;
use steadfast_store::Store;
use steadfast_tokio::{Client, Delivery, UnknownJob, WebhookPolicy};
use tokio::time::{Instant, sleep, timeout};

use super::{READY, SECOND, Telling, accepts_after, creates, is_ready, pending_for_ever, polls};
use crate::support::{Commit, Faulty, Kept, Scripted, key, keyed};

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

/// The gate is closed to creates, as in an outage: a job that was never sent has no name at the provider.
#[tokio::test(start_paused = true)]
async fn what_waits_at_the_gate_for_its_first_create_is_nobody_elses_job() {
    let telling = Telling::new();
    let slow = RateLimit { kinds: Kinds::of(&[Kind::Create]), rate: RatePolicy::new(1, 60 * SECOND).unwrap() };
    let transport = pending_for_ever();
    let builder = Client::builder(telling.clone(), transport.clone()).gate(GatePolicy::none().with_rate_limit(slow));
    let client = builder.start().await.unwrap();
    let (_first, _second) =
        (client.submit(key("a"), "{}").await.unwrap(), client.submit(key("b"), "{}").await.unwrap());
    sleep(SECOND).await;
    assert_eq!(creates(&transport, "a") + creates(&transport, "b"), 1);
    let began = Instant::now();
    let other = r#"{"reference":"txn-z","status":"ready"}"#;
    assert_eq!(telling.tell(&client, "evt-1", other).await, Delivery::Unknown { repeat: false });
    assert!(began.elapsed() < SECOND, "kept waiting for nothing");
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

/// Its answer is waited for until something else is to be asked. Then it is cut off, though nobody gave it up before.
#[tokio::test(start_paused = true)]
async fn a_create_that_is_never_answered_keeps_no_poll_from_leaving() {
    for waits in [false, true] {
        let telling = Telling::new();
        let transport = Scripted::new(|kind, _, _| async move {
            match kind {
                Kind::Create => std::future::pending().await,
                _ => Ok(crate::support::answer(200, "done")),
            }
        });
        let client = Client::builder(telling.clone(), transport.clone()).start().await.unwrap();
        let job = client.submit(key("a"), "{}").await.unwrap();
        let accepted = async {
            if waits {
                let accepted = job.accepted().await.unwrap();
                assert!(accepted.answer.is_none());
            }
        };
        let told = async {
            sleep(Duration::from_millis(100)).await;
            telling.tell(&client, "evt-1", r#"{"reference":"txn-a","key":"a"}"#).await
        };
        let ((), delivery) = tokio::join!(accepted, told);
        assert_eq!(delivery, Delivery::Taken);
        assert_eq!(job.await.unwrap().outcome.name(), "completed");
        assert_eq!(transport.sent("a"), [Kind::Create, Kind::Poll]);
    }
}
