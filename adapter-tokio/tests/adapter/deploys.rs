//! What a deploy may change between two processes on one journal, and what becomes of the jobs of the one before, in
//! whatever state they were. Virtual time. Most rows of the guide's chapter
//! "What a deploy may change" stand here; those about seals in `seals`.

mod seals;

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::engine::{self, Limits};
use steadfast_core::operation::{Reading, Rejected, Stage, Unresolved};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Key, Kind, OperationPolicy, Outcome, SendSafety};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_store::Store;
use steadfast_tokio::{Builder, Client, Outgoing, ResumeError, SendError, StartError, SubmitError, Transport};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{DAY, Kept, Plain, answer, key, keyed};

const SECOND: Duration = Duration::from_secs(1);

/// What the first release submits, and what a later one makes of the same job: a new optional field.
const PAYLOAD: &str = r#"{"document":"DL1"}"#;
const REWRITTEN: &str = r#"{"document":"DL1","country":null}"#;

/// The states in which a process may leave a job. Each job is called after the state in which it was left.
const STATES: [&str; 7] = ["planned", "in-flight", "accepted", "ended", "delivered", "unresolved", "rejected"];

/// A release of the program, as its provider sees it.
#[derive(Clone)]
struct Release {
    name: &'static str,
    host: &'static str,
}

impl Release {
    const FIRST: Self = Self { name: "plain", host: "v1.provider.test" };
}

impl Provider for Release {
    fn name(&self) -> &str {
        self.name
    }

    fn policy(&self) -> OperationPolicy {
        keyed()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let mut request = Plain.request(ask)?;
        let url = request.uri().to_string().replace("provider.test", self.host);
        *request.uri_mut() = url.parse().map_err(|_| RequestError::Unsendable("reference"))?;
        Ok(request)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        Plain.read(answer)
    }
}

/// One request: its kind, its host, its body.
type Sent = (Kind, String, Bytes);

/// What the provider does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    /// What leaves each job in its state.
    #[default]
    First,
    /// Every job is answered and done.
    GoesOn,
    /// Whatever is asked is refused with this status.
    Refuses(u16),
}

/// The provider's side, which outlives the releases: what it was sent for each key, and what it does now.
#[derive(Clone, Default)]
struct Upstream {
    sent: Arc<Mutex<BTreeMap<String, Vec<Sent>>>>,
    mood: Arc<Mutex<Mood>>,
}

