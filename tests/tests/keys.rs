//! What a provider that honours keys does with them, through the whole client: it stores failures, and it forgets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::notice::Notice;
use steadfast_core::operation::Unresolved;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{Key, Kind, Outcome, Seed, SendSafety};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};
use steadfast_testkit::tokio::InProcess;
use steadfast_testkit::{FakeDeepvue, Fault, Faults};
use steadfast_tokio::Client;

const PAYLOAD: &str = r#"{"dl_number":"DL1","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;
const SECOND: Duration = Duration::from_secs(1);

fn keyed(window: Duration) -> Deepvue {
    let credentials = Credentials::new("token", "secret").unwrap();
    let deepvue = Deepvue::new(BaseUrl::parse("https://provider.test").unwrap(), "driving-license", credentials);
    deepvue.unwrap().with_safety(SendSafety::Keyed { window }).unwrap()
}

/// One job through this fake. Gives its outcome, how many creates were sent, how often it ran, and the most answers in
/// a row that were the same.
async fn carry(provider: Deepvue, fake: FakeDeepvue, hold: Option<Duration>) -> (Outcome, u16, usize, u8) {
    let (fake, same) = (InProcess::new(fake), Arc::new(Mutex::new(1)));
    let seen = same.clone();
    let retry = RetryPolicy::new(6, 600 * SECOND, 10 * SECOND, BackoffPolicy::default()).unwrap();
    let policy = provider.policy().with_create(retry).unwrap();
    let client = Client::builder(provider, fake.clone())
        .policy(policy)
        .seed(Seed::new(7))
        .observer(move |it| {
            if let Notice::SameAnswer { times } = it.notice {
                *seen.lock().unwrap() = times;
            }
        })
        .start()
        .await
        .unwrap();
    let job = client.submit(Key::new("order-42").unwrap(), PAYLOAD).await.unwrap();
    if let Some(span) = hold {
        tokio::time::sleep(Duration::from_millis(1)).await;
        client.hold(span);
    }
    let finished = job.await.unwrap();
    let ran = fake.brain().ledger().executions("order-42").len();
    (finished.outcome, finished.creates, ran, *same.lock().unwrap())
}

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_stored_for_the_key_stops_at_the_third_and_is_no_safe_failure() {
    let fake = FakeDeepvue::new(1).with_stored_failures(1.0);
    assert_eq!(carry(keyed(DAY), fake, None).await, (Outcome::Unresolved(Unresolved::Replayed), 3, 1, 3));
}

/// What stands in front of a provider answers alike as well, and stores nothing.
#[tokio::test(start_paused = true)]
async fn what_a_gateway_answers_again_and_again_is_not_taken_for_stored() {
    let faults = (1..=4).fold(Faults::none(), |faults, nth| faults.on(Kind::Create, nth, Fault::ErrorAfter(502)));
    let (outcome, creates, ran, same) = carry(keyed(DAY), FakeDeepvue::new(1).with_faults(faults), None).await;
    assert_eq!((outcome.name(), creates, ran, same), ("completed", 5, 1, 1));
}

/// Not sent again once the provider may have forgotten the key. The control is a window that is not the provider's:
/// then it runs twice.
#[tokio::test(start_paused = true)]
async fn a_key_whose_window_is_over_is_not_sent_again() {
    let faults = || Faults::none().on(Kind::Create, 1, Fault::LoseAnswer);
    let fake = || FakeDeepvue::new(1).with_faults(faults()).with_key_memory(60 * SECOND);
    let (outcome, creates, ran, _) = carry(keyed(60 * SECOND), fake(), None).await;
    assert_eq!((outcome.name(), creates, ran), ("completed", 2, 1), "within its window it is");

    let held = Some(100 * SECOND);
    let (outcome, creates, ran, _) = carry(keyed(60 * SECOND), fake(), held).await;
    assert_eq!((outcome, ran), (Outcome::Unresolved(Unresolved::KeyWindow), 1));
    assert!(creates <= 2, "{creates}: of the second no more than the intent was written");

    let (outcome, _, ran, _) = carry(keyed(DAY), fake(), held).await;
    assert_eq!((outcome.name(), ran), ("completed", 2), "the control");
}
