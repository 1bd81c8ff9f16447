//! What a deploy may change between two processes on one journal, and what becomes of the jobs of the one before, in
//! whatever state they were. Virtual time. The guide's table "What a deploy may change" says no more than this does.

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
use steadfast_tokio::{
    Builder, Client, Outgoing, ResumeError, Seal, SealError, SendError, StartError, SubmitError, Transport,
};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{DAY, Kept, Plain, answer, key, keyed};

const SECOND: Duration = Duration::from_secs(1);

/// What the first release submits, and what a later one makes of the same job: a new optional field.
const PAYLOAD: &str = r#"{"document":"DL1"}"#;
const REWRITTEN: &str = r#"{"document":"DL1","country":null}"#;

/// The states in which a process may leave a job. Each job is called after the state in which it was left.
const STATES: [&str; 7] = ["planned", "in-flight", "accepted", "ended", "delivered", "unresolved", "rejected"];

/// Those whose create may have run, or has: no release may send another one for them without a reason to.
const SENT: [&str; 5] = ["in-flight", "accepted", "ended", "delivered", "unresolved"];

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

/// The provider's side, which outlives the releases: what it was sent for each key, and whether it carries jobs on by
/// now.
#[derive(Clone, Default)]
struct Upstream {
    sent: Arc<Mutex<BTreeMap<String, Vec<Sent>>>>,
    goes_on: Arc<Mutex<bool>>,
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

    /// From now on every job is answered and done.
    fn goes_on(&self) {
        *self.goes_on.lock().unwrap() = true;
    }
}

impl Transport for Upstream {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let (key, kind) = (outgoing.key.as_str().to_owned(), outgoing.attempt.kind);
        let (host, body) = (outgoing.request.uri().host().unwrap().to_owned(), outgoing.request.body().clone());
        self.sent.lock().unwrap().entry(key.clone()).or_default().push((kind, host, body));
        let goes_on = *self.goes_on.lock().unwrap();
        sleep(Duration::from_millis(50)).await;
        match (kind, &*key) {
            (Kind::Create, "in-flight" | "unresolved") if !goes_on => pending().await,
            (Kind::Create, "rejected") if !goes_on => Ok(answer(422, "no")),
            (Kind::Create | Kind::Lookup, _) => Ok(answer(201, format!("txn-{key}"))),
            (_, "accepted") if !goes_on => Ok(answer(202, "")),
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
    let creates: Vec<usize> = STATES.iter().map(|name| upstream.creates(name).len()).collect();
    assert_eq!(creates, [0, 1, 1, 1, 1, 1, 1]);
    upstream
}

/// The same job, written in another way: no create leaves for it, and who says so names what to do.
#[tokio::test(start_paused = true)]
async fn a_payload_that_is_written_in_another_way_is_refused_and_the_key_alone_gives_the_job() {
    for (keeps, store) in [false, true].into_iter().flat_map(|keeps| Kept::both().map(|store| (keeps, store))) {
        let kept = |builder: Builder<_, _>| if keeps { builder.keep_payloads() } else { builder };
        let upstream = first(&store, kept).await;
        upstream.goes_on();
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
        let creates: Vec<usize> = STATES.iter().map(|name| upstream.creates(name).len()).collect();
        assert_eq!(creates, [1, 2, 1, 1, 1, 1, 2], "keeps: {keeps}");
        assert!(STATES[..6].iter().flat_map(|name| upstream.creates(name)).all(|body| body == PAYLOAD));
    }
}

/// A cipher, as far as this goes: another key does not open what this one sealed, nor does it open what nobody sealed.
#[derive(Clone, Copy)]
struct Cipher(u8);

impl Seal for Cipher {
    fn seal(&self, _: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok([0xC1, self.0].into_iter().chain(bytes.iter().map(|byte| byte ^ self.0)).collect())
    }

    fn open(&self, _: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        match sealed {
            [0xC1, by, rest @ ..] if *by == self.0 => Ok(rest.iter().map(|byte| byte ^ self.0).collect()),
            _ => Err("sealed by another key, or not at all".into()),
        }
    }
}

/// Seals with the first, and opens what any of them sealed, or nobody.
struct Ring(Vec<Cipher>);

impl Seal for Ring {
    fn seal(&self, key: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        self.0[0].seal(key, bytes)
    }

