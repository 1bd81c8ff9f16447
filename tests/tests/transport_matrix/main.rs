//! Whatever a server does to one request, the transport says what is certain, holds no more than its limit, and sends
//! nothing on.
//!
//! The rows are data (`rows`): what the server does, and what must come of it. The server writes to bare sockets
//! (`server`), since no HTTP library would say such things. Each row is one job with one create and no second attempt,
//! carried by a whole client; what its transport gave back is compared with the row. An adapter is one function
//! ([`Adapter`]), so that another one runs through the same rows.
//!
//! What holds for every row: the request that arrived is the one that was sent, once; nobody else was called, whatever
//! the answer named; and the process never grew by more than [`MOST_MEMORY`].

mod rows;
mod server;

use std::env;
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use steadfast_blocking::UreqTransport;
use steadfast_core::backoff::BackoffPolicy;
use steadfast_core::operation::Reading;
use steadfast_core::retry::{Certainty, Class, Failure, RetryPolicy};
use steadfast_core::{Key, OperationPolicy};
use steadfast_providers::{Answer, Ask, BaseUrl, Provider, RequestError};
use steadfast_tokio::{Client, Outgoing, ReqwestTransport, SendError, Transport};

use crate::rows::{Does, Expect, LIMIT, ROWS, Row};
use crate::server::Server;

/// Far above the body limit of a row, and far below what the largest answer decodes to.
const MOST_MEMORY: u64 = 200 << 20;

/// For rows that end by themselves: far above what a busy machine takes for a loopback exchange.
const PATIENT: Duration = Duration::from_secs(30);

/// For rows that end by the time-out only.
const SHORT: Duration = Duration::from_secs(1);

const TOKEN: &str = "canary-token";
const API_KEY: &str = "canary-api-key";
const PAYLOAD: &str = r#"{"canary":"payload"}"#;

/// What came of one request.
#[derive(Clone, Debug)]
enum Met {
    Answer { status: StatusCode, body: Bytes },
    Failed(Failure),
}

/// Carries so many jobs, one after the other, to a provider at this address, each with one create and this time-out,
/// and tells what its transport met.
type Adapter = fn(base: &str, jobs: usize, timeout: Duration) -> Vec<Met>;

/// Rows that an HTTP client takes otherwise, and just as safely.
type Otherwise = &'static [(&'static str, Expect)];

/// The transport of `steadfast-tokio`, under its client.
fn tokio_and_reqwest(base: &str, jobs: usize, timeout: Duration) -> Vec<Met> {
    static TRANSPORT: LazyLock<ReqwestTransport> = LazyLock::new(|| ReqwestTransport::new().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let met = Arc::new(Mutex::new(Vec::new()));
    runtime.block_on(async {
        let transport = Recording { inner: TRANSPORT.clone(), met: met.clone() };
        let probe = Probe { base: base.to_owned(), policy: one_attempt(timeout) };
        let client = Client::builder(probe, transport).body_limit(LIMIT).start().await.unwrap();
        for job in 0..jobs {
            let key = Key::new(format!("canary-key-{job}")).unwrap();
            client.submit(key, PAYLOAD).await.unwrap().await.unwrap();
        }
    });
    in_order(&met)
}

/// The transport of `steadfast-blocking`, under its client.
fn blocking_and_ureq(base: &str, jobs: usize, timeout: Duration) -> Vec<Met> {
    static TRANSPORT: LazyLock<UreqTransport> = LazyLock::new(UreqTransport::new);
    let met = Arc::new(Mutex::new(Vec::new()));
    let transport = Recording { inner: TRANSPORT.clone(), met: met.clone() };
    let probe = Probe { base: base.to_owned(), policy: one_attempt(timeout) };
    let client = steadfast_blocking::Client::builder(probe, transport).body_limit(LIMIT).start().unwrap();
    for job in 0..jobs {
        let key = Key::new(format!("canary-key-{job}")).unwrap();
        client.call(key, PAYLOAD).unwrap();
    }
    drop(client);
    // A request that was given up ends a little later by its own time-out.
    let until = std::time::Instant::now() + PATIENT;
    while met.lock().unwrap().len() < jobs && std::time::Instant::now() < until {
        std::thread::yield_now();
    }
    in_order(&met)
}

const ADAPTERS: [Adapter; 2] = [tokio_and_reqwest, blocking_and_ureq];

/// ureq bounds what precedes an answer, and waits for what follows it; it decodes all pieces of gzip, and counts them
/// all; HTTP/1.0 has no chunks for it.
const UREQ: Otherwise = &[
    ("HTTP/1.0 with chunks", Expect::Answer(200, 12)),
    ("chunks within another coding", Expect::Answer(200, 2)),
    ("endless trailers", Expect::TimedOut),
    ("endless interim answers", Expect::Broken),
    ("two pieces of gzip", Expect::Answer(200, 4)),
    ("a gigabyte of gzip after a small piece", Expect::TooLarge),
    ("no gzip at all", Expect::Broken),
];

fn one_attempt(timeout: Duration) -> OperationPolicy {
    let create = RetryPolicy::new(1, timeout * 2, timeout, BackoffPolicy::default()).unwrap();
    OperationPolicy::default().with_create(create).unwrap()
}

/// What came of each job's request.
type Book = Arc<Mutex<Vec<(Key, Met)>>>;

/// In the order of the jobs: what was given up may come to its end after the next.
fn in_order(book: &Book) -> Vec<Met> {
    let mut met = std::mem::take(&mut *book.lock().unwrap());
    met.sort_by(|(one, _), (other, _)| one.cmp(other));
    met.into_iter().map(|(_, met)| met).collect()
}

/// Hands on, and remembers what came of it.
struct Recording<T> {
    inner: T,
    met: Book,
}

impl Transport for Recording<ReqwestTransport> {
    async fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        // A client gives an attempt up when its time has passed, whatever the transport thinks: the one or the other
        // comes first.
        let met = Met::Failed(SendError::timed_out().failure());
        let mut entry = Entry { key: outgoing.key.clone(), met, book: self.met.clone() };
        let came = self.inner.send(outgoing).await;
        entry.met = match &came {
            Ok(answer) => Met::Answer { status: answer.status(), body: answer.body().clone() },
            Err(error) => Met::Failed(error.failure()),
        };
        came
    }
}

