//! Over real sockets, where time is against a request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::operation::{Reading, Rejected};
use steadfast_core::retry::{Failure, RetryPolicy};
use steadfast_core::{OperationPolicy, Outcome, SendSafety};
use steadfast_providers::{Answer, Ask, Provider, RequestError};
use steadfast_tokio::{Client, ReqwestTransport};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, spawn_blocking};

use crate::support::{Plain, key, without_threads};

/// [`Plain`] at this address, which would run a repeat again.
struct Near {
    base: String,
    timeout: Duration,
    attempts: u16,
}

impl Provider for Near {
    fn name(&self) -> &str {
        "near"
    }

    fn policy(&self) -> OperationPolicy {
        let create =
            RetryPolicy::new(self.attempts, 10 * self.timeout, self.timeout, BackoffPolicy::default()).unwrap();
        OperationPolicy::default().with_safety(SendSafety::Unsafe).unwrap().with_create(create).unwrap()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let mut request = Plain.request(ask)?;
        let uri = format!("{}{}", self.base, request.uri().path());
        *request.uri_mut() = uri.parse().map_err(|_| RequestError::Unsendable("URL"))?;
        Ok(request)
    }

    fn read(&self, answer: &Answer<'_>) -> Result<Reading, Failure> {
        Plain.read(answer)
    }
}

/// Says when a request has come, and answers it once it is told to. Says when it has.
struct Told {
    base: String,
    came: Receiver<()>,
    answer: Sender<&'static str>,
    answered: Receiver<()>,
}

fn serve() -> Told {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let ((comes, came), (answer, answers), (says, answered)) = (channel(), channel(), channel());
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        while read(&mut socket) && comes.send(()).is_ok() {
            let Ok(answer) = answers.recv() else { break };
            socket.write_all(<str>::as_bytes(answer)).unwrap();
            let _ = says.send(());
        }
    });
    Told { base, came, answer, answered }
}

/// One request, as far as its body, which is two bytes or none.
fn read(socket: &mut TcpStream) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    !head.starts_with(b"POST") || socket.read_exact(&mut [0; 2]).is_ok()
}

/// The machine slept, or the runtime's threads were busy with something else. What had come meanwhile was given up
/// unread, and so was what a shutdown waited for.
#[test]
fn an_answer_that_came_in_time_counts_though_nobody_had_a_turn_to_read_it() {
    let learnt = [false, true].map(|is_shut_down| {
        [Builder::new_current_thread(), Builder::new_multi_thread()].map(|mut runtime| {
            let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(answered_while_it_slept(is_shut_down))
        })
    });
    assert_eq!(learnt, [(); 2].map(|()| [(); 2].map(|()| Some("txn-1".to_owned()))));
}

async fn answered_while_it_slept(is_shut_down: bool) -> Option<String> {
    let Told { base, came, answer, answered } = serve();
    let near = Near { base, timeout: Duration::from_millis(500), attempts: 1 };
    let client = Client::builder(near, ReqwestTransport::new().unwrap()).start().await.unwrap();
    let job = client.submit(key("order-42"), "{}").await.unwrap();
    spawn_blocking(move || came.recv().unwrap()).await.unwrap();
    let report = is_shut_down.then(|| tokio::spawn(client.shutdown(Duration::from_millis(400))));
    tokio::spawn(async move {
        answer.send("HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\ntxn-1").unwrap();
        answered.recv().unwrap();
        // What is tested is that nothing else has its turn for so long.
        thread::sleep(Duration::from_secs(1));
    });
    match report {
        Some(report) => report.await.unwrap().pop()?.reference.map(|reference| reference.as_str().to_owned()),
        None => Some(job.accepted().await.ok()?.reference.as_str().to_owned()),
    }
}

/// It takes a connection, and says nothing on it. The attempt's time was over before the connection's, and what was
/// never sent had run, perhaps.
#[tokio::test]
async fn what_finds_no_connection_in_a_short_time_has_certainly_not_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://{}", listener.local_addr().unwrap());
    let near = Near { base, timeout: Duration::from_millis(500), attempts: 2 };
    let client = Client::builder(near, ReqwestTransport::new().unwrap()).start().await.unwrap();
    let finished = client.submit(key("order-42"), "{}").await.unwrap().await.unwrap();
    assert_eq!((finished.outcome, finished.creates), (Outcome::Rejected(Rejected::Attempts), 2));
}

