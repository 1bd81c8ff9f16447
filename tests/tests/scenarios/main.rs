//! The conformance suite of adapters: every scenario, over real HTTP, with the same end on every runtime.
//!
//! A [`Scenario`](scenario::Scenario) is data: what the provider answers (a script, on a loopback port), what the
//! client is told to do, what its caller does, and what must come of it. Each says where it is from: an invariant of
//! `ARCHITECTURE.md` and the simulator (I, R), a row of the crash matrix (C), a section of RFC 9110, a vendor's
//! documentation. They are held against every [`Runtime`]:
//!
//! - **the words of the job's notices**, in their order, which are those of the row: so every request, every failure
//!   with what is certain about it, every wait that was decided and why, what the gate did, and the end with its
//!   reason;
//! - no request leaves before the wait that was decided is over (R4);
//! - what the caller is told at each step, and the attempts that it is told of;
//! - **the provider's ledger**: how often the job ran, which requests came, and that each create bore the same key and
//!   the same bytes (R10).
//!
//! So what comes out is the same on every runtime, not alike. How fast the machine is decides nothing: waits are
//! milliseconds, and deadlines minutes. The few scenarios about shorter spans say so
//! ([`Scenario::timed`](scenario::Scenario)).
//!
//! # For a runtime of your own
//!
//! This is a test and no crate: copy the folder into your `tests/`. It takes `bytes`, `flate2`, `http`, `socket2`, and
//! of this project `steadfast-core`, `-driver`, `-providers`, `-store` and `-testkit`; tokio and the adapters are only
//! its runtimes'.
//!
//! Implement [`Runtime`], [`Client`] and [`Job`] in place of those in `runtimes.rs` (for tokio and threads, some forty
//! lines each), and hold yours in [`hold`]. Calls may block. [`Setup::describe`](runtimes::Setup::describe) makes a
//! builder with all that a scenario asks for; what is left is to start the client over your transport. What your
//! transport must keep for it:
//!
//! - one request for one call: no retry, no redirect, and the connection's failures told apart (`not_sent` before there
//!   was a connection, else `ambiguous`);
//! - bodies are decoded (gzip) and cut at [`Outgoing::body_limit`](steadfast_driver::Outgoing::body_limit), and a body
//!   that is shorter than declared is no answer;
//! - a request ends when its time is over.
//!
//! A scenario that fails prints its name and source, the words that were expected and those that came.

mod answers;
mod callers;
mod gates;
mod journals;
mod lost;
mod provider;
mod runtimes;
mod scenario;
mod statuses;
mod trace;
mod waits;
mod webhooks;
mod wires;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;
use steadfast_core::Key;
use steadfast_driver::{
    Delivery, Finished, JobStatus, Observation, ResumeError, StatusError, Stopped, SubmitError, Unfinished,
};
use steadfast_providers::webhook::{Scheme, Verifier};
use steadfast_store::{MemoryStore, Store as _};
use steadfast_testkit::journal_kit::{FaultyStore, StoreFaults};

use self::provider::{Books, Provider};
use self::runtimes::{Blocking, Setup, Tokio};
use self::scenario::{Keeps, Scenario, Step};

/// An adapter.
pub(crate) trait Runtime: Sync {
    /// For the report.
    fn name(&self) -> &'static str;

    /// Starts a client. Blocks until it has started.
    fn start(&self, setup: Setup) -> Box<dyn Client>;

    /// Plays a scenario whose provider is at this address.
    ///
    /// # Errors
    /// The caller was told something else than the scenario says.
    fn run(&self, scenario: &Scenario, provider: &Provider, base_url: &str) -> Result<Told, String>
    where
        Self: Sized,
    {
        play(self, scenario, provider, base_url)
    }
}

/// A client that was started. Every call may block.
pub(crate) trait Client {
    fn submit(&self, key: Key, payload: &str) -> Result<Box<dyn Job>, SubmitError>;
    fn resume(&self, key: Key) -> Result<Box<dyn Job>, ResumeError>;
    fn status(&self, key: Key) -> Result<Option<JobStatus>, StatusError>;
    fn deliver(&self, headers: &HeaderMap, body: Bytes) -> Delivery;
    fn hold(&self, span: Duration);
    /// Without grace.
    fn shut_down(&self) -> Vec<Unfinished>;
}

/// A handle of a job.
pub(crate) trait Job {
    fn cancel(&self);
    /// `None`: it has not ended within [`PATIENCE`](provider::PATIENCE).
    fn wait(self: Box<Self>) -> Option<Result<Finished, Stopped>>;
}

/// What came of a scenario.
#[derive(Debug)]
pub(crate) struct Told {
    /// The words of the job's notices.
    pub(crate) words: String,
    /// How it ended, as its caller was told last.
    pub(crate) finished: Option<Finished>,
    /// A request that left too early.
    pub(crate) early: Option<String>,
}

