//! The public interface of each published crate, as text: `tests/tests/public_api/NAME.txt`. Whoever changes it sees
//! the change in the diff, and so does whoever reviews it.
//!
//! It is read from the sources, so it needs no nightly toolchain and is the same under every compiler. What sources do
//! not show is not in it: auto traits, which [`auto_traits`] asserts for the types that cross threads, and what hides
//! behind `impl Trait`.
//!
//! After a change that is meant: `UPDATE_PUBLIC_API=1 cargo test -p steadfast-tests --test public_api`. The lines `#
//! names …` at the top are what the interface takes from other crates: a new major release of one of them is a new
//! major release of ours.

mod source;
mod surface;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use source::Source;
use steadfast_core::gate::Request;
use steadfast_core::poll::PollPolicy;
use steadfast_core::retry::RetryPolicy;
use steadfast_core::{Key, Kind};

/// Folder and name.
const CRATES: [(&str, &str); 7] = [
    ("adapter-blocking", "steadfast_blocking"),
    ("adapter-tokio", "steadfast_tokio"),
    ("core", "steadfast_core"),
    ("driver", "steadfast_driver"),
    ("providers", "steadfast_providers"),
    ("store", "steadfast_store"),
    ("testkit", "steadfast_testkit"),
];

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/public_api")
}

#[test]
fn the_public_interface_is_what_was_agreed() {
    let mut changed = Vec::new();
    for (folder, name) in CRATES {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src/lib.rs");
        let is = surface::surface(name, &Source::read(&root));
        let file = here().join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_PUBLIC_API").is_some() {
            fs::write(&file, &is).unwrap();
        }
        let was = fs::read_to_string(&file).unwrap_or_default();
        let gone = was.lines().filter(|line| !is.lines().any(|other| other == *line)).map(|line| format!("- {line}"));
        let new = is.lines().filter(|line| !was.lines().any(|other| other == *line)).map(|line| format!("+ {line}"));
        changed.extend(gone.chain(new));
    }
    assert!(
        changed.is_empty(),
        "the public interface changed:\n{}\nIf that is meant: UPDATE_PUBLIC_API=1 cargo test -p steadfast-tests --test public_api",
        changed.join("\n")
    );
}

/// What a program can only get from one of these it must be able to name by that one: the driver is no dependency of a
/// program's.
#[test]
fn adapters_export_what_stands_in_the_signatures_of_what_they_export() {
    /// By which an adapter has its builder.
    const NOT_FOR_PROGRAMS: [&str; 4] = ["RenewsBy", "Settings", "Sharded", "Start"];
    let read =
        |folder: &str| Source::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("src/lib.rs"));
    let of_driver = surface::named("steadfast_driver", &read("driver"));
    let mut missing = Vec::new();
    for (folder, name) in &CRATES[..2] {
        let source = read(folder);
        // Its own of the same name stands for the driver's.
        let exports = |item: &str| {
            let path: Vec<_> = item.split("::").map(str::to_owned).collect();
            source.resolve(&[], &path).is_something()
        };
        let own = surface::named(name, &source);
        let exported = of_driver.iter().filter(|(by, _)| by.strip_prefix("steadfast_driver::").is_some_and(exports));
        for (by, names) in own.iter().chain(exported) {
            let items = names.iter().filter_map(|item| item.strip_prefix("steadfast_driver::"));
            let unnamed = items.filter(|item| !exports(item) && !NOT_FOR_PROGRAMS.contains(item));
            missing.extend(unnamed.map(|item| format!("{name}: {item}, by {by}")));
        }
    }
    assert!(missing.is_empty(), "not exported:\n{}", missing.join("\n"));
}

/// The reader is not blind: what it must see in a crate that has one of everything, it sees.
#[test]
fn everything_that_a_program_may_name_is_seen() {
    let is = surface::surface("sample", &Source::read(&here().join("sample/lib.rs")));
    if std::env::var_os("UPDATE_PUBLIC_API").is_some() {
        fs::write(here().join("sample.txt"), &is).unwrap();
    }
    assert_eq!(is, fs::read_to_string(here().join("sample.txt")).unwrap_or_default());
}

