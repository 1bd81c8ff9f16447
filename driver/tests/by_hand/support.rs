//! A store that may block, a provider whose answers say what is true, and an adapter's loop that waits for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use steadfast_core::operation::{Reading, Stage};
use steadfast_core::retry::{Certainty, Class, Failure};
use steadfast_core::{Key, OperationPolicy, Reference, SendSafety, Timestamp};
use steadfast_driver::{
    Builder, Command, Driver, Following, Posted, Sending, Submit, SubmitError, Task, Unfinished, Work,
};
use steadfast_providers::webhook::{Scheme, Verifier};
use steadfast_providers::{Answer, Ask, Provider, RequestError, WebhookEvent};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};

pub(crate) const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// May block, so its work is done when the test says so. Outlives its client.
#[derive(Clone, Default)]
pub(crate) struct Slow {
    store: MemoryStore,
    full: Arc<AtomicBool>,
}

impl Slow {
    /// While it is, nothing is written, and that is certain.
    pub(crate) fn is_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    pub(crate) fn entry(&self, key: &str) -> Entry {
        self.store.clone().find(&self::key(key)).unwrap().expect("it is there")
    }

    pub(crate) fn stage(&self, key: &str) -> Stage {
        self.entry(key).record.stage
    }
}

impl Store for Slow {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreError::write("the disk is full"));
        }
        self.store.append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.store.load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.store.find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.store.forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.store.is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.store.take_into_use()
    }
}

pub(crate) const KEYED: SendSafety = SendSafety::Keyed { window: Duration::from_secs(86_400) };

/// An answer's status says what is true of the job.
pub(crate) struct Plain(pub(crate) SendSafety);

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default().with_safety(self.0).unwrap()
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        Request::post("https://plain.test/").body(Bytes::new()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match answer.status.as_u16() {
            200 => Ok(Reading::Ready),
            201 => Ok(Reading::Accepted(Reference::new("txn-1").unwrap())),
            404 => Ok(Reading::NotFound),
            401 => Err(Failure::new(Class::Permanent, Certainty::NotExecuted)),
            _ => Err(Failure::new(Class::Permanent, Certainty::MayHaveExecuted)),
        }
    }

    fn is_unauthorized(&self, answer: &Answer<'_>) -> bool {
        answer.status == 401
    }

    fn has_webhooks(&self) -> bool {
        true
    }
}

/// Of which nothing has happened yet.
pub(crate) fn driver<P: Provider, C>(builder: Builder<P, (), C>) -> Driver<()> {
    let (provider, (), settings) = builder.into_parts();
    let loaded = settings.load(provider.name()).unwrap();
    Driver::new(Arc::new(provider), loaded, START)
}

pub(crate) fn on(safety: SendSafety, store: &Slow) -> Driver<()> {
    driver(Builder::<_, _, ()>::new(Plain(safety), ()).store(store.clone()))
}

/// With nothing left to be done for its start.
pub(crate) fn started(safety: SendSafety, store: &Slow) -> Driver<()> {
    let mut driver = on(safety, store);
    assert_eq!(run(&mut driver, START).len(), 0);
    driver
}

pub(crate) fn key(key: &str) -> Key {
    Key::new(key).unwrap()
}

/// What is sent, until there is nothing to do, and what the store is still to do, which is left to the caller.
pub(crate) fn turn(driver: &mut Driver<()>, now: Timestamp) -> (Vec<Sending<()>>, Option<Work>) {
    let (mut sent, mut works) = (Vec::new(), None);
    driver.handle_timeout(now);
    while let Some(task) = driver.pop_task(now) {
        match task {
            Task::Send(sending) => {
                driver.sent(sending.id(), ());
                sent.push(*sending);
            }
            Task::Work(work) => assert!(works.replace(*work).is_none(), "there is one at a time"),
            Task::Renew(renewing) => driver.renewed(renewing.run_blocking(), now),
            _ => {}
        }
    }
    (sent, works)
}

/// The same, with the store's work done as long as there is some.
pub(crate) fn run(driver: &mut Driver<()>, now: Timestamp) -> Vec<Sending<()>> {
    let (mut sent, mut work) = turn(driver, now);
    while let Some(due) = work {
        driver.worked(due.run_one(), now);
        let next = turn(driver, now);
        sent.extend(next.0);
        work = next.1;
    }
    sent
}

/// The same for as long as nothing is sent, by the driver's own deadlines. Gives the time when something is.
pub(crate) fn run_until_sent(driver: &mut Driver<()>, mut now: Timestamp) -> (Sending<()>, Timestamp) {
    loop {
        if let Some(sending) = run(driver, now).pop() {
            return (sending, now);
        }
        now = driver.next_deadline().expect("it goes on");
    }
}

pub(crate) fn answer(driver: &mut Driver<()>, sending: Sending<()>, status: u16, body: &'static str, now: Timestamp) {
    let response = Response::builder().status(status).body(Bytes::from_static(body.as_bytes())).unwrap();
    driver.answered(sending.reader.read(Ok(response), now), now);
}

pub(crate) type Taken = oneshot::Receiver<Result<Following, SubmitError>>;

pub(crate) fn submit(driver: &mut Driver<()>, key: &str, now: Timestamp) -> Taken {
    let (reply, taken) = oneshot::channel();
    driver.submit(Submit::new(self::key(key), "{}".into(), reply), now);
    taken
}

/// Submits it, and follows it until its create has been sent.
pub(crate) fn created(driver: &mut Driver<()>, key: &str, now: Timestamp) -> (Following, Sending<()>) {
    let taken = submit(driver, key, now);
    let mut sent = run(driver, now);
    assert_eq!(sent.len(), 1);
    (taken.try_recv().unwrap().unwrap(), sent.remove(0))
}

/// Follows it until the provider has it, and its poll has been sent.
pub(crate) fn polled(driver: &mut Driver<()>, key: &str) -> (Following, Sending<()>, Timestamp) {
    let (following, create) = created(driver, key, START);
    answer(driver, create, 201, "", START);
    let (poll, now) = run_until_sent(driver, START);
    (following, poll, now)
}

pub(crate) fn resume(
    driver: &mut Driver<()>,
    key: &str,
    now: Timestamp,
) -> oneshot::Receiver<Result<Following, steadfast_driver::ResumeError>> {
    let (reply, resumed) = oneshot::channel();
    driver.command(Command::Resume { key: self::key(key), reply }, now);
    resumed
}

pub(crate) fn shut_down(
    driver: &mut Driver<()>,
    grace: Duration,
    now: Timestamp,
) -> oneshot::Receiver<Vec<Unfinished>> {
    let (reply, unfinished) = oneshot::channel();
    driver.command(Command::Shutdown { grace, reply }, now);
    unfinished
}

pub(crate) fn deliver(
    driver: &mut Driver<()>,
    body: &'static str,
    now: Timestamp,
) -> oneshot::Receiver<steadfast_driver::Delivery> {
    let (verifier, body) =
        (Verifier::new(Scheme::StandardWebhooks, ["whsec_c3RlYWRmYXN0"]).unwrap(), Bytes::from_static(body.as_bytes()));
    let headers = verifier.sign(&format!("evt-{}", body.len()), now, &body).unwrap();
    let event = WebhookEvent::plain(verifier.verify(&headers, &body, now).unwrap(), &body);
    let (reply, told) = oneshot::channel();
    driver.deliver(Posted::new(event, reply), now);
    told
}