impl Upstream {
    fn sent(&self, key: &str) -> Vec<Sent> {
        self.sent.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    fn kinds(&self, key: &str) -> Vec<Kind> {
        self.sent(key).into_iter().map(|(kind, ..)| kind).collect()
    }

    fn creates(&self, key: &str) -> Vec<Bytes> {
        self.sent(key).into_iter().filter(|(kind, ..)| *kind == Kind::Create).map(|(.., body)| body).collect()
    }

    fn all_creates(&self) -> [usize; 7] {
        STATES.map(|name| self.creates(name).len())
    }

    fn now(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Forgets what it was sent so far.
    fn anew(&self) {
        self.sent.lock().unwrap().clear();
    }
}

impl Transport for Upstream {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let (key, kind) = (outgoing.key.as_str().to_owned(), outgoing.attempt.kind);
        let (host, body) = (outgoing.request.uri().host().unwrap().to_owned(), outgoing.request.body().clone());
        self.sent.lock().unwrap().entry(key.clone()).or_default().push((kind, host, body));
        let mood = *self.mood.lock().unwrap();
        sleep(Duration::from_millis(50)).await;
        match (mood, kind, &*key) {
            (Mood::Refuses(status), ..) => Ok(answer(status, "no")),
            (Mood::First, Kind::Create, "in-flight" | "unresolved") => pending().await,
            (Mood::First, Kind::Create, "rejected") => Ok(answer(422, "no")),
            (_, Kind::Create | Kind::Lookup, _) => Ok(answer(201, format!("txn-{key}"))),
            (Mood::First, _, "accepted") => Ok(answer(202, "")),
            _ => Ok(answer(200, format!("result of {key}"))),
        }
    }
}

fn stage(store: &Kept, name: &str) -> Stage {
    store.clone().find(&key(name)).unwrap().unwrap().record.stage
}

fn release(store: &Kept, upstream: &Upstream) -> Builder<Release, Upstream> {
    Client::builder(Release::FIRST, upstream.clone()).store(store.clone())
}

/// The first release dies, and leaves a job in each state.
async fn first(store: &Kept, built: impl FnOnce(Builder<Release, Upstream>) -> Builder<Release, Upstream>) -> Upstream {
    let upstream = Upstream::default();
    // Nobody can take an outcome just now: so one that ends without a caller stays in the store.
    let builder = release(store, &upstream).unclaimed(|_, _| Err::<(), _>(std::io::Error::other("not now")));
    let client = built(builder).start().await.unwrap();
    let submit = async |name: &str| client.submit(key(name), PAYLOAD).await.unwrap();
    submit("delivered").await.await.unwrap();
    submit("rejected").await.await.unwrap();
    let in_doubt = submit("unresolved").await;
    drop(submit("ended").await);
    sleep(SECOND).await;
    in_doubt.cancel();
    in_doubt.await.unwrap();
    sleep(20 * SECOND).await;
    let _under_way = (submit("accepted").await, submit("in-flight").await);
    sleep(SECOND).await;
    client.hold(60 * SECOND);
    let _planned = submit("planned").await;
    assert_eq!(client.shutdown(Duration::ZERO).await.len(), 3);
    for (name, left) in [
        ("planned", Stage::Planned),
        ("in-flight", Stage::InFlight),
        ("accepted", Stage::Accepted),
        ("unresolved", Stage::Delivered(Outcome::Unresolved(Unresolved::Cancelled))),
        ("rejected", Stage::Delivered(Outcome::Rejected(Rejected::Refused))),
    ] {
        assert_eq!(stage(store, name), left, "{name}");
    }
    assert!(matches!(stage(store, "ended"), Stage::Ended(Outcome::Completed(_))));
    assert!(matches!(stage(store, "delivered"), Stage::Delivered(Outcome::Completed(_))));
    assert_eq!(upstream.all_creates(), [0, 1, 1, 1, 1, 1, 1]);
    upstream
}

/// The same job, written in another way: no create leaves for it, and who says so names what to do.
#[tokio::test(start_paused = true)]
async fn a_payload_that_is_written_in_another_way_is_refused_and_the_key_alone_gives_the_job() {
    for (keeps, store) in [false, true].into_iter().flat_map(|keeps| Kept::both().map(|store| (keeps, store))) {
        let kept = |builder: Builder<_, _>| if keeps { builder.keep_payloads() } else { builder };
        let upstream = first(&store, kept).await;
        upstream.now(Mood::GoesOn);
        let client = kept(release(&store, &upstream)).start().await.unwrap();
        for name in STATES.into_iter().filter(|name| *name != "rejected") {
            let refused = client.submit(key(name), REWRITTEN).await.unwrap_err();
            let SubmitError::Refused(engine::SubmitError::FingerprintMismatch) = &refused else {
                panic!("{refused:?}")
            };
            assert!(refused.to_string().contains("resume its key"), "{name}: {refused}");
            assert!(!refused.to_string().contains("DL1"), "{refused}");
        }
        for (name, outcome) in [("accepted", "completed"), ("ended", "completed"), ("delivered", "completed")] {
            let finished = client.resume(key(name)).await.unwrap().await.unwrap();
            assert_eq!(finished.outcome.name(), outcome, "{name}");
        }
        assert!(matches!(client.resume(key("unresolved")).await, Err(ResumeError::NoReference(_))));
        for name in ["planned", "in-flight"] {
            match client.resume(key(name)).await {
                // It goes on by itself, with the bytes that were submitted.
                Ok(job) => assert!(keeps && job.await.unwrap().outcome.name() == "completed", "{name}"),
                Err(refused) => {
                    assert!(!keeps && matches!(refused, ResumeError::PayloadNeeded), "{name}: {refused:?}");
                    // Whoever still has the first bytes can bring them.
                    let finished = client.submit(key(name), PAYLOAD).await.unwrap().await.unwrap();
                    assert_eq!(finished.outcome.name(), "completed", "{name}");
                }
            }
        }
        // Nothing ran, so the key is free, also for other bytes.
        let anew = client.submit(key("rejected"), REWRITTEN).await.unwrap().await.unwrap();
        assert_eq!(anew.outcome.name(), "completed");
        assert_eq!(upstream.all_creates(), [1, 2, 1, 1, 1, 1, 2], "keeps: {keeps}");
        assert!(STATES[..6].iter().flat_map(|name| upstream.creates(name)).all(|body| body == PAYLOAD));
    }
}

/// What each of the jobs has become once all is said and done.
async fn ends(client: &Client, store: &Kept) -> [Stage; 7] {
    sleep(600 * SECOND).await;
    assert!(client.clone().shutdown(SECOND).await.is_empty());
    STATES.map(|name| stage(store, name))
}

/// Nothing of what had ended has changed, and nothing more was sent for it.
fn rest(upstream: &Upstream, ends: &[Stage; 7]) {
    for (name, end) in STATES.iter().zip(ends).skip(3) {
        assert!(upstream.sent(name).is_empty(), "{name}: {:?}", upstream.sent(name));
        let same = match *name {
            "ended" => matches!(end, Stage::Ended(Outcome::Completed(_))),
            "delivered" => matches!(end, Stage::Delivered(Outcome::Completed(_))),
            "unresolved" => *end == Stage::Delivered(Outcome::Unresolved(Unresolved::Cancelled)),
            _ => *end == Stage::Delivered(Outcome::Rejected(Rejected::Refused)),
        };
        assert!(same, "{name}: {end:?}");
    }
}

const COMPLETED: &str = "completed";

fn outcome(stage: Stage) -> &'static str {
    match stage {
        Stage::Ended(outcome) | Stage::Delivered(outcome) => outcome.name(),
        _ => "under way",
    }
}

