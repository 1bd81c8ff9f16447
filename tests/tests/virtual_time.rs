//! Thousands of jobs through the fake provider in virtual time, with the strict books open: whatever goes wrong, no key
//! runs twice and every outcome agrees with the provider's ledger.

use std::time::Duration;

use steadfast_core::notice::Notice;
use steadfast_core::operation::{Rejected, Unresolved};
use steadfast_core::{Key, Kind, Outcome, Seed, SendSafety};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};
use steadfast_testkit::tokio::{InProcess, StrictTransport};
use steadfast_testkit::{FakeDeepvue, Fault, Faults, Keys, StrictWire, WithLookup};
use steadfast_tokio::{Client, Finished};

const PAYLOAD: &str = r#"{"dl_number":"DL1","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;
const DAY: Duration = Duration::from_secs(86_400);

fn deepvue() -> Deepvue {
    let credentials = Credentials::new("token", "secret").unwrap();
    Deepvue::new(BaseUrl::parse("https://provider.test").unwrap(), "driving-license", credentials).unwrap()
}

fn keyed() -> Deepvue {
    deepvue().with_safety(SendSafety::Keyed { window: DAY }).unwrap()
}

/// Carries jobs `0..count` through a fake, under the strict books, some commits failing.
async fn carry(
    provider: impl Provider,
    fake: FakeDeepvue,
    seed: u64,
    count: usize,
) -> (Vec<(Key, Finished)>, InProcess) {
    let (wire, fake) = (StrictWire::new(), InProcess::new(fake));
    let transport = StrictTransport::new(fake.clone(), wire.clone());
    let breaking = wire.clone();
    let client = Client::builder(provider, transport)
        .store(wire.store())
        .seed(Seed::new(seed))
        .observer(move |seen| {
            // Now and then the disk fails for a while: not before a job's intent is written, or the same one would be
            // refused again and again.
            if matches!(seen.notice, Notice::Sending(_)) && seen.correlation_id.to_string().starts_with("00") {
                breaking.fail_next(3);
            }
        })
        .start()
        .await
        .unwrap();
    let mut jobs = Vec::new();
    for n in 0..count {
        let key = Key::new(format!("order-{seed}-{n}")).unwrap();
        // An intent that could not be written was refused: nothing was sent, so it may be submitted again.
        let handle = loop {
            if let Ok(handle) = client.submit(key.clone(), PAYLOAD).await {
                break handle;
            }
        };
        jobs.push((key, handle));
    }
    let mut finished = Vec::new();
    for (key, handle) in jobs {
        finished.push((key, handle.await.expect("every job ends")));
    }
    assert!(client.shutdown(Duration::ZERO).await.is_empty());
    wire.assert_clean();
    (finished, fake)
}

/// No key ran twice; completed and failed ones ran, rejected ones did not.
fn agrees_with_the_ledger(finished: &[(Key, Finished)], fake: &InProcess) {
    let brain = fake.brain();
    assert_eq!(brain.ledger().keys_run_more_than_once(), 0);
    for (key, finished) in finished {
        let ran = brain.ledger().executions(key.as_str()).len();
        match finished.outcome {
            Outcome::Completed(_) | Outcome::Failed => assert_eq!(ran, 1, "{key:?}: {finished:?}"),
            Outcome::Rejected(_) => assert_eq!(ran, 0, "{key:?}: {finished:?}"),
            Outcome::Unresolved(_) => {}
        }
    }
}

