//! What a shutdown leaves in the store of creates that had left, and of those that had not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast_core::operation::{Outcome, Rejected, Stage};
use steadfast_core::{Key, Timestamp};
use steadfast_driver::{Builder, Command, Driver, Following, Submit, SubmitError, Task, Unfinished, Work};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};
use steadfast_store::{Entry, MemoryStore, Store, StoreError};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

/// Outlives its client, and may block.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<MemoryStore>>);

impl Shared {
    fn stage(&self, key: &str) -> Stage {
        let entries = self.0.lock().unwrap().load().unwrap();
        entries.into_iter().find(|entry| entry.record.key.as_str() == key).expect("it is there").record.stage
    }
}

impl Store for Shared {
    fn append(&mut self, entries: &[Entry]) -> Result<(), StoreError> {
        self.0.lock().unwrap().append(entries)
    }

    fn load(&mut self) -> Result<Vec<Entry>, StoreError> {
        self.0.lock().unwrap().load()
    }

    fn find(&mut self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.0.lock().unwrap().find(key)
    }

    fn forget(&mut self, before: Timestamp, most: usize) -> Result<usize, StoreError> {
        self.0.lock().unwrap().forget(before, most)
    }

    fn is_backup(&self) -> bool {
        self.0.lock().unwrap().is_backup()
    }

    fn take_into_use(&mut self) -> Result<(), StoreError> {
        self.0.lock().unwrap().take_into_use()
    }
}

/// Of a provider that runs again what it is sent again, with so many attempts for each create.
fn driver(store: &Shared, attempts: u16) -> Driver<()> {
    let credentials = Credentials::new("token", "secret").unwrap();
    let provider = Deepvue::new(BaseUrl::parse("http://127.0.0.1:1").unwrap(), "driving-license", credentials).unwrap();
    let policy = provider.policy();
    let create = policy.create().clone().with_attempts(attempts).unwrap();
    let policy = policy.with_create(create).unwrap();
    let builder: Builder<_, (), ()> = Builder::new(provider, ()).policy(policy).store(store.clone()).keep_payloads();
    let (provider, (), settings) = builder.into_parts();
    let loaded = settings.load(provider.name()).unwrap();
    Driver::new(Arc::new(provider), loaded, START)
}

/// What is sent, and what the store is still to do, which is left to the caller.
fn turn(driver: &mut Driver<()>) -> (Vec<String>, Vec<Work>) {
    let (mut sent, mut works) = (Vec::new(), Vec::new());
    while let Some(task) = driver.pop_task(START) {
        match task {
            Task::Send(sending) => {
                driver.sent(sending.id(), ());
                sent.push(sending.outgoing.key.as_str().to_owned());
            }
            Task::Work(work) => works.push(*work),
            _ => {}
        }
    }
    (sent, works)
}

/// The same, with the store's work done as long as there is some.
fn run(driver: &mut Driver<()>) -> Vec<String> {
    let (mut sent, mut works) = turn(driver);
    while let Some(work) = works.pop() {
        driver.worked(work.run_one(), START);
        let next = turn(driver);
        sent.extend(next.0);
        works.extend(next.1);
    }
    sent
}

fn submit(driver: &mut Driver<()>, key: &str) -> oneshot::Receiver<Result<Following, SubmitError>> {
    let (reply, taken) = oneshot::channel();
    driver.submit(Submit::new(Key::new(key).unwrap(), "{}".into(), reply), START);
    taken
}

fn shut_down(driver: &mut Driver<()>) -> oneshot::Receiver<Vec<Unfinished>> {
    let (reply, unfinished) = oneshot::channel();
    driver.command(Command::Shutdown { grace: Duration::ZERO, reply }, START);
    unfinished
}

#[test]
fn a_create_whose_intent_was_being_written_has_not_left_and_does_so_from_the_next_client() {
    let store = Shared::default();
    let mut first = driver(&store, 3);
    run(&mut first);
    let _sent = submit(&mut first, "sent");
    assert_eq!(run(&mut first), ["sent"]);
    let taken = submit(&mut first, "written");
    // The key is looked up; then the intent is on its way to the disk.
    let (_, looked_up) = turn(&mut first);
    looked_up.into_iter().for_each(|work| first.worked(work.run_one(), START));
    let (_, mut written) = turn(&mut first);
    let unfinished = shut_down(&mut first);
    assert_eq!(turn(&mut first).1.len(), 0, "what is being written is waited for");
    first.worked(written.pop().expect("the intent").run_one(), START);
    assert_eq!(run(&mut first), [""; 0]);
    assert!(first.is_over());

    assert!(taken.try_recv().expect("it was told").is_ok(), "it is durable");
    let stages: Vec<_> = unfinished.try_recv().expect("it was told").into_iter().map(|job| job.stage).collect();
    assert_eq!(stages, [Stage::InFlight, Stage::Planned]);
    assert_eq!((store.stage("sent"), store.stage("written")), (Stage::InFlight, Stage::Planned));
    drop(first);

    let mut second = driver(&store, 3);
    let mut sent = run(&mut second);
    while sent.is_empty() {
        let due = second.next_deadline().expect("it goes on");
        second.handle_timeout(due);
        sent = run(&mut second);
    }
    assert_eq!(sent, ["written"], "the other ended as unresolved");
}

/// Nothing ran, and the key is free: that is more than "perhaps". The commit may come while the client waits for it, or in the turn in which it stops.
#[test]
fn the_last_attempt_that_had_not_left_ends_as_one_that_did_not_run() {
    for waits in [true, false] {
        let store = Shared::default();
        let mut first = driver(&store, 1);
        run(&mut first);
        let _taken = submit(&mut first, "written");
        let (_, looked_up) = turn(&mut first);
        looked_up.into_iter().for_each(|work| first.worked(work.run_one(), START));
        let (_, mut written) = turn(&mut first);
        let _unfinished = shut_down(&mut first);
        if waits {
            turn(&mut first);
        }
        first.worked(written.pop().expect("the intent").run_one(), START);
        assert_eq!(run(&mut first), [""; 0]);
        assert!(first.is_over());
        assert_eq!(store.stage("written"), Stage::Ended(Outcome::Rejected(Rejected::Attempts)));
        drop(first);

        let mut second = driver(&store, 1);
        run(&mut second);
        let _taken = submit(&mut second, "written");
        assert_eq!(run(&mut second), ["written"]);
    }
}

/// Who has a driver still, and does not look whether it is over, is not left to wait for ever.
#[test]
fn a_submit_after_the_end_is_told_so_at_once() {
    let mut driver = driver(&Shared::default(), 1);
    run(&mut driver);
    let _first = submit(&mut driver, "first");
    run(&mut driver);
    let unfinished = shut_down(&mut driver);
    run(&mut driver);
    assert!(driver.is_over() && unfinished.try_recv().is_ok());
    for key in ["first", "second"] {
        let told = submit(&mut driver, key).try_recv();
        assert!(matches!(told, Ok(Err(SubmitError::Stopped))), "{told:?}");
    }
}
