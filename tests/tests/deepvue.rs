//! Deepvue through the whole client, in virtual time: tokens that are over, sources that are down, both of its shapes,
//! and batches.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use steadfast_core::notice::Notice;
use steadfast_core::operation::{Completed, Rejected};
use steadfast_core::retry::Class;
use steadfast_core::{Key, Kind, Outcome, Seed};
use steadfast_providers::deepvue::{Credentials, Deepvue, DeepvueBulk, OutputFile, Plan, Shape};
use steadfast_providers::{BaseUrl, Provider};
use steadfast_testkit::FakeDeepvue;
use steadfast_testkit::tokio::InProcess;
use steadfast_tokio::{Builder, Client, Handle, Outgoing, PacedTransport, SendError, Transport};
use tokio::time::Instant;

const PAYLOAD: &str = r#"{"dl_number":"DL1","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;
const SECOND: Duration = Duration::from_secs(1);

fn credentials() -> Credentials {
    Credentials::new("token-0", "secret").unwrap()
}

fn deepvue(product: &str, credentials: &Credentials) -> Deepvue {
    Deepvue::new(BaseUrl::parse("https://provider.test").unwrap(), product, credentials.clone()).unwrap()
}

async fn submit(client: &Client, names: std::ops::Range<u32>) -> Vec<Handle> {
    let mut jobs = Vec::new();
    for n in names {
        jobs.push(client.submit(Key::new(format!("order-{n}")).unwrap(), PAYLOAD).await.unwrap());
    }
    jobs
}

/// What a renewal does.
#[derive(Clone, Copy, PartialEq)]
enum Renewal {
    Works,
    /// Says that it worked, and brings the old token.
    BringsTheOld,
    Fails,
    Panics,
    Hangs,
}

/// A program's way to renew a token, and how often it was called.
#[derive(Clone)]
struct Renewer {
    credentials: Credentials,
    how: Arc<Mutex<Renewal>>,
    takes: Duration,
    calls: Arc<AtomicU32>,
}

impl Renewer {
    fn new(how: Renewal) -> Self {
        Self { credentials: credentials(), how: Arc::new(Mutex::new(how)), takes: SECOND, calls: Arc::default() }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn renew(self) -> Result<(), &'static str> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::time::sleep(self.takes).await;
        let how = *self.how.lock().unwrap();
        match how {
            Renewal::Works => self.credentials.renew(format!("token-{call}")).map_err(|_| "no token"),
            Renewal::BringsTheOld => Ok(()),
            Renewal::Fails => Err("the authorizing server is down"),
            Renewal::Panics => panic!("the renewal has a bug"),
            Renewal::Hangs => std::future::pending().await,
        }
    }

    fn client<T: Transport>(&self, transport: T) -> Builder<Deepvue, T> {
        let renewer = self.clone();
        Client::builder(deepvue("driving-license", &self.credentials), transport)
            .seed(Seed::new(7))
            .renew_credentials(move || renewer.clone().renew())
    }
}