impl steadfast_blocking::Transport for Recording<UreqTransport> {
    fn send(&self, outgoing: Outgoing) -> Result<Response<Bytes>, SendError> {
        let key = outgoing.key.clone();
        let came = steadfast_blocking::Transport::send(&self.inner, outgoing);
        let met = match &came {
            Ok(answer) => Met::Answer { status: answer.status(), body: answer.body().clone() },
            Err(error) => Met::Failed(error.failure()),
        };
        self.met.lock().unwrap().push((key, met));
        came
    }
}

/// Is in the book when it goes.
struct Entry {
    key: Key,
    met: Met,
    book: Book,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.book.lock().unwrap().push((self.key.clone(), self.met.clone()));
    }
}

/// Sends what must not stray, to wherever it is told, and takes every answer for a refusal.
struct Probe {
    base: String,
    policy: OperationPolicy,
}

impl Provider for Probe {
    fn name(&self) -> &str {
        "probe"
    }

    fn policy(&self) -> OperationPolicy {
        self.policy.clone()
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Bytes>, RequestError> {
        let request = Request::builder().method(Method::POST).uri(format!("{}/jobs", self.base));
        request
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("x-api-key", API_KEY)
            .header("idempotency-key", ask.key.as_str())
            .body(ask.payload.bytes().clone())
            .map_err(|_| RequestError::Unsendable("URL"))
    }

    fn read(&self, _: &Answer<'_>) -> Result<Reading, Failure> {
        Err(Failure::new(Class::Permanent, Certainty::NotExecuted))
    }
}

fn run(adapter: Adapter, otherwise: Otherwise) {
    let before = peak_memory();
    let wrong: Vec<_> = ROWS
        .iter()
        .filter_map(|row| {
            let expect = otherwise.iter().find(|(name, _)| *name == row.name).map_or(row.expect, |(_, expect)| *expect);
            Some((row.name, met_otherwise(&Row { expect, ..*row }, adapter)?))
        })
        .collect();
    assert!(otherwise.iter().all(|(name, _)| ROWS.iter().any(|row| row.name == *name)));
    assert!(wrong.is_empty(), "{wrong:#?}");
    println!("{} rows, {} MiB of memory at most", ROWS.len(), peak_memory().saturating_sub(before) >> 20);
}

/// What came of a row that should not have.
fn met_otherwise(row: &Row, adapter: Adapter) -> Option<String> {
    let before = peak_memory();
    let elsewhere = Server::start(Does::Says(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()), "");
    let (_taken, nobody) = server::refusing();
    let (server, base) = match row.does {
        Does::IsNot(base) => (None, base.to_owned()),
        Does::Refuses => (None, nobody),
        does => {
            let server = Server::start(does, &elsewhere.address());
            let scheme = if row.expect == Expect::NotSent { "https" } else { "http" };
            let base = format!("{scheme}://{}", server.address());
            (Some(server), base)
        }
    };
    let timeout = if row.expect == Expect::TimedOut { SHORT } else { PATIENT };
    let met = adapter(&base, 1, timeout).pop().unwrap();
    if !row.expect.is(&met) {
        return Some(format!("{met:?} is not {:?}", row.expect));
    }
    if let Some(server) = server.filter(|_| row.expect != Expect::NotSent) {
        let requests = server.requests();
        if requests.len() != 1 {
            return Some(format!("{} requests for one call", requests.len()));
        }
        if row.does != Does::Closes && !is_whole(&requests[0]) {
            return Some(format!("another request came than was sent: {}", requests[0]));
        }
    }
    if elsewhere.connections() > 0 {
        return Some("something was sent on".to_owned());
    }
    let grown = peak_memory().saturating_sub(before);
    (grown >= MOST_MEMORY).then(|| format!("{} MiB were held", grown >> 20))
}

/// All of what was sent did arrive, and no coding was asked for but the one that is bounded.
fn is_whole(request: &str) -> bool {
    let (authorization, api_key) = (format!("authorization: bearer {TOKEN}\r\n"), format!("x-api-key: {API_KEY}\r\n"));
    let lower = request.to_ascii_lowercase();
    [&authorization, &api_key, "idempotency-key: canary-key-0\r\n", "accept-encoding: gzip\r\n"]
        .iter()
        .all(|line| lower.contains(*line))
        && request.ends_with(PAYLOAD)
}

/// The most memory this process has held, in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

#[test]
fn tokio_with_reqwest() {
    run(tokio_and_reqwest, &[]);
}

#[test]
fn blocking_with_ureq() {
    run(blocking_and_ureq, UREQ);
}

#[test]
fn no_row_has_the_name_of_another() {
    let mut names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ROWS.len());
}

