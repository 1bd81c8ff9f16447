//! Clients that go down while their requests hang on a socket: nobody waits for the socket, and no thread stays behind.

#![cfg(feature = "ureq")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request};
use steadfast_blocking::{Client, UreqTransport};
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Key, OperationPolicy, Reference};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_store::MemoryStore;

/// How long a request waits for its answer: far longer than a drop may take.
const TIME_OUT: Duration = Duration::from_secs(4);

/// How far the provider comes with an answer before it says no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// The connection is there, and nothing is read.
    Connected,
    /// The request was read.
    Asked,
    /// The answer has begun.
    Head,
    /// Half of the body is there.
    Body,
}

/// A provider that says no more at some point, and tells when it has come there. It keeps its connections open until it
/// is dropped.
fn silent(until: Until) -> (String, Receiver<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (tells, told) = channel();
    thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        for mut stream in listener.incoming().flatten() {
            if until != Until::Connected {
                // One read has it all: the request is small.
                let _ = stream.read(&mut [0; 4096]);
            }
            if matches!(until, Until::Head | Until::Body) {
                let _ = stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 10\r\n");
            }
            if until == Until::Body {
                let _ = stream.write_all(b"\r\ntxn-1");
            }
            open.push(stream);
            if tells.send(()).is_err() {
                break;
            }
        }
    });
    (url, told)
}

/// Posts, and believes what comes.
struct Plain(String);

impl Provider for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn policy(&self) -> OperationPolicy {
        let default = OperationPolicy::default();
        let backoff = default.create().backoff().clone();
        let create = RetryPolicy::new(5, Duration::from_secs(60), TIME_OUT, backoff).unwrap();
        default.with_create(create).unwrap()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let request = Request::builder().method(Method::POST).uri(&self.0);
        request.body(ask.payload.bytes().clone()).map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        let unreadable = Failure::new(Class::Transient, Certainty::MayHaveExecuted);
        Reference::new(String::from_utf8_lossy(answer.body)).map(Reading::Accepted).map_err(|_| unreadable)
    }
}

#[test]
fn a_client_that_is_dropped_while_its_requests_hang_neither_waits_nor_leaks() {
    let before = threads();
    // The provider's connections stay open as long as these are there: nothing but their own time-out ends the
    // requests.
    let mut kept = Vec::new();
    for until in [Until::Connected, Until::Asked, Until::Head, Until::Body] {
        for (jobs, journal) in [(1, false), (1, true), (8, true)] {
            let (url, told) = silent(until);
            let builder = Client::builder(Plain(url), UreqTransport::new());
            let client = if journal { builder.store(MemoryStore::default()) } else { builder }.start().unwrap();
            let key = |number: usize| Key::new(format!("order-{number}")).unwrap();
            let handles: Vec<_> = (0..jobs).map(|number| client.submit(key(number), "{}").unwrap()).collect();
            told.iter().take(jobs).for_each(drop);
            let began = Instant::now();
            // Half of the times the last to go is a handle, which holds its client.
            if jobs % 2 == 0 {
                drop((client, handles));
            } else {
                drop((handles, client));
            }
            assert!(began.elapsed() < TIME_OUT / 2, "{until:?}, {jobs} jobs: {:?}", began.elapsed());
            kept.push(told);
        }
    }
    let until = Instant::now() + TIME_OUT * 2;
    while threads() > before {
        assert!(Instant::now() < until, "{} threads, {before} before", threads());
        thread::yield_now();
    }
}

/// Whoever waits is told at once, though the request hangs.
#[test]
fn a_shutdown_tells_of_requests_that_hang() {
    let (url, told) = silent(Until::Asked);
    let client = Client::builder(Plain(url), UreqTransport::new()).start().unwrap();
    let job = client.submit(Key::new("order-1").unwrap(), "{}").unwrap();
    told.recv().unwrap();
    let began = Instant::now();
    assert_eq!(client.shutdown(Duration::from_millis(1)).len(), 1);
    assert!(job.wait().is_err());
    assert!(began.elapsed() < TIME_OUT / 2, "{:?}", began.elapsed());
}

/// The client's threads in this process, as the system counts them; 0 where it does not say.
fn threads() -> usize {
    let ours = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with("steadfast-"))
    };
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.flatten().filter(ours).count())
}
