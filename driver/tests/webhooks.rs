//! What a webhook's sender is told while the store is asked, turned by hand in virtual time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use steadfast_core::operation::{Reading, Stage, Unresolved};
use steadfast_core::retry::Failure;
use steadfast_core::{Key, OperationPolicy, Outcome, Reference, Timestamp};
use steadfast_driver::{Builder, Delivery, Driver, Posted, Revision, SendError, Submit, Subscribers, Task, Work};
use steadfast_providers::webhook::{Scheme, Verifier};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookEvent};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

struct Plain;

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default()
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        Request::post("https://plain.test/").body(Bytes::new()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, _: &Answer<'_>) -> Result<Reading, Failure> {
        Ok(Reading::Ready)
    }

    fn has_webhooks(&self) -> bool {
        true
    }
}

/// Works on a thread, which has not come to it yet.
struct Slow(MemoryStore);

impl Store for Slow {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.0.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.0.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.0.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.0.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.0.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.0.take_into_use()
    }
}

struct Somebody;

impl Subscribers for Somebody {
    fn are_there(&self) -> bool {
        true
    }

    fn tell(&self, _: Revision) {}
}

fn driver() -> Driver<()> {
    driver_on(MemoryStore::default())
}

/// With the store at hand.
fn driver_on(store: MemoryStore) -> Driver<()> {
    let builder = Builder::<_, _, ()>::new(Plain, ()).store(Slow(store));
    let (provider, (), settings) = builder.into_parts();
    let loaded = settings.load(provider.name()).unwrap();
    let mut driver = Driver::new(Arc::new(provider), loaded, START);
    driver.tell_revisions_to(Box::new(Somebody));
    let forgets = work(&mut driver).unwrap();
    driver.worked(forgets.run_one(), START);
    assert!(work(&mut driver).is_none());
    driver
}

fn work(driver: &mut Driver<()>) -> Option<Work> {
    driver.handle_timeout(START);
    std::iter::from_fn(|| driver.pop_task(START)).find_map(|task| match task {
        Task::Work(work) => Some(*work),
        _ => None,
    })
}

fn deliver(driver: &mut Driver<()>, body: &'static str) -> oneshot::Receiver<Delivery> {
    let (verifier, body) =
        (Verifier::new(Scheme::StandardWebhooks, ["whsec_c3RlYWRmYXN0"]).unwrap(), Bytes::from_static(body.as_bytes()));
    let headers = verifier.sign(&format!("evt-{}", body.len()), START, &body).unwrap();
    let event = WebhookEvent::plain(verifier.verify(&headers, &body, START).unwrap(), &body);
    let (reply, told) = oneshot::channel();
    driver.deliver(Posted::new(event, reply), START);
    told
}

const STRANGER: &str = r#"{"reference":"txn-of-another-program","status":"ready"}"#;

/// No look-up for a webhook makes a job, so none can turn out to be the one that another event is about.
#[test]
fn a_strangers_event_does_not_wait_for_what_is_looked_up_for_other_webhooks() {
    let mut driver = driver();
    let known = deliver(&mut driver, r#"{"reference":"txn-1","key":"order-1","status":"lapsed"}"#);
    let looks_up = work(&mut driver).unwrap();
    for _ in 0..2 {
        let stranger = deliver(&mut driver, STRANGER);
        assert_eq!(stranger.try_recv(), Ok(Delivery::Unknown { repeat: false }));
    }
    driver.worked(looks_up.run_one(), START);
    assert!(work(&mut driver).is_none());
    assert_eq!(known.try_recv(), Ok(Delivery::Unknown { repeat: false }));
}

/// A submit's does: its job may have a create under way since before a restart.
#[test]
fn an_event_waits_while_a_key_is_looked_up_for_a_job() {
    let mut driver = driver();
    let (reply, _taken) = oneshot::channel();
    driver.submit(Submit::new(Key::new("order-1").unwrap(), "{}".into(), reply), START);
    let _looks_up = work(&mut driver).unwrap();
    let early = deliver(&mut driver, STRANGER);
    assert_eq!(early.try_recv(), Err(oneshot::TryRecvError::Empty));
    driver.handle_timeout(START.saturating_add(Duration::from_secs(3)));
    assert_eq!(early.try_recv(), Ok(Delivery::Early));
}

/// Its sender waits 5 s (Didit), whatever has to be found out on the way.
#[test]
fn what_is_looked_up_and_then_waits_for_its_job_has_one_time_for_both() {
    let mut driver = driver();
    let after = |millis| START.saturating_add(Duration::from_millis(millis));
    let told = deliver(&mut driver, r#"{"key":"order-1","status":"lapsed"}"#);
    let looks_up = work(&mut driver).unwrap();
    let (reply, _taken) = oneshot::channel();
    driver.submit(Submit::new(Key::new("order-1").unwrap(), "{}".into(), reply), START);
    driver.worked(looks_up.run_one(), after(2_900));
    while driver.pop_task(after(2_900)).is_some() {}
    assert_eq!(told.try_recv(), Err(oneshot::TryRecvError::Empty), "it may be about what is being submitted");
    driver.handle_timeout(after(3_000));
    assert_eq!(told.try_recv(), Ok(Delivery::Early));
}

/// A create's answer was lost, and nobody waits for the job any more: what the provider calls it is all by which it can be resumed, and its sender does not repeat it.
#[test]
fn a_reference_that_comes_after_an_end_that_nobody_heard_of_is_kept() {
    let mut store = MemoryStore::default();
    let mut driver = driver_on(store.clone());
    let (reply, taken) = oneshot::channel();
    driver.submit(Submit::new(Key::new("order-1").unwrap(), "{}".into(), reply), START);
    drop(taken);
    let mut told = None;
    for _ in 0..9 {
        driver.handle_timeout(START);
        while let Some(task) = driver.pop_task(START) {
            match task {
                Task::Work(work) => driver.worked(work.run_one(), START),
                Task::Send(sending) => driver.answered(sending.reader.read(Err(SendError::ambiguous()), START), START),
                _ => {}
            }
        }
        told.get_or_insert_with(|| deliver(&mut driver, r#"{"reference":"txn-1","key":"order-1","status":"pending"}"#));
    }
    assert_eq!(told.unwrap().try_recv(), Ok(Delivery::Taken));
    let entry = store.find(&Key::new("order-1").unwrap()).unwrap().unwrap();
    assert_eq!(entry.record.stage, Stage::Ended(Outcome::Unresolved(Unresolved::Ambiguous)), "nobody has it");
    assert_eq!(entry.record.reference, Some(Reference::new("txn-1").unwrap()));
}

/// Whoever sent it is gone, and is not what the driver wakes for once more.
#[test]
fn what_is_looked_up_too_late_for_its_sender_leaves_no_deadline_in_the_past() {
    let mut driver = driver();
    let told = deliver(&mut driver, r#"{"key":"order-1","status":"lapsed"}"#);
    let looks_up = work(&mut driver).unwrap();
    let (reply, _taken) = oneshot::channel();
    driver.submit(Submit::new(Key::new("order-1").unwrap(), "{}".into(), reply), START);
    let now = driver.next_deadline().unwrap();
    driver.handle_timeout(now);
    assert_eq!(told.try_recv(), Ok(Delivery::NotDurable));
    driver.worked(looks_up.run_one(), now);
    while driver.pop_task(now).is_some() {}
    assert!(driver.next_deadline().is_none_or(|at| at > now), "{:?} at {now:?}", driver.next_deadline());
}
