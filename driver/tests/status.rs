//! What is told of where a job stands: nothing that a crash could take back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use steadfast_core::engine::Limits;
use steadfast_core::operation::{Reading, Stage, Unresolved};
use steadfast_core::retry::Failure;
use steadfast_core::{Key, OperationPolicy, Outcome, SendSafety, Timestamp};
use steadfast_driver::{Builder, Command, Driver, JobStatus, SendError, StatusError, Submit, Task, Work};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{Answer, Ask, BaseUrl, Provider, RequestError};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// One that may block.
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

/// Of a provider that can be asked for a key's job, and has none.
struct Forgetful;

impl Provider for Forgetful {
    fn name(&self) -> &str {
        "forgetful"
    }

    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default().with_safety(SendSafety::Lookup { settle: Duration::ZERO }).unwrap()
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        Request::post("https://plain.test/").body(Bytes::new()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, _: &Answer<'_>) -> Result<Reading, Failure> {
        Ok(Reading::NotFound)
    }
}

fn driver_of(provider: impl Provider, store: &MemoryStore) -> Driver<()> {
    let builder: Builder<_, (), ()> = Builder::new(provider, ()).store(Slow(store.clone()));
    let (provider, (), settings) = builder.into_parts();
    let loaded = settings.load(provider.name()).unwrap();
    Driver::new(Arc::new(provider), loaded, NOW)
}

fn driver() -> Driver<()> {
    let credentials = Credentials::new("token", "secret").unwrap();
    let provider = Deepvue::new(BaseUrl::parse("http://127.0.0.1:1").unwrap(), "driving-license", credentials).unwrap();
    driver_of(provider, &MemoryStore::default())
}

