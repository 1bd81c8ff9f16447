//! A program with several drivers, or one after another, may feed one what is another's. Its jobs are not taken for the
//! other's.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use steadfast_core::{Key, Seed, Timestamp};
use steadfast_driver::{Builder, Command, Driver, Following, Submit, SubmitError, Task};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

type Taken = oneshot::Receiver<Result<Following, SubmitError>>;

/// With one job, whose create is to leave. Where no seed is given, each driver draws its own.
fn driver(key: &str, seed: u64) -> (Driver<()>, Taken, Task<()>) {
    let base = BaseUrl::parse("http://127.0.0.1:1").unwrap();
    let deepvue = Deepvue::new(base, "driving-license", Credentials::new("token", "secret").unwrap()).unwrap();
    let (provider, (), settings) = Builder::<_, (), ()>::new(deepvue, ()).seed(Seed::new(seed)).into_parts();
    let loaded = settings.load(provider.name()).unwrap();
    let mut driver = Driver::new(Arc::new(provider), loaded, START);
    let (reply, submitted) = oneshot::channel();
    driver.submit(Submit::new(Key::new(key).unwrap(), "{}".into(), reply), START);
    let create = driver.pop_task(START).unwrap();
    (driver, submitted, create)
}

#[test]
fn anothers_answer_is_no_answer() {
    let ((mut mine, submitted, _), (_, _, theirs)) = (driver("order-1", 1), driver("order-2", 2));
    let Task::Send(sending) = theirs else { panic!("{theirs:?}") };
    let body = Bytes::from_static(br#"{"code":200,"transaction_id":"txn-of-order-2"}"#);
    mine.answered(sending.reader.read(Ok(Response::new(body)), START), START);
    assert!(mine.pop_task(START).is_none());
    assert_eq!(submitted.recv().unwrap().unwrap().acceptance.get(), None);
}

#[test]
fn anothers_job_is_not_cancelled_here() {
    let ((mut mine, submitted, _), (_, theirs, _)) = (driver("order-1", 1), driver("order-2", 2));
    let id = theirs.recv().unwrap().unwrap().id.unwrap();
    mine.command(Command::Cancel(id), START);
    assert!(mine.pop_task(START).is_none());
    assert!(submitted.recv().unwrap().unwrap().finished.try_recv().is_err());
}