/// Another promise of what the provider does with a key: it holds for what is in doubt already.
#[tokio::test(start_paused = true)]
async fn another_safety_counts_for_the_creates_that_are_in_doubt() {
    let lookup = SendSafety::Lookup { settle: 5 * SECOND };
    let doubt = Stage::Ended(Outcome::Unresolved(Unresolved::Ambiguous));
    for (safety, store) in [SendSafety::Unsafe, SendSafety::Idempotent, lookup]
        .into_iter()
        .flat_map(|it| Kept::both().map(|store| (it, store)))
    {
        let upstream = first(&store, Builder::keep_payloads).await;
        upstream.now(Mood::GoesOn);
        upstream.anew();
        let policy = keyed().with_safety(safety).unwrap();
        let client = release(&store, &upstream).keep_payloads().policy(policy).start().await.unwrap();
        let ended = ends(&client, &store).await;
        rest(&upstream, &ended);
        assert_eq!((outcome(ended[0]), outcome(ended[2])), (COMPLETED, COMPLETED), "{safety:?}");
        assert_eq!(upstream.kinds("planned"), [Kind::Create, Kind::Poll]);
        assert_eq!(upstream.kinds("accepted"), [Kind::Poll]);
        match safety {
            SendSafety::Unsafe => assert_eq!((ended[1], upstream.kinds("in-flight")), (doubt, vec![])),
            SendSafety::Idempotent => assert_eq!(upstream.kinds("in-flight"), [Kind::Create, Kind::Poll]),
            _ => assert_eq!(upstream.kinds("in-flight"), [Kind::Lookup, Kind::Poll]),
        }
        if safety == SendSafety::Unsafe {
            // Rolled back: what has ended stays as it was told, and is not sent after all.
            let client = release(&store, &upstream).keep_payloads().start().await.unwrap();
            let told = client.submit(key("in-flight"), PAYLOAD).await.unwrap().await.unwrap();
            assert_eq!(told.outcome, Outcome::Unresolved(Unresolved::Ambiguous));
            sleep(600 * SECOND).await;
            assert_eq!(upstream.kinds("in-flight"), []);
        }
    }
}