const READY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// Answers so many requests at a time, each on a connection of its own, and closes those once it is told to. Says when
/// it has.
fn closing(at_a_time: usize) -> (String, Sender<()>, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let ((close, ends), (closes, closed)) = (channel(), channel());
    let (together, ends) = (Arc::new(Barrier::new(at_a_time)), Arc::new(Mutex::new(ends)));
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let (together, ends, closes) = (together.clone(), ends.clone(), closes.clone());
            thread::spawn(move || {
                if !read(&mut socket) {
                    return;
                }
                // All have come before one is answered, so each has a connection.
                together.wait();
                socket.write_all(READY.as_bytes()).unwrap();
                let _ = ends.lock().unwrap().recv();
                drop(socket);
                let _ = closes.send(());
            });
        }
    });
    (base, close, closed)
}

/// A program that drives its runtime only while it waits for jobs. Nobody there had seen that the server had closed the
/// connections, so the next creates were written to them, and nobody could say whether they ran; with two at once, the
/// one that came when somebody looked already.
#[test]
fn what_is_sent_after_a_while_is_not_written_to_a_connection_that_was_closed_meanwhile() {
    for at_a_time in [1, 2] {
        let (base, close, closed) = closing(at_a_time);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let near = Near { base, timeout: Duration::from_secs(10), attempts: 1 };
        let client = runtime.block_on(Client::builder(near, ReqwestTransport::new().unwrap()).start()).unwrap();
        for round in 0..3 {
            let outcomes = runtime.block_on(async {
                let mut jobs = JoinSet::new();
                for number in 0..at_a_time {
                    let (client, key) = (client.clone(), key(&format!("order-{round}-{number}")));
                    jobs.spawn(async move { client.submit(key, "{}").await.unwrap().await.unwrap().outcome.name() });
                }
                jobs.join_all().await
            });
            assert_eq!(outcomes, vec!["completed"; at_a_time], "{at_a_time} at a time, round {round}");
            (0..at_a_time).for_each(|_| close.send(()).unwrap());
            for _ in 0..at_a_time {
                let _ = closed.recv_timeout(Duration::from_secs(1));
            }
            // What is tested is that nobody looks for a while.
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Answers every request, and keeps its connections. Says when there is a new one.
fn keeping() -> (String, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (comes, came) = channel();
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let _ = comes.send(());
            thread::spawn(move || while read(&mut socket) && socket.write_all(READY.as_bytes()).is_ok() {});
        }
    });
    (base, came)
}

/// Servers close what is idle, many after two to five seconds: what is written to a connection just then may have run.
/// So a create goes by one that was just in use, or by a new one.
#[tokio::test]
async fn no_create_is_written_to_a_connection_that_was_idle_for_long() {
    let (base, came) = keeping();
    let near = Near { base, timeout: Duration::from_secs(10), attempts: 1 };
    let client = Client::builder(near, ReqwestTransport::new().unwrap()).start().await.unwrap();
    // What is tested is that a second goes by.
    for (number, idle) in [(0, 0), (1, 1_200)] {
        tokio::time::sleep(Duration::from_millis(idle)).await;
        let job = client.submit(key(&format!("order-{number}")), "{}").await.unwrap();
        assert_eq!(job.await.unwrap().outcome.name(), "completed");
        assert_eq!(came.try_iter().count(), 1, "connections for create {number}");
    }
}

/// No thread is to be had: tokio panics in the resolver, before there is a connection.
#[test]
fn what_no_thread_could_be_had_for_to_find_its_host_has_certainly_not_left() {
    let provider = Near { base: "https://localhost:1".to_owned(), timeout: Duration::from_secs(1), attempts: 1 };
    let outcome = without_threads().block_on(async {
        let client = Client::builder(provider, ReqwestTransport::new().unwrap()).start().await.unwrap();
        client.submit(key("a"), "{}").await.unwrap().await.unwrap().outcome
    });
    assert_eq!(outcome, Outcome::Rejected(Rejected::Attempts));
}
