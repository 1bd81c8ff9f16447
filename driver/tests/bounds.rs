//! I15: what is held is bounded by the configured limits, whatever arrives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use steadfast_core::engine::Limits;
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{Outcome, Reading};
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, Kind, OperationPolicy, Reference, SendSafety, Timestamp};
use steadfast_driver::{
    Builder, Command, Delivery, Driver, Following, Mailbox, Posted, SendError, Sending, Settings, Submit, SubmitError,
    Task, WebhookPolicy,
};
use steadfast_providers::webhook::{Scheme, Verifier, WebhookError};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookEvent};
use steadfast_store::MemoryStore;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const MIB: usize = 1 << 20;

/// Reads a create's answer as the reference, a poll's as *pending* or, if the status is 201, as the result; with 422 it
/// refuses either.
struct Plain;

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default()
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        Request::builder().uri("https://plain.test/").body(Bytes::new()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn has_webhooks(&self) -> bool {
        true
    }

    fn webhook(&self, headers: &HeaderMap, body: &Bytes, now: Timestamp) -> Result<WebhookEvent, WebhookError> {
        Ok(WebhookEvent::plain(verifier().verify(headers, body, now)?, body))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match (answer.kind, answer.status.as_u16()) {
            (_, 422) => Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
            (Kind::Create, _) => {
                Ok(Reading::Accepted(Reference::new(String::from_utf8_lossy(answer.body).as_ref()).unwrap()))
            }
            (_, 201) => Ok(Reading::Ready),
            _ => Ok(Reading::Pending { hint: None }),
        }
    }
}

/// Counts what is held of it.
struct Weighed(Vec<u8>, Arc<AtomicUsize>);

