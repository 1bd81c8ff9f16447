//! The examples of runtimes of one's own carry jobs over real sockets.

#![expect(clippy::duplicate_mod, reason = "each example is whole")]

#[path = "../examples/bare.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod bare;
#[path = "../examples/smol.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod on_smol;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::engine::Limits;
use steadfast_core::gate::GatePolicy;
use steadfast_core::notice::Notice;
use steadfast_core::operation::Stage;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{Key, OperationPolicy, SendSafety};
use steadfast_driver::{Builder, Command, Driver, Submit, Task};
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_providers::{BaseUrl, Provider as _};
use steadfast_store::{MemoryStore, Store as _};

/// A provider on a loopback port, which answers each request by what was asked before. Its thread ends with the test.
fn provider(
    answer: impl Fn(&str, &[String]) -> Option<String> + Send + Sync + 'static,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let (books, answer) = (asked.clone(), Arc::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (books, answer) = (books.clone(), answer.clone());
            thread::spawn(move || converse(stream, &books, &*answer));
        }
    });
    (address, asked)
}

fn converse(mut stream: TcpStream, books: &Mutex<Vec<String>>, answer: &dyn Fn(&str, &[String]) -> Option<String>) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    while !is_whole(&bytes) {
        match stream.read(&mut piece) {
            Ok(read @ 1..) => bytes.extend_from_slice(&piece[..read]),
            _ => return,
        }
    }
    let request = String::from_utf8(bytes).unwrap();
    let mut books = books.lock().unwrap();
    // Nothing: the answer is lost.
    if let Some(body) = answer(&request, &books) {
        let status = if body.is_empty() { "202 Accepted" } else { "200 OK" };
        let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    }
    books.push(request);
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let declared = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    declared.and_then(|length| length.parse().ok()).is_none_or(|length: usize| body.len() >= length)
}

/// What a poll of a job that is done is answered with.
const FOUND: &str = r#"{"code":200,"data":{"status":"id_found"}}"#;