fn count(finished: &[(Key, Finished)], outcome: &str) -> usize {
    finished.iter().filter(|(_, finished)| finished.outcome.name() == outcome).count()
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_honours_keys_runs_each_once() {
    for seed in 1..=10 {
        let fake = FakeDeepvue::new(seed).with_faults(Faults::rate(0.5)).with_failing(0.05);
        let (finished, fake) = carry(keyed(), fake, seed, 200).await;
        agrees_with_the_ledger(&finished, &fake);
        assert!(count(&finished, "completed") > 150, "seed {seed}: {}", count(&finished, "completed"));
        assert!(count(&finished, "failed") > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_ignores_keys_runs_none_twice_and_doubt_is_called_doubt() {
    for seed in 1..=10 {
        let fake = FakeDeepvue::new(seed).with_faults(Faults::rate(0.5)).with_keys(Keys::Ignored);
        let (finished, fake) = carry(deepvue(), fake, seed, 200).await;
        agrees_with_the_ledger(&finished, &fake);
        let brain = fake.brain();
        for (key, finished) in &finished {
            // A create whose answer did not arrive whole, and that was not plainly refused, is in doubt: it must be
            // said, whether it ran or not.
            let answers = brain.ledger().answers(key.as_str());
            let in_doubt = answers.iter().any(|answer| !answer.intact && answer.status != Some(429));
            if in_doubt {
                assert_eq!(finished.outcome, Outcome::Unresolved(Unresolved::Ambiguous), "{key:?}");
            }
        }
        assert!(count(&finished, "unresolved") > 50);
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_can_be_asked_resolves_every_doubt() {
    for seed in 1..=10 {
        let fake = FakeDeepvue::new(seed).with_faults(Faults::rate(0.3)).with_keys(Keys::Lookup);
        let found = WithLookup::new(deepvue(), Duration::from_secs(20));
        let (finished, fake) = carry(found, fake, seed, 200).await;
        agrees_with_the_ledger(&finished, &fake);
        assert!(count(&finished, "completed") > 190, "seed {seed}: {}", count(&finished, "completed"));
    }
}

#[tokio::test(start_paused = true)]
async fn each_fault_of_a_create_alone() {
    for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::Refuse) {
        let faults = Faults::none().on(Kind::Create, 1, fault);
        let (finished, fake) = carry(keyed(), FakeDeepvue::new(1).with_faults(faults.clone()), 1, 1).await;
        assert_eq!(finished[0].1.outcome.name(), "completed", "{fault:?}");
        assert_eq!(finished[0].1.creates, 2, "{fault:?}");
        agrees_with_the_ledger(&finished, &fake);

        let ignores = FakeDeepvue::new(1).with_faults(faults).with_keys(Keys::Ignored);
        let (finished, fake) = carry(deepvue(), ignores, 1, 1).await;
        agrees_with_the_ledger(&finished, &fake);
        let expected = if matches!(fault, Fault::Throttle | Fault::ThrottleUntil) { "completed" } else { "unresolved" };
        assert_eq!(finished[0].1.outcome.name(), expected, "{fault:?}");
    }
}

/// Nothing left, so it is sent again whatever the provider makes of keys.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_refused_by_script_is_one_that_was_not_there() {
    let faults = Faults::none().on(Kind::Create, 1, Fault::Refuse).on(Kind::Poll, 1, Fault::Refuse);
    let (finished, fake) = carry(deepvue(), FakeDeepvue::new(7).with_faults(faults), 7, 3).await;
    agrees_with_the_ledger(&finished, &fake);
    assert!(finished.iter().all(|(_, finished)| finished.creates == 2), "{finished:?}");
    assert_eq!(count(&finished, "completed"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_is_rejected_with_the_providers_reason() {
    let (wire, fake) = (StrictWire::new(), InProcess::new(FakeDeepvue::new(1)));
    let transport = StrictTransport::new(fake.clone(), wire.clone());
    let client = Client::builder(keyed(), transport).store(wire.store()).start().await.unwrap();
    let job = client.submit(Key::new("k").unwrap(), r#"{"consent":"N"}"#).await.unwrap();
    let finished = job.await.unwrap();
    assert_eq!(finished.outcome, Outcome::Rejected(Rejected::Refused));
    assert!(String::from_utf8_lossy(finished.body()).contains("consent must be Y"));
    assert_eq!(fake.brain().ledger().total_executions(), 0);
}

/// The control: the books catch a driver that does not keep any.
#[tokio::test(start_paused = true)]
async fn the_strict_books_catch_a_send_without_its_record() {
    let (wire, fake) = (StrictWire::new(), InProcess::new(FakeDeepvue::new(1)));
    let client = Client::builder(keyed(), StrictTransport::new(fake, wire.clone())).start().await.unwrap();
    let job = client.submit(Key::new("k").unwrap(), PAYLOAD).await.unwrap();
    assert_eq!(job.await.unwrap().outcome.name(), "unresolved");
    let violations = wire.take_violations();
    assert!(violations.iter().all(|violation| violation.contains("without any durable record")), "{violations:?}");
    assert_eq!(violations.len(), 5, "one for each attempt");
}