impl AsRef<[u8]> for Weighed {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Weighed {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

fn weighed(size: usize, held: &Arc<AtomicUsize>) -> Bytes {
    held.fetch_add(size, Ordering::Relaxed);
    Bytes::from_owner(Weighed(vec![b'x'; size], held.clone()))
}

fn driver(settings: impl FnOnce(Builder<Plain, (), ()>) -> Builder<Plain, (), ()>) -> Driver<()> {
    let (provider, (), settings): (_, _, Settings) = settings(Builder::new(Plain, ())).into_parts();
    let loaded = settings.load(provider.name()).unwrap();
    Driver::new(Arc::new(provider), loaded, START)
}

fn submit(driver: &mut Driver<()>, key: &str, now: Timestamp) -> oneshot::Receiver<Result<Following, SubmitError>> {
    let (reply, taken) = oneshot::channel();
    driver.submit(Submit::new(Key::new(key).unwrap(), "{}".into(), reply), now);
    taken
}

/// What it wants sent by then.
fn turn(driver: &mut Driver<()>, now: Timestamp) -> VecDeque<Sending<()>> {
    let mut sent = VecDeque::new();
    driver.handle_timeout(now);
    while let Some(task) = driver.pop_task(now) {
        match task {
            Task::Send(sending) => sent.push_back(*sending),
            Task::Work(work) => driver.worked(work.run_one(), now),
            _ => {}
        }
    }
    sent
}

fn answer(driver: &mut Driver<()>, sending: Sending<()>, status: u16, body: Bytes, now: Timestamp) {
    let response = Response::builder().status(status).body(body).unwrap();
    driver.answered(sending.reader.read(Ok(response), now), now);
}

/// The provider says *pending* with a large document, as some do while a person looks at the job: held of each is the
/// last one at most, and of all together no more than of ended jobs. Who ends without another answer is told it, if it
/// was held.
#[test]
fn answers_that_end_no_job_are_held_within_the_limit_of_results() {
    const JOBS: usize = 100;
    let mut driver = driver(|builder| builder.results_limit(4 * MIB));
    let held = Arc::new(AtomicUsize::new(0));
    let taken: Vec<_> = (0..JOBS).map(|n| submit(&mut driver, &format!("order-{n}"), START)).collect();
    let (mut now, mut polls, mut most) = (START, 0, 0);
    while polls < 3 * JOBS {
        for sending in turn(&mut driver, now) {
            let is_create = sending.outgoing.attempt.kind == Kind::Create;
            let reference = sending.outgoing.key.as_str().to_owned();
            polls += usize::from(!is_create);
            let body = if is_create { reference.into() } else { weighed(MIB, &held) };
            answer(&mut driver, sending, 200, body, now);
            most = most.max(held.load(Ordering::Relaxed));
        }
        now = driver.next_deadline().unwrap_or(now).max(now);
    }
    assert!(most <= 5 * MIB, "{most} bytes");
    assert!(held.load(Ordering::Relaxed) >= 3 * MIB, "what there is room for is held");

    let followed: Vec<Following> = taken.into_iter().map(|taken| taken.try_recv().unwrap().unwrap()).collect();
    let cancelled = |following: &Following| following.id.map(Command::Cancel).unwrap();
    followed[1..].iter().for_each(|following| driver.command(cancelled(following), now));
    let mut ready = turn(&mut driver, now);
    while ready.is_empty() {
        now = driver.next_deadline().unwrap();
        ready = turn(&mut driver, now);
    }
    answer(&mut driver, ready.pop_front().unwrap(), 201, weighed(2 * MIB, &held), now);
    assert!(turn(&mut driver, now).is_empty());
    let sizes: Vec<_> =
        followed.iter().map(|following| following.finished.try_recv().unwrap().read().body().len()).collect();
    assert_eq!(sizes[0], 2 * MIB, "a result is told whatever its size");
    assert!(sizes[1..].iter().all(|size| [0, MIB].contains(size)), "{sizes:?}");
    assert!(sizes[1..].iter().sum::<usize>() >= 2 * MIB, "{sizes:?}");
    drop(driver);
    assert_eq!(held.load(Ordering::Relaxed), 0);
}

fn verifier() -> Verifier {
    Verifier::new(Scheme::StandardWebhooks, ["whsec_c3RlYWRmYXN0"]).unwrap()
}

fn deliver(driver: &mut Driver<()>, reference: &str, now: Timestamp) -> oneshot::Receiver<Delivery> {
    let body = Bytes::from(format!(r#"{{"reference":"{reference}","status":"pending"}}"#));
    let headers = verifier().sign(&format!("evt-{reference}"), now, &body).unwrap();
    let event = WebhookEvent::plain(verifier().verify(&headers, &body, now).unwrap(), &body);
    let (reply, told) = oneshot::channel();
    driver.deliver(Posted::new(event, reply), now);
    told
}

/// What a rejected job was answered is of no use once the job is forgotten, which is at once: it takes no room from
/// answers that can still be asked for, and is personal data.
#[test]
fn answers_of_jobs_that_were_rejected_are_held_no_longer_than_the_jobs() {
    for store in [None, Some(MemoryStore::default())] {
        let mut driver = driver(|builder| {
            let builder = builder.results_limit(4 * MIB).gate(GatePolicy::none());
            store.into_iter().fold(builder, Builder::store)
        });
        let (held, mut now) = (Arc::new(AtomicUsize::new(0)), START);
        let taken = submit(&mut driver, "order-1", now);
        let mut sent = turn(&mut driver, now);
        answer(&mut driver, sent.pop_front().unwrap(), 200, "txn-1".into(), now);
        sent = turn(&mut driver, now);
        while sent.is_empty() {
            now = driver.next_deadline().unwrap();
            sent = turn(&mut driver, now);
        }
        answer(&mut driver, sent.pop_front().unwrap(), 201, weighed(MIB, &held), now);
        turn(&mut driver, now);
        drop(taken);

        for n in 0..20 {
            let taken = submit(&mut driver, &format!("refused-{n}"), now);
            let sending = turn(&mut driver, now).pop_front().unwrap();
            answer(&mut driver, sending, 422, weighed(MIB, &held), now);
            turn(&mut driver, now);
            let told = taken.try_recv().unwrap().unwrap().finished.try_recv().unwrap().read();
            assert!(matches!(told.outcome, Outcome::Rejected(_)) && told.body().len() == MIB);
        }
        assert_eq!(held.load(Ordering::Relaxed), MIB);
        let again = submit(&mut driver, "order-1", now);
        turn(&mut driver, now);
        assert_eq!(again.try_recv().unwrap().unwrap().finished.try_recv().unwrap().read().body().len(), MIB);
    }
}

/// A server reads several requests into one buffer, and a body is a part of it: what counts by its own length must not
/// hold the whole buffer for as long as the job is remembered.
#[test]
fn a_result_from_a_webhook_holds_nothing_but_itself() {
    let mut driver = driver(|builder| builder);
    let mailbox = Mailbox::new(Arc::new(Plain), &WebhookPolicy::default());
    let held = Arc::new(AtomicUsize::new(0));
    let taken = submit(&mut driver, "order-1", START);
    let create = turn(&mut driver, START).pop_front().unwrap();
    answer(&mut driver, create, 200, "txn-1".into(), START);

    let said = br#"{"reference":"txn-1","status":"ready"}"#;
    let mut read = vec![b'x'; MIB];
    read[..said.len()].copy_from_slice(said);
    held.fetch_add(MIB, Ordering::Relaxed);
    let body = Bytes::from_owner(Weighed(read, held.clone())).slice(..said.len());
    let headers = verifier().sign("evt-1", START, &body).unwrap();
    let (reply, told) = oneshot::channel();
    driver.deliver(Posted::new(mailbox.open(&headers, &body, START).unwrap(), reply), START);
    turn(&mut driver, START);
    assert_eq!(told.try_recv(), Ok(Delivery::Taken));
    drop(body);
    assert_eq!(held.load(Ordering::Relaxed), 0);
    let finished = taken.try_recv().unwrap().unwrap().finished.try_recv().unwrap().read();
    assert_eq!(finished.body(), &said[..]);
}

/// Two systems share the account, say. That none of many jobs is the one is known at once: none has to be looked for,
/// and none is only supposed to be.
#[test]
fn a_strangers_event_is_known_as_such_beside_any_number_of_jobs() {
    const JOBS: usize = 6_000;
    let mut driver = driver(|builder| builder.gate(GatePolicy::none()));
    let _taken: Vec<_> = (0..JOBS).map(|n| submit(&mut driver, &format!("order-{n}"), START)).collect();
    let mut creates = turn(&mut driver, START);
    assert_eq!(creates.len(), JOBS);
    let last = creates.pop_back().unwrap();
    for create in creates {
        let reference = create.outgoing.key.as_str().to_owned();
        answer(&mut driver, create, 200, reference.into(), START);
    }
    turn(&mut driver, START);
    let early = deliver(&mut driver, "txn-1", START);
    assert!(early.try_recv().is_err(), "it may be about the last one");
    answer(&mut driver, last, 200, "txn-2".into(), START);
    turn(&mut driver, START);
    let stranger = Delivery::Unknown { repeat: false };
    assert_eq!(deliver(&mut driver, "txn-3", START).try_recv(), Ok(stranger.clone()));

    // Nor is one that has ended without a name.
    let nameless = submit(&mut driver, "nameless", START);
    let create = turn(&mut driver, START).pop_back().unwrap();
    assert!(deliver(&mut driver, "txn-4", START).try_recv().is_err());
    driver.answered(create.reader.read(Err(SendError::ambiguous()), START), START);
    turn(&mut driver, START);
    assert!(nameless.try_recv().unwrap().unwrap().finished.try_recv().is_ok());
    assert_eq!(deliver(&mut driver, "txn-5", START).try_recv(), Ok(stranger));
}

/// What was under way before a restart is owed, room or not.
#[test]
fn whoever_joins_a_job_or_brings_its_payload_needs_no_room() {
    let store = MemoryStore::default();
    let policy =
        OperationPolicy::default().with_safety(SendSafety::Keyed { window: Duration::from_secs(86_400) }).unwrap();
    let start = |live| {
        let limits = Limits { live, ..Limits::default() };
        driver(|builder| builder.limits(limits).policy(policy.clone()).store(store.clone()))
    };
    let asked = |key: &str| Submit::new(Key::new(key).unwrap(), "{}".into(), oneshot::channel().0);
    let mut before = start(2);
    let _taken = ["order-1", "order-2"].map(|key| submit(&mut before, key, START));
    assert_eq!(turn(&mut before, START).len(), 2);
    drop(before);

    let mut after = start(1);
    turn(&mut after, START);
    let _new = submit(&mut after, "order-3", START);
    assert_eq!((turn(&mut after, START).len(), after.has_room()), (1, false));
    assert!(!after.joins(&asked("order-4")));
    for parked in ["order-1", "order-2", "order-3"] {
        assert!(after.joins(&asked(parked)), "{parked}");
        let taken = submit(&mut after, parked, START);
        let mut now = START;
        while parked != "order-3" && turn(&mut after, now).is_empty() {
            now = after.next_deadline().unwrap();
        }
        turn(&mut after, now);
        assert!(taken.try_recv().unwrap().is_ok(), "{parked}");
    }
}