/// The notices so far.
#[derive(Default)]
struct Seen {
    notices: Mutex<Vec<Observation>>,
    changed: Condvar,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Vec<Observation>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, noticed: Observation) {
        self.lock().push(noticed);
        self.changed.notify_all();
    }

    /// Waits until this is the last word.
    fn await_word(&self, word: &str) -> Result<(), String> {
        let missing = |seen: &mut Vec<Observation>| trace::words(seen).rsplit(trace::THEN).next() != Some(word);
        let waited = self.changed.wait_timeout_while(self.lock(), provider::PATIENCE, missing);
        let (seen, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { Err(format!("{word:?} was not told: {:?}", trace::words(&seen))) } else { Ok(()) }
    }
}

/// Holds these against every adapter there is.
fn hold(scenarios: Vec<Scenario>) {
    let (tokio, sharded, blocking) = (Tokio::new(1), Tokio::new(3), Blocking::new());
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let at_a_time = 8;
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                while let Some(scenario) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = [held(&tokio, scenario), held(&sharded, scenario), held(&blocking, scenario)];
                    let failed = found.into_iter().filter_map(Result::err);
                    failures.lock().unwrap_or_else(PoisonError::into_inner).extend(failed);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} failures:\n\n{}", failures.len(), failures.join("\n\n"));
}

/// Holds one scenario against one runtime.
fn held(runtime: &impl Runtime, scenario: &Scenario) -> Result<(), String> {
    let mut found = played(runtime, scenario);
    for _ in 0..if scenario.timed { 2 } else { 0 } {
        if found.is_err() {
            found = played(runtime, scenario);
        }
    }
    found.map_err(|why| format!("{:?} ({}) on {}: {why}", scenario.name, scenario.source, runtime.name()))
}

fn played(runtime: &impl Runtime, scenario: &Scenario) -> Result<(), String> {
    let honours_keys = !matches!(
        scenario.policy.safety(),
        steadfast_core::SendSafety::Unsafe | steadfast_core::SendSafety::Lookup { .. }
    );
    let provider = Provider::start(scenario.script.clone(), honours_keys);
    // A port that is taken, so that nobody else gets it, and on which nobody listens.
    let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    nobody.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = nobody.local_addr().unwrap().as_socket().unwrap().port();
    let base_url = if scenario.nobody { format!("http://127.0.0.1:{port}") } else { provider.base_url() };
    let found = runtime.run(scenario, &provider, &base_url);
    found.and_then(|told| agrees(scenario, &told, &provider.books()))
}

fn agrees(scenario: &Scenario, told: &Told, books: &Books) -> Result<(), String> {
    let Told { words, finished, early } = told;
    let equal = |what: &str, found: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug| {
        let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
        if found == expected { Ok(()) } else { Err(format!("{what}\n  expected {expected}\n  found    {found}")) }
    };
    equal("its notices", words, &scenario.tells)?;
    equal("a request left too early", early, &None::<String>)?;
    let said: Vec<&str> = words.split(trace::THEN).collect();
    let count = |kind: &str| said.iter().filter(|word| **word == kind).count() as u32;
    if let Some(finished) = finished {
        equal("its outcome among its notices", &said.contains(&&*trace::ending(finished.outcome)), &true)?;
        // A key that was rejected is free again: what came before was another job.
        let earlier = said.len().saturating_sub(1);
        let began = said.iter().take(earlier).rposition(|word| word.starts_with("rejected")).map_or(0, |at| at + 1);
        let creates = said.iter().skip(began).filter(|word| **word == "create").count();
        equal("its creates", &finished.creates, &creates)?;
    }
    if !scenario.nobody {
        equal("requests that came", &books.requests, &["create", "look-up", "poll"].map(count))?;
    }
    equal("how often it ran", &books.runs, &scenario.runs)?;
    let mut creates = books.creates.clone();
    creates.dedup();
    equal("different creates", &(creates.len() > 1), &false)
}

const PAYLOAD: &str = r#"{"dl_number":"DL1","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;
const OTHER_PAYLOAD: &str = r#"{"dl_number":"DL2","dob":"1990-01-01","consent":"Y","reason":"KYC"}"#;
const SECRETS: [&str; 2] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];