/// Its name for a proxy of the environment.
const CHILD: &str = "child_has_a_proxy_in_its_environment";

/// A proxy may carry what is encrypted. Plain text that is for this machine stays here.
#[test]
fn a_proxy_of_the_environment_sees_no_plain_text() {
    let proxy = Server::start(Does::Says(|_| b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n".to_vec()), "");
    let mut child = Command::new(env::current_exe().unwrap());
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        let at = format!("http://{}", proxy.address());
        child.env(name, &at).env(name.to_lowercase(), at);
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy").args(["--exact", CHILD, "--ignored"]);
    assert!(child.stdout(Stdio::null()).status().unwrap().success());
    let requests = proxy.requests();
    let tunnels = requests.iter().filter(|request| request.starts_with("CONNECT provider.invalid:443 ")).count();
    assert_eq!((requests.len(), tunnels), (1, 1), "{requests:?}");
    assert!(!requests[0].contains("canary"), "{requests:?}");
}

#[test]
#[ignore = "a part of another, which gives it an environment"]
fn child_has_a_proxy_in_its_environment() {
    let server = Server::start(Does::Says(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()), "");
    let met = tokio_and_reqwest(&format!("http://{}", server.address()), 1, PATIENT);
    assert!(matches!(met[..], [Met::Answer { .. }]), "{met:?}");
    assert_eq!(server.requests().len(), 1);
    let met = tokio_and_reqwest("https://provider.invalid", 1, PATIENT);
    assert!(matches!(&met[..], [met] if Expect::NotSent.is(met)), "{met:?}");
}

/// Bytes after an answer's end are not the next job's answer.
#[test]
fn what_follows_an_answer_is_nobody_s() {
    let forged = |nth: usize| {
        let own = format!("HTTP/1.1 422 Refused\r\nContent-Length: 1\r\n\r\n{nth}");
        let more = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
        format!("{own}{more}").into_bytes()
    };
    for adapter in ADAPTERS {
        let server = Server::start(Does::SaysAndStays(forged), "");
        let met = adapter(&format!("http://{}", server.address()), 3, PATIENT);
        let is_own = |met: &Met| matches!(met, Met::Answer { body, .. } if body.len() == 1);
        assert_eq!(met.iter().map(is_own).collect::<Vec<_>>(), [true; 3], "{met:?}");
        assert_eq!(server.requests().len(), 3);
    }
}

/// What was given up is not waited for on the same connection: a late answer to it would be taken for the next one's.
#[test]
fn a_connection_whose_answer_was_given_up_is_not_used_again() {
    let late = |nth| if nth == 0 { Vec::new() } else { b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec() };
    for adapter in ADAPTERS {
        let server = Server::start(Does::SaysAndStays(late), "");
        let met = adapter(&format!("http://{}", server.address()), 3, 3 * SHORT);
        let [first, second, third] = &met[..] else { panic!("{met:?}") };
        assert!(
            Expect::TimedOut.is(first) && Expect::Answer(200, 2).is(second) && Expect::Answer(200, 2).is(third),
            "{met:?}"
        );
        assert_eq!((server.requests().len(), server.connections()), (3, 2), "one was closed, and one was used twice");
    }
}

/// The rows say plain `http`, which is for this machine alone; a provider written by others may say it of any.
#[test]
fn a_base_url_is_refused_before_the_transport_sees_it() {
    for row in ROWS {
        if let Does::IsNot(base) = row.does {
            assert!(BaseUrl::parse(base).is_err(), "{base}");
        }
    }
}
