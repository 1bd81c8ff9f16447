//! An outage in virtual time: what the gate saves the provider, and the jobs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast_core::breaker::BreakerState;
use steadfast_core::gate::GatePolicy;
use steadfast_core::notice::Notice;
use steadfast_core::{Key, Outcome, Seed, SendSafety, Timestamp};
use steadfast_providers::deepvue::{Credentials, Deepvue, Plan};
use steadfast_providers::{BaseUrl, Provider as _};
use steadfast_testkit::FakeDeepvue;
use steadfast_testkit::tokio::InProcess;
use steadfast_tokio::Client;

const PAYLOAD: &str = r#"{"dl_number":"DL1","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;
const OUTAGE: Duration = Duration::from_secs(60);
const BEFORE: Duration = Duration::from_secs(5);

fn provider() -> Deepvue {
    let credentials = Credentials::new("token", "secret").unwrap();
    let base = BaseUrl::parse("https://provider.test").unwrap();
    let deepvue = Deepvue::new(base, "driving-license", credentials).unwrap();
    let day = Duration::from_secs(86_400);
    deepvue.with_safety(SendSafety::Keyed { window: day }).unwrap().with_plan(Plan::Growth).unwrap()
}

#[derive(Default)]
struct Seen {
    sent: Vec<Timestamp>,
    breaker: Vec<(Timestamp, BreakerState)>,
}

/// A hundred jobs through an outage of a minute. Gives what was seen, the outcomes, and how many requests the provider
/// got while it was down.
async fn through_an_outage(gate: GatePolicy) -> (Seen, Vec<Outcome>, u64) {
    let fake = InProcess::new(FakeDeepvue::new(1).with_outage(BEFORE, OUTAGE));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let watching = seen.clone();
    let client = Client::builder(provider(), fake.clone())
        .gate(gate)
        .seed(Seed::new(1))
        .observer(move |it| {
            let mut seen = watching.lock().unwrap();
            match &it.notice {
                Notice::Sending(_) => seen.sent.push(it.at),
                Notice::Breaker(state) => seen.breaker.push((it.at, *state)),
                _ => {}
            }
        })
        .start()
        .await
        .unwrap();
    let mut jobs = Vec::new();
    for n in 0..100 {
        jobs.push(client.submit(Key::new(format!("order-{n}")).unwrap(), PAYLOAD).await.unwrap());
    }
    let mut outcomes = Vec::new();
    for job in jobs {
        outcomes.push(job.await.unwrap().outcome);
    }
    let _ = client.shutdown(Duration::ZERO).await;
    assert_eq!(fake.brain().ledger().keys_run_more_than_once(), 0);
    let refused = fake.brain().faults().get("outage").copied().unwrap_or_default();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (seen, outcomes, refused)
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_no_job_and_the_provider_gets_rest() {
    let (seen, outcomes, refused) = through_an_outage(provider().gate()).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Completed(_))), "{outcomes:?}");
    assert!(matches!(seen.breaker.first(), Some((_, BreakerState::Open { .. }))), "{:?}", seen.breaker);
    assert!(matches!(seen.breaker.last(), Some((_, BreakerState::Closed))), "{:?}", seen.breaker);

    // The same without a breaker, at the same rate limits.
    let (_, _, hammered) = through_an_outage(provider().gate().with_breaker(None)).await;
    println!("in the outage: {refused} requests with a breaker, {hammered} without");
    assert!(refused * 3 < hammered, "{refused} requests with a breaker, {hammered} without");
}

#[tokio::test(start_paused = true)]
async fn those_who_waited_leave_at_the_rate_limits_pace() {
    let (seen, ..) = through_an_outage(provider().gate()).await;
    let (closed, _) = seen.breaker.last().unwrap();
    let after: Vec<_> = seen.sent.iter().filter(|at| *at >= closed).collect();
    assert!(after.len() > 100, "most of the work comes after it");
    // Growth: 5 a second, of which none is given together.
    let crowded = after.windows(6).any(|six| six[5].saturating_since(*six[0]) < Duration::from_secs(1));
    assert!(!crowded, "six requests within a second");
}