/// Until the store has something to do, which is left to the caller. Each create is accepted at once.
fn turn(driver: &mut Driver<()>) -> Option<Box<Work>> {
    while let Some(task) = driver.pop_task(NOW) {
        match task {
            Task::Work(work) => return Some(work),
            Task::Send(sending) => {
                let accepted = Response::new(Bytes::from_static(br#"{"transaction_id": "txn-1"}"#));
                driver.answered(sending.reader.read(Ok(accepted), NOW), NOW);
            }
            _ => {}
        }
    }
    None
}

fn key() -> Key {
    Key::new("order-42").unwrap()
}

type Told = oneshot::Receiver<Result<Option<JobStatus>, StatusError>>;

fn ask(driver: &mut Driver<()>) -> Told {
    let (reply, told) = oneshot::channel();
    driver.command(Command::Status { key: key(), reply }, NOW);
    told
}

/// Whoever asks in the midst of a step is told of the one before it, or of this one once it is written.
#[test]
fn what_is_told_of_a_job_is_durable() {
    let mut driver = driver();
    let (reply, _taken) = oneshot::channel();
    driver.submit(Submit::new(key(), "{}".into(), reply), NOW);
    let (mut stages, mut asked) = (Vec::new(), None);
    loop {
        let work = turn(&mut driver);
        if let Some(Ok(told)) = asked.as_ref().map(Told::try_recv) {
            stages.push(told.unwrap().map(|status| status.stage));
            asked = None;
        }
        let Some(work) = work else { break };
        asked.get_or_insert_with(|| ask(&mut driver));
        driver.worked(work.run_one(), NOW);
    }
    assert_eq!(stages, [None, Some(Stage::InFlight), Some(Stage::Accepted)]);
}

/// Who asks where jobs stand takes no job's room.
#[test]
fn questions_keep_no_job_out() {
    let mut driver = driver();
    let first = ask(&mut driver);
    let work = turn(&mut driver).unwrap();
    let live = Limits::default().live as usize;
    let asked: Vec<_> = (0..live).map(|_| ask(&mut driver)).collect();
    assert!(driver.has_room());
    let submits: Vec<_> = (0..live)
        .map(|n| {
            assert!(driver.has_room(), "for all but {n}");
            let (reply, taken) = oneshot::channel();
            driver.submit(Submit::new(Key::new(format!("order-{n}")).unwrap(), "{}".into(), reply), NOW);
            taken
        })
        .collect();
    assert!(!driver.has_room(), "what is looked up may become a job");
    driver.worked(work.run_one(), NOW);
    while let Some(work) = turn(&mut driver) {
        driver.worked(work.run_one(), NOW);
    }
    assert!(asked.iter().chain([&first]).all(|told| told.try_recv().is_ok()));
    assert!(submits.iter().all(|taken| taken.try_recv().is_ok_and(|taken| taken.is_ok())) && !driver.has_room());
}

/// I15: a page that asks again each second, and gives up each time, while the disk hangs.
#[test]
fn no_more_wait_for_the_store_than_leave_room_for_webhooks() {
    let mut driver = driver();
    let first = ask(&mut driver);
    let work = turn(&mut driver).unwrap();
    for _ in 0..20_000 {
        drop(ask(&mut driver));
        assert!(turn(&mut driver).is_none(), "the store hangs");
    }
    let refused = ask(&mut driver).try_recv().unwrap().unwrap_err();
    assert!(matches!(refused, StatusError::Busy), "{refused}");
    assert!(driver.has_room());

    let mut work = Some(work);
    while let Some(done) = work {
        driver.worked(done.run_one(), NOW);
        work = turn(&mut driver);
    }
    assert_eq!(first.try_recv().unwrap().unwrap(), None);
    let again = ask(&mut driver);
    let work = turn(&mut driver).unwrap();
    driver.worked(work.run_one(), NOW);
    assert!(turn(&mut driver).is_none());
    assert_eq!(again.try_recv().unwrap().unwrap(), None);
}

/// An outcome that nobody has heard of is told as one, though the engine is done with it.
#[test]
fn what_nobody_has_is_not_told_as_delivered() {
    let mut driver = driver();
    let (reply, taken) = oneshot::channel();
    driver.submit(Submit::new(key(), "{}".into(), reply), NOW);
    drop(taken);
    for now in [NOW, NOW.saturating_add(Duration::from_secs(1))] {
        driver.handle_timeout(now);
        while let Some(task) = driver.pop_task(now) {
            match task {
                Task::Work(work) => driver.worked(work.run_one(), now),
                Task::Send(sending) => driver.answered(sending.reader.read(Err(SendError::ambiguous()), now), now),
                _ => {}
            }
        }
    }
    let told = ask(&mut driver).try_recv().expect("it is known here").unwrap().unwrap();
    assert_eq!(told.stage, Stage::Ended(Outcome::Unresolved(Unresolved::Ambiguous)));
}

/// A look-up has proved that a create did not run, which waits for its payload now: a crash would have to look it up again.
#[test]
fn that_nothing_ran_is_told_once_it_is_durable() {
    let store = MemoryStore::default();
    let mut first = driver_of(Forgetful, &store);
    let (reply, _taken) = oneshot::channel();
    first.submit(Submit::new(key(), "{}".into(), reply), NOW);
    while let Some(task) = first.pop_task(NOW) {
        if let Task::Work(work) = task {
            first.worked(work.run_one(), NOW);
        }
    }
    drop(first);

    let mut second = driver_of(Forgetful, &store);
    let (mut now, mut writes) = (NOW, None);
    while writes.is_none() {
        now = second.next_deadline().unwrap().max(now);
        second.handle_timeout(now);
        let mut asked = false;
        while let Some(task) = second.pop_task(now) {
            match task {
                Task::Work(work) if asked => writes = Some(work),
                Task::Work(work) => second.worked(work.run_one(), now),
                Task::Send(sending) => {
                    asked = true;
                    second.answered(sending.reader.read(Ok(Response::new(Bytes::new())), now), now);
                }
                _ => {}
            }
        }
    }
    let told = ask(&mut second);
    while second.pop_task(now).is_some() {}
    assert!(told.try_recv().is_err(), "it is being written");
    second.worked(writes.unwrap().run_one(), now);
    while let Some(task) = second.pop_task(now) {
        if let Task::Work(work) = task {
            second.worked(work.run_one(), now);
        }
    }
    let told = told.try_recv().unwrap().unwrap().unwrap();
    assert_eq!((told.stage, told.needs_payload, told.due), (Stage::Planned, true, None));
}
