//! Didit through the whole client: a provider without an idempotency key, that loses answers, and of which no key may
//! ever have two sessions.

use std::future::IntoFuture;
use std::time::{Duration, Instant};

use axum::extract::State;
use bytes::Bytes;
use http::{HeaderMap, Request};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{Completed, Reading, Rejected, Unresolved};
use steadfast_core::poll::PollPolicy;
use steadfast_core::rate_limit::Quota;
use steadfast_core::retry::Failure;
use steadfast_core::{Key, Kind, OperationPolicy, Outcome, Seed, SendSafety};
use steadfast_providers::didit::{Didit, DiditAml, Limits, Stage, Status};
use steadfast_providers::{Answer, Ask, BaseUrl, Provider, RequestError};
use steadfast_testkit::tokio::{InProcess, StrictTransport};
use steadfast_testkit::{
    FakeDidit, Fault, Faults, Ledger, StrictWire, WebhookFault, WebhookFaults, scaled, scaled_gate,
};
use steadfast_tokio::{Client, Finished, ReqwestTransport};

const PAYLOAD: &str = r#"{"workflow_id":"d9e78474-6c8d-4f2a-bb90-6f5c2f3a1147","callback":"https://example.com/done"}"#;

/// What a create may meet: everything, most of all what runs it and keeps its answer back.
const LOST: [Fault; 7] = [
    Fault::LoseAnswer,
    Fault::Late,
    Fault::ErrorAfter(500),
    Fault::Truncate,
    Fault::Html,
    Fault::ErrorBefore(500),
    Fault::ResetBefore,
];

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

fn didit(base_url: &str) -> Didit {
    Didit::new(BaseUrl::parse(base_url).unwrap(), "api-key").unwrap()
}

/// No key has two sessions, and every outcome is what the provider's books say.
fn agrees_with_the_ledger(finished: &[(Key, Finished)], ledger: &Ledger) {
    assert_eq!(ledger.keys_run_more_than_once(), 0);
    for (key, finished) in finished {
        let sessions = ledger.executions(key.as_str());
        match finished.outcome {
            Outcome::Completed(how) => {
                assert_eq!(sessions.len(), 1, "{key:?}: {finished:?}");
                let reference = finished.reference.as_ref().map(|reference| reference.as_str());
                assert_eq!(reference, Some(sessions[0].transaction_id.as_str()));
                let body: serde_json::Value = serde_json::from_slice(finished.body()).unwrap();
                assert_eq!((&body["session_id"], &body["vendor_data"]), (&reference.into(), &key.as_str().into()));
                let stage = Status::parse(body["status"].as_str().unwrap()).unwrap().stage();
                let meant = if stage == Stage::Decided { Completed::Ready } else { Completed::Undecided };
                assert_eq!(how, meant, "{stage:?}");
            }
            Outcome::Rejected(_) => assert_eq!(sessions.len(), 0, "{key:?}: {finished:?}"),
            Outcome::Unresolved(_) => {}
            Outcome::Failed => panic!("Didit knows no such end: {finished:?}"),
        }
    }
}

fn count(finished: &[(Key, Finished)], outcome: &str) -> usize {
    finished.iter().filter(|(_, finished)| finished.outcome.name() == outcome).count()
}

#[tokio::test]
async fn over_real_http_with_faults_no_key_has_two_sessions() {
    const SPEED: f64 = 100.0;
    let fake = FakeDidit::new(7)
        .with_faults(Faults::rate(0.3))
        .with_republishing(0.5)
        .with_person_time(minutes(1), minutes(2))
        .with_reviews(0.2, minutes(1), minutes(2))
        .with_undecided(0.1)
        .with_speed(SPEED);
    let server = fake.start().unwrap();
    // The machine does not run faster with the speed: a request that it has not got to yet would look as if it never
    // ran.
    let provider = didit(&server.base_url()).with_settle(minutes(3)).unwrap();
    let (policy, gate) = (scaled(&provider.policy(), SPEED).unwrap(), scaled_gate(&provider.gate(), SPEED).unwrap());
    let client = Client::builder(provider, ReqwestTransport::new().unwrap()).policy(policy).gate(gate);
    let client = client.seed(Seed::new(7)).start().await.unwrap();
    let mut jobs = Vec::new();
    for n in 0..150 {
        let key = Key::new(format!("order/{n}?&+\"{{}}")).unwrap();
        jobs.push((key.clone(), client.submit(key, PAYLOAD).await.unwrap()));
    }
    let mut finished = Vec::new();
    for (key, job) in jobs {
        finished.push((key, job.await.unwrap()));
    }
    let ledger = server.ledger();
    agrees_with_the_ledger(&finished, &ledger);
    let ended = ["completed", "rejected", "unresolved"].map(|outcome| count(&finished, outcome));
    println!(
        "completed, rejected, unresolved: {ended:?}; look-ups: {}; {:?}",
        server.requests(Kind::Lookup),
        server.faults()
    );
    assert!(ended[0] >= 145, "{ended:?}");
    assert!(server.requests(Kind::Lookup) > 20);
}

