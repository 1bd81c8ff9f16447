//! A journal that outlives its program: `cargo run -p steadfast-blocking --example journal`.
//!
//! A provider, played here, begins a job and is slow to say so. In that moment the process that asked for it is killed:
//! what it knew of the job, its journal alone knows now. The next process opens it, sends the same request again under
//! the same key, and has the outcome of the one job that ran.

use std::collections::HashSet;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use std::{env, fs, process, thread};

use steadfast_blocking::{Client, Finished, UreqTransport};
use steadfast_core::backoff::{BackoffPolicy, Growth, Jitter};
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{Key, OperationPolicy, SendSafety};
use steadfast_providers::BaseUrl;
use steadfast_providers::deepvue::{Credentials, Deepvue};
use steadfast_store::SqliteStore;

const KEY: &str = "order-42";
const PAYLOAD: &str = r#"{"dl_number": "DL1", "dob": "1990-01-01", "consent": "Y", "reason": "KYC"}"#;

/// Told to the process that is to be killed: where the provider is, and where the journal.
const URL: &str = "STEADFAST_EXAMPLE_URL";
const FILE: &str = "STEADFAST_EXAMPLE_FILE";

fn main() -> Result<(), Box<dyn Error>> {
    run().map(drop)
}

/// The outcome, and how many jobs the provider has run for it.
fn run() -> Result<(Finished, usize), Box<dyn Error>> {
    if let (Ok(url), Some(file)) = (env::var(URL), env::var_os(FILE)) {
        // The first of the two processes: it does not come to the end of this line.
        return Ok((start(&url, file.as_ref())?.call(Key::new(KEY)?, PAYLOAD)?, 0));
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let (runs, ran) = channel();
    thread::spawn(move || provide(&listener, &runs));
    let folder = env::temp_dir().join(format!("steadfast-journal-{}", process::id()));
    fs::create_dir_all(&folder)?;
    let file = folder.join("jobs.db");

    let mut first = Command::new(env::current_exe()?)
        .args(env::args_os().skip(1))
        .envs([(URL, url.as_ref()), (FILE, file.as_os_str())])
        .stdout(Stdio::null())
        .spawn()?;
    let begun = ran.recv_timeout(Duration::from_secs(30));
    first.kill()?;
    first.wait()?;
    println!("the provider runs {}; process {} was killed before it heard so", begun?, first.id());

    // Whatever was under way goes on from here, by itself.
    let client = start(&url, &file)?;
    println!("process {} has opened the journal", process::id());
    // The key joins that job. Where it is known to no journal, this is its first submit: a program need not know which.
    let finished = client.call(Key::new(KEY)?, PAYLOAD)?;
    println!(
        "{KEY} {}, after {} creates: {}",
        finished.outcome.name(),
        finished.creates,
        String::from_utf8_lossy(finished.body())
    );
    let _ = client.shutdown(Duration::from_secs(5));
    fs::remove_dir_all(&folder)?;
    let jobs = 1 + ran.try_iter().count();
    println!("jobs that the provider ran: {jobs}");
    Ok((finished, jobs))
}

/// The same in both processes.
fn start(url: &str, file: &Path) -> Result<Client, Box<dyn Error>> {
    let provider = Deepvue::new(BaseUrl::parse(url)?, "driving-license", Credentials::new("token", "secret")?)?;
    let builder = Client::builder(provider, UreqTransport::new())
        .policy(policy()?)
        .store(SqliteStore::open(file)?)
        .keep_payloads(); // what was killed before it was answered is sent again, by whoever comes next
    Ok(builder.start()?)
}

/// That the provider drops repeats of a key is for its documentation to say: without it, a create of which nobody knows
/// is not sent again. And shorter waits than in earnest, so that you need not wait.
fn policy() -> Result<OperationPolicy, Box<dyn Error>> {
    let (soon, minute) = (Duration::from_millis(300), Duration::from_secs(60));
    let backoff = BackoffPolicy::new(Growth::Fixed(soon), soon, Jitter::None)?;
    let create = RetryPolicy::new(5, minute, Duration::from_secs(10), backoff.clone())?;
    let poll = PollPolicy::new(backoff, 100, minute, create.clone())?;
    let keyed = SendSafety::Keyed { window: Duration::from_secs(86_400) };
    Ok(OperationPolicy::default().with_create(create)?.with_poll(poll).with_safety(keyed)?)
}

/// The provider: one job for each key, whose beginning it tells of here and not to whoever asked for it. It is pending
/// once.
fn provide(listener: &TcpListener, runs: &Sender<String>) {
    let (mut keys, mut unanswered, mut polls) = (HashSet::new(), Vec::new(), 0);
    for mut stream in listener.incoming().flatten() {
        let Ok((is_create, key)) = read(&stream) else { continue };
        if is_create && keys.insert(key.clone()) {
            unanswered.push(stream);
            let _ = runs.send(key);
            continue;
        }
        polls += u32::from(!is_create);
        let (status, body) = match (is_create, polls) {
            (true, _) => ("200 OK", r#"{"code":200,"transaction_id":"txn-1"}"#),
            (false, 1) => ("202 Accepted", ""),
            _ => ("200 OK", r#"{"code":200,"data":{"name":"A. Person"}}"#),
        };
        let length = body.len();
        let _ = write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    }
}

/// Whether a request is a create, and its key.
fn read(stream: &TcpStream) -> Result<(bool, String), Box<dyn Error>> {
    let (mut reader, mut line) = (BufReader::new(stream), String::new());
    reader.read_line(&mut line)?;
    let is_create = line.starts_with("POST ");
    let (mut key, mut length) = (String::new(), 0);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some(("idempotency-key", value)) => value.clone_into(&mut key),
            Some(("content-length", value)) => length = value.parse()?,
            Some(_) => {}
            None => break,
        }
    }
    reader.take(length).read_to_end(&mut Vec::new())?;
    Ok((is_create, key))
}

#[test]
fn what_was_killed_is_taken_up_and_runs_once() -> Result<(), Box<dyn Error>> {
    let (finished, jobs) = run()?;
    assert_eq!((finished.outcome.name(), finished.creates, jobs), ("completed", 2, 1));
    Ok(())
}