/// Loses the first answer to each key's create; each job is pending once.
fn lossy(request: &str, before: &[String]) -> Option<String> {
    let header = |request: &str, name: &str| {
        request.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned()
    };
    let key = header(request, "idempotency-key: ");
    let seen = |line: &str| before.iter().any(|earlier| earlier.contains(line));
    if request.starts_with("POST") {
        let repeated = seen(&format!("idempotency-key: {key}\r\n"));
        return repeated.then(|| format!(r#"{{"code":200,"transaction_id":"txn-{key}"}}"#));
    }
    let line = request.lines().next().unwrap();
    Some(if seen(line) { FOUND.into() } else { String::new() })
}

fn soon() -> BackoffPolicy {
    BackoffPolicy::new(Growth::Fixed(Duration::from_millis(1)), Duration::from_millis(1), Jitter::None).unwrap()
}

fn described<C>(address: SocketAddr) -> Builder<Deepvue, (), C> {
    let (minute, tenth) = (Duration::from_secs(60), Duration::from_secs(6));
    let retry = RetryPolicy::new(3, minute, tenth, soon()).unwrap();
    let policy = OperationPolicy::default()
        .with_create(retry.clone())
        .unwrap()
        .with_poll(PollPolicy::new(soon(), 10, minute, retry).unwrap())
        .with_safety(SendSafety::Keyed { window: Duration::from_secs(3_600) })
        .unwrap();
    let base = BaseUrl::parse(&format!("http://{address}")).unwrap();
    let deepvue = Deepvue::new(base, "driving-license", Credentials::new("token", "secret").unwrap()).unwrap();
    // Twenty answers lost at once would open a breaker.
    Builder::new(deepvue, ()).policy(policy).gate(GatePolicy::none())
}

fn key(number: usize) -> Key {
    Key::new(format!("order-{number}")).unwrap()
}

#[test]
fn a_bare_loop_carries_a_job_through_a_lost_answer() {
    for journal in [false, true] {
        let (address, asked) = provider(lossy);
        let described = described(address);
        let described = if journal { described.store(MemoryStore::default()) } else { described };
        let finished = bare::carry(described, key(1), r#"{"consent":"Y"}"#).unwrap();
        assert_eq!((finished.outcome.name(), finished.creates), ("completed", 2));
        assert_eq!(finished.body(), FOUND.as_bytes());
        assert_eq!(asked.lock().unwrap().len(), 4, "two creates, two polls");
    }
}

#[test]
fn a_bare_loop_knows_that_nothing_was_sent() {
    // A port that is nobody's: multiplexers of 1988 had it.
    let finished = bare::carry(described((Ipv4Addr::LOCALHOST, 1).into()), key(1), "{}").unwrap();
    assert_eq!((finished.outcome.name(), finished.creates), ("rejected", 3));
}

#[test]
fn smol_carries_many_jobs_at_once() {
    let (address, asked) = provider(lossy);
    let jobs = (0..20).map(|number| (key(number), r#"{"consent":"Y"}"#.into())).collect();
    let ended = smol::block_on(on_smol::carry(described(address).store(MemoryStore::default()), jobs)).unwrap();
    assert!(ended.iter().all(|ended| (ended.outcome.name(), ended.creates) == ("completed", 2)), "{ended:?}");
    assert_eq!((ended.len(), asked.lock().unwrap().len()), (20, 80));
}

/// The drain that ends one job makes the room that the next one waits for, and nothing else would wake the loop.
#[test]
fn smol_takes_in_what_waited_for_room() {
    for journal in [false, true] {
        let patience = async {
            smol::Timer::after(Duration::from_secs(60)).await;
            Err("it hangs".into())
        };
        let (address, _) = provider(lossy);
        let described = described(address).limits(Limits { live: 1, ..Limits::default() });
        let described = if journal { described.store(MemoryStore::default()) } else { described };
        let jobs = (0..3).map(|number| (key(number), r#"{"consent":"Y"}"#.into())).collect();
        let carried = smol::future::or(on_smol::carry(described, jobs), patience);
        let ended = smol::block_on(carried).unwrap();
        assert!(ended.iter().all(|ended| ended.outcome.name() == "completed"), "{ended:?}");
        assert_eq!(ended.len(), 3);
    }
}

/// Whatever held the loop up: what came in time lies in its channel, behind the first, when the time is over.
#[test]
fn smol_gives_up_no_request_whose_answer_waits_for_a_loop_that_was_held_up() {
    const JOBS: usize = 4;
    let (patience, minute) = (Duration::from_secs(2), Duration::from_secs(60));
    let (address, asked) = provider(|request, _| {
        let created = request.starts_with("POST");
        Some(if created { r#"{"code":200,"transaction_id":"txn"}"# } else { FOUND }.into())
    });
    let retry = RetryPolicy::new(1, minute, patience, BackoffPolicy::default()).unwrap();
    let poll = PollPolicy::new(soon(), 10, minute, RetryPolicy::default()).unwrap();
    let policy = OperationPolicy::default().with_create(retry).unwrap().with_poll(poll);
    let policy = policy.with_safety(SendSafety::Unsafe).unwrap();
    let (held_up, began) = (Once::new(), Instant::now());
    let described = described(address).policy(policy).observer(move |it| {
        if it.notice == Notice::Accepted {
            held_up.call_once(|| {
                // The provider has answered all, and then the requests' time passes.
                while asked.lock().unwrap().len() < JOBS || began.elapsed() < 2 * patience {
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
    });
    let jobs = (0..JOBS).map(|number| (key(number), r#"{"consent":"Y"}"#.into())).collect();
    let ended = smol::block_on(on_smol::carry(described, jobs)).unwrap();
    assert!(ended.iter().all(|ended| ended.outcome.name() == "completed"), "{ended:?}");
}

/// The journal may hold other jobs than the one that the loop was called for. Their time must not pass while it waits
/// for another's answer.
#[test]
fn a_bare_loop_has_time_for_each_of_the_jobs_that_a_restart_takes_up() {
    let (latency, patience, minute) = (Duration::from_secs(3), Duration::from_secs(5), Duration::from_secs(60));
    let (address, _) = provider(move |request, _| {
        let creates = request.starts_with("POST");
        // As long as the provider takes.
        thread::sleep(if creates { latency } else { Duration::ZERO });
        Some(if creates { r#"{"code":200,"transaction_id":"txn"}"# } else { FOUND }.into())
    });
    let journal = MemoryStore::default();
    let described = || {
        let retry = RetryPolicy::new(1, minute, patience, BackoffPolicy::default()).unwrap();
        let poll = PollPolicy::new(soon(), 10, minute, RetryPolicy::default()).unwrap();
        let policy = OperationPolicy::default().with_create(retry).unwrap().with_poll(poll);
        let policy = policy.with_safety(SendSafety::Unsafe).unwrap();
        described::<()>(address).policy(policy).store(journal.clone()).keep_payloads()
    };
    // The process before ended once the jobs were on disk, and before anything of them left: it was on hold.
    let (provider, (), settings) = described().into_parts();
    let (now, loaded) = (SystemTime::now().into(), settings.load(provider.name()).unwrap());
    let mut before: Driver<()> = Driver::new(Arc::new(provider), loaded, now);
    before.command(Command::Hold { span: Duration::from_millis(1), number: 1 }, now);
    for number in 1..=2 {
        before.submit(Submit::new(key(number), r#"{"consent":"Y"}"#.into(), oneshot::channel().0), now);
    }
    while let Some(task) = before.pop_task(now) {
        let Task::Work(work) = task else { panic!("{task:?}") };
        before.worked(work.run_one(), now);
    }
    drop(before);
    let finished = bare::carry(described(), key(3), r#"{"consent":"Y"}"#).unwrap();
    assert_eq!(finished.outcome.name(), "completed");
    let ended = journal.clone().load().unwrap();
    let ended = ended.iter().map(|entry| entry.record.stage).collect::<Vec<_>>();
    assert!(
        ended.iter().all(|stage| matches!(stage, Stage::Ended(it) | Stage::Delivered(it) if it.name() == "completed")),
        "{ended:?}"
    );
    assert_eq!(ended.len(), 3);
}