/// Carries some jobs through a Didit in virtual time.
async fn carry(provider: impl Provider, fake: FakeDidit, seed: u64, jobs: u64) -> (Vec<(Key, Finished)>, InProcess) {
    let (wire, fake) = (StrictWire::new(), InProcess::new(fake));
    let transport = StrictTransport::new(fake.clone(), wire.clone());
    let client = Client::builder(provider, transport).store(wire.store()).seed(Seed::new(seed)).start().await.unwrap();
    let mut handles = Vec::new();
    for n in 0..jobs {
        let key = Key::new(format!("order-{seed}-{n}")).unwrap();
        handles.push((key.clone(), client.submit(key, PAYLOAD).await.unwrap()));
    }
    let mut finished = Vec::new();
    for (key, job) in handles {
        finished.push((key, job.await.unwrap()));
    }
    assert!(client.shutdown(Duration::ZERO).await.is_empty());
    wire.assert_clean();
    (finished, fake)
}

/// A Didit that never gives a session back, so that nothing but the look-up protects.
fn losing(seed: u64) -> FakeDidit {
    let faults = Faults::rate(0.6).only(&LOST);
    FakeDidit::new(seed)
        .with_faults(faults)
        .with_republishing(1.0)
        .with_listing_lag(Duration::from_secs(30))
        .with_person_time(minutes(1), minutes(2))
        .with_reviews(0.1, minutes(1), minutes(2))
}

#[tokio::test(start_paused = true)]
async fn in_a_thousand_histories_of_lost_answers_no_key_has_two_sessions() {
    let started = Instant::now();
    let (mut completed, mut lookups, mut lost, mut all) = (0, 0, 0, 0);
    for seed in 1..=1_000 {
        let provider = didit("https://provider.test");
        let (finished, fake) = carry(provider, losing(seed).with_business(seed % 4 == 0), seed, 2).await;
        let brain = fake.brain();
        agrees_with_the_ledger(&finished, brain.ledger());
        for (key, finished) in &finished {
            let doubtful = |answer: &&steadfast_testkit::Answered| !answer.intact;
            let creates = brain.ledger().answers(key.as_str());
            lost += creates.iter().filter(doubtful).count();
            // What ends without an outcome is a look-up that was never answered, and never a doubt that was overlooked.
            if let Outcome::Unresolved(why) = finished.outcome {
                assert!(matches!(why, Unresolved::Lookup | Unresolved::PollDeadline), "seed {seed}: {finished:?}");
            }
            if let Outcome::Rejected(why) = finished.outcome {
                assert!(matches!(why, Rejected::Attempts | Rejected::Deadline), "seed {seed}: {finished:?}");
            }
        }
        completed += count(&finished, "completed");
        lookups += brain.requests(Kind::Lookup);
        all += finished.len();
    }
    println!("{completed} of {all} completed, {lost} creates in doubt, {lookups} look-ups, {:?}", started.elapsed());
    assert!(completed * 100 > all * 90, "{completed} of {all}");
    assert!(lost > 1_000 && lookups > 1_000, "{lost} {lookups}");
}