fn expiring(jobs: Duration) -> InProcess {
    InProcess::new(FakeDeepvue::new(1).with_token_life(40 * SECOND).with_job_time(jobs, jobs))
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_over_is_renewed_once_for_all_polls_and_opens_no_breaker() {
    let fake = FakeDeepvue::new(1).with_token_life(100 * SECOND).with_job_time(120 * SECOND, 120 * SECOND);
    let (renewer, fake) = (Renewer::new(Renewal::Works), InProcess::new(fake));
    let unauthorized = Arc::new(AtomicU32::new(0));
    let opened = Arc::new(AtomicU32::new(0));
    let (seen, met) = (opened.clone(), unauthorized.clone());
    let client = renewer.client(fake.clone()).observer(move |it| {
        seen.fetch_add(u32::from(matches!(it.notice, Notice::Breaker(_))), Ordering::Relaxed);
        if let Notice::Failed { failure, .. } = &it.notice {
            met.fetch_add(u32::from(failure.class == Class::Unauthorized), Ordering::Relaxed);
        }
    });
    let client = client.start().await.unwrap();
    for job in submit(&client, 0..200).await {
        assert_eq!(job.await.unwrap().outcome, Outcome::Completed(Completed::Ready));
    }
    assert_eq!((renewer.calls(), opened.load(Ordering::Relaxed)), (1, 0));
    let met = unauthorized.load(Ordering::Relaxed);
    assert!(met > 20, "{met} polls met a 401 together");
}

#[tokio::test(start_paused = true)]
async fn a_create_that_meets_a_401_did_not_run_and_is_sent_again_after_the_renewal() {
    let (renewer, fake) = (Renewer::new(Renewal::Works), expiring(5 * SECOND));
    let client = renewer.client(fake.clone()).start().await.unwrap();
    for job in submit(&client, 0..1).await {
        job.await.unwrap();
    }
    tokio::time::sleep(60 * SECOND).await;
    let mut again = 0;
    for job in submit(&client, 1..50).await {
        let finished = job.await.unwrap();
        assert_eq!(finished.outcome, Outcome::Completed(Completed::Ready));
        assert!(finished.creates <= 2);
        again += usize::from(finished.creates == 2);
    }
    assert!(again > 0);
    assert_eq!(renewer.calls(), 1);
    let brain = fake.brain();
    assert_eq!((brain.ledger().keys_run_more_than_once(), brain.ledger().total_executions()), (0, 50));
}

/// While the renewal runs, nothing leaves: it would be refused.
#[tokio::test(start_paused = true)]
async fn nothing_leaves_while_a_token_is_renewed_and_an_operators_hold_outlasts_it() {
    let (mut renewer, fake) = (Renewer::new(Renewal::Works), expiring(5 * SECOND));
    renewer.takes = 20 * SECOND;
    let client = renewer.client(fake.clone()).start().await.unwrap();
    submit(&client, 0..1).await.pop().unwrap().await.unwrap();
    tokio::time::sleep(60 * SECOND).await;
    let jobs = submit(&client, 1..20).await;
    tokio::time::sleep(SECOND).await;
    let (creates, began) = (fake.brain().requests(Kind::Create), Instant::now());
    assert_eq!(renewer.calls(), 1);
    let late = submit(&client, 20..40).await;
    tokio::time::sleep(18 * SECOND).await;
    assert_eq!(fake.brain().requests(Kind::Create), creates, "something left, to be refused");
    client.hold(30 * SECOND);
    tokio::time::sleep(29 * SECOND).await;
    assert_eq!(fake.brain().requests(Kind::Create), creates, "the renewal has ended the operator's hold");
    for job in jobs.into_iter().chain(late) {
        assert_eq!(job.await.unwrap().outcome, Outcome::Completed(Completed::Ready));
    }
    assert!(began.elapsed() < 100 * SECOND);
    assert_eq!(renewer.calls(), 1);
}

/// Whatever a renewal does wrong, it is called seldom; the create is refused or given up, and nothing ran.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_does_not_help_makes_no_hot_loop() {
    for (how, least) in [(Renewal::BringsTheOld, 4), (Renewal::Fails, 4), (Renewal::Panics, 4), (Renewal::Hangs, 2)] {
        let (renewer, fake) = (Renewer::new(how), expiring(150 * SECOND));
        let client = renewer.client(fake.clone()).start().await.unwrap();
        let polled = submit(&client, 0..100).await;
        tokio::time::sleep(60 * SECOND).await;
        for job in submit(&client, 100..110).await {
            let finished = job.await.unwrap();
            // Refused again after a renewal is the provider's word; without one, it is tried as often as the policy
            // allows.
            match how {
                Renewal::BringsTheOld => assert_eq!(finished.outcome, Outcome::Rejected(Rejected::Refused)),
                _ => assert!(
                    matches!(finished.outcome, Outcome::Rejected(Rejected::Attempts | Rejected::Deadline)),
                    "{:?}",
                    finished.outcome
                ),
            }
        }
        for job in polled {
            assert_eq!(job.await.unwrap().outcome.name(), "unresolved");
        }
        // 1, 2, 4, … 60 s, over at most five minutes.
        assert!((least..=11).contains(&renewer.calls()), "{} renewals", renewer.calls());
        assert_eq!(fake.brain().ledger().total_executions(), 100);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_for_a_while_costs_no_accepted_job() {
    let (renewer, fake) = (Renewer::new(Renewal::Fails), expiring(60 * SECOND));
    let client = renewer.client(fake.clone()).start().await.unwrap();
    let jobs = submit(&client, 0..100).await;
    tokio::time::sleep(80 * SECOND).await;
    assert!(renewer.calls() > 1);
    *renewer.how.lock().unwrap() = Renewal::Works;
    for job in jobs {
        assert_eq!(job.await.unwrap().outcome, Outcome::Completed(Completed::Ready));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_way_to_renew_a_create_is_refused_and_polls_wait_for_the_token() {
    let (credentials, fake) = (credentials(), expiring(60 * SECOND));
    let client = Client::builder(deepvue("driving-license", &credentials), fake.clone()).seed(Seed::new(7));
    let client = client.start().await.unwrap();
    let accepted = submit(&client, 0..10).await;
    tokio::time::sleep(70 * SECOND).await;
    let refused = submit(&client, 10..11).await.pop().unwrap().await.unwrap();
    assert_eq!((refused.outcome, refused.creates), (Outcome::Rejected(Rejected::Refused), 1));
    credentials.renew("tomorrow").unwrap();
    for job in accepted {
        assert_eq!(job.await.unwrap().outcome, Outcome::Completed(Completed::Ready));
    }
}

/// Notes when requests leave.
#[derive(Clone)]
struct Watched<T>(T, Arc<Mutex<Vec<Instant>>>);

impl<T: Transport> Transport for Watched<T> {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        self.1.lock().unwrap().push(Instant::now());
        self.0.send(outgoing).await
    }
}

/// Two products under one API key, the source of one of them down. Gives, of each, how many jobs completed and how
/// often its breaker changed; and how many requests left within a second at most.
async fn two_products(transport: impl Transport + Clone, sent: &Mutex<Vec<Instant>>) -> ([(usize, u32); 2], usize) {
    let (credentials, mut carried) = (credentials(), Vec::new());
    for (product, first) in [("driving-license", 0), ("pan", 1_000)] {
        let provider = deepvue(product, &credentials).with_plan(Plan::Growth).unwrap();
        let (transport, changes) = (transport.clone(), Arc::new(AtomicU32::new(0)));
        carried.push(async move {
            let seen = changes.clone();
            let client = Client::builder(provider, transport).seed(Seed::new(7)).observer(move |it| {
                seen.fetch_add(u32::from(matches!(it.notice, Notice::Breaker(_))), Ordering::Relaxed);
            });
            let client = client.start().await.unwrap();
            let mut completed = 0;
            for job in submit(&client, first..first + 100).await {
                completed += usize::from(matches!(job.await.unwrap().outcome, Outcome::Completed(_)));
            }
            (completed, changes.load(Ordering::Relaxed))
        });
    }
    let pan = carried.pop().unwrap();
    let (down, well) = tokio::join!(carried.pop().unwrap(), pan);
    let sent = sent.lock().unwrap();
    let crowd = |from: usize| sent[from..].iter().take_while(|at| **at - sent[from] < SECOND).count();
    ([down, well], (0..sent.len()).map(crowd).max().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_down_opens_its_own_breaker_and_the_key_keeps_its_limit() {
    let down = || FakeDeepvue::new(1).with_source_down("driving-license", 5 * SECOND, 60 * SECOND);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let transport = PacedTransport::new(Watched(InProcess::new(down()), sent.clone()), Plan::Growth.rates().unwrap());
    let ([(_, opened), (completed, changes)], crowd) = two_products(transport, &sent).await;
    assert!(opened > 0, "the breaker of the product whose source is down never opened");
    assert_eq!((completed, changes), (100, 0), "the other product was held back with it");
    assert_eq!(crowd, 5, "more than the plan's five requests within a second");

    // The control: each keeps to the plan, and together they do not.
    let sent = Arc::new(Mutex::new(Vec::new()));
    let (_, crowd) = two_products(Watched(InProcess::new(down()), sent.clone()), &sent).await;
    assert!(crowd > 5, "{crowd}");
}

#[tokio::test(start_paused = true)]
async fn both_shapes_are_carried_through() {
    for (shape, other) in [(Shape::Guide, Shape::Reference), (Shape::Reference, Shape::Guide)] {
        let fake = InProcess::new(FakeDeepvue::new(1).with_shape(shape));
        let client = Client::builder(deepvue("driving-license", &credentials()).with_shape(shape), fake.clone());
        let client = client.seed(Seed::new(7)).start().await.unwrap();
        for job in submit(&client, 0..10).await {
            assert_eq!(job.await.unwrap().outcome, Outcome::Completed(Completed::Ready), "{shape:?}");
        }
        // Asked by the other name, it knows no job: that is told, and is no result.
        let client = Client::builder(deepvue("driving-license", &credentials()).with_shape(other), fake.clone());
        let client = client.seed(Seed::new(7)).start().await.unwrap();
        let finished = submit(&client, 10..11).await.pop().unwrap().await.unwrap();
        assert_eq!(finished.outcome.name(), "unresolved");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_tells_its_progress_and_its_file_is_in_the_result_and_nowhere_else() {
    let provider =
        DeepvueBulk::new(BaseUrl::parse("https://provider.test").unwrap(), "upi-basic", credentials()).unwrap();
    assert_eq!(provider.name(), "deepvue/bulk/upi-basic");
    let fake = FakeDeepvue::new(3).with_job_time(600 * SECOND, 600 * SECOND);
    let fake = InProcess::new(fake);
    let told = Arc::new(Mutex::new((Vec::new(), String::new())));
    let seen = told.clone();
    let client = Client::builder(provider, fake.clone()).seed(Seed::new(7)).observer(move |it| {
        let mut seen = seen.lock().unwrap();
        if let Notice::Progress { done, total } = it.notice {
            seen.0.push((done, total));
        }
        seen.1 += &format!("{it:?}");
    });
    let client = client.start().await.unwrap();
    let file = (0..1_000).fold(String::from("vpa\n"), |file, n| format!("{file}person-{n}@bank\n"));
    let job = client.submit(Key::new("batch-7").unwrap(), file).await.unwrap();
    let finished = job.await.unwrap();
    assert_eq!(finished.outcome, Outcome::Completed(Completed::Ready));
    let url = OutputFile::of(finished.body()).unwrap();
    assert!(url.url().contains("canary"), "the fake's URL is its own secret");

    let told = told.lock().unwrap();
    assert!(
        told.0.len() > 3 && told.0.is_sorted() && told.0.iter().all(|(done, total)| done <= total && *total == 1_000)
    );
    assert!(!format!("{finished:?} {url:?} {}", told.1).contains("canary"), "the URL is shown");
    // All requests were for Deepvue: nobody fetched the file.
    let requests: u64 =
        [Kind::Create, Kind::Lookup, Kind::Poll].into_iter().map(|kind| fake.brain().requests(kind)).sum();
    assert_eq!(fake.brain().requests(Kind::Create), 1);
    assert!(requests < 20, "{requests}");
}
