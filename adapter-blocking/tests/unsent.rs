//! What had not left when its time or its client's was over: it certainly did not run, though its provider knows no
//! keys.

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

/// The journal has it as never sent, so that a later client sends it.
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

#[cfg(feature = "ureq")]
mod by_ureq {
    use std::io::Write;
    use std::net::TcpListener;

    use steadfast_blocking::UreqTransport;
    use steadfast_core::backoff::BackoffPolicy;
    use steadfast_core::operation::Rejected;
    use steadfast_core::retry::RetryPolicy;

    use super::*;

    /// [`Plain`] at this address, with half a second for a request.
    struct Hurried(String);

    impl Provider for Hurried {
        fn name(&self) -> &str {
            "hurried"
        }

        fn policy(&self) -> OperationPolicy {
            let second = Duration::from_secs(1);
            let create = RetryPolicy::new(2, 10 * second, second / 2, BackoffPolicy::default()).unwrap();
            Plain.policy().with_create(create).unwrap()
        }

        fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
            let mut request = Plain.request(ask)?;
            *request.uri_mut() = self.0.parse().map_err(|_| RequestError::Unsendable("URL"))?;
            Ok(request)
        }

        fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
            Plain.read(answer)
        }
    }

    /// It takes a connection, and says nothing on it. The attempt's time was over before the connection's, and what was
    /// never sent had run, perhaps.
    #[test]
    fn what_finds_no_connection_in_a_short_time_has_certainly_not_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hurried = Hurried(format!("https://{}/jobs", listener.local_addr().unwrap()));
        let client = Client::builder(hurried, UreqTransport::new()).start().unwrap();
        let finished = client.call(key("order-42"), "{}").unwrap();
        assert_eq!((finished.outcome, finished.creates), (Outcome::Rejected(Rejected::Attempts), 2));
    }

    /// It answers byte by byte, and never to the end. Each byte gave it all the time for connecting once more.
    #[test]
    fn what_a_proxy_keeps_waiting_for_a_connection_has_certainly_not_left() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = ureq::Proxy::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        std::thread::spawn(move || {
            for mut connection in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || {
                    let mut came = connection.write_all(b"HTTP/1.1 200 OK\r\nX: ");
                    while came.is_ok() {
                        // The slowness is what is tested.
                        std::thread::park_timeout(Duration::from_millis(10));
                        came = connection.write_all(b"y");
                    }
                });
            }
        });
        let transport = UreqTransport::from_builder(ureq::Agent::config_builder().proxy(Some(proxy)));
        let hurried = Hurried("https://provider.test/jobs".to_owned());
        let client = Client::builder(hurried, transport).start().unwrap();
        let finished = client.call(key("order-42"), "{}").unwrap();
        assert_eq!((finished.outcome, finished.creates), (Outcome::Rejected(Rejected::Attempts), 2));
    }
}