/// Every fault of a create alone, and a Didit that lists a session late.
#[tokio::test(start_paused = true)]
async fn each_fault_of_a_create_alone_ends_with_one_session() {
    for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::Refuse) {
        let faults = Faults::none().on(Kind::Create, 1, fault);
        let fake =
            FakeDidit::new(1).with_faults(faults).with_republishing(1.0).with_listing_lag(Duration::from_secs(50));
        let (finished, fake) = carry(didit("https://provider.test"), fake, 1, 1).await;
        agrees_with_the_ledger(&finished, fake.brain().ledger());
        assert_eq!(finished[0].1.outcome.name(), "completed", "{fault:?}");
        assert_eq!(finished[0].1.creates, if fault.executes() { 1 } else { 2 }, "{fault:?}");
        let looked_up = !matches!(fault, Fault::Throttle | Fault::ThrottleUntil);
        assert_eq!(fake.brain().requests(Kind::Lookup), u64::from(looked_up), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_review_may_be_the_end_of_the_wait() {
    let always = || FakeDidit::new(1).with_undecided(0.0).with_reviews(1.0, minutes(600), minutes(1_200));
    let (finished, _) = carry(didit("https://provider.test").with_stop_on_review(true), always(), 1, 3).await;
    for (_, finished) in &finished {
        assert_eq!(finished.outcome, Outcome::Completed(Completed::Partial));
        assert!(String::from_utf8_lossy(finished.body()).contains(r#""status":"In Review""#));
    }
    let (finished, _) = carry(didit("https://provider.test"), always(), 1, 3).await;
    assert!(finished.iter().all(|(_, finished)| finished.outcome == Outcome::Completed(Completed::Ready)));
}

/// Under the provider's own limits, nothing is ever refused: the gate counts as Didit does.
#[tokio::test(start_paused = true)]
async fn the_gate_keeps_to_limits_that_didit_enforces() {
    let limits = Limits { creates: 40, writes: 20, reads: 60 };
    let fake = FakeDidit::new(1).with_limits(limits).with_undecided(0.0).with_reviews(0.0, minutes(1), minutes(1));
    let provider = didit("https://provider.test").with_limits(limits).unwrap();
    let (finished, fake) = carry(provider, fake, 1, 100).await;
    assert_eq!(count(&finished, "completed"), 100);
    let brain = fake.brain();
    let throttled = |key: &Key| brain.ledger().answers(key.as_str()).iter().any(|answer| answer.status == Some(429));
    assert!(!finished.iter().any(|(key, finished)| throttled(key) || finished.creates > 1));
}

/// Keyed: whatever is lost, a key is charged once. A 409 with a wait is waited for.
#[tokio::test(start_paused = true)]
async fn a_screening_is_charged_once_whatever_is_lost() {
    const SCREENED: &str = r#"{"full_name":"A. Person","entity_type":"person"}"#;
    let mut conflicts = 0;
    for seed in 1..=20 {
        let fake = FakeDidit::new(seed).with_faults(Faults::rate(0.4)).with_screening_time(Duration::from_secs(20));
        let fake = InProcess::new(fake);
        let aml = DiditAml::new(BaseUrl::parse("https://provider.test").unwrap(), "api-key").unwrap();
        let client = Client::builder(aml, fake.clone()).seed(Seed::new(seed)).start().await.unwrap();
        let mut jobs = Vec::new();
        for n in 0..20 {
            let key = Key::new(format!("screening-{n}")).unwrap();
            jobs.push((key.clone(), client.submit(key, SCREENED).await.unwrap()));
        }
        for (key, job) in jobs {
            let finished = job.await.unwrap();
            let brain = fake.brain();
            let ran = brain.ledger().executions(key.as_str()).len();
            conflicts +=
                brain.ledger().answers(key.as_str()).iter().filter(|answer| answer.status == Some(409)).count();
            match finished.outcome {
                Outcome::Completed(how) => assert_eq!((how, ran), (Completed::Ready, 1)),
                Outcome::Rejected(_) => assert_eq!(ran, 0),
                other => {
                    assert!(matches!(other, Outcome::Unresolved(Unresolved::Attempts)) && ran <= 1, "{finished:?}")
                }
            }
        }
    }
    assert!(conflicts > 20, "{conflicts}");
}

/// The control: a profile that believes the blogs, and sends an ambiguous create again.
struct Blind(Didit);

impl Provider for Blind {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn policy(&self) -> OperationPolicy {
        self.0.policy().with_safety(SendSafety::Keyed { window: minutes(60) }).unwrap()
    }

    fn gate(&self) -> GatePolicy {
        self.0.gate()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        self.0.request(ask)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        self.0.read(answer)
    }

    fn quota(&self, answer: &Answer<'_>) -> Option<Quota> {
        self.0.quota(answer)
    }
}

#[tokio::test(start_paused = true)]
async fn who_repeats_blindly_has_two_sessions_and_is_found_out() {
    let (_, fake) = carry(Blind(didit("https://provider.test")), losing(1), 1, 50).await;
    assert!(fake.brain().ledger().keys_run_more_than_once() > 10);
    // A look-up that does not wait for the session to be listed is no better.
    let hasty = didit("https://provider.test").with_settle(Duration::ZERO).unwrap();
    let (_, fake) = carry(hasty, losing(1), 1, 50).await;
    assert!(fake.brain().ledger().keys_run_more_than_once() > 5);
}

/// Signed, it makes the poll due at once; a forged one does nothing; and without any, polls find the decision in their
/// own time.
#[tokio::test(start_paused = true)]
async fn a_webhook_brings_the_decision_before_the_next_poll_would() {
    use std::time::SystemTime;

    use steadfast_core::Timestamp;
    use steadfast_providers::webhook::{DiditSignatures, Scheme, Verifier};

    let ended_after = async |secret: Option<&str>| {
        let fake = InProcess::new(FakeDidit::new(7).with_person_time(minutes(4), minutes(4)).with_reviews(
            0.0,
            minutes(1),
            minutes(1),
        ));
        let provider = didit("https://didit.test").with_webhooks(["secret"]).unwrap();
        let client = Client::builder(provider, fake).seed(Seed::new(7)).start().await.unwrap();
        let began = tokio::time::Instant::now();
        let job = client.submit(Key::new("order-42").unwrap(), PAYLOAD).await.unwrap();
        // The person opens the session after a minute, and takes four.
        tokio::time::sleep(minutes(5) + Duration::from_secs(1)).await;
        if let Some(secret) = secret {
            let now = Timestamp::from(SystemTime::now());
            let seconds = now.as_nanos() / 1_000_000_000;
            let body = Bytes::from(format!(
                r#"{{"event_id":"e-1","timestamp":{seconds},"vendor_data":"order-42","status":"Approved"}}"#
            ));
            let headers = Verifier::new(Scheme::Didit(DiditSignatures::default()), [secret])
                .unwrap()
                .sign("", now, &body)
                .unwrap();
            let delivery = client.deliver(&headers, body).await;
            assert_eq!(delivery.status().is_success(), secret == "secret", "{delivery}");
        }
        let finished = job.await.unwrap();
        assert_eq!(finished.outcome, Outcome::Completed(Completed::Ready));
        began.elapsed()
    };
    let (told, forged, alone) =
        (ended_after(Some("secret")).await, ended_after(Some("forged")).await, ended_after(None).await);
    assert!(told < minutes(5) + Duration::from_secs(5), "{told:?}");
    assert_eq!(forged, alone);
    assert!(alone > told + minutes(1), "{alone:?}");
}

/// Some sessions over real HTTP, and the webhooks that tell of them, every one with this fault; polls go on beside
/// them, far apart.
async fn told_of(fault: WebhookFault, seed: u64) -> (Vec<(Key, Finished)>, Ledger) {
    const SPEED: f64 = 40.0;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/didit", listener.local_addr().unwrap()).parse().unwrap();
    let server = FakeDidit::new(seed)
        .with_webhooks(url, "secret")
        .unwrap()
        .with_webhook_faults(WebhookFaults::rate(1.0).only(&[fault]))
        .with_person_time(minutes(1), minutes(2))
        .with_reviews(0.2, minutes(1), minutes(1))
        .with_speed(SPEED)
        .start()
        .unwrap();
    let provider = didit(&server.base_url()).with_webhooks(["secret"]).unwrap().with_settle(minutes(3)).unwrap();
    let policy = provider.policy();
    let every = BackoffPolicy::new(Growth::Fixed(minutes(2)), minutes(2), Jitter::None).unwrap();
    let slow = PollPolicy::new(every, 1_000, policy.poll().deadline(), policy.poll().retry().clone()).unwrap();
    let (policy, gate) =
        (scaled(&policy.with_poll(slow), SPEED).unwrap(), scaled_gate(&provider.gate(), SPEED).unwrap());
    let client =
        Client::builder(provider, ReqwestTransport::new().unwrap()).policy(policy).gate(gate).start().await.unwrap();
    let deliver = async |State(client): State<Client>, headers: HeaderMap, body: Bytes| {
        client.deliver(&headers, body).await.status()
    };
    let receiver = axum::Router::new().route("/didit", axum::routing::post(deliver)).with_state(client.clone());
    tokio::spawn(axum::serve(listener, receiver).into_future());
    let mut jobs = Vec::new();
    for n in 0..12 {
        let key = Key::new(format!("order-{n}")).unwrap();
        jobs.push((key.clone(), client.submit(key, PAYLOAD).await.unwrap()));
    }
    let mut finished = Vec::new();
    for (key, job) in jobs {
        finished.push((key, job.await.unwrap()));
    }
    (finished, server.ledger())
}

/// Lost, twice, late, before the create's answer, forged, altered, replayed: every session ends as the books say, and
/// no lie is believed.
#[tokio::test]
async fn whatever_goes_wrong_with_webhooks_every_session_ends_as_it_did() {
    let mut runs = tokio::task::JoinSet::new();
    for (seed, fault) in (1..).zip(WebhookFault::ALL) {
        runs.spawn(async move { (fault, told_of(fault, seed).await) });
    }
    while let Some(run) = runs.join_next().await {
        let (fault, (finished, ledger)) = run.unwrap();
        let told = ledger.webhooks();
        println!("{fault:?}: {told:?}");
        agrees_with_the_ledger(&finished, &ledger);
        assert_eq!(count(&finished, "completed"), 12, "{fault:?}");
        assert_eq!((told.forged, told.believed), (told.refused, 0), "{fault:?}: {told:?}");
        let happened = match fault {
            WebhookFault::Lost => told.delivered == 0 && told.lost > 24,
            WebhookFault::Duplicated => told.duplicated > 12,
            WebhookFault::Early => told.early == 12,
            WebhookFault::Forged | WebhookFault::Altered | WebhookFault::Replayed => told.forged > 12,
            _ => true,
        };
        assert!(happened, "{fault:?}: {told:?}");
    }
}