/// Shorter deadlines, fewer attempts and fewer polls: a job that has had as much already gets one more poll and no more
/// creates.
#[tokio::test(start_paused = true)]
async fn what_a_stricter_policy_leaves_of_the_jobs_before_it() {
    let (flat, second) =
        (|secs| BackoffPolicy::new(Growth::Fixed(secs * SECOND), secs * SECOND, Jitter::None).unwrap(), SECOND);
    let once = RetryPolicy::new(1, 120 * SECOND, 10 * SECOND, flat(1)).unwrap();
    let short = RetryPolicy::new(5, 5 * second, 2 * second, flat(1)).unwrap();
    for (create, store) in [once, short].into_iter().flat_map(|it| Kept::both().map(|store| (it.clone(), store))) {
        let why = if create.attempts() == 1 { Unresolved::Attempts } else { Unresolved::Deadline };
        let poll = PollPolicy::new(flat(3), 1, 180 * SECOND, RetryPolicy::default()).unwrap();
        let policy = keyed().with_create(create).unwrap().with_poll(poll);
        let upstream = first(&store, Builder::keep_payloads).await;
        upstream.anew();
        let client = release(&store, &upstream).keep_payloads().policy(policy).start().await.unwrap();
        let ended = ends(&client, &store).await;
        rest(&upstream, &ended);
        assert_eq!(ended[1], Stage::Ended(Outcome::Unresolved(why)));
        assert_eq!(upstream.kinds("in-flight"), [], "{why:?}");
        assert_eq!(ended[2], Stage::Ended(Outcome::Unresolved(Unresolved::Polls)));
        assert_eq!(upstream.kinds("accepted"), [Kind::Poll]);
        assert_eq!((outcome(ended[0]), upstream.kinds("planned")), (COMPLETED, vec![Kind::Create, Kind::Poll]));

        // Rolled back: what the provider has can be resumed; what may have run stays in doubt.
        upstream.now(Mood::GoesOn);
        let client = release(&store, &upstream).keep_payloads().start().await.unwrap();
        let resumed = client.resume(key("accepted")).await.unwrap().await.unwrap();
        assert_eq!(resumed.outcome.name(), COMPLETED);
        assert!(matches!(client.resume(key("in-flight")).await, Err(ResumeError::NoReference(_))));
    }
}

/// Another base URL under the same name is the same provider: all that is still to be sent goes there, creates too.
#[tokio::test(start_paused = true)]
async fn all_that_is_still_to_be_sent_goes_to_the_new_base_url() {
    for store in Kept::both() {
        let upstream = first(&store, Builder::keep_payloads).await;
        upstream.now(Mood::GoesOn);
        upstream.anew();
        let moved = Release { host: "v2.provider.test", ..Release::FIRST };
        let builder = Client::builder(moved, upstream.clone()).store(store.clone()).keep_payloads();
        let ended = ends(&builder.start().await.unwrap(), &store).await;
        rest(&upstream, &ended);
        assert_eq!(upstream.kinds("planned"), [Kind::Create, Kind::Poll]);
        assert_eq!(upstream.kinds("in-flight"), [Kind::Create, Kind::Poll]);
        assert_eq!(upstream.kinds("accepted"), [Kind::Poll]);
        for name in STATES {
            assert!(upstream.sent(name).iter().all(|(_, host, _)| host == "v2.provider.test"), "{name}");
        }
    }
}

/// A provider that does not know what it is asked for, or refuses the API key: nothing runs, and nothing is lost that
/// the provider has.
#[tokio::test(start_paused = true)]
async fn where_every_request_is_refused_what_was_accepted_can_be_resumed_after_the_rollback() {
    for (status, store) in [401, 403, 404].into_iter().flat_map(|it| Kept::both().map(|store| (it, store))) {
        let upstream = first(&store, Builder::keep_payloads).await;
        upstream.now(Mood::Refuses(status));
        upstream.anew();
        let client = release(&store, &upstream).keep_payloads().start().await.unwrap();
        let ended = ends(&client, &store).await;
        rest(&upstream, &ended);
        assert_eq!(ended[0], Stage::Ended(Outcome::Rejected(Rejected::Refused)), "{status}");
        assert_eq!(ended[1], Stage::Ended(Outcome::Unresolved(Unresolved::Refused)), "{status}");
        assert_eq!(ended[2], Stage::Ended(Outcome::Unresolved(Unresolved::PollRefused)), "{status}");

        upstream.now(Mood::GoesOn);
        let client = release(&store, &upstream).keep_payloads().start().await.unwrap();
        let resumed = client.resume(key("accepted")).await.unwrap().await.unwrap();
        assert_eq!(resumed.outcome.name(), COMPLETED);
        let anew = client.submit(key("planned"), REWRITTEN).await.unwrap().await.unwrap();
        assert_eq!(anew.outcome.name(), COMPLETED);
        let told = client.submit(key("in-flight"), PAYLOAD).await.unwrap().await.unwrap();
        assert_eq!(told.outcome, Outcome::Unresolved(Unresolved::Refused));
    }
}

