//! Real HTTP over loopback, 64 operations in flight: the client beside its bare HTTP client, which does the same calls
//! without any policy.
//!
//! An operation is a create and three polls that follow at once, each on a connection that is kept alive. The server is
//! in a process of its own, one for each subject. Figures are for each *request*; so 10⁹ / (ns/op) is the throughput in
//! requests a second. The time is the clock's, server included, but for cases that say *processor time*: the client
//! process's alone. Bytes are what was allocated.
//!
//! The bare clients build the same requests, check the status and parse the same JSON. They have no time-outs: ours has
//! one for each request. ureq keeps three idle connections by default; here the bare one keeps as many as there are
//! callers, as ours does. The *limit* writes and reads bytes on 64 sockets.

mod api;
mod bare;
mod server;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use steadfast_core::Key;
use steadfast_store::MemoryStore;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use self::api::{Api, PAYLOAD, key};
use self::server::{SERVER, Server};
use crate::measure::{Row, allocated_bytes, allocations, cpu_time};
use crate::turns::{self, Sample};

const SECTION: &str = "http";
const CALLERS: usize = 64;
/// Operations of each caller in a sample.
const EACH: u64 = 32;
const REQUESTS: u64 = CALLERS as u64 * EACH * 4;
const ROUNDS: usize = 15;

const TOKIO: &str = "64 in flight, tokio";
const TOKIO_CPU: &str = "64 in flight, tokio, processor time";
const JOURNAL: &str = "64 in flight, tokio, journal in MemoryStore";
const THREADS: &str = "64 in flight, threads";
const THREADS_CPU: &str = "64 in flight, threads, processor time";

const OURS: &str = "steadfast";
const LIMIT: &str = "limit";
const REQWEST: &str = "reqwest";
const UREQ: &str = "ureq";

pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let cases = [
        (TOKIO, Some(TOKIO_CPU), &[OURS, LIMIT, REQWEST][..]),
        (JOURNAL, None, &[OURS, REQWEST]),
        (THREADS, Some(THREADS_CPU), &[OURS, UREQ]),
    ];
    for (case, cpu, subjects) in cases {
        let taken = turns::take(SECTION, case, subjects, ROUNDS);
        rows.extend(taken.iter().map(|it| it.row(SECTION, case)));
        rows.extend(cpu.into_iter().flat_map(|case| taken.iter().map(|it| it.cpu_row(SECTION, case))));
    }
    rows
}

/// A subject in this process, or the server.
pub fn serve(case: &str, subject: &str) -> io::Result<()> {
    if subject == SERVER {
        return server::run();
    }
    let server = Server::start()?;
    let base = format!("http://{}", server.address);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match (case, subject) {
        (THREADS, UREQ) => {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .proxy(None)
                .max_idle_connections(CALLERS)
                .max_idle_connections_per_host(CALLERS)
                .build()
                .into();
            turns::serve(|| sample(|| bare::by_ureq(&agent, &base)))
        }
        (THREADS, OURS) => {
            let client = steadfast_blocking::Client::builder(Api::new(&base), steadfast_blocking::UreqTransport::new());
            let client = client.start().expect("it starts");
            turns::serve(|| sample(|| on_threads(&client)))
        }
        (_, REQWEST) => {
            let client = reqwest::Client::builder().no_proxy().build().expect("it can be set up");
            turns::serve(|| sample(|| runtime.block_on(bare::by_reqwest(&client, &base))))
        }
        (_, LIMIT) => {
            let connect = async |_| {
                let connection = TcpStream::connect(server.address).await.expect("it is there");
                connection.set_nodelay(true).expect("it is there");
                connection
            };
            let mut connections = runtime.block_on(futures_util::future::join_all((0..CALLERS).map(connect)));
            turns::serve(|| sample(|| runtime.block_on(bare::by_hand(&mut connections))))
        }
        _ => {
            let client = runtime.block_on(ours(&base, case == JOURNAL));
            turns::serve(|| sample(|| on_tokio(&runtime, &client)))
        }
    }
}

fn sample(run: impl FnOnce()) -> Sample {
    let (allocated, bytes, cpu, began) = (allocations(), allocated_bytes(), cpu_time(), Instant::now());
    run();
    let each = |total: u64| total as f64 / REQUESTS as f64;
    Sample {
        ns: each(began.elapsed().as_nanos() as u64),
        cpu_ns: each((cpu_time() - cpu).as_nanos() as u64),
        allocs: each(allocations() - allocated),
        bytes: each(allocated_bytes() - bytes),
        resident: 0.0,
    }
}

async fn ours(base: &str, journal: bool) -> steadfast_tokio::Client {
    let transport = steadfast_tokio::ReqwestTransport::new().expect("it can be set up");
    let builder = steadfast_tokio::Client::builder(Api::new(base), transport);
    let started = if journal { builder.store(MemoryStore::default()).start() } else { builder.start() };
    started.await.expect("it starts")
}

static NEXT: AtomicU64 = AtomicU64::new(0);

fn next_key() -> Key {
    Key::new(key(NEXT.fetch_add(1, Relaxed))).expect("a key")
}

fn on_tokio(runtime: &Runtime, client: &steadfast_tokio::Client) {
    runtime.block_on(async {
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let client = client.clone();
            callers.spawn(async move {
                for _ in 0..EACH {
                    let handle = client.submit(next_key(), PAYLOAD).await.expect("it is taken in");
                    assert_eq!(handle.await.expect("it ends").outcome.name(), "completed");
                }
            });
        }
        while let Some(done) = callers.join_next().await {
            done.expect("it does not panic");
        }
    });
}

fn on_threads(client: &steadfast_blocking::Client) {
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let finished = client.call(next_key(), PAYLOAD).expect("it ends");
                    assert_eq!(finished.outcome.name(), "completed");
                }
            });
        }
    });
}