    fn open(&self, key: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        if sealed.first() != Some(&0xC1) {
            return Ok(sealed.to_vec());
        }
        let opened = self.0.iter().find_map(|cipher| cipher.open(key, sealed).ok());
        opened.ok_or_else(|| "no key for it".into())
    }
}

fn sealed(builder: Builder<Release, Upstream>, by: Option<impl Seal>) -> Builder<Release, Upstream> {
    let builder = builder.keep_payloads().keep_answers();
    match by {
        Some(seal) => builder.seal(seal),
        None => builder,
    }
}

/// What was sealed is told to nobody as if it were the provider's answer, and is sent to nobody as if it were a payload.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_is_as_not_kept_whichever_way_the_seal_was_changed() {
    let changes = [(Some(Cipher(1)), None), (None, Some(Cipher(1))), (Some(Cipher(1)), Some(Cipher(2)))];
    for (change, store) in changes.into_iter().flat_map(|change| Kept::both().map(|store| (change, store))) {
        let (before, now) = change;
        let what = (before.map(|cipher| cipher.0), now.map(|cipher| cipher.0));
        let upstream = first(&store, |builder| sealed(builder, before)).await;
        upstream.goes_on();
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = told.clone();
        let builder = sealed(release(&store, &upstream), now).unclaimed(move |key, finished| {
            if key.as_str() == "ended" {
                hears.lock().unwrap().push(finished.answer.clone());
            }
        });
        let client = builder.start().await.unwrap();
        sleep(SECOND).await;
        assert_eq!(*told.lock().unwrap(), [None], "{what:?}: the hook");
        for name in ["ended", "delivered"] {
            let finished = client.submit(key(name), PAYLOAD).await.unwrap().await.unwrap();
            assert_eq!((finished.outcome.name(), finished.answer), ("completed", None), "{what:?}: {name}");
            let finished = client.resume(key(name)).await.unwrap().await.unwrap();
            assert_eq!((finished.outcome.name(), finished.answer), ("completed", None), "{what:?}: {name}");
        }
        for name in ["planned", "in-flight"] {
            assert!(matches!(client.resume(key(name)).await, Err(ResumeError::PayloadNeeded)), "{what:?}: {name}");
            let finished = client.submit(key(name), PAYLOAD).await.unwrap().await.unwrap();
            assert_eq!(finished.outcome.name(), "completed");
            assert_eq!(upstream.creates(name).last().unwrap(), PAYLOAD);
        }
        assert!(client.shutdown(SECOND).await.is_empty());

        // Nothing was lost: who can open it has it, or who puts the seal back.
        let ring = Ring(vec![Cipher(2), Cipher(1)]);
        let client = sealed(release(&store, &upstream), Some(ring)).start().await.unwrap();
        for name in ["ended", "delivered", "planned"] {
            let finished = client.submit(key(name), PAYLOAD).await.unwrap().await.unwrap();
            assert_eq!(finished.body(), format!("result of {name}").as_bytes(), "{what:?}: {name}");
        }
    }
}

/// A seal that knows the keys before it, and passes what nobody sealed, goes on with everything.
#[tokio::test(start_paused = true)]
async fn a_seal_that_knows_its_earlier_keys_goes_on_with_all_jobs() {
    for (before, store) in
        [None, Some(Cipher(1))].into_iter().flat_map(|before| Kept::both().map(|store| (before, store)))
    {
        let upstream = first(&store, |builder| sealed(builder, before)).await;
        upstream.goes_on();
        let ring = Ring(vec![Cipher(2), Cipher(1)]);
        let client = sealed(release(&store, &upstream), Some(ring)).start().await.unwrap();
        for name in ["planned", "in-flight", "accepted", "ended", "delivered"] {
            let finished = client.resume(key(name)).await.unwrap().await.unwrap();
            assert_eq!(finished.body(), format!("result of {name}").as_bytes(), "{name}");
        }
        assert!(client.shutdown(SECOND).await.is_empty());
        let kept = store.clone().find(&key("planned")).unwrap().unwrap().answer.unwrap();
        assert!(kept.body.windows(2).any(|bytes| bytes == [0xC1, 2]), "what is new is sealed by the new key");
    }
}
