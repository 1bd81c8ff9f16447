//! Every shipped profile through the whole client, over a fake that is made of the profile alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response};
use serde_json::Value;
use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::operation::{Completed, Reading};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{Key, Kind, OperationPolicy, Outcome, Seed, SendSafety, Timestamp};
use steadfast_providers::profile::{Profile, SHIPPED};
use steadfast_providers::{Answer, BaseUrl, Provider};
use steadfast_testkit::tokio::InProcess;
use steadfast_testkit::{FakeProfile, Faults, Keys, Ledger, scaled, scaled_gate};
use steadfast_tokio::{Client, Delivery, Finished, Outgoing, ReqwestTransport, SendError, Transport};
use tokio::task::JoinSet;

const JOBS: usize = 20;

/// How many times faster than life.
const SPEED: f64 = 20.0;

/// How long an answer is waited for, whatever the speed. Late ones come later.
const PATIENCE: Duration = Duration::from_secs(2);

fn shipped(name: &str) -> Profile {
    Profile::parse(steadfast_providers::profile::shipped(name).unwrap()).unwrap()
}

fn fake(profile: Profile, seed: u64) -> FakeProfile {
    let jobs = FakeProfile::new(profile, seed).unwrap().with_faults(Faults::rate(0.3));
    jobs.with_job_time(Duration::from_secs(10), Duration::from_secs(40)).with_failing(0.1).with_undecided(0.1)
}

/// What a secret is makes no difference to a fake.
fn secret(name: &str) -> Option<String> {
    Some(if name.contains("WEBHOOK") {
        "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnk=".to_owned()
    } else {
        format!("dummy-{name}")
    })
}

