//! I15: what is held is bounded by the configured limits, whatever arrives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use steadfast_core::operation::Reading;
use steadfast_core::retry::Failure;
use steadfast_core::{Key, Kind, OperationPolicy, Reference, Timestamp};
use steadfast_driver::{Builder, Command, Driver, Following, Sending, Settings, Submit, SubmitError, Task};
use steadfast_providers::{Answer, Ask, Provider, RequestError};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);
const MIB: usize = 1 << 20;

/// Reads a create's answer as the reference, a poll's as *pending* or, if the status is 201, as the result.
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

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        match (answer.kind, answer.status.as_u16()) {
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

fn submit(
    driver: &mut Driver<()>,
    key: &str,
    now: Timestamp,
) -> oneshot::Receiver<Result<Following, SubmitError>> {
    let (reply, taken) = oneshot::channel();
    driver.submit(Submit::new(Key::new(key).unwrap(), "{}".into(), reply), now);
    taken
}

/// What it wants sent by then.
fn turn(driver: &mut Driver<()>, now: Timestamp) -> VecDeque<Sending<()>> {
    let mut sent = VecDeque::new();
    driver.handle_timeout(now);
    while let Some(task) = driver.pop_task(now) {
        if let Task::Send(sending) = task {
            sent.push_back(*sending);
        }
    }
    sent
}

fn answer(driver: &mut Driver<()>, sending: Sending<()>, status: u16, body: Bytes, now: Timestamp) {
    let response = Response::builder().status(status).body(body).unwrap();
    driver.answered(sending.reader.read(Ok(response), now), now);
}

/// The provider says *pending* with a large document, as some do while a person looks at the job: held of each is the last one at most, and of all together no
/// more than of ended jobs. Who ends without another answer is told it, if it was held.
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
    let sizes: Vec<_> = followed.iter().map(|following| following.finished.try_recv().unwrap().body().len()).collect();
    assert_eq!(sizes[0], 2 * MIB, "a result is told whatever its size");
    assert!(sizes[1..].iter().all(|size| [0, MIB].contains(size)), "{sizes:?}");
    assert!(sizes[1..].iter().sum::<usize>() >= 2 * MIB, "{sizes:?}");
    drop(driver);
    assert_eq!(held.load(Ordering::Relaxed), 0);
}
