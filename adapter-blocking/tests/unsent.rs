//! What no thread had taken when its client stopped: the journal has it as never sent, so that a later client sends it, though its provider knows no keys.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use steadfast_blocking::{Client, MOST_THREADS, Outgoing, SendError, Transport};
use steadfast_core::gate::GatePolicy;
use steadfast_core::operation::{Completed, Reading, Stage, Unresolved};
use steadfast_core::retry::Failure;
use steadfast_core::{Key, OperationPolicy, Outcome, SendSafety};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_store::SqliteStore;

/// Has a result at once, and runs again what it is sent again.
struct Plain;

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        OperationPolicy::default().with_safety(SendSafety::Unsafe).unwrap()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let request = Request::builder().method(Method::POST).uri("https://provider.test/jobs");
        request.body(ask.payload.bytes().clone()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, _: &Answer<'_>) -> Result<Reading, Failure> {
        Ok(Reading::Ready)
    }
}

struct Script<F>(F);

impl<F> Transport for Script<F>
where
    F: Fn() -> Result<Response<Bytes>, SendError> + Send + Sync + 'static,
{
    fn send(&self, _: Outgoing) -> Result<Response<Bytes>, SendError> {
        self.0()
    }
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

#[test]
fn what_no_thread_had_taken_is_sent_by_a_later_client() {
    let directory = std::env::temp_dir().join(format!("steadfast-unsent-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("jobs.db");
    let ((arrives, arrived), (let_go, gone)) = (channel(), channel::<()>());
    let (arrives, gone) = (Mutex::new(arrives), Mutex::new(gone));
    let hangs = Script(move || {
        arrives.lock().unwrap().send(()).unwrap();
        let _ = gone.lock().unwrap().recv();
        Err(SendError::ambiguous())
    });
    let builder = Client::builder(Plain, hangs).store(SqliteStore::open(&path).unwrap());
    let first = builder.gate(GatePolicy::none()).start().unwrap();
    // A cancelled job's request keeps its thread until it returns, but not its place at the gate.
    let cancelled: Vec<_> =
        (0..MOST_THREADS.get()).map(|number| first.submit(key(&format!("order-{number}")), "{}").unwrap()).collect();
    cancelled.iter().for_each(|_| arrived.recv_timeout(Duration::from_secs(60)).unwrap());
    for job in cancelled {
        job.cancel();
        assert_eq!(job.wait().unwrap().outcome, Outcome::Unresolved(Unresolved::Cancelled));
    }
    let job = first.submit(key("last"), "{}").unwrap();
    let unfinished = first.shutdown(Duration::ZERO);
    assert_eq!(unfinished.iter().map(|job| job.stage).collect::<Vec<_>>(), [Stage::Planned]);
    assert!(job.wait().is_err() && arrived.try_recv().is_err());

    let willing = Script(|| Ok(Response::new(Bytes::new())));
    let builder = Client::builder(Plain, willing).store(SqliteStore::open(&path).unwrap());
    let second = builder.start().unwrap();
    assert_eq!(second.call(key("last"), "{}").unwrap().outcome, Outcome::Completed(Completed::Ready));
    drop((second, let_go));
    std::fs::remove_dir_all(&directory).unwrap();
}