/// What crosses threads and awaits.
#[test]
fn auto_traits() {
    const fn shared<T: Send + Sync + 'static>() {}
    const fn sent<T: Send + 'static>() {}
    const fn unpin<T: Unpin>() {}
    // `&mut job` is awaited in a `select!` loop, and a start in a time-out.
    unpin::<steadfast_tokio::Handle>();
    unpin::<steadfast_tokio::Starting>();
    shared::<steadfast_tokio::Client>();
    shared::<steadfast_tokio::Breaker>();
    shared::<steadfast_tokio::RateLimiter>();
    shared::<steadfast_tokio::Observation>();
    // What programs wrap in an error of their own, or send to another task.
    shared::<steadfast_tokio::SubmitError>();
    shared::<steadfast_tokio::ResumeError>();
    shared::<steadfast_tokio::StatusError>();
    shared::<steadfast_tokio::JobError>();
    shared::<steadfast_tokio::SendError>();
    shared::<steadfast_tokio::TransportError>();
    shared::<steadfast_tokio::RetryError<std::io::Error>>();
    shared::<steadfast_tokio::PollError<std::io::Error>>();
    shared::<steadfast_tokio::Finished>();
    shared::<steadfast_tokio::Gate>();
    shared::<steadfast_tokio::GatePermit>();
    shared::<steadfast_tokio::RetryBudget>();
    shared::<steadfast_tokio::OwnedPermit>();
    shared::<steadfast_tokio::OwnedPlace>();
    shared::<steadfast_store::StoreError>();
    shared::<steadfast_store::OpenError>();
    shared::<steadfast_tokio::StartError>();
    shared::<steadfast_tokio::Handle>();
    shared::<steadfast_tokio::Revisions>();
    sent::<steadfast_tokio::Starting>();
    shared::<steadfast_blocking::Client>();
    sent::<steadfast_blocking::Handle>();
    sent::<steadfast_blocking::Revisions>();
    shared::<steadfast_core::Engine>();
    shared::<steadfast_core::Operation>();
    shared::<steadfast_core::Gate>();
    shared::<steadfast_providers::deepvue::Deepvue>();
    shared::<steadfast_providers::didit::Didit>();
    shared::<steadfast_providers::profile::ProfileProvider>();
    sent::<steadfast_store::SqliteStore>();
    shared::<steadfast_store::MemoryStore>();
}

/// Whose futures may be awaited in a task that is spawned. (The layers': `adapter-tokio/tests/tower/contract.rs`.) It
/// is compiled, and never run.
#[expect(dead_code, reason = "the compiler's word is the test")]
fn futures(client: steadfast_tokio::Client, job: &steadfast_tokio::Handle, revisions: &mut steadfast_tokio::Revisions) {
    use steadfast_tokio::{Breaker, Gate, Polled, RateLimiter, RetryBudget, poll_until, retry};

    async fn fetch() -> std::io::Result<u32> {
        Ok(42)
    }
    fn handles(breaker: &Breaker, limiter: &RateLimiter, budget: &RetryBudget, gate: &Gate) {
        sent(breaker.call_async(fetch()));
        sent(limiter.acquire());
        sent(limiter.call_in_turn(fetch()));
        sent(gate.acquire(Request::first(Kind::Create)));
        sent(retry(RetryPolicy::default()).breaker(breaker).limiter(limiter).budget(budget).run(fetch));
        sent(poll_until(PollPolicy::default()).breaker(breaker).run(|| async { fetch().await.map(Polled::Ready) }));
    }
    let _ = handles;
    fn sent(_: impl Future + Send) {}
    let key = || Key::new("order-1").unwrap();
    sent(client.submit(key(), "{}"));
    sent(client.call(key(), "{}"));
    sent(client.resume(key()));
    sent(client.status(key()));
    sent(client.deliver(&HeaderMap::new(), Bytes::new()));
    sent(job.accepted());
    sent(revisions.next());
    sent(client.shutdown(Duration::ZERO));
}
