//! Webhooks, whichever shard has their job: answered as by one, once, and none is called unknown that may be known in a
//! moment.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use proptest::prelude::*;
use steadfast_core::notice::Notice;
use steadfast_core::{Key, Seed};
use steadfast_tokio::{Client, Delivery, UnknownJob, WebhookPolicy};
use tokio::time::{Instant, sleep};

use super::SECOND;
use super::gate::shards_of;
use crate::support::{Scripted, answer, key};
use crate::webhooks::{Telling, accepts_after, pending_for_ever};

fn by_reference(name: &str, status: &str) -> String {
    format!(r#"{{"reference":"txn-{name}","status":"{status}"}}"#)
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_names_only_a_reference_finds_its_job_in_whichever_shard() {
    let (telling, transport) = (Telling::new(), pending_for_ever());
    let client = Client::builder(telling.clone(), transport).shards(5).start().await.unwrap();
    let mut jobs = Vec::new();
    for n in 0..30 {
        jobs.push(client.submit(key(&format!("job-{n}")), "{}").await.unwrap());
    }
    sleep(SECOND).await;
    for (n, job) in jobs.into_iter().enumerate() {
        let (id, body) = (format!("evt-{n}"), by_reference(&format!("job-{n}"), "ready"));
        assert_eq!(telling.tell(&client, &id, &body).await, Delivery::Taken);
        assert_eq!(job.await.unwrap().outcome.name(), "completed");
        assert_eq!(telling.tell(&client, &id, &body).await, Delivery::Repeated);
        // Under another's key: the provider's name for it counts.
        let both = format!(r#"{{"key":"other-{n}","reference":"txn-job-{n}","status":"ready"}}"#);
        assert_eq!(telling.tell(&client, &format!("both-{n}"), &both).await, Delivery::Taken);
    }
    // All jobs have names by now, and it is none of them.
    for unknown in 0..10 {
        let body = by_reference(&format!("stranger-{unknown}"), "ready");
        assert_eq!(telling.tell(&client, &format!("str-{unknown}"), &body).await, Delivery::Unknown { repeat: false });
    }
}

/// It waits once, for whichever shard comes to know the job.
#[tokio::test(start_paused = true)]
async fn one_that_comes_before_the_creates_answer_waits_for_whichever_shard_learns_of_it() {
    for unknown in [UnknownJob::RepeatIfEarly, UnknownJob::Accept, UnknownJob::Repeat] {
        let (telling, transport) = (Telling::new(), accepts_after(2 * SECOND));
        let policy = WebhookPolicy { unknown, inbox: 20, ..WebhookPolicy::default() };
        let client = Client::builder(telling.clone(), transport).webhooks(policy).shards(5).start().await.unwrap();
        let mut jobs = Vec::new();
        for n in 0..20 {
            jobs.push(client.submit(key(&format!("job-{n}")), "{}").await.unwrap());
        }
        sleep(SECOND).await;
        let mut told = tokio::task::JoinSet::new();
        for n in 0..20 {
            let (telling, client) = (telling.clone(), client.clone());
            told.spawn(async move {
                let body = by_reference(&format!("job-{n}"), "ready");
                telling.tell(&client, &format!("evt-{n}"), &body).await
            });
        }
        while let Some(delivery) = told.join_next().await {
            let expected =
                if unknown == UnknownJob::Accept { Delivery::Unknown { repeat: false } } else { Delivery::Taken };
            assert_eq!(delivery.unwrap(), expected);
        }
        for job in jobs {
            // By the webhook: the polls say pending for ever.
            assert_eq!(job.await.unwrap().outcome.name(), "completed");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_inbox_that_is_full_is_full_for_all() {
    let (telling, transport) = (Telling::new(), accepts_after(60 * SECOND));
    let policy = WebhookPolicy { inbox: 2, answer_within: 20 * SECOND, ..WebhookPolicy::default() };
    let client = Client::builder(telling.clone(), transport).webhooks(policy).shards(5).start().await.unwrap();
    let _job = client.submit(key("a"), "{}").await.unwrap();
    sleep(SECOND).await;
    let mut told = tokio::task::JoinSet::new();
    for n in 0..6 {
        let (telling, client) = (telling.clone(), client.clone());
        told.spawn(async move {
            telling.tell(&client, &format!("evt-{n}"), &by_reference(&format!("job-{n}"), "ready")).await
        });
        sleep(Duration::from_millis(10)).await;
    }
    sleep(SECOND).await;
    let answered = std::iter::from_fn(|| told.try_join_next()).map(|delivery| delivery.unwrap()).collect::<Vec<_>>();
    assert_eq!(answered, vec![Delivery::Early; 4], "the oldest make room");
}

/// Those that are about nobody's job are asked about, and take no room meanwhile.
#[tokio::test(start_paused = true)]
async fn strangers_push_nothing_out_of_the_inbox() {
    let (telling, transport) = (Telling::new(), accepts_after(5 * SECOND));
    let policy = WebhookPolicy { inbox: 1, answer_within: 20 * SECOND, ..WebhookPolicy::default() };
    let client = Client::builder(telling.clone(), transport).webhooks(policy).shards(3).start().await.unwrap();
    let job = client.submit(key("a"), "{}").await.unwrap();
    sleep(SECOND).await;
    let (teller, to) = (telling.clone(), client.clone());
    let early = tokio::spawn(async move { teller.tell(&to, "evt-a", &by_reference("a", "ready")).await });
    sleep(SECOND).await;
    for n in 0..5 {
        // It names a key, so it is about no job whose create is open.
        let stranger = format!(r#"{{"key":"stranger-{n}","reference":"txn-{n}","status":"ready"}}"#);
        assert_eq!(telling.tell(&client, &format!("evt-{n}"), &stranger).await, Delivery::Unknown { repeat: false });
    }
    assert_eq!(early.await.unwrap(), Delivery::Taken);
    assert_eq!(job.await.unwrap().outcome.name(), "completed");
}

/// It was asked, and was told to stop before it looked.
#[tokio::test(start_paused = true)]
async fn a_shard_that_stops_answers_what_it_was_asked() {
    let (telling, policy) = (Telling::new(), WebhookPolicy { unknown: UnknownJob::Accept, ..WebhookPolicy::default() });
    let stopped: Arc<Mutex<Option<Client>>> = Arc::default();
    let stops = stopped.clone();
    let builder = Client::builder(telling.clone(), pending_for_ever()).webhooks(policy).seed(Seed::new(7));
    let builder = builder.shards(2).observer(move |seen| {
        if seen.notice == Notice::Webhook {
            // In the turn in which it asks.
            let client: Option<Client> = stops.lock().unwrap().take();
            let shut_down = pin!(client.expect("once").shutdown(60 * SECOND));
            assert!(shut_down.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
    });
    let client = builder.start().await.unwrap();
    let _goes_on = client.submit(key("job"), "{}").await.unwrap();
    sleep(SECOND).await;
    *stopped.lock().unwrap() = Some(client.clone());
    let shards = shards_of(2);
    // It comes to the shard that goes on, which asks the other.
    let home = |number: &u32| shards.of(&key(&format!("txn-{number}"))) == shards.of(&key("job"));
    let stranger = by_reference(&(0..).find(home).unwrap().to_string(), "ready");
    let asked = Instant::now();
    let about_job = r#"{"key":"job"}"#;
    let (told, _) = tokio::join!(telling.tell(&client, "evt-1", &stranger), telling.tell(&client, "evt-2", about_job));
    assert_eq!((told, asked.elapsed()), (Delivery::Unknown { repeat: false }, Duration::ZERO));
}

/// What a sender is told of one event.
#[derive(Clone, Debug)]
enum Step {
    Submit(u8),
    Wait(u16),
    /// Of this job, by reference, by key or by both.
    Tell(u8, u8),
    /// What was sent before.
    Again(u8),
}

fn steps() -> BoxedStrategy<Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u8..6).prop_map(Step::Submit),
        3 => (1_u16..3_000).prop_map(Step::Wait),
        5 => (0_u8..8, 0_u8..3).prop_map(|(job, named)| Step::Tell(job, named)),
        2 => (0_u8..8).prop_map(Step::Again),
    ];
    proptest::collection::vec(step.boxed(), 1..30).boxed()
}

/// Every sender is answered before the next event comes.
async fn told(steps: &[Step], shards: usize, unknown: UnknownJob) -> (Vec<Delivery>, Vec<String>) {
    let transport = Scripted::new(|kind, _, key| async move {
        sleep(2 * SECOND).await;
        Ok(if kind == steadfast_core::Kind::Create { answer(201, format!("txn-{key}")) } else { answer(202, "") })
    });
    let telling = Telling::new();
    let policy = WebhookPolicy { unknown, ..WebhookPolicy::default() };
    let builder = Client::builder(telling.clone(), transport).webhooks(policy).seed(Seed::new(7));
    let client = builder.shards(shards).start().await.unwrap();
    let (mut deliveries, mut sent, mut jobs) = (Vec::new(), Vec::new(), Vec::new());
    for (n, step) in steps.iter().enumerate() {
        match step {
            Step::Submit(job) => jobs.push(client.submit(Key::new(format!("j{job}")).unwrap(), "{}").await.unwrap()),
            Step::Wait(span) => sleep(Duration::from_millis((*span).into())).await,
            Step::Tell(job, named) => {
                let body = match named {
                    0 => format!(r#"{{"reference":"txn-j{job}","status":"ready"}}"#),
                    1 => format!(r#"{{"key":"j{job}","status":"ready"}}"#),
                    _ => format!(r#"{{"key":"j{job}","reference":"txn-j{job}","status":"ready"}}"#),
                };
                sent.push((format!("evt-{n}"), body.clone()));
                deliveries.push(telling.tell(&client, &format!("evt-{n}"), &body).await);
            }
            Step::Again(which) => {
                if let Some((id, body)) = sent.get(usize::from(*which) % sent.len().max(1)) {
                    deliveries.push(telling.tell(&client, id, body).await);
                }
            }
        }
    }
    sleep(20 * SECOND).await;
    let unfinished = client.shutdown(Duration::ZERO).await;
    (deliveries, unfinished.into_iter().map(|it| it.key.as_str().to_owned()).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn senders_are_answered_as_by_one_shard(
        steps in steps(),
        shards in 2_usize..6,
        unknown in prop_oneof![Just(UnknownJob::RepeatIfEarly), Just(UnknownJob::Accept), Just(UnknownJob::Repeat)],
    ) {
        let run = |shards| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(told(&steps, shards, unknown))
        };
        prop_assert_eq!(run(1), run(shards));
    }
}