/// A provider that was renamed is another one: it does not start on the jobs of the old name, and changes nothing.
#[tokio::test(start_paused = true)]
async fn a_renamed_provider_is_refused_and_the_old_name_goes_on() {
    for store in Kept::both() {
        let upstream = first(&store, Builder::keep_payloads).await;
        upstream.now(Mood::GoesOn);
        upstream.anew();
        let left = store.clone().load().unwrap();
        let renamed = Release { name: "plain/2", ..Release::FIRST };
        let refused = Client::builder(renamed, upstream.clone()).store(store.clone()).start().await.unwrap_err();
        assert!(matches!(refused, StartError::OtherProvider { .. }), "{refused:?}");
        for word in ["\"plain\"", "\"plain/2\"", "or this one the name that it had"] {
            assert!(refused.to_string().contains(word), "{refused}");
        }
        assert_eq!(store.clone().load().unwrap(), left);
        assert!(STATES.iter().all(|name| upstream.sent(name).is_empty()));
        let client = release(&store, &upstream).keep_payloads().start().await.unwrap();
        for name in &STATES[..5] {
            assert_eq!(client.resume(key(name)).await.unwrap().await.unwrap().outcome.name(), COMPLETED, "{name}");
        }
        assert!(client.shutdown(SECOND).await.is_empty());

        // Once all is delivered it may start, where the store need not read all it has; and what is remembered is not its.
        let renamed = Release { name: "plain/2", ..Release::FIRST };
        let started = Client::builder(renamed, upstream.clone()).store(store.clone()).start().await;
        upstream.anew();
        match started {
            Ok(client) => {
                for name in STATES {
                    let refused = client.submit(key(name), PAYLOAD).await.unwrap_err();
                    assert!(matches!(refused, SubmitError::Unreadable(_)), "{name}: {refused:?}");
                    assert!(client.resume(key(name)).await.is_err(), "{name}");
                }
            }
            Err(refused) => {
                assert!(
                    matches!((&store, &refused), (Kept::Memory(_), StartError::OtherProvider { .. })),
                    "{refused:?}"
                );
            }
        }
        assert!(STATES.iter().all(|name| upstream.sent(name).is_empty()));
    }
}

/// What was kept is used by a release that keeps nothing any more, and goes when its job's time is over.
#[tokio::test(start_paused = true)]
async fn a_release_that_keeps_nothing_uses_what_was_kept_before_it() {
    for store in Kept::both() {
        let upstream = first(&store, |builder| builder.keep_payloads().keep_answers()).await;
        upstream.now(Mood::GoesOn);
        let client = release(&store, &upstream).start().await.unwrap();
        for name in ["ended", "delivered"] {
            let finished = client.submit(key(name), PAYLOAD).await.unwrap().await.unwrap();
            assert_eq!(finished.body(), format!("result of {name}").as_bytes());
        }
        for name in ["planned", "in-flight"] {
            assert_eq!(client.resume(key(name)).await.unwrap().await.unwrap().outcome.name(), COMPLETED, "{name}");
        }
        assert!(client.shutdown(60 * SECOND).await.is_empty());
        let kept = |name| store.clone().find(&key(name)).unwrap().unwrap();
        assert_eq!(STATES.map(|name| kept(name).payload), [const { None }; 7]);
        assert!(kept("planned").answer.is_none() && kept("in-flight").answer.is_none(), "new ones are not kept");
        assert!(kept("ended").answer.is_some() && kept("delivered").answer.is_some(), "until they are forgotten");
    }
}

/// What was not kept cannot be had; what comes from now on is kept.
#[tokio::test(start_paused = true)]
async fn a_release_that_begins_to_keep_does_so_from_the_next_submit() {
    for store in Kept::both() {
        let upstream = first(&store, |builder| builder).await;
        let client = release(&store, &upstream).keep_payloads().keep_answers().start().await.unwrap();
        for name in ["ended", "delivered"] {
            let finished = client.submit(key(name), PAYLOAD).await.unwrap().await.unwrap();
            assert_eq!((finished.outcome.name(), finished.answer), (COMPLETED, None), "{name}");
        }
        let _in_flight = client.submit(key("in-flight"), PAYLOAD).await.unwrap();
        assert_eq!(upstream.creates("in-flight").len(), 1);
        while upstream.creates("in-flight").len() < 2 {
            sleep(SECOND).await;
        }
        let kept = store.clone().find(&key("in-flight")).unwrap().unwrap();
        assert_eq!(kept.payload.as_deref(), Some(PAYLOAD.as_bytes()), "with the record of its next create");
    }
}

