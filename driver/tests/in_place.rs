//! A store that never waits is worked on in place. Then nobody tells the driver that a commit is done, so whatever one
//! allows must be done before the driver says that there is nothing to do.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::Reading;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{Key, OperationPolicy, Outcome, Reference, Timestamp};
use steadfast_driver::{Builder, Driver, Following, Reader, Seal, SealError, Submit, SubmitError, Task};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_store::MemoryStore;

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const MINUTE: Duration = Duration::from_secs(60);

type Taken = oneshot::Receiver<Result<Following, SubmitError>>;

/// Accepts what is created, and then is ready.
struct Plain;

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    /// The first poll is due a minute after the acceptance, to the nanosecond.
    fn policy(&self) -> OperationPolicy {
        let waits = BackoffPolicy::new(Growth::Table([MINUTE].into()), MINUTE, Jitter::None).unwrap();
        OperationPolicy::default().with_poll(PollPolicy::new(waits, 10, 60 * MINUTE, RetryPolicy::default()).unwrap())
    }

    fn gate(&self) -> GatePolicy {
        GatePolicy::default().with_bulkhead(None)
    }

    fn request(&self, _: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let request = Request::builder().method(Method::POST).uri("https://plain.test/jobs");
        request.body(Bytes::new()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        Ok(match answer.body {
            b"ready" => Reading::Ready,
            _ => Reading::Accepted(Reference::new("txn-1").unwrap()),
        })
    }
}

fn driver(builder: Builder<Plain, (), ()>) -> Driver<()> {
    let (provider, (), settings) = builder.store(MemoryStore::default()).into_parts();
    let loaded = settings.load(provider.name()).unwrap();
    let mut driver = Driver::new(Arc::new(provider), loaded, START);
    // First it forgets, and after that only now and then.
    let (sent, works) = turn(&mut driver, START);
    assert_eq!((sent.len(), works), (0, 1));
    driver
}

/// What is sent, until there is nothing to do, and how often the store was left to a thread.
fn turn(driver: &mut Driver<()>, now: Timestamp) -> (Vec<Reader>, usize) {
    let (mut sent, mut works) = (Vec::new(), 0);
    while let Some(task) = driver.pop_task(now) {
        match task {
            Task::Send(sending) => sent.push(sending.reader),
            Task::Work(work) => {
                works += 1;
                driver.worked(work.run_one(), now);
            }
            _ => {}
        }
    }
    (sent, works)
}

fn submit(driver: &mut Driver<()>, number: usize) -> Taken {
    let (reply, taken) = oneshot::channel();
    driver.submit(Submit::new(Key::new(format!("order-{number}")).unwrap(), "{}".into(), reply), START);
    taken
}

/// As many as make one commit, some, or none; and one more or less.
#[test]
fn all_that_a_commit_allows_is_done_before_the_driver_rests() {
    for count in 1..=130 {
        let mut driver = driver(Builder::new(Plain, ()));
        let taken: Vec<Taken> = (0..count).map(|number| submit(&mut driver, number)).collect();
        let (creates, _) = turn(&mut driver, START);
        assert_eq!(creates.len(), count, "each intent is durable, so each create leaves");
        let jobs: Vec<Following> = taken.into_iter().map(|taken| taken.try_recv().unwrap().unwrap()).collect();

        let answer = |reader: Reader, text: &'static str| reader.read(Ok(Response::new(text.into())), START);
        for create in creates {
            driver.answered(answer(create, "accepted"), START);
        }
        assert_eq!(turn(&mut driver, START).0.len(), 0);
        assert!(jobs.iter().all(|job| job.acceptance.get().is_some()), "{count}: each acceptance is told");

        let due = START.saturating_add(MINUTE);
        driver.handle_timeout(due);
        let (polls, _) = turn(&mut driver, due);
        assert_eq!(polls.len(), count);
        for poll in polls {
            driver.answered(answer(poll, "ready"), due);
        }
        turn(&mut driver, due);
        let outcomes: Vec<Outcome> =
            jobs.into_iter().map(|job| job.finished.try_recv().unwrap().read().outcome).collect();
        assert!(outcomes.iter().all(|outcome| outcome.name() == "completed"), "{count}: {outcomes:?}");
    }
}

#[test]
fn no_thread_is_needed_for_its_commits() {
    let mut driver = driver(Builder::new(Plain, ()));
    let _taken: Vec<Taken> = (0..40).map(|number| submit(&mut driver, number)).collect();
    let (sent, works) = turn(&mut driver, START);
    assert_eq!((sent.len(), works), (40, 0));
}

/// A program's cipher may ask a key server, which is no matter of a moment.
#[test]
fn where_a_seal_may_block_the_store_is_left_to_a_thread() {
    struct Plainly;
    impl Seal for Plainly {
        fn seal(&self, _: &Key, bytes: &[u8]) -> Result<Vec<u8>, SealError> {
            Ok(bytes.to_vec())
        }
        fn open(&self, _: &Key, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
            Ok(sealed.to_vec())
        }
    }
    let mut driver = driver(Builder::new(Plain, ()).keep_payloads().seal(Plainly));
    let _taken = submit(&mut driver, 0);
    let (sent, works) = turn(&mut driver, START);
    assert_eq!((sent.len(), works), (1, 2), "the key is looked up, and the intent written");
}