/// One that every profile can put its key into; and different for each job, since two profiles send no key.
fn payload(n: usize) -> String {
    format!(r#"{{"verification":{{"person":{n}}}}}"#)
}

/// No key has run twice, and every outcome is what the provider's books say. Gives how many were completed or failed.
fn agrees_with_the_ledger(profile: &Profile, finished: &[(Key, Finished)], ledger: &Ledger) -> usize {
    let name = profile.name();
    assert_eq!(ledger.keys_run_more_than_once(), 0, "{name}");
    let mut ended = 0;
    for (n, (key, finished)) in finished.iter().enumerate() {
        // Where the profile sends no key, the books are kept by payload.
        let payload = payload(n);
        let ran = [key.as_str(), &payload].map(|whom| ledger.executions(whom)).concat();
        let reading = match finished.outcome {
            Outcome::Completed(Completed::Ready) => Reading::Ready,
            Outcome::Completed(Completed::Undecided) => Reading::Undecided,
            Outcome::Failed => Reading::Failed,
            Outcome::Rejected(_) => {
                assert_eq!(ran.len(), 0, "{name}, {key:?}: {finished:?}");
                continue;
            }
            Outcome::Unresolved(_) => continue,
            other => panic!("{name}, {key:?}: {other:?}"),
        };
        ended += 1;
        assert_eq!(ran.len(), 1, "{name}, {key:?}: {finished:?}");
        let reference = finished.reference.as_ref().map(|reference| reference.as_str());
        assert_eq!(reference, Some(ran[0].transaction_id.as_str()), "{name}");
        // The answer it ended with means the outcome, and is of this job.
        let answer = finished.answer.as_ref().unwrap();
        let headers = HeaderMap::new();
        let read = Answer::new(Kind::Poll, answer.status, &headers, &answer.body, Timestamp::from_secs(0));
        assert_eq!(profile.read(&read), Ok(reading), "{name}");
        let result: Value = serde_json::from_slice(&profile.result(&answer.body)).unwrap();
        if result.get("job").is_some() {
            assert_eq!(result["job"].as_str(), reference, "{name}");
        }
    }
    ended
}

/// The machine does not run faster with the speed. What it has not got to yet would be in doubt, or look as if it never
/// ran; and whoever has given up on some polls asks no more often than the schedule's cap.
fn patient(policy: &OperationPolicy) -> OperationPolicy {
    let retry = |policy: &RetryPolicy| {
        policy.clone().with_deadline(Duration::from_secs(60)).unwrap().with_attempt_timeout(PATIENCE).unwrap()
    };
    let (poll, schedule) = (policy.poll(), policy.poll().schedule());
    let cap = schedule.cap().min(PATIENCE);
    let schedule = BackoffPolicy::new(schedule.growth().clone(), cap, schedule.jitter()).unwrap();
    let polls = PollPolicy::new(schedule, poll.polls(), poll.deadline(), retry(poll.retry())).unwrap();
    let polls = polls.with_not_found_grace(poll.not_found_grace());
    let policy = policy.clone().with_create(retry(policy.create())).unwrap();
    let policy = policy.clone().with_lookup(retry(policy.lookup())).with_poll(polls);
    match policy.safety() {
        SendSafety::Lookup { .. } => policy.with_safety(SendSafety::Lookup { settle: PATIENCE }).unwrap(),
        _ => policy,
    }
}

async fn carried(client: Client, jobs: usize) -> Vec<(Key, Finished)> {
    let mut handles = Vec::new();
    for n in 0..jobs {
        let key = Key::new(format!("order_{n}")).unwrap();
        handles.push((key.clone(), client.submit(key, payload(n)).await.unwrap()));
    }
    let mut finished = Vec::new();
    for (key, job) in handles {
        finished.push((key, job.await.unwrap()));
    }
    assert!(client.shutdown(Duration::ZERO).await.is_empty());
    finished
}

async fn over_real_http(name: &'static str, transport: ReqwestTransport) -> (Profile, usize) {
    let profile = shipped(name);
    let server =
        fake(profile.clone(), 7).with_lateness(PATIENCE.mul_f64(1.5 * SPEED)).with_speed(SPEED).start().unwrap();
    let provider = profile.connect_at(BaseUrl::parse(&server.base_url()).unwrap(), secret).unwrap();
    let policy = patient(&scaled(&provider.policy(), SPEED).unwrap());
    let gate = scaled_gate(&provider.gate(), SPEED).unwrap();
    let builder = Client::builder(provider, transport).policy(policy).gate(gate);
    let finished = carried(builder.seed(Seed::new(7)).start().await.unwrap(), JOBS).await;
    let faults: u64 = server.faults().values().sum();
    assert!(faults > 5, "{name}: {:?}", server.faults());
    let ended = agrees_with_the_ledger(&profile, &finished, &server.ledger());
    (profile, ended)
}

#[tokio::test]
async fn every_shipped_profile_carries_its_jobs_over_real_http() {
    // One for all: to make it takes long in a debug build, and would be time in which nobody is answered.
    let (transport, mut all) = (ReqwestTransport::new().unwrap(), JoinSet::new());
    for (name, _) in SHIPPED {
        all.spawn(over_real_http(name, transport.clone()));
    }
    while let Some(done) = all.join_next().await {
        let (profile, ended) = done.unwrap();
        println!("{}: {ended} of {JOBS}", profile.name());
        // On a busy machine more creates are in doubt, and without protection each of them is an end. Without sockets
        // it is counted below.
        let least = if profile.policy().safety() == SendSafety::Unsafe { 1 } else { JOBS / 2 };
        assert!(ended >= least, "{}: {ended} of {JOBS}", profile.name());
    }
}

/// The profile's jobs in virtual time, with its own policy and gate.
async fn in_virtual_time(profile: &Profile, fake: FakeProfile, seed: u64) -> (Vec<(Key, Finished)>, InProcess) {
    let provider = profile.connect_at(BaseUrl::parse("https://provider.test").unwrap(), secret).unwrap();
    let fake = InProcess::new(fake);
    let client = Client::builder(provider, fake.clone()).seed(Seed::new(seed)).start().await.unwrap();
    (carried(client, JOBS).await, fake)
}

#[tokio::test(start_paused = true)]
async fn in_many_histories_of_every_shipped_profile_no_key_runs_twice() {
    for (name, _) in SHIPPED {
        let (profile, mut ended) = (shipped(name), 0);
        for seed in 1..=10 {
            let fake = fake(profile.clone(), seed).with_listing_lag(Duration::from_secs(30));
            let (finished, fake) = in_virtual_time(&profile, fake, seed).await;
            ended += agrees_with_the_ledger(&profile, &finished, fake.brain().ledger());
        }
        println!("{name}: {ended} of {}", 10 * JOBS);
        assert!(ended > 10 * JOBS / 2, "{name}: {ended}");
    }
}

/// The control: who trusts in a key that nobody honours, or in a list before it is complete, is found out by the books.
#[tokio::test(start_paused = true)]
async fn a_profile_that_says_more_than_its_provider_keeps_is_found_out() {
    let persona = shipped("persona");
    let (_, fake_of) = in_virtual_time(&persona, fake(persona.clone(), 1).with_keys(Keys::Ignored), 1).await;
    assert!(fake_of.brain().ledger().keys_run_more_than_once() > 2);
    let sumsub = shipped("sumsub");
    let late = fake(sumsub.clone(), 1).with_listing_lag(Duration::from_secs(600));
    let (_, fake_of) = in_virtual_time(&sumsub, late, 1).await;
    assert!(fake_of.brain().ledger().keys_run_more_than_once() > 2);
}

/// AssemblyAI with one transcript, which is done when it is said to be.
#[derive(Clone, Default)]
struct OneTranscript {
    polls: Arc<AtomicUsize>,
    done: Arc<AtomicBool>,
}

impl Transport for OneTranscript {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        if outgoing.attempt.kind == Kind::Poll {
            self.polls.fetch_add(1, Ordering::SeqCst);
        }
        let status = if self.done.load(Ordering::SeqCst) { "completed" } else { "processing" };
        Ok(Response::new(Bytes::from(format!(r#"{{"id":"t-1","status":"{status}","text":"polled"}}"#))))
    }
}

/// What a sender that signs nothing says of a job is not believed: the next poll comes now, and decides.
#[tokio::test(start_paused = true)]
async fn a_delivery_under_a_token_is_one_poll_and_never_an_end() {
    let transcript = OneTranscript::default();
    let provider = shipped("assemblyai").connect(secret).unwrap();
    let client = Client::builder(provider, transcript.clone()).start().await.unwrap();
    let job = client.submit(Key::new("order-42").unwrap(), "{}").await.unwrap();
    job.accepted().await.unwrap();
    let token = secret("ASSEMBLYAI_WEBHOOK_TOKEN").unwrap();
    let deliver = async |token: &str| {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-webhook-token"), token.parse().unwrap())]);
        let body = Bytes::from_static(br#"{"transcript_id":"t-1","status":"completed","text":"delivered"}"#);
        let delivery = client.deliver(&headers, body).await;
        // Less than until the schedule's first poll.
        tokio::time::sleep(Duration::from_millis(10)).await;
        (delivery, transcript.polls.load(Ordering::SeqCst))
    };
    assert_eq!(deliver(&token).await, (Delivery::Taken, 1));
    assert_eq!(deliver(&token).await, (Delivery::Taken, 2), "again, for the same bytes");
    let (refused, polls) = deliver(&token[1..]).await;
    assert_eq!((refused.status().as_u16(), polls), (400, 2), "{refused}");
    assert!(client.status(Key::new("order-42").unwrap()).await.unwrap().unwrap().due.is_some(), "it goes on");
    transcript.done.store(true, Ordering::SeqCst);
    assert_eq!(deliver(&token).await, (Delivery::Taken, 3));
    let finished = job.await.unwrap();
    assert_eq!(finished.outcome, Outcome::Completed(Completed::Ready));
    assert!(finished.answer.unwrap().body.ends_with(br#""polled"}"#));
}