/// Time goes by between two releases; or, the other way round, the clock of the new one's host is behind.
fn shift(store: &Kept, by: impl Fn(steadfast_core::Timestamp) -> steadfast_core::Timestamp) {
    let mut entries = store.clone().load().unwrap();
    for entry in &mut entries {
        let record = &mut entry.record;
        record.submitted = by(record.submitted);
        record.first_sent = record.first_sent.map(&by);
        record.due = record.due.map(&by);
        entry.at = by(entry.at);
    }
    store.clone().append(&entries).unwrap();
}

/// A shorter memory counts for what was delivered before it, and frees no key of a job that may have run, or of which
/// nobody has the outcome.
#[tokio::test(start_paused = true)]
async fn a_shorter_memory_frees_the_keys_of_what_was_delivered_and_no_other() {
    for (hours, store) in [3, 1].into_iter().flat_map(|it| Kept::both().map(|store| (it, store))) {
        let upstream = first(&store, Builder::keep_payloads).await;
        upstream.now(Mood::GoesOn);
        upstream.anew();
        shift(&store, |at| at.saturating_sub(2 * 3_600 * SECOND));
        let limits = Limits { remember_for: hours * 3_600 * SECOND, ..Limits::default() };
        let client = release(&store, &upstream).keep_payloads().limits(limits).start().await.unwrap();
        for name in ["delivered", "ended", "unresolved"] {
            client.submit(key(name), PAYLOAD).await.unwrap().await.unwrap();
        }
        let creates = ["delivered", "ended", "unresolved"].map(|name| upstream.creates(name).len());
        assert_eq!(creates, [usize::from(hours == 1), 0, 0], "remembered for {hours} h");
    }
}

/// The host of the new release is behind: nothing is run twice or waits for its clock, and all go on.
#[tokio::test(start_paused = true)]
async fn a_host_whose_clock_is_behind_goes_on_with_every_job() {
    for (behind, store) in [600 * SECOND, 2 * DAY].into_iter().flat_map(|it| Kept::both().map(|store| (it, store))) {
        let upstream = first(&store, Builder::keep_payloads).await;
        upstream.now(Mood::GoesOn);
        upstream.anew();
        shift(&store, |at| at.saturating_add(behind));
        let client = release(&store, &upstream).keep_payloads().start().await.unwrap();
        let began = Instant::now();
        for name in &STATES[..5] {
            let finished = timeout(90 * SECOND, client.submit(key(name), PAYLOAD).await.unwrap()).await;
            assert_eq!(finished.unwrap().unwrap().outcome.name(), COMPLETED, "{name}, after {:?}", began.elapsed());
        }
        let told = client.submit(key("unresolved"), PAYLOAD).await.unwrap().await.unwrap();
        assert_eq!(told.outcome, Outcome::Unresolved(Unresolved::Cancelled));
        assert_eq!(upstream.all_creates(), [1, 1, 0, 0, 0, 0, 0]);
    }
}

/// Fewer jobs may be under way than there are: none of them is lost, and new ones wait.
#[tokio::test(start_paused = true)]
async fn fewer_places_than_jobs_lose_none() {
    for store in Kept::both() {
        let upstream = first(&store, Builder::keep_payloads).await;
        let limits = Limits { live: 1, ..Limits::default() };
        let client = release(&store, &upstream).keep_payloads().limits(limits).start().await.unwrap();
        let mut fresh = Box::pin(client.submit(key("fresh"), PAYLOAD));
        assert!(timeout(5 * SECOND, &mut fresh).await.is_err(), "it waits for room");
        upstream.now(Mood::GoesOn);
        assert_eq!(fresh.await.unwrap().await.unwrap().outcome.name(), COMPLETED);
        let ended = ends(&client, &store).await;
        assert_eq!([0, 1, 2].map(|n| outcome(ended[n])), [COMPLETED; 3]);
    }
}