/// Does what the scenario's caller does, and sees what comes of it.
fn play(runtime: &dyn Runtime, scenario: &Scenario, provider: &Provider, base_url: &str) -> Result<Told, String> {
    let seen: Arc<Seen> = Arc::default();
    let (memory, faults) = (MemoryStore::default(), StoreFaults::default());
    for fault in &scenario.disk {
        faults.then(*fault);
    }
    let start = || {
        let seen = seen.clone();
        let store = FaultyStore::new(memory.clone(), faults.clone());
        let see = move |noticed: &Observation| seen.push(noticed.clone());
        runtime.start(Setup::new(scenario, base_url, (scenario.keeps != Keeps::Nothing).then_some(store), see))
    };
    let key = Key::new("order-42").unwrap();
    let mut client = start();
    let mut jobs: Vec<Box<dyn Job>> = Vec::new();
    let mut finished = None;
    let whatever = [Step::Submit, Step::Ends("")];
    let steps: &[Step] = if scenario.steps.is_empty() { &whatever } else { &scenario.steps };
    for step in steps {
        let told = |found: &str, expected: &str| {
            if found == expected { Ok(()) } else { Err(format!("{step:?}: the caller was told {found:?}")) }
        };
        match *step {
            Step::Submit => {
                jobs.push(client.submit(key.clone(), PAYLOAD).map_err(|error| format!("{step:?}: {error}"))?)
            }
            Step::Refused(why) => told(&refused(client.submit(key.clone(), PAYLOAD)), why)?,
            Step::OtherRefused(why) => told(&refused(client.submit(key.clone(), OTHER_PAYLOAD)), why)?,
            Step::Ends(how) => {
                let job = jobs.pop().ok_or("the scenario waits for a job that it did not submit")?;
                match job.wait().ok_or_else(|| format!("{step:?}: it hangs"))? {
                    Ok(ended) => {
                        let found = trace::ending(ended.outcome);
                        told(&found, if how.is_empty() { &found } else { how })?;
                        finished = Some(ended);
                    }
                    Err(Stopped) => told("stopped", how)?,
                }
            }
            Step::Body(text) => {
                told(&finished.as_ref().map(|ended| String::from_utf8_lossy(ended.body())).unwrap_or_default(), text)?;
            }
            Step::Cancel => jobs.last().ok_or("no job to cancel")?.cancel(),
            Step::Resume => jobs.push(client.resume(key.clone()).map_err(|error| format!("{step:?}: {error}"))?),
            Step::ResumeRefused(why) => {
                let found =
                    client.resume(key.clone()).err().map_or_else(String::new, |error| first(&format!("{error:?}")));
                told(&found, why)?;
            }
            Step::Stands(so) => {
                let status = client.status(key.clone()).map_err(|error| format!("{step:?}: {error}"))?;
                told(&status.map_or_else(|| "nowhere".to_owned(), |status| trace::standing(&status)), so)?;
            }
            Step::Hold => client.hold(Duration::from_secs(3_600)),
            Step::Unhold => client.hold(Duration::ZERO),
            Step::Arrives(kind, nth) => provider.await_request(kind, nth)?,
            Step::Tells(word) => seen.await_word(word)?,
            Step::LetGo => provider.let_go(),
            Step::Webhook(id, body, status) | Step::Forged(id, body, status) => {
                let secret = SECRETS[usize::from(matches!(step, Step::Forged(..)))];
                let sender = Verifier::new(Scheme::StandardWebhooks, [secret]).unwrap();
                let headers = sender.sign(id, SystemTime::now().into(), body.as_bytes()).unwrap();
                let delivery = client.deliver(&headers, Bytes::from_static(body.as_bytes()));
                if delivery.status().as_u16() != status {
                    return Err(format!("{step:?}: {delivery}"));
                }
            }
            Step::Stop(stage) => {
                let stages: Vec<_> = client.shut_down().iter().map(|job| trace::lower(job.stage)).collect();
                told(&stages.join(", "), stage)?;
            }
            Step::Start => client = start(),
            Step::StartLater => {
                let mut disk = memory.clone();
                for mut entry in disk.load().map_err(|error| error.to_string())? {
                    entry.record.due = Some(entry.record.submitted);
                    disk.append(&[entry]).map_err(|error| error.to_string())?;
                }
                client = start();
            }
        }
    }
    let seen = seen.lock();
    Ok(Told { words: trace::words(&seen), finished, early: trace::early(&seen) })
}

/// The name of the error, or nothing.
fn refused(submitted: Result<Box<dyn Job>, SubmitError>) -> String {
    match submitted {
        Ok(_) => String::new(),
        Err(SubmitError::Refused(why)) => first(&format!("{why:?}")),
        Err(why) => first(&format!("{why:?}")),
    }
}

fn first(text: &str) -> String {
    text.chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// A name is how a failure is found, and a source is why anybody should believe the row.
#[test]
fn each_scenario_has_a_name_of_its_own_and_a_source() {
    let themes = [
        statuses::of_creates(),
        statuses::of_polls(),
        answers::all(),
        lost::all(),
        waits::all(),
        gates::all(),
        callers::all(),
        journals::all(),
        webhooks::all(),
        wires::all(),
    ];
    let all = themes.concat();
    let mut names: Vec<_> = all.iter().map(|scenario| &scenario.name).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None);
    assert!(all.iter().all(|scenario| !scenario.name.is_empty() && !scenario.source.is_empty()));
    println!("{} scenarios", all.len());
}

#[test]
fn what_each_status_does_to_a_create() {
    hold(statuses::of_creates());
}

#[test]
fn what_each_status_does_to_a_poll() {
    hold(statuses::of_polls());
}

#[test]
fn what_answers_say() {
    hold(answers::all());
}

#[test]
fn when_an_answer_is_lost() {
    hold(lost::all());
}

#[test]
fn how_long_it_waits() {
    hold(waits::all());
}

#[test]
fn what_the_gate_does() {
    hold(gates::all());
}

#[test]
fn what_callers_do() {
    hold(callers::all());
}

#[test]
fn what_a_journal_is_for() {
    hold(journals::all());
}

#[test]
fn what_webhooks_do() {
    hold(webhooks::all());
}

#[test]
fn what_connections_do() {
    hold(wires::all());
}
